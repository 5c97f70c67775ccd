"""Accumulations: cumsum, cumprod and their relatives, the running forms of reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from functrans.ir import aval_of
from functrans.primitives import reduction as r
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full
from functrans.surface.axes import normal_axis
from functrans.surface.declare import surface
from functrans.surface.promotion import canonical_dtype, cast
from functrans.surface.reductions import accumulation_dtype
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike, DTypeLike


def accumulate(
    name: str,
    running: Callable[[Value, int], Value],
    a: ArrayLike,
    axis: int | None,
    dtype: DTypeLike,
    widen: bool = True,
) -> Value:
    """A running reduction along one axis, or along the flattened array."""
    a = array_of(a, name)
    given = aval_of(a).dtype
    target = accumulation_dtype(given) if widen else given
    a = cast(a, target if dtype is None else canonical_dtype(dtype, name))
    if axis is None:
        a, axis = p.reshape(a, (aval_of(a).size,)), 0
    place = normal_axis(axis, aval_of(a).ndim, name)
    return running(a, place)


@surface(np.cumsum)
def cumsum(a: ArrayLike, axis: int | None = None, dtype: DTypeLike = None) -> Value:
    """The running sum along `axis`."""
    return accumulate("cumsum", r.cumsum, a, axis, dtype)


@surface(np.cumprod)
def cumprod(a: ArrayLike, axis: int | None = None, dtype: DTypeLike = None) -> Value:
    """The running product along `axis`."""
    return accumulate("cumprod", r.cumprod, a, axis, dtype)


def _cumulative(function: Any, x: ArrayLike, axis: int | None, dtype: Any, initial: bool) -> Value:
    x = array_of(x, "cumulative_sum")
    if axis is None and aval_of(x).ndim != 1:
        raise ValueError("cumulative_sum and cumulative_prod need axis= beyond one dimension")
    place = 0 if axis is None else normal_axis(axis, aval_of(x).ndim, "cumulative_sum")
    result = function(x, place, dtype)
    if not initial:
        return result
    aval = aval_of(result)
    first = tuple(1 if i == place else n for i, n in enumerate(aval.shape))
    unit = 0 if function is cumsum.body else 1
    return p.concatenate([full(unit, aval.with_shape(first)), result], place)


@surface(getattr(np, "cumulative_sum", None))
def cumulative_sum(
    x: ArrayLike,
    /,
    *,
    axis: int | None = None,
    dtype: DTypeLike = None,
    include_initial: bool = False,
) -> Value:
    """The running sum along `axis`, with the empty sum in front on request."""
    return _cumulative(cumsum.body, x, axis, dtype, include_initial)


@surface(getattr(np, "cumulative_prod", None))
def cumulative_prod(
    x: ArrayLike,
    /,
    *,
    axis: int | None = None,
    dtype: DTypeLike = None,
    include_initial: bool = False,
) -> Value:
    """The running product along `axis`, with the empty product in front on request."""
    return _cumulative(cumprod.body, x, axis, dtype, include_initial)
