"""Runs kernels that share an outer loop block by block of it, so that what they hand on stays near.

Kernels such as the products and the softmax of attention all go over the same members of a batch,
a product and what follows it elementwise over the same rows, and one need not be through with all
of them before the next begins. Where what lies between them is larger than a cache, they become one
kernel that goes through these once, some at a time, and each thread takes its own block through all
of the kernels; arrays that no other kernel sees are then no larger than a few blocks.

Invariant: a block reads of what the kernels write only what it wrote itself, so every value is the
one that the kernels in order would have computed, by the same operations, on any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import gcd
from typing import NamedTuple, TypeAlias

from jit.loop_ir.nodes import (
    ITEMSIZE,
    Address,
    Block,
    Buffer,
    Callback,
    CallExtern,
    For,
    Grow,
    Kernel,
    Load,
    Pointer,
    Program,
    Run,
    Store,
    inner_blocks,
)
from jit.passes.buffers import rounded
from jit.passes.merged import Cut, Merger
from jit.passes.touches import M, Member, Touch, bytes_of, member_of

LEAST_BYTES = 1 << 22
"""Smaller arrays stay in a cache by themselves."""
BLOCK_BYTES, MOST_BYTES = 1 << 19, 1 << 21
"""As much of an array as a block should hold, for the second cache, and as it may hold at most."""
LEAST_ROWS = 128
"""Products of fewer rows would be slower: each of them brings the other operand in again."""
LEAST_BLOCKS = 8
"""Fewer blocks leave threads without work."""
LEAST_MEMBERS = 8
"""Nor are fewer iterations worth sharing among threads."""
LANES = 16
"""Rows of blocks that use the same memory one after the other."""
BLOCKS_OF_LANE = 4
"""So many of them there are at least in each of several lanes."""


MOST_KERNELS = 32
"""Longer runs are not looked for."""


class Blocked(NamedTuple):
    """A program, and a line for each of its kernels that was several."""

    program: Program
    lines: list[str]


def in_blocks(program: Program) -> Blocked:
    """The program with runs of kernels made one where that keeps arrays in a cache."""
    if not any(is_large(b) for b in program.buffers if b.kind in ("temp", "output")):
        return Blocked(program, [])
    members = [member_of(kernel) for kernel in program.kernels]
    kernels: list[Kernel] = []
    buffers = {b.name: b for b in program.buffers}
    lines: list[str] = []
    arena, at = program.arena_bytes, 0
    while at < len(members):
        run, memory = next(settled_runs(members, at, program, arena), ([], None))
        if memory is None:
            kernels.append(program.kernels[at])
            at += 1
            continue
        made = Merger(run, memory.cut, memory.small, memory.moved).merged()
        kernels.append(made)
        buffers |= memory.moved
        names = ", ".join([member.kernel.name for member in run])
        lines.append(f"{names}: together, block by block of {memory.cut.blocks}")
        arena, at = memory.arena, at + len(run)
    blocked = Program(program.name, list(buffers.values()), kernels, arena, program.errors)
    return Blocked(blocked, lines)


def is_large(buffer: Buffer) -> bool:
    return bytes_of(buffer) >= LEAST_BYTES


# -- which kernels go together ----------------------------------------------------------------


def settled_runs(
    members: Sequence[Member | None], at: int, program: Program, arena: int
) -> Iterator[tuple[list[Member], Memory]]:
    """Runs of kernels from `at` on that may go through blocks together, the longest first."""
    run: list[Member] = []
    for member in members[at : at + MOST_KERNELS]:
        if member is None or cut_of([*run, member]) is None:
            break
        run.append(member)
    while len(run) > 1:
        memory = settle(run, private_of(run, program), arena) if pays(run) else None
        if memory is not None:
            yield run, memory
        run = run[:-1]


Touches: TypeAlias = dict[str, list[tuple[Member, Touch]]]


def touched(run: Sequence[Member]) -> Touches:
    """What the kernels of a run touch, by buffer; memory of a kernel alone is left out."""
    found: Touches = {}
    for member in run:
        for touch in member.touches:
            if touch.buffer.kind != "local":
                found.setdefault(touch.buffer.name, []).append((member, touch))
    return found


def handed_on(run: Sequence[Member]) -> Touches:
    """What several kernels of a run touch and one writes, by buffer."""
    return {
        name: touches
        for name, touches in touched(run).items()
        if len({id(member) for member, _ in touches}) > 1 and is_written(touches)
    }


def is_written(touches: Sequence[tuple[Member, Touch]]) -> bool:
    return any(touch.writes for _, touch in touches)


def units_of(run: Sequence[Member]) -> int:
    """Into how many equal shares all the outer loops can be cut."""
    return gcd(*[member.extent for member in run])


def cut_of(run: Sequence[Member]) -> Cut | None:
    """How the outer loops of a run are cut into blocks; None where they cannot be.

    Whatever a kernel writes, blocks must touch places of their own of it.
    """
    units = units_of(run)
    written = [touches for touches in touched(run).values() if is_written(touches)]
    if any(share_of(touches, units) is None for touches in written):
        return None
    between = handed_on(run).values()
    largest = max([bytes_of(touches[0][1].buffer) for touches in between], default=1)
    return cut_for_each_thread(run, units, largest) or cut_for_all_threads(run, units, largest)


def cut_for_each_thread(run: Sequence[Member], units: int, largest: int) -> Cut | None:
    """Blocks that threads go through by themselves, if there are enough of them.

    `largest` is what an array that is handed on takes.
    """
    least = max([-(-LEAST_ROWS * units // m.extent) for m in run if m.counted == M], default=1)
    size = min(BLOCK_BYTES * units // largest, units // LEAST_BLOCKS)
    size = evened(units, max(size, least, 1), least)
    cut = Cut(units, size)
    fits = largest * size <= MOST_BYTES * units
    return cut if fits and cut.blocks >= LEAST_BLOCKS else None


def cut_for_all_threads(run: Sequence[Member], units: int, largest: int) -> Cut | None:
    """Blocks one after the other, the kernels of which have threads of their own."""
    sizes = [n for n in range(units // 2, 0, -1) if units % n == 0]
    size = next((n for n in sizes if largest * n <= MOST_BYTES * units), 0)
    if not size or not all(
        isinstance(m.loop, CallExtern) or calls(m.loop) or m.extent * size >= units * LEAST_MEMBERS
        for m in run
    ):
        return None
    return Cut(units, size, together=True)


def calls(loop: For) -> bool:
    """Is it a loop of calls, which have threads of their own?"""
    return any(isinstance(stmt, CallExtern) for stmt in loop.body.stmts)


def evened(units: int, size: int, least: int) -> int:
    """About `size`, so that blocks are equal, or else nearly so."""
    equal = [s for s in range(size, max(size // 2, least - 1), -1) if units % s == 0]
    return equal[0] if equal else -(-units // -(-units // size))


def share_of(touches: Sequence[tuple[Member, Touch]], units: int) -> int | None:
    """How many elements of a buffer each share has to itself; None where shares meet."""
    sizes: set[int] = set()
    for member, (_, span, _) in touches:
        if span is None or span.low < 0 or span.high >= span.slope:
            return None
        sizes.add(span.slope * (member.extent // units))
    return sizes.pop() if len(sizes) == 1 else None


def pays(run: Sequence[Member]) -> bool:
    """Do its first and last kernel have to do with arrays, handed on, too large for a cache?"""
    between = [touches for touches in handed_on(run).values() if is_large(touches[0][1].buffer)]
    served = {id(member) for touches in between for member, _ in touches}
    return {id(run[0]), id(run[-1])} <= served


# -- where what only a run needs lies ---------------------------------------------------------


class Memory(NamedTuple):
    """How a run is cut, and its own buffers: the elements that a block has of each, and where.

    `arena` is what the program then needs.
    """

    cut: Cut
    small: dict[str, int]
    moved: dict[str, Buffer]
    arena: int


def settle(run: Sequence[Member], private: set[str], arena: int) -> Memory | None:
    """Make the private buffers small, and find places for them where nothing else of the run lies.

    Buffers may lie in one place if blocks have the same bytes of each to themselves, as where a
    kernel writes over what it read. None where blocks meet: where memory that one of the kernels
    gives back is what a later one takes.
    """
    cut = cut_of(run)
    assert cut is not None
    shares = {name: share_of(t, cut.units) for name, t in touched(run).items()}
    temps = {t.buffer.name: t.buffer for m in run for t in m.touches if t.buffer.kind == "temp"}
    places: dict[tuple[int, int], list[str]] = {}
    for name, buffer in temps.items():
        places.setdefault((buffer.place, bytes_of(buffer)), []).append(name)
    if not all(fit_together(temps, shares, names) for names in places.values()):
        return None
    lanes = 1 if cut.together else min(LANES, max(LEAST_BLOCKS, cut.blocks // BLOCKS_OF_LANE))
    small: dict[str, int] = {}
    for names in places.values():
        if private.issuperset(names) and cut.blocks > lanes:
            small.update((name, (shares[name] or 0) * cut.size) for name in names)
    made = {name: temps[name]._replace(size=lanes * size) for name, size in small.items()}
    temps |= made
    for names in places.values():
        others = [temps[name] for name in temps if name not in names]
        if small.keys() >= set(names) and any(overlap(temps[names[0]], b) for b in others):
            place = rounded(arena)
            made.update((name, made[name]._replace(place=place)) for name in names)
            temps |= made
            arena = place + bytes_of(made[names[0]])
    firsts = [temps[names[0]] for names in places.values()]
    if any(overlap(a, b) for a, b in combinations(firsts, 2)):
        return None
    return Memory(cut._replace(lanes=lanes), small, made, arena)


def fit_together(
    temps: Mapping[str, Buffer], shares: Mapping[str, int | None], names: Sequence[str]
) -> bool:
    """May buffers of one place be used block by block?"""
    sizes = {(shares[name] or 0) * ITEMSIZE[temps[name].dtype] for name in names}
    return len(names) == 1 or (len(sizes) == 1 and 0 not in sizes)


def private_of(run: Sequence[Member], program: Program) -> set[str]:
    """The names of temps that only the kernels of a run touch."""
    mine = {id(member.kernel) for member in run}
    seen = {
        name
        for kernel in program.kernels
        if id(kernel) not in mine
        for name in names_in(kernel.body)
    }
    temps = {b.name for b in program.buffers if b.kind == "temp"}
    return (temps & handed_on(run).keys()) - seen


def names_in(block: Block) -> Iterator[str]:
    """The names of all buffers that a block mentions."""
    for stmt in block.stmts:
        pointers: Sequence[object] = ()
        match stmt:
            case Load() | Store() | Address() | Grow():
                yield stmt.buffer.name
            case CallExtern():
                pointers = stmt.args
            case Callback():
                pointers = stmt.pointers
            case Run():
                pointers = (stmt.inputs, stmt.outputs, stmt.arena)
            case _:
                for inner in inner_blocks(stmt):
                    yield from names_in(inner)
        yield from [p.buffer.name for p in pointers if isinstance(p, Pointer)]


def overlap(a: Buffer, b: Buffer) -> bool:
    """Do two places in the arena share bytes?"""
    return a.place < b.place + bytes_of(b) and b.place < a.place + bytes_of(a)
