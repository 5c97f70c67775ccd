"""Indexing: dynamic slices, gather and the scatter family; each pair is the other's transpose.

`gather(x, *indices; axes, mode)` takes, along the axes listed, the elements that int64 index
arrays of one shape I name: the result has the shape I + (the other axes of x). A scatter puts
updates of that shape back into a copy of x. Negative indices count from the end; `mode` says
what an index outside [-n, n) means. Long, because the seven primitives are each other's rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import DtypeError, OutOfBoundsError, ShapeError
from functrans.ir import Aval, MappedAxis, Primitive, aval_of, is_inexact
from functrans.primitives.derive import (
    Dims,
    Value,
    add_all,
    check_axes,
    full,
    full_like,
    inserted,
    instantiating,
    is_linear,
    linear,
    move_axis,
    provide,
    provided,
    require_kind,
    shifted,
    to_front,
    without,
)
from functrans.primitives.elementwise import (
    add,
    and_,
    eq,
    ge,
    lt,
    mask,
    max,
    min,
    mul,
    ne,
    reciprocal,
    scale,
)
from functrans.primitives.structural import (
    ANY,
    Axes,
    Batched,
    Shape,
    broadcast,
    concatenate,
    iota,
    reshape,
    select,
    slice_axis,
    transpose,
)

Jvp = tuple[list[Value], list[Value]]
INDEX = np.dtype(np.int64)
GATHER_MODES = ("raise", "clip", "fill", "zero")
SCATTER_MODES = ("raise", "clip", "drop")


def _of(operand: Value) -> Aval:
    """The aval of an operand of a transpose rule, linear or not."""
    return operand.aval if is_linear(operand) else aval_of(operand)


# -- dynamic_slice and dynamic_update_slice ---------------------------------------------------


def _check_starts(name: str, x: Aval, starts: Sequence[Aval], sizes: Shape) -> None:
    if len(starts) != x.ndim or any(s.shape != () or s.dtype != INDEX for s in starts):
        given = ", ".join(map(str, starts))
        raise ShapeError(f"{name}: {x} needs {x.ndim} int64 scalars as starts, but got {given}")
    if len(sizes) != x.ndim or not all(0 <= s <= n for s, n in zip(sizes, x.shape, strict=True)):
        raise ShapeError(f"{name}: a part of shape {sizes} does not fit into {x}")


def _window(shape: Shape, starts: Sequence[Any], sizes: Shape) -> tuple[slice, ...]:
    """The slices that start where asked, moved so that they end inside."""
    firsts = [int(np.clip(s, 0, n - k)) for s, n, k in zip(starts, shape, sizes, strict=True)]
    return tuple(slice(f, f + k) for f, k in zip(firsts, sizes, strict=True))


def _dynamic_slice_abstract_eval(x: Aval, *starts: Aval, sizes: Shape) -> list[Aval]:
    _check_starts("dynamic_slice", x, starts, sizes)
    return [Aval(sizes, x.dtype)]


def _dynamic_slice_impl(x: Any, *starts: Any, sizes: Shape) -> list[Any]:
    return [np.asarray(x[_window(x.shape, starts, sizes)])]


def dynamic_slice_transpose(
    cts: list[Value], x: Value, *starts: Value, sizes: Shape
) -> list[Value]:
    """The cotangent put back in its place among zeros."""
    zeros = full(0, _of(x))
    return [dynamic_update_slice(zeros, cts[0], starts), *(None for _ in starts)]


def _dynamic_slice_batch(
    axis: MappedAxis, xs: Sequence[Value], dims: Dims, *, sizes: Shape
) -> Batched:
    (x, *starts), (dim, *start_dims) = xs, dims
    if all(d is None for d in start_dims):
        if dim is None:
            return [dynamic_slice(x, starts, sizes)], [None]
        starts = inserted(starts, dim, INDEX.type(0))
        return [dynamic_slice(x, starts, inserted(sizes, dim, axis.size))], [dim]
    (x,) = to_front(axis, [x], [dim])
    indices, axes = _window_indices(axis, aval_of(x).shape[1:], starts, start_dims, sizes)
    taken = gather(x, indices, axes, "clip")
    return [transpose(taken, inverse_order(_window_order(sizes, axes)))], [0]


def _window_indices(
    mapped: MappedAxis, shape: Shape, starts: Sequence[Value], dims: Dims, sizes: Shape
) -> tuple[list[Value], Axes]:
    """Index arrays that name every member's window, and the axes of the batch they index.

    Axes that the window fills completely are not indexed.
    """
    axes = tuple(i for i, (n, k) in enumerate(zip(shape, sizes, strict=True)) if n != k)
    grid = (mapped.size, *(sizes[a] for a in axes))
    indices = [iota(grid, INDEX, 0)]
    for place, a in enumerate(axes, 1):
        first = min(
            max(starts[a], full_like(starts[a], 0)), full_like(starts[a], shape[a] - sizes[a])
        )
        kept = () if dims[a] is None else (0,)
        spread = broadcast(first, grid, tuple(i for i in range(len(grid)) if i not in kept))
        indices.append(add(spread, iota(grid, INDEX, place)))
    return indices, (0, *(a + 1 for a in axes))


def _window_order(sizes: Shape, axes: Axes) -> Axes:
    """The order of axes in which gather and scatter hold a batch of windows."""
    return (*axes, *(i for i in range(len(sizes) + 1) if i not in axes))


def inverse_order(perm: Axes) -> Axes:
    """The permutation that undoes `perm`."""
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


dynamic_slice_p = linear(
    "dynamic_slice",
    abstract_eval=_dynamic_slice_abstract_eval,
    impl=_dynamic_slice_impl,
    transpose=dynamic_slice_transpose,
    batch=_dynamic_slice_batch,
    operands=(0,),
)


def dynamic_slice(x: Value, starts: Sequence[Value], sizes: Shape) -> Value:
    """The part of x of shape `sizes` at int64 scalars `starts`, moved to lie inside x."""
    return bind(dynamic_slice_p, x, *starts, sizes=tuple(sizes))[0]


def _update_abstract_eval(x: Aval, update: Aval, *starts: Aval) -> list[Aval]:
    _check_starts("dynamic_update_slice", x, starts, update.shape)
    if update.dtype != x.dtype:
        raise DtypeError(f"dynamic_update_slice: cannot write {update} into {x}")
    return [Aval(x.shape, x.dtype)]


def _update_impl(x: Any, update: Any, *starts: Any) -> list[Any]:
    out = np.array(x)
    out[_window(x.shape, starts, update.shape)] = update
    return [out]


def dynamic_update_slice_transpose(
    cts: list[Value], x: Value, update: Value, *starts: Value
) -> list[Value]:
    """x keeps what was not overwritten, the update takes its window."""
    (ct,) = cts
    aval = _of(update)
    ct_x = dynamic_update_slice(ct, full(0, aval), starts) if is_linear(x) else None
    ct_update = dynamic_slice(ct, starts, aval.shape) if is_linear(update) else None
    return [ct_x, ct_update, *(None for _ in starts)]


def _update_batch(axis: MappedAxis, xs: Sequence[Value], dims: Dims) -> Batched:
    (x, update, *starts), (_, _, *start_dims) = xs, dims
    x, update = to_front(axis, [x, update], dims[:2])
    if all(d is None for d in start_dims):
        return [dynamic_update_slice(x, update, [INDEX.type(0), *starts])], [0]
    sizes = aval_of(update).shape[1:]
    indices, axes = _window_indices(axis, aval_of(x).shape[1:], starts, start_dims, sizes)
    return [scatter(x, transpose(update, _window_order(sizes, axes)), indices, axes, "clip")], [0]


dynamic_update_slice_p = linear(
    "dynamic_update_slice",
    abstract_eval=_update_abstract_eval,
    impl=_update_impl,
    transpose=dynamic_update_slice_transpose,
    batch=_update_batch,
    operands=(0, 1),
)


def dynamic_update_slice(x: Value, update: Value, starts: Sequence[Value]) -> Value:
    """x with `update` written over the part at int64 scalars `starts`, moved to lie inside x."""
    return bind(dynamic_update_slice_p, x, update, *starts)[0]


# -- indices ----------------------------------------------------------------------------------


def _gathered_shape(name: str, x: Aval, indices: Sequence[Aval], axes: Axes) -> Shape:
    """I + the other axes of x, once indices and axes are found to be in order."""
    check_axes(name, axes, x.ndim)
    if not axes or len(indices) != len(axes):
        raise ShapeError(f"{name}: {len(indices)} index arrays for the axes {axes} of {x}")
    for index in indices:
        if index.dtype != INDEX or index.shape != indices[0].shape:
            given = ", ".join(map(str, indices))
            raise ShapeError(f"{name}: indices must be int64 arrays of one shape, but are {given}")
    return (*indices[0].shape, *without(x.shape, axes))


def _check_mode(
    name: str, mode: str, modes: Sequence[str], x: Aval, index: Aval, axes: Axes
) -> None:
    if mode not in modes:
        raise ValueError(f"{name}: mode must be one of {', '.join(modes)}, not {mode!r}")
    if mode == "clip" and index.size and 0 in (x.shape[a] for a in axes):
        raise ShapeError(f"{name}: no index can be clipped into the empty axes of {x}")


def _resolve(name: str, shape: Shape, indices: Sequence[Any], axes: Axes, mode: str) -> Any:
    """Indices in [0, n) where they can be, and an array that says where they are inside."""
    resolved, inside = [], np.ones(indices[0].shape, bool)
    for index, a in zip(indices, axes, strict=True):
        n = shape[a]
        positive = np.where(index < 0, index + n, index)
        ok = (positive >= 0) & (positive < n)
        if mode == "raise" and not ok.all():
            bad = index[~ok].flat[0]
            raise OutOfBoundsError(
                f"{name}: index {bad} is out of bounds for axis {a} with size {n}"
            )
        inside &= ok
        resolved.append(np.clip(positive, 0, builtin_max(n - 1, 0)))
    return tuple(resolved), inside


def builtin_max(a: int, b: int) -> int:
    """The larger of two Python ints (`max` here is the primitive)."""
    return a if a > b else b


def indexed_first(ndim: int, axes: Axes) -> Axes:
    """The order of x's axes with the indexed ones first."""
    return (*axes, *(i for i in range(ndim) if i not in axes))


