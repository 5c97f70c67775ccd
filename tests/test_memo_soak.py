"""Un-jitted transforms for long: nothing grows; threads, forks and interrupts do no harm."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest

import functrans as ft
from functrans import held, recording, tiers
from functrans.bind import TRACING
from functrans.memo import trie
from jit.entry import base
from jit.entry.layout import layout
from tests.jit.test_entry_soak import resident

X = np.array([0.3, 0.7, 1.1])
PATHS = ["native", "python"]
pytestmark = pytest.mark.usefixtures("young_heap")


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    """An empty memo; compiled programs; the switches as they were afterwards."""
    trie.clear()
    before = ft.config.unjitted, ft.config.background
    if layout() is not None:
        base.enter_address()
    yield
    tiers.wait()
    ft.config.unjitted, ft.config.background = before


class Pair(NamedTuple):
    x: Any
    y: Any


def asking(x: Any) -> Any:
    y = x
    while y > 0.5:
        y = y * 0.5
    return y * x


def writing(x: Any) -> Any:
    y = x * 2.0
    y[0] = x[1]
    return np.sum(y * y)


def mix() -> dict[str, Callable[[], Any]]:
    """Calls of every kind: arguments, results, asks, writes, nested transforms, jit, errors."""
    rate, outside = [0.5], np.array([1.0, 2.0, 3.0])
    five = np.array([1.0] * 5)  # np.ones leaves a reference to its dtype behind (NumPy 2.4)
    compiled = ft.jit(lambda x: np.sin(x) * x)
    f = lambda x: np.sum(np.sin(x) * outside * rate[0])
    third = ft.grad(ft.grad(ft.grad(np.tanh)))
    table = {"w": X, "n": [2.0, np.float32(1.5)], "p": Pair(X, 3.0)}

    def of_a_table(t: Any) -> Any:
        return np.sum(t["w"] * t["p"].x) * t["n"][0] * t["n"][1] * t["p"].y

    def fails(kind: str) -> Callable[[], Any]:
        def raises(x: Any) -> Any:
            y = np.sin(x) * rate[0]
            if kind == "user":
                raise RuntimeError("no")
            if kind == "shape":
                return y @ five
            if kind == "index":
                return np.take(y, np.array([7]))[0]
            if kind == "not a scalar":
                return y
            return y[0] * 2**70 * np.uint8(1) * int("9" * 30)

        def call() -> str:
            try:
                ft.grad(raises)(X)
            except Exception as error:
                return type(error).__name__
            raise AssertionError(kind)

        return call

    def changes() -> Any:
        rate[0] = rate[0] % 3.0 + 0.5
        outside[0] = rate[0]
        return ft.grad(lambda x: np.sum(x * x * 2.0))(X)

    return {
        "array": lambda: ft.grad(f)(X),
        "number": lambda: ft.grad(lambda x: x * x * 2.0)(1.5),
        "scalar": lambda: ft.grad(lambda x: x * np.sin(x))(np.float32(1.5)),
        "int": lambda: ft.value_and_grad(lambda x: x * x)(3),
        "zero-d": lambda: ft.grad(lambda x: x * x)(np.array(2.0)),
        "strided": lambda: ft.grad(lambda x: np.sum(x * x))(np.arange(6.0)[::2]),
        "table": lambda: ft.grad(of_a_table)(table),
        "aux": lambda: ft.grad(lambda x: (np.sum(x * x), {"y": x, "s": "a"}), has_aux=True)(X),
        "vjp": lambda: ft.vjp(lambda x: Pair(np.sin(x), x[0]), X)[1](Pair(X, 1.0)),
        "jvp": lambda: ft.jvp(np.tanh, (X,), (X,)),
        "linearize": lambda: ft.linearize(np.tanh, X)[1](X),
        "vmap": lambda: ft.vmap(ft.grad(lambda x: np.sin(x) * x))(X),
        "hessian": lambda: ft.hessian(lambda x: np.sum(x**3))(X),
        "nested": lambda: third(0.5),
        "jit": lambda: ft.grad(lambda x: np.sum(compiled(x)))(X),
        "asks": lambda: ft.grad(asking)(9.0),
        "writes": lambda: ft.grad(writing)(X),
        "changes": changes,
        **{k: fails(k) for k in ("user", "shape", "index", "not a scalar", "overflow")},
    }


def warm(calls: dict[str, Callable[[], Any]]) -> None:
    """Call until all is known and compiled, for either kind of numbers between segments, and what
    is made in the background is there."""
    ft.config.unjitted = "compiled"
    for _ in range(4):
        for call in calls.values():
            call()
        for thread in threading.enumerate():
            if thread.name.startswith("functrans-"):
                thread.join()


@pytest.mark.parametrize(
    "rounds", [200, pytest.param(20_000, marks=pytest.mark.full)], ids=["short", "long"]
)
@pytest.mark.parametrize("path", PATHS)
def test_calls_grow_nothing(rounds: int, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a million calls in the full lane."""
    monkeypatch.setenv("FUNCTRANS_DISPATCH", path)
    calls = mix()
    warm(calls)

    def run(count: int) -> None:
        for _ in range(count):
            for call in calls.values():
                call()

    run(50)
    known = ft.memo_info()
    gc.collect()
    blocks, memory = sys.getallocatedblocks(), resident()
    run(rounds)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 100
    assert resident() - memory < 4 << 20
    info = ft.memo_info()
    assert (info.leaves, info.steps) == (known.leaves, known.steps)
    assert info.hits > known.hits + 10 * rounds


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", mix())
def test_references_are_exact(name: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a call took and gave, and however it ended, is referred to as before."""
    monkeypatch.setenv("FUNCTRANS_DISPATCH", path)
    call = mix()[name]
    warm({name: call})
    cells = [c.cell_contents for c in call.__closure__ or ()]
    watched: list[Any] = [X, X.dtype, call, np.tanh, asking, writing, None, *cells]
    watched += [leaf for c in cells if isinstance(c, dict) for leaf in ft.tree.leaves(c)]

    def counts() -> list[int]:
        gc.collect()
        return [sys.getrefcount(w) for w in watched]

    for _ in range(20):
        call()
    before, blocks = counts(), sys.getallocatedblocks()
    for _ in range(100):
        call()
    after = counts()
    changed = [(w, a - b) for w, a, b in zip(watched, after, before, strict=True) if abs(a - b) > 5]
    assert not changed
    assert sys.getallocatedblocks() - blocks < 50
    assert sys.exc_info() == (None, None, None)
    assert TRACING[0] == 0


def same(a: Any, b: Any) -> bool:
    pairs = zip(ft.tree.leaves(a), ft.tree.leaves(b), strict=True)
    return all(p == q if isinstance(p, str) else np.allclose(p, q, rtol=1e-9) for p, q in pairs)


@pytest.mark.parametrize("seconds", [1.0, pytest.param(60.0, marks=pytest.mark.full)])
@pytest.mark.parametrize("path", PATHS)
def test_eight_threads_agree_with_one(
    seconds: float, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same and different functions at once, from an empty memo, while others compile."""
    monkeypatch.setenv("FUNCTRANS_DISPATCH", path)
    calls = mix()
    del calls["changes"]  # what it changes, others read
    expected = {name: call() for name, call in calls.items()}
    trie.clear()
    names = [*calls]
    errors: list[BaseException] = []
    done = [0] * 8
    stop = time.monotonic() + seconds

    def work(k: int) -> None:
        try:
            turn = k
            while not errors and (time.monotonic() < stop or not done[k]):
                name = names[turn % len(names)]
                assert same(calls[name](), expected[name]), name
                turn += 1 + k % 3
                done[k] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert min(done) > 0
    assert TRACING[0] == 0
    assert all(same(call(), expected[name]) for name, call in calls.items())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("when", ["idle", "compiling", "tracing"])
def test_a_fork_in_the_middle(when: str) -> None:
    """The child and the parent follow the memo, learn, and compile in threads of their own."""
    calls = mix()
    expected = {name: call() for name, call in calls.items()}
    # "changes" changed what some read: take the values as they are from here on.
    del calls["changes"]
    expected = {name: call() for name, call in calls.items()}
    children: list[int] = []

    def good() -> bool:
        ft.config.unjitted = "compiled"
        known = all(same(call(), expected[name]) for name, call in calls.items())
        new = ft.grad(lambda x: np.sum(np.cosh(x) * x))(X)
        jitted = ft.jit(lambda x: np.cos(x) * 3.0)(X)
        ft.config.unjitted = "tiered"
        for _ in range(3000):
            ft.grad(lambda x: np.sum(np.exp(np.sin(x)) * 0.25))(X)
        tiers.wait()
        return (
            known
            and np.allclose(new, np.cosh(X) + X * np.sinh(X))
            and np.allclose(jitted, np.cos(X) * 3.0)
        )

    def fork() -> None:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if good() else 2
            finally:
                os._exit(code)
        children.append(child)

    if when == "compiling":
        ft.config.unjitted, before = "tiered", len(children)
        heavy = ft.grad(lambda x: np.sum(np.tanh(np.sin(x) * np.cos(x) + np.exp(-x)) ** 2))
        while not tiers._working:
            heavy(X)
        fork()
        assert len(children) == before + 1
    elif when == "tracing":

        def forks(x: Any) -> Any:
            y = x * 2.0
            if not children:
                fork_inside.append(os.fork())
                if fork_inside[-1]:
                    children.append(fork_inside[-1])
            return (y * x).sum()

        fork_inside: list[int] = []
        found = ft.grad(forks)(X)
        if fork_inside[0] == 0:
            os._exit(0 if np.array_equal(found, 4 * X) and good() else 2)
        np.testing.assert_array_equal(found, 4 * X)
    else:
        fork()
    assert good()
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
@pytest.mark.parametrize("unjitted", ["interpreted", "compiled"])
@pytest.mark.parametrize("name", ["asks", "nested", "writes", "large"])
def test_an_interrupt_leaves_everything_usable(
    name: str, unjitted: Literal["interpreted", "compiled"]
) -> None:
    """Wherever it arrives in a call: the memo, the captured arrays, the counters are as before."""
    calls = mix()
    ft.config.unjitted = unjitted
    large = np.ones(1 << 18)
    long = lambda x: ft.grad(lambda y: np.sum(y * large * np.sin(y * large)) * y)(x)
    call = {**calls, "large": lambda: long(0.5)}[name]
    expected = call()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    def for_ever(delay: float) -> None:
        # Again after a while, where Python lost one: it must not run on for ever.
        signal.setitimer(signal.ITIMER_REAL, delay, 5.0)
        while True:
            call()

    before = signal.signal(signal.SIGALRM, interrupt)
    # Python loses an interrupt that arrives in a callback of its collector: Hypothesis has one.
    callbacks, gc.callbacks[:] = gc.callbacks[:], []
    try:
        for n in range(12):
            if n % 4 == 3:
                trie.clear()
            with pytest.raises(KeyboardInterrupt):
                for_ever(0.002 + 0.0013 * n)
            assert TRACING[0] == 0
            assert large.flags.writeable
            assert not recording.current_interpreter().outermost
            assert same(call(), expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.callbacks[:] = callbacks
    for other, run in mix().items():
        assert run() is not None, other


def test_holds_are_counted_and_end_once() -> None:
    """Of an array and of a view of it; ending again what has ended changes nothing."""
    array = np.zeros((4, 4))
    view = array[1:]
    first, second = held.Hold(view), held.Hold(array)
    first.begin()
    second.begin()
    second.undo()
    second.undo()
    assert not array.flags.writeable
    assert not view.flags.writeable
    first.undo()
    assert array.flags.writeable
    assert view.flags.writeable
    assert not held._held
