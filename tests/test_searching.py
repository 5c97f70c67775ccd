"""searchsorted agrees with NumPy: any length of the row, both sides, NaN, equal values, batches."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp

LENGTHS = (0, 1, 2, 3, 5, 8, 17, 100, 1000)


def row_and_wanted(dtype: str, n: int) -> tuple[Any, Any]:
    """A sorted row and values to find, with values of the row and, for floats, NaN among them."""
    rng = np.random.default_rng(n)
    row, wanted = (rng.normal(size=s, scale=20).astype(dtype) for s in (n, (2, 60)))
    wanted[1, :30] = row[rng.integers(0, n, 30)] if n else wanted[0, :30]
    if dtype[0] == "f":
        row[: n // 4] = np.nan
        wanted[0, :4] = np.nan, np.inf, -np.inf, -0.0
    return np.sort(row), wanted


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "u1", "?", "c16"])
def test_agrees_with_numpy(dtype: str, side: Literal["left", "right"]) -> None:
    for n in LENGTHS:
        row, wanted = row_and_wanted(dtype, n)
        expected = np.searchsorted(row, wanted, side)
        mapped = ft.vmap(lambda v, row=row: fnp.searchsorted(row, v, side))(wanted)
        np.testing.assert_array_equal(mapped, expected, err_msg=f"{n}")
        if n in (0, 5, 17):
            compiled = ft.jit(lambda a, v: fnp.searchsorted(a, v, side))(row, wanted)
            np.testing.assert_array_equal(compiled, expected, err_msg=f"{n}, compiled")
            assert compiled.dtype == expected.dtype


def test_each_member_of_a_batch_has_a_row_of_its_own() -> None:
    rng = np.random.default_rng(0)
    rows, wanted = np.sort(rng.normal(size=(4, 30)), axis=1), rng.normal(size=(4, 7))
    expected = [np.searchsorted(a, v) for a, v in zip(rows, wanted, strict=True)]
    np.testing.assert_array_equal(ft.jit(ft.vmap(fnp.searchsorted))(rows, wanted), expected)


def test_a_long_row_is_not_sorted_again() -> None:
    """One value is found in a row of a million by looking at 21 of its elements."""
    program = ft.make_jaxpr(fnp.searchsorted)(np.zeros(1_000_000), 0.5)
    names = [eqn.primitive.name for eqn in program.eqns]
    assert "sort" not in names
    assert names.count("gather") == 21
