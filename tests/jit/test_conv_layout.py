"""How the work of convolutions is laid out: all of it once, in bounded memory, in enough tasks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import prod
from typing import Any

import numpy as np
import pytest

import functrans as ft
from functrans import lax
from functrans.extend import aval_of, simplify, stage_walk
from jit.lowering.conv_direct import COPIES_BYTES, LEAST_SLOTS, SLOTS, Direct
from jit.lowering.conv_direct import takes as takes_direct
from jit.lowering.conv_windows import (
    BAND_PLACES,
    LEAST_PLACES,
    MOST_ROWS,
    MOST_SLOTS,
    SUMS_BYTES,
    TASKS,
    Windows,
)
from jit.lowering.conv_windows import takes as takes_windows
from jit.lowering.padded import BEYOND, LINE, Padded
from jit.lowering.window import Window
from jit.passes.prepare import inline_calls, to_graph

Shape = tuple[int, ...]
CACHE = 1 << 18

LAYERS: dict[str, tuple[Shape, Shape, dict[str, Any]]] = {
    "digits, first": ((64, 1, 28, 28), (32, 1, 3, 3), {}),
    "digits, second": ((64, 32, 28, 28), (64, 32, 3, 3), {}),
    "one image": ((1, 64, 64, 64), (64, 64, 3, 3), {}),
    "photographs": ((32, 3, 224, 224), (64, 3, 7, 7), {"window_strides": (2, 2)}),
    "deep and small": ((16, 512, 7, 7), (512, 512, 3, 3), {}),
    "depthwise": ((4, 32, 56, 56), (32, 1, 3, 3), {"feature_group_count": 32}),
    "sound": ((8, 16, 1000), (16, 16, 9), {}),
    "stencil": ((1, 1, 256, 256), (4, 1, 5, 5), {}),
    "volume": ((2, 4, 16, 16, 16), (4, 4, 3, 3, 3), {}),
    "long": ((1, 1, 100_000), (2, 1, 33), {}),
    "short": ((1, 8, 700), (8, 8, 9), {}),
    "two groups": ((1, 64, 300, 300), (32, 32, 3, 3), {"feature_group_count": 2}),
    "many filters": ((1, 64, 30, 30), (8, 64, 3, 3), {}),
    "a filter": ((1, 64, 30, 30), (7, 64, 3, 3), {}),
}

PLANS = {
    "digits, first": (
        "direct: 1 x 28 rows, 32 copies of 2 turns, 126080 bytes",
        "windows: 1 x 1 channels, 1 x 28 rows, 32 sums of 2 turns, 3381248 bytes",
        "direct: 1 x 28 rows, 32 copies of 2 turns, 3703808 bytes",
    ),
    "digits, second": (
        "direct: 1 x 28 rows, 32 copies of 2 turns, 3768320 bytes",
        "windows: 1 x 32 channels, 2 x 23 rows, 32 sums of 4 turns, 10723328 bytes",
        "direct: 1 x 28 rows, 32 copies of 2 turns, 7454720 bytes",
    ),
    "one image": (
        "direct: 16 x 4 rows, 16 copies of 1 turns, 1773568 bytes",
        "windows: 1 x 64 channels, 16 x 4 rows, 16 sums of 1 turns, 5038080 bytes",
        "direct: 16 x 4 rows, 16 copies of 1 turns, 1773568 bytes",
    ),
    "photographs": (
        "direct: 3 x 47 rows, 32 copies of 3 turns, 8790784 bytes",
        "windows: 1 x 3 channels, 16 x 7 rows, 32 sums of 16 turns, 9314304 bytes",
        "direct: 14 x 8 rows, 32 copies of 14 turns, 10471424 bytes",
    ),
    "deep and small": (
        "windows: 16 x 32 channels, 1 x 7 rows, 1 sums of 16 turns, 11216896 bytes",
    ),
    "depthwise": (
        "direct: 4 x 14 rows, 16 copies of 1 turns, 1913856 bytes",
        "dots: 1 x 1 channels, 1 x 56 rows, 1 sums of 4 turns, 868352 bytes",
        "direct: 4 x 14 rows, 16 copies of 1 turns, 1913856 bytes",
    ),
    "sound": (
        "direct: 2 x 500 rows, 16 copies of 1 turns, 533504 bytes",
        "windows: 1 x 16 channels, 2 x 500 rows, 16 sums of 1 turns, 1187840 bytes",
        "direct: 2 x 500 rows, 16 copies of 1 turns, 533504 bytes",
    ),
    "stencil": (
        "direct: 16 x 16 rows, 16 copies of 1 turns, 337728 bytes",
        "dots: 1 x 1 channels, 16 x 16 rows, 16 sums of 1 turns, 1491968 bytes",
        "direct: 16 x 16 rows, 16 copies of 1 turns, 1338496 bytes",
    ),
    "volume": (
        "direct: 4 x 4 rows, 8 copies of 1 turns, 254336 bytes",
        "dots: 1 x 4 channels, 8 x 2 rows, 16 sums of 1 turns, 913408 bytes",
        "direct: 4 x 4 rows, 8 copies of 1 turns, 254336 bytes",
    ),
    "long": (
        "direct: 16 x 6250 rows, 16 copies of 1 turns, 407616 bytes",
        "dots: 1 x 1 channels, 25 x 4096 rows, 25 sums of 1 turns, 1350400 bytes",
        "direct: 16 x 6250 rows, 16 copies of 1 turns, 811072 bytes",
    ),
    "short": (
        "direct: 16 x 44 rows, 16 copies of 1 turns, 33024 bytes",
        "dots: 4 x 2 channels, 3 x 234 rows, 3 sums of 1 turns, 230400 bytes",
        "direct: 16 x 44 rows, 16 copies of 1 turns, 33024 bytes",
    ),
    "two groups": (
        "direct: 100 x 3 rows, 25 copies of 4 turns, 9707264 bytes",
        "windows: 1 x 32 channels, 75 x 4 rows, 15 sums of 5 turns, 9830400 bytes",
        "direct: 50 x 6 rows, 25 copies of 2 turns, 7774464 bytes",
    ),
    "many filters": (
        "direct: 8 x 4 rows, 8 copies of 1 turns, 413696 bytes",
        "windows: 4 x 16 channels, 4 x 8 rows, 4 sums of 1 turns, 606208 bytes",
        "direct: 8 x 4 rows, 8 copies of 1 turns, 69632 bytes",
    ),
    "a filter": (
        "direct: 8 x 4 rows, 8 copies of 1 turns, 413696 bytes",
        "dots: 4 x 16 channels, 4 x 8 rows, 4 sums of 1 turns, 1475584 bytes",
        "direct: 8 x 4 rows, 8 copies of 1 turns, 61184 bytes",
    ),
}
"""What is decided for each: speed was measured with these; another plan is to be measured too."""


@cache
def windows_of(name: str) -> list[Window]:
    """The convolutions of a layer: its result, the gradients of its filters and of its input.

    Those that become matrix products are not among them.
    """
    x, w, params = LAYERS[name]
    params = {"window_strides": (1,) * (len(x) - 2), "padding": "SAME", **params}

    def layer(x: Any, w: Any) -> Any:
        return lax.conv_general_dilated(x, w, **params)

    def walk(x: Any, w: Any, ct: Any) -> list[Any]:
        y, pull = ft.vjp(layer, x, w)
        return [y, *pull(ct)]

    avals = [aval_of(np.zeros(shape, "f4")) for shape in (x, w)]
    out = ft.eval_shape(layer, *(np.zeros(shape, "f4") for shape in (x, w)))
    jaxpr = stage_walk(walk, [*avals, aval_of(np.zeros(out.shape, "f4"))], "test")
    graph = to_graph(simplify(inline_calls(jaxpr)))
    return [Window(eqn) for eqn in graph.eqns if eqn.primitive.name == "conv"]


def direct(names: Any = LAYERS) -> Iterator[Direct]:
    for name in names:
        for c in windows_of(name):
            if not takes_windows(c) and takes_direct(c):
                yield Direct(c)


def windows(names: Any = LAYERS) -> Iterator[Windows]:
    for name in names:
        yield from (Windows(c) for c in windows_of(name) if takes_windows(c))


def plan(c: Window) -> str:
    """What is decided for a convolution, in words."""
    if takes_windows(c):
        w = Windows(c)
        how = "dots" if w.dots else "windows"
        cut = f"{w.blocks} x {w.channels} channels, {w.bands} x {w.band} rows"
        return f"{how}: {cut}, {w.slots} sums of {w.turns} turns, {w.workspace} bytes"
    assert takes_direct(c)
    d = Direct(c)
    cut = f"{d.bands} x {d.band} rows"
    return f"direct: {cut}, {d.slots} copies of {d.turns} turns, {d.workspace} bytes"


@pytest.mark.parametrize("name", list(LAYERS))
def test_plans_of_layers(name: str) -> None:
    assert tuple(map(plan, windows_of(name))) == PLANS[name]


def covers(parts: int, size: int, whole: int) -> bool:
    """Do so many parts of this size make the whole, and none of them nothing?"""
    return (parts - 1) * size < whole <= parts * size


@pytest.mark.parametrize("name", list(LAYERS))
def test_all_work_is_done_once(name: str) -> None:
    for w in windows([name]):
        assert covers(w.blocks, w.channels, w.c.n)
        assert covers(w.bands, w.band, w.c.kernel[0])
        assert covers(w.slots, w.turns, w.c.i * w.bands)
        assert w.tasks == w.c.groups * w.blocks * w.slots
    for d in direct([name]):
        assert covers(d.bands, d.band, d.axes[0].most)
        assert covers(d.slots, d.turns, d.c.n * d.bands)


@pytest.mark.parametrize("name", list(LAYERS))
def test_memory_is_bounded(name: str) -> None:
    """By the size of a cache for each task, and by a number for all."""
    for w in windows([name]):
        assert w.slots == 1 or w.slots * w.sums * w.c.bytes <= SUMS_BYTES
        assert w.slots == 1 or w.slots * w.c.groups <= MOST_SLOTS
        assert w.channels == 1 or w.channels * w.taps <= MOST_ROWS
        assert w.band == 1 or w.places <= BAND_PLACES
        assert w.band == 1 or w.cotangent <= CACHE
    for d in direct([name]):
        assert d.slots <= LEAST_SLOTS or d.slots * d.copy <= COPIES_BYTES
        assert d.slots <= SLOTS


@pytest.mark.parametrize("name", list(LAYERS))
def test_parts_of_a_workspace_do_not_meet(name: str) -> None:
    """Partial sums, copies and cotangents lie after each other, each in whole lines."""
    for w in windows([name]):
        parts = [w.slots * w.sums * w.c.bytes, w.tasks * w.copy, w.tasks * w.cotangent]
        ends = [w.copies_at, w.cotangents_at, w.workspace]
        follow([0, w.copies_at, w.cotangents_at], parts, ends)
        assert w.copy >= (w.channels * w.pad.plane + BEYOND) * w.c.bytes
        assert w.cotangent >= (w.c.per * w.places + BEYOND) * w.c.bytes
    for d in direct([name]):
        packed = [n * d.c.bytes for n in d.packed]
        starts = [at * d.c.bytes for at in d.weights_at]
        follow(starts, packed, [*starts[1:], d.copies_at])
        follow([d.copies_at], [d.slots * d.copy], [d.workspace])
        assert d.copy >= (d.c.i * d.c.groups * d.pad.plane + BEYOND) * d.c.bytes


def follow(starts: list[int], sizes: list[int], ends: list[int]) -> None:
    """Each part fits between its start and the next one's, which is little further on."""
    for start, size, end in zip(starts, sizes, ends, strict=True):
        assert start % LINE == 0
        assert start + size <= end < start + size + 2 * LINE


def test_few_images_make_enough_tasks() -> None:
    """Where there are rows to cut, there is work for several threads; but no band is tiny."""
    for w in windows(["one image", "stencil", "sound", "volume", "long"]):
        assert w.tasks >= TASKS
        assert w.places >= LEAST_PLACES
    for d in direct(["one image", "stencil", "sound", "long"]):
        assert d.c.n * d.bands >= TASKS


def test_a_padded_plane_holds_every_cell_once() -> None:
    """Cells of one phase of a row are neighbours; rows come after each other."""
    for phases in (1, 2, 3):
        pad = Padded((0, 0, 0), (2, 3, 7), (2, 3, 7), (1, 1, 1), phases)
        cells = [pad.offset(cell) for cell in np.ndindex(*pad.extent)]
        assert len(set(cells)) == prod(pad.extent)
        assert max(cells) < pad.plane <= prod(pad.extent[:-1]) * (7 + phases)
        assert pad.offset([0, 0, phases]) == 1
        assert pad.offset([0, 0, 1]) == (pad.run if phases > 1 else 1)
        assert pad.offset([1, 2, 0]) == 5 * pad.row
