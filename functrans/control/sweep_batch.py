"""Batching of whiles and sweeps: in step where all members go together, else in lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from functrans.control.bodies import (
    Mask,
)
from functrans.control.stepping import Sweep
from functrans.control.trajectories import (
    Walk,
    bind_sweep,
    spread_through,
)
from functrans.errors import UnsupportedError
from functrans.ir import (
    Collective,
    Jaxpr,
    MappedAxis,
    jaxprs_in,
)
from functrans.primitives.derive import (
    broadcast_at,
    move_axis,
)
from functrans.primitives.structural import reshape
from functrans.transforms.batching import batch_jaxpr, move_to


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
    def flow(jaxpr: Jaxpr, mask: Mask) -> Mask:
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
    together = sweep._replace(
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
    outs = bind_sweep(sweep._replace(lanes=count, dims=new_dims), sweep.cut(laned))
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
