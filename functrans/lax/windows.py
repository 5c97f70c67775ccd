"""Sliding windows: folds of any function over them."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from functrans.errors import ShapeError
from functrans.ir import Aval, aval_of
from functrans.ir.aval import Shape
from functrans.lax import elementwise
from functrans.primitives import structural as p
from functrans.primitives.derive import Value
from functrans.surface import elementwise as surface_functions
from functrans.surface.axes import as_shape
from functrans.surface.declare import surface
from functrans.surface.promotion import as_operand, cast, stretch
from functrans.surface.shaping import array_of
from functrans.surface.windows import (
    Monoid,
    dilated_sizes,
    neutral,
    reduce_windows,
    same_or_given,
)
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

    Maxima, minima, sums and products (`lax.max`, `lax.min`, `lax.add`, `lax.mul` from the value
    that changes nothing) are reductions of the windows. Of any other computation the windows are
    unrolled: it is applied once for each of their elements.
    """
    x = array_of(operand, "reduce_window")
    window = _for_each_axis("window_dimensions", window_dimensions, aval_of(x))
    strides = _for_each_axis("window_strides", window_strides, aval_of(x))
    base = _for_each_axis("base_dilation", base_dilation, aval_of(x))
    spread = _for_each_axis("window_dilation", window_dilation, aval_of(x))
    reach = dilated_sizes(window, spread)
    dilated = dilated_sizes(aval_of(x).shape, base)
    pads = same_or_given(padding, dilated, reach, strides)
    monoid = known_monoid(computation, init_value, aval_of(x).dtype)
    if monoid is not None:
        return reduce_windows(x, monoid, window, strides, pads, base, spread)
    start = cast(as_operand(init_value, "reduce_window"), aval_of(x).dtype)
    low, high = zip(*pads, strict=True)
    x = p.pad(x, start, low, high, tuple(d - 1 for d in base))
    counts = tuple(
        max((n - k) // s + 1, 0) for n, k, s in zip(aval_of(x).shape, reach, strides, strict=True)
    )
    places = itertools.product(*_offsets(window, spread))
    parts = (_window_part(x, at, counts, strides) for at in places)
    return functools.reduce(computation, parts, stretch(start, counts))


def _for_each_axis(name: str, given: Sequence[int] | None, x: Aval) -> Shape:
    """An option with a number for each axis of x, which are ones where it is not given."""
    sizes = (1,) * x.ndim if given is None else as_shape(tuple(given))
    if len(sizes) != x.ndim:
        raise ShapeError(f"reduce_window: {name}={sizes} must have one number for each axis of {x}")
    return sizes


MONOIDS: dict[Callable[..., Any], Monoid] = {
    **dict.fromkeys((elementwise.max, surface_functions.maximum, np.maximum), "max"),
    **dict.fromkeys((elementwise.min, surface_functions.minimum, np.minimum), "min"),
    **dict.fromkeys((elementwise.add, surface_functions.add, np.add, operator.add), "add"),
    **dict.fromkeys((elementwise.mul, surface_functions.multiply, np.multiply), "mul"),
}


def known_monoid(
    computation: Callable[[Any, Any], Any], start: ArrayLike, dtype: np.dtype[Any]
) -> Monoid | None:
    """The monoid that a computation from a start is, where that is plain to see."""
    try:
        monoid = MONOIDS.get(computation)
    except TypeError:
        return None
    plain = isinstance(start, (bool, int, float, np.generic))
    plain = plain or (type(start) is np.ndarray and start.ndim == 0)
    if monoid is None or not plain or dtype.kind not in "biuf":
        return None
    return monoid if dtype.kind != "b" and bool(start == neutral(monoid, dtype)) else None


def _offsets(window: Sequence[int], dilation: Sequence[int]) -> list[range]:
    return [range(0, k * d, d) for k, d in zip(window, dilation, strict=True)]


def _window_part(
    x: Value, at: Sequence[int], counts: Sequence[int], strides: Sequence[int]
) -> Value:
    """The element at one offset of every window."""
    lengths = dilated_sizes(counts, strides)
    ends = tuple(o + n for o, n in zip(at, lengths, strict=True))
    return p.slice(x, tuple(at), ends, tuple(strides))
