"""Quantiles: quantile, percentile and median, by every method that interpolates or picks."""

from __future__ import annotations

import math

import numpy as np

from functrans.errors import ShapeError
from functrans.ir import aval_of, is_inexact
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full_like
from functrans.surface import elementwise
from functrans.surface.axes import normal_axes
from functrans.surface.declare import surface
from functrans.surface.promotion import FLOAT, INT, as_operand, cast, result_dtype, stretch
from functrans.surface.selection import gather
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
    a, q = array_of(a, "quantile"), as_operand(q, "quantile")
    dtype = result_dtype(a, q) if is_inexact(aval_of(a).dtype) else FLOAT
    if aval_of(q).dtype.kind in "iub":
        dtype = aval_of(a).dtype if is_inexact(aval_of(a).dtype) else FLOAT
    a, q = cast(a, dtype), cast(q, dtype)
    axes = normal_axes(axis, aval_of(a).ndim, "quantile")
    rows = _axes_last(a, axes)
    (rows,) = ordered([rows], aval_of(rows).ndim - 1, 1)
    flat_q = p.reshape(q, (aval_of(q).size,))
    values = _at_fractions(rows, flat_q, method)
    last = p.slice_axis(
        rows, aval_of(rows).ndim - 1, aval_of(rows).shape[-1] - 1, aval_of(rows).shape[-1]
    )
    spoiled = stretch(e.is_nan(last), aval_of(values).shape)
    values = p.select(spoiled, full_like(values, math.nan), values)
    ndim = aval_of(values).ndim
    values = p.transpose(values, (ndim - 1, *range(ndim - 1)))
    kept = aval_of(values).shape[1:]
    values = p.reshape(values, (*aval_of(q).shape, *kept))
    lead = aval_of(q).ndim
    return insert_axes(values, tuple(i + lead for i in axes)) if keepdims else values


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
    n = aval_of(rows).shape[-1]
    if method in _CONTINUOUS:
        alpha, beta = _CONTINUOUS[method]
        at = elementwise.add(elementwise.multiply(q, n + 1 - alpha - beta), alpha - 1)
    else:
        at = elementwise.multiply(q, n - 1)
    at = e.clamp(full_like(at, 0), at, full_like(at, n - 1))
    below = e.floor(at)
    part = e.sub(at, below)
    part = _rounded_part(part, below, q, n, method)
    first = cast(below, INT)
    second = e.min(e.add(first, full_like(first, 1)), full_like(first, n - 1))
    lead = aval_of(rows).ndim - 1
    taken = [_take_last(rows, index) for index in (first, second)]
    part = p.broadcast(part, aval_of(taken[0]).shape, tuple(range(lead)))
    return e.add(taken[0], e.scale(e.sub(taken[1], taken[0]), part))


def _rounded_part(part: Value, below: Value, q: Value, n: int, method: str) -> Value:
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
