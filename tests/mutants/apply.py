"""Puts a changed file in force in this process: the code of live functions is exchanged."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from functools import cache
from types import CodeType, FunctionType

from tests.mutants.mutate import ROOT, Mutant, mutated_tree, parsed


class NotApplicable(Exception):
    """No live function runs the changed code: it ran at import, or it has another shape."""


def prepare(file: str) -> None:
    """Do what all mutants of a file need, so that forked processes find it done."""
    parsed(file)
    live_functions(file)


def apply(mutant: Mutant) -> None:
    """Exchange the code of every live function that the mutant changes."""
    if not exchange(mutant.file, mutated_tree(mutant)):
        raise NotApplicable(f"{mutant}: no live function runs it")


def exchange(file: str, tree: ast.Module) -> list[tuple[FunctionType, CodeType]]:
    """Exchange the code of the live functions of a file that read otherwise in `tree`.

    Returns the functions, each with the code it had.
    """
    after = compile(tree, str(ROOT / file), "exec", dont_inherit=True)
    changed, found = dict(_pairs(original(file), after)), list[tuple[FunctionType, CodeType]]()
    for function in live_functions(file):
        new = changed.get(function.__code__)
        if new is not None:
            if new.co_freevars != function.__code__.co_freevars:
                raise NotApplicable(f"{file}: other free variables in {new.co_qualname}")
            found.append((function, function.__code__))
            function.__code__ = new
    return found


@cache
def original(file: str) -> CodeType:
    path = ROOT / file
    return compile(path.read_text(), str(path), "exec", dont_inherit=True)


@cache
def live_functions(file: str) -> list[FunctionType]:
    """The functions of this process that the unchanged file has made."""
    codes = set(_inner(original(file)))
    return [f for f in gc.get_objects() if type(f) is FunctionType and f.__code__ in codes]


def _inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _inner(constant)


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
