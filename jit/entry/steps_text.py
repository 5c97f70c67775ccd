"""Emits native steps: C functions for traced operations where the trace expects exactly those.

    ptr ft_step_N(ptr x, ptr y)                     the operator of row N; y is null for unary ones
    ptr ft_ufunc(ptr self, ptr args, i64 n, ptr names)          Tracer.__array_ufunc__

They are functrans/memo/fast.py again, for operands that are tracers, numbers, or the same objects
as before; all else, and all that is not expected, is called in Python. Invariant: an exception is
set where the result is null, and only there.
"""

from __future__ import annotations

from typing import NamedTuple

from jit.entry.declarations import module_text
from jit.entry.layout import TUPLE_ITEMS, TUPLE_SIZE, TYPE
from jit.entry.reading import field, require
from jit.runtime.writer import Function

UFUNC = "ft_ufunc"
ROW = 16
"""Bytes of an operator's row: its declaration, and what is called where it is not expected."""
MISS = "inttoptr (i64 1 to ptr)"
"""What `forward` answers when the step is another one."""
SLICE = (16, 24, 32)
"""Where a slice keeps start, stop and step."""

OWN = '@ft_call = private constant [9 x i8] c"__call__\\00"'
"""The globals of the module."""


class Fields(NamedTuple):
    """Where tracers, their nodes, traces, steps and slots keep what native steps read."""

    recorder: int
    slot: int
    node: int
    known: int
    value: int
    cursor: int
    ins: int
    made: int
    older: int
    next: int
    fn: int
    ufunc: int
    a: int
    b: int
    view: int
    inputs: int
    kind: int


def step_name(row: int) -> str:
    return f"ft_step_{row}"


def steps_module(triple: str, rows: int, fields: Fields) -> str:
    """The LLVM text of the steps of so many operators."""
    parts = [f(fields) for f in (older, take_older, forward, expected, operator, ufunc)]
    parts += [entry(row) for row in range(rows)]
    return module_text(triple, parts, OWN)


# -- one operation ----------------------------------------------------------------------------


def expected(at: Fields) -> str:
    """The step that the trace of a tracer expects next; null where that cannot be told."""
    f = Function("internal ptr @expected(ptr %x)")
    none = f.label("none")
    trace = field(f, "%x", at.recorder, "ptr")
    require(f, f.test("ne", trace, "null", "ptr"), none)
    require(f, f.test("eq", field(f, trace, TYPE, "ptr"), "@ft_trace", "ptr"), none)
    cursor = field(f, trace, at.cursor, "ptr")
    require(f, f.test("ne", cursor, "null", "ptr"), none)
    following = field(f, cursor, at.next, "ptr")
    f.do(f"ret ptr {following}")
    f.open(none)
    return f.text("ret ptr null")


def older(at: Fields) -> str:
    """The node of a tracer of an earlier segment, whose kind is the one known; null for others."""
    f = Function("internal ptr @older(ptr %x, ptr %known)")
    none = f.label("none")

    def there(value: str) -> None:
        for nothing in ("null", "@Py_None"):
            require(f, f.test("ne", value, nothing, "ptr"), none)

    require(f, f.test("eq", field(f, "%x", at.slot, "ptr"), "@Py_None", "ptr"), none)
    node = field(f, "%x", at.node, "ptr")
    there(node)
    there(field(f, node, at.value, "ptr"))
    slot = field(f, node, at.known, "ptr")
    there(slot)
    kind = field(f, slot, at.kind, "ptr")
    there(kind)
    require(f, f.test("eq", kind, "%known", "ptr"), none)
    f.do(f"ret ptr {node}")
    f.open(none)
    return f.text("ret ptr null")


def take_older(at: Fields) -> str:
    """Let the value of such a tracer be an input, known by a slot from now on: did it succeed?"""
    f = Function("internal i1 @take_older(ptr %trace, ptr %x, ptr %slot)")
    failed, dropped = f.label("failed"), f.label("dropped")
    node, ins = field(f, "%x", at.node, "ptr"), field(f, "%trace", at.ins, "ptr")
    place = f(f"call i64 @PyList_Size(ptr {ins})")
    number = f(f"call ptr @PyLong_FromLongLong(i64 {place})")
    require(f, f.test("ne", number, "null", "ptr"), failed)
    entry = f("call ptr @PyTuple_New(i64 3)")
    require(f, f.test("ne", entry, "null", "ptr"), dropped)
    for i, value in enumerate(("%x", node, number)):
        f.do(f"call void @Py_IncRef(ptr {value})")
        f.store("ptr", value, f.at("i8", entry, str(TUPLE_ITEMS + 8 * i)))
    noted = f(f"call i32 @PyList_Append(ptr {field(f, '%trace', at.older, 'ptr')}, ptr {entry})")
    f.do(f"call void @Py_DecRef(ptr {entry})")
    require(f, f.test("eq", noted, "0", "i32"), dropped)
    _append(f, ins, field(f, node, at.value, "ptr"), dropped)
    _replace(f, "%x", at.slot, "%slot")
    f.do(f"call void @Py_DecRef(ptr {number})")
    f.do("ret i1 true")
    f.open(dropped)
    f.do(f"call void @Py_DecRef(ptr {number})")
    f.jump(failed)
    f.open(failed)
    return f.text("ret i1 false")


