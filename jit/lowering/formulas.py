"""Formulas over loop IR values that real and complex lowerings share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import DType, Value

NARROW: frozenset[DType] = frozenset({"f16", "bf16"})
Function: TypeAlias = Callable[..., Any]


def widened(function: Function) -> Function:
    """A formula of several steps is computed in f32 for the 16-bit floats, and rounded once."""

    def apply(b: Builder, *args: Value, **params: Any) -> Value:
        dtype = args[0].dtype
        if dtype not in NARROW:
            return function(b, *args, **params)
        return b.cast(function(b, *[b.cast(a, "f32") for a in args], **params), dtype)

    return apply


def integer_power(b: Builder, x: Any, exponent: int, multiply: Function, one: Any) -> Any:
    """x to a static power >= 0 by repeated squaring."""
    result = None
    while exponent:
        if exponent & 1:
            result = x if result is None else multiply(b, result, x)
        exponent >>= 1
        if exponent:
            x = multiply(b, x, x)
    return one if result is None else result


@widened
def hypot(b: Builder, x: Value, y: Value) -> Value:
    """sqrt(x^2 + y^2), scaled by a power of two so that no square overflows or vanishes."""
    far = 500.0 if x.dtype == "f64" else 60.0
    x, y = b.abs(x), b.abs(y)
    size = b.op("fmax", x, y)
    big, small = b.gt(size, 2.0**far), b.lt(size, 2.0**-far)
    down, up = b.const(x.dtype, 2.0 ** -(far + 50)), b.const(x.dtype, 2.0 ** (far + 50))
    factor = b.select(big, down, b.select(small, up, 1.0))
    back = b.select(big, up, b.select(small, down, 1.0))
    p, q = b.mul(x, factor), b.mul(y, factor)
    root = b.mul(b.op("sqrt", b.fma(p, p, b.mul(q, q))), back)
    return b.select(b.eq(size, math.inf), math.inf, root)
