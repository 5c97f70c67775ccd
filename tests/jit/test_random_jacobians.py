"""Jacobians of random functions of matrices: natively they are what the evaluator gives.

Their programs hold what gradients do not: unit vectors, stacks of members, transposed results and
totals of rows inside of nests.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import functrans as ft
import functrans.numpy as np
from functrans.config import config

Value = Any
SIZES = (4, 5, 9, 16, 26)
UNARY: list[Callable[[Value], Value]] = [
    np.sin,
    lambda x: np.exp(-x * x),
    lambda x: np.tanh(x) + 0.1 * x,
    lambda x: x.T,
    lambda x: np.flip(x, 0),
    lambda x: np.cumsum(x, axis=1) * 0.1,
    lambda x: x - x.mean(axis=1, keepdims=True),
    lambda x: x / (1.0 + (x * x).sum(axis=0)),
    lambda x: np.where(x > 0.1, x, 0.3 * x),
    lambda x: np.concatenate([x[1:], 0.5 * x[:1]]),
    lambda x: np.sin(np.max(x, axis=0, keepdims=True)) * x,
    lambda x: np.exp(x - np.max(x, axis=-1, keepdims=True)),
    lambda x: np.sort(x, axis=0),
    lambda x: np.roll(x, 2, axis=1) * 0.7,
    lambda x: np.pad(x[:, 1:], ((0, 0), (1, 0))),
]
BINARY: list[Callable[[Value, Value], Value]] = [
    lambda a, b: a + b,
    lambda a, b: a * np.cos(b),
    lambda a, b: a - 0.5 * b.sum(axis=0),
    lambda a, b: a * b.mean(),
    lambda a, b: np.where(a > b, a, b * b),
]
ENDS: list[Callable[[Value], Value]] = [
    lambda x: x,
    lambda x: x.sum(axis=0),
    lambda x: x.sum(axis=1) ** 2,
    lambda x: x.T,
    lambda x: np.stack([x.sum(), x.max(), (x * x).mean()]),
    lambda x: np.cumsum(x.ravel()),
]
TRANSFORMS: dict[str, Callable[[Callable[..., Value]], Callable[..., Value]]] = {
    "jacfwd": lambda f: ft.jacfwd(f, (0, 1)),
    "jacrev": lambda f: ft.jacrev(f, (0, 1)),
    "vmap of jacrev": lambda f: ft.vmap(ft.jacrev(f), (None, 0), 1),
    "hessian": lambda f: ft.hessian(lambda x, y: np.sum(np.sin(f(x, y))), 1),
    "jvp of grad": lambda f: (
        lambda x, y: ft.jvp(ft.grad(lambda y: np.sum(np.sin(f(x, y)))), (y,), (np.cos(y),))
    ),
}


def random_function(rng: random.Random) -> tuple[Callable[..., Value], tuple[Any, Any], str]:
    """A function of a matrix and a vector, its arguments, and what it is made of."""
    m, n = rng.choice(SIZES), rng.choice(SIZES)
    steps: list[tuple[str, int]] = []
    for _ in range(rng.randint(3, 7)):
        kind = rng.choice(["unary", "unary", "binary", "row"])
        count = {"unary": len(UNARY), "binary": len(BINARY), "row": len(BINARY)}[kind]
        steps.append((kind, rng.randrange(count)))
    end = rng.randrange(len(ENDS))

    def f(x: Value, y: Value) -> Value:
        value, first = x * y, x
        for kind, which in steps:
            if kind == "unary":
                value = UNARY[which](value)
            elif kind == "binary" and value.shape == first.shape:
                value = np.sin(BINARY[which](value, first))
            elif kind == "row":
                row = np.resize(np.cos(y), value.shape[-1:])
                value = np.sin(BINARY[which](value, row + 0.0 * value))
        return ENDS[end](value)

    values = numpy.random.default_rng(rng.randrange(2**32))
    return f, (values.normal(size=(m, n)), values.normal(size=n)), f"{m}x{n} {steps} {end}"


def check(seed: int) -> None:
    """One function under one transform."""
    rng = random.Random(seed)
    f, (x, y), text = random_function(rng)
    name = rng.choice(list(TRANSFORMS))
    if name == "hessian":
        x, y = x[:5, :5], y[:5]
    g = TRANSFORMS[name](f)
    args = (x, numpy.stack([y, 0.5 * y, -y])) if name.startswith("vmap") else (x, y)
    before, config.unjitted = config.unjitted, "interpreted"
    try:
        wanted = ft.tree.leaves(g(*args))
    finally:
        config.unjitted = before
    found = ft.tree.leaves(ft.jit(g)(*args))
    for a, b in zip(found, wanted, strict=True):
        numpy.testing.assert_allclose(a, b, 1e-9, 1e-9, err_msg=f"{seed}: {name} of {text}")


@pytest.mark.parametrize("part", range(2))
def test_random_jacobians(part: int) -> None:
    for seed in range(part * 15, part * 15 + 15):
        check(seed)


@pytest.mark.full
def test_many_random_jacobians() -> None:
    end, seed = time.monotonic() + 120.0, 1000
    while time.monotonic() < end:
        check(seed)
        seed += 1
