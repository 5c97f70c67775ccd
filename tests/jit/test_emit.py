"""Compiled loop IR computes what NumPy computes, on every target, at odd sizes, inside bounds."""

from __future__ import annotations

import ctypes
import itertools
import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from jit.emit import emit_program
from jit.loop_ir.builder import Builder
from jit.loop_ir.check import check_program
from jit.loop_ir.nodes import FLOATS, DType, LoopKind, Program, Value
from jit.native import compile_program, host_target, portable_target
from jit.vectors import Target
from tests.jit.loop_programs import NUMPY, elementwise, execute, run, targets

SIZES = (0, 1, 7, 8, 9, 17, 33)
TARGETS = targets()
INTEGERS: tuple[DType, ...] = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
REALS: tuple[DType, ...] = ("f16", "f32", "f64")


@pytest.fixture(params=list(TARGETS))
def target(request: pytest.FixtureRequest) -> Target:
    """This machine, then AVX2 only, then SSE2 only."""
    return TARGETS[request.param]


def samples(dtype: DType, n: int, rng: np.random.Generator) -> NDArray[np.generic]:
    """Values that reach the ends of a type, its zeros and, for floats, infinities and NaN."""
    kind = np.dtype(NUMPY[dtype])
    if dtype == "bool":
        return rng.integers(0, 2, n).astype(bool)
    if dtype in FLOATS:
        edges = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.5, -2.5], kind)
        values = (rng.standard_normal(n) * 10).astype(kind)
    else:
        info = np.iinfo(kind)
        edges = np.array([0, 1, info.min, info.max, info.max - 1], kind)
        if info.min < 0:
            edges = np.concatenate([edges, np.array([-1, -2], kind)])
        values = rng.integers(info.min, info.max, n, dtype=kind, endpoint=True)
        values[::2] %= kind.type(100)
    at = rng.integers(0, 2, n).astype(bool)
    values[at] = rng.choice(edges, int(at.sum()))
    return values


def check(
    name: str,
    dtype: DType,
    want: Callable[..., NDArray[np.generic]],
    target: Target,
    arity: int = 2,
    out: DType | None = None,
) -> None:
    """The operation `name` equals a NumPy function bit for bit (any NaN equals any other)."""
    rng = np.random.default_rng(1)
    for n in (1, 200):
        inputs = [samples(dtype, n, rng) for _ in range(arity)]
        with np.errstate(all="ignore"):
            expected = want(*inputs)
        found = elementwise(name, inputs, out or dtype, lambda b, *a: b.op(name, *a), target)
        assert found.dtype == expected.dtype
        assert_array_equal(found, expected)
        # On a tie of zeros NumPy's own minimum and maximum depend on the type and the version.
        if expected.dtype.kind == "f" and name not in ("min", "max", "fmin", "fmax"):
            real = ~np.isnan(expected)
            assert_array_equal(np.signbit(found[real]), np.signbit(expected[real]))


@pytest.mark.parametrize("n", SIZES)
def test_elementwise_at_odd_sizes(n: int, target: Target) -> None:
    rng = np.random.default_rng(n)
    for kind in ("f8", "f4", "i8", "i2", "u1"):
        x, y = (rng.integers(0, 50, n).astype(kind) for _ in range(2))
        found = elementwise(
            "muladd", [x, y], samples_type(x), lambda b, x, y: b.add(b.mul(x, y), 3), target
        )
        assert_array_equal(found, x * y + np.dtype(kind).type(3))


def samples_type(array: NDArray[np.generic]) -> DType:
    """The loop IR name of an array's type."""
    return next(d for d, text in NUMPY.items() if np.dtype(text) == array.dtype)


@pytest.mark.parametrize("dtype", REALS + INTEGERS)
def test_arithmetic(dtype: DType, target: Target) -> None:
    check("add", dtype, np.add, target)
    check("sub", dtype, np.subtract, target)
    check("mul", dtype, np.multiply, target)
    check("neg", dtype, np.negative, target, 1)
    check("abs", dtype, np.abs, target, 1)
    check("min", dtype, np.minimum, target)
    check("max", dtype, np.maximum, target)
    for name, function in {
        "eq": np.equal,
        "ne": np.not_equal,
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
    }.items():
        check(name, dtype, function, target, out="bool")


@pytest.mark.parametrize("dtype", REALS)
def test_float_operations(dtype: DType, target: Target) -> None:
    check("div", dtype, np.divide, target)
    check("rem", dtype, np.fmod, target)
    check("fmin", dtype, np.fmin, target)
    check("fmax", dtype, np.fmax, target)
    check("sqrt", dtype, np.sqrt, target, 1)
    check("floor", dtype, np.floor, target, 1)
    check("ceil", dtype, np.ceil, target, 1)
    check("trunc", dtype, np.trunc, target, 1)
    check("rint", dtype, np.rint, target, 1)
    check("copysign", dtype, np.copysign, target)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_operations(dtype: DType, target: Target) -> None:
    check("floordiv", dtype, np.floor_divide, target)
    check("mod", dtype, np.remainder, target)
    check("rem", dtype, np.fmod, target)
    check("and", dtype, np.bitwise_and, target)
    check("or", dtype, np.bitwise_or, target)
    check("xor", dtype, np.bitwise_xor, target)
    check("not", dtype, np.invert, target, 1)
    check("shl", dtype, np.left_shift, target)
    check("shr", dtype, np.right_shift, target)
    kind = np.dtype(NUMPY[dtype])
    bits = np.dtype(f"u{kind.itemsize}")
    count = lambda x: np.bitwise_count(x.view(bits)).astype(kind)
    check("popcount", dtype, count, target, 1)


