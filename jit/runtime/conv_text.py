"""The LLVM text of convolutions: products whose operands are read by tables of offsets.

A convolution multiplies packed weights with windows of a padded image, without copying a window:
the element of step i for the place p of the image is x[p + steps[i]]. The gradient of the weights
multiplies windows with a packed matrix: element (r, step) is x[rows[r] + steps[step]].
Invariant: every element of a result is one chain of multiply-adds in the order of the steps (cut
as the number of steps says), so its bits do not depend on the tile or the thread it falls to.
"""

from itertools import product

from jit.runtime.gemm_text import (
    declarations,
    lane_mask,
    masked_load,
    masked_store,
    multiply_add,
    splat,
)
from jit.runtime.gemm_tile import Kind
from jit.runtime.writer import Function
from jit.vectors import transposed

PANEL = 8
"""Rows of a panel of packed weights, whatever the machine: (panels, steps, PANEL)."""
LANES = 16
"""Sums by dots run in so many lanes, in one vector or in several, whatever the machine."""
HEAVY = 48
"""Tiles of so many steps are worth moving a second time."""
DEPTH = 192
"""Steps of one block of the gradient of the weights."""


def conv_module(function: str, kind: Kind) -> str:
    """The module of ft_conv, ft_conv_windows or ft_conv_dots, of f32 or f64."""
    forms = {"ft_conv": _sweep, "ft_conv_windows": _windows, "ft_conv_dots": _dots}
    parts = forms[function.rpartition("_")[0]]
    return "\n\n".join([*parts(kind, function), declarations(kind)])


def _accumulate(f: Function, kind: Kind, cell: str, a: str, b: str) -> None:
    """%n<cell> = a * b + %s<cell>, fused where the machine can."""
    v = kind.vector(kind.lanes)
    if kind.tile.fused:
        fma = f"call {v} @llvm.fma.{kind.suffix(kind.lanes)}"
        f.do(f"%n{cell} = {fma}({v} {a}, {v} {b}, {v} %s{cell})")
    else:
        f.do(f"%n{cell} = fadd {v} {f(f'fmul {v} {a}, {b}')}, %s{cell}")


# -- the convolution ---------------------------------------------------------------------------


def _sweep(kind: Kind, function: str) -> list[str]:
    tile = kind.tile
    single = 8 if tile.width > 16 else 4
    shapes = [(tile.rows, w) for w in range(1, tile.vectors + 1)]
    kernels = [_sweep_kernel(kind, *shape) for shape in [*shapes, (1, single)]]
    inside = ", ".join(f"i64 {j * kind.lanes}, i64 {kind.lanes}" for j in range(single))
    table = f"@inside = internal constant [{2 * single} x i64] [{inside}]"
    outer = [_put_apart(kind), _put_lines(kind), _sweep_entry(kind, function, shapes, single)]
    return [table, *kernels, *outer]


def _sweep_kernel(kind: Kind, rows: int, vectors: int) -> str:
    """`rows` channels of the result at the places of `vectors` vectors, over %k >= 0 steps.

    %sources says where each vector begins in %x, %targets where it goes in %out and how many of
    its lanes count. %a holds PANEL weights for each step, %steps an offset into %x.
    """
    lanes, ty = kind.lanes, kind.scalar
    v = kind.vector(lanes)
    f = Function(
        f"internal void @sweep_{rows}x{vectors}(i64 %k, ptr noalias %a, ptr noalias %x, "
        "ptr noalias %steps, ptr noalias %sources, ptr noalias %targets, i64 %valid, "
        "ptr noalias %out, i64 %ldo)"
    )
    starts = [
        f.at(ty, "%x", f.load("i64", f.at("i64", "%sources", str(j)))) for j in range(vectors)
    ]
    cells = list(product(range(rows), range(vectors)))
    f.jump("head")
    f.open("head")
    f.do("%i = phi i64 [0, %entry], [%i.next, %body]")
    f.do("%row = phi ptr [%a, %entry], [%row.next, %body]")
    for r, j in cells:
        f.do(f"%s{r}.{j} = phi {v} [zeroinitializer, %entry], [%n{r}.{j}, %body]")
    f.split(f.test("slt", "%i", "%k"), "body", "end")
    f.open("body")
    offset = f.load("i64", f.at("i64", "%steps", "%i"))
    windows = [f.load(v, f.at(ty, start, offset), kind.bytes) for start in starts]
    for r in range(rows):
        weight = splat(f, kind, lanes, f.at(ty, "%row", str(r)))
        for j in range(vectors):
            _accumulate(f, kind, f"{r}.{j}", weight, windows[j])
    f.do("%i.next = add i64 %i, 1")
    f.do(f"%row.next = getelementptr {ty}, ptr %row, i64 {PANEL}")
    f.jump("head")
    f.open("end")
    numbers = [f.load("i64", f.at("i64", "%targets", str(n))) for n in range(2 * vectors)]
    targets = [f.at(ty, "%out", number) for number in numbers[::2]]
    masks = [lane_mask(f, lanes, count) for count in numbers[1::2]]
    whole = [f.test("eq", count, str(lanes)) for count in numbers[1::2]]

    def put(r: int, j: int) -> None:
        value, target = f"%s{r}.{j}", f.at(ty, targets[j], f.mul("%ldo", str(r)))
        f.choose(
            whole[j],
            lambda: f.store(v, value, target, kind.bytes),
            lambda: masked_store(f, kind, lanes, value, target, masks[j]),
        )

    for r in range(rows):
        with f.when(f.test("slt", str(r), "%valid")):
            for j in range(vectors):
                put(r, j)
    return f.text()


