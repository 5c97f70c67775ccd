"""Gradients within a budget of memory: scans keep fewer steps, and take the others again."""

from __future__ import annotations

from typing import Any

from functrans.api.gradient_programs import Gradient, value_and_grad_jaxpr
from functrans.bind import bind, bound_at, last_uses
from functrans.control.blocks import checkpointed, scan_again
from functrans.control.call import call_p
from functrans.control.scan import scan_p
from functrans.control.sweep import sweep_p
from functrans.errors import BudgetError, TransformTypeError, describe
from functrans.ir import Aval, Eqn, Jaxpr, Var, jaxprs_in, values_of
from functrans.recording import stage_walk
from functrans.transforms.cache import derived

LEVELS = 6
"""In how deep blocks of blocks scans are cut at most; at each level steps are taken once more."""


def within_memory(jaxpr: Jaxpr, active: tuple[bool, ...], memory: int, what: str) -> Gradient:
    """The gradient's program that recomputes least among those that keep to the budget.

    Raises BudgetError, with the shortfall, where none does.
    """
    if isinstance(memory, bool) or not isinstance(memory, int) or memory < 0:
        raise TransformTypeError(
            f"{what}: memory must be a number of bytes, but it is {describe(memory)}."
        )
    least = None
    for levels in range(LEVELS + 1):
        program, nonzero = value_and_grad_jaxpr(in_blocks(jaxpr, levels), active)
        needed = peak_bytes(program)
        if needed <= memory:
            _require_bounded(program, what)
            return program, nonzero
        least = needed if least is None else min(least, needed)
    assert least is not None
    raise BudgetError(
        f"{what}: memory={memory} falls short by {least - memory} bytes: {least} are needed at "
        "once, however many steps of its scans are taken again. Give that much, or keep less: "
        "smaller carries, fewer members at a time, lower precision."
    )


def _require_bounded(program: Jaxpr, what: str) -> None:
    """A while keeps all of its steps, and nobody knows how many there will be."""
    for eqn in program.eqns:
        if eqn.primitive is sweep_p:
            raise BudgetError(
                f"{what}: memory= cannot be kept to, since a while_loop (or a fori_loop whose "
                "bounds are traced) takes a number of steps that nobody knows before. Use scan, or "
                "fori_loop with fixed bounds."
            )
        for inner in jaxprs_in(eqn.params):
            _require_bounded(inner, what)


@derived
def in_blocks(jaxpr: Jaxpr, levels: int) -> Jaxpr:
    """The program with its scans in blocks that the backward pass computes again.

    One level computes each step again, from its carry; with more, of n steps about the
    `levels`-th root of n keep their carries at a time.
    """
    if levels == 0:
        return jaxpr

    def walk(*inputs: Any) -> list[Any]:
        env: dict[Var, Any] = dict(zip(jaxpr.invars, inputs, strict=True))
        for eqn in jaxpr.eqns:
            given = values_of(eqn.inputs, env)
            with bound_at(eqn.source):
                env.update(zip(eqn.outputs, _bound_in_blocks(eqn, given, levels), strict=True))
        return values_of(jaxpr.outvars, env)

    staged = stage_walk(walk, jaxpr.in_avals, "grad")
    return Jaxpr(staged.invars, staged.eqns, staged.outvars, jaxpr.num_consts)


def _bound_in_blocks(eqn: Eqn, given: list[Any], levels: int) -> list[Any]:
    params = eqn.params
    if eqn.primitive is call_p:
        return bind(call_p, *given, **{**params, "jaxpr": in_blocks(params["jaxpr"], levels)})
    if eqn.primitive is not scan_p:
        return bind(eqn.primitive, *given, **params)
    if levels == 1:
        return bind(scan_p, *given, **{**params, "jaxpr": checkpointed(params["jaxpr"])})
    length = params["length"]
    sizes = [round(length ** (1 - i / levels)) for i in range(1, levels)]
    return scan_again(given, sizes, **params)


def peak_bytes(jaxpr: Jaxpr) -> int:
    """How many bytes an evaluation holds at once, beside the inputs and the results."""
    outside = {*jaxpr.invars, *jaxpr.outvars}
    held = peak = 0
    for eqn, dying in zip(jaxpr.eqns, last_uses(jaxpr), strict=True):
        made = sum(_nbytes(v.aval) for v in eqn.outputs if v not in outside)
        inside = max(map(peak_bytes, jaxprs_in(eqn.params)), default=0)
        peak = max(peak, held + made + inside)
        held += made - sum(_nbytes(v.aval) for v in dying if v not in outside)
    return peak


def _nbytes(aval: Aval) -> int:
    return aval.size * aval.dtype.itemsize
