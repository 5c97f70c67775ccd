"""Sweeps in registers: a while that notes what its passes read, step by step, in grown memory.

A step is a row of memory for each type; it holds only those elements of the carry, and of what the
body and the passes note, that some pass asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

from functrans.extend import Atom, Eqn, Jaxpr, Var, sweep_p
from jit.loop_ir.nodes import Buffer, DType, Value
from jit.lowering import scaling
from jit.lowering.asking import CONTROLS, Asker, Body, Elements, Limits
from jit.lowering.carried import (
    ONE,
    Carried,
    closed,
    from_outside,
    pass_on,
    read_ahead,
    readable_inputs,
)
from jit.lowering.index import ZERO, Index, Point
from jit.lowering.register_lanes import with_lanes
from jit.lowering.rules import Element, is_complex, joined, loop_dtype, parts
from jit.lowering.unrolled import Unrolled
from jit.names import NO_MEMORY


def cut(items: Sequence[Any], *counts: int) -> list[Sequence[Any]]:
    """Groups of so many items, one after the other; what is left is the last group."""
    ends = [0, *accumulate(counts)]
    groups = [items[a:b] for a, b in pairwise(ends)]
    return [*groups, items[ends[-1] :]]


class OnePass:
    """One pass: its own consts and carry, then what was noted before it at the same step."""

    def __init__(self, body: Body, reverse: bool, consts: Sequence[Atom], init: Sequence[Atom]):
        self.body, self.reverse = body, reverse
        self.consts, self.init = consts, init
        groups = cut(body.invars, len(consts), len(init))
        self.const_vars, self.carry_vars, self.noted_vars = groups
        self.next, self.notes = cut(body.outvars, len(init))

    def ask(
        self, asker: Asker, results: Sequence[Var], noted: Sequence[Elements]
    ) -> Sequence[Elements]:
        """noted: what passes after this one read of what it notes. Answers what it reads."""
        anywhere = readable_inputs(asker, self.const_vars, self.consts)
        self.noted = noted
        self.carried = Carried(self.carry_vars, [asker.elements(v) for v in results])
        self.needs = closed(self.body, anywhere, asker.limits, self.carried, noted)
        asker.add(self.needs)
        pass_on(asker, self.needs, self.const_vars, self.consts)
        self.carried.ask(asker, self.init)
        return [self.needs.elements(v) for v in self.noted_vars]

    def write(self, writer: Unrolled, count: Value, rows: Rows, results: Sequence[Var]) -> None:
        """A loop over the steps that were noted; a lane takes part in its own."""
        b, steps = writer.b, rows.latest(count)
        read_ahead(writer, self.needs, self.const_vars, self.consts)
        opened = b.for_(steps, "serial", self.carried.read(writer, self.init), hint="k")
        with opened, writer.known.block():
            k = b.sub(b.sub(steps, 1), opened.i) if self.reverse else opened.i
            if rows.lane is None:
                opened.yield_(*self.one_step(writer, k, rows, opened.carries))
            else:
                branch = b.if_(b.lt(k, count))
                with branch.then(), writer.known.block():
                    branch.yield_(*self.one_step(writer, k, rows, opened.carries))
                with branch.orelse():
                    branch.yield_(*opened.carries)
                opened.yield_(*branch.results)
        self.carried.learn(writer, results, opened.results)

    def one_step(
        self, writer: Unrolled, k: Value, rows: Rows, carry: Sequence[Value]
    ) -> Sequence[Value]:
        """The carry after step k."""
        sources = from_outside(writer, self.const_vars, self.consts)
        for number, var in enumerate(self.noted_vars):
            sources[var] = partial(rows.load, k, number)
        inner = writer.inner(self.needs, sources)
        self.carried.learn(inner, self.carry_vars, carry)

        def finish() -> Sequence[Value]:
            rows.note(inner, k, len(self.noted_vars), self.notes, self.noted)
            return self.carried.read(inner, self.next)

        return scaling.step(inner, dict(zip(self.carry_vars, self.next, strict=True)), finish)


class Rows:
    """What is noted at each step: a place in a row for each needed element of each noted value.

    In a loop over lanes a place holds a number for each lane of the vector.
    """

    def __init__(self, writer: Unrolled, atoms: Sequence[Atom], noted: Sequence[Elements]) -> None:
        self.b = writer.b
        self.lane = None if writer.lanes is None else writer.lanes.value
        self.kinds: list[tuple[DType, bool]] = [
            (loop_dtype(a.aval.dtype), is_complex(a.aval.dtype)) for a in atoms
        ]
        self.widths: dict[DType, int] = {}
        self.places: list[dict[Index, int]] = []
        for (dtype, pair), elements in zip(self.kinds, noted, strict=True):
            first = self.widths.get(dtype, 0)
            size = 2 if pair else 1
            self.places.append({flat: first + size * j for j, flat in enumerate(elements)})
            self.widths[dtype] = first + size * len(elements)
        number = len(self.b.buffers)
        self.buffers: dict[DType, Buffer] = {
            dtype: self.b.grown(f"steps{number}_{dtype}", dtype)
            for dtype, width in self.widths.items()
            if width
        }

    def make_room(self, steps: Value) -> None:
        """For so many steps."""
        for dtype, buffer in self.buffers.items():
            self.b.grow(buffer, self.of_lanes(self.b.mul(steps, self.widths[dtype])), NO_MEMORY)

    def of_lanes(self, places: Value) -> Value:
        """How many numbers so many places hold."""
        return places if self.lane is None else self.b.mul(places, self.b.op("lanes", self.lane))

    def latest(self, k: Value) -> Value:
        """The greatest of all lanes' steps: while a lane runs, its own."""
        return k if self.lane is None else self.b.op("most", k)

    def at(self, k: Value, number: int, flat: Index, part: int) -> tuple[Buffer, Value]:
        """Where part of an element of a noted value lies at step k."""
        dtype, _ = self.kinds[number]
        start = self.b.mul(k, self.widths[dtype])
        place = self.of_lanes(self.b.add(start, self.places[number][flat] + part))
        if self.lane is not None:
            place = self.b.add(place, self.b.op("lane", self.lane))
        return self.buffers[dtype], place

    def load(self, k: Value, number: int, flat: Index) -> Element:
        """An element noted at step k."""
        _, pair = self.kinds[number]
        count = 2 if pair else 1
        return joined([self.b.load(*self.at(k, number, flat, part)) for part in range(count)])

    def note(
        self,
        inner: Unrolled,
        k: Value,
        first: int,
        atoms: Sequence[Atom],
        noted: Sequence[Elements],
    ) -> None:
        """Write elements of values, numbered from `first`, to the row of step k."""
        for number, (atom, elements) in enumerate(zip(atoms, noted, strict=True), first):
            for flat in elements:
                element = inner.value(atom, Point(atom.aval.shape, flat=flat))
                for part, value in enumerate(parts(element)):
                    self.b.store(*self.at(k, number, flat, part), value)


