"""The laws of Taylor mode: against jvps of jvps, and many curves at once against one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from functrans.bind import eval_jaxpr
from functrans.ir import Jaxpr, check_jaxpr, is_inexact
from functrans.transforms.series import Curve
from functrans.transforms.taylor import Coefficients, orders_of, packed, taylor_jaxpr, unpacked
from tests.law_tools import WIDE, Arrays, Case, agree, cases, eps, jvp_program, random_like

ORDER = 3


def taylor_is_nested_jvp(name: str, thorough: bool) -> None:
    """The coefficients along a curve are the derivatives that jvps of jvps state, over k!.

    At kinks and other edges too: what docs/edges.md fixes holds for every order.
    """
    for i, case in enumerate(moving_cases(name, thorough)):
        for bent in (True, False) if thorough else (i % 2 == 0,):
            curve = curve_through(case, ORDER, bent)
            label = f"{case.label}: {'bent' if bent else 'straight'}"
            expected = nested(case, curve)
            for out, derivatives in zip(expanded(case.jaxpr, curve), expected, strict=True):
                taken = [d / math.factorial(k) if k > 1 else d for k, d in enumerate(derivatives)]
                check_series(out, taken, label)


def many_curves_are_their_sum(name: str, thorough: bool) -> None:
    """Carrying the sum of the highest coefficients gives what adding them up in the end gives."""
    count = 3
    for case in moving_cases(name, thorough):
        curves = [curve_through(case, 2, False, seed) for seed in range(count)]
        together: list[Coefficients] = [
            [c[0], None if c[1] is None else np.stack([curve[i][1] for curve in curves]), None]
            for i, c in enumerate(curves[0])
        ]
        apart = [expanded(case.jaxpr, curve) for curve in curves]
        for out, *singles in zip(expanded(case.jaxpr, together, count), *apart, strict=True):
            zero = np.zeros_like(singles[0][0])
            each = [[zero if c is None else c for c in s] for s in singles]
            expected = [each[0][0], np.stack([s[1] for s in each]), sum(s[2] for s in each)]
            check_series(out, expected, f"{case.label}: {count} curves")


def moving_cases(name: str, thorough: bool) -> Iterator[Case]:
    """Cases in double precision in which something moves."""
    for case in cases(name, thorough, "fc", ("plain", "one", "scalar", "empty"), few=2):
        if case.active and case.dtype == WIDE[case.dtype.kind]:
            yield case


def curve_through(case: Case, order: int, bent: bool, seed: int = 0) -> list[Coefficients]:
    """Coefficients of a random curve through the operands; that of a straight one ends early."""
    rng = np.random.default_rng(seed)
    last = order if bent else 1
    return [
        [
            x,
            *[
                random_like(rng, x) if i in case.active and k <= last else None
                for k in range(1, order + 1)
            ],
        ]
        for i, x in enumerate(case.operands)
    ]


def expanded(
    jaxpr: Jaxpr, coefficients: list[Coefficients], directions: int | None = None
) -> list[Coefficients]:
    """The coefficients of the results, by the program of Taylor mode; checked."""
    curve = Curve(len(coefficients[0]) - 1, directions)
    program, orders = taylor_jaxpr(jaxpr, curve, orders_of(coefficients))
    check_jaxpr(program)
    return unpacked(eval_jaxpr(program, packed(coefficients)), orders, curve)


def check_series(found: Coefficients, expected: Arrays, label: str) -> None:
    """Each coefficient agrees, zeros where it is None."""
    for k, (c, reference) in enumerate(zip(found, expected, strict=True)):
        reference = np.asarray(reference)
        if k and not is_inexact(np.asarray(found[0]).dtype):
            assert c is None, f"{label}: coefficient {k} of what does not move"
            continue
        got, rtol = 0 * reference if c is None else c, max(1e-9, 8 * eps(reference))
        agree(got, reference, f"{label}, coefficient {k}", rtol)


# -- derivatives along a curve by jvps of jvps, which double the program at every order ----------

Slot = tuple[int, int]
"""Which operand or result, and the order of its derivative."""


def nested(case: Case, coefficients: list[Coefficients]) -> list[Arrays]:
    """For each result its derivatives from order 0 on: d/dt of the program, again and again."""
    order = len(coefficients[0]) - 1
    program = case.jaxpr
    ins: list[Slot] = [(i, 0) for i in range(len(program.invars))]
    outs: list[Slot] = [(i, 0) for i in range(len(program.outvars))]
    for _ in range(order):
        moving = [(i, k) for i, k in ins if i in case.active]
        floating = [s for s, a in zip(outs, program.out_avals, strict=True) if is_inexact(a.dtype)]
        program = jvp_program(program, tuple(i in case.active for i, _ in ins))
        ins += [(i, k + 1) for i, k in moving]
        outs += [(i, k + 1) for i, k in floating]
    derivatives = [
        [0 * x if c is None else c * math.factorial(k) for k, c in enumerate(curve)]
        for x, curve in zip(case.operands, coefficients, strict=True)
    ]
    results = dict(zip(outs, eval_jaxpr(program, [derivatives[i][k] for i, k in ins]), strict=True))
    first = range(len(case.jaxpr.outvars))
    return [
        [results.get((i, k), np.zeros_like(results[i, 0])) for k in range(order + 1)] for i in first
    ]
