"""Padding: `pad` with every mode of NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from functrans.errors import ShapeError, UnsupportedError
from functrans.ir import aval_of
from functrans.numpy.quantiles import median
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value
from functrans.surface import reductions
from functrans.surface.creation import linspace
from functrans.surface.declare import surface
from functrans.surface.promotion import as_operand, cast, stretch
from functrans.surface.selection import take
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike

Widths = list[tuple[int, int]]
Run = tuple[int, int, int]
"""(first place, how many, step)"""
MOST_RUNS = 8
"""A border of more stretches than this is gathered."""


@surface(np.pad)
def pad(array: ArrayLike, pad_width: Any, mode: str = "constant", **kwargs: Any) -> Value:
    """array with a border of given width, filled as `mode` says: "constant", "edge", "wrap", ..."""
    array = array_of(array, "pad")
    widths = _pairs(pad_width, aval_of(array).ndim)
    if any(n < 0 for pair in widths for n in pair):
        raise ValueError("index can't contain negative values")
    if callable(mode):
        raise UnsupportedError("pad: a function as mode is not supported on traced values")
    if mode not in _MODES:
        raise ValueError(f"mode '{mode}' is not supported; use one of {', '.join(_MODES)}")
    fill, known = _MODES[mode]
    unknown = [k for k in kwargs if k not in known]
    if unknown:
        raise ValueError(f"unsupported keyword arguments for mode '{mode}': {set(unknown)}")
    return fill(array, widths, **kwargs)


def _pairs(given: Any, ndim: int) -> Widths:
    """(before, after) per axis, from an int, a pair, or one of these per axis."""
    if isinstance(given, dict):
        pairs = [(0, 0)] * ndim
        for axis, width in given.items():
            pairs[axis] = tuple(np.broadcast_to(width, 2).tolist())
        return pairs
    return [(int(a), int(b)) for a, b in np.broadcast_to(np.asarray(given), (ndim, 2))]


def _constant(x: Value, widths: Widths, constant_values: Any = 0) -> Value:
    values = as_operand(constant_values, "pad")
    if aval_of(values).shape == ():
        low, high = (tuple(w[i] for w in widths) for i in (0, 1))
        return p.pad(x, cast(values, aval_of(x).dtype), low, high)
    ends = stretch(values, (aval_of(x).ndim, 2))
    for axis in range(aval_of(x).ndim):
        before, after = (_slab(x, axis, widths[axis][i], _element(ends, axis, i)) for i in (0, 1))
        x = p.concatenate([before, x, after], axis)
    return x


def _element(matrix: Value, i: int, j: int) -> Value:
    return p.reshape(p.slice(matrix, (i, j), (i + 1, j + 1)), ())


def _slab(x: Value, axis: int, width: int, value: Value) -> Value:
    """`width` layers of one value, to stand beside x."""
    shape = aval_of(x).shape
    return stretch(cast(value, aval_of(x).dtype), (*shape[:axis], width, *shape[axis + 1 :]))


def _by_index(index: Callable[[int, int, int], Any]) -> Callable[..., Value]:
    """A mode that repeats members of x: `index(n, before, after)` lists which."""

    def fill(x: Value, widths: Widths) -> Value:
        for axis, (before, after) in enumerate(widths):
            n = aval_of(x).shape[axis]
            if n == 0 and (before or after):
                raise ShapeError(
                    f"can't extend empty axis {axis} using modes other than 'constant'"
                )
            if before or after:
                places = index(n, before, after)
                x = _extended(x, axis, places[:before], places[before + n :])
        return x

    return fill


def _extended(x: Value, axis: int, before: Any, after: Any) -> Value:
    """x between the members of it that two lists of places name.

    Members in a row are slices, whose derivative needs no scatter.
    """
    first, last = _runs(before), _runs(after)
    if len(first) + len(last) > MOST_RUNS:
        middle = np.arange(aval_of(x).shape[axis])
        return take.body(x, np.concatenate([before, middle, after]), axis)
    left, right = ([_members(x, axis, run) for run in runs] for runs in (first, last))
    return p.concatenate([*left, x, *right], axis)


def _runs(places: Any) -> list[Run]:
    """The places in stretches along which they go up by one, down by one, or stay."""
    runs: list[Run] = []
    for place in places.tolist():
        if runs:
            first, count, step = runs[-1]
            move = place - (first + (count - 1) * step)
            if move == step or (count == 1 and abs(move) <= 1):
                runs[-1] = (first, count + 1, move)
                continue
        runs.append((place, 1, 1))
    return runs


def _members(x: Value, axis: int, run: Run) -> Value:
    """The members of a run along an axis."""
    first, count, step = run
    if step == 0:
        shape = aval_of(x).shape
        one = p.slice_axis(x, axis, first, first + 1)
        return stretch(one, (*shape[:axis], count, *shape[axis + 1 :]))
    low, high = sorted((first, first + (count - 1) * step))
    part = p.slice_axis(x, axis, low, high + 1)
    return p.reverse(part, (axis,)) if step < 0 else part


def _edge(n: int, before: int, after: int) -> Any:
    return np.clip(np.arange(-before, n + after), 0, n - 1)


def _wrap(n: int, before: int, after: int) -> Any:
    return np.arange(-before, n + after) % n


def _symmetric(n: int, before: int, after: int) -> Any:
    place = np.arange(-before, n + after) % (2 * n)
    return np.minimum(place, 2 * n - 1 - place)


def _reflect(n: int, before: int, after: int) -> Any:
    if n == 1:
        return np.zeros(before + 1 + after, int)
    place = np.arange(-before, n + after) % (2 * n - 2)
    return np.minimum(place, 2 * n - 2 - place)


def _mirrored(index: Callable[[int, int, int], Any], whole: bool) -> Callable[..., Value]:
    """Reflection, even or odd; odd reflects the values about the edge too."""
    even = _by_index(index)

    def fill(x: Value, widths: Widths, reflect_type: str = "even") -> Value:
        if reflect_type == "even":
            return even(x, widths)
        for axis, (before, after) in enumerate(widths):
            x = _odd_along(x, axis, before, after, whole)
        return x

    return fill


def _odd_along(x: Value, axis: int, before: int, after: int, whole: bool) -> Value:
    """Layers 2 * edge - mirrored, as many times as the width asks for."""
    while before > 0 or after > 0:
        n = aval_of(x).shape[axis]
        reach = n if whole else n - 1
        if reach == 0:
            return take.body(x, _edge(n, before, after), axis)
        first, last = min(before, reach), min(after, reach)
        offset = 0 if whole else 1
        left = p.reverse(p.slice_axis(x, axis, offset, offset + first), (axis,))
        right = p.reverse(p.slice_axis(x, axis, n - offset - last, n - offset), (axis,))
        parts = [_about(x, left, axis, 0), x, _about(x, right, axis, n - 1)]
        x = p.concatenate(parts, axis)
        before, after = before - first, after - last
    return x


def _about(x: Value, mirrored: Value, axis: int, at: int) -> Value:
    edge = stretch(p.slice_axis(x, axis, at, at + 1), aval_of(mirrored).shape)
    return e.sub(e.add(edge, edge), mirrored)


def _by_statistic(statistic: Callable[..., Value]) -> Callable[..., Value]:
    """A mode that fills with a statistic of the members near each edge."""

    def fill(x: Value, widths: Widths, stat_length: Any = None) -> Value:
        ndim = aval_of(x).ndim
        lengths = None if stat_length is None else _pairs(stat_length, ndim)
        for axis, (before, after) in enumerate(widths):
            n = aval_of(x).shape[axis]
            reach = (n, n) if lengths is None else lengths[axis]
            left = p.slice_axis(x, axis, 0, min(n, reach[0]))
            right = p.slice_axis(x, axis, max(n - reach[1], 0), n)
            layers = [
                _layers(x, statistic(part, axis, keepdims=True), axis, width)
                for part, width in ((left, before), (right, after))
            ]
            x = p.concatenate([layers[0], x, layers[1]], axis)
        return x

    return fill


def _layers(x: Value, value: Value, axis: int, width: int) -> Value:
    dtype = aval_of(x).dtype
    if dtype.kind in "iu" and aval_of(value).dtype.kind == "f":
        value = e.rint(value)
    shape = aval_of(x).shape
    return stretch(cast(value, dtype), (*shape[:axis], width, *shape[axis + 1 :]))


def _ramp(x: Value, widths: Widths, end_values: Any = 0) -> Value:
    """Straight lines from the edges to the end values."""
    ends = stretch(as_operand(end_values, "pad"), (aval_of(x).ndim, 2))
    for axis, (before, after) in enumerate(widths):
        n = aval_of(x).shape[axis]
        edges = [p.slice_axis(x, axis, i, i + 1) for i in (0, n - 1)]
        left = _line(edges[0], _element(ends, axis, 0), before, axis)
        right = p.reverse(_line(edges[1], _element(ends, axis, 1), after, axis), (axis,))
        x = p.concatenate([left, x, right], axis)
    return x


def _line(edge: Value, end: Value, count: int, axis: int) -> Value:
    """`count` values from `end` towards the edge, which is left out."""
    shape, dtype = aval_of(edge).shape, aval_of(edge).dtype
    flat = p.reshape(edge, (*shape[:axis], *shape[axis + 1 :]))
    line = linspace.body(stretch(cast(end, dtype), aval_of(flat).shape), flat, count, False)
    line = p.transpose(line, (*range(1, axis + 1), 0, *range(axis + 1, len(shape))))
    if dtype.kind in "iu":
        line = e.floor(line)
    return cast(line, dtype)


_MODES: dict[str, tuple[Callable[..., Value], tuple[str, ...]]] = {
    "constant": (_constant, ("constant_values",)),
    "empty": (_constant, ()),
    "edge": (_by_index(_edge), ()),
    "wrap": (_by_index(_wrap), ()),
    "reflect": (_mirrored(_reflect, False), ("reflect_type",)),
    "symmetric": (_mirrored(_symmetric, True), ("reflect_type",)),
    "linear_ramp": (_ramp, ("end_values",)),
    "maximum": (_by_statistic(reductions.max.body), ("stat_length",)),
    "minimum": (_by_statistic(reductions.min.body), ("stat_length",)),
    "mean": (_by_statistic(reductions.mean.body), ("stat_length",)),
    "median": (_by_statistic(median.body), ("stat_length",)),
}
