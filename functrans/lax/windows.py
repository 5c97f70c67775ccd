"""Sliding windows: how they are padded, and reductions over them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from functrans.errors import OptionError
from functrans.ir import aval_of
from functrans.primitives import structural as p
from functrans.primitives.derive import Value
from functrans.surface.axes import as_shape
from functrans.surface.declare import surface
from functrans.surface.promotion import as_operand, cast, stretch
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike


@surface(name="lax.reduce_window")
def reduce_window(
    operand: ArrayLike,
    init_value: ArrayLike,
    computation: Callable[[Any, Any], Any],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int] | None = None,
    padding: Any = "VALID",
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Value:
    """`computation` folded over windows that slide over the operand, padded with `init_value`.

    The windows are unrolled: one application of `computation` for each of their elements.
    """
    x = array_of(operand, "reduce_window")
    ndim = aval_of(x).ndim
    window = as_shape(tuple(window_dimensions))
    ones = (1,) * ndim
    strides, base, spread = (
        ones if v is None else as_shape(tuple(v))
        for v in (window_strides, base_dilation, window_dilation)
    )
    start = cast(as_operand(init_value, "reduce_window"), aval_of(x).dtype)
    reach = dilated_sizes(window, spread)
    dilated = dilated_sizes(aval_of(x).shape, base)
    low, high = zip(*same_or_given(padding, dilated, reach, strides), strict=True)
    x = p.pad(x, start, low, high, tuple(d - 1 for d in base))
    counts = tuple(
        max((n - k) // s + 1, 0) for n, k, s in zip(aval_of(x).shape, reach, strides, strict=True)
    )
    places = itertools.product(*_offsets(window, spread))
    parts = (_window_part(x, at, counts, strides) for at in places)
    return functools.reduce(computation, parts, stretch(start, counts))


def _offsets(window: Sequence[int], dilation: Sequence[int]) -> list[range]:
    return [range(0, k * d, d) for k, d in zip(window, dilation, strict=True)]


def _window_part(
    x: Value, at: Sequence[int], counts: Sequence[int], strides: Sequence[int]
) -> Value:
    """The element at one offset of every window."""
    lengths = dilated_sizes(counts, strides)
    ends = tuple(o + n for o, n in zip(at, lengths, strict=True))
    return p.slice(x, tuple(at), ends, tuple(strides))


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
