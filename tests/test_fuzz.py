"""Random whole programs: NumPy, evaluation, native code and every transform agree on them."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from tests.fuzz.agree import check
from tests.fuzz.generate import LOOPS_FROM, generate
from tests.fuzz.program import shrink
from tests.fuzz.report import FEATURES, Report, keep, kept, read, run

PROGRAMS = 300
SLICES = 10
REACHED = 5
LOOPING = 24
LOOPING_SLICES = 3


@pytest.fixture(scope="module")
def reports() -> dict[int, Report]:
    """What each slice of the programs came to, filled in by the tests in order."""
    return {}


def result(reports: dict[int, Report], part: int) -> Report:
    if part not in reports:
        size = PROGRAMS // SLICES
        reports[part] = run(range(part * size, (part + 1) * size))
    return reports[part]


@pytest.mark.parametrize("part", range(SLICES))
def test_programs_agree(part: int, reports: dict[int, Report]) -> None:
    """No program of this slice fails; one that does is printed shrunk, as source that runs."""
    report = result(reports, part)
    assert not report.failures, "\n\n".join(report.failures)


@pytest.mark.parametrize("part", range(LOOPING_SLICES))
def test_programs_with_loops_agree(part: int) -> None:
    """Loops and branches around functions that hold more of them, and transforms."""
    size = LOOPING // LOOPING_SLICES
    report = run(range(LOOPS_FROM + part * size, LOOPS_FROM + (part + 1) * size))
    assert not report.failures, "\n\n".join(report.failures)
    assert {"scan", "while", "cond"} <= set(report.reached)


def test_every_primitive_is_reached(
    reports: dict[int, Report], capsys: pytest.CaptureFixture[str]
) -> None:
    """At least five programs reach each primitive, and they use all that they are meant to use."""
    total = Report()
    for part in range(SLICES):
        report = result(reports, part)
        total.programs += report.programs
        total.reached += report.reached
        total.features += report.features
    with capsys.disabled():
        print(f"\n{total.table()}")
    assert total.programs >= 300
    assert total.rarely_reached(REACHED) == {}
    wanted = {
        *FEATURES,
        "asking for values",
        "closures",
        "captured constants",
        "broadcasting",
        "transform depth 3",
    }
    assert {f for f in wanted if total.features[f] < REACHED} == set()


def test_programs_that_failed_once_agree() -> None:
    """Those that a long lane has kept."""
    for file in kept():
        check(read(file))


def test_a_program_can_be_kept_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are data: what is written is what is read."""
    monkeypatch.setattr("tests.fuzz.report.KEPT", tmp_path)
    program = generate(11)
    keep(11, program)
    assert read(tmp_path / "11.txt") == program


def test_a_failing_program_is_shrunk() -> None:
    """To the one step that a made-up failure needs, still with source that runs."""
    program = next(p for p in map(generate, itertools.count()) if "cumsum" in p.operations())
    smaller = shrink(program, lambda p: "cumsum" in p.operations())
    assert [name for name in smaller.operations() if name != "const"] == ["cumsum"]
    smaller.function()(*smaller.arguments())


@pytest.mark.fuzz
def test_fresh_programs_agree(fuzz_seconds: float) -> None:
    """The long lane: programs never seen before, for as long as was asked."""
    report = run(itertools.count(int(time.time()) * 1000), fuzz_seconds, keeping=True)
    print(report.table())
    assert not report.failures, "\n\n".join(report.failures)
