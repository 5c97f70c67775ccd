"""The graph that fusion works on: equations, their results, and strided views of stored ones."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from functrans.extend import Atom, Eqn, Literal, UnsupportedError, Var
from jit.lowering.index import Loop, Point, of_loop
from jit.lowering.rules import INDEXED, REDUCTIONS, ROOTS, SCALARS
from jit.lowering.walk import Scout

VIEWS = frozenset({"broadcast", "reshape", "transpose", "slice", "reverse", "stop_gradient"})


class Graph:
    """The equations to be fused, who makes each variable, and why some must be stored."""

    def __init__(
        self,
        invars: Sequence[Var],
        eqns: Sequence[Eqn],
        outvars: Sequence[Var],
        kept: Mapping[Var, str] | None = None,
    ) -> None:
        self.invars = list(invars)
        self.eqns = list(eqns)
        self.outvars = list(outvars)
        self.kept = dict(kept or {})
        self.producers = {v: eqn for eqn in eqns for v in eqn.outputs}
        for eqn in eqns:
            if not any(eqn.primitive in t for t in (SCALARS, INDEXED, REDUCTIONS, ROOTS)):
                raise UnsupportedError(f"the native engine cannot compile {eqn.primitive.name}")

    @cached_property
    def equal_axes(self) -> Mapping[Var, frozenset[int]]:
        """The axes along which all elements of a variable are known to be equal."""
        found: dict[Var, frozenset[int]] = {}
        for eqn in self.eqns:
            for out in eqn.outputs:
                found[out] = equal_axes_of(eqn, out, found)
        return found


NONE_EQUAL: frozenset[int] = frozenset()


def equal_axes_of(eqn: Eqn, out: Var, known: Mapping[Var, frozenset[int]]) -> frozenset[int]:
    if eqn.primitive in SCALARS and any(type(a) is Var and not known.get(a) for a in eqn.inputs):
        return NONE_EQUAL
    every = frozenset(range(out.aval.ndim))
    first = eqn.inputs[0] if eqn.inputs else None
    below = known.get(first, frozenset()) if isinstance(first, Var) else None
    if eqn.primitive in SCALARS:
        each = [known.get(a, frozenset()) for a in eqn.inputs if isinstance(a, Var)]
        return every.intersection(*each)
    match eqn.primitive.name:
        case "broadcast":
            new = frozenset(eqn.params["axes"])
            own = [axis for axis in range(out.aval.ndim) if axis not in new]
            return every if below is None else new | {own[axis] for axis in below}
        case "reshape" if below is not None and first is not None:
            axes = [axis for axis, n in enumerate(first.aval.shape) if n > 1]
            moved = [axis for axis, n in enumerate(out.aval.shape) if n > 1]
            if [first.aval.shape[a] for a in axes] == [out.aval.shape[a] for a in moved]:
                return frozenset(b for a, b in zip(axes, moved, strict=True) if a in below)
            return every if below.issuperset(axes) else frozenset()
        case "transpose" if below is not None:
            return frozenset(k for k, axis in enumerate(eqn.params["perm"]) if axis in below)
        case _:
            return frozenset()


# -- strided views ----------------------------------------------------------------------------


class View(NamedTuple):
    """A variable as a strided window of a stored one: offset and strides count elements."""

    base: Var
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def view_base(graph: Graph, var: Var) -> Var:
    """The furthest variable that `var` is a strided view of; itself when it is none."""
    found = below = var
    while True:
        eqn = graph.producers.get(below)
        if eqn is None or eqn.primitive.name not in VIEWS or isinstance(eqn.inputs[0], Literal):
            return found
        below = eqn.inputs[0]
        if strided_view(graph, var, below) is not None:
            found = below


def chain_base(graph: Graph, var: Var, stored: Container[Var] = ()) -> Var | None:
    """The first stored variable, or what is no view, under a chain of view equations."""
    while True:
        eqn = graph.producers.get(var)
        if eqn is None or var in stored or eqn.primitive.name not in VIEWS:
            return var
        if isinstance(eqn.inputs[0], Literal):
            return None
        var = eqn.inputs[0]


def strided_view(graph: Graph, var: Var, base: Var) -> View | None:
    """`var` as a view of `base`, when its elements are read at affine positions."""
    shape = var.aval.shape
    if var is base:
        return View(base, 0, shape, dense_strides(shape))
    loops = [Loop(n) for n in shape]
    scout = Scout(graph.producers, {base})
    scout.value(var, Point(shape, multi=[of_loop(loop) for loop in loops]))
    if len(scout.reads) != 1 or scout.cost:
        return None
    ((found, flat),) = scout.reads
    if found is not base or not flat.is_affine():
        return None
    return View(base, flat.const, shape, tuple(flat.terms.get(loop, 0) for loop in loops))


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of an array in C order; axes of length 1 have none."""
    strides, step = [0] * len(shape), 1
    for axis in range(len(shape) - 1, -1, -1):
        if shape[axis] != 1:
            strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


def view_of(graph: Graph, stored: Container[Var], atom: Atom) -> View | None:
    """An operand as a view of what is stored."""
    if not isinstance(atom, Var):
        return None
    base = chain_base(graph, atom, stored)
    return None if base is None else strided_view(graph, atom, base)


# -- what is read ------------------------------------------------------------------------------


def leaves(graph: Graph, stored: dict[Var, str], atoms: Sequence[Atom]) -> set[Var]:
    """The stored variables and inputs that inlined equations under `atoms` read."""
    return descend(graph, stored, atoms)[0]


def inlined_under(graph: Graph, stored: dict[Var, str], atoms: Sequence[Atom]) -> set[Var]:
    """The variables that are computed on the way from stored ones to `atoms`."""
    return descend(graph, stored, atoms)[1]


def descend(
    graph: Graph, stored: dict[Var, str], atoms: Sequence[Atom]
) -> tuple[set[Var], set[Var]]:
    """What is read and what is computed in order to have `atoms`."""
    found: set[Var] = set()
    inlined: set[Var] = set()
    stack = [a for a in atoms if isinstance(a, Var)]
    while stack:
        var = stack.pop()
        if var in found or var in inlined:
            continue
        eqn = graph.producers.get(var)
        if eqn is None or var in stored:
            found.add(var)
        else:
            inlined.add(var)
            stack += [a for a in eqn.inputs if isinstance(a, Var)]
    return found, inlined
