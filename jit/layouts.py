"""Layouts: programs that read matrices in Fortran order where they lie, instead of copies.

Invariant: such a program gives the bits that the first one gives on copies. It is one with the
same sums in the same order: matrices go straight into products, or nothing is summed at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from functrans.extend import Eqn, Jaxpr, Var, primitives, simplify
from jit.passes.prepare import inline_calls

dot_general_p = primitives.contraction.dot_general_p
transpose_p = primitives.structural.transpose_p


def turned(jaxpr: Jaxpr, places: Sequence[int]) -> Jaxpr:
    """The same program on the transposes of these inputs, which are matrices."""
    invars, eqns = list(jaxpr.invars), list[Eqn]()
    for k in places:
        x = jaxpr.invars[k]
        invars[k] = Var(x.aval.with_shape(x.aval.shape[::-1]))
        eqns.append(Eqn(transpose_p, [invars[k]], [x], {"perm": (1, 0)}))
    return Jaxpr(invars, eqns + jaxpr.eqns, jaxpr.outvars, jaxpr.num_consts)


def may_turn(jaxpr: Jaxpr, places: Sequence[int]) -> bool:
    """Are these inputs read by products of matrices only, or is nothing summed in loops?"""
    inner = simplify(inline_calls(jaxpr))
    if any(inner.invars[k] in inner.outvars for k in places):
        return False
    asked = {inner.invars[k] for k in places}
    readers = [eqn for eqn in inner.eqns if asked.intersection(variables(eqn))]
    return all(is_matrix_product(eqn) for eqn in readers)


def variables(eqn: Eqn) -> list[Var]:
    return [a for a in eqn.inputs if isinstance(a, Var)]


def is_matrix_product(eqn: Eqn) -> bool:
    """One axis summed, the result a matrix: the product kernel reads operands by their strides."""
    if eqn.primitive is not dot_general_p:
        return False
    x, y = eqn.inputs
    out = eqn.outputs[0].aval.shape
    plain = x.aval.ndim == y.aval.ndim == len(out) == 2 and not eqn.params["batch"][0]
    return plain and min(out) > 1


def sums_alike(kernels: Iterable[str], others: Iterable[str]) -> bool:
    """Do two programs, by the lines of their reports, fold the same in the same loops?"""
    return folding(kernels) == folding(others)


def folding(kernels: Iterable[str]) -> list[str]:
    """What of a report says how something is summed, without the numbers of the kernels."""
    lines = [line.partition(": ")[2] for line in kernels]
    return sorted(line for line in lines if not is_by_element(line))


def is_by_element(line: str) -> bool:
    """Is a kernel one that computes each element by itself?"""
    hidden = ("fold", "total", "row ", " more")
    return ": full " in line and not any(word in line for word in hidden)


def only_elements(kernels: Iterable[str]) -> bool:
    """Does a program consist of such kernels and nothing else?"""
    return all(is_by_element(line.partition(": ")[2]) for line in kernels)
