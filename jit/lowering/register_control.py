"""Loops and branches inside a body in registers: what they carry, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from functrans.extend import Atom, Eqn, Jaxpr, Literal, Var, cond_p, scan_p, while_p
from jit.loop_ir.nodes import Buffer, Value
from jit.lowering import scaling
from jit.lowering.asking import (
    CONTROLS,
    MOST_CARRIED,
    Asker,
    Body,
    Elements,
    Limits,
    TooLarge,
)
from jit.lowering.index import ZERO, Index, Loop, Point, Shape, constant, of_loop, ravel, unravel
from jit.lowering.reduction import joined, parts
from jit.lowering.rules import Element, is_complex, loop_dtype
from jit.lowering.unrolled import Sink, Source, Unrolled

MOST_UNROLLED = 400.0
"""An inner loop of so much work in all is unrolled where its arrays can then stay in registers."""
SHORT = 8.0
"""Branches of so little work are all computed, and one is chosen."""
ONE: Elements = {ZERO: None}
"""The only element of a scalar."""


# -- what loops have in common -----------------------------------------------------------------


class Carried:
    """The carry of a loop: which elements of it go from step to step, in registers."""

    def __init__(self, invars: Sequence[Var], places: Sequence[Mapping[Index, None]]) -> None:
        self.invars = invars
        self.places: list[Elements] = [dict(each) for each in places]

    def grow(self, asker: Asker) -> bool:
        """Take in what a body asks of its carry; answers whether that is anything new."""
        before = self.count
        for var, places in zip(self.invars, self.places, strict=True):
            places.update(asker.elements(var))
        if self.count > MOST_CARRIED:
            raise TooLarge(f"it carries more than {MOST_CARRIED} elements")
        return self.count > before

    @property
    def count(self) -> int:
        return sum(map(len, self.places))

    def ask(self, asker: Asker, atoms: Sequence[Atom]) -> None:
        """Ask for the elements of the first carry."""
        for atom, places in zip(atoms, self.places, strict=True):
            asker.ask_all(atom, places)

    def read(self, writer: Unrolled, atoms: Sequence[Atom]) -> list[Value]:
        """The elements of `atoms` as loop IR values, in order."""
        return [
            value
            for atom, places in zip(atoms, self.places, strict=True)
            for flat in places
            for value in parts(writer.value(atom, Point(atom.aval.shape, flat=flat)))
        ]

    def learn(self, writer: Unrolled, variables: Sequence[Var], values: Sequence[Value]) -> None:
        """Tell a writer that these values are the elements of `variables`."""
        left = iter(values)
        for var, places in zip(variables, self.places, strict=True):
            pair = is_complex(var.aval.dtype)
            for flat in places:
                element = joined([next(left), next(left)] if pair else [next(left)])
                writer.learn(var, flat, element)


def readable_inputs(asker: Asker, invars: Sequence[Var], atoms: Sequence[Atom]) -> set[Var]:
    """The inputs of an inner body whose operands can be read at any place."""
    pairs = zip(invars, atoms, strict=True)
    return {v for v, a in pairs if isinstance(a, Literal) or a in asker.anywhere}


def pass_on(asker: Asker, inner: Asker, invars: Sequence[Var], atoms: Sequence[Atom]) -> None:
    """Ask operands for what an inner body asks of its inputs."""
    for var, atom in zip(invars, atoms, strict=True):
        asker.ask_all(atom, inner.elements(var))


def from_outside(
    writer: Unrolled, invars: Sequence[Var], atoms: Sequence[Atom]
) -> dict[Var, Source]:
    """Inputs of an inner body are elements of the operands around it."""

    def source(atom: Atom) -> Source:
        return lambda flat: writer.value(atom, Point(atom.aval.shape, flat=flat))

    return {var: source(atom) for var, atom in zip(invars, atoms, strict=True)}


def read_ahead(
    writer: Unrolled, inner: Asker, invars: Sequence[Var], atoms: Sequence[Atom]
) -> None:
    """Read what does not change in a loop before it begins."""
    for var, atom in zip(invars, atoms, strict=True):
        for flat in inner.elements(var):
            if writer.needs.is_static(flat):
                writer.value(atom, Point(atom.aval.shape, flat=flat))


# -- scan --------------------------------------------------------------------------------------


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
        needs = self.closed(asker.limits)
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

    def closed(self, limits: Limits) -> Asker:
        """What a step needs, when the carry holds all that any step asks of it."""
        while True:
            needs = Asker(self.body, self.anywhere, limits)
            needs.want(self.body.outvars, [*self.carried.places, *self.made])
            if not self.carried.grow(needs):
                return needs

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


# -- while -------------------------------------------------------------------------------------


class While:
    """Loops with a condition: one, or one for each lane that is needed."""

    def __init__(self, eqn: Eqn) -> None:
        self.eqn = eqn
        self.dims = eqn.params["dims"]
        self.lanes: dict[Index, WhileLane] = {}

    def ask(self, asker: Asker) -> None:
        """Each lane for itself."""
        wanted: dict[Index, list[Elements]] = {}
        for k, out in enumerate(self.eqn.outputs):
            for flat in asker.elements(out):
                lane, rest = (ZERO, flat) if self.dims is None else row(flat, out.aval.shape)
                wanted.setdefault(lane, [{} for _ in self.eqn.outputs])[k][rest] = None
        for lane, places in wanted.items():
            self.lanes[lane] = WhileLane(self.eqn, lane, places)
            self.lanes[lane].ask(asker)

    def write(self, writer: Unrolled) -> None:
        for lane in self.lanes.values():
            lane.write(writer)


class Lane:
    """One lane of operands: the places of an element in those that have an axis for lanes."""

    def __init__(self, index: Index, invars: Sequence[Var], dims: Sequence[int | None]) -> None:
        self.index = index
        self.dims = dict(zip(invars, dims, strict=True))

    def place(self, var: Var, flat: Index) -> Index:
        """Where the element of a lane's input lies in the operand."""
        return flat if self.dims[var] is None else self.index * var.aval.size + flat

    def places(self, var: Var, places: Mapping[Index, None]) -> Elements:
        return {self.place(var, flat): None for flat in places}


