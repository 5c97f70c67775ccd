"""The mutation lane: python -m tests.mutants [--count N --seed S] [--match TEXT] [--json FILE]."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from pathlib import Path

from tests.mutants.equivalent import is_equivalent
from tests.mutants.lane import Verdict, as_json, run
from tests.mutants.mutate import mutants


def drawn(seed: int, name: str) -> bytes:
    """A draw that depends on the mutant alone, so that other changes do not change the choice."""
    return hashlib.sha256(f"{seed} {name}".encode()).digest()


def main() -> int:
    """0 when at least 98 % of the mutants that mean something are caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=0, help="how many, at random; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--match", default="", help="only those whose text contains this")
    parser.add_argument("--json", type=Path, default=None, help="write the verdicts here")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    chosen = [m for m in mutants() if not is_equivalent(m) and options.match in str(m)]
    if options.count:
        chosen = sorted(chosen, key=lambda m: drawn(options.seed, m.id))[: options.count]
    verdicts = run(chosen, options.jobs, tell)
    if options.json is not None:
        options.json.write_text("\n".join(map(as_json, verdicts)) + "\n")
    return summary(verdicts)


def tell(verdict: Verdict) -> None:
    print(f"{verdict.outcome:14s} {verdict.seconds:5.1f}s {verdict.mutant}\n{'':22s}{verdict.how}")
    sys.stdout.flush()


def summary(verdicts: list[Verdict]) -> int:
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
