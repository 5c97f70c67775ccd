"""The LLVM text of a row vector times a matrix, y = x M, where one axis of M has unit stride.

`sweep` adds whole rows of M to y; `dots` takes one dot product per column. Invariant: the order of
the sum for one element of y follows from the strides alone, never from its place or the threads.
"""

from jit.runtime.gemm_text import Kind, lane_mask, masked_load, masked_store, multiply_add, splat
from jit.runtime.writer import Function

SWEEP_ROWS = 8  # rows of M added per pass over a piece of y
SWEEP_BYTES = 16384  # the piece of y that stays in the first cache meanwhile
DOT_COLUMNS = 4  # dot products taken side by side, with two accumulators each
DOT_STEPS = 2048  # steps of a strided x that are copied side by side at a time


def parts(kind: Kind) -> list[str]:
    """Every function of this file for one element type."""
    return [
        _add_rows(kind, SWEEP_ROWS),
        _add_rows(kind, 1),
        _sweep(kind),
        _dot_columns(kind, DOT_COLUMNS),
        _dot_columns(kind, 1),
        _dots(kind),
    ]


def _add_rows(kind: Kind, rows: int) -> str:
    """y[:n] = (y or, when %fresh, 0) + x[0] M[0, :n] + ... + x[rows - 1] M[rows - 1, :n]."""
    lanes, ty = kind.lanes, kind.scalar
    v = kind.vector(lanes)
    f = Function(
        f"internal void @add_rows_{kind.name}_{rows}(i64 %n, ptr noalias %x, i64 %sx, "
        "ptr noalias %m, i64 %rs, ptr noalias %y, i1 %fresh)"
    )
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
                    f"ptr {source}, i64 %rs, ptr {y}, i1 {fresh})"
                )
    return f.text()


def _horizontal(f: Function, kind: Kind, value: str) -> str:
    """The sum of the lanes, by halves."""
    lanes = kind.lanes
    while lanes > 1:
        v, half = kind.vector(lanes), lanes // 2
        picks = [", ".join(f"i32 {i + at}" for i in range(half)) for at in (0, half)]
        low, high = (
            f(f"shufflevector {v} {value}, {v} poison, <{half} x i32> <{pick}>") for pick in picks
        )
        value, lanes = f(f"fadd {kind.vector(half)} {low}, {high}"), half
    return f(f"extractelement {kind.vector(1)} {value}, i32 0")


def _dot_columns(kind: Kind, columns: int) -> str:
    """y[c] = (y[c] when %more) + x . M[:, c] for `columns` columns, x and the columns dense."""
    lanes, ty = kind.lanes, kind.scalar
    v = kind.vector(lanes)
    f = Function(
        f"internal void @dot_columns_{kind.name}_{columns}(i64 %k, ptr noalias %x, "
        "ptr noalias %m, i64 %cs, ptr noalias %y, i1 %more)"
    )
    sources = [f.at(ty, "%m", f.mul("%cs", str(c))) for c in range(columns)]
    whole = f.sub("%k", f.rem("%k", str(2 * lanes)))
    zeros = [(v, "zeroinitializer")] * (2 * columns)
    with f.fold("0", whole, str(2 * lanes), zeros) as (step, sums, set_next):
        new: list[str] = []
        for half in range(2):
            at = f.add(step, str(half * lanes))
            x = f.load(v, f.at(ty, "%x", at), kind.bytes)
            for c, source in enumerate(sources):
                value = f.load(v, f.at(ty, source, at), kind.bytes)
                new.append(multiply_add(f, kind, lanes, value, x, sums[half * columns + c]))
        set_next(*new)
    tails = list(sums)
    for half in range(2):
        at = f.add(whole, str(half * lanes))
        mask = lane_mask(f, lanes, f.sub("%k", at))
        x = masked_load(f, kind, lanes, f.at(ty, "%x", at), mask)
        for c, source in enumerate(sources):
            value = masked_load(f, kind, lanes, f.at(ty, source, at), mask)
            index = half * columns + c
            tails[index] = multiply_add(f, kind, lanes, value, x, tails[index])
    for c in range(columns):
        both = f(f"fadd {v} {tails[c]}, {tails[columns + c]}")
        total = _horizontal(f, kind, both)
        cell = f.at(ty, "%y", str(c))
        old = f.load(ty, cell)
        added = f(f"fadd {ty} {old}, {total}")
        f.store(ty, f.select("%more", added, total, ty), cell)
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
    groups = f.sub("%n", f.rem("%n", str(DOT_COLUMNS)))
    with f.loop("0", "%k", piece) as step:
        size = f.min(piece, f.sub("%k", step))
        with f.when(f.negate(dense)), f.loop("0", size) as i:
            element = f.at(ty, "%x", f.mul(f.add(step, i), "%sx"))
            f.store(ty, f.load(ty, element), f.at(ty, copy, i))
        x = f.select(dense, "%x", copy, "ptr")
        more = f.either("%more", f.test("ne", step, "0"))
        for start, stop, columns in (("0", groups, DOT_COLUMNS), (groups, "%n", 1)):
            with f.loop(start, stop, str(columns)) as j:
                source = f.at(ty, "%m", f.add(f.mul(j, "%cs"), step))
                f.do(
                    f"call void @dot_columns_{name}_{columns}(i64 {size}, ptr {x}, ptr {source}, "
                    f"i64 %cs, ptr {f.at(ty, '%y', j)}, i1 {more})"
                )
    return f.text()
