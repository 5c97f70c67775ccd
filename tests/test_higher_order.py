"""Derivatives of derivatives, to any depth, against values that other means give."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import functrans as ft
from functrans.ir import Jaxpr, jaxprs_in


def close(actual: Any, expected: Any, rtol: float = 1e-10) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=1e-12)


def count(jaxpr: Jaxpr) -> int:
    """Equations, those of inner programs included."""
    return len(jaxpr.eqns) + sum(count(j) for e in jaxpr.eqns for j in jaxprs_in(e.params))


def times(n: int, transform: Callable[..., Any], f: Callable[..., Any]) -> Callable[..., Any]:
    for _ in range(n):
        f = transform(f)
    return f


def partial(f: Callable[..., Any], at: Any, orders: Any) -> float:
    """A mixed partial derivative by mpmath's differences, at fifty digits."""
    with mpmath.workdps(50):
        return float(mpmath.diff(f, tuple(map(float, at)), tuple(orders)))


@pytest.mark.parametrize("n", range(1, 10))
def test_grad_of_tanh_nine_times(n: int) -> None:
    """Each order is right to 1e-9 relative."""
    with mpmath.workdps(50):
        expected = float(mpmath.diff(mpmath.tanh, 0.3, n))
    close(times(n, ft.grad, np.tanh)(0.3), expected, 1e-9)


def test_ninth_derivative_of_tanh_is_small() -> None:
    """Simplification after each transform keeps the program short: jax has 7864 equations."""
    closed = ft.make_jaxpr(times(9, ft.grad, np.tanh))(0.3)
    assert count(closed.jaxpr) < 500


@pytest.mark.parametrize(
    ("f", "g"),
    [
        (np.sin, mpmath.sin),
        (lambda x: np.exp(-x * x), lambda x: mpmath.exp(-x * x)),
        (lambda x: x**5 / (1 + x), lambda x: x**5 / (1 + x)),
        (lambda x: np.log(1 + np.sqrt(x)), lambda x: mpmath.log(1 + mpmath.sqrt(x))),
        (lambda x: np.arctan(x) ** 2, lambda x: mpmath.atan(x) ** 2),
    ],
)
def test_six_derivatives_in_every_mode(f: Callable[..., Any], g: Callable[..., Any]) -> None:
    """Reverse, forward and alternating, all the same."""
    forward = lambda h: lambda x: ft.jvp(h, (x,), (1.0,))[1]
    alternating = lambda h: forward(ft.grad(h))
    with mpmath.workdps(60):
        expected = float(mpmath.diff(g, mpmath.mpf(0.7), 6))
    close(times(6, ft.grad, f)(0.7), expected, 1e-9)
    close(times(6, forward, f)(0.7), expected, 1e-9)
    close(times(3, alternating, f)(0.7), expected, 1e-9)


POINT = np.array([0.4, -0.7])


def surface(x: Any) -> Any:
    return np.exp(x[0] * x[1]) + x[0] ** 3 * x[1] ** 2 + np.sin(x[0] - 2 * x[1])


def surface_mp(x: Any, y: Any) -> Any:
    return mpmath.exp(x * y) + x**3 * y**2 + mpmath.sin(x - 2 * y)


def tensor(order: int) -> Any:
    """All derivatives of `surface` of one order, at POINT."""
    out = np.empty((2,) * order)
    for index in itertools.product(range(2), repeat=order):
        out[index] = partial(surface_mp, POINT, (index.count(0), index.count(1)))
    return out


def test_hessian_of_hessian() -> None:
    """Fourth order: a symmetric tensor."""
    close(ft.hessian(ft.hessian(surface))(POINT), tensor(4), 1e-9)


@pytest.mark.parametrize("outer", [ft.jacfwd, ft.jacrev])
@pytest.mark.parametrize("middle", [ft.jacfwd, ft.jacrev])
@pytest.mark.parametrize("inner", [ft.jacfwd, ft.jacrev])
def test_third_order_in_every_mix_of_modes(outer: Any, middle: Any, inner: Any) -> None:
    close(outer(middle(inner(surface)))(POINT), tensor(3), 1e-9)


