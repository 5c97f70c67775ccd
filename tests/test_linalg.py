"""Systems, determinants and factorisations: values, derivatives of two orders, batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans.errors import ShapeError, UnsupportedError
from functrans.test_util import check_grads
from tests.lanes import one_in

la = fnp.linalg
RNG = np.random.default_rng(0)
S = RNG.standard_normal((3, 3)) + 2 * np.eye(3)
Z = S + 1j * RNG.standard_normal((3, 3))
TALL, WIDE = RNG.standard_normal((4, 2)), RNG.standard_normal((2, 4))
COMPLEX_TALL = TALL + 1j * RNG.standard_normal((4, 2))
V, M = RNG.standard_normal(3), RNG.standard_normal((3, 2))


def adjoint(a: Any) -> Any:
    return fnp.conj(fnp.swapaxes(a, -1, -2))


def positive(a: Any) -> Any:
    """A Hermitian positive matrix of any square one."""
    return a @ adjoint(a) + np.eye(3)


def projected(w: Any, v: Any) -> Any:
    """What does not depend on the phases of vectors."""
    return v * (1 + fnp.arange(w.shape[-1]))[..., None, :] @ adjoint(v)


def weighted(u: Any, s: Any, vh: Any) -> Any:
    return u * (1 + fnp.arange(s.shape[-1]))[..., None, :] @ vh


PROGRAMS: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...]]] = {
    "inv": (la.inv, (S, Z)),
    "solve": (lambda a: la.solve(a, V + a[0]), (S, Z)),
    "solve of columns": (lambda a: la.solve(a, M * a[:, :1]), (S, Z)),
    "det": (la.det, (S, Z)),
    "slogdet": (la.slogdet, (S,)),
    "slogdet of complex": (lambda a: la.slogdet(a)[1], (Z,)),
    "cholesky": (lambda a: la.cholesky(positive(a)), (S, Z)),
    "upper cholesky": (lambda a: la.cholesky(positive(a), upper=True), (S, Z)),
    "qr": (la.qr, (S, Z, TALL, WIDE, COMPLEX_TALL)),
    "r": (lambda a: la.qr(a, "r"), (TALL,)),
    "eigh": (lambda a: la.eigh(a + adjoint(a)), (S,)),
    "eigh of complex": (lambda a: projected(*la.eigh(a + adjoint(a))), (S, Z)),
    "eigvalsh": (lambda a: la.eigvalsh(a + adjoint(a), "U"), (S, Z)),
    "eigvals": (lambda a: la.eigvals(a) + 0j, (S, Z)),
    "eig": (lambda a: abs(la.eig(a)[1]), (S, Z)),
    "svd": (lambda a: la.svd(a, full_matrices=False), (S, TALL, WIDE)),
    "square svd": (la.svd, (S,)),
    "svd of complex": (lambda a: weighted(*la.svd(a, False)), (TALL, Z, COMPLEX_TALL)),
    "svdvals": (la.svdvals, (S, Z, TALL, WIDE)),
    "pinv": (la.pinv, (S, Z, TALL, WIDE, COMPLEX_TALL)),
    "lstsq": (lambda a: la.lstsq(a, a[:, 0] * V[0] + 1)[0], (TALL, WIDE, COMPLEX_TALL)),
    "squares": (lambda a: la.lstsq(a, RNG_RIGHT)[1], (TALL,)),
    "norm 2": (lambda a: la.norm(a, 2), (S, TALL, Z)),
    "norm -2": (lambda a: la.matrix_norm(a, ord=-2, keepdims=True), (S, WIDE)),
    "nuclear norm": (lambda a: la.norm(a, "nuc"), (S, TALL)),
    "cond": (la.cond, (S, TALL)),
    "cond 1": (lambda a: la.cond(a, 1), (S,)),
    "negative power": (lambda a: la.matrix_power(a, -2), (S, Z)),
    "tensorsolve": (lambda a: la.tensorsolve(a.reshape(3, 3, 1), V), (S,)),
    "tensorinv": (lambda a: la.tensorinv(a.reshape(3, 3, 1), 1), (S,)),
}
RNG_RIGHT = RNG.standard_normal((4, 2))
EACH = [(name, k) for name, (_, inputs) in PROGRAMS.items() for k in range(len(inputs))]


@pytest.mark.parametrize(("name", "k"), EACH)
def test_derivatives(name: str, k: int) -> None:
    """Compared with differences and each other, up to the second order."""
    f, inputs = PROGRAMS[name]
    a = inputs[k]
    parts = [part for part in (a.real, a.imag) if part.any()]

    def of_parts(*parts: Any) -> Any:
        """In real numbers: most functions of complex matrices are not complex differentiable."""
        found = ft.tree.leaves(f(parts[0] + 1j * parts[1] if len(parts) == 2 else parts[0]))
        return [x for y in found for x in ((y.real, y.imag) if y.dtype.kind == "c" else (y,))]

    check_grads(of_parts, parts, order=2, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "k"), one_in(2, ((f"{name}-{k}", (name, k)) for name, k in EACH)))
def test_compiled_and_batched(name: str, k: int) -> None:
    """Values are NumPy's; compiled derivatives are those of the evaluator; members are alone."""
    f, inputs = PROGRAMS[name]
    a = inputs[k]

    def same(found: Any, expected: Any) -> None:
        for x, y in zip(ft.tree.leaves(found), ft.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-9)

    def loss(a: Any) -> Any:
        return sum((abs(x) ** 2 * (1 + fnp.arange(x.size)).reshape(x.shape)).sum() for x in
                   ft.tree.leaves(f(a)))  # fmt: skip

    same(ft.jit(f)(a), f(a))
    gradient = ft.grad(loss)
    same(ft.jit(gradient)(a), gradient(a))
    stack = np.stack([a, 0.5 * a, a + 0.25])
    same(ft.vmap(gradient)(stack), np.stack([gradient(x) for x in stack]))
    same(ft.jit(ft.vmap(f))(stack), ft.tree.map(lambda *xs: np.stack(xs), *map(f, stack)))


