"""Collectives under a named axis: values and derivatives against the same sums written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
from functrans.errors import AxisNameError
from functrans.primitives import collective as c
from functrans.primitives import elementwise as e

Function = Callable[[Any], Any]
SIZE = 4


def _repeat(x: Any) -> Any:
    return np.broadcast_to(x, (SIZE, *x.shape))


# What each member computes, and the same over the stacked operand.
PROGRAMS: dict[str, tuple[Function, Function]] = {
    "psum": (lambda x: c.psum(x * x, "i"), lambda x: _repeat(np.sum(x * x, axis=0))),
    "psum of a constant": (
        lambda x: x * c.psum(np.ones(3), "i"),
        lambda x: x * float(SIZE),
    ),
    "pmax": (lambda x: c.pmax(np.sin(x), "i"), lambda x: _repeat(np.max(np.sin(x), axis=0))),
    "pmin": (lambda x: x * c.pmin(x, "i"), lambda x: x * np.min(x, axis=0)),
    "all_gather": (
        lambda x: c.all_gather(x * x, "i", 1, SIZE),
        lambda x: _repeat(np.moveaxis(x * x, 0, 1)),
    ),
    "axis_index": (
        lambda x: x * c.axis_index("i", SIZE),
        lambda x: x * np.arange(SIZE)[:, None],
    ),
    "softmax": (
        lambda x: np.exp(x - c.pmax(x, "i")) / c.psum(np.exp(x - c.pmax(x, "i")), "i"),
        lambda x: np.exp(x) / np.sum(np.exp(x), axis=0),
    ),
}


@pytest.fixture(params=PROGRAMS)
def pair(request: pytest.FixtureRequest) -> tuple[Function, Function]:
    member, whole = PROGRAMS[request.param]
    return lambda x: ft.vmap(member, axis_name="i")(x), whole


@pytest.fixture
def x() -> Any:
    return np.random.default_rng(0).normal(size=(SIZE, 3))


def test_values(pair: tuple[Function, Function], x: Any) -> None:
    mapped, whole = pair
    np.testing.assert_allclose(mapped(x), whole(x))


def test_derivatives(pair: tuple[Function, Function], x: Any) -> None:
    """Forward, reverse, and each over the other."""
    mapped, whole = pair
    transforms: list[Callable[[Function], Function]] = [
        ft.jacfwd,
        ft.jacrev,
        lambda f: ft.jacfwd(ft.jacrev(f)),
        lambda f: ft.jacrev(ft.jacfwd(f)),
    ]
    for transform in transforms:
        np.testing.assert_allclose(transform(mapped)(x), transform(whole)(x), atol=1e-12)


def test_derivatives_of_a_member(x: Any) -> None:
    """The gradient of what a member computes counts its part in what the others compute."""
    inside = ft.vmap(ft.grad(lambda v: np.sum(c.psum(v * v, "i"))), axis_name="i")(x)
    np.testing.assert_allclose(inside, 2 * SIZE * x)
    weights = np.arange(3.0 * SIZE).reshape(SIZE, 3)
    inside = ft.vmap(
        ft.grad(lambda v: np.sum(c.all_gather(v, "i", 0, SIZE) * weights)), axis_name="i"
    )(x)
    np.testing.assert_allclose(inside, SIZE * weights)


def test_other_axes_are_passed_through(x: Any) -> None:
    """Two axes, each collective along its own."""

    def along_rows(v: Any) -> Any:
        return c.psum(v, "rows")

    def along_columns(v: Any) -> Any:
        return c.all_gather(v, "columns", 0, 3)

    nested = ft.vmap(ft.vmap(along_rows, axis_name="columns"), axis_name="rows")(x)
    np.testing.assert_allclose(nested, np.broadcast_to(x.sum(0), x.shape))
    nested = ft.vmap(ft.vmap(along_columns, axis_name="columns"), axis_name="rows")(x)
    np.testing.assert_allclose(nested, np.broadcast_to(x[:, None, :], (SIZE, 3, 3)))


def test_ties_of_pmax_share() -> None:
    def total(x: Any) -> Any:
        return np.sum(ft.vmap(lambda v: c.pmax(v, "i"), axis_name="i")(x))

    np.testing.assert_allclose(ft.grad(total)(np.array([1.0, 3.0, 3.0])), [0, 1.5, 1.5])


def test_without_the_axis() -> None:
    """The error names the collective, the axis and the remedy."""
    with pytest.raises(AxisNameError, match=r"psum: no axis is named 'i' here.* under vmap"):
        c.psum(np.ones(3), "i")
    with pytest.raises(AxisNameError):
        e.neg(c.axis_index("i", 4))
