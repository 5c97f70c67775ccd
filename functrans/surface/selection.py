"""Selection: take, take_along_axis, choose, compress, select, nonzero and their relatives.

What decides the shape of a result (the mask of compress, the zeros of nonzero) is asked for its
values; the elements chosen keep their derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import DtypeError, ShapeError
from functrans.ir import aval_of
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full_like
from functrans.primitives.indexing import gather_p
from functrans.surface.axes import normal_axis
from functrans.surface.declare import surface
from functrans.surface.indexing import plan, take_plan
from functrans.surface.promotion import (
    BOOL,
    INT,
    as_operand,
    broadcast_together,
    cast,
    common_shape,
    promote,
    stretch,
)
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike


def gather(x: Value, indices: Sequence[Value], axes: tuple[int, ...], mode: str = "raise") -> Value:
    """The elements of x at int64 positions along `axes`; the index axes come first."""
    return bind(gather_p, x, *indices, axes=axes, mode=mode)[0]


def positions(indices: ArrayLike, name: str) -> Value:
    """Integer indices as int64."""
    found = as_operand(indices, name)
    if aval_of(found).dtype.kind not in "iub" or aval_of(found).dtype == BOOL:
        raise DtypeError(f"{name}: the indices must be integers, but are {aval_of(found)}")
    return cast(found, INT)


_MODES = ("raise", "clip", "wrap", "fill")


@surface(np.take)
def take(
    a: ArrayLike, indices: ArrayLike, axis: int | None = None, *, mode: str = "raise"
) -> Value:
    """The members of a at `indices` along an axis (of the flattened array by default)."""
    a, found = array_of(a, "take"), positions(indices, "take")
    if axis is None:
        a, axis = p.reshape(a, (aval_of(a).size,)), 0
    place = normal_axis(axis, aval_of(a).ndim, "take")
    if mode not in _MODES:
        raise ValueError(f"take: mode must be 'raise', 'clip', 'wrap' or 'fill', not {mode!r}")
    found, how = _in_mode(found, aval_of(a).shape[place], mode)
    index = (slice(None),) * place + (found,)
    return take_plan(a, plan(aval_of(a).shape, index), how)


def _in_mode(indices: Value, n: int, mode: str) -> tuple[Value, str]:
    """Indices and the gather mode that mean NumPy's `mode`; its clip has no negative indices."""
    if mode == "wrap":
        return e.remainder(indices, full_like(indices, n)), "clip"
    if mode == "clip":
        return e.max(indices, full_like(indices, 0)), "clip"
    return indices, mode


@surface(np.take_along_axis)
def take_along_axis(arr: ArrayLike, indices: ArrayLike, axis: int | None = -1) -> Value:
    """The elements of arr that `indices` names along one axis, position by position."""
    arr, found = array_of(arr, "take_along_axis"), positions(indices, "take_along_axis")
    if axis is None:
        arr, axis = p.reshape(arr, (aval_of(arr).size,)), 0
    grids, axes = along_axis(arr, found, axis, "take_along_axis")
    return gather(arr, grids, axes)


def along_axis(
    arr: Value, found: Value, axis: int, name: str
) -> tuple[list[Value], tuple[int, ...]]:
    """The index arrays of every axis, all in one shape, for indices along one axis."""
    ndim = aval_of(arr).ndim
    if aval_of(found).ndim != ndim:
        raise ShapeError(f"{name}: `indices` and `arr` must have the same number of dimensions")
    place = normal_axis(axis, ndim, name)
    shape, given = aval_of(arr).shape, aval_of(found).shape
    rest = [
        common_shape(name, shape[i : i + 1], given[i : i + 1])[0] if i != place else given[i]
        for i in range(ndim)
    ]
    found = stretch(found, tuple(rest))
    grids = [found if i == place else _along(tuple(rest), i, shape[i]) for i in range(ndim)]
    return grids, tuple(range(ndim))


def _along(shape: tuple[int, ...], axis: int, n: int) -> Value:
    """The position along one axis, or zeros where that axis is stretched."""
    ramp = p.iota(shape, INT, axis)
    return full_like(ramp, 0) if n == 1 else ramp


