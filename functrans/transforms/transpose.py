"""Reverse mode: run a linear program backwards, adding up cotangents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from functrans.bind import bind, bound_at
from functrans.errors import NonLinearError, where
from functrans.ir import Eqn, Jaxpr, Linear, Literal, Var, values_of
from functrans.primitives.derive import add_all, full
from functrans.recording import stage_walk
from functrans.transforms.cache import derived
from functrans.transforms.partial_eval import split_eqn
from functrans.transforms.simplify import simplify

Mask = tuple[bool, ...]


def eval_transpose(jaxpr: Jaxpr, args: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
    """transpose : (a -o b) -> (T b -o T a), bound under the current interpreter.

    `args` holds a value for each input, or `Linear(aval)` for those to transpose with respect
    to; the result has one cotangent for each of the latter, None where it is zero.
    """
    env: dict[Var, Any] = {}
    linear: set[Var] = set()
    for var, arg in zip(jaxpr.invars, args, strict=True):
        if isinstance(arg, Linear):
            linear.add(var)
        else:
            env[var] = arg
    backward = _run_forward(jaxpr, env, linear)
    bars: dict[Var, Any] = {}
    for atom, bar in zip(jaxpr.outvars, cotangents, strict=True):
        if not isinstance(atom, Literal) and atom in linear:
            bars[atom] = add_all([bars.get(atom), bar])
    for eqn in reversed(backward):
        _transpose_eqn(eqn, env, linear, bars)
    return [bars.get(v) for v, a in zip(jaxpr.invars, args, strict=True) if isinstance(a, Linear)]


def _run_forward(jaxpr: Jaxpr, env: dict[Var, Any], linear: set[Var]) -> list[Eqn]:
    """Bind what does not depend on linear inputs; return the equations that do."""
    rest: list[Eqn] = []
    for eqn in jaxpr.eqns:
        now, later = _parted(eqn, linear)
        for known in now:
            ins = values_of(known.inputs, env)
            with bound_at(known.source):
                outs = bind(known.primitive, *ins, **known.params)
            env.update(zip(known.outputs, outs, strict=True))
        for waiting in later:
            linear.update(waiting.outputs)
        rest += later
    return rest


def _parted(eqn: Eqn, linear: set[Var]) -> tuple[list[Eqn], list[Eqn]]:
    """What of an equation is known, and what is linear: both, where it holds a jaxpr of both."""
    flags = tuple(a in linear for a in eqn.inputs)
    if not any(flags):
        return [eqn], []
    now, later = split_eqn(eqn, flags)
    mixed = any(v in eqn.outputs for known in now for v in known.outputs)
    return (now, later) if mixed else ([], [eqn])


def _transpose_eqn(eqn: Eqn, env: dict[Var, Any], linear: set[Var], bars: dict[Var, Any]) -> None:
    given = [bars.pop(v, None) for v in eqn.outputs]
    if all(bar is None for bar in given):
        return
    if eqn.primitive.transpose is None:
        raise _not_linear(eqn)
    operands = [
        a.value if isinstance(a, Literal) else Linear(a.aval) if a in linear else env[a]
        for a in eqn.inputs
    ]
    with bound_at(eqn.source):
        full_bars = [
            full(0, v.aval) if bar is None else bar
            for bar, v in zip(given, eqn.outputs, strict=True)
        ]
        try:
            results = eqn.primitive.transpose(full_bars, *operands, **eqn.params)
        except NonLinearError:
            raise _not_linear(eqn) from None
        for atom, bar in zip(eqn.inputs, results, strict=True):
            if bar is not None and not isinstance(atom, Literal) and atom in linear:
                bars[atom] = add_all([bars.get(atom), bar])


def _not_linear(eqn: Eqn) -> NonLinearError:
    return NonLinearError(
        f"{eqn.primitive.name} is not linear in the values being transposed (in "
        f"{where(eqn.source)}). Functions given to linear_transpose, tangents in custom_jvp rules "
        "and, in forward mode, the bwd of a custom_vjp must be linear. Where a bwd is not (it "
        "clips, say), give the derivative by custom_jvp (defjvp) instead."
    )


@derived
def transpose_jaxpr(jaxpr: Jaxpr, linear: Mask, nonzero: Mask) -> tuple[Jaxpr, Mask]:
    """`eval_transpose` staged: (other inputs, cotangents not zero) -> cotangents not zero.

    `linear` marks the inputs to transpose with respect to, `nonzero` the outputs that have a
    cotangent; the mask returned says which linear inputs get one.
    """
    out_nonzero: list[bool] = []
    fixed = [a for a, flag in zip(jaxpr.in_avals, linear, strict=True) if not flag]
    given = [a for a, flag in zip(jaxpr.out_avals, nonzero, strict=True) if flag]

    def walk(*values: Any) -> list[Any]:
        others, bars = iter(values[: len(fixed)]), iter(values[len(fixed) :])
        args = [
            Linear(aval) if flag else next(others)
            for aval, flag in zip(jaxpr.in_avals, linear, strict=True)
        ]
        results = eval_transpose(jaxpr, args, [next(bars) if f else None for f in nonzero])
        out_nonzero.extend(r is not None for r in results)
        return [r for r in results if r is not None]

    staged = stage_walk(walk, fixed + given, "transpose")
    return simplify(staged, collect=True), tuple(out_nonzero)
