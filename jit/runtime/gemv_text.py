"""The LLVM text of a row vector times a matrix, y = x M, where one axis of M has unit stride.

`sweep` adds whole rows of M to y; `dots` takes one dot product per column. Invariant: the order of
the sum for one element of y follows from the strides alone, never from its place or the threads.
"""

from jit.runtime.gemm_text import lane_mask, masked_load, masked_store, multiply_add, splat
from jit.runtime.gemm_tile import Kind
from jit.runtime.writer import Function

SWEEP_ROWS = 8  # rows of M added per pass over a piece of y
SWEEP_BYTES = 16384  # the piece of y that stays in the first cache meanwhile
DOT_COLUMNS = 8  # dot products taken side by side
# Lines of a matrix that no second cache holds are fetched so many blocks ahead, if they are short.
SHORT_BYTES = 1024
CACHE_BYTES = 1 << 20
BLOCKS_AHEAD = 8
DOT_STEPS = 2048  # steps of a strided x that are copied side by side at a time


def parts(kind: Kind) -> list[str]:
    """Every function of this file for one element type."""
    return [
        _add_rows(kind, SWEEP_ROWS),
        _add_rows(kind, 1),
        _sweep(kind),
        _dot_columns(kind),
        _dots(kind),
    ]


def lengths(kind: Kind) -> set[int]:
    """Vector lengths in use beside a whole vector."""
    return {min(kind.lanes, DOT_COLUMNS)}


def _ahead(f: Function, kind: Kind, stride: str, lines: str) -> str:
    """Are the lines of a matrix fetched ahead?

    The processor does not foresee accesses that go round among several short lines.
    """
    apart = f.mul(stride, str(kind.bytes))
    short = f.both(f.test("sgt", apart, "0"), f.test("sle", apart, str(SHORT_BYTES)))
    return f.both(short, f.test("sgt", f.mul(apart, lines), str(CACHE_BYTES)))


def _fetch_ahead(f: Function, kind: Kind, start: str, stride: str, count: int) -> None:
    """With %ahead, fetch what comes some blocks of `count` lines later."""
    with f.when("%ahead"):
        block = f.mul(stride, str(count * kind.bytes))
        first = f.at("i8", start, f.mul(block, str(BLOCKS_AHEAD)))
        with f.loop("0", block, "64") as offset:
            line = f.at("i8", first, offset)
            f.do(f"call void @llvm.prefetch.p0(ptr {line}, i32 0, i32 3, i32 1)")


def _add_rows(kind: Kind, rows: int) -> str:
    """y[:n] = (y or, when %fresh, 0) + x[0] M[0, :n] + ... + x[rows - 1] M[rows - 1, :n]."""
    lanes, ty = kind.lanes, kind.scalar
    v = kind.vector(lanes)
    f = Function(
        f"internal void @add_rows_{kind.name}_{rows}(i64 %n, ptr noalias %x, i64 %sx, "
        "ptr noalias %m, i64 %rs, ptr noalias %y, i1 %fresh, i1 %ahead)"
    )
    if rows > 1:
        _fetch_ahead(f, kind, "%m", "%rs", rows)
    factors = [splat(f, kind, lanes, f.at(ty, "%x", f.mul("%sx", str(r)))) for r in range(rows)]
    sources = [f.at(ty, "%m", f.mul("%rs", str(r))) for r in range(rows)]
    whole = f.sub("%n", f.rem("%n", str(lanes)))
    with f.loop("0", whole, str(lanes)) as j:
        cell = f.at(ty, "%y", j)
        old = f.load(v, cell, kind.bytes)
        total = f(f"select i1 %fresh, {v} zeroinitializer, {v} {old}")
        for factor, source in zip(factors, sources, strict=True):
            row = f.load(v, f.at(ty, source, j), kind.bytes)
            total = multiply_add(f, kind, lanes, factor, row, total)
        f.store(v, total, cell, kind.bytes)
    with f.when(f.test("slt", whole, "%n")):
        mask = lane_mask(f, lanes, f.sub("%n", whole))
        cell = f.at(ty, "%y", whole)
        old = masked_load(f, kind, lanes, cell, mask)
        total = f(f"select i1 %fresh, {v} zeroinitializer, {v} {old}")
        for factor, source in zip(factors, sources, strict=True):
            row = masked_load(f, kind, lanes, f.at(ty, source, whole), mask)
            total = multiply_add(f, kind, lanes, factor, row, total)
        masked_store(f, kind, lanes, total, cell, mask)
    return f.text()


