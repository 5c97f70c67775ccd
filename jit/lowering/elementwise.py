"""The scalar functions of the elementwise primitives; complex ones are beside, in complex.py.

Meanings are NumPy's, at NaN, infinities, zeros and wrapping integers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from functrans.extend import primitives
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import FLOATS, ITEMSIZE, SIGNED, UNSIGNED, DType, Value, integer_bounds
from jit.lowering import complex as cx
from jit.lowering.formulas import Function, hypot, integer_power, widened
from jit.lowering.gammas import polygamma
from jit.lowering.rules import Pair, is_complex, loop_dtype, lower_scalar
from jit.names import NEGATIVE_POWER

ft = primitives.elementwise


def op(name: str) -> Function:
    """The operation of the loop IR of that name."""
    return lambda b, *args: b.op(name, *args)


# -- arithmetic -------------------------------------------------------------------------------


def scale(b: Builder, x: Value, y: Value) -> Value:
    """x * y, but 0 where either is 0."""
    nonzero = b.and_(b.ne(x, 0.0), b.ne(y, 0.0))  # one masked comparison less than or_ of eq
    return b.select(nonzero, b.mul(x, y), 0.0)


def sign(b: Builder, x: Value) -> Value:
    """-1, 0 or 1; NaN of NaN."""
    zero = x if x.dtype not in FLOATS else b.select(b.eq(x, 0.0), 0.0, x)
    below = zero if x.dtype in UNSIGNED else b.select(b.lt(x, 0), -1, zero)
    return b.select(b.gt(x, 0), 1, below)


def maximum(b: Builder, x: Value, y: Value) -> Value:
    return b.or_(x, y) if x.dtype == "bool" else b.max(x, y)


def minimum(b: Builder, x: Value, y: Value) -> Value:
    return b.and_(x, y) if x.dtype == "bool" else b.min(x, y)


def clamp(b: Builder, low: Value, x: Value, high: Value) -> Value:
    return minimum(b, maximum(b, x, low), high)


def rsqrt(b: Builder, x: Value) -> Value:
    return b.div(b.const(x.dtype, 1.0), b.op("sqrt", x))


def reciprocal(b: Builder, x: Value) -> Value:
    return b.div(b.const(x.dtype, 1), x)


@widened
def integer_pow(b: Builder, x: Value, exponent: int) -> Value:
    """Products up to a power of 32, then the general power, as accurate as NumPy's."""
    if x.dtype in FLOATS and abs(exponent) > 32:
        return b.op("pow", x, b.const(x.dtype, float(exponent)))
    base = reciprocal(b, x) if exponent < 0 else x
    one = b.const(x.dtype, 1)
    return integer_power(b, base, abs(exponent), lambda b, p, q: b.mul(p, q), one)


def power(b: Builder, x: Value, y: Value) -> Value:
    """x ** y; of integers by squaring, bit by bit, and a negative exponent is an error."""
    if x.dtype in FLOATS:
        return b.op("pow", x, y)
    if y.dtype in SIGNED:
        b.fail(NEGATIVE_POWER, b.lt(y, 0))
    result: Value = b.const(x.dtype, 1)
    bits = 8 * ITEMSIZE[x.dtype]
    for k in range(bits):
        taken = b.ne(b.and_(y, b.const(y.dtype, 1 << k)), 0)
        result = b.select(taken, b.mul(result, x), result)
        if k < bits - 1:
            x = b.mul(x, x)
    return result


# -- functions of two arguments ---------------------------------------------------------------


@widened
def logaddexp(b: Builder, x: Value, y: Value) -> Value:
    """log(exp(x) + exp(y)); equal infinities stay what they are."""
    gap = b.neg(b.abs(b.sub(x, y)))
    apart = b.add(b.max(x, y), b.op("log1p", b.op("exp", gap)))
    return b.select(b.eq(x, y), b.add(x, math.log(2.0)), apart)


