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

from functrans.bind import bind, eval_jaxpr
from functrans.control.bodies import (
    Join,
    Mask,
    Visit,
    arranged,
    chosen,
    cut,
    grown,
    require_types,
    settled,
    spread,
    stacked,
    with_zeros,
)
from functrans.control.expanding import expanded, turned
from functrans.control.scan_narrow import scan_narrow
from functrans.control.scan_reverse import scan_partial_eval, scan_transpose
from functrans.errors import ShapeError
from functrans.ir import Aval, Effect, Jaxpr, MappedAxis, Primitive
from functrans.primitives.derive import instantiate, provide
from functrans.transforms.batching import Dims, batch_jaxpr, move_to
from functrans.transforms.cache import derived
from functrans.transforms.jvp import jvp_jaxpr
from functrans.transforms.series import Curve
from functrans.transforms.taylor import (
    Coefficients,
    Orders,
    instantiated,
    orders_of,
    packed,
    taylor_jaxpr,
    unpacked,
)

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
    return batch_jaxpr(jaxpr, axis, dims, carry)


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


scan_p = provide(
    Primitive(
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
)
