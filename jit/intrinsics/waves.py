"""The parts of complex functions: products of exponentials and waves, each rounded about once.

Every factor is a sum of two numbers, the second of which holds what rounding would take. In double
precision only; the exponent of an argument that would overflow is for the caller to take apart.
"""

from __future__ import annotations

from math import inf
from typing import TypeAlias

from jit.intrinsics.algebra import F, I, Maths
from jit.intrinsics.exponential import clamped, halves, reduced_pair, scaled, scaled_small, tail
from jit.intrinsics.trigonometric import limit, quarters, signed

Pair: TypeAlias = tuple[F, F]
"""A number as a sum of two."""
SMALL = 2.0**-30
"""Below it sinh(x) is x."""
TINY = 2.0**-900
"""Below it squares and halves lose bits."""
LARGEST = 710.0
"""From here on exp, sinh and cosh count as infinite."""


def times(m: Maths, a: Pair, b: Pair) -> F:
    """The product of two pairs, one of which has a small second part."""
    high, low = m.product(a[0], b[0])
    return high + (low + m.fma(a[0], b[1], a[1] * b[0]))


def wide_times(m: Maths, a: Pair, b: Pair) -> Pair:
    """The product of two pairs as a pair."""
    high, low = m.product(a[0], b[0])
    return high, low + m.fma(a[0], b[1], a[1] * b[0])


def quotient(m: Maths, top: Pair, bottom: Pair) -> F:
    """The quotient of two pairs."""
    ratio, inverse = m.divided(top[0], bottom[0])
    error = m.residual(ratio, bottom[0], top[0]) + (top[1] - ratio * bottom[1])
    return m.fma(error, inverse, ratio)


def exponential(m: Maths, x: F) -> tuple[Pair, F, I]:
    """A pair and n (as float and integer): exp(x) is the pair times 2**n."""
    r, r_low, n, k = reduced_pair(m, clamped(m, x))
    high, lost = m.ordered_sum(m.f(1.0), r)
    return (high, lost + m.fma(r * r, tail(m, r, fine=True), r_low)), n, k


def hyperbolic(m: Maths, size: F) -> tuple[Pair, Pair]:
    """Half of sinh and half of cosh of a number >= 0."""
    r, s, c, grown, shrunk = halves(m, size)
    even, odd = m.ordered_sum(grown, shrunk), m.ordered_sum(grown, -shrunk)

    def added(whole: Pair, other: Pair) -> Pair:
        """whole cosh(r) + other sinh(r)."""
        product, product_low = m.product(other[0], r)
        high, low = m.sum(whole[0], product)
        small = m.fma(other[0], s, whole[0] * c) + m.fma(other[1], r, whole[1])
        return m.ordered_sum(high, low + (product_low + small))

    return added(odd, even), added(even, odd)


def sine_and_cosine(m: Maths, y: F) -> tuple[Pair, Pair]:
    """sin(y) and cos(y) for |y| below the limit."""
    s, s_low, c, c_low, k = quarters(m, y)
    even = (k & 1).eq(0)

    def turned(k: I, a: F, b: F) -> F:
        return signed(m, m.select(even, a, b), k >> 1)

    sine = turned(k, s, c), turned(k, s_low, c_low)
    return sine, (turned(k + 1, c, s), turned(k + 1, c_low, s_low))


def around(m: Maths, y: F) -> tuple[Pair, Pair]:
    """sin(y) and cos(y) of any y: the first thing to ask, while nothing else is in registers."""
    (s, s_low), (c, c_low) = sine_and_cosine(m, y)
    usual = [s, s_low, c, c_low]
    s, s_low, c, c_low = m.unless_each(m.abs(y) > limit(m), usual, each_wave, y)
    return (s, s_low), (c, c_low)


def each_wave(m: Maths, y: F) -> list[F]:
    """sin(y) and cos(y) by the C functions, as pairs."""
    zero = m.f(0.0)
    return [m.each("sin", y), zero, m.each("cos", y), zero]


def exp_wave(m: Maths, x: F, y: F, ahead: int) -> F:
    """exp(x) sin(y + ahead pi/2)."""
    turn = around(m, y)[ahead]
    factor, n, k = exponential(m, x)
    found = times(m, factor, turn)
    whole = scaled_small(m, found, n, k)
    if not ahead:
        whole = m.select(m.abs(y) < TINY, y * scaled(m, factor[0] + factor[1], n, k), whole)
    return m.select(x > LARGEST, found * inf, whole)


