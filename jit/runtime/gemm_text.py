"""The LLVM text of the matrix product's inner parts: micro-kernels, packing, and edge tiles.

A micro-kernel multiplies `rows` rows of A by `w` vectors of B for one block of k, keeping the tile
in registers, and goes on to other tiles. It computes whole ones: the last row serves for those that
are missing, and only what exists is written.
Invariant: every element of a tile is one chain of fused multiply-adds in the order of k, so its
bits depend neither on the tile nor on where the operands were read from.
"""

from collections.abc import Iterable
from itertools import product

from jit.names import COLD
from jit.runtime import gemm_x86_packs, gemm_x86_text
from jit.runtime.gemm_tile import Kind, kernel_signature
from jit.runtime.writer import Function
from jit.vectors import transposed

# Building blocks.


def multiply_add(f: Function, kind: Kind, lanes: int, a: str, b: str, c: str) -> str:
    """a * b + c, fused where the machine can."""
    v = kind.vector(lanes)
    if kind.tile.fused:
        return f(f"call {v} @llvm.fma.{kind.suffix(lanes)}({v} {a}, {v} {b}, {v} {c})")
    return f(f"fadd {v} {f(f'fmul {v} {a}, {b}')}, {c}")


def splat(f: Function, kind: Kind, lanes: int, pointer: str) -> str:
    """The scalar at `pointer` in every lane."""
    v = kind.vector(lanes)
    value = f.load(kind.scalar, pointer, kind.bytes)
    first = f(f"insertelement {v} poison, {kind.scalar} {value}, i32 0")
    return f(f"shufflevector {v} {first}, {v} poison, <{lanes} x i32> zeroinitializer")


def lane_mask(f: Function, lanes: int, count: str) -> str:
    """The mask whose first `count` (i64, any sign or size) lanes are on."""
    v = f"<{lanes} x i64>"
    first = f(f"insertelement {v} poison, i64 {count}, i32 0")
    every = f(f"shufflevector {v} {first}, {v} poison, <{lanes} x i32> zeroinitializer")
    steps = ", ".join(f"i64 {i}" for i in range(lanes))
    return f(f"icmp slt {v} <{steps}>, {every}")


def masked_load(f: Function, kind: Kind, lanes: int, pointer: str, mask: str) -> str:
    """The lanes that are on, and zero elsewhere."""
    v = kind.vector(lanes)
    return f(
        f"call {v} @llvm.masked.load.{kind.suffix(lanes)}.p0(ptr {pointer}, i32 {kind.bytes}, "
        f"<{lanes} x i1> {mask}, {v} zeroinitializer)"
    )


def masked_store(f: Function, kind: Kind, lanes: int, value: str, pointer: str, mask: str) -> None:
    v = kind.vector(lanes)
    f.do(
        f"call void @llvm.masked.store.{kind.suffix(lanes)}.p0({v} {value}, "
        f"ptr {pointer}, i32 {kind.bytes}, <{lanes} x i1> {mask})"
    )


def declarations(kind: Kind, lengths: Iterable[int] = ()) -> str:
    """The intrinsics used by the texts of this package, for these and the usual vector lengths."""
    lines = ["declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"]
    for lanes in sorted({kind.lanes, kind.tile.rows, *lengths}):
        v, s, m = kind.vector(lanes), kind.suffix(lanes), f"<{lanes} x i1>"
        lines += [
            f"declare {v} @llvm.fma.{s}({v}, {v}, {v})",
            f"declare {v} @llvm.masked.load.{s}.p0(ptr, i32 immarg, {m}, {v})",
            f"declare void @llvm.masked.store.{s}.p0({v}, ptr, i32 immarg, {m})",
        ]
    return "\n".join(lines)


# The micro-kernel.


def kernel(kind: Kind, rows: int, w: int, packs: bool = False) -> str:
    """C = or += A times B, over %k >= 1 steps, for %height >= 1 rows, a tile of `rows` at a time.

    Row r of A is at %a[r * %ars], a step %aks further; vector j of a step of B at %b[j * lanes], a
    step %ldb further; row r of C at %c[r * %ldc], of which the first %columns exist, which end in
    the last of `w` vectors. The operands of the next tile are %a_next, %b_next and %c_next behind.
    One that `packs` leaves the rows of B side by side at %packed, for what follows. A tile that is
    %far is fetched while it is computed. Some kernels fetch elements of A that are %ahead behind,
    where that is not 0.
    """
    f = Function(kernel_signature(kind, rows, w, packs))
    scratch = f(f"alloca [{rows * w} x {kind.vector(kind.lanes)}], align 64")
    with f.loop("0", "%height", str(rows)) as i:
        tile(f, kind, rows, w, packs, i, scratch)
    return f.text()


