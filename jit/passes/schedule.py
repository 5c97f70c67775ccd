"""Schedules a kernel: which loop runs on vectors, which on threads, and which become one.

The vector loop is the one along which most bytes lie side by side. Loops that all indices cross
evenly are merged, so that arrays are walked as long lines wherever they can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from functrans.extend import Var
from jit.fusion import Kernel, look, splits
from jit.loop_ir.nodes import LoopKind
from jit.lowering.domain import Domain, mergeable
from jit.lowering.graph import Graph
from jit.lowering.index import Index, Loop
from jit.lowering.nodes import FoldNode, Node, PartNode
from jit.lowering.rules import element_bytes
from jit.passes.sums import sum_bytes

VECTOR_BYTES = 64
PARALLEL_NS = 12_000.0
"""Loops of so much work may run on threads, those of little more only on threads that are awake."""
CHUNK_NS = 10_000.0
LEAST_CHUNK_NS = 3_000.0
"""How much work a piece is: the least where a loop has little in all."""
TILE = 32
LEAST_TILED = 1 << 14
"""Blocks along a short loop pay from so many elements on: fewer are in the first cache anyway."""
COLUMN_BLOCKS = 8
MOST_BLOCKS, BLOCK_BYTES, BLOCK_ROWS = 256, 1 << 19, 128
"""Sums of columns take in the rows of a large matrix in more blocks than COLUMN_BLOCKS, of no fewer
bytes and rows than this."""
COLUMN_BYTES = 1 << 15
LINE = 64
"""Bytes of a line of the caches, whatever the target."""
STRIP_BYTES = 256, 512, 1024
"""Of each row a strip has one of these, the last of wide rows: vectors come in fours."""
STRIP_CACHE = 1 << 21
"""A strip of more bytes than these is made no wider than it must be."""
LARGE_BYTES = 1 << 19
"""From so many bytes on columns are summed row by row, COLUMN_BYTES of sums at a time."""
MAX_CUTS = 4
MIN_CUT = 48
"""A vector loop at least so long is written in at most MAX_CUTS + 1 parts."""
MIN_TILE, MAX_TILE = 8, 64
TILE_BYTES = 1 << 16
"""So many rows are taken together, while what they read and make fits in so many bytes."""
MAX_TILE_ROW = 1 << 15
BLOCKS = 16
HEAVY_ROW = 8.0
NS_PER_COST = 0.04
NS_PER_BYTE = 0.02


class Step(NamedTuple):
    """One loop of the nest that is written: all of a domain's loop, or a part of it.

    tile 0: the whole loop. Else "over": the loop over blocks of `tile` iterations; "in": the loop
    inside such a block. "unrolled": its iterations are written one after another.
    """

    loop: Loop
    kind: LoopKind
    tile: int = 0
    part: Literal["whole", "over", "in", "unrolled"] = "whole"


class Columns(NamedTuple):
    """How sums down the columns of a tall matrix are kept: rows are read one after another.

    The rows are cut into `blocks` of `height`, each with accumulators of its own; `workspace`
    is what these take in the arena when there are several. Or the columns are cut into strips of
    `strip`, and all passes over a strip are made while it is in cache.
    """

    blocks: int
    height: int
    workspace: int
    strip: int = 0


class Tiles(NamedTuple):
    """How rows are taken together: what there is one of per row runs on vectors over a tile.

    The outermost loop is cut into `blocks` of `height`, which threads share and each of which has
    accumulators of its own for folds down the columns; `workspace` is what these take in the arena.
    """

    rows: int
    blocks: int
    height: int
    workspace: int


@dataclass
class Schedule:
    """Loops around the passes and of each pass (outermost first, with kinds), and the domain.

    The vector loop is written in parts that end at `cuts`, so that padding and joins need no masks.
    """

    domain: Domain
    outer: list[Step]
    inner: list[Step]
    grain: int
    lanes_are_rows: bool
    parallel: bool
    cuts: tuple[int, ...] = ()
    columns: Columns | None = None
    tiles: Tiles | None = None

    @property
    def workspace(self) -> int:
        """The bytes of the arena that the kernel wants for itself."""
        kept = self.tiles or self.columns
        return kept.workspace if kept else 0


def accesses(kernel: Kernel) -> Iterator[tuple[Index, int, bool]]:
    """(position, bytes, masked) of everything that may be read or written."""
    for node in kernel.nodes:
        scout = kernel.looks[node]
        for (var, flat), masked in scout.reads.items():
            if var not in kernel.defs:
                yield flat, element_bytes(var), masked
        if isinstance(node, PartNode):
            yield scout.positions[0], element_bytes(node.var), False
        elif kernel.roles[node] == "full" and node.target is not None:
            yield kernel.domain.full, element_bytes(node.target), False


CLOSE = 4
"""Elements that stand no further apart are moved as whole runs (jit/memory.py)."""
OPERATION, ONE_LANE, ONCE_SPREAD, ONCE_FOLD = 1.0, 150.0, 64.0, 768.0
"""What takes as long as moving so many bytes: a simple operation, for each byte of its result; an
element that a vector takes from anywhere; one number spread over all lanes; all lanes folded into
one number."""
UNROLLED_COST = 400.0
"""A body of more work, in simple operations, is not written once for each turn of a short loop."""


def cost_of(kernel: Kernel, loop: Loop, unrolled: bool = False) -> float:
    """The time of an element, about that of moving so many bytes, when `loop` runs on vectors.

    How the accesses lie and what is computed, for each useful lane; and what is done once for the
    whole loop, which a short one does not spread over many elements.
    unrolled: the innermost loop is written out, and where it stands decides what was masked.
    """
    found = [(index, count, masked and not unrolled) for index, count, masked in accesses(kernel)]
    widest = min(max((count for _, count, _ in found), default=8), 8)
    total = 0.01 + OPERATION * widest * sum(kernel.looks[n].cost for n in kernel.nodes)
    once = ONCE_FOLD * sum(is_folded(kernel, n, loop) for n in kernel.nodes)
    for index, count, masked in found:
        step = index.coefficient(loop)
        if step == 0:
            once += ONCE_SPREAD
        elif step in (1, -1):
            total += (1.2 if masked or step < 0 else 1.0) * count
        elif step is not None and 2 <= step <= CLOSE and not masked:
            total += 1.8 * step * count
        else:
            total += ONE_LANE
    lanes = max(VECTOR_BYTES // widest, 1)
    full = -(-loop.extent // lanes) * lanes
    return (total * full + once) / loop.extent


def is_folded(kernel: Kernel, node: Node, loop: Loop) -> bool:
    """Are the lanes of `loop` folded into one, each time it has run?"""
    match kernel.roles[node]:
        case "row_fold":
            return loop in kernel.domain.inner
        case "full_total":
            return len(kernel.domain.loops) > 1
        case _:
            return False


def can_split(kernel: Kernel) -> bool:
    """May the folds of the kernel be divided among lanes?"""
    return all(splits(n) for n in kernel.nodes)


def has_columns(kernel: Kernel) -> bool:
    return "column_fold" in kernel.roles.values()


def choose_vector(kernel: Kernel) -> Loop | None:
    """The best loop to run on vectors, the innermost among equals; None when there is none."""
    loops = list(kernel.domain.loops)
    if not can_split(kernel):
        loops = [loop for loop in loops if kernel.has_rows and loop not in kernel.domain.inner]
    if has_columns(kernel):
        loops = [loop for loop in loops if loop in kernel.domain.inner]
    loops = [loop for loop in loops if loop.extent > 1]
    if not loops:
        return None
    return min(reversed(loops), key=lambda loop: cost_of(kernel, loop))


def short_loop(kernel: Kernel) -> Loop | None:
    """The innermost loop, where it is so short that its iterations may be written out."""
    loops = kernel.domain.loops
    if len(loops) < 2 or has_columns(kernel) or not can_split(kernel):
        return None
    short = loops[-1]
    if not 1 < short.extent <= CLOSE or (kernel.has_rows and short not in kernel.domain.inner):
        return None
    work = sum(kernel.looks[n].cost for n in kernel.nodes) * short.extent
    return short if work <= UNROLLED_COST else None


class Chosen(NamedTuple):
    """The loops that are written, which of them runs on vectors, and which is written out.

    `merged` says which of these loops each loop of the kernel's domain is, or is part of.
    """

    domain: Domain
    merged: dict[Loop, Loop]
    vector: Loop | None
    unrolled: Loop | None = None


def choose_loops(kernel: Kernel) -> Chosen:
    """Decide which loops are written, and how.

    The components of short vectors are a loop of two to four: the few lanes that it fills would be
    busy with masks. Written out, with another loop on vectors, each component is a number.
    """
    best, short = choose_vector(kernel), short_loop(kernel)
    chosen = merged(kernel, best)
    if short is None or short not in chosen.domain.loops:
        return chosen
    others = [x for x in kernel.domain.loops[:-1] if x.extent > 1 and x not in kernel.domain.inner]
    if best is short and others:
        other = min(reversed(others), key=lambda loop: cost_of(kernel, loop, unrolled=True))
        if cost_of(kernel, other, unrolled=True) < cost_of(kernel, short):
            best = other
            chosen = merged(kernel, best)
    return chosen._replace(unrolled=short) if best in others else chosen


def merged(kernel: Kernel, vector: Loop | None) -> Chosen:
    """The loops of the domain, neighbours joined where every index allows it."""
    domain = kernel.domain
    uses: list[Index] = [domain.full, domain.row, domain.column]
    for scout in kernel.looks.values():
        uses += scout.uses
    uses = list(dict.fromkeys(uses))
    groups: list[list[Loop]] = []
    for loop in domain.loops:
        before = groups[-1][-1] if groups else None
        same = before is not None and (before in domain.inner) == (loop in domain.inner)
        if before is not None and same and mergeable(uses, before, loop):
            groups[-1].append(loop)
        else:
            groups.append([loop])
    loops: list[Loop] = []
    inner: set[Loop] = set()
    parts: dict[Loop, Loop] = {}
    for group in groups:
        loop = group[0] if len(group) == 1 else joined(group)
        loops.append(loop)
        if group[0] in domain.inner:
            inner.add(loop)
        parts.update(dict.fromkeys(group, loop))
    return Chosen(Domain(loops, frozenset(inner)), parts, vector and parts[vector])


def joined(group: Sequence[Loop]) -> Loop:
    extent = 1
    for loop in group:
        extent *= loop.extent
    return Loop(extent, group[-1].name)


def work_ns(kernel: Kernel) -> float:
    """A rough estimate of the time the kernel takes on one thread."""
    cost = sum(
        kernel.looks[n].cost
        * (1.0 if kernel.roles[n] != "row" else 1.0 / max(kernel.domain.width, 1))
        for n in kernel.nodes
    )
    count = sum(size for _, size, _ in accesses(kernel))
    return kernel.domain.size * (cost * NS_PER_COST + count * NS_PER_BYTE)


def grain_of(work: float, steps: int) -> int:
    """How many of the steps of a parallel loop, of `work` ns in all, a thread takes at a time.

    Taking one costs about what a step of a few elements does, and more where threads contend.
    """
    piece = min(CHUNK_NS, max(work / 4, LEAST_CHUNK_NS))
    return max(1, min(int(piece / max(work / steps, 1e-3)), steps))


def schedule(graph: Graph, stored: Mapping[Var, str], kernel: Kernel) -> Schedule:
    """Decide on loops."""
    chosen = choose_loops(kernel)
    domain, vector, unrolled = chosen.domain, chosen.vector, chosen.unrolled
    work = work_ns(kernel)
    parallel = work > PARALLEL_NS and can_split(kernel)
    lanes_are_rows = kernel.has_rows and vector is not None and vector not in domain.inner
    loops = [loop for loop in domain.loops if loop is not unrolled]
    if kernel.has_rows:
        rows = vector_last([x for x in loops if x not in domain.inner], vector)
        columns = vector_last([x for x in loops if x in domain.inner], vector)
        outer = with_kinds(rows, vector, parallel)
        inner = with_kinds(columns, vector, False)
    else:
        outer, inner = [], with_kinds(vector_last(loops, vector), vector, parallel)
        inner = inner if unrolled else tiled(kernel, chosen, inner)
    if unrolled is not None:
        inner = [*inner, Step(unrolled, "serial", part="unrolled")]
    first = outer[0] if outer else inner[0] if inner else None
    grain = 1
    if first is not None and first.kind.startswith("parallel"):
        grain = grain_of(work, -(-first.loop.extent // max(first.tile, 1)))
        if first.kind == "parallel_vector":
            grain = -(-grain // 128) * 128
    cuts = cuts_of(graph, stored, kernel, domain, vector)
    columns = columns_of(kernel, outer, inner, parallel) if lanes_are_rows else None
    tiles = None if lanes_are_rows else tiles_of(kernel, domain, outer, parallel)
    return Schedule(domain, outer, inner, grain, lanes_are_rows, parallel, cuts, columns, tiles)


def tiles_of(kernel: Kernel, domain: Domain, outer: Sequence[Step], parallel: bool) -> Tiles | None:
    """Take rows together where some folds run down the columns, or rows have much work each."""
    if not outer or not domain.inner_trails:
        return None
    columns = has_columns(kernel)
    row = domain.width * max(sum(count for _, count, _ in accesses(kernel)), 4)
    if not columns and (not is_heavy_per_row(kernel) or row > MAX_TILE_ROW):
        return None
    rows = MAX_TILE
    while rows > MIN_TILE and (rows * row > TILE_BYTES or rows >= 2 * outer[-1].loop.extent):
        rows //= 2
    whole = outer[0].loop.extent
    height = -(-whole // (BLOCKS if parallel else 1))
    if len(outer) == 1:
        height = -(-height // rows) * rows
    blocks = -(-whole // height)
    folds = [n for n in kernel.nodes if kernel.roles[n] == "column_fold"]
    kept = sum_bytes([n for n in folds if isinstance(n, FoldNode)], domain.width)
    return Tiles(rows, blocks, height, blocks * kept if blocks > 1 else 0)


def is_heavy_per_row(kernel: Kernel) -> bool:
    """Would the scalar work of each row be felt beside the passes over its elements?"""
    per_row = sum(kernel.looks[n].cost for n in kernel.nodes if kernel.roles[n] == "row")
    rest = sum(kernel.looks[n].cost for n in kernel.nodes if kernel.roles[n] != "row")
    return per_row > HEAVY_ROW and per_row > 0.01 * rest * kernel.domain.width


def columns_of(
    kernel: Kernel, outer: Sequence[Step], inner: Sequence[Step], parallel: bool
) -> Columns | None:
    """Accumulate row by row where walking down each column would leave every cache."""
    folds = [n for n in kernel.nodes if isinstance(n, FoldNode)]
    if len(inner) != 1:
        return None
    height, width = inner[0].loop.extent, outer[-1].loop.extent
    later = any(kernel.roles[n] != "row" for n in kernel.nodes if kernel.stages[n] > 0)
    roles = {kernel.roles[n] for n in kernel.nodes if kernel.stages[n] == 0}
    if later or roles - {"row_fold", "full"}:
        return strips_of(kernel, height, width)
    row = sum_bytes(folds, width)
    bytes_read = kernel.domain.size * max(element_bytes(n.var) for n in folds)
    if height < 16 or width < 8 or row > COLUMN_BYTES or bytes_read < LARGE_BYTES:
        return None
    if len(outer) > 1 or not parallel or height < 2 * COLUMN_BLOCKS:
        return Columns(1, height, 0)
    blocks = column_blocks(height, bytes_read)
    return Columns(blocks, -(-height // blocks), blocks * row)


def column_blocks(height: int, bytes_read: int) -> int:
    """Into how many blocks the rows of a matrix are cut: if it is large, such as a cache holds.

    What makes the matrix, a product say, may then go through the same blocks; equal ones, so that
    each has its own share of it.
    """
    most = min(bytes_read // BLOCK_BYTES, height // BLOCK_ROWS, MOST_BLOCKS)
    equal = (n for n in range(most, COLUMN_BLOCKS, -1) if height % n == 0)
    return next(equal, COLUMN_BLOCKS)


def strips_of(kernel: Kernel, height: int, width: int) -> Columns | None:
    """Several passes down each column: strips of columns, so that whole cache lines are used."""
    if not can_split(kernel) or any(isinstance(n, PartNode) for n in kernel.nodes):
        return None
    size = max(element_bytes(n.var) for n in kernel.nodes if isinstance(n, FoldNode))
    row = width * size
    if height < 16 or row < 2 * STRIP_BYTES[0] or height * row < LARGE_BYTES // 4:
        return None
    return Columns(1, height, 0, strip_lines(height, row) * LINE // size)


def strip_lines(height: int, row: int) -> int:
    """How many cache lines of each row a strip has.

    Two threads are to have about the same to do, and what is read of a row is to be long.
    """
    least, some, most = STRIP_BYTES
    wide = some if height * some <= STRIP_CACHE else least
    whole = -(-row // LINE)

    def share(lines: int) -> int:
        return -(-whole // (2 * lines)) * lines

    limit = min(max(row // 16, wide), most)
    widths = [n // LINE for n in STRIP_BYTES if n <= limit]
    return min(widths, key=lambda lines: (share(lines), -lines))


def cuts_of(
    graph: Graph,
    stored: Mapping[Var, str],
    kernel: Kernel,
    domain: Domain,
    vector: Loop | None,
) -> tuple[int, ...]:
    """Where comparisons of the vector loop's variable with constants change their outcome."""
    if vector is None or not any(scout.compared for scout in kernel.looks.values()):
        return ()
    found: set[int] = set()
    for node in kernel.nodes:
        scout, _ = look(graph, stored, node, domain, kernel.roles[node])
        for index, bound in scout.compared:
            step = index.terms.get(vector)
            if len(index.terms) == 1 and step in (1, -1):
                place = (bound - index.const) * step + (step < 0)
                if 0 < place < vector.extent:
                    found.add(place)
    return tuple(sorted(found)) if len(found) <= MAX_CUTS and vector.extent >= MIN_CUT else ()