# -- gather -----------------------------------------------------------------------------------


def _gather_abstract_eval(x: Aval, *indices: Aval, axes: Axes, mode: str) -> list[Aval]:
    shape = _gathered_shape("gather", x, indices, axes)
    _check_mode("gather", mode, GATHER_MODES, x, indices[0], axes)
    return [Aval(shape, x.dtype)]


def _gather_impl(x: Any, *indices: Any, axes: Axes, mode: str) -> list[Any]:
    resolved, inside = _resolve("gather", x.shape, indices, axes, mode)
    rows = x.transpose(indexed_first(x.ndim, axes))
    fill = x.dtype.type(math.nan if mode == "fill" and is_inexact(x.dtype) else 0)
    if 0 in rows.shape[: len(axes)]:
        return [np.full(indices[0].shape + rows.shape[len(axes) :], fill, x.dtype)]
    out = np.asarray(rows[resolved])
    if mode in ("fill", "zero"):
        out = np.where(_spread(inside, out.ndim), out, fill)
    return [out]


def _spread(inside: Any, ndim: int) -> Any:
    return inside.reshape(inside.shape + (1,) * (ndim - inside.ndim))


def gather_jvp(primals: list[Value], tangents: list[Value], *, axes: Axes, mode: str) -> Jvp:
    """Tangents are gathered; what was filled in does not move."""
    x, *indices = primals
    out = gather(x, indices, axes, mode)
    if tangents[0] is None:
        return [out], [None]
    return [out], [gather(tangents[0], indices, axes, "zero" if mode == "fill" else mode)]


