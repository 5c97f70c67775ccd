"""Writes in place on traced arrays, views included: the same as NumPy, and differentiated right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans.errors import MutationError

X = np.array([[0.3, -0.7, 1.2], [0.9, 0.1, -0.4]])


def set_element(x: Any) -> Any:
    y = x.copy()
    y[0, 1] = 5.0
    y[-1, -1] = y[0, 0] ** 2
    return y


def set_slice(x: Any) -> Any:
    y = x * 1
    y[:, ::2] = y[:, ::-2] * 3
    y[1] += y[0]
    return y


def set_ellipsis_and_none(x: Any) -> Any:
    y = x + 0
    y[..., 0] = 1.5
    y[None, 0, 1:] *= 2
    return y


def set_broadcasts(x: Any) -> Any:
    y = fnp.zeros((2, 3))
    y[...] = x[0]
    y[:, 1:] += x[:, :1]
    return y


def set_mask(x: Any) -> Any:
    y = x.copy()
    y[y > 0.5] = -1.0
    y[np.array([True, False])] *= 3
    return y


def set_fancy(x: Any) -> Any:
    y = x.copy()
    y[[0, 1], [2, 0]] = x[1, :2]
    y[:, [0, 2]] = y[:, [2, 0]]
    return y


def repeated_index_adds_once(x: Any) -> Any:
    y = x.copy()
    y[0, [0, 0, 1]] += 1.0
    return y


def last_write_wins(x: Any) -> Any:
    y = x.copy()
    y[0, [0, 0, 0]] = np.array([1.0, 2.0, 3.0]) * x[1, 0]
    return y


def swap_rows(x: Any) -> Any:
    y = x.copy()
    y[[0, 1]] = y[[1, 0]]
    return y


def swap_with_a_copy(x: Any) -> Any:
    y = x.copy()
    y[0], y[1] = y[1].copy(), y[0].copy()
    return y


def swap_without_a_copy(x: Any) -> Any:
    """NumPy's trap: both sides are views of the same array."""
    y = x.copy()
    y[0], y[1] = y[1], y[0]
    return y


def view_sees_base(x: Any) -> Any:
    y = x.copy()
    row = y[0]
    y[0, 0] = 7.0
    y *= 2
    return row + y[1]


def base_sees_view(x: Any) -> Any:
    y = x.copy()
    column = y[:, 1]
    column[...] = x[:, 0] ** 2
    column[0] -= 1
    return y


def view_of_view(x: Any) -> Any:
    y = x.copy()
    z = y.T[::-1][1:]
    z[0] = 3.0
    z[:, 1] *= x[0, 0]
    return y + z.sum()


def view_by_reshape(x: Any) -> Any:
    y = x.copy()
    flat = y.reshape(-1)
    flat[1::2] = flat[::2] * 2
    return y


def ravel_is_a_view_here(x: Any) -> Any:
    y = x.copy()
    y.ravel()[0] = 9.0
    return y


def ravel_of_transposed_is_a_copy(x: Any) -> Any:
    y = x.copy()
    y.T.ravel()[0] = 9.0
    return y


def flatten_is_a_copy(x: Any) -> Any:
    y = x.copy()
    y.flatten()[0] = 9.0
    return y


def the_flat_elements(x: Any) -> Any:
    y = x.copy()
    turned = y.T
    turned.flat[1] = y.flat[-1] * 2
    y.flat[[0, 3]] += np.stack(list(y.flat)[1:3])
    taken = y.flat[:2]
    taken[0] = 7.0
    z = np.zeros_like(y)
    z.flat = y[1]
    return y * len(y.flat) + z + taken.sum()


def fancy_get_is_a_copy(x: Any) -> Any:
    y = x.copy()
    z = y[[0, 1]]
    z[...] = 0.0
    return y + z


def siblings_overlap(x: Any) -> Any:
    y = x.copy()
    a, b = y[0, :2], y[0, 1:]
    a += 1
    b *= 2
    return a + b


def overlapping_move(x: Any) -> Any:
    y = x.copy()
    y[0, 1:] = y[0, :-1]
    return y


def view_survives_its_base_name(x: Any) -> Any:
    y = x.copy()
    z = y[1]
    y = x * 0
    z += 1
    return y + z


def swapaxes_and_expand(x: Any) -> Any:
    y = x.copy()
    np.expand_dims(np.swapaxes(y, 0, 1), 0)[0, 2, 0] = 4.0
    return y


def squeeze_and_broadcast(x: Any) -> Any:
    y = x[:1].copy()
    np.squeeze(y)[1] = 8.0
    return np.broadcast_to(y, (2, 3)) * x


def real_and_imag_parts(x: Any) -> Any:
    z = x * (1 + 0j)
    z.real[0] = 2.0
    z.imag[...] = x
    z.T.imag[1:, 0] *= 3
    z[1:].real[..., ::-1] += x[0]
    return (z * z * (1 + 2j)).real


def diagonal_by_index(x: Any) -> Any:
    y = fnp.eye(3) * x[0, 0]
    y[np.arange(3), np.arange(3)] += x[1]
    return y


def scalar_rebinds(x: Any) -> Any:
    a = x[0, 0]
    b = a
    b += 1
    return a * b


def zero_dimensional_array_is_written(x: Any) -> Any:
    a = fnp.zeros(())
    b = a
    b += x[0, 0]
    a[...] *= 2
    return a * x + b


