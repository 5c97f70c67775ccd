"""functrans.lax: exact operands, slices, windows and convolutions against independent values."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import scipy.special

import functrans as ft
import functrans.numpy as fnp
from functrans import lax
from functrans.errors import AxisNameError

rng = np.random.default_rng(11)
X, Y = rng.standard_normal((4, 6)), rng.standard_normal((4, 6))
I, J = rng.integers(-9, 9, (4, 6)), rng.integers(1, 9, (4, 6))  # noqa: E741  # two matrices of integers

BINARY: dict[str, tuple[Callable[..., Any], Any, Any]] = {
    "add": (np.add, X, Y),
    "sub": (np.subtract, X, Y),
    "mul": (np.multiply, X, Y),
    "div": (np.divide, X, Y),
    "max": (np.maximum, X, Y),
    "min": (np.minimum, X, Y),
    "pow": (np.power, np.abs(X), Y),
    "atan2": (np.arctan2, X, Y),
    "rem": (np.fmod, I, J),
    "eq": (np.equal, I, J),
    "ne": (np.not_equal, I, J),
    "lt": (np.less, X, Y),
    "ge": (np.greater_equal, X, Y),
    "bitwise_and": (np.bitwise_and, I, J),
    "shift_left": (np.left_shift, I, J),
    "shift_right_arithmetic": (np.right_shift, I, J),
    "nextafter": (np.nextafter, X, Y),
    "complex": (lambda x, y: x + 1j * y, X, Y),
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_functions(name: str) -> None:
    reference, x, y = BINARY[name]
    np.testing.assert_allclose(getattr(lax, name)(x, y), reference(x, y), rtol=1e-14)


UNARY: dict[str, Callable[..., Any]] = {
    "neg": np.negative,
    "sign": np.sign,
    "abs": np.abs,
    "floor": np.floor,
    "square": np.square,
    "exp": np.exp,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "logistic": scipy.special.expit,
    "erf": scipy.special.erf,
    "is_finite": np.isfinite,
    "cbrt": np.cbrt,
    "round": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
}


@pytest.mark.parametrize("name", UNARY)
def test_unary_functions(name: str) -> None:
    np.testing.assert_allclose(getattr(lax, name)(X), UNARY[name](X), rtol=1e-13)


def test_integers_divide_towards_zero() -> None:
    assert lax.div(np.array([7, -7, -8]), np.array([2, 2, 3])).tolist() == [3, -3, -2]
    assert lax.rem(np.array([7, -7, -8]), np.array([2, 2, 3])).tolist() == [1, -1, -2]


def test_logical_shift_fills_with_zeros() -> None:
    wanted = (I.astype(np.uint64) >> np.uint64(3)).astype(np.int64)
    assert lax.shift_right_logical(I, 3).tolist() == wanted.tolist()


def test_rsqrt_integer_pow_and_clamp() -> None:
    np.testing.assert_allclose(lax.rsqrt(np.abs(X)), 1 / np.sqrt(np.abs(X)))
    np.testing.assert_allclose(lax.integer_pow(X, -3), X**-3.0)
    np.testing.assert_allclose(lax.clamp(-0.5, X, 0.5), np.clip(X, -0.5, 0.5))


def test_scalars_take_the_dtype_of_arrays() -> None:
    assert lax.add(X.astype(np.float32), 2.0).dtype == np.float32
    assert lax.mul(I.astype(np.int8), 2).dtype == np.int8


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: lax.add(X, Y.astype(np.float32)), TypeError, "one dtype"),
    (lambda: lax.add(X, Y[:2]), ValueError, "one shape"),
    (lambda: lax.add(I, 2.5), TypeError, "cannot become int64"),
    (lambda: lax.select(X, X, Y), TypeError, "must be boolean"),
    (lambda: lax.psum(X, "nobody"), AxisNameError, "no axis is named 'nobody'"),
    (
        lambda: lax.dot_general(X, Y.astype(np.float32), (((1,), (1,)), ((), ()))),
        TypeError,
        "one dtype",
    ),
    (lambda: lax.dynamic_slice(X, (0,), (1, 1)), ValueError, "needs 2 start indices"),
    (lambda: lax.dynamic_slice(X, (0, 0), (5, 1)), ValueError, "does not fit"),
    (lambda: lax.dynamic_update_slice(X, Y[0], (0, 0)), ValueError, "does not fit"),
    (lambda: lax.slice(X, (0, 0), (5, 2)), ValueError, "limit"),
    (lambda: lax.top_k(X, 7), ValueError, "k=7 elements cannot be taken"),
    (lambda: lax.erf(I), TypeError, "erf is not defined for int64"),
    (lambda: lax.concatenate([X, Y[:, :2]], 0), ValueError, "differ outside axis 0"),
    (lambda: lax.integer_pow(X, 1.5), TypeError, "cannot be interpreted as an integer"),  # type: ignore[arg-type]
    (lambda: lax.reduce_window(X, 0.0, lax.add, (3,)), ValueError, "for each axis of f64"),
    (lambda: lax.iota(float, -1), ValueError, "must not be negative"),
    (lambda: fnp.zeros((2, -1)) + lax.iota(int, 2), ValueError, "negative"),
    (
        lambda: lax.conv_general_dilated(np.ones((1, 3, 8)), np.ones((4, 2, 3)), (1,), "SAME"),
        ValueError,
        "C must be groups",
    ),
]


@pytest.mark.parametrize(("program", "error", "words"), REFUSED)
def test_refusals(program: Callable[[], Any], error: type[Exception], words: str) -> None:
    """Of operations on arrays as they are, and of the same while they are staged."""
    with pytest.raises(error, match=words):
        program()
    with pytest.raises(error, match=words):
        ft.make_jaxpr(program)()


def test_select_and_select_n() -> None:
    assert lax.select(X > 0, X, Y).tolist() == np.where(X > 0, X, Y).tolist()
    assert lax.select(True, X, Y).tolist() == X.tolist()
    which = np.abs(I) % 3
    wanted = np.choose(which, [X, Y, X * Y])
    assert lax.select_n(which, X, Y, X * Y).tolist() == wanted.tolist()
    assert lax.select_n(X > 0, X, Y).tolist() == np.where(X > 0, Y, X).tolist()


def test_conversions() -> None:
    assert lax.convert_element_type(X, np.int32).tolist() == X.astype(np.int32).tolist()
    assert lax.bitcast_convert_type(X, np.int64).tolist() == X.view(np.int64).tolist()


def test_shapes() -> None:
    assert lax.broadcast_in_dim(X, (2, 4, 3, 6), (1, 3))[1, :, 2].tolist() == X.tolist()
    assert lax.broadcast(X, (2,)).shape == (2, 4, 6)
    assert lax.broadcasted_iota(int, (3, 4), 1).tolist() == [list(range(4))] * 3
    assert lax.pad(np.array([1, 2]), 9, [(1, -1, 2)]).tolist() == [9, 1, 9, 9]
    assert lax.rev(X, (1,)).tolist() == X[:, ::-1].tolist()
    assert lax.expand_dims(X, (0, 3)).shape == (1, 4, 6, 1)
    assert lax.squeeze(X[None], (0,)).shape == (4, 6)
    assert lax.reshape(X, (6, 4), (1, 0)).tolist() == X.T.tolist()


def test_slices() -> None:
    assert lax.slice_in_dim(X, 1, 5, 2, axis=1).tolist() == X[:, 1:5:2].tolist()
    assert lax.slice(X, (1, 2), (3, 6), (1, 2)).tolist() == X[1:3, 2:6:2].tolist()
    assert lax.index_in_dim(X, -1, 1, keepdims=False).tolist() == X[:, -1].tolist()


def test_dynamic_slices_are_moved_inside() -> None:
    assert lax.dynamic_slice(X, (1, 9), (2, 3)).tolist() == X[1:3, 3:].tolist()
    assert lax.dynamic_slice(X, (-2, -3), (2, 3)).tolist() == X[2:, 3:].tolist()
    assert lax.dynamic_slice(X, np.array([1, 2]), (2, 3)).tolist() == X[1:3, 2:5].tolist()
    assert lax.dynamic_slice_in_dim(X, 2, 3, 1).tolist() == X[:, 2:5].tolist()
    assert lax.dynamic_index_in_dim(X, -1, 1, False).tolist() == X[:, -1].tolist()
    changed = X.copy()
    changed[1:3, 1:3] = Y[:2, :2]
    assert lax.dynamic_update_slice(X, Y[:2, :2], (1, 1)).tolist() == changed.tolist()
    changed = X.copy()
    changed[2] = Y[0]
    assert lax.dynamic_update_index_in_dim(X, Y[0], 2, 0).tolist() == changed.tolist()
    got = lax.index_take(X, (np.array([0, 1]), np.array([2, 3])), (0, 1))
    assert got.tolist() == X[[0, 1], [2, 3]].tolist()


def test_dynamic_slices_are_compiled_and_differentiated() -> None:
    f = lambda x, i: (lax.dynamic_slice(x, (i, 0), (2, 3)) ** 2).sum()
    gradient = ft.jit(ft.grad(f))(X, 1)
    wanted = np.zeros_like(X)
    wanted[1:3, :3] = 2 * X[1:3, :3]
    np.testing.assert_allclose(gradient, wanted)


def test_sorts() -> None:
    keys, values = lax.sort_key_val(I, X)
    order = np.argsort(I, kind="stable")
    assert keys.tolist() == np.sort(I).tolist()
    assert values.tolist() == np.take_along_axis(X, order, -1).tolist()
    best, places = lax.top_k(X, 3)
    assert best.tolist() == np.sort(X)[:, :-4:-1].tolist()
    assert places.tolist() == np.argsort(-X)[:, :3].tolist()
    assert lax.argmax(X, 1).tolist() == X.argmax(1).tolist()


def test_reductions_and_running_ones() -> None:
    np.testing.assert_allclose(lax.reduce_sum(X, (0, 1)), X.sum())
    assert lax.reduce_max(X, (1,)).tolist() == X.max(1).tolist()
    assert lax.reduce_xor(X > 0, (1,)).tolist() == (((X > 0).sum(1) % 2) == 1).tolist()
    np.testing.assert_allclose(lax.cumsum(X, 1, reverse=True), X[:, ::-1].cumsum(1)[:, ::-1])
    np.testing.assert_allclose(lax.cumlogsumexp(X, 1), np.logaddexp.accumulate(X, 1))


# -- windows and convolutions ---------------------------------------------------------------------


def spread(x: Any, axes: tuple[int, int], dilation: Sequence[int]) -> Any:
    """x with zeros between neighbours along two axes."""
    shape = list(x.shape)
    index: list[Any] = [slice(None)] * x.ndim
    for axis, d in zip(axes, dilation, strict=True):
        shape[axis] = (shape[axis] - 1) * d + 1
        index[axis] = slice(None, None, d)
    grown = np.zeros(shape)
    grown[tuple(index)] = x
    return grown


def slow_conv(
    x: Any,
    w: Any,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] = (1, 1),
    rhs_dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Any:
    """Convolution of (N, H, W, C) with (H, W, I, O), by its definition."""
    x = np.pad(spread(x, (1, 2), lhs_dilation), ((0, 0), *padding, (0, 0)))
    w = spread(w, (0, 1), rhs_dilation)
    high, wide = ((x.shape[1 + i] - w.shape[i]) // strides[i] + 1 for i in (0, 1))
    out = np.zeros((x.shape[0], high, wide, w.shape[3]))
    each = w.shape[3] // groups
    for i, j in itertools.product(range(high), range(wide)):
        at = x[:, i * strides[0] :, j * strides[1] :][:, : w.shape[0], : w.shape[1]]
        for g in range(groups):
            part = at[..., g * w.shape[2] : (g + 1) * w.shape[2]]
            own = slice(g * each, (g + 1) * each)
            out[:, i, j, own] = np.einsum("nhwi,hwio->no", part, w[..., own])
    return out


IMAGE, KERNEL = rng.standard_normal((2, 7, 8, 6)), rng.standard_normal((3, 2, 6, 4))
LAYOUT = ("NHWC", "HWIO", "NHWC")


@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
@pytest.mark.parametrize("dilations", [((1, 1), (1, 1)), ((2, 1), (1, 2))])
def test_convolution_by_definition(strides: Any, dilations: Any) -> None:
    padding = [(1, 2), (0, 3)]
    got = lax.conv_general_dilated(IMAGE, KERNEL, strides, padding, *dilations, LAYOUT)
    np.testing.assert_allclose(got, slow_conv(IMAGE, KERNEL, strides, padding, *dilations))


def test_groups_and_layouts() -> None:
    kernel = KERNEL[:, :, :2, :3]
    padding = [(1, 1), (0, 1)]
    got = lax.conv_general_dilated(
        IMAGE, kernel, (1, 1), padding, dimension_numbers=LAYOUT, feature_group_count=3
    )
    wanted = slow_conv(IMAGE, kernel, (1, 1), padding, groups=3)
    np.testing.assert_allclose(got, wanted)
    first = lax.conv(np.moveaxis(IMAGE, -1, 1), np.transpose(KERNEL, (3, 2, 0, 1)), (1, 1), "VALID")
    last = lax.conv_general_dilated(IMAGE, KERNEL, (1, 1), "VALID", dimension_numbers=LAYOUT)
    np.testing.assert_allclose(np.moveaxis(first, 1, -1), last)


@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER", "VALID"])
def test_padding_by_name(padding: str) -> None:
    got = lax.conv_general_dilated(IMAGE, KERNEL, (2, 2), padding, dimension_numbers=LAYOUT)
    pads = {"SAME": [(1, 1), (0, 0)], "SAME_LOWER": [(1, 1), (0, 0)], "VALID": [(0, 0), (0, 0)]}
    np.testing.assert_allclose(got, slow_conv(IMAGE, KERNEL, (2, 2), pads[padding]))


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_transposed_convolution_is_the_gradient_of_convolution(strides: Any) -> None:
    forward = lambda x: lax.conv_general_dilated(
        x, KERNEL, strides, "VALID", dimension_numbers=LAYOUT
    )
    x = rng.standard_normal((2, 7, 8, 6))
    ct = rng.standard_normal(forward(x).shape)
    (wanted,) = ft.vjp(forward, x)[1](ct)
    got = lax.conv_transpose(ct, KERNEL, strides, "VALID", transpose_kernel=True)
    size = got.shape[1:3]
    np.testing.assert_allclose(got, wanted[:, : size[0], : size[1]], atol=1e-12)


def test_windows_of_maxima_and_sums() -> None:
    got = lax.reduce_window(X, -np.inf, lax.max, (2, 3), (2, 3))
    assert got.tolist() == X.reshape(2, 2, 2, 3).max((1, 3)).tolist()
    got = lax.reduce_window(X, 0.0, lax.add, (1, 2), (1, 1), "SAME")
    np.testing.assert_allclose(got, X + np.pad(X[:, 1:], ((0, 0), (0, 1))))


def test_dot_general() -> None:
    got = lax.dot_general(IMAGE, IMAGE, (((3,), (3,)), ((0, 1), (0, 1))))
    np.testing.assert_allclose(got, np.einsum("abij,abkj->abik", IMAGE, IMAGE))
    np.testing.assert_allclose(lax.batch_matmul(IMAGE, IMAGE.swapaxes(2, 3)), got)
    np.testing.assert_allclose(lax.dot(X, Y.T), X @ Y.T)
