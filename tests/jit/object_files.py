"""Reads object files of other systems: which machine they are for, what they take and give."""

from __future__ import annotations

import struct
from typing import NamedTuple


class ObjectFile(NamedTuple):
    """Format and machine, and the names that it leaves to the linker and that it defines."""

    form: str
    machine: int
    undefined: frozenset[str]
    defined: frozenset[str]
    code_bytes: int


def read_object(data: bytes) -> ObjectFile:
    """An ELF, Mach-O or COFF object for a 64-bit little-endian machine."""
    if data[:6] == b"\x7fELF\x02\x01":
        return read_elf(data)
    if data[:4] == b"\xcf\xfa\xed\xfe":
        return read_macho(data)
    return read_coff(data)


def text_at(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()


def read_elf(data: bytes) -> ObjectFile:
    kind, machine = struct.unpack_from("<HH", data, 16)
    assert kind == 1, "not relocatable"
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + size * k) for k in range(count)]
    undefined: set[str] = set()
    defined: set[str] = set()
    for section in sections:
        if section[1] == 2:
            names = sections[section[6]][4]
            rows = struct.iter_unpack("<IBBHQQ", data[section[4] : section[4] + section[5]])
            for name, info, _, home, _, _ in rows:
                if info >> 4 and name:
                    (defined if home else undefined).add(text_at(data, names + name))
    code = sum(s[5] for s in sections if s[2] & 4)
    return ObjectFile("elf", machine, frozenset(undefined), frozenset(defined), code)


def read_macho(data: bytes) -> ObjectFile:
    _, machine, _, kind, count, _, _, _ = struct.unpack_from("<8I", data, 0)
    assert kind == 1, "not relocatable"
    undefined: set[str] = set()
    defined: set[str] = set()
    place, code = 32, 0
    for _ in range(count):
        command, size = struct.unpack_from("<II", data, place)
        if command == 2:
            symbols, number, names, _ = struct.unpack_from("<4I", data, place + 8)
            for k in range(number):
                name, flags, _, _, _ = struct.unpack_from("<IBBHQ", data, symbols + 16 * k)
                if flags & 1:
                    text = text_at(data, names + name).removeprefix("_")
                    (defined if flags & 0x0E else undefined).add(text)
        elif command == 0x19:
            (sections,) = struct.unpack_from("<I", data, place + 64)
            for k in range(sections):
                start = place + 72 + 80 * k
                if data[start : start + 7] == b"__text\0":
                    code += struct.unpack_from("<Q", data, start + 40)[0]
        place += size
    return ObjectFile("macho", machine, frozenset(undefined), frozenset(defined), code)


def read_coff(data: bytes) -> ObjectFile:
    machine, count, _, symbols, number, optional, _ = struct.unpack_from("<HHIIIHH", data, 0)
    assert optional == 0, "not relocatable"
    names = symbols + 18 * number
    undefined: set[str] = set()
    defined: set[str] = set()
    k = 0
    while k < number:
        start = symbols + 18 * k
        _, home, _, storage, more = struct.unpack_from("<IhHBB", data, start + 8)
        short, long = data[start : start + 8], struct.unpack_from("<II", data, start)
        name = text_at(data, names + long[1]) if not long[0] else short.rstrip(b"\0").decode()
        if storage == 2:
            (defined if home else undefined).add(name)
        k += 1 + more
    code = 0
    for k in range(count):
        start = 20 + 40 * k
        (flags,) = struct.unpack_from("<I", data, start + 36)
        if flags & 0x20:
            code += struct.unpack_from("<I", data, start + 16)[0]
    return ObjectFile("coff", machine, frozenset(undefined), frozenset(defined), code)
