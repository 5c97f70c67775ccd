"""Held arrays: large captured arrays are read-only while a run needs them, counted over threads."""

from __future__ import annotations

import threading
from contextlib import suppress
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
            for link in self._chain:
                if id(link) in _held:
                    _held[id(link)][2].discard(id(self))
            _give_back()


def _give_back() -> None:
    """The flags of all arrays without a hold, each after that of what it is a view of.

    NumPy refuses another order; so a view of what another hold is on waits for that one.
    """
    free = [link for link, _, holds in _held.values() if not holds and id(link.base) not in _held]
    for link in free:
        if _held[id(link)][1]:
            with suppress(ValueError):  # who else has made its base read-only
                link.flags.writeable = True
        del _held[id(link)]
    if free:
        _give_back()
