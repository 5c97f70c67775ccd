"""Ordering: sort with several operands, and top_k; derivatives follow the permutation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.errors import ShapeError
from functrans.ir import Aval, MappedAxis, Primitive, aval_of
from functrans.primitives.derive import (
    Dims,
    Value,
    align,
    check_axes,
    first_mapped,
    move_axis,
    provide,
    require_kind,
)
from functrans.primitives.reduction import take_along
from functrans.primitives.structural import Batched, iota

Jvp = tuple[list[Value], list[Value]]
INDEX = np.dtype(np.int64)


def _sort_abstract_eval(*xs: Aval, axis: int, num_keys: int) -> list[Aval]:
    if not 1 <= num_keys <= len(xs):
        raise ValueError(f"sort: num_keys={num_keys} must lie in [1, {len(xs)}]")
    if any(x.shape != xs[0].shape for x in xs):
        given = ", ".join(map(str, xs))
        raise ShapeError(f"sort: the operands must agree in shape, but are {given}")
    check_axes("sort", (axis,), xs[0].ndim)
    for key in xs[:num_keys]:
        require_kind("sort", key.dtype, "biuf")
    return [x.strengthen() for x in xs]


def _sort_impl(*xs: Any, axis: int, num_keys: int) -> list[Any]:
    if num_keys == 1:
        order = np.argsort(xs[0], axis, kind="stable")
    else:
        order = np.lexsort(xs[:num_keys][::-1], axis)
    return [np.take_along_axis(x, order, axis) for x in xs]


def sort_jvp(primals: list[Value], tangents: list[Value], *, axis: int, num_keys: int) -> Jvp:
    """Tangents travel with their values, along the permutation that sorting an iota reveals."""
    if all(t is None for t in tangents):
        return bind(sort_p, *primals, axis=axis, num_keys=num_keys), [None] * len(primals)
    places = iota(aval_of(primals[0]).shape, INDEX, axis)
    *outs, order = bind(sort_p, *primals, places, axis=axis, num_keys=num_keys)
    return outs, [None if t is None else take_along(t, order, axis) for t in tangents]


def _sort_batch(
    mapped: MappedAxis, xs: Sequence[Value], dims: Dims, *, axis: int, num_keys: int
) -> Batched:
    dim = first_mapped(dims)
    place = axis if dim is None else axis + (axis >= dim)
    outs = bind(sort_p, *align(mapped, xs, dims, dim), axis=place, num_keys=num_keys)
    return outs, [dim] * len(outs)


sort_p = provide(
    Primitive(
        name="sort",
        abstract_eval=_sort_abstract_eval,
        impl=_sort_impl,
        jvp=sort_jvp,
        batch=_sort_batch,
        cheap=False,
    )
)


def sort(xs: Sequence[Value], axis: int, num_keys: int = 1) -> list[Value]:
    """All operands reordered together along `axis`: stable, ascending, NaN last.

    The order is lexicographic in the first `num_keys` operands.
    """
    return bind(sort_p, *xs, axis=axis, num_keys=num_keys)


def _top_k_abstract_eval(x: Aval, *, k: int) -> list[Aval]:
    require_kind("top_k", x.dtype, "biuf")
    if x.ndim == 0 or not 0 <= k <= x.shape[-1]:
        raise ShapeError(f"top_k: k={k} elements cannot be taken from the last axis of {x}")
    shape = (*x.shape[:-1], k)
    return [Aval(shape, x.dtype), Aval(shape, INDEX)]


def _top_k_impl(x: Any, *, k: int) -> list[Any]:
    """Stable from the other end: ties, NaNs among them, come out lowest index first."""
    backwards = np.argsort(x[..., ::-1], -1, kind="stable")[..., ::-1][..., :k]
    index = x.shape[-1] - 1 - backwards
    return [np.take_along_axis(x, index, -1), index.astype(INDEX)]


def top_k_jvp(primals: list[Value], tangents: list[Value], *, k: int) -> Jvp:
    """The tangents of the chosen elements."""
    (x,), (t,) = primals, tangents
    best, index = bind(top_k_p, x, k=k)
    if t is None:
        return [best, index], [None, None]
    return [best, index], [take_along(t, index, aval_of(x).ndim - 1), None]


def _top_k_batch(axis: MappedAxis, xs: Sequence[Value], dims: Dims, *, k: int) -> Batched:
    if dims[0] is None:
        return bind(top_k_p, *xs, k=k), [None, None]
    return bind(top_k_p, move_axis(xs[0], dims[0], 0), k=k), [0, 0]


top_k_p = Primitive(
    name="top_k",
    abstract_eval=_top_k_abstract_eval,
    impl=_top_k_impl,
    jvp=top_k_jvp,
    batch=_top_k_batch,
    cheap=False,
)


def top_k(x: Value, k: int) -> list[Value]:
    """The k largest elements along the last axis, largest first, and their int64 indices.

    A NaN counts as larger than any number; among equals the lowest index comes first.
    """
    return bind(top_k_p, x, k=k)
