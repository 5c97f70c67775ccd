"""Walking: how a trace follows the memo as long as it knows what comes, and notes what is new.

A trace is in one of three states. *Following*, it stands at a step of the trie (`cursor`); known
operations only move it on, and its tracers have no nodes. *Noting*, it records, and puts each
outermost operation into the trie (`spot`). *Off the trie* it records only. An operation that is
not known, or whatever needs nodes, makes a following trace *materialise*: it records the equations
of the steps it came by, gives its tracers their nodes, and is noting from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from functrans import tree
from functrans.ir import Jaxpr
from functrans.memo.fast import take_older
from functrans.memo.keys import Opaque, Reader, read_bind, read_call, read_program
from functrans.memo.trie import DEAD, Key, Leaf, Root, Slot, Step, child
from functrans.noting import Noter, has
from functrans.tracing import Tracer
from functrans.views import note_view

_new = Tracer.__new__


class Walker(Noter):
    """The part of a trace that follows the memo; position.py says what its fields are."""

    if TYPE_CHECKING:

        def run_segment(self) -> None:
            """Run what was traced since the last ask, which asking.py adds."""

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
        self.given = []
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

    def known(self) -> None:
        """Count a trace, or a segment, that the memo knew."""
        assert self._root is not None
        self._root.hits += 1

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


def _nothing(_: list[Any]) -> None:
    return None
