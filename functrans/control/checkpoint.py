"""Checkpoint: keep the inputs of a function instead of its residuals, and compute it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from functrans.bind import bind, eval_jaxpr
from functrans.errors import would_act_twice
from functrans.ir import (
    Aval,
    Effect,
    Eqn,
    Jaxpr,
    Linear,
    Literal,
    MappedAxis,
    Primitive,
    Var,
    acts,
    without_effects,
)
from functrans.primitives.derive import provide
from functrans.transforms.batching import batch_jaxpr
from functrans.transforms.jvp import jvp_jaxpr
from functrans.transforms.partial_eval import partial_eval_jaxpr
from functrans.transforms.series import Curve
from functrans.transforms.taylor import Coefficients, orders_of, packed, taylor_jaxpr, unpacked
from functrans.transforms.transpose import transpose_jaxpr

Policy = Callable[..., bool]
"""(primitive, *avals, **params) -> may this equation's results be kept?"""


# -- barrier: the identity that nothing looks through ------------------------------------------


def barrier_batch(
    axis: MappedAxis, operands: list[Any], dims: list[int | None]
) -> tuple[list[Any], list[int | None]]:
    return bind(barrier_p, *operands), list(dims)


def barrier_jvp(primals: list[Any], tangents: list[Any]) -> tuple[list[Any], list[Any]]:
    live = [t for t in tangents if t is not None]
    moved = iter(bind(barrier_p, *live))
    return bind(barrier_p, *primals), [None if t is None else next(moved) for t in tangents]


barrier_p = Primitive(
    name="barrier",
    abstract_eval=lambda *avals: list(avals),
    impl=lambda *xs: list(xs),
    jvp=barrier_jvp,
    transpose=lambda cts, *operands: cts,
    batch=barrier_batch,
    opaque=True,
)


# -- checkpoint --------------------------------------------------------------------------------


def checkpoint_jvp(
    primals: list[Any], tangents: list[Any], *, jaxpr: Jaxpr, policy: Policy | None
) -> tuple[list[Any], list[Any]]:
    nonzero = tuple(t is not None for t in tangents)
    pushed, out_nonzero = jvp_jaxpr(jaxpr, nonzero)
    given = [t for t in tangents if t is not None]
    results = bind(checkpoint_p, *primals, *given, jaxpr=pushed, policy=policy)
    outs, dots = results[: len(out_nonzero)], iter(results[len(out_nonzero) :])
    return outs, [next(dots) if flag else None for flag in out_nonzero]


def checkpoint_transpose(
    cts: list[Any], *operands: Any, jaxpr: Jaxpr, policy: Policy | None
) -> list[Any]:
    """A checkpoint of the backward pass, which computes what it needs again."""
    linear = tuple(isinstance(o, Linear) for o in operands)
    others = [o for o in operands if not isinstance(o, Linear)]
    turned, nonzero = transpose_jaxpr(jaxpr, linear, (True,) * len(cts))
    results = iter(bind(checkpoint_p, *others, *cts, jaxpr=turned, policy=policy))
    flags = iter(nonzero)
    return [next(results) if flag and next(flags) else None for flag in linear]


def checkpoint_batch(
    axis: MappedAxis,
    operands: list[Any],
    dims: list[int | None],
    *,
    jaxpr: Jaxpr,
    policy: Policy | None,
) -> tuple[list[Any], list[int | None]]:
    batched, out_dims = batch_jaxpr(jaxpr, axis, tuple(dims))
    return bind(checkpoint_p, *operands, jaxpr=batched, policy=policy), list(out_dims)


def checkpoint_taylor(
    curve: Curve, coefficients: list[Coefficients], *, jaxpr: Jaxpr, policy: Policy | None
) -> list[Coefficients]:
    """A checkpoint of the Taylor jaxpr."""
    program, orders = taylor_jaxpr(jaxpr, curve, orders_of(coefficients))
    outs = bind(checkpoint_p, *packed(coefficients), jaxpr=program, policy=policy)
    return unpacked(outs, orders, curve)


