"""Promotion: operands of any kind become arrays of one dtype and shape, by NumPy 2's rules.

After it every operand agrees exactly with the others, which is what primitives ask for. Python
scalars and weak tracers take the dtype of the operands they meet (NEP 50).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.errors import DtypeError, RangeError, ShapeError, UnsupportedError, describe
from functrans.ir import Aval, aval_of
from functrans.ir.aval import Shape
from functrans.primitives import structural as p
from functrans.primitives.derive import DType, Value
from functrans.typing import ArrayLike

BOOL = np.dtype(np.bool_)
INT = np.dtype(np.int64)
FLOAT = np.dtype(np.float64)
COMPLEX = np.dtype(np.complex128)

SCALARS: tuple[type, ...] = (bool, int, float, complex)
_RANK = {"b": 0, "i": 1, "f": 2, "c": 3}
_BY_RANK = (BOOL, INT, FLOAT, COMPLEX)
_NAMES = frozenset(
    ["bool", "bfloat16", "float16", "float32", "float64", "complex64", "complex128"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_DTYPES = frozenset(np.dtype(name) for name in _NAMES if name != "bfloat16")


# -- what may be an operand -------------------------------------------------------------------


def as_operand(x: ArrayLike, function: str = "functrans") -> Value:
    """A tracer, an array or a scalar that primitives accept; nested sequences become arrays.

    Raises TypeError for what is no array, DtypeError for a dtype that functrans does not have.
    """
    if type(x) in SCALARS or isinstance(getattr(x, "aval", None), Aval):
        return x
    if isinstance(x, (np.ndarray, np.generic)):
        return _checked_array(x, function)
    if isinstance(x, (list, tuple)):
        return from_nested(x, function)
    array = np.asarray(x)
    if array.dtype == object:
        raise _not_an_array(x, function)
    return _checked_array(array, function)


def _plain_array(x: Sequence[Any], function: str) -> np.ndarray[Any, Any]:
    """Nested sequences without tracers as an array."""
    try:
        array = np.asarray(x)
    except ValueError:
        raise ShapeError(
            f"{function}: the rows of {describe(x)} differ in length. Pad them to one length."
        ) from None
    if array.dtype == object:
        raise _not_an_array(x, function)
    return array


def _not_an_array(x: Any, function: str) -> UnsupportedError:
    return UnsupportedError(
        f"{function}: expected an array or a number, but got {describe(x)}. Give it the arrays "
        "inside, one by one."
    )


def is_unlike_arrays(x: Any) -> bool:
    """Is it a matrix or a masked array, whose operations differ from those of arrays?

    Importing numpy.ma takes 10 ms: it is asked only of what is a subclass of ndarray.
    """
    if type(x) is np.ndarray or not isinstance(x, np.ndarray):
        return False
    return isinstance(x, (np.matrix, np.ma.MaskedArray))


def _checked_array(x: Any, function: str) -> Any:
    if type(x) is np.ndarray and x.dtype in _DTYPES:
        return x
    if is_unlike_arrays(x):
        raise UnsupportedError(
            f"{function}: an operand is a {type(x).__name__}, whose operations differ from those "
            "of arrays. Pass numpy.asarray(x), with a mask as an array of its own."
        )
    if x.dtype.name not in _NAMES:
        raise DtypeError(
            f"{function}: an operand has the dtype {x.dtype.name}, which functrans does not have. "
            "Convert it with .astype to bool, an integer of 8 to 64 bits, float16, float32, "
            "float64, complex64 or complex128."
        )
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def from_nested(x: Sequence[Any], function: str) -> Value:
    """The array that nested sequences of numbers, arrays and tracers spell out."""
    if not _holds_tracer(x):
        return _checked_array(_plain_array(x, function), function)
    items = [as_operand(item, function) for item in x]
    shapes = {aval_of(item).shape for item in items}
    if len(shapes) > 1:
        raise ShapeError(
            f"{function}: the parts of a nested sequence must have one shape, but have "
            + " and ".join(map(str, sorted(shapes)))
            + ". Broadcast or pad them to one shape first."
        )
    return stack_first(strong(*items))


def _holds_tracer(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return any(map(_holds_tracer, x))
    return isinstance(getattr(x, "aval", None), Aval)


def stack_first(items: Sequence[Value]) -> Value:
    """Items of one shape and dtype, stacked along a new first axis."""
    rows = [add_first_axis(item) for item in items]
    return p.concatenate(rows, 0)


def add_first_axis(x: Value) -> Value:
    return p.broadcast(x, (1, *aval_of(x).shape), (0,))


# -- dtypes -----------------------------------------------------------------------------------


def canonical_dtype(dtype: Any, function: str = "functrans") -> DType:
    """The dtype that `dtype` names, in native byte order; DtypeError when functrans has none."""
    found = np.dtype(dtype)
    if found.name not in _NAMES:
        raise DtypeError(
            f"{function}: functrans has no dtype {found.name}. There are bool, integers of 8 to 64 "
            "bits, float16, float32, float64, complex64 and complex128."
        )
    return found.newbyteorder("=")


def placeholder(aval: Aval) -> Any:
    """What stands for the aval in NumPy's own promotion: a dtype, or a Python number if weak."""
    if not aval.weak:
        return aval.dtype
    return {"b": False, "i": 0, "f": 0.0, "c": 0j}[aval.dtype.kind]


def result_dtype(*operands: Value) -> DType:
    """NumPy's result_type of operands, Python scalars and weak tracers counting as weak."""
    return np.result_type(*(placeholder(aval_of(x)) for x in operands))


_resolved: dict[Any, tuple[DType, ...]] = {}


