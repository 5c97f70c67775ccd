"""Segments: what of an open trace can run when a value is asked for, and what must outlive it."""

from __future__ import annotations

import weakref

from functrans.errors import would_act_twice
from functrans.ir import Eqn, Jaxpr, Var, acts, intern, without_effects
from functrans.tracing import Node


class Record:
    """An equation of the open segment, with the nodes it reads and those it made.

    What it made is held weakly: a node that no tracer and no other record holds is dead.
    """

    __slots__ = ("eqn", "inputs", "outputs")

    def __init__(self, eqn: Eqn, inputs: list[Node], outputs: list[weakref.ref[Node]]) -> None:
        self.eqn = eqn
        self.inputs = inputs
        self.outputs = outputs


def split(records: list[Record]) -> tuple[list[Record], list[Record]]:
    """The records whose equations can run now, and those that reach an abstract input."""
    ready, rest = [], []
    for record in records:
        (rest if any(n.abstract for n in record.inputs) else ready).append(record)
    return ready, rest


def live_outputs(ready: list[Record]) -> list[Node]:
    """The nodes made by `ready` that users or later records can still refer to.

    Takes the inputs away from the records, which would keep their nodes alive otherwise.
    """
    for record in ready:
        record.inputs = []
    found = [ref() for record in ready for ref in record.outputs]
    return [node for node in found if node is not None]


def free_inputs(ready: list[Record], made: set[Var]) -> list[Node]:
    """The nodes that `ready` reads but does not make, in order of first use."""
    free: dict[Var, Node] = {}
    for record in ready:
        free.update({n.var: n for n in record.inputs if n.var not in made and n.var not in free})
    return list(free.values())


def acting(ready: list[Record]) -> list[Eqn]:
    """The equations whose results come of an effect: once they have run these are plain values.

    Raises where one carries a derivative, for which it would have to run again.
    """
    found = [r for r in ready if acts(r.eqn)]
    for record in found:
        if any(n.active for n in record.inputs):
            raise would_act_twice(
                record.eqn.primitive.name, record.eqn.source, "a value was asked for after it"
            )
    return [r.eqn for r in found]


def replayed(eqns: list[Eqn], acted: list[Eqn], free: list[Var], live: list[Var]) -> Jaxpr:
    """A segment that ran, for running again: (free inputs, results of effects) -> live values.

    Its effects took place when it ran.
    """
    results = [v for e in acted for v in e.outputs]
    rest = Jaxpr([*free, *results], [e for e in eqns if e not in acted], list(live))
    return without_effects(intern(rest))
