"""Elementary functions are within 1.5 units in the last place of the truth, and exact at edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from jit.intrinsics.table import GENERATORS
from jit.loop_ir.nodes import BINARY_INTRINSICS, COMPLEX_PARTS, INTRINSICS, DType
from tests.jit.loop_programs import NUMPY, elementwise, targets
from tests.ulp.__main__ import PAGE
from tests.ulp.functions import COMPLEX, REAL
from tests.ulp.measure import worst

TARGETS = targets()
DTYPES: tuple[DType, DType] = ("f64", "f32")


@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.parametrize("name", list(REAL))
def test_accuracy(name: str, target: str) -> None:
    for dtype in DTYPES:
        error, where = worst(REAL[name], dtype, TARGETS[target], 1200)
        assert error <= REAL[name].bound, (dtype, where)


@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.parametrize("name", list(COMPLEX))
def test_accuracy_of_complex_functions(name: str, target: str) -> None:
    for dtype in DTYPES:
        error, where = worst(COMPLEX[name], dtype, TARGETS[target], 1200)
        assert error <= COMPLEX[name].bound, (dtype, where)


@pytest.mark.full
@pytest.mark.parametrize("name", list(REAL))
def test_accuracy_on_dense_samples(name: str) -> None:
    for dtype in DTYPES:
        error, where = worst(REAL[name], dtype, TARGETS["host"], 400_000, seed=1)
        assert error <= REAL[name].bound, (dtype, where)


def test_the_page_has_the_bounds_and_keeps_them() -> None:
    cells = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line[:1] == "|"]
    rows = [(row[0].strip(), *map(float, row[1:])) for row in cells if row[1].strip()[0].isdigit()]
    assert [(name, bound) for name, bound, *_ in rows] == [
        (f.name, f.bound) for f in [*REAL.values(), *COMPLEX.values()]
    ]
    for name, bound, *errors in rows:
        assert max(errors) <= bound, name


INF, NAN = float("inf"), float("nan")
EDGES: dict[str, list[tuple[float, float]]] = {
    "exp": [
        (0.0, 1),
        (-0.0, 1),
        (INF, INF),
        (-INF, 0),
        (NAN, NAN),
        (710.0, INF),
        (-746.0, 0),
        (1e308, INF),
    ],
    "exp2": [
        (0.0, 1),
        (1.0, 2),
        (-1.0, 0.5),
        (10.0, 1024),
        (INF, INF),
        (-INF, 0),
        (NAN, NAN),
        (1e308, INF),
    ],
    "expm1": [
        (0.0, 0),
        (-0.0, -0.0),
        (INF, INF),
        (-INF, -1),
        (NAN, NAN),
        (-1e308, -1),
        (710.0, INF),
    ],
    "log": [(1.0, 0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-1.0, NAN), (-INF, NAN), (NAN, NAN)],
    "log2": [(1.0, 0), (8.0, 3), (2.0**-20, -20), (0.0, -INF), (INF, INF), (-1.0, NAN), (NAN, NAN)],
    "log10": [
        (1.0, 0),
        (10.0, 1),
        (1e3, 3),
        (1e15, 15),
        (0.0, -INF),
        (INF, INF),
        (-1.0, NAN),
        (NAN, NAN),
    ],
    "log1p": [
        (0.0, 0),
        (-0.0, -0.0),
        (-1.0, -INF),
        (INF, INF),
        (-2.0, NAN),
        (-INF, NAN),
        (NAN, NAN),
    ],
    "sin": [(0.0, 0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "cos": [(0.0, 1), (-0.0, 1), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "tanh": [(0.0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (NAN, NAN), (1e30, 1), (-50.0, -1)],
    "tan": [(0.0, 0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "erf": [(0.0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (NAN, NAN), (1e300, 1), (-7.0, -1)],
    "erfc": [(0.0, 1), (-0.0, 1), (INF, 0), (-INF, 2), (NAN, NAN), (1e300, 0), (-1e300, 2)],
    "erfinv": [(0.0, 0), (-0.0, -0.0), (1.0, INF), (-1.0, -INF), (1.5, NAN), (NAN, NAN)],
    "sinh": [(0.0, 0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (NAN, NAN), (1e300, INF)],
    "cosh": [(0.0, 1), (-0.0, 1), (INF, INF), (-INF, INF), (NAN, NAN), (-1e300, INF)],
    "asin": [(0.0, 0), (-0.0, -0.0), (1.5, NAN), (INF, NAN), (NAN, NAN)],
    "acos": [(1.0, 0), (1.5, NAN), (-1.5, NAN), (INF, NAN), (NAN, NAN)],
    "atan": [(0.0, 0), (-0.0, -0.0), (NAN, NAN)],
    "asinh": [(0.0, 0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (NAN, NAN)],
    "acosh": [(1.0, 0), (0.5, NAN), (-INF, NAN), (INF, INF), (NAN, NAN)],
    "atanh": [(0.0, 0), (-0.0, -0.0), (1.0, INF), (-1.0, -INF), (2.0, NAN), (NAN, NAN)],
    "cbrt": [(0.0, 0), (-0.0, -0.0), (27.0, 3), (-8.0, -2), (INF, INF), (-INF, -INF), (NAN, NAN)],
    "lgamma": [(0.0, INF), (1.0, 0), (2.0, 0), (-3.0, INF), (INF, INF), (-INF, INF), (NAN, NAN)],
    "digamma": [(0.0, -INF), (-0.0, INF), (-3.0, NAN), (INF, INF), (-INF, NAN), (NAN, NAN)],
    "logistic": [(0.0, 0.5), (-0.0, 0.5), (INF, 1), (-INF, 0), (NAN, NAN), (1e30, 1), (-1e30, 0)],
}


def same(found: float, want: float) -> bool:
    """Equal with the sign of zero, or both NaN."""
    if math.isnan(want):
        return math.isnan(found)
    return found == want and math.copysign(1, found) == math.copysign(1, want)


@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.parametrize("name", list(EDGES))
def test_edges(name: str, target: str) -> None:
    dtypes: tuple[DType, ...] = ("f64", "f32", "f16")
    for dtype in dtypes:
        with np.errstate(over="ignore"):
            x, wants = (np.array(v).astype(NUMPY[dtype]) for v in zip(*EDGES[name], strict=True))
        found = elementwise(name, [x], dtype, lambda b, v: b.op(name, v), TARGETS[target])
        for argument, got, want, (given, _) in zip(x, found, wants, EDGES[name], strict=True):
            # Rounded to a narrow type an argument may have become another one.
            if float(argument) == given or math.isnan(argument):
                assert same(float(got), float(want)), (dtype, argument, got)


@pytest.mark.parametrize("target", list(TARGETS))
def test_functions_of_slope_one_keep_the_smallest_numbers(target: str) -> None:
    names = ["sin", "tan", "asin", "atan", "sinh", "tanh", "asinh", "atanh", "expm1", "log1p"]
    for dtype in DTYPES:
        least = np.finfo(NUMPY[dtype]).smallest_subnormal
        x = np.array([1, -1, 3, 1000], NUMPY[dtype]) * least
        for name in names:
            found = elementwise(name, [x], dtype, lambda b, v, o=name: b.op(o, v), TARGETS[target])
            assert (found == x).all(), (name, dtype, found)


@pytest.mark.parametrize("target", list(TARGETS))
def test_edges_of_pow_are_those_of_numpy(target: str) -> None:
    values = [0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 2.5, 1e-310]
    values += [2.0**53, 2.0**53 + 2, -(2.0**53), 1e300, -1e300, 1 + 2.0**-52]
    pairs = [(x, y) for x in values for y in values]
    x, y = (np.array(v) for v in zip(*pairs, strict=True))
    with np.errstate(all="ignore"):
        want = np.power(x, y)
    found = elementwise("pow", [x, y], "f64", lambda b, x, y: b.op("pow", x, y), TARGETS[target])
    for a, b, got, expected in zip(x, y, found, want, strict=True):
        exact = expected in (0.0, 1.0, INF, -INF) or math.isnan(expected)
        if exact:
            assert same(float(got), float(expected)), (a, b, got, expected)
        else:
            assert abs(got - expected) <= 1e-15 * abs(expected), (a, b, got, expected)


@pytest.mark.parametrize("target", list(TARGETS))
def test_atan2(target: str) -> None:
    values = [0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, 0.3, -0.5, 1e300, -1e300, 1e-310, 5e-324, 1e308]
    y, x = (np.array(v) for v in zip(*[(a, b) for a in values for b in values], strict=True))
    found = elementwise("a", [y, x], "f64", lambda b, y, x: b.op("atan2", y, x), TARGETS[target])
    for b, a, got in zip(y, x, found, strict=True):
        want = math.atan2(b, a)
        close = abs(got - want) <= 3e-16 * abs(want) + 5e-324
        assert close or same(float(got), want), (b, a, got, want)
        assert math.isnan(want) or math.copysign(1, got) == math.copysign(1, want)


def test_whole_powers_of_small_integers_are_exact() -> None:
    x, y = (
        np.array(v, float)
        for v in zip(*[(a, b) for a in range(1, 11) for b in range(9)], strict=True)
    )
    found = elementwise("pow", [x, y], "f64", lambda b, x, y: b.op("pow", x, y))
    assert (found == x**y).all()


def test_every_intrinsic_runs_in_every_width() -> None:
    dtypes: tuple[DType, ...] = ("f64", "f32", "f16")
    for name in sorted(INTRINSICS):
        arity = 2 if name in BINARY_INTRINSICS else 1
        for dtype in dtypes:
            for n in (1, 3, 16):
                inputs = [np.full(n, 0.5 if name != "acosh" else 1.5, NUMPY[dtype])] * arity
                found = elementwise(name, inputs, dtype, lambda b, *v, o=name: b.op(o, *v))
                assert np.isfinite(found).all(), (name, dtype)


def test_every_formula_has_its_samples() -> None:
    of_reals = set(GENERATORS) - COMPLEX_PARTS
    assert of_reals - {"fmod"} <= set(REAL)
    assert of_reals == {*EDGES, "pow", "atan2", "fmod"}


@pytest.mark.parametrize("target", list(TARGETS))
def test_remainders_are_exact(target: str) -> None:
    rng = np.random.default_rng(4)
    dtypes: tuple[DType, DType] = ("f64", "f32")
    for dtype in dtypes:
        x, y = (10.0 ** rng.uniform(-12, 12, 500) * rng.choice([-1, 1], 500) for _ in range(2))
        x[:100] = y[:100] * rng.integers(-1000, 1000, 100)
        x, y = x.astype(NUMPY[dtype]), y.astype(NUMPY[dtype])
        found = elementwise("r", [x, y], dtype, lambda b, x, y: b.rem(x, y), TARGETS[target])
        assert (found == np.fmod(x, y)).all()


def test_a_value_does_not_depend_on_its_neighbours() -> None:
    """The slow path of one lane leaves the others as they were."""
    x = np.linspace(-3, 3, 64)
    alone = elementwise("sin", [x], "f64", lambda b, v: b.op("sin", v))
    mixed = x.copy()
    mixed[::5] = 1e300
    beside = elementwise("sin", [mixed], "f64", lambda b, v: b.op("sin", v))
    keep = np.arange(64) % 5 != 0
    assert (alone[keep] == beside[keep]).all()


@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.parametrize("more", [0, 2], ids=["in line", "called"])
def test_sine_and_cosine_of_one_argument_have_the_bits_of_either_alone(
    more: int, target: str
) -> None:
    def beside(name: str, other: str) -> Any:
        def build(b: Any, v: Any) -> Any:
            for k in range(more):
                b.op("exp", b.op("mul", v, b.const(v.dtype, k)))
            made = {n: b.op(n, v) for n in (other, name)}
            return made[name]

        return build

    rng = np.random.default_rng(0)
    edges = [0.0, -0.0, INF, -INF, NAN, 1e-40, 1e-300, 2.0**-31, 1e5, 1e7, 2e9, 1e30, 1e300, np.pi]
    dtypes: tuple[DType, ...] = ("f64", "f32", "f16")
    for dtype in dtypes:
        with np.errstate(all="ignore"):
            drawn = np.concatenate([rng.normal(size=500) * 100, rng.uniform(-1, 1, 501) ** 9])
            x = np.concatenate([drawn, edges]).astype(NUMPY[dtype])
        for name, other in (("sin", "cos"), ("cos", "sin")):
            alone = elementwise(name, [x], dtype, lambda b, v, n=name: b.op(n, v), TARGETS[target])
            found = elementwise(name, [x], dtype, beside(name, other), TARGETS[target])
            np.testing.assert_array_equal(found, alone)
            assert (np.signbit(found) == np.signbit(alone))[~np.isnan(alone)].all()


def test_a_gradient_of_waves_computes_both_at_once() -> None:
    def f(x: Any) -> Any:
        return fnp.sum(fnp.sin(x) ** 2 + fnp.exp(fnp.cos(x)))

    text = ft.jit(ft.value_and_grad(f)).lower(np.ones(100)).as_text("llvm")
    assert "@ft.sin_and_cos" in text
    assert "@ft.sin." not in text
    assert "@ft.cos." not in text


def test_what_runs_once_calls_the_c_library_and_loops_have_formulas() -> None:
    def f(x: Any) -> Any:
        return fnp.sin(x) * fnp.exp(-x) + fnp.log(x + 2.0) ** x

    once = ft.jit(f).lower(0.5).as_text("llvm")
    assert "define internal" not in once.replace("define internal i32 @k", "")
    assert all(f"call double @{name}(" in once for name in ("sin", "exp", "log", "pow"))
    looped = ft.jit(f).lower(np.full(8, 0.5)).as_text("llvm")
    assert not any(f"@{name}(" in looped for name in ("exp", "log"))
    np.testing.assert_allclose(ft.jit(f)(0.5), ft.jit(f)(np.full(8, 0.5))[0], rtol=1e-15)
