"""Members: fields of Python objects by their offsets, and C functions as methods of tracers."""

from __future__ import annotations

import ctypes
from typing import Any

from functrans.extend import Tracer
from jit.entry.layout import word

MEMBER, OFFSET = 40, 16
"""Where a member descriptor keeps its C definition, and that the field's offset."""


class _Definition(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_kept: list[Any] = []
"""What the interpreter refers to for ever."""


def method(name: str, address: int, flags: int, doc: str | None) -> Any:
    """A method of tracers that is a C function."""
    definition = _Definition(name.encode(), address, flags, (doc or "").encode())
    make = ctypes.pythonapi.PyDescr_NewMethod
    make.restype, make.argtypes = ctypes.py_object, [ctypes.py_object, ctypes.c_void_p]
    _kept.append(definition)
    return make(Tracer, ctypes.addressof(definition))


def offset_of(cls: type[Any], name: str) -> int | None:
    """The offset of a slot in the instances of a class, proved on one."""
    descriptor = next(c.__dict__[name] for c in cls.__mro__ if name in c.__dict__)
    offset = ctypes.c_ssize_t.from_address(word(descriptor, MEMBER) + OFFSET).value
    probe, value = object.__new__(cls), object()
    if not 16 <= offset <= cls.__basicsize__ - 8 or word(probe, offset) != 0:
        return None
    descriptor.__set__(probe, value)
    return offset if word(probe, offset) == id(value) else None
