"""The memo and functions that run segment by segment, where they ask; and arrays they write to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
from functrans import tiers
from functrans.api.tape import Program
from functrans.memo import trie
from tests.memo_tools import Counts, X, agree, check, steps_then

pytestmark = pytest.mark.usefixtures("empty_memo")


def pulled(x: Any) -> Any:
    value, pullback = ft.vjp(steps_then, x)
    return value, pullback(1.0), pullback(2.0)


@pytest.mark.parametrize("gradient", [ft.grad(steps_then), pulled], ids=["grad", "vjp"])
def test_a_loop_of_any_length_is_one_program(
    gradient: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = Counts(monkeypatch)
    for x in (1.0, 2.0):
        gradient(x)
    size = len([*trie.roots()[0].below()])
    for x in (0.5, 3.0, 30.0):
        assert counts.of(lambda x=x: gradient(x)) == {}
        found = gradient(x)
        ft.config.memo = False
        agree(found, gradient(x))
        ft.config.memo = True
    assert len([*trie.roots()[0].below()]) == size


@pytest.mark.parametrize("most", [10_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_the_time_of_a_loop_is_linear(most: int) -> None:
    """A step of a long loop costs what one of a short loop does, in time of this thread."""

    def f(x: Any, steps: int) -> Any:
        y = x
        while y < steps:
            y = y + 1.0
        return y * x

    def seconds_a_step(steps: int, calls: int) -> float:
        gradient = ft.grad(f)
        assert gradient(0.5, steps) == 2 * 0.5 + np.ceil(steps - 0.5)
        best = math.inf
        for _ in range(calls):
            begin = time.thread_time()
            gradient(0.5, steps)
            best = min(best, time.thread_time() - begin)
        return best / steps

    seconds_a_step(100, 2)
    tiers.wait()
    assert seconds_a_step(most, 2) < 3.0 * seconds_a_step(1000, 3)


def test_a_loop_of_500_to_1500_steps_adds_nothing() -> None:
    """After the fifth call, whatever the number of steps: no program, no leaf, no memory."""

    def f(x: Any) -> Any:
        y, n = x, 0
        while y > 1e-3:
            y = y * 0.993 - 1e-6 * np.sin(x) * y
            n += 1
        steps.append(n)
        return y * x

    steps: list[int] = []
    ft.config.unjitted = "compiled"
    gradient = ft.grad(f)
    starts = [0.05, 1.0, 10.0, 0.2, 3.0, 0.04, 20.0, 0.5, 7.0, 0.1]
    for x in starts[:5]:
        gradient(x)
    before = ft.memo_info()
    for x in starts[5:]:
        gradient(x)
    after = ft.memo_info()
    assert len(set(steps)) == len(starts)
    assert min(steps) >= 500
    assert max(steps) <= 1500
    assert after[1:] == before[1:]
    assert after.hits > before.hits + 5 * 500
    assert after.leaves <= 4
    assert after.compiled == after.leaves
    assert after.steps < 30


def test_a_loop_is_linear_in_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step moves the trace on by the same number of operations."""
    lengths: list[int] = []
    original = Program.pulled

    def counting(self: Program, *given: Any) -> Any:
        lengths.append(len(self.forward.eqns) + self.span)
        return original(self, *given)

    monkeypatch.setattr(Program, "pulled", counting)
    for x in (1.0, 1e6):
        ft.grad(steps_then)(x)
        lengths.clear()
        ft.grad(steps_then)(x)
        assert len(set(lengths[1:-2])) == 1
    assert len(lengths) > 100


def test_values_of_earlier_segments() -> None:
    """What was made before an ask, arrays and views of them included, is used after it."""

    def f(x: Any) -> Any:
        buffer, total, kept = np.zeros_like(x), 0.0, []
        for i in range(3):
            buffer[i] = x[i] * 2
            view = buffer[1:]
            if view[0] > 0.5:
                buffer[2] += x[0] * view[1]
            view[0] *= 2
            kept.append(x * i)
            total = total + buffer.sum()
        return total + sum(k.sum() for k in kept) * x[0]

    check(ft.grad(f), X)
    check(ft.grad(f), X * 2)
    check(ft.value_and_grad(f), X)


