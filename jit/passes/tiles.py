"""Writes a kernel whose rows are taken in tiles: per row on vectors, passes, then down the columns.

A tile is small enough to stay in cache between its passes, so each row comes from memory once.
"""

from __future__ import annotations

from collections.abc import Container, Generator, Sequence
from contextlib import ExitStack, contextmanager

from functrans.extend import Var
from jit.fusion import Kernel
from jit.loop_ir.nodes import Value
from jit.lowering.index import Dynamic, Index, Loop, of_loop
from jit.lowering.nodes import FoldNode, Node
from jit.lowering.rules import is_complex, loop_dtype, parts
from jit.lowering.writer import Writer
from jit.passes.nest import Accumulators, KernelWriter, regrouped
from jit.passes.schedule import Schedule
from jit.passes.sums import ColumnSums

PER_ROW = ("row", "row_total")
TOGETHER = 4


class TileWriter(KernelWriter):
    """Writes one kernel; `space` is where sums of blocks lie, `scratch` what a tile keeps."""

    def __init__(
        self,
        writer: Writer,
        kernel: Kernel,
        plan: Schedule,
        name: str,
        space: int,
        scratch: Container[Var],
    ) -> None:
        super().__init__(writer, kernel, plan, name)
        assert plan.tiles is not None
        self.tiles = plan.tiles
        self.outer = [step.loop for step in plan.outer]
        self.rows_loop = self.outer[-1]
        self.block: Loop | None = None
        self.columns = [n for n in self.folds if kernel.roles[n] == "column_fold"]
        by_column = {n: self.folds[n] for n in self.columns}
        width, blocks = self.domain.width, self.tiles.blocks
        self.sums = ColumnSums(writer, by_column, name, width, blocks, space)
        self.row: Value = self.b.index(0)
        self.keep_tile(scratch)

    def keep_tile(self, scratch: Container[Var]) -> None:
        """Memory for what a later step over the same tile reads: per row, and whole rows."""
        domain, rows, width = self.domain, self.tiles.rows, self.domain.width
        for var, node in self.kernel.defs.items():
            role = self.kernel.roles[node]
            per_row = role in ("row", "row_fold") and var not in self.walk.buffers
            if not per_row and var not in scratch:
                continue
            count = rows * (1 if per_row else width) * (2 if is_complex(var.aval.dtype) else 1)
            name = f"{self.name}_tile{len(self.walk.rows)}"
            self.walk.buffers[var] = self.b.local(name, loop_dtype(var.aval.dtype), count)
            if per_row:
                self.walk.rows[var] = lambda flat: self.in_tile()
            else:
                self.walk.rows[var] = lambda flat: flat + (self.in_tile() - domain.row) * width

    def in_tile(self) -> Index:
        """The number of the current row in its tile."""
        bounds = (0, self.tiles.rows - 1)
        return Index(0, {Dynamic((self, "row"), bounds, of_loop(self.rows_loop), self.row): 1})

    # blocks and tiles

    def write(self) -> None:
        """All blocks; then the totals, and the columns' results."""
        with self.walk.kernel(self.name):
            start = [self.folds[n].identity() for n in self.totals]
            found = self.all_blocks(start)
            for node, total in zip(self.totals, found, strict=True):
                self.finish(node, self.folds[node].result(total), Index(0, {}))
            if self.tiles.blocks == 1:
                self.results()
        if self.tiles.blocks > 1 and self.columns:
            with self.walk.kernel(f"{self.name}_total"):
                self.results()

    def all_blocks(self, start: Accumulators) -> Accumulators:
        """Blocks in parallel, each with totals and column sums of its own."""
        whole, height = self.outer[0].extent, self.tiles.height
        if self.tiles.blocks == 1:
            self.clear()
            return self.around(self.outer, 0, whole, start)
        b, self.block = self.b, Loop(self.tiles.blocks, "block")
        opened = b.for_(
            self.block.extent, "parallel", self.carried(self.totals, start), hint="block"
        )
        with self.walk.loop(self.block, opened):
            self.clear()
            first = b.mul(opened.i, height)
            count = b.min(b.sub(b.index(whole), first), height) if whole % height else height
            fresh = [self.folds[n].identity() for n in self.totals]
            found = self.around(self.outer, first, count, fresh)
            after = [
                self.folds[n].step(old, new)
                for n, old, new in zip(
                    self.totals, regrouped(opened.carries, start), found, strict=True
                )
            ]
            if start:
                opened.yield_(*[value for total in after for value in total])
        return regrouped(opened.results, start)

    def around(
        self, loops: Sequence[Loop], first: int | Value, count: int | Value, start: Accumulators
    ) -> Accumulators:
        """The loops around the rows, the first of them from `first` on; then tiles."""
        if len(loops) == 1:
            return self.all_tiles(first, count, start)
        opened = self.b.for_(count, "serial", self.carried(self.totals, start), hint=loops[0].name)
        with self.walk.loop(loops[0], opened, first):
            before = regrouped(opened.carries, start)
            found = self.around(loops[1:], 0, loops[1].extent, before)
            if start:
                opened.yield_(*[value for total in found for value in total])
        return regrouped(opened.results, start)

    def all_tiles(
        self, first: int | Value, count: int | Value, start: Accumulators
    ) -> Accumulators:
        """Tiles of rows, of which the last may be shorter."""
        b, rows = self.b, self.tiles.rows
        many: int | Value = count // rows if isinstance(count, int) else b.floordiv(count, rows)
        ragged = self.rows_loop.extent % rows != 0
        if ragged:
            many = (
                -(-count // rows)
                if isinstance(count, int)
                else b.floordiv(b.add(count, rows - 1), rows)
            )
        opened = b.for_(many, "serial", self.carried(self.totals, start), hint="tile")
        with self.walk.loop(Loop(-(-self.rows_loop.extent // rows), "tile"), opened):
            offset = b.mul(opened.i, rows)
            length = b.min(b.sub(count, offset), rows) if ragged else rows
            before = regrouped(opened.carries, start)
            found = self.one_tile(b.add(offset, first), length, before)
            if start:
                opened.yield_(*[value for total in found for value in total])
        return regrouped(opened.results, start)

    # one tile

    def one_tile(self, first: Value, length: int | Value, totals: Accumulators) -> Accumulators:
        """For each stage: what there is one of per row, the passes, the sums down the columns."""
        kernel = self.kernel
        running = dict(zip(self.totals, totals, strict=True))
        for stage in range(max(kernel.stages.values(), default=0) + 1):
            here = [n for n in kernel.nodes if kernel.stages[n] == stage]
            per_row = [n for n in here if kernel.roles[n] in PER_ROW]
            passed = [n for n in here if n not in per_row and n not in self.columns]
            if per_row:
                self.per_row(per_row, first, length, running)
            if passed:
                self.passes(passed, first, length, running)
            columns = [n for n in self.columns if kernel.stages[n] == stage]
            if columns:
                self.down_columns(columns, first, length)
        return [running[n] for n in self.totals]

    def per_row(
        self,
        nodes: Sequence[Node],
        first: Value,
        length: int | Value,
        running: dict[FoldNode, tuple[Value, ...]],
    ) -> None:
        """Rows on vectors."""
        folds = [n for n in nodes if isinstance(n, FoldNode)]
        start = [running[n] for n in folds]
        carries = self.carried(folds, start)
        opened = self.b.for_(length, "vector", carries, hint="row")
        with self.walk.loop(self.rows_loop, opened, first):
            self.row = opened.i
            current = dict(zip(folds, regrouped(opened.carries, start), strict=True))
            for node in nodes:
                if isinstance(node, FoldNode):
                    found = node.evaluate(self.walk, self.domain, "row_total")
                    current[node] = self.folds[node].step(current[node], parts(found))
                else:
                    self.element(node)
            if folds:
                opened.yield_(*[v for n in folds for v in current[n]])
        running.update(zip(folds, regrouped(opened.results, start), strict=True))

    def passes(
        self,
        nodes: Sequence[Node],
        first: Value,
        length: int | Value,
        running: dict[FoldNode, tuple[Value, ...]],
    ) -> None:
        """Row after row, one sweep over the elements of each."""
        folds = [n for n in nodes if isinstance(n, FoldNode) and n in running]
        start = [running[n] for n in folds]
        carries = self.carried(folds, start)
        opened = self.b.for_(length, "serial", carries, hint="row")
        with self.walk.loop(self.rows_loop, opened, first):
            self.row = opened.i
            current = dict(zip(folds, regrouped(opened.carries, start), strict=True))
            self.one_pass(nodes, current)
            if folds:
                opened.yield_(*[v for n in folds for v in current[n]])
        running.update(zip(folds, regrouped(opened.results, start), strict=True))

    # columns

    def down_columns(self, nodes: Sequence[FoldNode], first: Value, length: int | Value) -> None:
        """Each column's sums take in the rows of the tile; they stay in registers meanwhile."""
        column = self.domain.column
        with ExitStack() as stack:
            self.open_inner(stack)
            start = [self.sums.get(n, column, self.block) for n in nodes]
            for node, total in zip(nodes, self.added(nodes, start, first, length), strict=True):
                self.sums.put(node, column, self.block, total)

    def added(
        self, nodes: Sequence[FoldNode], start: Accumulators, first: Value, length: int | Value
    ) -> Accumulators:
        """The sums of one column and the rows of a tile, several rows at a time.

        Rows that come at the same time have accumulators of their own, so that none waits.
        """
        b, fresh = self.b, [self.folds[n].identity() for n in nodes]
        groups = start + fresh * (TOGETHER - 1)
        whole = self.rows_loop.extent % self.tiles.rows == 0 and self.tiles.rows % TOGETHER == 0
        if isinstance(length, int):
            many: int | Value = length // TOGETHER
        else:
            many = b.floordiv(length, TOGETHER)
        found = self.several(nodes, groups, first, many, TOGETHER)
        total = found[: len(nodes)]
        for k in range(1, TOGETHER):
            more = found[k * len(nodes) : (k + 1) * len(nodes)]
            total = [self.folds[n].step(t, m) for n, t, m in zip(nodes, total, more, strict=True)]
        if whole:
            return total
        done = b.mul(b.add(b.index(0), many), TOGETHER)
        return self.several(nodes, total, b.add(first, done), b.sub(length, done), 1, done)

    def several(
        self,
        nodes: Sequence[FoldNode],
        start: Accumulators,
        first: Value,
        many: int | Value,
        together: int,
        done: int | Value = 0,
    ) -> Accumulators:
        """`many` steps of so many rows; `done` rows of the tile lie before `first`."""
        b, loop = self.b, self.rows_loop
        opened = b.for_(many, "serial", [(v, None) for t in start for v in t], hint="row")
        with self.walk.loop(loop, opened, first):
            before = regrouped(opened.carries, start)
            after: Accumulators = []
            for k in range(together):
                here = b.add(b.mul(opened.i, together), k)
                self.row = b.add(here, done)
                totals = before[k * len(nodes) : (k + 1) * len(nodes)]
                with self.iteration(b.add(here, first)):
                    for node, total in zip(nodes, totals, strict=True):
                        element = node.evaluate(self.walk, self.domain, "column_fold")
                        after.append(self.folds[node].step(total, parts(element)))
            opened.yield_(*[v for total in after for v in total])
        return regrouped(opened.results, start)

    @contextmanager
    def iteration(self, value: Value) -> Generator[None]:
        """One of several iterations of the loop over rows that are written side by side."""
        walk = self.walk
        around = walk.memos[-1], walk.held[-1]
        self.rows_loop.value = value
        walk.memos[-1], walk.held[-1] = {}, {}
        yield
        walk.memos[-1], walk.held[-1] = around

    def open_inner(self, stack: ExitStack) -> None:
        for step in self.schedule.inner:
            opened = self.b.for_(step.loop.extent, step.kind, hint=step.loop.name)
            stack.enter_context(self.walk.loop(step.loop, opened))

    def clear(self) -> None:
        if self.columns:
            with ExitStack() as stack:
                self.open_inner(stack)
                self.sums.clear(self.domain.column, self.block)

    def results(self) -> None:
        """One sweep over the columns: combine the blocks and finish."""
        if self.columns:
            with ExitStack() as stack:
                self.open_inner(stack)
                for node in self.columns:
                    total = self.sums.total(node, self.domain.column)
                    self.finish(node, self.folds[node].result(total), self.domain.column)