def loop_dtypes(ufunc: np.ufunc, avals: Sequence[Aval]) -> tuple[DType, ...]:
    """The dtypes that NumPy computes `ufunc` in: one per operand, then one per result.

    Raises DtypeError where NumPy has no such loop.
    """
    key = (ufunc, *((a.dtype, a.weak) for a in avals))
    found = _resolved.get(key)
    if found is None:
        strong = all(a.weak for a in avals)
        wanted = tuple(_weak_class(a) if a.weak and not strong else a.dtype for a in avals)
        try:
            found = ufunc.resolve_dtypes((*wanted, *(None,) * ufunc.nout))
        except TypeError:
            given = " and ".join(map(describe, avals))
            raise DtypeError(
                f"{ufunc.__name__} is not defined for {given}. Convert with .astype, or use the "
                "function that NumPy has for such dtypes."
            ) from None
        _resolved[key] = found
    return found


def _weak_class(aval: Aval) -> Any:
    return {"b": BOOL, "i": int, "f": float, "c": complex}[aval.dtype.kind]


def weak_dtype(*operands: Value, at_least: str = "b") -> DType:
    """The dtype of Python arithmetic between weak operands: bool < int < float < complex."""
    rank = max(_RANK[at_least], *(_RANK[aval_of(x).dtype.kind] for x in operands))
    return _BY_RANK[rank]


def all_weak(*operands: Value) -> bool:
    """Are all operands Python scalars, or tracers that stand for some?"""
    return all(aval_of(x).weak for x in operands)


# -- conversions ------------------------------------------------------------------------------


def cast(x: Value, dtype: DType, *, weak: bool = False) -> Value:
    """x converted to `dtype`; scalars at once, everything else by an equation if it is needed.

    A Python int that `dtype` cannot hold raises OverflowError.
    """
    aval = aval_of(x)
    if aval.dtype == dtype and aval.weak == weak:
        return x
    if type(x) in SCALARS:
        return _cast_python_scalar(x, dtype, weak)
    if aval.weak and dtype.kind in "iu":
        known = getattr(getattr(x, "node", None), "value", None)
        if isinstance(known, int):
            in_range(known, dtype)  # an argument of an un-jitted transform
    if isinstance(x, np.generic) and not weak:
        with np.errstate(all="ignore"):
            return x.astype(dtype)
    return p.convert(x, dtype, weak)


def _cast_python_scalar(x: Any, dtype: DType, weak: bool) -> Value:
    if weak:
        return {"b": bool, "i": int, "f": float, "c": complex}[dtype.kind](x)
    if type(x) is complex and dtype.kind != "c":
        raise DtypeError(f"the complex number {x} cannot become {dtype.name}; take its real part")
    return in_range(x, dtype)


def in_range(x: Any, dtype: DType) -> np.generic:
    """A Python number in a dtype; RangeError where an int does not fit."""
    try:
        return dtype.type(x)
    except OverflowError:
        raise RangeError(
            f"Python integer {describe(x).removeprefix('the int ')} out of bounds for "
            f"{dtype.name}. "
            "Convert the array to a dtype that can hold it first: x.astype(int)."
        ) from None


def strong(*operands: Value) -> list[Value]:
    """The operands in the dtype an array of them would have, Python scalars not being weak."""
    dtype = np.result_type(*(aval_of(x).dtype for x in operands))
    return [cast(x, dtype) for x in operands]


def promote(*operands: Value) -> list[Value]:
    """The operands converted to their common dtype; their shapes stay."""
    dtype = result_dtype(*operands)
    return [cast(x, dtype) for x in operands]


def as_strong(x: Value) -> Value:
    """x, no longer weak."""
    aval = aval_of(x)
    return cast(x, aval.dtype) if aval.weak else x


# -- shapes -----------------------------------------------------------------------------------


def common_shape(function: str, *shapes: Shape) -> Shape:
    """The shape that operands of these shapes broadcast to; ShapeError when there is none."""
    wide = {s for s in shapes if s}
    if len(wide) < 2:
        return wide.pop() if wide else ()
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        given = " and ".join(map(str, shapes))
        raise ShapeError(
            f"{function}: operands could not be broadcast together with shapes {given}. "
            "Sizes must be equal or 1, counted from the last axis: insert axes with x[:, None], or "
            "reshape."
        ) from None


def stretch(x: Value, shape: Shape) -> Value:
    """x repeated to `shape`, which its own shape broadcasts to."""
    return stretched(x, aval_of(x).shape, shape)


def stretched(x: Value, own: Shape, shape: Shape) -> Value:
    """The same of an x whose own shape is known."""
    if own == shape:
        return x
    if not own:
        return p.broadcast(x, shape, tuple(range(len(shape))))
    lead = len(shape) - len(own)
    stretched = [i for i, n in enumerate(own) if n == 1 and shape[lead + i] != 1]
    if stretched:
        kept = tuple(n for i, n in enumerate(own) if i not in stretched)
        x = p.reshape(x, kept)
    axes = (*range(lead), *(lead + i for i in stretched))
    return p.broadcast(x, shape, axes)


def broadcast_together(function: str, *operands: Value) -> list[Value]:
    """The operands repeated to their common shape."""
    return of_one_shape(function, operands, [aval_of(x).shape for x in operands])


def of_one_shape(function: str, operands: Sequence[Value], shapes: Sequence[Shape]) -> list[Value]:
    """The same of operands whose shapes are known."""
    shape = common_shape(function, *shapes)
    return [stretched(x, own, shape) for x, own in zip(operands, shapes, strict=True)]


def align(function: str, *operands: ArrayLike) -> list[Value]:
    """Operands of any kind made arrays of one dtype and one shape."""
    return broadcast_together(function, *promote(*(as_operand(x, function) for x in operands)))
