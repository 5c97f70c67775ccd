"""The Taylor rule of while and sweep, written for sweeps: curves go through every step."""

from __future__ import annotations

from typing import Any

from functrans.control.expanding import NONE, beside, expanded, turned
from functrans.control.stepping import Parts, Pass, Sweep
from functrans.control.trajectories import Walk, bind_sweep, spread_through, with_inputs
from functrans.transforms.series import Curve
from functrans.transforms.taylor import (
    Coefficients,
    instantiated,
    orders_of,
    packed,
    packed_avals,
    taylor_jaxpr,
    unpacked,
)


def taylor(curve: Curve, coefficients: list[Coefficients], **params: Any) -> list[Coefficients]:
    """The sweep of the Taylor jaxprs of its programs, but for cond, which reads values only."""
    sweep = Sweep(**params)
    start = sweep.cut(orders_of(coefficients))
    start.cond_consts = [NONE] * sweep.num_cond_consts
    walk = spread_through(sweep, start, lambda j, orders: taylor_jaxpr(j, curve, orders)[1])
    lanes = sweep.dims or (None,) * len(coefficients)
    triples = zip(coefficients, walk.parts.flat, lanes, strict=True)
    filled = [(instantiated(c, own, curve), d) for c, own, d in triples]
    inside = sweep.cut([c if d is None else turned(c, curve, 0, 1) for c, d in filled])
    pushed = _pushed(sweep, walk, curve)
    results = pushed.cut_results(bind_sweep(pushed, _packed(inside)))
    outs: list[Coefficients] = []
    for orders, group in zip(walk.parts.carries, results, strict=True):
        outs += unpacked(group, tuple(orders), curve)
    return outs if sweep.lanes is None else [turned(c, curve, 1, 0) for c in outs]


def _packed(parts: Parts) -> Parts:
    """Each group of operands packed; of what cond alone reads, the values."""
    return Parts(
        [c[0] for c in parts.cond_consts],
        packed(parts.body_consts),
        packed(parts.carry),
        [(packed(consts), packed(carry)) for consts, carry in parts.passes],
    )


def _pushed(sweep: Sweep, walk: Walk, curve: Curve) -> Sweep:
    """The sweep of the Taylor jaxprs."""
    orders = walk.parts
    history = [tuple(noted) for noted in walk.noted]
    start = sweep.num_cond_consts
    carry_avals = sweep.cond.in_avals[start:]
    more = packed_avals(carry_avals, tuple(orders.carry), curve)[len(carry_avals) :]
    body = expanded(sweep.body, curve, (tuple(orders.body_consts), history[0]), tuple(history[:2]))
    passes = []
    for i, (each, (consts, carry)) in enumerate(zip(sweep.passes, orders.passes, strict=True)):
        own = tuple(consts), tuple(carry)
        wanted = (own[1], history[i + 2])
        jaxpr = expanded(each.jaxpr, curve, (*own, *history[: i + 2]), wanted)
        passes.append(Pass(jaxpr, each.reverse, *[len(o) + sum(map(len, o)) for o in own]))
    return Sweep(
        with_inputs(sweep.cond, tuple(more)),
        body,
        start,
        sweep.num_body_consts + sum(map(len, orders.body_consts)),
        sweep.num_carry + sum(map(len, orders.carry)),
        tuple(passes),
        sweep.lanes,
        None if sweep.dims is None else _dims(sweep, orders),
    )


def _dims(sweep: Sweep, orders: Parts) -> tuple[int | None, ...]:
    """A coefficient has its lanes where its value has them."""
    dims = sweep.cut(sweep.dims or ())
    pairs = zip(dims.passes, orders.passes, strict=True)
    return tuple(
        Parts(
            dims.cond_consts,
            beside(dims.body_consts, orders.body_consts),
            beside(dims.carry, orders.carry),
            [(beside(c, oc), beside(a, oa)) for (c, a), (oc, oa) in pairs],
        ).flat
    )
