"""Complex arithmetic on pairs of real values, with NumPy's meaning at zeros and infinities.

Elementary functions are formulas over the real ones, on NumPy's side of each branch cut; those of
complex64 are computed in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import DType, Value
from jit.lowering.formulas import hypot, integer_power
from jit.lowering.rules import Pair


def pair(b: Builder, re: Value, im: Value | float = 0.0) -> Pair:
    return Pair(re, im if isinstance(im, Value) else b.const(re.dtype, im))


def number(b: Builder, like: Pair, value: complex) -> Pair:
    return Pair(b.const(like.re.dtype, value.real), b.const(like.re.dtype, value.imag))


def chosen(b: Builder, cond: Value, then: Pair, orelse: Pair) -> Pair:
    return Pair(b.select(cond, then.re, orelse.re), b.select(cond, then.im, orelse.im))


def is_zero(b: Builder, z: Pair) -> Value:
    return b.and_(b.eq(z.re, 0.0), b.eq(z.im, 0.0))


# -- arithmetic -------------------------------------------------------------------------------


def neg(b: Builder, z: Pair) -> Pair:
    return Pair(b.neg(z.re), b.neg(z.im))


def conj(b: Builder, z: Pair) -> Pair:
    return Pair(z.re, b.neg(z.im))


def add(b: Builder, z: Pair, w: Pair) -> Pair:
    return Pair(b.add(z.re, w.re), b.add(z.im, w.im))


def sub(b: Builder, z: Pair, w: Pair) -> Pair:
    return Pair(b.sub(z.re, w.re), b.sub(z.im, w.im))


def mul(b: Builder, z: Pair, w: Pair) -> Pair:
    return Pair(
        b.sub(b.mul(z.re, w.re), b.mul(z.im, w.im)),
        b.add(b.mul(z.re, w.im), b.mul(z.im, w.re)),
    )


def times(b: Builder, z: Pair, factor: Value | float) -> Pair:
    """A pair times a real number."""
    return Pair(b.mul(z.re, factor), b.mul(z.im, factor))


def square(b: Builder, z: Pair) -> Pair:
    return mul(b, z, z)


def scale(b: Builder, z: Pair, w: Pair) -> Pair:
    """z * w, but 0 where either is 0."""
    zero = b.or_(is_zero(b, z), is_zero(b, w))
    return chosen(b, zero, number(b, z, 0), mul(b, z, w))


def div(b: Builder, z: Pair, w: Pair) -> Pair:
    """Smith's algorithm: divide by the larger part first, so that nothing overflows on the way."""
    tall = b.not_(b.ge(b.abs(w.re), b.abs(w.im)))
    big, small = b.select(tall, w.im, w.re), b.select(tall, w.re, w.im)
    nothing = is_zero(b, w)
    ratio = b.select(nothing, 0.0, b.div(small, big))
    inverse = b.div(b.const(z.re.dtype, 1.0), b.add(big, b.mul(small, ratio)))
    first, second = b.select(tall, z.im, z.re), b.select(tall, z.re, z.im)
    re = b.mul(b.add(first, b.mul(second, ratio)), inverse)
    # The difference is not negated, so that a zero has NumPy's sign.
    cross = b.mul(first, ratio)
    im = b.mul(b.sub(b.select(tall, cross, second), b.select(tall, second, cross)), inverse)
    size = b.abs(w.re)
    zero = Pair(b.div(z.re, size), b.div(z.im, size))
    return chosen(b, nothing, zero, Pair(re, im))


def reciprocal(b: Builder, z: Pair) -> Pair:
    """1 / z, dividing by the larger part first."""
    tall = b.lt(b.abs(z.re), b.abs(z.im))
    big, small = b.select(tall, z.im, z.re), b.select(tall, z.re, z.im)
    ratio = b.div(small, big)
    whole = b.add(big, b.mul(small, ratio))
    unit, part = b.div(b.const(z.re.dtype, 1.0), whole), b.div(ratio, whole)
    return Pair(b.select(tall, part, unit), b.neg(b.select(tall, unit, part)))


