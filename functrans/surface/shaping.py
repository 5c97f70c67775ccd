"""Shapes: reshape, transpose and their relatives; the values stay, their places change."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from functrans.errors import ShapeError
from functrans.ir import aval_of
from functrans.ir.aval import Shape
from functrans.primitives import structural as p
from functrans.primitives.derive import Value
from functrans.surface.axes import as_shape, normal_axes, normal_axis
from functrans.surface.declare import surface
from functrans.surface.promotion import (
    as_operand,
    as_strong,
    broadcast_together,
    common_shape,
    stretch,
)
from functrans.typing import ArrayLike, Axes, ShapeLike

# -- without a declaration: what other parts of the surface use --------------------------------


def array_of(x: ArrayLike, function: str) -> Value:
    """x as a strong operand."""
    return as_strong(as_operand(x, function))


def insert_axes(x: Value, axes: tuple[int, ...]) -> Value:
    """x with axes of length 1 at these places of the result."""
    shape = list(aval_of(x).shape)
    for axis in sorted(axes):
        shape.insert(axis, 1)
    return p.reshape(x, tuple(shape))


def _infer(shape: Shape, given: Shape, function: str) -> Shape:
    """The new shape with its -1 replaced; ShapeError when the sizes differ."""
    size, unknown = math.prod(given), shape.count(-1)
    known = math.prod(n for n in shape if n != -1)
    if unknown == 1 and known and size % known == 0 and known > 0:
        shape = tuple(size // known if n == -1 else n for n in shape)
    if unknown > 1 or min(shape, default=0) < 0 or math.prod(shape) != size:
        raise ShapeError(
            f"{function}: cannot reshape array of size {size} into shape {shape}. One size may be "
            "-1, "
            "for what is left."
        )
    return shape


# -- declared ---------------------------------------------------------------------------------


@surface(np.reshape, views=True)
def reshape(
    a: ArrayLike, /, shape: ShapeLike, order: str = "C", *, copy: bool | None = None
) -> Value:
    """a in another shape of the same size; one length may be -1."""
    a = array_of(a, "reshape")
    wanted = _infer(as_shape(shape), aval_of(a).shape, "reshape")
    if order in ("C", "A"):
        return p.reshape(a, wanted)
    if order != "F":
        raise ValueError(f"reshape: order must be 'C', 'F' or 'A', but got {order!r}")
    flipped = p.reshape(_reversed_axes(a), wanted[::-1])
    return _reversed_axes(flipped)


def _reversed_axes(a: Value) -> Value:
    return p.transpose(a, tuple(reversed(range(aval_of(a).ndim))))


@surface(np.ravel, views=True)
def ravel(a: ArrayLike, order: str = "C") -> Value:
    """a as one row."""
    a = array_of(a, "ravel")
    a = _reversed_axes(a) if order == "F" else a
    return p.reshape(a, (aval_of(a).size,))


@surface(np.transpose, views=True, aliases=(np.permute_dims,))
def transpose(a: ArrayLike, axes: Axes = None) -> Value:
    """a with its axes reversed, or in the order given."""
    a = array_of(a, "transpose")
    ndim = aval_of(a).ndim
    if axes is None:
        return _reversed_axes(a)
    perm = normal_axes(axes, ndim, "transpose")
    if len(perm) != ndim:
        raise ShapeError(f"transpose: axes {tuple(perm)} don't match an array of {ndim} dimensions")
    return p.transpose(a, perm)


permute_dims = transpose


@surface(np.matrix_transpose, views=True)
def matrix_transpose(x: ArrayLike, /) -> Value:
    """x with its last two axes exchanged."""
    x = array_of(x, "matrix_transpose")
    if aval_of(x).ndim < 2:
        raise ShapeError(
            f"matrix_transpose: at least 2 dimensions are needed, but got {aval_of(x)}"
        )
    return swapaxes.body(x, -1, -2)


@surface(np.swapaxes, views=True)
def swapaxes(a: ArrayLike, axis1: int, axis2: int) -> Value:
    """a with two axes exchanged."""
    a = array_of(a, "swapaxes")
    ndim = aval_of(a).ndim
    i, j = normal_axis(axis1, ndim, "swapaxes"), normal_axis(axis2, ndim, "swapaxes")
    perm = list(range(ndim))
    perm[i], perm[j] = j, i
    return p.transpose(a, tuple(perm))


@surface(np.moveaxis, views=True)
def moveaxis(a: ArrayLike, source: Axes, destination: Axes) -> Value:
    """a with axes moved to new places; the others keep their order."""
    a = array_of(a, "moveaxis")
    ndim = aval_of(a).ndim
    sources = normal_axes(source, ndim, "moveaxis")
    places = normal_axes(destination, ndim, "moveaxis")
    if len(sources) != len(places):
        raise ValueError("moveaxis: source and destination must have the same number of elements")
    perm = [i for i in range(ndim) if i not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        perm.insert(place, axis)
    return p.transpose(a, tuple(perm))


@surface(np.rollaxis, views=True)
def rollaxis(a: ArrayLike, axis: int, start: int = 0) -> Value:
    """a with one axis moved back until it lies before `start`."""
    a = array_of(a, "rollaxis")
    ndim = aval_of(a).ndim
    axis = normal_axis(axis, ndim, "rollaxis")
    start = start + ndim if start < 0 else start
    if not 0 <= start <= ndim:
        raise np.exceptions.AxisError(f"rollaxis: start={start} is out of bounds for {ndim}")
    return moveaxis.body(a, axis, start - 1 if start > axis else start)


@surface(np.squeeze, views=True)
def squeeze(a: ArrayLike, axis: Axes = None) -> Value:
    """a without its axes of length 1, or without the given ones."""
    a = array_of(a, "squeeze")
    shape = aval_of(a).shape
    if axis is None:
        return p.reshape(a, tuple(n for n in shape if n != 1))
    axes = normal_axes(axis, len(shape), "squeeze")
    if any(shape[i] != 1 for i in axes):
        raise ShapeError(
            "cannot select an axis to squeeze out which has size not equal to one: "
            f"axis {axis} of shape {shape}. Index it or reduce over it instead."
        )
    return p.reshape(a, tuple(n for i, n in enumerate(shape) if i not in axes))


@surface(np.expand_dims, views=True)
def expand_dims(a: ArrayLike, axis: Axes) -> Value:
    """a with axes of length 1 inserted at the given places of the result."""
    a = array_of(a, "expand_dims")
    count = 1 if isinstance(axis, (int, np.integer)) else len(axis or ())
    return insert_axes(a, normal_axes(axis, aval_of(a).ndim + count, "expand_dims"))


@surface(np.broadcast_to, views=True)
def broadcast_to(array: ArrayLike, shape: ShapeLike) -> Value:
    """array repeated to `shape`."""
    array = array_of(array, "broadcast_to")
    wanted, own = as_shape(shape), aval_of(array).shape
    if len(own) > len(wanted) or common_shape("broadcast_to", own, wanted) != wanted:
        raise ShapeError(f"broadcast_to: an array of shape {own} does not broadcast to {wanted}")
    return stretch(array, wanted)


@surface(np.broadcast_arrays)
def broadcast_arrays(*args: ArrayLike) -> tuple[Value, ...]:
    """The arrays repeated to their common shape."""
    arrays = [array_of(a, "broadcast_arrays") for a in args]
    return tuple(broadcast_together("broadcast_arrays", *arrays)) if arrays else ()


@surface(np.atleast_1d, views=True)
def atleast_1d(*arys: ArrayLike) -> Any:
    """The arrays with at least one axis."""
    found = [array_of(a, "atleast_1d") for a in arys]
    return _one_or_all([p.reshape(a, aval_of(a).shape or (1,)) for a in found])


@surface(np.atleast_2d, views=True)
def atleast_2d(*arys: ArrayLike) -> Any:
    """The arrays with at least two axes, new ones in front."""
    found = [array_of(a, "atleast_2d") for a in arys]
    return _one_or_all([insert_axes(a, tuple(range(2 - aval_of(a).ndim))) for a in found])


@surface(np.atleast_3d, views=True)
def atleast_3d(*arys: ArrayLike) -> Any:
    """The arrays with at least three axes; a row becomes (1, n, 1)."""
    places = {0: (0, 1, 2), 1: (0, 2), 2: (2,)}
    found = [array_of(a, "atleast_3d") for a in arys]
    return _one_or_all([insert_axes(a, places.get(aval_of(a).ndim, ())) for a in found])


def _one_or_all(results: list[Value]) -> Any:
    return results[0] if len(results) == 1 else tuple(results)


@surface(np.flip, views=True)
def flip(m: ArrayLike, axis: Axes = None) -> Value:
    """m in reverse order along the axes."""
    m = array_of(m, "flip")
    axes = normal_axes(axis, aval_of(m).ndim, "flip")
    return p.reverse(m, tuple(sorted(axes)))
