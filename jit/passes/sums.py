"""Accumulators of folds that run down the columns of a matrix: an array of them for each block.

Rows are cut into a fixed number of blocks, whatever the number of threads; the partial results of
the blocks are combined in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jit.loop_ir.nodes import ITEMSIZE, Buffer, Value
from jit.lowering.accumulator import Accumulator
from jit.lowering.index import Index, Loop, of_loop
from jit.lowering.nodes import FoldNode
from jit.lowering.rules import element_bytes
from jit.lowering.writer import Writer
from jit.passes.buffers import rounded


def sum_bytes(nodes: Sequence[FoldNode], width: int) -> int:
    """What the accumulators of one block take; narrow floats are kept in four bytes."""
    return sum(rounded(width * max(element_bytes(n.var), 4)) for n in nodes)


class ColumnSums:
    """The accumulators of `folds`, `width` of each, for each of several blocks of rows.

    `space` is where they lie in the arena; a single block keeps them on the stack.
    """

    def __init__(
        self,
        walk: Writer,
        folds: Mapping[FoldNode, Accumulator],
        name: str,
        width: int,
        blocks: int,
        space: int,
    ) -> None:
        self.walk, self.b = walk, walk.b
        self.folds = dict(folds)
        self.width, self.blocks = width, blocks
        self.buffers: dict[FoldNode, Buffer] = {}
        for number, (node, accumulator) in enumerate(self.folds.items()):
            count = width * (2 if accumulator.complex else 1)
            if blocks == 1:
                made = self.b.local(f"{name}_sum{number}", accumulator.kept, count)
            else:
                made = self.b.temp(f"{name}_sum{number}", accumulator.kept, count * blocks, space)
                space += rounded(made.size * ITEMSIZE[made.dtype])
            self.buffers[node] = made

    def place(self, column: Index, block: Loop | None) -> Index:
        return column if block is None else of_loop(block) * self.width + column

    def get(self, node: FoldNode, column: Index, block: Loop | None) -> tuple[Value, ...]:
        """The running value at a column."""
        buffer, place = self.buffers[node], self.place(column, block)
        if not self.folds[node].complex:
            return (self.b.load(buffer, self.walk.number(place)),)
        return tuple(self.b.load(buffer, self.walk.number(place * 2 + k)) for k in (0, 1))

    def put(
        self, node: FoldNode, column: Index, block: Loop | None, values: tuple[Value, ...]
    ) -> None:
        place = self.place(column, block)
        for k, value in enumerate(values):
            flat = place * 2 + k if self.folds[node].complex else place
            self.b.store(self.buffers[node], self.walk.number(flat), value)

    def clear(self, column: Index, block: Loop | None) -> None:
        """Every accumulator at a column starts."""
        for node, accumulator in self.folds.items():
            self.put(node, column, block, accumulator.identity())

    def total(self, node: FoldNode, column: Index) -> tuple[Value, ...]:
        """The blocks' values at a column, combined in order."""
        accumulator = self.folds[node]
        if self.blocks == 1:
            return self.get(node, column, None)
        block = Loop(self.blocks, "block")
        carries = [(v, None) for v in accumulator.identity()]
        opened = self.b.for_(block.extent, "serial", carries)
        with self.walk.loop(block, opened):
            opened.yield_(*accumulator.step(opened.carries, self.get(node, column, block)))
        return opened.results
