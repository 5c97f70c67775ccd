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
from dataclasses import replace
from itertools import combinations
from math import gcd
from typing import NamedTuple, TypeAlias

from jit.loop_ir.nodes import (
    ITEMSIZE,
    Buffer,
    Kernel,
    Program,
)
from jit.passes import again
from jit.passes.buffers import rounded
from jit.passes.merged import Cut, Merger
from jit.passes.touches import Member, Touch, bytes_of, member_of, names_in, overlap

LEAST_BYTES = 1 << 22
"""Smaller arrays stay in a cache by themselves."""
BLOCK_BYTES, MOST_BYTES = 1 << 18, 1 << 21
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


MOST_KERNELS = 8
"""Longer runs are not looked for: those of long programs are then alike, and compiled once."""


Touches: TypeAlias = dict[str, list[tuple[Member, Touch]]]
Users: TypeAlias = dict[str, set[int]]


class Blocked(NamedTuple):
    """A program, and a line for each of its kernels that was several."""

    program: Program
    lines: list[str]


class Merged(NamedTuple):
    """The same, with what the kernels were that became one, and the buffers that became small."""

    blocked: Blocked
    members: list[Member | None]
    runs: list[range]
    small: set[str]


def in_blocks(program: Program) -> Blocked:
    """The program with runs of kernels made one where that keeps arrays in a cache.

    What a later run wants of an earlier one is computed again if both then keep it in a cache.
    """
    if not any(is_large(b) for b in program.buffers if b.kind in ("temp", "output")):
        return Blocked(program, [])
    plain = merged(program)
    found = again.candidates(program, plain.members, plain.runs, LEAST_BYTES)
    while found:
        longer = merged(again.with_again(program, found))
        kept = [a for a in found if longer.small >= {a.buffer.name, a.name}]
        if len(kept) == len(found):
            lines = [f"{a.kernel.name}: computes {a.buffer.name} rather than keep it" for a in kept]
            return Blocked(longer.blocked.program, longer.blocked.lines + lines)
        found = kept
    return plain.blocked


def merged(program: Program) -> Merged:
    """The program with runs of kernels made one, the longest first."""
    members = [member_of(kernel) for kernel in program.kernels]
    users = users_of(program)
    kernels: list[Kernel] = []
    buffers = {b.name: b for b in program.buffers}
    lines: list[str] = []
    runs: list[range] = []
    small: set[str] = set()
    arena, at = program.arena_bytes, 0
    while at < len(members):
        run, memory = next(settled_runs(members, at, users, arena), ([], None))
        if memory is None:
            kernels.append(program.kernels[at])
            at += 1
            continue
        made = Merger(run, memory.cut, memory.small, memory.moved).merged()
        kernels.append(made)
        buffers |= memory.moved
        names = ", ".join([member.kernel.name for member in run])
        lines.append(f"{names}: together, block by block of {memory.cut.blocks}")
        runs.append(range(at, at + len(run)))
        small.update(memory.small)
        arena, at = memory.arena, at + len(run)
    result = Program(program.name, list(buffers.values()), kernels, arena, program.errors)
    return Merged(Blocked(result, lines), members, runs, small)


def is_large(buffer: Buffer) -> bool:
    return bytes_of(buffer) >= LEAST_BYTES


# -- which kernels go together ----------------------------------------------------------------


def settled_runs(
    members: Sequence[Member | None], at: int, users: Users, arena: int
) -> Iterator[tuple[list[Member], Memory]]:
    """Runs of kernels from `at` on that may go through blocks together, the longest first."""
    run: list[Member] = []
    first = members[at]
    if first is None or not any(is_large(touch.buffer) for touch in first.touches):
        return
    for member in members[at : at + MOST_KERNELS]:
        longer = None if member is None else joined(run, member)
        if longer is None:
            break
        run = longer
    while len(run) > 1:
        memory = settle(run, private_of(run, users), arena) if pays(run) else None
        if memory is not None:
            yield run, memory
        run = run[:-1]


