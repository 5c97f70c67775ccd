"""What follows a product elementwise runs on blocks of its rows, with the bits it had before.

Thresholds are lowered so that small products are cut as large ones are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import lax, nn
from jit import native, pipeline
from jit.passes import blocked, buffers, schedule
from jit.passes.blocked import Blocked
from jit.runtime import threads
from tests.jit.loop_programs import narrower

RNG = np.random.default_rng(7)
ROWS, DEPTH, COLUMNS = 203, 24, 40


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(blocked, "LEAST_BYTES", 1 << 10)
    monkeypatch.setattr(blocked, "BLOCK_BYTES", 1 << 11)
    monkeypatch.setattr(blocked, "LEAST_ROWS", 8)
    monkeypatch.setattr(schedule, "PARALLEL_NS", 0.0)
    monkeypatch.setattr(schedule, "LARGE_BYTES", 1 << 10)
    monkeypatch.setattr(schedule, "BLOCK_BYTES", 1 << 11)
    monkeypatch.setattr(schedule, "BLOCK_ROWS", 8)
    monkeypatch.setattr(buffers, "LARGE_BYTES", 1 << 10)
    before = threads.num_threads()
    yield
    threads.set_num_threads(before)


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape).astype("f4")


X, W, V = normal(ROWS, DEPTH), normal(DEPTH, COLUMNS), normal(COLUMNS, DEPTH)
BIAS, Z, G = normal(COLUMNS), normal(ROWS, COLUMNS), normal(ROWS, DEPTH)
BATCH, MANY = normal(12, 31, DEPTH), normal(12, DEPTH, COLUMNS)
ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e38, -1e38, 1e-45], "f4")
HOSTILE = X.copy()
HOSTILE[::5, 3] = np.resize(ODD, len(HOSTILE[::5]))


def gelu(x: Any, np: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(0.79788456 * (x + 0.044715 * x * x * x)))


def softmax(x: Any, np: Any) -> Any:
    exps = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return exps / np.sum(exps, axis=-1, keepdims=True)


def attention(layout: str) -> Callable[..., Any]:
    """Causal attention; its rows go through all of it, head by head."""

    def f(np: Any, q: Any, k: Any, v: Any) -> Any:
        left, right = layout.replace("t", "q"), layout.replace("t", "k")
        scores = np.einsum(f"{left},{right}->bhqk", q, k)
        causal = np.tri(scores.shape[-1], dtype=bool)
        shares = softmax(np.where(causal, scores, np.float32(-1e30)), np)
        return np.einsum(f"bhqk,{right}->{left}", shares, v)

    return f


HEADS = {
    layout: [normal(*({"b": 2, "h": 4, "t": 48, "d": 8}[c] for c in layout)) for _ in "qkv"]
    for layout in ("bthd", "bhtd", "tbhd")
}

# Rows outermost: fewer heads do not suffice for threads.
FEW_HEADS = [normal(1, 3, 64, 8) for _ in "qkv"]

# Each a function of NumPy's or functrans' namespace and of arrays, these arrays, and the kernels
# that become one.
CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], list[str]]] = {
    "bias": (lambda np, x, w, b: x @ w + b, (X, W, BIAS), ["dot_general0, nest1"]),
    "relu": (lambda np, x, w, b: np.maximum(x @ w + b, 0), (X, W, BIAS), ["dot_general0, nest1"]),
    "gelu": (lambda np, x, w, b: gelu(x @ w + b, np), (X, W, BIAS), ["dot_general0, nest1"]),
    "flat": (lambda np, x, w: np.tanh(x @ w), (X, W), ["dot_general0, nest1"]),
    "scaled": (lambda np, x, w, z: 0.5 * (x @ w) + 3 * z, (X, W, Z), ["dot_general0, nest1"]),
    "mask": (lambda np, g, v, z: (g @ v.T) * (z > 0), (G, V, Z), ["dot_general0, nest1"]),
    "several": (
        lambda np, x, w, b: (x @ w + b, x @ w + b > 0, np.maximum(x @ w + b, 0)),
        (X, W, BIAS),
        ["dot_general0, nest1"],
    ),
    "kept": (lambda np, x, w: (x @ w, np.exp(x @ w)), (X, W), ["dot_general0, nest1"]),
    "rows": (lambda np, x, w, b: softmax(x @ w + b, np), (X, W, BIAS), ["dot_general0, nest1"]),
    "turned": (
        lambda np, x, w, z: np.maximum((w.T @ x.T) * 2 + z.T, 0),
        (X, W, Z),
        ["dot_general0, nest1"],
    ),
    "batch": (
        lambda np, x, w, b: np.maximum(x @ w + b, 0),
        (BATCH, MANY, BIAS),
        ["dot_general0, nest1"],
    ),
    "layers": (
        lambda np, x, w, b, v: np.tanh(np.maximum(x @ w + b, 0) @ v),
        (X, W, BIAS, V),
        ["dot_general0, nest1, dot_general2, nest3"],
    ),
    "doubles": (
        lambda np, x, w: np.sqrt(np.abs(x @ w)),
        (X.astype("f8"), W.astype("f8")),
        ["dot_general0, nest1"],
    ),
    "hostile": (
        lambda np, x, w, b: np.where(x @ w > 0, x @ w + b, -b),
        (HOSTILE, W, BIAS),
        ["dot_general0, nest1"],
    ),
    "few": (attention("bhtd"), tuple(FEW_HEADS), ["dot_general0, nest1, dot_general2"]),
    **{
        layout: (attention(layout), tuple(heads), ["dot_general0, nest1, dot_general2"])
        for layout, heads in HEADS.items()
    },
    "two": (
        lambda np, x, w, z: np.maximum(x @ w, 0) + np.minimum(x[::-1] @ w, 0) * z,
        (X, W, Z),
        ["dot_general0, dot_general1, nest2"],
    ),
}


def compiled(name: str) -> tuple[pipeline.Executable, list[Any]]:
    f, args, _ = CASES[name]
    closed = ft.make_jaxpr(lambda *xs: f(fnp, *xs))(*args)
    return pipeline.compile_jaxpr(closed.jaxpr), [*closed.consts, *args]


def same_bits(found: Any, expected: Any) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("name", CASES)
def test_numpy_agrees(name: str) -> None:
    f, args, together = CASES[name]
    made, inputs = compiled(name)
    lines = [line for line in made.report.kernels if "together" in line]
    assert [line.partition(": ")[0] for line in lines] == together
    with np.errstate(all="ignore"):
        expected = ft.tree.leaves(f(np, *args))
    for mine, theirs in zip(made(inputs), expected, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_bits_are_those_of_kernels_in_order_on_any_number_of_threads(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, inputs = compiled(name)
    monkeypatch.setattr(pipeline, "in_blocks", lambda program: Blocked(program, []))
    apart, _ = compiled(name)
    assert not any("together" in line for line in apart.report.kernels)
    for count in (1, 2, 3):
        threads.set_num_threads(count)
        same_bits(made(inputs), apart(inputs))


@pytest.mark.parametrize("width", list(narrower()))
@pytest.mark.parametrize("name", ["gelu", "rows", "several", "layers", "bthd"])
def test_at_other_vector_widths(name: str, width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = native.portable_target(width)
    monkeypatch.setattr(native, "host_target", lambda: chosen)
    made, inputs = compiled(name)
    monkeypatch.setattr(pipeline, "in_blocks", lambda program: Blocked(program, []))
    apart, _ = compiled(name)
    same_bits(made(inputs), apart(inputs))


def test_the_product_is_written_where_the_result_lies() -> None:
    made, _ = compiled("relu")
    assert made.program.arena_bytes == 0
    assert "kernel dot_general0" in made.as_text("loops")


def test_a_product_that_another_result_needs_keeps_a_place_of_its_own() -> None:
    """Its reversed rows are read after the first result is written."""
    f = lambda x, w: (lambda y: (fnp.exp(y), y[::-1] + 1))(x @ w)
    first, second = ft.jit(f)(X, W)
    np.testing.assert_allclose(first, np.exp(X @ W), rtol=2e-5)
    np.testing.assert_allclose(second, (X @ W)[::-1] + 1, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("depth", [0, 1])
def test_products_of_few_steps(depth: int) -> None:
    x, w = normal(ROWS, depth), normal(depth, COLUMNS)
    found = ft.jit(lambda x, w, b: fnp.exp(x @ w + b))(x, w, BIAS)
    np.testing.assert_allclose(found, np.exp(x @ w + BIAS), rtol=2e-5)


def test_a_donated_argument_takes_the_result() -> None:
    z = Z.copy()
    f = ft.jit(lambda x, w, z: fnp.tanh(x @ w) + z, donate_argnums=2)
    expected = np.tanh(X @ W) + Z
    found = f(X, W, z)
    assert found is z
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("rows", [192, ROWS])
def test_the_gradient_of_two_layers(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums of a bias's gradient go through the blocks of the product before them."""
    x = np.resize(X, (rows, DEPTH))

    def loss(w: Any, b: Any, v: Any) -> Any:
        return fnp.sum(fnp.maximum(x @ w + b, 0) @ v * x)

    closed = ft.make_jaxpr(ft.grad(loss, (0, 1, 2)))(W, BIAS, V)
    args = [*closed.consts, W, BIAS, V]
    made = pipeline.compile_jaxpr(closed.jaxpr)
    together = [line for line in made.report.kernels if "together" in line]
    assert len(together) == 1 + (rows == 192)
    before = x @ W + BIAS
    back = np.where(before > 0, x @ V.T, 0)
    expected = x.T @ back, back.sum(0), np.maximum(before, 0).T @ x
    found = made(args)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-3)
    monkeypatch.setattr(pipeline, "in_blocks", lambda program: Blocked(program, []))
    apart = pipeline.compile_jaxpr(closed.jaxpr)
    for count in (1, 2, 3):
        threads.set_num_threads(count)
        same_bits(made(args), apart(args))
        same_bits(made(args), found)


