"""What is left of control once calls are inlined: a barrier that has done its work by then."""

from __future__ import annotations

from functrans.extend import Atom, Eqn, barrier_p
from jit.lowering.rules import EquationBuilder, expands


@expands(barrier_p)
def expand_barrier(eqs: EquationBuilder, eqn: Eqn) -> list[Atom]:
    """Its operands: no stage after simplification merges equations across it."""
    return list(eqn.inputs)
