"""Writes blocks of one LLVM function: statements in order, branches, while loops, counted loops.

Where lanes go different ways, each way runs under the mask of the lanes that take it, and not at
all where none do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jit.loop_ir.nodes import (
    Address,
    Block,
    Callback,
    CallExtern,
    Fail,
    For,
    Grow,
    If,
    Leave,
    Load,
    Op,
    Run,
    Stmt,
    Store,
    Value,
    While,
)
from jit.registers import Reg
from jit.statements import StatementEmitter, twins_in
from jit.vectors import register, vector


class BlockEmitter(StatementEmitter):
    """One LLVM function of any statements; for loops are added by its subclass in loops.py."""

    def block(self, block: Block) -> None:
        """All statements in order."""
        self.twins.update(twins_in(block.stmts))
        for stmt in block.stmts:
            if type(stmt) is Op:
                self.op(stmt)
            else:
                self.stmt(stmt)

    def stmt(self, stmt: Stmt) -> None:
        """One statement."""
        match stmt:
            case Op():
                self.op(stmt)
            case Load():
                self.load(stmt)
            case Store():
                self.store(stmt)
            case For():
                self.loop(stmt)
            case While():
                self.while_loop(stmt)
            case If():
                self.branch(stmt)
            case CallExtern():
                self.call(stmt)
            case Callback():
                self.callback(stmt)
            case Address():
                self.env[stmt] = Reg(self.w(f"ptrtoint ptr {self.element(stmt)} to i64"))
            case Run():
                self.run(stmt)
            case Fail():
                self.fail(stmt.code, self.any_lane(stmt.cond))
            case Grow():
                self.grow(stmt)
            case Leave():
                self.leave_with(self.scalar(stmt.status))

    def loop(self, stmt: For) -> None:
        """A for loop, which loops.py writes."""
        raise NotImplementedError

    def serial(
        self, stmt: For, start: str, stop: str, n: int | None, inits: Sequence[str]
    ) -> list[str]:
        """Its iterations in order, one at a time; the same."""
        raise NotImplementedError

    # Carries and joins

    def in_lanes(self, value: Value) -> int:
        """In how many lanes a carry or a join is held: one where it is the same in all."""
        return self.lanes if self.lanes > 1 and value in self.varying else 1

    def held(self, value: Value, like: Value) -> str:
        """The operand of a value in as many lanes as a carry or a join is held."""
        return self.wide(value) if self.in_lanes(like) > 1 else self.scalar(value)

    def bind(self, value: Value, operand: str) -> None:
        """A carry or a join is this operand."""
        if self.in_lanes(value) > 1:
            self.env[value] = Reg("", None, operand, True)
        else:
            self.env[value] = Reg(operand, inside=self.lanes > 1)

    # Branches and loops

    def branch(self, stmt: If) -> None:
        """An if with phis for its joins."""
        if self.lanes > 1 and stmt.cond in self.varying:
            self.masked_branch(stmt)
            return
        w = self.w
        then, orelse, after = w.fresh("then"), w.fresh("else"), w.fresh("after")
        w.branch(self.scalar(stmt.cond), then, orelse)
        ends: list[tuple[list[str], str]] = []
        sides = [(then, stmt.then, [j.then for j in stmt.joins])]
        sides.append((orelse, stmt.orelse, [j.orelse for j in stmt.joins]))
        for label, block, values in sides:
            w.open(label)
            self.block(block)
            pairs = zip(values, stmt.joins, strict=True)
            ends.append(([self.held(v, j.result) for v, j in pairs], w.label))
            w.jump(after)
        w.open(after)
        for k, join in enumerate(stmt.joins):
            kind = register(join.result.dtype, self.in_lanes(join.result))
            incoming = ", ".join([f"[ {values[k]}, %{label} ]" for values, label in ends])
            self.bind(join.result, w(f"phi {kind} {incoming}"))

    def masked_branch(self, stmt: If) -> None:
        """Lanes take different sides: each side runs for those that take it, if there are any."""
        w, flags, around = self.w, vector("i1", self.lanes), self.mask
        cond = self.wide(stmt.cond)
        against = w(f"xor {flags} {cond}, splat (i1 true)")
        sides = [(cond, stmt.then, [j.then for j in stmt.joins])]
        sides.append((against, stmt.orelse, [j.orelse for j in stmt.joins]))
        found: list[list[str]] = []
        for mask, block, values in sides:
            self.mask = mask if around is None else w(f"and {flags} {around}, {mask}")
            found.append(self.masked_side(block, values))
            self.mask = around
        for join, then, orelse in zip(stmt.joins, *found, strict=True):
            kind = register(join.result.dtype, self.lanes)
            self.bind(join.result, w(f"select {flags} {cond}, {kind} {then}, {kind} {orelse}"))

    def masked_side(self, block: Block, values: Sequence[Value]) -> list[str]:
        """One side of a branch in the lanes of the mask; skipped where there are none."""
        w, before = self.w, self.w.label
        run, after = w.fresh("some"), w.fresh("after")
        w.branch(w.any_lane(self.mask or "", self.lanes), run, after)
        w.open(run)
        self.block(block)
        found, latch = [self.wide(v) for v in values], w.label
        w.jump(after)
        w.open(after)
        kinds = [register(v.dtype, self.lanes) for v in values]
        return [
            w(f"phi {kind} [ zeroinitializer, %{before} ], [ {operand}, %{latch} ]")
            for kind, operand in zip(kinds, found, strict=True)
        ]

    def while_loop(self, stmt: While) -> None:
        """Test, body, test again; in a vector loop as long as any lane goes on."""
        w = self.w
        self.repeats = True
        head, body, after = w.fresh("test"), w.fresh("body"), w.fresh("done")
        inits = [self.held(c.init, c.phi) for c in stmt.carries]
        before, around = w.label, self.mask
        w.jump(head)
        w.open(head)
        lines, at = w.lines, len(w.lines)
        names = [f"%{head}.{k}" for k in range(len(inits))]
        lines.append("")
        for carry, name in zip(stmt.carries, names, strict=True):
            self.bind(carry.phi, name)
        self.block(stmt.test_block)
        if self.lanes > 1 and stmt.test in self.varying:
            self.mask = self.both(stmt.test)
            w.branch(w.any_lane(self.mask or "", self.lanes), body, after)
        else:
            w.branch(self.scalar(stmt.test), body, after)
        w.open(body)
        self.block(stmt.body)
        nexts = [self.held(c.next, c.phi) for c in stmt.carries]
        if self.mask is not around:
            nexts = self.kept(stmt, names, nexts)
        self.mask = around
        latch = w.label
        w.jump(head)
        phis = [
            f"  {name} = phi {register(c.init.dtype, self.in_lanes(c.phi))} [ {init}, %{before} ],"
            f" [ {value}, %{latch} ]"
            for name, c, init, value in zip(names, stmt.carries, inits, nexts, strict=True)
        ]
        lines[at] = "\n".join(phis)
        w.open(after)
        for carry, name in zip(stmt.carries, names, strict=True):
            self.bind(carry.result, name)

    def kept(self, stmt: While, names: Sequence[str], nexts: Sequence[str]) -> list[str]:
        """The next carries: lanes that have stopped keep theirs."""
        flags = vector("i1", self.lanes)
        found: list[str] = []
        for carry, old, new in zip(stmt.carries, names, nexts, strict=True):
            kind = register(carry.init.dtype, self.lanes)
            found.append(self.w(f"select {flags} {self.mask}, {kind} {new}, {kind} {old}"))
        return found

    def whole_steps(
        self, start: str, stop: str, n: int | None, step: int
    ) -> tuple[str, int | None, int | None]:
        """Steps of `step` iterations: where they end, how many they are, and what is left after."""
        if n is not None:
            return str(int(start) + n // step * step), n // step, n % step
        w = self.w
        count = w(f"sub i64 {stop}, {start}")
        some = w(f"icmp sgt i64 {count}, 0")
        count = w(f"select i1 {some}, i64 {count}, i64 0")
        count = w(f"and i64 {count}, {-step}")
        return w(f"add i64 {start}, {count}"), None, None

    def counted(
        self,
        start: str,
        stop: str,
        step: int,
        trips: int | None,
        carried: Sequence[tuple[str, str]],
        body: Callable[[str, Sequence[str]], Sequence[str]],
    ) -> list[str]:
        """A loop over i = start, start + step, ... below stop; answers the final carries.

        trips is the number of iterations, None when unknown (maybe 0). carried: (type, initial
        operand); body(i, values) writes one iteration and answers the next values.
        """
        inits = [init for _, init in carried]
        if trips == 0:
            return inits
        if trips == 1:
            return list(body(start, inits))
        w = self.w
        self.repeats = True
        head, after = w.fresh("loop"), w.fresh("after")
        before = w.label
        if trips is None:
            w.branch(w(f"icmp slt i64 {start}, {stop}"), head, after)
        else:
            w.jump(head)
        w.open(head)
        lines, at = w.lines, len(w.lines)
        lines.append("")
        names = [f"%{head}.{k}" for k in range(len(carried))]
        nexts = list(body(f"%{head}.i", names))
        latch = w.label
        further = w(f"add nsw i64 %{head}.i, {step}")
        w.branch(w(f"icmp slt i64 {further}, {stop}"), head, after)
        phis = [f"  %{head}.i = phi i64 [ {start}, %{before} ], [ {further}, %{latch} ]"]
        for name, (kind, init), value in zip(names, carried, nexts, strict=True):
            phis.append(f"  {name} = phi {kind} [ {init}, %{before} ], [ {value}, %{latch} ]")
        lines[at] = "\n".join(phis)
        w.open(after)
        if trips is not None:
            return nexts
        return [
            w(f"phi {kind} [ {init}, %{before} ], [ {value}, %{latch} ]")
            for (kind, init), value in zip(carried, nexts, strict=True)
        ]
