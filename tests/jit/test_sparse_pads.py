"""Pads with wide gaps have kernels of their own, and agree with the index function and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import lax

RNG = np.random.default_rng(8)


def kernels(f: Any, *args: Any) -> str:
    return "\n".join(ft.jit(f).lower(*args).compile_report().kernels)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c16", "i4", "?"])
@pytest.mark.parametrize("shape", [(700,), (3, 300), (2, 5, 90), (0, 900)])
@pytest.mark.parametrize("value", [0, 1])
def test_elements_stand_apart(shape: tuple[int, ...], dtype: str, value: int) -> None:
    """Of every rank and dtype, filled with zeros by the C library or with anything by a loop."""
    x = RNG.integers(0, 100, shape).astype(dtype)
    config = [*[(1, 2, 1) for _ in shape[1:]], (3, 0, 9)]
    size = [
        low + high + max((n - 1) * (gap + 1) + 1, 0)
        for n, (low, high, gap) in zip(shape, config, strict=True)
    ]
    wanted = np.full(size, value, dtype)
    wanted[
        tuple(
            slice(low, n - high, gap + 1) for n, (low, high, gap) in zip(size, config, strict=True)
        )
    ] = x
    padded = ft.jit(lambda x, v: lax.pad(x, v, config))
    found = padded(x, np.asarray(value, dtype)[()])
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(
        ft.jit(lambda x: lax.pad(x, x.dtype.type(value), config))(x), wanted
    )


def test_the_gradient_of_a_diagonal_is_filled_and_written() -> None:
    def loss(m: Any) -> Any:
        return fnp.sum(fnp.einsum("bii->bi", m) ** 2)

    m = RNG.normal(size=(7, 40, 40))
    found = ft.jit(ft.grad(loss))(m)
    np.testing.assert_allclose(found, 2 * m * np.eye(40), rtol=1e-14)
    assert "pad" in kernels(ft.grad(loss), m)


@pytest.mark.parametrize("stride", [2, 7])
def test_narrow_gaps_are_an_index_function(stride: int) -> None:
    def loss(x: Any) -> Any:
        return fnp.sum(x[::stride] ** 3)

    x = RNG.normal(size=6000)
    np.testing.assert_allclose(
        ft.jit(ft.grad(loss))(x), 3 * x**2 * (np.arange(6000) % stride == 0), rtol=1e-13
    )
    assert "pad" not in kernels(ft.grad(loss), x)


def test_gaps_inside_a_loop() -> None:
    def loss(x: Any) -> Any:
        return lax.fori_loop(0, 5, lambda i, c: c + fnp.sum(fnp.sin(x[::16] * c)), 0.1)

    x = RNG.normal(size=8000)
    compiled, plain = ft.jit(ft.grad(loss))(x), ft.grad(loss)(x)
    np.testing.assert_allclose(compiled, plain, rtol=1e-9)
    assert np.count_nonzero(compiled) == 500
