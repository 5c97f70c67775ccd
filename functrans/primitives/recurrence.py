"""Linear recurrences: y[k] = b[k] + a[k] y[k-1] along an axis; each is the transpose of another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.ir import Aval, Linear, LinearIn, MappedAxis, Primitive, aval_of, is_inexact
from functrans.primitives.derive import (
    Dims,
    Value,
    add_all,
    align,
    check_axes,
    exact_operands,
    first_mapped,
    require_kind,
)
from functrans.primitives.elementwise import scale
from functrans.primitives.structural import Batched, pad

MANY_LINES = 32
"""So many lines are evaluated step by step by NumPy, fewer one after the other by Python."""


def before(x: Value, axis: int, fill: float, *, reverse: bool) -> Value:
    """At each place along `axis` what x holds one place before, `fill` at the first.

    With `reverse` the last place is the first one.
    """
    aval = aval_of(x)
    up = tuple(int(i == axis) for i in range(aval.ndim))
    down = tuple(-n for n in up)
    low, high = (down, up) if reverse else (up, down)
    return pad(x, aval.dtype.type(fill), low, high)


def linear_recurrence_abstract_eval(a: Aval, b: Aval, *, axis: int, reverse: bool) -> list[Aval]:
    exact_operands("linear_recurrence", (a, b), 2)
    require_kind("linear_recurrence", b.dtype, "fc")
    check_axes("linear_recurrence", (axis,), b.ndim)
    return [Aval(b.shape, b.dtype)]


def linear_recurrence_impl(a: Any, b: Any, *, axis: int, reverse: bool) -> list[Any]:
    """Half precisions are carried in float32, single ones by Python in float64."""
    dtype = b.dtype
    if is_inexact(dtype) and dtype.itemsize == 2:
        a, b = a.astype(np.float32), b.astype(np.float32)
    a, b = (np.moveaxis(np.flip(x, axis) if reverse else x, axis, 0) for x in (a, b))
    along = _by_steps if b[:1].size >= MANY_LINES else _by_lines
    y = np.moveaxis(along(a, b), 0, axis)
    return [np.asarray(np.flip(y, axis) if reverse else y, dtype)]


def _by_steps(a: Any, b: Any) -> Any:
    """The recurrence along the first axis, all lines at once."""
    y = b.copy()
    for k in range(1, len(y)):
        carried = (a[k] != 0) & (y[k - 1] != 0)
        y[k] = np.where(carried, a[k] * y[k - 1] + b[k], b[k])
    return y


def _by_lines(a: Any, b: Any) -> Any:
    """The recurrence along the first axis, line by line."""
    y = b.copy()
    for line in np.ndindex(*b.shape[1:]):
        steps = zip(a[:, *line].tolist(), b[:, *line].tolist(), strict=True)
        y[:, *line] = list(itertools.accumulate(steps, _step, initial=0))[1:]
    return y


def _step(last: complex, step: tuple[complex, complex]) -> complex:
    factor, term = step
    return factor * last + term if factor and last else term


def linear_recurrence_jvp(
    primals: list[Value], tangents: list[Value], *, axis: int, reverse: bool
) -> tuple[list[Value], list[Value]]:
    """The same recurrence of what each step adds: the tangent of its term, and of its factor."""
    (a, b), (a_dot, b_dot) = primals, tangents
    out = linear_recurrence(a, b, axis, reverse)
    by_factor = None if a_dot is None else scale(a_dot, before(out, axis, 0, reverse=reverse))
    added = add_all([b_dot, by_factor])
    return [out], [None if added is None else linear_recurrence(a, added, axis, reverse)]


def linear_recurrence_transpose(
    cts: list[Value], a: Value, b: Linear, *, axis: int, reverse: bool
) -> list[Value | None]:
    """The recurrence from the other end: a step back multiplies by what the step there did."""
    factors = before(a, axis, 0, reverse=not reverse)
    return [None, linear_recurrence(factors, cts[0], axis, not reverse)]


def linear_recurrence_batch(
    mapped: MappedAxis, xs: Sequence[Value], dims: Dims, *, axis: int, reverse: bool
) -> Batched:
    dim = first_mapped(dims)
    place = axis if dim is None else axis + (axis >= dim)
    operands = align(mapped, xs, dims, dim)
    return bind(linear_recurrence_p, *operands, axis=place, reverse=reverse), [dim]


linear_recurrence_p = Primitive(
    name="linear_recurrence",
    abstract_eval=linear_recurrence_abstract_eval,
    impl=linear_recurrence_impl,
    jvp=linear_recurrence_jvp,
    transpose=linear_recurrence_transpose,
    batch=linear_recurrence_batch,
    property=LinearIn((1,)),
    cheap=False,
)


def linear_recurrence(a: Value, b: Value, axis: int, reverse: bool = False) -> Value:
    """y[k] = b[k] + a[k] y[k-1] along `axis`, or from its end, where k + 1 stands for k - 1.

    The first factor is not used. As in `scale` a product with a zero is zero, even that of an
    infinity: a factor of zero is a new start.
    """
    return bind(linear_recurrence_p, a, b, axis=axis, reverse=reverse)[0]
