"""Arrays between pages that must not be touched: a read or write beside one ends the process."""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any

import numpy as np

PAGE = mmap.PAGESIZE
NO_ACCESS = 0


def can_guard() -> bool:
    """Can this system forbid pages?"""
    return sys.platform.startswith("linux")


def guarded(x: Any, at_end: bool) -> Any:
    """A copy of x that ends where a forbidden page begins, or begins where one ends."""
    x = np.asarray(x)
    room = -(-max(x.nbytes, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, room + 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for page in (start, start + PAGE + room):
        if protect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), NO_ACCESS):
            raise OSError(ctypes.get_errno(), "mprotect")
    place = PAGE + (room - x.nbytes if at_end else 0)
    held = np.frombuffer(memory, x.dtype, x.size, place).reshape(x.shape)
    held[...] = x
    return held
