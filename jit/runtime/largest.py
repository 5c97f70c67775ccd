"""The largest of a line for compiled programs: candidates that are cut down when they are many.

Invariant: `ft_keep_*` and `ft_largest_*` may be called without the GIL, from any thread, and touch
nothing but their arguments; the result depends on the line and k alone.
"""

from jit.candidates import NAMES, RankType
from jit.runtime import threads
from jit.runtime.objects import library_symbols, link_object, once, runtime_object

KEEP_SIGNATURE = "void (ptr, ptr, i64, i64, i64, i64)"
"""The LLVM type of `ft_keep_<type>`: space, ranks of a piece of a line, their number, the place of
the first, k, capacity.

A space begins with 0 candidates and the greatest i64 as limit. A capacity that holds no whole line
is at least k and the number of ranks in a piece.
"""

LARGEST_SIGNATURE = "void (ptr, i64, i64, ptr)"
"""The LLVM type of `ft_largest_<type>`: space, k, capacity, places.

Writes the places of the k least ranks, the least first, of equal ones the one that came first.
"""


def is_largest_name(function: str) -> bool:
    kind, _, name = function.rpartition("_")
    return kind in ("ft_keep", "ft_largest") and name in NAMES


def text_of(name: RankType) -> str:
    """The module of both functions for one type of ranks."""
    from jit.runtime.largest_text import largest_module

    return largest_module(name)


@once
def load(name: RankType) -> dict[str, int]:
    """The addresses of both functions for one type of ranks."""
    module, functions = f"ft_largest_{name}", [f"ft_keep_{name}", f"ft_largest_{name}"]
    code = runtime_object(module, text=lambda: text_of(name))
    imports = {**library_symbols(("memcpy",)), **threads.symbols()}
    return link_object(module, code, imports, functions)


def symbols(function: str) -> dict[str, int]:
    """The address of `function`, among others."""
    return load("i32" if function.endswith("i32") else "i64")
