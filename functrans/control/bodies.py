"""Bodies: what the rules of loops and branches do to the programs that these hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from functrans.errors import ShapeError
from functrans.ir import Atom, Aval, Eqn, Jaxpr, Literal, Var, prune, same_type
from functrans.primitives.structural import broadcast_p
from functrans.transforms.cache import derived

Mask = tuple[bool, ...]


def chosen(items: Iterable[Any], mask: Iterable[bool]) -> list[Any]:
    """The items where the mask holds."""
    return [x for x, flag in zip(items, mask, strict=True) if flag]


def others(items: Iterable[Any], mask: Iterable[bool]) -> list[Any]:
    """The items where the mask does not hold."""
    return [x for x, flag in zip(items, mask, strict=True) if not flag]


def spread(values: Iterable[Any], mask: Iterable[bool], fill: Any = None) -> list[Any]:
    """The values in the places where the mask holds, `fill` in the others."""
    given = iter(values)
    return [next(given) if flag else fill for flag in mask]


def either(a: Sequence[Any], b: Sequence[Any]) -> tuple[Any, ...]:
    """Where one of two masks holds; of sets, what is in one of the two."""
    return tuple(x | y for x, y in zip(a, b, strict=True))


def both(a: Sequence[bool], b: Sequence[bool]) -> Mask:
    """Where two masks hold."""
    return tuple(x and y for x, y in zip(a, b, strict=True))


def cut(items: Sequence[Any], *counts: int) -> list[list[Any]]:
    """The items in groups of the given sizes; what is left makes the last group."""
    groups: list[list[Any]] = []
    start = 0
    for count in counts:
        groups.append(list(items[start : start + count]))
        start += count
    return [*groups, list(items[start:])]


def grown(
    step: Callable[[tuple[Any, ...]], Sequence[Any]], start: Sequence[Any]
) -> tuple[Any, ...]:
    """The least mask that holds `start` and what `step` makes of it: what a carry comes to.

    A mask of sets works as well.
    """
    mask = tuple(start)
    while True:
        wider = either(mask, step(mask))
        if wider == mask:
            return mask
        mask = wider


Visit = Callable[[Jaxpr, list[Any]], Sequence[Any]]
Join = Callable[[Any, Any], Any]


def settled(
    visit: Visit, join: Join, jaxpr: Jaxpr, consts: list[Any], carry: list[Any], rest: list[Any]
) -> tuple[list[Any], list[Any]]:
    """What a property comes to in a carry and in what else a step gives; see Primitive.follow."""
    while True:
        after, more = cut(list(visit(jaxpr, [*consts, *carry, *rest])), len(carry))
        joined = [join(a, b) for a, b in zip(carry, after, strict=True)]
        if joined == carry:
            return carry, more
        carry = joined


def require_types(name: str, what: str, given: Sequence[Aval], wanted: Sequence[Aval]) -> None:
    """Raise ShapeError unless the types agree, weakness aside."""
    if len(given) != len(wanted) or not all(map(same_type, given, wanted)):
        words = [", ".join(map(str, avals)) for avals in (given, wanted)]
        raise ShapeError(f"{name}: {what} ({words[0]}) where ({words[1]}) is expected")


@derived
def arranged(
    jaxpr: Jaxpr, inputs: tuple[int, ...] | None = None, outputs: tuple[int, ...] | None = None
) -> Jaxpr:
    """The program with its inputs, its outputs or both in another order."""
    invars = jaxpr.invars if inputs is None else [jaxpr.invars[i] for i in inputs]
    outvars = jaxpr.outvars if outputs is None else [jaxpr.outvars[i] for i in outputs]
    made = Jaxpr(invars, jaxpr.eqns, outvars)
    made.simple = jaxpr.simple
    return made


@derived
def with_zeros(jaxpr: Jaxpr, present: Mask, avals: tuple[Aval, ...]) -> Jaxpr:
    """The program with a result for each of `avals`: its own where `present`, zeros elsewhere."""
    eqns = list(jaxpr.eqns)
    given = iter(jaxpr.outvars)
    outvars = [
        next(given) if flag else _zero(a, eqns) for a, flag in zip(avals, present, strict=True)
    ]
    return Jaxpr(jaxpr.invars, eqns, outvars)


def _zero(aval: Aval, eqns: list[Eqn]) -> Atom:
    zero = Literal(aval.dtype.type(0))
    if not aval.shape:
        return zero
    params = {"shape": aval.shape, "axes": tuple(range(aval.ndim))}
    eqns.append(Eqn(broadcast_p, [zero], [Var(aval.strengthen())], params))
    return eqns[-1].outputs[0]


def reads(jaxpr: Jaxpr) -> Mask:
    """Which inputs the program reads."""
    used = {a for eqn in jaxpr.eqns for a in eqn.inputs} | set(jaxpr.outvars)
    return tuple(v in used for v in jaxpr.invars)


@derived
def restricted(jaxpr: Jaxpr, wanted: Mask) -> Jaxpr:
    """The program with only some of its results, and what these and effects need."""
    outvars = chosen(jaxpr.outvars, wanted)
    return Jaxpr(jaxpr.invars, prune(jaxpr.eqns, outvars), outvars)


@derived
def without_inputs(jaxpr: Jaxpr, kept: Mask) -> Jaxpr:
    """The program less inputs that it does not read."""
    made = Jaxpr(chosen(jaxpr.invars, kept), jaxpr.eqns, jaxpr.outvars)
    made.simple = jaxpr.simple
    return made


def stacked(length: int, aval: Aval) -> Aval:
    """The type of `length` values, one behind the other."""
    return Aval((length, *aval.shape), aval.dtype)
