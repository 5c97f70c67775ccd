"""The domain of a fused nest: its loops in memory order, some of them inner to a row.

Invariant: `full` enumerates the elements of arrays as large as the domain in row-major order,
`row` those of arrays with one element per row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from jit.lowering.index import ZERO, Index, Loop, Shape, constant, depends, of_loop


class Domain:
    """Loops, outermost first; `inner` are those that run within one row."""

    def __init__(self, loops: Sequence[Loop], inner: frozenset[Loop] = frozenset()) -> None:
        self.loops = tuple(loops)
        self.inner = inner
        self.size = prod(loop.extent for loop in self.loops)
        self.width = prod(loop.extent for loop in self.inner)
        self.rows = self.size // max(self.width, 1)
        self.full = enumerate_loops(self.loops)
        self.row = enumerate_loops([loop for loop in self.loops if loop not in inner])
        self.column = enumerate_loops([loop for loop in self.loops if loop in inner])

    @staticmethod
    def of_shape(shape: Shape) -> Domain:
        """One loop for each axis longer than 1."""
        return Domain([Loop(n) for n in shape if n != 1])

    @staticmethod
    def of_fold(extents: Shape, reduced: Sequence[bool]) -> Domain:
        """The domain of a reduction: its reduced axes are inner."""
        loops = [
            (Loop(n, "k" if r else "i"), r) for n, r in zip(extents, reduced, strict=True) if n != 1
        ]
        return Domain([loop for loop, _ in loops], frozenset(loop for loop, r in loops if r))

    def refined(self, splits: Mapping[Loop, int]) -> Domain:
        """Every loop in `splits` becomes two, the second of the extent given."""
        loops: list[Loop] = []
        inner: set[Loop] = set()
        for loop in self.loops:
            extent = splits.get(loop)
            parts = (
                [loop]
                if extent is None
                else [Loop(loop.extent // extent, loop.name), Loop(extent, loop.name)]
            )
            loops += parts
            if loop in self.inner:
                inner.update(parts)
        return Domain(loops, frozenset(inner))

    def at(self, loop: Loop, place: int) -> Domain:
        """The part of the domain where a loop stands at one place."""
        part = Domain(self.loops, self.inner)
        part.full, part.row, part.column = (
            index + (constant(place) - of_loop(loop)) * index.terms.get(loop, 0)
            for index in (self.full, self.row, self.column)
        )
        return part

    @property
    def runs(self) -> tuple[tuple[bool, int], ...]:
        """The lengths of runs of neighbouring outer and inner loops."""
        found: list[tuple[bool, int]] = []
        for loop in self.loops:
            is_inner = loop in self.inner
            if found and found[-1][0] == is_inner:
                found[-1] = (is_inner, found[-1][1] * loop.extent)
            else:
                found.append((is_inner, loop.extent))
        return tuple(found)

    @property
    def inner_trails(self) -> bool:
        """Do all inner loops come after the others?"""
        flags = [loop in self.inner for loop in self.loops]
        return flags == sorted(flags)

    def in_row(self, flat: Index) -> bool:
        """Does an index into a full array stay in the row that is being worked on?"""
        if not self.inner_trails:
            return False
        rest = flat - self.row * self.width
        for atom in rest.terms:
            if any(depends(atom, loop) for loop in self.loops if loop not in self.inner):
                if not hasattr(atom, "bounds"):
                    return False
        low, high = rest.range()
        return low >= 0 and high < self.width


def enumerate_loops(loops: Sequence[Loop]) -> Index:
    """The row-major position in a box of loops."""
    flat, stride = ZERO, 1
    for loop in reversed(loops):
        flat = flat + of_loop(loop) * stride
        stride *= loop.extent
    return flat if loops else constant(0)


def mergeable(uses: Sequence[Index], outer: Loop, inner: Loop) -> bool:
    """May two neighbouring loops become one in all the indices that are used?"""
    return all(moves_as_one(index, outer, inner) for index in uses)


def moves_as_one(index: Index, outer: Loop, inner: Loop) -> bool:
    for atom in index.terms:
        nested = getattr(atom, "index", None) or getattr(atom, "at", None)
        if isinstance(nested, Index) and not moves_as_one(nested, outer, inner):
            return False
    return index.terms.get(outer, 0) == index.terms.get(inner, 0) * inner.extent
