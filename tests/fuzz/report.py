"""Runs ranges of programs: shrinks and prints what fails, counts which primitives were reached."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from functrans.primitives import ALL
from tests.fuzz.agree import check, counting
from tests.fuzz.generate import generate
from tests.fuzz.program import Input, Program, Step, shrink

KEPT = Path(__file__).parent / "kept"


@dataclass
class Report:
    """What a range of programs came to.

    reached counts the programs that recorded a primitive, features those that used a thing that
    the programs are meant to use; failures holds a text for each program that failed.
    """

    programs: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    features: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def rarely_reached(self, times: int) -> dict[str, int]:
        """The primitives that fewer than `times` programs reached."""
        return {name: self.reached[name] for name in ALL if self.reached[name] < times}

    def table(self) -> str:
        """How many programs reached each primitive, and what they used."""
        lines = [f"{self.programs} programs", "", "primitives reached, in how many programs:"]
        cells = [f"{name:22s}{self.reached[name]:4d}" for name in sorted(self.reached)]
        rows = [cells[i : i + 3] for i in range(0, len(cells), 3)]
        lines += ["  " + "  ".join(row) for row in rows]
        lines += ["", "features used, in how many programs:"]
        lines += [f"  {name:22s}{count:4d}" for name, count in sorted(self.features.items())]
        return "\n".join(lines)


FEATURES: dict[str, tuple[str, ...]] = {
    "indexing": ("getitem", "take", "gather", "dynamic_", "scatter"),
    "reductions": ("sum", "prod", "mean", "max", "min", "var", "arg", "all", "any"),
    "in-place writes": ("write", "view", "out_argument", "fill_", "loop_writes"),
    "effects": ("debug_callback", "io_callback"),
    "named axes": ("psum", "pmax", "pmin", "all_gather", "axis_index"),
    "custom rules": ("custom_jvp", "custom_vjp"),
}


def features_of(program: Program) -> set[str]:
    """What of the things that programs are meant to use this one does use."""
    names = set(program.operations())
    found = {f for f, starts in FEATURES.items() if any(n.startswith(starts) for n in names)}
    if any(step.captured for step in steps_of(program)):
        found.add("closures")
    if "const" in names:
        found.add("captured constants")
    if len({i.shape for i in program.inputs}) > 1:
        found.add("broadcasting")
    if program.asks:
        found.add("asking for values")
    return found | {f"transform depth {program.depth}"}


def steps_of(program: Program) -> Iterable[object]:
    for step in program.steps:
        yield step
        if step.body is not None:
            yield from steps_of(step.body)


def run(
    numbers: Iterable[int],
    seconds: float = float("inf"),
    shrinking: bool = True,
    keeping: bool = False,
) -> Report:
    """Check the programs with these numbers, in order, for at most some time.

    `keeping` writes each that fails, shrunk, into KEPT, whose programs every test run checks.
    """
    report, begin = Report(), time.monotonic()
    for number in numbers:
        if time.monotonic() - begin > seconds:
            break
        report.programs += 1
        try:
            program = generate(number)
        except Exception:
            report.failures.append(f"# program {number}\n{traceback.format_exc()}")
            continue
        report.features.update(features_of(program))
        with counting() as reached:
            error = failure(program)
        report.reached.update(reached)
        if error is not None:
            smaller = shrunk(program, error) if shrinking else program
            report.failures.append(explain(number, smaller, failure(smaller) or error))
            if keeping:
                keep(number, smaller)
    return report


def failure(program: Program) -> Exception | None:
    try:
        check(program)
    except Exception as error:
        return error
    return None


def kind(error: Exception | None) -> tuple[str, str, int] | None:
    """Which check failed, how: what a smaller program must share to be the same failure."""
    if error is None:
        return None
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f.filename.endswith("agree.py")]
    return type(error).__name__, ours[-1].name, ours[-1].lineno or 0


def shrunk(program: Program, error: Exception) -> Program:
    """A smaller program that fails in the same way."""
    wanted = kind(error)
    return shrink(program, lambda candidate: kind(failure(candidate)) == wanted)


def explain(number: int, program: Program, error: Exception) -> str:
    """The failing program as source that runs, with its error."""
    text = "".join(traceback.format_exception(error)[-12:])
    return f"# program {number}\n{program.script()}\n{text}"


def keep(number: int, program: Program) -> None:
    """Write a program into KEPT: its data, below its source."""
    KEPT.mkdir(exist_ok=True)
    source = "".join(f"# {line}\n" for line in program.script().splitlines())
    (KEPT / f"{number}.txt").write_text(f"{source}\n{program!r}\n")


def kept() -> list[Path]:
    """The files of the programs that failed once."""
    return sorted(KEPT.glob("*.txt"))


def read(file: Path) -> Program:
    """The program that was kept in a file."""
    return eval(file.read_text(), {"Program": Program, "Step": Step, "Input": Input})
