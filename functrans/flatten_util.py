"""Raveling: a pytree of arrays as one vector, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from functrans import numpy as fnp
from functrans import tree
from functrans.errors import ShapeError, describe
from functrans.ir import aval_of


def ravel_pytree(pytree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """All elements of all leaves as one vector, and the function that undoes it.

    The vector's dtype is what the leaves' dtypes promote to; `unravel` gives each leaf its own
    shape and dtype again. Both can be differentiated and compiled. Raises ShapeError where
    `unravel` is given anything but a vector of the right length.

    >>> vector, unravel = ravel_pytree({"b": 3.0, "w": np.array([1.0, 2.0])})
    >>> vector
    array([3., 1., 2.])
    >>> unravel(10 * vector)
    {'b': np.float64(30.0), 'w': array([10., 20.])}
    """
    leaves, treedef = tree.flatten(pytree)
    avals = [aval_of(leaf) for leaf in leaves]
    sizes = [aval.size for aval in avals]
    dtype = np.result_type(*(aval.dtype for aval in avals)) if avals else np.dtype(np.float64)
    flat = [fnp.reshape(fnp.asarray(leaf, dtype=dtype), (-1,)) for leaf in leaves]
    vector = fnp.concatenate(flat) if flat else np.zeros(0)

    def unravel(vector: Any) -> Any:
        if np.shape(vector) != (sum(sizes),):
            raise ShapeError(
                f"unravel: expected a vector of length {sum(sizes)}, the number of elements of "
                f"the pytree that was raveled, but got {describe(vector)}."
            )
        parts: list[Any] = []
        start = 0
        for aval, size in zip(avals, sizes, strict=True):
            part = vector[start : start + size]
            if part.dtype.kind == "c" and aval.dtype.kind != "c":
                part = part.real
            parts.append(fnp.reshape(part, aval.shape).astype(aval.dtype)[()])
            start += size
        return tree.unflatten(treedef, parts)

    return vector, unravel
