"""The call primitive: a jaxpr as one equation, with the engine that runs it travelling along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from functrans.bind import bind, eval_jaxpr, is_evaluating
from functrans.forcing import Hooks, provide_hooks
from functrans.ir import (
    Atom,
    Aval,
    Effect,
    Eqn,
    Inline,
    Jaxpr,
    Linear,
    MappedAxis,
    Primitive,
    Var,
    any_acts,
)
from functrans.primitives.derive import provide
from functrans.primitives.structural import stop_gradient_p
from functrans.transforms.cache import derived
from functrans.transforms.jvp import jvp_jaxpr
from functrans.transforms.partial_eval import partial_eval_jaxpr
from functrans.transforms.simplify import simplify
from functrans.transforms.transpose import transpose_jaxpr

if TYPE_CHECKING:
    from functrans.transforms.series import Curve
    from functrans.transforms.taylor import Coefficients


class Engine(Protocol):
    """What compiles and runs a jaxpr."""

    def execute(self, jaxpr: Jaxpr, args: list[Any]) -> list[Any]:
        """The outputs of the jaxpr on NumPy arrays, freshly allocated."""
        ...


def call(jaxpr: Jaxpr, *args: Any, name: str, engine: Engine | Inline | None) -> list[Any]:
    """Bind a jaxpr as one equation.

    What acts on the world and has results is bound by itself: only what does not may run again.
    """
    if not is_evaluating() and any_acts(jaxpr):
        return eval_jaxpr(jaxpr, args)
    return bind(call_p, *args, jaxpr=jaxpr, name=name, engine=engine)


def call_abstract_eval(*avals: Aval, jaxpr: Jaxpr, name: str, engine: Any) -> list[Aval]:
    return jaxpr.out_avals


def call_impl(*args: Any, jaxpr: Jaxpr, name: str, engine: Engine | Inline | None) -> list[Any]:
    if engine is None or isinstance(engine, Inline):
        return eval_jaxpr(jaxpr, args)
    return engine.execute(jaxpr, list(args))


def call_jvp(
    primals: list[Any], tangents: list[Any], *, jaxpr: Jaxpr, name: str, engine: Any
) -> tuple[list[Any], list[Any]]:
    """The call of the jvp's jaxpr."""
    nonzero = tuple(t is not None for t in tangents)
    pushed, out_nonzero = jvp_jaxpr(jaxpr, nonzero)
    given = [t for t in tangents if t is not None]
    results = call(pushed, *primals, *given, name=f"jvp({name})", engine=engine)
    outs, dots = results[: len(out_nonzero)], iter(results[len(out_nonzero) :])
    return outs, [next(dots) if flag else None for flag in out_nonzero]


def call_transpose(
    cts: list[Any], *operands: Any, jaxpr: Jaxpr, name: str, engine: Any
) -> list[Any]:
    """The call of the transposed jaxpr."""
    linear = tuple(isinstance(o, Linear) for o in operands)
    turned, out_nonzero = transpose_jaxpr(jaxpr, linear, (True,) * len(cts))
    others = [o for o in operands if not isinstance(o, Linear)]
    results = iter(call(turned, *others, *cts, name=f"transpose({name})", engine=engine))
    nonzero = iter(out_nonzero)
    return [next(results) if flag and next(nonzero) else None for flag in linear]


def call_batch(
    axis: MappedAxis,
    operands: list[Any],
    dims: list[int | None],
    *,
    jaxpr: Jaxpr,
    name: str,
    engine: Any,
) -> tuple[list[Any], list[int | None]]:
    """The call of the batched jaxpr."""
    from functrans.transforms.batching import batch_jaxpr

    batched, out_dims = batch_jaxpr(jaxpr, axis, tuple(dims))
    outs = call(batched, *operands, name=f"vmap({name})", engine=engine)
    return outs, list(out_dims)


def call_taylor(
    curve: Curve, coefficients: list[Coefficients], *, jaxpr: Jaxpr, name: str, engine: Any
) -> list[Coefficients]:
    """The call of the Taylor jaxpr."""
    from functrans.transforms.taylor import orders_of, packed, taylor_jaxpr, unpacked

    program, orders = taylor_jaxpr(jaxpr, curve, orders_of(coefficients))
    outs = call(program, *packed(coefficients), name=f"taylor({name})", engine=engine)
    return unpacked(outs, orders, curve)


class Parts(NamedTuple):
    """A program in two: `forward` of what is known, `waiting` of residuals and what is not.

    residuals : what waits for it, as atoms of `forward`: its inputs, its results and literals
    returned  : how many of the results of `forward` are residuals only
    """

    forward: Jaxpr
    waiting: Jaxpr
    out_unknown: tuple[bool, ...]
    residuals: list[Atom]
    returned: int


@derived
def parts_of(jaxpr: Jaxpr, unknown: tuple[bool, ...]) -> Parts:
    """The parts; a residual that is an operand or a result already is not returned once more."""
    split = partial_eval_jaxpr(jaxpr, unknown)
    known, waiting = simplify(split.known), simplify(split.waiting, collect=True)
    count = len(known.outvars) - split.num_residuals
    residuals = known.outvars[count:]
    there = {*known.invars, *known.outvars[:count]}
    returned = [a for a in dict.fromkeys(residuals) if isinstance(a, Var) and a not in there]
    forward = Jaxpr(known.invars, known.eqns, [*known.outvars[:count], *returned])
    forward.simple = known.simple
    return Parts(forward, waiting, split.out_unknown, residuals, len(returned))


def call_partial_eval(eqn: Eqn, unknown: tuple[bool, ...]) -> tuple[list[Eqn], list[Eqn]]:
    """One call for what is known, with residuals, and one for what waits."""
    parts = parts_of(eqn.params["jaxpr"], unknown)
    forward = parts.forward
    known_in = [a for a, flag in zip(eqn.inputs, unknown, strict=True) if not flag]
    unknown_in = [a for a, flag in zip(eqn.inputs, unknown, strict=True) if flag]
    pairs = list(zip(eqn.outputs, parts.out_unknown, strict=True))
    returned = forward.outvars[len(forward.outvars) - parts.returned :]
    outs = [v for v, flag in pairs if not flag] + [Var(a.aval) for a in returned]
    stands_for: dict[Atom, Atom] = dict(zip(forward.invars, known_in, strict=True))
    stands_for.update(zip(forward.outvars, outs, strict=True))
    given = [*[stands_for.get(a, a) for a in parts.residuals], *unknown_in]
    unknown_out = [v for v, flag in pairs if flag]
    now = Eqn(call_p, known_in, outs, {**eqn.params, "jaxpr": forward}, eqn.source)
    later = Eqn(call_p, given, unknown_out, {**eqn.params, "jaxpr": parts.waiting}, eqn.source)
    return [now], [later]


def call_effects(*, jaxpr: Jaxpr, name: str, engine: Any) -> Effect:
    return jaxpr.effect


call_p = provide(
    Primitive(
        name="call",
        abstract_eval=call_abstract_eval,
        impl=call_impl,
        jvp=call_jvp,
        transpose=call_transpose,
        batch=call_batch,
        partial_eval=call_partial_eval,
        taylor=call_taylor,
        effects=call_effects,
        stands_for=lambda *, jaxpr, **params: jaxpr,
        cheap=False,
    )
)

provide_hooks(Hooks(call=call_p, stop_gradient=stop_gradient_p))
