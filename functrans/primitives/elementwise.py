"""Elementwise primitives: one scalar function at every position, its partials beside it.

Operands agree exactly in shape and dtype. Tangents meet partials in `scale` throughout: the branch
of a select that was not taken may hold NaN or infinity, and then even cos(x) is not finite.
Longer than most files because it is a table: nearly every function is one line.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import DtypeError
from functrans.ir import Aval, Elementwise, Form, Linear, Primitive, aval_of, is_inexact
from functrans.primitives import gammas, numerics
from functrans.primitives.derive import (
    BOOL,
    DType,
    Value,
    batching_elementwise,
    elementwise,
    exact_operands,
    full_like,
    instantiating,
    is_linear,
    operation,
    provide,
)
from functrans.primitives.structural import ANY, conj, convert, real, real_dtype, select

transcendental = functools.partial(elementwise, cheap=False)
"""An elementwise primitive that takes longer to compute again than to keep."""

REAL = "iuf"
NUMBER = "iufc"


def times(c: float, x: Value) -> Value:
    """The constant c times x."""
    return mul(full_like(x, c), x)


def plus(x: Value, c: float) -> Value:
    """x plus the constant c."""
    return add(x, full_like(x, c))


def guarded(at_edge: Value, value: Value) -> Value:
    """`value`, but 0 where `at_edge`: derivatives at every order vanish there."""
    return select(at_edge, full_like(value, 0), value)


def is_zero(x: Value) -> Value:
    """x == 0, elementwise."""
    return eq(x, full_like(x, 0))


def mask(pred: Value, like: Value) -> Value:
    """1 where pred holds, 0 elsewhere, in the dtype of `like`."""
    return convert(pred, aval_of(like).dtype)


# -- arithmetic -------------------------------------------------------------------------------


def neg_transpose(cts: list[Value], x: Linear) -> list[Value]:
    """-ct."""
    return [neg(cts[0])]


def add_transpose(cts: list[Value], x: Value, y: Value) -> list[Value]:
    """Both operands get the whole cotangent."""
    return [cts[0] if is_linear(operand) else None for operand in (x, y)]


def sub_transpose(cts: list[Value], x: Value, y: Value) -> list[Value]:
    """The first operand gets the cotangent, the second its negative."""
    return [cts[0] if is_linear(x) else None, neg(cts[0]) if is_linear(y) else None]


def mul_transpose(cts: list[Value], x: Value, y: Value) -> list[Value]:
    """ct times the other factor; complex values are not conjugated."""
    return [mul(cts[0], y), None] if is_linear(x) else [None, mul(x, cts[0])]


def scale_transpose(cts: list[Value], x: Value, y: Value) -> list[Value]:
    """ct times the other factor, 0 where either is exactly 0."""
    return [scale(cts[0], y), None] if is_linear(x) else [None, scale(x, cts[0])]


def div_jvp(primals: list[Value], tangents: list[Value]) -> tuple[list[Value], list[Value]]:
    """(x_dot - out * y_dot) / y, by a division where the divisor is a literal that allows it."""
    (x, y), (x_dot, y_dot) = primals, tangents
    out = div(x, y)
    if isinstance(y, np.generic) and y != 0 and np.isfinite(y) and x_dot is not None:
        if y_dot is None:
            return [out], [div(x_dot, y)]
    if x_dot is None and y_dot is None:
        return [out], [None]
    r = reciprocal(y)
    by_x = None if x_dot is None else scale(x_dot, r)
    if y_dot is None:
        return [out], [by_x]
    by_y = scale(y_dot, mul(out, r))
    return [out], [neg(by_y) if by_x is None else sub(by_x, by_y)]


def div_transpose(cts: list[Value], x: Linear, y: Value) -> list[Value]:
    """Division is linear in the dividend only."""
    return [div(cts[0], y), None]


def _scale_impl(x: Any, y: Any) -> Any:
    zero = x.dtype.type(0)
    if x.ndim == 0:
        return zero if x == 0 or y == 0 else x * y
    return np.where((x == 0) | (y == 0), zero, x * y)


neg_p = elementwise(
    "neg", np.negative, kinds=NUMBER, partials=lambda out, x: [-1], transpose=neg_transpose
)
add_p = elementwise(
    "add", np.add, kinds=NUMBER, arity=2, partials=lambda out, x, y: [1, 1], transpose=add_transpose
)
sub_p = elementwise(
    "sub",
    np.subtract,
    kinds=NUMBER,
    arity=2,
    partials=lambda out, x, y: [1, -1],
    transpose=sub_transpose,
)
mul_p = elementwise(
    "mul",
    np.multiply,
    kinds=NUMBER,
    arity=2,
    partials=lambda out, x, y: [y, x],
    transpose=mul_transpose,
    form=Form.PRODUCT,
)
scale_p = elementwise(
    "scale",
    _scale_impl,
    arity=2,
    partials=lambda out, x, y: [y, x],
    transpose=scale_transpose,
    form=Form.PRODUCT,
)
div_p = elementwise(
    "div",
    np.true_divide,
    arity=2,
    partials=lambda out, x, y: [reciprocal(y), neg(mul(out, reciprocal(y)))],
    jvp=div_jvp,
    transpose=div_transpose,
    form=Form.QUOTIENT,
)
for _p in (neg_p, add_p, sub_p, mul_p, scale_p, div_p):
    provide(_p)

neg, add, sub = operation(neg_p), operation(add_p), operation(sub_p)
mul, scale, div = operation(mul_p), operation(scale_p), operation(div_p)

square_p = elementwise(
    "square",
    np.square,
    kinds=NUMBER,
    partials=lambda out, x: [times(2, x)],
    form=Form.SQUARE,
)
reciprocal_p = elementwise(
    "reciprocal",
    np.reciprocal,
    partials=lambda out, x: [neg(square(out))],
    form=Form.QUOTIENT,
)
square, reciprocal = operation(square_p), operation(reciprocal_p)


# -- sign, size, rounding ---------------------------------------------------------------------


@instantiating
def sign_jvp(primals: list[Value], tangents: list[Value]) -> tuple[list[Value], list[Value]]:
    """Zero on the reals; d(z/|z|) is the part of dz/|z| at a right angle to z, 0 at z = 0."""
    (x,), (t,) = primals, tangents
    out = sign(x)
    dtype = aval_of(x).dtype
    if dtype.kind != "c" or t is None:
        return [out], [None]
    size = abs(x)
    inverse = convert(guarded(is_zero(size), reciprocal(size)), dtype)
    radial = convert(real(scale(conj(out), t)), dtype)
    return [out], [scale(sub(t, scale(out, radial)), inverse)]


@instantiating
def abs_jvp(primals: list[Value], tangents: list[Value]) -> tuple[list[Value], list[Value]]:
    """sign(x) t on the reals, Re(conj(sign(z)) t) on the complex plane; both 0 at 0."""
    (x,), (t,) = primals, tangents
    out = abs(x)
    if t is None:
        return [out], [None]
    if aval_of(x).dtype.kind == "c":
        return [out], [real(scale(conj(sign(x)), t))]
    return [out], [scale(t, sign(x))]


sign_p = elementwise("sign", np.sign, kinds=NUMBER, jvp=sign_jvp)
abs_p = elementwise("abs", np.abs, kinds=NUMBER, result=real_dtype, jvp=abs_jvp)
floor_p = elementwise("floor", np.floor, kinds="f")
ceil_p = elementwise("ceil", np.ceil, kinds="f")
rint_p = elementwise("rint", np.rint, kinds="f")
trunc_p = elementwise("trunc", np.trunc, kinds="f")
sign, abs, floor, ceil = operation(sign_p), operation(abs_p), operation(floor_p), operation(ceil_p)
rint, trunc = operation(rint_p), operation(trunc_p)


# -- exponentials and logarithms --------------------------------------------------------------

exp_p = transcendental("exp", np.exp, partials=lambda out, x: [out])
exp2_p = transcendental("exp2", np.exp2, partials=lambda out, x: [times(math.log(2), out)])
expm1_p = transcendental("expm1", np.expm1, partials=lambda out, x: [plus(out, 1)])
log_p = transcendental("log", np.log, partials=lambda out, x: [reciprocal(x)])
log2_p = transcendental(
    "log2", np.log2, partials=lambda out, x: [times(1 / math.log(2), reciprocal(x))]
)
log10_p = transcendental(
    "log10", np.log10, partials=lambda out, x: [times(1 / math.log(10), reciprocal(x))]
)
log1p_p = transcendental("log1p", np.log1p, partials=lambda out, x: [reciprocal(plus(x, 1))])
logistic_p = transcendental(
    "logistic",
    numerics.logistic,
    kinds="f",
    partials=lambda out, x: [mul(out, one_minus(out))],
)
exp, exp2, expm1, logistic = map(operation, (exp_p, exp2_p, expm1_p, logistic_p))
log, log2, log10, log1p = map(operation, (log_p, log2_p, log10_p, log1p_p))


def one_minus(x: Value) -> Value:
    """1 - x."""
    return sub(full_like(x, 1), x)


# -- trigonometric and hyperbolic -------------------------------------------------------------


def _one_plus_square(x: Value) -> Value:
    return plus(square(x), 1)


def _rsqrt_of_product(x: Value, y: Value) -> Value:
    """1 / (sqrt(x) sqrt(y)): no cancellation, and on the principal branch for complex values."""
    return mul(rsqrt(x), rsqrt(y))


def _asinh_partial(x: Value) -> Value:
    """1 / sqrt(1 + x^2); on the reals without overflow of the square."""
    if aval_of(x).dtype.kind == "c":
        return rsqrt(_one_plus_square(x))
    return reciprocal(hypot(x, full_like(x, 1)))


sin_p = transcendental("sin", np.sin, partials=lambda out, x: [cos(x)])
cos_p = transcendental("cos", np.cos, partials=lambda out, x: [neg(sin(x))])
tan_p = transcendental("tan", np.tan, partials=lambda out, x: [_one_plus_square(out)])
asin_p = transcendental(
    "asin", np.arcsin, partials=lambda out, x: [_rsqrt_of_product(one_minus(x), plus(x, 1))]
)
acos_p = transcendental(
    "acos", np.arccos, partials=lambda out, x: [neg(_rsqrt_of_product(one_minus(x), plus(x, 1)))]
)
atan_p = transcendental(
    "atan", np.arctan, partials=lambda out, x: [reciprocal(_one_plus_square(x))]
)
sinh_p = transcendental("sinh", np.sinh, partials=lambda out, x: [cosh(x)])
cosh_p = transcendental("cosh", np.cosh, partials=lambda out, x: [sinh(x)])
tanh_p = transcendental("tanh", np.tanh, partials=lambda out, x: [one_minus(square(out))])
asinh_p = transcendental("asinh", np.arcsinh, partials=lambda out, x: [_asinh_partial(x)])
acosh_p = transcendental(
    "acosh", np.arccosh, partials=lambda out, x: [_rsqrt_of_product(plus(x, -1), plus(x, 1))]
)
atanh_p = transcendental(
    "atanh", np.arctanh, partials=lambda out, x: [reciprocal(mul(one_minus(x), plus(x, 1)))]
)
sin, cos, tan = operation(sin_p), operation(cos_p), operation(tan_p)
asin, acos, atan = operation(asin_p), operation(acos_p), operation(atan_p)
sinh, cosh, tanh = operation(sinh_p), operation(cosh_p), operation(tanh_p)
asinh, acosh, atanh = operation(asinh_p), operation(acosh_p), operation(atanh_p)


# -- roots, powers, the error function --------------------------------------------------------


def _pow_partials(out: Value, x: Value, y: Value) -> list[Value]:
    """y x^(y-1), 0 where y is 0 even at x = 0; and x^y log(x), 0 where x is 0."""
    by_x = scale(y, pow(x, plus(y, -1)))
    at_zero = is_zero(x)
    by_y = guarded(at_zero, mul(out, log(select(at_zero, full_like(x, 1), x))))
    return [by_x, by_y]


def _integer_pow_partials(out: Value, x: Value, *, exponent: int) -> list[Value]:
    if exponent == 0:
        return [None]
    return [times(exponent, integer_pow(x, exponent - 1))]


def _integer_pow_result(dtype: DType, *, exponent: int) -> DType:
    if exponent < 0 and not is_inexact(dtype):
        raise DtypeError(f"integer_pow: {dtype.name} has no power {exponent}; convert it to float")
    return dtype


sqrt_p = elementwise("sqrt", np.sqrt, partials=lambda out, x: [div(full_like(out, 0.5), out)])
rsqrt_p = elementwise(
    "rsqrt", numerics.rsqrt, partials=lambda out, x: [times(-0.5, mul(out, square(out)))]
)
cbrt_p = transcendental(
    "cbrt", np.cbrt, kinds="f", partials=lambda out, x: [div(full_like(out, 1 / 3), square(out))]
)
pow_p = transcendental("pow", np.power, kinds=NUMBER, arity=2, partials=_pow_partials)
integer_pow_p = elementwise(
    "integer_pow",
    numerics.integer_pow,
    kinds=NUMBER,
    result=_integer_pow_result,
    partials=_integer_pow_partials,
    form=Form.POWER,
)
erf_p = transcendental("erf", numerics.erf, kinds="f", partials=lambda out, x: [_gaussian(x, 1)])
erfc_p = transcendental(
    "erfc", numerics.erfc, kinds="f", partials=lambda out, x: [_gaussian(x, -1)]
)
erfinv_p = transcendental(
    "erfinv",
    numerics.erfinv,
    kinds="f",
    partials=lambda out, x: [times(math.sqrt(math.pi) / 2, exp(square(out)))],
)
lgamma_p = transcendental("lgamma", gammas.lgamma, kinds="f", partials=lambda out, x: [digamma(x)])
digamma_p = transcendental(
    "digamma", gammas.digamma, kinds="f", partials=lambda out, x: [polygamma(x, 1)]
)
polygamma_p = transcendental(
    "polygamma",
    gammas.polygamma,
    kinds="f",
    partials=lambda out, x, *, n: [polygamma(x, n + 1)],
)
sqrt, rsqrt, cbrt, pow = map(operation, (sqrt_p, rsqrt_p, cbrt_p, pow_p))
erf, erfc, erfinv = map(operation, (erf_p, erfc_p, erfinv_p))
lgamma, digamma = operation(lgamma_p), operation(digamma_p)


def polygamma(x: Value, n: int) -> Value:
    """The n-th derivative of digamma; static n >= 1."""
    return bind(polygamma_p, x, n=n)[0]


def _gaussian(x: Value, sign: int) -> Value:
    """2 / sqrt(pi) exp(-x^2), the slope of erf."""
    return times(sign * 2 / math.sqrt(math.pi), exp(neg(square(x))))


def integer_pow(x: Value, exponent: int) -> Value:
    """x to a static integer power."""
    match exponent:
        case 0:
            return full_like(x, 1)
        case 1:
            return x
        case 2:
            return square(x)
        case -1 if is_inexact(aval_of(x).dtype):
            return reciprocal(x)
        case _:
            return bind(integer_pow_p, x, exponent=exponent)[0]


# -- functions of two arguments ---------------------------------------------------------------


def _share(ahead: Value, tied: Value, like: Value) -> Value:
    """1 where ahead, one half where tied, 0 elsewhere."""
    return select(tied, full_like(like, 0.5), mask(ahead, like))


def _max_partials(out: Value, x: Value, y: Value) -> list[Value]:
    tied = eq(x, y)
    return [_share(gt(x, y), tied, x), _share(lt(x, y), tied, x)]


def _min_partials(out: Value, x: Value, y: Value) -> list[Value]:
    tied = eq(x, y)
    return [_share(lt(x, y), tied, x), _share(gt(x, y), tied, x)]


def _atan2_partials(out: Value, y: Value, x: Value) -> list[Value]:
    """x / r^2 and -y / r^2, divided twice by r so that r^2 cannot overflow; 0 at the origin."""
    r = hypot(x, y)
    at_origin = is_zero(r)
    safe = select(at_origin, full_like(r, 1), r)
    by_y = guarded(at_origin, div(div(x, safe), safe))
    by_x = guarded(at_origin, neg(div(div(y, safe), safe)))
    return [by_y, by_x]


def _hypot_partials(out: Value, x: Value, y: Value) -> list[Value]:
    at_origin = is_zero(out)
    safe = select(at_origin, full_like(out, 1), out)
    return [guarded(at_origin, div(x, safe)), guarded(at_origin, div(y, safe))]


def _logaddexp_partials(out: Value, x: Value, y: Value) -> list[Value]:
    """logistic(x - y) and its mirror image: one half at equal infinities, 0 when both are -inf."""
    equal_ends = and_(eq(x, y), not_(is_finite(x)))
    difference = guarded(equal_ends, sub(x, y))
    nothing = eq(out, full_like(out, -math.inf))
    return [
        guarded(nothing, logistic(difference)),
        guarded(nothing, logistic(neg(difference))),
    ]


def _clamp_partials(out: Value, low: Value, x: Value, high: Value) -> list[Value]:
    """Where out came from: x itself at a bound, and `high` where the bounds are the wrong way."""
    under, over = lt(x, low), gt(max(x, low), high)
    inside = and_(ge(x, low), le(x, high))
    return [mask(and_(under, not_(over)), x), mask(inside, x), mask(over, x)]


max_p = elementwise("max", np.maximum, kinds="biuf", arity=2, partials=_max_partials)
min_p = elementwise("min", np.minimum, kinds="biuf", arity=2, partials=_min_partials)
atan2_p = transcendental("atan2", np.arctan2, kinds="f", arity=2, partials=_atan2_partials)
hypot_p = transcendental("hypot", np.hypot, kinds="f", arity=2, partials=_hypot_partials)
logaddexp_p = transcendental(
    "logaddexp",
    numerics.logaddexp,
    kinds="f",
    arity=2,
    partials=_logaddexp_partials,
)
copysign_p = elementwise(
    "copysign",
    np.copysign,
    kinds="f",
    arity=2,
    partials=lambda out, x, y: [mul(sign(x), copysign(full_like(y, 1), y)), None],
)
nextafter_p = elementwise(
    "nextafter", np.nextafter, kinds="f", arity=2, partials=lambda out, x, y: [1, None]
)
floor_divide_p = elementwise("floor_divide", np.floor_divide, kinds=REAL, arity=2)
remainder_p = elementwise(
    "remainder",
    np.remainder,
    kinds=REAL,
    arity=2,
    partials=lambda out, x, y: [1, neg(floor_divide(x, y))],
)
fmod_p = elementwise(
    "fmod",
    np.fmod,
    kinds=REAL,
    arity=2,
    partials=lambda out, x, y: [1, neg(rint(div(sub(x, out), y)))],
)
clamp_p = elementwise(
    "clamp",
    lambda low, x, high: np.minimum(np.maximum(x, low), high),
    kinds=REAL,
    arity=3,
    partials=_clamp_partials,
)
max, min, atan2, hypot = map(operation, (max_p, min_p, atan2_p, hypot_p))
logaddexp, copysign, nextafter = map(operation, (logaddexp_p, copysign_p, nextafter_p))
floor_divide, remainder, fmod = map(operation, (floor_divide_p, remainder_p, fmod_p))
clamp = operation(clamp_p)


# -- logic, bits and comparisons --------------------------------------------------------------


def _to_bool(dtype: DType) -> DType:
    return BOOL


def _bitcast_result(source: DType, *, dtype: DType) -> DType:
    if source.itemsize != dtype.itemsize:
        raise DtypeError(f"bitcast: {source.name} and {dtype.name} differ in size")
    return dtype


def _threefry_abstract_eval(*avals: Aval) -> list[Aval]:
    first = exact_operands("threefry2x32", avals, 4)
    if first.dtype != np.uint32:
        raise DtypeError(f"threefry2x32 takes uint32 operands, not {first}")
    return [first.strengthen()] * 2


and_p = elementwise("and", np.bitwise_and, kinds="biu", arity=2)
or_p = elementwise("or", np.bitwise_or, kinds="biu", arity=2)
xor_p = elementwise("xor", np.bitwise_xor, kinds="biu", arity=2)
not_p = elementwise("not", np.bitwise_not, kinds="biu")
shift_left_p = elementwise("shift_left", np.left_shift, kinds="iu", arity=2)
shift_right_p = elementwise("shift_right", np.right_shift, kinds="iu", arity=2)
population_count_p = elementwise("population_count", numerics.population_count, kinds="iu")
eq_p = elementwise("eq", np.equal, kinds=ANY, arity=2, result=_to_bool)
ne_p = elementwise("ne", np.not_equal, kinds=ANY, arity=2, result=_to_bool)
lt_p = elementwise("lt", np.less, kinds=ANY, arity=2, result=_to_bool)
le_p = elementwise("le", np.less_equal, kinds=ANY, arity=2, result=_to_bool)
gt_p = elementwise("gt", np.greater, kinds=ANY, arity=2, result=_to_bool)
ge_p = elementwise("ge", np.greater_equal, kinds=ANY, arity=2, result=_to_bool)
is_finite_p = elementwise("is_finite", np.isfinite, result=_to_bool)
is_nan_p = elementwise("is_nan", np.isnan, result=_to_bool)
signbit_p = elementwise("signbit", np.signbit, kinds="f", result=_to_bool)
bitcast_p = elementwise(
    "bitcast", lambda x, *, dtype: x.view(dtype), kinds=ANY, result=_bitcast_result
)
threefry2x32_p = Primitive(
    name="threefry2x32",
    abstract_eval=_threefry_abstract_eval,
    impl=numerics.threefry2x32,
    jvp=lambda primals, tangents: (bind(threefry2x32_p, *primals), [None, None]),
    batch=batching_elementwise(lambda: threefry2x32_p),
    property=Elementwise(None),
)
and_, or_, xor, not_ = map(operation, (and_p, or_p, xor_p, not_p))
shift_left, shift_right = map(operation, (shift_left_p, shift_right_p))
population_count = operation(population_count_p)
eq, ne, lt, le, gt, ge = map(operation, (eq_p, ne_p, lt_p, le_p, gt_p, ge_p))
is_finite, is_nan, signbit = map(operation, (is_finite_p, is_nan_p, signbit_p))
bitcast = operation(bitcast_p)


def threefry2x32(k0: Value, k1: Value, x0: Value, x1: Value) -> list[Value]:
    """The two uint32 words that the Threefry block cipher makes of the counters x0, x1."""
    return bind(threefry2x32_p, k0, k1, x0, x1)
