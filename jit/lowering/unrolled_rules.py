"""Elements, one by one, of what elsewhere is a kernel: scatters."""

from __future__ import annotations

from typing import Any

from functrans.extend import Eqn, primitives
from jit.lowering import complex as cx
from jit.lowering.asking import MOST_ELEMENTS, UNROLLED, TooLarge, UnrolledRule
from jit.lowering.elementwise import maximum, minimum
from jit.lowering.formulas import Function
from jit.lowering.index import Point, constant, unravel
from jit.lowering.indexing import indices_of, known_index, wrapped
from jit.lowering.rules import Walk

ix = primitives.indexing


def updated(combine: Function | None, paired: Function | None = None) -> UnrolledRule:
    """The element of x, changed by each update that names its place, in order."""

    def rule(walk: Walk, eqn: Eqn, point: Point) -> Any:
        x, updates, index = eqn.inputs[:3]
        if index.aval.size > MOST_ELEMENTS:
            raise TooLarge(f"{eqn.primitive.name} of {index.aval.size} updates")
        multi, axes = walk.multi(point), eqn.params["axes"]
        rest = [place for axis, place in enumerate(multi) if axis not in axes]
        function = paired if paired and x.aval.dtype.kind == "c" else combine
        found = walk.value(x, point)
        for k in range(index.aval.size):
            own = unravel(constant(k), index.aval.shape)
            here = Point(index.aval.shape, multi=own)
            hit: Any = True
            for atom, axis in zip(indices_of(eqn), axes, strict=True):
                hit = walk.both(hit, names(walk, eqn, atom, axis, here, multi[axis]))
            if hit is False:
                continue
            new = walk.value(updates, Point(updates.aval.shape, multi=[*own, *rest]))
            if function is not None:
                new = function(walk.b, found, new)
            found = walk.choose(hit, lambda new=new: new, lambda old=found: old)
        return found

    return rule


def names(walk: Walk, eqn: Eqn, atom: Any, axis: int, here: Point, place: Any) -> Any:
    """Does the index at `here` name this place of the axis?"""
    n = eqn.inputs[0].aval.shape[axis]
    known = known_index(eqn, atom, walk, here, n)
    if known is not None:
        return walk.compare("eq", known - place, 0)
    return walk.b.eq(wrapped(walk, eqn, walk.value(atom, here), n), walk.number(place))


UNROLLED[ix.scatter_p] = updated(None)
UNROLLED[ix.scatter_add_p] = updated(lambda b, old, new: b.add(old, new), cx.add)
UNROLLED[ix.scatter_mul_p] = updated(lambda b, old, new: b.mul(old, new), cx.mul)
UNROLLED[ix.scatter_min_p] = updated(minimum)
UNROLLED[ix.scatter_max_p] = updated(maximum)