def gather_transpose(
    cts: list[Value], x: Value, *indices: Value, axes: Axes, mode: str
) -> list[Value]:
    """Every taken element gets the sum of its copies' cotangents."""
    back = mode if mode in SCATTER_MODES else "drop"
    return [scatter_add(full(0, _of(x)), cts[0], indices, axes, back), *(None for _ in indices)]


def _gather_batch(
    axis: MappedAxis, xs: Sequence[Value], dims: Dims, *, axes: Axes, mode: str
) -> Batched:
    (x, *indices), (dim, *index_dims) = xs, dims
    if all(d is None for d in index_dims):
        if dim is None:
            return [gather(x, indices, axes, mode)], [None]
        moved = shifted(axes, dim)
        place = aval_of(indices[0]).ndim + dim - sum(a < dim for a in moved)
        return [gather(x, indices, moved, mode)], [place]
    indices = to_front(axis, indices, index_dims)
    if dim is None:
        return [gather(x, indices, axes, mode)], [0]
    member = iota(aval_of(indices[0]).shape, INDEX, 0)
    return [gather(x, [member, *indices], (dim, *shifted(axes, dim)), mode)], [0]


gather_p = provide(
    Primitive(
        name="gather",
        abstract_eval=_gather_abstract_eval,
        impl=_gather_impl,
        jvp=gather_jvp,
        transpose=gather_transpose,
        batch=_gather_batch,
    )
)