def test_wide_integers_divide_exactly(target: Target) -> None:
    """Around 2**52 and 2**53, where the way changes, by a literal and by a value."""
    rng = np.random.default_rng(0)
    a = np.concatenate([rng.integers(-(2**b), 2**b, 24) for b in (20, 51, 52, 53, 62)])
    d = np.concatenate([rng.integers(1, 2**b, 40) for b in (4, 30, 52)])
    d[::3] *= -1
    a[:100] -= a[:100] % d[:100]
    assert_array_equal(
        elementwise("q", [a, d], "i64", lambda b, x, y: b.floordiv(x, y), target), a // d
    )
    assert_array_equal(elementwise("m", [a, d], "i64", lambda b, x, y: b.mod(x, y), target), a % d)
    for divisor in (7, -3, 16, 2**53 + 1):
        found = elementwise("q", [a], "i64", lambda b, x, k=divisor: b.floordiv(x, k), target)
        assert_array_equal(found, a // divisor)
    u = a.view(np.uint64)
    for divisor in (7, 2**63 + 3):
        found = elementwise("q", [u], "u64", lambda b, x, k=divisor: b.floordiv(x, k), target)
        assert_array_equal(found, u // np.uint64(divisor))


def test_integer_division_towards_zero(target: Target) -> None:
    a = np.array([7, -7, 7, -7, 5, -128, -128], np.int8)
    b = np.array([2, 2, -2, -2, 0, -1, 3], np.int8)
    found = elementwise("div", [a, b], "i8", lambda b, x, y: b.div(x, y), target)
    assert_array_equal(found, np.array([3, -3, -3, 3, 0, -128, -42], np.int8))


@pytest.mark.parametrize("name", ["clz", "ctz"])
def test_zero_counts(name: str, target: Target) -> None:
    x = np.array([0, 1, 2, 3, 0x80000000, 0xFFFFFFFF, 48, 0x100], np.uint32)
    found = elementwise(name, [x], "u32", lambda b, x: b.op(name, x), target)
    text = [f"{v:032b}" for v in x]
    want = [len(t) - len(t.lstrip("0") if name == "clz" else t.rstrip("0")) for t in text]
    assert_array_equal(found, np.array(want, np.uint32))


@pytest.mark.parametrize("dtype", REALS)
def test_float_floordiv_and_mod(dtype: DType, target: Target) -> None:
    edges = [np.nan, np.inf, -np.inf, 0.0, -0.0, 5.0, -5.0, 3.0, 0.75, -2.0]
    kind = np.dtype(NUMPY[dtype])
    x, y = (np.array(v, kind) for v in zip(*itertools.product(edges, edges), strict=True))
    with np.errstate(all="ignore"):
        quotient, remainder = np.floor_divide(x, y), np.remainder(x, y)
    for found, want in (
        (elementwise("f", [x, y], dtype, lambda b, x, y: b.floordiv(x, y), target), quotient),
        (elementwise("m", [x, y], dtype, lambda b, x, y: b.mod(x, y), target), remainder),
    ):
        assert_array_equal(found, want)
        real = ~np.isnan(want)
        assert_array_equal(np.signbit(found[real]), np.signbit(want[real]))


@pytest.mark.parametrize("source", [*REALS, *INTEGERS, "bool"])
def test_casts(source: DType, target: Target) -> None:
    rng = np.random.default_rng(2)
    x = samples(source, 100, rng)
    if source in FLOATS:
        big = np.array([1e4, -1e4, 300.7, 3e9, -3e9, 5e9, 1e19, -1e19, 9.3e18, 1e30, 2.0**31])
        with np.errstate(all="ignore"):
            x = np.concatenate([x, big.astype(x.dtype), -big.astype(x.dtype)])
    for dtype in (*REALS, *INTEGERS, "bool"):
        if dtype == "u32" and source in FLOATS:
            # NumPy itself gives several answers out of range.
            y = np.clip(
                np.nan_to_num(x, nan=0, posinf=5, neginf=5), 0, 4e9 if source != "f16" else 6e4
            )
        else:
            y = x
        with np.errstate(all="ignore"):
            want = y.astype(NUMPY[dtype])
        found = elementwise("cast", [y], dtype, lambda b, v, d=dtype: b.cast(v, d), target)
        assert_array_equal(found, want, err_msg=f"{source} -> {dtype}")


def test_double_to_half_rounds_once(target: Target) -> None:
    x = np.array([1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-11, 1 + 2.0**-11 - 2.0**-40, 65519.999999])
    x = np.concatenate([x, -x, x * 2.0**-20, [2.0**-25, 2.0**-25 * (1 + 2.0**-50), 1e-30]])
    found = elementwise("half", [x], "f16", lambda b, v: b.cast(v, "f16"), target)
    assert_array_equal(found, x.astype(np.float16))


def test_every_half_survives_a_round_trip(target: Target) -> None:
    x = np.arange(65536, dtype=np.uint16).view(np.float16)
    found = elementwise("half", [x], "f16", lambda b, v: b.neg(v), target)
    assert_array_equal(found, -x)


def test_bfloat_rounds_to_even() -> None:
    x = np.array([1.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, -3.3e38, 3.4e38, np.inf, 1e-40], np.float32)
    found = elementwise("b", [x], "f32", lambda b, v: b.cast(b.cast(v, "bf16"), "f32"))
    bits = x.view(np.uint32).astype(np.uint64)
    want = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    assert_array_equal(found, want)


@pytest.mark.parametrize("n", [1, 9, 40])
def test_bfloat_in_memory(n: int, target: Target) -> None:
    """Strided loads, arithmetic rounded to the type, and stores."""
    values = np.arange(2 * n, dtype=np.float32) / 8
    b = Builder("bfloat")
    x, out = b.input("x", "bf16", 2 * n), b.output("out", "bf16", n)
    with b.kernel("k"), b.for_(n, "vector") as loop:
        pair = b.load(x, b.mul(loop.i, 2)), b.load(x, b.add(b.mul(loop.i, 2), 1))
        b.store(out, loop.i, b.add(*pair))
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    given = (bits.astype(np.uint32) << 16).view(np.float32)
    found = run(b.finish(), [bits], target)[0].astype(np.uint32) << 16
    want = given[::2] + given[1::2]
    rounded = (want.view(np.uint32) + 0x7FFF + (want.view(np.uint32) >> 16 & 1)) & 0xFFFF0000
    assert_array_equal(found, rounded)


@pytest.mark.parametrize(("source", "dtype"), [("f32", "i32"), ("i64", "f64"), ("f16", "u16")])
def test_bitcast(source: DType, dtype: DType, target: Target) -> None:
    x = samples(source, 40, np.random.default_rng(3))
    x = np.nan_to_num(x) if source in FLOATS else x
    found = elementwise("bits", [x], dtype, lambda b, v: b.bitcast(v, dtype), target)
    assert found.tobytes() == x.tobytes()


def test_bools(target: Target) -> None:
    x, y = (np.random.default_rng(s).integers(0, 2, 37).astype(bool) for s in (1, 2))
    for name, want in {"and": x & y, "or": x | y, "xor": x ^ y, "eq": x == y}.items():
        found = elementwise(name, [x, y], "bool", lambda b, x, y, n=name: b.op(n, x, y), target)
        assert_array_equal(found, want)
    found = elementwise(
        "not", [x, y], "i32", lambda b, x, y: b.select(b.not_(x), b.cast(y, "i32"), 7), target
    )
    assert_array_equal(found, np.where(~x, y.astype(np.int32), 7))


# Reductions

COMBINES = {
    "add": (np.add, 0),
    "mul": (np.multiply, 1),
    "min": (np.minimum, 100),
    "max": (np.maximum, -100),
}


def reduction(
    n: int, dtype: DType, kind: LoopKind, combine: str, init: float, grain: int = 1
) -> Builder:
    """combine over x[0 .. n-1]."""
    b = Builder("reduce")
    x, out = b.input("x", dtype, n), b.output("out", dtype, 1)
    with b.kernel("reduce"):
        carry = (b.const(dtype, init), combine)
        with b.for_(n, kind, [carry], grain=grain) as loop:  # type: ignore[list-item]
            loop.yield_(b.op(combine, loop.carries[0], b.load(x, loop.i)))
        b.store(out, 0, loop.results[0])
    return b


@pytest.mark.parametrize("combine", list(COMBINES))
@pytest.mark.parametrize("n", [*SIZES, 500])
def test_reductions(n: int, combine: str, target: Target) -> None:
    function, init = COMBINES[combine]
    rng = np.random.default_rng(n)
    for dtype in ("f64", "f32", "i32", "i8"):
        x = rng.integers(-3, 4, n).astype(NUMPY[dtype])
        found = run(reduction(n, dtype, "vector", combine, init).finish(), [x], target)[0][0]
        with np.errstate(all="ignore"):
            want = function.reduce(x, dtype=x.dtype, initial=x.dtype.type(init))
        assert found == want


@pytest.mark.parametrize("combine", ["min", "max"])
def test_extrema_propagate_nan(combine: str, target: Target) -> None:
    for n, at in ((5, 3), (40, 0), (40, 39), (100, 50)):
        x = np.arange(n, dtype=float)
        x[at] = np.nan
        found = run(reduction(n, "f64", "vector", combine, 0.0).finish(), [x], target)[0][0]
        assert np.isnan(found)


@pytest.mark.parametrize("combine", ["and", "or", "xor"])
def test_bitwise_reductions(combine: str, target: Target) -> None:
    x = np.random.default_rng(5).integers(0, 2**31, 77)
    init = -1 if combine == "and" else 0
    found = run(reduction(77, "i64", "vector", combine, init).finish(), [x], target)[0][0]
    ufunc = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[combine]
    assert found == ufunc.reduce(x)


def test_sum_keeps_the_sign_of_minus_zero() -> None:
    x = np.array([-0.0] * 9)
    found = run(reduction(9, "f64", "vector", "add", -0.0).finish(), [x])[0][0]
    assert np.signbit(found)


def rows_and_columns(n: int, m: int) -> Builder:
    """Row sums, row maxima and column sums of x[n, m]."""
    b = Builder("sums")
    x = b.input("x", "f64", n * m)
    rows, tops, columns = b.output("r", "f64", n), b.output("t", "f64", n), b.output("c", "f64", m)
    with b.kernel("rows"), b.for_(n) as row:
        inits = [(b.const("f64", 0.0), "add"), (b.const("f64", -np.inf), "max")]
        with b.for_(m, "vector", inits) as loop:  # type: ignore[arg-type]
            v = b.load(x, b.add(b.mul(row.i, m), loop.i))
            loop.yield_(b.add(loop.carries[0], v), b.max(loop.carries[1], v))
        b.store(rows, row.i, loop.results[0])
        b.store(tops, row.i, loop.results[1])
    with b.kernel("columns"), b.for_(m, "vector") as column:
        with b.for_(n, carries=[b.const("f64", 0.0)]) as inner:
            v = b.load(x, b.add(b.mul(inner.i, m), column.i))
            inner.yield_(b.add(inner.carries[0], v))
        b.store(columns, column.i, inner.results[0])
    return b


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (5, 33), (33, 3), (100, 17)])
def test_row_and_column_sums(shape: tuple[int, int], target: Target) -> None:
    x = np.random.default_rng(0).integers(-9, 9, shape).astype(float)
    rows, tops, columns = run(rows_and_columns(*shape).finish(), [x], target)
    assert_array_equal(rows, x.sum(1))
    assert_array_equal(tops, x.max(1))
    assert_array_equal(columns, x.sum(0))


