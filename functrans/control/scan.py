"""The scan primitive: a body runs a known number of times, over slices of its operands.

    scan[jaxpr length reverse num_consts num_carry] const* carry* x*  ->  carry* y*

    jaxpr : const* carry* x_k*  ->  carry* y_k*

Each step gets the same consts, the carry that the step before left, and one slice along the first
axis of each x; it leaves a carry of the same types and a slice of each y. With `reverse` the steps
go from the last slice to the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from functrans.bind import bind, eval_jaxpr
from functrans.control.bodies import (
    Join,
    Mask,
    Visit,
    arranged,
    both,
    chosen,
    cut,
    grown,
    inlined,
    others,
    reads,
    require_types,
    restricted,
    settled,
    spread,
    stacked,
    with_zeros,
)
from functrans.control.expanding import expanded, turned
from functrans.control.keeping import between, keep
from functrans.errors import ShapeError
from functrans.ir import Atom, Aval, Effect, Eqn, Jaxpr, Linear, MappedAxis, Primitive, Var, prune
from functrans.primitives.derive import full, instantiate
from functrans.primitives.elementwise import add
from functrans.recording import stage_walk
from functrans.transforms.batching import Dims, batch_jaxpr, move_to
from functrans.transforms.cache import derived
from functrans.transforms.jvp import jvp_jaxpr
from functrans.transforms.partial_eval import partial_eval_jaxpr
from functrans.transforms.series import Curve
from functrans.transforms.simplify import simplify
from functrans.transforms.taylor import (
    Coefficients,
    Orders,
    instantiated,
    orders_of,
    packed,
    taylor_jaxpr,
    unpacked,
)
from functrans.transforms.transpose import transpose_jaxpr

# -- meaning ------------------------------------------------------------------------------------


def scan_abstract_eval(
    *avals: Aval, jaxpr: Jaxpr, length: int, reverse: bool, num_consts: int, num_carry: int
) -> list[Aval]:
    consts, carry, xs = cut(avals, num_consts, num_carry)
    given = [*consts, *carry, *[_slice_of(a, length) for a in xs]]
    require_types("scan", "the operands are", given, jaxpr.in_avals)
    after, ys = cut(jaxpr.out_avals, num_carry)
    require_types("scan", "a step leaves the carry", after, carry)
    return [*after, *[stacked(length, a) for a in ys]]


def _slice_of(aval: Aval, length: int) -> Aval:
    if not aval.shape or aval.shape[0] != length:
        raise ShapeError(f"scan: {aval} has no first axis of length {length} to run over")
    return Aval(aval.shape[1:], aval.dtype)


def scan_impl(
    *operands: Any, jaxpr: Jaxpr, length: int, reverse: bool, num_consts: int, num_carry: int
) -> list[Any]:
    """A loop in Python."""
    consts, carry, xs = cut(operands, num_consts, num_carry)
    ys = [np.empty((length, *a.shape), a.dtype) for a in jaxpr.out_avals[num_carry:]]
    for k in reversed(range(length)) if reverse else range(length):
        carry, slices = cut(eval_jaxpr(jaxpr, [*consts, *carry, *[x[k] for x in xs]]), num_carry)
        for y, out in zip(ys, slices, strict=True):
            y[k] = out
    return [*carry, *ys]


def scan_effects(*, jaxpr: Jaxpr, **params: Any) -> Effect:
    return jaxpr.effect


# -- forward mode -------------------------------------------------------------------------------


def scan_jvp(
    primals: list[Any],
    tangents: list[Any],
    *,
    jaxpr: Jaxpr,
    length: int,
    reverse: bool,
    num_consts: int,
    num_carry: int,
) -> tuple[list[Any], list[Any]]:
    """The scan of the body's jvp; a carry has a tangent where it or any step gives it one."""
    flags = [t is not None for t in tangents]
    pushed, moving, out_moving = _jvp_body(jaxpr, tuple(flags), num_consts, num_carry)
    dots = [
        t if t is not None or not flag else instantiate(None, p)
        for t, p, flag in zip(tangents, primals, moving, strict=True)
    ]
    groups = zip(cut(primals, num_consts, num_carry), cut(dots, num_consts, num_carry), strict=True)
    doubled = [[*ps, *[t for t in ts if t is not None]] for ps, ts in groups]
    outs = bind(
        scan_p,
        *[x for group in doubled for x in group],
        jaxpr=pushed,
        length=length,
        reverse=reverse,
        num_consts=len(doubled[0]),
        num_carry=len(doubled[1]),
    )
    carry, ys = cut(outs, len(doubled[1]))
    carry_moving, y_moving = cut(out_moving, num_carry)
    (carry, carry_dots), (ys, y_dots) = cut(carry, num_carry), cut(ys, len(y_moving))
    return [*carry, *ys], [*spread(carry_dots, carry_moving), *spread(y_dots, y_moving)]