def gather(x: Value, indices: Sequence[Value], axes: Axes, mode: str) -> Value:
    """The elements of x that `indices` name along `axes`; see this file's docstring.

    mode: "raise" (OutOfBoundsError), "clip" (the nearest valid index), "fill" (NaN, or 0 for
    dtypes without one), "zero".
    """
    return bind(gather_p, x, *indices, axes=tuple(axes), mode=mode)[0]


# -- the scatter family -----------------------------------------------------------------------


def _scatter_abstract_eval(name: str, kinds: str) -> Callable[..., list[Aval]]:
    def abstract_eval(x: Aval, updates: Aval, *indices: Aval, axes: Axes, mode: str) -> list[Aval]:
        require_kind(name, x.dtype, kinds)
        shape = _gathered_shape(name, x, indices, axes)
        _check_mode(name, mode, SCATTER_MODES, x, indices[0], axes)
        if updates.shape != shape or updates.dtype != x.dtype:
            expected = Aval(shape, x.dtype)
            raise ShapeError(f"{name}: the updates must be {expected}, but are {updates}")
        return [Aval(x.shape, x.dtype)]

    return abstract_eval


def _scatter_impl(name: str, put: Callable[[Any, Any, Any], None]) -> Callable[..., list[Any]]:
    """`put(rows, where, updates)` writes; `rows` shows a copy of x with its indexed axes first."""

    def impl(x: Any, updates: Any, *indices: Any, axes: Axes, mode: str) -> list[Any]:
        resolved, inside = _resolve(name, x.shape, indices, axes, mode)
        out = np.array(x, order="C")
        rows = out.transpose(indexed_first(x.ndim, axes))
        if mode == "drop":
            put(rows, tuple(r[inside] for r in resolved), updates[inside])
        else:
            put(rows, resolved, updates)
        return [out]

    return impl


