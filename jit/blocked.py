"""Runs kernels that share an outer loop block by block of it, so that what they hand on stays near.

Kernels such as the products and the softmax of attention all go over the same members of a batch,
and one need not be through with all of them before the next begins. Where what lies between them
is larger than a cache, they become one kernel that goes through the batch once, some members at a
time; arrays that no other kernel sees are then no larger than one block.

Invariant: a block reads of what the kernels write only what it wrote itself, so every value is the
one that the kernels in order would have computed, by the same operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import gcd
from typing import NamedTuple

from jit.loop_facts import inner_blocks, static_extent
from jit.loop_ir.nodes import (
    ITEMSIZE,
    Address,
    Block,
    Buffer,
    Callback,
    CallExtern,
    Carry,
    Const,
    For,
    Grow,
    Kernel,
    Load,
    Op,
    Pointer,
    Program,
    Run,
    Stmt,
    Store,
    Value,
    Var,
)

LEAST_BYTES = 1 << 22
"""Smaller arrays stay in a cache by themselves."""
BLOCK_BYTES = 1 << 21
"""As much of an array as a block may hold."""
LEAST_MEMBERS = 8
"""Blocks of fewer members leave threads without work."""
PRODUCTS = ("ft_gemm_f", "ft_gemv_f", "ft_small_f")
_M, _N, _K, _A, _B, _C, _BATCH = 0, 1, 2, 3, 6, 9, 11
_STEPS = {
    _A: ((_M, 4), (_K, 5), (_BATCH, 12)),
    _B: ((_K, 7), (_N, 8), (_BATCH, 13)),
    _C: ((_M, 10), (_BATCH, 14)),
}
"""Where a product's arguments have its operands and result, and their counts and strides: the
columns of the result are adjacent."""


class Span(NamedTuple):
    """Numbers `slope` times the outer loop's variable plus something in [low, high]."""

    slope: int
    low: int
    high: int


class Touch(NamedTuple):
    """What one iteration of the outer loop reads or writes of a buffer."""

    buffer: Buffer
    span: Span
    writes: bool


@dataclass
class Member:
    """A kernel that is one loop of independent iterations, or one call for a batch."""

    kernel: Kernel
    before: list[Stmt]
    loop: For | CallExtern
    extent: int
    touches: list[Touch] = field(default_factory=list)


class Opaque(Exception):
    """Something of which nobody can say what memory it touches."""


class Blocked(NamedTuple):
    """A program, and a line for each of its kernels that was several."""

    program: Program
    lines: list[str]


def in_blocks(program: Program) -> Blocked:
    """The program with runs of kernels made one where that keeps arrays in a cache."""
    if not any(is_large(b) for b in program.buffers if b.kind == "temp"):
        return Blocked(program, [])
    members = [member_of(kernel) for kernel in program.kernels]
    kernels: list[Kernel] = []
    buffers = {b.name: b for b in program.buffers}
    lines: list[str] = []
    arena, at = program.arena_bytes, 0
    while at < len(members):
        run = longest_run(members, at)
        merger = Merger(run, private_of(run, program), arena) if run else None
        if merger is None or not merger.settle():
            kernels.append(program.kernels[at])
            at += 1
            continue
        kernels.append(merger.merged())
        buffers |= merger.replaced
        names = ", ".join([member.kernel.name for member in run])
        lines.append(f"{names}: together, block by block of {merger.count}")
        arena, at = merger.arena, at + len(run)
    made = Program(program.name, list(buffers.values()), kernels, arena, program.errors)
    return Blocked(made, lines)


def is_large(buffer: Buffer) -> bool:
    return bytes_of(buffer) >= LEAST_BYTES


def bytes_of(buffer: Buffer) -> int:
    return buffer.size * ITEMSIZE[buffer.dtype]


# -- what a kernel touches --------------------------------------------------------------------


