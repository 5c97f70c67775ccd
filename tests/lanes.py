"""Which of many alike cases the normal lane runs: a share of them, by a hash of their names."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import pytest


def one_in(share: int, cases: Iterable[tuple[str, tuple[Any, ...]]]) -> list[Any]:
    """Parameters for pytest of cases with names: one in `share` for every lane, the others for the
    full one."""
    return [
        pytest.param(*case, id=name, marks=[pytest.mark.full] if place(name) % share else [])
        for name, case in cases
    ]


def place(name: str) -> int:
    return zlib.crc32(name.encode())
