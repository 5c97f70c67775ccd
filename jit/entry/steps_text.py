"""Emits native steps: C functions for traced operations where the trace expects exactly those.

    ptr ft_step_N(ptr x, ptr y)                     the operator of row N; y is null for unary ones
    ptr ft_ufunc(ptr self, ptr args, i64 n, ptr names)          Tracer.__array_ufunc__

They are functrans/memo/fast.py again, for operands that are tracers, numbers, or the same objects
as before; all else, and all that is not expected, is called in Python. Invariant: an exception is
set where the result is null, and only there.
"""

from __future__ import annotations

from typing import NamedTuple

from jit.entry.layout import TUPLE_SIZE, TYPE
from jit.entry.reading import field, require
from jit.runtime.writer import Function

UFUNC = "ft_ufunc"
ROW = 16
"""Bytes of an operator's row: its declaration, and what is called where it is not expected."""
MISS = "inttoptr (i64 1 to ptr)"
"""What `forward` answers when the step is another one."""
SLICE = (16, 24, 32)
"""Where a slice keeps start, stop and step."""

DECLARATIONS = """
@ft_tracer = external global i8
@ft_trace = external global i8
@ft_nothing = external global i8
@ft_rows = external global i8
@ft_ufunc_slowly = external global i8
@Py_None = external global i8
@PyLong_Type = external global i8
@PySlice_Type = external global i8
@ft_call = private constant [9 x i8] c"__call__\\00"
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)
declare ptr @PyType_GenericAlloc(ptr, i64)
declare i32 @PyList_Append(ptr, ptr)
declare i64 @PyLong_AsLongLongAndOverflow(ptr, ptr)
declare i32 @PyUnicode_CompareWithASCIIString(ptr, ptr)
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
"""


class Fields(NamedTuple):
    """Where tracers, traces and steps keep what native steps read."""

    recorder: int
    slot: int
    cursor: int
    ins: int
    made: int
    next: int
    fn: int
    ufunc: int
    a: int
    b: int
    view: int


def step_name(row: int) -> str:
    return f"ft_step_{row}"


def steps_module(triple: str, rows: int, fields: Fields) -> str:
    """The LLVM text of the steps of so many operators."""
    parts = [forward(fields), expected(fields), operator(fields), ufunc(fields)]
    parts += [entry(row) for row in range(rows)]
    functions = "\n".join(parts)
    return f'target triple = "{triple}"\n{DECLARATIONS}\n{functions}\n'


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


def forward(at: Fields) -> str:
    """Move the trace on by a step: the result; MISS where the operands are not the step's."""
    f = Function("internal ptr @forward(ptr %step, ptr %x, ptr %y)")
    miss, failed = f.label("miss"), f.label("failed")
    trace = field(f, "%x", at.recorder, "ptr")
    same = f.test("eq", field(f, "%step", at.a, "ptr"), field(f, "%x", at.slot, "ptr"), "ptr")
    require(f, same, miss)
    require(f, f.test("eq", field(f, "%step", at.view, "ptr"), "@Py_None", "ptr"), miss)
    given = f("alloca ptr")
    f.store("ptr", "null", given)
    known = field(f, "%step", at.b, "ptr")
    f.choose(
        f.test("eq", "%y", "null", "ptr"),
        lambda: require(f, f.test("eq", known, "@ft_nothing", "ptr"), miss),
        lambda: _second(f, at, trace, known, given, miss),
    )
    out = f("call ptr @PyType_GenericAlloc(ptr @ft_tracer, i64 0)")
    require(f, f.test("ne", out, "null", "ptr"), failed)
    for value, offset in ((trace, at.recorder), ("%step", at.slot)):
        f.do(f"call void @Py_IncRef(ptr {value})")
        f.store("ptr", value, f.at("i8", out, str(offset)))
    taken = f.load("ptr", given)
    dropped = f.label("dropped")
    with f.when(f.test("ne", taken, "null", "ptr")):
        _append(f, field(f, trace, at.ins, "ptr"), taken, dropped)
    _append(f, field(f, trace, at.made, "ptr"), out, dropped)
    place = f.at("i8", trace, str(at.cursor))
    before = f.load("ptr", place)
    f.do("call void @Py_IncRef(ptr %step)")
    f.store("ptr", "%step", place)
    f.do(f"call void @Py_DecRef(ptr {before})")
    f.do(f"ret ptr {out}")
    f.open(dropped)
    f.do(f"call void @Py_DecRef(ptr {out})")
    f.jump(failed)
    f.open(failed)
    f.do("ret ptr null")
    f.open(miss)
    return f.text(f"ret ptr {MISS}")


def _append(f: Function, items: str, value: str, failed: str) -> None:
    done = f(f"call i32 @PyList_Append(ptr {items}, ptr {value})")
    require(f, f.test("eq", done, "0", "i32"), failed)


def _second(f: Function, at: Fields, trace: str, known: str, given: str, miss: str) -> None:
    """Go on where y is what the step knows of its second operand; a number is an input."""
    kind = field(f, "%y", TYPE, "ptr")

    def tracer() -> None:
        require(f, f.test("eq", field(f, "%y", at.slot, "ptr"), known, "ptr"), miss)
        require(f, f.test("eq", field(f, "%y", at.recorder, "ptr"), trace, "ptr"), miss)

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
