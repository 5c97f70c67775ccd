"""The laws that every primitive must satisfy, each checked against something that shares no code.

A law takes the name of a primitive and runs over its samples; it raises AssertionError with the
sample, dtype and combination that break it. `thorough` runs every combination, otherwise a few
are chosen by a hash of the name, beside those known to be hard.
"""

from __future__ import annotations

import functools
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np

from functrans.bind import bind, eval_jaxpr
from functrans.ir import (
    Collective,
    Elementwise,
    Jaxpr,
    MappedAxis,
    aval_of,
    check_jaxpr,
    is_inexact,
    jaxprs_in,
)
from functrans.primitives.derive import full
from functrans.recording import stage_walk
from functrans.transforms import batch_jaxpr, jvp_jaxpr, linearize_jaxpr, transpose_jaxpr
from tests.definitions import DEFINITIONS
from tests.native import compiled
from tests.samples import Sample, Variant
from tests.samples_of import samples_of

Arrays: TypeAlias = list[Any]
Mask: TypeAlias = tuple[bool, ...]
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
    """The cases of a primitive with a dtype among `kinds`; at most `few` per sample (0: all)."""
    for sample in samples_of(name):
        if isinstance(sample.primitive.property, Collective):
            continue  # has no meaning outside its axis: see collective_under_its_axis
        sizes = [v for v in sample.variants if not variants or v in variants]
        pairs = [(d, v) for d in sample.dtypes if d.kind in kinds for v in sizes]
        for dtype, variant in pairs if thorough or not few else chosen(pairs, sample.id, few):
            yield build(sample, dtype, variant)


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


# -- the laws -----------------------------------------------------------------------------------


def abstract_eval_predicts_impl(name: str, thorough: bool) -> None:
    """Shapes and dtypes are known without computing, whatever the layout of the operands."""
    for case in cases(name, thorough):
        predicted = [(a.shape, a.dtype) for a in case.jaxpr.out_avals]
        before = [np.array(x) for x in case.operands]
        plain = evaluate(case.jaxpr, case.operands)
        for layout in (np.asarray, strided, fortran):
            operands = [layout(x) for x in case.operands]
            outs = [np.asarray(y) for y in case.sample.primitive.impl(*operands, **case.params)]
            found = [(y.shape, y.dtype) for y in outs]
            assert found == predicted, f"{case.label}: {found} where {predicted} was predicted"
            for y, expected in zip(outs, plain, strict=True):
                agree(y, expected, f"{case.label} in another layout", 8 * eps(y))
        for x, old in zip(case.operands, before, strict=True):
            assert np.array_equal(x, old, equal_nan=old.dtype.kind in "fc"), (
                f"{case.label}: impl wrote into an operand"
            )


def impl_is_its_definition(name: str, thorough: bool) -> None:
    """Evaluation gives what the primitive means, where that is more than one function of NumPy."""
    definition = DEFINITIONS.get(name)
    if definition is None:
        return
    for case in cases(name, thorough, few=4):
        if case.dtype.kind in "fc" and case.dtype != WIDE[case.dtype.kind]:
            continue  # lower precisions are held against this one by the other laws
        expected = definition(*map(np.asarray, case.operands), **case.params)
        for y, e in zip(evaluate(case.jaxpr, case.operands), expected, strict=True):
            agree(y, e, f"{case.label}: by definition", 1e-13)


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


def jvp_is_the_derivative(name: str, thorough: bool) -> None:
    """Against central differences in double precision, and in lower ones against double."""
    for case in cases(name, thorough, "fc", few=6):
        if not case.active or not case.sample.smooth:
            continue
        rng = case.rng
        dots = [
            random_like(rng, x) if i in case.active else None for i, x in enumerate(case.operands)
        ]
        given = [d for d in dots if d is not None]
        results = evaluate(
            jvp_program(case.jaxpr, case.mask(case.active)), [*case.operands, *given]
        )
        outs, moved = split(results, case.jaxpr)
        for y, again in zip(evaluate(case.jaxpr, case.operands), outs, strict=True):
            agree(again, y, f"{case.label}: value under jvp", 8 * eps(y))
        if case.dtype == WIDE[case.dtype.kind]:
            expected, rtol = numerical_jvp(case, dots), 1e-7 + 64 * eps(*moved)
        elif tied_to_its_dtype(case):
            continue
        else:
            expected, rtol = jvp_in_double(case, given), 32 * eps(*moved, *inexact(case.operands))
        for dot, reference in zip(moved, expected, strict=True):
            agree(wide(dot), reference, f"{case.label}: jvp", rtol)


