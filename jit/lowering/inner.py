"""Inner programs: the bodies of a loop or a branch, once they are lowered."""

from __future__ import annotations

from typing import NamedTuple

from functrans.extend import Effect, Eqn
from jit.loop_ir.nodes import Program


class Inner(NamedTuple):
    """A body as a program.

    in_place[j]: result j is written over the operand that it may take, not to a place of its own.
    calls: the functions of the runtime that it needs; kernels: the lines of a report about it;
    cost: its work, in simple operations, as far as that is known.
    """

    program: Program
    in_place: tuple[bool, ...]
    calls: tuple[str, ...]
    kernels: tuple[str, ...]
    effect: Effect
    cost: float


def inner_programs(eqn: Eqn) -> tuple[Inner, ...]:
    """The programs of an equation's bodies; none where it has no bodies."""
    programs: tuple[Inner, ...] = eqn.params.get("programs", ())
    return programs
