"""The LLVM text of one task of the matrix product: blocks of k and rows, then panels of columns.

Invariant: how k is cut follows from k, and from whether a row of C is one vector, so the bits of an
element do not depend on its task.
"""

from functools import partial

from jit.names import COLD
from jit.runtime import gemm_rows
from jit.runtime.gemm_tile import FEW_STEPS, Kind, kernel_name
from jit.runtime.writer import Function

# Up to this many columns a block of A is used at most twice: it is read where it lies.
UNPACKED_COLUMNS = 64
# So is a whole A of no more bytes with dense rows or columns: the second cache holds it. But one
# that is used for so many columns had better be packed.
UNPACKED_BYTES = 1 << 20
MANY_COLUMNS = 2048
# Rows of A that are gone through for each panel of B, where they are not packed.
ROWS_AT_ONCE = 512
# Up to so many steps k is cut into blocks of up to twice the usual length, which C prefers.
LONG_BLOCKS = 800
# An A or C of more bytes comes from afar: fetching a tile of C pays from so many steps on already.
FAR_BYTES, FAR_STEPS = 1 << 22, 8
# So many steps ahead columns of A are fetched.
STEPS_AHEAD = 16
# Steps that lie a multiple of so many bytes apart crowd into few sets of the caches.
CROWDING = 1024
# Blocks of such an A have so many rows, where they are used for few columns.
CROWDED_ROWS = 256

CROWDED = ("m", "n", "k", "rsa", "csa")
"""What `crowded` asks about."""

PRODUCT = (
    "i64 %m, i64 %n, i64 %k, ptr %a, i64 %rsa, i64 %csa, ptr %b, i64 %rsb, i64 %csb, "
    "ptr %c, i64 %ldc"
)


def parts(kind: Kind) -> list[str]:
    """Every definition of this file for one element type."""
    return [_kernel_tables(kind), *gemm_rows.parts(kind), _panel(kind), _blocks(kind), _block(kind)]


