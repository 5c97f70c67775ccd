"""Forcing: what asking a tracer for its value does, or the error that says why it has none.

Whoever asks for a value closes a segment. A trace whose segments run by themselves runs it
(asking.py). Any other makes one jaxpr of the equations recorded since the last ask, which is bound
as one `call` in the enclosing interpreter and leaves its values there: a function that asks n times
is a list of n calls, so that time stays linear in its steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from functrans.asking import Asker
from functrans.bind import eval_jaxpr, interpreting
from functrans.errors import ConcretizationError, describe, user_frame, where
from functrans.ir import Eqn, Jaxpr, Literal, Primitive, Var, intern, prune, without_effects
from functrans.segments import Record, acting, free_inputs, live_outputs, replayed, split
from functrans.tracing import Node, Tracer


class Hooks(NamedTuple):
    """What control/ gives to traces, which lie below it: the primitives that they bind."""

    call: Primitive
    stop_gradient: Primitive


hooks: list[Hooks] = []


def provide_hooks(given: Hooks) -> None:
    hooks[:] = [given]


class Forcer(Asker):
    """The part of a trace that gives values, or says why there are none."""

    def decide(self, tracer: Tracer, remedy: str) -> bool:
        """The truth of a tracer; what comes next is expected to be what came after the same."""
        asked = self.asked(tracer)
        if asked is None:
            return bool(self.force(tracer, remedy))
        truth = bool(tracer.node.value)
        self.cursor = asked.then[truth]
        return truth

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
                outs = self.parent.bind(hooks[0].call, values, {"jaxpr": segment, **_SEGMENT})
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
        self.closed_eqns.append(Eqn(hooks[0].call, inputs, list(renamed.values()), params))
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
        owner: Forcer = tracer.recorder
        node = tracer.node
        while True:
            while type(node.value) is Tracer:
                owner, node = node.value.recorder, node.value.node
            maker = next((r for r in owner.records if node.var in r.eqn.outputs), None)
            if maker is None:
                name = owner._names.get(node.var) or f"an argument of {owner.purpose}"
                return name, owner.purpose
            node = next(n for n in maker.inputs if n.abstract)


_KEEP_OUT = {
    "jit": " Or make the argument static (static_argnums).",
    "vmap": " Or do not map over the argument (None in in_axes).",
}
"""By transform, how an argument can keep its value."""

_SEGMENT: dict[str, Any] = {"name": "segment", "engine": None}
