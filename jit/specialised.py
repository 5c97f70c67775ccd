"""One traced signature of a function: its jaxpr, its native program, the packing of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from functrans.extend import (
    Jaxpr,
    MutationError,
    Source,
    Var,
    call,
    engine_name,
    eval_jaxpr,
    in_range,
    primitives,
    tree,
    user_frame,
    where,
)
from jit.captures import Capture
from jit.dispatch import Dispatcher
from jit.programs import ENGINE, executable_for
from jit.signatures import Signature

if TYPE_CHECKING:
    from jit.entry.records import Arguments, Written


class Specialised:
    """A function traced for one signature: its jaxpr with captured values, its result's tree.

    `donate` lists the inputs of the jaxpr whose memory results may take, `signature` is the call it
    was traced for. `unsuited` says why calls of some form have no record, `detour` why the last
    call that was looked at went through Python although there is one, and where it was, `refused`
    why an input's memory was not taken although it was donated.
    """

    def __init__(
        self,
        jaxpr: Jaxpr,
        captured: list[Any],
        out_tree: Any,
        donate: tuple[int, ...],
        signature: Signature,
    ) -> None:
        self.jaxpr = jaxpr
        self.captured = captured
        self.out_tree = out_tree
        self.donate = donate
        self._ranges = checked_ranges(jaxpr, len(captured))
        self._shapes = [v.aval.shape for v in jaxpr.invars[: len(captured)]]
        self._weak = [aval.weak for aval in jaxpr.out_avals]
        self._is_array = out_tree == tree.structure(0) and jaxpr.out_avals[0].shape != ()
        self._compiled: Callable[[Sequence[Any]], Sequence[Any]] | None = None
        self.signature = signature
        self.records: dict[Any, Written | None] = {}
        self.unsuited: str | None = None
        self.detour: tuple[str, Source | None] | None = None
        self.refused: dict[int, str] = {}
        self.captures: list[Capture] = []
        self.hits = 0

    def run(self, leaves: Sequence[Any]) -> Any:
        """Compile on the first call, and run."""
        for i, dtype in self._ranges:
            in_range(leaves[i], dtype)
        for array, shape in zip(self.captured, self._shapes, strict=True):
            if array.shape != shape:
                raise MutationError(
                    f"jit: a captured array had shape {shape} when the function was traced, and "
                    f"has {array.shape} now (in {where(user_frame())}). Pass it as an argument."
                )
        compiled = self._compiled
        if compiled is None:
            compiled = self._compiled = self._compile()
        else:
            self.hits += 1
        outs = compiled([*self.captured, *leaves] if self.captured else leaves)
        return outs[0] if self._is_array else self._pack(outs)

    def _compile(self) -> Callable[[Sequence[Any]], Sequence[Any]]:
        """What computes the outputs: native code, or the evaluator where that is asked for."""
        if engine_name() == "numpy":
            return lambda args: [np.array(x) for x in eval_jaxpr(self.jaxpr, args)]
        return executable_for(self.jaxpr, self.donate).dispatch

    def _pack(self, outs: Sequence[Any]) -> Any:
        """Arrays as the user gets them: scalars of NumPy or Python where they have no axes."""
        values = [
            x if x.shape else x.item() if weak else x[()]
            for x, weak in zip(outs, self._weak, strict=True)
        ]
        return tree.unflatten(self.out_tree, values)

    def record(self, arguments: Arguments) -> Written | None:
        """What lets native code serve calls like this one; None where it cannot tell them."""
        from jit.entry.records import Unsuited, write_record

        try:
            return write_record(
                self,
                arguments,
                self.captured,
                executable_for(self.jaxpr, self.donate).dispatch,
                self.out_tree,
                self.jaxpr.out_avals,
                self._ranges,
            )
        except Unsuited as error:
            self.unsuited = str(error)
            return None

    @property
    def dispatcher(self) -> Dispatcher | None:
        """What calls the native program, once there is one."""
        return self._compiled if isinstance(self._compiled, Dispatcher) else None

    def is_noted(self) -> bool:
        """Is this call one of those whose way is looked at? Ever fewer are, since it takes time."""
        return self.hits & (self.hits - 1) == 0

    def bind(self, leaves: Sequence[Any], name: str) -> Any:
        """One call equation in the trace in force."""
        outs = call(self.jaxpr, *self.captured, *leaves, name=name, engine=ENGINE)
        return tree.unflatten(self.out_tree, outs)


def checked_ranges(jaxpr: Jaxpr, captured: int) -> list[tuple[int, np.dtype[Any]]]:
    """(leaf, dtype) for each Python int that the program converts to an integer dtype."""
    places = {v: i for i, v in enumerate(jaxpr.invars[captured:]) if v.aval.weak}
    found = {
        (places[eqn.inputs[0]], eqn.outputs[0].aval.dtype): None
        for eqn in jaxpr.eqns
        if eqn.primitive is primitives.structural.convert_p
        and isinstance(eqn.inputs[0], Var)
        and eqn.inputs[0] in places
        and eqn.inputs[0].aval.dtype.kind == "i"
    }
    return [(i, dtype) for i, dtype in found if dtype.kind in "iu"]