def absolute(b: Builder, z: Pair) -> Value:
    """|z| without overflow."""
    return hypot(b, z.re, z.im)


def sign(b: Builder, z: Pair) -> Pair:
    """z / |z|, 0 at 0; along an axis where one part is infinite."""
    size = absolute(b, z)
    one = b.const(z.re.dtype, 1.0)
    along = Pair(
        b.select(b.eq(b.abs(z.re), math.inf), b.op("copysign", one, z.re), 0.0),
        b.select(b.eq(b.abs(z.im), math.inf), b.op("copysign", one, z.im), 0.0),
    )
    both = b.and_(b.ne(along.re, 0.0), b.ne(along.im, 0.0))
    inner = Pair(b.div(z.re, size), b.div(z.im, size))
    inner = chosen(b, is_zero(b, z), number(b, z, 0), inner)
    found = chosen(b, b.eq(size, math.inf), along, inner)
    return chosen(b, both, number(b, z, complex(math.nan, math.nan)), found)


# -- comparisons ------------------------------------------------------------------------------


def eq(b: Builder, z: Pair, w: Pair) -> Value:
    return b.and_(b.eq(z.re, w.re), b.eq(z.im, w.im))


def ne(b: Builder, z: Pair, w: Pair) -> Value:
    return b.or_(b.ne(z.re, w.re), b.ne(z.im, w.im))


def before(b: Builder, name: str, z: Pair, w: Pair) -> Value:
    """The lexicographic order; nothing is before or after a NaN."""
    ordered = b.and_(b.eq(z.im, z.im), b.eq(w.im, w.im))
    first = b.and_(b.lt(z.re, w.re), ordered)
    return b.or_(first, b.and_(b.eq(z.re, w.re), b.op(name, z.im, w.im)))


def is_finite(b: Builder, z: Pair) -> Value:
    return b.and_(b.lt(b.abs(z.re), math.inf), b.lt(b.abs(z.im), math.inf))


def is_nan(b: Builder, z: Pair) -> Value:
    return b.or_(b.ne(z.re, z.re), b.ne(z.im, z.im))


# -- bytes ------------------------------------------------------------------------------------


def to_word(b: Builder, z: Pair, kind: DType) -> Value:
    """The 8 bytes of a complex64 as one value."""
    low = b.cast(b.bitcast(z.re, "u32"), "u64")
    high = b.op("shl", b.cast(b.bitcast(z.im, "u32"), "u64"), 32)
    word = b.or_(low, high)
    return word if kind == "u64" else b.bitcast(word, kind)


def from_word(b: Builder, x: Value) -> Pair:
    """8 bytes as a complex64."""
    word = x if x.dtype == "u64" else b.bitcast(x, "u64")
    low, high = b.cast(word, "u32"), b.cast(b.op("shr", word, 32), "u32")
    return Pair(b.bitcast(low, "f32"), b.bitcast(high, "f32"))


# -- exponentials and logarithms --------------------------------------------------------------


def in_double(function: Callable[..., Pair]) -> Callable[..., Pair]:
    """A function that is computed in double precision, and rounded once where parts are floats."""

    @wraps(function)
    def apply(b: Builder, *args: Any) -> Pair:
        if args[0].re.dtype == "f64":
            return function(b, *args)
        found = function(b, *[Pair(b.cast(z.re, "f64"), b.cast(z.im, "f64")) for z in args])
        return Pair(b.cast(found.re, "f32"), b.cast(found.im, "f32"))

    return apply


FAR, SHIFT = 700.0, 345.0
"""Exponentials come near overflow beyond FAR; SHIFT is then taken off the argument."""


