"""sin, cos, tan: x = n pi/2 + r in two parts, |r| <= pi/4, then two short polynomials.

Beyond LIMIT the reduction has not enough bits of pi: those lanes, infinities among them, take the
C function, behind one test of all lanes. Coefficients: own Remez fits in 50 digits of
(sin(r) - r) / r**3 and (cos(r) - 1 + r**2/2) / r**4 in r**2; errors 2**-57 and (float) 2**-28.
"""

from __future__ import annotations

from jit.intrinsics.algebra import F, I, Maths

SIN_DOUBLE = [
    -0.1666666666666663,
    0.008333333333321797,
    -0.00019841269829293072,
    2.755731350678174e-06,
    -2.5050728188018997e-08,
    1.589501075084494e-10,
]
COS_DOUBLE = [
    0.041666666666666595,
    -0.00138888888888733,
    2.4801587288945525e-05,
    -2.7557314191192926e-07,
    2.087570060769411e-09,
    -1.1358437798695853e-11,
]
SIN_SINGLE = [-0.16666655242443085, 0.00833218451589346, -0.00019517164037097245]
COS_SINGLE = [0.04166664555668831, -0.00138873013202101, 2.443063749524299e-05]
TWO_OVER_PI = 0.6366197723675814
# pi/2 in parts of 53 bits for fused products, of 33 bits (the last 53) for exact plain ones.
PARTS = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
PLAIN_PARTS = (
    1.5707963267341256,
    6.077100506303966e-11,
    2.0222662487111665e-21,
    8.4784276603689e-32,
)


def limit(m: Maths) -> float:
    """Below it the number of quarter turns and the bits of pi suffice."""
    return 2.0**30 if m.w.target.fma else 2.0**20


def reduced(m: Maths, x: F) -> tuple[F, F, I]:
    """x = n pi/2 + (high + low), for double precision; n as an integer."""
    shifted = m.fma(x, TWO_OVER_PI, m.magic)
    n = shifted - m.magic
    k = m.bits(shifted)
    if m.w.target.fma:
        first = m.fma(n, -PARTS[0], x)
        t, lost = m.product(n, m.f(PARTS[1]))
        # Where t is the larger the error found is not exact, but still far below r.
        high, error = m.ordered_sum(first, -t)
        low = error - m.fma(n, PARTS[2], lost)
    else:
        first = x - n * PLAIN_PARTS[0]
        high, error = m.sum(first, n * -PLAIN_PARTS[1])
        high, second = m.sum(high, n * -PLAIN_PARTS[2])
        low = (error + second) - n * PLAIN_PARTS[3]
    return high, low, k


def kernels(m: Maths, r: F, low: F | None) -> tuple[F, F]:
    """sin and cos of r + low."""
    z = r * r
    s = z * m.poly(z, SIN_DOUBLE if m.double else SIN_SINGLE)
    c = (z * z) * m.poly(z, COS_DOUBLE if m.double else COS_SINGLE)
    half = z * 0.5
    w = 1.0 - half
    rest = ((1.0 - w) - half) + c
    if low is None:
        return m.fma(r, s, r), w + rest
    # sin(r + l) = sin(r) + l (1 - r**2/2), cos(r + l) = cos(r) - l r.
    return r + m.fma(r, s, low * w), w + m.fma(r, -low, rest)


def sin_cos(m: Maths, x: F) -> tuple[F, F, I]:
    """sin and cos of the reduced argument, and the quarter turns in the low bits."""
    if m.double:
        r, low, k = reduced(m, x)
        return *kernels(m, r, low), k
    d = m.doubles()
    wide = m.widen(x, d)
    shifted = d.fma(wide, TWO_OVER_PI, d.magic)
    n = shifted - d.magic
    r = wide
    for part in PARTS[:2] if m.w.target.fma else PLAIN_PARTS[:3]:
        r = d.fma(n, -part, r)
    k = d.bits(shifted)
    narrow = I(m, m.w(f"trunc {d.ints} {k.text} to {m.ints}"))
    return *kernels(m, m.narrow(r), None), narrow


def turned(m: Maths, s: F, c: F, k: I) -> F:
    """s or c with its sign, by the quarter: s, c, -s, -c."""
    value = m.select((k & 1).eq(0), s, c)
    sign = (k & 2) << (m.mantissa + (11 if m.double else 8) - 1)
    return m.real(m.bits(value) ^ sign)


def sin(m: Maths, x: F) -> F:
    """Sine."""
    s, c, k = sin_cos(m, x)
    size = m.abs(x)
    found = m.select(size < 2.0**-30, x, turned(m, s, c, k))
    return m.unless(size > limit(m), found, "sin", x)


def cos(m: Maths, x: F) -> F:
    """Cosine: a quarter turn ahead."""
    s, c, k = sin_cos(m, x)
    return m.unless(m.abs(x) > limit(m), turned(m, s, c, k + 1), "cos", x)


def tan(m: Maths, x: F) -> F:
    """Tangent, of doubles: s / c or -c / s, corrected by what rounding took from both."""
    r, low, k = reduced(m, x)
    z = r * r
    half = z * 0.5
    w = 1.0 - half
    s, s_low = m.ordered_sum(r, m.fma(r, z * m.poly(z, SIN_DOUBLE), low * w))
    rest = m.fma(r, -low, ((1.0 - w) - half) + (z * z) * m.poly(z, COS_DOUBLE))
    c, c_low = m.ordered_sum(w, rest)
    even = (k & 1).eq(0)
    top, top_low = m.select(even, s, -c), m.select(even, s_low, -c_low)
    bottom, bottom_low = m.select(even, c, s), m.select(even, c_low, s_low)
    inverse = 1.0 / bottom
    ratio = top * inverse
    error = m.residual(ratio, bottom, top) + (top_low - ratio * bottom_low)
    found = m.select(m.abs(x) < 2.0**-30, x, m.fma(error, inverse, ratio))
    return m.unless(m.abs(x) > limit(m), found, "tan", x)
