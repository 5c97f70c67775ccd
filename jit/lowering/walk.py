"""The walk that evaluates elements of fused expressions, and the scout that only looks.

Fused equations are never computed as arrays: "the element of v at a point" is built from elements
of its operands. Elementwise equations keep the point and are walked without recursion, so that a
chain may be long; rules that move the point recurse, and fusion bounds how deep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from functrans.extend import Atom, Eqn, Literal, Var
from jit.lowering.index import (
    Dynamic,
    Index,
    Point,
    Shape,
    Splits,
    divide,
    unravel,
)
from jit.lowering.rules import INDEXED, SCALARS, needs_check

COMPLEX = 2.5
"""The cost of an operation on complex values, in ones on real values."""
COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "lt": lambda a, b: a < b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
}


def decided(name: str, index: Index, bound: int) -> bool | None:
    """The truth of a comparison that ranges alone settle."""
    low, high = index.range()
    at_low, at_high = COMPARISONS[name](low, bound), COMPARISONS[name](high, bound)
    if name == "eq":
        return False if bound < low or bound > high else True if low == high else None
    return at_low if at_low == at_high else None


class BaseWalk:
    """What looking and writing share: the order of evaluation and the memo.

    b          what operations are written to: a Builder, or what takes them and does nothing
    producers  the equation that makes each variable, where one does
    stored     the variables that lie in memory: they are read, not computed, where they are met
    splits     collects which loops had better be two; None where that is settled
    """

    b: Any

    def __init__(self, producers: Mapping[Var, Eqn], stored: AbstractSet[Var]) -> None:
        self.producers = producers
        self.stored = stored
        self.splits: Splits | None = None

    # what the two walks do in their own ways

    def memo(self, point: Point) -> dict[Var, Any]:
        """The elements already known at a point."""
        raise NotImplementedError

    def read(self, var: Var, point: Point) -> Any:
        """An element of a stored variable or an input."""
        raise NotImplementedError

    def literal(self, dtype: np.dtype[Any], value: Any) -> Any:
        """A constant element."""
        raise NotImplementedError

    def apply(self, eqn: Eqn, operands: list[Any]) -> list[Any]:
        """The results of an elementwise equation at one position."""
        raise NotImplementedError

    def indexed(self, eqn: Eqn, point: Point) -> Any:
        """The element of an equation that has an index function."""
        raise NotImplementedError

    # evaluation

    def value(self, atom: Atom, point: Point) -> Any:
        """The element of `atom` at `point`."""
        if isinstance(atom, Literal):
            return self.literal(atom.aval.dtype, atom.value)
        return self.evaluate(atom, point, None)

    def compute(self, var: Var, point: Point) -> Any:
        """The element of a stored variable, computed by its equation and not read."""
        return self.evaluate(var, point, var)

    def evaluate(self, var: Var, point: Point, root: Var | None) -> Any:
        """The element of `var`; of `root`, which is stored, it is computed anew and not read.

        Operands wait on a stack of their own, since a chain of equations may be long.
        """
        memo = self.memo(point)
        if var in memo and root is None:
            return memo[var]
        stack = [var]
        while stack:
            top = stack[-1]
            if top in memo and not (top is root and len(stack) == 1):
                stack.pop()
                continue
            eqn = self.producers.get(top)
            if eqn is None or (top in self.stored and top is not root):
                memo[top] = self.read(top, point)
            elif eqn.primitive in SCALARS:
                waiting = [a for a in eqn.inputs if type(a) is Var and a not in memo]
                if waiting:
                    stack.extend(waiting)
                    continue
                self.finish_scalar(eqn, memo)
            else:
                if needs_check(eqn):
                    self.require(eqn)
                memo[top] = self.indexed(eqn, point)
            stack.pop()
            if top is root and not stack:
                break
        return memo[var]

    def finish_scalar(self, eqn: Eqn, memo: dict[Var, Any]) -> None:
        """Note the results of an elementwise equation whose operands are known."""
        operands = [
            memo[a] if isinstance(a, Var) else self.literal(a.aval.dtype, a.value)
            for a in eqn.inputs
        ]
        for out, result in zip(eqn.outputs, self.apply(eqn, operands), strict=True):
            memo[out] = result

    def iota_axis(self, atom: Atom) -> int | None:
        """The axis that `atom` counts along, where it is an iota."""
        eqn = self.producers.get(atom) if isinstance(atom, Var) else None
        is_iota = eqn is not None and eqn.primitive.name == "iota"
        return eqn.params["axis"] if eqn is not None and is_iota else None

    # positions

    def multi(self, point: Point) -> tuple[Index, ...]:
        return point.multi(self.splits)

    def unraveled(self, flat: Index, shape: Shape) -> tuple[Index, ...]:
        return unravel(flat, shape, self.splits)

    def divide(self, index: Index, divisor: int) -> tuple[Index, Index]:
        return divide(index, divisor, self.splits)

    def within(
        self, point: Point, shape: Shape, multi: Sequence[Index], where: Any = True
    ) -> Point:
        """A place in an operand, which is asked for where the point is, and only if `where`."""
        mask = True if point.mask is None else point.mask
        both = self.both(mask, where)
        return Point(shape, multi=multi, mask=None if both is True else both)

    def both(self, a: Any, b: Any) -> Any:
        """Whether two conditions hold, each a bool or a value."""
        raise NotImplementedError

    def require(self, eqn: Eqn) -> None:
        """Note that the check of `eqn` must have run."""

    def part_position(self, index: Index) -> None:
        """Note where a part of a concatenation is written."""


class Nothing:
    """Stands for values while scouting: answers every request with itself."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __iter__(self) -> Any:
        return iter((self, self))

    def __getitem__(self, key: Any) -> Any:
        return self


