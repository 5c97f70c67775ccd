"""Batching: run a program on many members at once, by the batching rule of each equation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from functrans.bind import bind, bound_at
from functrans.ir import (
    Atom,
    Aval,
    Collective,
    Eqn,
    Jaxpr,
    MappedAxis,
    Var,
    jaxprs_in,
    values_of,
)
from functrans.primitives.derive import broadcast_at, move_axis
from functrans.recording import stage_walk
from functrans.transforms.cache import derived
from functrans.transforms.simplify import simplify

Dims = tuple[int | None, ...]


def eval_batch(
    jaxpr: Jaxpr, axis: MappedAxis, args: Sequence[Any], dims: Sequence[int | None]
) -> tuple[list[Any], list[int | None]]:
    """The results for every member, and the axis along which they lie (None: all the same)."""
    env: dict[Var, Any] = dict(zip(jaxpr.invars, args, strict=True))
    where_mapped: dict[Atom, int | None] = dict(zip(jaxpr.invars, dims, strict=True))
    for eqn in jaxpr.eqns:
        ins = values_of(eqn.inputs, env)
        in_dims = [where_mapped.get(a) for a in eqn.inputs]
        with bound_at(eqn.source):
            if all(d is None for d in in_dims) and not _may_know(axis, eqn):
                outs = bind(eqn.primitive, *ins, **eqn.params)
                out_dims: list[int | None] = [None] * len(outs)
            else:
                assert eqn.primitive.batch is not None
                outs, out_dims = eqn.primitive.batch(axis, ins, in_dims, **eqn.params)
        env.update(zip(eqn.outputs, outs, strict=True))
        where_mapped.update(zip(eqn.outputs, out_dims, strict=True))
    return values_of(jaxpr.outvars, env), [where_mapped.get(a) for a in jaxpr.outvars]


def _may_know(axis: MappedAxis, eqn: Eqn) -> bool:
    """May this equation depend on the mapped axis, by its name, though its operands do not?"""
    if axis.name is None:
        return False
    return isinstance(eqn.primitive.property, Collective) or any(
        True for _ in jaxprs_in(eqn.params)
    )


def mapped_aval(aval: Aval, axis: MappedAxis, dim: int | None) -> Aval:
    """The aval of all members together, lying along `dim`."""
    if dim is None:
        return aval
    return Aval((*aval.shape[:dim], axis.size, *aval.shape[dim:]), aval.dtype)


def move_to(x: Any, axis: MappedAxis, dim: int | None, wanted: int | None) -> Any:
    """x with its mapped axis at `wanted`; repeated when every member has the same."""
    if dim is None:
        return x if wanted is None else broadcast_at(x, axis.size, wanted)
    assert wanted is not None
    return move_axis(x, dim, wanted)


@derived
def batch_jaxpr(
    jaxpr: Jaxpr, axis: MappedAxis, dims: Dims, out_front: tuple[bool, ...] | None = None
) -> tuple[Jaxpr, Dims]:
    """`eval_batch` staged, and where its outputs lie.

    `out_front` marks outputs, of the first ones, that must be mapped along axis 0 whatever they
    depend on.
    """
    found: list[int | None] = []

    def walk(*args: Any) -> list[Any]:
        outs, out_dims = eval_batch(jaxpr, axis, args, dims)
        for i, must in enumerate(out_front or ()):
            if must:
                outs[i], out_dims[i] = move_to(outs[i], axis, out_dims[i], 0), 0
        found.extend(out_dims)
        return outs

    avals = [mapped_aval(a, axis, d) for a, d in zip(jaxpr.in_avals, dims, strict=True)]
    staged = stage_walk(walk, avals, "vmap")
    return simplify(staged), tuple(found)
