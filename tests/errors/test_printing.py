"""What a traced value looks like when it is printed: its value where it has one, else its type."""

from __future__ import annotations

import numpy as np

import functrans as ft


def printed(f, *args):
    """How f's first argument prints while `transform` traces: str, repr and two formats."""
    found = []

    def look(x):
        found.extend([str(x), repr(x), f"{x}", f"{x:.3}" if x.shape == () else f"{x * 2}"])
        return x.sum()

    f(look)(*args)
    return found


def test_a_number_under_grad_prints_its_value() -> None:
    assert printed(ft.grad, 2.0) == ["2.0", "Tracer<f64~[]>", "2.0", "2.0"]


def test_an_array_under_grad_prints_its_values() -> None:
    expected = ["[1. 2.]", "Tracer<f64[2]>", "[1. 2.]", "[2. 4.]"]
    assert printed(ft.grad, np.array([1.0, 2.0])) == expected


def test_a_value_under_jit_prints_its_type() -> None:
    assert printed(ft.jit, np.ones(2)) == ["Tracer<f64[2]>"] * 4
    assert printed(ft.vmap, np.ones(2)) == ["Tracer<f64[]>"] * 4


def test_a_value_under_grad_of_jit_prints_its_type() -> None:
    assert printed(lambda f: ft.grad(ft.jit(f)), np.ones(2)) == ["Tracer<f64[2]>"] * 4


def test_values_of_enclosing_transforms_print_inside() -> None:
    found = []

    def loss(x):
        y = x * 3
        return ft.grad(lambda z: (found.append(f"{y} {z}"), y * z * z)[1])(x)

    assert ft.grad(loss)(2.0) == 24.0
    assert found == ["6.0 2.0"]
