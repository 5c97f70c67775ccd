"""The while primitive: a body runs as long as a condition on its carry holds.

    while[cond body num_cond_consts num_body_consts lanes dims] cond_const* body_const* carry*
        ->  carry*

    cond : cond_const* carry*  ->  bool[]
    body : body_const* carry*  ->  carry*

With `lanes=None` this is one loop. With `lanes=n` it is n loops, independent of each other: the
i-th operand has a first axis of length n where `dims[i]` is 0, and is the same for all lanes where
it is None; every result has that axis. A lane stops when its own condition fails.

Its rules are those of a sweep, which this is without notes and passes.
"""

from __future__ import annotations

from typing import Any

from functrans.control import (
    curves,
    stepping,
    sweep_batch,
    sweep_forward,
    sweep_reverse,
    trajectories,
)
from functrans.control.sweep import sweep_p
from functrans.ir import Effect, Jaxpr, MappedAxis, Primitive
from functrans.primitives.derive import provide
from functrans.transforms.series import Curve
from functrans.transforms.taylor import Coefficients


def _as_sweep(count: int, cond: Jaxpr, body: Jaxpr, **params: Any) -> dict[str, Any]:
    """The params of a while with `count` operands, as those of a sweep."""
    num_carry = count - params["num_cond_consts"] - params["num_body_consts"]
    return {"cond": cond, "body": body, "num_carry": num_carry, "passes": (), **params}


def while_abstract_eval(*avals: Any, **params: Any) -> list[Any]:
    return stepping.abstract_eval(*avals, **_as_sweep(len(avals), **params))


def while_impl(*operands: Any, **params: Any) -> list[Any]:
    return stepping.impl(*operands, **_as_sweep(len(operands), **params))


def while_jvp(
    primals: list[Any], tangents: list[Any], **params: Any
) -> tuple[list[Any], list[Any]]:
    return sweep_forward.jvp(primals, tangents, **_as_sweep(len(primals), **params))


def while_transpose(cts: list[Any], *operands: Any, **params: Any) -> list[Any]:
    return sweep_reverse.transpose(cts, *operands, **_as_sweep(len(operands), **params))


def while_batch(
    axis: MappedAxis, operands: list[Any], dims: list[int | None], /, **params: Any
) -> tuple[list[Any], list[int | None]]:
    return sweep_batch.batch(axis, operands, dims, **_as_sweep(len(operands), **params))


def while_taylor(
    curve: Curve, coefficients: list[Coefficients], **params: Any
) -> list[Coefficients]:
    return curves.taylor(curve, coefficients, **_as_sweep(len(coefficients), **params))


def while_follow(visit: Any, join: Any, values: list[Any], **params: Any) -> list[Any]:
    return trajectories.follow(visit, join, values, **_as_sweep(len(values), **params))


def while_effects(*, cond: Jaxpr, body: Jaxpr, **params: Any) -> Effect:
    return Effect.strongest((cond.effect, body.effect))


while_p = provide(
    Primitive(
        name="while",
        abstract_eval=while_abstract_eval,
        impl=while_impl,
        jvp=while_jvp,
        transpose=while_transpose,
        batch=while_batch,
        partial_eval=sweep_p.partial_eval,
        taylor=while_taylor,
        follow=while_follow,
        narrow=sweep_p.narrow,
        effects=while_effects,
        cheap=False,
    )
)
