"""Sums over lanes inside a scan: each lane adds up its own, and the lanes are added up after it.

A backward pass adds to the gradient of what all elements share, at every step, a sum over the
elements. Carrying one partial sum for each element instead leaves nothing that ties them together,
so that the loop can run in lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from functrans.extend import (
    Atom,
    Aval,
    Eqn,
    Jaxpr,
    Literal,
    MappedAxis,
    Primitive,
    Var,
    batch_jaxpr,
    primitives,
)
from jit.lowering.registers import LEAST_LANES
from jit.lowering.rules import EquationBuilder
from jit.passes.prepare import append_inlined, renamed

add_p, sub_p = primitives.elementwise.add_p, primitives.elementwise.sub_p
reduce_sum_p = primitives.structural.reduce_sum_p
broadcast_p = primitives.structural.broadcast_p
LINEAR = frozenset(
    {
        add_p,
        sub_p,
        primitives.elementwise.neg_p,
        broadcast_p,
        primitives.structural.pad_p,
        primitives.structural.reshape_p,
        primitives.structural.transpose_p,
        primitives.structural.concatenate_p,
        primitives.structural.slice_p,
        primitives.structural.reverse_p,
    }
)
"""Linear in all their operands: sums may be taken before them or after."""


class Spread(NamedTuple):
    """A scan whose carries at `sums` have a first axis of lanes, each with the sum of its own."""

    eqn: Eqn
    sums: Sequence[int]


def spread_sums(eqs: EquationBuilder, eqn: Eqn, body: Jaxpr) -> Spread | None:
    """The scan with sums over lanes taken apart; None where there are none."""
    first, count = eqn.params["num_consts"], eqn.params["num_carry"]
    work = Spreader(body)
    for k in range(count):
        work.spread(body.invars[first + k], k)
    if not work.sums:
        return None
    inputs, outputs = list(eqn.inputs), list(eqn.outputs)
    for k, carry in work.sums.items():
        inputs[first + k] = zeros(eqs, carry.aval)
        outputs[k] = Var(carry.aval)
    params = eqn.params | {"jaxpr": work.finished(first)}
    return Spread(Eqn(eqn.primitive, inputs, outputs, params, eqn.source), list(work.sums))


def gathered(eqs: EquationBuilder, eqn: Eqn, spread: Spread, results: Sequence[Atom]) -> list[Atom]:
    """The results of the scan from those of the spread one."""
    first = eqn.params["num_consts"]
    found = list(results)
    for k in spread.sums:
        (total,) = eqs.bind(reduce_sum_p, found[k], axes=(0,))
        (found[k],) = eqs.bind(add_p, eqn.inputs[first + k], total)
    return found


def zeros(eqs: EquationBuilder, aval: Aval) -> Atom:
    axes = tuple(range(aval.ndim))
    zero = Literal(aval.dtype.type(0))
    return eqs.bind(broadcast_p, zero, shape=aval.shape, axes=axes)[0]


class Term(NamedTuple):
    """What a step adds to a carry or takes from it: a linear function of sums over lanes."""

    primitive: Primitive
    atom: Var
    eqns: Sequence[Eqn]
    sums: Sequence[Eqn]


class Spreader:
    """Rewrites a body. `sums` has the new carried input for each carry that is spread."""

    def __init__(self, body: Jaxpr) -> None:
        self.body = body
        self.makers = {v: eqn for eqn in body.eqns for v in eqn.outputs}
        self.uses: dict[Atom, int] = {}
        for atom in [a for eqn in body.eqns for a in eqn.inputs] + body.outvars:
            if isinstance(atom, Var):
                self.uses[atom] = self.uses.get(atom, 0) + 1
        self.sums: dict[int, Var] = {}
        self.more: list[Eqn] = []
        self.outvars = list(body.outvars)

    def finished(self, first: int) -> Jaxpr:
        """The new body; carries begin at input `first`."""
        invars = list(self.body.invars)
        for k, carry in self.sums.items():
            invars[first + k] = carry
        return Jaxpr(invars, [*self.body.eqns, *self.more], self.outvars, self.body.num_consts)

    def spread(self, carry: Var, k: int) -> None:
        """Spread one carry, if a step only adds to it what is linear in sums over a first axis."""
        terms = self.terms(carry, k)
        lanes = {eqn.inputs[0].aval.shape[0] for term in terms for eqn in term.sums}
        if len(lanes) != 1 or carry.aval.dtype.kind != "f" or carry.aval.dtype.itemsize < 4:
            return
        (count,) = lanes
        if count < LEAST_LANES:
            return
        aval = Aval((count, *carry.aval.shape), carry.aval.dtype)
        total = self.sums[k] = Var(aval)
        for term in reversed(terms):
            after = Var(aval)
            inputs = [total, self.own(term, count)]
            self.more.append(Eqn(term.primitive, inputs, [after], {}))
            total = after
        self.outvars[k] = total

    def terms(self, carry: Var, k: int) -> list[Term]:
        """What a step adds to a carry or takes from it, the last first; none if it does more."""
        found: list[Term] = []
        atom: Atom = self.body.outvars[k]
        while atom is not carry:
            eqn = self.makers.get(atom) if isinstance(atom, Var) else None
            if eqn is None or eqn.primitive not in (add_p, sub_p) or self.uses[atom] != 1:
                return []
            before, added = eqn.inputs
            term = self.term(eqn.primitive, added)
            if term is None and eqn.primitive is add_p:
                before, term = added, self.term(add_p, before)
            if term is None:
                return []
            found.append(term)
            atom = before
        return found if self.uses.get(carry) == 1 else []

    def term(self, primitive: Primitive, atom: Atom) -> Term | None:
        """An atom as a linear function of sums over a first axis, if it is one."""
        eqns: list[Eqn] = []
        sums: list[Eqn] = []
        waiting: list[Atom] = [atom]
        seen: set[Var] = set()
        while waiting:
            part = waiting.pop()
            if isinstance(part, Literal) or part in seen:
                continue
            seen.add(part)
            eqn = self.makers.get(part)
            if eqn is None:
                return None
            if eqn.primitive is reduce_sum_p and 0 in eqn.params["axes"]:
                sums.append(eqn)
            elif is_linear(eqn):
                eqns.append(eqn)
                waiting += eqn.inputs
            else:
                return None
        order = {id(eqn): k for k, eqn in enumerate(self.body.eqns)}
        eqns.sort(key=lambda eqn: order[id(eqn)])
        return Term(primitive, atom, eqns, sums) if isinstance(atom, Var) and sums else None

    def own(self, term: Term, count: int) -> Atom:
        """What each lane has of a term: the same function of what it has of the sums."""
        alone = Jaxpr([eqn.outputs[0] for eqn in term.sums], term.eqns, [term.atom])
        dims = (0,) * len(term.sums)
        batched, _ = batch_jaxpr(alone, MappedAxis(count), dims, (True,))
        env: dict[Var, Atom] = dict(
            zip(batched.invars, [self.own_sum(eqn) for eqn in term.sums], strict=True)
        )
        append_inlined(batched, env, self.more)
        return renamed(batched.outvars[0], env)

    def own_sum(self, eqn: Eqn) -> Atom:
        """What each lane has of a sum: the operand, summed over the other axes."""
        axes = tuple(axis for axis in eqn.params["axes"] if axis)
        if not axes:
            return eqn.inputs[0]
        (aval,) = reduce_sum_p.abstract_eval(eqn.inputs[0].aval, axes=axes)
        part = Var(aval)
        self.more.append(Eqn(reduce_sum_p, eqn.inputs, [part], {"axes": axes}, eqn.source))
        return part


def is_linear(eqn: Eqn) -> bool:
    """Is an equation linear in all its operands, those that are literals being 0?"""
    literals = [a for a in eqn.inputs if isinstance(a, Literal)]
    return eqn.primitive in LINEAR and all(a.value == 0 for a in literals)
