"""Reductions and accumulations: sum, mean, max, var, argmax, cumsum, ... with NumPy's arguments."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from functrans.bind import bind
from functrans.errors import ShapeError, describe
from functrans.ir import Aval, Primitive, aval_of, is_inexact
from functrans.memo.keys import Numbers
from functrans.primitives import elementwise as e
from functrans.primitives import reduction as r
from functrans.primitives import structural as p
from functrans.primitives.derive import DType, Value, full, full_like
from functrans.surface import lexicographic
from functrans.surface.axes import normal_axes, normal_axis
from functrans.surface.declare import surface
from functrans.surface.promotion import (
    BOOL,
    FLOAT,
    INT,
    as_operand,
    canonical_dtype,
    cast,
    stretch,
)
from functrans.surface.shaping import array_of, insert_axes
from functrans.typing import ArrayLike, Axes, DTypeLike

HALF = np.dtype(np.float16)


class _NotGiven:
    def __repr__(self) -> str:
        return "<not given>"


NOT_GIVEN = _NotGiven()
"""Stands for an option that was left out, where None means something. NumPy's own is accepted."""


def is_given(value: Any) -> bool:
    """Was the option given at all?"""
    return value is not NOT_GIVEN and value is not np._NoValue


# -- helpers ----------------------------------------------------------------------------------


def accumulation_dtype(dtype: DType) -> DType:
    """The dtype that NumPy sums and multiplies in: bools and small integers widen to 64 bits."""
    if dtype.kind == "u":
        return np.result_type(dtype, np.uint64)
    return INT if dtype.kind in "bi" else dtype


def keep_axes(x: Value, axes: tuple[int, ...], keepdims: bool) -> Value:
    """A reduced value, with its lost axes at length 1 when they are to be kept."""
    return insert_axes(x, axes) if keepdims and axes else x


def mask_out(name: str, x: Value, keep: ArrayLike, replacement: Value) -> Value:
    """x where `keep` holds, the replacement elsewhere."""
    shape = aval_of(x).shape
    keep = cast(as_operand(keep, name), BOOL)
    if np.broadcast_shapes(aval_of(keep).shape, shape) != shape:
        raise ShapeError(f"{name}: where= of shape {aval_of(keep).shape} does not fit {shape}")
    return p.select(stretch(keep, shape), x, stretch(replacement, shape))


def count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    return math.prod(shape[i] for i in axes)


# -- sums and products --------------------------------------------------------------------------


def _folded(
    name: str,
    fold: Callable[[Value, tuple[int, ...]], Value],
    combine: Primitive,
    unit: int,
    a: ArrayLike,
    axis: Axes,
    dtype: DTypeLike,
    keepdims: Any,
    initial: Any,
    where: Any,
) -> Value:
    """Shared by sum and prod: dtype, mask, fold, initial value."""
    a = array_of(a, name)
    target = accumulation_dtype(aval_of(a).dtype) if dtype is None else canonical_dtype(dtype, name)
    a = cast(a, target)
    if where is not True and is_given(where):
        a = mask_out(name, a, where, target.type(unit))
    axes = normal_axes(axis, aval_of(a).ndim, name)
    result = fold(a, axes)
    if is_given(initial) and initial is not None:
        start = cast(as_operand(initial, name), target)
        result = bind(combine, result, stretch(start, aval_of(result).shape))[0]
    return keep_axes(result, axes, bool(is_given(keepdims) and keepdims))


@surface(np.sum, numbers=Numbers.ARRAYS)
def sum(  # NumPy's name
    a: ArrayLike,
    axis: Axes = None,
    dtype: DTypeLike = None,
    *,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike = True,
) -> Value:
    """The sum over `axis` (all axes by default). Bools and small integers sum in 64 bits."""
    return _folded("sum", p.reduce_sum, e.add_p, 0, a, axis, dtype, keepdims, initial, where)


def _reduce_prod(x: Value, axes: tuple[int, ...]) -> Value:
    return bind(r.reduce_prod_p, x, axes=axes)[0] if axes else x


@surface(np.prod, numbers=Numbers.ARRAYS)
def prod(
    a: ArrayLike,
    axis: Axes = None,
    dtype: DTypeLike = None,
    *,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike = True,
) -> Value:
    """The product over `axis` (all axes by default)."""
    return _folded("prod", _reduce_prod, e.mul_p, 1, a, axis, dtype, keepdims, initial, where)


