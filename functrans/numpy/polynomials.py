"""Polynomials as rows of coefficients, highest power first: polyval, polymul, polyder, ..."""

from __future__ import annotations

import operator

import numpy as np

from functrans.errors import ShapeError
from functrans.ir import aval_of, is_inexact
from functrans.numpy.calculus import convolve
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full_like
from functrans.surface.creation import arange
from functrans.surface.declare import surface
from functrans.surface.promotion import FLOAT, as_operand, cast, promote, stretch
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike


@surface(np.polyval)
def polyval(p: ArrayLike, x: ArrayLike) -> Value:  # NumPy's name
    """The polynomial with these coefficients, highest power first, at x (Horner's scheme)."""
    coefficients, at = promote(array_of(p, "polyval"), as_operand(x, "polyval"))
    return _horner(coefficients, at)


def _horner(coefficients: Value, at: Value) -> Value:
    total = full_like(at, 0)
    for i in range(aval_of(coefficients).size):
        one = p.reshape(p.slice_axis(coefficients, 0, i, i + 1), ())
        one = stretch(one, aval_of(at).shape)
        total = one if i == 0 else e.add(e.mul(total, at), one)
    return total


def _row(a: ArrayLike, name: str) -> Value:
    a = array_of(a, name)
    if aval_of(a).ndim > 1:
        raise ShapeError(f"{name}: the coefficients must be a row, but are {aval_of(a)}")
    return p.reshape(a, (aval_of(a).size,))


def _of_one_length(a: ArrayLike, b: ArrayLike, name: str) -> list[Value]:
    """Both rows, the shorter one with zeros in front."""
    rows = promote(_row(a, name), _row(b, name))
    n = max(aval_of(r).size for r in rows)
    return [p.pad(r, aval_of(r).dtype.type(0), (n - aval_of(r).size,), (0,)) for r in rows]


@surface(np.polyadd)
def polyadd(a1: ArrayLike, a2: ArrayLike) -> Value:
    """The coefficients of the sum."""
    return e.add(*_of_one_length(a1, a2, "polyadd"))


@surface(np.polysub)
def polysub(a1: ArrayLike, a2: ArrayLike) -> Value:
    """The coefficients of the difference."""
    return e.sub(*_of_one_length(a1, a2, "polysub"))


@surface(np.polymul)
def polymul(a1: ArrayLike, a2: ArrayLike) -> Value:
    """The coefficients of the product."""
    return convolve.body(_row(a1, "polymul"), _row(a2, "polymul"))


@surface(np.polyder)
def polyder(p: ArrayLike, m: int = 1) -> Value:  # NumPy's name
    """The coefficients of the m-th derivative."""
    row = _row(p, "polyder")
    for _ in range(_times(m, "polyder")):
        row = _derived(row)
    return row


def _times(m: int, name: str) -> int:
    if operator.index(m) < 0:
        raise ValueError(
            f"Order of {'derivative' if name == 'polyder' else 'integral'} must be "
            "positive (see polyint)"
        )
    return operator.index(m)


def _derived(row: Value) -> Value:
    n = aval_of(row).size
    powers = arange.body(n - 1, 0, -1)
    head, powers = promote(p.slice_axis(row, 0, 0, max(n - 1, 0)), powers)
    return e.mul(head, powers)


@surface(np.polyint)
def polyint(p: ArrayLike, m: int = 1, k: ArrayLike | None = None) -> Value:  # NumPy's name
    """The coefficients of the m-th integral, with constants k (0 by default)."""
    row = _row(p, "polyint")
    row = row if is_inexact(aval_of(row).dtype) else cast(row, FLOAT)
    times = _times(m, "polyint")
    constants = _constants(k, times, aval_of(row).dtype)
    for i in range(times):
        row = _integrated(row, constants, i)
    return row


def _constants(k: ArrayLike | None, times: int, dtype: np.dtype[np.generic]) -> Value:
    given = cast(_row(0 if k is None else k, "polyint"), dtype)
    if aval_of(given).size == 1:
        return p.broadcast(p.reshape(given, ()), (times,), (0,))
    if aval_of(given).size < times:
        raise ShapeError("k must be a scalar or a rank-1 array of length 1 or >m.")
    return given


def _integrated(row: Value, constants: Value, i: int) -> Value:
    n = aval_of(row).size
    powers = cast(arange.body(n, 0, -1), aval_of(row).dtype)
    return p.concatenate([e.div(row, powers), p.slice_axis(constants, 0, i, i + 1)], 0)