# Memory


@pytest.mark.parametrize("dtype", ["f64", "f32", "f16", "i64", "i16", "u8", "bool"])
@pytest.mark.parametrize("n", [1, 7, 8, 17, 40])
def test_strided_reversed_gathered_and_scattered(dtype: DType, n: int, target: Target) -> None:
    rng = np.random.default_rng(n)
    x = rng.integers(0, 100, 3 * n).astype(NUMPY[dtype])
    index = rng.permutation(n)
    b = Builder("moves")
    source, order = b.input("x", dtype, 3 * n), b.input("order", "i64", n)
    outs = [b.output(name, dtype, n) for name in ("strided", "back", "gathered", "scattered")]
    outs.append(b.output("spread", dtype, 3 * n))
    with b.kernel("moves"), b.for_(n, "vector") as loop:
        i = loop.i
        place = b.load(order, i)
        b.store(outs[0], i, b.load(source, b.add(b.mul(i, 3), 1 if n > 1 else 0)))
        b.store(outs[1], i, b.load(source, b.sub(b.index(n - 1), i)))
        b.store(outs[2], i, b.load(source, place))
        b.store(outs[3], place, b.load(source, i))
        b.store(outs[4], b.mul(i, 3), b.load(source, i))
        b.store(outs[4], b.add(b.mul(i, 3), 1), b.load(source, 0))
        b.store(outs[4], b.sub(b.index(3 * n - 1), b.mul(i, 3)), b.load(source, b.add(i, n)))
    strided, back, gathered, scattered, spread = run(b.finish(), [x, index], target)
    assert_array_equal(strided, x[(1 if n > 1 else 0) :: 3][:n])
    assert_array_equal(back, x[:n][::-1])
    assert_array_equal(gathered, x[index])
    assert_array_equal(scattered[index], x[:n])
    assert_array_equal(spread[0::3], x[:n])
    assert_array_equal(spread[1::3], np.repeat(x[:1], n))
    assert_array_equal(spread[2::3][::-1], x[n : 2 * n])


