"""No primitive lacks a rule, a lowering or a sample: each one that does is named."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import functrans
from functrans.ir import Bilinear, Collective, LinearIn, Primitive, Reduction
from functrans.primitives import ALL
from jit.lowering import families
from jit.lowering.rules import has_lowering
from jit.passes.nested import FORMS
from tests.samples import SAMPLES
from tests.samples_of import CONTROL, sampled, samples_of


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


def test_every_primitive_has_a_sample() -> None:
    assert [p.name for p in every_primitive() if p.name not in sampled()] == []


def test_every_primitive_has_a_lowering() -> None:
    """Without one a compiled program could not contain it; there is no fallback.

    What holds a jaxpr is inlined or has a form of its own, and batching removes collectives,
    before anything is lowered.
    """
    families.load_all()
    lacking = [
        p.name
        for p in every_primitive()
        if not has_lowering(p)
        and p.stands_for is None
        and p not in FORMS
        and not isinstance(p.property, Collective)
    ]
    assert lacking == []
