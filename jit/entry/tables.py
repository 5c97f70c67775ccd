"""Rows of words in memory that native code reads, with the objects that they name."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

MOST_OBJECTS = 2048
"""A record for more objects would take too much of the stack."""


class Unsuited(Exception):
    """The call cannot be recognised natively; the Python path serves it."""


class Words:
    """Rows of words that native code reads, and the objects that they name."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def keep(self, obj: Any) -> int:
        """The address of an object that lives as long as the record."""
        self.kept.append(obj)
        return id(obj)

    def table(self, values: Sequence[int]) -> int:
        """The address of a row of words; 0 for none."""
        if not values:
            return 0
        row = array("q", values)
        self.kept.append(row)
        return row.buffer_info()[0]

    def objects(self, values: Sequence[Any]) -> int:
        return self.table([self.keep(v) for v in values])

    def rows(self, rows: Sequence[Sequence[int]], size: int) -> int:
        """The address of several rows, each filled up to `size` words."""
        return self.table([w for row in rows for w in (*row, *[0] * (size - len(row)))])


def is_namedtuple(cls: type[Any]) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields")
