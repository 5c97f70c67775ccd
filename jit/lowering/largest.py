"""Many of the largest of a line: the runtime keeps candidates, of the blocks that have any.

Lines of few candidates go to several threads; else each line's candidates are sorted by them all.
"""

from __future__ import annotations

from math import prod

from functrans.extend import Eqn
from jit.candidates import Ranks
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import DType, Value, integer_bounds
from jit.lowering.index import Index, Loop, Point, of_loop
from jit.lowering.root import RootContext
from jit.lowering.rules import loop_dtype
from jit.lowering.selection import ordered

BLOCK = 128
ROOM = 4
"""Candidates are cut when they are so many times k, which bounds what all cuts cost."""
LEAST = 512
"""So few candidates are never cut while a line is read."""
SLOTS = 8
"""Lines are taken in so many parts, each with a space of its own."""
SORTED_ALONE = 8192
"""Up to so many are sorted by one thread."""


def ranks_of(dtype: DType) -> Ranks:
    """The ranks of elements of this type."""
    return Ranks("i64" if dtype in ("f64", "i64", "u64") else "i32")


def rank(b: Builder, value: Value) -> Value:
    """A signed integer that is less where the value is larger."""
    key = ordered(b, value)
    match key.dtype:
        case "u32" | "u64":
            signed: DType = "i32" if key.dtype == "u32" else "i64"
            _, highest = integer_bounds(signed)
            return b.xor(b.bitcast(key, signed), highest)
        case _:
            return b.xor(b.cast(key, ranks_of(key.dtype).name), -1)


def capacity_of(eqn: Eqn) -> int:
    """How many candidates there may be at a time: a whole line where k is a good part of it."""
    line, k = eqn.inputs[0].aval.shape[-1], eqn.params["k"]
    return min(-(-line // BLOCK) * BLOCK, max(ROOM * k, LEAST) + BLOCK)


def slots_of(eqn: Eqn) -> int:
    """How many lines may be read at the same time."""
    lines = prod(eqn.inputs[0].aval.shape[:-1])
    return min(lines, SLOTS) if eqn.params["k"] <= SORTED_ALONE else 1


def space_of(eqn: Eqn) -> int:
    """The bytes of one slot."""
    return ranks_of(loop_dtype(eqn.inputs[0].aval.dtype)).space_bytes(capacity_of(eqn))


def largest_workspace(eqn: Eqn) -> int:
    return slots_of(eqn) * space_of(eqn)


def find_largest(ctx: RootContext, eqn: Eqn) -> None:
    """top_k for any k."""
    b, shape = ctx.b, eqn.inputs[0].aval.shape
    lines, slots = prod(shape[:-1]), slots_of(eqn)
    height = -(-lines // slots)
    kind = "parallel" if slots > 1 and ctx.parallel(4.0 * lines * shape[-1]) else "serial"
    with ctx.walk.kernel(ctx.name), ctx.walk.loop(Loop(slots), b.for_(slots, kind)) as slot:
        first = b.mul(slot.i, height)
        candidates = Candidates(ctx, eqn, b.mul(slot.i, space_of(eqn)))
        line = Loop(lines, "line")
        opened = b.for_(b.min(b.sub(lines, first), height))
        with ctx.walk.loop(line, opened, first):
            candidates.read(of_loop(line))
            candidates.write(of_loop(line))


class Candidates:
    """The candidates of one line, in the space that begins `at` bytes into the workspace."""

    def __init__(self, ctx: RootContext, eqn: Eqn, at: Value) -> None:
        b = ctx.b
        self.ctx, self.b, self.eqn = ctx, b, eqn
        (self.x,), self.k, self.capacity = eqn.inputs, eqn.params["k"], capacity_of(eqn)
        self.ranks = ranks_of(loop_dtype(self.x.aval.dtype))
        self.dtype: DType = self.ranks.name
        self.block = b.local(f"{ctx.name}_block", self.dtype, BLOCK)
        total = largest_workspace(eqn)
        self.header, self.count = ctx.slot("i64", total // 8, 0), b.floordiv(at, 8)
        self.space = b.ref(ctx.slot("u8", total, 0), at)

    def read(self, line: Index) -> None:
        """Go through a line; blocks without candidates are passed over."""
        b, n = self.b, self.x.aval.shape[-1]
        b.store(self.header, self.count, 0)
        b.store(self.header, b.add(self.count, 1), integer_bounds("i64")[1])
        blocks = -(-n // BLOCK)
        with self.ctx.walk.loop(Loop(blocks), b.for_(blocks, hint="block")) as block:
            first = b.mul(block.i, BLOCK)
            length = b.min(b.sub(b.index(n), first), BLOCK) if n % BLOCK else b.index(BLOCK)
            least = b.cast(self.read_block(line, first, length), "i64")
            few = b.lt(b.load(self.header, self.count), self.k)
            limit = b.load(self.header, b.add(self.count, 1))
            branch = b.if_(b.or_(few, b.lt(least, limit)))
            with branch.then():
                where = self.space, b.ref(self.block), length, first, self.k, self.capacity
                b.call(f"ft_keep_{self.dtype}", *where)
            with branch.orelse():
                pass

    def read_block(self, line: Index, first: Value, length: Value) -> Value:
        """The ranks of a block, and the least of them."""
        b, walk, shape = self.b, self.ctx.walk, self.x.aval.shape
        element = Loop(shape[-1], "i")
        highest = b.const(self.dtype, integer_bounds(self.dtype)[1])
        opened = b.for_(length, "vector", [(highest, "min")])
        with walk.loop(element, opened, first):
            place = line * shape[-1] + of_loop(element)
            found = rank(b, walk.value(self.x, Point(shape, flat=place)))
            b.store(self.block, opened.i, found)
            opened.yield_(b.min(opened.carries[0], found))
        return opened.results[0]

    def write(self, line: Index) -> None:
        """The places of the largest, and the elements there."""
        b, walk, shape, k = self.b, self.ctx.walk, self.x.aval.shape, self.k
        values, positions = (self.ctx.buffer(out) for out in self.eqn.outputs)
        start = walk.number(line * k)
        places = b.ref(positions, start)
        b.call(f"ft_largest_{self.dtype}", self.space, k, self.capacity, places)
        with self.ctx.nest([k], "vector") as (i,):
            place = b.load(positions, walk.number(line * k + i))
            taken = walk.dynamic((self.eqn, i), place, (0, shape[-1] - 1), i)
            element = walk.value(self.x, Point(shape, flat=line * shape[-1] + taken))
            walk.store(values, line * k + i, element)
