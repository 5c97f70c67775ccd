"""Gradients of a convolution's weights: windows of padded images times their cotangents.

Written as a convolution, such a gradient has few places and a window as large as an image, and
the images are its input channels. Invariant: bands of images are shared out to a number of partial
sums that depends on the shapes only, and these are added in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

from functrans.extend import Eqn, Primitive, primitives
from jit.loop_ir.nodes import Buffer
from jit.lowering.index import Index, Point
from jit.lowering.padded import BEYOND, Padded, aligned, fill, table
from jit.lowering.root import RootContext
from jit.lowering.rules import lowers_root
from jit.lowering.window import Window

ft = primitives.contraction
PLANES = 16
"""Rows of partial sums are so many elements, or a multiple, as in jit/runtime/conv.py."""
LANES = 16
"""Dots leave so many partial sums each."""
FEW = 8
"""Up to so many rows of cotangents lie along the lanes: they would fill few lanes themselves."""
MOST_CELLS = 1 << 12
BAND_BYTES = 1 << 18
"""The copies of a band of an image are to stay in the second cache."""
BAND_PLACES = 4096
LEAST_PLACES = 200
"""Bands are not cut smaller than this for the sake of more tasks."""
SUMS_BYTES = 1 << 23
"""The partial sums together take no more than this, unless one takes more."""
TASKS = 16
MOST_SLOTS = 32
MOST_ROWS = 1 << 14

windows_conv_p = Primitive(name="conv", abstract_eval=ft.conv_p.abstract_eval, impl=ft.conv_p.impl)
"""conv as calls of ft_conv_windows."""


class Windows:
    """How the work of one gradient is laid out; `channels` are those whose gradient is sought."""

    def __init__(self, c: Window) -> None:
        self.c = c
        self.taps = prod(c.places)
        self.dots = c.per <= FEW and max(c.lhs) == 1 and c.n * self.taps * c.per <= MOST_CELLS
        self.depth = c.per * LANES if self.dots else -(-c.per // PLANES) * PLANES
        self.sums = c.groups * c.n * self.taps * self.depth
        roomy = max(SUMS_BYTES // (self.sums * c.bytes), 1)
        most = min(roomy, max(MOST_SLOTS // c.groups, 1))
        rest = prod(c.kernel[1:])
        # Few images are cut into bands, so that there is work for several threads.
        least = -(-LEAST_PLACES // rest)
        pieces = max(min(-(-min(most, TASKS) // c.i), c.kernel[0] // least), 1)
        blocks = -(-TASKS // (min(c.i * pieces, most) * c.groups))
        line = self.padded(1).plane * c.bytes
        self.channels = max(min(-(-c.n // blocks), max(BAND_BYTES // line, 1)), 1)
        self.channels = min(self.channels, max(MOST_ROWS // self.taps, 1))
        self.blocks = -(-c.n // self.channels)
        step = self.channels * line // max(self.padded(1).extent[0], 1) * c.rhs[0]
        fitting = max(BAND_BYTES // max(step + c.per * rest * c.bytes, 1), 1)
        self.band = max(min(-(-c.kernel[0] // pieces), fitting, max(BAND_PLACES // rest, 1)), 1)
        self.bands = -(-c.kernel[0] // self.band)
        self.units = c.i * self.bands
        self.turns = -(-self.units // min(self.units, most))
        self.slots = -(-self.units // self.turns)
        self.pad = self.padded(self.band)
        self.places = self.band * rest
        self.tasks = c.groups * self.blocks * self.slots
        self.copy = aligned((self.channels * self.pad.plane + BEYOND) * c.bytes)
        self.cotangent = aligned((c.per * self.places + BEYOND) * c.bytes)

    @property
    def function(self) -> str:
        return f"ft_conv_{'dots' if self.dots else 'windows'}_{self.c.dtype}"

    def padded(self, band: int) -> Padded:
        """The copy that windows of so many rows of the first axis need."""
        c = self.c
        return Padded(
            tuple(-low for low, _ in c.padding),
            tuple(
                (places - 1) * stride + (n - 1) * step + 1
                for places, stride, n, step in zip(
                    c.places, c.strides, [band, *c.kernel[1:]], c.rhs, strict=True
                )
            ),
            tuple(c.spatial),
            tuple(c.lhs),
            c.rhs[-1] if self.dots else 1,
        )

    @property
    def copies_at(self) -> int:
        """Where the copies begin, after the partial sums, in bytes."""
        return aligned(self.slots * self.sums * self.c.bytes)

    @property
    def cotangents_at(self) -> int:
        return self.copies_at + self.tasks * self.copy

    @property
    def workspace(self) -> int:
        return self.cotangents_at + self.tasks * self.cotangent


def takes(c: Window) -> bool:
    """Is this a gradient of weights: a large window, few places, several channels?"""
    if not c.has_kernel or c.work == 0:
        return False
    return prod(c.kernel) > prod(c.places) <= MOST_ROWS


@lowers_root(
    windows_conv_p,
    lambda eqn: (),
    workspace=lambda eqn: Windows(Window(eqn)).workspace,
    calls=lambda eqn: (Windows(Window(eqn)).function,),
)
def lower_windows_conv(ctx: RootContext, eqn: Eqn) -> None:
    """Partial sums over images, then their sum in the order of the result."""
    w = Windows(Window(eqn))
    sums = ctx.slot(w.c.dtype, w.slots * w.sums, 0)
    multiply(ctx, eqn, w, sums)
    if w.slots > 1:
        add_slots(ctx, w, sums)
    add_up(ctx, eqn, w, sums)


def multiply(ctx: RootContext, eqn: Eqn, w: Windows, sums: Buffer) -> None:
    """Every task: some bands of images in turn, for one group and one block of its channels."""
    c, walk, b = w.c, ctx.walk, ctx.b
    size, room = w.copy // c.bytes, w.cotangent // c.bytes
    copies = ctx.slot(c.dtype, w.tasks * size, w.copies_at)
    cotangents = ctx.slot(c.dtype, w.tasks * room, w.cotangents_at)
    rows = table(ctx, "rows", row_table(w))
    steps = table(ctx, "steps", line_table(w) if w.dots else step_table(w))
    kind: Any = "parallel" if ctx.parallel(c.work / 8) else "serial"
    with walk.kernel(ctx.name), ctx.nest([w.tasks], [kind]) as (task,):
        part, slot = walk.divide(task, w.slots)
        group, block = walk.divide(part, w.blocks)
        start, begin = task * size, task * room

        with ctx.nest([w.turns]) as (turn,):
            unit = slot * w.turns + turn
            image, band = walk.divide(unit, w.bands)

            def run() -> None:
                copy_images(ctx, eqn, w, copies, start, group, block, image, band)
                copy_cotangents(ctx, eqn, w, cotangents, begin, group, image, band)
                left = block * -w.channels + c.n
                height = b.mul(least(ctx, left, w.channels), w.taps)
                length = least(ctx, band * -w.band + c.kernel[0], w.band)
                target = slot * c.groups + group
                target = (target * c.n + block * w.channels) * (w.taps * w.depth)
                b.call(
                    w.function,
                    *(height, b.ref(rows), *steps_of(ctx, w, length, steps)),
                    b.ref(copies, walk.number(start)),
                    c.per,
                    b.ref(cotangents, walk.number(begin)),
                    w.places,
                    b.ref(sums, walk.number(target)),
                    *(() if w.dots else (w.depth,)),
                    b.cast(b.ne(walk.number(turn), b.index(0)), "i64"),
                )

            walk.branch(walk.compare("lt", unit, w.units), run)


def steps_of(ctx: RootContext, w: Windows, length: Any, steps: Buffer) -> list[Any]:
    """How the kernel walks over a band of so many rows of the first axis."""
    b, inner = ctx.b, w.c.kernel[1:]
    if not w.dots:
        return [b.mul(length, prod(inner)), b.ref(steps)]
    if not inner:
        return [1, b.ref(steps), length]
    return [b.mul(length, prod(inner[:-1])), b.ref(steps), inner[-1]]


def least(ctx: RootContext, left: Index, most: int) -> Any:
    """min(left, most)."""
    if left.range()[0] >= most:
        return ctx.b.index(most)
    return ctx.b.min(ctx.walk.number(left), ctx.b.index(most))


def row_table(w: Windows) -> list[int]:
    """Where the window of each channel and place begins in a copy."""
    c, pad = w.c, w.pad
    places = [
        pad.offset([t * s for t, s in zip(at, c.strides, strict=True)])
        for at in product(*map(range, c.places))
    ]
    return [channel * pad.plane + place for channel in range(w.channels) for place in places]


def step_table(w: Windows) -> list[int]:
    """Where the elements of a band of a window lie from there."""
    c = w.c
    return [
        w.pad.offset([p * s for p, s in zip(at, c.rhs, strict=True)])
        for at in product(*map(range, (w.band, *c.kernel[1:])))
    ]


def line_table(w: Windows) -> list[int]:
    """Where the lines of a band of a window lie from there."""
    c = w.c
    outer = (w.band, *c.kernel[1:])[:-1]
    return [
        w.pad.offset([*(p * s for p, s in zip(at, c.rhs[:-1], strict=True)), 0])
        for at in product(*map(range, outer))
    ]


def copy_images(
    ctx: RootContext,
    eqn: Eqn,
    w: Windows,
    copies: Buffer,
    start: Index,
    group: Index,
    block: Index,
    image: Index,
    band: Index,
) -> None:
    """A block of channels of an image, padded."""
    c, x, walk = w.c, eqn.inputs[0], ctx.walk

    def element(plane: Index, places: Sequence[Index], where: Any) -> Any:
        channel = block * w.channels + plane
        if c.batch_groups > 1:
            multi = [group * c.n + channel, image, *places]
        else:
            multi = [channel, group * c.i + image, *places]
        return walk.value(x, walk.within(Point((), multi=()), x.aval.shape, multi, where))

    def planes(count: int) -> None:
        fill(ctx, copies, start, count, w.pad, element, band * (w.band * c.rhs[0]))

    rest = c.n - (w.blocks - 1) * w.channels
    if rest == w.channels:
        planes(w.channels)
    else:
        whole = walk.compare("lt", block, w.blocks - 1)
        walk.branch(whole, lambda: planes(w.channels), lambda: planes(rest))


def copy_cotangents(
    ctx: RootContext,
    eqn: Eqn,
    w: Windows,
    cotangents: Buffer,
    begin: Index,
    group: Index,
    image: Index,
    band: Index,
) -> None:
    """A band of the cotangents of an image: (channels of the group, places)."""
    c, y, walk = w.c, eqn.inputs[1], ctx.walk
    inner = c.kernel[1:]
    with ctx.nest([c.per, w.band]) as (one, row):
        first = band * w.band + row

        def line() -> None:
            with ctx.nest(inner, "vector") as rest:
                multi = [group * c.per + one, image, first, *rest]
                point = walk.within(Point((), multi=()), y.aval.shape, multi, True)
                flat = one * w.band + row
                for index, n in zip(rest, inner, strict=True):
                    flat = flat * n + index
                walk.store(cotangents, begin + flat, walk.value(y, point))

        walk.branch(walk.compare("lt", first, c.kernel[0]), line)


def add_slots(ctx: RootContext, w: Windows, sums: Buffer) -> None:
    """The first partial sums += the others, in order, lane by lane."""
    walk, b = ctx.walk, ctx.b
    kind: Any = "parallel_vector" if ctx.parallel(w.sums * w.slots / 4) else "vector"
    with walk.kernel(f"{ctx.name}_slots"), ctx.nest([w.sums], [kind]) as (cell,):
        place = walk.number(cell)
        with b.for_(w.slots - 1, "serial", [b.load(sums, place)]) as loop:
            other = b.mul(b.add(loop.i, 1), w.sums)
            loop.yield_(b.add(loop.carries[0], b.load(sums, b.add(other, place))))
        b.store(sums, place, loop.results[0])


def add_up(ctx: RootContext, eqn: Eqn, w: Windows, sums: Buffer) -> None:
    """out[channel, group and its channel, place] = the first partial sum, its lanes added."""
    c, walk, b = w.c, ctx.walk, ctx.b
    parallel = ctx.parallel(8.0 * w.sums)
    kinds: list[Any] = ["parallel" if parallel else "serial", "serial", "serial", "vector"]
    with (
        walk.kernel(f"{ctx.name}_sum"),
        ctx.nest([c.n, c.groups, c.per, w.taps], kinds) as (channel, group, one, tap),
    ):
        flat = ((group * c.n + channel) * w.taps + tap) * w.depth
        lanes = range(LANES) if w.dots else (0,)
        step = LANES if w.dots else 1
        parts = [b.load(sums, walk.number(flat + one * step + lane)) for lane in lanes]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [b.add(x, y) for x, y in zip(parts[:half], parts[half:], strict=True)]
        place = ((channel * c.groups + group) * c.per + one) * w.taps + tap
        b.store(ctx.buffer(eqn.outputs[0]), walk.number(place), parts[0])


__all__ = ["takes", "windows_conv_p"]
