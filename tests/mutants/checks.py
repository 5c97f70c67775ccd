"""What can notice a mutant: laws of primitives, random programs, and the tests beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from _pytest.warnings import catch_warnings_for_item

import tests.laws as laws
from tests.fuzz.report import run as run_programs
from tests.mutants.mutate import ROOT
from tests.samples_of import sampled

PROGRAMS = 40

STARTING_PROCESSES = {
    *("test_blocks", "test_disk_cache", "test_early", "test_read_ahead", "test_threads"),
    "test_docs",
}
ELSEWHERE = {
    *("test_laws", "test_fuzz", "test_mutants"),  # run here without pytest; this lane itself
    *("test_architecture", "test_layering", "test_completeness", "test_error_words"),
    *("test_tree", "test_surface", "test_numpy_api", "test_tiers"),
    *("test_gemm", "test_gemm_small", "test_blas", "test_intrinsics", "test_targets"),
    *("test_entry", "test_entry_soak", "test_image", "test_codegen", "test_cold_code"),
    "test_runtime_symbols",
    *("test_linear_time", "test_explain", "test_random_nests", "test_loop_ir"),
}
"""Files whose tests are slow here, or are of what has no mutants."""
JUDGING_NOTHING = {"layers"}
"""Files beside the tests that no verdict depends on."""


def test_files() -> list[Path]:
    """The files of tests that judge mutants."""
    found = sorted([*(ROOT / "tests").glob("test_*.py"), *(ROOT / "tests/jit").glob("test_*.py")])
    return [f for f in found if f.stem not in STARTING_PROCESSES | ELSEWHERE]


def judging_files(check: str = "") -> list[Path]:
    """All that a verdict depends on beside the mutated function; or a verdict by this check."""
    folders = [ROOT / "tests", ROOT / "tests/jit", ROOT / "tests/fuzz"]
    found = [f for d in folders for f in d.glob("*.py") if not f.stem.startswith("test_")]
    shared = [f for f in found if f.stem not in JUDGING_NOTHING]
    if not check:
        return sorted([*shared, *test_files()])
    file = check.partition("::")[0]
    return sorted([*shared, ROOT / file] if file.endswith(".py") else shared)


@dataclass(frozen=True)
class Check:
    """One thing that passes as long as nothing is broken.

    `kind` is the law, "program" or the file of the test; `of` is the primitive, the number or
    the test. `run` raises when it notices something.
    """

    kind: str
    of: str
    thorough: bool = False
    run: Callable[[], None] = field(repr=False, compare=False, default=lambda: None)

    @property
    def id(self) -> str:
        if self.kind.endswith(".py"):
            return self.of
        return f"{self.kind} {self.of}" + " thorough" * self.thorough

    @property
    def compiles(self) -> bool:
        """May it run native code?"""
        return self.kind not in laws.LAWS or self.kind.startswith("compiled_")


def all_checks(items: list[pytest.Item]) -> list[Check]:
    """Every check; `items` are pytest's own, of the files of `test_files`."""
    found = [
        _law_check(law, name, thorough)
        for name in sampled()
        for law in laws.LAWS
        for thorough in (False, True)
    ]
    return found + [*map(_program_check, range(PROGRAMS)), *map(_test_check, items)]


def _law_check(law: str, name: str, thorough: bool) -> Check:
    return Check(law, name, thorough, lambda: laws.LAWS[law](name, thorough))


def _program_check(number: int) -> Check:
    def check() -> None:
        report = run_programs(range(number, number + 1), shrinking=False)
        assert not report.failures, report.failures[0]

    return Check("program", str(number), False, check)


def _test_check(item: pytest.Item) -> Check:
    def check() -> None:
        # A test's own filters are set around this by pytest's loop, which does not run here.
        with catch_warnings_for_item(item.config, item.ihook, "runtest", item):
            reports = runtestprotocol(item, log=False, nextitem=None)
        for report in reports:
            assert not report.failed, report.longreprtext

    return Check(str(item.path.relative_to(ROOT)), item.nodeid, False, check)


def failure(check: Check) -> str:
    """Run it: "" when it passes, else the name of the error."""
    try:
        check.run()
    except Exception as error:
        return type(error).__name__
    return ""


def timed(check: Check) -> tuple[str, float]:
    """What `failure` says, and the CPU time it took."""
    begin = time.process_time()
    return failure(check), time.process_time() - begin


class _Collected:
    """A plug-in of pytest that hands over the collected tests instead of running them."""

    def __init__(self, use: Callable[[list[Check]], None]) -> None:
        self.use = use

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests could not be collected")
        self.use(all_checks(session.items))
        return True


def with_checks(use: Callable[[list[Check]], None]) -> None:
    """Call `use` on all checks, inside the session of pytest that its tests need."""
    options = [
        "-q",
        "-s",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "no:faulthandler",
        "--rootdir",
        str(ROOT),
    ]
    code = pytest.main([*options, *map(str, test_files())], plugins=[_Collected(use)])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"pytest ended with {code!r}")
