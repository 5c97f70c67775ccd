"""Elementwise functions: NumPy's ufuncs, one line each.

Each line says which primitive computes it; dtypes, broadcasting and options come from `ufunc`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import DtypeError, OptionError
from functrans.ir import Primitive, aval_of, is_inexact
from functrans.memo.keys import Numbers
from functrans.primitives import elementwise as p
from functrans.primitives.derive import Value, full, full_like
from functrans.primitives.structural import complex as complex_of
from functrans.primitives.structural import conj_p, select_p
from functrans.primitives.structural import imag as imag_of
from functrans.primitives.structural import real as real_of
from functrans.surface.declare import surface
from functrans.surface.promotion import (
    BOOL,
    FLOAT,
    INT,
    as_operand,
    as_strong,
    broadcast_together,
    cast,
    loop_dtypes,
    promote,
)
from functrans.surface.ufuncs import on_bools, operands_of, ufunc
from functrans.typing import ArrayLike

# -- helpers of the table ---------------------------------------------------------------------


def _identity(x: Value) -> Value:
    return x


def _on_floats(primitive: Primitive) -> Any:
    """`primitive` on floating operands; integers and bools are left as they are."""
    return lambda x: bind(primitive, x)[0] if is_inexact(aval_of(x).dtype) else x


def times(x: Value, factor: float) -> Value:
    """x times a number, in x's dtype."""
    return bind(p.mul_p, x, full_like(x, factor))[0]


def everywhere(x: Value, value: bool) -> Value:
    """`value` at every position of x."""
    return full(value, aval_of(x).with_dtype(BOOL).strengthen())


def equals(x: Value, value: complex) -> Value:
    return bind(p.eq_p, x, full_like(x, value))[0]


def choose(condition: Value, on_true: Value, on_false: Value) -> Value:
    return bind(select_p, condition, on_true, on_false)[0]


def beyond(x: Value, other: Value) -> int:
    """1 or -1 where x is a Python int above or below all that other's dtype can hold, else 0."""
    if type(x) is not int or aval_of(other).dtype.kind not in "iu" or aval_of(other).weak:
        return 0
    bounds = np.iinfo(aval_of(other).dtype)
    return int(x > bounds.max) - int(x < bounds.min)


def truth(x: Value) -> Value:
    """x != 0, as bools."""
    return cast(x, BOOL)


# -- arithmetic -------------------------------------------------------------------------------

add = ufunc(np.add, on_bools(p.or_p, p.add_p))
subtract = ufunc(np.subtract, p.sub_p)
multiply = ufunc(np.multiply, on_bools(p.and_p, p.mul_p))
divide = ufunc(np.divide, p.div_p)
true_divide = divide
floor_divide = ufunc(np.floor_divide, p.floor_divide_p)
remainder = ufunc(np.remainder, p.remainder_p)
mod = remainder
fmod = ufunc(np.fmod, p.fmod_p)
negative = ufunc(np.negative, p.neg_p)
positive = ufunc(np.positive, _identity)
absolute = ufunc(np.absolute, lambda x: x if aval_of(x).dtype == BOOL else bind(p.abs_p, x)[0])
fabs = ufunc(np.fabs, p.abs_p)
square = ufunc(np.square, p.square_p)


def _integer_reciprocal(x: Value) -> Value:
    one = bind(p.eq_p, bind(p.abs_p, x)[0], full_like(x, 1))[0]
    return choose(one, x, full_like(x, 0))


reciprocal = ufunc(
    np.reciprocal,
    lambda x: (
        bind(p.reciprocal_p, x)[0] if is_inexact(aval_of(x).dtype) else _integer_reciprocal(x)
    ),
)
conjugate = ufunc(np.conjugate, lambda x: bind(conj_p, x)[0] if aval_of(x).dtype.kind == "c" else x)
conj = conjugate
sign = ufunc(np.sign, p.sign_p)
copysign = ufunc(np.copysign, p.copysign_p)
nextafter = ufunc(np.nextafter, p.nextafter_p)
floor = ufunc(np.floor, _on_floats(p.floor_p))
ceil = ufunc(np.ceil, _on_floats(p.ceil_p))


