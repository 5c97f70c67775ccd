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
