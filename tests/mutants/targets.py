"""Which laws can notice a mutant: those of the primitives that its code serves.

Found by names: a primitive's record is an assignment to `<name>_p`, a lowering mentions it; what
mentions the mutated function, or mentions what mentions it, is served by it.
"""

from __future__ import annotations

import ast
import zlib
from collections import deque
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import functrans.extend as extend
import jit.lowering
from functrans.ir import Primitive
from functrans.primitives import ALL, MODULES
from tests.mutants.mutate import ROOT, Mutant
from tests.samples_of import CONTROL, sampled

MOST = 8

CORE = (
    "mul",
    "reduce_sum",
    "dot_general",
    "gather",
    "select",
    "custom_vjp_call",
    "checkpoint",
    "call",
    "broadcast",
    "sin",
    "concatenate",
    "sort",
    "scatter_add",
    "cumsum",
    "transpose",
    "convert",
)
"""Primitives whose laws reach every part of the transforms and of the emitter."""


@cache
def records() -> dict[str, str]:
    """Python names of records (`sin_p`) to primitives' names."""
    found = {p.name + "_p": p.name for p in (*ALL.values(), *CONTROL)}
    lowerings = [
        import_module(f"jit.lowering.{m.name}") for m in iter_modules(jit.lowering.__path__)
    ]
    for module in (*MODULES, extend, *lowerings):
        for name, value in vars(module).items():
            if isinstance(value, Primitive):
                found[name] = value.name
    return found


@dataclass(frozen=True)
class Unit:
    """A statement of a file: the names it binds and mentions, and the records it registers."""

    file: str
    bound: set[str]
    mentioned: set[str]
    registered: set[str]


@cache
def units(folder: str) -> list[Unit]:
    """The statements of a folder's files."""
    found = []
    for file in sorted((ROOT / folder).glob("*.py")):
        for statement in ast.parse(file.read_text()).body:
            for part in _rows(statement):
                bound, mentioned = _bound(part), _mentioned(part)
                decorators = getattr(part, "decorator_list", [])
                registering = [_mentioned(d) for d in decorators] if bound else [mentioned]
                registered = set[str]().union(*registering) & set(records())
                found.append(Unit(file.stem, bound, mentioned, registered))
    return found


@cache
def imports(folder: str) -> dict[str, set[str]]:
    """The files of a folder by name, each with those of the folder that it imports."""
    prefix = folder.replace("/", ".")
    found: dict[str, set[str]] = {}
    for file in sorted((ROOT / folder).glob("*.py")):
        nodes = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.ImportFrom)]
        named = {a.name for n in nodes if n.module == prefix for a in n.names}
        below = {n.module.split(".")[-1] for n in nodes if n.module and prefix + "." in n.module}
        found[file.stem] = named | below | {file.stem}
    return found


def _rows(statement: ast.stmt) -> list[ast.AST]:
    """The rows of a table that a loop registers, one by one; else the statement itself."""
    match statement:
        case ast.For(iter=ast.Tuple(elts=rows)) if len(rows) > 1:
            return list(rows)
        case _:
            return [statement]


def _bound(statement: ast.AST) -> set[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            return {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        case _:
            return set()


def _mentioned(statement: ast.AST) -> set[str]:
    """Names and attributes; those of `b`, the builder of loop IR, name its own operations."""
    names = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}
    attributes = [n for n in ast.walk(statement) if isinstance(n, ast.Attribute)]
    return names | {n.attr for n in attributes if ast.unparse(n.value) != "b"}


EVERYWHERE = {"index", "writer", "walk", "domain", "nodes", "rules", "derive", "formulas"}
"""Files that serve all primitives alike."""

REACHING = (*CORE, "reshape", "pad", "conv", "reverse", "slice", "reduce_max", "argmax", "mul")


def served(mutant: Mutant) -> list[str]:
    """The primitives whose laws to try, the nearest first."""
    folder = str(Path(mutant.file).parent)
    if folder in ("functrans/transforms", "jit"):
        return list(CORE)
    start = mutant.function.split(".")[0]
    names = {n.strip() for n in start.strip("()").split(",")}
    if Path(mutant.file).stem in EVERYWHERE:
        own = [records()[n + "_p"] for n in sorted(names) if n + "_p" in records()]
        return list(dict.fromkeys([*(n for n in own if n in sampled()), *REACHING]))
    near = _reached(folder, Path(mutant.file).stem, names)
    known = [n for n in near if n in sampled()]
    if len(known) <= MOST:
        return known or list(CORE)
    far = sorted(known[4:], key=lambda n: zlib.crc32(f"{mutant.id}{n}".encode()))
    return known[:4] + far[: MOST - 4]


def _reached(folder: str, file: str, start: set[str]) -> list[str]:
    """The primitives that a name of a file reaches: those it is called after, then breadth first
    what mentions it there or in a file that imports that one."""
    found = [records()[name + "_p"] for name in sorted(start) if name + "_p" in records()]
    queue = deque((name, file) for name in sorted(start))
    seen = set(queue)
    while queue:
        name, place = queue.popleft()
        if name in records() and records()[name] not in found:
            found.append(records()[name])
        for unit in units(folder):
            if place not in imports(folder)[unit.file]:
                continue
            if name in unit.mentioned or (name in unit.bound and place == unit.file):
                found += [
                    records()[m] for m in sorted(unit.registered) if records()[m] not in found
                ]
                fresh = {(n, unit.file) for n in unit.bound} - seen
                seen |= fresh
                queue.extend(sorted(fresh))
    return found
