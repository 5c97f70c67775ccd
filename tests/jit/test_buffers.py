"""Where stored variables lie: the arena is shared in time, never by two that live at once."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import lax
from functrans.extend import simplify
from jit.passes.buffers import Arena, element_bytes, lifetimes, plan_storage
from jit.passes.prepare import inline_calls, to_graph
from jit.passes.sharing import shared_plan
from tests.jit.programs import random_program


def test_freed_ranges_are_joined_and_used_again() -> None:
    arena = Arena()
    first, second, third = (arena.take(100) for _ in range(3))
    assert (first, second, third) == (0, 128, 256)
    arena.give(first, 100)
    arena.give(second, 100)
    assert arena.take(200) == 0
    assert arena.size == 384


@pytest.mark.parametrize("seed", range(20))
def test_what_lives_at_once_does_not_overlap(seed: int) -> None:
    jaxpr, _ = random_program(seed, 40)
    plan = shared_plan(to_graph(simplify(inline_calls(jaxpr))))
    storage = plan_storage(plan, set(), {})
    _, firsts, lasts = lifetimes(plan)
    for a, b in itertools.combinations(storage.offsets, 2):
        if storage.heirs.get(a) is b or storage.heirs.get(b) is a:
            assert firsts[b] == lasts[a] or firsts[a] == lasts[b]
            continue
        if firsts[a] <= lasts[b] and firsts[b] <= lasts[a]:
            low, high = sorted((a, b), key=storage.offsets.__getitem__)
            end = storage.offsets[low] + low.aval.size * element_bytes(low)
            assert end <= storage.offsets[high]


@pytest.mark.parametrize("seed", range(20))
def test_what_lies_where_a_result_will_is_read_no_later_than_that_is_written(seed: int) -> None:
    jaxpr, _ = random_program(seed, 40)
    plan = shared_plan(to_graph(simplify(inline_calls(jaxpr))))
    storage = plan_storage(plan, set(), {}, set(plan.graph.outvars))
    _, firsts, lasts = lifetimes(plan)
    assert len(set(storage.lent.values())) == len(storage.lent)
    for var, out in storage.lent.items():
        assert lasts[var] == firsts[out]
        assert (var.aval.size, var.aval.dtype) == (out.aval.size, out.aval.dtype)


def test_a_chain_of_products_needs_two_temporaries() -> None:
    """Each product dies when the next one is made."""

    def f(x: Any) -> Any:
        for _ in range(10):
            x = x @ x
        return fnp.sum(x)

    x = ft.ShapeDtypeStruct((64, 64), np.float64)
    assert ft.jit(f).lower(x).compile_report().arena_bytes == 2 * 64 * 64 * 8


def test_a_product_and_what_is_made_of_it_need_no_memory() -> None:
    x = ft.ShapeDtypeStruct((64, 64), np.float64)
    made = lambda f: ft.jit(f).lower(x).compile_report().arena_bytes
    assert made(lambda x: fnp.exp(x @ x) * 2) == 0
    assert made(lambda x: fnp.exp(x @ x)[::-1] + x @ x) == 64 * 64 * 8


def test_a_kernel_that_folds_without_a_loop() -> None:
    """The gradient of a convolution of one element has a sum over a domain without axes."""

    def f(x: Any) -> Any:
        a = fnp.einsum("bi,bi->b", x, x)[None, None]
        return fnp.sum(fnp.sin(lax.conv_general_dilated(a, fnp.cos(a), (1,), ((1, 1),))))

    x = np.array([[0.1, 0.2, 0.3]])
    a = np.sum(x * x)
    value, gradient = ft.jit(ft.value_and_grad(f))(x)
    np.testing.assert_allclose(value, np.sin(a * np.cos(a)), rtol=1e-12)
    by_a = np.cos(a * np.cos(a)) * (np.cos(a) - a * np.sin(a))
    np.testing.assert_allclose(gradient, by_a * 2 * x, rtol=1e-12)


def test_a_fused_chain_needs_no_memory() -> None:
    x = ft.ShapeDtypeStruct((1 << 20,), np.float32)
    lowered = ft.jit(lambda x: fnp.exp(fnp.sin(x) * 2) * x).lower(x)
    assert lowered.compile_report().arena_bytes == 0


def test_what_dies_is_written_over_by_what_takes_its_place() -> None:
    """One array holds the product and, element by element, what is made of it."""

    def f(x: Any) -> Any:
        return fnp.sin(fnp.tanh(x @ x) * 2 + 1) @ x

    x = ft.ShapeDtypeStruct((64, 64), np.float64)
    assert ft.jit(f).lower(x).compile_report().arena_bytes == 64 * 64 * 8
    value = np.random.default_rng(0).standard_normal((64, 64)) / 8
    expected = np.sin(np.tanh(value @ value) * 2 + 1) @ value
    np.testing.assert_allclose(ft.jit(f)(value), expected)


def test_what_is_read_elsewhere_or_later_is_kept() -> None:
    x = np.random.default_rng(0).standard_normal((64, 64)) / 8

    def crossed(x: Any) -> Any:
        y = x @ x
        return (y + y.T) @ x

    def again(x: Any) -> Any:
        y = x @ x
        return fnp.tanh(y) @ y

    for f in (crossed, again):
        y = x @ x
        expected = (y + y.T) @ x if f is crossed else np.tanh(y) @ y
        np.testing.assert_allclose(ft.jit(f)(x), expected)
        assert ft.jit(f).lower(x).compile_report().arena_bytes == 2 * 64 * 64 * 8