def loop(x: Any) -> Any:
    y = np.zeros_like(x)
    for i in range(2):
        for j in range(3):
            y[i, j] = x[i, j] * (1 + y[i, j - 1]) if j else x[i, j]
    return y


def out_arguments(x: Any) -> Any:
    y = np.empty_like(x)
    np.multiply(x, 2, out=y)
    np.add(y[0], x[1], out=y[1])
    return y


def in_place_operators(x: Any) -> Any:
    y = x.copy()
    y += 1
    y -= x / 2
    y *= y
    y /= 3
    y **= 2
    y[0] %= 0.7
    return y


def casting_on_write(x: Any) -> Any:
    y = fnp.zeros((2, 3), np.float32)
    y[...] = x
    k = fnp.zeros(3, int)
    k[:2] = 1.9
    return y * x + k


def constant_array_meets_a_traced_one(x: Any) -> Any:
    y = fnp.ones((2, 3))
    y[0] = x[0] * 2
    y[1] += x[1] ** 2
    return y


def fill(x: Any) -> Any:
    y = x.copy()
    y[0].fill(2.5)
    return y * x


def sorting_in_place(x: Any) -> Any:
    y = x.copy()
    y.sort(axis=1)
    y[0].sort()
    return y * np.array([1.0, 2.0, 3.0])


PROGRAMS = [
    value
    for value in list(globals().values())
    if callable(value) and getattr(value, "__module__", "") == __name__
]


def numpy_gradient(f: Callable[..., Any], x: Any) -> Any:
    """The gradient of the weighted sum of f's result, by differences of what NumPy computes."""
    weights = np.cos(np.arange(np.size(f(x)))).reshape(np.shape(f(x)))
    gradient, h = np.zeros_like(x), 1e-6
    for p in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[p] = h
        gradient[p] = (np.sum(weights * f(x + step)) - np.sum(weights * f(x - step))) / (2 * h)
    return gradient


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_as_numpy(f: Callable[..., Any]) -> None:
    """Values, dtypes and gradients; under jit and vmap too; the argument stays as it was."""
    before = X.copy()
    expected = np.asarray(f(X))
    weights = np.cos(np.arange(expected.size)).reshape(expected.shape)
    loss = lambda x: np.sum(weights * f(x))
    for made in (ft.jit(f)(X), ft.jvp(f, (X,), (X,))[0], ft.vmap(f)(X[None])[0]):
        assert np.asarray(made).dtype == expected.dtype
        np.testing.assert_allclose(made, expected, rtol=1e-7 if f is casting_on_write else 1e-12)
    slope = numpy_gradient(f, X)
    tolerance = 1e-2 if f is casting_on_write else 1e-7
    for found in (ft.grad(loss)(X), ft.jit(ft.grad(loss))(X), ft.vmap(ft.grad(loss))(X[None])[0]):
        np.testing.assert_allclose(found, slope, rtol=tolerance, atol=tolerance)
    assert np.array_equal(before, X)


# -- what is refused ----------------------------------------------------------------------------

CAPTURED = np.ones(3)


def write_argument(x: Any) -> Any:
    x[0] = 1.0
    return x.sum()


def write_view_of_argument(x: Any) -> Any:
    x[1:][0] = 1.0
    return x.sum()


def add_to_argument(x: Any) -> Any:
    x += 1
    return x.sum()


def write_reshaped_argument(x: Any) -> Any:
    x.reshape(3, 1)[0] = 1.0
    return x.sum()


@pytest.mark.parametrize(
    "f", [write_argument, write_view_of_argument, add_to_argument, write_reshaped_argument]
)
@pytest.mark.parametrize("transform", [ft.grad, ft.jit, ft.vmap, ft.make_jaxpr, ft.jacfwd])
def test_arguments_are_not_written(f: Callable[..., Any], transform: Callable[..., Any]) -> None:
    """The caller's array must not change: the error names the remedy."""
    x = np.ones((3, 3)) if transform is ft.vmap else np.ones(3)
    with pytest.raises(MutationError, match="copy"):
        transform(f)(x)
    assert (x == 1).all()


def test_a_tracer_of_an_outer_trace_is_not_written() -> None:
    def outer(x: Any) -> Any:
        y = x.copy()

        def inner(t: Any) -> Any:
            y[0] = t
            return y.sum()

        return ft.grad(inner)(1.0) + y.sum()

    with pytest.raises(MutationError, match="inner function"):
        ft.grad(outer)(np.ones(3))


def test_numpy_scalars_are_immutable() -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        ft.grad(lambda x: [x[0].__setitem__((), 1.0), x.sum()][1])(np.ones(3))


def test_a_write_that_would_lose_digits_is_refused() -> None:
    """As NumPy: float64 does not fit an int array in place."""

    def f(x: Any) -> Any:
        k = fnp.zeros(3, int)
        k += x
        return k.sum() * x.sum()

    with pytest.raises(TypeError, match="cast"):
        ft.grad(f)(np.ones(3))


def test_functional_updates_on_arrays_and_tracers() -> None:
    f = lambda x: fnp.at(x)[0].set(5.0).sum() + fnp.at(x)[1].add(x[0]).sum()
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(f(x), 5 + 5 + 7)
    np.testing.assert_allclose(ft.grad(f)(x), [2.0, 2.0, 2.0])
    assert x[0] == 1.0
