"""Which factors make plain products of tangents: the ordinary ones, in groups of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jit.loop_ir.builder import Builder
from jit.lowering.scaling import GROUP, ordinary
from tests.jit.loop_programs import DTYPES, run


def answers(rows: list[NDArray[Any]]) -> NDArray[Any]:
    """`ordinary` of the k-th elements of all rows, for each k."""
    b, count = Builder("ordinary"), rows[0].size
    inputs = [b.input(f"x{k}", DTYPES[x.dtype.str[1:]], count) for k, x in enumerate(rows)]
    out = b.output("out", "bool", count)
    with b.kernel("ordinary"), b.for_(count, "serial") as loop:
        b.store(out, loop.i, ordinary(b, [b.load(x, loop.i) for x in inputs]))
    return run(b.finish(), rows)[0]


@pytest.mark.parametrize("odd", [0.0, -0.0, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("count", [1, 2, GROUP, GROUP + 1, 2 * GROUP + 3])
def test_one_odd_factor_is_enough(count: int, odd: float) -> None:
    """In turn each of the factors is odd, and then none is."""
    factors = np.random.default_rng(count).choice([0.5, -1.0, 2.0, -3.0], (count, count + 1))
    factors[np.arange(count), np.arange(count)] = odd
    np.testing.assert_array_equal(answers(list(factors)), [0] * count + [1])


def test_factors_of_two_types() -> None:
    x = np.array([1.0, 0.0, 2.0, 3.0, np.inf, 0.0])
    y = np.array([1.0, 5.0, 0.0, -2.0, 2.0, np.inf], "f4")
    np.testing.assert_array_equal(answers([x, y, x]), [1, 0, 0, 1, 0, 0])


def test_a_factor_by_itself_may_be_of_any_size() -> None:
    x = np.array([1e300, -1e-300, 5e-324, 1.7e308, 0.0, np.inf])
    np.testing.assert_array_equal(answers([x]), [1, 1, 1, 1, 0, 0])
