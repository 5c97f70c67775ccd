"""Convolutions by the runtime's kernel, on padded copies of bands of each image.

The taps of a convolution are few; its places lie on the lanes of vectors. A dilated input (the
gradient of a strided convolution) is never spread out: the places fall into phases, each of which
is a convolution of the input as it is with some of the taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

from functrans.extend import Eqn, Primitive, primitives
from jit.loop_ir.nodes import Buffer, Value
from jit.lowering.index import Index, Point
from jit.lowering.padded import BEYOND, Padded, aligned, fill, table
from jit.lowering.root import RootContext
from jit.lowering.rules import lowers_root
from jit.lowering.window import Axis, Phase, Window, axis_of

ft = primitives.contraction
PANEL = 8
"""Channels of the result whose weights are packed together, as in jit/runtime/conv.py."""
BAND_BYTES = 1 << 18
"""The copy of a band is to stay in the second cache."""
TASKS = 16
"""Images are cut into bands until there are so many tasks."""
SLOTS = 32
"""At most so many tasks have a copy of their own; others come after each other in one."""
COPIES_BYTES = 1 << 25
LEAST_SLOTS = 8
"""The copies take no more than this together, unless so few slots do."""
MOST_STEPS = 1 << 15
"""Tables of offsets are no longer than this."""
LEAST_LINE = 36
"""Rows of places that take fewer bytes would leave too many lanes idle."""

direct_conv_p = Primitive(name="conv", abstract_eval=ft.conv_p.abstract_eval, impl=ft.conv_p.impl)
"""conv as calls of ft_conv."""


class Direct:
    """How the work of one convolution is laid out."""

    def __init__(self, c: Window) -> None:
        self.c = c
        self.axes = [axis_of(c, d) for d in range(len(c.places))]
        first = self.axes[0]
        whole = self.padded(first.most)
        line = c.i * c.groups * c.bytes * whole.plane // max(whole.extent[0], 1)
        band = max(BAND_BYTES // max(line * first.stride, 1), 1)
        wanted = -(-TASKS // c.n)
        self.band = min(first.most, band, max(-(-first.most // wanted), min(first.most, 4)))
        self.bands = -(-first.most // self.band)
        self.pad = self.padded(self.band)
        self.tasks = c.n * self.bands
        self.copy = aligned((c.i * c.groups * self.pad.plane + BEYOND) * c.bytes)
        self.turns = -(-self.tasks // max(min(SLOTS, COPIES_BYTES // self.copy), LEAST_SLOTS))
        self.slots = -(-self.tasks // self.turns)
        self.phases = list(product(*(axis.phases for axis in self.axes)))
        self.panels = -(-c.per // PANEL)
        self.packed = [
            c.groups * self.panels * PANEL * c.i * prod(p.taps for p in phase)
            for phase in self.phases
        ]

    def padded(self, band: int) -> Padded:
        """The copy of a band of so many places of a phase of the first axis."""
        c = self.c
        counts = [band, *(axis.most for axis in self.axes[1:])]
        return Padded(
            tuple(axis.low for axis in self.axes),
            tuple(
                (n - 1) * axis.stride + axis.reach + 1
                for n, axis in zip(counts, self.axes, strict=True)
            ),
            tuple(c.spatial),
            (1,) * len(c.spatial),
            self.axes[-1].stride,
        )

    @property
    def pitch(self) -> int:
        """How far the rows lie apart in a copy, where they are even and adjacent in the result."""
        *outer, last = self.axes
        alike = (
            len(outer) == 1 and outer[0].step == outer[0].stride == last.step == last.stride == 1
        )
        return self.pad.row if alike else 0

    @property
    def weights_at(self) -> list[int]:
        """Where the packed weights of each phase begin, in elements."""
        return [aligned(sum(self.packed[:k]) * 8) // 8 for k in range(len(self.packed))]

    @property
    def copies_at(self) -> int:
        """Where the copies begin, in bytes."""
        return aligned(self.weights_at[-1] * self.c.bytes + self.packed[-1] * self.c.bytes)

    @property
    def workspace(self) -> int:
        return self.copies_at + self.slots * self.copy


def takes(c: Window) -> bool:
    """Is this a convolution for the kernel: few taps, places that fill vectors?"""
    if not c.has_kernel or c.work == 0:
        return False
    if c.i * prod(c.kernel) > MOST_STEPS or prod(c.lhs) > 64:
        return False
    axes = [axis_of(c, d) for d in range(len(c.places))]
    return axes[-1].most * c.bytes >= LEAST_LINE and prod(c.places) <= 1 << 24


@lowers_root(
    direct_conv_p,
    lambda eqn: (),
    workspace=lambda eqn: Direct(Window(eqn)).workspace,
    calls=lambda eqn: (f"ft_conv_{Window(eqn).dtype}",),
)
def lower_direct_conv(ctx: RootContext, eqn: Eqn) -> None:
    """Packs the weights; then, band by band, copies the image and calls the kernel."""
    direct = Direct(Window(eqn))
    weights = ctx.slot(direct.c.dtype, direct.copies_at // direct.c.bytes, 0)
    pack_weights(ctx, eqn, direct, weights)
    convolve(ctx, eqn, direct, weights)


def pack_weights(ctx: RootContext, eqn: Eqn, direct: Direct, weights: Buffer) -> None:
    """weights[phase, group, panel, input channel, tap, channel of the panel]."""
    c, w, walk = direct.c, eqn.inputs[1], ctx.walk
    kind: Any = "parallel" if ctx.parallel(4.0 * w.aval.size) else "serial"
    with walk.kernel(f"{ctx.name}_weights"):
        for phase, at in zip(direct.phases, direct.weights_at, strict=True):
            taps = [p.taps for p in phase]
            if 0 in taps:
                continue
            extents = [c.groups, direct.panels, c.i, *taps, PANEL]
            inner: list[Any] = ["serial"] * (len(extents) - 3)
            kinds: list[Any] = [kind, "serial", *inner, "vector"]
            if c.groups == 1:
                kinds[:2] = ["serial", kind]
            with ctx.nest(extents, kinds) as (group, panel, channel, *tap, lane):
                one = panel * PANEL + lane
                here = walk.compare("lt", one, c.per)
                where = [j * p.tap_step + p.first_tap for j, p in zip(tap, phase, strict=True)]
                multi = [group * c.per + one, channel, *where]
                point = walk.within(Point((), multi=()), w.aval.shape, multi, here)
                found = walk.choose(
                    here,
                    lambda p=point: walk.value(w, p),
                    lambda: walk.literal(w.aval.dtype, 0),
                )
                flat = group * direct.panels + panel
                for index, extent in zip((channel, *tap, lane), extents[2:], strict=True):
                    flat = flat * extent + index
                walk.store(weights, flat + at, found)


def convolve(ctx: RootContext, eqn: Eqn, direct: Direct, weights: Buffer) -> None:
    """Every task: an image's band, copied to its slot and multiplied."""
    c, walk = direct.c, ctx.walk
    size = direct.copy // c.bytes
    copies = ctx.slot(c.dtype, direct.slots * size, direct.copies_at)
    kind: Any = "parallel" if ctx.parallel(c.work / 8) else "serial"
    tables = [tables_of(ctx, direct, k) for k in range(len(direct.phases))]
    with (
        walk.kernel(ctx.name),
        ctx.nest([direct.slots, direct.turns], [kind, "serial"]) as (
            slot,
            turn,
        ),
    ):
        task = slot * direct.turns + turn

        def run() -> None:
            image, band = walk.divide(task, direct.bands)
            start = slot * size
            copy_band(ctx, eqn, direct, copies, start, image, band)
            for k, tables_of_phase in enumerate(tables):
                call(ctx, eqn, direct, k, weights, copies, start, image, band, tables_of_phase)

        walk.branch(walk.compare("lt", task, direct.tasks), run)


