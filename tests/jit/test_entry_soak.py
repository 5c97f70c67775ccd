"""Native entries for minutes: ten million calls that grow nothing, threads, forks, interrupts."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import pytest

import functrans as ft
from jit.entry import base
from jit.entry.layout import layout

pytestmark = pytest.mark.skipif(layout() is None, reason="no native entry on this interpreter")


class Point(NamedTuple):
    x: Any
    y: Any


def mix() -> list[Callable[[], Any]]:
    """Calls of every kind: arrays, numbers, containers, statics, keywords, errors, misses."""
    base.enter_address()
    vector, table = np.arange(3.0), {"a": np.ones(4), "b": [1.0, np.float32(2.0)]}
    f = ft.jit(lambda x: np.sin(x) * 2.0)
    g = ft.jit(lambda d: {"s": d["a"] * d["b"][0], "t": (d["b"][1], d["a"].sum())})
    h = ft.jit(lambda x, n, *, k: Point(x * n, k), static_argnums=1)
    take = ft.jit(lambda x, i: x[i])

    def fails() -> None:
        try:
            take(vector, 9)
        except IndexError:
            return
        raise AssertionError

    calls: list[Callable[[], Any]] = [
        lambda: f(vector),
        lambda: f(2.5),
        lambda: f(vector[::-1]),
        lambda: g(table),
        lambda: h(vector, 3, k=1.5),
        lambda: h(2.0, 4, k=True),
        lambda: take(vector, 1),
        fails,
    ]
    for call in calls:
        call()
        call()
    return calls


def resident() -> int:
    """The memory of this process in bytes, where the system tells; else its greatest so far."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.full
def test_ten_million_calls_grow_nothing() -> None:
    fast, slow = mix()[:2], mix()

    def rounds(count: int) -> None:
        for call in fast:
            for _ in repeat(None, 4 * count):
                call()
        for call in slow:
            for _ in repeat(None, count // 4):
                call()

    rounds(20_000)
    gc.collect()
    blocks, memory = sys.getallocatedblocks(), resident()
    rounds(1_000_000)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 100
    assert resident() - memory < 2 << 20


@pytest.mark.full
@pytest.mark.parametrize("path", ["native", "python"])
def test_eight_threads_for_a_while(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNCTRANS_DISPATCH", path)
    calls = mix()
    expected = [call() for call in calls]
    stop = time.monotonic() + 30
    errors: list[BaseException] = []

    def work(turn: int) -> None:
        try:
            while time.monotonic() < stop:
                k = turn % len(calls)
                found = ft.tree.leaves(calls[k]())
                for a, b in zip(found, ft.tree.leaves(expected[k]), strict=True):
                    np.testing.assert_array_equal(a, b)
                turn += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_in_the_middle() -> None:
    f = ft.jit(lambda x: np.cos(x) * 3.0)
    x = np.linspace(0.0, 1.0, 50_000)
    base.enter_address()
    expected = f(x)
    f(x)
    child = os.fork()
    if child == 0:
        good = all(np.array_equal(f(x), expected) for _ in range(5))
        os._exit(0 if good and float(ft.grad(lambda y: f(y)[1])(x)[1]) != 0.0 else 1)
    for _ in range(5):
        np.testing.assert_array_equal(f(x), expected)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_an_interrupt_leaves_everything_usable() -> None:
    f = ft.jit(lambda x: np.sum(np.sin(x) ** 2))
    x = np.ones(3_000_000)
    base.enter_address()
    expected = f(x)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    def for_ever(delay: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, delay)
        while True:
            f(x)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in (0.001, 0.003, 0.01):
            with pytest.raises(KeyboardInterrupt):
                for_ever(delay)
            assert f(x) == expected
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ft.grad(lambda y: f(y) * 2.0)(x[:2].copy()).shape == (2,)
