"""NumPy evaluations of scalar functions that NumPy lacks; half precisions go through float32."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def widened(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` computed in float32 for float16 and bfloat16, rounded once at the end."""

    @functools.wraps(function)
    def apply(*xs: Array) -> Any:
        dtype = xs[0].dtype
        if dtype.itemsize == 2:
            return np.asarray(function(*(x.astype(np.float32) for x in xs))).astype(dtype)
        return function(*xs)

    return apply


def in_double(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` computed in float64 for every real dtype, rounded once at the end."""

    @functools.wraps(function)
    def apply(*xs: Array) -> Any:
        dtype = xs[0].dtype
        return np.asarray(function(*(x.astype(np.float64) for x in xs))).astype(dtype)

    return apply


@widened
def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow and exact in the tail."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, np.ones_like(e), e) / (1 + e)


@widened
def rsqrt(x: Array) -> Array:
    """1 / sqrt(x)."""
    return 1 / np.sqrt(x)


@widened
def logaddexp(x: Array, y: Array) -> Array:
    """log(exp(x) + exp(y)) without overflow."""
    return np.logaddexp(x, y)


_each_erf = np.frompyfunc(math.erf, 1, 1)
_each_erfc = np.frompyfunc(math.erfc, 1, 1)


@in_double
def erf(x: Array) -> Array:
    """The error function, by the C library's scalar function."""
    return np.asarray(_each_erf(x), np.float64)


@in_double
def erfc(x: Array) -> Array:
    """1 - erf(x), by the C library's scalar function."""
    return np.asarray(_each_erfc(x), np.float64)


@in_double
def erfinv(x: Array) -> Array:
    """The inverse of erf: a rough start, then Halley steps on erf or erfc, whichever is exact."""
    size = np.abs(x)
    inside = size < 1
    small = size < 0.5
    p = np.where(inside, size, 0.25)
    y = _erfinv_start(p)
    for _ in range(3):
        error = np.where(small, np.asarray(_each_erf(y), float) - p, _upper_error(y, p))
        newton = error / (2 / math.sqrt(math.pi) * np.exp(-y * y))
        y = y - newton / (1 + y * newton)
    edge = np.where(size == 1, math.inf, math.nan)
    return np.copysign(np.where(inside, y, edge), x)


def _upper_error(y: Array, p: Array) -> Array:
    """erf(y) - p, through erfc and 1 - p, which is exact for p >= 0.5."""
    return (1 - p) - np.asarray(_each_erfc(y), float)


def _erfinv_start(p: Array) -> Array:
    """Winitzki's closed form, right to about 2e-3 on [0, 1)."""
    a = 0.147
    log = np.log1p(-p * p)
    b = 2 / (math.pi * a) + log / 2
    return np.sqrt(np.maximum(np.sqrt(b * b - log / a) - b, 0))


def population_count(x: Array) -> Array:
    """The number of set bits of the two's complement representation, in x's dtype."""
    unsigned = x.view(np.dtype(f"u{x.dtype.itemsize}"))
    return np.bitwise_count(unsigned).astype(x.dtype)


def integer_pow(x: Array, exponent: int) -> Any:
    """x to a static integer power; integers wrap round as their dtype does."""
    if x.dtype.kind in "iu":
        wide = x.astype(np.uint64 if x.dtype.kind == "u" else np.int64)
        return np.power(wide, exponent).astype(x.dtype)
    return np.power(x, x.dtype.type(exponent))


_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry2x32(k0: Array, k1: Array, x0: Array, x1: Array) -> list[Array]:
    """Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw, SC 2011) of the counters x0, x1."""
    keys = (k0, k1, k0 ^ k1 ^ np.uint32(0x1BD11BDA))
    a, b = x0 + keys[0], x1 + keys[1]
    for group in range(5):
        for turn in _ROTATIONS[group % 2]:
            a = a + b
            b = a ^ ((b << np.uint32(turn)) | (b >> np.uint32(32 - turn)))
        a = a + keys[(group + 1) % 3]
        b = b + keys[(group + 2) % 3] + np.uint32(group + 1)
    return [np.asarray(a), np.asarray(b)]
