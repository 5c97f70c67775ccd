"""Work that need not be done step by step is taken out of a scan.

invariant  what depends on constants alone is computed once, before the loop
before     products of slices with constants are one product of the stacked operands
after      products with constants that are results of steps are one product of what the steps leave
sums       products that are only added up in a carry are one product of what the steps leave

Results are what they were but for the order in which products are summed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal, NamedTuple, TypeAlias

from functrans.extend import (
    Atom,
    Effect,
    Eqn,
    Jaxpr,
    MappedAxis,
    Var,
    batch_jaxpr,
    primitives,
    prune,
    scan_p,
)
from jit.lowering.contraction import SMALL_PRODUCT, Product
from jit.lowering.rules import EquationBuilder, element_bytes
from jit.passes.invariants import above, before, bound, can_fail, invariants
from jit.passes.prepare import flat

dot_general_p = primitives.contraction.dot_general_p
add_p = primitives.elementwise.add_p
transpose_p = primitives.structural.transpose_p
reshape_p = primitives.structural.reshape_p

LEAST_DEPTH = 8
"""A product over fewer terms is bound by the memory that its result takes."""
MOST_WORK = 1 << 24
"""A product of so many multiplications a step is as quick by itself."""
MOST_BYTES = 1 << 28
"""What is kept of all steps for the sake of one product."""

Kind: TypeAlias = Literal["constant", "slice", "carried"]


class Parts(NamedTuple):
    """The variables of a body, or the operands of its scan, by what they are."""

    consts: list[Any]
    carry: list[Any]
    xs: list[Any]


def parts(eqn: Eqn, each: Sequence[Any]) -> Parts:
    first, last = eqn.params["num_consts"], eqn.params["num_consts"] + eqn.params["num_carry"]
    return Parts(list(each[:first]), list(each[first:last]), list(each[last:]))


def taken_out(eqs: EquationBuilder, eqn: Eqn) -> list[Atom] | None:
    """The results of a scan by a scan that does less, with equations around it; None if it is
    as small as it can be."""
    if eqn.params["length"] < 2:
        return None
    work = Fission(eqs, eqn)
    work.invariant()
    work.before()
    work.after()
    work.sum_up()
    return work.results() if work.changed else None


@dataclass(eq=False)
class Sum:
    """A carry to which each step adds products of its own, and maybe something else.

    `terms` are the products, each with the variable that it is after its axes were moved; `rest`
    is what is added besides.
    """

    terms: list[tuple[Eqn, Var]] = field(default_factory=list)
    rest: list[Atom] = field(default_factory=list)


class Fission:
    """One scan while it is taken apart. The body is rewritten by giving variables other meanings:
    those in `consts` and `xs` come from outside, as the operands beside them."""

    def __init__(self, eqs: EquationBuilder, eqn: Eqn) -> None:
        self.eqs = eqs
        self.eqn = eqn
        self.body = flat(eqn.params["jaxpr"])
        self.length: int = eqn.params["length"]
        own, given = parts(eqn, self.body.invars), parts(eqn, eqn.inputs)
        self.consts: dict[Var, Atom] = dict(zip(own.consts, given.consts, strict=True))
        self.xs: dict[Var, Atom] = dict(zip(own.xs, given.xs, strict=True))
        self.carry: list[Var] = own.carry
        self.inits: list[Atom] = given.carry
        self.sums: dict[int, Sum] = {}
        self.later: dict[int, Var] = {}
        self.left: dict[Var, int] = {}
        self.changed = False
        self.makers = {v: e for e in self.body.eqns for v in e.outputs}
        self.kinds = kinds_of(self.body, self.consts, self.xs)

    def kind(self, atom: Atom) -> Kind:
        return self.kinds[atom] if isinstance(atom, Var) else "constant"

    # invariant

    def invariant(self) -> None:
        """Compute what only depends on constants, where it is used by what does not."""
        chosen = invariants(self.body, self.consts)
        if chosen:
            self.changed = True
            made = before(self.eqs, self.body, chosen, self.consts)
            self.consts.update(zip(chosen, made, strict=True))

    # before

    def before(self) -> None:
        """Products of slices with constants, for all steps at once."""
        found = [
            e.outputs[0]
            for e in self.body.eqns
            if e.primitive is dot_general_p and self.is_free(e) and self.pays(e)
        ]
        if found:
            self.changed = True
            self.xs.update(zip(found, self.stacked(found), strict=True))

    def is_free(self, eqn: Eqn) -> bool:
        """Is this a product of a slice, or what is made of one, with a constant?"""
        if sorted(map(self.kind, eqn.inputs)) != ["constant", "slice"]:
            return False
        return not any(can_fail(e) for e in above(self.makers, eqn.outputs, self.known()))

    def known(self) -> set[Var]:
        return {*self.consts, *self.xs}

    def pays(self, eqn: Eqn) -> bool:
        """Is it better to multiply once for all steps?"""
        p, out = Product(eqn), eqn.outputs[0]
        work = prod(p.batch + p.rows + p.columns + p.depth)
        deep = prod(p.depth) >= LEAST_DEPTH
        small = self.length * out.aval.size * element_bytes(out) <= MOST_BYTES
        return deep and small and work * self.length > SMALL_PRODUCT and work < MOST_WORK

    def stacked(self, variables: Sequence[Var]) -> list[Atom]:
        """Variables that do not depend on the carry, of all steps."""
        known = self.known()
        inner = Jaxpr(
            [*self.consts, *self.xs], above(self.makers, variables, known), list(variables)
        )
        dims = (*[None] * len(self.consts), *[0] * len(self.xs))
        batched, _ = batch_jaxpr(inner, MappedAxis(self.length), dims, (True,) * len(variables))
        return bound(self.eqs, batched, [*self.consts.values(), *self.xs.values()])

    # after

    def after(self) -> None:
        """Find the results of steps that are products with constants, and what is multiplied."""
        reads = read_counts(self.body)
        for k, out in enumerate(self.body.outvars[len(self.carry) :]):
            product = product_of(self.makers, reads, out)
            if product is not None and self.kind(out) == "carried" and self.pays(product):
                factors = [a for a in product.inputs if self.kind(a) != "constant"]
                if len(factors) == 1 and isinstance(factors[0], Var):
                    self.later[k] = factors[0]
                    self.changed = True

    # sums

    def sum_up(self) -> None:
        """Find the carries to which products are added that nothing else reads."""
        reads = read_counts(self.body)
        for k, carry in enumerate(self.carry):
            out = self.body.outvars[k]
            if reads[carry] == 1 and isinstance(out, Var):
                found = sum_of(self.makers, reads, carry, out, lambda p, _: self.pays_later(p))
                if found is not None:
                    self.sums[k] = found
                    self.changed = True

    def pays_later(self, eqn: Eqn) -> bool:
        """Is it better to keep the factors of all steps and multiply once?"""
        p, out = Product(eqn), eqn.outputs[0]
        if p.batch or any(self.kind(a) == "constant" for a in eqn.inputs):
            return False
        work = prod(p.rows + p.columns + p.depth)
        kept = sum(a.aval.size for a in eqn.inputs)
        few = self.length * kept * element_bytes(out) <= MOST_BYTES
        return few and kept <= 2 * out.aval.size and work * self.length > SMALL_PRODUCT

    # the scan that is left

    def results(self) -> list[Atom]:
        """Bind what is left of the scan, and what comes after it."""
        kept = [k for k in range(len(self.carry)) if k not in self.sums or self.sums[k].rest]
        count = len(self.body.outvars) - len(self.carry)
        now = [k for k in range(count) if k not in self.later]
        outs = self.scan(self.left_body(kept, now), kept)
        first = len(kept) + len(now)
        carried = dict(zip(kept, outs[: len(kept)], strict=True))
        ys = dict(zip(now, outs[len(kept) : first], strict=True))
        for k, factor in self.later.items():
            out = self.body.outvars[len(self.carry) + k]
            ys[k] = self.made_later(out, factor, self.of_all_steps(factor, outs[first:]))
        for k, found in self.sums.items():
            carried[k] = self.total(found, carried.get(k, self.inits[k]), outs[first:])
        return [*[carried[k] for k in range(len(self.carry))], *[ys[k] for k in range(count)]]

    def scan(self, body: Jaxpr, kept: Sequence[int]) -> list[Atom]:
        """The results of a scan of this body, over the carries that are kept."""
        read = {*[a for e in body.eqns for a in e.inputs], *body.outvars}
        consts = [v for v in self.consts if v in read]
        xs = [v for v in self.xs if v in read]
        carry = [self.carry[k] for k in kept]
        inner = Jaxpr([*consts, *carry, *xs], body.eqns, body.outvars)
        counts = {"num_consts": len(consts), "num_carry": len(kept)}
        operands = [self.consts[v] for v in consts]
        operands += [*[self.inits[k] for k in kept], *[self.xs[v] for v in xs]]
        return self.eqs.bind(scan_p, *operands, **self.eqn.params | counts | {"jaxpr": inner})

    def left_body(self, kept: Sequence[int], now: Sequence[int]) -> Jaxpr:
        """The body without what was taken out: carries, results `now`, what is multiplied later."""
        known = self.known()
        eqns = [e for e in self.body.eqns if not any(v in known for v in e.outputs)]
        outs: list[Atom] = []
        outs += [with_sums(eqns, self.carry, self.body.outvars, self.sums, k) for k in kept]
        outs += [self.body.outvars[len(self.carry) + k] for k in now]
        factors = [a for s in self.sums.values() for product, _ in s.terms for a in product.inputs]
        for factor in [*self.later.values(), *factors]:
            if isinstance(factor, Var) and factor not in self.xs:
                self.left.setdefault(factor, len(self.left))
        outs += self.left
        return Jaxpr(self.body.invars, prune(eqns, outs), outs)

    # what comes after it

    def of_all_steps(self, factor: Atom, stacks: Sequence[Atom]) -> Atom:
        """What is multiplied, of all steps; `stacks` are what these leave."""
        assert isinstance(factor, Var)
        return self.xs[factor] if factor in self.xs else stacks[self.left[factor]]

    def made_later(self, out: Atom, factor: Var, stack: Atom) -> Atom:
        """A result of all steps from what is multiplied in all of them."""
        assert isinstance(out, Var)
        known = [*self.consts, factor]
        inner = Jaxpr(known, above(self.makers, [out], known), [out])
        dims = (*[None] * len(self.consts), 0)
        batched, _ = batch_jaxpr(inner, MappedAxis(self.length), dims, (True,))
        return bound(self.eqs, batched, [*self.consts.values(), stack])[0]

    def total(self, found: Sum, start: Atom, stacks: Sequence[Atom]) -> Atom:
        """A carry and the products of all steps, added up: steps are one more axis to sum over."""
        for product, out in found.terms:
            factors = [self.of_all_steps(a, stacks) for a in product.inputs]
            deep = [(0, *[axis + 1 for axis in axes]) for axes in product.params["contract"]]
            params = product.params | {"contract": tuple(deep)}
            (whole,) = self.eqs.bind(dot_general_p, *factors, **params)
            (result,) = product.outputs
            moved = Jaxpr([result], above(self.makers, [out], [result]), [out])
            (start,) = self.eqs.bind(add_p, start, *bound(self.eqs, moved, [whole]))
        return start


def kinds_of(body: Jaxpr, consts: Iterable[Var], xs: Iterable[Var]) -> dict[Atom, Kind]:
    """What each variable of a body depends on."""
    kinds: dict[Atom, Kind] = dict.fromkeys(body.invars, "carried")
    kinds.update(dict.fromkeys(consts, "constant"))
    kinds.update(dict.fromkeys(xs, "slice"))
    for eqn in body.eqns:
        each = {kinds[a] for a in eqn.inputs if isinstance(a, Var)}
        kind: Kind = "constant"
        if "carried" in each or eqn.effect is not Effect.NONE or eqn.primitive.opaque:
            kind = "carried"
        elif "slice" in each:
            kind = "slice"
        kinds.update(dict.fromkeys(eqn.outputs, kind))
    return kinds


def product_of(makers: Mapping[Var, Eqn], reads: Mapping[Var, int], atom: Atom) -> Eqn | None:
    """The product that a variable is, its axes moved maybe, if nothing else reads it."""
    while isinstance(atom, Var) and reads[atom] == 1 and atom in makers:
        made = makers[atom]
        if made.primitive is dot_general_p:
            return made
        if made.primitive is not transpose_p and made.primitive is not reshape_p:
            return None
        atom = made.inputs[0]
    return None


def sum_of(
    makers: Mapping[Var, Eqn],
    reads: Mapping[Var, int],
    carry: Var,
    out: Var,
    pays: Callable[[Eqn, Var], bool],
) -> Sum | None:
    """What is added to a carry, where there are products among it that pay."""
    found, started = Sum(), False
    stack: list[Atom] = [out]
    while stack:
        atom = stack.pop()
        made = makers.get(atom) if isinstance(atom, Var) and reads[atom] == 1 else None
        if made is not None and made.primitive is add_p:
            stack += made.inputs
        elif atom is carry:
            started = True
        else:
            product = product_of(makers, reads, atom)
            if product is not None and isinstance(atom, Var) and pays(product, atom):
                found.terms.append((product, atom))
            else:
                found.rest.append(atom)
    return found if started and found.terms else None


def with_sums(
    eqns: list[Eqn],
    carry: Sequence[Var],
    outvars: Sequence[Atom],
    sums: Mapping[int, Sum],
    k: int,
) -> Atom:
    """What a step makes of carry k without the products that are added later."""
    if k not in sums:
        return outvars[k]
    total: Atom = carry[k]
    for atom in sums[k].rest:
        new = Var(carry[k].aval)
        eqns.append(Eqn(add_p, [total, atom], [new], {}))
        total = new
    return total


def read_counts(body: Jaxpr) -> dict[Var, int]:
    """How many times each variable is read, as a result too."""
    counts = dict.fromkeys([*body.invars, *[v for e in body.eqns for v in e.outputs]], 0)
    for atom in [*[a for e in body.eqns for a in e.inputs], *body.outvars]:
        if isinstance(atom, Var):
            counts[atom] += 1
    return counts
