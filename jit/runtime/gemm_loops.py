"""The LLVM text of the products' outer side: tasks for the thread pool, and the entries.

Invariant: tasks cut rows, columns and the batch, and k only where and as the sizes alone say, so
the result has the same bits for every number of threads.
"""

from collections.abc import Callable

from jit.names import COLD
from jit.runtime import gemm_block, gemm_text, gemv_text
from jit.runtime.gemm_block import CROWDED, PRODUCT, UNPACKED_COLUMNS
from jit.runtime.gemm_tile import Kind, Tile
from jit.runtime.writer import Function

# Below this work one thread does it all. Up to HOT times as much is shared with threads that are
# awake, since waking one takes up to 20 us.
SERIAL_WORK = 1_000_000
SERIAL_ELEMENTS = 100_000
HOT = 10
# A result of so few elements gives few tasks: from so many steps and so much work on, the steps are
# cut into parts too.
DEEP_ELEMENTS = 1024
DEEP_STEPS = 8192
DEEP_WORK = 2 * SERIAL_WORK
DEEP_VECTOR_WORK = 2 * SERIAL_ELEMENTS
DEEP_PARTS = 8

_JOB = (
    *("m", "n", "k", "a", "rsa", "csa", "b", "rsb", "csb", "c", "ldc", "sa", "sb", "sc"),
    *("more", "dots", "tm", "tn"),
)
_SLOTS = {name: index for index, name in enumerate(_JOB)}


def gemm_module(function: str, tile: Tile) -> str:
    """The module of ft_gemm_<f32, f64, c64 or c128> or ft_gemv_<f32 or f64>."""
    form, _, element = function.rpartition("_")
    kind = Kind({"c64": "f32", "c128": "f64"}.get(element, element), tile, element[0] == "c")
    if form == "ft_gemv":
        functions = [*gemv_text.parts(kind), _vector_task(kind), _grid(kind, True)]
        functions += [_product(kind, True), _vector_entry(kind, function)]
    else:
        functions = [*gemm_text.parts(kind), *gemm_block.parts(kind), _task(kind)]
        functions += [_grid(kind, False), _product(kind, False), _entry(kind, function)]
        functions += [_workspace(tile)]
    return "\n\n".join(
        [
            *functions,
            _deep(kind),
            _sum_of_parts(kind),
            _zero(kind),
            gemm_text.declarations(kind, gemv_text.lengths(kind)),
            _DECLARATIONS,
        ]
    )


def _workspace(tile: Tile) -> str:
    """A shelf of workspaces: taken by tasks, put back after, freed where the shelf is full."""
    text = _WORKSPACE.replace("SHELF", "64").replace("BYTES", str(tile.block_bytes + 4096))
    return text.replace("COLD", COLD)


def _field(f: Function, name: str) -> str:
    """The field `name` of the job %job."""
    pointer = f.at("i64", "%job", str(_SLOTS[name]))
    return f.load("ptr" if name in ("a", "b", "c") else "i64", pointer)


def _share(f: Function, index: str, count: str, size: str, unit: int) -> tuple[str, str]:
    """Part `index` of `count` of a length, cut at multiples of `unit`: its start and its stop."""
    units = f.ceil_div(size, str(unit))
    edges: list[str] = []
    for which in (index, f.add(index, "1")):
        edges.append(f.min(size, f.mul(f.div(f.mul(units, which), count), str(unit))))
    return edges[0], edges[1]


def _tasks(f: Function, kind: Kind, field: dict[str, str], run: Callable[..., None]) -> None:
    """run(m, n, a, b, c) for the tasks [%lo, %hi) of a job that are not empty.

    Task t is a part of the rows, of tm, then of the columns, of tn, then of the batch. The last
    parts, which are the longest, come first: threads then stop at about the same time.
    """
    ty = kind.scalar
    parts = f.mul(field["tm"], field["tn"])
    with f.loop("%lo", "%hi") as t:
        item = f.div(t, parts)
        part = f.sub(f.sub(parts, "1"), f.rem(t, parts))
        of_rows, of_columns = f.rem(part, field["tm"]), f.div(part, field["tm"])
        row, row_end = _share(f, of_rows, field["tm"], field["m"], kind.tile.rows)
        column, column_end = _share(f, of_columns, field["tn"], field["n"], kind.lanes)
        a = f.at(ty, field["a"], f.add(f.mul(item, field["sa"]), f.mul(row, field["rsa"])))
        b = f.at(ty, field["b"], f.add(f.mul(item, field["sb"]), f.mul(column, field["csb"])))
        c_offset = f.add(f.mul(item, field["sc"]), f.add(f.mul(row, field["ldc"]), column))
        c = f.at(ty, field["c"], c_offset)
        m, n = f.sub(row_end, row), f.sub(column_end, column)
        with f.when(f.both(f.test("sgt", m, "0"), f.test("sgt", n, "0"))):
            run(m, n, a, b, c)