def split(results: Arrays, jaxpr: Jaxpr) -> tuple[Arrays, Arrays]:
    return results[: len(jaxpr.outvars)], results[len(jaxpr.outvars) :]


def partials_are_the_derivative(name: str, thorough: bool) -> None:
    """The partial derivatives that an elementwise record keeps as data, whatever its jvp uses."""
    for case in cases(name, thorough, "fc", ("plain", "odd", "scalar"), few=3):
        known = case.sample.primitive.property
        if not isinstance(known, Elementwise) or known.partials is None:
            continue
        if not case.sample.smooth or case.dtype != WIDE[case.dtype.kind]:
            continue
        (out,) = evaluate(case.jaxpr, case.operands)
        for i, partial in enumerate(known.partials(out, *case.operands, **case.params)):
            dots = [np.ones_like(x) if i == j else None for j, x in enumerate(case.operands)]
            f = lambda xs, case=case: evaluate(case.jaxpr, xs)
            (expected,) = numerical_derivative(f, case.operands, dots)
            found = np.broadcast_to(0.0 if partial is None else partial, expected.shape)
            agree(found.astype(expected.dtype), expected, f"{case.label}: partial {i}", 1e-7)


def tied_to_its_dtype(case: Case) -> bool:
    """Do the params name a dtype or hold a program, so that other operands would not fit?"""
    return "dtype" in case.params or any(True for _ in jaxprs_in(case.params))


def numerical_jvp(case: Case, dots: Sequence[Any]) -> Arrays:
    """What is linear in all that moves can take a long step, in which no rounding is felt."""
    linear = any(set(case.active) <= set(group) for group in case.sample.linear)
    f = lambda xs: inexact(evaluate(case.jaxpr, xs))
    return numerical_derivative(f, case.operands, dots, 0.5 if linear else 5e-4)


def jvp_in_double(case: Case, given: Arrays) -> Arrays:
    operands = [wide(x) for x in case.operands]
    jaxpr = one_equation(case.sample, operands, case.params)
    program = jvp_program(jaxpr, case.mask(case.active))
    return split(evaluate(program, [*operands, *map(wide, given)]), jaxpr)[1]


def jvp_is_linear(name: str, thorough: bool) -> None:
    """In the tangents; a symbolic zero is a zero, for every choice of operands that move."""
    for case in cases(name, thorough, "fc", few=3):
        if not case.active:
            continue
        push = functools.partial(_pushed, case, case.active)
        rng = case.rng
        first = [random_like(rng, case.operands[i]) for i in case.active]
        second = [random_like(rng, case.operands[i]) for i in case.active]
        mixed = [(2 * a - 3 * b).astype(a.dtype) for a, b in zip(first, second, strict=True)]
        for whole, a, b in zip(push(mixed), push(first), push(second), strict=True):
            agree(whole, 2 * a - 3 * b, f"{case.label}: linearity", 32 * eps(a, *first))
        for some in subsets(case.active):
            zeroed = [d if i in some else 0 * d for i, d in zip(case.active, first, strict=True)]
            given = [d for i, d in zip(case.active, first, strict=True) if i in some]
            for y, expected in zip(_pushed(case, some, given), push(zeroed), strict=True):
                agree(y, expected, f"{case.label}: zero tangents but for {some}", 8 * eps(y))


def _pushed(case: Case, some: tuple[int, ...], dots: Arrays) -> Arrays:
    """The tangents of the inexact outputs when the operands `some` move along `dots`."""
    program = jvp_program(case.jaxpr, case.mask(some))
    return split(evaluate(program, [*case.operands, *dots]), case.jaxpr)[1]


def transpose_is_the_adjoint(name: str, thorough: bool) -> None:
    """<ct, J t> = <J^T ct, t>, for the transpose rule itself and for the derivative."""
    for case in cases(name, thorough, "fc", few=6):
        rng = case.rng
        for group in case.sample.linear:
            for some in subsets(group) if thorough else {group, group[:1], group[-1:]}:
                _check_transpose_rule(case, tuple(some), rng)
        for some in subsets(case.active) if thorough else {case.active, case.active[-1:]}:
            if some:
                _check_vjp(case, some, rng)