def copy_band(
    ctx: RootContext,
    eqn: Eqn,
    direct: Direct,
    copies: Buffer,
    start: Index,
    image: Index,
    band: Index,
) -> None:
    """All channels of a band of an image, padded."""
    c, x, walk = direct.c, eqn.inputs[0], ctx.walk

    def element(plane: Index, places: Sequence[Index], where: Any) -> Any:
        if c.batch_groups > 1:
            group, channel = walk.divide(plane, c.i)
            multi = [group * c.n + image, channel, *places]
        else:
            multi = [image, plane, *places]
        return walk.value(x, walk.within(Point((), multi=()), x.aval.shape, multi, where))

    shift = band * (direct.band * direct.axes[0].stride)
    fill(ctx, copies, start, c.groups * c.i, direct.pad, element, shift)


def tables_of(ctx: RootContext, direct: Direct, k: int) -> tuple[Buffer, Buffer]:
    """The offsets of the steps of phase k, and those of its rows in the copy and the result."""
    c, pad, axes, phase = direct.c, direct.pad, direct.axes, direct.phases[k]
    lows = [axis.low for axis in axes]
    taps = [
        pad.offset([p.shift + j * p.hop - low for p, j, low in zip(phase, at, lows, strict=True)])
        for at in product(*(range(p.taps) for p in phase))
    ]
    steps = [channel * pad.plane + tap for channel in range(c.i) for tap in taps]
    rows: list[int] = []
    for at in product(*map(range, row_counts(direct, phase))):
        cells = [q * axis.stride for q, axis in zip(at, axes[:-1], strict=True)]
        place = [q * axis.step + p.first for q, axis, p in zip(at, axes, phase, strict=False)]
        rows += [pad.offset([*cells, 0]), ravel([*place, phase[-1].first], c.places)]
    return table(ctx, f"steps{k}", steps or [0]), table(ctx, f"rows{k}", rows)


