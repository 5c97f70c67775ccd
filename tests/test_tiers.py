"""Tiers of un-jitted programs: natively the same results, and errors with the user's line."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import functrans as ft
from functrans import tiers
from functrans.config import Config
from functrans.ir import Jaxpr
from tests.fuzz.report import run as run_programs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The mode of before, and no thread that still compiles."""
    before = ft.config.unjitted
    yield
    tiers.wait()
    ft.config.unjitted = before


def tiers_met(monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any]) -> list[tiers.Tier]:
    """The tiers of the programs that a call runs."""
    met: list[tiers.Tier] = []
    run = tiers.run

    def noted(jaxpr: Jaxpr, args: Any, evaluate: Any) -> Any:
        outs = run(jaxpr, args, evaluate)
        if "tier" in jaxpr.cache:
            met.append(jaxpr.cache["tier"])
        return outs

    def found(jaxpr: Jaxpr) -> Any:
        native = native_of(jaxpr)
        if native is not None:
            met.append(jaxpr.cache["tier"])
        return native

    native_of = tiers.native_of
    with monkeypatch.context() as patched:
        patched.setattr(tiers, "run", noted)
        patched.setattr(tiers, "native_of", found)
        call()
    return met


def loss(w: Any, x: Any) -> Any:
    y = np.tanh(x @ w)
    return np.sum(y * y * np.cos(y)) + np.max(y)


