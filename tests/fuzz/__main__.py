"""The long lane: python -m tests.fuzz --minutes N [--start NUMBER]; --program NUMBER shows one."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time

from tests.fuzz.generate import generate
from tests.fuzz.report import explain, failure, run, shrunk


def main() -> int:
    """0 when every program agreed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--start", type=int, default=None, help="the first program's number")
    parser.add_argument("--program", type=int, default=None, help="print and check this one only")
    options = parser.parse_args()
    os.environ["FUNCTRANS_CACHE"] = "off"  # the compiler is what is tested
    if options.program is not None:
        program = generate(options.program)
        print(program.script())
        error = failure(program)
        if error is not None:
            smaller = shrunk(program, error)
            print(explain(options.program, smaller, failure(smaller) or error))
        print("agrees" if error is None else "does not agree")
        return int(error is not None)
    start = int(time.time()) * 1000 if options.start is None else options.start
    print(f"programs from {start}")
    report = run(itertools.count(start), 60 * options.minutes, keeping=True)
    print(report.table())
    for text in report.failures:
        print("\n" + text)
    print(f"\n{len(report.failures)} of {report.programs} programs failed")
    return int(bool(report.failures))


if __name__ == "__main__":
    sys.exit(main())
