"""Products write their results where and how they are wanted: in another order, or added up.

Those that are only transposed and reshaped are written in that order at once; those that are only
added up add to one result. Invariant: nothing else reads what is no longer made, rows of a result
stay side by side, and sums keep their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from functrans.extend import Atom, Eqn, Var, primitives
from jit.lowering.contraction import Product, can_turn, summed_dot_p, turned_dot_p

dot_general_p = primitives.contraction.dot_general_p
transpose_p = primitives.structural.transpose_p
reshape_p = primitives.structural.reshape_p
add_p = primitives.elementwise.add_p


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


def sum_products(eqns: Sequence[Eqn], outvars: Sequence[object]) -> list[Eqn]:
    """The equations, sums of products as one where that keeps less in memory."""
    reads = Counter(a for eqn in eqns for a in eqn.inputs if isinstance(a, Var))
    reads.update(a for a in outvars if isinstance(a, Var))
    terms: dict[Atom, list[Eqn]] = {}
    makers: dict[Atom, Eqn] = {}
    gone: set[int] = set()
    for eqn in eqns:
        found = None
        if eqn.primitive in (dot_general_p, turned_dot_p) and pays(eqn):
            found = [eqn]
        elif eqn.primitive is add_p and all(
            isinstance(a, Var) and reads[a] == 1 for a in eqn.inputs
        ):
            found = joined(*(terms.get(a, []) for a in eqn.inputs))
        if found:
            gone.update(id(makers[a]) for a in eqn.inputs if eqn.primitive is add_p)
            terms[eqn.outputs[0]], makers[eqn.outputs[0]] = found, eqn
    return [
        summed(eqn, terms[eqn.outputs[0]])
        if eqn.primitive is add_p and eqn.outputs[0] in terms
        else eqn
        for eqn in eqns
        if id(eqn) not in gone
    ]


def pays(eqn: Eqn) -> bool:
    """Are the operands, which are kept until the sum is made, no larger than the product?"""
    return sum(a.aval.size for a in eqn.inputs) <= eqn.outputs[0].aval.size


def joined(left: list[Eqn], right: list[Eqn]) -> list[Eqn] | None:
    """The products of a sum of two; sums of sums would be added in another order."""
    if not left or not right or min(len(left), len(right)) > 1:
        return None
    first, second = (right, left) if len(right) > len(left) else (left, right)
    first.extend(second)
    return first


def summed(eqn: Eqn, products: Sequence[Eqn]) -> Eqn:
    """The addition that ends a sum of products, as that sum."""
    inputs = [a for p in products for a in p.inputs]
    terms = tuple((p.primitive, p.params) for p in products)
    return Eqn(summed_dot_p, inputs, eqn.outputs, {"terms": terms}, eqn.source)
