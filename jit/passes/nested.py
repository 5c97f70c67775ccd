"""Inner programs: the bodies of loops and branches, lowered to programs that their loops call.

Each body is inlined, simplified, fused and written like a whole program, once for each way in which
its results may take the memory of its operands.
"""

from __future__ import annotations

from collections.abc import Callable

from functrans.extend import (
    Atom,
    Eqn,
    Jaxpr,
    Primitive,
    cond_p,
    prune,
    scan_p,
    simplify,
    while_p,
)
from jit.lowering.forms import choose
from jit.lowering.loops import Inner, program_cond_p, program_scan_p, program_while_p
from jit.lowering.registers import IN_REGISTERS, RegisterForm
from jit.lowering.rules import EquationBuilder, runtime_calls
from jit.passes.lines import kernel_lines
from jit.passes.loops import write_program
from jit.passes.prepare import expand, inline_calls, to_graph
from jit.passes.sharing import shared_plan

Taken = tuple[int | None, ...]
FORMS: dict[Primitive, Primitive] = {
    cond_p: program_cond_p,
    scan_p: program_scan_p,
    while_p: program_while_p,
}
"""Control flow primitives, and those that stand for them where bodies are programs."""


class Nesting:
    """Lowers the bodies in a program. `errors` is the table that they share with it."""

    def __init__(self, callback: Callable[[Eqn], int]) -> None:
        self.callback = callback
        self.errors: list[str] = []
        self._expanded: dict[Jaxpr, Jaxpr] = {}
        self._made: dict[tuple[Jaxpr, Taken], Inner] = {}

    def expand(self, eqs: EquationBuilder, eqn: Eqn) -> list[Atom] | None:
        """The results of a control flow equation in the form that it takes; None for any other."""
        form = FORMS.get(eqn.primitive)
        if form is None:
            return None
        chosen = choose(eqn, self.expanded)
        if isinstance(chosen, RegisterForm):
            return eqs.bind_as(IN_REGISTERS[eqn.primitive], eqn, form=chosen)
        programs = tuple([self.inner(*body) for body in bodies_of(eqn)])
        return eqs.bind_as(form, eqn, programs=programs, form=chosen)

    def expanded(self, jaxpr: Jaxpr) -> Jaxpr:
        """A body, simplified, without calls, expansions written out; what holds bodies stays."""
        if jaxpr not in self._expanded:
            body = simplify(inline_calls(jaxpr))
            eqns, outvars = expand(body, lambda eqs, eqn: None)
            self._expanded[jaxpr] = Jaxpr(body.invars, prune(eqns, outvars), outvars)
        return self._expanded[jaxpr]

    def inner(self, jaxpr: Jaxpr, taken: Taken, name: str) -> Inner:
        """A body as a program. taken[j]: the operand whose memory result j may take."""
        key = (jaxpr, taken)
        if key not in self._made:
            self._made[key] = self._lower(jaxpr, taken, name)
        return self._made[key]

    def _lower(self, jaxpr: Jaxpr, taken: Taken, name: str) -> Inner:
        graph = to_graph(simplify(inline_calls(jaxpr)), self.expand)
        calls = [name for eqn in graph.eqns for name in runtime_calls(eqn)]
        plan = shared_plan(graph)
        written = write_program(plan, name, taken, self.callback, self.errors)
        lines = kernel_lines(plan, written.schedules)
        program = written.program
        return Inner(program, tuple(written.in_place), tuple(calls), tuple(lines), jaxpr.effect)


def bodies_of(eqn: Eqn) -> list[tuple[Jaxpr, Taken, str]]:
    """The bodies of an equation, which operands their results may take, and their names."""
    params = eqn.params
    if eqn.primitive is cond_p:
        return [(b, (None,) * len(b.outvars), "branch") for b in params["branches"]]
    if eqn.primitive is scan_p:
        body, first, count = params["jaxpr"], params["num_consts"], params["num_carry"]
        return [(body, over_carry(first, count, len(body.outvars)), "step")]
    body, first = params["body"], params["num_body_consts"]
    count = len(body.outvars)
    return [(params["cond"], (None,), "test"), (body, over_carry(first, count, count), "step")]


def over_carry(first: int, count: int, results: int) -> Taken:
    """The new carry may be written over the old."""
    return (*range(first, first + count), *[None] * (results - count))
