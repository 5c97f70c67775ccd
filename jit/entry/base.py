"""Entry: a Python class whose instances are called natively, made through CPython's type interface.

An instance starts without records, and calls of it run its Python `__call__`. `attach` gives it a
record; from then on native code looks at each call first. Invariant: the memory of a record stays
valid while an instance can reach it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from functools import cache
from typing import Any

from functrans.extend import TRACING
from jit import native
from jit.entry.layout import (
    ENTER,
    ENTRY_SIZE,
    HAS_VECTORCALL,
    HEAD,
    IS_METHOD,
    SLOW,
    STATE,
    TYPE_FLAGS,
    VECTORCALL,
    dispatch_name,
    layout,
)
from jit.runtime import blocks
from jit.runtime.objects import in_background, link_object, once, runtime_object

_READONLY, _PYSSIZET = 1, 19
_TP_CALL, _TP_MEMBERS = 50, 72
_DEFAULT, _BASETYPE = 1 << 18, 1 << 10


class _Slot(ctypes.Structure):
    _fields_ = (("slot", ctypes.c_int), ("pfunc", ctypes.c_void_p))


class _Spec(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_Slot)),
    )


class _Member(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_kept: list[Any] = []
"""What the interpreter refers to for ever."""


@cache
def entry_base() -> type[Any]:
    """The class with room for a vectorcall function, a record and a Python path.

    Plain `object` where the layout of this interpreter is not proved: nothing is native then.
    """
    if layout() is None:
        return object
    members = (_Member * 2)(
        _Member(b"__vectorcalloffset__", _PYSSIZET, VECTORCALL, _READONLY, None), _Member()
    )
    call = ctypes.cast(ctypes.pythonapi.PyVectorcall_Call, ctypes.c_void_p)
    slots = (_Slot * 3)(
        _Slot(_TP_CALL, call),
        _Slot(_TP_MEMBERS, ctypes.cast(members, ctypes.c_void_p)),
        _Slot(0, None),
    )
    flags = _DEFAULT | _BASETYPE | HAS_VECTORCALL
    spec = _Spec(b"jit.entry.Entry", ENTRY_SIZE, 0, flags, slots)
    make = ctypes.pythonapi.PyType_FromSpec
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p]
    _kept.extend([members, slots, spec])
    return make(ctypes.addressof(spec))


def callable_natively(cls: type[Any]) -> type[Any]:
    """Class decorator: calls of instances look at their vectorcall function first.

    Python drops that from a class that has a `__call__` of its own; here both mean the same. A
    method is called without being bound to its object first.
    """
    if layout() is not None:
        flags = ctypes.c_uint64.from_address(id(cls) + TYPE_FLAGS)
        flags.value |= HAS_VECTORCALL | IS_METHOD
    return cls


@once
def enter_address() -> int:
    """The address of the native entry, compiled once per machine and linked once per process."""
    found = layout()
    if found is None:
        raise RuntimeError("no native entry: the layout of this interpreter is not proved")
    imports = {**found.symbols, STATE: TRACING.buffer_info()[0], **blocks.symbols()}
    code = runtime_object("entry", text=text_of_entry)
    return link_object("functrans.enter", code, imports, [ENTER])[ENTER]


def text_of_entry() -> str:
    """The module of the entry for this machine."""
    from jit.entry.text import enter_module

    return enter_module(native.host_target().triple)


_ready: list[int] = []
_asked: list[bool] = []
_failed: list[Exception] = []


def entry_ready() -> bool:
    """Is the native entry there? If it is not it is made meanwhile, and calls go through Python."""
    if _ready:
        return dispatch_name() == "native"
    if not _asked and is_wanted():
        _asked.append(True)
        in_background(_make_ready)
    return False


def is_wanted() -> bool:
    """Can calls be native in this process?"""
    return layout() is not None and dispatch_name() == "native"


def prepared_entry() -> None:
    """Make the native entry now, if calls can be native. Raises what goes wrong."""
    if is_wanted():
        enter_address()


def _make_ready() -> None:
    try:
        _ready.append(enter_address())
    except Exception as error:  # calls go on through Python, and why() says so
        _failed.append(error)


def entry_problem() -> str | None:
    """Why all calls go through Python in this process; None where native ones come, or will."""
    if dispatch_name() == "python":
        return "FUNCTRANS_DISPATCH is 'python'"
    if layout() is None:
        return "where this Python and NumPy keep their objects' contents is not proved"
    if _failed:
        return f"the native entry could not be made ({type(_failed[0]).__name__}: {_failed[0]})"
    return None


_changing = threading.Lock()


def _renew_lock() -> None:
    """A child of fork must not wait for a thread that only its parent has."""
    global _changing
    _changing = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def attach(instance: Any, record: int, owner: Any, owners: list[Any], slow: Any) -> None:
    """Put the record at this address before the instance's other records.

    `owner` keeps the record alive, and `owners` those of all records of the instance. `slow` is the
    function that takes the instance and its arguments where no record fits; it must outlive the
    instance.
    """
    with _changing:
        owners.append(owner)
        head = ctypes.c_uint64.from_address(id(instance) + HEAD)
        ctypes.c_uint64.from_address(record).value = head.value
        ctypes.c_uint64.from_address(id(instance) + SLOW).value = id(slow)
        head.value = record
        ctypes.c_uint64.from_address(id(instance) + VECTORCALL).value = _ready[0]


def detach(instance: Any, owners: list[Any]) -> None:
    """Forget all records of the instance. Calls that run keep the owner of theirs."""
    with _changing:
        if layout() is not None:
            ctypes.c_uint64.from_address(id(instance) + VECTORCALL).value = 0
            ctypes.c_uint64.from_address(id(instance) + HEAD).value = 0
        gone = owners[:]
        owners.clear()
    del gone  # with the lock open: what goes may run code of its own
