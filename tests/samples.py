"""Samples: for every primitive at least one line that builds operands on which its laws must hold.

The laws (tests/laws.py) run over `SAMPLES`. The data is deterministic in (sample, dtype,
variant), stays away from kinks where `smooth` says so, and is small: a law may loop over it.
Long because it is a table.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from functrans.ir import Aval, Primitive
from functrans.primitives import ALL
from functrans.primitives.callbacks import Jacobian
from functrans.primitives.windows import window_places

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
        if any(c.isdigit() for c in self.kinds):
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


def _polygamma(n: int) -> Sample:
    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        return [values(rng, SHAPES[variant], dtype, 0.6, 4)], {"n": n}

    return Sample("polygamma", make, "f", str(n), ELEMENTWISE, special=True, ulps=16)


def _quotient(name: str) -> Sample:
    """A function that jumps where its operands' quotient is an integer, away from there."""

    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        shape = SHAPES[variant]
        below = values(rng, shape, dtype, 0.7, 2)
        if dtype.kind != "f":
            return [values(rng, shape, dtype, -4, 4), below], {}
        ratio = rng.integers(-4, 4, shape) + rng.uniform(0.1, 0.9, shape)
        return [np.asarray(ratio * below).astype(dtype), below], {}

    return Sample(name, make, "iuf", variants=ELEMENTWISE, special=True, ulps=None)


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
    unary("lgamma", "f", 2.6, 6, ulps=256),
    unary("digamma", "f", 2, 6, ulps=64),
    _polygamma(1),
    _polygamma(2),
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
    # Where the two cancel, a unit of the larger is many of the result.
    binary("logaddexp", "f", (-4, 4), (-4, 4), ulps=64),
    binary("copysign", ulps=None),
    binary("nextafter", ulps=None),
    *map(_quotient, ("floor_divide", "remainder", "fmod")),
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


# -- structural -------------------------------------------------------------------------------

# Shapes of rank two and three for everything that has axes.
MATRICES: dict[Variant, Shape] = {
    "plain": (3, 4),
    "empty": (0, 4),
    "one": (1, 1),
    "odd": (5, 19),
    "scalar": (),
}
CUBES: dict[Variant, Shape] = {
    "plain": (2, 3, 4),
    "empty": (2, 0, 3),
    "one": (1, 1, 1),
    "odd": (3, 5, 17),
    "scalar": (),
}
Params: TypeAlias = Callable[[Shape], dict[str, Any]]


def on_cube(
    name: str, params: Params, kinds: str = "biufc", label: str = "", **flags: Any
) -> Sample:
    """One operand of rank three; `params` are made from its shape."""

    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        shape = CUBES[variant]
        return [values(rng, shape, dtype)], params(shape)

    return Sample(name, make, kinds, label, **{"special": True, "ulps": None, **flags})


_FIRST: tuple[tuple[int, ...], ...] = ((0,),)


def _broadcast_scalar(rng: Rng, dtype: DType, variant: Variant) -> Case:
    shape = MATRICES[variant]
    return [values(rng, (), dtype)], {"shape": shape, "axes": (0, 1)}


def _pad(low: Shape, high: Shape, interior: Shape) -> Callable[[Rng, DType, Variant], Case]:
    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        params = {"low": low, "high": high, "interior": interior}
        return [values(rng, MATRICES[variant], dtype), values(rng, (), dtype)], params

    return make


def _concatenate(axis: int) -> Callable[[Rng, DType, Variant], Case]:
    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        shapes = [list(CUBES[variant]) for _ in range(3)]
        shapes[1][axis] += 2
        return [values(rng, tuple(s), dtype) for s in shapes], {"axis": axis}

    return make


def _select(rng: Rng, dtype: DType, variant: Variant) -> Case:
    shape = SHAPES[variant]
    pred = values(rng, shape, np.dtype(bool))
    return [pred, values(rng, shape, dtype), values(rng, shape, dtype)], {}


