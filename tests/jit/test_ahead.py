"""Passes over rows: the busiest asks for what the others move, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans.scipy.special import logsumexp
from jit import emit
from jit.ahead import ROW_BYTES, fetches
from jit.loop_facts import LARGE_BYTES
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import For, Kernel
from jit.pipeline import compile_jaxpr

RNG = np.random.default_rng(5)
WANTED = ("x", "out")


def softmax(columns: int, rows: int = 50, last: int | None = None) -> Kernel:
    """The greatest of a row; exps, kept in a local row and added; the quotients."""
    b = Builder("softmax")
    x, out = (
        make(name, "f32", rows * columns) for make, name in ((b.input, "x"), (b.output, "out"))
    )
    row = b.local("row", "f32", columns)
    with b.kernel("rows"), b.for_(rows, "parallel") as outer:
        base = b.mul(outer.i, columns)
        with b.for_(columns, "vector", [(b.const("f32", -np.inf), "max")]) as loop:
            loop.yield_(b.op("max", loop.carries[0], b.load(x, b.add(base, loop.i))))
        top = loop.results[0]
        with b.for_(columns, "vector", [(b.const("f32", 0.0), "add")]) as loop:
            e = b.op("exp", b.sub(b.load(x, b.add(base, loop.i)), top))
            b.store(row, loop.i, e)
            loop.yield_(b.add(loop.carries[0], e))
        total = loop.results[0]
        with b.for_(columns if last is None else last, "vector") as loop:
            b.store(out, b.add(base, loop.i), b.op("div", b.load(row, loop.i), total))
    return b.finish().kernels[0]


def loop_of(kernel: Kernel) -> For:
    (outer,) = kernel.body.stmts
    assert isinstance(outer, For)
    return outer


def test_the_exps_ask_for_the_next_row_and_for_where_this_one_goes() -> None:
    outer = loop_of(softmax(100))
    asked = fetches(outer, WANTED)
    assert asked is not None
    busy, found = asked
    passes = [stmt for stmt in outer.body.stmts if isinstance(stmt, For)]
    assert busy is passes[1]
    assert [(f.buffer.name, f.further, f.writes) for f in found] == [
        ("x", 100, False),
        ("out", 0, True),
    ]


def test_small_buffers_are_not_asked_for() -> None:
    asked = fetches(loop_of(softmax(100)), ("out",))
    assert asked is not None
    assert [f.buffer.name for f in asked[1]] == ["out"]
    assert fetches(loop_of(softmax(100)), ()) is None


def test_rows_too_long_to_stay_are_not_asked_for() -> None:
    longest = ROW_BYTES // 4
    assert fetches(loop_of(softmax(longest)), WANTED) is not None
    assert fetches(loop_of(softmax(longest + 1)), WANTED) is None


def test_passes_of_different_lengths_are_left_alone() -> None:
    assert fetches(loop_of(softmax(100, last=99)), WANTED) is None


def test_one_pass_has_nothing_to_ask_for() -> None:
    b = Builder("plain")
    x, out = b.input("x", "f32", 1000), b.output("out", "f32", 1000)
    with b.kernel("rows"), b.for_(10, "parallel") as outer, b.for_(100, "vector") as loop:
        at = b.add(b.mul(outer.i, 100), loop.i)
        b.store(out, at, b.op("exp", b.load(x, at)))
    assert fetches(loop_of(b.finish().kernels[0]), WANTED) is None


@pytest.mark.parametrize("shape", [(33, 100), (7, 1), (64, 257), (5, 1500)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_same_bits(
    shape: tuple[int, int], dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking past the last row does no harm, and no result knows of it."""
    x = RNG.normal(size=shape).astype(dtype)

    def loss(x):
        centred = x - fnp.mean(x, axis=1, keepdims=True)
        return fnp.sum(logsumexp(x, axis=1)) + fnp.sum(centred**2 * fnp.exp(-x))

    jaxpr = ft.make_jaxpr(ft.value_and_grad(loss))(x).jaxpr
    plain = compile_jaxpr(jaxpr)
    monkeypatch.setattr(emit, "LARGE_BYTES", 0)
    asking = compile_jaxpr(jaxpr)
    assert "prefetch" not in plain.as_text("llvm")
    assert ("prefetch" in asking.as_text("llvm")) == (shape[1] > 1)
    for a, b in zip(plain([x]), asking([x]), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_a_large_softmax_asks() -> None:
    rows = LARGE_BYTES // 4 // 256
    jaxpr = ft.make_jaxpr(lambda x: ft.nn.softmax(x, axis=1))(np.zeros((rows, 256), "f4")).jaxpr
    assert "prefetch" in compile_jaxpr(jaxpr).as_text("llvm")
