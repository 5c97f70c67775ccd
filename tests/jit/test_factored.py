"""What is asked of one matrix shares its factors, with NumPy's values and errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import functrans as ft
import functrans.numpy as fnp
from functrans.lax import scan
from jit import openblas
from jit.lowering.factorising import factored_p
from jit.passes.prepare import flat, to_graph

pytestmark = pytest.mark.skipif(openblas.find() is None, reason="NumPy's LAPACK is not an OpenBLAS")
la = fnp.linalg
RNG = np.random.default_rng(11)
TOLERANCE = {"f": 1e-3, "d": 1e-9, "F": 1e-3, "D": 1e-9}


def stack(shape: tuple[int, ...], dtype: str = "d") -> Any:
    x = RNG.standard_normal(shape)
    return (x + 1j * RNG.standard_normal(shape) if dtype in "FD" else x).astype(dtype)


def regular(n: int, dtype: str = "d", lead: tuple[int, ...] = ()) -> Any:
    return (stack((*lead, n, n), dtype) + 3 * np.eye(n)).astype(dtype)


def counted(f: Callable[..., Any], *args: Any) -> Counter[str]:
    """How often a compiled program does each part of a shared factorisation."""
    graph = to_graph(flat(ft.make_jaxpr(f)(*args).jaxpr))
    return Counter(e.params["factorisation"] for e in graph.eqns if e.primitive is factored_p)


def everything(xp: Any, a: Any, b: Any) -> tuple[Any, ...]:
    turned = xp.swapaxes(a, -1, -2)
    solved = xp.linalg.solve(a, b), xp.linalg.solve(turned, b), xp.linalg.inv(a)
    return (*solved, xp.linalg.inv(turned))


@pytest.mark.parametrize("dtype", "fdFD")
@pytest.mark.parametrize("lead", [(), (3,), (20,)])
def test_values_are_those_of_numpy(dtype: str, lead: tuple[int, ...]) -> None:
    a, b = regular(7, dtype, lead), stack((*lead, 7, 3), dtype)
    f = lambda a, b: everything(fnp, a, b)
    for found, expected in zip(ft.jit(f)(a, b), everything(np, a, b), strict=True):
        assert found.dtype == expected.dtype
        assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert counted(f, a, b)["factors"] == 1


@pytest.mark.parametrize("dtype", "fd")
@pytest.mark.parametrize("shape", ["whole", "lower", "upper", "singular"])
def test_determinants_share_too(dtype: str, shape: str) -> None:
    a = regular(6, dtype, (4,))
    if shape == "singular":
        a[1, 3] = 0
        a[2] = np.tril(a[2]) * (np.arange(6) != 4)
    elif shape != "whole":
        a = np.tril(a) if shape == "lower" else np.triu(a)
    f = lambda xp, a: (xp.linalg.det(a), *xp.linalg.slogdet(xp.swapaxes(a, -1, -2)))
    assert counted(lambda a: f(fnp, a), a)["factors"] == 1
    for found, expected in zip(ft.jit(lambda a: f(fnp, a))(a), f(np, a), strict=True):
        assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("triangle", [np.tril, np.triu])
def test_triangular_matrices_are_substituted(triangle: Any) -> None:
    """Elimination would overflow where substitution does not."""
    a = triangle(regular(6))
    a[0, 0] = 1e-300 if triangle is np.tril else a[0, 0]
    b = np.zeros((6, 2))
    b[0] = 1e-300
    f = lambda a, b: (la.solve(a, b), la.solve(a.T, b))
    expected = np.linalg.solve(a, b), np.linalg.solve(a.T, b)
    for found, right in zip(ft.jit(f)(a, b), expected, strict=True):
        assert_allclose(found, right, rtol=1e-9, atol=1e-300)


def test_a_system_and_its_gradient_factorise_once() -> None:
    a, b = regular(30), stack((30,))
    loss = lambda a, b: fnp.sum(la.solve(a, b) ** 2)
    both = ft.value_and_grad(loss, (0, 1))
    assert counted(both, a, b) == {"factors": 1, "solution_by_factors": 2}
    value, (by_a, by_b) = ft.jit(both)(a, b)
    x = np.linalg.solve(a, b)
    back = np.linalg.solve(a.T, 2 * x)
    assert_allclose(value, np.sum(x**2))
    assert_allclose(by_b, back, atol=1e-12)
    assert_allclose(by_a, -np.outer(back, x), atol=1e-12)


def test_a_normal_density_and_its_gradient_factorise_once() -> None:
    a, d = regular(12), stack((12,))
    cov = a @ a.T
    density = lambda d, cov: -0.5 * d @ la.solve(cov, d) - 0.5 * la.slogdet(cov)[1]
    both = ft.grad(density, (0, 1))
    assert counted(both, d, cov)["factors"] == 1
    by_d, by_cov = ft.jit(both)(d, cov)
    inverse = np.linalg.inv(cov)
    assert_allclose(by_d, -inverse @ d, rtol=1e-9)
    half = 0.5 * np.outer(inverse @ d, inverse @ d) - 0.5 * inverse
    assert_allclose(by_cov, half, rtol=1e-8, atol=1e-10)


def test_right_sides_may_be_mapped_where_the_matrix_is_not() -> None:
    a, b = regular(8), stack((5, 8, 2))
    both = lambda b: (la.solve(a, b), la.solve(a.T, b))
    for found, turned in zip(ft.jit(ft.vmap(both))(b), (a, a.T), strict=True):
        assert_allclose(found, np.linalg.solve(turned, b), atol=1e-12)


def test_mapped_matrices_share_each_their_own() -> None:
    a, b = regular(8, lead=(5,)), stack((8, 2))
    f = ft.vmap(lambda a: (la.solve(a, b), la.inv(a)))
    assert counted(f, a)["factors"] == 1
    solved, inverse = ft.jit(f)(a)
    assert_allclose(solved, np.linalg.solve(a, np.broadcast_to(b, (5, 8, 2))), atol=1e-11)
    assert_allclose(inverse, np.linalg.inv(a), atol=1e-11)


def test_bodies_of_loops_share() -> None:
    a, b = regular(6), stack((6,))
    steps = lambda a, b: scan(lambda x, _: (la.solve(a, x) + la.solve(a.T, x), None), b, None, 4)[0]
    x = b
    for _ in range(4):
        x = np.linalg.solve(a, x) + np.linalg.solve(a.T, x)
    assert_allclose(ft.jit(steps)(a, b), x, rtol=1e-9)


@pytest.mark.parametrize("matrix", ["row of zeros", "triangle"])
def test_singular_matrices_raise_numpys_error_at_the_line(matrix: str) -> None:
    a = regular(6)
    a[3] = 0
    a = np.tril(a) if matrix == "triangle" else a
    f = ft.jit(lambda a, b: (la.det(a), la.solve(a, b)))
    with pytest.raises(np.linalg.LinAlgError, match=r"(?s)Singular matrix.*test_factored\.py"):
        f(a, stack((6,)))
    x = stack((6,))
    assert_allclose(f(regular(6), x)[1].shape, (6,))


def test_what_stands_alone_is_left_alone() -> None:
    a, b = regular(6), stack((6,))
    assert not counted(lambda a, b: la.solve(a, b), a, b)
    assert not counted(lambda a, b: (la.solve(a, b), la.inv(b[:, None] + a)), a, b)
    assert not counted(lambda a, b: (la.solve(a, b), la.inv(a)), regular(3), stack((3,)))


def test_the_same_bits_on_one_thread_and_on_two() -> None:
    from jit.runtime import threads

    a, b = regular(9, lead=(40,)), stack((40, 9, 2))
    f = ft.jit(lambda a, b: everything(fnp, a, b))
    before = threads.num_threads()
    found = []
    for count in (1, 2):
        threads.set_num_threads(count)
        found.append([x.tobytes() for x in f(a, b)])
    threads.set_num_threads(before)
    assert found[0] == found[1]
