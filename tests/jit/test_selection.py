"""top_k of a small k: ties, NaN, zeros of both signs, every type, blocks that are passed over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import lax
from jit.lowering.selection import BLOCK, MOST

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
