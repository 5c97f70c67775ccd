"""The packing of products as x86-64 assembly, which takes a tenth of LLVM's time.

The functions do what those of the same names in gemm_text do, in the System V calling convention:
six arguments in registers, a seventh above the return address.
"""

from __future__ import annotations

from collections.abc import Sequence

from jit.runtime.gemm_tile import Kind
from jit.runtime.gemm_x86_text import defined, label, number, scaled

LANE, STEP, OUT = label("lane"), label("step"), label("out")
AHEAD = 16
"""So many steps ahead lanes are fetched."""


def function(signature: str, lines: Sequence[str]) -> str:
    """A function without a frame; the lines end where it returns."""
    return defined(signature, [*lines, f"{OUT}:", "vzeroupper", "ret"])


def elements(kind: Kind, signature: str) -> str:
    """One by one: for each lane, from src by s_k to dst by lanes, over k steps."""
    source, s_lane, s_k, valid, k, target = "%rdi", "%rsi", "%rdx", "%rcx", "%r8", "%r9"
    move = "vmovss" if kind.bytes == 4 else "vmovsd"
    lines = ["movq 8(%rsp), %r10", *(scaled(kind, r) for r in (s_lane, s_k, "%r10"))]
    lines += [f"movq {k}, -8(%rsp)", f"testq {k}, {k}", f"jle {OUT}"]
    lines += [f"testq {valid}, {valid}", f"jle {OUT}"]
    lines += [f"{LANE}:", f"movq {source}, %rax", f"movq {target}, %r11", f"movq -8(%rsp), {k}"]
    lines += [f"{STEP}:", f"{move} (%rax), %xmm0", f"{move} %xmm0, (%r11)"]
    lines += [f"addq {s_k}, %rax", "addq %r10, %r11", f"decq {k}", f"jg {STEP}"]
    lines += [f"addq {s_lane}, {source}", f"addq {number(kind.bytes)}, {target}"]
    return function(signature, [*lines, f"decq {valid}", f"jg {LANE}"])


def copies(kind: Kind, signature: str, unit: int) -> str:
    """Vectors of `unit` lanes, of which `whole` exist at each of k steps."""
    source, s_k, whole, k, target, lanes = "%rdi", "%rsi", "%rdx", "%rcx", "%r8", "%r9"
    width = unit * kind.bytes
    vector = {16: "%xmm0", 32: "%ymm0", 64: "%zmm0"}[width]
    lines = [scaled(kind, r) for r in (s_k, whole, lanes)]
    for count in (whole, k):
        lines += [f"testq {count}, {count}", f"jle {OUT}"]
    lines += [f"imulq {number(AHEAD)}, {s_k}, %r10", f"addq {source}, %r10"]
    lines += [f"{STEP}:", "xorl %eax, %eax"]
    lines += [f"{LANE}:", "prefetcht0 (%r10, %rax)"]
    lines += [f"vmovups ({source}, %rax), {vector}", f"vmovups {vector}, ({target}, %rax)"]
    lines += [f"addq {number(width)}, %rax", f"cmpq {whole}, %rax", f"jl {LANE}"]
    lines += [f"addq {s_k}, {source}", f"addq {s_k}, %r10", f"addq {lanes}, {target}"]
    return function(signature, [*lines, f"decq {k}", f"jg {STEP}"])


def tails(kind: Kind, signature: str, unit: int) -> str:
    """The first `some` lanes, fewer than `unit`, at each of k steps; zeros up to `unit` behind."""
    source, s_k, some, k, target, lanes = "%rdi", "%rsi", "%rdx", "%r10", "%r8", "%r9"
    letter = "s" if kind.bytes == 4 else "d"
    stored = {32: "%ymm0", 64: "%zmm0"}[unit * kind.bytes]
    lines = ["movq %rcx, %r10", *(scaled(kind, r) for r in (s_k, lanes))]
    for count in (some, k):
        lines += [f"testq {count}, {count}", f"jle {OUT}"]
    lines += [f"movl {number(1)}, %eax", "movl %edx, %ecx", "shll %cl, %eax", "decl %eax"]
    lines += ["kmovw %eax, %k1", f"imulq {number(AHEAD)}, {s_k}, %rax"]
    lines += [f"{STEP}:", f"prefetcht0 ({source}, %rax)"]
    # A whole vector, since masks on half of one are an extension of their own.
    lines += [f"vmovup{letter} ({source}), %zmm0 {{%k1}} {{z}}", f"vmovups {stored}, ({target})"]
    lines += [f"addq {s_k}, {source}", f"addq {lanes}, {target}"]
    return function(signature, [*lines, f"decq {k}", f"jg {STEP}"])


