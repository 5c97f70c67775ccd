"""Distributions: uniform and normal numbers, integers, choices and permutations from a key."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import DtypeError, ShapeError
from functrans.ir import aval_of, is_inexact
from functrans.ir.aval import Shape
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import DType, Value, full_like
from functrans.primitives.ordering import sort, top_k
from functrans.primitives.reduction import cumsum_p
from functrans.random.bits import keys_of, random_bits
from functrans.surface import reductions
from functrans.surface.axes import as_shape, normal_axis
from functrans.surface.creation import arange
from functrans.surface.declare import surface
from functrans.surface.promotion import (
    FLOAT,
    as_operand,
    broadcast_together,
    canonical_dtype,
    cast,
    common_shape,
    stretch,
)
from functrans.surface.selection import take
from functrans.surface.shaping import array_of
from functrans.surface.sorting import searchsorted
from functrans.typing import ArrayLike, DTypeLike, ShapeLike

# -- uniform ----------------------------------------------------------------------------------


def _float_dtype(dtype: DTypeLike, function: str) -> DType:
    target = canonical_dtype(dtype, function)
    if target.kind != "f" and target.name != "bfloat16":
        raise DtypeError(f"{function}: the dtype must be floating, but is {target.name}")
    return target


def _unit(key: ArrayLike, shape: Shape, dtype: DType, function: str) -> Value:
    """Uniform in [0, 1): random bits as the mantissa of numbers in [1, 2), less 1."""
    width = dtype.itemsize * 8
    mantissa = _MANTISSA[dtype.name]
    word = np.dtype(f"uint{8 if mantissa < 8 else width}")
    drawn = random_bits(key, shape, word, function)
    drawn = e.shift_right(drawn, full_like(drawn, word.itemsize * 8 - mantissa))
    pattern = cast(drawn, np.dtype(f"uint{width}"))
    one: Any = np.asarray(1, dtype).view(f"uint{width}")[()]
    pattern = e.or_(pattern, full_like(pattern, one))
    numbers = e.bitcast(pattern, dtype=dtype)
    return e.sub(numbers, full_like(numbers, 1))


_MANTISSA = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}


def uniform_between(
    key: ArrayLike, shape: Shape, dtype: DType, low: Any, high: Any, function: str
) -> Value:
    """Uniform in [low, high), for bounds that broadcast to the shape."""
    unit = _unit(key, shape, dtype, function)
    if type(low) in (int, float) and type(high) in (int, float) and (low, high) == (0, 1):
        return unit
    bounds = [cast(as_operand(v, function), dtype) for v in (low, high)]
    low, high = broadcast_together(function, *bounds)
    span, low = stretch(e.sub(high, low), shape), stretch(low, shape)
    return e.max(low, e.add(e.mul(unit, span), low))


@surface(name="uniform")
def uniform(
    key: ArrayLike,
    shape: ShapeLike = (),
    dtype: DTypeLike = float,
    minval: ArrayLike = 0.0,
    maxval: ArrayLike = 1.0,
) -> Value:
    """Uniform numbers in [minval, maxval).

    >>> from functrans import random
    >>> random.uniform(random.key(0), (3,)).shape
    (3,)
    """
    target = _float_dtype(dtype, "uniform")
    return uniform_between(key, as_shape(shape), target, minval, maxval, "uniform")


def _open_unit(key: ArrayLike, shape: Shape, dtype: DType, function: str) -> Value:
    """Uniform in (0, 1)."""
    return uniform_between(key, shape, dtype, np.finfo(dtype).tiny, 1.0, function)


# -- continuous -------------------------------------------------------------------------------


@surface(name="normal")
def normal(key: ArrayLike, shape: ShapeLike = (), dtype: DTypeLike = float) -> Value:
    """Normally distributed numbers with mean 0 and variance 1; two of them where complex."""
    target = canonical_dtype(dtype, "normal")
    if target.kind == "c":
        half = np.dtype(f"f{target.itemsize // 2}")
        parts = [_normal(k, as_shape(shape), half) for k in keys_of(key, 2)]
        z = p.complex(*parts)
        return e.mul(z, full_like(z, math.sqrt(0.5)))
    return _normal(key, as_shape(shape), _float_dtype(dtype, "normal"))


def _normal(key: ArrayLike, shape: Shape, dtype: DType) -> Value:
    above = np.nextafter(dtype.type(-1), dtype.type(0))
    u = uniform_between(key, shape, dtype, above, dtype.type(1), "normal")
    return e.mul(full_like(u, math.sqrt(2)), e.erfinv(u))


@surface(name="lognormal")
def lognormal(
    key: ArrayLike, sigma: ArrayLike = 1.0, shape: ShapeLike = (), dtype: DTypeLike = float
) -> Value:
    """exp of normal numbers with standard deviation sigma."""
    x = normal.body(key, shape, dtype)
    return e.exp(e.mul(x, stretch(cast(as_operand(sigma), aval_of(x).dtype), aval_of(x).shape)))


@surface(name="truncated_normal")
def truncated_normal(
    key: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    shape: ShapeLike | None = None,
    dtype: DTypeLike = float,
) -> Value:
    """Normal numbers that lie between two bounds."""
    target = _float_dtype(dtype, "truncated_normal")
    low, high = (cast(as_operand(v, "truncated_normal"), target) for v in (lower, upper))
    common = common_shape("truncated_normal", aval_of(low).shape, aval_of(high).shape)
    size = common if shape is None else as_shape(shape)
    low, high = stretch(low, size), stretch(high, size)
    root = full_like(low, math.sqrt(2))
    first, last = (e.erf(e.div(v, root)) for v in (low, high))
    u = uniform_between(key, size, target, first, last, "truncated_normal")
    x = e.mul(root, e.erfinv(u))
    inner = [
        p.stop_gradient(e.nextafter(v, full_like(v, towards)))
        for v, towards in ((low, math.inf), (high, -math.inf))
    ]
    return e.clamp(inner[0], x, inner[1])


@surface(name="exponential")
def exponential(key: ArrayLike, shape: ShapeLike = (), dtype: DTypeLike = float) -> Value:
    """Exponentially distributed numbers with mean 1."""
    target = _float_dtype(dtype, "exponential")
    return e.neg(e.log1p(e.neg(_unit(key, as_shape(shape), target, "exponential"))))


@surface(name="gumbel")
def gumbel(key: ArrayLike, shape: ShapeLike = (), dtype: DTypeLike = float) -> Value:
    """Numbers with the Gumbel distribution."""
    u = _open_unit(key, as_shape(shape), _float_dtype(dtype, "gumbel"), "gumbel")
    return e.neg(e.log(e.neg(e.log(u))))


@surface(name="laplace")
def laplace(key: ArrayLike, shape: ShapeLike = (), dtype: DTypeLike = float) -> Value:
    """Numbers with the Laplace distribution of scale 1."""
    target = _float_dtype(dtype, "laplace")
    low = target.type(-1) + np.finfo(target).epsneg
    u = uniform_between(key, as_shape(shape), target, low, 1.0, "laplace")
    return e.mul(e.sign(u), e.log1p(e.neg(e.abs(u))))


@surface(name="logistic")
def logistic(key: ArrayLike, shape: ShapeLike = (), dtype: DTypeLike = float) -> Value:
    """Numbers with the logistic distribution."""
    u = _open_unit(key, as_shape(shape), _float_dtype(dtype, "logistic"), "logistic")
    return e.sub(e.log(u), e.log1p(e.neg(u)))


@surface(name="cauchy")
def cauchy(key: ArrayLike, shape: ShapeLike = (), dtype: DTypeLike = float) -> Value:
    """Numbers with the Cauchy distribution."""
    target = _float_dtype(dtype, "cauchy")
    u = uniform_between(key, as_shape(shape), target, np.finfo(target).eps, 1.0, "cauchy")
    return e.tan(e.mul(full_like(u, math.pi), e.sub(u, full_like(u, 0.5))))


# -- integers and choices -----------------------------------------------------------------------


@surface(name="randint")
def randint(
    key: ArrayLike,
    shape: ShapeLike,
    minval: ArrayLike,
    maxval: ArrayLike,
    dtype: DTypeLike = int,
) -> Value:
    """Integers in [minval, maxval), minval where that range is empty."""
    target = canonical_dtype(dtype, "randint")
    if target.kind not in "iu":
        raise DtypeError(f"randint: the dtype must be an integer, but is {target.name}")
    size = as_shape(shape)
    drawn = np.dtype(f"{target.kind}{max(target.itemsize, 4)}")
    bounds = (cast(as_operand(v, "randint"), target) for v in (minval, maxval))
    low, high = (stretch(cast(v, drawn), size) for v in bounds)
    word = np.dtype(f"uint{drawn.itemsize * 8}")
    upper, lower = (random_bits(k, size, word, "randint") for k in keys_of(key, 2))
    empty = e.le(high, low)
    span = p.select(empty, full_like(upper, 1), cast(e.sub(high, low), word))
    return cast(e.add(low, cast(_remainder_of_long(upper, lower, span), drawn)), target)


def _remainder_of_long(upper: Value, lower: Value, span: Value) -> Value:
    """The number with these upper and lower halves, modulo span, in words of half its width."""
    half = full_like(span, 1 << (aval_of(span).dtype.itemsize * 4))
    place = e.remainder(half, span)
    place = e.remainder(e.mul(place, place), span)
    total = e.add(e.mul(e.remainder(upper, span), place), e.remainder(lower, span))
    return e.remainder(total, span)


@surface(name="bernoulli")
def bernoulli(key: ArrayLike, p: ArrayLike = 0.5, shape: ShapeLike | None = None) -> Value:
    """True with probability p."""
    chance = as_operand(p, "bernoulli")
    dtype = aval_of(chance).dtype if is_inexact(aval_of(chance).dtype) else FLOAT
    chance = cast(chance, dtype)
    size = aval_of(chance).shape if shape is None else as_shape(shape)
    return e.lt(_unit(key, size, dtype, "bernoulli"), stretch(chance, size))


@surface(name="rademacher")
def rademacher(key: ArrayLike, shape: ShapeLike = (), dtype: DTypeLike = int) -> Value:
    """1 or -1, equally often."""
    heads = cast(bernoulli.body(key, 0.5, shape), canonical_dtype(dtype, "rademacher"))
    return e.sub(e.mul(full_like(heads, 2), heads), full_like(heads, 1))


@surface(name="permutation")
def permutation(key: ArrayLike, x: ArrayLike, axis: int = 0, independent: bool = False) -> Value:
    """The members of x along an axis in random order; an integer n stands for 0, ..., n - 1.

    With `independent`, every row along the axis has an order of its own.
    """
    if isinstance(x, (int, np.integer)):
        return _shuffled(key, arange.body(operator.index(x)), 0)
    x = array_of(x, "permutation")
    place = normal_axis(axis, aval_of(x).ndim, "permutation")
    if independent or aval_of(x).ndim == 1:
        return _shuffled(key, x, place)
    order = _shuffled(key, arange.body(aval_of(x).shape[place]), 0)
    return take.body(x, order, place)


def _shuffled(key: ArrayLike, x: Value, axis: int) -> Value:
    """x sorted by random words, as often as makes equal words unlikely to matter."""
    size = max(aval_of(x).size, 1)
    rounds = math.ceil(3 * math.log(size) / math.log((1 << 32) - 1))
    for _ in range(rounds):
        key, one = keys_of(key, 2)
        words = random_bits(one, aval_of(x).shape, np.dtype(np.uint32), "permutation")
        x = sort([words, x], axis)[1]
    return x


@surface(name="choice")
def choice(
    key: ArrayLike,
    a: ArrayLike,
    shape: ShapeLike = (),
    replace: bool = True,
    p: ArrayLike | None = None,
    axis: int = 0,
) -> Value:
    """Members of a (an integer n stands for 0, ..., n - 1), with probabilities p."""
    given = isinstance(a, (int, np.integer))
    members = None if given else array_of(a, "choice")
    place = 0 if members is None else normal_axis(axis, aval_of(members).ndim, "choice")
    n = operator.index(a) if members is None else aval_of(members).shape[place]  # type: ignore[arg-type]
    size = as_shape(shape)
    if n < 1:
        raise ShapeError("choice: a must have at least one member")
    if not replace and math.prod(size) > n:
        raise ShapeError(f"choice: {n} members are too few for {size} without replacement")
    chosen = _chosen(key, n, size, replace, p)
    return chosen if members is None else take.body(members, chosen, place)


def _chosen(key: ArrayLike, n: int, size: Shape, replace: bool, weights: Any) -> Value:
    """The positions chosen, in the shape asked for."""
    count = math.prod(size)
    if weights is None:
        if replace:
            return randint.body(key, size, 0, n)
        return p.reshape(p.slice(_shuffled(key, arange.body(n), 0), (0,), (count,)), size)
    weights = array_of(weights, "choice")
    if aval_of(weights).shape != (n,):
        raise ShapeError(f"choice: p must have one entry for each of {n} members")
    weights = weights if is_inexact(aval_of(weights).dtype) else cast(weights, FLOAT)
    dtype = aval_of(weights).dtype
    if not replace:
        noise = e.add(gumbel.body(key, (n,), dtype), e.log(weights))
        return p.reshape(top_k(noise, count)[1], size)
    return _by_cumulative(key, weights, size, dtype)


def _by_cumulative(key: ArrayLike, weights: Value, size: Shape, dtype: DType) -> Value:
    total = bind(cumsum_p, weights, axis=0, reverse=False)[0]
    n = aval_of(weights).size
    last = stretch(p.reshape(p.slice(total, (n - 1,), (n,)), ()), size)
    u = _unit(key, size, dtype, "choice")
    return searchsorted.body(total, e.mul(last, e.sub(full_like(u, 1), u)))


@surface(name="categorical")
def categorical(
    key: ArrayLike, logits: ArrayLike, axis: int = -1, shape: ShapeLike | None = None
) -> Value:
    """Positions along an axis, drawn with probabilities proportional to exp(logits)."""
    x = array_of(logits, "categorical")
    x = x if is_inexact(aval_of(x).dtype) else cast(x, FLOAT)
    place = normal_axis(axis, aval_of(x).ndim, "categorical")
    rest = p.without(aval_of(x).shape, (place,))
    size = rest if shape is None else as_shape(shape)
    if size[len(size) - len(rest) :] != rest:
        raise ShapeError(f"categorical: shape {size} must end with the batch shape {rest}")
    lead = size[: len(size) - len(rest)]
    full_shape = (*lead, *aval_of(x).shape)
    noise = gumbel.body(key, full_shape, aval_of(x).dtype)
    return reductions.argmax.body(e.add(noise, stretch(x, full_shape)), place + len(lead))
