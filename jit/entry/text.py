"""Emits the native entry: one function that serves every compiled callable by walking its records.

    ptr ft_enter(ptr callable, ptr args, i64 nargsf, ptr names)

has CPython's vectorcall convention. A record whose guards fit runs its program; where none does,
while anything is being traced, and for a callable without records, the callable's Python path is
called with the same arguments. Invariant: guards have no effect, every path releases what it took,
and a null result goes with an exception set.
"""

from __future__ import annotations

from collections.abc import Callable

from jit.entry.declarations import module_text
from jit.entry.guards_text import alike, apart, match
from jit.entry.layout import ENTER, HEAD, NATIVE_FLAGS, SLOW, STATE, TUPLE_ITEMS, TUPLE_SIZE
from jit.entry.reading import SCALAR_BYTES, field, require, word
from jit.entry.results_text import BLOCKS, GIVE, TAKE, cleared, new_array, packed, results
from jit.entry.words import DONATE, HOLD, RELEASE, WORD, Guard, Record, Test
from jit.runtime.blocks import MINIMUM
from jit.runtime.writer import Function

MISS = "inttoptr (i64 1 to ptr)"
"""What `attempt` answers when the arguments are not those of the record."""
ALIGNMENT = 64
KEPT_BYTES = 1 << 26
"""A larger arena is given back to the system after each call."""

OWN = f"""
@{STATE} = external global i64
@{BLOCKS} = external global [3 x ptr]
"""
"""The globals of the module."""


def enter_module(triple: str) -> str:
    """The LLVM text of the entry and its parts."""
    parts = (match, apart, alike, results, new_array, packed, cleared, attempt, slow, enter)
    return module_text(triple, [part() for part in parts], OWN)


# -- one record -------------------------------------------------------------------------------


def attempt() -> str:
    """The result of a record on these arguments; MISS where they are not its own."""
    f = Function("internal ptr @attempt(ptr %rec, ptr %args)")
    owner = word(f, "%rec", Record.OWNER, "ptr")
    f.do(f"call void @Py_IncRef(ptr {owner})")
    ins_count, outs_count = word(f, "%rec", Record.INPUTS), word(f, "%rec", Record.OUTPUTS)
    count = word(f, "%rec", Record.RESULTS)
    slots = f(f"alloca ptr, i64 {word(f, '%rec', Record.SLOTS)}")
    ins, outs = f(f"alloca ptr, i64 {ins_count}"), f(f"alloca ptr, i64 {outs_count}")
    scalars = f(f"alloca [{SCALAR_BYTES} x i8], i64 {ins_count}, align 16")
    scratch = f(f"alloca [{SCALAR_BYTES} x i8], i64 {outs_count}, align 16")
    found, filled = f(f"alloca ptr, i64 {count}"), f("alloca i64")
    captured, captures = word(f, "%rec", Record.CAPTURED), word(f, "%rec", Record.CAPTURES, "ptr")
    with f.loop("0", captured) as i:
        f.store("ptr", f.load("ptr", f.at("ptr", captures, i)), f.at("ptr", slots, i))
    given = f.at("ptr", slots, captured)
    number = f.add(word(f, "%rec", Record.POSITIONAL), word(f, "%rec", Record.KEYWORDS))
    with f.loop("0", number) as i:
        f.store("ptr", f.load("ptr", f.at("ptr", "%args", i)), f.at("ptr", given, i))
    start = f.add(captured, number)
    f.store("i64", start, filled)
    flags = word(f, "%rec", Record.FLAGS)
    holds = f.test("ne", f(f"and i64 {flags}, {HOLD}"), "0")
    matched, other, missed = f.label("matched"), f.label("other"), f.label("missed")
    fits = f(f"call i1 @match(ptr %rec, ptr {slots}, ptr {ins}, ptr {scalars}, ptr {filled})")
    f.split(fits, matched, missed)

    def let_go() -> None:
        with f.when(holds):
            rest = f.sub(f.load("i64", filled), start)
            f.do(f"call void @cleared(ptr {f.at('ptr', slots, start)}, i64 {rest})")

    f.open(missed)
    let_go()
    f.do(f"call void @Py_DecRef(ptr {owner})")
    f.do(f"ret ptr {MISS}")
    f.open(matched)
    donates = f.test("ne", f(f"and i64 {flags}, {DONATE}"), "0")
    objects = f(f"alloca ptr, i64 {ins_count}")
    with f.when(donates):
        apart_enough = own_memory(f, slots, ins, objects)
        require(f, apart_enough, missed)
    f.jump(other)
    f.open(other)
    with f.loop("0", count) as i:
        f.store("ptr", "null", f.at("ptr", found, i))
    failed, end = f.label("failed"), f.label("end")
    ready = f(
        f"call i1 @results(ptr %rec, ptr {ins}, ptr {objects}, ptr {outs}, ptr {scratch}, "
        f"ptr {found})"
    )
    require(f, ready, failed)
    status = run(f, ins, outs, flags, failed)
    ran, refused = f.label("ran"), f.label("refused")
    f.split(f.test("eq", status, "0", "i32"), ran, refused)
    f.open(refused)
    raise_status(f, status)
    f.jump(failed)
    f.open(ran)
    done = f(f"call i1 @packed(ptr %rec, ptr {outs}, ptr {found})")
    require(f, done, failed)
    hits = f.at("i8", "%rec", str(WORD * Record.HITS))
    f.store("i64", f.add(f.load("i64", hits), "1"), hits)
    result = f.load("ptr", found)
    f.jump(end)
    good = f.block
    f.open(failed)
    f.do(f"call void @cleared(ptr {found}, i64 {count})")
    f.jump(end)
    f.open(end)
    answer = f(f"phi ptr [{result}, %{good}], [null, %{failed}]")
    let_go()
    f.do(f"call void @Py_DecRef(ptr {owner})")
    return f.text(f"ret ptr {answer}")


