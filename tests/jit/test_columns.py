"""Sums down columns, read row by row: some rows at a time, whatever number of rows there is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans.numpy as fnp
from functrans import grad, jit, nn
from jit.passes.columns import MORE_TOGETHER
from jit.passes.schedule import strip_lines

FOLDS: dict[str, Callable[[Any], Any]] = {
    "sum": lambda x: fnp.sum(x, 0),
    "max": lambda x: fnp.max(x, 0),
    "squares": lambda x: fnp.sum(x * x, 0),
}
SHAPES = [(17_003, 20), (40_000, 16), (9_001, 33), (1_031, 1_009)]


@pytest.mark.parametrize("dtype", ["f4", "f8", "c16"])
@pytest.mark.parametrize("name", FOLDS)
def test_every_row_counts_once(name: str, dtype: str) -> None:
    for shape in SHAPES:
        x = np.random.default_rng(0).integers(-9, 9, shape).astype(dtype)
        x[-1] = 40  # the last row is in none of the groups of rows
        found = jit(FOLDS[name])(x)
        np.testing.assert_array_equal(found, FOLDS[name](x))
        assert found.dtype == x.dtype


@pytest.mark.parametrize(
    ("shape", "together"),
    [((17_003, 20), MORE_TOGETHER), ((10_031, 1_009), 1), ((3_003, 40), 1)],
)
def test_sums_are_read_once_for_some_rows(shape: tuple[int, int], together: int) -> None:
    """A load of a sum waits for the store before it: row by row that took most of the time."""
    text = jit(FOLDS["max"]).lower(np.ones(shape)).as_text("loops")
    rows, *_ = re.findall(r"load nest0_sum0\[.*?store nest0_sum0", text, re.DOTALL)
    assert rows.count("load in0") == together


def scores(x: Any) -> Any:
    return (x - fnp.mean(x, 0)) / fnp.std(x, 0)


TALL: dict[str, Callable[[Any], Any]] = {
    "scores": scores,
    "softmax": lambda x: nn.softmax(x, axis=0),
    "gradient": grad(lambda x: fnp.sum(fnp.tanh(scores(x)))),
}


@pytest.mark.parametrize("columns", [5, 7, 20])
@pytest.mark.parametrize("name", TALL)
def test_a_tall_matrix_is_read_row_by_row(name: str, columns: int) -> None:
    """Several passes down its few columns in one nest ran on one thread and some of the lanes."""
    x = np.random.default_rng(0).normal(size=(30_011, columns))
    report = str(jit(TALL[name]).lower(x).compile().compile_report())
    assert f"parallel 30011 x vector {columns}: full" in report
    assert not re.search("x serial 30011: .*row_fold.*full", report)
    np.testing.assert_allclose(jit(TALL[name])(x), TALL[name](x), 1e-9, 1e-13)


def test_a_small_matrix_stays_in_one_kernel() -> None:
    report = str(jit(scores).lower(np.ones((100, 7))).compile().compile_report())
    assert "passes over each row" in report
    assert "\n  1:" not in report


@pytest.mark.parametrize(
    ("height", "row", "lines"),
    [(1024, 4096, 8), (2000, 2000, 8), (300, 3200, 4), (5000, 1600, 4), (100, 1 << 16, 16)],
)
def test_strips_share_the_columns(height: int, row: int, lines: int) -> None:
    """Equal halves; half a kilobyte of a row if the strip fits a cache, one of a wide row."""
    assert strip_lines(height, row) == lines
