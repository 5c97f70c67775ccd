"""What laws are written with: cases of samples, comparisons, and derived programs."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np

from functrans.bind import bind, eval_jaxpr
from functrans.ir import Collective, Jaxpr, aval_of, check_jaxpr, is_inexact
from functrans.primitives.derive import full
from functrans.recording import stage_walk
from functrans.transforms.jvp import jvp_jaxpr
from functrans.transforms.linearize import linearize_jaxpr
from functrans.transforms.transpose import transpose_jaxpr
from tests.samples import Sample, Variant
from tests.samples_of import samples_of

Arrays: TypeAlias = list[Any]
Mask: TypeAlias = tuple[bool, ...]
Law: TypeAlias = Callable[[str, bool], None]
T = TypeVar("T")

WIDE = {"f": np.dtype(np.float64), "c": np.dtype(np.complex128)}


# -- cases ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One sample at one dtype and size: its operands, and the program of its one equation."""

    sample: Sample
    dtype: np.dtype[Any]
    variant: Variant
    operands: Arrays
    params: dict[str, Any]
    jaxpr: Jaxpr = field(repr=False)

    @property
    def label(self) -> str:
        return f"{self.sample.id} {self.dtype} {self.variant}"

    @property
    def active(self) -> tuple[int, ...]:
        """The operands that derivatives are taken with respect to."""
        return self.sample.differentiable(self.operands)

    @property
    def rng(self) -> np.random.Generator:
        """Random numbers that are the same whenever this case is built."""
        return np.random.default_rng(zlib.crc32(self.label.encode()))

    def mask(self, positions: Iterable[int]) -> Mask:
        chosen = set(positions)
        return tuple(i in chosen for i in range(len(self.operands)))


def build(sample: Sample, dtype: Any, variant: Variant, seed: int = 0) -> Case:
    operands, params = sample.case(dtype, variant, seed)
    return Case(
        sample, np.dtype(dtype), variant, operands, params, one_equation(sample, operands, params)
    )


def one_equation(sample: Sample, operands: Arrays, params: dict[str, Any]) -> Jaxpr:
    """The program that applies the primitive once; checked."""
    avals = [aval_of(x) for x in operands]
    jaxpr = stage_walk(lambda *xs: bind(sample.primitive, *xs, **params), avals, "law")
    check_jaxpr(jaxpr)
    return jaxpr


def cases(
    name: str, thorough: bool, kinds: str = "biufc", variants: Sequence[str] = (), few: int = 0
) -> Iterator[Case]:
    """The cases of a primitive with a dtype among `kinds`; about `few` per sample (0: all)."""
    for sample in samples_of(name):
        if isinstance(sample.primitive.property, Collective):
            continue  # has no meaning outside its axis: see collective_under_its_axis
        sizes = [v for v in sample.variants if not variants or v in variants]
        pairs = [(d, v) for d in sample.dtypes if d.kind in kinds for v in sizes]
        for dtype, variant in pairs if thorough or not few else telling(pairs, sample.id, few):
            yield build(sample, dtype, variant)


def telling(pairs: Sequence[T], key: str, count: int) -> list[T]:
    """`count` of the pairs of dtype and size, and the plain ones in double precision.

    Only there do derivatives meet differences, and only several elements take every branch.
    """
    found = chosen(pairs, key, count)
    plain = [(dtype, "plain") for dtype in WIDE.values()]
    return found + [pair for pair in pairs if pair in plain and pair not in found]


def chosen(items: Sequence[T], key: str, count: int) -> list[T]:
    """`count` of the items, spread by a hash of `key`; all of them when there are no more."""
    if len(items) <= count:
        return list(items)
    ranked = sorted(range(len(items)), key=lambda i: zlib.crc32(f"{key}/{i}".encode()))
    return [items[i] for i in sorted(ranked[:count])]


def subsets(items: Sequence[int]) -> list[tuple[int, ...]]:
    """The subsets of `items` that are not empty."""
    sizes = range(1, len(items) + 1)
    return [s for n in sizes for s in itertools.combinations(items, n)]


# -- comparing --------------------------------------------------------------------------------


