"""exp, exp2, expm1, tanh, sinh, cosh, logistic: one reduction to |r| <= log(2)/2, one polynomial.

exp(x) = 2**n exp(r). Coefficients: own Remez fits in 50 digits of (exp(r) - 1 - r) / r**2 on the
reduced range, weighted for the relative error of the result, leading ones rounded first and the
rest fitted again. Errors of the fits: 2**-58 and 2**-63 (double), 2**-28 and 2**-31 (float).
"""

from __future__ import annotations

from jit.intrinsics.algebra import F, I, Maths
from jit.intrinsics.pieces import FIRST, LAST, PIECES

EXP_DOUBLE = [
    0.5000000000000011,
    0.16666666666666435,
    0.04166666666652575,
    0.008333333333475756,
    0.001388888894487159,
    0.00019841269555349774,
    2.4801491750133315e-05,
    2.7557536033270478e-06,
    2.7630744413524735e-07,
    2.501790800526414e-08,
]
FINE_DOUBLE = [
    0.5,
    0.16666666666666688,
    0.041666666666666824,
    0.008333333333313918,
    0.0013888888888780398,
    0.00019841269903253417,
    2.480158755115878e-05,
    2.7557228843548286e-06,
    2.755707759982396e-07,
    2.511386484676281e-08,
    2.0973794325143836e-09,
]
EXP_SINGLE = [
    0.4999999403953552,
    0.16666516661643982,
    0.04166810214519501,
    0.008369174785912037,
    0.0013838213635608554,
]
FINE_SINGLE = [
    0.5,
    0.16666647791862488,
    0.041666481643915176,
    0.008337864652276039,
    0.0013933470472693443,
    0.00017343736544717103,
]
LOG2_E = 1.4426950408889634
# log(2) with so few bits in the first part that its product with an exponent is exact.
LN2 = (0.6931471805601177, -1.7239444525614835e-13)
LN2_SINGLE = (0.693145751953125, 1.428606765330187e-06)


def counted(m: Maths, x: F) -> tuple[F, I]:
    """The multiple n of log(2) that is nearest to x, as float and as integer.

    The number that rounds leaves n + 2 bias in the low bits, which `factors` shifts up.
    """
    magic = m.magic + 2 * m.bias
    shifted = m.fma(x, LOG2_E, magic)
    return shifted - magic, m.bits(shifted) - (m.magic_bits + 2 * m.bias)


def reduced(m: Maths, x: F) -> tuple[F, F, I]:
    """r and n (as float and integer) with x = n log(2) + r; |x| well below 2**mantissa."""
    high, low = LN2 if m.double else LN2_SINGLE
    n, k = counted(m, x)
    return m.fma(n, -low, m.fma(n, -high, x)), n, k


def reduced_pair(m: Maths, x: F) -> tuple[F, F, F, I]:
    """As `reduced`, with what rounding took from r behind it."""
    high, low = LN2 if m.double else LN2_SINGLE
    n, k = counted(m, x)
    first = m.fma(n, -high, x)
    r = m.fma(n, -low, first)
    return r, m.fma(n, -low, first - r), n, k


def tail(m: Maths, r: F, fine: bool) -> F:
    """(exp(r) - 1 - r) / r**2."""
    if m.double:
        return m.poly(r, FINE_DOUBLE if fine else EXP_DOUBLE)
    # All who call have the square as well, so that there is no other product in this.
    return m.poly(r, FINE_SINGLE if fine else EXP_SINGLE, r * r)


def excess(m: Maths, r: F) -> F:
    """exp(r) - 1."""
    return m.fma(r * r, tail(m, r, fine=False), r)


def factors(m: Maths, n: F, k: I) -> tuple[F, F]:
    """Two powers of 2 whose product is 2**n; |n| = |k| may be half as much again as exponents are.

    The second is far from 1, so that both are normal numbers; products of the first with a number
    that is not small are exact.
    """
    far = 2.0 ** m.pick(512, 100)
    second = m.select(m.bits(n) < 0, 1.0 / far, far)
    return m.real(((k + 2 * m.bias) << m.mantissa) - m.bits(second)), second


