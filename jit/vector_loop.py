"""Writes one vector loop: whole vectors first, then what is left, then horizontal sums.

The number of accumulators and the order in which they are combined depend on the program and the
target only.
"""

from __future__ import annotations

from collections.abc import Sequence

from jit.branches import BlockEmitter
from jit.frame import Frame
from jit.intrinsics.table import InPlace
from jit.loop_facts import (
    LARGE,
    LONG_VOLUME,
    Varying,
    intrinsic_count,
    moves_runs,
    unroll_count,
    volume,
)
from jit.loop_ir.nodes import FLOATS, Carry, Combine, DType, For
from jit.loop_ir.weights import weigh
from jit.memory import Place, address, prefetch
from jit.operations import OPERATIONS
from jit.registers import Reg
from jit.vectors import indices, literal, register, vector

FEW, SOME = 2, 8
"""A loop of so few functions has room for their constants, one of some more for what it holds."""


def identity(combine: Combine, dtype: DType, init: str) -> str:
    """A scalar that changes nothing when combined; for idempotent monoids the initial value."""
    match combine:
        case "add":
            return literal(dtype, -0.0) if dtype in FLOATS else "0"
        case "mul":
            return literal(dtype, 1)
        case "xor":
            return "false" if dtype == "bool" else "0"
        case _:
            return init


def combined(f: Frame, carry: Carry, lanes: int, a: str, b: str) -> str:
    """The monoid of a carry on two operands."""
    return OPERATIONS[carry.combine or "add"](f.w, carry.init.dtype, lanes, (a, b))


def in_place(stmt: For) -> InPlace:
    """Which elementary functions a loop writes in place: few, and more where it takes long."""
    count = intrinsic_count(stmt.body)
    if count <= FEW:
        return "short"
    return "most" if count <= SOME and volume(stmt) >= LONG_VOLUME else "none"


