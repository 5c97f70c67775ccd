"""Indices as data: ix_, unravel_index, ravel_multi_index, and functions of positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from functrans.errors import ShapeError
from functrans.ir import aval_of
from functrans.primitives import elementwise as e
from functrans.primitives.derive import Value, full_like
from functrans.surface.axes import as_shape
from functrans.surface.creation import indices
from functrans.surface.declare import surface
from functrans.surface.promotion import BOOL, as_operand, broadcast_together
from functrans.surface.selection import nonzero, positions
from functrans.surface.shaping import array_of, insert_axes
from functrans.typing import ArrayLike, DTypeLike, ShapeLike


@surface(np.ix_)
def ix_(*args: ArrayLike) -> tuple[Value, ...]:
    """Rows of indices shaped so that together they pick a block; masks are asked for."""
    rows: list[Value] = []
    for i, given in enumerate(args):
        row = array_of(given, "ix_")
        if aval_of(row).ndim != 1:
            raise ShapeError("Cross index must be 1 dimensional")
        row = nonzero.body(row)[0] if aval_of(row).dtype == BOOL else row
        rows.append(insert_axes(row, tuple(j for j in range(len(args)) if j != i)))
    return tuple(rows)


@surface(np.unravel_index)
def unravel_index(indices: ArrayLike, shape: ShapeLike, order: str = "C") -> tuple[Value, ...]:
    """The position along each axis of elements of the flattened array."""
    rest = positions(indices, "unravel_index")
    sizes = as_shape(shape)
    found: list[Value] = []
    for n in sizes[::-1] if order == "C" else sizes:
        size = full_like(rest, n)
        found.append(e.remainder(rest, size))
        rest = e.floor_divide(rest, size)
    return tuple(found[::-1] if order == "C" else found)


@surface(np.ravel_multi_index)
def ravel_multi_index(
    multi_index: Sequence[ArrayLike], dims: ShapeLike, mode: Any = "raise", order: str = "C"
) -> Value:
    """The place in the flattened array of positions along each axis.

    `mode` "raise" trusts the positions; "wrap" and "clip" move them inside.
    """
    sizes = as_shape(dims)
    modes = mode if isinstance(mode, tuple) else (mode,) * len(sizes)
    rows = [positions(i, "ravel_multi_index") for i in multi_index]
    if len(rows) != len(sizes):
        raise ShapeError(f"ravel_multi_index: {len(rows)} positions for {len(sizes)} axes")
    rows = broadcast_together("ravel_multi_index", *rows)
    rows = [_inside(r, n, m) for r, n, m in zip(rows, sizes, modes, strict=True)]
    pairs = list(zip(rows, sizes, strict=True))
    total = full_like(rows[0], 0)
    for row, n in pairs if order == "C" else pairs[::-1]:
        total = e.add(e.mul(total, full_like(total, n)), row)
    return total


def _inside(row: Value, n: int, mode: str) -> Value:
    if mode == "wrap":
        return e.remainder(row, full_like(row, n))
    return e.clamp(full_like(row, 0), row, full_like(row, n - 1)) if mode == "clip" else row


@surface(np.tril_indices_from)
def tril_indices_from(arr: ArrayLike, k: int = 0) -> tuple[Any, Any]:
    """The positions at and below the k-th diagonal of a matrix like arr."""
    return np.tril_indices(*_rows_and_k(arr, k))


@surface(np.triu_indices_from)
def triu_indices_from(arr: ArrayLike, k: int = 0) -> tuple[Any, Any]:
    """The positions at and above the k-th diagonal of a matrix like arr."""
    return np.triu_indices(*_rows_and_k(arr, k))


def _rows_and_k(arr: ArrayLike, k: int) -> tuple[int, int, int]:
    shape = aval_of(as_operand(arr, "tril_indices_from")).shape
    if len(shape) != 2:
        raise ShapeError("input array must be 2-d")
    return shape[0], k, shape[1]


@surface(np.fromfunction)
def fromfunction(
    function: Callable[..., Any], shape: Sequence[int], *, dtype: DTypeLike = float, **kwargs: Any
) -> Any:
    """function of the positions along each axis, given as whole arrays."""
    grids = indices.body(shape, dtype)
    return function(*(grids[i] for i in range(len(shape))), **kwargs)
