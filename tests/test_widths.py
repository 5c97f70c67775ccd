"""Compiled code keeps the laws at every vector width: a sample here, all of them in the full lane.

Each width is a process of its own, on one thread. AVX-512 is emulated where it is missing.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys

import pytest

from jit import native
from tests.emulation.gathers import LONGEST, Gather, with_lower_index
from tests.law_tools import chosen
from tests.laws import LAWS
from tests.layers import ROOT
from tests.samples_of import sampled

WIDTHS = ("avx512", "sse2")
HARD = ("conv", "dot_general", "gather", "reduce_sum", "scatter_add", "sort")
"""Primitives whose loops differ with the width."""
COMPILED = [law for law in LAWS if law.startswith("compiled")]
WIDE = native.widest_vector(native.load_llvm().get_host_cpu_features()) == 64
X86 = native.host_target().triple.startswith("x86_64")
pytestmark = pytest.mark.skipif(not X86, reason="these are widths of x86-64")
PROGRAM = """
import numpy as np
import functrans as ft
from jit import native
from tests.emulation import refused

target = native.portable_target("avx512")
native.host_target = lambda: target
handler = refused.install()
x = np.linspace(-3, 3, 1003)
got = ft.jit(ft.grad(lambda x: (x * np.sin(x)).sum()))(x)
np.testing.assert_allclose(got, np.sin(x) + x * np.cos(x), rtol=1e-15, atol=1e-15)
print(handler.calls)
"""


def emulated() -> bool:
    try:
        return bool(importlib.metadata.version("bochscpu-python"))
    except importlib.metadata.PackageNotFoundError:
        return False


def run_tests(width: str, *tests: str) -> None:
    """Run these tests with what they compile at this width, as the normal lane does."""
    if width == "avx512" and not WIDE and not emulated():
        pytest.skip("there is no emulator for this Python")
    options = ["-q", "-p", "no:cacheprovider", "--vectors", width, "--threads", "1"]
    # What this lane adds is for its own tests: thorough laws would take half an hour more.
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
    command = [sys.executable, "-m", "pytest", *options, *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


@pytest.mark.parametrize("width", WIDTHS)
def test_hard_primitives(width: str) -> None:
    """The hard primitives under one law, and some under another."""
    values = [f"compiled_is_impl-{name}" for name in HARD]
    derivatives = [f"compiled_derivatives-{name}" for name in chosen(sampled(), width, 6)]
    run_tests(width, *(f"tests/test_laws.py::test_law[{case}]" for case in values + derivatives))


@pytest.mark.full
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("law", COMPILED)
def test_laws(law: str, width: str) -> None:
    run_tests(width, *(f"tests/test_laws.py::test_law[{law}-{name}]" for name in sampled()))


@pytest.mark.full
@pytest.mark.parametrize("width", WIDTHS)
def test_random_programs(width: str) -> None:
    run_tests(width, "tests/test_fuzz.py")


@pytest.mark.skipif(WIDE or not emulated(), reason="nothing is emulated on this machine")
def test_refused_instructions_are_emulated() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) >= 1


def assembled(instruction: str) -> bytes:
    """One instruction in the syntax of AT&T, filled up to the longest."""
    text = f'module asm "{instruction}"\nmodule asm ".fill {LONGEST}, 1, 0x90"'
    code = native.emit_object(text, native.portable_target("avx512"))
    start = code.index(b"\x62")
    return code[start : start + LONGEST]


@pytest.mark.parametrize(
    ("written", "index", "moved"),
    [
        ("vgatherdps (%rdi,%zmm17,4), %zmm3 {%k1}", 17, "vgatherdps (%rdi,%zmm0,4), %zmm3 {%k1}"),
        ("vgatherqpd 64(%r9,%zmm31,8), %zmm0 {%k7}", 31, "vgatherqpd 64(%r9,%zmm1,8), %zmm0 {%k7}"),
        ("vgatherdpd (,%ymm24), %zmm20 {%k2}", 24, "vgatherdpd (,%ymm0), %zmm20 {%k2}"),
        (
            "vpgatherdq 999(%r13,%ymm22,2), %zmm8 {%k3}",
            22,
            "vpgatherdq 999(%r13,%ymm0,2), %zmm8 {%k3}",
        ),
        ("vscatterdps %zmm16, 4(%rax,%zmm25) {%k1}", 25, "vscatterdps %zmm16, 4(%rax,%zmm0) {%k1}"),
    ],
)
def test_gathers_get_a_lower_index(written: str, index: int, moved: str) -> None:
    found = with_lower_index(assembled(written))
    assert found is not None
    expected = assembled(moved)[: len(found.code)]
    spare = 1 if "zmm1," in moved else 0
    assert found == Gather(expected, index, spare)
    assert with_lower_index(assembled(moved)) is None