def shifted(b: Builder, x: Value) -> tuple[Value, Value]:
    """x nearer to 0, and the factor that exp, sinh and cosh of it lack, so that a product with a
    small number need not overflow on the way."""
    big = b.gt(b.abs(x), FAR)
    less = b.op("copysign", b.const(x.dtype, SHIFT), x)
    one = b.const(x.dtype, 1.0)
    return b.sub(x, b.select(big, less, 0.0)), b.select(big, math.exp(SHIFT), one)


def unbounded(b: Builder, x: Value) -> Value:
    """Whether x is infinite or NaN."""
    return b.not_(b.lt(b.abs(x), math.inf))


@in_double
def exp(b: Builder, z: Pair) -> Pair:
    """exp(x) (cos y + i sin y); a zero angle leaves a zero even where exp(x) is infinite."""
    big = b.gt(z.re, FAR)
    x = b.select(big, b.sub(z.re, SHIFT), z.re)
    factor = b.select(big, math.exp(SHIFT), b.const(x.dtype, 1.0))
    re = b.mul(b.op("exp_cos", x, z.im), factor)
    im = b.mul(b.op("exp_sin", x, z.im), factor)
    found = Pair(re, b.select(b.eq(z.im, 0.0), z.im, im))
    open_angle = unbounded(b, z.im)
    found = Pair(b.select(b.and_(open_angle, b.eq(z.re, math.inf)), math.inf, found.re), found.im)
    gone = b.and_(b.eq(z.re, -math.inf), open_angle)
    return chosen(b, gone, number(b, z, 0), found)


@in_double
def exp2(b: Builder, z: Pair) -> Pair:
    return exp(b, times(b, z, math.log(2)))


@in_double
def expm1(b: Builder, z: Pair) -> Pair:
    """expm1(x) cos(y) - 2 sin(y/2)^2 + i exp(x) sin(y): no cancellation near 0."""
    half = b.op("sin", b.mul(z.im, 0.5))
    re = b.sub(b.mul(b.op("expm1", z.re), b.op("cos", z.im)), b.mul(b.mul(half, half), 2.0))
    return Pair(re, b.mul(b.op("exp", z.re), b.op("sin", z.im)))


@in_double
def log(b: Builder, z: Pair) -> Pair:
    """log|z| + i arg z, with |z|**2 in two parts, for the sake of |z| near 1."""
    angle = b.op("atan2", z.im, z.re)
    big = b.op("fmax", b.abs(z.re), b.abs(z.im))
    tiny, huge = b.lt(big, 2.0**-400), b.gt(big, 2.0**500)
    one, zero = b.const(z.re.dtype, 1.0), b.const(z.re.dtype, 0.0)
    scale = b.select(tiny, 2.0**600, b.select(huge, 2.0**-600, one))
    shift = 600 * math.log(2)
    moved = b.select(tiny, -shift, b.select(huge, shift, zero))
    scaled = times(b, z, scale)
    norm, rest = (b.op(name, scaled.re, scaled.im) for name in ("norm", "norm_rest"))
    less = b.select(b.eq(norm, 0.0), 0.0, b.div(rest, norm))
    return Pair(b.add(b.mul(b.add(b.op("log", norm), less), 0.5), moved), angle)


@in_double
def log2(b: Builder, z: Pair) -> Pair:
    return times(b, log(b, z), 1 / math.log(2))


@in_double
def log10(b: Builder, z: Pair) -> Pair:
    return times(b, log(b, z), 1 / math.log(10))


@in_double
def log1p(b: Builder, z: Pair) -> Pair:
    """log(1 + z): with |1 + z|^2 - 1 = x (2 + x) + y^2, which keeps a small z."""
    moved = Pair(b.add(z.re, 1.0), z.im)
    excess = b.fma(z.re, b.add(z.re, 2.0), b.mul(z.im, z.im))
    size = absolute(b, moved)
    near = b.and_(b.gt(size, 0.5), b.lt(size, 2.0))
    re = b.select(near, b.mul(b.op("log1p", excess), 0.5), b.op("log", size))
    return Pair(re, b.op("atan2", moved.im, moved.re))


