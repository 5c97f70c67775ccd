"""Interning: structurally equal jaxprs are one object, so that what is derived of one is shared."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from functrans.ir.jaxpr import Atom, Jaxpr, Literal, Var

LIMIT = 4096
"""How many jaxprs are remembered; the least recently met go."""

EQUATIONS = 30_000
"""How many equations these may have in all. With what is derived of it, one takes some 6 kB."""


class Structure:
    """What `structure` answers, hashed once."""

    __slots__ = ("hashed", "parts")

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self.parts = parts
        self.hashed = hash(parts)

    def __hash__(self) -> int:
        return self.hashed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self.parts == other.parts


_known: OrderedDict[Structure, Jaxpr] = OrderedDict()
_equations = [0]
_lock = threading.Lock()


def intern(jaxpr: Jaxpr) -> Jaxpr:
    """The first jaxpr met that has the same equations on the same lines, or this one."""
    try:
        key = Structure(structure(jaxpr))
    except TypeError:
        return jaxpr
    with _lock:
        found = _known.get(key)
        if found is not None:
            _known.move_to_end(key)
            return found
        _known[key] = jaxpr
        _equations[0] += len(jaxpr.eqns)
        while len(_known) > LIMIT or (_equations[0] > EQUATIONS and len(_known) > 1):
            _, dropped = _known.popitem(last=False)
            _equations[0] -= len(dropped.eqns)
    return jaxpr


def clear() -> None:
    """Forget every jaxpr met."""
    with _lock:
        _known.clear()
        _equations[0] = 0


def structure(jaxpr: Jaxpr) -> tuple[Any, ...]:
    """The program with numbers for variables: equal for equal programs, identities aside.

    Raises TypeError where a param or literal cannot be hashed.
    """
    numbers: dict[Var, int] = {v: i for i, v in enumerate(jaxpr.invars)}
    parts: list[Any] = [jaxpr.num_consts, tuple([v.aval for v in jaxpr.invars])]
    for eqn in jaxpr.eqns:
        parts.append(eqn.primitive)
        parts += [a.key() if type(a) is Literal else numbers[a] for a in eqn.inputs]  # type: ignore[index]
        if eqn.params:
            parts.append(tuple(sorted(eqn.params.items())))
        for var in eqn.outputs:
            numbers[var] = len(numbers)
            parts.append(var.aval)
        parts.append(eqn.source)
    parts.append(tuple([_atom(a, numbers) for a in jaxpr.outvars]))
    return tuple(parts)


def _atom(atom: Atom, numbers: dict[Var, int]) -> Any:
    return atom.key() if isinstance(atom, Literal) else numbers[atom]
