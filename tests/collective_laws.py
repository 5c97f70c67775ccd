"""The law of collectives: under vmap one is a function of all members, whose laws it keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from functrans.ir import Collective, Jaxpr, MappedAxis, aval_of
from functrans.primitives import collective
from functrans.recording import stage_walk
from functrans.transforms.batching import batch_jaxpr
from tests.law_tools import (
    WIDE,
    Arrays,
    Case,
    agree,
    build,
    check_adjoint,
    eps,
    evaluate,
    jvp_program,
    numerical_derivative,
    one_equation,
    random_like,
    telling,
    vjp_program,
)
from tests.samples_of import samples_of


def collective_under_its_axis(name: str, thorough: bool) -> None:
    """Its value, jvp and vjp are those of a function of all members, written out by NumPy."""
    for sample in samples_of(name):
        if not isinstance(sample.primitive.property, Collective):
            continue
        pairs = [(d, v) for d in sample.dtypes for v in sample.variants]
        for dtype, variant in pairs if thorough else telling(pairs, sample.id, 6):
            size = sample.case(dtype, variant)[1].get("size", 4)
            members = [build(sample, dtype, variant, s) for s in range(size)]
            _check_members(members)
            ndim = np.ndim(members[0].operands[0]) if members[0].operands else 0
            if "axis" in members[0].params and ndim:
                _check_members([_gathering_along(m, ndim) for m in members])


def _gathering_along(case: Case, axis: int) -> Case:
    """The same members, gathered along another axis."""
    params = {**case.params, "axis": axis}
    return replace(case, params=params, jaxpr=one_equation(case.sample, case.operands, params))


def _check_members(members: list[Case]) -> None:
    case, size = members[0], len(members)
    make = getattr(collective, case.sample.name)
    avals = [aval_of(x) for x in case.operands]
    made = stage_walk(lambda *xs: [make(*xs, **case.params)], avals, "law")
    assert str(made) == str(case.jaxpr), f"{case.label}: its constructor gives {made}"
    stacked = [np.stack(x) for x in zip(*[m.operands for m in members], strict=True)]
    value = _check_value(case, stacked, size)
    if not case.operands:
        return
    _check_other_layouts(case, stacked, size)
    if case.active and case.dtype == WIDE.get(case.dtype.kind):
        _check_derivatives(case, stacked, size, value)
        if case.sample.name in ("pmax", "pmin"):
            _check_ties(case, size)


def over_members(case: Case, jaxpr: Jaxpr, size: int, dim: int | None = 0) -> Jaxpr:
    """The program of all members together, its results in front."""
    axis = MappedAxis(size, case.params["axis_name"])
    return batch_jaxpr(jaxpr, axis, (dim,) * len(jaxpr.invars), (True,) * len(jaxpr.outvars))[0]


def _check_value(case: Case, stacked: Arrays, size: int) -> Any:
    (value,) = evaluate(over_members(case, case.jaxpr, size), stacked)
    _same(case, value, stacked, size, "value")
    return value


def _same(case: Case, value: Any, stacked: Arrays, size: int, what: str) -> None:
    expected = np.broadcast_to(written_out(case, stacked, size), value.shape)
    agree(value, expected.astype(value.dtype), f"{case.label}: {what}", 8 * eps(value))


def _check_other_layouts(case: Case, stacked: Arrays, size: int) -> None:
    """Members along the last axis; one value that all share; another mapped axis around."""
    last = [np.moveaxis(x, 0, -1) for x in stacked]
    dim = stacked[0].ndim - 1
    (value,) = evaluate(over_members(case, case.jaxpr, size, dim), last)
    _same(case, value, stacked, size, "members along the last axis")
    (value,) = evaluate(over_members(case, case.jaxpr, size, None), case.operands)
    _same(case, value, [np.stack([x] * size) for x in case.operands], size, "shared value")
    for dim in range(case.operands[0].ndim + 1):
        around = batch_jaxpr(case.jaxpr, MappedAxis(2, "another"), (dim,), (True,))[0]
        pair = [np.stack([x, x + x], 1 + dim) for x in stacked]
        (both,) = evaluate(over_members(case, around, size), pair)
        for k, x in enumerate((stacked, [x + x for x in stacked])):
            _same(case, both[:, k], x, size, f"inside another axis, along {dim}")
        shared = batch_jaxpr(case.jaxpr, MappedAxis(2, "another"), (None,), (True,))[0]
        (both,) = evaluate(over_members(case, shared, size), stacked)
        _same(case, both[:, 0], stacked, size, "inside another axis, shared")


def _check_derivatives(case: Case, stacked: Arrays, size: int, value: Any) -> None:
    rng, mask = case.rng, case.mask(case.active)
    whole = over_members(case, case.jaxpr, size)
    dots, cts = [random_like(rng, x) for x in stacked], [random_like(rng, value)]
    pushed = over_members(case, jvp_program(case.jaxpr, mask), size)
    moved = evaluate(pushed, [*stacked, *dots])[1:]
    reference = numerical_derivative(lambda xs: evaluate(whole, xs), stacked, dots)
    agree(moved[0], reference[0], f"{case.label}: jvp", 1e-7)
    bars = evaluate(over_members(case, vjp_program(case.jaxpr, mask), size), [*stacked, *cts])
    check_adjoint(f"{case.label}: vjp", cts, moved, bars, dots, stacked)


def _check_ties(case: Case, size: int) -> None:
    """Where all members attain the extremum, each has an equal share of its derivative."""
    stacked = [np.stack([x] * size) for x in case.operands]
    dots = [random_like(case.rng, x) for x in stacked]
    pushed = over_members(case, jvp_program(case.jaxpr, case.mask(case.active)), size)
    moved = evaluate(pushed, [*stacked, *dots])[1]
    expected = np.broadcast_to(dots[0].mean(0), moved.shape)
    agree(moved, expected, f"{case.label}: ties", 8 * eps(moved))


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
