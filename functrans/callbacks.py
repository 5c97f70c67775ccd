"""Callbacks for users: Python functions of NumPy arrays called by staged and compiled programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from functrans import tree
from functrans.api.border import Function, array_leaf
from functrans.api.inspecting import shaped
from functrans.errors import OptionError, TransformTypeError, TreeError, describe, name_of, where
from functrans.ir import is_inexact
from functrans.primitives import callbacks as primitives
from functrans.primitives.callbacks import (
    Avals,
    Callback,
    Derivative,
    FiniteDifferences,
    Jacobian,
    Method,
)
from functrans.treedef import difference

METHODS = ("sequential", "expand_dims", "broadcast_all")


def pure_callback(
    function: Function,
    result_shape_dtypes: Any,
    *args: Any,
    vmap_method: Method = "sequential",
    derivative: Literal["finite_differences"] | Callable[..., Any] | None = None,
    **kwargs: Any,
) -> Any:
    """function(*args, **kwargs), a Python function of NumPy arrays that need not be traceable.

    It is called when the program runs, under every transform and in compiled code, with arrays and
    NumPy scalars in the trees of the arguments. It must depend on nothing but its arguments and
    have no effect: it may be called more often than it is written, or never. What it returns has
    the tree of `result_shape_dtypes`, whose leaves have a shape and a dtype (ShapeDtypeStruct).

    vmap_method: what vmap does. "sequential" calls it for each member; "expand_dims" calls it once
    with an axis in front of each argument, of extent 1 where the argument is not mapped;
    "broadcast_all" repeats these too.

    derivative: "finite_differences" (two calls for each number in the arguments, relative errors of
    about 1e-10 in float64), or a Python function that takes the same arguments and returns what
    `jacrev(function, argnums=all)` would: in the tree of the results the Jacobian for the argument,
    or a tuple of one for each. Without it, differentiating is an error; custom_jvp and custom_vjp
    give derivatives that are traced.

    >>> import numpy as np
    >>> from functrans import ShapeDtypeStruct, grad, jit
    >>> def host(x):
    ...     return np.sinc(x)  # any Python code
    >>> def f(x):
    ...     return pure_callback(host, ShapeDtypeStruct((), x.dtype), x,
    ...                          derivative="finite_differences")
    >>> jit(f)(np.float64(0.5))
    np.float64(0.6366...)
    >>> grad(f)(np.float64(0.5))
    np.float64(-1.2732...)
    """
    if vmap_method not in METHODS:
        raise OptionError(
            f"pure_callback: vmap_method must be one of {', '.join(METHODS)}, "
            f"not {describe(vmap_method)}."
        )
    call = HostCall(function, result_shape_dtypes, args, kwargs, "pure_callback")
    known = call.derivative(derivative)
    outs = primitives.pure_callback(call.leaves, call.host, call.results, vmap_method, known)
    return tree.unflatten(call.host.out_tree, outs)


def io_callback(
    function: Function,
    result_shape_dtypes: Any,
    *args: Any,
    ordered: bool = False,
    **kwargs: Any,
) -> Any:
    """function(*args, **kwargs), a Python function that acts on the world: reads, writes, counts.

    It is called once each time that the program runs, whether its results are used or not, and
    under vmap once for each member, in order. `ordered` keeps the order of all ordered callbacks
    of a program. Arguments and results are as for pure_callback. It has no derivative: arguments
    that carry one are an error, stop_gradient takes it away.

    >>> import numpy as np
    >>> from functrans import ShapeDtypeStruct, jit
    >>> lines = iter(["1.5", "2.5"])
    >>> def read():
    ...     return float(next(lines))
    >>> f = jit(lambda x: x + io_callback(read, ShapeDtypeStruct((), "f8")))
    >>> f(1.0), f(1.0)
    (np.float64(2.5), np.float64(3.5))
    """
    call = HostCall(function, result_shape_dtypes, args, kwargs, "io_callback")
    outs = primitives.io_callback(call.leaves, call.host, call.results, ordered)
    return tree.unflatten(call.host.out_tree, outs)


class HostCall:
    """A call of a Python function, checked and taken apart: leaves in, leaves out."""

    def __init__(
        self,
        function: Function,
        results: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        what: str,
    ) -> None:
        if not callable(function):
            raise TransformTypeError(
                f"{what} takes a function, but got {describe(function)}. Write "
                f"{what}(function, result_shape_dtypes, *args)."
            )
        paths, in_tree = tree.flatten_with_path((args, kwargs))
        self.leaves = [
            array_leaf(x, f"{what}: the argument {argument(path)} of {name_of(function)}")
            for path, x in paths
        ]
        types, out_tree = tree.flatten(results)
        self.results: Avals = tuple(
            shaped(x, f"{what}: a result of {name_of(function)}").strengthen() for x in types
        )
        self.host = Host(function, in_tree, out_tree, what)

    def derivative(self, given: Any) -> Derivative | None:
        """What the option of pure_callback means."""
        if given is None:
            return None
        if given == "finite_differences":
            return FiniteDifferences()
        if not callable(given):
            raise OptionError(
                "pure_callback: derivative must be 'finite_differences', a function that computes "
                f"the Jacobian, or None, not {describe(given)}."
            )
        return GivenJacobian(Host(given, self.host.in_tree, self.host.out_tree, self.host.what))


def argument(path: tree.KeyPath) -> str:
    """What messages call a leaf of (args, kwargs)."""
    return tree.keystr(path[1:])


@dataclass(frozen=True)
class Host:
    """A function of pytrees as a function of their leaves, told by value: equal calls are equal."""

    function: Function
    in_tree: tree.PyTreeDef
    out_tree: tree.PyTreeDef
    what: str

    @property
    def __wrapped__(self) -> Function:
        """The user's function, whose name and place messages tell."""
        return self.function

    @property
    def __name__(self) -> str:
        return name_of(self.function)

    def result(self, xs: tuple[Any, ...]) -> Any:
        """What the user's function returns."""
        args, kwargs = tree.unflatten(self.in_tree, xs)
        return self.function(*args, **kwargs)

    def __call__(self, *xs: Any) -> list[Any]:
        found = self.result(xs)
        tree.check_structure(
            self.out_tree,
            found,
            f"{self.what}: {name_of(self.function)} ({where(self.function)}) must return what "
            "result_shape_dtypes announces, but it differs",
        )
        return tree.leaves(found)


