"""Axes: negative, missing and repeated ones are put in order here, with NumPy's exceptions."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.errors import AxisError, FunctransError, OptionError, UnsupportedError, describe
from functrans.ir.aval import Shape
from functrans.typing import Axes, ShapeLike


def normal_axis(axis: Any, ndim: int, function: str) -> int:
    """The axis counted from the front; AxisError when there is none such."""
    index = as_int(axis, f"{function}: an axis")
    if not -ndim <= index < ndim:
        raise AxisError(
            f"{function}: axis {index} is out of bounds for array of dimension {ndim}. "
            f"{f'Its axes are {-ndim} to {ndim - 1}' if ndim else 'It has no axes'}."
        )
    return index % ndim


def normal_axes(axis: Axes, ndim: int, function: str) -> tuple[int, ...]:
    """The axes counted from the front, in the order given; None means all of them."""
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, Sequence):
        return (normal_axis(axis, ndim, function),)
    axes = tuple(normal_axis(a, ndim, function) for a in axis)
    if len(set(axes)) != len(axes):
        raise OptionError(
            f"{function}: duplicate value in axis {tuple(axis)}. Name each axis once."
        )
    return axes


def as_int(value: Any, what: str) -> int:
    """An int from whatever stands for one; tracers are asked for their value."""
    try:
        return operator.index(value)
    except TypeError as error:
        if isinstance(error, FunctransError):
            raise
        raise UnsupportedError(f"{what} must be an integer, but got {describe(value)}.") from None


def as_shape(shape: ShapeLike) -> Shape:
    """A shape given as an int or a sequence of ints; tracers are asked for their values."""
    if isinstance(shape, Sequence):
        return tuple(as_int(n, "the size of an axis") for n in shape)
    if isinstance(shape, np.ndarray) and shape.ndim == 1:
        return tuple(as_int(n, "the size of an axis") for n in shape.tolist())
    return (as_int(shape, "the size of an axis"),)
