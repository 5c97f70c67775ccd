"""Accumulators of folds: where they start, how they take one more element, and their result."""

from __future__ import annotations

from typing import Any

from functrans.extend import Aval
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import Combine, DType, Value
from jit.lowering import complex as cx
from jit.lowering.elementwise import extremes
from jit.lowering.formulas import NARROW
from jit.lowering.rules import is_complex, joined, loop_dtype, parts


class Accumulator:
    """How a fold to elements of type `aval` accumulates: its start, and one step.

    Sums and products of half precisions are kept in f32.
    """

    def __init__(self, b: Builder, aval: Aval, monoid: str) -> None:
        self.b = b
        self.complex = is_complex(aval.dtype)
        self.dtype: DType = loop_dtype(aval.dtype)
        self.monoid = monoid
        if self.dtype == "bool" and self.monoid in ("max", "min"):
            self.monoid = "or" if self.monoid == "max" else "and"
        widens = self.dtype in NARROW and self.monoid in ("add", "mul")
        self.kept: DType = "f32" if widens else self.dtype
        self.splits = not (self.complex and self.monoid == "mul")

    @property
    def combine(self) -> Combine | None:
        return self.monoid if self.splits else None  # type: ignore[return-value]

    def identity(self) -> tuple[Value, ...]:
        low, high = extremes(self.kept)
        by_monoid = {"add": 0, "mul": 1, "max": low, "min": high, "and": True, "or": False}
        first = self.b.const(self.kept, by_monoid[self.monoid])
        return (first, self.b.const(self.kept, 0)) if self.complex else (first,)

    def widened(self, element: tuple[Value, ...]) -> tuple[Value, ...]:
        """An element in the type that is accumulated."""
        return tuple([self.b.cast(e, self.kept) for e in element])

    def step(self, total: tuple[Value, ...], element: tuple[Value, ...]) -> tuple[Value, ...]:
        if not self.splits:
            return parts(cx.mul(self.b, joined(total), joined(element)))
        return tuple(
            self.b.op(self.monoid, t, e) for t, e in zip(total, self.widened(element), strict=True)
        )

    def result(self, total: tuple[Value, ...]) -> Any:
        """The finished element, in the type of the variable."""
        return joined([self.b.cast(t, self.dtype) for t in total])
