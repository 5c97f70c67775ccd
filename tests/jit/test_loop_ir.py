"""The builder folds, shares and hoists exactly; the checker refuses what is not loop IR."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jit.loop_ir.builder import Builder
from jit.loop_ir.check import LoopIRError, check_program
from jit.loop_ir.nodes import (
    Block,
    Buffer,
    Carry,
    Const,
    Fail,
    For,
    Kernel,
    Leave,
    Load,
    Op,
    Pointer,
    Program,
    Run,
    Store,
    Value,
    Var,
    wrap_integer,
)
from jit.loop_ir.pprint import format_program


def row_sums() -> Program:
    """The example of the builder's docstring."""
    return row_sums_with([])


def row_sums_with(errors: list[str]) -> Program:
    """The same as an inner program."""
    b = Builder("rowsum", errors)
    x = b.input("x", "f64", 200)
    y = b.output("y", "f64", 10)
    with b.kernel("rowsum"), b.for_(10, "parallel") as row:
        with b.for_(20, "vector", [(b.const("f64", -0.0), "add")]) as loop:
            element = b.load(x, b.add(b.mul(row.i, 20), loop.i))
            loop.yield_(b.add(loop.carries[0], element))
        b.store(y, row.i, loop.results[0])
    return b.finish()


def test_printed_form() -> None:
    program = row_sums()
    check_program(program)
    assert (
        format_program(program)
        == """\
program rowsum
  input x: f64[200] at 0
  output y: f64[10] at 0
kernel rowsum
  parallel i0 < 10
    v0 = mul i0 20
    vector i1 < 20 carry c0 = -0.0 by add
      v1 = add v0 i1
      v2 = load x[v1]
      v3 = add c0 v2
      yield v3
    giving r0
    store y[i0] = r0
"""
    )


def test_printed_form_of_every_statement() -> None:
    b = Builder("all")
    x, y = b.input("x", "f32", 8), b.output("y", "f32", 8)
    b.temp("t", "i32", 4, 64)
    with b.kernel("k"):
        with b.while_([b.const("i64", 0)]) as loop:
            loop.test(b.lt(loop.carries[0], 3))
            b.fail("out of range", b.gt(loop.carries[0], 100))
            loop.yield_(b.add(loop.carries[0], 1))
        side = b.if_(b.eq(loop.results[0], 2))
        with side.then():
            side.yield_(b.load(x, 0))
        with side.orelse():
            side.yield_(b.const("f32", 0.5))
        code = b.call("routine", b.ref(y, 2), 7, result="i32")
        assert code is not None
        b.callback(0, [b.ref(x)], "the callback failed")
        b.store(y, 1, side.results[0], b.gt(code, 0))
        table = b.local("table", "i64", 1)
        b.store(table, 0, b.address(x, 3))
        b.run(row_sums_with(b.errors), table, table, b.ref(x))
    program = b.finish(arena_bytes=80)
    check_program(program)
    assert (
        format_program(program)
        == """\
program all arena 80 bytes
  input x: f32[8] at 0
  output y: f32[8] at 0
  temp t: i32[4] at 64 bytes
  local table: i64[1]
  error 1: out of range
  error 2: the callback failed
kernel k
  while carry c0 = 0
    v0 = lt c0 3
    test v0
    v1 = gt c0 100
    fail 1 when v1
    v2 = add c0 1
    yield v2
  giving r0
  v3 = eq r0 2
  if v3
    v4 = load x[0]
    yield v4
  else
    yield 0.5:f32
  giving r1
  v5 = call routine(&y[2], 7)
  callback 0(&x[0]) or fail 2
  v6 = gt v5 0:i32
  store y[1] = r1 where v6
  v7 = address x[3]
  store table[0] = v7
  v8 = run rowsum.1(&table[0], &table[0], &x[0])
  leave v8
program rowsum.1
  input x: f64[200] at 0
  output y: f64[10] at 0
kernel rowsum
  parallel i0 < 10
    v0 = mul i0 20
    vector i1 < 20 carry c0 = -0.0 by add
      v1 = add v0 i1
      v2 = load x[v1]
      v3 = add c0 v2
      yield v3
    giving r0
    store y[i0] = r0
"""
    )


def in_loops(build: Callable[[Builder, Value, Value], object]) -> object:
    """build(b, i, j) with 0 <= i < 6 and 0 <= j < 4."""
    b = Builder("fold")
    with b.kernel("k"), b.nest((6, 4)) as (i, j):
        return build(b, i, j)


def test_index_arithmetic_folds() -> None:
    def build(b: Builder, i: Value, j: Value) -> None:
        flat = b.add(b.mul(i, 4), j)
        assert b.floordiv(flat, 4) is i
        assert b.mod(flat, 4) is j
        assert b.add(i, 0) is i
        assert b.mul(i, 1) is i
        assert isinstance(b.mul(i, 0), Const)
        assert b.add(b.add(i, 2), 3) is b.add(i, 5)
        assert b.add(b.add(i, 2), -2) is i
        assert b.mul(b.mul(i, 2), 3) is b.mul(i, 6)
        assert b.add(3, i) is b.add(i, 3)
        wide = b.add(b.add(b.mul(i, 12), b.mul(j, 3)), 2)
        assert b.floordiv(wide, 3) is b.add(b.mul(i, 4), j)
        assert b.floordiv(wide, 12) is i
        assert isinstance(b.mod(wide, 3), Const)
        assert isinstance(b.floordiv(i, 6), Const)

    in_loops(build)


def test_ranges_decide_comparisons() -> None:
    def build(b: Builder, i: Value, j: Value) -> None:
        for always in (b.lt(i, 6), b.ge(j, 0), b.le(b.add(i, j), 8), b.ne(i, 7)):
            assert isinstance(always, Const)
            assert always.value is True
        assert isinstance(b.lt(i, 5), Op)

    in_loops(build)


