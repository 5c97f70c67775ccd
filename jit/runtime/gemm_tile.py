"""How a machine multiplies matrices: its tile, element types on it, and what kernels are called.

A micro-kernel multiplies `rows` rows of A by `w` vectors of B for one block of k, keeping the tile
in registers, and goes on to other tiles.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple


class Tile(NamedTuple):
    """How a machine multiplies: vector width in bytes, rows and vectors of a register tile.

    `rows` is a power of two; the panel of A is `rows` wide. `block_k` and `block_bytes` size the
    packed panel of B for the first cache and the packed block of A for the second.
    With `assembly` the micro-kernels are those of gemm_x86_text.
    """

    width: int
    rows: int
    vectors: int
    fused: bool
    block_k: int
    block_bytes: int
    assembly: bool = False


def tile_for(features: frozenset[str], aarch64: bool, windows: bool = False) -> Tile:
    """The tile for a processor with these LLVM feature names."""
    if aarch64:
        return Tile(16, 8, 3, fused=True, block_k=256, block_bytes=192 * 1024)
    # The assembly of gemm_x86_text follows the calling convention of every system but Windows.
    written = not windows
    if "avx512f" in features:
        return Tile(64, 8, 3, True, block_k=256, block_bytes=512 * 1024, assembly=written)
    if "avx2" in features and "fma" in features:
        return Tile(32, 4, 3, True, block_k=256, block_bytes=1024 * 1024, assembly=written)
    return Tile(16, 4, 2, fused=False, block_k=256, block_bytes=192 * 1024)


@dataclass(frozen=True)
class Kind:
    """A real element type on a tile, with the spellings that the text needs.

    With `pairs` the operands are complex: see pack_pairs_a.
    """

    name: str  # f32 or f64
    tile: Tile
    pairs: bool = False

    @cached_property
    def bytes(self) -> int:
        return 4 if self.name == "f32" else 8

    @cached_property
    def scalar(self) -> str:
        return "float" if self.name == "f32" else "double"

    @cached_property
    def lanes(self) -> int:
        return self.tile.width // self.bytes

    @cached_property
    def panel(self) -> int:
        """Columns of a full panel of B."""
        return self.tile.vectors * self.lanes

    def vector(self, lanes: int) -> str:
        return f"<{lanes} x {self.scalar}>"

    def suffix(self, lanes: int) -> str:
        """The overload suffix of intrinsics on vectors of `lanes` elements."""
        return f"v{lanes}{self.name}"


FEW_STEPS = 32
"""Up to so many steps a tile of C is not fetched while it is computed: that takes as long."""


def kernel_name(kind: Kind, rows: int, w: int, packs: bool = False) -> str:
    return f"@kernel_{kind.name}_{rows}x{w}" + ("_packs" if packs else "")


def kernel_signature(kind: Kind, rows: int, w: int, packs: bool) -> str:
    return (
        f"internal void {kernel_name(kind, rows, w, packs)}(i64 %k, ptr noalias %a, i64 %ars, "
        "i64 %aks, i64 %height, ptr noalias %b, i64 %ldb, ptr noalias %c, i64 %ldc, i64 %columns, "
        "i64 %a_next, i64 %b_next, i64 %c_next, i1 %more, i1 %far, i64 %ahead"
        + (", ptr noalias %packed)" if packs else ")")
    )