@pytest.mark.parametrize("dtype", ["f64", "f32", "i16", "u8", "bool"])
@pytest.mark.parametrize("n", [1, 5, 8, 33])
def test_conditional_loads_and_stores(dtype: DType, n: int, target: Target) -> None:
    """x padded by 2 on both sides, and stores of every other element, without touching more."""
    rng = np.random.default_rng(n)
    x = rng.integers(1, 100, n).astype(NUMPY[dtype])
    b = Builder("pad")
    source = b.input("x", dtype, n)
    padded, some, swapped = (
        b.output("padded", dtype, n + 4),
        b.output("some", dtype, n),
        b.output("swapped", dtype, n + 4),
    )
    with b.kernel("pad"):
        with b.for_(n, "vector") as loop:
            b.store(some, loop.i, b.const(dtype, 0))
        with b.for_(n + 4, "vector") as loop:
            at = b.sub(loop.i, 2)
            inside = b.and_(b.ge(at, 0), b.lt(at, n))
            value = b.load(source, at, inside, 1)
            b.store(padded, loop.i, value)
            even = b.and_(inside, b.eq(b.and_(at, 1), 0))
            b.store(some, at, value, even)
            far = b.select(inside, b.sub(n - 1, at), 10**6)
            b.store(swapped, loop.i, b.load(source, far, inside, 0))
    found = run(b.finish(), [x], target)
    one = np.array([1, 1]).astype(x.dtype)
    assert_array_equal(found[0], np.concatenate([one, x, one]))
    want = np.zeros_like(x)
    want[::2] = x[::2]
    assert_array_equal(found[1], want)
    assert_array_equal(found[2][2:-2], x[::-1])
    assert not found[2][:2].any()


