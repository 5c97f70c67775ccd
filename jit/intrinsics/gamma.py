"""lgamma and digamma in double precision; the float functions go through double.

Between -1/2 and 5/2 a polynomial around the zero at 2, less the logarithm of what the recurrence
took (digamma: around its zero, to 2); beyond, Stirling's formula with a polynomial in 1/x; below,
by reflection behind one test of all lanes. Coefficients: tests/ulp/remez.py, errors 2**-54 and
better.
"""

from __future__ import annotations

from jit.intrinsics.algebra import F, Maths
from jit.intrinsics.logarithm import halved, log_of_sum, tabled

# lgamma(2 + u) / u, |u| <= 1/2, the first coefficient in two parts.
FIRST = (0.42278433509846713, 4.942915152430645e-18)
AROUND_TWO = [
    0.32246703342411326,
    -0.06735230105319491,
    0.02058080842777587,
    -0.007385551029011146,
    0.002890510331292977,
    -0.0011927538979649422,
    0.0005096695087559613,
    -0.00022315503848644342,
    9.945776429621878e-05,
    -4.49230374857775e-05,
    2.050488943735567e-05,
    -9.460874910649457e-06,
    4.387789734557251e-06,
    -1.956538423531307e-06,
    9.128545950739644e-07,
    -6.18275975685886e-07,
    2.856521663182957e-07,
    3.2360223464057484e-08,
]
# lgamma(x) - (x - 1/2) (log(x) - 1) = OFFSET + t P(t), t = 1/x <= 2/5.
OFFSET = (0.4189385332046727, 1.6728209650585413e-17)
STIRLING = [
    0.08333333333333313,
    5.7792248888772e-14,
    -0.002777777783679356,
    3.0636372355540967e-10,
    0.0007936412859701307,
    1.9306325308087746e-07,
    -0.000597949098148651,
    2.724462440275551e-05,
    0.0006420163685345249,
    0.0010734868447566082,
    -0.006091577451112809,
    0.011200591044512244,
    -0.011514304104405954,
    0.006688585728184007,
    -0.0017310345156279386,
]
# digamma(x) / (x - x0) in x - 3/2 for 1 <= x <= 2; 3/2 - x0 in two parts.
ABOVE_ZERO = (0.038367855031637754, -9.549995429965697e-17)
SLOPE_AT_ZERO = 0.9676722454476212
AROUND_ZERO = [
    0.9510558760318328,
    -0.4236274212814607,
    0.240542484240829,
    -0.14840492305385383,
    0.09498872444615894,
    -0.061922133277831026,
    0.040760834361401946,
    -0.02697579656691223,
    0.017907234845963287,
    -0.011908222128596992,
    0.007927273473892838,
    -0.005279910793617618,
    0.0035151758793161647,
    -0.0023457116096427485,
    0.0015852824175761476,
    -0.0010353367281283256,
    0.0005856905204373557,
    -0.0004895063718236442,
    0.000637737166734366,
    -0.0001384996393381794,
    -0.0004321256751684769,
    -0.0001830113054447835,
    0.0005034135569777292,
]
# (log(x) - digamma(x)) x in t = 1/x <= 1/2.
GAP = [
    0.5,
    0.08333333333333467,
    1.1734244220482061e-13,
    -0.00833333337332673,
    2.9332118637538602e-09,
    0.003968146486897497,
    2.3966962072044384e-06,
    -0.004202333932934987,
    0.0003730066285834468,
    0.004754133998139756,
    0.015618404972029038,
    -0.08387805999547586,
    0.1762280984433521,
    -0.22218850699287834,
    0.17708386005170906,
    -0.08323180181972205,
    0.01773318691934928,
]
LOG_PI = 1.1447298858494002
PI = 3.141592653589793
PI_LOW = 1.2246467991473532e-16
INF = float("inf")


