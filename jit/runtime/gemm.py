"""The emitted matrix product: one object per real type, compiled on first use, for any shape.

Invariant: `ft_gemm_*` may be called without the GIL, from any thread, and never fails.
"""

import platform
from typing import Literal

from jit.runtime import threads
from jit.runtime.gemm_loops import gemm_module
from jit.runtime.gemm_text import Tile, tile_for
from jit.runtime.objects import (
    build_object,
    host_features,
    in_background,
    library_symbols,
    link_object,
    once,
)

RealName = Literal["f32", "f64"]
COMPLEX = {"f32": "c64", "f64": "c128"}

SIGNATURE = "void (i64, i64, i64, ptr, i64, i64, ptr, i64, i64, ptr, i64, i64, i64, i64, i64, i64)"
"""The LLVM type of every `ft_gemm_*`.

Arguments: m, n, k; A, its row and column stride; B, its row and column stride; C, its row stride
(columns of C are adjacent); batch, the batch strides of A, B and C; and whether to add to C.
Strides count elements (complex ones for c64 and c128) and may be zero or negative for A and B.
"""


def build_gemm(name: RealName, tile: Tile) -> bytes:
    """The object code of `ft_gemm_<name>` and its complex sibling for this machine."""
    return build_object(gemm_module(name, tile))


def host_tile() -> Tile:
    """The tile of this machine."""
    return tile_for(host_features(), platform.machine().lower() in ("aarch64", "arm64"))


@once
def symbols(name: RealName) -> dict[str, int]:
    """Addresses of ft_gemm_f32 and ft_gemm_c64 (name f32), or of ft_gemm_f64 and ft_gemm_c128."""
    imports = {**library_symbols(("malloc", "free", "memset")), **threads.symbols()}
    exports = [f"ft_gemm_{name}", f"ft_gemm_{COMPLEX[name]}"]
    return link_object(f"ft_gemm_{name}", build_gemm(name, host_tile()), imports, exports)


def prepare(name: RealName) -> None:
    """Compile the product in the background, for a program that is about to be compiled."""
    in_background(lambda: symbols(name))
