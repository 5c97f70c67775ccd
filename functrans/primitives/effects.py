"""Effects: operations that act on the world; debug_callback calls a Python function on values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.ir import Effect, MappedAxis, Primitive
from functrans.primitives.derive import Dims, Value, move_axis
from functrans.primitives.structural import Batched


@dataclass(frozen=True)
class EachMember:
    """Calls `callback` once per member of a mapped axis, in order; `mapped` says which operands
    carry it, as their first axis."""

    callback: Callable[..., Any]
    mapped: tuple[bool, ...]
    size: int

    def __call__(self, *xs: Any) -> None:
        for member in range(self.size):
            pairs = zip(xs, self.mapped, strict=True)
            self.callback(*(x[member] if mapped else x for x, mapped in pairs))


def _call(*xs: Any, callback: Callable[..., Any], ordered: bool) -> list[Any]:
    """Results are dropped; the callback gets arrays of its own, which it may keep or change."""
    callback(*(np.array(x)[()] for x in xs))
    return []


def _callback_jvp(
    primals: list[Value], tangents: list[Value], **params: Any
) -> tuple[list[Value], list[Value]]:
    return bind(debug_callback_p, *primals, **params), []


def _callback_batch(
    axis: MappedAxis, xs: Sequence[Value], dims: Dims, *, callback: Any, ordered: bool
) -> Batched:
    each = EachMember(callback, tuple(d is not None for d in dims), axis.size)
    moved = [x if d is None else move_axis(x, d, 0) for x, d in zip(xs, dims, strict=True)]
    return bind(debug_callback_p, *moved, callback=each, ordered=ordered), []


def _callback_effect(*, callback: Any, ordered: bool) -> Effect:
    return Effect.ORDERED if ordered else Effect.UNORDERED


debug_callback_p = Primitive(
    name="debug_callback",
    abstract_eval=lambda *avals, callback, ordered: [],
    impl=_call,
    jvp=_callback_jvp,
    batch=_callback_batch,
    effects=_callback_effect,
    cheap=False,
)


def debug_callback(
    xs: Sequence[Value], callback: Callable[..., Any], ordered: bool = False
) -> None:
    """Call `callback` on the values of xs when the program runs; its result is ignored."""
    bind(debug_callback_p, *xs, callback=callback, ordered=ordered)
