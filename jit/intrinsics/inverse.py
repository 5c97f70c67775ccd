"""asin, acos, atan, atan2, asinh, acosh, atanh, and sinh, cosh, cbrt, in double precision.

The float functions go through double. Inverse circular functions reduce to a short interval
around 0 and use one polynomial; inverse hyperbolic ones are log(1 + s) with s in two parts.
Coefficients: own Remez fits in 50 digits, errors 2**-59 (cbrt: a start of 2**-16).
"""

from __future__ import annotations

from jit.intrinsics.algebra import B, F, Maths
from jit.intrinsics.exponential import scaled
from jit.intrinsics.logarithm import finished, halved, log_of_sum

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
# z**(-1/3) for 3/4 <= z < 3/2, error 2**-14.
CBRT = [
    1.8380798257076414,
    -1.721227292505192,
    1.360846954488511,
    -0.5771927964024894,
    0.09945570730885152,
]
# 2**(j/3) and a third of 2**(-2j/3) for j = -1, 0, 1, at the places of j modulo 16.
ROOT = [1.0, 1.2599210498948732, *[0.0] * 13, 0.7937005259840998]
SLOPE = [0.3333333333333333, 0.20998684164914552, *[0.0] * 13, 0.5291336839893999]
# The same for floats.
ASIN_SINGLE = [
    0.16666659712791443,
    0.07500521093606949,
    0.044513627886772156,
    0.03183613717556,
    0.014328796416521072,
    0.037673771381378174,
]
ATAN_SINGLE = [
    -0.33333316445350647,
    0.1999853253364563,
    -0.14244496822357178,
    0.106000617146492,
    -0.06092463806271553,
]
# The same on |x| <= 1; 2**-28.
ATAN_WIDE = [
    -0.33333298563957214,
    0.1999852955341339,
    -0.1426401436328888,
    0.10950860381126404,
    -0.08399202674627304,
    0.05787872523069382,
    -0.031093332916498184,
    0.010866132564842701,
    -0.0017821063520386815,
]
PI = (3.141592653589793, 1.2246467991473532e-16)
HALF = (1.5707963267948966, 6.123233995736766e-17)
HALF_SINGLE = (1.5707963705062866, -4.371138828673793e-08)
PI_SINGLE = (2 * HALF_SINGLE[0], 2 * HALF_SINGLE[1])
QUARTER = (0.7853981633974483, 3.061616997868383e-17)
QUARTER_SINGLE = (0.7853981852531433, -2.1855694143368964e-08)
TAN_EIGHTH = 0.41421356237309503
HUGE = float("inf")


def arc(m: Maths, a: F, b: F) -> tuple[F, F]:
    """atan(a / b) for a, b >= 0 in two parts; the larger one is an ordinary number.

    It is base + atan(t) with t = a / b, (a - b) / (a + b) or -b / a, whichever is within tan(pi/8):
    one division, its error found.
    """
    high = b < a * TAN_EIGHTH
    middle = ~((a <= b * TAN_EIGHTH) | high)
    more, more_low = m.sum(a, b)
    top = m.select(high, -b, m.select(middle, a - b, a))
    bottom = m.select(high, a, m.select(middle, more, b))
    half, quarter = (HALF, QUARTER) if m.double else (HALF_SINGLE, QUARTER_SINGLE)
    base = m.select(high, half[0], m.select(middle, quarter[0], 0.0))
    base_low = m.select(high, half[1], m.select(middle, quarter[1], 0.0))
    t, inverse = m.divided(top, bottom)
    error = m.residual(t, bottom, top) - t * m.select(middle, more_low, 0.0)
    if not m.w.target.fma:
        # The products that make up the residual of subnormal numbers are not exact.
        error = m.select(m.abs(top) < m.pick(2.0**-900, 2.0**-60), 0.0, error)
    z = t * t
    # The slope of atan is near enough to 1 where its argument is not exact.
    series = t * (z * m.poly(z, ATAN if m.double else ATAN_SINGLE))
    first, lost = m.ordered_sum(base, t)
    return first, m.fma(error, inverse, base_low) + (lost + series)


