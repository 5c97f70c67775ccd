"""Loops at their edges, evaluated and compiled: closures, bools, a million steps, lanes that stop.

What loops mean is in test_control.py, how they are compiled in jit/test_control.py.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import functrans as ft
from functrans import lax
from functrans import numpy as fnp
from functrans.errors import BudgetError
from functrans.ir import check_jaxpr
from jit import pipeline

Function = Callable[..., Any]
RUNS: dict[str, Callable[[Function], Function]] = {"evaluated": lambda f: f, "compiled": ft.jit}


@pytest.fixture(autouse=True)
def evaluated() -> Iterator[None]:
    """What is not compiled is evaluated."""
    before = ft.config.unjitted
    ft.config.unjitted = "interpreted"
    yield
    ft.config.unjitted = before


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Callable[[Function], Function]:
    return RUNS[request.param]


def same(actual: Any, expected: Any, rtol: float = 1e-9) -> None:
    for a, b in zip(ft.tree.leaves(actual), ft.tree.leaves(expected), strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


def slope(f: Function, x: float) -> float:
    return (f(x + 1e-6) - f(x - 1e-6)) / 2e-6


# -- closures -----------------------------------------------------------------------------------


def _in_places(x: Any) -> Any:
    """A branch uses the counter of the loop around it, and so does the loop inside that branch."""

    def body(i: Any, x: Any) -> Any:
        inner = lambda x: lax.fori_loop(0, i % 5, lambda j, x: fnp.at(x)[j].add(x[i]), x)
        return lax.cond(i % 3 == 0, lambda x: fnp.at(x)[i].set(2.0 * i * x[0]), inner, x)

    return lax.fori_loop(0, 12, body, x)


def _in_places_written_out(x: Any) -> Any:
    x = x.copy()
    for i in range(12):
        if i % 3 == 0:
            x[i] = 2.0 * i * x[0]
        else:
            for j in range(i % 5):
                x[j] += x[i]
    return x


def test_inner_loops_and_branches_use_the_counters_around_them(run: Any) -> None:
    x, v = np.linspace(0.5, 1.5, 12), np.cos(np.arange(12.0))
    same(run(_in_places)(x), _in_places_written_out(x))
    gradient = ft.grad(lambda x: np.sum(_in_places(x) * v))
    check_jaxpr(ft.make_jaxpr(gradient)(x).jaxpr)
    columns = [
        (_in_places_written_out(x + 1e-6 * e) - _in_places_written_out(x - 1e-6 * e)) / 2e-6
        for e in np.eye(12)
    ]
    same(run(gradient)(x), np.array(columns) @ v, 1e-6)


def test_every_kind_of_loop_inside_of_one(run: Any) -> None:
    def step(i: Any, c: Any) -> Any:
        go_on, more = lambda d: d[0] < i, lambda d: (d[0] + 1, d[1] * (i + 1.0))
        grown = lax.while_loop(go_on, more, (0, c))[1]
        summed = lambda c: lax.scan(lambda a, b: (a + b * i * a, None), c, np.arange(3.0))[0]
        return c + grown + lax.switch(i % 3, [lambda c: c * i, lambda c: c + i, summed], c)

    def written_out(c: float) -> float:
        for i in range(5):
            summed = c
            for b in range(3):
                summed += b * i * summed
            c = c + c * (i + 1.0) ** i + [c * i, c + i, summed][i % 3]
        return c

    f = lambda x: lax.fori_loop(0, 5, step, x)
    same(run(f)(0.3), written_out(0.3))
    same(run(ft.grad(f))(0.3), slope(written_out, 0.3), 1e-6)


# -- bools and numbers as carries ---------------------------------------------------------------


@pytest.mark.parametrize("init", [True, False, np.True_, np.array(False)])
@pytest.mark.parametrize("length", [0, 1, 4])
def test_a_bool_that_is_turned_at_each_step(run: Any, init: Any, length: int) -> None:
    """Also one of Python, of which ~ makes an integer outside of loops."""
    f = lambda xs: lax.scan(lambda c, x: (~c, (c, None)), init, xs)
    last, (turns, nothing) = run(f)(np.zeros(length))
    assert nothing is None
    assert np.asarray(last).dtype == bool
    assert bool(last) == (bool(init) ^ (length % 2 == 1))
    assert turns.dtype == bool
    assert turns.tolist() == [bool(init) ^ (k % 2 == 1) for k in range(length)]


def test_a_condition_that_is_turned(run: Any) -> None:
    """~ of a comparison of Python numbers is the other bool: else this would never end."""
    same(run(lambda: lax.while_loop(lambda x: ~(x > 3.0), lambda x: x + 1.0, 0.0))(), 4.0)
    assert bool(run(lambda: lax.while_loop(lambda c: ~c, lambda c: ~c, False))())


def test_carries_whose_types_change(run: Any) -> None:
    """An integer is turned bit by bit; what is divided becomes a float, as what it is added to."""
    assert run(lambda: lax.fori_loop(0, 3, lambda i, c: ~c, 5))() == -6
    assert run(lambda: lax.fori_loop(0, 3, lambda i, c: c + True, 0))() == 3
    assert run(lambda: lax.fori_loop(0, 3, lambda i, c: c / 2, 8))() == 1.0
    turned = run(lambda: lax.fori_loop(0, 4, lambda i, c: (c[1], c[2] + 1, c[0]), (0, 1, 0.5)))()
    same(turned, (2.0, 2.5, 1.0))
    single = run(lambda: lax.fori_loop(0, 3, lambda i, c: c * np.float32(2), 1))()
    assert single.dtype == np.float32
    assert single == 8.0


# -- numbers of steps ---------------------------------------------------------------------------


def test_a_million_steps() -> None:
    """In native code; forward and backward are exact."""
    steps = 1_000_000
    count = ft.jit(lambda n: lax.fori_loop(0, n, lambda i, c: c + 1, 0))
    assert count(steps) == steps
    gradient = ft.jit(ft.grad(lambda x: lax.fori_loop(0, steps, lambda i, c: c + x, 0.0)))
    assert gradient(0.5) == steps
    f = lambda x: lax.while_loop(lambda c: c[0] < steps, lambda c: (c[0] + 1, c[1] + x), (0, 0.0))
    assert ft.jit(ft.grad(lambda x: f(x)[1]))(0.5) == steps
    ys = ft.jit(lambda: lax.scan(lambda c, _: (c + 1, c), 0, None, length=steps)[1])()
    assert (ys == np.arange(steps)).all()


def test_lanes_of_very_different_length(run: Any) -> None:
    """Each stops when it is done: no lane waits for another for ever, none goes on to NaN."""

    def f(n: Any, x: Any) -> Any:
        def step(c: Any) -> Any:
            k, y = c
            return k - 1, y + fnp.sqrt(k - 1.0) * x / k

        return lax.while_loop(lambda c: c[0] > 0, step, (n, x))[1]

    def written_out(n: int, x: float) -> float:
        return x + sum(np.sqrt(k - 1.0) * x / k for k in range(1, n + 1))

    ns, xs = np.array([0, 1, 2000, 3, 0, 50, 1, 7, 2, 9]), np.linspace(0.5, 2.0, 10)
    rows = [written_out(n, x) for n, x in zip(ns.tolist(), xs, strict=True)]
    same(run(ft.vmap(f))(ns, xs), np.array(rows))
    grads = [written_out(n, 1.0) for n in ns.tolist()]
    same(run(ft.vmap(ft.grad(f, argnums=1)))(ns, xs), np.array(grads))


# -- transforms of each other -------------------------------------------------------------------


def test_jvp_of_a_cond_in_a_scan_in_vmap(run: Any) -> None:
    def f(x: Any, ks: Any) -> Any:
        def step(c: Any, k: Any) -> Any:
            c = lax.cond(c * k > 0.2, lambda c: fnp.sin(c) * k, lambda c: c * c + x, c)
            return c, c * k

        return lax.scan(step, x, ks)

    def written_out(x: float, ks: Any) -> Any:
        c, rows = x, []
        for k in ks:
            c = np.sin(c) * k if c * k > 0.2 else c * c + x
            rows.append(c * k)
        return c, np.array(rows)

    xs, ks = np.linspace(-1.0, 1.0, 7), np.linspace(-2.0, 2.0, 6)
    pushed = lambda x, v: ft.jvp(lambda x: f(x, ks), (x,), (v,))
    values, dots = run(ft.vmap(pushed))(xs, np.cos(xs))
    members = [written_out(x, ks) for x in xs]
    same(values, tuple(np.stack(group) for group in zip(*members, strict=True)))
    eps = 1e-7
    for x, v, *moved in zip(xs, np.cos(xs), *dots, strict=True):
        more, less = written_out(x + eps, ks), written_out(x - eps, ks)
        for dot, a, b in zip(moved, more, less, strict=True):
            same(dot, v * (a - b) / (2 * eps), 1e-5)


def test_hessian_through_a_while_and_gradient_of_a_gradient_of_a_scan(run: Any) -> None:
    f = lambda x: lax.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, c[1] * x), (0, 1.0))[1]
    same(run(ft.hessian(f))(1.5), 20 * 1.5**3)
    g = lambda x: lax.scan(lambda c, _: (fnp.sin(c) * x, None), x, None, length=3)[0]
    third = lambda x: fnp.sin(fnp.sin(fnp.sin(x) * x) * x) * x
    same(run(ft.grad(ft.grad(g)))(0.7), ft.grad(ft.grad(third))(0.7))


# -- memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [2_000_000, 600_000, 150_000])
def test_a_compiled_gradient_keeps_to_its_budget(memory: int) -> None:
    """What a program holds at once, beside inputs and results, is its arena: of 400 carries of
    4 kB as many as fit, and a few arrays that a step is at work on."""
    w, x = np.eye(20) * 0.3, np.linspace(0.0, 1.0, 500).reshape(20, 25)
    loss = lambda w, x: np.sum(lax.fori_loop(0, 400, lambda i, c: np.tanh(w @ c) + 0.5 * c, x))
    kept = pipeline.compile_jaxpr(ft.make_jaxpr(ft.grad(loss, argnums=(0, 1)))(w, x).jaxpr)
    gradient = ft.grad(loss, argnums=(0, 1), memory=memory)
    bounded = pipeline.compile_jaxpr(ft.make_jaxpr(gradient)(w, x).jaxpr)
    assert bounded.program.arena_bytes < memory + 40_000
    if memory < 400 * x.nbytes:
        assert kept.program.arena_bytes > memory + 40_000
    same(ft.jit(gradient)(w, x), ft.jit(ft.grad(loss, argnums=(0, 1)))(w, x))


def test_a_budget_refuses_loops_of_unknown_length() -> None:
    f = lambda x: lax.while_loop(lambda x: x < 9.0, lambda x: x * x, x)
    with pytest.raises(BudgetError, match="takes a number of steps that nobody knows before"):
        ft.grad(f, memory=1_000_000)(2.0)
    assert ft.value_and_grad(f)(2.0) == (16.0, 32.0)


def test_an_update_of_a_large_carry_costs_what_it_writes() -> None:
    """A hundred thousand updates of few elements take as long in a small array as in a large."""

    def seconds(size: int) -> float:
        x = np.zeros(size)
        f = ft.jit(
            lambda x: lax.fori_loop(0, 100_000, lambda i, x: fnp.at(x)[i % 100].add(1.0), x),
            donate_argnums=0,
        )
        best = np.inf
        for _ in range(4):
            x = f(x)
            start = time.thread_time()
            x = f(x)
            best = min(best, time.thread_time() - start)
        assert x[:100].sum() == 8 * 100_000
        return best

    gc.collect()
    assert seconds(1_000_000) < 3 * seconds(1_000)
