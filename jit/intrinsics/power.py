"""pow and fmod; the rare cases take the C function, behind one test of all lanes.

pow is 2**(y log2 |x|), the product kept to about 64 bits, with the sign of odd powers; rare are
zeros, infinities, NaN and subnormal bases. fmod is exact; rare are quotients beyond 2**52.
"""

from __future__ import annotations

from jit.intrinsics.algebra import B, F, Maths
from jit.intrinsics.exponential import scaled, tail
from jit.intrinsics.logarithm import precise_log2

LN2 = (0.6931471805599453, 2.3190468138462996e-17)
HUGE = float("inf")


def exp2_pair(m: Maths, high: F, low: F) -> F:
    """2**(high + low)."""
    n, k = m.round(high)
    fraction = high - n
    r, lost = m.product(fraction, m.f(LN2[0]))
    lost = m.fma(fraction, LN2[1], m.fma(low, LN2[0], lost))
    r, lost = m.ordered_sum(r, lost)
    p = 1.0 + (r + m.fma(r * r, tail(m, r, fine=True), lost))
    return scaled(m, p, n, k)


def positive_power(m: Maths, size: F, y: F) -> F:
    """size**y for normal size > 0 and finite y, in double precision."""
    log_high, log_low = precise_log2(m, size)
    y = m.most(m.least(y, 2.0**80), -(2.0**80))
    high, low = m.product(y, log_high)
    low = m.fma(y, log_low, low)
    bounded = m.most(m.least(high, 1100.0), -1100.0)
    low = m.select(high.eq(bounded), low, 0.0)
    return exp2_pair(m, bounded, low)


def pow(m: Maths, x: F, y: F) -> F:
    """x**y."""
    size = m.abs(x)
    d = m if m.double else m.doubles()
    wide = (size, y) if m.double else (m.widen(size, d), m.widen(y, d))
    found = positive_power(d, *wide)
    found = found if m.double else m.narrow(found)
    half = y * 0.5
    whole, even = whole_number(m, y), whole_number(m, half)
    negative = x < 0.0
    found = m.select(negative & ~even, -found, found)
    found = m.select(negative & ~whole, float("nan"), found)
    usual = (size >= 2.0 ** (1 - m.bias)) & (size < HUGE) & (m.abs(y) < HUGE)
    return m.unless(~usual, found, lambda: m.each("pow", x, y))


def whole_number(m: Maths, x: F) -> B:
    """Whether x is an integer; all numbers beyond 2**mantissa are."""
    size = m.abs(x)
    bound = 2.0**m.mantissa
    near = (m.least(size, bound) + bound) - bound
    return near.eq(size) | (size >= bound)


def fmod(m: Maths, x: F, y: F) -> F:
    """The exact remainder of the quotient towards zero, for doubles."""
    if not m.w.target.fma:
        return m.each("fmod", x, y)
    a, b = m.abs(x), m.abs(y)
    ratio = a / b
    whole = m.call("trunc", ratio)
    # The quotient may have been rounded up to an integer: then the rest is negative, and exact too.
    rest = m.fma(-whole, b, a)
    rest = m.select(rest < 0.0, rest + b, rest)
    usual = (ratio < 2.0**52) & (b < HUGE)
    return m.unless(~usual, m.copysign(rest, x), lambda: m.each("fmod", x, y))
