"""Structural primitives move, repeat, join and sum values: linear, and each other's transposes.

Long, because each of them is a rule of another.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from functrans.bind import bind
from functrans.errors import DtypeError, ShapeError
from functrans.ir import Aval, Linear, MappedAxis, Primitive, aval_of, is_inexact
from functrans.primitives.derive import (
    BOOL,
    Dims,
    DType,
    Value,
    align,
    batching_elementwise,
    check_axes,
    elementwise,
    first_mapped,
    full,
    inserted,
    is_linear,
    linear,
    move_axis,
    operation,
    provide,
    provided,
    reduction,
    require_kind,
    shifted,
    to_front,
    without,
)

Axes: TypeAlias = tuple[int, ...]
Shape: TypeAlias = tuple[int, ...]
Batched: TypeAlias = tuple[list[Value], list[int | None]]

ANY = "biufc"


def _neg(x: Value) -> Value:
    """-x; the primitive stands in a file above this one."""
    return bind(provided("neg"), x)[0]


def _check_lengths(name: str, aval: Aval, **params: Sequence[int]) -> None:
    """Every param must have one entry per axis."""
    for key, value in params.items():
        if len(value) != aval.ndim:
            raise ShapeError(f"{name}: {key}={tuple(value)} needs {aval.ndim} entries for {aval}")


# -- broadcast and reduce_sum -----------------------------------------------------------------


def _check_sizes(shape: Shape) -> None:
    if min(shape, default=0) < 0:
        raise ShapeError(f"the size of an axis must not be negative, but the shape is {shape}")


def _broadcast_abstract_eval(x: Aval, *, shape: Shape, axes: Axes) -> list[Aval]:
    check_axes("broadcast", axes, len(shape))
    _check_sizes(shape)
    own = tuple(n for i, n in enumerate(shape) if i not in axes)
    if own != x.shape:
        raise ShapeError(f"broadcast: {x} cannot fill {shape} with new axes {axes}")
    return [Aval(shape, x.dtype)]


def _broadcast_impl(x: Any, *, shape: Shape, axes: Axes) -> list[Any]:
    spread = tuple(1 if i in axes else n for i, n in enumerate(shape))
    return [np.broadcast_to(x.reshape(spread), shape)]


def broadcast_transpose(cts: list[Value], x: Linear, *, shape: Shape, axes: Axes) -> list[Value]:
    """Every copy contributes to the one value that was copied."""
    return [reduce_sum(cts[0], axes)]


def _broadcast_batch(
    axis: MappedAxis, xs: Sequence[Value], dims: Dims, *, shape: Shape, axes: Axes
) -> Batched:
    """Members of a number go first where each becomes a longer row than there are members, so that
    rows stay rows, and last where they are the longer row."""
    own = [i for i in range(len(shape)) if i not in axes]
    (dim,) = dims
    if dim is None:
        return bind(broadcast_p, *xs, shape=shape, axes=axes), [None]
    place = own[dim] if dim < len(own) else len(shape)
    if not own and shape and shape[-1] >= axis.size:
        place = 0
    full_shape = inserted(shape, place, axis.size)
    return bind(broadcast_p, *xs, shape=full_shape, axes=shifted(axes, place)), [place]


broadcast_p = provide(
    linear(
        "broadcast",
        abstract_eval=_broadcast_abstract_eval,
        impl=_broadcast_impl,
        transpose=broadcast_transpose,
        batch=_broadcast_batch,
    )
)


def broadcast(x: Value, shape: Shape, axes: Axes) -> Value:
    """x repeated along the new `axes` of the result; its own axes keep their order."""
    if not axes:
        return x
    return bind(broadcast_p, x, shape=tuple(shape), axes=tuple(axes))[0]


def reduce_sum_transpose(cts: list[Value], x: Linear, *, axes: Axes) -> list[Value]:
    """Summing forgets positions; its adjoint hands every position the same cotangent."""
    return [broadcast(cts[0], x.aval.shape, axes)]


reduce_sum_p = provide(
    reduction(
        "reduce_sum",
        lambda x, axis: np.sum(x, axis=axis, dtype=x.dtype),
        "add",
        kinds="iufc",
        transpose=reduce_sum_transpose,
    )
)


def reduce_sum(x: Value, axes: Axes) -> Value:
    """The sum over `axes`, which disappear; in x's own dtype."""
    return bind(reduce_sum_p, x, axes=tuple(axes))[0] if axes else x


