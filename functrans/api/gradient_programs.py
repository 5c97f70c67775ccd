"""Programs of gradients: forward and backward in one."""

from __future__ import annotations

from typing import Any

from functrans.api.border import conform
from functrans.control.steps import in_steps
from functrans.ir import Aval, Jaxpr, Linear, Literal
from functrans.primitives.derive import full
from functrans.recording import stage_walk
from functrans.transforms.cache import derived
from functrans.transforms.linearize import Linearized, linearize_jaxpr
from functrans.transforms.simplify import composed, simplify
from functrans.transforms.transpose import eval_transpose, transpose_jaxpr

Gradient = tuple[Jaxpr, tuple[bool, ...]]
"""(inputs) -> outputs and the gradients, of the first output, that are not zero: these it marks."""


@derived
def value_and_grad_jaxpr(jaxpr: Jaxpr, active: tuple[bool, ...]) -> Gradient:
    """(inputs) -> outputs and the gradients, of the first output, that are not zero."""
    linear = linearize_jaxpr(in_steps(jaxpr), active)
    if not linear.out_nonzero[0]:
        return linear.primal, (False,) * sum(active)
    backward, nonzero = _backward(
        linear, [a for a, f in zip(jaxpr.in_avals, active, strict=True) if f]
    )
    bar = linear.tangent.out_avals[0]
    one = full(1, bar)
    seed = Literal(one.item() if bar.weak else one, bar)
    return composed(linear.primal, backward, len(jaxpr.outvars), [seed]), nonzero


def _backward(linear: Linearized, in_avals: list[Aval]) -> Gradient:
    """residuals and the cotangent of the first output -> those of the inputs, in their types."""
    nonzero: list[bool] = []

    def walk(*values: Any) -> list[Any]:
        *residuals, bar = values
        bars = [bar, *[None] * (len(linear.tangent.outvars) - 1)]
        grads = eval_transpose(linear.tangent, [*residuals, *map(Linear, in_avals)], bars)
        nonzero.extend(g is not None for g in grads)
        return [conform(g, a) for g, a in zip(grads, in_avals, strict=True) if g is not None]

    avals = [*linear.tangent.in_avals[: linear.num_residuals], linear.tangent.out_avals[0]]
    return simplify(stage_walk(walk, avals, "grad"), collect=True), tuple(nonzero)


def transposed_tangent(
    linear: Linearized, active: tuple[bool, ...], given: tuple[bool, ...]
) -> tuple[Jaxpr, tuple[bool, ...]]:
    """The backward program: (residuals, cotangents) -> cotangents of the active inputs."""
    mask = (False,) * linear.num_residuals + (True,) * sum(active)
    return transpose_jaxpr(linear.tangent, mask, given)