def test_singular_matrices_have_determinants_with_derivatives() -> None:
    a = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 1.0]])
    check_grads(la.det, (a,), order=1, atol=1e-6, rtol=1e-6)
    assert np.all(ft.grad(la.det)(np.zeros((3, 3))) == 0)


def test_ranks_and_full_factors() -> None:
    a = np.outer(V, V)
    stack = np.stack([a, np.eye(3), np.zeros((3, 3))])
    for tol in (None, 0.5, np.array([0.5, 2.0, 0.1])):
        found = ft.jit(lambda a, t=tol: la.matrix_rank(a, t))(stack)
        np.testing.assert_array_equal(found, np.linalg.matrix_rank(stack, tol))
    for f in (lambda a: la.qr(a, "complete"), la.svd, lambda a: la.lstsq(a, V[:2] if
              a.shape[0] == 2 else RNG_RIGHT)):  # fmt: skip
        for x in (TALL, WIDE):
            for found, expected in zip(ft.jit(f)(x), f(x), strict=True):
                np.testing.assert_allclose(found, expected, atol=1e-12)


def test_equal_eigenvalues_leave_finite_derivatives() -> None:
    """Of functions of the values, and of all vectors together."""
    for f in (lambda a: la.eigvalsh(a).sum(), lambda a: la.svdvals(a).sum()):
        np.testing.assert_allclose(ft.jit(ft.grad(f))(np.eye(3)), np.eye(3), atol=1e-15)


def test_dtypes_stay() -> None:
    for f in (la.inv, la.det, la.cholesky, la.svdvals, la.eigvalsh, lambda a: la.solve(a, a)):
        for dtype in (np.float32, np.int64):
            a = 2 * np.eye(2, dtype=dtype)
            assert ft.jit(f)(a).dtype == f(a).dtype
            np.testing.assert_allclose(ft.jit(f)(a), f(a))


@pytest.mark.parametrize(
    ("f", "a", "error", "text"),
    [
        (la.inv, TALL, ShapeError, r"inv: square matrices are needed, but got f64\[4,2\]"),
        (la.det, V, ShapeError, r"det: a matrix, or a stack of them, is needed, but got f64\[3\]"),
        (lambda a: la.solve(a, TALL), S, ShapeError, "solve: a has 3 rows and b has 4"),
        (lambda a: la.qr(a, "raw"), S, UnsupportedError, "qr: mode must be 'reduced'"),
        (la.cholesky, -np.eye(2), np.linalg.LinAlgError, "not positive definite"),
        (la.inv, np.zeros((2, 2)), np.linalg.LinAlgError, "Singular matrix"),
    ],
)
def test_errors(f: Any, a: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        ft.jit(f)(a)
