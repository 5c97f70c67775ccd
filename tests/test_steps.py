"""Steps that repeat: found, called, and their derivatives those of the steps written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import functrans as ft
import functrans.numpy as np
from functrans.bind import eval_jaxpr
from functrans.control import steps
from functrans.control.steps import in_steps
from functrans.errors import BudgetError
from functrans.ir import Jaxpr, written_out
from functrans.ir.check import check_jaxpr
from functrans.ir.intern import clear as forget_programs
from tests.lanes import one_in


def assert_close(ours: Any, theirs: Any, tolerance: float) -> None:
    numpy.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def interpreted(jaxpr: Jaxpr, args: Sequence[Any]) -> list[Any]:
    """The outputs by NumPy alone: what is compiled once it has taken long has other last bits."""
    before = ft.config.unjitted
    ft.config.unjitted = "interpreted"
    try:
        return eval_jaxpr(jaxpr, args)
    finally:
        ft.config.unjitted = before


Function = Callable[..., Any]
X = numpy.linspace(-1.0, 1.0, 12)


def program(f: Function, *args: Any) -> Jaxpr:
    return ft.jit(f).trace(*args).jaxpr.jaxpr


def bodies(jaxpr: Jaxpr) -> list[Jaxpr]:
    return [e.params["jaxpr"] for e in jaxpr.eqns if "step" in e.params.get("name", "")]


def chain(x: Any) -> Any:
    for k in range(60):
        x = np.sin(x) * 1.01 + 0.1 * (x - 0.001 * k)
    return np.sum(x)


def recurrent(w: Any, xs: Any) -> Any:
    h = np.zeros(3)
    for t in range(40):
        h = np.tanh(w @ h + xs[t] * 0.5)
    return np.sum(h**2)


def path(x: Any) -> Any:
    speed, states = 0.1 * x, []
    for _ in range(40):
        speed = speed - 0.01 * np.sin(x)
        x = x + 0.01 * speed
        states.append(x)
    return np.sum(np.stack(states) ** 2)


def two_loops(x: Any) -> Any:
    for _ in range(40):
        x = x * np.cos(x) + 0.3 * np.exp(-x * x)
    y = x
    for _ in range(50):
        y = np.tanh(y + 0.1) / (1.0 + y * y) - x
    return np.sum(y)


def short_steps(x: Any) -> Any:
    for _ in range(200):
        x = np.sin(x)
    return np.sum(x)


def with_branches(x: Any) -> Any:
    for k in range(40):
        x = np.where(x > 0.1 * k, np.sin(x), x * x) + np.maximum(x, 0.5) * 0.2
    return np.sum(x)


W = numpy.linspace(-0.5, 0.6, 9).reshape(3, 3)
XS = numpy.cos(numpy.arange(120.0)).reshape(40, 3)
PROGRAMS: list[tuple[Function, Sequence[Any], int]] = [
    (chain, (X,), 1),
    (recurrent, (W, XS), 1),
    (path, (X,), 1),
    (two_loops, (X,), 2),
    (short_steps, (X,), 1),
    (with_branches, (X,), 1),
]
named = pytest.mark.parametrize(
    ("f", "args", "loops"), PROGRAMS, ids=[f.__name__ for f, _, _ in PROGRAMS]
)


@named
def test_steps_are_calls_of_one_program(f: Function, args: Sequence[Any], loops: int) -> None:
    found = in_steps(program(f, *args))
    check_jaxpr(found)
    assert len(bodies(found)) >= steps.LEAST_STEPS
    # The first step of a loop may differ from the rest, and the last ones may stay.
    assert len(set(bodies(found))) == loops
    assert len(found.eqns) < len(program(f, *args).eqns) * 0.7


@named
def test_steps_have_the_bits_of_what_was_written(
    f: Function, args: Sequence[Any], loops: int
) -> None:
    jaxpr = program(f, *args)
    for ours, theirs in zip(
        interpreted(in_steps(jaxpr), args), interpreted(jaxpr, args), strict=True
    ):
        assert numpy.asarray(ours).tobytes() == numpy.asarray(theirs).tobytes()


MODULES = ("gradient_programs", "jacobian_programs", "reverse", "forward", "mapping", "expansion")
DERIVATIVES: dict[str, Callable[[Function], Function]] = {
    "grad": ft.grad,
    "jit grad": lambda f: ft.jit(ft.grad(f)),
    "vjp": lambda f: lambda *a: ft.vjp(f, *a)[1](1.0),
    "jvp": lambda f: lambda *a: ft.jvp(f, a, tuple(numpy.ones_like(x) for x in a)),
    "jacrev": ft.jacrev,
    "jit jacfwd": lambda f: ft.jit(ft.jacfwd(f)),
    "jit hessian": lambda f: ft.jit(ft.hessian(f)),
    "vmap": ft.vmap,
    "vmap grad": lambda f: ft.vmap(ft.grad(f)),
    "laplacian": ft.laplacian,
}


EACH = [
    (f"{name}-{f.__name__}", (f, args, name)) for f, args, _ in PROGRAMS for name in DERIVATIVES
]


@pytest.mark.parametrize(("f", "args", "name"), one_in(3, EACH))
def test_derivatives_are_those_of_the_steps_written_out(
    f: Function, args: Sequence[Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name.startswith("vmap"):
        args = [numpy.stack([a, 0.9 * a]) for a in args]
    ours = DERIVATIVES[name](f)(*args)
    for module in MODULES:
        monkeypatch.setattr(f"functrans.api.{module}.in_steps", lambda jaxpr: jaxpr)

    forget_programs()
    theirs = DERIVATIVES[name](lambda *given: f(*given))(*args)
    forget_programs()
    for a, b in zip(ft.tree.leaves(ours), ft.tree.leaves(theirs), strict=True):
        assert_close(a, b, 1e-11)


def test_each_derivative_is_taken_once() -> None:
    """Of 60 steps, forward and backward are two programs each: the first step's too, at most."""
    found = program(ft.value_and_grad(chain), X)
    assert 100 <= len(bodies(found)) <= 120
    assert len(set(bodies(found))) <= 4


