"""Programs as researchers write them, each checked against NumPy, a closed form or differences."""

from __future__ import annotations

import copy
import importlib
import pickle
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans.errors import ConcretizationError, MutationError, UnsupportedError
from functrans.flatten_util import ravel_pytree
from tests.models import MODELS

# -- arrays that are not mapped -----------------------------------------------------------------


def test_a_shared_table_is_indexed_by_mapped_positions() -> None:
    table = np.arange(12.0).reshape(4, 3)
    positions = np.array([3, 0, -1])

    def entry(t: Any, i: Any) -> Any:
        return t[i]

    look_up = ft.vmap(entry, in_axes=(None, 0))
    np.testing.assert_array_equal(look_up(table, positions), table[positions])
    np.testing.assert_array_equal(ft.jit(look_up)(table, positions), table[positions])
    with pytest.raises(IndexError):
        look_up(table, np.array([0, 4]))


def eliminate(matrix: Any, right: Any) -> Any:
    """Gaussian elimination, in place on copies."""
    matrix, right = matrix.copy(), right.copy()
    n = len(right)
    for k in range(n):
        for i in range(k + 1, n):
            factor = matrix[i, k] / matrix[k, k]
            matrix[i, k:] -= factor * matrix[k, k:]
            right[i] -= factor * right[k]
    x = np.zeros_like(right)
    for i in range(n)[::-1]:
        x[i] = (right[i] - matrix[i, i + 1 :] @ x[i + 1 :]) / matrix[i, i]
    return x


def test_copies_of_shared_arrays_can_be_written_to(rng: np.random.Generator) -> None:
    matrices, right = rng.normal(size=(3, 4, 4)) + 4 * np.eye(4), rng.normal(size=4)
    solved = ft.vmap(eliminate, in_axes=(0, None))(matrices, right)
    np.testing.assert_allclose(solved, np.linalg.solve(matrices, right[:, None])[..., 0])


def test_shared_arrays_can_be_asked_but_not_written_to() -> None:
    def f(x: Any, scale: Any) -> Any:
        return x * 2 if scale[0] > 0 and np.asarray(scale).sum() > 0 else x

    xs, scale = np.arange(3.0), np.ones(2)
    np.testing.assert_array_equal(ft.vmap(f, in_axes=(0, None))(xs, scale), 2 * xs)

    def write(x: Any, scale: Any) -> Any:
        scale[0] = 5.0
        return x

    with pytest.raises(MutationError):
        ft.vmap(write, in_axes=(0, None))(xs, scale)
    np.testing.assert_array_equal(scale, 1)


def test_numpy_itself_serves_where_values_are_known_and_carry_no_derivative() -> None:
    foreign = np.frompyfunc(lambda v: v + 1.0, 1, 1)

    def f(x: Any, counts: Any) -> Any:
        return x * foreign(counts).astype(float).sum()

    counts = np.array([1.0, 2.0, 2.0])
    np.testing.assert_array_equal(ft.vmap(f, in_axes=(0, None))(np.arange(2.0), counts), [0.0, 8.0])
    with pytest.raises(UnsupportedError, match="the ufunc"):
        ft.grad(foreign)(1.0)
    with pytest.raises(UnsupportedError, match="the ufunc"):
        ft.jit(foreign)(1.0)


# -- custom rules -------------------------------------------------------------------------------


def test_bwd_returns_none_for_arguments_of_any_structure() -> None:
    @ft.custom_vjp
    def clipped(bounds: Any, x: Any, unused: Any) -> Any:
        return x

    def bwd(bounds: Any, cotangent: Any) -> Any:
        return None, np.clip(cotangent, bounds["low"], bounds["high"]), None

    clipped.defvjp(lambda bounds, x, unused: (x, bounds), bwd)

    def f(bounds: Any, x: Any, unused: Any) -> Any:
        return np.sum(clipped(bounds, x, unused) ** 3)

    bounds, x = {"low": -0.5, "high": 0.5}, np.array([-1.0, 0.1, 2.0])
    gradient = ft.grad(f, argnums=(0, 1, 2))
    for g in (gradient, ft.jit(gradient)):
        zeros, clip, zero = g(bounds, x, 1.0)
        assert zeros == {"low": 0.0, "high": 0.0}
        assert zero == 0.0
        np.testing.assert_allclose(clip, [0.5, 0.03, 0.5])


