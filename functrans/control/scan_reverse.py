"""Reverse mode of scans: what each step notes, and the way back through the steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from functrans.bind import bind, eval_jaxpr
from functrans.control.bodies import (
    Mask,
    chosen,
    cut,
    grown,
    others,
    spread,
    stacked,
)
from functrans.control.keeping import between, keep
from functrans.control.products import PutOff, done_at_once, put_off
from functrans.ir import Atom, Aval, Effect, Eqn, Jaxpr, Linear, Var, inlined, prune
from functrans.primitives.derive import full, provided
from functrans.primitives.elementwise import add
from functrans.recording import stage_walk
from functrans.transforms.cache import derived
from functrans.transforms.partial_eval import partial_eval_jaxpr
from functrans.transforms.simplify import simplify
from functrans.transforms.transpose import transpose_jaxpr


class _Split(NamedTuple):
    """A body in two, by the consts, carries and xs that are known.

    known   : const* carry* x*  ->  carry* y* noted*
    waiting : const* hoisted* (unknown const)* (unknown carry)* x* noted* (unknown x)*
              ->  (unknown carry)* (unknown y)*

    Of the known consts and xs, `waiting` takes those that the masks mark. `hoisted`, from all known
    consts, gives what is the same at every step.
    """

    known: Jaxpr
    waiting: Jaxpr
    hoisted: Jaxpr
    consts: Mask
    xs: Mask
    unknown: Mask
    out_unknown: Mask
    noted: list[Aval]


@derived
def _split_body(jaxpr: Jaxpr, unknown: Mask, num_consts: int, num_carry: int) -> _Split:
    u_consts, u_carry, u_xs = cut(unknown, num_consts, num_carry)
    no_ys = (False,) * (len(jaxpr.outvars) - num_carry)

    def step(carry: Mask) -> Sequence[bool]:
        mask = (*u_consts, *carry, *u_xs)
        return partial_eval_jaxpr(jaxpr, mask, (*carry, *no_ys)).out_unknown[:num_carry]

    settled = grown(step, u_carry)
    unknown = (*u_consts, *settled, *u_xs)
    known, waiting, out_unknown, count = partial_eval_jaxpr(jaxpr, unknown, (*settled, *no_ys))
    results, residuals = cut(known.outvars, len(known.outvars) - count)
    consts, _, xs = cut(known.invars, num_consts - sum(u_consts), num_carry - sum(settled))
    invariant = _invariant(known.eqns, consts)
    free = dict.fromkeys([*consts, *xs, *invariant], 0)
    kept = keep(known.eqns, known.invars, residuals, free)
    hoisted = [v for v in kept.values if v in invariant]
    noted = [v for v in kept.values if v not in free]
    kept_consts, kept_xs = ([v for v in kept.values if v in vs] for vs in (set(consts), set(xs)))
    w_consts, w_carry, w_xs = cut(waiting.invars[count:], sum(u_consts), sum(settled))
    inputs = [*kept_consts, *hoisted, *w_consts, *w_carry, *kept_xs, *noted, *w_xs]
    outs = [*results, *noted]
    return _Split(
        Jaxpr(known.invars, prune(known.eqns, outs), outs),
        simplify(Jaxpr(inputs, [*kept.again, *waiting.eqns], waiting.outvars), collect=True),
        Jaxpr(consts, between(known.eqns, consts, set(hoisted)), hoisted),
        tuple(v in kept_consts for v in consts),
        tuple(v in kept_xs for v in xs),
        unknown,
        out_unknown,
        [v.aval for v in noted],
    )


def _invariant(eqns: list[Eqn], consts: list[Var]) -> set[Var]:
    """What is computed from the consts alone; what comes from literals alone costs nothing."""
    fixed, found = set(consts), set[Var]()
    for eqn in eqns:
        given = [a for a in eqn.inputs if isinstance(a, Var)]
        if given and fixed.issuperset(given) and eqn.effect is Effect.NONE:
            fixed.update(eqn.outputs)
            found.update(eqn.outputs)
    return found


def scan_partial_eval(eqn: Eqn, unknown: tuple[bool, ...]) -> tuple[list[Eqn], list[Eqn]]:
    """A scan of what is known, which notes what the scan of what waits needs of each step.

    A carry that any step makes unknown is unknown from the start.
    """
    num_consts, num_carry = eqn.params["num_consts"], eqn.params["num_carry"]
    length = eqn.params["length"]
    split = _split_body(eqn.params["jaxpr"], unknown, num_consts, num_carry)
    consts, carry, xs = cut(eqn.inputs, num_consts, num_carry)
    u_consts, u_carry, u_xs = cut(split.unknown, num_consts, num_carry)
    known_consts, known_xs = others(consts, u_consts), others(xs, u_xs)
    outside, hoisted = inlined(split.hoisted, known_consts, eqn.source)
    noted = [Var(stacked(length, a)) for a in split.noted]

    def make(jaxpr: Jaxpr, groups: Sequence[Sequence[Atom]], outs: list[Var]) -> Eqn:
        counts = {"num_consts": len(groups[0]), "num_carry": len(groups[1])}
        inputs = [a for group in groups for a in group]
        return Eqn(
            provided("scan"), inputs, outs, {**eqn.params, "jaxpr": jaxpr, **counts}, eqn.source
        )

    now = make(
        split.known,
        [known_consts, others(carry, u_carry), known_xs],
        [*others(eqn.outputs, split.out_unknown), *noted],
    )
    later = make(
        split.waiting,
        [
            [*chosen(known_consts, split.consts), *hoisted, *chosen(consts, u_consts)],
            chosen(carry, u_carry),
            [*chosen(known_xs, split.xs), *noted, *chosen(xs, u_xs)],
        ],
        chosen(eqn.outputs, split.out_unknown),
    )
    acts = bool(now.outputs) or now.effect is not Effect.NONE
    return [*outside, *[now] * acts], [later]


# -- reverse mode -------------------------------------------------------------------------------


def scan_transpose(
    cts: list[Any],
    *operands: Any,
    jaxpr: Jaxpr,
    length: int,
    reverse: bool,
    num_consts: int,
    num_carry: int,
) -> list[Any]:
    """The steps the other way round; what they say of a linear const is added up in the carry.

    Sums of large products are put off to the end: see products.py.
    """
    linear = tuple(isinstance(o, Linear) for o in operands)
    (turned, products), reached = _transposed_body(jaxpr, linear, num_consts, num_carry, length)
    consts, _, xs = cut(operands, num_consts, num_carry)
    lin_consts, lin_carry, lin_xs = cut(linear, num_consts, num_carry)
    to_consts, to_xs = cut(reached, sum(lin_consts))
    stays = [p is None for p in products]
    sums = [full(0, o.aval) for o in chosen(chosen(chosen(consts, lin_consts), to_consts), stays)]
    carry_cts, y_cts = cut(cts, num_carry)
    slices = [*others(xs, lin_xs), *y_cts]
    outs = bind(
        provided("scan"),
        *others(consts, lin_consts),
        *carry_cts,
        *sums,
        *slices,
        jaxpr=turned,
        length=length,
        reverse=not reverse,
        num_consts=num_consts - sum(lin_consts),
        num_carry=num_carry + len(sums),
    )
    carry_bars, added_up, x_bars, noted = cut(outs, num_carry, len(sums), sum(to_xs))
    const_bars = [
        done_at_once(p, slices, noted) if p is not None else bar
        for p, bar in zip(products, spread(added_up, stays), strict=True)
    ]
    return [
        *spread(spread(const_bars, to_consts), lin_consts),
        *[bar if flag else None for bar, flag in zip(carry_bars, lin_carry, strict=True)],
        *spread(spread(x_bars, to_xs), lin_xs),
    ]


@derived
def _transposed_body(
    jaxpr: Jaxpr, linear: Mask, num_consts: int, num_carry: int, length: int
) -> tuple[PutOff, Mask]:
    """const* (carry_bar* sum*) (x* y_bar*) -> carry_bar* sum* x_bar*, and a mask.

    The mask says which linear consts, then which linear xs, have a cotangent. The whole carry
    counts as linear: partial evaluation has left nothing else.
    """
    lin_consts, _, lin_xs = cut(linear, num_consts, num_carry)
    mask = (*lin_consts, *[True] * num_carry, *lin_xs)
    turned, nonzero = transpose_jaxpr(jaxpr, mask, (True,) * len(jaxpr.outvars))
    to_consts, to_carry, to_xs = cut(nonzero, sum(lin_consts), num_carry)
    consts, carry, xs = cut(jaxpr.in_avals, num_consts, num_carry)
    sums = chosen(chosen(consts, lin_consts), to_consts)
    fixed, moving = others(consts, lin_consts), others(xs, lin_xs)
    y_avals = jaxpr.out_avals[num_carry:]

    def walk(*args: Any) -> list[Any]:
        given, bars, so_far, slices, y_bars = cut(
            args, len(fixed), num_carry, len(sums), len(moving)
        )
        results = eval_jaxpr(turned, [*given, *slices, *bars, *y_bars])
        more, carry_bars, x_bars = cut(results, len(sums), sum(to_carry))
        whole = spread(carry_bars, to_carry)
        filled = [full(0, a) if b is None else b for b, a in zip(whole, carry, strict=True)]
        return [*filled, *[add(a, b) for a, b in zip(so_far, more, strict=True)], *x_bars]

    staged = stage_walk(walk, [*fixed, *carry, *sums, *moving, *y_avals], "transpose")
    simple = simplify(staged, collect=True)
    return put_off(simple, len(fixed), num_carry, len(sums), length), (*to_consts, *to_xs)
