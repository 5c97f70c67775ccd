"""Invariant work leaves loops: what depends on constants alone is computed once, before them.

It must be work (a view of a constant is none), it must not be able to fail (the loop may never
run), and its result must not be much larger than what it is made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from functrans.extend import Atom, Effect, Eqn, Jaxpr, Var, jaxprs_in, primitives, sweep_p, while_p
from jit.lowering.graph import VIEWS
from jit.lowering.rules import EquationBuilder, needs_check
from jit.passes.prepare import Expander, flat, renamed

pow_p = primitives.elementwise.pow_p
MOST_GROWTH = 4
"""A value is kept if it is no larger than so many times what it is made of."""


def hoisted(eqs: EquationBuilder, eqn: Eqn) -> list[Atom] | None:
    """The results of a while or a sweep whose invariant work comes before it; None where there is
    none."""
    params, lanes = eqn.params, eqn.params["dims"] or (None,) * len(eqn.inputs)
    at = 0
    operands: list[Atom] = []
    dims: list[int | None] = []

    def pass_on(count: int) -> None:
        """The next operands, as they are."""
        nonlocal at
        operands.extend(eqn.inputs[at : at + count])
        dims.extend(lanes[at : at + count])
        at += count

    def part(jaxpr: Jaxpr, count: int) -> tuple[Jaxpr, int]:
        """A body with more constants, which follow the next `count` operands."""
        body, given = flat(jaxpr), eqn.inputs[at : at + count]
        pairs = zip(body.invars, given, lanes[at : at + count], strict=False)
        shared = {var: atom for var, atom, dim in pairs if dim is None}
        pass_on(count)
        chosen = invariants(body, shared)
        if not chosen:
            return jaxpr, count
        made = before(eqs, body, chosen, shared)
        operands.extend(made)
        dims.extend([None] * len(made))
        invars = [*body.invars[:count], *chosen, *body.invars[count:]]
        known = set(chosen)
        eqns = [e for e in body.eqns if known.isdisjoint(e.outputs)]
        return Jaxpr(invars, eqns, body.outvars), count + len(chosen)

    new = dict(params)
    new["cond"], new["num_cond_consts"] = part(params["cond"], params["num_cond_consts"])
    new["body"], new["num_body_consts"] = part(params["body"], params["num_body_consts"])
    if eqn.primitive is sweep_p:
        pass_on(params["num_carry"])
        passes: list[Any] = []
        for each in params["passes"]:
            jaxpr, count = part(each.jaxpr, each.num_consts)
            passes.append(each._replace(jaxpr=jaxpr, num_consts=count))
            pass_on(each.num_carry)
        new["passes"] = tuple(passes)
    pass_on(len(eqn.inputs) - at)
    if len(operands) == len(eqn.inputs):
        return None
    new["dims"] = None if params["dims"] is None else tuple(dims)
    return eqs.bind(eqn.primitive, *operands, **new)


def without_invariants(jaxpr: Jaxpr) -> Jaxpr | None:
    """The program with the invariant work of its whiles and sweeps before them, once where two do
    the same; None where there is none."""
    work = Expander(lambda eqs, eqn: None)
    env: dict[Var, Atom] = {}
    for eqn in jaxpr.eqns:
        inputs = [renamed(a, env) for a in eqn.inputs]
        moved = Eqn(eqn.primitive, inputs, eqn.outputs, eqn.params, eqn.source)
        found = hoisted(work, moved) if eqn.primitive in (while_p, sweep_p) else None
        env.update(zip(eqn.outputs, work.keep(moved) if found is None else found, strict=True))
    if len(work.eqns) == len(jaxpr.eqns):
        return None
    outvars = [renamed(a, env) for a in jaxpr.outvars]
    return flat(Jaxpr(jaxpr.invars, work.eqns, outvars))


def before(
    eqs: EquationBuilder, body: Jaxpr, chosen: Sequence[Var], constants: Mapping[Var, Atom]
) -> list[Atom]:
    """Variables of a body that only depend on constants, as equations before its loop."""
    makers = {v: e for e in body.eqns for v in e.outputs}
    inner = Jaxpr(list(constants), above(makers, chosen), list(chosen))
    return bound(eqs, inner, list(constants.values()))


def invariants(body: Jaxpr, constants: Iterable[Var]) -> list[Var]:
    """The variables that are worth to be computed once, where constants are the same each time.

    They are used by what is not invariant, or make what is and would be too large to keep.
    """
    makers = {v: e for e in body.eqns for v in e.outputs}
    known = set(constants)
    varies = set(body.invars) - known
    for eqn in body.eqns:
        acts = eqn.effect is not Effect.NONE or eqn.primitive.opaque
        if acts or any(a in varies for a in eqn.inputs):
            varies.update(eqn.outputs)
    stack: list[Any] = [
        a
        for e in body.eqns
        if any(v in varies for v in e.outputs)
        for a in e.inputs
        if a in makers and a not in varies
    ]
    found: dict[Var, None] = {}
    seen: set[Var] = set()
    while stack:
        var = stack.pop()
        if var in seen or var not in makers:
            continue
        seen.add(var)
        if is_worth(var, above(makers, [var]), known):
            found[var] = None
        else:
            stack += makers[var].inputs
    return list(found)


def is_worth(var: Var, eqns: Sequence[Eqn], constants: set[Var]) -> bool:
    """Is it work to compute a variable by these equations, and no risk, and is it small enough?"""
    size = sum(a.aval.size for e in eqns for a in e.inputs if a in constants)
    works = any(e.primitive.name not in VIEWS and e.inputs for e in eqns)
    return works and var.aval.size <= MOST_GROWTH * max(size, 64) and not any(map(can_fail, eqns))


def can_fail(eqn: Eqn) -> bool:
    """May an equation raise, or one in a body that it holds?"""
    whole = eqn.outputs[0].aval.dtype.kind in "iu" if eqn.outputs else False
    holds = any(True for _ in jaxprs_in(eqn.params))
    return holds or needs_check(eqn) or (eqn.primitive is pow_p and whole)


def above(
    makers: Mapping[Var, Eqn], variables: Iterable[Var], known: Iterable[Var] = ()
) -> list[Eqn]:
    """The equations that variables are made by, from what is known, in order."""
    found: dict[int, Eqn] = {}
    stop = set(known)
    stack: list[Any] = [v for v in variables if v in makers and v not in stop]
    while stack:
        eqn = makers[stack.pop()]
        if id(eqn) not in found:
            found[id(eqn)] = eqn
            stack += [a for a in eqn.inputs if a in makers and a not in stop]
    order = {id(e): k for k, e in enumerate(dict.fromkeys(makers.values()))}
    return sorted(found.values(), key=lambda e: order[id(e)])


def bound(eqs: EquationBuilder, jaxpr: Jaxpr, args: Sequence[Atom]) -> list[Atom]:
    """The equations of a jaxpr, appended; its results."""
    env: dict[Any, Atom] = dict(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        outs = eqs.bind(eqn.primitive, *[env.get(a, a) for a in eqn.inputs], **eqn.params)
        env.update(zip(eqn.outputs, outs, strict=True))
    return [env.get(a, a) for a in jaxpr.outvars]
