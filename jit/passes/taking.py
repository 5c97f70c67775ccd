"""Which results are written where an input lies, and what is written there on the way.

Invariant: an element of the input, or of what was written over it, is read no later than it is
overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence

from functrans.extend import Var
from jit.fusion import Kernel, Plan, RootCall
from jit.lowering.graph import leaves
from jit.lowering.nodes import Node, PartNode


def taken_over(plan: Plan, taken: Sequence[int | None]) -> dict[Var, Var]:
    """For each variable that can lie where an input lies, that input.

    taken[j]: the number of the input whose memory result j may take.
    """
    makers = {
        var: k
        for k, step in enumerate(plan.steps)
        for var in (step.defs if isinstance(step, Kernel) else step.eqn.outputs)
    }
    found: dict[Var, Var] = {}
    for out, i in zip(plan.graph.outvars, taken, strict=True):
        if i is not None:
            source = plan.graph.invars[i]
            found.update(dict.fromkeys(written_over(plan, makers, source, out), source))
    return found


def written_over(plan: Plan, makers: dict[Var, int], source: Var, out: Var) -> list[Var]:
    """What is written over `source`, one after the other, `out` last; nothing if that fails."""
    found, var = [out], out
    while var in makers:
        number = makers[var]
        step = plan.steps[number]
        if isinstance(step, Kernel):
            return found if overwrites_elements(plan, number, step, source, var) else []
        old = changed_by(plan, number, step, var)
        if old is source:
            return found
        if old is None or old in plan.graph.outvars:
            return []
        found.append(old)
        var = old
    return []


def changed_by(plan: Plan, number: int, step: RootCall, out: Var) -> Var | None:
    """What a root changes into `out`, if nothing else reads it from then on."""
    for i, j in step.rule.overwrites(step.eqn):
        if step.eqn.outputs[j] is out:
            old = step.eqn.inputs[i]
            if isinstance(old, Var) and is_read_once(plan, step, i, old):
                return None if read_after(plan, number, old) else old
    return None


def is_read_once(plan: Plan, step: RootCall, place: int, var: Var) -> bool:
    """Does a root read a variable that lies in memory, and as this operand only?"""
    others = [a for k, a in enumerate(step.eqn.inputs) if k != place]
    lies = var in plan.stored or var in plan.graph.invars
    return lies and var not in leaves(plan.graph, plan.stored, others)


def read_after(plan: Plan, number: int, var: Var) -> bool:
    return any(var in step.reads for step in plan.steps[number + 1 :])


def overwrites_elements(plan: Plan, number: int, kernel: Kernel, source: Var, out: Var) -> bool:
    """May a kernel write `out` over `source`? Each element must be read no later."""
    return not read_after(plan, number, source) and reads_no_later(kernel, source, out)


def reads_no_later(kernel: Kernel, source: Var, out: Var) -> bool:
    """Does a kernel write `out` element by element, each after the same one of `source` was read?

    So one may be written over the other.
    """
    node = kernel.defs[out]
    if kernel.roles[node] != "full" or isinstance(node, PartNode):
        return False

    def turn(n: Node) -> tuple[int, bool, int]:
        return kernel.stages[n], kernel.roles[n] == "column_fold", kernel.nodes.index(n)

    return all(
        flat == kernel.domain.full and turn(reader) <= turn(node)
        for reader, scout in kernel.looks.items()
        for var, flat in scout.reads
        if var is source
    )
