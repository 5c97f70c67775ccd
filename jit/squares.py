"""Squares: rows of a loop nest that are taken together, so that strides become runs.

Where a vector loop crosses an array in strides that the loop around it goes along, a vector of as
many rows as fill a run is computed at a time. What they read or write of such an array is one
square of it, which is moved by whole runs, turned in registers, and kept in room of its own
meanwhile. Invariant: each element is computed as without squares; only the order of accesses
changes, no buffer that is written is read, and no loop's total is.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from jit.branches import BlockEmitter
from jit.conversions import from_memory, to_memory
from jit.loop_facts import LARGE, buffers_read, buffers_written, lane_count, stride_of
from jit.loop_ir.nodes import (
    Block,
    For,
    If,
    Load,
    Op,
    Store,
    Value,
    inner_blocks,
    reads,
    static_extent,
)
from jit.loop_ir.weights import weigh
from jit.memory import Place, address
from jit.registers import Reg
from jit.target import Target
from jit.vector_loop import VectorLoop
from jit.vectors import indices, memory, transposed, vector

MOST_ROWS, LEAST_ROWS = 8, 4
MOST_WEIGHT = 240
"""Rows that weigh no more in all are written out, and their square stays in registers."""
MOST_TURNED = 4
"""Each array that is turned is some eighty instructions: loops with more of them are left alone."""


@dataclass(frozen=True)
class Squares:
    """How the rows of a loop are taken together: its own values, and the loops inside it.

    `rows` are taken at a time; `turned` are the accesses of each inner loop that become runs.
    """

    rows: int
    values: list[Op | Load]
    loops: list[For]
    turned: dict[For, set[Load | Store]]

    def is_whole(self, target: Target, loop: For) -> bool:
        """Do squares leave nothing of the rows that they take?"""
        n = static_extent(loop)
        return loop in self.turned and n is not None and n % lane_count(target, loop) == 0


def squares_of(target: Target, stmt: For) -> Squares | None:
    """How a loop around vector loops is written in squares; None where that does not pay."""
    inner = [s for s in stmt.body.stmts if isinstance(s, For)]
    values = [s for s in stmt.body.stmts if isinstance(s, Op | Load)]
    if not inner or stmt.carries or len(inner) + len(values) < len(stmt.body.stmts):
        return None
    turned = {loop: found for loop in inner if (found := turned_accesses(stmt, loop))}
    if not turned or not is_plain(stmt.body):
        return None
    totals = {carry.result for loop in inner for carry in loop.carries}
    if totals and not totals.isdisjoint(v for s in stmt.body.stmts for v in reads(s)):
        return None
    rows = min(MOST_ROWS, *(lane_count(target, loop) for loop in turned))
    count = static_extent(stmt)
    if rows < LEAST_ROWS or (count is not None and count < rows):
        return None
    if not set(buffers_read(stmt.body)).isdisjoint(buffers_written(stmt.body)):
        return None
    return Squares(rows, values, inner, turned)


def turned_accesses(around: For, loop: For) -> set[Load | Store]:
    """The accesses that a vector loop makes in strides and the loop around it one by one."""
    if loop.kind != "vector" or loop.carries or weigh(loop.body) > LARGE:
        return set()
    if any(inner_blocks(s) for s in loop.body.stmts):
        return set()
    along: dict[Value, int | None] = {}
    across: dict[Value, int | None] = {}
    found = {
        s
        for s in loop.body.stmts
        if isinstance(s, Load | Store)
        and s.where is None
        and stride_of(s.offset, around.var, along) == 1
        and abs(stride_of(s.offset, loop.var, across) or 0) >= MOST_ROWS
    }
    return found if len(found) <= MOST_TURNED else set()


def is_plain(block: Block) -> bool:
    """Does a block compute, load and store only?"""
    return all(
        isinstance(s, Op | Load | Store | For | If) and all(map(is_plain, inner_blocks(s)))
        for s in block.stmts
    )


def write_squares(
    f: BlockEmitter, stmt: For, squares: Squares, start: str, stop: str, n: int | None
) -> None:
    """The loop: first all whole squares, then, row by row, what they leave."""
    end, trips, left = f.whole_steps(start, stop, n, squares.rows)

    def square(row: str, _: Sequence[str]) -> list[str]:
        for loop in squares.turned:
            write_values(f, stmt, squares, row)
            columns = SquareLoop(f, stmt, loop, squares, row)
            columns.emit("0", f.scalar(loop.extent), static_extent(loop), [])
        return []

    f.counted(start, end, squares.rows, trips, [], square)
    full = all(squares.is_whole(f.module.target, loop) for loop in squares.loops)
    if full and left == 0:
        return
    first, count = (end, left) if full else (start, n)

    def rest(row: str, _: Sequence[str]) -> list[str]:
        write_values(f, stmt, squares, row)
        for loop in squares.loops:
            if loop not in squares.turned:
                f.loop(loop)
                continue
            extent, columns = f.scalar(loop.extent), static_extent(loop)
            lanes = lane_count(f.module.target, loop)
            done, _trips, over = f.whole_steps("0", extent, columns, lanes)
            if full:
                done, over = "0", columns
            elif left != 0:
                inside = f.w(f"icmp slt i64 {row}, {end}")
                done, over = f.w(f"select i1 {inside}, i64 {done}, i64 0"), None
            VectorLoop(f, loop, lanes, 1, brief=True).emit(done, extent, over, [])
        return []

    f.counted(first, stop, 1, count, [], rest)


def write_values(f: BlockEmitter, stmt: For, squares: Squares, row: str) -> None:
    """What the loop itself computes in its iteration `row`."""
    f.env[stmt.var] = Reg(row, inside=f.lanes > 1)
    for value in squares.values:
        f.stmt(value)


class SquareLoop(VectorLoop):
    """A vector loop over the squares of some rows, as far as they are whole."""

    def __init__(
        self, f: BlockEmitter, around: For, stmt: For, squares: Squares, first: str
    ) -> None:
        """first: the first of the rows."""
        super().__init__(f, stmt, lane_count(f.module.target, stmt), 1)
        self.around = around
        self.squares = squares
        self.first = first
        self.turned = squares.turned[stmt]
        self.unrolled = squares.rows * weigh(stmt.body) <= MOST_WEIGHT
        self.kept: dict[Load | Store, list[str] | str] = {}

    def phases(
        self, start: str, stop: str, n: int | None, inits: Sequence[str], vectors: list[str]
    ) -> list[str]:
        """Whole vectors only."""
        _, _, found = self.full(start, stop, n, vectors, 1)
        return found

    def copy(self, i: str, values: Sequence[str], mask: str | None) -> list[str]:
        """One vector of each row: what they read is turned before, what they write after."""
        f = self.f
        f.lanes, f.in_place, f.varying = self.lanes, self.in_place, self.varying
        f.env[self.stmt.var] = Reg(i, 1, "", True)
        places = self.places()
        self.kept = {site: self.room(place) for site, place in places.items()}
        for site, place in places.items():
            if isinstance(site, Load):
                for row, found in enumerate(self.take(place)):
                    self.keep(site, str(row), found)
        self.every_row(places)
        for site, place in places.items():
            if isinstance(site, Store):
                self.put(place, [self.found(site, str(row)) for row in range(self.squares.rows)])
        f.lanes = 1
        f.in_place = "none"
        return []

    def every_row(self, places: Container[Load | Store]) -> None:
        """The body for each row of a square, written out or as a loop."""
        f, count = self.f, self.squares.rows

        def one(row: str, _: Sequence[str]) -> list[str]:
            write_values(f, self.around, self.squares, f.index_op("add", self.first, row))
            for stmt in self.stmt.body.stmts:
                if not isinstance(stmt, Load | Store) or stmt not in places:
                    f.stmt(stmt)
                elif isinstance(stmt, Load):
                    found = from_memory(f.w, stmt.dtype, self.lanes, self.found(stmt, row))
                    f.env[stmt] = Reg("", None, found, True)
                else:
                    value = to_memory(f.w, stmt.buffer.dtype, self.lanes, f.wide(stmt.value))
                    self.keep(stmt, row, value)
            return []

        if self.unrolled:
            for row in range(count):
                one(str(row), [])
        else:
            f.counted("0", str(count), 1, count, [], one)

    def places(self) -> dict[Load | Store, Place]:
        """Where the first row reaches the arrays that are turned.

        Left out is what turns out to have a stride that is not known.
        """
        f = self.f
        needed = set[Value]()
        for site in self.turned:
            needed.update(operations(site.offset))
        for stmt in self.stmt.body.stmts:
            if isinstance(stmt, Op) and stmt in needed:
                f.op(stmt)
        places = {site: f.place(site) for site in self.stmt.body.stmts if site in self.turned}
        return {site: place for site, place in places.items() if place.stride is not None}

    # What is kept of a square: a vector for each row.

    def room(self, place: Place) -> list[str] | str:
        """Operands in the order of the rows, or the address of room for them."""
        if self.unrolled:
            return []
        name = f"%square{len(self.f.preamble)}"
        kind = vector(place.scalar, self.lanes)
        self.f.preamble.append(f"  {name} = alloca [{self.squares.rows} x {kind}], align 64")
        return name

    def in_room(self, site: Load | Store, room: str, row: str) -> tuple[str, str]:
        """The type of a row's vector, and its address."""
        kind = memory(site.buffer.dtype, self.lanes)
        return kind, self.f.w(f"getelementptr {kind}, ptr {room}, i64 {row}")

    def keep(self, site: Load | Store, row: str, value: str) -> None:
        room = self.kept[site]
        if isinstance(room, list):
            room.append(value)
            return
        kind, to = self.in_room(site, room, row)
        self.f.w.do(f"store {kind} {value}, ptr {to}")

    def found(self, site: Load | Store, row: str) -> str:
        room = self.kept[site]
        if isinstance(room, list):
            return room[int(row)]
        kind, at = self.in_room(site, room, row)
        return self.f.w(f"load {kind}, ptr {at}")

    # The square in memory: a run, one element of each row, for each lane.

    def run_of(self, place: Place, lane: int) -> str:
        """The address of the run that a lane of the rows reaches."""
        assert place.stride is not None
        offset = self.f.index_op("add", place.first, str(lane * place.stride))
        return address(self.f.w, place, offset)

    def take(self, place: Place) -> list[str]:
        """A vector for each row."""
        w, width = self.f.w, self.squares.rows
        run = vector(place.scalar, width)
        found = [
            w(f"load {run}, ptr {self.run_of(place, lane)}, align {place.align}")
            for lane in range(self.lanes)
        ]
        while width < self.lanes:
            # Runs that stand apart by a square come side by side.
            kind, both = vector(place.scalar, width), indices(range(2 * width))
            half = len(found) // 2
            found = [
                w(f"shufflevector {kind} {a}, {kind} {b}, {both}")
                for a, b in zip(found[:half], found[half:], strict=True)
            ]
            width *= 2
        return transposed(w, place.scalar, found, self.lanes)

    def put(self, place: Place, vectors: list[str]) -> None:
        """The vector of each row."""
        w, count, lanes = self.f.w, self.squares.rows, self.lanes
        kind, run = vector(place.scalar, lanes), vector(place.scalar, count)
        for number, found in enumerate(transposed(w, place.scalar, vectors, lanes)):
            for first in range(0, lanes, count):
                part = found
                if count < lanes:
                    picked = indices(range(first, first + count))
                    part = w(f"shufflevector {kind} {found}, {kind} poison, {picked}")
                to = self.run_of(place, first + number)
                w.do(f"store {run} {part}, ptr {to}, align {place.align}")


def operations(value: Value) -> set[Value]:
    """The operations that a value is made of."""
    found, waiting = set[Value](), [value]
    while waiting:
        last = waiting.pop()
        if isinstance(last, Op) and last not in found:
            found.add(last)
            waiting += last.args
    return found
