"""Random programs of folds over rows and columns, and what broadcasts them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from jit.pipeline import compile_jaxpr
from jit.runtime import threads

ROWS, COLUMNS = (1, 3, 17, 64, 130, 517), (8, 9, 16, 33, 70, 300)
TOLERANCES = {"f2": 6e-2, "f4": 2e-4, "f8": 1e-10, "c16": 1e-10}


@pytest.fixture(autouse=True)
def number_of_threads() -> Iterator[None]:
    before = threads.num_threads()
    yield
    threads.set_num_threads(before)


def random_array(rng: np.random.Generator, dtype: str, *shape: int) -> Any:
    x = rng.normal(size=shape) * 0.5
    return (x + 0.5j * rng.normal(size=shape) if dtype == "c16" else x).astype(dtype)


def random_program(rng: np.random.Generator, rows: int, columns: int) -> Callable[..., list[Any]]:
    """Some of the values that a few random steps make; each step takes what came before."""
    steps = [tuple(rng.integers(0, 10**6, 3)) for _ in range(int(rng.integers(3, 9)))]
    kept = [*(rng.random(len(steps) - 1) < 0.4), True]

    def program(a: Any, b: Any, of_column: Any, of_row: Any) -> list[Any]:
        full, row, column, outs = [a, b], [of_row], [of_column], list[Any]()
        for (kind, i, j), keep in zip(steps, kept, strict=True):
            x, y = full[i % len(full)], full[j % len(full)]
            r, c = row[j % len(row)], column[j % len(column)]
            match kind % 8:
                case 0:
                    full.append(x + y * 0.5)
                case 1:
                    full.append(x * c - r[:, None])
                case 2:
                    row.append(fnp.sum(x * y, axis=1) / columns)
                case 3:
                    column.append(fnp.sum(x, axis=0) / rows)
                case 4:
                    row.append(fnp.max(fnp.abs(x), axis=1) * r)
                case 5:
                    column.append(fnp.min(fnp.abs(x), axis=0) * c)
                case 6:
                    full.append(x * (fnp.sum(y * r[:, None]) / (rows * columns)))
                case _:
                    row.append((x @ c) / columns)
                    column.append((row[-1] @ x) / rows)
            if keep:
                outs.append((full, row, column)[(0, 0, 1, 2, 1, 2, 0, 2)[kind % 8]][-1])
        return outs

    return program


@pytest.mark.parametrize("seed", range(24))
def test_native_values_are_the_evaluators(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.choice(ROWS)), int(rng.choice(COLUMNS))
    dtype = str(rng.choice(list(TOLERANCES)))
    shapes = ((rows, columns), (rows, columns), (columns,), (rows,))
    args = [random_array(rng, dtype, *shape) for shape in shapes]
    f = random_program(rng, rows, columns)
    if dtype == "f8" and seed % 2:
        f = ft.grad(lambda *xs, f=f: sum(fnp.sum(x) for x in f(*xs)), (0, 1, 2, 3))
    made = ft.make_jaxpr(f)(*args)
    executable = compile_jaxpr(made.jaxpr)
    found: list[list[Any]] = []
    for count in (1, 2):
        threads.set_num_threads(count)
        found.append(executable([np.asarray(x) for x in (*made.consts, *args)]))
    for one, two, value in zip(*found, ft.tree.leaves(f(*args)), strict=True):
        np.testing.assert_array_equal(one, two)
        scale = max(1e-3, float(np.max(np.abs(value), initial=0.0)))
        tolerance = TOLERANCES[dtype]
        np.testing.assert_allclose(one, value, rtol=tolerance, atol=tolerance * scale)