def vector_last(loops: list[Loop], vector: Loop | None) -> list[Loop]:
    """The same loops with the vector loop innermost; a short outermost one trades places."""
    rest = [loop for loop in loops if loop is not vector]
    if len(rest) > 1 and rest[0].extent < 8:
        widest = max(rest, key=lambda loop: loop.extent)
        if widest.extent >= 8:
            rest.remove(widest)
            rest.insert(0, widest)
    return rest + [loop for loop in loops if loop is vector]


def with_kinds(loops: Sequence[Loop], vector: Loop | None, parallel: bool) -> list[Step]:
    """serial loops, the vector loop, and threads for the outermost."""
    found: list[Step] = []
    for position, loop in enumerate(loops):
        threads = parallel and position == 0
        if loop is vector:
            found.append(Step(loop, "parallel_vector" if threads else "vector"))
        else:
            found.append(Step(loop, "parallel" if threads else "serial"))
    return found


def tiled(kernel: Kernel, chosen: Chosen, steps: list[Step]) -> list[Step]:
    """Walk two loops in blocks where some arrays are contiguous along the other one.

    A transposition then meets each cache line while it is still near. Where the other loop is
    short it runs as a whole inside blocks of the vector loop, which threads share instead.
    """
    vector = steps[-1] if steps else None
    if (
        vector is None
        or vector.kind != "vector"
        or vector.loop.extent < 2 * TILE
        or any(isinstance(n, FoldNode) for n in kernel.nodes)
    ):
        return steps
    other = crossing(kernel, chosen)
    if other is None or (other.extent < 2 * TILE and kernel.domain.size < LEAST_TILED):
        return steps
    (position,) = [k for k, step in enumerate(steps) if step.loop is other]
    rest = [step for k, step in enumerate(steps[:-1]) if k != position]
    kind, lanes = steps[position].kind, Step(vector.loop, "vector", TILE, "in")
    if other.extent < 2 * TILE:
        over = [Step(vector.loop, kind, TILE, "over")]
        return rest[:position] + over + rest[position:] + [Step(other, "serial"), lanes]
    over = [Step(other, kind, TILE, "over"), Step(vector.loop, "serial", TILE, "over")]
    inside = [Step(other, "serial", TILE, "in"), lanes]
    return rest[:position] + over[:1] + rest[position:] + over[1:] + inside


def crossing(kernel: Kernel, chosen: Chosen) -> Loop | None:
    """The loop along which some array is contiguous that the vector loop crosses in strides.

    Results do not count where the vector loop is cut in parts, each of which would be in blocks.
    """
    loops = kernel.domain.loops
    found = [flat for node in kernel.nodes for _, flat in kernel.looks[node].reads]
    if not any(kernel.looks[node].compared for node in kernel.nodes):
        found.append(kernel.domain.full)
    (*_, lane) = [loop for loop in loops if chosen.merged[loop] is chosen.vector]
    for flat in found:
        if flat.coefficient(lane) in (None, 0, 1, -1):
            continue
        for loop in loops:
            if chosen.merged[loop] is not chosen.vector and flat.coefficient(loop) in (1, -1):
                return chosen.merged[loop]
    return None
