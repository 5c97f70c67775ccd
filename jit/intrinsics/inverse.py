"""asin, acos, atan, atan2, asinh, acosh, atanh, and sinh, cosh, cbrt, in double precision.

The float functions go through double. Inverse circular functions reduce to a short interval
around 0 and use one polynomial; inverse hyperbolic ones are log(1 + s) with s in two parts.
Coefficients: own Remez fits in 50 digits, errors 2**-59 (cbrt: a start of 2**-16).
"""

from __future__ import annotations

from jit.intrinsics.algebra import B, F, Maths
from jit.intrinsics.exponential import reduced, scaled, tail
from jit.intrinsics.logarithm import LN2, small_part, split, split_normal

# (asin(x) - x) / x**3 in x**2, |x| <= 1/2.
ASIN = [
    0.16666666666666763,
    0.07499999999970115,
    0.044642857175274955,
    0.0303819426756783,
    0.022372215896914002,
    0.017351595635907855,
    0.013981017115862625,
    0.011397303444423966,
    0.010789268021252733,
    0.003672370627642713,
    0.021790225145533738,
    -0.02111615588750997,
    0.03270182693915231,
]
# (atan(x) - x) / x**3 in x**2, |x| <= tan(pi/8).
ATAN = [
    -0.333333333333332,
    0.19999999999953616,
    -0.14285714280188153,
    0.11111110782654988,
    -0.09090897726101643,
    0.07692059527680621,
    -0.06663095004180056,
    0.05847815419462838,
    -0.05038938491446577,
    0.03805447438845551,
    -0.01789536660476066,
]
# (sinh(x) - x) / x**3 in x**2, |x| <= 1.
SINH = [
    0.16666666666666669,
    0.008333333333332915,
    0.0001984126984159004,
    2.7557319108092634e-06,
    2.5052130760917384e-08,
    1.6056678664726073e-10,
    7.77600135595153e-13,
]
CBRT = [
    1.000005125772827,
    0.3332242806442405,
    -0.11160520918822128,
    0.06566175868309186,
    -0.03724071885012369,
]
PI = (3.141592653589793, 1.2246467991473532e-16)
THREE_QUARTERS = (2.356194490192345, 9.184850993605148e-17)
HALF = (1.5707963267948966, 6.123233995736766e-17)
QUARTER = (0.7853981633974483, 3.061616997868383e-17)
TAN_EIGHTH = 0.41421356237309503
HUGE = float("inf")


def arc(m: Maths, a: F, b: F) -> tuple[F, F, F, B]:
    """atan(a / b) for a, b >= 0 as base + base_low + t, and whether base is not 0.

    t = atan of a / b, (a - b) / (a + b) or -b / a, whichever is within tan(pi/8): one division.
    """
    low, high = a <= b * TAN_EIGHTH, b < a * TAN_EIGHTH
    middle = ~(low | high)
    top = m.select(high, -b, m.select(middle, a - b, a))
    bottom = m.select(high, a, m.select(middle, a + b, b))
    t = top / bottom
    z = t * t
    t = m.fma(t, z * m.poly(z, ATAN), t)
    base = m.select(high, HALF[0], m.select(middle, QUARTER[0], 0.0))
    base_low = m.select(high, HALF[1], m.select(middle, QUARTER[1], 0.0))
    return base, base_low, t, high | middle


def atan(m: Maths, x: F) -> F:
    """Inverse tangent."""
    base, base_low, t, _ = arc(m, m.abs(x), m.f(1.0))
    return m.copysign(base + (t + base_low), x)


def atan2(m: Maths, y: F, x: F) -> F:
    """The angle of the point (x, y), with C's values on the axes and at infinity."""
    a, b = m.abs(y), m.abs(x)
    both = (a.eq(b)) & (a.eq(0.0) | a.eq(HUGE))
    # 0/0 and inf/inf: any numbers with the right ratio will do; large ones must not overflow.
    origin = both & a.eq(0.0)
    a, b = m.select(both, 1.0, a), m.select(both, 1.0, b)
    a = m.select(origin, 0.0, a)
    large = (a > 2.0**1000) | (b > 2.0**1000)
    small = ~large & (a < 2.0**-900) & (b < 2.0**-900)
    scale = m.select(large, 2.0**-60, m.select(small, 2.0**120, 1.0))
    base, base_low, t, _ = arc(m, a * scale, b * scale)
    left = m.bits(x) < 0
    high = m.select(base.eq(0.0), PI[0], m.select(base.eq(HALF[0]), HALF[0], THREE_QUARTERS[0]))
    low = m.select(base.eq(0.0), PI[1], m.select(base.eq(HALF[0]), HALF[1], THREE_QUARTERS[1]))
    base, base_low = m.select(left, high, base), m.select(left, low, base_low)
    found = m.copysign(base + (m.select(left, -t, t) + base_low), y)
    return m.select(x.is_nan() | y.is_nan(), x + y, found)


def half_angle(m: Maths, x: F) -> tuple[F, F, B]:
    """(s, asin(s) - s) of s = |x|, or of s = sqrt((1 - |x|) / 2) where |x| > 1/2; and whether."""
    size = m.abs(x)
    far = size > 0.5
    z = m.select(far, (1.0 - size) * 0.5, size * size)
    s = m.select(far, m.sqrt(z), size)
    return s, s * (z * m.poly(z, ASIN)), far


def asin(m: Maths, x: F) -> F:
    """Inverse sine."""
    s, rest, far = half_angle(m, x)
    outer = (HALF[0] - (s + s)) - ((rest + rest) - HALF[1])
    return m.copysign(m.select(far, outer, s + rest), x)


