"""Sorting: lines go to a workspace, are ordered by the runtime's stable sort, and written out."""

from __future__ import annotations

from math import prod
from typing import Any

from functrans.extend import Eqn, primitives
from jit.loop_ir.nodes import ITEMSIZE, DType
from jit.lowering.index import Index, Point
from jit.lowering.largest import find_largest, largest_workspace
from jit.lowering.root import RootContext
from jit.lowering.rules import loop_dtype, lowers_root
from jit.lowering.selection import is_selected, select_largest

ft = primitives.ordering


def sort_name(dtype: DType) -> str:
    """The element type in the names of the runtime's sorts; booleans are bytes."""
    return "u8" if dtype == "bool" else dtype


def aligned(count: int) -> int:
    return -(-count // 64) * 64


def argsort_bytes(dtype: DType, n: int) -> int:
    """Workspace for one line: the keys, the indices and the sort's own scratch."""
    return aligned(ITEMSIZE[dtype] * n) + aligned(8 * n) + aligned((2 * ITEMSIZE[dtype] + 8) * n)


def sorts_alone(eqn: Eqn) -> bool:
    """One operand along its last axis: sorted where it is written."""
    x = eqn.inputs[0].aval
    return len(eqn.inputs) == 1 and eqn.params["axis"] == x.ndim - 1


def sort_workspace(eqn: Eqn) -> int:
    x = eqn.inputs[0].aval
    n = x.shape[eqn.params["axis"]]
    if sorts_alone(eqn):
        return aligned(ITEMSIZE[loop_dtype(x.dtype)] * n)
    keys: list[DType] = [loop_dtype(a.aval.dtype) for a in eqn.inputs[: eqn.params["num_keys"]]]
    return max(argsort_bytes(dtype, n) for dtype in keys)


def _none(eqn: Eqn) -> tuple[int, ...]:
    return ()


@lowers_root(ft.sort_p, _none, workspace=sort_workspace)
def lower_sort(ctx: RootContext, eqn: Eqn) -> None:
    """In place where that is all there is to do, else by sorting indices."""
    if eqn.inputs[0].aval.size:
        sort_alone(ctx, eqn) if sorts_alone(eqn) else sort_together(ctx, eqn)


def sort_alone(ctx: RootContext, eqn: Eqn) -> None:
    (x,), (out,) = eqn.inputs, eqn.outputs
    shape, b, buffer = x.aval.shape, ctx.b, ctx.buffer(out)
    n = shape[-1]
    with ctx.walk.kernel(ctx.name), ctx.nest([prod(shape[:-1])]) as (row,):
        with ctx.nest([n], "vector") as (i,):
            flat = row * n + i
            ctx.walk.store(buffer, flat, ctx.walk.value(x, Point(shape, flat=flat)))
        if n > 1:
            start = ctx.walk.number(row * n)
            b.call(f"ft_sort_{sort_name(buffer.dtype)}", b.ref(buffer, start), n, ctx.space())


def sort_together(ctx: RootContext, eqn: Eqn) -> None:
    """The permutation of each line: stably by the last key first, then every operand by it."""
    axis, num_keys = eqn.params["axis"], eqn.params["num_keys"]
    shape = eqn.inputs[0].aval.shape
    before, n, after = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    with ctx.walk.kernel(ctx.name), ctx.nest([before, after]) as (a, c):

        def place(k: Index) -> Index:
            return (a * n + k) * after + c

        order = Order(
            ctx, n, max(ITEMSIZE[loop_dtype(x.aval.dtype)] for x in eqn.inputs[:num_keys])
        )
        order.start()
        for key in reversed(eqn.inputs[:num_keys]):
            order.by(key, lambda k, x=key: Point(x.aval.shape, flat=place(k)))
        for x, out in zip(eqn.inputs, eqn.outputs, strict=True):
            with ctx.nest([n], "vector") as (k,):
                taken = order.taken(k, (x, out))
                element = ctx.walk.value(x, Point(shape, flat=place(taken)))
                ctx.walk.store(ctx.buffer(out), place(k), element)


class Order:
    """Sorted indices of one line, in the workspace of a root."""

    def __init__(self, ctx: RootContext, n: int, widest: int) -> None:
        self.ctx, self.n = ctx, n
        self.indices_at = aligned(widest * n)
        self.scratch_at = self.indices_at + aligned(8 * n)
        self.indices = ctx.slot("i64", n, self.indices_at)

    def start(self) -> None:
        """0 .. n-1."""
        ctx = self.ctx
        with ctx.nest([self.n], "vector") as (k,):
            ctx.b.store(self.indices, ctx.walk.number(k), ctx.walk.number(k))

    def by(self, key: Any, point: Any) -> None:
        """Reorder stably by `key`, whose element k of the line is at point(k)."""
        ctx, b = self.ctx, self.ctx.b
        if self.n == 1:
            return
        dtype = loop_dtype(key.aval.dtype)
        keys = ctx.slot(dtype, self.n, 0)
        with ctx.nest([self.n], "vector") as (k,):
            b.store(keys, ctx.walk.number(k), ctx.walk.value(key, point(k)))
        b.call(
            f"ft_argsort_{sort_name(dtype)}",
            b.ref(keys),
            self.n,
            b.ref(self.indices),
            ctx.space(self.scratch_at),
        )

    def taken(self, k: Index, tag: Any) -> Index:
        """The k-th index as an index into the line."""
        ctx = self.ctx
        value = ctx.b.load(self.indices, ctx.walk.number(k))
        return ctx.walk.dynamic((tag, k), value, (0, self.n - 1), k)


def top_k_workspace(eqn: Eqn) -> int:
    return 0 if is_selected(eqn) else largest_workspace(eqn)


@lowers_root(ft.top_k_p, _none, workspace=top_k_workspace)
def lower_top_k(ctx: RootContext, eqn: Eqn) -> None:
    """By insertion for a small k, else among candidates."""
    if eqn.outputs[0].aval.size:
        select_largest(ctx, eqn) if is_selected(eqn) else find_largest(ctx, eqn)
