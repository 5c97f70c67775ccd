"""Running reductions and recurrences: one pass along an axis, each step from the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from functrans.extend import Eqn, Primitive
from jit.loop_ir.nodes import ITEMSIZE, Buffer, DType, LoopKind, Value
from jit.lowering.asking import UNROLLED, TooLarge
from jit.lowering.formulas import Function
from jit.lowering.index import ZERO, Index, Loop, Point, constant
from jit.lowering.root import RootContext
from jit.lowering.rules import Walk, is_complex, joined, loop_dtype, lowers_root, parts

WIDE = 16
"""Rows of so many elements are worth a loop on vectors for each step."""
TOGETHER = 4
"""So many lines run side by side: a step of one need not wait for that of another."""


class Step(NamedTuple):
    """y[k] = step(b, y[k - 1], *operands[k]); at the first place y is the last operand.

    `paired` is the same where elements are complex. `wide` says in which types y is carried from
    step to step.
    """

    step: Function
    paired: Function | None = None
    wide: Mapping[DType, DType] = {}

    def function(self, dtype: np.dtype[Any]) -> Function:
        """The step of elements of this type."""
        return self.paired if self.paired and dtype.kind == "c" else self.step


def runs(primitive: Primitive, step: Step) -> None:
    """Register how a primitive with params `axis` and `reverse` runs along that axis."""

    def rule(ctx: RootContext, eqn: Eqn) -> None:
        shape, axis = eqn.outputs[0].aval.shape, eqn.params["axis"]
        if prod(shape) == 0:
            return
        run = Run(ctx, eqn, (prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])), step)
        if has_rows(eqn):
            run.rows_from_memory()
        else:
            run.in_registers()

    def room(eqn: Eqn) -> int:
        kept = loop_dtype(eqn.outputs[0].aval.dtype)
        return workspace(eqn, step.wide[kept]) if kept in step.wide and has_rows(eqn) else 0

    lowers_root(primitive, lambda eqn: (), serial=one_by_one, workspace=room)(rule)
    UNROLLED[primitive] = lambda walk, eqn, point: unrolled(walk, eqn, point, step)


def has_rows(eqn: Eqn) -> bool:
    """Do the steps go from row to row, on vectors? If not, each line is a loop of single steps."""
    aval = eqn.outputs[0].aval
    return prod(aval.shape[eqn.params["axis"] + 1 :]) >= WIDE and not is_narrow(aval.dtype)


def one_by_one(eqn: Eqn) -> Sequence[int]:
    """What is read along lines."""
    return () if has_rows(eqn) else range(len(eqn.inputs))


def workspace(eqn: Eqn, carried: DType) -> int:
    """The bytes of one row for each run, of what is carried."""
    aval, axis = eqn.outputs[0].aval, eqn.params["axis"]
    runs = prod(n for i, n in enumerate(aval.shape) if i != axis)
    return runs * ITEMSIZE[carried] * (2 if is_complex(aval.dtype) else 1)


def is_narrow(dtype: np.dtype[Any]) -> bool:
    """Is it a float of two bytes?"""
    return dtype.itemsize == 2 and dtype.kind not in "iu"


class Run:
    """Writes one run over the middle axis of (before, n, after)."""

    def __init__(
        self, ctx: RootContext, eqn: Eqn, extents: tuple[int, int, int], step: Step
    ) -> None:
        self.ctx, self.eqn, self.extents = ctx, eqn, extents
        (self.out,) = eqn.outputs
        self.step = step.function(self.out.aval.dtype)
        kept = loop_dtype(self.out.aval.dtype)
        self.kept: DType = kept
        self.carried: DType = step.wide.get(kept, kept)

    def place(self, a: Index, k: Index, c: Index) -> Index:
        """The position of step k: from the other end when the run is reversed."""
        _, n, after = self.extents
        k = k * -1 + (n - 1) if self.eqn.params["reverse"] else k
        return (a * n + k) * after + c

    def elements(self, flat: Index) -> list[Any]:
        """What the operands hold at a place."""
        return [self.ctx.walk.value(x, Point(x.aval.shape, flat=flat)) for x in self.eqn.inputs]

    def write(self, flat: Index, element: Any) -> None:
        self.ctx.walk.store(self.ctx.buffer(self.out), flat, element)

    def rows_from_memory(self) -> None:
        """Each step is a vector loop that reads the row written before it."""
        ctx, (before, n, after) = self.ctx, self.extents
        work = prod(self.extents) * 2.0
        kind: LoopKind = "parallel" if ctx.parallel(work) and before > 1 else "serial"
        with (
            ctx.walk.kernel(ctx.name),
            ctx.nest([before], kind, ctx.grain(work, before)) as (a,),
        ):
            with ctx.nest([after], "vector") as (c,):
                start = self.elements(self.place(a, ZERO, c))[-1]
                self.write_row(a, ZERO, c, self.wide(start))
            if n == 1:
                return
            with ctx.nest([n - 1, after], "vector") as (k, c):
                last = self.last_row(a, k, c)
                here = self.elements(self.place(a, k + 1, c))
                self.write_row(a, k + 1, c, self.step(ctx.b, last, *map(self.wide, here)))

    def write_row(self, a: Index, k: Index, c: Index, y: Any) -> None:
        """Write an element, and where it is carried in another type, its row of that."""
        self.write(self.place(a, k, c), self.cast(y, self.kept))
        if self.carried != self.kept:
            self.ctx.walk.store(self.wide_rows(), a * self.extents[2] + c, y)

    def last_row(self, a: Index, k: Index, c: Index) -> Any:
        """The element of row k, as it is carried."""
        aval, at, load = self.out.aval, self.place(a, k, c), self.ctx.walk.load
        if self.carried == self.kept:
            return load(self.ctx.buffer(self.out), aval, at, None)
        return load(self.wide_rows(), aval, a * self.extents[2] + c, None, varies=at)

    def wide_rows(self) -> Buffer:
        """The last row of each run, as it is carried."""
        size = workspace(self.eqn, self.carried) // ITEMSIZE[self.carried]
        return self.ctx.slot(self.carried, size, 0)

    def in_registers(self) -> None:
        """Serial loops carry the running values of lines: of all short ones, of some long ones."""
        ctx, (before, _, after) = self.ctx, self.extents
        rows = min(max(TOGETHER // after, 1), before)
        groups, rest = divmod(before, rows)
        work = prod(self.extents) * 8.0
        kind: LoopKind = "parallel" if ctx.parallel(work) and groups > 1 else "serial"
        with ctx.walk.kernel(ctx.name):
            with ctx.nest([groups], kind, ctx.grain(work, groups)) as (group,):
                self.lines([group * rows + row for row in range(rows)])
            if rest:
                self.lines([constant(groups * rows + row) for row in range(rest)])

    def lines(self, rows: Sequence[Index]) -> None:
        """One loop along the lines that begin in these rows."""
        ctx, (_, n, after) = self.ctx, self.extents
        lines = [(a, constant(c)) for a in rows for c in range(after)]
        starts: list[Value] = []
        for a, c in lines:
            flat = self.place(a, ZERO, c)
            start = self.elements(flat)[-1]
            self.write(flat, start)
            starts += parts(self.wide(start))
        if n == 1:
            return
        loop, each = Loop(n - 1, "k"), len(starts) // len(lines)
        opened = ctx.b.for_(loop.extent, "serial", [(v, None) for v in starts])
        with ctx.walk.loop(loop, opened):
            k, found = Index(1, {loop: 1}), list[Value]()
            for number, (a, c) in enumerate(lines):
                flat = self.place(a, k, c)
                last = joined(opened.carries[number * each : (number + 1) * each])
                y = self.step(ctx.b, last, *map(self.wide, self.elements(flat)))
                self.write(flat, self.cast(y, self.kept))
                found += parts(y)
            opened.yield_(*found)

    def wide(self, element: Any) -> Any:
        """An element as lines carry it."""
        return self.cast(element, self.carried)

    def cast(self, element: Any, dtype: DType) -> Any:
        if self.carried == self.kept:
            return element
        return joined([self.ctx.b.cast(value, dtype) for value in parts(element)])


def unrolled(walk: Walk, eqn: Eqn, point: Point, step: Step) -> Any:
    """One element where elements are registers."""
    (out,), axis = eqn.outputs, eqn.params["axis"]
    multi = list(walk.multi(point))
    if multi[axis].terms:
        raise TooLarge(f"{eqn.primitive.name} runs over the lanes")
    k, last = multi[axis].const, out.aval.shape[axis] - 1
    here = [walk.value(x, point) for x in eqn.inputs]
    if k == (last if eqn.params["reverse"] else 0):
        return here[-1]
    multi[axis] = constant(k + 1 if eqn.params["reverse"] else k - 1)
    before = walk.value(out, Point(out.aval.shape, multi=multi))
    return step.function(out.aval.dtype)(walk.b, before, *here)
