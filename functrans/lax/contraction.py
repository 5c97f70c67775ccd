"""Products and convolutions with explicit axes: dot_general, conv_general_dilated and relatives."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from functrans.errors import DtypeError, OptionError, ShapeError
from functrans.ir import aval_of
from functrans.primitives import contraction as c
from functrans.primitives import structural as p
from functrans.primitives.derive import Value
from functrans.surface import contraction
from functrans.surface.declare import surface
from functrans.surface.promotion import canonical_dtype, cast
from functrans.surface.shaping import array_of
from functrans.surface.windows import dilated_sizes, same_or_given
from functrans.typing import ArrayLike, DTypeLike

Pairs: TypeAlias = tuple[Sequence[int], Sequence[int]]
DotDimensionNumbers: TypeAlias = tuple[Pairs, Pairs]


class Precision(enum.Enum):
    """Accepted where other libraries offer fast inexact products; here all are exact."""

    DEFAULT = 0
    HIGH = 1
    HIGHEST = 2


def _operands(name: str, lhs: ArrayLike, rhs: ArrayLike, dtype: DTypeLike) -> list[Value]:
    values = [array_of(v, name) for v in (lhs, rhs)]
    if dtype is not None:
        return [cast(v, canonical_dtype(dtype, name)) for v in values]
    if aval_of(values[0]).dtype != aval_of(values[1]).dtype:
        raise DtypeError(
            f"lax.{name}: the operands must have one dtype, but are {aval_of(values[0])} and "
            f"{aval_of(values[1])}"
        )
    return values


@surface(name="lax.dot_general")
def dot_general(
    lhs: ArrayLike,
    rhs: ArrayLike,
    dimension_numbers: DotDimensionNumbers,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Value:
    """The sum of products over paired axes; the result has batch, lhs's, then rhs's free axes.

    `dimension_numbers` is ((lhs contracting, rhs contracting), (lhs batch, rhs batch)).
    """
    x, y = _operands("dot_general", lhs, rhs, preferred_element_type)
    axes, batch = ((tuple(a), tuple(b)) for a, b in dimension_numbers)
    return contraction.contract(x, y, axes, batch)


@surface(name="lax.dot")
def dot(
    lhs: ArrayLike, rhs: ArrayLike, precision: Any = None, preferred_element_type: DTypeLike = None
) -> Value:
    """The product of vectors and matrices."""
    x, y = _operands("dot", lhs, rhs, preferred_element_type)
    if not (1 <= aval_of(x).ndim <= 2 and 1 <= aval_of(y).ndim <= 2):
        raise ShapeError(f"lax.dot takes vectors and matrices, but got {aval_of(x)}, {aval_of(y)}")
    return contraction.dot.body(x, y)


@surface(name="lax.batch_matmul")
def batch_matmul(lhs: ArrayLike, rhs: ArrayLike, precision: Any = None) -> Value:
    """The matrix products of two stacks of one leading shape."""
    return contraction.matmul.body(*_operands("batch_matmul", lhs, rhs, None))


# -- convolution ------------------------------------------------------------------------------


class ConvDimensionNumbers(NamedTuple):
    """Where the axes of operands and result lie: (batch, feature, *spatial) and so on.

    rhs_spec is (out feature, in feature, *spatial).
    """

    lhs_spec: Sequence[int]
    rhs_spec: Sequence[int]
    out_spec: Sequence[int]


def conv_dimension_numbers(
    lhs_shape: Sequence[int], rhs_shape: Sequence[int], dimension_numbers: Any
) -> ConvDimensionNumbers:
    """Axis places from three strings such as ("NHWC", "HWIO", "NHWC"); None is "NCHW", "OIHW"."""
    ndim = len(lhs_shape)
    if isinstance(dimension_numbers, ConvDimensionNumbers):
        return dimension_numbers
    if dimension_numbers is None:
        return ConvDimensionNumbers(*(tuple(range(ndim)),) * 3)
    lhs, rhs, out = dimension_numbers
    for spec, letters in ((lhs, "NC"), (rhs, "OI"), (out, "NC")):
        if len(spec) != ndim or any(c not in spec for c in letters):
            raise ShapeError(f"conv: {spec!r} must name {letters} and {ndim - 2} spatial axes")
    order = [c for c in rhs if c not in "OI"]
    if sorted(order) != sorted(set(lhs) - set("NC")):
        raise ShapeError(f"conv: {lhs!r} and {rhs!r} name different spatial axes")
    return ConvDimensionNumbers(
        tuple(map(lhs.index, ("N", "C", *order))),
        tuple(map(rhs.index, ("O", "I", *order))),
        tuple(map(out.index, ("N", "C", *order))),
    )


@surface(name="lax.conv_general_dilated")
def conv_general_dilated(
    lhs: ArrayLike,
    rhs: ArrayLike,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Value:
    """Convolution as in deep learning (without turning the window round).

    `padding` is "SAME", "SAME_LOWER", "VALID" or (low, high) per spatial axis; `dimension_numbers`
    says where the axes lie (`conv_dimension_numbers`).
    """
    x, w = _operands("conv_general_dilated", lhs, rhs, preferred_element_type)
    places = conv_dimension_numbers(aval_of(x).shape, aval_of(w).shape, dimension_numbers)
    x, w = p.transpose(x, tuple(places.lhs_spec)), p.transpose(w, tuple(places.rhs_spec))
    strides = tuple(window_strides)
    ones = (1,) * len(strides)
    spread_x = ones if lhs_dilation is None else tuple(lhs_dilation)
    spread_w = ones if rhs_dilation is None else tuple(rhs_dilation)
    sizes = dilated_sizes(aval_of(x).shape[2:], spread_x)
    windows = dilated_sizes(aval_of(w).shape[2:], spread_w)
    out = c.conv(
        x,
        w,
        strides=strides,
        padding=tuple(same_or_given(padding, sizes, windows, strides)),
        lhs_dilation=spread_x,
        rhs_dilation=spread_w,
        groups=feature_group_count,
        batch_groups=batch_group_count,
    )
    return p.transpose(out, p.inverse_permutation(tuple(places.out_spec)))


@surface(name="lax.conv")
def conv(lhs: ArrayLike, rhs: ArrayLike, window_strides: Sequence[int], padding: Any) -> Value:
    """Convolution of (N, C, *spatial) with (O, I, *spatial)."""
    return conv_general_dilated.body(lhs, rhs, window_strides, padding)


@surface(name="lax.conv_with_general_padding")
def conv_with_general_padding(
    lhs: ArrayLike,
    rhs: ArrayLike,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None,
    rhs_dilation: Sequence[int] | None,
) -> Value:
    """Convolution of (N, C, *spatial) with (O, I, *spatial), padded and dilated."""
    return conv_general_dilated.body(lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation)


@surface(name="lax.conv_transpose")
def conv_transpose(
    lhs: ArrayLike,
    rhs: ArrayLike,
    strides: Sequence[int],
    padding: Any,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
) -> Value:
    """The adjoint of a strided convolution: the input is dilated by the strides.

    `transpose_kernel` turns the window round and exchanges its features, which makes this the
    gradient of the convolution with the same arguments.
    """
    x, w = _operands("conv_transpose", lhs, rhs, None)
    if dimension_numbers is None:
        spatial = "DHW"[-(aval_of(x).ndim - 2) :] if aval_of(x).ndim > 2 else ""
        dimension_numbers = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    places = conv_dimension_numbers(aval_of(x).shape, aval_of(w).shape, dimension_numbers)
    sizes = [aval_of(w).shape[i] for i in places.rhs_spec[2:]]
    spread = (1,) * len(sizes) if rhs_dilation is None else tuple(rhs_dilation)
    reach = dilated_sizes(sizes, spread)
    if isinstance(padding, str):
        padding = [_transposed_padding(k, s, padding) for k, s in zip(reach, strides, strict=True)]
    if transpose_kernel:
        w = p.reverse(w, tuple(sorted(places.rhs_spec[2:])))
        order = list(range(aval_of(w).ndim))
        i, j = places.rhs_spec[:2]
        order[i], order[j] = j, i
        w = p.transpose(w, tuple(order))
    ones = (1,) * len(sizes)
    return conv_general_dilated.body(x, w, ones, padding, strides, spread, places)


def _transposed_padding(k: int, stride: int, padding: str) -> tuple[int, int]:
    """The padding of the dilated input that undoes "SAME" or "VALID"."""
    if padding.upper() == "SAME":
        total = k + stride - 2
        low = k - 1 if stride > k - 1 else int(np.ceil(total / 2))
    elif padding.upper() == "VALID":
        total = k + stride - 2 + max(k - stride, 0)
        low = k - 1
    else:
        raise OptionError(
            f"conv_transpose: padding must be 'SAME', 'VALID' or pairs, not {padding!r}"
        )
    return low, total - low
