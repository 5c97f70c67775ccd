"""Functions with derivative rules of their own: the primitives that hold the staged rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from functrans.bind import bind, eval_jaxpr
from functrans.ir import Aval, Effect, Jaxpr, Linear, MappedAxis, Primitive, aval_of, is_inexact
from functrans.primitives.derive import full, instantiate, provide
from functrans.primitives.structural import reduce_sum_p
from functrans.recording import stage_walk
from functrans.transforms.affine import require_linear
from functrans.transforms.batching import batch_jaxpr, move_to
from functrans.transforms.cache import derived
from functrans.transforms.jvp import eval_jvp
from functrans.transforms.transpose import eval_transpose, transpose_jaxpr


class Rule:
    """A user's rule as a jaxpr, staged now or, where a rule calls its own function, when needed.

    Without the delay such a rule would be staged for ever: each order of derivative needs one
    more level of it.
    """

    __slots__ = ("_build", "_jaxpr")

    def __init__(self, build: Callable[[], Jaxpr]) -> None:
        self._build = build
        self._jaxpr: Jaxpr | None = None

    @classmethod
    def staged(cls, jaxpr: Jaxpr) -> Rule:
        """A rule that is staged already; the same for the same program."""
        rule = jaxpr.cache.get("rule")
        if rule is None:
            rule = jaxpr.cache["rule"] = cls(lambda: jaxpr)
        return rule

    @property
    def jaxpr(self) -> Jaxpr:
        if self._jaxpr is None:
            self._jaxpr = self._build()
        return self._jaxpr

    def __str__(self) -> str:
        return "..." if self._jaxpr is None else str(self._jaxpr)


# -- custom_jvp_call: operands are constants first, then the arguments ---------------------------


def custom_jvp_call_jvp(
    primals: list[Any], tangents: list[Any], *, jaxpr: Jaxpr, rule: Rule, num_consts: int
) -> tuple[list[Any], list[Any]]:
    """The user's rule on the primals and on a tangent for each inexact argument."""
    dots = differentiable_tangents(primals, tangents, num_consts)
    results = eval_jaxpr(rule.jaxpr, [*primals, *dots])
    return split_tangents(results, jaxpr.out_avals)


def differentiable_tangents(primals: list[Any], tangents: list[Any], num_consts: int) -> list[Any]:
    """A tangent, zeros where it is a symbolic zero, for each inexact argument."""
    pairs = list(zip(primals, tangents, strict=True))[num_consts:]
    return [instantiate(t, p) for p, t in pairs if is_inexact(aval_of(p).dtype)]


def split_tangents(results: list[Any], avals: list[Aval]) -> tuple[list[Any], list[Any]]:
    """Outputs, then one tangent for each inexact output, as outputs and tangents or None."""
    outs, dots = results[: len(avals)], iter(results[len(avals) :])
    return outs, [next(dots) if is_inexact(a.dtype) else None for a in avals]


def custom_jvp_call_transpose(
    cts: list[Any], *operands: Any, jaxpr: Jaxpr, rule: Rule, num_consts: int
) -> list[Any]:
    """The transpose of the function itself, where it is linear."""
    return transposed_in_place(jaxpr, operands, cts)


def transposed_in_place(jaxpr: Jaxpr, operands: tuple[Any, ...], cts: list[Any]) -> list[Any]:
    results = iter(eval_transpose(jaxpr, operands, cts))
    return [next(results) if isinstance(o, Linear) else None for o in operands]


def custom_jvp_call_batch(
    axis: MappedAxis,
    operands: list[Any],
    dims: list[int | None],
    *,
    jaxpr: Jaxpr,
    rule: Rule,
    num_consts: int,
) -> tuple[list[Any], list[int | None]]:
    front = (True,) * len(jaxpr.outvars)
    batched, _ = batch_jaxpr(jaxpr, axis, tuple(dims), front)
    dot_dims = [
        d
        for a, d in list(zip(jaxpr.in_avals, dims, strict=True))[num_consts:]
        if is_inexact(a.dtype)
    ]

    def build() -> Jaxpr:
        all_front = (True,) * len(rule.jaxpr.outvars)
        return batch_jaxpr(rule.jaxpr, axis, (*dims, *dot_dims), all_front)[0]

    outs = bind(
        custom_jvp_call_p, *operands, jaxpr=batched, rule=Rule(build), num_consts=num_consts
    )
    return outs, [0] * len(outs)


