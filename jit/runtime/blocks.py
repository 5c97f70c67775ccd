"""Recycled blocks: memory for large results and arenas that goes from one array to the next.

Pages that the system hands out fresh cost more than the arithmetic of a memory-bound program. An
array of a block owns it through NumPy's memory-handler protocol (NEP 49). Invariant: idle blocks
are bounded in bytes, go back to the system after some seconds, and where the layout of NumPy's
arrays cannot be proved there are none: np.empty serves, with the same results.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from jit.runtime import threads
from jit.runtime.block_arrays_text import HANDLER_NAME, PYTHON_IMPORTS
from jit.runtime.blocks_text import (
    EXPORTS,
    IMPORTS,
    SYSTEMS,
    blocks_text,
)
from jit.runtime.objects import in_background, library_symbols, link_object, once, runtime_object

Array: TypeAlias = np.ndarray[Any, Any]

MINIMUM = 1 << 17
"""Smaller results come from NumPy, whose allocator keeps such memory itself."""
MOST_IDLE = 1 << 30
"""Idle blocks hold at most so many bytes, and at most a sixteenth of the machine's memory."""

# Where NumPy's C functions stand in its table, and where fields stand in its arrays.
NEW_FROM_DESCR, GET_HANDLER = 94, 305
DATA, FLAGS, HANDLER, ARRAY_SIZE, OBJECT_SIZE = 16, 64, 88, 96, 16


