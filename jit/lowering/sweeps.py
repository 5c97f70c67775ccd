"""Sweeps: a loop that notes its steps on a stack that grows, and passes over what it noted.

The step writes its new carry straight into the next row of the stack, and passes read and write
rows where they lie. Invariant: the memory of the stack is freed on every path, failures included;
until then a status other than 0 only makes what is left to do be skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from functrans.extend import Aval, Eqn
from jit.loop_ir.nodes import Value
from jit.lowering.loops import (
    Carries,
    Inner,
    Space,
    Table,
    begin_lanes,
    calls_of,
    changed_inits,
    home_address,
    in_lanes,
    inner_programs,
    lanes_workspace,
    program_sweep_p,
    swapped,
)
from jit.lowering.rules import lowers_root
from jit.lowering.writer import RootContext
from jit.names import NO_MEMORY

FIRST_BYTES = 1 << 14
"""The stack begins with rows of so many bytes."""


class Operands(NamedTuple):
    """The positions of the operands: of the while, then those of each pass."""

    cond_consts: range
    body_consts: range
    carry: range
    passes: list[tuple[range, range]]

    @property
    def inits(self) -> list[int]:
        """Those that begin a carry, in the order of the results."""
        return [*self.carry, *[k for _, carry in self.passes for k in carry]]


def operands_of(eqn: Eqn) -> Operands:
    p = eqn.params
    counts = [p["num_cond_consts"], p["num_body_consts"], p["num_carry"]]
    counts += [n for each in p["passes"] for n in (each.num_consts, each.num_carry)]
    ends = list(accumulate(counts, initial=0))
    groups = [range(start, start + n) for start, n in zip(ends, counts, strict=False)]
    passes = list(zip(groups[3::2], groups[4::2], strict=True))
    return Operands(groups[0], groups[1], groups[2], passes)


def sweep_memory(eqn: Eqn) -> list[int]:
    """The consts; initial carries are written where they are wanted."""
    inits = set(operands_of(eqn).inits)
    return [k for k in range(len(eqn.inputs)) if k not in inits]


def sweep_overwrites(eqn: Eqn) -> list[tuple[int, int]]:
    return changed_inits(eqn, operands_of(eqn).inits)


class Rows(NamedTuple):
    """What a row of the stack holds, and where in it, in bytes.

    First the carry before the step and what else the step notes, so many values as widths[0] says,
    then what the passes note, widths[1] and so on. `places` has the byte where each value begins.
    """

    places: list[int]
    widths: list[int]
    size: int


def rows_of(eqn: Eqn) -> Rows:
    p = eqn.params
    noted: list[Aval] = p["body"].out_avals
    widths = [len(noted)]
    for each in p["passes"]:
        emitted = each.jaxpr.out_avals[each.num_carry :]
        noted = [*noted, *emitted]
        widths.append(len(emitted))
    ends = list(accumulate([slot_bytes(aval) for aval in noted], initial=0))
    return Rows(ends[:-1], widths, max(ends[-1], 8))


def slot_bytes(aval: Aval) -> int:
    """The bytes of a value in a row: whole lines of the cache for what is no smaller."""
    count = aval.size * aval.dtype.itemsize
    unit = 64 if count >= 64 else 8
    return -(-count // unit) * unit


@lowers_root(
    program_sweep_p,
    sweep_memory,
    dense=True,
    workspace=lanes_workspace,
    calls=calls_of,
    overwrites=sweep_overwrites,
)
def lower_sweep(ctx: RootContext, eqn: Eqn) -> None:
    """One sweep, or one for each lane, some lanes at the same time."""
    inits = [eqn.inputs[k] for k in operands_of(eqn).inits]
    with ctx.walk.kernel(ctx.name):
        begin_lanes(ctx, inits, eqn.outputs)
        in_lanes(ctx, eqn, lambda space, lane: SweepWriter(ctx, eqn, space, lane).write())


class SweepWriter:
    """Writes one sweep, in one lane where there are lanes."""

    def __init__(self, ctx: RootContext, eqn: Eqn, space: Space, lane: Value | None) -> None:
        self.ctx = ctx
        self.b = ctx.b
        self.eqn = eqn
        self.space = space
        self.lane = lane
        self.operands = operands_of(eqn)
        self.rows = rows_of(eqn)
        self.status = ctx.b.local(f"{ctx.name}_status", "i32", 1)
        self.no_memory = ctx.b.const("i32", ctx.b.error(NO_MEMORY))
        self.tables = 0

    def write(self) -> None:
        b = self.b
        b.store(self.status, 0, b.const("i32", 0))
        capacity = b.index(max(FIRST_BYTES // self.rows.size, 2))
        base = self.grown(b.index(0), capacity)
        with b.if_(self.is_fine()).then():
            self.copy_carry(base, to_row=True)
        count, base = self.run_while(base, capacity)
        with b.if_(self.is_fine()).then():
            self.copy_carry(self.row(base, count), to_row=False)
        for number in range(len(self.eqn.params["passes"])):
            self.run_pass(number, base, count)
        b.call("free", base)
        b.leave(b.load(self.status, 0))

    # the stack

    def grown(self, base: Value, capacity: Value) -> Value:
        """The stack with room for so many rows; as it was, and a status, where there is none."""
        b = self.b
        moved = b.call("realloc", base, b.mul(capacity, self.rows.size), result="i64")
        assert moved is not None
        fails = b.eq(moved, 0)
        b.store(self.status, 0, self.no_memory, fails)
        return b.select(fails, base, moved)

    def row(self, base: Value, k: Value) -> Value:
        return self.b.add(base, self.b.mul(k, self.rows.size))

    def put_row(self, table: Table, start: int, row: Value, slots: Sequence[int]) -> None:
        """The addresses of slots of a row."""
        for place, slot in enumerate(slots, start):
            table.put(place, self.b.add(row, self.rows.places[slot]))

    def copy_carry(self, row: Value, *, to_row: bool) -> None:
        """The carry of the while from where the results are to a row, or back."""
        b, count = self.b, self.eqn.params["num_carry"]
        for k, aval in enumerate(self.eqn.params["body"].out_avals[:count]):
            if aval.size:
                home = home_address(self.ctx, self.eqn.outputs[k], self.lane)
                slot = b.add(row, self.rows.places[k])
                ends = (slot, home) if to_row else (home, slot)
                b.call("memcpy", *ends, aval.size * aval.dtype.itemsize)

    # running

    def is_fine(self) -> Value:
        return self.b.eq(self.b.load(self.status, 0), 0)

    def table(self, count: int) -> Table:
        self.tables += 1
        return Table(self.ctx, f"table{self.tables}", count)

    def run(self, inner: Inner, ins: Table, outs: Table) -> Value:
        """Run a program; is everything fine after it?"""
        b = self.b
        status = b.status_of(inner.program, ins.buffer, outs.buffer, self.space.arena)
        b.store(self.status, 0, status)
        return b.eq(status, 0)

    def run_while(self, base: Value, capacity: Value) -> tuple[Value, Value]:
        """Steps as long as the condition holds; how many there were, and the stack."""
        b, (cond, body, *_) = self.b, inner_programs(self.eqn)
        asked, start = len(self.operands.cond_consts), len(self.operands.body_consts)
        carry = range(len(self.operands.carry))
        noted = range(self.rows.widths[0])
        asks, answer = self.table(asked + len(carry)), self.table(1)
        ins, outs = self.table(start + len(carry)), self.table(len(noted))
        truth = b.local(f"{self.ctx.name}_truth", "bool", 1)
        answer.put(0, b.address(truth))
        asks.put_operands(self.eqn, self.operands.cond_consts, self.lane)
        ins.put_operands(self.eqn, self.operands.body_consts, self.lane)
        with b.while_([b.index(0), base, capacity]) as loop:
            k, base, capacity = loop.carries
            go = b.if_(self.is_fine())
            with go.then():
                self.put_row(asks, asked, self.row(base, k), carry)
                go.yield_(b.and_(self.run(cond, asks, answer), b.load(truth, 0)))
            with go.orelse():
                go.yield_(b.const("bool", False))
            loop.test(go.results[0])
            base, capacity = self.with_room(base, capacity, b.add(k, 2))
            step = b.if_(self.is_fine())
            with step.then():
                here, after = self.row(base, k), self.row(base, b.add(k, 1))
                self.put_row(ins, start, here, carry)
                self.put_row(outs, 0, after, carry)
                self.put_row(outs, len(carry), here, noted[len(carry) :])
                step.yield_(b.select(self.run(body, ins, outs), b.add(k, 1), k))
            with step.orelse():
                step.yield_(k)
            loop.yield_(step.results[0], base, capacity)
        count, base, _ = loop.results
        return count, base

    def with_room(self, base: Value, capacity: Value, wanted: Value) -> tuple[Value, Value]:
        """The stack, twice as large where it has no room for so many rows."""
        b = self.b
        grows = b.if_(b.lt(capacity, wanted))
        with grows.then():
            twice = b.mul(capacity, 2)
            grows.yield_(self.grown(base, twice), twice)
        with grows.orelse():
            grows.yield_(base, capacity)
        return grows.results[0], grows.results[1]

    def run_pass(self, number: int, base: Value, count: Value) -> None:
        """A pass over the rows, as long as all is fine."""
        b, each = self.b, self.eqn.params["passes"][number]
        inner: Any = inner_programs(self.eqn)[2 + number]
        consts, _ = self.operands.passes[number]
        known = sum(self.rows.widths[: number + 1])
        emitted = range(known, known + self.rows.widths[number + 1])
        carries = Carries(self.ctx, self.eqn, self.space, self.lane, number)
        start, width = len(consts), len(carries.homes)
        ins, outs = self.table(start + width + known), self.table(width + len(emitted))
        ins.put_operands(self.eqn, consts, self.lane)
        carries.put_fixed((ins, start), (outs, 0))
        with b.while_([b.index(0), *carries.places()]) as loop:
            i, *places = loop.carries
            loop.test(b.and_(b.lt(i, count), self.is_fine()))
            k = b.sub(b.sub(count, 1), i) if each.reverse else i
            row = self.row(base, k)
            carries.put_read(ins, start, places)
            carries.put_written(outs, 0, places)
            self.put_row(ins, start + width, row, range(known))
            self.put_row(outs, width, row, emitted)
            self.run(inner, ins, outs)
            loop.yield_(b.add(i, 1), *swapped(places))
        carries.come_home(loop.results[1:])
