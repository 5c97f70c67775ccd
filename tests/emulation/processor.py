"""An emulated processor on the memory of this process, in 64-bit mode, with AVX-512.

Its pages are those of this process, address for address, put in as they are first touched. It stops
at a branch out of compiled code. An exception leads to a place where it stops too.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.emulation.gathers import LONGEST, with_lower_index

PACKAGE = "bochscpu-python"
PAGE, GIGABYTE = 4096, 1 << 30
MARGIN = 64
"""Gigabytes below a mapping that may be mapped later on: the system goes downwards."""

CR0, CR4, EFER, XCR0 = 0x80050031, 0x40620, 0xD01, 0xE7
"""Paging in four levels, and the vector registers switched on."""
CODE, DATA, TASK = 8, 16, 24
"""Selectors of segments, which are places in their table."""
DESCRIPTORS = {CODE: 0x00AF9B000000FFFF, DATA: 0x00CF93000000FFFF}
RIGHTS = {CODE: 0xA09B, DATA: 0xC093, TASK: 0x8B}
LIMIT = 0xFFFFFFFF
GATE = 0x8E01 << 32
"""A gate of exceptions that takes the first of the stacks for them."""
FIRST_STACK = 36
"""Where the task's state says which stack that is."""
GATES, STATE, STACK, CAUGHT, SCRATCH, SYSTEM = (page * PAGE for page in (1, 2, 4, 5, 6, 16))
"""Behind the segments: gates, the task's state, the end of the stack for exceptions, where they
lead to, room for instructions in another form, and how large all is."""
SLOT = 32
LARGE, PRESENT = 0x87, 0x7
"""Bits of entries of the page tables: a page of a gigabyte, or a further table."""

STOP = b"\xeb\xfe"
"""A jump to itself: the emulator stops at jumps out of compiled code."""
HOOKS, ON_BRANCH, ON_EXCEPTION = 26, 6, 10
"""How many hooks it has, and which are called at unconditional branches and exceptions."""
WITH_CODE = frozenset((8, 10, 11, 12, 13, 14, 17))
"""Exceptions that push a code, after flags, stack and place."""
INVALID = 6
RSP = 4

Vector = ctypes.c_uint64 * 8
Frame = ctypes.c_uint64 * 5
"""What an exception pushes: place, code segment, flags, stack, stack segment."""
_u32, _u64, _pointer = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p