@surface(np.mean, numbers=Numbers.ARRAYS)
def mean(
    a: ArrayLike,
    axis: Axes = None,
    dtype: DTypeLike = None,
    *,
    keepdims: bool = False,
    where: ArrayLike = True,
) -> Value:
    """The mean over `axis`; integers give float64, float16 is summed in float32."""
    a = array_of(a, "mean")
    given = aval_of(a).dtype
    result = _float_dtype(given) if dtype is None else canonical_dtype(dtype, "mean")
    working = np.dtype(np.float32) if dtype is None and given == HALF else result
    a = cast(a, working)
    axes = normal_axes(axis, aval_of(a).ndim, "mean")
    number: Any = count(aval_of(a).shape, axes)
    if where is not True and is_given(where):
        number = _counted(aval_of(a), where, axes)
        a = mask_out("mean", a, where, working.type(0))
    total = p.reduce_sum(a, axes)
    return cast(keep_axes(divided(total, number), axes, bool(keepdims)), result)


def _float_dtype(dtype: DType) -> DType:
    return dtype if is_inexact(dtype) else FLOAT


def _counted(aval: Aval, keep: ArrayLike, axes: tuple[int, ...]) -> Value:
    """How many elements a mask keeps, over `axes`."""
    ones = full(1, aval.with_dtype(INT))
    return p.reduce_sum(mask_out("where", ones, keep, np.int64(0)), axes)


def divided(x: Value, number: Any) -> Value:
    """x divided by a count, given as an int or as integers of x's shape."""
    aval = aval_of(x)
    divisor = full_like(x, number) if isinstance(number, (int, float)) else cast(number, aval.dtype)
    return bind(e.div_p, x, stretch(divisor, aval.shape))[0]


@surface(np.var, numbers=Numbers.ARRAYS)
def var(
    a: ArrayLike,
    axis: Axes = None,
    dtype: DTypeLike = None,
    *,
    ddof: float = 0,
    keepdims: bool = False,
    where: ArrayLike = True,
    mean: ArrayLike = NOT_GIVEN,  # type: ignore[assignment]
    correction: float = NOT_GIVEN,  # type: ignore[assignment]
) -> Value:
    """The mean squared distance from the mean; `ddof` is taken off the count."""
    a = array_of(a, "var")
    given = aval_of(a).dtype
    working = _float_dtype(given) if dtype is None else canonical_dtype(dtype, "var")
    if dtype is None and given == HALF:
        working = np.dtype(np.float32)
    result = _real_dtype(_float_dtype(given) if dtype is None else working)
    a = cast(a, working)
    axes = normal_axes(axis, aval_of(a).ndim, "var")
    ddof = correction if is_given(correction) else ddof
    centre = _mean_or_given(a, mean, axes, where)
    deviation = bind(e.sub_p, a, stretch(centre, aval_of(a).shape))[0]
    squared = square_length(deviation)
    if where is not True and is_given(where):
        number = _counted(aval_of(a), where, axes)
        squared = mask_out("var", squared, where, aval_of(squared).dtype.type(0))
        number = _at_least_zero(cast(number, FLOAT), ddof)
    else:
        number = builtins.max(count(aval_of(a).shape, axes) - ddof, 0)
    total = p.reduce_sum(squared, axes)
    return cast(keep_axes(divided(total, number), axes, bool(keepdims)), result)


def _at_least_zero(number: Value, ddof: float) -> Value:
    left = bind(e.sub_p, number, full_like(number, ddof))[0]
    return bind(e.max_p, left, full_like(left, 0))[0]


def _real_dtype(dtype: DType) -> DType:
    return p.real_dtype(dtype)


def _mean_or_given(a: Value, given: Any, axes: tuple[int, ...], where: Any) -> Value:
    if is_given(given):
        return cast(as_operand(given, "var"), aval_of(a).dtype)
    number: Any = count(aval_of(a).shape, axes)
    kept = a
    if where is not True and is_given(where):
        number = _counted(aval_of(a), where, axes)
        kept = mask_out("var", a, where, aval_of(a).dtype.type(0))
    return insert_axes(divided(p.reduce_sum(kept, axes), number), axes)


def square_length(x: Value) -> Value:
    """|x| squared, real: the square, or the sum of the squares of both parts."""
    if aval_of(x).dtype.kind != "c":
        return bind(e.square_p, x)[0]
    parts = (p.real(x), p.imag(x))
    return bind(e.add_p, *(bind(e.square_p, part)[0] for part in parts))[0]


