"""Operators: what `x + y`, `x[i]`, `-x` and their reflected forms mean on tracers.

Between weak operands they follow Python's own arithmetic and stay weak; with any array operand
they are NumPy's ufuncs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import UnsupportedError, describe
from functrans.ir import Aval, Primitive, aval_of
from functrans.memo import fast
from functrans.memo.keys import Numbers
from functrans.primitives import elementwise as p
from functrans.primitives.derive import Value
from functrans.surface import comparisons
from functrans.surface import elementwise as e
from functrans.surface.contraction import matmul
from functrans.surface.declare import Function, surface
from functrans.surface.indexing import getitem
from functrans.surface.promotion import SCALARS, all_weak, as_operand, cast, loop_dtypes, weak_dtype
from functrans.typing import ArrayLike


def is_operand(x: Any) -> bool:
    """May x stand beside a tracer in `x + y`? Others get to try their own operator."""
    return (
        type(x) in SCALARS
        or isinstance(x, (np.ndarray, np.generic, list, tuple, range))
        or isinstance(getattr(x, "aval", None), Aval)
    )


def _weak_operands(x: Value, y: Value, at_least: str) -> list[Value]:
    dtype = weak_dtype(x, y, at_least=at_least)
    return [cast(v, dtype, weak=True) for v in (x, y)]


def _binary(
    name: str, function: Function, primitive: Primitive, at_least: str = "i"
) -> tuple[Function, Function]:
    """The operator and its reflected form. `at_least` is the lowest kind Python computes in."""

    def apply(x: Any, y: Any) -> Value:
        x, y = as_operand(x, name), as_operand(y, name)
        if all_weak(x, y):
            return bind(primitive, *_weak_operands(x, y, at_least))[0]
        return function.body(x, y)

    return _both_ways(name, apply)


def _both_ways(name: str, apply: Function) -> tuple[Function, Function]:
    def forward(x: ArrayLike, y: ArrayLike, /) -> Value:
        return apply(x, y) if is_operand(y) else _declined(name, x, y)

    def reflected(x: ArrayLike, y: ArrayLike, /) -> Value:
        return apply(y, x) if is_operand(y) else _declined(name, y, x)

    return _declared(name, forward), _declared(f"r{name}", reflected)


_COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})


def _declined(name: str, x: Any, y: Any) -> Any:
    """NotImplemented, so that an operand of another class may try; Python's own cannot."""
    if name not in _COMPARISONS and any(type(v) in (type(None), str, bytes, dict) for v in (x, y)):
        raise UnsupportedError(
            f"{name}: the operands are {describe(x)} and {describe(y)}, but must be arrays or "
            "numbers. Give the arrays inside a container one by one."
        )
    return NotImplemented


def _declared(name: str, function: Function) -> Function:
    function.__name__ = function.__qualname__ = f"__{name}__"
    function.__doc__ = f"The operator method __{name}__, as on ndarray."
    numbers = Numbers.STATIC if name in ("pow", "rpow") else Numbers.MET
    two = function.__code__.co_argcount == 2
    quick = fast.binary_operator if two else fast.unary_operator
    return surface(name=f"__{name}__", numbers=numbers, quick=quick)(function).staged


def _power(x: Any, y: Any) -> Value:
    """x ** y; whole exponents written in the program are products, weak ones stay weak."""
    x, y = as_operand(x, "**"), as_operand(y, "**")
    exponent = e.static_exponent(y)
    if type(y) is float and y == 0.5:
        return _square_root(x)
    if not all_weak(x, y):
        return e.power.staged(x, y)
    if exponent is None:
        return bind(p.pow_p, *_weak_operands(x, y, "i"))[0]
    kind = "f" if exponent < 0 or type(y) is float else "i"
    return e.integer_power(_weak_operands(x, y, kind)[0], exponent)


def _square_root(x: Value) -> Value:
    """x ** 0.5, for which ndarray's operator takes the square root."""
    if aval_of(x).weak:
        return bind(p.sqrt_p, cast(x, weak_dtype(x, at_least="f"), weak=True))[0]
    dtype = loop_dtypes(np.power, [aval_of(x), aval_of(0.5)])[0]
    return bind(p.sqrt_p, cast(x, dtype))[0]


def _divmod(x: Any, y: Any) -> tuple[Value, Value]:
    if type(x) in SCALARS or isinstance(x, (np.ndarray, np.generic)):
        return operators["__rfloordiv__"](y, x), operators["__rmod__"](y, x)
    return operators["__floordiv__"](x, y), operators["__mod__"](x, y)


def _unary(
    name: str, function: Function, compute: Callable[[Value], Value], at_least: str = "i"
) -> Function:
    """A unary operator; on a weak bool it computes with an int, as Python does.

    But for ~, by which everybody means the other bool: Python 3.16 has no ~True anymore.
    """

    def apply(x: ArrayLike, /) -> Value:
        aval = aval_of(x)
        if not aval.weak:
            return function.staged(x)
        return compute(cast(x, weak_dtype(x, at_least=at_least), weak=True))

    return _declared(name, apply)


def _comparison(name: str, function: Function, primitive: Primitive) -> Function:
    return _binary(name, function, primitive)[0]


_pairs: dict[str, tuple[Function, Function]] = {
    "add": _binary("add", e.add, p.add_p),
    "sub": _binary("sub", e.subtract, p.sub_p),
    "mul": _binary("mul", e.multiply, p.mul_p),
    "truediv": _binary("truediv", e.true_divide, p.div_p, at_least="f"),
    "floordiv": _binary("floordiv", e.floor_divide, p.floor_divide_p),
    "mod": _binary("mod", e.remainder, p.remainder_p),
    "pow": _both_ways("pow", _power),
    "divmod": _both_ways("divmod", _divmod),
    "matmul": _both_ways("matmul", lambda x, y: matmul.staged(x, y)),
    "and": _binary("and", e.bitwise_and, p.and_p, at_least="b"),
    "or": _binary("or", e.bitwise_or, p.or_p, at_least="b"),
    "xor": _binary("xor", e.bitwise_xor, p.xor_p, at_least="b"),
    "lshift": _binary("lshift", e.left_shift, p.shift_left_p),
    "rshift": _binary("rshift", e.right_shift, p.shift_right_p),
}

operators: dict[str, Function] = {
    **{f"__{name}__": pair[0] for name, pair in _pairs.items()},
    **{f"__r{name}__": pair[1] for name, pair in _pairs.items()},
    "__eq__": _comparison("eq", comparisons.equal, p.eq_p),
    "__ne__": _comparison("ne", comparisons.not_equal, p.ne_p),
    "__lt__": _comparison("lt", comparisons.less, p.lt_p),
    "__le__": _comparison("le", comparisons.less_equal, p.le_p),
    "__gt__": _comparison("gt", comparisons.greater, p.gt_p),
    "__ge__": _comparison("ge", comparisons.greater_equal, p.ge_p),
    "__neg__": _unary("neg", e.negative, lambda x: bind(p.neg_p, x)[0]),
    "__pos__": _unary("pos", e.positive, lambda x: x),
    "__abs__": _unary("abs", e.absolute, lambda x: bind(p.abs_p, x)[0]),
    "__invert__": _unary("invert", e.invert, lambda x: bind(p.not_p, x)[0], "b"),
    "__getitem__": getitem.staged,
}
"""Method name -> what it computes, for every operator of ndarray."""
