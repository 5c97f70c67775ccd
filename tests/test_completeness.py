"""No primitive lacks a rule, a lowering or a sample: each one that does is named."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import functrans
from functrans.ir import Bilinear, Elementwise, LinearIn, Primitive, Reduction
from functrans.primitives import ALL
from tests.samples import SAMPLES
from tests.samples_of import CONTROL, sampled, samples_of

PRIVATE_LINEAR = {"mul", "scale", "div"}
"""Elementwise primitives that are linear in one operand at a time."""


def every_primitive() -> list[Primitive]:
    return [*ALL.values(), *CONTROL]


def defined_primitives() -> Iterator[tuple[str, Primitive]]:
    """Every record bound to a module's name anywhere in the package."""
    for info in pkgutil.walk_packages(functrans.__path__, "functrans."):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if isinstance(value, Primitive):
                yield f"{info.name}.{name}", value


def test_every_record_is_in_a_table() -> None:
    """A primitive that no table knows would escape the laws."""
    known = {id(p) for p in every_primitive()}
    assert {where for where, p in defined_primitives() if id(p) not in known} == set()


def test_names_are_unique() -> None:
    """The printed form and the tables tell primitives apart by name."""
    names = [p.name for p in every_primitive()]
    assert sorted(set(names)) == sorted(names)


def test_every_primitive_has_a_jvp() -> None:
    """Zero derivatives are rules too."""
    assert [p.name for p in every_primitive() if p.jvp is None] == []


def test_every_primitive_has_a_batch_rule() -> None:
    assert [p.name for p in every_primitive() if p.batch is None] == []


def test_what_is_linear_has_a_transpose() -> None:
    """A property that says linear, a reduction by addition, or a sample that says so."""
    by_sample = {s.name for s in SAMPLES if s.linear}
    lacking = [
        p.name
        for p in every_primitive()
        if p.transpose is None
        and (
            isinstance(p.property, LinearIn | Bilinear)
            or (isinstance(p.property, Reduction) and p.property.monoid == "add")
            or p.name in by_sample
        )
    ]
    assert lacking == []


def test_what_has_a_transpose_has_a_sample_of_its_linearity() -> None:
    """The adjoint law must reach every transpose rule directly."""
    untested = [
        p.name
        for p in every_primitive()
        if p.transpose is not None and not any(s.linear for s in samples_of(p.name))
    ]
    assert untested == []


def test_elementwise_properties_hold_their_partials() -> None:
    """A differentiable elementwise record keeps its derivative as data, or says by whom it is."""
    smooth = {s.name for s in SAMPLES if s.smooth}
    constant = {"floor", "ceil", "rint", "trunc", "floor_divide", "bitcast", "stop_gradient"}
    lacking = [
        p.name
        for p in ALL.values()
        if isinstance(p.property, Elementwise)
        and p.property.partials is None
        and not p.property.by_hand
        and p.name in smooth - constant
        and any(d.kind in "fc" for s in samples_of(p.name) for d in s.dtypes)
        and p.abstract_eval is not None
        and not _gives_no_float(p)
    ]
    assert lacking == []


def _gives_no_float(primitive: Primitive) -> bool:
    """Comparisons and tests have boolean results whatever they are given."""
    for sample in samples_of(primitive.name):
        for dtype in sample.dtypes:
            if dtype.kind in "fc":
                case = sample.case(dtype)
                outs = primitive.impl(*case[0], **case[1])
                return all(y.dtype.kind not in "fc" for y in outs)
    return True


def test_every_primitive_has_a_sample() -> None:
    assert [p.name for p in every_primitive() if p.name not in sampled()] == []


def test_every_primitive_has_a_lowering() -> None:
    """Without one a compiled program could not contain it; there is no fallback."""
    rules = importlib.import_module("jit.lowering.rules")
    importlib.import_module("jit.lowering")
    assert [p.name for p in every_primitive() if not rules.has_lowering(p)] == []
