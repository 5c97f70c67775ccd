"""Universal functions: the factory that turns one elementwise primitive into a NumPy ufunc.

Dtypes are what NumPy's own ufunc would compute in; results are strong, as those of functions are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import UnsupportedError, user_frame, where
from functrans.ir import Primitive, aval_of
from functrans.memo import fast
from functrans.memo.keys import Numbers
from functrans.primitives.derive import Value
from functrans.primitives.structural import select_p
from functrans.surface.declare import Declared, Function, surface, write_out
from functrans.surface.promotion import (
    BOOL,
    as_operand,
    broadcast_together,
    canonical_dtype,
    cast,
    loop_dtypes,
    of_one_shape,
)
from functrans.typing import ArrayLike, DTypeLike

Compute = Callable[..., Value]
"""Operands of one shape, in the dtypes of NumPy's loop -> the result."""


def operands_of(ufunc: np.ufunc, xs: tuple[Any, ...], dtype: DTypeLike = None) -> list[Value]:
    """The operands of `ufunc` in the dtypes of its loop, broadcast together."""
    values = [as_operand(x, ufunc.__name__) for x in xs]
    if dtype is not None:
        values = [cast(x, canonical_dtype(dtype, ufunc.__name__)) for x in values]
    avals = [aval_of(x) for x in values]
    dtypes = loop_dtypes(ufunc, avals)
    values = [
        x if a.dtype is d and not a.weak else cast(x, d)
        for x, a, d in zip(values, avals, dtypes, strict=False)
    ]
    shapes = [a.shape for a in avals]
    if all(shape == shapes[0] for shape in shapes):
        return values
    return of_one_shape(ufunc.__name__, values, shapes)


def computes(primitive: Primitive) -> Compute:
    """The primitive as a function of its operands."""
    return lambda *xs: bind(primitive, *xs)[0]


def on_bools(primitive: Primitive, otherwise: Primitive) -> Compute:
    """`primitive` where the operands are bools, `otherwise` for numbers."""
    return lambda *xs: bind(primitive if aval_of(xs[0]).dtype == BOOL else otherwise, *xs)[0]


def ufunc(
    counterpart: np.ufunc,
    compute: Primitive | Compute,
    *,
    methods: dict[str, Function] | None = None,
    aliases: tuple[Any, ...] = (),
    numbers: Numbers = Numbers.MET,
) -> Declared[..., Value]:
    """Declare the elementwise function that stands for the NumPy ufunc `counterpart`."""
    apply = computes(compute) if isinstance(compute, Primitive) else compute
    name = counterpart.__name__

    def with_options(xs: tuple[Any, ...], options: dict[str, Any]) -> Value:
        out, keep = options.pop("out", None), options.pop("where", True)
        dtype = options.pop("dtype", None)
        _refuse_others(name, options)
        result = apply(*operands_of(counterpart, xs, dtype))
        if keep is not True:
            result = _where(name, keep, result, out)
        return result if out is None else write_out(name, out, result)

    def unary(x: ArrayLike, /, **options: Any) -> Value:
        return with_options((x,), options) if options else apply(*operands_of(counterpart, (x,)))

    def binary(x: ArrayLike, y: ArrayLike, /, **options: Any) -> Value:
        if options:
            return with_options((x, y), options)
        return apply(*operands_of(counterpart, (x, y)))

    body: Function = unary if counterpart.nin == 1 else binary
    quick = fast.unary if counterpart.nin == 1 else fast.general
    body.__name__ = body.__qualname__ = name
    body.__doc__ = _summary(counterpart)
    declare = surface(counterpart, methods=methods, aliases=aliases, numbers=numbers, quick=quick)
    return declare(body)


def _summary(counterpart: np.ufunc) -> str:
    """NumPy's one-sentence description, which holds for tracers too."""
    text = (counterpart.__doc__ or "").split("\n\n", 2)
    return " ".join(text[1].split()) if len(text) > 1 else counterpart.__name__


def _refuse_others(name: str, options: dict[str, Any]) -> None:
    harmless = {"casting": "same_kind", "order": "K", "subok": True}
    for option, value in options.items():
        if harmless.get(option) != value:
            raise UnsupportedError(
                f"{name}: the option `{option}` is not supported on values that are being traced "
                f"(in {where(user_frame())}). It takes dtype, out and where."
            )


def _where(name: str, keep: Any, result: Value, out: Any) -> Value:
    """The result where `keep` holds, what `out` holds elsewhere."""
    target = out[0] if isinstance(out, tuple) else out
    if target is None:
        raise UnsupportedError(
            f"{name}: where= without out= leaves elements undefined "
            f"(in {where(user_frame())}). Give out=, or use numpy.where on the result."
        )
    old = cast(as_operand(target, name), aval_of(result).dtype)
    condition = cast(as_operand(keep, name), BOOL)
    condition, result, old = broadcast_together(name, condition, result, old)
    return bind(select_p, condition, result, old)[0]
