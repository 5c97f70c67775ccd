"""Avals: what is known of a value while a function is staged (shape, dtype, weak or not)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from functrans.errors import RangeError
from functrans.tree import register_leaf_class

Shape = tuple[int, ...]

_SHORT_KINDS = {"f": "f", "i": "i", "u": "u", "c": "c"}


@register_leaf_class
@dataclass(frozen=True, slots=True)
class Aval:
    """The abstract value of an array: `shape`, `dtype`, and whether it is weak.

    A weak aval stands for a Python scalar: its shape is `()` and it takes the dtype of the
    operand it meets (NEP 50).
    """

    shape: Shape
    dtype: np.dtype[Any]
    weak: bool = False

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def strengthen(self) -> Aval:
        """The same aval, no longer weak."""
        return Aval(self.shape, self.dtype) if self.weak else self

    def with_shape(self, shape: Shape) -> Aval:
        return Aval(shape, self.dtype, self.weak)

    def with_dtype(self, dtype: np.dtype[Any]) -> Aval:
        return Aval(self.shape, dtype, self.weak)

    def __str__(self) -> str:
        dims = ",".join(str(n) for n in self.shape)
        return f"{short_dtype(self.dtype)}{'~' if self.weak else ''}[{dims}]"


def short_dtype(dtype: np.dtype[Any]) -> str:
    """`f64` for float64, `c128` for complex128, `bool` for bool, the name for what is left."""
    kind = _SHORT_KINDS.get(dtype.kind)
    return f"{kind}{dtype.itemsize * 8}" if kind else dtype.name


class Array(ABC):
    """What functrans calls an array: np.ndarray, NumPy scalars and tracers satisfy it."""

    __slots__ = ()

    @property
    @abstractmethod
    def shape(self) -> Shape: ...

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]: ...


Array.register(np.ndarray)
Array.register(np.generic)

_WEAK = {
    bool: Aval((), np.dtype(np.bool_), True),
    int: Aval((), np.dtype(np.int64), True),
    float: Aval((), np.dtype(np.float64), True),
    complex: Aval((), np.dtype(np.complex128), True),
}


def aval_of(value: Any) -> Aval:
    """The aval of a tracer, an array, a NumPy scalar or a Python scalar.

    Raises TypeError for anything else; a Python int outside int64 is OverflowError.
    """
    weak = _WEAK.get(type(value))
    if weak is not None:
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise RangeError(
                f"the Python int {value} is too large to convert to int64. Make it a float."
            )
        return weak
    aval = getattr(value, "aval", None)
    if isinstance(aval, Aval):
        return aval
    if isinstance(value, (np.ndarray, np.generic)):
        return Aval(value.shape, value.dtype)
    raise TypeError(f"expected an array or a number, but got {type(value).__name__}")


def is_inexact(dtype: np.dtype[Any]) -> bool:
    """Is this a floating or complex dtype, one that carries derivatives? (bfloat16 included)"""
    kind = dtype.kind
    return kind in "fc" or (kind == "V" and dtype.name == "bfloat16")


def same_type(a: Aval, b: Aval) -> bool:
    """Do two avals agree in shape and dtype, weakness aside?"""
    return a is b or (a.shape == b.shape and a.dtype == b.dtype)


float0 = np.dtype([("float0", np.void, 0)])
"""The dtype of tangents and cotangents of integer and boolean values: nothing to say."""


def tangent_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a tangent of a value of `dtype`: itself, or float0 where none exists."""
    return dtype if is_inexact(dtype) else float0
