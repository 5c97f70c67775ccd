"""The micro-kernels of matrix products as x86-64 assembly, which takes a twentieth of LLVM's time.

They do what those of gemm_text do, in functions of the System V calling convention. Invariant: the
bits of their results are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from jit.names import COLD
from jit.runtime.gemm_tile import Kind, kernel_signature

# The arguments %k, %a, %ars, %aks, %height and %b come in registers, the others on the stack behind
# the saved registers and the return address.
STEPS, A, A_ROW, A_STEP, HEIGHT, B = "rdi", "rsi", "rdx", "rcx", "r8", "r9"
SAVED = ("rbx", "rbp", "r12", "r13", "r14", "r15")
STACK = {
    name: f"[rsp + {8 * (len(SAVED) + 1 + place)}]"
    for place, name in enumerate(
        ("ldb", "c", "ldc", "columns", "a_next", "b_next", "c_next", "more", "far", "packed")
    )
}
KEPT = {
    register: f"[rsp - {8 * place}]"
    for place, register in enumerate((STEPS, A, A_ROW, A_STEP, HEIGHT, B), 1)
}
ONES, ZEROS = "[rsp - 112]", "[rsp - 80]"
"""Below the stack, where no signal writes: the arguments in registers, and room for a mask."""


def label(name: str) -> str:
    """A label that no object file shows, unique in a module."""
    return f"${{:private}}{name}${{:uid}}"


TILE, START, STEP, END, OUT = (label(name) for name in ("tile", "start", "step", "end", "out"))
STORE, PART, STORE_PART = (label(name) for name in ("store", "part", "store_part"))
SAME_ROWS = label("same_rows")
A_ROWS = (A, "rbx", "rbp", "r12", "r13", "r14", "r15", "r11")


class Registers(NamedTuple):
    """The vector registers of a kernel: its tile row by row, a row of B, and an element of A."""

    cells: list[list[str]]
    b: list[str]
    a: str


def registers(kind: Kind, rows: int, w: int) -> Registers:
    letter = "z" if kind.tile.width == 64 else "y"
    names = [f"{letter}mm{number}" for number in range((rows + 1) * w + 1)]
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
    return (
        f"define {kernel_signature(kind, rows, w, packs)} naked {COLD} {{\n"
        f'  call void asm sideeffect inteldialect "{"; ".join(lines)}", ""()\n'
        "  unreachable\n}"
    )


def keep(rows: int) -> list[str]:
    """The arguments that the next tile needs, if there is one, and the height."""
    saves = [f"mov {place}, {register}" for register, place in KEPT.items() if register != HEIGHT]
    return [f"mov {KEPT[HEIGHT]}, {HEIGHT}", f"cmp {HEIGHT}, {rows}", f"jle {TILE}", *saves]


def scaled(kind: Kind, register: str) -> str:
    """Elements to bytes."""
    return f"shl {register}, {kind.bytes.bit_length() - 1}"


def row_pointers(kind: Kind, rows: int) -> list[str]:
    """Where each row of A starts; the last valid one serves for those that are missing."""
    lines = [scaled(kind, A_ROW), "xor r10d, r10d"]
    for r in range(1, rows):
        lines += [f"mov rax, {A_ROW}", f"cmp {HEIGHT}, {r}", "cmovle rax, r10"]
        lines += [f"lea {A_ROWS[r]}, [{A_ROWS[r - 1]} + rax]"]
    return [*lines, f"{SAME_ROWS}:", scaled(kind, A_STEP)]


def fetch(kind: Kind, rows: int, w: int) -> list[str]:
    """Fetch the tile of C while it is computed, where it is far."""
    lines = [f"test byte ptr {STACK['far']}, 1", f"jz {START}"]
    lines += [f"mov rax, {STACK['c']}", f"mov r10, {STACK['ldc']}", scaled(kind, "r10")]
    for _ in range(rows):
        lines += [f"prefetchw [rax + {j * kind.tile.width}]" for j in range(w)]
        lines += ["add rax, r10"]
    return [*lines, f"{START}:"]


def steps(kind: Kind, rows: int, w: int, packs: bool) -> list[str]:
    """The loop over the steps, with the tile in registers."""
    use, width = registers(kind, rows, w), kind.tile.width
    clear = "vpxord" if width == 64 else "vxorps"
    letter = "s" if kind.bytes == 4 else "d"
    # From here on r8 is the distance of rows of B, rax how far the steps of A have come, r10 where
    # the next row of B is kept.
    lines = [f"mov r8, {STACK['ldb']}", scaled(kind, "r8"), "xor eax, eax"]
    lines += [f"mov r10, {STACK['packed']}"] * packs
    lines += [f"{clear} {cell}, {cell}, {cell}" for row in use.cells for cell in row]
    lines += [f"{STEP}:"]
    lines += [f"vmovups {vector}, [{B} + {j * width}]" for j, vector in enumerate(use.b)]
    if packs:
        lines += [f"vmovups [r10 + {j * width}], {vector}" for j, vector in enumerate(use.b)]
        lines += [f"add r10, {w * width}"]
    for pointer, row in zip(A_ROWS, use.cells, strict=False):
        lines += [f"vbroadcasts{letter} {use.a}, [{pointer} + rax]"]
        lines += [
            f"vfmadd231p{letter} {cell}, {use.a}, {vector}"
            for cell, vector in zip(row, use.b, strict=True)
        ]
    return [*lines, f"add rax, {A_STEP}", f"add {B}, r8", f"dec {STEPS}", f"jg {STEP}"]


def results(kind: Kind, rows: int, w: int) -> list[str]:
    """Store what exists of the tile, or add it to C."""
    lines = [f"mov rdx, {STACK['ldc']}", scaled(kind, "rdx"), f"mov {HEIGHT}, {KEPT[HEIGHT]}"]
    # Stores under a mask take several times as long as others.
    lines += [f"mov rcx, {STACK['columns']}", f"cmp rcx, {w * kind.lanes}", f"jne {PART}"]
    lines += [*into_c(kind, rows, w, STORE, plain), f"jmp {END}"]
    lines += [f"{PART}:", f"sub rcx, {(w - 1) * kind.lanes}"]
    if kind.tile.width == 64:
        lines += ["mov eax, 1", "shl eax, cl", "dec eax", "kmovw k1, eax"]
        return [*lines, *into_c(kind, rows, w, STORE_PART, masked)]
    mask = registers(kind, rows, w).a
    return [*lines, *window(kind, mask), *into_c(kind, rows, w, STORE_PART, by_moves)]


def into_c(kind: Kind, rows: int, w: int, store: str, last: Moves) -> list[str]:
    """The same, with the instructions for the last vector of a row. `store` is a label."""
    use, width = registers(kind, rows, w), kind.tile.width
    lines = [f"test byte ptr {STACK['more']}, 1", f"jz {store}"]
    for part, label in enumerate((store, END)):
        lines += [f"mov rax, {STACK['c']}"]
        for r, row in enumerate(use.cells):
            lines += [f"cmp {HEIGHT}, {r}", f"jle {label}"] * (r > 0)
            for j, cell in enumerate(row):
                moves = last if j == w - 1 else plain
                lines += moves(kind, use, cell, f"[rax + {j * width}]")[part]
            lines += ["add rax, rdx"]
        lines += [f"{store}:"] * (part == 0)
    return lines


Moves: TypeAlias = "Callable[[Kind, Registers, str, str], tuple[list[str], list[str]]]"
"""What adds a vector of C to a register, and what stores it."""


def plain(kind: Kind, use: Registers, cell: str, place: str) -> tuple[list[str], list[str]]:
    letter = "s" if kind.bytes == 4 else "d"
    return [f"vaddp{letter} {cell}, {cell}, {place}"], [f"vmovups {place}, {cell}"]


def masked(kind: Kind, use: Registers, cell: str, place: str) -> tuple[list[str], list[str]]:
    """Under the mask k1."""
    letter = "s" if kind.bytes == 4 else "d"
    add = f"vaddp{letter} {cell} {{k1}}, {cell}, {place}"
    return [add], [f"vmovup{letter} {place} {{k1}}, {cell}"]


def by_moves(kind: Kind, use: Registers, cell: str, place: str) -> tuple[list[str], list[str]]:
    """Under the mask in the register that held elements of A."""
    letter, old = "s" if kind.bytes == 4 else "d", use.b[0]
    load = f"vmaskmovp{letter} {old}, {use.a}, {place}"
    add = f"vaddp{letter} {cell}, {cell}, {old}"
    return [load, add], [f"vmaskmovp{letter} {place}, {use.a}, {cell}"]


def window(kind: Kind, mask: str) -> list[str]:
    """A mask of rcx elements: a window on as many ones, and on zeros."""
    return [
        f"vpcmpeqd {mask}, {mask}, {mask}",
        f"vmovdqu {ONES}, {mask}",
        f"vpxor {mask}, {mask}, {mask}",
        f"vmovdqu {ZEROS}, {mask}",
        "neg rcx",
        f"vmovdqu {mask}, [rsp + {kind.bytes} * rcx - 80]",
    ]


def next_tile(kind: Kind, rows: int) -> list[str]:
    """Go on with another tile, if there are more rows."""
    lines = [f"mov {HEIGHT}, {KEPT[HEIGHT]}", f"sub {HEIGHT}, {rows}", f"jle {OUT}"]
    lines += [f"mov {KEPT[HEIGHT]}, {HEIGHT}"]
    for operand, pointer in (("a", KEPT[A]), ("b", KEPT[B]), ("c", STACK["c"])):
        lines += [f"mov rax, {STACK[operand + '_next']}", scaled(kind, "rax")]
        lines += [f"add {pointer}, rax"]
    # Where A stays, so do the pointers to its rows.
    for register in (STEPS, A_STEP, B):
        lines += [f"mov {register}, {KEPT[register]}"]
    lines += [f"cmp qword ptr {STACK['a_next']}, 0", f"je {SAME_ROWS}"]
    lines += [f"mov {A}, {KEPT[A]}", f"mov {A_ROW}, {KEPT[A_ROW]}", f"jmp {TILE}"]
    return lines
