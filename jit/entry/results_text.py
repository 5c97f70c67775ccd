"""Emits what makes the results of a record's program: memory before it runs, objects afterwards."""

from __future__ import annotations

from jit.entry.layout import DATA, KEEPS_HASH, LIST_ITEMS, TUPLE_HASH, TUPLE_ITEMS
from jit.entry.reading import SCALAR_BYTES, field, require, switch, word
from jit.entry.words import WORD, Build, Made, Output, Packed, Record
from jit.runtime.writer import Function

BLOCKS = "ft_block_table"
MAKE_ARRAY, TAKE, GIVE = 0, 1, 2
"""The functions of that table; they are null until recycled blocks are there."""


def results() -> str:
    """Memory for the outputs, their addresses in `outs`; 0 where there is none, with an error."""
    f = Function(
        "internal i1 @results(ptr %rec, ptr %ins, ptr %given, ptr %outs, ptr %scratch, ptr %found)"
    )
    failed = f.label("failed")
    outputs, count = word(f, "%rec", Record.OUTPUT, "ptr"), word(f, "%rec", Record.OUTPUTS)
    with f.loop("0", count) as i:
        o = f.at("i8", outputs, f.mul(i, str(WORD * Output.SIZE)))
        cell = f.at("ptr", "%outs", i)
        place = f.at("ptr", "%found", word(f, o, Output.TARGET))

        def array() -> None:
            dtype, dims = word(f, o, Output.DTYPE, "ptr"), word(f, o, Output.TABLE, "ptr")
            nd = f(f"trunc i64 {word(f, o, Output.COUNT)} to i32")
            size = word(f, o, Output.BYTES)
            made = f(f"call ptr @new_array(ptr {dtype}, i32 {nd}, ptr {dims}, i64 {size})")
            require(f, f.test("ne", made, "null", "ptr"), failed)
            f.store("ptr", made, place)
            f.store("ptr", field(f, made, DATA, "ptr"), cell)

        def taken() -> None:
            source = word(f, o, Output.INPUT)
            obj = f.load("ptr", f.at("ptr", "%given", source))
            f.do(f"call void @Py_IncRef(ptr {obj})")
            f.store("ptr", obj, place)
            f.store("ptr", f.load("ptr", f.at("ptr", "%ins", source)), cell)

        def scalar() -> None:
            f.store("ptr", f.at("i8", "%scratch", f.mul(i, str(SCALAR_BYTES))), cell)

        kind = word(f, o, Output.KIND)
        is_new = f.test("eq", kind, str(int(Made.ARRAY)))
        is_taken = f.test("eq", kind, str(int(Made.TAKEN)))
        f.choose(is_new, array, lambda: f.choose(is_taken, taken, scalar))
    f.do("ret i1 true")
    f.open(failed)
    return f.text("ret i1 false")


def new_array() -> str:
    """A new ndarray; one of `size` > 0 bytes owns a recycled block where there are such."""
    f = Function("internal ptr @new_array(ptr %dtype, i32 %nd, ptr %dims, i64 %size)")
    plain = f.label("plain")
    require(f, f.test("ne", "%size", "0"), plain)
    maker = f.load("ptr", f.at("ptr", f"@{BLOCKS}", str(MAKE_ARRAY)))
    require(f, f.test("ne", maker, "null", "ptr"), plain)
    made = f(f"call ptr {maker}(ptr %dtype, i32 %nd, ptr %dims, i64 %size)")
    with f.when(f.test("ne", made, "null", "ptr")):
        f.do(f"ret ptr {made}")
        f.open(f.label("unreached"))
    f.do("call void @PyErr_Clear()")
    f.jump(plain)
    f.open(plain)
    f.do("call void @Py_IncRef(ptr %dtype)")
    fresh = f(
        "call ptr @PyArray_NewFromDescr(ptr @PyArray_Type, ptr %dtype, i32 %nd, ptr %dims, "
        "ptr null, ptr null, i32 0, ptr null)"
    )
    return f.text(f"ret ptr {fresh}")


