"""Forward mode and partial evaluation of whiles and sweeps.

What is known runs at once; the whole loop waits with all that it needs to run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from functrans.control.bodies import (
    Mask,
    arranged,
    both,
    chosen,
    cut,
    others,
    reads,
    spread,
    with_zeros,
    without_inputs,
)
from functrans.control.stepping import Parts, Pass, Sweep
from functrans.control.trajectories import (
    Walk,
    beside,
    bind_sweep,
    equation,
    spread_through,
    sweep_of,
    unknown_results,
    with_inputs,
    without,
)
from functrans.errors import would_act_twice
from functrans.ir import (
    Eqn,
    Jaxpr,
    Var,
    acts,
    calmed,
    prune,
)
from functrans.primitives.derive import (
    instantiate,
)
from functrans.transforms.cache import derived
from functrans.transforms.jvp import jvp_jaxpr
from functrans.transforms.partial_eval import partial_eval_jaxpr
from functrans.transforms.simplify import simplify


def jvp(primals: list[Any], tangents: list[Any], **params: Any) -> tuple[list[Any], list[Any]]:
    """The sweep of the jvps of its programs, but for cond, which reads primals only."""
    sweep = Sweep(**params)
    start = sweep.cut([t is not None for t in tangents])
    start.cond_consts = [False] * sweep.num_cond_consts
    walk = spread_through(sweep, start, lambda j, mask: jvp_jaxpr(j, mask)[1])
    moving = walk.parts.flat
    dots = [
        None if not flag else instantiate(t, p)
        for p, t, flag in zip(primals, tangents, moving, strict=True)
    ]
    pushed = _pushed(sweep, walk)
    results = bind_sweep(pushed, _doubled(sweep, primals, dots, walk.parts))
    outs: list[Any] = []
    out_dots: list[Any] = []
    own = zip(walk.parts.carries, pushed.cut_results(results), strict=True)
    for flags, group in own:
        values, moved = cut(group, len(flags))
        outs += values
        out_dots += spread(moved, flags)
    return outs, out_dots


def _doubled(sweep: Sweep, items: Sequence[Any], dots: Sequence[Any], moving: Parts) -> Parts:
    """Each group of operands, but cond's consts, followed by its tangents."""
    parts, more = sweep.cut(items), sweep.cut(dots)

    def double(own: list[Any], theirs: list[Any], flags: Sequence[bool]) -> list[Any]:
        return [*own, *chosen(theirs, flags)]

    passes = [
        (double(c, dc, fc), double(a, da, fa))
        for (c, a), (dc, da), (fc, fa) in zip(parts.passes, more.passes, moving.passes, strict=True)
    ]
    return Parts(
        parts.cond_consts,
        double(parts.body_consts, more.body_consts, moving.body_consts),
        double(parts.carry, more.carry, moving.carry),
        passes,
    )


def _pushed(sweep: Sweep, walk: Walk) -> Sweep:
    """The sweep of the jvps, for what moves."""
    moving = walk.parts
    dims = None
    if sweep.dims is not None:
        dims = tuple(_doubled(sweep, sweep.dims, sweep.dims, moving).flat)
    body = _pushed_program(
        sweep.body,
        (tuple(moving.body_consts), walk.noted[0]),
        (walk.noted[0], walk.noted[1]),
    )
    extra = [Var(v.aval) for v in chosen(sweep.cond.invars[sweep.num_cond_consts :], moving.carry)]
    cond = with_inputs(sweep.cond, tuple(v.aval for v in extra))
    passes = []
    for i, (each, (consts, carry)) in enumerate(zip(sweep.passes, moving.passes, strict=True)):
        jaxpr = _pushed_program(
            each.jaxpr,
            (tuple(consts), tuple(carry), *walk.noted[: i + 2]),
            (tuple(carry), walk.noted[i + 2]),
        )
        num_consts, num_carry = (len(group) + sum(group) for group in (consts, carry))
        passes.append(Pass(jaxpr, each.reverse, num_consts, num_carry))
    return Sweep(
        cond,
        body,
        sweep.num_cond_consts,
        sweep.num_body_consts + sum(moving.body_consts),
        sweep.num_carry + sum(moving.carry),
        tuple(passes),
        sweep.lanes,
        dims,
    )


