"""Compiled sorting agrees with NumPy: order, NaN, signed zeros, stability, any size and type."""

import ctypes
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import functrans as ft
import functrans.numpy as fnp
from functrans import lax
from jit.lowering import ordering
from jit.runtime import sort, threads
from jit.runtime.sort_text import BLOCK

Array = NDArray[Any]
CHARS = "bhiqBHIQefdFD"
SIZES = (*range(20), 31, 32, 33, 64, 100, 255, 256, 257, 1000, 4097)
_I, _P = ctypes.c_int64, ctypes.c_void_p


def name_of(x: Array) -> str:
    return f"{x.dtype.kind}{8 * x.dtype.itemsize}"


@cache
def function(name: str, emitted: bool) -> Any:
    table = sort.load_emitted(name, f"test_{name}") if emitted else sort.symbols(name)
    arguments = (_P, _I, _P) if name.startswith("ft_sort") else (_P, _I, _P, _P)
    return ctypes.CFUNCTYPE(None, *arguments)(table[name])


def sorted_values(x: Array, emitted: bool = False) -> Array:
    name = name_of(x)
    values = x.copy()
    scratch = np.empty(sort.sort_scratch_bytes(name, x.size), np.uint8)
    function(f"ft_sort_{name}", emitted)(values.ctypes.data, x.size, scratch.ctypes.data)
    return values


def order_of(*keys: Array, start: Array | None = None) -> Array:
    """Stable order by the first key, then the second, ..."""
    n = keys[0].size
    indices = np.arange(n, dtype=np.int64) if start is None else start.copy()
    for key in reversed(keys):
        name = name_of(key)
        scratch = np.empty(sort.argsort_scratch_bytes(name, n), np.uint8)
        call = function(f"ft_argsort_{name}", False)
        call(key.ctypes.data, n, indices.ctypes.data, scratch.ctypes.data)
    return indices


def random(rng: np.random.Generator, n: int, char: str, ties: bool) -> Array:
    if char in "efdFD":
        parts = [rng.integers(-3, 4, n) * 1.0 if ties else rng.standard_normal(n) for _ in range(2)]
        for part in parts:
            for value in (np.nan, np.inf, -np.inf, -0.0, 0.0):
                part[rng.random(n) < 0.08] = value
        x = np.empty(n, char)
        x.real = parts[0]
        if char in "FD":
            x.imag = parts[1]
        return x
    info = np.iinfo(char)
    low, high = (0, 4) if ties else (int(info.min), int(info.max))
    return rng.integers(low, high, n, dtype=char, endpoint=True)


@pytest.fixture(autouse=True)
def restore_size() -> Iterator[None]:
    before = threads.num_threads()
    yield
    threads.set_num_threads(before)


@pytest.mark.parametrize("char", CHARS)
@pytest.mark.parametrize("ties", [False, True])
def test_order_is_numpys_stable_one(char: str, ties: bool) -> None:
    rng = np.random.default_rng(ord(char))
    for n in SIZES:
        x = random(rng, n, char, ties)
        order = order_of(x)
        assert np.array_equal(order, np.argsort(x, kind="stable")), n
        assert sorted_values(x, emitted=True).tobytes() == x[order].tobytes(), n
        assert np.array_equal(sorted_values(x), np.sort(x), equal_nan=char in "efdFD"), n


@pytest.mark.parametrize("char", ["q", "f", "D", "B"])
def test_large_sorts_are_the_same_with_any_threads(char: str) -> None:
    rng = np.random.default_rng(1)
    for n in (BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK - 3, 100_000):
        for ties in (False, True):
            x = random(rng, n, char, ties)
            want = np.argsort(x, kind="stable")
            for count in (1, 2, 3):
                threads.set_num_threads(count)
                assert np.array_equal(order_of(x), want)
                assert sorted_values(x, emitted=True).tobytes() == x[want].tobytes()
                assert np.array_equal(sorted_values(x), x[want], equal_nan=True)


