"""The while primitive: a body runs as long as a condition on its carry holds.

    while[cond body num_cond_consts num_body_consts lanes dims] cond_const* body_const* carry*
        ->  carry*

    cond : cond_const* carry*  ->  bool[]
    body : body_const* carry*  ->  carry*

With `lanes=None` this is one loop. With `lanes=n` it is n loops, independent of each other: the
i-th operand has a first axis of length n where `dims[i]` is 0, and is the same for all lanes where
it is None; every result has that axis. A lane stops when its own condition fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from functrans.bind import eval_jaxpr
from functrans.errors import ShapeError
from functrans.ir import Aval, Effect, Jaxpr, MappedAxis, Primitive, same_type
from functrans.transforms.batching import batch_jaxpr

Dims = tuple[int | None, ...]


class Operands(NamedTuple):
    """The operands of a while, or anything that there is one of for each, by their meaning."""

    cond_consts: list[Any]
    body_consts: list[Any]
    carry: list[Any]

    @property
    def of_cond(self) -> list[Any]:
        return [*self.cond_consts, *self.carry]

    @property
    def of_body(self) -> list[Any]:
        return [*self.body_consts, *self.carry]


def parted(operands: Sequence[Any], num_cond_consts: int, num_body_consts: int) -> Operands:
    """The operands, told apart."""
    start = num_cond_consts + num_body_consts
    return Operands(
        list(operands[:num_cond_consts]),
        list(operands[num_cond_consts:start]),
        list(operands[start:]),
    )


def while_abstract_eval(
    *avals: Aval,
    cond: Jaxpr,
    body: Jaxpr,
    num_cond_consts: int,
    num_body_consts: int,
    lanes: int | None,
    dims: Dims | None,
) -> list[Aval]:
    single = [_lane_of(a, lanes, dims[i] if dims else None) for i, a in enumerate(avals)]
    each = parted(single, num_cond_consts, num_body_consts)
    _require_types("cond gets", each.of_cond, cond.in_avals)
    _require_types("body gets", each.of_body, body.in_avals)
    _require_types("body leaves", body.out_avals, each.carry)
    if [(a.shape, a.dtype.kind) for a in cond.out_avals] != [((), "b")]:
        raise ShapeError(f"while: cond must give one boolean, not {cond.out_avals}")
    if lanes is None:
        return body.out_avals
    return [Aval((lanes, *a.shape), a.dtype) for a in body.out_avals]


def _lane_of(aval: Aval, lanes: int | None, dim: int | None) -> Aval:
    if dim is None:
        return aval
    if dim != 0 or not aval.shape or aval.shape[0] != lanes:
        raise ShapeError(f"while: {aval} has no first axis of {lanes} lanes")
    return Aval(aval.shape[1:], aval.dtype)


def _require_types(what: str, given: Sequence[Aval], wanted: Sequence[Aval]) -> None:
    if len(given) != len(wanted) or not all(map(same_type, given, wanted)):
        words = [", ".join(map(str, avals)) for avals in (given, wanted)]
        raise ShapeError(f"while: {what} ({words[0]}) where ({words[1]}) is expected")


def while_impl(
    *operands: Any,
    cond: Jaxpr,
    body: Jaxpr,
    num_cond_consts: int,
    num_body_consts: int,
    lanes: int | None,
    dims: Dims | None,
) -> list[Any]:
    """A loop in Python; lanes go in step through the batched body."""
    parts = parted(operands, num_cond_consts, num_body_consts)
    if lanes is None:
        return _run(cond, body, parts)
    assert dims is not None
    where = parted(dims, num_cond_consts, num_body_consts)
    if cond.effect is Effect.NONE and body.effect is Effect.NONE:
        return _run_lanes(cond, body, parts, where, lanes)
    return _run_lane_by_lane(cond, body, operands, dims, parts, lanes)


def _run(cond: Jaxpr, body: Jaxpr, parts: Operands) -> list[Any]:
    carry = parts.carry
    while bool(eval_jaxpr(cond, [*parts.cond_consts, *carry])[0]):
        carry = eval_jaxpr(body, [*parts.body_consts, *carry])
    return carry


def _run_lanes(cond: Jaxpr, body: Jaxpr, parts: Operands, where: Operands, lanes: int) -> list[Any]:
    """All lanes at once. A lane that has stopped computes what one that has not does: never what
    its own condition kept it from, such as an index out of bounds."""
    axis = MappedAxis(lanes)
    test = batch_jaxpr(cond, axis, (*where.cond_consts, *[0] * len(parts.carry)), (True,))[0]
    step = batch_jaxpr(
        body, axis, (*where.body_consts, *[0] * len(parts.carry)), (True,) * len(parts.carry)
    )[0]
    carry = [
        np.broadcast_to(x, (lanes, *np.shape(x))) if d is None else x
        for x, d in zip(parts.carry, where.carry, strict=True)
    ]
    active = np.asarray(eval_jaxpr(test, [*parts.cond_consts, *carry])[0])
    while active.any():
        stand_in = np.where(active, np.arange(lanes), np.argmax(active))
        given = [
            x if d is None else np.asarray(x)[stand_in]
            for x, d in zip(parts.body_consts, where.body_consts, strict=True)
        ]
        after = eval_jaxpr(step, [*given, *[x[stand_in] for x in carry]])
        carry = [_chosen(active, new, old) for new, old in zip(after, carry, strict=True)]
        active = active & eval_jaxpr(test, [*parts.cond_consts, *carry])[0]
    return carry


def _chosen(active: Any, new: Any, old: Any) -> Any:
    return np.where(active.reshape(-1, *[1] * (np.ndim(new) - 1)), new, old)


def _run_lane_by_lane(
    cond: Jaxpr, body: Jaxpr, operands: Sequence[Any], dims: Dims, parts: Operands, lanes: int
) -> list[Any]:
    """One lane after the other, so that each has its own effects and no other."""
    outs = [np.empty((lanes, *a.shape), a.dtype) for a in body.out_avals]
    for lane in range(lanes):
        own = [x if d is None else x[lane] for x, d in zip(operands, dims, strict=True)]
        results = _run(cond, body, parted(own, len(parts.cond_consts), len(parts.body_consts)))
        for out, result in zip(outs, results, strict=True):
            out[lane] = result
    return outs


def while_effects(*, cond: Jaxpr, body: Jaxpr, **params: Any) -> Effect:
    return Effect.strongest((cond.effect, body.effect))


while_p = Primitive(
    name="while",
    abstract_eval=while_abstract_eval,
    impl=while_impl,
    effects=while_effects,
    cheap=False,
)
