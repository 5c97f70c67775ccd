"""Emits loop IR as LLVM text with explicit vectors: one entry, one function per kernel.

The entry is `i32 ft_entry(ptr inputs, ptr outputs, ptr arena)`. Nothing is left to LLVM's
optimiser. A vector loop runs on as many lanes as its widest element allows; what happens to lanes
past the end is decided here (masks, or a scalar loop), and no memory outside a buffer is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jit.loop_facts import FAR_BYTES, LARGE_BYTES, STREAM_BYTES, buffers_read, is_straight
from jit.loop_ir.alike import Family, families
from jit.loop_ir.nodes import ITEMSIZE, Buffer, Kernel, Program
from jit.loops import FunctionEmitter
from jit.names import COLD, ENTRY
from jit.registers import Module, Told, symbol
from jit.target import Target

PARAMETERS = "ptr %inputs, ptr %outputs, ptr %arena, ptr %row"
CALLS = 32
"""An entry of more steps goes through a table of them."""


class Step(NamedTuple):
    """One call of the entry: a function, whether it can fail, and where its row begins."""

    name: str
    fails: bool
    row: int | None


NOTHING = Step("", False, None)


class Emitted(NamedTuple):
    """LLVM text of a program, and the C symbols that must be imported with it."""

    text: str
    externals: frozenset[str]


def emit_program(program: Program, target: Target, parallel: bool) -> Emitted:
    """LLVM text of a checked program. Without `parallel`, parallel loops run on the caller.

    Kernels of a program that are alike are one function.
    """
    module = Module(target, parallel)
    emit_one(module, program, "define")
    while module.waiting:
        module.prefix, inner = module.waiting.pop(0)
        emit_one(module, inner, "define internal")
    module.functions += module.intrinsics.functions
    module.declares |= module.intrinsics.declares
    module.externals |= module.intrinsics.externals
    head = [f'target triple = "{target.triple}"', *module.globals, *sorted(module.declares)]
    return Emitted("\n".join(head + module.functions) + "\n", frozenset(module.externals))


def emit_one(module: Module, program: Program, define: str) -> None:
    """The kernels and the entry of one program, whose names begin with the module's prefix."""
    prefix = module.prefix
    module.globals += [constant_text(prefix, b) for b in program.buffers if b.kind == "const"]
    module.far = frozenset(larger(program, FAR_BYTES))
    module.large = frozenset(larger(program, LARGE_BYTES))
    results = larger(program, STREAM_BYTES, "output")
    steps: list[Step] = [NOTHING] * len(program.kernels)
    rows: list[int] = []
    functions: list[tuple[str, FunctionEmitter]] = []
    for group in families(program.kernels):
        first = group.members[0]
        kernel = program.kernels[first]
        name = f"{prefix}k{first}.{symbol(kernel.name)}"
        module.read = frozenset(buffers_read(kernel.body))
        module.streams = frozenset(results) - module.read
        written = emit_kernel(module, name, kernel, told(group))
        functions.append((name, written))
        for number, row in zip(group.members, group.rows, strict=True):
            steps[number] = Step(name, written.fails, len(rows) if row else None)
            rows += row
    cold = close_kernels(module, functions)
    if rows:
        numbers = ", ".join([f"i64 {n}" for n in rows])
        table = f"internal constant [{len(rows)} x i64] [{numbers}], align 8"
        module.globals.append(f"@{prefix}rows = {table}")
    # Next to what it hands on to, the time of the entry is nothing.
    attributes = COLD if cold else "nounwind"
    header = f"{define} i32 @{prefix}{ENTRY}(ptr %inputs, ptr %outputs, ptr %arena) {attributes} {{"
    body = entry_lines(steps, prefix) if len(steps) <= CALLS else loop_text(steps, module)
    module.functions.append("\n".join([header, "entry:", body, "}"]))


def larger(program: Program, count: int, *kinds: str) -> list[str]:
    """The names of the buffers of at least so many bytes, of these kinds or any."""
    return [
        b.name
        for b in program.buffers
        if b.size * ITEMSIZE[b.dtype] >= count and (not kinds or b.kind in kinds)
    ]


