"""Sliding windows: how they are padded, and reductions over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from functrans.errors import OptionError
from functrans.ir import aval_of
from functrans.primitives import reduction
from functrans.primitives import structural as p
from functrans.primitives.derive import Value
from functrans.primitives.windows import window_places, windows

Monoid: TypeAlias = Literal["max", "min", "add", "mul"]
Pads: TypeAlias = Sequence[tuple[int, int]]

_REDUCTIONS: dict[Monoid, Callable[[Value, tuple[int, ...]], Value]] = {
    "max": reduction.reduce_max,
    "min": reduction.reduce_min,
    "add": p.reduce_sum,
    "mul": reduction.reduce_prod,
}


def neutral(monoid: Monoid, dtype: np.dtype[Any]) -> Any:
    """What changes nothing when it is combined with elements of the dtype."""
    if monoid in ("add", "mul"):
        return dtype.type(monoid == "mul")
    if dtype.kind == "b":
        return np.bool_(monoid == "min")
    sign = 1 if monoid == "min" else -1
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return dtype.type(limits.max if monoid == "min" else limits.min)
    return dtype.type(sign * math.inf)


def reduce_windows(
    x: Value,
    monoid: Monoid,
    window: tuple[int, ...],
    strides: tuple[int, ...],
    padding: Pads,
    base_dilation: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Value:
    """The windows of x, padded with what is neutral, each reduced; one entry for every axis."""
    low, high = zip(*padding, strict=True) if padding else ((), ())
    gaps = tuple(d - 1 for d in base_dilation)
    x = p.pad(x, neutral(monoid, aval_of(x).dtype), low, high, gaps)
    places = window_places(aval_of(x).shape, window, strides, dilation)
    ndim = len(window)
    sizes = zip(window, strides, dilation, strict=True)
    if all((k == s and d == 1) or k == 1 for k, s, d in sizes):
        return _REDUCTIONS[monoid](*_tiled(x, window, strides, places))
    found = windows(x, window, strides, dilation)
    kept = tuple(a for a in range(ndim) if window[a] > 1)
    found = p.reshape(found, (*places, *(window[a] for a in kept)))
    return _REDUCTIONS[monoid](found, tuple(range(ndim, ndim + len(kept))))


def _tiled(
    x: Value, window: tuple[int, ...], strides: tuple[int, ...], places: tuple[int, ...]
) -> tuple[Value, tuple[int, ...]]:
    """Windows that lie side by side, as axes of their own beside those of the places."""
    limit = tuple(
        n * k if k > 1 else (n - 1) * s + 1 if n else 0
        for n, k, s in zip(places, window, strides, strict=True)
    )
    steps = tuple(1 if k > 1 else s for k, s in zip(window, strides, strict=True))
    if limit != aval_of(x).shape or max(steps, default=1) > 1:
        x = p.slice(x, (0,) * len(limit), limit, steps)
    shape: list[int] = []
    axes: list[int] = []
    for n, k in zip(places, window, strict=True):
        shape.append(n)
        if k > 1:
            axes.append(len(shape))
            shape.append(k)
    return p.reshape(x, tuple(shape)), tuple(axes)


def dilated_sizes(shape: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """The lengths of axes whose elements are moved apart."""
    return tuple((n - 1) * d + 1 if n else 0 for n, d in zip(shape, dilation, strict=True))


def same_or_given(
    padding: Any, sizes: Sequence[int], windows: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """(low, high) padding per axis, from "SAME", "SAME_LOWER", "VALID" or the pairs themselves."""
    if not isinstance(padding, str):
        return [(int(low), int(high)) for low, high in padding]
    kind = padding.upper()
    if kind == "VALID":
        return [(0, 0)] * len(sizes)
    if kind not in ("SAME", "SAME_LOWER"):
        raise OptionError(
            f"padding must be 'SAME', 'SAME_LOWER', 'VALID' or pairs, not {padding!r}."
        )
    totals = [
        max((math.ceil(n / s) - 1) * s + k - n, 0)
        for n, k, s in zip(sizes, windows, strides, strict=True)
    ]
    halves = [(t // 2, t - t // 2) for t in totals]
    return halves if kind == "SAME" else [(high, low) for low, high in halves]
