"""Creation: zeros, arange, linspace, eye, diag, ...; while staging each is an array of the trace.

Such arrays may be written in place, as every array that a function makes itself.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import ShapeError
from functrans.ir import aval_of
from functrans.ir.aval import Shape
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import DType, Value
from functrans.primitives.derive import full_like as full_as
from functrans.surface.axes import as_shape, normal_axis
from functrans.surface.declare import hooks, surface
from functrans.surface.known import known_values
from functrans.surface.promotion import (
    FLOAT,
    INT,
    SCALARS,
    as_operand,
    broadcast_together,
    canonical_dtype,
    cast,
    common_shape,
    result_dtype,
    stretch,
)
from functrans.surface.shaping import array_of, insert_axes
from functrans.typing import ArrayLike, DTypeLike, ShapeLike

# -- constants --------------------------------------------------------------------------------


def constant(value: Any, shape: Shape, dtype: DType) -> Value:
    """An array of the trace that is `value` everywhere, even for shape ()."""
    return fresh(cast(value, dtype), shape)


def fresh(x: Value, shape: Shape) -> Value:
    """x repeated to `shape`, always as a value of its own."""
    x = stretch(x, shape)
    return x if aval_of(x).shape and not isinstance(x, np.ndarray) else copied(x)


def copied(x: Value) -> Value:
    """A copy of x: a new array of the trace."""
    return bind(p.convert_p, x, dtype=aval_of(x).dtype, weak=False)[0]


@surface(np.zeros, creates=True)
def zeros(shape: ShapeLike, dtype: DTypeLike = float) -> Value:
    """An array of zeros."""
    return constant(0, as_shape(shape), canonical_dtype(dtype, "zeros"))


@surface(np.ones, creates=True)
def ones(shape: ShapeLike, dtype: DTypeLike = float) -> Value:
    """An array of ones."""
    return constant(1, as_shape(shape), canonical_dtype(dtype, "ones"))


@surface(np.empty, creates=True)
def empty(shape: ShapeLike, dtype: DTypeLike = float) -> Value:
    """An array to be filled; while staging it holds zeros."""
    return constant(0, as_shape(shape), canonical_dtype(dtype, "empty"))


@surface(np.full, creates=True)
def full(shape: ShapeLike, fill_value: ArrayLike, dtype: DTypeLike = None) -> Value:
    """An array that holds `fill_value` everywhere; values of several elements broadcast."""
    value = array_of(fill_value, "full")
    target = aval_of(value).dtype if dtype is None else canonical_dtype(dtype, "full")
    return fresh(cast(value, target), as_shape(shape))


def _like(name: str, a: ArrayLike, value: Any, dtype: DTypeLike, shape: ShapeLike | None) -> Value:
    aval = aval_of(as_operand(a, name))
    target = aval.dtype if dtype is None else canonical_dtype(dtype, name)
    return constant(value, aval.shape if shape is None else as_shape(shape), target)


@surface(np.zeros_like, creates=True)
def zeros_like(a: ArrayLike, dtype: DTypeLike = None, *, shape: ShapeLike | None = None) -> Value:
    """Zeros in the shape and dtype of a."""
    return _like("zeros_like", a, 0, dtype, shape)


@surface(np.ones_like, creates=True)
def ones_like(a: ArrayLike, dtype: DTypeLike = None, *, shape: ShapeLike | None = None) -> Value:
    """Ones in the shape and dtype of a."""
    return _like("ones_like", a, 1, dtype, shape)


@surface(np.empty_like, creates=True)
def empty_like(a: ArrayLike, dtype: DTypeLike = None, *, shape: ShapeLike | None = None) -> Value:
    """An array like a, to be filled; while staging it holds zeros."""
    return _like("empty_like", a, 0, dtype, shape)


@surface(np.full_like, creates=True)
def full_like(
    a: ArrayLike,
    fill_value: ArrayLike,
    dtype: DTypeLike = None,
    *,
    shape: ShapeLike | None = None,
) -> Value:
    """`fill_value` in the shape and dtype of a."""
    value = as_operand(fill_value, "full_like")
    if aval_of(value).shape == ():
        return _like("full_like", a, value, dtype, shape)
    aval = aval_of(as_operand(a, "full_like"))
    target = aval.dtype if dtype is None else canonical_dtype(dtype, "full_like")
    return fresh(cast(value, target), aval.shape if shape is None else as_shape(shape))


# -- from data --------------------------------------------------------------------------------


@surface(np.array, creates=True)
def array(
    object: ArrayLike,  # NumPy's name
    dtype: DTypeLike = None,
    *,
    copy: bool | None = True,
    ndmin: int = 0,
) -> Value:
    """An array of the given values, which may be nested lists with tracers inside."""
    return copied(_converted("array", object, dtype, ndmin))


@surface(np.asarray)
def asarray(a: ArrayLike, dtype: DTypeLike = None, *, copy: bool | None = None) -> Value:
    """The given values as an array; one that is an array of that dtype already is returned.

    An array from outside stands for itself in the trace, so that traced values can index it.
    """
    x = _converted("asarray", a, dtype, 0)
    if copy:
        return copied(x)
    return hooks.captured(copied(x)) if isinstance(x, np.ndarray) else x


asanyarray = asarray


@surface(np.ascontiguousarray)
def ascontiguousarray(a: ArrayLike, dtype: DTypeLike = None) -> Value:
    """The given values as an array with at least one axis; the order in memory is no matter."""
    return _converted("ascontiguousarray", a, dtype, 1)


def _converted(name: str, a: ArrayLike, dtype: DTypeLike, ndmin: int) -> Value:
    if dtype is None:
        x = array_of(a, name)
    else:
        x = cast(as_operand(a, name), canonical_dtype(dtype, name))
    return insert_axes(x, tuple(range(ndmin - aval_of(x).ndim)))


@surface(np.copy, creates=True)
def copy(a: ArrayLike) -> Value:
    """A copy, which may be written in place."""
    return copied(array_of(a, "copy"))


@surface(np.astype, creates=True)
def astype(x: ArrayLike, dtype: DTypeLike, /, *, copy: bool = True) -> Value:
    """x converted to another dtype; of complex values a real dtype takes the real part."""
    x = as_operand(x, "astype")
    return bind(p.convert_p, x, dtype=canonical_dtype(dtype, "astype"), weak=False)[0]


# -- ranges -----------------------------------------------------------------------------------


def _known(x: Any) -> Any:
    """A bound as a number; tracers are asked for their values."""
    if type(x) in SCALARS:
        return x
    return (known_values(x, _MASK) if aval_of(x).dtype.kind in "iu" else np.asarray(x))[()]


_MASK = (
    "A length must be known without it: take the greatest, and a mask (fnp.arange(greatest) < n)"
)


def _ramp(n: int, dtype: DType) -> Value:
    """0, 1, ..., n - 1."""
    return p.iota((n,), dtype)


@surface(np.arange, creates=True)
def arange(start: Any, stop: Any = None, step: Any = None, dtype: DTypeLike = None) -> Value:
    """Evenly spaced values from `start` up to `stop`, which is left out."""
    first, last = (0, _known(start)) if stop is None else (_known(start), _known(stop))
    spacing = 1 if step is None else _known(step)
    shadow = np.arange(first, last, spacing)
    target = shadow.dtype if dtype is None else canonical_dtype(dtype, "arange")
    working = target if target.itemsize == 8 and target.kind in "iuf" else shadow.dtype
    ramp = _ramp(shadow.size, working)
    if spacing != 1:
        ramp = e.mul(ramp, full_as(ramp, spacing))
    if first != 0:
        ramp = e.add(ramp, full_as(ramp, first))
    return cast(ramp, target)


@surface(np.linspace, creates=True)
def linspace(
    start: ArrayLike,
    stop: ArrayLike,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: DTypeLike = None,
    axis: int = 0,
) -> Any:
    """`num` evenly spaced values from `start` to `stop`."""
    count = operator.index(num)
    if count < 0:
        raise ValueError(f"Number of samples, {count}, must be non-negative.")
    first, last = as_operand(start, "linspace"), as_operand(stop, "linspace")
    working = result_dtype(first, last, float(count))
    first, last = broadcast_together("linspace", cast(first, working), cast(last, working))
    target = working if dtype is None else canonical_dtype(dtype, "linspace")
    gaps = count - 1 if endpoint else count
    spread = e.sub(last, first)
    step = e.div(spread, full_as(spread, gaps if gaps > 0 else math.nan))
    result = _spaced(first, last, spread, count, gaps, endpoint)
    if target.kind in "iu":
        result = e.floor(result)
    result = p.transpose(cast(result, target), _first_axis_to(axis, aval_of(result).ndim))
    return (result, step) if retstep else result


def _spaced(
    first: Value, last: Value, spread: Value, count: int, gaps: int, endpoint: bool
) -> Value:
    """first + (i / gaps) * spread along a new first axis; the end point is exact."""
    aval = aval_of(first)
    shape = (count, *aval.shape)
    steps = p.iota(shape, aval.dtype, 0)
    fill = [p.broadcast(v, shape, (0,)) for v in (first, last, spread)]
    part = e.mul(steps, e.div(fill[2], full_as(steps, gaps)) if gaps > 0 else fill[2])
    result = e.add(part, fill[0])
    if not endpoint or count < 2:
        return result
    end = e.eq(steps, full_as(steps, count - 1))
    return p.select(end, fill[1], result)


def _first_axis_to(axis: int, ndim: int) -> tuple[int, ...]:
    place = normal_axis(axis, ndim, "linspace")
    return (*range(1, place + 1), 0, *range(place + 1, ndim))


@surface(np.logspace, creates=True)
def logspace(
    start: ArrayLike,
    stop: ArrayLike,
    num: int = 50,
    endpoint: bool = True,
    base: ArrayLike = 10.0,
    dtype: DTypeLike = None,
    axis: int = 0,
) -> Value:
    """`num` powers of `base`, with evenly spaced exponents."""
    exponents = linspace.body(start, stop, num, endpoint, axis=axis)
    powers = e.pow(
        *broadcast_together("logspace", cast(as_operand(base), aval_of(exponents).dtype), exponents)
    )
    return powers if dtype is None else cast(powers, canonical_dtype(dtype, "logspace"))


@surface(np.geomspace, creates=True)
def geomspace(
    start: ArrayLike,
    stop: ArrayLike,
    num: int = 50,
    endpoint: bool = True,
    dtype: DTypeLike = None,
    axis: int = 0,
) -> Value:
    """`num` values from `start` to `stop` in constant ratio; both ends of one sign."""
    ends = broadcast_together("geomspace", as_operand(start), as_operand(stop))
    working = result_dtype(*ends, 1.0)
    first, last = (cast(v, working) for v in ends)
    ratio = e.log(e.div(last, first))
    exponents = linspace.body(full_as(ratio, 0), ratio, num, endpoint, axis=0)
    result = e.mul(p.broadcast(first, aval_of(exponents).shape, (0,)), e.exp(exponents))
    result = p.transpose(result, _first_axis_to(axis, aval_of(result).ndim))
    return result if dtype is None else cast(result, canonical_dtype(dtype, "geomspace"))


@surface(np.meshgrid)
def meshgrid(*xi: ArrayLike, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    """Coordinate arrays of a grid; `indexing` "xy" puts the second coordinate first."""
    if indexing not in ("xy", "ij"):
        raise ValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    rows = [p.reshape(x, (aval_of(x).size,)) for x in (array_of(x, "meshgrid") for x in xi)]
    places = list(range(len(rows)))
    if indexing == "xy" and len(rows) > 1:
        places[:2] = [1, 0]
    spread = [
        insert_axes(x, tuple(j for j in range(len(rows)) if j != place))
        for x, place in zip(rows, places, strict=True)
    ]
    if sparse or not spread:
        return tuple(spread)
    shape = common_shape("meshgrid", *(aval_of(x).shape for x in spread))
    return tuple(stretch(x, shape) for x in spread)


@surface(np.indices, creates=True)
def indices(dimensions: Sequence[int], dtype: DTypeLike = int, sparse: bool = False) -> Any:
    """The index of every position, one array per axis."""
    shape, target = as_shape(dimensions), canonical_dtype(dtype, "indices")
    if sparse:
        ramps = [p.iota((n,), target) for n in shape]
        return tuple(
            insert_axes(r, tuple(j for j in range(len(shape)) if j != i))
            for i, r in enumerate(ramps)
        )
    grids = [insert_axes(p.iota(shape, target, axis), (0,)) for axis in range(len(shape))]
    return p.concatenate(grids, 0) if grids else constant(0, (0,), target)


# -- matrices ---------------------------------------------------------------------------------


def band(shape: Shape, k: int) -> tuple[Value, Value]:
    """Row index + k and column index at every position of a matrix."""
    rows, columns = p.iota(shape, INT, 0), p.iota(shape, INT, 1)
    return (e.add(rows, full_as(rows, k)) if k else rows), columns


@surface(np.eye, creates=True)
def eye(N: int, M: int | None = None, k: int = 0, dtype: DTypeLike = float) -> Value:
    """Ones on the k-th diagonal of a matrix, zeros elsewhere."""
    n = operator.index(N)
    rows, columns = band((n, n if M is None else operator.index(M)), operator.index(k))
    return cast(e.eq(rows, columns), canonical_dtype(dtype, "eye"))


@surface(np.identity, creates=True)
def identity(n: int, dtype: DTypeLike = None) -> Value:
    """The identity matrix."""
    return eye.body(n, dtype=FLOAT if dtype is None else dtype)


@surface(np.tri, creates=True)
def tri(N: int, M: int | None = None, k: int = 0, dtype: DTypeLike = float) -> Value:
    """Ones at and below the k-th diagonal."""
    n = operator.index(N)
    below = _below((n, n if M is None else operator.index(M)), operator.index(k))
    return cast(below, canonical_dtype(dtype, "tri"))


def _below(shape: Shape, k: int) -> Value:
    rows, columns = band(shape, k)
    return e.ge(rows, columns)


def _triangle(name: str, m: ArrayLike, k: int, lower: bool) -> Value:
    m = array_of(m, name)
    shape = aval_of(m).shape
    if len(shape) == 1:
        m = p.broadcast(m, (shape[0], shape[0]), (0,))
        shape = aval_of(m).shape
    keep = _below(shape[-2:], operator.index(k) - (0 if lower else 1))
    keep = p.broadcast(keep, shape, tuple(range(len(shape) - 2)))
    zero = full_as(m, 0)
    return p.select(keep, m, zero) if lower else p.select(keep, zero, m)


@surface(np.tril)
def tril(m: ArrayLike, k: int = 0) -> Value:
    """m with zeros above its k-th diagonal."""
    return _triangle("tril", m, k, True)


@surface(np.triu)
def triu(m: ArrayLike, k: int = 0) -> Value:
    """m with zeros below its k-th diagonal."""
    return _triangle("triu", m, k, False)


@surface(np.diagonal, views=True)
def diagonal(a: ArrayLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
    """The diagonal of two axes, as a last axis."""
    a = array_of(a, "diagonal")
    ndim = aval_of(a).ndim
    if ndim < 2:
        raise ShapeError("diag requires an array of at least two dimensions")
    i, j = normal_axis(axis1, ndim, "diagonal"), normal_axis(axis2, ndim, "diagonal")
    if i == j:
        raise ValueError("axis1 and axis2 cannot be the same")
    a = p.transpose(a, (*(n for n in range(ndim) if n not in (i, j)), i, j))
    *lead, rows, columns = aval_of(a).shape
    k = operator.index(offset)
    start = k if k >= 0 else -k * columns
    n = max(min(rows, columns - k) if k >= 0 else min(rows + k, columns), 0)
    flat = p.reshape(a, (*lead, rows * columns))
    start = start if n else 0
    limit = start + (n - 1) * (columns + 1) + 1 if n else 0
    zero, one = (0,) * len(lead), (1,) * len(lead)
    return p.slice(flat, (*zero, start), (*lead, limit), (*one, columns + 1))


@surface(np.diag)
def diag(v: ArrayLike, k: int = 0) -> Value:
    """The k-th diagonal of a matrix, or the matrix with this diagonal."""
    v = array_of(v, "diag")
    ndim = aval_of(v).ndim
    if ndim == 2:
        return diagonal.body(v, k)
    if ndim != 1:
        raise ShapeError("Input must be 1- or 2-d.")
    (n,) = aval_of(v).shape
    k = operator.index(k)
    size = n + abs(k)
    low = k if k >= 0 else -k * size
    used = low + (n - 1) * (size + 1) + 1 if n else 0
    zero = aval_of(v).dtype.type(0)
    flat = p.pad(v, zero, (low if n else 0,), (size * size - used,), (size,))
    return p.reshape(flat, (size, size))


@surface(np.diagflat)
def diagflat(v: ArrayLike, k: int = 0) -> Value:
    """The matrix with the flattened values on its k-th diagonal."""
    v = array_of(v, "diagflat")
    return diag.body(p.reshape(v, (aval_of(v).size,)), k)


@surface(np.vander)
def vander(x: ArrayLike, N: int | None = None, increasing: bool = False) -> Value:
    """The powers of x, highest first, as columns."""
    x = array_of(x, "vander")
    if aval_of(x).ndim != 1:
        raise ShapeError("x must be a one-dimensional array or sequence.")
    dtype = np.result_type(aval_of(x).dtype, INT)
    x = cast(x, dtype)
    n = aval_of(x).size if N is None else operator.index(N)
    powers = [bind(e.integer_pow_p, x, exponent=i)[0] for i in range(n)]
    columns = [insert_axes(c, (1,)) for c in (powers if increasing else powers[::-1])]
    return p.concatenate(columns, 1) if columns else constant(0, (aval_of(x).size, 0), dtype)