# -- roots and powers -------------------------------------------------------------------------


@in_double
def sqrt(b: Builder, z: Pair) -> Pair:
    """The root with a real part >= 0; its imaginary part has the sign of z's."""
    largest = b.op("fmax", b.abs(z.re), b.abs(z.im))
    tiny = b.lt(largest, 2.0**-900)
    one = b.const(z.re.dtype, 1.0)
    raised = times(b, z, b.select(tiny, 2.0**100, one))
    x, y = b.abs(raised.re), b.abs(raised.im)
    large = b.op("sqrt", b.fma(hypot(b, x, y), 0.5, b.mul(x, 0.5)))
    small = b.select(b.eq(large, 0.0), 0.0, b.mul(b.div(y, large), 0.5))
    lower = b.select(tiny, 2.0**-50, one)
    large, small = b.mul(large, lower), b.mul(small, lower)
    left = b.lt(z.re, 0.0)
    re, im = b.select(left, small, large), b.select(left, large, small)
    tall = b.eq(b.abs(z.im), math.inf)
    flat = b.eq(b.abs(z.re), math.inf)
    re = b.select(tall, math.inf, b.select(b.and_(flat, b.not_(left)), math.inf, re))
    im = b.select(tall, math.inf, b.select(b.and_(flat, left), math.inf, im))
    return Pair(re, b.op("copysign", im, z.im))


@in_double
def rsqrt(b: Builder, z: Pair) -> Pair:
    return div(b, number(b, z, 1), sqrt(b, z))


def integer_pow(b: Builder, z: Pair, exponent: int) -> Pair:
    raised = integer_power(b, z, abs(exponent), mul, number(b, z, 1))
    return reciprocal(b, raised) if exponent < 0 else raised


MOST_WHOLE, WHOLE_BITS = 100, 7
"""Smaller whole exponents are products, as in NumPy."""


@in_double
def power(b: Builder, z: Pair, w: Pair) -> Pair:
    """exp(w log z), or products; 1 where w is 0; 0 to a power with a positive real part is 0."""
    general = exp(b, full_mul(b, w, log(b, z)))
    whole = b.and_(b.eq(w.im, 0.0), b.eq(b.op("floor", w.re), w.re))
    whole = b.and_(whole, b.lt(b.abs(w.re), float(MOST_WHOLE)))
    found = chosen(b, whole, whole_power(b, z, w.re), general)
    nan = number(b, z, complex(math.nan, math.nan))
    at_zero = chosen(b, b.gt(w.re, 0.0), number(b, z, 0), nan)
    found = chosen(b, is_zero(b, z), at_zero, found)
    return chosen(b, is_zero(b, w), number(b, z, 1), found)


def whole_power(b: Builder, z: Pair, n: Value) -> Pair:
    """z to a whole number below MOST_WHOLE by repeated squaring, the products in NumPy's order."""
    found, factor, left = number(b, z, 1), z, b.abs(n)
    for _ in range(WHOLE_BITS):
        half = b.op("floor", b.mul(left, 0.5))
        is_odd = b.ne(b.add(half, half), left)
        found = chosen(b, is_odd, mul(b, found, factor), found)
        factor, left = mul(b, factor, factor), half
    found = chosen(b, b.lt(n, 0.0), div(b, number(b, z, 1), found), found)
    second = mul(b, z, z)
    for exponent, product in ((1.0, z), (2.0, second), (3.0, mul(b, z, second))):
        found = chosen(b, b.eq(n, exponent), product, found)
    return found


