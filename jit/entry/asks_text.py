"""Emits the native ask: `Tracer.__bool__` where the memo knows the segment and a program runs it.

    ptr ft_decide(ptr x, ptr unused)

It is functrans/asking.py and functrans/api/tape.py again, for segments after the first ask that ran
just so before: with the same results, and the same inputs carrying derivatives. All else is left to
Python before anything is changed. Invariant: an exception is set where the result is null, and only
there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jit.entry.declarations import module_text
from jit.entry.layout import DICT_SIZE, LIST_ITEMS, LIST_SIZE, STATE, TUPLE_ITEMS, TYPE
from jit.entry.reading import field, require
from jit.runtime.writer import Function

DECIDE = "ft_decide"
MOST_INPUTS = 62
"""Bits of a word that tell which inputs carry a derivative."""
END = str((1 << 63) - 1)
NOTHING_DECIDED = 2

ERRORS = ("ft_index_error", "ft_value_error", "ft_arithmetic_error")

OWN = f"""
@{STATE} = external global i64
@ft_interpreted = private constant [12 x i8] c"interpreted\\00"
"""
"""The globals of the module."""


class AskFields(NamedTuple):
    """Where the objects of asks keep what the native ask reads and writes.

    Of tracers, nodes, traces, steps and roots; then of Asked, Program, Tape and Config.
    """

    recorder: int
    slot: int
    node: int
    value: int
    known: int
    cell: int
    cursor: int
    ins: int
    made: int
    older: int
    twins: int
    tape: int
    thread: int
    asked: int
    root: int
    hits: int
    slots: int
    carrying: int
    given: int
    inputs: int
    constants: int
    program: int
    then: int
    native: int
    results: int
    moved: int
    offsets: int
    kept: int
    next: int
    unjitted: int


def asks_module(triple: str, fields: AskFields) -> str:
    """The LLVM text of the native ask."""
    return module_text(triple, [replaced(), Ask(fields).text()], OWN)


def replaced() -> str:
    """Let a field refer to another object, whose reference it takes."""
    f = Function("internal void @replaced(ptr %place, ptr %value)")
    before = f.load("ptr", "%place")
    f.store("ptr", "%value", "%place")
    f.do(f"call void @Py_DecRef(ptr {before})")
    return f.text()


class Ask:
    """Writes the function: what is read first, then what runs, then what is changed."""

    def __init__(self, fields: AskFields) -> None:
        self.at = fields
        self.f = Function(f"ptr @{DECIDE}(ptr %x, ptr %unused)")
        self.slowly, self.failed = self.f.label("slowly"), self.f.label("failed")
        self.owned = [self.f("alloca ptr") for _ in range(5)]
        self.asked_cell, self.live, self.cells, self.outs, self.part = self.owned
        self.found, self.carried = self.f("alloca i1"), self.f("alloca i64")
        self.number, self.call = self.f("alloca i64"), self.f("alloca ptr")
        for cell in self.owned:
            self.f.store("ptr", "null", cell)

    def text(self) -> str:
        """The whole of it."""
        f = self.f
        self.read_trace()
        self.read_results()
        self.read_older()
        self.run()
        self.keep()
        self.settle()
        self.decide()
        f.open(self.slowly)
        self.let_go()
        f.store("ptr", "%x", self.call)
        slow = f"@ft_decide_slowly, ptr {self.call}, i64 1, ptr null"
        f.do(f"ret ptr {f(f'call ptr @PyObject_Vectorcall(ptr {slow})')}")
        f.open(self.failed)
        self.let_go()
        return f.text("ret ptr null")

    def let_go(self) -> None:
        """Release what is owned."""
        for cell in self.owned:
            self.f.do(f"call void @Py_DecRef(ptr {self.f.load('ptr', cell)})")

    # -- small steps ---------------------------------------------------------------------------

    def of(self, obj: str, offset: int) -> str:
        """A field of an object."""
        return field(self.f, obj, offset, "ptr")

    def whole(self, obj: str) -> str:
        """The value of a small int."""
        return self.f(f"call i64 @PyLong_AsLongLong(ptr {obj})")

    def length(self, items: str) -> str:
        return field(self.f, items, LIST_SIZE, "i64")

    def item(self, items: str, i: str) -> str:
        """An element of a list."""
        return self.f.load("ptr", self.f.at("ptr", self.of(items, LIST_ITEMS), i))

    def part_of(self, entry: str, i: int) -> str:
        """An element of a tuple."""
        return self.of(entry, TUPLE_ITEMS + 8 * i)

    def same(self, a: str, b: str, ty: str = "ptr") -> None:
        """Go on where two words are the same, else in Python."""
        require(self.f, self.f.test("eq", a, b, ty), self.slowly)

    def there(self, obj: str) -> str:
        """Go on where a field is set, and not None."""
        for nothing in ("null", "@Py_None"):
            require(self.f, self.f.test("ne", obj, nothing, "ptr"), self.slowly)
        return obj

    def own(self, cell: str, obj: str, otherwise: str) -> str:
        """Own a new object, if it was made."""
        self.f.store("ptr", obj, cell)
        require(self.f, self.f.test("ne", obj, "null", "ptr"), otherwise)
        return obj

    def done(self, call: str, otherwise: str) -> None:
        """Go on where a call that answers 0 succeeded."""
        require(self.f, self.f.test("eq", self.f(f"call i32 {call}"), "0", "i32"), otherwise)

    def append(self, items: str, value: str) -> None:
        self.done(f"@PyList_Append(ptr {items}, ptr {value})", self.failed)

    def extend(self, items: str, more: str) -> None:
        size = self.length(items)
        self.done(f"@PyList_SetSlice(ptr {items}, i64 {size}, i64 {size}, ptr {more})", self.failed)

    def clear(self, items: str) -> None:
        self.done(f"@PyList_SetSlice(ptr {items}, i64 0, i64 {END}, ptr null)", self.failed)

    def replace(self, obj: str, offset: int, value: str) -> None:
        """Let a field take a reference."""
        place = self.f.at("i8", obj, str(offset))
        self.f.do(f"call void @replaced(ptr {place}, ptr {value})")

    def held(self, obj: str) -> str:
        """One more reference to an object."""
        self.f.do(f"call void @Py_IncRef(ptr {obj})")
        return obj

    def each(self, items: str, body: Callable[[str, str], None]) -> None:
        """Do something with each element of a list and its number."""
        with self.f.loop("0", self.length(items)) as i:
            body(i, self.item(items, i))

    # -- what is known -------------------------------------------------------------------------

    def read_trace(self) -> None:
        """Go on where the segment may be known, and native code may run it."""
        f, at = self.f, self.at
        trace = self.trace = self.there(self.of("%x", at.recorder))
        self.same(self.of(trace, TYPE), "@ft_trace")
        cursor = self.there(self.of(trace, at.cursor))
        self.root = self.there(self.of(cursor, at.root))
        asked = self.asked = self.there(self.of(cursor, at.asked))
        self.there(self.of("%x", at.slot))
        self.same(self.of(asked, at.given), "@Py_None")
        self.same(field(f, self.of(trace, at.twins), DICT_SIZE, "i64"), "0", "i64")
        self.same(self.length(self.of(asked, at.constants)), "0", "i64")
        thread = f(f"call i64 @PyLong_AsUnsignedLong(ptr {self.of(trace, at.thread)})")
        self.same(thread, f("call i64 @PyThread_get_thread_ident()"), "i64")
        self.tape = self.there(self.of(trace, at.tape))
        self.program = self.there(self.of(asked, at.program))
        self.native = self.there(self.of(self.program, at.native))
        mode = self.of("@ft_config", at.unjitted)
        interpreted = f(
            f"call i32 @PyUnicode_CompareWithASCIIString(ptr {mode}, ptr @ft_interpreted)"
        )
        require(f, f.test("ne", interpreted, "0", "i32"), self.slowly)
        self.ins = self.of(trace, at.ins)
        self.same(self.length(self.ins), self.whole(self.of(asked, at.inputs)), "i64")
        f.store("ptr", self.held(asked), self.asked_cell)

    def read_results(self) -> None:
        """Go on where the tracers that are still referred to are those of the last time."""
        f, at = self.f, self.at
        live = self.own(self.live, f("call ptr @PyList_New(i64 0)"), self.failed)
        slots = self.of(self.asked, at.slots)
        valued = f.test("ne", self.of("%x", at.node), "null", "ptr")
        f.store("i1", valued, self.found)

        def one(_: str, tracer: str) -> None:
            references = f.load("i32", tracer)
            with f.when(f.test("ne", references, "1", "i32")):
                number = self.length(live)
                require(f, f.test("slt", number, self.length(slots)), self.slowly)
                self.same(self.of(tracer, at.slot), self.item(slots, number))
                self.append(live, tracer)
                is_asked = f.test("eq", tracer, "%x", "ptr")
                f.store("i1", f.either(f.load("i1", self.found), is_asked), self.found)

        self.each(self.of(self.trace, at.made), one)
        self.same(self.length(live), self.length(slots), "i64")
        require(f, f.load("i1", self.found), self.slowly)

    def read_older(self) -> None:
        """Go on where the inputs that carry a derivative are those of the last time."""
        f, at = self.f, self.at
        cells = self.own(self.cells, f("call ptr @PyList_New(i64 0)"), self.failed)
        f.store("i64", "0", self.carried)

        def one(_: str, entry: str) -> None:
            node, place = self.part_of(entry, 1), self.part_of(entry, 2)
            cell = self.of(node, at.cell)
            with f.when(f.test("sge", self.whole(cell), "0")):
                number = self.whole(place)
                require(f, f.test("ult", number, str(MOST_INPUTS)), self.slowly)
                bit = f(f"shl i64 1, {number}")
                f.store("i64", f(f"or i64 {f.load('i64', self.carried)}, {bit}"), self.carried)
                self.append(cells, cell)

        self.each(self.of(self.trace, at.older), one)
        carrying = self.of(self.asked, at.carrying)
        self.same(f.load("i64", self.carried), self.whole(carrying), "i64")

    # -- what runs -----------------------------------------------------------------------------

    def run(self) -> None:
        """Run the program; errors that depend on values are raised again in Python."""
        f = self.f

        def count(change: int) -> None:
            f.store("i64", f.add(f.load("i64", f"@{STATE}"), str(change)), f"@{STATE}")

        f.store("ptr", self.ins, self.call)
        count(-1)
        call = f"ptr {self.native}, ptr {self.call}, i64 1, ptr null"
        outs = f(f"call ptr @PyObject_Vectorcall({call})")
        count(1)
        f.store("ptr", outs, self.outs)
        ran, raised, again = f.label("ran"), f.label("raised"), f.label("again")
        f.split(f.test("ne", outs, "null", "ptr"), ran, raised)
        f.open(raised)
        for error in ERRORS:
            matches = f(f"call i32 @PyErr_ExceptionMatches(ptr @{error})")
            other = f.label("other")
            f.split(f.test("ne", matches, "0", "i32"), again, other)
            f.open(other)
        f.jump(self.failed)
        f.open(again)
        f.do("call void @PyErr_Clear()")
        f.jump(self.slowly)
        f.open(ran)

    def keep(self) -> None:
        """Let the tape have what the derivative needs."""
        f, at = self.f, self.at
        outs = f.load("ptr", self.outs)
        first = self.of(self.tape, at.next)
        f.store("i64", self.whole(first), self.number)
        moved = self.whole(self.of(self.program, at.moved))
        with f.when(f.test("ne", moved, "0")):
            kept = self.of(self.tape, at.kept)
            count = self.whole(self.of(self.program, at.results))
            rest = f(f"call ptr @PyList_GetSlice(ptr {outs}, i64 {count}, i64 {END})")
            self.extend(kept, self.own(self.part, rest, self.failed))
            self.extend(kept, f.load("ptr", self.cells))
            self.append(kept, first)
            self.append(kept, self.program)
            after = f.add(f.load("i64", self.number), moved)
            number = f(f"call ptr @PyLong_FromLongLong(i64 {after})")
            require(f, f.test("ne", number, "null", "ptr"), self.failed)
            self.replace(self.tape, at.next, number)

    # -- what is changed -------------------------------------------------------------------------

    def settle(self) -> None:
        """Give the tracers their values, and begin the next segment."""
        f, at = self.f, self.at
        outs, offsets = f.load("ptr", self.outs), self.of(self.program, at.offsets)
        first = f.load("i64", self.number)

        def value(i: str, tracer: str) -> None:
            node = f("call ptr @PyType_GenericAlloc(ptr @ft_node, i64 0)")
            require(f, f.test("ne", node, "null", "ptr"), self.failed)
            self.replace(tracer, at.node, node)
            self.replace(node, at.value, self.held(self.item(outs, i)))
            self.replace(node, at.known, self.held(self.of(tracer, at.slot)))
            offset = self.whole(self.item(offsets, i))
            carries = f.test("sge", offset, "0")
            cell = f.select(carries, f.add(first, offset), "-1")
            number = f(f"call ptr @PyLong_FromLongLong(i64 {cell})")
            require(f, f.test("ne", number, "null", "ptr"), self.failed)
            self.replace(node, at.cell, number)
            self.replace(tracer, at.slot, self.held("@Py_None"))

        def forget(_: str, entry: str) -> None:
            self.replace(self.part_of(entry, 0), at.slot, self.held("@Py_None"))

        self.each(f.load("ptr", self.live), value)
        older, made = self.of(self.trace, at.older), self.of(self.trace, at.made)
        self.each(older, forget)
        for items in (older, made, self.ins):
            self.clear(items)
        hits = f.add(self.whole(self.of(self.root, at.hits)), "1")
        number = f(f"call ptr @PyLong_FromLongLong(i64 {hits})")
        require(f, f.test("ne", number, "null", "ptr"), self.failed)
        self.replace(self.root, at.hits, number)

    def decide(self) -> None:
        """Go where the truth of the value leads."""
        f, at = self.f, self.at
        then = self.of(self.asked, at.then)
        self.replace(self.trace, at.cursor, self.held(self.item(then, str(NOTHING_DECIDED))))
        value = self.of(self.of("%x", at.node), at.value)
        truth = f(f"call i32 @PyObject_IsTrue(ptr {value})")
        require(f, f.test("sge", truth, "0", "i32"), self.failed)
        way = self.item(then, f(f"zext i32 {truth} to i64"))
        self.replace(self.trace, at.cursor, self.held(way))
        self.let_go()
        is_true = f.test("ne", truth, "0", "i32")
        answer = f.select(is_true, "@Py_True", "@Py_False", "ptr")
        f.do(f"ret ptr {self.held(answer)}")
