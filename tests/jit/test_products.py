"""Products in compiled programs: written in the order that is wanted, for every layout and type."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest

import functrans as ft
from functrans import numpy as fnp
from jit.runtime import threads


def check(f: Any, g: Any, *arrays: Any) -> str:
    """Compare a compiled function with NumPy's; gives its loops."""
    compiled = ft.jit(f)
    got, want = compiled(*arrays), g(*arrays)
    assert got.shape == want.shape
    tolerance = 1e-4 if got.dtype.itemsize < 8 or got.dtype == np.complex64 else 1e-12
    assert np.allclose(got, want, rtol=tolerance, atol=tolerance)
    return compiled.lower(*arrays).as_text("loops")


def random(char: str, *shape: int) -> Any:
    rng = np.random.default_rng(sum(shape))
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if char in "FD" else x).astype(char)


@pytest.mark.parametrize("char", "fdFD")
@pytest.mark.parametrize("order", list(permutations("bhqk")), ids="".join)
def test_every_order_of_a_batched_product(char: str, order: tuple[str, ...]) -> None:
    q, k = random(char, 2, 17, 3, 19), random(char, 2, 23, 3, 19)
    equation = "bqhd,bkhd->" + "".join(order)
    text = check(
        lambda q, k: fnp.einsum(equation, q, k), lambda q, k: np.einsum(equation, q, k), q, k
    )
    straight = order[-1] in "qk"
    assert ("nest" not in text) == straight


@pytest.mark.parametrize("char", "fF")
@pytest.mark.parametrize(
    "equation",
    ["abij,abjk->aibk", "ij,abjk->abki", "abij,jk->kabi", "iajb,kbja->ik", "aij,jk->kia"],
)
def test_other_products(char: str, equation: str) -> None:
    left, right = equation.partition("->")[0].split(",")
    sizes = dict(zip("abijk", (3, 4, 21, 22, 25), strict=True))
    x = random(char, *(sizes[c] for c in left))
    y = random(char, *(sizes[c] for c in right))
    check(lambda x, y: fnp.einsum(equation, x, y), lambda x, y: np.einsum(equation, x, y), x, y)


def test_a_transposed_product_that_is_reshaped_is_not_copied() -> None:
    x, w = random("f", 4, 8, 32, 16), random("f", 4, 8, 16, 24)

    def joined(np_: Any, x: Any, w: Any) -> Any:
        return np_.reshape(np_.transpose(np_.matmul(x, w), (0, 2, 1, 3)), (4, 32, 8 * 24))

    text = check(lambda x, w: joined(fnp, x, w), lambda x, w: joined(np, x, w), x, w)
    assert "nest" not in text


def test_a_product_that_is_read_in_both_orders_is_kept() -> None:
    x, w = random("d", 40, 30), random("d", 30, 50)
    check(
        lambda x, w: (x @ w).T @ (x @ w) + fnp.sum((x @ w).T),
        lambda x, w: (x @ w).T @ (x @ w) + np.sum(x @ w),
        x,
        w,
    )
    check(lambda x, w: (x @ w).T, lambda x, w: (x @ w).T, x, w)
    check(lambda x, w: (x @ w).reshape(-1), lambda x, w: (x @ w).reshape(-1), x, w)


def test_many_short_batches_are_shared_among_threads() -> None:
    """Heads stand between positions: two axes of the batch that are not one."""
    q = random("f", 40, 48, 2, 32)
    before = threads.num_threads()
    results: list[bytes] = []
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            f = ft.jit(lambda q: fnp.einsum("bqhd,bkhd->bhqk", q, q))
            results.append(f(q).tobytes())
    finally:
        threads.set_num_threads(before)
    assert len(set(results)) == 1
    assert np.allclose(
        np.frombuffer(results[0], "f4").reshape(40, 2, 48, 48),
        np.einsum("bqhd,bkhd->bhqk", q, q),
        atol=1e-4,
    )


@pytest.mark.parametrize("shape", [(70, 64, 90), (40, 50, 60), (5, 300, 7)])
def test_half_precision_sums_in_single(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    a, b = random("e", m, k), random("e", k, n)
    got = ft.jit(fnp.matmul)(a, b)
    want = (a.astype("d") @ b.astype("d")).astype("e")
    assert got.dtype == np.float16
    assert np.allclose(got.astype("d"), want.astype("d"), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("char", "fdFD")
def test_sums_of_products_are_added_up_in_place(char: str) -> None:
    xs, ys = random(char, 5, 16, 40), random(char, 5, 16, 50)

    def total(xs: Any, ys: Any) -> Any:
        found = xs[0].T @ ys[0]
        for k in range(1, 5):
            found = xs[k].T @ ys[k] + found if k % 2 else found + (ys[k].T @ xs[k]).T
        return found

    text = check(total, total, xs, ys)
    assert "nest" not in text
    assert text.count("call ft_gemm") == 5


def test_sums_of_sums_and_products_read_twice_are_left() -> None:
    x, y, z = random("d", 20, 40), random("d", 20, 50), random("d", 40, 50)

    def sums(x: Any, y: Any, z: Any) -> Any:
        one = x.T @ y
        return (one + (2 * x).T @ y) + (x.T @ (3 * y) + (x + 1).T @ y) + one * z

    check(sums, sums, x, y, z)


def test_gradients_of_a_layer_used_again_have_the_bits_of_separate_sums() -> None:
    rng = np.random.default_rng(4)
    w, x = rng.standard_normal((64, 64)).astype("f") / 8, random("f", 16, 64)

    def loss(w: Any) -> Any:
        h = x
        for _ in range(4):
            h = fnp.tanh(h @ w)
        return fnp.sum(h)

    gradient = ft.jit(ft.grad(loss))
    assert np.allclose(gradient(w), ft.grad(loss)(w), rtol=1e-4, atol=1e-5)
    assert gradient.lower(w).as_text("loops").count(", 1)\n") >= 3