def _task(kind: Kind) -> str:
    """Run the tasks [lo, hi) of a job, in one workspace."""
    f = Function(f"internal void @task_{kind.name}(ptr %job, i64 %lo, i64 %hi)", COLD)
    field = {slot: _field(f, slot) for slot in _JOB}
    more = f.test("ne", field["more"], "0")
    # Of the whole product, so that k is cut alike in all tasks; pairs have their A packed.
    narrow = "false" if kind.pairs else f.test("sle", field["n"], str(kind.lanes))
    needed = f.test("sgt", field["n"], str(UNPACKED_COLUMNS))
    if kind.pairs:
        needed = f.either(needed, f.test("ne", field["csa"], "1"))
    else:
        needed = f.either(needed, gemm_block.crowded(f, kind, *(field[s] for s in CROWDED)))
    holder = f("alloca ptr, align 8")
    f.store("ptr", "null", holder)
    with f.when(needed):
        f.store("ptr", f("call ptr @take_space()"), holder)
    base = f.load("ptr", holder)
    present = f("icmp ne ptr " + base + ", null")
    address = f(f"ptrtoint ptr {base} to i64")
    aligned = f(f"inttoptr i64 {f('and i64 ' + f.add(address, '63') + ', -64')} to ptr")
    space = f.select(present, aligned, "null", "ptr")

    def block(m: str, n: str, a: str, b: str, c: str) -> None:
        f.do(
            f"call void @block_{kind.name}(i64 {m}, i64 {n}, i64 {field['k']}, ptr {a}, "
            f"i64 {field['rsa']}, i64 {field['csa']}, ptr {b}, i64 {field['rsb']}, "
            f"i64 {field['csb']}, ptr {c}, i64 {field['ldc']}, i1 {more}, i1 {narrow}, "
            f"ptr {space})"
        )

    _tasks(f, kind, field, block)
    with f.when(present):
        f.do(f"call void @give_space(ptr {base})")
    return f.text()


def _vector_task(kind: Kind) -> str:
    """The same for a row times matrices, by dots or by sweeps."""
    f = Function(f"internal void @task_{kind.name}(ptr %job, i64 %lo, i64 %hi)", COLD)
    field = {slot: _field(f, slot) for slot in _JOB}
    more, dots = (f.test("ne", field[flag], "0") for flag in ("more", "dots"))

    def vector(m: str, n: str, a: str, b: str, c: str) -> None:
        call = f"(i64 {n}, i64 {field['k']}, ptr {a}, i64 {field['csa']}, ptr {b}, "
        rest = f", ptr {c}, i1 {more})"
        f.choose(
            dots,
            lambda: f.do(f"call void @dots_{kind.name}{call}i64 {field['csb']}{rest}"),
            lambda: f.do(f"call void @sweep_{kind.name}{call}i64 {field['rsb']}{rest}"),
        )

    _tasks(f, kind, field, vector)
    return f.text()


# Of what is called for a product. Counts and strides are of reals; for complex ones see `_entry`.
_INNER = f"{PRODUCT}, i64 %batch, i64 %sa, i64 %sb, i64 %sc, i1 %more, i1 %dots"


