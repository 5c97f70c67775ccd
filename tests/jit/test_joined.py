"""A gradient that needs what a while gives takes its steps once: values, forms, and cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
from functrans import lax
from functrans import numpy as fnp
from functrans.extend import eval_jaxpr
from jit import pipeline

Function = Callable[..., Any]
RNG = np.random.default_rng(3)
W = RNG.normal(size=(90, 90)) * 0.05
B = np.linspace(-1.0, 1.0, 90)


def cube_root(a: Any) -> Any:
    def step(c: Any) -> Any:
        x, _ = c
        return x - (x * x * x - a) / (3.0 * x * x), x

    far = lambda c: abs(c[0] - c[1]) > 1e-12 * abs(c[0])
    return lax.while_loop(far, step, (a, 0.0 * a))[0]


def settled(w: Any, b: Any) -> Any:
    """A fixed point of what is too wide for registers."""
    step = lambda c: (c[0] + 1, fnp.tanh(w @ c[1] + b))
    return lax.while_loop(lambda c: c[0] < 20, step, (0, 0.0 * b))[1]


def never(a: Any) -> Any:
    return lax.while_loop(lambda x: x < 0.0, lambda x: x * x, a)


def inner_loss(a: Any) -> Any:
    """A gradient in a loop."""
    slope = ft.grad(lambda a: cube_root(a) ** 2)
    return lax.scan(lambda c, x: (c + slope(c + x), None), a, np.arange(3.0))[0]


def two_in_turn(a: Any) -> Any:
    """The second begins where the first has ended: one lies between the other and its passes."""
    return fnp.sin(cube_root(1.0 + cube_root(a) ** 2))


def inside(a: Any) -> Any:
    """What lies between holds a loop."""
    x = cube_root(a)
    return lax.fori_loop(0, 5, lambda i, c: c * x + fnp.cos(x), x)


LANES = np.array([8.0, 1.0, 27.0, 0.5, 1000.0, 3.0, 2.0, 9.0, 1.5, 64.0])
squared = lambda a: cube_root(a) ** 2
CASES: dict[str, tuple[str, Function, tuple[Any, ...]]] = {
    "value and gradient": ("registers", ft.value_and_grad(cube_root), (8.0,)),
    "gradient of a square": ("registers", ft.grad(squared), (8.0,)),
    "both": ("registers", ft.value_and_grad(lambda a: fnp.exp(-cube_root(a)) * squared(a)), (8.0,)),
    "no step": ("registers", ft.value_and_grad(lambda a: never(a) ** 2), (3.0,)),
    "one step": ("registers", ft.value_and_grad(lambda a: never(a) ** 2), (-3.0,)),
    "float32": ("registers", ft.value_and_grad(lambda a: never(a) ** 2), (np.float32(-3),)),
    "complex": (
        "registers",
        ft.value_and_grad(
            lambda a: abs(lax.while_loop(lambda z: abs(z) < 9.0, lambda z: z * z + a, a * 1j)) ** 2
        ),
        (1.25,),
    ),
    "in turn": ("registers", ft.value_and_grad(two_in_turn), (8.0,)),
    "a loop between": ("registers", ft.value_and_grad(inside), (8.0,)),
    "wide": (
        "program",
        ft.value_and_grad(lambda w, b: fnp.sum((settled(w, b) - 1.0) ** 2), (0, 1)),
        (W, B),
    ),
    "wide, its value": ("program", ft.value_and_grad(lambda b: settled(W, b)[3]), (B,)),
    "wide, a matrix between": (
        "program",
        ft.grad(lambda w, b: fnp.sum(fnp.tanh(w @ settled(w, b)) ** 2), (0, 1)),
        (W, B),
    ),
    "lanes": ("lanes", ft.vmap(ft.value_and_grad(squared)), (LANES,)),
    "lanes added up": ("lanes", ft.grad(lambda a: fnp.sum(ft.vmap(squared)(a))), (LANES,)),
}


def program_of(f: Function, *args: Any) -> pipeline.Executable:
    return pipeline.compile_jaxpr(ft.make_jaxpr(f)(*args).jaxpr)


def same_as_evaluated(f: Function, *args: Any) -> None:
    made = ft.make_jaxpr(f)(*args)
    values = [*made.consts, *ft.tree.leaves(args)]
    expected = eval_jaxpr(made.jaxpr, values)
    for a, b in zip(ft.tree.leaves(ft.jit(f)(*args)), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6 if np.asarray(b).dtype == "f4" else 1e-9)


@pytest.mark.parametrize("name", CASES)
def test_one_loop_serves_both(name: str) -> None:
    form, f, args = CASES[name]
    same_as_evaluated(f, *args)
    lines = str(program_of(f, *args).report).splitlines()
    assert any(f"joined as {form}" in line for line in lines)
    assert not any("while as" in line or "sweep as" in line for line in lines)


def test_a_gradient_in_a_loop() -> None:
    same_as_evaluated(ft.value_and_grad(lambda a: inner_loss(a) ** 2), 8.0)


@pytest.mark.parametrize("count", [3, 9, 40])
def test_lanes_that_wait_for_all(count: int) -> None:
    """The loss has all lanes together: they cannot run one after the other to its end."""
    loss = lambda a: fnp.exp(-fnp.sum(ft.vmap(cube_root)(a)) / count)
    same_as_evaluated(ft.value_and_grad(loss), np.linspace(0.5, 30.0, count))


def test_work_that_leaves_the_steps_leaves_both() -> None:
    """It is done once, and the loop is one; also where another loop lies between."""

    def f(w: Any, b: Any) -> Any:
        turned = lambda c: fnp.tanh((w @ w.T) @ c) + b
        x = lax.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, turned(c[1])), (0, b))[1]
        return fnp.sum(x * settled(w, x) ** 2)

    same_as_evaluated(ft.value_and_grad(f, (0, 1)), W, B)
    report = str(program_of(ft.value_and_grad(f, (0, 1)), W, B).report)
    assert "joined as program" in report
    assert "while as" not in report
    assert "sweep as" not in report


def test_loops_of_lanes_that_are_programs_run_apart() -> None:
    """What lies between may need all lanes: another joined loop among it."""

    def f(w: Any, b: Any) -> Any:
        go_on = lambda c: (c[0] < 9) & (fnp.sum(c[1] ** 2) < 40.0)
        step = lambda c: (c[0] + 1, c[1] + fnp.tanh(w @ c[1]) + 0.2)
        many = ft.vmap(lambda b: lax.while_loop(go_on, step, (0, b))[1])(fnp.stack([b, 0.1 * b]))
        return fnp.sum(settled(w, fnp.sum(many, 0)) ** 2)

    same_as_evaluated(ft.value_and_grad(f, (0, 1)), W, B)
    report = str(program_of(ft.value_and_grad(f, (0, 1)), W, B).report)
    assert "joined as program" in report
    assert "sweep as program" in report


def test_second_derivatives() -> None:
    same_as_evaluated(ft.value_and_grad(ft.grad(squared)), 8.0)
    same_as_evaluated(ft.hessian(lambda b: fnp.sum(settled(W[:9, :9], b) ** 2)), B[:9])
    same_as_evaluated(lambda a: ft.jvp(ft.grad(squared), (a,), (1.0,)), 8.0)


def test_another_loop_is_not_taken_for_it() -> None:
    """Alike but for its start, its constants, or what it does."""

    def f(a: Any, b: Any) -> Any:
        return cube_root(a) * cube_root(b) + never(a) * never(-b)

    same_as_evaluated(ft.value_and_grad(f, (0, 1)), 8.0, 27.0)


def test_what_acts_keeps_its_order() -> None:
    """A message between is told after the loop, once."""
    told: list[float] = []

    def f(a: Any) -> Any:
        x = cube_root(a)
        ft.debug.callback(lambda x: told.append(float(x)), x)
        return x * x

    value, slope = ft.jit(ft.value_and_grad(f))(8.0)
    np.testing.assert_allclose([value, slope], [4.0, 1 / 3])
    np.testing.assert_allclose(told, [2.0])


def test_an_error_between_frees_the_stack() -> None:
    """An index out of bounds, known when the loop is over."""

    def f(b: Any) -> Any:
        x = settled(W, b)
        place = fnp.sum(abs(x) >= 0.0) + fnp.sum(x > 2.0)
        return fnp.sum(x**2 * fnp.array(B)[place - 1 + fnp.sum(b > 5.0)])

    gradient = ft.jit(ft.value_and_grad(f))
    same_as_evaluated(ft.value_and_grad(f), B)
    for _ in range(50):
        with pytest.raises(IndexError):
            gradient(B + 10.0)
    gradient(B)


def test_the_steps_are_taken_once() -> None:
    """The constant of a step stands once in the loops: the value costs nothing beside the
    gradient, as with a scan."""

    def step(c: Any) -> Any:
        x, y, z = c
        return (
            x + 1e-3 * 10.0 * (y - x),
            y + 1e-3 * (x * (28.0 - z) - y),
            z + 1e-3 * (x * y - 8.0 / 3.0 * z),
        )

    def looped(c: Any) -> Any:
        go_on, more = lambda c: c[0] < 2000, lambda c: (c[0] + 1, step(c[1]))
        return sum(lax.while_loop(go_on, more, (0, c))[1]) ** 2

    def scanned(c: Any) -> Any:
        return sum(lax.scan(lambda c, _: (step(c), None), c, None, length=2000)[0]) ** 2

    start = (1.0, 2.0, 3.0)
    run = [ft.jit(ft.value_and_grad(f)) for f in (looped, scanned)]
    for a, b in zip(*[ft.tree.leaves(f(start)) for f in run], strict=True):
        np.testing.assert_allclose(a, b)
    assert [f.lower(start).as_text("loops").count("28.0") for f in run] == [1, 1]
