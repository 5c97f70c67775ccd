"""The LLVM text of products of few steps, where the time goes into C: it is written row by row.

Invariant: every tile is whole. The last ones overlap those before them, and what is computed twice
has the same bits, so nothing may be added to C.
"""

from jit.names import COLD
from jit.runtime.gemm_tile import Kind, kernel_name
from jit.runtime.writer import Function

# Up to so many steps more time goes into C than into a second reading of B from the second cache,
# and from so many rows on it pays to pack all of B.
MOST_STEPS = 96
LEAST_ROWS = 32


def parts(kind: Kind) -> list[str]:
    """Every definition of this file for one element type."""
    return [_product(kind)]


def takes(f: Function, kind: Kind) -> str:
    """Is the product %m, %n, %k of this kind? A packed B has to fit at %space, if there is any."""
    fits = f.test(
        "sle", f.mul(f.round_up("%n", kind.lanes), "%k"), str(kind.tile.block_bytes // kind.bytes)
    )
    few = f.both(f.test("sle", "%k", str(MOST_STEPS)), f("icmp ne ptr %space, null"))
    large = f.both(f.test("sge", "%m", str(LEAST_ROWS)), f.test("sge", "%n", str(2 * kind.panel)))
    # Pairs have to be side by side, or they are packed.
    straight = f.test("eq", "%csa", "1") if kind.pairs else "true"
    return f.both(f.both(f.both(fits, few), f.both(large, straight)), f.negate("%more"))


def _product(kind: Kind) -> str:
    """One task: C = A B. %packed has room for B, panel by panel, each with rows side by side."""
    name, ty, rows, panel = kind.name, kind.scalar, kind.tile.rows, str(kind.panel)
    f = Function(
        f"internal void @by_rows_{name}(i64 %m, i64 %n, i64 %k, ptr %a, i64 %rsa, i64 %csa, "
        "ptr %b, i64 %rsb, i64 %csb, ptr %c, i64 %ldc, ptr %packed)",
        COLD,
    )
    # Whole panels, and so many vectors at the end of B for the columns behind them.
    rest = f.rem("%n", panel)
    whole, vectors = f.sub("%n", rest), f.ceil_div(rest, str(kind.lanes))
    width = f.mul(vectors, str(kind.lanes))
    last, room = f.sub("%n", width), f.at(ty, "%packed", f.mul(whole, "%k"))
    some = f.test("ne", vectors, "0")

    def pack(start: str, columns: str, target: str) -> None:
        source = f.at(ty, "%b", f.mul(start, "%csb"))
        f.do(
            f"call void @pack_b_{name}(ptr {source}, i64 %csb, i64 %rsb, i64 {columns}, i64 %k, "
            f"ptr {target}, i64 {columns})"
        )

    with f.loop("0", whole, panel) as j:
        pack(j, panel, f.at(ty, "%packed", f.mul(j, "%k")))
    with f.when(some):
        pack(last, width, room)
    kernel = f.load("ptr", f.at("ptr", f"@table_{rows}", f.sub(f.max(vectors, "1"), "1")))
    every, distance = kernel_name(kind, rows, kind.tile.vectors), f.mul("%k", panel)
    tiles = f.mul(f.div(whole, panel), str(rows))
    lowest = f.sub("%m", str(rows))
    with f.loop("0", "%m", str(rows)) as i:
        row = f.min(i, lowest)
        a, c = f.at(ty, "%a", f.mul(row, "%rsa")), f.at(ty, "%c", f.mul(row, "%ldc"))
        # The tiles of whole panels go on to the right: those of all are as one of so many rows.
        call = f"i64 %k, ptr {a}, i64 %rsa, i64 %csa, i64"
        f.do(
            f"call void {every}({call} {tiles}, ptr %packed, i64 {panel}, ptr {c}, i64 %ldc, "
            f"i64 {panel}, i64 0, i64 {distance}, i64 {panel}, i1 false, i1 true, i64 0)"
        )
        with f.when(some):
            f.do(
                f"call void {kernel}({call} {rows}, ptr {room}, i64 {width}, "
                f"ptr {f.at(ty, c, last)}, i64 %ldc, i64 {width}, i64 0, i64 0, i64 0, i1 false, "
                "i1 true, i64 0)"
            )
    return f.text()
