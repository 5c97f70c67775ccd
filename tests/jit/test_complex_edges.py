"""Complex functions at infinities, NaN, zeros of both signs and the ends of the exponents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import functrans as ft
import functrans.numpy as fnp

PARTS = [0.0, 1.0, 0.5, 2.0, 1e300, 1e-300, 710.0, 750.0, 5e-324, np.inf]
PARTS += [-x for x in PARTS] + [np.nan]
NAMES = ["exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "log2", "log10"]


def alike(a: NDArray[Any], b: NDArray[Any], tolerance: float) -> NDArray[np.bool_]:
    """Equal with the sign of zero, both NaN, or finite and close."""
    same = (a == b) & (np.signbit(a) == np.signbit(b))
    with np.errstate(all="ignore"):
        close = np.isfinite(a) & np.isfinite(b) & (np.abs(a - b) <= tolerance * np.abs(b))
    return np.asarray(same | close | (np.isnan(a) & np.isnan(b)))


@pytest.mark.parametrize("dtype", ["c16", "c8"])
@pytest.mark.parametrize("name", NAMES)
def test_special_values_are_those_of_numpy(name: str, dtype: str) -> None:
    with np.errstate(all="ignore"):
        z = np.array([complex(a, b) for a in PARTS for b in PARTS]).astype(dtype)
        expected = getattr(np, name)(z)
    found = np.asarray(ft.jit(getattr(fnp, name))(z))
    tolerance = 1e-13 if dtype == "c16" else 1e-5
    same = alike(found.real, expected.real, tolerance) & alike(found.imag, expected.imag, tolerance)
    wrong = [tuple(row) for row in np.stack([z, found, expected], 1)[~same][:5]]
    assert not wrong


@pytest.mark.parametrize("dtype", ["c16", "c8"])
def test_special_powers_are_those_of_numpy(dtype: str) -> None:
    halves = [0.0, 1.0, 0.5, 2.0, 3.0, np.inf]
    parts = [*halves, *[-x for x in halves], np.nan]
    every = np.array([complex(a, b) for a in parts for b in parts], dtype)
    z, w = (grid.ravel() for grid in np.meshgrid(every, every))
    with np.errstate(all="ignore"):
        expected = np.power(z, w)
        size = np.abs(expected)
    found = np.asarray(ft.jit(fnp.power)(z, w))
    tolerance = (1e-12 if dtype == "c16" else 1e-4) * np.where(np.isfinite(size), size, 0)
    same = np.ones(z.shape, bool)
    for a, b in ((found.real, expected.real), (found.imag, expected.imag)):
        with np.errstate(all="ignore"):
            close = np.abs(a - b) <= tolerance
        same &= (a == b) | close | (np.isnan(a) & np.isnan(b))
    wrong = [tuple(row) for row in np.stack([z, w, found, expected], 1)[~same][:5]]
    assert not wrong


def test_whole_powers_are_products_in_numpys_order() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=300) + 1j * rng.normal(size=300)
    for n in (1, 2, 3, 4, 7, 50, 99, -1, -2, -13):
        w = np.full(300, n, "c16")
        np.testing.assert_allclose(ft.jit(fnp.power)(z, w), np.power(z, w), rtol=1e-13)
