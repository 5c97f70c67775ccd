"""Writes kernels that go together as one, whose outer loop goes over blocks of what theirs go over.

Blocks are independent: threads take them as they come, and each works on its own block alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jit.loop_ir.nodes import (
    Block,
    Buffer,
    CallExtern,
    Carry,
    Const,
    For,
    Kernel,
    Load,
    LoopKind,
    Op,
    Pointer,
    Stmt,
    Store,
    Value,
    Var,
)
from jit.passes.touches import STEPS, Member, Opaque, number

ALONE: Mapping[LoopKind, LoopKind] = {"parallel": "serial", "parallel_vector": "vector"}
"""What becomes of loops for threads inside a block, which one thread has."""


class Cut(NamedTuple):
    """How outer loops are cut: each has `units` equal shares, and a block `size` of these.

    Each block has one thread, or, where they are `together`, all threads share each block. Where
    arrays are kept in one place for several blocks, these come in `lanes` rows, each in order.
    """

    units: int
    size: int
    lanes: int = 1
    together: bool = False

    @property
    def blocks(self) -> int:
        """Their number; the last may be smaller."""
        return -(-self.units // self.size)


class Merger:
    """Writes a run of kernels as one.

    `small` are buffers of the run alone, by name, with the elements that a block has of each: they
    become as large as the blocks that are worked on at once. `moved` says where they then lie.
    """

    def __init__(
        self, run: Sequence[Member], cut: Cut, small: Mapping[str, int], moved: Mapping[str, Buffer]
    ) -> None:
        self.run, self.cut, self.small, self.moved = run, cut, small, moved
        self.depth = 1
        self.stmts: list[Stmt] = []
        self.values: dict[Value, Value] = {}
        self.starts: dict[int, Value] = {}
        self.first: Value = Const("i64", 0)
        self.length: Value = Const("i64", cut.size)

    def merged(self) -> Kernel:
        """The kernel."""
        before = [stmt for member in self.run for stmt in member.before]
        cut, outer = self.cut, Var("i64", 1, "block")
        if self.small and not cut.together:
            each = -(-cut.blocks // cut.lanes)
            inner = Var("i64", 2, "block")
            first = self.op("mul", outer, Const("i64", each))
            left: Value = Const("i64", each)
            if cut.blocks % cut.lanes:
                left = self.op("min", self.op("sub", Const("i64", cut.blocks), first), left)
            lane, self.stmts, self.depth = self.stmts, [], 2
            self.one_block(self.op("add", first, inner), outer)
            body = [*lane, For(inner, left, Block(self.stmts))]
            extent = -(-cut.blocks // each)
        else:
            self.one_block(outer, Const("i64", 0))
            body, extent = self.stmts, cut.blocks
        kind: LoopKind = "serial" if cut.together else "parallel"
        loop = For(outer, Const("i64", extent), Block(body), (), kind)
        return Kernel(self.run[0].kernel.name, Block([*before, loop]))

    def one_block(self, block: Value, lane: Value) -> None:
        """The shares of all kernels in a block."""
        cut = self.cut
        self.first = self.op("mul", block, Const("i64", cut.size))
        if cut.units % cut.size:
            rest = self.op("sub", Const("i64", cut.units), self.first)
            self.length = self.op("min", rest, self.length)
        for size in dict.fromkeys(self.small.values()):
            start = self.op("mul", block, Const("i64", size))
            self.starts[size] = self.op("sub", start, self.times(lane, size))
        for member in self.run:
            self.member(member)

    def op(self, name: str, a: Value, b: Value) -> Value:
        if name in ("add", "sub") and isinstance(b, Const) and not b.value:
            return a
        made = Op("i64", self.depth, name, (a, b))
        self.stmts.append(made)
        return made

    def times(self, value: Value, factor: int) -> Value:
        """value * factor."""
        if factor == 1:
            return value
        if isinstance(value, Const):
            return Const("i64", int(value.value) * factor)
        return self.op("mul", value, Const("i64", factor))

    def member(self, member: Member) -> None:
        """A block's share of one kernel."""
        share = member.extent // self.cut.units
        first, count = self.times(self.first, share), self.times(self.length, share)
        if isinstance(member.loop, CallExtern):
            self.stmts.append(self.share_of(member.loop, member.counted, first, count))
            return
        loop, var = member.loop, Var("i64", self.depth + 1, "i")
        outer, self.stmts, self.depth = self.stmts, [], self.depth + 1
        self.values[loop.var] = self.op("add", first, var)
        for stmt in loop.body.stmts:
            self.copy(stmt)
        body, self.stmts, self.depth = self.stmts, outer, self.depth - 1
        self.stmts.append(For(var, count, Block(body), (), self.kind(loop), loop.grain))

    def share_of(self, call: CallExtern, counted: int, first: Value, count: Value) -> CallExtern:
        """A call for `count` of the products, or of the rows, from `first` on."""
        args = list(call.args)
        for place, steps in STEPS.items():
            pointer, distance = call.args[place], 0
            assert isinstance(pointer, Pointer)
            if counted in steps:
                distance = number(call.args[steps[counted]])
            offset = pointer.offset
            if distance:
                offset = self.op("add", self.times(first, distance), offset)
            args[place] = self.pointer(Pointer(pointer.buffer, offset))
        args[counted] = count
        return CallExtern(call.symbol, tuple(args))

    def value(self, value: Value) -> Value:
        return self.values.get(value, value)

    def place(self, buffer: Buffer, offset: Value) -> tuple[Buffer, Value]:
        """Where an element lies: in a smaller buffer, as far from the start of the block."""
        size = self.small.get(buffer.name)
        if size is None:
            return buffer, self.value(offset)
        return self.moved[buffer.name], self.op("sub", self.value(offset), self.starts[size])

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
        extent, kind = self.value(loop.extent), self.kind(loop)
        self.stmts.append(For(loop.var, extent, Block(body), carries, kind, loop.grain))

    def kind(self, loop: For) -> LoopKind:
        """How a loop runs inside a block: one thread has it, or all share it."""
        return loop.kind if self.cut.together else ALONE.get(loop.kind, loop.kind)
