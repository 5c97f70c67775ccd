"""log, log2, log10, log1p and the precise logarithm of pow: x = 2**k z, z around 1.

By table: 16 numbers 1/c for a c near each z, so that log(z) = log(c) + log(1 + r) with the small
r = z/c - 1, rounded once; c is 1 around 1, elsewhere such that log(c) is nearly a float. Then one
polynomial. Coefficients: tests/ulp/remez.py, fits of (log(1 + r) - r) / r**2 for -1/30 < r < 1/16,
weighted for the relative error of the result; 2**-56 (double), 2**-28 (float).

By division where no register holds a table and every lane would load from it: log(z) is an odd
function of (z - 1) / (z + 1). Fits in the square, 2**-59 and 2**-35.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

from jit.intrinsics.algebra import B, F, I, Maths

Parts: TypeAlias = Callable[[Maths, F, F], tuple[F, F]]
"""A logarithm of 2**k z in two parts, from k and z."""

INVERSE = [
    1.0,
    0.9138262400232516,
    0.8645079330557114,
    0.8199576935807553,
    0.7807117650664138,
    0.7439289642878598,
    0.7113243500677682,
    0.680663256982869,
    1.306636281465455,
    1.2540215658644183,
    1.2079499851362532,
    1.1631257332350986,
    1.1235333267848253,
    1.0852008307414858,
    1.049379906268292,
    1.0,
]
INVERSE_SINGLE = [
    1.0,
    0.9137663841247559,
    0.8652454614639282,
    0.820209264755249,
    0.7801624536514282,
    0.7437539100646973,
    0.711379885673523,
    0.6803549528121948,
    1.3061007261276245,
    1.2553653717041016,
    1.2080543041229248,
    1.1628881692886353,
    1.1226999759674072,
    1.08540678024292,
    1.0488221645355225,
    1.0,
]
# log(c); log2 and log10 of it in two parts, of which sums with exponents are exact.
LOG_C = [
    0.0,
    0.0901148349848175,
    0.14559479743390707,
    0.1985025332490137,
    0.2475492560752263,
    0.29580972681508516,
    0.3406267646390018,
    0.3846875782679539,
    -0.2674561108833644,
    -0.22635563972187664,
    -0.18892469562259098,
    -0.15111097881512398,
    -0.11647847556317817,
    -0.08176506732159262,
    -0.048199424258194845,
    0.0,
]
LOG_C_SINGLE = [
    0.0,
    0.09018033742904663,
    0.14474204182624817,
    0.19819577038288116,
    0.24825310707092285,
    0.29604506492614746,
    0.34054869413375854,
    0.38514062762260437,
    -0.26704615354537964,
    -0.2274266630411148,
    -0.18901105225086212,
    -0.15090671181678772,
    -0.1157364770770073,
    -0.08195482939481735,
    -0.04766778647899628,
    0.0,
]
LOG2_C = [
    0.0,
    0.13000822554295155,
    0.210048892236955,
    0.2863786203224663,
    0.3571380841158316,
    0.4267632259225138,
    0.49142054413914593,
    0.5549868614589286,
    -0.3858576048269242,
    -0.32656215890438034,
    -0.2725607214761112,
    -0.21800705976056634,
    -0.1680429190655559,
    -0.11796205714290409,
    -0.06953707035063417,
    0.0,
]
LOG2_C_LOW = [
    0.0,
    1.719179711934225e-13,
    1.7591393413413025e-13,
    -2.1765517104881032e-13,
    -3.505192204944583e-13,
    3.2857051439130684e-13,
    -4.0588277617319446e-13,
    -1.6653617050685528e-13,
    4.5673236346956697e-14,
    3.8005220768994327e-13,
    -5.765149814971166e-14,
    1.0976845748662334e-13,
    2.5245362909821623e-13,
    9.016959116244735e-14,
    -3.6673982641462027e-13,
    0.0,
]
LOG2_C_SINGLE = [
    0.0,
    0.130126953125,
    0.20880126953125,
    0.28594970703125,
    0.358154296875,
    0.4271240234375,
    0.4913330078125,
    0.5556640625,
    -0.38525390625,
    -0.328125,
    -0.272705078125,
    -0.21771240234375,
    -0.1669921875,
    -0.11822509765625,
    -0.06878662109375,
    0.0,
]
LOG2_C_LOW_SINGLE = [
    0.0,
    -2.4227520043496042e-05,
    1.735642035782803e-05,
    -1.365200660075061e-05,
    -7.704163635935402e-07,
    -2.1276417101034895e-05,
    -2.5095576347666793e-05,
    -2.3589058400830254e-05,
    -1.2255168257979676e-05,
    1.7681059034657665e-05,
    1.9770375729422085e-05,
    3.757912026003396e-08,
    1.9745972167584114e-05,
    -1.072829127224395e-05,
    1.65419314726023e-05,
    0.0,
]
LOG10_C = [
    0.0,
    0.039136375571615645,
    0.06323101711950585,
    0.08620855483422929,
    0.10750927591288928,
    0.1284685320488279,
    0.14793232427109615,
    0.16706769249867648,
    -0.11615471310778958,
    -0.0983050052791441,
    -0.08204895280414348,
    -0.06562666425452335,
    -0.0505859591976332,
    -0.03551011755007494,
    -0.02093274398612266,
    0.0,
]
LOG10_C_LOW = [
    0.0,
    -8.729793856174551e-14,
    -1.3827831002108213e-13,
    -3.6586178501199464e-13,
    -1.634616614462773e-13,
    2.719590998523316e-13,
    1.8004702257612624e-13,
    -1.7879787074769774e-13,
    -1.5984178190109598e-13,
    2.5255299176026503e-13,
    7.831974646940711e-16,
    1.1581848282465688e-13,
    4.215981026213015e-14,
    -1.4063763241911106e-13,
    -1.2509889393911592e-13,
    0.0,
]
LOG10_C_SINGLE = [
    0.0,
    0.0391845703125,
    0.0628662109375,
    0.0860595703125,
    0.1077880859375,
    0.12860107421875,
    0.14788818359375,
    0.167236328125,
    -0.115966796875,
    -0.0987548828125,
    -0.08209228515625,
    -0.0655517578125,
    -0.05029296875,
    -0.03558349609375,
    -0.02069091796875,
    0.0,
]
LOG10_C_LOW_SINGLE = [
    0.0,
    -1.9747387341340072e-05,
    -5.540872734854929e-06,
    1.5759091184008867e-05,
    2.6868579880101606e-05,
    -3.0336135750985704e-05,
    1.0235095942334738e-05,
    2.812118509609718e-05,
    -9.874026545730885e-06,
    -1.526198502688203e-05,
    5.828147095598979e-06,
    1.3805591152049601e-05,
    2.925540138676297e-05,
    -9.034078175318427e-06,
    -1.093866285373224e-05,
    0.0,
]
LOG_DOUBLE = [
    -0.49999999999999983,
    0.33333333333350307,
    -0.2500000000027917,
    0.1999999992333394,
    -0.16666665211956047,
    0.14285809817464898,
    -0.12502403365059328,
    0.1108443591666354,
    -0.0882678078142665,
]
LOG_SINGLE = [
    -0.4999999701976776,
    0.3333449959754944,
    -0.25014686584472656,
    0.1895575374364853,
]
LOG2_DOUBLE = [
    -0.7213475204444815,
    0.4808983469632323,
    -0.36067376022619335,
    0.28853900707202945,
    -0.24044915265107003,
    0.20610067187952044,
    -0.18037147413583782,
    0.15991250882528527,
    -0.1273299679170895,
]
LOG2_SINGLE = [
    -0.7213475108146667,
    0.4809163212776184,
    -0.36082684993743896,
    0.27214494347572327,
]
LOG10_DOUBLE = [
    -0.21714724095162585,
    0.14476482730115825,
    -0.10857362047692444,
    0.08685889604419592,
    -0.07238240751499074,
    0.06204249022340486,
    -0.054297185639428015,
    0.04813541832897248,
    -0.038304077414706164,
]
LOG10_SINGLE = [
    -0.21714723110198975,
    0.14476986229419708,
    -0.10863156616687775,
    0.0822477638721466,
]
# 2 (atanh(s) - s) / s**3 in s**2.
ATANH_DOUBLE = [
    0.666666666666667,
    0.39999999999762037,
    0.28571428676016675,
    0.22222204627645664,
    0.18183278460810942,
    0.15320795657943637,
    0.14733021723851975,
]
ATANH_SINGLE = [
    0.6666666269302368,
    0.40000972151756287,
    0.2849879264831543,
    0.24278859794139862,
]
# The least significand of numbers whose logarithm is found by a division: next to sqrt(1/2).
LOWEST = 0.70703125
LN2 = (0.6931471805601177, -1.7239444525614835e-13)
LN2_SINGLE = (0.693145751953125, 1.428606765330187e-06)
LOG2_E = (1.4426950408889634, 2.0355273740931033e-17)
LOG2_E_SINGLE = (1.4426950216293335, 1.925963033500011e-08)
LOG10_E = (0.4342944819032518, 1.098319650216765e-17)
LOG10_E_SINGLE = (0.4342944920063019, -1.0103049952192578e-08)
LOG10_2 = (0.3010299956640665, -8.532344317057107e-14)
LOG10_2_SINGLE = (0.301025390625, 4.605039066518657e-06)
INF = float("inf")


def halved(m: Maths, x: F, low: float = 0.75) -> tuple[F, F]:
    """(k, z) with x = 2**k z, low <= z < 2 low, for positive finite x.

    The instructions of AVX-512 also take 0 (k = -inf), infinity (k = inf) and NaN, and make z NaN
    of negative numbers; elsewhere `finished` sets what becomes of those.
    """
    if m.avx512:
        z = m.masked512("getmant", [x], before="11", after="4")
        k = m.masked512("getexp", [x], after="4")
        return m.select(z < 1.0, k + 1.0, k), z
    scale = 54 if m.double else 25
    tiny = x < 2.0 ** (1 - m.bias)
    k, z = halved_normal(m, m.select(tiny, x * 2.0**scale, x), low)
    return m.select(tiny, k - float(scale), k), z


def halved_normal(m: Maths, x: F, low: float = 0.75) -> tuple[F, F]:
    """(k, z) of positive normal x; 1/2 <= low < 1 with few bits."""
    first = (m.bias - 1 << m.mantissa) + int((2 * low - 1) * 2**m.mantissa)
    offset = m.bias + 1
    above = m.bits(x) + ((offset << m.mantissa) - first)
    k = m.real((above >> m.mantissa) | m.magic_bits) - (m.magic + offset)
    return k, m.real((above & (1 << m.mantissa) - 1) + first)


def near(m: Maths, z: F) -> tuple[F, I]:
    """r = z / c - 1 and the place of c in the tables."""
    index = m.bits(z) >> (m.mantissa - 4)
    inverse = m.lookup(INVERSE if m.double else INVERSE_SINGLE, index)
    if m.w.target.fma:
        return m.fma(z, inverse, -1.0), index
    high, low = m.product(z, inverse)
    return (high - 1.0) + low, index


def finished(m: Maths, x: F, high: F, low: F) -> F:
    """high + low; infinite where x is 0 or infinite, NaN where it is NaN or negative."""
    if m.avx512:
        return m.select(m.abs(high) < INF, high + low, high)
    found = m.select(x.eq(0.0), -INF, high + low)
    found = m.select(x < INF, found, x)
    return m.select(x < 0.0, float("nan"), found)


def tabled(m: Maths, k: F, z: F, lost: F | None = None, precise: bool = False) -> tuple[F, F]:
    """log(2**k (z + lost)) in two parts by the table, for lost below a unit of z.

    The sum is good to about a unit of log(2), if `precise` to a hundredth of it.
    """
    ln2 = LN2 if m.double else LN2_SINGLE
    r, index = near(m, z)
    log_c = m.lookup(LOG_C if m.double else LOG_C_SINGLE, index)
    whole, rest = m.ordered_sum(k * ln2[0], log_c) if precise else (m.fma(k, ln2[0], log_c), None)
    high, more = m.ordered_sum(whole, r)
    more = more if rest is None else more + rest
    low = m.fma(k, ln2[1], more)
    if lost is not None:
        c = lost * m.lookup(INVERSE if m.double else INVERSE_SINGLE, index)
        low = low + m.fma(c, -r, c)
    return high, m.fma(r * r, m.poly(r, LOG_DOUBLE if m.double else LOG_SINGLE), low)


def by_division(m: Maths, z: F) -> tuple[F, F]:
    """log(z) in two parts, the first of them z - 1, for z from `LOWEST` on.

    With s = f / (2 + f), log(1 + f) = 2 atanh(s) = f - s f + s R(s**2), and s f = (1 - s) f**2 / 2:
    so written what is added to f is small, and so are its roundings.
    """
    f = z - 1.0
    s = f / (z + 1.0)
    square = s * s
    half = (f * 0.5) * f
    more = m.fma(square, m.poly(square, ATANH_DOUBLE if m.double else ATANH_SINGLE), half)
    return f, m.fma(s, more, -half)


def divided(m: Maths, k: F, z: F, lost: F | None = None) -> tuple[F, F]:
    """log(2**k (z + lost)) in two parts by a division, for lost below a unit of z."""
    ln2 = LN2 if m.double else LN2_SINGLE
    f, rest = by_division(m, z)
    high, low = m.ordered_sum(k * ln2[0], f)
    low = m.fma(k, ln2[1], low)
    if lost is not None:
        # 1 / z to the four bits that show.
        low = low + m.fma(lost, m.fma(f, f, -f), lost)
    return high, low + rest


def usual(m: Maths, x: F, by_table: Parts, by_division: Parts, other: str) -> F:
    """A logarithm of any x in the quicker of two ways; `other`: a function for rare x."""
    if m.avx512:
        return finished(m, x, *by_table(m, *halved(m, x)))

    def called(m: Maths, x: F) -> F:
        return m.formula(other, x)

    called.__name__ = other.replace(" ", "_")
    high, low = by_division(m, *halved_normal(m, x, LOWEST))
    return m.unless(~is_usual(m, x), high + low, called, x)


def of_any(m: Maths, x: F, by_division: Parts) -> F:
    """The same of what is not usual, by division."""
    return finished(m, x, *by_division(m, *halved(m, x, LOWEST)))


def log(m: Maths, x: F) -> F:
    """Natural logarithm."""
    return usual(m, x, tabled, divided, "any log")


def log_of_any(m: Maths, x: F) -> F:
    """log of any x."""
    return of_any(m, x, divided)


def is_usual(m: Maths, x: F) -> B:
    """Whether x is positive, normal and finite."""
    least = 1 << m.mantissa
    size = m.bits(x) + ((1 << m.width - 1) - least)
    return size < ((2 * m.bias << m.mantissa) - (1 << m.width - 1))


def log_of_sum(
    m: Maths, u: F, lost: F, more: F | None = None, precise: bool = False
) -> tuple[F, F]:
    """log(u + lost) + more log(2) in two parts, for lost below a unit of u."""
    by_table = precise or m.avx512
    k, z = halved(m, u) if by_table else halved(m, u, LOWEST)
    small = shrunk(m, lost, k)
    k = k if more is None else k + more
    return tabled(m, k, z, small, precise) if by_table else divided(m, k, z, small)


def shrunk(m: Maths, x: F, k: F) -> F:
    """x * 2**-k; 0 for large k, where nobody sees it."""
    if m.avx512:
        return m.masked512("scalef", [x, -k], after="4")
    usual = k < 64.0
    # Nothing was lost of numbers so small that the factor would be infinite.
    n = m.bits(m.select(usual, m.most(k, 2.0 - m.bias), 0.0) + m.magic) - m.magic_bits
    return m.select(usual, x, 0.0) * m.power_of_two(m.i(0) - n)


def log1p(m: Maths, x: F) -> F:
    """log(1 + x), with what the rounding of the sum took."""
    u, lost = m.sum(m.f(1.0), x)
    found = finished(m, u, *log_of_sum(m, u, lost))
    return m.copysign(found, x)


class Base(NamedTuple):
    """The tables of a logarithm: per unit of r and of k, of c, and the polynomial."""

    unit: tuple[float, float]
    two: tuple[float, float]
    c: Sequence[float]
    c_low: Sequence[float]
    series: Sequence[float]


BASE_2 = Base(LOG2_E, (1.0, 0.0), LOG2_C, LOG2_C_LOW, LOG2_DOUBLE)
BASE_2_SINGLE = Base(LOG2_E_SINGLE, (1.0, 0.0), LOG2_C_SINGLE, LOG2_C_LOW_SINGLE, LOG2_SINGLE)
BASE_10 = Base(LOG10_E, LOG10_2, LOG10_C, LOG10_C_LOW, LOG10_DOUBLE)
BASE_10_SINGLE = Base(
    LOG10_E_SINGLE, LOG10_2_SINGLE, LOG10_C_SINGLE, LOG10_C_LOW_SINGLE, LOG10_SINGLE
)


def based(m: Maths, k: F, z: F, base: Base) -> tuple[F, F]:
    """The logarithm of 2**k z to a base in two parts, by the table; exact at powers of the base."""
    r, index = near(m, z)
    p, p_low = m.product(r, m.f(base.unit[0]))
    p_low = m.fma(r, base.unit[1], p_low)
    whole = (
        k + m.lookup(base.c, index)
        if base.two[1] == 0
        else m.fma(k, base.two[0], m.lookup(base.c, index))
    )
    high, lost = m.ordered_sum(whole, p)
    low = lost + (p_low + m.lookup(base.c_low, index))
    low = low if base.two[1] == 0 else m.fma(k, base.two[1], low)
    return high, m.fma(r * r, m.poly(r, base.series), low)


def based_divided(m: Maths, k: F, z: F, base: Base) -> tuple[F, F]:
    """The same by a division."""
    f, rest = by_division(m, z)
    p, p_low = m.product(f, m.f(base.unit[0]))
    p_low = m.fma(rest, base.unit[0], m.fma(f, base.unit[1], p_low))
    high, lost = m.ordered_sum(k * base.two[0], p)
    return high, m.fma(k, base.two[1], lost + p_low)


def log2(m: Maths, x: F) -> F:
    """Logarithm to base 2."""
    base = BASE_2 if m.double else BASE_2_SINGLE
    return usual(m, x, partial(based, base=base), partial(based_divided, base=base), "any log2")


def log2_of_any(m: Maths, x: F) -> F:
    """log2 of any x."""
    return of_any(m, x, partial(based_divided, base=BASE_2 if m.double else BASE_2_SINGLE))


def log10(m: Maths, x: F) -> F:
    """Logarithm to base 10."""
    base = BASE_10 if m.double else BASE_10_SINGLE
    return usual(m, x, partial(based, base=base), partial(based_divided, base=base), "any log10")


def log10_of_any(m: Maths, x: F) -> F:
    """log10 of any x."""
    return of_any(m, x, partial(based_divided, base=BASE_10 if m.double else BASE_10_SINGLE))