class Sweep:
    """A while, and passes over its steps."""

    def __init__(self, eqn: Eqn) -> None:
        params = eqn.params
        self.eqn, self.params = eqn, params
        own = [n for p in params["passes"] for n in (p.num_consts, p.num_carry)]
        self.count: int = params["num_carry"]
        counts = (params["num_cond_consts"], params["num_body_consts"], self.count)
        groups = cut(eqn.inputs, *counts, *own)
        self.cond_consts, self.body_consts, self.init = groups[:3]
        self.counts = counts
        self.operands = list(zip(groups[3:-1:2], groups[4:-1:2], strict=True))
        self.results = cut(eqn.outputs, self.count, *[p.num_carry for p in params["passes"]])

    def begin_with(self, eqn: Eqn) -> None:
        """Take the steps of a while, on its operands."""
        self.cond_consts, self.body_consts, self.init, _ = cut(eqn.inputs, *self.counts)
        self.results[0] = eqn.outputs

    def ask(self, asker: Asker) -> None:
        """The passes from the last to the first, then the while, which notes what they read."""
        self.ask_passes(asker)
        self.ask_while(asker)

    def ask_passes(self, asker: Asker) -> None:
        limits = asker.limits
        self.cond, self.body = self.bodies(limits, "cond"), self.bodies(limits, "body")
        self.passes = [
            OnePass(Body(limits.expanded(p.jaxpr)), p.reverse, consts, init)
            for p, (consts, init) in zip(self.params["passes"], self.operands, strict=True)
        ]
        self.next, self.notes = cut(self.body.outvars, self.count)
        self.slots = [*self.init, *self.notes, *[a for p in self.passes for a in p.notes]]
        self.noted: list[Elements] = [{} for _ in self.slots]
        for each, results in reversed(list(zip(self.passes, self.results[1:-1], strict=True))):
            first = len(each.noted_vars)
            reads = each.ask(asker, results, self.noted[first : first + len(each.notes)])
            for slot, elements in zip(self.noted, reads, strict=False):
                slot.update(elements)

    def bodies(self, limits: Limits, name: str) -> Body:
        jaxpr: Jaxpr = self.params[name]
        return Body(limits.expanded(jaxpr))

    def ask_while(self, asker: Asker) -> None:
        """It carries what its results, its test and the passes need."""
        nc, nb = len(self.cond_consts), len(self.body_consts)
        self.tested, self.used = self.cond.invars[:nc], self.body.invars[:nb]
        anywhere = readable_inputs(asker, self.tested, self.cond_consts)
        self.test_needs = Asker(self.cond, anywhere, asker.limits)
        self.test_needs.want(self.cond.outvars, [ONE])
        self.carried = Carried(self.body.invars[nb:], [asker.elements(v) for v in self.results[0]])
        extra = zip(self.carried.places, self.noted, self.cond.invars[nc:], strict=False)
        for places, noted, var in extra:
            places.update(noted)
            places.update(self.test_needs.elements(var))
        anywhere = readable_inputs(asker, self.used, self.body_consts)
        notes = self.noted[self.count : self.count + len(self.notes)]
        self.needs = closed(self.body, anywhere, asker.limits, self.carried, notes)
        for needs in (self.test_needs, self.needs):
            asker.add(needs)
        pass_on(asker, self.test_needs, self.tested, self.cond_consts)
        pass_on(asker, self.needs, self.used, self.body_consts)
        self.carried.ask(asker, self.init)

    def write(self, writer: Unrolled) -> None:
        """The while, then the passes."""
        self.write_passes(writer, *self.write_while(writer))

    def write_passes(self, writer: Unrolled, count: Value, rows: Rows) -> None:
        for each, results in zip(self.passes, self.results[1:-1], strict=True):
            each.write(writer, count, rows, results)

    def write_while(self, writer: Unrolled) -> tuple[Value, Rows]:
        """Answers the number of its steps, and what they noted."""
        b, carried = writer.b, self.carried
        rows = Rows(writer, self.slots, self.noted)
        read_ahead(writer, self.test_needs, self.tested, self.cond_consts)
        read_ahead(writer, self.needs, self.used, self.body_consts)
        inits = [*carried.read(writer, self.init), b.const("i64", 0)]
        with b.while_(inits) as opened, writer.known.block():
            *phis, k = opened.carries
            tested = from_outside(writer, self.tested, self.cond_consts)
            test = writer.inner(self.test_needs, tested)
            carried.learn(test, self.cond.invars[len(self.tested) :], phis)
            test.run()
            opened.test(test.value(self.cond.outvars[0], Point((), flat=ZERO)))
            used = from_outside(writer, self.used, self.body_consts)
            inner = writer.inner(self.needs, used)
            carried.learn(inner, carried.invars, phis)
            step = rows.latest(k)
            rows.make_room(b.add(step, 1))
            rows.note(inner, step, 0, carried.invars, self.noted[: self.count])
            inner.run()
            notes = self.noted[self.count : self.count + len(self.notes)]
            rows.note(inner, step, self.count, self.notes, notes)
            opened.yield_(*carried.read(inner, self.next), b.add(k, 1))
        *finals, count = opened.results
        carried.learn(writer, self.results[0], finals)
        return count, rows


CONTROLS[sweep_p] = with_lanes(Sweep)
