"""Reverse mode of whiles and sweeps: steps are noted, and linear parts go back over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from functrans.bind import eval_jaxpr
from functrans.control.bodies import (
    Mask,
    chosen,
    cut,
    others,
    spread,
    without_inputs,
)
from functrans.control.keeping import keep
from functrans.control.stepping import Parts, Pass, Sweep
from functrans.control.trajectories import (
    bind_sweep,
    spread_through,
    unknown_results,
    without,
)
from functrans.ir import (
    Aval,
    Jaxpr,
    Linear,
    Var,
    prune,
)
from functrans.primitives.derive import (
    add_all,
    full,
)
from functrans.primitives.elementwise import add
from functrans.primitives.structural import reduce_sum
from functrans.recording import stage_walk
from functrans.transforms.cache import derived
from functrans.transforms.partial_eval import partial_eval_jaxpr
from functrans.transforms.simplify import simplify
from functrans.transforms.transpose import transpose_jaxpr


def transpose(cts: list[Any], *operands: Any, **params: Any) -> list[Any]:
    """The steps are taken and noted, then the linear parts go back over them, last one first."""
    sweep = Sweep(**params)
    linear = tuple(isinstance(o, Linear) for o in operands)
    parts, dims = sweep.cut(operands), sweep.cut(sweep.dims or [None] * len(operands))
    walk = spread_through(sweep, sweep.cut(linear), unknown_results)
    turned = _turned(sweep.body, sweep, tuple(walk.parts.flat), tuple(walk.noted))
    plain, plain_dims = (without(p, walk.parts, turned.forward) for p in (parts, dims))
    bars = sweep.cut_results(cts)
    for number in turned.order:
        consts, const_dims, flags = _own(number, parts, dims, walk.parts)
        summed = [
            full(0, _lane_aval(o.aval, d))
            for o, d in chosen(
                chosen(zip(consts, const_dims, strict=True), flags[0]), turned.reached[number]
            )
        ]
        given = chosen(bars[number], flags[1])
        plain.passes.append((others(consts, flags[0]), [*given, *summed]))
        plain_dims.passes.append(
            (others(const_dims, flags[0]), [*[0] * len(given), *[None] * len(summed)])
        )
    made = turned.sweep
    if sweep.lanes is not None:
        made = made._replace(lanes=sweep.lanes, dims=tuple(plain_dims.flat))
    results = made.cut_results(bind_sweep(made, plain))
    back = dict(zip(turned.order, results[len(results) - len(turned.order) :], strict=True))
    found = sweep.cut([None] * len(operands))
    for number, values in back.items():
        _, _, flags = _own(number, parts, dims, walk.parts)
        carry_bars, sums = cut(values, sum(flags[1]))
        const_bars = spread(spread(sums, turned.reached[number]), flags[0])
        _put(found, number, const_bars, spread(carry_bars, flags[1]))
    return [
        None if bar is None or not flag else _over_lanes(bar, sweep.lanes, d)
        for bar, flag, d in zip(found.flat, linear, dims.flat, strict=True)
    ]


def _own(
    number: int, parts: Parts, dims: Parts, linear: Parts
) -> tuple[list[Any], list[int | None], tuple[list[bool], list[bool]]]:
    """The consts of the while (0) or of a pass (from 1), their dims, and what is linear."""
    if number == 0:
        return parts.body_consts, dims.body_consts, (linear.body_consts, linear.carry)
    own, places = parts.passes[number - 1], dims.passes[number - 1]
    return own[0], places[0], linear.passes[number - 1]


def _put(parts: Parts, number: int, consts: list[Any], carry: list[Any]) -> None:
    if number == 0:
        parts.body_consts, parts.carry = consts, carry
    else:
        parts.passes[number - 1] = (consts, carry)


def _lane_aval(aval: Aval, dim: int | None) -> Aval:
    return aval if dim is None else Aval(aval.shape[1:], aval.dtype)


def _over_lanes(bar: Any, lanes: int | None, dim: int | None) -> Any:
    """What all lanes say of an operand that they share is added up."""
    return bar if lanes is None or dim is not None else reduce_sum(bar, (0,))


class _Turned(NamedTuple):
    """The transposed sweep, without its lanes.

    Its passes are the non-linear parts of those passes that `forward` marks, then the way back of
    the programs in `order` (0 the while, i pass i); `reached` says for each of these which of its
    linear consts have a cotangent.
    """

    sweep: Sweep
    forward: list[bool]
    order: list[int]
    reached: dict[int, Mask]


Key = tuple[str, int, int]
"""What a noted value is: ("value", group, place), ("more", program, place) for what only the way
back of that program reads, or ("bar", group, place), a cotangent of a noted value."""


@derived
def _turned(body: Jaxpr, sweep: Sweep, linear: Mask, noted: tuple[Mask, ...]) -> _Turned:
    parts = sweep.cut(linear)
    programs: list[tuple[Jaxpr, list[bool], list[bool], Mask]] = [
        (body, parts.body_consts, parts.carry, ())
    ]
    for i, (each, own) in enumerate(zip(sweep.passes, parts.passes, strict=True)):
        programs.append((each.jaxpr, *own, tuple(f for m in noted[: i + 2] for f in m)))
    halves = [
        _half(jaxpr, tuple(consts), tuple(carry), history, noted[i + 1], i == 0)
        for i, (jaxpr, consts, carry, history) in enumerate(programs)
    ]
    notes = _Notes(noted)
    notes.add_values(0, sweep.body.in_avals[sweep.num_body_consts :])
    notes.add_values(1, sweep.body.out_avals[sweep.num_carry :])
    notes.add([("more", 0, j) for j in range(len(halves[0].noted))], halves[0].noted)
    passes: list[Pass] = []
    forward: list[bool] = []
    for i, each in enumerate(sweep.passes, start=1):
        half = halves[i]
        forward.append(bool(half.forward.outvars))
        if forward[-1]:
            num_consts, num_carry = half.counts
            jaxpr = notes.placed(half.forward, num_consts + num_carry)
            passes.append(Pass(jaxpr, each.reverse, num_consts, num_carry))
            notes.add_values(i + 1, each.jaxpr.out_avals[each.num_carry :])
            notes.add([("more", i, j) for j in range(len(half.noted))], half.noted)
    order: list[int] = []
    reached: dict[int, Mask] = {}
    for i in reversed(range(len(halves))):
        if halves[i].linear_outs:
            order.append(i)
            jaxpr, reached[i] = notes.way_back(halves[i], i)
            reverse = not (sweep.passes[i - 1].reverse if i else False)
            num_carry = halves[i].num_linear_carry + sum(reached[i])
            passes.append(Pass(jaxpr, reverse, halves[i].counts[0], num_carry))
    cond_kept = (*[True] * sweep.num_cond_consts, *[not flag for flag in parts.carry])
    made = Sweep(
        without_inputs(sweep.cond, cond_kept),
        halves[0].forward,
        sweep.num_cond_consts,
        *halves[0].counts,
        tuple(passes),
    )
    return _Turned(made, forward, order, reached)


class _Half(NamedTuple):
    """A program in two: what is not linear, and the way back through what is.

    forward : const* carry* noted*  ->  carry* e* more*
    back    : const* carry* noted* more* carry_bar* e_bar*  ->  const_bar* carry_bar* noted_bar*

    Both take and give the non-linear ones only; `back` takes the carry only where it is noted.
    `reached` says which linear inputs have a cotangent; `noted` are the types of `more`.
    """

    forward: Jaxpr
    back: Jaxpr
    counts: tuple[int, int]
    noted: list[Aval]
    reached: tuple[Mask, Mask, Mask]
    linear: tuple[Mask, Mask, Mask]
    in_avals: list[Aval]
    linear_outs: int

    @property
    def num_linear_carry(self) -> int:
        return sum(self.linear[1])


@derived
def _half(
    jaxpr: Jaxpr, consts: Mask, carry: Mask, history: Mask, noted: Mask, remembered: bool
) -> _Half:
    """The masks say what is linear; `remembered`: the carry before each step is noted anyway."""
    known, waiting, _, count = partial_eval_jaxpr(
        jaxpr, (*consts, *carry, *history), (*carry, *noted)
    )
    results, residuals = cut(known.outvars, len(known.outvars) - count)
    counts = len(consts) - sum(consts), len(carry) - sum(carry)
    own_consts, own_carry, own_history = cut(known.invars, *counts)
    at_hand = [*own_consts, *(own_carry if remembered else []), *own_history]
    free = dict.fromkeys([*own_consts, *own_history], 0)
    kept = keep(known.eqns, known.invars, residuals, free)
    more = [v for v in kept.values if v not in at_hand]
    outs = [*results, *more]
    linear_in = waiting.invars[count:]
    linear = Jaxpr([*at_hand, *more, *linear_in], [*kept.again, *waiting.eqns], waiting.outvars)
    mask = (*[False] * (len(at_hand) + len(more)), *[True] * len(linear_in))
    back, reached = transpose_jaxpr(linear, mask, (True,) * len(waiting.outvars))
    groups = cut(reached, sum(consts), sum(carry))
    return _Half(
        simplify(Jaxpr(known.invars, prune(known.eqns, outs), outs)),
        back,
        counts,
        [v.aval for v in more],
        (tuple(groups[0]), tuple(groups[1]), tuple(groups[2])),
        (consts, carry, history),
        jaxpr.in_avals,
        len(waiting.outvars),
    )


class _Notes:
    """What each step of a transposed sweep notes, in order."""

    def __init__(self, linear: tuple[Mask, ...]) -> None:
        self.linear = linear
        self.keys: list[Key] = []
        self.avals: list[Aval] = []

    def add(self, keys: Sequence[Key], avals: Sequence[Aval]) -> None:
        self.keys += keys
        self.avals += avals

    def add_values(self, group: int, avals: Sequence[Aval]) -> None:
        """The non-linear values of a group of what the old sweep noted."""
        plain = others(enumerate(avals), self.linear[group])
        self.add([("value", group, j) for j, _ in plain], [a for _, a in plain])

    def placed(self, jaxpr: Jaxpr, start: int) -> Jaxpr:
        """A program that takes, from input `start` on, all that is noted, not values only."""
        own = iter(jaxpr.invars[start:])
        noted = [
            next(own) if key[0] == "value" else Var(a)
            for key, a in zip(self.keys, self.avals, strict=True)
        ]
        return Jaxpr([*jaxpr.invars[:start], *noted], jaxpr.eqns, jaxpr.outvars)

    def way_back(self, half: _Half, number: int) -> tuple[Jaxpr, Mask]:
        """The pass back through a program, and which of its linear consts have a cotangent.

        const* (carry_bar* sum*) noted*  ->  carry_bar* sum* noted_bar*
        """
        lin_consts, lin_carry, lin_history = half.linear
        consts, carry, history = cut(half.in_avals, len(lin_consts), len(lin_carry))
        bars, own_consts = chosen(carry, lin_carry), others(consts, lin_consts)
        sums = chosen(chosen(consts, lin_consts), half.reached[0])
        e_group = number + 1
        e_places = chosen(range(len(self.linear[e_group])), self.linear[e_group])
        places = [
            (g, j) for g, group in enumerate(self.linear[:e_group]) for j in range(len(group))
        ]
        to_history = chosen(chosen(places if number else [], lin_history), half.reached[2])
        e_avals = half.back.in_avals[len(half.back.invars) - len(e_places) :]

        def walk(*args: Any) -> list[Any]:
            fixed, carry_bars, so_far, noted = cut(args, len(own_consts), len(bars), len(sums))
            at = list(zip(self.keys, noted, strict=True))
            values = [x for (what, g, _), x in at if what == "value" and g <= max(number, 0)]
            more = [x for (what, g, _), x in at if what == "more" and g == number]
            e_bars = [
                self._bar(at, e_group, j, aval) for j, aval in zip(e_places, e_avals, strict=True)
            ]
            results = eval_jaxpr(half.back, [*fixed, *values, *more, *carry_bars, *e_bars])
            to_consts, to_carry, to_noted = cut(results, sum(half.reached[0]), sum(half.reached[1]))
            before = spread(to_carry, half.reached[1])
            if number == 0:
                places_of = chosen(range(len(lin_carry)), lin_carry)
                before = [
                    add_all([b, *self._bars(at, 0, j)])
                    for b, j in zip(before, places_of, strict=True)
                ]
            filled = [full(0, a) if b is None else b for b, a in zip(before, bars, strict=True)]
            return [
                *filled,
                *[add(a, b) for a, b in zip(so_far, to_consts, strict=True)],
                *to_noted,
            ]

        staged = stage_walk(walk, [*own_consts, *bars, *sums, *self.avals], "transpose")
        kept_history = chosen(chosen(history, lin_history), half.reached[2])
        self.add([("bar", g, j) for g, j in to_history], kept_history)
        return simplify(staged, collect=True), half.reached[0]

    def _bars(self, at: list[tuple[Key, Any]], group: int, place: int) -> list[Any]:
        return [x for key, x in at if key == ("bar", group, place)]

    def _bar(self, at: list[tuple[Key, Any]], group: int, place: int, aval: Aval) -> Any:
        total = add_all(self._bars(at, group, place))
        return full(0, aval) if total is None else total
