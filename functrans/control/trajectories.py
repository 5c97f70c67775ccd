"""Trajectories: what the rules of while and sweep share, written for sweeps, which both are.

A while is a sweep that notes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from functrans.bind import bind
from functrans.control.bodies import (
    Join,
    Mask,
    Visit,
    chosen,
    grown,
    others,
    settled,
)
from functrans.control.stepping import Parts, Sweep
from functrans.ir import (
    Aval,
    Eqn,
    Jaxpr,
    Var,
)
from functrans.primitives.derive import (
    provided,
)
from functrans.transforms.cache import derived
from functrans.transforms.partial_eval import partial_eval_jaxpr


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


def spread_through(sweep: Sweep, start: Parts, flow: Callable[[Jaxpr, Any], Any]) -> Walk:
    """Where a property of the operands spreads: `flow(jaxpr, mask of its inputs)` is that of its
    results."""

    def settle(jaxpr: Jaxpr, consts: Sequence[bool], carry: Sequence[bool], rest: Sequence[bool]):
        found = grown(lambda c: flow(jaxpr, (*consts, *c, *rest))[: len(carry)], carry)
        return found, flow(jaxpr, (*consts, *found, *rest))[len(carry) :]

    carry, noted = settle(sweep.body, start.body_consts, start.carry, ())
    history = [tuple(carry), tuple(noted)]
    passes = []
    for each, (consts, own) in zip(sweep.passes, start.passes, strict=True):
        rest = [flag for mask in history for flag in mask]
        own, noted = settle(each.jaxpr, consts, own, rest)
        passes.append((consts, list(own)))
        history.append(tuple(noted))
    return Walk(Parts(start.cond_consts, start.body_consts, list(carry), passes), history)


def unknown_results(jaxpr: Jaxpr, mask: Mask) -> Mask:
    wanted = (False,) * len(jaxpr.outvars)
    return partial_eval_jaxpr(jaxpr, mask, wanted).out_unknown


def without(parts: Parts, unknown: Parts, keeps: list[bool]) -> Parts:
    pairs = zip(parts.passes, unknown.passes, strict=True)
    passes = [(others(c, uc), others(a, ua)) for (c, a), (uc, ua) in pairs]
    return Parts(
        parts.cond_consts,
        others(parts.body_consts, unknown.body_consts),
        others(parts.carry, unknown.carry),
        chosen(passes, keeps),
    )


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
