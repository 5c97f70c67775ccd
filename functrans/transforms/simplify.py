"""Simplify: remove dead, repeated and trivial equations from a jaxpr, exactly.

Values stay what they were, NaN and infinity included: 0*x is never 0 and x+0 never x. The one
exception is that derivative programs have their constant factors collected, rounding aside: no
value of the user's own function is computed in another order. Nothing is merged across a barrier.
"""

from __future__ import annotations

from collections.abc import Sequence

import functrans.transforms.identities  # noqa: F401  # pyright: ignore[reportUnusedImport]  # the rules
from functrans.ir import Atom, Effect, Eqn, Jaxpr, prune
from functrans.transforms.cache import derived
from functrans.transforms.rewriting import Rewriter


def simplify(jaxpr: Jaxpr, *, collect: bool = False) -> Jaxpr:
    """The same program, simplified: linear in the number of equations.

    `collect` is for programs of tangents or cotangents: constant factors are collected.
    """
    return jaxpr if jaxpr.simple and not collect else _simplified(jaxpr, collect)


@derived
def _simplified(jaxpr: Jaxpr, collect: bool) -> Jaxpr:
    work = Rewriter(collect)
    for eqn in jaxpr.eqns:
        work.add(eqn)
    return _finished(work, jaxpr, jaxpr.outvars)


def composed(first: Jaxpr, second: Jaxpr, kept: int, given: Sequence[Atom] = ()) -> Jaxpr:
    """inputs -> the first `kept` results of `first`, and those of `second` on its others.

    After these `second` gets what is given. Simplified as one program; `first` is one already.
    """
    work = Rewriter(collect=False)
    assert first.simple
    work.adopt(first.eqns)
    work.identify(second.invars, [*first.outvars[kept:], *given])
    for eqn in second.eqns:
        work.add(eqn)
    return _finished(work, first, [*first.outvars[:kept], *second.outvars])


def _finished(work: Rewriter, jaxpr: Jaxpr, results: Sequence[Atom]) -> Jaxpr:
    """What the rewriter kept, as far as the results need it, on the inputs of `jaxpr`."""
    outvars = [work.resolve(a) for a in results]
    if any(eqn.primitive.narrow is not None for eqn in work.eqns):
        eqns, outvars = narrowed(work.eqns, outvars)
    else:
        eqns = prune(work.eqns, outvars)
    made = Jaxpr(jaxpr.invars, eqns, outvars, jaxpr.num_consts)
    made.simple = True
    return made


def narrowed(eqns: list[Eqn], outvars: list[Atom]) -> tuple[list[Eqn], list[Atom]]:
    """What `prune` leaves, with what nobody uses also gone from inside loops and branches."""
    needed: set[Atom] = set(outvars)
    aliases: dict[Atom, Atom] = {}
    kept: list[Eqn] = []
    for eqn in reversed(eqns):
        used = tuple(v in needed for v in eqn.outputs)
        if not any(used) and eqn.effect is Effect.NONE:
            continue
        parts, found = [eqn], {}
        if eqn.primitive.narrow is not None:
            parts, found = eqn.primitive.narrow(eqn, used)
        aliases.update(found)
        needed.update(found.values())
        for part in reversed(parts):
            kept.append(part)
            needed.update(part.inputs)
    kept.reverse()
    if not aliases:
        return kept, outvars
    for alias in reversed(list(aliases)):  # the last found stand first in the program
        aliases[alias] = aliases.get(aliases[alias], aliases[alias])
    resolved = [
        Eqn(e.primitive, [aliases.get(a, a) for a in e.inputs], e.outputs, e.params, e.source)
        for e in kept
    ]
    return resolved, [aliases.get(a, a) for a in outvars]
