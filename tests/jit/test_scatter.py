"""Scatters into zeros: tables large enough that the C library clears them, in several chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import lax
from jit.lowering.copying import ZERO_BYTES, ZERO_CHUNK
from jit.lowering.indexing import CROWDED
from jit.runtime import threads

RNG = np.random.default_rng(4)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c16", "i4", "f2"])
@pytest.mark.parametrize("rows", [ZERO_BYTES // 64, ZERO_CHUNK // 64 + 1, 70_001])
def test_sums_by_segment(dtype: str, rows: int) -> None:
    width = 9
    where = RNG.integers(-rows, rows, 500)
    updates = RNG.integers(-8, 8, (500, width)).astype(dtype)

    def f(where: Any, updates: Any) -> Any:
        return fnp.zeros((rows, width), dtype).at[where].add(updates)

    expected = np.zeros((rows, width), dtype)
    np.add.at(expected, where, updates)
    compiled, before = ft.jit(f), threads.num_threads()
    for count in (1, 2):
        threads.set_num_threads(count)
        np.testing.assert_array_equal(compiled(where, updates), expected)
    threads.set_num_threads(before)


def test_the_gradient_of_a_lookup_clears_its_table() -> None:
    table, where = RNG.normal(size=(20_011, 24)), RNG.integers(0, 20_011, 300)
    gradient = ft.jit(ft.grad(lambda t: fnp.sum(fnp.sin(t[where]))))
    expected = np.zeros_like(table)
    np.add.at(expected, where, np.cos(table[where]))
    np.testing.assert_allclose(gradient(table), expected, rtol=1e-12)
    assert "call memset" in gradient.lower(table).as_text("loops")


def test_a_base_of_minus_zeros_is_written() -> None:
    found = ft.jit(lambda v: fnp.full(20_000, -0.0).at[fnp.array([3])].set(v))(np.ones(1))
    assert np.signbit(found).sum() == 19_999


@pytest.mark.parametrize("combine", ["add", "multiply", "min", "max"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c16", "i4", "u1"])
def test_many_updates_of_few_places(combine: str, dtype: str) -> None:
    """Parts are combined apart; the bits are the same on one and two threads."""
    if dtype == "c16" and combine in ("min", "max"):
        return
    rows, count = 37, CROWDED + 13
    where = RNG.integers(-rows, rows, count)
    base = RNG.integers(1, 5, (rows, 3)).astype(dtype)
    updates = RNG.integers(-8, 8, (count, 3)).astype(dtype)
    if combine == "multiply":
        updates = np.where(updates > 6, 2, 1).astype(dtype)
        where[:-40] = 5
        updates[:-40] = 1

    def f(base: Any, where: Any, updates: Any) -> Any:
        return getattr(base.at[where], combine)(updates)

    compiled, before = ft.jit(f), threads.num_threads()
    assert "_parts" in compiled.lower(base, where, updates).as_text("loops")
    expected = base.copy()
    ufunc = {"add": np.add, "multiply": np.multiply, "min": np.minimum, "max": np.maximum}[combine]
    ufunc.at(expected, where, updates)
    for threads_used in (1, 2):
        threads.set_num_threads(threads_used)
        np.testing.assert_array_equal(compiled(base, where, updates), expected)
    threads.set_num_threads(before)


def test_crowded_updates_outside_are_dropped_or_fail() -> None:
    where = RNG.integers(-10, 60, CROWDED)
    dropped = ft.jit(lambda v: fnp.zeros(50).at[where].add(v, mode="drop"))(np.ones(CROWDED))
    inside = where[(where >= -50) & (where < 50)] % 50
    np.testing.assert_array_equal(dropped, np.bincount(inside, minlength=50))
    with pytest.raises(IndexError):
        ft.jit(lambda v: fnp.zeros(50).at[where].add(v))(np.ones(CROWDED))


def test_a_crowd_of_minus_zeros_is_minus_zero() -> None:
    where = RNG.integers(0, 50, CROWDED)
    found = ft.jit(lambda v: fnp.full(50, -0.0).at[where].add(v))(np.full(CROWDED, -0.0))
    assert np.signbit(found).all()


@pytest.mark.parametrize("mode", ["clip", "drop"])
@pytest.mark.parametrize("combine", ["set", "add"])
def test_each_row_has_one_place_of_its_own(mode: str, combine: str) -> None:
    """Fewer rows than x has, in another order of axes, and places beyond the ends."""
    x, v = RNG.normal(size=(5, 4)), RNG.normal(size=3)
    where = np.array([-9, 2, 100]) if mode == "clip" else np.array([3, 0, 2])
    nearest = np.clip(where, 0, 3)

    def f(x: Any, where: Any, v: Any) -> Any:
        return 2 * getattr((3 * x).at[fnp.arange(3), where], combine)(v, mode=mode)

    def g(x: Any, where: Any, v: Any) -> Any:
        return 2 * getattr((3 * x).at[where, fnp.arange(3)], combine)(v, mode=mode)

    expected = 3 * x
    expected[np.arange(3), nearest] = v + (combine == "add") * expected[np.arange(3), nearest]
    np.testing.assert_allclose(ft.jit(f)(x, where, v), 2 * expected, rtol=1e-14)
    turned = ft.jit(g)(x.T.copy(), where, v)
    np.testing.assert_allclose(turned, 2 * expected.T, rtol=1e-14)


def test_each_pair_of_rows_has_one_place_of_its_own() -> None:
    x, v = RNG.normal(size=(5, 4, 3)), RNG.normal(size=(3, 2))
    where = RNG.integers(0, 3, (3, 2))

    def f(x: Any, where: Any, v: Any) -> Any:
        return 2 * (3 * x).at[fnp.arange(3)[:, None], fnp.arange(2)[None], where].set(v)

    expected = 3 * x
    expected[np.arange(3)[:, None], np.arange(2)[None], where] = v
    np.testing.assert_allclose(ft.jit(f)(x, where, v), 2 * expected, rtol=1e-14)


def test_a_slice_that_would_end_outside_is_written_at_the_end() -> None:
    x, update = np.zeros((60, 50)), np.ones((20, 30))

    def f(x: Any, i: Any) -> Any:
        return lax.fori_loop(0, 2, lambda k, x: lax.dynamic_update_slice(x, update, (i, i)), x)

    for i, row, column in ((100, 40, 20), (-100, 0, 0), (7, 7, 7)):
        expected = x.copy()
        expected[row : row + 20, column : column + 30] = 1
        np.testing.assert_array_equal(ft.jit(f)(x, np.int64(i)), expected)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c16"])
def test_expensive_updates_are_made_on_vectors_first(dtype: str) -> None:
    """Elements that meet their places one after another are not also computed one by one."""
    n, rows = 1000, 30
    where, x = RNG.integers(0, rows, n), RNG.normal(size=n).astype(dtype)
    expected = np.zeros(rows, dtype)
    np.add.at(expected, where, np.exp(x))
    compiled = ft.jit(lambda x, where: fnp.zeros(rows, dtype).at[where].add(np.exp(x)))
    np.testing.assert_allclose(compiled(x, where), expected, rtol=1e-4 if dtype == "f4" else 1e-12)
    assert "(read one by one by scatter_add)" in str(compiled.lower(x, where).compile_report())


@pytest.mark.parametrize("width", [3, 24])
def test_what_rows_of_updates_have_in_common_is_made_on_vectors_first(width: int) -> None:
    where, a = RNG.integers(0, 30, 1000), RNG.normal(size=1000)
    rows = RNG.normal(size=(1000, width))
    expected = np.zeros((30, width))
    np.add.at(expected, where, np.exp(a)[:, None] * rows)
    compiled = ft.jit(lambda a, r: fnp.zeros((30, width)).at[where].add(np.exp(a)[:, None] * r))
    np.testing.assert_allclose(compiled(a, rows), expected, rtol=1e-12)
    report = str(compiled.lower(a, rows).compile_report())
    assert "f64[1000]: read one by one by scatter_add" in report


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8"])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 7, 8, 9])
def test_short_rows_are_written_number_by_number(width: int, dtype: str) -> None:
    """But for those that are a vector."""
    where = np.repeat(RNG.integers(0, 30, 20), 9)
    updates = RNG.normal(size=(180, width)).astype(dtype)
    expected = np.zeros((30, width), dtype)
    np.add.at(expected, where, updates)
    compiled = ft.jit(lambda u, i: fnp.zeros((30, width), dtype).at[i].add(u))
    np.testing.assert_allclose(compiled(updates, where), expected, rtol=1e-4)
    write = compiled.lower(updates, where).as_text("loops").split("_write")[1]
    assert ("vector" in write) == (width in (2, 4, 8, 9))


def test_expensive_indices_are_made_on_vectors_first() -> None:
    n, rows = 1000, 30
    x, updates = RNG.random(n), RNG.normal(size=(n, 8))
    expected = np.zeros((rows, 8))
    np.add.at(expected, (np.exp(x) * 10).astype(int), updates)
    compiled = ft.jit(lambda x, u: fnp.zeros((rows, 8)).at[(np.exp(x) * 10).astype(int)].add(u))
    np.testing.assert_allclose(compiled(x, updates), expected, rtol=1e-12)
    assert "full i64[1000]" in str(compiled.lower(x, updates).compile_report())


def test_running_sums_of_expensive_elements_read_them_from_memory() -> None:
    x = RNG.normal(size=(3, 500))
    line = ft.jit(lambda x: np.cumsum(np.exp(x), axis=1))
    np.testing.assert_allclose(line(x), np.cumsum(np.exp(x), axis=1), rtol=1e-12)
    assert "(read one by one by cumsum)" in str(line.lower(x).compile_report())
    rows = ft.jit(lambda x: np.cumsum(np.exp(x), axis=0))
    assert "one by one" not in str(rows.lower(x).compile_report())


@pytest.mark.parametrize("width", [1, 12])
def test_updates_outside_are_passed_over(width: int) -> None:
    """One question for each update: nothing is masked inside."""
    where = RNG.integers(-20, 20, 300)
    updates = RNG.normal(size=(300, width))
    compiled = ft.jit(lambda u: ft.ops.segment_max(u, where, 13))
    expected = np.full((13, width), -np.inf)
    inside = (where >= 0) & (where < 13)
    np.maximum.at(expected, where[inside], updates[inside])
    np.testing.assert_array_equal(compiled(updates), expected)
    assert " where " not in compiled.lower(updates).as_text("loops")


KNOWN_INSIDE = {
    "clipped": lambda i: fnp.clip(i, 0, 29),
    "bits": lambda i: i & 15,
    "a byte": lambda i: fnp.minimum(i.astype("u1").astype(int), 29),
    "a choice": lambda i: fnp.minimum(fnp.where(i < 0, 7, i), 29),
    "a truth": lambda i: (i > 0).astype(int),
}


@pytest.mark.parametrize("name", KNOWN_INSIDE)
def test_indices_that_are_known_to_be_inside_are_not_tested(name: str) -> None:
    make = KNOWN_INSIDE[name]
    index, table = RNG.integers(-100, 100, 200), RNG.normal(size=30)
    compiled = ft.jit(lambda t, i: t[make(i)] * 2.0)
    np.testing.assert_array_equal(compiled(table, index), table[np.asarray(make(index))] * 2.0)
    text = compiled.lower(table, index).as_text("loops")
    assert "fail" not in text
    assert text.count("kernel") == 1, "there is nothing to check"
    assert "add" not in text, "a negative index would count from the end"


@pytest.mark.parametrize(
    "make", [lambda i: fnp.clip(i, -1, 29), lambda i: fnp.minimum(i, 29), lambda i: i - 1]
)
def test_indices_that_may_be_negative_count_from_the_end(make: Any) -> None:
    index, table = RNG.integers(-20, 29, 200), RNG.normal(size=30)
    compiled = ft.jit(lambda t, i: t[make(i)] * 2.0)
    np.testing.assert_array_equal(compiled(table, index), table[np.asarray(make(index))] * 2.0)
