"""Windows and index functions inside each other: right values, and nothing outside is read."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import lax
from functrans.extend import aval_of, stage_walk
from functrans.primitives.windows import overlap
from jit.pipeline import compile_jaxpr
from tests.guarded import can_guard, guarded

RNG = np.random.default_rng(5)


def overlapped(y: Any, shape: Any, strides: Any, dilation: Any) -> Any:
    """Windows added up, one element at a time."""
    total, n = np.zeros(shape, y.dtype), len(shape)
    for at in np.ndindex(*y.shape):
        places, offsets = at[:n], at[n:]
        pairs = zip(places, strides, offsets, dilation, strict=True)
        total[tuple(p * s + o * d for p, s, o, d in pairs)] += y[at]
    return total


@pytest.mark.parametrize("dtype", ["f8", "c16", "i4"])
@pytest.mark.parametrize(
    "axes", list(product([(1, 1, 1), (3, 2, 1), (2, 2, 3), (2, 4, 3)], repeat=2))
)
def test_windows_are_added_up(axes: Any, dtype: str) -> None:
    """Along each axis: elements of a window, and how far windows and elements lie apart."""
    window, strides, dilation = zip(*axes, strict=True)
    shape, places = (
        (13, 14),
        tuple(
            (n - (k - 1) * d - 1) // s + 1
            for n, k, s, d in zip((13, 14), window, strides, dilation, strict=True)
        ),
    )
    y = RNG.integers(-9, 9, (*places, *window)).astype(dtype) * (1 + 2j if dtype == "c16" else 1)
    f = lambda y: overlap(3 * y, shape, strides, dilation)
    np.testing.assert_array_equal(ft.jit(f)(y), overlapped(3 * y, shape, strides, dilation))


@pytest.mark.parametrize(("stride", "fused"), [(3, False), (4, True), (5, True)])
def test_windows_that_lie_apart_are_no_sums(stride: int, fused: bool) -> None:
    """Two elements that are three apart take four places."""
    y = RNG.standard_normal((10 // stride + 1, 2))
    f = ft.jit(lambda y: fnp.sin(overlap(y, (14,), (stride,), (3,))))
    kernels = f.lower(y).as_text("loops").count("kernel")
    assert kernels == (1 if fused else 2)


def padded(x: Any, low: int, high: int, axis: int = 0, interior: int = 0) -> Any:
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (low, high, interior)
    return lax.pad(x, 0.5, config)


PROGRAMS: dict[str, Callable[..., Any]] = {
    "padded twice": lambda x, y, i: padded(padded(x, 3, 2), 2, 4, 1),
    "padded and cut": lambda x, y, i: padded(padded(x, 3, 5), -1, -2, 1),
    "padded apart": lambda x, y, i: padded(padded(x, 1, 2, 0, 1), 2, 1, 1, 2),
    "joined of padded": lambda x, y, i: fnp.concatenate([padded(x, 2, 1), padded(y, 1, 3)]),
    "padded joined": lambda x, y, i: padded(fnp.concatenate([x, y], 1), 3, 3, 1),
    "joined twice": lambda x, y, i: fnp.concatenate(
        [fnp.concatenate([x, y], 1), padded(x, 3, 4, 1)]
    ),
    "joined of three": lambda x, y, i: 2.0 * fnp.concatenate([y, x, y, x]),
    "named in padded": lambda x, y, i: fnp.at(padded(x, 2, 2))[i].get(mode="fill", fill_value=0.5),
    "padded named": lambda x, y, i: padded(fnp.at(x)[i].get(mode="fill", fill_value=0.5), 2, 1, 1),
    "named along two axes": lambda x, y, i: fnp.at(x)[i, i[::-1]].get(mode="fill", fill_value=0.5),
    "turned in padded": lambda x, y, i: padded(padded(x, 2, 1)[::-1].T, 1, 1),
}


@pytest.mark.skipif(not can_guard(), reason="this system cannot forbid pages")
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_outside_is_read(name: str, at_end: bool) -> None:
    """The operands lie between pages that must not be touched."""
    x, y, i = (
        RNG.standard_normal((7, 7)),
        RNG.standard_normal((7, 7)),
        np.array([3, 9, -1, -9, 6, 0]),
    )
    f = PROGRAMS[name]
    made = compile_jaxpr(
        stage_walk(lambda *args: [f(*args)], list(map(aval_of, (x, y, i))), "test")
    )
    (found,) = made([guarded(a, at_end) for a in (x, y, i)])
    np.testing.assert_array_equal(found, f(x, y, i))