def test_integers_fold_with_wraparound() -> None:
    b = Builder("wrap")
    with b.kernel("k"):
        x = b.add(b.const("i8", 127), b.const("i8", 1))
    assert isinstance(x, Const)
    assert x.value == -128
    assert wrap_integer("u16", -1) == 65535


def test_floats_are_never_folded() -> None:
    b = Builder("floats")
    with b.kernel("k"):
        x = b.cast(b.load(b.input("x", "f32", 1), 0), "f64")
        for value in (b.add(x, 0.0), b.mul(x, 1.0), b.sub(x, x), b.min(x, x)):
            assert isinstance(value, Op)


def test_equal_operations_are_shared() -> None:
    def build(b: Builder, i: Value, j: Value) -> None:
        x = b.cast(i, "f64")
        assert b.cast(i, "f64") is x
        assert b.op("sin", x) is b.op("sin", x)
        assert b.mul(x, 0.0) is not b.mul(x, -0.0)
        assert b.mul(x, float("nan")) is b.mul(x, float("nan"))

    in_loops(build)


def test_invariant_work_leaves_loops_but_not_branches() -> None:
    b = Builder("hoist")
    x, n = b.input("x", "f64", 4), b.input("n", "i64", 1)
    y = b.output("y", "f64", 4)
    with b.kernel("k"):
        count = b.load(n, 0)
        with b.for_(4) as outer:
            side = b.if_(b.gt(count, 3))
            with side.then(), b.for_(4) as loop:
                inside = b.op("sin", b.load(x, 0))
                b.store(y, loop.i, inside)
            fixed = b.op("cos", b.load(x, 1))
            b.store(y, outer.i, fixed)
            with b.for_(count):
                maybe = b.load(x, 2)
                b.store(y, 0, maybe)
    check_program(b.finish())
    assert fixed.level == 0
    assert inside.level == 2
    assert maybe.level == 2


def test_values_do_not_leave_their_scope() -> None:
    b = Builder("scope")
    y = b.output("y", "f64", 4)
    x = b.input("x", "f64", 4)
    with b.kernel("k"):
        with b.for_(4) as loop:
            value = b.load(x, loop.i)
        b.store(y, 0, value)
    with pytest.raises(LoopIRError, match="is not defined"):
        check_program(b.finish())


def broken() -> Program:
    """A program without kernels over an input x and an output y."""
    b = Builder("broken")
    b.input("x", "f64", 4)
    b.output("y", "f64", 4)
    return b.finish()


ZERO = Const("i64", 0)
HALF = Const("f64", 0.5)


def test_checker_messages() -> None:
    program = broken()
    x, y = program.buffers

    def fault(*stmts: object) -> str:
        program.kernels = [Kernel("k", Block(list(stmts)))]  # type: ignore[arg-type]
        with pytest.raises(LoopIRError) as caught:
            check_program(program)
        return str(caught.value).removeprefix("broken, kernel k: ")

    var = Var("i64", 1, "i")
    assert fault(Store(x, ZERO, HALF)) == "input x is written"
    assert fault(Store(y, Const("i64", 4), HALF)) == "y[4] is outside the buffer"
    assert fault(Store(y, ZERO, Const("f32", 0.5))) == "expected f64, got f32"
    assert fault(Store(y, HALF, HALF)) == "expected i64, got f64"
    assert fault(Op("f64", 0, "add", (HALF, ZERO))) == "add of mixed types ['f64', 'i64']"
    assert fault(Op("f64", 0, "add", (HALF,))) == "add takes 2 operands"
    assert fault(Op("f64", 0, "plus", (HALF, HALF))) == "unknown operation 'plus'"
    assert fault(Op("f64", 0, "and", (HALF, HALF))) == "and does not take f64"
    assert fault(Op("i64", 0, "exp", (ZERO,))) == "exp does not take i64"
    assert fault(Op("f64", 0, "lt", (HALF, HALF))) == "lt of f64 is not f64"
    assert fault(Fail(1, Const("bool", True))) == "no error has the code 1"
    nested = For(var, Const("i64", 4), Block([For(var, Const("i64", 4), Block(), (), "vector")]))
    nested.kind = "vector"
    assert fault(nested) == "a vector loop inside a vector loop"
    carry = Carry(HALF, Var("f64", 1, "c"), HALF, Var("f64", 0, "r"))
    looped = For(var, Const("i64", 4), Block(), (carry,), "vector")
    assert fault(looped) == "a vector carry needs its combine"
    assert fault(Load(0, x, ZERO, Const("bool", True))) == (
        "a load with where needs its other value"
    )
    assert fault(Op("i8", 0, "neg", (Const("i8", 300),))) == "300 is not a i8"
    assert fault(Leave(ZERO)) == "expected i32, got i64"
    status, place = Var("i32", 0, "s"), Pointer(y, ZERO)
    assert fault(Run(row_sums(), place, place, place, status)) == "a table of addresses holds i64"
    table = Buffer("table", "i64", 1, "local")
    program.buffers = [x, y, table]
    place = Pointer(table, ZERO)
    assert fault(Run(row_sums(), place, place, place, status)).endswith(
        "rowsum has errors of its own"
    )


def test_builder_refuses_misuse() -> None:
    b = Builder("misuse")
    with b.kernel("k"):
        with pytest.raises(TypeError, match="cannot tell the type"):
            b.add(1, 2)
        with pytest.raises(ValueError, match="unknown operation"):
            b.op("plus", b.index(1), 2)
        with pytest.raises(ValueError, match="must end in yield_"), b.for_(3, "serial", [HALF]):
            pass
        with pytest.raises(ValueError, match="opened inside"), b.kernel("inner"):
            pass