def _kernel_tables(kind: Kind) -> str:
    tables: list[str] = []
    for rows in (kind.tile.rows, kind.tile.rows // 2):
        names = [kernel_name(kind, rows, w + 1) for w in range(kind.tile.vectors)]
        entries = ", ".join(f"ptr {name}" for name in names)
        tables.append(f"@table_{rows} = internal constant [{len(names)} x ptr] [{entries}]")
    return "\n".join(tables)


def _panel(kind: Kind) -> str:
    """Multiply the rows %first to %height of a block of A with one panel of B.

    The panel has %w vectors, of which the first %columns elements exist. Row i of A starts at
    %a[i * %a_stride], row i of C at %c[i * %ldc].
    """
    rows, ty, name = kind.tile.rows, kind.scalar, kind.name
    f = Function(
        f"internal void @panel_{name}(i64 %steps, ptr %a, i64 %a_stride, i64 %ars, i64 %aks, "
        "ptr %b, i64 %ldb, ptr %c, i64 %ldc, i64 %first, i64 %height, i64 %w, i64 %columns, "
        "i1 %more, i1 %far, i64 %ahead)",
        COLD,
    )
    index = f.sub("%w", "1")
    # The last rows go to the smaller kernel where it takes them all.
    over = f.rem(f.sub("%height", "%first"), str(rows))
    few = f.test("sle", over, str(rows // 2))
    stop = f.select(few, f.sub("%height", over), "%height")
    # Tiles of the smaller kernel have no next one.
    a_next, c_next = f.mul("%a_stride", str(rows)), f.mul("%ldc", str(rows))
    for start, end, tile in (("%first", stop, rows), (stop, "%height", rows // 2)):
        height = f.sub(end, start)
        with f.when(f.test("sgt", height, "0")):
            kernel = f.load("ptr", f.at("ptr", f"@table_{tile}", index))
            a, c = f.at(ty, "%a", f.mul(start, "%a_stride")), f.at(ty, "%c", f.mul(start, "%ldc"))
            f.do(
                f"call void {kernel}(i64 %steps, ptr {a}, i64 %ars, i64 %aks, i64 {height}, "
                f"ptr %b, i64 %ldb, ptr {c}, i64 %ldc, i64 %columns, i64 {a_next}, i64 0, "
                f"i64 {c_next}, i1 %more, i1 %far, i64 %ahead)"
            )
    return f.text()


def crowded(f: Function, kind: Kind, m: str, n: str, k: str, rsa: str, csa: str) -> str:
    """Had A better be packed by whole columns, since their elements push each other out?"""
    multiple = f.test("eq", f.rem(csa, str(CROWDING // kind.bytes)), "0")
    columns = f.both(f.test("eq", rsa, "1"), multiple)
    several = f.test("sgt", n, str(kind.panel))
    return f.both(f.both(columns, several), _afar(f, kind, m, k))


def _afar(f: Function, kind: Kind, rows: str, columns: str) -> str:
    """Is a matrix so large that it comes from memory?"""
    return f.test("sgt", f.mul(rows, columns), str(FAR_BYTES // kind.bytes))


def _block(kind: Kind) -> str:
    """One task: C = or += A B, serially. %space is a workspace, or null."""
    name = kind.name
    f = Function(f"internal void @block_{name}({PRODUCT}, i1 %more, i1 %narrow, ptr %space)", COLD)
    f.choose(
        gemm_rows.takes(f, kind),
        lambda: f.do(f"call void @by_rows_{name}({PRODUCT}, ptr %space)"),
        lambda: f.do(f"call void @blocks_{name}({PRODUCT}, i1 %more, i1 %narrow, ptr %space)"),
    )
    return f.text()


def _blocks(kind: Kind) -> str:
    """The product by blocks of k and rows; blocks of A are packed at %space, if it is not null.

    With %narrow a row of C is one vector, and blocks of k are as long as the room for a panel: A is
    then read where it lies, which goes best along whole rows. What is repeated often is in the
    functions it calls.
    """
    tile, ty, name = kind.tile, kind.scalar, kind.name
    rows, panel = tile.rows, kind.panel
    f = Function(f"internal void @blocks_{name}({PRODUCT}, i1 %more, i1 %narrow, ptr %space)", COLD)
    most = 2 * tile.block_k + 16
    narrowest = most * tile.vectors - 8  # so many steps of one vector fill a panel
    packed_b = f(f"alloca [{most * panel} x {ty}], align 64")
    packed_row = f(f"alloca [{most * rows} x {ty}], align 64")
    must_pack = f.test("ne", "%csa", "1") if kind.pairs else "false"
    used = f.both(f.test("sgt", "%n", str(UNPACKED_COLUMNS)), f.test("sgt", "%k", str(FEW_STEPS)))
    large = f.test("sgt", f.mul("%m", "%k"), str(UNPACKED_BYTES // kind.bytes))
    sparse = f.both(f.test("ne", "%rsa", "1"), f.test("ne", "%csa", "1"))
    often = f.test("sgt", "%n", str(MANY_COLUMNS))
    apart = "false" if kind.pairs else crowded(f, kind, *(f"%{size}" for size in CROWDED))
    pays = f.either(f.both(used, f.either(f.either(large, often), sparse)), apart)
    roomy = f("icmp ne ptr %space, null")
    packing = f.either(must_pack, f.both(pays, roomy))
    packed_a = f.select(roomy, "%space", packed_row, "ptr")

    long = f.test("sle", "%k", str(LONG_BLOCKS))
    usual = f.select(long, str(most), str(tile.block_k))
    k_blocks = f.ceil_div("%k", f.select("%narrow", str(narrowest), usual))
    k_size = f.round_up(f.ceil_div("%k", k_blocks), 8)
    room = f.div(str(tile.block_bytes // kind.bytes), k_size)
    room = f.select(f.both(apart, f.negate(used)), f.min(room, str(CROWDED_ROWS)), room)
    most_rows = f.select(packing, f.sub(room, f.rem(room, str(rows))), str(ROWS_AT_ONCE))
    m_blocks = f.ceil_div("%m", most_rows)
    m_fair = f.round_up(f.ceil_div("%m", m_blocks), rows)
    m_size = f.select(f.both(packing, f.negate(roomy)), str(rows), m_fair)

    # Is a tile of C fetched while it is computed?
    far_c = _afar(f, kind, "%m", "%n")
    far = f.test("sge", "%k", f.select(far_c, str(FAR_STEPS), str(FEW_STEPS + 1)))

    # What is read where it lies and comes from afar is fetched before: no one foresees it.
    by_rows = f.test("eq", "%csa", "1")
    distance = f.select(by_rows, f.mul("%rsa", str(rows)), f.mul("%csa", str(STEPS_AHEAD)))
    ahead = f.select(f.both(_afar(f, kind, "%m", "%k"), f.negate(packing)), distance, "0")

    # Steps and strides of the kernel's A: packed, or where it lies.
    ars = f.select(packing, "1", "%rsa")
    aks = f.select(packing, str(rows), "%csa")

    with f.loop("0", "%k", k_size) as k0, f.loop("0", "%m", m_size) as i0:
        steps = f.min(k_size, f.sub("%k", k0))
        height = f.min(m_size, f.sub("%m", i0))
        more = f.either("%more", f.test("ne", k0, "0"))
        a_block = f.at(ty, "%a", f.add(f.mul(i0, "%rsa"), f.mul(k0, "%csa")))
        abreast = "0"
        if not kind.pairs:
            abreast = f.select(f.both(apart, packing), f.sub(height, f.rem(height, str(rows))), "0")
            f.do(
                f"call void @pack_abreast_{name}(ptr {a_block}, i64 %csa, i64 {abreast}, "
                f"i64 {steps}, ptr {packed_a})"
            )
        with f.when(packing), f.loop(abreast, height, str(rows)) as i:
            valid = f.min(str(rows), f.sub(height, i))
            arguments = (
                f"ptr {f.at(ty, a_block, f.mul(i, '%rsa'))}, i64 %rsa, i64 %csa, i64 {valid}, "
                f"i64 {steps}, ptr {f.at(ty, packed_a, f.mul(i, steps))}, i64 {rows}"
            )
            whole = partial(f.do, f"call void @pack_a_{name}({arguments})")
            pairs = partial(f.do, f"call void @pack_pairs_a_{name}({arguments})")
            if kind.pairs:
                f.choose(must_pack, pairs, whole)
            else:
                whole()
        a_start = f.select(packing, packed_a, a_block, "ptr")
        a_stride = f.select(packing, steps, "%rsa")
        few = f.test("sle", height, str(2 * rows))
        straight = "false" if kind.pairs else f.test("eq", "%csb", "1")
        _panels(
            f,
            kind,
            k0,
            i0,
            steps,
            height,
            more,
            a_start,
            a_stride,
            ars,
            aks,
            f.both(few, straight),
            far,
            ahead,
            packed_b,
        )
    return f.text()


def _panels(
    f: Function,
    kind: Kind,
    k0: str,
    i0: str,
    steps: str,
    height: str,
    more: str,
    a_start: str,
    a_stride: str,
    ars: str,
    aks: str,
    raw: str,
    far: str,
    ahead: str,
    packed_b: str,
) -> None:
    """Multiply one block of A with every panel of B, from left to right."""
    tile, ty, name = kind.tile, kind.scalar, kind.name
    rows, lanes = tile.rows, kind.lanes
    head, body, done = f.label("panel"), f.label("panel.body"), f.label("panel.done")
    start = f.block
    f.jump(head)
    f.open(head)
    f.do(f"%j = phi i64 [0, %{start}], [%j.next, %panel.end]")
    f.split(f.test("slt", "%j", "%n"), body, done)
    f.open(body)
    rest = f.sub("%n", "%j")
    vectors = f.ceil_div(rest, str(lanes))
    w = f.min(vectors, str(tile.vectors))
    if tile.vectors == 3:
        # Four vectors left are two and two: three and one would waste the narrow kernel.
        w = f.select(f.test("eq", vectors, "4"), "2", w)
    width = f.mul(w, str(lanes))
    columns = f.min(width, rest)
    whole = f.test("eq", width, columns)
    b_block = f.at(ty, "%b", f.add(f.mul(k0, "%rsb"), f.mul("%j", "%csb")))
    in_place = f.both(raw, whole)
    arguments = (
        f"ptr {b_block}, i64 %csb, i64 %rsb, i64 {columns}, i64 {steps}, "
        f"ptr {packed_b}, i64 {width}"
    )
    # The first rows of A pack a whole panel of B while they multiply it.
    by_kernel = "false"
    if not kind.pairs:
        full = f.both(whole, f.test("eq", w, str(tile.vectors)))
        by_kernel = f.both(f.both(full, f.negate(in_place)), f.test("eq", "%csb", "1"))

    c_panel = f.at(ty, "%c", f.add(f.mul(i0, "%ldc"), "%j"))

    def with_product() -> None:
        f.do(
            f"call void {kernel_name(kind, rows, tile.vectors, True)}(i64 {steps}, "
            f"ptr {a_start}, i64 {ars}, i64 {aks}, i64 {rows}, ptr {b_block}, i64 %rsb, "
            f"ptr {c_panel}, i64 %ldc, i64 {width}, i64 0, i64 0, i64 0, i1 {more}, i1 {far}, "
            f"i64 0, ptr {packed_b})"
        )

    def before() -> None:
        with f.when(f.negate(in_place)):
            f.do(f"call void @pack_b_{name}({arguments})")

    if kind.pairs:
        before()
    else:
        f.choose(by_kernel, with_product, before)
    first = f.select(by_kernel, str(rows), "0")
    b_start = f.select(in_place, b_block, packed_b, "ptr")
    ldb = f.select(in_place, "%rsb", width)
    f.do(
        f"call void @panel_{name}(i64 {steps}, ptr {a_start}, i64 {a_stride}, i64 {ars}, "
        f"i64 {aks}, ptr {b_start}, i64 {ldb}, ptr {c_panel}, i64 %ldc, i64 {first}, "
        f"i64 {height}, i64 {w}, i64 {columns}, i1 {more}, i1 {far}, i64 {ahead})"
    )
    f.jump("panel.end")
    f.open("panel.end")
    f.do(f"%j.next = add i64 %j, {width}")
    f.jump(head)
    f.open(done)
