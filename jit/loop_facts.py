"""What the emitter must know of a loop before it writes it: weight, element size, strides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import inf

from jit.loop_ir.nodes import (
    INTRINSICS,
    ITEMSIZE,
    LANE_BYTES,
    LANEWISE,
    Address,
    Block,
    Callback,
    CallExtern,
    Carry,
    Const,
    For,
    If,
    Load,
    Op,
    Pointer,
    Run,
    Stmt,
    Store,
    Value,
    While,
    inner_blocks,
    static_extent,
)
from jit.loop_ir.weights import INTRINSIC_WEIGHT, weigh
from jit.memory import CLOSE
from jit.vectors import Target

AFFINE = frozenset({"add", "sub", "mul"})
# The body of a loop that weighs more than this is written once, under a mask where there is one.
LARGE = 60
# Chains of steps that wait for each other go so many vectors at a time, while registers suffice.
ABREAST, MOST_ABREAST, LEAST_WAIT = 2, 4, 3
# So do bodies of so many instructions one after the other, and of at most so many times as many.
CHAINS_ABREAST, LONG_WAIT, CHAIN = 4, 75, 2
# A parallel loop of less volume, some 50 us, does not pay for waking a thread that sleeps.
SMALL_VOLUME = 1_250_000
# One of more, some milliseconds, pays for compiling more.
LONG_VOLUME = 1 << 26
# A buffer of so many bytes is not in a cache when it is met again; one of many more would only
# drive out what is.
FAR_BYTES = 1 << 24
# Nor is one of so many in a cache near by.
LARGE_BYTES = 1 << 20
STREAM_BYTES = 1 << 26


def is_straight(block: Block) -> bool:
    """Does a block run each of its statements once at most?"""
    for stmt in block.stmts:
        match stmt:
            case For() | While():
                return False
            case If():
                if not (is_straight(stmt.then) and is_straight(stmt.orelse)):
                    return False
            case _:
                pass
    return True


def has_call(block: Block) -> bool:
    """Does a block call functions of the runtime?"""
    return any(
        isinstance(stmt, CallExtern) or any(map(has_call, inner_blocks(stmt)))
        for stmt in block.stmts
    )


def volume(stmt: For) -> float:
    """Roughly the number of instructions that a loop runs; infinite where that is not known."""
    n = static_extent(stmt)
    return inf if n is None else n * block_volume(stmt.body)


def block_volume(block: Block) -> float:
    """The same for one pass through a block."""
    total = 0.0
    for stmt in block.stmts:
        match stmt:
            case For():
                total += 4 + volume(stmt)
            case If():
                total += max(block_volume(stmt.then), block_volume(stmt.orelse))
            case While() | CallExtern() | Callback() | Run():
                return inf
            case Op():
                total += INTRINSIC_WEIGHT if stmt.name in INTRINSICS else 1
            case _:
                total += 1
    return total


def buffers_read(block: Block) -> Iterator[str]:
    """The names of the buffers that a block loads from, or that others may."""
    for stmt in block.stmts:
        match stmt:
            case Load():
                yield stmt.buffer.name
            case CallExtern():
                yield from [x.buffer.name for x in stmt.args if isinstance(x, Pointer)]
            case Callback():
                yield from [x.buffer.name for x in stmt.pointers]
            case Address():
                yield stmt.buffer.name
            case _:
                for inner in inner_blocks(stmt):
                    yield from buffers_read(inner)


def buffers_written(block: Block) -> Iterator[str]:
    """The names of the buffers that a block stores to."""
    for stmt in block.stmts:
        if isinstance(stmt, Store):
            yield stmt.buffer.name
        for inner in inner_blocks(stmt):
            yield from buffers_written(inner)


def intrinsic_count(block: Block) -> int:
    """How many calls of elementary functions a body holds."""
    count = 0
    for stmt in block.stmts:
        match stmt:
            case Op():
                count += stmt.name in INTRINSICS
            case _:
                count += sum(map(intrinsic_count, inner_blocks(stmt)))
    return count


def widest(block: Block, carries: Sequence[Carry]) -> int:
    """The size in bytes of the widest data in a loop; index arithmetic does not count."""
    sizes = [ITEMSIZE[carry.init.dtype] for carry in carries]
    for stmt in block.stmts:
        match stmt:
            case Op() if stmt.dtype != "i64" and stmt.dtype != "bool":
                sizes.append(ITEMSIZE[stmt.dtype])
            case Load() | Store():
                sizes.append(ITEMSIZE[stmt.buffer.dtype])
            case For() | While():
                sizes += [widest(block, stmt.carries) for block in inner_blocks(stmt)]
            case _:
                sizes += [widest(block, ()) for block in inner_blocks(stmt)]
    return max(sizes, default=1)


def stride_of(value: Value, var: Value, known: dict[Value, int | None]) -> int | None:
    """By how much an offset grows with var: 0, a constant, or None when it is not linear."""
    if value is var:
        return 1
    if not isinstance(value, Op):
        return None if isinstance(value, Load) else 0
    if value.name in LANEWISE:
        return int(value.name == "lane" and value.args[0] is var)
    if value not in known:
        strides = [stride_of(a, var, known) for a in value.args]
        known[value] = combine_strides(value, strides)
    return known[value]


def combine_strides(op: Op, strides: Sequence[int | None]) -> int | None:
    """The stride of an operation from those of its operands."""
    if not any(strides) and None not in strides:
        return 0
    if op.dtype != "i64" or op.name not in AFFINE or None in strides:
        return None
    a, b = strides[0] or 0, strides[1] or 0
    if op.name == "mul":
        factor = op.args[1]
        return a * int(factor.value) if isinstance(factor, Const) else None
    return a + b if op.name == "add" else a - b


def is_contiguous(block: Block, var: Value, known: dict[Value, int | None]) -> bool:
    """Whether all memory accesses of a vector loop have stride 0 or 1."""
    for stmt in block.stmts:
        match stmt:
            case Load() | Store():
                if stride_of(stmt.offset, var, known) not in (0, 1):
                    return False
            case _:
                if not all(is_contiguous(b, var, known) for b in inner_blocks(stmt)):
                    return False
    return True


def moves_runs(block: Block, var: Value, known: dict[Value, int | None]) -> bool:
    """Does a vector loop walk backwards or in short strides anywhere?

    Whole vectors then move runs of elements; under a mask each lane is gathered or scattered.
    """
    for stmt in block.stmts:
        match stmt:
            case Load() | Store():
                stride = stride_of(stmt.offset, var, known)
                if stride is not None and (stride == -1 or 2 <= stride <= CLOSE):
                    return True
            case _:
                if any(moves_runs(inner, var, known) for inner in inner_blocks(stmt)):
                    return True
    return False


def arrivals(block: Block, known: Iterable[Value]) -> dict[Value, int]:
    """After how many instructions each value is there that waits for some of those `known`."""
    after = dict.fromkeys(known, 0)
    for stmt in block.stmts:
        if isinstance(stmt, Op):
            met = [after[a] for a in stmt.args if a in after]
            if met:
                after[stmt] = max(met) + (INTRINSIC_WEIGHT if stmt.name in INTRINSICS else 1)
    return after


def waits(stmt: Stmt) -> bool:
    """Is it a loop whose steps take some time on what the step before has made?

    A fold does not: each of its steps is a single operation on the total.
    """
    if not isinstance(stmt, For) or not 0 < len(stmt.carries) <= MOST_ABREAST:
        return False
    after = arrivals(stmt.body, [carry.phi for carry in stmt.carries])
    return max(after.get(carry.next, 0) for carry in stmt.carries) >= LEAST_WAIT


def is_chain(block: Block) -> bool:
    """Does most of a long body wait for one instruction after the other?

    A processor looks ahead some hundreds of instructions, and does not reach the next iteration.
    """
    if any(inner_blocks(stmt) for stmt in block.stmts):
        return False
    after = arrivals(block, [stmt for stmt in block.stmts if isinstance(stmt, Load)])
    depth = max(after.values(), default=0)
    return depth >= LONG_WAIT and weigh(block) <= CHAIN * depth


def abreast(stmt: For) -> int:
    """How many vectors at a time a vector loop takes, if there is room for so many lanes."""
    if is_chain(stmt.body):
        return CHAINS_ABREAST
    return ABREAST if any(waits(s) for s in stmt.body.stmts) else 1


def lane_count(target: Target, stmt: For) -> int:
    """How many lanes a vector loop runs on."""
    size = widest(stmt.body, stmt.carries)
    lanes = max(target.vector_bytes // size, 1)
    lanes = min(abreast(stmt) * lanes, LANE_BYTES // size)
    if lanes > 16 and not is_contiguous(stmt.body, stmt.var, {}):
        lanes = 16
    n = static_extent(stmt)
    while n is not None and stmt.kind == "vector" and lanes >= 2 * max(n, 1):
        lanes //= 2
    return lanes


def unroll_count(stmt: For, lanes: int) -> int:
    """How many vectors one iteration of the main loop takes."""
    weight = stmt.weight or weigh(stmt.body)
    if any(inner_blocks(s) for s in stmt.body.stmts):
        return 1
    count = 4 if weight <= 12 else 2 if weight <= 30 else 1
    if not stmt.carries:
        count = 2 if weight <= 12 else 1
    n = static_extent(stmt)
    while n is not None and count > 1 and n < 2 * lanes * count:
        count //= 2
    return count


class Varying:
    """The values of a vector loop that may differ from lane to lane."""

    def __init__(self, stmt: For) -> None:
        self.values: set[Value] = {stmt.var, *[c.phi for c in stmt.carries]}
        self.count = -1
        while self.count != len(self.values):
            self.count = len(self.values)
            self.block(stmt.body)

    def __contains__(self, value: Value) -> bool:
        return value in self.values

    def any(self, *values: Value | None) -> bool:
        return any(value in self.values for value in values)

    def add_if(self, varies: bool, *values: Value) -> None:
        if varies:
            self.values.update(values)

    def block(self, block: Block) -> None:
        """One look at each statement; carries need several."""
        for stmt in block.stmts:
            match stmt:
                case Op():
                    same = stmt.name in ("lanes", "most")
                    self.add_if(not same and self.any(*stmt.args), stmt)
                case Load():
                    self.add_if(self.any(stmt.offset, stmt.where, stmt.other), stmt)
                case For():
                    self.block(stmt.body)
                    self.carries(stmt.carries, False)
                case While():
                    self.block(stmt.test_block)
                    self.block(stmt.body)
                    self.carries(stmt.carries, self.any(stmt.test))
                case If():
                    self.block(stmt.then)
                    self.block(stmt.orelse)
                    for join in stmt.joins:
                        self.add_if(self.any(stmt.cond, join.then, join.orelse), join.result)
                case _:
                    pass

    def carries(self, carries: Sequence[Carry], all_vary: bool) -> None:
        """Where lanes stop at different times every carry differs."""
        for carry in carries:
            varies = all_vary or self.any(carry.init, carry.next, carry.phi)
            self.add_if(varies, carry.phi, carry.result)