# -- compiled functions as objects ------------------------------------------------------------


@ft.jit
def doubled(x: Any) -> Any:
    return 2 * x


def test_compiled_functions_are_copied_and_pickled_as_functions_are() -> None:
    doubled(1.0)
    assert copy.deepcopy({"step": doubled})["step"] is doubled
    assert copy.copy(doubled) is doubled
    assert pickle.loads(pickle.dumps(doubled)) is doubled


# -- writing through views ----------------------------------------------------------------------


def test_the_view_method_gives_an_array_that_shares_its_memory() -> None:
    def f(x: Any) -> Any:
        y = x.copy()
        z = y.view()
        z[0] = 5.0
        z += 1
        return y, z.view(np.float64)

    x = np.arange(3.0)
    for got in (ft.jit(f)(x), ft.vjp(f, x)[0]):
        np.testing.assert_array_equal(got, f(x))
    with pytest.raises(UnsupportedError, match=r"np\.stack"):
        ft.jit(lambda z: z.view(float))(np.ones(2, complex))


# -- joining by index ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "f"),
    [
        ("columns", lambda np, x, a: np.c_[x, x * 2]),
        ("a matrix and a column", lambda np, x, a: np.c_[a, x]),
        ("a matrix and ones", lambda np, x, a: np.c_[a, [1.0, 2.0, 3.0]]),
        ("rows", lambda np, x, a: np.r_[a, a[:1]]),
        ("numbers, ranges and arrays", lambda np, x, a: np.r_[0.5, x, 2:5, -1:1:3j, [7, 8]]),
        ("one array", lambda np, x, a: np.r_[x]),
        ("whole numbers", lambda np, x, a: np.r_[1, x.astype("int8"), 2]),
    ],
)
def test_arrays_are_joined_by_index(name: str, f: Any, rng: np.random.Generator) -> None:
    x, a = rng.normal(size=3), rng.normal(size=(3, 2))
    wanted = f(np, x, a)
    for got in (f(fnp, x, a), ft.jit(lambda x, a: f(fnp, x, a))(x, a)):
        np.testing.assert_array_equal(got, wanted)
        assert got.dtype == wanted.dtype
    jacobian = ft.jacrev(lambda x: f(fnp, x, a).astype(float))(x)
    np.testing.assert_array_equal(jacobian, ft.jacfwd(lambda x: f(fnp, x, a).astype(float))(x))


# -- values are those of NumPy, to the edge of the dtype ----------------------------------------


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: x * 400 * 400, np.float16(1e-3)),
        (lambda x: x * np.float16(0.002) * np.float16(0.002) * 1000 * 1000, np.float16(1e-3)),
        (lambda x: (x * np.float32(0.01)) * (x * np.float32(0.1)), np.float32(1e20)),
        (lambda x: (x * 2.0) * x, 1e-162),
        (lambda x: x + (-0.5) * x, np.inf),
        (lambda x: x + x, 1e308),
    ],
)
def test_constant_factors_stay_where_they_were_written(f: Any, x: Any) -> None:
    with np.errstate(all="ignore"):
        wanted = f(x)
    for got in (ft.jit(f)(x), ft.vjp(f, x)[0], ft.jvp(f, (x,), (x,))[0], ft.checkpoint(f)(x)):
        np.testing.assert_array_equal(got, wanted)


