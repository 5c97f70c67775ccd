"""Verdicts kept in a file, so that the lane can go in pieces and be taken up again.

A verdict counts as long as the mutated function and what judged it read as they did: the check that
caught the mutant, or all checks where it survived. Otherwise it only says what to try first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from pathlib import Path

from tests.mutants.checks import judging_files
from tests.mutants.lane import Verdict
from tests.mutants.mutate import Mutant, digest


class Store:
    """The verdicts in a file, the last one on each mutant; a file of None keeps nothing."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.kept: dict[str, tuple[str, Verdict]] = {}
        for line in file.read_text().splitlines() if file and file.exists() else ():
            row = json.loads(line)
            judges = row.pop("judges")
            self.kept[row["id"]] = judges, Verdict(**row)

    def valid(self, mutants: Iterable[Mutant]) -> list[Verdict]:
        """The verdicts that still count."""
        found = []
        for mutant in mutants:
            judges, verdict = self.kept.get(mutant.id, ("", None))
            if verdict and verdict.text == mutant.text and judges == state_of(verdict.check):
                found.append(verdict)
        return found

    def caught_by(self) -> dict[str, str]:
        """The checks that caught mutants, by the mutants' ids."""
        return {id: verdict.check for id, (_, verdict) in self.kept.items() if verdict.check}

    def add(self, verdict: Verdict) -> None:
        if verdict.outcome == "undecided":
            return
        judges = state_of(verdict.check)
        self.kept[verdict.id] = judges, verdict
        if self.file is not None:
            with self.file.open("a") as file:
                file.write(json.dumps({**asdict(verdict), "judges": judges}) + "\n")


def state_of(check: str) -> str:
    """A digest of what judges: of all, or of what the check that caught a mutant consists of."""
    return _state(tuple(judging_files(check.partition("::")[0])))


@cache
def _state(files: tuple[Path, ...]) -> str:
    return digest("".join(f.read_text() for f in files if f.exists()))
