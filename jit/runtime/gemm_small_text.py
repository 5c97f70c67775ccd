"""The LLVM text of products of many small matrices: one shape and layout a module, all in line.

Invariant: an element is one chain of fused multiply-adds in the order of k, as in ft_gemm; its bits
depend neither on the batch nor on the threads.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

from jit.names import COLD
from jit.runtime.gemm_small import fields_of
from jit.runtime.gemm_text import (
    declarations,
    masked_load,
    masked_store,
    multiply_add,
    splat,
)
from jit.runtime.gemm_tile import Kind, Tile
from jit.runtime.writer import Function
from jit.target import CACHE_LINE
from jit.vectors import transposed

UNROLLED = 64
"""Loops over k with so few multiply-adds of vectors in all are unrolled."""
STEPS = 2
"""Steps of k in one turn of a loop."""
LEAST_FETCHED, LEAST_SIDE = 2048, 8
"""A matrix of fewer bytes is left to the processor's own prefetching, which
ends with a page of memory and so falls behind where every matrix is a page of its own; so are
products with a shorter side, which take less time than their matrices need to come."""
SERIAL_WORK = 500_000
"""Below this work one thread does it all; up to HOT times as much is shared with those awake."""
HOT = 20


@dataclass(frozen=True)
class Small:
    """One shape and layout, with C turned so that its columns are what vectors hold."""

    kind: Kind
    m: int
    n: int
    k: int
    rsa: int
    csa: int
    rsb: int
    csb: int
    ldc: int
    turned: bool

    @cached_property
    def lanes(self) -> int:
        """Lanes of the vectors in use: no more than a row of C needs."""
        lanes = 1
        while lanes < min(self.n, self.kind.lanes):
            lanes *= 2
        return max(lanes, 2)

    @cached_property
    def vectors(self) -> int:
        return -(-self.n // self.lanes)

    def extent(self, name: str) -> int:
        """Bytes from the first to the last element of matrix a, b or c, if next to none of them
        belong to others; else 0."""
        m, n, k = self.m, self.n, self.k
        steps = {
            "a": ((m, self.rsa), (k, self.csa)),
            "b": ((k, self.rsb), (n, self.csb)),
            "c": ((m, self.ldc), (n, 1)),
        }[name]
        reach = 1 + sum((size - 1) * step for size, step in steps)
        own = steps[0][0] * steps[1][0]
        return reach * self.kind.bytes if 4 * reach <= 5 * own else 0


def small_module(name: str, tile: Tile) -> str:
    """The module of one function."""
    element, shape, strides = fields_of(name)
    kind = Kind(element, tile)
    m, n, k = shape
    rsa, csa, rsb, csb, ldc = strides
    turned = n == 1 and m > 1 and ldc == 1
    if turned:
        small = Small(kind, n, m, k, csb, rsb, csa, rsa, 1, turned)
    else:
        small = Small(kind, m, n, k, rsa, csa, rsb, csb, ldc, turned)
    lengths = {kind.lanes, tile.rows, small.lanes, square_of(small)}
    return "\n\n".join(
        [_task(small), _entry(small, name), declarations(kind, lengths), _DECLARATIONS]
    )


def square_of(small: Small) -> int:
    """The side of the squares by which B is transposed."""
    return min(small.lanes, 8)


def _task(s: Small) -> str:
    """The products [lo, hi) of a job: {A, B, C, their batch strides}."""
    f = Function("internal void @task(ptr %job, i64 %lo, i64 %hi)")
    fields = [
        f.load(ty, f.at("i64", "%job", str(i))) for i, ty in enumerate(["ptr"] * 3 + ["i64"] * 3)
    ]
    ty, row = s.kind.scalar, s.vectors * s.lanes
    packed = "" if s.csb == 1 else f(f"alloca [{s.k * row} x {ty}], align 64")
    with f.loop("%lo", "%hi") as t:
        here = [f.at(ty, fields[i], f.mul(t, fields[3 + i])) for i in range(3)]
        ahead = _ahead(s, [f.at(ty, x, fields[3 + i]) for i, x in enumerate(here)])
        a, b, c = here
        if packed:
            _pack(f, s, b, packed)
            b = packed
        _rows(f, s, a, b, row if packed else s.rsb, not packed, c, ahead)
    return f.text()


class Ahead(NamedTuple):
    """A matrix of the next product, of which a share is fetched with every row of this one."""

    pointer: str
    share: int
    writes: bool

    def fetch(self, f: Function, row: str, rows: int) -> None:
        """The bytes that belong to `rows` rows of this product from row `row` on."""
        start = f.at("i8", self.pointer, f.mul(row, str(self.share)))
        for byte in range(0, rows * self.share, CACHE_LINE):
            line = f.at("i8", start, str(byte))
            f.do(f"call void @llvm.prefetch.p0(ptr {line}, i32 {int(self.writes)}, i32 3, i32 1)")


def _ahead(s: Small, pointers: list[str]) -> list[Ahead]:
    """What is fetched of the next product, whose A, B and C are at `pointers`."""
    if min(s.m, s.n, s.k) < LEAST_SIDE:
        return []
    extents = map(s.extent, "abc")
    return [
        Ahead(pointer, -(-size // s.m), name == "c")
        for name, pointer, size in zip("abc", pointers, extents, strict=True)
        if size >= LEAST_FETCHED
    ]


def _rows(
    f: Function, s: Small, a: str, b: str, rsb: int, masked: bool, c: str, ahead: list[Ahead]
) -> None:
    """One product, by blocks of columns and rows that fit the registers, as equal as can be.

    What is fetched ahead is spread over the blocks of all columns.
    """
    tile, ty = s.kind.tile, s.kind.scalar
    most = tile.rows * tile.vectors
    blocks = -(-s.vectors // tile.vectors)
    width = -(-s.vectors // blocks)
    for first in range(0, s.vectors, width):
        w = min(width, s.vectors - first)
        low, higher = divmod(s.m, -(-s.m // max(1, min(16, most // w))))
        columns = min(s.n - first * s.lanes, w * s.lanes)
        b_block, c_block = (f.at(ty, x, str(first * s.lanes)) for x in (b, c))

        def block(
            i: str,
            rows: int,
            w: int = w,
            columns: int = columns,
            b_block: str = b_block,
            c_block: str = c_block,
            fetch: list[Ahead] = ahead[first // width :: blocks],
        ) -> None:
            for matrix in fetch:
                matrix.fetch(f, i, rows)
            a_rows = f.at(ty, a, f.mul(i, str(s.rsa)))
            c_rows = f.at(ty, c_block, f.mul(i, str(s.ldc)))
            _block(f, s, rows, w, columns, a_rows, b_block, rsb, masked, c_rows)

        split = higher * (low + 1)
        for start, stop, height in ((0, split, low + 1), (split, s.m, low)):
            if stop - start > height:
                with f.loop(str(start), str(stop), str(height)) as i:
                    block(i, height)
            elif stop > start:
                block(str(start), height)


def _block(
    f: Function,
    s: Small,
    rows: int,
    w: int,
    columns: int,
    a: str,
    b: str,
    rsb: int,
    masked: bool,
    c: str,
) -> None:
    """A tile of `rows` rows and `w` vectors of C, of which `columns` columns exist."""
    kind, lanes, ty = s.kind, s.lanes, s.kind.scalar
    v = kind.vector(lanes)
    cells = list(product(range(rows), range(w)))
    rest = columns - (w - 1) * lanes
    bits = ", ".join(f"i1 {'true' if i < rest else 'false'}" for i in range(lanes))
    mask = "" if rest == lanes else f"<{bits}>"

    def step(a_step: str, b_row: str, sums: list[str]) -> list[str]:
        b_vectors: list[str] = []
        for j in range(w):
            place = f.at(ty, b_row, str(j * lanes))
            if masked and mask and j == w - 1:
                b_vectors.append(masked_load(f, kind, lanes, place, mask))
            else:
                b_vectors.append(f.load(v, place, kind.bytes))
        new: list[str] = []
        for r in range(rows):
            factor = splat(f, kind, lanes, f.at(ty, a_step, str(r * s.rsa)))
            for j in range(w):
                new.append(multiply_add(f, kind, lanes, factor, b_vectors[j], sums[r * w + j]))
        return new

    sums = ["zeroinitializer"] * len(cells)
    looped = 0 if s.k * len(cells) <= UNROLLED else s.k - s.k % STEPS
    if looped:
        with f.fold("0", str(looped), str(STEPS), [(v, x) for x in sums]) as (k, sums, set_next):
            new = sums
            for k_step in [k, *(f.add(k, str(i)) for i in range(1, STEPS))]:
                new = step(
                    f.at(ty, a, f.mul(k_step, str(s.csa))),
                    f.at(ty, b, f.mul(k_step, str(rsb))),
                    new,
                )
            set_next(*new)
    for k in range(looped, s.k):
        sums = step(f.at(ty, a, str(k * s.csa)), f.at(ty, b, str(k * rsb)), sums)
    for (r, j), total in zip(cells, sums, strict=True):
        place = f.at(ty, c, str(r * s.ldc + j * lanes))
        if mask and j == w - 1:
            masked_store(f, kind, lanes, total, place, mask)
        else:
            f.store(v, total, place, kind.bytes)


def _pack(f: Function, s: Small, b: str, packed: str) -> None:
    """Lay out B by rows of whole vectors; where its columns are dense, by transposing squares."""
    ty, row = s.kind.scalar, s.vectors * s.lanes
    side = square_of(s)
    steps = s.k - s.k % side if s.rsb == 1 else 0
    v = s.kind.vector(side)
    if steps:
        with f.loop("0", str(steps), str(side)) as step:
            for first in range(0, s.n, side):
                columns = [min(first + i, s.n - 1) for i in range(side)]
                sources = [f.at(ty, f.at(ty, b, str(c * s.csb)), step) for c in columns]
                loaded = [f.load(v, source, s.kind.bytes) for source in sources]
                start = f.at(ty, packed, f.add(f.mul(step, str(row)), str(first)))
                for i, found in enumerate(transposed(f, s.kind.scalar, loaded, side)):
                    f.store(v, found, f.at(ty, start, str(i * row)), s.kind.bytes)
    if steps < s.k:
        with f.loop("0", str(s.n)) as column, f.loop(str(steps), str(s.k)) as step:
            offset = f.add(f.mul(column, str(s.csb)), f.mul(step, str(s.rsb)))
            value = f.load(ty, f.at(ty, b, offset), s.kind.bytes)
            f.store(ty, value, f.at(ty, packed, f.add(f.mul(step, str(row)), column)))


def _entry(s: Small, name: str) -> str:
    """The entry, with the arguments of ft_gemm; those that the name says are not looked at."""
    f = Function(
        f"void @{name}(i64 %m, i64 %n, i64 %k, ptr %a, i64 %rsa, i64 %csa, ptr %b, i64 %rsb, "
        "i64 %csb, ptr %c, i64 %ldc, i64 %batch, i64 %sa, i64 %sb, i64 %sc, i64 %accumulate)",
        COLD,
    )
    job = f("alloca [6 x i64], align 16")
    names = ("%b", "%a", "%c", "%sb", "%sa", "%sc") if s.turned else ("%a", "%b", "%c", "%sa")
    names = names if s.turned else (*names, "%sb", "%sc")
    for i, value in enumerate(names):
        f.store("ptr" if i < 3 else "i64", value, f.at("i64", job, str(i)))
    threads = f("call i64 @ft_pool_size()")
    work = f.mul("%batch", str(2 * s.m * s.n * s.k))
    serial = f.either(f.test("slt", work, str(SERIAL_WORK)), f.test("slt", threads, "2"))
    grain = f.ceil_div("%batch", f.mul(threads, "2"))

    def alone() -> None:
        f.do(f"call void @task(ptr {job}, i64 0, i64 %batch)")

    def shared() -> None:
        hot = f.test("slt", work, str(HOT * SERIAL_WORK))
        run = f.select(hot, "@ft_parallel_hot", "@ft_parallel_for", "ptr")
        f.do(f"call void {run}(ptr @task, ptr {job}, i64 %batch, i64 {grain})")

    f.choose(serial, alone, shared)
    return f.text()


_DECLARATIONS = """
declare i64 @ft_pool_size()
declare void @ft_parallel_for(ptr, ptr, i64, i64)
declare void @ft_parallel_hot(ptr, ptr, i64, i64)
"""
