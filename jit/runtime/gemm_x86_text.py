"""The micro-kernels of matrix products as x86-64 assembly, which takes a twentieth of LLVM's time.

They do what those of gemm_text do, in functions of the System V calling convention. Invariant: the
bits of their results are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from jit.names import COLD
from jit.runtime.gemm_tile import Kind, kernel_signature
from jit.target import CACHE_LINE

# The arguments %k, %a, %ars, %aks, %height and %b come in registers, the others on the stack behind
# the saved registers and the return address.
STEPS, A, A_ROW, A_STEP, HEIGHT, B = "%rdi", "%rsi", "%rdx", "%rcx", "%r8", "%r9"
SAVED = ("%rbx", "%rbp", "%r12", "%r13", "%r14", "%r15")
STACK = {
    name: f"{8 * (len(SAVED) + 1 + place)}(%rsp)"
    for place, name in enumerate(
        (
            *("ldb", "c", "ldc", "columns", "a_next", "b_next", "c_next"),
            *("more", "far", "ahead", "packed"),
        )
    )
}
KEPT = {
    register: f"{-8 * place}(%rsp)"
    for place, register in enumerate((STEPS, A, A_ROW, A_STEP, HEIGHT, B), 1)
}
ONES, ZEROS = "-112(%rsp)", "-80(%rsp)"
"""Below the stack, where no signal writes: the arguments in registers, and room for a mask."""
AHEAD = 8
"""So many steps ahead rows of B are fetched by a kernel that packs them."""


def label(name: str) -> str:
    """A label that no object file shows, unique in a module."""
    return f"${{:private}}{name}${{:uid}}"


TILE, START, STEP, END, OUT = (label(name) for name in ("tile", "start", "step", "end", "out"))
STORE, PART, STORE_PART = (label(name) for name in ("store", "part", "store_part"))
SAME_ROWS, STEPPED, SEVERAL, REST = (
    label(name) for name in ("same_rows", "stepped", "several", "rest")
)
FORESEEN, FORESEEN_REST, UNFORESEEN = (
    label(name) for name in ("foreseen", "foreseen_rest", "unforeseen")
)
TOGETHER = 2
"""So many steps are taken at a time."""
A_ROWS = (A, "%rbx", "%rbp", "%r12", "%r13", "%r14", "%r15", "%r11")


def number(value: int) -> str:
    """An operand that is a literal."""
    return f"$${value}"


def defined(signature: str, lines: Sequence[str]) -> str:
    """A function that consists of these instructions.

    In AT&T's syntax, source before destination, which LLVM reads in half the time.
    """
    return (
        f"define {signature} naked {COLD} {{\n"
        f'  call void asm sideeffect "{"; ".join(lines)}", ""()\n'
        "  unreachable\n}"
    )


class Registers(NamedTuple):
    """The vector registers of a kernel: its tile row by row, a row of B, and an element of A."""

    cells: list[list[str]]
    b: list[str]
    a: str


def registers(kind: Kind, rows: int, w: int) -> Registers:
    letter = "z" if kind.tile.width == 64 else "y"
    names = [f"%{letter}mm{number}" for number in range((rows + 1) * w + 1)]
    lines = [names[r * w : (r + 1) * w] for r in range(rows + 1)]
    return Registers(lines[:rows], lines[rows], names[-1])


def kernel(kind: Kind, rows: int, w: int, packs: bool) -> str:
    """What gemm_text.kernel computes, on vectors of 32 or 64 bytes with fused arithmetic."""
    lines = [
        *(f"push {register}" for register in SAVED),
        *keep(rows),
        f"{TILE}:",
        *row_pointers(kind, rows),
        *fetch(kind, rows, w),
        *steps(kind, rows, w, packs),
        *results(kind, rows, w),
        f"{END}:",
        *next_tile(kind, rows),
        f"{OUT}:",
        *(f"pop {register}" for register in reversed(SAVED)),
        "vzeroupper",
        "ret",
    ]
    return defined(kernel_signature(kind, rows, w, packs), lines)


def keep(rows: int) -> list[str]:
    """The arguments that the next tile needs, if there is one, and the height."""
    saves = [f"movq {register}, {place}" for register, place in KEPT.items() if register != HEIGHT]
    least = [f"cmpq {number(rows)}, {HEIGHT}", f"jle {TILE}"]
    return [f"movq {HEIGHT}, {KEPT[HEIGHT]}", *least, *saves]


def scaled(kind: Kind, register: str) -> str:
    """Elements to bytes."""
    return f"shlq {number(kind.bytes.bit_length() - 1)}, {register}"


def row_pointers(kind: Kind, rows: int) -> list[str]:
    """Where each row of A starts; the last valid one serves for those that are missing."""
    lines = [scaled(kind, A_ROW), "xorl %r10d, %r10d"]
    for r in range(1, rows):
        lines += [f"movq {A_ROW}, %rax", f"cmpq {number(r)}, {HEIGHT}", "cmovleq %r10, %rax"]
        lines += [f"leaq ({A_ROWS[r - 1]}, %rax), {A_ROWS[r]}"]
    return [*lines, f"{SAME_ROWS}:", scaled(kind, A_STEP)]


def fetch(kind: Kind, rows: int, w: int) -> list[str]:
    """Fetch the tile of C while it is computed, where it is far."""
    lines = [f"testb {number(1)}, {STACK['far']}", f"jz {START}"]
    lines += [f"movq {STACK['c']}, %rax", f"movq {STACK['ldc']}, %r10", scaled(kind, "%r10")]
    for _ in range(rows):
        lines += [f"prefetchw {j * kind.tile.width}(%rax)" for j in range(w)]
        lines += ["addq %r10, %rax"]
    return [*lines, f"{START}:"]


def steps(kind: Kind, rows: int, w: int, packs: bool) -> list[str]:
    """The loop over the steps, with the tile in registers."""
    use = registers(kind, rows, w)
    clear = "vpxord" if kind.tile.width == 64 else "vxorps"
    # From here on r8 is the distance of rows of B, rax how far the steps of A have come, r10 where
    # the next row of B is kept.
    lines = [f"movq {STACK['ldb']}, %r8", scaled(kind, "%r8"), "xorl %eax, %eax"]
    if packs:
        # rdx is how far ahead rows of B are fetched: they are too far apart to be foreseen.
        lines += [f"movq {STACK['packed']}, %r10", f"imulq {number(AHEAD)}, %r8, %rdx"]
    lines += [f"{clear} {cell}, {cell}, {cell}" for row in use.cells for cell in row]
    if kind.tile.width == 32 and not packs:
        lines += together(kind, use, w)
    lines += [f"{STEP}:", *row_of_b(kind, use, 0)]
    lines += passed_on(kind, use, w) if packs else fetched(kind, w)
    lines += [*multiplied(kind, use), f"addq %r8, {B}", f"decq {STEPS}", f"jg {STEP}"]
    return [*lines, f"{STEPPED}:"]


def row_of_b(kind: Kind, use: Registers, at: int) -> list[str]:
    """The row of B that is `at` bytes further, in registers."""
    return [f"vmovups {at + j * kind.tile.width}({B}), {vector}" for j, vector in enumerate(use.b)]


def passed_on(kind: Kind, use: Registers, w: int) -> list[str]:
    """Keep the row of B for those that come after, and fetch one that is to come."""
    width = kind.tile.width
    lines = [f"prefetcht0 {j * width}({B}, %rdx)" for j in range(w)]
    lines += [f"vmovups {vector}, {j * width}(%r10)" for j, vector in enumerate(use.b)]
    return [*lines, f"addq {number(w * width)}, %r10"]


def fetched(kind: Kind, w: int) -> list[str]:
    """Fetch the same row of the next panel: of a B read as it lies no one foresees the rows."""
    size = w * kind.tile.width
    return [f"prefetcht0 {size + line}({B})" for line in range(0, size, CACHE_LINE)]


def multiplied(kind: Kind, use: Registers) -> list[str]:
    """Add the products of a step to the tile, and go on to the next step of A."""
    letter, lines = "s" if kind.bytes == 4 else "d", list[str]()
    for pointer, row in zip(A_ROWS, use.cells, strict=False):
        lines += [f"vbroadcasts{letter} ({pointer}, %rax), {use.a}"]
        lines += [
            f"vfmadd231p{letter} {vector}, {use.a}, {cell}"
            for cell, vector in zip(row, use.b, strict=True)
        ]
    return [*lines, f"addq {A_STEP}, %rax"]


def together(kind: Kind, use: Registers, w: int) -> list[str]:
    """Several steps at a time, where the rows of B follow each other.

    A step of so few products is bound by its number of instructions, the more where another thread
    has the other half of the core.
    """
    size = w * kind.tile.width
    lines = [f"cmpq {number(size)}, %r8", f"jne {STEP}", *foreseen(kind, use, size)]
    lines += [f"subq {number(TOGETHER)}, {STEPS}", f"jl {REST}", ".p2align 5", f"{SEVERAL}:"]
    for k in range(TOGETHER):
        lines += [*row_of_b(kind, use, k * size), *multiplied(kind, use)]
    lines += [f"addq {number(TOGETHER * size)}, {B}"]
    lines += [f"subq {number(TOGETHER)}, {STEPS}", f"jge {SEVERAL}"]
    return [*lines, f"{REST}:", f"addq {number(TOGETHER)}, {STEPS}", f"jle {STEPPED}"]


def foreseen(kind: Kind, use: Registers, size: int) -> list[str]:
    """As many steps at a time as there are rows, each of which fetches one of the rows of A ahead.

    Where steps are further apart than rows, the rows lie in one line, which every step fetches.
    """
    rows = len(use.cells)
    # rdx is where the steps have come to, ahead.
    lines = [f"movq {STACK['ahead']}, %rdx", scaled(kind, "%rdx"), f"jz {UNFORESEEN}"]
    lines += [f"subq {number(rows)}, {STEPS}", f"jl {FORESEEN_REST}"]
    lines += [".p2align 5", f"{FORESEEN}:"]
    for k, row in enumerate(A_ROWS[:rows]):
        lines += [*row_of_b(kind, use, k * size), f"prefetcht0 ({row}, %rdx)"]
        lines += [*multiplied(kind, use), f"addq {A_STEP}, %rdx"]
    lines += [f"addq {number(rows * size)}, {B}", f"subq {number(rows)}, {STEPS}"]
    lines += [f"jge {FORESEEN}", f"{FORESEEN_REST}:", f"addq {number(rows)}, {STEPS}"]
    return [*lines, f"jle {STEPPED}", f"{UNFORESEEN}:"]


def results(kind: Kind, rows: int, w: int) -> list[str]:
    """Store what exists of the tile, or add it to C."""
    lines = [f"movq {STACK['ldc']}, %rdx", scaled(kind, "%rdx"), f"movq {KEPT[HEIGHT]}, {HEIGHT}"]
    lines += [f"movq {STACK['columns']}, %rcx"]
    # Stores under a mask take several times as long as others.
    lines += [f"cmpq {number(rows)}, {HEIGHT}", f"jl {PART}"]
    lines += [f"cmpq {number(w * kind.lanes)}, %rcx", f"jne {PART}"]
    lines += [*into_c(kind, rows, w, STORE, plain), f"jmp {END}"]
    lines += [f"{PART}:", f"subq {number((w - 1) * kind.lanes)}, %rcx"]
    if kind.tile.width == 64:
        lines += [f"movl {number(1)}, %eax", "shll %cl, %eax", "decl %eax", "kmovw %eax, %k1"]
        return [*lines, *into_c(kind, rows, w, STORE_PART, masked)]
    mask = registers(kind, rows, w).a
    return [*lines, *window(kind, mask), *into_c(kind, rows, w, STORE_PART, by_moves)]


def into_c(kind: Kind, rows: int, w: int, store: str, last: Moves) -> list[str]:
    """The same, with the instructions for the last vector of a row. `store` is a label.

    All rows exist where these are plain.
    """
    use, width = registers(kind, rows, w), kind.tile.width
    lines = [f"testb {number(1)}, {STACK['more']}", f"jz {store}"]
    for part, after in enumerate((store, END)):
        lines += [f"movq {STACK['c']}, %rax"]
        for r, row in enumerate(use.cells):
            if r and last is not plain:
                lines += [f"cmpq {number(r)}, {HEIGHT}", f"jle {after}"]
            for j, cell in enumerate(row):
                moves = last if j == w - 1 else plain
                lines += moves(kind, use, cell, f"{j * width}(%rax)")[part]
            lines += ["addq %rdx, %rax"]
        lines += [f"{store}:"] * (part == 0)
    return lines


Moves: TypeAlias = "Callable[[Kind, Registers, str, str], tuple[list[str], list[str]]]"
"""What adds a vector of C to a register, and what stores it."""


def plain(kind: Kind, use: Registers, cell: str, place: str) -> tuple[list[str], list[str]]:
    letter = "s" if kind.bytes == 4 else "d"
    return [f"vaddp{letter} {place}, {cell}, {cell}"], [f"vmovups {cell}, {place}"]


def masked(kind: Kind, use: Registers, cell: str, place: str) -> tuple[list[str], list[str]]:
    """Under the mask k1."""
    letter = "s" if kind.bytes == 4 else "d"
    add = f"vaddp{letter} {place}, {cell}, {cell} {{%k1}}"
    return [add], [f"vmovup{letter} {cell}, {place} {{%k1}}"]


def by_moves(kind: Kind, use: Registers, cell: str, place: str) -> tuple[list[str], list[str]]:
    """Under the mask in the register that held elements of A."""
    letter, old = "s" if kind.bytes == 4 else "d", use.b[0]
    load = f"vmaskmovp{letter} {place}, {use.a}, {old}"
    add = f"vaddp{letter} {old}, {cell}, {cell}"
    return [load, add], [f"vmaskmovp{letter} {cell}, {use.a}, {place}"]


def window(kind: Kind, mask: str) -> list[str]:
    """A mask of rcx elements: a window on as many ones, and on zeros."""
    return [
        f"vpcmpeqd {mask}, {mask}, {mask}",
        f"vmovdqu {mask}, {ONES}",
        f"vpxor {mask}, {mask}, {mask}",
        f"vmovdqu {mask}, {ZEROS}",
        "negq %rcx",
        f"vmovdqu -80(%rsp, %rcx, {kind.bytes}), {mask}",
    ]


def next_tile(kind: Kind, rows: int) -> list[str]:
    """Go on with another tile, if there are more rows."""
    lines = [f"movq {KEPT[HEIGHT]}, {HEIGHT}", f"subq {number(rows)}, {HEIGHT}", f"jle {OUT}"]
    lines += [f"movq {HEIGHT}, {KEPT[HEIGHT]}"]
    for operand, pointer in (("a", KEPT[A]), ("b", KEPT[B]), ("c", STACK["c"])):
        lines += [f"movq {STACK[operand + '_next']}, %rax", scaled(kind, "%rax")]
        lines += [f"addq %rax, {pointer}"]
    # Where A stays, so do the pointers to its rows.
    for register in (STEPS, A_STEP, B):
        lines += [f"movq {KEPT[register]}, {register}"]
    lines += [f"cmpq {number(0)}, {STACK['a_next']}", f"je {SAME_ROWS}"]
    lines += [f"movq {KEPT[A]}, {A}", f"movq {KEPT[A_ROW]}, {A_ROW}", f"jmp {TILE}"]
    return lines