@derived
def _jvp_body(
    jaxpr: Jaxpr, moving: Mask, num_consts: int, num_carry: int
) -> tuple[Jaxpr, Mask, Mask]:
    """The jvp of a body, in the order of a body, and which inputs and results have tangents."""
    consts, carry, xs = cut(moving, num_consts, num_carry)

    def step(carry: Mask) -> Sequence[bool]:
        return jvp_jaxpr(jaxpr, (*consts, *carry, *xs))[1][:num_carry]

    settled = grown(step, carry)
    moving = (*consts, *settled, *xs)
    pushed, found = jvp_jaxpr(jaxpr, moving)
    wanted = (*settled, *found[num_carry:])
    num_outs = len(wanted)
    present = (True,) * num_outs + tuple(f for f, w in zip(found, wanted, strict=True) if w)
    avals = [*jaxpr.out_avals, *chosen(jaxpr.out_avals, wanted)]
    whole = with_zeros(pushed, present, tuple(avals))
    return (
        arranged(
            whole,
            _beside(moving, num_consts, num_carry),
            _beside(wanted, num_carry),
        ),
        moving,
        wanted,
    )


def _beside(moving: Mask, *counts: int) -> tuple[int, ...]:
    """Where, in groups of primals each followed by its tangents, what came after all primals is."""
    places = spread(range(len(moving), len(moving) + sum(moving)), moving)
    groups = zip(cut(range(len(moving)), *counts), cut(places, *counts), strict=True)
    return tuple(i for ps, ts in groups for i in [*ps, *[t for t in ts if t is not None]])


def scan_taylor(
    curve: Curve,
    coefficients: list[Coefficients],
    *,
    jaxpr: Jaxpr,
    length: int,
    reverse: bool,
    num_consts: int,
    num_carry: int,
) -> list[Coefficients]:
    """The scan of the body's Taylor jaxpr; a carry has what coefficients any step gives it."""
    orders = orders_of(coefficients)
    given, wanted = _orders_of_body(jaxpr, curve, orders, num_consts, num_carry)
    consts, carry, xs = cut(coefficients, num_consts, num_carry)
    groups = [
        packed(consts),
        packed([instantiated(c, own, curve) for c, own in zip(carry, given[1], strict=True)]),
        packed([turned(x, curve, 0, 1) for x in xs]),
    ]
    outs = bind(
        scan_p,
        *[x for group in groups for x in group],
        jaxpr=expanded(jaxpr, curve, given, wanted),
        length=length,
        reverse=reverse,
        num_consts=len(groups[0]),
        num_carry=len(groups[1]),
    )
    carry_outs, y_outs = cut(outs, len(groups[1]))
    ys = unpacked(y_outs, wanted[1], curve)
    return [*unpacked(carry_outs, wanted[0], curve), *[turned(y, curve, 1, 0) for y in ys]]


@derived
def _orders_of_body(
    jaxpr: Jaxpr, curve: Curve, orders: Orders, num_consts: int, num_carry: int
) -> tuple[tuple[Orders, ...], tuple[Orders, ...]]:
    """The coefficients of consts, carries and xs, and those of carries and ys."""
    consts, carry, xs = cut(orders, num_consts, num_carry)

    def step(carry: Orders) -> Orders:
        return taylor_jaxpr(jaxpr, curve, (*consts, *carry, *xs))[1]

    settled = grown(lambda c: step(c)[:num_carry], carry)
    return (tuple(consts), settled, tuple(xs)), (settled, step(settled)[num_carry:])


