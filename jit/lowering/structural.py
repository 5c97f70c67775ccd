"""Structural primitives as index functions: no element is moved until a consumer asks for it."""

from __future__ import annotations

from typing import Any

from functrans.extend import Eqn, primitives
from jit.lowering import complex as cx
from jit.lowering.elementwise import convert
from jit.lowering.index import Index, Point
from jit.lowering.rules import Fold, Pair, Walk, folds, lower_scalar, lowers
from jit.lowering.writer import selected

ft = primitives.structural


@lowers(ft.broadcast_p)
def lower_broadcast(walk: Walk, eqn: Eqn, point: Point) -> Any:
    """The new axes are forgotten."""
    (x,), new = eqn.inputs, eqn.params["axes"]
    multi = walk.multi(point) if x.aval.shape else ()
    kept = [index for axis, index in enumerate(multi) if axis not in new]
    return walk.value(x, walk.within(point, x.aval.shape, kept))


@lowers(ft.reshape_p)
def lower_reshape(walk: Walk, eqn: Eqn, point: Point) -> Any:
    """The same place in row-major order."""
    (x,) = eqn.inputs
    return walk.value(x, Point(x.aval.shape, flat=point.flat, mask=point.mask))


@lowers(ft.transpose_p)
def lower_transpose(walk: Walk, eqn: Eqn, point: Point) -> Any:
    """Axis i of the result is axis perm[i] of x."""
    (x,), multi = eqn.inputs, walk.multi(point)
    source = list(multi)
    for place, axis in enumerate(eqn.params["perm"]):
        source[axis] = multi[place]
    return walk.value(x, walk.within(point, x.aval.shape, source))


@lowers(ft.slice_p)
def lower_slice(walk: Walk, eqn: Eqn, point: Point) -> Any:
    """start + i * stride."""
    (x,), params = eqn.inputs, eqn.params
    source = [
        index * step + start
        for index, start, step in zip(
            walk.multi(point), params["start"], params["stride"], strict=True
        )
    ]
    return walk.value(x, walk.within(point, x.aval.shape, source))


@lowers(ft.pad_p)
def lower_pad(walk: Walk, eqn: Eqn, point: Point) -> Any:
    """x inside, the padding value around it and in the gaps."""
    (x, value), params = eqn.inputs, eqn.params
    outside = Point((), multi=(), mask=point.mask)
    if x.aval.size == 0:
        return walk.value(value, outside)
    source, inside = [], True
    for index, n, low, gap in zip(
        walk.multi(point), x.aval.shape, params["low"], params["interior"], strict=True
    ):
        place = index - low
        span = (n - 1) * (gap + 1) + 1
        inside = walk.both(inside, walk.compare("ge", place, 0))
        inside = walk.both(inside, walk.compare("lt", place, span))
        if gap:
            place, rest = walk.divide(place, gap + 1)
            inside = walk.both(inside, walk.compare("eq", rest, 0))
        source.append(place)
    return walk.choose(
        inside,
        lambda: walk.value(x, walk.within(point, x.aval.shape, source, inside)),
        lambda: walk.value(value, outside),
    )


@lowers(ft.concatenate_p)
def lower_concatenate(walk: Walk, eqn: Eqn, point: Point) -> Any:
    """The operand whose part of the axis the index lies in; a choice for each boundary."""
    axis, multi = eqn.params["axis"], walk.multi(point)
    parts, start = [], 0
    for x in eqn.inputs:
        if x.aval.size:
            parts.append((x, start))
        start += x.aval.shape[axis]

    def chosen(k: int, mask: Any) -> Any:
        x, first = parts[k]
        source = list(multi)
        # A part of one element leaves no choice.
        source[axis] = multi[axis] - first if x.aval.shape[axis] > 1 else Index(0, {})
        if k == len(parts) - 1:
            return walk.value(x, walk.within(point, x.aval.shape, source, mask))
        here = walk.compare("lt", multi[axis], parts[k + 1][1])
        rest = walk.compare("ge", multi[axis], parts[k + 1][1])
        return walk.choose(
            here,
            lambda: walk.value(x, walk.within(point, x.aval.shape, source, walk.both(mask, here))),
            lambda: chosen(k + 1, walk.both(mask, rest)),
        )

    return chosen(0, True)


@lowers(ft.reverse_p)
def lower_reverse(walk: Walk, eqn: Eqn, point: Point) -> Any:
    """n - 1 - i."""
    (x,), turned = eqn.inputs, eqn.params["axes"]
    source = [
        index * -1 + (x.aval.shape[axis] - 1) if axis in turned else index
        for axis, index in enumerate(walk.multi(point))
    ]
    return walk.value(x, walk.within(point, x.aval.shape, source))


@lowers(ft.iota_p)
def lower_iota(walk: Walk, eqn: Eqn, point: Point) -> Any:
    """The index itself."""
    number = walk.number(walk.multi(point)[eqn.params["axis"]])
    return convert(walk.b, number, eqn.params["dtype"], False)


@folds(ft.reduce_sum_p)
def fold_reduce_sum(eqn: Eqn) -> Fold:
    return fold_axes(eqn, "add")


def fold_axes(eqn: Eqn, monoid: str) -> Fold:
    """Fold an operand over its axes `axes`."""
    (x,), axes = eqn.inputs, eqn.params["axes"]
    shape = x.aval.shape
    return Fold(
        shape,
        tuple(axis in axes for axis in range(len(shape))),
        monoid,
        lambda walk, indices: walk.value(x, Point(shape, multi=indices)),
    )


lower_scalar(ft.select_p, selected, selected)
lower_scalar(ft.convert_p, convert, convert)
lower_scalar(ft.real_p, None, lambda b, z: z.re, cost=0)
lower_scalar(ft.imag_p, None, lambda b, z: z.im, cost=0)
lower_scalar(ft.conj_p, None, cx.conj)
lower_scalar(ft.complex_p, lambda b, re, im: Pair(re, im), cost=0)
lower_scalar(ft.stop_gradient_p, lambda b, x: x, lambda b, x: x, cost=0)
