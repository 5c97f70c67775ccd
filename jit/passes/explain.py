"""Says in words what fusion decided: for each kernel its traffic, its work, and the reasons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from functrans.extend import Jaxpr, Var, simplify
from jit.fusion import Kernel, Plan, RootCall
from jit.lowering.nodes import Node
from jit.lowering.rules import element_bytes
from jit.passes.prepare import inline_calls
from jit.passes.schedule import Schedule, schedule
from jit.passes.sharing import shared_plan
from jit.passes.whole import whole_graph


def explain(jaxpr: Jaxpr) -> list[str]:
    """The lines of a report, found by planning the program again."""
    graph = whole_graph(simplify(inline_calls(jaxpr)), lambda eqn: 0, [])
    plan = shared_plan(graph)
    return list(explain_plan(plan))


def explain_plan(plan: Plan) -> Iterator[str]:
    """A line for each kernel, and below it a line for each thing it makes."""
    kept = needed_later(plan)
    for number, step in enumerate(plan.steps):
        if isinstance(step, RootCall):
            made = step.eqn.outputs
            name = step.eqn.primitive.name
            yield f"{number}: {name}: {traffic(step.reads, made)}: reads and writes whole arrays"
            continue
        reads = step.reads - step.defs.keys()
        writes = [var for var in step.defs if var in kept]
        yield f"{number}: {traffic(reads, writes)}, {work(step)}{manner(plan, step)}"
        for node in step.nodes:
            yield f"   {made_by(step, node)}: {step.why.get(node, '')}{memory(plan, node, kept)}"


def needed_later(plan: Plan) -> set[Var]:
    """The variables that lie in memory: results, and what other kernels read."""
    found = set(plan.graph.outvars)
    for step in plan.steps:
        own = step.defs.keys() if isinstance(step, Kernel) else set[Var]()
        found |= step.reads - own
    return found


def made_by(kernel: Kernel, node: Node) -> str:
    if node.target is None:
        return "index check"
    return f"{kernel.roles[node]} {node.target.aval} by {node.eqn.primitive.name}"


def memory(plan: Plan, node: Node, kept: set[Var]) -> str:
    """Why the variable of a node is a node at all, and where it goes."""
    if node.target is None:
        return ""
    place = "in memory" if node.target in kept else "in registers or a row of scratch"
    return f"; {place} ({plan.stored.get(node.target, 'part of a result')})"


def traffic(reads: Iterable[Var], writes: Iterable[Var]) -> str:
    """Bytes read and written, each array once."""
    return f"reads {size_of(reads)}, writes {size_of(writes)}"


def size_of(variables: Iterable[Var]) -> str:
    count = float(sum(var.aval.size * element_bytes(var) for var in variables))
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def work(kernel: Kernel) -> str:
    """Simple operations, in all and for each element of the domain."""
    per_element = 0.0
    for node in kernel.nodes:
        per_row = kernel.roles[node] in ("row", "row_total")
        cost = kernel.looks[node].cost + (kernel.roles[node] not in ("full", "row"))
        per_element += cost / max(kernel.domain.width, 1) if per_row else cost
    total = per_element * kernel.domain.size
    return f"about {total:.2g} operations ({per_element:.3g} an element)"


def manner(plan: Plan, kernel: Kernel) -> str:
    """How the loops are run, where that is more than one sweep."""
    made = schedule(plan.graph, plan.stored, kernel)
    passes = max(kernel.stages.values(), default=0) + 1
    words = [f"{passes} passes over each row"] if passes > 1 else []
    words += list(arrangement(made))
    return "".join(f"; {word}" for word in words)


def arrangement(made: Schedule) -> Iterator[str]:
    if made.tiles:
        yield f"{made.tiles.rows} rows at a time, in {made.tiles.blocks} blocks"
    if made.columns and made.columns.strip:
        yield f"strips of {made.columns.strip} columns"
    elif made.columns:
        yield f"row by row, sums of columns in cache, in {made.columns.blocks} blocks"
    if made.lanes_are_rows and not made.columns:
        yield "several rows at once on the lanes of vectors"