def agree(actual: Any, expected: Any, label: str, rtol: float, floor: float = 1.0) -> None:
    """The same shape, dtype, NaNs and infinities; |difference| <= rtol * (|expected| + scale).

    The scale is the largest finite value, at least `floor`: errors count against the whole array.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    same_form(actual, expected, label)
    if expected.dtype.kind not in "fc":
        require(actual == expected, actual, expected, label)
        return
    finite = same_edges(actual, expected, label)
    size = np.where(finite, np.abs(wide(expected)), 0)
    apart = np.where(finite, np.abs(wide(actual) - wide(expected)), 0)
    bound = rtol * (size + max(floor, float(size.max(initial=0))))
    require(
        apart <= bound,
        actual,
        expected,
        f"{label}: off by {np.max(apart / bound, initial=0):.3g} tolerances",
    )


def within_ulps(
    actual: Any, expected: Any, label: str, ulps: float | None, zeros: bool = True
) -> None:
    """At most `ulps` units in the last place apart; None: the same bits, NaNs aside.

    `zeros` says that the sign of a zero counts.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    same_form(actual, expected, label)
    if expected.dtype.kind not in "fc":
        require(actual == expected, actual, expected, label)
        return
    finite = same_edges(actual, expected, label)
    if ulps is None:
        for part in (np.real, np.imag) if actual.dtype.kind == "c" else (np.asarray,):
            a, e = part(actual), part(expected)
            signs = (np.signbit(a) == np.signbit(e)) | (not zeros)
            same = (a == e) & signs | np.isnan(e)
            require(same, actual, expected, f"{label}: other bits")
        return
    unit = np.spacing(np.where(finite, np.abs(expected), 1)).astype(float)
    apart = np.where(finite, np.abs(wide(actual) - wide(expected)), 0) / unit
    require(apart <= ulps, actual, expected, f"{label}: {apart.max(initial=0):.3g} ulps apart")


def require(holds: Any, actual: Any, expected: Any, label: str) -> None:
    """Raise AssertionError with the first places where it does not hold."""
    if np.all(holds):
        return
    places = list(zip(*np.nonzero(~np.atleast_1d(holds)), strict=True))
    a, e = np.atleast_1d(actual), np.atleast_1d(expected)
    shown = "; ".join(f"{a[p]!r} for {e[p]!r} at {tuple(map(int, p))}" for p in places[:3])
    raise AssertionError(f"{label}: {len(places)} of {a.size} differ: {shown}")


def same_form(actual: Any, expected: Any, label: str) -> None:
    given, wanted = (actual.shape, actual.dtype), (expected.shape, expected.dtype)
    assert given == wanted, f"{label}: {given} where {wanted} was expected"


def same_edges(actual: Any, expected: Any, label: str) -> Any:
    """Where both are finite; NaNs and infinities must stand at the same places."""
    nan, infinite = np.isnan(expected), np.isinf(expected)
    require(np.isnan(actual) == nan, actual, expected, f"{label}: NaNs")
    same = actual == expected if expected.dtype.kind == "f" else np.isinf(actual)
    require(
        np.where(infinite, same, np.isfinite(actual) | nan),
        actual,
        expected,
        f"{label}: infinities",
    )
    return ~nan & ~infinite


def wide(x: Any) -> Any:
    """x in the widest dtype of its kind."""
    x = np.asarray(x)
    return x.astype(WIDE[x.dtype.kind]) if x.dtype.kind in WIDE else x


def eps(*arrays: Any) -> float:
    """The largest machine epsilon among the floating arrays."""
    kinds = [np.asarray(x).dtype for x in arrays]
    return max((float(np.finfo(d).eps) for d in kinds if d.kind in "fc"), default=0.0)


def pairing(cts: Arrays, tangents: Arrays) -> tuple[float, float]:
    """The real pairing Re(sum(ct * t)), without conjugation, and the size of its terms."""
    terms = [np.real(wide(c) * wide(t)).ravel() for c, t in zip(cts, tangents, strict=True)]
    flat = np.concatenate(terms) if terms else np.zeros(0)
    return float(flat.sum()), float(np.abs(flat).sum())


def random_like(rng: np.random.Generator, x: Any) -> Any:
    """A tangent of x: values in [-1, 1], in both parts where x is complex."""
    x = np.asarray(x)
    out = rng.uniform(-1, 1, x.shape)
    if x.dtype.kind == "c":
        out = out + 1j * rng.uniform(-1, 1, x.shape)
    return np.asarray(out).astype(x.dtype)


def evaluate(jaxpr: Jaxpr, args: Arrays) -> Arrays:
    return [np.asarray(y) for y in eval_jaxpr(jaxpr, args)]


def inexact(arrays: Arrays) -> Arrays:
    return [a for a in arrays if is_inexact(np.asarray(a).dtype)]


# -- derived programs, with symbolic zeros made explicit ----------------------------------------


def jvp_program(jaxpr: Jaxpr, active: Mask) -> Jaxpr:
    """(inputs, tangents of the active ones) -> outputs, tangents of the inexact ones."""
    pushed, nonzero = jvp_jaxpr(jaxpr, active)
    check_jaxpr(pushed)
    avals = jaxpr.out_avals

    def walk(*args: Any) -> Arrays:
        results = eval_jaxpr(pushed, args)
        dots = iter(results[len(avals) :])
        pairs = zip(avals, nonzero, strict=True)
        found = [(next(dots) if flag else full(0, a)) for a, flag in pairs if is_inexact(a.dtype)]
        return [*results[: len(avals)], *found]

    return stage_walk(walk, pushed.in_avals, "law")


