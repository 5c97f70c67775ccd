"""Whiles inside a body in registers: one loop, or one for each lane that is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from functrans.extend import Atom, Eqn, Var, while_p
from jit.loop_ir.nodes import Value
from jit.lowering import scaling
from jit.lowering.asking import CONTROLS, Asker, Body, Elements
from jit.lowering.carried import ONE, Carried, closed, readable_inputs
from jit.lowering.index import ZERO, Index, Point
from jit.lowering.reduction import parts
from jit.lowering.register_scan import row
from jit.lowering.unrolled import Source, Unrolled


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
        self.needs = closed(self.body, anywhere, limits, self.carried)
        for needs in (self.test_needs, self.needs):
            asker.add(needs, own=bool(self.lane.terms))
        tested, used, carries = self.cond.invars[:nc], self.body.invars[:nb], self.carried.invars
        self.pass_on(asker, self.test_needs, tested, self.cond_consts, self.cond_dims)
        self.pass_on(asker, self.needs, used, self.body_consts, self.body_dims)
        lane = Lane(self.lane, carries, self.init_dims)
        for var, atom, places in zip(carries, self.init, self.carried.places, strict=True):
            asker.ask_all(atom, lane.places(var, places))

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
        dims: list[int | None] = [None if self.eqn.params["dims"] is None else 0] * len(self.init)
        lane = Lane(self.lane, self.carried.invars, dims)
        for k, flat, element in self.carried.elements(values):
            place = lane.place(self.carried.invars[k], flat)
            writer.learn(self.eqn.outputs[k], place, element)


CONTROLS[while_p] = While
