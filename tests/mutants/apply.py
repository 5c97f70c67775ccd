"""Puts a changed file in force in this process: the code of live functions is exchanged."""

from __future__ import annotations

import ast
import gc
from types import CodeType, FunctionType

from tests.mutants.mutate import ROOT, Mutant, mutated_tree


class NotApplicable(Exception):
    """No live function runs the changed code: it ran at import, or it has another shape."""


def apply(mutant: Mutant) -> None:
    """Exchange the code of every live function that the mutant changes."""
    if not exchange(mutant.file, mutated_tree(mutant)):
        raise NotApplicable(f"{mutant}: no live function runs it")


def exchange(name: str, tree: ast.Module) -> list[tuple[FunctionType, CodeType]]:
    """Exchange the code of the live functions of a file that read otherwise in `tree`.

    Returns the functions, each with the code it had.
    """
    file = ROOT / name
    before = compile(file.read_text(), str(file), "exec", dont_inherit=True)
    after = compile(tree, str(file), "exec", dont_inherit=True)
    changed, found = dict(_pairs(before, after)), list[tuple[FunctionType, CodeType]]()
    for thing in gc.get_objects():
        if type(thing) is FunctionType and thing.__code__ in changed:
            new = changed[thing.__code__]
            if new.co_freevars != thing.__code__.co_freevars:
                raise NotApplicable(f"{name}: other free variables in {new.co_qualname}")
            found.append((thing, thing.__code__))
            thing.__code__ = new
    return found


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
