"""The checker: every variable bound once before use, every equation typed as its rule predicts."""

from __future__ import annotations

from functrans.ir.aval import same_type
from functrans.ir.jaxpr import Atom, Eqn, Jaxpr, Literal, Var, jaxprs_in
from functrans.ir.pprint import format_eqn


class JaxprTypeError(AssertionError):
    """A transform or pass built an ill-formed jaxpr: a bug in functrans, not in user code."""


def check_jaxpr(jaxpr: Jaxpr) -> None:
    """Raise JaxprTypeError unless `jaxpr` is well formed (see this file's first line)."""
    bound: set[Var] = set()
    for var in jaxpr.invars:
        _bind_var(var, bound, "input")
    for eqn in jaxpr.eqns:
        for atom in eqn.inputs:
            _check_read(atom, bound, eqn)
        _check_eqn(eqn)
        for var in eqn.outputs:
            _bind_var(var, bound, eqn.primitive.name)
    for atom in jaxpr.outvars:
        _check_read(atom, bound, None)


def _bind_var(var: Var, bound: set[Var], what: str) -> None:
    if var in bound:
        raise JaxprTypeError(f"a variable of {what} is bound twice")
    bound.add(var)


def _check_read(atom: Atom, bound: set[Var], eqn: Eqn | None) -> None:
    if not isinstance(atom, Literal) and atom not in bound:
        place = "the outputs" if eqn is None else format_eqn(eqn)
        raise JaxprTypeError(f"unbound variable {atom} in {place}")


def _check_eqn(eqn: Eqn) -> None:
    for inner in jaxprs_in(eqn.params):
        check_jaxpr(inner)
    predicted = eqn.primitive.abstract_eval(*(a.aval for a in eqn.inputs), **eqn.params)
    actual = [v.aval for v in eqn.outputs]
    if len(predicted) != len(actual) or not all(map(same_type, predicted, actual)):
        expected = ", ".join(map(str, predicted))
        raise JaxprTypeError(f"{format_eqn(eqn)} is typed otherwise: expected {expected}")
