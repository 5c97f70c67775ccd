"""The laws notice broken rules: a seeded handful of mutants here, all of them in the full lane."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.equivalent import EQUIVALENT
from tests.mutants.mutate import ROOT, mutants

HANDFUL, SEED = 25, 1139
SHARE = 0.98


def verdicts(tmp_path: Path, *options: str) -> list[dict[str, str]]:
    """What became of the mutants, each judged in a process forked from a fresh one."""
    file = tmp_path / "verdicts.json"
    command = [sys.executable, "-m", "tests.mutants", "--json", str(file), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert file.exists(), done.stderr
    return [json.loads(line) for line in file.read_text().splitlines()]


def survivors(found: list[dict[str, str]]) -> list[str]:
    return [v["mutant"] for v in found if v["outcome"] == "survived"]


def test_a_handful_is_caught(tmp_path: Path) -> None:
    """Signs, terms, operands, axes and mask tails: none of this seed's mutants survives."""
    found = verdicts(tmp_path, "--count", str(HANDFUL), "--seed", str(SEED))
    assert len(found) == HANDFUL
    assert survivors(found) == []


@pytest.mark.full
def test_all_are_caught_but_a_few(tmp_path: Path) -> None:
    """At least 98 % of all mutants; the survivors are listed."""
    found = verdicts(tmp_path)
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
