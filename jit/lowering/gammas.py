"""polygamma as a formula in double precision: terms one by one, the rest of the sum as a series."""

from __future__ import annotations

import math

from functrans.extend import primitives
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import Value
from jit.lowering.formulas import integer_power

gammas = primitives.elementwise.gammas


def polynomial(b: Builder, x: Value, coefficients: list[float]) -> Value:
    """Horner's rule, from the lowest coefficient."""
    total: Value = b.const(x.dtype, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = b.fma(total, x, c)
    return total


def power(b: Builder, x: Value, exponent: int) -> Value:
    """x to a static power >= 0."""
    return integer_power(b, x, exponent, lambda b, p, q: b.mul(p, q), b.const(x.dtype, 1.0))


def polygamma(b: Builder, x: Value, n: int) -> Value:
    """The n-th derivative of digamma, n >= 1; below 1/2 by reflection."""
    if x.dtype != "f64":
        return b.cast(polygamma(b, b.cast(x, "f64"), n), x.dtype)
    low = b.lt(x, 0.5)
    value = upper(b, b.select(low, b.sub(1.0, x), x), n)
    part = b.sub(x, b.op("rint", x))
    angle = b.mul(part, math.pi)
    bend = polynomial(
        b, b.div(b.op("cos", angle), b.op("sin", angle)), gammas.cotangent_derivative(n)
    )
    mirrored = b.neg(b.fma(bend, math.pi ** (n + 1), value))
    pole = b.select(b.eq(part, 0.0), math.inf if n % 2 else math.nan, mirrored)
    return b.select(low, pole, value if n % 2 else b.neg(value))


def upper(b: Builder, x: Value, n: int) -> Value:
    """|polygamma| of x >= 1/2: n! times the sum of (x + k)**-(n + 1)."""
    s, count = n + 1, gammas.steps_of_polygamma(n)
    one = b.const("f64", 1.0)
    total: Value = b.const("f64", 0.0)
    for k in range(count):
        total = b.add(total, power(b, b.div(one, b.add(x, float(k))), s))
    inverse = b.div(one, b.add(x, float(count)))
    series, rising = [1 / n, 0.5], float(s)
    for k, c in enumerate(gammas.BERNOULLI):
        series += [c * rising, 0.0]
        rising *= (s + 2 * k + 1) * (s + 2 * k + 2)
    # (1 / y)**n (1/n + 1/2 (1/y) + c (1/y)**2 + ...): of infinity it is 0.
    total = b.fma(power(b, inverse, n), polynomial(b, inverse, series[:-1]), total)
    return b.mul(total, float(math.factorial(n)))
