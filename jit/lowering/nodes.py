"""The nodes that fusion places: each fills a stored variable, or checks indices, over a domain.

A node takes a role in the nest it is placed in:

full        one element per element of the domain         map, part, check
row         one element per row                           map, part, check
row_fold    folds the inner loops of each row             fold
column_fold folds the rows, one element per column        fold
full_total  folds the whole domain into one element       fold
row_total   folds one element per row into one            fold
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeAlias

from functrans.extend import Atom, Eqn, Var
from jit.lowering.domain import Domain
from jit.lowering.index import Index, Point, Shape, ravel
from jit.lowering.indexing import check_indices, indices_of
from jit.lowering.rules import Fold, Walk

Role: TypeAlias = Literal["full", "row", "row_fold", "column_fold", "full_total", "row_total"]
"""How a node runs in a kernel: at each element (full) or once for each row (row); a fold along each
row (row_fold), down the rows for each column (column_fold), or of all elements or rows into one
(full_total, row_total)."""


@dataclass(eq=False)
class MapNode:
    """Stores `var`, computed by its equation at every position."""

    var: Var
    eqn: Eqn

    @property
    def target(self) -> Var | None:
        return self.var

    @property
    def size(self) -> int:
        return self.var.aval.size

    def domain(self) -> Domain:
        return Domain.of_shape(self.var.aval.shape)

    def evaluate(self, walk: Any, domain: Domain, role: Role) -> Any:
        return walk.compute(self.var, Point(self.var.aval.shape, flat=place(domain, role)))

    def stored_at(self, domain: Domain, role: Role) -> Index:
        return place(domain, role)


@dataclass(eq=False)
class PartNode:
    """Stores `atom` as the part of `var` that begins at `start` along `axis`."""

    atom: Atom
    var: Var
    axis: int
    start: int
    eqn: Eqn

    @property
    def target(self) -> Var | None:
        return self.var

    @property
    def size(self) -> int:
        return self.atom.aval.size

    def domain(self) -> Domain:
        return Domain.of_shape(self.atom.aval.shape)

    def evaluate(self, walk: Any, domain: Domain, role: Role) -> Any:
        point = Point(self.atom.aval.shape, flat=place(domain, role))
        walk.part_position(self.position(walk, domain, role))
        return walk.value(self.atom, point)

    def position(self, walk: Walk, domain: Domain, role: Role) -> Index:
        """Where in `var` the element goes."""
        multi = list(walk.unraveled(place(domain, role), self.atom.aval.shape))
        multi[self.axis] = multi[self.axis] + self.start
        return ravel(multi, self.var.aval.shape)


@dataclass(eq=False)
class CheckNode:
    """Fails where an index of `eqn` is outside its axis; stores nothing."""

    eqn: Eqn

    @property
    def target(self) -> Var | None:
        return None

    @property
    def size(self) -> int:
        return indices_of(self.eqn)[0].aval.size

    def domain(self) -> Domain:
        return Domain.of_shape(indices_of(self.eqn)[0].aval.shape)

    def evaluate(self, walk: Any, domain: Domain, role: Role) -> None:
        shape = indices_of(self.eqn)[0].aval.shape
        check_indices(walk, self.eqn, Point(shape, flat=place(domain, role)))


@dataclass(eq=False)
class FoldNode:
    """Stores `var`, a reduction."""

    var: Var
    fold: Fold
    eqn: Eqn

    @property
    def target(self) -> Var | None:
        return self.var

    @property
    def size(self) -> int:
        return prod(self.fold.extents)

    def split(self, want: bool) -> Shape:
        """The extents of the axes that are reduced, or of the others."""
        pairs = zip(self.fold.extents, self.fold.reduced, strict=True)
        return tuple(n for n, r in pairs if r == want)

    def domain(self) -> Domain:
        return Domain.of_fold(self.fold.extents, self.fold.reduced)

    def evaluate(self, walk: Any, domain: Domain, role: Role) -> Any:
        return self.fold.element(walk, self.indices(walk, domain, role))

    def indices(self, walk: Walk, domain: Domain, role: Role) -> Sequence[Index]:
        """The position in the fold's own domain."""
        match role:
            case "row_fold" | "column_fold":
                turned = role == "column_fold"
                outer, inner = self.split(turned), self.split(not turned)
                by_row = iter(walk.unraveled(domain.row, outer))
                by_column = iter(walk.unraveled(domain.column, inner))
                return [next(by_column if r != turned else by_row) for r in self.fold.reduced]
            case "row_total":
                return walk.unraveled(domain.row, self.fold.extents)
            case _:
                return walk.unraveled(domain.full, self.fold.extents)


Node: TypeAlias = MapNode | PartNode | CheckNode | FoldNode


def place(domain: Domain, role: Role) -> Index:
    """The position a map-like node is at."""
    return domain.row if role == "row" else domain.full
