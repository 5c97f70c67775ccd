"""Forward mode: push tangents along the equations; a symbolic zero is None and costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from functrans.bind import bind, bound_at
from functrans.ir import Atom, Jaxpr, Var, values_of
from functrans.recording import stage_walk
from functrans.transforms.cache import derived
from functrans.transforms.simplify import simplify

Mask = tuple[bool, ...]


def eval_jvp(
    jaxpr: Jaxpr, primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """jvp : (a, T a) -> (b, T b), bound under the current interpreter. A tangent may be None."""
    env: dict[Var, Any] = dict(zip(jaxpr.invars, primals, strict=True))
    dots: dict[Atom, Any] = dict(zip(jaxpr.invars, tangents, strict=True))
    for eqn in jaxpr.eqns:
        ins = values_of(eqn.inputs, env)
        in_dots = [dots.get(a) for a in eqn.inputs]
        with bound_at(eqn.source):
            if all(d is None for d in in_dots):
                outs = bind(eqn.primitive, *ins, **eqn.params)
            else:
                assert eqn.primitive.jvp is not None
                outs, out_dots = eqn.primitive.jvp(ins, in_dots, **eqn.params)
                dots.update(zip(eqn.outputs, out_dots, strict=True))
        env.update(zip(eqn.outputs, outs, strict=True))
    return values_of(jaxpr.outvars, env), [dots.get(a) for a in jaxpr.outvars]


@derived
def jvp_jaxpr(jaxpr: Jaxpr, nonzero: Mask) -> tuple[Jaxpr, Mask]:
    """`eval_jvp` staged: (primals, tangents that are not zero) -> (outs, tangents not zero).

    `nonzero` says which inputs have a tangent; the mask returned, which outputs have one.
    """
    out_nonzero: list[bool] = []

    def walk(*args: Any) -> list[Any]:
        primals, given = args[: len(nonzero)], iter(args[len(nonzero) :])
        tangents = [next(given) if flag else None for flag in nonzero]
        outs, out_dots = eval_jvp(jaxpr, primals, tangents)
        out_nonzero.extend(d is not None for d in out_dots)
        return outs + [d for d in out_dots if d is not None]

    in_avals = jaxpr.in_avals
    tangent_avals = [a for a, flag in zip(in_avals, nonzero, strict=True) if flag]
    staged = stage_walk(walk, in_avals + tangent_avals, "jvp")
    return simplify(staged), tuple(out_nonzero)
