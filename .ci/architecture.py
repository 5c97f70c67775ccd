"""Write docs/architecture.md: what every source file says of itself, lowest layer first.

python .ci/architecture.py           print the page
python .ci/architecture.py --write   write it
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.layers import FUNCTRANS, JIT, part_of, source_files  # noqa: E402 (needs the path above)

PAGE = ROOT / "docs" / "architecture.md"
HEAD = """# Architecture

The first sentence of every source file, lowest layer first: a file imports what stands above it
on this page, never what stands below (tests/test_layering.py). `jit` imports `functrans.extend`
and nothing else of functrans; only `functrans/__init__.py` names `jit`. This page is written by
`.ci/run fix` and compared by tests/test_architecture.py.
"""


def first_sentence(file: Path) -> str:
    """The first sentence of a file's docstring, on one line; '' where it has none."""
    docstring = re.match(r'"""(.*?)"""', file.read_text(), re.DOTALL)
    text = " ".join(docstring[1].split("\n\n")[0].split()) if docstring else ""
    end = re.search(r"\.(?=\s|$)", text)
    return text[: end.end()] if end else text


def order_of(file: Path, layers: list[set[str]]) -> tuple[int, str]:
    """The place of a file on the page: its layer, then its path; a package's __init__ last."""
    part = part_of(file)
    level = next((i for i, layer in enumerate(layers) if part in layer), len(layers))
    return level, str(file)


def section(package: str, layers: list[set[str]]) -> str:
    """The part of the page about one import package."""
    files = sorted(source_files(package), key=lambda file: order_of(file, layers))
    rows = [f"- `{file.relative_to(ROOT)}`: {first_sentence(file)}" for file in files]
    return f"## {package}\n\n" + "\n".join(rows) + "\n"


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, section("functrans", FUNCTRANS), section("jit", JIT)])


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page())
    else:
        sys.stdout.write(page())
