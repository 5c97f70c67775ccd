"""Joining and splitting: concatenate, stack, split, tile, repeat, roll and their relatives."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import DtypeError, ShapeError
from functrans.ir import Aval, aval_of
from functrans.memo.keys import Numbers
from functrans.primitives import elementwise as e
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full, full_like
from functrans.primitives.indexing import dynamic_slice, scatter_add_p
from functrans.primitives.reduction import cumsum_p
from functrans.surface.axes import as_shape, normal_axes, normal_axis
from functrans.surface.declare import surface
from functrans.surface.indexing import plan, take_plan
from functrans.surface.known import known_values
from functrans.surface.promotion import INT, as_operand, canonical_dtype, cast, strong
from functrans.surface.shaping import array_of, atleast_1d, atleast_2d, atleast_3d, insert_axes
from functrans.typing import ArrayLike, Axes, DTypeLike, ShapeLike

# -- joining ----------------------------------------------------------------------------------


def members(arrays: Any, name: str) -> list[Value]:
    """The arrays to be joined, in one dtype; an array counts as the sequence of its rows."""
    if isinstance(arrays, (list, tuple)):
        items = [as_operand(a, name) for a in arrays]
    else:
        whole = array_of(arrays, name)
        items = [take_plan(whole, plan(aval_of(whole).shape, i)) for i in range(len(whole))]
    if not items:
        raise ValueError(f"{name}: need at least one array")
    return strong(*items)


def join(items: Sequence[Value], axis: int, name: str) -> Value:
    """Arrays of one dtype, one after another; ShapeError when they differ outside the axis."""
    ndim = aval_of(items[0]).ndim
    if ndim == 0:
        raise ShapeError(
            "zero-dimensional arrays cannot be concatenated. Use stack, which makes an axis of "
            "them."
        )
    place = normal_axis(axis, ndim, name)
    shapes = [aval_of(x).shape for x in items]
    if len({(len(s), *s[:place], *s[place + 1 :]) for s in shapes}) > 1:
        raise ShapeError(
            f"{name}: all the input array dimensions except for the concatenation axis must match "
            f"exactly, but along axis {place} the shapes are "
            + " and ".join(map(str, shapes))
            + "."
        )
    return p.concatenate(items, place)


@surface(np.concatenate, aliases=(np.concat,), numbers=Numbers.ARRAYS)
def concatenate(
    arrays: Sequence[ArrayLike], axis: int | None = 0, *, dtype: DTypeLike = None
) -> Value:
    """The arrays, one after another along `axis`; flattened first when it is None."""
    items = members(arrays, "concatenate")
    if dtype is not None:
        items = [cast(x, canonical_dtype(dtype, "concatenate")) for x in items]
    if axis is None:
        return join([p.reshape(x, (aval_of(x).size,)) for x in items], 0, "concatenate")
    return join(items, axis, "concatenate")


concat = concatenate


@surface(np.stack, numbers=Numbers.ARRAYS)
def stack(arrays: Sequence[ArrayLike], axis: int = 0, *, dtype: DTypeLike = None) -> Value:
    """Arrays of one shape, stacked along a new axis."""
    items = members(arrays, "stack")
    if dtype is not None:
        items = [cast(x, canonical_dtype(dtype, "stack")) for x in items]
    shapes = {aval_of(x).shape for x in items}
    if len(shapes) > 1:
        raise ShapeError(
            "stack: all input arrays must have the same shape, but have "
            + " and ".join(map(str, sorted(shapes)))
            + ". Use concatenate to join along an axis that they have."
        )
    place = normal_axis(axis, aval_of(items[0]).ndim + 1, "stack")
    return p.concatenate([insert_axes(x, (place,)) for x in items], place)


@surface(np.vstack, numbers=Numbers.ARRAYS)
def vstack(tup: Sequence[ArrayLike], *, dtype: DTypeLike = None) -> Value:
    """The arrays as rows, one below another."""
    return concatenate.body([atleast_2d.body(x) for x in members(tup, "vstack")], 0, dtype=dtype)


@surface(np.hstack, numbers=Numbers.ARRAYS)
def hstack(tup: Sequence[ArrayLike], *, dtype: DTypeLike = None) -> Value:
    """The arrays side by side: along axis 1, or 0 for one-dimensional ones."""
    items = [atleast_1d.body(x) for x in members(tup, "hstack")]
    return concatenate.body(items, 0 if aval_of(items[0]).ndim == 1 else 1, dtype=dtype)


@surface(np.dstack, numbers=Numbers.ARRAYS)
def dstack(tup: Sequence[ArrayLike]) -> Value:
    """The arrays stacked along the third axis."""
    return concatenate.body([atleast_3d.body(x) for x in members(tup, "dstack")], 2)


@surface(np.column_stack, numbers=Numbers.ARRAYS)
def column_stack(tup: Sequence[ArrayLike]) -> Value:
    """One-dimensional arrays as the columns of a matrix, others side by side."""
    items = members(tup, "column_stack")
    columns = [insert_axes(x, tuple(range(aval_of(x).ndim, 2))) for x in items]
    return join(columns, 1, "column_stack")


@surface(np.append, numbers=Numbers.ARRAYS)
def append(arr: ArrayLike, values: ArrayLike, axis: int | None = None) -> Value:
    """`values` after `arr`, both flattened when no axis is given."""
    return concatenate.body([arr, values], axis)


@surface(np.block)
def block(arrays: Any) -> Value:
    """Nested lists of blocks, joined along the last axes."""
    depth = _depth(arrays)
    return _joined_blocks(arrays, depth, _block_ndim(arrays, depth))


def _depth(arrays: Any) -> int:
    if not isinstance(arrays, list):
        return 0
    if not arrays:
        raise ValueError("block: lists of blocks cannot be empty")
    depths = {_depth(a) for a in arrays}
    if len(depths) > 1:
        raise ValueError("block: the lists of blocks are nested to different depths")
    return 1 + depths.pop()


def _block_ndim(arrays: Any, least: int) -> int:
    if isinstance(arrays, list):
        return max(_block_ndim(a, least) for a in arrays)
    return max(least, aval_of(as_operand(arrays, "block")).ndim)


def _joined_blocks(arrays: Any, depth: int, ndim: int) -> Value:
    if depth == 0:
        x = array_of(arrays, "block")
        return insert_axes(x, tuple(range(ndim - aval_of(x).ndim)))
    parts = strong(*(_joined_blocks(a, depth - 1, ndim) for a in arrays))
    return join(parts, ndim - depth, "block")


# -- splitting --------------------------------------------------------------------------------


def cut(x: Value, axis: int, points: Sequence[int]) -> list[Value]:
    """x cut along one axis at the given places."""
    n = aval_of(x).shape[axis]
    bounds = [0, *points, n]
    parts: list[Value] = []
    for start, stop in itertools.pairwise(bounds):
        taken = range(n)[start:stop]
        parts.append(p.slice_axis(x, axis, taken.start, max(taken.start, taken.stop)))
    return parts


def _even_points(n: int, sections: int) -> list[int]:
    """Where to cut n into sections of nearly equal length, longer ones first."""
    each, extra = divmod(n, sections)
    return [i * each + min(i, extra) for i in range(1, sections)]


@surface(np.array_split, views=True)
def array_split(ary: ArrayLike, indices_or_sections: Any, axis: int = 0) -> list[Value]:
    """The parts of an array: as many as asked for, nearly equal, or cut at the given places."""
    ary = array_of(ary, "array_split")
    place = normal_axis(axis, aval_of(ary).ndim, "array_split")
    if isinstance(indices_or_sections, (list, tuple, np.ndarray)):
        return cut(ary, place, as_shape(tuple(indices_or_sections)))
    sections = operator.index(indices_or_sections)
    if sections <= 0:
        raise ValueError("number sections must be larger than 0.")
    return cut(ary, place, _even_points(aval_of(ary).shape[place], sections))


@surface(np.split, views=True)
def split(ary: ArrayLike, indices_or_sections: Any, axis: int = 0) -> list[Value]:
    """Equal parts of an array, or parts cut at the given places."""
    ary = array_of(ary, "split")
    if not isinstance(indices_or_sections, (list, tuple, np.ndarray)):
        n = aval_of(ary).shape[normal_axis(axis, aval_of(ary).ndim, "split")]
        if n % operator.index(indices_or_sections):
            raise ShapeError(
                "array split does not result in an equal division: "
                f"{n} elements along axis {axis} into {indices_or_sections} parts. Use "
                "array_split, or pad."
            )
    return array_split.body(ary, indices_or_sections, axis)


@surface(np.hsplit, views=True)
def hsplit(ary: ArrayLike, indices_or_sections: Any) -> list[Value]:
    """Parts side by side: along axis 1, or 0 for one-dimensional arrays."""
    ary = array_of(ary, "hsplit")
    return split.body(ary, indices_or_sections, 0 if aval_of(ary).ndim == 1 else 1)


@surface(np.vsplit, views=True)
def vsplit(ary: ArrayLike, indices_or_sections: Any) -> list[Value]:
    """Parts one below another."""
    return split.body(ary, indices_or_sections, 0)


@surface(np.dsplit, views=True)
def dsplit(ary: ArrayLike, indices_or_sections: Any) -> list[Value]:
    """Parts along the third axis."""
    return split.body(ary, indices_or_sections, 2)


@surface(getattr(np, "unstack", None), views=True)
def unstack(x: ArrayLike, /, *, axis: int = 0) -> tuple[Value, ...]:
    """The members of an array along one axis."""
    x = array_of(x, "unstack")
    place = normal_axis(axis, aval_of(x).ndim, "unstack")
    shape = p.without(aval_of(x).shape, (place,))
    parts = cut(x, place, range(1, aval_of(x).shape[place]))
    return tuple(p.reshape(part, shape) for part in parts)


# -- repeating and moving -----------------------------------------------------------------------


@surface(np.tile)
def tile(A: ArrayLike, reps: ShapeLike) -> Value:  # NumPy's name
    """A repeated `reps` times along each axis."""
    a = array_of(A, "tile")
    counts = as_shape(reps)
    a = insert_axes(a, tuple(range(len(counts) - aval_of(a).ndim)))
    shape = aval_of(a).shape
    counts = (1,) * (len(shape) - len(counts)) + counts
    spread = tuple(n for pair in zip(counts, shape, strict=True) for n in pair)
    a = p.broadcast(a, spread, tuple(range(0, 2 * len(shape), 2)))
    return p.reshape(a, tuple(c * n for c, n in zip(counts, shape, strict=True)))


@surface(np.repeat, beyond=("total_repeat_length",))
def repeat(
    a: ArrayLike, repeats: Any, axis: int | None = None, *, total_repeat_length: int | None = None
) -> Value:
    """Every element repeated along `axis` (of the flattened array by default).

    Counts that differ decide the shape: their values are asked for, unless the length of the
    result is given. What does not fit into it is left out, and the last element fills it up.
    """
    a = array_of(a, "repeat")
    if axis is None:
        a, axis = p.reshape(a, (aval_of(a).size,)), 0
    place = normal_axis(axis, aval_of(a).ndim, "repeat")
    counts = as_operand(repeats, "repeat")
    n = aval_of(a).shape[place]
    if aval_of(counts).size != 1 and aval_of(counts).shape != (n,):
        raise ShapeError(
            f"repeat: {aval_of(counts).shape} counts cannot be broadcast to the {n} elements along "
            f"axis {place}"
        )
    if total_repeat_length is not None:
        if aval_of(counts).size == 1:
            counts = p.broadcast(p.reshape(counts, ()), (n,), (0,))
        rows: Any = _sources(cast(counts, INT), operator.index(total_repeat_length))
    else:
        known = known_values(counts, _GIVE_TOTAL)
        if known.size == 1:
            return _repeated(a, place, int(known.reshape(())))
        rows = np.repeat(np.arange(n), known)
    index = (slice(None),) * place + (rows,)
    return take_plan(a, plan(aval_of(a).shape, index))


_GIVE_TOTAL = "Give repeat the length of its result (total_repeat_length=n)"


def _sources(counts: Value, length: int) -> Value:
    """Of which element each of the first `length` results is a copy, for counts of all elements."""
    (ends,) = bind(cumsum_p, counts, axis=0, reverse=False)
    zeros = full(0, aval_of(ends).with_shape((length,)))
    (begins,) = bind(scatter_add_p, zeros, full_like(ends, 1), ends, axes=(0,), mode="drop")
    (rows,) = bind(cumsum_p, begins, axis=0, reverse=False)
    return e.min(rows, full_like(rows, aval_of(counts).size - 1))


def _repeated(a: Value, place: int, times: int) -> Value:
    shape = aval_of(a).shape
    spread = (*shape[: place + 1], times, *shape[place + 1 :])
    merged = (*shape[:place], shape[place] * times, *shape[place + 1 :])
    return p.reshape(p.broadcast(a, spread, (place + 1,)), merged)


@surface(np.roll)
def roll(a: ArrayLike, shift: Any, axis: Axes = None) -> Value:
    """a with its elements moved round along the axes; flattened for it when no axis is given.

    Shifts may be traced.
    """
    a = array_of(a, "roll")
    shape = aval_of(a).shape
    if axis is None:
        return p.reshape(_rolled(p.reshape(a, (aval_of(a).size,)), 0, shift), shape)
    axes = (axis,) if not isinstance(axis, Sequence) else tuple(axis)
    shifts = tuple(shift) if np.ndim(shift) else (shift,) * len(axes)
    axes = axes * len(shifts) if len(axes) == 1 else axes
    if len(axes) != len(shifts):
        raise ValueError("roll: 'shift' and 'axis' must have the same number of elements")
    for one, each in zip(axes, shifts, strict=True):
        a = _rolled(a, normal_axis(one, len(shape), "roll"), each)
    return a


def _rolled(a: Value, axis: int, shift: Any) -> Value:
    n = aval_of(a).shape[axis]
    if isinstance(getattr(shift, "aval", None), Aval):
        return _rolled_by(a, axis, shift)
    at = -operator.index(shift) % n if n else 0
    return a if at == 0 else p.concatenate(cut(a, axis, [at])[::-1], axis)


def _rolled_by(a: Value, axis: int, shift: Value) -> Value:
    """The elements from one that is computed on, of a twice in a row."""
    shift = as_operand(shift, "roll")
    if aval_of(shift).dtype.kind not in "iu":
        raise DtypeError(f"roll: the shift must be an integer, but is {aval_of(shift)}")
    shape = aval_of(a).shape
    if aval_of(a).size == 0:
        return a
    at = e.remainder(e.neg(cast(shift, INT)), full_like(cast(shift, INT), shape[axis]))
    start = full(0, aval_of(at))
    starts = [at if i == axis else start for i in range(len(shape))]
    return dynamic_slice(p.concatenate([a, a], axis), starts, shape)


@surface(np.rot90, views=True)
def rot90(m: ArrayLike, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Value:
    """m turned by k quarter turns in the plane of two axes."""
    m = array_of(m, "rot90")
    i, j = normal_axes(axes, aval_of(m).ndim, "rot90")
    turns = operator.index(k) % 4
    perm = list(range(aval_of(m).ndim))
    perm[i], perm[j] = j, i
    if turns == 1:
        return p.transpose(p.reverse(m, (j,)), tuple(perm))
    if turns == 2:
        return p.reverse(m, (i, j))
    return p.reverse(p.transpose(m, tuple(perm)), (j,)) if turns == 3 else m


@surface(np.fliplr, views=True)
def fliplr(m: ArrayLike) -> Value:
    """m with its columns in reverse order."""
    return p.reverse(array_of(m, "fliplr"), (1,))


@surface(np.flipud, views=True)
def flipud(m: ArrayLike) -> Value:
    """m with its rows in reverse order."""
    return p.reverse(array_of(m, "flipud"), (0,))
