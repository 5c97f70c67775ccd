"""Folds down the columns of a matrix, read row by row: the accumulators are arrays in cache."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

from jit.fusion import Kernel
from jit.loop_ir.nodes import LoopKind, Value
from jit.lowering.index import Dynamic, Index, Loop, of_loop
from jit.lowering.nodes import FoldNode, Node
from jit.lowering.rules import element_bytes, is_complex, loop_dtype, parts
from jit.lowering.writer import Writer
from jit.passes.nest import Accumulators, KernelWriter, regrouped
from jit.passes.schedule import Schedule, Step
from jit.passes.sums import ColumnSums

Running: TypeAlias = dict[FoldNode, tuple[Value, ...]]
PER_ROW = ("row", "row_fold")
TOGETHER, MORE_TOGETHER = 4, 16
"""So many rows are read before the sums of a column go back to memory, and so many short ones.

The loads of a row would wait for the stores of the one before, long where some lanes are masked.
"""
SHORT_ROW, MANY_ROWS, SIMPLE = 512, 4096, 8.0
"""A row is short up to so many bytes; rows are many from so many on; and an element is simple that
costs no more than this."""


class ColumnWriter(KernelWriter):
    """Writes a kernel of column folds; `space` is where its partial results lie in the arena."""

    def __init__(
        self, writer: Writer, kernel: Kernel, plan: Schedule, name: str, space: int
    ) -> None:
        super().__init__(writer, kernel, plan, name)
        assert plan.columns is not None
        self.columns = plan.columns
        self.around = [step.loop for step in plan.outer[:-1]]
        self.lane = plan.outer[-1].loop
        self.tall = plan.inner[0].loop
        width, blocks = self.columns.strip or self.lane.extent, self.columns.blocks
        self.sums = ColumnSums(writer, self.folds, name, width, blocks, space)
        self.nodes = [n for n in kernel.nodes if kernel.stages[n] == 0]
        self.together = rows_together(kernel, self.nodes, self.lane.extent, self.tall.extent)

    def write(self) -> None:
        """Strips of columns; or blocks of rows, then what is left to do per column."""
        if self.columns.strip:
            with self.walk.kernel(self.name):
                Strips(self).write()
            return
        if self.columns.blocks == 1:
            with self.walk.kernel(self.name), ExitStack() as stack:
                for position, loop in enumerate(self.around):
                    threads = self.schedule.parallel and position == 0
                    self.open(stack, loop, "parallel" if threads else "serial")
                self.one_block(None)
                self.results()
            return
        with self.walk.kernel(self.name), ExitStack() as stack:
            block = Loop(self.columns.blocks, "block")
            self.open(stack, block, "parallel")
            self.one_block(block)
        with self.walk.kernel(f"{self.name}_total"):
            self.results()

    def open(self, stack: ExitStack, loop: Loop, kind: LoopKind) -> None:
        stack.enter_context(self.walk.loop(loop, self.b.for_(loop.extent, kind, hint=loop.name)))

    def one_block(self, block: Loop | None) -> None:
        """Clear the accumulators, then add the rows, a few at a time."""
        with ExitStack() as stack:
            self.open(stack, self.lane, "vector")
            self.sums.clear(of_loop(self.lane), block)
        b, height = self.b, self.columns.height
        start, length = b.index(0), b.index(self.tall.extent)
        if block is not None:
            assert block.value is not None
            start, length = b.mul(block.value, height), b.index(height)
            if self.columns.blocks * height != self.tall.extent:
                length = b.max(b.min(b.sub(b.index(self.tall.extent), start), height), 0)
        if self.together == 1:
            self.add_rows(block, start, length, 1)
            return
        many = b.div(length, self.together)
        done = b.mul(many, self.together)
        self.add_rows(block, start, many, self.together)
        self.add_rows(block, b.add(start, done), b.sub(length, done), 1)

    def add_rows(self, block: Loop | None, start: Value, many: Value, together: int) -> None:
        """Every node of the pass at so many times so many rows, from `start` on."""
        opened = self.b.for_(many, "serial", hint="row")

        def body(_: Accumulators) -> Accumulators:
            first = self.b.add(start, self.b.mul(opened.i, together))
            self.take_rows(self.nodes, of_loop(self.lane), block, first, together)
            return []

        with self.walk.loop(self.tall, opened, start):
            self.run([Step(self.lane, "vector")], [], [], body, True)

    def take_rows(
        self, nodes: Sequence[Node], column: Index, block: Loop | None, first: Value, together: int
    ) -> None:
        """Nodes at a column of some rows; its sums are in registers meanwhile."""
        walk, sums = self.walk, self.sums
        folds = [n for n in nodes if isinstance(n, FoldNode)]
        totals = {n: sums.get(n, column, block) for n in folds}
        for k in range(together):
            self.tall.value = self.b.add(first, k)
            # Of the row, and of the lanes in it, nothing of the row before holds.
            walk.memos[-2:], walk.held[-2:] = [{}, {}], [{}, {}]
            for node in nodes:
                if isinstance(node, FoldNode):
                    found = node.evaluate(walk, self.domain, self.kernel.roles[node])
                    totals[node] = self.folds[node].step(totals[node], parts(found))
                else:
                    self.element(node)
        for node in folds:
            sums.put(node, column, block, totals[node])

    def results(self) -> None:
        """One pass over the columns: combine the blocks, finish, and compute what is per column."""
        with ExitStack() as stack:
            self.open(stack, self.lane, "vector")
            for node, accumulator in self.folds.items():
                total = self.sums.total(node, of_loop(self.lane))
                self.finish(node, accumulator.result(total), self.domain.row)
            for node in self.kernel.nodes:
                if self.kernel.stages[node] > 0:
                    self.element(node)


def rows_together(kernel: Kernel, nodes: Sequence[Node], width: int, height: int) -> int:
    """How many rows of a kernel of sums are read before the sums go back to memory.

    One, where a row is long, since what it loads was stored long before, and where there are few:
    a loop over single rows can go through the blocks of a product.
    """
    row = width * max(element_bytes(n.var) for n in nodes if isinstance(n, FoldNode))
    if row > SHORT_ROW or height < MANY_ROWS:
        return 1
    simple = sum(kernel.looks[n].cost for n in nodes) <= SIMPLE
    return MORE_TOGETHER if simple else TOGETHER


class Strips:
    """Writes a kernel of several passes down columns, a strip of columns after another."""

    def __init__(self, writer: ColumnWriter) -> None:
        self.writer, self.walk, self.b = writer, writer.walk, writer.b
        self.kernel, self.folds = writer.kernel, writer.folds
        self.lane, self.strip = writer.lane, writer.columns.strip
        self.first: Value = self.b.index(0)
        self.length: int | Value = self.strip
        self.column: Value = self.b.index(0)
        for var, node in self.kernel.defs.items():
            if self.kernel.roles[node] not in PER_ROW or var in self.walk.buffers:
                continue
            count = self.strip * (2 if is_complex(var.aval.dtype) else 1)
            name = f"{writer.name}_strip{len(self.walk.rows)}"
            self.walk.buffers[var] = self.b.local(name, loop_dtype(var.aval.dtype), count)
            self.walk.rows[var] = lambda flat: self.in_strip()

    def in_strip(self) -> Index:
        """The number of the current column in its strip."""
        bounds = (0, self.strip - 1)
        return Index(0, {Dynamic((self, "column"), bounds, of_loop(self.lane), self.column): 1})

    def write(self) -> None:
        """The loops around, and strips; threads share the first of these. Then the totals."""
        totals = self.writer.totals
        start = [self.folds[n].identity() for n in totals]
        strips = Loop(-(-self.lane.extent // self.strip), "strip")
        found = self.nest([*self.writer.around, strips], start, self.writer.schedule.parallel)
        for node, total in zip(totals, found, strict=True):
            self.writer.finish(node, self.folds[node].result(total), Index(0, {}))

    def nest(self, loops: Sequence[Loop], start: Accumulators, parallel: bool) -> Accumulators:
        """Open the loops; each iteration adds to the totals."""
        loop, totals = loops[0], self.writer.totals
        kind: LoopKind = "parallel" if parallel else "serial"
        opened = self.b.for_(loop.extent, kind, self.writer.carried(totals, start), hint=loop.name)
        with self.walk.loop(loop, opened):
            fresh = [self.folds[n].identity() for n in totals]
            found = self.nest(loops[1:], fresh, False) if loops[1:] else self.one_strip(loop, fresh)
            before = regrouped(opened.carries, start)
            trios = zip(totals, before, found, strict=True)
            after = [self.folds[n].step(old, new) for n, old, new in trios]
            if start:
                opened.yield_(*[value for total in after for value in total])
        return regrouped(opened.results, start)

    def one_strip(self, strips: Loop, start: Accumulators) -> Accumulators:
        """All stages over one strip."""
        whole, b = self.lane.extent, self.b
        assert strips.value is not None
        self.first = b.mul(strips.value, self.strip)
        if whole % self.strip:
            self.length = b.min(b.sub(b.index(whole), self.first), self.strip)
        running = dict(zip(self.writer.totals, start, strict=True))
        for stage in range(max(self.kernel.stages.values()) + 1):
            here = [n for n in self.kernel.nodes if self.kernel.stages[n] == stage]
            self.one_stage(here, running)
        return [running[n] for n in self.writer.totals]

    @contextmanager
    def lanes(
        self,
        totals: Sequence[FoldNode] = (),
        running: Running | None = None,
    ) -> Generator[tuple[Index, Running]]:
        """Columns of the strip on vectors: the column's index, and the totals it adds to."""
        running = {} if running is None else running
        start = [running[n] for n in totals]
        carries = self.writer.carried(totals, start)
        opened = self.b.for_(self.length, "vector", carries, hint="column")
        with self.walk.loop(self.lane, opened, self.first):
            self.column = opened.i
            current = dict(zip(totals, regrouped(opened.carries, start), strict=True))
            yield self.in_strip(), current
            if totals:
                opened.yield_(*[v for n in totals for v in current[n]])
        running.update(zip(totals, regrouped(opened.results, start), strict=True))

    def one_stage(self, here: list[Node], running: Running) -> None:
        """What there is one of per column, then a pass over the strip's rows, then its results."""
        per_column = [n for n in here if self.kernel.roles[n] in ("row", "row_total")]
        passed = [n for n in here if n not in per_column]
        folds = [n for n in passed if isinstance(n, FoldNode)]
        if per_column or folds:
            self.before(per_column, folds, running)
        if passed:
            self.rows(passed)
        if folds:
            self.after(folds, running)

    def before(
        self,
        nodes: list[Node],
        folds: list[FoldNode],
        running: Running,
    ) -> None:
        """What there is one of per column; the folds of the pass to come start."""
        totals = [n for n in nodes if isinstance(n, FoldNode)]
        with self.lanes(totals, running) as (column, current):
            for node in nodes:
                if isinstance(node, FoldNode):
                    found = node.evaluate(self.walk, self.writer.domain, "row_total")
                    current[node] = self.folds[node].step(current[node], parts(found))
                else:
                    self.writer.element(node)
            for node in folds:
                self.writer.sums.put(node, column, None, self.folds[node].identity())

    def after(self, folds: list[FoldNode], running: Running) -> None:
        """The results of a pass: kept per column, or added to the totals."""
        totals = [n for n in folds if n in running]
        with self.lanes(totals, running) as (column, current):
            for node in folds:
                found = self.writer.sums.get(node, column, None)
                if node in running:
                    current[node] = self.folds[node].step(current[node], found)
                else:
                    result = self.folds[node].result(found)
                    self.writer.finish(node, result, self.writer.domain.row)

    def rows(self, passed: list[Node]) -> None:
        """Row after row, a few at a time while the sums of their columns are in registers."""
        height = self.writer.tall.extent
        many, rest = divmod(height, TOGETHER)
        self.some_rows(passed, 0, many, TOGETHER)
        if rest:
            self.some_rows(passed, many * TOGETHER, rest, 1)

    def some_rows(self, passed: list[Node], first: int, many: int, together: int) -> None:
        opened = self.b.for_(many, "serial", hint="row")
        with self.walk.loop(self.writer.tall, opened, first):
            group = self.b.add(self.b.mul(opened.i, together), first)
            with self.lanes() as (column, _):
                self.writer.take_rows(passed, column, None, group, together)
