"""Exact rewriting of one new operation, so that index arithmetic stays small.

`simplify` gets an operation before it is built and answers a value that equals it for all inputs,
or None. Of floating-point operations only sums with zero are rewritten. `bounds` is interval
arithmetic on i64 index values, from the static extents of loops.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TypeAlias

from jit.loop_ir.nodes import (
    INTEGERS,
    Const,
    DType,
    Op,
    Value,
    integer_bounds,
    wrap_integer,
)

Interval: TypeAlias = tuple[int, int]
Ranges: TypeAlias = dict[Value, Interval]
Build: TypeAlias = Callable[..., Value]

COMPARE: dict[str, Callable[[int, int], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def truncated(a: int, b: int) -> int:
    """a / b towards zero, 0 when b is 0."""
    if b == 0:
        return 0
    q = abs(a) // abs(b)
    return q if (a < 0) == (b < 0) else -q


EVALUATE: dict[str, Callable[[int, int], int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": truncated,
    "rem": lambda a, b: a - truncated(a, b) * b if b else 0,
    "floordiv": lambda a, b: a // b if b else 0,
    "mod": lambda a, b: a % b if b else 0,
    "min": min,
    "max": max,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
}


def evaluate(dtype: DType, name: str, a: int, b: int) -> int | None:
    """The value of a binary integer operation on literals; None where it is not folded."""
    function = EVALUATE.get(name)
    return None if function is None else wrap_integer(dtype, function(a, b))


def bounds(value: Value, ranges: Ranges) -> Interval | None:
    """An interval that holds every value of an i64, or None; `ranges` holds what is known."""
    if isinstance(value, Const):
        return int(value.value), int(value.value)
    if value in ranges:
        return ranges[value]
    if not isinstance(value, Op) or value.dtype != "i64":
        return None
    low, high = integer_bounds("i64")
    found = op_bounds(value, ranges) or (low, high)
    ranges[value] = found if low <= found[0] and found[1] <= high else (low, high)
    return ranges[value]


def op_bounds(value: Op, ranges: Ranges) -> Interval | None:
    """The interval of an i64 operation, which may be wider than the type."""
    if value.name == "cast":
        return cast_bounds(value.args[0].dtype)
    if value.name == "select":
        cond, then, orelse = value.args
        return select_bounds(cond, then, orelse, ranges)
    if len(value.args) != 2:
        return None
    a, b = [bounds(x, ranges) or integer_bounds("i64") for x in value.args]
    match value.name:
        case "add":
            return a[0] + b[0], a[1] + b[1]
        case "sub":
            return a[0] - b[1], a[1] - b[0]
        case "mul":
            ends = [x * y for x in a for y in b]
            return min(ends), max(ends)
        case "min":
            return min(a[0], b[0]), min(a[1], b[1])
        case "max":
            return max(a[0], b[0]), max(a[1], b[1])
        case "and" if b[0] == b[1] >= 0:
            return 0, b[1]
        case "mod" if b[0] == b[1] > 0:
            return 0, b[0] - 1
        case "floordiv" if b[0] == b[1] > 0:
            return a[0] // b[0], a[1] // b[0]
        case _:
            return None


def cast_bounds(kind: DType) -> Interval | None:
    """What integers of another type are as i64."""
    if kind == "bool":
        return 0, 1
    return integer_bounds(kind) if kind in INTEGERS and kind not in ("i64", "u64") else None


def select_bounds(cond: Value, then: Value, orelse: Value, ranges: Ranges) -> Interval | None:
    """Either of two; `orelse` where it is not negative, as when an index counts from the end."""
    a, b = [bounds(x, ranges) or integer_bounds("i64") for x in (then, orelse)]
    if isinstance(cond, Op) and cond.name == "lt" and cond.args[0] is orelse:
        least = cond.args[1]
        if isinstance(least, Const) and least.value == 0:
            b = max(b[0], 0), max(b[1], 0)
    return min(a[0], b[0]), max(a[1], b[1])


def simplify(
    build: Build, ranges: Ranges, dtype: DType, name: str, args: tuple[Value, ...]
) -> Value | None:
    """A value equal to `name(*args)` that needs less work, or None. `build(name, *args)` builds."""
    kind = args[0].dtype
    if name == "select":
        return simplify_select(args)
    if name == "cast":
        return simplify_cast(build, dtype, args[0])
    if len(args) != 2 or (kind not in INTEGERS and kind != "bool"):
        return None
    a, b = args
    if isinstance(a, Const) and isinstance(b, Const):
        return simplify_literals(dtype, name, a, b)
    if isinstance(a, Const) and name in ("add", "mul", "and", "or", "xor", "min", "max"):
        return build(name, b, a)
    if isinstance(b, Const):
        if kind == "bool":
            return simplify_bool(build, name, a, b)
        found = simplify_right_literal(build, dtype, name, a, int(b.value))
        if found is not None or kind != "i64":
            return found
    if name in COMPARE and kind == "i64":
        return simplify_comparison(name, a, b, ranges)
    if name in ("floordiv", "mod", "div", "rem") and kind == "i64" and isinstance(b, Const):
        return simplify_division(build, ranges, name, a, int(b.value))
    return None


def simplify_sum(a: Value, b: Value) -> Value | None:
    """A sum of floats of which one is a zero: the other, unless -0 + 0 would have to become 0."""
    for zero, other in ((a, b), (b, a)):
        if isinstance(zero, Const) and zero.value == 0.0:
            if is_negative_zero(zero) or not may_be_negative_zero(other):
                return other
    return None


def is_negative_zero(value: Const) -> bool:
    return math.copysign(1.0, value.value) < 0


def may_be_negative_zero(value: Value) -> bool:
    """Whether -0 is possible, by one look at the operation: a sum is -0 only of two of them."""
    if isinstance(value, Const):
        return value.value == 0.0 and is_negative_zero(value)
    if isinstance(value, Op) and value.name == "add":
        return not any(isinstance(a, Const) and not may_be_negative_zero(a) for a in value.args)
    return True


def simplify_select(args: tuple[Value, ...]) -> Value | None:
    """select(true, x, y) = x; select(c, x, x) = x."""
    cond, then, orelse = args
    if isinstance(cond, Const):
        return then if cond.value else orelse
    return then if then is orelse else None


def simplify_cast(build: Build, dtype: DType, value: Value) -> Value | None:
    """No cast to the same type; integer literals are cast at once."""
    if value.dtype == dtype:
        return value
    if isinstance(value, Const) and value.dtype in INTEGERS and dtype in INTEGERS:
        return Const(dtype, wrap_integer(dtype, int(value.value)))
    return None


def simplify_literals(dtype: DType, name: str, a: Const, b: Const) -> Value | None:
    """Evaluate on two integer or two boolean literals."""
    if name in COMPARE:
        return Const("bool", COMPARE[name](int(a.value), int(b.value)))
    if dtype == "bool":
        return Const("bool", bool(EVALUATE[name](int(a.value), int(b.value))))
    found = evaluate(dtype, name, int(a.value), int(b.value))
    return None if found is None else Const(dtype, found)


def simplify_bool(build: Build, name: str, a: Value, b: Const) -> Value | None:
    """and, or, xor, eq, ne with a literal truth value."""
    match name, bool(b.value):
        case ("and", True) | ("or", False) | ("xor", False) | ("eq", True) | ("ne", False):
            return a
        case ("and", False) | ("or", True):
            return b
        case ("xor", True) | ("eq", False) | ("ne", True):
            return build("not", a)
        case _:
            return None


def simplify_right_literal(build: Build, dtype: DType, name: str, a: Value, b: int) -> Value | None:
    """x op literal: neutral and absorbing elements, and (x op c) op d for wrapping add and mul."""
    if b == 0 and name in ("add", "sub", "or", "xor", "shl", "shr"):
        return a
    if b == 0 and name in ("mul", "and"):
        return Const(dtype, 0)
    if b == 1 and name in ("mul", "div", "floordiv"):
        return a
    if b == 1 and name in ("rem", "mod"):
        return Const(dtype, 0)
    if name == "sub":
        return build("add", a, Const(dtype, wrap_integer(dtype, -b)))
    if name in ("add", "mul") and isinstance(a, Op) and a.name == name:
        inner = a.args[1]
        if isinstance(inner, Const):
            both = evaluate(dtype, name, int(inner.value), b)
            return build(name, a.args[0], Const(dtype, both or 0))
    return None


def simplify_comparison(name: str, a: Value, b: Value, ranges: Ranges) -> Value | None:
    """A comparison that the ranges of loop variables decide."""
    left, right = bounds(a, ranges), bounds(b, ranges)
    if left is None or right is None:
        return None
    ends = {COMPARE[name](x, y) for x in left for y in right}
    if name in ("eq", "ne"):
        disjoint = left[1] < right[0] or right[1] < left[0]
        return Const("bool", name == "ne") if disjoint else None
    return Const("bool", ends.pop()) if len(ends) == 1 else None


def simplify_division(build: Build, ranges: Ranges, name: str, a: Value, b: int) -> Value | None:
    """i // n and i % n of an index: (j * n * k + r) // n = j * k when 0 <= r < n, and the like."""
    interval = bounds(a, ranges)
    if b <= 0 or interval is None or interval[0] < 0:
        return None
    quotient = name in ("floordiv", "div")
    if interval[1] < b:
        return Const("i64", 0) if quotient else a
    multiples: list[tuple[Value, int]] = []
    rest: list[tuple[Value, int]] = []
    for value, factor in terms(a):
        (rest if factor % b else multiples).append((value, factor))
    if not multiples:
        return None
    remainder = total(build, rest)
    low_high = bounds(remainder, ranges)
    if low_high is None or low_high[0] < 0 or low_high[1] >= b:
        return None
    return total(build, [(v, f // b) for v, f in multiples]) if quotient else remainder


def terms(value: Value) -> list[tuple[Value, int]]:
    """value = the sum of v * factor over the pairs (v, factor); a literal is (1, itself)."""
    if isinstance(value, Const):
        return [(Const("i64", 1), int(value.value))]
    if isinstance(value, Op) and value.name == "add":
        return terms(value.args[0]) + terms(value.args[1])
    if isinstance(value, Op) and value.name == "mul" and isinstance(value.args[1], Const):
        return [(value.args[0], int(value.args[1].value))]
    return [(value, 1)]


def total(build: Build, pairs: list[tuple[Value, int]]) -> Value:
    """The sum of v * factor."""
    found: Value = Const("i64", 0)
    for value, factor in pairs:
        found = build("add", found, build("mul", value, Const("i64", factor)))
    return found


def loop_range(extent: Value) -> Interval | None:
    """The interval of a loop variable whose extent is a literal."""
    return (0, max(int(extent.value) - 1, 0)) if isinstance(extent, Const) else None
