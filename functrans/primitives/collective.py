"""Collectives talk to the other members of a mapped axis; batching over that axis removes them.

Without the axis there is nobody to talk to: evaluating one is an error that names the axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import AxisNameError, ShapeError
from functrans.ir import Aval, Collective, Linear, MappedAxis, Primitive, aval_of
from functrans.primitives.derive import (
    Dims,
    Value,
    broadcast_at,
    full_like,
    inserted,
    instantiating,
    linear_jvp,
    move_axis,
    require_kind,
    without_derivative,
)
from functrans.primitives.elementwise import eq, mask, mul, reciprocal, scale
from functrans.primitives.indexing import dynamic_slice
from functrans.primitives.reduction import reduce_max, reduce_min
from functrans.primitives.structural import (
    Batched,
    Shape,
    iota,
    reduce_sum,
    reshape,
    select,
)

Jvp = tuple[list[Value], list[Value]]
INDEX = np.dtype(np.int64)


def _alone(name: str) -> Callable[..., list[Any]]:
    """The impl of every collective: there is no such axis here."""

    def impl(*xs: Any, axis_name: Any, **params: Any) -> list[Any]:
        raise AxisNameError(
            f"{name}: no axis is named {axis_name!r} here. Call the function under "
            f"vmap(..., axis_name={axis_name!r})"
        )

    return impl


def _through(primitive: Primitive, x: Value, dim: int | None, params: dict[str, Any]) -> Batched:
    """The mapped axis is another one: every member keeps talking along the named axis."""
    return bind(primitive, x, **params), [dim]


# -- psum, pmax, pmin -------------------------------------------------------------------------


def _reducing(
    name: str,
    kinds: str,
    fold: Callable[[Value, tuple[int, ...]], Value],
    repeat: Callable[[Value, int], Value],
    jvp: Callable[..., Jvp],
    transpose: Callable[..., list[Value]] | None = None,
) -> Primitive:
    """A reduction over members; `repeat(x, size)` is the fold of `size` equal values."""

    def abstract_eval(x: Aval, *, axis_name: Any) -> list[Aval]:
        require_kind(name, x.dtype, kinds)
        return [x.strengthen()]

    def batch(axis: MappedAxis, xs: Sequence[Value], dims: Dims, *, axis_name: Any) -> Batched:
        (x,), (dim,) = xs, dims
        if axis.name != axis_name:
            return _through(primitive, x, dim, {"axis_name": axis_name})
        return [repeat(x, axis.size) if dim is None else fold(x, (dim,))], [None]

    primitive = Primitive(
        name=name,
        abstract_eval=abstract_eval,
        impl=_alone(name),
        jvp=jvp,
        transpose=transpose,
        batch=batch,
        property=Collective(),
        cheap=False,
    )
    return primitive


def psum_transpose(cts: list[Value], x: Linear, *, axis_name: Any) -> list[Value]:
    """Each member's value went to all: its cotangent is the sum of theirs."""
    return [psum(cts[0], axis_name)]


def _extremum_jvp(primitive: Callable[[], Primitive]) -> Callable[..., Jvp]:
    """The mean of the tangents of the members that attain the extremum."""

    @instantiating
    def jvp(primals: list[Value], tangents: list[Value], *, axis_name: Any) -> Jvp:
        (x,), (t,) = primals, tangents
        (out,) = bind(primitive(), x, axis_name=axis_name)
        if t is None:
            return [out], [None]
        attained = eq(x, out)
        moved = psum(select(attained, t, full_like(t, 0)), axis_name)
        return [out], [scale(moved, reciprocal(psum(mask(attained, x), axis_name)))]

    return jvp


psum_p = _reducing(
    "psum",
    "iufc",
    reduce_sum,
    lambda x, size: mul(x, full_like(x, size)),
    linear_jvp(lambda: psum_p),
    psum_transpose,
)
pmax_p = _reducing("pmax", "biuf", reduce_max, lambda x, size: x, _extremum_jvp(lambda: pmax_p))
pmin_p = _reducing("pmin", "biuf", reduce_min, lambda x, size: x, _extremum_jvp(lambda: pmin_p))


def psum(x: Value, axis_name: Any) -> Value:
    """The sum of x over the members of the named axis."""
    return bind(psum_p, x, axis_name=axis_name)[0]


def pmax(x: Value, axis_name: Any) -> Value:
    """The maximum of x over the members of the named axis."""
    return bind(pmax_p, x, axis_name=axis_name)[0]


def pmin(x: Value, axis_name: Any) -> Value:
    """The minimum of x over the members of the named axis."""
    return bind(pmin_p, x, axis_name=axis_name)[0]


# -- all_gather and axis_index ----------------------------------------------------------------


def _all_gather_abstract_eval(x: Aval, *, axis_name: Any, axis: int, size: int) -> list[Aval]:
    if not 0 <= axis <= x.ndim:
        raise ShapeError(f"all_gather: axis {axis} is not a place for a new axis in {x}")
    return [Aval(inserted(x.shape, axis, size), x.dtype)]


def all_gather_transpose(
    cts: list[Value], x: Linear, *, axis_name: Any, axis: int, size: int
) -> list[Value]:
    """Everybody holds a copy of each member's value: sum them and take one's own."""
    total = psum(cts[0], axis_name)
    shape = aval_of(total).shape
    own = axis_index(axis_name, size)
    starts = [own if i == axis else INDEX.type(0) for i in range(len(shape))]
    sizes: Shape = tuple(1 if i == axis else n for i, n in enumerate(shape))
    return [reshape(dynamic_slice(total, starts, sizes), x.aval.shape)]


def _all_gather_batch(
    mapped: MappedAxis, xs: Sequence[Value], dims: Dims, *, axis_name: Any, axis: int, size: int
) -> Batched:
    (x,), (dim,) = xs, dims
    if mapped.name == axis_name:
        gathered = broadcast_at(x, size, axis) if dim is None else move_axis(x, dim, axis)
        return [gathered], [None]
    params: dict[str, Any] = {"axis_name": axis_name, "size": size}
    if dim is None:
        return _through(all_gather_p, x, None, {**params, "axis": axis})
    return _through(all_gather_p, move_axis(x, dim, 0), 0, {**params, "axis": axis + 1})


all_gather_p = Primitive(
    name="all_gather",
    abstract_eval=_all_gather_abstract_eval,
    impl=_alone("all_gather"),
    jvp=linear_jvp(lambda: all_gather_p),
    transpose=all_gather_transpose,
    batch=_all_gather_batch,
    property=Collective(),
    cheap=False,
)


def all_gather(x: Value, axis_name: Any, axis: int, size: int) -> Value:
    """The members' values of x stacked along a new axis; `size` is how many members there are."""
    return bind(all_gather_p, x, axis_name=axis_name, axis=axis, size=size)[0]


def _axis_index_batch(
    axis: MappedAxis, xs: Sequence[Value], dims: Dims, *, axis_name: Any, size: int
) -> Batched:
    if axis.name == axis_name:
        return [iota((axis.size,), INDEX, 0)], [0]
    return bind(axis_index_p, axis_name=axis_name, size=size), [None]


axis_index_p = Primitive(
    name="axis_index",
    abstract_eval=lambda *, axis_name, size: [Aval((), INDEX)],
    impl=_alone("axis_index"),
    jvp=without_derivative(lambda: axis_index_p),
    batch=_axis_index_batch,
    property=Collective(),
)


def axis_index(axis_name: Any, size: int) -> Value:
    """This member's int64 index along the named axis of `size` members."""
    return bind(axis_index_p, axis_name=axis_name, size=size)[0]
