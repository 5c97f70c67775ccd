"""erf, erfc, erfinv.

erf below 1 is a polynomial; beyond, 1 - exp(-x**2) g(x) with g(x) = exp(x**2) erfc(x), a polynomial
in (x - c) / (x + c), and of floats 1 - exp of one polynomial. erfc multiplies such parts
everywhere, with every rounding corrected; (1 + x) g(x) is flat at 0, where roundings of its
argument would tell most. erfinv is a polynomial in log(1 - x**2) in the middle and in
s = sqrt(-log(1 - x)) towards the ends, where it is little less than s. Coefficients: own Remez fits
in 50 digits; errors 2**-55 and better (double), 2**-26 (float).
"""

from __future__ import annotations

from jit.intrinsics.algebra import F, Maths
from jit.intrinsics.exponential import excess, exp, reduced, scaled, tail
from jit.intrinsics.logarithm import halved, tabled
from jit.intrinsics.power import rough_log2

# erf(x) / x - 1 in x**2, for |x| <= 1.
NEAR_DOUBLE = [
    0.12837916709551256,
    -0.3761263890318334,
    0.11283791670936444,
    -0.026866170641839028,
    0.005223977595452258,
    -0.0008548325410276427,
    0.0001205527789715035,
    -1.4924409203281158e-05,
    1.64433795258456e-06,
    -1.61775514528943e-07,
    1.3586675961033095e-08,
    -7.547965676203214e-10,
]
NEAR_SINGLE = [
    0.12837916612625122,
    -0.3761262893676758,
    0.11283604800701141,
    -0.026854615658521652,
    0.0051898229867219925,
    -0.0008023154805414379,
    7.896266470197588e-05,
]
# g on [1, 6], c = 3, weighted by exp(-x**2); for float on [1, 4], c = 2.
FAR_DOUBLE = [
    0.17900115118139,
    -0.32623356004316206,
    0.24560380170781534,
    -0.15011593654572192,
    0.07166583743877172,
    -0.024392489985944857,
    0.004269232629594506,
    0.0007083051890535743,
    -0.0005950009638113448,
    5.021710704823639e-05,
    7.162249060204796e-05,
    -6.441905488439503e-06,
    -6.579663366580852e-06,
]
# log(erfc(x)), for 1 <= x <= 4, weighted with erfc(x).
LOG_SINGLE = [
    -0.00034165900433436036,
    -1.1270886659622192,
    -0.6381456255912781,
    -0.10310617089271545,
    0.021837858483195305,
    -0.0029476324561983347,
    0.00018637982429936528,
]
# (1 + x) g(x) on [0, 27.5], c = 4; the first coefficient in two parts.
SCALED_FIRST = (0.6849972881253069, 3.632041483768608e-17)
SCALED = [
    -0.19934458280036707,
    0.11704966551044234,
    -0.04808038122130757,
    0.0039620556812987465,
    0.015312509679282216,
    -0.017515654646711922,
    0.012161784753470307,
    -0.006068735217768598,
    0.002116421578486739,
    -0.00038976749791341727,
    -6.013673710392115e-05,
    6.40327850460441e-05,
    -1.315127426933736e-05,
    -4.138633320904269e-06,
    2.6506220141102766e-06,
    4.6499896152019256e-09,
    -3.6476663617009923e-07,
    5.023401009754932e-08,
    4.752331830293233e-08,
    -1.0281230580467507e-08,
    -6.175267357778737e-09,
    1.0628378073807034e-09,
    5.903659361098063e-10,
]
# The same for float on [0, 10.1], c = 3.
SINGLE_FIRST = (0.7160046100616455, -4.833983879848347e-09)
SCALED_SINGLE = [
    -0.23092734813690186,
    0.09902069717645645,
    -0.01023469865322113,
    -0.02380249835550785,
    0.021950921043753624,
    -0.009764561429619789,
    0.0016409229720011353,
    0.0007037757313810289,
    -0.00037342190626077354,
    -0.0001056427281582728,
]
# (erfinv(y) / y - sqrt(pi) / 2) / w in w = -log(1 - y**2), for |y| <= 3/4.
CENTRAL = [
    0.23201366653465463,
    0.011549342038261152,
    -0.0023351016413809987,
    -0.00012804329696393488,
    4.6611458859614264e-05,
    2.0199100380925474e-06,
    -1.0123359672511505e-06,
    -3.769113016834317e-08,
    2.3250915079070688e-08,
    4.461409040121252e-10,
    -4.3696844231890916e-10,
]
# For float: erfinv(y) / y in w - 5/2 for w <= 5, and in sqrt(w) - 13/4 beyond; 2**-26.
NEAR_INVERSE = [
    1.501409359498953,
    0.2466402867752296,
    -0.004177388190551035,
    -0.001252743596295969,
    0.0002183458045465997,
    -4.9621347686282005e-06,
    -3.4631144333235226e-06,
    4.6586430394102937e-07,
    2.327018306516704e-08,
    -8.76590423430385e-09,
]
FAR_INVERSE = [
    3.0838855815908635,
    1.0052593023533847,
    0.0053726586154397215,
    -0.0037570451266608694,
    0.0024744819186780045,
    -0.0016605869958344383,
    0.001011975510548326,
    -0.0004059708556628298,
    -6.143871652752948e-05,
    0.00010675026747908472,
]
HALF_ROOT_PI = (0.886226925452758, -3.8332932499128993e-17)
# s - erfinv(y) in (s - 2.6) / (s + 2.6), s = sqrt(-log(1 - y)), for 3/4 <= y < 1; 2**-56.
TAIL_INVERSE = [
    0.30280353026434903,
    -0.23927964611068714,
    -0.10380895241441658,
    0.16837243717460412,
    -0.1959768839448936,
    0.14206288924627253,
    -0.07812532161119831,
    0.0029597606814175175,
    0.04575495947906698,
    -0.07265047907851131,
    0.06635512507011523,
    -0.042861854423662665,
    0.006990056828077013,
    0.022773713906910076,
    -0.04187719514817605,
    0.04225231044733307,
    -0.030368852650527182,
    0.0084354082742302,
    0.01635388898249331,
    -0.034351280763468425,
    0.026789345050536408,
    -0.007872492839591924,
]


