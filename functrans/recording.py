"""Recording: the interpreter that stages a function into a jaxpr, and answers asks for values.

Whoever asks for a value closes a segment: the equations recorded since the last ask become one
jaxpr, which is bound as one `call` in the enclosing interpreter and leaves its values there. A
function that asks n times is a list of n calls, so that time stays linear in its steps.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

import functrans.views  # noqa: F401  # pyright: ignore[reportUnusedImport]  # writable tracers
from functrans.asking import Asker
from functrans.bind import (
    Interpreter,
    current_interpreter,
    eval_jaxpr,
    interpreting,
    source_override,
)
from functrans.errors import (
    ConcretizationError,
    DtypeError,
    LeakedTracerError,
    MutationError,
    NonLinearError,
    ThreadError,
    TransformTypeError,
    describe,
    place_of,
    user_frame,
    where,
)
from functrans.held import Hold
from functrans.ir import (
    Atom,
    Aval,
    Eqn,
    Jaxpr,
    Linear,
    Literal,
    MappedAxis,
    Primitive,
    Source,
    Var,
    aval_of,
    intern,
    is_inexact,
    prune,
    without_effects,
)
from functrans.memo.fast import COPY_LIMIT
from functrans.memo.keys import kind_for
from functrans.memo.trie import DEAD, Root, Slot, root_at
from functrans.segments import Record, acting, free_inputs, live_outputs, replayed, split
from functrans.tracing import Node, Tracer


class Hooks(NamedTuple):
    """What control/ gives to the recorder, which lies below it: the primitives it binds."""

    call: Primitive
    stop_gradient: Primitive


_hooks: list[Hooks] = []


def provide_hooks(hooks: Hooks) -> None:
    _hooks[:] = [hooks]


_NOTHING: list[Any] = []
"""What a trace has recorded that does not record."""


class Argument(NamedTuple):
    """An input of a trace: what Trace.argument takes."""

    aval: Aval
    value: Any
    active: bool
    scalar: bool
    name: str | None

    def slot(self) -> Slot:
        """What the memo knows of it."""
        outer = self.value if type(self.value) is Tracer else None
        abstract = self.value is None or (outer is not None and outer.abstract)
        active = self.active or (outer is not None and outer.active)
        return Slot(
            self.aval, self.scalar, "argument", abstract, active and is_inexact(self.aval.dtype)
        )


def root_of(
    function: Any,
    purpose: str,
    arguments: Sequence[Argument],
    axis: MappedAxis | None,
    parent: Interpreter,
) -> Root:
    """Where traces of this function with arguments like these begin in the memo."""
    slots = [argument.slot() for argument in arguments]
    kinds = [kind_for(s.aval, s.scalar, s.abstract, s.active) for s in slots]
    place = place_of(function)
    return root_at((place, purpose, axis, parent.axes, *kinds), lambda: Root(slots))


class Trace(Asker):
    """The staging interpreter: bind records an equation and returns tracers.

    `purpose` names the transform for messages. Inputs are given by `argument`; what is met from
    outside (arrays, tracers of enclosing traces) becomes a captured input. `copies` says that an
    array counts as it is when it is met; `live`, that the program runs again, and then sees what
    was written to the array after the trace. `walks` says that no user's code runs in it: nobody
    will ask for a value. With a `root` it follows the memo from there.
    """

    copies = True
    live = False
    walks = False
    open = True
    holds: Sequence[Hold] = ()
    records: list[Record] = _NOTHING

    def __init__(
        self,
        purpose: str,
        *,
        axis: MappedAxis | None = None,
        copies: bool = True,
        live: bool = False,
        walks: bool = False,
        root: Root | None = None,
    ) -> None:
        outer = current_interpreter()
        self.parent: Interpreter | None = outer
        self.purpose = purpose
        self.thread = threading.get_ident()
        self.tape = None
        self.axes = outer.axes
        if axis is not None and axis.name is not None:
            self.axes = (axis, *outer.axes)
        if root is not None:
            self.follow(root)
            return
        self.cursor = DEAD
        self.copies, self.live, self.walks = copies, live, walks
        self.start_recording()

    def begin_again(self) -> None:
        """Follow the memo from the root once more: a trace that ended there, and was not kept."""
        assert self._root is not None
        self.parent = current_interpreter()
        self.thread = threading.get_ident()
        self.open = self.outermost = True
        self.cursor = self._root
        self.ins = []

    def start_recording(self) -> None:
        """Make room for what is recorded."""
        self.closed_eqns: list[Eqn] = []
        self.records = []
        self.captured: list[tuple[Any, Tracer]] = []
        self._captured_by_id: dict[int, tuple[Any, Tracer]] = {}
        self._hoisted: list[Node] = []
        self._slots: dict[Var, Slot] = {}
        self._constants: dict[Var, Any] = {}
        self._names: dict[Var, str] = {}
        self._copied: int | None = None

    # -- recording ----------------------------------------------------------------------------

    def argument(
        self,
        aval: Aval,
        value: Any = None,
        active: bool = False,
        scalar: bool | None = None,
        name: str | None = None,
    ) -> Tracer:
        """A new input; `value` is its value in the enclosing interpreter, None when abstract.

        `name` is what messages call it.
        """
        if self.cursor is not DEAD:
            return self.expected_argument(value, name)
        outer = value if type(value) is Tracer else None
        abstract = value is None or (outer is not None and outer.abstract)
        carries = is_inexact(aval.dtype) and (active or (outer is not None and outer.active))
        tracer = Tracer(self, Node(Var(aval), value, abstract, carries), "argument")
        if scalar is not None:
            tracer.scalar = scalar
        if name is not None:
            self._names[tracer.node.var] = name
        return tracer

    def fill_argument(self, tracer: Tracer, value: Any, name: str | None) -> Node:
        """Give the tracer of an argument, of which the memo knows the rest, its node."""
        slot: Slot = tracer.slot
        node = Node(Var(slot.aval), value, slot.abstract, slot.active)
        self._slots[node.var] = slot
        if name is not None:
            self._names[node.var] = name
        return node

    def bind(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
        if self.outermost:
            return self.bound(self._bind, primitive, args, params)
        return self._bind(primitive, args, params)

    def _bind(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
        nodes: list[Node] = []
        atoms: list[Atom] = []
        abstract = active = False
        for arg in args:
            lifted = arg if type(arg) is Tracer and arg.recorder is self else self.lift(arg)
            if isinstance(lifted, Literal):
                atoms.append(lifted)
                continue
            node = lifted.node
            if node.abstract:
                abstract = True
            if node.active:
                active = True
            nodes.append(node)
            atoms.append(node.var)
        out_avals = primitive.abstract_eval(*[a.aval for a in atoms], **params)
        source = source_override() or user_frame()
        made = self._record(primitive, atoms, nodes, params, source, out_avals, abstract, active)
        outs = [Tracer(self, node) for node in made]
        if self.no_grad and primitive.varies:
            return [self._stopped(out) for out in outs]
        return outs

    def _record(
        self,
        primitive: Primitive,
        atoms: list[Atom],
        nodes: list[Node],
        params: dict[str, Any],
        source: Source | None,
        out_avals: Sequence[Aval],
        abstract: bool,
        active: bool,
    ) -> list[Node]:
        """Note an equation; the nodes of its results."""
        active = active and primitive.varies
        made = [
            Node(Var(aval), None, abstract, active and is_inexact(aval.dtype)) for aval in out_avals
        ]
        eqn = Eqn(primitive, atoms, [n.var for n in made], params, source)
        if self.walks:
            self.closed_eqns.append(eqn)
        else:
            self.records.append(Record(eqn, nodes, [weakref.ref(n) for n in made]))
        return made

    def inline(self, jaxpr: Jaxpr, args: Sequence[Any]) -> list[Any] | None:
        """Record the equations of a jaxpr as they stand, types and lines included.

        None where they must be bound anew: for arguments of other types, and under no_grad.
        """
        if self.outermost:
            return self.applied(self._inline, jaxpr, args)
        return self._inline(jaxpr, args)

    def _inline(self, jaxpr: Jaxpr, args: Sequence[Any]) -> list[Any] | None:
        lifted = [self.lift(arg) for arg in args]
        if self.no_grad or any(a.aval != v.aval for a, v in zip(lifted, jaxpr.invars, strict=True)):
            return None
        first = not (self.records or self.closed_eqns)
        if first and jaxpr.simple and len({id(a) for a in lifted}) == len(args):
            # Literals say nothing of distinct inputs, and may be folded.
            literal = any(isinstance(a, Literal) for a in lifted)
            self._copied = None if literal else len(jaxpr.eqns)
        env: dict[Atom, Node | Literal] = {
            v: a if isinstance(a, Literal) else a.node
            for v, a in zip(jaxpr.invars, lifted, strict=True)
        }
        self.record_all(jaxpr.eqns, env)
        given: dict[Atom, Any] = dict(zip(jaxpr.invars, args, strict=True))
        outs: list[Any] = []
        for atom in jaxpr.outvars:
            known = given.get(atom, env.get(atom, atom))
            outs.append(
                known.value
                if isinstance(known, Literal)
                else Tracer(self, known)
                if isinstance(known, Node)
                else known
            )
        return outs

    def record_all(self, eqns: Sequence[Eqn], env: dict[Any, Any]) -> None:
        """Record equations as they stand; `env` has the nodes of their variables, and gets more."""
        here = source_override() or user_frame()
        for eqn in eqns:
            nodes: list[Node] = []
            atoms: list[Atom] = []
            abstract = active = False
            for atom in eqn.inputs:
                known = atom if type(atom) is Literal else env[atom]
                if type(known) is Node:
                    abstract, active = abstract or known.abstract, active or known.active
                    nodes.append(known)
                    atoms.append(known.var)
                else:
                    atoms.append(known)  # type: ignore[arg-type]
            made = self._record(
                eqn.primitive,
                atoms,
                nodes,
                eqn.params,
                eqn.source or here,
                [v.aval for v in eqn.outputs],
                abstract,
                active,
            )
            for var, node in zip(eqn.outputs, made, strict=True):
                env[var] = node

    def _stopped(self, out: Tracer) -> Tracer:
        """no_grad: the derivative of what is recorded while it is on is zero."""
        # An abstract value carries no derivative here, but whoever differentiates a jitted
        # function does so after it was traced.
        carries = is_inexact(out.aval.dtype) and (out.node.active or out.node.abstract)
        return self.bind(_hooks[0].stop_gradient, [out], {})[0] if carries else out

    # -- values from outside ------------------------------------------------------------------

    def lift(self, value: Any) -> Tracer | Literal:
        """A value that bind received as a tracer of this trace, or as a literal."""
        if type(value) is Tracer:
            return self._lift_tracer(value)
        if isinstance(value, Linear):
            raise NonLinearError(f"a {value.aval} that is being transposed was used as a value")
        if isinstance(value, np.generic) or type(value) in (bool, int, float, complex):
            return Literal(value, supported(aval_of(value)))
        array = np.asarray(value)
        supported(aval_of(array))
        return self._capture_array(array)

    def _lift_tracer(self, tracer: Tracer) -> Tracer:
        if tracer.recorder is self:
            return tracer
        self._require_ancestor(tracer)
        known = self._captured_by_id.get(id(tracer))
        if known is None:
            inner = self._from_outside(tracer)
            known = self._captured_by_id[id(tracer)] = (tracer, inner)
            self.captured.append((inner.node.value, inner))
        return known[1]

    def _from_outside(self, tracer: Tracer) -> Tracer:
        """A tracer of this trace that stands for one of an enclosing trace."""
        outer = tracer.snapshot()
        node = Node(Var(tracer.aval), outer, tracer.abstract, tracer.active)
        inner = Tracer(self, node, "captured")
        inner.scalar = tracer.scalar
        return inner

    def may_capture(self, tracer: Tracer) -> bool:
        """Is it a tracer of an open trace around this one, in this thread?"""
        owner: Trace = tracer.recorder
        return (
            owner.open
            and owner.thread == self.thread
            and any(t is owner for t in enclosing_traces(self.parent))
        )

    def captured_input(self, value: Any) -> Tracer:
        """A tracer that stands for a value from outside, as an input of its own."""
        if type(value) is Tracer:
            return self._from_outside(value)
        return self._stand_in(value)

    def _stand_in(self, value: Any) -> Tracer:
        tracer = Tracer(self, Node(Var(supported(aval_of(value))), value, False, False), "captured")
        tracer.scalar = not isinstance(value, np.ndarray)
        return tracer

    def _require_ancestor(self, tracer: Tracer) -> None:
        owner: Trace = tracer.recorder
        if owner.thread != threading.get_ident():
            raise ThreadError(
                f"a traced {describe(tracer)} of {owner.purpose} was used in another thread than "
                f"the one that traces (in {where(user_frame())}). Pass plain arrays to threads, "
                "and apply the transform inside the thread."
            )
        if not owner.open:
            raise LeakedTracerError(
                f"a traced {describe(tracer)} of {owner.purpose} "
                f"was used after the trace had ended (in {where(user_frame())}). Return what is "
                "needed later (grad: has_aux=True) instead of keeping it in a global, an "
                "attribute, a generator or a list outside."
            )
        if not any(t is owner for t in enclosing_traces(self)):
            raise LeakedTracerError(
                f"a traced {describe(tracer)} of an inner {owner.purpose} was used outside of it "
                f"(in {where(user_frame())}). Return it from the inner function instead."
            )

    def _capture_array(self, array: np.ndarray[Any, Any]) -> Tracer:
        known = self._captured_by_id.get(id(array))
        if known is not None and _unchanged(array, known[1].node.value):
            return known[1]
        if self._passes_on():
            assert isinstance(self.parent, Trace)
            outer = self.parent.lift(array)
            assert isinstance(outer, Tracer)
            return self._lift_tracer(outer)
        kept = self._keep(array)
        inner = self._stand_in(kept)
        self._captured_by_id[id(array)] = (array, inner)
        self.captured.append((kept, inner))
        if self.spot is not None:
            self._constants[inner.node.var] = kept
        return inner

    def constant(self, value: np.ndarray[Any, Any]) -> Tracer:
        """An input for an array that is the same whenever a trace comes this way."""
        known = self._captured_by_id.get(id(value))
        if known is None:
            inner = self._stand_in(value)
            known = self._captured_by_id[id(value)] = (value, inner)
            self.captured.append((value, inner))
            self._constants[inner.node.var] = value
        return known[1]

    def _passes_on(self) -> bool:
        """A live trace around this one must meet the arrays themselves, not copies made here."""
        return self.copies and not self.live and any(t.live for t in enclosing_traces(self.parent))

    def _keep(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """An array counts as it is when it meets a tracer, whatever is written to it later."""
        if not self.copies:
            return array
        if array.nbytes <= COPY_LIMIT:
            return array.copy()
        hold = Hold(array)
        self.holds = [*self.holds, hold]  # first: an interrupt may come while it begins
        hold.begin()
        return array

    # -- asking for values --------------------------------------------------------------------

    def require_usable(self, tracer: Tracer) -> None:
        """Raise where a tracer was leaked, or is used in a thread other than its own."""
        if threading.get_ident() != self.thread or not self.open:
            self._require_ancestor(tracer)

    def force(self, tracer: Tracer, remedy: str) -> Any:
        """The value of a tracer, an array or a scalar; see this file's first lines."""
        if self.asked(tracer) is not None:
            return tracer.node.value
        self.require_usable(tracer)
        self.peeked()
        if tracer.abstract:
            raise ConcretizationError(self._why_abstract(tracer, remedy))
        value: Any = tracer
        while type(value) is Tracer:
            value = value.recorder.value_in_parent(value)
        return value

    def value_in_parent(self, tracer: Tracer) -> Any:
        """The value of one of this trace's tracers in the enclosing interpreter."""
        if tracer.slot is not None and self.follows:
            for argument, value, _ in self.given:
                if argument is tracer:
                    return value
            if self.tape is not None:
                self.run_segment()
                return tracer.node.value
        if tracer.node.value is None:
            if self.tape is not None:
                self.run_segment()
                return tracer.node.value
            if self.spot is not None:
                self.leave()
            self._close_segment()
        return tracer.node.value

    def _close_segment(self) -> None:
        ready, rest = split(self.records)
        made = {v for r in ready for v in r.eqn.outputs}
        free = free_inputs(ready, made)
        acted = acting(ready)
        results = [v for e in acted for v in e.outputs]
        live = live_outputs(ready)
        eqns = prune([r.eqn for r in ready], [n.var for n in live])
        used = {a for e in eqns for a in e.inputs if isinstance(a, Var)}
        free = [n for n in free if n.var in used]
        segment = intern(Jaxpr([n.var for n in free], eqns, [*[n.var for n in live], *results]))
        assert self.parent is not None
        values = [n.value for n in free]
        with interpreting(self.parent):
            if acted:  # each effect by itself: the parent may have to run the rest again
                outs = eval_jaxpr(segment, values)
            else:
                outs = self.parent.bind(_hooks[0].call, values, {"jaxpr": segment, **_SEGMENT})
        if acted:
            again = replayed(eqns, acted, [n.var for n in free], [n.var for n in live])
        else:
            again = without_effects(segment)
        self._continue_after(again, free, live, outs, rest)

    def _continue_after(
        self,
        segment: Jaxpr,
        free: list[Node],
        live: list[Node],
        outs: list[Any],
        rest: list[Record],
    ) -> None:
        """Replace the segment's equations by one call whose outputs are the live nodes.

        What is left of `outs` are the results of effects, of which the call takes the values.
        """
        renamed = {n.var: Var(n.var.aval) for n in live}
        params = {"jaxpr": segment, **_SEGMENT}
        values = [self.lift(x) for x in outs[len(live) :]]
        inputs = [n.var for n in free] + [
            x if isinstance(x, Literal) else x.node.var for x in values
        ]
        self.closed_eqns.append(Eqn(_hooks[0].call, inputs, list(renamed.values()), params))
        for node, out in zip(live, outs[: len(live)], strict=True):
            node.var, node.value = renamed[node.var], out
        for record in rest:
            record.eqn.inputs = [
                renamed.get(a, a) if isinstance(a, Var) else a for a in record.eqn.inputs
            ]
        self.records = rest

    def _why_abstract(self, tracer: Tracer, remedy: str) -> str:
        culprit, purpose = self._culprit(tracer)
        return (
            f"the value of a traced {describe(tracer)} was asked for (in {where(user_frame())}), "
            f"but it depends on {culprit}, which has no value while {purpose} traces the function. "
            f"{remedy}.{_KEEP_OUT.get(purpose, '')}"
        )

    def _culprit(self, tracer: Tracer) -> tuple[str, str]:
        """The abstract argument that a tracer depends on, and whose it is, as users call them."""
        owner: Trace = tracer.recorder
        node = tracer.node
        while True:
            while type(node.value) is Tracer:
                owner, node = node.value.recorder, node.value.node
            maker = next((r for r in owner.records if node.var in r.eqn.outputs), None)
            if maker is None:
                name = owner._names.get(node.var) or f"an argument of {owner.purpose}"
                return name, owner.purpose
            node = next(n for n in maker.inputs if n.abstract)

    # -- ending -------------------------------------------------------------------------------

    def require_current(self, tracer: Tracer, action: str) -> None:
        """Raise unless this trace is the one in force: outer tracers are captured values."""
        if current_interpreter() is self:
            return
        self._require_here(tracer, action)

    def _require_here(self, tracer: Tracer, action: str) -> None:
        self.require_usable(tracer)
        raise MutationError(
            f"a traced {describe(tracer)} of an enclosing {self.purpose} was {action} inside an "
            f"inner function that is being transformed (in {where(user_frame())}). Work on a copy "
            "(y = x.copy()) and return it."
        )

    def finish(
        self, arguments: Sequence[Tracer], outputs: Sequence[Any]
    ) -> tuple[Jaxpr, list[Any]]:
        """The jaxpr of what was recorded, and the values of its captured inputs, which go first.

        Those that the memo expects on the way go before those that it keeps.
        """
        if self.no_grad:
            raise TransformTypeError(
                f"{self.purpose}: a no_grad block that the function entered was not left, as in a "
                "generator that is suspended in it. Finish the block before the function returns."
            )
        if self.spot is not None:
            outputs = self.from_here(outputs)
        elif self.restarted:
            return self._finish_segment(outputs)
        if self.restarted:
            arguments = ()
        atoms = [o.node.var if type(o) is Tracer else o for o in map(self.lift, outputs)]
        eqns = self.closed_eqns + [r.eqn for r in self.records]
        copied = len(eqns) == self._copied
        eqns = prune(eqns, atoms)  # type: ignore[arg-type]
        captured = [n.var for n in self._hoisted] + [t.node.var for _, t in self.captured]
        invars = captured + [t.node.var for t in arguments]
        jaxpr = Jaxpr(invars, eqns, atoms, len(captured))  # type: ignore[arg-type]
        jaxpr.simple = copied
        return jaxpr, self._captured_values()

    def _finish_segment(self, outputs: Sequence[Any]) -> tuple[Jaxpr, list[Any]]:
        """The last segment, where the memo does not know it: all it reads is captured."""
        lifted = [self.lift(o) for o in outputs]
        atoms = [o.node.var if type(o) is Tracer else o for o in lifted]
        made = {v for r in self.records for v in r.eqn.outputs}
        nodes = free_inputs(self.records, made)
        nodes += [o.node for o in lifted if type(o) is Tracer and o.node.var not in made]
        nodes = list(dict.fromkeys(nodes))
        eqns = prune([r.eqn for r in self.records], atoms)  # type: ignore[arg-type]
        self.free_cells = [n.cell for n in nodes]
        return Jaxpr([n.var for n in nodes], eqns, atoms, len(nodes)), [n.value for n in nodes]  # type: ignore[arg-type]

    def _captured_values(self) -> list[Any]:
        """What was captured; for a live program the arrays themselves, unless they have changed.

        An array that was written to during the trace stays what it was when it was met.
        """
        if not self.live:
            return [n.value for n in self._hoisted] + [value for value, _ in self.captured]
        met = {inner.node.var: value for value, inner in self._captured_by_id.values()}

        def lasting(kept: Any, inner: Tracer) -> Any:
            array = met.get(inner.node.var)
            return array if isinstance(array, np.ndarray) and _unchanged(array, kept) else kept

        return [lasting(kept, inner) for kept, inner in self.captured]

    def close(self) -> None:
        """End the trace: its tracers are leaked from now on, and its records are dropped.

        With them goes what refers to its tracers, which refer to it.
        """
        self.open = False
        self.cursor = self.parked = DEAD
        self.outermost = False
        if self._root is not None:
            self.made.clear()
            self.twins.clear()
            self.given.clear()
            self.older.clear()
        if self.records is not _NOTHING:
            self.records = []
            self.closed_eqns = []
            self.captured = []
            self._captured_by_id = {}

    def release(self) -> None:
        """Give large captured arrays their writeable flag back, once the run has ended."""
        try:
            for hold in self.holds:
                hold.undo()
        except BaseException:  # an interrupt, which comes once
            for hold in self.holds:
                hold.undo()
            raise
        finally:
            self.holds = ()