def wide_arc(m: Maths, t: F, base: F | float, rest: F | float) -> F:
    """base + (rest + atan(t)) of floats |t| <= 1, base 0 or more than |t|.

    Twice the terms of `arc`, and no more than one choice before them: what suits floats. The terms
    alternate: in one sequence they keep each other small, and so their roundings.
    """
    z = t * t
    high, lost = m.ordered_sum(m.f(base), t)
    return high + (lost + m.fma(t * z, m.horner(z, ATAN_WIDE), rest))


def atan(m: Maths, x: F) -> F:
    """Inverse tangent."""
    if not m.double and m.w.target.fma:
        size = m.least(m.abs(x), 2.0**30)
        far = size > 1.0
        base, rest = (m.select(far, part, 0.0) for part in HALF_SINGLE)
        t = m.select(far, -m.reciprocal(size), size)
        return m.copysign(wide_arc(m, t, base, rest), x)
    big = m.pick(2.0**60, 2.0**30)
    high, low = arc(m, m.least(m.abs(x), big), m.f(1.0))
    return m.copysign(high + low, x)


def atan2(m: Maths, y: F, x: F) -> F:
    """The angle of the point (x, y); zeros, infinities and extremes as the C function has them."""
    a, b = m.abs(y), m.abs(x)
    steep = a > b
    largest, least = m.select(steep, a, b), m.select(steep, b, a)
    usual = (largest > m.pick(2.0**-800, 2.0**-60)) & (largest < m.pick(2.0**900, 2.0**90))
    usual = usual & ((least > m.pick(2.0**-900, 2.0**-90)) | least.eq(0.0))
    if not m.double and m.w.target.fma:
        found = angle(m, x, steep, largest, least)
    else:
        high, low = arc(m, a, b)
        pi = PI if m.double else PI_SINGLE
        turned, lost = m.ordered_sum(m.f(pi[0]), -high)
        left = m.bits(x) < 0
        found = m.select(left, turned + (lost + (pi[1] - low)), high + low)
    return m.unless(~usual, m.copysign(found, y), "atan2", y, x)


def angle(m: Maths, x: F, steep: B, largest: F, least: F) -> F:
    """The angle of (x, |y|) by least / largest, to one side of 0, pi, or where steep pi/2."""
    left = m.bits(x) < 0
    zero = m.f(0.0)
    base, rest = (
        m.select(steep, half, m.select(left, pi, zero))
        for half, pi in zip(HALF_SINGLE, PI_SINGLE, strict=True)
    )
    top = m.copysign(least, x)
    top = m.select(steep, -top, top)
    inverse = m.reciprocal(largest)
    t = top * inverse
    low = m.residual(t, largest, top) * inverse
    # About the slope of atan, 1 / (1 + t**2).
    slope = m.fma(t * t, -0.55, 1.0)
    return wide_arc(m, t, base, m.fma(low, slope, rest))


def half_angle(m: Maths, x: F) -> tuple[F, F, B]:
    """(s, asin(s) - s) of s = |x|, or of s = sqrt((1 - |x|) / 2) where |x| > 1/2; and whether."""
    size = m.abs(x)
    far = size > 0.5
    z = m.select(far, m.fma(size, -0.5, 0.5), size * size)
    s = m.select(far, m.sqrt(z), size)
    return s, s * (z * m.poly(z, ASIN if m.double else ASIN_SINGLE)), far


def asin(m: Maths, x: F) -> F:
    """Inverse sine."""
    s, rest, far = half_angle(m, x)
    half = HALF if m.double else HALF_SINGLE
    outer, lost = m.ordered_sum(m.f(half[0]), -(s + s))
    outer = outer + (lost - ((rest + rest) - half[1]))
    return m.copysign(m.select(far, outer, s + rest), x)


