"""Looking at functions without running them: make_jaxpr, eval_shape, closure_convert."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from functrans import tree
from functrans.api.arguments import places_of, positions, require_callable, without_fixed
from functrans.api.border import Function, array_leaf, run, stage
from functrans.errors import argument_name, name_of
from functrans.ir import Aval, ClosedJaxpr, aval_of
from functrans.tracing import Tracer


class ShapeDtypeStruct:
    """A shape and a dtype, in the place of an array that need not exist."""

    __slots__ = ("dtype", "shape", "weak_type")

    def __init__(self, shape: Sequence[int], dtype: Any, weak_type: bool = False) -> None:
        self.shape = tuple(int(n) for n in shape)
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.weak_type = weak_type

    @classmethod
    def like(cls, x: Any) -> ShapeDtypeStruct:
        """The shape and dtype of an array."""
        aval = aval_of(x)
        return cls(aval.shape, aval.dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __repr__(self) -> str:
        return f"ShapeDtypeStruct(shape={self.shape}, dtype={self.dtype.name})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ShapeDtypeStruct)
            and self.shape == other.shape
            and self.dtype == other.dtype
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))


def shaped(value: Any, what: str) -> Aval:
    """The aval of an example: an array, a number, or anything with a shape and a dtype."""
    if _has_type(value):
        weak = getattr(value, "weak_type", False)
        return Aval(tuple(value.shape), np.dtype(value.dtype), weak)
    return aval_of(array_leaf(value, what))


def _has_type(value: Any) -> bool:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return isinstance(shape, tuple) and isinstance(dtype, np.dtype)


def stage_abstractly(
    f: Function,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    purpose: str,
    static_argnums: int | Sequence[int] = (),
) -> Any:
    """f staged on the shapes and dtypes of a call; returns what `stage` does."""
    require_callable(f, purpose)
    option = f"{purpose}: static_argnums"
    fixed = places_of(positions(static_argnums, option), len(args), f, option)
    others, call = without_fixed(f, fixed, args, kwargs)
    flat, treedef = tree.flatten_with_path(others)
    names = [_name(f, path) for path, _ in flat]
    avals = [shaped(x, f"{purpose}: {n}") for (_, x), n in zip(flat, names, strict=True)]

    @functools.wraps(f, updated=())
    def flat_f(*xs: Any) -> Any:
        return call(tree.unflatten(treedef, xs))

    leaves = [x for _, x in flat]
    return stage(
        flat_f,
        leaves,
        purpose=purpose,
        avals=avals,
        known=False,
        copies=False,
        names=names,
        user=f,
    )


def _name(f: Function, path: tree.KeyPath) -> str:
    section, place = path[0].idx, path[1].key  # type: ignore[union-attr]
    base = argument_name(f, place) if section == 0 else f"argument {place!r}"
    return f"{base}{tree.keystr(path[2:])} of {name_of(f)}"


def make_jaxpr(
    f: Function, static_argnums: int | Sequence[int] = (), return_shape: bool = False
) -> Callable[..., Any]:
    """A function that returns the jaxpr of f on given arguments; print it to see the program.

    Arguments may be ShapeDtypeStructs. With `return_shape` the result is
    `(jaxpr, tree of ShapeDtypeStruct)`.

    >>> make_jaxpr(lambda x: np.sin(x) * x)(1.0)
    { lambda ; a:f64~[]. let
        b:f64[] = convert[dtype=f64 weak=False] a
        c:f64[] = sin b
        d:f64[] = mul c b
      in (d,) }
    """

    @functools.wraps(f, updated=())
    def jaxpr_of(*args: Any, **kwargs: Any) -> Any:
        with stage_abstractly(f, args, kwargs, "make_jaxpr", static_argnums) as staged:
            closed = ClosedJaxpr(staged.jaxpr, staged.captured)
            return (closed, _structs(staged)) if return_shape else closed

    return jaxpr_of


def eval_shape(f: Function, *args: Any, **kwargs: Any) -> Any:
    """The shapes and dtypes of f's result, as a pytree of ShapeDtypeStruct, computing nothing.

    >>> eval_shape(lambda x: x @ x.T, ShapeDtypeStruct((2, 3), np.float32))
    ShapeDtypeStruct(shape=(2, 2), dtype=float32)
    """
    with stage_abstractly(f, args, kwargs, "eval_shape") as staged:
        return _structs(staged)


def _structs(staged: Any) -> Any:
    avals = staged.jaxpr.out_avals
    return tree.unflatten(
        staged.out_tree, [ShapeDtypeStruct(a.shape, a.dtype, a.weak) for a in avals]
    )


def closure_convert(f: Function, *examples: Any) -> tuple[Function, list[Any]]:
    """f as a function without closure: `(converted, captured)` with `converted(*args, *captured)`.

    What f captures and may carry a derivative (tracers of enclosing transforms) becomes an
    argument. `examples` are arguments like those of the calls to come.

    >>> converted, captured = closure_convert(lambda x: 2 * x, 1.0)
    >>> converted(3.0, *captured)
    6.0
    """
    with stage_abstractly(f, examples, {}, "closure_convert") as staged:
        jaxpr, out_tree = staged.jaxpr, staged.out_tree
        values = [x if type(x) is Tracer else np.array(x) for x in staged.captured]
    moving = [i for i, x in enumerate(values) if type(x) is Tracer]

    @functools.wraps(f, updated=())
    def converted(*args: Any) -> Any:
        count = len(args) - len(moving)
        captured = list(values)
        for i, x in zip(moving, args[count:], strict=True):
            captured[i] = x
        return tree.unflatten(out_tree, run(jaxpr, [*captured, *tree.leaves(args[:count])]))

    return converted, [values[i] for i in moving]
