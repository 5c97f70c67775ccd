"""The rules of while and sweep, written for sweeps: a while is one that notes nothing.

Reverse mode: partial evaluation runs what is known now and lets the whole loop wait, with all that
it needs to run again; the transpose notes the steps of the loop and goes back over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from functrans.bind import bind, eval_jaxpr
from functrans.control.bodies import (
    Join,
    Mask,
    Visit,
    arranged,
    both,
    chosen,
    cut,
    either,
    grown,
    others,
    reads,
    restricted,
    settled,
    spread,
    with_zeros,
    without_inputs,
)
from functrans.control.keeping import keep
from functrans.control.stepping import Parts, Pass, Sweep
from functrans.errors import UnsupportedError, would_act_twice
from functrans.ir import (
    Atom,
    Aval,
    Collective,
    Effect,
    Eqn,
    Jaxpr,
    Linear,
    MappedAxis,
    Var,
    acts,
    calmed,
    jaxprs_in,
    prune,
)
from functrans.primitives.derive import (
    add_all,
    broadcast_at,
    full,
    instantiate,
    move_axis,
    provided,
)
from functrans.primitives.elementwise import add
from functrans.primitives.structural import reduce_sum, reshape
from functrans.recording import stage_walk
from functrans.transforms.batching import batch_jaxpr, move_to
from functrans.transforms.cache import derived
from functrans.transforms.jvp import jvp_jaxpr
from functrans.transforms.partial_eval import partial_eval_jaxpr
from functrans.transforms.simplify import simplify
from functrans.transforms.transpose import transpose_jaxpr


def params_of(sweep: Sweep) -> tuple[str, dict[str, Any]]:
    """The name of the primitive that a sweep is an application of, and its params."""
    if sweep.passes:
        return "sweep", sweep.params
    params = sweep.params
    del params["passes"], params["num_carry"]
    return "while", params


def bind_sweep(sweep: Sweep, parts: Parts) -> list[Any]:
    """The results of a sweep."""
    name, params = params_of(sweep)
    return bind(provided(name), *parts.flat, **params)


def equation(sweep: Sweep, parts: Parts, outputs: list[Var], source: Any) -> Eqn:
    """The equation of a sweep."""
    name, params = params_of(sweep)
    return Eqn(provided(name), parts.flat, outputs, params, source)


def sweep_of(eqn: Eqn) -> Sweep:
    """What an equation of either primitive is as a sweep."""
    if eqn.primitive is provided("sweep"):
        return Sweep(**eqn.params)
    start = eqn.params["num_cond_consts"] + eqn.params["num_body_consts"]
    return Sweep(num_carry=len(eqn.inputs) - start, **eqn.params)


def follow(visit: Visit, join: Join, values: list[Any], **params: Any) -> list[Any]:
    sweep = Sweep(**params)
    parts = sweep.cut(values)
    carry, noted = settled(visit, join, sweep.body, parts.body_consts, parts.carry, [])
    results, history = list(carry), [*carry, *noted]
    for each, (consts, carry) in zip(sweep.passes, parts.passes, strict=True):
        carry, noted = settled(visit, join, each.jaxpr, consts, carry, history)
        results, history = [*results, *carry], [*history, *noted]
    return results


class Walk(NamedTuple):
    """What a property of values (moving, unknown, mapped) comes to in a sweep.

    It spreads from the operands through body and passes; `noted` says it of all that a step notes.
    """

    parts: Parts
    noted: list[tuple[Any, ...]]


def spread_through(sweep: Sweep, start: Parts, flow: Any) -> Walk:
    """`flow(jaxpr, mask of the inputs, number of carries) -> mask of the results`."""

    def settle(jaxpr: Jaxpr, consts: Sequence[bool], carry: Sequence[bool], rest: Sequence[bool]):
        found = grown(lambda c: flow(jaxpr, (*consts, *c, *rest), len(carry))[: len(carry)], carry)
        return found, flow(jaxpr, (*consts, *found, *rest), len(carry))[len(carry) :]

    carry, noted = settle(sweep.body, start.body_consts, start.carry, ())
    history = [tuple(carry), tuple(noted)]
    passes = []
    for each, (consts, own) in zip(sweep.passes, start.passes, strict=True):
        rest = [flag for mask in history for flag in mask]
        own, noted = settle(each.jaxpr, consts, own, rest)
        passes.append((consts, list(own)))
        history.append(tuple(noted))
    return Walk(Parts(start.cond_consts, start.body_consts, list(carry), passes), history)


# -- forward mode -------------------------------------------------------------------------------


def jvp(primals: list[Any], tangents: list[Any], **params: Any) -> tuple[list[Any], list[Any]]:
    """The sweep of the jvps of its programs, but for cond, which reads primals only."""
    sweep = Sweep(**params)
    start = sweep.cut([t is not None for t in tangents])
    start.cond_consts = [False] * sweep.num_cond_consts
    walk = spread_through(sweep, start, lambda j, mask, n: jvp_jaxpr(j, mask)[1])
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


def beside(groups: tuple[Mask, ...]) -> tuple[int, ...]:
    """Where, in groups of primals each followed by its tangents, what came after all of them is."""
    total = sum(map(len, groups))
    primal, tangent = iter(range(total)), iter(range(total, total + sum(map(sum, groups))))
    found: list[int] = []
    for group in groups:
        found += [next(primal) for _ in group]
        found += [next(tangent) for flag in group if flag]
    return tuple(found)


@derived
def with_inputs(jaxpr: Jaxpr, avals: tuple[Aval, ...]) -> Jaxpr:
    """The program with more inputs, which it does not read."""
    made = Jaxpr([*jaxpr.invars, *map(Var, avals)], jaxpr.eqns, jaxpr.outvars)
    made.simple = jaxpr.simple
    return made


# -- partial evaluation -------------------------------------------------------------------------


def partial_eval(eqn: Eqn, unknown: tuple[bool, ...]) -> tuple[list[Eqn], list[Eqn]]:
    """What is known runs now; the whole waits, with all of its operands, to run again.

    Where cond depends on something unknown, all of it waits.
    """
    sweep = sweep_of(eqn)
    walk = spread_through(sweep, sweep.cut(unknown), _unknown_results)
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
    parts = _kept_operands(operands, walk.parts, keeps)
    now = equation(known, parts, known_outs, eqn.source)
    return [now], [later]


def _unknown_results(jaxpr: Jaxpr, mask: Mask, num_carry: int) -> Mask:
    wanted = (False,) * len(jaxpr.outvars)
    return partial_eval_jaxpr(jaxpr, mask, wanted).out_unknown


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
        known_dims = tuple(_kept_operands(sweep.cut(sweep.dims), unknown, keeps).flat)
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


def _kept_operands(parts: Parts, unknown: Parts, keeps: list[bool]) -> Parts:
    pairs = zip(parts.passes, unknown.passes, strict=True)
    passes = [(others(c, uc), others(a, ua)) for (c, a), (uc, ua) in pairs]
    return Parts(
        parts.cond_consts,
        others(parts.body_consts, unknown.body_consts),
        others(parts.carry, unknown.carry),
        chosen(passes, keeps),
    )


@derived
def _known_program(jaxpr: Jaxpr, unknown: Mask, out_unknown: Mask) -> Jaxpr:
    """The part of a program that gives its known results from its known inputs."""
    split = partial_eval_jaxpr(jaxpr, unknown, out_unknown)
    outs = split.known.outvars[: len(split.known.outvars) - split.num_residuals]
    return simplify(Jaxpr(split.known.invars, prune(split.known.eqns, outs), outs))


# -- reverse mode -------------------------------------------------------------------------------


def transpose(cts: list[Any], *operands: Any, **params: Any) -> list[Any]:
    """The steps are taken and noted, then the linear parts go back over them, last one first."""
    sweep = Sweep(**params)
    linear = tuple(isinstance(o, Linear) for o in operands)
    parts, dims = sweep.cut(operands), sweep.cut(sweep.dims or [None] * len(operands))
    walk = spread_through(sweep, sweep.cut(linear), _unknown_results)
    turned = _turned(sweep.body, sweep, tuple(walk.parts.flat), tuple(walk.noted))
    plain, plain_dims = (_kept_operands(p, walk.parts, turned.forward) for p in (parts, dims))
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
        made = replace(made, lanes=sweep.lanes, dims=tuple(plain_dims.flat))
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

        def walk(*args: Any) -> list[Any]:
            fixed, carry_bars, so_far, noted = cut(args, len(own_consts), len(bars), len(sums))
            at = list(zip(self.keys, noted, strict=True))
            values = [x for (what, g, _), x in at if what == "value" and g <= max(number, 0)]
            more = [x for (what, g, _), x in at if what == "more" and g == number]
            e_bars = [
                self._bar(at, e_group, j, half.back.in_avals[-len(e_places) + n])
                for n, j in enumerate(e_places)
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


# -- batching -----------------------------------------------------------------------------------


def batch(
    axis: MappedAxis, operands: list[Any], dims: list[int | None], /, **params: Any
) -> tuple[list[Any], list[int | None]]:
    """Batched programs where all members take the same steps; otherwise a lane for each member."""
    sweep = Sweep(**params)
    if sweep.lanes is None:
        walk = spread_through(
            sweep, sweep.cut([d is not None for d in dims]), _mapped_results(axis)
        )
        test_dims = (
            *sweep.cut(dims).cond_consts,
            *[0 if m else None for m in walk.parts.carry],
        )
        if batch_jaxpr(sweep.cond, axis, test_dims)[1] == (None,):
            return _batch_together(sweep, axis, operands, dims, walk)
    _refuse_collectives(sweep, axis)
    return _batch_as_lanes(sweep, axis, operands, dims)


def _mapped_results(axis: MappedAxis) -> Any:
    def flow(jaxpr: Jaxpr, mask: Mask, num_carry: int) -> Mask:
        dims = tuple(0 if m else None for m in mask)
        return tuple(d is not None for d in batch_jaxpr(jaxpr, axis, dims)[1])

    return flow


def _batch_together(
    sweep: Sweep, axis: MappedAxis, operands: list[Any], dims: list[int | None], walk: Walk
) -> tuple[list[Any], list[int | None]]:
    """Every mapped operand has the axis first, in and out."""
    flags = walk.parts.flat
    moved = [
        move_to(x, axis, d, 0) if m else x for x, d, m in zip(operands, dims, flags, strict=True)
    ]

    def batched(jaxpr: Jaxpr, mask: Sequence[bool], outs: Sequence[bool]) -> Jaxpr:
        return batch_jaxpr(jaxpr, axis, tuple(0 if m else None for m in mask), tuple(outs))[0]

    parts, noted = walk.parts, walk.noted
    passes = []
    for i, (each, (consts, carry)) in enumerate(zip(sweep.passes, parts.passes, strict=True)):
        before = [m for group in noted[: i + 2] for m in group]
        jaxpr = batched(each.jaxpr, [*consts, *carry, *before], [*carry, *noted[i + 2]])
        passes.append(each._replace(jaxpr=jaxpr))
    together = replace(
        sweep,
        cond=batched(sweep.cond, [*parts.cond_consts, *parts.carry], (False,)),
        body=batched(sweep.body, [*parts.body_consts, *parts.carry], [*parts.carry, *noted[1]]),
        passes=tuple(passes),
    )
    outs = bind_sweep(together, sweep.cut(moved))
    return outs, [0 if m else None for group in parts.carries for m in group]


def _batch_as_lanes(
    sweep: Sweep, axis: MappedAxis, operands: list[Any], dims: list[int | None]
) -> tuple[list[Any], list[int | None]]:
    """One lane for each member; lanes that there are already become members times lanes."""
    inner = sweep.dims or (None,) * len(operands)
    count = axis.size * (1 if sweep.lanes is None else sweep.lanes)
    laned = [
        _as_lanes(x, d, lane, axis.size, sweep.lanes)
        for x, d, lane in zip(operands, dims, inner, strict=True)
    ]
    new_dims = tuple(
        None if d is None and lane is None else 0 for d, lane in zip(dims, inner, strict=True)
    )
    outs = bind_sweep(replace(sweep, lanes=count, dims=new_dims), sweep.cut(laned))
    if sweep.lanes is not None:
        outs = [reshape(y, (axis.size, sweep.lanes, *y.shape[1:])) for y in outs]
    return outs, [0] * len(outs)


def _as_lanes(x: Any, dim: int | None, lane: int | None, members: int, lanes: int | None) -> Any:
    """An operand with one first axis for members and lanes together; shared ones stay."""
    if dim is None and lane is None:
        return x
    x = broadcast_at(x, members, 0) if dim is None else move_axis(x, dim, 0)
    if lanes is None:
        return x
    x = broadcast_at(x, lanes, 1) if lane is None else x
    return reshape(x, (members * lanes, *x.shape[2:]))


def _refuse_collectives(sweep: Sweep, axis: MappedAxis) -> None:
    if axis.name is not None and any(_speaks(j, axis.name) for j in sweep.jaxprs):
        raise UnsupportedError(
            f"while_loop: the body uses a collective over the axis {axis.name!r}, but members of "
            "that axis stop after different numbers of steps. Make the condition the same for all, "
            "such as psum of it over the axis."
        )


def _speaks(jaxpr: Jaxpr, name: Any) -> bool:
    """Does the program hold a collective over the named axis?"""
    return any(
        (isinstance(e.primitive.property, Collective) and name in _axes(e.params["axis_name"]))
        or any(_speaks(inner, name) for inner in jaxprs_in(e.params))
        for e in jaxpr.eqns
    )


def _axes(names: Any) -> tuple[Any, ...]:
    return names if isinstance(names, tuple) else (names,)


# -- what nobody uses ---------------------------------------------------------------------------


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
    flags = sweep.cut_results(used)[0]
    passed = both(flags, found.still)
    aliases = dict(zip(chosen(outs[0], passed), chosen(parts.carry, passed), strict=True))
    if found.sweep == sweep:
        return [eqn], aliases
    made = found.sweep
    outputs = [
        v for group, flags in zip(outs, found.carries, strict=True) for v in chosen(group, flags)
    ]
    if not outputs and eqn.effect is Effect.NONE:
        return [], aliases
    if sweep.dims is not None:
        made = replace(made, dims=tuple(found.operands(sweep.cut(sweep.dims)).flat))
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


@derived
def _narrowed(jaxpr: Jaxpr, sweep: Sweep, used: Mask, alike: Mask) -> _Narrowed:
    body, cond = simplify(jaxpr), simplify(sweep.cond)
    flags = sweep.cut_results(used)
    noted: list[Mask] = [(False,) * n for n in sweep.widths]
    kept: list[tuple[Mask, Mask] | None] = [None] * len(sweep.passes)
    wanted: list[Mask] = [()] * len(sweep.passes)
    for i in reversed(range(len(sweep.passes))):
        each = sweep.passes[i]
        carry = _live_carry(each.jaxpr, each.num_consts, tuple(flags[i + 1]), noted[i + 2])
        wanted[i] = (*carry, *noted[i + 2])
        if any(wanted[i]) or each.jaxpr.effect is not Effect.NONE:
            read = reads(simplify(restricted(each.jaxpr, wanted[i])))
            sizes = (each.num_consts, each.num_carry, *sweep.widths[: i + 2])
            consts, _, *history = cut(read, *sizes)[:-1]
            kept[i] = (tuple(consts), carry)
            noted[: i + 2] = [either(*pair) for pair in zip(noted[: i + 2], history, strict=True)]
    start = sweep.num_body_consts
    # The carry before each step is noted: what passes read of it stays a carry.
    still = tuple(
        same and out is var and not seen
        for same, var, out, seen in zip(
            alike, body.invars[start:], body.outvars, noted[0], strict=False
        )
    )
    moving = tuple(not s for s in still)
    in_cond = tuple(cut(reads(cond), sweep.num_cond_consts)[1])
    live = both(either(either(flags[0], in_cond), noted[0]), moving)
    carry = both(_live_carry(body, start, live, noted[1], moving), moving)
    part = simplify(restricted(body, (*carry, *noted[1])))
    body_consts, body_carry = map(tuple, cut(reads(part), start))
    cond_consts = tuple(cut(reads(cond), sweep.num_cond_consts)[0])
    cond_reads, body_reads = both(in_cond, still), both(body_carry, still)
    noted[0] = carry
    passes = [
        Pass(
            _with_kept(
                restricted(p.jaxpr, w), (*m[0], *m[1], *[f for n in noted[: i + 2] for f in n])
            ),
            p.reverse,
            sum(m[0]),
            sum(m[1]),
        )
        for i, (p, m, w) in enumerate(zip(sweep.passes, kept, wanted, strict=True))
        if m is not None
    ]
    made = Sweep(
        _reordered(cond, sweep.num_cond_consts, cond_consts, cond_reads, carry),
        _reordered(part, start, body_consts, body_reads, carry),
        sum(cond_consts) + sum(cond_reads),
        sum(body_consts) + sum(body_reads),
        sum(carry),
        tuple(passes),
        sweep.lanes,
        sweep.dims,
    )
    carries = [
        carry,
        *[
            (False,) * p.num_carry if m is None else m[1]
            for p, m in zip(sweep.passes, kept, strict=True)
        ],
    ]
    return _Narrowed(made, still, cond_consts, body_consts, cond_reads, body_reads, kept, carries)


def _live_carry(
    jaxpr: Jaxpr,
    num_consts: int,
    used: Mask,
    noted: Mask,
    moving: Mask | None = None,
) -> Mask:
    """The carries that are used, or that those which are live are computed from."""

    def step(carry: Mask) -> Mask:
        read = cut(reads(restricted(jaxpr, (*carry, *noted))), num_consts, len(used))[1]
        return tuple(read) if moving is None else both(read, moving)

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