def forward(at: Fields) -> str:
    """Move the trace on by a step: the result; MISS where the operands are not the step's."""
    f = Function("internal ptr @forward(ptr %step, ptr %x, ptr %y)")
    miss, failed, dropped = f.label("miss"), f.label("failed"), f.label("dropped")
    trace = field(f, "%x", at.recorder, "ptr")
    require(f, f.test("eq", field(f, "%step", at.view, "ptr"), "@Py_None", "ptr"), miss)
    first, known = field(f, "%step", at.a, "ptr"), field(f, "%step", at.b, "ptr")
    earlier, given, later = f("alloca i1"), f("alloca ptr"), f("alloca i1")
    for cell in (earlier, later):
        f.store("i1", "false", cell)
    f.store("ptr", "null", given)
    with f.when(f.test("ne", first, field(f, "%x", at.slot, "ptr"), "ptr")):
        node = f(f"call ptr @older(ptr %x, ptr {first})")
        require(f, f.test("ne", node, "null", "ptr"), miss)
        f.store("i1", "true", earlier)
    f.choose(
        f.test("eq", "%y", "null", "ptr"),
        lambda: require(f, f.test("eq", known, "@ft_nothing", "ptr"), miss),
        lambda: _second(f, at, trace, known, given, earlier, later, miss),
    )
    out = f("call ptr @PyType_GenericAlloc(ptr @ft_tracer, i64 0)")
    require(f, f.test("ne", out, "null", "ptr"), failed)
    for value, offset in ((trace, at.recorder), ("%step", at.slot)):
        f.do(f"call void @Py_IncRef(ptr {value})")
        f.store("ptr", value, f.at("i8", out, str(offset)))
    inputs = f.at("i8", field(f, "%step", at.inputs, "ptr"), str(TUPLE_ITEMS))
    was_earlier = f.load("i1", earlier)
    with f.when(was_earlier):
        _take(f, trace, "%x", f.load("ptr", inputs), dropped)
    with f.when(f.load("i1", later)):
        slot = f.load("ptr", f.at("ptr", inputs, f(f"zext i1 {was_earlier} to i64")))
        _take(f, trace, "%y", slot, dropped)
    number = f.load("ptr", given)
    with f.when(f.test("ne", number, "null", "ptr")):
        _append(f, field(f, trace, at.ins, "ptr"), number, dropped)
    _append(f, field(f, trace, at.made, "ptr"), out, dropped)
    _replace(f, trace, at.cursor, "%step")
    f.do(f"ret ptr {out}")
    f.open(dropped)
    f.do(f"call void @Py_DecRef(ptr {out})")
    f.jump(failed)
    f.open(failed)
    f.do("ret ptr null")
    f.open(miss)
    return f.text(f"ret ptr {MISS}")


def _take(f: Function, trace: str, tracer: str, slot: str, failed: str) -> None:
    require(f, f(f"call i1 @take_older(ptr {trace}, ptr {tracer}, ptr {slot})"), failed)


def _append(f: Function, items: str, value: str, failed: str) -> None:
    done = f(f"call i32 @PyList_Append(ptr {items}, ptr {value})")
    require(f, f.test("eq", done, "0", "i32"), failed)


def _replace(f: Function, obj: str, offset: int, value: str) -> None:
    """Let a field refer to another object."""
    place = f.at("i8", obj, str(offset))
    before = f.load("ptr", place)
    f.do(f"call void @Py_IncRef(ptr {value})")
    f.store("ptr", value, place)
    f.do(f"call void @Py_DecRef(ptr {before})")


def _second(
    f: Function, at: Fields, trace: str, known: str, given: str, earlier: str, later: str, miss: str
) -> None:
    """Go on where y is what the step knows of its second operand; a number is an input, and so is
    the value of an earlier segment."""
    kind = field(f, "%y", TYPE, "ptr")

    def tracer() -> None:
        require(f, f.test("eq", field(f, "%y", at.recorder, "ptr"), trace, "ptr"), miss)
        with f.when(f.test("ne", field(f, "%y", at.slot, "ptr"), known, "ptr")):
            f.choose(f.both(f.load("i1", earlier), f.test("eq", "%y", "%x", "ptr")), again, another)

    def again() -> None:
        require(f, f.test("eq", known, "@ft_same", "ptr"), miss)

    def another() -> None:
        node = f(f"call ptr @older(ptr %y, ptr {known})")
        require(f, f.test("ne", node, "null", "ptr"), miss)
        f.store("i1", "true", later)

    def number() -> None:
        with f.when(f.test("eq", kind, "@PyLong_Type", "ptr")):
            beyond = f("alloca i32")
            f(f"call i64 @PyLong_AsLongLongAndOverflow(ptr %y, ptr {beyond})")
            require(f, f.test("eq", f.load("i32", beyond), "0", "i32"), miss)
        f.store("ptr", "%y", given)

    def static() -> None:
        with f.when(f.test("ne", known, "%y", "ptr")):
            for x in ("%y", known):
                require(f, f.test("eq", field(f, x, TYPE, "ptr"), "@PySlice_Type", "ptr"), miss)
            for part in SLICE:
                one, two = field(f, "%y", part, "ptr"), field(f, known, part, "ptr")
                require(f, f.test("eq", one, two, "ptr"), miss)

    def other() -> None:
        f.choose(f.test("eq", known, kind, "ptr"), number, static)

    f.choose(f.test("eq", kind, "@ft_tracer", "ptr"), tracer, other)


