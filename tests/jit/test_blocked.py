"""Kernels that share an outer loop run block by block of it, and make the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from jit import pipeline
from jit.loop_ir.builder import Builder
from jit.loop_ir.check import check_program
from jit.loop_ir.nodes import Block, Buffer, Kernel, Program
from jit.passes import blocked
from jit.passes.blocked import Blocked, in_blocks
from jit.passes.touches import Member, Span, Touch
from tests.jit.loop_programs import run

MEMBERS, SIZE = 64, 20_000


def attention(layout: str) -> Callable[..., Any]:
    """The sum of causal attention; `layout` of (batch, length, heads, size)."""
    left = layout.replace("t", "q")
    right = layout.replace("t", "k")

    def f(q: Any, k: Any, v: Any) -> Any:
        scores = fnp.einsum(f"{left},{right}->bhqk", q, k) / 4.0
        causal = np.tri(scores.shape[-1], dtype=bool)
        scores = fnp.where(causal, scores, np.float32(-1e30))
        exps = fnp.exp(scores - fnp.max(scores, axis=3, keepdims=True))
        shares = exps / fnp.sum(exps, axis=3, keepdims=True)
        return fnp.sum(fnp.einsum(f"bhqk,{right}->{left}", shares, v) ** 2)

    return f


@pytest.mark.parametrize("layout", ["bthd", "bhtd"])
def test_attention_in_blocks_has_the_same_bits(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"b": 4, "t": 192, "h": 8, "d": 16}
    rng = np.random.default_rng(0)
    args = [rng.normal(size=[sizes[c] for c in layout]).astype("f4") for _ in range(3)]
    closed = ft.make_jaxpr(ft.value_and_grad(attention(layout), (0, 1, 2)))(*args)
    jaxpr, args = closed.jaxpr, [*closed.consts, *args]
    found = pipeline.compile_jaxpr(jaxpr)
    assert sum("block by block of 32" in line for line in found.report.kernels) == 2
    assert any("rather than keep it" in line for line in found.report.kernels)
    monkeypatch.setattr(pipeline, "in_blocks", lambda program: Blocked(program, []))
    plain = pipeline.compile_jaxpr(jaxpr)
    assert not any("block by block" in line for line in plain.report.kernels)
    for mine, expected in zip(found(args), plain(args), strict=True):
        np.testing.assert_array_equal(mine, expected)


def scores(x: Any) -> Any:
    return fnp.matmul(x, fnp.swapaxes(x, 1, 2)) / x.shape[1]


def softmax(x: Any) -> Any:
    exps = fnp.exp(x - fnp.max(x, axis=2, keepdims=True))
    return exps / fnp.sum(exps, axis=2, keepdims=True)


# Layers that keep to a member of the batch, and layers that reach for others.
LAYERS: list[Callable[[Any], Any]] = [
    lambda x: scores(x)[:, :, : x.shape[2]] + x,
    lambda x: fnp.matmul(softmax(scores(x)), x),
    lambda x: fnp.matmul(scores(x) - fnp.mean(scores(x), axis=1, keepdims=True), x),
    lambda x: fnp.matmul(fnp.roll(scores(x), 1, axis=0) + scores(x), x),
    lambda x: x[::-1] + x,
    lambda x: fnp.cumsum(x, axis=0) / x.shape[0],
]


@pytest.mark.parametrize("seed", range(4))
def test_random_networks_have_the_same_bits(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    layers = [LAYERS[k] for k in rng.integers(0, len(LAYERS), 3)]
    x = rng.normal(size=(32, 192, 16)).astype("f4") / 4

    def f(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return fnp.sum(x * x)

    closed = ft.make_jaxpr(ft.value_and_grad(f))(x)
    args = [*closed.consts, x]
    found = pipeline.compile_jaxpr(closed.jaxpr)
    monkeypatch.setattr(pipeline, "in_blocks", lambda program: Blocked(program, []))
    plain = pipeline.compile_jaxpr(closed.jaxpr)
    for mine, expected in zip(found(args), plain(args), strict=True):
        np.testing.assert_array_equal(mine, expected)


def handing_on(
    b: Builder, between: Buffer, after: Buffer, shift: int = 0, members: int = MEMBERS
) -> Program:
    """between = 2 x, then out = between (`shift` members further) + 1, then after = out."""
    x, out = b.input("x", "f64", members * SIZE), b.output("out", "f64", members * SIZE)

    def pass_over(name: str, source: Buffer, target: Buffer, work: Any, ahead: int = 0) -> None:
        with b.kernel(name), b.for_(members, "parallel") as member:
            start = b.mul(member.i, SIZE)
            with b.for_(SIZE - ahead * SIZE, "vector") as loop:
                place = b.add(start, loop.i)
                value = b.load(source, b.add(place, shift * SIZE) if source is between else place)
                b.store(target, place, work(value))

    pass_over("double", x, between, lambda v: b.mul(v, 2.0))
    pass_over("more", between, out, lambda v: b.add(v, 1.0))
    pass_over("copy", x, after, lambda v: v)
    return b.finish(2 * 8 * members * SIZE)


def test_what_only_a_run_sees_is_as_small_as_a_block() -> None:
    b = Builder("p")
    between = b.temp("t", "f64", MEMBERS * SIZE, 0)
    after = b.output("copy", "f64", MEMBERS * SIZE)
    made, lines = in_blocks(handing_on(b, between, after))
    check_program(made)
    assert [kernel.name for kernel in made.kernels] == ["double", "copy"]
    (line,) = lines
    assert line.startswith("double, more: together")
    (small,) = [buffer for buffer in made.buffers if buffer.name == "t"]
    assert small.size < between.size
    assert small.size * 8 <= blocked.LANES * blocked.BLOCK_BYTES
    x = np.random.default_rng(0).normal(size=MEMBERS * SIZE)
    copy, out = run(made, [x])
    np.testing.assert_array_equal(out, 2 * x + 1)
    np.testing.assert_array_equal(copy, x)


def test_a_block_that_reads_of_the_next_one_is_left_alone() -> None:
    b = Builder("p")
    between = b.temp("t", "f64", (MEMBERS + 1) * SIZE, 0)
    program = handing_on(b, between, b.output("copy", "f64", MEMBERS * SIZE), shift=1)
    made, lines = in_blocks(program)
    assert not lines
    assert made.kernels == program.kernels


def test_small_arrays_are_left_alone() -> None:
    b = Builder("p")
    between = b.temp("t", "f64", 8 * SIZE, 0)
    program = handing_on(b, between, b.output("copy", "f64", 8 * SIZE), members=8)
    assert in_blocks(program) == Blocked(program, [])


def test_memory_that_is_given_back_inside_a_run_keeps_kernels_apart() -> None:
    """What is written to `last` lies where later blocks have not read `first` yet."""
    count = MEMBERS * SIZE
    b = Builder("p")
    x, out = b.input("x", "f64", count), b.output("out", "f64", count)
    first, last = b.temp("first", "f64", count, 0), b.temp("last", "f64", count, 512)
    between = b.temp("between", "f64", count, 16 * count)
    for name, source, target in (
        ("start", x, first),
        ("in", first, between),
        ("over", between, last),
        ("end", last, out),
    ):
        flat = name in ("start", "end")
        with b.kernel(name), b.for_(1 if flat else MEMBERS, "serial" if flat else "parallel") as m:
            size = count if flat else SIZE
            with b.for_(size, "vector") as loop:
                place = b.add(b.mul(m.i, size), loop.i)
                b.store(target, place, b.add(b.load(source, place), 1.0))
    program = b.finish(24 * count)
    made, lines = in_blocks(program)
    assert not lines
    values = np.random.default_rng(0).normal(size=count)
    np.testing.assert_array_equal(run(made, [values])[0], values + 1 + 1 + 1 + 1)


def test_iterations_that_go_on_from_each_other_keep_their_order() -> None:
    """Sums that run through memory: the second kernel could go along, the first could not."""
    b = Builder("p")
    x, out = b.input("x", "f64", MEMBERS * SIZE), b.output("out", "f64", MEMBERS * SIZE)
    sums = b.temp("sums", "f64", (MEMBERS + 1) * SIZE, 0)
    with b.kernel("clear"), b.for_(SIZE, "vector") as loop:
        b.store(sums, loop.i, 0.0)
    with b.kernel("sums"), b.for_(MEMBERS, "serial") as member:
        start = b.mul(member.i, SIZE)
        with b.for_(SIZE, "vector") as loop:
            place = b.add(start, loop.i)
            total = b.add(b.load(sums, place), b.load(x, place))
            b.store(sums, b.add(place, SIZE), total)
    with b.kernel("double"), b.for_(MEMBERS, "parallel") as member:
        start = b.mul(member.i, SIZE)
        with b.for_(SIZE, "vector") as loop:
            place = b.add(start, loop.i)
            b.store(out, place, b.mul(b.load(sums, b.add(place, SIZE)), 2.0))
    program = b.finish(8 * (MEMBERS + 1) * SIZE)
    made, lines = in_blocks(program)
    assert not lines
    values = np.random.default_rng(0).normal(size=(MEMBERS, SIZE))
    found = run(made, [values.ravel()])[0]
    np.testing.assert_array_equal(found, 2 * np.cumsum(values, axis=0).ravel())


HEADS = Member(Kernel("k", Block()), [], [], None, (), (0, 1, 2), (3, 4, 10), [], 3)
"""Three of four of ten rows."""


@pytest.mark.parametrize(
    ("count", "steps"),
    [(1, (2, 1)), (5, (2, 5)), (10, (2, 10)), (20, (1, 2)), (40, (1, 4)), (80, (0, 2))],
)
def test_a_block_is_whole_steps_of_one_loop(count: int, steps: tuple[int, int]) -> None:
    assert HEADS.steps(count) == steps


@pytest.mark.parametrize("count", [3, 7, 15, 30, 50])
def test_a_block_that_would_end_inside_a_loop_is_none(count: int) -> None:
    assert HEADS.steps(count) is None


def test_iterations_that_touch_places_of_their_own() -> None:
    buffer = Buffer("t", "f64", 1200, "temp")
    even = Touch(buffer, Span((400, 100, 10), 0, 9), True)
    assert HEADS.along(even) == (10, 9)
    assert replace(HEADS, level=2).along(even) == (100, 99)
    uneven = Touch(buffer, Span((100, 300, 10), 0, 9), True)
    assert HEADS.along(uneven) is None
    assert replace(HEADS, level=1).along(uneven) == (100, 999)
    assert HEADS.along(Touch(buffer, None, False)) is None
