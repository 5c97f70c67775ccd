"""Lanes of a while or a sweep inside a body in registers: each that is needed is a loop of its own.

The loop of one lane is the same equation without lanes, on that lane of its operands. Where the
lane is the one of a loop over lanes that runs around all, one loop stands for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from functrans.extend import Aval, Eqn, Jaxpr, Var
from jit.lowering.asking import Asker, Body, Control, Elements
from jit.lowering.carried import readable_inputs
from jit.lowering.index import Index, Point
from jit.lowering.register_scan import row
from jit.lowering.unrolled import Source, Unrolled


def with_lanes(
    one: Callable[[Eqn], Control], lanes: Callable[[Eqn], Control] | None = None
) -> Callable[[Eqn], Control]:
    """The control of an equation that may have lanes, from that of one without."""
    each = EachLane if lanes is None else lanes
    return lambda eqn: one(eqn) if eqn.params["lanes"] is None else each(eqn)


class OneLane(NamedTuple):
    """The loop of one lane: where it lies, what it needs, and which elements of its results."""

    lane: Index
    needs: Asker
    places: Sequence[Elements]


class EachLane:
    """The lanes that are needed of an equation, one by one."""

    def __init__(self, eqn: Eqn) -> None:
        self.eqn = eqn
        dims: Sequence[int | None] = eqn.params["dims"]
        pairs = zip(eqn.inputs, dims, strict=True)
        self.inputs = [Var(a.aval if dim is None else without_lanes(a.aval)) for a, dim in pairs]
        self.outputs = [Var(without_lanes(out.aval)) for out in eqn.outputs]
        self.dims = dict(zip(self.inputs, dims, strict=True))
        params = eqn.params | {"lanes": None, "dims": None}
        alone = Eqn(eqn.primitive, self.inputs, self.outputs, params, eqn.source)
        self.body = Body(Jaxpr(self.inputs, [alone], self.outputs))
        self.lanes: list[OneLane] = []

    def ask(self, asker: Asker) -> None:
        """Each lane asks for its part of the operands."""
        wanted: dict[Index, list[Elements]] = {
            lane: [{} for _ in self.outputs] for lane in self.other_lanes(asker)
        }
        for k, out in enumerate(self.eqn.outputs):
            for flat in asker.elements(out):
                lane, rest = row(flat, out.aval.shape)
                wanted.setdefault(lane, [{} for _ in self.outputs])[k][rest] = None
        anywhere = readable_inputs(asker, self.inputs, self.eqn.inputs)
        for index, places in wanted.items():
            needs = Asker(self.body, anywhere, asker.limits)
            self.prepare(asker, needs, index)
            needs.want(self.outputs, places)
            asker.add(needs, own=bool(index.terms))
            for var, atom in zip(self.inputs, self.eqn.inputs, strict=True):
                asker.ask_all(atom, self.places(index, var, needs.elements(var)))
            self.lanes.append(OneLane(index, needs, places))

    def other_lanes(self, asker: Asker) -> Iterable[Index]:
        """Lanes that are needed even where nobody reads their results."""
        return ()

    def prepare(self, asker: Asker, needs: Asker, lane: Index) -> None:
        """What the asker of a lane must know before it is asked."""

    def place(self, lane: Index, var: Var, flat: Index) -> Index:
        """Where an element of a lane's input lies in the operand."""
        return flat if self.dims[var] is None else lane * var.aval.size + flat

    def places(self, lane: Index, var: Var, places: Mapping[Index, None]) -> Elements:
        return {self.place(lane, var, flat): None for flat in places}

    def write(self, writer: Unrolled) -> None:
        for lane, needs, wanted in self.lanes:
            inner = writer.inner(needs, self.sources(writer, lane))
            inner.run()
            for out, own, places in zip(self.eqn.outputs, self.outputs, wanted, strict=True):
                for flat in places:
                    writer.learn(out, lane * own.aval.size + flat, inner.element(own, flat))

    def sources(self, writer: Unrolled, lane: Index) -> dict[Var, Source]:
        """Where the elements of a lane's inputs come from."""

        def source(k: int) -> Source:
            var, atom = self.inputs[k], self.eqn.inputs[k]
            shape = atom.aval.shape
            return lambda flat: writer.value(atom, Point(shape, flat=self.place(lane, var, flat)))

        return {var: source(k) for k, var in enumerate(self.inputs)}


def without_lanes(aval: Aval) -> Aval:
    return Aval(aval.shape[1:], aval.dtype)
