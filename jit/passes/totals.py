"""Products that a pass of a sweep only adds up are made once, from the rows of the stack.

The factors of a product are in the rows, or are noted there by the pass: the sum over all steps is
one product whose inner axis runs down the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from functrans.extend import Atom, Eqn, Jaxpr, Var, prune
from jit.lowering.contraction import Product
from jit.lowering.graph import dense_strides
from jit.lowering.sweeps import Factor, PassPlan, Total
from jit.passes.fission import Sum, read_counts, sum_of, transpose_p, with_sums
from jit.passes.prepare import flat

LEAST_SIZE = 1 << 10
"""Adding to a smaller array step by step costs little."""


def pass_plans(eqn: Eqn) -> list[PassPlan]:
    """How each pass of a sweep runs."""
    params = eqn.params
    noted = len(params["body"].outvars)
    public = noted + sum(len(p.jaxpr.outvars) - p.num_carry for p in params["passes"])
    plans: list[PassPlan] = []
    for each in params["passes"]:
        plans.append(Planner(each, public).plan())
        public += len(plans[-1].private)
    return plans


class Planner:
    """Plans one pass; `first` is the number of the first slot of a row that it may add."""

    def __init__(self, each: Any, first: int) -> None:
        self.body = flat(each.jaxpr)
        self.first = first
        start, count = each.num_consts, each.num_carry
        self.consts = self.body.invars[:start]
        self.carry = self.body.invars[start : start + count]
        self.slots = {v: k for k, v in enumerate(self.body.invars[start + count :])}
        self.count = count
        self.private: dict[Var, int] = {}

    def plan(self) -> PassPlan:
        makers = {v: e for e in self.body.eqns for v in e.outputs}
        reads = read_counts(self.body)
        sums: dict[int, Sum] = {}
        totals: list[Total] = []
        for k, carry in enumerate(self.carry):
            out = self.body.outvars[k]
            if reads[carry] == 1 and isinstance(out, Var):
                found = sum_of(makers, reads, carry, out, lambda p, v: self.pays(makers, p, v))
                if found is not None:
                    sums[k] = found
                    totals += [self.total(makers, k, product, v) for product, v in found.terms]
        kept = [k for k in range(self.count) if k not in sums or sums[k].rest]
        eqns = list(self.body.eqns)
        outs: list[Atom] = [with_sums(eqns, self.carry, self.body.outvars, sums, k) for k in kept]
        outs += [*self.body.outvars[self.count :], *self.private]
        gone = {self.carry[k] for k in range(self.count)} - {self.carry[k] for k in kept}
        invars = [v for v in self.body.invars if v not in gone]
        jaxpr = Jaxpr(invars, prune(eqns, outs), outs)
        private = tuple([v.aval for v in self.private])
        return PassPlan(jaxpr, tuple(kept), private, tuple(totals))

    def pays(self, makers: dict[Var, Eqn], product: Eqn, out: Var) -> bool:
        """Is this a product of two matrices or vectors, none of them a constant, that is large?"""
        p, aval = Product(product), product.outputs[0].aval
        factors = product.inputs
        plain = not p.batch and len(p.x_free) == len(p.y_free) == 1 and len(p.depth) <= 1
        chain = moves(makers, product, out)
        known = all(isinstance(a, Var) and a not in self.consts for a in factors)
        small = 2 * sum(a.aval.size for a in factors) <= aval.size
        moved = all(e.primitive is transpose_p for e in chain) and len(chain) <= 1
        real = aval.dtype.name in ("float32", "float64")
        return plain and known and small and moved and real and aval.size >= LEAST_SIZE

    def total(self, makers: dict[Var, Eqn], k: int, product: Eqn, out: Var) -> Total:
        """A product as one of rows; the operands change places where the result is transposed."""
        p = Product(product)
        factors = [
            self.factor(product.inputs[0], p.x_free[0], p.x_contract),
            self.factor(product.inputs[1], p.y_free[0], p.y_contract),
        ]
        if moves(makers, product, out):
            factors.reverse()
        depth = p.depth[0] if p.depth else 1
        return Total(k, factors[0], factors[1], depth)

    def factor(self, var: Atom, free: int, contract: Sequence[int]) -> Factor:
        """Where a factor is in a row; it is noted there if it is not."""
        assert isinstance(var, Var)
        slot = self.slots.get(var)
        if slot is None:
            slot = self.first + self.private.setdefault(var, len(self.private))
        steps = dense_strides(var.aval.shape)
        deep = steps[contract[0]] if contract else 0
        return Factor(slot, var.aval.shape[free], steps[free], deep)


def moves(makers: dict[Var, Eqn], product: Eqn, out: Var) -> list[Eqn]:
    """What moves the axes of a product on its way to `out`."""
    chain: list[Eqn] = []
    while (made := makers[out]) is not product:
        chain.append(made)
        (out,) = made.inputs  # type: ignore[assignment]
    return chain
