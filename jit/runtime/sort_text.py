"""The LLVM text of a stable merge sort, of values and of indices by key, on the thread pool.

Blocks are sorted on their own, then each level of merging is cut into pieces of equal output.
Invariant: equal elements keep their order, so the result does not depend on pieces or threads.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from jit.runtime.sort_rows import Element, Table, ordered_bits
from jit.runtime.writer import Function

# Rows per piece of a large sort: two sides of key and index fit the second cache.
BLOCK = 8192


def sort_module(name: str) -> str:
    """ft_sort_<name>, with everything it needs."""
    element = Element(name)
    return "\n\n".join([*sorter(Table((element,))), _sort(element), _DECLARATIONS])


def argsort_module(name: str) -> str:
    """ft_argsort_<name>, with everything it needs."""
    element = Element(name)
    table = Table((element.key(), Element("i64")))
    return "\n\n".join([*sorter(table), _argsort(element), _DECLARATIONS])


def library_sort_module(name: str) -> str:
    """ft_sort_<name> on top of two functions of NumPy's, the second for where the first fails.

    They are `i32 f(ptr values, i64 n, ptr array)`; the array only tells the type.
    """
    return f"""
define void @ft_sort_{name}(ptr %values, i64 %n, ptr %scratch) nounwind {{
entry:
  %failed = call i32 @library_sort(ptr %values, i64 %n, ptr @library_array)
  %again = icmp ne i32 %failed, 0
  br i1 %again, label %other, label %out
other:
  %result = call i32 @library_sort_in_place(ptr %values, i64 %n, ptr @library_array)
  br label %out
out:
  ret void
}}
@library_array = external global i8
declare i32 @library_sort(ptr, i64, ptr)
declare i32 @library_sort_in_place(ptr, i64, ptr)
"""


_DECLARATIONS = """
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @ft_parallel_for(ptr, ptr, i64, i64)
"""


def sorter(table: Table) -> list[str]:
    """@sort of the rows of a table, and what it calls."""
    return [_four(table), _merge(table), _block(table), _split(table), _level(table), _start(table)]


def _four(table: Table) -> str:
    """Sort rows [lo, hi) in place, at most four: a network for four, insertion for fewer."""
    f = Function(f"internal void @four({table.arguments('a')}, i64 %lo, i64 %hi)")
    bases = table.pointers("a")

    def network() -> None:
        rows = [table.read(f, bases, f.add("%lo", str(i))) for i in range(4)]

        def ordered(
            x: list[list[str]], y: list[list[str]]
        ) -> tuple[list[list[str]], list[list[str]]]:
            swap = table.less(f, y, x)
            return table.pick(f, swap, y, x), table.pick(f, swap, x, y)

        a, b = ordered(rows[0], rows[1])
        c, d = ordered(rows[2], rows[3])
        second_first = table.less(f, c, a)
        first_last = table.less(f, d, b)
        least = table.pick(f, second_first, c, a)
        most = table.pick(f, first_last, b, d)
        # The two in between, the one that stood further left first.
        left = table.pick(f, second_first, a, table.pick(f, first_last, c, b))
        right = table.pick(f, first_last, d, table.pick(f, second_first, b, c))
        for i, row in enumerate((least, *ordered(left, right), most)):
            table.write(f, bases, f.add("%lo", str(i)), row)

    def insertion() -> None:
        with f.loop("%lo", "%hi") as i:
            row = table.read(f, bases, i)
            head, test, shift, done = (f.label(x) for x in ("head", "test", "shift", "done"))
            before = f.block
            f.jump(head)
            f.open(head)
            f.do(f"%at = phi i64 [{i}, %{before}], [%at.next, %{shift}]")
            f.split(f.test("sgt", "%at", "%lo"), test, done)
            f.open(test)
            f.do("%at.next = sub i64 %at, 1")
            previous = table.read(f, bases, "%at.next")
            f.split(table.less(f, row, previous), shift, done)
            f.open(shift)
            table.write(f, bases, "%at", previous)
            f.jump(head)
            f.open(done)
            table.write(f, bases, "%at", row)

    f.choose(f.test("eq", f.sub("%hi", "%lo"), "4"), network, insertion)
    return f.text()


def _merge(table: Table) -> str:
    """Merge the sorted rows [i, i_end) and [j, j_end) of a into b from row k on.

    From both ends at once, so that two chains of comparisons overlap: the front takes the lesser of
    the first rows, the back the greater of the last ones. While both runs hold a row those are two
    different rows; after that the rest of one run is copied.
    """
    f = Function(
        f"internal void @merge({table.arguments('a')}, {table.arguments('b')}, "
        "i64 %i, i64 %i_end, i64 %j, i64 %j_end, i64 %k)"
    )
    source, target = table.pointers("a"), table.pointers("b")
    rows = f.add(f.sub("%i_end", "%i"), f.sub("%j_end", "%j"))
    starts = {
        "front_i": "%i",
        "front_j": "%j",
        "front_k": "%k",
        "back_i": f.sub("%i_end", "1"),
        "back_j": f.sub("%j_end", "1"),
        "back_k": f.sub(f.add("%k", rows), "1"),
    }
    head, body, done = f.label("head"), f.label("body"), f.label("done")
    f.jump(head)
    f.open(head)
    for name, start in starts.items():
        f.do(f"%{name} = phi i64 [{start}, %entry], [%{name}.next, %{body}]")
    left_holds = f.test("sle", "%front_i", "%back_i")
    right_holds = f.test("sle", "%front_j", "%back_j")
    f.split(f.both(left_holds, right_holds), body, done)
    f.open(body)
    left, right = table.read(f, source, "%front_i"), table.read(f, source, "%front_j")
    take = table.less(f, right, left)
    table.write(f, target, "%front_k", table.pick(f, take, right, left))
    moved = f(f"zext i1 {take} to i64")
    f.do(f"%front_j.next = add i64 %front_j, {moved}")
    f.do(f"%front_i.next = add i64 %front_i, {f.sub('1', moved)}")
    f.do("%front_k.next = add i64 %front_k, 1")
    left, right = table.read(f, source, "%back_i"), table.read(f, source, "%back_j")
    keep = table.less(f, right, left)
    table.write(f, target, "%back_k", table.pick(f, keep, left, right))
    moved = f(f"zext i1 {keep} to i64")
    f.do(f"%back_i.next = sub i64 %back_i, {moved}")
    f.do(f"%back_j.next = sub i64 %back_j, {f.sub('1', moved)}")
    f.do("%back_k.next = sub i64 %back_k, 1")
    f.jump(head)
    f.open(done)
    first = f.select(left_holds, "%front_i", "%front_j")
    count = f.add(f.sub("%back_k", "%front_k"), "1")
    table.copy(f, target, "%front_k", source, first, count)
    return f.text()


def _block(table: Table) -> str:
    """Sort the rows [lo, hi) of a, with the same rows of b as room; the result is in a."""
    f = Function(
        f"internal void @block({table.arguments('a')}, {table.arguments('b')}, i64 %lo, i64 %hi)"
    )
    with f.loop("%lo", "%hi", "4") as four:
        end = f.min("%hi", f.add(four, "4"))
        f.do(f"call void @four({table.arguments('a')}, i64 {four}, i64 {end})")
    size = f.sub("%hi", "%lo")
    with _ping_pong(f, table, "4", size) as (width, sources, targets):
        double = f.mul(width, "2")
        with f.loop("%lo", "%hi", double) as lo:
            mid = f.min("%hi", f.add(lo, width))
            hi = f.min("%hi", f.add(lo, double))
            both = ", ".join(f"ptr {base}" for base in (*sources, *targets))
            f.do(f"call void @merge({both}, i64 {lo}, i64 {mid}, i64 {mid}, i64 {hi}, i64 {lo})")
    with f.when(f(f"icmp ne ptr {sources[0]}, %a0")):
        table.copy(f, table.pointers("a"), "%lo", sources, "%lo", size)
    return f.text()


@contextmanager
def _ping_pong(
    f: Function, table: Table, start: str, size: str
) -> Generator[tuple[str, list[str], list[str]]]:
    """Passes that double the length of sorted runs from `start` until one run holds `size` rows.

    Yields (width, sources, targets), which change places after each pass; after the last one the
    sources hold the result.
    """
    head, body, done, end = (f.label(hint) for hint in ("head", "pass", "done", "end"))
    before = f.block
    f.jump(head)
    f.open(head)
    f.do(f"%width = phi i64 [{start}, %{before}], [%width.next, %{end}]")
    for c in range(len(table.columns)):
        f.do(f"%from{c} = phi ptr [%a{c}, %{before}], [%to{c}, %{end}]")
        f.do(f"%to{c} = phi ptr [%b{c}, %{before}], [%from{c}, %{end}]")
    f.split(f.test("slt", "%width", size), body, done)
    f.open(body)
    yield "%width", table.pointers("from"), table.pointers("to")
    f.jump(end)
    f.open(end)
    f.do("%width.next = shl i64 %width, 1")
    f.jump(head)
    f.open(done)


def _split(table: Table) -> str:
    """How many of the first %rows rows of the merge of two runs come from the left one.

    The runs are [i, i + left) and [j, j + right) of a; rows <= left + right.
    """
    f = Function(
        f"internal i64 @split({table.arguments('a')}, i64 %i, i64 %left, i64 %j, i64 %right, "
        "i64 %rows)"
    )
    source = table.pointers("a")
    least = f.max("0", f.sub("%rows", "%right"))
    most = f.min("%rows", "%left")
    head, body, done = f.label("head"), f.label("body"), f.label("done")
    f.jump(head)
    f.open(head)
    f.do(f"%low = phi i64 [{least}, %entry], [%low.next, %{body}]")
    f.do(f"%high = phi i64 [{most}, %entry], [%high.next, %{body}]")
    f.split(f.test("slt", "%low", "%high"), body, done)
    f.open(body)
    middle = f.div(f.add("%low", "%high"), "2")
    left = table.read(f, source, f.add("%i", middle))
    right = table.read(f, source, f.add("%j", f.sub(f.sub("%rows", "1"), middle)))
    after = table.less(f, right, left)
    f.do(f"%low.next = select i1 {after}, i64 %low, i64 {f.add(middle, '1')}")
    f.do(f"%high.next = select i1 {after}, i64 {middle}, i64 %high")
    f.jump(head)
    f.open(done)
    return f.text("ret i64 %low")


# The job of a large sort: pointers of both sides, the number of rows, and the width of sorted runs,
# which is 0 when the blocks themselves are to be sorted.


def _level(table: Table) -> str:
    """Pieces [lo, hi) of a job: sort a block in place, or write one block's share of a merge."""
    f = Function("internal void @level(ptr %job, i64 %lo, i64 %hi)")
    count = len(table.columns)
    bases = [f.load("ptr", f.at("ptr", "%job", str(c))) for c in range(2 * count)]
    n = f.load("i64", f.at("ptr", "%job", str(2 * count)))
    width = f.load("i64", f.at("ptr", "%job", str(2 * count + 1)))
    source = ", ".join(f"ptr {base}" for base in bases[:count])
    both = ", ".join(f"ptr {base}" for base in bases)
    with f.loop("%lo", "%hi") as piece:
        start = f.mul(piece, str(BLOCK))
        stop = f.min(n, f.add(start, str(BLOCK)))

        def share() -> None:
            double = f.mul(width, "2")
            i = f.mul(f.div(start, double), double)
            j = f.min(n, f.add(i, width))
            left, right = f.sub(j, i), f.sub(f.min(n, f.add(i, double)), j)
            taken: list[str] = []
            for row in (start, stop):
                call = f"call i64 @split({source}, i64 {i}, i64 {left}, i64 {j}, i64 {right}, "
                taken.append(f(f"{call}i64 {f.sub(row, i)})"))
            spans = [f.add(i, taken[0]), f.add(i, taken[1])]
            spans += [f.add(j, f.sub(f.sub(start, i), taken[0]))]
            spans += [f.add(j, f.sub(f.sub(stop, i), taken[1]))]
            numbers = ", ".join(f"i64 {value}" for value in (*spans, start))
            f.do(f"call void @merge({both}, {numbers})")

        f.choose(
            f.test("eq", width, "0"),
            lambda: f.do(f"call void @block({both}, i64 {start}, i64 {stop})"),
            share,
        )
    return f.text()