def _check_transpose_rule(case: Case, some: tuple[int, ...], rng: np.random.Generator) -> None:
    """The program is linear in `some` while the other operands stay; those given zeros drop out."""
    label = f"{case.label}: transpose in operands {some}"
    dots = {i: random_like(rng, case.operands[i]) for i in some}
    whole = next(g for g in case.sample.linear if set(some) <= set(g))
    moved = [dots.get(i, 0 * x if i in whole else x) for i, x in enumerate(case.operands)]
    outs = evaluate(
        case.jaxpr,
        [
            np.asarray(x).astype(np.asarray(o).dtype)
            for x, o in zip(moved, case.operands, strict=True)
        ],
    )
    cts = [random_like(rng, y) for y in outs]
    backward, nonzero = transpose_jaxpr(case.jaxpr, case.mask(some), (True,) * len(cts))
    check_jaxpr(backward)
    fixed = [x for i, x in enumerate(case.operands) if i not in some]
    found = iter(evaluate(backward, [*fixed, *cts]))
    wanted = [case.operands[i] for i in some]
    bars = [
        next(found) if flag else np.zeros_like(x) for x, flag in zip(wanted, nonzero, strict=True)
    ]
    _check_adjoint(label, cts, outs, bars, [dots[i] for i in some], wanted)


def _check_vjp(case: Case, some: tuple[int, ...], rng: np.random.Generator) -> None:
    dots = [random_like(rng, case.operands[i]) for i in some]
    results = evaluate(jvp_program(case.jaxpr, case.mask(some)), [*case.operands, *dots])
    outs, moved = split(results, case.jaxpr)
    cts = [random_like(rng, y) for y in inexact(outs)]
    bars = evaluate(vjp_program(case.jaxpr, case.mask(some)), [*case.operands, *cts])
    wanted = [case.operands[i] for i in some]
    _check_adjoint(f"{case.label}: vjp in operands {some}", cts, moved, bars, dots, wanted)


def _check_adjoint(
    label: str, cts: Arrays, moved: Arrays, bars: Arrays, dots: Arrays, wanted: Arrays
) -> None:
    for bar, x in zip(bars, wanted, strict=True):
        same_form(np.asarray(bar), np.asarray(x), label)
    left, left_size = pairing(cts, moved)
    right, right_size = pairing(bars, dots)
    bound = 32 * eps(*cts, *bars) * (left_size + right_size + 1)
    assert abs(left - right) <= bound, f"{label}: <ct, J t> = {left} but <J^T ct, t> = {right}"


def batch_is_a_loop(name: str, thorough: bool) -> None:
    """For every choice of mapped operands and of the axis that each is mapped along."""
    for case in cases(name, thorough, few=3):
        if not case.sample.batched or not case.operands:
            continue
        size = 3
        members = [case, *(build(case.sample, case.dtype, case.variant, s) for s in range(1, size))]
        _require_alike(members)
        for dims in batchings(case, thorough):
            _check_batch(members, dims)
        _check_batch(members[:1], batchings(case, False)[0])


def _require_alike(members: Sequence[Case]) -> None:
    forms = [[aval_of(x) for x in m.operands] for m in members]
    params = [sorted(m.params.items(), key=lambda kv: kv[0]) for m in members]
    alike = all(f == forms[0] for f in forms) and all(p == params[0] for p in params)
    assert alike, f"{members[0].label}: a sample's shapes and params must not depend on the seed"


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


def _check_batch(members: Sequence[Case], dims: tuple[int | None, ...]) -> None:
    case, size = members[0], len(members)
    label = f"{case.label}: batch dims {dims} of {size}"
    columns = list(zip(*[m.operands for m in members], strict=True))
    stacked = [x[0] if d is None else np.stack(x, d) for x, d in zip(columns, dims, strict=True)]
    batched, out_dims = batch_jaxpr(case.jaxpr, MappedAxis(size), dims)
    check_jaxpr(batched)
    outs = evaluate(batched, stacked)
    one = lambda i: [x[0] if d is None else x[i] for x, d in zip(columns, dims, strict=True)]
    loop = [evaluate(case.jaxpr, one(i)) for i in range(size)]
    for y, d, *ys in zip(outs, out_dims, *loop, strict=True):
        expected = np.stack(ys)
        found = np.broadcast_to(y, expected.shape) if d is None else np.moveaxis(y, d, 0)
        agree(found, expected, label, 32 * eps(y))