@surface(np.std, numbers=Numbers.ARRAYS)
def std(
    a: ArrayLike,
    axis: Axes = None,
    dtype: DTypeLike = None,
    *,
    ddof: float = 0,
    keepdims: bool = False,
    where: ArrayLike = True,
    mean: ArrayLike = NOT_GIVEN,  # type: ignore[assignment]
    correction: float = NOT_GIVEN,  # type: ignore[assignment]
) -> Value:
    """The square root of the variance. Of constant values its derivative is 0."""
    given = aval_of(as_operand(a, "std")).dtype
    options = {"where": where, "mean": mean, "correction": correction}
    working = np.float32 if dtype is None and given == HALF else dtype
    root = root_or_zero(var.body(a, axis, working, ddof=ddof, keepdims=keepdims, **options))
    return cast(root, HALF) if dtype is None and given == HALF else root


def root_or_zero(x: Value) -> Value:
    """sqrt of a sum of squares; at 0 it counts as constant, so that every derivative is 0."""
    zero = bind(e.eq_p, x, full_like(x, 0))[0]
    safe = p.select(zero, full_like(x, 1), x)
    return p.select(zero, full_like(x, 0), bind(e.sqrt_p, safe)[0])


# -- extremes and questions ---------------------------------------------------------------------


class Extreme(NamedTuple):
    """What max and min are made of."""

    name: str
    reduce: Primitive
    reduce_bools: Primitive
    combine: Primitive
    combine_bools: Primitive
    neutral: Callable[[DType], Any]

    def over(self, x: Value, axes: tuple[int, ...]) -> Value:
        """The extreme value of x over axes, which disappear."""
        if aval_of(x).dtype.kind == "c":
            return lexicographic.extreme(x, axes, self.name == "max") if axes else x
        primitive = self.reduce_bools if aval_of(x).dtype == BOOL else self.reduce
        return bind(primitive, x, axes=axes)[0] if axes else x

    def of(self, x: Value, y: Value) -> Value:
        """The more extreme of two values."""
        if aval_of(x).dtype.kind == "c":
            pair = p.concatenate([insert_axes(x, (0,)), insert_axes(y, (0,))], 0)
            return lexicographic.extreme(pair, (0,), self.name == "max")
        primitive = self.combine_bools if aval_of(x).dtype == BOOL else self.combine
        return bind(primitive, x, y)[0]


def _extreme(
    how: Extreme, a: ArrayLike, axis: Axes, keepdims: Any, initial: Any, where: Any
) -> Value:
    """Shared by max and min; an empty range needs an initial value."""
    a = array_of(a, how.name)
    aval = aval_of(a)
    axes = normal_axes(axis, aval.ndim, how.name)
    keep = bool(is_given(keepdims) and keepdims)
    empty = count(aval.shape, axes) == 0
    if not is_given(initial) or initial is None:
        _require_values(how.name, aval, empty, where)
        return keep_axes(how.over(a, axes), axes, keep)
    start = cast(as_operand(initial, how.name), aval.dtype)
    start = stretch(start, p.without(aval.shape, axes))
    if where is not True and is_given(where):
        a = mask_out(how.name, a, where, how.neutral(aval.dtype))
    result = start if empty else how.of(how.over(a, axes), start)
    return keep_axes(result, axes, keep)


def _require_values(name: str, aval: Aval, empty: bool, where: Any) -> None:
    """Without an initial value there must be something to choose from."""
    if empty:
        raise ShapeError(
            f"zero-size array to reduction operation {name} which has no identity: it was given "
            f"{describe(aval)}. Give initial=, or test x.size first."
        )
    if where is not True and is_given(where):
        raise ValueError(f"{name}: where= needs an initial value, as the range may be empty")


def lowest(dtype: DType) -> Any:
    """The value that max leaves out: minus infinity, or the least integer."""
    if dtype == BOOL:
        return np.False_
    return dtype.type(-np.inf) if is_inexact(dtype) else np.iinfo(dtype).min


def highest(dtype: DType) -> Any:
    """The value that min leaves out: infinity, or the greatest integer."""
    if dtype == BOOL:
        return np.True_
    return dtype.type(np.inf) if is_inexact(dtype) else dtype.type(np.iinfo(dtype).max)


_MAX = Extreme("max", r.reduce_max_p, r.reduce_or_p, e.max_p, e.or_p, lowest)
_MIN = Extreme("min", r.reduce_min_p, r.reduce_and_p, e.min_p, e.and_p, highest)


