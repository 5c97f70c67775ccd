"""Images: machine code that only has to be copied to an address, and how it is put there.

An image is what is left of an object file once its sections have places relative to each other:
bytes that are executed or only read, bytes that are written, and words that hold addresses, of the
image itself or of functions elsewhere. Invariant: no address of a process is in it, and memory is
never writable and executable at once.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

PAGE = mmap.PAGESIZE
POSIX = hasattr(mmap, "PROT_EXEC")


class Image:
    """Code and data of one module.

    `code` fills whole pages; `size` bytes of data follow it, the first of them `data` and the rest
    zero. Each of `words` (place, target) and of `imports` (place, symbol) is a 64-bit address to
    be written at `place`, counted as targets and `exports` (symbol, place) are from the beginning.
    """

    __slots__ = ("code", "data", "exports", "imports", "size", "words")

    def __init__(
        self,
        code: bytes,
        data: bytes,
        size: int,
        words: tuple[tuple[int, int], ...],
        imports: tuple[tuple[int, str], ...],
        exports: tuple[tuple[str, int], ...],
    ) -> None:
        self.code = code
        self.data = data
        self.size = size
        self.words = words
        self.imports = imports
        self.exports = exports


class Mapped:
    """An image in memory, which goes with this object."""

    def __init__(self, image: Image, find: Callable[[str], int]) -> None:
        """Raises KeyError where `find` does for a symbol, OSError where the system refuses."""
        count = len(image.code)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        memory = mmap.mmap(-1, max(count + image.size, 1), flags=flags)
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        memory[:count] = image.code
        memory[count : count + len(image.data)] = image.data
        order = sys.byteorder
        for place, target in image.words:
            memory[place : place + 8] = (base + target).to_bytes(8, order)
        for place, symbol in image.imports:
            memory[place : place + 8] = find(symbol).to_bytes(8, order)
        if count and _protect()(base, count, mmap.PROT_READ | mmap.PROT_EXEC):
            raise OSError("the system does not let memory become executable")
        self._memory = memory
        self.addresses = {symbol: base + place for symbol, place in image.exports}

    def keep(self) -> None:
        """Stay for the life of the process, past the end of the interpreter: threads run here."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._memory))


@cache
def _protect() -> Any:
    """mprotect(address, length, protection) of the C library."""
    function: Any = ctypes.CDLL(None).mprotect
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function
