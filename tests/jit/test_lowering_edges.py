"""Sorts of joined operands, and updates of rows that are fewer than the array has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import lax

RNG = np.random.default_rng(11)


@pytest.mark.parametrize("sizes", [(3, 9), (9, 3), (5, 6, 7)])
def test_what_is_sorted_along_may_be_joined_of_parts(sizes: tuple[int, ...]) -> None:
    """The order names places in any part."""
    parts = [RNG.standard_normal((4, n)) for n in sizes]
    keys = RNG.standard_normal((4, sum(sizes)))

    def f(keys: Any, parts: Any) -> Any:
        joined = fnp.concatenate([2.0 * part for part in parts], axis=1)
        return lax.sort((keys, joined), dimension=1)

    found, along = ft.jit(f)(keys, parts)
    order = np.argsort(keys, axis=1)
    np.testing.assert_array_equal(found, np.sort(keys))
    np.testing.assert_array_equal(along, np.take_along_axis(2 * np.hstack(parts), order, 1))


@pytest.mark.parametrize("around", [(3, 4), (-2, 5), (0, 9)])
def test_what_is_sorted_along_may_be_padded(around: tuple[int, int]) -> None:
    """The order names places in the padding and in the line."""
    x = RNG.standard_normal(20)
    keys = RNG.standard_normal(20 + sum(around))

    def f(keys: Any, x: Any) -> Any:
        padded = lax.pad(fnp.exp(x), 0.0, [(*around, 0)])
        return lax.sort((keys, padded), dimension=0)

    low, high = around
    padded = np.pad(np.exp(x)[max(-low, 0) :], (max(low, 0), high))
    found, along = ft.jit(f)(keys, x)
    np.testing.assert_array_equal(found, np.sort(keys))
    np.testing.assert_allclose(along, padded[np.argsort(keys)], rtol=1e-14)


@pytest.mark.parametrize("k", [2, 40])
def test_the_largest_of_joined_parts(k: int) -> None:
    a, b = RNG.standard_normal((3, 30)), RNG.standard_normal((3, 21))
    values, places = ft.jit(lambda a, b: lax.top_k(fnp.concatenate([a, 2 * b], 1), k))(a, b)
    joined = np.hstack([a, 2 * b])
    order = np.argsort(-joined, axis=1)[:, :k]
    np.testing.assert_array_equal(places, order)
    np.testing.assert_array_equal(values, np.take_along_axis(joined, order, 1))


@pytest.mark.parametrize("k", [3, 70])
@pytest.mark.parametrize("around", [(3, 4), (-2, 50), (60, 0)])
def test_the_largest_of_a_padded_line(around: tuple[int, int], k: int) -> None:
    x, (low, high) = RNG.standard_normal(90), around
    values, places = ft.jit(lambda x: lax.top_k(lax.pad(2 * x, -1.0, [(*around, 0)]), k))(x)
    padded = np.pad(2 * x[max(-low, 0) :], (max(low, 0), high), constant_values=-1.0)
    order = np.argsort(-padded, kind="stable")[:k]
    np.testing.assert_array_equal(places, order)
    np.testing.assert_array_equal(values, padded[order])


@pytest.mark.parametrize("dtype", ["i1", "u1", "?", "f4"])
@pytest.mark.parametrize("n", [8, 32, 128, 300])
@pytest.mark.parametrize("k", [1, 8])
def test_the_largest_of_the_least_are_the_first(dtype: str, n: int, k: int) -> None:
    """Rows of nothing but the least value of a type, below one of the greatest."""
    least = {"i1": -128, "f4": -np.inf}.get(dtype, 0)
    x = np.full((3, n), least, dtype)
    x[2] = 1
    values, places = ft.jit(lambda x: lax.top_k(x, k))(x)
    np.testing.assert_array_equal(places, np.broadcast_to(np.arange(k), (3, k)))
    np.testing.assert_array_equal(values, x[:, :k])


@pytest.mark.parametrize(("m", "n"), [(3, 4), (5, 2), (3, 2), (5, 4)])
@pytest.mark.parametrize("combine", ["set", "add"])
def test_pairs_of_rows_that_are_fewer(m: int, n: int, combine: str) -> None:
    """Updates of (i, j, where[i, j]) for i below m and j below n."""
    x, v = RNG.normal(size=(5, 4, 3)), RNG.normal(size=(m, n))
    where = RNG.integers(0, 3, (m, n))

    def f(x: Any, where: Any, v: Any) -> Any:
        rows, columns = (lax.broadcasted_iota(np.int64, (m, n), axis) for axis in (0, 1))
        return 2 * getattr((3 * x).at[rows, columns, where], combine)(v)

    expected = 3 * x
    at = (*np.indices((m, n)), where)
    expected[at] = v + (combine == "add") * expected[at]
    compiled = ft.jit(f)
    np.testing.assert_allclose(compiled(x, where, v), 2 * expected, rtol=1e-14)
    assert "_write" not in compiled.lower(x, where, v).as_text("loops")
