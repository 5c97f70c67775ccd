"""The emitted products: one object per function, compiled on first use, for any shape.

Invariant: `ft_gemm_*` and `ft_gemv_*` may be called without the GIL, from any thread, and never
fail.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jit.processor import family
from jit.runtime import threads
from jit.runtime.objects import (
    host_features,
    library_symbols,
    link_object,
    once,
    runtime_object,
)

if TYPE_CHECKING:
    from jit.runtime.gemm_tile import Tile

SIGNATURE = "void (i64, i64, i64, ptr, i64, i64, ptr, i64, i64, ptr, i64, i64, i64, i64, i64, i64)"
"""The LLVM type of every `ft_gemm_*` and `ft_gemv_*`.

Arguments: m, n, k; A, its row and column stride; B, its row and column stride; C, its row stride
(columns of C are adjacent); batch, the batch strides of A, B and C; and whether to add to C.
Strides count elements (complex ones for c64 and c128) and may be zero or negative for A and B.

`ft_gemv_*` takes products with a vector: m is 1, or n is 1 and the elements of C are adjacent
(its row stride is 1, or m is 1 too). The matrix (A in the second case, else B) has a stride 1.
"""


def host_tile() -> Tile:
    """The tile of this machine."""
    from jit.runtime.gemm_tile import tile_for

    return tile_for(host_features(), family() == "aarch64", os.name == "nt")


def text_of(function: str) -> str:
    """The module of a function for this machine."""
    from jit.runtime.gemm_loops import gemm_module

    return gemm_module(function, host_tile())


@once
def symbols(function: str) -> dict[str, int]:
    """The address of ft_gemm_<f32, f64, c64 or c128> or ft_gemv_<f32 or f64>."""
    # First what takes longest: a program waits for it.
    code = runtime_object(function, text=lambda: text_of(function))
    imports = {**library_symbols(("malloc", "free", "memset")), **threads.symbols()}
    return link_object(function, code, imports, [function])