def member_of(kernel: Kernel) -> Member | None:
    """The kernel's outer loop and what it touches; None where it has none, or is opaque."""
    if not kernel.body.stmts:
        return None
    *before, last = kernel.body.stmts
    if not all(isinstance(s, Op) for s in before):
        return None
    if isinstance(last, CallExtern) and last.symbol.startswith(PRODUCTS):
        extent = number(last.args[_BATCH])
    elif isinstance(last, For) and last.kind in ("serial", "parallel") and not last.carries:
        extent = static_extent(last)
    else:
        return None
    if extent is None or extent < 2:
        return None
    member = Member(kernel, before, last, extent)
    try:
        if isinstance(last, For):
            member.touches = list(touches(last.body, {last.var: Span(1, 0, 0)}))
        else:
            member.touches = list(product_touches(last, {}, spread=True))
    except Opaque:
        return None
    return member


def touches(block: Block, spans: dict[Value, Span]) -> Iterator[Touch]:
    """What a block touches; `spans` of the loop variables around it."""
    for stmt in block.stmts:
        match stmt:
            case Op():
                pass
            case Load():
                yield Touch(stmt.buffer, span_of(stmt.offset, spans), False)
            case Store():
                yield Touch(stmt.buffer, span_of(stmt.offset, spans), True)
            case For():
                extent = static_extent(stmt)
                if extent is None:
                    raise Opaque
                yield from touches(stmt.body, spans | {stmt.var: Span(0, 0, max(extent - 1, 0))})
            case CallExtern() if stmt.symbol.startswith(PRODUCTS):
                yield from product_touches(stmt, spans)
            case _:
                raise Opaque


def span_of(value: Value, spans: dict[Value, Span]) -> Span:
    """The span of an offset, a sum of multiples of loop variables."""
    if value in spans:
        return spans[value]
    if isinstance(value, Const):
        return Span(0, int(value.value), int(value.value))
    if not isinstance(value, Op) or value.name not in ("add", "sub", "mul"):
        raise Opaque
    a, b = (span_of(x, spans) for x in value.args)
    if value.name == "add":
        return Span(a.slope + b.slope, a.low + b.low, a.high + b.high)
    if value.name == "sub":
        return Span(a.slope - b.slope, a.low - b.high, a.high - b.low)
    if b.slope or b.low != b.high or b.low < 0:
        raise Opaque
    return Span(a.slope * b.low, a.low * b.low, a.high * b.low)


def product_touches(
    call: CallExtern, spans: dict[Value, Span], spread: bool = False
) -> Iterator[Touch]:
    """The operands and the result of a product; with `spread` its batch is the outer loop."""
    for place, steps in _STEPS.items():
        pointer = call.args[place]
        assert isinstance(pointer, Pointer)
        slope, low, high = span_of(pointer.offset, spans)
        for count, step in steps:
            distance = number(call.args[step])
            if distance < 0:
                raise Opaque
            if spread and count == _BATCH:
                slope += distance
            else:
                high += (number(call.args[count]) - 1) * distance
        high += number(call.args[_N]) - 1 if place == _C else 0
        yield Touch(pointer.buffer, Span(slope, low, high), place == _C)


def number(value: Value | Pointer) -> int:
    if not isinstance(value, Const):
        raise Opaque
    return int(value.value)


# -- which kernels go together ----------------------------------------------------------------


def longest_run(members: Sequence[Member | None], at: int) -> list[Member]:
    """The longest run of kernels from `at` on that may go through the batch together, or none."""
    run: list[Member] = []
    for member in members[at:]:
        if member is None or block_count([*run, member]) is None:
            break
        run.append(member)
    while run and not pays(run):
        run.pop()
    return run if len(run) > 1 else []


def handed_on(run: Sequence[Member]) -> dict[str, list[tuple[Member, Touch]]]:
    """What several kernels of a run touch and one writes, by buffer."""
    found: dict[str, list[tuple[Member, Touch]]] = {}
    for member in run:
        for touch in member.touches:
            if touch.buffer.kind != "local":
                found.setdefault(touch.buffer.name, []).append((member, touch))
    return {
        name: all_touches
        for name, all_touches in found.items()
        if len({id(member) for member, _ in all_touches}) > 1
        and any(touch.writes for _, touch in all_touches)
    }