def tile(f: Function, kind: Kind, rows: int, w: int, packs: bool, i: str, scratch: str) -> None:
    """The tile from row i on."""
    lanes, ty = kind.lanes, kind.scalar
    v = kind.vector(lanes)
    valid = f.sub("%height", i)
    last = f.sub(valid, "1")
    number = f.div(i, str(rows))
    a, b_tile, c = (f.at(ty, f"%{x}", f.mul(number, f"%{x}_next")) for x in "abc")
    a_rows = [f.at(ty, a, f.mul(f.min(str(r), last), "%ars")) for r in range(rows)]
    c_rows = [f.at(ty, c, f.mul("%ldc", str(r))) for r in range(rows)]
    cells = list(product(range(rows), range(w)))
    f.split("%far", "fetch", "start")
    f.open("fetch")
    for r, j in cells:
        cell = f.at(v, c_rows[r], str(j))
        f.do(f"call void @llvm.prefetch.p0(ptr {cell}, i32 1, i32 3, i32 1)")
    f.jump("start")
    f.open("start")
    f.jump("step")
    f.open("step")
    f.do("%left = phi i64 [%k, %start], [%left.next, %step]")
    f.do("%at = phi i64 [0, %start], [%at.next, %step]")
    f.do(f"%row = phi ptr [{b_tile}, %start], [%row.next, %step]")
    if packs:
        f.do("%room = phi ptr [%packed, %start], [%room.next, %step]")
    for r, j in cells:
        f.do(f"%s{r}.{j} = phi {v} [zeroinitializer, %start], [%n{r}.{j}, %step]")
    b = [f.load(v, f.at(v, "%row", str(j)), kind.bytes) for j in range(w)]
    if packs:
        for j in range(w):
            f.store(v, b[j], f.at(v, "%room", str(j)), kind.bytes)
        f.do(f"%room.next = getelementptr {v}, ptr %room, i64 {w}")
    for r in range(rows):
        element = splat(f, kind, lanes, f.at(ty, a_rows[r], "%at"))
        for j in range(w):
            if kind.tile.fused:
                fma = f"call {v} @llvm.fma.{kind.suffix(lanes)}"
                call = f"{fma}({v} {element}, {v} {b[j]}, {v} %s{r}.{j})"
            else:
                call = f"fadd {v} {f(f'fmul {v} {element}, {b[j]}')}, %s{r}.{j}"
            f.do(f"%n{r}.{j} = {call}")
    f.do("%at.next = add i64 %at, %aks")
    f.do(f"%row.next = getelementptr {ty}, ptr %row, i64 %ldb")
    f.do("%left.next = sub i64 %left, 1")
    f.split(f.test("sgt", "%left.next", "0"), "step", "end")
    f.open("end")

    def put(adding: bool) -> None:
        for r, j in cells:
            cell, value = f.at(v, c_rows[r], str(j)), f"%n{r}.{j}"
            if adding:
                value = f(f"fadd {v} {f.load(v, cell, kind.bytes)}, {value}")
            f.store(v, value, cell, kind.bytes)

    def put_part() -> None:
        for r, j in cells:
            f.store(v, f"%n{r}.{j}", f.at(v, scratch, str(r * w + j)), kind.bytes)
        f.do(
            f"call void @edge_{kind.name}(ptr {scratch}, i64 {w * lanes}, ptr {c}, i64 %ldc, "
            f"i64 {f.min(valid, str(rows))}, i64 %columns, i1 %more)"
        )

    every_row = f.test("sge", valid, str(rows))
    whole = f.both(every_row, f.test("eq", "%columns", str(w * lanes)))
    f.choose(
        whole,
        lambda: f.choose("%more", lambda: put(True), lambda: put(False)),
        put_part,
    )


