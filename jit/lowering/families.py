"""The families of rules: a file of rules is imported when a program first holds what it lowers.

Few programs sort, convolve or factorise, and these rules are the longest; an import of all would
take as long as compiling a small program.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from functrans.extend import Primitive
from jit.lowering import contraction, elementwise, indexing, reduction, structural

ALWAYS = (structural, elementwise, reduction, indexing, contraction)
"""The families of nearly every program."""
LATER = {
    "control": ("barrier",),
    "windows": ("windows", "overlap"),
    "sparse_pads": ("pad",),
    "convolution": ("conv",),
    "ordering": ("sort", "top_k"),
    "recurrence": ("cumsum", "cumprod", "cummax", "cummin", "linear_recurrence"),
    "effects": ("debug_callback",),
    "callbacks": ("pure_callback", "io_callback"),
    "unrolled_rules": ("cond", "scan", "while", "sweep"),
}
"""The other files of rules, with the names of the primitives that they are for."""
_missing = {name: file for file, names in LATER.items() for name in names}


def load(primitives: Iterable[Primitive]) -> None:
    """Import the rules of these primitives."""
    for primitive in primitives:
        file = _missing.get(primitive.name)
        if file is not None:
            import_module(f"jit.lowering.{file}")
            for name in LATER[file]:
                _missing.pop(name, None)


def load_all() -> None:
    """Import the rules of all primitives that there are."""
    for file in LATER:
        import_module(f"jit.lowering.{file}")
