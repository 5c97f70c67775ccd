"""Computes an array again for kernels that want it later, so that it need not go through memory.

The shares of attention are an operand of a product, and of others on the way back. They are one
division away from what is kept beside them: computed again in the blocks of the later kernels, they
lie in a cache there as they do in the earlier ones.

Invariant: the same operations on the same values, so that the bits are those of the first time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from jit.loop_ir.nodes import (
    INTRINSICS,
    Block,
    Buffer,
    Const,
    For,
    Kernel,
    Load,
    Op,
    Program,
    Store,
    Value,
    Var,
    inner_blocks,
)
from jit.passes.buffers import rounded
from jit.passes.copying import Copier
from jit.passes.touches import Member, Opaque, bytes_of, names_in, overlap

MOST_OPERATIONS = 24
"""More, indices among them, are not computed again."""


class Again(NamedTuple):
    """An array, the kernel that makes it again, and the later one that is the first to want it."""

    buffer: Buffer
    kernel: Kernel
    before: int

    @property
    def name(self) -> str:
        """The array that is made again."""
        return second(self.buffer.name)


def second(name: str) -> str:
    """What is made again is called so."""
    return f"{name}_again"


def candidates(
    program: Program, members: Sequence[Member | None], runs: Sequence[range], least: int
) -> list[Again]:
    """What kernels after a run want of arrays of `least` bytes or more that it makes, and that can
    be computed again from no more than one such array.
    """
    if not runs:
        return []
    finder = Finder(program, members, least)
    return [again for run in runs for place in run for again in finder.made_by(place, run)]


class Finder:
    """Looks for such arrays. `members` says of each kernel what it touches, if that is known."""

    def __init__(self, program: Program, members: Sequence[Member | None], least: int) -> None:
        self.kernels, self.least = program.kernels, least
        self.buffers = {b.name: b for b in program.buffers}
        self.mentioned = [set(names_in(kernel.body)) for kernel in program.kernels]
        self.written = [
            {t.buffer.name for t in member.touches if t.writes} if member else mentioned
            for member, mentioned in zip(members, self.mentioned, strict=True)
        ]

    def made_by(self, place: int, run: range) -> Iterator[Again]:
        """Of the arrays that one kernel of a run makes."""
        for name in sorted(self.written[place]):
            buffer = self.buffers[name]
            users = [k for k, names in enumerate(self.mentioned) if name in names and k != place]
            later = [k for k in users if k >= run.stop]
            if not self.is_large(buffer) or buffer.kind != "temp" or not later:
                continue
            if not place < min(users) < run.stop or any(name in self.written[k] for k in users):
                continue
            kernel = self.slice_of(place, buffer)
            if kernel is not None and self.can_come_before(kernel, place, later[0]):
                yield Again(buffer, kernel, later[0])

    def is_large(self, buffer: Buffer) -> bool:
        return bytes_of(buffer) >= self.least

    def slice_of(self, place: int, buffer: Buffer) -> Kernel | None:
        """What of a kernel is needed to make a buffer, from what the kernel writes beside it."""
        kernel = self.kernels[place]
        try:
            return Slice(kernel, buffer).kernel(second(kernel.name))
        except Opaque:
            return None

    def can_come_before(self, kernel: Kernel, place: int, later: int) -> bool:
        """Does what a slice of the kernel at `place` reads still stand before a later one?"""
        reads = [self.buffers[name] for name in set(names_in(kernel.body)) & self.buffers.keys()]
        if sum(self.is_large(b) for b in reads) > 1:
            return False
        between = [self.buffers[name] for k in range(place + 1, later) for name in self.written[k]]
        temps = [b for b in between if b.kind == "temp"]
        return not any(overlap(a, b) for a in reads if a.kind == "temp" for b in temps)


def with_again(program: Program, found: Sequence[Again]) -> Program:
    """The program with these arrays made again, which later kernels then read."""
    buffers, arena = list(program.buffers), program.arena_bytes
    kernels: list[Kernel] = []
    renamed: dict[str, Buffer] = {}
    for place, kernel in enumerate(program.kernels):
        for again in found:
            if again.before == place:
                copy = again.buffer._replace(name=again.name, place=rounded(arena))
                arena = copy.place + bytes_of(copy)
                buffers.append(copy)
                kernels.append(Renamer({**renamed, again.name: copy}).kernel(again.kernel))
                renamed[again.buffer.name] = copy
        wanted = renamed.keys() & set(names_in(kernel.body)) if renamed else ()
        kernels.append(Renamer(renamed).kernel(kernel) if wanted else kernel)
    return Program(program.name, buffers, kernels, arena, program.errors)


class Renamer(Copier):
    """Copies kernels that have to do with other buffers than the original's, by name."""

    def __init__(self, buffers: Mapping[str, Buffer]) -> None:
        super().__init__()
        self.buffers = buffers

    def place(self, buffer: Buffer, offset: Value) -> tuple[Buffer, Value]:
        return self.buffers.get(buffer.name, buffer), offset

    def kernel(self, kernel: Kernel) -> Kernel:
        for stmt in kernel.body.stmts:
            self.copy(stmt)
        return Kernel(kernel.name, Block(self.stmts))


