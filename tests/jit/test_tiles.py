"""Rows taken in tiles: values, equal bits on any number of threads, what meets in one nest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from jit import pipeline
from jit.runtime import threads
from tests.jit.loop_programs import targets

Program = Callable[..., Any]
RNG = np.random.default_rng(17)
TARGETS = targets()
SHAPES = [(1, 16), (9, 33), (64, 24), (203, 257)]


@pytest.fixture(params=list(TARGETS))
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The vector width that programs are compiled for."""
    name = request.param
    monkeypatch.setattr(pipeline.native, "host_target", lambda: TARGETS[name])
    return name


@pytest.fixture
def one_then_two() -> Iterator[list[int]]:
    before = threads.num_threads()
    yield [1, 2]
    threads.set_num_threads(before)


def layer_norm(x: Any, gain: Any, bias: Any) -> Any:
    centred = x - fnp.mean(x, axis=-1, keepdims=True)
    variance = fnp.mean(centred * centred, axis=-1, keepdims=True)
    y = centred / fnp.sqrt(variance + 1e-5) * gain + bias
    return fnp.sum(y * fnp.cos(x))


def logistic(w: Any, x: Any, y: Any) -> Any:
    z = x @ w
    return fnp.mean(fnp.logaddexp(0.0, z) - y * z)


def softmax_bias(x: Any, bias: Any) -> Any:
    z = x + bias
    e = fnp.exp(z - fnp.max(z, axis=1, keepdims=True))
    p = e / fnp.sum(e, axis=1, keepdims=True)
    return fnp.sum(p * p)


def arrays(dtype: str, *shapes: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(RNG.standard_normal(shape).astype(dtype) for shape in shapes)


def compiled(f: Program, *args: Any) -> tuple[pipeline.Executable, Callable[[], list[Any]]]:
    made = ft.make_jaxpr(f)(*args)
    executable = pipeline.compile_jaxpr(made.jaxpr)
    return executable, lambda: executable([np.asarray(a) for a in (*made.consts, *args)])


def check(f: Program, *args: Any, rtol: float) -> list[str]:
    """Native values are the evaluator's; on two threads the bits are those of one."""
    executable, call = compiled(f, *args)
    found = []
    for count in (1, 2):
        threads.set_num_threads(count)
        found.append(call())
    expected = ft.tree.leaves(f(*args))
    for one, two, value in zip(*found, expected, strict=True):
        np.testing.assert_array_equal(one, two)
        scale = float(np.max(np.abs(value), initial=0.0))
        np.testing.assert_allclose(one, value, rtol=rtol, atol=rtol * scale)
    return executable.report.kernels


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("target", "one_then_two")
def test_layer_normalisation_and_its_gradients_are_one_nest(shape: tuple[int, int]) -> None:
    args = arrays("f8", shape, shape[1:], shape[1:])
    kernels = check(ft.value_and_grad(layer_norm, (0, 1, 2)), *args, rtol=1e-11)
    assert len(kernels) == 1


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((129, 16), "f8"), ((1001, 50), "f4"), ((64, 200), "f8"), ((6400, 9), "f4")],
)
@pytest.mark.usefixtures("target", "one_then_two")
def test_a_linear_model_reads_its_matrix_once(shape: tuple[int, int], dtype: str) -> None:
    w, x, y = arrays(dtype, shape[1:], shape, shape[:1])
    rtol = 1e-11 if dtype == "f8" else 1e-4
    kernels = check(ft.value_and_grad(logistic), w, x, y, rtol=rtol)
    if shape[1] * x.itemsize >= 64:
        assert "row_fold" in kernels[0]
        assert "column_fold" in kernels[0]
        assert not any("dot_general" in line for line in kernels)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.usefixtures("one_then_two")
def test_softmax_with_a_bias(dtype: str) -> None:
    args = arrays(dtype, (77, 65), (65,))
    rtol = {"f2": 2e-2, "f4": 1e-4, "f8": 1e-11}[dtype]
    check(ft.value_and_grad(softmax_bias, (0, 1)), *args, rtol=rtol)


@pytest.mark.parametrize("shape", [(3, 5, 40), (17, 9, 33), (40, 30, 64)])
@pytest.mark.usefixtures("one_then_two")
def test_rows_of_more_axes(shape: tuple[int, ...]) -> None:
    args = arrays("f8", shape, shape[-1:], shape[-1:])
    check(ft.value_and_grad(layer_norm, (0, 1, 2)), *args, rtol=1e-11)


@pytest.mark.usefixtures("one_then_two")
def test_other_folds_down_columns() -> None:
    """Extrema, products and truth of columns beside folds of rows."""

    def f(x: Any) -> Any:
        d = x - fnp.mean(x, axis=1, keepdims=True)
        flags = fnp.any(d > 1.5, axis=0), fnp.all(d < 3.0, axis=0)
        return fnp.max(d, axis=0), fnp.min(d, axis=0), fnp.prod(1.0 + 0.01 * d, axis=0), *flags

    (x,) = arrays("f8", (3001, 40))
    check(f, x, rtol=1e-10)


