"""Differences, sums along curves, interpolation, convolution, polynomials, cross products."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import ShapeError
from functrans.ir import aval_of, is_inexact
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.contraction import conv_p
from functrans.primitives.derive import Value, full, full_like
from functrans.surface import accumulations, elementwise, joining, reductions
from functrans.surface.axes import normal_axes, normal_axis
from functrans.surface.declare import surface
from functrans.surface.promotion import (
    BOOL,
    FLOAT,
    as_operand,
    broadcast_together,
    cast,
    promote,
    stretch,
)
from functrans.surface.selection import gather
from functrans.surface.shaping import array_of, insert_axes
from functrans.surface.sorting import argsort, searchsorted
from functrans.typing import ArrayLike, Axes

# -- differences ------------------------------------------------------------------------------


@surface(np.diff)
def diff(
    a: ArrayLike,
    n: int = 1,
    axis: int = -1,
    prepend: ArrayLike | None = None,
    append: ArrayLike | None = None,
) -> Value:
    """The differences of neighbours along an axis, taken n times."""
    a = array_of(a, "diff")
    place = normal_axis(axis, aval_of(a).ndim, "diff")
    if operator.index(n) < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    ends = [_end_piece(a, v, place) for v in (prepend, append)]
    parts = [v for v in (ends[0], a, ends[1]) if v is not None]
    a = joining.concatenate.body(parts, place) if len(parts) > 1 else a
    for _ in range(operator.index(n)):
        a = _neighbours(a, place)
    return a


def _end_piece(a: Value, value: ArrayLike | None, axis: int) -> Value | None:
    """What is put before or after a, if anything; a scalar stands for one slab."""
    if value is None or value is np._NoValue:
        return None
    value = array_of(value, "diff")
    if aval_of(value).ndim:
        return value
    shape = aval_of(a).shape
    return stretch(value, (*shape[:axis], 1, *shape[axis + 1 :]))


def _neighbours(a: Value, axis: int) -> Value:
    count = aval_of(a).shape[axis]
    if count == 0:
        return a
    high, low = p.slice_axis(a, axis, 1, count), p.slice_axis(a, axis, 0, count - 1)
    return e.xor(high, low) if aval_of(a).dtype == BOOL else e.sub(high, low)


@surface(np.ediff1d)
def ediff1d(
    ary: ArrayLike, to_end: ArrayLike | None = None, to_begin: ArrayLike | None = None
) -> Value:
    """The differences of neighbours of the flattened array, between two given ends."""
    flat = array_of(ary, "ediff1d")
    inner = _neighbours(p.reshape(flat, (aval_of(flat).size,)), 0)
    dtype = aval_of(inner).dtype
    ends = [None if v is None else cast(array_of(v, "ediff1d"), dtype) for v in (to_begin, to_end)]
    parts = [v for v in (ends[0], inner, ends[1]) if v is not None]
    return p.concatenate([p.reshape(v, (aval_of(v).size,)) for v in parts], 0)


@surface(np.gradient)
def gradient(f: ArrayLike, *varargs: ArrayLike, axis: Axes = None, edge_order: int = 1) -> Any:
    """Central differences inside and one-sided ones at the ends, per axis, for given spacings."""
    f = array_of(f, "gradient")
    f = f if is_inexact(aval_of(f).dtype) else cast(f, FLOAT)
    axes = normal_axes(axis, aval_of(f).ndim, "gradient")
    if len(varargs) not in (0, 1, len(axes)):
        raise TypeError("invalid number of arguments")
    spacings = [array_of(v, "gradient") for v in varargs] or [np.float64(1)]
    spacings = spacings * len(axes) if len(spacings) == 1 else spacings
    if edge_order not in (1, 2):
        raise ValueError("'edge_order' greater than 2 not supported")
    results = [_gradient_along(f, a, s, edge_order) for a, s in zip(axes, spacings, strict=True)]
    return results[0] if len(results) == 1 else tuple(results)


def _gradient_along(f: Value, axis: int, spacing: Value, order: int) -> Value:
    n = aval_of(f).shape[axis]
    if n < order + 1:
        raise ShapeError(
            f"Shape of array too small to calculate a numerical gradient: {aval_of(f)} needs at "
            f"least {order + 1} elements along axis {axis}"
        )
    steps = _step_lengths(f, spacing, axis, n)
    slopes = e.div(_neighbours(f, axis), steps)
    before, after = (p.slice_axis(slopes, axis, i, n - 2 + i) for i in (0, 1))
    h0, h1 = (p.slice_axis(steps, axis, i, n - 2 + i) for i in (0, 1))
    inside = e.div(e.add(e.mul(before, h1), e.mul(after, h0)), e.add(h0, h1))
    first, last = (_end_slope(slopes, steps, axis, side, order) for side in (0, 1))
    return p.concatenate([first, inside, last], axis)


def _step_lengths(f: Value, spacing: Value, axis: int, n: int) -> Value:
    """The distance between neighbours, in the shape of the differences of f."""
    shape = aval_of(f).shape
    shape = (*shape[:axis], n - 1, *shape[axis + 1 :])
    spacing = cast(spacing, aval_of(f).dtype)
    if aval_of(spacing).ndim == 0:
        return stretch(spacing, shape)
    if aval_of(spacing).shape != (n,):
        raise ShapeError("when 1d, distances must match the length of the corresponding dimension")
    return p.broadcast(_neighbours(spacing, 0), shape, _others(axis, len(shape)))


def _others(axis: int, ndim: int) -> tuple[int, ...]:
    return tuple(i for i in range(ndim) if i != axis)


def _end_slope(slopes: Value, steps: Value, axis: int, side: int, order: int) -> Value:
    """The one-sided slope at an end: of the last step, or of a parabola through three points."""
    n = aval_of(slopes).shape[axis]
    at = [0, 1] if side == 0 else [n - 1, n - 2]
    near = p.slice_axis(slopes, axis, at[0], at[0] + 1)
    if order == 1:
        return near
    far = p.slice_axis(slopes, axis, at[1], at[1] + 1)
    h0, h1 = (p.slice_axis(steps, axis, i, i + 1) for i in at)
    bend = e.div(e.sub(far, near), e.add(h0, h1))
    return e.sub(near, e.mul(bend, h0))


@surface(np.trapezoid)
def trapezoid(
    y: ArrayLike, x: ArrayLike | None = None, dx: ArrayLike = 1.0, axis: int = -1
) -> Value:
    """The integral along an axis by the trapezoid rule."""
    y = array_of(y, "trapezoid")
    place = normal_axis(axis, aval_of(y).ndim, "trapezoid")
    n = aval_of(y).shape[place]
    width = as_operand(dx, "trapezoid") if x is None else _widths(x, place, aval_of(y).ndim)
    ends = [p.slice_axis(y, place, i, n - 1 + i) for i in (1, 0)]
    total = elementwise.add(*ends)
    return reductions.sum(elementwise.divide(elementwise.multiply(width, total), 2.0), place)


def _widths(x: ArrayLike, axis: int, ndim: int) -> Value:
    x = array_of(x, "trapezoid")
    if aval_of(x).ndim != 1:
        return _neighbours(x, axis)
    return insert_axes(_neighbours(x, 0), _others(axis, ndim))


@surface(np.unwrap)
def unwrap(
    p: ArrayLike,  # NumPy's name
    discont: float | None = None,
    axis: int = -1,
    *,
    period: float = 2 * math.pi,
) -> Value:
    """Phases with jumps of more than half a period taken out along an axis."""
    phases = array_of(p, "unwrap")
    phases = phases if is_inexact(aval_of(phases).dtype) else cast(phases, FLOAT)
    place = normal_axis(axis, aval_of(phases).ndim, "unwrap")
    return _unwrapped(phases, place, period / 2 if discont is None else discont, period)


def _unwrapped(phases: Value, axis: int, limit: float, period: float) -> Value:
    steps = _neighbours(phases, axis)
    half, whole = full_like(steps, period / 2), full_like(steps, period)
    turned = e.sub(e.remainder(e.add(steps, half), whole), half)
    up = e.and_(e.eq(turned, e.neg(half)), e.gt(steps, full_like(steps, 0)))
    turned = p.select(up, half, turned)
    small = e.lt(e.abs(steps), full_like(steps, limit))
    jump = p.select(small, full_like(steps, 0), e.sub(turned, steps))
    total = accumulations.cumsum.body(jump, axis)
    first = p.slice_axis(phases, axis, 0, 1)
    rest = e.add(p.slice_axis(phases, axis, 1, aval_of(phases).shape[axis]), total)
    return p.concatenate([first, rest], axis)


# -- interpolation and convolution ----------------------------------------------------------------


@surface(np.interp)
def interp(
    x: ArrayLike,
    xp: ArrayLike,
    fp: ArrayLike,
    left: ArrayLike | None = None,
    right: ArrayLike | None = None,
    period: float | None = None,
) -> Value:
    """The value at x of the line through the points (xp, fp), constant beyond both ends."""
    values = array_of(fp, "interp")
    dtype = np.result_type(aval_of(values).dtype, FLOAT)
    x, knots = cast(as_operand(x, "interp"), FLOAT), cast(array_of(xp, "interp"), FLOAT)
    values = cast(values, dtype)
    if aval_of(knots).ndim != 1 or aval_of(knots).shape != aval_of(values).shape:
        raise ShapeError("fp and xp are not of the same length.")
    if period is not None:
        x, knots, values = _one_period(x, knots, values, abs(period))
    return _on_segments(x, knots, values, left, right)


def _one_period(x: Value, knots: Value, values: Value, period: float) -> tuple[Value, Value, Value]:
    """Points within one period, sorted, with a neighbour at either end."""
    x = e.remainder(x, full_like(x, period))
    knots = e.remainder(knots, full_like(knots, period))
    order = argsort.body(knots)
    knots, values = gather(knots, [order], (0,)), gather(values, [order], (0,))
    n = aval_of(knots).size
    whole = full(period, aval_of(knots).with_shape((1,)))
    before = e.sub(p.slice_axis(knots, 0, n - 1, n), whole)
    after = e.add(p.slice_axis(knots, 0, 0, 1), whole)
    last, first = p.slice_axis(values, 0, n - 1, n), p.slice_axis(values, 0, 0, 1)
    return (
        x,
        p.concatenate([before, knots, after], 0),
        p.concatenate([last, values, first], 0),
    )


def _on_segments(x: Value, knots: Value, values: Value, left: Any, right: Any) -> Value:
    n = aval_of(knots).size
    place = searchsorted.body(knots, x, "right")
    place = e.clamp(full_like(place, 1), place, full_like(place, max(n - 1, 1)))
    low, high = e.sub(place, full_like(place, 1)), place
    x0, x1 = gather(knots, [low], (0,), "clip"), gather(knots, [high], (0,), "clip")
    y0, y1 = gather(values, [low], (0,), "clip"), gather(values, [high], (0,), "clip")
    gap = e.sub(x1, x0)
    flat = e.eq(gap, full_like(gap, 0))
    part = e.div(e.sub(x, x0), p.select(flat, full_like(gap, 1), gap))
    inside = e.add(y0, e.mul(e.sub(y1, y0), cast(part, aval_of(y0).dtype)))
    at_end = e.eq(x, x1)
    inside = p.select(at_end, y1, inside)
    ends = _end_values(values, left, right, aval_of(inside).shape)
    first, last = (
        stretch(p.reshape(p.slice_axis(knots, 0, i, i + 1), ()), aval_of(x).shape)
        for i in (0, n - 1)
    )
    result = p.select(e.lt(x, first), ends[0], inside)
    return p.select(e.gt(x, last), ends[1], result)


def _end_values(values: Value, left: Any, right: Any, shape: tuple[int, ...]) -> list[Value]:
    n, dtype = aval_of(values).size, aval_of(values).dtype
    edges = [p.reshape(p.slice_axis(values, 0, i, i + 1), ()) for i in (0, n - 1)]
    given = [
        edge if v is None else cast(as_operand(v, "interp"), dtype)
        for edge, v in zip(edges, (left, right), strict=True)
    ]
    return [stretch(v, shape) for v in given]


def _correlation(x: Value, kernel: Value, mode: str, name: str) -> Value:
    """Sliding inner products of two rows; `kernel` is the shorter one."""
    n, m = aval_of(x).size, aval_of(kernel).size
    around = {"full": (m - 1, m - 1), "same": (m // 2, (m - 1) // 2), "valid": (0, 0)}
    if mode not in around:
        raise ValueError(f"{name}: mode must be 'full', 'same' or 'valid', but got {mode!r}")
    row, taps = p.reshape(x, (1, 1, n)), p.reshape(kernel, (1, 1, m))
    out = bind(
        conv_p,
        row,
        taps,
        strides=(1,),
        padding=(around[mode],),
        lhs_dilation=(1,),
        rhs_dilation=(1,),
        groups=1,
        batch_groups=1,
    )[0]
    return p.reshape(out, (aval_of(out).size,))


def _rows(name: str, a: ArrayLike, v: ArrayLike) -> list[Value]:
    rows = promote(*(array_of(x, name) for x in (a, v)))
    rows = [insert_axes(x, tuple(range(1 - aval_of(x).ndim))) for x in rows]
    if any(aval_of(x).ndim != 1 for x in rows):
        raise ShapeError("object too deep for desired array")
    if any(aval_of(x).size == 0 for x in rows):
        raise ShapeError(f"{name}: the rows cannot be empty")
    return rows


@surface(np.convolve)
def convolve(a: ArrayLike, v: ArrayLike, mode: str = "full") -> Value:
    """The discrete convolution of two rows."""
    x, y = _rows("convolve", a, v)
    if aval_of(y).size > aval_of(x).size:
        x, y = y, x
    return _correlation(x, p.reverse(y, (0,)), mode, "convolve")


@surface(np.correlate)
def correlate(a: ArrayLike, v: ArrayLike, mode: str = "valid") -> Value:
    """Sliding inner products of a with v, which is conjugated."""
    x, y = _rows("correlate", a, v)
    y = p.conj(y) if aval_of(y).dtype.kind == "c" else y
    if aval_of(y).size <= aval_of(x).size:
        return _correlation(x, y, mode, "correlate")
    return p.reverse(_correlation(y, x, mode, "correlate"), (0,))


# -- products and angles ---------------------------------------------------------------------


@surface(np.cross)
def cross(
    a: ArrayLike,
    b: ArrayLike,
    axisa: int = -1,
    axisb: int = -1,
    axisc: int = -1,
    axis: int | None = None,
) -> Value:
    """The cross product of vectors of length 3."""
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis,) * 3
    x, y = promote(array_of(a, "cross"), array_of(b, "cross"))
    x, y = _vectors_last(x, axisa), _vectors_last(y, axisb)
    x, y = broadcast_together("cross", x, y)
    last = aval_of(x).ndim - 1
    x1, x2 = (joining.roll.body(x, s, last) for s in (-1, -2))
    y1, y2 = (joining.roll.body(y, s, last) for s in (-1, -2))
    result = e.sub(e.mul(x1, y2), e.mul(x2, y1))
    place = normal_axis(axisc, last + 1, "cross")
    order = [i for i in range(last + 1) if i != last]
    order.insert(place, last)
    return p.transpose(result, tuple(order))


def _vectors_last(x: Value, axis: int) -> Value:
    ndim = aval_of(x).ndim
    place = normal_axis(axis, ndim, "cross")
    if aval_of(x).shape[place] != 3:
        raise ShapeError(
            f"cross: both operands need 3 elements along their axis, but one is {aval_of(x)}"
        )
    return p.transpose(x, (*_others(place, ndim), place))


@surface(np.sinc)
def sinc(x: ArrayLike) -> Value:
    """sin(pi x) / (pi x), and 1 at 0."""
    x = array_of(x, "sinc")
    x = x if is_inexact(aval_of(x).dtype) else cast(x, FLOAT)
    zero = e.eq(x, full_like(x, 0))
    angle = e.mul(p.select(zero, full_like(x, 1), x), full_like(x, math.pi))
    near = _sinc_series(x)
    return p.select(zero, near, e.div(e.sin(angle), angle))


def _sinc_series(x: Value) -> Value:
    """1 - (pi x)^2 / 6 + (pi x)^4 / 120: has the right derivatives at 0 up to the fifth."""
    square = e.square(e.mul(x, full_like(x, math.pi)))
    inner = e.sub(e.mul(square, full_like(x, 1 / 120)), full_like(x, 1 / 6))
    return e.add(e.mul(square, inner), full_like(x, 1))


@surface(np.angle)
def angle(z: ArrayLike, deg: bool = False) -> Value:
    """The angle of complex values from the positive real axis."""
    z = array_of(z, "angle")
    parts = (p.imag(z), p.real(z)) if aval_of(z).dtype.kind == "c" else (0, z)
    result = elementwise.arctan2(*parts)
    return elementwise.rad2deg(result) if deg else result


@surface(np.fix)
def fix(x: ArrayLike) -> Value:
    """x rounded towards zero."""
    return elementwise.trunc(x)