def test_jacfwd_of_jacrev() -> None:
    """Of a function of three variables with two results, against formulas."""

    def f(x: Any) -> Any:
        return np.stack([x[0] * x[1] ** 2, np.sin(x[2]) * x[0]])

    x = np.array([0.3, -1.2, 0.8])
    expected = np.zeros((2, 3, 3))
    expected[0, 0, 1] = expected[0, 1, 0] = 2 * x[1]
    expected[0, 1, 1] = 2 * x[0]
    expected[1, 0, 2] = expected[1, 2, 0] = np.cos(x[2])
    expected[1, 2, 2] = -np.sin(x[2]) * x[0]
    close(ft.jacfwd(ft.jacrev(f))(x), expected)
    close(ft.jacrev(ft.jacfwd(f))(x), expected)


def test_vmap_of_grad_of_vmap() -> None:
    """loss(w; batch) = sum_i sin(w . x_i)^2, for several w at once."""
    xs = np.random.default_rng(0).normal(size=(5, 3))
    ws = np.random.default_rng(1).normal(size=(4, 3))

    def loss(w: Any) -> Any:
        return np.sum(ft.vmap(lambda x: np.sin(w @ x) ** 2)(xs))

    z = ws @ xs.T
    close(ft.vmap(ft.grad(loss))(ws), np.sin(2 * z) @ xs)
    second = np.einsum("ki,ia,ib->kab", 2 * np.cos(2 * z), xs, xs)
    close(ft.vmap(ft.hessian(loss))(ws), second)
    close(ft.jit(ft.vmap(ft.hessian(loss)))(ws), second)


def test_vjp_of_a_pullback() -> None:
    """The pullback is linear in its cotangent: its own pullback pushes tangents forward."""
    x, t = np.array([0.5, 1.5, -0.2]), np.array([1.0, -2.0, 0.5])
    f = lambda x: np.stack([np.sin(x[0]) * x[1], x[1] * x[2] ** 2])
    jacobian = np.array(
        [[np.cos(x[0]) * x[1], np.sin(x[0]), 0.0], [0.0, x[2] ** 2, 2 * x[1] * x[2]]]
    )
    _, pullback = ft.vjp(f, x)
    ct = np.array([2.0, -1.0])
    close(pullback(ct)[0], jacobian.T @ ct)
    _, back = ft.vjp(lambda c: pullback(c)[0], ct)
    close(back(t)[0], jacobian @ t)


def test_vjp_of_a_pullback_in_the_point() -> None:
    """d/dx of <t, J(x)^T ct> is the Hessian of ct . f applied to t."""
    x, t, ct = np.array([0.5, 1.5]), np.array([1.0, -2.0]), np.array([2.0, -1.0])
    f = lambda x: np.stack([np.sin(x[0]) * x[1], x[0] * x[1] ** 2])
    pulled = lambda x: ft.vjp(f, x)[1](ct)[0]
    hessian = ct[0] * np.array([[-np.sin(x[0]) * x[1], np.cos(x[0])], [np.cos(x[0]), 0.0]])
    hessian += ct[1] * np.array([[0.0, 2 * x[1]], [2 * x[1], 2 * x[0]]])
    close(ft.vjp(pulled, x)[1](t)[0], hessian @ t)
    close(ft.jvp(pulled, (x,), (t,))[1], hessian @ t)


def test_grad_through_grad_of_a_closure() -> None:
    """The inner function captures the outer variable: d/dx of 3 x (2x)^2 is 36 x^2."""
    f = lambda x: ft.grad(lambda y: x * y**3)(2 * x)
    close(f(1.5), 12 * 1.5**3)
    close(ft.grad(f)(1.5), 36 * 1.5**2)
    close(ft.grad(ft.grad(f))(1.5), 72 * 1.5)
    close(ft.jit(ft.grad(f))(1.5), 36 * 1.5**2)
    close(ft.vmap(ft.grad(f))(np.arange(4.0)), 36 * np.arange(4.0) ** 2)


@pytest.mark.parametrize("inner", ["grad", "jvp", "linearize", "vjp", "jacfwd"])
@pytest.mark.parametrize("outer", ["grad", "jvp", "linearize", "vjp", "jacfwd"])
def test_no_perturbation_confusion(inner: str, outer: str) -> None:
    """d/dx x (d/dy (x + y)) is 1, not 2; and d/dx x (d/dy x y) is 2x."""
    derivative: dict[str, Callable[..., Any]] = {
        "grad": ft.grad,
        "jvp": lambda f: lambda x: ft.jvp(f, (x,), (1.0,))[1],
        "linearize": lambda f: lambda x: ft.linearize(f, x)[1](1.0),
        "vjp": lambda f: lambda x: ft.vjp(f, x)[1](1.0)[0],
        "jacfwd": ft.jacfwd,
    }
    inside, outside = derivative[inner], derivative[outer]
    close(outside(lambda x: x * inside(lambda y: x + y)(1.0))(1.0), 1.0)
    close(outside(lambda x: x * inside(lambda y: x * y)(2.0))(3.0), 6.0)


