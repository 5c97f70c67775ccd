"""Windows are index functions; sums of windows choose where none overlap, and else are added up."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from functrans.extend import Atom, Eqn, Primitive, primitives
from jit.loop_ir.nodes import Buffer
from jit.lowering.index import ZERO, Index, Point, constant
from jit.lowering.root import RootContext
from jit.lowering.rules import EquationBuilder, Pair, Walk, expands, lowers, lowers_root

ft = primitives.windows

BLOCK, SHORT_STRIDE = 1024, 4
"""So many places of a line are taken offset by offset, on vectors, where windows lie so close."""

apart_p = Primitive(
    name="overlap", abstract_eval=ft.overlap_p.abstract_eval, impl=ft.overlap_p.impl
)
"""overlap of windows that do not."""


@lowers(ft.windows_p)
def lower_windows(walk: Walk, eqn: Eqn, point: Point) -> Any:
    """place * stride + offset * dilation."""
    (x,), multi = eqn.inputs, walk.multi(point)
    n = x.aval.ndim
    source = [
        place * stride + offset * dilation
        for place, offset, stride, dilation in zip(
            multi[:n], multi[n:], eqn.params["strides"], eqn.params["dilation"], strict=True
        )
    ]
    return walk.value(x, walk.within(point, x.aval.shape, source))


@expands(ft.overlap_p)
def choose_overlap(eqs: EquationBuilder, eqn: Eqn) -> list[Atom] | None:
    """An index function where each element is in one window at most."""
    (y,), p = eqn.inputs, eqn.params
    window = y.aval.shape[len(p["shape"]) :]
    reaches = [(k - 1) * d + 1 for k, d in zip(window, p["dilation"], strict=True)]
    if all(s >= reach for s, reach in zip(p["strides"], reaches, strict=True)):
        return eqs.bind(apart_p, y, **p)
    return None


@lowers(apart_p)
def lower_apart(walk: Walk, eqn: Eqn, point: Point) -> Any:
    """The one element that lies here, or zero."""
    (y,), p = eqn.inputs, eqn.params
    outside = walk.literal(y.aval.dtype, 0)
    n = len(p["shape"])
    if y.aval.size == 0:
        return outside
    inside: Any = True
    places: list[Index] = []
    offsets: list[Index] = []
    for axis, index in enumerate(walk.multi(point)):
        stride, step = p["strides"][axis], p["dilation"][axis]
        count, k = y.aval.shape[axis], y.aval.shape[n + axis]
        place, offset = walk.divide(index, stride) if stride > 1 else (index, ZERO)
        if step > 1:
            offset, rest = walk.divide(offset, step)
            inside = walk.both(inside, walk.compare("eq", rest, 0))
        inside = walk.both(inside, walk.compare("lt", place, count))
        inside = walk.both(inside, walk.compare("lt", offset, k))
        places.append(place)
        offsets.append(offset)
    return walk.choose(
        inside,
        lambda: walk.value(y, walk.within(point, y.aval.shape, [*places, *offsets], inside)),
        lambda: outside,
    )


@lowers_root(ft.overlap_p, lambda eqn: ())
def lower_overlap(ctx: RootContext, eqn: Eqn) -> None:
    """Zeros, then window by window, or offset by offset along lines; each element of y is computed
    once.

    The axes before the first that windows overlap on are shared out to threads.
    """
    (y,), (out,), p = eqn.inputs, eqn.outputs, eqn.params
    shape = tuple(p["shape"])
    if out.aval.size == 0:
        return
    n = len(shape)
    window = y.aval.shape[n:]
    first = next(a for a in range(n) if window[a] > 1 or p["strides"][a] > 1)
    outer = list(shape[:first])
    work = 4.0 * y.aval.size
    shared = next((a for a, extent in enumerate(outer) if extent > 1), None)
    threads = shared is not None and ctx.parallel(work)
    kinds: list[Any] = ["parallel" if threads and a == shared else "serial" for a in range(first)]
    grain = 1 if shared is None else ctx.grain(work, outer[shared])
    with ctx.walk.kernel(ctx.name), ctx.nest(outer, kinds, grain) as before:
        start = row_major(before, shape)
        clear(ctx, ctx.buffer(out), start, prod(shape[first:]), out)
        if y.aval.size == 0:
            return
        places = y.aval.shape[first:n]
        if first < n - 1 or p["strides"][first] > SHORT_STRIDE:
            add_windows(ctx, eqn, before, places)
            return
        for begin, count, times in blocks_of(places[0]):
            with ctx.nest([times]) as (block,):
                add_offsets(ctx, eqn, before, block * count + begin, count)


def add_windows(ctx: RootContext, eqn: Eqn, before: Sequence[Index], places: Sequence[int]) -> None:
    """Add windows to the result, row of places by row; `before` are the axes without windows."""
    window = eqn.inputs[0].aval.shape[-len(places) :]
    with ctx.nest([places[0], *window, *places[1:]], "vector") as (row, *rest):
        add_element(ctx, eqn, before, [row, *rest[len(places) :]], rest[: len(places)])


def add_offsets(
    ctx: RootContext, eqn: Eqn, before: Sequence[Index], begin: Index, count: int
) -> None:
    """Add the windows at so many places of a line to the result, offset by offset."""
    with ctx.nest([eqn.inputs[0].aval.shape[-1], count], "vector") as (offset, place):
        add_element(ctx, eqn, before, [begin + place], [offset])


def blocks_of(n: int) -> list[tuple[int, int, int]]:
    """Blocks of a line that stay in the nearest cache: (begin, length, how many)."""
    whole, rest = divmod(n, BLOCK)
    found = [(0, BLOCK, whole), (whole * BLOCK, rest, 1)]
    return [block for block in found if block[1] * block[2]]


def add_element(
    ctx: RootContext,
    eqn: Eqn,
    before: Sequence[Index],
    places: Sequence[Index],
    offsets: Sequence[Index],
) -> None:
    """Add one element of the windows where it lies in the result."""
    (y,), (out,), p = eqn.inputs, eqn.outputs, eqn.params
    walk, first = ctx.walk, len(before)
    met = [
        place * p["strides"][first + a] + offset * p["dilation"][first + a]
        for a, (place, offset) in enumerate(zip(places, offsets, strict=True))
    ]
    multi = [*before, *places, *[ZERO] * first, *offsets]
    found = walk.value(y, walk.within(Point((), multi=()), y.aval.shape, multi))
    add_to(ctx, ctx.buffer(out), row_major([*before, *met], p["shape"]), found, out)


def row_major(multi: Sequence[Index], shape: Sequence[int]) -> Index:
    """The position of the first element with these leading indices."""
    flat = constant(0)
    for axis, n in enumerate(shape):
        flat = flat * n + (multi[axis] if axis < len(multi) else ZERO)
    return flat


def clear(ctx: RootContext, buffer: Buffer, start: Index, count: int, out: Any) -> None:
    """Zeros in a run of the result."""
    zero = ctx.walk.literal(out.aval.dtype, 0)
    with ctx.nest([count], "vector") as (k,):
        ctx.walk.store(buffer, start + k, zero)


def add_to(ctx: RootContext, buffer: Buffer, flat: Index, found: Any, out: Any) -> None:
    """buffer[flat] += found."""
    b, walk = ctx.b, ctx.walk
    if isinstance(found, Pair):
        twice = flat * 2
        old = Pair(b.load(buffer, walk.number(twice)), b.load(buffer, walk.number(twice + 1)))
        walk.store(buffer, flat, Pair(b.add(old.re, found.re), b.add(old.im, found.im)))
    else:
        walk.store(buffer, flat, b.add(b.load(buffer, walk.number(flat)), found))
