"""Judges mutants: each in a forked process of its own, against the checks that can notice it.

The process that forks has imported everything and run nothing, so that no cache of derived or
compiled programs hides a change.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.mutants.apply import NotApplicable, apply, prepare
from tests.mutants.checks import Check, failure
from tests.mutants.forks import Ended, Task, Tell, allow, forked
from tests.mutants.mutate import Mutant
from tests.mutants.order import Near, in_order, near
from tests.mutants.reach import Reach

BUDGET = 60.0
"""After so many seconds of CPU time no further check is begun."""
LEAST_SECONDS, TIMES = 15.0, 20.0
"""What does not end: a check that computes for this long, and this many times as long as it did."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant, and by what.

    The outcome is "caught", "survived", "not applicable", or "undecided": something from outside
    ended its process, only some checks were to be tried, or there was time for some only of all
    that there are, most of which do not evaluate it. `check` is the check that caught it; `text`
    is the digest of the function that the mutant changes.
    """

    mutant: str
    id: str
    text: str
    outcome: str
    how: str
    check: str
    seconds: float


class Lane:
    """Judges mutants one after the other, and learns which checks catch those of a function.

    Only where `whole`, the checks being all there are, has one survived that none notices; and
    where the budget ends first, only if `reach` had left those that evaluate it.
    """

    def __init__(
        self,
        checks: Sequence[Check],
        made: Sequence[Mutant],
        reach: Reach | None,
        budget: float = BUDGET,
        whole: bool = True,
    ) -> None:
        self.checks = {check.id: check for check in checks}
        self.bits = {mutant.id: i for i, mutant in enumerate(made)}
        self.reach = reach
        self.budget = budget
        self.survived = "survived" if whole else "undecided"
        self.out_of_time = self.survived if reach is not None else "undecided"
        self.orders: dict[Near, list[Check]] = {}
        self.caught = defaultdict[tuple[str, str], dict[str, float]](dict)

    def judge(
        self, mutants: Sequence[Mutant], jobs: int, before: dict[str, str]
    ) -> Iterator[Verdict]:
        """The verdicts, in the order in which they are reached.

        `before` maps the ids of mutants to the checks that caught them at another time.
        """
        tasks = ((m, self._task(m, self.plan(m, before.get(m.id, "")))) for m in mutants)
        for mutant, ended in forked(tasks, jobs):
            verdict = _verdict(mutant, ended)
            if verdict.check:
                self.caught[mutant.file, mutant.function][verdict.check] = verdict.seconds
            yield verdict

    def plan(self, mutant: Mutant, before: str) -> list[Check]:
        """The checks that can notice a mutant, those first that are likely to do so quickly."""
        known = self.caught[mutant.file, mutant.function]
        quickest = sorted(known, key=known.__getitem__)[:4]
        likely = [self.checks[id] for id in (before, *quickest) if id in self.checks]
        able = [c for c in likely if self._evaluates(c, mutant)]
        return list(dict.fromkeys([*able, *self._ordered(mutant)]))

    def _ordered(self, mutant: Mutant) -> list[Check]:
        """The checks that can notice a mutant; kept where all are thought to be able to."""
        around = near(mutant)
        if self.reach is None and around in self.orders:
            return self.orders[around]
        able = [c for c in self.checks.values() if self._evaluates(c, mutant)]
        self.orders[around] = in_order(able, around, self.seconds)
        return self.orders[around]

    def _evaluates(self, check: Check, mutant: Mutant) -> bool:
        if self.reach is None:
            return check.compiles or not mutant.file.startswith("jit/")
        known = self.reach.get(check.id)
        return known is not None and bool(known.places >> self.bits[mutant.id] & 1)

    def seconds(self, check: Check) -> float:
        """The CPU time of a check on the unchanged tree, or a guess."""
        known = self.reach.get(check.id) if self.reach else None
        if known:
            return known.seconds
        heavy = check.kind == "program" or check.kind.startswith("compiled_")
        return 0.1 + heavy + 4 * check.thorough

    def _task(self, mutant: Mutant, plan: list[Check]) -> Task:
        prepare(mutant.file)

        def task(tell: Tell) -> None:
            os.environ["FUNCTRANS_CACHE"] = "off"  # code that was kept would hide a change
            try:
                apply(mutant)
            except NotApplicable as reason:
                tell(("not applicable", str(reason), ""))
                return
            begin = time.process_time()
            for passed, check in enumerate(plan):
                if time.process_time() - begin > self.budget:
                    tell((self.out_of_time, f"{passed} of {len(plan)} checks", ""))
                    return
                tell(("caught", "a crash", check.id))
                allow(LEAST_SECONDS + TIMES * self.seconds(check))
                error = failure(check)
                if error:
                    tell(("caught", error, check.id))
                    return
            tell((self.survived, f"all {len(plan)} checks", ""))

        return task


def _verdict(mutant: Mutant, ended: Ended) -> Verdict:
    if not ended.told:
        raise RuntimeError(f"{mutant}: cannot be applied ({ended.by})")
    outcome, how, check = ended.told[-1]
    if ended.by:
        outcome, how = ("undecided" if ended.by == "signal 9" else outcome), ended.by
    return Verdict(str(mutant), mutant.id, mutant.text, outcome, how, check, ended.seconds)


def run(
    lane: Lane,
    mutants: Sequence[Mutant],
    jobs: int,
    before: dict[str, str],
    *tell: Callable[[Verdict], None],
) -> list[Verdict]:
    """All verdicts; each is told when it is reached."""
    verdicts = []
    for verdict in lane.judge(mutants, jobs, before):
        verdicts.append(verdict)
        for listener in tell:
            listener(verdict)
    return verdicts