def _out_avals(*avals: Aval, jaxpr: Jaxpr, **params: Any) -> list[Aval]:
    return jaxpr.out_avals


def _evaluated(*xs: Any, jaxpr: Jaxpr, **params: Any) -> list[Any]:
    return eval_jaxpr(jaxpr, xs)


def _effect(*, jaxpr: Jaxpr, **params: Any) -> Effect:
    return jaxpr.effect


custom_jvp_call_p = provide(
    Primitive(
        name="custom_jvp_call",
        abstract_eval=_out_avals,
        impl=_evaluated,
        jvp=custom_jvp_call_jvp,
        transpose=custom_jvp_call_transpose,
        batch=custom_jvp_call_batch,
        effects=_effect,
        stands_for=lambda *, jaxpr, **params: jaxpr,
        cheap=False,
    )
)


# -- custom_vjp_call -----------------------------------------------------------------------------


def custom_vjp_call_jvp(
    primals: list[Any],
    tangents: list[Any],
    *,
    jaxpr: Jaxpr,
    fwd: Rule,
    bwd: Rule,
    num_consts: int,
) -> tuple[list[Any], list[Any]]:
    """fwd gives the outputs and residuals; the tangent is linear, with bwd as its transpose."""
    num_outs = len(jaxpr.outvars)
    results = eval_jaxpr(fwd.jaxpr, primals)
    outs, residuals = results[:num_outs], results[num_outs:]
    dots = differentiable_tangents(primals, tangents, num_consts)
    moved = bind(custom_tangent_p, *residuals, *dots, bwd=bwd.jaxpr, num_residuals=len(residuals))
    return split_tangents([*outs, *moved], jaxpr.out_avals)


def custom_vjp_call_batch(
    axis: MappedAxis,
    operands: list[Any],
    dims: list[int | None],
    *,
    jaxpr: Jaxpr,
    fwd: Rule,
    bwd: Rule,
    num_consts: int,
) -> tuple[list[Any], list[int | None]]:
    num_outs = len(jaxpr.outvars)
    mapped = [d is not None for d in dims]
    # bwd gives cotangents with the mapped axis first: so must the operands have it.
    front = tuple(0 if m else None for m in mapped)
    pairs = zip(operands, dims, strict=True)
    operands = [x if d is None else move_to(x, axis, d, 0) for x, d in pairs]
    batched, _ = batch_jaxpr(jaxpr, axis, front, (True,) * num_outs)

    def build_fwd() -> Jaxpr:
        return batch_jaxpr(fwd.jaxpr, axis, front, (True,) * len(fwd.jaxpr.outvars))[0]

    def build_bwd() -> Jaxpr:
        bwd_dims = (0,) * len(bwd.jaxpr.invars)
        return _summing_unmapped(bwd.jaxpr, axis, bwd_dims, mapped, jaxpr, num_consts)

    outs = bind(
        custom_vjp_call_p,
        *operands,
        jaxpr=batched,
        fwd=Rule(build_fwd),
        bwd=Rule(build_bwd),
        num_consts=num_consts,
    )
    return outs, [0] * num_outs


def _summing_unmapped(
    bwd: Jaxpr,
    axis: MappedAxis,
    dims: tuple[int, ...],
    mapped: list[bool],
    jaxpr: Jaxpr,
    num_consts: int,
) -> Jaxpr:
    """The batched bwd; an argument that all members share gets the sum of their cotangents."""
    from_args = [
        m
        for m, a in list(zip(mapped, jaxpr.in_avals, strict=True))[num_consts:]
        if is_inexact(a.dtype)
    ]
    batched, _ = batch_jaxpr(bwd, axis, dims, (True,) * len(bwd.outvars))
    if not all(from_args):
        batched = sum_outputs(batched, tuple(not m for m in from_args))
    return _capturing(batched, bwd.num_consts)


def _capturing(jaxpr: Jaxpr, count: int) -> Jaxpr:
    """The jaxpr whose first inputs stand for captured arrays."""
    return jaxpr if not count else Jaxpr(jaxpr.invars, jaxpr.eqns, jaxpr.outvars, count)


def sum_outputs(jaxpr: Jaxpr, chosen: tuple[bool, ...]) -> Jaxpr:
    """The jaxpr with the chosen outputs summed over their first axis."""

    def walk(*args: Any) -> list[Any]:
        outs = eval_jaxpr(jaxpr, args)
        return [
            bind(reduce_sum_p, o, axes=(0,))[0] if flag else o
            for o, flag in zip(outs, chosen, strict=True)
        ]

    return stage_walk(walk, jaxpr.in_avals, "vmap")


