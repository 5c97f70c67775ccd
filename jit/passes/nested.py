"""Inner programs: the bodies of loops and branches, lowered to programs that their loops call.

Each body is inlined, simplified, fused and written like a whole program, once for each way in which
its results may take the memory of its operands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from functrans.extend import (
    Atom,
    Eqn,
    Jaxpr,
    Primitive,
    Var,
    cond_p,
    prune,
    scan_p,
    sweep_p,
    while_p,
)
from jit.fusion import Kernel, Step
from jit.lowering.asking import MOST_ELEMENTS
from jit.lowering.forms import Form, choose
from jit.lowering.inner import Inner, inner_programs
from jit.lowering.joined import names_of, parts_of, program_joined_p
from jit.lowering.loops import (
    cost_of,
    program_cond_p,
    program_scan_p,
    program_sweep_p,
    program_while_p,
)
from jit.lowering.register_joined import joined_p
from jit.lowering.registers import IN_REGISTERS, RegisterForm
from jit.lowering.rules import EquationBuilder, runtime_calls
from jit.passes.blocked import in_blocks
from jit.passes.fission import taken_out
from jit.passes.invariants import bound, hoisted, without_invariants
from jit.passes.joining import joined, taken_apart
from jit.passes.lines import kernel_lines
from jit.passes.loops import write_program
from jit.passes.prepare import expand, flat, to_graph
from jit.passes.rolled import rolled
from jit.passes.sharing import shared_plan
from jit.passes.spread import gathered, spread_sums
from jit.passes.totals import pass_plans
from jit.passes.updates import changed_by

Taken = tuple[int | None, ...]
FORMS: dict[Primitive, Primitive] = {
    cond_p: program_cond_p,
    scan_p: program_scan_p,
    while_p: program_while_p,
    sweep_p: program_sweep_p,
}
"""Control flow primitives, and those that stand for them where bodies are programs."""


class Nesting:
    """Lowers the bodies in a program. `errors` is the table that they share with it."""

    def __init__(self, callback: Callable[[Eqn], int], errors: list[str]) -> None:
        self.callback = callback
        self.errors = errors
        self._expanded: dict[Jaxpr, Jaxpr] = {}
        self._made: dict[tuple[Jaxpr, Taken], Inner] = {}

    def expand(self, eqs: EquationBuilder, eqn: Eqn) -> list[Atom] | None:
        """The results of a control flow equation in the form that it takes; None for any other."""
        if eqn.primitive is joined_p:
            return self.joined(eqs, eqn)
        primitive = FORMS.get(eqn.primitive)
        if primitive is None:
            return None
        changes = changes_few(eqn)
        chosen = Form("program", changes) if changes else choose(eqn, self.expanded)
        if isinstance(chosen, RegisterForm):
            return eqs.bind_as(IN_REGISTERS[eqn.primitive], eqn, form=chosen)
        if eqn.primitive is scan_p and (found := self.in_lanes(eqs, eqn)) is not None:
            return found
        results = less(eqs, eqn)
        if results is not None:
            return results
        return eqs.bind_as(primitive, eqn, form=chosen, **self.programs(eqn))

    def joined(self, eqs: EquationBuilder, eqn: Eqn) -> list[Atom]:
        """The results of a while, what is made of them, and passes over its steps.

        As programs only where the while by itself would be one, and there are no lanes, since what
        lies between may need all of these.
        """
        chosen = choose(eqn, self.expanded)
        if isinstance(chosen, RegisterForm):
            return eqs.bind_as(IN_REGISTERS[joined_p], eqn, form=chosen)
        apart = taken_apart(eqn.params["jaxpr"])
        alone = (apart.eqns[0], apart.eqns[-1])
        lanes = alone[0].params["lanes"] is not None
        if lanes or any(choose(e, self.expanded).name != "program" for e in alone):
            return bound(eqs, apart, eqn.inputs)
        lighter = without_invariants(apart)
        if lighter is not None:
            return bound(eqs, joined(lighter), eqn.inputs)
        whole: Jaxpr = eqn.params["jaxpr"]
        between, sweep = parts_of(whole).between, alone[1]
        made = self.programs(sweep)
        if between.outvars:
            last = self.inner(between, (None,) * len(between.outvars), "between")
            made["programs"] = (*made["programs"], last)
        outs = [Var(v.aval) for v in (*sweep.outputs, *between.outvars)]
        every = Eqn(joined_p, eqn.inputs, outs, eqn.params, eqn.source)
        eqs.bind_as(program_joined_p, every, form=chosen, **made)
        names = names_of(every)
        return [names[v] for v in whole.outvars]

    def in_lanes(self, eqs: EquationBuilder, eqn: Eqn) -> list[Atom] | None:
        """The results of a scan that runs in lanes once sums over these are taken apart."""
        spread = spread_sums(eqs, eqn, flat(eqn.params["jaxpr"]))
        if spread is None:
            return None
        chosen = choose(spread.eqn, self.expanded)
        if chosen.name != "lanes":
            return None
        results = eqs.bind_as(IN_REGISTERS[scan_p], spread.eqn, form=chosen)
        return gathered(eqs, eqn, spread, results)

    def expanded(self, jaxpr: Jaxpr) -> Jaxpr:
        """A body, simplified, without calls, expansions written out; what holds bodies stays."""
        if jaxpr not in self._expanded:
            body = joined(flat(jaxpr))
            eqns, outvars = expand(body, lambda eqs, eqn: None)
            self._expanded[jaxpr] = Jaxpr(body.invars, prune(eqns, outvars), outvars)
        return self._expanded[jaxpr]

    def programs(self, eqn: Eqn) -> dict[str, Any]:
        """The programs of an equation's bodies, as params."""
        params = eqn.params
        if eqn.primitive is cond_p:
            return self.branches(params["branches"])
        if eqn.primitive is scan_p:
            body, first, count = params["jaxpr"], params["num_consts"], params["num_carry"]
            return {"programs": (self.inner(body, over_carry(body, first, count), "step"),)}
        test, body = self.inner(params["cond"], (None,), "test"), params["body"]
        if eqn.primitive is while_p:
            taken = over_carry(body, params["num_body_consts"], len(body.outvars))
            return {"programs": (test, self.inner(body, taken, "step"))}
        plans = pass_plans(eqn)
        passes = [
            self.inner(q.jaxpr, over_carry(q.jaxpr, p.num_consts, len(q.kept)), "pass")
            for p, q in zip(params["passes"], plans, strict=True)
        ]
        # A step of a sweep writes the next row of its stack.
        step = self.inner(body, (None,) * len(body.outvars), "step")
        return {"programs": (test, step, *passes), "plans": tuple(plans)}

    def branches(self, bodies: Sequence[Jaxpr]) -> dict[str, Any]:
        """The programs of a cond, and which operands all of them may write results over."""
        taken = common_sources(bodies)
        while True:
            programs = tuple([self.inner(body, taken, "branch") for body in bodies])
            able = [all(inner.in_place[j] for inner in programs) for j in range(len(taken))]
            left = tuple([i if ok else None for ok, i in zip(able, taken, strict=True)])
            if left == taken:
                return {"programs": programs, "taken": taken}
            taken = left

    def inner(self, jaxpr: Jaxpr, taken: Taken, name: str) -> Inner:
        """A body as a program. taken[j]: the operand whose memory result j may take."""
        key = (jaxpr, taken)
        if key not in self._made:
            self._made[key] = self._lower(jaxpr, taken, name)
        return self._made[key]

    def _lower(self, jaxpr: Jaxpr, taken: Taken, name: str) -> Inner:
        graph = to_graph(flat(jaxpr), self.expand, taken)
        calls = [name for eqn in graph.eqns for name in runtime_calls(eqn)]
        plan = shared_plan(graph)
        written = write_program(plan, name, taken, self.callback, self.errors)
        program, together = in_blocks(written.program)
        program, loops = rolled(program)
        lines = [*kernel_lines(plan, written.schedules), *together, *loops]
        places, cost = tuple(written.in_place), sum(map(step_cost, plan.steps))
        return Inner(program, places, tuple(calls), tuple(lines), jaxpr.effect, cost)


