"""Noting: what a step of the trie keeps of an operation, so that it is known the next time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from functrans import tree
from functrans.ir import Eqn
from functrans.memo.fast import NOTHING, SAME, lasting
from functrans.memo.keys import OLDER_FIRST, Reader
from functrans.memo.trie import Key, Slot, Step
from functrans.tracing import Tracer


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
