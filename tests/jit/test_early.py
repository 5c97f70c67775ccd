"""`import functrans` loads the compiler where no program is on disk, and else nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import functrans
compiler = [m for m in ("jit.pipeline", "llvmlite.binding") if m in sys.modules]
print(len(compiler), functrans.jit(lambda x: x * 2.0)(3.0))
"""


def printed(folder: Path, **environment: str) -> str:
    given = dict(os.environ, FUNCTRANS_CACHE="", FUNCTRANS_CACHE_DIR=str(folder)) | environment
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=given, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_compiler_is_loaded_until_there_are_programs_on_disk(tmp_path: Path) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    (full / "entries").mkdir(parents=True)
    assert printed(empty) == "2 6.0"
    assert printed(full) == "0 6.0"
    assert printed(full, FUNCTRANS_CACHE="0") == "2 6.0"


def test_nothing_is_loaded_for_the_evaluator(tmp_path: Path) -> None:
    assert printed(tmp_path, FUNCTRANS_ENGINE="numpy") == "0 6.0"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_at_once_is_safe(tmp_path: Path) -> None:
    script = """
import os
import functrans
child = os.fork()
if child == 0:
    os._exit(int(functrans.jit(lambda x: x * 2.0)(3.0)))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    given = dict(os.environ, FUNCTRANS_CACHE_DIR=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=given,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "6"


def test_first_calls_do_not_import_masked_arrays() -> None:
    """numpy.ma, which NumPy loads when it is asked for, takes longer than a first gradient."""
    script = """
import sys
import numpy as np
import functrans as ft
before = {*sys.modules}
x = np.array([1.0, 2.0])
ft.grad(lambda x: np.sum(np.sin(x) * np.float64(2.0)))(x)
ft.hessian(lambda x: (x**3).sum())(x), ft.vmap(lambda x: x * 2)(x), ft.jit(lambda x: x * x)(x)
print("numpy.ma" in {*sys.modules} - before)
"""
    given = dict(os.environ, FUNCTRANS_CACHE="0")
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