def test_derivatives_in_half_precision_do_not_overflow_early() -> None:
    def f(x: Any) -> Any:
        return x * np.float16(400) * np.float16(400)

    _, pullback = ft.vjp(f, np.float16(1.0))
    np.testing.assert_allclose(pullback(np.float16(1e-3))[0], 160, rtol=1e-2)


# -- functional updates -------------------------------------------------------------------------


def test_elements_out_of_bounds_are_read_as_the_fill_value() -> None:
    def f(x: Any, i: Any) -> Any:
        return fnp.at(x)[i].get(mode="fill", fill_value=-3)

    x, i = np.arange(4.0), np.array([7, 1, -4, -5])
    for g in (f, ft.jit(f)):
        np.testing.assert_array_equal(g(x, i), [-3.0, 1.0, 0.0, -3.0])
        np.testing.assert_array_equal(g(x.astype(int), i), [-3, 1, 0, -3])
    np.testing.assert_array_equal(ft.grad(lambda x: f(x, i).sum())(x), [1.0, 1.0, 0.0, 0.0])


# -- messages -----------------------------------------------------------------------------------


def test_a_plain_array_indexed_by_a_traced_position_is_told_what_to_do() -> None:
    table = np.arange(4.0)

    def look_up(i: Any) -> Any:
        return table[i]

    def look_up_traced(i: Any) -> Any:
        return fnp.array(table)[i]

    with pytest.raises(ConcretizationError, match=r"fnp.array\(a\)\[i\]"):
        ft.jit(look_up)(2)
    assert ft.jit(look_up_traced)(2) == 2.0


def test_adding_a_traced_value_to_a_plain_array_is_told_what_to_do() -> None:
    def f(x: Any) -> Any:
        total = np.zeros(2)
        total += x
        return total.sum()

    with pytest.raises(UnsupportedError, match=r"fnp.zeros\(n\).*y = y \+ x in place of y \+= x"):
        ft.grad(f)(np.ones(2))


def test_a_callable_object_is_called_by_its_class() -> None:
    class Network:
        def __call__(self, x: Any) -> Any:
            return x

    with pytest.raises(TypeError, match="an object of type Network"):
        ft.jit(Network.__call__)(Network(), 1.0)


# -- trees as vectors ---------------------------------------------------------------------------


def test_real_leaves_beside_complex_ones_come_back_without_a_warning() -> None:
    vector, unravel = ravel_pytree({"z": np.array([1.0 + 2.0j]), "x": np.array([3.0])})
    tree = unravel(2 * vector)
    np.testing.assert_array_equal(tree["x"], [6.0])
    np.testing.assert_array_equal(tree["z"], [2.0 + 4.0j])


# -- plain arrays that change while a function is traced -----------------------------------------


def with_a_buffer(x: Any) -> Any:
    """Uses one plain array with three contents."""
    buffer, total = np.zeros(3), 0.0
    for i in range(3):
        buffer[i] = i + 1.0
        total = total + np.sum(x * buffer)
    return total


def test_a_captured_array_counts_as_it_is_when_it_meets_a_tracer() -> None:
    x = np.array([1.0, 10.0, 100.0])
    assert ft.jit(with_a_buffer)(x) == with_a_buffer(x) == 343.0
    gradient = [3.0, 4.0, 3.0]
    for g in (
        ft.grad(with_a_buffer),
        ft.jit(ft.grad(with_a_buffer)),
        ft.grad(ft.jit(with_a_buffer)),
    ):
        np.testing.assert_array_equal(g(x), gradient)


@pytest.mark.parametrize("size", [3, 200_000], ids=["copied", "held"])
def test_a_jitted_function_sees_what_is_written_to_a_captured_array_later(size: int) -> None:
    scale = np.ones(size)

    def f(x: Any) -> Any:
        return (x * scale).sum()

    functions = [
        ft.jit(f),
        ft.grad(ft.jit(f)),
        ft.jit(ft.grad(f)),
        ft.jit(ft.jit(f)),
        ft.jit(ft.grad(ft.jit(f))),
        ft.jit(lambda x: ft.vmap(f)(np.full(2, 1.0) * x)[1]),
        ft.jit(ft.checkpoint(f)),
        ft.jit(lambda x: ft.hessian(lambda y: f(y * y) / 2)(x)),
    ]
    assert [g(1.0) for g in functions] == [size] * len(functions)
    scale[:] = 2.0
    assert [g(1.0) for g in functions] == [2 * size] * len(functions)