def block_count(run: Sequence[Member]) -> int | None:
    """Into how many blocks the outer loops of a run are cut; None where they cannot be."""
    shared = 0
    for member in run:
        shared = gcd(shared, member.extent)
    between = handed_on(run)
    largest = max((bytes_of(t[0][1].buffer) for t in between.values()), default=0)
    counts = [n for n in range(2, shared + 1) if shared % n == 0 and largest <= n * BLOCK_BYTES]
    if not counts or not all(
        isinstance(m.loop, CallExtern) or calls(m.loop) or m.extent >= counts[0] * LEAST_MEMBERS
        for m in run
    ):
        return None
    if any(block_size(all_touches, counts[0]) is None for all_touches in between.values()):
        return None
    return counts[0]


def calls(loop: For) -> bool:
    """Is it a loop of calls, which have threads of their own?"""
    return any(isinstance(stmt, CallExtern) for stmt in loop.body.stmts)


def block_size(all_touches: Sequence[tuple[Member, Touch]], count: int) -> int | None:
    """How many elements of a buffer each block has to itself; None where blocks meet."""
    sizes: set[int] = set()
    for member, (_, (slope, low, high), _) in all_touches:
        each = member.extent // count
        sizes.add(slope * each)
        if slope <= 0 or low < 0 or high + slope * (each - 1) >= slope * each:
            return None
    return sizes.pop() if len(sizes) == 1 else None


def pays(run: Sequence[Member]) -> bool:
    """Do its first and last kernel have to do with arrays, handed on, too large for a cache?"""
    between = [touched for touched in handed_on(run).values() if is_large(touched[0][1].buffer)]
    served = {id(member) for touched in between for member, _ in touched}
    return {id(run[0]), id(run[-1])} <= served


def private_of(run: Sequence[Member], program: Program) -> set[str]:
    """The names of temps that only the kernels of a run touch."""
    mine = {id(member.kernel) for member in run}
    seen = {
        name
        for kernel in program.kernels
        if id(kernel) not in mine
        for name in names_in(kernel.body)
    }
    temps = {b.name for b in program.buffers if b.kind == "temp"}
    return (temps & handed_on(run).keys()) - seen


def names_in(block: Block) -> Iterator[str]:
    """The names of all buffers that a block mentions."""
    for stmt in block.stmts:
        pointers: Sequence[object] = ()
        match stmt:
            case Load() | Store() | Address() | Grow():
                yield stmt.buffer.name
            case CallExtern():
                pointers = stmt.args
            case Callback():
                pointers = stmt.pointers
            case Run():
                pointers = (stmt.inputs, stmt.outputs, stmt.arena)
            case _:
                for inner in inner_blocks(stmt):
                    yield from names_in(inner)
        yield from [p.buffer.name for p in pointers if isinstance(p, Pointer)]


# -- one kernel of many -----------------------------------------------------------------------


