"""The table: every case in functrans and in the installed peers, with the ratio to the best peer.

    python -m tests.benchmarks [--list] [--rounds N] [--alone] [--limits] [--compile] [--without L]
                               [name ...]

Timings of one row are interleaved in one process, on equal inputs, with fresh results, after the
results were seen to agree; each figure is a median. With --alone each library also runs in
processes that hold no other, taken in turn; with --limits so do we and C by hand. Libraries that
multiply with NumPy are timed apart where there are matrix products, since NumPy's BLAS threads go
on spinning and slow the others down.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.benchmarks import fresh
from tests.benchmarks.case import Case, load_cases
from tests.benchmarks.libraries import BY_HAND, KINDS, installed

OURS = "functrans"
NUMPY = "numpy"
MULTIPLY_WITH_NUMPY = ("autograd", NUMPY)
TURNS = 5
"""So many processes each library gets alone."""


@dataclass
class Row:
    """What was measured of one case: seconds by library, and what went wrong."""

    text: str
    together: dict[str, float] = field(default_factory=dict)
    alone: dict[str, float] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    limit: float | None = None


def ratio(seconds: dict[str, float], peer: str | None = None) -> float | None:
    """Our time over the best peer's, or over that of one library; NumPy is no peer."""
    chosen = (peer,) if peer else [name for name in seconds if name not in (OURS, NUMPY)]
    peers = [seconds[name] for name in chosen if name in seconds]
    return seconds[OURS] / min(peers) if OURS in seconds and peers else None


def run_worker(cases: Sequence[str], libraries: Sequence[str], rounds: int) -> Iterator[dict]:
    """The worker's answers, as they come."""
    request = json.dumps({"cases": list(cases), "libraries": list(libraries), "rounds": rounds})
    command = [sys.executable, "-m", "tests.benchmarks.worker", request]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        sys.stderr.write(f"the worker for {', '.join(libraries)} ended with an error\n")


def measure_cases(rows: dict[str, Row], cases: dict[str, Case], options: Options) -> None:
    """Fill the rows: all libraries together, then those apart that must be, then each alone."""
    plain = [name for name in rows if name in cases and not cases[name].products]
    products = [name for name in rows if name in cases and cases[name].products]
    apart = [name for name in options.libraries if name in MULTIPLY_WITH_NUMPY]
    others = [name for name in options.libraries if name not in apart]
    batches = [(plain, options.libraries), (products, others)]
    batches += [(products, [name]) for name in apart]
    for names, libraries in batches:
        if names and libraries:
            for answer in run_worker(names, libraries, options.rounds):
                row = rows[answer["case"]]
                row.together |= answer["seconds"]
                row.faults |= answer["faults"]
    if options.alone:
        measure_alone(rows, plain + products, options)


def measure_alone(rows: dict[str, Row], names: Sequence[str], options: Options) -> None:
    """Each library in processes of its own, in turn: the machine changes from minute to minute."""
    for (name, library), seconds in in_turn(names, options.libraries, options.rounds).items():
        rows[name].alone[library] = seconds


