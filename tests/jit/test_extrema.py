"""Extrema of what is computed on the way: the elements that attain them are found again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import functrans as ft

FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "product and sum": lambda x, y: x * y + 0.5,
    "products of both": lambda x, y: x * x - y * y,
    "of a scaled": lambda x, y: (x * 1.1 + y) * 0.3 + x,
    "of sines": lambda x, y: np.sin(x * y + x) * 3.0 + y,
    "of a quotient": lambda x, y: x / (y * y + 1.0) * x - y,
}


@pytest.fixture
def compiled() -> Iterator[None]:
    """Un-jitted transforms run compiled programs from the first call."""
    before = ft.config.unjitted
    ft.config.unjitted = "compiled"
    yield
    ft.config.unjitted = before


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("extremum", [np.max, np.min, lambda v: np.sum(np.maximum.accumulate(v))])
def test_the_gradient_of_an_extremum_reaches_its_element(
    form: str, extremum: Callable[[Any], Any], rng: np.random.Generator
) -> None:
    """Where a product is wanted elsewhere too, it may be rounded here and not there."""
    f = FORMS[form]

    def g(x: Any, y: Any, c: Any) -> Any:
        return np.sum(x * x) + np.sum(x * y) + extremum(f(x, y) + c) + extremum(x * x + c)

    for _ in range(40):
        x, y = rng.normal(size=(2, 3))
        value, pull = ft.vjp(g, x, y, 0.5)
        found = [*pull(1.0), *ft.jit(ft.grad(g, (0, 1, 2)))(x, y, 0.5)]
        ft.config.unjitted = "interpreted"
        expected = ft.grad(g, (0, 1, 2))(x, y, 0.5)
        ft.config.unjitted = "compiled"
        assert value == pytest.approx(g(x, y, 0.5))
        for a, b in zip(found, [*expected, *expected], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