def vjp_program(jaxpr: Jaxpr, active: Mask) -> Jaxpr:
    """(inputs, cotangents of the inexact outputs) -> cotangents of the active inputs."""
    linear = linearize_jaxpr(jaxpr, active)
    check_jaxpr(linear.primal)
    check_jaxpr(linear.tangent)
    fixed = (False,) * linear.num_residuals + (True,) * sum(active)
    backward, nonzero = transpose_jaxpr(linear.tangent, fixed, (True,) * sum(linear.out_nonzero))
    check_jaxpr(backward)
    outs = jaxpr.out_avals
    wanted = [a for a, flag in zip(jaxpr.in_avals, active, strict=True) if flag]

    def walk(*args: Any) -> Arrays:
        inputs, cts = args[: len(active)], iter(args[len(active) :])
        residuals = eval_jaxpr(linear.primal, inputs)[len(outs) :]
        every = [next(cts) if is_inexact(a.dtype) else None for a in outs]
        given = [c for c, flag in zip(every, linear.out_nonzero, strict=True) if flag]
        bars = iter(eval_jaxpr(backward, [*residuals, *given]))
        return [next(bars) if flag else full(0, a) for a, flag in zip(wanted, nonzero, strict=True)]

    ct_avals = [a for a in outs if is_inexact(a.dtype)]
    staged = stage_walk(walk, [*jaxpr.in_avals, *ct_avals], "law")
    check_jaxpr(staged)
    return staged


def numerical_derivative(
    f: Callable[[Arrays], Arrays], primals: Arrays, dots: Sequence[Any], h: float = 5e-4
) -> Arrays:
    """The derivative of f along `dots` (None: at rest), by a fourth-order central difference."""

    def at(s: float) -> Arrays:
        pairs = zip(primals, dots, strict=True)
        return [wide(y) for y in f([x if d is None else x + s * d for x, d in pairs])]

    columns = zip(at(h), at(-h), at(2 * h), at(-2 * h), strict=True)
    return [(8 * (a - b) - (c - d)) / (12 * h) for a, b, c, d in columns]


def split(results: Arrays, jaxpr: Jaxpr) -> tuple[Arrays, Arrays]:
    return results[: len(jaxpr.outvars)], results[len(jaxpr.outvars) :]


def strided(x: Any) -> Any:
    """x as a view whose strides are twice the natural ones, the last axis running backwards."""
    x = np.asarray(x)
    if x.ndim == 0:
        return x
    room = np.zeros(tuple(2 * n for n in x.shape), x.dtype)
    view = room[tuple(slice(None, None, 2) for _ in x.shape)][..., ::-1]
    view[...] = x
    return view


def fortran(x: Any) -> Any:
    """x in Fortran order, one element into its buffer."""
    x = np.asarray(x)
    room = np.zeros(x.size + 1, x.dtype)[1:]
    view = room.reshape(x.shape, order="F")
    view[...] = x
    return view


def check_adjoint(
    label: str, cts: Arrays, moved: Arrays, bars: Arrays, dots: Arrays, wanted: Arrays
) -> None:
    for bar, x in zip(bars, wanted, strict=True):
        same_form(np.asarray(bar), np.asarray(x), label)
    left, left_size = pairing(cts, moved)
    right, right_size = pairing(bars, dots)
    bound = 32 * eps(*cts, *bars) * (left_size + right_size + 1)
    assert abs(left - right) <= bound, f"{label}: <ct, J t> = {left} but <J^T ct, t> = {right}"


def batchings(case: Case, thorough: bool) -> list[tuple[int | None, ...]]:
    """Batch dims for the operands: the hard ones first, then some (or all) of the others."""
    ndims = [np.ndim(x) for x in case.operands]
    every = (
        [
            dims
            for dims in itertools.product(*[(None, *range(n + 1)) for n in ndims])
            if any(d is not None for d in dims)
        ]
        if len(ndims) <= 4
        else []
    )
    first, last = tuple(0 for _ in ndims), tuple(ndims)
    alternating = tuple((0, n)[i % 2] for i, n in enumerate(ndims))
    alone = [tuple(n if i == j else None for j, n in enumerate(ndims)) for i in range(len(ndims))]
    hard = [first, last, alternating, *alone]
    rest = every if thorough else chosen(every, case.label, 4)
    return list(dict.fromkeys([*hard, *rest]))
