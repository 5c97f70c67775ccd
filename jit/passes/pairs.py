"""Products of one matrix with vectors from both sides become folds, which share a pass over it.

A linear model and its gradient read the same matrix twice: each row times the weights, then the
rows weighted by what came of it. As folds over rows and down columns both meet in one nest.
"""

from __future__ import annotations

from functrans.extend import Eqn, Var, primitives
from jit.lowering.contraction import GEMMS, Product, looped_dot_p
from jit.lowering.graph import Graph
from jit.lowering.rules import element_bytes

dot_general_p = primitives.contraction.dot_general_p
SHORTEST, LONGEST = 64, 1 << 14
"""Rows of so many bytes are worth it: a vector at least, and a tile of them stays in cache."""
TALL = 64


def pair_products(graph: Graph) -> None:
    """Replace the equations of such products in place."""
    groups: dict[Var, dict[str, list[int]]] = {}
    for place, eqn in enumerate(graph.eqns):
        found = matrix_and_side(eqn)
        if found is not None:
            matrix, side = found
            groups.setdefault(matrix, {"rows": [], "columns": []})[side].append(place)
    for sides in groups.values():
        if sides["rows"] and sides["columns"]:
            for place in sides["rows"] + sides["columns"]:
                old = graph.eqns[place]
                eqn = Eqn(looped_dot_p, old.inputs, old.outputs, old.params, old.source)
                graph.eqns[place] = eqn
                graph.producers.update(dict.fromkeys(eqn.outputs, eqn))


def matrix_and_side(eqn: Eqn) -> tuple[Var, str] | None:
    """The matrix of a matrix-vector product, and whether its rows or its columns are summed."""
    if eqn.primitive is not dot_general_p or eqn.inputs[0].aval.dtype.name not in GEMMS:
        return None
    product = Product(eqn)
    sides = [(product.x_contract, product.x_free), (product.y_contract, product.y_free)]
    matrices = [
        (x, contracted, kept)
        for x, (contracted, kept) in zip(eqn.inputs, sides, strict=True)
        if x.aval.ndim > 1
    ]
    if product.batch or len(matrices) != 1:
        return None
    matrix, contracted, kept = matrices[0]
    shape = matrix.aval.shape
    row = shape[-1] * element_bytes(matrix)
    tall = matrix.aval.size >= TALL * shape[-1]
    if not isinstance(matrix, Var) or not tall or not SHORTEST <= row <= LONGEST:
        return None
    last = (matrix.aval.ndim - 1,)
    before = tuple(range(matrix.aval.ndim - 1))
    if contracted == last and kept == before:
        return matrix, "rows"
    return (matrix, "columns") if contracted == before and kept == last else None
