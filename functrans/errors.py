"""Errors: every exception a user can see, and the words their messages are built from.

The lowest layer: it imports nothing of functrans. Each class is also the builtin exception that
a NumPy user expects, so `except TypeError` keeps working.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any, NamedTuple

import numpy as np


class FunctransError(Exception):
    """What every error raised by functrans is, whatever else it is.

    A message that names no line of the user's code gets the one being executed. `reason` is the
    message as it was given, for errors that quote another.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(_with_place(reason, user_frame()))
        self.reason = reason

    def happened_at(self, source: Source) -> None:
        """Name this line, in which the failing operation was written, not the one that runs it."""
        self.args = (_with_place(self.reason, source),)


class AxisNameError(FunctransError, NameError):
    """A collective names a mapped axis that does not enclose it."""


class ConcretizationError(FunctransError, TypeError):
    """The value of an abstract tracer was asked for: `if x > 0` under jit, and the like."""


class LeakedTracerError(FunctransError, RuntimeError):
    """A tracer was used after the trace that made it had ended."""


class ThreadError(FunctransError, RuntimeError):
    """A tracer was used in a thread other than the one that traces."""


class TransformTypeError(FunctransError, TypeError):
    """A transform was given a function, argument or option of a kind it cannot take."""


class ShapeError(FunctransError, ValueError):
    """Shapes that do not fit: operands, mapped axes, tangents, cotangents."""


class DtypeError(FunctransError, TypeError):
    """Dtypes that do not fit, or that functrans does not have."""


class MissingAttributeError(FunctransError, AttributeError):
    """A traced array was asked for a method or attribute that it does not have."""


class UnsupportedError(FunctransError, TypeError):
    """A NumPy function, option or type that cannot be staged was given a tracer."""


class MutationError(FunctransError, ValueError):
    """An argument or a captured array was written to while a function was being traced."""


class TreeError(FunctransError, ValueError):
    """Two pytrees do not match, or a value is not a pytree that can be taken apart."""


class AxisError(FunctransError, np.exceptions.AxisError):
    """An axis was named that an array does not have."""


class OptionError(FunctransError, ValueError):
    """An option of an array function has a value that it cannot take."""


class RangeError(FunctransError, OverflowError):
    """A number does not fit the dtype that it takes."""


class OutOfBoundsError(FunctransError, IndexError):
    """An index lies outside its axis."""


class NonLinearError(FunctransError, TypeError):
    """A function that must be linear in some argument is not."""


class StaleCaptureError(FunctransError, RuntimeError):
    """What a jitted function captured was bound anew after it was traced (`check_captures`)."""


class EngineWarning(RuntimeWarning):
    """A program could not be compiled in the background; it is evaluated with NumPy instead."""


class BudgetError(FunctransError, MemoryError):
    """A computation cannot keep to the memory it was given."""


class EngineError(FunctransError, RuntimeError):
    """The native engine could not be loaded, or could not compile a program."""