def joined(run: list[Member], member: Member) -> list[Member] | None:
    """The run with one more kernel, as many of whose loops are outer ones as can be.

    A product may go through what it makes in the order of what it is handed, as heads do where
    their results lie side by side.
    """
    for level in range(member.level, 0, -1):
        for turned in orders_of(run, member):
            longer = [*run, replace(turned, level=level)]
            if cut_of(longer) is not None:
                return longer
    return None


def orders_of(run: Sequence[Member], member: Member) -> Iterator[Member]:
    """The kernel with its loops in order of what it writes, and of what the run hands to it."""
    yield member
    written = {t.buffer.name for m in run for t in m.touches if t.writes}
    handed = next((t for t in member.touches if t.buffer.name in written and not t.writes), None)
    if member.call is not None and handed is not None:
        turned = member.ordered_by(handed)
        if turned.order != member.order:
            yield turned


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
    if not all(is_apart(touches) or share_of(touches, units) for touches in written):
        return None
    between = handed_on(run).values()
    largest = max([bytes_of(touches[0][1].buffer) for touches in between], default=1)
    return cut_for_each_thread(run, units, largest) or cut_for_all_threads(run, units, largest)


def cut_for_each_thread(run: Sequence[Member], units: int, largest: int) -> Cut | None:
    """Blocks that threads go through by themselves, if there are enough of them.

    `largest` is what an array that is handed on takes.
    """
    least = max([-(-min(LEAST_ROWS, m.rows) * units // m.extent) for m in run])
    size = max(min(BLOCK_BYTES * units // largest, units // LEAST_BLOCKS), least, 1)
    cut = evened(run, units, size, max(least, 1))
    if cut is None or largest * cut.size > MOST_BYTES * units or cut.blocks < LEAST_BLOCKS:
        return None
    return cut


def evened(run: Sequence[Member], units: int, size: int, least: int) -> Cut | None:
    """Blocks of about `size`, which are equal, or else nearly so."""
    fewest = -(-units // size)
    plain = all(m.level == 1 for m in run)
    for blocks in range(fewest, min(units // least, fewest * (2 if plain else 8)) + 1):
        if units % blocks == 0 and can_cut(run, units, units // blocks):
            return Cut(units, units // blocks)
    return Cut(units, -(-units // fewest)) if plain else None


def can_cut(run: Sequence[Member], units: int, size: int) -> bool:
    """Is a block of so many units a number of whole steps of some loop of each kernel?"""
    return all(m.steps(size * (m.extent // units)) is not None for m in run)


def cut_for_all_threads(run: Sequence[Member], units: int, largest: int) -> Cut | None:
    """Blocks one after the other, the kernels of which have threads of their own."""
    fewest = max(-(-largest // MOST_BYTES), 2)
    for blocks in range(fewest, min(units, fewest * 8) + 1):
        if units % blocks == 0 and can_cut(run, units, units // blocks):
            size = units // blocks
            enough = all(m.call or m.extent * size >= units * LEAST_MEMBERS for m in run)
            return Cut(units, size, together=True) if enough else None
    return None


def is_apart(touches: Sequence[tuple[Member, Touch]]) -> bool:
    """Is it written, and touched, by one product alone?"""
    return len(touches) == 1 and touches[0][1].apart


def share_of(touches: Sequence[tuple[Member, Touch]], units: int) -> int | None:
    """How many elements of a buffer each share has to itself; None where shares meet."""
    sizes: set[int] = set()
    for member, touch in touches:
        found = member.along(touch)
        if found is None or found[1] >= found[0]:
            return None
        sizes.add(found[0] * (member.extent // units))
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


def users_of(program: Program) -> Users:
    """Which kernels mention each buffer."""
    found: Users = {}
    for kernel in program.kernels:
        for name in names_in(kernel.body):
            found.setdefault(name, set()).add(id(kernel))
    return found


def private_of(run: Sequence[Member], users: Users) -> set[str]:
    """The names of temps that only the kernels of a run touch."""
    mine = {id(member.kernel) for member in run}
    between = handed_on(run).items()
    temps = {name for name, touches in between if touches[0][1].buffer.kind == "temp"}
    return {name for name in temps if users[name] <= mine}