def test_asks_in_no_grad_and_with_aux() -> None:
    def f(x: Any) -> Any:
        with ft.no_grad():
            scale = x * 2
            if scale[0] > 0.1:
                scale = scale + x
        if scale[1] > 0.2:
            return (scale * x).sum(), {"scale": scale, "label": "big"}
        return x.sum(), {"scale": x, "label": "small"}

    for x in (X, X * 0.1, X, -X):
        check(ft.grad(f, has_aux=True), x)
        check(ft.value_and_grad(f, has_aux=True), x)


def test_asks_inside_nested_transforms() -> None:
    def inner(y: Any, x: Any) -> Any:
        return y * y * x if y > x * 0.5 else y * x * 3

    for a in (0.5, 0.8, 0.5):
        check(ft.grad(lambda x: ft.grad(inner)(x * 0.6, x) * x), a)
        check(ft.grad(ft.grad(steps_then)), a)
        check(ft.vjp, lambda x: steps_then(x), a, then=lambda pair: pair[1](1.0))
        check(ft.jvp, steps_then, (a,), (1.0,))


def fills(x: Any) -> Any:
    out = np.zeros_like(x)
    out[0] = x[0]
    for i in range(1, len(x)):
        out[i] = np.sin(x[i]) + out[i - 1]
    out += x
    out[np.array([0, 2])] *= 3.0
    return np.sum(out * out)


def stencils(x: Any) -> Any:
    u = x * 1.0
    for _ in range(3):
        u[1:-1] += 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])
        left = u[:2]
        left -= 0.5
    return np.sum(u * x)


def keeps_some_views(x: Any) -> Any:
    u, kept = x * 2.0, []
    for i in range(3):
        row = u[i:]
        if i == x.size % 2:
            kept.append(row)
        u[i] *= x[i]
    u[:] = u.T * 0.5
    return sum(k.sum() for k in kept) + u.sum()


def writes_between_asks(x: Any) -> Any:
    u, n = x * 1.0, 0
    middle = u[1:2]
    while u[0] < 9.0:
        u[0] += x[0]
        middle *= 1.1
        u[n % 2 :] += 0.01
        n += 1
    return np.sum(u * u)


def writes_to_numbers(x: Any) -> Any:
    total = np.zeros_like(np.sum(x))
    for i in range(3):
        total += x[i]
        total[...] = total * 2
    return total


@pytest.mark.parametrize(
    "f", [fills, stencils, keeps_some_views, writes_between_asks, writes_to_numbers]
)
def test_writes_are_known_when_they_come_again(f: Callable[..., Any]) -> None:
    """Writes to arrays, and through views of them, are steps as any other operation."""
    x = np.array([0.5, 1.5, -0.5])
    check(ft.grad(f), x)
    before = ft.memo_info()
    ft.grad(f)(x)
    after = ft.memo_info()
    assert (after.misses, after.leaves, after.steps) == (before.misses, before.leaves, before.steps)
    assert after.hits > before.hits
    for y in (x * 1.1, np.array([1.0, -1.0, 2.0, 0.1]), x):
        check(ft.grad(f), y)
    np.testing.assert_allclose(ft.grad(f)(x), by_differences(f, x), rtol=1e-7, atol=1e-8)


def by_differences(f: Callable[..., Any], x: Any, h: float = 1e-6) -> Any:
    """Central differences of plain NumPy, to seven digits."""
    steps = np.eye(x.size) * h
    return np.array([(f(x + e) - f(x - e)) / (2 * h) for e in steps])


def test_a_write_after_a_known_beginning() -> None:
    """What is written to, and views of it, are what they were when a trace leaves the memo."""

    def f(x: Any, branch: bool) -> Any:
        u = x * 2.0
        v = u[1:]
        u[0] = x[1]
        v *= x[2]
        w = v[:1]
        if branch:
            w += u[0]
            return np.sum(np.cos(u)) + v.sum()
        u[:] = np.sin(u)
        return np.sum(w) + np.sum(u)

    for branch in (True, False, True, False, False):
        check(ft.grad(f), X, branch)
