"""Information: shapes, dtypes and comparisons of whole arrays; most answers are known at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from functrans.errors import DtypeError
from functrans.ir import aval_of, is_inexact
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import DType, Value, full_like
from functrans.surface import comparisons, elementwise
from functrans.surface.axes import normal_axis
from functrans.surface.declare import surface
from functrans.surface.methods import imag, real
from functrans.surface.promotion import (
    BOOL,
    align,
    as_operand,
    broadcast_together,
    cast,
    placeholder,
)
from functrans.surface.reductions import all as all_true
from functrans.surface.shaping import array_of
from functrans.typing import ArrayLike, DTypeLike


@surface(np.shape)
def shape(a: ArrayLike) -> tuple[int, ...]:
    """The lengths of the axes."""
    return aval_of(as_operand(a, "shape")).shape


@surface(np.ndim)
def ndim(a: ArrayLike) -> int:
    """The number of axes."""
    return aval_of(as_operand(a, "ndim")).ndim


@surface(np.size)
def size(a: ArrayLike, axis: int | None = None) -> int:
    """The number of elements, or the length of one axis."""
    aval = aval_of(as_operand(a, "size"))
    return aval.size if axis is None else aval.shape[normal_axis(axis, aval.ndim, "size")]


@surface(np.result_type)
def result_type(*arrays_and_dtypes: ArrayLike) -> DType:
    """The dtype that NumPy's promotion gives to operands and dtypes together."""
    return np.result_type(*(_promoted(x) for x in arrays_and_dtypes))


def _promoted(x: Any) -> Any:
    if isinstance(x, (type, np.dtype, str)):
        return np.dtype(x)
    return placeholder(aval_of(as_operand(x, "result_type")))


@surface(np.can_cast)
def can_cast(from_: ArrayLike, to: DTypeLike, casting: str = "safe") -> bool:
    """Can values of one dtype become another under the casting rule?"""
    given = from_ if isinstance(from_, (type, np.dtype, str)) else aval_of(from_).dtype
    return np.can_cast(given, to, casting=casting)  # type: ignore[arg-type]


@surface(np.common_type)
def common_type(*arrays: ArrayLike) -> Any:
    """The inexact dtype class that holds all the arrays."""
    dtypes = [aval_of(as_operand(a, "common_type")).dtype for a in arrays]
    if BOOL in dtypes:
        raise DtypeError("can't get common type for non-numeric array")
    return np.common_type(*(np.empty(0, d) for d in dtypes))


@surface(np.min_scalar_type)
def min_scalar_type(a: ArrayLike, /) -> DType:
    """The smallest dtype that holds a scalar; the dtype of an array."""
    aval = aval_of(as_operand(a, "min_scalar_type"))
    return aval.dtype if aval.shape else np.min_scalar_type(np.asarray(a).item())


@surface(np.isscalar)
def isscalar(element: ArrayLike) -> bool:
    """Is this a number rather than an array?"""
    return np.isscalar(element) or getattr(element, "scalar", False)


@surface(np.iscomplexobj)
def iscomplexobj(x: ArrayLike) -> bool:
    """Has this a complex dtype?"""
    return aval_of(as_operand(x, "iscomplexobj")).dtype.kind == "c"


@surface(np.isrealobj)
def isrealobj(x: ArrayLike) -> bool:
    """Has this a dtype that is not complex?"""
    return not iscomplexobj.body(x)


@surface(np.iscomplex)
def iscomplex(x: ArrayLike) -> Value:
    """Where the imaginary part is not zero."""
    return comparisons.not_equal(imag.body(x), 0)


@surface(np.isreal)
def isreal(x: ArrayLike) -> Value:
    """Where the imaginary part is zero."""
    return comparisons.equal(imag.body(x), 0)


@surface(np.isposinf)
def isposinf(x: ArrayLike, /) -> Value:
    """Where x is plus infinity."""
    x = _real_operand(x, "isposinf")
    return e.eq(x, full_like(x, np.inf)) if is_inexact(aval_of(x).dtype) else _nowhere(x)


@surface(np.isneginf)
def isneginf(x: ArrayLike, /) -> Value:
    """Where x is minus infinity."""
    x = _real_operand(x, "isneginf")
    return e.eq(x, full_like(x, -np.inf)) if is_inexact(aval_of(x).dtype) else _nowhere(x)