def _rint(x: Value) -> Value:
    if aval_of(x).dtype.kind != "c":
        return p.rint(x)
    return complex_of(p.rint(real_of(x)), p.rint(imag_of(x)))


rint = ufunc(np.rint, _rint)
trunc = ufunc(np.trunc, _on_floats(p.trunc_p))


def _extremum(primitive: Primitive, on_bool: Primitive, order: Primitive) -> Any:
    """The greater or lesser value; NaN wins, and complex values are ordered by real part first."""

    def apply(x: Value, y: Value) -> Value:
        kind = aval_of(x).dtype.kind
        if kind != "c":
            return bind(on_bool if kind == "b" else primitive, x, y)[0]
        first = bind(p.or_p, bind(p.is_nan_p, x)[0], bind(order, x, y)[0])[0]
        return choose(first, x, y)

    return apply


_max, _min = _extremum(p.max_p, p.or_p, p.ge_p), _extremum(p.min_p, p.and_p, p.le_p)
maximum = ufunc(np.maximum, _max)
minimum = ufunc(np.minimum, _min)


def _ignoring_nan(extremum: Any) -> Any:
    def apply(x: Value, y: Value) -> Value:
        best = extremum(x, y)
        if not is_inexact(aval_of(x).dtype):
            return best
        best = choose(bind(p.is_nan_p, x)[0], y, best)
        return choose(bind(p.is_nan_p, y)[0], x, best)

    return apply


fmax = ufunc(np.fmax, _ignoring_nan(_max))
fmin = ufunc(np.fmin, _ignoring_nan(_min))


@surface(np.divmod)
def divmod(x: ArrayLike, y: ArrayLike, /) -> tuple[Value, Value]:  # NumPy's name
    """(x // y, x % y)."""
    return floor_divide(x, y), remainder(x, y)


@surface(np.modf)
def modf(x: ArrayLike, /) -> tuple[Value, Value]:
    """The fractional and integral parts of x, both with the sign of x."""
    (x,) = operands_of(np.modf, (x,))
    whole = bind(p.trunc_p, x)[0]
    part = bind(p.sub_p, x, whole)[0]
    finite = bind(p.is_finite_p, x)[0]
    part = choose(finite, part, bind(p.mul_p, x, full_like(x, 0.0))[0])
    infinite = bind(p.not_p, bind(p.or_p, finite, bind(p.is_nan_p, x)[0])[0])[0]
    part = choose(infinite, full_like(x, 0.0), part)
    return bind(p.copysign_p, part, x)[0], whole


# -- powers -----------------------------------------------------------------------------------

LARGEST_UNROLLED_POWER = 32


def static_exponent(y: Any) -> int | None:
    """The exponent as a small int, when it is written in the program and whole; else None."""
    if type(y) is bool or isinstance(y, np.bool_) or not isinstance(y, (int, float, np.number)):
        return None
    if isinstance(y, (complex, np.complexfloating)) or not abs(y) <= LARGEST_UNROLLED_POWER:
        return None
    return int(y) if y == int(y) else None


def integer_power(x: Value, exponent: int) -> Value:
    """x multiplied with itself; x of its final dtype."""
    if exponent == 1:
        return x
    if exponent == 2:
        return bind(p.square_p, x)[0]
    if exponent < 0 and not is_inexact(aval_of(x).dtype):
        raise OptionError(
            "Integers to negative integer powers are not allowed. Convert to float first, or write "
            "a "
            "float exponent: x ** -2.0."
        )
    return bind(p.integer_pow_p, x, exponent=exponent)[0]


def _power(x: Value, y: Value) -> Value:
    return bind(p.pow_p, x, y)[0]


_general_power = ufunc(np.power, _power)


@surface(np.power)
def power(x: ArrayLike, y: ArrayLike, /, **options: Any) -> Value:
    """x to the power y. A whole exponent up to 32 written in the program is a product."""
    exponent = None if options else static_exponent(y)
    if exponent is None:
        return _general_power.staged(x, y, **options)
    x = as_operand(x, "power")
    dtype = loop_dtypes(np.power, [aval_of(x), aval_of(y)])[0]
    return integer_power(cast(x, dtype), exponent)


