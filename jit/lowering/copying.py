"""Fills buffers with operands: fused elements on vectors and threads, zeros by the C library."""

from __future__ import annotations

import numpy as np

from functrans.extend import Atom, Eqn, Primitive, Var, primitives
from jit.loop_ir.nodes import ITEMSIZE, Buffer
from jit.lowering.index import Point
from jit.lowering.root import RootContext
from jit.lowering.rules import element_bytes, lowers_root

broadcast_p = primitives.structural.broadcast_p
ZERO_BYTES = 1 << 16
ZERO_CHUNK = 1 << 22
"""Zeros from so many bytes on are written by the C library, in chunks that threads share."""

stays_p = Primitive(
    name="stays",
    abstract_eval=primitives.structural.stop_gradient_p.abstract_eval,
    impl=primitives.structural.stop_gradient_p.impl,
)
"""A result that is an operand as it is, and had better lie where that lies."""


def nothing_stored(eqn: Eqn) -> tuple[int, ...]:
    return ()


def changes_first(eqn: Eqn) -> tuple[tuple[int, int], ...]:
    """The first operand becomes the first result."""
    return ((0, 0),)


@lowers_root(stays_p, nothing_stored, overwrites=changes_first)
def lower_stays(ctx: RootContext, eqn: Eqn) -> None:
    copy_into(ctx, eqn.inputs[0], eqn.outputs[0])


def copy_into(ctx: RootContext, x: Atom, out: Var) -> None:
    """out = x, in a kernel of its own; nothing where x lies there already."""
    if x.aval.size and not ctx.shares_memory(x, out):
        with ctx.walk.kernel(f"{ctx.name}_copy"):
            fill(ctx, x, ctx.buffer(out))


def fill(ctx: RootContext, x: Atom, buffer: Buffer) -> None:
    """buffer = x, element by element, in the kernel that is open."""
    size = x.aval.size
    if size == 0:
        return
    if is_zero(ctx, x) and size * element_bytes(x) >= ZERO_BYTES:
        clear(ctx, size * element_bytes(x), buffer)
        return
    kind = "parallel_vector" if ctx.parallel(size * 1.0) else "vector"
    with ctx.nest([size], kind) as (i,):
        ctx.walk.store(buffer, i, ctx.walk.value(x, Point(x.aval.shape, flat=i)))


def is_zero(ctx: RootContext, x: Atom) -> bool:
    """Is every byte of the operand known to be 0?"""
    while isinstance(x, Var):
        made = ctx.walk.producers.get(x)
        if made is None or x in ctx.walk.stored or made.primitive is not broadcast_p:
            return False
        x = made.inputs[0]
    return not any(np.asarray(x.value, x.aval.dtype).tobytes())


def clear(ctx: RootContext, count: int, buffer: Buffer) -> None:
    """Zero bytes, by the C library: it knows how to do that without reading the memory first."""
    chunks = -(-count // ZERO_CHUNK)
    parallel = "parallel" if chunks > 1 else "serial"
    b, elements = ctx.b, ZERO_CHUNK // ITEMSIZE[buffer.dtype]
    with ctx.nest([chunks], [parallel]) as (k,):
        start = ctx.walk.number(k * elements)
        rest = b.sub(b.index(count), ctx.walk.number(k * ZERO_CHUNK))
        b.call("memset", b.ref(buffer, start), 0, b.min(rest, ZERO_CHUNK))
