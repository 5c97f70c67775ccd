"""The pieces of a parallel loop write to places of their own, so that threads cannot meet there."""

from __future__ import annotations

import pytest

from jit.lowering import indexing
from jit.passes import loops as passes_loops
from tests.jit.apart import Apart
from tests.law_tools import agree, cases, eps, evaluate

FOLDS = ("add", "mul", "min", "max")
SHARED_OUT = (
    *("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "scatter"),
    *(f"scatter_{how}" for how in FOLDS),
    *("dot_general", "overlap", "top_k"),
)
"""Primitives whose lowering shares work out itself."""


@pytest.fixture(autouse=True)
def everything_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small work is shared out too."""
    monkeypatch.setattr(passes_loops, "PARALLEL_NS", 0.0)


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