def test_temps_locals_and_constants() -> None:
    table = np.array([3.0, 1.0, 4.0, 1.0, 5.0])
    b = Builder("places")
    x, out = b.input("x", "f64", 5), b.output("out", "f64", 5)
    temp = b.temp("t", "f64", 5, 64)
    local = b.local("l", "f64", 5)
    fixed = b.constants("c", "f64", table.tobytes(), 5)
    with b.kernel("first"), b.for_(5, "vector") as loop:
        b.store(temp, loop.i, b.add(b.load(x, loop.i), b.load(fixed, loop.i)))
    with b.kernel("second"):
        with b.for_(5, "vector") as loop:
            b.store(local, loop.i, b.load(temp, loop.i))
        with b.for_(5) as loop:
            b.store(out, loop.i, b.load(local, b.sub(b.index(4), loop.i)))
    found = run(b.finish(arena_bytes=64 + 40), [np.arange(5.0)])[0]
    assert_array_equal(found, (np.arange(5.0) + table)[::-1])


def test_donated_inputs_are_written_in_place() -> None:
    b = Builder("donate")
    x = b.input("x", "f64", 9, writable=True)
    with b.kernel("k"), b.for_(9, "vector") as loop:
        b.store(x, loop.i, b.mul(b.load(x, loop.i), 2.0))
    native = compile_program(b.finish())
    data = np.arange(9.0)
    pointers = (ctypes.c_void_p * 1)(data.ctypes.data)
    assert native(ctypes.addressof(pointers), 0, 0) == 0
    assert_array_equal(data, 2 * np.arange(9.0))


# Control


def test_dynamic_extents(target: Target) -> None:
    """The extent is read from an input: vector loops, carries, and negative extents."""
    b = Builder("dynamic")
    count, x = b.input("n", "i64", 1), b.input("x", "f32", 50)
    out, total = b.output("out", "f32", 50), b.output("total", "f32", 1)
    with b.kernel("k"):
        n = b.load(count, 0)
        with b.for_(50, "vector") as loop:
            b.store(out, loop.i, -1.0)
        with b.for_(n, "vector", [(b.const("f32", 0.5), "add")]) as loop:
            v = b.load(x, loop.i)
            b.store(out, loop.i, b.mul(v, 2.0))
            loop.yield_(b.add(loop.carries[0], v))
        b.store(total, 0, loop.results[0])
    program = b.finish()
    check_program(program)
    native = compile_program(program, target)
    data = np.arange(50, dtype=np.float32)
    for n in (-3, 0, 1, 3, 4, 7, 8, 15, 16, 17, 31, 50):
        status, (found, added) = execute(native, [np.array([n]), data], [(50, "f32"), (1, "f32")])
        m = max(n, 0)
        assert status == 0
        assert_array_equal(found, np.concatenate([2 * data[:m], np.full(50 - m, -1)]))
        assert added[0] == data[:m].sum() + np.float32(0.5)


def test_while_counts_collatz_steps() -> None:
    b = Builder("collatz")
    start, out = b.input("start", "i64", 6), b.output("steps", "i64", 6)
    with b.kernel("k"), b.for_(6) as loop:
        inits = [b.load(start, loop.i), b.const("i64", 0)]
        with b.while_(inits) as steps:
            value, count = steps.carries
            steps.test(b.gt(value, 1))
            half, odd = b.op("shr", value, 1), b.eq(b.and_(value, 1), 1)
            steps.yield_(b.select(odd, b.add(b.mul(value, 3), 1), half), b.add(count, 1))
        b.store(out, loop.i, steps.results[1])
    found = run(b.finish(), [np.array([1, 2, 3, 6, 7, 27])])[0]
    assert_array_equal(found, [0, 1, 7, 8, 16, 111])


