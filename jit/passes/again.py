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
    FLOATS,
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
    static_extent,
)
from jit.passes.buffers import rounded
from jit.passes.copying import Copier
from jit.passes.touches import Member, Opaque, Span, Toucher, bytes_of, names_in, overlap

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
        written = [self.buffers[name] for name in self.written[place]]
        try:
            return Slice(kernel, buffer, written).kernel(second(kernel.name))
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


class Visit(NamedTuple):
    """Where a kernel loads or stores: which statement in order it is, in which loops."""

    number: int
    loops: tuple[For, ...]


class Slice(Copier):
    """What of a kernel makes one buffer. `written` are all that it writes.

    What the kernel stores elsewhere is read from there. Raises Opaque where something is needed
    that takes long, or that is not known after the kernel.
    """

    def __init__(self, kernel: Kernel, buffer: Buffer, written: Sequence[Buffer]) -> None:
        super().__init__()
        self.original, self.buffer = kernel, buffer
        self.copied = buffer._replace(name=second(buffer.name))
        self.written = {b.name: b for b in written}
        self.visits: dict[Load | Store, Visit] = {}
        self.visit(kernel.body, ())
        self.stores: dict[str, list[Store]] = {}
        for store in stores_of(kernel.body):
            self.stores.setdefault(store.buffer.name, []).append(store)
        self.stored = {
            store.value: store
            for stores in self.stores.values()
            for store in stores
            if self.lasts(store)
        }
        self.path: tuple[For, ...] = ()
        self.needed: set[Value] = set()
        self.reads: dict[Store, Value] = {}
        self.depth = 0

    def visit(self, block: Block, around: tuple[For, ...]) -> None:
        """Note all loads and stores but for those in branches and loops of unknown length."""
        for stmt in block.stmts:
            if isinstance(stmt, Load | Store):
                self.visits[stmt] = Visit(len(self.visits), around)
            elif isinstance(stmt, For):
                self.visit(stmt.body, (*around, stmt))

    def span(self, access: Load | Store, count: int) -> Span | None:
        """The offset of a load or a store by the outermost `count` of its loops."""
        loops = self.visits[access].loops
        spans: dict[Value, Span] = {}
        for place, loop in enumerate(loops):
            extent = static_extent(loop) or 0
            slopes = tuple([int(k == place) for k in range(count)])
            spans[loop.var] = Span(slopes, 0, 0 if place < count else max(extent - 1, 0))
        return Toucher(None, {}, count).span(access.offset, spans)

    def lasts(self, store: Store) -> bool:
        """Does the kernel store each of these once, and nothing else there?"""
        buffer, visit = store.buffer, self.visits.get(store)
        if visit is None or buffer.kind != "temp" or store.where is not None:
            return False
        if len(self.stores[buffer.name]) > 1 or buffer.name == self.buffer.name:
            return False
        if any(overlap(buffer, b) for b in self.others(buffer)):
            return False
        span = self.span(store, len(visit.loops))
        if span is None or span.low != span.high:
            return False
        reach = 1
        for slope, loop in sorted(zip(span.slopes, visit.loops, strict=True), key=lambda x: x[0]):
            extent = static_extent(loop)
            if extent is None or (extent > 1 and slope < reach):
                return False
            reach = max(reach, slope * extent)
        return True

    def others(self, buffer: Buffer) -> list[Buffer]:
        """What else of the arena the kernel writes."""
        return [b for b in self.written.values() if b.kind == "temp" and b.name != buffer.name]

    def is_known_after(self, load: Load) -> bool:
        """Does a load find the same after the kernel?"""
        buffer = load.buffer
        if buffer.kind in ("input", "const"):
            return True
        if buffer.kind != "temp" or any(overlap(buffer, b) for b in self.others(buffer)):
            return False
        if buffer.name not in self.written:
            return True
        store = self.stores.get(buffer.name, [None])[0]
        return store is not None and self.lasts(store) and self.comes_after(load, store)

    def comes_after(self, load: Load, store: Store) -> bool:
        """Is what is loaded stored by then? By an earlier loop inside the loops of both, if so."""
        here, there = self.visits[load], self.visits[store]
        shared = [a for a, b in zip(here.loops, there.loops, strict=False) if a is b]
        mine, other = self.span(load, len(shared)), self.span(store, len(shared))
        if mine is None or other is None or there.number > here.number:
            return False
        return mine.slopes == other.slopes and other.low <= mine.low <= mine.high <= other.high

    def kernel(self, name: str) -> Kernel:
        """The kernel of that name that makes the copy."""
        (made, *more) = self.stores.get(self.buffer.name, [None])
        if made is None or more or made.where is not None or made not in self.visits:
            raise Opaque
        self.path = self.visits[made].loops
        for value in (made.value, made.offset, *[loop.extent for loop in self.path]):
            self.need(value)
        operations = [value for value in self.needed if isinstance(value, Op)]
        names = {op.name for op in operations if op.dtype in FLOATS}
        # A product and a sum may become one instruction, by what else uses the product: other bits.
        if len(operations) > MOST_OPERATIONS or ("mul" in names and names & {"add", "sub"}):
            raise Opaque
        self.block(self.original.body)
        return Kernel(name, Block(self.stmts))

    def need(self, value: Value) -> None:
        """Note what a value is computed from, which is what the kernel stored where it can be."""
        if value in self.needed or isinstance(value, Const):
            return
        self.needed.add(value)
        store = self.stored.get(value)
        match value:
            case Load() if value in self.visits and self.is_known_after(value):
                for part in (value.offset, value.where, value.other):
                    if part is not None:
                        self.need(part)
            case _ if store is not None:
                self.reads[store] = value
                self.need(store.offset)
            case Op() if value.name not in INTRINSICS:
                for arg in value.args:
                    self.need(arg)
            case Var() if any(value is loop.var for loop in self.path):
                pass
            case _:
                raise Opaque

    def block(self, block: Block) -> None:
        read = set(self.reads.values())
        for stmt in block.stmts:
            match stmt:
                case Op() | Load() if stmt in self.needed and stmt not in read:
                    self.copy(stmt)
                case Store() if stmt.buffer.name == self.buffer.name:
                    self.copy(stmt)
                case Store() if stmt in self.reads:
                    load = Load(self.depth, stmt.buffer, self.value(stmt.offset))
                    self.values[stmt.value] = load
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
