"""sin, cos, tan: x = n pi/2 + r with pi in three parts, |r| <= pi/4, then a short polynomial.

Beyond a limit the reduction has not enough bits of pi: vectors that hold such lanes, infinities
among them, take a slower way behind one test of all lanes. Coefficients: tests/ulp/remez.py,
weighted for the relative error of the result; 2**-57 and better (double), 2**-32 (float).
"""

from __future__ import annotations

from jit.intrinsics.algebra import Careful, F, I, Maths

# (sin(r) - r) / r**3 and (cos(r) - 1) / r**2 in r**2, on |r| <= pi/4.
SIN_DOUBLE = [
    -0.16666666666666666,
    0.008333333333333038,
    -0.00019841269840955883,
    2.7557319069614396e-06,
    -2.5052069607623836e-08,
    1.6054127482730577e-10,
    -7.379728021892367e-13,
]
COS_DOUBLE = [
    -0.5,
    0.0416666666666666,
    -0.001388888888887447,
    2.4801587289667376e-05,
    -2.755731439946605e-07,
    2.0875729029162585e-09,
    -1.1359919484060606e-11,
]
SIN_SINGLE = [
    -0.1666666716337204,
    0.008333380334079266,
    -0.00019853511184919626,
    2.83751001006749e-06,
]
COS_SINGLE = [-0.5, 0.04166664555668831, -0.00138873013202101, 2.44306429522112e-05]
# (tan(r) - r) / r**3 in r**2, on |r| <= pi/4; 2**-29.
TAN_SINGLE = [
    0.33333349227905273,
    0.13332675397396088,
    0.05405891314148903,
    0.02128620631992817,
    0.010827453806996346,
    9.822857100516558e-05,
    0.004372706171125174,
]
TWO_OVER_PI = 0.6366197723675814
# pi/2 in parts of all bits for fused products, of 33 bits (the last 53) for exact plain ones.
SPLIT = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
SPLIT_SINGLE = (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)
PLAIN = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21, 8.4784276603689e-32)


def limit(m: Maths) -> float:
    """Below it the number of turns and the bits of pi suffice."""
    if not m.w.target.fma:
        return 2.0**20
    return m.pick(2.0**30, 2.0**16)


def turns(m: Maths, x: F) -> tuple[F, I]:
    """The number of quarter turns nearest to x, and its lowest bits."""
    shifted = m.fma(x, TWO_OVER_PI, m.magic)
    return shifted - m.magic, m.bits(shifted)


def remainder(m: Maths, x: F, n: F) -> tuple[F, F]:
    """x - n pi/2 as a sum of two numbers."""
    if not m.w.target.fma:
        return plain_remainder(m, x, n)
    one, two, three = SPLIT if m.double else SPLIT_SINGLE
    first = m.fma(n, -one, x)
    t, lost = m.product(n, m.f(two))
    # Where t is the larger the error found is not exact, but still far below r.
    high = first - t
    return high, ((first - high) - t) - m.fma(n, three, lost)


def plain_remainder(m: Maths, x: F, n: F) -> tuple[F, F]:
    """x - n pi/2 of doubles as a sum of two numbers, where products cannot be fused."""
    one, two, three, four = PLAIN
    first = x - n * one
    high, error = m.sum(first, n * -two)
    high, second = m.sum(high, n * -three)
    return high, (error + second) - n * four


def reduced(m: Maths, x: F) -> tuple[F, I]:
    """x less k quarter turns, and k in its low bits."""
    n, k = turns(m, x)
    one, two, three = SPLIT if m.double else SPLIT_SINGLE
    return m.fma(n, -three, m.fma(n, -two, m.fma(n, -one, x))), k


def wave(m: Maths, x: F, ahead: int) -> F:
    """sin(x + ahead pi/2): r + r**3 S(r**2) or 1 + r**2 C(r**2), one polynomial for both."""
    r, k = reduced(m, x)
    k = k + ahead if ahead else k
    odd = ~(k & 1).eq(0)
    z = r * r
    cosine, sine = (COS_DOUBLE, SIN_DOUBLE) if m.double else (COS_SINGLE, SIN_SINGLE)
    chosen = [m.select(odd, c, s) for c, s in zip(cosine, sine, strict=True)]
    total = m.in_pairs(z, chosen) if m.double else m.horner_of(z, chosen)
    base = m.select(odd, 1.0, r)
    return signed(m, m.fma(z, base * total, base), k >> 1)


def waves(m: Maths, x: F) -> tuple[F, F]:
    """sin(x) and cos(x), with the bits that `wave` gives: both polynomials, of one remainder."""
    r, k = reduced(m, x)
    odd = ~(k & 1).eq(0)
    z = r * r
    cosine, sine = (COS_DOUBLE, SIN_DOUBLE) if m.double else (COS_SINGLE, SIN_SINGLE)
    of_sine, of_cosine = [m.f(c) for c in sine], [m.f(c) for c in cosine]
    series = m.in_pairs if m.double else m.horner_of
    s = m.fma(z, r * series(z, of_sine), r)
    c = m.fma(z, series(z, of_cosine), 1.0)
    found = signed(m, m.select(odd, c, s), k >> 1)
    return found, signed(m, m.select(odd, s, c), (k + 1) >> 1)


def signed(m: Maths, x: F, odd: I) -> F:
    """x, or -x where the last bit of `odd` is 1."""
    return m.real(m.bits(x) ^ (odd << (63 if m.double else 31)))


