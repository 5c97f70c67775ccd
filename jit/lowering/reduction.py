"""Reductions fold fused elements; positions of extrema are two of them; scans run in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from functrans.extend import Atom, Eqn, Literal, Primitive, primitives
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import LoopKind, Value
from jit.lowering import complex as cx
from jit.lowering.elementwise import logaddexp, maximum, minimum
from jit.lowering.formulas import Function
from jit.lowering.index import Index, Loop, Point, constant
from jit.lowering.root import RootContext
from jit.lowering.rules import EquationBuilder, Fold, Pair, expands, folds, lowers_root
from jit.lowering.structural import fold_axes

ft = primitives.reduction
st = primitives.structural
el = primitives.elementwise
INT64 = np.dtype(np.int64)
WIDE = 8
"""Rows of so many elements are worth a loop on vectors for each step of a cumulative reduction."""


def parts(element: Any) -> tuple[Value, ...]:
    """The values an element is made of: one, or two when complex."""
    return (element.re, element.im) if isinstance(element, Pair) else (element,)


def joined(values: Sequence[Value]) -> Any:
    """The element made of values; the inverse of `parts`."""
    return Pair(values[0], values[1]) if len(values) == 2 else values[0]


for _p, _monoid in (
    (ft.reduce_prod_p, "mul"),
    (ft.reduce_max_p, "max"),
    (ft.reduce_min_p, "min"),
    (ft.reduce_and_p, "and"),
    (ft.reduce_or_p, "or"),
):

    def _fold(eqn: Eqn, monoid: str = _monoid) -> Fold:
        return fold_axes(eqn, monoid)

    folds(_p)(_fold)


def expand_position(extremum: Primitive) -> Callable[[EquationBuilder, Eqn], list[Atom]]:
    """The least index among those that hold the extremum, or a NaN."""

    def expand(eqs: EquationBuilder, eqn: Eqn) -> list[Atom]:
        (x,), axis = eqn.inputs, eqn.params["axis"]
        shape = x.aval.shape
        (best,) = eqs.bind(extremum, x, axes=(axis,))
        (spread,) = eqs.bind(st.broadcast_p, best, shape=shape, axes=(axis,))
        (hit,) = eqs.bind(el.eq_p, x, spread)
        if x.aval.dtype.kind not in "biu":
            (is_nan,) = eqs.bind(el.is_nan_p, x)
            (hit,) = eqs.bind(el.or_p, hit, is_nan)
        (places,) = eqs.bind(st.iota_p, shape=shape, dtype=INT64, axis=axis)
        last = Literal(np.int64(shape[axis]))
        (none,) = eqs.bind(st.broadcast_p, last, shape=shape, axes=tuple(range(len(shape))))
        (found,) = eqs.bind(st.select_p, hit, places, none)
        return eqs.bind(ft.reduce_min_p, found, axes=(axis,))

    return expand


expands(ft.argmax_p)(expand_position(ft.reduce_max_p))
expands(ft.argmin_p)(expand_position(ft.reduce_min_p))


# -- cumulative reductions --------------------------------------------------------------------


def lower_cumulative(step: Function, paired: Function | None = None) -> Callable[..., None]:
    """out[k] = step(out[k - 1], x[k]) along the axis."""

    def rule(ctx: RootContext, eqn: Eqn) -> None:
        shape, axis = eqn.inputs[0].aval.shape, eqn.params["axis"]
        if prod(shape) == 0:
            return
        before, n, after = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
        scan = Scan(ctx, eqn, (before, n, after), step, paired)
        if has_rows(eqn):
            scan.rows_from_memory()
        else:
            scan.in_registers()

    return rule


def has_rows(eqn: Eqn) -> bool:
    """Do the steps go from row to row, on vectors? If not, each line is a loop of single steps."""
    aval = eqn.inputs[0].aval
    return prod(aval.shape[eqn.params["axis"] + 1 :]) >= WIDE and not is_narrow(aval.dtype)


def one_by_one(eqn: Eqn) -> Sequence[int]:
    """What a cumulative reduction along lines reads."""
    return () if has_rows(eqn) else (0,)


def is_narrow(dtype: np.dtype) -> bool:
    """Is it a float of two bytes?"""
    return dtype.itemsize == 2 and dtype.kind not in "iu"


class Scan:
    """Writes one cumulative reduction over the middle axis of (before, n, after)."""

    def __init__(
        self,
        ctx: RootContext,
        eqn: Eqn,
        extents: tuple[int, int, int],
        step: Function,
        paired: Function | None,
    ) -> None:
        self.ctx, self.eqn, self.extents = ctx, eqn, extents
        (self.x,) = eqn.inputs
        (self.out,) = eqn.outputs
        self.step = (paired or step) if self.x.aval.dtype.kind == "c" else step
        self.narrow = is_narrow(self.x.aval.dtype)

    def place(self, a: Index, k: Index, c: Index) -> Index:
        """The position of step k: from the other end when the scan is reversed."""
        _, n, after = self.extents
        k = k * -1 + (n - 1) if self.eqn.params["reverse"] else k
        return (a * n + k) * after + c

    def element(self, flat: Index) -> Any:
        return self.ctx.walk.value(self.x, Point(self.x.aval.shape, flat=flat))

    def write(self, flat: Index, element: Any) -> None:
        self.ctx.walk.store(self.ctx.buffer(self.out), flat, element)

    def rows_from_memory(self) -> None:
        """Each step is a vector loop that reads the row written before it."""
        ctx, (before, n, after) = self.ctx, self.extents
        buffer, aval = ctx.buffer(self.out), self.out.aval
        work = prod(self.extents) * 2.0
        kind: LoopKind = "parallel" if ctx.parallel(work) and before > 1 else "serial"
        with (
            ctx.walk.kernel(ctx.name),
            ctx.nest([before], kind, ctx.grain(work, before)) as (a,),
        ):
            with ctx.nest([after], "vector") as (c,):
                flat = self.place(a, constant(0), c)
                self.write(flat, self.element(flat))
            if n == 1:
                return
            with ctx.nest([n - 1, after], "vector") as (k, c):
                last = ctx.walk.load(buffer, aval, self.place(a, k, c), None)
                flat = self.place(a, k + 1, c)
                self.write(flat, self.step(ctx.b, last, self.element(flat)))

    def in_registers(self) -> None:
        """Each line is a serial loop that carries its running value."""
        ctx, (before, n, after) = self.ctx, self.extents
        work = prod(self.extents) * 8.0
        parallel = ctx.parallel(work) and before > 1
        kinds: list[LoopKind] = ["parallel" if parallel else "serial", "serial"]
        nest = ctx.nest([before, after], kinds, ctx.grain(work, before))
        with ctx.walk.kernel(ctx.name), nest as (a, c):
            first = self.place(a, constant(0), c)
            start = self.element(first)
            self.write(first, start)
            if n == 1:
                return
            steps = n - 1
            loop = Loop(steps, "k")
            opened = ctx.b.for_(steps, "serial", [(v, None) for v in parts(self.wide(start))])
            with ctx.walk.loop(loop, opened):
                flat = self.place(a, Index(1, {loop: 1}), c)
                found = self.step(ctx.b, joined(opened.carries), self.wide(self.element(flat)))
                self.write(flat, self.narrowed(found))
                opened.yield_(*parts(found))

    def wide(self, element: Any) -> Any:
        """Half precisions of a logarithm of sums run in f32, as in the evaluator."""
        if self.narrow and self.eqn.primitive is ft.cumlogsumexp_p:
            return self.ctx.b.cast(element, "f32")
        return element

    def narrowed(self, element: Any) -> Any:
        if self.narrow and self.eqn.primitive is ft.cumlogsumexp_p:
            return self.ctx.b.cast(element, self.ctx.buffer(self.out).dtype)
        return element


def _none(eqn: Eqn) -> tuple[int, ...]:
    return ()


def add(b: Builder, x: Value, y: Value) -> Value:
    return b.add(x, y)


def mul(b: Builder, x: Value, y: Value) -> Value:
    return b.mul(x, y)


lowers_root(ft.cumsum_p, _none, serial=one_by_one)(lower_cumulative(add, cx.add))
lowers_root(ft.cumprod_p, _none, serial=one_by_one)(lower_cumulative(mul, cx.mul))
lowers_root(ft.cummax_p, _none, serial=one_by_one)(lower_cumulative(maximum))
lowers_root(ft.cummin_p, _none, serial=one_by_one)(lower_cumulative(minimum))
lowers_root(ft.cumlogsumexp_p, _none, serial=one_by_one)(lower_cumulative(logaddexp))
