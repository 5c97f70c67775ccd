"""What memory a kernel touches in one iteration of its outer loops, found from its loop IR.

The outer loops of a product are its batch and the rows of its result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import NamedTuple, TypeAlias

from jit.loop_ir.nodes import (
    ITEMSIZE,
    Address,
    Block,
    Buffer,
    Callback,
    CallExtern,
    Const,
    For,
    Grow,
    Kernel,
    Load,
    Op,
    Pointer,
    Run,
    Stmt,
    Store,
    Value,
    inner_blocks,
    static_extent,
)

PRODUCTS = ("ft_gemm_f", "ft_gemv_f", "ft_small_f")
BY_ROWS = ("ft_gemm_f",)
"""Products whose elements have the same bits whatever rows are computed together."""
M, N, K, A, B, C, BATCH = 0, 1, 2, 3, 6, 9, 11
STEPS: dict[int, Mapping[int, int]] = {
    A: {M: 4, K: 5, BATCH: 12},
    B: {K: 7, N: 8, BATCH: 13},
    C: {M: 10, BATCH: 14},
}
"""Where a product's arguments have its operands and result, and for each of these the counts that
it is stepped through by, with their strides: the columns of the result are adjacent."""


class Span(NamedTuple):
    """Numbers that are the sum of each outer loop's variable times its slope, and of something in
    [low, high]."""

    slopes: tuple[int, ...]
    low: int
    high: int


class Touch(NamedTuple):
    """What one iteration of the outer loops reads or writes of a buffer; no span is anywhere.

    `apart` says that no other iteration writes there, whatever the span.
    """

    buffer: Buffer
    span: Span | None
    writes: bool
    apart: bool = False


Spans: TypeAlias = Mapping[Value, Span]


@dataclass
class Member:
    """A kernel as loops inside one another whose iterations are independent.

    First `loops`, then, where there is nothing in these but the call of a product, the counts that
    are its arguments `counted`. They are taken in the order in which they go through what the
    kernel makes: `order` says which they are, `extents` how long, the one with the longest steps
    first. Of these the first `level` are outer loops, which count as one, and the others belong to
    each iteration.
    """

    kernel: Kernel
    before: list[Stmt]
    loops: list[For]
    call: CallExtern | None
    counted: tuple[int, ...]
    order: tuple[int, ...]
    extents: tuple[int, ...]
    touches: list[Touch]
    level: int

    @property
    def extent(self) -> int:
        """The number of iterations."""
        return prod(self.extents[: self.level])

    @property
    def rows(self) -> int:
        """How many rows each product has, where single rows are iterations; else 0."""
        whole = self.level == len(self.extents) and M in self.counted
        return self.extents[self.order.index(len(self.extents) - 1)] if whole else 0

    def steps(self, count: int) -> tuple[int, int] | None:
        """(loop, steps) such that `count` iterations, from any multiple of that on, are so many
        steps of this loop with all that is inside it; None where there is no such loop.
        """
        for place in range(self.level - 1, -1, -1):
            extent = self.extents[place]
            if count <= extent or not place:
                return (place, count) if not place or extent % count == 0 else None
            if count % extent:
                return None
            count //= extent
        return None

    def ordered_by(self, touch: Touch) -> Member:
        """The same with the loops in the order of their steps through what `touch` touches."""
        order = order_of([touch._replace(writes=True)], len(self.extents))
        return replace(
            self,
            order=tuple([self.order[k] for k in order]),
            extents=tuple([self.extents[k] for k in order]),
            touches=[turned(t, order) for t in self.touches],
        )

    def along(self, touch: Touch) -> tuple[int, int] | None:
        """(slope, reach): iteration i touches only what lies in [slope * i, slope * i + reach]."""
        if touch.span is None:
            return None
        slopes, low, high = touch.span
        steps = list(zip(self.extents, slopes, strict=True))
        for extent, slope in steps[self.level :]:
            low += min(slope * (extent - 1), 0)
            high += max(slope * (extent - 1), 0)
        outer = steps[: self.level]
        even = all(s == t * n for (_, s), (n, t) in pairwise(outer))
        return (outer[-1][1], high) if even and low >= 0 else None


class Opaque(Exception):
    """Something of which nobody can say what memory it touches."""


def bytes_of(buffer: Buffer) -> int:
    return buffer.size * ITEMSIZE[buffer.dtype]


def member_of(kernel: Kernel) -> Member | None:
    """The kernel's outer loops and what it touches; None where it has none, or is opaque."""
    if not kernel.body.stmts:
        return None
    *before, last = kernel.body.stmts
    if not all(isinstance(s, Op) for s in before):
        return None
    loops = loops_of(last)
    inside = loops[-1].body.stmts[-1] if loops else last
    alone = not loops or all(isinstance(s, Op) for s in loops[-1].body.stmts[:-1])
    try:
        call = product_of(inside) if alone else None
        counted = counts_of(call) if call else ()
        extents = [static_extent(loop) or 0 for loop in loops]
        extents += [number(call.args[place]) for place in counted] if call else []
        found = list(touches_of(last, loops, call, counted, len(extents)))
    except Opaque:
        return None
    if not extents or min(extents) < 1 or prod(extents) < 2:
        return None
    if loops and loops[0].kind == "serial" and any(t.buffer.kind == "local" for t in found):
        # One in order that has memory of its own may keep there what it does next.
        return None
    order = order_of(found, len(extents))
    sorted_extents = tuple([extents[k] for k in order])
    found = [turned(touch, order) for touch in found]
    return Member(kernel, before, loops, call, counted, order, sorted_extents, found, len(extents))


