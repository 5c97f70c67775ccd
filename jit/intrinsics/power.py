"""pow and fmod.

pow is 2**(y log2 |x|) with the logarithm in two parts, together of about 64 bits (floats: 32);
floats go through double precision where products cannot be fused. Vectors that hold negative
numbers take a slower way that sets signs, and those with zeros, infinities, NaN or subnormal
numbers that of the C function; fmod is exact, and slow for quotients beyond 2**52. Coefficients:
tests/ulp/remez.py, fits of (2**f - 1 - f log(2)) / f**2 for |f| <= 1/2 and of the terms of log2(1 +
r) that are not exact.
"""

from __future__ import annotations

from jit.intrinsics.algebra import B, F, Maths
from jit.intrinsics.exponential import scaled
from jit.intrinsics.logarithm import BASE_2, BASE_2_SINGLE, INVERSE, INVERSE_SINGLE, halved

# log2(1 + r) from r**3 on, in double precision; error 2**-63 of r.
LOG2_TAIL = [
    0.48089834696298767,
    -0.3606737602222452,
    0.28853900817871275,
    -0.24044917347065659,
    0.20609928926899368,
    -0.1803368718086684,
    0.16030165496580356,
    -0.14430140919376946,
    0.13054582651157076,
    -0.10335339504423416,
]
# The same from r**2 on, error 2**-39 of r.
LOG2_ROUGH = [
    -0.7213475203532067,
    0.4808983352855901,
    -0.3606740901036197,
    0.2885673425648897,
    -0.2404065138367948,
    0.1895321049406403,
]
# (log(1 + r) - r + r**2 / 2) / (r**3 / 2) for floats, on -1/32 <= r <= 1/16; error 2**-36 of r.
LOG_TAIL_SINGLE = [
    0.6666666269302368,
    -0.4999977946281433,
    0.4000515639781952,
    -0.3358764350414276,
    0.2922620475292206,
]
LOG2_C = [
    0.0,
    0.13000822554312347,
    0.2100488922371309,
    0.28637862032224864,
    0.3571380841154811,
    0.4267632259228424,
    0.49142054413874003,
    0.5549868614587621,
    -0.38585760482687853,
    -0.3265621589040003,
    -0.2725607214761689,
    -0.21800705976045656,
    -0.16804291906530344,
    -0.11796205714281392,
    -0.0695370703510009,
    0.0,
]
EXP2 = [
    0.24022650695910117,
    0.05550410866482167,
    0.00961812910759896,
    0.0013333558146390076,
    0.0001540353045197197,
    1.5252733859564499e-05,
    1.321543751079733e-06,
    1.0178049114533199e-07,
    7.073442832025496e-09,
    4.4570551997522093e-10,
]
EXP2_ROUGH = [
    0.24022651127391897,
    0.055503625094977235,
    0.00961802502993939,
    0.0013390062627796058,
    0.0001547134273504657,
]
# (2**f - 1) / f for floats, error 2**-27.
EXP2_SINGLE = [
    0.6931471824645996,
    0.24022647738456726,
    0.055503614246845245,
    0.009618482552468777,
    0.0013390631647780538,
    0.00015338871162384748,
]
LN2 = (0.6931471805599453, 2.3190468138462996e-17)
HUGE = float("inf")


def log2_pair(m: Maths, x: F) -> tuple[F, F]:
    """log2 of positive normal doubles in two parts, relative error about 2**-63."""
    unit, unit_low = BASE_2.unit
    k, z = halved(m, x)
    index = m.bits(z) >> (m.mantissa - 4)
    product, r_low = m.product(z, m.lookup(INVERSE, index))
    r = product - 1.0
    square, square_low = m.product(r, r)
    square_low = m.fma(r + r, r_low, square_low)
    first, low = m.product(r, m.f(unit))
    slope = r_low * unit
    low = m.fma(r, unit_low, low) + m.fma(slope, square, slope)
    second, lost = m.product(square, m.f(-unit / 2))
    low = low + m.fma(square, -unit_low / 2, m.fma(square_low, -unit / 2, lost))
    low = m.fma(square * r, m.poly(r, LOG2_TAIL), low)
    whole = k + m.lookup(BASE_2.c, index)
    total, lost = m.ordered_sum(whole, first)
    total, more = m.ordered_sum(total, second)
    return m.ordered_sum(total, (low + m.lookup(BASE_2.c_low, index)) + (lost + more))