def _convert(target: str, kinds: str, **flags: Any) -> Sample:
    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        return [values(rng, SHAPES[variant], dtype, 0.1, 9)], {
            "dtype": np.dtype(target),
            "weak": False,
        }

    flags = {"smooth": target in ("float64", "complex128"), **flags}
    return Sample("convert", make, kinds, target, ELEMENTWISE, ulps=None, **flags)


def _complex(rng: Rng, dtype: DType, variant: Variant) -> Case:
    shape = SHAPES[variant]
    return [values(rng, shape, dtype), values(rng, shape, dtype)], {}


def _iota(rng: Rng, dtype: DType, variant: Variant) -> Case:
    return [], {"shape": CUBES[variant], "dtype": dtype, "axis": 1}


_STRUCTURAL = [
    on_cube("broadcast", lambda s: {"shape": (s[0], 2, *s[1:], 3), "axes": (1, 4)}, linear=_FIRST),
    Sample("broadcast", _broadcast_scalar, "biufc", "scalar", linear=_FIRST, ulps=None),
    on_cube("reduce_sum", lambda s: {"axes": (1,)}, "iufc", "middle", linear=_FIRST, ulps=16),
    on_cube("reduce_sum", lambda s: {"axes": (0, 2)}, "iufc", "outer", linear=_FIRST, ulps=16),
    on_cube("reduce_sum", lambda s: {"axes": (0, 1, 2)}, "iufc", "all", linear=_FIRST, ulps=32),
    on_cube("reshape", lambda s: {"shape": (s[2], s[0] * s[1])}, linear=_FIRST),
    on_cube("reshape", lambda s: {"shape": (*s[:2], 1, s[2])}, label="unsqueeze", linear=_FIRST),
    on_cube("transpose", lambda s: {"perm": (1, 2, 0)}, linear=_FIRST),
    on_cube("transpose", lambda s: {"perm": (0, 2, 1)}, label="inner", linear=_FIRST),
    on_cube(
        "slice",
        lambda s: {
            "start": (0, s[1] // 3, s[2] - s[2] // 2),
            "limit": (s[0], s[1], s[2]),
            "stride": (1, 2, 1),
        },
        linear=_FIRST,
    ),
    on_cube(
        "slice",
        lambda s: {
            "start": (0, 0, 0),
            "limit": (s[0], s[1], max(s[2] - 1, 0)),
            "stride": (3, 1, 5),
        },
        label="strided",
        linear=_FIRST,
    ),
    on_cube(
        "slice",
        lambda s: {"start": (1, 0, 0), "limit": (1, *s[1:]), "stride": (1, 1, 2)},
        label="nothing",
        linear=_FIRST,
    ),
    Sample("pad", _pad((1, 0), (2, 3), (0, 2)), "biufc", linear=((0, 1), (0,), (1,)), ulps=None),
    Sample("pad", _pad((0, 4), (0, 1), (0, 0)), "f", "edges", linear=((0, 1),), ulps=None),
    Sample("concatenate", _concatenate(1), "biufc", linear=((0, 1, 2), (0, 2)), ulps=None),
    Sample("concatenate", _concatenate(2), "fi", "last", linear=((0, 1, 2),), ulps=None),
    Sample("concatenate", _concatenate(0), "f", "first", linear=((0, 1, 2),), ulps=None),
    on_cube("reverse", lambda s: {"axes": (0, 2)}, linear=_FIRST),
    Sample(
        "select",
        _select,
        "biufc",
        variants=ELEMENTWISE,
        linear=((1, 2), (1,), (2,)),
        special=True,
        ulps=None,
    ),
    _convert("float64", "biuf", linear=_FIRST),
    _convert("float32", "biuf", linear=_FIRST),
    _convert("float16", "biuf", linear=_FIRST),
    _convert("complex64", "biufc", linear=_FIRST),
    _convert("complex128", "biufc", linear=_FIRST),
    _convert("float64", "c", linear=_FIRST, special=True),
    _convert("int32", "biuf"),
    _convert("int8", "biu"),
    _convert("uint64", "biuf"),
    _convert("uint16", "biu"),
    _convert("int64", "biuf"),
    _convert("bool", "biufc", special=True),
    unary("real", "c", linear=_FIRST, ulps=None),
    unary("imag", "c", linear=_FIRST, ulps=None),
    unary("conj", "c", linear=_FIRST, ulps=None),
    Sample("complex", _complex, "float32", "single", ELEMENTWISE, linear=((0, 1), (0,), (1,))),
    Sample("complex", _complex, "float64", "double", ELEMENTWISE, linear=((0, 1), (0,), (1,))),
    Sample("iota", _iota, "iufc", ulps=None),
    unary("stop_gradient", "biufc", smooth=False, ulps=None),
]


# -- reductions -------------------------------------------------------------------------------


def _with_zeros(axes: tuple[int, ...]) -> Callable[[Rng, DType, Variant], Case]:
    """Factors near one, and zeros: one in some products, two in others."""

    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        x = values(rng, CUBES[variant], dtype, *((0.4, 0.8) if dtype.kind == "c" else (0.6, 1.3)))
        x[rng.random(x.shape) < 0.15] = 0
        return [x], {"axes": axes}

    return make


def _distinct(
    name: str, params: dict[str, Any], label: str = "", *, nonempty: bool = True, kinds: str = "iuf"
) -> Sample:
    """One operand of rank three without equal elements."""

    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        shape = CUBES[variant]
        if variant == "empty" and nonempty:
            shape = (0, 2, 3)
        return [spaced(rng, shape, dtype)], params

    return Sample(name, make, kinds, label, special=True, ulps=None)


def _cumprod(rng: Rng, dtype: DType, variant: Variant) -> Case:
    x = values(rng, CUBES[variant], dtype, 0.5, 1.5)
    x[rng.random(x.shape) < 0.1] = 0
    return [x], {"axis": 2, "reverse": False}


def _recurrence(params: dict[str, Any]) -> Callable[[Rng, DType, Variant], Case]:
    """Factors near one, and zeros, with which a line starts anew."""

    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        a = values(rng, CUBES[variant], dtype, 0.3, 1.3)
        a[rng.random(a.shape) < 0.1] = 0
        return [a, values(rng, CUBES[variant], dtype)], params

    return make


_BOTH_WAYS = ({"axis": 1, "reverse": False}, {"axis": 2, "reverse": True})

_REDUCTIONS = [
    Sample("reduce_prod", _with_zeros((1,)), "iufc", ulps=32),
    Sample("reduce_prod", _with_zeros((0, 2)), "iufc", "outer", ulps=64),
    Sample("reduce_prod", _with_zeros((0, 1)), "iufc", "leading", ulps=64),
    *(_distinct(f"reduce_{m}", {"axes": (1,)}) for m in ("max", "min")),
    *(_distinct(f"reduce_{m}", {"axes": (1, 2)}, "inner") for m in ("max", "min")),
    on_cube("reduce_max", lambda s: {"axes": (0,)}, "b", "bool"),
    on_cube("reduce_min", lambda s: {"axes": (2,)}, "b", "bool"),
    on_cube("reduce_and", lambda s: {"axes": (1,)}, "b"),
    on_cube("reduce_or", lambda s: {"axes": (0, 2)}, "b"),
    *(_distinct(f"arg{m}", {"axis": axis}, str(axis)) for m in ("max", "min") for axis in (1, 2)),
    *(
        on_cube(
            "cumsum", lambda s, p=p: dict(p), "iufc", f"axis{p['axis']}", linear=_FIRST, ulps=32
        )
        for p in _BOTH_WAYS
    ),
    on_cube("cumprod", lambda s: {"axis": 1, "reverse": True}, "iufc", ulps=32),
    Sample("cumprod", _cumprod, "fc", "zeros", ulps=32),
    *(
        _distinct(name, dict(p), f"axis{p['axis']}", nonempty=False)
        for name in ("cummax", "cummin")
        for p in _BOTH_WAYS
    ),
    *(
        Sample(
            "linear_recurrence", _recurrence(p), "fc", f"axis{p['axis']}", linear=((1,),), ulps=64
        )
        for p in (*_BOTH_WAYS, {"axis": 0, "reverse": False})
    ),
]


# -- indexing ---------------------------------------------------------------------------------


def _starts(rng: Rng, shape: Shape, reach: int) -> list[Any]:
    """Int64 scalars, some of them outside."""
    return [np.int64(rng.integers(-reach, n + reach)) for n in shape]


def _dynamic_slice(rng: Rng, dtype: DType, variant: Variant) -> Case:
    shape = CUBES[variant]
    sizes = (shape[0], shape[1] - shape[1] // 2, max(shape[2] - 2, 1))
    return [values(rng, shape, dtype), *_starts(rng, shape, 2)], {"sizes": sizes}


def _dynamic_update(rng: Rng, dtype: DType, variant: Variant) -> Case:
    shape = CUBES[variant]
    sizes = (shape[0], shape[1] - shape[1] // 2, max(shape[2] - 2, 1))
    update = values(rng, sizes, dtype)
    return [values(rng, shape, dtype), update, *_starts(rng, shape, 2)], {}


def _index_case(
    rng: Rng, variant: Variant, axes: tuple[int, ...], mode: str, distinct: bool
) -> tuple[Shape, list[Any], Shape]:
    """A shape for x, indices for its `axes` (duplicates and, if the mode allows, strays), and
    the shape of what they gather."""
    shape = {"plain": (4, 3, 5), "empty": (4, 3, 5), "one": (1, 1, 1), "odd": (7, 5, 9)}[variant]
    where = {"plain": (2, 4), "empty": (0, 3), "one": (1,), "odd": (13,)}[variant]
    over = 0 if mode == "raise" else 2
    indices = [rng.integers(-shape[a] - over, shape[a] + over, where) for a in axes]
    if distinct:
        size = int(np.prod(where))
        places = int(np.prod([shape[a] for a in axes]))
        chosen = rng.permutation(places)[: min(size, places)]
        where = (len(chosen),)
        indices = list(np.unravel_index(chosen, [shape[a] for a in axes]))
    rest = tuple(n for i, n in enumerate(shape) if i not in axes)
    return shape, [np.asarray(i, np.int64) for i in indices], (*indices[0].shape, *rest)


def _gather(axes: tuple[int, ...], mode: str, kinds: str = "f") -> Sample:
    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        shape, indices, _ = _index_case(rng, variant, axes, mode, distinct=False)
        return [values(rng, shape, dtype), *indices], {"axes": axes, "mode": mode}

    label = f"{mode}-{''.join(map(str, axes))}"
    linear = () if mode == "fill" else _FIRST
    smooth = mode != "fill"  # no difference of NaN and NaN is zero
    return Sample(
        "gather", make, kinds, label, linear=linear, smooth=smooth, special=True, ulps=None
    )


def _scatter(
    name: str, axes: tuple[int, ...], mode: str, kinds: str = "f", distinct: bool = False
) -> Sample:
    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        shape, indices, taken = _index_case(rng, variant, axes, mode, distinct)
        x, updates = values(rng, shape, dtype), values(rng, taken, dtype)
        if name in ("scatter_min", "scatter_max"):
            both = spaced(rng, (x.size + updates.size,), dtype)
            x, updates = both[: x.size].reshape(shape), both[x.size :].reshape(taken)
        return [x, updates, *indices], {"axes": axes, "mode": mode}

    label = f"{mode}-{''.join(map(str, axes))}{'-distinct' if distinct else ''}"
    linear = {"scatter": ((0, 1), (0,), (1,)), "scatter_add": ((0, 1), (0,), (1,))}
    return Sample(
        name,
        make,
        kinds,
        label,
        linear=linear.get(name, _FIRST if name == "scatter_mul" else ()),
        ulps=None if name in ("scatter", "scatter_min", "scatter_max") else 16,
    )


_INDEXING = [
    Sample("dynamic_slice", _dynamic_slice, "biufc", linear=_FIRST, wrt=(0,), ulps=None),
    Sample(
        "dynamic_update_slice",
        _dynamic_update,
        "biufc",
        linear=((0, 1), (0,), (1,)),
        wrt=(0, 1),
        ulps=None,
    ),
    _gather((0,), "raise", "biufc"),
    _gather((1,), "clip", "if"),
    _gather((0, 2), "fill", "biufc"),
    _gather((2, 0), "zero"),
    _gather((0, 1, 2), "clip"),
    _scatter("scatter", (0,), "raise", "biufc"),
    _scatter("scatter", (2, 0), "drop"),
    _scatter("scatter", (0, 1, 2), "clip", "f"),
    _scatter("scatter", (1,), "raise", "f", distinct=True),
    _scatter("scatter_add", (0,), "raise", "iufc"),
    _scatter("scatter_add", (2, 0), "drop", "fi"),
    _scatter("scatter_add", (1,), "clip"),
    _scatter("scatter_mul", (0,), "raise", "iufc"),
    _scatter("scatter_mul", (2, 0), "drop"),
    _scatter("scatter_mul", (1,), "clip"),
    _scatter("scatter_min", (0,), "raise", "iuf"),
    _scatter("scatter_min", (2, 1), "drop"),
    _scatter("scatter_max", (0,), "clip", "iuf"),
    _scatter("scatter_max", (0, 1, 2), "drop"),
]


# -- contraction ------------------------------------------------------------------------------


def _dot(
    label: str,
    x: Shape,
    y: Shape,
    contract: tuple[Shape, Shape],
    batch: tuple[Shape, Shape] = ((), ()),
    kinds: str = "f",
) -> Sample:
    """Sizes 1, 2, 3, ... of x and y name extents: plain uses them, odd makes them 2 n + 5."""

    def extent(n: int, variant: Variant) -> int:
        return {"plain": n, "empty": 0 if n == 2 else n, "one": 1, "odd": 2 * n + 5}[variant]

    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        shapes = (tuple(extent(n, variant) for n in s) for s in (x, y))
        return [values(rng, s, dtype) for s in shapes], {"contract": contract, "batch": batch}

    return Sample("dot_general", make, kinds, label, linear=((0,), (1,)), ulps=64)


def _conv(
    label: str,
    x: Shape,
    w: Shape,
    strides: Shape = (),
    padding: tuple[tuple[int, int], ...] = (),
    dilation: tuple[Shape, Shape] = ((), ()),
    groups: tuple[int, int] = (1, 1),
    kinds: str = "f",
) -> Sample:
    """x (N, C, *spatial), w (O, I, *window); strides, padding and dilations default to plain."""
    rank = len(x) - 2
    ones = (1,) * rank
    params = {
        "strides": strides or ones,
        "padding": padding or ((0, 0),) * rank,
        "lhs_dilation": dilation[0] or ones,
        "rhs_dilation": dilation[1] or ones,
        "groups": groups[0],
        "batch_groups": groups[1],
    }

    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        n, *rest = x
        grown = {"plain": n, "empty": 0, "one": groups[1], "odd": 3 * n}[variant]
        return [values(rng, (grown, *rest), dtype), values(rng, w, dtype)], dict(params)

    return Sample("conv", make, kinds, label, linear=((0,), (1,)), ulps=64)


def _windows(name: str, rest: Shape, window: Shape, strides: Shape, dilation: Shape) -> Sample:
    """Windows over (n, *rest), or the sum of such windows; the window has one entry per axis."""

    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        shape = ({"plain": 3, "empty": 0, "one": 1, "odd": 7}[variant], *rest)
        steps = {"strides": strides, "dilation": dilation}
        if name == "windows":
            return [values(rng, shape, dtype)], {"window": window, **steps}
        places = window_places(shape, window, strides, dilation)
        return [values(rng, places + window, dtype)], {"shape": shape, **steps}

    label = "-".join(map(str, (*window, *strides, *dilation)))
    kinds = "biufc" if name == "windows" else "iufc"
    ulps = None if name == "windows" else 64
    return Sample(name, make, kinds, label, linear=_FIRST, ulps=ulps)


_WINDOWS = [
    _windows(name, *sizes)
    for name in ("windows", "overlap")
    for sizes in (
        ((8,), (1, 2), (1, 2), (1, 1)),
        ((9,), (2, 3), (1, 2), (1, 1)),
        ((5, 7), (1, 2, 3), (1, 1, 3), (1, 2, 1)),
        ((6, 3), (1, 2, 1), (1, 5, 2), (1, 3, 1)),
    )
]


_CONTRACTION = [
    _dot("matrix", (2, 3), (3, 4), ((1,), (0,)), kinds="biufc"),
    _dot("inner", (3,), (3,), ((0,), (0,))),
    _dot("outer", (2,), (3,), ((), ()), kinds="fi"),
    _dot("vector", (3, 4), (3,), ((0,), (0,))),
    _dot("batched", (5, 2, 3), (5, 3, 4), ((2,), (1,)), ((0,), (0,)), "fc"),
    _dot("inner-batch", (3, 2, 5), (4, 5, 3), ((0,), (2,)), ((2,), (1,))),
    _dot("two", (2, 3, 4, 1), (4, 5, 3), ((2, 1), (0, 2))),
    _dot("two-batch", (2, 3, 4, 5), (3, 5, 2, 1), ((3,), (1,)), ((1, 0), (0, 2))),
    _conv("line", (2, 3, 8), (4, 3, 3), kinds="iufc"),
    _conv("stride", (1, 2, 9), (2, 2, 3), (2,), ((1, 2),)),
    _conv("dilated", (2, 2, 7), (3, 2, 2), (1,), ((2, 1),), ((2,), (3,))),
    _conv("plane", (2, 3, 6, 5), (4, 3, 3, 2), (2, 1), ((1, 1), (0, 1)), kinds="f"),
    _conv("cut", (1, 1, 8), (1, 1, 2), (1,), ((-2, -1),)),
    _conv("grouped", (2, 4, 6), (6, 2, 3), (1,), ((1, 1),), groups=(2, 1), kinds="fc"),
    _conv(
        "everything", (2, 4, 6, 5), (2, 2, 2, 3), (2, 3), ((1, 0), (2, 2)), ((2, 1), (1, 2)), (2, 1)
    ),
    _conv("batch-groups", (4, 3, 6), (4, 3, 2), (2,), ((1, 0),), groups=(1, 2)),
    _conv("depthwise", (2, 3, 5, 5), (3, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), groups=(3, 1)),
    _conv("points", (3, 2), (4, 2)),
    _conv("spread", (1, 2, 5), (2, 2, 5), (1,), ((3, 2),), ((2,), (1,))),
    _conv("both", (1, 1, 6), (2, 1, 5), (3,), ((4, 7),), ((4,), (2,))),
]


# -- ordering ---------------------------------------------------------------------------------


def _sort(axis: int, kinds: str) -> Sample:
    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        shape = MATRICES[variant]
        key = spaced(rng, shape, dtype) if dtype.kind == "f" else values(rng, shape, dtype)
        return [key], {"axis": axis, "num_keys": 1}

    return Sample("sort", make, kinds, f"axis{axis}", special=True, ulps=None)


def _sort_records(num_keys: int) -> Sample:
    """A coarse integer key with ties, a float key, and a value that travels along."""

    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        shape = MATRICES[variant]
        coarse = rng.integers(0, 3, shape)
        return [coarse, spaced(rng, shape, dtype), values(rng, shape, dtype)], {
            "axis": 1,
            "num_keys": num_keys,
        }

    return Sample("sort", make, "f", f"records{num_keys}", ulps=None)


def _top_k(rng: Rng, dtype: DType, variant: Variant) -> Case:
    shape = {"plain": (3, 6), "empty": (0, 4), "one": (1, 1), "odd": (5, 19)}[variant]
    x = spaced(rng, shape, dtype) if dtype.kind == "f" else values(rng, shape, dtype)
    return [x], {"k": (shape[-1] + 1) // 2}


_ORDERING = [
    _sort(0, "biuf"),
    _sort(1, "iuf"),
    _sort_records(1),
    _sort_records(2),
    Sample("top_k", _top_k, "biuf", special=True, ulps=None),
]


# -- collectives and effects ------------------------------------------------------------------


def _collective(name: str, kinds: str = "iuf", **params: Any) -> Sample:
    """An operand of one member; it means something only under a mapped axis named "i"."""

    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        operands = [] if name == "axis_index" else [values(rng, SHAPES[variant], dtype)]
        return operands, {"axis_name": "i", **params}

    linear = _FIRST if name in ("psum", "all_gather") else ()
    return Sample(name, make, kinds, linear=linear, batched=False, ulps=16)


def _ignore(*xs: Any) -> None:
    """A callback that does nothing."""


def _callback(rng: Rng, dtype: DType, variant: Variant) -> Case:
    return [values(rng, SHAPES[variant], dtype)], {"callback": _ignore, "ordered": False}


@dataclass(frozen=True)
class Polynomial:
    """A polynomial at every position; `times` is how often it stands for a derivative already.

    Its Jacobian has the same on the diagonal: results have their shape once more for each.
    """

    coefficients: tuple[float, ...]
    times: int = 0

    def __call__(self, x: Any) -> list[Any]:
        values = np.polynomial.polynomial.polyval(np.ravel(x), self.coefficients)
        out = np.zeros((np.size(x),) * (1 + self.times), x.dtype)
        out[(np.arange(np.size(x)),) * (1 + self.times)] = values
        return [out.reshape(np.shape(x) * (1 + self.times))]

    def jacobian(
        self, callback: Any, operands: Any, results: Any, wrt: Any, method: Any
    ) -> Jacobian:
        scaled = tuple(k * c for k, c in enumerate(self.coefficients))[1:] or (0.0,)
        inner = Polynomial(scaled, self.times + 1)
        return Jacobian(inner, "sequential", inner)


def _pure(rng: Rng, dtype: DType, variant: Variant) -> Case:
    x = values(rng, SHAPES[variant], dtype)
    polynomial = Polynomial((1.0, -2.0, 0.5, 0.25))
    params = {"batch": (), "mapped": (False,), "method": "sequential"}
    results = (Aval(x.shape, x.dtype),)
    return [x], {"callback": polynomial, "results": results, "derivative": polynomial, **params}


def _sum_and_order(x: Any, y: Any) -> list[Any]:
    """A callback of any number of members at once, with two results."""
    return [x + y, np.asarray(x < y)]


def _two_results(x: Any, **params: Any) -> dict[str, Any]:
    results = (Aval(x.shape, x.dtype), Aval(x.shape, np.dtype(bool)))
    members = {"batch": (), "mapped": (False, False)}
    return {"callback": _sum_and_order, "results": results, **members, **params}


def _at_once(method: str) -> Sample:
    def make(rng: Rng, dtype: DType, variant: Variant) -> Case:
        x, y = (values(rng, SHAPES[variant], dtype) for _ in range(2))
        return [x, y], _two_results(x, method=method, derivative=None)

    return Sample("pure_callback", make, "biuf", label=method, wrt=(), ulps=None)


def _io(rng: Rng, dtype: DType, variant: Variant) -> Case:
    x, y = (values(rng, SHAPES[variant], dtype) for _ in range(2))
    return [x, y], _two_results(x, ordered=True)


_OTHERS = [
    Sample("pure_callback", _pure, "float64", ulps=None),
    Sample("pure_callback", _pure, "complex128", label="complex", ulps=None),
    _at_once("expand_dims"),
    _at_once("broadcast_all"),
    Sample("io_callback", _io, "biuf", wrt=(), ulps=None),
    _collective("psum", "iufc"),
    _collective("pmax"),
    _collective("pmin"),
    _collective("all_gather", "biufc", axis=0, size=4),
    _collective("axis_index", "int64", size=4),
    Sample("debug_callback", _callback, "biufc"),
]


SAMPLES: list[Sample] = [
    *_ARITHMETIC,
    *_TRANSCENDENTAL,
    *_BINARY,
    *_LOGIC,
    *_STRUCTURAL,
    *_REDUCTIONS,
    *_INDEXING,
    *_CONTRACTION,
    *_WINDOWS,
    *_ORDERING,
    *_OTHERS,
]