@surface(np.max, aliases=(np.amax,), numbers=Numbers.ARRAYS)
def max(  # NumPy's name
    a: ArrayLike,
    axis: Axes = None,
    *,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike = True,
) -> Value:
    """The greatest value over `axis`; NaN wins. Ties share the derivative equally.

    Complex values are ordered by real part, then by imaginary part, and the first extreme one
    has all of the derivative.
    """
    return _extreme(_MAX, a, axis, keepdims, initial, where)


@surface(np.min, aliases=(np.amin,), numbers=Numbers.ARRAYS)
def min(  # NumPy's name
    a: ArrayLike,
    axis: Axes = None,
    *,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike = True,
) -> Value:
    """The least value over `axis`; NaN wins. Ties share the derivative equally.

    Complex values are ordered by real part, then by imaginary part, and the first extreme one
    has all of the derivative.
    """
    return _extreme(_MIN, a, axis, keepdims, initial, where)


@surface(np.ptp)
def ptp(a: ArrayLike, axis: Axes = None, *, keepdims: bool = False) -> Value:
    """The greatest value less the least."""
    high, low = max.body(a, axis, keepdims=keepdims), min.body(a, axis, keepdims=keepdims)
    return bind(e.sub_p, high, low)[0]


def _question(
    name: str, primitive: Primitive, unit: bool, a: ArrayLike, axis: Axes, keepdims: Any, where: Any
) -> Value:
    a = cast(array_of(a, name), BOOL)
    if where is not True and is_given(where):
        a = mask_out(name, a, where, np.bool_(unit))
    axes = normal_axes(axis, aval_of(a).ndim, name)
    result = bind(primitive, a, axes=axes)[0] if axes else a
    return keep_axes(result, axes, bool(is_given(keepdims) and keepdims))


@surface(np.any)
def any(  # NumPy's name
    a: ArrayLike, axis: Axes = None, *, keepdims: bool = False, where: ArrayLike = True
) -> Value:
    """Is any value true over `axis`?"""
    return _question("any", r.reduce_or_p, False, a, axis, keepdims, where)


@surface(np.all)
def all(  # NumPy's name
    a: ArrayLike, axis: Axes = None, *, keepdims: bool = False, where: ArrayLike = True
) -> Value:
    """Are all values true over `axis`?"""
    return _question("all", r.reduce_and_p, True, a, axis, keepdims, where)


@surface(np.count_nonzero)
def count_nonzero(a: ArrayLike, axis: Axes = None, *, keepdims: bool = False) -> Value:
    """How many values are not zero, over `axis`."""
    return sum.body(cast(array_of(a, "count_nonzero"), BOOL), axis, keepdims=keepdims)


# -- positions --------------------------------------------------------------------------------


def _position(
    name: str, primitive: Primitive, a: ArrayLike, axis: int | None, keepdims: bool
) -> Value:
    a = array_of(a, name)
    ndim = aval_of(a).ndim
    if aval_of(a).size == 0 and axis is None:
        raise ShapeError(f"attempt to get {name} of an empty sequence")
    place = 0 if axis is None else normal_axis(axis, ndim, name)
    flat = a if axis is not None else p.reshape(a, (aval_of(a).size,))
    if aval_of(flat).shape[place] == 0:
        raise ShapeError(f"attempt to get {name} of an empty sequence")
    flat = cast(flat, np.dtype(np.uint8)) if aval_of(flat).dtype == BOOL else flat
    if aval_of(flat).dtype.kind == "c":
        result = lexicographic.first_extreme(flat, place, name == "argmax")
    else:
        result = bind(primitive, flat, axis=place)[0]
    if not is_given(keepdims) or not keepdims:
        return result
    return insert_axes(result, tuple(range(ndim)) if axis is None else (place,))


@surface(np.argmax)
def argmax(a: ArrayLike, axis: int | None = None, *, keepdims: bool = False) -> Value:
    """Where the greatest value stands first along `axis` (in the flattened array by default)."""
    return _position("argmax", r.argmax_p, a, axis, keepdims)


@surface(np.argmin)
def argmin(a: ArrayLike, axis: int | None = None, *, keepdims: bool = False) -> Value:
    """Where the least value stands first along `axis` (in the flattened array by default)."""
    return _position("argmin", r.argmin_p, a, axis, keepdims)
