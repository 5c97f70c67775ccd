"""Rarer garbage collections while programs are traced and compiled: what is made then stays.

Tracing and compiling allocate as many objects as there are equations, times some tens, and nearly
all of them live to the end. Collecting as often as usual would look at all objects of the process
again and again and find nothing; for long programs that took a third of the time.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator
from contextlib import contextmanager

ALLOCATIONS = 100_000
"""So many more objects than before are there when the next collection comes."""

_lock = threading.Lock()
_state = {"depth": 0, "usual": 0}


@contextmanager
def collecting_rarely() -> Generator[None]:
    """Raise the threshold of collections for the block, in all threads; blocks may overlap."""
    with _lock:
        usual, *others = gc.get_threshold()
        if _state["depth"] == 0:
            _state["usual"] = usual
            if 0 < usual < ALLOCATIONS:
                gc.set_threshold(ALLOCATIONS, *others)
        _state["depth"] += 1
    try:
        yield
    finally:
        with _lock:
            _state["depth"] -= 1
            now, *others = gc.get_threshold()
            # What somebody else has set meanwhile stays.
            if _state["depth"] == 0 and now == ALLOCATIONS:
                gc.set_threshold(_state["usual"], *others)