@pytest.mark.parametrize("n", [0, 1, 5, 1000, 3 * BLOCK])
def test_inputs_in_order_and_in_reverse(n: int) -> None:
    up = np.arange(n, dtype=np.float64)
    assert np.array_equal(order_of(up), np.arange(n))
    assert np.array_equal(order_of(up[::-1].copy()), np.arange(n)[::-1])
    assert np.array_equal(order_of(np.zeros(n)), np.arange(n))
    for x in (up, up[::-1].copy(), np.zeros(n)):
        assert np.array_equal(sorted_values(x, emitted=True), np.sort(x))


def test_every_short_pattern_is_stable() -> None:
    for n in range(1, 7):
        for pattern in np.ndindex(*(3,) * n):
            x = np.array(pattern, np.int8)
            assert np.array_equal(order_of(x), np.argsort(x, kind="stable"))


def test_several_keys() -> None:
    rng = np.random.default_rng(2)
    for n in (0, 1, 7, 100, 20_000):
        keys = [random(rng, n, char, ties=True) for char in "fBDh"]
        assert np.array_equal(order_of(*keys), np.lexsort(keys[::-1]))


def test_descending_keeps_ties_in_order() -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 5, 1000).astype(np.float32)
    backwards = np.arange(1000, dtype=np.int64)[::-1].copy()
    assert np.array_equal(order_of(x, start=backwards)[::-1], np.argsort(-x, kind="stable"))


def test_a_type_without_order_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match=r"sort: expected one of i8, .*'ft_sort_i128'"):
        sort.symbols("ft_sort_i128")


@pytest.mark.parametrize("shape", [(1000,), (30, 1000)])
def test_one_operand_is_sorted_where_it_is_written(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    sorts = ft.jit(lambda x: fnp.sort(x, axis=-1))
    np.testing.assert_array_equal(sorts(x), np.sort(x))
    text = sorts.lower(x).as_text("loops")
    assert "ft_sort_f64" in text
    assert "ft_argsort" not in text


@pytest.mark.parametrize("dtype", ["f8", "i2", "u1"])
def test_workspaces_hold_what_the_sorts_take(dtype: str) -> None:
    n, size = 1000, np.dtype(dtype).itemsize
    x = np.zeros((3, n), dtype)
    name = name_of(x)
    (alone,) = ft.make_jaxpr(lambda x: lax.sort(x))(x).jaxpr.eqns
    (together,) = ft.make_jaxpr(lambda x: lax.sort((x, x)))(x).jaxpr.eqns
    scratch = sort.sort_scratch_bytes(name, n)
    assert scratch <= ordering.sort_workspace(alone) < scratch + 64
    needed = (size + 8) * n + sort.argsort_scratch_bytes(name, n)
    assert needed <= ordering.sort_workspace(together) < needed + 3 * 64


def test_a_large_k_takes_the_end_of_the_order() -> None:
    """Ties go to the lower index."""
    x = np.random.default_rng(0).integers(0, 40, (7, 300)) / 2
    values, places = ft.jit(lambda x: lax.top_k(fnp.sin(x), 200))(x)
    order = np.argsort(-np.sin(x), axis=-1, kind="stable")[:, :200]
    np.testing.assert_array_equal(places, order)
    np.testing.assert_allclose(values, np.sin(np.take_along_axis(x, order, -1)), rtol=1e-13)


def test_several_operands_are_read_in_any_layout() -> None:
    x = np.random.default_rng(1).integers(0, 9, (6, 5, 4)).astype(float)

    def f(x: Any) -> Any:
        y = fnp.transpose(x, (2, 0, 1)).reshape(4, 30) + 1
        return lax.sort((y, -y, y * y), dimension=0)

    for a, b in zip(ft.jit(f)(x), f(x), strict=True):
        np.testing.assert_array_equal(a, b)
