"""What memory a kernel touches in one iteration of its outer loop, found from its loop IR.

The outer loop of a product is its batch, or else the rows of its result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from jit.loop_ir.nodes import (
    ITEMSIZE,
    Block,
    Buffer,
    CallExtern,
    Const,
    For,
    Kernel,
    Load,
    Op,
    Pointer,
    Stmt,
    Store,
    Value,
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
    """Numbers `slope` times the outer loop's variable plus something in [low, high]."""

    slope: int
    low: int
    high: int


class Touch(NamedTuple):
    """What one iteration of the outer loop reads or writes of a buffer; no span is anywhere."""

    buffer: Buffer
    span: Span | None
    writes: bool


@dataclass
class Member:
    """A kernel that is one loop of independent iterations, or one call for many.

    `counted` is the argument of a call that says how many iterations it stands for.
    """

    kernel: Kernel
    before: list[Stmt]
    loop: For | CallExtern
    extent: int
    touches: list[Touch]
    counted: int = BATCH


class Opaque(Exception):
    """Something of which nobody can say what memory it touches."""


def bytes_of(buffer: Buffer) -> int:
    return buffer.size * ITEMSIZE[buffer.dtype]


def member_of(kernel: Kernel) -> Member | None:
    """The kernel's outer loop and what it touches; None where it has none, or is opaque."""
    if not kernel.body.stmts:
        return None
    *before, last = kernel.body.stmts
    if not all(isinstance(s, Op) for s in before):
        return None
    try:
        if isinstance(last, CallExtern) and last.symbol.startswith(PRODUCTS):
            member = product_member(kernel, before, last)
        elif isinstance(last, For) and last.kind != "vector" and not last.carries:
            member = loop_member(kernel, before, last)
        else:
            return None
    except Opaque:
        return None
    return member if member.extent > 1 else None


def loop_member(kernel: Kernel, before: list[Stmt], loop: For) -> Member:
    """A loop. One in order that has memory of its own may keep there what it does next."""
    found = list(touches(loop.body, {loop.var: Span(1, 0, 0)}))
    if loop.kind == "serial" and any(touch.buffer.kind == "local" for touch in found):
        raise Opaque
    return Member(kernel, before, loop, static_extent(loop) or 0, found)


def product_member(kernel: Kernel, before: list[Stmt], call: CallExtern) -> Member:
    """A product as a loop over its batch, or over its rows where there is no batch."""
    batch, rows = number(call.args[BATCH]), number(call.args[M])
    by_rows = batch == 1 and call.symbol.startswith(BY_ROWS)
    extent, counted = (rows, M) if by_rows else (batch, BATCH)
    return Member(kernel, before, call, extent, list(product_touches(call, {}, counted)), counted)


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


def span_of(value: Value, spans: dict[Value, Span]) -> Span | None:
    """The span of an offset that is a sum of multiples of loop variables; None for any other."""
    if value in spans:
        return spans[value]
    if isinstance(value, Const):
        return Span(0, int(value.value), int(value.value))
    if not isinstance(value, Op) or value.name not in ("add", "sub", "mul"):
        return None
    a, b = (span_of(x, spans) for x in value.args)
    if a is None or b is None:
        return None
    if value.name == "add":
        return Span(a.slope + b.slope, a.low + b.low, a.high + b.high)
    if value.name == "sub":
        return Span(a.slope - b.slope, a.low - b.high, a.high - b.low)
    if b.slope or b.low != b.high or b.low < 0:
        return None
    return Span(a.slope * b.low, a.low * b.low, a.high * b.low)


def product_touches(
    call: CallExtern, spans: dict[Value, Span], counted: int | None = None
) -> Iterator[Touch]:
    """The operands and the result of a product; `counted` is the outer loop, if it has one."""
    for place in STEPS:
        pointer = call.args[place]
        assert isinstance(pointer, Pointer)
        start = span_of(pointer.offset, spans)
        yield Touch(pointer.buffer, start and stepped(call, place, start, counted), place == C)


def stepped(call: CallExtern, place: int, start: Span, counted: int | None) -> Span | None:
    """The span of an operand, or of the result, that begins in `start`."""
    slope, low, high = start
    for count, step in STEPS[place].items():
        distance = number(call.args[step])
        if distance < 0:
            return None
        if count == counted:
            slope += distance
        else:
            high += (number(call.args[count]) - 1) * distance
    high += number(call.args[N]) - 1 if place == C else 0
    return Span(slope, low, high)


def number(value: Value | Pointer) -> int:
    if not isinstance(value, Const):
        raise Opaque
    return int(value.value)
