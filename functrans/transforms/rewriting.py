"""Rewriting: the equations of a program that is being simplified, and what it is built from.

An operation becomes what a rule says it is, an equation that computes the same, or a new equation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from functrans.ir import Atom, Aval, Effect, Elementwise, Eqn, Literal, Primitive, Var

Key = tuple[Any, ...]


class Rewriter:
    """The equations kept so far, what each variable stands for, and who defines it."""

    def __init__(self, collect: bool) -> None:
        self.collect = collect
        self.eqns: list[Eqn] = []
        self.definition: dict[Var, Eqn] = {}
        self._alias: dict[Var, Atom] = {}
        self._known: dict[Key, list[Var]] = {}

    def resolve(self, atom: Atom) -> Atom:
        return self._alias.get(atom, atom)  # type: ignore[arg-type]  # literals have no alias

    def identify(self, variables: Sequence[Var], atoms: Sequence[Atom]) -> None:
        """Let variables of another program stand for atoms of this one."""
        self._alias.update(zip(variables, map(self.resolve, atoms), strict=True))

    def adopt(self, eqns: Sequence[Eqn]) -> None:
        """Keep equations of a simplified program, of which no rule says anything.

        Two may have become one in the meantime, where loops lost what nobody reads.
        """
        alias = self._alias
        for eqn in eqns:
            if alias and not alias.keys().isdisjoint(eqn.inputs):
                inputs = [self.resolve(a) for a in eqn.inputs]
                eqn = Eqn(eqn.primitive, inputs, eqn.outputs, eqn.params, eqn.source)
            self._keep_or_merge(eqn)

    def add(self, eqn: Eqn) -> None:
        """Keep an equation, or let its outputs stand for something there already is."""
        alias = self._alias
        inputs = [alias.get(a, a) for a in eqn.inputs]  # type: ignore[arg-type]
        if len(eqn.outputs) == 1:
            (out,) = eqn.outputs
            found = self.apply(eqn, eqn.primitive, inputs, eqn.params, out)
            if found is not out:
                alias[out] = found
            return
        self._keep_or_merge(Eqn(eqn.primitive, inputs, eqn.outputs, eqn.params, eqn.source))

    def apply(
        self,
        origin: Eqn,
        primitive: Primitive,
        inputs: list[Atom],
        params: dict[str, Any],
        out: Var | None = None,
    ) -> Atom:
        """The atom that holds `primitive` of `inputs`: rewritten, found again, or newly kept."""
        if inputs and type(inputs[0]) is Literal:
            folded = _folded(primitive, inputs, params, origin.outputs[0].aval)
            if folded is not None:
                return folded
        rule = RULES.get(primitive.name)
        if rule is not None:
            found = rule(self, origin, inputs, params)
            if found is not None and _same(found, origin, out):
                return found
        var = Var(origin.outputs[0].aval) if out is None else out
        same = out is not None and inputs == origin.inputs and primitive is origin.primitive
        kept = origin if same else Eqn(primitive, inputs, [var], params, origin.source)
        return self._keep_or_merge(kept)[0]

    def keep(self, eqn: Eqn) -> Var:
        """The result of a new equation that has one, or what holds it already."""
        return self._keep_or_merge(eqn)[0]

    def _keep_or_merge(self, eqn: Eqn) -> list[Var]:
        key, outputs = eqn_key(eqn), eqn.outputs
        if key is not None:
            found = self._known.setdefault(key, outputs)
            if found is not outputs:
                self._alias.update(zip(outputs, found, strict=True))
                return found
        self.eqns.append(eqn)
        for var in outputs:
            self.definition[var] = eqn
        return outputs

    def defined_by(self, atom: Atom, name: str) -> Eqn | None:
        """The equation of primitive `name` that defines the atom, if it does."""
        eqn = self.definition.get(atom) if isinstance(atom, Var) else None
        return eqn if eqn is not None and eqn.primitive.name == name else None


def _folded(
    primitive: Primitive, inputs: list[Atom], params: dict[str, Any], aval: Aval
) -> Literal | None:
    """The literal that an elementwise function of literals is, where it is finite."""
    if not isinstance(primitive.property, Elementwise) or not inputs:
        return None
    values = [np.asarray(a.value, a.aval.dtype) for a in inputs if isinstance(a, Literal)]
    if len(values) < len(inputs):
        return None
    with np.errstate(all="ignore"):
        outs = primitive.impl(*values, **params)
    if len(outs) != 1 or not np.isfinite(outs[0]):
        return None
    return Literal(outs[0][()], aval)


def _same(found: Atom, origin: Eqn, out: Var | None) -> bool:
    """May `found` stand for the output? Types agree, weakness included."""
    return out is None or found.aval == origin.outputs[0].aval


COMMUTING = frozenset(
    {"add", "mul", "scale", "max", "min", "and", "or", "xor", "eq", "ne", "hypot"}
)


def eqn_key(eqn: Eqn) -> Key | None:
    """Equal for equations that compute the same; None for those that may not be merged."""
    primitive, params, outputs = eqn.primitive, eqn.params, eqn.outputs
    if primitive.opaque or (primitive.effects is not None and eqn.effect is not Effect.NONE):
        return None
    inputs = [a.key() if type(a) is Literal else a for a in eqn.inputs]
    if primitive.name in COMMUTING and hash(inputs[0]) > hash(inputs[1]):
        inputs.reverse()
    weak = outputs[0].aval.weak if len(outputs) == 1 else tuple([v.aval.weak for v in outputs])
    if not params:
        return (primitive, weak, *inputs)
    given = params.items() if len(params) == 1 else sorted(params.items())
    key = (primitive, weak, *inputs, *given)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def atom_key(atom: Atom) -> Any:
    return atom.key() if isinstance(atom, Literal) else atom


Rule: TypeAlias = Callable[[Rewriter, Eqn, list[Atom], dict[str, Any]], Atom | None]
"""(work, origin, inputs, params) -> the atom that the operation is, None where it says nothing.

What is made on the way belongs to the line of `origin`.
"""
RULES: dict[str, Rule] = {}
"""By the name of the primitive; identities.py says which."""
