"""Index plans: what `x[index]` asks for, read by NumPy's basic, advanced and mask rules.

A plan is data: which slices to take, which integer arrays to gather by, where new axes go.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from functrans.errors import DtypeError, OutOfBoundsError, describe
from functrans.ir import aval_of
from functrans.ir.aval import Shape
from functrans.primitives.derive import Value
from functrans.surface.axes import as_int
from functrans.surface.promotion import INT, as_operand, broadcast_together, cast

Index: TypeAlias = Any


class Plan(NamedTuple):
    """How to take `x[index]` apart.

    slices    one per axis of x, applied first (whole axes for those indexed by arrays)
    reversed  the axes to turn round after slicing
    arrays    axis -> int64 index, all of one shape; empty where the index is basic
    first     where the axes of `arrays` come among those of the result, before new axes
    dropped   axes of x taken by an int, when there are no arrays
    new       places of new axes in the result
    basic     is it a view in NumPy?
    """

    slices: tuple[range, ...]
    reversed: tuple[int, ...]
    arrays: dict[int, Value]
    first: int
    dropped: tuple[int, ...]
    new: tuple[int, ...]
    basic: bool


# -- reading an index -------------------------------------------------------------------------


def plan(shape: Shape, index: Index) -> Plan:
    """Read an index of an array of `shape`. IndexError for what NumPy does not take either."""
    items = _expand(index if isinstance(index, tuple) else (index,), len(shape))
    return _assemble(shape, items)


def _expand(items: Sequence[Any], ndim: int) -> list[Any]:
    """The items with masks as positions and the ellipsis spelt out."""
    read = [part for item in items for part in _read(item)]
    used = sum(1 for item in read if item is not None and item is not ...)
    if sum(1 for item in read if item is ...) > 1:
        raise OutOfBoundsError("an index can only have a single ellipsis ('...')")
    if used > ndim:
        raise OutOfBoundsError(
            f"too many indices for array: array is {ndim}-dimensional, but {used} were indexed. "
            "Give at most one index for each axis; None makes new ones."
        )
    rest = [builtins.slice(None)] * (ndim - used)
    place = next((i for i, item in enumerate(read) if item is ...), len(read))
    return [*read[:place], *rest, *read[place + 1 :]]


def _read(item: Any) -> list[Any]:
    """One item of an index as ints, slices, None, ellipsis and integer operands."""
    if item is None or item is ... or isinstance(item, builtins.slice):
        return [item]
    if type(item) is int or (isinstance(item, np.integer) and not isinstance(item, np.bool_)):
        return [int(item)]
    value = np.asarray(item, INT) if isinstance(item, (list, tuple)) and not item else item
    try:
        value = as_operand(value, "indexing")
    except TypeError:
        raise _bad_index(item) from None
    kind = aval_of(value).dtype.kind
    if kind == "b":
        return _mask_positions(value)
    if kind not in "iu":
        raise _bad_index(item)
    return [cast(value, INT)]


def _bad_index(item: Any) -> OutOfBoundsError:
    return OutOfBoundsError(
        "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer "
        f"or boolean arrays are valid indices, but got {describe(item)}. Convert a float with "
        "int(i), an array of them with astype(int)."
    )


def _mask_positions(mask: Value) -> list[Any]:
    """The positions where a mask holds, one index array per axis; it is asked for its values."""
    known = np.asarray(mask)
    if known.ndim == 0:
        raise DtypeError("indexing by a single bool is not supported while tracing; use where")
    return [Positions(found, n) for found, n in zip(known.nonzero(), known.shape, strict=True)]


class Positions(NamedTuple):
    """Where a mask of `length` holds along one axis."""

    places: np.ndarray[Any, Any]
    length: int


def _assemble(shape: Shape, items: Sequence[Any]) -> Plan:
    slices: list[range] = []
    ints: dict[int, Any] = {}
    arrays: dict[int, Value] = {}
    kinds: list[str] = []
    for item in items:
        axis = len(slices)
        if item is None:
            kinds.append("new")
            continue
        n = shape[axis]
        if isinstance(item, builtins.slice):
            slices.append(_range(item, n))
            kinds.append("slice")
            continue
        slices.append(range(n))
        kinds.append("array")
        if type(item) is int:
            ints[axis] = _in_bounds(item, n, axis)
        else:
            arrays[axis] = _positions(item, n, axis)
    return _with_arrays(slices, ints, arrays, kinds) if arrays else _basic(slices, ints, kinds)


def _positions(item: Any, n: int, axis: int) -> Value:
    if not isinstance(item, Positions):
        return item
    if item.length != n:
        raise OutOfBoundsError(
            f"boolean index did not match indexed array along axis {axis}; size of axis is {n} "
            f"but size of corresponding boolean axis is {item.length}. Make the mask from the "
            "array "
            "itself, or index with integers."
        )
    return item.places.astype(INT)


def _range(item: builtins.slice, n: int) -> range:
    """The positions that a slice takes; bounds given as tracers are asked for their values."""
    bounds = (item.start, item.stop, item.step)
    if not all(b is None or type(b) is int for b in bounds):
        item = builtins.slice(
            *(b if b is None else as_int(b, "a bound of a slice") for b in bounds)
        )
    return range(*item.indices(n))


def _in_bounds(index: int, n: int, axis: int) -> int:
    if not -n <= index < n:
        raise OutOfBoundsError(f"index {index} is out of bounds for axis {axis} with size {n}.")
    return index % n


def _basic(slices: list[range], ints: dict[int, int], kinds: list[str]) -> Plan:
    for axis, at in ints.items():
        slices[axis] = range(at, at + 1)
    kept = [k for k in kinds if k != "array"]
    return Plan(
        slices=tuple(map(_ascending, slices)),
        reversed=tuple(i for i, r in enumerate(slices) if r.step < 0 and len(r) > 1),
        arrays={},
        first=0,
        dropped=tuple(ints),
        new=tuple(i for i, k in enumerate(kept) if k == "new"),
        basic=True,
    )


def _with_arrays(
    slices: list[range], ints: dict[int, int], arrays: dict[int, Value], kinds: list[str]
) -> Plan:
    """Ints beside arrays are arrays too, and broadcast with them."""
    given = {**arrays, **{axis: np.int64(at) for axis, at in ints.items()}}
    axes = sorted(given)
    together = broadcast_together("indexing", *(given[a] for a in axes))
    places = [i for i, k in enumerate(kinds) if k == "array"]
    adjacent = places == list(range(places[0], places[-1] + 1))
    first = sum(k == "slice" for k in kinds[: places[0]]) if adjacent else 0
    new_before = sum(k == "new" for k in kinds[: places[0]]) if adjacent else 0
    index_ndim = aval_of(together[0]).ndim
    return Plan(
        slices=tuple(map(_ascending, slices)),
        reversed=tuple(i for i, r in enumerate(slices) if r.step < 0 and len(r) > 1),
        arrays=dict(zip(axes, together, strict=True)),
        first=first,
        dropped=(),
        new=_new_places(kinds, adjacent, new_before + first, index_ndim),
        basic=all(aval_of(a).ndim == 0 for a in arrays.values()),
    )


def _new_places(kinds: list[str], adjacent: bool, before: int, index_ndim: int) -> tuple[int, ...]:
    """Where the new axes lie in the result, whose index axes stand together."""
    layout = [k for k in kinds if k != "array"]
    at = before if adjacent else 0
    layout[at:at] = ["index"] * index_ndim
    return tuple(i for i, k in enumerate(layout) if k == "new")


def _ascending(r: range) -> range:
    """The same positions in increasing order."""
    return r if r.step > 0 else r[::-1] if len(r) else range(0)
