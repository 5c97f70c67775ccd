"""Quantiles: quantile, percentile and median, by every method that interpolates or picks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from functrans.errors import DtypeError, ShapeError
from functrans.ir import aval_of, is_inexact
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full_like
from functrans.surface import elementwise
from functrans.surface.axes import normal_axes
from functrans.surface.declare import surface
from functrans.surface.promotion import FLOAT, INT, as_operand, cast, result_dtype, stretch
from functrans.surface.selection import gather, take_along_axis
from functrans.surface.shaping import array_of, insert_axes
from functrans.surface.sorting import ordered
from functrans.typing import ArrayLike, Axes

_CONTINUOUS = {
    "linear": (1.0, 1.0),
    "weibull": (0.0, 0.0),
    "hazen": (0.5, 0.5),
    "interpolated_inverted_cdf": (0.0, 1.0),
    "median_unbiased": (1 / 3, 1 / 3),
    "normal_unbiased": (3 / 8, 3 / 8),
}
"""Method -> (alpha, beta) of Hyndman and Fan (1996)."""


@surface(np.quantile)
def quantile(
    a: ArrayLike, q: ArrayLike, axis: Axes = None, *, method: str = "linear", keepdims: bool = False
) -> Value:
    """The values below which the fractions q of the data lie, along `axis`; NaN if any is NaN."""
    return _quantile("quantile", a, q, axis, method, keepdims, skip_nan=False)


@surface(np.nanquantile)
def nanquantile(
    a: ArrayLike, q: ArrayLike, axis: Axes = None, *, method: str = "linear", keepdims: bool = False
) -> Value:
    """The values below which the fractions q of what is not NaN lie; NaN where nothing is."""
    return _quantile("nanquantile", a, q, axis, method, keepdims, skip_nan=True)


def _quantile(
    name: str, a: ArrayLike, q: ArrayLike, axis: Axes, method: str, keepdims: bool, skip_nan: bool
) -> Value:
    a, q = array_of(a, name), as_operand(q, name)
    inexact = is_inexact(aval_of(a).dtype)
    if aval_of(a).dtype.kind == "c":
        raise DtypeError(f"{name} is not defined for complex values: they lie on no line")
    dtype = aval_of(a).dtype if inexact else FLOAT
    if inexact and aval_of(q).dtype.kind not in "iub":
        dtype = result_dtype(a, q)
    a, q = cast(a, dtype), cast(q, dtype)
    axes = normal_axes(axis, aval_of(a).ndim, name)
    rows = _axes_last(a, axes)
    (rows,) = ordered([rows], aval_of(rows).ndim - 1, 1)
    flat_q = p.reshape(q, (aval_of(q).size,))
    if skip_nan:
        values = _at_fractions_of_numbers(rows, flat_q, method)
    else:
        values = _nan_where_any_is(rows, _at_fractions(rows, flat_q, method))
    ndim = aval_of(values).ndim
    values = p.transpose(values, (ndim - 1, *range(ndim - 1)))
    values = p.reshape(values, (*aval_of(q).shape, *aval_of(values).shape[1:]))
    lead = aval_of(q).ndim
    return insert_axes(values, tuple(i + lead for i in axes)) if keepdims else values


def _nan_where_any_is(rows: Value, values: Value) -> Value:
    """NaN where the sorted rows end in one."""
    *lead, n = aval_of(rows).shape
    last = p.slice_axis(rows, len(lead), n - 1, n)
    spoiled = stretch(e.is_nan(last), aval_of(values).shape)
    return p.select(spoiled, full_like(values, math.nan), values)


def _axes_last(a: Value, axes: tuple[int, ...]) -> Value:
    """a with the given axes merged into one last axis."""
    rest = tuple(i for i in range(aval_of(a).ndim) if i not in axes)
    shape = aval_of(a).shape
    merged = math.prod(shape[i] for i in axes)
    if merged == 0:
        raise ShapeError("quantile: there are no values along the axes")
    return p.reshape(p.transpose(a, (*rest, *axes)), (*(shape[i] for i in rest), merged))


def _at_fractions(rows: Value, q: Value, method: str) -> Value:
    """The quantiles of sorted rows along their last axis, which becomes that of q."""
    first, second, part = _places(q, aval_of(rows).shape[-1], method)
    taken = [_take_last(rows, index) for index in (first, second)]
    part = p.broadcast(part, aval_of(taken[0]).shape, tuple(range(aval_of(rows).ndim - 1)))
    return e.add(taken[0], e.scale(e.sub(taken[1], taken[0]), part))


def _at_fractions_of_numbers(rows: Value, q: Value, method: str) -> Value:
    """The same for rows that end in NaN, each as if they were not there."""
    lead = aval_of(rows).shape[:-1]
    valid = cast(e.not_(e.is_nan(rows)), aval_of(q).dtype)
    count = p.reduce_sum(valid, (len(lead),))
    shape = (*lead, aval_of(q).size)
    count = p.broadcast(count, shape, (len(lead),))
    first, second, part = _places(p.broadcast(q, shape, tuple(range(len(lead)))), count, method)
    low, high = (take_along_axis.body(rows, index, -1) for index in (first, second))
    return e.add(low, e.scale(e.sub(high, low), part))


def _places(q: Value, count: Any, method: str) -> tuple[Value, Value, Value]:
    """Between which two of `count` sorted values a fraction q lies, and how far from the first."""
    if method in _CONTINUOUS:
        alpha, beta = _CONTINUOUS[method]
        span = elementwise.add(count, 1 - alpha - beta)
        at = elementwise.add(elementwise.multiply(q, span), alpha - 1)
    else:
        at = elementwise.multiply(q, elementwise.subtract(count, 1))
    last = elementwise.maximum(elementwise.subtract(count, 1), 0)
    at = cast(elementwise.clip(at, 0, last), aval_of(q).dtype)
    below = e.floor(at)
    part = _rounded_part(e.sub(at, below), below, method)
    second = cast(elementwise.minimum(elementwise.add(below, 1), last), INT)
    return cast(below, INT), second, part


def _rounded_part(part: Value, below: Value, method: str) -> Value:
    """How far between two neighbours the quantile lies, under the method."""
    if method in _CONTINUOUS:
        return part
    zero, one, half = (full_like(part, v) for v in (0.0, 1.0, 0.5))
    if method == "lower":
        return zero
    inside = e.gt(part, zero)
    if method == "higher":
        return p.select(inside, one, zero)
    if method == "midpoint":
        return p.select(inside, half, zero)
    if method == "nearest":
        odd = e.eq(e.remainder(below, full_like(below, 2)), one)
        up = e.or_(e.gt(part, half), e.and_(e.eq(part, half), odd))
        return p.select(up, one, zero)
    known = ", ".join([*_CONTINUOUS, "lower", "higher", "midpoint", "nearest"])
    raise ValueError(f"quantile: method must be one of {known}, but got {method!r}")


def _take_last(rows: Value, index: Value) -> Value:
    """The elements of each row at `index`, along the last axis."""
    lead = aval_of(rows).ndim - 1
    found = gather(rows, [index], (lead,), "clip")
    return p.transpose(found, (*range(1, lead + 1), 0))


@surface(np.percentile)
def percentile(
    a: ArrayLike, q: ArrayLike, axis: Axes = None, *, method: str = "linear", keepdims: bool = False
) -> Value:
    """The values below which q per cent of the data lie."""
    fraction = elementwise.divide(q, 100)
    return quantile.body(a, fraction, axis, method=method, keepdims=keepdims)


@surface(np.median)
def median(a: ArrayLike, axis: Axes = None, *, keepdims: bool = False) -> Value:
    """The middle value along `axis`; of an even count, the mean of the middle two."""
    return quantile.body(a, 0.5, axis, method="linear", keepdims=keepdims)


@surface(np.nanpercentile)
def nanpercentile(
    a: ArrayLike, q: ArrayLike, axis: Axes = None, *, method: str = "linear", keepdims: bool = False
) -> Value:
    """The values below which q per cent of what is not NaN lie."""
    fraction = elementwise.divide(q, 100)
    return nanquantile.body(a, fraction, axis, method=method, keepdims=keepdims)


@surface(np.nanmedian)
def nanmedian(a: ArrayLike, axis: Axes = None, *, keepdims: bool = False) -> Value:
    """The middle value of what is not NaN."""
    return nanquantile.body(a, 0.5, axis, method="linear", keepdims=keepdims)