# -- reshape and transpose --------------------------------------------------------------------


def _reshape_abstract_eval(x: Aval, *, shape: Shape) -> list[Aval]:
    if Aval(shape, x.dtype).size != x.size:
        raise ShapeError(f"reshape: {x} has {x.size} elements and cannot become {shape}")
    return [Aval(shape, x.dtype, x.weak and shape == ())]


def reshape_transpose(cts: list[Value], x: Linear, *, shape: Shape) -> list[Value]:
    """The same elements in the same order, in the shape they came in."""
    return [reshape(cts[0], x.aval.shape)]


def _reshape_batch(axis: MappedAxis, xs: Sequence[Value], dims: Dims, *, shape: Shape) -> Batched:
    if dims[0] is None:
        return bind(reshape_p, *xs, shape=shape), [None]
    return [reshape(move_axis(xs[0], dims[0], 0), (axis.size, *shape))], [0]


reshape_p = provide(
    linear(
        "reshape",
        abstract_eval=_reshape_abstract_eval,
        impl=lambda x, *, shape: [np.reshape(x, shape)],
        transpose=reshape_transpose,
        batch=_reshape_batch,
    )
)


def reshape(x: Value, shape: Shape) -> Value:
    """x's elements, in C order, in another shape of the same size."""
    if aval_of(x).shape == tuple(shape):
        return x
    return bind(reshape_p, x, shape=tuple(shape))[0]


def _transpose_abstract_eval(x: Aval, *, perm: Axes) -> list[Aval]:
    if sorted(perm) != list(range(x.ndim)):
        raise ShapeError(f"transpose: perm={perm} does not order the axes of {x}")
    return [Aval(tuple(x.shape[p] for p in perm), x.dtype)]


def inverse_permutation(perm: Axes) -> Axes:
    """The permutation that undoes `perm`."""
    inverse = [0] * len(perm)
    for place, source in enumerate(perm):
        inverse[source] = place
    return tuple(inverse)


def transpose_transpose(cts: list[Value], x: Linear, *, perm: Axes) -> list[Value]:
    """The inverse permutation."""
    return [transpose(cts[0], inverse_permutation(perm))]


def _transpose_batch(axis: MappedAxis, xs: Sequence[Value], dims: Dims, *, perm: Axes) -> Batched:
    (dim,) = dims
    if dim is None:
        return bind(transpose_p, *xs, perm=perm), [None]
    return [transpose(xs[0], (dim, *shifted(perm, dim)))], [0]


transpose_p = provide(
    linear(
        "transpose",
        abstract_eval=_transpose_abstract_eval,
        impl=lambda x, *, perm: [np.transpose(x, perm)],
        transpose=transpose_transpose,
        batch=_transpose_batch,
    )
)


def transpose(x: Value, perm: Axes) -> Value:
    """Axis i of the result is axis perm[i] of x."""
    perm = tuple(perm)
    return x if perm == tuple(range(len(perm))) else bind(transpose_p, x, perm=perm)[0]


# -- slice and pad ----------------------------------------------------------------------------


def _slice_abstract_eval(x: Aval, *, start: Axes, limit: Axes, stride: Axes) -> list[Aval]:
    _check_lengths("slice", x, start=start, limit=limit, stride=stride)
    for lo, hi, step, n in zip(start, limit, stride, x.shape, strict=True):
        if not 0 <= lo <= hi <= n or step < 1:
            raise ShapeError(f"slice: start={start}, limit={limit}, stride={stride} leave {x}")
    return [Aval(_sliced(start, limit, stride), x.dtype)]


