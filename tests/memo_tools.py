"""What the tests of the memo share: functions, and counts of what a call did again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import tiers
from functrans.recording import Trace
from functrans.surface import ufuncs
from functrans.transforms import jvp as jvp_file

X = np.array([0.3, 0.7, 1.1])


class Counts:
    """How often the parts of staging and of differentiating ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: dict[str, int] = {}
        self._count(monkeypatch, Trace, "_record", "abstract evaluation")
        self._count(monkeypatch, ufuncs, "loop_dtypes", "promotion")
        self._count(monkeypatch, jvp_file, "eval_jvp", "differentiation")
        self._count(monkeypatch, Trace, "finish", "staging")

    def _count(self, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, what: str) -> None:
        original = getattr(place, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            self.found[what] = self.found.get(what, 0) + 1
            return original(*args, **kwargs)

        monkeypatch.setattr(place, name, counting)

    def of(self, call: Callable[[], Any]) -> dict[str, int]:
        tiers.wait()  # what is compiled in the background is not of this call
        self.found.clear()
        call()
        return dict(self.found)


def agree(result: Any, expected: Any) -> None:
    assert ft.tree.structure(result) == ft.tree.structure(expected)
    for a, b in zip(ft.tree.leaves(result), ft.tree.leaves(expected), strict=True):
        assert type(a) is type(b), (a, b)
        assert np.asarray(a).dtype == np.asarray(b).dtype
        if isinstance(b, str):
            assert a == b
        else:
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def check(call: Callable[..., Any], *args: Any, then: Callable[[Any], Any] = lambda x: x) -> None:
    """The same three times with the memo as once without."""
    found = [then(call(*args)) for _ in range(3)]
    ft.config.memo = False
    expected = then(call(*args))
    ft.config.memo = True
    for result in found:
        agree(result, expected)


def steps_then(x: Any) -> Any:
    steps = 0
    while x > 0.01:
        x = x * 0.9 - 0.001 * np.sin(x)
        steps += 1
    return x * x + steps


W, B = np.linspace(-1, 1, 9).reshape(3, 3), np.ones(3)
doubled = ft.custom_jvp(lambda x: x * 2)
doubled.defjvp(lambda primals, tangents: (doubled(primals[0]), 2 * tangents[0]))
tripled = ft.custom_vjp(lambda x: x * 3)
tripled.defvjp(lambda x: (tripled(x), x), lambda x, bar: (3 * bar,))
compiled = ft.jit(lambda y: np.sin(y) * y)


def frozen(x: Any) -> Any:
    with ft.no_grad():
        scale = x * x
    return (scale * x).sum()


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "operators": lambda x: (x * 2.0 + 1 - x / 3 + 2**x - x**2).sum(),
    "ufuncs": lambda x: np.sum(np.maximum(np.sin(x), 0.5) * fnp.exp(-x)),
    "layer": lambda x: np.tanh(W @ x + B).sum() + np.dot(x, W).sum() + (B * x).sum(),
    "choice": lambda x: np.where(x > 0.5, x, 0.0).sum() + np.clip(x, 0.4, 2.0).sum(),
    "slices": lambda x: (x[1:] * x[:-1]).sum() + x[0] * x[-1],
    "fancy": lambda x: x[np.array([0, 2])].sum() + x[np.array([True, False, True])].sum(),
    "shapes": lambda x: np.mean(x.reshape(3, 1), axis=0, keepdims=True)[0, 0] + x.T.sum(),
    "joined": lambda x: np.stack([x, B]).sum() + np.concatenate([x, x * 2]).sum(),
    "several results": lambda x: sum(p.sum() for p in np.split(x, 3)),
    "contraction": lambda x: np.einsum("ij,j->i", W, x).sum(),
    "no_grad": frozen,
    "custom_jvp": lambda x: doubled(x).sum(),
    "custom_vjp": lambda x: tripled(x).sum(),
    "checkpoint": lambda x: ft.checkpoint(lambda y: np.sin(y) * y)(x).sum(),
    "jit": lambda x: compiled(x).sum(),
    "nested": lambda x: ft.grad(lambda y: (y * x * y).sum())(x).sum(),
    "nested vmap": lambda x: ft.vmap(lambda a: a * x[0])(x).sum(),
    "scan": lambda x: ft.lax.scan(lambda c, y: (c * y, c), x[0], x)[0],
    "fori": lambda x: ft.lax.fori_loop(0, 3, lambda i, c: c * x, x).sum(),
    "constant": lambda x: 3.0,
    "argument": lambda x: x[0],
}
