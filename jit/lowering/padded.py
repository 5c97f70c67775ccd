"""Padded copies of images in a workspace, and the tables by which runtime functions read them.

Invariant: every cell of a copy is written before it is read, with an element of the fused operand
or with zero; so what makes the operand needs no memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from jit.loop_ir.nodes import Buffer, DType
from jit.lowering.index import ZERO, Index
from jit.lowering.root import RootContext

BEYOND = 64
"""Cells after a copy that may be read (and not used) by whole vectors."""
LINE = 64
"""Parts of a workspace begin at multiples of so many bytes."""

Element = Callable[[Index, Sequence[Index], Any], Any]
"""(plane, position, where) -> the element of a plane, asked for only where `where` holds."""


def aligned(count: int) -> int:
    return -(-count // LINE) * LINE


class Padded(NamedTuple):
    """A window of a dilated image with zeros around: cell j of an axis is position base + j.

    extent    cells of each axis
    source    positions of each axis before dilation: x stands at multiples of `dilation`
    phases    the last axis is stored as so many runs: positions j, j + phases, ... are neighbours
    """

    base: tuple[int, ...]
    extent: tuple[int, ...]
    source: tuple[int, ...]
    dilation: tuple[int, ...]
    phases: int = 1

    @property
    def run(self) -> int:
        """Cells of one phase of a row."""
        return -(-self.extent[-1] // self.phases)

    @property
    def row(self) -> int:
        return self.run * self.phases

    @property
    def plane(self) -> int:
        """Cells of one image of one channel."""
        return prod(self.extent[:-1]) * self.row

    def offset(self, cells: Sequence[int]) -> int:
        """Where a cell lies; the steps of affine walks along rows and columns as well."""
        flat = 0
        for cell, extent in zip(cells[:-1], self.extent[:-1], strict=True):
            flat = flat * extent + cell
        along = cells[-1]
        return flat * self.row + along % self.phases * self.run + along // self.phases


def table(ctx: RootContext, name: str, entries: Sequence[int]) -> Buffer:
    """Offsets as constants of the program."""
    data = np.asarray(entries, np.int64).tobytes()
    return ctx.b.constants(f"{ctx.name}_{name}", "i64", data, len(entries))


def zeros(ctx: RootContext, buffer: Buffer, start: Index, count: int) -> None:
    """buffer[start : start + count] = 0."""
    if count > 0:
        with ctx.nest([count], "vector") as (k,):
            ctx.b.store(buffer, ctx.walk.number(start + k), ctx.b.const(buffer.dtype, 0))


def fill(
    ctx: RootContext,
    buffer: Buffer,
    start: Index,
    planes: int,
    padded: Padded,
    element: Element,
    shift: Index = ZERO,
) -> None:
    """Copies `planes` images, one after the other, to buffer[start:].

    The first axis begins `shift` positions further than its base.
    """
    walk, b = ctx.walk, ctx.b
    spread = len(padded.extent) == 1 and bool(shift.terms)
    with ctx.nest([planes, *padded.extent[:-1]]) as (plane, *rows):
        inside: Any = True
        places: list[Index] = []
        flat = plane
        for axis, row in enumerate(rows):
            place = row + padded.base[axis] + (shift if axis == 0 else ZERO)
            place, inside = undilated(ctx, padded, axis, place, inside)
            places.append(place)
            flat = flat * padded.extent[axis] + row
        at = start + flat * padded.row

        def line() -> None:
            for phase in range(padded.phases):
                if spread or padded.dilation[-1] > 1:
                    anywhere(phase)
                else:
                    straight(phase)

        def straight(phase: int) -> None:
            """A run of zeros, a run of the image, and a run of zeros."""
            first = padded.base[-1] + phase
            step, run = padded.phases, padded.run
            begin = min(max(-(first // step), 0), run)
            stop = max(min(-((first - padded.source[-1]) // step), run), begin)
            zeros(ctx, buffer, at + phase * run, begin)
            if stop > begin:
                with ctx.nest([stop - begin], "vector") as (k,):
                    cell = k + begin
                    found = element(plane, [*places, cell * step + first], True)
                    walk.store(buffer, at + phase * run + cell, found)
            zeros(ctx, buffer, at + phase * run + stop, run - stop)

        def anywhere(phase: int) -> None:
            """Each cell by itself."""
            moved = shift if spread else ZERO
            with ctx.nest([padded.run], "vector") as (k,):
                place = k * padded.phases + phase + padded.base[-1] + moved
                place, here = undilated(ctx, padded, len(rows), place, True)
                found = walk.choose(
                    here,
                    lambda: element(plane, [*places, place], here),
                    lambda: b.const(buffer.dtype, 0),
                )
                walk.store(buffer, at + phase * padded.run + k, found)

        walk.branch(inside, line, lambda: zeros(ctx, buffer, at, padded.row))


def undilated(
    ctx: RootContext, padded: Padded, axis: int, place: Index, inside: Any
) -> tuple[Index, Any]:
    """The index into x of a position, and whether there is one."""
    walk, dilation = ctx.walk, padded.dilation[axis]
    span = (padded.source[axis] - 1) * dilation + 1
    inside = walk.both(inside, walk.compare("ge", place, 0))
    inside = walk.both(inside, walk.compare("lt", place, span))
    if dilation > 1:
        place, rest = walk.divide(place, dilation)
        inside = walk.both(inside, walk.compare("eq", rest, 0))
    return place, inside


def slot(ctx: RootContext, dtype: DType, size: int, at: int) -> Buffer:
    """A part of the workspace for the rest of the root's kernels."""
    return ctx.slot(dtype, size, at)
