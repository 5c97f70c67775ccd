"""Emits the walk over a record's guards, which tells whether a call has the arguments it is for."""

from __future__ import annotations

from collections.abc import Callable

from jit.entry.layout import (
    BOXED,
    DATA,
    DESCR,
    DICT_SIZE,
    DIMS,
    FLAGS,
    LIST_ITEMS,
    LIST_SIZE,
    NDIM,
    TUPLE_ITEMS,
    TUPLE_SIZE,
    TYPE,
)
from jit.entry.reading import SCALAR_BYTES, field, require, switch, word
from jit.entry.words import HOLD, WORD, Guard, Record, Test
from jit.runtime.writer import Function


def match() -> str:
    """1 where all guards hold, with the inputs' addresses in `ins`; else 0.

    `slots` holds the captured objects and the arguments; what containers hold is added, and
    `filled` counts the slots in use.
    """
    f = Function("internal i1 @match(ptr %rec, ptr %slots, ptr %ins, ptr %scalars, ptr %filled)")
    miss = f.label("miss")
    overflow, argument = f("alloca i32"), f("alloca ptr")
    guards, count = word(f, "%rec", Record.GUARD, "ptr"), word(f, "%rec", Record.GUARDS)
    with f.loop("0", count) as i:
        g = f.at("i8", guards, f.mul(i, str(WORD * Guard.SIZE)))
        obj = f.load("ptr", f.at("ptr", "%slots", word(f, g, Guard.SLOT)))
        wanted = word(f, g, Guard.OBJECT, "ptr")
        ty = field(f, obj, TYPE, "ptr")
        number, target = word(f, g, Guard.COUNT), word(f, g, Guard.TARGET)
        table = word(f, g, Guard.TABLE, "ptr")
        cell = f.at("ptr", "%ins", target)
        scalar = f.at("i8", "%scalars", f.mul(target, str(SCALAR_BYTES)))
        children = f.at("ptr", "%slots", target)

        def same(a: str, b: str) -> None:
            require(f, f.test("eq", a, b, "ptr"), miss)

        def array() -> None:
            same(ty, "@PyArray_Type")
            same(field(f, obj, DESCR, "ptr"), wanted)
            mask = f(f"trunc i64 {word(f, g, Guard.MASK)} to i32")
            flags = f(f"and i32 {field(f, obj, FLAGS, 'i32')}, {mask}")
            require(f, f.test("eq", flags, mask, "i32"), miss)
            nd = f(f"zext i32 {field(f, obj, NDIM, 'i32')} to i64")
            require(f, f.test("eq", nd, number), miss)
            dims = field(f, obj, DIMS, "ptr")
            with f.loop("0", number) as axis:
                extent = f.load("i64", f.at("i64", dims, axis))
                require(f, f.test("eq", extent, f.load("i64", f.at("i64", table, axis))), miss)
            f.store("ptr", field(f, obj, DATA, "ptr"), cell)

        def boxed() -> None:
            same(ty, wanted)
            f.store("ptr", f.at("i8", obj, str(BOXED)), cell)

        def integer() -> None:
            same(ty, "@PyLong_Type")
            value = f(f"call i64 @PyLong_AsLongLongAndOverflow(ptr {obj}, ptr {overflow})")
            require(f, f.test("eq", f.load("i32", overflow), "0", "i32"), miss)
            require(f, f.test("sge", value, number), miss)
            require(f, f.test("sle", value, word(f, g, Guard.TABLE)), miss)
            f.store("i64", value, scalar)
            f.store("ptr", scalar, cell)

        def boolean() -> None:
            yes = f.test("eq", obj, "@Py_True", "ptr")
            no = f.test("eq", obj, "@Py_False", "ptr")
            require(f, f.either(yes, no), miss)
            f.store("i8", f(f"zext i1 {yes} to i8"), scalar)
            f.store("ptr", scalar, cell)

        def sequence(size: int, start: Callable[[], str]) -> None:
            same(ty, wanted)
            require(f, f.test("eq", field(f, obj, size, "i64"), number), miss)
            items = start()
            with f.loop("0", number) as k:
                f.store("ptr", f.load("ptr", f.at("ptr", items, k)), f.at("ptr", children, k))
            taken()

        def taken() -> None:
            f.store("i64", f.add(target, number), "%filled")
            f.do(f"call void @apart(ptr %rec, ptr {children}, i64 {number})")

        def dictionary() -> None:
            same(ty, "@PyDict_Type")
            require(f, f.test("eq", field(f, obj, DICT_SIZE, "i64"), number), miss)
            fits = f(f"call i1 @alike(ptr {obj}, i64 {number}, ptr {table}, ptr {children})")
            require(f, fits, miss)
            taken()

        def equal() -> None:
            met = f.label("met")
            other = f.label("other")
            f.split(f.test("eq", obj, wanted, "ptr"), met, other)
            f.open(other)
            same(ty, field(f, wanted, TYPE, "ptr"))
            found = f(f"call i32 @PyObject_RichCompareBool(ptr {obj}, ptr {wanted}, i32 2)")
            require(f, f.test("eq", found, "1", "i32"), miss)
            f.jump(met)
            f.open(met)

        def custom() -> None:
            same(ty, wanted)
            f.store("ptr", obj, argument)
            found = f(
                f"call ptr @PyObject_Vectorcall(ptr {table}, ptr {argument}, i64 1, ptr null)"
            )
            failed, got = f.label("failed"), f.label("got")
            f.split(f.test("eq", found, "null", "ptr"), failed, got)
            f.open(failed)
            f.do("call void @PyErr_Clear()")
            f.jump(miss)
            f.open(got)
            size = field(f, found, TUPLE_SIZE, "i64")
            items = f.at("i8", found, str(TUPLE_ITEMS))
            with f.when(f.test("eq", size, number)):
                with f.loop("0", number) as k:
                    child = f.load("ptr", f.at("ptr", items, k))
                    f.store("ptr", child, f.at("ptr", children, k))
                taken()
            f.do(f"call void @Py_DecRef(ptr {found})")
            require(f, f.test("eq", size, number), miss)

        switch(
            f,
            word(f, g, Guard.KIND),
            {
                Test.ARRAY: array,
                Test.BOXED: boxed,
                Test.INT: integer,
                Test.BOOL: boolean,
                Test.TUPLE: lambda: sequence(TUPLE_SIZE, lambda: f.at("i8", obj, str(TUPLE_ITEMS))),
                Test.LIST: lambda: sequence(LIST_SIZE, lambda: field(f, obj, LIST_ITEMS, "ptr")),
                Test.DICT: dictionary,
                Test.IDENTICAL: lambda: same(obj, wanted),
                Test.EQUAL: equal,
                Test.CUSTOM: custom,
            },
            miss,
        )
    f.do("ret i1 true")
    f.open(miss)
    return f.text("ret i1 false")


