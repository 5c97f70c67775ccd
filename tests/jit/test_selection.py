"""top_k: ties, NaN, zeros of both signs, every type, blocks passed over, candidates cut often."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import lax
from jit.lowering.largest import LEAST, ROOM
from jit.lowering.selection import BLOCK, MOST
from jit.runtime import threads

RNG = np.random.default_rng(3)
SHAPES = [(5,), (7, BLOCK + 2), (3, 1000), (2 * BLOCK,), (40, BLOCK), (6, 5, 90)]


def sample(dtype: str, shape: tuple[int, ...]) -> Any:
    """Numbers with many ties."""
    if dtype == "?":
        return RNG.random(shape) > 0.5
    x = np.round(RNG.normal(size=shape) * 3, 1).astype(dtype)
    if dtype.startswith("f"):
        for start, value in ((0, 0.0), (1, -0.0), (3, np.nan), (2, np.inf), (4, -np.inf)):
            x.flat[start :: 7 + 11 * start] = value
    return x


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8", "?"])
@pytest.mark.parametrize("k", [1, 5, MOST, MOST + 1])
def test_the_largest_and_their_places(dtype: str, k: int) -> None:
    for shape in SHAPES:
        if k <= shape[-1]:
            x = sample(dtype, shape)
            found, expected = ft.jit(lambda x: lax.top_k(x, k))(x), lax.top_k(x, k)
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("order", [1, -1])
def test_lines_in_order(order: int) -> None:
    """Every element comes in, or none after the first."""
    x = np.arange(3000.0)[::order].copy()
    values, places = ft.jit(lambda x: lax.top_k(fnp.sin(x * 1e-4), 20))(x)
    np.testing.assert_allclose(values, np.sin(np.sort(x)[::-1][:20] * 1e-4))
    np.testing.assert_array_equal(x[places], np.sort(x)[::-1][:20])


def lines(dtype: str, n: int) -> list[Any]:
    """Lines that candidates come from in every way: all, none, equal ones, many NaN, any bits."""
    rising = np.arange(n)
    drawn = [
        rising,
        rising[::-1],
        np.ones(n),
        RNG.integers(0, 5, n),
        RNG.integers(-(9**9), 9**9, n),
    ]
    if dtype.startswith("f"):
        drawn += [np.where(RNG.random(n) < 0.5, np.nan, RNG.normal(size=n))]
        drawn += [1 + 1e-6 * RNG.normal(size=n)]
        drawn += [np.frombuffer(RNG.bytes(8 * n), dtype)[:n]]
    return [np.asarray(line).astype(dtype) for line in drawn]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i8", "u4", "u8"])
@pytest.mark.parametrize("k", [MOST + 1, 100, 1500])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast", "ignore:overflow")
def test_candidates_of_long_lines(dtype: str, k: int) -> None:
    """Longer than what is kept, so that candidates are cut, some in every line."""
    n = ROOM * max(k, LEAST) + 5 * BLOCK + 3
    x = np.stack(lines(dtype, n))
    found, expected = ft.jit(lambda x: lax.top_k(x, k))(x), lax.top_k(x, k)
    for a, b in zip(found, expected, strict=True):
        assert one_nan(a).tobytes() == one_nan(b).tobytes()


def one_nan(x: Any) -> Any:
    """x with one NaN for all: processors without halves turn each into that."""
    return np.where(np.isnan(x), np.nan, x).astype(x.dtype)


@pytest.mark.parametrize("shape", [(40, 3000), (3, 30_000)])
def test_threads_find_the_same(shape: tuple[int, int]) -> None:
    """Few candidates a line, and so many that a line's are sorted by all threads."""
    x, before = np.round(RNG.normal(size=shape), 2), threads.num_threads()
    k = shape[1] // 3
    f, expected = ft.jit(lambda x: lax.top_k(x, k)[1]), lax.top_k(x, k)[1]
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            np.testing.assert_array_equal(f(x), expected)
    finally:
        threads.set_num_threads(before)