def told(group: Family) -> Told | None:
    """What the function of a family reads from the row of each member."""
    if not group.buffers and not group.offsets:
        return None
    found = group.outline
    return Told(
        {found.buffers[place].name: slot for slot, place in enumerate(group.buffers)},
        {
            id(found.sites[place]): slot
            for slot, place in enumerate(group.offsets, len(group.buffers))
        },
    )


def constant_text(prefix: str, buffer: Buffer) -> str:
    """Literal data as a global."""
    data = "".join([f"\\{byte:02X}" for byte in buffer.data])
    size = len(buffer.data)
    return f'@{prefix}c.{symbol(buffer.name)} = internal constant [{size} x i8] c"{data}", align 64'


def emit_kernel(module: Module, name: str, kernel: Kernel, told: Told | None) -> FunctionEmitter:
    """Write one kernel."""
    function = FunctionEmitter(module, name, None, told)
    # An inner program runs in a loop.
    module.intrinsics.once = is_straight(kernel.body) and not module.prefix
    function.block(kernel.body)
    function.leaving()
    function.w.do("ret i32 0")
    return function


def close_kernels(module: Module, functions: Sequence[tuple[str, FunctionEmitter]]) -> bool:
    """Add the texts of the kernels; is any of them cold?"""
    loops = not module.prefix and any(f.repeats or f.hands_on for _, f in functions)
    for name, function in functions:
        function.beside_loops = loops
        module.functions.append(function.text(f"define internal i32 @{name}({PARAMETERS})"))
    return any(function.is_cold for _, function in functions)


def row_text(step: Step, prefix: str) -> str:
    """The address of the numbers that a step's function is told."""
    if step.row is None:
        return "null"
    return f"getelementptr (i64, ptr @{prefix}rows, i64 {step.row})"


def entry_lines(steps: Sequence[Step], prefix: str) -> str:
    """The entry: kernels in order, until one fails."""
    lines: list[str] = []
    for k, step in enumerate(steps):
        passed = f"ptr %inputs, ptr %outputs, ptr %arena, ptr {row_text(step, prefix)}"
        lines.append(f"  %s{k} = call i32 @{step.name}({passed})")
        if step.fails:
            lines.append(f"  %f{k} = icmp ne i32 %s{k}, 0")
            lines.append(f"  br i1 %f{k}, label %failed{k}, label %next{k}")
            lines.append(f"failed{k}:\n  ret i32 %s{k}\nnext{k}:")
    return "\n".join([*lines, "  ret i32 0"])


def loop_text(steps: Sequence[Step], module: Module) -> str:
    """The same over tables of functions, steps and rows: its code does not grow with the steps."""
    prefix = module.prefix
    names = list(dict.fromkeys([step.name for step in steps]))
    number = {name: k for k, name in enumerate(names)}
    functions = ", ".join([f"ptr @{name}" for name in names])
    table = ", ".join([f"i32 {number[s.name]}, i32 {s.row or 0}" for s in steps])
    module.globals += [
        f"@{prefix}functions = internal constant [{len(names)} x ptr] [{functions}]",
        f"@{prefix}steps = internal constant [{2 * len(steps)} x i32] [{table}], align 8",
    ]
    row = f"%row = getelementptr i64, ptr @{prefix}rows, i32 %place"
    if not any(step.row is not None for step in steps):
        row = "%row = getelementptr i8, ptr null, i32 %place"
    return f"""  br label %loop
loop:
  %k = phi i64 [ 0, %entry ], [ %more, %next ]
  %number.at = getelementptr i32, ptr @{prefix}steps, i64 %k
  %number = load i32, ptr %number.at, align 4
  %place.at = getelementptr i32, ptr %number.at, i64 1
  %place = load i32, ptr %place.at, align 4
  %function.at = getelementptr ptr, ptr @{prefix}functions, i32 %number
  %function = load ptr, ptr %function.at, align 8
  {row}
  %status = call i32 %function(ptr %inputs, ptr %outputs, ptr %arena, ptr %row)
  %failed = icmp ne i32 %status, 0
  br i1 %failed, label %done, label %next
next:
  %more = add i64 %k, 2
  %further = icmp ult i64 %more, {2 * len(steps)}
  br i1 %further, label %loop, label %done
done:
  ret i32 %status"""
