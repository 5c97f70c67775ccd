"""What loops in registers have in common: the elements that go from step to step, and inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

from functrans.extend import Atom, Literal, Var
from jit.loop_ir.nodes import Value
from jit.lowering.asking import MOST_CARRIED, Asker, Body, Elements, Limits, TooLarge
from jit.lowering.index import ZERO, Index, Loop, Point
from jit.lowering.rules import Element, is_complex, joined, parts
from jit.lowering.unrolled import Source, Unrolled

ONE: Elements = {ZERO: None}
"""The only element of a scalar."""
STRIDES = 3
"""Where a lane needs more of the others at so many steps, it needs all of them in time."""
MOST_FOREIGN = 8
"""More of what other lanes have is not worth computing again, and takes long to ask for."""


class Carried:
    """Which elements of some variables are needed: what a loop carries, or a branch gives."""

    def __init__(self, invars: Sequence[Var], places: Sequence[Mapping[Index, None]]) -> None:
        self.invars = invars
        self.places: list[Elements] = [dict(each) for each in places]

    def grow(self, asker: Asker) -> bool:
        """Take in what a body asks of its carry; answers whether that is anything new."""
        before = self.count
        for var, places in zip(self.invars, self.places, strict=True):
            places.update(asker.elements(var))
        if self.count > MOST_CARRIED:
            raise TooLarge(f"it carries more than {MOST_CARRIED} elements")
        return self.count > before

    @property
    def count(self) -> int:
        return sum(map(len, self.places))

    def foreign(self, lanes: Loop | None) -> int:
        """How many elements a lane needs that are other lanes' own, at least."""
        if lanes is None:
            return 0
        count = 0
        for var, places in zip(self.invars, self.places, strict=True):
            own = var.aval.size // lanes.extent
            count += max(0, sum(1 for flat in places if flat.terms) - own)
        return count

    def ask(self, asker: Asker, atoms: Sequence[Atom]) -> None:
        """Ask for the elements of the first carry."""
        for atom, places in zip(atoms, self.places, strict=True):
            asker.ask_all(atom, places)

    def read(self, writer: Unrolled, atoms: Sequence[Atom]) -> list[Value]:
        """The elements of `atoms` as loop IR values, in order."""
        return [
            value
            for atom, places in zip(atoms, self.places, strict=True)
            for flat in places
            for value in parts(writer.value(atom, Point(atom.aval.shape, flat=flat)))
        ]

    def learn(self, writer: Unrolled, variables: Sequence[Var], values: Sequence[Value]) -> None:
        """Tell a writer that these values are the elements of `variables`."""
        for k, flat, element in self.elements(values):
            writer.learn(variables[k], flat, element)

    def elements(self, values: Sequence[Value]) -> Iterator[tuple[int, Index, Element]]:
        """The elements that values make: of which variable, at which place."""
        left = iter(values)
        for k, (var, places) in enumerate(zip(self.invars, self.places, strict=True)):
            pair = is_complex(var.aval.dtype)
            for flat in places:
                yield k, flat, joined([next(left), next(left)] if pair else [next(left)])


def readable_inputs(asker: Asker, invars: Sequence[Var], atoms: Sequence[Atom]) -> set[Var]:
    """The inputs of an inner body whose operands can be read at any place."""
    pairs = zip(invars, atoms, strict=True)
    return {v for v, a in pairs if isinstance(a, Literal) or a in asker.anywhere}


def pass_on(asker: Asker, inner: Asker, invars: Sequence[Var], atoms: Sequence[Atom]) -> None:
    """Ask operands for what an inner body asks of its inputs."""
    for var, atom in zip(invars, atoms, strict=True):
        asker.ask_all(atom, inner.elements(var))


def from_outside(
    writer: Unrolled, invars: Sequence[Var], atoms: Sequence[Atom]
) -> dict[Var, Source]:
    """Inputs of an inner body are elements of the operands around it."""

    def source(atom: Atom) -> Source:
        return lambda flat: writer.value(atom, Point(atom.aval.shape, flat=flat))

    return {var: source(atom) for var, atom in zip(invars, atoms, strict=True)}


def read_ahead(
    writer: Unrolled, inner: Asker, invars: Sequence[Var], atoms: Sequence[Atom]
) -> None:
    """Read what does not change in a loop before it begins."""
    for var, atom in zip(invars, atoms, strict=True):
        for flat in inner.elements(var):
            if writer.needs.is_static(flat):
                writer.value(atom, Point(atom.aval.shape, flat=flat))


def closed(
    body: Body,
    anywhere: Set[Var],
    limits: Limits,
    carried: Carried,
    made: Sequence[Mapping[Index, None]] = (),
) -> Asker:
    """What a step needs, once the carry holds all that any step asks of it.

    made: the needed elements of what the body gives besides its carry.
    """
    strides, foreign = 0, carried.foreign(limits.lanes)
    while True:
        needs = Asker(body, anywhere, limits)
        needs.want(body.outvars, [*carried.places, *made])
        if not carried.grow(needs):
            return needs
        before, foreign = foreign, carried.foreign(limits.lanes)
        strides += foreign > before
        if strides > STRIDES or foreign > MOST_FOREIGN:
            raise TooLarge("each reaches further into the others at each step")