def test_if_runs_one_side() -> None:
    b = Builder("sides")
    x, out, marks = b.input("x", "f64", 4), b.output("out", "f64", 4), b.output("m", "i64", 2)
    with b.kernel("k"):
        b.store(marks, 0, 0)
        b.store(marks, 1, 0)
        with b.for_(4) as loop:
            v = b.load(x, loop.i)
            side = b.if_(b.gt(v, 0.0))
            with side.then():
                b.store(marks, 0, b.add(b.load(marks, 0), 1))
                side.yield_(b.op("sqrt", v))
            with side.orelse():
                inner = b.if_(b.eq(v, 0.0))
                with inner.then():
                    inner.yield_(b.const("f64", 7.0))
                with inner.orelse():
                    b.store(marks, 1, b.add(b.load(marks, 1), 1))
                    inner.yield_(b.neg(v))
                side.yield_(inner.results[0])
            b.store(out, loop.i, side.results[0])
    found, marks_found = run(b.finish(), [np.array([4.0, -3.0, 0.0, 9.0])])
    assert_array_equal(found, [2.0, 3.0, 7.0, 3.0])
    assert_array_equal(marks_found, [2, 1])


@pytest.mark.parametrize("kind", ["serial", "vector", "parallel", "parallel_vector"])
def test_fail_leaves_with_its_code(kind: LoopKind, target: Target) -> None:
    b = Builder("bounds")
    x = b.input("x", "i64", 37)
    out = b.output("out", "i64", 37)
    with b.kernel("k"), b.for_(37, kind) as loop:
        v = b.load(x, loop.i)
        b.fail("negative", b.lt(v, 0))
        b.fail("too large", b.gt(v, 99))
        b.store(out, loop.i, v)
    program = b.finish()
    check_program(program)
    assert list(program.errors) == ["negative", "too large"]
    native = compile_program(program, target)
    for at, value, want in ((0, 5, 0), (36, -1, 1), (3, 100, 2), (20, 1000, 2)):
        data = np.arange(37)
        data[at] = value
        status, _ = execute(native, [data], [(37, "i64")])
        assert status == want


def test_call_of_a_c_function() -> None:
    received: list[tuple[int, float, int]] = []
    signature = ctypes.CFUNCTYPE(
        ctypes.c_int32, ctypes.c_int64, ctypes.c_double, ctypes.POINTER(ctypes.c_double)
    )

    def record(count: int, factor: float, data: ctypes.Array[ctypes.c_double]) -> int:
        received.append((count, factor, int(data[0])))
        data[1] = 42.0
        return 3

    function = signature(record)
    b = Builder("call")
    out, code = b.output("out", "f64", 4), b.output("code", "i32", 1)
    with b.kernel("k"):
        b.store(out, 2, 7.0)
        result = b.call("record", 5, 0.25, b.ref(out, 2), result="i32")
        assert isinstance(result, Value)
        b.store(code, 0, result)
    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    found, code_found = run(b.finish(), [], symbols={"record": address})
    assert received == [(5, 0.25, 7)]
    assert found[3] == 42.0
    assert code_found[0] == 3


def test_callback_and_its_failure() -> None:
    seen: list[int] = []

    @ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.POINTER(ctypes.c_void_p))
    def trampoline(index: int, pointers: ctypes.Array[ctypes.c_void_p]) -> int:
        seen.append(index)
        ctypes.cast(pointers[1], ctypes.POINTER(ctypes.c_double))[0] = 2.5
        return int(index == 9)

    address = ctypes.cast(trampoline, ctypes.c_void_p).value or 0
    b = Builder("callback")
    x, out = b.input("x", "i64", 1), b.output("out", "f64", 1)
    with b.kernel("k"):
        b.callback(b.load(x, 0), [b.ref(x), b.ref(out)], "the callback raised")
    native = compile_program(b.finish(), symbols={"ft_callback": address})
    assert execute(native, [np.array([4])], [(1, "f64")])[1][0][0] == 2.5
    assert execute(native, [np.array([9])], [(1, "f64")])[0] == 1
    assert seen == [4, 9]


# Parallel loops


@ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
def parallel_for(function: int, context: int, n: int, grain: int) -> None:
    """Chunks in reverse order: what no result may notice."""
    body = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(function)
    for low in reversed(range(0, n, grain)):
        body(context, low, min(low + grain, n))


ADDRESS = ctypes.cast(parallel_for, ctypes.c_void_p).value or 0
SCRAMBLED = {"ft_parallel_for": ADDRESS, "ft_parallel_hot": ADDRESS}


