"""Keeping: which values a loop notes at each step for its backward pass, and which it does not.

The backward pass needs certain values of each step. Each of them can be kept, or computed again
from other values, as long as that costs less than keeping it (`Primitive.cheap`). The least memory
is a minimum cut between what there is anyway and what is needed: with a small body that is mostly
the carry alone. Of the cuts of one size, the one nearest to what is needed computes least again.

The cut is found by augmenting paths (Ford and Fulkerson 1956) in order of length (Dinic 1970).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from functrans.ir import Atom, Effect, Eqn, Literal, Var
from functrans.primitives.elementwise import div_p, mul_p, reciprocal_p

Needed = Iterable[Var]


class Kept(NamedTuple):
    """The values to keep, in the order of their definition, and how to compute the rest again."""

    values: list[Var]
    again: list[Eqn]


def keep(eqns: list[Eqn], inputs: list[Var], needed: Needed, cost: Mapping[Var, int]) -> Kept:
    """The cheapest values from which all of `needed` can be computed again.

    `eqns` compute them from `inputs`. `cost` says what keeping a value costs, where that is not
    the size of its memory: 0 for what is there anyway.
    """
    wanted = set(needed)
    makers = {v: eqn for eqn in eqns for v in eqn.outputs}
    reached = _ancestors(wanted, makers)
    network = _Network()
    for var in reached:
        network.add((var, "in"), (var, "out"), cost.get(var, max(_nbytes(var), 1)))
        if var in wanted:
            network.add((var, "out"), SINK, INFINITE)
        eqn = makers.get(var)
        if eqn is None or not is_recomputable(eqn):
            network.add(SOURCE, (var, "in"), INFINITE)
            continue
        for atom in eqn.inputs:
            if isinstance(atom, Var):
                network.add((atom, "out"), (var, "in"), INFINITE)
    network.saturate()
    near = network.reaching_sink()
    values = [
        v
        for v in [*inputs, *[v for eqn in eqns for v in eqn.outputs]]
        if v in reached and (v, "out") in near and (v, "in") not in near
    ]
    return Kept(values, with_fewer_divisions(between(eqns, values, wanted), wanted))


def is_recomputable(eqn: Eqn) -> bool:
    """May the equation be computed again instead of keeping what it gave?"""
    primitive = eqn.primitive
    return primitive.cheap and not primitive.opaque and eqn.effect is Effect.NONE


def _nbytes(var: Var) -> int:
    return var.aval.size * var.aval.dtype.itemsize


def _ancestors(wanted: set[Var], makers: Mapping[Var, Eqn]) -> dict[Var, None]:
    """What is wanted, and what it can be computed again from, however indirectly."""
    found: dict[Var, None] = {}
    waiting = list(wanted)
    while waiting:
        var = waiting.pop()
        if var in found:
            continue
        found[var] = None
        eqn = makers.get(var)
        if eqn is not None and is_recomputable(eqn):
            waiting += [a for a in eqn.inputs if isinstance(a, Var)]
    return found


def between(eqns: list[Eqn], values: list[Var], wanted: set[Var]) -> list[Eqn]:
    """The equations that lead from the kept values to the wanted ones."""
    given: set[Atom] = set(values)
    needed: set[Atom] = {v for v in wanted if v not in given}
    found: list[Eqn] = []
    for eqn in reversed(eqns):
        if not needed.isdisjoint(eqn.outputs):
            found.append(eqn)
            needed -= set(eqn.outputs)
            needed |= {a for a in eqn.inputs if not isinstance(a, Literal) and a not in given}
    return found[::-1]


def with_fewer_divisions(again: list[Eqn], wanted: set[Var]) -> list[Eqn]:
    """(x / y) * (1 / y) as (x * (1 / y)) * (1 / y) where nothing else reads the quotient.

    So begins the derivative of a quotient by its divisor. A division takes as long as many
    products. `wanted` is read by what is not among the equations.
    """
    makers: dict[Atom, Eqn] = {v: eqn for eqn in again for v in eqn.outputs}
    reads = Counter(a for eqn in again for a in eqn.inputs)
    found: dict[int, list[Eqn]] = {id(eqn): [eqn] for eqn in again}
    for eqn in again:
        quotient = _quotient_times_inverse(eqn, makers)
        if quotient is None or reads[quotient.outputs[0]] > 1 or quotient.outputs[0] in wanted:
            continue
        numerator, inverse = quotient.inputs[0], eqn.inputs[1]
        found[id(quotient)] = []
        found[id(eqn)] = [Eqn(mul_p, [numerator, inverse], quotient.outputs, {}, eqn.source), eqn]
    return [eqn for eqns in found.values() for eqn in eqns]


def _quotient_times_inverse(eqn: Eqn, makers: Mapping[Atom, Eqn]) -> Eqn | None:
    """The division whose quotient this multiplies by the reciprocal of its divisor, if it does."""
    if eqn.primitive is not mul_p:
        return None
    quotient, inverse = [makers.get(a) for a in eqn.inputs]
    if quotient is None or inverse is None or quotient.primitive is not div_p:
        return None
    if inverse.primitive is not reciprocal_p or inverse.inputs[0] is not quotient.inputs[1]:
        return None
    return quotient


# -- a minimum cut ------------------------------------------------------------------------------

Node = Hashable
SOURCE, SINK = "source", "sink"
INFINITE = 1 << 60


class _Network:
    """Edges with capacities; `saturate` finds the greatest flow from SOURCE to SINK."""

    def __init__(self) -> None:
        self.left: dict[Node, dict[Node, int]] = {SOURCE: {}, SINK: {}}

    def add(self, a: Node, b: Node, capacity: int) -> None:
        self.left.setdefault(a, {})[b] = capacity
        self.left.setdefault(b, {}).setdefault(a, 0)

    def saturate(self) -> None:
        while (level := self._levels()) is not None:
            untried = {node: list(edges) for node, edges in self.left.items()}
            while self._augment(level, untried):
                pass

    def _levels(self) -> dict[Node, int] | None:
        """How far each node is from the source along edges that are not full."""
        level: dict[Node, int] = {SOURCE: 0}
        waiting = deque([SOURCE])
        while waiting:
            node = waiting.popleft()
            for other, capacity in self.left[node].items():
                if capacity > 0 and other not in level:
                    level[other] = level[node] + 1
                    waiting.append(other)  # type: ignore[arg-type]
        return level if SINK in level else None

    def _augment(self, level: dict[Node, int], untried: dict[Node, list[Node]]) -> bool:
        """Send what fits along one shortest path; False when none is left."""
        path: list[Node] = [SOURCE]
        while path[-1] is not SINK:
            node, ways = path[-1], untried[path[-1]]
            while ways and not self._leads_on(node, ways[-1], level):
                ways.pop()
            if ways:
                path.append(ways[-1])
            elif len(path) == 1:
                return False
            else:
                path.pop()
                untried[path[-1]].pop()
        edges = list(pairwise(path))
        amount = min(self.left[a][b] for a, b in edges)
        for a, b in edges:
            self.left[a][b] -= amount
            self.left[b][a] += amount
        return True

    def _leads_on(self, a: Node, b: Node, level: dict[Node, int]) -> bool:
        return self.left[a][b] > 0 and level.get(b) == level[a] + 1

    def reaching_sink(self) -> set[Node]:
        """The nodes from which more could still flow into the sink."""
        found: set[Node] = {SINK}
        waiting: list[Node] = [SINK]
        while waiting:
            node = waiting.pop()
            for other in self.left[node]:
                if other not in found and self.left[other][node] > 0:
                    found.add(other)
                    waiting.append(other)
        return found
