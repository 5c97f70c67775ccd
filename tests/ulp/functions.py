"""The elementary functions under measurement: domains, true values, bounds and loop IR.

A domain is a list of samplers; together they cover all exponents, subnormal numbers, and what lies
near the zeros, poles and seams of a function. `screen` is a function of extended precision by which
many samples are searched for the worst before mpmath judges them; None where NumPy has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import mpmath
import numpy as np
from numpy.typing import NDArray

from jit.lowering import complex as cx
from jit.lowering import elementwise as lowered
from jit.lowering.formulas import hypot
from jit.lowering.rules import Pair

Array: TypeAlias = NDArray[Any]
Rng: TypeAlias = np.random.Generator
Sampler: TypeAlias = Callable[[Rng, int, "np.dtype[Any]"], Array]


@dataclass(frozen=True)
class Function:
    """One function of `arity` floats; `build(b, *values)` writes it in loop IR."""

    name: str
    truth: Callable[..., Any]
    domain: Sequence[Sequence[Sampler]]
    build: Callable[..., Any]
    bound: float = 1.5
    screen: Callable[..., Any] | None = None
    arity: int = 1
    # Below it errors count in units of it, for negative arguments (the zeros between the poles of
    # lgamma and digamma) and where terms cancel (logaddexp).
    floor: Callable[..., float] | None = None
    # Whether it has poles at 0, -1, -2, ...
    poles: bool = False


# -- samplers ---------------------------------------------------------------------------------


def between(low: float, high: float) -> Sampler:
    """Uniform numbers."""
    return lambda rng, n, dtype: rng.uniform(low, high, n)


def every(low: float = 0.0, high: float = np.inf, signed: bool = True) -> Sampler:
    """Random bit patterns: all exponents alike, of magnitudes in [low, high]."""

    def make(rng: Rng, n: int, dtype: np.dtype[Any]) -> Array:
        finfo = np.finfo(dtype)
        kind = np.dtype(f"u{dtype.itemsize}")
        first = dtype.type(low).view(kind)
        last = dtype.type(min(high, float(finfo.max))).view(kind)
        x = rng.integers(first, last, n, kind, endpoint=True).view(dtype)
        return np.where(rng.random(n) < 0.5, -x, x) if signed else x

    return make


def positive(low: float = 0.0, high: float = np.inf) -> Sampler:
    """Positive bit patterns."""
    return every(low, high, signed=False)


def tiny() -> Sampler:
    """Magnitudes below 1."""
    return every(0.0, 1.0)


def around(*points: float) -> Sampler:
    """Numbers ever closer to some points, on both sides."""

    def make(rng: Rng, n: int, dtype: np.dtype[Any]) -> Array:
        centre = rng.choice(np.array(points), n)
        depth = -np.log2(float(np.finfo(dtype).eps))
        away = 2.0 ** -rng.uniform(1, depth, n) * rng.choice([-1, 1], n)
        return centre * (1 + away)

    return make


def inside_one() -> Sampler:
    """Numbers of magnitude below 1, ever closer to 1."""

    def make(rng: Rng, n: int, dtype: np.dtype[Any]) -> Array:
        depth = -np.log2(float(np.finfo(dtype).eps))
        return (1 - 2.0 ** -rng.uniform(0, depth, n)) * rng.choice([-1, 1], n)

    return make


def below(top: float) -> Sampler:
    """Numbers ever closer to -top from above."""
    near = inside_one()
    return lambda rng, n, dtype: -top * abs(near(rng, n, dtype))


def turns(unit: float) -> Sampler:
    """The floats nearest to multiples of `unit`, and to their doublings far out."""

    def make(rng: Rng, n: int, dtype: np.dtype[Any]) -> Array:
        whole = np.floor(2.0 ** rng.uniform(0, 40 if dtype.itemsize == 8 else 24, n))
        return whole * unit * rng.choice([-1, 1], n)

    return make


def by_size(double: Sampler, single: Sampler) -> Sampler:
    """One sampler for f64, another for f32."""
    return lambda rng, n, dtype: (double if dtype.itemsize == 8 else single)(rng, n, dtype)


def spans(double: tuple[float, float], single: tuple[float, float]) -> Sampler:
    """Uniform in a range by precision."""
    return by_size(between(*double), between(*single))


def near_poles(last: float) -> Sampler:
    """Numbers ever closer to the integers 1, 0, -1, ..., -last."""

    def make(rng: Rng, n: int, dtype: np.dtype[Any]) -> Array:
        depth = -np.log2(float(np.finfo(dtype).eps))
        whole = -np.floor(rng.uniform(-2, last + 1, n))
        return whole + 2.0 ** -rng.uniform(1, depth, n) * rng.choice([-1, 1], n)

    return make


# -- truths -----------------------------------------------------------------------------------


def _log_of_sum(x: Any, y: Any) -> Any:
    top, gap = max(x, y), -abs(x - y)
    return top + mpmath.log1p(mpmath.exp(gap)) if gap > -400 else top + mpmath.exp(gap)


def _log_gamma(x: Any) -> Any:
    return mpmath.re(mpmath.loggamma(x))


def _terms_of_log_gamma(x: Any) -> Any:
    """The size of what is added up by reflection."""
    if x >= 0:
        return 0.0
    return max(abs(mpmath.loggamma(1 - x)), abs(mpmath.log(abs(mpmath.sinpi(x)))), 1)


def _terms_of_digamma(x: Any) -> Any:
    """The size of what is added up by reflection."""
    return max(abs(mpmath.digamma(1 - x)), 1) if x < 0 else 0.0


def op(name: str) -> Callable[..., Any]:
    """The operation of the loop IR of that name."""
    return lambda b, *args: b.op(name, *args)


def _one(name: str, samplers: Sequence[Sampler], screen: Any = None, **options: Any) -> Function:
    truth = options.pop("truth", None) or getattr(mpmath, name)
    build = options.pop("build", None) or op(name)
    return Function(name, truth, [(s,) for s in samplers], build, screen=screen, **options)


def _two(name: str, domain: Any, truth: Any, screen: Any = None, **options: Any) -> Function:
    build = options.pop("build", None) or op(name)
    return Function(name, truth, domain, build, screen=screen, arity=2, **options)


ANGLES = [between(-10, 10), between(-1e6, 1e6), turns(np.pi / 2), turns(np.pi), every()]
GAMMA = [
    between(0, 30),
    between(0, 3),
    between(-30, 0),
    near_poles(20),
    around(1.0, 2.0, 1.4616321449683622),
    positive(),
    tiny(),
]
LINE = [every(), between(-3, 3), between(-40, 40)]

REAL: dict[str, Function] = {
    f.name: f
    for f in [
        _one("exp", [spans((-746, 710), (-104, 89)), between(-1, 1), tiny()], np.exp),
        _one(
            "exp2",
            [spans((-1075, 1024), (-150, 128)), between(-1, 1), tiny()],
            np.exp2,
            truth=lambda x: mpmath.mpf(2) ** x,
        ),
        _one("expm1", [spans((-40, 709), (-20, 88)), between(-1, 1), tiny()], np.expm1),
        _one("log", [positive(), around(1.0), between(0.5, 2)], np.log),
        _one(
            "log2",
            [positive(), around(1.0), between(0.5, 2)],
            np.log2,
            truth=lambda x: mpmath.log(x) / mpmath.log(2),
        ),
        _one("log10", [positive(), around(1.0), between(0.5, 2)], np.log10),
        _one("log1p", [positive(), between(-1, 3), every(0, 0.9999), below(1.0)], np.log1p),
        _one("sin", ANGLES, np.sin),
        _one("cos", ANGLES, np.cos),
        _one("tan", ANGLES, np.tan),
        _one("asin", [between(-1, 1), tiny(), inside_one(), around(0.5)], np.arcsin),
        _one("acos", [between(-1, 1), tiny(), inside_one(), around(0.5)], np.arccos),
        _one("atan", [between(-4, 4), every(), around(1.0, 0.4142, 2.414)], np.arctan),
        _one("sinh", [spans((-711, 711), (-90, 90)), between(-3, 3), tiny()], np.sinh),
        _one("cosh", [spans((-711, 711), (-90, 90)), between(-3, 3), tiny()], np.cosh),
        _one("tanh", [between(-20, 20), between(-1, 1), tiny()], np.tanh),
        _one("asinh", [between(-10, 10), every(), tiny()], np.arcsinh),
        _one(
            "acosh",
            [positive(1.0), between(1, 10), lambda r, n, d: abs(inside_one()(r, n, d)) ** -1.0],
            np.arccosh,
        ),
        _one("atanh", [between(-1, 1), tiny(), inside_one()], np.arctanh),
        _one(
            "logistic",
            [spans((-745, 40), (-103, 20)), between(-3, 3), tiny()],
            lambda x: 1 / (1 + np.exp(-x)),
            truth=lambda x: 1 / (1 + mpmath.exp(-x)),
        ),
        _one("erf", [between(-6, 6), between(-1, 1), tiny()]),
        _one("erfc", [spans((-7, 27.3), (-4, 10.1)), between(-1, 1), tiny()], bound=2.0),
        _one("erfinv", [between(-1, 1), tiny(), inside_one()]),
        _one(
            "lgamma",
            GAMMA,
            truth=_log_gamma,
            bound=2.0,
            floor=_terms_of_log_gamma,
            poles=True,
        ),
        _one("digamma", GAMMA, bound=2.0, floor=_terms_of_digamma, poles=True),
        _one(
            "cbrt",
            [every(), between(-10, 10)],
            np.cbrt,
            truth=lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
        ),
        _one(
            "rsqrt",
            [positive(), between(0.1, 10)],
            lambda x: 1 / np.sqrt(x),
            truth=lambda x: 1 / mpmath.sqrt(x),
            build=lowered.rsqrt,
        ),
        _two(
            "pow",
            [
                (positive(1e-3, 1e3), between(-40, 40)),
                (positive(), between(-2, 2)),
                (around(1.0), every(1.0, 1e9)),
                (around(1.0), between(-700, 700)),
            ],
            mpmath.power,
            np.power,
            bound=2.0,
        ),
        _two(
            "atan2",
            [
                (between(-1, 1), between(-1, 1)),
                (every(), every()),
                (every(0.1, 10), every(0.1, 10)),
            ],
            mpmath.atan2,
            np.arctan2,
        ),
        _two(
            "hypot",
            [
                (between(-1, 1), between(-1, 1)),
                (every(), every()),
                (every(0.1, 10), every(0.1, 10)),
            ],
            mpmath.hypot,
            np.hypot,
            build=hypot,
        ),
        _two(
            "logaddexp",
            [
                (between(-1, 1), between(-1, 1)),
                (between(-800, 800), between(-800, 800)),
                (between(-40, 40), tiny()),
                (every(), every()),
            ],
            _log_of_sum,
            np.logaddexp,
            build=lowered.logaddexp,
            floor=lambda x, y: max(abs(x), abs(y)) if abs(x - y) > 2 else 0.5,
        ),
    ]
}


# -- complex functions ------------------------------------------------------------------------


def paired(function: Callable[..., Any]) -> Callable[..., Any]:
    """A complex lowering as a function of parts."""
    return lambda b, *parts: function(
        b, *[Pair(*parts[k : k + 2]) for k in range(0, len(parts), 2)]
    )


def _complex(name: str, *ranges: tuple[float, float], bound: float = 1.5) -> Function:
    domain = [tuple(between(-s, s) for s in pair) for pair in ranges]
    domain += [(around(0.0, 1.0, -1.0), around(0.0, 1.0, -1.0)), (tiny(), tiny())]
    build = paired(getattr(cx, name))
    return Function(name, getattr(mpmath, name), domain, build, bound, arity=2)


COMPLEX: dict[str, Function] = {
    f.name: f
    for f in [
        _complex("exp", (3, 3), (80, 100)),
        _complex("log", (3, 3), (1e10, 1e10)),
        _complex("sqrt", (3, 3), (1e10, 1e10)),
        _complex("sin", (3, 3), (100, 80)),
        _complex("cos", (3, 3), (100, 80)),
        _complex("tanh", (3, 3), (30, 100)),
    ]
}