class Processor:
    """The emulated processor. `library` has its registers, by the emulator's own functions.

    Raises ImportError where the emulator is not installed.
    """

    def __init__(self, is_code: Callable[[int], bool]) -> None:
        """is_code: does the emulator go on at this address?"""
        self.library = _library()
        self._is_code = is_code
        self._kept: list[object] = []
        self._exception = 0
        self._slots: dict[bytes, int] = {}
        memory = mmap.mmap(-1, SYSTEM)
        self._system = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._kept.append(memory)
        self._declare()
        self._gigabytes = self._page_tables()
        self._cpu = _pointer(self.library.bochscpu_cpu_new(0))
        self._segments()
        self._switch_on()
        self._hooks = self._set_hooks()

    def run(self) -> None:
        """Run until compiled code is left. Raises RuntimeError at an exception."""
        self._go()
        while self.library.cpu_get_pc(0) == self._system + CAUGHT:
            self._mend()
            self._go()

    def forget_code(self) -> None:
        """Read instructions again: other code may lie where some was."""
        self.library["_Z12flushICachesv"]()

    # -- making it ----------------------------------------------------------------------------

    def _declare(self) -> None:
        lib = self.library
        lib.bochscpu_cpu_new.restype = _pointer
        lib.bochscpu_mem_page_insert.argtypes = (_u64, _pointer)
        for name in ("cpu_get_reg64", "cpu_get_pc", "cpu_get_cr2"):
            getattr(lib, name).restype = _u64
        for name in ("cpu_set_pc", "cpu_set_sp", "cpu_set_cr3", "cpu_set_cr4"):
            getattr(lib, name).argtypes = (_u32, _u64)
        lib.cpu_set_reg64.argtypes = (_u32, _u32, _u64)
        lib.cpu_set_eflags.argtypes = lib.cpu_set_mxcsr.argtypes = (_u32, _u32)
        lib.cpu_set_gdtr.argtypes = lib.cpu_set_idtr.argtypes = (_u32, _u64, ctypes.c_uint16)
        kinds = (_u32, ctypes.c_uint16, _u64, _u32, ctypes.c_uint16)
        lib.cpu_set_tr.argtypes = (_u32, *kinds)
        lib.cpu_set_seg.argtypes = (_u32, _u32, *kinds)

    def _page_tables(self) -> list[int]:
        """Pages of a gigabyte, one for each where this process has memory or may have some.

        Gives which gigabyte each physical one is, the first of which holds the tables.
        """
        wanted = sorted(_gigabytes_in_use())
        roots = sorted({gigabyte >> 9 for gigabyte in wanted})
        memory = mmap.mmap(-1, PAGE * (1 + len(roots)))
        tables = (_u64 * (len(memory) // 8)).from_buffer(memory)
        for table, root in enumerate(roots, 1):
            tables[root] = table * PAGE | PRESENT
        for physical, gigabyte in enumerate(wanted, 1):
            table = 1 + roots.index(gigabyte >> 9)
            tables[512 * table + (gigabyte & 511)] = physical * GIGABYTE | LARGE
        for offset in range(0, len(memory), PAGE):
            self.library.bochscpu_mem_page_insert(offset, ctypes.addressof(tables) + offset)
        missing = ctypes.CFUNCTYPE(None, _u64)(self._missing_page)
        self.library.bochscpu_mem_missing_page(missing)
        self._kept += [memory, missing]
        return [0, *wanted]

    def _missing_page(self, physical: int) -> None:
        start = physical & -PAGE
        address = self._gigabytes[start // GIGABYTE] * GIGABYTE + start % GIGABYTE
        self.library.bochscpu_mem_page_insert(start, address)

    def _segments(self) -> None:
        """Segments of all memory, and gates that lead every exception to where it stops."""
        lib, system = self.library, self._system
        for selector, descriptor in DESCRIPTORS.items():
            _u64.from_address(system + selector).value = descriptor
        goal = system + CAUGHT
        ctypes.memmove(goal, STOP, len(STOP))
        for number in range(32):
            gate = (_u64 * 2).from_address(system + GATES + 16 * number)
            gate[0] = goal & 0xFFFF | CODE << 16 | GATE | (goal >> 16 & 0xFFFF) << 48
            gate[1] = goal >> 32
        _u64.from_address(system + STATE + FIRST_STACK).value = system + STACK
        lib.cpu_set_gdtr(0, system, PAGE - 1)
        lib.cpu_set_idtr(0, system + GATES, PAGE - 1)
        lib.cpu_set_tr(0, 1, TASK, system + STATE, PAGE - 1, RIGHTS[TASK])
        for segment, selector in enumerate((DATA, CODE, DATA, DATA, DATA, DATA)):
            lib.cpu_set_seg(0, segment, 1, selector, 0, LIMIT, RIGHTS[selector])

    def _switch_on(self) -> None:
        lib = self.library
        lib.cpu_set_cr0(0, CR0)
        lib.cpu_set_cr3(0, 0)
        lib.cpu_set_cr4(0, CR4)
        lib.cpu_set_efer(0, EFER)
        lib.cpu_set_xcr0(0, XCR0)
        lib.cpu_set_mode(0)

    def _set_hooks(self) -> Any:
        branch = ctypes.CFUNCTYPE(None, _pointer, _u32, _u32, _u64, _u64)(self._on_branch)
        exception = ctypes.CFUNCTYPE(None, _pointer, _u32, _u32, _u32)(self._on_exception)
        hooks = (_pointer * HOOKS)()
        hooks[ON_BRANCH] = ctypes.cast(branch, _pointer)
        hooks[ON_EXCEPTION] = ctypes.cast(exception, _pointer)
        self._kept += [branch, exception, hooks]
        return (_pointer * 2)(ctypes.addressof(hooks), None)

    # -- running it ---------------------------------------------------------------------------

    def _go(self) -> None:
        self.library.bochscpu_cpu_run(self._cpu, self._hooks)

    def _on_branch(self, _context: int, _id: int, _kind: int, _from: int, target: int) -> None:
        if not self._is_code(target):
            self.library.bochscpu_cpu_stop(self._cpu)

    def _on_exception(self, _context: int, _id: int, number: int, _code: int) -> None:
        self._exception = number

    def _mend(self) -> None:
        """Run the instruction that the emulator refused in another form, and go on behind it."""
        lib = self.library
        pushed = lib.cpu_get_reg64(0, RSP) + 8 * (self._exception in WITH_CODE)
        place, _, flags, stack, _ = Frame.from_address(pushed)
        code = ctypes.string_at(place, LONGEST)
        gather = with_lower_index(code) if self._exception == INVALID else None
        if gather is None:
            what = f"exception {self._exception} at {place:#x}, before {code.hex()}"
            raise RuntimeError(f"{what}, with the address {lib.cpu_get_cr2(0):#x}")
        lib.cpu_set_eflags(0, flags)
        lib.cpu_set_sp(0, stack)
        kept, index = Vector(), Vector()
        lib.cpu_get_zmm(0, gather.spare, kept)
        lib.cpu_get_zmm(0, gather.index, index)
        lib.cpu_set_zmm(0, gather.spare, index)
        self._run_alone(gather.code)
        lib.cpu_set_zmm(0, gather.spare, kept)
        lib.cpu_set_pc(0, place + len(gather.code))

    def _run_alone(self, code: bytes) -> None:
        """Run one instruction, and stop behind it."""
        slot = self._slots.get(code)
        if slot is None:
            offset = SCRATCH + SLOT * len(self._slots)
            if offset + SLOT > SYSTEM:
                raise RuntimeError("there is no room for another form of an instruction")
            slot = self._slots[code] = self._system + offset
            ctypes.memmove(slot, code + STOP, len(code) + len(STOP))
        self.library.cpu_set_pc(0, slot)
        self._go()
        if self.library.cpu_get_pc(0) != slot + len(code):
            raise RuntimeError(f"exception {self._exception} in {code.hex()}")


def _library() -> ctypes.CDLL:
    """The emulator's file, whose names are found as they are called: it asks for some that only
    later C libraries have, to print with."""
    try:
        files = metadata.files(PACKAGE) or ()
    except metadata.PackageNotFoundError as missing:
        raise ImportError(f"AVX-512 is emulated by `pip install {PACKAGE}`") from missing
    path = next(str(Path(str(file.locate()))) for file in files if file.suffix == ".so")
    opened: Any = ctypes.CDLL(None).dlopen
    opened.restype, opened.argtypes = _pointer, (ctypes.c_char_p, ctypes.c_int)
    handle = opened(path.encode(), os.RTLD_LAZY)
    if not handle:
        raise ImportError(f"the emulator {path} cannot be loaded")
    return ctypes.CDLL(path, handle=handle)


def _gigabytes_in_use() -> Iterable[int]:
    ends = {
        int(end, 16) // GIGABYTE
        for line in Path("/proc/self/maps").read_text().splitlines()
        for end in line.split()[0].split("-")
    }
    user = {end for end in ends if end < (1 << 47) // GIGABYTE}
    return {near for end in user for near in range(max(end - MARGIN, 0), end + 2)}