def own_memory(f: Function, slots: str, ins: str, objects: str) -> str:
    """Does no other input overlap one whose memory is taken? Notes the object of each input."""
    guards, count = word(f, "%rec", Record.GUARD, "ptr"), word(f, "%rec", Record.GUARDS)
    bad = f("alloca i1")
    f.store("i1", "false", bad)

    def extent(g: str) -> tuple[str, str, str]:
        """Where an input array begins and ends, and its number."""
        target = word(f, g, Guard.TARGET)
        begin = f(f"ptrtoint ptr {f.load('ptr', f.at('ptr', ins, target))} to i64")
        return begin, f.add(begin, word(f, g, Guard.BYTES)), target

    def each(body: Callable[[str], None]) -> None:
        with f.loop("0", count) as i:
            g = f.at("i8", guards, f.mul(i, str(WORD * Guard.SIZE)))
            with f.when(f.test("eq", word(f, g, Guard.KIND), str(int(Test.ARRAY)))):
                body(g)

    def one(g: str) -> None:
        begin, end, target = extent(g)
        obj = f.load("ptr", f.at("ptr", slots, word(f, g, Guard.SLOT)))
        f.store("ptr", obj, f.at("ptr", objects, target))

        def two(other: str) -> None:
            first, last, _ = extent(other)
            meets = f.both(f.test("ult", first, end), f.test("ult", begin, last))
            clash = f.both(meets, f.test("ne", g, other, "ptr"))
            f.store("i1", f.either(f.load("i1", bad), clash), bad)

        with f.when(f.test("ne", word(f, g, Guard.MASK), str(NATIVE_FLAGS))):
            each(two)

    each(one)
    return f.negate(f.load("i1", bad))


def run(f: Function, ins: str, outs: str, flags: str, failed: str) -> str:
    """Run the program with an arena, without the GIL where the record says so; its status."""
    size = word(f, "%rec", Record.ARENA)
    cell, block = f("alloca ptr"), f("alloca ptr")
    idle = f.at("i8", "%rec", str(WORD * Record.IDLE))
    f.store("ptr", "null", cell)
    f.store("ptr", "null", block)
    with f.when(f.test("sge", size, str(MINIMUM))):
        take = f.load("ptr", f.at("ptr", f"@{BLOCKS}", str(TAKE)))
        with f.when(f.test("ne", take, "null", "ptr")):
            f.store("ptr", f(f"call ptr {take}(i64 {size})"), block)
    got = f.test("ne", f.load("ptr", block), "null", "ptr")
    with f.when(f.both(f.negate(got), f.test("ne", size, "0"))):
        kept = f.load("ptr", idle)
        f.store("ptr", "null", idle)
        f.store("ptr", kept, cell)
        with f.when(f.test("eq", kept, "null", "ptr")):
            fresh = f(f"call ptr @PyMem_RawMalloc(i64 {f.add(size, str(2 * ALIGNMENT))})")
            with f.when(f.test("eq", fresh, "null", "ptr")):
                f.do("call ptr @PyErr_NoMemory()")
                f.jump(failed)
                f.open(f.label("unreached"))
            f.store("ptr", fresh, cell)
    raw = f.load("ptr", cell)
    start = f(f"ptrtoint ptr {raw} to i64")
    aligned = f(f"and i64 {f.add(start, str(ALIGNMENT - 1))}, {-ALIGNMENT}")
    own = f(f"inttoptr i64 {aligned} to ptr")
    arena = f.select(got, f.load("ptr", block), own, "ptr")
    program, state = word(f, "%rec", Record.RUN, "ptr"), f("alloca ptr")
    releases = f.test("ne", f(f"and i64 {flags}, {RELEASE}"), "0")
    with f.when(releases):
        f.store("ptr", f("call ptr @PyEval_SaveThread()"), state)
    status = f(f"call i32 {program}(ptr {ins}, ptr {outs}, ptr {arena})")
    with f.when(releases):
        f.do(f"call void @PyEval_RestoreThread(ptr {f.load('ptr', state)})")
    with f.when(got):
        give = f.load("ptr", f.at("ptr", f"@{BLOCKS}", str(GIVE)))
        f.do(f"call void {give}(ptr {f.load('ptr', block)})")
    with f.when(f.test("ne", raw, "null", "ptr")):
        free = f.test("eq", f.load("ptr", idle), "null", "ptr")
        keep = f.both(free, f.test("sle", size, str(KEPT_BYTES)))
        f.choose(
            keep,
            lambda: f.store("ptr", raw, idle),
            lambda: f.do(f"call void @PyMem_RawFree(ptr {raw})"),
        )
    return status


