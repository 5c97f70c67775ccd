"""Functions of functions: vectorize, apply_along_axis, piecewise and their relatives."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from functrans import tree
from functrans.api.mapping import vmap
from functrans.errors import ShapeError, describe
from functrans.ir import aval_of
from functrans.primitives import structural as p
from functrans.primitives.derive import Value, full_like
from functrans.surface.axes import normal_axes, normal_axis
from functrans.surface.declare import surface
from functrans.surface.promotion import BOOL, as_operand, broadcast_together, cast, stretch
from functrans.surface.shaping import array_of, insert_axes
from functrans.typing import ArrayLike, Axes

Names = tuple[str, ...]


def vectorize(
    pyfunc: Callable[..., Any],
    *,
    excluded: Sequence[int | str] = (),
    signature: str | None = None,
) -> Callable[..., Any]:
    """pyfunc mapped over all leading axes of its arguments, which broadcast together.

    `signature` names the axes that pyfunc itself takes, as in "(n,m),(m)->(n)"; without one it
    takes scalars. Arguments in `excluded` (by position or keyword) are passed as they are.

    >>> import functrans.numpy as fnp
    >>> dot = fnp.vectorize(fnp.dot, signature="(n),(n)->()")
    >>> dot(fnp.ones((2, 3)), fnp.arange(3.0))
    array([3., 3.])
    """
    if not callable(pyfunc):
        raise TypeError(f"vectorize takes a function, but got {describe(pyfunc)}")
    cores = None if signature is None else parse_signature(signature)

    @functools.wraps(pyfunc, updated=())
    def vectorized(*args: Any, **kwargs: Any) -> Any:
        mapped = [i for i in range(len(args)) if i not in excluded]
        names = [k for k in kwargs if k not in excluded]
        given = [array_of(args[i], "vectorize") for i in mapped]
        given += [array_of(kwargs[k], "vectorize") for k in names]
        ndims = _core_ndims(cores, len(given))
        loop, members = _with_common_loop(given, ndims)

        def on_member(*parts: Any) -> Any:
            positional = list(args)
            for i, part in zip(mapped, parts, strict=False):
                positional[i] = part
            keywords = dict(zip(names, parts[len(mapped) :], strict=True))
            return pyfunc(*positional, **{**kwargs, **keywords})

        if not loop:
            return on_member(*members)
        size = int(np.prod(loop))
        flat = [p.reshape(x, (size, *aval_of(x).shape[len(loop) :])) for x in members]
        outs = vmap(on_member, axis_size=size)(*flat)
        return tree.map(lambda y: p.reshape(y, (*loop, *aval_of(y).shape[1:])), outs)

    return vectorized


def parse_signature(signature: str) -> list[Names]:
    """The names of the core axes of each argument: "(n,m),(m)->(n)" gives [("n","m"), ("m",)]."""
    group = r"\(\s*\w*\s*(?:,\s*\w+\s*)*\)"
    listing = rf"\s*{group}\s*(?:,\s*{group}\s*)*"
    if not re.fullmatch(rf"{listing}->{listing}", signature):
        raise ValueError(f"not a valid gufunc signature: {signature}")
    inputs = signature.split("->")[0]
    return [tuple(re.findall(r"\w+", part)) for part in re.findall(group, inputs)]


def _core_ndims(cores: list[Names] | None, count: int) -> list[int]:
    if cores is None:
        return [0] * count
    if len(cores) != count:
        raise TypeError(f"wrong number of arguments: expected {len(cores)}, got {count}")
    return [len(names) for names in cores]


def _with_common_loop(
    given: Sequence[Value], ndims: Sequence[int]
) -> tuple[tuple[int, ...], list[Value]]:
    """The broadcast leading shape, and the arguments repeated to it."""
    split = [aval_of(x).ndim - n for x, n in zip(given, ndims, strict=True)]
    if min(split, default=0) < 0:
        raise ShapeError("vectorize: an argument has fewer axes than its signature names")
    shapes = [aval_of(x).shape for x in given]
    loop = np.broadcast_shapes(*(s[:k] for s, k in zip(shapes, split, strict=True)))
    members = [
        stretch(_lead(x, len(loop) - k), (*loop, *s[k:]))
        for x, s, k in zip(given, shapes, split, strict=True)
    ]
    return loop, members


def _lead(x: Value, missing: int) -> Value:
    return insert_axes(x, tuple(range(missing)))


@surface(np.apply_along_axis)
def apply_along_axis(
    func1d: Callable[..., Any], axis: int, arr: ArrayLike, *args: Any, **kwargs: Any
) -> Value:
    """func1d of every row of arr along one axis."""
    arr = array_of(arr, "apply_along_axis")
    place = normal_axis(axis, aval_of(arr).ndim, "apply_along_axis")
    others = [i for i in range(aval_of(arr).ndim) if i != place]
    shape = tuple(aval_of(arr).shape[i] for i in others)
    rows = p.transpose(arr, (*others, place))
    rows = p.reshape(rows, (int(np.prod(shape)), aval_of(arr).shape[place]))
    out = vmap(lambda row: as_operand(func1d(row, *args, **kwargs), "apply_along_axis"))(rows)
    core = aval_of(out).shape[1:]
    out = p.reshape(out, (*shape, *core))
    lead = list(range(len(shape)))
    inner = list(range(len(shape), len(shape) + len(core)))
    return p.transpose(out, (*lead[:place], *inner, *lead[place:]))


@surface(np.apply_over_axes)
def apply_over_axes(func: Callable[..., Any], a: ArrayLike, axes: Axes) -> Value:
    """func applied along each axis in turn; the number of axes stays."""
    a = array_of(a, "apply_over_axes")
    ndim = aval_of(a).ndim
    for axis in normal_axes(axes, ndim, "apply_over_axes"):
        result = func(a, axis)
        a = result if aval_of(result).ndim == ndim else insert_axes(result, (axis,))
    return a


@surface(np.piecewise)
def piecewise(
    x: ArrayLike, condlist: Sequence[ArrayLike], funclist: Sequence[Any], *args: Any, **kw: Any
) -> Value:
    """The function or value of the last condition that holds; 0 or one more entry where none does.

    Every function sees the whole of x, since which parts it would get depends on values.
    """
    x = array_of(x, "piecewise")
    conditions = [cast(as_operand(c, "piecewise"), BOOL) for c in _conditions(condlist, x)]
    pieces = list(funclist)
    if len(pieces) not in (len(conditions), len(conditions) + 1):
        raise ValueError(
            f"with {len(conditions)} condition(s), either {len(conditions)} or "
            f"{len(conditions) + 1} functions are expected"
        )
    result = full_like(x, 0)
    if len(pieces) > len(conditions):
        result = _piece(pieces.pop(), x, args, kw)
    for condition, piece in zip(conditions, pieces, strict=True):
        result = p.select(
            *broadcast_together("piecewise", condition, _piece(piece, x, args, kw), result)
        )
    return result


def _conditions(condlist: Any, x: Value) -> list[Any]:
    if isinstance(condlist, (list, tuple)) and condlist:
        first = condlist[0]
        plain_row = not isinstance(first, (list, tuple)) and aval_of(as_operand(first)).ndim == 0
        return [condlist] if plain_row and aval_of(x).ndim else list(condlist)
    return [condlist]


def _piece(piece: Any, x: Value, args: tuple[Any, ...], kw: dict[str, Any]) -> Value:
    value: Any = piece(x, *args, **kw) if callable(piece) else piece
    return stretch(cast(as_operand(value, "piecewise"), aval_of(x).dtype), aval_of(x).shape)
