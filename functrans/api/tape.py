"""The tape: a function that asks for values runs segment by segment, and back in reverse mode.

Each segment between two asks is one program, which the memo knows; a loop of any length is one such
program run many times. Values are numbered: a cell is the number of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from functrans.api.border import unaliased
from functrans.bind import TRACING, eval_jaxpr, in_force, rest
from functrans.errors import ConcretizationError
from functrans.ir import Jaxpr, is_inexact
from functrans.memo.trie import Leaf
from functrans.transforms import Linearized, linearize_jaxpr, transpose_jaxpr

Flags = tuple[bool, ...]


class Back(NamedTuple):
    """The backward program for some of the results, and the inputs whose cotangents it gives."""

    jaxpr: Jaxpr
    places: list[int]


class Program:
    """How a segment runs where derivatives are wanted of some inputs.

    `moving` says which results carry a derivative. `linear` is None where the derivative cannot be
    staged yet, as that of a custom rule inside the rule itself: it is tried again if it is needed.
    """

    __slots__ = ("_backs", "active", "jaxpr", "linear", "moves", "moving")

    def __init__(self, jaxpr: Jaxpr, active: Flags) -> None:
        self.jaxpr, self.active = jaxpr, active
        self.linear: Linearized | None = None
        self.moving = tuple(is_inexact(a.dtype) for a in jaxpr.out_avals)
        with suppress(ConcretizationError):
            self.linear = linearize_jaxpr(jaxpr, active)
            self.moving = self.linear.out_nonzero
        self.moves = [i for i, flag in enumerate(self.moving) if flag]
        self._backs: dict[Flags, Back] = {}

    def back(self, linear: Linearized, given: Flags) -> Back:
        """The backward program for these of the results that may move."""
        found = self._backs.get(given)
        if found is None:
            flags = (False,) * linear.num_residuals + (True,) * sum(self.active)
            jaxpr, nonzero = transpose_jaxpr(linear.tangent, flags, given)
            inputs = [i for i, flag in enumerate(self.active) if flag]
            places = [i for i, flag in zip(inputs, nonzero, strict=True) if flag]
            found = self._backs[given] = Back(jaxpr, places)
        return found


class Run(NamedTuple):
    """A segment as it was run: the cells it read, its first result's, what its derivative needs."""

    program: Program
    cells: list[int]
    first: int
    residuals: list[Any]


class Tape:
    """Runs segments; `active` says which values so far, arguments first, carry a derivative."""

    __slots__ = ("active", "runs")

    def __init__(self, active: Sequence[bool]) -> None:
        self.active = list(active)
        self.runs: list[Run] = []

    def run(self, leaf: Leaf, values: list[Any], cells: list[int]) -> tuple[list[Any], int]:
        """The outputs of a segment, and the number of the first one's cell."""
        first, known = len(self.active), self.active
        active = tuple([c >= 0 and known[c] for c in cells])
        program: Program | None = leaf.ready.get(active)
        if program is None:
            program = leaf.ready[active] = Program(leaf.jaxpr, active)
        known += program.moving
        linear, count = program.linear, len(program.moving)
        outer, depth = rest()
        try:
            raw = eval_jaxpr(leaf.jaxpr if linear is None else linear.primal, values)
        finally:
            in_force.interpreter = outer
            TRACING[0] += depth
            outer.resume()
        if program.moves:
            residuals = unaliased(values if linear is None else raw[count:], values)
            self.runs.append(Run(program, cells, first, residuals))
        return raw[:count], first

    def pull(self, bars: dict[int, Any]) -> dict[int, Any]:
        """The cotangents of the arguments, by cell, from those of any values; no zeros."""
        with np.errstate(all="ignore"):
            for run in reversed(self.runs):
                pull_one(run, bars)
        return bars


def pull_one(run: Run, bars: dict[int, Any]) -> None:
    """Replace the cotangents of a segment's results by what they add to those of its inputs."""
    program, cells, first, residuals = run
    found = [bars.pop(first + i, None) for i in program.moves]
    given = [bar for bar in found if bar is not None]
    if not given:
        return
    linear = program.linear
    if linear is None:
        linear = linearize_jaxpr(program.jaxpr, program.active)
        residuals = eval_jaxpr(linear.primal, residuals)[len(program.moving) :]
        pairs = zip(program.moves, found, strict=True)
        found = [bar for i, bar in pairs if linear.out_nonzero[i]]
        given = [bar for bar in found if bar is not None]
    back = program.back(linear, tuple([bar is not None for bar in found]))
    for place, bar in zip(back.places, eval_jaxpr(back.jaxpr, [*residuals, *given]), strict=True):
        cell = cells[place]
        known = bars.get(cell)
        bars[cell] = bar if known is None else known + bar


def add_bar(bars: dict[int, Any], cell: int, bar: Any) -> None:
    """Add a cotangent to that of a cell."""
    known = bars.get(cell)
    bars[cell] = bar if known is None else known + bar
