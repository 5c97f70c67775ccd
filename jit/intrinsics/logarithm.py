"""log, log2, log10, log1p and the precise logarithm of pow: x = 2**k m, sqrt(1/2) <= m < sqrt(2).

log(m) = 2 atanh(s) with s = f / (2 + f), f = m - 1 exact; 2 atanh(s) = f - s (f - R(s**2)).
Coefficients of R: own Remez fits in 50 digits of (2 atanh(s) - 2 s) / s**3 in s**2, weighted for
the relative error; 2**-59 (double), 2**-30 (float).
"""

from __future__ import annotations

from jit.intrinsics.algebra import F, Maths

ATANH_DOUBLE = [
    0.6666666666666735,
    0.39999999999409513,
    0.2857142874361984,
    0.22222198438217125,
    0.18183571778292779,
    0.15313848856345005,
    0.14798076263668744,
]
ATANH_SINGLE = [0.6666677594184875, 0.3997756838798523, 0.29871422052383423]
# The same from the term of s**5 on, where s**3 is treated by itself; error 2**-66.
ATANH_FINE = [
    0.4000000000000227,
    0.28571428570091284,
    0.22222222521451257,
    0.18181784229613704,
    0.15386763829926028,
    0.13256662749224185,
    0.1319780002743416,
]
LN2 = (0.6931471805601177, -1.7239444525614835e-13)
LN2_SINGLE = (0.693145751953125, 1.428606765330187e-06)
LOG2_E = (1.4426950408889634, 2.0355273740931033e-17)
LOG2_E_SINGLE = (1.4426950216293335, 1.925963033500011e-08)
LOG10_E = (0.4342944819032518, 1.098319650216765e-17)
LOG10_E_SINGLE = (0.4342944920063019, -1.0103049952192578e-08)
LOG10_2 = (0.3010299956640665, -8.532344317057107e-14)
LOG10_2_SINGLE = (0.301025390625, 4.605039066518657e-06)


def split(m: Maths, x: F) -> tuple[F, F]:
    """(k, f) with x = 2**k (1 + f) for positive finite x; subnormal numbers too."""
    scale = 54 if m.double else 25
    tiny = x < 2.0 ** (1 - m.bias)
    bits = m.bits(m.select(tiny, x * 2.0**scale, x))
    k, f = split_normal(m, m.real(bits))
    return m.select(tiny, k - float(scale), k), f


def split_normal(m: Maths, x: F) -> tuple[F, F]:
    """(k, f) with x = 2**k (1 + f) for positive normal x."""
    bits = m.bits(x)
    root = 0x3FE6A09E667F3BCD if m.double else 0x3F3504F3
    k = (bits - root).arithmetic(m.mantissa)
    f = m.real(bits - (k << m.mantissa)) - 1.0
    return m.real(k + m.magic_bits) - m.magic, f


def small_part(m: Maths, f: F) -> F:
    """s (f - R), so that log(1 + f) = f - s (f - R)."""
    s = f / (f + 2.0)
    z = s * s
    series = z * m.poly(z, ATANH_DOUBLE if m.double else ATANH_SINGLE)
    return s * (f - series)


def edges(m: Maths, x: F, found: F) -> F:
    """The values at 0 and infinity, NaN below 0."""
    inf = float("inf")
    found = m.select(x.eq(0.0), -inf, found)
    found = m.select(x < inf, found, x)
    return m.select(x < 0.0, float("nan"), found)


def log(m: Maths, x: F) -> F:
    """Natural logarithm."""
    high, low = LN2 if m.double else LN2_SINGLE
    k, f = split(m, x)
    rest = m.fma(k, -low, small_part(m, f))
    return edges(m, x, m.fma(k, high, f - rest))


def log1p(m: Maths, x: F) -> F:
    """log(u) + c / u with u = 1 + x rounded and c what the rounding took."""
    high, low = LN2 if m.double else LN2_SINGLE
    u, lost = m.sum(m.f(1.0), x)
    k, f = split_normal(m, u)
    # c / u is far below one unit in the last place: two terms of 1 / (1 + f) are enough.
    near = k < 64.0
    shift = m.select(near, k, 0.0)
    c = lost * m.power_of_two(m.i(0) - (m.bits(shift + m.magic) - m.magic_bits))
    c = m.select(near, c, 0.0) * m.fma(f, f, 1.0 - f)
    rest = small_part(m, f) - m.fma(k, low, c)
    found = m.fma(k, high, f - rest)
    found = edges(m, u, found)
    found = m.select(x < float("inf"), found, x)
    return m.copysign(found, m.select(u < 0.0, m.abs(x), x))


def other_base(m: Maths, x: F, factor: tuple[float, float], unit: tuple[float, float]) -> F:
    """log(x) times factor plus k times unit, both in two parts: exact at powers of the base."""
    k, f = split(m, x)
    high, low = m.ordered_sum(f, -small_part(m, f))
    p, lost = m.product(high, m.f(factor[0]))
    lost = m.fma(low, factor[0], m.fma(high, factor[1], lost))
    total, error = m.sum(k * unit[0], p)
    return edges(m, x, total + (m.fma(k, unit[1], error) + lost))


def log2(m: Maths, x: F) -> F:
    """Logarithm to base 2."""
    return other_base(m, x, LOG2_E if m.double else LOG2_E_SINGLE, (1.0, 0.0))


def log10(m: Maths, x: F) -> F:
    """Logarithm to base 10."""
    factor = LOG10_E if m.double else LOG10_E_SINGLE
    return other_base(m, x, factor, LOG10_2 if m.double else LOG10_2_SINGLE)


def precise_log2(m: Maths, x: F) -> tuple[F, F]:
    """log2 of positive normal doubles as a pair, relative error about 2**-64."""
    k, f = split_normal(m, x)
    u, u_low = m.ordered_sum(m.f(2.0), f)
    inverse = 1.0 / u
    s = f * inverse
    s_low = inverse * (m.residual(s, u, f) - s * u_low)
    z, z_low = m.product(s, s)
    z_low = m.fma(s + s, s_low, z_low)
    # 2 atanh(s) = 2 s + s z (2/3 + z Q(z)); s z and its product with 2/3 are pairs.
    q = z * m.poly(z, ATANH_FINE)
    cube, cube_low = m.product(s, z)
    cube_low = cube_low + m.fma(s, z_low, s_low * z)
    third, third_low = m.product(cube, m.f(0.6666666666666666))
    third_low = m.fma(cube, 3.700743415417188e-17, m.fma(cube_low, 0.6666666666666666, third_low))
    high, low = m.ordered_sum(s + s, third)
    low = low + (m.fma(cube, q, third_low) + (s_low + s_low))
    high, low = m.ordered_sum(high, low)
    p, p_low = m.product(high, m.f(LOG2_E[0]))
    p_low = m.fma(low, LOG2_E[0], m.fma(high, LOG2_E[1], p_low))
    total, error = m.sum(k, p)
    return m.ordered_sum(total, error + p_low)
