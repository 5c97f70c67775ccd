"""Scans without dead carries, ys and operands, and without work that is the same at every step."""

from __future__ import annotations

from typing import NamedTuple

from functrans.control.bodies import (
    Mask,
    both,
    chosen,
    cut,
    grown,
    reads,
    restricted,
)
from functrans.ir import Atom, Effect, Eqn, Jaxpr, Var, inlined
from functrans.primitives.derive import provided
from functrans.transforms.cache import derived
from functrans.transforms.simplify import simplify


class _Narrowed(NamedTuple):
    """A body without what nobody uses, and which parts of the old one are left.

    `still` marks the carries that no step changes, and `fixed` those of them that the steps read:
    they come last among the new body's consts.
    """

    jaxpr: Jaxpr
    consts: Mask
    carry: Mask
    fixed: Mask
    xs: Mask
    still: Mask


def scan_narrow(eqn: Eqn, used: Mask) -> tuple[list[Eqn], dict[Var, Atom]]:
    """The scan without dead carries, ys and operands; a carry that stays the same is a const.

    What consts alone decide is computed once, before.
    """
    num_consts, num_carry = eqn.params["num_consts"], eqn.params["num_carry"]
    consts, carry, xs = cut(eqn.inputs, num_consts, num_carry)
    out_carry, ys = cut(eqn.outputs, num_carry)
    alike = tuple(a.aval == v.aval for a, v in zip(carry, out_carry, strict=True))
    found = _narrowed_body(eqn.params["jaxpr"], tuple(used), alike, num_consts, num_carry)
    still = found.still
    aliases = dict(zip(chosen(out_carry, still), chosen(carry, still), strict=True))
    before = _hoisted(found.jaxpr, sum(found.consts) + sum(found.fixed))
    if eqn.params["length"] == 0 or not before.outside.eqns:
        before = None
    if before is None and found.jaxpr is eqn.params["jaxpr"]:
        return [eqn], aliases
    outputs = [*chosen(out_carry, found.carry), *chosen(ys, used[num_carry:])]
    if not outputs and eqn.effect is Effect.NONE:
        return [], aliases
    new_consts = [*chosen(consts, found.consts), *chosen(carry, found.fixed)]
    body, outside = found.jaxpr, list[Eqn]()
    if before is not None:
        outside, values = inlined(before.outside, new_consts, eqn.source)
        body, new_consts = before.inside, [*chosen(new_consts, before.consts), *values]
    counts = {"num_consts": len(new_consts), "num_carry": sum(found.carry)}
    params = {**eqn.params, "jaxpr": body, **counts}
    inputs = [*new_consts, *chosen(carry, found.carry), *chosen(xs, found.xs)]
    return [*outside, Eqn(provided("scan"), inputs, outputs, params, eqn.source)], aliases


@derived
def _narrowed_body(
    jaxpr: Jaxpr, used: Mask, alike: Mask, num_consts: int, num_carry: int
) -> _Narrowed:
    """`alike` says which initial carries may stand for the last ones, if no step changes them."""
    body = simplify(jaxpr)
    used_carry, used_ys = cut(used, num_carry)
    still = tuple(
        same and out is var
        for same, var, out in zip(
            alike, body.invars[num_consts : num_consts + num_carry], body.outvars, strict=False
        )
    )
    moving = tuple(not s for s in still)

    def step(carry: Mask) -> Mask:
        return tuple(cut(reads(restricted(body, (*carry, *used_ys))), num_consts, num_carry)[1])

    carry = both(grown(step, used_carry), moving)
    part = simplify(restricted(body, (*carry, *used_ys)))
    read_consts, read_carry, read_xs = map(tuple, cut(reads(part), num_consts, num_carry))
    fixed = both(read_carry, still)
    if all((*read_consts, *carry, *read_xs, *used)):
        return _Narrowed(body, read_consts, carry, fixed, read_xs, still)
    consts, carries, xs = cut(part.invars, num_consts, num_carry)
    inputs = [
        *chosen(consts, read_consts),
        *chosen(carries, fixed),
        *chosen(carries, carry),
        *chosen(xs, read_xs),
    ]
    made = Jaxpr(inputs, part.eqns, part.outvars)
    made.simple = True
    return _Narrowed(made, read_consts, carry, fixed, read_xs, still)


class _Hoisted(NamedTuple):
    """A body in two: const* -> value*, and const* value* carry* x* -> carry* y* for each step.

    `consts` marks the consts that each step still reads.
    """

    outside: Jaxpr
    inside: Jaxpr
    consts: Mask


@derived
def _hoisted(body: Jaxpr, num_consts: int) -> _Hoisted:
    consts, rest = cut(body.invars, num_consts)
    fixed: set[Var] = set(consts)
    outside: list[Eqn] = []
    for eqn in body.eqns:
        given = [a for a in eqn.inputs if isinstance(a, Var)]
        if given and fixed.issuperset(given) and _is_movable(eqn, given):
            outside.append(eqn)
            fixed.update(eqn.outputs)
    made = {v for eqn in outside for v in eqn.outputs}
    inside = [eqn for eqn in body.eqns if made.isdisjoint(eqn.outputs)]
    needed = dict.fromkeys([a for eqn in inside for a in eqn.inputs] + body.outvars)
    values = [a for a in needed if a in made]
    read = tuple(v in needed for v in consts)
    step = Jaxpr([*chosen(consts, read), *values, *rest], inside, body.outvars)  # type: ignore[list-item]
    step.simple = body.simple
    return _Hoisted(Jaxpr(consts, outside, values), step, read)


def _is_movable(eqn: Eqn, given: list[Var]) -> bool:
    """May the equation stand before the loop? What it gives must not be larger than what it takes,
    since it would be kept through all steps."""
    if eqn.effect is not Effect.NONE or eqn.primitive.opaque:
        return False
    size = lambda variables: sum(v.aval.size * v.aval.dtype.itemsize for v in variables)
    return size(eqn.outputs) <= size(given)
