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
