"""Special functions with SciPy's names: logsumexp, softmax, error and gamma functions, logit."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from functrans.ir import aval_of, is_inexact
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full_like
from functrans.surface import reductions
from functrans.surface.axes import normal_axes
from functrans.surface.declare import Function, surface
from functrans.surface.promotion import FLOAT, align, as_operand, cast
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike, Axes


def floating(x: ArrayLike, name: str) -> Value:
    """x as a floating operand; integers become float64."""
    x = array_of(x, name)
    return x if is_inexact(aval_of(x).dtype) else cast(x, FLOAT)


@surface(name="logsumexp")
def logsumexp(
    a: ArrayLike,
    axis: Axes = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    *,
    where: ArrayLike | None = None,
) -> Any:
    """log(sum(b * exp(a))) over the axes, without overflow; of -inf alone it is constant -inf.

    With `return_sign`, (log |sum|, its sign), so that the sum may be negative.
    """
    a = floating(a, "logsumexp")
    if where is not None:
        a = reductions.mask_out("logsumexp", a, where, aval_of(a).dtype.type(-math.inf))
    if b is not None:
        a, b = align("logsumexp", a, b)
        a = p.select(e.eq(b, full_like(b, 0)), full_like(a, -math.inf), a)
    axes = normal_axes(axis, aval_of(a).ndim, "logsumexp")
    shift = _shift(a, axes)
    powers = e.exp(e.sub(a, p.broadcast(shift, aval_of(a).shape, tuple(sorted(axes)))))
    total = p.reduce_sum(powers if b is None else e.mul(b, powers), axes)
    sign = e.sign(total) if return_sign else None
    result = e.add(_log_or_constant(e.abs(total) if return_sign else total), shift)
    result = reductions.keep_axes(result, axes, keepdims)
    return (result, reductions.keep_axes(sign, axes, keepdims)) if return_sign else result


def _shift(a: Value, axes: tuple[int, ...]) -> Value:
    """The greatest value where it is finite, else 0; its derivative plays no part."""
    greatest = p.stop_gradient(reductions.max.body(a, axes, initial=-math.inf))
    return p.select(e.is_finite(greatest), greatest, full_like(greatest, 0))


def _log_or_constant(total: Value) -> Value:
    """log, whose derivative where the total is 0 counts as 0."""
    zero = e.eq(total, full_like(total, 0))
    safe = p.select(zero, full_like(total, 1), total)
    return p.select(zero, full_like(total, -math.inf), e.log(safe))


@surface(name="log_softmax")
def log_softmax(x: ArrayLike, axis: Axes = None) -> Value:
    """x less its logsumexp along the axes (all of them by default, as in SciPy)."""
    x = floating(x, "log_softmax")
    total = logsumexp.body(x, axis, keepdims=True)
    x, total = align("log_softmax", x, total)
    return e.sub(x, total)


@surface(name="softmax")
def softmax(x: ArrayLike, axis: Axes = None) -> Value:
    """exp(x) divided by its sum along the axes (all of them by default, as in SciPy)."""
    return e.exp(log_softmax.body(x, axis))


def _unary(name: str, compute: Callable[[Value], Value], summary: str) -> Function:
    def body(x: ArrayLike) -> Value:
        return compute(floating(x, name))

    body.__name__ = body.__qualname__ = name
    body.__doc__ = summary
    return surface(name=name)(body)


erf = _unary("erf", e.erf, "The error function.")
erfc = _unary("erfc", e.erfc, "1 - erf(x), without cancellation.")
erfinv = _unary("erfinv", e.erfinv, "The inverse of erf.")
gammaln = _unary("gammaln", e.lgamma, "log |gamma(x)|.")
digamma = _unary("digamma", e.digamma, "The derivative of gammaln.")
expit = _unary("expit", e.logistic, "1 / (1 + exp(-x)).")
logit = _unary(
    "logit", lambda x: e.sub(e.log(x), e.log1p(e.neg(x))), "log(x / (1 - x)), the inverse of expit."
)
ndtr = _unary(
    "ndtr",
    lambda x: e.mul(full_like(x, 0.5), e.erfc(e.mul(x, full_like(x, -math.sqrt(0.5))))),
    "The distribution function of the normal distribution.",
)


@surface(name="polygamma")
def polygamma(n: int, x: ArrayLike) -> Value:
    """The n-th derivative of digamma; n is a Python integer."""
    x = floating(x, "polygamma")
    return e.digamma(x) if n == 0 else e.polygamma(x, int(n))


@surface(name="xlogy")
def xlogy(x: ArrayLike, y: ArrayLike) -> Value:
    """x * log(y), and 0 where x is 0."""
    x, y = _pair("xlogy", x, y)
    return _times_log(x, y, e.log, pole=0)


@surface(name="xlog1py")
def xlog1py(x: ArrayLike, y: ArrayLike) -> Value:
    """x * log(1 + y), and 0 where x is 0."""
    x, y = _pair("xlog1py", x, y)
    return _times_log(x, y, e.log1p, pole=-1)


def _pair(name: str, x: ArrayLike, y: ArrayLike) -> list[Value]:
    return align(name, *(floating(as_operand(v, name), name) for v in (x, y)))


def _times_log(x: Value, y: Value, log: Callable[[Value], Value], pole: float) -> Value:
    """x * log(y), where x = 0 wins over infinite and undefined logarithms but not over NaN."""
    bad = e.or_(e.le(y, full_like(y, pole)), e.eq(y, full_like(y, math.inf)))
    bad = e.and_(bad, e.eq(x, full_like(x, 0)))
    return e.mul(x, log(p.select(bad, full_like(y, pole + 1), y)))


@surface(name="entr")
def entr(x: ArrayLike) -> Value:
    """-x * log(x); 0 at 0, -inf below."""
    x = floating(x, "entr")
    below = e.lt(x, full_like(x, 0))
    safe = p.select(below, full_like(x, 1), x)
    return p.select(below, full_like(x, -math.inf), e.neg(_times_log(safe, safe, e.log, 0)))


def standing_for(ufunc: Any) -> Function | None:
    """Our function for a ufunc of SciPy's; SciPy need not be there."""
    theirs = sys.modules.get("scipy.special")
    if theirs is None or not isinstance(ufunc, np.ufunc):
        return None
    return next((globals()[n] for n in __all__ if getattr(theirs, n, None) is ufunc), None)


__all__ = [
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfinv",
    "expit",
    "gammaln",
    "log_softmax",
    "logit",
    "logsumexp",
    "ndtr",
    "polygamma",
    "softmax",
    "xlog1py",
    "xlogy",
]
