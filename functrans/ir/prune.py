"""Dead-code elimination: keep the equations that an output or an effect needs."""

from __future__ import annotations

from collections.abc import Sequence

from functrans.ir.jaxpr import Atom, Eqn
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
