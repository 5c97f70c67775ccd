"""Position: where a trace stands in the memo, what it met on the way, and what runs its segments.

A trace is one object, whose class is a chain of parts, since its operations are too short to go
from one object to another. Each part uses those before it alone: capturing.py (values from
outside), equations.py (what is recorded), noting.py and walking.py (the memo), asking.py and
forcing.py (values that are asked for), recording.py (the interpreter).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from functrans.memo.trie import DEAD, Leaf, Root, Step
from functrans.tracing import Node, Tracer


class Position:
    """Where a trace stands, for fast paths to read and move on.

    cursor    the step a following trace stands at; DEAD while it does not follow, or is suspended
    parked    where a suspended trace stands
    spot      the step a noting trace stands at
    tape      runs the trace segment by segment, where it does; `restarted`: has one been run?
    older     the tracers of earlier segments that this one reads, and their places among `ins`
    outermost is what is bound or called next an edge of the trie?
    memoised  is it in the trie, or has it been?
    made      the tracers that the steps on the way have made
    twins     by id, others for the same values, and those that were written to
    ins       the values from outside that were met on the way
    given     the arguments, their values outside, and what messages call them
    """

    __slots__ = ("cursor", "ins", "made", "older", "tape", "thread", "twins")

    cursor: Step
    ins: list[Any]
    made: list[Tracer]
    older: list[tuple[Tracer, Node, int]]
    tape: Tape | None
    thread: int
    twins: dict[int, Tracer]

    given: list[tuple[Tracer, Any, str | None]]
    parked: Step = DEAD
    spot: Step | None = None
    outermost = False
    memoised = False
    no_grad = False
    restarted = False
    purpose: str
    _root: Root | None = None


class Program(Protocol):
    """How a segment runs where derivatives are wanted of some inputs.

    `offsets` has the number of each result among those that carry a derivative; -1 for the others.
    """

    offsets: list[int]


class Tape(Protocol):
    """Runs a trace segment by segment, and remembers what its derivative needs.

    Values that carry a derivative are numbered: a cell is the number of one. The arguments come
    first, carrying or not: `active` says which do.
    """

    active: Sequence[bool]

    def program(self, leaf: Leaf, active: tuple[bool, ...]) -> Any:
        """How a segment runs whose inputs carry derivatives so."""
        ...

    def run(self, program: Any, values: list[Any], cells: list[int]) -> tuple[list[Any], int]:
        """The results of a segment, and maybe more, and the first cell of those that carry.

        `cells` are those of the inputs that carry a derivative.
        """
        ...
