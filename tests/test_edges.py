"""Derivatives at the edges: what each primitive's derivative is where its formula breaks down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
from functrans.bind import bind
from functrans.ir import Elementwise, aval_of
from functrans.primitives import ALL
from functrans.primitives import elementwise as e
from functrans.primitives import reduction as r
from functrans.primitives import structural as s

Function = Callable[[Any], Any]
EDGES = [np.nan, np.inf, -np.inf, 0.0, 1.0, -1.0, 1000.0, -1000.0]


def derivatives(f: Function, x: Any) -> list[Any]:
    """First and second derivatives of f at x, each in every order of the two modes."""
    x = np.asarray(x, np.float64)
    return [
        ft.jacfwd(f)(x),
        ft.jacrev(f)(x),
        ft.jacfwd(ft.jacfwd(f))(x),
        ft.jacfwd(ft.jacrev(f))(x),
        ft.jacrev(ft.jacfwd(f))(x),
        ft.jacrev(ft.jacrev(f))(x),
    ]


def check(f: Function, x: Any, first: Any, second: Any) -> None:
    got = derivatives(f, x)
    for actual in got[:2]:
        np.testing.assert_allclose(actual, np.broadcast_to(first, actual.shape), atol=0)
    for actual in got[2:]:
        np.testing.assert_allclose(actual, np.broadcast_to(second, actual.shape), atol=0)


def _smooth(arity: int) -> list[str]:
    """Names of the elementwise primitives of reals that have a derivative."""
    return sorted(
        name
        for name, p in ALL.items()
        if isinstance(p.property, Elementwise)
        and p.property.partials is not None
        and _takes(p, arity)
    )


def _takes(primitive: Any, arity: int) -> bool:
    aval = aval_of(np.zeros(3))
    params = {"exponent": -3} if primitive.name == "integer_pow" else {}
    try:
        primitive.abstract_eval(*[aval] * arity, **params)
    except TypeError:
        return False
    return True


def _masked(f: Function) -> Function:
    """f in a branch that is not taken."""
    return lambda x: s.select(np.zeros(x.shape, bool), f(x), x)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("name", [*_smooth(1), "abs"])
def test_branch_not_taken_one_operand(name: str, edge: float) -> None:
    """Whatever happens in a branch that was not taken, the derivative is that of the other."""
    params = {"integer_pow": {"exponent": -3}, "polygamma": {"n": 1}}.get(name, {})
    f = _masked(lambda x: bind(ALL[name], x, **params)[0])
    check(f, [edge], [[1.0]], 0.0)


@pytest.mark.parametrize("edge", [(a, b) for a in EDGES[:5] for b in EDGES[:5]])
@pytest.mark.parametrize("name", [*_smooth(2), "div"])
def test_branch_not_taken_two_operands(name: str, edge: tuple[float, float]) -> None:
    def f(x: Any) -> Any:
        left, right = s.slice_axis(x, 0, 0, 1), s.slice_axis(x, 0, 1, 2)
        value = bind(ALL[name], left, right)[0]
        return s.select(np.zeros(1, bool), value, left)

    check(f, edge, [[1.0, 0.0]], 0.0)


@pytest.mark.parametrize("edge", [np.nan, np.inf, 0.0, -1.0])
@pytest.mark.parametrize("inner", ["log", "sqrt", "reciprocal", "acosh"])
@pytest.mark.parametrize("outer", ["sin", "cos", "tanh", "logistic", "erf", "exp", "square", "abs"])
def test_chains_in_a_branch_not_taken(outer: str, inner: str, edge: float) -> None:
    def chain(x: Any) -> Any:
        return bind(ALL[outer], bind(ALL[inner], x)[0])[0]

    check(_masked(chain), [edge], [[1.0]], 0.0)


def _pair(f: Callable[[Any, Any], Any]) -> Function:
    """A function of the two halves of a vector of two."""
    return lambda x: s.reshape(f(s.slice_axis(x, 0, 0, 1), s.slice_axis(x, 0, 1, 2)), ())


TABLE: dict[str, tuple[Function, Any, Any, Any]] = {
    "abs at 0": (e.abs, 0.0, 0.0, 0.0),
    "sign at 0": (e.sign, 0.0, 0.0, 0.0),
    "sign elsewhere": (e.sign, 2.0, 0.0, 0.0),
    "floor": (e.floor, 1.5, 0.0, 0.0),
    "max at a tie": (_pair(e.max), [1.0, 1.0], [0.5, 0.5], 0.0),
    "min at a tie": (_pair(e.min), [1.0, 1.0], [0.5, 0.5], 0.0),
    "max of zeros": (_pair(e.max), [0.0, -0.0], [0.5, 0.5], 0.0),
    "reduce_max of ties": (
        lambda x: r.reduce_max(x, (0,)),
        [3.0, 1, 3, 3],
        [1 / 3, 0, 1 / 3, 1 / 3],
        0,
    ),
    "reduce_min of ties": (lambda x: r.reduce_min(x, (0,)), [1.0, 1, 3], [0.5, 0.5, 0], 0),
    "pow(0, 0)": (lambda x: e.pow(x, np.float64(0)), 0.0, 0.0, 0.0),
    "pow(x, 0)": (lambda x: e.pow(x, np.float64(0)), 3.0, 0.0, 0.0),
    "pow(0, y) wrt y": (lambda y: e.pow(np.float64(0), y), 2.0, 0.0, 0.0),
    "pow(0, 0) wrt y": (lambda y: e.pow(np.float64(0), y), 0.0, 0.0, 0.0),
    "pow(0, 2)": (lambda x: e.pow(x, np.float64(2)), 0.0, 0.0, 2.0),
    "pow(-2, 3)": (lambda x: e.pow(x, np.float64(3)), -2.0, 12.0, -12.0),
    "integer_pow(0, 3)": (lambda x: e.integer_pow(x, 3), 0.0, 0.0, 0.0),
    "atan2(0, 0)": (_pair(e.atan2), [0.0, 0.0], [0.0, 0.0], 0.0),
    "hypot(0, 0)": (_pair(e.hypot), [0.0, 0.0], [0.0, 0.0], 0.0),
    "logaddexp(-inf, -inf)": (_pair(e.logaddexp), [-np.inf, -np.inf], [0.0, 0.0], 0.0),
    "logaddexp(-inf, 0)": (_pair(e.logaddexp), [-np.inf, 0.0], [0.0, 1.0], 0.0),
    "logaddexp(inf, 0)": (_pair(e.logaddexp), [np.inf, 0.0], [1.0, 0.0], 0.0),
    "logaddexp at a tie": (
        _pair(e.logaddexp),
        [2.0, 2.0],
        [0.5, 0.5],
        [[0.25, -0.25], [-0.25, 0.25]],
    ),
    "clamp at the lower bound": (lambda x: e.clamp(np.float64(0), x, np.float64(1)), 0.0, 1.0, 0.0),
    "clamp at the upper bound": (lambda x: e.clamp(np.float64(0), x, np.float64(1)), 1.0, 1.0, 0.0),
    "clamp outside": (lambda x: e.clamp(np.float64(0), x, np.float64(1)), 1.5, 0.0, 0.0),
    "mean, a division by a literal": (np.mean, [1.0, 2.0, 6.0], 1 / 3, 0.0),
    "division by a literal zero": (lambda x: e.div(x, np.float64(0)), 2.0, np.inf, 0.0),
    "division of a literal": (lambda x: e.div(np.float64(4), x), 2.0, -1.0, 1.0),
    "product with one zero": (
        lambda x: r.reduce_prod(x, (0,)),
        [0.0, 2.0, 3.0],
        [6.0, 0.0, 0.0],
        [[0, 3, 2], [3, 0, 0], [2, 0, 0]],
    ),
    "product with two zeros": (
        lambda x: r.reduce_prod(x, (0,)),
        [0.0, 0.0, 3.0],
        0.0,
        [[0, 3, 0], [3, 0, 0], [0, 0, 0]],
    ),
    "product of five with one zero": (
        lambda x: r.reduce_prod(x, (0,)),
        [1.0, 2.0, 0.0, 3.0, 4.0],
        [0.0, 0.0, 24.0, 0.0, 0.0],
        [[0, 0, 24, 0, 0], [0, 0, 12, 0, 0], [24, 12, 0, 8, 6], [0, 0, 8, 0, 0], [0, 0, 6, 0, 0]],
    ),
    "cumprod with a zero": (
        lambda x: r.cumprod(x, 0),
        [2.0, 0.0, 3.0],
        [[1, 0, 0], [0, 2, 0], [0, 6, 0]],
        [[[0, 0, 0]] * 3, [[0, 1, 0], [1, 0, 0], [0, 0, 0]], [[0, 3, 0], [3, 0, 2], [0, 2, 0]]],
    ),
    "cumlogsumexp from -inf": (
        lambda x: r.cumlogsumexp(x, 0),
        [-np.inf, -np.inf, 0.0],
        [[0, 0, 0], [0, 0, 0], [0, 0, 1]],
        0,
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_value_at_the_edge(case: str) -> None:
    f, x, first, second = TABLE[case]
    check(f, x, first, second)


def test_the_stated_price() -> None:
    """scale makes the derivative of sqrt(x) squared 0 at 0."""
    assert ft.grad(lambda x: e.square(e.sqrt(x)))(0.0) == 0


def test_gradient_of_a_real_function_of_a_complex_number() -> None:
    """grad is df/dx - i df/dy, the convention of JAX and HIPS autograd."""
    z = np.asarray(3.0 + 4.0j)
    assert ft.grad(e.abs)(z) == pytest.approx((3 - 4j) / 5)
    assert ft.grad(s.real)(z) == 1
    assert ft.grad(s.imag)(z) == -1j
    assert ft.grad(lambda z: e.square(e.abs(z)))(z) == pytest.approx(2 * np.conj(z))
    assert ft.grad(e.abs)(np.asarray(0j)) == 0
    assert ft.grad(e.sin, holomorphic=True)(z) == pytest.approx(np.cos(z))
