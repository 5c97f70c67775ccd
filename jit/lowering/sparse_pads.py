"""Pads that leave wide gaps: the result is filled, then the few elements are put into it."""

from __future__ import annotations

from functrans.extend import Atom, Eqn, Primitive, primitives
from jit.loop_ir.nodes import LoopKind
from jit.lowering.copying import ZERO_BYTES, clear, is_zero, nothing_stored
from jit.lowering.index import Point
from jit.lowering.root import RootContext
from jit.lowering.rules import EquationBuilder, element_bytes, expands, lowers_root

pad_p = primitives.structural.pad_p
sparse_pad_p = Primitive(name="pad", abstract_eval=pad_p.abstract_eval, impl=pad_p.impl)
"""A pad in memory of its own; any other is an index function."""
GAP = 8
"""Asking at each place whether an element stands there is a waste where one in so many does."""
LEAST = 4096
"""Results of fewer elements are computed where they are read."""


@expands(pad_p)
def choose_pad(eqs: EquationBuilder, eqn: Eqn) -> list[Atom] | None:
    """A kernel of its own where elements of a row stand far apart."""
    (out,) = eqn.outputs
    apart = out.aval.ndim > 0 and eqn.params["interior"][-1] + 1 >= GAP
    if not apart or out.aval.size < LEAST or eqn.inputs[0].aval.shape[-1] < 2:
        return None
    return eqs.bind(sparse_pad_p, *eqn.inputs, **eqn.params)


@lowers_root(sparse_pad_p, nothing_stored)
def lower_sparse_pad(ctx: RootContext, eqn: Eqn) -> None:
    """The padding value everywhere, then the elements."""
    (x, value), (out,), walk = eqn.inputs, eqn.outputs, ctx.walk
    buffer = ctx.buffer(out)
    with walk.kernel(f"{ctx.name}_fill"):
        count = out.aval.size * element_bytes(out)
        if is_zero(ctx, value) and count >= ZERO_BYTES:
            clear(ctx, count, buffer)
        else:
            kind: LoopKind = "parallel_vector" if ctx.parallel(out.aval.size * 1.0) else "vector"
            with ctx.nest([out.aval.size], kind) as (i,):
                walk.store(buffer, i, walk.value(value, Point((), multi=())))
    if x.aval.size == 0:
        return
    steps = zip(eqn.params["low"], eqn.params["interior"], strict=True)
    with walk.kernel(f"{ctx.name}_write"), ctx.nest(x.aval.shape, "vector") as places:
        multi = [i * (gap + 1) + low for i, (low, gap) in zip(places, steps, strict=True)]
        element = walk.value(x, Point(x.aval.shape, multi=places))
        walk.store(buffer, Point(out.aval.shape, multi=multi).flat, element)