pow = power
float_power = ufunc(np.float_power, _power)


sqrt = ufunc(np.sqrt, p.sqrt_p)


def _ldexp(x: Value, exponent: Value) -> Value:
    """x * 2**exponent in two steps, so that neither factor overflows alone."""
    whole = cast(exponent, INT)
    half = p.floor_divide(whole, full_like(whole, 2))
    for step in (half, p.sub(whole, half)):
        x = p.mul(x, p.exp2(cast(step, aval_of(x).dtype)))
    return x


ldexp = ufunc(np.ldexp, _ldexp)
spacing = ufunc(
    np.spacing,
    lambda x: p.copysign(p.sub(p.nextafter(p.abs(x), full_like(x, math.inf)), p.abs(x)), x),
)
cbrt = ufunc(np.cbrt, p.cbrt_p)
hypot = ufunc(np.hypot, p.hypot_p)

# -- exponentials and logarithms ----------------------------------------------------------------

exp = ufunc(np.exp, p.exp_p)
exp2 = ufunc(np.exp2, p.exp2_p)
expm1 = ufunc(np.expm1, p.expm1_p)
log = ufunc(np.log, p.log_p)
log2 = ufunc(np.log2, p.log2_p)
log10 = ufunc(np.log10, p.log10_p)
log1p = ufunc(np.log1p, p.log1p_p)
logaddexp = ufunc(np.logaddexp, p.logaddexp_p)
logaddexp2 = ufunc(
    np.logaddexp2,
    lambda x, y: times(
        bind(p.logaddexp_p, times(x, math.log(2)), times(y, math.log(2)))[0], 1 / math.log(2)
    ),
)

# -- trigonometry -----------------------------------------------------------------------------

sin = ufunc(np.sin, p.sin_p)
cos = ufunc(np.cos, p.cos_p)
tan = ufunc(np.tan, p.tan_p)
arcsin = ufunc(np.arcsin, p.asin_p)
arccos = ufunc(np.arccos, p.acos_p)
arctan = ufunc(np.arctan, p.atan_p)
arctan2 = ufunc(np.arctan2, p.atan2_p)
sinh = ufunc(np.sinh, p.sinh_p)
cosh = ufunc(np.cosh, p.cosh_p)
tanh = ufunc(np.tanh, p.tanh_p)
arcsinh = ufunc(np.arcsinh, p.asinh_p)
arccosh = ufunc(np.arccosh, p.acosh_p)
arctanh = ufunc(np.arctanh, p.atanh_p)
asin, acos, atan, atan2 = arcsin, arccos, arctan, arctan2
asinh, acosh, atanh = arcsinh, arccosh, arctanh
deg2rad = ufunc(np.deg2rad, lambda x: times(x, math.pi / 180))
rad2deg = ufunc(np.rad2deg, lambda x: times(x, 180 / math.pi))
radians = ufunc(np.radians, lambda x: times(x, math.pi / 180))
degrees = ufunc(np.degrees, lambda x: times(x, 180 / math.pi))

# -- logic and bits ---------------------------------------------------------------------------

logical_and = ufunc(np.logical_and, lambda x, y: bind(p.and_p, truth(x), truth(y))[0])
logical_or = ufunc(np.logical_or, lambda x, y: bind(p.or_p, truth(x), truth(y))[0])
logical_xor = ufunc(np.logical_xor, lambda x, y: bind(p.xor_p, truth(x), truth(y))[0])
logical_not = ufunc(np.logical_not, lambda x: bind(p.not_p, truth(x))[0])
bitwise_and = ufunc(np.bitwise_and, p.and_p)
bitwise_or = ufunc(np.bitwise_or, p.or_p)
bitwise_xor = ufunc(np.bitwise_xor, p.xor_p)
invert = ufunc(np.invert, p.not_p)
bitwise_not = bitwise_invert = invert
left_shift = ufunc(np.left_shift, p.shift_left_p)
right_shift = ufunc(np.right_shift, p.shift_right_p)
bitwise_left_shift, bitwise_right_shift = left_shift, right_shift


