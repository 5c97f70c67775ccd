"""The trie of traces: a step for each operation, a leaf for each end, and the table of its roots.

A step is an operation of a function that is traced: what is called, with which operands, and what
is known of its results. Steps are found by keys that hold the operands' slots, so that a step
stands for the values of its results whenever a trace comes this way. A step enters the trie only
after it was recorded without an error. Invariant: the programs of a step refer to slots of its own
path only.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeAlias

import numpy as np

from functrans.config import config
from functrans.ir import Aval, Eqn, Jaxpr, Var
from functrans.tree import PyTreeDef

Key: TypeAlias = tuple[Any, ...]

MOST_CHILDREN = 64
"""How many operations may follow one step, and how many ends it may have: a function that does
something else each time is recorded each time."""


LONGEST = 256
"""After so many operations a trace that may run segment by segment does: long loops that Python
unrolls, of whatever length, are a few segments that come again."""


class Slot:
    """A value of traces that come this way: what is known of it without its value.

    scalar, origin, abstract and active mean what they mean for tracers and their nodes.
    """

    __slots__ = ("abstract", "active", "aval", "kind", "origin", "scalar")

    def __init__(self, aval: Aval, scalar: bool, origin: str, abstract: bool, active: bool) -> None:
        self.aval = aval
        self.scalar = scalar
        self.origin = origin
        self.abstract = abstract
        self.active = active
        self.kind: Any = None


_NO_AVAL = Aval((), np.dtype(np.bool_))
"""Of steps that do not have one result."""


ViewOf: TypeAlias = tuple[int, Slot, Callable[[Any], Any]]
"""(number of the result, slot of the array it is a view of, what takes the view)."""


class Recorded:
    """What a step recorded: equations over the variables of slots and of constants.

    `free` are the slots that they read, `outs` the variables of the step's results, which may be
    those of operands. `constants` are arrays that the operation made of its static arguments.
    `views` says how a result comes from the array it is a view of: (result, slot, function).
    """

    __slots__ = ("constants", "eqns", "free", "outs", "views")

    def __init__(
        self,
        eqns: list[Eqn],
        free: list[tuple[Var, Slot]],
        constants: list[tuple[Var, Any]],
        outs: list[Var],
        views: list[ViewOf],
    ) -> None:
        self.eqns = eqns
        self.free = free
        self.constants = constants
        self.outs = outs
        self.views = views


UNTOLD = object()
"""Is no operand: what stands where fast paths are told nothing of one."""


class Step(Slot):
    """An operation; as a slot, its result where that is a single tracer.

    fn       what is called
    ufunc    the NumPy function that means the same, where that is a ufunc
    a, b     the first two operands as fast paths compare them: slots, types of numbers, statics
    parts    all operands as they stand in the key, and `raws` those of them that the same object
             tells; the last of them were given by `names`
    next     the step that followed last, for fast paths; DEAD after the last one of a segment
    depth    how many steps its segment has so far
    inputs   the slots of the values from outside that the operation takes
    results  the slots of its results
    build    makes what the operation returns of its results; None for a single tracer
    recorded its equations
    views    how results come from operands that they are views of, as Recorded says it
    view     what takes the one result of the first operand, if it is a view of that
    asked    how the segment ran that ended here last, where a value was asked for
    """

    __slots__ = (
        "_ends",
        "_others",
        "a",
        "asked",
        "b",
        "build",
        "depth",
        "fn",
        "inputs",
        "names",
        "next",
        "parent",
        "parts",
        "raws",
        "recorded",
        "results",
        "root",
        "ufunc",
        "view",
        "views",
    )

    next: Step

    def __init__(self, fn: Any, parent: Step | None, root: Root | None) -> None:
        super().__init__(_NO_AVAL, False, "made", False, False)
        self.fn = fn
        self.ufunc: Any = None
        self.a: Any = UNTOLD
        self.b: Any = UNTOLD
        self.parts: tuple[Any, ...] = ()
        self.raws: tuple[Any, ...] = ()
        self.names: tuple[str, ...] = ()
        self.parent = parent
        self.root = root
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.inputs: tuple[Slot, ...] = ()
        self.results: tuple[Slot, ...] = ()
        self.build: Callable[[list[Any]], Any] | None = None
        self.recorded: Recorded | None = None
        self.views: list[ViewOf] = []
        self.view: Callable[[Any], Any] | None = None
        self.asked: Any = None
        self._others: dict[Key, Step] = {}
        self._ends: dict[Hashable, Leaf] = {}

    def find(self, key: Key) -> Step | None:
        """The step that a key leads to, which is expected the next time too."""
        step = self._others.get(key)
        if step is not None and not self.is_last:
            self.next = step
        return step

    def add(self, key: Key, step: Step) -> Step:
        """Put a step where there is none for this key; the one that is there then."""
        found = self._others.setdefault(key, step)
        if not self.is_last:
            self.next = found
        if found is step and step.root is not None:
            step.root.grow()
        return found

    @property
    def is_last(self) -> bool:
        """Is the segment that it ends the longest that there may be?"""
        return self.depth > 0 and self.depth % LONGEST == 0

    @property
    def is_full(self) -> bool:
        return len(self._others) >= MOST_CHILDREN or len(self._ends) >= MOST_CHILDREN

    def end(self, key: Hashable) -> Leaf | None:
        """The leaf of traces that end here with these results."""
        return self._ends.get(key)

    def add_end(self, key: Hashable, leaf: Leaf) -> Leaf:
        """Put a leaf where there is none for this key; the one that is there then.

        Its equations count as steps do: ends of a loop that runs differently often share the
        steps, and no equation.
        """
        found = self._ends.setdefault(key, leaf)
        if found is leaf and self.root is not None:
            self.root.grow(len(leaf.jaxpr.eqns))
        return found

    def path(self) -> list[Step]:
        """The steps from the root, which is left out, to this one."""
        steps: list[Step] = []
        step = self
        while step.parent is not None:
            steps.append(step)
            step = step.parent
        steps.reverse()
        return steps

    def below(self) -> Iterator[Step]:
        """This step and all that follow it."""
        waiting = [self]
        while waiting:
            step = waiting.pop()
            yield step
            waiting += list(step._others.values())

    def leaves(self) -> list[Leaf]:
        return list(self._ends.values())


DEAD = Step("dead", None, None)
"""Where a trace stands that follows nothing: no operation matches what comes next."""
DEAD.next = DEAD


class Leaf:
    """The end of a trace or of a segment: its program.

    `inputs` is how many values from outside are met on the way; they come first among those of the
    program. `constants` are captured values that are the same whenever a trace comes this way; they
    come next.
    `ready` is what transforms keep of it, by what they are.
    """

    __slots__ = ("constants", "inputs", "jaxpr", "out_tree", "ready")

    def __init__(
        self, jaxpr: Jaxpr, inputs: int, constants: list[Any], out_tree: PyTreeDef
    ) -> None:
        self.jaxpr = jaxpr
        self.inputs = inputs
        self.constants = constants
        self.out_tree = out_tree
        self.ready: dict[Hashable, Any] = {}


class Root(Step):
    """Where the traces of one function with arguments of one kind begin.

    `hits` and `misses` count the traces, and segments of traces, that were known and that were not.
    """

    __slots__ = ("_later", "arguments", "hits", "kept", "misses", "size")

    def __init__(self, arguments: list[Slot]) -> None:
        super().__init__("root", None, None)
        self.next = DEAD
        self.root = self
        self.arguments = arguments
        self.size = 1
        self.kept = True
        self.hits = 0
        self.misses = 0
        self._later: dict[bool, Step] = {}

    def later(self, no_grad: bool) -> Step:
        """Where the segments begin that follow an ask."""
        found = self._later.get(no_grad)
        if found is None:
            found = child("later", self)
            found.parent, found.depth = None, 0
            found = self._later.setdefault(no_grad, found)
        return found

    def forget(self) -> None:
        """Let go of all that follows: who still refers to the root keeps no more than that.

        A trace under way goes on with the steps that it stands at.
        """
        self.kept = False
        for beginning in self.beginnings():
            beginning.next, beginning.asked = DEAD, None
            beginning._others, beginning._ends = {}, {}
        self._later = {}

    def beginnings(self) -> list[Step]:
        """Itself, and where later segments begin."""
        return [self, *self._later.values()]

    def grow(self, count: int = 1) -> None:
        """Count one more step, or the equations of a leaf."""
        with _lock:
            self.size += count
            if self.kept:
                _size[0] += count
                _make_room()


def child(fn: Any, parent: Step) -> Step:
    """A step that may be put after `parent`."""
    step = Step(fn, parent, parent.root)
    step.next = DEAD
    return step


def door(place: Step) -> Step:
    """The same place, with expectations of its own: for those that come there by one way."""
    step = Step(place.fn, None, place.root)
    step.next = DEAD
    step._others, step._ends = place._others, place._ends
    return step


_roots: OrderedDict[Hashable, Root] = OrderedDict()
_size = [0]
_lock = threading.Lock()


def _renew_lock() -> None:
    """A child of fork must not wait for a thread that only its parent has."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def root_at(key: Hashable, make: Callable[[], Root]) -> Root:
    """The root for a key, made where there is none."""
    with _lock:
        root = _roots.get(key)
        if root is None:
            root = _roots[key] = make()
            _size[0] += 1
            _make_room()
        else:
            _roots.move_to_end(key)
    return root


def _make_room() -> None:
    """Forget the roots that were not met for longest. Traces that follow one go on with it."""
    while _size[0] > config.memo_steps and _roots:
        _, root = _roots.popitem(last=False)
        root.forget()
        _size[0] -= root.size


def roots() -> list[Root]:
    """All roots, those met last at the end."""
    with _lock:
        return list(_roots.values())


def clear() -> None:
    """Forget all traces."""
    with _lock:
        for root in _roots.values():
            root.forget()
        _roots.clear()
        _size[0] = 0
