"""What the memo holds, for users to look at: `functrans.memo_info()`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from functrans.ir import Jaxpr
from functrans.memo import trie
from functrans.memo.trie import Leaf, Step

STEP_BYTES, LEAF_BYTES, EQUATION_BYTES = 2500, 4000, 250
"""What a step with its equations takes, a leaf, and an equation of its programs; measured."""


class MemoInfo(NamedTuple):
    """What the memo of traces holds, and how it served.

    hits     traces that were known to their end, and segments between two asks that were
    misses   traces and segments that were recorded
    leaves   ends of traces and of segments that are known
    compiled those of which a program runs natively
    steps    operations that are known; `config.memo_steps` bounds them and the leaves' equations
    memory   about how many bytes all of this takes
    """

    hits: int
    misses: int
    leaves: int
    compiled: int
    steps: int
    memory: int


def memo_info() -> MemoInfo:
    """What the memo of un-jitted transforms holds, and how it has served so far.

    >>> memo_info().steps >= 0
    True
    """
    leaves: list[Leaf] = []
    steps = constants = hits = misses = 0
    for root in trie.roots():
        hits += root.hits
        misses += root.misses
        for start in root.beginnings():
            for step in start.below():
                steps += 1
                constants += _constant_bytes(step)
                leaves += step.leaves()
    compiled = equations = 0
    for leaf in leaves:
        programs = list(programs_of(leaf.jaxpr))
        compiled += any(map(_is_native, programs))
        equations += sum(len(p.eqns) for p in programs)
    memory = steps * STEP_BYTES + len(leaves) * LEAF_BYTES + equations * EQUATION_BYTES + constants
    return MemoInfo(hits, misses, len(leaves), compiled, steps, memory)


def _constant_bytes(step: Step) -> int:
    recorded = step.recorded
    if recorded is None:
        return 0
    return sum(np.asarray(value).nbytes for _, value in recorded.constants)


def _is_native(jaxpr: Jaxpr) -> bool:
    tier = jaxpr.cache.get("tier")
    return tier is not None and tier.native is not None


def programs_of(jaxpr: Jaxpr) -> Iterator[Jaxpr]:
    """A program and all that was derived of it."""
    waiting, seen = [jaxpr], {id(jaxpr)}
    while waiting:
        found = waiting.pop()
        yield found
        for inner in _jaxprs_among(list(found.cache.values())):
            if id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)


def _jaxprs_among(values: Iterable[Any]) -> Iterator[Jaxpr]:
    for value in values:
        if isinstance(value, Jaxpr):
            yield value
        elif isinstance(value, tuple):
            yield from _jaxprs_among(value)  # type: ignore[arg-type]
