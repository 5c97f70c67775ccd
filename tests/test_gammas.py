"""The gamma functions point by point, relative to each value: laws measure against the largest."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose

from functrans.extend import aval_of, stage_walk
from functrans.primitives import elementwise as e
from functrans.primitives import gammas
from tests.native import compiled

ABOVE = np.array([0.5, 0.75, 1.3, 1.4999, 1.5, 1.9, 2.4, 2.5, 2.6, 3.7, 7.9, 8.1, 20.5, 300.0, 1e6])
BELOW = np.array([0.4, 0.1, 1e-3, -0.3, -0.7, -1.2, -5.6, -20.3, -12345.3])
POINTS = np.concatenate([ABOVE, BELOW])


def exactly(function: Any, x: Any) -> Any:
    with mpmath.workdps(40):
        return np.array([float(function(mpmath.mpf(float(v)))) for v in x])


def test_zeta_at_whole_numbers() -> None:
    """zeta(s) - 1, from which the series of lgamma at 2 is made."""
    for s in range(2, 40):
        with mpmath.workdps(40):
            assert gammas.zeta_tail(s) == pytest.approx(float(mpmath.zeta(s) - 1), rel=4e-16)


def values(name: str, native: bool, x: Any, *n: int) -> Any:
    """A function of the family, by NumPy or by native code."""
    if not native:
        return getattr(gammas, name)(x, *n)
    program = stage_walk(lambda x: [getattr(e, name)(x, *n)], [aval_of(x)], "test")
    return compiled(program)([x])[0]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 20])
@pytest.mark.parametrize("native", [False, True])
def test_polygamma(n: int, native: bool) -> None:
    x = POINTS if n < 20 else ABOVE[:-2]  # beyond, powers of x are no doubles
    expected = exactly(lambda v: mpmath.polygamma(n, v), x)
    assert_allclose(values("polygamma", native, x, n), expected, rtol=3e-14)


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_lgamma_and_digamma(name: str, native: bool) -> None:
    """Near a zero each is held against one."""
    of = {"lgamma": lambda v: mpmath.log(abs(mpmath.gamma(v))), "digamma": mpmath.digamma}[name]
    assert_allclose(values(name, native, POINTS), exactly(of, POINTS), rtol=4e-15, atol=8e-15)


@pytest.mark.parametrize("native", [False, True])
def test_poles(native: bool) -> None:
    """Where only one sign is near it is kept; where both are, there is no number."""
    poles, zeros = np.array([-1.0, -2.0, -7.0]), np.array([0.0, -0.0])
    assert np.array_equal(values("lgamma", native, poles), [np.inf] * 3)
    assert np.array_equal(values("lgamma", native, zeros), [np.inf] * 2)
    assert np.isnan(values("digamma", native, poles)).all()
    assert np.array_equal(values("digamma", native, zeros), [-np.inf, np.inf])
    assert np.array_equal(values("polygamma", native, poles, 1), [np.inf] * 3)
    assert np.isnan(values("polygamma", native, poles, 2)).all()
