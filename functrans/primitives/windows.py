"""Windows: the elements under a sliding window as an array, and its transpose, overlapped sums.

Every pooling is a reduction over windows, so its derivatives are those of the reduction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import ShapeError
from functrans.ir import Aval, MappedAxis, aval_of
from functrans.primitives.derive import (
    Dims,
    Value,
    inserted,
    is_linear,
    linear,
    move_axis,
    require_kind,
)
from functrans.primitives.structural import ANY, Batched, Shape, reshape


def window_places(shape: Shape, window: Shape, strides: Shape, dilation: Shape) -> Shape:
    """At how many places a dilated window fits, along each axis."""
    return tuple(
        max((n - (k - 1) * d - 1) // s + 1, 0)
        for n, k, s, d in zip(shape, window, strides, dilation, strict=True)
    )


def _check(name: str, ndim: int, window: Shape, strides: Shape, dilation: Shape) -> None:
    if not len(window) == len(strides) == len(dilation) == ndim:
        raise ShapeError(
            f"{name}: window={window}, strides={strides} and dilation={dilation} must have one "
            f"entry for each of {ndim} axes"
        )
    if min((*window, *strides, *dilation), default=1) < 1:
        raise ShapeError(
            f"{name}: window={window}, strides={strides} and dilation={dilation} must be positive"
        )


# -- windows ----------------------------------------------------------------------------------


def _windows_abstract_eval(
    x: Aval, *, window: Shape, strides: Shape, dilation: Shape
) -> list[Aval]:
    require_kind("windows", x.dtype, ANY)
    _check("windows", x.ndim, window, strides, dilation)
    places = window_places(x.shape, window, strides, dilation)
    return [Aval(places + tuple(window), x.dtype)]


def _windows_impl(x: Any, *, window: Shape, strides: Shape, dilation: Shape) -> list[Any]:
    places = window_places(x.shape, window, strides, dilation)
    out = np.empty(places + tuple(window), x.dtype)
    for offset, met in _meetings(places, window, strides, dilation):
        out[(..., *offset)] = x[met]
    return [out]


def _meetings(
    places: Shape, window: Shape, strides: Shape, dilation: Shape
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """For each offset in the window, what it meets at all places, as slices."""
    for offset in product(*map(range, window)):
        yield (
            offset,
            tuple(
                slice(k * d, k * d + max(n - 1, 0) * s + min(n, 1), s)
                for k, d, n, s in zip(offset, dilation, places, strides, strict=True)
            ),
        )


def windows_transpose(
    cts: list[Value], x: Value, *, window: Shape, strides: Shape, dilation: Shape
) -> list[Value]:
    """Every element takes the sum over the windows in which it was."""
    shape = x.aval.shape if is_linear(x) else aval_of(x).shape
    return [overlap(cts[0], shape, strides, dilation)]


def _windows_batch(
    axis: MappedAxis,
    xs: Sequence[Value],
    dims: Dims,
    *,
    window: Shape,
    strides: Shape,
    dilation: Shape,
) -> Batched:
    """The mapped axis has windows of one element."""
    (x,), (dim,) = xs, dims
    if dim is None:
        return [windows(x, window, strides, dilation)], [None]
    out = windows(x, *(inserted(p, dim, 1) for p in (window, strides, dilation)))
    places = aval_of(out).shape[: len(window) + 1]
    return [reshape(out, (*places, *window))], [dim]


windows_p = linear(
    "windows",
    abstract_eval=_windows_abstract_eval,
    impl=_windows_impl,
    transpose=windows_transpose,
    batch=_windows_batch,
)


def windows(x: Value, window: Shape, strides: Shape, dilation: Shape) -> Value:
    """The elements under a window that slides over x: shape (*places, *window).

    One entry of each for every axis of x: element k of the window at place p is
    x[p * stride + k * dilation].
    """
    params = (tuple(window), tuple(strides), tuple(dilation))
    return bind(windows_p, x, window=params[0], strides=params[1], dilation=params[2])[0]


# -- overlapped sums --------------------------------------------------------------------------


def _overlap_abstract_eval(y: Aval, *, shape: Shape, strides: Shape, dilation: Shape) -> list[Aval]:
    require_kind("overlap", y.dtype, "iufc")
    window = y.shape[len(shape) :]
    _check("overlap", len(shape), window, strides, dilation)
    places = window_places(shape, window, strides, dilation)
    if y.shape[: len(shape)] != places:
        raise ShapeError(f"overlap: windows over {shape} have places {places}, but got {y}")
    return [Aval(tuple(shape), y.dtype)]


def _overlap_impl(y: Any, *, shape: Shape, strides: Shape, dilation: Shape) -> list[Any]:
    out = np.zeros(shape, y.dtype)
    places, window = y.shape[: len(shape)], y.shape[len(shape) :]
    for offset, met in _meetings(places, window, strides, dilation):
        out[met] += y[(..., *offset)]
    return [out]


def overlap_transpose(
    cts: list[Value], y: Value, *, shape: Shape, strides: Shape, dilation: Shape
) -> list[Value]:
    """Every window takes what stands at its places."""
    window = (y.aval if is_linear(y) else aval_of(y)).shape[len(shape) :]
    return [windows(cts[0], window, strides, dilation)]


def _overlap_batch(
    axis: MappedAxis,
    xs: Sequence[Value],
    dims: Dims,
    *,
    shape: Shape,
    strides: Shape,
    dilation: Shape,
) -> Batched:
    """The mapped axis has windows of one element."""
    (y,), (dim,) = xs, dims
    if dim is None:
        return [overlap(y, shape, strides, dilation)], [None]
    y = move_axis(y, dim, 0)
    size, *rest = aval_of(y).shape
    y = reshape(y, (size, *rest[: len(shape)], 1, *rest[len(shape) :]))
    return [overlap(y, (size, *shape), (1, *strides), (1, *dilation))], [0]


overlap_p = linear(
    "overlap",
    abstract_eval=_overlap_abstract_eval,
    impl=_overlap_impl,
    transpose=overlap_transpose,
    batch=_overlap_batch,
)


def overlap(y: Value, shape: Shape, strides: Shape, dilation: Shape) -> Value:
    """An array of `shape` with the sum of the windows y (*places, *window) where they lie."""
    return bind(overlap_p, y, shape=tuple(shape), strides=tuple(strides), dilation=tuple(dilation))[
        0
    ]
