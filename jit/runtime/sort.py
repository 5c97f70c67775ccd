"""Stable sorting for compiled programs, in NumPy's order; each function compiled on first use.

Invariant: `ft_sort_*` and `ft_argsort_*` may be called without the GIL, from any thread, and touch
nothing but their arguments.
"""

from jit.runtime import threads
from jit.runtime.numpy_sort import numpy_sort
from jit.runtime.objects import build_object, library_symbols, link_object, once
from jit.runtime.sort_rows import NAMES, Element
from jit.runtime.sort_text import argsort_module, library_sort_module, sort_module

SORT_SIGNATURE = "void (ptr, i64, ptr)"
"""The LLVM type of `ft_sort_<name>`: values, their number, scratch. Sorts in place."""

ARGSORT_SIGNATURE = "void (ptr, i64, ptr, ptr)"
"""The LLVM type of `ft_argsort_<name>`: keys, their number, i64 indices, scratch.

Reorders `indices` stably by keys[indices[i]]. Several keys: start from 0, 1, ..., n - 1 and sort
by the last key first. Descending with ties in the given order: start from n - 1, ..., 0 and
reverse the result.
"""


def sort_scratch_bytes(name: str, n: int) -> int:
    """Scratch that ft_sort_<name> needs for n values, aligned like the values."""
    return Element(name).bytes * n


def argsort_scratch_bytes(name: str, n: int) -> int:
    """Scratch that ft_argsort_<name> needs for n keys, 8-byte aligned."""
    return (2 * Element(name).bytes + 8) * n


@once
def symbols(function: str) -> dict[str, int]:
    """The address of `function`, which is ft_sort_<name> or ft_argsort_<name>; bool sorts as u8.

    Raises ValueError where the name is not in `sort_rows.NAMES`.
    """
    kind, _, name = function.rpartition("_")
    if name not in NAMES or kind not in ("ft_sort", "ft_argsort"):
        raise ValueError(
            f"sort: expected one of {', '.join(NAMES)}, but {function!r} was asked for."
        )
    library = numpy_sort(name) if kind == "ft_sort" else None
    if library is not None:
        return link_object(function, build_object(library_sort_module(name)), library, [function])
    return load_emitted(function, function)


def load_emitted(function: str, library: str) -> dict[str, int]:
    """Link the emitted form of `function`, which needs nothing of NumPy."""
    kind, _, name = function.rpartition("_")
    text = sort_module(name) if kind == "ft_sort" else argsort_module(name)
    imports = {**library_symbols(("memcpy",)), **threads.symbols()}
    return link_object(library, build_object(text), imports, [function])
