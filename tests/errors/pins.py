"""Pins: a misuse is a small program whose docstring is the message that its author gets.

The line that the message must name carries the comment `# here`, and stands as HERE in the
docstring; the spacing of the docstring does not count.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MODULES = (
    "gradients",
    "cotangents",
    "mapping",
    "values",
    "compiled",
    "operations",
    "writes",
    "rules",
    "expansion",
    "callbacks",
    "loops",
)
PROGRAMS: dict[str, Misuse] = {}
SOURCES: dict[Path, list[str]] = {}

_PLACE = re.compile(r"(?P<file>[\w<>]+\.py):(?P<line>\d+)")
_MARK = "# here"


@dataclass(frozen=True)
class Misuse:
    """A program, the class of the error it ends in, and that of the one NumPy makes of it."""

    program: Callable[[], object]
    error: type[BaseException]
    wrapped: type[BaseException] | None

    @property
    def file(self) -> Path:
        return Path(inspect.getfile(self.program))

    @property
    def expected(self) -> str:
        return collapsed(self.program.__doc__ or "")

    def message(self) -> str:
        """Run the program; the text of its error, with HERE for the marked lines."""
        try:
            result = self.program()
        except Exception as error:
            found = error.__cause__ if type(error) is self.wrapped else error
            if type(found) is not self.error:
                raise
            return collapsed(_PLACE.sub(self._normal, str(found)))
        raise AssertionError(f"{self.program.__name__} ran without an error and gave {result!r}")

    def _normal(self, place: re.Match[str]) -> str:
        if place["file"] != self.file.name:
            return place[0]
        line = SOURCES[self.file][int(place["line"]) - 1]
        return "HERE" if line.endswith(_MARK) else place[0]


def misuse(
    error: type[BaseException], wrapped: type[BaseException] | None = None
) -> Callable[[Callable[[], object]], Misuse]:
    """Declare a program that ends in an error of exactly this class.

    Where NumPy turns the error into one of its own, that has the class `wrapped`, and ours is
    its cause: a traceback shows it first.
    """

    def declare(program: Callable[[], object]) -> Misuse:
        name = program.__name__
        assert name not in PROGRAMS, f"two misuses are called {name}"
        found = PROGRAMS[name] = Misuse(program, error, wrapped)
        if found.file not in SOURCES:
            SOURCES[found.file] = found.file.read_text().splitlines()
        return PROGRAMS[name]

    return declare


def load_programs() -> dict[str, Misuse]:
    """All programs, in the order of their files and lines."""
    for module in MODULES:
        importlib.import_module(f"tests.errors.programs.{module}")
    return PROGRAMS


def collapsed(text: str) -> str:
    """The text on one line, with single spaces."""
    return " ".join(text.split())


def write(misuse: Misuse, message: str) -> None:
    """Put a message into the docstring of its program."""
    source = misuse.file.read_text().splitlines(keepends=True)
    tree = ast.parse("".join(source))
    name = misuse.program.__name__
    node = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)
    first = node.body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    lines = [first.lineno, *(d.lineno for d in getattr(first, "decorator_list", []))]
    start = min(lines) - 1
    end = first.end_lineno if is_text else start
    text = [_docstring(message)]
    if source[end].lstrip().startswith(("def ", "class ", "@")):
        text.append("\n")
    source[start:end] = text
    misuse.file.write_text("".join(source))


def _docstring(message: str) -> str:
    quoted = message.replace("\\", "\\\\").replace('"""', r"\"\"\"")
    if len(quoted) <= 90 and not quoted.endswith('"'):
        return f'    """{quoted}"""\n'
    lines = textwrap.wrap(quoted, 95, break_long_words=False, break_on_hyphens=False)
    return textwrap.indent('"""\n' + "\n".join(lines) + '\n"""\n', "    ")
