"""Sorting and searching: sort, argsort, lexsort, partition, searchsorted, digitize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import ShapeError
from functrans.ir import aval_of
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full, full_like
from functrans.primitives.indexing import gather
from functrans.primitives.ordering import sort_p
from functrans.primitives.reduction import cumsum_p
from functrans.surface.axes import normal_axis
from functrans.surface.declare import surface
from functrans.surface.promotion import INT, as_operand, cast, promote
from functrans.surface.selection import take
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike


def ordered(operands: Sequence[Value], axis: int, num_keys: int) -> list[Value]:
    """All operands in the stable order of the first `num_keys`, along one axis."""
    return bind(sort_p, *operands, axis=axis, num_keys=num_keys)


def _keys(a: Value) -> list[Value]:
    """What to sort by: the values, or real and imaginary parts of complex ones."""
    return [p.real(a), p.imag(a)] if aval_of(a).dtype.kind == "c" else [a]


def _flat(a: Value, axis: int | None, name: str) -> tuple[Value, int]:
    if axis is None:
        return p.reshape(a, (aval_of(a).size,)), 0
    return a, normal_axis(axis, aval_of(a).ndim, name)


@surface(np.sort)
def sort(
    a: ArrayLike, axis: int | None = -1, kind: Any = None, *, stable: bool | None = None
) -> Value:
    """The values in increasing order along an axis, NaN last. Always stable."""
    a, place = _flat(array_of(a, "sort"), axis, "sort")
    keys = _keys(a)
    result = ordered(keys, place, len(keys))
    return result[0] if len(keys) == 1 else p.complex(*result)


@surface(np.argsort)
def argsort(
    a: ArrayLike, axis: int | None = -1, kind: Any = None, *, stable: bool | None = None
) -> Value:
    """The positions that put the values in increasing order along an axis. Always stable."""
    a, place = _flat(array_of(a, "argsort"), axis, "argsort")
    keys = _keys(a)
    return ordered([*keys, p.iota(aval_of(a).shape, INT, place)], place, len(keys))[-1]


@surface(np.partition)
def partition(a: ArrayLike, kth: Any, axis: int | None = -1, kind: str = "introselect") -> Value:
    """The values with the kth in its sorted place; here the whole array is sorted."""
    return sort.body(a, axis)


@surface(np.argpartition)
def argpartition(a: ArrayLike, kth: Any, axis: int | None = -1, kind: str = "introselect") -> Value:
    """The positions of `partition`; here those of the sorted array."""
    return argsort.body(a, axis)


@surface(np.lexsort)
def lexsort(keys: Sequence[ArrayLike], axis: int = -1) -> Value:
    """The positions that sort by the last key, ties by the one before, and so on."""
    operands = [part for k in keys[::-1] for part in _keys(array_of(k, "lexsort"))]
    place = normal_axis(axis, aval_of(operands[0]).ndim, "lexsort")
    index = p.iota(aval_of(operands[0]).shape, INT, place)
    return ordered([*operands, index], place, len(operands))[-1]


@surface(np.sort_complex)
def sort_complex(a: ArrayLike) -> Value:
    """The values as complex numbers, sorted by real part, then imaginary part."""
    a = array_of(a, "sort_complex")
    dtype = aval_of(a).dtype
    small = (dtype.kind in "biu" and dtype.itemsize <= 2) or dtype.name == "float16"
    return sort.body(cast(a, np.dtype(np.complex64 if small else np.result_type(dtype, 1j))))


@surface(np.searchsorted)
def searchsorted(
    a: ArrayLike, v: ArrayLike, side: str = "left", sorter: ArrayLike | None = None
) -> Value:
    """Where the values v belong in the sorted array a: before ("left") or after equal ones."""
    if side not in ("left", "right"):
        raise ValueError(f"searchsorted: side must be 'left' or 'right', but got {side!r}")
    row, wanted = promote(as_operand(a, "searchsorted"), as_operand(v, "searchsorted"))
    if aval_of(row).ndim != 1:
        raise ShapeError(f"searchsorted: `a` must have one dimension, but is {aval_of(row)}")
    if sorter is not None:
        row = take.body(row, sorter)
    shape = aval_of(wanted).shape
    flat = p.reshape(wanted, (aval_of(wanted).size,))
    return p.reshape(_ranks(row, flat, side), shape)


def _ranks(row: Value, wanted: Value, side: str) -> Value:
    """How many of `row` come before each wanted value."""
    if aval_of(row).size == 0:
        return full(0, aval_of(wanted).with_dtype(INT))
    if aval_of(row).dtype.kind == "c":
        return _ranks_by_sorting(row, wanted, side)
    found = _ranks_by_halving(row, wanted, side)
    return found if aval_of(row).dtype.kind in "biu" else _nan_last(found, row, wanted, side)


def _ranks_by_halving(row: Value, wanted: Value, side: str) -> Value:
    """Binary search of all wanted values at once, in steps that depend on the row's length alone.

    The answer lies in [place, place + length]. NaN comes before nothing and after nothing.
    """
    come_before = e.lt if side == "left" else e.le
    place = full(0, aval_of(wanted).with_dtype(INT))

    def step(place: Value, half: int) -> Value:
        """Past `half` elements where the last of them comes before the wanted value."""
        last = e.add(place, full_like(place, half - 1))
        is_past = come_before(gather(row, [last], (0,), "clip"), wanted)
        return p.select(is_past, e.add(place, full_like(place, half)), place)

    length = aval_of(row).size
    while length > 1:
        half = length // 2
        place, length = step(place, half), length - half
    return step(place, 1)


def _nan_last(found: Value, row: Value, wanted: Value, side: str) -> Value:
    """NaN belongs after all numbers, and before or after the NaNs of the row."""
    n = full_like(found, aval_of(row).size)
    if side == "left":
        nans = p.reduce_sum(cast(e.is_nan(row), INT), (0,))
        n = e.sub(n, p.broadcast(nans, aval_of(found).shape, (0,)))
    return p.select(e.is_nan(wanted), n, found)


def _ranks_by_sorting(row: Value, wanted: Value, side: str) -> Value:
    """The ranks of values in the order of `sort`: both are sorted together."""
    n, m = aval_of(row).size, aval_of(wanted).size
    values = p.concatenate([wanted, row] if side == "left" else [row, wanted], 0)
    is_row = _marks(n, m, first=side == "right")
    place = p.iota((n + m,), INT)
    keys = _keys(values)
    *_, row_mark, source = ordered([*keys, is_row, place], 0, len(keys))
    before = e.sub(_running_total(row_mark), row_mark)
    found = ordered([source, before], 0, 1)[1]
    start = 0 if side == "left" else n
    return p.slice_axis(found, 0, start, start + m)


def _marks(n: int, m: int, first: bool) -> Value:
    """1 for the n elements of the row, 0 for the m wanted ones."""
    place = p.iota((n + m,), INT)
    edge = full_like(place, n if first else m)
    return cast(e.lt(place, edge) if first else e.ge(place, edge), INT)


def _running_total(x: Value) -> Value:
    return bind(cumsum_p, x, axis=0, reverse=False)[0]


@surface(np.digitize)
def digitize(x: ArrayLike, bins: ArrayLike, right: bool = False) -> Value:
    """The number of the bin that each value falls in; the bins may decrease."""
    bins = array_of(bins, "digitize")
    rising = searchsorted.body(bins, x, "left" if right else "right")
    (n,) = aval_of(bins).shape
    turned = searchsorted.body(p.reverse(bins, (0,)), x, "right" if right else "left")
    falling = e.sub(full_like(turned, n), turned)
    if n < 2:
        return rising
    ends = p.slice_axis(bins, 0, 0, 1), p.slice_axis(bins, 0, n - 1, n)
    is_rising = p.reshape(e.le(*ends), ())
    shape = aval_of(rising).shape
    return p.select(p.broadcast(is_rising, shape, tuple(range(len(shape)))), rising, falling)