def in_turn(
    names: Sequence[str], libraries: Sequence[str], rounds: int
) -> dict[tuple[str, str], float]:
    """The medians by case and library."""
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(TURNS):
        for library in libraries:
            for answer in run_worker(names, [library], max(3, rounds // 2)):
                for found, seconds in answer["seconds"].items():
                    times.setdefault((answer["case"], found), []).append(seconds)
    return {key: statistics.median(found) for key, found in times.items()}


def measure_limits(rows: dict[str, Row], cases: dict[str, Case], options: Options) -> None:
    """Ours and what was written by hand, in processes in turn, after they were seen to agree."""
    names = [name for name in rows if name in cases and BY_HAND in cases[name].better]
    for answer in run_worker(names, [BY_HAND, OURS], 1):
        rows[answer["case"]].faults |= answer["faults"]
    measured = in_turn(names, [OURS, BY_HAND], options.rounds)
    for name in names:
        rows[name].limit = measured[name, OURS] / measured[name, BY_HAND]


def measure_fresh(rows: dict[str, Row], cases: dict[str, Case], options: Options) -> None:
    """Programs in fresh processes, interleaved."""
    for program in [name for name in rows if name in fresh.PROGRAMS]:
        case = cases.get(fresh.case_of(program) or "")
        left_out = {"torch.compile", NUMPY, *(case.without if case else ())}
        libraries = [name for name in options.libraries if name not in left_out]
        times: dict[str, list[float]] = {name: [] for name in libraries}
        row = rows[program]
        for _ in range(max(3, options.rounds // 3)):
            for library in [name for name in libraries if name not in row.faults]:
                try:
                    times[library].append(fresh.seconds(library, program))
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    row.faults[library] = str(error)
        for library in libraries:
            if library not in row.faults:
                row.together[library] = statistics.median(times[library])


def format_seconds(seconds: float | None) -> str:
    """`1.23 ms`, `45.6 us`, `2.00 s`; a dash for what was not measured."""
    if seconds is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def format_row(name: str, row: Row, options: Options) -> list[str]:
    """The cells of a row: its text, a time for each library, our time over others'."""
    times = [
        "fault" if library in row.faults else format_seconds(row.together.get(library))
        for library in options.libraries
    ]
    ratios = [ratio(row.together), ratio(row.together, "jax"), ratio(row.together, NUMPY)]
    ratios += [ratio(row.alone)] if options.alone else []
    ratios += [row.limit] if options.limits else []
    return [f"{name}: {row.text}", *times, *("-" if r is None else f"{r:.2f}" for r in ratios)]


def format_table(rows: dict[str, Row], options: Options) -> str:
    """The rows as aligned text, and below them what went wrong."""
    heads = ["case", *options.libraries, "ratio", "to jax", "to numpy"] + ["alone"] * options.alone
    heads += ["to hand"] * options.limits
    table = [heads, *(format_row(name, row, options) for name, row in rows.items())]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *rest in table:
        cells = [c.rjust(w) for c, w in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    for name, row in rows.items():
        lines += [f"{name}, {library}: {why}" for library, why in row.faults.items()]
    return "\n".join(lines)


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    libraries: list[str]
    rounds: int
    alone: bool
    limits: bool


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="cases to run (all, unless given)")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--rounds", type=int, default=9, help="blocks per library and case")
    parser.add_argument("--alone", action="store_true", help="time each library alone as well")
    parser.add_argument("--limits", action="store_true", help="what C by hand reaches, too (cc)")
    parser.add_argument("--compile", action="store_true", help="torch.compile too (slow to start)")
    parser.add_argument("--without", action="append", default=[], help="a library to leave out")
    return parser.parse_args(arguments)


def main() -> None:
    arguments, cases = parse(), load_cases()
    texts = {name: case.text for name, case in cases.items()} | fresh.PROGRAMS
    unknown = sorted(set(arguments.names) - set(texts))
    if arguments.limits and not installed(BY_HAND):
        sys.exit("--limits compiles C, and there is no `cc` here")
    if arguments.list or unknown:
        known = "\n".join(f"{name:20} {text}" for name, text in texts.items())
        sys.exit(
            f"no such case: {', '.join(unknown)}; there are\n{known}" if unknown else print(known)
        )
    wanted = [
        name
        for name in KINDS
        if name not in (*arguments.without, BY_HAND)
        and (name != "torch.compile" or arguments.compile)
    ]
    options = Options(
        [name for name in wanted if installed(name)],
        arguments.rounds,
        arguments.alone,
        arguments.limits,
    )
    rows = {name: Row(text) for name, text in texts.items() if name in (arguments.names or texts)}
    measure_cases(rows, cases, options)
    measure_fresh(rows, cases, options)
    if options.limits:
        measure_limits(rows, cases, options)
    print(format_table(rows, options))
    absent = [name for name in wanted if not installed(name)]
    if absent:
        print(f"\nNot installed: {', '.join(absent)}")


if __name__ == "__main__":
    main()