def acos(m: Maths, x: F) -> F:
    """Inverse cosine."""
    s, rest, far = half_angle(m, x)
    half = HALF if m.double else HALF_SINGLE
    negative = x < 0.0
    twice, twice_low = s + s, rest + rest
    turned, lost = m.ordered_sum(m.f(2 * half[0]), -twice)
    beyond = turned + (lost - (twice_low - 2 * half[1]))
    outer = m.select(negative, beyond, twice + twice_low)
    s, rest = m.copysign(s, x), m.copysign(rest, x)
    inner, lost = m.ordered_sum(m.f(half[0]), -s)
    return m.select(far, outer, inner + (lost - (rest - half[1])))


def root_of_square_plus(m: Maths, a: F, one: float) -> tuple[F, F]:
    """sqrt(a**2 + one) in two parts."""
    square, square_low = m.product(a, a)
    w, w_low = m.sum(m.f(one), square)
    r = m.sqrt(w)
    twice = m.most(r + r, 2.0**-30)
    return r, (m.residual(r, r, w) + (w_low + square_low)) * m.rough_reciprocal(twice)


def asinh(m: Maths, x: F) -> F:
    """log(sqrt(1 + a**2) + a) with the sign of x."""
    size = m.abs(x)
    big = size > m.pick(2.0**60, 2.0**30)
    a = m.select(big, 1.0, size)
    r, r_low = root_of_square_plus(m, a, 1.0)
    high, low = m.ordered_sum(r, a)
    u = m.select(big, size, high)
    lost, more = m.select(big, 0.0, low + r_low), m.select(big, 1.0, 0.0)
    return m.copysign(finished(m, u, *log_of_sum(m, u, lost, more)), x)


def acosh(m: Maths, x: F) -> F:
    """log(x + sqrt(x**2 - 1)); NaN below 1."""
    big = x > m.pick(2.0**60, 2.0**30)
    a = m.select(big, 2.0, x)
    r, r_low = root_of_square_plus(m, a, -1.0)
    high, low = m.ordered_sum(a, r)
    u = m.select(x < 1.0, float("nan"), m.select(big, x, high))
    lost, more = m.select(big, 0.0, low + r_low), m.select(big, 1.0, 0.0)
    return finished(m, u, *log_of_sum(m, u, lost, more))


def atanh(m: Maths, x: F) -> F:
    """log((1 + a) / (1 - a)) / 2 with the sign of x."""
    size = m.abs(x)
    top, top_low = m.ordered_sum(m.f(1.0), size)
    bottom, bottom_low = m.ordered_sum(m.f(1.0), -size)
    # The low part is all there is of small numbers: it needs the reciprocal to all its bits.
    inverse = 1.0 / bottom
    ratio = top * inverse
    low = m.residual(ratio, bottom, top) + (top_low - ratio * bottom_low)
    high, low = log_of_sum(m, ratio, low * inverse)
    end = m.select(size.eq(1.0), HUGE, float("nan"))
    return m.copysign(m.select(size < 1.0, 0.5 * (high + low), end), x)


def cbrt(m: Maths, x: F) -> F:
    """The root of 2**j z from z**(-1/3), then one step on its exact cube; 2**(k - j) apart."""
    size = m.abs(x)
    k, z = halved(m, size)
    third, whole = m.round(k * 0.3333333333333333)
    j = m.fma(third, -3.0, k)
    place = m.bits(j + m.magic)
    y = m.poly(z, CBRT)
    square = y * y
    if m.double:
        h = 1.0 - z * (square * y)
        y = m.fma(y * h, m.fma(h, 0.2222222222222222, 0.3333333333333333), y)
        square = y * y
    root = (z * square) * m.lookup(ROOT, place)
    twice, twice_low = m.product(root, root)
    cube, low = m.product(twice, root)
    error = (z * m.power_of_two(place - m.magic_bits) - cube) - m.fma(twice_low, root, low)
    root = m.fma(error, square * m.lookup(SLOPE, place), root)
    found = scaled(m, root, third, whole)
    usual = (size > 0.0) & (size < HUGE)
    return m.copysign(m.select(usual, found, x), x)
