"""Runs mutants: each in a forked process of its own, against the laws that can notice it.

The process that forks has imported everything and run nothing, so that no cache of derived or
compiled programs hides a change.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

import tests.laws as laws
from tests.fuzz.report import run as run_programs
from tests.mutants.apply import NotApplicable, apply
from tests.mutants.mutate import ROOT, Mutant
from tests.mutants.targets import CORE, served

NATIVE_LAWS = (
    "compiled_is_impl",
    "compiled_at_special_points",
    "compiled_every_way",
    "compiled_in_company",
    "compiled_stays_inside",
    "compiled_derivatives",
)
QUICK_SECONDS, DEEP_SECONDS = 60.0, 240.0
MEMORY = 8 << 30
PROGRAMS = 20
RULES_TESTS = (
    "tests/test_edges.py",
    "tests/test_higher_order.py",
    "tests/test_core.py",
    "tests/test_snapshots.py",
)
NATIVE_TESTS = ("tests/jit/test_lowering.py", "tests/jit/test_fusion.py", "tests/jit/test_emit.py")
"""Tests beside the laws that should notice a mutant of a rule, and of native code."""
BESIDE = {
    "conv": "tests/jit/test_conv.py",
    "window": "tests/jit/test_conv.py",
    "padded": "tests/jit/test_conv.py",
    "indexing": "tests/jit/test_scatter.py",
    "selection": "tests/jit/test_selection.py",
    "contraction": "tests/jit/test_products.py",
}
"""The tests of what a file whose name contains the first word makes."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: "caught", "survived" or "not applicable", and by what."""

    mutant: str
    id: str
    outcome: str
    how: str
    seconds: float


class Caught(Exception):
    """A law noticed the mutant."""


def challenge(mutant: Mutant, note: Callable[[str], None]) -> str:
    """Apply a mutant and run what should notice it: quick laws, then the deep ones.

    `note` is told when the quick ones have passed. Returns what all passed.
    """
    apply(mutant)
    native = mutant.file.startswith("jit/")
    names = served(mutant)
    quick = NATIVE_LAWS if native else tuple(laws.LAWS)
    _try([(law, name, False) for name in names for law in quick])
    note("quick laws passed")
    if native:
        _test(test for word, test in BESIDE.items() if word in Path(mutant.file).stem)
    _try([(law, name, True) for name in names[:4] for law in quick])
    _try([(law, name, False) for name in CORE if name not in names for law in quick])
    report = run_programs(range(PROGRAMS), shrinking=False)
    if report.failures:
        raise Caught("a program")
    _test(NATIVE_TESTS if native else RULES_TESTS)
    return f"all of {', '.join(names)} and {PROGRAMS} programs"


def _test(files: Iterable[str]) -> None:
    paths = [str(ROOT / file) for file in dict.fromkeys(files)]
    if paths and pytest.main(["-q", "-x", "-p", "no:cacheprovider", *paths]) != 0:
        raise Caught("a test")


def _try(runs: Sequence[tuple[str, str, bool]]) -> None:
    for law, name, thorough in runs:
        try:
            laws.LAWS[law](name, thorough)
        except Exception as error:
            raise Caught(f"{law} of {name}: {type(error).__name__}") from error


def _child(mutant: Mutant, write: int) -> None:
    """The forked process: writes outcome and reason, and ends without cleaning up."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ["FUNCTRANS_CACHE"] = "off"  # code that was kept would hide a change

    def tell(answer: tuple[str, str]) -> None:
        os.write(write, json.dumps(answer).encode() + b"\n")

    try:
        answer = ("survived", challenge(mutant, lambda text: tell(("noted", text))))
    except Caught as caught:
        answer = ("caught", str(caught))
    except NotApplicable as reason:
        answer = ("not applicable", str(reason))
    except BaseException as error:
        answer = ("caught", f"{type(error).__name__} while it was applied")
    tell(answer)
    os._exit(0)


def run(
    mutants: Sequence[Mutant], jobs: int = 2, tell: Callable[[Verdict], None] = lambda v: None
) -> list[Verdict]:
    """The verdicts on the mutants, in the order in which they are reached."""
    waiting, running, verdicts = list(mutants)[::-1], list[_Running](), list[Verdict]()
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(_start(waiting.pop()))
        select.select([one.read for one in running], [], [], 0.5)
        for one in list(running):
            verdict = one.verdict()
            if verdict is not None:
                running.remove(one)
                verdicts.append(verdict)
                tell(verdict)
    return verdicts


@dataclass
class _Running:
    """A mutant's process; `read` is the end of the pipe it writes to."""

    mutant: Mutant
    pid: int
    read: int
    begin: float
    said: bytes = b""

    def verdict(self) -> Verdict | None:
        """What became of it; None while that is open."""
        while select.select([self.read], [], [], 0)[0]:
            more = os.read(self.read, 1 << 16)
            self.said += more
            if not more:
                return self._ended()
        allowed = DEEP_SECONDS if self.said else QUICK_SECONDS
        if time.monotonic() - self.begin < allowed:
            return None
        os.kill(self.pid, signal.SIGKILL)
        return self._ended()

    def _ended(self) -> Verdict:
        _, status = os.waitpid(self.pid, 0)
        os.close(self.read)
        answers = [json.loads(line) for line in self.said.splitlines()]
        outcome, how = answers[-1] if answers else ("caught", "a crash")
        if outcome == "noted":  # it got through the quick laws, and no further
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            outcome = "survived" if killed else "caught"
            how = "no time for all deep laws" if killed else "a crash"
        elif not answers and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            how = "it does not end"
        seconds = time.monotonic() - self.begin
        return Verdict(str(self.mutant), self.mutant.id, outcome, how, seconds)


def _start(mutant: Mutant) -> _Running:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _child(mutant, write)
    os.close(write)
    return _Running(mutant, pid, read, time.monotonic())


def as_json(verdict: Verdict) -> str:
    return json.dumps(asdict(verdict))