class Source(NamedTuple):
    """A line of the user's code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.function} at {os.path.basename(self.file)}:{self.line}"


_PACKAGE_DIR = os.path.dirname(os.path.abspath(__file__))
_HIDDEN_DIRS = (
    os.path.join(_PACKAGE_DIR, ""),
    os.path.join(os.path.dirname(_PACKAGE_DIR), "jit", ""),
    os.path.join(os.path.dirname(os.path.abspath(np.__file__)), ""),
)
_HIDDEN_FILES = frozenset({functools.__file__, contextlib.__file__})
_hidden: dict[str, bool] = {}


def _is_hidden(file: str) -> bool:
    """Is this file ours, NumPy's or a helper of the standard library (not the user's)?"""
    known = _hidden.get(file)
    if known is None:
        known = file.startswith(_HIDDEN_DIRS) or file in _HIDDEN_FILES or file.startswith("<frozen")
        _hidden[file] = known
    return known


def user_frame() -> Source | None:
    """The innermost line being executed outside functrans, jit and NumPy; None where all is inside.

    Called for each recorded equation, so it stops at the first foreign frame.
    """
    frame = sys._getframe(1)
    hidden = _hidden
    while frame is not None:
        code: CodeType = frame.f_code
        file = code.co_filename
        if not (hidden[file] if file in hidden else _is_hidden(file)):
            return Source(file, frame.f_lineno, code.co_name)
        frame = frame.f_back
    return None


def definition_of(f: Callable[..., Any]) -> Source | None:
    """The line where a user's function was defined; None for builtins, NumPy's and our own."""
    code = getattr(_unwrap(f), "__code__", None)
    if not isinstance(code, CodeType) or _is_hidden(code.co_filename):
        return None
    return Source(code.co_filename, code.co_firstlineno, name_of(f))


def code_of(f: Any) -> Any:
    """The code of a function, which all made by the same `def` share; None where there is none."""
    return getattr(_unwrap(f), "__code__", None)


def place_of(f: Any) -> Any:
    """What all functions share that are made in the same places: the code of what is innermost, or
    its type, and how many functions are wrapped round it."""
    depth, inner = 0, f
    while depth < 32 and hasattr(inner, "__wrapped__"):
        depth, inner = depth + 1, inner.__wrapped__
    return code_of(inner) or type(inner), depth


def name_of(f: Any) -> str:
    """The name to call a function by: `loss`, `<lambda>`, the name of a class."""
    inner = _unwrap(f)
    name = getattr(inner, "__name__", None)
    return name if isinstance(name, str) else type(inner).__name__


def _unwrap(f: Any) -> Any:
    """The function under partials, wrappers, bound methods and callable objects."""
    for _ in range(32):
        if isinstance(f, functools.partial):
            f = f.func
        elif hasattr(f, "__wrapped__"):
            f = f.__wrapped__
        elif hasattr(f, "__func__"):
            f = f.__func__
        else:
            break
    if hasattr(f, "__code__") or isinstance(f, type):
        return f
    if hasattr(f, "__name__"):
        return f
    call = getattr(type(f), "__call__")  # noqa: B004, B009 (the method, not whether there is one)
    return call if hasattr(call, "__code__") else f


def where(place: Source | tuple[str, int, str] | Callable[..., Any] | None) -> str:
    """`loss at train.py:12` for a source line or a function; `an unknown place` for None."""
    if callable(place):
        source = definition_of(place)
        return str(source) if source else name_of(place)
    return str(Source(*place)) if isinstance(place, tuple) else "an unknown place"


def as_our_error(error: Exception, function: str) -> FunctransError:
    """A builtin error that an array function met in its arguments, with our name for it."""
    words = f"{function}: {str(error).rstrip('.')}."
    match error:
        case np.exceptions.AxisError():
            return AxisError(words)
        case TypeError():
            return UnsupportedError(words)
        case IndexError():
            return OutOfBoundsError(words)
        case OverflowError():
            return RangeError(words)
        case _:
            return OptionError(words)


def would_act_twice(what: str, source: Source | None, why: str) -> TransformTypeError:
    """The error for an effect with results, inside something that has to run again."""
    return TransformTypeError(
        f"{what} holds an io_callback and values that carry a derivative (in {where(source)}), and "
        f"would have to run again, since {why}. Call io_callback outside of it, or apply "
        "stop_gradient to what it is given."
    )


_PLACE = re.compile(r" at [^()]*:\d+\b")
_SENTENCE_END = re.compile(r"(?=\.(?: [A-Z]|$))")


def _with_place(text: str, source: Source | None) -> str:
    """The text, whose first sentence says where, if no sentence does."""
    if not text or source is None or _PLACE.search(text):
        return text
    end = _SENTENCE_END.search(text)
    cut = end.start() if end else len(text)
    return f"{text[:cut]} (in {source}){text[cut:]}"


_DTYPE_LETTERS = {"f": "f", "i": "i", "u": "u", "c": "c"}


def describe_dtype(dtype: Any) -> str:
    """`f64` for float64, `bool` for bool, the dtype's name for what has no short form."""
    letter = _DTYPE_LETTERS.get(getattr(dtype, "kind", ""))
    return f"{letter}{dtype.itemsize * 8}" if letter else str(getattr(dtype, "name", dtype))


def describe(value: Any) -> str:
    """A value in few words: `f64[3]` for arrays, tracers and avals, `{'w': f64[2,3]}` for trees.

    Python numbers and strings appear with their type (`the float 3.0`), other objects by type.
    """
    if type(value) in (bool, int, float, complex, str):
        return f"the {type(value).__name__} {_describe_inside(value)}"
    return _describe_inside(value)


def _describe_inside(value: Any) -> str:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None and not isinstance(value, type):
        return f"{describe_dtype(dtype)}[{','.join(str(n) for n in shape)}]"
    match value:
        case None:
            return "None"
        case bool() | int() | float() | complex() | str():
            text = repr(value)
            return text if len(text) <= 40 else text[:37] + "..."
        case dict():
            return (
                "{"
                + _some([f"{k!r}: {_describe_inside(v)}" for k, v in _head(value.items())], value)
                + "}"
            )
        case list():
            return "[" + _some([_describe_inside(v) for v in _head(value)], value) + "]"
        case tuple():
            comma = "," if len(value) == 1 else ""
            return "(" + _some([_describe_inside(v) for v in _head(value)], value) + comma + ")"
        case _ if _is_function(value):
            return f"the function {name_of(value)}"
        case type():
            return f"the class {value.__name__}"
        case _:
            return f"an object of type {type(value).__name__}"


def _is_function(value: Any) -> bool:
    """Is this a function, and not an object of another kind that can be called, or a class?"""
    if isinstance(value, type) or not callable(value):
        return False
    return hasattr(value, "__name__") or isinstance(value, functools.partial)


_SHOWN = 6


def _head(items: Any) -> list[Any]:
    return [item for item, _ in zip(items, range(_SHOWN), strict=False)]


def _some(words: list[str], items: Mapping[Any, Any] | list[Any] | tuple[Any, ...]) -> str:
    return ", ".join(words + (["..."] if len(items) > _SHOWN else []))


def argument_name(f: Callable[..., Any], position: int) -> str:
    """What the user calls the positional argument of `f`: `argument 0 (params)`, or its number."""
    code = getattr(_unwrap(f), "__code__", None)
    bound = getattr(f, "__self__", None) is not None
    index = position + int(bound)
    if isinstance(code, CodeType) and index < code.co_argcount:
        return f"argument {position} ({code.co_varnames[index]})"
    return f"argument {position}"