def derivative_of_batch_is_a_loop(name: str, thorough: bool) -> None:
    """Differentiating the batched program gives the members' derivatives, in the batched layout.

    An operand that all members share gets the sum of their cotangents.
    """
    for case in cases(name, thorough, "fc", ("plain", "odd"), few=2):
        if not case.sample.batched or not case.active or case.dtype.itemsize < 8:
            continue
        members = [case, *(build(case.sample, case.dtype, case.variant, s) for s in (1, 2))]
        for dims in batchings(case, False) if thorough else chosen(batchings(case, False), name, 3):
            _check_derivative_of_batch(members, dims)


def _check_derivative_of_batch(members: Sequence[Case], dims: tuple[int | None, ...]) -> None:
    case, size, rng = members[0], len(members), members[0].rng
    label = f"{case.label}: vjp of batch dims {dims}"
    mask = case.mask(case.active)
    columns = list(zip(*[m.operands for m in members], strict=True))
    stacked = [x[0] if d is None else np.stack(x, d) for x, d in zip(columns, dims, strict=True)]
    front = (True,) * len(case.jaxpr.outvars)
    batched = batch_jaxpr(case.jaxpr, MappedAxis(size), dims, front)[0]
    cts = [random_like(rng, y) for y in inexact(evaluate(batched, stacked))]
    bars = evaluate(vjp_program(batched, mask), [*stacked, *cts])
    single = vjp_program(case.jaxpr, mask)
    loop = []
    for i in range(size):
        own = [x[0] if d is None else x[i] for x, d in zip(columns, dims, strict=True)]
        loop.append(evaluate(single, [*own, *[c[i] for c in cts]]))
    wanted = [dims[i] for i in case.active]
    for bar, d, *each in zip(bars, wanted, *loop, strict=True):
        expected = np.sum(each, 0, each[0].dtype) if d is None else np.stack(each, d)
        agree(bar, expected, label, 256 * eps(bar))


def second_order_agrees(name: str, thorough: bool) -> None:
    """Forward over forward and reverse over reverse, against differences of first derivatives."""
    for case in cases(name, thorough, "fc", ("plain", "one", "scalar"), few=4):
        if not case.active or not case.sample.smooth or case.dtype != WIDE[case.dtype.kind]:
            continue
        if any(y.dtype != WIDE[y.dtype.kind] for y in inexact(evaluate(case.jaxpr, case.operands))):
            continue
        _check_forward_twice(case)
        _check_reverse_twice(case)


def _check_forward_twice(case: Case) -> None:
    rng = case.rng
    first = jvp_program(case.jaxpr, case.mask(case.active))
    dots = [random_like(rng, case.operands[i]) for i in case.active]
    inputs = [*case.operands, *dots]
    moving = (*case.mask(case.active), *[True] * len(dots))
    ways = [random_like(rng, x) if m else None for x, m in zip(inputs, moving, strict=True)]
    second = jvp_program(first, moving)
    found = evaluate(second, [*inputs, *[w for w in ways if w is not None]])[len(first.outvars) :]
    expected = numerical_derivative(lambda xs: inexact(evaluate(first, xs)), inputs, ways)
    for y, reference in zip(found, expected, strict=True):
        agree(wide(y), reference, f"{case.label}: jvp of jvp", 1e-6)


def _check_reverse_twice(case: Case) -> None:
    rng = case.rng
    first = vjp_program(case.jaxpr, case.mask(case.active))
    cts = [random_like(rng, y) for y in inexact(evaluate(case.jaxpr, case.operands))]
    inputs = [*case.operands, *cts]
    moving = (*case.mask(case.active), *[True] * len(cts))
    ways = [random_like(rng, x) if m else None for x, m in zip(inputs, moving, strict=True)]
    second = vjp_program(first, moving)
    weights = [random_like(rng, case.operands[i]) for i in case.active]
    bars = evaluate(second, [*inputs, *weights])
    moved = numerical_derivative(lambda xs: evaluate(first, xs), inputs, ways)
    left, left_size = pairing(weights, moved)
    right, right_size = pairing(bars, [w for w in ways if w is not None])
    bound = 1e-6 * (left_size + right_size + 1)
    assert abs(left - right) <= bound, f"{case.label}: vjp of vjp pairs to {right}, not {left}"


