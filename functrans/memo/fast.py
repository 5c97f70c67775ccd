"""Fast paths: what a declared function does first, where the trace expects exactly this call.

Each compares the call with the step that is expected next, by identity alone, and where it is that
step moves the trace on: no key is built, and nothing else is looked at. It must never take one
operation for another; whatever it is not sure of goes to `slow`. A trace that does not follow, that
is suspended, closed or another thread's expects the step DEAD, which matches nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from functrans.memo.keys import Kind, slot_kind
from functrans.memo.trie import UNTOLD, Slot, Step

Function: TypeAlias = Callable[..., Any]
Quick: TypeAlias = Callable[[Any, Function], Function]
"""(declaration, what takes the calls that are not expected) -> the function with a fast path."""

SAME = object()
"""Stands in the place of a second operand that is the first one, a value of an earlier segment."""

COPY_LIMIT = 1 << 20
"""Captured arrays up to this many bytes are copied; larger ones are held read-only."""

NOTHING = object()
"""Is no argument of any call: what stands in the place of an operand that there is not."""


class _NoTracer:
    """Stands for the class of tracers until it is there."""


Tracer: Any = _NoTracer
_new = object.__new__
_ndarray = np.ndarray
_EXACT = 1 << 63


def provide_tracer_class(cls: type[Any]) -> None:
    """Say what tracers are: their class lies above."""
    global Tracer
    Tracer = cls


def provide_views(note_view: Function) -> None:
    """Say how (view, array, what takes it) are noted."""
    global _note_view
    _note_view = note_view


def _note_view(view: Any, parent: Any, function: Function) -> None:
    raise NotImplementedError


def unary(fn: Any, slow: Function) -> Function:
    """A function of one operand."""

    def call(x: Any, /, *rest: Any, **options: Any) -> Any:
        if type(x) is Tracer:
            trace = x.recorder
            step = trace.cursor.next
            if step.fn is fn and step.a is x.slot and step.b is NOTHING:
                if not rest and not options:
                    trace.cursor = step
                    out = _new(Tracer)
                    out.recorder = trace
                    out.slot = step
                    trace.made.append(out)
                    return out
            elif x.slot is None and step.fn is fn and not rest and not options:
                return older_operands(trace, step, slow, (x,))
        return slow(x, *rest, **options)

    return call


def unary_operator(fn: Any, slow: Function) -> Function:
    """An operator of one operand, which is a tracer."""

    def call(x: Any) -> Any:
        trace = x.recorder
        step = trace.cursor.next
        if step.fn is fn and step.a is x.slot and step.b is NOTHING:
            trace.cursor = step
            out = _new(Tracer)
            out.recorder = trace
            out.slot = step
            trace.made.append(out)
            return out
        if x.slot is None and step.fn is fn:
            return older_operands(trace, step, slow, (x,))
        return slow(x)

    return call


def binary_operator(fn: Any, slow: Function) -> Function:
    """An operator of two operands, of which the first is a tracer."""

    def call(x: Any, y: Any) -> Any:
        trace = x.recorder
        step = trace.cursor.next
        if step.fn is fn and step.a is x.slot:
            cls = type(y)
            known = step.b
            if cls is Tracer:
                if known is not y.slot or y.recorder is not trace:
                    if y.slot is None:
                        return older_operands(trace, step, slow, (x, y))
                    return slow(x, y)
            elif known is cls:
                if cls is int and not -_EXACT <= y < _EXACT:
                    return slow(x, y)
                trace.ins.append(y)
            elif cls is _ndarray:
                if type(known) is not Kind:
                    return slow(x, y)
                aval = known.aval
                if y.dtype is not aval.dtype or y.shape != aval.shape or not known.plain:
                    return slow(x, y)
                trace.ins.append(y.copy() if y.nbytes <= COPY_LIMIT else trace.keep(y))
            elif known is not y and not (cls in _PARTS and same(y, known)):
                return slow(x, y)
            trace.cursor = step
            out = _new(Tracer)
            out.recorder = trace
            out.slot = step
            trace.made.append(out)
            if step.view is not None:
                _note_view(out, x, step.view)
            return out
        if x.slot is None and step.fn is fn:
            return older_operands(trace, step, slow, (x, y))
        return slow(x, y)

    return call


def older_operands(trace: Any, step: Step, slow: Function, operands: tuple[Any, ...]) -> Any:
    """An operation that takes values of earlier segments: they are inputs of this one."""
    if step.view is not None or (len(operands) == 1 and step.b is not NOTHING):
        return slow(*operands)
    met: list[Any] = []
    for value, part in zip(operands, (step.a, step.b), strict=False):
        cls = type(value)
        if cls is Tracer and value.slot is None:
            if any(value is other for other in met):
                if part is not SAME:
                    return slow(*operands)
            elif is_older(trace, value, part):
                met.append(value)
            else:
                return slow(*operands)
        elif cls is Tracer:
            if part is not value.slot or value.recorder is not trace:
                return slow(*operands)
        elif part is cls and cls is not int:
            met.append(value)
        elif part is not value:
            return slow(*operands)
    for value, slot in zip(met, step.inputs, strict=True):
        if type(value) is Tracer:
            take_older(trace, value, slot)
        else:
            trace.ins.append(value)
    trace.cursor = step
    out = _new(Tracer)
    out.recorder = trace
    out.slot = step
    trace.made.append(out)
    return out


def is_older(trace: Any, tracer: Any, part: Any) -> bool:
    """Is a tracer without a slot a value of an earlier segment, and of this kind?"""
    if type(part) is not Kind or tracer.recorder is not trace:
        return False
    slot = tracer.node.slot
    return slot is not None and slot_kind(slot) is part


def take_older(trace: Any, tracer: Any, slot: Slot) -> None:
    """Let the value of a tracer of an earlier segment be an input, known by a slot from now on."""
    trace.older.append((tracer, tracer.node, len(trace.ins)))
    trace.ins.append(tracer.node.value)
    tracer.slot = slot


def general(fn: Any, slow: Function) -> Function:
    """A function of any arguments, the first or the last a tracer."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if args:
            x = args[0]
            if type(x) is not Tracer:
                x = args[-1]
            if type(x) is Tracer:
                trace = x.recorder
                step = trace.cursor.next
                if step.fn is fn and matches(trace, step, args, kwargs):
                    trace.cursor = step
                    out = _new(Tracer)
                    out.recorder = trace
                    out.slot = step
                    trace.made.append(out)
                    if step.view is not None:
                        _note_view(out, x, step.view)
                    return out
        return slow(*args, **kwargs)

    return call