def _put_apart(kind: Kind) -> str:
    """Copy the lanes that count of a tile, to places %gap apart."""
    ty = kind.scalar
    f = Function(
        "internal void @put_apart(ptr noalias %tile, i64 %ldt, ptr noalias %targets, "
        "i64 %vectors, i64 %valid, ptr noalias %out, i64 %ldo, i64 %gap)"
    )
    with f.loop("0", "%valid") as r, f.loop("0", "%vectors") as j:
        entry = f.at("i64", "%targets", f.mul(j, "2"))
        target, count = f.load("i64", entry), f.load("i64", f.at("i64", entry, "1"))
        source = f.at(ty, "%tile", f.add(f.mul(r, "%ldt"), f.mul(j, str(kind.lanes))))
        row = f.at(ty, "%out", f.add(f.mul(r, "%ldo"), target))
        with f.loop("0", count) as lane:
            element = f.load(ty, f.at(ty, source, lane))
            f.store(ty, element, f.at(ty, row, f.mul(lane, "%gap")))
    return f.text()


def _put_lines(kind: Kind) -> str:
    """Copy the cells %begin .. %end - 1 of lines of %pitch cells, of which %width count."""
    lanes, ty = kind.lanes, kind.scalar
    v = kind.vector(lanes)
    f = Function(
        "internal void @put_lines(ptr noalias %tile, i64 %ldt, i64 %begin, i64 %end, "
        "i64 %pitch, i64 %width, i64 %valid, ptr noalias %out, i64 %ldo)"
    )
    with f.loop(f.div("%begin", "%pitch"), f.ceil_div("%end", "%pitch")) as line:
        cell = f.mul(line, "%pitch")
        first = f.max(cell, "%begin")
        many = f.sub(f.min(f.add(cell, "%width"), "%end"), first)
        source, target = f.sub(first, "%begin"), f.add(f.mul(line, "%width"), f.sub(first, cell))
        with f.loop("0", many, str(lanes)) as at:
            mask = lane_mask(f, lanes, f.sub(many, at))
            near, far = f.at(ty, "%tile", f.add(source, at)), f.at(ty, "%out", f.add(target, at))
            with f.loop("0", "%valid") as r:
                value = f.load(v, f.at(ty, near, f.mul(r, "%ldt")), kind.bytes)
                masked_store(f, kind, lanes, value, f.at(ty, far, f.mul(r, "%ldo")), mask)
    return f.text()


