"""Which equations share a loop nest, and why.

Every stored variable is placed in a kernel, in program order: in one that already computes what it
reads at the same elements or rows, or in a new one. Kernels run in the order of the plan; a kernel
reads only what earlier kernels or its own earlier stages store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from functrans.extend import Eqn, Var
from jit.lowering.domain import Domain
from jit.lowering.graph import Graph, leaves
from jit.lowering.index import Loop
from jit.lowering.indexing import indices_of
from jit.lowering.nodes import CheckNode, FoldNode, MapNode, Node, PartNode, Role
from jit.lowering.rules import REDUCTIONS, ROOTS, Root, element_bytes, needs_check
from jit.lowering.walk import Scout
from jit.stored import FEW, MOST_EQUATIONS, choose_stored

NOT_SEEN: Mapping[Node, Domain] = {}
MANY = 48
"""A kernel takes no more nodes than this."""
NEWEST = 8
"""So many kernels of a node's size are tried, the newest: trying all takes quadratic time."""
NOTHING_NEAR = "no kernel before it has to do with what it reads"
APART = ("row", "row_total", "column_fold")
"""Roles of nodes that do not run in the passes over each row."""
COLUMNS_FROM, COLUMNS_TO = 64, 1 << 15
"""Sums down columns are kept beside the rows while a row of them has so many bytes."""
FEW_COLUMNS, NARROW, TALL = 4, 512, 1 << 19
"""A matrix of some more columns, in rows of less than NARROW bytes, is tall from TALL bytes on."""
ROW_LIMIT = 1 << 13
"""A whole array up to this size may be one row, folded and broadcast back in one kernel."""


@dataclass(eq=False)
class Kernel:
    """Nodes over one domain.

    has_rows  are the domain's inner loops those of a row, in passes over which its nodes run?
    looks     what each node reads, and `seen`: over which domain it was looked at
    defs      the node that makes each variable
    stages    in which pass over the row each node runs
    visited   what is computed on the way, while the kernel grows
    why       the reason that each node is here
    """

    domain: Domain
    has_rows: bool = False
    nodes: list[Node] = field(default_factory=list)
    roles: dict[Node, Role] = field(default_factory=dict)
    looks: dict[Node, Scout] = field(default_factory=dict)
    seen: dict[Node, Domain] = field(default_factory=dict)
    defs: dict[Var, Node] = field(default_factory=dict)
    stages: dict[Node, int] = field(default_factory=dict)
    visited: set[Var] = field(default_factory=set)
    why: dict[Node, str] = field(default_factory=dict)

    def add(self, node: Node, role: Role, scout: Scout, domain: Domain) -> None:
        """Take a node; `domain` is what `scout` looked at."""
        self.nodes.append(node)
        self.roles[node] = role
        self.looks[node] = scout
        self.visited |= scout.visited.keys()
        self.seen[node] = domain
        if node.target is not None:
            self.defs[node.target] = node

    @property
    def reads(self) -> set[Var]:
        """The stored variables and inputs that its nodes read."""
        return {var for scout in self.looks.values() for var, _ in scout.reads}


@dataclass(eq=False)
class RootCall:
    """A root equation; `reads` are the stored variables and inputs it depends on."""

    eqn: Eqn
    rule: Root
    reads: set[Var]


Step: TypeAlias = Kernel | RootCall


@dataclass
class Plan:
    """Steps in order, and why each stored variable is stored."""

    graph: Graph
    stored: dict[Var, str]
    steps: list[Step]


# -- nodes ------------------------------------------------------------------------------------


