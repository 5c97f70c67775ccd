"""Writes kernels that go together as one, whose outer loop goes over blocks of what theirs go over.

Blocks are independent: threads take them as they come, and each works on its own block alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

from jit.loop_ir.nodes import (
    Block,
    Buffer,
    CallExtern,
    Const,
    For,
    Kernel,
    LoopKind,
    Op,
    Pointer,
    Value,
    Var,
)
from jit.passes.copying import Copier
from jit.passes.touches import STEPS, Member, number


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


class Steps(NamedTuple):
    """What a block goes through of the loops of `member`, in their order there.

    Of those that `starts` tells of it is one iteration each, but `many` from there on of the last;
    of the others it is all.
    """

    member: Member
    starts: Sequence[Value]
    many: Value

    def start(self, place: int) -> Value | None:
        """Where the loop at `place` begins; None if the block goes through all of it."""
        at = self.member.order.index(place)
        return self.starts[at] if at < len(self.starts) else None

    def share(self, place: int) -> Value | None:
        """How many iterations of the loop at `place` there are, if some and not one."""
        at = self.member.order.index(place)
        return self.many if at == len(self.starts) - 1 else None

    def ends_before(self, place: int) -> bool:
        """Does the block go through all of the loops from `place` on?"""
        return all(self.start(k) is None for k in range(place, len(self.member.order)))


class Merger(Copier):
    """Writes a run of kernels as one.

    `small` are buffers of the run alone, by name, with the elements that a block has of each: they
    become as large as the blocks that are worked on at once. `moved` says where they then lie.
    """

    def __init__(
        self, run: Sequence[Member], cut: Cut, small: Mapping[str, int], moved: Mapping[str, Buffer]
    ) -> None:
        super().__init__()
        self.run, self.cut, self.small, self.moved = run, cut, small, moved
        self.depth = 1
        self.known: dict[tuple[object, ...], Value] = {}
        self.inside = False
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
        self.first = self.times(block, cut.size)
        if cut.units % cut.size:
            rest = self.op("sub", Const("i64", cut.units), self.first)
            self.length = self.op("min", rest, self.length)
        for size in dict.fromkeys(self.small.values()):
            start = self.op("mul", block, Const("i64", size))
            self.starts[size] = self.op("sub", start, self.times(lane, size))
        for member in self.run:
            self.member(member)

    def op(self, name: str, a: Value, b: Value) -> Value:
        """An operation on indices; of those outside the kernels' loops each is there once."""
        if name in ("add", "sub") and isinstance(b, Const) and not b.value:
            return a
        key = (self.depth, name, *[v.value if isinstance(v, Const) else v for v in (a, b)])
        if key in self.known:
            return self.known[key]
        made = Op("i64", self.depth, name, (a, b))
        self.stmts.append(made)
        if not self.inside:
            self.known[key] = made
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
        place, starts = 0, [first]
        if member.level > 1:
            found = member.steps(share * self.cut.size)
            assert found is not None
            place, count = found[0], Const("i64", found[1])
            starts = self.starts_of(member, first, place)
        self.part(member, Steps(member, starts, count), 0)

    def starts_of(self, member: Member, first: Value, place: int) -> list[Value]:
        """Where the outer loops stand at iteration `first`, as far as loop `place`."""
        starts: list[Value] = []
        for k in range(place + 1):
            extents = member.extents[k : member.level]
            inner = Const("i64", prod(extents[1:]))
            start = first if inner.value == 1 else self.op("div", first, inner)
            starts.append(self.op("rem", start, Const("i64", extents[0])) if k else start)
        return starts

    def part(self, member: Member, steps: Steps, place: int) -> None:
        """The loops of a kernel from `place` on, as a block goes through them."""
        if place == len(member.loops):
            self.stmts.append(self.share_of(member, steps))
            return
        loop, start, count = member.loops[place], steps.start(place), steps.share(place)
        if start is not None and count is None:
            self.values[loop.var] = start
            self.inner(member, steps, place)
            return
        kind, grain = loop.kind, loop.grain
        if member.loops[0].kind == "parallel":
            # All iterations are as independent as those of the loops around them.
            kind, grain = ("serial", 1) if self.inside else ("parallel", grain if not place else 1)
        var = Var("i64", self.depth + 1, "i")
        around, self.stmts, self.depth, inside = self.stmts, [], self.depth + 1, self.inside
        self.inside = True
        self.values[loop.var] = var if start is None else self.op("add", start, var)
        self.inner(member, steps, place)
        body, self.stmts, self.depth, self.inside = self.stmts, around, self.depth - 1, inside
        extent = self.value(loop.extent) if count is None else count
        self.stmts.append(For(var, extent, Block(body), (), kind, grain))

    def inner(self, member: Member, steps: Steps, place: int) -> None:
        """The body of the loop at `place`; as it is, if the block goes through all inside it."""
        *first, last = member.loops[place].body.stmts
        for stmt in first:
            self.copy(stmt)
        if steps.ends_before(place + 1):
            self.copy(last)
        else:
            self.part(member, steps, place + 1)

    def share_of(self, member: Member, steps: Steps) -> CallExtern:
        """A call for some of the products, or of the rows of one."""
        call = member.call
        assert call is not None
        args = [a if isinstance(a, Pointer) else self.value(a) for a in call.args]
        offsets = {place: self.value(pointer_of(call, place).offset) for place in STEPS}
        for k, counted in enumerate(member.counted, len(member.loops)):
            start, count = steps.start(k), steps.share(k)
            if start is None:
                continue
            args[counted] = Const("i64", 1) if count is None else count
            for place, distances in STEPS.items():
                distance = number(call.args[distances[counted]]) if counted in distances else 0
                if distance:
                    moved = self.times(start, distance)
                    offsets[place] = self.op("add", moved, offsets[place])
        for place, offset in offsets.items():
            args[place] = Pointer(*self.place(pointer_of(call, place).buffer, offset))
        return CallExtern(call.symbol, tuple(args))

    def place(self, buffer: Buffer, offset: Value) -> tuple[Buffer, Value]:
        """Where an element lies: in a smaller buffer, as far from the start of the block."""
        size = self.small.get(buffer.name)
        if size is None:
            return buffer, offset
        return self.moved[buffer.name], self.op("sub", offset, self.starts[size])


def pointer_of(call: CallExtern, place: int) -> Pointer:
    """An operand of a product, or its result."""
    pointer = call.args[place]
    assert isinstance(pointer, Pointer)
    return pointer