class WhileLane:
    """One loop with a condition."""

    def __init__(self, eqn: Eqn, lane: Index, wanted: Sequence[Elements]) -> None:
        params = eqn.params
        first = params["num_cond_consts"]
        last = first + params["num_body_consts"]
        self.eqn, self.lane, self.wanted = eqn, lane, wanted
        self.cond_consts, self.body_consts = eqn.inputs[:first], eqn.inputs[first:last]
        self.init = eqn.inputs[last:]
        dims = params["dims"] or (None,) * len(eqn.inputs)
        self.cond_dims, self.body_dims, self.init_dims = dims[:first], dims[first:last], dims[last:]

    def ask(self, asker: Asker) -> None:
        """The condition is always needed, and of the carry what it or a needed result asks for."""
        limits = asker.limits
        self.cond = Body(limits.expanded(self.eqn.params["cond"]))
        self.body = Body(limits.expanded(self.eqn.params["body"]))
        nc, nb = len(self.cond_consts), len(self.body_consts)
        test_anywhere = readable_inputs(asker, self.cond.invars[:nc], self.cond_consts)
        anywhere = readable_inputs(asker, self.body.invars[:nb], self.body_consts)
        self.test_needs = Asker(self.cond, test_anywhere, limits)
        self.test_needs.want(self.cond.outvars, [ONE])
        self.carried = Carried(self.body.invars[nb:], self.wanted)
        for var, places in zip(self.cond.invars[nc:], self.carried.places, strict=True):
            places.update(self.test_needs.elements(var))
        self.needs = self.closed(anywhere, limits)
        for needs in (self.test_needs, self.needs):
            asker.add(needs, own=bool(self.lane.terms))
        tested, used, carries = self.cond.invars[:nc], self.body.invars[:nb], self.carried.invars
        self.pass_on(asker, self.test_needs, tested, self.cond_consts, self.cond_dims)
        self.pass_on(asker, self.needs, used, self.body_consts, self.body_dims)
        lane = Lane(self.lane, carries, self.init_dims)
        for var, atom, places in zip(carries, self.init, self.carried.places, strict=True):
            asker.ask_all(atom, lane.places(var, places))

    def closed(self, anywhere: Set[Var], limits: Limits) -> Asker:
        """What a step needs, when the carry holds all that any step asks of it."""
        while True:
            needs = Asker(self.body, anywhere, limits)
            needs.want(self.body.outvars, self.carried.places)
            if not self.carried.grow(needs):
                return needs

    def pass_on(
        self,
        asker: Asker,
        inner: Asker,
        invars: Sequence[Var],
        atoms: Sequence[Atom],
        dims: Sequence[int | None],
    ) -> None:
        """Ask operands for what the loop asks of its inputs."""
        lane = Lane(self.lane, invars, dims)
        for var, atom in zip(invars, atoms, strict=True):
            asker.ask_all(atom, lane.places(var, inner.elements(var)))

    def sources(
        self,
        writer: Unrolled,
        invars: Sequence[Var],
        atoms: Sequence[Atom],
        dims: Sequence[int | None],
    ) -> dict[Var, Source]:
        """Inputs of the loop are elements of its operands, of this lane."""
        lane = Lane(self.lane, invars, dims)

        def source(var: Var, atom: Atom) -> Source:
            shape = atom.aval.shape
            return lambda flat: writer.value(atom, Point(shape, flat=lane.place(var, flat)))

        return {v: source(v, a) for v, a in zip(invars, atoms, strict=True)}

    def write(self, writer: Unrolled) -> None:
        """Test, body, test again; the carry is in registers."""
        b, carried = writer.b, self.carried
        nc, nb = len(self.cond_consts), len(self.body_consts)
        tested = self.sources(writer, self.cond.invars[:nc], self.cond_consts, self.cond_dims)
        used = self.sources(writer, self.body.invars[:nb], self.body_consts, self.body_dims)
        for sources, needs in ((tested, self.test_needs), (used, self.needs)):
            for var, source in sources.items():
                for flat in needs.elements(var):
                    if needs.is_static(flat):
                        source(flat)
        first = self.sources(writer, carried.invars, self.init, self.init_dims)
        inits = [
            value
            for var, places in zip(carried.invars, carried.places, strict=True)
            for flat in places
            for value in parts(first[var](flat))
        ]
        with b.while_(inits) as opened, writer.known.block():
            test = writer.inner(self.test_needs, tested)
            carried.learn(test, self.cond.invars[nc:], opened.carries)
            test.run()
            opened.test(test.value(self.cond.outvars[0], Point((), flat=ZERO)))
            step = writer.inner(self.needs, used)
            carried.learn(step, carried.invars, opened.carries)
            carry = dict(zip(carried.invars, self.body.outvars, strict=True))
            opened.yield_(*scaling.step(step, carry, lambda: carried.read(step, self.body.outvars)))
        self.learn(writer, opened.results)

    def learn(self, writer: Unrolled, values: Sequence[Value]) -> None:
        """The final carry is this lane of the results."""
        left = iter(values)
        dims: list[int | None] = [None if self.eqn.params["dims"] is None else 0] * len(self.init)
        lane = Lane(self.lane, self.carried.invars, dims)
        pairs = zip(self.carried.invars, self.carried.places, self.eqn.outputs, strict=True)
        for var, places, out in pairs:
            pair = is_complex(var.aval.dtype)
            for flat in places:
                element = joined([next(left), next(left)] if pair else [next(left)])
                writer.learn(out, lane.place(var, flat), element)


