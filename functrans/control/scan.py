"""The scan primitive: a body runs a known number of times, over slices of its operands.

    scan[jaxpr length reverse num_consts num_carry] const* carry* x*  ->  carry* y*

    jaxpr : const* carry* x_k*  ->  carry* y_k*

Each step gets the same consts, the carry that the step before left, and one slice along the first
axis of each x; it leaves a carry of the same types and a slice of each y. With `reverse` the steps
go from the last slice to the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.bind import eval_jaxpr
from functrans.errors import ShapeError
from functrans.ir import Aval, Effect, Jaxpr, Primitive, same_type


def scan_abstract_eval(
    *avals: Aval, jaxpr: Jaxpr, length: int, reverse: bool, num_consts: int, num_carry: int
) -> list[Aval]:
    start = num_consts + num_carry
    slices = [_slice_of(a, length) for a in avals[start:]]
    _require_types("the operands are", [*avals[:start], *slices], jaxpr.in_avals)
    carries = jaxpr.in_avals[num_consts:start]
    _require_types("a step leaves the carry", jaxpr.out_avals[:num_carry], carries)
    return [
        *jaxpr.out_avals[:num_carry],
        *[Aval((length, *a.shape), a.dtype) for a in jaxpr.out_avals[num_carry:]],
    ]


def _slice_of(aval: Aval, length: int) -> Aval:
    if not aval.shape or aval.shape[0] != length:
        raise ShapeError(f"scan: {aval} has no first axis of length {length} to run over")
    return Aval(aval.shape[1:], aval.dtype)


def _require_types(what: str, given: Sequence[Aval], wanted: Sequence[Aval]) -> None:
    if len(given) != len(wanted) or not all(map(same_type, given, wanted)):
        words = [", ".join(map(str, avals)) for avals in (given, wanted)]
        raise ShapeError(f"scan: {what} ({words[0]}) where ({words[1]}) is expected")


def scan_impl(
    *operands: Any, jaxpr: Jaxpr, length: int, reverse: bool, num_consts: int, num_carry: int
) -> list[Any]:
    """A loop in Python."""
    start = num_consts + num_carry
    consts, carry, xs = operands[:num_consts], operands[num_consts:start], operands[start:]
    ys = [np.empty((length, *a.shape), a.dtype) for a in jaxpr.out_avals[num_carry:]]
    for k in reversed(range(length)) if reverse else range(length):
        outs = eval_jaxpr(jaxpr, [*consts, *carry, *[x[k] for x in xs]])
        carry = outs[:num_carry]
        for y, out in zip(ys, outs[num_carry:], strict=True):
            y[k] = out
    return [*carry, *ys]


def scan_effects(*, jaxpr: Jaxpr, **params: Any) -> Effect:
    return jaxpr.effect


scan_p = Primitive(
    name="scan",
    abstract_eval=scan_abstract_eval,
    impl=scan_impl,
    effects=scan_effects,
    cheap=False,
)