def nextafter(b: Builder, x: Value, y: Value) -> Value:
    """The neighbour of x towards y: one more or one less as an integer of the same bits."""
    signed: dict[int, DType] = {2: "i16", 4: "i32", 8: "i64"}
    kind = signed[ITEMSIZE[x.dtype]]
    bits = b.bitcast(x, kind)
    away = b.eq(b.gt(y, x), b.gt(x, 0.0))
    stepped = b.bitcast(b.add(bits, b.select(away, b.const(kind, 1), -1)), x.dtype)
    tiny = b.op("copysign", b.bitcast(b.const(kind, 1), x.dtype), y)
    moved = b.select(b.eq(x, 0.0), tiny, stepped)
    unordered = b.or_(b.ne(x, x), b.ne(y, y))
    return b.select(unordered, b.add(x, y), b.select(b.eq(x, y), y, moved))


# -- bits, tests, conversions -----------------------------------------------------------------


def is_finite(b: Builder, x: Value) -> Value:
    return b.lt(b.abs(x), math.inf)


def signbit(b: Builder, x: Value) -> Value:
    return b.lt(b.op("copysign", b.const(x.dtype, 1.0), x), 0.0)


def population_count(b: Builder, x: Value) -> Value:
    return b.op("popcount", x)


def bitcast(b: Builder, x: Any, dtype: np.dtype[Any]) -> Any:
    """The same bytes as another type; complex64 is two floats in one word of 8 bytes."""
    kind = loop_dtype(dtype)
    if isinstance(x, Pair):
        return x if is_complex(dtype) else cx.to_word(b, x, kind)
    if is_complex(dtype):
        return cx.from_word(b, x)
    if "bool" in (x.dtype, kind):
        return b.cast(x, kind)
    return x if x.dtype == kind else b.bitcast(x, kind)


def convert(b: Builder, x: Any, dtype: np.dtype[Any], weak: bool) -> Any:
    """NumPy's astype; the real part where a complex value becomes a real one."""
    kind = loop_dtype(dtype)
    if is_complex(dtype):
        pair = x if isinstance(x, Pair) else Pair(x, b.const(kind, 0.0))
        return Pair(b.cast(pair.re, kind), b.cast(pair.im, kind))
    if isinstance(x, Pair):
        if kind == "bool":
            return b.or_(b.ne(x.re, 0.0), b.ne(x.im, 0.0))
        x = x.re
    return b.cast(x, kind)


ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(b: Builder, k0: Value, k1: Value, x0: Value, x1: Value) -> list[Value]:
    """Threefry-2x32 with 20 rounds, as in functrans.primitives."""
    keys = (k0, k1, b.xor(b.xor(k0, k1), 0x1BD11BDA))
    p, q = b.add(x0, keys[0]), b.add(x1, keys[1])
    for group in range(5):
        for turn in ROTATIONS[group % 2]:
            p = b.add(p, q)
            q = b.xor(p, b.or_(b.op("shl", q, turn), b.op("shr", q, 32 - turn)))
        p = b.add(p, keys[(group + 1) % 3])
        q = b.add(b.add(q, keys[(group + 2) % 3]), group + 1)
    return [p, q]


def extremes(dtype: DType) -> tuple[Any, Any]:
    """The least and the greatest value of a type, infinities for floats."""
    if dtype in FLOATS:
        return -math.inf, math.inf
    return (False, True) if dtype == "bool" else integer_bounds(dtype)


# -- the table --------------------------------------------------------------------------------

lower_scalar(ft.neg_p, op("neg"), cx.neg)
lower_scalar(ft.add_p, op("add"), cx.add)
lower_scalar(ft.sub_p, op("sub"), cx.sub)
lower_scalar(ft.mul_p, op("mul"), cx.mul)
lower_scalar(ft.scale_p, scale, cx.scale, cost=3)
lower_scalar(ft.div_p, op("div"), cx.div, cost=4)
lower_scalar(ft.square_p, lambda b, x: b.mul(x, x), cx.square)
lower_scalar(ft.reciprocal_p, reciprocal, cx.reciprocal, cost=4)
lower_scalar(ft.sign_p, sign, cx.sign, cost=2)
lower_scalar(ft.abs_p, op("abs"), cx.absolute)
for _p, _name in (
    (ft.floor_p, "floor"),
    (ft.ceil_p, "ceil"),
    (ft.rint_p, "rint"),
    (ft.trunc_p, "trunc"),
):
    lower_scalar(_p, op(_name))

