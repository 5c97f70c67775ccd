"""The tape: a function that asks for values runs segment by segment, and back in reverse mode.

Each segment between two asks is one program, which the memo knows; a loop of any length is one such
program run many times. Values are numbered: a cell is the number of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from functrans.api.border import unaliased
from functrans.bind import at_rest, eval_jaxpr
from functrans.errors import ConcretizationError
from functrans.ir import Jaxpr, is_inexact
from functrans.memo.trie import Leaf
from functrans.transforms import Linearized, linearize_jaxpr, transpose_jaxpr

Flags = tuple[bool, ...]


class Program(NamedTuple):
    """How a segment runs where derivatives are wanted of some inputs.

    `moving` says which results carry a derivative. `linear` is None where the derivative cannot be
    staged yet, as that of a custom rule inside the rule itself: it is tried again if it is needed.
    """

    jaxpr: Jaxpr
    active: Flags
    linear: Linearized | None
    moving: Flags


class Run(NamedTuple):
    """A segment as it was run: the cells it read, its first result's, what its derivative needs."""

    program: Program
    cells: list[int]
    first: int
    residuals: list[Any]


class Tape:
    """Runs segments; `active` says which values so far, arguments first, carry a derivative."""

    def __init__(self, active: Sequence[bool]) -> None:
        self.active = list(active)
        self.runs: list[Run] = []

    def run(self, leaf: Leaf, values: list[Any], cells: list[int]) -> tuple[list[Any], int]:
        """The outputs of a segment, and the number of the first one's cell."""
        first, known = len(self.active), self.active
        active = tuple([c >= 0 and known[c] for c in cells])
        program: Program | None = leaf.ready.get(active)
        if program is None:
            program = leaf.ready[active] = prepared(leaf.jaxpr, active)
        linear = program.linear
        known.extend(program.moving)
        with at_rest():
            if linear is None:
                residuals, raw = values, eval_jaxpr(leaf.jaxpr, values)
            else:
                raw = eval_jaxpr(linear.primal, values)
                residuals = unaliased(raw[len(program.moving) :], values)
        if any(program.moving):
            self.runs.append(Run(program, cells, first, residuals))
        return raw[: len(program.moving)], first

    def pull(self, bars: dict[int, Any]) -> dict[int, Any]:
        """The cotangents of the arguments, by cell, from those of any values; no zeros."""
        with np.errstate(all="ignore"):
            for run in reversed(self.runs):
                pull_one(run, bars)
        return bars


def prepared(jaxpr: Jaxpr, active: Flags) -> Program:
    """The program of a segment for derivatives with respect to some inputs."""
    try:
        linear = linearize_jaxpr(jaxpr, active)
    except ConcretizationError:
        moving = tuple(is_inexact(a.dtype) for a in jaxpr.out_avals)
        return Program(jaxpr, active, None, moving)
    return Program(jaxpr, active, linear, linear.out_nonzero)


def pull_one(run: Run, bars: dict[int, Any]) -> None:
    """Replace the cotangents of a segment's results by what they add to those of its inputs."""
    program = run.program
    found = [
        bars.pop(run.first + i, None) if moves else None for i, moves in enumerate(program.moving)
    ]
    if all(bar is None for bar in found):
        return
    linear, residuals = program.linear, run.residuals
    if linear is None:
        linear = linearize_jaxpr(program.jaxpr, program.active)
        residuals = eval_jaxpr(linear.primal, residuals)[len(program.moving) :]
    given = [bar for bar, moves in zip(found, linear.out_nonzero, strict=True) if moves]
    flags = tuple([bar is not None for bar in given])
    mask = (False,) * linear.num_residuals + (True,) * sum(program.active)
    backward, nonzero = transpose_jaxpr(linear.tangent, mask, flags)
    pulled = iter(eval_jaxpr(backward, [*residuals, *[b for b in given if b is not None]]))
    wanted = iter(nonzero)
    for cell, active in zip(run.cells, program.active, strict=True):
        if active and next(wanted):
            add_bar(bars, cell, next(pulled))


def add_bar(bars: dict[int, Any], cell: int, bar: Any) -> None:
    """Add a cotangent to that of a cell."""
    known = bars.get(cell)
    bars[cell] = bar if known is None else known + bar
