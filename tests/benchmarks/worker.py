"""The worker: times cases in some libraries, interleaved in this process, and prints JSON lines.

    python -m tests.benchmarks.worker '{"cases": [...], "libraries": [...], "rounds": 9}'

Each line is {"case": ..., "seconds": {library: s}, "faults": {library: why}}; a library whose
results differ from the others', or that fails, has a fault and no seconds.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

os.environ.setdefault("FUNCTRANS_CACHE_DIR", tempfile.mkdtemp(prefix="functrans-benchmarks-"))

import numpy as np

from tests.benchmarks.case import Case, disagreement, leaves, load_cases
from tests.benchmarks.libraries import Library, load
from tests.benchmarks.timing import interleaved


def measure(case: Case, libraries: Sequence[Library], rounds: int) -> dict[str, Any]:
    """Check that the libraries agree on a case, then time those that do."""
    calls: dict[str, Callable[[], Any]] = {}
    faults: dict[str, str] = {}
    reference: list[np.ndarray] | None = None
    for library in sorted(libraries, key=lambda library: library.name == "functrans"):
        try:
            call = partial(case.function(library), *case.arguments(library))
            result = call()
            reference = [x.copy() for x in leaves(result)] if reference is None else reference
            fault = disagreement(result, reference, case.tolerance)
        except Exception as error:
            fault = f"{type(error).__name__}: {error}".splitlines()[0]
        if fault:
            faults[library.name] = fault
        else:
            calls[library.name] = call
    waits = {library.name: library.wait for library in libraries}
    seconds = interleaved(calls, waits, rounds=rounds, small=case.small) if calls else {}
    return {"case": case.name, "seconds": seconds, "faults": faults}


def main() -> None:
    request = json.loads(sys.argv[1])
    libraries = [load(name) for name in request["libraries"]]
    cases = load_cases()
    for name in request["cases"]:
        case = cases[name]
        chosen = [library for library in libraries if case.runs_in(library.name)]
        sys.stdout.write(json.dumps(measure(case, chosen, request["rounds"])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
