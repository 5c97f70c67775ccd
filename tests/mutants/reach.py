"""Which mutants a check can notice at all: those whose place it evaluates, recorded once.

Every place where something can be changed gets a probe; every check runs once, in a process of
its own, so that no program that an earlier one derived or compiled hides what it evaluates.
"""

from __future__ import annotations

import builtins
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.apply import exchange
from tests.mutants.checks import Check, judging_files, timed
from tests.mutants.forks import Ended, Task, Tell, allow, forked
from tests.mutants.mutate import ROOT, Mutant, digest, probed_tree

PROBE = "_mutants_probe"
MOST_SECONDS = 400.0


@dataclass(frozen=True)
class Reached:
    """What a check came to on the unchanged tree: its CPU time, and the sites it evaluated.

    `places` has the bit i where it evaluated the site of the i-th mutant; it is 0 for a check
    that failed, which can notice nothing.
    """

    seconds: float
    places: int


Reach = dict[str, Reached]
"""By the checks' ids."""


def record(
    checks: Sequence[Check],
    made: Sequence[Mutant],
    jobs: int,
    failed: Callable[[str, str], None],
) -> Reach:
    """Run every check on the probed tree; `failed` is told of those that do not pass there."""
    together = defaultdict[tuple[str, str], list[Check]](list)
    for check in checks:
        together[check.kind, check.of].append(check)
    found: Reach = {}
    with probes(made) as (seen, alike):
        tasks = ((group, _recording(group, seen)) for group in together.values())
        for group, ended in forked(tasks, jobs):
            found |= _taken_in(group, ended, alike, failed)
    return found


def _recording(group: list[Check], seen: set[int]) -> Task:
    """Run the checks of a group one after the other; the last is credited with the sites of all."""

    def task(tell: Tell) -> None:
        seen.clear()
        for check in group:
            allow(MOST_SECONDS)
            error, seconds = timed(check)
            tell([check.id, error, seconds, sorted(seen)])

    return task


def _taken_in(
    group: list[Check], ended: Ended, alike: dict[int, int], failed: Callable[[str, str], None]
) -> Reach:
    found: Reach = {}
    for id, error, seconds, seen in ended.told:
        if error:
            failed(id, error)
        places = 0
        for first in () if error else seen:
            places |= alike[first]
        found[id] = Reached(seconds, places)
    for check in group[len(ended.told) :]:
        failed(check.id, ended.by)
        found[check.id] = Reached(0.0, 0)
    return found


@contextmanager
def probes(made: Sequence[Mutant]) -> Iterator[tuple[set[int], dict[int, int]]]:
    """Have every site tell when it is evaluated: a set of the numbers of those that were.

    Sites at one place share the number of the first; the second result maps it to all their bits.
    """
    seen, alike, changed = set[int](), defaultdict[int, int](int), []
    setattr(builtins, PROBE, seen.add)
    try:
        for file, first in _first_numbers(made).items():
            tree, numbers = probed_tree(file, PROBE, first)
            for i, number in enumerate(numbers, first):
                alike[number] |= 1 << i
            changed += exchange(file, tree)
        yield seen, alike
    finally:
        for function, code in changed:
            function.__code__ = code
        delattr(builtins, PROBE)


def _first_numbers(made: Sequence[Mutant]) -> dict[str, int]:
    """The place in the sequence of the first mutant of each file."""
    first: dict[str, int] = {}
    for i, mutant in enumerate(made):
        first.setdefault(mutant.file, i)
    return first


# -- kept between runs --------------------------------------------------------------------------


def state_of_tree() -> str:
    """A digest of everything that decides what the checks evaluate."""
    sources = [f for d in ("functrans", "jit") for f in sorted((ROOT / d).rglob("*.py"))]
    return digest("".join(f.read_text() for f in [*sources, *judging_files()]))


def load(file: Path) -> Reach | None:
    """What was recorded on this very tree, if anything was."""
    if not file.exists():
        return None
    kept = json.loads(file.read_text())
    if kept["tree"] != state_of_tree():
        return None
    return {id: Reached(seconds, int(bits, 16)) for id, (seconds, bits) in kept["checks"].items()}


def save(reach: Reach, file: Path) -> None:
    checks = {id: (round(r.seconds, 3), f"{r.places:x}") for id, r in reach.items()}
    file.write_text(json.dumps({"tree": state_of_tree(), "checks": checks}))
