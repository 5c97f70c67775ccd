"""Linear algebra under the names of numpy.linalg: norms, products, systems and factorisations."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.errors import ShapeError, UnsupportedError
from functrans.ir import aval_of, is_inexact
from functrans.numpy import factorisations
from functrans.numpy.absent import absence
from functrans.numpy.calculus import cross as any_axis_cross
from functrans.numpy.factorisations import matrices
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full_like
from functrans.surface import contraction, creation, reductions, shaping
from functrans.surface.axes import normal_axes
from functrans.surface.declare import surface
from functrans.surface.promotion import FLOAT, INT, cast, stretch, strong
from functrans.surface.reductions import keep_axes, root_or_zero, square_length
from functrans.surface.shaping import array_of, insert_axes
from functrans.typing import ArrayLike, Axes

# -- norms ------------------------------------------------------------------------------------


@surface(np.linalg.norm)
def norm(x: ArrayLike, ord: Any = None, axis: Axes = None, keepdims: bool = False) -> Value:
    """The norm of a vector or matrix; at 0 its derivative is 0.

    Vectors: ord 2 (default), any number, inf, -inf, 0. Matrices: "fro" (default), "nuc",
    1, -1, 2, -2, inf, -inf.
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
        last = p.transpose(x, (*(i for i in range(aval_of(x).ndim) if i not in axes), row, column))
        return keep_axes(_spectral_norm(last, ord), tuple(sorted(axes)), keepdims)
    if ord not in (1, -1, np.inf, -np.inf):
        raise ValueError("Invalid norm order for matrices.")
    summed, kept = (row, column) if abs(ord) == 1 else (column, row)
    sums = p.reduce_sum(e.abs(x), (summed,))
    choose = reductions.max if ord > 0 else reductions.min
    result = choose.body(sums, kept - (kept > summed))
    return keep_axes(result, tuple(sorted(axes)), keepdims)


def _spectral_norm(x: Value, ord: Any) -> Value:
    """The largest, the least or all singular values together."""
    values = factorisations.singular_values(x)
    last = aval_of(values).ndim - 1
    if ord == "nuc":
        return p.reduce_sum(values, (last,))
    return (reductions.max if ord > 0 else reductions.min).body(values, last)


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
    """A square matrix multiplied n times with itself, its inverse where n is negative."""
    a = array_of(a, "matrix_power")
    times = operator.index(n)
    *_, rows, columns = (0, *aval_of(a).shape)
    if aval_of(a).ndim < 2 or rows != columns:
        raise ShapeError(f"matrix_power: a square matrix is needed, but got {aval_of(a)}")
    if times < 0:
        a, times = inv.body(a), -times
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


# -- systems and determinants -----------------------------------------------------------------


@surface(np.linalg.inv)
def inv(a: ArrayLike) -> Value:
    """The inverse of a square matrix, or of each of a stack of them.

    >>> import functrans as ft
    >>> ft.grad(lambda a: inv(a).sum())(np.array([[2.0, 0.0], [0.0, 4.0]]))
    array([[-0.25  , -0.125 ],
           [-0.125 , -0.0625]])
    """
    return factorisations.inverse(matrices(a, "inv", square=True))


@surface(np.linalg.solve)
def solve(a: ArrayLike, b: ArrayLike) -> Value:
    """x with a @ x = b; b is a vector, or has the right sides in its columns.

    >>> import functrans as ft
    >>> a = np.array([[2.0, 1.0], [1.0, 3.0]])
    >>> ft.grad(lambda b: solve(a, b)[0])(np.array([1.0, 2.0]))
    array([ 0.6, -0.2])
    """
    left, right = matrices(a, "solve", square=True), array_of(b, "solve")
    is_vector = aval_of(right).ndim == 1
    right = insert_axes(right, (1,)) if is_vector else right
    left, right = strong(left, right)
    (n, _), (m, count) = aval_of(left).shape[-2:], aval_of(right).shape[-2:]
    if n != m:
        raise ShapeError(f"solve: a has {n} rows and b has {m}; they must have as many")
    lead = np.broadcast_shapes(aval_of(left).shape[:-2], aval_of(right).shape[:-2])
    x = factorisations.solution(stretch(left, (*lead, n, n)), stretch(right, (*lead, n, count)))
    return p.reshape(x, (*lead, n)) if is_vector else x