def squares(kind: Kind, signature: str, side: int) -> str:
    """Squares of 4 steps and lanes, two abreast for a `side` of 8; lane `last` serves for those
    behind it.
    """
    source, s_lane, last, steps, target, lanes = "%rdi", "%rsi", "%rdx", "%rcx", "%r8", "%r9"
    saved = ("%rbx", "%rbp", "%r12", "%r13") if side > 4 else ()
    rows = (source, "%r10", "%r11", "%rax", *saved)
    wide = side * kind.bytes == 32
    v = [f"%{'y' if wide else 'x'}mm{number}" for number in range(8)]
    lines = [*(f"push {register}" for register in saved)]
    lines += [scaled(kind, r) for r in (s_lane, lanes, steps)]
    for r in range(1, side):
        # The lane before where there is none.
        lines += [f"leaq ({rows[r - 1]}, {s_lane}), {rows[r]}", f"cmpq {number(r)}, {last}"]
        lines += [f"cmovlq {rows[r - 1]}, {rows[r]}"]
    # From here on rsi is how far the steps have come, rdx the distance of three of them in dst.
    lines += [f"leaq ({lanes}, {lanes}, 2), {last}", "xorl %esi, %esi"]
    lines += [f"testq {steps}, {steps}", f"jle {OUT}", f"{STEP}:"]
    for r in range(4):
        if side == 4:
            lines += [f"vmovups ({rows[r]}, %rsi), {v[r]}"]
        else:
            lines += [f"vmovups ({rows[r]}, %rsi), %xmm{r}"]
            lines += [f"vinsertf128 {number(1)}, ({rows[r + 4]}, %rsi), {v[r]}, {v[r]}"]
    lines += turned(kind, v)
    places = (f"({target})", *(f"({target}, {x})" for x in (lanes, f"{lanes}, 2", last)))
    lines += [f"vmovups {v[r]}, {place}" for r, place in enumerate(places)]
    lines += [f"leaq ({target}, {lanes}, 4), {target}", f"addq {number(4 * kind.bytes)}, %rsi"]
    lines += [f"cmpq {steps}, %rsi", f"jl {STEP}", f"{OUT}:"]
    lines += [f"pop {register}" for register in reversed(saved)]
    return defined(signature, [*lines, "vzeroupper", "ret"])


def turned(kind: Kind, v: Sequence[str]) -> list[str]:
    """The squares in the first four registers, transposed with the help of the others.

    Those of f32 are one in each half of a register, or in a half register.
    """
    letter = "s" if kind.bytes == 4 else "d"
    lines = [
        f"vunpck{part}p{letter} {v[first + 1]}, {v[first]}, {v[4 + place]}"
        for place, (first, part) in enumerate(((0, "l"), (0, "h"), (2, "l"), (2, "h")))
    ]
    if kind.bytes == 4:
        return lines + [
            f"vunpck{part}pd {v[6 + first]}, {v[4 + first]}, {v[2 * first + (part == 'h')]}"
            for first in (0, 1)
            for part in ("l", "h")
        ]
    low, high = number(32), number(49)
    return lines + [
        f"vperm2f128 {low}, {v[6]}, {v[4]}, {v[0]}",
        f"vperm2f128 {low}, {v[7]}, {v[5]}, {v[1]}",
        f"vperm2f128 {high}, {v[6]}, {v[4]}, {v[2]}",
        f"vperm2f128 {high}, {v[7]}, {v[5]}, {v[3]}",
    ]
