"""Joins a while with the sweep that takes its steps again, so that they are taken once.

A gradient that also needs what a while gives, as its value or to know how the cotangents begin,
holds the while, then what depends on its results, then a sweep that begins with the same steps.
These become one equation: the while notes its steps, what lies between is computed, and the passes
go over what was noted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from functrans.extend import (
    Atom,
    Effect,
    Eqn,
    Jaxpr,
    Literal,
    Primitive,
    Var,
    prune,
    sweep_p,
    while_p,
)
from jit.lowering.register_joined import joined_p, noting_p, passes_p


def joined(jaxpr: Jaxpr) -> Jaxpr:
    """The program with one equation for each such while, what lies between, and the sweep."""
    sweeps = [eqn for eqn in jaxpr.eqns if eqn.primitive is sweep_p]
    if not any(eqn.primitive is while_p for eqn in jaxpr.eqns) or not sweeps:
        return jaxpr
    work = Joiner(jaxpr)
    for sweep in sweeps:
        work.join(sweep.outputs)
    return work.program()


class Region(NamedTuple):
    """The equations from a while to its sweep, by what becomes of them."""

    before: list[Eqn]
    inside: list[Eqn]
    after: list[Eqn]


class Joiner:
    """A program while equations of it are joined. `names`: other variables for some of its own."""

    def __init__(self, jaxpr: Jaxpr) -> None:
        self.jaxpr = jaxpr
        self.eqns = list(jaxpr.eqns)
        self.names: dict[Atom, Atom] = {}

    def program(self) -> Jaxpr:
        outvars = self.renamed(self.jaxpr.outvars)
        return Jaxpr(self.jaxpr.invars, self.eqns, outvars, self.jaxpr.num_consts)

    def renamed(self, atoms: Sequence[Atom]) -> list[Atom]:
        return [self.names.get(a, a) for a in atoms]

    def join(self, results: Sequence[Var]) -> None:
        """Join the sweep that has these results with the while that takes its steps, if any."""
        sweeps = [k for k, eqn in enumerate(self.eqns) if eqn.primitive is sweep_p]
        found = [k for k in sweeps if self.eqns[k].outputs == results]
        if not found:
            return  # it lies between another while and its passes
        (place,) = found
        sweep = self.eqns[place]
        for start, eqn in enumerate(self.eqns[:place]):
            if eqn.primitive is while_p and takes_the_steps_of(eqn, sweep):
                parts = self.parted(eqn, self.eqns[start + 1 : place], sweep)
                if parts is not None:
                    rest = self.after(eqn, sweep, [*parts.after, *self.eqns[place + 1 :]])
                    one = self.region(eqn, parts.inside, sweep, rest)
                    self.eqns = [*self.eqns[:start], *parts.before, one, *rest]
                    return

    def parted(self, first: Eqn, between: Sequence[Eqn], sweep: Eqn) -> Region | None:
        """What lies between: independent of the while, needed by the sweep, or neither.

        None where something acts, so that the order matters.
        """
        if any(e.effect is not Effect.NONE for e in (first, *between, sweep)):
            return None
        made: set[Atom] = set(first.outputs)
        needed: set[Atom] = set(sweep.inputs)
        parts = Region([], [], [])
        for eqn in between:
            if made.isdisjoint(eqn.inputs):
                parts.before.append(eqn)
            else:
                made.update(eqn.outputs)
                parts.after.append(eqn)
        for eqn in reversed(parts.after.copy()):
            if not needed.isdisjoint(eqn.outputs):
                needed.update(eqn.inputs)
                parts.after.remove(eqn)
                parts.inside.insert(0, eqn)
        return parts

    def after(self, first: Eqn, sweep: Eqn, eqns: Sequence[Eqn]) -> list[Eqn]:
        """What comes later reads the results of the steps from the while."""
        self.names.update(zip(sweep.outputs, first.outputs, strict=False))
        return [
            Eqn(e.primitive, self.renamed(e.inputs), e.outputs, e.params, e.source) for e in eqns
        ]

    def region(self, first: Eqn, inside: list[Eqn], sweep: Eqn, rest: Sequence[Eqn]) -> Eqn:
        """One equation for all of these."""
        pair = object()
        eqns = [
            Eqn(
                noting_p, first.inputs, first.outputs, {**first.params, "pair": pair}, first.source
            ),
            *inside,
            Eqn(
                passes_p, sweep.inputs, sweep.outputs, {**sweep.params, "pair": pair}, sweep.source
            ),
        ]
        read = {*[a for e in rest for a in e.inputs], *self.renamed(self.jaxpr.outvars)}
        made = [v for e in eqns for v in e.outputs]
        own = set(made)
        given = dict.fromkeys(
            a for e in eqns for a in e.inputs if isinstance(a, Var) and a not in own
        )
        outs = [v for v in made if v in read]
        params = {"jaxpr": Jaxpr(list(given), eqns, outs)}
        return Eqn(joined_p, list(given), outs, params, sweep.source)


def taken_apart(jaxpr: Jaxpr) -> Jaxpr:
    """What a joined equation holds, as the while and the sweep that it was made of."""
    first, *between, sweep = jaxpr.eqns
    eqns = [plain(first, while_p), *between, plain(sweep, sweep_p)]
    return Jaxpr(jaxpr.invars, eqns, jaxpr.outvars)


def plain(eqn: Eqn, primitive: Primitive) -> Eqn:
    params = {name: value for name, value in eqn.params.items() if name != "pair"}
    return Eqn(primitive, eqn.inputs, eqn.outputs, params, eqn.source)


def takes_the_steps_of(first: Eqn, sweep: Eqn) -> bool:
    """Does a while begin like a sweep, go on as long, and do the same at each step?"""
    mine, other = first.params, sweep.params
    if any(mine[name] != other[name] for name in ("num_cond_consts", "num_body_consts", "lanes")):
        return False
    if mine["lanes"] is not None and mine["dims"] != other["dims"][: len(first.inputs)]:
        return False
    count = other["num_carry"]
    begin = sweep.inputs[: len(first.inputs)]
    if len(first.outputs) != count or not all(map(is_same, first.inputs, begin)):
        return False
    body: Jaxpr = other["body"]
    outs = body.outvars[:count]
    step = Jaxpr(body.invars, prune(body.eqns, outs), outs)
    return are_alike(mine["cond"], other["cond"]) and are_alike(mine["body"], step)


def is_same(a: Atom, b: Atom) -> bool:
    if isinstance(a, Literal) and isinstance(b, Literal):
        return a.key() == b.key()
    return a is b


def are_alike(a: Jaxpr, b: Jaxpr) -> bool:
    """Are these the same equations in the same order?"""
    names: dict[Any, Atom] = dict(zip(a.invars, b.invars, strict=True))

    def match(xs: Sequence[Atom], ys: Sequence[Atom]) -> bool:
        same = len(xs) == len(ys)
        return same and all(is_same(names.get(x, x), y) for x, y in zip(xs, ys, strict=True))

    if len(a.eqns) != len(b.eqns):
        return False
    for x, y in zip(a.eqns, b.eqns, strict=True):
        if x.primitive is not y.primitive or x.params != y.params or not match(x.inputs, y.inputs):
            return False
        names.update(zip(x.outputs, y.outputs, strict=True))
    return match(a.outvars, b.outvars)