def _assign(rows: Any, where: tuple[Any, ...], updates: Any) -> None:
    """Write the last update of each place."""
    size = where[0].size
    if size == 0:
        return
    flat = tuple(w.reshape(size) for w in where)
    place: Any = np.ravel_multi_index(flat, rows.shape[: len(where)])
    from_end: Any = np.unique(place[::-1], return_index=True)[1]
    last: Any = size - 1 - from_end
    rows[tuple(f[last] for f in flat)] = updates.reshape((size, *rows.shape[len(where) :]))[last]


def _scatter_batch(primitive: Callable[[], Primitive]) -> Callable[..., Batched]:
    def batch(
        axis: MappedAxis, xs: Sequence[Value], dims: Dims, *, axes: Axes, mode: str
    ) -> Batched:
        (x, updates, *indices), (x_dim, dim, *index_dims) = xs, dims
        (x,) = to_front(axis, [x], [x_dim])
        moved = shifted(axes, 0)
        if all(d is None for d in index_dims):
            place = aval_of(indices[0]).ndim
            (updates,) = to_front(axis, [updates], [dim])
            updates = move_axis(updates, 0, place)
        else:
            indices = to_front(axis, indices, index_dims)
            (updates,) = to_front(axis, [updates], [dim])
            indices = [iota(aval_of(indices[0]).shape, INDEX, 0), *indices]
            moved = (0, *moved)
        return bind(primitive(), x, updates, *indices, axes=moved, mode=mode), [0]

    return batch


def _back_mode(mode: str) -> str:
    """The mode in which gather reads what a scatter of `mode` wrote."""
    return "zero" if mode == "drop" else mode


def _only_winners(values: Value, indices: Sequence[Value], x: Aval, axes: Axes, mode: str) -> Value:
    """`values` (of updates) where the update was the last for its place, 0 elsewhere."""
    shape = aval_of(indices[0]).shape
    size = math.prod(shape)
    if size <= 1:
        return values
    number = reshape(iota((size,), INDEX, 0), shape)
    places = Aval(tuple(x.shape[a] for a in axes), INDEX)
    order = tuple(range(len(axes)))
    last = scatter(full(0, places), number, indices, order, mode)
    wins = eq(gather(last, indices, order, _back_mode(mode)), number)
    return select(_over_rows(wins, values), values, full_like(values, 0))


def _over_rows(pred: Value, values: Value) -> Value:
    """A predicate on I repeated over the other axes of `values`."""
    shape = aval_of(values).shape
    return broadcast(pred, shape, tuple(range(aval_of(pred).ndim, len(shape))))


def scatter_transpose(
    cts: list[Value], x: Value, updates: Value, *indices: Value, axes: Axes, mode: str
) -> list[Value]:
    """x keeps what nothing overwrote; of the updates for one place only the last counts."""
    (ct,) = cts
    ct_x = ct_updates = None
    if is_linear(x):
        ct_x = scatter(ct, full(0, _of(updates)), indices, axes, mode)
    if is_linear(updates):
        taken = gather(ct, indices, axes, _back_mode(mode))
        ct_updates = _only_winners(taken, indices, _of(x), axes, mode)
    return [ct_x, ct_updates, *(None for _ in indices)]


def scatter_add_transpose(
    cts: list[Value], x: Value, updates: Value, *indices: Value, axes: Axes, mode: str
) -> list[Value]:
    """x gets the cotangent, every update that of the place it was added to."""
    (ct,) = cts
    taken = gather(ct, indices, axes, _back_mode(mode)) if is_linear(updates) else None
    return [ct if is_linear(x) else None, taken, *(None for _ in indices)]


def _scatter_linear(name: str, put: Any, transpose_rule: Any, kinds: str) -> Primitive:
    primitive = linear(
        name,
        abstract_eval=_scatter_abstract_eval(name, kinds),
        impl=_scatter_impl(name, put),
        transpose=transpose_rule,
        batch=_scatter_batch(lambda: primitive),
        operands=(0, 1),
        cheap=False,
    )
    return primitive


