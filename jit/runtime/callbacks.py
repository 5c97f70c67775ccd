"""Python functions that compiled programs call: a table by number, and the entry for native code.

An exception cannot cross native frames: it is kept here, the program stops with a status, and
whoever called the program raises it.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

CALLBACK = "ft_callback"
Function = Callable[..., Any]

Types = tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]


class Registered(NamedTuple):
    """A function of arrays of the types `given` that gives a list of arrays of the types `made`."""

    function: Function
    given: Types
    made: Types


_table: dict[int, Registered] = {}
_numbers = itertools.count(1)


class _Pending(threading.local):
    error: BaseException | None = None


_pending = _Pending()


def register(function: Function, given: Types, made: Types) -> int:
    """Make `function` callable on arrays of these types; answers its number.

    Its results go to the addresses that follow those of the arrays it is given, but for those
    without elements, which have none.
    """
    number = next(_numbers)
    _table[number] = Registered(function, given, made)
    return number


def forget_with(owner: object, numbers: Sequence[int]) -> None:
    """Drop functions from the table when `owner` goes."""
    weakref.finalize(owner, _forget, tuple(numbers))


def _forget(numbers: tuple[int, ...]) -> None:
    for number in numbers:
        _table.pop(number, None)


def take_error() -> BaseException | None:
    """The exception that the last program of this thread stopped for, if a callback raised one."""
    error, _pending.error = _pending.error, None
    return error


def _array(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """A copy of the elements at an address."""
    count = int(np.prod(shape))
    data = ctypes.string_at(address, count * dtype.itemsize) if count else b""
    return np.frombuffer(data, dtype, count).reshape(shape).copy()


def _write(address: int, result: Any) -> None:
    """Copy the elements of a result to an address."""
    array = np.ascontiguousarray(result)
    ctypes.memmove(address, array.ctypes.data, array.nbytes)


def _entry(number: int, pointers: Any) -> int:
    try:
        function, given, made = _table[number]
        arrays = [_array(pointers[k], shape, dtype) for k, (shape, dtype) in enumerate(given)]
        results = function(*arrays)
        filled = [out for out, (shape, _) in zip(results, made, strict=True) if 0 not in shape]
        for k, out in enumerate(filled, len(given)):
            _write(pointers[k], out)
    except BaseException as error:  # kept, and raised where Python code runs again
        _pending.error = error
        return 1
    return 0


@cache
def _native_entry() -> Any:
    """The entry as a C function; made when the first program needs it."""
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.POINTER(ctypes.c_void_p))
    return kind(_entry)


def symbols() -> dict[str, int]:
    """The address of the entry."""
    return {CALLBACK: ctypes.cast(_native_entry(), ctypes.c_void_p).value or 0}
