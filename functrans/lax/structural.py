"""Shapes, slices, sorting and reductions on exact operands: thin covers of the primitives."""

from __future__ import annotations

import builtins
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import DtypeError, ShapeError
from functrans.ir import Primitive, aval_of
from functrans.primitives import elementwise as e
from functrans.primitives import indexing as g
from functrans.primitives import ordering, recurrence
from functrans.primitives import reduction as r
from functrans.primitives import structural as p
from functrans.primitives.derive import Value
from functrans.primitives.derive import full_like as full_as
from functrans.surface import creation, reductions
from functrans.surface.axes import as_shape, normal_axes, normal_axis
from functrans.surface.declare import Function, surface
from functrans.surface.promotion import (
    BOOL,
    FLOAT,
    INT,
    align,
    as_operand,
    canonical_dtype,
    cast,
    stretch,
)
from functrans.surface.shaping import array_of, insert_axes
from functrans.typing import ArrayLike, Axes, DTypeLike, ShapeLike

# -- creation and shapes ------------------------------------------------------------------------


@surface(name="lax.full", creates=True)
def full(shape: ShapeLike, fill_value: ArrayLike, dtype: DTypeLike = None) -> Value:
    """`fill_value` everywhere."""
    return creation.full.body(shape, fill_value, dtype)


@surface(name="lax.full_like", creates=True)
def full_like(
    x: ArrayLike, fill_value: ArrayLike, dtype: DTypeLike = None, shape: ShapeLike | None = None
) -> Value:
    """`fill_value` in the shape and dtype of x."""
    return creation.full_like.body(x, fill_value, dtype, shape=shape)


@surface(name="lax.iota", creates=True)
def iota(dtype: DTypeLike, size: int) -> Value:
    """0, 1, ..., size - 1."""
    return p.iota((operator.index(size),), canonical_dtype(dtype, "iota"))


@surface(name="lax.broadcasted_iota", creates=True)
def broadcasted_iota(dtype: DTypeLike, shape: ShapeLike, dimension: int) -> Value:
    """0, 1, ... along one axis, the same everywhere else."""
    size = as_shape(shape)
    place = normal_axis(dimension, len(size), "broadcasted_iota")
    return p.iota(size, canonical_dtype(dtype, "broadcasted_iota"), place)


@surface(name="lax.broadcast")
def broadcast(operand: ArrayLike, sizes: ShapeLike) -> Value:
    """The operand repeated along new leading axes."""
    x, lead = array_of(operand, "broadcast"), as_shape(sizes)
    return p.broadcast(x, (*lead, *aval_of(x).shape), tuple(range(len(lead))))