scatter_p = _scatter_linear("scatter", _assign, scatter_transpose, ANY)
scatter_add_p = _scatter_linear("scatter_add", np.add.at, scatter_add_transpose, "iufc")


def _scatter_constructor(primitive: Primitive) -> Callable[..., Value]:
    def apply(x: Value, updates: Value, indices: Sequence[Value], axes: Axes, mode: str) -> Value:
        return bind(primitive, x, updates, *indices, axes=tuple(axes), mode=mode)[0]

    apply.__name__ = apply.__qualname__ = primitive.name
    return apply


scatter = _scatter_constructor(scatter_p)
scatter_add = _scatter_constructor(scatter_add_p)


# -- scatter_min and scatter_max --------------------------------------------------------------


def _scatter_extremum_jvp(primitive: Callable[[], Primitive]) -> Callable[..., Jvp]:
    """The mean of the tangents of all that attain the extremum at a place, x's own included."""

    @instantiating
    def jvp(primals: list[Value], tangents: list[Value], *, axes: Axes, mode: str) -> Jvp:
        (x, updates, *indices), (t, t_updates, *_) = primals, tangents
        outs = bind(primitive(), *primals, axes=axes, mode=mode)
        if t is None:
            return outs, [None]
        (out,) = outs
        kept = eq(x, out)
        won = eq(updates, gather(out, indices, axes, _back_mode(mode)))
        count = scatter_add(mask(kept, x), mask(won, x), indices, axes, mode)
        moved = scatter_add(
            select(kept, t, full_like(t, 0)),
            select(won, t_updates, full_like(updates, 0)),
            indices,
            axes,
            mode,
        )
        return outs, [scale(moved, reciprocal(count))]

    return jvp


def _scatter_nonlinear(name: str, put: Any, kinds: str, jvp: Callable[..., Jvp]) -> Primitive:
    primitive = Primitive(
        name=name,
        abstract_eval=_scatter_abstract_eval(name, kinds),
        impl=_scatter_impl(name, put),
        jvp=jvp,
        batch=_scatter_batch(lambda: primitive),
        cheap=False,
    )
    return primitive


scatter_min_p = _scatter_nonlinear(
    "scatter_min", np.minimum.at, "biuf", _scatter_extremum_jvp(lambda: scatter_min_p)
)
scatter_max_p = _scatter_nonlinear(
    "scatter_max", np.maximum.at, "biuf", _scatter_extremum_jvp(lambda: scatter_max_p)
)
scatter_min = _scatter_constructor(scatter_min_p)
scatter_max = _scatter_constructor(scatter_max_p)


# -- scatter_mul ------------------------------------------------------------------------------


@instantiating
def scatter_mul_jvp(primals: list[Value], tangents: list[Value], *, axes: Axes, mode: str) -> Jvp:
    """The product rule at each place, over x and all the updates that meet there."""
    (x, updates, *indices), (t, t_updates, *_) = primals, tangents
    outs = bind(scatter_mul_p, *primals, axes=axes, mode=mode)
    if t is None:
        return outs, [None]
    moved = _moved_products(x, updates, t_updates, indices, axes, mode)
    by_x = scatter_mul(t, updates, indices, axes, mode)
    return outs, [add_all([by_x, scale(moved, x)])]