def matches(trace: Any, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Are these the arguments of the step? Then those from outside are inputs from now on."""
    raws = step.raws
    if len(args) + len(kwargs) != len(raws) or step.a is UNTOLD:
        return False
    if kwargs:
        if tuple(kwargs) != step.names:
            return False
        args = (*args, *kwargs.values())
    elif step.names:
        return False
    inputs: list[Any] = []
    for value, part, raw in zip(args, step.parts, raws, strict=True):
        cls = type(value)
        if cls is Tracer and value.slot is None:
            if not is_older(trace, value, part) or any(value is other for other in inputs):
                return False
            inputs.append(value)
        elif cls is Tracer:
            if value.slot is not part or value.recorder is not trace:
                return False
        elif value is raw:
            pass
        elif cls is part and cls is not int:
            inputs.append(value)
        elif cls is _ndarray and type(part) is Kind:
            aval = part.aval
            if value.dtype is not aval.dtype or value.shape != aval.shape or not part.plain:
                return False
            inputs.append(value)
        elif cls not in _PARTS or not same(value, raw):
            return False
    for value, slot in zip(inputs, step.inputs, strict=True):
        if type(value) is Tracer:
            take_older(trace, value, slot)
        else:
            trace.ins.append(trace.keep(value))
    return True


_PARTS = frozenset({slice, tuple})


def same(value: Any, known: Any) -> bool:
    """Are these slices, or tuples of them and of constants, the same? Compared by identity."""
    cls = type(value)
    if type(known) is not cls:
        return False
    if cls is slice:
        return value.start is known.start and value.stop is known.stop and value.step is known.step
    if cls is tuple:
        return len(value) == len(known) and all(
            v is k or (type(v) in _PARTS and same(v, k)) for v, k in zip(value, known, strict=True)
        )
    return False


_ATOMS = (int, float, complex, str, bytes, type(None), type(...), type, np.dtype, np.generic)


def lasting(value: Any) -> Any:
    """The value, if it is immutable all through, so that the same object means the same."""
    if isinstance(value, tuple):
        return value if all(lasting(v) is not NOTHING for v in value) else NOTHING
    if type(value) is slice:
        parts = (value.start, value.stop, value.step)
        return value if all(lasting(v) is not NOTHING for v in parts) else NOTHING
    return value if isinstance(value, _ATOMS) else NOTHING