@surface(name="lax.broadcast_in_dim")
def broadcast_in_dim(
    operand: ArrayLike, shape: ShapeLike, broadcast_dimensions: Sequence[int]
) -> Value:
    """The operand with its axes at the given places of a larger shape, repeated along the rest."""
    x, size = array_of(operand, "broadcast_in_dim"), as_shape(shape)
    places = tuple(map(operator.index, broadcast_dimensions))
    own = aval_of(x).shape
    fits = len(places) == len(own) and list(places) == sorted(set(places))
    if not fits or any(n not in (1, size[i]) for n, i in zip(own, places, strict=True)):
        raise ShapeError(
            f"lax.broadcast_in_dim: {aval_of(x)} does not fit {size} with its axes at {places}"
        )
    spread = tuple(own[places.index(i)] if i in places else 1 for i in range(len(size)))
    return stretch(p.reshape(x, spread), size)


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that arrays of these shapes broadcast to."""
    return np.broadcast_shapes(*map(tuple, shapes))


@surface(name="lax.reshape")
def reshape(
    operand: ArrayLike, new_sizes: ShapeLike, dimensions: Sequence[int] | None = None
) -> Value:
    """The elements in another shape, after an optional permutation of the axes."""
    x = array_of(operand, "reshape")
    return p.reshape(
        x if dimensions is None else p.transpose(x, tuple(dimensions)), as_shape(new_sizes)
    )


@surface(name="lax.squeeze")
def squeeze(array: ArrayLike, dimensions: Axes) -> Value:
    """The operand without the given axes, each of length 1."""
    x = array_of(array, "squeeze")
    axes = normal_axes(dimensions, aval_of(x).ndim, "squeeze")
    return p.reshape(x, p.without(aval_of(x).shape, axes))


@surface(name="lax.expand_dims")
def expand_dims(array: ArrayLike, dimensions: Sequence[int]) -> Value:
    """The operand with axes of length 1 at the given places of the result."""
    x = array_of(array, "expand_dims")
    ndim = aval_of(x).ndim + len(dimensions)
    return insert_axes(x, normal_axes(dimensions, ndim, "expand_dims"))


@surface(name="lax.transpose")
def transpose(operand: ArrayLike, permutation: Sequence[int]) -> Value:
    """The operand with its axes in another order."""
    return p.transpose(array_of(operand, "transpose"), tuple(map(operator.index, permutation)))


@surface(name="lax.rev")
def rev(operand: ArrayLike, dimensions: Sequence[int]) -> Value:
    """The operand in reverse order along the given axes."""
    x = array_of(operand, "rev")
    return p.reverse(x, tuple(sorted(normal_axes(tuple(dimensions), aval_of(x).ndim, "rev"))))


@surface(name="lax.concatenate")
def concatenate(operands: Sequence[ArrayLike], dimension: int) -> Value:
    """Operands of one dtype, one after another along an axis."""
    items = [array_of(x, "concatenate") for x in operands]
    return p.concatenate(items, normal_axis(dimension, aval_of(items[0]).ndim, "concatenate"))


@surface(name="lax.pad")
def pad(
    operand: ArrayLike, padding_value: ArrayLike, padding_config: Sequence[tuple[int, int, int]]
) -> Value:
    """The operand with (low, high, interior) padding per axis; negative low and high cut away."""
    x = array_of(operand, "pad")
    low, high, interior = (tuple(c[i] for c in padding_config) for i in range(3))
    value = cast(as_operand(padding_value, "pad"), aval_of(x).dtype)
    return p.pad(x, value, low, high, interior)


# -- slices -----------------------------------------------------------------------------------


@surface(name="lax.slice")
def slice(
    operand: ArrayLike,
    start_indices: Sequence[int],
    limit_indices: Sequence[int],
    strides: Sequence[int] | None = None,
) -> Value:
    """operand[start:limit:stride, ...] for bounds inside the operand."""
    return p.slice(
        array_of(operand, "slice"),
        tuple(start_indices),
        tuple(limit_indices),
        None if strides is None else tuple(strides),
    )


@surface(name="lax.slice_in_dim")
def slice_in_dim(
    operand: ArrayLike,
    start_index: int | None,
    limit_index: int | None,
    stride: int = 1,
    axis: int = 0,
) -> Value:
    """operand[start:limit:stride] along one axis."""
    x = array_of(operand, "slice_in_dim")
    place = normal_axis(axis, aval_of(x).ndim, "slice_in_dim")
    shape = aval_of(x).shape
    start, limit, _ = builtins.slice(start_index, limit_index).indices(shape[place])
    starts = tuple(start if i == place else 0 for i in range(len(shape)))
    limits = tuple(max(limit, start) if i == place else n for i, n in enumerate(shape))
    strides = tuple(stride if i == place else 1 for i in range(len(shape)))
    return p.slice(x, starts, limits, strides)


def _starts(x: Value, indices: Any, name: str) -> list[Value]:
    """One int64 scalar per axis; negative ones count from the end."""
    given = (
        [indices] if aval_of(x).ndim == 1 and not isinstance(indices, (list, tuple)) else indices
    )
    if not isinstance(given, (list, tuple)):
        row = array_of(given, name)
        given = [p.reshape(p.slice(row, (i,), (i + 1,)), ()) for i in range(aval_of(row).size)]
    if len(given) != aval_of(x).ndim:
        raise ShapeError(f"lax.{name}: {aval_of(x)} needs {aval_of(x).ndim} start indices")
    return [_start(i, n, name) for i, n in zip(given, aval_of(x).shape, strict=True)]


def _starts_along(index: ArrayLike, axis: int, shape: Sequence[int]) -> list[Value]:
    """A start index along one axis, 0 along the others."""
    return [_start(index if i == axis else 0, n, "dynamic_slice") for i, n in enumerate(shape)]


def _start(index: ArrayLike, n: int, name: str) -> Value:
    value = as_operand(index, name)
    if aval_of(value).dtype.kind not in "iu":
        raise DtypeError(f"lax.{name}: start indices must be integers, but one is {aval_of(value)}")
    value = p.reshape(cast(value, INT), ())
    if isinstance(value, np.integer):
        return np.int64(value + n if value < 0 else value)
    return p.select(e.lt(value, np.int64(0)), e.add(value, np.int64(n)), value)


@surface(name="lax.dynamic_slice")
def dynamic_slice(operand: ArrayLike, start_indices: Any, slice_sizes: ShapeLike) -> Value:
    """The window of the given sizes at these indices; one that sticks out is moved inside."""
    x = array_of(operand, "dynamic_slice")
    sizes = as_shape(slice_sizes)
    return g.dynamic_slice(x, _starts(x, start_indices, "dynamic_slice"), sizes)


@surface(name="lax.dynamic_slice_in_dim")
def dynamic_slice_in_dim(
    operand: ArrayLike, start_index: ArrayLike, slice_size: int, axis: int = 0
) -> Value:
    """A window along one axis."""
    x = array_of(operand, "dynamic_slice_in_dim")
    place = normal_axis(axis, aval_of(x).ndim, "dynamic_slice_in_dim")
    shape = aval_of(x).shape
    starts = _starts_along(start_index, place, shape)
    sizes = tuple(operator.index(slice_size) if i == place else n for i, n in enumerate(shape))
    return g.dynamic_slice(x, starts, sizes)


@surface(name="lax.dynamic_index_in_dim")
def dynamic_index_in_dim(
    operand: ArrayLike, index: ArrayLike, axis: int = 0, keepdims: bool = True
) -> Value:
    """The member at an index along one axis."""
    x = array_of(operand, "dynamic_index_in_dim")
    place = normal_axis(axis, aval_of(x).ndim, "dynamic_index_in_dim")
    window = dynamic_slice_in_dim.body(x, index, 1, place)
    return window if keepdims else p.reshape(window, p.without(aval_of(window).shape, (place,)))


@surface(name="lax.index_in_dim")
def index_in_dim(operand: ArrayLike, index: int, axis: int = 0, keepdims: bool = True) -> Value:
    """The member at a fixed index along one axis."""
    x = array_of(operand, "index_in_dim")
    place = normal_axis(axis, aval_of(x).ndim, "index_in_dim")
    at = range(aval_of(x).shape[place])[operator.index(index)]
    window = p.slice_axis(x, place, at, at + 1)
    return window if keepdims else p.reshape(window, p.without(aval_of(window).shape, (place,)))


@surface(name="lax.dynamic_update_slice")
def dynamic_update_slice(operand: ArrayLike, update: ArrayLike, start_indices: Any) -> Value:
    """The operand with a window replaced."""
    x, new = array_of(operand, "dynamic_update_slice"), array_of(update, "dynamic_update_slice")
    return g.dynamic_update_slice(x, new, _starts(x, start_indices, "dynamic_update_slice"))


@surface(name="lax.dynamic_update_slice_in_dim")
def dynamic_update_slice_in_dim(
    operand: ArrayLike, update: ArrayLike, start_index: ArrayLike, axis: int
) -> Value:
    """The operand with a window along one axis replaced."""
    name = "dynamic_update_slice"
    x, new = array_of(operand, name), array_of(update, name)
    place = normal_axis(axis, aval_of(x).ndim, name)
    return g.dynamic_update_slice(x, new, _starts_along(start_index, place, aval_of(x).shape))


@surface(name="lax.dynamic_update_index_in_dim")
def dynamic_update_index_in_dim(
    operand: ArrayLike, update: ArrayLike, index: ArrayLike, axis: int
) -> Value:
    """The operand with its member at an index along one axis replaced."""
    x, new = array_of(operand, "dynamic_update_index_in_dim"), array_of(update, "update")
    place = normal_axis(axis, aval_of(x).ndim, "dynamic_update_index_in_dim")
    if aval_of(new).ndim != aval_of(x).ndim:
        new = insert_axes(new, (place,))
    return dynamic_update_slice_in_dim.body(x, new, index, place)


@surface(name="lax.index_take")
def index_take(src: ArrayLike, idxs: Sequence[ArrayLike], axes: Sequence[int]) -> Value:
    """The members of src at positions along several axes; the positions' axis comes first."""
    x = array_of(src, "index_take")
    indices = [cast(array_of(i, "index_take"), INT) for i in idxs]
    return g.gather(x, indices, normal_axes(tuple(axes), aval_of(x).ndim, "index_take"), "clip")


