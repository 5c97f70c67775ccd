"""Decides where stored variables lie: outputs, the arena, a row's scratch, or registers only.

Invariant: two variables share bytes of the arena only if the steps that use them do not meet, or
meet in one that writes each element of the later over the same one of the earlier, read before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from functrans.extend import Var
from jit.fusion import Kernel, Plan, RootCall
from jit.lowering.nodes import FoldNode, MapNode, Node
from jit.lowering.rules import element_bytes
from jit.passes.taking import is_read_once, reads_no_later

ALIGNMENT = 64
LARGE_BYTES = 1 << 22
"""An array of so many bytes is not in a cache when it is met again."""
LONG = 16
"""Shorter rows are not what vectors run along."""
SCRATCH_BYTES = 1 << 14
"""The longest row that is kept on the stack of a kernel."""


@dataclass
class Storage:
    """Which variables lie in the arena and where, which in scratch rows, and the arena's size.

    `lent` are variables that lie, while they are needed, where a result is written after them.
    `heirs` says which variable is written over one that dies in the same step.
    """

    offsets: dict[Var, int] = field(default_factory=dict)
    workspaces: dict[int, int] = field(default_factory=dict)
    scratch: set[Var] = field(default_factory=set)
    lent: dict[Var, Var] = field(default_factory=dict)
    heirs: dict[Var, Var] = field(default_factory=dict)
    arena_bytes: int = 0


def rounded(count: int) -> int:
    return -(-count // ALIGNMENT) * ALIGNMENT


class Arena:
    """Hands out ranges of bytes, first fit, and takes them back."""

    def __init__(self) -> None:
        self.holes: list[tuple[int, int]] = []
        self.size = 0

    def take(self, count: int) -> int:
        count = rounded(count)
        fitting = [hole for hole in self.holes if hole[1] - hole[0] >= count]
        if fitting:
            start, stop = min(fitting, key=lambda hole: hole[1] - hole[0])
            self.holes.remove((start, stop))
            if stop - start > count:
                self.holes.append((start + count, stop))
            return start
        start = self.size
        for hole in self.holes:
            if hole[1] == self.size:
                start = hole[0]
                self.holes.remove(hole)
                break
        self.size = start + count
        return start

    def give(self, start: int, count: int) -> None:
        stop = start + rounded(count)
        for hole in list(self.holes):
            if hole[1] == start or hole[0] == stop:
                self.holes.remove(hole)
                start, stop = min(start, hole[0]), max(stop, hole[1])
        self.holes.append((start, stop))


def plan_storage(
    plan: Plan,
    lanes_are_rows: Set[int],
    workspaces: Mapping[int, int],
    lenders: Set[Var] = frozenset(),
    placed: Set[Var] = frozenset(),
) -> Storage:
    """Lifetimes by steps, then one pass that places each variable when it is first written.

    Steps in `lanes_are_rows` work on several rows at once and have no scratch rows. `workspaces`
    is how many bytes a kernel wants for itself. `lenders` are results with memory of their own;
    `placed` are variables whose place is settled.
    """
    storage = Storage()
    settled = placed | set(plan.graph.outvars)
    needs, firsts, lasts = lifetimes(plan)
    arena = Arena()
    ends: dict[int, list[Var]] = {}
    for var, last in lasts.items():
        ends.setdefault(last + stays_on(plan, last), []).append(var)
    starts: dict[int, list[Var]] = {}
    for var, first in firsts.items():
        starts.setdefault(first, []).append(var)
    for number, step in enumerate(plan.steps):
        for var in starts.get(number, []):
            if var in settled or var not in needs:
                continue
            kept = needs[var] == "row" and number not in lanes_are_rows
            if kept and fits_scratch(step, var):
                storage.scratch.add(var)
            elif needs[var] == "row" and (lender := lender_of(step, var, lenders, storage)):
                storage.lent[var] = lender
            elif old := bequest(plan, step, var, ends.get(number, []), storage):
                storage.heirs[old] = var
                storage.offsets[var] = storage.offsets[old]
            elif lender := lender_to_root(plan.steps[lasts[var]], step, var, lenders, storage):
                storage.lent[var] = lender
            else:
                storage.offsets[var] = arena.take(var.aval.size * element_bytes(var))
        count = workspaces.get(number, 0)
        if isinstance(step, RootCall):
            count = step.rule.workspace(step.eqn)
        if count:
            start = storage.workspaces[number] = arena.take(count)
            arena.give(start, count)
        for var in ends.get(number, []):
            if var in storage.offsets and var not in storage.heirs:
                arena.give(storage.offsets[var], var.aval.size * element_bytes(var))
    storage.arena_bytes = arena.size
    return storage


def stays_on(plan: Plan, last: int) -> bool:
    """Does what is read last in this step stay for one more?

    The operands of a large product do if the next kernel reads that: the two may run block by
    block, and then the kernel must not write where later blocks have not read yet.
    """
    step, following = plan.steps[last], plan.steps[last + 1 : last + 2]
    if not isinstance(step, RootCall) or step.eqn.primitive.name != "dot_general":
        return False
    (out,) = step.eqn.outputs
    large = out.aval.size * element_bytes(out) >= LARGE_BYTES
    return large and any(isinstance(s, Kernel) and out in s.reads for s in following)


def bequest(
    plan: Plan, step: Kernel | RootCall, var: Var, leaving: Sequence[Var], storage: Storage
) -> Var | None:
    """What dies in this step and can be written over by `var`: changed by a root, or replaced
    element by element.

    The kernel computes elements by themselves, and reads each of the old ones no later than it
    writes the new one there.
    """
    if isinstance(step, RootCall):
        return changed_by_root(plan, step, var, leaving, storage)
    short = not step.domain.loops or step.domain.loops[-1].extent < LONG
    if short and set(step.roles.values()) != {"full"}:
        # Vectors that cross rows would load what has just been stored in part, and wait for it.
        return None
    for old in leaving:
        alike = old.aval.size == var.aval.size and element_bytes(old) == element_bytes(var)
        taken = old in storage.heirs or old in step.defs
        if alike and not taken and old in storage.offsets and reads_no_later(step, old, var):
            return old
    return None


def changed_by_root(
    plan: Plan, step: RootCall, var: Var, leaving: Sequence[Var], storage: Storage
) -> Var | None:
    """What dies in this root and is changed by it into `var`."""
    for i, j in step.rule.overwrites(step.eqn):
        old = step.eqn.inputs[i]
        if step.eqn.outputs[j] is var and isinstance(old, Var) and old in leaving:
            free = old in storage.offsets and old not in storage.heirs
            return old if free and is_read_once(plan, step, i, old) else None
    return None


def lender_of(step: Kernel | RootCall, var: Var, lenders: Set[Var], storage: Storage) -> Var | None:
    """A result of the kernel that is written, element by element, when `var` was read last."""
    if not isinstance(step, Kernel) or step.roles[step.defs[var]] != "full":
        return None
    for out, node in step.defs.items():
        alike = (
            out in lenders and out.aval.dtype == var.aval.dtype and out.aval.size == var.aval.size
        )
        free = alike and isinstance(node, MapNode) and out not in storage.lent.values()
        if free and step.roles[node] == "full" and reads_before(step, var, node):
            return out
    return None


def lender_to_root(
    reader: Kernel | RootCall,
    maker: Kernel | RootCall,
    var: Var,
    lenders: Set[Var],
    storage: Storage,
) -> Var | None:
    """A result that is written element by element over what a root made, by its last reader."""
    if not isinstance(maker, RootCall) or not isinstance(reader, Kernel):
        return None
    for out in reader.defs:
        alike = out.aval.dtype == var.aval.dtype and out.aval.size == var.aval.size
        free = out in lenders and out not in storage.lent.values()
        if alike and free and reads_no_later(reader, var, out):
            return out
    return None


def reads_before(kernel: Kernel, var: Var, writer: Node) -> bool:
    """Is every element of `var` read before, or just when, `writer` writes it?"""
    if kernel.stages[kernel.defs[var]] >= kernel.stages[writer]:
        return False
    for node in kernel.nodes:
        for read, flat in kernel.looks[node].reads:
            if read is not var:
                continue
            earlier = kernel.stages[node] < kernel.stages[writer]
            if not earlier and (node is not writer or flat != kernel.domain.full):
                return False
    return all(read is not writer.target for s in kernel.looks.values() for read, _ in s.reads)


def fits_scratch(step: Kernel | RootCall, var: Var) -> bool:
    if not isinstance(step, Kernel) or not step.domain.inner_trails:
        return False
    whole = var.aval.size == step.domain.size
    return whole and step.domain.width * element_bytes(var) <= SCRATCH_BYTES


def lifetimes(plan: Plan) -> tuple[dict[Var, str], dict[Var, int], dict[Var, int]]:
    """Who needs memory ("row": for later passes of its own kernel only), from when to when."""
    needs: dict[Var, str] = {}
    firsts: dict[Var, int] = {}
    lasts: dict[Var, int] = {}
    for number, step in enumerate(plan.steps):
        for var in made_by(step):
            firsts.setdefault(var, number)
            lasts[var] = number
        for var in read_by(step):
            if var not in firsts:
                continue
            lasts[var] = number
            if not (isinstance(step, Kernel) and var in step.defs):
                needs[var] = "memory"
        if isinstance(step, RootCall):
            needs.update(dict.fromkeys(step.eqn.outputs, "memory"))
        else:
            for var in read_in_later_stage(step):
                needs.setdefault(var, "row")
    return needs, firsts, lasts


def made_by(step: Kernel | RootCall) -> Iterable[Var]:
    return step.defs if isinstance(step, Kernel) else step.eqn.outputs


def read_by(step: Kernel | RootCall) -> Iterable[Var]:
    return step.reads


def read_in_later_stage(kernel: Kernel) -> Iterable[Var]:
    """Full variables that a node of the kernel reads after the pass that makes them."""
    for node in kernel.nodes:
        for var, flat in kernel.looks[node].reads:
            maker = kernel.defs.get(var)
            if maker is None or isinstance(maker, FoldNode) or kernel.roles[maker] != "full":
                continue
            if kernel.stages[node] != kernel.stages[maker] or flat != kernel.domain.full:
                yield var
