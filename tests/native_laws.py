"""The laws of native code: compiled programs give what evaluation gives, derivatives included."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from functrans.bind import bind
from functrans.ir import Elementwise, Jaxpr, MappedAxis, aval_of
from functrans.primitives import elementwise as e
from functrans.primitives import structural as st
from functrans.recording import stage_walk
from functrans.transforms.batching import batch_jaxpr
from functrans.transforms.series import Curve
from functrans.transforms.taylor import orders_of, packed, taylor_jaxpr
from jit import native
from jit.lowering import contraction, convolution, indexing
from tests.guarded import can_guard, guarded
from tests.law_tools import (
    WIDE,
    Arrays,
    Case,
    agree,
    batchings,
    cases,
    chosen,
    eps,
    evaluate,
    fortran,
    inexact,
    jvp_program,
    one_equation,
    random_like,
    require,
    strided,
    vjp_program,
    wide,
    within_ulps,
)
from tests.native import compiled
from tests.samples import Sample
from tests.samples_of import samples_of
from tests.taylor_laws import curve_through


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
    rng, name = case.rng, case.sample.name
    points = [rng.permutation(HARD_POINTS).astype(case.dtype) for _ in case.operands]
    jaxpr = one_equation(case.sample, points, case.params)
    doubled = one_equation(case.sample, [wide(x) for x in points], case.params)
    # exp(w log z): what is rounded before exp is felt as often as the logarithm is large.
    rtol = 1e-10 if case.dtype == WIDE["c"] else (64 if name == "pow" else 8) * eps(*points)

    def check(actual: Any, expected: Any, label: str) -> None:
        if expected.dtype.kind != "c":
            agree(actual, expected, label, rtol)
            return
        apart = np.abs(wide(actual) - wide(expected))
        require(apart <= rtol * np.abs(wide(expected)), actual, expected, label)

    return Job(f"{case.label} at hard points", jaxpr, [points], check, doubled)


PARTS = (*(0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0), *(30.0, -30.0))
"""The real and imaginary parts of numbers on the axes and off them, on branch cuts and points."""

BEYOND = (np.inf, -np.inf, np.nan)

NOT_AT_INFINITY = {"exp", "exp2", "pow", *("sin", "cos", "tan", "asin", "acos", "atan")} | {
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh")
}
"""Complex functions for which native code promises nothing where a part is not finite."""
PRODUCTS = frozenset({"mul", "scale", "square"})
"""Complex functions whose parts are sums of two products."""

NOT_AT_EXTREMES = {"exp2", "pow", "integer_pow", "atan", "atanh", "log1p"}
"""Those that rounding alone moves far there, that have poles nearby, or where NumPy is rough."""


EACH_PART = {"tanh", "tan"}
"""Those of which each part is right by itself, however small it is beside the other."""


def compiled_at_special_points(name: str, thorough: bool) -> None:
    """Complex functions of every combination of telling parts are NumPy's, signs of zero too."""
    found: list[Job] = []
    for sample in samples_of(name):
        by_position = isinstance(sample.primitive.property, Elementwise) or name == "convert"
        for dtype in (d for d in sample.dtypes if d.kind == "c" and by_position):
            found += _special_jobs(sample, dtype)
    run_jobs(found)


def _special_jobs(sample: Sample, dtype: np.dtype[Any]) -> Iterator[Job]:
    name = sample.name
    operands, params = sample.case(dtype)
    if any(np.asarray(x).dtype != dtype for x in operands) or len(operands) > 2:
        return
    points = _special_points(name, dtype, PARTS if len(operands) == 1 else PARTS[:8])
    grid = [x.ravel() for x in np.meshgrid(*[points] * len(operands))]
    jaxpr = one_equation(sample, grid, params)
    exact = name not in NOT_AT_INFINITY
    doubled = None if exact else one_equation(sample, [wide(x) for x in grid], params)
    check = functools.partial(_check_point, name, 1e-10 if dtype == WIDE["c"] else 4e-6)
    yield Job(f"{sample.id} {dtype} at special points", jaxpr, [grid], check, doubled)


def _special_points(name: str, dtype: np.dtype[Any], parts: Sequence[float]) -> Any:
    """All numbers made of the parts, of an enormous and a tiny one, and of some not finite."""
    large = 2.0**66 if dtype.itemsize == 8 else 2.0**530
    extremes = () if name in NOT_AT_EXTREMES else (large, 1 / large)
    beyond = () if name in NOT_AT_INFINITY else BEYOND
    each = (*parts, *extremes, *beyond)
    return np.array([complex(x, y) for x in each for y in each], dtype)


