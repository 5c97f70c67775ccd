"""Factorisations by NumPy's LAPACK, as operations whose derivatives are matrix products.

What LAPACK computes is one call on a whole stack of matrices. Invariant: rules are written in
operations that can be traced, so that they have derivatives in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.api.custom_jvp import custom_jvp
from functrans.errors import ShapeError
from functrans.ir import Aval, aval_of, is_inexact
from functrans.lax.solving import custom_linear_solve
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.callbacks import pure_callback
from functrans.primitives.derive import Value, full_like
from functrans.primitives.factorisations import Factorisation
from functrans.surface import contraction, creation, reductions, shaping
from functrans.surface.promotion import FLOAT, cast, stretch
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike

Tangent = Any
Shape = tuple[int, ...]


def matrices(a: ArrayLike, name: str, *, square: bool = False) -> Value:
    """An operand as a stack of matrices of an inexact dtype."""
    a = array_of(a, name)
    *_, rows, columns = (0, 0, *aval_of(a).shape)
    if aval_of(a).ndim < 2:
        raise ShapeError(f"{name}: a matrix, or a stack of them, is needed, but got {aval_of(a)}")
    if square and rows != columns:
        raise ShapeError(f"{name}: square matrices are needed, but got {aval_of(a)}")
    return a if is_inexact(aval_of(a).dtype) else cast(a, FLOAT)


def real_dtype(a: Value) -> np.dtype[Any]:
    """The dtype of the parts of a's elements."""
    return np.finfo(aval_of(a).dtype).dtype


def complex_dtype(a: Value) -> np.dtype[Any]:
    """The dtype of complex numbers with parts like a's."""
    return np.result_type(aval_of(a).dtype, np.complex64)


def _lapack(name: str, results: Sequence[tuple[Shape, Any]], *operands: Value) -> Any:
    """What a factorisation gives for stacks of matrices, as a tuple, or alone where it is one."""
    announced = tuple([Aval(shape, np.dtype(dtype)) for shape, dtype in results])
    found = pure_callback(operands, Factorisation(name), announced, "broadcast_all")
    return found[0] if len(found) == 1 else tuple(found)


def real_part(a: Value) -> Value:
    """The real part, which is all of a real operand."""
    return p.real(a) if aval_of(a).dtype.kind == "c" else a


def conjugate(a: Value) -> Value:
    """The conjugate, which is the operand where it is real."""
    return e.conj(a) if aval_of(a).dtype.kind == "c" else a


def adjoint(a: Value) -> Value:
    """The matrices transposed and conjugated."""
    return conjugate(shaping.matrix_transpose.body(a))


def matmul(*factors: Value) -> Value:
    """The product of all, from left to right."""
    result = factors[0]
    for factor in factors[1:]:
        result = contraction.matmul.body(result, factor)
    return result


def diagonal(a: Value) -> Value:
    """The main diagonals."""
    return creation.diagonal.body(a, 0, -2, -1)


def total(a: Value) -> Value:
    """The sum over each matrix."""
    ndim = aval_of(a).ndim
    return p.reduce_sum(a, (ndim - 2, ndim - 1))


def rows(v: Value) -> Value:
    """Vectors as matrices of one row, to broadcast over all rows."""
    return p.reshape(v, (*aval_of(v).shape[:-1], 1, aval_of(v).shape[-1]))


def columns(v: Value) -> Value:
    """Vectors as matrices of one column, to broadcast over all columns."""
    return p.reshape(v, (*aval_of(v).shape, 1))


def _inverse_gaps(gaps: Value) -> Value:
    """1 / gaps, but 0 where there is none: between equal values, as on the diagonal."""
    none = e.eq(gaps, full_like(gaps, 0))
    return p.select(none, full_like(gaps, 0), 1 / p.select(none, full_like(gaps, 1), gaps))


def _lower(a: Value, k: int) -> Value:
    return creation.tril.body(a, k)


def _symmetric(a: Value) -> Value:
    """The Hermitian part, which is all that functions of Hermitian matrices depend on."""
    return (a + adjoint(a)) / 2


# -- inverses and determinants ----------------------------------------------------------------


@custom_jvp
def inverse(a: Value) -> Value:
    """The inverses of square matrices."""
    return _lapack("inverse", [(aval_of(a).shape, aval_of(a).dtype)], a)


inverse.defjvps(lambda t, out, a: -matmul(out, t, out))


def solution(a: Value, b: Value) -> Value:
    """x with a x = b, of stacks of matrices of the same leading shape."""
    result = [(aval_of(b).shape, aval_of(b).dtype)]
    turned = shaping.matrix_transpose.body(a)
    return custom_linear_solve(
        lambda x: matmul(a, x),
        b,
        lambda _, right: _lapack("solution", result, a, right),
        lambda _, right: _lapack("solution", result, turned, right),
    )


@custom_jvp
def sign_and_log(a: Value) -> tuple[Value, Value]:
    """The sign of determinants, and the logarithm of their size."""
    lead = aval_of(a).shape[:-2]
    return _lapack("sign_and_log", [(lead, aval_of(a).dtype), (lead, real_dtype(a))], a)