class Merger:
    """Writes a run of kernels as one, whose outer loop goes over blocks."""

    def __init__(self, run: Sequence[Member], private: set[str], arena: int) -> None:
        count = block_count(run)
        assert count is not None
        self.run, self.count, self.arena = run, count, arena
        self.block = Var("i64", 1, "i")
        self.replaced: dict[str, Buffer] = {}
        self.starts: dict[str, Value] = {}
        self.values: dict[Value, Value] = {}
        self.stmts: list[Stmt] = []
        between = handed_on(run)
        for name in sorted(private):
            size = block_size(between[name], count)
            assert size is not None
            old = between[name][0][1].buffer
            self.replaced[name] = old._replace(size=size)
            self.starts[name] = self.op("mul", self.block, Const("i64", size))

    def merged(self) -> Kernel:
        """The kernel."""
        for member in self.run:
            self.member(member)
        loop = For(self.block, Const("i64", self.count), Block(self.stmts))
        before = [stmt for member in self.run for stmt in member.before]
        return Kernel(self.run[0].kernel.name, Block([*before, loop]))

    def settle(self) -> bool:
        """Find the private buffers places where nothing else of the run lies.

        False where memory that one of the kernels gives back is what a later one takes.
        """
        temps = {t.buffer.name: t.buffer for m in self.run for t in m.touches}
        temps = {n: self.replaced.get(n, b) for n, b in temps.items() if b.kind == "temp"}
        for name, buffer in self.replaced.items():
            if any(overlap(buffer, b) for n, b in temps.items() if n != name):
                place = -(-self.arena // 64) * 64
                self.replaced[name] = temps[name] = buffer._replace(place=place)
                self.arena = place + bytes_of(buffer)
        return not any(overlap(a, b) for a, b in combinations(temps.values(), 2))

    def op(self, name: str, a: Value, b: Value) -> Op:
        made = Op("i64", 1, name, (a, b))
        self.stmts.append(made)
        return made

    def member(self, member: Member) -> None:
        """A block's share of one kernel."""
        each = member.extent // self.count
        if isinstance(member.loop, CallExtern):
            self.stmts.append(self.share_of(member.loop, each))
            return
        first = self.op("mul", self.block, Const("i64", each))
        loop, var = member.loop, Var("i64", 2, "i")
        outer, self.stmts = self.stmts, []
        self.values[loop.var] = self.op("add", first, var)
        for stmt in loop.body.stmts:
            self.copy(stmt)
        body, self.stmts = self.stmts, outer
        self.stmts.append(For(var, Const("i64", each), Block(body), (), loop.kind))

    def share_of(self, call: CallExtern, each: int) -> CallExtern:
        """A call for the products of one block."""
        args = list(call.args)
        for place, steps in _STEPS.items():
            pointer, distance = call.args[place], number(call.args[steps[-1][1]])
            assert isinstance(pointer, Pointer)
            moved = self.op("mul", self.block, Const("i64", distance * each))
            offset = self.op("add", pointer.offset, moved)
            args[place] = self.pointer(Pointer(pointer.buffer, offset))
        args[_BATCH] = Const("i64", each)
        return CallExtern(call.symbol, tuple(args))

    def value(self, value: Value) -> Value:
        return self.values.get(value, value)

    def place(self, buffer: Buffer, offset: Value) -> tuple[Buffer, Value]:
        """Where an element lies: in a smaller buffer, as far from the start of the block."""
        if buffer.name not in self.replaced:
            return buffer, self.value(offset)
        start = self.starts[buffer.name]
        return self.replaced[buffer.name], self.op("sub", self.value(offset), start)

    def pointer(self, pointer: Pointer) -> Pointer:
        return Pointer(*self.place(*pointer))

    def copy(self, stmt: Stmt) -> None:
        """A statement of the loop of a kernel, with the values that it has in a block."""
        match stmt:
            case Op():
                made = Op(stmt.dtype, stmt.level, stmt.name, tuple(map(self.value, stmt.args)))
                self.values[stmt] = made
                self.stmts.append(made)
            case Load():
                buffer, offset = self.place(stmt.buffer, stmt.offset)
                where = None if stmt.where is None else self.value(stmt.where)
                other = None if stmt.other is None else self.value(stmt.other)
                self.values[stmt] = load = Load(stmt.level, buffer, offset, where, other)
                self.stmts.append(load)
            case Store():
                buffer, offset = self.place(stmt.buffer, stmt.offset)
                where = None if stmt.where is None else self.value(stmt.where)
                self.stmts.append(Store(buffer, offset, self.value(stmt.value), where))
            case For():
                self.loop(stmt)
            case CallExtern():
                args = [
                    self.pointer(a) if isinstance(a, Pointer) else self.value(a) for a in stmt.args
                ]
                self.stmts.append(CallExtern(stmt.symbol, tuple(args), stmt.result))
            case _:
                raise Opaque

    def loop(self, loop: For) -> None:
        outer, self.stmts = self.stmts, []
        inits = [self.value(carry.init) for carry in loop.carries]
        for stmt in loop.body.stmts:
            self.copy(stmt)
        carries = tuple(
            Carry(init, c.phi, self.value(c.next), c.result, c.combine)
            for init, c in zip(inits, loop.carries, strict=True)
        )
        body, self.stmts = self.stmts, outer
        extent = self.value(loop.extent)
        self.stmts.append(For(loop.var, extent, Block(body), carries, loop.kind, loop.grain))


def overlap(a: Buffer, b: Buffer) -> bool:
    """Do two places in the arena share bytes?"""
    return a.place < b.place + bytes_of(b) and b.place < a.place + bytes_of(a)