def _moved_products(
    x: Value, updates: Value, t: Value, indices: Sequence[Value], axes: Axes, mode: str
) -> Value:
    """For every place of x the tangent of the product of its updates; 0 where there are none.

    Updates are sorted by place, and runs of 1, 2, 4, ... neighbours multiplied (Hillis and
    Steele), so that nothing is divided by and each update's tangent meets the others once.
    """
    aval, ndim = aval_of(x), aval_of(indices[0]).ndim
    sizes = tuple(aval.shape[a] for a in axes)
    indices, inside = _normalised(indices, sizes, mode)
    if mode == "drop":
        updates = select(_over_rows(inside, updates), updates, full_like(updates, 1))
        t = select(_over_rows(inside, t), t, full_like(t, 0))
    count = math.prod(aval_of(indices[0]).shape)
    place = reshape(_raveled(indices, sizes), (count,))
    place, order = bind(provided("sort"), place, iota((count,), INDEX, 0), axis=0, num_keys=1)
    rows = (count, *aval_of(updates).shape[ndim:])
    u, t = (gather(reshape(v, rows), [order], (0,), "clip") for v in (updates, t))
    t = _segment_tangents(place, u, t)
    where = [gather(reshape(i, (count,)), [order], (0,), "clip") for i in indices]
    return scatter_add(full(0, aval), t, where, axes, "clip")


def _normalised(indices: Sequence[Value], sizes: Shape, mode: str) -> tuple[list[Value], Value]:
    """Indices in [0, n), 0 for those outside that are dropped, and a mask of those inside."""
    found: list[Value] = []
    inside = None
    for index, n in zip(indices, sizes, strict=True):
        zero, size = full_like(index, 0), full_like(index, n)
        index = select(lt(index, zero), add(index, size), index)
        ok = and_(ge(index, zero), lt(index, size))
        inside = ok if inside is None else and_(inside, ok)
        found.append(index)
    if mode == "clip":
        found = [
            min(max(i, full_like(i, 0)), full_like(i, n - 1))
            for i, n in zip(found, sizes, strict=True)
        ]
    elif mode == "drop":
        found = [select(inside, i, full_like(i, 0)) for i in found]
    return found, inside


def _raveled(indices: Sequence[Value], sizes: Shape) -> Value:
    """The position that the indices name in an array of shape `sizes`, in C order."""
    place = indices[0]
    for index, n in zip(indices[1:], sizes[1:], strict=True):
        place = add(mul(place, full_like(place, n)), index)
    return place


def _segment_tangents(place: Value, u: Value, t: Value) -> Value:
    """The tangent of the product over each run of equal `place`, at its last row, else 0."""
    count = aval_of(place).shape[0]
    steps = 1
    rule = provided("mul").jvp
    assert rule is not None
    while steps < count:
        together = _over_rows(eq(place, _delayed(place, steps, -1)), u)
        u_before = select(together, _delayed(u, steps, 1), full_like(u, 1))
        t_before = select(together, _delayed(t, steps, 0), full_like(t, 0))
        (u,), (t,) = rule([u_before, u], [t_before, t])
        steps *= 2
    if count <= 1:
        return t
    end = full(-1, Aval((1,), INDEX))
    following = concatenate([slice_axis(place, 0, 1, count), end], 0)
    return select(_over_rows(ne(place, following), t), t, full_like(t, 0))


def _delayed(x: Value, steps: int, fill: float) -> Value:
    """x moved `steps` rows down, `fill` in the first rows."""
    aval = aval_of(x)
    head = full(fill, Aval((steps, *aval.shape[1:]), aval.dtype))
    return concatenate([head, slice_axis(x, 0, 0, aval.shape[0] - steps)], 0)


def scatter_mul_transpose(
    cts: list[Value], x: Value, updates: Value, *indices: Value, axes: Axes, mode: str
) -> list[Value]:
    """Linear in x: the same factors."""
    ct_x = scatter_mul(cts[0], updates, indices, axes, mode) if is_linear(x) else None
    return [ct_x, None, *(None for _ in indices)]


scatter_mul_p = Primitive(
    name="scatter_mul",
    abstract_eval=_scatter_abstract_eval("scatter_mul", "iufc"),
    impl=_scatter_impl("scatter_mul", np.multiply.at),
    jvp=scatter_mul_jvp,
    transpose=scatter_mul_transpose,
    batch=_scatter_batch(lambda: scatter_mul_p),
    cheap=False,
)
scatter_mul = _scatter_constructor(scatter_mul_p)
