"""functrans.numpy agrees with NumPy in values, dtypes, shapes and kinds of error while staging."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans.errors import DtypeError, UnsupportedError
from tests.agreement import disagreement, outcome, staged, traced
from tests.numpy_cases import CASES, Case


def run(one: Case, engine: Any = None) -> str | None:
    """How the staged program differs from NumPy's, with its arguments; None where they agree."""
    wanted = outcome(lambda: (one.reference or (lambda *xs: one.f(np, *xs)))(*one.args))
    stage = traced if one.asks else staged
    if engine is not None:
        stage = lambda f, *args: ft.tree.leaves(engine(f)(*args))
    got = outcome(lambda: stage(lambda *xs: one.f(fnp, *xs), *one.args))
    found = disagreement(wanted, got)
    return found and f"{found} for {[ft.errors.describe(a) for a in one.args]}"


@pytest.mark.parametrize("name", sorted(CASES))
def test_agrees_with_numpy(name: str) -> None:
    wrong = [found for one in CASES[name] if (found := run(one))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", sorted(CASES))
def test_compiled_agrees_with_numpy(name: str) -> None:
    usable = [one for one in CASES[name] if not one.asks]
    wrong = [found for one in usable[:: max(1, len(usable) // 3)] if (found := run(one, ft.jit))]
    assert not wrong, "\n".join(wrong)


# at is tested with the indices; these have no array operands.
ELSEWHERE = {"at", *fnp.plain.__all__}


def test_every_public_function_has_a_program() -> None:
    functions = {
        n for n in fnp.__all__ if inspect.isfunction(getattr(fnp, n)) and n not in ELSEWHERE
    }
    functions |= {
        f"linalg.{n}"
        for n, f in vars(fnp.linalg).items()
        if inspect.isfunction(f)
        and hasattr(f, "declaration")
        and f.__module__ == "functrans.numpy.linalg"
    }
    assert functions - set(CASES) == set()


def test_plain_arrays_go_straight_to_numpy() -> None:
    x = np.arange(6.0)
    assert np.shares_memory(fnp.reshape(x, (2, 3)), x)
    assert type(fnp.sin(1.0)) is np.float64
    assert fnp.sum(x, where=x > 2, initial=1.0) == 13.0


@pytest.mark.parametrize(
    ("module", "name", "words"),
    [
        (fnp, "histogram2d", r"no histogram2d: .* use numpy\.histogram2d\."),
        (fnp.linalg, "LinAlgError", r"no LinAlgError: .* use numpy\.linalg\.LinAlgError\."),
        (fnp, "sinus", r"module 'functrans\.numpy' has no attribute 'sinus'"),
    ],
)
def test_names_that_are_not_there_yet_say_what_serves(module: Any, name: str, words: str) -> None:
    with pytest.raises(AttributeError, match=words):
        getattr(module, name)


@pytest.mark.parametrize("run", [lambda f: f, ft.jit], ids=["eager", "jit"])
def test_lengths_that_are_given_are_not_asked_for(run: Any) -> None:
    """With options that NumPy's functions do not have, on plain arrays too."""
    where, weights = np.array([0, 1, 1, 5, -1]), np.arange(5.0)
    counted = run(lambda i, w: (fnp.bincount(i, length=3), fnp.bincount(i, w, length=6)))
    np.testing.assert_array_equal(counted(where, weights)[0], [1, 2, 0])
    np.testing.assert_array_equal(counted(where, weights)[1], [0, 3, 0, 0, 0, 3])

    rows, times = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([1, 0, 3])
    for length, sources in ((3, [0, 2, 2]), (4, [0, 2, 2, 2]), (6, [0, 2, 2, 2, 2, 2]), (0, [])):
        repeated = run(lambda x, n, k=length: fnp.repeat(x, n, 0, total_repeat_length=k))
        np.testing.assert_array_equal(repeated(rows, times), rows[np.array(sources, int)])
    twice = run(lambda x: fnp.repeat(x, 2, total_repeat_length=3))
    np.testing.assert_array_equal(twice(np.array([1, 2])), [1, 1, 2])


@pytest.mark.parametrize("run", [lambda f: f, ft.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_so_many_unique_values(run: Any, size: int) -> None:
    """The first ones, then what fills up; a NaN is one value, or each is its own."""
    for x in (np.array([[3, 1, 3], [1, 2, 1]]), np.array([np.nan, 1.0, np.nan]), np.array([True])):
        found = run(lambda x: fnp.unique(x, True, True, True, size=size, fill_value=0))(x)
        values, first, inverse, counts = np.unique(x, True, True, True)
        lack = (0, max(size - len(values), 0))
        np.testing.assert_array_equal(found[0], np.pad(values[:size], lack))
        np.testing.assert_array_equal(
            found[1], np.pad(first[:size], lack, constant_values=first[0])
        )
        np.testing.assert_array_equal(found[2], inverse)
        np.testing.assert_array_equal(found[3], np.pad(counts[:size], lack))
        least = run(lambda x: fnp.unique(x, size=size))(x)
        np.testing.assert_array_equal(least, np.pad(values[:size], lack, constant_values=values[0]))
    different = run(lambda x: fnp.unique(x, size=3, equal_nan=False))(np.array([np.nan, 1, np.nan]))
    np.testing.assert_array_equal(different, [1, np.nan, np.nan])
    assert (
        run(lambda x: fnp.unique(x, size=size, fill_value=7.0))(np.zeros(0)).tolist() == [7] * size
    )


def test_unique_values_are_elements() -> None:
    """They have the derivatives of where each stands first, and batches of lines have as many."""
    x, weights = np.array([3.0, 1.0, 3.0, 2.0]), np.array([1.0, 2.0, 3.0])
    gradient = ft.jit(ft.grad(lambda x: fnp.vdot(fnp.unique(x, size=3), weights)))(x)
    np.testing.assert_array_equal(gradient, [3, 1, 0, 2])
    rows = ft.vmap(lambda x: fnp.unique(x, size=3))(np.array([[1, 1, 2], [3, 2, 1]]))
    np.testing.assert_array_equal(rows, [[1, 2, 1], [1, 2, 3]])
    with pytest.raises(UnsupportedError, match="leave out `axis`"):
        fnp.unique(np.zeros((0, 2)), size=3, axis=0)
    with pytest.raises(ValueError, match="give fill_value"):
        fnp.unique(np.zeros((0, 2)), size=3)


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
def test_shifts_that_are_computed(axis: Any) -> None:
    x = np.arange(20.0).reshape(4, 5)
    rolled = ft.jit(lambda x, shift: fnp.roll(x, shift, axis))
    moved = ft.jit(ft.grad(lambda x, shift: fnp.vdot(fnp.roll(x, shift, axis), x * x)))
    for shift in (-7, 0, 3, 100):
        np.testing.assert_array_equal(rolled(x, shift), np.roll(x, shift, axis))
        there = np.roll(x * x, -shift, axis) + 2 * x * np.roll(x, shift, axis)
        np.testing.assert_allclose(moved(x, shift), there)
    each = ft.vmap(lambda shift: fnp.roll(x, shift, axis))(np.arange(6))
    np.testing.assert_array_equal(each, [np.roll(x, shift, axis) for shift in range(6)])
    with pytest.raises(DtypeError, match="roll: the shift must be an integer, but is f64"):
        rolled(x, 1.5)


def test_shifts_in_an_array() -> None:
    x, shifts = np.arange(20.0).reshape(4, 5), np.array([1, 2])
    for run in (lambda f: f, ft.jit):
        found = run(lambda x, shifts: fnp.roll(x, shifts, (0, 1)))(x, shifts)
        np.testing.assert_array_equal(found, np.roll(x, (1, 2), (0, 1)))
    assert ft.jit(lambda shift: fnp.roll(np.zeros((0, 3)), shift, 1))(1).shape == (0, 3)


def test_names_of_numpy_that_are_not_functions() -> None:
    assert fnp.float32 is np.float32
    assert fnp.pi == np.pi
    assert fnp.newaxis is None
    assert fnp.issubdtype(fnp.float32, fnp.floating)
    assert isinstance(np.zeros(2), fnp.ndarray)
    assert ft.make_jaxpr(lambda x: 1.0 if isinstance(x, fnp.ndarray) else 0.0)(1.0).eqns == []
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = fnp.no_such_name


TIER_1 = [
    "array",
    "zeros",
    "where",
    "arange",
    "ones",
    "concatenate",
    "sum",
    "asarray",
    "ndarray",
    "sqrt",
    "exp",
    "log",
    "zeros_like",
    "abs",
    "float32",
    "mean",
    "reshape",
    "max",
    "clip",
    "dot",
    "inf",
    "expand_dims",
    "stack",
    "ones_like",
    "maximum",
    "int32",
    "minimum",
    "broadcast_to",
    "pi",
    "eye",
    "sin",
    "square",
    "full",
    "linspace",
    "cos",
    "einsum",
    "matmul",
    "diag",
    "logical_and",
    "squeeze",
    "repeat",
    "shape",
    "float64",
    "all",
    "argmax",
    "newaxis",
    "isnan",
    "finfo",
    "dtype",
    "moveaxis",
    "pad",
    "nan",
    "transpose",
    "sign",
    "any",
    "split",
    "roll",
    "tanh",
    "tile",
    "swapaxes",
    "power",
    "issubdtype",
    "isfinite",
    "tensordot",
    "take",
    "ndim",
    "min",
    "allclose",
    "result_type",
    "argsort",
    "outer",
    "std",
    "bool",
    "cumsum",
    "multiply",
    "logical_or",
    "var",
    "meshgrid",
    "vstack",
    "sort",
    "hstack",
    "logical_not",
    "floating",
    "diagonal",
    "conj",
    "take_along_axis",
    "atleast_1d",
    "prod",
    "log1p",
    "size",
    "integer",
    "vectorize",
    "trace",
    "floor",
    "append",
    "round",
    "equal",
    "tril",
    "empty",
    "argmin",
    "add",
    "iscomplexobj",
    "vdot",
    "real",
    "interp",
    "linalg",
]


def test_the_names_that_research_code_uses_most_exist() -> None:
    assert [n for n in TIER_1 if not hasattr(fnp, n)] == []


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "wrap"])
def test_borders_of_members_and_their_derivatives_are_slices(mode: Any) -> None:
    """An image is padded and its gradient added up without a gather or a scatter."""
    weights = np.random.default_rng(0).normal(size=(11, 10))

    def f(x: Any) -> Any:
        return fnp.sum(fnp.pad(x, ((2, 3), (1, 2)), mode=mode) * weights)

    names = {eqn.primitive.name for eqn in ft.make_jaxpr(ft.grad(f))(np.ones((6, 7))).jaxpr.eqns}
    assert not any("gather" in name or "scatter" in name for name in names)
    x, basis = np.random.default_rng(1).normal(size=(6, 7)), np.eye(42).reshape(42, 6, 7)
    wanted = [np.sum(np.pad(b, ((2, 3), (1, 2)), mode=mode) * weights) for b in basis]
    np.testing.assert_allclose(ft.grad(f)(x).ravel(), wanted, rtol=1e-12)
