"""Minimax polynomials by the exchange algorithm of Remez: where the coefficients come from.

    fit(f, low, high, count, weight=..., rounded=...) -> coefficients and the greatest error

minimises |weight(x) (f(x) - sum c[i] x**i)| over [low, high] in 50 digits. Each coefficient in
turn, from the lowest, is rounded to the precision it is stored in, and the rest is fitted again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import mpmath

Real = Any


def as_double(x: Real) -> float:
    """Rounded to 53 bits."""
    return float(x)


def as_single(x: Real) -> float:
    """Rounded to 24 bits."""
    return float(struct.unpack("<f", struct.pack("<f", float(x)))[0])


def fit(
    f: Callable[[Real], Real],
    low: float,
    high: float,
    count: int,
    *,
    weight: Callable[[Real], Real] | None = None,
    rounded: Callable[[Real], float] = as_double,
    free: int = 0,
    digits: int = 50,
) -> tuple[list[float], float]:
    """Coefficients from the lowest, and log2 of the greatest weighted error with them.

    The last `free` coefficients are rounded at once: their rounding does not show.
    """
    with mpmath.workdps(digits):
        grid = chebyshev(low, high, 24 * (count + 2))
        values = [f(x) for x in grid]
        weights = [weight(x) if weight else mpmath.mpf(1) for x in grid]
        fixed: list[float] = []
        while len(fixed) < count - free:
            free_part = exchange(grid, values, weights, fixed, count)
            fixed.append(rounded(free_part[0]))
        if free:
            fixed += [rounded(c) for c in exchange(grid, values, weights, fixed, count)]
        error = max(
            abs(w * (v - mpmath.polyval(fixed[::-1], x)))
            for x, v, w in zip(grid, values, weights, strict=True)
        )
        return fixed, float(mpmath.log(error, 2))


def chebyshev(low: float, high: float, n: int) -> list[Real]:
    """Points of [low, high], denser at the ends."""
    middle, half = mpmath.mpf(low + high) / 2, mpmath.mpf(high - low) / 2
    return [middle - half * mpmath.cos(mpmath.pi * k / n) for k in range(n + 1)]


def exchange(
    grid: Sequence[Real],
    values: Sequence[Real],
    weights: Sequence[Real],
    fixed: Sequence[float],
    count: int,
) -> list[Real]:
    """The coefficients that are not fixed, of the best polynomial on the grid."""
    start = len(fixed)
    rest = [v - mpmath.polyval(fixed[::-1] or [0], x) for v, x in zip(values, grid, strict=True)]
    n = count - start
    last = len(grid) - 1
    picked = [round(last * (1 - float(mpmath.cos(mpmath.pi * k / n))) / 2) for k in range(n + 1)]
    best: list[Real] = []
    for _ in range(30):
        system = mpmath.matrix(n + 1, n + 1)
        right = mpmath.matrix(n + 1, 1)
        for row, k in enumerate(picked):
            for i in range(n):
                system[row, i] = weights[k] * grid[k] ** (start + i)
            system[row, n] = (-1) ** row
            right[row] = weights[k] * rest[k]
        solution = mpmath.lu_solve(system, right)
        best = [solution[i] for i in range(n)]
        errors = [
            w * (r - x**start * mpmath.polyval(best[::-1], x))
            for x, r, w in zip(grid, rest, weights, strict=True)
        ]
        found = extrema(errors, n + 1)
        if found is None or found == picked:
            break
        picked = found
    return best


def extrema(errors: Sequence[Real], count: int) -> list[int] | None:
    """Positions of the `count` greatest extrema of alternating sign; None where there are fewer."""
    peaks: list[int] = []
    for k, e in enumerate(errors):
        if peaks and (errors[peaks[-1]] > 0) == (e > 0):
            if abs(e) > abs(errors[peaks[-1]]):
                peaks[-1] = k
        else:
            peaks.append(k)
    while len(peaks) > count:
        peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
    return peaks if len(peaks) == count else None
