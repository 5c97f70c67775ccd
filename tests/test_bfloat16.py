"""bfloat16, where ml_dtypes is installed: values, derivatives and native code against double."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import functrans as ft
from functrans.ir import Elementwise
from functrans.primitives import ALL
from tests.law_tools import Case, build, evaluate, jvp_program, one_equation, random_like
from tests.native_laws import Job, run_jobs
from tests.samples_of import sampled, samples_of

bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
EPS = 2.0**-8
ANNOUNCED = frozenset({"pure_callback", "io_callback"})
"""Their results have the dtypes that their params say: no other dtype can be tried."""


def narrowed(x: Any) -> Any:
    x = np.asarray(x)
    return x.astype(bfloat16) if x.dtype.kind == "f" else x


def doubled(x: Any) -> Any:
    x = np.asarray(x)
    return x.astype(np.float64) if x.dtype == bfloat16 else x


def near(actual: Any, expected: Any, label: str, ulps: float = 8) -> None:
    """Of one form, NaNs and infinities alike, within some units of the largest value."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, label
    if expected.dtype.kind in "biu":
        assert np.mean(actual == expected) > 0.9, label  # rounding may decide a comparison
        return
    a, e = doubled(actual), doubled(expected)
    np.testing.assert_array_equal(np.isnan(a), np.isnan(e), err_msg=label)
    finite = np.isfinite(e)
    bound = ulps * EPS * (np.abs(e[finite]) + max(1.0, np.abs(e[finite]).max(initial=0)))
    assert (np.abs(a[finite] - e[finite]) <= bound).all(), f"{label}:\n{actual}\n{expected}"


def cases(name: str) -> list[Case]:
    """The smooth float samples of a primitive, in bfloat16."""
    found: list[Case] = []
    if name in ANNOUNCED:
        return found
    for sample in samples_of(name):
        if not sample.smooth or "f" not in sample.kinds or name not in ALL or name == "complex":
            continue
        for variant in ("plain", "odd"):
            if variant not in sample.variants:
                continue
            case = build(sample, np.float32, variant)
            if "dtype" in case.params or "axis_name" in case.params:
                continue
            operands = [narrowed(x) for x in case.operands]
            jaxpr = one_equation(sample, operands, case.params)
            found.append(Case(sample, bfloat16, variant, operands, case.params, jaxpr))
    return found


@pytest.mark.parametrize("name", sampled())
def test_values_and_derivatives(name: str) -> None:
    with np.errstate(all="ignore"):
        jobs: list[Job] = []
        for case in cases(name):
            wide = [doubled(x) for x in case.operands]
            reference = one_equation(case.sample, wide, case.params)
            found = evaluate(case.jaxpr, case.operands)
            for y, e in zip(found, evaluate(reference, wide), strict=True):
                near(y, e, f"{case.label}: value")
            jobs.append(Job(case.label, case.jaxpr, [case.operands], near))
            active = tuple(x.dtype == bfloat16 for x in case.operands)
            if any(active) and isinstance(case.sample.primitive.property, Elementwise):
                dots = [random_like(case.rng, x) for x in wide]
                given = [narrowed(d) for d, a in zip(dots, active, strict=True) if a]
                program = jvp_program(case.jaxpr, active)
                pushed = evaluate(program, [*case.operands, *given])
                in_double = jvp_program(reference, active)
                expected = evaluate(in_double, [*wide, *map(doubled, given)])
                for y, e in zip(pushed, expected, strict=True):
                    near(y, e, f"{case.label}: jvp", 24)
                jobs.append(Job(f"{case.label}: jvp", program, [[*case.operands, *given]], near))
        run_jobs(jobs)


def test_finite_differences_take_steps_of_its_own_precision() -> None:
    x = np.linspace(0.25, 1.75, 4).astype(bfloat16)

    def f(x: np.ndarray) -> np.ndarray:
        return np.sin(x.astype(np.float32)).astype(bfloat16)

    call = lambda x: ft.pure_callback(f, x, x, derivative="finite_differences")
    found = ft.jvp(call, (x,), (np.ones_like(x),))[1]
    np.testing.assert_allclose(doubled(found), np.cos(doubled(x)), atol=0.06)