def _grid(kind: Kind, vector: bool) -> str:
    """Choose a grid of tasks and run it. A vector product has one row, and %dots or sweeps."""
    name = kind.name
    f = Function(f"internal void @grid_{name}({_INNER})", COLD)
    job = f(f"alloca [{len(_JOB)} x i64], align 16")
    flags = {"more": f("zext i1 %more to i64"), "dots": f("zext i1 %dots to i64")}

    cells = f.mul(f.mul("%k", "%n"), "%batch")
    work = cells if vector else f.mul(f.mul("%m", cells), "2")
    limit = str(SERIAL_ELEMENTS if vector else SERIAL_WORK)
    threads = f("call i64 @ft_pool_size()")
    factor_2 = f.select(f.test("slt", work, "1000000000"), "2", "4")
    factor = f.select(f.test("slt", work, "100000000"), "1", factor_2)
    shared = f.mul(threads, factor)
    serial = f.either(f.test("slt", work, limit), f.test("slt", threads, "2"))
    tasks = f.select(serial, "1", shared)

    # Where the batch alone does not give enough tasks, cut each product by factors of two, then by
    # what is left, always along the side that is longer; rows rather than columns, since every part
    # of the columns packs A again.
    wanted = f.ceil_div(tasks, "%batch")
    units_m = f.ceil_div("%m", str(kind.tile.rows))
    units_n = f.ceil_div("%n", str(kind.lanes))
    head, body, done = f.label("cut"), f.label("cut.body"), f.label("cut.done")
    start = f.block
    f.jump(head)
    f.open(head)
    f.do(f"%rest = phi i64 [{wanted}, %{start}], [%rest.next, %{body}]")
    f.do(f"%tm = phi i64 [1, %{start}], [%tm.next, %{body}]")
    f.do(f"%tn = phi i64 [1, %{start}], [%tn.next, %{body}]")
    f.split(f.test("sgt", "%rest", "1"), body, done)
    f.open(body)
    even = f.test("eq", f.rem("%rest", "2"), "0")
    factor = f.select(even, "2", "%rest")
    f.do(f"%rest.next = udiv i64 %rest, {factor}")
    taller = f.test("sge", f.mul(f.mul("%m", "2"), "%tn"), f.mul("%n", "%tm"))
    f.do(f"%tm.next = select i1 {taller}, i64 {f.mul('%tm', factor)}, i64 %tm")
    f.do(f"%tn.next = select i1 {taller}, i64 %tn, i64 {f.mul('%tn', factor)}")
    f.jump(head)
    f.open(done)
    tm, tn = f.min("%tm", units_m), f.min("%tn", units_n)
    total = f.mul("%batch", f.mul(tm, tn))
    grain = f.ceil_div(total, tasks)

    for slot, index in _SLOTS.items():
        value = {"tm": tm, "tn": tn, **flags}.get(slot, f"%{slot}")
        kind_of = "ptr" if slot in ("a", "b", "c") else "i64"
        f.store(kind_of, value, f.at("i64", job, str(index)))
    hot = f.test("slt", work, str(HOT * (SERIAL_ELEMENTS if vector else SERIAL_WORK)))
    run = f.select(hot, "@ft_parallel_hot", "@ft_parallel_for", "ptr")
    f.choose(
        f.test("sge", grain, total),
        lambda: f.do(f"call void @task_{name}(ptr {job}, i64 0, i64 {total})"),
        lambda: f.do(f"call void {run}(ptr @task_{name}, ptr {job}, i64 {total}, i64 {grain})"),
    )
    return f.text()


def _product(kind: Kind, vector: bool) -> str:
    """The product as it is, or in parts of its steps."""
    f = Function(f"internal void @product_{kind.name}({_INNER})", COLD)
    elements = f.mul("%m", "%n")
    work = f.mul(elements, f.mul("%k", "1" if vector else "2"))
    small = f.test("sle", elements, str(DEEP_ELEMENTS))
    long = f.test("sge", "%k", str(DEEP_STEPS))
    pays = f.test("sge", work, str(DEEP_VECTOR_WORK if vector else DEEP_WORK))
    f.choose(
        f.both(f.both(small, long), pays),
        lambda: f.do(f"call void @deep_{kind.name}({_INNER})"),
        lambda: f.do(f"call void @grid_{kind.name}({_INNER})"),
    )
    return f.text()


