"""Partial evaluation: split a jaxpr into what is known now and what waits for unknown inputs."""

from __future__ import annotations

from typing import NamedTuple

from functrans.ir import Atom, Eqn, Jaxpr, Literal, Var, prune
from functrans.transforms.cache import derived

Mask = tuple[bool, ...]


class PartialEval(NamedTuple):
    """A jaxpr in two parts.

    known   : known inputs -> known outputs and residuals
    waiting : residuals and unknown inputs -> unknown outputs
    out_unknown says which outputs come from `waiting`.
    """

    known: Jaxpr
    waiting: Jaxpr
    out_unknown: Mask
    num_residuals: int


@derived
def partial_eval_jaxpr(jaxpr: Jaxpr, unknown: Mask, instantiate: Mask | None = None) -> PartialEval:
    """Split `jaxpr` by the inputs that `unknown` marks.

    `instantiate` marks outputs that come from `waiting` whatever they depend on. A
    primitive that holds a jaxpr splits itself, by its `partial_eval` rule: (eqn, unknown) ->
    (known eqns, waiting eqns), where an output variable belongs to the part that binds it.
    """
    waiting_vars = {v for v, flag in zip(jaxpr.invars, unknown, strict=True) if flag}
    known_eqns: list[Eqn] = []
    waiting_eqns: list[Eqn] = []
    as_they_were = True
    for eqn in jaxpr.eqns:
        flags = tuple(a in waiting_vars for a in eqn.inputs)
        if not any(flags):
            known_eqns.append(eqn)
            continue
        now, later = split_eqn(eqn, flags)
        as_they_were = as_they_were and not now
        known_eqns += now
        waiting_eqns += later
        waiting_vars.update(v for e in later for v in e.outputs)
    forced = instantiate or (False,) * len(jaxpr.outvars)
    out_unknown = tuple(
        must or a in waiting_vars for a, must in zip(jaxpr.outvars, forced, strict=True)
    )
    parts = _assemble(jaxpr, unknown, known_eqns, waiting_eqns, out_unknown)
    # Some of the equations of a simplified program, those that are needed, are one.
    parts.known.simple = jaxpr.simple and as_they_were
    return parts


def split_eqn(eqn: Eqn, unknown: Mask) -> tuple[list[Eqn], list[Eqn]]:
    """The equations of one equation that can be known, and those that wait."""
    if eqn.primitive.partial_eval is None:
        return [], [eqn]
    return eqn.primitive.partial_eval(eqn, unknown)


def _assemble(
    jaxpr: Jaxpr, unknown: Mask, known_eqns: list[Eqn], waiting_eqns: list[Eqn], out_unknown: Mask
) -> PartialEval:
    known_in = [v for v, flag in zip(jaxpr.invars, unknown, strict=True) if not flag]
    unknown_in = [v for v, flag in zip(jaxpr.invars, unknown, strict=True) if flag]
    known_out = [a for a, flag in zip(jaxpr.outvars, out_unknown, strict=True) if not flag]
    unknown_out = [a for a, flag in zip(jaxpr.outvars, out_unknown, strict=True) if flag]
    waiting_eqns = prune(waiting_eqns, unknown_out)
    residuals = _residuals(waiting_eqns, unknown_in, unknown_out)
    outs: list[Atom] = [*known_out, *residuals]
    known = Jaxpr(known_in, prune(known_eqns, outs), outs)
    waiting = Jaxpr([*residuals, *unknown_in], waiting_eqns, unknown_out)
    return PartialEval(known, waiting, out_unknown, len(residuals))


def _residuals(eqns: list[Eqn], given: list[Var], outputs: list[Atom]) -> list[Var]:
    """What the waiting equations read that nothing of theirs binds, in order of first use."""
    bound: set[Atom] = set(given)
    found: dict[Var, None] = {}
    for eqn in eqns:
        found.update({a: None for a in eqn.inputs if _is_free(a, bound)})  # type: ignore[misc]
        bound.update(eqn.outputs)
    found.update({a: None for a in outputs if _is_free(a, bound)})  # type: ignore[misc]
    return list(found)


def _is_free(atom: Atom, bound: set[Atom]) -> bool:
    return not isinstance(atom, Literal) and atom not in bound
