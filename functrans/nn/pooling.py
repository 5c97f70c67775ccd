"""Pooling: reductions over windows that slide along the last axes of images."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from functrans.errors import ShapeError
from functrans.ir import aval_of
from functrans.nn.activations import floating
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full_like
from functrans.surface.axes import as_shape
from functrans.surface.declare import surface
from functrans.surface.shaping import array_of
from functrans.surface.windows import Monoid, dilated_sizes, reduce_windows, same_or_given
from functrans.typing import ArrayLike

Padding = str | Sequence[tuple[int, int]]


def _pool(
    name: str,
    monoid: Monoid,
    x: Value,
    window_shape: int | Sequence[int],
    strides: int | Sequence[int] | None,
    padding: Padding,
    dilation: int | Sequence[int] | None,
) -> Value:
    """The windows reduced; the first axes, those that no window covers, stay."""
    window = as_shape(window_shape)
    lead = aval_of(x).ndim - len(window)
    if lead < 0:
        raise ShapeError(f"{name}: a window of shape {window} has more axes than {aval_of(x)}")
    steps = window if strides is None else _each(name, "strides", strides, len(window))
    spread = _each(name, "window_dilation", 1 if dilation is None else dilation, len(window))
    reach = dilated_sizes(window, spread)
    pads = same_or_given(padding, aval_of(x).shape[lead:], reach, steps)
    if len(pads) != len(window):
        raise ShapeError(f"{name}: {len(pads)} pairs of padding do not fit the window {window}")
    ones = (1,) * lead
    return reduce_windows(
        x,
        monoid,
        ones + window,
        ones + steps,
        [(0, 0)] * lead + pads,
        (1,) * aval_of(x).ndim,
        ones + spread,
    )


def _each(name: str, what: str, given: int | Sequence[int], n: int) -> tuple[int, ...]:
    """One number for every axis of the window."""
    found = as_shape(given)
    if isinstance(given, int):
        return found * n
    if len(found) != n:
        raise ShapeError(f"{name}: {what}={found} must have {n} entries, one for each window axis")
    return found


@surface(name="max_pool")
def max_pool(
    x: ArrayLike,
    window_shape: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    window_dilation: int | Sequence[int] | None = None,
) -> Value:
    """The greatest element of each window over the last axes of x, as in (N, C, height, width).

    `window_shape` says how many of the last axes there are; `strides` are the window's own unless
    given; `padding` is "VALID", "SAME", "SAME_LOWER" or (low, high) for each of these axes. Ties
    share the derivative.
    """
    value = array_of(x, "max_pool")
    return _pool("max_pool", "max", value, window_shape, strides, padding, window_dilation)


@surface(name="min_pool")
def min_pool(
    x: ArrayLike,
    window_shape: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    window_dilation: int | Sequence[int] | None = None,
) -> Value:
    """The least element of each window over the last axes of x; see max_pool."""
    value = array_of(x, "min_pool")
    return _pool("min_pool", "min", value, window_shape, strides, padding, window_dilation)


@surface(name="avg_pool")
def avg_pool(
    x: ArrayLike,
    window_shape: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> Value:
    """The mean of each window over the last axes of x; see max_pool.

    Padding counts as zeros; with `count_include_pad=False` it does not count.
    """
    value = floating(x, "avg_pool")
    dtype = aval_of(value).dtype
    total = _pool("avg_pool", "add", value, window_shape, strides, padding, None)
    window = as_shape(window_shape)
    if count_include_pad or (isinstance(padding, str) and padding.upper() == "VALID"):
        return e.div(total, full_like(total, prod(window)))
    steps = window if strides is None else _each("avg_pool", "strides", strides, len(window))
    lead = aval_of(total).ndim - len(window)
    sizes, shape = aval_of(value).shape[lead:], aval_of(total).shape
    pads = same_or_given(padding, sizes, window, steps)
    counts = np.ones((), dtype)
    for n, places, k, s, (low, _) in zip(sizes, shape[lead:], window, steps, pads, strict=True):
        met = np.arange(places)[:, None] * s + np.arange(k) - low
        counts = np.multiply.outer(counts, ((met >= 0) & (met < n)).sum(1).astype(dtype))
    return e.div(total, p.broadcast(counts, shape, tuple(range(lead))))


__all__ = ["avg_pool", "max_pool", "min_pool"]
