"""The tape: a function that asks for values runs segment by segment, and back in reverse mode.

Each segment between two asks is one program, which the memo knows; a loop of any length is one such
program run many times. A cell is the number of a value that carries a derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from functrans import tiers
from functrans.api.border import unaliased, zeros
from functrans.bind import TRACING, eval_jaxpr, in_force, is_evaluating, rest
from functrans.config import config
from functrans.errors import ConcretizationError
from functrans.ir import Jaxpr, is_inexact, jaxprs_in
from functrans.memo.trie import Leaf
from functrans.transforms.linearize import Linearized, linearize_jaxpr
from functrans.transforms.transpose import transpose_jaxpr

Flags = tuple[bool, ...]


class Linear:
    """The backward program for some of the results, or the forward one.

    `places` are the numbers, among the inputs that carry a derivative, of those whose cotangents
    the backward one gives. `native` runs it, once that is there.
    """

    __slots__ = ("jaxpr", "native", "places")

    def __init__(self, jaxpr: Jaxpr, places: list[int]) -> None:
        self.jaxpr, self.places = jaxpr, places
        self.native: tiers.Program | None = None

    def run(self, args: list[Any]) -> list[Any]:
        """What it gives, under the interpreter in force."""
        outs = eval_jaxpr(self.jaxpr, args)
        self.native = self.native or tiers.native_of(self.jaxpr)
        return outs


class Program:
    """How a segment runs where derivatives are wanted of some inputs.

    jaxpr    the segment, and `active`: which inputs carry a derivative, `carried` in number
    forward  what runs: its outputs are the results, `count` in number, and `residuals` more
    native   runs that, once it is there; not where Python that the user wrote would run in it, nor
             where the residuals are not among its outputs
    linear   what comes next; None where the derivative cannot be staged yet, as that of a custom
             rule inside the rule itself: it is tried again if it is needed, and the residuals are
             the inputs
    offsets  the numbers of the results among those that carry a derivative, which are `moved` in
             number; -1 for the others
    span     how much a tape keeps of a run
    whole    the backward program where all of these have a cotangent
    onward   the program of tangents
    """

    __slots__ = (
        "_backs",
        "_is_plain",
        "active",
        "carried",
        "count",
        "forward",
        "jaxpr",
        "linear",
        "moved",
        "native",
        "offsets",
        "onward",
        "residuals",
        "span",
        "whole",
    )

    def __init__(self, jaxpr: Jaxpr, active: Flags) -> None:
        self.jaxpr, self.active = jaxpr, active
        self.linear: Linearized | None = None
        moving = tuple(is_inexact(a.dtype) for a in jaxpr.out_avals)
        self.forward, self.residuals = jaxpr, len(jaxpr.invars)
        with suppress(ConcretizationError):
            self.linear = linearize_jaxpr(jaxpr, active)
            self.forward, self.residuals = self.linear.primal, self.linear.num_residuals
            moving = self.linear.out_nonzero
        numbers = iter(range(len(moving)))
        self.offsets = [next(numbers) if flag else -1 for flag in moving]
        self.count, self.moved, self.carried = len(moving), sum(moving), sum(active)
        self.span = self.residuals + self.carried + 2
        self.native: tiers.Program | None = None
        self._is_plain = self.linear is not None and not _takes_functions(self.forward)
        self.whole: Linear | None = None
        self.onward: Linear | None = None
        self._backs: dict[Flags, Linear] = {}

    def evaluated(self, values: list[Any]) -> tuple[list[Any], list[Any]]:
        """The outputs and the residuals, whatever is staged around it."""
        outer, depth = rest()
        try:
            outs = eval_jaxpr(self.forward, values)
        finally:
            in_force.interpreter = outer
            TRACING[0] += depth
            outer.resume()
        if self._is_plain:
            self.native = self.native or tiers.native_of(self.forward)
        residuals = values if self.linear is None else outs[self.count :]
        return outs, unaliased(residuals, values)

    def back(self, linear: Linearized, given: Flags) -> Linear:
        """The backward program for these of the results that may carry a derivative."""
        found = self._backs.get(given)
        if found is None:
            flags = (False,) * linear.num_residuals + (True,) * self.carried
            jaxpr, nonzero = transpose_jaxpr(linear.tangent, flags, given)
            places = [i for i, flag in enumerate(nonzero) if flag]
            found = self._backs[given] = Linear(jaxpr, places)
        if linear is self.linear and all(given):
            self.whole = found
        return found

    def pulled(
        self, residuals: list[Any], found: list[Any], at_once: bool
    ) -> tuple[Sequence[int], list[Any]]:
        """The cotangents of inputs, and the numbers of these among those that carry a derivative.

        `found` are those of the results, None where there is none. `at_once`: nothing is staged
        around it, and native programs are wanted.
        """
        back = self.whole
        if (
            at_once
            and back is not None
            and back.native is not None
            and _NONE not in map(type, found)
        ):
            try:
                return back.places, back.native(residuals + found)
            except tiers.VALUE_ERRORS:
                pass
        if all(bar is None for bar in found):
            return (), []
        linear = self.linear
        if linear is None:
            linear = linearize_jaxpr(self.jaxpr, self.active)
            residuals = eval_jaxpr(linear.primal, residuals)[self.count :]
            numbers = [n for n, flag in zip(self.offsets, linear.out_nonzero, strict=True) if flag]
            found = [found[n] for n in numbers]
        given = [bar for bar in found if bar is not None]
        if not given:
            return (), []
        back = self.back(linear, tuple([bar is not None for bar in found]))
        return back.places, back.run([*residuals, *given])

    def pushed(self, residuals: list[Any], dots: list[Any], at_once: bool) -> list[Any]:
        """The tangents of the results that may carry a derivative, from those of the inputs."""
        onward = self.onward
        if onward is not None and onward.native is not None and at_once:
            try:
                return onward.native(residuals + dots)
            except tiers.VALUE_ERRORS:
                pass
        linear = self.linear
        if linear is not None:
            if onward is None:
                onward = self.onward = Linear(linear.tangent, [])
            return onward.run([*residuals, *dots])
        linear = linearize_jaxpr(self.jaxpr, self.active)
        residuals = eval_jaxpr(linear.primal, residuals)[self.count :]
        found = iter(eval_jaxpr(linear.tangent, [*residuals, *dots]))
        columns = zip(self.offsets, linear.out_nonzero, self.jaxpr.out_avals, strict=True)
        return [next(found) if flag else zeros(aval) for n, flag, aval in columns if n >= 0]


_NONE = type(None)


def _takes_functions(jaxpr: Jaxpr) -> bool:
    """Is a function among the params, which may be the user's, and run in Python?"""
    return any(
        any(map(callable, eqn.params.values())) or any(map(_takes_functions, jaxprs_in(eqn.params)))
        for eqn in jaxpr.eqns
    )