def _sweep(kind: Kind) -> str:
    """y = or += x M, with rows of M side by side in memory."""
    ty, name = kind.scalar, kind.name
    f = Function(
        f"internal void @sweep_{name}(i64 %n, i64 %k, ptr %x, i64 %sx, ptr %m, i64 %rs, ptr %y, "
        "i1 %more)"
    )
    piece = SWEEP_BYTES // kind.bytes
    whole = f.sub("%k", f.rem("%k", str(SWEEP_ROWS)))
    clean = f.negate("%more")
    ahead = _ahead(f, kind, "%rs", "%k")
    with f.loop("0", "%n", str(piece)) as j:
        size = f.min(str(piece), f.sub("%n", j))
        y, columns = f.at(ty, "%y", j), f.at(ty, "%m", j)
        for start, stop, rows in (("0", whole, SWEEP_ROWS), (whole, "%k", 1)):
            with f.loop(start, stop, str(rows)) as step:
                fresh = f.both(clean, f.test("eq", step, "0"))
                x = f.at(ty, "%x", f.mul(step, "%sx"))
                source = f.at(ty, columns, f.mul(step, "%rs"))
                f.do(
                    f"call void @add_rows_{name}_{rows}(i64 {size}, ptr {x}, i64 %sx, "
                    f"ptr {source}, i64 %rs, ptr {y}, i1 {fresh}, i1 {ahead})"
                )
    return f.text()


def _sums_of(f: Function, kind: Kind, rows: list[str]) -> str:
    """The sums of the lanes of each of some vectors (a power of two, at most the lanes), side by
    side: for each bit, vectors that differ in it trade lanes and are added.
    """
    lanes, count = kind.lanes, len(rows)
    v, bit = kind.vector(lanes), 1
    while bit < count:
        low = ", ".join(f"i32 {i if not i & bit else lanes + i - bit}" for i in range(lanes))
        high = ", ".join(f"i32 {i + bit if not i & bit else lanes + i}" for i in range(lanes))
        new: list[str] = []
        for a, b in zip(rows[::2], rows[1::2], strict=True):
            parts = [
                f(f"shufflevector {v} {a}, {v} {b}, <{lanes} x i32> <{picks}>")
                for picks in (low, high)
            ]
            new.append(f(f"fadd {v} {parts[0]}, {parts[1]}"))
        rows, bit = new, 2 * bit
    (value,) = rows
    while lanes > count:
        v, half = kind.vector(lanes), lanes // 2
        picks = [", ".join(f"i32 {i + at}" for i in range(half)) for at in (0, half)]
        low, high = (
            f(f"shufflevector {v} {value}, {v} poison, <{half} x i32> <{pick}>") for pick in picks
        )
        value, lanes = f(f"fadd {kind.vector(half)} {low}, {high}"), half
    return value


