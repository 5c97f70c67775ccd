"""Recording: the interpreter that stages a function into a jaxpr; how a trace begins and ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import functrans.views  # noqa: F401  # pyright: ignore[reportUnusedImport]  # writable tracers
from functrans.bind import Interpreter, current_interpreter, interpreting, source_override
from functrans.equations import NO_RECORDS
from functrans.errors import TransformTypeError, describe, place_of, user_frame
from functrans.forcing import Forcer, hooks
from functrans.ir import (
    Atom,
    Aval,
    Eqn,
    Jaxpr,
    Literal,
    MappedAxis,
    Primitive,
    Var,
    copied,
    is_inexact,
    prune,
)
from functrans.memo.keys import kind_for
from functrans.memo.trie import DEAD, Root, Slot, root_at
from functrans.segments import free_inputs
from functrans.tracing import Node, Tracer


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


def is_open(jaxpr: Jaxpr) -> bool:
    """Has every equation a line, and does every result depend on an input?"""
    found = jaxpr.cache.get("open")
    if found is None:
        reached: set[Atom] = set(jaxpr.invars)
        for eqn in jaxpr.eqns:
            if not reached.isdisjoint(eqn.inputs):
                reached.update(eqn.outputs)
        lines = all(eqn.source is not None for eqn in jaxpr.eqns)
        found = jaxpr.cache["open"] = lines and reached.issuperset(jaxpr.outvars)
    return found


def constant_key(
    primitive: Primitive, literals: Sequence[Atom], params: dict[str, Any]
) -> tuple[Any, ...] | None:
    """Equal for equal operations on literals, None where there is no telling or each counts."""
    if primitive.effects is not None or primitive.opaque:
        return None
    key = (primitive, *[a.key() for a in literals if isinstance(a, Literal)], *params.items())
    try:
        hash(key)
    except TypeError:
        return None
    return key


class Trace(Forcer):
    """The staging interpreter: bind records an equation and returns tracers.

    `purpose` names the transform for messages. Inputs are given by `argument`; what is met from
    outside (arrays, tracers of enclosing traces) becomes a captured input. `copies` says that an
    array counts as it is when it is met; `live`, that the program runs again, and then sees what
    was written to the array after the trace. With a `root` it follows the memo from there.
    """

    def __init__(
        self,
        purpose: str,
        *,
        axis: MappedAxis | None = None,
        copies: bool = True,
        live: bool = False,
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
        self.copies, self.live = copies, live
        self.start_recording()

    def begin_again(self) -> None:
        """Follow the memo from the root once more: a trace that ended there, and was not kept."""
        assert self._root is not None
        self.parent = current_interpreter()
        self.thread = threading.get_ident()
        self.open = self.outermost = True
        self.cursor = self._root
        self.ins = []

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
        key = None if nodes or self._root is not None else constant_key(primitive, atoms, params)
        made = None if key is None else self._made_of_literals.get(key)
        if made is None:
            out_avals = primitive.abstract_eval(*[a.aval for a in atoms], **params)
            source = source_override() or user_frame()
            made = self._record(
                primitive, atoms, nodes, params, source, out_avals, abstract, active
            )
            if key is not None:
                self._made_of_literals[key] = made
        outs = [Tracer(self, node) for node in made]
        if self.no_grad and primitive.varies:
            return [self._stopped(out) for out in outs]
        return outs

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
        first = self.whole is None and not (self.records or self.closed_eqns)
        # Literals say nothing of distinct inputs, and may be folded.
        distinct = list({a.node.var: a for a in lifted if isinstance(a, Tracer)}.values())
        if first and jaxpr.simple and len(distinct) == len(args):
            self._copied = len(jaxpr.eqns)
            plain = self._root is None and all(a.node.abstract for a in distinct)
            if plain and not any(a.node.active for a in distinct) and is_open(jaxpr):
                return self._taken_whole(jaxpr, args, distinct)
        return self._taken_in(jaxpr, args, lifted)

    def _taken_whole(
        self, jaxpr: Jaxpr, args: Sequence[Any], inputs: Sequence[Tracer]
    ) -> list[Any]:
        """Make a program that is the first thing recorded this trace's own, variables and all.

        Nothing in it can be asked for or carries a derivative, so that only its results need nodes.
        """
        for tracer, var in zip(inputs, jaxpr.invars, strict=True):
            name = self._names.pop(tracer.node.var, None)
            if name is not None:
                self._names[var] = name
            tracer.node.var = var
        self.whole, self.closed_eqns = jaxpr, list(jaxpr.eqns)
        given: dict[Atom, Any] = dict(zip(jaxpr.invars, args, strict=True))
        return [
            given[v] if v in given else Tracer(self, Node(v, None, True, False))  # type: ignore[arg-type]
            for v in jaxpr.outvars
        ]

    def _taken_in(
        self, jaxpr: Jaxpr, args: Sequence[Any], lifted: Sequence[Tracer | Literal]
    ) -> list[Any]:
        """Record the equations on these inputs; the results, of which some may be arguments."""
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

    def _stopped(self, out: Tracer) -> Tracer:
        """no_grad: the derivative of what is recorded while it is on is zero."""
        # An abstract value carries no derivative here, but whoever differentiates a jitted
        # function does so after it was traced.
        carries = is_inexact(out.aval.dtype) and (out.node.active or out.node.abstract)
        return self.bind(hooks[0].stop_gradient, [out], {})[0] if carries else out

    # -- ending -------------------------------------------------------------------------------

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
        as_it_stands = len(eqns) == self._copied
        captured = [n.var for n in self._hoisted] + [t.node.var for _, t in self.captured]
        invars = captured + [t.node.var for t in arguments]
        if as_it_stands and self.whole is not None and not captured:
            if self.whole.invars == invars and self.whole.outvars == atoms:
                return self.whole, []
        eqns = prune(eqns, atoms)  # type: ignore[arg-type]
        jaxpr = Jaxpr(invars, eqns, atoms, len(captured))  # type: ignore[arg-type]
        jaxpr.simple = as_it_stands
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
        if self.records is not NO_RECORDS:
            self.records = []
            self.closed_eqns = []
            self.captured = []
            self._captured_by_id = {}
            self._made_of_literals = {}
            self.whole = None


class Walk(Trace):
    """The trace of a walk over a jaxpr: no user's code runs in it and nobody asks for a value.

    Everything is abstract, and an equation that is taken in as it stands needs no nodes.
    """

    def __init__(self, purpose: str) -> None:
        super().__init__(purpose, copies=False)

    def bind(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
        atoms: list[Atom] = []
        for arg in args:
            lifted = arg if type(arg) is Tracer and arg.recorder is self else self.lift(arg)
            atoms.append(lifted if isinstance(lifted, Literal) else lifted.node.var)
        outputs = [Var(v) for v in primitive.abstract_eval(*[a.aval for a in atoms], **params)]
        source = source_override() or user_frame()
        self.closed_eqns.append(Eqn(primitive, atoms, outputs, params, source))
        outs = [self._result(var) for var in outputs]
        if self.no_grad and primitive.varies:
            return [self._stopped(out) for out in outs]
        return outs

    def _taken_in(
        self, jaxpr: Jaxpr, args: Sequence[Any], lifted: Sequence[Tracer | Literal]
    ) -> list[Any]:
        env: dict[Atom, Atom] = {
            v: a if isinstance(a, Literal) else a.node.var
            for v, a in zip(jaxpr.invars, lifted, strict=True)
        }
        self.closed_eqns += copied(jaxpr.eqns, env, source_override() or user_frame())
        given: dict[Atom, Any] = dict(zip(jaxpr.invars, args, strict=True))
        outs: list[Any] = []
        for atom in jaxpr.outvars:
            known = env.get(atom, atom)
            if atom in given:
                outs.append(given[atom])
            elif isinstance(known, Literal):
                outs.append(known.value)
            else:
                outs.append(self._result(known))
        return outs

    def _taken_whole(
        self, jaxpr: Jaxpr, args: Sequence[Any], inputs: Sequence[Tracer]
    ) -> list[Any]:
        """A copy: who walks may put programs together, and variables are bound once in each."""
        return self._taken_in(jaxpr, args, inputs)

    def _result(self, var: Var) -> Tracer:
        return Tracer(self, Node(var, None, True, False))


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
    with tracing(Walk(purpose)) as trace:
        arguments = [trace.argument(aval) for aval in avals]
        jaxpr, captured = trace.finish(arguments, walk(*arguments))
    assert not captured, f"{purpose}: the walk captured {describe(captured)}"
    return jaxpr
