"""The LLVM text of the matrix product's outer side: tasks for the thread pool, and the entries.

Invariant: tasks cut rows, columns and the batch but never k, so the result has the same bits for
every number of threads.
"""

from jit.runtime import gemm_block, gemm_text, gemv_text
from jit.runtime.gemm_block import PRODUCT, UNPACKED_COLUMNS
from jit.runtime.gemm_text import Kind, Tile
from jit.runtime.writer import Function

# Below this work one thread does it all; a second one costs up to 20 us to join in.
SERIAL_WORK = 3_000_000
SERIAL_ELEMENTS = 250_000

_JOB = (
    *("m", "n", "k", "a", "rsa", "csa", "b", "rsb", "csb", "c", "ldc", "sa", "sb", "sc"),
    *("more", "pairs", "vector", "tm", "tn"),
)
_SLOTS = {name: index for index, name in enumerate(_JOB)}


def gemm_module(name: str, tile: Tile) -> str:
    """The whole module for `name` (f32 or f64) and its complex type."""
    kind = Kind(name, tile)
    functions = [
        *gemm_text.parts(kind),
        *gemv_text.parts(kind),
        *gemm_block.parts(kind),
        _task(kind),
        _product(kind),
        _entry(kind),
        _complex_entry(kind),
        _zero(kind),
    ]
    return "\n\n".join([*functions, gemm_text.declarations(kind), _workspace(tile)])


def _workspace(tile: Tile) -> str:
    """A shelf of workspaces: taken by tasks, put back after, freed where the shelf is full."""
    return _WORKSPACE.replace("SHELF", "64").replace("BYTES", str(tile.block_bytes + 4096))


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


def _task(kind: Kind) -> str:
    """Run the tasks [lo, hi) of a job: part tn of columns, then tm of rows, then the batch."""
    ty, name = kind.scalar, kind.name
    f = Function(f"internal void @task_{name}(ptr %job, i64 %lo, i64 %hi)")
    field = {slot: _field(f, slot) for slot in _JOB}
    pairs, more = (f.test("ne", field[flag], "0") for flag in ("pairs", "more"))
    must_pack = f.both(pairs, f.test("ne", field["csa"], "1"))
    large = f.test("sgt", field["n"], str(UNPACKED_COLUMNS))
    matrix = f.test("eq", field["vector"], "0")
    needed = f.both(matrix, f.either(must_pack, large))
    holder = f("alloca ptr, align 8")
    f.store("ptr", "null", holder)
    with f.when(needed):
        f.store("ptr", f("call ptr @take_space()"), holder)
    base = f.load("ptr", holder)
    present = f("icmp ne ptr " + base + ", null")
    address = f(f"ptrtoint ptr {base} to i64")
    aligned = f(f"inttoptr i64 {f('and i64 ' + f.add(address, '63') + ', -64')} to ptr")
    space = f.select(present, aligned, "null", "ptr")
    parts = f.mul(field["tm"], field["tn"])
    with f.loop("%lo", "%hi") as t:
        item, part = f.div(t, parts), f.rem(t, parts)
        row, row_end = _share(f, f.div(part, field["tn"]), field["tm"], field["m"], kind.tile.rows)
        column, column_end = _share(
            f, f.rem(part, field["tn"]), field["tn"], field["n"], kind.panel
        )
        a = f.at(ty, field["a"], f.add(f.mul(item, field["sa"]), f.mul(row, field["rsa"])))
        b = f.at(ty, field["b"], f.add(f.mul(item, field["sb"]), f.mul(column, field["csb"])))
        c_offset = f.add(f.mul(item, field["sc"]), f.add(f.mul(row, field["ldc"]), column))
        c = f.at(ty, field["c"], c_offset)
        m, n = f.sub(row_end, row), f.sub(column_end, column)
        strides = {s: field[s] for s in ("rsa", "csa", "rsb", "csb", "ldc")}
        vector_call = f"(i64 {n}, i64 {field['k']}, ptr {a}, i64 {strides['csa']}, ptr {b}, "

        def product() -> None:
            with f.when(f.both(f.test("sgt", m, "0"), f.test("sgt", n, "0"))):
                f.do(
                    f"call void @block_{name}(i64 {m}, i64 {n}, i64 {field['k']}, ptr {a}, "
                    f"i64 {strides['rsa']}, i64 {strides['csa']}, ptr {b}, i64 {strides['rsb']}, "
                    f"i64 {strides['csb']}, ptr {c}, i64 {strides['ldc']}, i1 {more}, i1 {pairs}, "
                    f"ptr {space})"
                )

        def vector() -> None:
            f.choose(
                f.test("eq", field["vector"], "1"),
                lambda: f.do(
                    f"call void @sweep_{name}{vector_call}i64 {strides['rsb']}, ptr {c}, i1 {more})"
                ),
                lambda: f.do(
                    f"call void @dots_{name}{vector_call}i64 {strides['csb']}, ptr {c}, i1 {more})"
                ),
            )

        f.choose(matrix, product, vector)
    with f.when(present):
        f.do(f"call void @give_space(ptr {base})")
    return f.text()