def scaled(m: Maths, p: F, n: F, k: I) -> F:
    """p * 2**n with one rounding for p around 1; n = k as in `factors`."""
    if m.avx512:
        return m.masked512("scalef", [p, n], after="4")
    first, second = factors(m, n, k)
    return p * first * second


def scaled_small(m: Maths, p: F, n: F, k: I) -> F:
    """The same of p that may be small: by two halves of n, which cost more."""
    if m.avx512:
        return scaled(m, p, n, k)
    _, half = m.round(n * 0.5)
    return p * m.power_of_two(half) * m.power_of_two(k - half)


def scaled_more(m: Maths, u: F, n: F, k: I) -> F:
    """(1 + u) 2**n; n = k as in `factors`."""
    if m.avx512:
        return scaled(m, 1.0 + u, n, k)
    first, second = factors(m, n, k)
    return m.fma(u, first, first) * second


def clamped(m: Maths, x: F) -> F:
    """x where exp(x) is neither 0 nor infinite, and just beyond on both sides."""
    return m.most(m.least(x, m.pick(710.0, 89.0)), m.pick(-746.0, -104.0))


def exp(m: Maths, x: F) -> F:
    """exp(x)."""
    r, n, k = reduced(m, clamped(m, x))
    return scaled_more(m, excess(m, r), n, k)


def exp2(m: Maths, x: F) -> F:
    """2**x: the fraction is exact, its product with log(2) is kept in two parts."""
    x = m.most(m.least(x, m.pick(1025.0, 129.0)), m.pick(-1076.0, -151.0))
    n, k = m.round(x)
    fraction = x - n
    ln2 = m.f(m.pick(0.6931471805599453, 0.6931471824645996))
    rest = m.pick(2.3190468138462996e-17, -1.9046542121259336e-09)
    r, low = m.product(fraction, ln2)
    low = m.fma(fraction, rest, low)
    p = 1.0 + (r + m.fma(r * r, tail(m, r, fine=False), low))
    return scaled(m, p, n, k)


def expm1(m: Maths, x: F) -> F:
    """exp(x) - 1 = 2 (2**(n-1) p + 2**(n-1) - 1/2) with p = exp(r) - 1; p itself for n = 0."""
    inner = m.most(m.least(x, m.pick(710.0, 89.0)), m.pick(-40.0, -20.0))
    r, r_low, n, k = reduced_pair(m, inner)
    p, lost = m.ordered_sum(r, r * r * tail(m, r, fine=True))
    half = m.power_of_two(k - 1)
    big = m.fma(half, lost + r_low, m.fma(half, p, half - 0.5))
    return m.copysign(m.select(n.eq(0.0), p, big + big), x)


def shrinking(m: Maths, k: I, by: int) -> F:
    """2.0**-(k + by); 0 where that is no normal number."""
    exponent = m.i(m.bias - by) - k
    return m.real(m.select(exponent < 0, m.i(0), exponent) << m.mantissa)


def logistic(m: Maths, x: F) -> F:
    """2**-n / (2**-n + exp(r)) with -x = n log(2) + r; the sum in two parts, one division."""
    y = m.most(m.least(-x, m.pick(746.0, 104.0)), m.pick(-40.0, -20.0))
    r, n, k = reduced(m, y)
    p = excess(m, r)
    if m.avx512:
        power = m.masked512("scalef", [m.f(1.0), -n], after="4")
    else:
        power = shrinking(m, k, 0)
    whole, whole_low = m.sum(power, m.f(1.0))
    bottom, low = m.ordered_sum(whole, p)
    ratio, inverse = m.divided(m.f(1.0), bottom)
    error = m.residual(ratio, bottom, m.f(1.0)) - ratio * (low + whole_low)
    return scaled(m, m.fma(inverse, error, ratio), -n, m.i(0) - k)