def _dot_columns(kind: Kind) -> str:
    """y[c] = (y[c] when %more) + x . M[:, c] for the first %valid of DOT_COLUMNS columns.

    x and the columns are dense; the last valid column serves for those that are missing.
    """
    lanes, ty = kind.lanes, kind.scalar
    v, side = kind.vector(lanes), min(kind.lanes, DOT_COLUMNS)
    f = Function(
        f"internal void @dot_columns_{kind.name}(i64 %k, ptr noalias %x, ptr noalias %m, i64 %cs, "
        "i64 %valid, ptr noalias %y, i1 %more, i1 %ahead)"
    )
    _fetch_ahead(f, kind, "%m", "%cs", DOT_COLUMNS)
    last = f.sub("%valid", "1")
    sources = [
        f.at(ty, "%m", f.mul("%cs", f.min(str(c), last) if c else "0")) for c in range(DOT_COLUMNS)
    ]
    whole = f.sub("%k", f.rem("%k", str(lanes)))
    zeros = [(v, "zeroinitializer")] * DOT_COLUMNS
    with f.fold("0", whole, str(lanes), zeros) as (step, sums, set_next):
        x = f.load(v, f.at(ty, "%x", step), kind.bytes)
        values = [f.load(v, f.at(ty, source, step), kind.bytes) for source in sources]
        set_next(
            *(multiply_add(f, kind, lanes, a, x, c) for a, c in zip(values, sums, strict=True))
        )
    # The steps that do not fill a vector, if there are any.
    with f.fold(whole, "%k", str(lanes), [(v, c) for c in sums]) as (step, totals, set_next):
        mask = lane_mask(f, lanes, f.sub("%k", step))
        x = masked_load(f, kind, lanes, f.at(ty, "%x", step), mask)
        values = [masked_load(f, kind, lanes, f.at(ty, source, step), mask) for source in sources]
        set_next(
            *(multiply_add(f, kind, lanes, a, x, c) for a, c in zip(values, totals, strict=True))
        )
    out = kind.vector(side)
    for first in range(0, DOT_COLUMNS, side):
        total = _sums_of(f, kind, totals[first : first + side])
        cell = f.at(ty, "%y", str(first))
        valid = f.sub("%valid", str(first))

        def plain(total: str = total, cell: str = cell) -> None:
            f.store(out, total, cell, kind.bytes)

        def careful(total: str = total, cell: str = cell, valid: str = valid) -> None:
            here = lane_mask(f, side, valid)
            old = masked_load(f, kind, side, cell, here)
            added = f(f"fadd {out} {old}, {total}")
            masked_store(f, kind, side, f.select("%more", added, total, out), cell, here)

        whole_group = f.test("sge", valid, str(side))
        f.choose(f.both(whole_group, f.negate("%more")), plain, careful)
    return f.text()


def _dots(kind: Kind) -> str:
    """y = or += x M, with columns of M side by side in memory."""
    ty, name = kind.scalar, kind.name
    f = Function(
        f"internal void @dots_{name}(i64 %n, i64 %k, ptr %x, i64 %sx, ptr %m, i64 %cs, ptr %y, "
        "i1 %more)"
    )
    copy = f(f"alloca [{DOT_STEPS} x {ty}], align 64")
    dense = f.test("eq", "%sx", "1")
    piece = f.select(dense, "%k", str(DOT_STEPS))
    ahead = _ahead(f, kind, "%cs", "%n")
    with f.loop("0", "%k", piece) as step:
        size = f.min(piece, f.sub("%k", step))
        with f.when(f.negate(dense)), f.loop("0", size) as i:
            element = f.at(ty, "%x", f.mul(f.add(step, i), "%sx"))
            f.store(ty, f.load(ty, element), f.at(ty, copy, i))
        x = f.select(dense, "%x", copy, "ptr")
        more = f.either("%more", f.test("ne", step, "0"))
        with f.loop("0", "%n", str(DOT_COLUMNS)) as j:
            source = f.at(ty, "%m", f.add(f.mul(j, "%cs"), step))
            valid = f.min(f.sub("%n", j), str(DOT_COLUMNS))
            f.do(
                f"call void @dot_columns_{name}(i64 {size}, ptr {x}, ptr {source}, i64 %cs, "
                f"i64 {valid}, ptr {f.at(ty, '%y', j)}, i1 {more}, i1 {ahead})"
            )
    return f.text()