def acos(m: Maths, x: F) -> F:
    """Inverse cosine."""
    s, rest, far = half_angle(m, x)
    negative = x < 0.0
    twice = (s + s) + (rest + rest)
    outer = m.select(negative, (PI[0] - (s + s)) - ((rest + rest) - PI[1]), twice)
    s, rest = m.copysign(s, x), m.copysign(rest, x)
    return m.select(far, outer, HALF[0] - (s + (rest - HALF[1])))


def log_of_sum(m: Maths, high: F, low: F, more: F) -> F:
    """log(1 + high + low) + more log(2) for high >= 0, `more` a small integer."""
    u, lost = m.sum(m.f(1.0), high)
    lost = lost + low
    k, f = split_normal(m, u)
    near = k < 64.0
    shift = m.select(near, k, 0.0)
    c = lost * m.power_of_two(m.i(0) - (m.bits(shift + m.magic) - m.magic_bits))
    c = m.select(near, c, 0.0) * m.fma(f, f, 1.0 - f)
    k = k + more
    rest = small_part(m, f) - m.fma(k, LN2[1], c)
    return m.fma(k, LN2[0], f - rest)


def root_pair(m: Maths, w: F, low: F) -> tuple[F, F]:
    """sqrt(w + low) in two parts, w > 0."""
    r = m.sqrt(w)
    return r, (m.residual(r, r, w) + low) / (r + r)


def asinh(m: Maths, x: F) -> F:
    """log(1 + a + (sqrt(1 + a**2) - 1)) with the sign of x."""
    size = m.abs(x)
    big = size > 2.0**60
    a = m.select(big, 1.0, size)
    square, square_low = m.product(a, a)
    w, w_low = m.sum(m.f(1.0), square)
    r, r_low = root_pair(m, w, w_low + square_low)
    high, low = m.sum(r - 1.0, a)
    found = log_of_sum(
        m,
        m.select(big, size, high),
        m.select(big, 0.0, low + r_low),
        m.select(big, 1.0, 0.0),
    )
    found = m.select(size < 2.0**-500, size, found)
    return m.copysign(m.select(size < HUGE, found, size), x)


def acosh(m: Maths, x: F) -> F:
    """log(1 + (x - 1) + sqrt(x**2 - 1)); NaN below 1."""
    big = x > 2.0**60
    a = m.select(big, 2.0, x)
    square, square_low = m.product(a, a)
    w, w_low = m.sum(square, m.f(-1.0))
    r, r_low = root_pair(m, w, w_low + square_low)
    high, low = m.sum(r, a - 1.0)
    found = log_of_sum(
        m,
        m.select(big, x, high),
        m.select(big, 0.0, low + r_low),
        m.select(big, 1.0, 0.0),
    )
    found = m.select(x.eq(1.0), 0.0, found)
    found = m.select(x < HUGE, found, x)
    return m.select(x < 1.0, float("nan"), found)


def atanh(m: Maths, x: F) -> F:
    """log(1 + 2 a / (1 - a)) / 2 with the sign of x."""
    size = m.abs(x)
    bottom, bottom_low = m.sum(m.f(1.0), -size)
    inverse = 1.0 / bottom
    top = size + size
    ratio = top * inverse
    low = (m.residual(ratio, bottom, top) - ratio * bottom_low) * inverse
    found = log_of_sum(m, ratio, low, m.f(0.0)) * 0.5
    found = m.select(size < 2.0**-500, size, found)
    found = m.select(size < 1.0, found, m.select(size.eq(1.0), HUGE, float("nan")))
    return m.copysign(m.select(x.is_nan(), x, found), x)


def exp_quarters(m: Maths, size: F) -> tuple[F, F, F]:
    """exp(size) / 4 in two parts, and exp(-size) / 4, for 0 <= size."""
    r, _, k = reduced(m, m.least(size, 711.0))
    high, low = m.ordered_sum(m.f(1.0), m.fma(r * r, tail(m, r, fine=True), r))
    quarter = m.power_of_two(k - 2)
    grown = high * quarter
    return grown, low * quarter, 0.0625 / grown


def sinh(m: Maths, x: F) -> F:
    """x + x**3 P(x**2) below 1, else half the difference of the exponentials."""
    size = m.abs(x)
    grown, low, shrunk = exp_quarters(m, size)
    quarter = grown + (low - shrunk)
    square = x * x
    near = m.fma(x, square * m.poly(square, SINH), x)
    found = m.select(size < 1.0, near, quarter + quarter)
    return m.copysign(m.select(size < HUGE, found, size), x)


def cosh(m: Maths, x: F) -> F:
    """Half the sum of the exponentials."""
    size = m.abs(x)
    grown, low, shrunk = exp_quarters(m, size)
    quarter = grown + (low + shrunk)
    return m.select(size < HUGE, quarter + quarter, size)


def cbrt(m: Maths, x: F) -> F:
    """Cube root: a start from the significand, one cubic step, one exact correction."""
    size = m.abs(x)
    k, f = split(m, size)
    third, _ = m.round(k * 0.3333333333333333)
    j = m.fma(third, -3.0, k)
    two = m.select(j < 0.0, 0.5, m.select(j > 0.0, 2.0, 1.0))
    root = m.select(j < 0.0, 0.7937005259840998, m.select(j > 0.0, 1.2599210498948732, 1.0))
    a = two + f * two
    y = m.poly(f, CBRT) * root
    cube = y * y * y
    y = y - y * (cube - a) / (cube + cube + a)
    square, square_low = m.product(y, y)
    high, high_low = m.product(square, y)
    error = (a - high) - m.fma(square_low, y, high_low)
    y = m.fma(error, 0.3333333333333333 / square, y)
    _, whole = m.round(third)
    found = scaled(m, y, third, whole)
    usual = (size > 0.0) & (size < HUGE)
    return m.copysign(m.select(usual, found, x), x)
