"""Stores expensive values that several kernels, or several passes of one, would compute again."""

from __future__ import annotations

from collections.abc import Iterable

from functrans.extend import Eqn, Var
from jit.fusion import Kernel, Plan, Step, fits, look, make_plan, settle
from jit.lowering.graph import Graph, inlined_under, leaves
from jit.lowering.nodes import MapNode, Node, Role
from jit.lowering.walk import Scout
from jit.passes.pairs import pair_products
from jit.stored import CHEAP, inline_costs


def shared_plan(graph: Graph) -> Plan:
    """Fuse the graph, and let no expensive value be computed twice."""
    pair_products(graph)
    plan = make_plan(graph)
    share(graph, plan.stored, plan.steps)
    return plan


def share(graph: Graph, stored: dict[Var, str], steps: list[Step]) -> None:
    """Store expensive values that several kernels, or passes of one, would compute again."""
    demands: dict[Var, dict[tuple[int, int], None]] = {}
    for number, step in enumerate(steps):
        if isinstance(step, Kernel):
            for node in step.nodes:
                pass_ = pass_of(step, node)
                for var in step.looks[node].visited:
                    full = var.aval.size == step.domain.size
                    demands.setdefault(var, {})[number, pass_ if full else -1] = None
        else:
            for var in inlined_under(graph, stored, step.eqn.inputs):
                demands.setdefault(var, {})[number, -1] = None
    costs = inline_costs(graph, stored)
    touched: set[int] = set()
    for eqn in reversed(graph.eqns):
        for out in eqn.outputs:
            users = demands.get(out, {})
            if len(users) < 2 or out in stored or costs[out] <= CHEAP or out.aval.size == 1:
                continue
            if promote(graph, stored, steps, out, eqn, users):
                touched.update(number for number, _ in users)
                return_demands(graph, stored, demands, out, min(users))
    for number in touched:
        step = steps[number]
        if isinstance(step, Kernel):
            settle(graph, stored, step)
        else:
            step.reads = leaves(graph, stored, step.eqn.inputs)


def pass_of(kernel: Kernel, node: Node) -> int:
    """Which sweep over a row's elements the node runs in; -1 for none."""
    match kernel.roles[node]:
        case "full" | "row_fold" | "full_total":
            return kernel.stages[node]
        case "column_fold":
            return -2 - kernel.stages[node]
        case "row" | "row_total":
            return -1


def return_demands(
    graph: Graph,
    stored: dict[Var, str],
    demands: dict[Var, dict[tuple[int, int], None]],
    var: Var,
    keeper: tuple[int, int],
) -> None:
    """What only served to compute `var` is now wanted by its keeper alone."""
    stack = [a for a in graph.producers[var].inputs if isinstance(a, Var)]
    seen: set[Var] = set()
    users = demands[var]
    while stack:
        below = stack.pop()
        if below in seen or below in stored or below not in demands:
            continue
        seen.add(below)
        if demands[below].keys() <= users.keys():
            demands[below] = {keeper: None}
        eqn = graph.producers.get(below)
        if eqn is not None:
            stack += [a for a in eqn.inputs if isinstance(a, Var)]


def promote(
    graph: Graph,
    stored: dict[Var, str],
    steps: list[Step],
    var: Var,
    eqn: Eqn,
    users: Iterable[tuple[int, int]],
) -> bool:
    """Make `var` a node of the first kernel that wants it, if all of them can then read it."""
    first = min(number for number, _ in users)
    kernel = steps[first]
    if not isinstance(kernel, Kernel):
        return False
    node = MapNode(var, eqn)
    if var.aval.size == kernel.domain.size:
        role: Role = "full"
    elif kernel.has_rows and var.aval.size == kernel.domain.rows:
        role = "row"
    else:
        return False
    if role == "full" and len({number for number, _ in users}) == 1 and not kernel.has_rows:
        return False
    scout, refined = look(graph, stored, node, kernel.domain, role)
    if not fits(kernel, node, role, scout, refined):
        return False
    stored[var] = "wanted by several passes"
    before = (list(kernel.nodes), dict(kernel.roles), dict(kernel.looks), dict(kernel.defs))
    before_domain = kernel.domain
    kernel.domain = refined
    kernel.nodes.insert(insertion(kernel, scout), node)
    kernel.roles[node], kernel.looks[node], kernel.defs[var] = role, scout, node
    kernel.why[node] = "computed once for several passes or kernels"
    # What does not compute the variable on its way reads what it read, if the loops stay.
    others = [n for n in kernel.nodes if n is not node]
    if refined is before_domain:
        others = [n for n in others if var in kernel.looks[n].visited]
    if all(readable(graph, stored, kernel, n) for n in others):
        known = dict.fromkeys(kernel.nodes, kernel.domain) if refined is before_domain else {}
        for other in others:
            known.pop(other, None)
        settle(graph, stored, kernel, known)
        return True
    del stored[var]
    kernel.nodes, kernel.roles, kernel.looks, kernel.defs = before
    kernel.domain = before_domain
    return False


def insertion(kernel: Kernel, scout: Scout) -> int:
    """Behind the nodes whose results are read."""
    makers = [kernel.defs[var] for var, _ in scout.reads if var in kernel.defs]
    return max((kernel.nodes.index(m) + 1 for m in makers), default=0)


def readable(graph: Graph, stored: dict[Var, str], kernel: Kernel, node: Node) -> bool:
    """Can the node still be computed in the kernel, with what is now stored?"""
    scout, refined = look(graph, stored, node, kernel.domain, kernel.roles[node])
    return fits(kernel, node, kernel.roles[node], scout, refined)
