"""Lowerings beyond the laws: sizes that fill vectors and threads, axes, errors, callbacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans.extend import PRIMITIVES, Eqn, Jaxpr, OutOfBoundsError, Var, aval_of, eval_jaxpr
from jit.lowering.contraction import merge_axes
from jit.pipeline import compile_jaxpr
from jit.runtime import threads
from tests.jit.programs import random_program

RNG = np.random.default_rng(5)


def one_equation(name: str, *operands: Any, **params: Any) -> Jaxpr:
    """A jaxpr that applies one primitive to its inputs."""
    primitive = PRIMITIVES[name]
    invars = [Var(aval_of(np.asarray(x))) for x in operands]
    outs = [Var(a) for a in primitive.abstract_eval(*[v.aval for v in invars], **params)]
    return Jaxpr(invars, [Eqn(primitive, invars, outs, params)], outs)


def agrees(name: str, *operands: Any, rtol: float = 1e-12, **params: Any) -> None:
    """The compiled primitive computes what its impl does."""
    jaxpr = one_equation(name, *operands, **params)
    found = compile_jaxpr(jaxpr)(operands)
    with np.errstate(all="ignore"):
        expected = PRIMITIVES[name].impl(*map(np.asarray, operands), **params)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.asarray(b).dtype
        finite = np.abs(b)[np.isfinite(b)] if a.dtype.kind in "fc" else np.zeros(1)
        scale = float(np.max(finite, initial=0.0))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("name", ["reduce_sum", "reduce_max"])
def test_reductions_over_any_axes(name: str, axes: tuple[int, ...]) -> None:
    agrees(name, RNG.standard_normal((13, 29, 43)), axes=axes)


@pytest.mark.parametrize("shape", [(300, 1000), (1000, 300), (70_000, 3), (3, 70_000), (200_000,)])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c16", "i4"])
def test_large_reductions(shape: tuple[int, ...], dtype: str) -> None:
    x = (RNG.standard_normal(shape) * 10).astype(dtype)
    for axis in range(len(shape)):
        agrees("reduce_sum", x, axes=(axis,), rtol=1e-5 if dtype == "f4" else 1e-12)


@pytest.mark.parametrize("perm", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1), (2, 0, 1)])
def test_transposes(perm: tuple[int, ...]) -> None:
    agrees("transpose", RNG.standard_normal((17, 40, 33)), perm=perm)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(9, 20, 17), (6, 20, 3), (1, 31, 1)])
@pytest.mark.parametrize("name", ["cumsum", "cumprod", "cummax", "linear_recurrence"])
def test_scans(name: str, shape: tuple[int, ...], axis: int, reverse: bool) -> None:
    count = 2 if name == "linear_recurrence" else 1
    operands = [RNG.uniform(0.5, 1.5, shape) for _ in range(count)]
    agrees(name, *operands, axis=axis, reverse=reverse)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 4), (50, 60, 70), (1, 40, 200), (300, 200, 1)])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "i8", "f2", "bool"])
def test_matrix_products(shape: tuple[int, int, int], dtype: str) -> None:
    m, k, n = shape
    x = (RNG.standard_normal((m, k)) * 4).astype(dtype)
    y = (RNG.standard_normal((k, n)) * 4).astype(dtype)
    rtol = {"f4": 1e-5, "c8": 1e-5, "f2": 2e-3}.get(dtype, 1e-12)
    agrees("dot_general", x, y, contract=((1,), (0,)), batch=((), ()), rtol=rtol)


@pytest.mark.parametrize(
    ("x", "y", "contract", "batch"),
    [
        ((7, 20, 30), (7, 30, 20), ((2,), (1,)), ((0,), (0,))),
        ((20, 7, 30), (30, 20, 7), ((2,), (0,)), ((1,), (2,))),
        ((4, 5, 20, 30), (4, 30, 5, 20), ((3,), (1,)), ((0, 1), (0, 2))),
        ((20, 6, 30), (30, 6, 20), ((1, 2), (1, 0)), ((), ())),
        ((20, 6, 30), (6, 20, 30), ((0,), (1,)), ((), ())),
        ((40, 50), (40, 50), ((0,), (0,)), ((), ())),
        ((40, 50), (40, 50), ((0, 1), (0, 1)), ((), ())),
    ],
)
def test_contractions(x: Any, y: Any, contract: Any, batch: Any) -> None:
    left, right = RNG.standard_normal(x), RNG.standard_normal(y)
    agrees("dot_general", left, right, contract=contract, batch=batch)


def test_products_read_views_without_copying() -> None:
    """Transposes, slices and broadcasts of operands reach the GEMM as strides."""

    def f(x: Any, y: Any) -> Any:
        return x.T[5:45, ::-1] @ y[:, 1:]

    x, y = RNG.standard_normal((50, 60)), RNG.standard_normal((50, 41))
    lowered = ft.jit(f).lower(x, y)
    assert [line.split()[-1] for line in lowered.compile_report().kernels] == ["dot_general"]
    np.testing.assert_allclose(ft.jit(f)(x, y), x.T[5:45, ::-1] @ y[:, 1:], rtol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
def test_large_convolutions(groups: int, strides: tuple[int, int]) -> None:
    x, w = RNG.standard_normal((3, 4, 20, 21)), RNG.standard_normal((6, 4 // groups, 3, 2))
    params: Any = {"strides": strides, "padding": ((1, 0), (2, -1)), "lhs_dilation": (1, 2)}
    agrees("conv", x, w, **params, rhs_dilation=(2, 1), groups=groups, batch_groups=1)


@pytest.mark.parametrize("mode", ["raise", "clip", "drop"])
@pytest.mark.parametrize("name", ["scatter", "scatter_add", "scatter_max", "scatter_mul"])
def test_scatters_in_order(name: str, mode: str) -> None:
    """Many updates for few places: the order of application shows."""
    x, index = RNG.standard_normal((10, 33)), RNG.integers(-10, 10, (40,))
    if mode != "raise":
        index[::7] = 25
    updates = RNG.standard_normal((40, 33))
    agrees(name, x, updates, index, axes=(0,), mode=mode)
    agrees(name, x.T.copy(), updates, index, axes=(1,), mode=mode)


def test_an_index_out_of_bounds_is_an_error_with_its_line() -> None:
    f = ft.jit(lambda x, i: x[i])
    assert f(np.arange(4.0), np.array([3, -4])).tolist() == [3.0, 0.0]
    with pytest.raises(OutOfBoundsError, match=r"axis 0 with size 4 .*test_lowering\.py"):
        f(np.arange(4.0), np.array([1, 4]))
    with pytest.raises(IndexError):
        f(np.arange(4.0), np.array([-5]))


def test_an_unused_index_is_checked_too() -> None:
    """The check does not depend on which of the taken elements are read."""
    f = ft.jit(lambda x, i: x[i][:1])
    with pytest.raises(IndexError):
        f(np.arange(4.0), np.array([1, 9]))


def test_negative_integer_powers_are_an_error() -> None:
    f = ft.jit(lambda x, y: x**y)
    assert f(np.array([2, 3]), np.array([3, 0])).tolist() == [8, 1]
    with pytest.raises(ValueError, match="negative integer powers"):
        f(np.array([2]), np.array([-1]))


def test_sorts_along_any_axis_with_payloads() -> None:
    keys, payload = RNG.integers(0, 5, (7, 30, 3)), RNG.standard_normal((7, 30, 3))
    for axis in range(3):
        agrees("sort", keys, payload, axis=axis, num_keys=1)
        agrees("sort", keys, payload, keys * 2, axis=axis, num_keys=2)
    agrees("top_k", RNG.standard_normal((5, 100)), k=7)


def test_special_values_survive() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-310, 1e300] * 5)
    for name in ("reduce_max", "reduce_min", "reduce_sum"):
        agrees(name, x.reshape(5, 7), axes=(0,))
    for name in ("argmax", "argmin"):
        agrees(name, x, axis=0)
    out = ft.jit(lambda x: -x * 1.0)(np.array([0.0, -0.0]))
    assert np.signbit(out).tolist() == [True, False]


@pytest.mark.parametrize("layout", ["strided", "fortran", "swapped", "unaligned", "readonly"])
def test_arguments_of_any_layout(layout: str) -> None:
    base = RNG.standard_normal((6, 8))
    match layout:
        case "strided":
            x = np.repeat(base, 2, axis=1)[:, ::2]
        case "fortran":
            x = np.asfortranarray(base)
        case "swapped":
            x = base.astype(base.dtype.newbyteorder())
        case "unaligned":
            raw = np.zeros(base.nbytes + 1, np.uint8)
            x = raw[1:].view(np.float64).reshape(base.shape)
            x[...] = base
        case _:
            x = base.copy()
            x.flags.writeable = False
    np.testing.assert_array_equal(
        ft.jit(lambda x: x * 2.0 + fnp.sum(x, 0))(x), base * 2 + base.sum(0)
    )


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    x = RNG.standard_normal((3000, 500))

    def f(x: Any) -> Any:
        e = fnp.exp(x - fnp.max(x, axis=1, keepdims=True))
        return fnp.sum(fnp.sin(x) * x), fnp.sum(e, axis=0), e / fnp.sum(e, axis=1, keepdims=True)

    many = ft.jit(f)(x)
    before = threads.num_threads()
    try:
        threads.set_num_threads(1)
        one = ft.jit(f)(x)
    finally:
        threads.set_num_threads(before)
    for a, b in zip(many, one, strict=True):
        np.testing.assert_array_equal(a, b)


def test_callbacks_run_in_order_and_may_raise() -> None:
    seen: list[Any] = []

    def note(x: Any) -> None:
        seen.append(np.array(x))
        if len(seen) == 4:
            raise KeyError("stop")

    x = Var(aval_of(np.zeros(3)))
    (y,) = (Var(x.aval),)
    callback = PRIMITIVES["debug_callback"]
    params = {"callback": note, "ordered": True}
    eqns = [
        Eqn(callback, [x], [], params),
        Eqn(PRIMITIVES["sin"], [x], [y], {}),
        Eqn(callback, [y], [], params),
    ]
    executable = compile_jaxpr(Jaxpr([x], eqns, [y]))
    value = np.arange(3.0)
    np.testing.assert_array_equal(executable([value])[0], np.sin(value))
    np.testing.assert_array_equal(seen[0], value)
    np.testing.assert_array_equal(seen[1], np.sin(value))
    with pytest.raises(KeyError, match="stop"):
        executable([value])


@pytest.mark.parametrize("seed", range(60))
def test_random_programs(seed: int) -> None:
    jaxpr, operands = random_program(seed, 8 + seed % 30)
    expected = eval_jaxpr(jaxpr, operands)
    for a, b in zip(compile_jaxpr(jaxpr)(operands), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_axes_are_joined_where_all_operands_step_evenly() -> None:
    assert merge_axes((2, 3), (3, 1), (6, 2)) == [(6, (1, 2))]
    assert merge_axes((2, 3), (1, 1)) == [(2, (1,)), (3, (1,))]
    assert merge_axes((2, 3), (0, 0), (3, 1)) == [(6, (0, 1))]
    assert merge_axes((2, 1, 3), (3, 9, 1), (4, 9, 1)) == [(2, (3, 4)), (3, (1, 1))]


def test_an_element_of_a_row_kept_in_scratch_is_read_in_each_row() -> None:
    def f(x: Any) -> Any:
        wave = np.cosh(x)
        out = np.zeros((2, 2)) + wave.sum()
        out[-1] *= wave.ravel()[0]
        return np.sum(np.sin(out))

    xs = RNG.normal(size=(5, 1, 3))
    expected = [ft.grad(f)(x) for x in xs]
    np.testing.assert_allclose(ft.jit(ft.vmap(ft.grad(f)))(xs), expected, rtol=1e-10)


def test_a_first_element_of_each_row_beside_a_sum() -> None:
    def f(x: Any) -> Any:
        wave = fnp.cosh(x)
        return wave.sum(axis=1), wave[:, 0], wave / wave[:, :1]

    x = RNG.normal(size=(6, 5))
    wave = np.cosh(x)
    expected = (wave.sum(axis=1), wave[:, 0], wave / wave[:, :1])
    for a, b in zip(ft.jit(f)(x), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


EMPTIED = {
    "a slice": lambda x: np.concatenate([np.sin(x), x])[:, 3:4],
    "a mapped slice": lambda x: np.concatenate([np.sin(x), np.cos(x)])[::-1, 3:4] * 2.0,
    "a sum": lambda x: np.concatenate([np.sin(x), x])[:, 3:].sum(axis=1),
    "a gradient": lambda x: ft.grad(
        lambda x: np.sum(np.sin(np.concatenate([np.sin(x), x])[::-1, 3:4])) + x.sum()
    )(x),
    "complex": lambda x: (np.concatenate([np.exp(1j * x), x])[:, 3:4]).conj(),
    "integers": lambda x: np.concatenate([np.floor(x).astype(int), np.ones_like(x, int)])[4:],
}


@pytest.mark.parametrize("name", EMPTIED)
def test_what_has_no_elements_asks_for_none(name: str) -> None:
    f: Any = EMPTIED[name]
    x = RNG.normal(size=(2, 3))
    found, expected = ft.jit(f)(x), f(x)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_an_index_into_nothing_is_still_checked() -> None:
    f = ft.jit(lambda x, i: x[i])
    assert f(np.ones((3, 0)), 2).shape == (0,)
    with pytest.raises(IndexError):
        f(np.ones((3, 0)), 3)