def _check_point(name: str, rtol: float, actual: Any, expected: Any, label: str) -> None:
    if expected.dtype.kind != "c":
        within_ulps(actual, expected, label, 4)
        return
    apart = np.abs(wide(actual) - wide(expected))
    right = ~np.isfinite(expected) | (apart <= rtol * np.abs(wide(expected)))
    for part in (np.real, np.imag):
        a, e = wide(part(actual)), wide(part(expected))
        same = (a == e) | np.isnan(a) & np.isnan(e)
        if name in PRODUCTS and not native.host_target().fma:
            # NumPy fuses here: of two products that overflow, it knows the first exactly.
            same |= np.isnan(a) & np.isinf(e)
        close = np.abs(a - e) <= rtol * np.abs(e)
        close |= np.isfinite(expected) & (name not in EACH_PART)
        signed = (e != 0) | (np.signbit(a) == np.signbit(e)) | (name in ("pow", "integer_pow"))
        right &= np.where(np.isfinite(e), close & signed, same)
    require(right, actual, expected, label)


def compiled_stays_inside(name: str, thorough: bool) -> None:
    """Native code reads nothing before its operands and nothing behind them."""
    if not can_guard():
        return
    variants = ("plain", "one", "odd")
    found = [_value_job(case) for case in cases(name, thorough, "bifc", variants, few=4)]
    run_jobs(
        [
            replace(job, inputs=[[guarded(x, end) for x in job.inputs[0]] for end in (True, False)])
            for job in found
        ]
    )


WAYS: dict[str, tuple[ModuleType, Sequence[dict[str, int]]]] = {
    "dot_general": (contraction, ({"SMALL_PRODUCT": 0}, {"SMALL_PRODUCT": 1 << 40})),
    "conv": (
        convolution,
        (
            {"LARGE_CONV": 0, "FEW_PLACES": 0},
            {"LARGE_CONV": 0, "FEW_PLACES": 1 << 40},
            {"LARGE_CONV": 0, "MOST_PARTS": 1 << 40},
        ),
    ),
    **{
        f"scatter_{how}": (indexing, ({"CROWDED": 0, "PARTS": 7},))
        for how in ("add", "mul", "min", "max")
    },
}
"""Where a size decides how something is computed: the bounds at which each way is taken."""


def compiled_every_way(name: str, thorough: bool) -> None:
    """Whatever way of computing is chosen for large or small operands, the results are the same."""
    module, settings = WAYS.get(name, (None, ()))
    for setting in settings:
        before = {key: getattr(module, key) for key in setting}
        vars(module).update(setting)
        try:
            run_jobs([_value_job(case) for case in cases(name, thorough, few=12)])
        finally:
            vars(module).update(before)


def _with_edges(case: Case, seed: int) -> Arrays:
    """The operands with extreme values here and there: NaN, infinities, zeros, the ends of ints."""
    rng = np.random.default_rng(zlib.crc32(f"{case.label} {seed}".encode()))
    by_position = isinstance(case.sample.primitive.property, Elementwise)
    exact = case.sample.ulps is None
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
        elif x.dtype.kind == "c" and by_position and (exact or case.sample.name == "sign"):
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
        curve = curve_through(case, 4, True)
        program, _ = taylor_jaxpr(case.jaxpr, Curve(4), orders_of(curve))
        yield Job(f"{case.label}: taylor", program, [packed(curve)], check)


def compiled_in_company(name: str, thorough: bool) -> None:
    """Among equations that move elements, before and after, so that kernels are fused."""
    variants = ("plain", "one", "odd", "empty")
    run_jobs([_company_job(case) for case in cases(name, thorough, "bifc", variants, few=3)])


def _company_job(case: Case) -> Job:
    """The operands arrive flat and backwards; the results leave so, and meet themselves."""
    shapes = [np.shape(x) for x in case.operands]
    flat = [np.ravel(x)[::-1] for x in case.operands]

    def walk(*xs: Any) -> Arrays:
        turned = [st.reshape(st.reverse(x, (0,)), n) for x, n in zip(xs, shapes, strict=True)]
        outs = bind(case.sample.primitive, *turned, **case.params)
        return [z for y in outs for z in _moved_about(y)]

    jaxpr = stage_walk(walk, [aval_of(x) for x in flat], "law")
    rtol = (case.sample.ulps or 4) * 4 * eps(*inexact(evaluate(jaxpr, flat)))
    check = lambda a, e, label: agree(a, e, label, rtol)
    return Job(f"{case.label} in company", jaxpr, [flat], check)


def _moved_about(y: Any) -> Arrays:
    """y flat and backwards, with padding and twice, and its sum with itself."""
    aval = aval_of(y)
    zero, axes = aval.dtype.type(0), tuple(range(aval.ndim))
    backwards = st.transpose(st.reverse(y, axes), axes[::-1])
    row = st.reshape(backwards, (aval.size,))
    twice = st.concatenate([st.pad(row, zero, (1,), (2,), (1,)), row], 0)
    n = aval_of(twice).shape[0]
    found = [row, st.slice(twice, (1,), (n,), (2,))]
    if aval.dtype.kind in "ifc":
        found += [e.add(y, st.reverse(y, axes)), st.reduce_sum(e.mul(y, y), axes)]
    return found


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
            for y, wanted in zip(found, expected, strict=True):
                job.check(y, wanted, f"{job.label}, compiled, inputs {r % len(job.inputs)}")


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
