"""What the passes over a row ask memory for while they compute.

A loop over rows goes through each several times. Passes that compute leave memory idle, and passes
that only move wait for it: so the one that computes most asks for what the passes after it move of
this row, and for what those before it move of the next.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from jit.loop_facts import stride_of
from jit.loop_ir.nodes import (
    ITEMSIZE,
    Buffer,
    For,
    Load,
    Op,
    Store,
    Value,
    inner_blocks,
    static_extent,
)
from jit.loop_ir.weights import weigh

ROW_BYTES = 1 << 14
"""Of longer rows the nearest cache does not keep several until they are used."""


class Fetch(NamedTuple):
    """Iteration i of a pass asks for buffer[base + further + i]; `writes`: to store there."""

    buffer: Buffer
    base: Value
    further: int
    writes: bool


def fetches(outer: For, wanted: Container[str]) -> tuple[For, list[Fetch]] | None:
    """The busiest pass of a loop over rows, and what of the `wanted` buffers it asks for."""
    passes = [stmt for stmt in outer.body.stmts if isinstance(stmt, For)]
    if len(passes) < 2 or not all(map(is_pass, passes)):
        return None
    extents = {static_extent(each) for each in passes}
    if len(extents) > 1 or None in extents:
        return None
    busy = max(passes, key=lambda each: weigh(each.body))
    place = passes.index(busy)
    before, after = list(runs(passes[:place], wanted)), runs(passes[place + 1 :], wanted)
    there = {(run.buffer, run.base) for run in [*before, *runs([busy], wanted)]}
    strides: dict[Value, int | None] = {}
    steps = [(run, stride_of(run.base, outer.var, strides)) for run in before]
    known = outer.body.stmts[: outer.body.stmts.index(busy)]
    found = [run._replace(further=step) for run, step in steps if step]
    found += [run for run in after if (run.buffer, run.base) not in there and run.base in known]
    return (busy, list(dict.fromkeys(found))) if found else None


def is_pass(loop: For) -> bool:
    """Is a loop one in vectors that holds no other?"""
    return loop.kind == "vector" and not any(map(inner_blocks, loop.body.stmts))


def runs(passes: Sequence[For], wanted: Container[str]) -> Iterator[Fetch]:
    """The contiguous elements that passes move."""
    for each in passes:
        n = static_extent(each) or 0
        for stmt in each.body.stmts:
            if isinstance(stmt, Load | Store) and stmt.buffer.name in wanted:
                base = start_of(stmt.offset, each.var)
                if base is not None and n * ITEMSIZE[stmt.buffer.dtype] <= ROW_BYTES:
                    yield Fetch(stmt.buffer, base, 0, isinstance(stmt, Store))


def start_of(offset: Value, var: Value) -> Value | None:
    """What an offset is where var is 0, if it is that and var."""
    match offset:
        case Op(name="add", args=(base, other)) if other is var:
            return base
        case Op(name="add", args=(other, base)) if other is var:
            return base
        case _:
            return None
