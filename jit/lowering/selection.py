"""The few largest of a line: kept in order while the line is read, block by block.

A block whose largest element is below all that are kept is passed over after one vector maximum,
so that a line costs little more than reading it.
"""

from __future__ import annotations

from math import prod

from functrans.extend import Eqn
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import FLOATS, Buffer, DType, LoopKind, Value, integer_bounds
from jit.lowering.formulas import NARROW
from jit.lowering.index import Index, Loop, Point, of_loop
from jit.lowering.root import RootContext
from jit.lowering.rules import loop_dtype

MOST = 16
"""Up to so many are kept in order by insertion."""
BLOCK = 128
KEYS: dict[DType, DType] = {"bool": "u8", "f16": "i32", "bf16": "i32", "f32": "i32", "f64": "i64"}


def is_selected(eqn: Eqn) -> bool:
    """Are the largest found by insertion?"""
    return eqn.params["k"] <= MOST


def ordered(b: Builder, value: Value) -> Value:
    """An integer that orders as the value does; NaN is the largest, zeros are equal."""
    if value.dtype == "bool":
        return b.cast(value, "u8")
    if value.dtype in NARROW:
        value = b.cast(value, "f32")
    if value.dtype not in FLOATS:
        return value
    key = KEYS[value.dtype]
    _, highest = integer_bounds(key)
    bits = b.bitcast(b.select(b.eq(value, 0.0), 0.0, value), key)
    turned = b.select(b.lt(bits, 0), b.xor(bits, highest), bits)
    return b.select(b.ne(value, value), b.const(key, highest), turned)


def select_largest(ctx: RootContext, eqn: Eqn) -> None:
    """top_k for a small k, rows on several threads."""
    (x,), (values, positions), k = eqn.inputs, eqn.outputs, eqn.params["k"]
    shape = x.aval.shape
    rows, n = prod(shape[:-1]), shape[-1]
    work = rows * n * 4.0
    kind: LoopKind = "parallel" if ctx.parallel(work) and rows > 1 else "serial"
    with ctx.walk.kernel(ctx.name):
        kept = Kept(ctx, eqn)
        with ctx.nest([rows], kind, ctx.grain(work, rows)) as (row,):
            kept.fill(row)
            with ctx.nest([k], "vector") as (i,):
                place = ctx.b.load(kept.places, ctx.walk.number(i))
                taken = ctx.walk.dynamic((eqn, i), place, (0, n - 1), i)
                element = ctx.walk.value(x, Point(shape, flat=row * n + taken))
                ctx.walk.store(ctx.buffer(values), row * k + i, element)
                ctx.b.store(ctx.buffer(positions), ctx.walk.number(row * k + i), place)


class Kept:
    """The keys and places of the largest elements so far, largest first."""

    def __init__(self, ctx: RootContext, eqn: Eqn) -> None:
        b = ctx.b
        self.ctx, self.b = ctx, b
        (self.x,), self.k = eqn.inputs, eqn.params["k"]
        dtype = loop_dtype(self.x.aval.dtype)
        self.dtype = KEYS.get(dtype, dtype)
        self.lowest = b.const(self.dtype, integer_bounds(self.dtype)[0])
        self.keys = b.local(f"{ctx.name}_keys", self.dtype, self.k)
        self.places = b.local(f"{ctx.name}_places", "i64", self.k)
        self.block: Buffer = b.local(f"{ctx.name}_block", self.dtype, BLOCK)

    def fill(self, row: Index) -> None:
        """Read one line; its first k elements come in whatever they are."""
        b, walk, n = self.b, self.ctx.walk, self.x.aval.shape[-1]
        with self.ctx.nest([self.k], "vector") as (i,):
            b.store(self.keys, walk.number(i), self.lowest)
        blocks = -(-n // BLOCK)
        opened = b.for_(blocks, "serial", hint="block")
        with walk.loop(Loop(blocks), opened):
            first = b.mul(opened.i, BLOCK)
            length = b.min(b.sub(b.index(n), first), BLOCK) if n % BLOCK else b.index(BLOCK)
            largest = self.read(row, first, length)
            wanted = b.or_(b.lt(first, self.k), b.gt(largest, self.threshold()))
            branch = b.if_(wanted)
            with branch.then():
                self.insert_block(first, length)
            with branch.orelse():
                pass

    def threshold(self) -> Value:
        return self.b.load(self.keys, self.k - 1)

    def read(self, row: Index, first: Value, length: Value) -> Value:
        """The keys of a block, and the largest of them."""
        b, walk = self.b, self.ctx.walk
        shape = self.x.aval.shape
        element = Loop(shape[-1], "i")
        opened = b.for_(length, "vector", [(self.lowest, "max")])
        with walk.loop(element, opened, first):
            place = row * shape[-1] + of_loop(element)
            key = ordered(b, walk.value(self.x, Point(shape, flat=place)))
            b.store(self.block, opened.i, key)
            opened.yield_(b.max(opened.carries[0], key))
        return opened.results[0]

    def insert_block(self, first: Value, length: Value) -> None:
        b = self.b
        with b.for_(length, "serial") as opened:
            key, place = b.load(self.block, opened.i), b.add(first, opened.i)
            branch = b.if_(b.or_(b.lt(place, self.k), b.gt(key, self.threshold())))
            with branch.then():
                self.insert(key, place)
            with branch.orelse():
                pass

    def insert(self, key: Value, place: Value) -> None:
        """Move smaller ones up; those that are equal came earlier and stay in front."""
        b = self.b
        with b.while_([b.min(place, self.k - 1)]) as moving:
            (at,) = moving.carries
            before = b.max(b.sub(at, 1), 0)
            smaller = b.load(self.keys, before)
            moving.test(b.and_(b.gt(at, 0), b.lt(smaller, key)))
            b.store(self.keys, at, smaller)
            b.store(self.places, at, b.load(self.places, before))
            moving.yield_(before)
        (at,) = moving.results
        b.store(self.keys, at, key)
        b.store(self.places, at, place)