def _sweep_entry(kind: Kind, function: str, shapes: list[tuple[int, int]], single: int) -> str:
    """All channels of all groups at %rows rows of %width places; see conv.py.

    Rows that lie evenly in the copy and side by side in the result are one long row, where that
    takes fewer vectors and tiles take long enough to be moved twice.
    """
    lanes, ty = kind.lanes, kind.scalar
    f = Function(
        f"void @{function}(i64 %groups, i64 %m, i64 %k, ptr %a, ptr %x, i64 %apart, ptr %steps, "
        "i64 %rows, ptr %table, i64 %width, i64 %pitch, ptr %out, i64 %ldo, i64 %gap)"
    )
    height, vectors = shapes[-1]
    ldt = single * lanes
    sources = f(f"alloca [{single} x i64], align 64")
    targets = f(f"alloca [{2 * single} x i64], align 64")
    tile = f(f"alloca [{height * ldt + lanes} x {ty}], align 64")
    panels = f.ceil_div("%m", str(PANEL))
    rows = f.max("%rows", "0")
    chunks = f.ceil_div(f.max("%width", "0"), str(lanes))
    separate = f.mul(chunks, rows)
    cells = f.add(f.mul(f.sub(rows, "1"), "%pitch"), "%width")
    together = f.ceil_div(f.max(cells, "0"), str(lanes))
    heavy = f.both(f.test("sgt", "%pitch", "0"), f.test("sge", "%k", str(HEAVY)))
    flat = f.both(heavy, f.test("slt", together, separate))
    total = f.select(flat, together, separate)
    direct = f.both(f.test("eq", "%gap", "1"), f.negate(flat))
    base, bottom = f.load("i64", "%table"), f.load("i64", f.at("i64", "%table", "1"))

    def aim(j: int, at: str) -> None:
        """The source and the target of vector j of a tile, which is vector `at` of all."""

        def along() -> None:
            f.store("i64", f.add(base, f.mul(at, str(lanes))), f.at("i64", sources, str(j)))

        def by_rows() -> None:
            row = f.div(at, chunks)
            place = f.mul(f.sub(at, f.mul(row, chunks)), str(lanes))
            entry = f.at("i64", "%table", f.mul(row, "2"))
            target = f.add(f.load("i64", f.at("i64", entry, "1")), f.mul(place, "%gap"))
            f.store("i64", f.add(f.load("i64", entry), place), f.at("i64", sources, str(j)))
            f.store("i64", target, f.at("i64", targets, str(2 * j)))
            count = f.min(f.sub("%width", place), str(lanes))
            f.store("i64", count, f.at("i64", targets, str(2 * j + 1)))

        f.choose(flat, along, by_rows)

    def multiply(first: str, rows: int, vectors: int) -> None:
        """All channels at the places of one tile."""
        begin = f.mul(first, str(lanes))
        end = f.min(cells, f.add(begin, str(vectors * lanes)))
        with f.loop("0", "%groups") as group, f.loop("0", "%m", str(rows)) as channel:
            number = f.add(f.mul(group, panels), f.div(channel, str(PANEL)))
            panel = f.mul(f.mul(number, "%k"), str(PANEL))
            weights = f.at(ty, "%a", f.add(panel, f.rem(channel, str(PANEL))))
            valid = f.min(f.sub("%m", channel), str(rows))
            out = f.at(ty, "%out", f.mul(f.add(f.mul(group, "%m"), channel), "%ldo"))
            x = f.at(ty, "%x", f.mul(group, "%apart"))
            call = (
                f"call void @sweep_{rows}x{vectors}(i64 %k, ptr {weights}, ptr {x}, ptr %steps, "
                f"ptr {sources}, "
            )
            moved = f"ptr {tile}, i64 {ldt}"

            def move() -> None:
                f.do(f"{call}ptr @inside, i64 {valid}, {moved})")
                f.choose(
                    flat,
                    lambda: f.do(
                        f"call void @put_lines({moved}, i64 {begin}, i64 {end}, i64 %pitch, "
                        f"i64 %width, i64 {valid}, ptr {f.at(ty, out, bottom)}, i64 %ldo)"
                    ),
                    lambda: f.do(
                        f"call void @put_apart({moved}, ptr {targets}, i64 {vectors}, "
                        f"i64 {valid}, ptr {out}, i64 %ldo, i64 %gap)"
                    ),
                )

            f.choose(
                direct,
                lambda: f.do(f"{call}ptr {targets}, i64 {valid}, ptr {out}, i64 %ldo)"),
                move,
            )

    def many() -> None:
        rest = f.rem(total, str(vectors))
        whole = f.sub(total, rest)
        with f.loop("0", whole, str(vectors)) as first:
            for j in range(vectors):
                aim(j, f.add(first, str(j)))
            multiply(first, height, vectors)
        for some in range(1, vectors):
            with f.when(f.test("eq", rest, str(some))):
                for j in range(some):
                    aim(j, f.add(whole, str(j)))
                multiply(whole, height, some)

    def alone() -> None:
        last = f.sub(total, "1")
        with f.loop("0", total, str(single)) as first:
            for j in range(single):
                aim(j, f.min(f.add(first, str(j)), last))
            multiply(first, 1, single)

    f.choose(f.test("eq", "%m", "1"), alone, many)
    return f.text()


