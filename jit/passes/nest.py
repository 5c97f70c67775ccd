"""Writes the nest of one kernel: rows, passes over a row, and the accumulators they carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from jit.fusion import Kernel
from jit.loop_ir.nodes import Combine, Value
from jit.lowering.accumulator import Accumulator
from jit.lowering.index import Index, Loop
from jit.lowering.nodes import CheckNode, FoldNode, Node, PartNode
from jit.lowering.rules import parts
from jit.lowering.writer import Writer
from jit.passes.late_stores import stores_last
from jit.passes.schedule import Schedule, Step

Loops: TypeAlias = Sequence[Step]
Accumulators: TypeAlias = list[tuple[Value, ...]]
Body: TypeAlias = Callable[[Accumulators], Accumulators]


class KernelWriter:
    """Writes one kernel of a plan."""

    def __init__(self, writer: Writer, kernel: Kernel, plan: Schedule, name: str) -> None:
        self.walk = writer
        self.b = writer.b
        self.kernel = kernel
        self.schedule = plan
        self.domain = plan.domain
        self.name = name
        self.blocks: dict[Loop, Value] = {}
        self.folds = {
            n: Accumulator(self.b, n.var.aval, n.fold.monoid)
            for n in kernel.nodes
            if isinstance(n, FoldNode)
        }
        self.totals = [n for n in self.folds if kernel.roles[n] in ("full_total", "row_total")]

    def write(self) -> None:
        """The kernel: rows, passes, then the totals."""
        with self.walk.kernel(self.name):
            start = [self.folds[n].identity() for n in self.totals]
            found = self.run(self.schedule.outer, self.totals, start, self.rows, False)
            for node, total in zip(self.totals, found, strict=True):
                self.finish(node, self.folds[node].result(total), Index(0, {}))

    def run(
        self,
        loops: Loops,
        nodes: Sequence[FoldNode],
        start: Accumulators,
        body: Body,
        direct: bool,
    ) -> Accumulators:
        """Open `loops` around `body`, carrying one accumulator per node.

        In a loop that is split among lanes or threads an iteration starts afresh and is combined
        with what came before; `direct` says that the innermost body does that itself.
        """
        if not loops:
            return body(start)
        step, rest = loops[0], loops[1:]
        if step.tile:
            self.run_tile(step, rest, body, direct)
            return start
        if step.part == "unrolled":
            return self.run_unrolled(step, rest, nodes, start, body, direct)
        loop, first = step.loop, 0
        cuts = self.schedule.cuts if "vector" in step.kind else ()
        for stop in (*cuts, loop.extent):
            loop.bounds = (first, stop - 1)
            start = self.run_part(step, rest, nodes, start, body, direct)
            first = stop
        loop.bounds = (0, loop.extent - 1)
        return start

    def run_tile(self, step: Step, rest: Loops, body: Body, direct: bool) -> None:
        """A loop over blocks, or the loop inside one; the last block may be shorter."""
        b, extent, tile = self.b, step.loop.extent, step.tile
        if step.part == "over":
            grain = self.schedule.grain if step.kind == "parallel" else 1
            count = -(-extent // tile)
            opened = b.for_(count, step.kind, grain=grain, hint=step.loop.name)
            with self.walk.loop(Loop(count), opened):
                self.blocks[step.loop] = b.mul(opened.i, tile)
                self.run(rest, [], [], body, direct)
            return
        begin = self.blocks[step.loop]
        length = tile if extent % tile == 0 else b.min(b.sub(b.index(extent), begin), tile)
        opened = b.for_(length, step.kind, hint=step.loop.name)
        with self.walk.loop(step.loop, opened, begin):
            self.run(rest, [], [], body, direct)

    def run_unrolled(
        self,
        step: Step,
        rest: Loops,
        nodes: Sequence[FoldNode],
        start: Accumulators,
        body: Body,
        direct: bool,
    ) -> Accumulators:
        """The iterations of a short loop one after another, each in a domain of its own."""
        whole, block = self.domain, self.b.scopes[-1].block
        begin = len(block.stmts)
        for k in range(step.loop.extent):
            self.domain = whole.at(step.loop, k)
            start = self.run(rest, nodes, start, body, direct)
        block.stmts[begin:] = stores_last(block.stmts[begin:])
        self.domain = whole
        return start

    def run_part(
        self,
        step: Step,
        rest: Loops,
        nodes: Sequence[FoldNode],
        start: Accumulators,
        body: Body,
        direct: bool,
    ) -> Accumulators:
        """One part of a loop, from the lower to the upper of its bounds."""
        loop, kind = step.loop, step.kind
        begin, end = loop.bounds
        if begin == end and kind == "vector":
            kind = "serial"
        carries = self.carried(nodes, start)
        grain = self.schedule.grain if kind.startswith("parallel") else 1
        opened = self.b.for_(end + 1 - begin, kind, carries, grain=grain, hint=loop.name)
        with self.walk.loop(loop, opened, begin):
            before = regrouped(opened.carries, start)
            if kind == "serial" or (direct and not rest):
                after = self.run(rest, nodes, before, body, direct)
            else:
                fresh = [self.folds[n].identity() for n in nodes]
                found = self.run(rest, nodes, fresh, body, direct)
                after = [
                    self.folds[n].step(old, new)
                    for n, old, new in zip(nodes, before, found, strict=True)
                ]
            if carries:
                opened.yield_(*[value for total in after for value in total])
        return regrouped(opened.results, start)

    def carried(
        self, nodes: Sequence[FoldNode], start: Accumulators
    ) -> list[tuple[Value, Combine | None]]:
        """The carries of a loop that adds to accumulators."""
        pairs = zip(nodes, start, strict=True)
        return [(value, self.folds[n].combine) for n, total in pairs for value in total]

    def rows(self, totals: Accumulators) -> Accumulators:
        """One row: for each stage what can be computed per row, then the pass."""
        kernel = self.kernel
        running = dict(zip(self.totals, totals, strict=True))
        last = max(kernel.stages.values(), default=0)
        for stage in range(last + 1):
            here = [n for n in kernel.nodes if kernel.stages[n] == stage]
            for node in here:
                if kernel.roles[node] == "row":
                    self.element(node)
                elif kernel.roles[node] == "row_total":
                    assert isinstance(node, FoldNode)
                    found = node.evaluate(self.walk, self.domain, "row_total")
                    running[node] = self.folds[node].step(running[node], parts(found))
            passed = [n for n in here if kernel.roles[n] not in ("row", "row_total")]
            if passed:
                self.one_pass(passed, running)
        return [running[n] for n in self.totals]

    def one_pass(self, nodes: Sequence[Node], running: dict[FoldNode, tuple[Value, ...]]) -> None:
        """One sweep over the elements of a row, for all the nodes of a stage."""
        folds = [n for n in nodes if isinstance(n, FoldNode)]
        start = [running[n] if n in running else self.folds[n].identity() for n in folds]

        def body(totals: Accumulators) -> Accumulators:
            current = dict(zip(folds, totals, strict=True))
            for node in nodes:
                if isinstance(node, FoldNode):
                    role = self.kernel.roles[node]
                    found = node.evaluate(self.walk, self.domain, role)
                    current[node] = self.folds[node].step(current[node], parts(found))
                else:
                    self.element(node)
            return [current[n] for n in folds]

        found = self.run(self.schedule.inner, folds, start, body, True)
        for node, total in zip(folds, found, strict=True):
            if node in running:
                running[node] = total
            else:
                self.finish(node, self.folds[node].result(total), self.domain.row)

    def element(self, node: Node) -> None:
        """Evaluate a map-like node where we are, keep it at hand, and store it."""
        role = self.kernel.roles[node]
        assert not isinstance(node, FoldNode)
        if isinstance(node, CheckNode):
            node.evaluate(self.walk, self.domain, role)
            return
        found = node.evaluate(self.walk, self.domain, role)
        if isinstance(node, PartNode):
            where = node.position(self.walk, self.domain, role)
            self.walk.store(self.walk.buffers[node.var], where, found)
            return
        self.finish(node, found, node.stored_at(self.domain, role))

    def finish(self, node: Any, element: Any, flat: Index) -> None:
        """Keep an element at hand, and store it where the variable has memory."""
        self.walk.hold(node.var, flat, element)
        buffer = self.walk.buffers.get(node.var)
        if buffer is not None:
            place = self.walk.rows.get(node.var)
            self.walk.store(buffer, place(flat) if place else flat, element)


def regrouped(values: Sequence[Value], like: Accumulators) -> Accumulators:
    """A flat list of values in the groups of `like`."""
    found: Accumulators = []
    at = 0
    for group in like:
        found.append(tuple(values[at : at + len(group)]))
        at += len(group)
    return found
