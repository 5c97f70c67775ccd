"""Activation functions; at their kinks they have the derivatives that docs/edges.md fixes."""

from __future__ import annotations

import math
from typing import Any

from functrans.errors import ShapeError, describe
from functrans.ir import aval_of, is_inexact
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full_like
from functrans.surface import elementwise
from functrans.surface.axes import normal_axis
from functrans.surface.declare import surface
from functrans.surface.promotion import FLOAT, align, as_operand, as_strong, cast
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike


def floating(x: ArrayLike, name: str) -> Value:
    """x as a floating operand; integers become float64."""
    x = as_strong(as_operand(x, name))
    return x if is_inexact(aval_of(x).dtype) else cast(x, FLOAT)


def number(x: Value, value: float) -> Value:
    return full_like(x, value)


def where_positive(x: Value, positive: Value, otherwise: Value) -> Value:
    """`positive` where x > 0; NaN counts as positive, so that it is passed on."""
    return p.select(e.le(x, number(x, 0)), otherwise, positive)


@surface(name="relu")
def relu(x: ArrayLike) -> Value:
    """max(x, 0); at 0 its derivative is 0."""
    x = array_of(x, "relu")
    return where_positive(x, x, number(x, 0))


@surface(name="relu6")
def relu6(x: ArrayLike) -> Value:
    """min(max(x, 0), 6); at 0 and 6 its derivative is 0."""
    x = relu.body(x)
    return p.select(e.ge(x, number(x, 6)), number(x, 6), x)


@surface(name="sigmoid")
def sigmoid(x: ArrayLike) -> Value:
    """1 / (1 + exp(-x))."""
    return e.logistic(floating(x, "sigmoid"))


@surface(name="tanh")
def tanh(x: ArrayLike) -> Value:
    """The hyperbolic tangent."""
    return e.tanh(floating(x, "tanh"))


@surface(name="softplus")
def softplus(x: ArrayLike) -> Value:
    """log(1 + exp(x)), computed without overflow."""
    x = floating(x, "softplus")
    return e.logaddexp(x, number(x, 0))


@surface(name="log_sigmoid")
def log_sigmoid(x: ArrayLike) -> Value:
    """log(sigmoid(x)), computed without underflow."""
    return e.neg(softplus.body(e.neg(floating(x, "log_sigmoid"))))


@surface(name="soft_sign")
def soft_sign(x: ArrayLike) -> Value:
    """x / (1 + |x|)."""
    x = floating(x, "soft_sign")
    return e.div(x, e.add(e.abs(x), number(x, 1)))


@surface(name="silu")
def silu(x: ArrayLike) -> Value:
    """x * sigmoid(x)."""
    x = floating(x, "silu")
    return e.mul(x, e.logistic(x))


swish = silu


@surface(name="mish")
def mish(x: ArrayLike) -> Value:
    """x * tanh(softplus(x))."""
    x = floating(x, "mish")
    return e.mul(x, e.tanh(e.logaddexp(x, number(x, 0))))


@surface(name="gelu")
def gelu(x: ArrayLike, approximate: bool = True) -> Value:
    """x times the normal distribution function of x, by default in its tanh approximation."""
    x = floating(x, "gelu")
    half = e.mul(x, number(x, 0.5))
    if not approximate:
        return e.mul(half, e.erfc(e.mul(x, number(x, -math.sqrt(0.5)))))
    cubic = e.add(x, e.mul(number(x, 0.044715), e.integer_pow(x, exponent=3)))
    inner = e.tanh(e.mul(number(x, math.sqrt(2 / math.pi)), cubic))
    return e.mul(half, e.add(inner, number(x, 1)))


def _below_zero(x: Value, below: Any) -> Value:
    """x where it is positive, `below(x)` elsewhere; neither branch sees the other's values."""
    negative = where_positive(x, number(x, 0), x)
    return where_positive(x, x, below(negative))


@surface(name="elu")
def elu(x: ArrayLike, alpha: ArrayLike = 1.0) -> Value:
    """x where it is positive, alpha * (exp(x) - 1) elsewhere."""
    x, alpha = align("elu", floating(x, "elu"), alpha)
    return _below_zero(x, lambda v: e.mul(alpha, e.expm1(v)))


@surface(name="celu")
def celu(x: ArrayLike, alpha: ArrayLike = 1.0) -> Value:
    """x where it is positive, alpha * (exp(x / alpha) - 1) elsewhere."""
    x, alpha = align("celu", floating(x, "celu"), alpha)
    return _below_zero(x, lambda v: e.mul(alpha, e.expm1(e.div(v, alpha))))


@surface(name="selu")
def selu(x: ArrayLike) -> Value:
    """The scaled exponential linear unit of self-normalising networks."""
    x = floating(x, "selu")
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return e.mul(number(x, scale), elu.body(x, alpha))


@surface(name="leaky_relu")
def leaky_relu(x: ArrayLike, negative_slope: ArrayLike = 0.01) -> Value:
    """x where it is positive, negative_slope * x elsewhere."""
    x, slope = align("leaky_relu", floating(x, "leaky_relu"), negative_slope)
    return where_positive(x, x, e.mul(slope, x))


@surface(name="hard_tanh")
def hard_tanh(x: ArrayLike) -> Value:
    """x held between -1 and 1."""
    return elementwise.clip.body(array_of(x, "hard_tanh"), -1, 1)


@surface(name="hard_sigmoid")
def hard_sigmoid(x: ArrayLike) -> Value:
    """relu6(x + 3) / 6."""
    x = floating(x, "hard_sigmoid")
    return e.div(relu6.body(e.add(x, number(x, 3))), number(x, 6))


@surface(name="hard_silu")
def hard_silu(x: ArrayLike) -> Value:
    """x * hard_sigmoid(x)."""
    x = floating(x, "hard_silu")
    return e.mul(x, hard_sigmoid.body(x))


hard_swish = hard_silu


@surface(name="sparse_plus")
def sparse_plus(x: ArrayLike) -> Value:
    """0 below -1, x above 1, and the parabola (x + 1)^2 / 4 between."""
    x = floating(x, "sparse_plus")
    middle = e.mul(e.square(e.add(x, number(x, 1))), number(x, 0.25))
    upper = p.select(e.ge(x, number(x, 1)), x, middle)
    return p.select(e.le(x, number(x, -1)), number(x, 0), upper)


@surface(name="glu")
def glu(x: ArrayLike, axis: int = -1) -> Value:
    """One half of x along an axis times the sigmoid of the other."""
    x = floating(x, "glu")
    place = normal_axis(axis, aval_of(x).ndim, "glu")
    n = aval_of(x).shape[place]
    if n % 2:
        raise ShapeError(f"glu: axis {axis} of {describe(aval_of(x))} must have an even length.")
    first, second = p.slice_axis(x, place, 0, n // 2), p.slice_axis(x, place, n // 2, n)
    return e.mul(first, e.logistic(second))


@surface(name="identity")
def identity(x: ArrayLike) -> Value:
    """x itself."""
    return array_of(x, "identity")


@surface(name="log1mexp")
def log1mexp(x: ArrayLike) -> Value:
    """log(1 - exp(-x)) for positive x, by the better of two formulas."""
    x = floating(x, "log1mexp")
    small = e.lt(x, number(x, math.log(2)))
    near, far = p.select(small, x, number(x, 1)), p.select(small, number(x, 1), x)
    by_expm1 = e.log(e.neg(e.expm1(e.neg(near))))
    by_log1p = e.log1p(e.neg(e.exp(e.neg(far))))
    return p.select(small, by_expm1, by_log1p)
