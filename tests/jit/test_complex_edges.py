"""Complex functions at infinities, NaN, zeros of both signs and the ends of the exponents."""

from __future__ import annotations

import ctypes
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

import functrans as ft
import functrans.numpy as fnp
from jit.loop_ir.builder import Builder
from jit.lowering.complex import full_mul
from jit.lowering.rules import Pair
from tests.jit.loop_programs import run

PARTS = [0.0, 1.0, 0.5, 2.0, 1e300, 1e-300, 1e180, 1e-181, 25.0, 710.0, 750.0, 5e-324, np.inf]
PARTS += [-x for x in PARTS] + [np.nan]
NAMES = ["exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "log2", "log10"]


def exact(name: str, z: NDArray[Any]) -> NDArray[Any]:
    """A function of mpmath's, rounded once."""
    with mpmath.workdps(60):
        return np.array([complex(getattr(mpmath, name)(mpmath.mpc(x))) for x in z])


def alike(
    a: NDArray[Any], b: NDArray[Any], tolerance: float, signed: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Equal, both NaN, or finite and close; where `signed`, zeros have one sign."""
    same = (a == b) & (~signed | (np.signbit(a) == np.signbit(b)))
    with np.errstate(all="ignore"):
        close = np.isfinite(a) & (b != 0) & (np.abs(a - b) <= tolerance * np.abs(b))
    return np.asarray(same | close | (np.isnan(a) & np.isnan(b)))


@pytest.mark.parametrize("dtype", ["c16", "c8"])
@pytest.mark.parametrize("name", NAMES)
def test_special_values_are_those_of_numpy(name: str, dtype: str) -> None:
    with np.errstate(all="ignore"):
        z = np.array([complex(a, b) for a in PARTS for b in PARTS]).astype(dtype)
        expected = getattr(np, name)(z)
    found = np.asarray(ft.jit(getattr(fnp, name))(z))
    tolerance = 1e-13 if dtype == "c16" else 1e-5
    # C leaves the sign of a zero open beside NaN, and at what is infinite in both parts.
    signed = np.isfinite(z.real) | np.isfinite(z.imag)
    signed &= ~np.isnan(expected.real) & ~np.isnan(expected.imag)
    same = alike(found.real, expected.real, tolerance, signed)
    same &= alike(found.imag, expected.imag, tolerance, signed)
    wrong = [tuple(row) for row in np.stack([z, found, expected], 1)[~same][:5]]
    assert not wrong


def test_logarithms_near_the_unit_circle_keep_their_real_part() -> None:
    """It is as small as the distance from the circle, which is smaller than one rounding."""
    rng = np.random.default_rng(1)
    z = np.exp(1j * rng.uniform(-3, 3, 400)) * (1 + rng.integers(-3, 4, 400) * 2.0**-53)
    z = np.concatenate([z, z * 0.9, z * 1.1, z * 0.7, z * 1.5])
    found = np.asarray(ft.jit(fnp.log)(z))
    expected = exact("log", z)
    np.testing.assert_allclose(found.real, expected.real, rtol=1e-13)
    np.testing.assert_allclose(found.imag, expected.imag, rtol=1e-14)


def test_log1p_near_zero_and_near_its_pole() -> None:
    rng = np.random.default_rng(2)
    unit = np.exp(1j * rng.uniform(-3, 3, 100))
    around = [scale * unit for scale in (1e-200, 1e-12, 1e-3, 0.3, 1.0, 3.0, 1e10, 1e200)]
    at_the_pole = [-1 + scale * unit for scale in (1e-9, 1e-5, 0.1)]
    z = np.concatenate([*around, *at_the_pole])
    found = np.asarray(ft.jit(fnp.log1p)(z))
    expected = exact("log1p", z)
    assert np.all(np.abs(found - expected) <= 1e-14 * np.abs(expected))


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


class _Complex(ctypes.Structure):
    """What C returns as `double complex`."""

    _fields_ = (("re", ctypes.c_double), ("im", ctypes.c_double))


def test_the_full_product_is_that_of_c() -> None:
    """As the run-time library of GCC multiplies: infinities survive beside NaN."""
    try:
        multiply = ctypes.CDLL("libgcc_s.so.1").__muldc3
    except OSError:
        pytest.skip("there is no libgcc here")
    multiply.restype, multiply.argtypes = _Complex, [ctypes.c_double] * 4
    some = [0.0, -0.0, 1.5, -2.0, 1e200, -1e300, np.inf, -np.inf, np.nan]
    args = [g.ravel() for g in np.meshgrid(*[np.array(some)] * 4)]
    results = [multiply(*row) for row in zip(*args, strict=True)]
    b = Builder("full_mul")
    inputs = [b.input(f"x{k}", "f64", args[0].size) for k in range(4)]
    with b.kernel("full_mul"), b.for_(args[0].size, "vector") as loop:
        parts = [b.load(x, loop.i) for x in inputs]
        found = full_mul(b, Pair(*parts[:2]), Pair(*parts[2:]))
        b.store(b.output("re", "f64", args[0].size), loop.i, found.re)
        b.store(b.output("im", "f64", args[0].size), loop.i, found.im)
    re, im = run(b.finish(), args, None)
    expected = np.array([(r.re, r.im) for r in results]).T
    np.testing.assert_array_equal(re, expected[0])
    np.testing.assert_array_equal(im, expected[1])
