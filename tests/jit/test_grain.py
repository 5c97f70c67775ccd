"""Parallel loops of many short steps are shared out in pieces, whoever wrote the loop."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans.numpy as fnp
from functrans import grad, jit, lax

ROWS, SHORT = 49_896, 100


def windows(x: Any) -> Any:
    """Maxima of overlapping windows: the gradient adds up, row by row."""
    best = lax.reduce_window(x, -np.inf, lax.max, (1, 3), (1, 1), "VALID")
    return fnp.sum(best * best)


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "lines": lambda x: fnp.cumsum(x, 1),
    "lines, from their ends": lambda x: lax.cummax(x, 1, reverse=True),
    "planes": lambda x: fnp.cumsum(x.reshape(-1, 3, 77), 1),
    "top_k": lambda x: lax.top_k(x, 2)[0],
    "windows": grad(windows),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_threads_take_several_steps_at_a_time(name: str) -> None:
    """Taking one step costs what a few elements do, and ten times that where threads contend."""
    x = np.random.default_rng(0).normal(size=(ROWS, 7))
    text = jit(PROGRAMS[name]).lower(x).as_text("loops")
    loops = re.findall(r"parallel \w+ < (\d+)(?: grain (\d+))?", text)
    shared = [(int(extent), int(grain or 1)) for extent, grain in loops if int(extent) > SHORT]
    assert shared
    assert all(grain > 1 for _, grain in shared)
