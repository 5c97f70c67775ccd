"""Walking: how a trace follows the memo as long as it knows what comes, and notes what is new.

A trace is in one of three states. *Following*, it stands at a step of the trie (`cursor`); known
operations only move it on, and its tracers have no nodes. *Noting*, it records, and puts each
outermost operation into the trie (`spot`). *Off the trie* it records only. An operation that is
not known, or whatever needs nodes, makes a following trace *materialise*: it records the equations
of the steps it came by, gives its tracers their nodes, and is noting from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from functrans import tree
from functrans.errors import ThreadError, user_frame, where
from functrans.ir import Eqn, Jaxpr, Var
from functrans.memo.fast import take_older
from functrans.memo.keys import Opaque, Reader, read_bind, read_call, read_program
from functrans.memo.trie import DEAD, Key, Leaf, Recorded, Root, Slot, Step, ViewOf, child
from functrans.noting import Noted, copied, describe_slot, expect, slot_of, taken_apart
from functrans.surface.declare import Declaration
from functrans.tracing import Node, Tracer
from functrans.views import note_view

if TYPE_CHECKING:
    from functrans.segments import Record

_new = Tracer.__new__


class Position:
    """Where a trace stands, for fast paths to read and move on; Walker says what the fields are."""

    __slots__ = ("cursor", "ins", "made", "older", "tape", "thread", "twins")

    cursor: Step
    ins: list[Any]
    made: list[Tracer]
    older: list[tuple[Tracer, Node, int]]
    tape: Tape | None
    thread: int
    twins: dict[int, Tracer]


class Walker(Position):
    """The part of a trace that the memo is concerned with; Trace records.

    cursor    the step a following trace stands at; DEAD while it does not follow, or is suspended
    parked    where a suspended trace stands
    spot      the step a noting trace stands at
    tape      runs the trace segment by segment, where it does; `restarted`: has one been run?
    older     the tracers of earlier segments that this one reads, and their places among `ins`
    outermost is what is bound or called next an edge of the trie?
    memoised  is it in the trie, or has it been?
    made      the tracers that the steps on the way have made
    twins     by id, others for the same values, and those that were written to
    ins       the values from outside that were met on the way
    """

    parked: Step = DEAD
    spot: Step | None = None
    outermost = False
    memoised = False
    purpose: str
    no_grad = False
    restarted = False
    _noting: Any = None
    _root: Root | None = None

    if TYPE_CHECKING:
        # What Trace has.
        records: list[Record]
        _hoisted: list[Node]
        _slots: dict[Var, Slot]
        _constants: dict[Var, Any]
        captured: list[tuple[Any, Tracer]]

        def start_recording(self) -> None: ...
        def record_all(self, eqns: Sequence[Eqn], env: dict[Any, Any]) -> None: ...
        def run_segment(self) -> None: ...
        def force(self, tracer: Tracer, remedy: str) -> Any: ...
        def require_usable(self, tracer: Tracer) -> None: ...
        def captured_input(self, value: Any) -> Tracer: ...
        def constant(self, value: np.ndarray[Any, Any]) -> Tracer: ...
        def fill_argument(self, tracer: Tracer, value: Any, name: str | None) -> Node: ...
        def _keep(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]: ...

    def follow(self, root: Root) -> None:
        """Start at a root of the trie."""
        self._root = root
        self.memoised = True
        self._begin(root)

    def _begin(self, at: Step) -> None:
        self.cursor = at
        self.spot = None
        self.outermost = True
        self.made = []
        self.ins = []
        self.given: list[tuple[Tracer, Any, str | None]] = []
        self.twins = {}
        self.older = []

    def expected_argument(self, value: Any, name: str | None) -> Tracer:
        """The tracer of the next argument; the memo knows what it is like."""
        tracer = _new(Tracer)
        tracer.recorder = self
        assert self._root is not None
        tracer.slot = self._root.arguments[len(self.given)]
        self.given.append((tracer, value, name))
        return tracer

    @property
    def follows(self) -> bool:
        return self.cursor is not DEAD or self.parked is not DEAD

    def suspend(self) -> None:
        """Another interpreter is put in force: operations on these tracers are its captures."""
        if self.cursor is not DEAD:
            self.parked, self.cursor = self.cursor, DEAD

    def resume(self) -> None:
        """In force again."""
        if self.parked is not DEAD:
            self.cursor, self.parked = self.parked, DEAD

    def attribute(self, tracer: Tracer, name: str) -> Any:
        """An attribute that a tracer has not got, since it was made while following."""
        slot = tracer.slot
        if slot is None or (name != "node" and has(tracer, "node")):  # of an earlier segment
            known = tracer.node.slot or slot
            return None if name in ("views", "link") else getattr(known, name)
        if name == "origin" or name == "scalar":
            return getattr(slot, name)
        if name == "views" or name == "link":
            return None
        self.require_usable(tracer)
        self.materialise()
        return object.__getattribute__(tracer, name)

    def copied(self, tracer: Tracer) -> Tracer:
        """Another tracer for the same value."""
        if not self.follows:
            copy = Tracer(self, tracer.node)
            copy.slot = tracer.slot
            if self.outermost and copy.slot is not None:
                self.twins[id(copy)] = copy
            return copy
        copy = _new(Tracer)
        copy.recorder, copy.slot = self, tracer.slot
        if tracer.slot is None:
            copy.node = tracer.node
        else:
            self.twins[id(copy)] = copy
        return copy

    def rewrite(self, tracer: Tracer, other: Tracer) -> None:
        """Let a tracer, maybe of an earlier segment, stand for the value of another one."""
        if self.follows and other.slot is not None:
            tracer.origin, tracer.scalar = tracer.origin, tracer.scalar
            if has(tracer, "node"):
                del tracer.node
            tracer.slot = other.slot
            self.twins[id(tracer)] = tracer
            return
        tracer.node, tracer.slot = other.node, other.slot
        if self.tape is not None:
            self.twins[id(tracer)] = tracer

    # -- operations -----------------------------------------------------------------------------

    def call(
        self, fn: Any, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A call of a declared function that is the outermost operation.

        Where no key tells what it does, its parts are operations of their own.
        """
        self._end_segment()
        try:
            key, reader = read_call(self, fn, args, kwargs)
        except Opaque:
            return body(*args, **kwargs)
        return self._operate(key, reader, body, args, kwargs)

    def bound(
        self, run: Callable[..., Any], primitive: Any, args: Sequence[Any], params: dict[str, Any]
    ) -> Any:
        """An operation that is bound, as the outermost one."""
        self._end_segment()
        try:
            key, reader = read_bind(self, primitive, args, params)
        except Opaque:
            self.leave()
            return run(primitive, args, params)
        return self._operate(key, reader, lambda *xs: run(primitive, xs, params), args, {})

    def applied(self, run: Callable[..., Any], jaxpr: Jaxpr, args: Sequence[Any]) -> Any:
        """A program that is applied, as the outermost operation."""
        step = self.cursor.next
        if step.fn is jaxpr and step.build is list and not step.views and self._takes(step, args):
            self.cursor = step
            return [self._made(slot) for slot in step.results]
        self._end_segment()
        try:
            key, reader = read_program(self, jaxpr, args)
        except Opaque:
            self.leave()
            return run(jaxpr, args)
        return self._operate(key, reader, lambda *xs: run(jaxpr, xs), args, {})

    def _takes(self, step: Step, args: Sequence[Any]) -> bool:
        """Are these the operands of a program's step? Then those from outside are inputs."""
        inputs: list[Any] = []
        for value, part in zip(args, step.parts, strict=True):
            cls = type(value)
            if cls is Tracer:
                if value.slot is not part or value.recorder is not self:
                    return False
            elif cls is part and (cls is float or cls is np.float64):
                inputs.append(value)
            else:
                return False
        self.ins += inputs
        return True

    def _end_segment(self) -> None:
        """Run the segment, if it is as long as may be and the trace runs by segments."""
        if self.tape is not None:
            place = self.spot or self.cursor
            if place.is_last:
                self.run_segment()

    def _operate(
        self,
        key: Key,
        reader: Reader,
        body: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> Any:
        if self.cursor is not DEAD:
            step = self.cursor.find(key)
            if step is not None:
                return self._advance(step, reader)
            self.materialise()
        return self._note(key, reader, body, args, kwargs)

    def _advance(self, step: Step, reader: Reader) -> Any:
        """Follow: what the operation returns."""
        self.cursor = step
        for slot, value in zip(step.inputs, reader.inputs, strict=True):
            if type(value) is Tracer and value.recorder is self:
                take_older(self, value, slot)
            else:
                self.ins.append(self.keep(value))
        made = [self._made(slot) for slot in step.results]
        if step.views:
            parents = {t.slot: t for t in reader.own}
            for i, slot, function in step.views:
                note_view(made[i], parents[slot], function)
        return made[0] if step.build is None else step.build(made)

    def _made(self, slot: Slot) -> Tracer:
        tracer = _new(Tracer)
        tracer.recorder = self
        tracer.slot = slot
        self.made.append(tracer)
        return tracer

    def keep(self, value: Any) -> Any:
        """A value from outside, out of reach of later writes to it."""
        return self._keep(value) if type(value) is np.ndarray else value

    def switch(self, no_grad: bool) -> None:
        """Turn derivatives off or on: a step of its own."""
        self.no_grad = no_grad
        if not self.outermost:
            return
        key = ("no_grad", no_grad)
        if self.cursor is not DEAD:
            step = self.cursor.find(key)
            if step is not None:
                self.cursor = step
                return
            self.materialise()
        assert self.spot is not None
        step = child("no_grad", self.spot)
        step.a, step.build = no_grad, _nothing
        self.spot = self.spot.add(key, step)

    # -- noting -----------------------------------------------------------------------------------

    def _note(
        self,
        key: Key,
        reader: Reader,
        body: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> Any:
        """Record an operation, and put it into the trie."""
        start, hoisted = len(self.records), len(self._hoisted)
        given = [self.hoist(self.keep(value)) for value in reader.inputs]
        xs, options = reader.replaced(args, kwargs, given)
        slots = [tracer.slot for tracer in reader.own]
        self.outermost, self._noting = False, key[0]
        try:
            result = body(*xs, **options)
        except BaseException:
            del self._hoisted[hoisted:]
            self.older = [old for old in self.older if old[2] < hoisted]
            self.outermost = self.spot is not None
            raise
        finally:
            self._noting = None
        if self.spot is None:
            return result
        if result is NotImplemented or any(
            t.slot is not s for t, s in zip(reader.own, slots, strict=True)
        ):
            self.leave()
            return result
        self.outermost = True
        noted = Noted(key, reader, args, kwargs, given)
        return self._noted(noted, result, start)

    def _noted(self, call: Noted, result: Any, start: int) -> Any:
        """Put the operation that was just recorded into the trie; its result."""
        assert self.spot is not None
        result, made, build = taken_apart(result, call.reader.own)
        if made is None or self.spot.is_full:
            self.leave()
            return result
        step = child(call.key[0], self.spot)
        step.inputs = tuple(slot_of(tracer) for tracer in call.inputs)
        if build is None:
            describe_slot(step, made[0])
            step.results = (step,)
        else:
            step.results = tuple(slot_of(tracer) for tracer in made)
            step.build = build
            step.parts = call.key[1:]
        for slot, tracer in zip(step.inputs, call.inputs, strict=True):
            self._slots[tracer.node.var] = slot
        own = set(map(self._slot_of, call.reader.own))
        recorded = self._recorded(start, made)
        if recorded is None or not all(slot in own for _, slot, _ in recorded.views):
            self.leave()
            return result
        step.recorded, step.views = recorded, recorded.views
        if build is None and isinstance(step.fn, Declaration):
            expect(step, call.key, call.args, call.kwargs)
        known = self.spot.add(call.key, step)
        for slot, tracer in zip(known.inputs, call.inputs, strict=True):
            self._slots[tracer.node.var] = slot
            tracer.slot = slot
        for slot, tracer in zip(known.results, made, strict=True):
            tracer.slot = slot
            self._slots.setdefault(tracer.node.var, slot)
        self.made += made
        self.spot = known
        return result

    def _recorded(self, start: int, made: list[Tracer]) -> Recorded | None:
        """What was recorded since `start`, over slots; None where it refers to anything else."""
        eqns = [copied(r.eqn) for r in self.records[start:]]
        inside = {v for eqn in eqns for v in eqn.outputs}
        outs = [tracer.node.var for tracer in made]
        read = dict.fromkeys([a for eqn in eqns for a in eqn.inputs if type(a) is Var] + outs)
        free: list[tuple[Var, Slot]] = []
        constants: list[tuple[Var, Any]] = []
        for var in read:
            if var in inside:
                continue
            if var in self._slots:
                free.append((var, self._slots[var]))
            elif var in self._constants:
                constants.append((var, self._constants[var]))
            else:
                return None
        views: list[ViewOf] = []
        for i, tracer in enumerate(made):
            if tracer.link is not None:
                slot = self._slot_of(tracer.link.parent)
                if slot is None:
                    return None
                views.append((i, slot, tracer.link.function))
        return Recorded(eqns, free, constants, outs, views)

    def _slot_of(self, tracer: Tracer) -> Slot | None:
        """The slot of a tracer, of an earlier segment maybe, in this one."""
        return tracer.slot or self._slots.get(tracer.node.var)

    def hoist(self, value: Any) -> Tracer:
        """A new input for a value from outside that is out of reach of later writes.

        A value of an earlier segment stays what it is.
        """
        own = type(value) is Tracer and value.recorder is self
        tracer = value if own else self.captured_input(value)
        if own:
            self.older.append((tracer, tracer.node, len(self._hoisted)))
        self._hoisted.append(tracer.node)
        return tracer

    def leave(self) -> None:
        """Off the trie: record from now on."""
        self.materialise()
        self.spot = None
        self.outermost = False

    def peeked(self) -> None:
        """An operation that is being noted asks for a value: its key does not tell what it does."""
        if self.spot is not None and self._noting is not None:
            self._noting.peeks = True
            self.spot = None

    # -- from following to noting -----------------------------------------------------------------

    def known(self) -> None:
        """Count a trace, or a segment, that the memo knew."""
        assert self._root is not None
        self._root.hits += 1

    def materialise(self) -> None:
        """Record what the steps on the way recorded, and give the tracers their nodes."""
        place = self.parked if self.cursor is DEAD else self.cursor
        if place is DEAD:
            return
        self.cursor = self.parked = DEAD
        assert self._root is not None
        self._root.misses += 1
        self.start_recording()
        nodes: dict[Slot, Node] = {}
        tracers: dict[Slot, Tracer] = {}
        for tracer, value, name in self.given:
            nodes[tracer.slot] = self.fill_argument(tracer, value, name)
            _fill(tracer, tracer.slot, nodes[tracer.slot])
            tracers[tracer.slot] = tracer
        older = {
            place: Tracer(self, node) if id(tracer) in self.twins else tracer
            for tracer, node, place in self.older
        }
        self.older = []
        ins, made = iter([older.get(i, value) for i, value in enumerate(self.ins)]), iter(self.made)
        for step in place.path():
            for slot in step.inputs:
                inner = self.hoist(next(ins, None))
                self._slots[inner.node.var] = slot
                nodes[slot] = inner.node
                tracers[slot] = inner
            if step.recorded is None:
                continue
            self._replay(step.recorded, nodes, step.results)
            own = [next(made) for _ in step.results]
            for slot, tracer in zip(step.results, own, strict=True):
                _fill(tracer, slot, nodes[slot])
                tracers[slot] = tracer
            for i, slot, function in step.recorded.views:
                if own[i].link is None:
                    note_view(own[i], tracers[slot], function)
        for tracer in self.twins.values():
            _fill(tracer, tracer.slot, nodes[tracer.slot])
        if next(made, None) is not None or next(ins, _NOTHING) is not _NOTHING:
            raise self.used_at_once()
        self.spot = place
        self.outermost = True

    def used_at_once(self) -> ThreadError:
        """The error where two threads moved the trace on at once."""
        return ThreadError(
            f"a function that {self.purpose} transforms used its traced values in two threads at "
            f"once (in {where(user_frame())}). Apply the transform inside the thread."
        )

    def _replay(
        self, recorded: Recorded, nodes: dict[Slot, Node], results: tuple[Slot, ...]
    ) -> None:
        """Record the equations of a step anew; adds the nodes of its results."""
        env: dict[Var, Node] = {var: nodes[slot] for var, slot in recorded.free}
        for var, value in recorded.constants:
            env[var] = self.constant(value).node
        self.record_all(recorded.eqns, env)
        for slot, var in zip(results, recorded.outs, strict=True):
            node = nodes[slot] = env[var]
            self._slots.setdefault(node.var, slot)

    # -- values of earlier segments ----------------------------------------------------------------

    def is_older(self, tracer: Tracer) -> bool:
        """Does it stand for a value that an earlier segment computed?"""
        return self.tape is not None and tracer.node.value is not None

    def cells(self, leaf: Leaf) -> list[int]:
        """The cells of the values from outside that a segment takes; -1 without a derivative."""
        cells = [-1] * (leaf.inputs + len(leaf.constants))
        for _, node, place in self.older:
            cells[place] = node.cell
        return cells

    # -- the end --------------------------------------------------------------------------------

    def end(self, out_tree: tree.PyTreeDef, outputs: Sequence[Any]) -> Leaf | None:
        """The leaf of a following trace with these results; None where it is not known."""
        if self.cursor is DEAD:
            return None
        try:
            key, inputs = self._end_key(out_tree, outputs)
        except Opaque:
            self.leave()
            return None
        leaf = self.cursor.end(key)
        if leaf is None:
            return None
        for value in inputs:
            if type(value) is Tracer and value.recorder is self:
                self.older.append((value, value.node, len(self.ins)))
                self.ins.append(value.node.value)
            else:
                self.ins.append(self.keep(value))
        if len(self.ins) != leaf.inputs:
            raise self.used_at_once()
        self.known()
        return leaf

    def from_here(self, outputs: Sequence[Any]) -> list[Any]:
        """The results as tracers of this segment: all else is an input of its own."""
        found: dict[int, Tracer] = {}
        here: list[Any] = []
        for value in outputs:
            own = type(value) is Tracer and value.recorder is self
            if own and value.slot is not None:
                here.append(value)
                continue
            known = found.get(id(value)) if own else None
            if known is None:
                known = found[id(value)] = self.hoist(self.keep(value))
            here.append(known)
        return here

    def ending(
        self, out_tree: tree.PyTreeDef, outputs: Sequence[Any]
    ) -> Callable[[Jaxpr, list[Any]], Leaf] | None:
        """What puts the end of a noting trace into the memo, and gives the leaf that is there.

        None where it cannot be there.
        """
        self.materialise()
        spot = self.spot
        if spot is None or spot.is_full:
            return None
        try:
            key, _ = self._end_key(out_tree, outputs)
        except Opaque:
            self.leave()
            return None

        def put(jaxpr: Jaxpr, captured: list[Any]) -> Leaf:
            count = len(self._hoisted)
            leaf = Leaf(jaxpr, count, captured[count:], out_tree)
            return spot.add_end(key, leaf)

        return put

    def _end_key(
        self, out_tree: tree.PyTreeDef, outputs: Sequence[Any]
    ) -> tuple[Hashable, list[Any]]:
        key, reader = read_program(self, out_tree.exact_key, outputs)
        return key, reader.inputs


class Program(Protocol):
    """How a segment runs where derivatives are wanted of some inputs.

    `offsets` has the number of each result among those that carry a derivative; -1 for the others.
    """

    offsets: list[int]


class Tape(Protocol):
    """Runs a trace segment by segment, and remembers what its derivative needs.

    Values that carry a derivative are numbered: a cell is the number of one. The arguments come
    first, carrying or not: `active` says which do.
    """

    active: Sequence[bool]

    def program(self, leaf: Leaf, active: tuple[bool, ...]) -> Any:
        """How a segment runs whose inputs carry derivatives so."""
        ...

    def run(self, program: Any, values: list[Any], cells: list[int]) -> tuple[list[Any], int]:
        """The results of a segment, and maybe more, and the first cell of those that carry.

        `cells` are those of the inputs that carry a derivative.
        """
        ...


_NOTHING: Any = object()


def _nothing(_: list[Any]) -> None:
    return None


def _fill(tracer: Tracer, slot: Slot, node: Node) -> None:
    """Give a tracer that was made while following what it would have had."""
    tracer.node = node
    if not has(tracer, "origin"):
        tracer.origin = slot.origin
    if not has(tracer, "scalar"):
        tracer.scalar = slot.scalar
    if not has(tracer, "views"):
        tracer.views = None
    if not has(tracer, "link"):
        tracer.link = None


def has(tracer: Tracer, name: str) -> bool:
    """Is this attribute of a tracer set?"""
    try:
        object.__getattribute__(tracer, name)
    except AttributeError:
        return False
    return True