@surface(np.linalg.det)
def det(a: ArrayLike) -> Value:
    """The determinant of a square matrix; also a singular one has a derivative."""
    return factorisations.determinant(matrices(a, "det", square=True))


@surface(np.linalg.slogdet)
def slogdet(a: ArrayLike) -> tuple[Value, Value]:
    """The sign of the determinant, and the logarithm of its size."""
    return factorisations.sign_and_log(matrices(a, "slogdet", square=True))


@surface(np.linalg.pinv)
def pinv(
    a: ArrayLike, rcond: Any = None, hermitian: bool = False, *, rtol: Any = np._NoValue
) -> Value:
    """The Moore-Penrose inverse, with derivatives where the rank stays what it is."""
    a = matrices(a, "pinv")
    if rcond is None:
        given = 1e-15 if rtol is np._NoValue else rtol
        rcond = max(aval_of(a).shape[-2:]) * _precision(a) if given is None else given
    return factorisations.pseudo_inverse(a, cast(array_of(rcond, "pinv"), FLOAT))


def _precision(a: Value) -> float:
    return float(np.finfo(aval_of(a).dtype).eps)


@surface(np.linalg.lstsq)
def lstsq(a: ArrayLike, b: ArrayLike, rcond: Any = None) -> tuple[Value, Value, Value, Value]:
    """x that makes |b - a x| least, the shortest one; its squares, a's rank and singular values.

    Traced, the squares are there for all matrices of more rows than columns, whatever their rank.
    """
    a, right = strong(matrices(a, "lstsq"), array_of(b, "lstsq"))
    m, n = aval_of(a).shape[-2:]
    least = max(m, n) * _precision(a) if rcond is None else rcond
    x = contraction.matmul.body(pinv.body(a, max(least, 0)), right)
    rest = right - contraction.matmul.body(a, x)
    squares = p.reduce_sum(square_length(rest), (0,))
    squares = shaping.atleast_1d.body(squares)
    squares = squares if m > n else squares[:0]
    values = factorisations.singular_values(a)
    return x, squares, cast(_count_above(values, least), np.dtype(np.int32)), values


def _count_above(values: Value, least: Any) -> Value:
    """How many singular values are larger than so many times the largest."""
    bound = stretch(values[..., :1] * least, aval_of(values).shape)
    return p.reduce_sum(cast(e.gt(values, bound), INT), (aval_of(values).ndim - 1,))


@surface(np.linalg.matrix_rank)
def matrix_rank(
    A: ArrayLike, tol: Any = None, hermitian: bool = False, *, rtol: Any = None
) -> Value:
    """How many singular values are above `tol`, by default what rounding makes of zeros."""
    values = factorisations.singular_values(matrices(A, "matrix_rank"))
    if tol is None:
        shape = aval_of(array_of(A, "matrix_rank")).shape
        return _count_above(values, max(shape[-2:]) * _precision(values) if rtol is None else rtol)
    bound = cast(array_of(tol, "matrix_rank"), aval_of(values).dtype)
    bound = stretch(insert_axes(bound, (aval_of(bound).ndim,)), aval_of(values).shape)
    above = e.gt(values, bound)
    return p.reduce_sum(cast(above, INT), (aval_of(values).ndim - 1,))


@surface(np.linalg.cond)
def cond(x: ArrayLike, p: Any = None) -> Value:
    """How much relative errors of a right side may grow in the solution of a system."""
    x = matrices(x, "cond", square=p not in (None, 2, -2))
    if p in (None, 2, -2):
        values = factorisations.singular_values(x)
        first, last = values[..., 0], values[..., -1]
        return last / first if p == -2 else first / last
    return matrix_norm.body(x, ord=p) * matrix_norm.body(inv.body(x), ord=p)


@surface(np.linalg.tensorsolve)
def tensorsolve(a: ArrayLike, b: ArrayLike, axes: Any = None) -> Value:
    """x with tensordot(a, x, x.ndim) = b; `axes` of a go to the end first."""
    a, right = array_of(a, "tensorsolve"), array_of(b, "tensorsolve")
    if axes is not None:
        a = shaping.moveaxis.body(a, axes, range(-len(axes), 0))
    shape = aval_of(a).shape[aval_of(right).ndim :]
    size = aval_of(right).size
    x = solve.body(p.reshape(a, (size, size)), p.reshape(right, (size,)))
    return p.reshape(x, shape)


