"""A program compiled as several modules is the program; its functions see each other."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from jit import codegen, native
from jit.emit import emit_program
from jit.image import Image
from jit.loop_ir.builder import Builder
from jit.loop_ir.check import check_program
from jit.loop_ir.nodes import Program
from jit.names import ENTRY
from jit.native import NativeProgram, finder
from tests.jit.loop_programs import execute

needs_linker = pytest.mark.skipif(
    not codegen.has_linker(native.host_target()), reason="needs the linker of several objects"
)


def long_program(kernels: int) -> Program:
    """out[k] = f(x[0]) + table[k] by a function f of its own for each k."""
    b = Builder("long")
    x, out = b.input("x", "f64", 1), b.output("out", "f64", kernels)
    table = b.constants("table", "f64", np.arange(kernels, dtype=float).tobytes(), kernels)
    for k in range(kernels):
        with b.kernel(f"step{k}"):
            value = b.load(x, 0)
            for name in ("sin", "exp", "log1p")[: k % 3 + 1]:
                value = b.op(name, b.mul(value, 1.0 + k))
            b.store(out, k, b.add(value, b.load(table, k)))
    program = b.finish()
    check_program(program)
    return program


def outputs(program: Program, code: native.Loadable, kernels: int) -> np.ndarray:
    loaded = NativeProgram(code, finder({}), EXTERNALS, tuple(program.errors))
    status, (found,) = execute(loaded, [np.array([0.25])], [(kernels, "f64")])
    assert status == 0
    return found


EXTERNALS: frozenset[str] = frozenset()


@needs_linker
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("kernels", [3, 40])
def test_modules_side_by_side_give_the_same_bits(count: int, kernels: int) -> None:
    from jit.elf import link_image

    target, program = native.host_target(), long_program(kernels)
    text = emit_program(program, target, False).text
    texts = codegen.divided(text, count)
    assert len(texts) == count
    whole = native.loadable(native.emit_object(text, target))
    parts = link_image(*[native.emit_object(t, target) for t in texts])
    assert [name for name, _ in parts.exports] == [ENTRY]
    assert_array_equal(outputs(program, whole, kernels), outputs(program, parts, kernels))


@needs_linker
def test_a_long_text_is_compiled_in_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codegen, "processors", lambda: 3)
    seen: set[str] = set()
    compiled = codegen.compiled

    def noted(*args: object) -> bytes:
        seen.add(threading.current_thread().name)
        return compiled(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(codegen, "compiled", noted)
    target, program = native.host_target(), long_program(40)
    code = codegen.module_code(emit_program(program, target, False).text, target)
    assert isinstance(code, Image)
    assert len(seen) == 3
    found = outputs(program, code, 40)
    assert_array_equal(found[::3], np.sin(0.25 * np.arange(1, 41, 3)) + np.arange(0, 40, 3))


def test_an_error_in_a_thread_is_raised_here() -> None:
    def fail() -> int:
        raise ZeroDivisionError("there")

    with pytest.raises(ZeroDivisionError, match="there"):
        codegen.side_by_side([lambda: 1, fail])
    assert codegen.side_by_side([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]


def test_a_short_text_is_one_module() -> None:
    text = emit_program(long_program(1), native.host_target(), False).text
    assert codegen.divided(text, 1) == [text]
