"""Factories: say the property of a primitive, and its rules are derived from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from functrans.bind import bind
from functrans.errors import DtypeError, ShapeError, TransformTypeError
from functrans.ir import (
    Aval,
    Bilinear,
    Elementwise,
    Form,
    Linear,
    LinearIn,
    MappedAxis,
    Primitive,
    Property,
    Reduction,
    aval_of,
    is_inexact,
    same_type,
)

DType: TypeAlias = np.dtype[Any]
Value: TypeAlias = Any
"""An array, a NumPy scalar or a tracer: what a rule receives and returns."""
Dims: TypeAlias = Sequence[int | None]

BOOL = np.dtype(np.bool_)


def operation(primitive: Primitive) -> Callable[..., Value]:
    """The private constructor of a primitive with one result: exact operands, no promotion."""

    def apply(*operands: Value, **params: Any) -> Value:
        return bind(primitive, *operands, **params)[0]

    apply.__name__ = apply.__qualname__ = primitive.name
    return apply


# -- elementwise ------------------------------------------------------------------------------


def elementwise(
    name: str,
    function: Callable[..., Any],
    *,
    partials: Callable[..., Sequence[Any]] | None = None,
    kinds: str = "fc",
    result: Callable[..., DType] | None = None,
    jvp: Callable[..., tuple[list[Value], list[Value]]] | None = None,
    transpose: Callable[..., list[Value]] | None = None,
    arity: int = 1,
    form: Form | None = None,
    cheap: bool = True,
) -> Primitive:
    """A primitive that applies one scalar function everywhere.

    `kinds` lists the NumPy kind characters it accepts ("b" bool, "iu" integers, "f", "c").
    `result` maps the operands' dtype to the result's (itself by default). Without `partials`
    and `jvp` its derivative is zero everywhere. Params go to all of them as keywords. `form` says
    that it is made of a product, `cheap` that computing it again costs less than keeping it.
    """

    def abstract_eval(*avals: Aval, **params: Any) -> list[Aval]:
        first = exact_operands(name, avals, arity)
        if first.dtype.kind not in kinds:
            require_kind(name, first.dtype, kinds)
        dtype = first.dtype if result is None else result(first.dtype, **params)
        weak = first.weak and all(a.weak for a in avals)
        unchanged = dtype is first.dtype and weak is first.weak
        return [first if unchanged else Aval(first.shape, dtype, weak)]

    def impl(*xs: Any, **params: Any) -> list[Any]:
        dtype = xs[0].dtype if result is None else result(xs[0].dtype, **params)
        return [np.asarray(function(*xs, **params), dtype)]

    def derived_jvp(
        primals: list[Value], tangents: list[Value], **params: Any
    ) -> tuple[list[Value], list[Value]]:
        out = bind(primitive, *primals, **params)[0]
        if partials is None or all(t is None for t in tangents):
            return [out], [None]
        terms = [
            times_partial(t, p)
            for t, p in zip(tangents, partials(out, *primals, **params), strict=True)
            if t is not None and p is not None
        ]
        return [out], [add_all(terms)]

    primitive = Primitive(
        name=name,
        abstract_eval=abstract_eval,
        impl=impl,
        jvp=derived_jvp if jvp is None else jvp,
        transpose=transpose,
        batch=batching_elementwise(lambda: primitive),
        property=Elementwise(partials, by_hand=jvp is not None, form=form),
        cheap=cheap,
    )
    return primitive


def times_partial(tangent: Value, partial: Value) -> Value:
    """A tangent times a partial derivative; None (a symbolic zero) where the partial is zero.

    1 and -1 cost nothing and one negation. A plain product serves for a finite literal only.
    """
    if isinstance(partial, int):
        return tangent if partial == 1 else bind(provided("neg"), tangent)[0]
    if isinstance(partial, np.generic) and partial == 0:
        return None
    plain = isinstance(partial, np.generic) and np.isfinite(partial)
    return bind(provided("mul" if plain else "scale"), tangent, partial)[0]


def add_all(terms: Sequence[Value]) -> Value:
    """The sum of tangents of one type; None (a symbolic zero) when there is none."""
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else bind(provided("add"), total, term)[0]
    return total


_TABLE: dict[str, Primitive] = {}


def provide(primitive: Primitive) -> Primitive:
    """Make a primitive known, by name, to rules that stand below it in the import order."""
    _TABLE[primitive.name] = primitive
    return primitive


def provided(name: str) -> Primitive:
    """The primitive that `provide` was given under this name."""
    return _TABLE[name]


def is_provided(primitive: Primitive) -> bool:
    """Is it one that `provide` was given?"""
    return _TABLE.get(primitive.name) is primitive


def provided_among(*names: str) -> frozenset[Primitive]:
    """Those that there are: of what no file that was imported provides, no program holds any."""
    return frozenset([_TABLE[name] for name in names if name in _TABLE])


def batching_elementwise(primitive: Callable[[], Primitive]) -> Callable[..., Any]:
    """The batch rule of anything that acts position by position on operands of one shape."""

    def batch(
        axis: MappedAxis, xs: Sequence[Value], dims: Dims, **params: Any
    ) -> tuple[list[Value], list[int | None]]:
        dim = first_mapped(dims)
        outs = bind(primitive(), *align(axis, xs, dims, dim), **params)
        return outs, [dim] * len(outs)

    return batch


# -- linear and bilinear ----------------------------------------------------------------------


def linear(
    name: str,
    *,
    abstract_eval: Callable[..., list[Aval]],
    impl: Callable[..., list[Any]],
    transpose: Callable[..., list[Value]],
    batch: Callable[..., tuple[list[Value], list[int | None]]],
    operands: tuple[int, ...] | None = None,
    property: Property = None,
    cheap: bool = True,
) -> Primitive:
    """A primitive jointly linear in the operands at `operands` (None: all): its jvp is itself.

    `property` replaces LinearIn(operands) where something stronger holds.
    """

    primitive = Primitive(
        name=name,
        abstract_eval=abstract_eval,
        impl=impl,
        jvp=linear_jvp(lambda: primitive, operands),
        transpose=transpose,
        batch=batch,
        property=LinearIn(operands) if property is None else property,
        cheap=cheap,
    )
    return primitive


def linear_jvp(
    primitive: Callable[[], Primitive], operands: tuple[int, ...] | None = None
) -> Callable[..., tuple[list[Value], list[Value]]]:
    """The jvp rule of what is jointly linear in `operands`: itself, on the tangents of those."""

    def jvp(
        primals: list[Value], tangents: list[Value], **params: Any
    ) -> tuple[list[Value], list[Value]]:
        outs = bind(primitive(), *primals, **params)
        chosen = range(len(primals)) if operands is None else operands
        if all(tangents[i] is None for i in chosen):
            return outs, [None] * len(outs)
        moved = list(primals)
        for i in chosen:
            moved[i] = instantiate(tangents[i], primals[i])
        return outs, bind(primitive(), *moved, **params)

    return jvp


def bilinear(
    name: str,
    *,
    abstract_eval: Callable[..., list[Aval]],
    impl: Callable[..., list[Any]],
    transpose: Callable[..., list[Value]],
    batch: Callable[..., tuple[list[Value], list[int | None]]],
    cheap: bool = False,
) -> Primitive:
    """A primitive linear in each of two operands: its jvp is the product rule."""

    def jvp(
        primals: list[Value], tangents: list[Value], **params: Any
    ) -> tuple[list[Value], list[Value]]:
        (x, y), (x_dot, y_dot) = primals, tangents
        terms = []
        if x_dot is not None:
            terms += bind(primitive, x_dot, y, **params)
        if y_dot is not None:
            terms += bind(primitive, x, y_dot, **params)
        return bind(primitive, x, y, **params), [add_all(terms)]

    primitive = Primitive(
        name=name,
        abstract_eval=abstract_eval,
        impl=impl,
        jvp=jvp,
        transpose=transpose,
        batch=batch,
        property=Bilinear(),
        cheap=cheap,
    )
    return primitive


def instantiating(
    rule: Callable[..., tuple[list[Value], list[Value]]],
) -> Callable[..., tuple[list[Value], list[Value]]]:
    """A hand-written jvp rule that never sees a symbolic zero.

    Tangents of floating operands are made arrays; those of other operands stay None. When
    every tangent is a zero the rule still runs, for its primal results only.
    """

    def jvp(
        primals: list[Value], tangents: list[Value], **params: Any
    ) -> tuple[list[Value], list[Value]]:
        live = any(t is not None for t in tangents)
        filled = [
            instantiate(t, p) if is_inexact(aval_of(p).dtype) else None
            for p, t in zip(primals, tangents, strict=True)
        ]
        outs, out_tangents = rule(primals, filled, **params)
        return outs, out_tangents if live else [None] * len(outs)

    return jvp


# -- reductions -------------------------------------------------------------------------------


def reduction(
    name: str,
    function: Callable[..., Any],
    monoid: str,
    *,
    kinds: str,
    jvp: Callable[..., tuple[list[Value], list[Value]]] | None = None,
    transpose: Callable[..., list[Value]] | None = None,
    has_identity: bool = True,
) -> Primitive:
    """A primitive that folds the axes in param `axes` with `function(x, axis=axes)`.

    With a `transpose` it is linear; with neither it has no derivative. Where there is no
    identity, something must be there to fold.
    """

    def abstract_eval(x: Aval, *, axes: Sequence[int]) -> list[Aval]:
        require_kind(name, x.dtype, kinds)
        check_axes(name, axes, x.ndim)
        result = Aval(without(x.shape, axes), x.dtype)
        if not has_identity and x.size == 0 and result.size:
            raise ShapeError(f"{name}: nothing to reduce in {x} along axes {tuple(axes)}")
        return [result]

    def batch(
        axis: MappedAxis, xs: Sequence[Value], dims: Dims, *, axes: Sequence[int]
    ) -> tuple[list[Value], list[int | None]]:
        (dim,) = dims
        if dim is None:
            return bind(primitive, *xs, axes=axes), [None]
        moved = shifted(axes, dim)
        return bind(primitive, *xs, axes=moved), [dim - sum(a < dim for a in moved)]

    if jvp is None:
        jvp = linear_jvp(lambda: primitive) if transpose else without_derivative(lambda: primitive)
    primitive = Primitive(
        name=name,
        abstract_eval=abstract_eval,
        impl=lambda x, *, axes: [np.asarray(function(x, axis=axes), x.dtype)],
        jvp=jvp,
        transpose=transpose,
        batch=batch,
        property=Reduction(monoid),
        cheap=False,
    )
    return primitive


def without_derivative(
    primitive: Callable[[], Primitive],
) -> Callable[..., tuple[list[Value], list[Value]]]:
    """The jvp rule of what is constant almost everywhere, or has no floating result."""

    def jvp(
        primals: list[Value], tangents: list[Value], **params: Any
    ) -> tuple[list[Value], list[Value]]:
        outs = bind(primitive(), *primals, **params)
        return outs, [None] * len(outs)

    return jvp


# -- helpers of rules -------------------------------------------------------------------------


def exact_operands(name: str, avals: Sequence[Aval], arity: int) -> Aval:
    """The common aval of operands that must agree exactly in shape and dtype."""
    if len(avals) != arity:
        raise TransformTypeError(f"{name} takes {arity} operands, but got {len(avals)}")
    first = avals[0]
    for other in avals[1:]:
        if not same_type(first, other):
            given = ", ".join(map(str, avals))
            raise ShapeError(f"{name}: the operands must agree in shape and dtype, but are {given}")
    return first


def require_kind(name: str, dtype: DType, kinds: str) -> None:
    """Raise TypeError unless the dtype's kind is among `kinds` (bfloat16 counts as "f")."""
    kind = "f" if is_inexact(dtype) and dtype.kind != "c" else dtype.kind
    if kind not in kinds:
        parts = ": take real, imag or abs of it first" if kind == "c" else ""
        raise DtypeError(f"{name} is not defined for {dtype.name}{parts}")


