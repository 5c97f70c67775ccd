"""Asks: functions that decide on values, with branches and loops, evaluated and compiled."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans.api import tape
from functrans.bind import is_evaluating
from functrans.forcing import Forcer
from functrans.memo import trie
from functrans.tracing import Node, Tracer
from functrans.walking import Walker
from jit.entry import steps
from jit.entry.layout import layout

X = np.array([0.5, 1.5, -0.25])


@pytest.fixture(autouse=True, params=["native", "compiled", "interpreted"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """How programs run; `native`: asks are C functions too."""
    trie.clear()
    before = ft.config.unjitted
    ft.config.unjitted = "interpreted" if request.param == "interpreted" else "compiled"
    steps.remove()
    if request.param == "native":
        if layout() is None:
            pytest.skip("the layout of objects is not proved")
        steps.install()
    yield request.param
    steps.remove()
    ft.config.unjitted = before


def branch(x: Any) -> Any:
    return np.sin(x) * x if x > 0.4 else x * x


def branches(x: Any) -> Any:
    y = np.cos(x)
    if y > 0.5:
        y = y * y
    if y > x:
        y = y * x + x * x
    elif y * 2.0 > x:
        return y
    return y / 2.0


def collatz(x: Any) -> Any:
    n, y = 0, x
    while n < 30 and y < 1e3:
        y = y / 2.0 + 0.3 if n % 3 and y > 1.0 else y * y + x
        n += 1
    return y


def doubling(x: Any) -> Any:
    y = x + 0.125
    for _ in range(30):
        y = y / 2.0 + 0.3 if y > 1.0 else y * y + x
    return y


def returned(x: Any) -> Any:
    """An argument, a value of an earlier segment, a constant: whatever was decided last."""
    y = x * x
    if x > 0.9:
        return x
    if y > 0.4:
        return y
    return 3.0 if y > 0.2 else y + x


def numbers(x: Any) -> Any:
    y = x * 3.0
    for i in range(int(y)):
        y = y + x / (i + y.item())
    return y * round(y)


def unused(x: Any) -> Any:
    """Results of a segment of which some get no cotangent."""
    a, b, c = x * 2.0, np.exp(x), np.floor(x * 4.0)
    if a < b:
        a = a * b
    if c > 1.0:
        return a + c
    return b * 1.0


def silent(x: Any) -> Any:
    y = x * x
    with ft.no_grad():
        z = y * x
        if z > 0.3:
            z = z * y
    return y * z if z > y else z + y


def written(x: Any) -> Any:
    held = fnp.zeros(3)
    for i in range(3):
        held[i] = x * i + held[i - 1]
        if held[i] > 0.5:
            held[0] += held[i] * x
    return held.sum()


FUNCTIONS = [branch, branches, collatz, doubling, returned, numbers, unused, silent, written]
POINTS = [0.3, 0.7, 1.2, 0.3, 0.5, 0.95, 0.7, 0.3]


@pytest.mark.parametrize("f", FUNCTIONS)
def test_as_without_the_memo(f: Callable[[Any], Any]) -> None:
    """Values and gradients at points that lead to different branches, in turn."""
    found = [ft.value_and_grad(f)(x) for x in POINTS]
    pulled = [ft.vjp(f, x)[1](2.0)[0] for x in POINTS]
    pushed = [ft.jvp(f, (x,), (3.0,)) for x in POINTS]
    mapped = [ft.linearize(f, x)[1](4.0) for x in POINTS]
    ft.config.memo = False
    expected = [ft.value_and_grad(f)(x) for x in POINTS]
    ft.config.memo = True
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    np.testing.assert_allclose(pulled, [2.0 * g for _, g in expected], rtol=1e-13)
    np.testing.assert_allclose(pushed, [(y, 3.0 * g) for y, g in expected], rtol=1e-13)
    np.testing.assert_allclose(mapped, [4.0 * g for _, g in expected], rtol=1e-13)


@pytest.mark.parametrize("f", [branch, branches, collatz])
def test_as_by_differences(f: Callable[[Any], Any]) -> None:
    for x in POINTS:
        step = 1e-6
        expected = (f(x + step) - f(x - step)) / (2 * step)
        np.testing.assert_allclose(ft.grad(f)(x), expected, rtol=1e-6)


def test_forward_through_trees_of_arguments() -> None:
    """Several arguments, one of them whole numbers, arrays, aux; a linear map used again."""

    def f(p: dict[str, Any], n: Any, x: Any) -> Any:
        y, steps = p["a"] * x, 0
        while y.sum() < 8.0:
            y = y * 1.5 + p["b"] * n
            steps += 1
        return {"y": y, "x": x}, (steps, y.sum())

    a, x = np.array([0.5, 1.0, 0.25]), np.array([1.0, 2.0, 0.5])
    for b in (0.5, 0.75, 0.5, 2.0):
        primals = ({"a": a, "b": b}, np.int64(2), x)
        zero = np.zeros((), int)
        dots = [({"a": x, "b": 1.0}, zero, a), ({"a": a, "b": -2.0}, zero, 0.5 * x)]
        found = [ft.jvp(f, primals, d, has_aux=True) for d in dots]
        value, derivative, aux = ft.linearize(f, *primals, has_aux=True)
        mapped = [derivative(*d) for d in (*dots, dots[0])]
        ft.config.memo = False
        expected = [ft.jvp(f, primals, d, has_aux=True) for d in dots]
        ft.config.memo = True
        for ours, theirs in zip(found, expected, strict=True):
            for one, two in zip(ft.tree.leaves(ours), ft.tree.leaves(theirs), strict=True):
                np.testing.assert_allclose(one, two, rtol=1e-13)
        agree = [(value, expected[0][0]), (aux, expected[0][2])]
        agree += list(zip(mapped, [e[1] for e in (*expected, expected[0])], strict=True))
        for one, two in agree:
            for p, q in zip(ft.tree.leaves(one), ft.tree.leaves(two), strict=True):
                np.testing.assert_allclose(p, q, rtol=1e-13)


def test_forward_over_reverse_and_inside() -> None:
    """Pushed through while something is staged around it."""
    for x in POINTS:
        _, derivative = ft.linearize(collatz, x)
        slope = ft.grad(collatz)(x)
        assert ft.grad(lambda t, d=derivative: d(t) * t)(3.0) == pytest.approx(6.0 * slope)
        assert ft.vmap(derivative)(np.arange(3.0)).tolist() == pytest.approx([0, slope, 2 * slope])
        assert ft.jit(derivative)(2.0) == pytest.approx(2.0 * slope)


def test_derivatives_that_are_staged_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a custom rule inside the rule itself: of a segment that ran without one."""
    expected = [ft.grad(branches)(x) for x in POINTS]
    trie.clear()
    original, refused = tape.linearize_jaxpr, set[int]()

    def later(jaxpr: Any, active: Any) -> Any:
        if id(jaxpr) not in refused:
            refused.add(id(jaxpr))
            raise ft.errors.ConcretizationError("not yet")
        return original(jaxpr, active)

    monkeypatch.setattr(tape, "linearize_jaxpr", later)
    for _ in range(2):
        np.testing.assert_allclose([ft.grad(branches)(x) for x in POINTS], expected)
        pushed = [ft.jvp(branches, (x,), (1.0,))[1] for x in POINTS]
        np.testing.assert_allclose(pushed, expected)
    assert len(refused) > 3