def edge(kind: Kind) -> str:
    """Copy (or add, with %more) the valid %rows x %columns of a whole tile to C."""
    lanes, ty = kind.lanes, kind.scalar
    v = kind.vector(lanes)
    f = Function(
        f"internal void @edge_{kind.name}(ptr noalias %tile, i64 %ldt, ptr noalias %c, i64 %ldc, "
        "i64 %rows, i64 %columns, i1 %more)"
    )
    old_lanes = f.select("%more", "%columns", "0")
    with f.loop("0", "%columns", str(lanes)) as j:
        mask = lane_mask(f, lanes, f.sub("%columns", j))
        old_mask = lane_mask(f, lanes, f.sub(old_lanes, j))
        with f.loop("0", "%rows") as r:
            new = f.load(v, f.at(ty, "%tile", f.add(f.mul(r, "%ldt"), j)), kind.bytes)
            cell = f.at(ty, "%c", f.add(f.mul(r, "%ldc"), j))
            old = masked_load(f, kind, lanes, cell, old_mask)
            total = f(f"fadd {v} {old}, {new}")
            kept = f(f"select i1 %more, {v} {total}, {v} {new}")
            masked_store(f, kind, lanes, kept, cell, mask)
    return f.text()


# Packing: dst[step * lanes + lane] = src[lane * s_lane + step * s_k].


def pack_signature(name: str) -> str:
    return (
        f"internal void {name}(ptr noalias %src, i64 %s_lane, i64 %s_k, i64 %valid, i64 %k, "
        "ptr noalias %dst, i64 %lanes)"
    )


def pack(kind: Kind, name: str, unit: int) -> str:
    """Pack %k steps of a panel of %lanes lanes, of which the first %valid >= 1 exist.

    Lanes side by side in memory are copied by vectors of `unit` elements, steps side by side are
    transposed in squares, and anything else goes element by element. Missing lanes, up to a whole
    square or vector, hold anything.
    """
    f = Function(pack_signature(name), COLD)
    call = "(ptr %src, i64 %s_lane, i64 %s_k, i64 %valid, i64 %k, ptr %dst, i64 %lanes)"
    f.choose(
        f.test("eq", "%s_lane", "1"),
        lambda: f.do(f"call void @pack_copy_{kind.name}_{unit}{call}"),
        lambda: f.choose(
            f.test("eq", "%s_k", "1"),
            lambda: f.do(f"call void @pack_transpose_{kind.name}{call}"),
            lambda: f.do(f"call void @pack_elements_{kind.name}{call}"),
        ),
    )
    return f.text()


def _pack_copy(kind: Kind, copy: int) -> str:
    f = Function(pack_signature(f"@pack_copy_{kind.name}_{copy}"), COLD)
    ty = kind.scalar
    whole = f.sub("%valid", f.rem("%valid", str(copy)))
    f.do(
        f"call void @copy_{kind.name}_{copy}(ptr %src, i64 %s_k, i64 {whole}, i64 %k, ptr %dst, "
        "i64 %lanes)"
    )
    source, target = f.at(ty, "%src", whole), f.at(ty, "%dst", whole)
    rest = f.sub("%valid", whole)
    if _has_masks(kind):
        f.do(
            f"call void @tail_{kind.name}_{copy}(ptr {source}, i64 %s_k, i64 {rest}, i64 %k, "
            f"ptr {target}, i64 %lanes)"
        )
    else:
        f.do(
            f"call void @pack_elements_{kind.name}(ptr {source}, i64 1, i64 %s_k, i64 {rest}, "
            f"i64 %k, ptr {target}, i64 %lanes)"
        )
    return f.text()


def _has_masks(kind: Kind) -> bool:
    """Are the lanes that fill no vector copied as one under a mask, instead of one by one?"""
    return kind.tile.assembly and kind.tile.width == 64


def _tail(kind: Kind, unit: int) -> str:
    """The last lanes, fewer than `unit`."""
    signature = (
        f"internal void @tail_{kind.name}_{unit}(ptr noalias %src, i64 %s_k, i64 %some, i64 %k, "
        "ptr noalias %dst, i64 %lanes)"
    )
    return gemm_x86_packs.tails(kind, signature, unit)


def _copy(kind: Kind, unit: int) -> str:
    """The first %whole lanes, by vectors of `unit`."""
    signature = (
        f"internal void @copy_{kind.name}_{unit}(ptr noalias %src, i64 %s_k, i64 %whole, i64 %k, "
        "ptr noalias %dst, i64 %lanes)"
    )
    if kind.tile.assembly:
        return gemm_x86_packs.copies(kind, signature, unit)
    f = Function(signature)
    v, ty = kind.vector(unit), kind.scalar
    with f.loop("0", "%k") as step:
        source = f.at(ty, "%src", f.mul(step, "%s_k"))
        target = f.at(ty, "%dst", f.mul(step, "%lanes"))
        with f.loop("0", "%whole", str(unit)) as lane:
            value = f.load(v, f.at(ty, source, lane), kind.bytes)
            f.store(v, value, f.at(ty, target, lane), kind.bytes)
    return f.text()


