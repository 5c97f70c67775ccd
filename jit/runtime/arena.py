"""Arenas: the scratch memory of a compiled program, aligned, reused from call to call.

Invariant: an arena is in the hands of one call at a time; concurrent calls get arenas of their own.
Large ones are recycled blocks, which all programs share and which go back to the system when idle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jit.runtime import blocks

ALIGNMENT = 64
KEPT = 2
"""How many idle arenas a program keeps, where it keeps its own."""
KEPT_BYTES = 1 << 26
"""A larger arena is given back to the system after each call."""


class Arena(NamedTuple):
    """Where an arena starts, and the array that owns it; a block owns itself."""

    owner: np.ndarray[Any, Any] | None
    address: int


class ArenaPool:
    """The arenas of one program. List operations are atomic."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._idle: list[Arena] = []

    def take(self) -> Arena:
        """Memory for one call."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._make()

    def give(self, arena: Arena) -> None:
        """The call is over."""
        if arena.owner is None:
            found = blocks.ready()
            assert found is not None
            found.give(arena.address)
        elif len(self._idle) < KEPT and self.size <= self.most_kept():
            self._idle.append(arena)

    def most_kept(self) -> int:
        """Arenas up to this size stay with the program."""
        return KEPT_BYTES if blocks.ready() is None else blocks.MINIMUM - 1

    def _make(self) -> Arena:
        found = blocks.ready() if self.size >= blocks.MINIMUM else None
        address = found.take(self.size) if found is not None else None
        if address:
            return Arena(None, address)
        memory = np.empty(self.size + ALIGNMENT, np.uint8)
        start = int(memory.__array_interface__["data"][0])
        return Arena(memory, start + -start % ALIGNMENT)