@surface(np.linalg.tensorinv)
def tensorinv(a: ArrayLike, ind: int = 2) -> Value:
    """What tensorsolve multiplies b by, where b has the first `ind` axes of a."""
    a = array_of(a, "tensorinv")
    if ind <= 0:
        raise ValueError("Invalid ind argument.")
    first, rest = aval_of(a).shape[:ind], aval_of(a).shape[ind:]
    size = int(np.prod(first))
    return p.reshape(inv.body(p.reshape(a, (size, size))), (*rest, *first))


# -- factorisations ---------------------------------------------------------------------------


@surface(np.linalg.cholesky)
def cholesky(a: ArrayLike, /, *, upper: bool = False) -> Value:
    """L, lower triangular, with a = L L^H; with `upper` its adjoint.

    The values depend on the lower triangle, or the upper one, the derivatives on both alike.
    """
    a = matrices(a, "cholesky", square=True)
    if not upper:
        return factorisations.cholesky_factor(a)
    return factorisations.adjoint(factorisations.cholesky_factor(factorisations.adjoint(a)))


@surface(np.linalg.qr)
def qr(a: ArrayLike, mode: str = "reduced") -> Any:
    """q with orthonormal columns and r, upper triangular, whose product is a.

    Modes: "reduced", "complete", "r". The first and the last have derivatives.
    """
    a = matrices(a, "qr")
    if mode not in ("reduced", "complete", "r"):
        raise UnsupportedError(f"qr: mode must be 'reduced', 'complete' or 'r', but is {mode!r}")
    rows, columns = aval_of(a).shape[-2:]
    if mode == "complete" and rows > columns:
        return factorisations.complete_qr(a)
    last = aval_of(a).ndim - 1
    q, r = factorisations.tall_qr(p.slice_axis(a, last, 0, min(rows, columns)))
    if columns > rows:
        rest = p.slice_axis(a, last, rows, columns)
        r = p.concatenate([r, factorisations.matmul(factorisations.adjoint(q), rest)], last)
    return r if mode == "r" else (q, r)


@surface(np.linalg.eigh)
def eigh(a: ArrayLike, UPLO: str = "L") -> tuple[Value, Value]:
    """Eigenvalues, increasing, and eigenvectors of a Hermitian matrix."""
    a = matrices(a, "eigh", square=True)
    found = factorisations.hermitian_eigen.get(UPLO.upper())
    if found is None:
        raise ValueError("UPLO argument must be 'L' or 'U'")
    return found(a)


@surface(np.linalg.eigvalsh)
def eigvalsh(a: ArrayLike, UPLO: str = "L") -> Value:
    """The eigenvalues of a Hermitian matrix, increasing."""
    return eigh.body(a, UPLO)[0]


@surface(np.linalg.eig)
def eig(a: ArrayLike) -> tuple[Value, Value]:
    """Eigenvalues and eigenvectors of a square matrix; traced ones are complex."""
    return factorisations.eigen(matrices(a, "eig", square=True))


@surface(np.linalg.eigvals)
def eigvals(a: ArrayLike) -> Value:
    """The eigenvalues of a square matrix; traced ones are complex."""
    return eig.body(a)[0]


@surface(np.linalg.svd)
def svd(
    a: ArrayLike, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> Any:
    """u, s, vh with a = u diag(s) vh, singular values decreasing; without `compute_uv` s alone.

    Vectors have derivatives with full_matrices=False, and where a is square.
    """
    a = matrices(a, "svd")
    rows, columns = aval_of(a).shape[-2:]
    if not compute_uv:
        return factorisations.singular_values(a)
    thin = rows == columns or not full_matrices
    return (factorisations.thin_svd if thin else factorisations.full_svd)(a)


@surface(np.linalg.svdvals)
def svdvals(x: ArrayLike, /) -> Value:
    """The singular values, decreasing."""
    return factorisations.singular_values(matrices(x, "svdvals"))


@surface(np.linalg.cross)
def cross(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1) -> Value:
    """The cross product of vectors of length 3."""
    return any_axis_cross.body(x1, x2, axis=axis)


__all__ = [
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "lstsq",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "tensorinv",
    "tensorsolve",
    "trace",
    "vecdot",
    "vector_norm",
]


def __getattr__(name: str) -> Any:
    raise absence(__name__, name, np.linalg)