for _p, _name, _paired, _cost in (
    (ft.exp_p, "exp", cx.exp, 9),
    (ft.exp2_p, "exp2", cx.exp2, 9),
    (ft.expm1_p, "expm1", cx.expm1, 12),
    (ft.log_p, "log", cx.log, 11),
    (ft.log2_p, "log2", cx.log2, 11),
    (ft.log10_p, "log10", cx.log10, 11),
    (ft.log1p_p, "log1p", cx.log1p, 13),
    (ft.sin_p, "sin", cx.sin, 11),
    (ft.cos_p, "cos", cx.cos, 11),
    (ft.tan_p, "tan", cx.tan, 18),
    (ft.asin_p, "asin", cx.asin, 15),
    (ft.acos_p, "acos", cx.acos, 15),
    (ft.atan_p, "atan", cx.atan, 15),
    (ft.sinh_p, "sinh", cx.sinh, 15),
    (ft.cosh_p, "cosh", cx.cosh, 15),
    (ft.tanh_p, "tanh", cx.tanh, 12),
    (ft.asinh_p, "asinh", cx.asinh, 20),
    (ft.acosh_p, "acosh", cx.acosh, 20),
    (ft.atanh_p, "atanh", cx.atanh, 20),
):
    lower_scalar(_p, op(_name), _paired, cost=_cost)

lower_scalar(ft.logistic_p, op("logistic"), cost=12)
lower_scalar(ft.erf_p, op("erf"), cost=15)
lower_scalar(ft.erfc_p, op("erfc"), cost=20)
lower_scalar(ft.erfinv_p, op("erfinv"), cost=20)
lower_scalar(ft.lgamma_p, op("lgamma"), cost=25)
lower_scalar(ft.digamma_p, op("digamma"), cost=25)
lower_scalar(ft.polygamma_p, polygamma, cost=60)
lower_scalar(ft.cbrt_p, op("cbrt"), cost=15)
lower_scalar(ft.sqrt_p, op("sqrt"), cx.sqrt, cost=5)
lower_scalar(ft.rsqrt_p, widened(rsqrt), cx.rsqrt, cost=8)
lower_scalar(ft.pow_p, power, cx.power, cost=30)
lower_scalar(ft.integer_pow_p, integer_pow, cx.integer_pow, cost=3)
lower_scalar(ft.max_p, maximum)
lower_scalar(ft.min_p, minimum)
lower_scalar(ft.clamp_p, clamp, cost=2)
lower_scalar(ft.atan2_p, op("atan2"), cost=20)
lower_scalar(ft.hypot_p, hypot, cost=15)
lower_scalar(ft.logaddexp_p, logaddexp, cost=25)
lower_scalar(ft.copysign_p, op("copysign"))
lower_scalar(ft.nextafter_p, nextafter, cost=8)
lower_scalar(ft.floor_divide_p, lambda b, x, y: b.floordiv(x, y), cost=12)
lower_scalar(ft.remainder_p, lambda b, x, y: b.mod(x, y), cost=12)
lower_scalar(ft.fmod_p, op("rem"), cost=10)
lower_scalar(ft.and_p, op("and"))
lower_scalar(ft.or_p, op("or"))
lower_scalar(ft.xor_p, op("xor"))
lower_scalar(ft.not_p, op("not"))
lower_scalar(ft.shift_left_p, op("shl"), cost=2)
lower_scalar(ft.shift_right_p, op("shr"), cost=2)
lower_scalar(ft.population_count_p, population_count, cost=2)
lower_scalar(ft.eq_p, op("eq"), cx.eq)
lower_scalar(ft.ne_p, op("ne"), cx.ne)
lower_scalar(ft.lt_p, op("lt"), lambda b, x, y: cx.before(b, "lt", x, y))
lower_scalar(ft.le_p, op("le"), lambda b, x, y: cx.before(b, "le", x, y))
lower_scalar(ft.gt_p, op("gt"), lambda b, x, y: cx.before(b, "lt", y, x))
lower_scalar(ft.ge_p, op("ge"), lambda b, x, y: cx.before(b, "le", y, x))
lower_scalar(ft.is_finite_p, is_finite, cx.is_finite)
lower_scalar(ft.is_nan_p, lambda b, x: b.ne(x, x), cx.is_nan)
lower_scalar(ft.signbit_p, signbit)
lower_scalar(ft.bitcast_p, bitcast, bitcast)
lower_scalar(ft.threefry2x32_p, threefry, cost=100)
