"""Editing: insert, resize, trim_zeros, and bits packed into bytes."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from functrans.errors import DtypeError
from functrans.ir import aval_of
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full_like
from functrans.surface.axes import as_shape, normal_axis
from functrans.surface.declare import surface
from functrans.surface.promotion import as_operand, cast, stretch
from functrans.surface.selection import known_truth, take
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike, ShapeLike

BYTE = np.dtype(np.uint8)


@surface(np.insert)
def insert(arr: ArrayLike, obj: Any, values: ArrayLike, axis: int | None = None) -> Value:
    """arr with `values` inserted before the members at `obj` along an axis (flattened if None)."""
    arr = array_of(arr, "insert")
    if axis is None:
        arr, axis = p.reshape(arr, (aval_of(arr).size,)), 0
    place = normal_axis(axis, aval_of(arr).ndim, "insert")
    n = aval_of(arr).shape[place]
    new = cast(as_operand(values, "insert"), aval_of(arr).dtype)
    single = isinstance(obj, (int, np.integer))
    if single and aval_of(new).ndim:
        new = _axis_from_front(new, aval_of(arr).ndim, place)
    count = _count(n, obj, new, place)
    shape = tuple(count if i == place else m for i, m in enumerate(aval_of(arr).shape))
    order = np.insert(np.arange(n), obj, n + np.arange(count))
    return take.body(p.concatenate([arr, stretch(new, shape)], place), order, place)


def _axis_from_front(new: Value, ndim: int, place: int) -> Value:
    """With a single position, the values' first axis is the one inserted along."""
    missing = ndim - aval_of(new).ndim
    new = p.reshape(new, (*(1,) * missing, *aval_of(new).shape))
    return p.transpose(new, (*range(1, place + 1), 0, *range(place + 1, ndim)))


def _count(n: int, obj: Any, new: Value, place: int) -> int:
    """How many members are inserted."""
    if isinstance(obj, slice):
        return len(range(*obj.indices(n)))
    if not isinstance(obj, (int, np.integer)):
        found = np.asarray(obj)
        return int(found.sum()) if found.dtype == bool else found.size
    shape = aval_of(new).shape
    return shape[place] if len(shape) > place else 1


@surface(np.resize)
def resize(a: ArrayLike, new_shape: ShapeLike) -> Value:
    """The elements repeated, or cut, to a new shape."""
    a, shape = array_of(a, "resize"), as_shape(new_shape)
    size = aval_of(a).size
    wanted = int(np.prod(shape))
    flat = p.reshape(a, (size,))
    if size == 0:
        return p.reshape(stretch(aval_of(a).dtype.type(0), (wanted,)), shape)
    times = -(-wanted // size)
    repeated = p.reshape(p.broadcast(flat, (times, size), (0,)), (times * size,))
    return p.reshape(p.slice_axis(repeated, 0, 0, wanted), shape)


@surface(np.trim_zeros)
def trim_zeros(filt: ArrayLike, trim: str = "fb") -> Value:
    """A row without the zeros at its ends; which these are is asked for."""
    row = array_of(filt, "trim_zeros")
    kept = np.flatnonzero(known_truth(row, "trim_zeros"))
    n = aval_of(row).shape[0]
    if not kept.size:
        return p.slice_axis(row, 0, 0, 0)
    start = int(kept[0]) if "f" in trim.lower() else 0
    stop = int(kept[-1]) + 1 if "b" in trim.lower() else n
    return p.slice_axis(row, 0, start, stop)


# -- bits in bytes ----------------------------------------------------------------------------


def _places(shape: tuple[int, ...], bitorder: str) -> Value:
    """How far each of eight bits along the last axis is shifted."""
    if bitorder not in ("big", "little"):
        raise ValueError("'order' must be either 'little' or 'big'")
    ramp = p.iota(shape, BYTE, len(shape) - 1)
    return e.sub(full_like(ramp, 7), ramp) if bitorder == "big" else ramp


@surface(np.unpackbits)
def unpackbits(
    a: ArrayLike, /, axis: int | None = None, count: int | None = None, bitorder: str = "big"
) -> Value:
    """The bits of bytes as elements 0 and 1, along an axis (of the flattened array if None)."""
    a = array_of(a, "unpackbits")
    if aval_of(a).dtype != BYTE:
        raise DtypeError(f"unpackbits: bytes (uint8) are expected, but got {aval_of(a)}")
    a, place = _flat_or_axis(a, axis, "unpackbits")
    a = _axis_last(a, place)
    shape = (*aval_of(a).shape, 8)
    places = _places(shape, bitorder)
    bits = e.shift_right(p.broadcast(a, shape, (len(shape) - 1,)), places)
    bits = e.and_(bits, full_like(bits, 1))
    bits = p.reshape(bits, (*shape[:-2], shape[-2] * 8))
    return _axis_back(_counted(bits, count), place)


def _flat_or_axis(a: Value, axis: int | None, name: str) -> tuple[Value, int]:
    if axis is None:
        return p.reshape(a, (aval_of(a).size,)), 0
    return a, normal_axis(axis, aval_of(a).ndim, name)


def _axis_last(a: Value, place: int) -> Value:
    return p.transpose(a, (*(i for i in range(aval_of(a).ndim) if i != place), place))


def _axis_back(a: Value, place: int) -> Value:
    last = aval_of(a).ndim - 1
    return p.transpose(a, (*range(place), last, *range(place, last)))


def _counted(bits: Value, count: int | None) -> Value:
    """The first `count` bits, with zeros appended where there are fewer; -n leaves the last n."""
    if count is None:
        return bits
    *lead, n = aval_of(bits).shape
    wanted = operator.index(count)
    wanted = n + wanted if wanted < 0 else wanted
    zero = (0,) * len(lead)
    return p.pad(bits, np.uint8(0), (*zero, 0), (*zero, wanted - n))


@surface(np.packbits)
def packbits(a: ArrayLike, /, axis: int | None = None, bitorder: str = "big") -> Value:
    """Elements that are zero or not, as the bits of bytes, along an axis."""
    a = array_of(a, "packbits")
    if aval_of(a).dtype.kind not in "biu":
        raise DtypeError(f"packbits: bools or integers are expected, but got {aval_of(a)}")
    bits = cast(cast(a, np.dtype(bool)), BYTE)
    bits, place = _flat_or_axis(bits, axis, "packbits")
    bits = _axis_last(bits, place)
    *lead, n = aval_of(bits).shape
    zero = (0,) * len(lead)
    bits = p.pad(bits, np.uint8(0), (*zero, 0), (*zero, -n % 8))
    shape = (*lead, -(-n // 8), 8)
    bits = p.reshape(bits, shape)
    moved = e.shift_left(bits, _places(shape, bitorder))
    return _axis_back(p.reduce_sum(moved, (len(shape) - 1,)), place)