W, X = np.linspace(-1, 1, 12).reshape(4, 3), np.linspace(0, 2, 20).reshape(5, 4)
TRANSFORMS: dict[str, Callable[[], Any]] = {
    "grad": lambda: ft.grad(loss)(W, X),
    "hessian": lambda: ft.hessian(loss)(W, X),
    "jvp": lambda: ft.jvp(lambda w: loss(w, X), (W,), (W,)),
    "pullback": lambda: ft.vjp(loss, W, X)[1](1.0),
    "vmap of grad": lambda: ft.vmap(ft.grad(loss), in_axes=(None, 0))(W, X[:, None]),
    "number": lambda: ft.value_and_grad(lambda x: x * x * 2.0 + 1.0 / x)(3.0),
    "float32": lambda: ft.grad(loss)(W.astype(np.float32), X.astype(np.float32)),
    "fortran": lambda: ft.grad(loss)(np.asfortranarray(W), X[:, ::-1][:, ::-1]),
    "checkpoint": lambda: ft.grad(ft.checkpoint(loss))(W, X),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_native_results_are_those_of_numpy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call = TRANSFORMS[name]
    ft.config.unjitted = "interpreted"
    expected = call()
    ft.config.unjitted = "compiled"
    results: list[Any] = []
    met = tiers_met(monkeypatch, lambda: results.extend([call(), call(), call()]))
    assert any(tier.native is not None for tier in met)
    assert all(tier.error is None for tier in met)
    for result in results:
        assert ft.tree.structure(result) == ft.tree.structure(expected)
        for a, b in zip(ft.tree.leaves(result), ft.tree.leaves(expected), strict=True):
            assert type(a) is type(b)
            assert np.asarray(a).dtype == np.asarray(b).dtype
            np.testing.assert_allclose(a, b, rtol=1e-5 if name == "float32" else 1e-12, atol=1e-12)


def test_a_program_that_comes_again_is_compiled_in_the_background(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ft.config.unjitted = "tiered"
    call = lambda: ft.grad(lambda w: loss(w, X) * 1.125)(W)
    (first,) = tiers_met(monkeypatch, call)
    assert first.native is None
    first.seconds = 1e-9
    (again,) = tiers_met(monkeypatch, call)
    assert again is first
    assert first.settled
    tiers.wait()
    assert first.native is not None
    np.testing.assert_allclose(call(), ft.jit(call)(), rtol=1e-12)


def test_the_budget_is_what_compiling_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    ft.config.unjitted = "tiered"
    call = lambda: ft.grad(lambda w: loss(w, X) * 1.0625)(W)
    (tier,) = tiers_met(monkeypatch, call)
    assert tiers.BASE_SECONDS < tier.seconds < tiers.BASE_SECONDS + 1.0
    left = tier.seconds
    call()
    assert tier.seconds < left


def test_interpreted_programs_are_not_even_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ft.config.unjitted = "interpreted"
    assert tiers_met(monkeypatch, lambda: ft.grad(lambda w: loss(w, X) * 1.5)(W)) == []


def test_errors_name_the_line_of_the_operation() -> None:
    ft.config.unjitted = "compiled"

    def f(x: Any, i: Any) -> Any:
        return np.sum(x[i] * x[i] + x[i])

    x = np.arange(3.0)
    ft.grad(f)(x, np.array([0, 1]))
    with pytest.raises(IndexError) as caught:
        ft.grad(f)(x, np.array([0, 7]))
    assert any("test_tiers.py" in note for note in getattr(caught.value, "__notes__", [])) or (
        "test_tiers.py" in str(caught.value)
    )


def test_effects_take_place_each_time() -> None:
    ft.config.unjitted = "compiled"
    seen: list[float] = []

    def f(x: Any) -> Any:
        y = x * x * x
        ft.debug.callback(lambda v: seen.append(float(v)), y)
        return y + x * 2.0

    for _ in range(3):
        assert ft.grad(f)(2.0) == 14.0
    assert seen == [8.0, 8.0, 8.0]


def test_results_alias_nothing() -> None:
    ft.config.unjitted = "compiled"
    pull = ft.vjp(lambda x: (x, x * 2.0 + x * x, x), W)[1]
    given = (np.ones_like(W), np.ones_like(W), np.ones_like(W))
    (first,), (second,) = pull(given), pull(given)
    first[:] = 0.0
    assert np.all(second != 0.0)
    assert np.all(given[0] == 1.0)


def test_programs_with_asks_for_values() -> None:
    def f(x: Any) -> Any:
        steps = 0
        while x < 100.0:
            x = x * x + 1.5
            steps += 1
        return x * steps

    ft.config.unjitted = "interpreted"
    expected = [ft.value_and_grad(f)(x) for x in (0.5, 1.0, 3.0)]
    ft.config.unjitted = "compiled"
    np.testing.assert_allclose([ft.value_and_grad(f)(x) for x in (0.5, 1.0, 3.0)], expected)


def test_random_programs() -> None:
    ft.config.unjitted = "compiled"
    report = run_programs(range(7000, 7008), shrinking=False)
    assert report.failures == []


def test_threads_share_tiers() -> None:
    ft.config.unjitted = "tiered"
    g = ft.grad(lambda w: loss(w, X) * 0.75)
    expected = g(W)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(30):
                np.testing.assert_allclose(g(W), expected, rtol=1e-12)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize("kind", [MemoryError, ft.errors.UnsupportedError])
def test_programs_that_could_not_be_compiled_are_told(kind: type[Exception]) -> None:
    def fails(jaxpr: Jaxpr) -> Any:
        raise kind("no room for code")

    last = {MemoryError: np.sinh, ft.errors.UnsupportedError: np.arctan}[kind]
    g = ft.grad(lambda w: last(loss(w, X)))
    ft.config.unjitted = "interpreted"
    expected, compiler = g(W), tiers._compiler[0]
    ft.config.unjitted = "tiered"
    tiers.provide_compiler(fails)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            while f"{kind.__name__}: no room" not in "".join(tiers.failures()):
                np.testing.assert_array_equal(g(W), expected)
                tiers.wait()
            for _ in range(3):
                np.testing.assert_array_equal(g(W), expected)
    finally:
        tiers.provide_compiler(compiler)
    words = [str(w.message) for w in caught if w.category is ft.errors.EngineWarning]
    assert len(words) == (1 if kind is MemoryError else 0)
    assert all("compiled in the background: MemoryError: no room for code." in w for w in words)
    assert all("loss at test_tiers.py:" in w for w in words)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_programs_are_compiled() -> None:
    ft.config.unjitted = "tiered"
    started, release = threading.Event(), threading.Event()

    def slow(jaxpr: Jaxpr) -> Any:
        started.set()
        release.wait(20)
        raise ft.errors.UnsupportedError("only a test")

    g = ft.grad(lambda w: np.arcsinh(loss(w, X)))
    expected, compiler = g(W), tiers._compiler[0]
    tiers.provide_compiler(slow)
    try:
        tiers.compile_later(ft.make_jaxpr(g)(W).jaxpr, tiers.Tier(ft.make_jaxpr(g)(W).jaxpr))
        assert started.wait(20)
        child = os.fork()
        if child == 0:
            tiers.provide_compiler(compiler)
            ft.config.unjitted = "compiled"
            good = np.allclose(g(W), expected)
            os._exit(0 if good else 1)
        deadline = time.monotonic() + 60
        done, status = 0, 0
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.05)
        assert done == child
        assert status == 0
    finally:
        release.set()
        tiers.wait()
        tiers.provide_compiler(compiler)


def test_modes_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ft.FunctransError, match="one of tiered, compiled, interpreted"):
        ft.config.unjitted = "fast"  # type: ignore[assignment]
    monkeypatch.setenv("FUNCTRANS_UNJITTED", "quick")
    with pytest.raises(ft.FunctransError, match="FUNCTRANS_UNJITTED"):
        Config()