def _start(table: Table) -> str:
    """Sort %n rows of a; b is room for as many. The result is in a."""
    f = Function(f"internal void @sort({table.arguments('a')}, {table.arguments('b')}, i64 %n)")
    count = len(table.columns)
    job = f(f"alloca [{2 * count + 2} x ptr], align 16")
    pieces = f.ceil_div("%n", str(BLOCK))

    def run(pointers: Sequence[str], width: str) -> None:
        for slot, pointer in enumerate(pointers):
            f.store("ptr", pointer, f.at("ptr", job, str(slot)))
        for slot, value in ((2 * count, "%n"), (2 * count + 1, width)):
            f.store("i64", value, f.at("ptr", job, str(slot)))
        f.do(f"call void @ft_parallel_for(ptr @level, ptr {job}, i64 {pieces}, i64 1)")

    def large() -> None:
        run([*table.pointers("a"), *table.pointers("b")], "0")
        with _ping_pong(f, table, str(BLOCK), "%n") as (width, sources, targets):
            run([*sources, *targets], width)
        with f.when(f(f"icmp ne ptr {sources[0]}, %a0")):
            table.copy(f, table.pointers("a"), "0", sources, "0", "%n")

    both = f"{table.arguments('a')}, {table.arguments('b')}"
    f.choose(
        f.test("sgt", "%n", str(BLOCK)),
        large,
        lambda: f.do(f"call void @block({both}, i64 0, i64 %n)"),
    )
    return f.text()


def _sort(element: Element) -> str:
    f = Function(f"void @ft_sort_{element.name}(ptr %values, i64 %n, ptr %scratch)")
    f.do("call void @sort(ptr %values, ptr %scratch, i64 %n)")
    return f.text()


def _argsort(element: Element) -> str:
    """Gather the keys in the given order, sort them with their indices."""
    f = Function(f"void @ft_argsort_{element.name}(ptr %keys, i64 %n, ptr %indices, ptr %scratch)")
    key, given = element.key(), Table((element,))
    unit = f"[{element.bytes} x i8]"
    # Indices first: they need the strictest alignment.
    other = "%scratch"
    keys = f.at("i64", "%scratch", "%n")
    other_keys = f.at(unit, keys, "%n")
    with f.loop("0", "%n") as i:
        source = f.load("i64", f.at("i64", "%indices", i))
        if key == element:
            row = given.read(f, ["%keys"], source)
        else:
            bits = f.load(key.scalar, f.at(key.scalar, "%keys", source))
            row = [[ordered_bits(f, element.name, bits)]]
        Table((key,)).write(f, [keys], i, row)
    f.do(f"call void @sort(ptr {keys}, ptr %indices, ptr {other_keys}, ptr {other}, i64 %n)")
    return f.text()
