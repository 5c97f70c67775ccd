"""Callbacks: Python functions of NumPy arrays as operations whose results the program uses.

    pure_callback[callback results batch mapped method derivative] x*  ->  result*
    io_callback[callback results batch mapped ordered] x*  ->  result*

`callback` takes the values of the operands and gives a list of arrays of the types `results`. Under
vmap there are leading axes of the extents `batch`, of every result and of the operands that are
`mapped`; the others are the same for all members. Invariant: an io_callback runs once for each
member and each time that the program runs, where it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from functrans.bind import bind
from functrans.errors import DtypeError, ShapeError, TransformTypeError, describe, name_of, where
from functrans.ir import Aval, Effect, MappedAxis, Primitive, aval_of, is_inexact
from functrans.primitives.contraction import dot_general
from functrans.primitives.derive import Dims, Value, add_all, broadcast_at, move_axis
from functrans.primitives.structural import Batched, broadcast, convert

Callback: TypeAlias = Callable[..., Sequence[Any]]
Shape: TypeAlias = tuple[int, ...]
Avals: TypeAlias = tuple[Aval, ...]
Method = Literal["sequential", "expand_dims", "broadcast_all"]
"""How many members are computed: by a call for each; by one call, with axes of extent 1 for the
batch where an operand is the same for all; by one call in which every operand is repeated."""


class Jacobian(NamedTuple):
    """A callback that gives the blocks of a Jacobian, and what is known of it in turn."""

    callback: Callback
    method: Method
    derivative: Derivative | None


class Derivative(Protocol):
    """What a pure callback knows of its own derivative."""

    def jacobian(
        self,
        callback: Callback,
        operands: Avals,
        results: Avals,
        wrt: tuple[int, ...],
        method: Method,
    ) -> Jacobian:
        """Blocks for each inexact result and, inside that, each operand in `wrt`.

        A block has the shape of the result, then that of the operand.
        """
        ...


# -- running ----------------------------------------------------------------------------------


def _members(xs: Sequence[Any], batch: Shape, mapped: Sequence[bool]) -> Iterator[list[Any]]:
    """The operands of each member, in order."""
    for index in np.ndindex(*batch):
        yield [x[index] if flag else x for x, flag in zip(xs, mapped, strict=True)]


def _own(xs: Sequence[Any]) -> list[Any]:
    """Arrays that the callback may keep or change; NumPy scalars where there are no axes."""
    return [np.array(x)[()] for x in xs]


def _sequentially(
    xs: Sequence[Any], callback: Callback, results: Avals, batch: Shape, mapped: Sequence[bool]
) -> list[Any]:
    """A call for each member, in order."""
    outs = [np.empty((*batch, *a.shape), a.dtype) for a in results]
    for index, own in zip(np.ndindex(*batch), _members(xs, batch, mapped), strict=True):
        given = typed(callback(*_own(own)), results, (), callback)
        for out, value in zip(outs, given, strict=True):
            out[index] = value
    return outs


def _at_once(
    xs: Sequence[Any],
    callback: Callback,
    results: Avals,
    batch: Shape,
    mapped: Sequence[bool],
    method: Method,
) -> list[Any]:
    """One call for all members."""
    lead = batch if method == "broadcast_all" else (1,) * len(batch)
    given = [
        x if flag else np.broadcast_to(x, (*lead, *np.shape(x)))
        for x, flag in zip(xs, mapped, strict=True)
    ]
    return typed(callback(*_own(given)), results, batch, callback)


def typed(outs: Sequence[Any], results: Avals, batch: Shape, callback: Callback) -> list[Any]:
    """What a callback gave, as arrays of the types that were announced for it."""
    return [
        _typed(out, Aval((*batch, *aval.shape), aval.dtype), callback)
        for out, aval in zip(outs, results, strict=True)
    ]


def _typed(value: Any, aval: Aval, callback: Callback) -> Any:
    array = np.asarray(value)
    what = f"a callback, {name_of(callback)} ({where(callback)}), returned {describe(value)}"
    if array.shape != aval.shape:
        raise ShapeError(f"{what} where {aval} was announced. Announce the shape that it returns.")
    if type(value) not in (bool, int, float, complex) and not np.can_cast(array.dtype, aval.dtype):
        raise DtypeError(
            f"{what} where {aval} was announced. Announce the dtype that it returns, or convert "
            "the result with .astype."
        )
    return array.astype(aval.dtype, copy=False)


# -- axes that are mapped ---------------------------------------------------------------------


def _abstract_eval(*avals: Aval, results: Avals, batch: Shape, **params: Any) -> list[Aval]:
    return [Aval((*batch, *a.shape), a.dtype) for a in results]


def _mapped(
    primitive: Primitive,
    axis: MappedAxis,
    xs: Sequence[Value],
    dims: Dims,
    batch: Shape,
    mapped: Sequence[bool],
    params: dict[str, Any],
) -> Batched:
    """The callback for one more leading axis; the same as before where no operand has it."""
    if all(dim is None for dim in dims):
        outs = bind(primitive, *xs, batch=batch, mapped=tuple(mapped), **params)
        return outs, [None] * len(outs)
    moved = [
        _leading(axis, x, dim, batch, flag) for x, dim, flag in zip(xs, dims, mapped, strict=True)
    ]
    flags = tuple(flag or dim is not None for flag, dim in zip(mapped, dims, strict=True))
    outs = bind(primitive, *moved, batch=(axis.size, *batch), mapped=flags, **params)
    return outs, [0] * len(outs)


def _leading(axis: MappedAxis, x: Value, dim: int | None, batch: Shape, flag: bool) -> Value:
    """An operand with all leading axes, or none where it is the same for all members."""
    if dim is None:
        return broadcast_at(x, axis.size, 0) if flag else x
    x = move_axis(x, dim, 0)
    if flag or not batch:
        return x
    shape = (axis.size, *batch, *aval_of(x).shape[1:])
    return broadcast(x, shape, tuple(range(1, 1 + len(batch))))


# -- pure callbacks ---------------------------------------------------------------------------


def _pure_impl(
    *xs: Any,
    callback: Callback,
    results: Avals,
    batch: Shape,
    mapped: tuple[bool, ...],
    method: Method,
    derivative: Derivative | None,
) -> list[Any]:
    if method == "sequential" or not batch:
        return _sequentially(xs, callback, results, batch, mapped)
    return _at_once(xs, callback, results, batch, mapped, method)


def _pure_batch(
    axis: MappedAxis,
    xs: Sequence[Value],
    dims: Dims,
    *,
    batch: Shape,
    mapped: tuple[bool, ...],
    **params: Any,
) -> Batched:
    return _mapped(pure_callback_p, axis, xs, dims, batch, mapped, params)


def pure_callback_jvp(
    primals: list[Value],
    tangents: list[Value],
    *,
    callback: Callback,
    results: Avals,
    batch: Shape,
    mapped: tuple[bool, ...],
    method: Method,
    derivative: Derivative | None,
) -> tuple[list[Value], list[Value]]:
    """The Jacobian by another callback, and its products with the tangents."""
    members = {"batch": batch, "mapped": mapped}
    how = {"callback": callback, "method": method, "derivative": derivative}
    outs = bind(pure_callback_p, *primals, results=results, **how, **members)
    wrt = tuple(k for k, t in enumerate(tangents) if t is not None)
    varying = [j for j, a in enumerate(results) if is_inexact(a.dtype)]
    if not wrt or not varying:
        return outs, [None] * len(outs)
    if derivative is None:
        raise _no_derivative(callback)
    inner = len(batch)
    operands = tuple(
        Aval(a.shape[inner:], a.dtype) if flag else a
        for a, flag in zip(map(aval_of, primals), mapped, strict=True)
    )
    shapes = [operands[k].shape for k in wrt]
    _require_holomorphic(callback, [results[j] for j in varying], [operands[k] for k in wrt])
    found = derivative.jacobian(callback, operands, results, wrt, method)
    pairs = [(results[j], shape) for j in varying for shape in shapes]
    jacobian = tuple(Aval((*out.shape, *shape), out.dtype) for out, shape in pairs)
    blocks = iter(bind(pure_callback_p, *primals, results=jacobian, **found._asdict(), **members))
    dots: list[Value] = [None] * len(outs)
    for j in varying:
        parts = [
            _applied(next(blocks), tangents[k], len(shape), inner, mapped[k])
            for k, shape in zip(wrt, shapes, strict=True)
        ]
        dots[j] = add_all(parts)
    return outs, dots


def _no_derivative(callback: Callback) -> TransformTypeError:
    return TransformTypeError(
        f"pure_callback: {name_of(callback)} ({where(callback)}) is differentiated, but has no "
        "derivative. Give derivative='finite_differences' or a function that computes its "
        "Jacobian, wrap the call in custom_jvp or custom_vjp, or apply stop_gradient to its "
        "arguments."
    )


def _applied(block: Value, tangent: Value, ndim: int, inner: int, mapped: bool) -> Value:
    """The product of a block of the Jacobian with the tangent of its operand."""
    aval = aval_of(block)
    tangent = convert(tangent, aval.dtype)
    last = tuple(range(aval.ndim - ndim, aval.ndim))
    lead = tuple(range(inner)) if mapped else ()
    start = len(lead)
    return dot_general(block, tangent, (last, tuple(range(start, start + ndim))), (lead, lead))


def _require_holomorphic(
    callback: Callback, results: Sequence[Aval], operands: Sequence[Aval]
) -> None:
    """A real function of complex arguments has no Jacobian of complex numbers."""
    for result in results:
        for operand in operands:
            if operand.dtype.kind == "c" and result.dtype.kind != "c":
                raise TransformTypeError(
                    f"pure_callback: {name_of(callback)} ({where(callback)}) returns {result} from "
                    f"{operand}, which no Jacobian describes. Split the argument into real and "
                    "imaginary part, or give the derivative by custom_jvp."
                )


pure_callback_p = Primitive(
    name="pure_callback",
    abstract_eval=_abstract_eval,
    impl=_pure_impl,
    jvp=pure_callback_jvp,
    batch=_pure_batch,
    cheap=False,
)


# -- finite differences -----------------------------------------------------------------------


@dataclass(frozen=True)
class FiniteDifferences:
    """Central differences; `order` counts how many times what is differentiated already was.

    The step balances the error of the formula, its square, against the noise of the values over
    it: the cube root of that noise. Differences have the square of their step as noise.
    """

    order: int = 0

    def jacobian(
        self,
        callback: Callback,
        operands: Avals,
        results: Avals,
        wrt: tuple[int, ...],
        method: Method,
    ) -> Jacobian:
        if any(operands[k].dtype.kind == "c" for k in wrt):
            raise TransformTypeError(
                f"pure_callback: {name_of(callback)} ({where(callback)}) has complex arguments, "
                "whose derivative no finite differences tell. Give its Jacobian, or split the "
                "arguments into real and imaginary part."
            )
        by = Differences(callback, results, wrt, (2.0 / 3.0) ** self.order / 3.0)
        return Jacobian(by, "sequential", FiniteDifferences(self.order + 1))


@dataclass(frozen=True)
class Differences:
    """The Jacobian of a callback by central differences, two calls for each number in `wrt`.

    The step is the precision of the numbers to the power `exponent`, relative to values above 1.
    """

    callback: Callback
    results: Avals
    wrt: tuple[int, ...]
    exponent: float

    @property
    def __wrapped__(self) -> Callback:
        return self.callback

    def __call__(self, *xs: Any) -> list[Any]:
        varying = [j for j, a in enumerate(self.results) if is_inexact(a.dtype)]
        columns = {k: self.columns(xs, k, varying) for k in self.wrt}
        return [columns[k][n] for n in range(len(varying)) for k in self.wrt]

    def columns(self, xs: Sequence[Any], k: int, varying: Sequence[int]) -> list[Any]:
        """The blocks of all inexact results for one operand."""
        x = np.array(xs[k])
        found = [
            np.empty((*self.results[j].shape, *x.shape), self.results[j].dtype) for j in varying
        ]
        precision = max(epsilon(x.dtype), *[epsilon(self.results[j].dtype) for j in varying])
        for index in np.ndindex(*x.shape):
            step = precision**self.exponent * max(1.0, float(abs(x[index])))
            above, below = self.moved(xs, k, index, step), self.moved(xs, k, index, -step)
            width = above.x[index] - below.x[index]
            for block, j in zip(found, varying, strict=True):
                block[..., *index] = (above.outs[j] - below.outs[j]) / width
        return found

    def moved(self, xs: Sequence[Any], k: int, index: Shape, step: float) -> Moved:
        """The results where one number of one operand is moved by a step."""
        x = np.array(xs[k])
        x[index] += x.dtype.type(step)
        given = _own([x if i == k else other for i, other in enumerate(xs)])
        return Moved(x, typed(self.callback(*given), self.results, (), self.callback))


class Moved(NamedTuple):
    """An operand that was moved, and the results there."""

    x: Any
    outs: list[Any]


def epsilon(dtype: np.dtype[Any]) -> float:
    """The distance from 1 to the next number."""
    if dtype.name == "bfloat16":
        return 2.0**-7
    return float(np.finfo(dtype).eps)


# -- callbacks that act on the world ----------------------------------------------------------


def _io_impl(
    *xs: Any,
    callback: Callback,
    results: Avals,
    batch: Shape,
    mapped: tuple[bool, ...],
    ordered: bool,
) -> list[Any]:
    return _sequentially(xs, callback, results, batch, mapped)


def _io_batch(
    axis: MappedAxis,
    xs: Sequence[Value],
    dims: Dims,
    *,
    batch: Shape,
    mapped: tuple[bool, ...],
    **params: Any,
) -> Batched:
    return _mapped(io_callback_p, axis, xs, dims, batch, mapped, params)


def _io_jvp(
    primals: list[Value], tangents: list[Value], *, callback: Callback, **params: Any
) -> tuple[list[Value], list[Value]]:
    if all(t is None for t in tangents):
        outs = bind(io_callback_p, *primals, callback=callback, **params)
        return outs, [None] * len(outs)
    raise TransformTypeError(
        f"io_callback: {name_of(callback)} ({where(callback)}) acts on the world and so has no "
        "derivative, but its arguments carry one. Apply stop_gradient to them, or wrap the call in "
        "custom_jvp."
    )


def _io_effect(*, ordered: bool, **params: Any) -> Effect:
    return Effect.ORDERED if ordered else Effect.UNORDERED


io_callback_p = Primitive(
    name="io_callback",
    abstract_eval=_abstract_eval,
    impl=_io_impl,
    jvp=_io_jvp,
    batch=_io_batch,
    effects=_io_effect,
    cheap=False,
)


def pure_callback(
    xs: Sequence[Value],
    callback: Callback,
    results: Avals,
    method: Method = "sequential",
    derivative: Derivative | None = None,
) -> list[Value]:
    """The results of a function without effects, for one member."""
    return bind(
        pure_callback_p,
        *xs,
        callback=callback,
        results=results,
        batch=(),
        mapped=(False,) * len(xs),
        method=method,
        derivative=derivative,
    )


def io_callback(
    xs: Sequence[Value], callback: Callback, results: Avals, ordered: bool = False
) -> list[Value]:
    """The results of a function that acts on the world, for one member."""
    return bind(
        io_callback_p,
        *xs,
        callback=callback,
        results=results,
        batch=(),
        mapped=(False,) * len(xs),
        ordered=ordered,
    )