def square(kind: Kind) -> int:
    """The side of the squares that are turned: it divides both panels. Those of 8 take fewer
    instructions for each element, but LLVM four times as long.
    """
    return min(4, kind.lanes)


def abreast(kind: Kind) -> int:
    """The lanes that are turned at a time: two squares, where they fill a vector of assembly and
    both panels.
    """
    return 8 if kind.tile.assembly and kind.tile.rows == 8 and kind.bytes == 4 else square(kind)


def _pack_transpose(kind: Kind) -> str:
    """A square's lanes at a time; the last steps, fewer than a square's, element by element."""
    n, side = square(kind), abreast(kind)
    f, ty = Function(pack_signature(f"@pack_transpose_{kind.name}"), COLD), kind.scalar
    whole = f.sub("%k", f.rem("%k", str(n)))
    with f.loop("0", "%valid", str(side)) as lane:
        source, target = f.at(ty, "%src", f.mul(lane, "%s_lane")), f.at(ty, "%dst", lane)
        last = f.sub(f.sub("%valid", lane), "1")
        f.do(
            f"call void @transpose_{kind.name}(ptr {source}, i64 %s_lane, i64 {last}, "
            f"i64 {whole}, ptr {target}, i64 %lanes)"
        )
    source, target = f.at(ty, "%src", whole), f.at(ty, "%dst", f.mul(whole, "%lanes"))
    f.do(
        f"call void @pack_elements_{kind.name}(ptr {source}, i64 %s_lane, i64 1, i64 %valid, "
        f"i64 {f.sub('%k', whole)}, ptr {target}, i64 %lanes)"
    )
    return f.text()


def _transpose_lanes(kind: Kind) -> str:
    """Pack a square's lanes for any number of squares; lane %last serves for those behind it."""
    n = square(kind)
    v, ty = kind.vector(n), kind.scalar
    signature = (
        f"internal void @transpose_{kind.name}(ptr noalias %src, i64 %s_lane, i64 %last, "
        "i64 %steps, ptr noalias %dst, i64 %lanes)"
    )
    if kind.tile.assembly:
        return gemm_x86_packs.squares(kind, signature, abreast(kind))
    f = Function(signature)
    sources = [f.at(ty, "%src", f.mul(f.min(str(r), "%last"), "%s_lane")) for r in range(n)]
    with f.loop("0", "%steps", str(n)) as step:
        rows = [f.load(v, f.at(ty, source, step), kind.bytes) for source in sources]
        target = f.at(ty, "%dst", f.mul(step, "%lanes"))
        for row in transposed(f, kind.scalar, rows, n):
            f.store(v, row, target, kind.bytes)
            target = f.at(ty, target, "%lanes")
    return f.text()


def _pack_abreast(kind: Kind) -> str:
    """Pack whole panels of %height rows of A that lie side by side, all of them step by step."""
    rows, ty = kind.tile.rows, kind.scalar
    f = Function(
        f"internal void @pack_abreast_{kind.name}(ptr noalias %src, i64 %s_k, i64 %height, i64 %k, "
        "ptr noalias %dst)",
        COLD,
    )
    v = kind.vector(rows)
    with f.when(f.test("sgt", "%height", "0")), f.loop("0", "%k") as step:
        source = f.at(ty, "%src", f.mul(step, "%s_k"))
        target = f.at(ty, "%dst", f.mul(step, str(rows)))
        with f.loop("0", "%height", str(rows)) as row:
            lanes = f.load(v, f.at(ty, source, row), kind.bytes)
            f.store(v, lanes, f.at(ty, target, f.mul(row, "%k")), kind.bytes)
    return f.text()


def _pack_elements(kind: Kind) -> str:
    signature = pack_signature(f"@pack_elements_{kind.name}")
    if kind.tile.assembly:
        return gemm_x86_packs.elements(kind, signature)
    f, ty = Function(signature), kind.scalar
    with f.loop("0", "%valid") as lane:
        source, target = f.at(ty, "%src", f.mul(lane, "%s_lane")), f.at(ty, "%dst", lane)
        with f.loop("0", "%k") as step:
            value = f.load(ty, f.at(ty, source, f.mul(step, "%s_k")))
            f.store(ty, value, f.at(ty, target, f.mul(step, "%lanes")))
    return f.text()


