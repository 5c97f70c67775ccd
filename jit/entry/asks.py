"""The native ask: the truth of a tracer as a C function, in its place once the engine is there."""

from __future__ import annotations

import ctypes
from typing import Any

from functrans.extend import (
    TRACING,
    Asked,
    Node,
    Position,
    Program,
    Root,
    Step,
    Tape,
    Trace,
    Tracer,
    config,
)
from jit import native
from jit.entry.asks_text import DECIDE, ERRORS, AskFields, asks_module
from jit.entry.layout import STATE, layout
from jit.entry.members import method, offset_of
from jit.runtime.objects import link_object, once, runtime_object

METH_NOARGS = 0x4
OWNERS: dict[type[Any], tuple[str, ...]] = {
    Tracer: ("recorder", "slot", "node"),
    Node: ("value", "known", "cell"),
    Position: ("cursor", "ins", "made", "older", "twins", "tape", "thread"),
    Step: ("asked", "root"),
    Root: ("hits",),
    Asked: ("slots", "carrying", "given", "inputs", "constants", "program", "then"),
    Program: ("native", "results", "moved", "offsets"),
    Tape: ("kept", "next"),
    type(config): ("unjitted",),
}
NAMES = {"known": "slot", "results": "count", "kept": "_kept", "next": "_next"}
"""Of fields that are called otherwise in their class."""


@once
def native_ask() -> dict[str, Any]:
    """`__bool__` of tracers as a C function, by name; nothing where the layout is not proved."""
    found, fields = layout(), fields_of_asks()
    if found is None or fields is None:
        return {}
    slowly = Tracer.__dict__["__bool__"]
    imports = {
        **found.symbols,
        **dict(zip(ERRORS, map(id, (IndexError, ValueError, ArithmeticError)), strict=True)),
        STATE: TRACING.buffer_info()[0],
        "ft_tracer": id(Tracer),
        "ft_trace": id(Trace),
        "ft_node": id(Node),
        "ft_config": id(config),
        "ft_decide_slowly": id(slowly),
    }
    code = runtime_object("asks", *fields, text=lambda: _text(fields))
    address = link_object("functrans.asks", code, imports, [DECIDE])[DECIDE]
    _kept.append(slowly)
    return {"__bool__": method("__bool__", address, METH_NOARGS, slowly.__doc__)}


def _text(fields: AskFields) -> str:
    return asks_module(native.host_target().triple, fields)


_kept: list[Any] = []
"""What the interpreter refers to for ever."""


def fields_of_asks() -> AskFields | None:
    """Where the fields lie; None where it cannot be proved."""
    owner = {name: cls for cls, names in OWNERS.items() for name in names}
    proved = [offset_of(owner[name], NAMES.get(name, name)) for name in AskFields._fields]
    offsets = [offset for offset in proved if offset is not None]
    return AskFields(*offsets) if len(offsets) == len(proved) and references_agree() else None


def references_agree() -> bool:
    """Does an object begin with the number of references to it, in 32 bits?"""
    held = [object()]
    first = ctypes.c_uint32.from_address(id(held[0])).value
    more = [held[0], held[0]]
    return first == 1 and ctypes.c_uint32.from_address(id(held[0])).value == 1 + len(more)