class VectorLoop:
    """One vector loop: the full steps, the rest, and the horizontal sums of its accumulators."""

    def __init__(
        self, f: BlockEmitter, stmt: For, lanes: int, unit: int, brief: bool = False
    ) -> None:
        """unit: a number of which the number of iterations is a multiple.

        brief: is it better short than quick, since it has little to do?
        """
        self.f = f
        self.stmt = stmt
        self.lanes = lanes
        self.unit = unit
        self.unroll = 1 if brief else unroll_count(stmt, lanes)
        large = weigh(stmt.body) > LARGE and not moves_runs(stmt.body, stmt.var, {})
        self.brief = brief or large
        self.in_place: InPlace = in_place(stmt)
        self.kinds = [register(c.init.dtype, lanes) for c in stmt.carries]
        self.varying = Varying(stmt)

    def emit(self, start: str, stop: str, n: int | None, inits: Sequence[str]) -> list[str]:
        """Write the loop; answers the final values of the carries."""
        f, w = self.f, self.f.w
        around, w.lines = w.lines, []
        f.hoisted, f.splats = [], {}
        accumulators = [
            self.neutral(c, init) for c, init in zip(self.stmt.carries, inits, strict=True)
        ]
        results = self.phases(start, stop, n, inits, accumulators)
        around += f.hoisted
        around += w.lines
        w.lines = around
        return results

    def neutral(self, carry: Carry, init: str) -> str:
        """What each lane of an accumulator starts from."""
        start = identity(carry.combine or "add", carry.init.dtype, init)
        kind = register(carry.init.dtype, 1)
        if not start.startswith("%"):
            return f"splat ({kind} {start})"
        self.f.lanes = self.lanes
        made = self.f.hoisted_splat(kind, start)
        self.f.lanes = 1
        return made

    def phases(
        self, start: str, stop: str, n: int | None, inits: Sequence[str], vectors: list[str]
    ) -> list[str]:
        """Full steps without a mask, then what is left."""
        masks = self.f.module.target.masks
        whole = self.unit % self.lanes == 0
        if not (masks and self.brief and not whole):
            start, n, vectors = self.full(start, stop, n, vectors, self.unroll)
            rest = self.unit % (self.lanes * self.unroll) != 0
            if rest and self.unroll > 1 and (whole or not masks):
                start, n, vectors = self.full(start, stop, n, vectors, 1)
        if n != 0 and not whole and (masks or n is not None):
            vectors = self.masked(start, stop, n, vectors)
        results = [
            combined(self.f, c, 1, init, self.horizontal(c, v))
            for c, init, v in zip(self.stmt.carries, inits, vectors, strict=True)
        ]
        if not masks and n is None and not whole:
            return self.f.serial(self.stmt, start, stop, None, results)
        return results

    def copy(self, i: str, values: Sequence[str], mask: str | None) -> list[str]:
        """One vector of iterations from i on; answers the accumulators."""
        f = self.f
        f.lanes, f.mask = self.lanes, mask
        f.in_place = self.in_place if mask is None else "none"
        f.varying = self.varying
        self.ask_ahead(i)
        f.env[self.stmt.var] = Reg(i, 1, "", True)
        for carry, value in zip(self.stmt.carries, values, strict=True):
            f.env[carry.phi] = Reg("", None, value, True)
        f.block(self.stmt.body)
        nexts = [f.wide(c.next) for c in self.stmt.carries]
        f.lanes, f.mask = 1, None
        f.in_place = "none"
        if mask is None:
            return nexts
        flags = vector("i1", self.lanes)
        return [
            f.w(f"select {flags} {mask}, {kind} {new}, {kind} {old}")
            for kind, new, old in zip(self.kinds, nexts, values, strict=True)
        ]

    def ask_ahead(self, i: str) -> None:
        """Ask for the memory that other passes over the row move."""
        f = self.f
        for fetch in f.ahead.get(self.stmt, ()):
            offset = f.index_op("add", f.reg(fetch.base).scalar, str(fetch.further))
            place = Place(fetch.buffer.dtype, f.base(fetch.buffer), f.index_op("add", offset, i), 1)
            prefetch(f.w, address(f.w, place, place.first), fetch.writes)

    def full(
        self, start: str, stop: str, n: int | None, vectors: list[str], unroll: int
    ) -> tuple[str, int | None, list[str]]:
        """Steps of whole vectors; answers where they end, how much is left, the accumulators."""
        step = self.lanes * unroll
        end, trips, left = self.f.whole_steps(start, stop, n, step)

        def body(i: str, values: Sequence[str]) -> list[str]:
            found: list[str] = []
            width = len(self.kinds)
            for k in range(unroll):
                at = self.f.index_op("add", i, str(k * self.lanes))
                found += self.copy(at, values[k * width : (k + 1) * width], None)
            return found

        carried = list(zip(self.kinds * unroll, vectors * unroll, strict=True))
        found = self.f.counted(start, end, step, trips, carried, body)
        return end, left, self.joined(found, unroll)

    def joined(self, vectors: list[str], unroll: int) -> list[str]:
        """One accumulator for each carry, from several, pairwise."""
        width = len(self.kinds)
        while unroll > 1:
            unroll //= 2
            half = unroll * width
            vectors = [
                combined(self.f, c, self.lanes, vectors[k], vectors[k + half])
                for k, c in enumerate(self.stmt.carries * unroll)
            ]
        return vectors

    def masked(self, start: str, stop: str, n: int | None, vectors: list[str]) -> list[str]:
        """The last iterations, fewer than a vector at the very end."""
        if n is not None and n < self.lanes:
            bits = ", ".join([f"i1 {'true' if k < n else 'false'}" for k in range(self.lanes)])
            return self.copy(start, vectors, f"<{bits}>")

        def body(i: str, values: Sequence[str]) -> list[str]:
            return self.copy(i, values, self.active(i, stop))

        carried = list(zip(self.kinds, vectors, strict=True))
        trips = None if n is None else -(-n // self.lanes)
        return self.f.counted(start, stop, self.lanes, trips, carried, body)

    def active(self, i: str, stop: str) -> str:
        """The mask of the lanes k with i + k < stop, compared in one register."""
        w, lanes = self.f.w, self.lanes
        number = f"i{8 * min(self.f.module.target.vector_bytes // lanes, 8)}"
        left = w(f"sub i64 {stop}, {i}")
        if number != "i64":
            over = w(f"icmp sgt i64 {left}, {lanes}")
            left = w(f"select i1 {over}, i64 {lanes}, i64 {left}")
            left = w(f"trunc i64 {left} to {number}")
        limit = w.spread(number, left, lanes)
        ramp = "<" + ", ".join([f"{number} {k}" for k in range(lanes)]) + ">"
        return w(f"icmp sgt {vector(number, lanes)} {limit}, {ramp}")

    def horizontal(self, carry: Carry, operand: str) -> str:
        """The lanes of an accumulator combined by halves."""
        lanes, dtype = self.lanes, carry.init.dtype
        while lanes > 1:
            kind, half = register(dtype, lanes), lanes // 2
            low, high = (self.part(kind, operand, first, half) for first in (0, half))
            operand, lanes = combined(self.f, carry, half, low, high), half
        return operand

    def part(self, kind: str, operand: str, first: int, count: int) -> str:
        """`count` lanes of a vector of type `kind`."""
        if count == 1:
            return self.f.w.lane(kind, operand, first)
        picked = indices(range(first, first + count))
        return self.f.w(f"shufflevector {kind} {operand}, {kind} poison, {picked}")