# -- what Python calls ------------------------------------------------------------------------


def entry(row: int) -> str:
    """The operator of a row."""
    f = Function(f"ptr @{step_name(row)}(ptr %x, ptr %y)")
    own = f.at("i8", "@ft_rows", str(row * ROW))
    out = f(f"call ptr @operator(ptr %x, ptr %y, ptr {own})")
    return f.text(f"ret ptr {out}")


def operator(at: Fields) -> str:
    """An operator on a tracer x, and y where that is not null."""
    f = Function("internal ptr @operator(ptr %x, ptr %y, ptr %row)")
    slowly = f.label("slowly")
    following = f("call ptr @expected(ptr %x)")
    require(f, f.test("ne", following, "null", "ptr"), slowly)
    fn = f.load("ptr", "%row")
    require(f, f.test("eq", field(f, following, at.fn, "ptr"), fn, "ptr"), slowly)
    _answer(f, following, "%x", "%y", slowly)
    f.open(slowly)
    held = f("alloca ptr, i64 2")
    f.store("ptr", "%x", held)
    f.store("ptr", "%y", f.at("ptr", held, "1"))
    number = f.select(f.test("eq", "%y", "null", "ptr"), "1", "2")
    path = f.load("ptr", f.at("i8", "%row", "8"))
    out = f(f"call ptr @PyObject_Vectorcall(ptr {path}, ptr {held}, i64 {number}, ptr null)")
    return f.text(f"ret ptr {out}")


def _answer(f: Function, following: str, x: str, y: str, slowly: str) -> None:
    """Return the result of the step, if it is the one that is expected."""
    known = f.label("known")
    out = f(f"call ptr @forward(ptr {following}, ptr {x}, ptr {y})")
    f.split(f.test("eq", out, MISS, "ptr"), slowly, known)
    f.open(known)
    f.do(f"ret ptr {out}")


def ufunc(at: Fields) -> str:
    """A NumPy ufunc of one or two operands, without options, the first a tracer."""
    f = Function(f"ptr @{UFUNC}(ptr %self, ptr %args, i64 %n, ptr %names)")
    slowly = f.label("slowly")
    count = f("alloca i64")
    f.store("i64", "0", count)
    with f.when(f.test("ne", "%names", "null", "ptr")):
        f.store("i64", field(f, "%names", TUPLE_SIZE, "i64"), count)
    named = f.load("i64", count)
    require(f, f.test("eq", named, "0"), slowly)
    require(f, f.test("ult", f.sub("%n", "3"), "2"), slowly)
    method, x = (f.load("ptr", f.at("ptr", "%args", str(i))) for i in (1, 2))
    require(f, f.test("eq", field(f, x, TYPE, "ptr"), "@ft_tracer", "ptr"), slowly)
    following = f(f"call ptr @expected(ptr {x})")
    require(f, f.test("ne", following, "null", "ptr"), slowly)
    function = f.load("ptr", "%args")
    require(f, f.test("eq", field(f, following, at.ufunc, "ptr"), function, "ptr"), slowly)
    unlike = f(f"call i32 @PyUnicode_CompareWithASCIIString(ptr {method}, ptr @ft_call)")
    require(f, f.test("eq", unlike, "0", "i32"), slowly)
    second = f("alloca ptr")
    f.store("ptr", "null", second)
    with f.when(f.test("eq", "%n", "4")):
        f.store("ptr", f.load("ptr", f.at("ptr", "%args", "3")), second)
    _answer(f, following, x, f.load("ptr", second), slowly)
    f.open(slowly)
    total = f.add("%n", named)
    held = f(f"alloca ptr, i64 {f.add(total, '1')}")
    f.store("ptr", "%self", held)
    rest = f.at("ptr", held, "1")
    with f.loop("0", total) as i:
        f.store("ptr", f.load("ptr", f.at("ptr", "%args", i)), f.at("ptr", rest, i))
    number = f.add("%n", "1")
    call = f"@ft_ufunc_slowly, ptr {held}, i64 {number}, ptr %names"
    out = f(f"call ptr @PyObject_Vectorcall(ptr {call})")
    return f.text(f"ret ptr {out}")
