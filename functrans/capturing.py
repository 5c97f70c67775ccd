"""Capturing: what a trace meets from outside becomes an input of it, as it was when it was met.

An array counts as it is when it meets a tracer: a small one is copied, a large one is read-only
until the run has ended. A tracer of an enclosing trace stands for its present value; one of any
other trace was leaked, and is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from functrans.bind import Interpreter, current_interpreter
from functrans.errors import (
    DtypeError,
    LeakedTracerError,
    MutationError,
    NonLinearError,
    ThreadError,
    describe,
    user_frame,
    where,
)
from functrans.held import Hold
from functrans.ir import Aval, Linear, Literal, Var, aval_of
from functrans.memo.fast import COPY_LIMIT
from functrans.position import Position
from functrans.tracing import Node, Tracer


class Capturer(Position):
    """The part of a trace that meets values from outside.

    captured  each of them, out of reach of later writes where `copies`, and its tracer
    holds     what keeps the large ones among them from being written to
    live      the program runs again, and then sees what was written to them after the trace
    """

    parent: Interpreter | None
    open = True
    copies = True
    live = False
    holds: Sequence[Hold] = ()
    captured: list[tuple[Any, Tracer]]
    _captured_by_id: dict[int, tuple[Any, Tracer]]
    _hoisted: list[Node]
    _constants: dict[Var, Any]

    # -- whose tracers may be used ------------------------------------------------------------

    def require_usable(self, tracer: Tracer) -> None:
        """Raise where a tracer was leaked, or is used in a thread other than its own."""
        if threading.get_ident() != self.thread or not self.open:
            self._require_ancestor(tracer)

    def _require_ancestor(self, tracer: Tracer) -> None:
        owner: Capturer = tracer.recorder
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

    def may_capture(self, tracer: Tracer) -> bool:
        """Is it a tracer of an open trace around this one, in this thread?"""
        owner: Capturer = tracer.recorder
        return (
            owner.open
            and owner.thread == self.thread
            and any(t is owner for t in enclosing_traces(self.parent))
        )

    def require_current(self, tracer: Tracer, action: str) -> None:
        """Raise unless this trace is the one in force: outer tracers are captured values."""
        if current_interpreter() is self:
            return
        self.require_usable(tracer)
        raise MutationError(
            f"a traced {describe(tracer)} of an enclosing {self.purpose} was {action} inside an "
            f"inner function that is being transformed (in {where(user_frame())}). Work on a copy "
            "(y = x.copy()) and return it."
        )

    # -- values that become inputs -------------------------------------------------------------

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

    def captured_input(self, value: Any) -> Tracer:
        """A tracer that stands for a value from outside, as an input of its own."""
        if type(value) is Tracer:
            return self._from_outside(value)
        return self._stand_in(value)

    def _stand_in(self, value: Any) -> Tracer:
        tracer = Tracer(self, Node(Var(supported(aval_of(value))), value, False, False), "captured")
        tracer.scalar = not isinstance(value, np.ndarray)
        return tracer

    def _capture_array(self, array: np.ndarray[Any, Any]) -> Tracer:
        known = self._captured_by_id.get(id(array))
        if known is not None and _unchanged(array, known[1].node.value):
            return known[1]
        if self._passes_on():
            assert isinstance(self.parent, Capturer)
            outer = self.parent.lift(array)
            assert isinstance(outer, Tracer)
            return self._lift_tracer(outer)
        kept = self.keep(array)
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

    # -- what is written to them later ---------------------------------------------------------

    def keep(self, value: Any) -> Any:
        """A value as it is now, whatever is written to it later."""
        if type(value) is not np.ndarray or not self.copies:
            return value
        if value.nbytes <= COPY_LIMIT:
            return value.copy()
        hold = Hold(value)
        self.holds = [*self.holds, hold]  # first: an interrupt may come while it begins
        hold.begin()
        return value

    def _passes_on(self) -> bool:
        """A live trace around this one must meet the arrays themselves, not copies made here."""
        return self.copies and not self.live and any(t.live for t in enclosing_traces(self.parent))

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


def enclosing_traces(trace: Capturer | Interpreter | None) -> Iterator[Capturer]:
    """The traces around an interpreter, the innermost first, itself included."""
    while isinstance(trace, Capturer):
        yield trace
        trace = trace.parent


def _unchanged(array: np.ndarray[Any, Any], kept: np.ndarray[Any, Any]) -> bool:
    return array is kept or (
        array.shape == kept.shape
        and array.dtype == kept.dtype
        and array.nbytes <= COPY_LIMIT
        and array.tobytes() == kept.tobytes()
    )
