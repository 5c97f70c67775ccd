"""Collections are rare while programs are traced and compiled, and as before afterwards."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from functrans import jit
from functrans.collecting import ALLOCATIONS, collecting_rarely, settle


def test_thresholds_are_those_of_before_again() -> None:
    before = gc.get_threshold()
    with collecting_rarely():
        with collecting_rarely():
            assert gc.get_threshold()[0] == ALLOCATIONS
        assert gc.get_threshold()[0] == ALLOCATIONS
    assert gc.get_threshold() == before


def test_they_are_rare_while_a_program_is_traced() -> None:
    seen: list[int] = []

    def f(x: float) -> float:
        seen.append(gc.get_threshold()[0])
        return x + 1.0

    before = gc.get_threshold()
    jit(f)(2.0)
    assert seen == [ALLOCATIONS]
    assert gc.get_threshold() == before


def test_an_error_restores_them() -> None:
    before = gc.get_threshold()
    with pytest.raises(ZeroDivisionError), collecting_rarely():
        raise ZeroDivisionError
    assert gc.get_threshold() == before


@pytest.mark.parametrize("chosen", [0, 2 * ALLOCATIONS])
def test_whoever_collects_seldom_already_is_left_alone(chosen: int) -> None:
    before = gc.get_threshold()
    gc.set_threshold(chosen, *before[1:])
    try:
        with collecting_rarely():
            assert gc.get_threshold()[0] == chosen
        assert gc.get_threshold()[0] == chosen
    finally:
        gc.set_threshold(*before)


def test_what_is_set_meanwhile_stays() -> None:
    before = gc.get_threshold()
    try:
        with collecting_rarely():
            gc.set_threshold(50, *before[1:])
        assert gc.get_threshold()[0] == 50
    finally:
        gc.set_threshold(*before)


def test_what_has_settled_is_old() -> None:
    young: list[object] = [[]]
    assert any(x is young for x in gc.get_objects(generation=0))
    settle()
    assert any(x is young for x in gc.get_objects(generation=2))


def test_an_import_leaves_the_collector_as_it_was() -> None:
    lines = (
        "import gc; gc.set_threshold(701, 11, 12)",
        "import functrans; assert gc.get_threshold() == (701, 11, 12), gc.get_threshold()",
        "assert gc.get_freeze_count() == 0",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def test_what_somebody_has_frozen_stays_frozen() -> None:
    gc.freeze()
    try:
        settle()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