# -- sorting ----------------------------------------------------------------------------------


@surface(name="lax.sort")
def sort(operand: Any, dimension: int = -1, is_stable: bool = True, num_keys: int = 1) -> Any:
    """The values in increasing order along an axis; of a tuple, all in the order of its keys."""
    several = isinstance(operand, (tuple, list))
    operands = [array_of(x, "sort") for x in (operand if several else (operand,))]
    place = normal_axis(dimension, aval_of(operands[0]).ndim, "sort")
    result = ordering.sort(operands, place, num_keys)
    return tuple(result) if several else result[0]


@surface(name="lax.sort_key_val")
def sort_key_val(keys: ArrayLike, values: ArrayLike, dimension: int = -1) -> tuple[Value, Value]:
    """Keys and values in the order of the keys."""
    return sort.body((keys, values), dimension)


@surface(name="lax.top_k")
def top_k(operand: ArrayLike, k: int) -> tuple[Value, Value]:
    """The k greatest values along the last axis, greatest first, and their positions (int64)."""
    values, places = ordering.top_k(array_of(operand, "top_k"), operator.index(k))
    return values, places


@surface(name="lax.argmax")
def argmax(operand: ArrayLike, axis: int, index_dtype: DTypeLike = int) -> Value:
    """Where the greatest value stands first along an axis."""
    return cast(reductions.argmax.body(operand, axis), canonical_dtype(index_dtype))


