"""The table of measured errors of the elementary functions.

    python -m tests.ulp [--samples N] [--write] [name ...]

prints, for each function, dtype and vector width, the greatest error found among N samples, in
units in the last place; with --write it stands in docs/vector_maths.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from jit.loop_ir.nodes import DType
from tests.jit.loop_programs import targets
from tests.ulp.functions import COMPLEX, REAL, Function
from tests.ulp.measure import worst

PAGE = Path(__file__).parent.parent.parent / "docs" / "vector_maths.md"
MARK = "<!-- measured: python -m tests.ulp --write -->"
DTYPES: tuple[DType, DType] = ("f64", "f32")


def rows(functions: Mapping[str, Function], samples: int, kinds: tuple[str, str]) -> Iterator[str]:
    """A table: one line for each function."""
    machines = targets()
    names = [f"{kind} {name}" for kind in kinds for name in machines]
    yield "| function | bound | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 2) + "|"
    for name, f in functions.items():
        errors = [worst(f, d, machines[t], samples)[0] for d in DTYPES for t in machines]
        cells = " | ".join([f"{e:.2f}" for e in errors])
        yield f"| {name} | {f.bound:g} | {cells} |"


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(prog="python -m tests.ulp", description=__doc__)
    parser.add_argument("names", nargs="*", help="functions; all of them by default")
    parser.add_argument("--samples", type=int, default=100_000, help="of each function")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    lines: list[str] = []
    tables = (("Real functions", REAL, DTYPES), ("Complex functions", COMPLEX, ("c128", "c64")))
    for title, functions, kinds in tables:
        chosen = {k: f for k, f in functions.items() if not options.names or k in options.names}
        if chosen:
            lines += ["", f"### {title}", ""]
            for line in rows(chosen, options.samples, kinds):
                lines.append(line)
                print(line, flush=True)
    if options.write and not options.names:
        before = PAGE.read_text().split(MARK)[0]
        PAGE.write_text(before + MARK + "\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
