"""Copies loop IR: statements as they are, but for what values have become and where buffers lie."""

from __future__ import annotations

from jit.loop_ir.nodes import (
    Block,
    Buffer,
    CallExtern,
    Carry,
    For,
    Load,
    Op,
    Pointer,
    Stmt,
    Store,
    Value,
)
from jit.loop_ir.weights import weigh
from jit.passes.touches import Opaque


class Copier:
    """Copies statements one after the other to the end of `stmts`.

    `values` says what values of the original are in the copy; the others are what they were.
    """

    def __init__(self) -> None:
        self.stmts: list[Stmt] = []
        self.values: dict[Value, Value] = {}

    def place(self, buffer: Buffer, offset: Value) -> tuple[Buffer, Value]:
        """Where an element lies in the copy: for others to say."""
        return buffer, offset

    def value(self, value: Value) -> Value:
        return self.values.get(value, value)

    def pointer(self, pointer: Pointer) -> Pointer:
        return Pointer(*self.place(pointer.buffer, self.value(pointer.offset)))

    def copy(self, stmt: Stmt) -> None:
        """A statement, with what its values and buffers are in the copy."""
        match stmt:
            case Op():
                made = Op(stmt.dtype, stmt.level, stmt.name, tuple(map(self.value, stmt.args)))
                self.values[stmt] = made
                self.stmts.append(made)
            case Load():
                buffer, offset = self.place(stmt.buffer, self.value(stmt.offset))
                where = None if stmt.where is None else self.value(stmt.where)
                other = None if stmt.other is None else self.value(stmt.other)
                self.values[stmt] = load = Load(stmt.level, buffer, offset, where, other)
                self.stmts.append(load)
            case Store():
                buffer, offset = self.place(stmt.buffer, self.value(stmt.offset))
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
        weight = loop.weight or weigh(loop.body)
        made = For(loop.var, extent, Block(body), carries, loop.kind, loop.grain, weight)
        self.stmts.append(made)
