"""Reductions that skip NaN: nansum, nanmean, nanmax and their relatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from functrans.ir import aval_of, is_inexact
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full_like
from functrans.surface import accumulations, reductions
from functrans.surface.declare import surface
from functrans.surface.reductions import NOT_GIVEN, highest, is_given, lowest
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike, Axes, DTypeLike


def _without_nan(a: ArrayLike, name: str, replacement: Any) -> tuple[Value, Value | None]:
    """(a with NaN replaced, where it is a number), the second None when it always is."""
    a = array_of(a, name)
    dtype = aval_of(a).dtype
    if not is_inexact(dtype):
        return a, None
    missing = e.is_nan(a)
    fill: Any = replacement(dtype) if callable(replacement) else replacement
    return p.select(missing, full_like(a, fill), a), e.not_(missing)


@surface(np.nansum)
def nansum(
    a: ArrayLike,
    axis: Axes = None,
    dtype: DTypeLike = None,
    *,
    keepdims: bool = False,
    initial: ArrayLike | None = NOT_GIVEN,  # type: ignore[assignment]
    where: ArrayLike = True,
) -> Value:
    """The sum with NaN counted as 0."""
    options: dict[str, Any] = {"keepdims": keepdims, "initial": initial, "where": where}
    return reductions.sum.body(_without_nan(a, "nansum", 0)[0], axis, dtype, **options)


@surface(np.nanprod)
def nanprod(
    a: ArrayLike,
    axis: Axes = None,
    dtype: DTypeLike = None,
    *,
    keepdims: bool = False,
    initial: ArrayLike | None = NOT_GIVEN,  # type: ignore[assignment]
    where: ArrayLike = True,
) -> Value:
    """The product with NaN counted as 1."""
    options: dict[str, Any] = {"keepdims": keepdims, "initial": initial, "where": where}
    return reductions.prod.body(_without_nan(a, "nanprod", 1)[0], axis, dtype, **options)


@surface(np.nancumsum)
def nancumsum(a: ArrayLike, axis: int | None = None, dtype: DTypeLike = None) -> Value:
    """The running sum with NaN counted as 0."""
    return accumulations.cumsum.body(_without_nan(a, "nancumsum", 0)[0], axis, dtype)


@surface(np.nancumprod)
def nancumprod(a: ArrayLike, axis: int | None = None, dtype: DTypeLike = None) -> Value:
    """The running product with NaN counted as 1."""
    return accumulations.cumprod.body(_without_nan(a, "nancumprod", 1)[0], axis, dtype)


def _mask(valid: Value | None) -> Any:
    return True if valid is None else valid


@surface(np.nanmean)
def nanmean(
    a: ArrayLike, axis: Axes = None, dtype: DTypeLike = None, *, keepdims: bool = False
) -> Value:
    """The mean of what is not NaN."""
    a, valid = _without_nan(a, "nanmean", 0)
    return reductions.mean.body(a, axis, dtype, keepdims=keepdims, where=_mask(valid))


@surface(np.nanvar)
def nanvar(
    a: ArrayLike,
    axis: Axes = None,
    dtype: DTypeLike = None,
    *,
    ddof: float = 0,
    keepdims: bool = False,
) -> Value:
    """The variance of what is not NaN."""
    a, valid = _without_nan(a, "nanvar", 0)
    return reductions.var.body(a, axis, dtype, ddof=ddof, keepdims=keepdims, where=_mask(valid))


@surface(np.nanstd)
def nanstd(
    a: ArrayLike,
    axis: Axes = None,
    dtype: DTypeLike = None,
    *,
    ddof: float = 0,
    keepdims: bool = False,
) -> Value:
    """The standard deviation of what is not NaN."""
    a, valid = _without_nan(a, "nanstd", 0)
    return reductions.std.body(a, axis, dtype, ddof=ddof, keepdims=keepdims, where=_mask(valid))


def _nan_where_empty(result: Value, valid: Value | None, axis: Axes, keepdims: bool) -> Value:
    if valid is None:
        return result
    some = reductions.any.body(valid, axis, keepdims=keepdims)
    return p.select(some, result, full_like(result, math.nan))


@surface(np.nanmax)
def nanmax(
    a: ArrayLike,
    axis: Axes = None,
    *,
    keepdims: bool = False,
    initial: ArrayLike | None = NOT_GIVEN,  # type: ignore[assignment]
) -> Value:
    """The greatest of what is not NaN; NaN where nothing is."""
    a, valid = _without_nan(a, "nanmax", lowest)
    options = {"initial": initial} if is_given(initial) else {}
    result = reductions.max.body(a, axis, keepdims=keepdims, **options)
    return result if options else _nan_where_empty(result, valid, axis, keepdims)


@surface(np.nanmin)
def nanmin(
    a: ArrayLike,
    axis: Axes = None,
    *,
    keepdims: bool = False,
    initial: ArrayLike | None = NOT_GIVEN,  # type: ignore[assignment]
) -> Value:
    """The least of what is not NaN; NaN where nothing is."""
    a, valid = _without_nan(a, "nanmin", highest)
    options = {"initial": initial} if is_given(initial) else {}
    result = reductions.min.body(a, axis, keepdims=keepdims, **options)
    return result if options else _nan_where_empty(result, valid, axis, keepdims)


@surface(np.nanargmax)
def nanargmax(a: ArrayLike, axis: int | None = None, *, keepdims: bool = False) -> Value:
    """Where the greatest of what is not NaN stands first."""
    return reductions.argmax.body(_without_nan(a, "nanargmax", lowest)[0], axis, keepdims=keepdims)


@surface(np.nanargmin)
def nanargmin(a: ArrayLike, axis: int | None = None, *, keepdims: bool = False) -> Value:
    """Where the least of what is not NaN stands first."""
    return reductions.argmin.body(_without_nan(a, "nanargmin", highest)[0], axis, keepdims=keepdims)
