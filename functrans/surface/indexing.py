"""Indexing: `x[index]` and its functional update, with NumPy's basic, advanced and mask rules.

Basic parts become slice, reverse and reshape; integer arrays become one gather or scatter. A
boolean mask is turned into positions, for which its values are asked, except where the update
is the same whatever the mask.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import DtypeError, ShapeError, describe
from functrans.ir import Aval, aval_of
from functrans.ir.aval import Shape
from functrans.memo import fast
from functrans.primitives import elementwise as e
from functrans.primitives import indexing as g
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full
from functrans.surface.declare import hooks, surface
from functrans.surface.index_plan import Index, Plan, plan
from functrans.surface.promotion import (
    BOOL,
    as_operand,
    as_strong,
    cast,
    common_shape,
    stretch,
)
from functrans.typing import ArrayLike

# -- taking -----------------------------------------------------------------------------------


def take_plan(x: Value, how: Plan, mode: str = "raise") -> Value:
    """x taken apart as the plan says."""
    x = _sliced(x, how)
    if how.arrays:
        x = _gathered(x, how, mode)
    elif how.dropped:
        x = p.reshape(x, p.without(aval_of(x).shape, how.dropped))
    return _with_new_axes(x, how.new)


def _sliced(x: Value, how: Plan) -> Value:
    r = how.slices
    starts = tuple(i.start if len(i) else 0 for i in r)
    limits = tuple(i[-1] + 1 if len(i) else 0 for i in r)
    x = p.slice(x, starts, limits, tuple(i.step if len(i) > 1 else 1 for i in r))
    return p.reverse(x, how.reversed)


def _gathered(x: Value, how: Plan, mode: str) -> Value:
    axes = tuple(how.arrays)
    index_ndim = aval_of(how.arrays[axes[0]]).ndim
    result = bind(g.gather_p, x, *how.arrays.values(), axes=axes, mode=mode)[0]
    return p.transpose(result, _index_axes_moved(aval_of(result).ndim, index_ndim, how.first))


def _index_axes_moved(ndim: int, index_ndim: int, first: int) -> tuple[int, ...]:
    """The permutation that takes the leading index axes to place `first`."""
    rest = list(range(index_ndim, ndim))
    return (*rest[:first], *range(index_ndim), *rest[first:])


def _with_new_axes(x: Value, new: tuple[int, ...]) -> Value:
    shape = list(aval_of(x).shape)
    for place in new:
        shape.insert(place, 1)
    return p.reshape(x, tuple(shape))


@surface(operator.getitem, quick=fast.binary_operator)
def getitem(x: ArrayLike, index: Index, /) -> Value:
    """x[index], by NumPy's rules: ints, slices, None, ellipsis, integer arrays and masks."""
    x = as_strong(as_operand(x, "indexing"))
    how = plan(aval_of(x).shape, index)
    result = take_plan(x, how)
    if not how.basic or (aval_of(result).shape == () and not _has_ellipsis(index)):
        return result
    return hooks.view(result, x, SameView(index))


getitem.declaration.is_index = True


class SameView:
    """Takes the view x[index] of another array; `traced` says that the index has no known value.

    Of a plain array it takes a plain view, but a traced result where the index is traced.
    """

    __slots__ = ("index", "traced")

    def __init__(self, index: Index) -> None:
        self.index = index
        self.traced = _is_traced(index)

    def __call__(self, base: Any) -> Value:
        if isinstance(base, np.ndarray) and not self.traced:
            return base[self.index]
        return take_plan(base, plan(aval_of(base).shape, self.index))


def _has_ellipsis(index: Index) -> bool:
    return any(item is ... for item in (index if isinstance(index, tuple) else (index,)))


def _is_traced(index: Index) -> bool:
    items = index if isinstance(index, tuple) else (index,)
    return any(isinstance(getattr(item, "aval", None), Aval) for item in items)


# -- updating ---------------------------------------------------------------------------------


def _assign(old: Value, new: Value) -> Value:
    return new


def _with(primitive: Any) -> Callable[[Value, Value], Value]:
    return lambda old, new: bind(primitive, old, new)[0]


COMBINE: dict[str, tuple[Callable[[Value, Value], Value], Any]] = {
    "set": (_assign, g.scatter_p),
    "add": (_with(e.add_p), g.scatter_add_p),
    "mul": (_with(e.mul_p), g.scatter_mul_p),
    "min": (_with(e.min_p), g.scatter_min_p),
    "max": (_with(e.max_p), g.scatter_max_p),
}
"""How an update meets the old value: elementwise, and the scatter of the same meaning."""


def put(
    x: ArrayLike, index: Index, value: ArrayLike, combine: str = "set", mode: str = "raise"
) -> Value:
    """A copy of x in which `x[index]` is replaced by, or combined with, `value`.

    `value` broadcasts to the shape of `x[index]` and is converted to x's dtype. With "set" the
    last of several updates of one element wins; the others combine them all. `mode` says what
    becomes of indices out of bounds: "raise" or "drop".
    """
    x = as_strong(as_operand(x, "indexing"))
    value = _value_for(x, value)
    mask = _lone_mask(index)
    if mask is not None and _same_for_any_mask(x, mask, value):
        return _put_where(x, mask, value, combine)
    how = plan(aval_of(x).shape, index)
    value = stretch_value(value, _result_shape(how))
    value = _without_axes(value, how.new)
    if not how.arrays:
        return _put_region(x, how, value, combine)
    whole_axes = all(r == range(n) for r, n in zip(how.slices, aval_of(x).shape, strict=True))
    if whole_axes and not how.reversed:
        return _put_arrays(x, how, value, combine, mode)
    whole = Plan(
        tuple(map(range, aval_of(_sliced(x, how)).shape)), (), how.arrays, how.first, (), (), False
    )
    inner = _put_arrays(_sliced(x, how), whole, value, combine, mode)
    return _put_region(x, Plan(how.slices, how.reversed, {}, 0, (), (), True), inner, "set")