# (sinh(r) - r) / r**3 and (cosh(r) - 1) / r**2 in r**2, on the reduced range.
SINH_DOUBLE = [
    0.16666666666666677,
    0.008333333333321384,
    0.0001984126988682256,
    2.7557243443453035e-06,
    2.5109324400216064e-08,
]
COSH_DOUBLE = [
    0.5,
    0.041666666666666685,
    0.0013888888888873283,
    2.4801587349199474e-05,
    2.755725182298906e-07,
    2.0921768602863478e-09,
]
SINH_SINGLE = [0.1666666716337204, 0.00833317544311285, 0.00019973926828242838]
COSH_SINGLE = [0.5, 0.041666459292173386, 0.001393542974255979]


def halves(m: Maths, size: F) -> tuple[F, F, F, F, F]:
    """r, sinh(r) - r, cosh(r) - 1, and 2**(n-2) and 2**(-n-2), for size = n log(2) + r >= 0."""
    x = m.least(size, m.pick(710.6, 89.7))
    r, r_low, _, k = reduced_pair(m, x)
    z = r * r
    s = m.fma(r * z, m.poly(z, SINH_DOUBLE if m.double else SINH_SINGLE), r_low)
    c = z * m.poly(z, COSH_DOUBLE if m.double else COSH_SINGLE)
    return r, s, c, m.power_of_two(k - 2), shrinking(m, k, 2)


def sinh(m: Maths, x: F) -> F:
    """By the addition theorem for n log(2) + r, in halves so that nothing overflows early."""
    r, s, c, grown, shrunk = halves(m, m.abs(x))
    even = grown + shrunk
    odd, lost = m.ordered_sum(grown, -shrunk)
    half = m.fma(even, r, odd) + m.fma(even, s, m.fma(odd, c, lost))
    found = m.select(m.abs(x) < m.pick(2.0**-30, 2.0**-14), x, half + half)
    return m.copysign(found, x)


def cosh(m: Maths, x: F) -> F:
    """By the addition theorem for n log(2) + r, in halves so that nothing overflows early."""
    r, s, c, grown, shrunk = halves(m, m.abs(x))
    odd = grown - shrunk
    even, lost = m.ordered_sum(grown, shrunk)
    half = m.fma(odd, r, even) + m.fma(odd, s, m.fma(even, c, lost))
    return half + half


TANH_TOP = [-0.3333333333333333, -0.02049522886753235, -0.00019901990913769401]
TANH_BOTTOM = [1.0, 0.46148568660258626, 0.023286572463946293, 0.00020636437984939814]
TANH_SINGLE = [
    -0.33333325386047363,
    0.13333003222942352,
    -0.05392270162701607,
    0.021577969193458557,
    -0.007895834743976593,
    0.0019041728228330612,
]


def in_pieces(m: Maths, size: F) -> F:
    """tanh of floats from 0 to `LAST`: the polynomial of the piece."""
    place = m.bits(size) >> (m.mantissa - 1)
    place = m.select(place < FIRST, m.i(FIRST), place) - FIRST
    centre, *coefficients = [m.lookup(row, place) for row in PIECES]
    return m.horner_of(size - centre, coefficients)


def tanh(m: Maths, x: F) -> F:
    """x + x**3 R(x**2) below 0.7, else 1 - 2 / (exp(2 |x|) + 1); one division serves both.

    R: rational interpolation at Chebyshev nodes in 50 digits (double), Remez (float). Floats in
    registers of 512 bits, where tables cost nothing, take neither division nor exponential.
    """
    size = m.abs(x)
    if m.avx512 and not m.double:
        return m.copysign(in_pieces(m, m.least(size, LAST)), x)
    square = x * x
    r, _, k = reduced(m, m.least(size + size, m.pick(44.0, 22.0)))
    power = m.power_of_two(k)
    more = m.fma(excess(m, r), power, power) + 1.0
    small = size < 0.7
    if m.double:
        top = m.select(small, square * m.poly(square, TANH_TOP), 2.0)
        ratio = top / m.select(small, m.poly(square, TANH_BOTTOM), more)
        low = ratio
    else:
        low = square * m.poly(square, TANH_SINGLE)
        inverse = m.reciprocal(more)
        ratio = inverse + inverse
    return m.copysign(m.select(small, m.fma(x, low, x), 1.0 - ratio), x)
