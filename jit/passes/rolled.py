"""Makes loops of steps that were written out one after the other.

A Python loop traces to all of its steps, and so do its derivatives. What runs is the same either
way, but the code of a loop is written and compiled once, and that of a thousand steps takes LLVM a
thousand times as long. Invariant: every value is computed by the same operations on the same
operands, so no bit of a result depends on this pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import NamedTuple, TypeAlias

import numpy as np

from jit.loop_ir.nodes import (
    FLOATS,
    ITEMSIZE,
    LANE_BYTES,
    Block,
    Buffer,
    Carry,
    Const,
    DType,
    For,
    Grow,
    Kernel,
    Load,
    Op,
    Program,
    Stmt,
    Store,
    Value,
    Var,
    may_write,
    operands,
    reads,
)
from jit.names import NO_MEMORY
from jit.passes.repeats import (
    Again,
    Each,
    Element,
    Finder,
    Lag,
    Left,
    Operand,
    Repeat,
    Same,
    Source,
)

LEAST = 200
"""Loops save at least so many statements of a block: fewer are soon compiled."""
MOST_ON_STACK, MOST_NOTED = 1 << 14, 1 << 20
"""What takes more bytes for all steps is on the heap, and what takes too many is not noted."""
NO_TABLES: frozenset[DType] = frozenset({"bool", "bf16"})
"""The types whose literals must be the same in all steps: NumPy lays them out otherwise, or not."""

Slot: TypeAlias = tuple[int, int]
"""A repetition, and a statement of its steps."""


class Rolled(NamedTuple):
    """A program, and a line for each loop that was made."""

    program: Program
    lines: list[str]


def rolled(program: Program) -> Rolled:
    """The program with steps that repeat as loops."""
    made: dict[object, Buffer] = {}
    lines: list[str] = []
    kernels: list[Kernel] = []
    # The table is that of the programs around this one too.
    errors = program.errors if isinstance(program.errors, list) else list(program.errors)
    for kernel in program.kernels:
        roller = Roller(made, errors, set(may_write(kernel.body)))
        body, _ = roller.block(kernel.body, None, [])
        kernels.append(kernel if body is kernel.body else Kernel(kernel.name, body))
        lines += [f"{kernel.name}: {line}" for line in roller.lines]
    if not lines:
        return Rolled(program, [])
    buffers = [*program.buffers, *made.values()]
    result = Program(program.name, buffers, kernels, program.arena_bytes, errors)
    return Rolled(result, lines)


class Roller:
    """One kernel, its blocks from outside in.

    `made` are the new buffers of a program. Kernels have theirs on the stack in common, so that
    those which are alike stay so. `written` are the names of those that the kernel writes to.
    """

    def __init__(self, made: dict[object, Buffer], errors: list[str], written: Set[str]) -> None:
        self.made = made
        self.errors = errors
        self.written = written
        self.rooms = 0
        self.lines: list[str] = []

    def block(
        self, block: Block, lanes: Var | None, results: Sequence[Value]
    ) -> tuple[Block, Sequence[Value]]:
        """The block with its repetitions as loops, and what is left of values it hands on.

        lanes: the variable of the vector loop around it, if there is one.
        """
        if len(block.stmts) >= LEAST:
            finder = Finder(block, self.written)
            writer = BlockWriter(self, finder, lanes, results) if finder.run() else None
            if writer is not None and writer.pays():
                self.lines += [group.line() for group in writer.groups.values()]
                return writer.write()
        stmts = [self.stmt(stmt, lanes) for stmt in block.stmts]
        same = all(a is b for a, b in zip(stmts, block.stmts, strict=True))
        return (block if same else Block(stmts)), results

    def stmt(self, stmt: Stmt, lanes: Var | None) -> Stmt:
        """A statement, with what it holds."""
        if type(stmt) is not For:
            return stmt
        inside = stmt.var if stmt.kind in ("vector", "parallel_vector") else lanes
        body, nexts = self.block(stmt.body, inside, [carry.next for carry in stmt.carries])
        if body is stmt.body:
            return stmt
        pairs = zip(stmt.carries, nexts, strict=True)
        carries = tuple([Carry(c.init, c.phi, after, c.result, c.combine) for c, after in pairs])
        return For(stmt.var, stmt.extent, body, carries, stmt.kind, stmt.grain, stmt.weight)

    def table(self, literals: Each) -> Buffer:
        """Literals in memory, once for a program."""
        kind = f"{literals.dtype[0]}{ITEMSIZE[literals.dtype]}"
        data = np.array(literals.values, kind).tobytes()
        name = f"table{len(self.made)}"
        made = Buffer(name, literals.dtype, len(literals.values), "const", 0, data)
        return self.made.setdefault((literals.dtype, data), made)

    def room(self, dtype: DType, count: int) -> Buffer:
        """A buffer of the kernel alone."""
        key = (self.rooms, dtype, count)
        self.rooms += 1
        small = count * ITEMSIZE[dtype] <= MOST_ON_STACK
        name = f"noted{len(self.made)}"
        made = Buffer(name, dtype, *((count, "local") if small else (0, "grown")))
        return self.made.setdefault(key, made)

    def grow(self, room: Buffer, count: int) -> Grow:
        if NO_MEMORY not in self.errors:
            self.errors.append(NO_MEMORY)
        return Grow(room, Const("i64", count), self.errors.index(NO_MEMORY) + 1)


class Group:
    """Repetitions that are one loop, which stands at statement `at`."""

    def __init__(self, first: Repeat) -> None:
        self.at = first.first
        self.steps = first.steps
        self.members: list[Slot] = []

    def line(self) -> str:
        return f"{self.steps} steps of {len(self.members)} statements, written out, are a loop"


class BlockWriter:
    """One block, its repetitions as loops.

    origins: the repetition, statement and step of each value that a repetition makes
    noted: what other loops, or single statements, read of more than the last step
    last: what single statements read of the last step
    rooms: where they are noted; finals: what loops leave of their last steps
    values: what stands for a value of the block as it was
    """

    def __init__(
        self, roller: Roller, finder: Finder, lanes: Var | None, results: Sequence[Value]
    ) -> None:
        self.roller = roller
        self.lanes = lanes
        self.results = results
        self.stmts = finder.stmts
        self.repeats = finder.found
        self.groups: dict[int, Group] = {}
        for number, repeat in enumerate(self.repeats):
            group = self.groups.setdefault(repeat.loop, Group(repeat))
            group.members += [(number, slot) for slot in range(repeat.period)]
        self.origins: dict[Value, tuple[int, int, int]] = {}
        for number, repeat in enumerate(self.repeats):
            for slot in range(repeat.period):
                made = self.stmts[repeat.first + slot : repeat.stop : repeat.period]
                for step, stmt in enumerate(made):
                    if type(stmt) is Op or type(stmt) is Load:
                        self.origins[stmt] = number, slot, step
        self.read_singly = {v for v in self.single_reads() if v in self.origins}
        self.last: set[Slot] = set()
        self.noted: set[Slot] = set()
        self.find_noted()
        self.rooms: dict[Slot, Buffer] = {}
        self.finals: dict[Slot, Value] = {}
        self.values: dict[Value, Value] = {}
        self.out: list[Stmt] = []

    # What is read of them

    def sources(self) -> Iterator[Source]:
        """Where the operands of all repetitions come from, and those of what is made again."""
        waiting = [source for repeat in self.repeats for row in repeat.sources for source in row]
        while waiting:
            source = waiting.pop()
            yield source
            if type(source) is Again:
                waiting += source.args

    def single_reads(self) -> Iterator[Operand]:
        """What is read of single steps."""
        yield from self.results
        yield from (v for stmt in self.single_stmts() for v in reads(stmt))
        for source in self.sources():
            match source:
                case Same():
                    yield source.value
                case Lag():
                    yield from source.inits
                case _:
                    pass

    def single_stmts(self) -> Iterator[Stmt]:
        """The statements outside all repetitions."""
        place = 0
        for repeat in self.repeats:
            yield from self.stmts[place : repeat.first]
            place = repeat.stop
        yield from self.stmts[place:]

    def find_noted(self) -> None:
        for value in self.read_singly:
            number, slot, step = self.origins[value]
            is_last = step == self.repeats[number].steps - 1
            (self.last if is_last else self.noted).add((number, slot))
        for source in self.sources():
            if type(source) is Left:
                self.noted.add((source.of, source.slot))

    def pays(self) -> bool:
        """Is there a repetition, little read of single steps, and room for what is noted?"""
        return (
            sum(repeat.saved for repeat in self.repeats) >= max(LEAST, 4 * len(self.read_singly))
            and not any(s.dtype in NO_TABLES for s in self.sources() if type(s) is Each)
            and all(self.room_bytes(slot) <= MOST_NOTED for slot in self.noted)
            and self.are_alone()
        )

    def are_alone(self) -> bool:
        """Do only operations, loads and stores read what becomes another value?"""
        renewed: set[Value] = set()
        for stmt in self.single_stmts():
            if any(value in self.origins or value in renewed for value in reads(stmt)):
                if not isinstance(stmt, Op | Load | Store):
                    return False
                if not isinstance(stmt, Store):
                    renewed.add(stmt)
        return True

    def stmt_of(self, slot: Slot) -> Stmt:
        """A statement of the first step."""
        return self.stmts[self.repeats[slot[0]].first + slot[1]]

    def dtype(self, slot: Slot) -> DType:
        stmt = self.stmt_of(slot)
        assert isinstance(stmt, Op | Load)
        return stmt.dtype

    def room_bytes(self, slot: Slot) -> int:
        return self.room_size(slot) * ITEMSIZE[self.dtype(slot)]

    def room_size(self, slot: Slot) -> int:
        lanes = LANE_BYTES // ITEMSIZE[self.dtype(slot)] if self.lanes else 1
        return lanes * self.repeats[slot[0]].steps

    # What is written

    def write(self) -> tuple[Block, Sequence[Value]]:
        for slot in sorted(self.noted):
            size = self.room_size(slot)
            room = self.rooms[slot] = self.roller.room(self.dtype(slot), size)
            if room.kind == "grown":
                self.out.append(self.roller.grow(room, size))
        loops = {group.at: group for group in self.groups.values()}
        stops = {repeat.first: repeat.stop for repeat in self.repeats}
        place = 0
        while place < len(self.stmts):
            if place in loops:
                self.out.append(LoopWriter(self, loops[place]).write())
            if place in stops:
                place = stops[place]
            else:
                self.out.append(self.single(self.stmts[place]))
                place += 1
        results = [self.value(value) for value in self.results]
        return Block(self.out), results

    def single(self, stmt: Stmt) -> Stmt:
        """A statement outside all repetitions."""
        match stmt:
            case Op() | Load() | Store():
                read = [None if v is None else self.value(v) for v in operands(stmt)]
                if all(a is b for a, b in zip(read, operands(stmt), strict=True)):
                    return stmt
                made = renewed(stmt, read)
                if not isinstance(stmt, Store):
                    assert not isinstance(made, Store)
                    self.values[stmt] = made
                return made
            case _:
                return self.roller.stmt(stmt, self.lanes)

    def value(self, value: Value) -> Value:
        """What stands for a value of the block as it was."""
        origin = self.origins.get(value)
        if value in self.values or origin is None:
            return self.values.get(value, value)
        number, slot, step = origin
        if step == self.repeats[number].steps - 1:
            found: Value = self.finals[number, slot]
        else:
            found = self.load(self.out, (number, slot), self.place(self.out, Const("i64", step)))
        self.values[value] = found
        return found

    def place(self, out: list[Stmt], step: Value) -> Value:
        """Where something that was noted at a step lies, in this lane."""
        if self.lanes is None:
            return step
        lanes = Op("i64", 0, "lanes", (self.lanes,))
        lane = Op("i64", 0, "lane", (self.lanes,))
        start = Op("i64", 0, "mul", (step, lanes))
        place = Op("i64", 0, "add", (start, lane))
        out += [lanes, lane, start, place]
        return place

    def load(self, out: list[Stmt], slot: Slot, place: Value) -> Load:
        made = Load(0, self.rooms[slot], place)
        out.append(made)
        return made


class LoopWriter:
    """The loop of one group.

    made: what its statements have made in this step; at: where the notes of a step lie, by the
    first step and the way; lags: the carries of what is read so many steps later, a chain each
    """

    def __init__(self, around: BlockWriter, group: Group) -> None:
        self.around = around
        self.group = group
        self.var = Var("i64", 0, "k")
        self.out: list[Stmt] = []
        self.made: dict[Slot, Value] = {}
        self.at: dict[tuple[int, int], Value] = {}
        self.loads: dict[Left, Value] = {}
        self.lags: dict[tuple[Slot, tuple[Value, ...]], list[Carry]] = {}

    def write(self) -> For:
        around = self.around
        for number, slot in self.group.members:
            row = around.repeats[number].sources[slot]
            read = [self.read(source) for source in row]
            made = renewed(around.stmt_of((number, slot)), read)
            self.out.append(made)
            if not isinstance(made, Store):
                self.made[number, slot] = made
        for slot in self.group.members:
            if slot in around.last:
                around.finals[slot] = self.final(slot).result
            if slot in around.rooms:
                place = self.place(0, 1)
                self.out.append(Store(around.rooms[slot], place, self.made[slot]))
        for (slot, _), chain in self.lags.items():
            value = self.made[slot]
            for carry in chain:
                carry.next, value = value, carry.phi
        carries = tuple([carry for chain in self.lags.values() for carry in chain])
        return For(self.var, Const("i64", self.group.steps), Block(self.out), carries)

    def final(self, slot: Slot) -> Carry:
        """A carry whose result is what the last step made."""
        for (other, _), chain in self.lags.items():
            if other == slot:
                return chain[0]
        dtype = self.around.dtype(slot)
        nothing = Const(dtype, 0.0 if dtype in FLOATS else False if dtype == "bool" else 0)
        return self.chain(slot, (nothing,))[0]

    def chain(self, slot: Slot, inits: tuple[Value, ...]) -> list[Carry]:
        """Carries of which the first is what the step before made, the next what that before."""
        key = (slot, inits)
        if key not in self.lags:
            self.lags[key] = [carry_of(init) for init in reversed(inits)]
        return self.lags[key]

    def read(self, source: Source) -> Operand:
        """What an operand is in this step."""
        around = self.around
        match source:
            case Same():
                return None if source.value is None else around.value(source.value)
            case Each():
                return self.literal(source)
            case Element(buffer, first, way):
                made = Load(0, buffer, self.spaced(first, way))
                self.out.append(made)
                return made
            case Again(dtype, name, args):
                values = [self.read(arg) for arg in args]
                again = Op(dtype, 0, name, tuple([v for v in values if v is not None]))
                self.out.append(again)
                return again
            case Lag():
                slot = (source.of, source.slot)
                if not source.steps:
                    return self.made[slot]
                return self.chain(slot, tuple(map(around.value, source.inits)))[-1].phi
            case Left():
                slot = (source.of, source.slot)
                if source not in self.loads:
                    place = self.place(source.first, source.way)
                    self.loads[source] = around.load(self.out, slot, place)
                return self.loads[source]

    def place(self, first: int, way: int) -> Value:
        """Where the notes of step first + way * this one lie."""
        key = (first, way)
        if key not in self.at:
            self.at[key] = self.around.place(self.out, self.spaced(first, way))
        return self.at[key]

    def spaced(self, first: int, way: int) -> Value:
        """first + way * the number of this step."""
        if (first, way) == (0, 1):
            return self.var
        step: Value = self.var
        if way != 1:
            step = Op("i64", 0, "mul", (step, Const("i64", way)))
            self.out.append(step)
        made = Op("i64", 0, "add", (step, Const("i64", first)))
        self.out.append(made)
        return made

    def literal(self, source: Each) -> Value:
        """The literal of this step: of indices that are evenly spaced by arithmetic."""
        values = source.values
        if source.dtype == "i64":
            first, way = int(values[0]), int(values[1]) - int(values[0])
            if way and values == [first + way * k for k in range(len(values))]:
                return self.spaced(first, way)
        made = Load(0, self.around.roller.table(source), self.var)
        self.out.append(made)
        return made


def carry_of(init: Value) -> Carry:
    inside = Var(init.dtype, 0, "c")
    return Carry(init, inside, inside, Var(init.dtype, 0, "r"))


def renewed(stmt: Stmt, read: Sequence[Operand]) -> Op | Load | Store:
    """The same statement on other operands."""
    match stmt:
        case Op():
            return Op(stmt.dtype, stmt.level, stmt.name, tuple([v for v in read if v is not None]))
        case Load():
            offset, where, other = read
            assert offset is not None
            return Load(stmt.level, stmt.buffer, offset, where, other)
        case Store():
            offset, value, where = read
            assert offset is not None
            assert value is not None
            return Store(stmt.buffer, offset, value, where)
        case _:
            raise TypeError(f"{type(stmt).__name__} is not repeated")
