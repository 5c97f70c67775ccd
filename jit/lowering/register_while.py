"""Whiles inside a body in registers: test, body, test again, the carry in registers."""

from __future__ import annotations

from functrans.extend import Eqn, while_p
from jit.lowering import scaling
from jit.lowering.asking import CONTROLS, Asker, Body
from jit.lowering.carried import (
    ONE,
    Carried,
    closed,
    from_outside,
    pass_on,
    read_ahead,
    readable_inputs,
)
from jit.lowering.index import ZERO, Point
from jit.lowering.register_lanes import with_lanes
from jit.lowering.unrolled import Unrolled


class While:
    """A loop with a condition."""

    def __init__(self, eqn: Eqn) -> None:
        params = eqn.params
        first = params["num_cond_consts"]
        last = first + params["num_body_consts"]
        self.eqn = eqn
        self.cond_consts, self.body_consts = eqn.inputs[:first], eqn.inputs[first:last]
        self.init = eqn.inputs[last:]

    def ask(self, asker: Asker) -> None:
        """The condition is always needed, and of the carry what it or a needed result asks for."""
        limits = asker.limits
        self.cond = Body(limits.expanded(self.eqn.params["cond"]))
        self.body = Body(limits.expanded(self.eqn.params["body"]))
        nc, nb = len(self.cond_consts), len(self.body_consts)
        self.tested, self.used = self.cond.invars[:nc], self.body.invars[:nb]
        anywhere = readable_inputs(asker, self.tested, self.cond_consts)
        self.test_needs = Asker(self.cond, anywhere, limits)
        self.test_needs.want(self.cond.outvars, [ONE])
        self.carried = Carried(self.body.invars[nb:], [asker.elements(v) for v in self.eqn.outputs])
        for var, places in zip(self.cond.invars[nc:], self.carried.places, strict=True):
            places.update(self.test_needs.elements(var))
        anywhere = readable_inputs(asker, self.used, self.body_consts)
        self.needs = closed(self.body, anywhere, limits, self.carried)
        for needs in (self.test_needs, self.needs):
            asker.add(needs)
        pass_on(asker, self.test_needs, self.tested, self.cond_consts)
        pass_on(asker, self.needs, self.used, self.body_consts)
        self.carried.ask(asker, self.init)

    def write(self, writer: Unrolled) -> None:
        """One loop."""
        b, carried = writer.b, self.carried
        read_ahead(writer, self.test_needs, self.tested, self.cond_consts)
        read_ahead(writer, self.needs, self.used, self.body_consts)
        with b.while_(carried.read(writer, self.init)) as opened, writer.known.block():
            tested = from_outside(writer, self.tested, self.cond_consts)
            test = writer.inner(self.test_needs, tested)
            carried.learn(test, self.cond.invars[len(self.tested) :], opened.carries)
            test.run()
            opened.test(test.value(self.cond.outvars[0], Point((), flat=ZERO)))
            step = writer.inner(self.needs, from_outside(writer, self.used, self.body_consts))
            carried.learn(step, carried.invars, opened.carries)
            carry = dict(zip(carried.invars, self.body.outvars, strict=True))
            opened.yield_(*scaling.step(step, carry, lambda: carried.read(step, self.body.outvars)))
        carried.learn(writer, self.eqn.outputs, opened.results)


CONTROLS[while_p] = with_lanes(While)
