"""Equations that are not needed: what no output and no effect needs, effects that took place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from functrans.ir.jaxpr import Atom, Eqn, Jaxpr
from functrans.ir.primitive import Effect


def prune(eqns: Sequence[Eqn], outputs: Sequence[Atom]) -> list[Eqn]:
    """The equations among `eqns` that `outputs` depend on, or that have an effect, in order."""
    needed: set[Atom] = set(outputs)
    kept: list[Eqn] = []
    for eqn in reversed(eqns):
        if not needed.isdisjoint(eqn.outputs) or eqn.effect is not Effect.NONE:
            kept.append(eqn)
            needed.update(eqn.inputs)
    kept.reverse()
    return kept


def without_effects(jaxpr: Jaxpr) -> Jaxpr:
    """The jaxpr less what only has an effect, at any depth: for running again what took place.

    Equations that have an effect and results are left.
    """
    if jaxpr.effect is Effect.NONE:
        return jaxpr
    found = jaxpr.cache.get("without effects")
    if found is None:
        eqns = [calmed(e) for e in jaxpr.eqns if e.outputs or e.effect is Effect.NONE]
        found = Jaxpr(jaxpr.invars, prune(eqns, jaxpr.outvars), jaxpr.outvars, jaxpr.num_consts)
        jaxpr.cache["without effects"] = found
    return found


def acts(eqn: Eqn) -> bool:
    """Has an equation results that come of an effect, so that it may not run again for them?"""
    return bool(eqn.outputs) and calmed(eqn).effect is not Effect.NONE


def any_acts(jaxpr: Jaxpr) -> bool:
    """Is there such an equation in a program?"""
    return jaxpr.effect is not Effect.NONE and any(map(acts, jaxpr.eqns))


def calmed(eqn: Eqn) -> Eqn:
    """The equation less what only has an effect inside it."""
    if eqn.effect is Effect.NONE:
        return eqn
    params = {name: _calmed_param(value) for name, value in eqn.params.items()}
    return Eqn(eqn.primitive, eqn.inputs, eqn.outputs, params, eqn.source)


def _calmed_param(value: Any) -> Any:
    if isinstance(value, Jaxpr):
        return without_effects(value)
    if isinstance(value, tuple):
        parts = [_calmed_param(x) for x in value]
        return type(value)._make(parts) if hasattr(value, "_fields") else tuple(parts)  # type: ignore[attr-defined]
    return value
