"""Held arrays: large captured arrays are read-only while a run needs them, counted over threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

_lock = threading.Lock()
_held: dict[int, tuple[np.ndarray[Any, Any], int, bool]] = {}


def hold(array: np.ndarray[Any, Any]) -> Callable[[], None]:
    """Clear `writeable` on an array and the arrays it is a view of; returns what undoes it.

    Until then a late write raises. Writes through another view made earlier are not noticed.
    """
    chain = [array]
    while isinstance(chain[-1].base, np.ndarray):
        chain.append(chain[-1].base)
    with _lock:
        for link in chain:
            _, count, flag = _held.get(id(link), (link, 0, link.flags.writeable))
            _held[id(link)] = (link, count + 1, flag)
            link.flags.writeable = False
    return lambda: _release(chain)


def _release(chain: list[np.ndarray[Any, Any]]) -> None:
    with _lock:
        for link in reversed(chain):
            _, count, flag = _held.pop(id(link))
            if count > 1:
                _held[id(link)] = (link, count - 1, flag)
            elif flag:
                link.flags.writeable = True