def nodes_of(graph: Graph, stored: dict[Var, str]) -> Iterator[Node | Eqn]:
    """The nodes in program order; root equations stand for themselves.

    Checks of indices that come straight from inputs go first: they part no kernels there.
    """
    inputs = set(graph.invars)
    early = {
        id(eqn)
        for eqn in graph.eqns
        if needs_check(eqn) and leaves(graph, stored, indices_of(eqn)) <= inputs
    }
    yield from (CheckNode(eqn) for eqn in graph.eqns if id(eqn) in early)
    for eqn in graph.eqns:
        if needs_check(eqn) and id(eqn) not in early:
            yield CheckNode(eqn)
        if eqn.primitive in ROOTS:
            yield eqn
        elif eqn.primitive in REDUCTIONS:
            yield FoldNode(eqn.outputs[0], REDUCTIONS[eqn.primitive](eqn), eqn)
        elif eqn.primitive.name == "concatenate" and eqn.outputs[0] in stored:
            yield from parts_of(eqn)
        else:
            yield from (MapNode(out, eqn) for out in eqn.outputs if out in stored)


def parts_of(eqn: Eqn) -> Iterator[Node]:
    """A stored concatenation is written part by part."""
    axis, start = eqn.params["axis"], 0
    for atom in eqn.inputs:
        yield PartNode(atom, eqn.outputs[0], axis, start, eqn)
        start += atom.aval.shape[axis]


def is_empty(node: Node) -> bool:
    """Is there nothing to do? (a fold of nothing still fills its result)"""
    if isinstance(node, FoldNode):
        return node.var.aval.size == 0
    return node.size == 0


# -- placing ----------------------------------------------------------------------------------


def look(
    graph: Graph, stored: Mapping[Var, str], node: Node, domain: Domain, role: Role
) -> tuple[Scout, Domain]:
    """What a node reads over a domain, whose loops are split where that makes indices affine."""
    while True:
        scout = Scout(graph.producers, stored.keys())
        node.evaluate(scout, domain, role)
        wanted = scout.wished.wanted
        if not wanted:
            return scout, domain
        domain = domain.refined(wanted)


class Looked(NamedTuple):
    """What `look` found out for a node in a role over a domain."""

    role: Role
    domain: Domain
    scout: Scout
    refined: Domain

    def serves(self, role: Role, domain: Domain) -> bool:
        """Would `look` find the same in this role over this domain?

        An element of the whole is at the same place whichever of the loops are inner to rows.
        """
        same = role == self.role == "full" and self.refined is self.domain
        return same and domain.loops == self.domain.loops