@pytest.mark.usefixtures("one_then_two")
def test_complex_sums_down_columns() -> None:
    def f(x: Any) -> Any:
        d = x - fnp.sum(x, axis=1, keepdims=True)
        return fnp.sum(d, axis=0), fnp.sum(d * d, axis=1)

    re, im = arrays("f8", (2001, 20), (2001, 20))
    check(f, re + 1j * im, rtol=1e-11)


@pytest.mark.usefixtures("one_then_two")
def test_columns_of_a_transposed_matrix_are_folds_of_its_rows() -> None:
    def f(x: Any) -> Any:
        y = x.T - fnp.sum(x, axis=0)[:, None]
        return fnp.sum(y, axis=0), fnp.sum(y * y, axis=1)

    (x,) = arrays("f8", (50, 300))
    check(f, x, rtol=1e-11)


def test_a_donated_matrix_is_read_before_it_is_overwritten() -> None:
    def step(x: Any) -> Any:
        d = x - fnp.mean(x, axis=1, keepdims=True)
        return d * 2.0, fnp.sum(d * x, axis=0)

    (x,) = arrays("f8", (515, 96))
    expected = step(x)
    found = ft.jit(step, donate_argnums=0)(x.copy())
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def softmax_down(x: Any) -> Any:
    e = fnp.exp(x - fnp.max(x, axis=-2, keepdims=True))
    return e / fnp.sum(e, axis=-2, keepdims=True)


def batch_norm(x: Any, gain: Any, bias: Any) -> Any:
    centred = x - fnp.mean(x, axis=0)
    y = centred / fnp.sqrt(fnp.mean(centred**2, axis=0) + 1e-5) * gain + bias
    return fnp.sum(fnp.tanh(y))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((200, 300), "f4"), ((131, 517), "f8"), ((1023, 64), "f4"), ((3, 70, 200), "f8")],
)
@pytest.mark.usefixtures("target", "one_then_two")
def test_several_passes_down_columns(shape: tuple[int, ...], dtype: str) -> None:
    """Strips of columns, of which the last may be narrower."""
    (x,) = arrays(dtype, shape)
    kernels = check(softmax_down, x, rtol=1e-11 if dtype == "f8" else 1e-5)
    assert len(kernels) == 1


@pytest.mark.parametrize("shape", [(131, 517), (1023, 64)])
@pytest.mark.usefixtures("target", "one_then_two")
def test_batch_normalisation_and_its_gradients(shape: tuple[int, int]) -> None:
    args = arrays("f8", shape, shape[1:], shape[1:])
    check(ft.value_and_grad(batch_norm, (0, 1, 2)), *args, rtol=1e-11)


@pytest.mark.parametrize("shape", [(64, 300), (131, 517)])
@pytest.mark.usefixtures("target", "one_then_two")
def test_strips_read_what_there_is_one_of_per_row(shape: tuple[int, int]) -> None:
    def f(x: Any, per_row: Any) -> Any:
        y = x * per_row[:, None]
        return fnp.max(x, axis=0), fnp.sum(y), y - fnp.mean(y, axis=0)

    check(f, *arrays("f8", shape, shape[:1]), rtol=1e-11)


@pytest.mark.usefixtures("one_then_two")
def test_complex_products_run_in_order() -> None:
    def f(x: Any) -> Any:
        d = x / fnp.sum(x, axis=0)
        return (
            fnp.prod(1 + 0.01 * d, axis=0),
            fnp.prod(1 + 0.001 * x, axis=1),
            fnp.prod(1 + x / 1e4),
        )

    re, im = arrays("f8", (100, 300), (100, 300))
    check(f, re + 1j * im, rtol=1e-9)


def test_what_a_column_keeps_lies_where_the_result_will() -> None:
    """exp of the whole matrix is wanted by two passes: no memory but the result's is taken."""
    lowered = ft.jit(softmax_down).lower(ft.ShapeDtypeStruct((1024, 512), np.float32))
    assert lowered.compile_report().arena_bytes == 0


def normalisation_backward(ct: Any, x: Any, gain: Any, mean: Any, scale: Any) -> Any:
    """The pullback of a layer normalisation whose statistics are known; columns come first."""
    y = (x - mean[:, None]) * scale[:, None]
    by_gain, by_bias = fnp.sum(ct * y, axis=0), fnp.sum(ct, axis=0)
    g = ct * gain
    inner, total = fnp.mean(g * y, axis=1), fnp.mean(g, axis=1)
    by_x = (g - total[:, None] - y * inner[:, None]) * scale[:, None]
    return by_x, by_gain, by_bias


@pytest.mark.parametrize("shape", [(7, 16), (130, 70), (515, 768)])
@pytest.mark.usefixtures("one_then_two")
def test_sums_of_columns_that_come_first_turn_to_rows(shape: tuple[int, int]) -> None:
    args = arrays("f8", shape, shape, shape[1:], shape[:1], shape[:1])
    kernels = check(normalisation_backward, *args, rtol=1e-11)
    assert len(kernels) == 1
    assert kernels[0].count("column_fold") == 2
