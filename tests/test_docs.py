"""The documentation is true: its code runs, its output is what it says, its links lead somewhere.

Every ```python block of a page runs in order, all in one namespace for each page; a block with
`>>>` is a doctest. A block that begins with a comment `# file: PATH` must stand in that file.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import functrans
from tests.layers import ROOT, source_files

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A code block of a page: the language after its fence, its text, its first line's number."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield Block(match[1], match[2], text[: match.start(2)].count("\n") + 1)


def run_block(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    if ">>>" in block.text:
        run_doctest(block, page, namespace)
    else:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), namespace)


def run_doctest(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    name = f"{page.name}:{block.line}"
    test = doctest.DocTestParser().get_doctest(block.text, {}, name, str(page), block.line - 1)
    test.globs = namespace
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(test, out=report.write, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0, report.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    for block in blocks(page):
        if block.language == "python" and not block.text.startswith("# file:"):
            run_block(block, page, namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_quoted_source_stands_in_its_file(page: Path) -> None:
    for block in blocks(page):
        if block.text.startswith("# file:"):
            first, quoted = block.text.split("\n", 1)
            source = (ROOT / first.removeprefix("# file:").strip()).read_text()
            for line in filter(None, (line.strip() for line in quoted.split("\n"))):
                assert line in source, (
                    f"{page.name}:{block.line} quotes a line that is gone: {line}"
                )


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files(page: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", prose)
    assert [t for t in targets if not (page.parent / t).exists()] == []


MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("functrans", "jit")
    for file in source_files(package)
    if ">>>" in file.read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    report = io.StringIO()
    names = {"np": np, "ft": functrans}
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=names):
        runner.run(test, out=report.write)
    assert runner.summarize(verbose=False).failed == 0, report.getvalue()


def test_the_main_job_ends_with_a_good_classifier(tmp_path: Path) -> None:
    script = ROOT / "docs" / "examples" / "digits.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"test accuracy (\d+\.\d+)%$", done.stdout.strip())
    assert accuracy is not None, done.stdout
    assert float(accuracy[1]) >= 97.0
    assert "largest Hessian eigenvalue" in done.stdout
    assert "gradient norm per test digit" in done.stdout