@derived
def _pushed_program(jaxpr: Jaxpr, moving: tuple[Mask, ...], wanted: tuple[Mask, ...]) -> Jaxpr:
    """The jvp, with each group of inputs and of results followed by its tangents."""
    flags = tuple(flag for group in moving for flag in group)
    pushed, found = jvp_jaxpr(jaxpr, flags)
    out_flags = tuple(flag for group in wanted for flag in group)
    present = (*[True] * len(out_flags), *chosen(found, out_flags))
    avals = (*jaxpr.out_avals, *chosen(jaxpr.out_avals, out_flags))
    whole = with_zeros(pushed, present, avals)
    return arranged(whole, beside(moving), beside(wanted))


# -- partial evaluation -------------------------------------------------------------------------


def partial_eval(eqn: Eqn, unknown: tuple[bool, ...]) -> tuple[list[Eqn], list[Eqn]]:
    """What is known runs now; the whole waits, with all of its operands, to run again.

    Where cond depends on something unknown, all of it waits.
    """
    sweep = sweep_of(eqn)
    walk = spread_through(sweep, sweep.cut(unknown), unknown_results)
    in_cond = [*walk.parts.cond_consts, *walk.parts.carry]
    if any(both(in_cond, reads(sweep.cond))):
        return [], [eqn]
    flags = [flag for group in walk.parts.carries for flag in group]
    known_outs = others(eqn.outputs, flags)
    again = [v if flag else Var(v.aval) for v, flag in zip(eqn.outputs, flags, strict=True)]
    if not known_outs:
        return [], [eqn]
    if acts(eqn):
        raise would_act_twice(
            eqn.primitive.name, eqn.source, "its derivative takes the same steps again"
        )
    later = calmed(Eqn(eqn.primitive, eqn.inputs, again, eqn.params, eqn.source))
    known, keeps = _known_part(sweep, walk)
    operands = sweep.cut(eqn.inputs)
    parts = without(operands, walk.parts, keeps)
    now = equation(known, parts, known_outs, eqn.source)
    return [now], [later]


def _known_part(sweep: Sweep, walk: Walk) -> tuple[Sweep, list[bool]]:
    """The sweep of what is known, and which passes have any of that."""
    unknown = walk.parts
    body = _known_program(
        sweep.body, (*unknown.body_consts, *unknown.carry), (*walk.noted[0], *walk.noted[1])
    )
    kept = (*[True] * sweep.num_cond_consts, *[not u for u in unknown.carry])
    cond = without_inputs(sweep.cond, kept)
    passes = []
    keeps = []
    for i, (each, (consts, carry)) in enumerate(zip(sweep.passes, unknown.passes, strict=True)):
        before = [flag for group in walk.noted[: i + 2] for flag in group]
        after = (*carry, *walk.noted[i + 2])
        keeps.append(not all(after))
        if keeps[-1]:
            jaxpr = _known_program(each.jaxpr, (*consts, *carry, *before), after)
            counts = (len(group) - sum(group) for group in (consts, carry))
            passes.append(Pass(jaxpr, each.reverse, *counts))
    known_dims = None
    if sweep.dims is not None:
        known_dims = tuple(without(sweep.cut(sweep.dims), unknown, keeps).flat)
    return (
        Sweep(
            cond,
            body,
            sweep.num_cond_consts,
            sweep.num_body_consts - sum(unknown.body_consts),
            sweep.num_carry - sum(unknown.carry),
            tuple(passes),
            sweep.lanes,
            known_dims,
        ),
        keeps,
    )


@derived
def _known_program(jaxpr: Jaxpr, unknown: Mask, out_unknown: Mask) -> Jaxpr:
    """The part of a program that gives its known results from its known inputs."""
    split = partial_eval_jaxpr(jaxpr, unknown, out_unknown)
    outs = split.known.outvars[: len(split.known.outvars) - split.num_residuals]
    return simplify(Jaxpr(split.known.invars, prune(split.known.eqns, outs), outs))
