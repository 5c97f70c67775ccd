"""Noting: a trace that records puts its operations into the trie, to know them the next time.

First what a step keeps of an operation, then the part of a trace that notes. A trace that followed
the trie until now *materialises* first: it records the equations of the steps it came by, and gives
its tracers their nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from functrans import tree
from functrans.equations import Equations
from functrans.errors import ThreadError, user_frame, where
from functrans.ir import Eqn, Var
from functrans.memo.fast import NOTHING, SAME, lasting
from functrans.memo.keys import OLDER_FIRST, Reader
from functrans.memo.trie import DEAD, Key, Recorded, Slot, Step, ViewOf, child
from functrans.surface.declare import Declaration
from functrans.tracing import Node, Tracer
from functrans.views import note_view


class Noted(NamedTuple):
    """An operation that is put into the trie: how it was called, and the inputs made for it."""

    key: Key
    reader: Reader
    args: Sequence[Any]
    kwargs: dict[str, Any]
    inputs: list[Tracer]


def copied(eqn: Eqn) -> Eqn:
    """The equation out of reach of its trace, which renames variables where segments end."""
    return Eqn(eqn.primitive, eqn.inputs, eqn.outputs, eqn.params, eqn.source)


def slot_of(tracer: Tracer) -> Slot:
    """A slot for what a tracer is now."""
    node = tracer.node
    return Slot(node.var.aval, tracer.scalar, tracer.origin, node.abstract, node.active)


def describe_slot(slot: Slot, tracer: Tracer) -> None:
    """Say of a slot what a tracer is now."""
    node = tracer.node
    slot.aval, slot.scalar, slot.origin = node.var.aval, tracer.scalar, tracer.origin
    slot.abstract, slot.active = node.abstract, node.active


def expect(step: Step, key: Key, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Say what fast paths compare a call with that returns one tracer.

    Static arguments are told by the same object, if they are immutable, inputs by their kind.
    """
    count = len(args)
    parts = (*key[1 : 1 + count], *[part for _, part in key[1 + count :]])
    values = (*args, *kwargs.values())
    raws = tuple(
        lasting(value) if type(part) is tuple else NOTHING
        for part, value in zip(parts, values, strict=True)
    )
    if step.views:
        _, parent, step.view = step.views[0]
        if not parts or parts[0] is not parent:
            return  # whose view it is must be looked up
    step.parts, step.raws, step.names = parts, raws, tuple(kwargs)
    step.ufunc = step.fn.ufunc
    if parts:
        step.a = parts[0]
    if len(parts) == 1:
        step.b = NOTHING
    elif len(parts) == 2 and not kwargs:
        step.b = _second(parts[1], raws[1])


def _second(part: Any, raw: Any) -> Any:
    """A second operand as fast paths compare it."""
    if part == OLDER_FIRST:
        return SAME
    return raw if type(part) is tuple else part


def taken_apart(
    result: Any, operands: list[Tracer]
) -> tuple[Any, list[Tracer] | None, Callable[[list[Any]], Any] | None]:
    """A result, the tracers in it, and what makes one like it of others.

    The tracers are None where it holds anything that cannot be made again. An operand among them is
    replaced by another tracer for its value.
    """
    if type(result) is Tracer:
        result = _no_operand(result, operands)
        return result, [result], None
    if type(result) is list and all(type(x) is Tracer for x in result):
        result = [_no_operand(x, operands) for x in result]
        return result, list(result), list
    leaves, treedef = tree.flatten(result)
    leaves = [_no_operand(x, operands) if type(x) is Tracer else x for x in leaves]
    result = treedef.unflatten(leaves)
    made = [x for x in leaves if type(x) is Tracer]
    fixed = [None if type(x) is Tracer else (x,) for x in leaves]
    if not all(f is None or _can_be_given_again(f[0]) for f in fixed):
        return result, None, None

    def build(tracers: list[Any]) -> Any:
        found = iter(tracers)
        return treedef.unflatten([next(found) if f is None else _again(f[0]) for f in fixed])

    return result, made, build


def _no_operand(tracer: Tracer, operands: list[Tracer]) -> Tracer:
    return tracer.snapshot() if any(tracer is x for x in operands) else tracer


def _can_be_given_again(value: Any) -> bool:
    return isinstance(value, (bool, int, float, complex, str, np.generic)) or (
        type(value) is np.ndarray and value.dtype != object
    )


def _again(value: Any) -> Any:
    return value.copy() if type(value) is np.ndarray else value


class Noter(Equations):
    """The part of a trace that notes; `_noting` is the function whose call is being noted."""

    _noting: Any = None

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
        if next(made, None) is not None or next(ins, _MISSING) is not _MISSING:
            raise self.used_at_once()
        self.spot = place
        self.outermost = True

    def fill_argument(self, tracer: Tracer, value: Any, name: str | None) -> Node:
        """Give the tracer of an argument, of which the memo knows the rest, its node."""
        slot: Slot = tracer.slot
        node = Node(Var(slot.aval), value, slot.abstract, slot.active)
        self._slots[node.var] = slot
        if name is not None:
            self._names[node.var] = name
        return node

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

    def used_at_once(self) -> ThreadError:
        """The error where two threads moved the trace on at once."""
        return ThreadError(
            f"a function that {self.purpose} transforms used its traced values in two threads at "
            f"once (in {where(user_frame())}). Apply the transform inside the thread."
        )


_MISSING: Any = object()


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
