"""Poolings and windows against loops over NumPy slices; ties share, padding counts as said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import functrans as ft
import functrans.numpy as fnp
from functrans import lax, nn
from functrans.errors import ShapeError

RNG = np.random.default_rng(11)
SHAPES = {
    "tiles": ((2, 3), (2, 3), ((0, 0), (0, 0)), (1, 1)),
    "rest": ((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    "padded": ((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    "dense": ((2, 3), (1, 1), ((0, 1), (1, 1)), (1, 1)),
    "sparse": ((2, 1), (3, 2), ((1, 0), (0, 0)), (1, 1)),
    "dilated": ((2, 2), (1, 2), ((1, 0), (0, 2)), (3, 2)),
}


def windows(x: Any, fill: float, window: Any, strides: Any, pads: Any, dilation: Any) -> Any:
    """The elements under each place of a window over the last two axes, along a last axis."""
    x = np.pad(x, [(0, 0)] * (x.ndim - 2) + list(pads), constant_values=fill)
    reach = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    places = [range(0, n - r + 1, s) for n, r, s in zip(x.shape[-2:], reach, strides, strict=True)]
    parts = [
        x[..., i : i + reach[0] : dilation[0], j : j + reach[1] : dilation[1]]
        for i in places[0]
        for j in places[1]
    ]
    found = np.stack([part.reshape(*x.shape[:-2], -1) for part in parts], -2)
    return found.reshape(*x.shape[:-2], len(places[0]), len(places[1]), -1)


@pytest.mark.parametrize("compile", [lambda f: f, ft.jit], ids=["plain", "jit"])
@pytest.mark.parametrize("name", list(SHAPES))
def test_poolings(name: str, compile: Callable[..., Any]) -> None:
    x, (window, strides, pads, dilation) = RNG.standard_normal((2, 3, 7, 9)), SHAPES[name]
    for pool, fill, reduce in ((nn.max_pool, -np.inf, np.max), (nn.min_pool, np.inf, np.min)):
        f = compile(lambda x, pool=pool: pool(x, window, strides, pads, dilation))
        met = windows(x, fill, window, strides, pads, dilation)
        assert_allclose(f(x), reduce(met, -1))
    if dilation == (1, 1):
        f = compile(lambda x: nn.avg_pool(x, window, strides, pads))
        assert_allclose(f(x), windows(x, 0, window, strides, pads, dilation).mean(-1))
        f = compile(lambda x: nn.avg_pool(x, window, strides, pads, count_include_pad=False))
        assert_allclose(f(x), np.nanmean(windows(x, np.nan, window, strides, pads, dilation), -1))


@pytest.mark.parametrize("compile", [lambda f: f, ft.jit], ids=["plain", "jit"])
@pytest.mark.parametrize("name", list(SHAPES))
def test_gradients_of_poolings(name: str, compile: Callable[..., Any]) -> None:
    """Each window hands its cotangent to the elements that attain its maximum, in equal parts."""
    x = RNG.integers(0, 4, (2, 7, 9)).astype(float)
    window, strides, pads, dilation = SHAPES[name]
    numbers = np.arange(x.size, dtype=float).reshape(x.shape)
    places = windows(numbers, -1, window, strides, pads, dilation).astype(int)
    met = windows(x, -np.inf, window, strides, pads, dilation)
    ct = RNG.standard_normal(met.shape[:-1])
    wins = met == met.max(-1, keepdims=True)
    expected = np.zeros(x.size)
    shares = (wins / wins.sum(-1, keepdims=True)) * ct[..., None]
    inside = places >= 0
    np.add.at(expected, places[inside], shares[inside])
    pull = compile(
        lambda x, ct: ft.vjp(lambda x: nn.max_pool(x, window, strides, pads, dilation), x)[1](ct)[0]
    )
    assert_allclose(pull(x, ct), expected.reshape(x.shape), atol=1e-12)
    if dilation == (1, 1):
        pull = compile(
            lambda x, ct: ft.vjp(lambda x: nn.avg_pool(x, window, strides, pads), x)[1](ct)[0]
        )
        expected = np.zeros(x.size)
        even = np.broadcast_to(ct[..., None] / met.shape[-1], met.shape)
        np.add.at(expected, places[inside], even[inside])
        assert_allclose(pull(x, ct), expected.reshape(x.shape), atol=1e-12)


def test_names_of_paddings_and_single_numbers() -> None:
    x = RNG.standard_normal((1, 2, 8, 8)).astype("f4")
    assert nn.max_pool(x, (2, 2)).shape == (1, 2, 4, 4)
    assert nn.max_pool(x, (3, 3), 2, "SAME").shape == (1, 2, 4, 4)
    assert nn.max_pool(x, 2).shape == (1, 2, 8, 4)
    assert nn.avg_pool(x, (2, 2), padding="VALID").dtype == np.float32
    assert nn.max_pool(np.arange(6), 2).tolist() == [1, 3, 5]
    with pytest.raises(ShapeError, match="more axes"):
        nn.max_pool(x[0, 0, 0], (2, 2))
    with pytest.raises(ShapeError, match="strides"):
        nn.max_pool(x, (2, 2), (1, 1, 1))


def test_members_of_a_map_pool_apart() -> None:
    x = RNG.standard_normal((3, 2, 6, 7))
    f = lambda x: nn.max_pool(x, (3, 3), 2, "SAME")
    assert_allclose(ft.vmap(f, in_axes=1)(x), np.stack([f(x[:, k]) for k in range(2)]))
    slope = lambda x: ft.grad(lambda x: fnp.sum(f(x) ** 2))(x)
    assert_allclose(ft.vmap(slope)(x), np.stack([slope(a) for a in x]))


@pytest.mark.parametrize(
    ("known", "start", "unknown"),
    [
        (lax.max, -np.inf, lambda a, b: lax.max(a, b)),
        (np.minimum, np.inf, lambda a, b: lax.min(a, b)),
        (lax.add, 0.0, lambda a, b: lax.add(a, b)),
        (fnp.multiply, 1, lambda a, b: lax.mul(a, b)),
        (lax.max, 0.5, lambda a, b: lax.max(a, b)),
    ],
)
def test_known_reductions_are_those_that_are_unrolled(
    known: Any, start: float, unknown: Any
) -> None:
    x = RNG.standard_normal((2, 8, 9))
    sizes: Any = ((1, 2, 3), (1, 2, 1), "SAME", (1, 2, 1), (1, 1, 2))
    f, g = (lambda x, how=how: lax.reduce_window(x, start, how, *sizes) for how in (known, unknown))
    assert_allclose(f(x), g(x))
    assert_allclose(
        ft.grad(lambda x: fnp.sum(f(x) ** 2))(x), ft.grad(lambda x: fnp.sum(g(x) ** 2))(x)
    )


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(7,), (3, 40), (2, 1031), (3 * 1024 + 6,)])
def test_gradients_along_lines(shape: tuple[int, ...], stride: int, dilation: int) -> None:
    """Of windows on what is computed on the way, with ties; of lines that are cut into blocks."""
    x, y = RNG.integers(-3, 4, shape).astype(float), RNG.standard_normal(shape[-1])
    sizes = [(*(1 for _ in shape[1:]), n) for n in (3, stride, dilation)]

    def pool(x: Any, start: float, fold: Any) -> Any:
        return lax.reduce_window(x, start, fold, *sizes[:2], window_dilation=sizes[2])

    def loss(x: Any) -> Any:
        z = x * y + 0.1
        return fnp.sum(fnp.sin(pool(z, -np.inf, lax.max)) + pool(z, 0.0, lax.add) ** 2)

    z = x * y + 0.1
    places = np.arange(0, shape[-1] - 2 * dilation, stride)[:, None] + dilation * np.arange(3)
    met = z[..., places]
    wins = met == met.max(-1, keepdims=True)
    slopes = wins / wins.sum(-1, keepdims=True) * np.cos(met.max(-1, keepdims=True))
    expected = np.zeros(shape)
    np.add.at(expected, (..., places), slopes + 2 * met.sum(-1, keepdims=True))
    assert_allclose(ft.jit(ft.grad(loss))(x), expected * y, rtol=1e-12, atol=1e-12)
