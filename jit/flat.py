"""Flat programs: a jaxpr as a native function of the list of its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functrans.extend import Jaxpr, tree
from jit.entry.base import attach, callable_natively, entry_base, entry_ready
from jit.entry.steps import steps_ready
from jit.programs import executable_for

if TYPE_CHECKING:
    from jit.entry.records import Written

MOST_RECORDS = 8
"""The inputs of one program come as arrays, NumPy scalars or Python numbers: few combinations."""


class Served:
    """Keeps a record alive while calls may use it."""

    record: Written


@callable_natively
class FlatProgram(entry_base()):
    """Call it with the list of inputs; the list of outputs is fresh.

    Outputs without axes are NumPy scalars, or Python numbers where they are weak, or 0-d arrays.
    """

    def __init__(self, jaxpr: Jaxpr) -> None:
        steps_ready()
        self._jaxpr = jaxpr
        self._dispatch = executable_for(jaxpr).dispatch
        self._serving: list[Served] = []
        self._seen: set[tuple[type[Any], ...]] = set()
        self._out_tree = tree.structure([0] * len(jaxpr.outvars))

    def __call__(self, args: list[Any]) -> list[Any]:
        outs = self._dispatch(args)
        kinds = tuple(map(type, args))
        if kinds not in self._seen and len(self._seen) < MOST_RECORDS and entry_ready():
            self._seen.add(kinds)
            self._attach(args)
        return outs

    def _attach(self, args: list[Any]) -> None:
        """Let native code serve inputs of these types."""
        from jit.entry.records import Arguments, Unsuited, write_record

        served = Served()
        try:
            served.record = write_record(
                served,
                Arguments(1, (), [tree.structure(args)], [args], [0]),
                [],
                self._dispatch,
                self._out_tree,
                self._jaxpr.out_avals,
                [],
            )
        except Unsuited:
            return
        attach(self, served.record.address, served, self._serving, FlatProgram.__call__)