def test_nested() -> None:
    for x in POINTS:
        found = ft.grad(ft.grad(collatz))(x)
        step = 1e-5
        expected = (ft.grad(collatz)(x + step) - ft.grad(collatz)(x - step)) / (2 * step)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("f", [branch, branches, doubling])
def test_a_known_decision_is_not_looked_up(
    f: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way that a decision leads has expectations of its own: no key is built again."""
    for _ in range(2):
        for x in POINTS:
            ft.grad(f)(x)
    looked: list[Any] = []
    original = Walker._operate

    def counting(self: Walker, key: Any, *rest: Any) -> Any:
        looked.append(key[0])
        return original(self, key, *rest)

    monkeypatch.setattr(Walker, "_operate", counting)
    for x in POINTS:
        for _ in range(3):
            ft.grad(f)(x)
    assert looked == []


@pytest.mark.usefixtures("young_heap")
def test_a_long_loop_makes_nothing_that_is_collected() -> None:
    """Of each step the tape keeps numbers, which the garbage collector does not look through."""
    counts: list[int] = []

    def f(x: Any, most: float) -> Any:
        y = x
        while y < most:
            y = y + np.sin(x) * 0.125
        gc.collect()
        counts.append(len(gc.get_objects()))
        return y

    for most in (10.0, 80.0, 10.0, 80.0):
        ft.grad(f)(1.0, most)
    assert counts[3] - counts[2] < 100


def python_asks(call: Callable[[], Any]) -> int:
    """How often a call asks in Python."""
    seen: list[int] = []

    def profile(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is Forcer.decide.__code__:
            seen.append(1)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return len(seen)


def test_known_asks_of_a_loop_are_native(way: str) -> None:
    def f(x: Any) -> Any:
        y = x * 1.0
        while y < 100.0:
            y = y + np.sin(x) * 0.5
            if y > 50.0:
                y = y * 1.01
        return y

    for _ in range(4):
        ft.grad(f)(1.0)
    asks = python_asks(lambda: ft.grad(f)(1.0))
    assert asks < 3 if way == "native" else asks > 200


@pytest.mark.usefixtures("young_heap")
def test_asks_keep_nothing() -> None:
    """References to what asks take and give are as many after many calls as before."""
    low, high, kept = 1.25e-3, np.float64(3.5), np.array([1.0, 2.0])

    def f(x: Any) -> Any:
        y = x * low
        while y < high:
            y = y * 2.0 + low
            if (x * kept)[1] > 1e9:
                y = y * high
        return y * x

    def counts() -> list[int]:
        gc.collect()
        return [sys.getrefcount(o) for o in (low, high, kept, Tracer, Node, trie.DEAD)]

    for _ in range(3):
        ft.grad(f)(1.5)
    before, objects = counts(), len(gc.get_objects())
    for _ in range(60):
        ft.grad(f)(1.5)
    assert all(abs(a - b) <= 5 for a, b in zip(counts(), before, strict=True))
    assert len(gc.get_objects()) - objects < 50


def test_what_is_still_referred_to_is_a_result() -> None:
    """Tracers in lists, attributes, and generators, kept at times and dropped at others."""

    def f(x: Any, every: int) -> Any:
        kept: list[Any] = []
        y, n = x * 1.0, 0
        while y < 20.0:
            z = y * x
            y = y + z * 0.25 + 0.5
            if n % every == 0:
                kept.append(z)
            n += 1
        return y + sum(z * z for z in kept) * 1e-3

    for every in (1, 2, 3, 1, 50, 2):
        found = ft.value_and_grad(f)(0.75, every)
        ft.config.memo = False
        expected = ft.value_and_grad(f)(0.75, every)
        ft.config.memo = True
        np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_the_truth_of_an_array_is_an_error_as_in_numpy() -> None:
    def f(x: Any) -> Any:
        y, n = x * 1.0, 0
        while y.sum() < 10.0:
            y = y * 2.0
            if n == 2 and y > 1.0:
                return y.sum()
            n += 1
        return y.sum()

    for _ in range(3):
        with pytest.raises(ValueError, match="ambiguous"):
            ft.grad(f)(X)


def test_switching_tiers_between_calls() -> None:
    expected = ft.value_and_grad(collatz)(0.7)
    for mode in ("interpreted", "compiled", "tiered", "interpreted", "compiled") * 2:
        ft.config.unjitted = mode
        np.testing.assert_allclose(ft.value_and_grad(collatz)(0.7), expected, rtol=1e-13)


def test_callbacks_of_a_segment_compute() -> None:
    """Nothing is staged while they run."""
    seen: list[bool] = []

    def outside(x: Any) -> Any:
        seen.append(is_evaluating())
        return np.float64(fnp.sin(x))

    def f(x: Any) -> Any:
        y = ft.pure_callback(outside, ft.ShapeDtypeStruct((), np.float64), x)
        return x * y if y > 0.1 else x + y

    def g(x: Any) -> Any:
        return f(ft.stop_gradient(x)) * x

    for _ in range(3):
        np.testing.assert_allclose(ft.grad(g)(np.float64(0.5)), 0.5 * np.sin(0.5))
    assert all(seen)
    assert len(seen) >= 3


def test_errors_of_a_segment_name_the_line() -> None:
    def f(x: Any) -> Any:
        y = (x * fnp.array([1.0, 2.0]))[(x * 4.0).astype(int)]
        return y * y if y > 0 else x

    for x in (0.3, 0.3, 1.0, 1.0, 0.3, 1.0):
        if x < 0.5:
            assert ft.grad(f)(x) == pytest.approx(8.0 * x)
            continue
        with pytest.raises(IndexError) as caught:
            ft.grad(f)(x)
        assert "test_asks.py" in str(caught.value) + str(getattr(caught.value, "__notes__", ""))


def test_an_ask_in_another_thread_is_refused() -> None:
    errors: list[BaseException] = []

    def ask(y: Any) -> None:
        try:
            bool(y > 0)
        except ft.FunctransError as error:
            errors.append(error)

    def f(x: Any) -> Any:
        y = x * 2.0
        thread = threading.Thread(target=lambda: ask(y))
        thread.start()
        thread.join()
        return y * y

    for n in range(3):
        with suppress(ft.FunctransError):
            ft.grad(f)(1.5)
        assert len(errors) == n + 1