def test_a_large_array_cannot_be_written_to_while_it_is_needed() -> None:
    large = np.ones(200_000)

    def f(x: Any) -> Any:
        total = (x * large).sum()
        large[0] = 2.0
        return total

    with pytest.raises(ValueError, match="read-only"):
        ft.jit(f)(1.0)
    large[0] = 3.0
    assert ft.jit(lambda x: (x * large).sum())(1.0) == 200_002.0
    large[0] = 4.0


# -- nothing -------------------------------------------------------------------------------------


def test_an_array_without_elements_is_printed_under_jit(capsys: pytest.CaptureFixture[str]) -> None:
    def f(x: Any) -> Any:
        ft.debug.print("{} {}", x.T * 2, x.sum())
        return x.sum()

    assert ft.jit(f)(np.zeros((2, 0))) == 0.0
    assert capsys.readouterr().out == "[] 0.0\n"


# -- memory -------------------------------------------------------------------------------------

interning = importlib.import_module("functrans.ir.intern")  # `ir.intern` is the function


def test_long_programs_that_differ_each_time_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interning, "EQUATIONS", 500)
    interning.clear()

    def unrolled(x: Any, step: float) -> Any:
        for _ in range(100):
            x = x + step * np.sin(x)
        return x

    for i in range(10):
        step = 1e-3 + 1e-6 * i
        expected, slope = 1.0, 1.0
        for _ in range(100):
            expected, slope = (
                expected + step * np.sin(expected),
                slope * (1 + step * np.cos(expected)),
            )
        np.testing.assert_allclose(ft.grad(lambda x, h=step: unrolled(x, h))(1.0), slope)
    known = interning._known.values()
    assert sum(len(jaxpr.eqns) for jaxpr in known) <= 500


# -- whole models -------------------------------------------------------------------------------


@pytest.fixture(params=MODELS)
def flat_model(request: pytest.FixtureRequest) -> tuple[Any, np.ndarray]:
    """A model as a function of (namespace, one vector of parameters), and that vector."""
    loss, params, data = MODELS[request.param]
    flat, unravel = ravel_pytree(params)
    return lambda xp, v: loss(xp, unravel(v), *data), flat


@pytest.mark.parametrize("namespace", [np, fnp], ids=["numpy", "functrans.numpy"])
def test_a_model_and_its_gradient(
    flat_model: tuple[Any, np.ndarray], namespace: Any, rng: np.random.Generator
) -> None:
    """Values are NumPy's; gradients agree with differences, compiled and not."""
    loss, flat = flat_model
    direction, step = rng.normal(size=flat.shape), 1e-5
    around = [loss(np, flat + sign * step * direction) for sign in (1, -1)]

    def f(v: Any) -> Any:
        return loss(namespace, v)

    np.testing.assert_allclose(f(flat), loss(np, flat), rtol=1e-12)
    value, gradient = ft.value_and_grad(f)(flat)
    np.testing.assert_allclose(value, loss(np, flat), rtol=1e-12)
    slope = (around[0] - around[1]) / (2 * step)
    np.testing.assert_allclose(gradient @ direction, slope, rtol=1e-5, atol=1e-6)
    if namespace is np:
        compiled = ft.jit(ft.vmap(ft.value_and_grad(f)))(np.stack([flat, flat]))
        np.testing.assert_allclose(compiled[0], [value] * 2, rtol=1e-10)
        np.testing.assert_allclose(compiled[1], [gradient] * 2, rtol=1e-8, atol=1e-10)
