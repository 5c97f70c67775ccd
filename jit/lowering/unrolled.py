"""Writes a body in registers: each needed element of its variables is one loop IR value.

Invariant: an element is computed where its equation stands, once; what is first met inside an
inner loop or branch is forgotten when that closes, so that what is known may always be used.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any, TypeAlias

from functrans.extend import Atom, Aval, Eqn, Literal, Var
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import Buffer, DType, Value
from jit.lowering.accumulator import Accumulator
from jit.lowering.asking import (
    Asker,
    Body,
    Elements,
    candidates,
    checked_places,
    element_rule,
    runs_on_vectors,
)
from jit.lowering.index import Dynamic, Index, Point, Shape, loops_in, unravel
from jit.lowering.indexing import check_indices, indices_of
from jit.lowering.rules import INDEXED, SCALARS, Element, loop_dtype, needs_check, parts
from jit.lowering.writer import Writer, selected

Source: TypeAlias = Callable[[Index], Element]
"""Where the elements of an input come from."""
Sink: TypeAlias = Callable[[Index, Index, Element], None]
"""Where an element of a result made at each step goes: (step, place in the step's array)."""
Key: TypeAlias = tuple[int, Var, Index]


class Memo:
    """The elements known so far; what is learnt in a block is forgotten at its end."""

    def __init__(self) -> None:
        self.known: dict[Key, Element] = {}
        self.blocks: list[list[Key]] = [[]]
        self.writers = 0

    def number(self) -> int:
        """A number for one more writer: the elements of each are its own."""
        self.writers += 1
        return self.writers

    def learn(self, key: Key, element: Element) -> None:
        self.known[key] = element
        self.blocks[-1].append(key)

    @contextmanager
    def block(self) -> Generator[None]:
        """Inside a loop, or a branch."""
        self.blocks.append([])
        try:
            yield
        finally:
            for key in self.blocks.pop():
                del self.known[key]


class Unrolled(Writer):
    """Writes one body whose needs are known; `sources` give the elements of its inputs."""

    def __init__(
        self,
        b: Builder,
        needs: Asker,
        sources: Mapping[Var, Source],
        memo: Memo | None = None,
        sinks: Mapping[Var, Sink] | None = None,
    ) -> None:
        super().__init__(b, needs.body.makers, frozenset(), {})
        self.needs = needs
        self.body: Body = needs.body
        self.sources = sources
        self.known = Memo() if memo is None else memo
        self.sinks: Mapping[Var, Sink] = {} if sinks is None else sinks
        self.lanes = needs.limits.lanes
        self.own = self.known.number()
        self.products: Set[int] = frozenset()

    def inner(self, needs: Asker, sources: Mapping[Var, Source]) -> Unrolled:
        """The writer of a body that an equation of this one holds."""
        return Unrolled(self.b, needs, sources, self.known)

    # elements

    def elements(self, var: Var) -> Elements:
        """What is needed of a variable."""
        return self.needs.elements(var)

    def key(self, var: Var, flat: Index) -> Key:
        return (self.own, var, flat)

    def learn(self, var: Var, flat: Index, element: Element) -> None:
        """Say what an element is."""
        self.known.learn(self.key(var, flat), element)

    def value(self, atom: Atom, point: Point) -> Any:
        """The element of `atom` at `point`: known, or read from memory where it is needed."""
        if isinstance(atom, Literal):
            return self.literal(atom.aval.dtype, atom.value)
        return self.element(atom, point.flat)

    def element(self, var: Var, flat: Index) -> Any:
        found = self.known.known.get(self.key(var, flat))
        if found is not None:
            return found
        if var in self.needs.anywhere:
            made = self.looked_through(var, flat)
        elif var in self.sources and self.needs.is_static(flat):
            made = self.sources[var](flat)
        elif self.needs.is_static(flat):
            made = self.computed(var, flat)
        else:
            made = self.chosen(var, flat)
        self.learn(var, flat, made)
        return made

    def looked_through(self, var: Var, flat: Index) -> Any:
        """The element of an input in memory, or of an index function of such."""
        eqn = self.body.makers.get(var)
        if eqn is None:
            return self.sources[var](flat)
        return INDEXED[eqn.primitive](self, eqn, Point(var.aval.shape, flat=flat))

    def computed(self, var: Var, flat: Index) -> Any:
        """The element that a rule makes, for another of the same equation that it is made of."""
        eqn = self.body.makers[var]
        return element_rule(eqn)(self, eqn, Point(var.aval.shape, flat=flat))

    def chosen(self, var: Var, flat: Index) -> Any:
        """The element at a place known at run time: the one of those in registers that it is."""
        shape = var.aval.shape
        here = unravel(flat, shape)
        places = list(candidates(self.lanes, flat, shape))
        found = self.element(var, places[-1])
        for place in reversed(places[:-1]):
            hit = self.same(here, unravel(place, shape))
            found = selected(self.b, hit, self.element(var, place), found)
        return found

    def same(self, here: Sequence[Index], there: Sequence[Index]) -> Value:
        """Is a place known at run time this one?"""
        hit: Value = self.b.const("bool", True)
        for index, constant in zip(here, there, strict=True):
            if index != constant:
                equal = self.b.eq(self.number(index), constant.const)
                hit = self.b.and_(hit, equal)
        return hit

    def folded(self, aval: Aval, monoid: str, terms: Sequence[Element]) -> Element:
        """Terms made one: in order where there are few, else in pairs, which is soonest done."""
        total = Accumulator(self.b, aval, monoid)
        left = [total.widened(parts(term)) for term in terms]
        left[0] = total.step(total.identity(), left[0])
        while len(left) > 4:
            pairs = zip(left[::2], left[1::2], strict=False)
            left = [total.step(a, b) for a, b in pairs] + left[len(left) & ~1 :]
        found = left[0]
        for term in left[1:]:
            found = total.step(found, term)
        return total.result(found)

    # what the rules of index functions see

    def within(
        self, point: Point, shape: Shape, multi: Sequence[Index], where: Any = True
    ) -> Point:
        return Point(shape, multi=multi)

    def dynamic(self, key: object, value: Value, bounds: tuple[int, int], at: Index) -> Index:
        """Of this writer alone: one body may be written several times, with other values.

        Also where the value turns out to be a literal: that was not known when it was asked.
        """
        return Index(0, {Dynamic((self.own, key), bounds, at, value): 1})

    def depth(self, index: Index, mask: Value | None = None) -> int:
        return max((loop.level for loop in loops_in(index)), default=0)

    # the walk

    def run(self, only: Set[int] | None = None) -> None:
        """Every needed element, equation by equation, or of these equations only.

        `products` holds the numbers of scalings whose factors are known to be ordinary here.
        """
        for eqn in self.body.eqns:
            if only is not None and id(eqn) not in only:
                continue
            control = self.needs.controls.get(id(eqn))
            if control is not None:
                control.write(self)
            elif eqn.primitive in SCALARS:
                self.scalar(eqn)
            elif eqn.outputs[0] in self.needs.points and eqn.outputs[0] not in self.needs.anywhere:
                self.element_by_element(eqn)

    def scalar(self, eqn: Eqn) -> None:
        """An elementwise equation at every place that is needed of any of its results."""
        places = {flat: None for out in eqn.outputs for flat in self.elements(out)}
        if runs_on_vectors(eqn, len(places), self.lanes):
            self.on_vectors(eqn, list(places))
            return
        for flat in places:
            if self.is_known(eqn, flat):
                continue
            operands = self.operands(eqn, flat)
            product = id(eqn) in self.products
            results = [self.b.mul(*operands)] if product else self.apply(eqn, operands)
            for out, made in zip(eqn.outputs, results, strict=True):
                self.learn(out, flat, made)

    def is_known(self, eqn: Eqn, flat: Index) -> bool:
        return all(self.key(out, flat) in self.known.known for out in eqn.outputs)

    def operands(self, eqn: Eqn, flat: Index) -> list[Any]:
        """What an elementwise equation takes at one place."""
        return [self.value(a, Point(a.aval.shape, flat=flat)) for a in eqn.inputs]

    def on_vectors(self, eqn: Eqn, places: Sequence[Index]) -> None:
        """An elementary function of several elements: side by side, by way of memory."""
        b, count = self.b, len(places)
        if all(self.is_known(eqn, flat) for flat in places):
            return
        rows = list(zip(*[self.operands(eqn, flat) for flat in places], strict=True))
        given = [self.in_memory(row) for row in rows]
        taken = [self.space(loop_dtype(out.aval.dtype), count) for out in eqn.outputs]
        with b.for_(count, "vector") as loop:
            operands = [x if isinstance(x, Value) else b.load(x, loop.i) for x in given]
            for buffer, made in zip(taken, self.apply(eqn, operands), strict=True):
                b.store(buffer, loop.i, made)
        for out, buffer in zip(eqn.outputs, taken, strict=True):
            for k, flat in enumerate(places):
                self.learn(out, flat, b.load(buffer, k))

    def in_memory(self, row: Sequence[Value]) -> Buffer | Value:
        """Values side by side in memory; one value where they are all the same."""
        if all(value is row[0] for value in row):
            return row[0]
        buffer = self.space(row[0].dtype, len(row))
        for k, value in enumerate(row):
            self.b.store(buffer, k, value)
        return buffer

    def space(self, dtype: DType, count: int) -> Buffer:
        """A few elements on the stack of the kernel."""
        return self.b.local(f"side{len(self.b.buffers)}", dtype, count)

    def element_by_element(self, eqn: Eqn) -> None:
        """Any other: its indices are checked, then its rule makes each element."""
        (out,) = eqn.outputs
        if needs_check(eqn):
            for place in checked_places(self, eqn):
                check_indices(self, eqn, Point(indices_of(eqn)[0].aval.shape, flat=place))
        rule = element_rule(eqn)
        for flat in self.elements(out):
            if self.key(out, flat) not in self.known.known:
                self.learn(out, flat, rule(self, eqn, Point(out.aval.shape, flat=flat)))
