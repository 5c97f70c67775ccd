"""Writes the for loops of a function: serial, vector with masked or scalar tails, parallel.

Every choice here depends on the program and the target only: the grid of chunks, the number of
accumulators and the order in which partial results are combined never on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from jit.ahead import fetches
from jit.branches import BlockEmitter
from jit.frame import CONTEXT, STATUS, Frame
from jit.loop_facts import (
    SMALL_VOLUME,
    has_call,
    lane_count,
    volume,
)
from jit.loop_ir.nodes import For, static_extent
from jit.loop_ir.weights import weigh
from jit.names import PARALLEL, PARALLEL_HOT
from jit.registers import Module, Reg
from jit.squares import squares_of, write_squares
from jit.vector_loop import VectorLoop, combined, identity
from jit.vectors import register

MOST_CHUNKS = 256
"""A parallel reduction keeps one partial result for each chunk, at most this many."""
WHOLE = 256
"""What the length of its chunks is a multiple of in a vector loop: whole vectors of any type."""
NO_STATUS = 0x7FFFFFFF
"""The status of a body that did not fail: the least one counts."""


def rounds_up(count: int, unit: int) -> int:
    """The least multiple of unit that is >= count."""
    return -(-count // unit) * unit


def chunk_unit(stmt: For, grain: int) -> int:
    """What the length of each chunk is a multiple of, where all but the last are of `grain`."""
    n = static_extent(stmt)
    return 1 if n is None else gcd(n, grain)


def need_parallel(module: Module, name: str) -> None:
    """Declare the parallel loop of the runtime, or define one that calls the body once."""
    if module.parallel:
        module.externals.add(name)
        module.declares.add(f"declare void @{name}(ptr, ptr, i64, i64)")
        return
    serial = (
        f"define internal void @{name}(ptr %fn, ptr %ctx, i64 %n, i64 %grain) nounwind {{\n"
        "  call void %fn(ptr %ctx, i64 0, i64 %n)\n  ret void\n}"
    )
    if serial not in module.functions:
        module.functions.append(serial)


class FunctionEmitter(BlockEmitter):
    """A whole LLVM function: a kernel, or the outlined body of a parallel loop."""

    def loop(self, stmt: For) -> None:
        """A for loop by its kind."""
        n = static_extent(stmt)
        if n == 0:
            for carry in stmt.carries:
                self.env[carry.result] = self.reg(carry.init)
            return
        single = n is not None and n <= stmt.grain
        if stmt.kind.startswith("parallel") and not single:
            if self.parent is None:
                self.parallel(stmt)
                return
            if self.beside_calls and not stmt.carries:
                self.outlined(stmt, n)
                return
        inits = [self.held(c.init, c.phi) for c in stmt.carries]
        results = self.span(stmt, "0", self.scalar(stmt.extent), n, inits)
        for carry, value in zip(stmt.carries, results, strict=True):
            self.bind(carry.result, value)

    def span(
        self,
        stmt: For,
        start: str,
        stop: str,
        n: int | None,
        inits: Sequence[str],
        unit: int = 1,
    ) -> list[str]:
        """Iterations start .. stop-1 on this thread; the final carries.

        n: how many they are, if known; else they are a multiple of `unit`.
        """
        vectors = stmt.kind in ("vector", "parallel_vector") and self.lanes == 1
        lanes = lane_count(self.module.target, stmt) if vectors else 1
        if lanes > 1:
            unit = unit if n is None else n
            return VectorLoop(self, stmt, lanes, unit).emit(start, stop, n, inits)
        return self.serial(stmt, start, stop, n, inits)

    def serial(
        self, stmt: For, start: str, stop: str, n: int | None, inits: Sequence[str]
    ) -> list[str]:
        """In order, one iteration at a time, in the current number of lanes; or in squares."""
        squares = squares_of(self.module.target, stmt) if self.lanes == 1 else None
        if squares is not None:
            write_squares(self, stmt, squares, start, stop, n)
            return []
        repeats, calls = self.repeats, has_call(stmt.body)
        asked = fetches(stmt, self.module.large) if self.lanes == 1 and self.module.large else None
        if asked is not None:
            self.ahead[asked[0]] = asked[1]

        def body(i: str, values: Sequence[str]) -> list[str]:
            if calls:
                # A loop of calls takes no time itself.
                self.repeats = repeats
            self.env[stmt.var] = Reg(i, inside=self.lanes > 1)
            for carry, value in zip(stmt.carries, values, strict=True):
                self.bind(carry.phi, value)
            self.block(stmt.body)
            return [self.held(c.next, c.phi) for c in stmt.carries]

        if n is not None and n * weigh(stmt.body) <= 32 and start == "0":
            values: Sequence[str] = inits
            for i in range(n):
                values = body(str(i), values)
            return list(values)
        carried = [
            (register(c.init.dtype, self.in_lanes(c.phi)), init)
            for c, init in zip(stmt.carries, inits, strict=True)
        ]
        return self.counted(start, stop, 1, n, carried, body)

    # Parallel loops

    def parallel(self, stmt: For) -> None:
        """Outline the body and hand chunks of it to the threads."""
        runner = PARALLEL if volume(stmt) >= SMALL_VOLUME else PARALLEL_HOT
        need_parallel(self.module, runner)
        body = self.new_body()
        body.beside_calls = has_call(stmt.body)
        if stmt.carries:
            self.parallel_reduction(stmt, body, runner)
            return
        grain = stmt.grain
        if stmt.kind == "parallel_vector":
            grain = rounds_up(grain, 4 * lane_count(self.module.target, stmt))
        body.span(stmt, "%lo", "%hi", None, [], chunk_unit(stmt, grain))
        self.run_body(body, self.scalar(stmt.extent), str(grain), runner)

    def outlined(self, stmt: For, n: int | None) -> None:
        """A function for a parallel loop that runs in order between calls of others.

        What it holds in registers does not outlive it, so that LLVM need not find it room there.
        """
        body = self.new_body()
        body.span(stmt, "0", body.scalar(stmt.extent), n, [])
        self.run_body(body, self.scalar(stmt.extent), "0", None)

    def new_body(self) -> FunctionEmitter:
        """The function of a loop's body, with the addresses that are in its context."""
        self.bodies += 1
        body = FunctionEmitter(self.module, f"{self.name}.body{self.bodies}", self, self.told)
        for slot, array in enumerate(("inputs", "outputs", "arena")):
            body.preamble.append(f"  %{array}.at = getelementptr ptr, ptr %ctx, i64 {slot}")
            body.preamble.append(f"  %{array} = load ptr, ptr %{array}.at, align 8")
        if self.told is not None:
            body.row = body.share("ptr", self.row)
        return body

    def run_body(self, body: Frame, count: str, grain: str, runner: str | None) -> None:
        """Close the outlined function, fill the context, run, and pass a failure on.

        Without a runner, which is a function of the runtime, it runs here.
        """
        body.leaving()
        body.w.do("ret void")
        header = f"define internal void @{body.name}(ptr %ctx, i64 %lo, i64 %hi)"
        self.module.functions.append(body.text(header))
        self.hands_on = True
        w, ctx = self.w, f"%ctx{self.bodies}"
        self.preamble.append(f"  {ctx} = alloca [{CONTEXT + len(body.shared)} x i64], align 16")
        handed = [("ptr", "%inputs"), ("ptr", "%outputs"), ("ptr", "%arena")]
        handed += [("i32", str(NO_STATUS)), *body.shared]
        for slot, (kind, operand) in enumerate(handed):
            at = w(f"getelementptr i64, ptr {ctx}, i64 {slot}")
            w.do(f"store {kind} {operand}, ptr {at}, align 8")
        if runner is None:
            w.do(f"call void @{body.name}(ptr {ctx}, i64 0, i64 {count})")
        else:
            w.do(f"call void @{runner}(ptr @{body.name}, ptr {ctx}, i64 {count}, i64 {grain})")
        if body.fails:
            at = w(f"getelementptr i64, ptr {ctx}, i64 {STATUS}")
            found = w(f"load i32, ptr {at}, align 8")
            failed, on = w.fresh("fail"), w.fresh("on")
            w.branch(w(f"icmp ne i32 {found}, {NO_STATUS}"), failed, on)
            w.open(failed)
            self.leave(found)
            w.open(on)

    def parallel_reduction(self, stmt: For, body: FunctionEmitter, runner: str) -> None:
        """One partial result for each chunk, combined in the order of the chunks.

        The grid of chunks is computed from the extent and the grain alone.
        """
        w, extent = self.w, self.scalar(stmt.extent)
        chunk = w(f"add i64 {extent}, {MOST_CHUNKS - 1}")
        chunk = w(f"sdiv i64 {chunk}, {MOST_CHUNKS}")
        fine = w(f"icmp slt i64 {chunk}, {stmt.grain}")
        chunk = w(f"select i1 {fine}, i64 {stmt.grain}, i64 {chunk}")
        if stmt.kind == "parallel_vector":
            # Whole vectors, so that only the last chunk has a rest.
            chunk = w(f"and i64 {w(f'add i64 {chunk}, {WHOLE - 1}')}, {-WHOLE}")
        chunks = w(f"add i64 {extent}, {chunk}")
        chunks = w(f"sub i64 {chunks}, 1")
        chunks = w(f"sdiv i64 {chunks}, {chunk}")
        partials = [f"%part{self.bodies}.{k}" for k in range(len(stmt.carries))]
        for name in partials:
            self.preamble.append(f"  {name} = alloca [{MOST_CHUNKS} x i64], align 64")
        self.reduce_chunks(stmt, body, extent, chunk, partials)
        self.run_body(body, chunks, "1", runner)
        self.combine_partials(stmt, partials, chunks)

    def reduce_chunks(
        self, stmt: For, body: FunctionEmitter, extent: str, chunk: str, partials: Sequence[str]
    ) -> None:
        """The outlined function of a reduction: each chunk in [lo, hi) into its partial result."""
        w = body.w
        unit = chunk_unit(stmt, WHOLE if stmt.kind == "parallel_vector" else 1)
        extent, chunk = body.share("i64", extent), body.share("i64", chunk)
        partials = [body.share("ptr", name) for name in partials]

        def one(c: str, _: Sequence[str]) -> list[str]:
            start = w(f"mul i64 {c}, {chunk}")
            stop = w(f"add i64 {start}, {chunk}")
            over = w(f"icmp sgt i64 {stop}, {extent}")
            stop = w(f"select i1 {over}, i64 {extent}, i64 {stop}")
            inits = [
                identity(c.combine or "add", c.init.dtype, body.scalar(c.init))
                for c in stmt.carries
            ]
            values = body.span(stmt, start, stop, None, inits, unit)
            for carry, value, partial in zip(stmt.carries, values, partials, strict=True):
                at = w(f"getelementptr i64, ptr {partial}, i64 {c}")
                w.do(f"store {register(carry.init.dtype, 1)} {value}, ptr {at}, align 8")
            return []

        body.counted("%lo", "%hi", 1, None, [], one)

    def combine_partials(self, stmt: For, partials: Sequence[str], chunks: str) -> None:
        """Fold the partial results into the initial values."""
        w = self.w
        kinds = [register(c.init.dtype, 1) for c in stmt.carries]
        carried = list(zip(kinds, [self.scalar(c.init) for c in stmt.carries], strict=True))

        def one(c: str, values: Sequence[str]) -> list[str]:
            found: list[str] = []
            for carry, kind, value, partial in zip(
                stmt.carries, kinds, values, partials, strict=True
            ):
                at = w(f"getelementptr i64, ptr {partial}, i64 {c}")
                part = w(f"load {kind}, ptr {at}, align 8")
                found.append(combined(self, carry, 1, value, part))
            return found

        results = self.counted("0", chunks, 1, None, carried, one)
        for carry, value in zip(stmt.carries, results, strict=True):
            self.env[carry.result] = Reg(value)
