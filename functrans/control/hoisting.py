"""Hoisting: products of what a loop captures alone come before it, and so do their derivatives.

Whoever runs a loop may do once what is the same at each step. But a derivative adds up, step by
step, what could be added up first and multiplied once.
"""

from __future__ import annotations

from typing import Any

from functrans.bind import eval_jaxpr
from functrans.ir import Effect, Elementwise, Eqn, Jaxpr, Var, is_inexact, prune
from functrans.ir.primitive import Bilinear, LinearIn, Reduction
from functrans.transforms.cache import derived

MOST_GROWTH = 4
"""A product is kept if it is no larger than so many times its factors."""


def products_before(jaxpr: Jaxpr, captured: list[Any]) -> tuple[Jaxpr, list[Any]]:
    """The program of a step, which takes the captured values first, without such products; and what
    it takes first instead."""
    outside, inside = _parted(jaxpr, len(captured))
    if not outside.outvars:
        return jaxpr, captured
    return inside, [*captured, *eval_jaxpr(outside, captured)]


@derived
def _parted(jaxpr: Jaxpr, count: int) -> tuple[Jaxpr, Jaxpr]:
    """const* -> product*, and const* product* rest* -> results."""
    consts, rest = jaxpr.invars[:count], jaxpr.invars[count:]
    fixed = set(consts)
    found: dict[Var, Eqn] = {}
    for eqn in jaxpr.eqns:
        if _is_safe(eqn) and fixed.issuperset([a for a in eqn.inputs if isinstance(a, Var)]):
            fixed.update(eqn.outputs)
            if _is_worth(eqn):
                found[eqn.outputs[0]] = eqn
    made = [eqn for eqn in jaxpr.eqns if not any(v in found for v in eqn.outputs)]
    eqns = prune(made, jaxpr.outvars)
    read = {*[a for eqn in eqns for a in eqn.inputs], *jaxpr.outvars}
    products = [v for v in found if v in read]
    return (
        Jaxpr(consts, prune(jaxpr.eqns, products), products),
        Jaxpr([*consts, *products, *rest], eqns, jaxpr.outvars),
    )


def _is_safe(eqn: Eqn) -> bool:
    """Can this be computed even if no step ever asks for it: without an effect, or an error?"""
    kind = eqn.primitive.property
    plain = isinstance(kind, (Elementwise, Bilinear, Reduction)) or kind == LinearIn(None)
    inexact = all(is_inexact(v.aval.dtype) for v in eqn.outputs)
    return plain and inexact and not eqn.primitive.opaque and eqn.effect is Effect.NONE


def _is_worth(eqn: Eqn) -> bool:
    """Is this a product that is no outer one?"""
    given = sum(a.aval.size for a in eqn.inputs)
    product = isinstance(eqn.primitive.property, Bilinear)
    return product and eqn.outputs[0].aval.size <= MOST_GROWTH * given