def checkpoint_partial_eval(eqn: Eqn, unknown: tuple[bool, ...]) -> tuple[list[Eqn], list[Eqn]]:
    """Known outputs are computed now; what waits gets the inputs, and what the policy keeps."""
    jaxpr: Jaxpr = eqn.params["jaxpr"]
    policy: Policy | None = eqn.params["policy"]
    split = partial_eval_jaxpr(jaxpr, unknown)
    known_in = [a for a, flag in zip(eqn.inputs, unknown, strict=True) if not flag]
    pairs = list(zip(eqn.outputs, split.out_unknown, strict=True))
    known_out = [v for v, flag in pairs if not flag]
    unknown_out = [v for v, flag in pairs if flag]
    kept = _kept_by(policy, split.known)
    saved = [Var(v.aval) for v in kept]
    num_known = len(split.known.outvars) - split.num_residuals
    forward = Jaxpr(split.known.invars, split.known.eqns, [*split.known.outvars[:num_known], *kept])
    later_jaxpr = _recomputing(jaxpr, kept, split.out_unknown)
    params = {**eqn.params, "jaxpr": forward}
    now = Eqn(checkpoint_p, known_in, [*known_out, *saved], params, eqn.source)
    later = Eqn(
        checkpoint_p,
        [*saved, *eqn.inputs],
        unknown_out,
        {**eqn.params, "jaxpr": later_jaxpr},
        eqn.source,
    )
    return [now], [later]


def _kept_by(policy: Policy | None, known: Jaxpr) -> list[Var]:
    """What is not computed again: what the policy says, and results of effects."""
    return [
        v
        for eqn in known.eqns
        if acts(eqn)
        or (
            policy is not None
            and policy(eqn.primitive, *[a.aval for a in eqn.inputs], **eqn.params)
        )
        for v in eqn.outputs
    ]


def _recomputing(jaxpr: Jaxpr, kept: list[Var], out_unknown: tuple[bool, ...]) -> Jaxpr:
    """(kept values, all inputs) -> unknown outputs, from the kept values where there are any."""
    given = set(kept)
    eqns = [e for e in jaxpr.eqns if not given.issuperset(e.outputs) or not e.outputs]
    outs = [a for a, flag in zip(jaxpr.outvars, out_unknown, strict=True) if flag]
    for eqn in eqns:
        if acts(eqn):
            raise would_act_twice(
                eqn.primitive.name, eqn.source, "checkpoint computes it again for the derivative"
            )
    return without_effects(Jaxpr([*kept, *jaxpr.invars], _without_dead(eqns, outs), outs))


def _without_dead(eqns: list[Eqn], outs: list[Any]) -> list[Eqn]:
    """Drop what no output needs; effects took place when the known part ran."""
    needed = {a for a in outs if not isinstance(a, Literal)}
    kept: list[Eqn] = []
    for eqn in reversed(eqns):
        if any(v in needed for v in eqn.outputs):
            kept.append(eqn)
            needed.update(a for a in eqn.inputs if not isinstance(a, Literal))
    return kept[::-1]


def checkpoint_abstract_eval(*avals: Aval, jaxpr: Jaxpr, policy: Any) -> list[Aval]:
    return jaxpr.out_avals


def checkpoint_effects(*, jaxpr: Jaxpr, policy: Any) -> Effect:
    return jaxpr.effect


checkpoint_p = provide(
    Primitive(
        name="checkpoint",
        abstract_eval=checkpoint_abstract_eval,
        impl=lambda *xs, jaxpr, policy: eval_jaxpr(jaxpr, xs),
        jvp=checkpoint_jvp,
        transpose=checkpoint_transpose,
        batch=checkpoint_batch,
        partial_eval=checkpoint_partial_eval,
        taylor=checkpoint_taylor,
        effects=checkpoint_effects,
        stands_for=lambda *, jaxpr, **params: jaxpr,
        cheap=False,
        opaque=True,
    )
)


# -- policies: what a checkpoint may keep ------------------------------------------------------


def everything_saveable(primitive: Primitive, *avals: Aval, **params: Any) -> bool:
    """Keep every result: as without checkpoint."""
    return True


def nothing_saveable(primitive: Primitive, *avals: Aval, **params: Any) -> bool:
    """Keep nothing but the inputs (the default)."""
    return False


def dots_saveable(primitive: Primitive, *avals: Aval, **params: Any) -> bool:
    """Keep the results of matrix products and convolutions, compute the rest again."""
    return primitive.name in ("dot_general", "conv")


def dots_with_no_batch_dims_saveable(primitive: Primitive, *avals: Aval, **params: Any) -> bool:
    """Keep the results of matrix products without batch dimensions."""
    return primitive.name == "dot_general" and params["batch"] == ((), ())
