"""Sets: unique values, membership, unions; the values are asked for, since they decide shapes.

The elements that come out are elements of the operands, and keep their derivatives.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from functrans.ir import aval_of
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value
from functrans.surface import joining
from functrans.surface.axes import normal_axis
from functrans.surface.declare import surface
from functrans.surface.known import known_values
from functrans.surface.promotion import as_operand, promote
from functrans.surface.reductions import any as any_true
from functrans.surface.selection import take
from functrans.surface.shaping import array_of
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


@surface(np.unique)
def unique(
    ar: ArrayLike,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
) -> Any:
    """The different values in increasing order, with their places and counts on request."""
    ar = array_of(ar, "unique")
    place = None if axis is None else normal_axis(axis, aval_of(ar).ndim, "unique")
    _, index, *others = np.unique(
        known(ar), True, return_inverse, return_counts, place, equal_nan=equal_nan
    )
    values = take.body(ar, index, place)
    extras = [index, *others] if return_index else others
    return (values, *extras) if extras else values


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
