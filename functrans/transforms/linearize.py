"""Linearize: the derivative at a point as a linear program, by splitting the jvp's jaxpr."""

from __future__ import annotations

from typing import NamedTuple

from functrans.ir import Jaxpr
from functrans.transforms.cache import derived
from functrans.transforms.jvp import Mask, jvp_jaxpr
from functrans.transforms.partial_eval import partial_eval_jaxpr
from functrans.transforms.simplify import simplify


class Linearized(NamedTuple):
    """A function and its derivative in two programs.

    primal  : inputs -> outputs and residuals
    tangent : residuals and the tangents of the active inputs -> the tangents that are not zero
    out_nonzero says which outputs have a tangent at all.
    """

    primal: Jaxpr
    tangent: Jaxpr
    out_nonzero: Mask
    num_residuals: int


@derived
def linearize_jaxpr(jaxpr: Jaxpr, active: Mask) -> Linearized:
    """linearize : (a -> b) -> (a -> b, residuals); (residuals, T a) -o T b."""
    pushed, out_nonzero = jvp_jaxpr(jaxpr, active)
    unknown = (False,) * len(active) + (True,) * sum(active)
    is_tangent = (False,) * len(jaxpr.outvars) + (True,) * sum(out_nonzero)
    split = partial_eval_jaxpr(pushed, unknown, is_tangent)
    tangent = simplify(split.waiting, collect=True)
    return Linearized(simplify(split.known), tangent, out_nonzero, split.num_residuals)