class Planner:
    """Places nodes in kernels.

    places   the step that makes each variable, and `checks`: that checks each equation's indices
    by_size  the kernels of each size, in order
    loops    those of the domains of each shape
    refused  why the last kernel that was tried did not take the node
    """

    def __init__(self, graph: Graph, stored: dict[Var, str]) -> None:
        self.graph = graph
        self.stored = stored
        self.steps: list[Step] = []
        self.places: dict[Var, int] = {}
        self.checks: dict[int, int] = {}
        self.by_size: dict[int, list[int]] = {}
        self.loops: dict[tuple[int, ...], tuple[Loop, ...]] = {}
        self.refused = ""

    def run(self) -> list[Step]:
        """The steps of the whole graph."""
        for node in nodes_of(self.graph, self.stored):
            if isinstance(node, Eqn):
                self.place_root(node)
            elif not is_empty(node):
                self.place(node)
        return self.steps

    def place_root(self, eqn: Eqn) -> None:
        """A root equation is a step of its own."""
        reads = leaves(self.graph, self.stored, eqn.inputs)
        self.steps.append(RootCall(eqn, ROOTS[eqn.primitive], reads))
        for out in eqn.outputs:
            self.places[out] = len(self.steps) - 1

    def place(self, node: Node) -> None:
        """Let a kernel that is there take the node, or open one."""
        role, first = role_alone(node), self.domain_alone(node)
        scout, domain = look(self.graph, self.stored, node, first, role)
        reads = {var for var, _ in scout.reads}
        needed = [self.checks[id(eqn)] + 1 for eqn in scout.required if id(eqn) in self.checks]
        earliest = max([self.places.get(var, 0) for var in reads] + needed, default=0)
        known = Looked(role, first, scout, domain)
        step = self.joined(node, reads, earliest, known)
        if step is None:
            kernel = Kernel(domain, has_rows=role == "row_fold")
            kernel.add(node, role, scout, domain)
            kernel.why[node] = f"opens a kernel: {self.refused or NOTHING_NEAR}"
            self.steps.append(kernel)
            step = len(self.steps) - 1
            self.by_size.setdefault(domain.size, []).append(step)
        self.note(node, step)

    def domain_alone(self, node: Node) -> Domain:
        """The domain of a node on its own; domains of one shape have the same loops, so that what
        was found out over one need not be found out over another.
        """
        found = node.domain()
        loops = self.loops.setdefault(tuple([loop.extent for loop in found.loops]), found.loops)
        pairs = zip(loops, found.loops, strict=True)
        inner = [] if is_total(node) else [loop for loop, own in pairs if own in found.inner]
        return Domain(loops, frozenset(inner))

    def note(self, node: Node, step: int) -> None:
        """Remember where a node was placed, for those that need what it makes or checks."""
        if isinstance(node, CheckNode):
            self.checks[id(node.eqn)] = step
        if node.target is not None:
            self.places[node.target] = max(step, self.places.get(node.target, 0))

    def joined(self, node: Node, reads: set[Var], earliest: int, known: Looked) -> int | None:
        """The kernel that the node joins: one that makes what it reads, reads the same, or folds
        rows of the same kind, since what reads both had better find them in one place.
        """
        self.refused = ""
        for step, reason in self.candidates(node, reads, earliest):
            kernel = self.steps[step]
            assert isinstance(kernel, Kernel)
            if self.join(kernel, node, step, known):
                kernel.why[node] = reason
                return step
        return None

    def candidates(self, node: Node, reads: set[Var], earliest: int) -> list[tuple[int, str]]:
        """Kernels to try, best first, each with what makes it one."""
        makes: list[int] = []
        shares: list[int] = []
        alike: list[int] = []
        rows = node.domain().runs if isinstance(node, FoldNode) and not is_total(node) else None
        makers = {self.places[var] for var in reads if var in self.places}
        sizes = {node.size} | ({node.var.aval.size} if isinstance(node, FoldNode) else set())
        nearby = {s for size in sizes for s in self.by_size.get(size, [])[-NEWEST:]} | makers
        for step in sorted(nearby, reverse=True):
            kernel = self.steps[step]
            if step < earliest or not isinstance(kernel, Kernel) or len(kernel.nodes) >= MANY:
                continue
            if kernel.domain.size <= FEW and len(kernel.visited) >= 2 * MOST_EQUATIONS:
                continue
            if not reads.isdisjoint(kernel.defs):
                makes.append(step)
            elif not reads.isdisjoint(kernel.reads):
                shares.append(step)
            elif kernel.has_rows and kernel.domain.runs == rows:
                alike.append(step)
        reasons = (
            (makes, "reads what the kernel makes"),
            (shares, "reads what the kernel reads"),
            (alike, "folds rows like those of the kernel"),
        )
        return [(step, reason) for steps, reason in reasons for step in steps]

    def join(self, kernel: Kernel, node: Node, step: int, known: Looked) -> bool:
        """Add the node to the kernel if some role fits; `known` is what was seen of it already."""
        self.refused = f"kernel {step} runs over other elements"
        for role, domain in self.offers(kernel, node):
            if known.serves(role, domain):
                scout, refined = known.scout, domain
            else:
                scout, refined = look(self.graph, self.stored, node, domain, role)
            reason = refusal(kernel, node, role, scout, refined)
            self.refused = f"not in kernel {step}: {reason}"
            if not reason:
                kernel.domain = refined
                kernel.has_rows = kernel.has_rows or role == "row_fold"
                kernel.add(node, role, scout, refined)
                return True
        return self.turn(kernel, node)

    def turn(self, kernel: Kernel, node: Node) -> bool:
        """Add a fold of rows to a kernel of sums down columns, which becomes one of rows."""
        domain = node.domain()
        if not isinstance(node, FoldNode) or is_total(node) or not kernel.has_rows:
            return False
        roles: dict[Role, Role] = {"full": "full", "row_fold": "column_fold"}
        folds = [n for n in kernel.nodes if isinstance(n, FoldNode)]
        if not all(folds_columns(n, domain) for n in folds) or node.size != kernel.domain.size:
            return False
        made = Kernel(domain, has_rows=True)
        for other in [*kernel.nodes, node]:
            role = "row_fold" if other is node else roles.get(kernel.roles[other])
            if role is None:
                return False
            scout, refined = look(self.graph, self.stored, other, made.domain, role)
            if not fits(made, other, role, scout, refined):
                return False
            made.domain = refined
            made.add(other, role, scout, refined)
        kernel.domain, kernel.nodes, kernel.roles = made.domain, made.nodes, made.roles
        kernel.looks, kernel.defs, kernel.seen = made.looks, made.defs, made.seen
        return True

    def offers(self, kernel: Kernel, node: Node) -> Iterator[tuple[Role, Domain]]:
        """The roles that the sizes allow, with the domain the kernel would have."""
        domain = kernel.domain
        if not isinstance(node, FoldNode):
            if node.size == domain.size:
                yield "full", domain
            elif kernel.has_rows and node.size == domain.rows:
                yield "row", domain
            return
        if is_total(node):
            if node.size == domain.size:
                yield "full_total", domain
            elif kernel.has_rows and node.size == domain.rows:
                yield "row_total", domain
        elif kernel.has_rows:
            if node.domain().runs == domain.runs:
                yield "row_fold", domain
            elif node.var.aval.size == 1 and node.size == domain.rows:
                yield "row_total", domain
            elif folds_columns(node, domain):
                yield "column_fold", domain
            elif node.var.aval.size == 1 and node.size == domain.size:
                yield "full_total", domain
        elif node.size == domain.size and not has_total(kernel):
            yield "row_fold", node.domain()


