"""Arrays that are changed in few places are changed where they lie, once nothing else reads them.

A result that may take the memory of an input is followed back through updates to that input. What
else reads an array of such a chain runs before its update, and what would be read of it afterwards
is kept. Invariant: no equation depends on a later one, and effects keep their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from functrans.extend import Atom, Effect, Eqn, Var, primitives
from jit.lowering.indexing import updated_slice_p
from jit.lowering.rules import ROOTS, element_bytes
from jit.stored import is_inlined

dynamic_update_slice_p = primitives.indexing.dynamic_update_slice_p
LEAST_BYTES = 256
"""A smaller array is as quickly written anew, together with what is computed of it."""
KEPT = "read of an array that is changed afterwards"

Pairs = Sequence[tuple[Var, Var]]
"""Inputs whose memory results may take, each with the result."""


def update_in_place(eqns: list[Eqn], pairs: Pairs) -> tuple[list[Eqn], dict[Var, str]]:
    """The equations in an order that lets updates happen in place, and what must be stored."""
    makers = {v: eqn for eqn in eqns for v in eqn.outputs}
    chains = [chain for source, out in pairs if (chain := chain_of(makers, source, out))]
    kept: dict[Var, str] = {}
    for chain in chains:
        for old, update in chain:
            eqns = delayed(eqns, old, update)
            kept.update(dict.fromkeys(read_before(eqns, old, update), KEPT))
    slices = {id(u) for chain in chains for _, u in chain if u.primitive is dynamic_update_slice_p}
    return [as_root(eqn) if id(eqn) in slices else eqn for eqn in eqns], kept


def as_root(eqn: Eqn) -> Eqn:
    return Eqn(updated_slice_p, eqn.inputs, eqn.outputs, eqn.params, eqn.source)


def chain_of(makers: Mapping[Var, Eqn], source: Var, out: Var) -> list[tuple[Var, Eqn]]:
    """The updates that make `out` of `source`, first to last, each with what it changes."""
    found: list[tuple[Var, Eqn]] = []
    var = out
    while var is not source:
        eqn = makers.get(var)
        old = None if eqn is None else changed_by(eqn, var)
        if eqn is None or not isinstance(old, Var):
            return []
        found.append((old, eqn))
        var = old
    return found[::-1]


def changed_by(eqn: Eqn, out: Var) -> Atom | None:
    """The operand that an equation changes in few places to make `out`."""
    if out.aval.size * element_bytes(out) < LEAST_BYTES:
        return None
    if eqn.primitive is dynamic_update_slice_p:
        return eqn.inputs[0] if 2 * eqn.inputs[1].aval.size <= out.aval.size else None
    root = ROOTS.get(eqn.primitive)
    places = () if root is None else root.overwrites(eqn)
    return next((eqn.inputs[i] for i, j in places if eqn.outputs[j] is out), None)


def delayed(eqns: list[Eqn], old: Var, update: Eqn) -> list[Eqn]:
    """The update of `old` after all that does not depend on it, where that reads `old`."""
    place = next(k for k, eqn in enumerate(eqns) if eqn is update)
    after, others = parted(eqns[place:])
    if not any(old in eqn.inputs for eqn in others):
        return eqns
    return eqns[:place] + others + after


def parted(eqns: Sequence[Eqn]) -> tuple[list[Eqn], list[Eqn]]:
    """The first equation and what must come after it; the rest."""
    made, acts = set(eqns[0].outputs), eqns[0].effect is not Effect.NONE
    after, others = [eqns[0]], list[Eqn]()
    for eqn in eqns[1:]:
        effect = eqn.effect is not Effect.NONE
        if (effect and acts) or any(a in made for a in eqn.inputs):
            after.append(eqn)
            made.update(eqn.outputs)
            acts = acts or effect
        else:
            others.append(eqn)
    return after, others


def read_before(eqns: Sequence[Eqn], old: Var, update: Eqn) -> list[Var]:
    """What is computed from `old` where it is used, and used by the update or what comes after."""
    reading, made = {old}, set[Var]()
    found: list[Var] = []
    for eqn in eqns:
        mine = [a for a in eqn.inputs if isinstance(a, Var)]
        if eqn is update or any(a in made for a in mine):
            made.update(eqn.outputs)
            found += [a for a in mine if a in reading and a is not old]
        elif is_inlined(eqn) and any(a in reading for a in mine):
            reading.update(eqn.outputs)
    return found
