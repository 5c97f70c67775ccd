"""Functional updates: `at(x)[i].set(v)` returns a copy of x with some elements changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from functrans.errors import describe
from functrans.ir import Aval, aval_of
from functrans.primitives.derive import Value, full
from functrans.surface import elementwise as e
from functrans.surface.declare import surface
from functrans.surface.indexing import Index, plan, put, take_plan
from functrans.surface.promotion import as_operand, cast
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike


@surface(name="at[].get")
def _get(
    x: ArrayLike, index: Index, mode: str = "raise", fill_value: ArrayLike | None = None
) -> Value:
    """x[index]; `mode` says what indices out of bounds give: "raise", "clip" or "fill"."""
    x = array_of(x, "at")
    how = plan(aval_of(x).shape, index)
    taken = take_plan(x, how, mode)
    if mode != "fill" or fill_value is None:
        return taken
    inside = take_plan(full(True, Aval(aval_of(x).shape, np.dtype(bool))), how, mode)
    return e.where(inside, taken, cast(as_operand(fill_value, "at"), aval_of(x).dtype))


@surface(name="at[].set")
def _put(
    x: ArrayLike, index: Index, value: ArrayLike, combine: str = "set", mode: str = "raise"
) -> Value:
    """x with the elements at `index` replaced by, or combined with, `value`."""
    return put(x, index, value, combine, mode)


class Updates:
    """The elements of `array` at `index`, about to be read or changed.

    `mode` says what becomes of indices out of bounds: "raise" (the default), "drop", and for
    `get` also "clip" and "fill".
    """

    __slots__ = ("array", "index")

    def __init__(self, array: ArrayLike, index: Index) -> None:
        self.array = array
        self.index = index

    def get(self, *, mode: str = "raise", fill_value: ArrayLike | None = None) -> Value:
        """The elements themselves; mode "fill" gives `fill_value`, by default NaN or 0, outside."""
        return _get(self.array, self.index, mode, fill_value)

    def set(self, value: ArrayLike, *, mode: str = "raise") -> Value:
        """A copy with the elements replaced; of several updates of one element the last wins."""
        return _put(self.array, self.index, value, "set", mode)

    def add(self, value: ArrayLike, *, mode: str = "raise") -> Value:
        """A copy with `value` added; several updates of one element all count."""
        return _put(self.array, self.index, value, "add", mode)

    def subtract(self, value: ArrayLike, *, mode: str = "raise") -> Value:
        """A copy with `value` subtracted; several updates of one element all count."""
        return _put(self.array, self.index, e.negative(value), "add", mode)

    def multiply(self, value: ArrayLike, *, mode: str = "raise") -> Value:
        """A copy with the elements multiplied; several updates of one element all count."""
        return _put(self.array, self.index, value, "mul", mode)

    mul = multiply

    def min(self, value: ArrayLike, *, mode: str = "raise") -> Value:
        """A copy with the lesser of the elements and `value`."""
        return _put(self.array, self.index, value, "min", mode)

    def max(self, value: ArrayLike, *, mode: str = "raise") -> Value:
        """A copy with the greater of the elements and `value`."""
        return _put(self.array, self.index, value, "max", mode)

    def divide(self, value: ArrayLike, *, mode: str = "raise") -> Value:
        """A copy with the elements divided by `value`, each position once."""
        return self.apply(lambda old: e.divide(old, value), mode=mode)

    def power(self, value: ArrayLike, *, mode: str = "raise") -> Value:
        """A copy with the elements raised to `value`, each position once."""
        return self.apply(lambda old: e.power(old, value), mode=mode)

    def apply(self, function: Callable[[Value], Value], *, mode: str = "raise") -> Value:
        """A copy with `function` of the elements in their place."""
        return self.set(function(self.get(mode="clip" if mode == "drop" else mode)), mode=mode)


class At:
    """`at(x)`: index it to choose elements."""

    __slots__ = ("array",)

    def __init__(self, array: ArrayLike) -> None:
        self.array = array

    def __getitem__(self, index: Index) -> Updates:
        return Updates(self.array, index)

    def __repr__(self) -> str:
        return f"at({describe(self.array)})"


def at(x: ArrayLike) -> At:
    """Functional updates of an array: `at(x)[i].set(v)`, also add, multiply, min, max, ...

    >>> import functrans.numpy as fnp
    >>> fnp.at(fnp.zeros(3))[1].set(5.0)
    array([0., 5., 0.])
    """
    return At(x)
