"""Rows that are taken together: squares turned in registers hold what plain loops would have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import functrans as ft
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import DType, For, Kernel, Program
from jit.native import host_target
from jit.squares import MOST_ROWS, MOST_TURNED, squares_of
from tests.jit.loop_programs import NUMPY, run, targets

TARGETS = targets()
SHAPES = ((8, 16), (9, 40), (23, 19), (7, 30), (40, 5))


def numbers(dtype: DType, shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2 if dtype == "bool" else 100, shape).astype(NUMPY[dtype])


@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("dtype", ["f64", "f32", "f16", "u8", "bool"])
def test_turned_loads_and_stores(dtype: DType, known: bool, target: str) -> None:
    """The columns of one array are the rows of another; extents may be known or not."""
    b, inputs, wanted = Builder("turned"), list[NDArray[Any]](), list[NDArray[Any]]()
    for k, (m, n) in enumerate(SHAPES):
        apart = max(m, MOST_ROWS)  # so far apart are the columns of the arrays that are turned
        x = b.input(f"x{k}", dtype, (n - 1) * apart + m)
        y = b.input(f"y{k}", dtype, m * n)
        sizes = b.input(f"sizes{k}", "i64", 2)
        turned, plain = (b.output(f"{name}{k}", dtype, m * n) for name in ("turned", "plain"))
        with b.kernel(f"nest{k}"):
            extents = (m, n) if known else (b.load(sizes, 0), b.load(sizes, 1))
            with b.for_(extents[0], "serial") as row:
                start = b.mul(row.i, n)
                with b.for_(extents[1], "vector") as column:
                    here = b.add(start, column.i)
                    b.store(plain, here, b.load(x, b.add(row.i, b.mul(column.i, apart))))
                with b.for_(extents[1], "vector") as column:
                    here = b.add(start, column.i)
                    b.store(turned, b.add(row.i, b.mul(column.i, m)), b.load(y, here))
        xs, ys = numbers(dtype, ((n - 1) * apart + m,), k), numbers(dtype, (m, n), k + 50)
        inputs += [xs, ys.ravel(), np.array([m, n])]
        wanted += [
            ys.T.ravel(),
            np.array([[xs[i + j * apart] for j in range(n)] for i in range(m)]),
        ]
    found = run(b.finish(), inputs, TARGETS[target])
    for got, want in zip(found, wanted, strict=True):
        assert_array_equal(got, want.ravel())


def nest(
    rows: int,
    columns: int,
    apart: int,
    work: int = 0,
    reads_result: bool = False,
    copies: int = 0,
) -> Program:
    """Writes its rows as columns; before that it stores a number per row by a loop of its own.

    Each element is scaled, and a number added to it `work` times; there may be copies of all.
    """
    b = Builder("nest")
    x, out = b.input("x", "f32", rows * columns), b.output("out", "f32", apart * columns)
    heads = b.output("heads", "f32", rows)
    with b.kernel("nest"), b.for_(rows, "serial") as row:
        scale = b.load(x, row.i)
        with b.for_(1, "serial") as once:
            b.store(heads, b.add(row.i, once.i), scale)
        with b.for_(columns, "vector") as column:
            value = b.mul(scale, b.load(x, b.add(b.mul(row.i, columns), column.i)))
            for _ in range(work):
                value = b.add(value, b.load(x, column.i))
            place = b.add(row.i, b.mul(column.i, apart))
            b.store(out, place, b.add(value, b.load(out, place)) if reads_result else value)
            for k in range(copies):
                b.store(b.output(f"copy{k}", "f32", apart * columns), place, value)
    return b.finish()


def outermost(kernel: Kernel) -> For:
    (loop,) = [s for s in kernel.body.stmts if isinstance(s, For)]
    return loop


@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.parametrize("work", [0, 10])
@pytest.mark.parametrize(("rows", "columns"), [(26, 37), (24, 32), (9, 16)])
def test_loops_beside_the_one_that_is_turned(
    rows: int, columns: int, work: int, target: str
) -> None:
    """Bodies of little work are written out, those of more are a loop."""
    x = numbers("f32", (rows, columns), 0)
    out, heads = run(nest(rows, columns, rows, work), [x.ravel()], TARGETS[target])
    assert_array_equal(heads, x.ravel()[:rows])
    want = x.ravel()[:rows, None] * x + work * x[0]
    assert_array_equal(out, want.T.ravel())


@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.parametrize("inside", [True, False])
def test_totals_of_loops_beside_are_there_before(inside: bool, target: str) -> None:
    """A row's total is read in the loop that would be turned, or of it a number is made before."""
    rows, columns = 26, 37
    b = Builder("totals")
    x, out = b.input("x", "f32", rows * columns), b.output("out", "f32", rows * columns)
    with b.kernel("nest"), b.for_(rows, "serial") as row:
        start = b.mul(row.i, columns)
        zero = b.const("f32", 0.0)
        with b.for_(columns, "vector", [(zero, "add")]) as column:
            read = b.load(x, b.add(start, column.i))
            column.yield_(b.add(column.carries[0], read))
        (total,) = column.results
        double = total if inside else b.add(total, total)
        with b.for_(columns, "vector") as column:
            place = b.add(row.i, b.mul(column.i, rows))
            b.store(out, place, b.add(double, b.load(x, b.add(start, column.i))))
    data = numbers("f32", (rows, columns), 3)
    (found,) = run(b.finish(), [data.ravel()], TARGETS[target])
    sums = data.sum(1, keepdims=True) * (1 if inside else 2)
    assert_array_equal(found, (sums + data).T.ravel())


def test_when_rows_are_taken_together() -> None:
    target = host_target()
    assert squares_of(target, outermost(nest(26, 37, 26).kernels[0])) is not None
    too_few_rows, too_near = nest(3, 37, 26), nest(26, 37, MOST_ROWS - 1)
    read, too_many = nest(26, 37, 26, reads_result=True), nest(26, 37, 26, copies=MOST_TURNED)
    for other in (too_few_rows, too_near, read, too_many):
        assert squares_of(target, outermost(other.kernels[0])) is None


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8"])
@pytest.mark.parametrize("shape", [(70, 300), (2100, 9), (9, 2100), (40, 500), (3, 6000), (65, 64)])
def test_transpositions_of_every_proportion(shape: tuple[int, int], dtype: str) -> None:
    """Loops that are long and short, and result or operand in the order of the loops."""
    x = np.random.default_rng(0).integers(-9, 9, shape).astype(dtype)
    assert_array_equal(ft.jit(lambda x: x.T * 2)(x), x.T * 2)
    y = x[:, :64]
    assert_array_equal(ft.jit(lambda x, y: (x.T - 1, y.T + y.sum()))(x, y)[0], x.T - 1)


def test_threads_share_blocks_of_the_long_loop() -> None:
    """Where the loop that an array goes along is short, its rows stay together."""
    for shape in ((2100, 9), (9, 2100)):
        loops = ft.jit(lambda x: x.T * 2).lower(np.ones(shape)).as_text("loops")
        assert "vector i2 < 32" in loops or "vector i2 < v" in loops, loops