@surface(np.choose)
def choose(a: ArrayLike, choices: Sequence[ArrayLike], *, mode: str = "raise") -> Value:
    """The element of the a-th choice at every position."""
    options = promote(*(as_operand(c, "choose") for c in choices))
    index, *options = broadcast_together("choose", positions(a, "choose"), *options)
    index, how = _in_mode(index, len(options), mode)
    if not aval_of(index).shape:
        rows = p.concatenate([p.broadcast(o, (1,), (0,)) for o in options], 0)
        return gather(rows, [index], (0,), how)
    shape = aval_of(index).shape
    rows = p.concatenate([p.broadcast(o, (1, *shape), (0,)) for o in options], 0)
    here = [p.iota(shape, INT, i) for i in range(len(shape))]
    return gather(rows, [index, *here], tuple(range(len(shape) + 1)), how)


@surface(np.select)
def select(
    condlist: Sequence[ArrayLike], choicelist: Sequence[ArrayLike], default: ArrayLike = 0
) -> Value:
    """The choice of the first condition that holds, the default where none does."""
    if len(condlist) != len(choicelist) or not condlist:
        raise ValueError("select: give as many choices as conditions, and at least one")
    values = promote(*(as_operand(v, "select") for v in (*choicelist, default)))
    conditions = [cast(as_operand(c, "select"), BOOL) for c in condlist]
    together = broadcast_together("select", *conditions, *values)
    masks, values = together[: len(conditions)], together[len(conditions) :]
    result = values[-1]
    for mask, value in zip(reversed(masks), reversed(values[:-1]), strict=True):
        result = p.select(mask, value, result)
    return result


# -- results whose shape depends on values --------------------------------------------------------


def known_truth(x: ArrayLike, name: str) -> np.ndarray[Any, Any]:
    """Where x is not zero; x is asked for its values."""
    return np.asarray(cast(array_of(x, name), BOOL))


@surface(np.nonzero)
def nonzero(a: ArrayLike) -> tuple[np.ndarray[Any, Any], ...]:
    """The positions of the values that are not zero. The values of a are asked for."""
    return known_truth(a, "nonzero").nonzero()


@surface(np.flatnonzero)
def flatnonzero(a: ArrayLike) -> np.ndarray[Any, Any]:
    """The positions in the flattened array of the values that are not zero."""
    return np.flatnonzero(known_truth(a, "flatnonzero"))


@surface(np.argwhere)
def argwhere(a: ArrayLike) -> np.ndarray[Any, Any]:
    """The positions of the values that are not zero, one per row."""
    return np.argwhere(known_truth(a, "argwhere"))


@surface(np.compress)
def compress(condition: ArrayLike, a: ArrayLike, axis: int | None = None) -> Value:
    """The members of a along an axis where the condition holds; the condition is asked for."""
    keep = known_truth(condition, "compress")
    return take.body(a, np.flatnonzero(keep), axis)


@surface(name="compress")
def compress_method(x: ArrayLike, /, condition: ArrayLike, axis: int | None = None) -> Value:
    """The members of x along an axis where the condition holds."""
    return compress.body(condition, x, axis)


@surface(np.extract)
def extract(condition: ArrayLike, arr: ArrayLike) -> Value:
    """The elements of arr, flattened, where the condition holds."""
    return take.body(arr, np.flatnonzero(known_truth(condition, "extract")))


@surface(np.delete)
def delete(arr: ArrayLike, obj: Any, axis: int | None = None) -> Value:
    """arr without the members at `obj` along an axis."""
    arr = array_of(arr, "delete")
    if axis is None:
        arr, axis = p.reshape(arr, (aval_of(arr).size,)), 0
    place = normal_axis(axis, aval_of(arr).ndim, "delete")
    known = np.asarray(obj) if hasattr(obj, "aval") else obj
    kept = np.delete(np.arange(aval_of(arr).shape[place]), known)
    return take.body(arr, kept, place)
