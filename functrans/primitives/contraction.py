"""Contractions: dot_general and convolution, bilinear, their transposes written as themselves.

Long, because a convolution has a transpose and a batching for each way to group it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from functrans.bind import bind
from functrans.errors import DtypeError, ShapeError
from functrans.ir import Aval, MappedAxis, aval_of
from functrans.primitives.derive import (
    Dims,
    Value,
    bilinear,
    check_axes,
    full,
    is_linear,
    move_axis,
    require_kind,
    shifted,
)
from functrans.primitives.structural import (
    ANY,
    Axes,
    Batched,
    Shape,
    inverse_permutation,
    reshape,
    reverse,
    transpose,
)

Pair: TypeAlias = tuple[Axes, Axes]
Padding: TypeAlias = tuple[tuple[int, int], ...]


def _free(ndim: int, *used: Axes) -> Axes:
    """The axes that are in none of `used`, in order."""
    return tuple(i for i in range(ndim) if all(i not in axes for axes in used))


# -- dot_general ------------------------------------------------------------------------------


def _dot_abstract_eval(x: Aval, y: Aval, *, contract: Pair, batch: Pair) -> list[Aval]:
    return [_dot_aval(x, y, contract, batch)]


@lru_cache(4096)
def _dot_aval(x: Aval, y: Aval, contract: Pair, batch: Pair) -> Aval:
    require_kind("dot_general", x.dtype, ANY)
    if x.dtype != y.dtype:
        raise DtypeError(f"dot_general: the operands must have one dtype, but are {x} and {y}")
    for aval, dims in zip((x, y), zip(contract, batch, strict=True), strict=True):
        check_axes("dot_general", dims[0] + dims[1], aval.ndim)
    for what, (xs, ys) in (("contract", contract), ("batch", batch)):
        if [x.shape[a] for a in xs] != [y.shape[a] for a in ys]:
            raise ShapeError(f"dot_general: axes {xs} of {x} and {ys} of {y} cannot {what}")
    shape = [x.shape[a] for a in batch[0]]
    shape += [x.shape[a] for a in _free(x.ndim, contract[0], batch[0])]
    shape += [y.shape[a] for a in _free(y.ndim, contract[1], batch[1])]
    return Aval(tuple(shape), x.dtype)


def _dot_impl(x: Any, y: Any, *, contract: Pair, batch: Pair) -> list[Any]:
    x_free = _free(x.ndim, contract[0], batch[0])
    y_free = _free(y.ndim, contract[1], batch[1])
    common = tuple(x.shape[a] for a in batch[0])
    rows = tuple(x.shape[a] for a in x_free)
    columns = tuple(y.shape[a] for a in y_free)
    depth = math.prod(x.shape[a] for a in contract[0])
    left = x.transpose(batch[0] + x_free + contract[0]).reshape(*common, math.prod(rows), depth)
    right = y.transpose(batch[1] + contract[1] + y_free).reshape(*common, depth, math.prod(columns))
    return [_matmul(left, right).reshape(common + rows + columns)]


def _matmul(x: Any, y: Any) -> Any:
    """The matrix product in the operands' dtype; half precisions are summed in float32."""
    if x.dtype.itemsize == 2 and x.dtype.kind not in "iu":
        return np.matmul(x.astype(np.float32), y.astype(np.float32)).astype(x.dtype)
    return np.matmul(x, y)


def dot_general_transpose(
    cts: list[Value], x: Value, y: Value, *, contract: Pair, batch: Pair
) -> list[Value]:
    """ct contracted with the other operand over that operand's free axes.

    ct has the axes: batch, x's free, y's free. What is left of the other operand are its
    contracted axes, in the order in which they stand there.
    """
    (ct,) = cts
    x_aval, y_aval = _aval(x), _aval(y)
    x_free = _free(x_aval.ndim, contract[0], batch[0])
    y_free = _free(y_aval.ndim, contract[1], batch[1])
    nb, nx, ny = len(batch[0]), len(x_free), len(y_free)
    common, rows = tuple(range(nb)), tuple(range(nb, nb + nx))
    if is_linear(x):
        columns = tuple(range(nb + nx, nb + nx + ny))
        out = dot_general(ct, y, (columns, y_free), (common, batch[1]))
        left = tuple(a for _, a in sorted(zip(contract[1], contract[0], strict=True)))
        return [transpose(out, inverse_permutation((*batch[0], *x_free, *left))), None]
    out = dot_general(x, ct, (x_free, rows), (batch[0], common))
    left = tuple(a for _, a in sorted(zip(*contract, strict=True)))
    return [None, transpose(out, inverse_permutation((*batch[1], *left, *y_free)))]