def order_of(touches: Sequence[Touch], count: int) -> tuple[int, ...]:
    """The loops by the length of their steps through what is written first, if that is known."""
    written = next(
        (t.span for t in touches if t.writes and t.buffer.kind != "local" and t.span), None
    )
    slopes = written.slopes if written else (0,) * count
    return tuple(sorted(range(count), key=lambda k: -slopes[k]))


def turned(touch: Touch, order: tuple[int, ...]) -> Touch:
    """The same touch of loops in another order."""
    if touch.span is None:
        return touch
    slopes = tuple([touch.span.slopes[k] for k in order])
    return touch._replace(span=touch.span._replace(slopes=slopes))


def loops_of(stmt: Stmt) -> list[For]:
    """A loop and those inside it, as long as each holds but one and what is computed before it."""
    found: list[For] = []
    while isinstance(stmt, For) and stmt.kind != "vector" and not stmt.carries:
        if static_extent(stmt) is None or not stmt.body.stmts:
            break
        found.append(stmt)
        *first, stmt = stmt.body.stmts
        if found[-1].kind == "parallel_vector" or not all(isinstance(s, Op | Load) for s in first):
            break
    return found


def product_of(stmt: Stmt) -> CallExtern | None:
    """The call of a product."""
    return stmt if isinstance(stmt, CallExtern) and stmt.symbol.startswith(PRODUCTS) else None


def counts_of(call: CallExtern) -> tuple[int, ...]:
    """The arguments by which a product is many: of matrices, of rows, of matrices of rows."""
    by_rows = (M,) if call.symbol.startswith(BY_ROWS) else ()
    return tuple([place for place in (BATCH, *by_rows) if number(call.args[place]) > 1])


def touches_of(
    stmt: Stmt, loops: Sequence[For], call: CallExtern | None, counted: tuple[int, ...], count: int
) -> Iterator[Touch]:
    """What a kernel touches, by the `count` outer loops."""
    spans: Spans = {
        loop.var: Span(tuple([int(k == place) for k in range(count)]), 0, 0)
        for place, loop in enumerate(loops)
    }
    walk = Toucher(call, {place: len(loops) + k for k, place in enumerate(counted)}, count)
    yield from walk.stmt(stmt, spans)


class Toucher:
    """Walks over statements; `counted` says which outer loop each count of the call `call` is."""

    def __init__(self, call: CallExtern | None, counted: Mapping[int, int], count: int) -> None:
        self.call, self.counted = call, counted
        self.zero = (0,) * count

    def block(self, block: Block, spans: Spans) -> Iterator[Touch]:
        for stmt in block.stmts:
            yield from self.stmt(stmt, spans)

    def stmt(self, stmt: Stmt, spans: Spans) -> Iterator[Touch]:
        """What a statement touches; `spans` of the loop variables around it."""
        match stmt:
            case Op():
                pass
            case Load():
                yield Touch(stmt.buffer, self.span(stmt.offset, spans), False)
            case Store():
                yield Touch(stmt.buffer, self.span(stmt.offset, spans), True)
            case For():
                if stmt.var not in spans:
                    extent = static_extent(stmt)
                    if extent is None:
                        raise Opaque
                    spans = {**spans, stmt.var: Span(self.zero, 0, max(extent - 1, 0))}
                yield from self.block(stmt.body, spans)
            case CallExtern() if product_of(stmt):
                yield from self.product(stmt, spans)
            case _:
                raise Opaque

    def span(self, value: Value, spans: Spans) -> Span | None:
        """The span of an offset that is a sum of multiples of loop variables; None of any other."""
        if value in spans:
            return spans[value]
        if isinstance(value, Const):
            return Span(self.zero, int(value.value), int(value.value))
        if not isinstance(value, Op) or value.name not in ("add", "sub", "mul"):
            return None
        a, b = (self.span(x, spans) for x in value.args)
        if a is None or b is None:
            return None
        if value.name == "mul":
            return None if any(b.slopes) or b.low != b.high or b.low < 0 else times(a, b.low)
        return added(a, b if value.name == "add" else Span(times(b, -1).slopes, -b.high, -b.low))

    def product(self, call: CallExtern, spans: Spans) -> Iterator[Touch]:
        """The operands and the result of a product, no two elements of which are one."""
        for place in STEPS:
            pointer = call.args[place]
            assert isinstance(pointer, Pointer)
            span = self.span(pointer.offset, spans)
            if span is not None:
                span = self.stepped(call, place, span)
            # Where the result stands still, iterations of a loop add to it.
            apart = call is self.call and span is not None and all(span.slopes)
            yield Touch(pointer.buffer, span, place == C, apart and place == C)

    def stepped(self, call: CallExtern, place: int, start: Span) -> Span | None:
        """The span of an operand, or of the result, that begins in `start`."""
        slopes, low, high = list(start.slopes), start.low, start.high
        for count, step in STEPS[place].items():
            distance = number(call.args[step])
            if call is self.call and count in self.counted:
                slopes[self.counted[count]] += distance
            elif distance < 0:
                return None
            else:
                high += (number(call.args[count]) - 1) * distance
        high += number(call.args[N]) - 1 if place == C else 0
        return Span(tuple(slopes), low, high)


def added(a: Span, b: Span) -> Span:
    slopes = tuple([x + y for x, y in zip(a.slopes, b.slopes, strict=True)])
    return Span(slopes, a.low + b.low, a.high + b.high)


def times(a: Span, factor: int) -> Span:
    return Span(tuple([s * factor for s in a.slopes]), a.low * factor, a.high * factor)


def number(value: Value | Pointer) -> int:
    if not isinstance(value, Const):
        raise Opaque
    return int(value.value)


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


def overlap(a: Buffer, b: Buffer) -> bool:
    """Do two places in the arena share bytes?"""
    return a.place < b.place + bytes_of(b) and b.place < a.place + bytes_of(a)