# -- collectives ----------------------------------------------------------------------------------


def collective_under_its_axis(name: str, thorough: bool) -> None:
    """Under vmap a collective is a function of all members: its value, jvp and vjp are its own."""
    for sample in samples_of(name):
        if not isinstance(sample.primitive.property, Collective):
            continue
        pairs = [(d, v) for d in sample.dtypes for v in sample.variants]
        for dtype, variant in pairs if thorough else chosen(pairs, sample.id, 6):
            size = sample.case(dtype, variant)[1].get("size", 4)
            members = [build(sample, dtype, variant, s) for s in range(size)]
            _check_collective(members)


def _check_collective(members: list[Case]) -> None:
    case, size = members[0], len(members)
    axis = MappedAxis(size, case.params["axis_name"])

    def over_members(jaxpr: Jaxpr) -> Jaxpr:
        front, outs = (0,) * len(jaxpr.invars), (True,) * len(jaxpr.outvars)
        return batch_jaxpr(jaxpr, axis, front, outs)[0]

    whole = over_members(case.jaxpr)
    stacked = [np.stack(x) for x in zip(*[m.operands for m in members], strict=True)]
    (value,) = evaluate(whole, stacked)
    expected = np.broadcast_to(written_out(case, stacked, size), value.shape)
    agree(value, expected.astype(value.dtype), f"{case.label}: value", 8 * eps(value))
    if case.operands:
        unmapped = (None,) * len(case.operands)
        (same,) = evaluate(batch_jaxpr(case.jaxpr, axis, unmapped, (True,))[0], case.operands)
        alike = [np.stack([x] * size) for x in case.operands]
        expected = np.broadcast_to(written_out(case, alike, size), same.shape)
        agree(same, expected.astype(same.dtype), f"{case.label}: shared value", 8 * eps(same))
    if not case.active or case.dtype != WIDE.get(case.dtype.kind):
        return
    rng, mask = case.rng, case.mask(case.active)
    dots, cts = [random_like(rng, x) for x in stacked], [random_like(rng, value)]
    moved = evaluate(over_members(jvp_program(case.jaxpr, mask)), [*stacked, *dots])[1:]
    reference = numerical_derivative(lambda xs: evaluate(whole, xs), stacked, dots)
    agree(moved[0], reference[0], f"{case.label}: jvp", 1e-7)
    bars = evaluate(over_members(vjp_program(case.jaxpr, mask)), [*stacked, *cts])
    _check_adjoint(f"{case.label}: vjp", cts, moved, bars, dots, stacked)


def written_out(case: Case, stacked: Arrays, size: int) -> Any:
    """What each member should see, by NumPy, the members along the first axis."""
    match case.sample.name:
        case "psum":
            return np.sum(stacked[0], 0, dtype=stacked[0].dtype)
        case "pmax":
            return np.max(stacked[0], 0)
        case "pmin":
            return np.min(stacked[0], 0)
        case "all_gather":
            return np.moveaxis(stacked[0], 0, case.params["axis"])
        case "axis_index":
            return np.arange(size)
        case name:
            raise AssertionError(f"say here what {name} is among its members")


# -- native code --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A program to be compiled, the inputs to run it on, and how far its results may lie off.

    What is expected is the program's evaluation, or that of `reference`, a wider one.
    """

    label: str
    jaxpr: Jaxpr
    inputs: list[Arrays]
    check: Callable[[Any, Any, str], None]
    reference: Jaxpr | None = None

    def expected(self, inputs: Arrays) -> Arrays:
        if self.reference is None:
            return evaluate(self.jaxpr, inputs)
        results = evaluate(self.reference, [wide(x) for x in inputs])
        pairs = zip(results, self.jaxpr.out_avals, strict=True)
        return [y.astype(aval.dtype) for y, aval in pairs]


def compiled_is_impl(name: str, thorough: bool) -> None:
    """Every dtype and size, other layouts, NaN and infinities: native code gives impl's results."""
    found: list[Job] = []
    for case in cases(name, thorough, few=24):
        found.append(_value_job(case))
        by_position = isinstance(case.sample.primitive.property, Elementwise)
        if case.dtype.kind == "c" and by_position and case.sample.special:
            found.append(_hard_job(case))
    run_jobs(found)