def _value_for(x: Value, value: ArrayLike) -> Value:
    value = as_operand(value, "item assignment")
    dtype = aval_of(x).dtype
    if aval_of(value).dtype.kind == "c" and dtype.kind != "c":
        raise DtypeError(
            f"cannot write {describe(value)} to an array of dtype {dtype.name}, which would lose "
            "its imaginary part; take value.real, or make the array complex"
        )
    return cast(value, dtype)


def stretch_value(value: Value, shape: Shape) -> Value:
    """The value to be written, in the shape of the place; leading axes of length 1 may go."""
    own = aval_of(value).shape
    while len(own) > len(shape) and own[0] == 1:
        own = own[1:]
    try:
        fits = len(own) <= len(shape) and common_shape("put", own, shape) == shape
    except ShapeError:
        fits = False
    if not fits:
        raise ShapeError(
            f"could not broadcast input array from shape {aval_of(value).shape} into shape "
            f"{shape}. "
            "Write to a part of that shape, or reshape what is written."
        )
    return stretch(p.reshape(value, own), shape)


def _result_shape(how: Plan) -> Shape:
    """The shape of x[index]."""
    lengths = tuple(map(len, how.slices))
    if how.arrays:
        shape = list(p.without(lengths, tuple(how.arrays)))
        shape[how.first : how.first] = aval_of(next(iter(how.arrays.values()))).shape
    else:
        shape = list(p.without(lengths, how.dropped))
    for place in how.new:
        shape.insert(place, 1)
    return tuple(shape)


def _without_axes(value: Value, axes: tuple[int, ...]) -> Value:
    return p.reshape(value, p.without(aval_of(value).shape, axes))


def _put_arrays(x: Value, how: Plan, value: Value, combine: str, mode: str) -> Value:
    axes = tuple(how.arrays)
    ndim, index_ndim = aval_of(value).ndim, aval_of(how.arrays[axes[0]]).ndim
    moved = _index_axes_moved(ndim, index_ndim, how.first)
    updates = p.transpose(value, p.inverse_permutation(moved))
    scatter = COMBINE[combine][1]
    return bind(scatter, x, updates, *how.arrays.values(), axes=axes, mode=mode)[0]


def _put_region(x: Value, how: Plan, value: Value, combine: str) -> Value:
    """Write a region cut out by slices and ints."""
    aval = aval_of(x)
    lengths = tuple(map(len, how.slices))
    if 0 in lengths:
        return x
    value = p.reverse(p.reshape(value, lengths), how.reversed)
    flat = Plan(how.slices, (), {}, 0, (), (), True)
    value = COMBINE[combine][0](_sliced(x, flat), value) if combine != "set" else value
    if lengths == aval.shape:
        return value
    if all(r.step == 1 or len(r) == 1 for r in how.slices):
        starts = [np.int64(r.start) for r in how.slices]
        return bind(g.dynamic_update_slice_p, x, value, *starts)[0]
    return _put_strided(x, how.slices, value)


def _put_strided(x: Value, slices: tuple[range, ...], value: Value) -> Value:
    """Spread the value out to x's shape and choose it where it landed."""
    aval = aval_of(x)
    low = tuple(r.start for r in slices)
    high = tuple(n - 1 - r[-1] for r, n in zip(slices, aval.shape, strict=True))
    gaps = tuple(r.step - 1 if len(r) > 1 else 0 for r in slices)
    spread = p.pad(value, aval.dtype.type(0), low, high, gaps)
    landed = p.pad(full(True, Aval(aval_of(value).shape, BOOL)), np.False_, low, high, gaps)
    return p.select(landed, spread, x)


# -- masks whose values need not be known -------------------------------------------------------


def _lone_mask(index: Index) -> Value | None:
    """The mask, when the index is one boolean array and nothing else."""
    if isinstance(index, tuple):
        return None
    aval = getattr(index, "aval", None)
    if isinstance(index, np.ndarray):
        return index if index.dtype == BOOL else None
    return index if isinstance(aval, Aval) and aval.dtype == BOOL and not aval.weak else None


def _same_for_any_mask(x: Value, mask: Value, value: Value) -> bool:
    """Does the update not depend on how many places the mask has?"""
    shape, covered = aval_of(x).shape, aval_of(mask).shape
    return shape[: len(covered)] == covered and aval_of(value).ndim <= len(shape) - len(covered)


def _put_where(x: Value, mask: Value, value: Value, combine: str) -> Value:
    shape, covered = aval_of(x).shape, aval_of(mask).shape
    mask = p.broadcast(mask, shape, tuple(range(len(covered), len(shape))))
    new = COMBINE[combine][0](x, stretch_value(value, shape))
    return p.select(mask, new, x)