def apart() -> str:
    """Take references to what a container holds, where the record says so."""
    f = Function("internal void @apart(ptr %rec, ptr %children, i64 %n)")
    holds = f.test("ne", f(f"and i64 {word(f, '%rec', Record.FLAGS)}, {HOLD}"), "0")
    with f.loop("0", f.select(holds, "%n", "0")) as k:
        f.do(f"call void @Py_IncRef(ptr {f.load('ptr', f.at('ptr', '%children', k))})")
    return f.text()


def alike() -> str:
    """Has a dictionary of n items these keys, in this order? Its values are put into `children`."""
    f = Function("internal i1 @alike(ptr %dict, i64 %n, ptr %keys, ptr %children)")
    differs = f.label("differs")
    place, key_cell, value_cell = f("alloca i64"), f("alloca ptr"), f("alloca ptr")
    f.store("i64", "0", place)
    with f.loop("0", "%n") as k:
        more = f(f"call i32 @PyDict_Next(ptr %dict, ptr {place}, ptr {key_cell}, ptr {value_cell})")
        require(f, f.test("ne", more, "0", "i32"), differs)
        key, wanted = f.load("ptr", key_cell), f.load("ptr", f.at("ptr", "%keys", k))
        f.store("ptr", f.load("ptr", value_cell), f.at("ptr", "%children", k))
        with f.when(f.test("ne", key, wanted, "ptr")):
            types = f.test("eq", field(f, key, TYPE, "ptr"), field(f, wanted, TYPE, "ptr"), "ptr")
            require(f, types, differs)
            found = f(f"call i32 @PyObject_RichCompareBool(ptr {key}, ptr {wanted}, i32 2)")
            require(f, f.test("eq", found, "1", "i32"), differs)
    f.do("ret i1 true")
    f.open(differs)
    return f.text("ret i1 false")
