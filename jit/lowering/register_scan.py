"""Scans inside a body in registers: loops of known length, or their steps one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from functrans.extend import Atom, Eqn, Jaxpr, Var, scan_p
from jit.loop_ir.nodes import Buffer, Value
from jit.lowering import scaling
from jit.lowering.asking import CONTROLS, Asker, Body, Elements, TooLarge
from jit.lowering.carried import (
    Carried,
    closed,
    from_outside,
    pass_on,
    read_ahead,
    readable_inputs,
)
from jit.lowering.index import Index, Loop, Point, Shape, constant, of_loop, ravel, unravel
from jit.lowering.rules import Element, is_complex, joined, loop_dtype, parts
from jit.lowering.unrolled import Sink, Source, Unrolled

MOST_UNROLLED = 400.0
"""An inner loop of so much work in all is unrolled where its arrays can then stay in registers."""


class Scan:
    """A loop of known length."""

    def __init__(self, eqn: Eqn) -> None:
        params = eqn.params
        first, last = params["num_consts"], params["num_consts"] + params["num_carry"]
        self.jaxpr: Jaxpr = params["jaxpr"]
        self.length: int = params["length"]
        self.reverse: bool = params["reverse"]
        self.consts, self.init, self.xs = (
            eqn.inputs[:first],
            eqn.inputs[first:last],
            eqn.inputs[last:],
        )
        self.num_consts, self.num_carry = first, last - first
        self.results = eqn.outputs[: self.num_carry]
        self.ys = eqn.outputs[self.num_carry :]
        self.loop = Loop(self.length, "k")
        self.steps: list[Asker] = []
        self.unrolled = False

    def split(self, atoms: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """The inputs of the body: consts, carry, slices."""
        last = self.num_consts + self.num_carry
        return atoms[: self.num_consts], atoms[self.num_consts : last], atoms[last:]

    def place(self, step: Index) -> Index:
        """The slice that a step takes."""
        return step * -1 + (self.length - 1) if self.reverse else step

    # asking

    def ask(self, asker: Asker) -> None:
        """The elements of results that are needed decide what is carried."""
        self.body = Body(asker.limits.expanded(self.jaxpr))
        wanted = [asker.elements(v) for v in self.results]
        self.made = [rows(asker.elements(y), y.aval.shape) for y in self.ys]
        self.carried = Carried(self.split(self.body.invars)[1], wanted)
        if not self.length or not (self.carried.count or any(self.made)):
            self.carried.ask(asker, self.init)
            return
        self.anywhere = readable_inputs(asker, self.inputs(), [*self.consts, *self.xs])
        needs = closed(self.body, self.anywhere, asker.limits, self.carried, self.made)
        self.steps = [needs]
        if self.needs_memory(asker):
            self.unrolled = self.length * needs.cost <= MOST_UNROLLED
            if not self.unrolled and asker.limits.lanes is not None:
                raise TooLarge("an inner loop makes arrays for each lane")
        if self.unrolled:
            asker.add(needs, copies=self.length)
            self.ask_unrolled(asker, wanted)
        else:
            asker.add(needs, steps=1 if asker.outermost else self.length)
            self.ask_rolled(asker, needs)

    def inputs(self) -> list[Var]:
        """The inputs of the body that are no carry."""
        consts, _, slices = self.split(self.body.invars)
        return [*consts, *slices]

    def needs_memory(self, asker: Asker) -> bool:
        """Would arrays that this loop reads or makes have to leave the registers?"""
        made = any(self.made) and not asker.outermost
        return made or any(v not in self.anywhere for v in self.split(self.body.invars)[2])

    def ask_rolled(self, asker: Asker, needs: Asker) -> None:
        """Operands are asked for what any step needs."""
        consts, _, slices = self.split(self.body.invars)
        pass_on(asker, needs, consts, self.consts)
        self.carried.ask(asker, self.init)
        for var, atom in zip(slices, self.xs, strict=True):
            steps = [of_loop(self.loop)]
            if var not in self.anywhere:
                steps = [constant(k) for k in range(self.length)]
            for step in steps:
                self.ask_slice(asker, needs, var, atom, step)

    def ask_slice(self, asker: Asker, needs: Asker, var: Var, atom: Atom, step: Index) -> None:
        """What one step needs of an x."""
        start = self.place(step) * var.aval.size
        asker.ask_all(atom, {start + flat: None for flat in needs.elements(var)})

    def ask_unrolled(self, asker: Asker, wanted: Sequence[Elements]) -> None:
        """Step by step, from the last: each needs what the one after it asks of its carry."""
        consts, carries, slices = self.split(self.body.invars)
        self.steps = []
        for k in reversed(range(self.length)):
            step = self.place(constant(k))
            made = [
                rows(
                    {f: None for f in asker.elements(y) if unravel(f, y.aval.shape)[0] == step},
                    y.aval.shape,
                )
                for y in self.ys
            ]
            needs = Asker(self.body, self.anywhere, asker.limits)
            needs.want(self.body.outvars, [*wanted, *made])
            pass_on(asker, needs, consts, self.consts)
            for var, atom in zip(slices, self.xs, strict=True):
                self.ask_slice(asker, needs, var, atom, constant(k))
            wanted = [needs.elements(v) for v in carries]
            self.steps.insert(0, needs)
        for atom, places in zip(self.init, wanted, strict=True):
            asker.ask_all(atom, places)

    # writing

    def write(self, writer: Unrolled) -> None:
        """A loop, its steps one after the other, or nothing at all."""
        if not self.steps:
            self.carried.learn(writer, self.results, self.carried.read(writer, self.init))
        elif self.unrolled:
            self.write_unrolled(writer)
        else:
            self.write_rolled(writer)

    def write_unrolled(self, writer: Unrolled) -> None:
        """No loop: each step in its place."""
        consts, carries, slices = self.split(self.body.invars)
        carry = from_outside(writer, carries, self.init)
        for k, needs in enumerate(self.steps):
            step = constant(k)
            sources = from_outside(writer, consts, self.consts) | carry
            sources |= self.slices_of(writer, slices, step)
            inner = writer.inner(needs, sources)
            inner.run()
            outs, made = self.body.outvars[: self.num_carry], self.body.outvars[self.num_carry :]
            carry = from_outside(inner, carries, outs)
            for y, atom in zip(self.ys, made, strict=True):
                self.learn_slice(writer, y, step, inner, atom)
        for var, inside in zip(self.results, carries, strict=True):
            for flat in writer.elements(var):
                writer.learn(var, flat, carry[inside](flat))

    def learn_slice(
        self, writer: Unrolled, y: Var, step: Index, inner: Unrolled, atom: Atom
    ) -> None:
        """The needed elements of a y that one step makes."""
        for flat in writer.elements(y):
            first, rest = row(flat, y.aval.shape)
            if first == self.place(step):
                writer.learn(y, flat, inner.value(atom, Point(atom.aval.shape, flat=rest)))

    def slices_of(self, writer: Unrolled, slices: Sequence[Var], step: Index) -> dict[Var, Source]:
        """Where the elements of a step's slices come from."""

        def source(var: Var, atom: Atom) -> Source:
            start, shape = self.place(step) * var.aval.size, atom.aval.shape
            return lambda flat: writer.value(atom, Point(shape, flat=start + flat))

        return {v: source(v, a) for v, a in zip(slices, self.xs, strict=True)}

    def write_rolled(self, writer: Unrolled) -> None:
        """One loop; its carry is in registers."""
        b, (needs,), carried = writer.b, self.steps, self.carried
        consts, carries, slices = self.split(self.body.invars)
        read_ahead(writer, needs, consts, self.consts)
        spilled = {
            v: Spilled(writer, a, needs.elements(v), self.length)
            for v, a in zip(slices, self.xs, strict=True)
            if v not in self.anywhere and needs.elements(v)
        }
        sinks = [self.sink(writer, y, made) for y, made in zip(self.ys, self.made, strict=True)]
        opened = b.for_(self.length, "serial", carried.read(writer, self.init), hint="k")
        with opened, writer.known.block():
            self.loop.value, self.loop.level = opened.i, len(b.scopes) - 1
            step = of_loop(self.loop)
            sources = from_outside(writer, consts, self.consts)
            sources |= self.slices_of(writer, slices, step)
            sources |= {v: kept.source(self.place(step)) for v, kept in spilled.items()}
            inner = writer.inner(needs, sources)
            carried.learn(inner, carries, opened.carries)
            opened.yield_(*self.write_step(inner, sinks))
        carried.learn(writer, self.results, opened.results)
        for y, sink in zip(self.ys, sinks, strict=True):
            if isinstance(sink, Kept):
                sink.learn(writer, y)

    def write_step(self, inner: Unrolled, sinks: Sequence[Sink]) -> Sequence[Value]:
        """One step: its slices go to memory; answers the next carry."""
        outs, made = self.body.outvars[: self.num_carry], self.body.outvars[self.num_carry :]
        place = self.place(of_loop(self.loop))

        def finish() -> Sequence[Value]:
            for atom, places, sink in zip(made, self.made, sinks, strict=True):
                for flat in places:
                    sink(place, flat, inner.value(atom, Point(atom.aval.shape, flat=flat)))
            return self.carried.read(inner, outs)

        return scaling.step(inner, dict(zip(self.carried.invars, outs, strict=True)), finish)

    def sink(self, writer: Unrolled, y: Var, places: Elements) -> Sink:
        """Where the slices of a y go: to a result of the kernel, or to its stack."""
        given = writer.sinks.get(y)
        return Kept(writer, y, places, self.length) if given is None else given