# -- windows times a matrix --------------------------------------------------------------------


def _windows(kind: Kind, function: str) -> list[str]:
    tile = kind.tile
    heights = (tile.rows, tile.rows // 2)
    kernels = [_windows_kernel(kind, rows, w + 1) for rows in heights for w in range(tile.vectors)]
    tables = [
        f"@windows_{rows} = internal constant [{tile.vectors} x ptr] ["
        + ", ".join(f"ptr @windows_{rows}x{w + 1}" for w in range(tile.vectors))
        + "]"
        for rows in heights
    ]
    return [*tables, _pack(kind), *kernels, _windows_entry(kind, function)]


def _pack(kind: Kind) -> str:
    """dst[step * %lanes + lane] = src[lane * %ld + step]; lanes from %valid on hold anything."""
    n, ty = min(kind.tile.rows, kind.lanes), kind.scalar
    v = kind.vector(n)
    f = Function(
        "internal void @pack_columns(ptr noalias %src, i64 %ld, i64 %valid, i64 %k, "
        "ptr noalias %dst, i64 %lanes)"
    )
    last = f.sub("%valid", "1")
    with f.loop("0", "%lanes", str(n)) as lane:
        sources = [
            f.at(ty, "%src", f.mul(f.min(f.add(lane, str(r)), last), "%ld")) for r in range(n)
        ]
        with f.loop("0", "%k", str(n)) as step:
            left = f.sub("%k", step)
            mask = lane_mask(f, n, left)
            rows = [masked_load(f, kind, n, f.at(ty, source, step), mask) for source in sources]
            target = f.at(ty, "%dst", f.add(f.mul(step, "%lanes"), lane))
            for r, row in enumerate(transposed(f, kind.scalar, rows, n)):
                f.store(v, row, f.at(ty, target, f.mul("%lanes", str(r))), kind.bytes)
    return f.text()


def _windows_kernel(kind: Kind, rows: int, w: int) -> str:
    """C (rows x w vectors) = or += windows times B, over %k >= 1 steps.

    Element (r, step) of the windows is %x[%rows[r] + %steps[step]]; B is packed.
    """
    lanes, ty = kind.lanes, kind.scalar
    v = kind.vector(lanes)
    f = Function(
        f"internal void @windows_{rows}x{w}(i64 %k, ptr noalias %x, ptr noalias %rows, "
        "i64 %valid, ptr noalias %steps, ptr noalias %b, ptr noalias %c, i64 %ldc, i1 %more)"
    )
    last = f.sub("%valid", "1")
    starts = [
        f.at(ty, "%x", f.load("i64", f.at("i64", "%rows", f.min(str(r), last))))
        for r in range(rows)
    ]
    cells = list(product(range(rows), range(w)))
    f.jump("step")
    f.open("step")
    f.do("%i = phi i64 [0, %entry], [%i.next, %step]")
    f.do("%row = phi ptr [%b, %entry], [%row.next, %step]")
    for r, j in cells:
        f.do(f"%s{r}.{j} = phi {v} [zeroinitializer, %entry], [%n{r}.{j}, %step]")
    offset = f.load("i64", f.at("i64", "%steps", "%i"))
    columns = [f.load(v, f.at(v, "%row", str(j)), kind.bytes) for j in range(w)]
    for r in range(rows):
        element = splat(f, kind, lanes, f.at(ty, starts[r], offset))
        for j in range(w):
            _accumulate(f, kind, f"{r}.{j}", element, columns[j])
    f.do("%i.next = add i64 %i, 1")
    f.do(f"%row.next = getelementptr {v}, ptr %row, i64 {w}")
    f.split(f.test("slt", "%i.next", "%k"), "step", "end")
    f.open("end")

    def put(adding: bool) -> None:
        for r in range(rows):
            with f.when(f.test("slt", str(r), "%valid")):
                for j in range(w):
                    cell = f.at(v, f.at(ty, "%c", f.mul("%ldc", str(r))), str(j))
                    value = f"%n{r}.{j}"
                    if adding:
                        value = f(f"fadd {v} {f.load(v, cell, kind.bytes)}, {value}")
                    f.store(v, value, cell, kind.bytes)

    f.choose("%more", lambda: put(True), lambda: put(False))
    return f.text()


def _windows_entry(kind: Kind, function: str) -> str:
    """C (m x n) = or += windows (m x k) times the transpose of W (n x k); see conv.SIGNATURES."""
    lanes, ty, tile = kind.lanes, kind.scalar, kind.tile
    f = Function(
        f"void @{function}(i64 %m, ptr %rows, i64 %k, ptr %steps, ptr %x, i64 %n, ptr %w, "
        "i64 %ldw, ptr %c, i64 %ldc, i64 %accumulate)"
    )
    packed = f(f"alloca [{(DEPTH + 8) * kind.panel} x {ty}], align 64")
    blocks = f.ceil_div("%k", str(DEPTH))
    size = f.max(f.round_up(f.ceil_div("%k", f.max(blocks, "1")), 8), "8")
    old = f.test("ne", "%accumulate", "0")
    panels = f.ceil_div("%n", str(kind.panel))
    with f.loop("0", "%k", size) as first:
        depth = f.min(size, f.sub("%k", first))
        more = f.either(old, f.test("ne", first, "0"))
        steps = f.at("i64", "%steps", first)
        with f.fold("0", panels, "1", [("i64", "0")]) as (_, (column,), set_column):
            rest = f.sub("%n", column)
            vectors = f.ceil_div(rest, str(lanes))
            w = f.min(vectors, str(tile.vectors))
            if tile.vectors == 3:
                w = f.select(f.test("eq", vectors, "4"), "2", w)
            width = f.mul(w, str(lanes))
            left = f.min(rest, width)
            source = f.at(ty, "%w", f.add(f.mul(column, "%ldw"), first))
            f.do(
                f"call void @pack_columns(ptr {source}, i64 %ldw, i64 {left}, i64 {depth}, "
                f"ptr {packed}, i64 {width})"
            )
            index = f.sub(w, "1")
            whole, half = (
                f.load("ptr", f.at("ptr", f"@windows_{rows}", index))
                for rows in (tile.rows, tile.rows // 2)
            )
            with f.loop("0", "%m", str(tile.rows)) as row:
                valid = f.sub("%m", row)
                few = f.test("sle", valid, str(tile.rows // 2))
                kernel = f.select(few, half, whole, "ptr")
                target = f.at(ty, "%c", f.add(f.mul(row, "%ldc"), column))
                f.do(
                    f"call void {kernel}(i64 {depth}, ptr %x, ptr {f.at('i64', '%rows', row)}, "
                    f"i64 {valid}, ptr {steps}, ptr {packed}, ptr {target}, i64 %ldc, i1 {more})"
                )
            set_column(f.add(column, width))
    return f.text()


# -- windows times rows, along the lanes --------------------------------------------------------


def _dots(kind: Kind, function: str) -> list[str]:
    many = kind.tile.width > 32
    shapes = [(8, 3), (4, 6), (1, 9)] if many else [(4, 3), (4, 3), (1, 6)]
    kernels = [_dots_kernel(kind, *shape) for shape in dict.fromkeys(shapes)]
    return [*kernels, _dots_entry(kind, function, shapes)]


def _dots_kernel(kind: Kind, rows: int, columns: int) -> str:
    """The sums of `columns` windows times `rows` rows of W, in the lanes from %part on.

    Of lines of %width places the last, short chunk of LANES is masked: what lies beyond a line
    is multiplied with nothing.
    """
    lanes, ty = kind.lanes, kind.scalar
    v = kind.vector(lanes)
    f = Function(
        f"internal void @dots_{rows}x{columns}(i64 %part, ptr noalias %starts, i64 %some, "
        "i64 %height, ptr noalias %lines, i64 %width, ptr noalias %x, i64 %valid, "
        "ptr noalias %w, i64 %ldw, ptr noalias %sums, i64 %lds, i1 %more)"
    )
    ends = f.sub("%some", "1"), f.sub("%valid", "1")
    windows = [
        f.at(
            ty, "%x", f.add(f.load("i64", f.at("i64", "%starts", f.min(str(j), ends[0]))), "%part")
        )
        for j in range(columns)
    ]
    factors = [
        f.at(ty, "%w", f.add(f.mul(f.min(str(r), ends[1]), "%ldw"), "%part")) for r in range(rows)
    ]
    cells = list(product(range(rows), range(columns)))
    whole = f.mul(f.div("%width", str(LANES)), str(LANES))
    rest = f.min(f.max(f.sub(f.sub("%width", whole), "%part"), "0"), str(lanes))
    mask = lane_mask(f, lanes, rest)

    def multiplied(sums: list[str], x: str, w: str, masked: bool) -> list[str]:
        def taken(pointer: str, offset: str) -> str:
            found = f.load(v, f.at(ty, pointer, offset), kind.bytes)
            if not masked:
                return found
            return f(f"select <{lanes} x i1> {mask}, {v} {found}, {v} zeroinitializer")

        ws = [taken(factor, w) for factor in factors]
        xs = [taken(window, x) for window in windows]
        return [
            multiply_add(f, kind, lanes, ws[r], xs[j], total)
            for (r, j), total in zip(cells, sums, strict=True)
        ]

    zeros = [(v, "zeroinitializer") for _ in cells]
    with f.fold("0", "%height", "1", zeros) as (y, totals, set_totals):
        line = f.load("i64", f.at("i64", "%lines", y))
        begin = f.mul(y, "%width")
        with f.fold("0", whole, str(LANES), [(v, t) for t in totals]) as (at, sums, set_sums):
            set_sums(*multiplied(sums, f.add(line, at), f.add(begin, at), False))
        some = f(f"zext i1 {f.test('sgt', rest, '0')} to i64")
        with f.fold("0", some, "1", [(v, t) for t in sums]) as (_, last, set_last):
            set_last(*multiplied(last, f.add(line, whole), f.add(begin, whole), True))
        set_totals(*last)
    for (r, j), total in zip(cells, totals, strict=True):
        valid = f.both(f.test("slt", str(r), "%valid"), f.test("slt", str(j), "%some"))
        with f.when(valid):
            cell = f.add(f.add(f.mul("%lds", str(j)), str(r * LANES)), "%part")
            target = f.at(ty, "%sums", cell)
            old = f.load(v, target, kind.bytes)
            kept = f(f"select i1 %more, {v} {old}, {v} zeroinitializer")
            f.store(v, f(f"fadd {v} {kept}, {total}"), target, kind.bytes)
    return f.text()


def _dots_entry(kind: Kind, function: str, shapes: list[tuple[int, int]]) -> str:
    """All windows times all rows; see conv.py."""
    ty = kind.scalar
    f = Function(
        f"void @{function}(i64 %m, ptr %rows, i64 %height, ptr %lines, i64 %width, ptr %x, i64 %n, "
        "ptr %w, i64 %ldw, ptr %sums, i64 %accumulate)"
    )
    more = f.test("ne", "%accumulate", "0")
    lds = f.mul("%n", str(LANES))

    def tiles(rows: int, columns: int) -> None:
        with (
            f.loop("0", "%m", str(columns)) as first,
            f.loop("0", "%n", str(rows)) as row,
            f.loop("0", str(LANES), str(kind.lanes)) as part,
        ):
            target = f.at(ty, "%sums", f.add(f.mul(first, lds), f.mul(row, str(LANES))))
            f.do(
                f"call void @dots_{rows}x{columns}(i64 {part}, "
                f"ptr {f.at('i64', '%rows', first)}, i64 {f.sub('%m', first)}, i64 %height, "
                f"ptr %lines, i64 %width, ptr %x, i64 {f.sub('%n', row)}, "
                f"ptr {f.at(ty, '%w', f.mul(row, '%ldw'))}, i64 %ldw, ptr {target}, i64 {lds}, "
                f"i1 {more})"
            )

    tall, low, single = shapes
    f.choose(
        f.test("eq", "%n", "1"),
        lambda: tiles(*single),
        lambda: f.choose(
            f.test("sle", "%n", str(low[0])), lambda: tiles(*low), lambda: tiles(*tall)
        ),
    )
    return f.text()


__all__ = ["DEPTH", "LANES", "PANEL", "conv_module"]
