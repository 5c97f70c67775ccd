"""Ufunc methods: `np.add.reduce`, `.accumulate`, `.outer` and `.at` on tracers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from functrans.errors import MutationError, describe, user_frame, where
from functrans.ir import aval_of, is_inexact
from functrans.primitives import elementwise as e
from functrans.primitives import reduction as r
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full_like
from functrans.surface import accumulations, elementwise, reductions
from functrans.surface.declare import NUMPY_TABLE, UFUNC_METHODS, Function, surface
from functrans.surface.indexing import put
from functrans.surface.promotion import BOOL, FLOAT, canonical_dtype, cast
from functrans.surface.reductions import NOT_GIVEN
from functrans.surface.shaping import array_of, insert_axes
from functrans.typing import ArrayLike, Axes, DTypeLike


def _reduce(ufunc: np.ufunc, function: Function, takes_dtype: bool) -> Function:
    """`ufunc.reduce`: the reduction of the same meaning, along axis 0 by default."""

    def reduce(
        array: ArrayLike,
        axis: Axes = 0,
        dtype: DTypeLike = None,
        *,
        keepdims: bool = False,
        initial: ArrayLike | None = NOT_GIVEN,  # type: ignore[assignment]
        where: ArrayLike = True,
    ) -> Value:
        options: dict[str, Any] = {"keepdims": keepdims, "where": where}
        if takes_dtype:
            options["dtype"] = dtype
        if reductions.is_given(initial):
            options["initial"] = initial
        return function.body(array, axis, **options)  # type: ignore[attr-defined]

    return surface(name=f"{ufunc.__name__}.reduce")(reduce).staged


@surface(name="logaddexp.reduce")
def _logaddexp_reduce(
    array: ArrayLike,
    axis: Axes = 0,
    dtype: DTypeLike = None,
    *,
    keepdims: bool = False,
    initial: ArrayLike | None = NOT_GIVEN,  # type: ignore[assignment]
    where: ArrayLike = True,
) -> Value:
    """`logaddexp.reduce`: the logarithm of the sum of exponentials, the greatest taken out."""
    x = array_of(array, "logaddexp.reduce")
    x = cast(x, aval_of(x).dtype if dtype is None else canonical_dtype(dtype, "logaddexp.reduce"))
    x = x if is_inexact(aval_of(x).dtype) else cast(x, FLOAT)
    top = reductions.max.body(x, axis, keepdims=True, initial=-np.inf, where=where)
    top = p.stop_gradient(p.select(e.is_finite(top), top, full_like(top, 0)))
    parts = elementwise.exp.body(elementwise.subtract.body(x, top))
    total = reductions.sum.body(parts, axis, keepdims=keepdims, where=where)
    result = e.add(e.log(total), p.reshape(top, aval_of(total).shape))
    if not reductions.is_given(initial) or initial is None:
        return result
    return elementwise.logaddexp.body(result, initial)


@surface(name="logical_xor.reduce")
def _logical_xor_reduce(
    array: ArrayLike,
    axis: Axes = 0,
    dtype: DTypeLike = None,
    *,
    keepdims: bool = False,
    initial: ArrayLike = False,
    where: ArrayLike = True,
) -> Value:
    """`logical_xor.reduce`: is an odd number of the elements true?"""
    truths = cast(array_of(array, "logical_xor.reduce"), BOOL)
    count = reductions.sum.body(truths, axis, keepdims=keepdims, where=where)
    odd = e.ne(e.and_(count, full_like(count, 1)), full_like(count, 0))
    return elementwise.logical_xor.body(odd, initial)


def _accumulate(ufunc: np.ufunc, running: Function, widen: bool) -> Function:
    """`ufunc.accumulate`: the running reduction, along axis 0 by default."""

    def accumulate(array: ArrayLike, axis: int = 0, dtype: DTypeLike = None) -> Value:
        return accumulations.accumulate(ufunc.__name__, running, array, axis, dtype, widen)

    return surface(name=f"{ufunc.__name__}.accumulate")(accumulate).staged


def _outer(ufunc: np.ufunc, function: Function) -> Function:
    """`ufunc.outer`: the function of every pair of elements."""

    def outer(a: ArrayLike, b: ArrayLike, /, **options: Any) -> Value:
        x, y = array_of(a, ufunc.__name__), array_of(b, ufunc.__name__)
        ndim = aval_of(x).ndim
        new = tuple(range(ndim, ndim + aval_of(y).ndim))
        return function(insert_axes(x, new), y, **options)

    return surface(name=f"{ufunc.__name__}.outer")(outer).staged


def _at(ufunc: np.ufunc, combine: str, sign: Callable[[Any], Any]) -> Function:
    """`ufunc.at`: an update in place in which every repeated index counts."""

    def at(a: ArrayLike, indices: Any, b: ArrayLike, /) -> None:
        if isinstance(a, np.ndarray):
            raise MutationError(
                f"{ufunc.__name__}.at: {describe(a)} is a plain array, which cannot hold traced "
                f"values (in {where(user_frame())}). Make it with functrans.numpy, or use "
                "functrans.numpy.at(x)[i].add(v)."
            )
        a[...] = put(a, indices, sign(b), combine)  # type: ignore[index]

    return surface(name=f"{ufunc.__name__}.at")(at).staged


_REDUCE = {
    np.add: (reductions.sum, True),
    np.multiply: (reductions.prod, True),
    np.maximum: (reductions.max, False),
    np.minimum: (reductions.min, False),
    np.logical_and: (reductions.all, False),
    np.logical_or: (reductions.any, False),
}
_ACCUMULATE = {
    np.add: (r.cumsum, True),
    np.multiply: (r.cumprod, True),
    np.maximum: (r.cummax, False),
    np.minimum: (r.cummin, False),
    np.logaddexp: (r.cumlogsumexp, False),
}
_AT = {
    np.add: ("add", lambda v: v),
    np.subtract: ("add", elementwise.negative),
    np.multiply: ("mul", lambda v: v),
    np.maximum: ("max", lambda v: v),
    np.minimum: ("min", lambda v: v),
}


def _register() -> None:
    for ufunc, (function, takes_dtype) in _REDUCE.items():
        UFUNC_METHODS[ufunc, "reduce"] = _reduce(ufunc, function, takes_dtype)
    UFUNC_METHODS[np.logaddexp, "reduce"] = _logaddexp_reduce.staged
    UFUNC_METHODS[np.logical_xor, "reduce"] = _logical_xor_reduce.staged
    for ufunc, (running, widen) in _ACCUMULATE.items():
        UFUNC_METHODS[ufunc, "accumulate"] = _accumulate(ufunc, running, widen)
    for ufunc, (combine, sign) in _AT.items():
        UFUNC_METHODS[ufunc, "at"] = _at(ufunc, combine, sign)
    for ufunc, function in list(NUMPY_TABLE.items()):
        if isinstance(ufunc, np.ufunc) and ufunc.nin == 2 and ufunc.signature is None:
            UFUNC_METHODS[ufunc, "outer"] = _outer(ufunc, function)


_register()
