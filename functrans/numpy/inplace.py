"""Functions that write to their first argument: copyto, put, fill_diagonal and their relatives.

The target must be an array made inside the traced function.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from functrans.errors import MutationError, describe, user_frame
from functrans.errors import where as place_of
from functrans.ir import aval_of
from functrans.primitives import structural as p
from functrans.primitives.derive import Value
from functrans.surface import elementwise
from functrans.surface.declare import surface
from functrans.surface.indexing import put as updated
from functrans.surface.joining import tile
from functrans.surface.promotion import as_operand, cast, stretch
from functrans.surface.selection import along_axis, positions
from functrans.typing import ArrayLike


def write(name: str, target: Any, value: Value) -> None:
    """target[...] = value; MutationError for a plain array, which cannot hold traced values."""
    if isinstance(target, np.ndarray):
        raise MutationError(
            f"{name}: {describe(target)} is a plain array, which cannot hold traced values (at "
            f"{place_of(user_frame())}). Make it inside the function with functrans.numpy."
        )
    target[...] = value


@surface(np.copyto)
def copyto(
    dst: ArrayLike, src: ArrayLike, casting: str = "same_kind", where: ArrayLike = True
) -> None:
    """dst[...] = src, where the mask holds, converted whatever `casting` allows."""
    del casting
    value = as_operand(src, "copyto")
    if where is not True:
        value = elementwise.where(where, cast(value, aval_of(dst).dtype), dst)
    write("copyto", dst, value)


@surface(np.put)
def put(a: ArrayLike, ind: ArrayLike, v: ArrayLike) -> None:
    """Set elements of the flattened array; the values repeat as needed."""
    index = positions(ind, "put")
    index = p.reshape(index, (aval_of(index).size,))
    flat = p.reshape(as_operand(a, "put"), (aval_of(a).size,))
    values = _repeated(v, aval_of(index).size, "put")
    write("put", a, p.reshape(updated(flat, index, values), aval_of(a).shape))


def _repeated(v: ArrayLike, count: int, name: str) -> Value:
    """The flattened values, repeated or cut to `count`."""
    v = as_operand(v, name)
    v = p.reshape(v, (aval_of(v).size,)) if aval_of(v).ndim != 1 else v
    n = aval_of(v).size
    if n == 1:
        return stretch(v, (count,))
    times = -(-count // n) if n else 0
    return p.slice_axis(tile.body(v, times), 0, 0, count)


@surface(np.putmask)
def putmask(a: ArrayLike, mask: ArrayLike, values: ArrayLike) -> None:
    """Set elements where the mask holds, to the value at their own place (values repeat)."""
    row = _repeated(values, aval_of(a).size, "putmask")
    value = p.reshape(cast(row, aval_of(a).dtype), aval_of(a).shape)
    write("putmask", a, elementwise.where(mask, value, a))


@surface(np.place)
def place(arr: ArrayLike, mask: ArrayLike, vals: ArrayLike) -> None:
    """Set the elements where the mask holds to successive values. The mask is asked for."""
    chosen = np.flatnonzero(np.asarray(mask))
    put.body(arr, chosen, vals)


@surface(np.put_along_axis)
def put_along_axis(arr: ArrayLike, indices: ArrayLike, values: ArrayLike, axis: int | None) -> None:
    """Set the elements that `indices` names along one axis, position by position."""
    whole = as_operand(arr, "put_along_axis")
    flat = p.reshape(whole, (aval_of(whole).size,)) if axis is None else whole
    found = positions(indices, "put_along_axis")
    grids, _ = along_axis(flat, found, 0 if axis is None else axis, "put_along_axis")
    result = updated(flat, tuple(grids), values)
    write("put_along_axis", arr, p.reshape(result, aval_of(whole).shape))


@surface(np.fill_diagonal)
def fill_diagonal(a: ArrayLike, val: ArrayLike, wrap: bool = False) -> None:
    """Set the main diagonal."""
    whole = as_operand(a, "fill_diagonal")
    shape = aval_of(whole).shape
    if len(shape) < 2 or (len(shape) > 2 and len(set(shape)) > 1):
        raise ValueError("fill_diagonal: all dimensions of input must be of equal length")
    step = sum(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    end = aval_of(whole).size if wrap or len(shape) > 2 else shape[1] * shape[1]
    chosen = np.arange(0, aval_of(whole).size, step)
    chosen = chosen[chosen < end]
    values = _repeated(val, chosen.size, "fill_diagonal")
    flat = p.reshape(whole, (aval_of(whole).size,))
    write("fill_diagonal", a, p.reshape(updated(flat, chosen, values), shape))
