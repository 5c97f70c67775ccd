"""no_grad and enable_grad: whether what is traced now carries derivatives of what encloses it."""

from __future__ import annotations

import functools
from types import TracebackType
from typing import Any, TypeVar

from functrans import tree
from functrans.api.border import Function
from functrans.bind import bind, current_interpreter
from functrans.errors import TransformTypeError, describe
from functrans.ir import aval_of, is_inexact
from functrans.primitives.structural import stop_gradient_p
from functrans.recording import Trace
from functrans.tracing import Tracer

T = TypeVar("T")


def stop_gradient(x: T) -> T:
    """x, with derivative zero in every mode; pytrees leaf by leaf, other values unchanged.

    >>> from functrans import grad
    >>> grad(lambda x: x * stop_gradient(x))(3.0)
    3.0
    """
    return tree.map(_stopped, x)


def _stopped(leaf: Any) -> Any:
    if type(leaf) is Tracer and is_inexact(aval_of(leaf).dtype):
        return bind(stop_gradient_p, leaf)[0]
    return leaf


class GradMode:
    """A context manager that is also a decorator: while it is on, derivatives are off (or on).

    It acts on the trace in force when it is entered: a transform started inside works as usual.
    """

    _off: bool
    _name: str

    def __init__(self) -> None:
        self._entered: list[tuple[Any, bool]] = []

    def __enter__(self) -> GradMode:
        trace = current_interpreter()
        self._entered.append((trace, getattr(trace, "no_grad", False)))
        if isinstance(trace, Trace):
            trace.switch(self._off)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        trace, before = self._entered.pop()
        if isinstance(trace, Trace):
            trace.switch(before)
        if kind is None and trace is not current_interpreter():
            raise TransformTypeError(
                f"{self._name} was left inside another transform than it was entered in, as a "
                "generator suspended in the middle of the block does. Close the block first."
            )


class _NoGrad(GradMode):
    _off = True
    _name = "no_grad"


class _EnableGrad(GradMode):
    _off = False
    _name = "enable_grad"


def no_grad(f: Function | None = None) -> Any:
    """Make derivatives of the enclosing transforms zero: `with no_grad():` or `no_grad(f)`.

    Forward and reverse mode, at every order, closures included; no residual is kept. A transform
    started inside works as usual, and `enable_grad` turns derivatives on again.

    >>> from functrans import grad
    >>> grad(lambda x: x * no_grad(lambda y: y**2)(x))(3.0)
    9.0
    """
    if f is None:
        return _NoGrad()
    _require_function(f, "no_grad")

    @functools.wraps(f, updated=())
    def without_derivatives(*args: Any, **kwargs: Any) -> Any:
        with _NoGrad():
            return stop_gradient(f(*args, **kwargs))

    return without_derivatives


def _require_function(f: Any, what: str) -> None:
    if not callable(f):
        raise TransformTypeError(
            f"{what} takes a function or nothing, but got {describe(f)}. Write "
            f"{what}(f)(x), or `with {what}():`."
        )


def enable_grad(f: Function | None = None) -> Any:
    """Turn derivatives on again inside a no_grad block: `with enable_grad():` or `enable_grad(f)`.

    >>> from functrans import grad
    >>> def f(x):
    ...     with no_grad():
    ...         scale = x * x
    ...         with enable_grad():
    ...             return scale * x
    >>> grad(f)(3.0)
    9.0
    """
    if f is None:
        return _EnableGrad()
    _require_function(f, "enable_grad")

    @functools.wraps(f, updated=())
    def with_derivatives(*args: Any, **kwargs: Any) -> Any:
        with _EnableGrad():
            return f(*args, **kwargs)

    return with_derivatives
