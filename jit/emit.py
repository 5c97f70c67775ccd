"""Emits loop IR as LLVM text with explicit vectors: one entry, one function per kernel.

The entry is `i32 ft_entry(ptr inputs, ptr outputs, ptr arena)`. Nothing is left to LLVM's
optimiser. A vector loop runs on as many lanes as its widest element allows; what happens to lanes
past the end is decided here (masks, or a scalar loop), and no memory outside a buffer is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jit.loop_ir.nodes import Buffer, Kernel, Program
from jit.loops import FunctionEmitter
from jit.registers import Module, symbol
from jit.target import ENTRY, Target


class Emitted(NamedTuple):
    """LLVM text of a program, and the C symbols that must be imported with it."""

    text: str
    externals: frozenset[str]


def emit_program(program: Program, target: Target, parallel: bool) -> Emitted:
    """LLVM text of a checked program. Without `parallel`, parallel loops run on the caller."""
    module = Module(target, parallel)
    module.globals += [constant_text(b) for b in program.buffers if b.kind == "const"]
    names = [f"k{i}.{symbol(kernel.name)}" for i, kernel in enumerate(program.kernels)]
    fails = [emit_kernel(module, n, k) for n, k in zip(names, program.kernels, strict=True)]
    module.functions.append(entry_text(names, fails))
    module.functions += module.intrinsics.functions
    module.declares |= module.intrinsics.declares
    module.externals |= module.intrinsics.externals
    head = [f'target triple = "{target.triple}"', *module.globals, *sorted(module.declares)]
    return Emitted("\n".join(head + module.functions) + "\n", frozenset(module.externals))


def constant_text(buffer: Buffer) -> str:
    """Literal data as a global."""
    data = "".join([f"\\{byte:02X}" for byte in buffer.data])
    size = len(buffer.data)
    return f'@c.{symbol(buffer.name)} = internal constant [{size} x i8] c"{data}", align 64'


def emit_kernel(module: Module, name: str, kernel: Kernel) -> bool:
    """Write one kernel; answers whether it can fail."""
    function = FunctionEmitter(module, name, None)
    function.block(kernel.body)
    function.w.do("ret i32 0")
    header = f"define internal i32 @{name}(ptr %inputs, ptr %outputs, ptr %arena) nounwind"
    module.functions.append(function.text(header))
    return function.fails


def entry_text(names: Sequence[str], fails: Sequence[bool]) -> str:
    """The entry: kernels in order, until one fails."""
    lines = [f"define i32 @{ENTRY}(ptr %inputs, ptr %outputs, ptr %arena) nounwind {{", "entry:"]
    for k, (name, can_fail) in enumerate(zip(names, fails, strict=True)):
        lines.append(f"  %s{k} = call i32 @{name}(ptr %inputs, ptr %outputs, ptr %arena)")
        if can_fail:
            lines.append(f"  %f{k} = icmp ne i32 %s{k}, 0")
            lines.append(f"  br i1 %f{k}, label %failed{k}, label %next{k}")
            lines.append(f"failed{k}:\n  ret i32 %s{k}\nnext{k}:")
    return "\n".join([*lines, "  ret i32 0", "}"])
