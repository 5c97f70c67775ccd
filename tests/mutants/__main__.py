"""The mutation lane: python -m tests.mutants [--count N --seed S] [--match TEXT] [--json FILE]."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

os.environ["FUNCTRANS_CACHE"] = "off"
os.environ["FUNCTRANS_CHECK"] = "1"  # as in the tests: read when the compiler is imported

from tests.mutants import reach
from tests.mutants.checks import Check, with_checks
from tests.mutants.equivalent import is_equivalent
from tests.mutants.lane import BUDGET, Lane, Verdict, run
from tests.mutants.mutate import Mutant, mutants
from tests.mutants.store import Store

FEW = 100
"""So many mutants are judged without recording first what the checks evaluate."""


def drawn(seed: int, name: str) -> bytes:
    """A draw that depends on the mutant alone, so that other changes do not change the choice."""
    return hashlib.sha256(f"{seed} {name}".encode()).digest()


def main() -> int:
    """0 when at least 98 % of the mutants that mean something are caught."""
    options = parsed()
    made = mutants()
    matching = [m for m in made if any(text in str(m) for text in options.match)]
    chosen = [m for m in matching if not is_equivalent(m)]
    if options.count:
        chosen = sorted(chosen, key=lambda m: drawn(options.seed, m.id))[: options.count]
    store = Store(options.store)
    verdicts = store.valid(chosen)
    judged = {verdict.id for verdict in verdicts}
    left = [m for m in chosen if m.id not in judged]

    def judge(found: list[Check]) -> None:
        checks = [c for c in found if any(text in c.id for text in options.by)]
        whole = len(checks) == len(found) and options.budget >= BUDGET
        known = known_reach(checks, made, options) if whole and len(left) > FEW else None
        lane = Lane(checks, made, known, options.budget, whole)
        verdicts.extend(run(lane, left, options.jobs, store.caught_by(), store.add, tell))

    if left:
        with_checks(judge)
    if options.json is not None:
        options.json.write_text("".join(json.dumps(asdict(v)) + "\n" for v in verdicts))
    return summary(verdicts)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=0, help="how many, at random; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--match", nargs="+", default=[""], help="only those with such a text")
    parser.add_argument("--json", type=Path, help="write the verdicts here")
    parser.add_argument("--store", type=Path, help="keep verdicts here, and go on from them")
    parser.add_argument("--reach", type=Path, help="keep here what the checks evaluate")
    parser.add_argument("--budget", type=float, default=BUDGET, help="CPU seconds for each")
    parser.add_argument("--by", nargs="+", default=[""], help="only by checks with such a text")
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args()


def known_reach(
    checks: Sequence[Check], made: Sequence[Mutant], options: argparse.Namespace
) -> reach.Reach:
    """What the checks evaluate: kept in a file, or recorded now."""
    kept = reach.load(options.reach) if options.reach else None
    if kept is not None:
        return kept
    begin = time.monotonic()
    found = reach.record(checks, made, options.jobs, tell_failure)
    print(f"recorded what {len(found)} checks evaluate in {time.monotonic() - begin:.0f} s")
    if options.reach:
        reach.save(found, options.reach)
    return found


def tell_failure(check: str, error: str) -> None:
    print(f"fails without any change, and judges nothing: {check} ({error})", flush=True)


def tell(verdict: Verdict) -> None:
    print(f"{verdict.outcome:14s} {verdict.seconds:5.1f}s {verdict.mutant}")
    print(f"{'':22s}{verdict.how} {verdict.check}", flush=True)


def summary(verdicts: Sequence[Verdict]) -> int:
    """Print the counts and the survivors; the exit code."""
    counts = Counter(v.outcome for v in verdicts)
    judged = counts["caught"] + counts["survived"]
    share = counts["caught"] / judged if judged else 1.0
    print(f"\n{dict(counts)}: {100 * share:.1f} % caught")
    for verdict in verdicts:
        if verdict.outcome == "survived":
            print(f"survivor: {verdict.mutant}")
    return int(share < 0.98)


if __name__ == "__main__":
    sys.exit(main())
