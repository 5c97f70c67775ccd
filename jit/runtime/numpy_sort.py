"""NumPy's own sort functions as plain C pointers: vectorised, without the GIL, used where proven.

Invariant: a pointer is given out only where NumPy's binary interface is the one known here, the
machine has the vector sorts, and the function has sorted a sample right.
"""

import ctypes
import importlib
from typing import Any

import numpy as np

# NumPy 2's stable binary interface: places in its table of functions, and in PyArray_ArrFuncs.
_ABI_VERSION, _GET_ABI_VERSION, _GET_ARRAY_FUNCTIONS = 0x2000000, 0, 365
_QUICK_SORT, _STABLE_SORT = 33, 35

_TYPES = {
    **{f"i{8 * size}": f"i{size}" for size in (1, 2, 4, 8)},
    **{f"u{8 * size}": f"u{size}" for size in (1, 2, 4, 8)},
    **{f"f{8 * size}": f"f{size}" for size in (2, 4, 8)},
}
_SORT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_void_p)
_arrays: list[np.ndarray[Any, Any]] = []


def numpy_sort(name: str) -> dict[str, int] | None:
    """Addresses of the symbols that `sort_text.library_sort_module` imports, or None.

    `library_sort` is a counting sort for 8-bit types and a vectorised quick sort for others.
    """
    if name not in _TYPES or not _has_vector_sort(np.dtype(_TYPES[name]).itemsize):
        return None
    dtype = np.dtype(_TYPES[name])
    table = _array_functions(dtype)
    if table is None:
        return None
    array = np.zeros(1, dtype)
    _arrays.append(array)
    first = _STABLE_SORT if dtype.itemsize == 1 else _QUICK_SORT
    found = {
        "library_sort": table[first],
        "library_sort_in_place": table[_QUICK_SORT],
        "library_array": id(array),
    }
    return found if all(found.values()) and _sorts(found, dtype) else None


def _umath() -> Any:
    return importlib.import_module("numpy._core._multiarray_umath")


def _has_vector_sort(itemsize: int) -> bool:
    """Whether NumPy sorts such elements faster than by comparisons one at a time."""
    features: dict[str, bool] = getattr(_umath(), "__cpu_features__", {})
    wanted = {
        1: ("SSE2", "X86_V2", "ASIMD"),
        2: ("AVX512_ICL", "ASIMD"),
        4: ("AVX2", "X86_V3", "ASIMD"),
        8: ("AVX2", "X86_V3", "ASIMD"),
    }
    return any(features.get(feature, False) for feature in wanted[itemsize])


def _array_functions(dtype: np.dtype[Any]) -> "ctypes.Array[Any] | None":
    """The slots of PyArray_ArrFuncs of a built-in type, as far as the sort functions."""
    capsule = getattr(_umath(), "_ARRAY_API", None)
    if capsule is None:
        return None
    kind = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    address: Any = kind(("PyCapsule_GetPointer", ctypes.pythonapi))(capsule, None)
    api = (ctypes.c_void_p * (_GET_ARRAY_FUNCTIONS + 1)).from_address(address)
    if ctypes.PYFUNCTYPE(ctypes.c_uint)(api[_GET_ABI_VERSION])() != _ABI_VERSION:
        return None
    get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(api[_GET_ARRAY_FUNCTIONS])
    return (ctypes.c_void_p * (_STABLE_SORT + 1)).from_address(get(dtype))


def _sorts(found: dict[str, int], dtype: np.dtype[Any]) -> bool:
    """Whether both functions sort a sample as np.sort does."""
    sample = (np.arange(300) * 7919 % 251 - 100).astype(dtype)
    for symbol in ("library_sort", "library_sort_in_place"):
        values = sample.copy()
        failed = _SORT(found[symbol])(values.ctypes.data, values.size, found["library_array"])
        if failed or not np.array_equal(values, np.sort(sample)):
            return False
    return True
