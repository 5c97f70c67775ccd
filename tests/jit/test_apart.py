"""The pieces of a parallel loop write to places of their own, so that threads cannot meet there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import lax
from jit.lowering import indexing
from jit.passes import loops as passes_loops
from tests.jit.apart import Apart
from tests.law_tools import agree, cases, eps, evaluate

FOLDS = ("add", "mul", "min", "max")
SHARED_OUT = (
    *("cumsum", "cumprod", "cummax", "cummin", "linear_recurrence", "scatter"),
    *(f"scatter_{how}" for how in FOLDS),
    *("dot_general", "overlap", "top_k"),
)
"""Primitives whose lowering shares work out itself."""


@pytest.fixture(autouse=True)
def everything_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small work is shared out too, in the smallest pieces."""
    monkeypatch.setattr(passes_loops, "PARALLEL_NS", 0.0)
    monkeypatch.setattr(passes_loops, "grain_of", lambda work, steps: 1)


def loops_apart(name: str) -> int:
    """How many parallel loops the samples ran; none may have pieces that meet."""
    loops = 0
    for case in cases(name, False, "fic", ("odd", "plain"), few=4):
        program = Apart(case.jaxpr)
        found, expected = program(case.operands), evaluate(case.jaxpr, case.operands)
        for y, e in zip(found, expected, strict=True):
            agree(y, e, case.label, 256 * eps(e))
        assert program.clashes == [], case.label
        loops += program.loops
    return loops


@pytest.mark.parametrize("name", SHARED_OUT)
def test_pieces_of_a_primitive(name: str) -> None:
    assert loops_apart(name) > 0


@pytest.mark.parametrize("how", FOLDS)
def test_parts_of_a_crowded_scatter(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "CROWDED", 0)
    monkeypatch.setattr(indexing, "PARTS", 7)
    assert loops_apart(f"scatter_{how}") > 0


def test_lanes_of_whiles_have_memory_of_their_own() -> None:
    """Carries and what a step computes between, of lanes that run at once."""
    rng = np.random.default_rng(0)
    w, xs = rng.normal(size=(70, 70)) / 8, rng.normal(size=(5, 70))

    def steps(w: Any, x: Any, n: Any) -> Any:
        step = lambda c: (c[0] + 1, fnp.tanh(w @ fnp.sin(w @ c[1])) + c[1][::-1])
        return lax.while_loop(lambda c: c[0] < n, step, (0, x))

    lanes = ft.vmap(steps, (None, 0, 0))
    operands = [w, xs, np.arange(5)]
    program = Apart(ft.make_jaxpr(lanes)(*operands).jaxpr)
    for found, expected in zip(program(operands), lanes(*operands), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert program.loops > 0
    assert program.clashes == []
