"""Samples: for every primitive at least one line that builds operands on which its laws must hold.

The laws (tests/laws.py) run over `SAMPLES`. The data is deterministic in (sample, dtype,
variant), stays away from kinks where `smooth` says so, and is small: a law may loop over it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from functrans.ir import Primitive
from functrans.primitives import ALL

DType: TypeAlias = np.dtype[Any]
Rng: TypeAlias = np.random.Generator
Shape: TypeAlias = tuple[int, ...]
Case: TypeAlias = tuple[list[Any], dict[str, Any]]
Variant: TypeAlias = Literal["plain", "empty", "one", "odd", "scalar"]

VARIANTS: tuple[Variant, ...] = ("plain", "empty", "one", "odd")
ELEMENTWISE: tuple[Variant, ...] = (*VARIANTS, "scalar")
SHAPES: dict[Variant, Shape] = {
    "plain": (2, 3),
    "empty": (2, 0),
    "one": (1,),
    "odd": (37,),
    "scalar": (),
}

_KINDS: dict[str, tuple[DType, ...]] = {
    "b": (np.dtype(bool),),
    "i": tuple(np.dtype(f"i{n}") for n in (1, 2, 4, 8)),
    "u": tuple(np.dtype(f"u{n}") for n in (1, 2, 4, 8)),
    "f": tuple(np.dtype(f"f{n}") for n in (2, 4, 8)),
    "c": tuple(np.dtype(f"c{n}") for n in (8, 16)),
}


@dataclass(frozen=True)
class Sample:
    """Operands for one primitive, built from (rng, dtype, variant).

    kinds    : kinds of the leading operand's dtype to build for ("b", "i", "u", "f", "c"), or
               the name of the one dtype that the primitive takes
    label    : tells samples of one primitive apart
    variants : the sizes it can be built in; SHAPES says what they mean for elementwise samples
    wrt      : the operands that carry derivatives; None: all of inexact dtype
    linear   : sets of operands in which the primitive is jointly linear, for the adjoint law
    smooth   : does a numerical derivative exist at the data?
    special  : may NaN, infinities and signed zeros be put into the float operands?
    batched  : may operands be mapped over? (False: the batch rule needs a named axis)
    ulps     : how far, in units in the last place of the result, a compiled result may lie from
               the evaluator's; None: to the bit
    """

    name: str
    make: Callable[[Rng, DType, Variant], Case]
    kinds: str = "f"
    label: str = ""
    variants: tuple[Variant, ...] = VARIANTS
    wrt: tuple[int, ...] | None = None
    linear: tuple[tuple[int, ...], ...] = ()
    smooth: bool = True
    special: bool = False
    batched: bool = True
    ulps: float | None = 4

    @property
    def primitive(self) -> Primitive:
        return ALL[self.name]

    @property
    def id(self) -> str:
        return f"{self.name}-{self.label}" if self.label else self.name

    @property
    def dtypes(self) -> tuple[DType, ...]:
        """Every dtype that this sample can be built in."""
        if len(self.kinds) > 5:
            return (np.dtype(self.kinds),)
        return tuple(d for kind in self.kinds for d in _KINDS[kind])

    def case(self, dtype: Any = np.float64, variant: Variant = "plain", seed: int = 0) -> Case:
        """Operands and params; the same ones for the same arguments."""
        dtype = np.dtype(dtype)
        entropy = zlib.crc32(f"{self.id} {dtype} {variant}".encode())
        return self.make(np.random.default_rng((entropy, seed)), dtype, variant)

    def differentiable(self, operands: Sequence[Any]) -> tuple[int, ...]:
        """Positions of the operands that derivatives are taken with respect to."""
        if self.wrt is not None:
            return self.wrt
        return tuple(i for i, x in enumerate(operands) if np.asarray(x).dtype.kind in "fc")


def values(rng: Rng, shape: Shape, dtype: DType, low: float = -2, high: float = 2) -> Any:
    """Random values in [low, high] (real and imaginary part alike); integers in ten times that."""
    match dtype.kind:
        case "b":
            return rng.integers(0, 2, shape).astype(bool)
        case "i" | "u":
            floor = 0 if dtype.kind == "u" else int(10 * low)
            return rng.integers(max(floor, int(10 * low)), int(10 * high) + 1, shape).astype(dtype)
        case "c":
            re, im = rng.uniform(low, high, (2, *shape))
            return np.asarray(re + 1j * im).astype(dtype)
        case _:
            return np.asarray(rng.uniform(low, high, shape)).astype(dtype)


def spaced(rng: Rng, shape: Shape, dtype: DType) -> Any:
    """Distinct values, far from each other and from integers: nothing is tied, nothing kinks."""
    size = int(np.prod(shape))
    ranks = rng.permutation(size).reshape(shape) - size // 2
    if dtype.kind in "fc":
        return np.asarray(ranks * 0.5 + 0.23).astype(dtype)
    return np.asarray(ranks - ranks.min(initial=0) * (dtype.kind == "u")).astype(dtype)


# -- elementwise ------------------------------------------------------------------------------


def unary(name: str, kinds: str = "f", low: float = -2, high: float = 2, **flags: Any) -> Sample:
    """One operand with values in [low, high]."""

    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        return [values(rng, SHAPES[variant], dtype, low, high)], {}

    return Sample(name, make, kinds, variants=ELEMENTWISE, **{"special": True, **flags})


def binary(
    name: str,
    kinds: str = "f",
    left: tuple[float, float] = (-2, 2),
    right: tuple[float, float] = (-2, 2),
    **flags: Any,
) -> Sample:
    """Two operands of one type with values in `left` and `right`."""

    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        shape = SHAPES[variant]
        return [values(rng, shape, dtype, *left), values(rng, shape, dtype, *right)], {}

    return Sample(name, make, kinds, variants=ELEMENTWISE, **{"special": True, **flags})


def _steps(name: str) -> Sample:
    """A function that jumps at integers, at arguments away from them."""

    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        shape = SHAPES[variant]
        inner = rng.uniform(0.1, 0.4, shape) + 0.5 * rng.integers(0, 2, shape)
        return [np.asarray(rng.integers(-4, 4, shape) + inner).astype(dtype)], {}

    return Sample(name, make, "f", variants=ELEMENTWISE, special=True, ulps=None)


def _integer_pow(exponent: int, kinds: str) -> Sample:
    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        return [values(rng, SHAPES[variant], dtype, 0.3, 1.5)], {"exponent": exponent}

    return Sample("integer_pow", make, kinds, str(exponent), ELEMENTWISE, special=True, ulps=8)


def _clamp(rng: Rng, dtype: DType, variant: Variant) -> Case:
    shape = SHAPES[variant]
    low, high = values(rng, shape, dtype, -2, 0), values(rng, shape, dtype, 0.1, 2)
    return [low, values(rng, shape, dtype, -3, 3), high], {}


def _shift(name: str) -> Sample:
    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        shape = SHAPES[variant]
        counts = rng.integers(0, 8 * dtype.itemsize + 2, shape).astype(dtype)
        return [values(rng, shape, dtype, -9, 9), counts], {}

    return Sample(name, make, "iu", variants=ELEMENTWISE, ulps=None)


def _bitcast(rng: Rng, dtype: DType, variant: Variant) -> Case:
    other = {"f": "u", "i": "f" if dtype.itemsize > 1 else "u", "u": "i"}[dtype.kind]
    return [values(rng, SHAPES[variant], dtype)], {"dtype": np.dtype(f"{other}{dtype.itemsize}")}


def _threefry(rng: Rng, dtype: DType, variant: Variant) -> Case:
    return [rng.integers(0, 2**32, SHAPES[variant], np.uint32) for _ in range(4)], {}


def _half_ties(name: str) -> Sample:
    """Values on a coarse grid, so that comparisons meet equal operands."""

    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        shape = SHAPES[variant]
        return [
            np.round(values(rng, shape, dtype))
            if dtype.kind in "fc"
            else values(rng, shape, dtype, -0.2, 0.2)
            for _ in range(2)
        ], {}

    return Sample(name, make, "biufc", variants=ELEMENTWISE, special=True, ulps=None)


_ARITHMETIC = [
    unary("neg", "iufc", linear=((0,),), ulps=None),
    binary("add", "iufc", linear=((0, 1),), ulps=None),
    binary("sub", "iufc", linear=((0, 1),), ulps=None),
    binary("mul", "iufc", linear=((0,), (1,))),
    binary("scale", "fc", linear=((0,), (1,))),
    binary("div", "fc", right=(0.5, 2), linear=((0,),)),
    unary("square", "iufc"),
    unary("reciprocal", "fc", 0.3, 2),
    unary("sign", "iufc"),
    unary("abs", "iufc"),
    *map(_steps, ("floor", "ceil", "rint", "trunc")),
]
_TRANSCENDENTAL = [
    unary("exp", "fc"),
    unary("exp2", "fc"),
    unary("expm1", "fc"),
    unary("log", "fc", 0.1, 3),
    unary("log2", "fc", 0.1, 3),
    unary("log10", "fc", 0.1, 3),
    unary("log1p", "fc", -0.7, 3),
    unary("logistic", "f", -4, 4),
    unary("sin", "fc", -4, 4),
    unary("cos", "fc", -4, 4),
    unary("tan", "fc", -1.2, 1.2),
    unary("asin", "fc", -0.8, 0.8),
    unary("acos", "fc", -0.8, 0.8),
    unary("atan", "fc", -0.8, 0.8),
    unary("sinh", "fc"),
    unary("cosh", "fc"),
    unary("tanh", "fc", -1.4, 1.4),
    unary("asinh", "fc", -0.8, 0.8),
    unary("acosh", "fc", 1.2, 3),
    unary("atanh", "fc", -0.8, 0.8),
    unary("sqrt", "fc", 0.2, 3),
    unary("rsqrt", "fc", 0.2, 3),
    unary("cbrt", "f", 0.2, 3),
    unary("erf", "f", -3, 3),
    unary("erfc", "f", -3, 3),
    unary("erfinv", "f", -0.95, 0.95),
]
_BINARY = [
    binary("pow", "iufc", (0.2, 1.4), (0.1, 0.9), ulps=8),
    _integer_pow(3, "iufc"),
    _integer_pow(-3, "fc"),
    _integer_pow(11, "iufc"),
    binary("max", "biuf", ulps=None),
    binary("min", "biuf", ulps=None),
    binary("atan2"),
    binary("hypot"),
    binary("logaddexp", "f", (-4, 4), (-4, 4)),
    binary("copysign", ulps=None),
    binary("nextafter", ulps=None),
    binary("floor_divide", "iuf", (-4, 4), (0.7, 2), ulps=None),
    binary("remainder", "iuf", (-4, 4), (0.7, 2), ulps=None),
    binary("fmod", "iuf", (-4, 4), (0.7, 2), ulps=None),
    Sample("clamp", _clamp, "iuf", variants=ELEMENTWISE, special=True, ulps=None),
]
_LOGIC = [
    *(binary(name, "biu", ulps=None) for name in ("and", "or", "xor")),
    unary("not", "biu", ulps=None),
    _shift("shift_left"),
    _shift("shift_right"),
    unary("population_count", "iu", ulps=None),
    *map(_half_ties, ("eq", "ne", "lt", "le", "gt", "ge")),
    unary("is_finite", "fc", ulps=None),
    unary("is_nan", "fc", ulps=None),
    unary("signbit", "f", ulps=None),
    Sample("bitcast", _bitcast, "iuf", variants=ELEMENTWISE, ulps=None),
    Sample("threefry2x32", _threefry, "uint32", variants=ELEMENTWISE, ulps=None),
]


SAMPLES: list[Sample] = [*_ARITHMETIC, *_TRANSCENDENTAL, *_BINARY, *_LOGIC]