def test_inside_loops() -> None:
    """A layer applied several times, by scan and by while."""

    def layer(x: Any) -> Any:
        return fnp.tanh(x @ W + BIAS) @ V / 8

    scan = lambda x: lax.scan(lambda h, _: (layer(h), None), x, None, length=3)[0]
    loop = lambda x: lax.fori_loop(0, 3, lambda _, h: layer(h), x)
    expected = X
    for _ in range(3):
        expected = np.tanh(expected @ W + BIAS) @ V / 8
    for f in (scan, loop):
        assert any("together" in line for line in ft.jit(f).lower(X).compile_report().kernels)
        np.testing.assert_allclose(ft.jit(f)(X), expected, rtol=1e-4, atol=1e-5)


def test_an_index_that_is_checked_between_keeps_kernels_apart() -> None:
    """The check may leave the program: it is not part of any block."""

    def f(x: Any, w: Any, places: Any) -> Any:
        return fnp.exp(nn.relu(x @ w)[:, places])

    places = np.arange(COLUMNS)[::-1].copy()
    found = ft.jit(f)(X, W, places)
    np.testing.assert_allclose(found, np.exp(np.maximum(X @ W, 0))[:, places], rtol=2e-5)
    with pytest.raises(IndexError):
        ft.jit(f)(X, W, places + COLUMNS)
