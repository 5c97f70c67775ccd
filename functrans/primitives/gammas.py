"""The logarithm of the gamma function and its derivatives, evaluated by NumPy in float64.

Around 1 and 2, where they have zeros, by the power series at 2; beyond by Stirling's series, after
as many steps of the recurrence as it needs; below 1/2 by reflection.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from functrans.primitives.numerics import in_double

Array = np.ndarray[Any, Any]
EULER = 0.5772156649015329
# B(2k) / (2k)! for k = 1, 2, ...: the coefficients of the Euler-Maclaurin sum.
BERNOULLI = [
    1 / 12,
    -1 / 720,
    1 / 30240,
    -1 / 1209600,
    1 / 47900160,
    -691 / 1307674368000,
    1 / 74724249600,
    -3617 / 10670622842880000,
    43867 / 5109094217170944000,
]
STEPS = 12


def zeta_tail(s: int) -> float:
    """zeta(s) - 1 for whole s >= 2."""
    return math.fsum([k ** -float(s) for k in range(2, STEPS)]) + _from(float(STEPS), s)


def _from(y: float, s: int) -> float:
    """The sum of (y + k)**-s over k >= 0 for large y."""
    rising, total = float(s), y ** (1 - s) / (s - 1) + y**-s / 2
    for k, b in enumerate(BERNOULLI):
        total += b * rising * y ** (-s - 2 * k - 1)
        rising *= (s + 2 * k + 1) * (s + 2 * k + 2)
    return total


# lgamma(2 + u) = u (1 - EULER) + u**2 * (SERIES[0] + SERIES[1] u + ...), |u| <= 1/2.
SERIES = [(-1) ** k * zeta_tail(k) / k for k in range(2, 32)]


def _polynomial(x: Array, coefficients: list[float]) -> Array:
    total = np.zeros_like(x)
    for c in reversed(coefficients):
        total = total * x + c
    return total


def _lgamma_upper(x: Array) -> Array:
    """lgamma of x >= 1/2."""
    first = x < 1.5
    u = np.where(x <= 2.5, x - np.where(first, 1, 2), 0)
    near = u * (1 - EULER) + u * u * _polynomial(u, SERIES) - np.where(first, np.log(x), 0)
    y, product = x, np.ones_like(x)
    for _ in range(6):
        product = product * np.where(y < 8, y, 1)
        y = np.where(y < 8, y + 1, y)
    series = [b * math.factorial(2 * k) for k, b in enumerate(BERNOULLI)]
    stirling = (y - 0.5) * np.log(y) - y + 0.5 * math.log(2 * math.pi)
    far = stirling + _polynomial(1 / (y * y), series) / y - np.log(product)
    return np.where(x <= 2.5, near, np.where(np.isinf(x), x, far))


def _digamma_upper(x: Array) -> Array:
    """digamma of x >= 1/2."""
    first = x < 1.5
    u = np.where(x <= 2.5, x - np.where(first, 1, 2), 0)
    slopes = [(k + 2) * c for k, c in enumerate(SERIES)]
    near = (1 - EULER) + u * _polynomial(u, slopes) - np.where(first, 1 / x, 0)
    y, steps = x, np.zeros_like(x)
    for _ in range(6):
        steps = steps + np.where(y < 8, 1 / y, 0)
        y = np.where(y < 8, y + 1, y)
    series = [b * math.factorial(2 * k + 1) for k, b in enumerate(BERNOULLI)]
    inverse = 1 / y
    far = np.log(y) - 0.5 * inverse - inverse**2 * _polynomial(inverse**2, series) - steps
    return np.where(x <= 2.5, near, np.where(np.isinf(x), x, far))


def _mirrored(x: Array) -> tuple[Array, Array, Array]:
    """Whether x < 1/2, the larger one of x and 1 - x, and x less the nearest integer."""
    low = x < 0.5
    return low, np.where(low, 1 - x, x), x - np.rint(x)


@in_double
def lgamma(x: Array) -> Array:
    """log |gamma(x)|; infinite at 0, -1, -2, ..."""
    with np.errstate(all="ignore"):
        low, upper, part = _mirrored(x)
        value = _lgamma_upper(upper)
        reflected = math.log(math.pi) - np.log(np.abs(np.sin(math.pi * part))) - value
        return np.where(np.isinf(x), math.inf, np.where(low, reflected, value))


@in_double
def digamma(x: Array) -> Array:
    """The derivative of lgamma; NaN at -1, -2, ... and infinite at 0."""
    with np.errstate(all="ignore"):
        low, upper, part = _mirrored(x)
        value = _digamma_upper(upper)
        pole = (part == 0) & low
        reflected = value - math.pi / np.tan(math.pi * part)
        found = np.where(low, np.where(pole, math.nan, reflected), value)
        return np.where(x == 0, -math.inf * np.copysign(1, x), found)


def cotangent_derivative(n: int) -> list[float]:
    """Coefficients of the polynomial in c = cot(t) that is the n-th derivative of cot(t)."""
    found = [0, 1]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(found)][1:]
        found = [
            -a - b for a, b in zip([*slope, 0, 0], [0, 0, *slope], strict=True)
        ]  # times -(1 + c**2)
    return [float(c) for c in found]


def steps_of_polygamma(n: int) -> int:
    """So many terms of the sum are added one by one before the rest has a short series."""
    return STEPS + n


def _polygamma_upper(x: Array, n: int) -> Array:
    """|polygamma| of x >= 1/2: n! times the sum of (x + k)**-(n + 1)."""
    s, count = n + 1, steps_of_polygamma(n)
    total = np.zeros_like(x)
    for k in range(count):
        total = total + (x + k) ** -float(s)
    inverse, rising = 1 / (x + count), float(s)
    rest = 1 / n + 0.5 * inverse
    for k, b in enumerate(BERNOULLI):
        rest = rest + b * rising * inverse ** (2 * k + 2)
        rising *= (s + 2 * k + 1) * (s + 2 * k + 2)
    total = total + inverse**n * rest
    return math.factorial(n) * np.where(np.isinf(x), 0, total)


def polygamma(x: Array, n: int) -> Array:
    """The n-th derivative of digamma, n >= 1; at 0, -1, ... infinite for odd n, NaN for even n."""

    @in_double
    def apply(x: Array) -> Array:
        with np.errstate(all="ignore"):
            low, upper, part = _mirrored(x)
            value = _polygamma_upper(upper, n)
            cotangent = 1 / np.tan(math.pi * part)
            bend = math.pi ** (n + 1) * _polynomial(cotangent, cotangent_derivative(n))
            sign = 1.0 if n % 2 else -1.0
            found = np.where(low, -value - bend, sign * value)
            pole = low & (part == 0)
            return np.where(pole, math.inf if n % 2 else math.nan, found)

    return np.asarray(apply(x))
