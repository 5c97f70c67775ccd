"""Long chains of operations go several vectors abreast: an iteration would wait for itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from jit.loop_ir.nodes import LANE_BYTES

Function = Callable[[Any], Any]


def chain(length: int) -> Function:
    def f(x: Any) -> Any:
        for k in range(length):
            x = fnp.tanh(x * 1.01 + 0.1 * k) if k % 2 else fnp.sin(x) - x * x * 0.3
        return x

    return f


def wide(x: Any) -> Any:
    """As much work as a chain, whose parts need not wait for each other."""
    return sum(fnp.tanh(x * k) * fnp.sin(x + k) for k in range(1, 5))


def lanes(f: Function, dtype: str) -> int:
    """How long the vectors of products are in the code of f."""
    text = ft.jit(f).lower(np.ones(1000, dtype)).as_text("llvm")
    element = "double" if dtype == "f8" else "float"
    return max(map(int, re.findall(rf"fmul[a-z ]* <(\d+) x {element}>", text)))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_chain_goes_several_vectors_abreast(dtype: str) -> None:
    """Four of them, while a hundred bytes and some hold them."""
    most = LANE_BYTES // np.dtype(dtype).itemsize
    assert lanes(chain(8), dtype) == min(4 * lanes(chain(1), dtype), most)
    assert lanes(wide, dtype) == lanes(chain(1), dtype)


@pytest.mark.parametrize("size", [1, 7, 8, 15, 16, 17, 33, 100, 1003])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_every_length(dtype: str, size: int, rng: np.random.Generator) -> None:
    """Whole vectors, what is left, and less than a vector; with a sum and without."""
    x = rng.normal(size=size).astype(dtype)
    f = chain(8)
    rtol = {"f2": 2e-2, "f4": 1e-5, "f8": 1e-13}[dtype]
    np.testing.assert_allclose(ft.jit(f)(x), f(x), rtol=rtol, atol=rtol)
    slopes = ft.grad(lambda x: np.sum(f(x)))
    np.testing.assert_allclose(ft.jit(slopes)(x), slopes(x), rtol=10 * rtol, atol=10 * rtol)


def test_special_values_stay_in_their_lanes() -> None:
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 1e300, 1e-300, 2.0] * 5)
    with np.errstate(all="ignore"):
        expected = chain(8)(x)
    np.testing.assert_allclose(ft.jit(chain(8))(x), expected, rtol=1e-13)
