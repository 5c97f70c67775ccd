"""Gather and dynamic slices as index functions; scatters write in order, so that the last wins."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from functrans.extend import Atom, Eqn, Literal, Primitive, primitives
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import FLOATS, Buffer, Const, Value
from jit.lowering import complex as cx
from jit.lowering.copying import changes_first, copy_into, nothing_stored
from jit.lowering.elementwise import extremes, maximum, minimum
from jit.lowering.formulas import Function
from jit.lowering.index import Index, Loop, Point, constant, of_loop
from jit.lowering.root import RootContext
from jit.lowering.rules import (
    CHECKS,
    EquationBuilder,
    Pair,
    Walk,
    element_bytes,
    expands,
    is_complex,
    loop_dtype,
    lowers,
    lowers_root,
)

ft = primitives.indexing
PARTS = 8
CROWDED, CROWDED_BYTES = 1 << 17, 1 << 18
"""So many updates, and places of so few bytes, are worth copies of the places."""
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


updated_slice_p = Primitive(
    name="dynamic_update_slice",
    abstract_eval=ft.dynamic_update_slice_p.abstract_eval,
    impl=ft.dynamic_update_slice_p.impl,
)
"""The same on memory: only the window is written where the result lies where x does."""


@lowers_root(updated_slice_p, nothing_stored, overwrites=changes_first)
def lower_updated_slice(ctx: RootContext, eqn: Eqn) -> None:
    x, update, *starts = eqn.inputs
    (out,), walk = eqn.outputs, ctx.walk
    copy_into(ctx, x, out)
    if update.aval.size == 0:
        return
    with walk.kernel(f"{ctx.name}_write"), ctx.nest(update.aval.shape, "vector") as indices:
        places = [
            index + start_index(walk, eqn, start, n - size)
            for index, start, n, size in zip(
                indices, starts, x.aval.shape, update.aval.shape, strict=True
            )
        ]
        element = walk.value(update, Point(update.aval.shape, multi=indices))
        walk.store(ctx.buffer(out), Point(x.aval.shape, multi=places).flat, element)


# -- gather -----------------------------------------------------------------------------------


def raises(eqn: Eqn) -> bool:
    return eqn.params["mode"] == "raise"


def indices_of(eqn: Eqn) -> Sequence[Atom]:
    """The index arrays of a gather or a scatter."""
    return eqn.inputs[1:] if eqn.primitive.name == "gather" else eqn.inputs[2:]


def positive(b: Builder, value: Value, n: int) -> Value:
    """A negative index counts from the end."""
    if b.is_within(value):
        return value
    return b.select(b.lt(value, 0), b.add(value, n), value)


def outside(b: Builder, value: Value, n: int) -> Value:
    """Is an index outside [0, n)? Negative ones are huge as unsigned numbers."""
    if b.is_within(value, n):
        return b.const("bool", False)
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
            value = clipped(b, value, n)
        elif mode != "raise":
            missing = outside(b, value, n)
            if not isinstance(missing, Const):
                inside = walk.both(inside, b.not_(missing))
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


def lower_scatter(
    combine: Function | None, paired: Function | None = None, monoid: str = ""
) -> Callable[..., None]:
    """A copy of x in which updates are combined one after another."""

    def rule(ctx: RootContext, eqn: Eqn) -> None:
        x, updates, index = eqn.inputs[0], eqn.inputs[1], eqn.inputs[2]
        (out,) = eqn.outputs
        function = paired if x.aval.dtype.kind == "c" and paired else combine
        if function is not None and monoid and is_crowded(eqn):
            Crowd(ctx, eqn, function, monoid).write()
            return
        copy_into(ctx, x, out)
        if updates.aval.size:
            buffer = ctx.buffer(out)
            with ctx.walk.kernel(f"{ctx.name}_write"), ctx.nest([index.aval.size]) as (i,):
                write_update(ctx, eqn, function, i, buffer, constant(0))

    return rule


FEW_COMPONENTS = 7
"""Rows of up to so many elements that are no whole vector are written one by one: what one update
stored, the next may read, and processors hand on a part of a vector twice as late as numbers."""


def write_update(
    ctx: RootContext, eqn: Eqn, combine: Function | None, i: Index, buffer: Buffer, start: Index
) -> None:
    """What index number `i` names, on vectors, where it lies inside; the result is at `start`."""
    walk, axes, (out,) = ctx.walk, eqn.params["axes"], eqn.outputs
    updates, index, shape = eqn.inputs[1], eqn.inputs[2], out.aval.shape
    rest = tuple(n for axis, n in enumerate(shape) if axis not in axes)
    width = prod(rest)
    found, inside = resolved(walk, eqn, Point(index.aval.shape, flat=i))

    def write(j: Index) -> None:
        source = merged(found, walk.unraveled(j, rest), axes, len(shape))
        flat = start + Point(shape, multi=source).flat
        element = walk.value(updates, Point(updates.aval.shape, flat=i * width + j))
        if combine is not None:
            old = walk.load(buffer, out.aval, flat, None)
            element = combine(ctx.b, old, element)
        walk.store(buffer, flat, element)

    def write_row() -> None:
        if width <= FEW_COMPONENTS and width.bit_count() > 1:
            for k in range(width):
                write(constant(k))
            return
        with ctx.nest([width], "vector") as (j,):
            write(j)

    walk.branch(inside, write_row)


SHORT = 4
"""Rows of so many elements are sooner made before they are scattered."""


def one_by_one(eqn: Eqn) -> Sequence[int]:
    """The indices; and the updates, where each index names too few elements for a vector."""
    index, updates = eqn.inputs[2], eqn.inputs[1]
    indices = range(2, len(eqn.inputs))
    return (1, *indices) if updates.aval.size <= SHORT * index.aval.size else indices


# -- scatters of many updates to few places ---------------------------------------------------


def is_crowded(eqn: Eqn) -> bool:
    """Are there so many updates for so few places that parts of them are combined apart?"""
    x, updates = eqn.inputs[0], eqn.inputs[1]
    size = x.aval.size
    few = 0 < size * element_bytes(x) <= CROWDED_BYTES
    return few and updates.aval.size >= max(CROWDED, 4 * PARTS * size)


def changes_unless_crowded(eqn: Eqn) -> tuple[tuple[int, int], ...]:
    """A crowded scatter writes every place."""
    return () if is_crowded(eqn) else changes_first(eqn)


def crowd_workspace(eqn: Eqn) -> int:
    """The copies of a crowded scatter."""
    x = eqn.inputs[0]
    return PARTS * x.aval.size * element_bytes(x) if is_crowded(eqn) else 0


class Crowd:
    """Combines a fixed number of parts of the updates apart, on all threads, and adds them up."""

    def __init__(self, ctx: RootContext, eqn: Eqn, combine: Function, monoid: str) -> None:
        self.ctx, self.eqn, self.combine = ctx, eqn, combine
        (self.out,), self.size = eqn.outputs, eqn.inputs[0].aval.size
        aval = self.out.aval
        pair = is_complex(aval.dtype)
        kind = loop_dtype(aval.dtype)
        self.copies = ctx.slot(kind, PARTS * self.size * (2 if pair else 1), 0)
        low, high = extremes(kind)
        # The sum of no floats is -0: it changes no other number.
        nothing = -0.0 if kind in FLOATS else 0
        start = {"add": nothing, "mul": 1, "min": high, "max": low}[monoid]
        first = ctx.b.const(kind, start)
        rest = ctx.b.const(kind, nothing if monoid == "add" else 0)
        self.identity = Pair(first, rest) if pair else first

    def write(self) -> None:
        """The parts, then every place of the result."""
        ctx, walk, size, out = self.ctx, self.ctx.walk, self.size, self.out
        x, count = self.eqn.inputs[0], self.eqn.inputs[2].aval.size
        with walk.kernel(f"{ctx.name}_parts"), ctx.nest([PARTS], "parallel") as (part,):
            with ctx.nest([size], "vector") as (j,):
                walk.store(self.copies, part * size + j, self.identity)
            self.one_part(part, count)
        kind = "parallel_vector" if ctx.parallel(size * PARTS * 1.0) else "vector"
        with walk.kernel(f"{ctx.name}_total"), ctx.nest([size], kind) as (j,):
            total = walk.value(x, Point(x.aval.shape, flat=j))
            for number in range(PARTS):
                more = walk.load(self.copies, out.aval, j + number * size, None)
                total = self.combine(ctx.b, total, more)
            walk.store(ctx.buffer(out), j, total)

    def one_part(self, part: Index, count: int) -> None:
        """Neighbouring updates, in order, into the part's own copy."""
        ctx, b = self.ctx, self.ctx.b
        height = -(-count // PARTS)
        first = ctx.walk.number(part * height)
        length = b.max(b.min(b.sub(b.index(count), first), height), 0)
        loop = Loop(count)
        with ctx.walk.loop(loop, b.for_(length, "serial"), first):
            start = part * self.size
            write_update(ctx, self.eqn, self.combine, of_loop(loop), self.copies, start)


# -- scatters that meet each place once -------------------------------------------------------


def placed(primitive: Primitive) -> Primitive:
    """The same operation where every update has a row of its own: an element at a position."""
    return Primitive(
        name=primitive.name, abstract_eval=primitive.abstract_eval, impl=primitive.impl
    )


def has_own_rows(eqs: EquationBuilder, eqn: Eqn) -> bool:
    """Does an iota tie every axis of the indices to an axis of x?"""
    x, index = eqn.inputs[0], eqn.inputs[2]
    tied = set[int]()
    for atom, axis in zip(indices_of(eqn), eqn.params["axes"], strict=True):
        made = eqs.made_by(atom)
        if made is not None and made.primitive is primitives.structural.iota_p:
            own = made.params["axis"]
            if index.aval.shape[own] <= x.aval.shape[axis]:
                tied.add(own)
    return bool(tied) and tied.issuperset(range(index.aval.ndim))


def expand_placed(primitive: Primitive) -> Callable[[EquationBuilder, Eqn], list[Atom] | None]:
    """Use the index function where rows are tied, so that the scatter can be fused."""

    def expand(eqs: EquationBuilder, eqn: Eqn) -> list[Atom] | None:
        if not has_own_rows(eqs, eqn) or eqn.inputs[1].aval.size == 0:
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
    return clipped(walk.b, value, n) if eqn.params["mode"] == "clip" else value


def clipped(b: Builder, value: Value, n: int) -> Value:
    """The nearest place along an axis of n."""
    return b.max(b.min(value, n - 1), 0)


def _root(
    primitive: Primitive,
    combine: Function | None,
    paired: Function | None = None,
    monoid: str = "",
) -> None:
    crowds = bool(monoid)
    lowers_root(
        primitive,
        nothing_stored,
        workspace=crowd_workspace if crowds else lambda eqn: 0,
        overwrites=changes_unless_crowded if crowds else changes_first,
        serial=one_by_one,
    )(lower_scatter(combine, paired, monoid))
    own = placed(primitive)
    lowers(own)(lower_placed(combine, paired))
    expands(primitive)(expand_placed(own))
    CHECKS[primitive] = CHECKS[own] = raises


_root(ft.scatter_p, None)
_root(ft.scatter_add_p, lambda b, old, new: b.add(old, new), cx.add, "add")
_root(ft.scatter_mul_p, lambda b, old, new: b.mul(old, new), cx.mul, "mul")
_root(ft.scatter_min_p, minimum, None, "min")
_root(ft.scatter_max_p, maximum, None, "max")