@pytest.mark.parametrize("symbols", [{}, SCRAMBLED], ids=["serial", "chunks"])
@pytest.mark.parametrize("n", [1, 9, 100, 1000])
def test_parallel_loops(n: int, symbols: dict[str, int], target: Target) -> None:
    x = np.random.default_rng(n).standard_normal(n)
    b = Builder("parallel")
    source, factor = b.input("x", "f64", n), b.input("factor", "f64", 1)
    flat, rows = b.output("flat", "f64", n), b.output("rows", "f64", n)
    with b.kernel("k"):
        f = b.load(factor, 0)
        with b.for_(n, "parallel_vector", grain=8) as loop:
            b.store(flat, loop.i, b.mul(b.load(source, loop.i), f))
        with b.for_(n, "parallel", grain=3) as loop:
            with b.for_(n, "vector", [(b.const("f64", -np.inf), "max")]) as inner:
                inner.yield_(b.max(inner.carries[0], b.load(source, inner.i)))
            b.store(rows, loop.i, b.mul(b.sub(inner.results[0], b.load(source, loop.i)), f))
    found = run(b.finish(), [x, np.array([3.0])], target, symbols)
    assert_array_equal(found[0], x * 3.0)
    assert_array_equal(found[1], (x.max() - x) * 3.0)


@pytest.mark.parametrize("kind", ["parallel", "parallel_vector"])
@pytest.mark.parametrize("n", [0, 1, 5, 37, 300, 5000])
def test_parallel_reductions_do_not_depend_on_the_chunks(n: int, kind: LoopKind) -> None:
    x = np.random.default_rng(n).standard_normal(n)
    results = [
        run(reduction(n, "f64", kind, "add", 0.0, grain=16).finish(), [x], None, symbols)[0][0]
        for symbols in ({}, SCRAMBLED)
    ]
    assert results[0] == results[1]
    assert abs(results[0] - x.sum()) <= 1e-12 * np.abs(x).sum()


# Inner programs


def doubling(errors: list[str]) -> Program:
    """out = 2 x for three numbers, which must not be negative."""
    b = Builder("doubling", errors)
    x, out = b.input("x", "f64", 3), b.output("out", "f64", 3)
    with b.kernel("k"), b.for_(3) as loop:
        value = b.load(x, loop.i)
        b.fail("a negative number", b.lt(value, 0.0))
        b.store(out, loop.i, b.mul(value, 2.0))
    return b.finish()


@pytest.mark.parametrize("parallel", [False, True])
def test_an_inner_program_is_run_on_slices(target: Target, parallel: bool) -> None:
    """Four rows of three, by one program that is called for each, twice."""
    b = Builder("rows")
    inner = doubling(b.errors)
    x, out = b.input("x", "f64", 12), b.output("out", "f64", 12)
    with b.kernel("k"), b.for_(4, "parallel" if parallel else "serial") as loop:
        ins, outs = b.local("ins", "i64", 1), b.local("outs", "i64", 1)
        start = b.mul(loop.i, 3)
        for source in (x, out):
            b.store(ins, 0, b.address(source, start))
            b.store(outs, 0, b.address(out, start))
            b.run(inner, ins, outs, b.ref(ins))
    program = b.finish()
    check_program(program)
    rows = np.arange(12.0)
    assert_array_equal(run(program, [rows], target, SCRAMBLED if parallel else {})[0], 4 * rows)
    rows[7] = -1.0
    native = compile_program(program, target, SCRAMBLED if parallel else {})
    assert execute(native, [rows], [(12, "f64")])[0] == 1
    assert native.llvm_text.count("define internal i32 @p0.") == 2


# The whole


def test_text_is_deterministic() -> None:
    texts = {emit_program(rows_and_columns(5, 9).finish(), host_target(), True).text for _ in "ab"}
    assert len(texts) == 1


def test_programs_live_side_by_side_and_free_their_code() -> None:
    x = np.arange(9.0)
    natives = []
    for k in range(3):
        b = Builder("scale")
        source, out = b.input("x", "f64", 9), b.output("out", "f64", 9)
        with b.kernel("k"), b.for_(9, "vector") as loop:
            b.store(out, loop.i, b.mul(b.load(source, loop.i), float(k)))
        natives.append(compile_program(b.finish()))
    for k in (2, 0, 1):
        assert_array_equal(execute(natives[k], [x], [(9, "f64")])[1][0], x * k)
    del natives[0]
    assert_array_equal(execute(natives[0], [x], [(9, "f64")])[1][0], x)


def test_texts_of_a_program() -> None:
    b = Builder("texts")
    out = b.output("out", "f64", 1)
    with b.kernel("k"):
        b.store(out, 0, 1.0)
    native = compile_program(b.finish())
    assert "define i32 @ft_entry" in native.llvm_text
    assert "ft_entry:" in native.asm_text()


def test_an_unknown_symbol_is_an_error() -> None:
    b = Builder("unknown")
    with b.kernel("k"):
        b.call("no_such_function_anywhere", 1)
    with pytest.raises(KeyError, match="no_such_function_anywhere"):
        compile_program(b.finish())


