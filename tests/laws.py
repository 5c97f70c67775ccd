"""The laws that every primitive must satisfy, each checked against something that shares no code.

A law takes the name of a primitive and runs over its samples; it raises AssertionError with the
sample, dtype and combination that break it. `thorough` runs every combination, otherwise a few
are chosen by a hash of the name, beside those known to be hard.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from functrans.ir import Elementwise, MappedAxis, aval_of, check_jaxpr, jaxprs_in
from functrans.primitives import MODULES
from functrans.transforms.batching import batch_jaxpr
from functrans.transforms.transpose import transpose_jaxpr
from tests.collective_laws import collective_under_its_axis
from tests.definitions import DEFINITIONS
from tests.law_tools import (
    WIDE,
    Arrays,
    Case,
    Law,
    agree,
    batchings,
    build,
    cases,
    check_adjoint,
    chosen,
    eps,
    evaluate,
    fortran,
    inexact,
    jvp_program,
    numerical_derivative,
    one_equation,
    pairing,
    random_like,
    split,
    strided,
    subsets,
    vjp_program,
    wide,
)
from tests.native_laws import (
    compiled_at_special_points,
    compiled_derivatives,
    compiled_every_way,
    compiled_in_company,
    compiled_is_impl,
    compiled_stays_inside,
)
from tests.samples_of import samples_of
from tests.taylor_laws import many_curves_are_their_sum, taylor_is_nested_jvp

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


def constructor_binds(name: str, thorough: bool) -> None:
    """The private constructor, with operands and params by their names, binds the primitive."""
    made = constructor(name)
    if made is None:
        return
    for case in cases(name, thorough, few=4):
        expected = evaluate(case.jaxpr, case.operands)
        args, named = arguments(made, case.operands, case.params)
        found = made(*args, **named)
        found = found if isinstance(found, list) else [] if found is None else [found]
        for y, reference in zip(found, expected, strict=True):
            agree(y, reference, f"{case.label}: by its constructor", 8 * eps(reference))


def constructor(name: str) -> Callable[..., Any] | None:
    """The function beside the record that has its name, or its name and an underscore."""
    for module in MODULES:
        if getattr(module, f"{name}_p", None) is not None:
            return getattr(module, name, None) or getattr(module, f"{name}_", None)
    return None


def arguments(
    made: Callable[..., Any], operands: Arrays, params: dict[str, Any]
) -> tuple[Arrays, dict[str, Any]]:
    """What to call a constructor with: a parameter that is a sequence takes all operands left."""
    rest, given, named = [np.asarray(x)[()] for x in operands], [], {}
    for parameter in inspect.signature(made).parameters.values():
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD):
            named = dict(params)
        elif parameter.name in params:
            given.append(params[parameter.name])
        elif parameter.kind is parameter.VAR_POSITIONAL:
            given, rest = [*given, *rest], []
        elif "Sequence" in str(parameter.annotation):
            given, rest = [*given, rest], []
        elif rest:
            given.append(rest.pop(0))
    return given, named


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


TIED: dict[str, dict[str, Any]] = {
    "max": {},
    "min": {},
    "reduce_max": {"axes": (1,)},
    "reduce_min": {"axes": (1,)},
    "scatter_max": {"axes": (0,), "mode": "raise"},
    "scatter_min": {"axes": (0,), "mode": "raise"},
}


def ties_are_shared(name: str, thorough: bool) -> None:
    """Where two operands or elements attain an extremum, each has half of its derivative.

    That is what a central difference says of two, and of two only.
    """
    if name not in TIED:
        return
    rng = np.random.default_rng(len(name))
    x = rng.permutation(12).reshape(4, 3) * 0.5
    operands = {
        "reduce": [np.concatenate([x, x[:, ::-1]], 1)],
        "scatter": [x, x[[2, 0]], np.array([2, 0])],
    }.get(name.split("_")[0], [x, x.copy()])
    sample = samples_of(name)[0]
    jaxpr = one_equation(sample, operands, TIED[name])
    active = tuple(y.dtype.kind == "f" for y in operands)
    dots = [random_like(rng, y) if a else None for y, a in zip(operands, active, strict=True)]
    given = [d for d in dots if d is not None]
    moved = split(evaluate(jvp_program(jaxpr, active), [*operands, *given]), jaxpr)[1]
    expected = numerical_derivative(lambda xs: evaluate(jaxpr, xs), operands, dots, 1e-3)
    agree(moved[0], expected[0], f"{name}: ties", 1e-9)


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


def jvp_of_nothing_is_the_value(name: str, thorough: bool) -> None:
    """A rule that is given symbolic zeros only still computes the results."""
    for case in cases(name, thorough, few=4):
        rule = case.sample.primitive.jvp
        assert rule is not None
        primals = [np.asarray(x) for x in case.operands]
        outs, dots = rule(primals, [None] * len(primals), **case.params)
        for y, expected in zip(outs, evaluate(case.jaxpr, case.operands), strict=True):
            agree(y, expected, f"{case.label}: value beside no tangents", 8 * eps(expected))
        for dot in dots:
            assert dot is None or not np.any(dot), f"{case.label}: a tangent from no tangents"


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
    check_adjoint(label, cts, outs, bars, [dots[i] for i in some], wanted)


def _check_vjp(case: Case, some: tuple[int, ...], rng: np.random.Generator) -> None:
    dots = [random_like(rng, case.operands[i]) for i in some]
    results = evaluate(jvp_program(case.jaxpr, case.mask(some)), [*case.operands, *dots])
    outs, moved = split(results, case.jaxpr)
    cts = [random_like(rng, y) for y in inexact(outs)]
    bars = evaluate(vjp_program(case.jaxpr, case.mask(some)), [*case.operands, *cts])
    wanted = [case.operands[i] for i in some]
    check_adjoint(f"{case.label}: vjp in operands {some}", cts, moved, bars, dots, wanted)


def batch_is_a_loop(name: str, thorough: bool) -> None:
    """For every choice of mapped operands and of the axis that each is mapped along."""
    for case in cases(name, thorough, few=3):
        if not case.sample.batched or not case.operands:
            continue
        size = 3
        members = [case, *(build(case.sample, case.dtype, case.variant, s) for s in range(1, size))]
        _require_alike(members)
        _check_unmapped(case, size)
        for dims in batchings(case, thorough):
            _check_batch(members, dims)
        _check_batch(members[:1], batchings(case, False)[0])


def _check_unmapped(case: Case, size: int) -> None:
    """The rule itself, told that nothing is mapped: one result for all, or the same for each."""
    rule = case.sample.primitive.batch
    assert rule is not None
    operands = [np.asarray(x) for x in case.operands]
    outs, dims = rule(MappedAxis(size), operands, [None] * len(operands), **case.params)
    for y, d, expected in zip(outs, dims, evaluate(case.jaxpr, operands), strict=True):
        found = np.asarray(y) if d is None else np.moveaxis(y, d, 0)[0]
        agree(found, expected, f"{case.label}: nothing mapped", 8 * eps(expected))


def _require_alike(members: Sequence[Case]) -> None:
    forms = [[aval_of(x) for x in m.operands] for m in members]
    params = [sorted(m.params.items(), key=lambda kv: kv[0]) for m in members]
    alike = all(f == forms[0] for f in forms) and all(p == params[0] for p in params)
    assert alike, f"{members[0].label}: a sample's shapes and params must not depend on the seed"


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
        constructor_binds,
        jvp_is_the_derivative,
        partials_are_the_derivative,
        ties_are_shared,
        jvp_of_nothing_is_the_value,
        jvp_is_linear,
        transpose_is_the_adjoint,
        batch_is_a_loop,
        derivative_of_batch_is_a_loop,
        second_order_agrees,
        taylor_is_nested_jvp,
        many_curves_are_their_sum,
        collective_under_its_axis,
        compiled_is_impl,
        compiled_at_special_points,
        compiled_every_way,
        compiled_in_company,
        compiled_stays_inside,
        compiled_derivatives,
    )
}
