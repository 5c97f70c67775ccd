"""Products of many small matrices have the bits of the general product, for every layout."""

import platform
from functools import cache
from typing import Any

import numpy as np
import pytest

import functrans as ft
from functrans import numpy as fnp
from jit import native
from jit.lowering.contraction import is_small, small_name
from jit.runtime import gemm, symbols, threads
from jit.runtime.gemm_small import is_small_name
from jit.runtime.gemm_small_text import small_module
from jit.runtime.objects import host_features, link_object
from tests.jit.test_gemm import CALL, NAMES, TILES, laid_out

X86 = platform.machine().lower() in ("x86_64", "amd64")
OLDER = {"avx2", "sse2"}
LAYOUTS = ("rows", "columns", "strided")


@cache
def function_of(name: str, tile: str) -> Any:
    """The function on this machine, or as an older or other one would have it."""
    if tile == "host":
        return CALL(symbols.address(name))
    text = small_module(name, TILES[tile])
    target = native.portable_target(tile) if X86 and tile in OLDER & host_features() else None
    code = native.emit_object(text, target or native.host_target())
    return CALL(link_object(f"test_{name}_{tile}", code, threads.symbols(), [name])[name])


def multiply(a: Any, b: Any, tile: str = "host") -> Any:
    """The products of two stacks of matrices; the margin right of the result is checked."""
    size = a.itemsize
    batch, m, k = a.shape
    n = b.shape[2]
    room = np.full((batch, m, n + (n > 1)), np.nan, a.dtype)
    strides = [s // size for s in (*a.strides[1:], *b.strides[1:], room.strides[1])]
    name = small_name(NAMES[a.dtype.char], m, n, k, strides)
    assert is_small_name(name)
    steps = [x.strides[0] // size for x in (a, b, room)]
    function_of(name, tile)(
        *(m, n, k, a.ctypes.data, *strides[:2], b.ctypes.data, *strides[2:4]),
        *(room.ctypes.data, strides[4], batch, *steps, 0),
    )
    assert np.isnan(room[:, :, n:]).all()
    return room[:, :, :n]


@pytest.mark.parametrize("char", "fd")
@pytest.mark.parametrize("tile", ["host", *TILES])
def test_shapes_and_layouts(char: str, tile: str) -> None:
    rng = np.random.default_rng(ord(char) + len(tile))
    sizes = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 24, 31)
    for _ in range(20 if tile == "host" else 8):
        m, n, k = (int(s) for s in rng.choice(sizes, 3))
        a = laid_out(rng.standard_normal((9, m, k)).astype(char), rng.choice(LAYOUTS))
        b = laid_out(rng.standard_normal((9, k, n)).astype(char), rng.choice(LAYOUTS))
        got, want = multiply(a, b, tile), a.astype("d") @ b.astype("d")
        eps = float(np.finfo(char).eps)
        assert np.allclose(got, want, rtol=0, atol=eps * k * (1 + np.abs(want).max())), (m, n, k)


@pytest.mark.parametrize("char", "fd")
@pytest.mark.parametrize("shape", [(3, 3, 3), (16, 16, 16), (5, 40, 7), (33, 1, 20)])
def test_bits_are_those_of_the_general_product(char: str, shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    rng = np.random.default_rng(1)
    a = rng.standard_normal((2000, m, k)).astype(char)
    b = rng.standard_normal((2000, k, n)).astype(char)
    want = np.empty((2000, m, n), char)
    name = f"ft_gemm_{NAMES[char]}"
    CALL(gemm.symbols(name)[name])(
        *(m, n, k, a.ctypes.data, k, 1, b.ctypes.data, n, 1, want.ctypes.data, n),
        *(2000, m * k, k * n, m * n, 0),
    )
    before = threads.num_threads()
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            assert multiply(a, b).tobytes() == want.tobytes()
    finally:
        threads.set_num_threads(before)


@pytest.mark.parametrize("equation", ["bij,bjk->bik", "bij,bkj->bik", "bji,bjk->bik", "bij,bj->bi"])
def test_compiled_programs_use_them(equation: str) -> None:
    rng = np.random.default_rng(2)
    last = (500, 6) if equation.endswith("bi") else (500, 6, 6)
    a, b = rng.standard_normal((500, 6, 6)), rng.standard_normal(last)
    f = ft.jit(lambda a, b: fnp.einsum(equation, a, b))
    assert np.allclose(f(a, b), np.einsum(equation, a, b), rtol=1e-13)
    assert "ft_small_f64_6x" in f.lower(a, b).as_text("loops")


def test_what_is_small() -> None:
    assert is_small(1000, 32, 32, 32)
    assert not is_small(1000, 64, 64, 64)
    assert not is_small(2, 4, 4, 4)
    assert not is_small_name("ft_small_f32_4x4_1_1_1_1_1")


@pytest.mark.parametrize(
    ("shape", "strides", "fetched"),
    [
        ((32, 32, 32), (32, 1, 32, 1, 32), 3),
        ((32, 32, 32), (1, 32, 1, 32, 32), 3),
        ((32, 32, 32), (320, 1, 32, 1, 32), 2),
        ((64, 16, 32), (32, 1, 16, 1, 16), 3),
        ((64, 8, 32), (32, 1, 8, 1, 8), 2),
        ((4, 64, 64), (64, 1, 64, 1, 64), 0),
        ((16, 16, 16), (16, 1, 16, 1, 16), 0),
    ],
)
def test_the_next_product_is_fetched_ahead(
    shape: tuple[int, int, int], strides: tuple[int, ...], fetched: int
) -> None:
    """Dense matrices of half a page, each line once; nothing of one whose rows are far apart."""
    text = small_module(small_name("f32", *shape, strides), TILES["avx2"])
    lines = text.count("call void @llvm.prefetch")
    m, n, k = shape
    largest = sorted([4 * m * k, 4 * k * n, 4 * m * n])[3 - fetched :]
    assert fetched <= lines <= sum(size // 64 for size in largest)