def _aval(operand: Value) -> Aval:
    """The aval of an operand of a transpose rule, linear or not."""
    return operand.aval if is_linear(operand) else aval_of(operand)


def _dot_batch(
    axis: MappedAxis, xs: Sequence[Value], dims: Dims, *, contract: Pair, batch: Pair
) -> Batched:
    (x, y), (dx, dy) = xs, dims
    if dx is not None and dy is not None:
        moved = (shifted(contract[0], dx), shifted(contract[1], dy))
        both = ((dx, *shifted(batch[0], dx)), (dy, *shifted(batch[1], dy)))
        return [dot_general(x, y, moved, both)], [0]
    if dx is not None:
        contract = (shifted(contract[0], dx), contract[1])
        batch = (shifted(batch[0], dx), batch[1])
        place = len(batch[0]) + _free(aval_of(x).ndim, contract[0], batch[0]).index(dx)
        return [dot_general(x, y, contract, batch)], [place]
    place = None
    if dy is not None:
        contract = (contract[0], shifted(contract[1], dy))
        batch = (batch[0], shifted(batch[1], dy))
        before = len(batch[0]) + len(_free(aval_of(x).ndim, contract[0], batch[0]))
        place = before + _free(aval_of(y).ndim, contract[1], batch[1]).index(dy)
    return [dot_general(x, y, contract, batch)], [place]


dot_general_p = bilinear(
    "dot_general",
    abstract_eval=_dot_abstract_eval,
    impl=_dot_impl,
    transpose=dot_general_transpose,
    batch=_dot_batch,
)


def dot_general(x: Value, y: Value, contract: Pair, batch: Pair = ((), ())) -> Value:
    """The sum of products over `contract`, one product per index of `batch`.

    contract, batch: pairs of axes, of x and of y. The result has the batch axes, then x's free
    axes, then y's. Booleans give the disjunction of conjunctions.
    """
    contract = (tuple(contract[0]), tuple(contract[1]))
    batch = (tuple(batch[0]), tuple(batch[1]))
    return bind(dot_general_p, x, y, contract=contract, batch=batch)[0]


# -- conv -------------------------------------------------------------------------------------


def dilated(n: int, dilation: int) -> int:
    """The extent of n elements that stand `dilation` apart."""
    return (n - 1) * dilation + 1 if n else 0