def exp_cos(m: Maths, x: F, y: F) -> F:
    """exp(x) cos(y)."""
    return exp_wave(m, x, y, 1)


def exp_sin(m: Maths, x: F, y: F) -> F:
    """exp(x) sin(y)."""
    return exp_wave(m, x, y, 0)


def cosh_wave(m: Maths, x: F, y: F, ahead: int) -> F:
    """cosh(x) sin(y + ahead pi/2)."""
    turn = around(m, y)[ahead]
    size = m.abs(x)
    _, factor = hyperbolic(m, size)
    half = times(m, factor, turn)
    found = half + half
    if not ahead:
        found = m.select(m.abs(y) < TINY, y * (factor[0] + factor[0]), found)
    return m.select(size > LARGEST, half * inf, found)


def sinh_wave(m: Maths, x: F, y: F, ahead: int) -> F:
    """sinh(x) sin(y + ahead pi/2)."""
    turn = around(m, y)[ahead]
    size = m.abs(x)
    (high, low), _ = hyperbolic(m, size)
    half = times(m, (high, low), turn)
    found = m.select(size < SMALL, size * turn[0], half + half)
    if not ahead:
        found = m.select(m.abs(y) < TINY, y * (high + high), found)
    return m.select(size > LARGEST, found * inf, found) * m.copysign(m.f(1.0), x)


def cosh_cos(m: Maths, x: F, y: F) -> F:
    """cosh(x) cos(y)."""
    return cosh_wave(m, x, y, 1)


def cosh_sin(m: Maths, x: F, y: F) -> F:
    """cosh(x) sin(y)."""
    return cosh_wave(m, x, y, 0)


def sinh_cos(m: Maths, x: F, y: F) -> F:
    """sinh(x) cos(y)."""
    return sinh_wave(m, x, y, 1)


def sinh_sin(m: Maths, x: F, y: F) -> F:
    """sinh(x) sin(y)."""
    return sinh_wave(m, x, y, 0)


def tanh_below(m: Maths, sinh: Pair, cosine: Pair) -> Pair:
    """(sinh(x)**2 + cos(y)**2) / 4, of half of sinh(x) and cos(y)."""
    half = cosine[0] * 0.5, cosine[1] * 0.5
    a, a_low = wide_times(m, sinh, sinh)
    b, b_low = wide_times(m, half, half)
    high, low = m.sum(a, b)
    return high, low + (a_low + b_low)


def tanh_re(m: Maths, x: F, y: F) -> F:
    """The real part of tanh(x + i y): sinh(x) cosh(x) / (sinh(x)**2 + cos(y)**2)."""
    _, cosine = around(m, y)
    size = m.abs(x)
    sinh, cosh = hyperbolic(m, size)
    below = tanh_below(m, sinh, cosine)
    found = quotient(m, wide_times(m, sinh, cosh), below)
    return m.copysign(m.select(size < TINY, size / (below[0] * 4.0), found), x)


def tanh_im(m: Maths, x: F, y: F) -> F:
    """The imaginary part of tanh(x + i y): sin(y) cos(y) / (sinh(x)**2 + cos(y)**2)."""
    sine, cosine = around(m, y)
    sinh, _ = hyperbolic(m, m.abs(x))
    below = tanh_below(m, sinh, cosine)
    top = wide_times(m, (sine[0] * 0.5, sine[1] * 0.5), (cosine[0] * 0.5, cosine[1] * 0.5))
    found = quotient(m, top, below)
    return m.select(m.abs(y) < TINY, y / (below[0] * 4.0), found)


def norm_parts(m: Maths, x: F, y: F) -> Pair:
    """x**2 + y**2."""
    a, a_low = m.product(x, x)
    b, b_low = m.product(y, y)
    high, low = m.sum(a, b)
    return high, low + (a_low + b_low)


def norm(m: Maths, x: F, y: F) -> F:
    """x**2 + y**2; infinite where x or y is, whatever the other."""
    either = m.abs(x).eq(inf) | m.abs(y).eq(inf)
    return m.select(either, m.f(inf), norm_parts(m, x, y)[0])


def norm_rest(m: Maths, x: F, y: F) -> F:
    """What rounding takes from `norm`; 0 where that is not finite."""
    high, low = norm_parts(m, x, y)
    return m.select(high < inf, low, 0.0)
