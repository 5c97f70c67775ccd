"""The cond primitive: one of several programs runs, which one an integer says.

    cond[branches] index operand*  ->  result*

`index` is an integer scalar, clamped to the range of the branches; all of these take the operands
and give results of the same types. Branches capture nothing: what they capture is an operand.
"""

from __future__ import annotations

from typing import Any

from functrans.bind import eval_jaxpr
from functrans.errors import ShapeError
from functrans.ir import Aval, Effect, Jaxpr, Primitive, same_type

Branches = tuple[Jaxpr, ...]


def cond_abstract_eval(index: Aval, *operands: Aval, branches: Branches) -> list[Aval]:
    if index.shape != () or index.dtype.kind not in "iu":
        raise ShapeError(f"cond: the index must be an integer scalar, not {index}")
    first = branches[0]
    for branch in branches:
        for given, wanted in ((operands, branch.in_avals), (first.out_avals, branch.out_avals)):
            if len(given) != len(wanted) or not all(map(same_type, given, wanted)):
                raise ShapeError(f"cond: a branch has {wanted} where {list(given)} is expected")
    return first.out_avals


def cond_impl(index: Any, *operands: Any, branches: Branches) -> list[Any]:
    return eval_jaxpr(branches[min(max(int(index), 0), len(branches) - 1)], operands)


def cond_effects(*, branches: Branches) -> Effect:
    return Effect.strongest(branch.effect for branch in branches)


cond_p = Primitive(
    name="cond",
    abstract_eval=cond_abstract_eval,
    impl=cond_impl,
    effects=cond_effects,
    cheap=False,
)