def _product(kind: Kind) -> str:
    """Choose a grid of tasks and run it.

    %vector is 0 for a matrix product, 1 for a sweep and 2 for dots. Counts and strides are of
    reals; with %pairs some strides are of complex elements, as `_complex_entry` says.
    """
    name = kind.name
    f = Function(
        f"internal void @product_{name}({PRODUCT}, i64 %batch, i64 %sa, i64 %sb, i64 %sc, "
        "i1 %more, i1 %pairs, i64 %vector)"
    )
    job = f(f"alloca [{len(_JOB)} x i64], align 16")
    flags = {"more": f("zext i1 %more to i64"), "pairs": f("zext i1 %pairs to i64")}

    matrix = f.test("eq", "%vector", "0")
    cells = f.mul(f.mul("%k", "%n"), "%batch")
    work = f.select(matrix, f.mul(f.mul("%m", cells), "2"), cells)
    limit = f.select(matrix, str(SERIAL_WORK), str(SERIAL_ELEMENTS))
    threads = f("call i64 @ft_pool_size()")
    factor_2 = f.select(f.test("slt", work, "1000000000"), "2", "4")
    factor = f.select(f.test("slt", work, "100000000"), "1", factor_2)
    shared = f.mul(threads, factor)
    serial = f.either(f.test("slt", work, limit), f.test("slt", threads, "2"))
    tasks = f.select(serial, "1", shared)

    # Where the batch alone does not give enough tasks, cut each product by factors of two, then by
    # what is left, always along the side that is longer.
    wanted = f.ceil_div(tasks, "%batch")
    units_m = f.ceil_div("%m", str(kind.tile.rows))
    units_n = f.ceil_div("%n", str(kind.panel))
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
    taller = f.test("sge", f.mul("%m", "%tn"), f.mul("%n", "%tm"))
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
    f.choose(
        f.test("sge", grain, total),
        lambda: f.do(f"call void @task_{name}(ptr {job}, i64 0, i64 {total})"),
        lambda: f.do(
            f"call void @ft_parallel_for(ptr @task_{name}, ptr {job}, i64 {total}, i64 {grain})"
        ),
    )
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


def _entry(kind: Kind) -> str:
    """The real entry. A product with a vector becomes a row times a matrix."""
    f = Function(f"void @ft_gemm_{kind.name}({_ENTRY})")
    more = _guarded(f, kind, 1)
    dense = f.either(f.test("eq", "%ldc", "1"), f.test("eq", "%m", "1"))
    turn = f.both(f.test("eq", "%n", "1"), dense)
    row = f.either(turn, f.test("eq", "%m", "1"))
    # The matrix of the vector product, as (rows along k, columns along the result).
    along_k, along_n = f.select(turn, "%csa", "%rsb"), f.select(turn, "%rsa", "%csb")
    size = f.select(turn, "%m", "%n")
    single = f.test("eq", size, "1")
    steps = f.test("eq", along_k, "1")
    columns = f.test("eq", along_n, "1")
    as_dots = f.both(steps, f.either(single, f.negate(columns)))
    method = f.select(as_dots, "2", f.select(columns, "1", "0"))
    vector = f.select(row, method, "0")
    turned = f.both(turn, f.test("ne", vector, "0"))

    def pick(then: str, other: str, ty: str = "i64") -> str:
        return f.select(turned, then, other, ty)

    f.do(
        f"call void @product_{kind.name}(i64 {pick('1', '%m')}, i64 {pick('%m', '%n')}, i64 %k, "
        f"ptr {pick('%b', '%a', 'ptr')}, i64 {pick('1', '%rsa')}, i64 {pick('%rsb', '%csa')}, "
        f"ptr {pick('%a', '%b', 'ptr')}, i64 {pick('%csa', '%rsb')}, i64 {pick('%rsa', '%csb')}, "
        f"ptr %c, i64 {pick('1', '%ldc')}, i64 %batch, i64 {pick('%sb', '%sa')}, "
        f"i64 {pick('%sa', '%sb')}, i64 %sc, i1 {more}, i1 false, i64 {vector})"
    )
    return f.text()


def _complex_entry(kind: Kind) -> str:
    """The complex entry: twice the columns and steps; rsa, ldc and the batch strides count reals,
    the others stay in complex elements, since columns and steps of B and steps of A are doubled."""
    name = "c64" if kind.name == "f32" else "c128"
    f = Function(f"void @ft_gemm_{name}({_ENTRY})")
    more = _guarded(f, kind, 2)
    twice = {s: f.mul(f"%{s}", "2") for s in ("n", "k", "rsa", "ldc", "sa", "sb", "sc")}
    f.do(
        f"call void @product_{kind.name}(i64 %m, i64 {twice['n']}, i64 {twice['k']}, ptr %a, "
        f"i64 {twice['rsa']}, i64 %csa, ptr %b, i64 %rsb, i64 %csb, ptr %c, i64 {twice['ldc']}, "
        f"i64 %batch, i64 {twice['sa']}, i64 {twice['sb']}, i64 {twice['sc']}, i1 {more}, i1 true, "
        "i64 0)"
    )
    return f.text()


def _zero(kind: Kind) -> str:
    """C = 0, for k = 0."""
    f = Function(
        f"internal void @zero_{kind.name}(i64 %m, i64 %n, ptr %c, i64 %ldc, i64 %batch, i64 %sc)"
    )
    bytes_of_row = f.mul("%n", str(kind.bytes))
    with f.loop("0", "%batch") as item, f.loop("0", "%m") as i:
        row = f.at(kind.scalar, "%c", f.add(f.mul(item, "%sc"), f.mul(i, "%ldc")))
        f.do(f"call void @llvm.memset.p0.i64(ptr {row}, i8 0, i64 {bytes_of_row}, i1 false)")
    return f.text()


_WORKSPACE = """
@shelf = internal global [SHELF x ptr] zeroinitializer, align 64

define internal ptr @take_space() nounwind {
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

define internal void @give_space(ptr %space) nounwind {
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
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare i64 @ft_pool_size()
declare void @ft_parallel_for(ptr, ptr, i64, i64)
"""
