"""Held arrays: large captured arrays are read-only while a run needs them, counted over threads."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np

_lock = threading.Lock()
_held: dict[int, tuple[np.ndarray[Any, Any], int, bool]] = {}
_dropped: deque[list[np.ndarray[Any, Any]]] = deque()
"""What was let go while the lock was taken: whoever has it releases these too."""


class Hold:
    """An array, and those that it is a view of, without their `writeable` flag.

    Until it is undone, or nothing refers to it any more (an interrupt may come between), a late
    write raises. Writes through another view made earlier are not noticed.
    """

    __slots__ = ("_chain",)

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._chain: list[np.ndarray[Any, Any]] = []
        link: Any = array
        with _lock:
            while isinstance(link, np.ndarray):
                _, count, flag = _held.get(id(link), (link, 0, link.flags.writeable))
                _held[id(link)] = (link, count + 1, flag)
                self._chain.append(link)  # at once: nothing comes between, no interrupt either
                link.flags.writeable = False
                link = link.base
        _release_dropped()

    def undo(self) -> None:
        """Give the flags back, once."""
        chain, self._chain = self._chain, []
        if chain:
            _dropped.append(chain)
            _release_dropped()

    __del__ = undo


def _release_dropped() -> None:
    """Give back the flags of all that was let go, unless another is at it, who will.

    It does not wait: a collection may call it in the thread that has the lock.
    """
    while _dropped and _lock.acquire(blocking=False):
        try:
            while _dropped:
                _release(_dropped.popleft())
        finally:
            _lock.release()


def _release(chain: list[np.ndarray[Any, Any]]) -> None:
    for link in reversed(chain):
        _, count, flag = _held.pop(id(link))
        if count > 1:
            _held[id(link)] = (link, count - 1, flag)
        elif flag:
            link.flags.writeable = True