# -- partial evaluation -------------------------------------------------------------------------


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
        return Eqn(scan_p, inputs, outs, {**eqn.params, "jaxpr": jaxpr, **counts}, eqn.source)

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
    """The steps the other way round; what they say of a linear const is added up in the carry."""
    linear = tuple(isinstance(o, Linear) for o in operands)
    turned, reached = _transposed_body(jaxpr, linear, num_consts, num_carry)
    consts, _, xs = cut(operands, num_consts, num_carry)
    lin_consts, lin_carry, lin_xs = cut(linear, num_consts, num_carry)
    to_consts, to_xs = cut(reached, sum(lin_consts))
    sums = [full(0, o.aval) for o in chosen(chosen(consts, lin_consts), to_consts)]
    carry_cts, y_cts = cut(cts, num_carry)
    outs = bind(
        scan_p,
        *others(consts, lin_consts),
        *carry_cts,
        *sums,
        *others(xs, lin_xs),
        *y_cts,
        jaxpr=turned,
        length=length,
        reverse=not reverse,
        num_consts=num_consts - sum(lin_consts),
        num_carry=num_carry + len(sums),
    )
    carry_bars, const_bars, x_bars = cut(outs, num_carry, len(sums))
    return [
        *spread(spread(const_bars, to_consts), lin_consts),
        *[bar if flag else None for bar, flag in zip(carry_bars, lin_carry, strict=True)],
        *spread(spread(x_bars, to_xs), lin_xs),
    ]


@derived
def _transposed_body(
    jaxpr: Jaxpr, linear: Mask, num_consts: int, num_carry: int
) -> tuple[Jaxpr, Mask]:
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
    return simplify(staged, collect=True), (*to_consts, *to_xs)


# -- batching -----------------------------------------------------------------------------------


def scan_batch(
    axis: MappedAxis,
    operands: list[Any],
    dims: list[int | None],
    *,
    jaxpr: Jaxpr,
    length: int,
    reverse: bool,
    num_consts: int,
    num_carry: int,
) -> tuple[list[Any], list[int | None]]:
    """The scan of the batched body; a carry is mapped where it or any step makes it so."""
    consts, carry, xs = cut(operands, num_consts, num_carry)
    const_dims, carry_dims, x_dims = cut(dims, num_consts, num_carry)
    settled = _mapped_carry(
        jaxpr,
        axis,
        tuple(const_dims),
        tuple(d is not None for d in carry_dims),
        tuple(d is not None for d in x_dims),
    )
    batched, out_dims = _batched_body(
        jaxpr, axis, tuple(const_dims), settled, tuple(d is not None for d in x_dims)
    )
    moved = [
        move_to(x, axis, d, 0) if m else x
        for x, d, m in zip(carry, carry_dims, settled, strict=True)
    ]
    slices = [x if d is None else move_to(x, axis, d, 1) for x, d in zip(xs, x_dims, strict=True)]
    outs = bind(
        scan_p,
        *consts,
        *moved,
        *slices,
        jaxpr=batched,
        length=length,
        reverse=reverse,
        num_consts=num_consts,
        num_carry=num_carry,
    )
    y_dims = [None if d is None else d + 1 for d in out_dims[num_carry:]]
    return outs, [*out_dims[:num_carry], *y_dims]


def _mapped_carry(jaxpr: Jaxpr, axis: MappedAxis, consts: Dims, carry: Mask, xs: Mask) -> Mask:
    """Which carries differ from member to member."""

    def step(mask: Mask) -> Sequence[bool]:
        out_dims = _batched_body(jaxpr, axis, consts, mask, xs)[1]
        return [d is not None for d in out_dims[: len(carry)]]

    return grown(step, carry)


