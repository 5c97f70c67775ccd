"""Axes: negative, missing and repeated ones are put in order here, with NumPy's exceptions."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.ir.aval import Shape
from functrans.typing import Axes, ShapeLike


def normal_axis(axis: Any, ndim: int, function: str) -> int:
    """The axis counted from the front; AxisError when there is none such."""
    index = operator.index(axis)
    if not -ndim <= index < ndim:
        raise np.exceptions.AxisError(index, ndim, function)
    return index % ndim


def normal_axes(axis: Axes, ndim: int, function: str) -> tuple[int, ...]:
    """The axes counted from the front, in the order given; None means all of them."""
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, Sequence):
        return (normal_axis(axis, ndim, function),)
    axes = tuple(normal_axis(a, ndim, function) for a in axis)
    if len(set(axes)) != len(axes):
        raise ValueError(f"{function}: duplicate value in axis {tuple(axis)}")
    return axes


def as_shape(shape: ShapeLike) -> Shape:
    """A shape given as an int or a sequence of ints; tracers are asked for their values."""
    if isinstance(shape, Sequence):
        return tuple(map(operator.index, shape))
    if isinstance(shape, np.ndarray) and shape.ndim == 1:
        return tuple(map(operator.index, shape.tolist()))
    return (operator.index(shape),)