custom_vjp_call_p = provide(
    Primitive(
        name="custom_vjp_call",
        abstract_eval=_out_avals,
        impl=_evaluated,
        jvp=custom_vjp_call_jvp,
        transpose=lambda cts, *operands, jaxpr, **params: transposed_in_place(jaxpr, operands, cts),
        batch=custom_vjp_call_batch,
        effects=_effect,
        stands_for=lambda *, jaxpr, **params: jaxpr,
        cheap=False,
    )
)


# -- custom_tangent: linear in the tangents, and bwd is its transpose ----------------------------


@derived
def forward_of(bwd: Jaxpr, num_residuals: int) -> Jaxpr:
    """(residuals, tangents) -> output tangents, by transposing bwd in its cotangents."""
    linear = _in_cotangents(bwd, num_residuals)
    require_linear(bwd, linear, BWD)
    forward, nonzero = transpose_jaxpr(bwd, linear, (True,) * len(bwd.outvars))
    if all(nonzero):
        return forward
    avals = bwd.in_avals[num_residuals:]

    def walk(*args: Any) -> list[Any]:
        found = iter(eval_jaxpr(forward, args))
        return [next(found) if f else full(0, a) for a, f in zip(avals, nonzero, strict=True)]

    return stage_walk(walk, forward.in_avals, "transpose")


BWD = "the bwd of a custom_vjp, which forward mode transposes,"


def _in_cotangents(bwd: Jaxpr, num_residuals: int) -> tuple[bool, ...]:
    return (False,) * num_residuals + (True,) * (len(bwd.invars) - num_residuals)


def custom_tangent_abstract_eval(*avals: Aval, bwd: Jaxpr, num_residuals: int) -> list[Aval]:
    return bwd.in_avals[num_residuals:]


def custom_tangent_impl(*xs: Any, bwd: Jaxpr, num_residuals: int) -> list[Any]:
    forward = forward_of(bwd, num_residuals)
    require_linear(bwd, _in_cotangents(bwd, num_residuals), BWD)(xs[:num_residuals])
    return eval_jaxpr(forward, xs)


def custom_tangent_jvp(
    primals: list[Any], tangents: list[Any], *, bwd: Jaxpr, num_residuals: int
) -> tuple[list[Any], list[Any]]:
    return eval_jvp(forward_of(bwd, num_residuals), primals, tangents)


def custom_tangent_transpose(
    cts: list[Any], *operands: Any, bwd: Jaxpr, num_residuals: int
) -> list[Any]:
    """The user's bwd."""
    if any(isinstance(o, Linear) for o in operands[:num_residuals]):
        return transposed_in_place(forward_of(bwd, num_residuals), operands, cts)
    bars = eval_jaxpr(bwd, [*operands[:num_residuals], *cts])
    wanted = operands[num_residuals:]
    kept = [b if isinstance(o, Linear) else None for b, o in zip(bars, wanted, strict=True)]
    return [None] * num_residuals + kept


def custom_tangent_batch(
    axis: MappedAxis,
    operands: list[Any],
    dims: list[int | None],
    *,
    bwd: Jaxpr,
    num_residuals: int,
) -> tuple[list[Any], list[int | None]]:
    num_cts = len(bwd.invars) - num_residuals
    bwd_dims = (*dims[:num_residuals], *[0] * num_cts)
    batched, _ = batch_jaxpr(bwd, axis, bwd_dims, (True,) * len(bwd.outvars))
    batched = _capturing(batched, bwd.num_consts)
    pairs = zip(operands[num_residuals:], dims[num_residuals:], strict=True)
    tangents = [move_to(x, axis, d, 0) for x, d in pairs]
    outs = bind(
        custom_tangent_p,
        *operands[:num_residuals],
        *tangents,
        bwd=batched,
        num_residuals=num_residuals,
    )
    return outs, [0] * len(outs)


custom_tangent_p = provide(
    Primitive(
        name="custom_tangent",
        abstract_eval=custom_tangent_abstract_eval,
        impl=custom_tangent_impl,
        jvp=custom_tangent_jvp,
        transpose=custom_tangent_transpose,
        batch=custom_tangent_batch,
        stands_for=lambda *, bwd, num_residuals, **params: forward_of(bwd, num_residuals),
        cheap=False,
    )
)
