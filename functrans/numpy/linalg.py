"""Linear algebra that needs no factorisation: norms and the matrix products of numpy.linalg."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.errors import ShapeError, UnsupportedError
from functrans.ir import aval_of, is_inexact
from functrans.numpy.absent import absence
from functrans.numpy.calculus import cross as any_axis_cross
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full_like
from functrans.surface import contraction, creation, reductions, shaping
from functrans.surface.axes import normal_axes
from functrans.surface.declare import surface
from functrans.surface.promotion import FLOAT, cast, stretch
from functrans.surface.reductions import keep_axes, root_or_zero, square_length
from functrans.surface.shaping import array_of, insert_axes
from functrans.typing import ArrayLike, Axes

# -- norms ------------------------------------------------------------------------------------


@surface(np.linalg.norm)
def norm(x: ArrayLike, ord: Any = None, axis: Axes = None, keepdims: bool = False) -> Value:
    """The norm of a vector or matrix; at 0 its derivative is 0.

    Vectors: ord 2 (default), any number, inf, -inf, 0. Matrices: "fro" (default), 1, -1, inf, -inf.
    """
    x = _inexact(x, "norm")
    ndim = aval_of(x).ndim
    if axis is None and (ord is None or (ord == 2 and ndim == 1)):
        flat = p.reshape(x, (aval_of(x).size,))
        return keep_axes(_length(flat, (0,)), tuple(range(ndim)) if keepdims else (), keepdims)
    axes = normal_axes(axis, ndim, "norm")
    if len(axes) == 1:
        return _vector_norm(x, ord, axes, keepdims)
    if len(axes) == 2:
        return _matrix_norm(x, ord, axes, keepdims)
    raise ShapeError("Improper number of dimensions to norm.")


def _inexact(x: ArrayLike, name: str) -> Value:
    x = array_of(x, name)
    return x if is_inexact(aval_of(x).dtype) else cast(x, FLOAT)


def _length(x: Value, axes: tuple[int, ...]) -> Value:
    """The square root of the sum of squares."""
    return root_or_zero(p.reduce_sum(square_length(x), axes))


def _vector_norm(x: Value, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Value:
    if isinstance(ord, str):
        raise ValueError(f"Invalid norm order '{ord}' for vectors")
    if ord is None or ord == 2:
        return keep_axes(_length(x, axes), axes, keepdims)
    size = e.abs(x)
    if ord == np.inf:
        return reductions.max.body(size, axes, keepdims=keepdims)
    if ord == -np.inf:
        return reductions.min.body(size, axes, keepdims=keepdims)
    if ord == 0:
        nonzero = cast(e.ne(size, full_like(size, 0)), aval_of(size).dtype)
        return keep_axes(p.reduce_sum(nonzero, axes), axes, keepdims)
    if ord == 1:
        return keep_axes(p.reduce_sum(size, axes), axes, keepdims)
    return keep_axes(_power_norm(size, ord, axes), axes, keepdims)


def _power_norm(size: Value, ord: Any, axes: tuple[int, ...]) -> Value:
    """(sum of size ** ord) ** (1 / ord), constant where the sum is 0."""
    powers = e.pow(size, full_like(size, float(ord)))
    total = p.reduce_sum(powers, axes)
    zero = e.eq(total, full_like(total, 0))
    root = e.pow(p.select(zero, full_like(total, 1), total), full_like(total, 1 / float(ord)))
    return p.select(zero, full_like(total, 0 if ord > 0 else np.inf), root)


def _matrix_norm(x: Value, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Value:
    row, column = axes
    if ord in (None, "fro", "f"):
        return keep_axes(_length(x, axes), tuple(sorted(axes)), keepdims)
    if ord in (2, -2, "nuc"):
        raise UnsupportedError(
            f"norm: ord={ord!r} of a matrix needs its singular values, which are not available; "
            "use 'fro', 1, -1, inf or -inf"
        )
    if ord not in (1, -1, np.inf, -np.inf):
        raise ValueError("Invalid norm order for matrices.")
    summed, kept = (row, column) if abs(ord) == 1 else (column, row)
    sums = p.reduce_sum(e.abs(x), (summed,))
    choose = reductions.max if ord > 0 else reductions.min
    result = choose.body(sums, kept - (kept > summed))
    return keep_axes(result, tuple(sorted(axes)), keepdims)


@surface(np.linalg.vector_norm)
def vector_norm(
    x: ArrayLike, /, *, axis: Axes = None, keepdims: bool = False, ord: Any = 2
) -> Value:
    """The norm of vectors along the axes, or of all elements."""
    x = _inexact(x, "vector_norm")
    axes = normal_axes(axis, aval_of(x).ndim, "vector_norm")
    return _vector_norm(x, ord, axes, keepdims)


@surface(np.linalg.matrix_norm)
def matrix_norm(x: ArrayLike, /, *, keepdims: bool = False, ord: Any = "fro") -> Value:
    """The norm of the matrices in the last two axes."""
    x = _inexact(x, "matrix_norm")
    return _matrix_norm(x, ord, normal_axes((-2, -1), aval_of(x).ndim, "matrix_norm"), keepdims)


# -- products ---------------------------------------------------------------------------------


@surface(np.linalg.matmul)
def matmul(x1: ArrayLike, x2: ArrayLike, /) -> Value:
    """The matrix product."""
    return contraction.matmul.body(x1, x2)


@surface(np.linalg.outer)
def outer(x1: ArrayLike, x2: ArrayLike, /) -> Value:
    """Every product of an element of x1 with one of x2, both one-dimensional."""
    if aval_of(array_of(x1, "outer")).ndim != 1 or aval_of(array_of(x2, "outer")).ndim != 1:
        raise ShapeError("outer: input arrays must be one-dimensional")
    return contraction.outer.body(x1, x2)


@surface(np.linalg.tensordot)
def tensordot(x1: ArrayLike, x2: ArrayLike, /, *, axes: Any = 2) -> Value:
    """The product summed over pairs of axes."""
    return contraction.tensordot.body(x1, x2, axes)


@surface(np.linalg.vecdot)
def vecdot(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1) -> Value:
    """The inner products along one axis, the first operand conjugated."""
    return contraction.vecdot.body(x1, x2, axis=axis)


@surface(np.linalg.matrix_transpose)
def matrix_transpose(x: ArrayLike, /) -> Value:
    """x with its last two axes exchanged."""
    return shaping.matrix_transpose.body(x)


@surface(np.linalg.diagonal)
def diagonal(x: ArrayLike, /, *, offset: int = 0) -> Value:
    """The diagonals of the matrices in the last two axes."""
    return creation.diagonal.body(x, offset, -2, -1)


@surface(np.linalg.trace)
def trace(x: ArrayLike, /, *, offset: int = 0, dtype: Any = None) -> Value:
    """The sums of the diagonals of the matrices in the last two axes."""
    return contraction.trace.body(x, offset, -2, -1, dtype)


@surface(np.linalg.multi_dot)
def multi_dot(arrays: Sequence[ArrayLike]) -> Value:
    """The product of several matrices, in the order that needs the fewest multiplications."""
    items = [array_of(a, "multi_dot") for a in arrays]
    if len(items) < 2:
        raise ValueError("Expecting at least two arrays.")
    ends = [aval_of(items[0]).ndim == 1, aval_of(items[-1]).ndim == 1]
    items[0] = insert_axes(items[0], (0,)) if ends[0] else items[0]
    items[-1] = insert_axes(items[-1], (1,)) if ends[1] else items[-1]
    sizes = [aval_of(items[0]).shape[0], *(aval_of(x).shape[1] for x in items)]
    result = _chain(items, _best_splits(sizes), 0, len(items) - 1)
    return p.reshape(
        result,
        tuple(n for n, lost in zip(aval_of(result).shape, ends, strict=True) if not lost),
    )


def _best_splits(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """Where to split each run of matrices, by dynamic programming over runs."""
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    split: dict[tuple[int, int], int] = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            options = [
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            ]
            cost[i, j], split[i, j] = min(options)
    return split


def _chain(items: Sequence[Value], split: dict[tuple[int, int], int], i: int, j: int) -> Value:
    if i == j:
        return items[i]
    k = split[i, j]
    return contraction.matmul.body(_chain(items, split, i, k), _chain(items, split, k + 1, j))


@surface(np.linalg.matrix_power)
def matrix_power(a: ArrayLike, n: int) -> Value:
    """A square matrix multiplied n times with itself; n is not negative."""
    a = array_of(a, "matrix_power")
    times = operator.index(n)
    *_, rows, columns = (0, *aval_of(a).shape)
    if aval_of(a).ndim < 2 or rows != columns:
        raise ShapeError(f"matrix_power: a square matrix is needed, but got {aval_of(a)}")
    if times < 0:
        raise UnsupportedError("matrix_power: a negative power needs an inverse, not available")
    if times == 0:
        unit = cast(creation.eye.body(rows), aval_of(a).dtype)
        return stretch(unit, aval_of(a).shape)
    result, square = None, a
    while times:
        if times & 1:
            result = square if result is None else contraction.matmul.body(result, square)
        times >>= 1
        square = contraction.matmul.body(square, square) if times else square
    return result


@surface(np.linalg.cross)
def cross(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1) -> Value:
    """The cross product of vectors of length 3."""
    return any_axis_cross.body(x1, x2, axis=axis)


__all__ = [
    "cross",
    "diagonal",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]


def __getattr__(name: str) -> Any:
    raise absence(__name__, name, np.linalg)
