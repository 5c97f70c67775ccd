"""Reductions and cumulative reductions; ties share a derivative, products never divide by data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import ShapeError
from functrans.ir import Aval, Linear, MappedAxis, Primitive, aval_of
from functrans.primitives.derive import (
    Dims,
    Value,
    check_axes,
    full_like,
    instantiating,
    linear,
    provided,
    reduction,
    require_kind,
    shifted,
    without,
    without_derivative,
)
from functrans.primitives.elementwise import (
    add,
    and_,
    eq,
    exp,
    guarded,
    is_finite,
    log,
    mask,
    mul,
    not_,
    reciprocal,
    scale,
    sub,
)
from functrans.primitives.recurrence import before, linear_recurrence
from functrans.primitives.structural import (
    Axes,
    Batched,
    broadcast,
    concatenate,
    convert,
    iota,
    reduce_sum,
    reshape,
    select,
    slice_axis,
    stop_gradient,
    transpose,
)

Jvp = tuple[list[Value], list[Value]]

# -- products ---------------------------------------------------------------------------------


FEW_FACTORS = 4
"""Products of so many factors are written out; of more they are made by running products."""


def _products_of_others(x: Value, axis: int) -> Value:
    """At each position the product of all the others along `axis`: what is before times after."""
    if 1 < aval_of(x).shape[axis] <= FEW_FACTORS:
        return _written_out(x, axis)
    ways = [cumprod(before(x, axis, 1, reverse=back), axis, back) for back in (False, True)]
    return mul(*ways)


def _written_out(x: Value, axis: int) -> Value:
    """The products of the others, each as an expression."""
    factors = [slice_axis(x, axis, k, k + 1) for k in range(aval_of(x).shape[axis])]
    others = [factors[:k] + factors[k + 1 :] for k in range(len(factors))]
    return concatenate([reduce(mul, each) for each in others], axis)


@instantiating
def reduce_prod_jvp(primals: list[Value], tangents: list[Value], *, axes: Axes) -> Jvp:
    """Each factor moves the product by the product of the others."""
    (x,), (t,) = primals, tangents
    out = reduce_prod(x, axes)
    if t is None:
        return [out], [None]
    (lines, axis), (t_lines, _) = _as_lines(x, axes), _as_lines(t, axes)
    return [out], [reduce_sum(scale(t_lines, _products_of_others(lines, axis)), (axis,))]


def _as_lines(x: Value, axes: Axes) -> tuple[Value, int]:
    """The axes in `axes` flattened into one, and which that is: the last, unless they adjoin."""
    shape = aval_of(x).shape
    kept = [i for i in range(len(shape)) if i not in axes]
    first = min(axes) if max(axes) - min(axes) < len(axes) else len(kept)
    order = (*kept[:first], *sorted(axes), *kept[first:])
    size = math.prod(shape[a] for a in axes)
    lengths = [shape[i] for i in kept]
    return reshape(transpose(x, order), (*lengths[:first], size, *lengths[first:])), first


# -- maxima, minima, logic --------------------------------------------------------------------


def _extremum_jvp(primitive: Callable[[], Primitive]) -> Callable[..., Jvp]:
    """The mean of the tangents of the elements that attain the extremum."""

    @instantiating
    def jvp(primals: list[Value], tangents: list[Value], *, axes: Axes) -> Jvp:
        (x,), (t,) = primals, tangents
        (out,) = bind(primitive(), x, axes=axes)
        if t is None:
            return [out], [None]
        attained = eq(x, broadcast(out, aval_of(x).shape, axes))
        share = reciprocal(reduce_sum(mask(attained, x), axes))
        moved = reduce_sum(select(attained, t, full_like(t, 0)), axes)
        return [out], [scale(moved, share)]

    return jvp


reduce_prod_p = reduction(
    "reduce_prod",
    lambda x, axis: np.prod(x, axis=axis, dtype=x.dtype),
    "mul",
    kinds="iufc",
    jvp=reduce_prod_jvp,
)
reduce_max_p = reduction(
    "reduce_max",
    np.max,
    "max",
    kinds="biuf",
    jvp=_extremum_jvp(lambda: reduce_max_p),
    has_identity=False,
)
reduce_min_p = reduction(
    "reduce_min",
    np.min,
    "min",
    kinds="biuf",
    jvp=_extremum_jvp(lambda: reduce_min_p),
    has_identity=False,
)
reduce_and_p = reduction("reduce_and", np.all, "and", kinds="b")
reduce_or_p = reduction("reduce_or", np.any, "or", kinds="b")


def _reducer(primitive: Primitive) -> Callable[[Value, Axes], Value]:
    def apply(x: Value, axes: Axes) -> Value:
        return bind(primitive, x, axes=tuple(axes))[0] if axes else x

    apply.__name__ = apply.__qualname__ = primitive.name
    return apply


reduce_prod, reduce_max, reduce_min = map(_reducer, (reduce_prod_p, reduce_max_p, reduce_min_p))
reduce_and, reduce_or = map(_reducer, (reduce_and_p, reduce_or_p))


def _position(name: str, function: Callable[..., Any]) -> Primitive:
    """The int64 index along `axis` of the first extremum; a NaN counts as the extremum."""

    def abstract_eval(x: Aval, *, axis: int) -> list[Aval]:
        require_kind(name, x.dtype, "biuf")
        check_axes(name, (axis,), x.ndim)
        if x.shape[axis] == 0:
            raise ShapeError(f"{name}: axis {axis} of {x} is empty")
        return [Aval(without(x.shape, (axis,)), np.dtype(np.int64))]

    def batch(mapped: MappedAxis, xs: Sequence[Value], dims: Dims, *, axis: int) -> Batched:
        (dim,) = dims
        if dim is None:
            return bind(primitive, *xs, axis=axis), [None]
        (moved,) = shifted((axis,), dim)
        return bind(primitive, *xs, axis=moved), [dim - (moved < dim)]

    primitive = Primitive(
        name=name,
        abstract_eval=abstract_eval,
        impl=lambda x, *, axis: [np.asarray(function(x, axis), np.int64)],
        jvp=without_derivative(lambda: primitive),
        batch=batch,
        cheap=False,
    )
    return primitive


argmax_p = _position("argmax", np.argmax)
argmin_p = _position("argmin", np.argmin)


def argmax(x: Value, axis: int) -> Value:
    """The index of the first maximum along `axis`, int64; a NaN counts as the maximum."""
    return bind(argmax_p, x, axis=axis)[0]


def argmin(x: Value, axis: int) -> Value:
    """The index of the first minimum along `axis`, int64; a NaN counts as the minimum."""
    return bind(argmin_p, x, axis=axis)[0]


# -- cumulative reductions --------------------------------------------------------------------


def _cumulative_abstract_eval(name: str, kinds: str) -> Callable[..., list[Aval]]:
    def abstract_eval(x: Aval, *, axis: int, reverse: bool) -> list[Aval]:
        require_kind(name, x.dtype, kinds)
        check_axes(name, (axis,), x.ndim)
        return [Aval(x.shape, x.dtype)]

    return abstract_eval


def _cumulative_impl(function: Callable[..., Any]) -> Callable[..., list[Any]]:
    def impl(x: Any, *, axis: int, reverse: bool) -> list[Any]:
        if not reverse:
            return [function(x, axis)]
        return [np.flip(function(np.flip(x, axis), axis), axis)]

    return impl


def _cumulative_batch(primitive: Callable[[], Primitive]) -> Callable[..., Batched]:
    def batch(
        mapped: MappedAxis, xs: Sequence[Value], dims: Dims, *, axis: int, reverse: bool
    ) -> Batched:
        (dim,) = dims
        place = axis if dim is None else axis + (axis >= dim)
        return bind(primitive(), *xs, axis=place, reverse=reverse), [dim]

    return batch


def _cumulative(
    name: str, function: Callable[..., Any], kinds: str, jvp: Callable[..., Jvp]
) -> Primitive:
    """A primitive whose result k along `axis` folds elements 0 to k (k to the last: reverse)."""
    primitive = Primitive(
        name=name,
        abstract_eval=_cumulative_abstract_eval(name, kinds),
        impl=_cumulative_impl(function),
        jvp=jvp,
        batch=_cumulative_batch(lambda: primitive),
        cheap=False,
    )
    return primitive


@instantiating
def cumprod_jvp(primals: list[Value], tangents: list[Value], *, axis: int, reverse: bool) -> Jvp:
    """The product rule at every step, y[k] = x[k] y[k-1], is a recurrence of the tangents."""
    (x,), (t,) = primals, tangents
    out = cumprod(x, axis, reverse)
    if t is None:
        return [out], [None]
    by_last = scale(t, before(out, axis, 1, reverse=reverse))
    return [out], [linear_recurrence(x, by_last, axis, reverse)]


def _tracking_jvp(primitive: Callable[[], Primitive]) -> Callable[..., Jvp]:
    """The tangent of the element that attains the running extremum, until another does."""

    @instantiating
    def jvp(primals: list[Value], tangents: list[Value], *, axis: int, reverse: bool) -> Jvp:
        (x,), (t,) = primals, tangents
        (out,) = bind(primitive(), x, axis=axis, reverse=reverse)
        if t is None:
            return [out], [None]
        attained = eq(x, out)
        lasting = mask(not_(attained), t)
        entering = select(attained, t, full_like(t, 0))
        return [out], [linear_recurrence(lasting, entering, axis, reverse)]

    return jvp


def take_along(x: Value, index: Value, axis: int) -> Value:
    """x with element index[..., k, ...] of `axis` at place k, all else in place."""
    aval = aval_of(index)
    indices = [
        index if i == axis else iota(aval.shape, np.dtype(np.int64), i) for i in range(aval.ndim)
    ]
    axes = tuple(range(aval.ndim))
    return bind(provided("gather"), x, *indices, axes=axes, mode="clip")[0]


def cumsum_transpose(cts: list[Value], x: Linear, *, axis: int, reverse: bool) -> list[Value]:
    """The sum from the other end."""
    return [cumsum(cts[0], axis, not reverse)]


cumsum_p = linear(
    "cumsum",
    abstract_eval=_cumulative_abstract_eval("cumsum", "iufc"),
    impl=_cumulative_impl(lambda x, axis: np.cumsum(x, axis, x.dtype)),
    transpose=cumsum_transpose,
    batch=_cumulative_batch(lambda: cumsum_p),
    cheap=False,
)
cumprod_p = _cumulative(
    "cumprod",
    lambda x, axis: np.cumprod(x, axis, x.dtype),
    "iufc",
    cumprod_jvp,
)
cummax_p = _cumulative("cummax", np.maximum.accumulate, "biuf", _tracking_jvp(lambda: cummax_p))
cummin_p = _cumulative("cummin", np.minimum.accumulate, "biuf", _tracking_jvp(lambda: cummin_p))


def _accumulator(primitive: Primitive) -> Callable[..., Value]:
    def apply(x: Value, axis: int, reverse: bool = False) -> Value:
        return bind(primitive, x, axis=axis, reverse=reverse)[0]

    apply.__name__ = apply.__qualname__ = primitive.name
    return apply


cumsum, cumprod, cummax, cummin = map(_accumulator, (cumsum_p, cumprod_p, cummax_p, cummin_p))


def cumlogsumexp(x: Value, axis: int, reverse: bool = False) -> Value:
    """The logarithm of the running sum of exponentials.

    It sums exponentials of what lies below the running maximum, which derivatives take as a
    constant: it cancels. So nothing overflows, and nothing is lost in long sums. Infinities move
    nothing.
    """
    aval = aval_of(x)
    require_kind("cumlogsumexp", aval.dtype, "f")
    if aval.dtype.itemsize == 2:
        wide = cumlogsumexp(convert(x, np.dtype(np.float32)), axis, reverse)
        return convert(wide, aval.dtype)
    top = stop_gradient(cummax(x, axis, reverse))
    last = before(top, axis, -math.inf, reverse=reverse)
    total = linear_recurrence(_ratio(last, top), _ratio(x, top), axis, reverse)
    return add(top, log(total))


def _ratio(x: Value, top: Value) -> Value:
    """exp(x) / exp(top), 1 where both are the same infinity."""
    same = and_(eq(x, top), not_(is_finite(x)))
    return exp(guarded(same, sub(x, guarded(same, top))))
