"""Random programs of loops and branches inside each other: compiled is evaluated, gradients too.

A program is a tree of statements on a state of a vector, a matrix and a counter; the same numbers
make the same program. Sizes are chosen so that some bodies fit in registers and others do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.lax as lax
import functrans.numpy as fnp
from functrans.extend import eval_jaxpr

State = tuple[Any, Any, Any]
Statement = Callable[[State], State]
DEPTH = 3


def statements(rng: np.random.Generator, depth: int) -> Statement:
    """A few statements, one after the other."""
    parts = [statement(rng, depth) for _ in range(rng.integers(1, 4 if depth else 3))]

    def run(state: State) -> State:
        for part in parts:
            state = part(state)
        return state

    return run


def statement(rng: np.random.Generator, depth: int) -> Statement:
    simple = [mixed, multiplied, updated, window_written, summed, counted]
    holding = [scanned, repeated, branched, whiled, mapped]
    makers: list[Any] = simple if depth == 0 or rng.random() < 0.4 else holding
    maker = makers[rng.integers(len(makers))]
    return maker(rng, depth)


# -- statements without bodies ------------------------------------------------------------------


def mixed(rng: np.random.Generator, depth: int) -> Statement:
    a, b = rng.uniform(0.3, 1.2, size=2)
    return lambda s: (fnp.sin(a * s[0]) + b * s[1][0], fnp.tanh(s[1]) * a, s[2])


def multiplied(rng: np.random.Generator, depth: int) -> Statement:
    kind = rng.integers(3)

    def run(s: State) -> State:
        v, m, i = s
        n = v.shape[0]
        if kind == 0:
            return fnp.tanh(m @ v), m, i
        if kind == 1:
            return v, fnp.tanh(m @ m / n) + 0.1 * m, i
        return v, m + fnp.outer(v, fnp.cos(v)) / n, i

    return run


def updated(rng: np.random.Generator, depth: int) -> Statement:
    row, kind = int(rng.integers(2)), rng.integers(3)

    def run(s: State) -> State:
        v, m, i = s
        place = (i + row) % v.shape[0]
        if kind == 0:
            return v.at[place].set(0.5 * v[row]), m, i
        if kind == 1:
            return v, m.at[place].add(v), i
        return v.at[place].mul(0.9), m.at[place, row].set(v[place]), i

    return run


def window_written(rng: np.random.Generator, depth: int) -> Statement:
    size = int(rng.integers(1, 3))
    return lambda s: (
        lax.dynamic_update_slice(s[0], s[0][:size] * 0.5 + 0.1, (s[2] % 2,)),
        s[1],
        s[2],
    )


def summed(rng: np.random.Generator, depth: int) -> Statement:
    return lambda s: (s[0] - fnp.mean(s[0]), s[1] / (1 + fnp.sum(s[1] ** 2)), s[2])


def counted(rng: np.random.Generator, depth: int) -> Statement:
    step = int(rng.integers(1, 4))
    return lambda s: (s[0], s[1], s[2] + step)


# -- statements with bodies ---------------------------------------------------------------------


def scanned(rng: np.random.Generator, depth: int) -> Statement:
    body, reverse = statements(rng, depth - 1), bool(rng.integers(2))
    length = int(rng.integers(0, 4))

    def run(s: State) -> State:
        def step(s: State, x: Any) -> Any:
            v, m, i = body(s)
            return (v + 0.1 * x, m, i), fnp.cos(v) * x

        state, ys = lax.scan(step, s, s[1][:length], reverse=reverse)
        return state[0] + fnp.sum(ys, axis=0), state[1], state[2]

    return run


def repeated(rng: np.random.Generator, depth: int) -> Statement:
    body, count = statements(rng, depth - 1), int(rng.integers(0, 4))

    def run(s: State) -> State:
        def step(k: Any, t: State) -> State:
            v, m, i = body(t)
            return v * (1 - 0.01 * k), m + 0.01 * s[1], i

        return lax.fori_loop(0, count, step, s)

    return run


def branched(rng: np.random.Generator, depth: int) -> Statement:
    bodies = [statements(rng, depth - 1) for _ in range(int(rng.integers(2, 4)))]
    return lambda s: lax.switch(s[2] % len(bodies), bodies, s)


def whiled(rng: np.random.Generator, depth: int) -> Statement:
    body, steps = statements(rng, depth - 1), int(rng.integers(0, 4))

    def run(s: State) -> State:
        def step(c: Any) -> Any:
            return c[0] + 1, body(c[1])

        def goes_on(c: Any) -> Any:
            return (c[0] < steps) & (fnp.sum(c[1][0] ** 2) < 1e6)

        return lax.while_loop(goes_on, step, (0, s))[1]

    return run


def mapped(rng: np.random.Generator, depth: int) -> Statement:
    """The body for each row of the matrix, side by side."""
    body = statements(rng, depth - 1)

    def run(s: State) -> State:
        v, m, i = s
        rows = m[:2]

        def one(row: Any, k: Any) -> Any:
            return body((row, m, i + k))[0]

        return v + fnp.sum(ft.vmap(one)(rows, fnp.arange(2)), axis=0), m, i

    return run


# -- the law ------------------------------------------------------------------------------------


def evaluated(f: Callable[..., Any], args: tuple[Any, ...]) -> list[Any]:
    closed = ft.make_jaxpr(f)(*args)
    return eval_jaxpr(closed.jaxpr, [*closed.consts, *ft.tree.leaves(args)])


def agrees(f: Callable[..., Any], *args: Any) -> None:
    for a, b in zip(ft.tree.leaves(ft.jit(f)(*args)), evaluated(f, args), strict=True):
        scale = max(1.0, float(np.max(np.abs(b), initial=0.0)))
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9 * scale)


SEEDS = [n if n < 5 else pytest.param(n, marks=pytest.mark.full) for n in range(60)]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    run, n = statements(rng, DEPTH), (5, 70)[seed % 2]
    v, m = rng.normal(size=n), rng.normal(size=(n, n)) / n**0.5
    agrees(lambda v, m: run((v, m, 3)), v, m)

    def loss(v: Any, m: Any) -> Any:
        v, m, _ = run((v, m, 3))
        return fnp.sum(v**2) + fnp.sum(fnp.sin(m))

    agrees(ft.grad(loss, (0, 1)), v, m)
