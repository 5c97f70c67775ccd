"""Series: Taylor coefficients along a curve, made in order as they are asked for; their products.

A value that runs along t -> x(t) is the series x_0 + x_1 t + x_2 t^2 + ...; None stands for a
coefficient that is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from functrans.ir import Aval
from functrans.primitives.derive import add_all, full
from functrans.primitives.elementwise import neg, reciprocal, scale, square, sub, times

Value = Any
Row = list[Value | None]


class Curve(NamedTuple):
    """What is pushed along the equations: one curve, known to `order`, or many at once.

    With `directions` there are so many curves through one point: coefficients of the orders between
    have a leading axis of that size, and those of the highest order are the sum over all curves.
    """

    order: int
    directions: int | None = None

    def aval(self, aval: Aval, k: int) -> Aval:
        """The aval of coefficient k of a value."""
        if self.directions is None or k in (0, self.order):
            return aval
        return Aval((self.directions, *aval.shape), aval.dtype)


class Rows:
    """The coefficients of several values, row k of order k, made in order as they are asked for."""

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[int], Row], made: Sequence[Row] = ()) -> None:
        self._make = make
        self._made = list(made)

    def at(self, k: int) -> Row:
        while len(self._made) <= k:
            self._made.append(self._make(len(self._made)))
        return self._made[k]


class Series:
    """The coefficients of one value. `order` is how many are known for good, None: not yet.

    `moves` says that some coefficient beyond the first may be other than zero.
    """

    __slots__ = ("_index", "_rows", "aval", "moves", "order")

    def __init__(self, aval: Aval, rows: Rows, index: int = 0, moves: bool = True) -> None:
        self.aval, self.moves = aval, moves
        self.order: int | None = None
        self._rows, self._index = rows, index

    def __getitem__(self, k: int) -> Value | None:
        return self._rows.at(k)[self._index] if self.moves or k == 0 else None

    @property
    def value(self) -> Value:
        """The coefficient of order 0, as an array even where it is zero."""
        found = self[0]
        return full(0, self.aval) if found is None else found

    def settle(self, order: int) -> Series:
        """Make all coefficients up to `order`: none beyond will be asked for."""
        known = self.upto(order)
        self.moves = any(c is not None for c in known[1:])
        self.order = order
        return self

    def upto(self, order: int) -> list[Value | None]:
        """The coefficients up to `order`."""
        return [self[k] for k in range(order + 1)]


def given(aval: Aval, coefficients: Sequence[Value | None]) -> Series:
    """The series of these coefficients."""
    rows = Rows(lambda k: [None], [[c] for c in coefficients])
    return Series(aval, rows).settle(len(coefficients) - 1)


# -- what is made of products ----------------------------------------------------------------------


def scaled(factor: int, x: Value | None) -> Value | None:
    """factor * x, for a coefficient x."""
    return x if x is None or factor == 1 else times(factor, x)


def square_row(operands: Sequence[Series], k: int) -> Row:
    """y_k is the sum of x_i x_j over i + j = k, each pair taken once."""
    (x,) = operands
    pairs = [(x[i], x[k - i]) for i in range((k + 1) // 2)]
    terms = [scale(a, b) for a, b in pairs if a is not None and b is not None]
    middle = x[k // 2] if k % 2 == 0 else None
    twice = scaled(2, add_all(terms))
    return [twice if middle is None else add_all([twice, square(middle)])]


class Quotient:
    """y_k is what is left of x_k without the sum of y_i z_j over i + j = k, i < k, over z_0."""

    def __init__(self, operands: Sequence[Series], found: Callable[[int], Row]) -> None:
        self._dividend = operands[0] if len(operands) > 1 else None
        self._divisor, self._found = operands[-1], found
        self._inverse: Value = None

    def row(self, k: int) -> Row:
        """y_k, for k > 0."""
        z = self._divisor
        pairs = [(self._found(i)[0], z[k - i]) for i in range(k)]
        rest = add_all([scale(y, c) for y, c in pairs if y is not None and c is not None])
        whole = None if self._dividend is None else self._dividend[k]
        if whole is None and rest is None:
            return [None]
        if self._inverse is None:
            self._inverse = reciprocal(z.value)
        if rest is not None:
            whole = neg(rest) if whole is None else sub(whole, rest)
        return [scale(whole, self._inverse)]