def _bitwise_count(x: Value) -> Value:
    """The ones of |x|."""
    size = p.abs(x) if aval_of(x).dtype.kind == "i" else x
    return cast(p.population_count(size), np.dtype(np.uint8))


bitwise_count = ufunc(np.bitwise_count, _bitwise_count)


@surface(np.heaviside)
def heaviside(x: ArrayLike, at_zero: ArrayLike, /) -> Value:
    """0 below zero, `at_zero` at zero, 1 above; NaN stays."""
    x, at_zero = operands_of(np.heaviside, (x, at_zero))
    step = cast(bind(p.gt_p, x, full_like(x, 0.0))[0], aval_of(x).dtype)
    step = choose(equals(x, 0.0), at_zero, step)
    return choose(bind(p.is_nan_p, x)[0], x, step)


@surface(np.where, numbers=Numbers.MET)
def where(condition: ArrayLike, x: ArrayLike | None = None, y: ArrayLike | None = None, /) -> Value:
    """x where the condition holds, y elsewhere, broadcast together.

    With the condition alone: the positions where it holds, which needs its values.
    """
    if x is None and y is None:
        return np.nonzero(np.asarray(condition))  # type: ignore[return-value]
    if x is None or y is None:
        raise ValueError("either both or neither of x and y should be given")
    x, y = promote(as_operand(x, "where"), as_operand(y, "where"))
    condition = truth(as_operand(condition, "where"))
    return choose(*broadcast_together("where", condition, x, y))


@surface(np.clip, numbers=Numbers.MET)
def clip(
    a: ArrayLike,
    a_min: ArrayLike | None = None,
    a_max: ArrayLike | None = None,
    *,
    min: ArrayLike | None = None,  # NumPy's names
    max: ArrayLike | None = None,
) -> Value:
    """a held between two bounds, either of which may be None. At a bound its derivative is 1."""
    low, high = a_min if min is None else min, a_max if max is None else max
    a = as_operand(a, "clip")
    low = None if beyond(low, a) < 0 else low
    high = None if beyond(high, a) > 0 else high
    given = [as_operand(v, "clip") for v in (low, high) if v is not None]
    a, *given = broadcast_together("clip", *promote(as_strong(a), *given))
    if aval_of(a).dtype.kind == "c":
        a = a if low is None else _max(a, given[0])
        return a if high is None else _min(a, given[-1])
    if low is not None and high is not None and aval_of(a).dtype.kind != "b":
        return bind(p.clamp_p, given[0], a, given[1])[0]
    if low is not None:
        a = choose(bind(p.lt_p, a, given[0])[0], given[0], a)
    if high is not None:
        a = choose(bind(p.gt_p, a, given[-1])[0], given[-1], a)
    return a


@surface(np.round, aliases=(np.around,))
def round(a: ArrayLike, decimals: int = 0) -> Value:  # NumPy's name
    """a rounded to `decimals` places, halves to even."""
    a = as_strong(as_operand(a, "round"))
    dtype = aval_of(a).dtype
    if dtype == BOOL and decimals == 0:
        return cast(a, np.dtype(np.float16))
    if dtype == BOOL:
        raise DtypeError("round: bools cannot be rounded to decimals")
    if not is_inexact(dtype):
        return a if decimals >= 0 else _round_integers(a, 10**-decimals)
    if dtype.kind == "c":
        return complex_of(*(round.body(part, decimals) for part in (real_of(a), imag_of(a))))
    if decimals == 0:
        return bind(p.rint_p, a)[0]
    power = full_like(a, 10.0 ** abs(decimals))
    up, down = (p.mul, p.div) if decimals > 0 else (p.div, p.mul)
    return down(bind(p.rint_p, up(a, power))[0], power)


def _round_integers(a: Value, unit: int) -> Value:
    """Integers rounded to a multiple of `unit`, through float64 as NumPy does."""
    scaled = p.div(cast(a, FLOAT), full_like(cast(a, FLOAT), unit))
    return cast(times(bind(p.rint_p, scaled)[0], unit), aval_of(a).dtype)
