"""Puts a mutant in force in this process: the code of live functions is exchanged."""

from __future__ import annotations

import gc
from types import CodeType, FunctionType

from tests.mutants.mutate import ROOT, Mutant, mutated_tree


class NotApplicable(Exception):
    """No live function runs the changed code: it ran at import, or it has another shape."""


def apply(mutant: Mutant) -> None:
    """Exchange the code of every live function that the mutant changes."""
    file = ROOT / mutant.file
    before = compile(file.read_text(), str(file), "exec", dont_inherit=True)
    after = compile(mutated_tree(mutant), str(file), "exec", dont_inherit=True)
    changed = dict(_pairs(before, after))
    count = 0
    for thing in gc.get_objects():
        if type(thing) is FunctionType and thing.__code__ in changed:
            new = changed[thing.__code__]
            if new.co_freevars != thing.__code__.co_freevars:
                raise NotApplicable(f"{mutant}: other free variables")
            thing.__code__ = new
            count += 1
    if not count:
        raise NotApplicable(f"{mutant}: no live function runs it")


def _pairs(before: CodeType, after: CodeType) -> list[tuple[CodeType, CodeType]]:
    """The code objects that differ, inner and outer ones."""
    if before == after:
        return []
    olds = [c for c in before.co_consts if isinstance(c, CodeType)]
    news = [c for c in after.co_consts if isinstance(c, CodeType)]
    if len(olds) != len(news):
        raise NotApplicable(f"{before.co_qualname}: functions inside appear or vanish")
    found = [(before, after)]
    for old, new in zip(olds, news, strict=True):
        found += _pairs(old, new)
    return found