@sign_and_log.defjvp
def _sign_and_log_jvp(primals: tuple[Value], tangents: tuple[Tangent]) -> Any:
    (a,), (t,) = primals, tangents
    sign, log = sign_and_log(a)
    change = total(shaping.matrix_transpose.body(inverse(a)) * t)
    if aval_of(a).dtype.kind != "c":
        return (sign, log), (full_like(sign, 0), change)
    turn = p.complex(full_like(log, 0), p.imag(change))
    return (sign, log), (sign * turn, real_part(change))


@custom_jvp
def cofactors(a: Value) -> Value:
    """The derivatives of determinants with respect to each element.

    By singular values, so that singular matrices have them too.
    """
    u, s, vh = thin_svd(a)
    n = aval_of(s).shape[-1]
    each = stretch(rows(s), aval_of(a).shape)
    unit = stretch(creation.eye.body(n, dtype=np.dtype(bool)), aval_of(a).shape)
    others = reductions.prod.body(p.select(unit, full_like(each, 1), each), -1)
    turns = determinant(u) * determinant(vh)
    left = conjugate(u) * cast(rows(others), aval_of(a).dtype)
    return turns[..., None, None] * matmul(left, conjugate(vh))


def _cofactors_rule(t: Tangent, out: Value, a: Value) -> Value:
    turned = shaping.matrix_transpose.body(inverse(a))
    change = total(turned * t)[..., None, None]
    return out * change - matmul(out, shaping.matrix_transpose.body(t), turned)


cofactors.defjvps(_cofactors_rule)


@custom_jvp
def determinant(a: Value) -> Value:
    """The determinants of square matrices."""
    return _lapack("determinant", [(aval_of(a).shape[:-2], aval_of(a).dtype)], a)


determinant.defjvps(lambda t, out, a: total(cofactors(a) * t))


@custom_jvp
def pseudo_inverse(a: Value, rcond: Value) -> Value:
    """The Moore-Penrose inverses, singular values below rcond times the largest taken for zero."""
    u, s, vh = thin_svd(a)
    largest = reductions.max.body(s, -1, keepdims=True)
    least = cast(rcond, aval_of(s).dtype)
    least = least if aval_of(least).ndim == 0 else columns(least)
    counts = e.gt(s, stretch(least * largest, aval_of(s).shape))
    zero = full_like(s, 0)
    inverses = p.select(counts, 1 / p.select(counts, s, full_like(s, 1)), zero)
    return matmul(adjoint(vh), cast(columns(inverses), aval_of(a).dtype) * adjoint(u))


def _pseudo_inverse_rule(t: Tangent, out: Value, a: Value, rcond: Value) -> Value:
    """Where the rank is constant: Golub, Pereyra, The differentiation of pseudo-inverses, 1973."""
    del rcond
    left = matmul(out, adjoint(out), adjoint(t))
    right = matmul(adjoint(t), adjoint(out), out)
    beyond = left - matmul(left, a, out) + right - matmul(out, a, right)
    return beyond - matmul(out, t, out)


pseudo_inverse.defjvps(_pseudo_inverse_rule, None)


# -- factors ----------------------------------------------------------------------------------


@custom_jvp
def cholesky_factor(a: Value) -> Value:
    """L, lower triangular, with a = L L^H; the lower triangle of a is read."""
    return _lapack("cholesky", [(aval_of(a).shape, aval_of(a).dtype)], a)


def _cholesky_rule(t: Tangent, out: Value, a: Value) -> Value:
    undone = inverse(out)
    change = matmul(undone, _symmetric(t), adjoint(undone))
    return matmul(out, (_lower(change, 0) + _lower(change, -1)) / 2)


cholesky_factor.defjvps(_cholesky_rule)


@custom_jvp
def tall_qr(a: Value) -> tuple[Value, Value]:
    """q with orthonormal columns and r, upper triangular, of matrices no wider than tall."""
    *lead, m, n = aval_of(a).shape
    dtype = aval_of(a).dtype
    return _lapack("qr", [((*lead, m, n), dtype), ((*lead, n, n), dtype)], a)


@tall_qr.defjvp
def _tall_qr_jvp(primals: tuple[Value], tangents: tuple[Tangent]) -> Any:
    (a,), (t,) = primals, tangents
    q, r = tall_qr(a)
    change = matmul(t, inverse(r))
    inside = matmul(adjoint(q), change)
    lower = _lower(inside, -1)
    turn = lower - adjoint(lower)
    if aval_of(a).dtype.kind == "c":
        unit = creation.eye.body(aval_of(r).shape[-1], dtype=real_dtype(a))
        phase = p.imag(inside) * unit
        turn = turn + p.complex(full_like(phase, 0), phase)
    return (q, r), (matmul(q, turn - inside) + change, matmul(inside - turn, r))


