"""Factorisations in compiled code: NumPy's values without Python, and NumPy's errors with it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import functrans as ft
from functrans.primitives import factorisations
from jit import openblas
from jit.factorisations import BY_FACTORS, OF_REALS, WRITTEN_OUT
from jit.lowering import lapack_methods, small_matrices
from jit.passes.factored import SHARING
from jit.runtime import threads

la = np.linalg
RNG = np.random.default_rng(3)

needs_lapack = pytest.mark.skipif(
    openblas.find() is None, reason="NumPy's LAPACK is not an OpenBLAS"
)


@pytest.fixture
def without_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled may not call back."""

    def refuse(*stacks: Any) -> Any:
        raise AssertionError("compiled code called Python")

    table = dict.fromkeys(factorisations.HOST, refuse)
    monkeypatch.setattr(factorisations, "HOST", table)


@pytest.fixture
def number_of_threads() -> Iterator[None]:
    before = threads.num_threads()
    yield
    threads.set_num_threads(before)


def stack(shape: tuple[int, ...], dtype: str) -> Any:
    x = RNG.standard_normal(shape)
    return (x + 1j * RNG.standard_normal(shape) if dtype in "FD" else x).astype(dtype)


def regular(n: int, dtype: str, lead: tuple[int, ...] = (2,)) -> Any:
    return (stack((*lead, n, n), dtype) + 3 * np.eye(n)).astype(dtype)


def positive(n: int, dtype: str) -> Any:
    a = regular(n, dtype)
    return (a @ np.conj(np.swapaxes(a, -1, -2)) + np.eye(n)).astype(dtype)


SQUARE: dict[str, Callable[[Any], Any]] = {
    "inv": la.inv,
    "det": la.det,
    "slogdet": lambda a: tuple(la.slogdet(a)),
    "eig": lambda a: tuple(la.eig(a)),
}
HERMITIAN: dict[str, Callable[[Any], Any]] = {
    "cholesky": la.cholesky,
    "eigh": lambda a: tuple(la.eigh(a)),
    "upper eigh": lambda a: tuple(la.eigh(a, "U")),
}
ANY: dict[str, Callable[[Any], Any]] = {
    "svd": lambda a: tuple(la.svd(a, full_matrices=False)),
    "full svd": lambda a: tuple(la.svd(a)),
    "singular values": lambda a: la.svd(a, compute_uv=False),
}
TALL: dict[str, Callable[[Any], Any]] = {
    "qr": lambda a: tuple(la.qr(a)),
    "complete qr": lambda a: tuple(la.qr(a, "complete")),
}
NOT_NATIVE = {("slogdet", "F"), ("slogdet", "D"), ("det", "F"), ("det", "D")}


def cases() -> Iterator[tuple[str, Callable[..., Any], tuple[Any, ...]]]:
    """Every factorisation of stacks of every kind, in sizes on both sides of every choice."""
    for dtype in "fdFD":
        for n in (1, 2, 3, 4, 5, 33):
            for name, f in SQUARE.items():
                if (name, dtype) not in NOT_NATIVE:
                    yield f"{name} {dtype} {n}", f, (regular(n, dtype),)
            for name, f in HERMITIAN.items():
                yield f"{name} {dtype} {n}", f, (positive(n, dtype),)
            yield f"solve {dtype} {n}", la.solve, (regular(n, dtype), stack((2, n, 3), dtype))
            yield f"vector {dtype} {n}", la.solve, (regular(n, dtype, ()), stack((n,), dtype))
        for shape in ((1, 1), (5, 1), (1, 5), (6, 4), (4, 6), (70, 20), (20, 70), (90, 2)):
            found = ANY | TALL if shape[0] >= shape[1] else ANY
            for name, f in found.items():
                yield f"{name} {dtype} {shape}", f, (stack((3, *shape), dtype),)


CASES = {name: (f, args) for name, f, args in cases()}


def parts(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple) else [result]