def row_counts(direct: Direct, phase: Sequence[Phase]) -> list[int]:
    """The rows of a whole band of a phase, by axis; none where the rows themselves are cut."""
    if len(phase) == 1:
        return []
    return [direct.band, *(p.length for p in phase[1:-1])]


def ravel(place: Sequence[int], shape: Sequence[int]) -> int:
    flat = 0
    for index, n in zip(place, shape, strict=True):
        flat = flat * n + index
    return flat


def call(
    ctx: RootContext,
    eqn: Eqn,
    direct: Direct,
    k: int,
    weights: Buffer,
    copies: Buffer,
    start: Index,
    image: Index,
    band: Index,
    tables: tuple[Buffer, Buffer],
) -> None:
    """All channels of one band, at the places of one phase."""
    c, b, walk, phase = direct.c, ctx.b, ctx.walk, direct.phases[k]
    steps, rows = tables
    depth = c.i * prod(p.taps for p in phase)
    image_size = prod(c.places)
    along = image_size // c.places[0]
    target = image * (c.o * image_size)
    target = target + band * (direct.band * direct.axes[0].step * along)
    left = band * -direct.band + phase[0].length
    counted = here(ctx, left, direct.band)
    if len(phase) == 1:
        height, width = b.index(1), counted
    else:
        height, width = (
            b.mul(counted, prod(p.length for p in phase[1:-1])),
            b.index(phase[-1].length),
        )
    b.call(
        f"ft_conv_{c.dtype}",
        c.groups,
        c.per,
        depth,
        b.ref(weights, direct.weights_at[k]),
        b.ref(copies, walk.number(start)),
        c.i * direct.pad.plane,
        b.ref(steps),
        height,
        b.ref(rows),
        width,
        direct.pitch,
        b.ref(ctx.buffer(eqn.outputs[0]), walk.number(target)),
        image_size,
        direct.axes[-1].step,
    )


def here(ctx: RootContext, left: Index, most: int) -> Value:
    """min(left, most); the phases differ by one place at most, so that none is below zero."""
    low, _ = left.range()
    assert low >= 0, "a phase ends before its last band"
    return ctx.b.min(ctx.walk.number(left), ctx.b.index(most))


__all__ = ["Axis", "direct_conv_p", "takes"]