def complete_qr(a: Value) -> tuple[Value, Value]:
    """q square and unitary, for matrices taller than wide; it has no derivative."""
    *lead, m, n = aval_of(a).shape
    dtype = aval_of(a).dtype
    return _lapack("complete_qr", [((*lead, m, m), dtype), ((*lead, m, n), dtype)], a)


def _hermitian_eigen(name: str) -> Any:
    """Eigenvalues, increasing, and eigenvectors of Hermitian matrices, as `name` finds them."""

    @custom_jvp
    def eigen(a: Value) -> tuple[Value, Value]:
        shape, dtype = aval_of(a).shape, aval_of(a).dtype
        return _lapack(name, [(shape[:-1], real_dtype(a)), (shape, dtype)], a)

    @eigen.defjvp
    def rule(primals: tuple[Value], tangents: tuple[Tangent]) -> Any:
        (a,), (t,) = primals, tangents
        w, v = eigen(a)
        change = matmul(adjoint(v), _symmetric(t), v)
        v_dot = matmul(v, change * _inverse_gaps(rows(w) - columns(w)))
        return (w, v), (real_part(diagonal(change)), v_dot)

    del rule
    return eigen


hermitian_eigen = {"L": _hermitian_eigen("lower_eigh"), "U": _hermitian_eigen("upper_eigh")}
"""By the triangle that is read. The derivatives of vectors leave out pairs of equal values, between
which they are not unique."""


@custom_jvp
def eigen(a: Value) -> tuple[Value, Value]:
    """Eigenvalues and eigenvectors of length 1 of square matrices, complex ones."""
    shape, dtype = aval_of(a).shape, complex_dtype(a)
    return _lapack("eig", [(shape[:-1], dtype), (shape, dtype)], a)


@eigen.defjvp
def _eigen_jvp(primals: tuple[Value], tangents: tuple[Tangent]) -> Any:
    (a,), (t,) = primals, tangents
    w, v = eigen(a)
    change = matmul(inverse(v), cast(t, aval_of(v).dtype), v)
    v_dot = matmul(v, change * _inverse_gaps(rows(w) - columns(w)))
    ndim = aval_of(v).ndim
    growth = real_part(p.reduce_sum(e.conj(v) * v_dot, (ndim - 2,)))
    return (w, v), (diagonal(change), v_dot - v * rows(growth))


@custom_jvp
def thin_svd(a: Value) -> tuple[Value, Value, Value]:
    """u, s, vh with a = u diag(s) vh, as many singular values as the shorter side is long."""
    *lead, m, n = aval_of(a).shape
    k, dtype = min(m, n), aval_of(a).dtype
    shapes = [((*lead, m, k), dtype), ((*lead, k), real_dtype(a)), ((*lead, k, n), dtype)]
    return _lapack("svd", shapes, a)


@thin_svd.defjvp
def _thin_svd_jvp(primals: tuple[Value], tangents: tuple[Tangent]) -> Any:
    (a,), (t,) = primals, tangents
    u, s, vh = thin_svd(a)
    v = adjoint(vh)
    change = matmul(adjoint(u), t, v)
    # Of s[j]^2 - s[i]^2, which rounding makes 0 on the diagonal only in this form.
    gaps = _inverse_gaps((rows(s) - columns(s)) * (rows(s) + columns(s)))
    u_dot = matmul(u, gaps * (change * rows(s) + columns(s) * adjoint(change)))
    v_dot = matmul(v, gaps * (columns(s) * change + adjoint(change) * rows(s)))
    if aval_of(a).dtype.kind == "c":
        # Of the two phases that turn together the left one moves.
        phase = p.imag(diagonal(change)) / s
        u_dot = u_dot + u * rows(p.complex(full_like(phase, 0), phase))
    outside_u = matmul(t, v) / rows(s)
    outside_v = matmul(adjoint(t), u) / rows(s)
    u_dot = u_dot + outside_u - matmul(u, adjoint(u), outside_u)
    v_dot = v_dot + outside_v - matmul(v, adjoint(v), outside_v)
    return (u, s, vh), (u_dot, real_part(diagonal(change)), adjoint(v_dot))


def singular_values(a: Value) -> Value:
    """The singular values, decreasing."""
    return _values(a)


@custom_jvp
def _values(a: Value) -> Value:
    *lead, m, n = aval_of(a).shape
    return _lapack("singular_values", [((*lead, min(m, n)), real_dtype(a))], a)


def _values_rule(t: Tangent, out: Value, a: Value) -> Value:
    u, _, vh = thin_svd(a)
    return real_part(diagonal(matmul(adjoint(u), t, adjoint(vh))))


_values.defjvps(_values_rule)


def full_svd(a: Value) -> tuple[Value, Value, Value]:
    """u and vh square, for matrices that are not; the vectors have no derivative."""
    *lead, m, n = aval_of(a).shape
    dtype = aval_of(a).dtype
    shapes = [((*lead, m, m), dtype), ((*lead, min(m, n)), real_dtype(a)), ((*lead, n, n), dtype)]
    return _lapack("full_svd", shapes, a)