def role_alone(node: Node) -> Role:
    """The role of a node that opens a kernel."""
    if not isinstance(node, FoldNode):
        return "full"
    return "full_total" if is_total(node) else "row_fold"


def is_total(node: Node) -> bool:
    """Does it fold so much into one element that the result had better wait for a kernel's end?"""
    return isinstance(node, FoldNode) and node.var.aval.size == 1 and node.size > ROW_LIMIT


def folds_columns(node: FoldNode, domain: Domain) -> bool:
    """Does it fold the rows of a domain, with one element for each column of a short row?"""
    count = domain.width * element_bytes(node.var)
    return (
        domain.inner_trails
        and COLUMNS_FROM <= count <= COLUMNS_TO
        and node.var.aval.size == domain.width
        and node.size == domain.size
    )


def has_total(kernel: Kernel) -> bool:
    return any(role in ("full_total", "row_total") for role in kernel.roles.values())


def fits(kernel: Kernel, node: Node, role: Role, scout: Scout, domain: Domain) -> bool:
    """Does the node read what the kernel makes only where the kernel has already made it?"""
    return not refusal(kernel, node, role, scout, domain)


def refusal(kernel: Kernel, node: Node, role: Role, scout: Scout, domain: Domain) -> str:
    """Why the node cannot be computed in the kernel in this role; "" where it can."""
    if role == "column_fold" and not reads_along(scout, domain):
        return "its sums down the columns would read in strides"
    if role in ("full_total", "row_total") and kernel.has_rows and not splits(node):
        return "a product of complex numbers runs in order"
    if role == "column_fold" or "column_fold" in kernel.roles.values():
        if not all(splits(n) for n in [node, *kernel.nodes]):
            return "a product of complex numbers runs in order"
    if any(isinstance(n, CheckNode) and n.eqn in scout.required for n in kernel.nodes):
        return "its indices must have been checked before"
    for var, flat in scout.reads:
        maker = kernel.defs.get(var)
        if maker is None:
            continue
        made = kernel.roles[maker]
        if isinstance(maker, PartNode) or made in ("full_total", "row_total", "column_fold"):
            return f"{var.aval} is complete only at its end"
        if made == "full":
            if flat == domain.full:
                if role in ("row", "row_total"):
                    return f"{var.aval} is read once per row"
            elif not kernel.has_rows or not domain.in_row(flat) or role == "column_fold":
                return f"{var.aval} is read in other rows than it is made in"
        elif flat != domain.row:
            return f"{var.aval} is read in other rows than it is made in"
        elif role not in APART and is_tall(domain, node):
            return "passes down a few long columns would fill neither threads nor lanes"
    return ""


