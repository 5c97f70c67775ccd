"""Links ELF objects for x86-64 into an image: sections in place, calls and addresses resolved.

Knows exactly the relocations of position-independent code, as the System V ABI (AMD64 supplement)
defines them; whatever else an object may hold makes it Unlinkable, and LLVM's linker takes it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jit.image import PAGE, Image

Ints: TypeAlias = np.ndarray[Any, Any]

_MAGIC = b"\x7fELF\x02\x01"
_RELOCATABLE, _X86_64 = 1, 62
_SYMTAB, _RELA, _NOTE, _NOBITS, _UNWIND = 2, 4, 7, 8, 0x70000001
_PLAIN = frozenset({1, _NOTE, _NOBITS, _UNWIND})
_WRITE, _ALLOC, _TLS = 1, 2, 0x400
_RESERVED = 0xFF00
_HIDDEN = 2
_ABS64, _PC32, _PLT32 = 1, 2, 4
_GOT = (9, 41, 42)
_STUB = 8


class Unlinkable(Exception):
    """The object holds something that this linker does not know."""


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int


def _shifted(section: _Section, start: int, base: int) -> _Section:
    """A section of a file that begins at `start`, after `base` sections of other files."""
    return section._replace(
        offset=section.offset + start,
        link=section.link + base,
        info=section.info + base if section.kind == _RELA else section.info,
    )


def _distinct(numbers: Ints) -> Ints:
    """In order, each once. (NumPy's own imports its masked arrays, which takes a while.)"""
    return np.array(sorted(set(numbers.tolist())), np.int64)


def _among(kinds: Ints, wanted: Sequence[int]) -> Ints:
    """Which kinds are one of those wanted."""
    found = np.zeros(len(kinds), bool)
    for kind in wanted:
        found |= kinds == kind
    return found


class _Relocations(NamedTuple):
    """All of them, one a row: in which section, where in it, of which kind and symbol."""

    section: Ints
    offset: Ints
    kind: Ints
    symbol: Ints
    addend: Ints


def link_image(*codes: bytes) -> Image:
    """The image of one object file, or of several that call each other. Raises Unlinkable."""
    for code in codes:
        machine = struct.unpack_from("<HH", code, 16) if len(code) >= 64 else (0, 0)
        if code[:6] != _MAGIC or machine != (_RELOCATABLE, _X86_64):
            raise Unlinkable("not an ELF object for x86-64")
    try:
        return _Linker(codes).image()
    except (struct.error, LookupError, ValueError, OverflowError, MemoryError) as error:
        raise Unlinkable(f"a damaged object: {error}") from error


class _Linker:
    """Objects on their way to an image. Places count from the beginning of the image.

    The files lie one after another, and so do their sections and their symbols.
    """

    def __init__(self, codes: Sequence[bytes]) -> None:
        self.file = b"".join(codes)
        self.sections: list[_Section] = []
        self.names: list[str] = []
        self.is_global: list[bool] = []
        self.is_hidden: list[bool] = []
        self.first_symbol: dict[int, int] = {}
        homes: list[int] = []
        values: list[int] = []
        start = 0
        for code in codes:
            base = len(self.sections)
            (table,) = struct.unpack_from("<Q", code, 40)
            size, count = struct.unpack_from("<HH", code, 58)
            rows = [struct.unpack_from("<IIQQQQIIQQ", code, table + size * k) for k in range(count)]
            self.sections += [_shifted(_Section(*row), start, base) for row in rows]
            self._read_symbols(base, homes, values)
            start += len(code)
        self.homes, self.values = np.array(homes, np.int64), np.array(values, np.int64)
        self.loaded = [k for k, s in enumerate(self.sections) if s.flags & _ALLOC]
        if any(self.sections[k].kind not in _PLAIN for k in self.loaded):
            raise Unlinkable("a section of an unknown kind")
        if any(self.sections[k].flags & _TLS for k in self.loaded):
            raise Unlinkable("variables of threads")
        # LLVM writes how to unwind only for functions that may throw; ours never do.
        self.loaded = [k for k in self.loaded if self.sections[k].kind not in (_NOTE, _UNWIND)]
        self.starts = np.full(len(self.sections), -1, np.int64)

    def _bytes(self, section: _Section) -> bytes:
        return self.file[section.offset : section.offset + section.size]

    def _read_symbols(self, base: int, homes: list[int], values: list[int]) -> None:
        """Names, binding, section and value of the symbols of the file that was read last."""
        tables = [k for k in range(base, len(self.sections)) if self.sections[k].kind == _SYMTAB]
        if len(tables) != 1:
            raise Unlinkable("no table of symbols")
        table = self.sections[tables[0]]
        names = self._bytes(self.sections[table.link])
        rows = list(struct.iter_unpack("<IBBHQQ", self._bytes(table)))
        if any(row[3] >= _RESERVED and row[1] & 15 != 4 for row in rows):
            raise Unlinkable("common or absolute symbols")
        self.first_symbol[tables[0]] = len(self.names)
        self.names += [names[row[0] : names.index(b"\0", row[0])].decode() for row in rows]
        self.is_global += [row[1] >> 4 != 0 for row in rows]
        self.is_hidden += [row[2] & 3 == _HIDDEN for row in rows]
        homes += [row[3] + base if 0 < row[3] < _RESERVED else row[3] for row in rows]
        values += [row[4] for row in rows]

    def _found(self) -> Ints:
        """For each symbol itself, or the one of its name that another file defines."""
        given = {
            name: k
            for k, name in enumerate(self.names)
            if self.is_global[k] and 0 < self.homes[k] < _RESERVED
        }
        wanted = [
            given.get(name, k) if self.is_global[k] and self.homes[k] == 0 else k
            for k, name in enumerate(self.names)
        ]
        return np.array(wanted, np.int64)

    def image(self) -> Image:
        """Place the sections, then stubs and a table of addresses, and resolve."""
        rows = self._relocations()
        outside = self.homes == 0
        called = _distinct(rows.symbol[(rows.kind == _PLT32) & outside[rows.symbol]])
        fetched = _distinct(np.append(rows.symbol[_among(rows.kind, _GOT)], called))
        end = -(-self._place(self._those(written=False), 0) // _STUB) * _STUB
        stubs = self._spread(called, end, _STUB)
        begin = -(-(end + _STUB * len(called)) // PAGE) * PAGE
        table = -(-self._place(self._those(written=True, zero=False), begin) // 8) * 8
        slots = self._spread(fetched, table, 8)
        filled = table + 8 * len(fetched)
        stop = self._place(self._those(written=True, zero=True), filled)
        memory = np.zeros(filled, np.uint8)
        for k in self.loaded:
            section, start = self.sections[k], self.starts[k]
            if section.kind != _NOBITS:
                memory[start : start + section.size] = np.frombuffer(self._bytes(section), np.uint8)
        for symbol in called:
            # jmp *slot(%rip)
            jump = struct.pack("<BBi", 0xFF, 0x25, slots[symbol] - stubs[symbol] - 6)
            memory[stubs[symbol] : stubs[symbol] + 6] = np.frombuffer(jump, np.uint8)
        words, imports = self._resolve(memory, rows, stubs, slots)
        for symbol in fetched:
            if outside[symbol]:
                imports.append((int(slots[symbol]), self.names[symbol]))
            else:
                words.append((int(slots[symbol]), int(self._place_of(symbol))))
        return Image(
            memory[:begin].tobytes(),
            memory[begin:].tobytes(),
            stop - begin,
            tuple(words),
            tuple(imports),
            tuple(self._exports()),
        )

    def _relocations(self) -> _Relocations:
        """The relocations of the sections that are loaded."""
        kind = np.dtype([("offset", "<u8"), ("info", "<u8"), ("addend", "<i8")])
        found = [s for s in self.sections if s.kind == _RELA and s.info in self.loaded]
        tables = [np.frombuffer(self._bytes(s), kind) for s in found]
        none = np.empty(0, np.int64)

        def spread(numbers: list[int]) -> Ints:
            rows = [np.full(len(t), n, np.int64) for n, t in zip(numbers, tables, strict=True)]
            return np.concatenate([none, *rows])

        rows = np.concatenate([np.empty(0, kind), *tables])
        info = rows["info"]
        symbols = (info >> 32).astype(np.int64) + spread([self.first_symbol[s.link] for s in found])
        return _Relocations(
            spread([s.info for s in found]),
            rows["offset"].astype(np.int64),
            (info & 0xFFFFFFFF).astype(np.int64),
            self._found()[symbols],
            rows["addend"].astype(np.int64),
        )

    def _those(self, written: bool, zero: bool = False) -> list[int]:
        """The loaded sections that are written or not, and that begin as zeros or not."""
        return [
            k
            for k in self.loaded
            if bool(self.sections[k].flags & _WRITE) == written
            and (self.sections[k].kind == _NOBITS) == zero
        ]

    def _place(self, chosen: Iterable[int], start: int) -> int:
        """Give places to sections, one after another; answers the end."""
        for k in chosen:
            section = self.sections[k]
            alignment = max(section.alignment, 1)
            if alignment > PAGE:
                raise Unlinkable("an alignment above a page")
            start = -(-start // alignment) * alignment
            self.starts[k] = start
            start += section.size
        return start

    def _spread(self, symbols: Ints, start: int, step: int) -> Ints:
        """Places by symbol: one every `step` bytes for those that need one, -1 for others."""
        places = np.full(len(self.names), -1, np.int64)
        places[symbols] = start + step * np.arange(len(symbols))
        return places

    def _place_of(self, symbols: Any) -> Any:
        """Where defined symbols are."""
        starts = self.starts[np.where(self.homes[symbols] < _RESERVED, self.homes[symbols], 0)]
        if np.any(starts < 0):
            raise Unlinkable("a symbol of a section that is not loaded")
        return starts + self.values[symbols]

    def _resolve(
        self, memory: Ints, rows: _Relocations, stubs: Ints, slots: Ints
    ) -> tuple[list[tuple[int, int]], list[tuple[int, str]]]:
        """Write distances; answers the words that will hold addresses here and elsewhere."""
        outside = self.homes[rows.symbol] == 0
        places = self.starts[rows.section] + rows.offset
        absolute, by_slot = rows.kind == _ABS64, _among(rows.kind, _GOT)
        near = _among(rows.kind, (_PC32, _PLT32))
        if not np.all(absolute | by_slot | near) or np.any(outside & (rows.kind == _PC32)):
            raise Unlinkable("a relocation of an unknown kind")
        targets = np.where(by_slot, slots[rows.symbol], stubs[rows.symbol])
        direct = ~(by_slot | outside)
        targets[direct] = self._place_of(rows.symbol[direct])
        relative = ~absolute
        distances = (targets + rows.addend - places)[relative].astype("<i4")
        memory[places[relative][:, None] + np.arange(4)] = distances[:, None].view(np.uint8)
        words = [
            (int(p), int(t + a))
            for p, t, a in zip(
                places[absolute & ~outside],
                targets[absolute & ~outside],
                rows.addend[absolute & ~outside],
                strict=True,
            )
        ]
        far = absolute & outside
        if np.any(rows.addend[far]):
            raise Unlinkable("an address inside a foreign symbol")
        imports = [
            (int(p), self.names[s]) for p, s in zip(places[far], rows.symbol[far], strict=True)
        ]
        return words, imports

    def _exports(self) -> list[tuple[str, int]]:
        """Names and places of the global symbols that are defined here for others."""
        return [
            (name, int(self._place_of(k)))
            for k, name in enumerate(self.names)
            if self.is_global[k] and not self.is_hidden[k] and 0 < self.homes[k] < _RESERVED
        ]
