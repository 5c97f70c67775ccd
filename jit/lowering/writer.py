"""The walk that writes: elements of fused expressions become loop IR values.

Invariant: a value is remembered at the depth of the loops its point depends on, and forgotten
when they close, so that what is found in the memo may always be used.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any

import numpy as np

from functrans.extend import Aval, Eqn, Var
from jit.loop_ir.builder import Builder
from jit.loop_ir.builder import Loop as OpenLoop
from jit.loop_ir.nodes import Buffer, Const, Value
from jit.lowering.index import Divided, Dynamic, Index, Loop, Point, loops_in
from jit.lowering.rules import INDEXED, SCALARS, Element, Pair, is_complex, loop_dtype
from jit.lowering.walk import BaseWalk, decided

Memo = dict[tuple[Index, int], dict[Var, Any]]
"""Elements that are known at a point, by its index and its mask."""
SMALL = 1 << 31
"""Indices below it are divided in 32 bits."""


class Writer(BaseWalk):
    """Evaluates elements into a Builder.

    buffers  where stored variables lie
    memos    what was evaluated, in each open loop or branch, the outermost first; `held`: elements
             of stored variables that were just made, which need not be read back
    rows     of variables that keep one row at a time: where in the row an element lies
    floor    the depth of the innermost branch, which nothing that is computed in it may leave
    """

    def __init__(
        self,
        builder: Builder,
        producers: Mapping[Var, Eqn],
        stored: AbstractSet[Var],
        buffers: dict[Var, Buffer],
    ) -> None:
        super().__init__(producers, stored)
        self.b = builder
        self.buffers = buffers
        self.memos: list[Memo] = [{}]
        self.held: list[dict[tuple[Var, Index], Element]] = [{}]
        self.rows: dict[Var, Callable[[Index], Index]] = {}
        self.floor = 0

    # loops

    @contextmanager
    def kernel(self, name: str) -> Generator[None]:
        """Open a kernel: nothing is known at its start."""
        self.memos, self.held = [{}], [{}]
        with self.b.kernel(name):
            yield

    @contextmanager
    def loop(self, loop: Loop, opened: OpenLoop, start: int | Value = 0) -> Generator[OpenLoop]:
        """Open a loop of a nest in the program, or the part of it that begins at `start`."""
        with opened:
            loop.value = self.b.add(opened.i, start)
            loop.level = len(self.b.scopes) - 1
            with self.scope():
                yield opened
        loop.value = None

    @contextmanager
    def scope(self) -> Generator[None]:
        """What is learnt in the block is forgotten after it."""
        self.memos.append({})
        self.held.append({})
        yield
        self.memos.pop()
        self.held.pop()

    def branch(
        self, cond: bool | Value, then: Callable[[], None], orelse: Callable[[], None] | None = None
    ) -> None:
        """Write then() where `cond` holds, else orelse(). What they compute stays inside."""
        if isinstance(cond, bool):
            chosen = then if cond else orelse
            if chosen is not None:
                chosen()
            return
        opened = self.b.if_(cond)
        for block, body in ((opened.then, then), (opened.orelse, orelse)):
            with block():
                floor, self.floor = self.floor, len(self.b.scopes) - 1
                with self.scope():
                    if body is not None:
                        body()
                self.floor = floor

    def depth(self, index: Index, mask: Value | None = None) -> int:
        """The depth of the innermost loop that an index or a mask depends on, or of the branch."""
        deepest = max((loop.level for loop in loops_in(index)), default=0)
        deepest = max(deepest, self.floor)
        if mask is not None:
            deepest = max(deepest, mask.level)
        return min(deepest, len(self.memos) - 1)

    # the walk

    def memo(self, point: Point) -> dict[Var, Any]:
        mask = point.mask
        key = (point.flat, 0 if mask is None else id(mask))
        return self.memos[self.depth(point.flat, mask)].setdefault(key, {})

    def hold(self, var: Var, flat: Index, element: Element) -> None:
        """Remember an element of a stored variable, so that it is not read back from memory."""
        self.held[self.depth(flat)][var, flat] = element

    def read(self, var: Var, point: Point) -> Element:
        flat = point.flat
        for known in self.held:
            if (var, flat) in known:
                return known[var, flat]
        buffer = self.buffers[var]
        place = self.rows.get(var)
        if place is None:
            return self.load(buffer, var.aval, flat, point.mask)
        # A row's memory holds another row in each turn of the loops over rows: the load stays in
        # them, even where its place in the row is the same in all.
        return self.load(buffer, var.aval, place(flat), point.mask, flat)

    def load(
        self,
        buffer: Buffer,
        aval: Aval,
        flat: Index,
        mask: Value | None,
        varies: Index | None = None,
    ) -> Element:
        """An element of a buffer, loaded in the outermost loop where its place is known.

        `varies` is what its contents depend on, where that is more than the place.
        """
        with self.hoisted(self.depth(flat if varies is None else varies, mask)):
            if is_complex(aval.dtype):
                twice = flat * 2
                return Pair(
                    self.b.load(buffer, self.number(twice), mask),
                    self.b.load(buffer, self.number(twice + 1), mask),
                )
            return self.b.load(buffer, self.number(flat), mask)

    def store(
        self, buffer: Buffer, flat: Index, element: Element, where: Value | None = None
    ) -> None:
        """buffer[flat] = element."""
        if isinstance(element, Pair):
            twice = flat * 2
            self.b.store(buffer, self.number(twice), element.re, where)
            self.b.store(buffer, self.number(twice + 1), element.im, where)
        else:
            self.b.store(buffer, self.number(flat), element, where)

    @contextmanager
    def hoisted(self, level: int) -> Generator[None]:
        """Append in the open loop at `level`, in front of the loops inside it."""
        scopes = self.b.scopes
        if level >= len(scopes) - 1:
            yield
            return
        self.b.scopes = scopes[: level + 1]
        try:
            yield
        finally:
            self.b.scopes = scopes

    def literal(self, dtype: np.dtype[Any], value: Any) -> Element:
        kind = loop_dtype(dtype)
        if is_complex(dtype):
            number = complex(value)
            return Pair(self.b.const(kind, number.real), self.b.const(kind, number.imag))
        return self.b.const(
            kind, dtype.type(value).item() if dtype.kind in "biuf" else float(value)
        )

    def indexed(self, eqn: Eqn, point: Point) -> Any:
        return INDEXED[eqn.primitive](self, eqn, point)

    def apply(self, eqn: Eqn, operands: list[Any]) -> list[Any]:
        rule = SCALARS[eqn.primitive]
        paired = any(isinstance(x, Pair) for x in operands)
        function = rule.paired if paired else rule.real
        if function is None:
            kinds = ", ".join(a.aval.dtype.name for a in eqn.inputs)
            raise TypeError(f"{eqn.primitive.name} has no lowering for {kinds}")
        result = function(self.b, *operands, **eqn.params)
        return result if isinstance(result, list) else [result]

    # indices as values

    def number(self, index: Index) -> Value:
        """An index as an i64, outer loops first so that the builder hoists partial sums."""
        ordered = sorted(index.terms.items(), key=lambda term: self.atom_depth(term[0]))
        total: Value = self.b.index(index.const if not ordered else 0)
        for atom, factor in ordered:
            total = self.b.add(total, self.b.mul(self.atom_value(atom), self.b.index(factor)))
        return self.b.add(total, self.b.index(index.const)) if ordered and index.const else total

    def atom_depth(self, atom: Loop | Dynamic | Divided) -> int:
        match atom:
            case Loop():
                return atom.level
            case Divided():
                return self.depth(atom.index)
            case Dynamic():
                return self.depth(atom.at)

    def atom_value(self, atom: Loop | Dynamic | Divided) -> Value:
        match atom:
            case Loop():
                assert atom.value is not None
                return atom.value
            case Dynamic():
                assert atom.value is not None
                return atom.value
            case Divided():
                return self.divided(atom)

    def divided(self, atom: Divided) -> Value:
        """A quotient or remainder, in 32 bits where the range allows: vectors divide those."""
        b, inner = self.b, self.number(atom.index)
        low, high = atom.index.range()
        if low < 0 or high >= SMALL:
            name = "floordiv" if atom.quotient else "mod"
            return b.op(name, inner, b.index(atom.divisor))
        narrow = b.op("div" if atom.quotient else "rem", b.cast(inner, "u32"), atom.divisor)
        return b.cast(narrow, "i64")

    def compare(self, name: str, index: Index, bound: int) -> bool | Value:
        known = decided(name, index, bound)
        if known is not None:
            return known
        return self.b.op(name, self.number(index), self.b.index(bound))

    def both(self, a: bool | Value, b: bool | Value) -> bool | Value:
        if a is True or b is False:
            return b
        if b is True or a is False:
            return a
        return self.b.and_(a, b)

    def choose(self, cond: bool | Value, then: Callable[[], Any], orelse: Callable[[], Any]) -> Any:
        if isinstance(cond, bool):
            return then() if cond else orelse()
        return selected(self.b, cond, then(), orelse())

    def dynamic(self, key: object, value: Value, bounds: tuple[int, int], at: Index) -> Index:
        if isinstance(value, Const):
            return Index(int(value.value), {})
        return Index(0, {Dynamic(key, bounds, at, value): 1})


def selected(b: Builder, cond: Value, then: Element, orelse: Element) -> Element:
    """then where cond, else orelse, of values or pairs."""
    if isinstance(then, Pair):
        assert isinstance(orelse, Pair)
        return Pair(b.select(cond, then.re, orelse.re), b.select(cond, then.im, orelse.im))
    assert not isinstance(orelse, Pair)
    return b.select(cond, then, orelse)