def _value_job(case: Case) -> Job:
    operands = case.operands
    inputs = [operands, [strided(x) for x in operands], [fortran(x) for x in operands]]
    if case.sample.special:
        inputs += [_with_edges(case, s) for s in range(2)]
    return Job(case.label, case.jaxpr, inputs, functools.partial(_check_value, case.sample))


EITHER_ZERO = {"max", "min", "clamp", "nextafter", "sort", "top_k"} | {
    f"{fold}_{end}" if fold == "reduce" else f"{fold}{end}"
    for fold in ("reduce", "cum", "scatter_")
    for end in ("max", "min")
}
"""Primitives for which NumPy does not fix which of two equal zeros comes out (first)."""


def _check_value(sample: Sample, actual: Any, expected: Any, label: str) -> None:
    """By units in the last place; what sums up is measured against the whole array."""
    ulps = sample.ulps
    if ulps is None or isinstance(sample.primitive.property, Elementwise):
        allowed = 2 * ulps if ulps and np.iscomplexobj(expected) else ulps
        within_ulps(actual, expected, label, allowed, sample.name not in EITHER_ZERO)
    else:
        agree(actual, expected, label, ulps * eps(expected))


COMPLEX_EDGES = (
    *(complex(np.nan, 1), complex(1, np.nan), complex(np.nan, np.nan), complex(np.inf, 0)),
    *(complex(0, -np.inf), complex(np.inf, np.nan), complex(-0.0, 0.0), 1 + 0j, 1 + 1j, 1 - 1j),
)
"""For what must be right to the bit: comparisons, tests, and what only moves parts."""

HARD_POINTS = (
    *(0.6 + 0.8j, 0.6 - 0.8j, -0.8 + 0.6j, 0.999 + 0.04j, 1.001 - 0.03j, -1.0005 + 0.01j),
    *(0.01 + 0.999j, -0.02 - 1.001j, 1e-3 + 2e-3j, -3e-4 + 1e-3j, 8 + 2j, -8 - 3j, 3 - 0.5j),
    *(-7 + 0.25j, 0.5 + 7j, -0.25 - 6j, 2 + 1e-3j, -2 - 1e-3j, 0.5 + 1e-3j, -0.5 - 1e-3j),
)
"""Complex numbers near the unit circle, branch points and cuts, small ones and large ones."""


def _hard_job(case: Case) -> Job:
    """Complex functions where they cancel; NumPy itself is only right there in a wider dtype."""
    rng = case.rng
    points = [rng.permutation(HARD_POINTS).astype(case.dtype) for _ in case.operands]
    jaxpr = one_equation(case.sample, points, case.params)
    doubled = one_equation(case.sample, [wide(x) for x in points], case.params)
    rtol = 1e-10 if case.dtype == WIDE["c"] else 8 * eps(*points)

    def check(actual: Any, expected: Any, label: str) -> None:
        if expected.dtype.kind != "c":
            agree(actual, expected, label, rtol)
            return
        apart = np.abs(wide(actual) - wide(expected))
        require(apart <= rtol * np.abs(wide(expected)), actual, expected, label)

    return Job(f"{case.label} at hard points", jaxpr, [points], check, doubled)


