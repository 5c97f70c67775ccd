"""Whiles and sweeps without dead carries, notes and operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from functrans.control.bodies import (
    Mask,
    both,
    chosen,
    cut,
    either,
    grown,
    reads,
    restricted,
    without_inputs,
)
from functrans.control.stepping import Parts, Pass, Sweep
from functrans.control.trajectories import (
    equation,
    sweep_of,
)
from functrans.ir import (
    Atom,
    Effect,
    Eqn,
    Jaxpr,
    Var,
)
from functrans.transforms.cache import derived
from functrans.transforms.simplify import simplify


def narrow(eqn: Eqn, used: Mask) -> tuple[list[Eqn], dict[Var, Atom]]:
    """The sweep without dead carries, notes and operands; a carry that stays is a const."""
    sweep = sweep_of(eqn)
    parts, outs = sweep.cut(eqn.inputs), sweep.cut_results(eqn.outputs)
    dims = sweep.dims or (None,) * len(eqn.inputs)
    alike = tuple(
        a.aval == v.aval and not (sweep.lanes is not None and d is None)
        for a, v, d in zip(parts.carry, outs[0], sweep.cut(dims).carry, strict=True)
    )
    found = _narrowed(sweep.body, sweep, tuple(used), alike)
    still = found.still
    aliases = dict(zip(chosen(outs[0], still), chosen(parts.carry, still), strict=True))
    if found.sweep == sweep:
        return [eqn], aliases
    made = found.sweep
    outputs = [
        v for group, flags in zip(outs, found.carries, strict=True) for v in chosen(group, flags)
    ]
    if not outputs and eqn.effect is Effect.NONE:
        return [], aliases
    if sweep.dims is not None:
        made = made._replace(dims=tuple(found.operands(sweep.cut(sweep.dims)).flat))
    return [equation(made, found.operands(parts), outputs, eqn.source)], aliases


class _Narrowed(NamedTuple):
    """A sweep without what nobody uses (its dims aside), and what of the operands is left.

    `still` marks the carries that no step changes. Those that are read become consts: of cond
    where `cond_reads` says so, of body where `body_reads` does, after the other consts.
    """

    sweep: Sweep
    still: Mask
    cond_consts: Mask
    body_consts: Mask
    cond_reads: Mask
    body_reads: Mask
    passes: list[tuple[Mask, Mask] | None]
    carries: list[Mask]

    def operands(self, parts: Parts) -> Parts:
        """What is left, of the operands or of anything there is one of for each."""
        pairs = zip(parts.passes, self.passes, strict=True)
        return Parts(
            [*chosen(parts.cond_consts, self.cond_consts), *chosen(parts.carry, self.cond_reads)],
            [*chosen(parts.body_consts, self.body_consts), *chosen(parts.carry, self.body_reads)],
            chosen(parts.carry, self.carries[0]),
            [(chosen(c, m[0]), chosen(a, m[1])) for (c, a), m in pairs if m is not None],
        )


class _Live(NamedTuple):
    """What of the passes is read.

    wanted   of each pass, which of its results
    kept     of each pass, which consts and which carries; None where nothing of it is wanted
    noted    which values each step notes: its carry, what the body makes besides, and what each
             pass makes
    """

    wanted: list[Mask]
    kept: list[tuple[Mask, Mask] | None]
    noted: list[Mask]


@derived
def _narrowed(jaxpr: Jaxpr, sweep: Sweep, used: Mask, alike: Mask) -> _Narrowed:
    """`used` says which results are read, `alike` which carries are their first values in type."""
    body, cond = simplify(jaxpr), simplify(sweep.cond)
    flags = sweep.cut_results(used)
    passes = _live_passes(sweep, [tuple(each) for each in flags[1:]])
    start, (seen, extra, *made_by_passes) = sweep.num_body_consts, passes.noted
    still = _still(body, start, alike, seen)
    cond_consts, in_cond = map(tuple, cut(reads(cond), sweep.num_cond_consts))
    live = _live_carry(body, start, either(either(flags[0], in_cond), seen), extra)
    carry = both(live, tuple(not s for s in still))
    part = simplify(restricted(body, (*carry, *extra)))
    body_consts, body_carry = map(tuple, cut(reads(part), start))
    cond_reads, body_reads = both(in_cond, still), both(body_carry, still)
    made = Sweep(
        _reordered(cond, sweep.num_cond_consts, cond_consts, cond_reads, carry),
        _reordered(part, start, body_consts, body_reads, carry),
        sum(cond_consts) + sum(cond_reads),
        sum(body_consts) + sum(body_reads),
        sum(carry),
        _kept_passes(sweep, passes._replace(noted=[carry, extra, *made_by_passes])),
        sweep.lanes,
        sweep.dims,
    )
    pairs = zip(sweep.passes, passes.kept, strict=True)
    own = [(False,) * p.num_carry if m is None else m[1] for p, m in pairs]
    return _Narrowed(
        made, still, cond_consts, body_consts, cond_reads, body_reads, passes.kept, [carry, *own]
    )


def _live_passes(sweep: Sweep, used: Sequence[Mask]) -> _Live:
    """From the last pass to the first: what one reads, those before it have to make."""
    noted: list[Mask] = [(False,) * n for n in sweep.widths]
    kept: list[tuple[Mask, Mask] | None] = [None] * len(sweep.passes)
    wanted: list[Mask] = [()] * len(sweep.passes)
    for i, each in reversed(list(enumerate(sweep.passes))):
        carry = _live_carry(each.jaxpr, each.num_consts, used[i], noted[i + 2])
        wanted[i] = (*carry, *noted[i + 2])
        if any(wanted[i]) or each.jaxpr.effect is not Effect.NONE:
            read = reads(simplify(restricted(each.jaxpr, wanted[i])))
            sizes = (each.num_consts, each.num_carry, *sweep.widths[: i + 2])
            consts, _, *history = cut(read, *sizes)[:-1]
            kept[i] = (tuple(consts), carry)
            noted[: i + 2] = [either(*pair) for pair in zip(noted[: i + 2], history, strict=True)]
    return _Live(wanted, kept, noted)


def _still(body: Jaxpr, start: int, alike: Mask, seen: Mask) -> Mask:
    """The carries that no step changes.

    The carry before each step is noted: what passes have `seen` of it stays a carry.
    """
    pairs = zip(alike, body.invars[start:], body.outvars, seen, strict=False)
    return tuple(same and out is var and not noted for same, var, out, noted in pairs)


def _kept_passes(sweep: Sweep, live: _Live) -> tuple[Pass, ...]:
    """The passes of which anything is wanted, without what is not."""
    found: list[Pass] = []
    for i, (each, kept) in enumerate(zip(sweep.passes, live.kept, strict=True)):
        if kept is not None:
            history = [flag for noted in live.noted[: i + 2] for flag in noted]
            jaxpr = _with_kept(
                restricted(each.jaxpr, live.wanted[i]), (*kept[0], *kept[1], *history)
            )
            found.append(Pass(jaxpr, each.reverse, sum(kept[0]), sum(kept[1])))
    return tuple(found)


def _live_carry(jaxpr: Jaxpr, num_consts: int, used: Mask, noted: Mask) -> Mask:
    """The carries that are used, or that those which are live are computed from."""

    def step(carry: Mask) -> Mask:
        return tuple(cut(reads(restricted(jaxpr, (*carry, *noted))), num_consts, len(used))[1])

    return grown(step, used)


def _with_kept(jaxpr: Jaxpr, kept: Mask) -> Jaxpr:
    """The simplified program, less the inputs not kept."""
    return without_inputs(simplify(jaxpr), kept)


def _reordered(jaxpr: Jaxpr, num_consts: int, consts: Mask, still: Mask, carry: Mask) -> Jaxpr:
    """const* (carry that stays)* carry*: the program itself where nothing changes."""
    own, carried = cut(jaxpr.invars, num_consts)
    invars = [*chosen(own, consts), *chosen(carried, still), *chosen(carried, carry)]
    if invars == jaxpr.invars:
        return jaxpr
    made = Jaxpr(invars, jaxpr.eqns, jaxpr.outvars)
    made.simple = jaxpr.simple
    return made