@pytest.mark.parametrize("n", SIZES)
def test_while_in_lanes_counts_collatz_steps(target: Target, n: int) -> None:
    """Each lane stops by itself; a branch inside takes both ways."""
    b = Builder("collatz")
    x, y = b.input("x", "i64", n), b.output("y", "i64", n)
    with b.kernel("k"), b.for_(n, "vector") as loop:
        with b.while_([b.load(x, loop.i), b.const("i64", 0)]) as steps:
            value, count = steps.carries
            steps.test(b.gt(value, 1))
            branch = b.if_(b.eq(b.and_(value, 1), 0))
            with branch.then():
                branch.yield_(b.op("shr", value, 1))
            with branch.orelse():
                branch.yield_(b.add(b.mul(value, 3), 1))
            steps.yield_(branch.results[0], b.add(count, 1))
        b.store(y, loop.i, steps.results[1])

    def collatz(value: int) -> int:
        count = 0
        while value > 1:
            value = value // 2 if value % 2 == 0 else 3 * value + 1
            count += 1
        return count

    starts = np.arange(3, n + 3)
    (found,) = run(b.finish(), [starts], target)
    assert_array_equal(found, [collatz(int(v)) for v in starts])


def test_a_branch_runs_only_lanes_that_take_it(target: Target) -> None:
    """A loop that would not end for the others, and a store and a failure that are not theirs."""
    n = 21
    b = Builder("sides")
    x, y = b.input("x", "f64", n), b.output("y", "f64", n)
    with b.kernel("k"), b.for_(n, "vector") as loop:
        value = b.load(x, loop.i)
        b.store(y, loop.i, value)
        branch = b.if_(b.gt(value, 3.0))
        with branch.then():
            b.fail("a lane that is not here", b.le(value, 3.0))
            with b.while_([value]) as shrink:
                shrink.test(b.gt(shrink.carries[0], 3.0))
                shrink.yield_(b.mul(shrink.carries[0], 0.5))
            b.store(y, loop.i, shrink.results[0])
        with branch.orelse():
            pass
    values = np.arange(n) * 0.75
    (found,) = run(b.finish(), [values], target)
    wanted = values.copy()
    while (wanted > 3.0).any():
        wanted[wanted > 3.0] *= 0.5
    assert_array_equal(found, wanted)


def test_what_lanes_share_stays_one_value(target: Target) -> None:
    """A counter in a vector loop is a scalar: it may be the test of a while and an offset."""
    n = 13
    b = Builder("shared")
    x, y = b.input("x", "f64", 5), b.output("y", "f64", n)
    last = b.output("last", "i64", 1)
    with b.kernel("k"), b.for_(n, "vector") as loop:
        inits = [b.const("i64", 0), b.cast(loop.i, "f64")]
        with b.while_(inits) as steps:
            k, total = steps.carries
            steps.test(b.lt(k, 5))
            steps.yield_(b.add(k, 1), b.add(total, b.load(x, k)))
        b.store(y, loop.i, steps.results[1])
        b.store(last, 0, steps.results[0])
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    found, count = run(b.finish(), [values], target)
    assert_array_equal(found, np.arange(n) + 31.0)
    assert_array_equal(count, [5])


def test_grown_memory_keeps_what_it_held(target: Target) -> None:
    """Numbers noted on the way up are read on the way down; a failure before that is one."""
    b = Builder("stack")
    n, y = b.input("n", "i64", 1), b.output("y", "i64", 1)
    with b.kernel("k"):
        stack, wanted = b.grown("stack", "i32"), b.load(n, 0)
        b.fail("too many", b.gt(wanted, 10**7))
        with b.for_(wanted) as up:
            b.grow(stack, b.add(up.i, 1), "no memory")
            b.store(stack, up.i, b.cast(b.mul(up.i, up.i), "i32"))
        with b.for_(wanted, "serial", [b.const("i64", 0)]) as down:
            k = b.sub(b.sub(wanted, 1), down.i)
            total = b.add(b.mul(down.carries[0], 3), b.cast(b.load(stack, k), "i64"))
            down.yield_(b.rem(total, 1_000_003))
        b.store(y, 0, down.results[0])
    program = b.finish()
    for count in (0, 1, 5, 3000):
        total = 0
        for k in reversed(range(count)):
            total = (total * 3 + k * k) % 1_000_003
        (found,) = run(program, [np.array([count])], target)
        assert_array_equal(found, [total])
    native = compile_program(program, target)
    assert execute(native, [np.array([10**7 + 1])], [(1, "i64")], 0)[0] == 1


@pytest.mark.parametrize(
    ("functions", "size", "called"),
    [(2, 1000, False), (3, 1000, True), (3, 1 << 21, False), (9, 1 << 21, True)],
)
def test_functions_are_written_in_place_where_there_are_few_or_it_takes_long(
    functions: int, size: int, called: bool
) -> None:
    b = Builder("chain")
    x, out = b.input("x", "f64", size), b.output("out", "f64", size)
    with b.kernel("only"), b.for_(size, "vector") as loop:
        value = b.load(x, loop.i)
        for _ in range(functions):
            value = b.op("exp", value)
        b.store(out, loop.i, value)
    text = emit_program(b.finish(), portable_target("avx2"), False).text
    assert bool(re.search(r"call <\d+ x double> @ft\.exp", text)) == called
