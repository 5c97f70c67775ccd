"""Calls that stand for their equations: the program around them is evaluated as if written out."""

from __future__ import annotations

from typing import Final

from functrans.ir.jaxpr import Atom, Eqn, Jaxpr, inlined


class Inline:
    """Stands in the place of an engine where a call has none, and is no program of its own."""

    def __repr__(self) -> str:
        return "inline"


INLINE: Final = Inline()


def written_out(jaxpr: Jaxpr) -> Jaxpr:
    """The program with the equations of such calls in their place; itself where there are none."""
    if "written out" not in jaxpr.cache:
        found = any(eqn.params.get("engine") is INLINE for eqn in jaxpr.eqns)
        jaxpr.cache["written out"] = _written(jaxpr) if found else None
    return jaxpr.cache["written out"] or jaxpr


def _written(jaxpr: Jaxpr) -> Jaxpr:
    eqns: list[Eqn] = []
    env: dict[Atom, Atom] = {}
    for eqn in jaxpr.eqns:
        inputs = [env.get(a, a) for a in eqn.inputs]
        if eqn.params.get("engine") is not INLINE:
            eqns.append(Eqn(eqn.primitive, inputs, eqn.outputs, eqn.params, eqn.source))
            continue
        made, results = inlined(written_out(eqn.params["jaxpr"]), inputs, eqn.source)
        eqns += made
        env.update(zip(eqn.outputs, results, strict=True))
    return Jaxpr(jaxpr.invars, eqns, [env.get(a, a) for a in jaxpr.outvars], jaxpr.num_consts)
