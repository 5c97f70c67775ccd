"""Running products, extrema and logarithms of sums: their derivatives are linear recurrences."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import lax

SIZES = [0, 1, 2, 7]
RUNNING: dict[str, Callable[[Any, int], Any]] = {
    "cumprod": np.prod,
    "cummax": np.max,
    "cummin": np.min,
    "cumlogsumexp": np.logaddexp.reduce,
}


def by_prefixes(name: str, reverse: bool) -> Callable[[Any], Any]:
    """A running reduction as one reduction for each prefix (each suffix, when `reverse`)."""

    def apply(x: Any) -> Any:
        n = x.shape[0]
        parts = [x[k:] if reverse else x[: k + 1] for k in range(n)]
        return fnp.stack([RUNNING[name](part, 0) for part in parts]) if n else x

    return apply


def nested(f: Callable[[Any], Any], order: int) -> Callable[[Any], Any]:
    for _ in range(order):
        f = ft.jacfwd(f)
    return f


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", RUNNING)
def test_derivatives_are_those_of_the_prefixes(
    name: str, size: int, reverse: bool, rng: np.random.Generator
) -> None:
    """Orders 1 to 3, forward over forward and, for the first, in reverse mode and compiled."""
    x = rng.normal(size=size)
    f = lambda x: getattr(lax, name)(x, reverse=reverse)
    np.testing.assert_allclose(f(x), by_prefixes(name, reverse)(x))
    for order in (1, 2, 3) if size < 7 else (1, 2):
        expected = nested(by_prefixes(name, reverse), order)(x)
        np.testing.assert_allclose(nested(f, order)(x), expected, rtol=1e-9, atol=1e-12)
        backward = nested(ft.jacrev(f), order - 1)
        np.testing.assert_allclose(backward(x), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ft.jit(backward)(x), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("zeros", [(0,), (3,), (1, 2), (0, 4), (0, 1, 2, 3, 4)])
def test_products_with_zeros(zeros: tuple[int, ...]) -> None:
    """d P_k / dx_i is the product of the others up to k; one more is left out for each order."""
    x = np.array([2.0, -3.0, 0.5, 4.0, 1.5])
    x[list(zeros)] = 0
    n = len(x)
    for order in (1, 2, 3):
        expected = np.zeros((n,) * (order + 1))
        for k, *left_out in itertools.product(range(n), repeat=order + 1):
            if len(set(left_out)) == order and max(left_out) <= k:
                expected[k, *left_out] = np.prod(np.delete(x[: k + 1], left_out))
        np.testing.assert_array_equal(nested(lax.cumprod, order)(x), expected)
        np.testing.assert_array_equal(nested(ft.jacrev(lax.cumprod), order - 1)(x), expected)


def test_products_with_infinities() -> None:
    """What comes before an infinity is moved by it, what comes after a zero is not."""
    inf = np.inf
    x = np.array([2.0, inf, 3.0, 0.0, 5.0])
    rows = ft.jacrev(lax.cumprod)(x)
    np.testing.assert_array_equal(
        rows[:3], [[1, 0, 0, 0, 0], [inf, 2, 0, 0, 0], [inf, 6, inf, 0, 0]]
    )
    assert rows[3, 3] == inf


@pytest.mark.parametrize("spread", [1.0, 30.0, 800.0])
def test_logarithms_of_sums_against_many_digits(spread: float, rng: np.random.Generator) -> None:
    x = rng.normal(size=40) * spread
    weights = rng.normal(size=40)
    value, gradient = ft.jit(
        lambda x: (lax.cumlogsumexp(x), ft.grad(lambda x: weights @ lax.cumlogsumexp(x))(x))
    )(x)
    with mpmath.workdps(60):
        sums = list(itertools.accumulate(mpmath.exp(mpmath.mpf(v)) for v in x))
        exact = [float(mpmath.log(s)) for s in sums]
        slopes = [
            float(mpmath.exp(mpmath.mpf(x[j])) * sum(weights[i] / sums[i] for i in range(j, 40)))
            for j in range(40)
        ]
    np.testing.assert_allclose(value, exact, rtol=1e-15, atol=1e-15)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-13, atol=1e-16 * spread)


def long_lines(columns: int) -> Any:
    return np.random.default_rng(0).normal(size=(100_001, columns)).astype("f4")


@pytest.mark.parametrize("columns", [1, 3, 17])
def test_long_sums_lose_nothing_in_single_precision(columns: int) -> None:
    """One after the other, small numbers would be lost on their way into a large sum."""
    x = long_lines(columns)
    value_and_slopes = ft.jit(
        lambda x: (lax.cumlogsumexp(x), ft.grad(lambda x: fnp.sum(lax.cumlogsumexp(x)))(x))
    )
    value, slopes = value_and_slopes(x)
    sums = np.cumsum(np.exp(x.astype("f8")), 0)
    np.testing.assert_allclose(value, np.log(sums), rtol=2e-7, atol=1e-6)
    exact = np.exp(x.astype("f8")) * np.cumsum((1 / sums)[::-1], 0)[::-1]
    np.testing.assert_allclose(slopes, exact, rtol=2e-6)


@pytest.mark.parametrize("columns", [1, 3, 17])
@pytest.mark.parametrize("name", ["cummax", "cummin"])
def test_what_a_long_tie_collects_in_single_precision(name: str, columns: int) -> None:
    """All that follow the extremum send it their cotangents: 100000 numbers near 1."""
    cotangents = np.abs(long_lines(columns)) + np.float32(1 / 3)
    x = np.zeros((100_001, columns), "f4")
    x[0] = 1 if name == "cummax" else -1
    slopes = ft.jit(ft.grad(lambda x: fnp.sum(getattr(lax, name)(x) * cotangents)))(x)
    np.testing.assert_allclose(slopes[0], cotangents.sum(0, dtype="f8"), rtol=1e-7)
    assert not slopes[1:].any()


def test_restarts_let_nothing_through() -> None:
    """An infinite cotangent of one stretch does not reach the stretch before it."""
    x = np.array([1.0, 0.0, 2.0, 1.0])
    _, pull = ft.vjp(lax.cummax, x)
    assert pull(np.array([1.0, 1.0, np.inf, 1.0]))[0].tolist() == [2, 0, np.inf, 0]


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_members_of_a_batch(name: str, axis: int, rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 4, 5))
    f = lambda x: getattr(lax, name)(x, axis=1)
    slopes = ft.grad(lambda x: np.sum(np.sin(f(x))))
    found = ft.vmap(slopes, axis, axis)(x)
    members = [slopes(member) for member in np.moveaxis(x, axis, 0)]
    np.testing.assert_allclose(found, np.stack(members, axis), rtol=1e-12)


def test_forward_and_reverse_mode_agree(rng: np.random.Generator) -> None:
    """<ct, J v> = <J^T ct, v>."""
    x, v, ct = rng.normal(size=(3, 6, 11))
    for name in RUNNING:
        f = lambda x, name=name: getattr(lax, name)(x, axis=1, reverse=True)
        _, moved = ft.jvp(f, (x,), (v,))
        _, pull = ft.vjp(f, x)
        assert np.vdot(ct, moved) == pytest.approx(np.vdot(pull(ct)[0], v), rel=1e-12)


@pytest.mark.parametrize("columns", [1, 2, 3, 5, 7, 9, 13, 15, 16, 17])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_columns_that_are_scaled_where_they_lie(
    columns: int, dtype: str, rng: np.random.Generator
) -> None:
    """Rows shorter than vectors are written whole, and nothing beside them."""
    x, scale = rng.uniform(0.9, 1.1, (50, columns)).astype(dtype), np.arange(columns, dtype=dtype)
    found = ft.jit(lambda x, scale: lax.cumsum(x) * scale * lax.cumprod(x))(x, scale)
    expected = np.cumsum(x, 0) * scale * np.cumprod(x, 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4 if dtype == "f4" else 1e-12)
    slopes = ft.jit(ft.grad(lambda x: fnp.sum(fnp.prod(x, 0) * scale)))(x)
    whole = np.broadcast_to(np.prod(x.astype("f8"), 0) * scale, x.shape)
    np.testing.assert_allclose(slopes * x, whole, rtol=1e-4 if dtype == "f4" else 1e-12)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("size", [1, 2, 9])
def test_a_recurrence_is_a_scan(size: int, reverse: bool, rng: np.random.Generator) -> None:
    """The same values and derivatives, with respect to factors and terms, to the third order."""
    a, b = rng.normal(size=(2, size))
    a[size // 2] = 0
    step = lambda y, ab: (ab[0] * y + ab[1],) * 2
    scanned = lambda a, b: lax.scan(step, 0.0, (a, b), reverse=reverse)[1]
    direct = lambda a, b: lax.linear_recurrence(a, b, reverse=reverse)
    f, g = (lambda a, b, y=y: np.sum(np.sin(y(a, b))) for y in (direct, scanned))
    np.testing.assert_allclose(direct(a, b), scanned(a, b), rtol=1e-13)
    for k in range(2):
        for order in (ft.grad, ft.hessian, lambda f, k: ft.jacfwd(ft.hessian(f, k), 1 - k)):
            expected = order(g, k)(a, b)
            np.testing.assert_allclose(order(f, k)(a, b), expected, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(ft.jit(order(f, k))(a, b), expected, rtol=1e-10, atol=1e-12)


def test_operands_of_a_recurrence_are_promoted() -> None:
    assert lax.linear_recurrence(2, [1, 1, 1]).tolist() == [1.0, 3.0, 7.0]
    assert lax.linear_recurrence(np.float32(2), np.ones((3, 1), "f4"), 0).dtype == np.float32
    found = lax.linear_recurrence(np.array([[1.0], [2.0]]), np.arange(3.0), axis=1)
    assert found.tolist() == [[0, 1, 3], [0, 1, 4]]
    with pytest.raises(ft.errors.ShapeError, match="linear_recurrence: operands could not be"):
        lax.linear_recurrence(np.ones(2), np.ones(3))
