"""Functions applied along an axis: map one by one, associative_scan and reduce in halves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from functrans import tree
from functrans.api.arguments import require_callable
from functrans.api.border import Function, finish
from functrans.api.mapping import vmap
from functrans.errors import ShapeError, TransformTypeError, describe, name_of, where
from functrans.ir import aval_of
from functrans.lax.loops import scan
from functrans.lax.staging import Leaves
from functrans.lax.windows import known_monoid
from functrans.primitives import reduction
from functrans.primitives import structural as p
from functrans.primitives.derive import broadcast_at, without
from functrans.surface.axes import normal_axes, normal_axis
from functrans.surface.promotion import cast, stretch
from functrans.surface.windows import Monoid


def map(f: Function, xs: Any, *, batch_size: int | None = None) -> Any:
    """`f` of every slice of xs along the first axis, one after the other, stacked.

    With `batch_size`, so many at a time by vmap: faster, for more memory.

    >>> map(lambda x: x**2, np.arange(3.))
    array([0., 1., 4.])
    """
    require_callable(f, "map")
    leaves = Leaves.of(xs, "map: xs")
    if batch_size is None:
        return scan(lambda _, x: (None, f(x)), None, xs)[1]
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
        raise TransformTypeError(
            f"map: batch_size must be an int, but it is {describe(batch_size)} ({where(f)})."
        )
    length = _common_length("map", leaves, f)
    size = max(min(int(batch_size), length), 1)
    whole = length // size * size
    blocks = [
        p.reshape(p.slice_axis(x, 0, 0, whole), (whole // size, size, *aval_of(x).shape[1:]))
        for x in leaves.values
    ]
    _, done = scan(lambda _, x: (None, vmap(f)(x)), None, leaves.rebuild(blocks))
    done = tree.map(lambda y: p.reshape(y, (whole, *aval_of(y).shape[2:])), done)
    if whole == length:
        return done
    rest = vmap(f)(leaves.rebuild([p.slice_axis(x, 0, whole, length) for x in leaves.values]))
    return tree.map(lambda a, b: p.concatenate([a, b], 0), done, rest)


def _common_length(what: str, xs: Leaves, f: Function) -> int:
    lengths = {a.shape[0] if a.shape else None for a in xs.avals}
    if len(lengths) != 1 or None in lengths:
        shown = ", ".join(f"{n} {describe(a)}" for n, a in zip(xs.names, xs.avals, strict=True))
        raise ShapeError(
            f"{what}: all of xs must have one first axis, but there are {shown or 'no leaves'} "
            f"({where(f)})."
        )
    return lengths.pop()  # type: ignore[return-value]


def associative_scan(fn: Function, elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """All the running folds of an associative function: `x0, fn(x0, x1), fn(fn(x0, x1), x2), ...`.

    `fn` takes and returns pytrees like `elems`, of any number of elements at once along `axis`.
    Pairs are folded first, then pairs of pairs: few calls of `fn`, on many elements each.

    >>> associative_scan(np.add, np.arange(1., 6.))
    array([ 1.,  3.,  6., 10., 15.])
    """
    require_callable(fn, "associative_scan")
    leaves = Leaves.of(elems, "associative_scan: elems")
    lines = [normal_axis(axis, aval_of(x).ndim, "associative_scan") for x in leaves.values]
    sizes = {aval_of(x).shape[d] for x, d in zip(leaves.values, lines, strict=True)}
    if len(sizes) != 1:
        raise ShapeError(
            f"associative_scan: the leaves of elems must be of one length along axis {axis}, but "
            f"have {sorted(sizes)} ({where(fn)})."
        )

    def along(values: Sequence[Any], start: int, stop: int | None, step: int = 1) -> list[Any]:
        return [_strided(x, d, start, stop, step) for x, d in zip(values, lines, strict=True)]

    def fold(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
        out = fn(leaves.rebuild(a), leaves.rebuild(b))
        tree.check_structure(
            leaves.treedef,
            out,
            f"associative_scan: {name_of(fn)} ({where(fn)}) must return the structure of elems, "
            "but it differs",
        )
        found = Leaves.of(out, f"associative_scan: the result of {name_of(fn)}").values
        return [cast(x, aval.dtype) for x, aval in zip(found, leaves.avals, strict=True)]

    def running(values: list[Any], size: int) -> list[Any]:
        """The folds of values, of which there are `size`: every second one from half as many."""
        if size < 2:
            return values
        odd = running(fold(along(values, 0, size - 1, 2), along(values, 1, None, 2)), size // 2)
        even = along(values, 0, 1)
        if size > 2:
            before = along(odd, 0, (size - 1) // 2)
            more = fold(before, along(values, 2, None, 2))
            even = [p.concatenate(ab, d) for *ab, d in zip(even, more, lines, strict=True)]
        return [_interleaved(a, b, d) for a, b, d in zip(even, odd, lines, strict=True)]

    turn = [p.reverse(x, (d,)) for x, d in zip(leaves.values, lines, strict=True)]
    found = running(turn if reverse else leaves.values, sizes.pop())
    if reverse:
        found = [p.reverse(x, (d,)) for x, d in zip(found, lines, strict=True)]
    return leaves.rebuild(finish(found, leaves.avals, leaves.values))


def _strided(x: Any, axis: int, start: int, stop: int | None, step: int) -> Any:
    shape = aval_of(x).shape
    bounds = [
        (start, n if stop is None else min(stop, n), step) if i == axis else (0, n, 1)
        for i, n in enumerate(shape)
    ]
    starts, stops, steps = zip(*bounds, strict=True)
    return p.slice(x, starts, stops, steps)


def _interleaved(even: Any, odd: Any, axis: int) -> Any:
    """even[0], odd[0], even[1], ... along an axis; odd may have one element less."""
    shape = aval_of(odd).shape
    alike = [p.slice_axis(x, axis, 0, shape[axis]) for x in (even, odd)]
    pairs = [broadcast_at(x, 1, axis + 1) for x in alike]
    doubled = tuple(2 * n if i == axis else n for i, n in enumerate(shape))
    both = p.reshape(p.concatenate(pairs, axis + 1), doubled)
    left = _strided(even, axis, shape[axis], None, 1)
    return both if aval_of(left).size == 0 else p.concatenate([both, left], axis)


def reduce(
    operands: Any,
    init_values: Any,
    computation: Callable[[Any, Any], Any],
    dimensions: Sequence[int],
) -> Any:
    """Fold the operands along `dimensions` by an associative `computation`, from `init_values`.

    `computation(a, b)` takes and returns pytrees like `operands`, of arrays of one shape; what is
    associative may be folded in halves. Maxima, minima, sums and products, from what changes
    nothing, are the reductions of these names.

    >>> reduce(np.arange(6.).reshape(2, 3), 0.0, np.add, (1,))
    array([ 3., 12.])
    """
    require_callable(computation, "reduce")
    leaves, start = Leaves.of(operands, "reduce: operands"), Leaves.of(init_values, "init_values")
    what = f"reduce: {name_of(computation)} ({where(computation)})"
    tree.check_structure(
        leaves.treedef, init_values, "reduce: init_values must have the structure of operands, but"
    )
    shapes = {a.shape for a in leaves.avals}
    if len(shapes) != 1:
        raise ShapeError(f"reduce: the operands must have one shape, but have {sorted(shapes)}.")
    (shape,) = shapes
    axes = normal_axes(tuple(dimensions), len(shape), "reduce")
    monoid = None
    if len(leaves.values) == 1:
        monoid = known_monoid(computation, start.values[0], leaves.avals[0].dtype)
    if monoid is not None:
        made = [REDUCTIONS[monoid](leaves.values[0], axes)]
        return leaves.rebuild(finish(made, [aval_of(made[0])], leaves.values))

    def fold(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
        out = computation(leaves.rebuild(a), leaves.rebuild(b))
        tree.check_structure(
            leaves.treedef, out, f"{what} must return the structure of operands, but it differs"
        )
        found = Leaves.of(out, f"the result of {what}").values
        return [cast(x, aval.dtype) for x, aval in zip(found, leaves.avals, strict=True)]

    kept = without(shape, axes)
    size = math.prod(shape[a] for a in axes)
    order = (*axes, *[i for i in range(len(shape)) if i not in axes])
    rows = [p.reshape(p.transpose(x, order), (size, *kept)) for x in leaves.values]
    total = [
        stretch(cast(x, a.dtype), kept) for x, a in zip(start.values, leaves.avals, strict=True)
    ]
    if size:
        total = fold(total, [p.reshape(x, kept) for x in _in_halves(rows, size, fold)])
    return leaves.rebuild(finish(total, [aval_of(x) for x in total], leaves.values))


REDUCTIONS: dict[Monoid, Callable[..., Any]] = {
    "add": p.reduce_sum,
    "mul": reduction.reduce_prod,
    "max": reduction.reduce_max,
    "min": reduction.reduce_min,
}


def _in_halves(rows: list[Any], size: int, fold: Callable[..., list[Any]]) -> list[Any]:
    """The one row that folding neighbours, again and again, leaves."""
    while size > 1:
        pairs = size // 2
        folded = fold(
            [_strided(x, 0, 0, 2 * pairs, 2) for x in rows],
            [_strided(x, 0, 1, 2 * pairs, 2) for x in rows],
        )
        if size % 2:
            folded = [
                p.concatenate([f, p.slice_axis(x, 0, size - 1, size)], 0)
                for f, x in zip(folded, rows, strict=True)
            ]
        rows, size = folded, size - pairs
    return rows