@surface(name="lax.argmin")
def argmin(operand: ArrayLike, axis: int, index_dtype: DTypeLike = int) -> Value:
    """Where the least value stands first along an axis."""
    return cast(reductions.argmin.body(operand, axis), canonical_dtype(index_dtype))


# -- reductions -------------------------------------------------------------------------------


def _reduction(name: str, primitive: Primitive, doc: str) -> Function:
    def body(operand: ArrayLike, axes: Sequence[int]) -> Value:
        x = array_of(operand, name)
        places = normal_axes(tuple(axes), aval_of(x).ndim, name)
        return bind(primitive, x, axes=places)[0] if places else x

    body.__name__ = body.__qualname__ = name
    body.__doc__ = doc
    return surface(name=f"lax.{name}")(body)


reduce_sum = _reduction("reduce_sum", p.reduce_sum_p, "The sum over axes.")
reduce_prod = _reduction("reduce_prod", r.reduce_prod_p, "The product over axes.")
reduce_max = _reduction("reduce_max", r.reduce_max_p, "The greatest value over axes.")
reduce_min = _reduction("reduce_min", r.reduce_min_p, "The least value over axes.")
reduce_and = _reduction("reduce_and", r.reduce_and_p, "Are all values true, over axes?")
reduce_or = _reduction("reduce_or", r.reduce_or_p, "Is any value true, over axes?")


@surface(name="lax.reduce_xor")
def reduce_xor(operand: ArrayLike, axes: Sequence[int]) -> Value:
    """The exclusive or of bools over axes: is an odd number of them true?"""
    x = array_of(operand, "reduce_xor")
    if aval_of(x).dtype != BOOL:
        raise DtypeError(f"lax.reduce_xor: the operand must be boolean, but is {aval_of(x)}")
    total = p.reduce_sum(cast(x, INT), normal_axes(tuple(axes), aval_of(x).ndim, "reduce_xor"))
    return cast(e.remainder(total, full_as(total, 2)), BOOL)


def _running(name: str, function: Function, doc: str) -> Function:
    def body(operand: ArrayLike, axis: int = 0, reverse: bool = False) -> Value:
        x = array_of(operand, name)
        place = normal_axis(axis, aval_of(x).ndim, name)
        return function(x, place, bool(reverse))

    body.__name__ = body.__qualname__ = name
    body.__doc__ = doc
    return surface(name=f"lax.{name}")(body)


cumsum = _running("cumsum", r.cumsum, "The running sum along an axis.")
cumprod = _running("cumprod", r.cumprod, "The running product along an axis.")
cummax = _running("cummax", r.cummax, "The running maximum along an axis.")
cummin = _running("cummin", r.cummin, "The running minimum along an axis.")
cumlogsumexp = _running("cumlogsumexp", r.cumlogsumexp, "The running logsumexp along an axis.")


@surface(name="lax.linear_recurrence")
def linear_recurrence(a: ArrayLike, b: ArrayLike, axis: int = 0, reverse: bool = False) -> Value:
    """y[k] = a[k] y[k-1] + b[k] along an axis of a and b together, which begins with b's first.

    With `reverse` it begins at the other end. One pass, and one for each derivative: discounted
    sums, moving averages and filters. A factor of zero is a new start, whatever came before it.

    >>> linear_recurrence(0.5, [1.0, 1.0, 1.0, 1.0])
    array([1.   , 1.5  , 1.75 , 1.875])
    """
    a, b = align("linear_recurrence", a, b)
    if aval_of(b).dtype.kind in "biu":
        a, b = cast(a, FLOAT), cast(b, FLOAT)
    place = normal_axis(axis, aval_of(b).ndim, "linear_recurrence")
    return recurrence.linear_recurrence(a, b, place, bool(reverse))
