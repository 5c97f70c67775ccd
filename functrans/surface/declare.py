"""Declarations: `@surface` makes a function of arrays public, and NumPy's protocols find it here.

Every public array function, operator and method goes through it, so that there is one place
where a call is sorted into operands and statics. While nothing is being staged a declared
function is its NumPy counterpart; while staging, its body binds primitives.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, cast

import numpy as np

from functrans.bind import current_interpreter, is_evaluating
from functrans.errors import (
    FunctransError,
    UnsupportedError,
    as_our_error,
    describe,
    user_frame,
    where,
)
from functrans.ir import Aval
from functrans.memo import fast
from functrans.memo.keys import Numbers

Function: TypeAlias = Callable[..., Any]
P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

NUMPY_TABLE: dict[Any, Function] = {}
"""NumPy function or ufunc -> the declared function that stands for it on tracers."""

UFUNC_METHODS: dict[tuple[Any, str], Function] = {}
"""(ufunc, "reduce" or another method) -> the declared function that stands for it."""

DECLARED: list[Declaration] = []
"""Every declared function, in the order of declaration."""


class Declaration:
    """What is known of a public array function before it is called.

    name         the name in messages, as the user wrote it
    body         binds primitives on whatever it is given
    counterpart  the NumPy function with the same meaning, or None
    creates      is the result a new array whatever the operands are?
    views        may NumPy's result be a view of the first operand?
    numbers      which numbers the memo takes for inputs
    beyond       the keywords that the counterpart does not have
    is_index     is the second operand an index? `writes`: of what is written to?
    peeks        did it ask for the value of an operand? Then the memo does not know it as one

    What follows from the body's signature is found when it is first asked for: there are hundreds
    of declarations, and a program uses few.
    """

    def __init__(
        self,
        name: str,
        body: Function,
        counterpart: Function | None,
        creates: bool,
        views: bool,
        numbers: Numbers = Numbers.STATIC,
        beyond: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.body = body
        self.counterpart = counterpart
        self.creates = creates
        self.views = views
        self.numbers = numbers
        self.beyond = beyond
        self.is_index = False
        self.writes = False
        self.peeks = False

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.body)

    @functools.cached_property
    def operands(self) -> frozenset[str]:
        """The parameters that are arrays; all others are static."""
        parameters = self.signature.parameters.values()
        return frozenset(p.name for p in parameters if "ArrayLike" in str(p.annotation))

    @functools.cached_property
    def keywords(self) -> frozenset[str]:
        """The parameters that may be given by name."""
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return frozenset(p.name for p in self.signature.parameters.values() if p.kind in kinds)

    @functools.cached_property
    def ufunc(self) -> Any:
        """The ufunc that stands for it on tracers, if there is one."""
        known = NUMPY_TABLE.get(self.counterpart)
        is_own = getattr(known, "declaration", None) is self
        return self.counterpart if is_own and isinstance(self.counterpart, np.ufunc) else None

    @property
    def is_variadic(self) -> bool:
        return bool(self.body.__code__.co_flags & inspect.CO_VARARGS)

    @property
    def takes_any_keyword(self) -> bool:
        return bool(self.body.__code__.co_flags & inspect.CO_VARKEYWORDS)

    def sort(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call as (operands in order, statics by name, defaults filled in)."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        operands: list[Any] = []
        statics: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if name not in self.operands:
                statics[name] = value
            elif self.signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
                operands.extend(value)
            else:
                operands.append(value)
        return operands, statics


class Hooks:
    """What tracing adds to the results of declared functions, plugged in from above."""

    @staticmethod
    def _unchanged(result: Any, *_: Any) -> Any:
        return result

    view: Function = _unchanged
    """(result, first operand, function of it) -> result, noted as a view."""
    load_library: Function = _unchanged
    """Imports the rest of the library, which declares more NumPy functions."""
    foreign: Function = staticmethod(lambda function: None)
    """(function of another library) -> what stands for it, None where there is nothing."""
    fresh: Function = _unchanged
    """(result that is an operand) -> result, out of reach of writes to the operand."""
    created: Function = _unchanged
    """(result) -> result, noted as a new array that may be written in place."""
    captured: Function = _unchanged
    """(result) -> result, noted as an array from outside, which may not be written to."""


hooks = Hooks()


class Declared(Protocol[P, R_co]):
    """A declared function: called like its body, and NumPy's own where nothing is staged.

    `body` binds primitives whatever is in force; `staged` is the body with the options that every
    declared function takes.
    """

    body: Callable[..., Any]
    staged: Callable[..., Any]
    declaration: Declaration
    __name__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The result for these operands and options."""
        ...


