"""The order in which checks meet a mutant: what is near it, cheap and of many kinds comes first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from tests.mutants.checks import Check
from tests.mutants.mutate import Mutant
from tests.mutants.targets import served

FAR = 1000
MOMENT = 0.5
CONVOLUTIONS = ("test_conv_layout", "test_conv", "test_conv_phases", "test_workspaces")
CONTROL = ("test_control", "test_register_loops", "test_register_edges")
FACTORING = ("test_lapack_bounds", "test_factorising", "test_factored")
BESIDE = {
    **dict.fromkeys(("conv", "window", "padded"), CONVOLUTIONS),
    "indexing": ("test_scatter", "test_apart", "test_lowering_edges", "test_masks"),
    "selection": ("test_selection", "test_apart", "test_lowering_edges"),
    "index": ("test_index",),
    **dict.fromkeys(("structural", "walk", "windows"), ("test_masks", "test_pooling")),
    "scaling": ("test_scaling", *CONTROL),
    "reduction": ("test_apart",),
    **dict.fromkeys(("taylor", "series", "expansion", "expanding", "curves"), ("test_taylor",)),
    **dict.fromkeys(("cond", "scan", "while", "trajectories", "keeping", "stepping"), CONTROL),
    **dict.fromkeys(("loops", "register", "sweep", "unrolled"), CONTROL),
    "contraction": ("test_products", "test_asking"),
    **dict.fromkeys(("factoris", "lapack", "small_matrices"), FACTORING),
    "carried": ("test_register_loops", "test_rolled"),
    **dict.fromkeys(("formulas", "rules", "writer"), ("test_emit", "test_lowering", "test_edges")),
    **dict.fromkeys(("graph", "nodes", "root"), ("test_apart", "test_blocked", "test_fusion")),
    "largest": ("test_selection", "test_extrema"),
    **dict.fromkeys(("recurrence", "running"), ("test_recurrences", "test_collecting", *CONTROL)),
    "memory": ("test_buffers", "test_inplace", "test_workspaces"),
    "vector_loop": ("test_emit", "test_masks", "test_loop_edges"),
    "complex": ("test_complex_edges",),
    "ordering": ("test_sort", "test_lowering_edges"),
    "gammas": ("test_gammas",),
    "elementwise": ("test_edges",),
    **dict.fromkeys(("products", "narrow"), ("test_control",)),
    "asking": ("test_asking", *CONTROL),
    "domain": ("test_asking",),
    "copying": ("test_scatter", *CONTROL),
    "callbacks": ("test_callbacks", "test_bfloat16"),
    "simplify": ("test_simplify",),
}
"""The tests of what a file whose name contains the first word makes, beside those named like it."""


@dataclass(frozen=True)
class Near:
    """What lies near a mutant: the primitives that it serves, the nearest first, and tests."""

    folder: str
    primitives: tuple[str, ...]
    tests: frozenset[str]


def near(mutant: Mutant) -> Near:
    stem = Path(mutant.file).stem
    beside = {test for word, found in BESIDE.items() if word in stem for test in found}
    beside.add(f"test_{stem}")  # where there is one
    return Near(str(Path(mutant.file).parent), tuple(served(mutant)), frozenset(beside))


def in_order(
    checks: Iterable[Check], around: Near, seconds: Callable[[Check], float]
) -> list[Check]:
    """What is near and quick, all that is quick, what is near and thorough, all."""
    rank = {name: i for i, name in enumerate(around.primitives)}
    stages = defaultdict[int, list[Check]](list)
    for check in checks:
        is_near = check.of in rank or Path(check.kind).stem in around.tests
        stages[2 * check.thorough + (not is_near)].append(check)
    key = lambda c: (rank.get(c.of, FAR), seconds(c), c.id)
    return [c for s in sorted(stages) for c in _in_rounds(stages[s], key)]


def _in_rounds(
    checks: Iterable[Check], key: Callable[[Check], tuple[int, float, str]]
) -> Iterator[Check]:
    """In each round some of each kind: one, or as many as take a moment."""
    kinds = defaultdict[str, list[Check]](list)
    for check in sorted(checks, key=key):
        kinds[check.kind].append(check)
    by_cost = sorted(kinds.values(), key=lambda group: key(group[0])[1])
    for round_of in zip_longest(*(_slices(group, key) for group in by_cost), fillvalue=[]):
        for some in round_of:
            yield from some


def _slices(
    group: Iterable[Check], key: Callable[[Check], tuple[int, float, str]]
) -> Iterator[list[Check]]:
    """The checks of a kind, in pieces that take a moment each."""
    piece, total = list[Check](), 0.0
    for check in group:
        if piece and total + key(check)[1] > MOMENT:
            yield piece
            piece, total = [], 0.0
        piece.append(check)
        total += key(check)[1]
    yield piece