def _sliced(start: Axes, limit: Axes, stride: Axes) -> Shape:
    return tuple(-(-(hi - lo) // step) for lo, hi, step in zip(start, limit, stride, strict=True))


def _slice_impl(x: Any, *, start: Axes, limit: Axes, stride: Axes) -> list[Any]:
    return [np.asarray(x[tuple(map(builtins.slice, start, limit, stride))])]


def slice_transpose(
    cts: list[Value], x: Linear, *, start: Axes, limit: Axes, stride: Axes
) -> list[Value]:
    """Zeros where nothing was taken."""
    kept = aval_of(cts[0]).shape
    ends = [
        lo + (n - 1) * step + 1 if n else lo
        for lo, n, step in zip(start, kept, stride, strict=True)
    ]
    high = tuple(n - end for n, end in zip(x.aval.shape, ends, strict=True))
    return [pad(cts[0], x.aval.dtype.type(0), start, high, tuple(s - 1 for s in stride))]


def _slice_batch(
    axis: MappedAxis, xs: Sequence[Value], dims: Dims, *, start: Axes, limit: Axes, stride: Axes
) -> Batched:
    (dim,) = dims
    if dim is None:
        return bind(slice_p, *xs, start=start, limit=limit, stride=stride), [None]
    taken = bind(
        slice_p,
        *xs,
        start=inserted(start, dim, 0),
        limit=inserted(limit, dim, axis.size),
        stride=inserted(stride, dim, 1),
    )
    return taken, [dim]


slice_p = linear(
    "slice",
    abstract_eval=_slice_abstract_eval,
    impl=_slice_impl,
    transpose=slice_transpose,
    batch=_slice_batch,
)


def slice(x: Value, start: Axes, limit: Axes, stride: Axes | None = None) -> Value:
    """x[start[0]:limit[0]:stride[0], ...]: bounds inside x, strides positive (1 by default)."""
    shape = aval_of(x).shape
    start, limit = tuple(start), tuple(limit)
    stride = (1,) * len(shape) if stride is None else tuple(stride)
    if start == (0,) * len(shape) and limit == shape and stride == (1,) * len(shape):
        return x
    return bind(slice_p, x, start=start, limit=limit, stride=stride)[0]


def slice_axis(x: Value, axis: int, start: int, limit: int) -> Value:
    """x restricted to [start, limit) along one axis."""
    shape = aval_of(x).shape
    starts = tuple(start if i == axis else 0 for i in range(len(shape)))
    limits = tuple(limit if i == axis else n for i, n in enumerate(shape))
    return slice(x, starts, limits)


def _pad_abstract_eval(
    x: Aval, value: Aval, *, low: Axes, high: Axes, interior: Axes
) -> list[Aval]:
    if value.shape != () or value.dtype != x.dtype:
        raise ShapeError(
            f"pad: the padding value of {x} must be a scalar of its dtype, not {value}"
        )
    _check_lengths("pad", x, low=low, high=high, interior=interior)
    if min((*low, *high, *interior), default=0) < 0:
        raise ShapeError(f"pad: low={low}, high={high}, interior={interior} must not be negative")
    return [Aval(_padded(x.shape, low, high, interior), x.dtype)]


def _padded(shape: Shape, low: Axes, high: Axes, interior: Axes) -> Shape:
    return tuple(
        lo + n + max(n - 1, 0) * gap + hi
        for n, lo, hi, gap in zip(shape, low, high, interior, strict=True)
    )


def _pad_impl(x: Any, value: Any, *, low: Axes, high: Axes, interior: Axes) -> list[Any]:
    out = np.full(_padded(x.shape, low, high, interior), value, x.dtype)
    out[_padded_places(x.shape, low, interior)] = x
    return [out]


def _padded_places(shape: Shape, low: Axes, interior: Axes) -> tuple[builtins.slice, ...]:
    return tuple(
        builtins.slice(lo, lo + max(n - 1, 0) * (gap + 1) + min(n, 1), gap + 1)
        for n, lo, gap in zip(shape, low, interior, strict=True)
    )


def pad_transpose(
    cts: list[Value], x: Value, value: Value, *, low: Axes, high: Axes, interior: Axes
) -> list[Value]:
    """x takes what stands in its places, the padding value the sum of everything else."""
    (ct,) = cts
    ct_x = ct_value = None
    shape = x.aval.shape if is_linear(x) else aval_of(x).shape
    if is_linear(x):
        places = _padded_places(shape, low, interior)
        bounds = [(p.start, p.stop, p.step) for p in places]
        ct_x = slice(ct, *(tuple(column) for column in zip(*bounds, strict=True))) if bounds else ct
    if is_linear(value):
        outside = _padding_mask(shape, low, high, interior)
        masked = select(outside, ct, full(0, aval_of(ct)))
        ct_value = reduce_sum(masked, tuple(range(len(shape))))
    return [ct_x, ct_value]


def _padding_mask(shape: Shape, low: Axes, high: Axes, interior: Axes) -> Value:
    """True where `pad` puts its value, False where it puts x."""
    inside = full(False, Aval(shape, BOOL))
    return pad(inside, np.True_, low, high, interior)


def _pad_batch(
    axis: MappedAxis, xs: Sequence[Value], dims: Dims, *, low: Axes, high: Axes, interior: Axes
) -> Batched:
    (x, value), (dim, value_dim) = xs, dims
    if value_dim is not None:
        return _pad_batch_value(axis, x, value, dim, low, high, interior)
    if dim is None:
        return [pad(x, value, low, high, interior)], [None]
    gaps = [inserted(p, dim, 0) for p in (low, high, interior)]
    return [pad(x, value, *gaps)], [dim]


def _pad_batch_value(
    axis: MappedAxis, x: Value, value: Value, dim: int | None, low: Axes, high: Axes, interior: Axes
) -> Batched:
    """Each member has a padding value of its own: pad with anything and put the values there."""
    (x,) = to_front(axis, [x], [dim])
    aval = aval_of(x)
    zero = aval.dtype.type(0)
    padded = pad(x, zero, (0, *low), (0, *high), (0, *interior))
    outside = _padding_mask(aval.shape[1:], low, high, interior)
    shape = aval_of(padded).shape
    values = broadcast(value, shape, tuple(range(1, len(shape))))
    return [select(broadcast(outside, shape, (0,)), values, padded)], [0]


pad_p = linear(
    "pad",
    abstract_eval=_pad_abstract_eval,
    impl=_pad_impl,
    transpose=pad_transpose,
    batch=_pad_batch,
)


def pad(x: Value, value: Value, low: Axes, high: Axes, interior: Axes | None = None) -> Value:
    """x with `value` around it and `interior[i]` times between neighbours along axis i.

    A negative `low` or `high` takes that many elements away instead, counted after the interior
    padding.
    """
    low, high = tuple(low), tuple(high)
    interior = (0,) * len(low) if interior is None else tuple(interior)
    if not any(low) and not any(high) and not any(interior):
        return x
    grown = bind(
        pad_p,
        x,
        value,
        low=tuple(max(n, 0) for n in low),
        high=tuple(max(n, 0) for n in high),
        interior=interior,
    )[0]
    if min((*low, *high), default=0) >= 0:
        return grown
    shape = aval_of(grown).shape
    limit = tuple(n + min(hi, 0) for n, hi in zip(shape, high, strict=True))
    return slice(grown, tuple(max(-n, 0) for n in low), limit)


# -- concatenate, reverse, select -------------------------------------------------------------


def _concatenate_abstract_eval(*xs: Aval, axis: int) -> list[Aval]:
    if not xs:
        raise ShapeError("concatenate: at least one operand is needed")
    first = xs[0]
    check_axes("concatenate", (axis,), first.ndim)
    rest = without(first.shape, (axis,))
    for x in xs:
        if x.dtype != first.dtype or x.ndim != first.ndim or without(x.shape, (axis,)) != rest:
            given = ", ".join(map(str, xs))
            raise ShapeError(f"concatenate: the operands differ outside axis {axis}: {given}")
    total = sum(x.shape[axis] for x in xs)
    return [first.with_shape(inserted(rest, axis, total)).strengthen()]


def concatenate_transpose(cts: list[Value], *xs: Value, axis: int) -> list[Value]:
    """Each operand takes its own part."""
    out: list[Value] = []
    start = 0
    for x in xs:
        aval = x.aval if is_linear(x) else aval_of(x)
        limit = start + aval.shape[axis]
        out.append(slice_axis(cts[0], axis, start, limit) if is_linear(x) else None)
        start = limit
    return out


def _concatenate_batch(
    mapped: MappedAxis, xs: Sequence[Value], dims: Dims, *, axis: int
) -> Batched:
    dim = first_mapped(dims)
    if dim is None:
        return bind(concatenate_p, *xs, axis=axis), [None]
    return bind(concatenate_p, *align(mapped, xs, dims, dim), axis=axis + (axis >= dim)), [dim]


concatenate_p = linear(
    "concatenate",
    abstract_eval=_concatenate_abstract_eval,
    impl=lambda *xs, axis: [np.concatenate(xs, axis)],
    transpose=concatenate_transpose,
    batch=_concatenate_batch,
)


def concatenate(xs: Sequence[Value], axis: int) -> Value:
    """The operands, equal in dtype and in all other axes, one after another along `axis`."""
    return xs[0] if len(xs) == 1 else bind(concatenate_p, *xs, axis=axis)[0]


def _reverse_abstract_eval(x: Aval, *, axes: Axes) -> list[Aval]:
    check_axes("reverse", axes, x.ndim)
    return [Aval(x.shape, x.dtype)]


def reverse_transpose(cts: list[Value], x: Linear, *, axes: Axes) -> list[Value]:
    """Turning round is its own adjoint."""
    return [reverse(cts[0], axes)]


def _reverse_batch(axis: MappedAxis, xs: Sequence[Value], dims: Dims, *, axes: Axes) -> Batched:
    (dim,) = dims
    moved = axes if dim is None else shifted(axes, dim)
    return bind(reverse_p, *xs, axes=moved), [dim]


reverse_p = linear(
    "reverse",
    abstract_eval=_reverse_abstract_eval,
    impl=lambda x, *, axes: [np.flip(x, axes)],
    transpose=reverse_transpose,
    batch=_reverse_batch,
)


def reverse(x: Value, axes: Axes) -> Value:
    """x with the order of its elements turned round along `axes`."""
    return bind(reverse_p, x, axes=tuple(axes))[0] if axes else x


def _select_abstract_eval(pred: Aval, on_true: Aval, on_false: Aval) -> list[Aval]:
    if pred.dtype != BOOL:
        raise DtypeError(f"select: the predicate must be boolean, but is {pred}")
    same = pred.shape == on_true.shape == on_false.shape and on_true.dtype == on_false.dtype
    if not same:
        given = f"{pred}, {on_true}, {on_false}"
        raise ShapeError(f"select: the operands must agree in shape and dtype, but are {given}")
    return [Aval(on_true.shape, on_true.dtype, on_true.weak and on_false.weak)]


def select_transpose(cts: list[Value], pred: Value, on_true: Value, on_false: Value) -> list[Value]:
    """Each branch takes the cotangent where it was chosen, zero elsewhere."""
    (ct,) = cts
    zero = full(0, aval_of(ct))
    return [
        None,
        select(pred, ct, zero) if is_linear(on_true) else None,
        select(pred, zero, ct) if is_linear(on_false) else None,
    ]


select_p = provide(
    linear(
        "select",
        abstract_eval=_select_abstract_eval,
        impl=lambda pred, on_true, on_false: [np.where(pred, on_true, on_false)],
        transpose=select_transpose,
        batch=batching_elementwise(lambda: select_p),
        operands=(1, 2),
    )
)
select = operation(select_p)


# -- conversions ------------------------------------------------------------------------------


def _convert_impl(x: Any, *, dtype: DType, weak: bool) -> list[Any]:
    if x.dtype.kind == "c" and dtype.kind not in "cb":
        x = x.real
    return [x.astype(dtype)]


def convert_jvp(
    primals: list[Value], tangents: list[Value], *, dtype: DType, weak: bool
) -> tuple[list[Value], list[Value]]:
    """Tangents are converted too; there are none on either side of an integer."""
    outs = bind(convert_p, *primals, dtype=dtype, weak=weak)
    (tangent,) = tangents
    if tangent is None or not is_inexact(dtype):
        return outs, [None]
    return outs, bind(convert_p, tangent, dtype=dtype, weak=weak)


def convert_transpose(cts: list[Value], x: Linear, *, dtype: DType, weak: bool) -> list[Value]:
    """Back to the dtype that x came in."""
    return [convert(cts[0], x.aval.dtype)]


convert_p = provide(
    Primitive(
        name="convert",
        abstract_eval=lambda x, *, dtype, weak: [Aval(x.shape, dtype, weak and x.shape == ())],
        impl=_convert_impl,
        jvp=convert_jvp,
        transpose=convert_transpose,
        batch=batching_elementwise(lambda: convert_p),
    )
)


def convert(x: Value, dtype: DType, weak: bool = False) -> Value:
    """x in another dtype, as NumPy's astype; of a complex x, a real dtype takes the real part."""
    aval = aval_of(x)
    if aval.dtype == dtype and aval.weak == weak:
        return x
    return bind(convert_p, x, dtype=np.dtype(dtype), weak=weak)[0]


_REAL = {np.dtype(np.complex64): np.dtype(np.float32), np.dtype(np.complex128): np.dtype(float)}
_COMPLEX = {real: complex_ for complex_, real in _REAL.items()}


def real_dtype(dtype: DType) -> DType:
    """The dtype of the real part of a complex dtype; any other dtype itself."""
    return _REAL.get(dtype, dtype)


def _part_abstract_eval(name: str) -> Any:
    def abstract_eval(x: Aval) -> list[Aval]:
        require_kind(name, x.dtype, "c")
        return [Aval(x.shape, real_dtype(x.dtype), x.weak)]

    return abstract_eval


def real_transpose(cts: list[Value], x: Linear) -> list[Value]:
    """The pairing is Re(ct * t), so Re(c * t) = ct * Re(t) asks for c = ct + 0i."""
    return [complex(cts[0], full(0, aval_of(cts[0])))]


def imag_transpose(cts: list[Value], x: Linear) -> list[Value]:
    """The pairing is Re(ct * t), so Re(c * t) = ct * Im(t) asks for c = 0 - i ct."""
    return [complex(full(0, aval_of(cts[0])), _neg(cts[0]))]


def conj_transpose(cts: list[Value], x: Linear) -> list[Value]:
    """The pairing is Re(ct * t), and Re(ct * conj(t)) = Re(conj(ct) * t)."""
    return [conj(cts[0])]


def complex_transpose(cts: list[Value], re: Value, im: Value) -> list[Value]:
    """The pairing is Re(ct * (a + ib)) = Re(ct) * a - Im(ct) * b."""
    (ct,) = cts
    return [real(ct) if is_linear(re) else None, _neg(imag(ct)) if is_linear(im) else None]


def _complex_abstract_eval(re: Aval, im: Aval) -> list[Aval]:
    if re.shape != im.shape or re.dtype != im.dtype:
        raise ShapeError(f"complex: the parts must agree in shape and dtype, but are {re}, {im}")
    if re.dtype not in _COMPLEX:
        raise DtypeError(f"complex: the parts must be float32 or float64, but are {re}")
    return [Aval(re.shape, _COMPLEX[re.dtype], re.weak and im.weak)]


def _complex_impl(re: Any, im: Any) -> list[Any]:
    out = np.empty(re.shape, _COMPLEX[re.dtype])
    out.real, out.imag = re, im
    return [out]


real_p = linear(
    "real",
    abstract_eval=_part_abstract_eval("real"),
    impl=lambda x: [np.real(x)],
    transpose=real_transpose,
    batch=batching_elementwise(lambda: real_p),
)
imag_p = linear(
    "imag",
    abstract_eval=_part_abstract_eval("imag"),
    impl=lambda x: [np.imag(x)],
    transpose=imag_transpose,
    batch=batching_elementwise(lambda: imag_p),
)
conj_p = linear(
    "conj",
    abstract_eval=lambda x: (require_kind("conj", x.dtype, "c"), [x])[1],
    impl=lambda x: [np.asarray(np.conj(x))],
    transpose=conj_transpose,
    batch=batching_elementwise(lambda: conj_p),
)
complex_p = linear(
    "complex",
    abstract_eval=_complex_abstract_eval,
    impl=_complex_impl,
    transpose=complex_transpose,
    batch=batching_elementwise(lambda: complex_p),
)
real = operation(real_p)
imag = operation(imag_p)
conj = operation(conj_p)
complex = operation(complex_p)


# -- sources and sinks ------------------------------------------------------------------------


def _iota_abstract_eval(*, shape: Shape, dtype: DType, axis: int) -> list[Aval]:
    require_kind("iota", dtype, "iufc")
    check_axes("iota", (axis,), len(shape))
    _check_sizes(shape)
    return [Aval(shape, dtype)]


def _iota_impl(*, shape: Shape, dtype: DType, axis: int) -> list[Any]:
    steps = np.arange(shape[axis]).astype(dtype)
    return [
        np.broadcast_to(steps.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)
    ]


iota_p = Primitive(
    name="iota",
    abstract_eval=_iota_abstract_eval,
    impl=_iota_impl,
    jvp=lambda primals, tangents, **params: (bind(iota_p, **params), [None]),
    batch=lambda mapped, xs, dims, **params: (bind(iota_p, **params), [None]),
)


def iota(shape: Shape, dtype: DType, axis: int = 0) -> Value:
    """0, 1, 2, ... along `axis`, the same everywhere else."""
    return bind(iota_p, shape=tuple(shape), dtype=np.dtype(dtype), axis=axis)[0]


stop_gradient_p = elementwise("stop_gradient", lambda x: x, kinds=ANY)
stop_gradient = operation(stop_gradient_p)
