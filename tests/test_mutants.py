"""The laws notice broken rules: a seeded handful of mutants here, all of them in the full lane.

The full lane takes up the verdicts in the file that FUNCTRANS_MUTANTS names, if it does: those
that still count (store.py says which) are not reached again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.laws import LAWS
from tests.mutants import checks as all_of_them
from tests.mutants.checks import Check, failure
from tests.mutants.equivalent import EQUIVALENT
from tests.mutants.forks import Task, Tell, allow, forked
from tests.mutants.lane import Lane
from tests.mutants.mutate import ROOT, mutants
from tests.mutants.order import BESIDE, near
from tests.mutants.reach import record
from tests.mutants.store import Store

HANDFUL, SEED, MOST_UNDECIDED = 16, 1139, 1
SHARE = 0.98


def verdicts(tmp_path: Path, *options: str | Path) -> list[dict[str, str]]:
    """What became of the mutants, each judged in a process forked from a fresh one."""
    file = tmp_path / "verdicts.json"
    command = [sys.executable, "-m", "tests.mutants", "--json", file, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert file.exists(), done.stderr
    return [json.loads(line) for line in file.read_text().splitlines()]


def survivors(found: list[dict[str, str]]) -> list[str]:
    return [v["mutant"] for v in found if v["outcome"] == "survived"]


def test_a_handful_is_caught(tmp_path: Path) -> None:
    """Signs, terms, operands, axes and mask tails: none of this seed's mutants survives.

    A slow machine may not come to the check that would notice one.
    """
    found = verdicts(tmp_path, "--count", str(HANDFUL), "--seed", str(SEED))
    assert len(found) == HANDFUL
    assert survivors(found) == []
    assert sum(v["outcome"] == "undecided" for v in found) <= MOST_UNDECIDED


@pytest.mark.full
def test_all_are_caught_but_a_few(tmp_path: Path) -> None:
    """At least 98 % of all mutants; the survivors are listed."""
    found = verdicts(tmp_path, "--store", os.environ.get("FUNCTRANS_MUTANTS", tmp_path / "kept"))
    judged = [v for v in found if v["outcome"] != "not applicable"]
    alive = survivors(found)
    listing = "\n".join(alive)
    assert len(judged) - len(alive) >= SHARE * len(judged), f"survivors:\n{listing}"


def test_every_kind_of_change_is_made() -> None:
    """And every file of rules and lowerings has mutants, the tables of names aside."""
    made = mutants()
    kinds = {m.kind for m in made}
    assert kinds == {"sign", "dropped term", "swapped operands", "wrong axis", "mask tail"}
    files = {m.file for m in made}
    for needed in ("structural", "elementwise", "reduction", "indexing", "contraction", "ordering"):
        assert f"functrans/primitives/{needed}.py" in files
        assert f"jit/lowering/{needed}.py" in files


@pytest.mark.full
def test_exemptions_are_used() -> None:
    """What is said to change nothing is still there to be said of."""
    made = mutants()
    assert [e for e in EQUIVALENT if not any(map(e.covers, made))] == []


def test_every_lowering_has_tests_near_it() -> None:
    """So that what notices a mutant is among the first to meet it; other files have laws."""
    there = {file.stem for file in all_of_them.test_files()}
    lowerings = {m.file: m for m in mutants() if m.file.startswith("jit/")}
    assert [file for file, m in lowerings.items() if not near(m).tests & there] == []
    assert {test for tests in BESIDE.values() for test in tests} <= there


def law(kind: str, name: str) -> Check:
    return Check(kind, name, False, lambda: LAWS[kind](name, False))


ORDERING = ("functrans/primitives/ordering.py",)


def test_a_check_meets_what_it_evaluates() -> None:
    """The sites that a check evaluates are recorded, and only their mutants are tried by it."""
    made = mutants(ORDERING)
    checks = [law("impl_is_its_definition", "top_k"), law("jvp_is_the_derivative", "sin")]
    found = record(checks, made, 1, lambda id, error: pytest.fail(f"{id}: {error}"))
    top_k, sin = (found[check.id] for check in checks)
    assert {m.function for i, m in enumerate(made) if top_k.places >> i & 1} >= {"_top_k_impl"}
    assert top_k.seconds > 0
    assert sin.places == 0
    lane = Lane(checks, made, found)
    inside = [m for m in made if m.function == "_top_k_impl"]
    assert [lane.plan(m, "") for m in inside] == [checks[:1]] * len(inside)
    assert "caught" in {v.outcome for v in lane.judge(inside, 1, {})}
    assert failure(checks[0]) == ""  # nothing of it stays in this process


def test_verdicts_count_until_something_changes(tmp_path: Path) -> None:
    made = [m for m in mutants(ORDERING) if m.function == "_top_k_impl"][:2]
    lane = Lane([law("impl_is_its_definition", "top_k")], made, None)
    store = Store(tmp_path / "verdicts")
    for verdict in lane.judge(made, 1, {}):
        store.add(verdict)
    again = Store(tmp_path / "verdicts")
    assert {v.id for v in again.valid(made)} == {m.id for m in made}
    changed = [replace(m, text="of another function") for m in made]
    assert again.valid(changed) == []
    assert set(again.caught_by()) == {m.id for m in made}


def test_processes_are_held_to_limits() -> None:
    """Of CPU time: one that computes for ever is ended, and one that fails says so."""

    def endless(tell: Tell) -> None:
        tell("begun")
        allow(0.1)
        while True:
            pass

    def failing(tell: Tell) -> None:
        raise ValueError

    tasks: list[tuple[str, Task]] = [
        ("done", lambda tell: tell([1, "a"])),
        ("endless", endless),
        ("failing", failing),
    ]
    ends = dict(forked(tasks, 2))
    assert (ends["done"].told, ends["done"].by) == ([[1, "a"]], "")
    assert (ends["endless"].told, ends["endless"].by) == (["begun"], "it does not end")
    assert (ends["failing"].told, ends["failing"].by) == ([], "an exception")