def check_axes(name: str, axes: Sequence[int], ndim: int) -> None:
    """Raise ShapeError unless `axes` are distinct and lie in [0, ndim)."""
    if len(set(axes)) != len(axes) or not all(0 <= a < ndim for a in axes):
        raise ShapeError(f"{name}: {tuple(axes)} are not distinct axes of {ndim} dimensions")


def without(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """The shape that is left when `axes` are removed."""
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def scalar(value: complex, like: Aval) -> Value:
    """A NumPy scalar of the dtype of `like`: a literal of the jaxpr."""
    return like.dtype.type(value)


def full(value: complex, like: Aval) -> Value:
    """An array of the type of `like` that is `value` everywhere."""
    fill = scalar(value, like)
    if like.shape == ():
        return fill
    return bind(provided("broadcast"), fill, shape=like.shape, axes=tuple(range(like.ndim)))[0]


def full_like(x: Value, value: complex) -> Value:
    """An array of x's shape and dtype that is `value` everywhere."""
    return full(value, aval_of(x))


def instantiate(tangent: Value, primal: Value) -> Value:
    """The tangent, or zeros of its primal's type where it is a symbolic zero."""
    return full_like(primal, 0) if tangent is None else tangent


def is_linear(operand: Value) -> bool:
    return isinstance(operand, Linear)


def move_axis(x: Value, source: int, destination: int) -> Value:
    """x with one axis moved; no equation when it stays."""
    if source == destination:
        return x
    ndim = aval_of(x).ndim
    order = [i for i in range(ndim) if i != source]
    order.insert(destination, source)
    return bind(provided("transpose"), x, perm=tuple(order))[0]


def broadcast_at(x: Value, size: int, dim: int) -> Value:
    """x repeated along a new axis at position `dim` of the result."""
    shape = aval_of(x).shape
    return bind(provided("broadcast"), x, shape=(*shape[:dim], size, *shape[dim:]), axes=(dim,))[0]


def first_mapped(dims: Dims) -> int | None:
    """The batch dim of the first mapped operand; None when no operand is mapped."""
    return next((d for d in dims if d is not None), None)


def align(axis: MappedAxis, xs: Sequence[Value], dims: Dims, dim: int | None) -> list[Value]:
    """Every operand with its mapped axis at `dim`; unmapped ones are repeated there."""
    if dim is None:
        return list(xs)
    return [
        broadcast_at(x, axis.size, dim) if d is None else move_axis(x, d, dim)
        for x, d in zip(xs, dims, strict=True)
    ]


def to_front(axis: MappedAxis, xs: Sequence[Value], dims: Dims) -> list[Value]:
    """Every operand with its mapped axis first; unmapped ones are repeated."""
    return align(axis, xs, dims, 0)


def shifted(axes: Sequence[int], dim: int) -> tuple[int, ...]:
    """Where `axes` of an operand lie once a mapped axis stands at `dim` of it."""
    return tuple(a + (a >= dim) for a in axes)


def inserted(items: Sequence[Any], position: int, item: Any) -> tuple[Any, ...]:
    """`items` as a tuple with `item` before the one at `position`."""
    return (*items[:position], item, *items[position:])
