"""The layers of both packages, lowest first, and the imports that each file makes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent

# Each layer is a set of modules or packages that may import each other and all that is lower.
FUNCTRANS = [
    {"errors", "collecting", "exports"},
    {"keypath", "treedef", "containers", "registration", "tree", "tree_util"},
    {"ir"},
    {"typing"},
    {"config", "tiers", "bind", "held", "memo"},
    {"primitives"},
    {"surface"},
    {"tracing", "views", "segments", "position", "capturing", "equations", "noting", "walking"}
    | {"asking", "forcing", "recording"},
    {"transforms"},
    {"control"},
    {"api"},
    {"numpy", "lax", "scipy", "random", "nn", "optim"}
    | {
        "callbacks",
        "checkpoint_policies",
        "debug",
        "drawing",
        "dtypes",
        "flatten_util",
        "ops",
        "test_util",
    },
    {"engine"},
    {"extend"},
]
JIT = [
    {"names", "candidates", "openblas"},
    {"factorisations"},
    {"loop_ir"},
    {"lowering"},
    {"stored"},
    {"fusion"},
    {"passes"},
    {"target", "vectors", "conversions", "operations", "memory"},
    {"intrinsics"},
    {
        "loop_facts",
        "ahead",
        "registers",
        "frame",
        "statements",
        "branches",
        "vector_loop",
        "squares",
    }
    | {"loops", "emit"},
    {"image", "elf", "native", "codegen"},
    {"processor", "disk_cache", "cache_key", "code_cache"},
    {"runtime"},
    {"dispatch"},
    {"entry"},
    {"pipeline", "layouts", "leaving"},
    {"programs"},
    {"options", "calls", "signatures", "captures", "specialised", "stages", "flat", "why"},
    {"api"},
    {"early"},
]


class Import(NamedTuple):
    """One import statement: where it stands, and the dotted module it reaches for."""

    file: Path
    line: int
    module: str


def source_files(package: str) -> list[Path]:
    """Every Python file of a package, in a fixed order."""
    return sorted((ROOT / package).rglob("*.py"))


def part_of(file: Path) -> str:
    """The top-level part of its package that a file belongs to; '' for the package's __init__."""
    first = file.relative_to(ROOT).parts[1]
    return "" if first == "__init__.py" else first.removesuffix(".py")


@cache
def tree_of(file: Path) -> ast.Module:
    """What a file parses to, once for all tests."""
    return ast.parse(file.read_text(), str(file))


def imports_of(file: Path) -> Iterator[Import]:
    """The imports of a file at any depth, those for type checking alone left out."""
    tree = tree_of(file)
    hidden = {id(node) for block in _type_checking(tree) for node in ast.walk(block)}
    package = list(file.relative_to(ROOT).parent.parts)
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            for alias in node.names:
                yield Import(file, node.lineno, f"{module}.{alias.name}")


def _type_checking(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from node.body
