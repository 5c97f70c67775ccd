"""Scatters into zeros: tables large enough that the C library clears them, in several chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
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
