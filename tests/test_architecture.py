"""docs/architecture.md says what the files say of themselves, and every file says something."""

from __future__ import annotations

import runpy
from typing import Any

import pytest

from tests.layers import ROOT, source_files

GENERATOR: dict[str, Any] = runpy.run_path(str(ROOT / ".ci" / "architecture.py"))


def test_the_page_is_the_files_first_sentences() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert page == GENERATOR["page"](), "run `.ci/run fix` and read the diff"


@pytest.mark.parametrize("package", ["functrans", "jit"])
def test_every_file_opens_with_a_sentence(package: str) -> None:
    sentences = {
        str(f.relative_to(ROOT)): GENERATOR["first_sentence"](f) for f in source_files(package)
    }
    assert [file for file, text in sentences.items() if not text.endswith(".")] == []
