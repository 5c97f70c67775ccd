"""In-place writes on tracers, with views and asks for values between them, against NumPy itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans.errors import MutationError


def program(x: Any, seed: int, asks: bool) -> tuple[Any, ...]:
    """A random sequence of views and writes; the same Python on arrays and on tracers."""
    rng = np.random.default_rng(seed)
    views = [x * 1.0]
    for _ in range(10):
        view: Any = views[rng.integers(len(views))]
        match int(rng.integers(10)), view.ndim:
            case 0, n if n and view.shape[0] > 1:
                views.append(view[1:])
            case 1, n if n:
                views.append(view[::-1])
            case 2, 2:
                views.append(view.T)
            case 3, _:
                views.append(view.reshape(-1))
            case 4, n if n:
                view[0] = x.sum() * 0.1 + float(rng.integers(5))
            case 5, n if n:
                view += x.ravel()[0]
            case 6, 2:
                view[:, 0] *= 2.0
            case 7, 1 if view.shape[0] > 2:
                view[np.array([0, 2])] -= 1.5
            case 8, 2:
                views.append(view[:, None, :].swapaxes(0, 2))
            case 9, _ if asks and view.sum() > 0:
                view *= 0.5
            case _:
                pass
    return (*[view.sum() for view in views], views[0])


def arguments(seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(3, 4)), rng.normal(size=(3, 4))


def same(got: Any, want: Any, atol: float = 1e-12) -> None:
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-7, atol=atol)


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_programs_that_write_agree_with_numpy(first: int) -> None:
    """Values, tangents (by differences) and cotangents (by the adjoint identity)."""
    for seed in range(first, first + 20):
        x, u = arguments(seed)
        want = program(x, seed, asks=True)
        got, tangent = ft.jvp(lambda x, s=seed: program(x, s, asks=True), (x,), (u,))
        same(got, want)
        ahead, behind = program(x + 1e-6 * u, seed, True), program(x - 1e-6 * u, seed, True)
        same(
            tangent,
            [(np.asarray(a) - b) / 2e-6 for a, b in zip(ahead, behind, strict=True)],
            atol=1e-6,
        )
        _, pullback = ft.vjp(lambda x, s=seed: program(x, s, asks=True), x)
        bars = tuple(np.random.default_rng(seed).normal(size=np.shape(w))[()] for w in want)
        inner = sum((b * t).sum() for b, t in zip(bars, tangent, strict=True))
        np.testing.assert_allclose((pullback(bars)[0] * u).sum(), inner, rtol=1e-7)


@pytest.mark.parametrize("first", range(0, 16, 4))
def test_compiled_programs_that_write_agree_with_numpy(first: int) -> None:
    for seed in range(first, first + 4):
        x, _ = arguments(seed)
        same(ft.jit(program, static_argnums=(1, 2))(x, seed, False), program(x, seed, False))


def test_a_result_does_not_alias_a_tracer_that_is_written_later() -> None:
    def f(x: Any) -> Any:
        a = x * 1.0
        kept, pullback = ft.vjp(lambda y: y * y, a)
        whole = ft.jit(lambda y: y)(a)
        plus = +a
        a[0] = 100.0
        return kept.sum() + whole.sum() + plus.sum() + pullback(np.ones(3))[0].sum()

    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(ft.grad(f)(x), 2 * x + 1 + 1 + 2)


def test_a_numpy_scalar_is_rebound_and_a_0d_array_written() -> None:
    def f(x: Any) -> Any:
        total = x[0]
        alias = total
        total += x[1]
        cell = np.zeros_like(x[0:1]).reshape(())
        other = cell
        cell += total
        return total * 10 + alias + other

    assert ft.grad(f)(np.array([1.0, 2.0])).tolist() == [12.0, 11.0]


# -- arrays from outside ----------------------------------------------------------------------


def test_an_array_from_outside_may_be_indexed_by_a_traced_value() -> None:
    """`asarray` of it takes part in the trace: a table, looked up where only the run knows."""
    table = np.array([1.0, 4.0, 9.0])

    def look_up(i: Any, x: Any) -> Any:
        return fnp.asarray(table)[i] * x

    assert ft.jit(look_up)(2, 2.0) == 18.0
    np.testing.assert_array_equal(ft.vmap(look_up, (0, None))(np.array([0, 2]), 1.0), [1.0, 9.0])
    for _ in range(3):
        assert ft.grad(look_up, argnums=1)(1, 3.0) == 4.0
    assert fnp.asarray(table) is table


def test_an_array_from_outside_is_not_written_to() -> None:
    table = np.zeros(3)

    def f(x: Any) -> Any:
        own = fnp.asarray(table)
        own[0] = x
        return own

    for transform in (ft.jit, ft.jacrev):
        for _ in range(2):
            with pytest.raises(MutationError, match="is a captured array"):
                transform(f)(1.0)
    np.testing.assert_array_equal(table, np.zeros(3))
