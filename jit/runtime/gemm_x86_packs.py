"""The packing of products as x86-64 assembly, which takes a tenth of LLVM's time.

The functions do what those of the same names in gemm_text do, in the System V calling convention:
six arguments in registers, a seventh above the return address.
"""

from __future__ import annotations

from collections.abc import Sequence

from jit.names import COLD
from jit.runtime.gemm_tile import Kind
from jit.runtime.gemm_x86_text import label, scaled

LANE, STEP, OUT = label("lane"), label("step"), label("out")
AHEAD = 16
"""So many steps ahead lanes are fetched."""


def function(signature: str, lines: Sequence[str]) -> str:
    """A function without a frame; the lines end where it returns."""
    text = "; ".join([*lines, f"{OUT}:", "vzeroupper", "ret"])
    return (
        f"define {signature} naked {COLD} {{\n"
        f'  call void asm sideeffect inteldialect "{text}", ""()\n'
        "  unreachable\n}"
    )


def elements(kind: Kind, signature: str) -> str:
    """One by one: for each lane, from src by s_k to dst by lanes, over k steps."""
    source, s_lane, s_k, valid, k, target = "rdi", "rsi", "rdx", "rcx", "r8", "r9"
    move = "vmovss" if kind.bytes == 4 else "vmovsd"
    lines = ["mov r10, [rsp + 8]", *(scaled(kind, r) for r in (s_lane, s_k, "r10"))]
    lines += [f"mov [rsp - 8], {k}", f"test {k}, {k}", f"jle {OUT}"]
    lines += [f"test {valid}, {valid}", f"jle {OUT}"]
    lines += [f"{LANE}:", f"mov rax, {source}", f"mov r11, {target}", f"mov {k}, [rsp - 8]"]
    lines += [f"{STEP}:", f"{move} xmm0, [rax]", f"{move} [r11], xmm0"]
    lines += [f"add rax, {s_k}", "add r11, r10", f"dec {k}", f"jg {STEP}"]
    lines += [f"add {source}, {s_lane}", f"add {target}, {kind.bytes}"]
    return function(signature, [*lines, f"dec {valid}", f"jg {LANE}"])


def copies(kind: Kind, signature: str, unit: int) -> str:
    """Vectors of `unit` lanes, of which `whole` exist at each of k steps."""
    source, s_k, whole, k, target, lanes = "rdi", "rsi", "rdx", "rcx", "r8", "r9"
    width = unit * kind.bytes
    vector = {16: "xmm0", 32: "ymm0", 64: "zmm0"}[width]
    lines = [scaled(kind, r) for r in (s_k, whole, lanes)]
    for count in (whole, k):
        lines += [f"test {count}, {count}", f"jle {OUT}"]
    lines += [f"imul r10, {s_k}, {AHEAD}", f"add r10, {source}"]
    lines += [f"{STEP}:", "xor eax, eax"]
    lines += [f"{LANE}:", "prefetcht0 [r10 + rax]"]
    lines += [f"vmovups {vector}, [{source} + rax]", f"vmovups [{target} + rax], {vector}"]
    lines += [f"add rax, {width}", f"cmp rax, {whole}", f"jl {LANE}"]
    lines += [f"add {source}, {s_k}", f"add r10, {s_k}", f"add {target}, {lanes}"]
    return function(signature, [*lines, f"dec {k}", f"jg {STEP}"])


def squares(kind: Kind, signature: str) -> str:
    """Squares of 4 lanes and steps; lane `last` serves for those behind it."""
    source, s_lane, last, steps, target, lanes = "rdi", "rsi", "rdx", "rcx", "r8", "r9"
    rows = (source, "r10", "r11", "rax")
    letter = "x" if kind.bytes == 4 else "y"
    v = [f"{letter}mm{number}" for number in range(8)]
    lines = [scaled(kind, r) for r in (s_lane, lanes)]
    for r in range(1, 4):
        # The lane before where there is none.
        lines += [f"lea {rows[r]}, [{rows[r - 1]} + {s_lane}]", f"cmp {last}, {r}"]
        lines += [f"cmovl {rows[r]}, {rows[r - 1]}"]
    lines += [f"test {steps}, {steps}", f"jle {OUT}", f"{STEP}:"]
    lines += [f"vmovups {v[r]}, [{row}]" for r, row in enumerate(rows)]
    lines += turned(kind, v)
    for r in range(4):
        lines += [f"vmovups [{target}], {v[r]}", f"add {target}, {lanes}"]
    lines += [f"add {row}, {4 * kind.bytes}" for row in rows]
    return function(signature, [*lines, f"sub {steps}, 4", f"jg {STEP}"])


def turned(kind: Kind, v: Sequence[str]) -> list[str]:
    """The square in the first four registers, transposed with the help of the others."""
    letter = "s" if kind.bytes == 4 else "d"
    lines = [
        f"vunpck{part}p{letter} {v[4 + place]}, {v[first]}, {v[first + 1]}"
        for place, (first, part) in enumerate(((0, "l"), (0, "h"), (2, "l"), (2, "h")))
    ]
    if kind.bytes == 4:
        return lines + [
            f"vmovlhps {v[0]}, {v[4]}, {v[6]}",
            f"vmovhlps {v[1]}, {v[6]}, {v[4]}",
            f"vmovlhps {v[2]}, {v[5]}, {v[7]}",
            f"vmovhlps {v[3]}, {v[7]}, {v[5]}",
        ]
    return lines + [
        f"vperm2f128 {v[0]}, {v[4]}, {v[6]}, 32",
        f"vperm2f128 {v[1]}, {v[5]}, {v[7]}, 32",
        f"vperm2f128 {v[2]}, {v[4]}, {v[6]}, 49",
        f"vperm2f128 {v[3]}, {v[5]}, {v[7]}, 49",
    ]
