"""Stable sorting for compiled programs, in NumPy's order; each function compiled on first use.

Invariant: `ft_sort_*` and `ft_argsort_*` may be called without the GIL, from any thread, and touch
nothing but their arguments.
"""

from jit.runtime import threads
from jit.runtime.numpy_sort import numpy_sort
from jit.runtime.objects import library_symbols, link_object, once, runtime_object
from jit.runtime.sort_rows import NAMES, Element

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
        code = runtime_object(f"{function} of NumPy", text=lambda: text_of("library", name))
        return link_object(function, code, library, [function])
    return load_emitted(function, function)


def load_emitted(function: str, library: str) -> dict[str, int]:
    """Link the emitted form of `function`, which needs nothing of NumPy."""
    kind, _, name = function.rpartition("_")
    code = runtime_object(function, text=lambda: text_of(kind, name))
    imports = {**library_symbols(("memcpy",)), **threads.symbols()}
    return link_object(library, code, imports, [function])


def text_of(kind: str, name: str) -> str:
    """The module of a function: ft_sort, ft_argsort, or NumPy's own sort (library)."""
    from jit.runtime.sort_text import argsort_module, library_sort_module, sort_module

    modules = {"ft_sort": sort_module, "ft_argsort": argsort_module, "library": library_sort_module}
    return modules[kind](name)