class Tape:
    """Runs segments; `active` says which arguments carry a derivative.

    What is kept of the runs lies in one list, so that a long loop makes nothing that a garbage
    collector looks through: of each run the residuals, the cells of the inputs that carry a
    derivative, the first cell of the results that do, and the program.
    """

    __slots__ = ("_kept", "_next", "active")

    def __init__(self, active: Sequence[bool]) -> None:
        self.active = active
        self._next = len(self.active)
        self._kept: list[Any] = []

    def program(self, leaf: Leaf, active: Flags) -> Program:
        """How a segment runs whose inputs carry derivatives so."""
        found: Program | None = leaf.ready.get(active)
        if found is None:
            found = leaf.ready[active] = Program(leaf.jaxpr, active)
        return found

    def run(self, program: Program, values: list[Any], cells: list[int]) -> tuple[list[Any], int]:
        """The results of a segment, and maybe more, and the first cell of those that carry."""
        native, outs = program.native, None
        if native is not None and config.unjitted != "interpreted":
            try:
                TRACING[0] -= 1
                outs = native(values)
            except tiers.VALUE_ERRORS:
                pass
            finally:
                TRACING[0] += 1
        if outs is None:
            outs, residuals = program.evaluated(values)
        else:
            residuals = outs[program.count :]
        first = self._next
        if program.moved:
            kept = self._kept
            kept += residuals
            kept += cells
            kept += (first, program)
            self._next = first + program.moved
        return outs, first

    def pull(self, bars: dict[int, Any]) -> dict[int, Any]:
        """The cotangents of the arguments, by cell, from those of any values; no zeros."""
        kept, end = self._kept, len(self._kept)
        if not end:
            return bars
        at_once = is_evaluating() and config.unjitted != "interpreted"
        pop = bars.pop
        with np.errstate(all="ignore"):
            while end:
                program: Program = kept[end - 1]
                first, start, moved = kept[end - 2], end - program.span, program.moved
                # One is the rule, and a comprehension costs a call.
                found = [pop(first, None)]
                if moved > 1:
                    found += [pop(first + i, None) for i in range(1, moved)]
                middle = start + program.residuals
                places, outs = program.pulled(kept[start:middle], found, at_once)
                for i, bar in enumerate(outs):
                    cell = kept[middle + places[i]]
                    known = bars.get(cell)
                    bars[cell] = bar if known is None else known + bar
                end = start
        return bars

    def push(self, dots: list[Any]) -> list[Any]:
        """The tangents of all values that carry a derivative, by cell, from those of the arguments;
        None for an argument that carries none."""
        kept, end = self._kept, len(self._kept)
        ends: list[int] = []
        while end:
            ends.append(end)
            end -= kept[end - 1].span
        at_once = is_evaluating() and config.unjitted != "interpreted"
        dots = list(dots)
        with np.errstate(all="ignore"):
            for end in reversed(ends):
                program: Program = kept[end - 1]
                start = end - program.span
                middle = start + program.residuals
                given = [dots[cell] for cell in kept[middle : end - 2]]
                dots += program.pushed(kept[start:middle], given, at_once)
        return dots


def add_bar(bars: dict[int, Any], cell: int, bar: Any) -> None:
    """Add a cotangent to that of a cell."""
    known = bars.get(cell)
    bars[cell] = bar if known is None else known + bar
