"""Statistics: averages, covariances and counts."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import ShapeError
from functrans.ir import aval_of, is_inexact
from functrans.numpy.calculus import diff
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full, full_like
from functrans.primitives.indexing import scatter_add_p
from functrans.surface import contraction, elementwise, reductions
from functrans.surface.axes import normal_axes
from functrans.surface.creation import diagonal, linspace
from functrans.surface.declare import surface
from functrans.surface.known import known_values
from functrans.surface.promotion import (
    FLOAT,
    INT,
    cast,
    promote,
    stretch,
)
from functrans.surface.shaping import array_of, insert_axes
from functrans.surface.sorting import searchsorted
from functrans.typing import ArrayLike, Axes, DTypeLike

# -- averages ---------------------------------------------------------------------------------


@surface(np.average)
def average(
    a: ArrayLike,
    axis: Axes = None,
    weights: ArrayLike | None = None,
    returned: bool = False,
    *,
    keepdims: bool = False,
) -> Any:
    """The weighted mean; with `returned`, also the sum of the weights."""
    a = array_of(a, "average")
    if weights is None:
        mean = reductions.mean.body(a, axis, keepdims=keepdims)
        count = aval_of(a).size // max(aval_of(mean).size, 1)
        return (mean, full_like(mean, count)) if returned else mean
    a, w = promote(a, array_of(weights, "average"))
    if not is_inexact(aval_of(a).dtype):
        a, w = cast(a, FLOAT), cast(w, FLOAT)
    w = _spread_weights(a, w, axis)
    total = reductions.sum.body(w, axis, keepdims=keepdims)
    mean = e.div(reductions.sum.body(e.mul(a, w), axis, keepdims=keepdims), total)
    return (mean, total) if returned else mean


def _spread_weights(a: Value, w: Value, axis: Axes) -> Value:
    """Weights in a's shape: given so, or one per member of the axes."""
    shape = aval_of(a).shape
    if aval_of(w).shape == shape:
        return w
    if axis is None:
        raise TypeError("Axis must be specified when shapes of a and weights differ.")
    axes = normal_axes(axis, len(shape), "average")
    if aval_of(w).shape != tuple(shape[i] for i in axes):
        raise ShapeError("Shape of weights must be consistent with shape of a along given axis.")
    order = sorted(range(len(axes)), key=axes.__getitem__)
    w = p.transpose(w, tuple(order))
    return p.broadcast(w, shape, tuple(i for i in range(len(shape)) if i not in axes))


# -- covariance -------------------------------------------------------------------------------


@surface(np.cov)
def cov(
    m: ArrayLike,
    y: ArrayLike | None = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: ArrayLike | None = None,
    aweights: ArrayLike | None = None,
    *,
    dtype: DTypeLike = None,
) -> Value:
    """The covariance matrix of variables (rows) observed together (columns)."""
    x = _variables(m, y, rowvar, dtype)
    freedom = (0 if bias else 1) if ddof is None else operator.index(ddof)
    w = _observation_weights(x, fweights, aweights)
    if w is None:
        mean = reductions.mean.body(x, 1, keepdims=True)
        norm: Any = max(aval_of(x).shape[1] - freedom, 0)
        weighted = x = e.sub(x, stretch(mean, aval_of(x).shape))
    else:
        total = p.reduce_sum(w, (0,))
        spread = p.broadcast(w, aval_of(x).shape, (0,))
        mean = e.div(p.reduce_sum(e.mul(x, spread), (1,)), stretch(total, aval_of(x).shape[:1]))
        x = e.sub(x, p.broadcast(mean, aval_of(x).shape, (1,)))
        weighted = e.mul(x, spread)
        norm = _weight_norm(w, total, freedom, aweights)
    if aval_of(weighted).dtype.kind == "c":
        weighted = p.conj(weighted)
    product = contraction.contract(x, weighted, ((1,), (1,)), ((), ()))
    result = elementwise.divide(product, norm)
    shape = tuple(n for n in aval_of(result).shape if n != 1)
    return p.reshape(result, shape)


def _variables(m: ArrayLike, y: ArrayLike | None, rowvar: bool, dtype: DTypeLike) -> Value:
    """All variables as the rows of one matrix."""
    parts = [array_of(v, "cov") for v in (m, y) if v is not None]
    if any(aval_of(v).ndim > 2 for v in parts):
        raise ShapeError("cov: the observations must have one or two dimensions")
    target = np.result_type(*(aval_of(v).dtype for v in parts), FLOAT if dtype is None else dtype)
    rows: list[Value] = []
    for v in parts:
        v = insert_axes(cast(v, target), tuple(range(2 - aval_of(v).ndim)))
        rows.append(p.transpose(v, (1, 0)) if not rowvar and aval_of(v).shape[0] != 1 else v)
    return p.concatenate(rows, 0)


def _observation_weights(x: Value, f: ArrayLike | None, a: ArrayLike | None) -> Value | None:
    given = [cast(array_of(w, "cov"), aval_of(x).dtype) for w in (f, a) if w is not None]
    if any(aval_of(w).shape != aval_of(x).shape[1:] for w in given):
        raise ShapeError("cov: give one weight per observation")
    if not given:
        return None
    return given[0] if len(given) == 1 else e.mul(*given)