def is_tall(domain: Domain, node: Node) -> bool:
    """Are the rows of a domain the few columns of a tall matrix?

    A pass down all of them at once fills part of a vector and one thread, and where it writes what
    the next pass reads, loads wait for masked stores. Read row by row, every pass has its threads.
    Up to FEW_COLUMNS each runs on full vectors by itself.
    """
    if isinstance(node, CheckNode) or domain.inner_trails or domain.rows <= FEW_COLUMNS:
        return False
    row = domain.rows * element_bytes(node.var)
    return row < NARROW and row * domain.width >= TALL


def splits(node: Node) -> bool:
    """May lanes share its work? A product of complex numbers runs in order."""
    if not isinstance(node, FoldNode):
        return True
    return not (node.fold.monoid == "mul" and node.var.aval.dtype.kind == "c")


def reads_along(scout: Scout, domain: Domain) -> bool:
    """Do all reads step evenly, by one element or none, along the last loop?"""
    last = domain.loops[-1]
    return all(flat.coefficient(last) in (0, 1) for _, flat in scout.reads)


# -- after placing ----------------------------------------------------------------------------


def settle(
    graph: Graph,
    stored: dict[Var, str],
    kernel: Kernel,
    seen: Mapping[Node, Domain] = NOT_SEEN,
) -> None:
    """Look at every node over the final domain and find the pass in which it runs.

    `seen` says over which domain a node was looked at with what is stored now.
    """
    while True:
        domain = kernel.domain
        for node in kernel.nodes:
            if seen.get(node) is kernel.domain:
                continue
            kernel.looks[node], refined = look(
                graph, stored, node, kernel.domain, kernel.roles[node]
            )
            kernel.domain = refined
        if kernel.domain is domain:
            break
    kernel.stages = {}
    for node in kernel.nodes:
        kernel.stages[node] = stage_of(kernel, node)
    columns = [node for node in kernel.nodes if kernel.roles[node] == "column_fold"]
    together = max([kernel.stages[node] for node in columns], default=0)
    kernel.stages.update(dict.fromkeys(columns, together))


def stage_of(kernel: Kernel, node: Node) -> int:
    """A pass over the row, or for nodes per row: after how many passes they can be computed."""
    stage = 0
    for var, flat in kernel.looks[node].reads:
        maker = kernel.defs.get(var)
        if maker is None or maker is node:
            continue
        made = kernel.stages[maker]
        if kernel.roles[maker] == "full":
            same = flat == kernel.domain.full and kernel.roles[node] not in APART
            stage = max(stage, made if same else made + 1)
        else:
            stage = max(stage, made + (kernel.roles[maker] == "row_fold"))
    return stage


def make_plan(graph: Graph) -> Plan:
    """Fuse the graph."""
    stored = choose_stored(graph)
    steps = Planner(graph, stored).run()
    for step in steps:
        if isinstance(step, Kernel):
            settle(graph, stored, step, step.seen)
    return Plan(graph, stored, steps)
