"""Linear recurrences: a product and a sum for each step, one after the other."""

from __future__ import annotations

from typing import Any

from functrans.extend import primitives
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import Value
from jit.lowering import complex as cx
from jit.lowering.running import Step, runs


def linear(b: Builder, last: Value, factor: Value, term: Value) -> Value:
    """term + factor last, without the product where either factor is 0.

    Nothing waits for `last` but one instruction and a choice.
    """
    carried = b.and_(b.ne(factor, 0.0), b.ne(last, 0.0))
    return b.select(carried, b.add(b.mul(factor, last), term), term)


def complex_linear(b: Builder, last: Any, factor: Any, term: Any) -> Any:
    """The same of complex numbers."""
    return cx.add(b, cx.scale(b, factor, last), term)


runs(
    primitives.recurrence.linear_recurrence_p,
    Step(linear, complex_linear, wide={"f16": "f32", "bf16": "f32", "f32": "f64"}),
)
