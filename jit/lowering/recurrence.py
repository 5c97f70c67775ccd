"""What runs along an axis: cumulative reductions, and linear recurrences."""

from __future__ import annotations

from typing import Any

from functrans.extend import primitives
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import Value
from jit.lowering import complex as cx
from jit.lowering.elementwise import maximum, minimum
from jit.lowering.running import Step, runs

ft = primitives.reduction

for _p, _step in (
    (ft.cumsum_p, Step(lambda b, last, x: b.add(last, x), cx.add)),
    (ft.cumprod_p, Step(lambda b, last, x: b.mul(last, x), cx.mul)),
    (ft.cummax_p, Step(maximum)),
    (ft.cummin_p, Step(minimum)),
):
    runs(_p, _step)


def linear(b: Builder, last: Value, factor: Value, term: Value) -> Value:
    """A step of a linear recurrence: term + factor last, the product only where neither is 0.

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
