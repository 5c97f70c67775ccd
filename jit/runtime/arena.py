"""Arenas: the scratch memory of a compiled program, aligned, reused from call to call.

Invariant: an arena is in the hands of one call at a time; concurrent calls get arenas of their own.
"""

from __future__ import annotations

import numpy as np

ALIGNMENT = 64
KEPT = 2
"""How many idle arenas a program keeps."""
KEPT_BYTES = 1 << 26
"""A larger arena is given back to the system after each call."""


class ArenaPool:
    """The arenas of one program. List operations are atomic."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._idle: list[tuple[object, int]] = []

    def take(self) -> tuple[object, int]:
        """The owner of some memory and the address where the arena starts in it."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._make()

    def give(self, arena: tuple[object, int]) -> None:
        if len(self._idle) < KEPT and self.size <= KEPT_BYTES:
            self._idle.append(arena)

    def _make(self) -> tuple[object, int]:
        memory = np.empty(self.size + ALIGNMENT, np.uint8)
        address = int(memory.__array_interface__["data"][0])
        return memory, address + -address % ALIGNMENT