class Slice(Copier):
    """What of a kernel makes one buffer.

    What the kernel stores elsewhere is read from there. Raises Opaque where something is needed
    that takes long or is not known after the kernel.
    """

    def __init__(self, kernel: Kernel, buffer: Buffer) -> None:
        super().__init__()
        self.original, self.buffer = kernel, buffer
        self.copied = buffer._replace(name=second(buffer.name))
        self.stores = {
            store.value: store
            for store in stores_of(kernel.body)
            if store.buffer.kind == "temp" and store.buffer.name != buffer.name and not store.where
        }
        self.made: Store | None = None
        self.path: set[For] = set()
        self.needed: set[Value | Store] = set()
        self.depth = 0

    def kernel(self, name: str) -> Kernel:
        """The kernel of that name that makes the copy."""
        self.look_in(self.original.body, ())
        if self.made is None or self.made.where is not None:
            raise Opaque
        self.need(self.made.value)
        self.need(self.made.offset)
        for loop in self.path:
            self.need(loop.extent)
        if sum(isinstance(value, Op) for value in self.needed) > MOST_OPERATIONS:
            raise Opaque
        self.block(self.original.body)
        return Kernel(name, Block(self.stmts))

    def look_in(self, block: Block, around: tuple[For, ...]) -> None:
        """Find the one store to the buffer, and the loops around it."""
        for stmt in block.stmts:
            if isinstance(stmt, Store) and stmt.buffer.name == self.buffer.name:
                if self.made is not None:
                    raise Opaque
                self.made, self.path = stmt, set(around)
            elif isinstance(stmt, For):
                self.look_in(stmt.body, (*around, stmt))
            elif any(True for inner in inner_blocks(stmt) for _ in stores_of(inner)):
                raise Opaque  # a branch, or a loop of unknown length

    def need(self, value: Value) -> None:
        """Note what a value is computed from, which is what the kernel stored where it can be."""
        if value in self.needed or isinstance(value, Const):
            return
        store = self.stores.get(value)
        if store is not None and not isinstance(value, Load):
            self.needed |= {value, store}
            self.need(store.offset)
            return
        self.needed.add(value)
        match value:
            case Op() if value.name not in INTRINSICS:
                for arg in value.args:
                    self.need(arg)
            case Load() if value.buffer.kind in ("temp", "input", "const"):
                for part in (value.offset, value.where, value.other):
                    if part is not None:
                        self.need(part)
            case Var() if any(value is loop.var for loop in self.path):
                pass
            case _:
                raise Opaque

    def block(self, block: Block) -> None:
        for stmt in block.stmts:
            match stmt:
                case Op() | Load() if stmt in self.needed and stmt not in self.stores:
                    self.copy(stmt)
                case Store() if stmt is self.made:
                    self.copy(stmt)
                case Store() if stmt in self.needed:
                    offset = self.value(stmt.offset)
                    self.values[stmt.value] = load = Load(self.depth, stmt.buffer, offset)
                    self.stmts.append(load)
                case For() if stmt in self.path:
                    self.loop(stmt)
                case _:
                    pass

    def loop(self, loop: For) -> None:
        outer, self.stmts, self.depth = self.stmts, [], self.depth + 1
        self.values[loop.var] = var = Var(loop.var.dtype, loop.var.level, loop.var.hint)
        self.block(loop.body)
        body, self.stmts, self.depth = self.stmts, outer, self.depth - 1
        extent = self.value(loop.extent)
        self.stmts.append(For(var, extent, Block(body), (), loop.kind, loop.grain))

    def value(self, value: Value) -> Value:
        """What has become of a value, which must have been copied by now."""
        if isinstance(value, Const):
            return value
        if value not in self.values:
            raise Opaque
        return self.values[value]

    def place(self, buffer: Buffer, offset: Value) -> tuple[Buffer, Value]:
        return (self.copied if buffer.name == self.buffer.name else buffer), offset


def stores_of(block: Block) -> Iterator[Store]:
    """All stores of a block."""
    for stmt in block.stmts:
        if isinstance(stmt, Store):
            yield stmt
        else:
            for inner in inner_blocks(stmt):
                yield from stores_of(inner)