NOTHING = Nothing()


class Scout(BaseWalk):
    """Looks at what evaluating would do, and writes nothing.

    reads      the elements that are read, and whether each is under a mask at times
    uses       the indices that become numbers; `positions`: those that a part is written to
    compared   the indices that are compared with a bound that does not settle it
    required   the equations whose indices must have been checked before
    visited    what is computed on the way, and `cost`: how much work that is, in simple operations
    wished     how loops should be split
    """

    def __init__(self, producers: Mapping[Var, Eqn], stored: AbstractSet[Var]) -> None:
        super().__init__(producers, stored)
        self.b = NOTHING
        self.wished = Splits()
        self.splits = self.wished
        self.reads: dict[tuple[Var, Index], bool] = {}
        self.uses: list[Index] = []
        self.required: list[Eqn] = []
        self.visited: dict[Var, None] = {}
        self.cost = 0.0
        self.positions: list[Index] = []
        self.compared: list[tuple[Index, int]] = []
        self._memos: dict[tuple[Index, bool], dict[Var, Any]] = {}

    def memo(self, point: Point) -> dict[Var, Any]:
        return self._memos.setdefault((point.flat, point.mask is None), {})

    def read(self, var: Var, point: Point) -> Any:
        key = (var, point.flat)
        self.reads[key] = self.reads.get(key, False) or point.mask is not None
        self.uses.append(point.flat)
        return NOTHING

    def literal(self, dtype: np.dtype[Any], value: Any) -> Any:
        return NOTHING

    def apply(self, eqn: Eqn, operands: list[Any]) -> list[Any]:
        self.cost += scalar_cost(eqn)
        for out in eqn.outputs:
            self.visited[out] = None
        return [NOTHING] * len(eqn.outputs)

    def finish_scalar(self, eqn: Eqn, memo: dict[Var, Any]) -> None:
        """What `apply` does, without operands: programs are looked at several times."""
        self.cost += scalar_cost(eqn)
        for out in eqn.outputs:
            self.visited[out] = None
            memo[out] = NOTHING

    def indexed(self, eqn: Eqn, point: Point) -> Any:
        return INDEXED[eqn.primitive](self, eqn, point)

    def both(self, a: Any, b: Any) -> Any:
        if a is True:
            return b
        return False if a is False or b is False else a

    def number(self, index: Index) -> Any:
        self.uses.append(index)
        self.cost += 1.0
        return NOTHING

    def compare(self, name: str, index: Index, bound: int) -> Any:
        known = decided(name, index, bound)
        if known is not None:
            return known
        self.uses.append(index)
        self.compared.append((index, bound))
        self.cost += 1.0
        return NOTHING

    def choose(self, cond: Any, then: Callable[[], Any], orelse: Callable[[], Any]) -> Any:
        if cond is not False:
            then()
        if cond is not True:
            orelse()
        self.cost += 1.0
        return NOTHING

    def dynamic(self, key: object, value: Any, bounds: tuple[int, int], at: Index) -> Index:
        self.uses.append(at)
        return Index(0, {Dynamic(key, bounds, at): 1})

    def require(self, eqn: Eqn) -> None:
        self.required.append(eqn)

    def part_position(self, index: Index) -> None:
        self.positions.append(index)
        self.uses.append(index)


def scalar_cost(eqn: Eqn) -> float:
    """The cost of an elementwise equation per element, in simple operations."""
    rule = SCALARS.get(eqn.primitive)
    if rule is None:
        return 1.0
    paired = bool(eqn.inputs) and eqn.inputs[-1].aval.dtype.kind == "c"
    return rule.cost * COMPLEX if paired else rule.cost
