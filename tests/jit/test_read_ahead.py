"""What is read before the first program comes leaves no trace on the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jit import cache_key, disk_cache

SCRIPT = """
import functrans
from jit import early
while early._running:
    early._running.pop().join()
from jit.cache_key import digest_of_texts
print(digest_of_texts.cache_info().currsize)
"""


def test_an_import_alone_reads_the_sources_and_writes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    given = dict(os.environ, FUNCTRANS_CACHE="", FUNCTRANS_CACHE_DIR=str(folder))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=given, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
    assert not folder.exists()


def test_without_a_cache_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    cache_key.digest_of_texts.cache_clear()
    monkeypatch.setenv("FUNCTRANS_CACHE", "0")
    cache_key.read_ahead()
    assert cache_key.digest_of_texts.cache_info().currsize == 0


def test_the_digest_read_ahead_is_the_one_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNCTRANS_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("FUNCTRANS_CACHE", "")
    monkeypatch.setattr(cache_key, "SETTLED", -1e9)
    cache_key.digest_of_texts.cache_clear()
    cache_key.read_ahead()
    found = cache_key.sources()
    assert found == cache_key.digest_of_texts(*cache_key.source_files())
    assert cache_key.digest_of_texts.cache_info().misses == 1
    (entry,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    key = bytes.fromhex(entry.parent.name + entry.name)
    assert disk_cache.read(key) == found
