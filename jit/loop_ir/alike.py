"""Alike kernels: those that differ only in which buffers they touch, and at which constant offsets.

A program that was written out step by step consists of few kernels repeated on other buffers.
Kernels with equal outlines can share one function, which is told the buffers and the offsets in
which they differ. Nothing else may differ: the function computes the same bits for each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from jit.loop_ir.nodes import (
    Address,
    Block,
    Buffer,
    Callback,
    CallExtern,
    Carry,
    Const,
    Fail,
    For,
    Grow,
    If,
    Kernel,
    Leave,
    Load,
    Op,
    Pointer,
    Run,
    Stmt,
    Store,
    Value,
    While,
    inner_blocks,
)

Site: TypeAlias = Op | Load | Store | Pointer | Address
"""What reads an offset."""


class Outline(NamedTuple):
    """A kernel without what may differ: `key`, equal for alike kernels, and what was left out.

    sites[k] is the node that reads offsets[k], a literal.
    """

    key: tuple[object, ...]
    buffers: list[Buffer]
    offsets: list[int]
    sites: list[Site]


class Family(NamedTuple):
    """Alike kernels, by number, the first of which stands for all.

    buffers and offsets: the places in the outline in which the members differ. rows: for each
    member the place of each such buffer, then each such offset.
    """

    members: list[int]
    outline: Outline
    buffers: list[int]
    offsets: list[int]
    rows: list[list[int]]


def families(kernels: Sequence[Kernel]) -> list[Family]:
    """The kernels in groups of alike ones, in the order of their first members."""
    lengths = [tuple(lengths_of(kernel.body)) for kernel in kernels]
    several = {key for key, count in Counter(lengths).items() if count > 1}
    outlines = [
        Outliner().run(kernel) if key in several else Outline((number,), [], [], [])
        for number, (kernel, key) in enumerate(zip(kernels, lengths, strict=True))
    ]
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, outline in enumerate(outlines):
        groups.setdefault(outline.key, []).append(number)
    return [family(members, [outlines[k] for k in members]) for members in groups.values()]


def lengths_of(block: Block) -> Iterator[int]:
    """How many statements a block and those in it have, in order: alike kernels have the same."""
    yield len(block.stmts)
    for stmt in block.stmts:
        if type(stmt) is not Op:
            for inner in inner_blocks(stmt):
                yield from lengths_of(inner)


def family(members: list[int], outlines: Sequence[Outline]) -> Family:
    """What the members have in common, and in what they differ."""
    first = outlines[0]
    buffers = [
        k
        for k, own in enumerate(first.buffers)
        if any(o.buffers[k].place != own.place for o in outlines)
    ]
    offsets = [
        k for k, own in enumerate(first.offsets) if any(o.offsets[k] != own for o in outlines)
    ]
    rows = [
        [o.buffers[k].place for k in buffers] + [o.offsets[k] for k in offsets] for o in outlines
    ]
    return Family(members, first, buffers, offsets, rows)


class Outliner:
    """One walk over a kernel; values and buffers are numbered as they appear."""

    def __init__(self) -> None:
        self.tokens: list[object] = []
        self.names: dict[Value, int] = {}
        self.numbers: dict[str, int] = {}
        self.buffers: list[Buffer] = []
        self.offsets: list[int] = []
        self.sites: list[Site] = []

    def run(self, kernel: Kernel) -> Outline:
        self.block(kernel.body)
        return Outline(tuple(self.tokens), self.buffers, self.offsets, self.sites)

    # Atoms

    def bind(self, value: Value) -> None:
        self.names[value] = len(self.names)

    def use(self, value: Value | None) -> object:
        """What stands for a value: its number, or the literal with its type."""
        if value is None:
            return None
        found = self.names.get(value)
        return literal(value) if found is None else found

    def offset(self, site: Site, value: Value) -> object:
        """What stands for a value to which a literal offset may be added by a caller."""
        if type(value) is not Const:
            return self.use(value)
        self.offsets.append(int(value.value))
        self.sites.append(site)
        return "offset"

    def buffer(self, buffer: Buffer) -> int:
        """The number of a buffer; what the code knows of it is a token when it first appears."""
        number = self.numbers.get(buffer.name)
        if number is None:
            number = self.numbers[buffer.name] = len(self.buffers)
            self.buffers.append(buffer)
            alike = buffer.kind in ("input", "inout", "output", "temp")
            kind = "input" if buffer.kind == "inout" else buffer.kind
            fixed = buffer.size == 0 if alike else (buffer.name, buffer.size)
            self.tokens += (kind, buffer.dtype, fixed)
        return number

    # Statements

    def block(self, block: Block) -> None:
        tokens = self.tokens
        tokens.append(len(block.stmts))
        for stmt in block.stmts:
            if type(stmt) is Op:
                self.op(stmt)
            else:
                self.stmt(stmt)

    def op(self, op: Op) -> None:
        tokens, names = self.tokens, self.names
        tokens.append(op.name)
        tokens.append(op.dtype)
        adds = op.name == "add" and op.dtype == "i64"
        for a in op.args:
            found = names.get(a)
            if found is not None:
                tokens.append(found)
            else:
                tokens.append(self.offset(op, a) if adds else literal(a))
        names[op] = len(names)

    def stmt(self, stmt: Stmt) -> None:
        tokens = self.tokens
        tokens.append(type(stmt))
        match stmt:
            case Load():
                buffer, offset = self.buffer(stmt.buffer), self.offset(stmt, stmt.offset)
                tokens += (buffer, offset, self.use(stmt.where), self.use(stmt.other))
                self.bind(stmt)
            case Store():
                buffer, offset = self.buffer(stmt.buffer), self.offset(stmt, stmt.offset)
                tokens += (buffer, offset, self.use(stmt.value), self.use(stmt.where))
            case For():
                tokens += (stmt.kind, stmt.grain, stmt.weight, self.use(stmt.extent))
                self.carried(stmt.carries, stmt.var)
                self.block(stmt.body)
                self.results(stmt.carries)
            case While():
                self.carried(stmt.carries)
                self.block(stmt.test_block)
                tokens.append(self.use(stmt.test))
                self.block(stmt.body)
                self.results(stmt.carries)
            case If():
                self.branch(stmt)
            case CallExtern():
                tokens += (stmt.symbol, len(stmt.args))
                tokens += [self.argument(a) for a in stmt.args]
                if stmt.result is not None:
                    tokens.append(stmt.result.dtype)
                    self.bind(stmt.result)
            case Callback():
                tokens += (stmt.code, self.use(stmt.index), len(stmt.pointers))
                tokens += [self.argument(p) for p in stmt.pointers]
            case Address():
                tokens += (self.buffer(stmt.buffer), self.offset(stmt, stmt.offset))
                self.bind(stmt)
            case Run():
                tokens.append(id(stmt.program))
                tokens += [self.argument(p) for p in (stmt.inputs, stmt.outputs, stmt.arena)]
                self.bind(stmt.result)
            case Fail():
                tokens += (stmt.code, self.use(stmt.cond))
            case Grow():
                tokens += (self.buffer(stmt.buffer), self.use(stmt.count), stmt.code)
            case Leave():
                tokens.append(self.use(stmt.status))
            case Op():
                self.op(stmt)

    def argument(self, value: Value | Pointer) -> object:
        if isinstance(value, Pointer):
            return self.buffer(value.buffer), self.offset(value, value.offset)
        return self.use(value)

    def carried(self, carries: Sequence[Carry], *bound: Value) -> None:
        self.tokens.append(len(carries))
        for carry in carries:
            self.tokens += (carry.combine, carry.init.dtype, self.use(carry.init))
        for value in (*bound, *[carry.phi for carry in carries]):
            self.bind(value)

    def results(self, carries: Sequence[Carry]) -> None:
        for carry in carries:
            self.tokens.append(self.use(carry.next))
            self.bind(carry.result)

    def branch(self, stmt: If) -> None:
        self.tokens.append(self.use(stmt.cond))
        self.block(stmt.then)
        self.tokens.append(len(stmt.joins))
        self.tokens += [self.use(join.then) for join in stmt.joins]
        self.block(stmt.orelse)
        for join in stmt.joins:
            self.tokens += (join.result.dtype, self.use(join.orelse))
            self.bind(join.result)


def literal(value: Value) -> object:
    """A literal with its type; 0.0 and -0.0 differ, NaN equals itself."""
    if type(value) is not Const:
        raise ValueError("a value is read that was not defined")
    number = value.value
    return (value.dtype, number.hex() if isinstance(number, float) else number)