def surface(
    counterpart: Any = None,
    *,
    name: str | None = None,
    creates: bool = False,
    views: bool = False,
    aliases: tuple[Any, ...] = (),
    methods: Mapping[str, Function] | None = None,
    numbers: Numbers = Numbers.STATIC,
    quick: fast.Quick = fast.general,
    beyond: tuple[str, ...] = (),
) -> Callable[[Callable[P, R]], Declared[P, R]]:
    """Declare a public array function.

    `counterpart` is NumPy's function of the same meaning; `aliases` are other NumPy functions
    that mean the same on tracers; `methods` gives the ufunc methods ("reduce", ...) that exist.
    `numbers` says whether arrays and numbers in operand position are inputs of what was traced: for
    functions that ask nothing of them but their shapes and dtypes. `quick` makes the fast path.
    `beyond` are keywords that NumPy's function lacks: a call that gives one is the body's always.
    Parameters annotated with ArrayLike are operands, the others static. Every declared function
    takes `out=`, which must be an array made inside the traced function.
    """

    def declare(body: Callable[P, R]) -> Declared[P, R]:
        declaration = Declaration(
            name or body.__name__, body, counterpart, creates, views, numbers, frozenset(beyond)
        )
        staged = _quick(declaration, quick, _memoised(declaration, _staging(declaration)))
        for numpy_function in (counterpart, *aliases):
            if numpy_function is not None:
                NUMPY_TABLE[numpy_function] = staged
        for method, function in (methods or {}).items():
            UFUNC_METHODS[counterpart, method] = function
        DECLARED.append(declaration)
        return cast(Declared[P, R], _caller(declaration, quick, staged))

    return declare


_BUILTIN_ERRORS = (TypeError, ValueError, IndexError, OverflowError)


def _staging(declaration: Declaration) -> Function:
    """The body, with the options and marks of the declaration; what NumPy's protocols call."""
    body = _with_our_errors(declaration)
    if declaration.takes_any_keyword:
        return body

    @functools.wraps(body)
    def staged(*args: Any, **kwargs: Any) -> Any:
        out = None
        if kwargs and not kwargs.keys() <= declaration.keywords:
            kwargs, out = _known_options(declaration, kwargs)
        result = body(*args, **kwargs)
        if out is not None:
            return write_out(declaration.name, out, result)
        if declaration.views:
            return _as_view(declaration, result, args, kwargs)
        if declaration.creates:
            return hooks.created(result)
        return hooks.fresh(result) if any(result is a for a in args) else result

    return staged


def _with_our_errors(declaration: Declaration) -> Function:
    """The body, what it finds wrong with its arguments told in our words."""
    body = declaration.body

    @functools.wraps(body)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return body(*args, **kwargs)
        except FunctransError:
            raise
        except _BUILTIN_ERRORS as error:
            raise as_our_error(error, declaration.name) from error

    return call


def _memoised(declaration: Declaration, recording: Function) -> Function:
    """What stages a call: the trace in force may know it."""

    @functools.wraps(declaration.body)
    def staged(*args: Any, **kwargs: Any) -> Any:
        interpreter: Any = current_interpreter()
        if interpreter.outermost:
            return interpreter.call(declaration, recording, args, kwargs)
        return recording(*args, **kwargs)

    return staged


def _quick(declaration: Declaration, quick: fast.Quick, slow: Function) -> Function:
    """The function with a fast path before it."""
    call = functools.wraps(declaration.body)(quick(declaration, slow))
    call.declaration = declaration  # type: ignore[attr-defined]
    return call