@needs_lapack
@pytest.mark.usefixtures("without_python")
@pytest.mark.parametrize("dtype", "fdFD")
def test_values_are_numpys(dtype: str) -> None:
    """Vectors too: signs and phases are those that LAPACK gives NumPy."""
    chosen = {name: case for name, case in CASES.items() if f" {dtype} " in name}
    assert len(chosen) > 40
    found = ft.jit(lambda every: {k: chosen[k][0](*args) for k, args in every.items()})(
        {name: args for name, (_, args) in chosen.items()}
    )
    for name, (f, args) in chosen.items():
        for got, want in zip(parts(found[name]), parts(f(*args)), strict=True):
            tolerance = 200 * np.finfo(got.dtype).eps
            scale = max(1.0, float(np.abs(want).max()))
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale, err_msg=name)


@needs_lapack
@pytest.mark.usefixtures("without_python")
@pytest.mark.parametrize("dtype", "dD")
@pytest.mark.parametrize("triangle", [np.tril, np.triu, lambda a: np.tril(np.triu(a))])
def test_triangular_systems(triangle: Callable[[Any], Any], dtype: str) -> None:
    """A stack may have matrices of all kinds; one number on the other side counts, NaN too."""
    a = triangle(regular(7, dtype, (3,)))
    a[1, 0, 6] = a[1, 6, 0] = 1e-3
    b = stack((3, 7, 2), dtype)
    np.testing.assert_allclose(ft.jit(la.solve)(a, b), la.solve(a, b), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(ft.jit(la.inv)(a), la.inv(a), rtol=1e-12, atol=1e-13)
    a[0, 3, 3] = 0
    with pytest.raises(la.LinAlgError, match="Singular matrix"):
        ft.jit(la.solve)(a, b)
    broken = triangle(regular(7, dtype, ()))
    broken[0, 6] = broken[6, 0] = np.nan
    assert np.isnan(ft.jit(la.solve)(broken, b[0])).any()


@needs_lapack
@pytest.mark.usefixtures("without_python")
@pytest.mark.parametrize("n", [3, 7])
def test_members_that_are_the_same_are_not_repeated(n: int) -> None:
    a, b, many = regular(n, "d"), stack((2, n, 2), "d"), stack((5, 2, n, 2), "d")
    solve = ft.vmap(la.solve, in_axes=(None, 0))
    np.testing.assert_allclose(ft.jit(solve)(a, many), la.solve(a[None], many), atol=1e-13)
    twice = ft.vmap(ft.vmap(la.solve, in_axes=(0, None)), in_axes=(None, 0))
    got = ft.jit(twice)(regular(n, "d", (4, 2)), stack((3, 2, n, 2), "d"))
    assert got.shape == (3, 4, 2, n, 2)
    each = ft.jit(ft.vmap(la.solve, in_axes=(0, None)))
    got = each(np.stack([a, 2 * a, 4 * a]), b)
    np.testing.assert_allclose(got, [la.solve(k * a, b) for k in (1, 2, 4)], atol=1e-13)


SINGULAR = {n: np.ones((n, n)) for n in (2, 5)}


@pytest.mark.parametrize("n", [2, 5])
def test_failures_raise_what_numpy_raises(n: int) -> None:
    """Also where one matrix of many fails, and the program goes on as before after it."""
    stacked = np.stack([np.eye(n), SINGULAR[n], np.eye(n)])
    for f in (la.inv, lambda a: la.solve(a, np.ones((n, 1))), lambda a: la.cholesky(a - 1)):
        compiled = ft.jit(f)
        for a in (SINGULAR[n], stacked):
            with pytest.raises(la.LinAlgError) as info:
                compiled(a)
            with pytest.raises(la.LinAlgError, match=str(info.value).split("\n")[0]):
                f(a)
        fine = 2 * np.eye(n) + 1
        np.testing.assert_allclose(compiled(fine), f(fine), rtol=1e-14)


def test_singular_matrices_have_determinants() -> None:
    for a in SINGULAR.values():
        assert ft.jit(la.det)(a) == 0
        sign, log = ft.jit(lambda x: tuple(la.slogdet(x)))(a)
        assert (sign, log) == (0, -np.inf)


@pytest.mark.parametrize("n", [3, 6])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_is_what_it_is_for_numpy(n: int) -> None:
    """An error where it is one there; else some numbers are NaN, which ones the order decides."""
    a = np.eye(n)
    a[1, 1] = np.nan
    for f in (la.inv, la.det, lambda x: la.solve(x, np.ones(n))):
        assert np.isnan(ft.jit(f)(a)).any() == np.isnan(f(a)).any()
    for f in (la.cholesky, la.eigh, la.svd):
        outcomes: list[Any] = []
        for g in (f, ft.jit(lambda x, f=f: tuple(parts(f(x))))):
            try:
                outcomes.append([np.isnan(part).any() for part in parts(tuple(parts(g(a))))])
            except la.LinAlgError as error:
                outcomes.append(str(error).split("\n")[0])
        assert outcomes[0] == outcomes[1]


@needs_lapack
@pytest.mark.parametrize("dtype", "dD")
@pytest.mark.parametrize("turned", [False, True])
def test_a_matrix_is_no_triangle_for_one_number_beside_it(dtype: str, turned: bool) -> None:
    """The last number that is looked at, real or imaginary, on either side of the diagonal."""
    a, b = np.tril(regular(7, dtype, ())), stack((7, 2), dtype)
    a[5, 6] = 3j if dtype == "D" else 3
    a = a.T if turned else a
    np.testing.assert_allclose(ft.jit(la.solve)(a, b), la.solve(a, b), rtol=1e-10)


@needs_lapack
@pytest.mark.usefixtures("number_of_threads")
@pytest.mark.parametrize("n", [3, 40])
def test_bits_do_not_depend_on_threads(n: int) -> None:
    """And the library has as many threads after as before."""
    a, b = regular(n, "d", (300 if n == 3 else 20,)), stack((n, n), "d")
    f = ft.jit(lambda a, b: (la.solve(a, a + b), la.cholesky(a @ a.swapaxes(1, 2)), la.svd(a)[1]))
    control = openblas.find()
    assert control is not None
    address = control.symbols(("openblas_get_num_threads",))["openblas_get_num_threads"]
    count = ctypes.CFUNCTYPE(ctypes.c_int)(address)
    before, found = count(), list[bytes]()
    for number in (1, 2, 3):
        threads.set_num_threads(number)
        found.append(b"".join(x.tobytes() for x in f(a, b)))
    assert found[0] == found[1] == found[2]
    assert count() == before


@needs_lapack
@pytest.mark.usefixtures("without_python")
def test_loops_factorise_without_python() -> None:
    """A filter: a system of each size on both sides of what is written out, at every step."""
    a = {n: positive(n, "d")[0] for n in (2, 6)}

    def run(scale: Any) -> Any:
        def step(total: Any, k: Any) -> Any:
            values = [la.solve(scale * m + k * np.eye(n), np.ones(n)).sum() for n, m in a.items()]
            return total + values[0] * values[1], total

        return ft.lax.scan(step, 0.0, np.arange(5.0))

    def plainly(scale: float) -> float:
        total = 0.0
        for k in range(5):
            each = [la.solve(scale * m + k * np.eye(n), np.ones(n)).sum() for n, m in a.items()]
            total += each[0] * each[1]
        return total

    total, _ = ft.jit(run)(1.5)
    assert total == pytest.approx(plainly(1.5), rel=1e-13)
    slope = ft.jit(ft.grad(lambda s: run(s)[0]))(1.5)
    differences = (plainly(1.5 + 1e-5) - plainly(1.5 - 1e-5)) / 2e-5
    assert slope == pytest.approx(differences, rel=1e-8)


def test_numpy_serves_where_there_is_no_lapack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openblas, "find", lambda: None)
    a = regular(6, "d")
    np.testing.assert_array_equal(ft.jit(la.inv)(a), la.inv(a))
    np.testing.assert_allclose(ft.jit(la.inv)(a[..., :3, :3]), la.inv(a[..., :3, :3]), rtol=1e-13)


def test_tables_have_all_factorisations() -> None:
    real, pairs = (lapack_methods.METHODS[is_complex] for is_complex in (False, True))
    shared = {"factors", *[name + BY_FACTORS for name in SHARING]}
    assert real.keys() == factorisations.HOST.keys() | shared
    assert pairs.keys() == real.keys() - {n for n in real if n.removesuffix(BY_FACTORS) in OF_REALS}
    assert small_matrices.STEPS_OF.keys() == WRITTEN_OUT