def less(eqs: EquationBuilder, eqn: Eqn) -> list[Atom] | None:
    """The results of a loop by one that does less; None where all must be done step by step."""
    if eqn.primitive is cond_p:
        return None
    return taken_out(eqs, eqn) if eqn.primitive is scan_p else hoisted(eqs, eqn)


def step_cost(step: Step) -> float:
    """The work of a kernel or a root, in simple operations."""
    if isinstance(step, Kernel):
        return sum((look.cost + 1) * node.size for node, look in step.looks.items())
    if inner_programs(step.eqn):
        return cost_of(step.eqn)
    if step.eqn.primitive.name == "dot_general" and len(step.eqn.inputs) == 2:
        x, y, out = [a.aval.size for a in (*step.eqn.inputs, *step.eqn.outputs)]
        return (x * y * out) ** 0.5
    return float(sum(a.aval.size for a in (*step.eqn.inputs, *step.eqn.outputs)))


def over_carry(body: Jaxpr, first: int, count: int) -> Taken:
    """The new carry may be written over the old, which begins at operand `first`."""
    return (*range(first, first + count), *[None] * (len(body.outvars) - count))


# -- branches that change operands ------------------------------------------------------------


def common_sources(bodies: Sequence[Jaxpr]) -> Taken:
    """For each result the operand that every branch makes it of by changes, or as it is."""
    taken: list[int | None] = []
    for each in zip(*[sources_of(flat(body)) for body in bodies], strict=True):
        source, *others = set(each)
        taken.append(None if others or source in taken else source)
    return tuple(taken)