def _caller(declaration: Declaration, quick: fast.Quick, staged: Function) -> Function:
    """The function that users call: NumPy's own where nothing is staged."""
    eager = _eager(declaration)

    def either(*args: Any, **kwargs: Any) -> Any:
        return eager(*args, **kwargs) if is_evaluating() else staged(*args, **kwargs)

    call = _quick(declaration, quick, either)
    call.body = declaration.body  # type: ignore[attr-defined]
    call.staged = staged  # type: ignore[attr-defined]
    if isinstance(declaration.counterpart, np.ufunc):
        for method in _METHODS_OF_UFUNCS:
            setattr(call, method, getattr(declaration.counterpart, method))
    return call


_METHODS_OF_UFUNCS = ("reduce", "accumulate", "outer", "at", "reduceat")
"""NumPy's own serve: on tracers they come back here through its protocol."""


def _eager(declaration: Declaration) -> Function:
    """What runs where nothing is staged."""
    counterpart, beyond = declaration.counterpart, declaration.beyond
    if counterpart is not None and not beyond:
        return counterpart
    body = _with_our_errors(declaration)
    if counterpart is None:
        return body

    def by_options(*args: Any, **kwargs: Any) -> Any:
        return (counterpart if beyond.isdisjoint(kwargs) else body)(*args, **kwargs)

    return by_options


def _as_view(
    declaration: Declaration, result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The result, each part of it noted as a possible view of the operand it comes from."""
    if not args:
        return result
    if not isinstance(result, (list, tuple)):
        return hooks.view(result, args[0], _again(declaration, args[1:], kwargs, None))
    if declaration.is_variadic:
        again = _again(declaration, (), kwargs, None)
        return tuple(hooks.view(r, x, again) for r, x in zip(result, args, strict=True))
    parts = [
        hooks.view(part, args[0], _again(declaration, args[1:], kwargs, i))
        for i, part in enumerate(result)
    ]
    return type(result)(parts)


def _again(
    declaration: Declaration, rest: tuple[Any, ...], kwargs: dict[str, Any], part: int | None
) -> Function:
    """Takes the same view of another array; of a plain one by NumPy itself."""

    def again(x: Any) -> Any:
        plain = isinstance(x, np.ndarray) and declaration.counterpart is not None
        function: Any = declaration.counterpart if plain else declaration.body
        result = function(x, *rest, **kwargs)
        return result if part is None else result[part]

    return again


def _known_options(declaration: Declaration, kwargs: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The options that the body takes, and `out=`; NumPy's defaults may be spelt out."""
    kwargs, known = dict(kwargs), declaration.keywords
    out = kwargs.pop("out", None)
    for option, harmless in _NUMPY_DEFAULTS.items():
        if option not in known and option in kwargs and kwargs[option] in harmless:
            del kwargs[option]
    unknown = [k for k in kwargs if k not in known]
    if unknown:
        raise UnsupportedError(
            f"{declaration.name}: the option `{unknown[0]}` is not supported on values that are "
            f"being traced (in {where(user_frame())}). It takes {', '.join(sorted(known))} and out."
        )
    return kwargs, out


_NUMPY_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "order": ("C", "K", "A", None),
    "casting": ("same_kind",),
    "subok": (True, False),
    "like": (None,),
    "device": (None, "cpu"),
}


def write_out(name: str, out: Any, result: Any) -> Any:
    """Write `result` to the array given as `out=` and return that array, as NumPy does."""
    name = name if "." in name else f"numpy.{name}"
    targets = out if isinstance(out, tuple) else (out,)
    results = result if isinstance(result, tuple) else (result,)
    for target, value in zip(targets, results, strict=True):
        if target is None:
            continue
        if not isinstance(getattr(target, "aval", None), Aval):
            given = "a plain array" if isinstance(target, np.ndarray) else describe(target)
            raise UnsupportedError(
                f"{name}: out= is {given}, which cannot hold a traced result "
                f"(in {where(user_frame())}). Make the array with functrans.numpy (fnp.zeros(n), "
                "fnp.array(x) for a copy of x), or drop out= (y = y + x in place of y += x)."
            )
        target[...] = value
    return results[0] if all(t is None for t in targets) else targets[0]
