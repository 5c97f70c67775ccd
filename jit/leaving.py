"""Leaving: the compiler gives its memory back before a program runs that needs much.

LLVM's library brings 60 MB of its file into the process. The pages of it that nobody has written
are copies of the file: the system drops them when it is told to, and fetches again what is used
again.
"""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from math import prod
from typing import Any

from functrans.extend import Aval
from jit.entry import base
from jit.runtime import blocks

MUCH = 64 << 20
"""A program whose results and arena take so many bytes runs for longer than this takes: 2 ms, and
2 ms more in the next compilation."""
LIBRARY = "libllvmlite"
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+\s*(.*)")


def make_room(results: Iterable[Aval], arena_bytes: int) -> None:
    """Drop what the compiler has in memory, where a program needs much; on Linux alone.

    What its calls would have compiled meanwhile, beside their results, is compiled before.
    """
    sizes = [prod(aval.shape) * aval.dtype.itemsize for aval in results]
    if sys.platform != "linux" or sum(sizes) + arena_bytes < MUCH:
        return
    with suppress(Exception):  # who asks for these sees what went wrong
        blocks.blocks()
        base.prepared_entry()
    with suppress(OSError, AttributeError):
        c_library: Any = ctypes.CDLL(None)
        drop = c_library.madvise
        drop.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        with open("/proc/self/smaps", encoding="utf-8", errors="replace") as mappings:
            for start, end in clean_mappings(mappings, LIBRARY):
                drop(start, end - start, mmap.MADV_DONTNEED)
        c_library.malloc_trim(0)  # of the GNU C library alone


def clean_mappings(lines: Iterable[str], library: str) -> Iterator[tuple[int, int]]:
    """From the kernel's list of mappings (smaps), those of a file that equal it byte for byte.

    They cannot be written, and none of their pages has been: what the loader relocated and then
    protected has pages of its own (Anonymous, or Swap once they were moved to disk).
    """
    found: tuple[int, int] | None = None
    own = -1
    for line in lines:
        header = _MAPPING.match(line)
        if header is not None:
            is_fixed = header[3][1] == "-" and header[3][3] == "p" and library in header[4]
            found = (int(header[1], 16), int(header[2], 16)) if is_fixed else None
            own = 0
        elif found is not None:
            name, _, rest = line.partition(":")
            if name in ("Anonymous", "Swap"):
                own += int(rest.split()[0])
            elif name == "VmFlags" and own == 0:  # the last line of a mapping
                yield found
                found = None
