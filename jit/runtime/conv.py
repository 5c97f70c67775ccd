"""The emitted convolutions: one object per function, compiled on first use, for any shape.

Invariant: `ft_conv_*` may be called without the GIL, from any thread, and never fail; each call
runs on the thread that makes it.

`void ft_conv_<type>(i64 groups, i64 m, i64 k, ptr a, ptr x, i64 apart, ptr steps, i64 rows,
ptr table, i64 width, i64 pitch, ptr out, i64 ldo, i64 gap)` computes, for each group g < groups,
channel c < m, row r < rows and place p < width,
out[(g * m + c) * ldo + table[2r + 1] + p * gap] = the sum over i < k of
a(g, c, i) * x[g * apart + table[2r] + p + steps[i]]. a is packed as
(groups, ceil(m / PANEL), k, PANEL). x may be read up to one vector beyond its last place. pitch
says how far apart the rows lie in x, where that is even, they follow each other in out, and gap
is 1; else it is 0.

`void ft_conv_windows_<type>(i64 m, ptr rows, i64 k, ptr steps, ptr x, i64 n, ptr w, i64 ldw,
ptr c, i64 ldc, i64 accumulate)` computes c[r * ldc + j] = or += the sum over i < k of
x[rows[r] + steps[i]] * w[j * ldw + i]. ldc is a multiple of PLANES, of n rounded up at least.

`void ft_conv_dots_<type>(i64 m, ptr rows, i64 height, ptr lines, i64 width, ptr x, i64 n, ptr w,
i64 ldw, ptr sums, i64 accumulate)` computes LANES partial sums of x[rows[r] + lines[y] + p] *
w[j * ldw + y * width + p] over y < height and p < width, those of p = lane (mod LANES) in
sums[(r * n + j) * LANES + lane]. It pays where n is small.
"""

from jit.runtime.conv_text import PANEL, conv_module
from jit.runtime.gemm import host_tile
from jit.runtime.gemm_tile import Kind
from jit.runtime.objects import build_object, link_object, once

NAMES = frozenset(
    f"ft_conv{form}_{element}" for form in ("", "_windows", "_dots") for element in ("f32", "f64")
)
PLANES = 16
"""A multiple of the lanes of every machine's vectors."""


@once
def symbols(function: str) -> dict[str, int]:
    """The address of one of NAMES."""
    kind = Kind(function.rpartition("_")[2], host_tile())
    return link_object(function, build_object(conv_module(function, kind)), {}, [function])


__all__ = ["NAMES", "PANEL", "PLANES", "symbols"]