def packed() -> str:
    """Make objects of the scalar outputs, and the containers; 0 on failure, with an error set."""
    f = Function("internal i1 @packed(ptr %rec, ptr %outs, ptr %found)")
    failed = f.label("failed")
    scalar_objects(f, failed)
    builds, count = word(f, "%rec", Record.BUILD, "ptr"), word(f, "%rec", Record.BUILDS)
    with f.loop("0", count) as i:
        b = f.at("i8", builds, f.mul(i, str(WORD * Build.SIZE)))
        number = word(f, b, Build.COUNT)
        source = f.at("ptr", "%found", word(f, b, Build.SOURCE))
        place = f.at("ptr", "%found", word(f, b, Build.TARGET))
        obj = word(f, b, Build.OBJECT, "ptr")

        def done(made: str) -> None:
            require(f, f.test("ne", made, "null", "ptr"), failed)
            f.store("ptr", made, place)

        def moved(items: str) -> None:
            """The children become the container's: their references go with them."""
            with f.loop("0", number) as k:
                cell = f.at("ptr", source, k)
                f.store("ptr", f.load("ptr", cell), f.at("ptr", items, k))
                f.store("ptr", "null", cell)

        def tuple_of() -> None:
            made = f(f"call ptr @PyTuple_New(i64 {number})")
            done(made)
            moved(f.at("i8", made, str(TUPLE_ITEMS)))

        def named() -> None:
            made = f(f"call ptr @PyType_GenericAlloc(ptr {obj}, i64 {number})")
            done(made)
            if KEEPS_HASH:
                f.store("i64", "-1", f.at("i8", made, str(TUPLE_HASH)))
            moved(f.at("i8", made, str(TUPLE_ITEMS)))

        def list_of() -> None:
            made = f(f"call ptr @PyList_New(i64 {number})")
            done(made)
            moved(field(f, made, LIST_ITEMS, "ptr"))

        def dictionary() -> None:
            made = f("call ptr @PyDict_New()")
            done(made)
            with f.loop("0", number) as k:
                cell = f.at("ptr", source, k)
                value, key = f.load("ptr", cell), f.load("ptr", f.at("ptr", obj, k))
                bad = f(f"call i32 @PyDict_SetItem(ptr {made}, ptr {key}, ptr {value})")
                require(f, f.test("eq", bad, "0", "i32"), failed)
                f.store("ptr", "null", cell)
                f.do(f"call void @Py_DecRef(ptr {value})")

        def constant() -> None:
            f.do(f"call void @Py_IncRef(ptr {obj})")
            f.store("ptr", obj, place)

        def called() -> None:
            done(
                f(f"call ptr @PyObject_Vectorcall(ptr {obj}, ptr {source}, i64 {number}, ptr null)")
            )
            f.do(f"call void @cleared(ptr {source}, i64 {number})")

        switch(
            f,
            word(f, b, Build.KIND),
            {
                Packed.TUPLE: tuple_of,
                Packed.NAMEDTUPLE: named,
                Packed.LIST: list_of,
                Packed.DICT: dictionary,
                Packed.CONSTANT: constant,
                Packed.CALL: called,
            },
            failed,
        )
    f.do("ret i1 true")
    f.open(failed)
    return f.text("ret i1 false")


def scalar_objects(f: Function, failed: str) -> None:
    """Python numbers and NumPy scalars of the outputs that are such."""
    outputs, count = word(f, "%rec", Record.OUTPUT, "ptr"), word(f, "%rec", Record.OUTPUTS)
    with f.loop("0", count) as i:
        o = f.at("i8", outputs, f.mul(i, str(WORD * Output.SIZE)))
        place = f.at("ptr", "%found", word(f, o, Output.TARGET))
        kind = word(f, o, Output.KIND)
        with f.when(f.test("ugt", kind, str(int(Made.TAKEN)))):
            data = f.load("ptr", f.at("ptr", "%outs", i))

            def keep(call: str) -> None:
                made = f(f"call ptr {call}")
                require(f, f.test("ne", made, "null", "ptr"), failed)
                f.store("ptr", made, place)

            def scalar() -> None:
                dtype = word(f, o, Output.DTYPE, "ptr")
                keep(f"@PyArray_Scalar(ptr {data}, ptr {dtype}, ptr null)")

            def floating() -> None:
                keep(f"@PyFloat_FromDouble(double {f.load('double', data)})")

            def integer() -> None:
                keep(f"@PyLong_FromLongLong(i64 {f.load('i64', data)})")

            def boolean() -> None:
                byte = f.load("i8", data)
                keep(f"@PyBool_FromLong(i64 {f(f'zext i8 {byte} to i64')})")

            def wide() -> None:
                imag = f.load("double", f.at("double", data, "1"))
                keep(f"@PyComplex_FromDoubles(double {f.load('double', data)}, double {imag})")

            switch(
                f,
                kind,
                {
                    Made.SCALAR: scalar,
                    Made.FLOAT: floating,
                    Made.INT: integer,
                    Made.BOOL: boolean,
                    Made.COMPLEX: wide,
                },
                failed,
            )


def cleared() -> str:
    """Give up the references in n cells, some of which may be null."""
    f = Function("internal void @cleared(ptr %cells, i64 %n)")
    with f.loop("0", "%n") as k:
        cell = f.at("ptr", "%cells", k)
        obj = f.load("ptr", cell)
        f.store("ptr", "null", cell)
        with f.when(f.test("ne", obj, "null", "ptr")):
            f.do(f"call void @Py_DecRef(ptr {obj})")
    return f.text()
