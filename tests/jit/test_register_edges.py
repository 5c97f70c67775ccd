"""Loops in registers: complex rows on the stack, operands that branches read, places outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import lax
from functrans.bind import eval_jaxpr
from jit.pipeline import compile_jaxpr
from tests.guarded import can_guard, guarded

RNG = np.random.default_rng(3)


def in_registers(
    f: Callable[..., Any], *args: Any, place: Callable[[Any], Any] = np.asarray
) -> None:
    """Every loop and branch of f runs in registers, and gives what the evaluator gives."""
    closed = ft.make_jaxpr(f)(*args)
    made, given = compile_jaxpr(closed.jaxpr), [*closed.consts, *map(np.asarray, args)]
    forms = [line.split(" as ")[1] for line in made.report.kernels if " as " in line]
    assert forms
    assert all(form.startswith("registers") for form in forms)
    expected = eval_jaxpr(closed.jaxpr, given)
    for a, b in zip(made([place(x) for x in given]), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def two_at_each_step(a: Any) -> Any:
    """An inner loop too long to be unrolled reads and makes two complex numbers at each step."""

    def step(e: Any, z: Any) -> Any:
        found = fnp.sin(0.5 * e + z[0] - z[1])
        return found, fnp.stack([fnp.exp(-e * z[1]), z[0] * e])

    def outer(c: Any, x: Any) -> Any:
        e, ys = lax.scan(step, c, x * c)
        return 0.1 * e + 0.01 * ys[7, 0] * ys[6, 1], ys[::5]

    return lax.scan(outer, a[0, 0, 0], a)


def test_rows_of_complex_numbers_on_the_stack() -> None:
    a = RNG.random((3, 20, 2)) + 1j * RNG.random((3, 20, 2))
    in_registers(two_at_each_step, a)


def in_each_branch(x: Any) -> Any:
    """Both branches read what is computed for them alone."""
    y = fnp.exp(0.1 * x)

    def walk(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda y: lax.fori_loop(0, 3, lambda i, c: f(c) * y, 0.5)

    return lax.cond(x > 0.5, walk(fnp.sin), walk(lambda c: fnp.cos(c) + 1.0), y)


@pytest.mark.parametrize("x", [0.25, 0.75])
def test_branches_read_an_operand_that_is_computed_in_front_of_them(x: float) -> None:
    in_registers(in_each_branch, x)


def found_or_not(t: Any, places: Any) -> Any:
    """Looks up places that the carry names, where they are in the table."""

    def body(c: Any, k: Any) -> Any:
        i, total = c
        total = total + fnp.at(t)[i].get(mode="fill", fill_value=0.0)
        return (i + places[k % 3], total), total

    return lax.scan(body, (0, 0.0), np.arange(9))


@pytest.mark.skipif(not can_guard(), reason="this system cannot forbid pages")
@pytest.mark.parametrize("at_end", [True, False])
def test_places_outside_are_not_read(at_end: bool) -> None:
    t, places = RNG.random(7), np.array([3, 4, -9])
    in_registers(found_or_not, t, places, place=lambda x: guarded(x, at_end))


def running(x: Any) -> Any:
    """Running sums, products and extrema from both ends, along either axis."""

    def body(c: Any, k: Any) -> Any:
        up, down = lax.cumsum(c, axis=1), lax.cumsum(c, axis=0, reverse=True)
        high, low = lax.cummax(up, axis=0, reverse=True), lax.cummin(down * k, axis=1)
        product = lax.cumprod(1.0 + 0.1 * c, axis=1)
        return 0.1 * fnp.sin(up - down) + 0.01 * (high - low), (up, down, high, low, product)

    return lax.scan(body, x, np.linspace(-1.0, 1.0, 4))


def test_running_totals() -> None:
    in_registers(running, RNG.standard_normal((3, 4)))


def squares(x: Any) -> Any:
    """Reads and writes a small matrix at rows and columns that only the loop knows."""

    def body(c: Any, k: Any) -> Any:
        i, j = (2 * k) % 3, (k * k) % 4
        w = fnp.at(c * 1.5)[i, j].add(0.25)
        w = fnp.at(w)[fnp.array([0, 2]), fnp.stack([j, i])].set(w[1, 0] - 1.0)
        w = fnp.at(w)[1, fnp.stack([i, j - 4])].multiply(w[2, j])
        w = fnp.at(fnp.at(w)[2, j].min(w[0, 1]))[i, -1].max(w[0, 2])
        return 0.5 * fnp.sin(w), w[(i + 1) % 3, (j + k) % 4] - c[i, j]

    return lax.scan(body, x, np.arange(13))


def test_places_in_two_axes() -> None:
    in_registers(squares, RNG.standard_normal((3, 4)))
