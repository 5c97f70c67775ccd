"""The emitted products: one object per function, compiled on first use, for any shape.

Invariant: `ft_gemm_*` and `ft_gemv_*` may be called without the GIL, from any thread, and never
fail.
"""

import platform

from jit.runtime import threads
from jit.runtime.gemm_loops import gemm_module
from jit.runtime.gemm_text import Tile, tile_for
from jit.runtime.objects import (
    build_object,
    host_features,
    library_symbols,
    link_object,
    once,
)

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
    return tile_for(host_features(), platform.machine().lower() in ("aarch64", "arm64"))


@once
def symbols(function: str) -> dict[str, int]:
    """The address of ft_gemm_<f32, f64, c64 or c128> or ft_gemv_<f32 or f64>."""
    code = build_object(gemm_module(function, host_tile()))
    imports = {**library_symbols(("malloc", "free", "memset")), **threads.symbols()}
    return link_object(function, code, imports, [function])