def _with_edges(case: Case, seed: int) -> Arrays:
    """The operands with extreme values here and there: NaN, infinities, zeros, the ends of ints."""
    rng = np.random.default_rng(zlib.crc32(f"{case.label} {seed}".encode()))
    by_position = isinstance(case.sample.primitive.property, Elementwise)
    found: Arrays = []
    for x in case.operands:
        x = np.array(x)
        if x.dtype.kind == "f":
            info = np.finfo(x.dtype)
            edges = [np.nan, np.inf, -np.inf, 0.0, -0.0, info.max, info.tiny, info.tiny / 4, 1.0]
        elif x.dtype.kind in "iu" and by_position:
            ends = np.iinfo(x.dtype)
            edges = [ends.min, ends.max, 0, 1, ends.max // 2]
            if case.sample.name == "pow":  # NumPy refuses negative powers of integers
                edges = [e for e in edges if e >= 0]
        elif x.dtype.kind == "c" and by_position and case.sample.ulps is None:
            edges = COMPLEX_EDGES
        else:
            found.append(x)
            continue
        where = rng.random(x.shape) < 0.6
        with np.errstate(all="ignore"):
            picked = np.asarray(edges, x.dtype)[rng.integers(0, len(edges), x.shape)]
        found.append(np.where(where, picked, x))
    return found


def compiled_derivatives(name: str, thorough: bool) -> None:
    """Native code of jvp, vjp, the batched program and second derivatives, against evaluation."""
    found: list[Job] = []
    for case in cases(name, thorough, "fc", ("plain", "odd", "empty"), few=3):
        found += _derivative_jobs(case, thorough)
    run_jobs(found)


def _derivative_jobs(case: Case, thorough: bool) -> Iterator[Job]:
    rng = case.rng
    rtol = 256 * eps(*inexact(case.operands))
    check = lambda a, e, label: agree(a, e, label, rtol)
    if case.sample.batched and case.operands:
        dims = chosen(batchings(case, False), case.label, 1)[0]
        pairs = zip(case.operands, dims, strict=True)
        stacked = [x if d is None else np.stack([x] * 3, d) for x, d in pairs]
        batched = batch_jaxpr(case.jaxpr, MappedAxis(3), dims)[0]
        yield Job(f"{case.label}: vmap", batched, [stacked], check)
    if not case.active:
        return
    mask = case.mask(case.active)
    dots = [random_like(rng, case.operands[i]) for i in case.active]
    cts = [random_like(rng, y) for y in inexact(evaluate(case.jaxpr, case.operands))]
    push, pull = jvp_program(case.jaxpr, mask), vjp_program(case.jaxpr, mask)
    yield Job(f"{case.label}: jvp", push, [[*case.operands, *dots]], check)
    yield Job(f"{case.label}: vjp", pull, [[*case.operands, *cts]], check)
    if thorough:
        ways = [random_like(rng, x) for x in [*(case.operands[i] for i in case.active), *dots]]
        twice = jvp_program(push, (*mask, *[True] * len(dots)))
        yield Job(f"{case.label}: jvp of jvp", twice, [[*case.operands, *dots, *ways]], check)


def run_jobs(jobs: list[Job]) -> None:
    """Compile all jobs as one program, run it on each set of inputs, compare with evaluation."""
    if not jobs:
        return
    program = compile_together(jobs)
    rounds = max(len(job.inputs) for job in jobs)
    for r in range(rounds):
        given = [job.inputs[r % len(job.inputs)] for job in jobs]
        results = iter(program([x for inputs in given for x in inputs]))
        for job, inputs in zip(jobs, given, strict=True):
            expected = job.expected(inputs)
            found = [np.asarray(next(results)) for _ in expected]
            for y, e in zip(found, expected, strict=True):
                job.check(y, e, f"{job.label}, compiled, inputs {r % len(job.inputs)}")


def compile_together(jobs: list[Job]) -> Callable[[Arrays], Arrays]:
    """One executable for all jobs; if it cannot be made, the error names the first culprit."""
    try:
        return compiled(together([job.jaxpr for job in jobs]))
    except Exception:
        for job in jobs:
            try:
                compiled(job.jaxpr)
            except Exception as error:
                raise AssertionError(
                    f"{job.label}: does not compile: {error!r}\n{job.jaxpr}"
                ) from error
        raise


def together(jaxprs: Sequence[Jaxpr]) -> Jaxpr:
    """The programs side by side, as one."""
    return Jaxpr(
        [v for j in jaxprs for v in j.invars],
        [e for j in jaxprs for e in j.eqns],
        [a for j in jaxprs for a in j.outvars],
    )


Law: TypeAlias = Callable[[str, bool], None]


def silent(law: Law) -> Law:
    """The law without NumPy's warnings: its data overflows and divides by zero on purpose."""

    @functools.wraps(law)
    def checked(name: str, thorough: bool) -> None:
        with np.errstate(all="ignore"):
            law(name, thorough)

    return checked


LAWS: dict[str, Law] = {
    law.__name__: silent(law)
    for law in (
        abstract_eval_predicts_impl,
        impl_is_its_definition,
        jvp_is_the_derivative,
        partials_are_the_derivative,
        jvp_is_linear,
        transpose_is_the_adjoint,
        batch_is_a_loop,
        derivative_of_batch_is_a_loop,
        second_order_agrees,
        collective_under_its_axis,
        compiled_is_impl,
        compiled_derivatives,
    )
}