def full_mul(b: Builder, z: Pair, w: Pair) -> Pair:
    """The product as C defines it: infinite where a factor is, even beside NaN (C17, G.5.1)."""

    def ends(x: Pair) -> Value:
        """Where only the imaginary part is infinite, a product says so."""
        return b.eq(b.abs(x.re), math.inf)

    def boxed(x: Value) -> Value:
        one = b.const(x.dtype, 1.0)
        return b.op("copysign", b.select(b.eq(b.abs(x), math.inf), one, 0.0), x)

    def calm(x: Value) -> Value:
        return b.select(b.ne(x, x), b.op("copysign", b.const(x.dtype, 0.0), x), x)

    def treated(cond: Value, x: Pair, by: Callable[[Value], Value]) -> Pair:
        return chosen(b, cond, Pair(by(x.re), by(x.im)), x)

    plain = mul(b, z, w)
    z_ends, w_ends = ends(z), ends(w)
    parts = [(z.re, w.re), (z.im, w.im), (z.re, w.im), (z.im, w.re)]
    products = [b.eq(b.abs(b.mul(x, y)), math.inf) for x, y in parts]
    over = b.or_(b.or_(products[0], products[1]), b.or_(products[2], products[3]))
    left, right = treated(z_ends, z, boxed), treated(z_ends, w, calm)
    left, right = treated(w_ends, left, calm), treated(w_ends, right, boxed)
    again = mul(b, treated(over, left, calm), treated(over, right, calm))
    lost = b.and_(b.ne(plain.re, plain.re), b.ne(plain.im, plain.im))
    return chosen(b, lost, times(b, again, math.inf), plain)


# -- trigonometric and hyperbolic -------------------------------------------------------------


def turned(b: Builder, z: Pair) -> Pair:
    """i z."""
    return Pair(b.neg(z.im), z.re)


def turned_back(b: Builder, z: Pair) -> Pair:
    """-i z."""
    return Pair(z.im, b.neg(z.re))


@in_double
def sinh(b: Builder, z: Pair) -> Pair:
    """sinh x cos y + i cosh x sin y; zeros of x and y stay zeros beside infinities."""
    x, factor = shifted(b, z.re)
    re = b.mul(b.op("sinh_cos", x, z.im), factor)
    im = b.mul(b.op("cosh_sin", x, z.im), factor)
    turning = unbounded(b, z.im)
    re = b.select(b.and_(turning, b.eq(z.re, 0.0)), z.re, re)
    re = b.select(b.and_(turning, b.eq(b.abs(z.re), math.inf)), math.inf, re)
    return Pair(re, b.select(b.eq(z.im, 0.0), z.im, im))


@in_double
def cosh(b: Builder, z: Pair) -> Pair:
    """cosh x cos y + i sinh x sin y; zeros of x and y stay zeros beside infinities."""
    x, factor = shifted(b, z.re)
    re = b.mul(b.op("cosh_cos", x, z.im), factor)
    im = b.mul(b.op("sinh_sin", x, z.im), factor)
    turning = unbounded(b, z.im)
    re = b.select(b.and_(turning, b.eq(b.abs(z.re), math.inf)), math.inf, re)
    one = b.const(x.dtype, 1.0)
    signs = b.mul(b.op("copysign", one, z.re), b.op("copysign", one, z.im))
    zero = b.op("copysign", b.const(x.dtype, 0.0), signs)
    nothing = b.or_(b.eq(z.im, 0.0), b.and_(turning, b.eq(z.re, 0.0)))
    return Pair(re, b.select(nothing, zero, im))


@in_double
def sin(b: Builder, z: Pair) -> Pair:
    return turned(b, sinh(b, turned_back(b, z)))


@in_double
def cos(b: Builder, z: Pair) -> Pair:
    return cosh(b, turned(b, z))


