"""Native steps: the operators of tracers as C functions, in their place once the engine is there.

Un-jitted transforms run the user's function at every call; where the memo knows what comes, each
operation is one comparison and one new tracer. In C that takes a tenth of what it takes in Python.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable
from typing import Any

from functrans.extend import (
    NOTHING,
    SAME,
    EngineWarning,
    Node,
    Position,
    Step,
    Trace,
    Tracer,
    operators,
)
from jit import native
from jit.entry.asks import native_ask
from jit.entry.layout import dispatch_name, layout, word
from jit.entry.members import method, offset_of
from jit.entry.steps_text import ROW, SLICE, UFUNC, Fields, step_name, steps_module
from jit.runtime.objects import in_background, link_object, once, runtime_object

METH_KEYWORDS, METH_NOARGS, METH_O, METH_FASTCALL = 0x2, 0x4, 0x8, 0x80
NAMES = sorted(operators)


def steps_ready() -> None:
    """Native steps are wanted from now on: they come as soon as their code is there."""
    if not _asked and layout() is not None and dispatch_name() == "native":
        _asked.append(True)
        in_background(_install_or_tell)


def _install_or_tell() -> None:
    try:
        install()
    except Exception as error:  # operations stay in Python, with the same results
        warnings.warn(
            f"operations of un-jitted transforms cannot be native ({type(error).__name__}: {error})"
            ": they go through Python, more slowly and with the same results.",
            EngineWarning,
            stacklevel=1,
        )


_asked: list[bool] = []
_replaced: dict[str, Any] = {}
"""The Python functions that native steps stand for, while they do."""


def install() -> None:
    """Let native steps stand for the operators of tracers."""
    made = native_steps()
    for name, function in made.items():
        if name not in _replaced:
            _replaced[name] = Tracer.__dict__[name]
            setattr(Tracer, name, function)


def remove() -> None:
    """Put the Python functions back."""
    for name, function in _replaced.items():
        setattr(Tracer, name, function)
    _replaced.clear()


@once
def native_steps() -> dict[str, Any]:
    """The methods of tracers that are native, by name; none where the layout is not proved."""
    found, fields = layout(), fields_of_steps()
    if found is None or fields is None:
        return {}
    slowly = Tracer.__dict__["__array_ufunc__"]
    rows = (ctypes.c_void_p * (2 * len(NAMES)))()
    for i, name in enumerate(NAMES):
        rows[2 * i], rows[2 * i + 1] = id(operators[name].declaration), id(operators[name])
    assert ctypes.sizeof(rows) == ROW * len(NAMES)
    imports = {
        **found.symbols,
        "ft_tracer": id(Tracer),
        "ft_trace": id(Trace),
        "ft_nothing": id(NOTHING),
        "ft_same": id(SAME),
        "ft_rows": ctypes.addressof(rows),
        "ft_ufunc_slowly": id(slowly),
    }
    exports = [*map(step_name, range(len(NAMES))), UFUNC]
    code = runtime_object("steps", len(NAMES), *fields, text=_text(len(NAMES), fields))
    found_at = link_object("functrans.steps", code, imports, exports)
    _kept.extend([rows, slowly])
    steps = {
        name: method(name, found_at[step_name(i)], _flags(name), operators[name].__doc__)
        for i, name in enumerate(NAMES)
    }
    flags = METH_FASTCALL | METH_KEYWORDS
    steps["__array_ufunc__"] = method("__array_ufunc__", found_at[UFUNC], flags, slowly.__doc__)
    return {**steps, **native_ask()}


def _text(rows: int, fields: Fields) -> Callable[[], str]:
    return lambda: steps_module(native.host_target().triple, rows, fields)


def _flags(name: str) -> int:
    two = operators[name].declaration.body.__code__.co_argcount == 2
    return METH_O if two else METH_NOARGS


_kept: list[Any] = []
"""What the interpreter refers to for ever."""


def fields_of_steps() -> Fields | None:
    """Where the fields lie; None where it cannot be proved."""
    of_tracers = dict.fromkeys(("recorder", "slot", "node"), Tracer)
    of_traces = dict.fromkeys(("cursor", "ins", "made", "older"), Position)
    owners: dict[str, type[Any]] = {**of_tracers, **of_traces, "known": Node, "value": Node}
    proved = [
        offset_of(owners.get(name, Step), "slot" if name == "known" else name)
        for name in Fields._fields
    ]
    offsets = [offset for offset in proved if offset is not None]
    return Fields(*offsets) if len(offsets) == len(proved) and slices_agree() else None


def slices_agree() -> bool:
    """Do slices lie as expected?"""
    parts = (object(), object(), object())
    held = slice(*parts)
    return [word(held, at) for at in SLICE] == [id(part) for part in parts]
