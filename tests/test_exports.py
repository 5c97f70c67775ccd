"""Exports on demand: type checkers and run time agree, and an import brings only its own."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from types import ModuleType

import pytest

import functrans
from functrans import extend
from functrans.exports import on_demand

MODULES = [functrans, extend]


def imports_for_type_checkers(module: ModuleType) -> dict[str, str]:
    """The names that a module imports for type checkers alone, and from where."""
    return {
        alias.asname or alias.name: statement.module or ""
        for block in ast.parse(inspect.getsource(module)).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


def homes(module: ModuleType) -> dict[str, str]:
    """The names that a module exports on demand, and from where."""
    of_names: dict[str, tuple[str, ...]] = vars(module)["_HOMES"]
    found = {name: home for home, names in of_names.items() for name in names}
    of_modules: frozenset[str] = vars(module).get("_MODULES", frozenset())
    return found | dict.fromkeys(of_modules, "functrans")


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_type_checkers_see_what_is_exported(module: ModuleType) -> None:
    told, found = imports_for_type_checkers(module), homes(module)
    assert told.items() <= found.items()
    assert set(module.__all__) <= set(dir(module)) | set(found)
    lacking = [
        n for n in module.__all__ if n in found and n not in told and found[n] != "functrans"
    ]
    assert lacking == []


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_every_export_is_there(module: ModuleType) -> None:
    assert [name for name in (*module.__all__, *homes(module)) if not hasattr(module, name)] == []


def test_a_name_that_was_asked_for_stays() -> None:
    module = ModuleType("somewhere")
    find = on_demand(module, {"math": ("tau", "pi")})
    assert find("tau") is vars(module)["tau"]
    assert "pi" not in vars(module)
    with pytest.raises(AttributeError, match=r"module 'somewhere' has no attribute 'phi'"):
        find("phi")


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="module 'functrans' has no attribute 'gard'"):
        functrans.gard  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="gard"):
        from functrans import gard  # type: ignore[attr-defined]  # noqa: F401


def loaded_by(code: str, tmp_path: str) -> set[str]:
    """The modules of functrans and jit that a program has imported at its end."""
    code += (
        "\nimport sys; print(*[m for m in sys.modules if m.split('.')[0] in ('functrans', 'jit')])"
    )
    found = {"FUNCTRANS_CACHE_DIR": tmp_path, "FUNCTRANS_CACHE": "on"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | found,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


UNUSED = {
    "functrans.api.expansion",
    "functrans.api.hessians",
    "functrans.callbacks",
    "functrans.control.cond",
    "functrans.control.scan",
    "functrans.control.sweep",
    "functrans.control.while_loop",
    "functrans.transforms.taylor",
    "jit.intrinsics.gamma",
    "jit.lowering.convolution",
    "jit.lowering.lapack_methods",
    "jit.lowering.loops",
    "jit.lowering.ordering",
    "jit.lowering.registers",
    "jit.passes.factored",
    "jit.passes.fission",
    "jit.passes.nested",
}
"""A part of what a gradient of elementwise functions does without."""


def test_what_a_program_lacks_is_not_imported(tmp_path: object) -> None:
    loaded = loaded_by(
        "import numpy as np, functrans as ft\n"
        "ft.jit(ft.grad(lambda x: np.sum(np.sin(x) * np.exp(x))))(np.ones(3))",
        str(tmp_path),
    )
    assert "jit.passes.loops" in loaded
    assert loaded & UNUSED == set()


def test_what_a_program_holds_is_imported_then(tmp_path: object) -> None:
    loaded = loaded_by(
        "import numpy as np, functrans as ft\nfrom functrans import lax\n"
        "f = lambda x: lax.while_loop(lambda c: c < 9, lambda c: 2 * c, np.sort(np.cumsum(x))[0])\n"
        "assert ft.jit(ft.grad(f))(np.array([3.0, 2.0])).tolist() == [4.0, 0.0]",
        str(tmp_path),
    )
    needed = {"jit.passes.nested", "jit.lowering.ordering", "functrans.control.sweep"}
    assert needed <= loaded
