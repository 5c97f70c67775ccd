"""Sweeps: a loop that notes its steps on a stack that grows, and passes over what it noted.

The step writes its new carry straight into the next row of the stack, and passes read and write
rows where they lie. The stack is a grown buffer, given back wherever the function returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from functrans.extend import Aval, Eqn, Jaxpr, Var
from jit.loop_ir.nodes import Value
from jit.lowering.contraction import GEMMS
from jit.lowering.inner import Inner, inner_programs
from jit.lowering.loops import (
    Carries,
    Space,
    Table,
    begin_lanes,
    calls_of,
    changed_inits,
    home_address,
    homes_of_pass,
    in_lanes,
    lanes_workspace,
    program_sweep_p,
    slice_units,
    swapped,
)
from jit.lowering.root import RootContext
from jit.lowering.rules import lowers_root
from jit.names import NO_MEMORY


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


class Factor(NamedTuple):
    """A factor of a product of rows: which value of a row, its length along the axis that stays,
    and how many elements apart it goes along that axis, and along the one that is summed.
    """

    slot: int
    length: int
    step: int
    deep: int


class Total(NamedTuple):
    """A product of all rows that is added to a carry of a pass when that is over.

    `depth` is how long the summed axis is in a row.
    """

    carry: int
    left: Factor
    right: Factor
    depth: int


class PassPlan(NamedTuple):
    """How a pass runs: its program, for which of its carries, the values that it notes for the
    sake of `totals`, which follow those of all passes in a row, and what is added at the end.
    """

    jaxpr: Jaxpr
    kept: tuple[int, ...]
    private: tuple[Aval, ...]
    totals: tuple[Total, ...]


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
    noted = [*noted, *[aval for plan in p["plans"] for aval in plan.private]]
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
        self.stack = ctx.b.grown(f"{ctx.name}_stack", "u8")

    def write(self) -> None:
        self.run_passes(self.take_steps())

    def take_steps(self) -> Value:
        """The while, its results where they belong; how many steps there were."""
        self.make_room(self.b.index(1))
        self.copy_carry(self.b.index(0), to_row=True)
        count = self.run_while()
        self.copy_carry(count, to_row=False)
        return count

    def run_passes(self, count: Value) -> None:
        for number in range(len(self.eqn.params["passes"])):
            self.run_pass(number, count)

    # the stack

    def make_room(self, rows: Value) -> None:
        self.b.grow(self.stack, self.b.mul(rows, self.rows.size), NO_MEMORY)

    def slot(self, k: Value, place: int) -> Value:
        """The address of a value in row k, until the stack grows."""
        at = self.b.add(self.b.mul(k, self.rows.size), self.rows.places[place])
        return self.b.address(self.stack, at)

    def put_row(self, table: Table, start: int, k: Value, slots: Sequence[int]) -> None:
        """The addresses of values in row k, in a table from a place on."""
        for place, slot in enumerate(slots, start):
            table.put(place, self.slot(k, slot))

    def copy_carry(self, k: Value, *, to_row: bool) -> None:
        """The carry of the while from where the results are to row k, or back."""
        b, count = self.b, self.eqn.params["num_carry"]
        for place, aval in enumerate(self.eqn.params["body"].out_avals[:count]):
            if aval.size:
                home = home_address(self.ctx, self.eqn.outputs[place], self.lane)
                slot = self.slot(k, place)
                ends = (slot, home) if to_row else (home, slot)
                b.call("memcpy", *ends, aval.size * aval.dtype.itemsize)

    # running

    def run(self, inner: Inner, ins: Table, outs: Table) -> None:
        self.b.run(inner.program, ins.buffer, outs.buffer, self.space.arena)

    def run_while(self) -> Value:
        """Steps as long as the condition holds; how many there were."""
        b, (cond, body, *_) = self.b, inner_programs(self.eqn)
        asked, start = len(self.operands.cond_consts), len(self.operands.body_consts)
        carry, noted = range(len(self.operands.carry)), range(self.rows.widths[0])
        asks, answer = Table(self.ctx, "asks", asked + len(carry)), Table(self.ctx, "answer", 1)
        ins, outs = Table(self.ctx, "ins", start + len(carry)), Table(self.ctx, "outs", len(noted))
        truth = b.local(f"{self.ctx.name}_truth", "bool", 1)
        answer.put(0, b.address(truth))
        asks.put_operands(self.eqn, self.operands.cond_consts, self.lane)
        ins.put_operands(self.eqn, self.operands.body_consts, self.lane)
        with b.while_([b.index(0)]) as loop:
            (k,) = loop.carries
            self.put_row(asks, asked, k, carry)
            self.run(cond, asks, answer)
            loop.test(b.load(truth, 0))
            after = b.add(k, 1)
            self.make_room(b.add(k, 2))
            self.put_row(ins, start, k, carry)
            self.put_row(outs, 0, after, carry)
            self.put_row(outs, len(carry), k, noted[len(carry) :])
            self.run(body, ins, outs)
            loop.yield_(after)
        return loop.results[0]

    def run_pass(self, number: int, count: Value) -> None:
        """A pass over the rows."""
        b, each = self.b, self.eqn.params["passes"][number]
        inner = inner_programs(self.eqn)[2 + number]
        consts, _ = self.operands.passes[number]
        known = sum(self.rows.widths[: number + 1])
        emitted = range(known, known + self.rows.widths[number + 1])
        plans: Sequence[PassPlan] = self.eqn.params["plans"]
        first = sum(self.rows.widths) + sum(len(plan.private) for plan in plans[:number])
        private = range(first, first + len(plans[number].private))
        carries = Carries(self.ctx, self.eqn, self.space, self.lane, number)
        start, width = len(consts), len(carries.homes)
        ins = Table(self.ctx, f"ins{number}", start + width + known)
        outs = Table(self.ctx, f"outs{number}", width + len(emitted) + len(private))
        ins.put_operands(self.eqn, consts, self.lane)
        carries.put_fixed((ins, start), (outs, 0))
        with b.for_(count, "serial", carries.places()) as loop:
            k = b.sub(b.sub(count, 1), loop.i) if each.reverse else loop.i
            carries.put_read(ins, start, loop.carries)
            carries.put_written(outs, 0, loop.carries)
            self.put_row(ins, start + width, k, range(known))
            self.put_row(outs, width, k, [*emitted, *private])
            self.run(inner, ins, outs)
            loop.yield_(*swapped(loop.carries))
        carries.come_home(loop.results)
        if plans[number].totals:
            with b.if_(b.gt(count, 0)).then():
                for total in plans[number].totals:
                    self.add_total(total, homes_of_pass(self.eqn, number)[total.carry], count)

    def add_total(self, total: Total, home: Var, count: Value) -> None:
        """home += the product of two values of all rows."""
        b, left, right = self.b, total.left, total.right
        size = home.aval.dtype.itemsize
        symbol = f"ft_gemm_{GEMMS[home.aval.dtype.name]}"
        row, places = self.rows.size // size, self.rows.places
        lane = 0 if self.lane is None else b.mul(self.lane, slice_units(home))
        for k in range(total.depth):
            b.call(
                symbol,
                *(left.length, right.length, count),
                b.ref(self.stack, places[left.slot] + k * left.deep * size),
                *(left.step, row),
                b.ref(self.stack, places[right.slot] + k * right.deep * size),
                *(row, right.step),
                b.ref(self.ctx.buffer(home), lane),
                right.length,
                *(1, 0, 0, 0, 1),
            )