def _weight_norm(w: Value, total: Value, freedom: int, aweights: ArrayLike | None) -> Value:
    if freedom == 0:
        return total
    if aweights is None:
        return e.sub(total, full_like(total, freedom))
    squares = p.reduce_sum(e.mul(w, cast(array_of(aweights, "cov"), aval_of(w).dtype)), (0,))
    return e.sub(total, e.div(e.mul(full_like(squares, freedom), squares), total))


@surface(np.corrcoef)
def corrcoef(
    x: ArrayLike, y: ArrayLike | None = None, rowvar: bool = True, *, dtype: DTypeLike = None
) -> Value:
    """The correlation coefficients of variables (rows) observed together (columns)."""
    c = cov.body(x, y, rowvar, dtype=dtype)
    if aval_of(c).ndim == 0:
        return e.div(c, c)
    d = elementwise.sqrt(_real(diagonal.body(c)))
    d = cast(d, aval_of(c).dtype)
    shape = aval_of(c).shape
    scaled = e.div(e.div(c, p.broadcast(d, shape, (1,))), p.broadcast(d, shape, (0,)))
    return elementwise.clip(scaled, -1, 1) if aval_of(scaled).dtype.kind != "c" else scaled


def _real(x: Value) -> Value:
    return p.real(x) if aval_of(x).dtype.kind == "c" else x


# -- counting ---------------------------------------------------------------------------------


@surface(np.bincount, beyond=("length",))
def bincount(
    x: ArrayLike,
    weights: ArrayLike | None = None,
    minlength: int = 0,
    *,
    length: int | None = None,
) -> Value:
    """How often each of 0, 1, 2, ... occurs, or the sum of its weights.

    The greatest value decides the length, and x is asked for its values; with a `length`, it is
    not, and values outside [0, length) are not counted.
    """
    index = cast(array_of(x, "bincount"), INT)
    dtype = INT if weights is None else FLOAT
    w = full(1, aval_of(index)) if weights is None else cast(array_of(weights, "bincount"), dtype)
    if length is None:
        greatest = known_values(index, _GIVE_LENGTH).max(initial=-1)
        zeros = full(0, aval_of(w).with_shape((max(int(greatest) + 1, operator.index(minlength)),)))
        return bind(scatter_add_p, zeros, w, index, axes=(0,), mode="raise")[0]
    n = operator.index(length)
    index = p.select(e.lt(index, full_like(index, 0)), full_like(index, n), index)
    zeros = full(0, aval_of(w).with_shape((n,)))
    return bind(scatter_add_p, zeros, w, index, axes=(0,), mode="drop")[0]


_GIVE_LENGTH = (
    "Give bincount the number of bins (length=n), or use functrans.ops.segment_sum with "
    "num_segments=n"
)


@surface(np.histogram_bin_edges)
def histogram_bin_edges(
    a: ArrayLike, bins: Any = 10, range: tuple[Any, Any] | None = None, weights: Any = None
) -> Value:
    """The edges of bins of equal width between the extremes, or the bins given as a sequence."""
    if isinstance(bins, str):
        raise ValueError("histogram: give the number of bins; a rule by name is not supported")
    if not isinstance(bins, (int, np.integer)):
        return array_of(bins, "histogram")
    a = array_of(a, "histogram")
    a = a if is_inexact(aval_of(a).dtype) else cast(a, FLOAT)
    if range is not None:
        return linspace.body(range[0], range[1], bins + 1)
    low, high = reductions.min.body(a), reductions.max.body(a)
    flat = e.eq(low, high)
    half = full_like(low, 0.5)
    low, high = p.select(flat, e.sub(low, half), low), p.select(flat, e.add(high, half), high)
    return linspace.body(low, high, bins + 1)


@surface(np.histogram)
def histogram(
    a: ArrayLike,
    bins: Any = 10,
    range: tuple[Any, Any] | None = None,
    density: bool | None = None,
    weights: ArrayLike | None = None,
) -> tuple[Value, Value]:
    """(how many values fall in each bin, the edges of the bins); the last bin is closed."""
    a = array_of(a, "histogram")
    a = p.reshape(a, (aval_of(a).size,))
    edges = histogram_bin_edges.body(a, bins, range)
    n = aval_of(edges).size - 1
    place = searchsorted.body(edges, a, "right")
    values, bounds = promote(a, edges)
    last = p.reshape(p.slice_axis(bounds, 0, n, n + 1), ())
    at_end = e.eq(values, stretch(last, aval_of(values).shape))
    place = p.select(at_end, full_like(place, n), place)
    place = e.sub(place, full_like(place, 1))
    w = full(1, aval_of(place)) if weights is None else array_of(weights, "histogram")
    w = p.reshape(w, (aval_of(w).size,))
    place = p.select(e.lt(place, full_like(place, 0)), full_like(place, n), place)
    zeros = full(0, aval_of(w).with_shape((n,)))
    counts = bind(scatter_add_p, zeros, w, place, axes=(0,), mode="drop")[0]
    if density:
        widths = cast(diff.body(edges), FLOAT)
        counts = cast(counts, FLOAT)
        total = stretch(p.reduce_sum(counts, (0,)), (n,))
        counts = e.div(e.div(counts, widths), total)
    return counts, edges