def conv_extent(n: int, k: int, stride: int, pad: tuple[int, int], ld: int, rd: int) -> int:
    """The number of places at which a dilated window fits into the dilated, padded input."""
    room = dilated(n, ld) + sum(pad) - dilated(k, rd)
    return max(0, room // stride + 1)


def _conv_abstract_eval(
    x: Aval,
    w: Aval,
    *,
    strides: Shape,
    padding: Padding,
    lhs_dilation: Shape,
    rhs_dilation: Shape,
    groups: int,
    batch_groups: int,
) -> list[Aval]:
    require_kind("conv", x.dtype, "iufc")
    if x.dtype != w.dtype:
        raise DtypeError(f"conv: the operands must have one dtype, but are {x} and {w}")
    spatial = x.ndim - 2
    windows = (strides, padding, lhs_dilation, rhs_dilation)
    if spatial < 0 or w.ndim != x.ndim or any(len(p) != spatial for p in windows):
        raise ShapeError(
            f"conv: {x} (N, C, *spatial) and {w} (O, I, *spatial) need one stride, padding and "
            "dilation for each spatial axis"
        )
    if min((*strides, *lhs_dilation, *rhs_dilation), default=1) < 1 or 0 in w.shape[2:]:
        raise ShapeError(f"conv: strides, dilations and the window of {w} must be positive")
    (n, c), (o, i) = x.shape[:2], w.shape[:2]
    _check_groups(x, w, groups, batch_groups, c == i * groups)
    extents = map(
        conv_extent, x.shape[2:], w.shape[2:], strides, padding, lhs_dilation, rhs_dilation
    )
    return [Aval((n // batch_groups, o, *extents), x.dtype)]


def _check_groups(x: Aval, w: Aval, groups: int, batch_groups: int, channels: bool) -> None:
    if groups < 1 or batch_groups < 1 or (groups > 1 and batch_groups > 1):
        raise ValueError(
            f"conv: groups={groups} and batch_groups={batch_groups} exclude each other"
        )
    if not channels or w.shape[0] % (groups * batch_groups) or x.shape[0] % batch_groups:
        raise ShapeError(
            f"conv: {x} (N, C, ...) and {w} (O, I, ...) do not fit: C must be groups * I, O a "
            f"multiple of groups={groups} and of batch_groups={batch_groups}, N of the latter"
        )


def _conv_impl(
    x: Any,
    w: Any,
    *,
    strides: Shape,
    padding: Padding,
    lhs_dilation: Shape,
    rhs_dilation: Shape,
    groups: int,
    batch_groups: int,
) -> list[Any]:
    if batch_groups > 1:
        x, groups = batch_to_channels(x, batch_groups, np.reshape, np.transpose), batch_groups
    patches = _patches(x, w.shape[2:], strides, padding, lhs_dilation, rhs_dilation)
    n, c, *rest = patches.shape
    extents = tuple(rest[: len(strides)])
    places, depth, per = math.prod(extents), math.prod(w.shape[1:]), w.shape[0] // groups
    split = patches.reshape(n, groups, c // groups, places, math.prod(w.shape[2:]))
    columns = split.transpose(1, 0, 3, 2, 4).reshape(groups, n * places, depth)
    weights = w.reshape(groups, per, depth).transpose(0, 2, 1)
    out = _matmul(columns, weights).reshape(groups, n, places, per)
    return [out.transpose(1, 0, 3, 2).reshape(n, w.shape[0], *extents)]


def _patches(x: Any, window: Shape, strides: Shape, padding: Padding, ld: Shape, rd: Shape) -> Any:
    """x's windows: shape (N, C, *places, *window)."""
    sizes = tuple(map(dilated, x.shape[2:], ld))
    spread = np.zeros((*x.shape[:2], *sizes), x.dtype)
    spread[(slice(None), slice(None), *(slice(None, None, step) for step in ld))] = x
    around = [(max(lo, 0), max(hi, 0)) for lo, hi in padding]
    inner = tuple(
        slice(max(-lo, 0), max(n + max(lo, 0) + min(hi, 0) + max(hi, 0), 0))
        for n, (lo, hi) in zip(sizes, padding, strict=True)
    )
    padded = np.pad(spread, [(0, 0), (0, 0), *around])[(slice(None), slice(None), *inner)]
    extents = tuple(map(conv_extent, x.shape[2:], window, strides, padding, ld, rd))
    out = np.empty((*x.shape[:2], *extents, *window), x.dtype)
    for offset in np.ndindex(window):
        places = tuple(
            slice(k * d, k * d + dilated(e, s), s)
            for k, d, e, s in zip(offset, rd, extents, strides, strict=True)
        )
        out[(..., *offset)] = padded[(slice(None), slice(None), *places)]
    return out


def batch_to_channels(x: Any, batch_groups: int, reshape: Any, transpose: Any) -> Any:
    """(g*n, C, ...) to (n, g*C, ...): batch groups become channel groups."""
    n, c, *spatial = aval_of(x).shape
    split = reshape(x, (batch_groups, n // batch_groups, c, *spatial))
    order = (1, 0, *range(2, 3 + len(spatial)))
    return reshape(transpose(split, order), (n // batch_groups, batch_groups * c, *spatial))


def channels_to_batch(x: Value, batch_groups: int) -> Value:
    """(n, g*C, ...) to (g*n, C, ...): the way back from batch_to_channels."""
    n, c, *spatial = aval_of(x).shape
    split = reshape(x, (n, batch_groups, c // batch_groups, *spatial))
    order = (1, 0, *range(2, 3 + len(spatial)))
    return reshape(transpose(split, order), (n * batch_groups, c // batch_groups, *spatial))


def conv_transpose(cts: list[Value], x: Value, w: Value, **params: Any) -> list[Value]:
    """Both cotangents are convolutions: of ct with w turned round, and of x with ct."""
    (ct,) = cts
    batch_groups = params["batch_groups"]
    x_aval, w_aval = _aval(x), _aval(w)
    if 0 in (x_aval.size, w_aval.size, aval_of(ct).size):
        return [full(0, x_aval), None] if is_linear(x) else [None, full(0, w_aval)]
    params = {**params, "batch_groups": 1, "groups": max(params["groups"], batch_groups)}
    if is_linear(x):
        ct_x = _conv_transpose_input(ct, x_aval.shape[2:], w, **params)
        return [channels_to_batch(ct_x, batch_groups) if batch_groups > 1 else ct_x, None]
    if batch_groups > 1:
        x = batch_to_channels(x, batch_groups, reshape, transpose)
    return [None, _conv_transpose_window(ct, x, w_aval.shape, **params)]


def _conv_transpose_input(
    ct: Value,
    extents: Sequence[int],
    w: Value,
    *,
    strides: Shape,
    padding: Padding,
    lhs_dilation: Shape,
    rhs_dilation: Shape,
    groups: int,
    batch_groups: int,
) -> Value:
    """The cotangent of an input of these extents: strides become dilations and the reverse."""
    o, i, *window = aval_of(w).shape
    split = reshape(w, (groups, o // groups, i, *window))
    swapped = transpose(split, (0, 2, 1, *range(3, 3 + len(window))))
    turned = reverse(
        reshape(swapped, (groups * i, o // groups, *window)), tuple(range(2, 2 + len(window)))
    )
    back: list[tuple[int, int]] = []
    for n, k, m, s, (lo, _), ld, rd in zip(
        extents,
        window,
        aval_of(ct).shape[2:],
        strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        strict=True,
    ):
        low = dilated(k, rd) - 1 - lo
        back.append((low, dilated(n, ld) + dilated(k, rd) - 1 - dilated(m, s) - low))
    return conv(
        ct,
        turned,
        strides=lhs_dilation,
        padding=tuple(back),
        lhs_dilation=strides,
        rhs_dilation=rhs_dilation,
        groups=groups,
    )


def _conv_transpose_window(
    ct: Value,
    x: Value,
    shape: Shape,
    *,
    strides: Shape,
    padding: Padding,
    lhs_dilation: Shape,
    rhs_dilation: Shape,
    groups: int,
    batch_groups: int,
) -> Value:
    """The cotangent of the window of this shape: ct slides over x, batch and channels swapped."""
    around: list[tuple[int, int]] = []
    for n, k, m, s, (lo, _), ld, rd in zip(
        aval_of(x).shape[2:],
        shape[2:],
        aval_of(ct).shape[2:],
        strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        strict=True,
    ):
        around.append((lo, dilated(k, rd) - 1 + dilated(m, s) - dilated(n, ld) - lo))
    swap = (1, 0, *range(2, aval_of(x).ndim))
    out = conv(
        transpose(x, swap),
        transpose(ct, swap),
        strides=rhs_dilation,
        padding=tuple(around),
        lhs_dilation=lhs_dilation,
        rhs_dilation=strides,
        batch_groups=groups,
    )
    return transpose(out, swap)


def _conv_batch(axis: MappedAxis, xs: Sequence[Value], dims: Dims, **params: Any) -> Batched:
    (x, w), (dx, dw) = xs, dims
    batch_groups = params.pop("batch_groups")
    if batch_groups > 1:
        params["groups"] = batch_groups
        x = _fold_mapped(x, dx, batch_groups)
        dx = None if dx is None else 0
    if dx is not None and dw is not None:
        return _conv_batch_both(move_axis(x, dx, 0), move_axis(w, dw, 0), params)
    if dx is not None:
        return _conv_batch_input(x, dx, w, params)
    if dw is not None:
        return _conv_batch_window(x, w, dw, params)
    return [conv(x, w, **params)], [None]


def _fold_mapped(x: Value, dim: int | None, batch_groups: int) -> Value:
    """batch_to_channels of every member; the mapped axis comes out first."""
    if dim is None:
        return batch_to_channels(x, batch_groups, reshape, transpose)
    x = move_axis(x, dim, 0)
    size, n, c, *spatial = aval_of(x).shape
    split = reshape(x, (size, batch_groups, n // batch_groups, c, *spatial))
    order = (0, 2, 1, *range(3, aval_of(split).ndim))
    return reshape(transpose(split, order), (size, n // batch_groups, batch_groups * c, *spatial))


def _conv_batch_input(x: Value, dim: int, w: Value, params: dict[str, Any]) -> Batched:
    """Members become more of the batch."""
    x = move_axis(x, dim, 0)
    size, n, *rest = aval_of(x).shape
    out = conv(reshape(x, (size * n, *rest)), w, **params)
    return [reshape(out, (size, n, *aval_of(out).shape[1:]))], [0]


def _conv_batch_window(x: Value, w: Value, dim: int, params: dict[str, Any]) -> Batched:
    """Members become more output channels, inside each group."""
    groups = params["groups"]
    w = move_axis(w, dim, 0)
    size, o, *rest = aval_of(w).shape
    per = o // groups
    split = reshape(w, (size, groups, per, *rest))
    order = (1, 0, *range(2, 3 + len(rest)))
    out = conv(x, reshape(transpose(split, order), (size * o, *rest)), **params)
    n, _, *extents = aval_of(out).shape
    apart = reshape(out, (n, groups, size, per, *extents))
    order = (2, 0, 1, *range(3, 4 + len(extents)))
    return [reshape(transpose(apart, order), (size, n, o, *extents))], [0]


def _conv_batch_both(x: Value, w: Value, params: dict[str, Any]) -> Batched:
    """Members become groups of channels."""
    size, n, c, *spatial = aval_of(x).shape
    channels = reshape(move_axis(x, 0, 1), (n, size * c, *spatial))
    o = aval_of(w).shape[1]
    windows = reshape(w, (size * o, *aval_of(w).shape[2:]))
    out = conv(channels, windows, **{**params, "groups": params["groups"] * size})
    split = reshape(out, (n, size, o, *aval_of(out).shape[2:]))
    return [split], [1]


conv_p = bilinear(
    "conv",
    abstract_eval=_conv_abstract_eval,
    impl=_conv_impl,
    transpose=conv_transpose,
    batch=_conv_batch,
)


def conv(
    x: Value,
    w: Value,
    *,
    strides: Shape,
    padding: Padding,
    lhs_dilation: Shape,
    rhs_dilation: Shape,
    groups: int = 1,
    batch_groups: int = 1,
) -> Value:
    """Cross-correlation of x (N, C, *spatial) with w (O, I, *spatial), as in deep learning.

    x is dilated by `lhs_dilation` (zeros between neighbours), padded with zeros by `padding`
    (a negative amount cuts away), and w, dilated by `rhs_dilation`, slides over it by `strides`.
    `groups` splits C and O; `batch_groups` splits N and O, one of the two at most. Result:
    (N / batch_groups, O, *places).
    """
    return bind(
        conv_p,
        x,
        w,
        strides=tuple(strides),
        padding=tuple((int(lo), int(hi)) for lo, hi in padding),
        lhs_dilation=tuple(lhs_dilation),
        rhs_dilation=tuple(rhs_dilation),
        groups=groups,
        batch_groups=batch_groups,
    )[0]
