"""Index arithmetic of loop nests: integer expressions over loops, affine wherever they can be.

An Index is a constant plus a sum of coefficient * atom. An atom is a loop, a value known only at
run time (with its range), or a quotient or remainder that did not simplify. Equal expressions
compare equal, so "the same element" is an equality of indices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, TypeAlias

from jit.loop_ir.nodes import Value

Range: TypeAlias = tuple[int, int]
Shape: TypeAlias = tuple[int, ...]


class Loop:
    """A loop of a nest, by identity; its variable runs over 0 .. extent - 1.

    `value` and `level` are the loop IR variable and its depth while the loop is being written;
    it may be written in parts, `bounds` then says which.
    """

    __slots__ = ("bounds", "extent", "level", "name", "value")

    def __init__(self, extent: int, name: str = "i") -> None:
        self.extent = extent
        self.name = name
        self.value: Value | None = None
        self.level = 0
        self.bounds: Range = (0, max(extent - 1, 0))

    def range(self) -> Range:
        return self.bounds

    def __repr__(self) -> str:
        return f"{self.name}<{self.extent}"


class Dynamic:
    """An integer known at run time, within `bounds`; the same `key` is the same integer.

    It was itself found at position `at` of some array, and so depends on the loops in `at`.
    """

    __slots__ = ("at", "bounds", "key", "value")

    def __init__(self, key: object, bounds: Range, at: Index, value: Value | None = None) -> None:
        self.key = key
        self.bounds = bounds
        self.at = at
        self.value = value

    def range(self) -> Range:
        return self.bounds

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dynamic) and self.key == other.key and self.bounds == other.bounds

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"dynamic{self.bounds}"


class Divided:
    """`index // divisor` (quotient) or `index % divisor`, floored, where neither simplifies."""

    __slots__ = ("_hash", "divisor", "index", "quotient")

    def __init__(self, index: Index, divisor: int, quotient: bool) -> None:
        self.index = index
        self.divisor = divisor
        self.quotient = quotient
        self._hash = hash((index, divisor, quotient))

    def range(self) -> Range:
        low, high = self.index.range()
        return (
            (low // self.divisor, high // self.divisor) if self.quotient else (0, self.divisor - 1)
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Divided)
            and self._hash == other._hash
            and self.divisor == other.divisor
            and self.quotient == other.quotient
            and self.index == other.index
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"({self.index} {'//' if self.quotient else '%'} {self.divisor})"


Atom: TypeAlias = Loop | Dynamic | Divided


class Index:
    """const + the sum of coefficient * atom over `terms`; immutable, compared by what it says."""

    __slots__ = ("_hash", "const", "terms")

    def __init__(self, const: int, terms: dict[Atom, int]) -> None:
        self.const = const
        self.terms = terms
        self._hash: int | None = None

    def __add__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return Index(self.const + other, self.terms) if other else self
        if not other.terms:
            return self + other.const
        if not self.terms:
            return other + self.const
        terms = dict(self.terms)
        for atom, factor in other.terms.items():
            total = terms.get(atom, 0) + factor
            if total:
                terms[atom] = total
            else:
                del terms[atom]
        return rejoined(Index(self.const + other.const, terms))

    def __sub__(self, other: Index | int) -> Index:
        return self + (-other if isinstance(other, int) else other * -1)

    def __mul__(self, factor: int) -> Index:
        if factor == 1:
            return self
        if factor == 0:
            return ZERO
        return Index(self.const * factor, {a: f * factor for a, f in self.terms.items()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Index) and self.const == other.const and self.terms == other.terms

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((self.const, frozenset(self.terms.items())))
        return self._hash

    def range(self) -> Range:
        """The least and greatest value it can take (an interval that holds them)."""
        low = high = self.const
        for atom, factor in self.terms.items():
            a, b = atom.range()
            low += factor * (a if factor > 0 else b)
            high += factor * (b if factor > 0 else a)
        return low, high

    def coefficient(self, loop: Loop) -> int | None:
        """How far it moves per step of `loop`; None where that is not a constant."""
        if any(depends(atom, loop) for atom in self.terms if not isinstance(atom, Loop)):
            return None
        return self.terms.get(loop, 0)

    def is_affine(self) -> bool:
        """Is it a constant plus multiples of loops?"""
        return all(isinstance(atom, Loop) for atom in self.terms)

    def __repr__(self) -> str:
        parts = [f"{f}*{a}" if f != 1 else str(a) for a, f in self.terms.items()]
        return " + ".join(parts + ([str(self.const)] if self.const or not parts else []))


ZERO = Index(0, {})


def constant(value: int) -> Index:
    return Index(value, {})


def of_loop(loop: Loop) -> Index:
    """The variable of a loop as an index (0 for a loop of one iteration)."""
    return ZERO if loop.extent == 1 else Index(0, {loop: 1})


def depends(atom: Atom, loop: Loop) -> bool:
    """Can `atom` change with `loop`?"""
    match atom:
        case Loop():
            return atom is loop
        case Divided():
            return any(depends(a, loop) for a in atom.index.terms)
        case Dynamic():
            return any(depends(a, loop) for a in atom.at.terms)


def rejoined(index: Index) -> Index:
    """d * (x // d) + x % d is x again."""
    for atom, factor in index.terms.items():
        if isinstance(atom, Divided) and not atom.quotient:
            whole = Divided(atom.index, atom.divisor, True)
            if index.terms.get(whole) == factor * atom.divisor:
                rest = {a: f for a, f in index.terms.items() if a != atom and a != whole}
                return Index(index.const, rest) + atom.index * factor
    return index


class Splits:
    """Collects the splits of loops that would make an index affine: (loop, inner extent)."""

    def __init__(self) -> None:
        self.wanted: dict[Loop, int] = {}

    def want(self, index: Index, divisor: int) -> None:
        if index.const or len(index.terms) != 1:
            return
        ((atom, factor),) = index.terms.items()
        if factor == 1 and isinstance(atom, Loop) and atom.extent % divisor == 0:
            self.wanted.setdefault(atom, divisor)


def divide(index: Index, divisor: int, splits: Splits | None = None) -> tuple[Index, Index]:
    """(index // divisor, index % divisor), floored, simplified by the ranges of the atoms."""
    if divisor == 1:
        return index, ZERO
    multiples = {a: f // divisor for a, f in index.terms.items() if f % divisor == 0}
    rest_terms = {a: f for a, f in index.terms.items() if f % divisor}
    whole, const = divmod(index.const, divisor)
    rest = Index(const, rest_terms)
    quotient = Index(whole, multiples)
    low, high = rest.range()
    if low // divisor == high // divisor:
        step = low // divisor
        return quotient + step, rest - step * divisor
    factor, outer, inner = common_factor(rest, divisor)
    if factor > 1:
        q, r = divide(outer, divisor // factor, splits)
        return quotient + q, r * factor + inner
    if splits is not None:
        splits.want(rest, divisor)
    return (
        quotient + Index(0, {Divided(rest, divisor, True): 1}),
        Index(0, {Divided(rest, divisor, False): 1}),
    )


def common_factor(index: Index, divisor: int) -> tuple[int, Index, Index]:
    """(g, outer, inner) with index = g * outer + inner, 0 <= inner < g and g dividing divisor."""
    for factor in sorted({abs(f) for f in index.terms.values()}, reverse=True):
        if factor > 1 and divisor % factor == 0:
            outer = {a: f // factor for a, f in index.terms.items() if f % factor == 0}
            inner = {a: f for a, f in index.terms.items() if f % factor}
            whole, const = divmod(index.const, factor)
            rest = Index(const, inner)
            low, high = rest.range()
            if low >= 0 and high < factor:
                return factor, Index(whole, outer), rest
    return 1, index, ZERO


def ravel(indices: Sequence[Index], shape: Shape) -> Index:
    """The row-major position of a multi-index."""
    flat, stride = ZERO, 1
    for index, size in zip(reversed(indices), reversed(shape), strict=True):
        flat = flat + index * stride
        stride *= size
    return flat


def unravel(flat: Index, shape: Shape, splits: Splits | None = None) -> tuple[Index, ...]:
    """The multi-index of a row-major position; positions must lie inside the shape."""
    found: list[Index] = []
    left = prod(shape)
    for size in reversed(shape):
        left //= max(size, 1)
        if left == 1:
            found.append(flat if size > 1 else ZERO)
            flat = ZERO
        else:
            flat, remainder = divide(flat, max(size, 1), splits)
            found.append(remainder)
    return tuple(reversed(found))


class Point:
    """One element of an array of `shape`: by its position, its multi-index, or both.

    `mask` (a loop IR boolean, or a stand-in while scouting) says where the element is wanted at
    all: elsewhere memory must not be touched and any value will do.
    """

    __slots__ = ("_flat", "_multi", "mask", "shape")

    def __init__(
        self,
        shape: Shape,
        multi: Sequence[Index] | None = None,
        flat: Index | None = None,
        mask: Any = None,
    ) -> None:
        self.shape = shape
        self._multi = None if multi is None else tuple(multi)
        self._flat = flat
        self.mask = mask

    @property
    def flat(self) -> Index:
        if self._flat is None:
            assert self._multi is not None
            self._flat = ravel(self._multi, self.shape)
        return self._flat

    def multi(self, splits: Splits | None = None) -> tuple[Index, ...]:
        if self._multi is None:
            assert self._flat is not None
            self._multi = unravel(self._flat, self.shape, splits)
        return self._multi


def loops_in(index: Index) -> Iterator[Loop]:
    """Every loop an index mentions, inside quotients too."""
    for atom in index.terms:
        match atom:
            case Loop():
                yield atom
            case Divided():
                yield from loops_in(atom.index)
            case Dynamic():
                yield from loops_in(atom.at)
