"""Segments: what of an open trace can run when a value is asked for, and what must outlive it."""

from __future__ import annotations

import weakref

from functrans.ir import Effect, Eqn, Jaxpr, Var
from functrans.tracing import Tracer


class Record:
    """An equation of the open segment, with the tracers it reads and those it made."""

    __slots__ = ("eqn", "inputs", "outputs")

    def __init__(self, eqn: Eqn, inputs: list[Tracer], outputs: list[weakref.ref[Tracer]]) -> None:
        self.eqn = eqn
        self.inputs = inputs
        self.outputs = outputs


def split(records: list[Record]) -> tuple[list[Record], list[Record]]:
    """The records whose equations can run now, and those that reach an abstract input."""
    ready, rest = [], []
    for record in records:
        (rest if any(t.abstract for t in record.inputs) else ready).append(record)
    return ready, rest


def live_outputs(ready: list[Record], rest: list[Record]) -> list[Tracer]:
    """The tracers made by `ready` that can still be referred to, by users or by `rest`."""
    made = {v for r in ready for v in r.eqn.outputs}
    live: dict[Var, Tracer] = {}
    for record in rest:
        live.update({t.node: t for t in record.inputs if t.node in made})
    for record in ready:
        for ref in record.outputs:
            tracer = ref()
            if tracer is not None and tracer.node in made:
                live.setdefault(tracer.node, tracer)
    return list(live.values())


def free_inputs(ready: list[Record], made: set[Var]) -> list[Tracer]:
    """The tracers that `ready` reads but does not make, in order of first use."""
    free: dict[Var, Tracer] = {}
    for record in ready:
        free.update({t.node: t for t in record.inputs if t.node not in made and t.node not in free})
    return list(free.values())


def without_effects(jaxpr: Jaxpr) -> Jaxpr:
    """The jaxpr less its effects, which took place when the segment ran."""
    if jaxpr.effect is Effect.NONE:
        return jaxpr
    eqns = [e for e in jaxpr.eqns if e.effect is Effect.NONE or e.outputs]
    return Jaxpr(jaxpr.invars, eqns, jaxpr.outvars, jaxpr.num_consts)
