"""Taylor mode: push the coefficients of curves along the equations, all orders at once.

A primitive that holds a jaxpr has a rule in its record, `taylor : (curve, coefficients, **params)
-> coefficients of the results`, where the coefficients of a value are a list of curve.order + 1
entries, None for zero. What others do follows from their jvp rules: see expansion.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from functrans.bind import bind, bound_at, eval_jaxpr
from functrans.ir import Aval, Eqn, Jaxpr, Literal, MappedAxis, Var, aval_of
from functrans.primitives.derive import add_all, full
from functrans.primitives.structural import reduce_sum
from functrans.recording import stage_walk
from functrans.transforms.batching import batch_jaxpr, move_to
from functrans.transforms.cache import derived
from functrans.transforms.expansion import Differential, Expansion, single
from functrans.transforms.series import Curve, Series, given
from functrans.transforms.simplify import simplify

Coefficients: TypeAlias = list[Any]
"""Of one value: the value itself, then one entry for each order, None where it is zero."""
Orders: TypeAlias = tuple[frozenset[int], ...]
"""For each value the orders, from 1 on, of which it has a coefficient."""


def eval_taylor(
    jaxpr: Jaxpr, curve: Curve, coefficients: Sequence[Coefficients]
) -> list[Coefficients]:
    """taylor : (curves of a) -> (curves of b), bound under the current interpreter."""
    walk = _walk_one if curve.directions is None else _walk_many
    return walk(jaxpr, curve, coefficients)


def _walk_one(
    jaxpr: Jaxpr, curve: Curve, coefficients: Sequence[Coefficients]
) -> list[Coefficients]:
    expansion = Expansion()
    pairs = zip(jaxpr.invars, coefficients, strict=True)
    env: dict[Var, Series] = {v: given(v.aval, c) for v, c in pairs}
    for eqn in jaxpr.eqns:
        operands = [expansion.read(env, a) for a in eqn.inputs]
        with bound_at(eqn.source):
            if eqn.primitive.taylor is not None and any(s.moves for s in operands):
                known = [s.upto(curve.order) for s in operands]
                outs = eqn.primitive.taylor(curve, known, **eqn.params)
                found = [given(v.aval, c) for v, c in zip(eqn.outputs, outs, strict=True)]
            else:
                found = expansion.settled(eqn, operands, curve.order)
        env.update(zip(eqn.outputs, found, strict=True))
    return [expansion.read(env, a).upto(curve.order) for a in jaxpr.outvars]


# -- many curves through one point, whose last coefficients are summed ---------------------------


def _walk_many(
    jaxpr: Jaxpr, curve: Curve, coefficients: Sequence[Coefficients]
) -> list[Coefficients]:
    """The sum of the highest coefficients over all curves, by their sums at every step.

    The highest coefficient of y = f(x) is T(x_0; x_n), linear in x_n and the same for all curves,
    and what the lower ones make: only that is computed for each curve.
    """
    env: dict[Var, Coefficients] = dict(zip(jaxpr.invars, coefficients, strict=True))
    rest = (None,) * curve.order

    def read(atom: Var | Literal) -> Coefficients:
        return [atom.value, *rest] if isinstance(atom, Literal) else env[atom]

    for eqn in jaxpr.eqns:
        operands = [read(a) for a in eqn.inputs]
        with bound_at(eqn.source):
            if all(m is None for c in operands for m in c[1:]):
                values = bind(eqn.primitive, *[c[0] for c in operands], **eqn.params)
                outs = [[v, *rest] for v in values]
            elif eqn.primitive.taylor is not None:
                outs = eqn.primitive.taylor(curve, operands, **eqn.params)
            else:
                outs = _step_of_many(eqn, curve, operands)
        env.update(zip(eqn.outputs, outs, strict=True))
    return [read(a) for a in jaxpr.outvars]


def _step_of_many(eqn: Eqn, curve: Curve, operands: Sequence[Coefficients]) -> list[Coefficients]:
    differential = Differential(eqn)
    moved = [operands[i] for i in differential.places]
    outs = _each_curve(single(eqn), curve, [[*c[:-1], None] for c in moved])
    last = [c[-1] for c in moved]
    if any(c is not None for c in last):
        along = differential.along(tuple(c[-1] is not None for c in operands))
        tops = along([c[0] for c in moved], [c for c in last if c is not None])
        for out, top in zip(outs, tops, strict=True):
            out[-1] = add_all([out[-1], top])
    return outs


def _each_curve(
    jaxpr: Jaxpr, curve: Curve, coefficients: Sequence[Coefficients]
) -> list[Coefficients]:
    """Curve by curve (by batching), the highest coefficients summed afterwards."""
    assert curve.directions is not None
    axis = MappedAxis(curve.directions)
    one = Curve(curve.order)
    program, orders = taylor_jaxpr(jaxpr, one, orders_of(coefficients))
    flat, count = packed(coefficients), len(coefficients)
    batched, dims = batch_jaxpr(program, axis, (None,) * count + (0,) * (len(flat) - count))
    outs = unpacked(eval_jaxpr(batched, flat), orders, one)
    for out, where in zip(outs, unpacked(dims, orders, one), strict=True):
        assert where[0] is None, "the values that all curves go through are not mapped"
        for k in [k for k in range(1, curve.order + 1) if out[k] is not None]:
            front = move_to(out[k], axis, where[k], 0)
            out[k] = front if k < curve.order else reduce_sum(front, (0,))
    return outs


# -- coefficients as arguments and results of programs -------------------------------------------


@derived
def taylor_jaxpr(
    jaxpr: Jaxpr, curve: Curve, given: Orders, wanted: Orders | None = None
) -> tuple[Jaxpr, Orders]:
    """`eval_taylor` staged: from the packed coefficients of the inputs to those of the outputs.

    `given` says which coefficients the inputs have; the orders returned, which the outputs have:
    those `wanted` at least.
    """
    found: list[Orders] = []

    def walk(*args: Any) -> list[Any]:
        outs = eval_taylor(jaxpr, curve, unpacked(args, given, curve))
        if wanted is not None:
            pairs = zip(outs, wanted, strict=True)
            outs = [instantiated(c, must, curve) for c, must in pairs]
        found.append(orders_of(outs))
        return packed(outs)

    staged = stage_walk(walk, packed_avals(jaxpr.in_avals, given, curve), "taylor")
    return simplify(staged), found[0]


def instantiated(coefficients: Coefficients, orders: frozenset[int], curve: Curve) -> Coefficients:
    """The coefficients, zeros where those of `orders` are none."""
    aval = aval_of(coefficients[0])
    return [
        full(0, curve.aval(aval, k)) if c is None and k in orders else c
        for k, c in enumerate(coefficients)
    ]


def orders_of(coefficients: Sequence[Coefficients]) -> Orders:
    """Which coefficients there are, for each value."""
    return tuple(frozenset(k for k, x in enumerate(c) if k and x is not None) for c in coefficients)


def packed(coefficients: Sequence[Coefficients]) -> list[Any]:
    """The values first, then the coefficients that there are, value by value."""
    rest = [x for c in coefficients for x in c[1:] if x is not None]
    return [*[c[0] for c in coefficients], *rest]


def unpacked(flat: Sequence[Any], orders: Orders, curve: Curve) -> list[Coefficients]:
    """The coefficients that `packed` put in a row, None where there are none."""
    rest = iter(flat[len(orders) :])
    return [
        [value, *[next(rest) if k in own else None for k in range(1, curve.order + 1)]]
        for value, own in zip(flat, orders, strict=False)
    ]


def packed_avals(avals: Sequence[Aval], orders: Orders, curve: Curve) -> list[Aval]:
    """The avals of packed coefficients."""
    pairs = zip(avals, orders, strict=True)
    return [*avals, *[curve.aval(a, k) for a, own in pairs for k in sorted(own)]]
