"""Dead-code elimination: keep the equations that an output or an effect needs."""

from __future__ import annotations

from collections.abc import Sequence

from functrans.ir.jaxpr import Atom, Eqn, Var
from functrans.ir.primitive import Effect


def prune(eqns: Sequence[Eqn], outputs: Sequence[Atom]) -> list[Eqn]:
    """The equations among `eqns` that `outputs` depend on, or that have an effect, in order."""
    needed: set[Atom] = {a for a in outputs if isinstance(a, Var)}
    kept: list[Eqn] = []
    for eqn in reversed(eqns):
        if eqn.effect is not Effect.NONE or any(v in needed for v in eqn.outputs):
            kept.append(eqn)
            needed.update(a for a in eqn.inputs if isinstance(a, Var))
    kept.reverse()
    return kept
