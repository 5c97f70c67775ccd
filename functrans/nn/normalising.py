"""Functions that normalise along axes: softmax, log_softmax, standardize, one_hot, attention."""

from __future__ import annotations

import math
import operator
from typing import Any

from functrans.errors import DtypeError, ShapeError, describe
from functrans.ir import aval_of
from functrans.nn.activations import floating, number
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value
from functrans.surface import contraction, reductions
from functrans.surface.axes import normal_axes, normal_axis
from functrans.surface.declare import surface
from functrans.surface.promotion import BOOL, INT, align, as_operand, canonical_dtype, cast, stretch
from functrans.surface.reductions import mask_out
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike, Axes, DTypeLike


def _spread(reduced: Value, x: Value, axes: tuple[int, ...]) -> Value:
    """A value per row, repeated along the axes that were reduced."""
    return p.broadcast(reduced, aval_of(x).shape, axes)


def _shifted(name: str, x: ArrayLike, axis: Axes, where: ArrayLike | None) -> tuple[Value, Any]:
    """x less its greatest value along the axes, which changes no derivative; and the axes."""
    x = floating(x, name)
    axes = tuple(sorted(normal_axes(axis, aval_of(x).ndim, name)))
    if where is not None:
        x = mask_out(name, x, where, number_of(x, -math.inf))
    if not all(aval_of(x).shape[i] for i in axes):
        return x, axes
    greatest = p.stop_gradient(reductions.max.body(x, axes))
    return e.sub(x, _spread(greatest, x, axes)), axes


def number_of(x: Value, value: float) -> Value:
    return aval_of(x).dtype.type(value)


@surface(name="softmax")
def softmax(x: ArrayLike, axis: Axes = -1, where: ArrayLike | None = None) -> Value:
    """exp(x) divided by its sum along the axes; what `where` leaves out counts as 0."""
    x, axes = _shifted("softmax", x, axis, where)
    powers = e.exp(x)
    return e.div(powers, _spread(p.reduce_sum(powers, axes), x, axes))


@surface(name="log_softmax")
def log_softmax(x: ArrayLike, axis: Axes = -1, where: ArrayLike | None = None) -> Value:
    """The logarithm of softmax, computed without under- or overflow."""
    x, axes = _shifted("log_softmax", x, axis, where)
    return e.sub(x, _spread(e.log(p.reduce_sum(e.exp(x), axes)), x, axes))


@surface(name="standardize")
def standardize(
    x: ArrayLike,
    axis: Axes = -1,
    mean: ArrayLike | None = None,
    variance: ArrayLike | None = None,
    epsilon: ArrayLike = 1e-5,
    where: ArrayLike | None = None,
) -> Value:
    """x with mean 0 and variance 1 along the axes: (x - mean) / sqrt(variance + epsilon)."""
    x = floating(x, "standardize")
    options: dict[str, Any] = {"keepdims": True, "where": True if where is None else where}
    middle = reductions.mean.body(x, axis, **options) if mean is None else mean
    width = reductions.var.body(x, axis, **options) if variance is None else variance
    x, centre, spread, small = align("standardize", x, middle, width, epsilon)
    return e.mul(e.sub(x, centre), e.rsqrt(e.add(spread, small)))


@surface(name="one_hot")
def one_hot(x: ArrayLike, num_classes: int, *, dtype: DTypeLike = float, axis: int = -1) -> Value:
    """1 at the place that each integer of x names along a new axis, 0 elsewhere.

    An integer outside [0, num_classes) gives zeros only.
    """
    x = array_of(x, "one_hot")
    if aval_of(x).dtype.kind not in "iu":
        raise DtypeError(
            f"one_hot: x must hold integers, but is {describe(aval_of(x))}. Convert it with "
            "astype(int)."
        )
    n = operator.index(num_classes)
    place = normal_axis(axis, aval_of(x).ndim + 1, "one_hot")
    shape = list(aval_of(x).shape)
    shape.insert(place, n)
    wanted = p.broadcast(cast(x, INT), tuple(shape), (place,))
    return cast(e.eq(wanted, p.iota(tuple(shape), INT, place)), canonical_dtype(dtype, "one_hot"))


@surface(name="binary_cross_entropy_with_logits")
def binary_cross_entropy_with_logits(logits: ArrayLike, labels: ArrayLike) -> Value:
    """-y log(sigmoid(z)) - (1 - y) log(1 - sigmoid(z)), elementwise, for any size of z."""
    z, y = align("binary_cross_entropy_with_logits", floating(logits, "logits"), labels)
    return e.sub(e.logaddexp(z, number(z, 0)), e.mul(y, z))


@surface(name="dot_product_attention")
def dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
) -> Value:
    """softmax(query key^T * scale + bias) value, for operands (..., length, heads, size).

    `mask` (True: look) and `bias` broadcast to (..., heads, queries, keys); `scale` is
    1 / sqrt(size) by default; `is_causal` lets no position look at later ones.
    """
    q, k, v = (floating(x, "dot_product_attention") for x in (query, key, value))
    if aval_of(k).shape != aval_of(v).shape or aval_of(q).shape[-1] != aval_of(k).shape[-1]:
        raise ShapeError(
            "dot_product_attention: query, key and value must be (..., length, heads, size), but "
            f"are {aval_of(q)}, {aval_of(k)} and {aval_of(v)}"
        )
    factor = 1 / math.sqrt(aval_of(q).shape[-1]) if scale is None else scale
    scores = contraction.einsum.body("...qhd,...khd->...hqk", q, k)
    scores = e.mul(scores, number(scores, factor))
    if bias is not None:
        scores = e.add(*align("dot_product_attention", scores, bias))
    allowed = _allowed(scores, mask, is_causal)
    if allowed is not None:
        scores = p.select(allowed, scores, number(scores, -math.inf))
    return contraction.einsum.body("...hqk,...khd->...qhd", softmax.body(scores), v)


def _allowed(scores: Value, mask: ArrayLike | None, is_causal: bool) -> Value | None:
    """Who may look at whom, in the shape of the scores; None where all may."""
    aval = aval_of(scores)
    allowed = None
    if mask is not None:
        allowed = stretch(cast(as_operand(mask, "dot_product_attention"), BOOL), aval.shape)
    if not is_causal:
        return allowed
    last = aval.ndim - 1
    causal = e.ge(p.iota(aval.shape, INT, last - 1), p.iota(aval.shape, INT, last))
    return causal if allowed is None else e.and_(allowed, causal)
