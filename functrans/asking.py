"""Asking: a trace that is asked for a value runs what came since the last ask, and begins anew.

What the memo knows runs without being recorded. Which tracers can still be referred to says which
results are wanted, and the step where the segment ends keeps how that runs. These tracers then have
nodes with values; whatever else a node tells follows from its slot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from sys import getrefcount
from threading import get_ident
from typing import Any

from functrans.bind import current_interpreter
from functrans.ir import Jaxpr, Var, intern, prune
from functrans.memo.keys import slot_kind
from functrans.memo.trie import DEAD, Leaf, Slot, Step, door
from functrans.position import Program
from functrans.segments import free_inputs, live_outputs
from functrans.tracing import Node, Tracer
from functrans.treedef import LEAF
from functrans.walking import Walker

_new = Node.__new__
NOTHING = 2
"""Where nothing was decided: after an ask for a number, or for an array."""


class Asked:
    """A segment that ends at a step, as it ran.

    slots    of the results, and `carrying`: the places of the inputs that carry a derivative, as
             bits; by these it is told
    program  what runs, and `constants`: what it takes after the `inputs` met on the way
    given    which arguments carry a derivative, where it is the first segment
    then     where the next segment begins, by what was decided: False, True or nothing
    """

    __slots__ = ("carrying", "constants", "given", "inputs", "program", "slots", "then")

    def __init__(
        self,
        slots: list[Slot],
        carrying: int,
        given: Sequence[bool] | None,
        leaf: Leaf,
        program: Program,
        later: Step,
    ) -> None:
        self.slots, self.carrying, self.given = slots, carrying, given
        self.inputs, self.constants = leaf.inputs, leaf.constants
        self.program = program
        self.then = [door(later) for _ in range(3)]


class Asker(Walker):
    """The part of a trace that runs segment by segment, where it does.

    `read` says, once such a trace has returned, what its last segment reads: see `carrying`.
    """

    read: tuple[int, list[int]]

    def asked(self, tracer: Tracer) -> Asked | None:
        """Run the segment of a tracer, so that it has a value, where the memo knows how."""
        slot = tracer.slot
        if (
            self.cursor is DEAD
            or slot is None
            or self.tape is None
            or slot.abstract
            or slot.origin == "argument"
            or get_ident() != self.thread
        ):
            return None
        return self._run_known()

    def run_segment(self) -> None:
        """Run what was traced since the last ask, and keep what can still be referred to."""
        suspended = current_interpreter() is not self
        if suspended:
            self.resume()
        if self.cursor is DEAD or self._run_known() is None:
            self._run_recorded()
        if suspended:
            self.suspend()

    # -- what the memo knows -----------------------------------------------------------------------

    def _run_known(self) -> Asked | None:
        """Run a segment that the memo knows, if it does."""
        tape = self.tape
        assert tape is not None
        if self.twins:
            live = self._live()
            slots = list(dict.fromkeys([t.slot for t in live]))
        else:
            live = [t for t in self.made if getrefcount(t) > _LISTED]
            slots = [t.slot for t in live]
        carrying, cells = self.carrying() if self.older else (0, [])
        given = None if self.restarted else tape.active
        asked = self.cursor.asked
        if (
            asked is None
            or asked.slots != slots
            or asked.carrying != carrying
            or asked.given != given
        ):
            asked = self._find(slots, carrying, given)
            if asked is None:
                return None
        values = self.ins
        if len(values) != asked.inputs:
            raise self.used_at_once()
        if given is not None:
            cells = [i for i, flag in enumerate(given) if flag]
            values = [*values, *asked.constants, *[value for _, value, _ in self.given]]
        elif asked.constants:
            values = [*values, *asked.constants]
        outs, first = tape.run(asked.program, values, cells)
        self._settle(live, outs, first, asked)
        return asked

    def carrying(self) -> tuple[int, list[int]]:
        """The places of the inputs that carry a derivative, as bits, and the cells of these."""
        places, cells = 0, []
        for _, node, place in self.older:
            cell = node.cell
            if cell >= 0:
                places |= 1 << place
                cells.append(cell)
        return places, cells

    def _live(self) -> list[Tracer]:
        """The tracers of this segment that anything but the trace refers to."""
        twins = self.twins
        if not twins:
            return [t for t in self.made if getrefcount(t) > _LISTED]
        found = [t for t in self.made if getrefcount(t) > _LISTED + (id(t) in twins)]
        own = Counter(map(id, self.made)) + Counter([id(t) for t, *_ in self.older])
        found += [t for t in twins.values() if getrefcount(t) > _LISTED + own[id(t)]]
        found = list({id(t): t for t in found}.values())
        return [t for t in found if t.slot is not None]

    def is_forgotten(self, tracer: Tracer) -> bool:
        """Does nobody but the trace, and who asks, refer to the tracer?

        Told of tracers that the trace refers to itself: between operations, those with a slot.
        """
        return self.outermost and tracer.slot is not None and getrefcount(tracer) <= _ASKED

    def _find(self, slots: list[Slot], carrying: int, given: Sequence[bool] | None) -> Asked | None:
        """How the segment runs, which is expected the next time too; None where it is not known."""
        leaf = self.cursor.end(("ask", *slots))
        if leaf is None:
            return None
        assert self.tape is not None
        assert self._root is not None
        count = leaf.inputs + len(leaf.constants)
        active = [bool(carrying >> i & 1) for i in range(count)]
        program = self.tape.program(leaf, (*active, *(given or ())))
        later = self._root.later(self.no_grad)
        asked = self.cursor.asked = Asked(slots, carrying, given, leaf, program, later)
        return asked

    def _settle(self, live: list[Tracer], outs: list[Any], first: int, asked: Asked) -> None:
        """Give the tracers of a known segment their values, and begin the next one."""
        if self.given:
            self._value_given()
            self.given = []
        offsets = asked.program.offsets
        if not self.twins:
            for tracer, value, offset in zip(live, outs, offsets, strict=False):
                tracer.node = node = _new(Node)
                node.value = value
                node.slot = tracer.slot
                node.cell = -1 if offset < 0 else first + offset
                tracer.slot = None
        else:
            nodes: dict[Slot, Node] = {}
            for slot, value, offset in zip(asked.slots, outs, offsets, strict=False):
                nodes[slot] = valued(slot, value, -1 if offset < 0 else first + offset)
            for tracer in live:
                tracer.node = nodes[tracer.slot]
                tracer.slot = None
            self.twins = {}
        if self.older:
            for tracer, _, _ in self.older:
                tracer.slot = None
            self.older = []
        self.known()
        self.restarted = True
        self.cursor = asked.then[NOTHING]
        self.made, self.ins = [], []

    def _value_given(self) -> None:
        """Give the arguments their values."""
        assert self.tape is not None
        for i, (tracer, value, _) in enumerate(self.given):
            tracer.node = valued(tracer.slot, value, i if self.tape.active[i] else -1)
            tracer.slot = None

    def returned(self, result: Tracer, key: Hashable) -> Leaf | None:
        """The leaf of a following trace that returns this tracer; None where it is not known.

        `key` is that of the result's tree.
        """
        slot = result.slot
        if slot is not None:
            leaf = self.cursor.end((key, slot))
        elif self.restarted and result.node.slot is not None:
            leaf = self.cursor.end((key, slot_kind(result.node.slot)))
            if leaf is not None:
                self.older.append((result, result.node, len(self.ins)))
                self.ins.append(result.node.value)
        else:
            return None
        if leaf is None:
            return None
        if len(self.ins) != leaf.inputs:
            raise self.used_at_once()
        if self.restarted:
            self.read = self.carrying()
        self.known()
        return leaf

    # -- what was recorded -------------------------------------------------------------------------

    def _run_recorded(self) -> None:
        """Run a segment that is recorded; the memo knows it from now on, if it can."""
        self.materialise()
        assert self.tape is not None
        assert self._root is not None
        for i, (tracer, *_) in enumerate(self.given):
            tracer.node.cell = i if self.tape.active[i] else -1
        if self.spot is None:
            self._run_unknown()
        else:
            self._run_noted(self.spot)
        others = [*self.twins.values(), *[t for t, *_ in self.given + self.older]]
        for tracer in [*self.made, *others]:
            tracer.node.slot = tracer.node.slot or tracer.slot
            tracer.slot = None
        self.restarted = True
        self._begin(self._root.later(self.no_grad))

    def _run_noted(self, spot: Step) -> None:
        """Run a segment that was recorded; the memo knows it from now on."""
        live = self._live()
        first: dict[Slot, Tracer] = {}
        for tracer in live:
            first.setdefault(tracer.slot, tracer)
        nodes = [tracer.node for tracer in first.values()]
        inputs = [*self._hoisted, *[t.node for _, t in self.captured]]
        inputs += [t.node for t, *_ in self.given]
        leaf = Leaf(
            self._segment([n.var for n in inputs], nodes),
            len(self._hoisted),
            [v for v, _ in self.captured],
            LEAF,
        )
        if not spot.is_full:
            leaf = spot.add_end(("ask", *first), leaf)
        values = [n.value for n in self._hoisted] + leaf.constants
        self._run(leaf, [*values, *[value for _, value, _ in self.given]], inputs, nodes)

    def _run_unknown(self) -> None:
        """Run a segment that the memo does not know, nor will."""
        made = {v for r in self.records for v in r.eqn.outputs}
        free = free_inputs(self.records, made)
        nodes = live_outputs(self.records)
        leaf = Leaf(self._segment([n.var for n in free], nodes), len(free), [], LEAF)
        self._run(leaf, [n.value for n in free], free, nodes)

    def _segment(self, invars: list[Var], nodes: list[Node]) -> Jaxpr:
        outs = [node.var for node in nodes]
        return intern(Jaxpr(invars, prune([r.eqn for r in self.records], outs), outs))

    def _run(self, leaf: Leaf, values: list[Any], inputs: list[Node], nodes: list[Node]) -> None:
        """Run a segment, and give the nodes of its results their values."""
        assert self.tape is not None
        program = self.tape.program(leaf, tuple([n.cell >= 0 for n in inputs]))
        outs, first = self.tape.run(program, values, [n.cell for n in inputs if n.cell >= 0])
        for node, value, offset in zip(nodes, outs, program.offsets, strict=False):
            if node.value is None:
                node.value, node.cell = value, -1 if offset < 0 else first + offset


def valued(slot: Slot, value: Any, cell: int) -> Node:
    """The node of a value that the memo knew by a slot."""
    node = _new(Node)
    node.value, node.slot, node.cell = value, slot, cell
    return node


def _references() -> tuple[int, int]:
    """How many references are counted of what only a list holds: in a loop over it, and by
    `is_forgotten` of what the caller has a name for. It differs between versions of Python."""
    held = [object()]
    (one,) = [getrefcount(x) for x in held]

    def counted(x: object) -> int:
        return getrefcount(x)

    (x,) = held
    return one, counted(x)


_LISTED, _ASKED = _references()