def _real_operand(x: ArrayLike, name: str) -> Value:
    x = array_of(x, name)
    if aval_of(x).dtype.kind == "c":
        raise DtypeError(f"{name} is not defined for {aval_of(x)}: ask its parts")
    return x


def _nowhere(x: Value) -> Value:
    return elementwise.everywhere(x, False)


@surface(np.real_if_close)
def real_if_close(a: ArrayLike, tol: float = 100) -> Value:
    """The real part where all imaginary parts nearly vanish, which needs the values."""
    a = array_of(a, "real_if_close")
    if aval_of(a).dtype.kind != "c":
        return a
    eps = np.finfo(aval_of(a).dtype).eps
    small = elementwise.absolute(imag.body(a)) < (tol * eps if tol > 1 else tol)
    return real.body(a) if bool(all_true(small)) else a


# -- comparisons of arrays ----------------------------------------------------------------------


@surface(np.isclose)
def isclose(
    a: ArrayLike,
    b: ArrayLike,
    rtol: ArrayLike = 1e-05,
    atol: ArrayLike = 1e-08,
    equal_nan: bool = False,
) -> Value:
    """Where |a - b| <= atol + rtol |b|; infinities are close to themselves only."""
    x, y = align("isclose", a, b)
    if not is_inexact(aval_of(x).dtype):
        x, y = (cast(v, np.result_type(aval_of(v).dtype, 1.0)) for v in (x, y))
    bound = elementwise.add(atol, elementwise.multiply(rtol, elementwise.absolute(y)))
    near = comparisons.less_equal(elementwise.absolute(e.sub(x, y)), bound)
    close = elementwise.logical_and(near, comparisons.isfinite(y))
    close, same = broadcast_together("isclose", close, e.eq(x, y))
    close = e.or_(close, same)
    if not equal_nan:
        return close
    return e.or_(close, e.and_(e.is_nan(x), e.is_nan(y)))


@surface(np.allclose)
def allclose(
    a: ArrayLike,
    b: ArrayLike,
    rtol: ArrayLike = 1e-05,
    atol: ArrayLike = 1e-08,
    equal_nan: bool = False,
) -> Value:
    """Are all elements close to each other? See `isclose`."""
    return all_true.body(isclose.body(a, b, rtol, atol, equal_nan))


@surface(np.array_equal)
def array_equal(a1: ArrayLike, a2: ArrayLike, equal_nan: bool = False) -> Value:
    """Have the arrays one shape and equal elements?"""
    x, y = as_operand(a1, "array_equal"), as_operand(a2, "array_equal")
    if aval_of(x).shape != aval_of(y).shape:
        return np.False_
    x, y = align("array_equal", x, y)
    same = e.eq(x, y)
    if equal_nan and is_inexact(aval_of(x).dtype):
        same = e.or_(same, e.and_(e.is_nan(x), e.is_nan(y)))
    return all_true.body(same)


@surface(np.array_equiv)
def array_equiv(a1: ArrayLike, a2: ArrayLike) -> Value:
    """Are the arrays equal after broadcasting?"""
    try:
        x, y = align("array_equiv", a1, a2)
    except ValueError:
        return np.False_
    return all_true.body(e.eq(x, y))


@surface(np.nan_to_num)
def nan_to_num(
    x: ArrayLike,
    copy: bool = True,
    nan: ArrayLike = 0.0,
    posinf: ArrayLike | None = None,
    neginf: ArrayLike | None = None,
) -> Value:
    """x with NaN and infinities replaced, infinities by the largest finite values by default."""
    x = array_of(x, "nan_to_num")
    dtype = aval_of(x).dtype
    if not is_inexact(dtype):
        return x
    if dtype.kind == "c":
        parts = (nan_to_num.body(v, copy, nan, posinf, neginf) for v in (p.real(x), p.imag(x)))
        return p.complex(*parts)
    limits = np.finfo(dtype)
    high = limits.max if posinf is None else posinf
    low = limits.min if neginf is None else neginf
    x = _replaced(e.is_nan(x), nan, x)
    x = _replaced(e.eq(x, full_like(x, np.inf)), high, x)
    return _replaced(e.eq(x, full_like(x, -np.inf)), low, x)


def _replaced(where: Value, value: ArrayLike, x: Value) -> Value:
    fill = cast(as_operand(value, "nan_to_num"), aval_of(x).dtype)
    return p.select(*broadcast_together("nan_to_num", where, fill, x))
