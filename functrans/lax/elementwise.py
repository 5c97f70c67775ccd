"""Elementwise functions on exact operands: one dtype and one shape, or scalars.

Nothing is promoted: operands of different dtypes are an error. Python scalars take the dtype of
the arrays they meet.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import DtypeError, ShapeError
from functrans.ir import Primitive, aval_of
from functrans.primitives import elementwise as p
from functrans.primitives import structural as s
from functrans.primitives.derive import Value
from functrans.surface.declare import Function, surface
from functrans.surface.promotion import (
    BOOL,
    as_operand,
    canonical_dtype,
    cast,
    result_dtype,
    stretch,
)
from functrans.typing import ArrayLike, DTypeLike


def exact(name: str, *operands: ArrayLike) -> list[Value]:
    """The operands, which must have one dtype and one shape; scalars are fitted to the others."""
    values = [as_operand(x, name) for x in operands]
    avals = [aval_of(x) for x in values]
    dtypes = {a.dtype for a in avals if not a.weak}
    if len(dtypes) > 1:
        raise DtypeError(
            f"lax.{name}: the operands must have one dtype, but are {', '.join(map(str, avals))}; "
            "convert them, or use the function of functrans.numpy, which promotes"
        )
    dtype = dtypes.pop() if dtypes else result_dtype(*values)
    shapes = {a.shape for a in avals if a.shape}
    if len(shapes) > 1:
        raise ShapeError(
            f"lax.{name}: the operands must have one shape, but are {', '.join(map(str, avals))}"
        )
    shape = shapes.pop() if shapes else ()
    return [stretch(_fitted(name, x, dtype), shape) for x in values]


def _fitted(name: str, x: Value, dtype: np.dtype[Any]) -> Value:
    """A scalar in the dtype of the arrays beside it, when it can be had without loss of kind."""
    kinds = "biufc"
    aval = aval_of(x)
    if aval.weak and kinds.index(aval.dtype.kind) > kinds.index(_kind(dtype)):
        raise DtypeError(f"lax.{name}: the scalar {aval} cannot become {dtype.name}")
    return cast(x, dtype)


def _kind(dtype: np.dtype[Any]) -> str:
    return "f" if dtype.name == "bfloat16" else dtype.kind


def _exact(name: str, compute: Primitive | Callable[..., Value], arity: int, doc: str) -> Function:
    apply: Any = compute
    if isinstance(compute, Primitive):
        apply = lambda *xs: bind(compute, *xs)[0]

    def unary(x: ArrayLike) -> Value:
        return apply(*exact(name, x))

    def binary(x: ArrayLike, y: ArrayLike) -> Value:
        return apply(*exact(name, x, y))

    body: Function = unary if arity == 1 else binary
    body.__name__ = body.__qualname__ = name
    body.__doc__ = doc
    return surface(name=f"lax.{name}")(body)


def _unary(name: str, compute: Primitive | Callable[..., Value], doc: str) -> Function:
    return _exact(name, compute, 1, doc)


def _binary(name: str, compute: Primitive | Callable[..., Value], doc: str) -> Function:
    return _exact(name, compute, 2, doc)


# -- arithmetic -------------------------------------------------------------------------------


def _truncated_division(x: Value, y: Value) -> Value:
    """x / y; of integers, rounded towards zero."""
    if aval_of(x).dtype.kind not in "iu":
        return p.div(x, y)
    return p.floor_divide(p.sub(x, p.fmod(x, y)), y)


add = _binary("add", p.add_p, "x + y.")
sub = _binary("sub", p.sub_p, "x - y.")
mul = _binary("mul", p.mul_p, "x * y.")
div = _binary("div", _truncated_division, "x / y; of integers, rounded towards zero.")
rem = _binary("rem", p.fmod_p, "The remainder of x / y, with the sign of x.")
max = _binary("max", p.max_p, "The greater of x and y; NaN wins.")
min = _binary("min", p.min_p, "The lesser of x and y; NaN wins.")
pow = _binary("pow", p.pow_p, "x to the power y.")
atan2 = _binary("atan2", p.atan2_p, "The angle of the point (y, x).")
nextafter = _binary("nextafter", p.nextafter_p, "The number next to x in the direction of y.")
complex = _binary("complex", s.complex_p, "x + iy, of float32 or float64 parts.")
neg = _unary("neg", p.neg_p, "-x.")
sign = _unary("sign", p.sign_p, "-1, 0 or 1 with the sign of x; x / |x| of complex x.")
abs = _unary("abs", p.abs_p, "|x|.")
floor = _unary("floor", p.floor_p, "The greatest whole number that is not above x.")
ceil = _unary("ceil", p.ceil_p, "The least whole number that is not below x.")
square = _unary("square", p.square_p, "x * x.")
sqrt = _unary("sqrt", p.sqrt_p, "The square root.")
rsqrt = _unary("rsqrt", p.rsqrt_p, "1 / sqrt(x).")
cbrt = _unary("cbrt", p.cbrt_p, "The cube root.")
reciprocal = _unary("reciprocal", p.reciprocal_p, "1 / x.")
exp = _unary("exp", p.exp_p, "The exponential.")
exp2 = _unary("exp2", p.exp2_p, "2 to the power x.")
expm1 = _unary("expm1", p.expm1_p, "exp(x) - 1, exact near 0.")
log = _unary("log", p.log_p, "The natural logarithm.")
log1p = _unary("log1p", p.log1p_p, "log(1 + x), exact near 0.")
logistic = _unary("logistic", p.logistic_p, "1 / (1 + exp(-x)).")
sin = _unary("sin", p.sin_p, "The sine.")
cos = _unary("cos", p.cos_p, "The cosine.")
tan = _unary("tan", p.tan_p, "The tangent.")
asin = _unary("asin", p.asin_p, "The inverse sine.")
acos = _unary("acos", p.acos_p, "The inverse cosine.")
atan = _unary("atan", p.atan_p, "The inverse tangent.")
sinh = _unary("sinh", p.sinh_p, "The hyperbolic sine.")
cosh = _unary("cosh", p.cosh_p, "The hyperbolic cosine.")
tanh = _unary("tanh", p.tanh_p, "The hyperbolic tangent.")
asinh = _unary("asinh", p.asinh_p, "The inverse hyperbolic sine.")
acosh = _unary("acosh", p.acosh_p, "The inverse hyperbolic cosine.")
atanh = _unary("atanh", p.atanh_p, "The inverse hyperbolic tangent.")
erf = _unary("erf", p.erf_p, "The error function.")
erfc = _unary("erfc", p.erfc_p, "1 - erf(x), without cancellation.")
erf_inv = _unary("erf_inv", p.erfinv_p, "The inverse of erf.")
lgamma = _unary("lgamma", p.lgamma_p, "log |gamma(x)|.")
digamma = _unary("digamma", p.digamma_p, "The derivative of lgamma.")
real = _unary("real", s.real_p, "The real part of complex values.")
imag = _unary("imag", s.imag_p, "The imaginary part of complex values.")
is_finite = _unary("is_finite", p.is_finite_p, "Is x neither infinite nor NaN?")
population_count = _unary("population_count", p.population_count_p, "How many bits are 1.")


conj = _unary("conj", s.conj_p, "The complex conjugate of complex values.")
eq = _binary("eq", p.eq_p, "x == y.")
ne = _binary("ne", p.ne_p, "x != y.")
lt = _binary("lt", p.lt_p, "x < y.")
le = _binary("le", p.le_p, "x <= y.")
gt = _binary("gt", p.gt_p, "x > y.")
ge = _binary("ge", p.ge_p, "x >= y.")
bitwise_and = _binary("bitwise_and", p.and_p, "x & y.")
bitwise_or = _binary("bitwise_or", p.or_p, "x | y.")
bitwise_xor = _binary("bitwise_xor", p.xor_p, "x ^ y.")
bitwise_not = _unary("bitwise_not", p.not_p, "~x.")
shift_left = _binary("shift_left", p.shift_left_p, "x << y.")


def _shift_right(as_signed: bool) -> Callable[[Value, Value], Value]:
    """A shift to the right that fills with the sign bit, or with zeros, whatever the dtype."""

    def apply(x: Value, y: Value) -> Value:
        dtype = aval_of(x).dtype
        shifted = np.dtype(f"{'i' if as_signed else 'u'}{dtype.itemsize}")
        return cast(p.shift_right(cast(x, shifted), cast(y, shifted)), dtype)

    return apply


shift_right_arithmetic = _binary(
    "shift_right_arithmetic", _shift_right(True), "x >> y, filling with the sign bit."
)
shift_right_logical = _binary(
    "shift_right_logical", _shift_right(False), "x >> y, filling with zeros."
)


@surface(name="lax.integer_pow")
def integer_pow(x: ArrayLike, y: int) -> Value:
    """x multiplied with itself y times; its reciprocal for negative y."""
    return p.integer_pow(*exact("integer_pow", x), exponent=operator.index(y))


@surface(name="lax.round")
def round(x: ArrayLike) -> Value:
    """The whole number next to x; halves go away from zero."""
    (x,) = exact("round", x)
    size = p.abs(x)
    whole = p.floor(size)
    up = p.ge(p.sub(size, whole), stretch(aval_of(x).dtype.type(0.5), aval_of(x).shape))
    one = stretch(aval_of(x).dtype.type(1), aval_of(x).shape)
    return p.copysign(s.select(up, p.add(whole, one), whole), x)


@surface(name="lax.clamp")
def clamp(min: ArrayLike, x: ArrayLike, max: ArrayLike) -> Value:
    """x held between two bounds."""
    return p.clamp(*exact("clamp", min, x, max))


@surface(name="lax.select")
def select(pred: ArrayLike, on_true: ArrayLike, on_false: ArrayLike) -> Value:
    """on_true where the predicate holds, on_false elsewhere."""
    yes, no = exact("select", on_true, on_false)
    condition = as_operand(pred, "select")
    if aval_of(condition).dtype != BOOL:
        raise DtypeError(f"lax.select: the predicate must be boolean, but is {aval_of(condition)}")
    if aval_of(condition).shape not in ((), aval_of(yes).shape):
        raise ShapeError(
            f"lax.select: the predicate must be a scalar or of shape {aval_of(yes).shape}, but is "
            f"{aval_of(condition)}"
        )
    return s.select(stretch(condition, aval_of(yes).shape), yes, no)


@surface(name="lax.select_n")
def select_n(which: ArrayLike, *cases: ArrayLike) -> Value:
    """The case that `which` names at every position: a bool, or an integer below their number."""
    values = exact("select_n", *cases)
    index = as_operand(which, "select_n")
    shape = aval_of(values[0]).shape
    if aval_of(index).dtype == BOOL:
        if len(values) != 2:
            raise ShapeError(f"lax.select_n: a bool chooses between 2 cases, but got {len(values)}")
        return s.select(stretch(index, shape), values[1], values[0])
    result = values[-1]
    for i in range(len(values) - 2, -1, -1):
        here = p.le(index, stretch(aval_of(index).dtype.type(i), aval_of(index).shape))
        result = s.select(stretch(here, shape), values[i], result)
    return result


@surface(name="lax.convert_element_type")
def convert_element_type(operand: ArrayLike, new_dtype: DTypeLike) -> Value:
    """The values in another dtype."""
    return cast(as_operand(operand, "convert_element_type"), canonical_dtype(new_dtype))


@surface(name="lax.bitcast_convert_type")
def bitcast_convert_type(operand: ArrayLike, new_dtype: DTypeLike) -> Value:
    """The same bits, read as another dtype of the same size."""
    (x,) = exact("bitcast_convert_type", operand)
    target = canonical_dtype(new_dtype)
    if target.itemsize != aval_of(x).dtype.itemsize:
        raise DtypeError(f"lax.bitcast_convert_type: {aval_of(x)} and {target.name} differ in size")
    return p.bitcast(x, dtype=target)
