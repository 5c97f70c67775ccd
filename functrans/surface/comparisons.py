"""Comparisons and questions: equal, less, isnan, isfinite, ..., whose answers are bools."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.ir import Aval, Primitive, aval_of, is_inexact
from functrans.primitives import elementwise as p
from functrans.primitives.derive import Value, full, full_like
from functrans.primitives.structural import imag_p, real_p
from functrans.surface.declare import surface
from functrans.surface.elementwise import beyond, choose, equals, everywhere
from functrans.surface.promotion import BOOL, INT, as_operand, as_strong, cast, common_shape
from functrans.surface.ufuncs import ufunc
from functrans.typing import ArrayLike

isfinite = ufunc(
    np.isfinite,
    lambda x: bind(p.is_finite_p, x)[0] if is_inexact(aval_of(x).dtype) else everywhere(x, True),
)
isnan = ufunc(
    np.isnan,
    lambda x: bind(p.is_nan_p, x)[0] if is_inexact(aval_of(x).dtype) else everywhere(x, False),
)


def _is_infinite(x: Value) -> Value:
    if not is_inexact(aval_of(x).dtype):
        return everywhere(x, False)
    if aval_of(x).dtype.kind == "c":
        parts = (bind(real_p, x)[0], bind(imag_p, x)[0])
        return bind(p.or_p, *map(_is_infinite, parts))[0]
    return equals(bind(p.abs_p, x)[0], math.inf)


isinf = ufunc(np.isinf, _is_infinite)
signbit = ufunc(np.signbit, p.signbit_p)


def _comparison(counterpart: np.ufunc, primitive: Primitive) -> Any:
    """Declare a comparison. Python ints that a dtype cannot hold compare by their value."""

    def compare(x: Value, y: Value) -> Value:
        if aval_of(x).dtype == aval_of(y).dtype:
            return bind(primitive, x, y)[0]
        return _compare_signedness(counterpart, primitive, x, y)

    exact = ufunc(counterpart, compare)

    def comparison(x: ArrayLike, y: ArrayLike, /, **options: Any) -> Value:
        if type(x) is int or type(y) is int:
            x, y = as_operand(x, counterpart.__name__), as_operand(y, counterpart.__name__)
            order = beyond(x, y) - beyond(y, x)
            if order:
                shape = common_shape(counterpart.__name__, aval_of(x).shape, aval_of(y).shape)
                return full(bool(counterpart(order, 0)), Aval(shape, BOOL))
        return exact.staged(*_by_value(x, y), **options)

    comparison.__name__ = comparison.__qualname__ = counterpart.__name__
    comparison.__doc__ = exact.__doc__
    return surface(counterpart)(comparison)


def _by_value(x: ArrayLike, y: ArrayLike) -> tuple[Any, Any]:
    """The operands, an int of unknown value no longer taking the dtype of its partner."""
    weak = [isinstance(aval, Aval) and aval.weak and aval.dtype == INT for aval in _traced(x, y)]
    if weak == [True, False]:
        return as_strong(x), y
    return (x, as_strong(y)) if weak == [False, True] else (x, y)


def _traced(*operands: Any) -> list[Any]:
    return [getattr(x, "aval", None) for x in operands]


def _compare_signedness(counterpart: np.ufunc, primitive: Primitive, x: Value, y: Value) -> Value:
    """Compare uint64 with int64 by value: the negative ones are below every uint64."""
    flipped = aval_of(x).dtype.kind == "u"
    signed = y if flipped else x
    below = bind(p.lt_p, signed, full_like(signed, 0))[0]
    dtype = np.dtype(np.uint64)
    answer = bind(primitive, cast(x, dtype), cast(y, dtype))[0]
    order = 1 if flipped else -1
    return choose(below, everywhere(below, bool(counterpart(order, 0))), answer)


equal = _comparison(np.equal, p.eq_p)
not_equal = _comparison(np.not_equal, p.ne_p)
less = _comparison(np.less, p.lt_p)
less_equal = _comparison(np.less_equal, p.le_p)
greater = _comparison(np.greater, p.gt_p)
greater_equal = _comparison(np.greater_equal, p.ge_p)