def _deep(kind: Kind) -> str:
    """Parts of k as products of a batch, then their sum, then the steps that are left."""
    name, ty = kind.name, kind.scalar
    f = Function(f"internal void @deep_{name}({_INNER})", COLD)
    parts = f(f"alloca [{DEEP_PARTS * DEEP_ELEMENTS} x {ty}], align 64")
    size = f.mul("%m", "%n")
    steps = f.mul(f.div("%k", str(8 * DEEP_PARTS)), "8")
    along_a, along_b = f.mul(steps, "%csa"), f.mul(steps, "%rsb")
    done = f.mul(steps, str(DEEP_PARTS))
    rest = f.sub("%k", done)
    with f.loop("0", "%batch") as item:
        a, b, c = (f.at(ty, f"%{x}", f.mul(item, f"%s{x}")) for x in "abc")
        f.do(
            f"call void @grid_{name}(i64 %m, i64 %n, i64 {steps}, ptr {a}, i64 %rsa, i64 %csa, "
            f"ptr {b}, i64 %rsb, i64 %csb, ptr {parts}, i64 %n, i64 {DEEP_PARTS}, "
            f"i64 {along_a}, i64 {along_b}, i64 {size}, i1 false, i1 %dots)"
        )
        f.do(f"call void @sum_{name}(i64 %m, i64 %n, ptr {parts}, ptr {c}, i64 %ldc, i1 %more)")
        with f.when(f.test("sgt", rest, "0")):
            last_a = f.at(ty, a, f.mul(along_a, str(DEEP_PARTS)))
            last_b = f.at(ty, b, f.mul(along_b, str(DEEP_PARTS)))
            f.do(
                f"call void @grid_{name}(i64 %m, i64 %n, i64 {rest}, ptr {last_a}, i64 %rsa, "
                f"i64 %csa, ptr {last_b}, i64 %rsb, i64 %csb, ptr {c}, i64 %ldc, i64 1, i64 0, "
                "i64 0, i64 0, i1 true, i1 %dots)"
            )
    return f.text()


def _sum_of_parts(kind: Kind) -> str:
    """C = (C, with %more) + the first part + the second and so on, each %m x %n and dense."""
    ty = kind.scalar
    f = Function(
        f"internal void @sum_{kind.name}(i64 %m, i64 %n, ptr %parts, ptr %c, i64 %ldc, i1 %more)",
        COLD,
    )
    size = f.mul("%m", "%n")
    with f.loop("0", "%m") as i, f.loop("0", "%n") as j:
        cell = f.at(ty, "%c", f.add(f.mul(i, "%ldc"), j))
        place = f.at(ty, "%parts", f.add(f.mul(i, "%n"), j))
        values = [f.load(ty, f.at(ty, place, f.mul(size, str(part)))) for part in range(DEEP_PARTS)]
        added = f(f"fadd {ty} {f.load(ty, cell)}, {values[0]}")
        total = f.select("%more", added, values[0], ty)
        for value in values[1:]:
            total = f(f"fadd {ty} {total}, {value}")
        f.store(ty, total, cell)
    return f.text()


_ENTRY = f"{PRODUCT}, i64 %batch, i64 %sa, i64 %sb, i64 %sc, i64 %accumulate"


def _guarded(f: Function, kind: Kind, scale: int) -> str:
    """Return at once from an empty product, zero C for k = 0; gives the flag of accumulation."""
    more = f.test("ne", "%accumulate", "0")
    least = f.min(f.min("%m", "%n"), "%batch")
    out, full, empty, work = (f.label(hint) for hint in ("out", "full", "empty", "work"))
    f.split(f.test("sgt", least, "0"), full, out)
    f.open(out)
    f.do("ret void")
    f.open(full)
    f.split(f.test("sgt", "%k", "0"), work, empty)
    f.open(empty)
    with f.when(f.negate(more)):
        sizes = [f.mul(size, str(scale)) for size in ("%n", "%ldc", "%sc")]
        f.do(
            f"call void @zero_{kind.name}(i64 %m, i64 {sizes[0]}, ptr %c, i64 {sizes[1]}, "
            f"i64 %batch, i64 {sizes[2]})"
        )
    f.do("ret void")
    f.open(work)
    return more


def _entry(kind: Kind, function: str) -> str:
    """The entry of matrix products.

    Complex ones have twice the columns and steps; rsa, ldc and the batch strides then count reals,
    the others stay in complex elements, since columns and steps of B and steps of A are doubled.
    """
    f = Function(f"void @{function}({_ENTRY})", COLD)
    doubled = ("n", "k", "rsa", "ldc", "sa", "sb", "sc") if kind.pairs else ()
    more = _guarded(f, kind, 2 if kind.pairs else 1)
    of = {slot: f.mul(f"%{slot}", "2") if slot in doubled else f"%{slot}" for slot in _SLOTS}
    f.do(
        f"call void @product_{kind.name}(i64 %m, i64 {of['n']}, i64 {of['k']}, ptr %a, "
        f"i64 {of['rsa']}, i64 %csa, ptr %b, i64 %rsb, i64 %csb, ptr %c, i64 {of['ldc']}, "
        f"i64 %batch, i64 {of['sa']}, i64 {of['sb']}, i64 {of['sc']}, i1 {more}, i1 false)"
    )
    return f.text()


