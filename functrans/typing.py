"""Type aliases for annotations: what users and the library call an array-like, a dtype, a shape.

A parameter annotated with `ArrayLike` is an operand of a public array function; any other
parameter is static. The declaration reads these annotations, so they carry meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from functrans.ir import Array
from functrans.ir.aval import Shape

ArrayLike: TypeAlias = (
    Array | np.ndarray[Any, Any] | np.generic | bool | int | float | complex | Sequence[Any]
)
"""An array, a NumPy scalar, a tracer, a Python number, or nested sequences of these."""

DTypeLike: TypeAlias = np.dtype[Any] | type[Any] | str | None
"""Whatever `numpy.dtype` accepts."""

ShapeLike: TypeAlias = int | Sequence[int]
"""A shape, or the length of a one-dimensional one."""

Axes: TypeAlias = int | Sequence[int] | None
"""An axis, several, or None for all of them."""

__all__ = ["Array", "ArrayLike", "Axes", "DTypeLike", "Shape", "ShapeLike"]