def wanted_limit() -> int:
    """How many idle bytes to keep: FUNCTRANS_IDLE_BYTES, or what suits the machine's memory."""
    given = os.environ.get("FUNCTRANS_IDLE_BYTES", "").strip()
    if given:
        if not given.isdecimal():
            raise ValueError(
                f"FUNCTRANS_IDLE_BYTES: expected an integer >= 0, but it is {given!r}. "
                "Unset it for the default, or set it to 0 to recycle no memory."
            )
        return int(given)
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return MOST_IDLE // 4
    return min(MOST_IDLE, memory // 16)


LIMIT = wanted_limit()


class Blocks:
    """The functions of the native module, ready to be called."""

    def __init__(self, found: dict[str, int]) -> None:
        held = ctypes.PYFUNCTYPE
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        self.take: Callable[[int], int | None] = held(pointer, size)(found["ft_block_take"])
        self.give: Callable[[int], None] = held(None, pointer)(found["ft_block_give"])
        self.trim: Callable[[], None] = held(None)(found["ft_block_trim"])
        self.limit: Callable[[int], None] = held(None, size)(found["ft_block_limit"])
        self.idle: Callable[[], int] = held(ctypes.c_int64)(found["ft_block_idle"])
        self.mapped: Callable[[], int] = held(ctypes.c_int64)(found["ft_block_mapped"])
        self.array: Callable[[int, int, Any, int], Array | None] = held(
            ctypes.py_object, pointer, ctypes.c_int, pointer, size
        )(found["ft_block_array"])


@once
def blocks() -> Blocks | None:
    """The module, made on first use; None where it cannot be trusted or is switched off."""
    table = numpy_functions() if LIMIT and provable() else None
    if table is None or not layout_is_known(table):
        return None
    imports = library_symbols((*IMPORTS, *PYTHON_IMPORTS, "_Py_NoneStruct"))
    imports["Py_None"] = imports.pop("_Py_NoneStruct")
    imports["PyArray_Type"] = id(np.ndarray)
    imports["PyArray_NewFromDescr"] = table[NEW_FROM_DESCR]
    system = SYSTEMS[sys.platform]
    code = runtime_object("blocks", *system, text=lambda: blocks_text(system))
    found = link_object("ft_blocks", code, imports, EXPORTS)
    install_handler(found)
    made = Blocks(found)
    if not arrays_are_numpy_s(made):
        return None
    made.limit(LIMIT)
    restart_after_fork(found)
    for k, name in enumerate(("ft_block_array", "ft_block_take", "ft_block_give")):
        _table[k] = found[name]
    _ready.append(made)
    return made


def prepare() -> None:
    """Start making the module, for the calls to come."""
    if not _asked:
        _asked.append(True)
        in_background(blocks)


def ready() -> Blocks | None:
    """The module if it is made by now."""
    return _ready[0] if _ready else None


def symbols() -> dict[str, int]:
    """A table for native code: makes an array, takes a block, gives one; zeros until it is made."""
    return {"ft_block_table": ctypes.addressof(_table)}


_table = (ctypes.c_size_t * 3)()
_ready: list[Blocks] = []
_asked: list[bool] = []


# -- proofs -----------------------------------------------------------------------------------


def provable() -> bool:
    """Is this an interpreter whose objects have the known layout, on a system with mmap?"""
    return (
        sys.implementation.name == "cpython"
        and "t" not in sys.abiflags
        and struct.calcsize("P") == 8
        and object.__basicsize__ == OBJECT_SIZE
        and np.ndarray.__basicsize__ == ARRAY_SIZE
        and threads.has_threads()
        and sys.platform in SYSTEMS
    )


def numpy_functions() -> Sequence[int] | None:
    """NumPy's table of C functions; None where it is not where it should be."""
    core: Any = getattr(np, "_core", None)
    capsule = getattr(getattr(core, "_multiarray_umath", None), "_ARRAY_API", None)
    name_of = getattr(getattr(core, "multiarray", None), "get_handler_name", None)
    if capsule is None or name_of is None or int(np.__version__.split(".")[0]) != 2:
        return None
    get: Any = ctypes.pythonapi.PyCapsule_GetPointer
    get.argtypes, get.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    return list((ctypes.c_size_t * (GET_HANDLER + 1)).from_address(get(capsule, None)))


def layout_is_known(table: Sequence[int]) -> bool:
    """Do the fields that the native code writes stand where NumPy's answers say they do?"""
    owner = np.empty((3, 5), np.float32)
    view = owner[1:, 1:]
    handler = ctypes.PYFUNCTYPE(ctypes.py_object)(table[GET_HANDLER])()
    return (
        word(owner, HANDLER) == id(handler)
        and word(view, HANDLER) == 0
        and all(
            word(a, DATA) == int(a.__array_interface__["data"][0])
            and word(a, FLAGS) & 0xFFFFFFFF == a.flags.num
            for a in (owner, view, owner.T)
        )
    )


def word(array: Array, offset: int) -> int:
    """Eight bytes of an array object."""
    return ctypes.c_size_t.from_address(id(array) + offset).value


def arrays_are_numpy_s(made: Blocks) -> bool:
    """Is an array of a block like one of np.empty in everything but where its memory is from?"""
    name_of: Any = np._core.multiarray.get_handler_name  # type: ignore[attr-defined]
    for shape in ((), (7,), (3, 5), (1, 4)):
        dtype = np.dtype(np.float32)
        found, like = make_array(made, shape, dtype), np.empty(shape, dtype)
        if found is None or name_of(found) != HANDLER_NAME:
            return False
        same = found.flags.num == like.flags.num and found.strides == like.strides
        if not same or found.shape != shape or found.dtype is not dtype or found.base is not None:
            return False
    return True


def install_handler(found: dict[str, int]) -> None:
    """Hand NumPy's description of the functions to the module, which keeps it for ever."""
    make: Any = ctypes.pythonapi.PyCapsule_New
    make.argtypes, make.restype = [ctypes.c_void_p] * 3, ctypes.c_void_p
    capsule = make(found["ft_block_handler"], found["ft_block_capsule_name"], None)
    ctypes.c_void_p.from_address(found["ft_block_capsule"]).value = capsule


def restart_after_fork(found: dict[str, int]) -> None:
    """In the child nobody trims yet."""
    os.register_at_fork(after_in_child=ctypes.PYFUNCTYPE(None)(found["ft_block_forget"]))


# -- arrays -----------------------------------------------------------------------------------


def make_array(made: Blocks, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
    """An array that owns a block; None where there is no memory for it."""
    return maker(made, shape, dtype)()


def maker(made: Blocks, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Callable[[], Array | None]:
    """What makes such arrays, again and again."""
    dims = (ctypes.c_ssize_t * max(len(shape), 1))(*shape)
    size = max(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, 1)
    new, kind, nd, place = made.array, id(dtype), len(shape), ctypes.addressof(dims)

    def make(_kept: Any = (dims, dtype)) -> Array | None:
        return new(kind, nd, place, size)

    return make


def empty_maker(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Callable[[], Array]:
    """np.empty(shape, dtype), from a recycled block where that pays and can be."""
    if not is_large(shape, dtype):
        return lambda: np.empty(shape, dtype)
    made: list[Callable[[], Array | None]] = []

    def make() -> Array:
        if not made:
            found = ready()
            if found is None:
                return np.empty(shape, dtype)
            made.append(maker(found, shape, dtype))
        array = made[0]()
        return np.empty(shape, dtype) if array is None else array

    return make


def is_large(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Does an array of this type pay for a block?"""
    plain = dtype.kind in "biufc" and dtype.isnative
    return plain and dtype.itemsize * int(np.prod(shape, dtype=np.int64)) >= MINIMUM
