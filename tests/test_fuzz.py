"""Random whole programs: NumPy, evaluation, native code and every transform agree on them."""

from __future__ import annotations

import itertools

import pytest

from tests.fuzz.report import FEATURES, Report, run

PROGRAMS = 300
SLICES = 10
REACHED = 5


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


def test_every_primitive_is_reached(reports: dict[int, Report]) -> None:
    """At least five programs reach each primitive, and they use all that they are meant to use."""
    total = Report()
    for part in range(SLICES):
        report = result(reports, part)
        total.programs += report.programs
        total.reached += report.reached
        total.features += report.features
    print(total.table())
    assert total.programs >= 300
    assert total.rarely_reached(REACHED) == {}
    wanted = {*FEATURES, "closures", "captured constants", "broadcasting", "transform depth 3"}
    assert {f for f in wanted if total.features[f] < REACHED} == set()


@pytest.mark.fuzz
def test_fresh_programs_agree(fuzz_seconds: float) -> None:
    """The long lane: programs never seen before, for as long as was asked."""
    report = run(itertools.count(10**6), fuzz_seconds)
    print(report.table())
    assert not report.failures, "\n\n".join(report.failures)
