"""Which elements of which variables a body in registers needs: asked for from its results back.

A body is a jaxpr whose arrays are unrolled into scalars. The walk goes through its equations
backwards and notes, for each element that is needed, the elements that make it. An element is
named by an index: a constant, or an expression over the loop whose iterations run on lanes.
What is known at the end is exactly what jit/lowering/unrolled.py has to write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import product
from math import prod
from typing import Any, Protocol, TypeAlias

from functrans.extend import Atom, Aval, Effect, Eqn, Jaxpr, Primitive, Var, jaxprs_in
from jit.lowering.index import Divided, Dynamic, Index, Loop, Point, Shape, constant, ravel, unravel
from jit.lowering.indexing import check_indices, indices_of
from jit.lowering.rules import INDEXED, REDUCTIONS, SCALARS, Fold, Walk, is_complex, needs_check
from jit.lowering.walk import COMPLEX, NOTHING, Scout, scalar_cost

MOST_ELEMENTS = 64
"""An array of more elements is not unrolled."""
MOST_CARRIED = 160
"""So many elements a loop may carry from step to step."""
WIDE = 40
"""Work on so many elements at once is sooner done on vectors."""
MOST_COST = 3000.0
"""A body of more work, in simple operations, is not unrolled: its code would not be small."""
SIDE_BY_SIDE, LANES = 4, 8
"""From so many elements on elementary functions run on vectors, of so many or fewer lanes."""
ELEMENTARY = 10.0
"""The work, in simple operations, from which on a function counts as one of these."""
DEEP = 8
"""How many index functions may be looked through, one below the other."""

Elements: TypeAlias = dict[Index, None]
"""The elements of one variable that are needed, in the order in which they were asked for."""
UnrolledRule: TypeAlias = Callable[[Walk, Eqn, Point], Any]


class TooLarge(Exception):
    """Why a body does not fit in registers."""


class Control(Protocol):
    """An equation that holds bodies, in registers: what it asks for, and how it is written."""

    def ask(self, asker: Asker) -> None:
        """Ask for what the results need, as far as they are needed."""
        ...

    def write(self, writer: Any) -> None:
        """Write it, and tell the writer the elements of its results."""
        ...


CONTROLS: dict[Primitive, Callable[[Eqn], Control]] = {}
"""The equations that hold bodies and can be part of one in registers."""
UNROLLED: dict[Primitive, UnrolledRule] = {}
"""Rules for elements of what is a root elsewhere, where arrays are tiny."""


class Body:
    """A jaxpr whose expansions are written out, and who makes its variables."""

    def __init__(self, jaxpr: Jaxpr) -> None:
        self.invars, self.eqns, self.outvars = jaxpr.invars, jaxpr.eqns, jaxpr.outvars
        self.makers = {v: eqn for eqn in jaxpr.eqns for v in eqn.outputs}


class Limits:
    """What the bodies of one loop share while they are asked: how they are expanded, and lanes.

    `lanes` is the loop over independent elements, or None where there is no such.
    """

    def __init__(self, expanded: Callable[[Jaxpr], Jaxpr], lanes: Loop | None = None) -> None:
        self.expanded = expanded
        self.lanes = lanes


class Asker(Scout):
    """What is needed of one body.

    `anywhere` are the inputs that can be read at any place when the place is known, as they lie in
    memory; so can index functions of them. Every other variable is computed element by element.
    `outermost`: what a loop here makes at each step goes to memory. `cost` is the code that is
    written, in simple operations; with what is `repeated` in loops it is the work, and `wide` is
    the part of that on wide arrays. `shared` is the part that is the same in all lanes.
    """

    def __init__(
        self, body: Body, anywhere: Set[Var], limits: Limits, outermost: bool = False
    ) -> None:
        super().__init__(body.makers, frozenset())
        self.outermost = outermost
        self.body = body
        self.limits = limits
        self.points: dict[Var, Elements] = {}
        self.controls: dict[int, Control] = {}
        self.checks = False
        self.wide = 0.0
        self.repeated = 0.0
        self.shared = 0.0
        self.anywhere = readable(body, anywhere)

    # what the rules ask

    def value(self, atom: Atom, point: Point) -> Any:
        """Note that an element is needed."""
        if isinstance(atom, Var):
            self.ask(atom, point.flat)
        return NOTHING

    def within(
        self, point: Point, shape: Shape, multi: Sequence[Index], where: Any = True
    ) -> Point:
        """What lies in registers is there wherever it is wanted: no masks."""
        return Point(shape, multi=multi)

    def ask(self, var: Var, flat: Index) -> None:
        """Note that an element is needed; where it is only known at run time, all it may be."""
        known = self.points.setdefault(var, {})
        if var in self.anywhere:
            if flat not in known:
                known[flat] = None
                self.look_through(var, flat)
            return
        for place in self.reach(var, flat):
            known[place] = None

    def want(self, atoms: Sequence[Atom], places: Sequence[Mapping[Index, None]]) -> None:
        """Ask for elements of several atoms, then for all that these need."""
        for atom, each in zip(atoms, places, strict=True):
            self.ask_all(atom, each)
        self.run()

    def ask_all(self, atom: Atom, places: Mapping[Index, None]) -> None:
        """Note that these elements of an atom are needed."""
        if isinstance(atom, Var):
            for flat in places:
                self.ask(atom, flat)

    def look_through(self, var: Var, flat: Index) -> None:
        """What an index function reads to have this element."""
        eqn = self.body.makers.get(var)
        if eqn is not None:
            INDEXED[eqn.primitive](self, eqn, Point(var.aval.shape, flat=flat))

    def reach(self, var: Var, flat: Index) -> Iterator[Index]:
        """The element itself, or those that a place known at run time may name."""
        if self.is_static(flat):
            yield flat
        else:
            yield from candidates(self.limits.lanes, flat, var.aval.shape)

    def is_static(self, flat: Index) -> bool:
        """Is a place known, up to the lane?"""
        return is_static(flat, self.limits.lanes)

    def elements(self, var: Var) -> Elements:
        """What is needed of a variable."""
        return self.points.get(var, {})

    def folded(self, aval: Aval, monoid: str, terms: Sequence[Any]) -> Any:
        """The terms of a reduction made one."""
        self.cost += len(terms) * (COMPLEX if is_complex(aval.dtype) else 1.0)
        return NOTHING

    @property
    def work(self) -> float:
        """How long it takes, in simple operations."""
        return self.cost + self.repeated

    def add(self, inner: Asker, copies: int = 1, steps: int = 1, own: bool = False) -> None:
        """Count the work of a body inside this one, and how often a copy of its code runs.

        own: the body is that of one lane.
        """
        self.cost += copies * inner.cost
        self.wide += copies * steps * inner.wide
        self.shared += 0.0 if own else copies * steps * inner.shared
        self.repeated += copies * (steps * (inner.cost + inner.repeated) - inner.cost)

    # the walk

    def run(self) -> None:
        """From the last equation to the first."""
        for eqn in reversed(self.body.eqns):
            self.equation(eqn)
            if self.cost > MOST_COST:
                raise TooLarge("its body is too long to be unrolled")

    def equation(self, eqn: Eqn) -> None:
        """What the needed elements of one equation ask for."""
        if eqn.effect is not Effect.NONE:
            raise TooLarge(f"{eqn.primitive.name} has effects")
        if eqn.primitive in CONTROLS:
            control = self.controls[id(eqn)] = CONTROLS[eqn.primitive](eqn)
            control.ask(self)
        elif eqn.primitive in SCALARS:
            self.scalar(eqn)
        elif any(out in self.points and out not in self.anywhere for out in eqn.outputs):
            self.element_by_element(eqn)

    def scalar(self, eqn: Eqn) -> None:
        """Every operand at the same places."""
        places = {flat: None for out in eqn.outputs for flat in self.elements(out)}
        count = len(places)
        if runs_on_vectors(eqn, count, self.limits.lanes):
            cost = scalar_cost(eqn) * -(-count // LANES) + count
        else:
            cost = scalar_cost(eqn) * count
        self.cost += cost
        self.wide += cost if count >= WIDE else 0.0
        self.shared += cost * sum(not flat.terms for flat in places) / max(count, 1)
        for atom in eqn.inputs:
            self.ask_all(atom, places)

    def element_by_element(self, eqn: Eqn) -> None:
        """Ask the rule of the primitive for each element; it may ask for others of the result."""
        rule, (out,) = element_rule(eqn), eqn.outputs
        before = self.cost
        done: set[Index] = set()
        while left := [flat for flat in self.points[out] if flat not in done]:
            if len(self.points[out]) > MOST_ELEMENTS:
                raise TooLarge(f"it needs more than {MOST_ELEMENTS} elements of {out.aval}")
            for flat in left:
                done.add(flat)
                self.cost += 0.1
                rule(self, eqn, Point(out.aval.shape, flat=flat))
        if eqn.primitive in REDUCTIONS:
            cost = self.cost - before
            self.shared += cost * sum(not flat.terms for flat in done) / len(done)
        if needs_check(eqn):
            self.check(eqn)

    def check(self, eqn: Eqn) -> None:
        """The indices that are tested before they are used."""
        self.checks = True
        for place in checked_places(self, eqn):
            check_indices(self, eqn, Point(indices_of(eqn)[0].aval.shape, flat=place))


def runs_on_vectors(eqn: Eqn, count: int, lanes: Loop | None) -> bool:
    """Is so much to compute at so many places that it pays to bring them side by side?"""
    real = all(not is_complex(a.aval.dtype) for a in [*eqn.inputs, *eqn.outputs])
    return lanes is None and real and count >= SIDE_BY_SIDE and scalar_cost(eqn) >= ELEMENTARY


def readable(body: Body, anywhere: Set[Var]) -> Set[Var]:
    """The variables that are readable at any place: inputs, and index functions of such."""
    depths = dict.fromkeys(anywhere, 0)
    for eqn in body.eqns:
        if eqn.primitive not in INDEXED or needs_check(eqn) or eqn.primitive.opaque:
            continue
        below = [depths.get(a) for a in eqn.inputs if isinstance(a, Var)]
        known = [d for d in below if d is not None]
        if len(known) == len(below) and max(known, default=0) < DEEP:
            depths[eqn.outputs[0]] = max(known, default=0) + 1
    return depths.keys()


def is_static(index: Index, lanes: Loop | None) -> bool:
    """Does a place depend on nothing but the lane?"""
    for atom in index.terms:
        match atom:
            case Loop() if atom is not lanes:
                return False
            case Dynamic():
                return False
            case Divided() if not is_static(atom.index, lanes):
                return False
            case _:
                pass
    return True


def candidates(lanes: Loop | None, flat: Index, shape: Shape) -> Iterator[Index]:
    """The places that an index known at run time may name, the lane being the same."""
    choices: list[list[Index]] = []
    for index, n in zip(unravel(flat, shape), shape, strict=True):
        if is_static(index, lanes):
            choices.append([index])
            continue
        low, high = index.range()
        choices.append([constant(k) for k in range(max(low, 0), min(high, n - 1) + 1)])
    if prod(map(len, choices)) > MOST_ELEMENTS:
        raise TooLarge(f"it reads an array of shape {shape} where only the running loop knows")
    for multi in product(*choices):
        yield ravel(multi, shape)


def checked_places(walk: Any, eqn: Eqn) -> Elements:
    """The positions of the index arrays that the needed elements of a gather read."""
    shape, ndim = indices_of(eqn)[0].aval.shape, indices_of(eqn)[0].aval.ndim
    if eqn.primitive.name != "gather":
        return {constant(k): None for k in range(prod(shape))}
    (out,) = eqn.outputs
    multis = [unravel(flat, out.aval.shape)[:ndim] for flat in walk.elements(out)]
    return {ravel(multi, shape): None for multi in multis}


def without_form(eqn: Eqn, expanded: Callable[[Jaxpr], Jaxpr]) -> str:
    """The primitive of an equation that cannot be written in registers, whatever its size: of this
    one or one in its bodies; "" where there is none."""
    if eqn.primitive in CONTROLS:
        bodies = [expanded(jaxpr) for jaxpr in jaxprs_in(eqn.params)]
        names = (without_form(inner, expanded) for body in bodies for inner in body.eqns)
        return next(filter(None, names), "")
    known = any(eqn.primitive in table for table in (SCALARS, INDEXED, REDUCTIONS, UNROLLED))
    return "" if known else eqn.primitive.name


# -- rules by element --------------------------------------------------------------------------


def element_rule(eqn: Eqn) -> UnrolledRule:
    """How one element of an equation's result is made."""
    if eqn.primitive in INDEXED:
        return INDEXED[eqn.primitive]
    if eqn.primitive in REDUCTIONS:
        return folded
    rule = UNROLLED.get(eqn.primitive)
    if rule is None:
        raise TooLarge(f"{eqn.primitive.name} has no form in registers")
    return rule


def folded(walk: Any, eqn: Eqn, point: Point) -> Any:
    """An element of a reduction: all that it folds, one after the other."""
    fold = REDUCTIONS[eqn.primitive](eqn)
    kept = tuple(n for n, r in zip(fold.extents, fold.reduced, strict=True) if not r)
    return walk.folded(
        eqn.outputs[0].aval, fold.monoid, fold_terms(walk, fold, unravel(point.flat, kept))
    )


def fold_terms(walk: Any, fold: Fold, kept: Sequence[Index]) -> list[Any]:
    """The elements that are folded where the other axes stand at `kept`."""
    counts = [n for n, r in zip(fold.extents, fold.reduced, strict=True) if r]
    if prod(counts) > MOST_ELEMENTS:
        raise TooLarge(f"it folds {prod(counts)} elements at once")
    terms: list[Any] = []
    for places in product(*[range(n) for n in counts]):
        others, inner = iter(kept), iter(places)
        indices = [constant(next(inner)) if r else next(others) for r in fold.reduced]
        terms.append(fold.element(walk, indices))
    return terms