def changes_few(eqn: Eqn) -> str:
    """Why a step or a branch should cost what it writes of a large array; "" if none is changed."""
    for body, taken in changing(eqn):
        for atom, source in zip(body.outvars, taken, strict=True):
            kept = source is None or atom is body.invars[source]
            if not kept and atom.aval.size > MOST_ELEMENTS:
                return f"it changes few elements of {atom.aval}"
    return ""


def changing(eqn: Eqn) -> Iterator[tuple[Jaxpr, Sequence[int | None]]]:
    """The bodies of an equation, and for each result the operand that it is changed from."""
    if eqn.primitive is cond_p:
        taken = common_sources(eqn.params["branches"])
        yield from ((body, taken) for body in eqn.params["branches"])
        return
    if eqn.primitive is sweep_p:
        return
    body = eqn.params["jaxpr" if eqn.primitive is scan_p else "body"]
    first = eqn.params["num_consts" if eqn.primitive is scan_p else "num_body_consts"]
    found = sources_of(flat(body))
    yield body, [s if s == first + k else None for k, s in enumerate(found)]


def sources_of(body: Jaxpr) -> list[int | None]:
    """For each result of a body the operand that it is after changes in few places."""
    makers = {v: eqn for eqn in body.eqns for v in eqn.outputs}
    places = {v: k for k, v in enumerate(body.invars)}
    found: list[int | None] = []
    for result in body.outvars:
        atom: Atom | None = result
        while isinstance(atom, Var) and (eqn := makers.get(atom)) is not None:
            atom = changed_operand(eqn, atom)
        found.append(places.get(atom) if isinstance(atom, Var) else None)
    return found


def changed_operand(eqn: Eqn, out: Var) -> Atom | None:
    """The operand that an equation of a body changes in few places to make `out`."""
    if eqn.primitive is cond_p:
        source = common_sources(eqn.params["branches"])[eqn.outputs.index(out)]
        return None if source is None else eqn.inputs[source + 1]
    form = FORMS.get(eqn.primitive, eqn.primitive)
    return changed_by(Eqn(form, eqn.inputs, eqn.outputs, eqn.params), out)