# -- cond --------------------------------------------------------------------------------------


class Cond:
    """One of several bodies: a branch, or a choice among all where they are short."""

    def __init__(self, eqn: Eqn) -> None:
        self.eqn = eqn
        self.index, self.operands = eqn.inputs[0], eqn.inputs[1:]
        self.needs: list[Asker] = []

    def ask(self, asker: Asker) -> None:
        """Every branch is asked for what is needed of the results."""
        self.places = [dict(asker.elements(out)) for out in self.eqn.outputs]
        if not any(self.places):
            return
        for branch in self.eqn.params["branches"]:
            body = Body(asker.limits.expanded(branch))
            needs = Asker(body, readable_inputs(asker, body.invars, self.operands), asker.limits)
            needs.want(body.outvars, self.places)
            pass_on(asker, needs, body.invars, self.operands)
            asker.add(needs)
            self.needs.append(needs)
        asker.ask_all(self.index, ONE)
        short = sum(needs.cost for needs in self.needs) <= SHORT
        self.chooses = short and not any(needs.controls or needs.checks for needs in self.needs)

    def write(self, writer: Unrolled) -> None:
        if not self.needs:
            return
        index = writer.value(self.index, Point((), flat=ZERO))
        found = iter(self.branch(writer, index, 0))
        for out, places in zip(self.eqn.outputs, self.places, strict=True):
            pair = is_complex(out.aval.dtype)
            for flat in places:
                element = joined([next(found), next(found)] if pair else [next(found)])
                writer.learn(out, flat, element)

    def branch(self, writer: Unrolled, index: Value, k: int) -> Sequence[Value]:
        """The results of branch k where the index says so, else of those after it."""
        if k == len(self.needs) - 1:
            return self.results(writer, k)
        b = writer.b
        here = b.le(index, k)
        if self.chooses:
            pairs = zip(self.results(writer, k), self.branch(writer, index, k + 1), strict=True)
            return [b.select(here, then, orelse) for then, orelse in pairs]
        opened = b.if_(here)
        with opened.then(), writer.known.block():
            opened.yield_(*self.results(writer, k))
        with opened.orelse(), writer.known.block():
            opened.yield_(*self.branch(writer, index, k + 1))
        return opened.results

    def results(self, writer: Unrolled, k: int) -> list[Value]:
        """Run one branch where the writer stands."""
        needs = self.needs[k]
        inner = writer.inner(needs, from_outside(writer, needs.body.invars, self.operands))
        inner.run()
        return [
            value
            for atom, places in zip(needs.body.outvars, self.places, strict=True)
            for flat in places
            for value in parts(inner.value(atom, Point(atom.aval.shape, flat=flat)))
        ]


CONTROLS[scan_p] = Scan
CONTROLS[while_p] = While
CONTROLS[cond_p] = Cond
