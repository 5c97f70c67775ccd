"""The import direction: each part imports only what is lower, and one file alone names jit."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.layers import FUNCTRANS, JIT, ROOT, Import, imports_of, part_of, source_files, tree_of


def level_of(part: str, layers: list[set[str]]) -> int | None:
    return next((i for i, layer in enumerate(layers) if part in layer), None)


def describe(found: Import, why: str) -> str:
    return f"{found.file.relative_to(ROOT)}:{found.line} imports {found.module}: {why}"


def upward_imports(package: str, layers: list[set[str]]) -> list[str]:
    """The imports inside a package that go to a higher layer than the file's own."""
    wrong: list[str] = []
    for file in source_files(package):
        level = level_of(part_of(file), layers)
        if level is None:
            continue
        for found in imports_of(file):
            names = found.module.split(".")
            if names[0] != package:
                continue
            target = level_of(names[1], layers) if len(names) > 1 else None
            if target is None:
                # `import functrans` itself, or a name of its __init__: the top of everything.
                wrong.append(describe(found, f"the top of {package}"))
            elif target > level:
                wrong.append(describe(found, "a higher layer"))
    return wrong


@pytest.mark.parametrize(("package", "layers"), [("functrans", FUNCTRANS), ("jit", JIT)])
def test_imports_go_down(package: str, layers: list[set[str]]) -> None:
    assert upward_imports(package, layers) == []


@pytest.mark.parametrize(("package", "layers"), [("functrans", FUNCTRANS), ("jit", JIT)])
def test_every_file_has_a_layer(package: str, layers: list[set[str]]) -> None:
    parts = {part_of(file) for file in source_files(package)} - {""}
    assert sorted(part for part in parts if level_of(part, layers) is None) == []


def test_jit_reaches_functrans_through_the_seam_alone() -> None:
    wrong = [
        describe(found, "only functrans.extend is open to jit")
        for file in source_files("jit")
        for found in imports_of(file)
        if found.module.split(".")[0] == "functrans"
        and found.module.split(".")[:2] != ["functrans", "extend"]
    ]
    assert wrong == []


def names_jit(file: Path) -> bool:
    """Does a file import jit, or name it in a string that an import could use?"""
    if any(found.module.split(".")[0] == "jit" for found in imports_of(file)):
        return True
    strings = [n.value for n in ast.walk(tree_of(file)) if isinstance(n, ast.Constant)]
    return any(isinstance(s, str) and (s == "jit.api" or s.startswith("jit.")) for s in strings)


def test_only_the_front_door_names_jit() -> None:
    naming = [str(f.relative_to(ROOT)) for f in source_files("functrans") if names_jit(f)]
    assert naming == ["functrans/__init__.py"]


def test_the_test_sees_an_upward_import(tmp_path: Path) -> None:
    """Guard of the guard: an import of api from bind is reported."""
    found = Import(ROOT / "functrans" / "bind.py", 1, "functrans.api.grad")
    assert level_of("api", FUNCTRANS) > level_of(part_of(found.file), FUNCTRANS)  # type: ignore[operator]