# Complex operands, as interleaved reals. With A as (re, im) along k and B as the rows (re, im) and
# (-im, re), the complex product is the real one over twice the steps and columns. %s_lane and %s_k
# count complex elements, but lanes and steps count reals.


def pack_pairs_a(kind: Kind, name: str) -> str:
    """Pack complex rows of A whose steps are not side by side: re and im become two steps."""
    f, ty = Function(pack_signature(name)), kind.scalar
    with f.loop("0", "%valid") as lane:
        source, target = f.at(ty, "%src", f.mul(lane, "%s_lane")), f.at(ty, "%dst", lane)
        with f.loop("0", "%k", "2") as step:
            element = f.at(ty, source, f.mul(step, "%s_k"))
            for part in range(2):
                value = f.load(ty, f.at(ty, element, str(part)))
                f.store(ty, value, f.at(ty, target, f.mul(f.add(step, str(part)), "%lanes")))
    return f.text()


def pack_pairs_b(kind: Kind, name: str) -> str:
    """Pack complex columns of B: the rows (re, im) and (-im, re) for each complex step."""
    f = Function(pack_signature(name))
    f.choose(
        f.test("eq", "%s_lane", "1"),
        lambda: _pairs_by_vectors(f, kind),
        lambda: _pairs_by_elements(f, kind),
    )
    return f.text()


def _pairs_by_vectors(f: Function, kind: Kind) -> None:
    lanes, ty = kind.lanes, kind.scalar
    v = kind.vector(lanes)
    swap = ", ".join(f"i32 {i ^ 1}" for i in range(lanes))
    mixed = ", ".join(f"i32 {i if i % 2 else i + lanes}" for i in range(lanes))
    with f.loop("0", "%valid", str(lanes)) as lane:
        mask = lane_mask(f, lanes, f.sub("%valid", lane))
        with f.loop("0", "%k", "2") as step:
            source = f.at(ty, "%src", f.add(f.mul(step, "%s_k"), lane))
            value = masked_load(f, kind, lanes, source, mask)
            swapped = f(f"shufflevector {v} {value}, {v} poison, <{lanes} x i32> <{swap}>")
            minus = f(f"fneg {v} {swapped}")
            turned = f(f"shufflevector {v} {swapped}, {v} {minus}, <{lanes} x i32> <{mixed}>")
            for part, row in enumerate((value, turned)):
                position = f.add(f.mul(f.add(step, str(part)), "%lanes"), lane)
                f.store(v, row, f.at(ty, "%dst", position), kind.bytes)


def _pairs_by_elements(f: Function, kind: Kind) -> None:
    ty = kind.scalar
    with f.loop("0", "%valid", "2") as lane:
        source, target = f.at(ty, "%src", f.mul(lane, "%s_lane")), f.at(ty, "%dst", lane)
        with f.loop("0", "%k", "2") as step:
            element = f.at(ty, source, f.mul(step, "%s_k"))
            re, im = (f.load(ty, f.at(ty, element, str(part))) for part in range(2))
            rows = (re, im), (f(f"fneg {ty} {im}"), re)
            for part, values in enumerate(rows):
                row = f.at(ty, target, f.mul(f.add(step, str(part)), "%lanes"))
                for column, value in enumerate(values):
                    f.store(ty, value, f.at(ty, row, str(column)))


def parts(kind: Kind) -> list[str]:
    """Every function of this file that products of one element type need."""
    tile = kind.tile
    write = gemm_x86_text.kernel if tile.assembly else kernel
    rows, units = tile.rows, {tile.rows}
    if kind.pairs:
        packs = [
            pack_pairs_a(kind, f"@pack_pairs_a_{kind.name}"),
            pack_pairs_b(kind, f"@pack_b_{kind.name}"),
        ]
    else:
        unit = min(rows, kind.lanes)
        units.add(unit)
        packs = [
            _pack_abreast(kind),
            pack(kind, f"@pack_b_{kind.name}", unit),
            write(kind, rows, tile.vectors, True),
        ]
    return [
        *(write(kind, r, w, False) for r in (rows, rows // 2) for w in range(1, tile.vectors + 1)),
        *([] if tile.assembly else [edge(kind)]),
        *(part(kind, n) for n in sorted(units) for part in (_copy, _pack_copy)),
        *(_tail(kind, n) for n in sorted(units) if _has_masks(kind)),
        _pack_transpose(kind),
        _transpose_lanes(kind),
        _pack_elements(kind),
        pack(kind, f"@pack_a_{kind.name}", rows),
        *packs,
    ]
