"""Tangents times factors inside a loop: plain products wherever the factors are ordinary numbers.

`scale(x, y)` is 0 where either is 0, and so waits for comparisons with both; in a chain from step
to step that is most of the time. But for a factor that is finite and not 0 it is x * y. Factors do
not depend on tangents: they are known early, so that one branch for each step, which is foreseen,
decides between products and the full meaning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from functrans.extend import Atom, Eqn, Literal, Var, primitives
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import Const, Value
from jit.lowering.asking import Asker
from jit.lowering.index import Point
from jit.lowering.rules import is_complex
from jit.lowering.unrolled import Unrolled

scale_p = primitives.elementwise.scale_p
MOST_COST = 400.0
"""The code of a longer body is not written twice."""
GROUP = 8
"""So many factors are tested by their product: it is ordinary only if each of them is."""
MOST_GROUPS = 12
"""More tests would cost more than they save."""
LEAST_IN_LANES = 3
"""Vectors wait less for comparisons, since several are on their way."""


def early_factors(needs: Asker, carry: Mapping[Var, Atom]) -> dict[int, Atom]:
    """For each scaling by a factor that no tangent decides, that factor.

    carry: what each carried input is at the next step.
    """
    late: set[Var] = set()
    while True:
        before = len(late)
        late.update(v for v, after in carry.items() if after in late)
        for eqn in needs.body.eqns:
            if is_scaling(eqn) or any(a in late for a in eqn.inputs):
                late.update(eqn.outputs)
        if len(late) == before:
            break
    found: dict[int, Atom] = {}
    for eqn in needs.body.eqns:
        factors = [a for a in eqn.inputs if a not in late]
        if is_scaling(eqn) and len(factors) == 1 and needs.elements(eqn.outputs[0]):
            found[id(eqn)] = factors[0]
    return found


def is_scaling(eqn: Eqn) -> bool:
    """Is this a product of a tangent and a factor, of real numbers?"""
    return eqn.primitive is scale_p and not is_complex(eqn.outputs[0].aval.dtype)


def step(
    writer: Unrolled, carry: Mapping[Var, Atom], finish: Callable[[], Sequence[Value]]
) -> Sequence[Value]:
    """Write a body, then finish(), once or in two versions; answers what finish() does."""
    needs = writer.needs
    twice = not needs.controls and needs.cost <= MOST_COST
    early = early_factors(needs, carry) if twice else {}
    fewest = 1 if writer.lanes is None else LEAST_IN_LANES
    factors = factors_of(writer, early) if len(early) >= fewest else []
    if not factors or len(factors) > GROUP * MOST_GROUPS:
        writer.run()
        return finish()
    opened = writer.b.if_(ordinary(writer.b, factors))
    with opened.then(), writer.known.block():
        writer.products = early.keys()
        writer.run()
        opened.yield_(*finish())
    with opened.orelse(), writer.known.block():
        writer.products = set()
        writer.run()
        opened.yield_(*finish())
    return opened.results


def factors_of(writer: Unrolled, early: Mapping[int, Atom]) -> list[Value]:
    """The elements of the factors, what is known earliest first."""
    writer.run(makers_of(writer, early.values()))
    found: dict[Value, None] = {}
    for eqn in writer.body.eqns:
        factor = early.get(id(eqn))
        if factor is None or isinstance(factor, Literal):
            continue
        for flat in writer.elements(eqn.outputs[0]):
            value = writer.value(factor, Point(factor.aval.shape, flat=flat))
            if not isinstance(value, Const):
                found[value] = None
    return sorted(found, key=lambda value: value.level)


def makers_of(writer: Unrolled, atoms: Iterable[Atom]) -> set[int]:
    """The equations that these are made by, one after the other."""
    wanted, found = set(atoms), set[int]()
    for eqn in reversed(writer.body.eqns):
        if not wanted.isdisjoint(eqn.outputs):
            found.add(id(eqn))
            wanted.update(eqn.inputs)
    return found


def ordinary(b: Builder, factors: Sequence[Value]) -> Value:
    """Are all of these finite, and none of them 0? Their products may say no where it is so."""
    holds: Value = b.const("bool", True)
    alike: dict[str, list[Value]] = {}
    for factor in factors:
        alike.setdefault(factor.dtype, []).append(factor)
    for group in alike.values():
        for first in range(0, len(group), GROUP):
            product = group[first]
            for factor in group[first + 1 : first + GROUP]:
                product = b.mul(product, factor)
            size = b.abs(product)
            holds = b.and_(holds, b.and_(b.gt(size, 0.0), b.lt(size, math.inf)))
    return holds
