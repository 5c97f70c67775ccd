"""Compiling is linear in the length of a program: twice the equations, twice the calls of Python.

Calls are counted, not seconds, of everything from the first tracer to the text that LLVM gets.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

from functrans import jit, value_and_grad
from functrans import numpy as fnp
from jit import codegen, native
from jit.runtime import symbols

Function = Callable[..., Any]
SLACK = 1.08
"""What a doubled program may take above twice as many calls."""


def chain(steps: int) -> tuple[Function, tuple[Any, ...]]:
    """Elementwise operations one after another: one long kernel."""

    def f(x: Any) -> Any:
        for k in range(steps):
            x = fnp.sin(x) * 1.01 + 0.1 * (x - 0.001 * k)
        return fnp.sum(x)

    return f, (np.ones(1000),)


def solver(steps: int) -> tuple[Function, tuple[Any, ...]]:
    """Steps over scalars, which are light: kernels of bounded length."""

    def f(x: Any, y: Any) -> Any:
        for _ in range(4 * steps):
            x, y = x + 0.1 * y, y - 0.1 * x * x
        return x + y

    return f, (1.0, 0.0)


def recurrent(steps: int) -> tuple[Function, tuple[Any, ...]]:
    """Layers with products: many kernels of a few kinds."""

    def f(w: Any, h: Any, xs: Any) -> Any:
        for k in range(steps):
            h = fnp.tanh(h @ w + xs[k])
        return fnp.sum(h * h)

    return f, (np.ones((20, 20)), np.ones((20, 20)), np.ones((steps, 20, 20)))


def path(steps: int) -> tuple[Function, tuple[Any, ...]]:
    """Every step is a result: more of them than one kernel makes."""

    def f(x: Any) -> Any:
        speed, places = 0.1 * x, []
        for _ in range(4 * steps):
            speed = speed - 0.05 * fnp.sin(x)
            x = x + 0.05 * speed
            places.append(x)
        return fnp.sum(fnp.stack(places) ** 2)

    return f, (np.ones(1000),)


def calls(f: Function, args: tuple[Any, ...]) -> int:
    """How many functions are called to trace, differentiate and compile value_and_grad(f)."""
    count = 0

    def note(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    compiled = jit(value_and_grad(f))
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        compiled.lower(*args).compile()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("program", [chain, solver, recurrent, path])
def test_twice_the_steps_take_twice_the_calls(
    program: Callable[[int], tuple[Function, tuple[Any, ...]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # LLVM, and what programs call, are not what is counted here.
    code = codegen.module_code
    monkeypatch.setattr("jit.pipeline.module_code", lambda *args: counted_out(code, *args))
    symbols.addresses(["ft_gemm_f64", "ft_gemm_f32"])
    calls(*program(5))
    short, long = calls(*program(20)), calls(*program(40))
    assert long <= 2 * SLACK * short


def counted_out(code: Callable[..., native.Loadable], *args: Any) -> native.Loadable:
    """The same without counting."""
    noted = sys.getprofile()
    sys.setprofile(None)
    try:
        return code(*args)
    finally:
        sys.setprofile(noted)
