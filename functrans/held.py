"""Held arrays: large captured arrays are read-only while a run needs them, counted over threads."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

_lock = threading.Lock()
_held: dict[int, tuple[np.ndarray[Any, Any], bool, set[int]]] = {}
"""By id: the array, whether it was writeable, and the holds that keep it from being so."""


class Hold:
    """An array, and those that it is a view of, without their `writeable` flag.

    From `begin` until `undo` a late write raises. Writes through another view made earlier are not
    noticed. An interrupt may arrive anywhere in either: `undo` finishes what was begun, and may be
    called again.
    """

    __slots__ = ("_chain",)

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._chain = [array]
        while isinstance(self._chain[-1].base, np.ndarray):
            self._chain.append(self._chain[-1].base)

    def begin(self) -> None:
        """Clear the flags."""
        with _lock:
            for link in self._chain:
                known = _held.setdefault(id(link), (link, link.flags.writeable, set()))
                known[2].add(id(self))
                link.flags.writeable = False

    def undo(self) -> None:
        """Give the flags back, where no other hold is on."""
        with _lock:
            for link in reversed(self._chain):
                _, flag, holds = _held.get(id(link), (link, False, {id(self)}))
                holds.discard(id(self))
                if not holds:
                    if flag:
                        link.flags.writeable = True
                    _held.pop(id(link), None)
