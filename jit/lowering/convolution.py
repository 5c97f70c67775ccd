"""Convolutions: folds, or products over patches of the input where they are large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product as every
from math import prod
from typing import Any

from functrans.extend import Atom, Eqn, Literal, Primitive, primitives
from jit.lowering import conv_direct, conv_windows
from jit.lowering.contraction import GEMMS, product
from jit.lowering.formulas import NARROW
from jit.lowering.index import Index, Point
from jit.lowering.rules import PRODUCTS, EquationBuilder, Fold, Walk, expands, folds, loop_dtype
from jit.lowering.window import Axis, Phase, Window, axis_of

ft = primitives.contraction
st = primitives.structural
FEW_PLACES = 64
"""A result of so few places an image is computed for all images together."""
MOST_PARTS = 128
"""Patches are put together from no more slices than this."""
LEAST_LINE = 4
"""So many places of a row are worth being copied as a line."""
MOST_PHASES = 16
"""Places are divided into no more phases than this."""
LARGE_CONV = 1 << 15
"""From so many multiplications on a convolution copies patches and calls the GEMM."""

looped_conv_p = Primitive(name="conv", abstract_eval=ft.conv_p.abstract_eval, impl=ft.conv_p.impl)
"""conv as a loop nest."""


@expands(ft.conv_p)
def choose_conv(eqs: EquationBuilder, eqn: Eqn) -> list[Atom] | None:
    """A kernel of the runtime, else a product over patches where that is large, or a loop nest."""
    c = Window(eqn)
    if c.work >= LARGE_CONV:
        if conv_windows.takes(c):
            return eqs.bind(conv_windows.windows_conv_p, *eqn.inputs, **eqn.params)
        if conv_direct.takes(c):
            return eqs.bind(conv_direct.direct_conv_p, *eqn.inputs, **eqn.params)
        axes = [axis_of(c, d) for d in range(len(c.places))]
        if max(c.lhs, default=1) > 1 and prod(len(a.phases) for a in axes) <= MOST_PHASES:
            return conv_by_phases(eqs, eqn, c, axes)
    few = min(prod(c.kernel), prod(c.places)) <= MOST_PARTS
    plain = c.batch_groups == 1 and few and min(c.per, c.i * prod(c.kernel)) > 1
    if plain and eqn.inputs[0].aval.dtype.name in GEMMS and c.work >= LARGE_CONV:
        return conv_by_patches(eqs, eqn, c)
    return eqs.bind(looped_conv_p, *eqn.inputs, **eqn.params)


def conv_by_patches(eqs: EquationBuilder, eqn: Eqn, c: Window) -> list[Atom]:
    """Gathers the window's elements beside each other, and multiplies by w, image by image.

    The patches are put together from one slice for each element of the window, or for each place
    where there are fewer of those.
    """
    x = eqn.inputs[0]
    padded = spread(eqs, x, c)
    by_element = prod(c.kernel) <= prod(c.places)
    parts = list(windows(eqs, padded, c, by_element))
    multiply = over_all_images if prod(c.places) <= FEW_PLACES else image_by_image
    return multiply(eqs, eqn, c, parts, by_element)


def conv_by_phases(eqs: EquationBuilder, eqn: Eqn, c: Window, axes: Sequence[Axis]) -> list[Atom]:
    """A convolution of a dilated input as one of the input itself for each phase of its places.

    So the zeros between neighbours are neither stored nor multiplied.
    """
    most = [axis.most for axis in axes]
    box = (c.n, c.o, *(n for m in most for n in (m, 1)))
    parts: list[Atom] = []
    for phases in every(*(axis.phases for axis in axes)):
        part = one_phase(eqs, eqn, c, axes, phases)
        missing = tuple(m - p.length for m, p in zip(most, phases, strict=True))
        if any(missing):
            none, zero = (0,) * part.aval.ndim, Literal(part.aval.dtype.type(0))
            high = (0, 0, *missing)
            (part,) = eqs.bind(st.pad_p, part, zero, low=none, high=high, interior=none)
        parts += eqs.bind(st.reshape_p, part, shape=box)
    for d in reversed(range(len(axes))):
        size = len(axes[d].phases)
        parts = [joined(eqs, parts[k : k + size], 3 + 2 * d) for k in range(0, len(parts), size)]
    whole = (c.n, c.o, *(m * len(axis.phases) for m, axis in zip(most, axes, strict=True)))
    (found,) = eqs.bind(st.reshape_p, parts[0], shape=whole)
    shape = eqn.outputs[0].aval.shape
    if whole == shape:
        return [found]
    ndim = len(shape)
    return eqs.bind(st.slice_p, found, start=(0,) * ndim, limit=shape, stride=(1,) * ndim)


def one_phase(
    eqs: EquationBuilder, eqn: Eqn, c: Window, axes: Sequence[Axis], phases: Sequence[Phase]
) -> Atom:
    """The places of one phase of each axis: a convolution with the taps that meet elements."""
    x, w = eqn.inputs
    shape = (c.n, c.o, *(p.length for p in phases))
    if not all(p.taps for p in phases):
        zero = Literal(x.aval.dtype.type(0))
        return eqs.bind(st.broadcast_p, zero, shape=shape, axes=tuple(range(len(shape))))[0]
    stop = [p.first_tap + (p.taps - 1) * p.tap_step + 1 for p in phases]
    (taps,) = eqs.bind(
        st.slice_p,
        w,
        start=(0, 0, *(p.first_tap for p in phases)),
        limit=(*w.aval.shape[:2], *stop),
        stride=(1, 1, *(p.tap_step for p in phases)),
    )
    met = [
        (p.length - 1) * axis.stride + (p.taps - 1) * p.hop + 1
        for p, axis in zip(phases, axes, strict=True)
    ]
    own = {
        "strides": tuple(axis.stride for axis in axes),
        "padding": tuple(
            (-p.shift, n + p.shift - size)
            for p, n, size in zip(phases, met, c.spatial, strict=True)
        ),
        "lhs_dilation": (1,) * len(axes),
        "rhs_dilation": tuple(p.hop for p in phases),
    }
    return eqs.bind(ft.conv_p, x, taps, **(eqn.params | own))[0]


def joined(eqs: EquationBuilder, parts: list[Atom], axis: int) -> Atom:
    return parts[0] if len(parts) == 1 else eqs.bind(st.concatenate_p, *parts, axis=axis)[0]


def image_by_image(
    eqs: EquationBuilder, eqn: Eqn, c: Window, parts: list[Atom], by_element: bool
) -> list[Atom]:
    """One product for each image and group: the result comes out in its own order."""
    count, places = prod(c.kernel), prod(c.places)
    box = (c.n, c.groups, c.i, 1, places) if by_element else (c.n, c.groups, c.i, count, 1)
    boxes = [eqs.bind(st.reshape_p, part, shape=box)[0] for part in parts]
    patches = joined(eqs, boxes, 3 if by_element else 4)
    depth = c.i * count
    (columns,) = eqs.bind(st.reshape_p, patches, shape=(c.n, c.groups, depth, places))
    (weights,) = eqs.bind(st.reshape_p, eqn.inputs[1], shape=(c.groups, c.per, depth))
    whole = (c.n, c.groups, c.per, depth)
    (repeated,) = eqs.bind(st.broadcast_p, weights, shape=whole, axes=(0,))
    (found,) = eqs.bind(
        ft.dot_general_p, repeated, columns, contract=((3,), (2,)), batch=((0, 1), (0, 1))
    )
    return eqs.bind(st.reshape_p, found, shape=eqn.outputs[0].aval.shape)


def over_all_images(
    eqs: EquationBuilder, eqn: Eqn, c: Window, parts: list[Atom], by_element: bool
) -> list[Atom]:
    """One product for each group over all images, where an image has few places.

    Patches lie beside each other, so that the places that an element of the window meets are copied
    as lines; where these would be short, the elements of a patch are.
    """
    count, places = prod(c.kernel), prod(c.places)
    lines = by_element and max(c.places[-1:], default=1) >= LEAST_LINE
    flat = (c.n, c.groups, c.i, places if by_element else count)
    order = (1, 2, 0, 3) if lines else (1, 0, 3, 2) if by_element else (1, 0, 2, 3)
    box = (c.groups, c.n, places, c.i, 1) if by_element else (c.groups, c.n, 1, c.i, count)
    box = (c.groups, c.i, 1, c.n, places) if lines else box
    rows: list[Atom] = []
    for part in parts:
        (row,) = eqs.bind(st.reshape_p, part, shape=flat)
        (row,) = eqs.bind(st.transpose_p, row, perm=order)
        rows += eqs.bind(st.reshape_p, row, shape=box)
    patches = joined(eqs, rows, 4 if by_element and not lines else 2)
    depth, breadth = c.i * count, c.n * places
    shape = (c.groups, depth, breadth) if lines else (c.groups, breadth, depth)
    (patches,) = eqs.bind(st.reshape_p, patches, shape=shape)
    (weights,) = eqs.bind(st.reshape_p, eqn.inputs[1], shape=(c.groups, c.per, depth))
    contract = ((2,), (1 if lines else 2,))
    (found,) = eqs.bind(ft.dot_general_p, weights, patches, contract=contract, batch=((0,), (0,)))
    (apart,) = eqs.bind(st.reshape_p, found, shape=(c.o, c.n, places))
    (back,) = eqs.bind(st.transpose_p, apart, perm=(1, 0, 2))
    return eqs.bind(st.reshape_p, back, shape=eqn.outputs[0].aval.shape)


def spread(eqs: EquationBuilder, x: Atom, c: Window) -> Atom:
    """x with its dilation and padding; negative padding cuts off.

    What it cuts at the far end may stay: it lies behind the last window.
    """
    low = (0, 0, *(max(lo, 0) for lo, _ in c.padding))
    high = (0, 0, *(max(hi, 0) for _, hi in c.padding))
    interior = (0, 0, *(d - 1 for d in c.lhs))
    if any(low) or any(high) or any(interior):
        zero = Literal(x.aval.dtype.type(0))
        (x,) = eqs.bind(st.pad_p, x, zero, low=low, high=high, interior=interior)
    start = (0, 0, *(max(-lo, 0) for lo, _ in c.padding))
    if any(start):
        stride = (1,) * x.aval.ndim
        (x,) = eqs.bind(st.slice_p, x, start=start, limit=x.aval.shape, stride=stride)
    return x


def windows(eqs: EquationBuilder, x: Atom, c: Window, by_element: bool) -> Iterator[Atom]:
    """The elements that each element of the window meets, shape (n, channels, *places).

    Or else the window over each place, shape (n, channels, *window).
    """
    fixed, steps = (c.kernel, c.rhs) if by_element else (c.places, c.strides)
    running, strides = (c.places, c.strides) if by_element else (c.kernel, c.rhs)
    for offset in multi_indices(fixed):
        first = tuple(k * d for k, d in zip(offset, steps, strict=True))
        stop = tuple(f + (n - 1) * s + 1 for f, n, s in zip(first, running, strides, strict=True))
        (part,) = eqs.bind(
            st.slice_p,
            x,
            start=(0, 0, *first),
            limit=(*x.aval.shape[:2], *stop),
            stride=(1, 1, *strides),
        )
        yield part


def multi_indices(shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    if not shape:
        yield ()
        return
    for first in range(shape[0]):
        for rest in multi_indices(shape[1:]):
            yield (first, *rest)


PRODUCTS.add(looped_conv_p)


@folds(looped_conv_p)
def fold_conv(eqn: Eqn) -> Fold:
    """Over batch, output channels and places; input channels and the window are folded."""
    x, w = eqn.inputs
    c = Window(eqn)
    spatial = len(c.places)
    wide = loop_dtype(x.aval.dtype) in NARROW

    def element(walk: Walk, indices: Sequence[Index]) -> Any:
        n, o, i = indices[0], indices[1], indices[2 + spatial]
        places, offsets = indices[2 : 2 + spatial], indices[3 + spatial :]
        group = walk.divide(o, c.per)[0] if c.groups > 1 else Index(0, {})
        inside: Any = True
        where: list[Index] = []
        for axis, (place, offset) in enumerate(zip(places, offsets, strict=True)):
            index = place * c.strides[axis] + offset * c.rhs[axis] - c.padding[axis][0]
            extent = (c.spatial[axis] - 1) * c.lhs[axis] + 1
            inside = walk.both(inside, walk.compare("ge", index, 0))
            inside = walk.both(inside, walk.compare("lt", index, extent))
            if c.lhs[axis] > 1:
                index, rest = walk.divide(index, c.lhs[axis])
                inside = walk.both(inside, walk.compare("eq", rest, 0))
            where.append(index)
        if c.batch_groups > 1:
            image, channel = group * c.n + n, i
        else:
            image, channel = n, group * c.i + i
        source = walk.within(Point((), multi=()), x.aval.shape, [image, channel, *where], inside)
        weight = walk.value(w, Point(w.aval.shape, multi=[o, i, *offsets]))
        zero = x.aval.dtype

        def term() -> Any:
            return product(walk.b, walk.value(x, source), weight, False, wide)

        return walk.choose(inside, term, lambda: nothing(walk, zero, wide))

    extents = (c.n, c.o, *c.places, c.i, *c.kernel)
    reduced = (False,) * (2 + spatial) + (True,) * (1 + spatial)
    return Fold(extents, reduced, "add", element)


def nothing(walk: Walk, dtype: Any, wide: bool) -> Any:
    """A zero term, of the type that products have."""
    zero = walk.literal(dtype, 0)
    return walk.b.cast(zero, "f32") if wide else zero