def lgamma(m: Maths, x: F) -> F:
    """log |gamma(x)|."""
    small, middle = x < 0.5, x < 1.5
    near = x <= 2.5
    u = m.select(small, x, x - m.select(middle, 1.0, 2.0))
    # Below 1/2 two steps of the recurrence: log |x (x + 1)|, the product in two parts.
    more, more_low = m.sum(x, m.f(1.0))
    size = m.abs(x)
    product, lost = m.product(size, more)
    lost = m.fma(size, more_low, lost)
    of = m.select(small, product, m.select(near & ~middle, 1.0, x))
    log_high, log_low = log_of_sum(m, of, m.select(small, lost, 0.0), precise=True)

    first, low = m.product(u, m.f(FIRST[0]))
    low = m.fma(u * u, m.poly(u, AROUND_TWO), m.fma(u, FIRST[1], low))
    inner, error = m.sum(first, -log_high)
    inner_low = (error - log_low) + low

    less, error = m.sum(log_high, m.f(-1.0))
    a = x - 0.5
    outer, low = m.product(a, less)
    low = m.fma(a, log_low + error, low)
    outer_sum, error = m.sum(outer, m.f(OFFSET[0]))
    t = 1.0 / x
    outer_low = (low + (error + OFFSET[1])) + t * m.poly(t, STIRLING)

    high, low = m.select(near, inner, outer_sum), m.select(near, inner_low, outer_low)
    found = m.select(m.abs(high) < INF, high + low, high)
    found = m.select(x.eq(0.0), INF, m.select(x < INF, found, x))
    return m.unless(x < -0.5, found, lgamma_below, x)


def lgamma_below(m: Maths, x: F) -> F:
    """lgamma of x < -1/2, as a call."""
    return m.formula("reflected lgamma", x)


def part(m: Maths, x: F) -> F:
    """x less the nearest integer; 0 of large numbers."""
    near = m.abs(x) < 2.0**50
    inner = m.select(near, x, 0.0)
    return inner - m.round(inner)[0]


def reflected_lgamma(m: Maths, x: F) -> F:
    """log(pi / |sin(pi x)|) - lgamma(1 - x) of x < 0; other lanes must not come here again."""
    more, lost = m.sum(m.f(1.0), -m.select(x < 0.0, m.most(x, -(2.0**1000)), -1.0))
    upper = m.formula("lgamma", more)
    # The slope there is nearly this.
    lost = lost * m.formula("log", more - 0.5)
    level = -m.formula("log", m.abs(m.formula("sin", part(m, x) * PI)))
    high, low = m.sum(level, -upper)
    found = m.select(m.abs(high) < INF, high + (LOG_PI + (low - lost)), high)
    return m.select(x.eq(-INF), INF, found)


def digamma(m: Maths, x: F) -> F:
    """The derivative of lgamma; NaN at -1, -2, ... and infinite at 0."""
    first, near = x < 1.0, x <= 2.0
    v = x - m.select(first, 0.5, 1.5)
    t = 1.0 / x
    distance, lost = m.sum(v, m.f(ABOVE_ZERO[0]))
    first_part, low = m.product(distance, m.f(AROUND_ZERO[0]))
    low = m.fma(lost + ABOVE_ZERO[1], SLOPE_AT_ZERO, low)
    inner = first_part + m.fma(distance * v, m.poly(v, AROUND_ZERO[1:]), low)
    inner = m.select(first, inner - t, inner)
    high, low = tabled(m, *halved(m, x), precise=True)
    outer = m.select(x < INF, high + (low - t * m.poly(t, GAP)), x)
    return m.unless(x < 0.0, m.select(near, inner, outer), digamma_below, x)


def digamma_below(m: Maths, x: F) -> F:
    """digamma of x < 0, as a call."""
    return m.formula("reflected digamma", x)


def reflected_digamma(m: Maths, x: F) -> F:
    """digamma(1 - x) - pi / tan(pi x) of x < 0; other lanes must not come here again."""
    upper = m.formula("digamma", m.select(x < 0.0, 1.0 - x, 2.0))
    rest = part(m, x)
    angle, lost = m.product(rest, m.f(PI))
    tangent = m.formula("tan", angle)
    lost = m.fma(rest, PI_LOW, lost) * m.fma(tangent, tangent, 1.0)
    cotangent = PI / tangent
    # What rounding took: from pi, from the quotient and from the angle.
    error = m.residual(cotangent, tangent, m.f(PI)) + (PI_LOW - cotangent * lost)
    high, low = m.sum(upper, -cotangent)
    found = m.select(m.abs(high) < INF, high + (low - error / tangent), high)
    pole = rest.eq(0.0) | x.eq(-INF)
    return m.select(pole, float("nan"), found)