def _vector_entry(kind: Kind, function: str) -> str:
    """The entry of products with a vector, each as a row times a matrix."""
    f = Function(f"void @{function}({_ENTRY})", COLD)
    more = _guarded(f, kind, 1)
    dense = f.either(f.test("eq", "%ldc", "1"), f.test("eq", "%m", "1"))
    turn = f.both(f.test("eq", "%n", "1"), dense)

    def pick(then: str, other: str, ty: str = "i64") -> str:
        return f.select(turn, then, other, ty)

    # The matrix, as (rows along k, columns along the result): one of them has unit stride.
    along_k, along_n, size = pick("%csa", "%rsb"), pick("%rsa", "%csb"), pick("%m", "%n")
    columns = f.both(f.test("eq", along_n, "1"), f.test("ne", size, "1"))
    dots = f.both(f.test("eq", along_k, "1"), f.negate(columns))
    f.do(
        f"call void @product_{kind.name}(i64 1, i64 {size}, i64 %k, "
        f"ptr {pick('%b', '%a', 'ptr')}, i64 1, i64 {pick('%rsb', '%csa')}, "
        f"ptr {pick('%a', '%b', 'ptr')}, i64 {along_k}, i64 {along_n}, "
        f"ptr %c, i64 {pick('1', '%ldc')}, i64 %batch, i64 {pick('%sb', '%sa')}, "
        f"i64 {pick('%sa', '%sb')}, i64 %sc, i1 {more}, i1 {dots})"
    )
    return f.text()


def _zero(kind: Kind) -> str:
    """C = 0, for k = 0."""
    f = Function(
        f"internal void @zero_{kind.name}(i64 %m, i64 %n, ptr %c, i64 %ldc, i64 %batch, i64 %sc)",
        COLD,
    )
    bytes_of_row = f.mul("%n", str(kind.bytes))
    with f.loop("0", "%batch") as item, f.loop("0", "%m") as i:
        row = f.at(kind.scalar, "%c", f.add(f.mul(item, "%sc"), f.mul(i, "%ldc")))
        f.do(f"call void @llvm.memset.p0.i64(ptr {row}, i8 0, i64 {bytes_of_row}, i1 false)")
    return f.text()


_WORKSPACE = """
@shelf = internal global [SHELF x ptr] zeroinitializer, align 64

define internal ptr @take_space() COLD {
entry:
  br label %look
look:
  %i = phi i64 [0, %entry], [%next, %empty]
  %slot = getelementptr ptr, ptr @shelf, i64 %i
  %seen = load atomic ptr, ptr %slot monotonic, align 8
  %nothing = icmp eq ptr %seen, null
  br i1 %nothing, label %empty, label %try
try:
  %taken = atomicrmw xchg ptr %slot, ptr null acquire, align 8
  %lost = icmp eq ptr %taken, null
  br i1 %lost, label %empty, label %found
found:
  ret ptr %taken
empty:
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, SHELF
  br i1 %more, label %look, label %make
make:
  %fresh = call ptr @malloc(i64 BYTES)
  ret ptr %fresh
}

define internal void @give_space(ptr %space) COLD {
entry:
  br label %look
look:
  %i = phi i64 [0, %entry], [%next, %full]
  %slot = getelementptr ptr, ptr @shelf, i64 %i
  %pair = cmpxchg ptr %slot, ptr null, ptr %space release monotonic, align 8
  %put = extractvalue { ptr, i1 } %pair, 1
  br i1 %put, label %out, label %full
full:
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, SHELF
  br i1 %more, label %look, label %drop
drop:
  call void @free(ptr %space)
  br label %out
out:
  ret void
}

declare ptr @malloc(i64)
declare void @free(ptr)
"""

_DECLARATIONS = """
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare i64 @ft_pool_size()
declare void @ft_parallel_for(ptr, ptr, i64, i64)
declare void @ft_parallel_hot(ptr, ptr, i64, i64)
"""
