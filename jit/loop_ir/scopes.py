"""The loops and branches that a Builder opens, as context managers around their blocks."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

from jit.loop_ir.fold import loop_range
from jit.loop_ir.nodes import (
    Block,
    Carry,
    Combine,
    Const,
    For,
    If,
    Join,
    LoopKind,
    Value,
    Var,
    While,
)

if TYPE_CHECKING:
    from jit.loop_ir.builder import Builder

Init: TypeAlias = "Value | tuple[Value, Combine | None]"


class Scope:
    """An open block: its statements, what was built in it, and whether pure work may leave it.

    Pure operations on outer values move out of it and on over `hoists` blocks, itself included:
    over none where it is a branch, over two where it is the body of a while, since what stands in
    the block of the test runs once more often than the body.
    """

    __slots__ = ("block", "hoists", "runs", "shared")

    def __init__(self, block: Block, hoists: int, runs: bool) -> None:
        self.block = block
        self.hoists = hoists
        self.runs = runs  # entered whenever the block around it is, so that loads may move too
        self.shared: dict[object, Value] = {}


def phi(builder: Builder, init: Init, level: int, position: int) -> Carry:
    """A carry whose next value is not known yet (it stands as init)."""
    value, combine = init if isinstance(init, tuple) else (init, None)
    inside = Var(value.dtype, level, f"c{position}")
    return Carry(value, inside, value, Var(value.dtype, level - 1, f"r{position}"), combine)


class Loop:
    """The context manager of Builder.for_."""

    def __init__(
        self,
        builder: Builder,
        extent: Value,
        kind: LoopKind,
        inits: Sequence[Init],
        grain: int,
        hint: str,
    ) -> None:
        level = len(builder.scopes)
        self.builder = builder
        self.i = Var("i64", level, hint)
        carries = tuple([phi(builder, init, level, k) for k, init in enumerate(inits)])
        self.node = For(self.i, extent, Block(), carries, kind, grain)
        self.carries: tuple[Value, ...] = tuple([c.phi for c in carries])
        self.results: tuple[Value, ...] = tuple([c.result for c in carries])
        self.yielded = not carries

    def __enter__(self) -> Loop:
        builder, extent = self.builder, self.node.extent
        interval = loop_range(extent)
        if interval is not None:
            builder.ranges[self.i] = interval
        runs = isinstance(extent, Const) and int(extent.value) > 0
        builder.scopes.append(Scope(self.node.body, hoists=1, runs=runs))
        return self

    def yield_(self, *values: Value) -> None:
        """Give the carries their next values; the last thing in the body."""
        for carry, value in zip(self.node.carries, values, strict=True):
            carry.next = value
        self.yielded = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.builder.scopes.pop()
        if kind is None and not self.yielded:
            raise ValueError("a loop with carries must end in yield_")
        self.builder.append(self.node)


class WhileLoop:
    """The context manager of Builder.while_."""

    def __init__(self, builder: Builder, inits: Sequence[Value]) -> None:
        level = len(builder.scopes)
        self.builder = builder
        carries = tuple([phi(builder, init, level, k) for k, init in enumerate(inits)])
        self.node = While(carries, Block(), Const("bool", False), Block())
        self.carries: tuple[Value, ...] = tuple([c.phi for c in carries])
        self.results: tuple[Value, ...] = tuple([c.result for c in carries])

    def __enter__(self) -> WhileLoop:
        self.builder.scopes.append(Scope(self.node.test_block, hoists=1, runs=True))
        return self

    def test(self, cond: Value) -> None:
        """End the test; what follows is the body, which may use values of the test."""
        self.node.test = cond
        self.builder.scopes.append(Scope(self.node.body, hoists=2, runs=False))

    def yield_(self, *values: Value) -> None:
        """Give the carries their next values; the last thing in the body."""
        for carry, value in zip(self.node.carries, values, strict=True):
            carry.next = value

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        depth = len(self.builder.scopes)
        tested = depth and self.builder.scopes[-1].block is self.node.body
        del self.builder.scopes[depth - (2 if tested else 1) :]
        if kind is None and not tested:
            raise ValueError("a while loop needs its test")
        self.builder.append(self.node)


class Branch:
    """The two blocks of Builder.if_."""

    def __init__(self, builder: Builder, cond: Value) -> None:
        self.builder = builder
        self.node = If(cond, Block(), Block())
        self.results: tuple[Value, ...] = ()
        self._yields: list[tuple[Value, ...]] = []

    @contextmanager
    def _open(self, block: Block) -> Generator[None]:
        """Enter a block; the statement comes after all that is built around it till it closes."""
        around = self.builder.scopes[-1].block.stmts
        self.builder.scopes.append(Scope(block, hoists=0, runs=False))
        try:
            yield
        finally:
            self.builder.scopes.pop()
            if self.node in around:
                around.remove(self.node)
            around.append(self.node)

    @contextmanager
    def then(self) -> Generator[None]:
        """The block that runs when the condition holds."""
        with self._open(self.node.then):
            yield

    @contextmanager
    def orelse(self) -> Generator[None]:
        """The block that runs otherwise; after it `results` holds what both yielded."""
        with self._open(self.node.orelse):
            yield
        if len(self._yields) != 2:
            return
        then, orelse = self._yields
        level = len(self.builder.scopes) - 1
        self.node.joins = tuple(
            [
                Join(Var(a.dtype, level, f"j{k}"), a, b)
                for k, (a, b) in enumerate(zip(then, orelse, strict=True))
            ]
        )
        self.results = tuple([join.result for join in self.node.joins])

    def yield_(self, *values: Value) -> None:
        """The values that this block leaves behind, the same number and types in both."""
        self._yields.append(values)