def exp2_pair(m: Maths, high: F, low: F) -> F:
    """2**(high + low)."""
    n, k = m.round(high)
    f, low = m.ordered_sum(high - n, low)
    rest = m.fma(f, LN2[1], low * LN2[0])
    p = 1.0 + m.fma(f, LN2[0], m.fma(f * f, m.poly(f, EXP2), rest))
    return scaled(m, p, n, k)


def precise(m: Maths, x: F, y: F) -> F:
    """x**y for positive normal x and finite y, in double precision."""
    log_high, log_low = log2_pair(m, x)
    high, low = m.product(y, log_high)
    low = m.fma(y, log_low, low)
    bounded = m.most(m.least(high, 1100.0), -1100.0)
    return exp2_pair(m, bounded, m.select(high.eq(bounded), low, 0.0))


def rough_log2(d: Maths, x: F) -> F:
    """log2 of positive doubles with an error of 2**-38, of which much is relative."""
    k, z = halved(d, x)
    index = d.bits(z) >> (d.mantissa - 4)
    r = d.fma(z, d.lookup(INVERSE, index), -1.0)
    log = d.fma(r * r, d.poly(r, LOG2_ROUGH), r * BASE_2.unit[0])
    return log + (k + d.lookup(LOG2_C, index))


def rough(m: Maths, x: F, y: F) -> F:
    """The same of floats, in double precision with an error of 2**-28.

    For machines that find the error of a product in many steps.
    """
    d = m.doubles()
    log = rough_log2(d, m.widen(x, d))
    power = d.most(d.least(m.widen(y, d) * log, 200.0), -200.0)
    n, whole = d.round(power)
    f = power - n
    p = d.fma(f * f, d.poly(f, EXP2_ROUGH), d.fma(f, LN2[0], 1.0))
    return m.narrow(p * d.power_of_two(whole))


def usual_power(m: Maths, x: F, y: F) -> F:
    """x**y for positive normal x and finite y."""
    if m.double:
        return precise(m, x, y)
    return single(m, x, y) if m.w.target.fma else rough(m, x, y)


def single(m: Maths, x: F, y: F) -> F:
    """The same of floats, with a relative error of the logarithm of 2**-32."""
    unit, unit_low = BASE_2_SINGLE.unit
    k, z = halved(m, x)
    index = m.bits(z) >> (m.mantissa - 4)
    product, r_low = m.product(z, m.lookup(INVERSE_SINGLE, index))
    r = product - 1.0
    # log(1 + r) in two parts, of which r - r**2 / 2 is nearly all.
    square, square_low = m.product(r, r * 0.5)
    natural, low = m.ordered_sum(r, -square)
    low = (low - square_low) + m.fma(-r_low, r, r_low)
    low = m.fma(square * r, m.poly(r, LOG_TAIL_SINGLE), low)
    first, lost = m.product(natural, m.f(unit))
    lost = m.fma(low, unit, m.fma(natural, unit_low, lost))
    log, low = m.ordered_sum(k + m.lookup(BASE_2_SINGLE.c, index), first)
    low = low + (lost + m.lookup(BASE_2_SINGLE.c_low, index))
    high, lost = m.product(y, log)
    bounded = m.most(m.least(high, 200.0), -200.0)
    low = m.select(high.eq(bounded), m.fma(y, low, lost), 0.0)
    n, whole = m.round(bounded)
    f = (bounded - n) + low
    return scaled(m, m.fma(f, m.poly(f, EXP2_SINGLE), 1.0), n, whole)


def pow(m: Maths, x: F, y: F) -> F:
    """x**y."""
    bounded = m.abs(y) < m.pick(2.0**80, HUGE)
    usual = (x >= 2.0 ** (1 - m.bias)) & (x < HUGE) & bounded
    return m.unless(~usual, usual_power(m, x, y), pow_of_any, x, y)


def pow_of_any(m: Maths, x: F, y: F) -> F:
    """x**y where x may be negative, as a call."""
    return m.formula("signed pow", x, y)


def signed_pow(m: Maths, x: F, y: F) -> F:
    """x**y where x may be negative, and everything else by the C function."""
    size = m.abs(x)
    found = usual_power(m, size, y)
    whole, even = whole_number(m, y), whole_number(m, y * 0.5)
    negative = x < 0.0
    found = m.select(negative & ~even, -found, found)
    found = m.select(negative & ~whole, float("nan"), found)
    bounded = m.abs(y) < m.pick(2.0**80, HUGE)
    usual = (size >= 2.0 ** (1 - m.bias)) & (size < HUGE) & bounded
    return m.unless(~usual, found, "pow", x, y)


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
    return m.unless(~usual, m.copysign(rest, x), "fmod", x, y)
