"""Arrays of short vectors: the loop over their components is written out, and rows run on lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp

RNG = np.random.default_rng(3)
ROWS = (1, 2, 7, 8, 16, 33, 1000)


def kernels(f: Any, *args: Any) -> list[str]:
    return list(ft.jit(f).lower(*args).compile_report().kernels)


def cross(x: Any, y: Any) -> Any:
    """Components from other places, so that a loop over them would need masks."""
    return np.cross(x, y) ** 2


def unit(x: Any, y: Any) -> Any:
    """A fold over the components, and what broadcasts it back."""
    return x / np.sqrt(np.sum(x * x, -1, keepdims=True) + 1.0) + y


def shifted(x: Any, y: Any) -> Any:
    """Components that are joined and padded."""
    return np.pad(x[:, 1:], ((0, 0), (1, 0))) * np.concatenate([y[:, -1:], y[:, :-1]], 1)


def close(found: Any, expected: Any) -> None:
    tolerance = {4: 2e-6, 8: 1e-13}[np.real(found).dtype.itemsize]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c16"])
@pytest.mark.parametrize("f", [cross, unit, shifted])
def test_values(f: Any, dtype: str) -> None:
    for width in (3,) if f is cross else (2, 3, 4, 5):
        for rows in ROWS:
            x, y = (RNG.normal(size=(rows, width)).astype(dtype) for _ in range(2))
            close(ft.jit(f)(x, y), f(x, y))


@pytest.mark.parametrize("f", [cross, unit, shifted])
def test_sums_and_gradients(f: Any) -> None:
    """The evaluator's, which takes the same derivative."""

    def loss(x: Any, y: Any) -> Any:
        return fnp.sum(fnp.sin(f(x, y)))

    x, y = RNG.normal(size=(2, 1001, 3))
    compiled = ft.jit(ft.value_and_grad(loss, argnums=(0, 1)))
    program = ft.make_jaxpr(ft.value_and_grad(loss, argnums=(0, 1)))(x, y)
    expected = ft.extend.eval_jaxpr(program.jaxpr, [*program.consts, x, y])
    for found, wanted in zip(ft.tree.leaves(compiled(x, y)), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-13)


def test_components_are_written_out() -> None:
    x = np.ones((1000, 3))
    (line,) = kernels(cross, x, x)
    assert "vector 1000 x unrolled 3" in line
    text = ft.jit(cross).lower(x, x).as_text("loops")
    assert " where " not in text
    (line,) = kernels(lambda x: unit(x, 0.0), x)
    assert "vector 1000 x unrolled 3" in line


def test_lines_without_masks_stay_lines() -> None:
    """What runs along memory as one line is not taken apart."""
    x = np.ones((1000, 3))
    (line,) = kernels(lambda x: np.sin(x) * 2.0, x)
    assert "vector 3000" in line


def test_long_bodies_are_not_written_out() -> None:
    def f(x: Any) -> Any:
        y = np.roll(x, 1, axis=1)
        for _ in range(12):
            y = np.sin(y) * np.exp(x) + np.cos(y)
        return y

    assert not any("unrolled" in line for line in kernels(f, np.ones((1000, 4))))
