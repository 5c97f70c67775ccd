"""What simplifying makes of signs, and of what is zero but in a few places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import lax
from functrans.bind import eval_jaxpr
from functrans.ir import Eqn, Jaxpr, Var, check_jaxpr
from functrans.transforms.simplify import composed, simplify


def names(jaxpr: Jaxpr) -> list[str]:
    return [eqn.primitive.name for eqn in jaxpr.eqns]


@pytest.mark.parametrize("x", [np.float64(3), np.arange(3.0)])
def test_a_factor_of_minus_one_on_either_side_is_a_sign(x: Any) -> None:
    assert names(ft.make_jaxpr(lambda x: x * -1.0)(x).jaxpr) == ["neg"]
    assert names(ft.make_jaxpr(lambda x: -1.0 * x)(x).jaxpr) == ["neg"]


@pytest.mark.parametrize("x", [np.float64(3), np.arange(3.0)])
def test_a_factor_of_one_on_either_side_is_dropped(x: Any) -> None:
    assert names(ft.make_jaxpr(lambda x: np.sin(x) * 1.0)(x).jaxpr) == ["sin"]
    assert names(ft.make_jaxpr(lambda x: 1.0 * np.sin(x))(x).jaxpr) == ["sin"]


def test_gradients_of_python_numbers_have_no_factors_of_one() -> None:
    """The cotangent they begin with is a weak 1, whose strong form is a literal as well."""
    second = names(ft.make_jaxpr(ft.grad(ft.grad(np.tanh)))(0.3).jaxpr)
    assert second == ["convert", "tanh", "square", "sub", "mul", "scale", "neg", "convert"]


def collected(f: Callable[..., Any], *args: Any) -> tuple[list[str], Any]:
    """What is left of a program as that of a cotangent, and its result."""
    jaxpr = simplify(ft.make_jaxpr(f)(*args).jaxpr, collect=True)
    return names(jaxpr), eval_jaxpr(jaxpr, list(args))[0]


def test_what_is_added_in_places_is_added_in_its_order() -> None:
    def f(total: Any, i: Any, a: Any, b: Any) -> Any:
        return total + fnp.zeros(4).at[i].add(a).at[i].add(b)

    left, found = collected(f, np.full(4, -1e16), np.int64(2), np.float64(1e16), np.float64(0.5))
    assert left.count("scatter_add") == 2
    assert "add" not in left
    np.testing.assert_array_equal(found, [-1e16, -1e16, 0.5, -1e16])


@pytest.mark.parametrize("first", [True, False])
def test_what_is_added_to_a_slice_stands_on_either_side(first: bool) -> None:
    def f(total: Any, i: Any, u: Any, v: Any) -> Any:
        placed = lax.dynamic_update_slice(fnp.zeros(6), u, (i,))
        part = lax.dynamic_slice(placed, (i + 1,), (2,))
        return total + lax.dynamic_update_slice(placed, part + v if first else v + part, (i + 1,))

    total, u, v = np.arange(6.0), np.array([10.0, 20.0]), np.array([100.0, 200.0])
    left, found = collected(f, total, np.int64(1), u, v)
    assert left.count("dynamic_update_slice") == 2
    np.testing.assert_array_equal(found, [0.0, 11.0, 122.0, 203.0, 4.0, 5.0])


def test_equations_that_became_equal_are_one_where_programs_are_composed() -> None:
    """A loop that has lost what nobody reads may be another one: its readers read that."""
    once = ft.make_jaxpr(np.sin)(np.float64(1.5)).jaxpr
    (x,), (sine,) = once.invars, once.eqns
    again, twice = Var(sine.outputs[0].aval), Var(sine.outputs[0].aval)
    eqns = [sine, Eqn(sine.primitive, [x], [again], {}), Eqn(sine.primitive, [again], [twice], {})]
    first = Jaxpr([x], eqns, [*sine.outputs, twice])
    first.simple = True
    made = composed(first, ft.make_jaxpr(np.exp)(np.float64(1.5)).jaxpr, 1)
    check_jaxpr(made)
    assert names(made) == ["sin", "sin", "exp"]
    np.testing.assert_allclose(eval_jaxpr(made, [1.5])[1], np.exp(np.sin(np.sin(1.5))))


def broadcast(x: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """x repeated along the new axes."""
    return lax.broadcast_in_dim(x, shape, [d for d in range(len(shape)) if d not in axes])


ROW, COLUMN = np.array([1.0, -2.0, np.inf]), np.array([[0.5], [np.nan]])


@pytest.mark.parametrize(
    ("f", "name", "shape"),
    [
        (lambda r, c: 1.0 / broadcast(r, (2, 3), (0,)), "div", (3,)),
        (lambda r, c: np.exp(broadcast(c[:, 0], (2, 3), (1,)) + 1.0), "exp", (2,)),
        (lambda r, c: broadcast(r, (2, 3), (0,)) > 0, "gt", (3,)),
        (
            lambda r, c: broadcast(r, (2, 4, 3), (0, 1)) * broadcast(r, (2, 4, 3), (0, 1)),
            "mul",
            (3,),
        ),
        (
            lambda r, c: broadcast(r, (4, 2, 3), (0, 1)) + broadcast(c[:, 0], (4, 2, 3), (0, 2)),
            "add",
            (2, 3),
        ),
        (lambda r, c: r + c, "add", (2, 3)),
        (lambda r, c: lax.full((2, 3), 2.0) * 3.0 * c, "mul", (2,)),
        (lambda r, c: np.where(r > 0, c, 1.0), "select", (2, 3)),
    ],
)
def test_what_a_broadcast_repeats_is_computed_once(
    f: Callable[..., Any], name: str, shape: tuple[int, ...]
) -> None:
    """Along the axes that all operands are repeated along, and no others."""
    jaxpr = ft.make_jaxpr(f)(ROW, COLUMN).jaxpr
    simple = simplify(jaxpr)
    check_jaxpr(simple)
    made = [eqn.outputs[0].aval.shape for eqn in simple.eqns if eqn.primitive.name == name]
    assert made == [shape]
    with np.errstate(all="ignore"):
        for found in (simple, jaxpr):
            np.testing.assert_array_equal(eval_jaxpr(found, [ROW, COLUMN])[0], f(ROW, COLUMN))


def test_logic_with_constants() -> None:
    """Truth values that a program holds decide and vanish; bits of integers stay."""
    x = np.array([True, False, True])
    masks: list[tuple[Callable[[Any], Any], list[str]]] = [
        (lambda x: x & fnp.full(3, True), []),
        (lambda x: fnp.full(3, False) | x, []),
        (lambda x: x & fnp.full(3, False), ["broadcast"]),
        (lambda x: fnp.full(3, True) | x, ["broadcast"]),
        (lambda x: x & x, []),
        (lambda x: fnp.where(fnp.full(3, True), x, ~x), []),
        (lambda x: fnp.where(fnp.full(3, False), x, ~x), ["not"]),
        (lambda x: fnp.where(~x, x, x), []),
    ]
    for f, left in masks:
        jaxpr = simplify(ft.make_jaxpr(f)(x).jaxpr)
        assert names(jaxpr) == left
        np.testing.assert_array_equal(eval_jaxpr(jaxpr, [x])[0], f(x))
    assert names(ft.make_jaxpr(lambda n: n & 1)(np.arange(3)).jaxpr) == ["broadcast", "and"]


def test_a_gradient_divides_by_what_is_repeated_once_for_each_row() -> None:
    """The derivative of a quotient has the reciprocal of what divides: one for each column."""

    def loss(x: Any) -> Any:
        return np.sum(np.tanh(x / np.sqrt(np.mean(x * x, axis=0))))

    jaxpr = ft.make_jaxpr(ft.grad(loss))(np.ones((5, 3))).jaxpr
    shapes = [e.outputs[0].aval.shape for e in jaxpr.eqns if e.primitive.name == "reciprocal"]
    assert shapes == [(3,)]
