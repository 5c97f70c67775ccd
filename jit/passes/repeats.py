"""Finds steps that were written out one after the other, in the statements of a block.

Steps repeat when statement for statement they do the same, and their operands follow a pattern: a
value of this step or of one just before, one that all of them share, a literal of each, or what a
repetition further up left at the same step, or at those from the last to the first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Sequence
from typing import NamedTuple, TypeAlias

from jit.loop_ir.builder import literal_key
from jit.loop_ir.nodes import (
    INTRINSICS,
    LANEWISE,
    Block,
    Buffer,
    Const,
    DType,
    Load,
    Op,
    Store,
    Value,
    operands,
)

LEAST = 64
"""A repetition is of at least so many statements behind its first step."""
LEAST_STEPS, LEAST_SHORT = 8, 24
"""And of so many steps, or statements where steps are short."""
LAGS = 4
"""A step reads of so many steps before it at most."""
HEAVY = INTRINSICS | {"div", "sqrt"}
"""A step has one of these, or a store, or reads what such steps have left: what a lowering writes
out, such as a product, does not.
"""
GRAM, TRIES = 6, 4
"""Periods that are tried: how far the same so many statements stand off when they come again."""

Operand: TypeAlias = Value | None
HERE = "made in this block"
DEPTH = 4
"""Operations on top of each other that are made in no loop and may be made in one again."""


class Same(NamedTuple):
    """One value in all steps."""

    value: Operand


class Each(NamedTuple):
    """A literal of each step."""

    dtype: DType
    values: list[int | float | bool]


class Element(NamedTuple):
    """Element first + way * the number of the step of a buffer that nobody writes to."""

    buffer: Buffer
    first: int
    way: int


class Lag(NamedTuple):
    """What statement `slot` of this repetition, or of one in the same loop, made so many steps
    before; `inits` are those of the first steps.
    """

    of: int
    slot: int
    steps: int
    inits: tuple[Value, ...]


class Left(NamedTuple):
    """What statement `slot` of a repetition in another loop made at step first + way * this one.

    `inits` are those of the first steps, which are not counted then.
    """

    of: int
    slot: int
    first: int
    way: int
    inits: tuple[Value, ...]


class Again(NamedTuple):
    """An operation on such operands, which had moved out of the loops around the block."""

    dtype: DType
    name: str
    args: list[Source]


Source: TypeAlias = "Same | Each | Element | Again | Lag | Left"


class Repeat(NamedTuple):
    """So many steps of `period` statements each, from statement `first` on.

    sources[s]: where the operands of statement s of a step come from. loop: the number of the
    repetition in whose loop they are.
    """

    first: int
    period: int
    steps: int
    sources: list[list[Source]]
    loop: int

    @property
    def stop(self) -> int:
        return self.first + self.period * self.steps

    @property
    def saved(self) -> int:
        return (self.steps - 1) * self.period


class Pattern(NamedTuple):
    """Where an operand is made: at statement `start` for step `lag`, then each time `way` on.

    For the steps before, it is made before all steps, the first of which is at `first`.
    """

    start: int
    way: int
    lag: int
    first: int

    def length(self, places: Sequence[int]) -> int:
        """How many steps follow it, whose operands are made at these places."""
        lag, start, way = self.lag, self.start, self.way
        if any(place >= self.first for place in places[:lag]):
            return 0
        wanted = [start + way * k for k in range(len(places) - lag)]
        if wanted == places[lag:]:
            return len(places)
        pairs = zip(wanted, places[lag:], strict=True)
        return lag + next(k for k, (a, b) in enumerate(pairs) if a != b)


class Span(NamedTuple):
    """Steps of `period` statements each."""

    first: int
    period: int
    stop: int

    @property
    def steps(self) -> int:
        return (self.stop - self.first) // self.period


NONE = Pattern(-2, 0, 0, 0)
"""No operand follows it."""


def outside(values: Sequence[Operand]) -> tuple[Source, int]:
    """An operand that is made outside the block, in statements of equal tokens, and how many of the
    steps it is right for.
    """
    first, steps = values[0], len(values)
    if all(value is first for value in values):
        return Same(first), steps
    match first:
        case Const():
            return literals([value for value in values if type(value) is Const]), steps
        case Load():
            return elements([value for value in values if type(value) is Load])
        case Op():
            ops = [value for value in values if type(value) is Op]
            columns = zip(*[op.args for op in ops], strict=True)
            args = [outside(column) for column in columns]
            again = Again(first.dtype, first.name, [source for source, _ in args])
            return again, min(length for _, length in args)
        case _:
            return Same(first), 1


def literals(values: Sequence[Const]) -> Source:
    """0.0 and -0.0 differ, NaN equals itself."""
    if len(set(map(literal_key, values))) == 1:
        return Same(values[0])
    return Each(values[0].dtype, [literal.value for literal in values])


def elements(loads: Sequence[Load]) -> tuple[Source, int]:
    """Of one buffer, as far as their literal offsets are evenly spaced."""
    offsets = [int(load.offset.value) for load in loads if type(load.offset) is Const]
    first, way = offsets[0], offsets[1] - offsets[0]
    wanted = [first + way * k for k in range(len(offsets))]
    pairs = enumerate(zip(offsets, wanted, strict=True))
    return Element(loads[0].buffer, first, way), next(
        (k for k, (a, b) in pairs if a != b), len(loads)
    )


class Finder:
    """The repetitions of one block, in order; none overlaps another.

    reads: what each statement reads
    places: where a value is made; origins: those of what each statement reads, or -1
    heavy: how many statements before one are heavy; owners: which repetition a statement belongs to
    tokens: a number for each statement, equal where they may be the same one of two steps: what
    these have in common of an operand is all but where it is made, and which literal it is
    """

    def __init__(self, block: Block, written: Container[str]) -> None:
        """written: the names of the buffers that are written to while the block runs."""
        self.stmts = block.stmts
        self.reads: list[tuple[Operand, ...]] = []
        self.places: dict[Operand, int] = {}
        self.origins: list[list[int]] = []
        self.heavy = [0]
        self.tokens: list[int] = []
        self.found: list[Repeat] = []
        self.owners = [-1] * len(block.stmts)
        numbers: dict[object, int] = {}
        places = self.places
        for place, stmt in enumerate(block.stmts):
            read = operands(stmt)
            kinds = [HERE if a in places else self.kind(a, written) for a in read]
            key: object = place  # like no other
            heavy = 0
            if type(stmt) is Op:
                heavy = stmt.name in HEAVY
                key = (stmt.name, stmt.dtype, *kinds)
                places[stmt] = place
            elif type(stmt) is Load:
                key = (Load, stmt.buffer.name, *kinds)
                places[stmt] = place
            elif type(stmt) is Store:
                heavy = 1
                key = (Store, stmt.buffer.name, *kinds)
            self.heavy.append(self.heavy[-1] + heavy)
            self.reads.append(read)
            self.origins.append([places.get(a, -1) for a in read])
            self.tokens.append(numbers.setdefault(key, len(numbers)))

    def kind(self, operand: Operand, written: Container[str], depth: int = 0) -> object:
        """What all steps have in common of an operand from elsewhere."""
        if type(operand) is Const:
            return operand.dtype
        match operand:
            case Load(buffer=buffer, offset=Const(), where=None) if buffer.name not in written:
                return buffer.name
            case Op() if depth < DEPTH and operand.name not in LANEWISE:
                kinds = [self.kind(a, written, depth + 1) for a in operand.args]
                return (operand.name, operand.dtype, *kinds)
            case _:
                return operand

    def run(self) -> list[Repeat]:
        tokens = self.tokens
        keys = [tuple(tokens[i : i + GRAM]) for i in range(len(tokens) - GRAM + 1)]
        grams: dict[tuple[int, ...], list[int]] = {}
        for i, key in enumerate(keys):
            grams.setdefault(key, []).append(i)
        at = 0
        while at < len(keys):
            best = self.best(at, grams[keys[at]])
            if best is None:
                at += 1
                continue
            self.owners[at : best.stop] = [len(self.found)] * (best.stop - at)
            self.found.append(best)
            at = best.stop
        return self.found

    def best(self, at: int, alike: Sequence[int]) -> Repeat | None:
        """The repetition from a statement on that saves most."""
        after = bisect_right(alike, at)
        if len(alike) - after < LEAST_STEPS - 2:
            return None
        found = [self.repeat(at, other - at) for other in alike[after : after + TRIES]]
        known = [repeat for repeat in found if repeat is not None and self.pays(repeat)]
        return max(known, key=lambda repeat: repeat.saved, default=None)

    def pays(self, repeat: Repeat) -> bool:
        """Is it long enough for a loop, or in one that is there?"""
        return repeat.saved >= LEAST or repeat.loop < len(self.found)

    def repeat(self, first: int, period: int) -> Repeat | None:
        """As many steps of a period as follow one pattern."""
        patterns = self.patterns(first, period)
        if patterns is None:
            return None
        span = Span(first, period, self.stop(first, period, patterns))
        sources = [
            [self.source(place, k, pattern, span) for k, pattern in enumerate(row)]
            for place, row in enumerate(patterns, first)
        ]
        together = self.in_loop(span, sources)
        if together is not None:
            return together
        if any(type(s) is Left and s.inits for row in sources for s in row):
            return None  # a later start has none of these
        return Repeat(first, period, span.steps, sources, len(self.found))

    def may_repeat(self, first: int, period: int) -> bool:
        """Do a few steps look alike, and does one differ from the next as it should?"""
        tokens, owners = self.tokens, self.owners
        stop = first + max(LEAST_STEPS * period, LEAST_SHORT)
        if tokens[first : stop - period] != tokens[first + period : stop]:
            return False
        heavy = self.heavy[first] < self.heavy[first + period]
        if not heavy and not self.found:
            return False
        here = first + (LEAST_STEPS - 1) * period
        steps = self.origins[here - period : here], self.origins[here : here + period]
        pairs = zip(*steps, strict=True)
        for before, after in pairs:
            for a, b in zip(before, after, strict=True):
                if a != b and b < first:
                    # What another repetition left makes a step worth a loop too.
                    if owners[b] < 0:
                        return False
                    heavy = True
                elif a != b and b - a != period:
                    return False
        return heavy

    def patterns(self, first: int, period: int) -> list[list[Pattern | None]] | None:
        """Those of the operands of each statement, if a few steps follow them."""
        if not self.may_repeat(first, period):
            return None
        stop = first + LEAST_STEPS * period
        patterns: list[list[Pattern | None]] = []
        for place in range(first, first + period):
            row: list[Pattern | None] = []
            for k in range(len(self.reads[place])):
                row.append(self.pattern(self.made_at(place, k, stop, period), first, period))
                if self.length(place, k, row[-1], stop, period) < LEAST_STEPS:
                    return None
            patterns.append(row)
        return patterns

    def stop(self, first: int, period: int, patterns: Sequence[Sequence[Pattern | None]]) -> int:
        """Where the steps that follow the patterns end."""
        tokens, stop = self.tokens, first + LEAST_STEPS * period
        while stop < len(tokens) and tokens[stop] == tokens[stop - period]:
            stop += 1
        stop -= (stop - first) % period
        for place, row in enumerate(patterns, first):
            for k, pattern in enumerate(row):
                length = self.length(place, k, pattern, stop, period)
                stop = min(stop, first + length * period)
        return stop

    def values(self, place: int, k: int, stop: int, period: int) -> list[Operand]:
        """Operand k of a statement in each step."""
        return [reads[k] for reads in self.reads[place:stop:period]]

    def made_at(self, place: int, k: int, stop: int, period: int) -> list[int]:
        """Where operand k of a statement is made in each step; -1 for one from elsewhere."""
        return [origins[k] for origins in self.origins[place:stop:period]]

    def pattern(self, places: Sequence[int], first: int, period: int) -> Pattern | None:
        """What the last of a few steps and the one before it have in common, if they must."""
        step = LEAST_STEPS - 1
        place, before = places[step], places[step - 1]
        if place < 0:
            return None  # see `outside`
        if place >= first:
            ago, slot = divmod(place - first, period)
            lag, start, way = step - ago, first + slot, period
        else:
            way, lag, owner = place - before, step, self.owner(place)
            while lag and places[lag - 1] == places[lag] - way:
                if self.owner(places[lag - 1]) != owner:
                    break
                lag -= 1
            start = places[lag]
        return Pattern(start, way, lag, first) if lag <= LAGS else NONE

    def length(self, place: int, k: int, pattern: Pattern | None, stop: int, period: int) -> int:
        """How many steps follow a pattern, what other repetitions made included."""
        if pattern is None:
            return outside(self.values(place, k, stop, period))[1]
        places = self.made_at(place, k, stop, period)
        length = pattern.length(places)
        if pattern.start >= pattern.first:
            return length
        if not pattern.way:
            return 0 if pattern.lag else length
        owner = self.owner(pattern.start)
        if owner < 0 or abs(pattern.way) != self.found[owner].period:
            return 0
        owners = [self.owners[place] for place in places[pattern.lag : length]]
        return next((pattern.lag + k for k, o in enumerate(owners) if o != owner), length)

    def owner(self, place: int) -> int:
        """The repetition that a statement belongs to, if any."""
        return -1 if place < 0 else self.owners[place]

    def source(self, place: int, k: int, pattern: Pattern | None, span: Span) -> Source:
        """Where operand k of a statement comes from."""
        values = self.values(place, k, span.stop, span.period)
        if pattern is None:
            return outside(values)[0]
        inits = tuple([value for value in values[: pattern.lag] if value is not None])
        if pattern.start >= span.first:
            return Lag(len(self.found), pattern.start - span.first, pattern.lag, inits)
        if not pattern.way:
            return Same(values[0])
        owner = self.owners[pattern.start]
        other = self.found[owner]
        step, slot = divmod(pattern.start - other.first, other.period)
        return Left(owner, slot, step, 1 if pattern.way > 0 else -1, inits)

    # Repetitions that go together

    def in_loop(self, span: Span, sources: Sequence[Sequence[Source]]) -> Repeat | None:
        """The repetition in the loop of another, which is all it waits for."""
        loops = {self.found[s.of].loop for row in sources for s in row if type(s) is Left}
        if len(loops) != 1:
            return None
        (loop,) = loops
        first = self.found[loop]
        period = self.stmts[span.first : span.first + span.period]
        if span.steps != first.steps or not all(type(stmt) is Op for stmt in period):
            return None
        if not all(self.is_there(s, first.first) for row in sources for s in row):
            return None
        joined = [
            [Lag(s.of, s.slot, len(s.inits), s.inits) if type(s) is Left else s for s in row]
            for row in sources
        ]
        return Repeat(span.first, span.period, span.steps, joined, loop)

    def is_there(self, source: Source, at: int) -> bool:
        """Is a source known before statement `at`, or made in the same loop by then?"""
        match source:
            case Left():
                known = all(self.places.get(value, -1) < at for value in source.inits)
                return known and source.first == 0 and source.way == 1
            case Lag():
                return all(self.places.get(value, -1) < at for value in source.inits)
            case Same():
                return self.places.get(source.value, -1) < at
            case Each() | Element() | Again():
                return True
