"""The handler of refused instructions: registers go to the emulated processor and come back."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import mmap
import os
import signal
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jit import native
from jit.image import Mapped
from tests.emulation.processor import PAGE, Processor, Vector

SIGNAL_STACK = 1 << 26
SA_SIGINFO, SA_ONSTACK, SA_NODEFER = 0x4, 0x08000000, 0x40000000
ACTION_FLAGS, ACTION_WORDS = 17, 19
"""Where `struct sigaction` has its flags, behind 128 bytes of mask, and its size, in words."""

# A signal's context on Linux, x86-64: general registers in this order of their numbers, then the
# place in the code and the flags; the address of the area that XSAVE wrote.
GENERAL, FLOATING = 40, 224
REGISTERS = (8, 9, 10, 11, 12, 13, 14, 15, 7, 6, 5, 3, 2, 0, 1, 4)
STACK, PLACE, FLAGS = 15, 16, 17
MXCSR, XMM, HELD, YMM = 24, 160, 512, 576
"""In that area: the control word, lower halves, which parts it holds, and upper halves."""
LOWER, UPPER = 2, 4


@cache
def install() -> Refused:
    """From now on compiled code may use AVX-512, on this thread.

    Raises ImportError without the emulator, OSError where the system does not take the handler.
    """
    return Refused()


class Refused:
    """The handler of SIGILL, which lives as long as the process; how often it was called."""

    def __init__(self) -> None:
        self.calls = 0
        self._code: dict[int, bool] = {}
        self._changed = True
        self._log = os.dup(2)
        self._thread = threading.get_ident()
        self._processor = Processor(self._is_code)
        for kind in (Mapped, native.Linked):
            kind.__init__ = self._noticed(kind.__init__)  # type: ignore[method-assign]
        self._kept = self._take_signal()

    def _noticed(self, make: Callable[..., None]) -> Callable[..., None]:
        """Code that is mapped may lie where other code was."""

        def made(*args: Any, **named: Any) -> None:
            make(*args, **named)
            self._changed = True

        return made

    def _is_code(self, address: int) -> bool:
        """Is this compiled code, which no file holds?"""
        known = self._code.get(address // PAGE)
        if known is None:
            known = self._code[address // PAGE] = executable_without_file(address)
        return known

    def _take_signal(self) -> tuple[Any, ...]:
        """Handle the signal on a stack of its own: what is emulated goes on using the other."""
        libc: Any = ctypes.CDLL(None, use_errno=True)
        memory = mmap.mmap(-1, SIGNAL_STACK)
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        stack = (ctypes.c_uint64 * 3)(base, 0, SIGNAL_STACK)
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64)
        handler = kind(lambda _signal, _about, context: self._handle(context))
        action = (ctypes.c_uint64 * ACTION_WORDS)()
        action[0] = ctypes.cast(handler, ctypes.c_void_p).value or 0
        action[ACTION_FLAGS] = SA_SIGINFO | SA_ONSTACK | SA_NODEFER
        if libc.sigaltstack(stack, None) or libc.sigaction(signal.SIGILL, action, None):
            raise OSError(ctypes.get_errno(), "the handler of SIGILL was not taken")
        return memory, handler

    def _handle(self, context: int) -> None:
        """Run from the refused instruction until compiled code is left; a failure ends the process.

        The interpreter is in the middle of something: its garbage is left alone.
        """
        self.calls += 1
        collecting = gc.isenabled()
        gc.disable()
        try:
            self._emulate(context)
        except BaseException as error:
            os.write(self._log, f"{error}\n".encode())
            faulthandler.dump_traceback(self._log)
            os.abort()
        if collecting:
            gc.enable()

    def _emulate(self, context: int) -> None:
        general = (ctypes.c_uint64 * 18).from_address(context + GENERAL)
        vectors = ctypes.c_uint64.from_address(context + FLOATING).value
        if threading.get_ident() != self._thread:
            raise RuntimeError("AVX-512 is emulated on one thread: --threads 1")
        if not self._is_code(general[PLACE]):
            raise RuntimeError(f"refused at {general[PLACE]:#x}, outside compiled code")
        if self._changed:
            self._changed = False
            self._processor.forget_code()
        lib = self._processor.library
        for place, register in enumerate(REGISTERS):
            lib.cpu_set_reg64(0, register, general[place])
        lib.cpu_set_sp(0, general[STACK])
        lib.cpu_set_pc(0, general[PLACE])
        lib.cpu_set_eflags(0, general[FLAGS] & 0xFFFFFFFF)
        lib.cpu_set_mxcsr(0, ctypes.c_uint32.from_address(vectors + MXCSR).value)
        give_vectors(lib, vectors)
        self._processor.run()
        for place, register in enumerate(REGISTERS):
            general[place] = lib.cpu_get_reg64(0, register)
        general[PLACE] = lib.cpu_get_pc(0)
        take_vectors(lib, vectors)


def give_vectors(library: Any, area: int) -> None:
    """The sixteen registers that this processor has too; nothing is left in the others when
    compiled code is entered."""
    held = ctypes.c_uint64.from_address(area + HELD).value
    vector = Vector()
    address = ctypes.addressof(vector)
    for register in range(16):
        ctypes.memmove(address, area + XMM + 16 * register, 16)
        if held & UPPER:
            ctypes.memmove(address + 16, area + YMM + 16 * register, 16)
        library.cpu_set_zmm(0, register, vector)


def take_vectors(library: Any, area: int) -> None:
    """What compiled code returns, or passes to functions elsewhere."""
    ctypes.c_uint64.from_address(area + HELD).value |= LOWER | UPPER
    vector = Vector()
    address = ctypes.addressof(vector)
    for register in range(16):
        library.cpu_get_zmm(0, register, vector)
        ctypes.memmove(area + XMM + 16 * register, address, 16)
        ctypes.memmove(area + YMM + 16 * register, address + 16, 16)


def executable_without_file(address: int) -> bool:
    """Is this address in memory that may be executed and that no file holds?"""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, inode, *name = line.split()
        start, end = (int(part, 16) for part in span.split("-"))
        if start <= address < end:
            return "x" in rights and inode == "0" and not name
    return False
