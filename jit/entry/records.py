"""Writes the record of one specialisation, by which native code serves calls like it.

Invariant: a record accepts only calls for which the Python path would choose the same
specialisation; what it cannot tell natively it does not accept.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from functrans.extend import Aval
from jit.dispatch import Dispatcher
from jit.entry.guards import Guards
from jit.entry.packing import Builds, output_rows
from jit.entry.tables import Unsuited, Words
from jit.entry.words import DONATE, HOLD, RELEASE, Build, Guard, Output, Record

RELEASE_BYTES = 1 << 15
"""A program that touches more memory, or loops, runs without the GIL, which costs 40 ns."""


class Arguments(NamedTuple):
    """One call's arguments: positional ones first, then those with names.

    `trees[k]` is the structure of the k-th, None where it is static, `values[k]` its value, and
    `first_leaf[k]` the number of its first leaf among those of all.
    """

    positional: int
    names: tuple[str, ...]
    trees: list[Any]
    values: list[Any]
    first_leaf: list[int]


class Written:
    """A record in memory; it goes with its last reference, and its idle arena with it."""

    def __init__(self, words: Words, record: array[int]) -> None:
        self._words = words
        self._record = record

    @property
    def address(self) -> int:
        return self._record.buffer_info()[0]

    @property
    def hits(self) -> int:
        """How many calls it served."""
        return self._record[Record.HITS]

    def __del__(self) -> None:
        if ctypes is None or Record is None:  # the interpreter ends
            return
        idle = self._record[Record.IDLE]
        if idle:
            ctypes.pythonapi.PyMem_RawFree(ctypes.c_void_p(idle))


def write_record(
    owner: Any,
    arguments: Arguments,
    captured: Sequence[Any],
    dispatcher: Dispatcher,
    out_tree: Any,
    out_avals: Sequence[Aval],
    ranges: Sequence[tuple[int, np.dtype[Any]]],
) -> Written:
    """The record of a specialisation for calls like this one. Raises Unsuited."""
    words = Words()
    count = len(arguments.values)
    guards = Guards(words, len(captured), count, dispatcher.in_types)
    guards.donated = {i - len(captured) for i in dispatcher.taken if i is not None}
    for number, dtype in ranges:
        guards.ranges.setdefault(number, []).append(dtype)
    held = [x if isinstance(x, np.ndarray) else np.array(x)[()] for x in captured]
    for k, value in enumerate(held):
        guards.leaf(value, k, k - len(captured))
    for k, (definition, value) in enumerate(zip(arguments.trees, arguments.values, strict=True)):
        if definition is None:
            guards.static(value, len(captured) + k)
        else:
            guards.node(definition, value, len(captured) + k, arguments.first_leaf[k])
    builds = Builds(words)
    builds.node(out_tree, 0)
    outputs = output_rows(words, dispatcher, out_avals, builds.places)
    arena = dispatcher.arenas.size if dispatcher.arenas else 0
    types = (*dispatcher.in_types, *dispatcher.out_types)
    touched = arena + sum(prod(shape) * dtype.itemsize for shape, dtype in types)
    releases = touched > RELEASE_BYTES or dispatcher.loops
    flags = (RELEASE if releases else 0) | (HOLD if releases or guards.customs else 0)
    flags |= DONATE if dispatcher.donates else 0

    def failed(status: int) -> None:
        raise dispatcher.error(status)

    record = array("q", [0] * Record.SIZE)
    for at, value in {
        Record.OWNER: id(owner),
        Record.POSITIONAL: arguments.positional,
        Record.KEYWORDS: len(arguments.names),
        Record.NAMES: words.objects(arguments.names),
        Record.CAPTURED: len(captured),
        Record.CAPTURES: words.objects(held),
        Record.GUARDS: len(guards.rows),
        Record.GUARD: words.rows(guards.rows, Guard.SIZE),
        Record.SLOTS: guards.slots,
        Record.INPUTS: len(dispatcher.in_types),
        Record.RUN: dispatcher.program.entry,
        Record.ARENA: arena,
        Record.OUTPUTS: len(outputs),
        Record.OUTPUT: words.rows(outputs, Output.SIZE),
        Record.BUILDS: len(builds.rows),
        Record.BUILD: words.rows(builds.rows, Build.SIZE),
        Record.RESULTS: builds.size,
        Record.FLAGS: flags,
        Record.FAILED: words.keep(failed),
    }.items():
        record[at] = value
    words.keep(dispatcher)
    return Written(words, record)


__all__ = ["Arguments", "Unsuited", "Written", "write_record"]
