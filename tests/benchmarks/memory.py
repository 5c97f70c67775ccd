"""Memory: one case in a process of its own for each library, its peak memory and time per call.

    python -m tests.benchmarks.memory [--case NAME] [--calls N] [--without L]

The peak is the greatest resident size of the whole process, imports, inputs and compiler included;
the time is the median of the calls after the first two. A result is dropped before the next call.
Libraries that keep compiled code on disk start with nothing there, and are measured once more with
what their first process has left: functrans then loads no compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TypeAlias

from tests.benchmarks.case import load_cases
from tests.benchmarks.libraries import BY_HAND, KINDS, installed, load

OURS = "functrans"
KEEPING = (OURS, "torch.compile")
"""The libraries that keep compiled code on disk of their own accord."""
FROM_DISK = ", from the disk"

Measured: TypeAlias = dict[str, dict[str, float]]
"""Seconds and peak by the name of a row."""


def measure(case_name: str, library_name: str, calls: int) -> dict[str, float]:
    """Run the case in this process: seconds per call, and the peak in bytes."""
    import resource

    case, library = load_cases()[case_name], load(library_name)
    function, arguments = case.function(library), case.arguments(library)
    seconds: list[float] = []
    for _ in range(calls + 2):
        start = time.perf_counter()
        result = function(*arguments)
        library.wait(result)
        seconds.append(time.perf_counter() - start)
        del result
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"seconds": statistics.median(seconds[2:]), "peak": float(peak)}


def in_a_process(case: str, library: str, calls: int, cache: str) -> dict[str, float]:
    """The same in a fresh process, with this folder for compiled code."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", "--case", case]
    command += ["--calls", str(calls), "--library", library]
    done = subprocess.run(
        command,
        env=dict(
            os.environ,
            FUNCTRANS_CACHE_DIR=os.path.join(cache, "functrans"),
            FUNCTRANS_CACHE="on",
            TORCHINDUCTOR_CACHE_DIR=os.path.join(cache, "inductor"),
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or "no message").splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--case", default="chain_50m", help="a case of tests.benchmarks")
    parser.add_argument("--calls", type=int, default=5, help="calls that are timed")
    parser.add_argument("--without", action="append", default=[], help="a library to leave out")
    parser.add_argument("--library", help="measure this one here, and print JSON")
    given = parser.parse_args()
    if given.library:
        sys.stdout.write(json.dumps(measure(given.case, given.library, given.calls)) + "\n")
        return
    found: Measured = {}
    with tempfile.TemporaryDirectory() as cache:
        for name in KINDS:
            if name not in given.without and installed(name):
                rows = (name, name + FROM_DISK) if name in KEEPING else (name,)
                for row in rows:
                    try:
                        found[row] = in_a_process(given.case, name, given.calls, cache)
                    except RuntimeError as error:
                        print(f"{row}: {error}")
    for name, row in found.items():
        print(f"{name:28} {1e3 * row['seconds']:8.1f} ms {row['peak'] / 2**20:8.0f} MiB")
    for ours, peers in ((OURS, compiled_peers(found)), (OURS + FROM_DISK, all_peers(found))):
        if ours in found and peers:
            for what in ("seconds", "peak"):
                ratio = found[ours][what] / min(row[what] for row in peers)
                print(f"{ours}, {what}: {ratio:.2f} of the best peer")


def all_peers(found: Measured) -> list[dict[str, float]]:
    """What was measured of other libraries."""
    return [row for name, row in found.items() if not name.startswith((OURS, BY_HAND))]


def compiled_peers(found: Measured) -> list[dict[str, float]]:
    """The same in processes that found nothing on disk."""
    return all_peers({name: row for name, row in found.items() if not name.endswith(FROM_DISK)})


if __name__ == "__main__":
    main()