@dataclass(frozen=True)
class GivenJacobian:
    """A derivative that a Python function computes."""

    host: Host

    def jacobian(
        self,
        callback: Callback,
        operands: Avals,
        results: Avals,
        wrt: tuple[int, ...],
        method: Method,
    ) -> Jacobian:
        positional = self.host.in_tree.children()[0].num_leaves
        if any(k >= positional for k in wrt):
            raise TransformTypeError(
                f"pure_callback: the derivative of {name_of(callback)} ({where(callback)}) is "
                "given for its positional arguments, but a keyword argument is differentiated. "
                "Pass it by position."
            )
        varying = tuple(j for j, a in enumerate(results) if is_inexact(a.dtype))
        return Jacobian(Blocks(self.host, varying, wrt), method, None)


@dataclass(frozen=True)
class Blocks:
    """Those blocks of a Jacobian that are asked for, result by result."""

    host: Host
    varying: tuple[int, ...]
    wrt: tuple[int, ...]

    @property
    def __wrapped__(self) -> Function:
        return self.host.function

    def __call__(self, *xs: Any) -> list[Any]:
        arguments = self.host.in_tree.children()[0]
        if len(arguments.children()) == 1:
            arguments = arguments.children()[0]
        rows = taken_apart(self.host, self.host.out_tree, self.host.result(xs))
        blocks = [taken_apart(self.host, arguments, rows[j]) for j in self.varying]
        return [row[k] for row in blocks for k in self.wrt]


def taken_apart(host: Host, treedef: tree.PyTreeDef, value: Any) -> list[Any]:
    """The parts of a Jacobian where the leaves of a tree are."""
    how = difference(treedef, value)
    if how is not None:
        raise TreeError(
            f"pure_callback: the derivative {name_of(host.function)} ({where(host.function)}) must "
            "return, in the tree of the results, the Jacobian for the argument or a tuple of one "
            f"for each, but {how}."
        )
    return treedef.flatten_up_to(value)


__all__ = ["io_callback", "pure_callback"]