def erf(m: Maths, x: F) -> F:
    """Error function."""
    size = m.least(m.abs(x), m.pick(6.0, 4.0))
    square = size * size
    far = 1.0 - (rest_of_double(m, size, square) if m.double else rest_of_single(m, size))
    near = m.fma(x, m.poly(square, NEAR_DOUBLE if m.double else NEAR_SINGLE), x)
    return m.copysign(m.select(m.abs(x) <= 1.0, near, far), x)


def rest_of_double(m: Maths, x: F, square: F) -> F:
    """erfc(x) from 1 to 6, with the error of an erf."""
    return exp(m, -square) * m.poly((x - 3.0) / (x + 3.0), FAR_DOUBLE)


def rest_of_single(m: Maths, x: F) -> F:
    """erfc(x) from 1 to 4, with the error of an erf: exp of a polynomial, far from both ends."""
    r, _, k = reduced(m, m.poly(x, LOG_SINGLE))
    power = m.power_of_two(k)
    return m.fma(excess(m, r), power, power)


def scaled_parts(m: Maths, x: F) -> tuple[F, F]:
    """g(x) = exp(x**2) erfc(x) for x in [0, 27.5] (float: 10.1) with its rounding error."""
    centre = m.pick(4.0, 3.0)
    first, first_low = SCALED_FIRST if m.double else SINGLE_FIRST
    bottom, bottom_low = m.sum(x, m.f(1.0))
    # One division for both quotients: t may be a little off, and the ratio is corrected below.
    both = 1.0 / ((x + centre) * bottom)
    t = (x - centre) * (bottom * both)
    rest = t * m.poly(t, SCALED if m.double else SCALED_SINGLE)
    top, top_low = m.ordered_sum(m.f(first), rest)
    top_low = top_low + first_low
    inverse = (x + centre) * both
    ratio = top * inverse
    error = m.residual(ratio, bottom, top) + (top_low - ratio * bottom_low)
    return ratio, error * inverse


def gaussian_times(m: Maths, x: F, g: F, g_low: F) -> F:
    """exp(-x**2) (g + g_low), x**2 exact, one rounding at the end and one more if subnormal."""
    square, square_low = m.product(x, x)
    r, n, k = reduced(m, -square)
    r, low = m.ordered_sum(r, -square_low)
    p, p_low = m.ordered_sum(m.f(1.0), r + m.fma(r * r, tail(m, r, fine=True), low))
    return scaled(m, m.fma(p, g, m.fma(p, g_low, p_low * g)), n, k)


def erfc(m: Maths, x: F) -> F:
    """1 - erf(x), precise in the tail."""
    size = m.least(m.abs(x), m.pick(27.5, 10.1))
    beyond = gaussian_times(m, size, *scaled_parts(m, size))
    return m.select(x.is_nan(), x, m.select(x < 0.0, 2.0 - beyond, beyond))


def single_erfinv(m: Maths, y: F) -> F:
    """The inverse of erf of floats: one polynomial of a short logarithm in double precision."""
    d = m.doubles()
    wide = m.widen(y, d)
    w = rough_log2(d, d.fma(-wide, wide, 1.0)) * -0.6931471805599453
    far = w > 5.0
    # The root needs no more bits than floats have.
    root = m.widen(m.sqrt(m.narrow(w)), d)
    v = d.select(far, root - 3.25, w - 2.5)
    pairs = zip(FAR_INVERSE, NEAR_INVERSE, strict=True)
    found = m.narrow(wide * d.horner_of(v, [d.select(far, a, b) for a, b in pairs]))
    size = m.abs(y)
    end = m.select(size.eq(1.0), m.copysign(m.f(float("inf")), y), float("nan"))
    return m.select(size < 1.0, found, end)


def erfinv(m: Maths, y: F) -> F:
    """The inverse of erf; infinite at -1 and 1, NaN beyond."""
    if not m.double:
        return single_erfinv(m, y)
    size = m.abs(y)
    near = size <= 0.75
    # One logarithm for both: of 1 - y**2 in the middle, of 1 - y towards the ends.
    complement = m.select(near, m.fma(-size, size, 1.0), 1.0 - size)
    high, low = tabled(m, *halved(m, complement), precise=True)
    level = -(high + low)
    central, lost = m.product(y, m.f(HALF_ROOT_PI[0]))
    central = central + m.fma(y, m.fma(level, m.poly(level, CENTRAL), HALF_ROOT_PI[1]), lost)
    root = m.sqrt(level)
    # What is missing of the root, from its own rounding and from that of the logarithm.
    missing = m.residual(root, root, level) - ((high + level) + low)
    t = (root - 2.6) / (root + 2.6)
    rest = m.fma(missing, 0.5 * m.rough_reciprocal(root), -m.poly(t, TAIL_INVERSE))
    found = m.copysign(m.select(near, m.abs(central), root + rest), y)
    end = m.select(size.eq(1.0), m.copysign(m.f(float("inf")), y), float("nan"))
    return m.select(size < 1.0, found, end)