def sin(m: Maths, x: F) -> F:
    """Sine."""
    if not m.w.target.fma:
        return plain(m, "sin", x)
    size = m.abs(x)
    return m.unless(size > limit(m), sine_of(m, size, x, wave(m, x, 0)), far(m, "sin"), x)


def sine_of(m: Maths, size: F, x: F, found: F) -> F:
    """sin(x) of |x| below the limit, which is `found` where it is not small."""
    return m.select(size < m.pick(2.0**-30, 2.0**-14), x, found)


def sin_and_cos(m: Maths, x: F) -> tuple[F, F]:
    """Sine and cosine, with the bits that either has alone."""
    if not m.w.target.fma:
        return plain(m, "sin", x), plain(m, "cos", x)
    sine, cosine = waves(m, x)
    size = m.abs(x)
    usual = [sine_of(m, size, x, sine), cosine]
    sine, cosine = m.unless_each(size > limit(m), usual, far_sin_and_cos, x)
    return sine, cosine


def cos(m: Maths, x: F) -> F:
    """Cosine: a sine a quarter turn ahead."""
    if not m.w.target.fma:
        return plain(m, "cos", x)
    return m.unless(m.abs(x) > limit(m), wave(m, x, 1), far(m, "cos"), x)


def far(m: Maths, name: str) -> Careful:
    """The way of any argument: doubles by the C function, floats as doubles."""
    return name if m.double else IN_DOUBLE[name]


def in_double(m: Maths, name: str, x: F) -> F:
    """The function of doubles, as a call."""
    d = m.doubles()
    return m.narrow(d.formula(name, m.widen(x, d)))


def far_sin(m: Maths, x: F) -> F:
    """Sine of any float."""
    return in_double(m, "sin", x)


def far_cos(m: Maths, x: F) -> F:
    """Cosine of any float."""
    return in_double(m, "cos", x)


def far_tan(m: Maths, x: F) -> F:
    """Tangent of any float."""
    return in_double(m, "tan", x)


IN_DOUBLE: dict[str, Careful] = {"sin": far_sin, "cos": far_cos, "tan": far_tan}


def far_sin_and_cos(m: Maths, x: F) -> list[F]:
    """Sine and cosine of any argument."""
    if m.double:
        return [m.each("sin", x), m.each("cos", x)]
    return [far_sin(m, x), far_cos(m, x)]


def quarters(m: Maths, x: F) -> tuple[F, F, F, F, I]:
    """sin and cos of x less k quarter turns, each in two parts, and k in its low bits."""
    n, k = turns(m, x)
    r, low = remainder(m, x, n)
    z = r * r
    half = z * 0.5
    w = 1.0 - half
    sine, cosine = (SIN_DOUBLE, COS_DOUBLE) if m.double else (SIN_SINGLE, COS_SINGLE)
    s, s_low = m.ordered_sum(r, m.fma(r, z * m.poly(z, sine), low * w))
    rest = m.fma(r, -low, ((1.0 - w) - half) + (z * z) * m.poly(z, cosine[1:]))
    c, c_low = m.ordered_sum(w, rest)
    return s, s_low, c, c_low, k


def plain(m: Maths, name: str, x: F) -> F:
    """Sine or cosine in double precision without fused products: of the nearest quarter turn."""
    d = m if m.double else m.doubles()
    wide = x if m.double else m.widen(x, d)
    s, _, c, _, k = quarters(d, wide)
    k = k + 1 if name == "cos" else k
    found = signed(d, d.select((k & 1).eq(0), s, c), k >> 1)
    if name == "sin":
        found = d.select(d.abs(wide) < 2.0**-30, wide, found)
    found = d.unless(d.abs(wide) > limit(d), found, name, wide)
    return found if m.double else m.narrow(found)


def tan(m: Maths, x: F) -> F:
    """Tangent."""
    if not m.double and not m.w.target.fma:
        return m.narrow(m.doubles().formula("tan", m.widen(x, m.doubles())))
    size = m.abs(x)
    usual = m.select(size < 2.0**-30, x, tan_double(m, x)) if m.double else tan_single(m, x, size)
    return m.unless(size > limit(m), usual, far(m, "tan"), x)


def tan_double(m: Maths, x: F) -> F:
    """s / c or -c / s, corrected by what rounding took from both."""
    s, s_low, c, c_low, k = quarters(m, x)
    even = (k & 1).eq(0)
    top, top_low = m.select(even, s, -c), m.select(even, s_low, -c_low)
    bottom, bottom_low = m.select(even, c, s), m.select(even, c_low, s_low)
    ratio, inverse = m.divided(top, bottom)
    error = m.residual(ratio, bottom, top) + (top_low - ratio * bottom_low)
    return m.fma(error, inverse, ratio)


def tan_single(m: Maths, x: F, size: F) -> F:
    """t = tan(r) of |x| less quarter turns from one polynomial, or -1 / t, corrected."""
    n, k = turns(m, size)
    r, low = remainder(m, size, n)
    z = r * r
    # The slope of tan is near enough to 1 + r**2 for what r lacks.
    rest = m.fma(r * z, m.poly(z, TAN_SINGLE), m.fma(low, z, low))
    t = r + rest
    inverse = m.rough_reciprocal(t)
    error = m.fma(-inverse, rest, m.fma(-inverse, r, 1.0))
    cotangent = m.fma(-inverse, m.fma(error, error, error), -inverse)
    found = m.select((k & 1).eq(0), t, cotangent)
    return m.real(m.bits(found) ^ (m.bits(x) & -(2**31)))