@in_double
def tanh(b: Builder, z: Pair) -> Pair:
    """By sinh, cosh, sin and cos; far out only the sign of x is left, and a small wave."""
    far = b.gt(b.abs(z.re), 20.0)
    x = b.select(far, 0.0, z.re)
    near = Pair(b.op("tanh_re", x, z.im), b.op("tanh_im", x, z.im))
    # At the ends of the real axis nothing is left of the imaginary part but its sign.
    turning = unbounded(b, z.im)
    open_end = b.and_(b.eq(b.abs(z.re), math.inf), turning)
    decay = b.mul(b.op("exp", b.mul(b.abs(z.re), -2.0)), 4.0)
    swing = b.mul(b.mul(b.op("sin", z.im), b.op("cos", z.im)), decay)
    swing = b.select(open_end, b.op("copysign", b.const(x.dtype, 0.0), z.im), swing)
    edge = Pair(b.op("copysign", b.const(x.dtype, 1.0), z.re), swing)
    found = chosen(b, far, edge, near)
    inside = b.and_(turning, b.lt(b.abs(z.re), math.inf))
    re = b.select(inside, b.select(b.eq(z.re, 0.0), z.re, math.nan), found.re)
    im = b.select(b.eq(z.im, 0.0), z.im, found.im)
    return Pair(re, im)


@in_double
def tan(b: Builder, z: Pair) -> Pair:
    return turned_back(b, tanh(b, turned(b, z)))


def across(b: Builder, z: Pair, w: Pair) -> Value:
    """im(conj z w)."""
    return b.sub(b.mul(z.re, w.im), b.mul(z.im, w.re))


@in_double
def asinh(b: Builder, z: Pair) -> Pair:
    """asinh(im(conj sqrt(1-iz) sqrt(1+iz))) + i atan2(im z, re(sqrt(1-iz) sqrt(1+iz))) (Kahan)."""
    # Part by part: a zero part keeps its sign, on which the side of a branch cut depends.
    plus = sqrt(b, Pair(b.sub(1.0, z.im), z.re))
    minus = sqrt(b, Pair(b.add(z.im, 1.0), b.neg(z.re)))
    along = b.sub(b.mul(plus.re, minus.re), b.mul(plus.im, minus.im))
    return Pair(b.op("asinh", across(b, minus, plus)), b.op("atan2", z.im, along))


@in_double
def asin(b: Builder, z: Pair) -> Pair:
    return turned_back(b, asinh(b, turned(b, z)))


@in_double
def acos(b: Builder, z: Pair) -> Pair:
    """2 atan(re sqrt(1-z) / re sqrt(1+z)) + i asinh(im(conj sqrt(1+z) sqrt(1-z))) (Kahan)."""
    low = sqrt(b, Pair(b.sub(1.0, z.re), b.neg(z.im)))
    high = sqrt(b, Pair(b.add(z.re, 1.0), z.im))
    re = b.mul(b.op("atan2", low.re, high.re), 2.0)
    return Pair(re, b.op("asinh", across(b, high, low)))


@in_double
def acosh(b: Builder, z: Pair) -> Pair:
    """asinh(re(conj sqrt(z-1) sqrt(z+1))) + 2 i atan(im sqrt(z-1) / re sqrt(z+1)) (Kahan)."""
    low = sqrt(b, Pair(b.sub(z.re, 1.0), z.im))
    high = sqrt(b, Pair(b.add(z.re, 1.0), z.im))
    along = b.add(b.mul(low.re, high.re), b.mul(low.im, high.im))
    return Pair(b.op("asinh", along), b.mul(b.op("atan2", low.im, high.re), 2.0))


@in_double
def atanh(b: Builder, z: Pair) -> Pair:
    """log1p(4x / ((1-x)^2 + y^2)) / 4 + i atan2(2y, (1-x)(1+x) - y^2) / 2, odd in x."""
    x, y = b.abs(z.re), z.im
    gap = b.sub(1.0, x)
    below = b.fma(gap, gap, b.mul(y, y))
    size = b.mul(b.op("log1p", b.div(b.mul(x, 4.0), below)), 0.25)
    re = b.op("copysign", size, z.re)
    other = b.fma(gap, b.add(x, 1.0), b.neg(b.mul(y, y)))
    return Pair(re, b.mul(b.op("atan2", b.mul(y, 2.0), other), 0.5))


@in_double
def atan(b: Builder, z: Pair) -> Pair:
    return turned_back(b, atanh(b, turned(b, z)))
