"""Collectives: what the members of a mapped axis (vmap's axis_name) say to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from functrans import tree
from functrans.bind import ambient_axes
from functrans.errors import AxisNameError, user_frame, where
from functrans.ir import aval_of, is_inexact
from functrans.primitives import collective as c
from functrans.primitives.derive import Value, full_like
from functrans.primitives.elementwise import div
from functrans.primitives.structural import reshape
from functrans.surface.axes import normal_axis
from functrans.surface.declare import surface
from functrans.surface.promotion import BOOL, FLOAT, INT, as_operand, as_strong, cast

AxisName = Any
"""The name of a mapped axis, or a tuple of names."""


def _names(axis_name: AxisName) -> Sequence[Any]:
    return axis_name if isinstance(axis_name, (tuple, list)) else (axis_name,)


def axis_size(axis_name: AxisName) -> int:
    """How many members the named axis has; of several, the product."""
    total = 1
    for name in _names(axis_name):
        total *= _size(name)
    return total


def _size(name: Any) -> int:
    for axis in ambient_axes():
        if axis.name == name:
            return axis.size
    raise AxisNameError(
        f"no axis is named {name!r} here (in {where(user_frame())}). Call the function under "
        f"vmap(..., axis_name={name!r})"
    )


def _numbers(x: Any, name: str) -> Value:
    """An operand of a collective; bools count as integers."""
    value = as_strong(as_operand(x, name))
    return cast(value, INT) if aval_of(value).dtype == BOOL else value


def _over_names(
    name: str, apply: Callable[[Value, Any], Value], x: Any, axis_name: AxisName
) -> Any:
    """Each leaf of the pytree x, told along each named axis in turn."""
    axis_size(axis_name)

    def on_leaf(leaf: Any) -> Value:
        value = _numbers(leaf, name)
        for one in _names(axis_name):
            value = apply(value, one)
        return value

    return tree.map(on_leaf, x)


@surface(name="lax.psum")
def psum(x: Any, axis_name: AxisName) -> Any:
    """The sum over the members of the named axis, for each leaf of the pytree x."""
    return _over_names("psum", c.psum, x, axis_name)


@surface(name="lax.pmax")
def pmax(x: Any, axis_name: AxisName) -> Any:
    """The maximum over the members of the named axis, for each leaf of the pytree x."""
    return _over_names("pmax", c.pmax, x, axis_name)


@surface(name="lax.pmin")
def pmin(x: Any, axis_name: AxisName) -> Any:
    """The minimum over the members of the named axis, for each leaf of the pytree x."""
    return _over_names("pmin", c.pmin, x, axis_name)


@surface(name="lax.pmean")
def pmean(x: Any, axis_name: AxisName) -> Any:
    """The mean over the members of the named axis, for each leaf of the pytree x."""
    size = axis_size(axis_name)

    def averaged(total: Value) -> Value:
        total = total if is_inexact(aval_of(total).dtype) else cast(total, FLOAT)
        return div(total, full_like(total, size))

    return tree.map(averaged, psum.body(x, axis_name))


@surface(name="lax.all_gather")
def all_gather(x: Any, axis_name: AxisName, *, axis: int = 0, tiled: bool = False) -> Any:
    """The values of all members, stacked along a new axis; `tiled` joins them along `axis`."""
    size = _size(axis_name)

    def on_leaf(leaf: Any) -> Value:
        value = as_strong(as_operand(leaf, "all_gather"))
        ndim = aval_of(value).ndim
        place = normal_axis(axis, ndim if tiled else ndim + 1, "all_gather")
        gathered = c.all_gather(value, axis_name, place, size)
        if not tiled:
            return gathered
        shape = aval_of(value).shape
        return reshape(gathered, (*shape[:place], size * shape[place], *shape[place + 1 :]))

    return tree.map(on_leaf, x)


@surface(name="lax.axis_index")
def axis_index(axis_name: AxisName) -> Value:
    """This member's number along the named axis, from 0."""
    return c.axis_index(axis_name, _size(axis_name))