def _batched_body(
    jaxpr: Jaxpr, axis: MappedAxis, consts: Dims, carry: Mask, xs: Mask
) -> tuple[Jaxpr, Dims]:
    dims = (*consts, *[0 if m else None for m in (*carry, *xs)])
    front = (*carry, *[False] * (len(jaxpr.outvars) - len(carry)))
    return batch_jaxpr(jaxpr, axis, dims, front)


def scan_follow(
    visit: Visit,
    join: Join,
    values: list[Any],
    *,
    jaxpr: Jaxpr,
    num_consts: int,
    num_carry: int,
    **params: Any,
) -> list[Any]:
    consts, carry, xs = cut(values, num_consts, num_carry)
    carry, ys = settled(visit, join, jaxpr, consts, carry, xs)
    return [*carry, *ys]


# -- what nobody uses ---------------------------------------------------------------------------


class _Narrowed(NamedTuple):
    """A body without what nobody uses, and which parts of the old one are left.

    `fixed` marks the carries that no step changes: they come last among the new body's consts.
    """

    jaxpr: Jaxpr
    consts: Mask
    carry: Mask
    fixed: Mask
    xs: Mask
    passed: Mask


def scan_narrow(eqn: Eqn, used: Mask) -> tuple[list[Eqn], dict[Var, Atom]]:
    """The scan without dead carries, ys and operands; a carry that stays the same is a const."""
    num_consts, num_carry = eqn.params["num_consts"], eqn.params["num_carry"]
    consts, carry, xs = cut(eqn.inputs, num_consts, num_carry)
    out_carry, ys = cut(eqn.outputs, num_carry)
    alike = tuple(a.aval == v.aval for a, v in zip(carry, out_carry, strict=True))
    found = _narrowed_body(eqn.params["jaxpr"], tuple(used), alike, num_consts, num_carry)
    aliases = dict(zip(chosen(out_carry, found.passed), chosen(carry, found.passed), strict=True))
    if found.jaxpr is eqn.params["jaxpr"]:
        return [eqn], aliases
    outputs = [*chosen(out_carry, found.carry), *chosen(ys, used[num_carry:])]
    if not outputs and eqn.effect is Effect.NONE:
        return [], aliases
    new_consts = [*chosen(consts, found.consts), *chosen(carry, found.fixed)]
    counts = {"num_consts": len(new_consts), "num_carry": sum(found.carry)}
    params = {**eqn.params, "jaxpr": found.jaxpr, **counts}
    inputs = [*new_consts, *chosen(carry, found.carry), *chosen(xs, found.xs)]
    return [Eqn(scan_p, inputs, outputs, params, eqn.source)], aliases


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
        read = cut(reads(restricted(body, (*carry, *used_ys))), num_consts, num_carry)[1]
        return both(read, moving)

    carry = grown(step, both(used_carry, moving))
    part = simplify(restricted(body, (*carry, *used_ys)))
    read_consts, read_carry, read_xs = map(tuple, cut(reads(part), num_consts, num_carry))
    fixed, passed = both(read_carry, still), both(used_carry, still)
    if all((*read_consts, *carry, *read_xs, *used)):
        return _Narrowed(body, read_consts, carry, fixed, read_xs, passed)
    consts, carries, xs = cut(part.invars, num_consts, num_carry)
    inputs = [
        *chosen(consts, read_consts),
        *chosen(carries, fixed),
        *chosen(carries, carry),
        *chosen(xs, read_xs),
    ]
    made = Jaxpr(inputs, part.eqns, part.outvars)
    made.simple = True
    return _Narrowed(made, read_consts, carry, fixed, read_xs, passed)


scan_p = Primitive(
    name="scan",
    abstract_eval=scan_abstract_eval,
    impl=scan_impl,
    jvp=scan_jvp,
    transpose=scan_transpose,
    batch=scan_batch,
    partial_eval=scan_partial_eval,
    taylor=scan_taylor,
    follow=scan_follow,
    narrow=scan_narrow,
    effects=scan_effects,
    cheap=False,
)
