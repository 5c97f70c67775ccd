"""Elementary functions are within 1.5 units in the last place of the truth, and exact at edges."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from jit.intrinsics.table import GENERATORS
from jit.loop_ir.nodes import INTRINSICS, DType
from tests.jit.loop_programs import NUMPY, elementwise, targets

TARGETS = targets()
Sampler = Callable[[np.random.Generator, int, bool], NDArray[np.float64]]


def between(low: float, high: float) -> Sampler:
    """Uniform numbers."""
    return lambda rng, n, double: rng.uniform(low, high, n)


def by_precision(double: Sampler, single: Sampler) -> Sampler:
    """One range for f64, another for f32."""
    return lambda rng, n, is_double: (double if is_double else single)(rng, n, is_double)


def tiny(rng: np.random.Generator, n: int, double: bool) -> NDArray[np.float64]:
    """Magnitudes below 1 of both signs, down to the smallest normal numbers."""
    return 10.0 ** rng.uniform(-300 if double else -37, 0, n) * rng.choice([-1, 1], n)


def positive(rng: np.random.Generator, n: int, double: bool) -> NDArray[np.float64]:
    """All positive magnitudes, subnormal ones among them."""
    end = 307 if double else 37
    return 10.0 ** rng.uniform(-end - 8, end, n)


def near_one(rng: np.random.Generator, n: int, double: bool) -> NDArray[np.float64]:
    """Numbers ever closer to 1."""
    return 1 + rng.uniform(-0.5, 0.5, n) * 10.0 ** rng.uniform(-8, 0, n)


def below_one(rng: np.random.Generator, n: int, double: bool) -> NDArray[np.float64]:
    """Numbers ever closer to 1 from below."""
    return 1 - 10.0 ** rng.uniform(-15 if double else -7, 0, n)


def quarter_turns(rng: np.random.Generator, n: int, double: bool) -> NDArray[np.float64]:
    """The floats nearest to multiples of pi/2."""
    return rng.integers(1, 10**6, n) * (np.pi / 2)


def exponents(double: tuple[float, float], single: tuple[float, float]) -> Sampler:
    """Uniform in a range by precision."""
    return by_precision(between(*double), between(*single))


EXPONENTS = exponents((-746, 710), (-104, 89))
SAMPLES: dict[str, list[Sampler]] = {
    "exp": [EXPONENTS, between(-1, 1), tiny],
    "exp2": [exponents((-1075, 1024), (-150, 128)), between(-1, 1), tiny],
    "expm1": [exponents((-40, 709), (-20, 88)), between(-1, 1), tiny],
    "log": [positive, near_one],
    "log2": [positive, near_one],
    "log10": [positive, near_one],
    "log1p": [positive, between(-1, 3), tiny],
    "sin": [between(-10, 10), between(-1e6, 1e6), quarter_turns, tiny, positive],
    "cos": [between(-10, 10), between(-1e6, 1e6), quarter_turns, tiny, positive],
    "tanh": [between(-20, 20), between(-1, 1), tiny],
    "logistic": [exponents((-745, 40), (-103, 20)), between(-3, 3), tiny],
}
SAMPLES |= {
    "tan": SAMPLES["sin"],
    "erf": [between(-7, 7), between(-1, 1), tiny],
    "erfc": [exponents((-7, 27), (-4, 10)), between(-1, 1), tiny],
    "erfinv": [between(-1, 1), tiny, below_one],
    "sinh": [exponents((-709, 709), (-88, 88)), between(-2, 2), tiny],
    "cosh": [exponents((-709, 709), (-88, 88)), between(-2, 2), tiny],
    "asin": [between(-1, 1), tiny, below_one],
    "acos": [between(-1, 1), tiny, below_one],
    "atan": [between(-10, 10), tiny, positive],
    "asinh": [between(-10, 10), tiny, positive],
    "acosh": [lambda rng, n, double: 1 + positive(rng, n, double), between(1, 10)],
    "atanh": [between(-1, 1), tiny, below_one],
    "cbrt": [between(-10, 10), tiny, positive],
}
TRUTH: dict[str, Callable[..., mpmath.mpf]] = {
    "logistic": lambda x: 1 / (1 + mpmath.exp(-x)),
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "log2": lambda x: mpmath.log(x) / mpmath.log(2),
    "pow": mpmath.power,
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
    "atan2": mpmath.atan2,
}


def units(found: float, exact: mpmath.mpf, double: bool) -> float:
    """The error in units in the last place of the exact value, subnormal results included."""
    if exact == 0:
        return 0.0 if found == 0 else math.inf
    digits, least = (53, -1074) if double else (24, -149)
    exponent = max(int(mpmath.floor(mpmath.log(abs(exact), 2))) - digits + 1, least)
    return float(abs(mpmath.mpf(found) - exact) / mpmath.ldexp(1, exponent))


def worst(name: str, args: list[NDArray[np.float64]], dtype: DType, target: str) -> float:
    """The greatest error of a function over samples."""
    double = dtype == "f64"
    with np.errstate(over="ignore"):
        rounded = [a.astype(NUMPY[dtype]) for a in args]
    found = elementwise(name, rounded, dtype, lambda b, *v: b.op(name, *v), TARGETS[target])
    largest = float(np.finfo(NUMPY[dtype]).max)
    function = TRUTH.get(name) or getattr(mpmath, name)
    errors = [0.0]
    with mpmath.workprec(200):
        for got, *given in zip(found, *rounded, strict=True):
            exact = function(*[mpmath.mpf(float(v)) for v in given])
            if abs(exact) <= largest and not np.isinf(got):
                errors.append(units(float(got), exact, double))
            elif abs(exact) < largest * (1 - 2.0**-50 if double else 1 - 2.0**-22):
                errors.append(math.inf)
    return max(errors)


@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.parametrize("name", list(SAMPLES))
def test_accuracy(name: str, target: str) -> None:
    rng = np.random.default_rng(len(name))
    dtypes: tuple[DType, DType] = ("f64", "f32")
    for dtype in dtypes:
        for sample in SAMPLES[name]:
            x = sample(rng, 100, dtype == "f64")
            assert worst(name, [x], dtype, target) <= 1.5, (dtype, sample)


@pytest.mark.parametrize("target", list(TARGETS))
def test_accuracy_of_pow(target: str) -> None:
    rng = np.random.default_rng(7)
    dtypes: tuple[DType, DType] = ("f64", "f32")
    for dtype, span in zip(dtypes, (700, 85), strict=True):
        x = np.exp(rng.uniform(-span, span, 100)).astype(NUMPY[dtype]).astype(float)
        y = rng.uniform(-span, span, 100) / np.maximum(np.abs(np.log(x)), 1e-3)
        assert worst("pow", [x, y], dtype, target) <= 1.5
        close = 1 + rng.uniform(-1e-3, 1e-3, 100)
        assert worst("pow", [close, rng.uniform(-span, span, 100) * 900], dtype, target) <= 1.5


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
    rng = np.random.default_rng(3)
    y, x = (10.0 ** rng.uniform(-20, 20, 200) * rng.choice([-1, 1], 200) for _ in range(2))
    assert worst("atan2", [y, x], "f64", target) <= 1.5
    assert worst("atan2", [y * 1e-3 + x, x], "f32", target) <= 1.5


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
        arity = 2 if name in ("pow", "atan2") else 1
        for dtype in dtypes:
            for n in (1, 3, 16):
                inputs = [np.full(n, 0.5 if name != "acosh" else 1.5, NUMPY[dtype])] * arity
                found = elementwise(name, inputs, dtype, lambda b, *v, o=name: b.op(o, *v))
                assert np.isfinite(found).all(), (name, dtype)


def test_every_formula_has_its_samples() -> None:
    binary = {"pow", "atan2", "fmod"}
    assert set(GENERATORS) == {*SAMPLES, *binary} == {*EDGES, *binary}


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
