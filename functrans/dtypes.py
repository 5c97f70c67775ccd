"""Dtypes: questions about dtypes and promotion, with the answers of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from functrans.ir.aval import float0
from functrans.numpy import plain
from functrans.numpy.information import result_type
from functrans.surface.promotion import canonical_dtype


def issubdtype(a: Any, b: Any) -> bool:
    """Is the dtype `a` of the kind `b`? bfloat16 counts as floating."""
    if getattr(a, "name", getattr(a, "__name__", a)) == "bfloat16":
        return b in (np.floating, np.inexact, np.number, np.generic) or np.dtype(a) == b
    return np.issubdtype(a, b)


def canonicalize_dtype(dtype: Any) -> np.dtype[Any]:
    """The dtype itself, in native byte order: nothing is narrowed. TypeError where unsupported."""
    return canonical_dtype(dtype, "canonicalize_dtype")


def __getattr__(name: str) -> Any:
    """bfloat16 comes from a package that need not be installed."""
    if name == "bfloat16":
        return plain.bfloat16()
    raise AttributeError(f"module 'functrans.dtypes' has no attribute {name!r}")


__all__ = ["canonicalize_dtype", "float0", "issubdtype", "result_type"]
