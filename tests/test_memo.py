"""The memo of traces: the second call traces and derives nothing, and what can be seen of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
from functrans import tiers
from tests.memo_tools import FUNCTIONS, B, Counts, X, agree, steps_then

pytestmark = pytest.mark.usefixtures("empty_memo")

TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "grad": lambda f: ft.grad(f)(X),
    "value_and_grad": lambda f: ft.value_and_grad(f)(X),
    "hessian": lambda f: ft.hessian(f)(X),
    "jvp": lambda f: ft.jvp(f, (X,), (B,)),
    "vjp": lambda f: ft.vjp(f, X)[1](1.0),
    "linearize": lambda f: ft.linearize(f, X)[1](B),
    "jacfwd": lambda f: ft.jacfwd(f)(X),
    "jacrev": lambda f: ft.jacrev(f)(X),
    "vmap": lambda f: ft.vmap(f)(np.stack([X, X + 1])),
    "vmap of grad": lambda f: ft.vmap(ft.grad(f))(np.stack([X, X + 1])),
    "hvp": lambda f: ft.hvp(f, (X,), (B,)),
    "value_and_grad with aux": lambda f: ft.value_and_grad(lambda x: (f(x), x * 2), has_aux=True)(
        X
    ),
    "grad by a dict": lambda f: ft.grad(lambda d: f(d["x"]) * d["s"])({"x": X, "s": 0.5}),
    "grad of grad": lambda f: ft.grad(lambda x: np.sum(ft.grad(f)(x) * x))(X),
    "jvp of grad": lambda f: ft.jvp(ft.grad(f), (X,), (B,)),
    "grad of jvp": lambda f: ft.grad(lambda x: ft.jvp(f, (x,), (B,))[1])(X),
    "jacfwd of jacrev": lambda f: ft.jacfwd(ft.jacrev(f))(X),
    "jacrev of jacfwd": lambda f: ft.jacrev(ft.jacfwd(f))(X),
    "vmap of hessian": lambda f: ft.vmap(ft.hessian(f))(np.stack([X, X + 1])),
    "vmap of vmap": lambda f: ft.vmap(ft.vmap(f))(np.stack([X, X + 1])[None]),
    "vmap of jvp": lambda f: ft.vmap(lambda x: ft.jvp(f, (x,), (B,)))(np.stack([X, X + 1])),
    "grad of vmap": lambda f: ft.grad(lambda x: ft.vmap(f)(x).sum())(np.stack([X, X + 1])),
    "vjp of grad": lambda f: ft.vjp(ft.grad(f), X)[1](B),
    "linearize of grad": lambda f: ft.linearize(ft.grad(f), X)[1](B),
    "third": lambda f: ft.grad(lambda x: ft.hvp(f, (x,), (B,))[0].sum())(X),
}


PAIRS = [
    *[(name, t) for name in FUNCTIONS for t in ("grad", "vmap of grad") if name != "constant"],
    *[(name, t) for name in ("layer", "nested", "slices") for t in TRANSFORMS],
    *[("constant", "grad"), ("custom_jvp", "jvp"), ("custom_vjp", "vjp"), ("scan", "hessian")],
]


def test_the_first_call_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted happens, so that none of it means something."""
    counts = Counts(monkeypatch)
    found = counts.of(lambda: ft.grad(lambda x: (np.sin(x) * x).sum())(X))
    assert sorted(found) == ["abstract evaluation", "differentiation", "promotion", "staging"]


@pytest.mark.parametrize(("name", "transform"), dict.fromkeys(PAIRS))
def test_the_second_call_traces_and_derives_nothing(
    name: str, transform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = lambda: TRANSFORMS[transform](FUNCTIONS[name])
    counts = Counts(monkeypatch)
    results: list[Any] = []
    assert counts.of(lambda: results.append(call()))
    assert counts.of(lambda: results.append(call())) == {}
    ft.config.memo = False
    for result in results:
        agree(result, call())


def test_what_the_memo_holds() -> None:
    assert ft.memo_info() == (0, 0, 0, 0, 0, 0)
    ft.config.unjitted = "compiled"
    for x in (1.0, 2.0, 3.0):
        ft.grad(lambda x: np.sin(x) * x * x)(x)
    info = ft.memo_info()
    assert (info.hits, info.misses, info.leaves, info.compiled) == (2, 1, 1, 1)
    assert info.steps == 4
    assert 0 < info.memory < 50_000
    ft.grad(steps_then)(1.0)
    later = ft.memo_info()
    assert later.hits > 30
    assert later.misses <= 6
    assert later.leaves <= 6


def test_switches() -> None:
    ft.config.memo = False
    ft.grad(FUNCTIONS["layer"])(X)
    assert ft.memo_info().steps == 0
    with pytest.raises(ft.FunctransError, match=r"config\.memo must be True or False"):
        ft.config.memo = 1  # type: ignore[assignment]
    with pytest.raises(ft.FunctransError, match=r"config\.memo_steps must be a positive int"):
        ft.config.memo_steps = 0
    assert "memo=False" in repr(ft.config)
    ft.config.memo, ft.config.background = True, False
    try:
        function = lambda x: np.sum(np.exp(np.sin(x) * np.cos(x) * 0.25) ** 2 / x)
        for _ in range(5000):
            ft.grad(function)(X)
            if ft.memo_info().compiled:
                break
        assert ft.memo_info().compiled == 1
        assert not tiers._working
    finally:
        ft.config.background = True
