"""Random programs: the same with the memo and without, evaluated and compiled, by both ways in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

import functrans as ft
from functrans import tiers
from functrans.ir.intern import clear as forget_programs
from functrans.memo import trie
from functrans.memo.info import programs_of
from jit.entry import base
from jit.entry.layout import layout
from tests import memo_programs

X = np.array([0.31, 0.73, 1.07])
"""No sum or product of these and what programs read meets another: maxima have no ties."""
SCALES = (1.0, 2.0, -1.0, 0.5)
TURNS = len(SCALES)


class Way(NamedTuple):
    """How a transform is called on (function, vector); `asks`: values may decide what it does.

    `known`: where they do, it is known when it comes again all the same.
    """

    call: Callable[[Any, Any], Any]
    asks: bool = True
    known: bool = True


def of_a_dict(f: Any, x: Any) -> Any:
    return ft.value_and_grad(lambda d: f(d["x"] * d["s"][0]) + d["s"][1])({"x": x, "s": (0.5, 2)})


WAYS = {
    "grad": Way(lambda f, x: ft.grad(f)(x)),
    "value_and_grad": Way(lambda f, x: ft.value_and_grad(f)(x)),
    "aux": Way(lambda f, x: ft.grad(lambda y: (f(y), {"y": y * 2.0}), has_aux=True)(x)),
    "vjp": Way(lambda f, x: ft.vjp(f, x)[1](1.0)),
    "linearize": Way(lambda f, x: ft.linearize(f, x)[1](x), known=False),
    "jvp": Way(lambda f, x: ft.jvp(f, (x,), (x * 0.5,)), known=False),
    "second": Way(lambda f, x: ft.grad(lambda y: np.sum(ft.grad(f)(y) * y))(x), known=False),
    "hessian": Way(lambda f, x: ft.hessian(f)(x), known=False),
    "hvp": Way(lambda f, x: ft.hvp(f, (x,), (x + 1.0,)), known=False),
    "jacfwd": Way(lambda f, x: ft.jacfwd(lambda y: f(y) * y)(x), known=False),
    "jacrev": Way(lambda f, x: ft.jacrev(lambda y: f(y) * y)(x), known=False),
    "vmap of grad": Way(lambda f, x: ft.vmap(ft.grad(f))(np.stack([x, -x])), asks=False),
    "vmap": Way(lambda f, x: ft.vmap(f)(np.stack([x, x * 0.5])), asks=False),
    "dict": Way(of_a_dict),
}


@pytest.fixture(autouse=True)
def emptied(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty memo, the native entry where there is one, and the switches as they were."""
    monkeypatch.setenv("FUNCTRANS_DISPATCH", "native")
    if layout() is not None:
        base.enter_address()
        deadline = time.monotonic() + 60
        while not base.entry_ready():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    trie.clear()
    before = ft.config.memo, ft.config.unjitted
    yield
    tiers.wait()
    ft.config.memo, ft.config.unjitted = before


class Program:
    """A random program under one of the transforms."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.name = [*WAYS][seed % len(WAYS)]
        self.way = WAYS[self.name]
        self.asks = self.way.asks and seed // len(WAYS) % 4 != 0
        self.text = memo_programs.Writer(seed, self.asks).program()

    def results(self) -> list[Any]:
        """Call after call, while what it reads from outside, and the argument, change."""
        function, outside = memo_programs.compiled(self.text)
        found: list[Any] = []
        for turn in range(TURNS):
            memo_programs.changed(outside, turn)
            found.append(self.way.call(function, X * SCALES[turn]))
        return found

    def agree(self, found: list[Any], expected: list[Any], how: str) -> None:
        for turn, (a, b) in enumerate(zip(found, expected, strict=True)):
            try:
                agree(a, b)
            except AssertionError as error:
                where = f"program {self.seed} under {self.name}, {how}, turn {turn}"
                raise AssertionError(f"{where}:\n{self.text}") from error


def agree(result: Any, expected: Any) -> None:
    """The same types, dtypes and values; values to the rounding of another order of operations."""
    assert ft.tree.structure(result) == ft.tree.structure(expected)
    for a, b in zip(ft.tree.leaves(result), ft.tree.leaves(expected), strict=True):
        assert type(a) is type(b), (a, b)
        assert np.asarray(a).dtype == np.asarray(b).dtype
        size = np.max(np.abs(b), initial=1e-3, where=np.isfinite(b))
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10 * size)


def native_calls() -> int:
    """How many calls of programs that the memo holds were served by the native entry."""
    leaves = [
        leaf
        for root in trie.roots()
        for start in root.beginnings()
        for step in start.below()
        for leaf in step.leaves()
    ]
    found = {id(j): j for leaf in leaves for j in programs_of(leaf.jaxpr)}
    natives = [j.cache["tier"].native for j in found.values() if "tier" in j.cache]
    return sum(s.record.hits for n in natives if n is not None for s in n._serving)


def compare(seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each program without the memo, then evaluated with it, then compiled: both ways in."""
    served = more = 0
    for seed in seeds:
        program = Program(seed)
        ft.config.memo, ft.config.unjitted = False, "interpreted"
        expected = program.results()
        ft.config.memo = True
        trie.clear()
        forget_programs()
        program.agree(program.results(), expected, "evaluated")
        first = ft.memo_info()
        ft.config.unjitted = "compiled"
        monkeypatch.setenv("FUNCTRANS_DISPATCH", "python")
        program.agree(program.results(), expected, "compiled, through Python")
        assert native_calls() == 0
        monkeypatch.setenv("FUNCTRANS_DISPATCH", "native")
        for _ in range(2):  # calls of new kinds of numbers go through Python once
            program.agree(program.results(), expected, "compiled, native")
        before = ft.memo_info()
        program.agree(program.results(), expected, "compiled, native, known")
        after = ft.memo_info()
        served += native_calls()
        if program.way.known or not program.asks:
            assert after.hits >= before.hits + TURNS
            assert after.misses == before.misses, program.text
            assert before.misses - first.misses <= first.misses, program.text
        more += first.misses > 2
    assert layout() is None or served > TURNS * len(seeds)
    assert more, "no program took a new way when called again"


@pytest.mark.parametrize("part", range(20))
def test_random_programs(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(range(part * 15, part * 15 + 15), monkeypatch)


@pytest.mark.parametrize("part", range(4))
def test_random_programs_in_jit(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through Python, then natively; arrays that they captured change under them."""
    seeds = [s for s in range(part * 120, part * 120 + 120) if not Program(s).asks][:15]
    assert len(seeds) == 15
    for seed in seeds:
        program = Program(seed)
        function, outside = memo_programs.compiled(program.text)
        jitted = ft.jit(partial(program.way.call, function))
        for path in ("python", "native", "native"):
            monkeypatch.setenv("FUNCTRANS_DISPATCH", path)
            for turn in range(TURNS):
                outside["holder"].bias += 0.25
                outside["pool"][0][turn % 3] -= 0.5
                x = X * SCALES[turn]
                ft.config.memo = False
                expected = program.way.call(function, x)
                ft.config.memo = True
                program.agree([jitted(x)], [expected], f"jitted, {path}")
        info = jitted.cache_info()
        assert info.programs == 1
        assert layout() is None or info.native_hits == 2 * TURNS - 1


@pytest.mark.full
@pytest.mark.parametrize("part", range(40))
def test_many_random_programs(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(range(2000 + part * 50, 2050 + part * 50), monkeypatch)
