"""Which processor this is, down to the last feature: what entries of the cache are told apart by.

The processor is asked as LLVM asks it, by `cpuid`, without importing LLVM. Where that cannot be
done (another architecture or system) LLVM is asked. Invariant: the answer is the same on every
core and in every process of a machine.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import cache
from typing import Any, Literal

from jit.image import PAGE, POSIX, Image, Mapped

_CPUID = bytes.fromhex(
    "53"  # push %rbx
    "4989d0"  # mov %rdx, %r8
    "89f8"  # mov %edi, %eax
    "89f1"  # mov %esi, %ecx
    "0fa2"  # cpuid
    "418900"  # mov %eax, (%r8)
    "41895804"  # mov %ebx, 4(%r8)
    "41894808"  # mov %ecx, 8(%r8)
    "4189500c"  # mov %edx, 12(%r8)
    "5b"  # pop %rbx
    "c3"  # ret
)
"""void (leaf, subleaf, four words of answer), in the convention of every system but Windows."""
_XGETBV = bytes.fromhex(
    "31c9"  # xor %ecx, %ecx
    "0f01d0"  # xgetbv
    "c3"  # ret
)
_PLACE = 64
_OSXSAVE = 1 << 27
_EAX, _EBX, _ECX, _EDX = 1, 2, 4, 8
_LEAVES = (
    (0x00, 0, _EBX | _ECX | _EDX),
    (0x01, 0, _EAX | _ECX | _EDX),
    (0x07, 0, _EAX | _EBX | _ECX | _EDX),
    (0x07, 1, _EAX | _EBX | _ECX | _EDX),
    (0x0D, 1, _EAX),
    (0x14, 0, _EBX),
    (0x19, 0, _EBX),
    (0x1E, 1, _EAX),
    (0x24, 0, _EAX | _EBX),
    (0x29, 0, _EBX),
    (0x80000001, 0, _ECX | _EDX),
    (0x80000008, 0, _EBX),
)
"""Leaf, subleaf, and which registers tell features. The others differ between cores."""


Family = Literal["x86_64", "aarch64", "other"]
_FAMILIES: dict[str, Family] = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
}


@cache
def family() -> Family:
    """The architecture of this process, as far as something depends on it."""
    return _FAMILIES.get(platform.machine().lower(), "other")


@cache
def processor() -> tuple[int | str, ...]:
    """Equal for processors that the same code is made for."""
    if POSIX and sys.platform == "linux" and family() == "x86_64":
        return ask_processor()
    from jit.native import host_target

    target = host_target()
    return (target.triple, target.cpu, target.features, target.vector_bytes)


def ask_processor() -> tuple[int, ...]:
    """The words that tell the model and its features, and what the system lets it use."""
    code = _CPUID.ljust(_PLACE, b"\0") + _XGETBV
    exports = (("cpuid", 0), ("xgetbv", _PLACE))
    mapped = Mapped(Image(code.ljust(PAGE, b"\0"), b"", 0, (), (), exports), lambda name: 0)
    cpuid: Any = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(
        mapped.addresses["cpuid"]
    )
    words = (ctypes.c_uint32 * 4)()
    place = ctypes.addressof(words)
    cpuid(0, 0, place)
    last = words[0]
    cpuid(0x80000000, 0, place)
    last_extended = words[0]
    found: list[int] = []
    enabled = 0
    for leaf, subleaf, registers in _LEAVES:
        known = leaf <= (last_extended if leaf >> 31 else last)
        if known:
            cpuid(leaf, subleaf, place)
        found += [words[k] if known and registers >> k & 1 else 0 for k in range(4)]
        if leaf == 1:
            enabled = words[2] & _OSXSAVE
    if enabled:
        found.append(ctypes.CFUNCTYPE(ctypes.c_uint32)(mapped.addresses["xgetbv"])())
    return tuple(found)
