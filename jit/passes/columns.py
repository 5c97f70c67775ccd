"""Sums down the columns of a tall matrix, read row by row: the accumulators are arrays in cache."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from jit.fusion import Kernel
from jit.loop_ir.nodes import LoopKind, Value
from jit.lowering.index import Loop, of_loop
from jit.lowering.nodes import FoldNode
from jit.lowering.reduction import parts
from jit.lowering.writer import Writer
from jit.passes.nest import KernelWriter
from jit.passes.schedule import Schedule, Step
from jit.passes.sums import ColumnSums


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
        blocks = self.columns.blocks
        self.sums = ColumnSums(writer, self.folds, name, self.lane.extent, blocks, space)

    def write(self) -> None:
        """Blocks of rows, then what is left to do per column."""
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
        """Clear the accumulators, then add one row after another."""
        with ExitStack() as stack:
            self.open(stack, self.lane, "vector")
            self.sums.clear(of_loop(self.lane), block)
        b, height = self.b, self.columns.height
        start: int | Value = 0
        length: int | Value = self.tall.extent
        if block is not None:
            assert block.value is not None
            start = b.mul(block.value, height)
            length = b.max(b.min(b.sub(b.index(self.tall.extent), start), height), 0)
        with self.walk.loop(self.tall, b.for_(length, "serial", hint="row"), start):
            self.run([Step(self.lane, "vector")], [], [], lambda _: self.add_row(block), True)

    def add_row(self, block: Loop | None) -> list[Any]:
        """Every node at one element; folds go to their accumulators."""
        column = of_loop(self.lane)
        for node in self.kernel.nodes:
            if self.kernel.stages[node] > 0:
                continue
            if isinstance(node, FoldNode):
                element = node.evaluate(self.walk, self.domain, "row_fold")
                total = self.sums.get(node, column, block)
                stepped = self.folds[node].step(total, parts(element))
                self.sums.put(node, column, block, stepped)
            else:
                self.element(node)
        return []

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