def raise_status(f: Function, status: str) -> None:
    """Let the record's own function raise the exception for a status."""
    number = f(f"call ptr @PyLong_FromLongLong(i64 {f(f'sext i32 {status} to i64')})")
    with f.when(f.test("ne", number, "null", "ptr")):
        cell = f("alloca ptr")
        f.store("ptr", number, cell)
        raiser = word(f, "%rec", Record.FAILED, "ptr")
        answer = f(f"call ptr @PyObject_Vectorcall(ptr {raiser}, ptr {cell}, i64 1, ptr null)")
        with f.when(f.test("ne", answer, "null", "ptr")):
            f.do(f"call void @Py_DecRef(ptr {answer})")
        f.do(f"call void @Py_DecRef(ptr {number})")


# -- the callable -----------------------------------------------------------------------------


def slow() -> str:
    """Call the Python path with the callable itself before its arguments."""
    f = Function(
        "internal ptr @slow(ptr %self, ptr %args, i64 %n, ptr %names) noinline", "nounwind"
    )
    cell = f("alloca i64")
    f.store("i64", "%n", cell)
    with f.when(f.test("ne", "%names", "null", "ptr")):
        f.store("i64", f.add("%n", field(f, "%names", TUPLE_SIZE, "i64")), cell)
    total = f.load("i64", cell)
    held = f(f"alloca ptr, i64 {f.add(total, '1')}")
    f.store("ptr", "%self", held)
    rest = f.at("ptr", held, "1")
    with f.loop("0", total) as i:
        f.store("ptr", f.load("ptr", f.at("ptr", "%args", i)), f.at("ptr", rest, i))
    path = field(f, "%self", SLOW, "ptr")
    number = f.add("%n", "1")
    answer = f(f"call ptr @PyObject_Vectorcall(ptr {path}, ptr {held}, i64 {number}, ptr %names)")
    return f.text(f"ret ptr {answer}")


def enter() -> str:
    """The entry itself."""
    f = Function(f"ptr @{ENTER}(ptr %self, ptr %args, i64 %nargsf, ptr %names)")
    number = f(f"and i64 %nargsf, {(1 << 63) - 1}")
    python, head, body = f.label("python"), f.label("head"), f.label("body")
    following, keywords, named = f.label("following"), f.label("keywords"), f.label("named")
    trial, found = f.label("trial"), f.label("found")
    require(f, f.test("eq", f.load("i64", f"@{STATE}"), "0"), python)
    first = field(f, "%self", HEAD, "ptr")
    before = f.block
    f.jump(head)
    f.open(head)
    f.do(f"%rec = phi ptr [{first}, %{before}], [%next, %AGAIN]")
    f.split(f.test("eq", "%rec", "null", "ptr"), python, body)
    f.open(body)
    require(f, f.test("eq", word(f, "%rec", Record.POSITIONAL), number), following)
    wanted = word(f, "%rec", Record.KEYWORDS)
    bare = f.test("eq", "%names", "null", "ptr")
    f.split(bare, keywords, named)
    f.open(keywords)
    f.split(f.test("eq", wanted, "0"), trial, following)
    f.open(named)
    require(f, f.test("eq", field(f, "%names", TUPLE_SIZE, "i64"), wanted), following)
    names, table = f.at("i8", "%names", str(TUPLE_ITEMS)), word(f, "%rec", Record.NAMES, "ptr")
    with f.loop("0", wanted) as i:
        given, expected = f.load("ptr", f.at("ptr", names, i)), f.load("ptr", f.at("ptr", table, i))
        require(f, f.test("eq", given, expected, "ptr"), following)
    f.jump(trial)
    f.open(trial)
    answer = f("call ptr @attempt(ptr %rec, ptr %args)")
    f.split(f.test("eq", answer, MISS, "ptr"), following, found)
    f.open(following)
    # Code of the user's own containers may have run, and changed the records.
    require(f, f.test("eq", field(f, "%self", HEAD, "ptr"), first, "ptr"), python)
    f.do("%next = load ptr, ptr %rec")
    again = f.block
    f.jump(head)
    f.open(found)
    f.do(f"ret ptr {answer}")
    f.open(python)
    f.do("%slowly = call ptr @slow(ptr %self, ptr %args, i64 " + number + ", ptr %names)")
    return f.text("ret ptr %slowly").replace("%AGAIN", f"%{again}")
