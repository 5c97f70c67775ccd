"""The memo is bounded: loops of many lengths, many functions, and what is kept of a call."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import functrans as ft
from functrans.memo import trie
from functrans.recording import Trace
from tests.memo_tools import FUNCTIONS, Counts, X, agree

pytestmark = pytest.mark.usefixtures("empty_memo")


def test_unrolled_loops_of_any_length() -> None:
    """Trap 22: they share steps, and have ends of their own."""
    count = [0]

    def f(x: Any) -> Any:
        for _ in range(count[0]):
            x = x * 1.5
        return x

    for count[0] in (3, 5, 0, 4, 5):
        agree(ft.grad(f)(1.0), 1.5 ** count[0])


@pytest.mark.parametrize("transform", ["grad", "vjp", "jvp", "vmap of grad", "grad of grad"])
def test_long_unrolled_loops(transform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 22: where it can be run by segments it is; elsewhere it is known as a whole."""
    count = [0]

    def f(x: Any) -> Any:
        for _ in range(count[0]):
            x = x * 1.001 + 0.001 * np.sin(x)
        return x.sum()

    def slope(x: Any) -> Any:
        moved, y = np.ones_like(x), x
        for _ in range(count[0]):
            moved, y = moved * (1.001 + 0.001 * np.cos(y)), y * 1.001 + 0.001 * np.sin(y)
        return moved

    of_slope = {
        "grad": lambda: ft.grad(f)(X),
        "vjp": lambda: ft.vjp(f, X)[1](1.0)[0],
        "jvp": lambda: ft.jvp(f, (X,), (np.ones(3),))[1],
        "vmap of grad": lambda: ft.vmap(ft.grad(f))(X[None])[0],
        "grad of grad": lambda: ft.grad(lambda x: (ft.grad(f)(x) * x).sum())(X),
    }
    counts = Counts(monkeypatch)
    for count[0] in (trie.LONGEST // 4, 150, trie.LONGEST // 2):
        found = of_slope[transform]()
        if transform == "grad of grad":
            step = 1e-30j
            found = found - np.array(
                [(slope(X + step * e) * (X + step * e)).sum().imag / 1e-30 for e in np.eye(3)]
            )
            assert np.all(np.abs(found) < 1e-9)
        elif transform == "jvp":
            agree(found, slope(X).sum())
        else:
            agree(found, slope(X))
        assert counts.of(of_slope[transform]) == {}


def test_segments_of_long_loops_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 22: another length is another end, and nothing else."""
    count = [0]

    def f(x: Any) -> Any:
        for _ in range(count[0]):
            x = x * 1.0001 + 0.5
        return x.sum()

    for count[0] in (600, 700):
        ft.grad(f)(X)
    steps = trie._size[0]
    counts = Counts(monkeypatch)
    results: list[Any] = []
    for count[0] in range(600, 1600, trie.LONGEST // 2):
        ft.grad(f)(X)  # its end may be new
        assert counts.of(lambda: results.append(ft.grad(f)(X))) == {}
        agree(results.pop(), np.full(3, 1.0001 ** count[0]))
    assert trie._size[0] - steps < 4 * trie.LONGEST


def test_the_memo_is_bounded() -> None:
    """Trap 23: by steps in all, and by what may follow one step."""
    ft.config.memo_steps = 200
    functions = [eval(f"lambda x: (x * {k}.0).sum() + x[0] ** {k}") for k in range(60)]
    for f in functions:
        ft.grad(f)(X)
        assert trie._size[0] <= 200
    ft.config.memo_steps = 100_000
    exponent = [0.0]
    gradient = ft.grad(lambda x: (x ** exponent[0]).sum())
    for k in range(3 * trie.MOST_CHILDREN):
        exponent[0] = 2.5 + k / 64
        agree(gradient(X), exponent[0] * X ** (exponent[0] - 1))
    root = trie.roots()[-1]
    assert len([*root.below()]) <= 3 * trie.MOST_CHILDREN


def live_steps() -> list[trie.Step]:
    """The steps that somebody still refers to."""
    gc.collect()
    return [o for o in gc.get_objects() if isinstance(o, trie.Step) and o.parent is not None]


def test_what_is_forgotten_is_let_go() -> None:
    """Trap 23: transformed functions that are at hand keep nothing of what the memo forgot."""
    before = live_steps()  # of functions that other tests have at hand
    ft.config.memo_steps = 200
    functions = [eval(f"lambda x: (x * {k}.0).sum() + x[0] ** {k}") for k in range(60)]
    gradients = [ft.grad(f) for f in functions]
    for k, gradient in enumerate(gradients):
        agree(gradient(X), k + np.array([k * X[0] ** (k - 1), 0.0, 0.0]))
    assert len(live_steps()) - len(before) <= 200


def test_ends_count_as_their_equations_do() -> None:
    """Traps 22 and 23: loops of many lengths share steps, but each has a program of its own."""
    ft.config.memo_steps = 1000
    count = [0]

    def f(x: Any) -> Any:
        for _ in range(count[0]):
            x = x * 1.5
        return x

    held: list[int] = []
    for count[0] in range(100, 140):
        agree(ft.grad(f)(1.0), 1.5 ** count[0])
        leaves = [leaf for root in trie.roots() for step in root.below() for leaf in step.leaves()]
        held.append(sum(len(leaf.jaxpr.eqns) for leaf in leaves))
        assert held[-1] <= trie._size[0] <= 1000
    assert max(held) > 500
    assert ft.memo_info().memory < 2_000_000


def test_a_trace_begins_again_unless_something_refers_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a call leaked stays of that call: it is refused, and what comes later is right."""
    made, leaked, leaks = [0], list[Any](), [False]
    original = Trace.__init__

    def counting(self: Trace, *args: Any, **kwargs: Any) -> None:
        made[0] += 1
        original(self, *args, **kwargs)

    monkeypatch.setattr(Trace, "__init__", counting)

    def f(x: Any) -> Any:
        y = x * 2.0
        if leaks[0]:
            leaked.append(y)
        return y * x

    gradient = ft.grad(f)
    for x in (1.0, 2.0):
        agree(gradient(x), 4 * x)  # recorded, then known
    for leaks[0], count in ((False, 0), (True, 0), (True, 1), (False, 1), (False, 0)):
        made[0] = 0
        agree(gradient(3.0), 12.0)
        assert made[0] == count
    for y in leaked:
        with pytest.raises(ft.errors.LeakedTracerError):
            _ = y + 1.0


def test_nothing_is_kept_of_a_call() -> None:
    """Trap 25: a call that the memo knows leaves no garbage, and no tracer alive."""
    gradient = ft.grad(FUNCTIONS["layer"])
    for _ in range(3):
        gradient(X)
    gc.collect()
    gc.disable()
    try:
        before = sum(type(o).__name__ == "Tracer" for o in gc.get_objects())
        for _ in range(20):
            gradient(X)
        assert sum(type(o).__name__ == "Tracer" for o in gc.get_objects()) == before
    finally:
        gc.enable()
