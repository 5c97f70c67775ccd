"""Products that are only transposed and reshaped are written in that order at once, without a copy.

Invariant: a product is turned only where rows of its result stay side by side, and where nothing
else reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from functrans.extend import Eqn, Var, primitives
from jit.lowering.contraction import Product, can_turn, turned_dot_p

dot_general_p = primitives.contraction.dot_general_p
transpose_p = primitives.structural.transpose_p
reshape_p = primitives.structural.reshape_p


def turn_products(eqns: Sequence[Eqn], outvars: Sequence[object]) -> list[Eqn]:
    """The equations, products that can be turned in place of themselves and what follows them."""
    reads = Counter(a for eqn in eqns for a in eqn.inputs if isinstance(a, Var))
    reads.update(a for a in outvars if isinstance(a, Var))
    readers = {a: eqn for eqn in eqns for a in eqn.inputs if isinstance(a, Var)}
    gone: set[int] = set()
    found: list[Eqn] = []
    for eqn in eqns:
        if id(eqn) in gone:
            continue
        new = eqn
        if eqn.primitive is dot_general_p and is_matrix(eqn):
            chain = followers(eqn.outputs[0], reads, readers)
            while chain and not can_turn(eqn, order_of(eqn, chain)):
                chain.pop()
            if chain:
                gone.update(map(id, chain))
                new = turned(eqn, chain)
        found.append(new)
    return found


def is_matrix(eqn: Eqn) -> bool:
    """Are there several rows and columns? Products with a vector have passes of their own."""
    p = Product(eqn)
    return all(any(n > 1 for n in side) for side in (p.rows, p.columns))


def followers(var: Var, reads: Counter[Var], readers: dict[Var, Eqn]) -> list[Eqn]:
    """The transpositions, then reshapes, that a variable goes through and nothing else reads."""
    chain: list[Eqn] = []
    while reads[var] == 1 and var in readers:
        eqn = readers[var]
        reshaped = bool(chain) and chain[-1].primitive is reshape_p
        if eqn.primitive is not reshape_p and (eqn.primitive is not transpose_p or reshaped):
            break
        chain.append(eqn)
        (var,) = eqn.outputs
    return chain


def order_of(eqn: Eqn, chain: Sequence[Eqn]) -> tuple[int, ...]:
    """The order of the product's axes after the transpositions of a chain."""
    order = tuple(range(eqn.outputs[0].aval.ndim))
    for step in chain:
        if step.primitive is transpose_p:
            order = tuple(order[a] for a in step.params["perm"])
    return order


def turned(eqn: Eqn, chain: Sequence[Eqn]) -> Eqn:
    (out,) = chain[-1].outputs
    params = {**eqn.params, "perm": order_of(eqn, chain), "shape": out.aval.shape}
    return Eqn(turned_dot_p, eqn.inputs, [out], params, eqn.source)
