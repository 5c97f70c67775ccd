"""Matrix products alone: functrans' kernel against NumPy, jax and torch, each in its own process.

    python -m tests.benchmarks.gemm [--threads N] [--rounds N] [--without LIBRARY] [case ...]

A case is type:MxNxK, such as f32:1024x1024x1024, with T behind it where the first matrix is the
transpose of what lies in memory; without any, a list of squares and network shapes is run. The
processes live through the run and take turns, since libraries in one process disturb each other's
threads. Figures are medians in GF/s of calls as users make them; NumPy and torch write to a result
that is allocated once, functrans and jax to a new one. With one thread the last column, where there
is a C compiler, is as many multiply-adds that wait for nothing: what the core can do.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

CASES = (
    *(f"{t}:{n}x{n}x{n}" for t in ("f32", "f64") for n in (64, 256, 512, 1024, 2048)),
    *("f32:128x512x784", "f32:128x512x512", "f32:784x512x128", "f32:128x10x512"),
    *("f32:4096x1000x10", "f32:4096x10x1000", "f32:100000x1x50", "f64:100000x1x50"),
    *("f32:1000x10x4096T", "f64:1000x10x4096T", "f64:4096x64x1000T"),
    *("c64:256x256x256", "c128:256x256x256"),
)
LIBRARIES = ("functrans", "numpy", "jax", "torch")
CORE = "core"
DTYPES = {"f32": "float32", "f64": "float64", "c64": "complex64", "c128": "complex128"}
TURNED = "T"
PAUSE, WARM_UP, MEASURE = 0.06, 0.015, 0.06


def parse(case: str) -> tuple[str, int, int, int]:
    """The type and m, n, k of a case."""
    name, _, shape = case.partition(":")
    m, n, k = (int(size) for size in shape.removesuffix(TURNED).split("x"))
    return name, m, n, k


def product(library: str, case: str) -> Callable[[], object]:
    """A call that multiplies two random matrices."""
    import numpy as np

    (name, m, n, k), turned = parse(case), case.endswith(TURNED)
    if library == CORE:
        return multiply_adds(name, m * n * k)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(DTYPES[name]) for shape in ((m, k), (k, n)))
    if turned:
        a = np.asfortranarray(a)
    out = np.empty((m, n), DTYPES[name])
    match library:
        case "functrans":
            import functrans

            multiply = functrans.jit(lambda x, y: x @ y)
            return lambda: multiply(a, b)
        case "numpy":
            return lambda: np.matmul(a, b, out=out)
        case "jax":
            import jax

            jax.config.update("jax_enable_x64", True)
            x, y = jax.numpy.asarray(a.T if turned else a), jax.numpy.asarray(b)
            call = jax.jit(lambda x, y: jax.numpy.matmul(x.T if turned else x, y))
            return lambda: call(x, y).block_until_ready()
        case _:
            import torch

            x, y, z = (torch.from_numpy(array) for array in (a, b, out))
            return lambda: torch.matmul(x, y, out=z)


def multiply_adds(dtype: str, count: int) -> Callable[[], object]:
    """So many multiply-adds on whole vectors."""
    import ctypes

    from tests.benchmarks.by_hand import ByHand

    room, function = (ctypes.c_double * 128)(), ByHand().compiled.multiply_adds
    function.restype = ctypes.c_double
    doubles = count * {"f32": 1, "f64": 2, "c64": 4, "c128": 8}[dtype] // 2
    steps = ctypes.c_ssize_t(max(1, 2 * doubles // int(function(ctypes.c_ssize_t(1), room))))
    return lambda: function(steps, room)


def worker(library: str, threads: int) -> None:
    """Answer each case on standard input by the median seconds of one product."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    calls: dict[str, Callable[[], object]] = {}
    for line in sys.stdin:
        case = line.strip()
        if case not in calls:
            calls[case] = product(library, case)
            calls[case]()
        call, seconds = calls[case], list[float]()
        time.sleep(PAUSE)
        begin = time.perf_counter()
        while time.perf_counter() < begin + WARM_UP + MEASURE or len(seconds) < 3:
            start = time.perf_counter()
            call()
            end = time.perf_counter()
            if start > begin + WARM_UP:
                seconds.append(end - start)
        sys.stdout.write(json.dumps(statistics.median(seconds)) + "\n")
        sys.stdout.flush()


def start(library: str, threads: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.gemm", "--worker", library]
    limits = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "FUNCTRANS_NUM_THREADS")
    return subprocess.Popen(
        [*command, "--threads", str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **dict.fromkeys(limits, str(threads))},
    )


def compare(cases: Sequence[str], libraries: Sequence[str], threads: int, rounds: int) -> None:
    """Print the table, row by row."""
    processes = {library: start(library, threads) for library in libraries}
    head = "".join(f"{library:>11}" for library in libraries)
    print(f"{threads} thread(s), GF/s{'':8}{head}{'to best':>11}")
    for case in cases:
        name, m, n, k = parse(case)
        work = 2e-9 * m * n * k * (4 if name.startswith("c") else 1)
        speeds: dict[str, list[float]] = {library: [] for library in libraries}
        for _ in range(rounds):
            for library, process in processes.items():
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(case + "\n")
                process.stdin.flush()
                speeds[library].append(work / float(process.stdout.readline()))
        medians = {library: statistics.median(found) for library, found in speeds.items()}
        peers = [medians[x] for x in libraries if x not in ("functrans", CORE)]
        ratio = f"{medians['functrans'] / max(peers):>10.2f}x" if peers else ""
        print(
            f"{case:<24}" + "".join(f"{medians[x]:>11.1f}" for x in libraries) + ratio, flush=True
        )
    for process in processes.values():
        process.communicate(timeout=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="case")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without", action="append", default=[], choices=(*LIBRARIES[1:], CORE))
    parser.add_argument("--worker", choices=(*LIBRARIES, CORE), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.threads)
        return
    present = ["functrans", *(x for x in LIBRARIES[1:] if importlib.util.find_spec(x))]
    if options.threads == 1 and shutil.which("cc"):
        present.append(CORE)
    libraries = [library for library in present if library not in options.without]
    compare(options.cases or CASES, libraries, options.threads, options.rounds)


if __name__ == "__main__":
    main()
