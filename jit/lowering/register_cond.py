"""Conds inside a body in registers: a branch, or a choice among the results of all."""

from __future__ import annotations

from collections.abc import Sequence

from functrans.extend import Eqn, cond_p
from jit.loop_ir.nodes import Value
from jit.lowering.asking import CONTROLS, Asker, Body
from jit.lowering.carried import ONE, Carried, from_outside, pass_on, readable_inputs
from jit.lowering.index import ZERO, Point
from jit.lowering.unrolled import Unrolled

SHORT = 8.0
"""Branches of so little work are all computed, and one is chosen."""


class Cond:
    """One of several bodies: a branch, or a choice among all where they are short."""

    def __init__(self, eqn: Eqn) -> None:
        self.eqn = eqn
        self.index, self.operands = eqn.inputs[0], eqn.inputs[1:]
        self.needs: list[Asker] = []

    def ask(self, asker: Asker) -> None:
        """Every branch is asked for what is needed of the results."""
        outs = self.eqn.outputs
        self.needed = Carried(outs, [asker.elements(out) for out in outs])
        if not self.needed.count:
            return
        for branch in self.eqn.params["branches"]:
            body = Body(asker.limits.expanded(branch))
            needs = Asker(body, readable_inputs(asker, body.invars, self.operands), asker.limits)
            needs.want(body.outvars, self.needed.places)
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
        self.needed.learn(writer, self.eqn.outputs, self.branch(writer, index, 0))

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
        return self.needed.read(inner, needs.body.outvars)


CONTROLS[cond_p] = Cond
