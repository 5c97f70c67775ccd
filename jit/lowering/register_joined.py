"""A while, what is made of its results, and passes over its steps, as one equation in registers.

    joined[jaxpr]: its equations are one of noting_p, which is a while that notes its steps, some of
        any kind, and one of passes_p, which is a sweep whose steps have been taken by the former

Both hold the params of what they were, and the same object as `pair`. The first results of passes_p
are never read: they are those of noting_p.
"""

from __future__ import annotations

from typing import TypeVar

from functrans.extend import Aval, Eqn, Jaxpr, Primitive
from jit.loop_ir.nodes import Value
from jit.lowering.asking import CONTROLS, Asker, Body, TooLarge
from jit.lowering.carried import Carried, from_outside, pass_on, readable_inputs
from jit.lowering.index import Index
from jit.lowering.register_lanes import EachLane, with_lanes
from jit.lowering.register_sweep import Rows, Sweep
from jit.lowering.rules import only_lowered
from jit.lowering.unrolled import Unrolled

Asked = TypeVar("Asked", "Passes", "PassesOfLanes")


def joined_abstract_eval(*avals: Aval, jaxpr: Jaxpr) -> list[Aval]:
    return jaxpr.out_avals


joined_p = Primitive(
    name="joined", abstract_eval=joined_abstract_eval, impl=only_lowered, cheap=False
)
noting_p, passes_p = [
    Primitive(name=name, abstract_eval=only_lowered, impl=only_lowered, cheap=False)
    for name in ("noting", "passes")
]


class Joined:
    """All three, where they stand."""

    def __init__(self, eqn: Eqn) -> None:
        self.eqn = eqn

    def ask(self, asker: Asker) -> None:
        outs, operands = self.eqn.outputs, self.eqn.inputs
        self.needed = Carried(outs, [asker.elements(out) for out in outs])
        body = Body(asker.limits.expanded(self.eqn.params["jaxpr"]))
        self.needs = Asker(body, readable_inputs(asker, body.invars, operands), asker.limits)
        self.needs.want(body.outvars, self.needed.places)
        pass_on(asker, self.needs, body.invars, operands)
        asker.add(self.needs)

    def write(self, writer: Unrolled) -> None:
        body = self.needs.body
        inner = writer.inner(self.needs, from_outside(writer, body.invars, self.eqn.inputs))
        inner.run()
        self.needed.learn(writer, self.eqn.outputs, self.needed.read(inner, body.outvars))


class Passes:
    """The passes. They are asked before the while, which learns from them what to note."""

    def __init__(self, eqn: Eqn) -> None:
        self.sweep = Sweep(eqn)
        self.pair = eqn.params["pair"]
        self.noted: tuple[Value, Rows] | None = None

    def ask(self, asker: Asker) -> None:
        self.sweep.ask_passes(asker)

    def write(self, writer: Unrolled) -> None:
        assert self.noted is not None
        self.sweep.write_passes(writer, *self.noted)


class Noting:
    """The while."""

    def __init__(self, eqn: Eqn) -> None:
        self.eqn = eqn

    def ask(self, asker: Asker) -> None:
        self.passes = partner(asker, Passes, self.eqn)
        self.passes.sweep.begin_with(self.eqn)
        self.passes.sweep.ask_while(asker)

    def write(self, writer: Unrolled) -> None:
        self.passes.noted = self.passes.sweep.write_while(writer)


def partner(asker: Asker, kind: type[Asked], eqn: Eqn) -> Asked:
    """The control of the passes over the steps that an equation notes."""
    for control in asker.controls.values():
        if isinstance(control, kind) and control.pair is eqn.params["pair"]:
            return control
    raise TooLarge("it notes steps that no pass goes over")


class PassesOfLanes(EachLane):
    """The passes of each lane."""

    def __init__(self, eqn: Eqn) -> None:
        super().__init__(eqn)
        self.pair = eqn.params["pair"]


class NotingOfLanes(EachLane):
    """The while of each lane, beside the passes of that lane."""

    def other_lanes(self, asker: Asker) -> list[Index]:
        return [each.lane for each in partner(asker, PassesOfLanes, self.eqn).lanes]

    def prepare(self, asker: Asker, needs: Asker, lane: Index) -> None:
        """It will look for the passes in `needs`."""
        for each in partner(asker, PassesOfLanes, self.eqn).lanes:
            if each.lane == lane:
                needs.controls.update(each.needs.controls)


CONTROLS[joined_p] = Joined
CONTROLS[passes_p] = with_lanes(Passes, PassesOfLanes)
CONTROLS[noting_p] = with_lanes(Noting, NotingOfLanes)
