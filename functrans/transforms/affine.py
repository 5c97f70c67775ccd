"""Tells affine programs from linear ones: what is not linear and is added to what is must be zero.

A transpose drops such a part silently, so that programs which users call linear are looked at
here first. What comes from literals is known; what comes from captured arrays may be zero, which
only a run at zero can tell.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from functrans.bind import eval_jaxpr
from functrans.errors import NonLinearError, where
from functrans.ir import Aval, Eqn, Jaxpr, LinearIn, Primitive, Reduction, Var
from functrans.primitives.elementwise import add_p, div_p, neg_p, sub_p
from functrans.primitives.indexing import gather_p
from functrans.primitives.structural import convert_p
from functrans.transforms.cache import derived


class Part(enum.IntEnum):
    """What a value is made of; of a sum, the greatest."""

    ZERO = 0
    CAPTURED = 1
    OTHER = 2
    LINEAR = 3


class Addition(NamedTuple):
    """A value that may not be zero meets a linear one at a place, or is a result by itself."""

    part: Part
    place: str


ADDITIVE = (add_p, sub_p, neg_p, convert_p)


@derived
def additions(jaxpr: Jaxpr, parts: tuple[Part, ...]) -> tuple[tuple[Part, ...], list[Addition]]:
    """What the outputs are made of, given the inputs', and what is added to what is linear."""
    env = dict(zip(jaxpr.invars, parts, strict=True))
    found: list[Addition] = []

    def read(atom: Any) -> Part:
        if isinstance(atom, Var):
            return env[atom]
        return Part.OTHER if np.any(atom.value) else Part.ZERO

    for eqn in jaxpr.eqns:
        ins = tuple(read(a) for a in eqn.inputs)
        outs, more = _inside(eqn, ins) or _of_equation(eqn, ins)
        found += more
        env.update(zip(eqn.outputs, outs, strict=True))
    return tuple(read(a) for a in jaxpr.outvars), found


Found = tuple[Sequence[Part], list[Addition]]


def _inside(eqn: Eqn, ins: tuple[Part, ...]) -> Found | None:
    """The parts of an equation that holds jaxprs: a call, a branch or a loop."""
    if eqn.primitive.follow is not None:
        found: list[Addition] = []

        def visit(jaxpr: Jaxpr, parts: list[Part]) -> Sequence[Part]:
            outs, more = additions(jaxpr, tuple(parts))
            found.extend(more)
            return outs

        return eqn.primitive.follow(visit, max, list(ins), **eqn.params), found
    inner = eqn.params.get("jaxpr")
    if isinstance(inner, Jaxpr) and len(inner.invars) == len(ins):
        return additions(inner, ins)
    return None


def _of_equation(eqn: Eqn, ins: tuple[Part, ...]) -> Found:
    slots = _summands(eqn.primitive, len(ins))
    terms = [ins[i] for i in slots]
    if Part.LINEAR in ins:
        rest = max((t for t in terms if t is not Part.LINEAR), default=Part.ZERO)
        met = [Addition(rest, f"{eqn.primitive.name} in {where(eqn.source)}")] if rest else []
        return [Part.LINEAR] * len(eqn.outputs), met
    if terms:
        known = max(terms)
    elif Part.ZERO in ins[: _factors(eqn.primitive)]:
        known = Part.ZERO
    else:
        known = Part.CAPTURED if Part.CAPTURED in ins else Part.OTHER
    return [known] * len(eqn.outputs), []


def _summands(primitive: Primitive, count: int) -> Sequence[int]:
    """The operands in which a primitive is jointly linear."""
    match primitive.property:
        case LinearIn(operands=operands):
            return range(count) if operands is None else operands
        case Reduction(monoid="add"):
            return range(count)
        case _:
            return range(count) if primitive in ADDITIVE else ()


def _factors(primitive: Primitive) -> int:
    """How many operands, from the first on, make the result zero where they are zero."""
    if primitive.is_bilinear:
        return 2
    return int(primitive in (div_p, gather_p))


def require_linear(
    jaxpr: Jaxpr, linear: tuple[bool, ...], what: str
) -> Callable[[Sequence[Any]], None]:
    """Raise NonLinearError where a program is affine in its inputs marked `linear`.

    What is returned takes the other inputs and does the rest, where captured arrays decide: it
    runs the program at zero. It must not be called while their values are not there.
    """
    parts = tuple(
        Part.LINEAR if flag else Part.CAPTURED if i < jaxpr.num_consts else Part.OTHER
        for i, flag in enumerate(linear)
    )
    outs, found = additions(jaxpr, parts)
    alone = [p for p in outs if p is not Part.LINEAR]
    met = [*found, *[Addition(p, "a result that no argument reaches") for p in alone if p]]
    for addition in met:
        if addition.part is Part.OTHER:
            raise _affine(what, addition.place)

    def at_zero(others: Sequence[Any]) -> None:
        if not met:
            return
        given = iter(others)
        pairs = zip(jaxpr.in_avals, linear, strict=True)
        results = eval_jaxpr(jaxpr, [_zeros(a) if flag else next(given) for a, flag in pairs])
        if any(np.any(np.asarray(y) != 0) for y in results):
            raise _affine(what, met[0].place)

    return at_zero


def _zeros(aval: Aval) -> Any:
    return np.zeros(aval.shape, aval.dtype)[()]


def _affine(what: str, place: str) -> NonLinearError:
    return NonLinearError(
        f"{what} is affine, not linear: it adds something that is not zero ({place}). Its "
        "transpose would silently leave that out. Take the part that is linear only."
    )