def test_what_differs_in_params_goes_before_the_step() -> None:
    found = in_steps(program(recurrent, W, XS))
    (body,) = set(bodies(found))
    assert "slice" not in {e.primitive.name for e in body.eqns}
    assert {e.primitive.name for e in body.eqns} >= {"dot_general", "tanh"}


def test_steps_whose_insides_differ_stay() -> None:
    def rolled(x: Any) -> Any:
        for k in range(40):
            x = np.sin(np.roll(np.cos(x) + 1.0, k % 5)) * 0.5 + np.exp(-x) - np.tanh(x)
        return np.sum(x)

    jaxpr = program(rolled, X)
    found = in_steps(jaxpr)
    a, b = interpreted(found, [X]), interpreted(jaxpr, [X])
    assert numpy.array_equal(a[0], b[0])
    assert_close(ft.jit(ft.grad(rolled))(X), ft.jacfwd(rolled)(X), 1e-11)


def test_prints_stay_where_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    def loud(x: Any) -> Any:
        for k in range(30):
            x = np.sin(x) * np.cos(x) + np.exp(-x) * 0.1 + 0.5
            ft.debug.print(f"step {k}: {{}}", x[0])
        return np.sum(x)

    ft.jit(ft.grad(loud))(X)
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"step {k}" for k in range(30)]


def test_the_memory_budget_sees_into_steps() -> None:
    value, gradient = ft.value_and_grad(chain, memory=10**6)(X)
    assert_close(gradient, ft.grad(chain)(X), 1e-12)
    with pytest.raises(BudgetError):
        ft.value_and_grad(chain, memory=10)(X)
    assert numpy.isfinite(value)


OPERATIONS: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b,
    lambda a, b: a * 0.5 - b * 0.3,
    lambda a, b: np.sin(a) * np.cos(b),
    lambda a, b: np.tanh(a * b),
    lambda a, b: np.where(a > b, a, 0.5 * b),
    lambda a, b: np.exp(-a * a) + 0.1 * b,
    lambda a, b: np.sum(a) * 0.01 + np.sin(b),
    lambda a, b: np.flip(a) * 0.5 + b / (1.0 + b * b),
]
recipes = st.lists(
    st.tuples(st.integers(0, len(OPERATIONS) - 1), st.integers(0, 3), st.integers(0, 3)),
    min_size=3,
    max_size=8,
)


def check_loop(recipe: list[tuple[int, int, int]], count: int, collects: bool, reads: bool) -> None:
    """Random steps on two carried arrays, with or without data for each and states that stay."""
    data = numpy.linspace(0.0, 1.0, count * 12).reshape(count, 12)

    def f(x: Any, y: Any) -> Any:
        kept: list[Any] = []
        for k in range(count):
            values = [x, y, data[k] if reads else x * 0.1 * k, np.sin(y)]
            for place, (which, a, b) in enumerate(recipe):
                values[place % 4] = np.clip(OPERATIONS[which](values[a], values[b]), -3.0, 3.0)
            x, y = 0.9 * values[0] + 0.1 * x, values[1]
            if collects:
                kept.append(x)
        return np.sum(x * y) + (np.sum(np.stack(kept)) if kept else 0.0)

    args = [X, 0.5 * X]
    closed = ft.jit(f).trace(*args).jaxpr
    found = in_steps(closed.jaxpr)
    check_jaxpr(found)
    inputs = [*closed.consts, *args]
    assert numpy.array_equal(interpreted(found, inputs)[0], interpreted(closed.jaxpr, inputs)[0])
    gradient = ft.jit(ft.grad(f, (0, 1)))
    ours, beside = gradient(*args), gradient(*[(1 + 1e-15) * a for a in args])
    forward = ft.jit(ft.jacfwd(f, (0, 1)))(*args)
    for got, near, expected in zip(ours, beside, forward, strict=True):
        # Some loops are chaotic: what rounding does at the start is all that is known at the end.
        assert_close(got, expected, 1e-9 + 10 * float(abs(got - near).max()))


random_loops = given(recipes, st.integers(12, 40), st.booleans(), st.booleans())
test_random_loops = settings(max_examples=4)(random_loops(check_loop))
test_more_random_loops = pytest.mark.full(settings(max_examples=100)(random_loops(check_loop)))


def test_steps_are_evaluated_as_if_written_out() -> None:
    """They are no programs of their own, that would be compiled each by itself."""
    jaxpr = program(chain, X)
    found = in_steps(jaxpr)
    assert len(written_out(found).eqns) == len(jaxpr.eqns)
    assert written_out(jaxpr) is jaxpr
    check_jaxpr(written_out(found))
    eval_jaxpr(found, [X])
    assert "tier" in found.cache
    assert all("tier" not in body.cache for body in bodies(found))
