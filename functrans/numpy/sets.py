"""Sets: unique values, membership, unions; the values are asked for, since they decide shapes.

The elements that come out are elements of the operands, and keep their derivatives.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import UnsupportedError
from functrans.ir import Aval, aval_of
from functrans.primitives import elementwise as e
from functrans.primitives import indexing as g
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full
from functrans.surface import accumulations, creation, joining
from functrans.surface.axes import normal_axis
from functrans.surface.declare import surface
from functrans.surface.known import known_values
from functrans.surface.promotion import INT, as_operand, cast, promote
from functrans.surface.reductions import any as any_true
from functrans.surface.selection import take
from functrans.surface.shaping import array_of
from functrans.surface.sorting import ordered
from functrans.typing import ArrayLike

_SORT = (
    "Shapes cannot depend on values: sort the values (fnp.sort) and compare each with the one "
    "before it"
)


def known(x: Value) -> np.ndarray[Any, Any]:
    """The values of x, whose differences decide the shape of the result."""
    return known_values(x, _SORT)


def _flat(x: ArrayLike, name: str) -> Value:
    x = array_of(x, name)
    return p.reshape(x, (aval_of(x).size,))


@surface(np.unique, beyond=("size", "fill_value"))
def unique(
    ar: ArrayLike,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
    size: int | None = None,
    fill_value: ArrayLike | None = None,
) -> Any:
    """The different values in increasing order, with their places and counts on request.

    With `size` there are as many, also where the values are not known: the first ones, then
    `fill_value`, by default the least value; the places of what fills are that of the first, its
    counts 0.

    >>> from functrans import jit
    >>> jit(lambda x: unique(x, size=4, fill_value=-1))(np.array([3, 1, 3, 1, 2]))
    array([ 1,  2,  3, -1])
    """
    ar = array_of(ar, "unique")
    if size is not None:
        if axis is not None:
            raise UnsupportedError("unique: with `size` the array is flattened; leave out `axis`.")
        found = _sized_unique(_flat(ar, "unique"), operator.index(size), fill_value, equal_nan)
        wanted = (True, return_index, return_inverse, return_counts)
        found[2] = p.reshape(found[2], aval_of(ar).shape)
        given = [part for part, is_wanted in zip(found, wanted, strict=True) if is_wanted]
        return tuple(given) if len(given) > 1 else given[0]
    place = None if axis is None else normal_axis(axis, aval_of(ar).ndim, "unique")
    _, index, *others = np.unique(
        known(ar), True, return_inverse, return_counts, place, equal_nan=equal_nan
    )
    values = take.body(ar, index, place)
    extras = [index, *others] if return_index else others
    return (values, *extras) if extras else values


def _sized_unique(
    x: Value, size: int, fill_value: ArrayLike | None, equal_nan: bool
) -> list[Value]:
    """So many different values of a line, and for each its first place and how often it occurs.

    In the order of `unique`: values, places, which of them every element is, counts.
    """
    n, dtype = aval_of(x).size, aval_of(x).dtype
    if dtype.kind == "c":
        raise UnsupportedError("unique: with `size` the values must be real.")
    if n == 0 and size and fill_value is None:
        raise ValueError("unique: no values to fill up with; give fill_value")
    places = creation.arange.body(n)
    line, order = ordered([x, places], 0, 1)
    before, after = (p.slice_axis(line, 0, *ends) for ends in ((0, max(n - 1, 0)), (min(n, 1), n)))
    differs = e.ne(before, after)
    if equal_nan and dtype.kind == "f":
        differs = e.and_(differs, e.eq(before, before))
    # The first is one, and each that differs from the one before it.
    starts = p.concatenate([full(True, aval_of(differs).with_shape((min(n, 1),))), differs], 0)
    group = e.sub(accumulations.cumsum.body(cast(starts, INT), 0), full(1, aval_of(order)))
    base = full(0, aval_of(order).with_shape((size,)))
    ends = full(n, aval_of(base))
    first = bind(g.scatter_min_p, ends, order, group, axes=(0,), mode="drop")[0]
    ones = full(1, aval_of(order))
    counts = bind(g.scatter_add_p, base, ones, group, axes=(0,), mode="drop")[0]
    inverse = bind(g.scatter_p, full(0, aval_of(order)), group, order, axes=(0,), mode="drop")[0]
    is_there = e.gt(counts, base)
    if size:
        least = p.reshape(p.slice_axis(first, 0, 0, 1), ())
        first = p.select(is_there, first, p.broadcast(least, (size,), (0,)))
    return [_filled(x, first, is_there, fill_value), first, inverse, counts]


def _filled(x: Value, first: Value, is_there: Value, fill_value: ArrayLike | None) -> Value:
    """The elements where there are some, else what fills."""
    dtype, shape = aval_of(x).dtype, aval_of(first).shape
    taken = take.body(x, first, mode="clip") if aval_of(x).size else full(0, Aval(shape, dtype))
    if fill_value is None:
        return taken
    filling = cast(as_operand(fill_value, "unique"), dtype)
    return p.select(is_there, taken, p.broadcast(filling, shape, (0,)))


@surface(np.unique_values)
def unique_values(x: ArrayLike, /) -> Value:
    """The different values."""
    return unique.body(x, equal_nan=False)


@surface(np.isin)
def isin(
    element: ArrayLike,
    test_elements: ArrayLike,
    assume_unique: bool = False,
    invert: bool = False,
    *,
    kind: Any = None,
) -> Value:
    """Where an element is among the test elements."""
    x, wanted = promote(as_operand(element, "isin"), array_of(test_elements, "isin"))
    wanted = p.reshape(wanted, (aval_of(wanted).size,))
    shape = (*aval_of(x).shape, aval_of(wanted).size)
    last = len(shape) - 1
    equal = e.eq(p.broadcast(x, shape, (last,)), p.broadcast(wanted, shape, tuple(range(last))))
    found = any_true.body(equal, last)
    return e.not_(found) if invert else found


@surface(np.union1d)
def union1d(ar1: ArrayLike, ar2: ArrayLike) -> Value:
    """The different values of both arrays, in increasing order."""
    return unique.body(joining.concatenate.body([ar1, ar2], None))


@surface(np.intersect1d)
def intersect1d(ar1: ArrayLike, ar2: ArrayLike, assume_unique: bool = False) -> Value:
    """The values that occur in both arrays, in increasing order."""
    x, y = promote(_flat(ar1, "intersect1d"), _flat(ar2, "intersect1d"))
    _, index, _ = np.intersect1d(known(x), known(y), assume_unique, return_indices=True)
    return take.body(x, index)


@surface(np.setdiff1d)
def setdiff1d(ar1: ArrayLike, ar2: ArrayLike, assume_unique: bool = False) -> Value:
    """The different values of the first array that are not in the second."""
    x = _flat(ar1, "setdiff1d")
    x = x if assume_unique else unique.body(x)
    return take.body(x, np.flatnonzero(~np.isin(known(x), known(_flat(ar2, "setdiff1d")))))


@surface(np.setxor1d)
def setxor1d(ar1: ArrayLike, ar2: ArrayLike, assume_unique: bool = False) -> Value:
    """The values that occur in exactly one of the arrays, in increasing order."""
    x, y = promote(_flat(ar1, "setxor1d"), _flat(ar2, "setxor1d"))
    first, second = setdiff1d.body(x, y), setdiff1d.body(y, x)
    return unique.body(p.concatenate([first, second], 0))


@surface(np.unique_counts)
def unique_counts(x: ArrayLike, /) -> tuple[Value, Value]:
    """The different values, and how often each occurs."""
    return unique.body(x, return_counts=True, equal_nan=False)


@surface(np.unique_inverse)
def unique_inverse(x: ArrayLike, /) -> tuple[Value, Value]:
    """The different values, and for every element which of them it is."""
    return unique.body(x, return_inverse=True, equal_nan=False)


@surface(np.unique_all)
def unique_all(x: ArrayLike, /) -> tuple[Value, Value, Value, Value]:
    """The different values, where each stands first, which every element is, and their counts."""
    return unique.body(x, True, True, True, equal_nan=False)