_KEEP_OUT = {
    "jit": " Or make the argument static (static_argnums).",
    "vmap": " Or do not map over the argument (None in in_axes).",
}
"""By transform, how an argument can keep its value."""

_SEGMENT: dict[str, Any] = {"name": "segment", "engine": None}


def supported(aval: Aval, what: str = "a captured array") -> Aval:
    """The aval, or DtypeError where functrans has no such dtype (objects, strings, dates).

    `what` is what has the aval, for the message.
    """
    if aval.dtype.kind in "biufc" and aval.dtype.itemsize <= 16 and aval.dtype.isnative:
        if aval.dtype.itemsize < 16 or aval.dtype.name not in ("float128", "longdouble"):
            return aval
    if aval.dtype.name == "bfloat16":
        return aval
    raise DtypeError(
        f"{what} has the dtype {aval.dtype}, which functrans does not have. Convert it with "
        ".astype to bool, an integer of 8 to 64 bits, float16, float32, float64, complex64 or "
        "complex128."
    )


def enclosing_traces(trace: Interpreter | None) -> Iterator[Trace]:
    """The traces around an interpreter, the innermost first, itself included."""
    while isinstance(trace, Trace):
        yield trace
        trace = trace.parent


def _unchanged(array: np.ndarray[Any, Any], kept: np.ndarray[Any, Any]) -> bool:
    return array is kept or (
        array.shape == kept.shape
        and array.dtype == kept.dtype
        and array.nbytes <= COPY_LIMIT
        and array.tobytes() == kept.tobytes()
    )


@contextmanager
def tracing(trace: Trace) -> Generator[Trace]:
    """Put a trace in force for the block and end it afterwards, whatever happens."""
    with interpreting(trace):
        try:
            yield trace
        finally:
            trace.close()


def stage_walk(walk: Callable[..., Sequence[Any]], avals: Sequence[Aval], purpose: str) -> Jaxpr:
    """The jaxpr of a walk over another jaxpr: abstract inputs, nothing captured."""
    with tracing(Trace(purpose, copies=False, walks=True)) as trace:
        arguments = [trace.argument(aval) for aval in avals]
        jaxpr, captured = trace.finish(arguments, walk(*arguments))
    assert not captured, f"{purpose}: the walk captured {describe(captured)}"
    return jaxpr
