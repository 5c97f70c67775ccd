"""What the interpreter does while modules are imported and programs are traced and compiled: it
collects garbage rarely, and hands over to other threads often.

Tracing and compiling allocate as many objects as there are equations, times some tens, and nearly
all of them live to the end. Collecting as often as usual would look at all objects of the process
again and again and find nothing; for long programs that took a third of the time. The threads that
compile what the program will call need the interpreter for moments only, which they would wait for
much longer than they need it.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager

ALLOCATIONS = 100_000
"""So many more objects than before are there when the next collection comes."""

SECONDS = 2e-4
"""So long the interpreter keeps others waiting, at most."""

_lock = threading.Lock()
_state = {"depth": 0, "usual": 0, "interval": 0.0}


@contextmanager
def collecting_rarely() -> Generator[None]:
    """Raise the threshold of collections for the block, in all threads; blocks may overlap.

    Other threads that want the interpreter get it sooner.
    """
    with _lock:
        usual, *others = gc.get_threshold()
        if _state["depth"] == 0:
            _state["usual"], _state["interval"] = usual, sys.getswitchinterval()
            sys.setswitchinterval(min(SECONDS, _state["interval"]))
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
                gc.set_threshold(int(_state["usual"]), *others)
            if _state["depth"] == 0 and abs(sys.getswitchinterval() - SECONDS) < 1e-5:
                sys.setswitchinterval(_state["interval"])


def settle() -> None:
    """Make all that there is old: collections of young objects look at it no more.

    Nothing is looked at here. Where somebody has frozen objects nothing is done, since these would
    be thawed.
    """
    if gc.get_freeze_count() == 0:
        gc.freeze()
        gc.unfreeze()
