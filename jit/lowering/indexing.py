"""Gather and dynamic slices as index functions; scatters write in order, so that the last wins."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from functrans.extend import Atom, Eqn, Literal, Primitive, Var, primitives
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import ITEMSIZE, Value
from jit.lowering import complex as cx
from jit.lowering.elementwise import maximum, minimum
from jit.lowering.formulas import Function
from jit.lowering.index import Index, Point, constant
from jit.lowering.rules import (
    CHECKS,
    EquationBuilder,
    Walk,
    element_bytes,
    expands,
    lowers,
    lowers_root,
)
from jit.lowering.writer import RootContext

ft = primitives.indexing
ft_structural = primitives.structural
ZERO_BYTES = 1 << 16
ZERO_CHUNK = 1 << 22
"""Zeros from so many bytes on are written by the C library, in chunks that threads share."""
Shape = tuple[int, ...]


# -- dynamic slices ---------------------------------------------------------------------------


def start_index(walk: Walk, eqn: Eqn, start: Atom, limit: int) -> Index:
    """A start, moved into [0, limit]."""
    if limit == 0:
        return constant(0)
    if isinstance(start, Literal):
        return constant(min(max(int(start.value), 0), limit))
    value = walk.value(start, Point((), multi=()))
    inside = walk.b.min(walk.b.max(value, 0), limit)
    return walk.dynamic((start, limit), inside, (0, limit), constant(0))


@lowers(ft.dynamic_slice_p)
def lower_dynamic_slice(walk: Walk, eqn: Eqn, point: Point) -> Any:
    """start + i."""
    x, *starts = eqn.inputs
    source = [
        index + start_index(walk, eqn, start, n - size)
        for index, start, n, size in zip(
            walk.multi(point), starts, x.aval.shape, eqn.params["sizes"], strict=True
        )
    ]
    return walk.value(x, walk.within(point, x.aval.shape, source))


@lowers(ft.dynamic_update_slice_p)
def lower_dynamic_update_slice(walk: Walk, eqn: Eqn, point: Point) -> Any:
    """The update inside its window, x elsewhere."""
    x, update, *starts = eqn.inputs
    if update.aval.size == 0:
        return walk.value(x, point)
    source, inside = [], True
    for index, start, n, size in zip(
        walk.multi(point), starts, x.aval.shape, update.aval.shape, strict=True
    ):
        place = index - start_index(walk, eqn, start, n - size)
        inside = walk.both(inside, walk.compare("ge", place, 0))
        inside = walk.both(inside, walk.compare("lt", place, size))
        source.append(place)
    return walk.choose(
        inside,
        lambda: walk.value(update, walk.within(point, update.aval.shape, source, inside)),
        lambda: walk.value(x, point),
    )


# -- gather -----------------------------------------------------------------------------------


def raises(eqn: Eqn) -> bool:
    return eqn.params["mode"] == "raise"


def indices_of(eqn: Eqn) -> Sequence[Atom]:
    """The index arrays of a gather or a scatter."""
    return eqn.inputs[1:] if eqn.primitive.name == "gather" else eqn.inputs[2:]


def positive(b: Builder, value: Value, n: int) -> Value:
    """A negative index counts from the end."""
    return b.select(b.lt(value, 0), b.add(value, n), value)


def outside(b: Builder, value: Value, n: int) -> Value:
    """Is an index outside [0, n)? Negative ones are huge as unsigned numbers."""
    return b.ge(b.cast(value, "u64"), b.const("u64", n))


def known_index(eqn: Eqn, atom: Atom, walk: Walk, point: Point, n: int) -> Index | None:
    """An index that needs no load: an iota that cannot leave the axis, or a literal."""
    if isinstance(atom, Literal):
        value = int(atom.value)
        value += n if value < 0 else 0
        return constant(value) if 0 <= value < n else None
    axis = walk.iota_axis(atom)
    if axis is None:
        return None
    index = walk.multi(point)[axis]
    low, high = index.range()
    return index if low >= 0 and high < n else None


def resolved(walk: Walk, eqn: Eqn, point: Point) -> tuple[list[Index], Any]:
    """The place along each indexed axis, and whether it is inside (for modes that ask)."""
    x, mode, b = eqn.inputs[0], eqn.params["mode"], walk.b
    found: list[Index] = []
    inside: Any = True
    for atom, axis in zip(indices_of(eqn), eqn.params["axes"], strict=True):
        n = x.aval.shape[axis]
        known = known_index(eqn, atom, walk, point, n)
        if known is not None:
            found.append(known)
            continue
        value = positive(b, walk.value(atom, point), n)
        if mode == "clip":
            value = b.max(b.min(value, n - 1), 0)
        elif mode != "raise":
            inside = walk.both(inside, b.not_(outside(b, value, n)))
        key = (atom, axis, n, mode, point.flat)
        found.append(walk.dynamic(key, value, (0, max(n - 1, 0)), point.flat))
    return found, inside


def merged(found: Sequence[Index], rest: Sequence[Index], axes: Shape, ndim: int) -> list[Index]:
    """Indexed axes take what was found, the others the rest in order."""
    others = iter(rest)
    by_axis = dict(zip(axes, found, strict=True))
    return [by_axis[axis] if axis in by_axis else next(others) for axis in range(ndim)]


@lowers(ft.gather_p)
def lower_gather(walk: Walk, eqn: Eqn, point: Point) -> Any:
    """x at the places that the indices name."""
    x, index = eqn.inputs[0], eqn.inputs[1]
    multi = walk.multi(point)
    ndim = len(index.aval.shape)
    here = walk.within(point, index.aval.shape, multi[:ndim])
    fill = math.nan if eqn.params["mode"] == "fill" and x.aval.dtype.kind not in "biu" else 0
    if x.aval.size == 0:
        return walk.literal(x.aval.dtype, fill)
    found, inside = resolved(walk, eqn, here)
    source = merged(found, multi[ndim:], eqn.params["axes"], len(x.aval.shape))
    return walk.choose(
        inside,
        lambda: walk.value(x, walk.within(point, x.aval.shape, source, inside)),
        lambda: walk.literal(x.aval.dtype, fill),
    )


def check_indices(walk: Walk, eqn: Eqn, point: Point) -> None:
    """Fail where an index at `point` lies outside its axis."""
    x, b = eqn.inputs[0], walk.b
    for atom, axis in zip(indices_of(eqn), eqn.params["axes"], strict=True):
        n = x.aval.shape[axis]
        if known_index(eqn, atom, walk, point, n) is None:
            value = positive(b, walk.value(atom, point), n)
            place = f" (in {eqn.source})" if eqn.source else ""
            b.fail(
                f"{eqn.primitive.name}: an index is out of bounds for axis {axis} with size {n}"
                + place,
                outside(b, value, n),
            )


CHECKS[ft.gather_p] = raises


# -- the scatter family -----------------------------------------------------------------------


def lower_scatter(combine: Function | None, paired: Function | None = None) -> Callable[..., None]:
    """A copy of x in which updates are combined one after another."""

    def rule(ctx: RootContext, eqn: Eqn) -> None:
        x, updates, index = eqn.inputs[0], eqn.inputs[1], eqn.inputs[2]
        (out,) = eqn.outputs
        function = paired if x.aval.dtype.kind == "c" and paired else combine
        copy_into(ctx, x, out)
        if updates.aval.size:
            write_updates(ctx, eqn, function, updates, index, out)

    return rule


def copy_into(ctx: RootContext, x: Atom, out: Any) -> None:
    """out = x, element by element; nothing where x lies there already."""
    size = x.aval.size
    if size == 0 or ctx.shares_memory(x, out):
        return
    if is_zero(ctx, x) and size * element_bytes(x) >= ZERO_BYTES:
        clear(ctx, size * element_bytes(x), out)
        return
    kind = "parallel_vector" if ctx.parallel(size * 1.0) else "vector"
    with ctx.walk.kernel(f"{ctx.name}_copy"), ctx.nest([size], kind) as (i,):
        element = ctx.walk.value(x, Point(x.aval.shape, flat=i))
        ctx.walk.store(ctx.buffer(out), i, element)


def is_zero(ctx: RootContext, x: Atom) -> bool:
    """Is every byte of the operand known to be 0?"""
    while isinstance(x, Var):
        made = ctx.walk.producers.get(x)
        if made is None or x in ctx.walk.stored or made.primitive is not ft_structural.broadcast_p:
            return False
        x = made.inputs[0]
    return not any(np.asarray(x.value, x.aval.dtype).tobytes())


def clear(ctx: RootContext, count: int, out: Var) -> None:
    """Zero bytes, by the C library: it knows how to do that without reading the memory first."""
    chunks = -(-count // ZERO_CHUNK)
    parallel = "parallel" if chunks > 1 else "serial"
    b, buffer = ctx.b, ctx.buffer(out)
    elements = ZERO_CHUNK // ITEMSIZE[buffer.dtype]
    with ctx.walk.kernel(f"{ctx.name}_clear"), ctx.nest([chunks], [parallel]) as (k,):
        start = ctx.walk.number(k * elements)
        rest = b.sub(b.index(count), ctx.walk.number(k * ZERO_CHUNK))
        length = b.min(rest, ZERO_CHUNK) if count % ZERO_CHUNK else b.index(min(ZERO_CHUNK, count))
        b.call("memset", b.ref(buffer, start), 0, length)


def write_updates(
    ctx: RootContext, eqn: Eqn, combine: Function | None, updates: Atom, index: Atom, out: Any
) -> None:
    """Serial over the index arrays, vector over what one index names."""
    walk, axes, shape = ctx.walk, eqn.params["axes"], out.aval.shape
    count = index.aval.size
    rest = tuple(n for axis, n in enumerate(shape) if axis not in axes)
    width = prod(rest)
    with walk.kernel(f"{ctx.name}_write"), ctx.nest([count, width], ["serial", "vector"]) as (i, j):
        here = Point(index.aval.shape, flat=i)
        found, inside = resolved(walk, eqn, here)
        source = merged(found, walk.unraveled(j, rest), axes, len(shape))
        mask = None if inside is True else inside
        flat = Point(shape, multi=source).flat
        element = walk.value(updates, Point(updates.aval.shape, flat=i * width + j))
        if combine is not None:
            old = walk.load(ctx.buffer(out), out.aval, flat, mask)
            element = combine(ctx.b, old, element)
        walk.store(ctx.buffer(out), flat, element, mask)


# -- scatters that meet each place once -------------------------------------------------------


def placed(primitive: Primitive) -> Primitive:
    """The same operation where every update has a row of its own: an element at a position."""
    return Primitive(
        name=primitive.name, abstract_eval=primitive.abstract_eval, impl=primitive.impl
    )


def own_rows(eqs: EquationBuilder, eqn: Eqn) -> list[int] | None:
    """For each axis of the indices the axis of x that an iota ties it to; None when one is free."""
    x, index = eqn.inputs[0], eqn.inputs[2]
    tied: dict[int, int] = {}
    for atom, axis in zip(indices_of(eqn), eqn.params["axes"], strict=True):
        made = eqs.made_by(atom)
        if made is not None and made.primitive is primitives.structural.iota_p:
            own = made.params["axis"]
            if index.aval.shape[own] <= x.aval.shape[axis]:
                tied.setdefault(own, axis)
    axes = [tied.get(a) for a in range(index.aval.ndim)]
    return None if None in axes else [a for a in axes if a is not None]


def expand_placed(primitive: Primitive) -> Callable[[EquationBuilder, Eqn], list[Atom] | None]:
    """Use the index function where rows are tied, so that the scatter can be fused."""

    def expand(eqs: EquationBuilder, eqn: Eqn) -> list[Atom] | None:
        rows = own_rows(eqs, eqn)
        if rows is None or not rows or eqn.inputs[1].aval.size == 0:
            return None
        return eqs.bind(primitive, *eqn.inputs, **eqn.params)

    return expand


def lower_placed(combine: Function | None, paired: Function | None) -> Callable[..., Any]:
    """x, or x combined with the one update of this row where its indices name this place."""

    def rule(walk: Walk, eqn: Eqn, point: Point) -> Any:
        x, updates, index = eqn.inputs[0], eqn.inputs[1], eqn.inputs[2]
        multi, axes = walk.multi(point), eqn.params["axes"]
        pairs = list(zip(indices_of(eqn), axes, strict=True))
        own = [walk.iota_axis(atom) for atom, _ in pairs]
        tied = {a: axis for a, (_, axis) in reversed(list(zip(own, pairs, strict=True)))}
        row = [multi[tied[a]] for a in range(index.aval.ndim)]
        inside: Any = True
        for place, n in zip(row, index.aval.shape, strict=True):
            inside = walk.both(inside, walk.compare("lt", place, n))
        here = walk.within(point, index.aval.shape, row, inside)
        for a, (atom, axis) in zip(own, pairs, strict=True):
            if a is None or tied[a] != axis:
                value = wrapped(walk, eqn, walk.value(atom, here), x.aval.shape[axis])
                inside = walk.both(inside, walk.b.eq(value, walk.number(multi[axis])))
        rest = [place for axis, place in enumerate(multi) if axis not in axes]

        def hit() -> Any:
            new = walk.value(updates, walk.within(point, updates.aval.shape, [*row, *rest], inside))
            if combine is None:
                return new
            function = paired if x.aval.dtype.kind == "c" and paired else combine
            return function(walk.b, walk.value(x, point), new)

        return walk.choose(inside, hit, lambda: walk.value(x, point))

    return rule


def wrapped(walk: Walk, eqn: Eqn, value: Any, n: int) -> Any:
    """An index counted from the start; clipped where the mode says so."""
    value = positive(walk.b, value, n)
    return walk.b.max(walk.b.min(value, n - 1), 0) if eqn.params["mode"] == "clip" else value


def _fused(eqn: Eqn) -> tuple[int, ...]:
    return ()


def _root(primitive: Primitive, combine: Function | None, paired: Function | None = None) -> None:
    lowers_root(primitive, _fused)(lower_scatter(combine, paired))
    own = placed(primitive)
    lowers(own)(lower_placed(combine, paired))
    expands(primitive)(expand_placed(own))
    CHECKS[primitive] = CHECKS[own] = raises


_root(ft.scatter_p, None)
_root(ft.scatter_add_p, lambda b, old, new: b.add(old, new), cx.add)
_root(ft.scatter_mul_p, lambda b, old, new: b.mul(old, new), cx.mul)
_root(ft.scatter_min_p, minimum)
_root(ft.scatter_max_p, maximum)
