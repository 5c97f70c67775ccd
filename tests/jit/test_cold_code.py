"""What runs once a call is compiled quickly and apart, and calls and is called as before."""

from __future__ import annotations

import ctypes

import pytest

from jit import codegen, native
from jit.names import COLD
from jit.runtime.objects import link_object

needs_linker = pytest.mark.skipif(
    not codegen.has_linker(native.host_target()), reason="needs the linker of several objects"
)

HOT = """
@shown = global i64 5, align 8
@table = internal constant [2 x ptr] [ptr @one, ptr @two], align 8
declare double @llvm.fabs.f64(double)
define internal double @one(double %x) nounwind {
  %y = call double @llvm.fabs.f64(double %x)
  ret double %y
}
define internal double @two(double %x) nounwind {
  %y = fmul double %x, 2.0
  ret double %y
}
"""
LINES = "".join(f"  %l{k} = fadd double %x, {k}.0\n" for k in range(codegen.LEAST_COLD))
ENTRY = f"""
define double @entry(i64 %k, double %x) {COLD} {{
{LINES}  %at = getelementptr ptr, ptr @table, i64 %k
  %f = load ptr, ptr %at, align 8
  %y = call double %f(double %x)
  %old = load i64, ptr @shown, align 8
  %new = add i64 %old, 1
  store i64 %new, ptr @shown, align 8
  %n = sitofp i64 %old to double
  %z = fadd double %y, %n
  ret double %z
}}
"""


@needs_linker
@pytest.mark.parametrize("count", [0, 1, 2])
def test_cold_functions_are_a_module_of_their_own(count: int) -> None:
    texts = codegen.divided(HOT + ENTRY, count)
    assert len(texts) == max(1, count) + 1
    assert [codegen.is_cold(text) for text in texts] == [False] * max(1, count) + [True]
    assert ["define double @entry" in text for text in texts] == [False] * max(1, count) + [True]


@needs_linker
def test_cold_functions_and_others_share_functions_and_data() -> None:
    found = link_object(
        "cold", codegen.module_code(HOT + ENTRY, native.host_target()), {}, ["entry", "shown"]
    )
    entry = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64, ctypes.c_double)(found["entry"])
    assert [entry(0, -1.5), entry(1, -1.5), entry(0, 2.0)] == [6.5, 3.0, 9.0]
    assert ctypes.c_int64.from_address(found["shown"]).value == 8


@needs_linker
def test_only_cold_modules_are_compiled_by_the_quick_generator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[bool, bool]] = []
    machine_code = native.machine_code
    generator = codegen.generator

    def noted(text: str, tool: object) -> bytes:
        quick = tool is generator(native.host_target(), codegen.QUICK)
        asked.append((codegen.is_cold(text), quick))
        return machine_code(text, tool)

    monkeypatch.setattr(native, "machine_code", noted)
    codegen.module_code(HOT + ENTRY, native.host_target())
    codegen.module_code(HOT, native.host_target())
    assert asked == [(False, False), (True, True), (False, False)]


def test_a_few_cold_lines_and_a_text_that_is_all_cold_stay_one_module() -> None:
    short = HOT + ENTRY.replace(LINES, "")
    all_cold = (HOT + ENTRY).replace("double %x) nounwind", f"double %x) {COLD}")
    for text in (short, all_cold):
        assert codegen.divided(text, 0) == [text]
    assert codegen.is_cold(all_cold)
    assert not codegen.is_cold(short)