def test_three_levels_of_closures() -> None:
    """d/dx d/dy d/dz of sin(x y z), each level closing over the outer ones."""
    with mpmath.workdps(50):
        f = lambda x, y, z: mpmath.sin(x * y * z)
        expected = float(mpmath.diff(f, (0.3, 0.5, 0.7), (1, 1, 1)))
    nested = ft.grad(lambda x: ft.grad(lambda y: ft.grad(lambda z: np.sin(x * y * z))(0.7))(0.5))
    close(nested(0.3), expected)


def test_hvp_and_vhp_are_the_hessian() -> None:
    v = np.array([0.3, -1.1])
    close(ft.hvp(surface, POINT, v), tensor(2) @ v, 1e-9)
    close(ft.vhp(surface, POINT, v), v @ tensor(2), 1e-9)
    close(ft.grad(lambda x: ft.hvp(surface, x, v) @ v)(POINT), tensor(3) @ v @ v, 1e-9)


def test_derivatives_through_a_fixed_point() -> None:
    """Newton's iteration for the square root, differentiated twice through its steps."""

    def root(a: Any) -> Any:
        x = a
        while abs(x * x - a) > 1e-15 * a:
            x = (x + a / x) / 2
        return (x + a / x) / 2

    close(root(2.0), np.sqrt(2.0))
    close(ft.grad(root)(2.0), 0.5 / np.sqrt(2.0), 1e-9)
    close(ft.grad(ft.grad(root))(2.0), -0.25 * 2.0**-1.5, 1e-6)


def asks(x: Any) -> Any:
    while x[0] > 0.2:
        x = x * 0.6 - 0.01 * np.sin(x)
    return x * x[0]


THREE = np.array([0.3, 0.7, 1.1])
TREES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Any]] = {
    "a tree": (
        lambda d: {"u": d["p"] * d["q"], "v": np.sum(d["p"] ** 3), "w": 1.0},
        ({"p": THREE, "q": 2.0},),
        0,
    ),
    "several": (lambda a, b: (np.outer(a, a), b * a[0]), (THREE, np.ones((3, 2))), (1, 0)),
    "by name": (lambda a, b: (a**3 * b).sum(), (THREE, 2.0), "b"),
    "single precision": (lambda a, b: a * b, (THREE.astype("f4"), THREE), (0, 1)),
    "asks": (asks, (THREE,), 0),
    "no elements": (lambda a: a**2, (np.zeros(0),), 0),
}


@pytest.mark.parametrize("name", TREES)
def test_jacobians_and_hessians_of_trees(name: str) -> None:
    """Twice the same, in forward and reverse mode; the Hessian is a Jacobian's Jacobian."""
    f, args, argnums = TREES[name]
    wide = lambda tree: ft.tree.map(lambda x: np.asarray(x, np.float64), tree)
    by_columns, by_rows = ft.jacfwd(f, argnums), ft.jacrev(f, argnums)
    second, composed = ft.hessian(f, argnums), ft.jacfwd(ft.jacrev(f, argnums), argnums)
    for _ in range(2):
        for one, other in ((by_columns, by_rows), (second, composed)):
            found, expected = wide(one(*args)), wide(other(*args))
            assert ft.tree.structure(found) == ft.tree.structure(expected)
            for a, b in zip(ft.tree.leaves(found), ft.tree.leaves(expected), strict=True):
                assert a.shape == b.shape
                close(a, b, 1e-6)


def test_blocks_are_arrays_of_their_own() -> None:
    """No block shares memory with another one, with an argument, or with a later result."""
    f = lambda a, b: (a * 1.0, a * 1.0, b * 2.0)
    args = (THREE, THREE)
    for transform in (ft.jacfwd, ft.jacrev, ft.hessian):
        call = transform(f, (0, 1))
        arrays = [*ft.tree.leaves([call(*args), call(*args)]), THREE]
        for one, other in itertools.combinations(arrays, 2):
            assert not np.shares_memory(one, other)
        assert all(x.flags.writeable for x in arrays)
