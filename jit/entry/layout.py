"""Proves where CPython and NumPy keep what native entries read, and finds the functions they call.

Every offset is checked on live objects before it is used. Where one does not hold (another
implementation, a build without the GIL, a NumPy that changed), there is no layout, and calls go
through Python with the same results.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from functrans.extend import EngineError
from jit.entry.declarations import PYTHON
from jit.runtime import blocks

TYPE = 8
BOXED = 16
TUPLE_SIZE, TUPLE_HASH, TUPLE_ITEMS = 16, 24, getattr(tuple, "__basicsize__", 24)
"""Where CPython 3.14 put a tuple's hash, its items begin a word later."""
KEEPS_HASH = TUPLE_ITEMS > TUPLE_HASH
NO_HASH = 2**64 - 1
"""Is kept there until the tuple is hashed: -1, which no hash is."""
LIST_SIZE, LIST_ITEMS = 16, 24
DICT_SIZE = 16
DATA, NDIM, DIMS, DESCR, FLAGS = 16, 24, 32, 56, 64
NATIVE_FLAGS = 0x101
"""C order and aligned."""
OWN_FLAGS = NATIVE_FLAGS | 0x404
"""Also owning its data, and writeable."""
VECTORCALL, HEAD, SLOW = 16, 24, 32
"""Where an Entry keeps its function, its first record, and its Python path."""
ENTRY_SIZE = 40
TYPE_FLAGS = 168
HAS_VECTORCALL, IS_METHOD = 1 << 11, 1 << 17
ARRAY_TYPE, SCALAR = 2, 60
"""Places in NumPy's table of C functions."""

ENTER, STATE = "ft_enter", "ft_tracing"
"""The native entry, and the word that tells it that something is being traced."""

OBJECTS: dict[str, Any] = {
    "PyLong_Type": int,
    "PyList_Type": list,
    "PyDict_Type": dict,
    "Py_True": True,
    "Py_False": False,
    "Py_None": None,
    "PyArray_Type": np.ndarray,
    "PySlice_Type": slice,
}
SCALARS = "?bhilqBHILQfdFD"
"""Type characters of the NumPy scalars whose value lies in the object."""


class Layout(NamedTuple):
    """The addresses that native entries import, by name."""

    symbols: dict[str, int]


def dispatch_name() -> str:
    """`native`, or `python` where FUNCTRANS_DISPATCH asks for calls through Python."""
    name = os.environ.get("FUNCTRANS_DISPATCH", "native")
    if name not in ("native", "python"):
        raise EngineError(f"FUNCTRANS_DISPATCH is {name!r}, but must be 'native' or 'python'")
    return name


@cache
def layout() -> Layout | None:
    """The layout of this process, or None where it cannot be proved."""
    try:
        holds = is_cpython() and objects_agree() and arrays_agree()
        return Layout({**functions(), **numpy_functions(), **objects()}) if holds else None
    except (AttributeError, ImportError, KeyError, OSError, ValueError):
        return None


def is_cpython() -> bool:
    """Is this CPython with a GIL, on a 64-bit machine?"""
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    return (
        sys.implementation.name == "cpython"
        and has_gil
        and sys.maxsize == 2**63 - 1
        and object.__basicsize__ == 16
        and not hasattr(sys, "gettotalrefcount")
    )


def word(obj: object, offset: int) -> int:
    """The 64-bit word at an offset of an object."""
    return ctypes.c_uint64.from_address(id(obj) + offset).value


def objects_agree() -> bool:
    """Do Python's containers and numbers lie as expected?"""
    a, b = object(), object()
    pair, several, table = (a, b), [a, b], {"a": a, "b": b, "c": a}
    items = word(several, LIST_ITEMS)
    number, wide = 0.1 + 0.2, complex(1.5, -2.5)
    return (
        all(word(x, TYPE) == id(type(x)) for x in (a, pair, several, table, 1, 1.0, "a", None))
        and word(pair, TUPLE_SIZE) == 2
        and [word(pair, TUPLE_ITEMS + 8 * i) for i in range(2)] == [id(a), id(b)]
        and (word(pair, TUPLE_HASH) == NO_HASH if KEEPS_HASH else TUPLE_ITEMS == TUPLE_HASH)
        and word(several, LIST_SIZE) == 2
        and [ctypes.c_uint64.from_address(items + 8 * i).value for i in range(2)] == [id(a), id(b)]
        and word(table, DICT_SIZE) == 3
        and ctypes.c_double.from_address(id(number) + BOXED).value == number
        and ctypes.c_double.from_address(id(wide) + BOXED).value == wide.real
        and ctypes.c_double.from_address(id(wide) + BOXED + 8).value == wide.imag
        and all(word(t, TYPE_FLAGS) == t.__flags__ for t in (int, dict, np.ndarray, Layout))
    )


def arrays_agree() -> bool:
    """Do NumPy's arrays and scalars lie as expected?"""
    base = np.arange(12.0).reshape(3, 4)
    samples = [base, base.T, base[1:, 2:], np.zeros(0), np.array(1.0), np.arange(5, dtype=np.int8)]
    return all(map(array_agrees, samples)) and all(map(scalar_agrees, SCALARS))


def array_agrees(array: np.ndarray[Any, Any]) -> bool:
    dims = word(array, DIMS)
    shape = [ctypes.c_int64.from_address(dims + 8 * i).value for i in range(array.ndim)]
    flags = word(array, FLAGS) & 0xFFFFFFFF
    return (
        word(array, DATA) == array.__array_interface__["data"][0]
        and word(array, NDIM) & 0xFFFFFFFF == array.ndim
        and tuple(shape) == array.shape
        and word(array, DESCR) == id(array.dtype)
        and bool(flags & 0x1) == array.flags.c_contiguous
        and bool(flags & 0x100) == array.flags.aligned
        and bool(flags & 0x4) == array.flags.owndata
        and bool(flags & 0x400) == array.flags.writeable
    )


def scalar_agrees(char: str) -> bool:
    """Does a NumPy scalar hold its bytes right behind the object's header?"""
    scalar = np.array(1.25 if char in "fdFD" else 1).astype(char)[()]
    held = ctypes.string_at(id(scalar) + BOXED, scalar.dtype.itemsize)
    return held == scalar.tobytes()


def functions() -> dict[str, int]:
    """The C functions of the interpreter."""
    return {name: address_of(ctypes.pythonapi[name]) for name in PYTHON}


def address_of(function: Any) -> int:
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


def objects() -> dict[str, int]:
    """Objects that live as long as the process."""
    return {name: id(value) for name, value in OBJECTS.items()}


def numpy_functions() -> dict[str, int]:
    """The functions of NumPy's C interface, from its table; its array type is in the table too."""
    table = blocks.numpy_functions()
    if table is None or table[ARRAY_TYPE] != id(np.ndarray):
        raise ValueError("NumPy's table is not as expected")
    return {
        "PyArray_NewFromDescr": table[blocks.NEW_FROM_DESCR],
        "PyArray_Scalar": table[SCALAR],
    }