def row(flat: Index, shape: Shape) -> tuple[Index, Index]:
    """The index along the first axis, and the place in that row."""
    multi = unravel(flat, shape)
    return multi[0], ravel(multi[1:], shape[1:])


def rows(places: Mapping[Index, None], shape: Shape) -> Elements:
    """The places in a row that are needed of any row."""
    return {row(flat, shape)[1]: None for flat in places}


class OnStack:
    """Some elements of each step of a loop, in a buffer on the stack of the kernel."""

    def __init__(
        self, writer: Unrolled, var: Atom, places: Mapping[Index, None], steps: int
    ) -> None:
        dtype = var.aval.dtype
        self.writer = writer
        self.numbers = {flat: k for k, flat in enumerate(places)}
        self.pair = is_complex(dtype)
        self.width = len(self.numbers) * (2 if self.pair else 1)
        name = f"kept{len(writer.b.buffers)}"
        size = max(self.width * steps, 1)
        self.buffer: Buffer = writer.b.local(name, loop_dtype(dtype), size)

    def at(self, step: Index, flat: Index) -> Index:
        """Where an element lies."""
        return step * self.width + self.numbers[flat] * (2 if self.pair else 1)

    def store(self, step: Index, flat: Index, element: Element) -> None:
        first = self.at(step, flat)
        for k, value in enumerate(parts(element)):
            self.writer.b.store(self.buffer, self.writer.number(first + k), value)

    def load(self, step: Index, flat: Index) -> Element:
        first, b = self.at(step, flat), self.writer.b
        count = 2 if self.pair else 1
        return joined([b.load(self.buffer, self.writer.number(first + k)) for k in range(count)])


class Kept(OnStack):
    """The slices that an inner loop makes."""

    def __call__(self, step: Index, flat: Index, element: Element) -> None:
        self.store(step, flat, element)

    def learn(self, writer: Unrolled, y: Var) -> None:
        """After the loop its elements are read back."""
        for flat in writer.elements(y):
            writer.learn(y, flat, self.load(*row(flat, y.aval.shape)))


class Spilled(OnStack):
    """An array in registers that an inner loop reads slice by slice."""

    def __init__(
        self, writer: Unrolled, atom: Atom, places: Mapping[Index, None], steps: int
    ) -> None:
        super().__init__(writer, atom, places, steps)
        shape = atom.aval.shape
        size = atom.aval.size // max(shape[0], 1)
        for k in range(steps):
            for flat in places:
                element = writer.value(atom, Point(shape, flat=flat + k * size))
                self.store(constant(k), flat, element)

    def source(self, step: Index) -> Source:
        return lambda flat: self.load(step, flat)


CONTROLS[scan_p] = Scan
