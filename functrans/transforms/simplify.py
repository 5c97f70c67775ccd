"""Simplify: remove dead, repeated and trivial equations from a jaxpr, exactly.

Values stay what they were, NaN and infinity included: 0*x is never 0 and x+0 never x. The one
exception is that derivative programs have their constant factors collected, rounding aside: no
value of the user's own function is computed in another order. Nothing is merged across a barrier.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from functrans.ir import Atom, Aval, Effect, Elementwise, Eqn, Jaxpr, Literal, Primitive, Var, prune
from functrans.primitives import ALL
from functrans.transforms.cache import derived

Key = tuple[Any, ...]


def simplify(jaxpr: Jaxpr, *, collect: bool = False) -> Jaxpr:
    """The same program, simplified: linear in the number of equations.

    `collect` is for programs of tangents or cotangents: constant factors are collected.
    """
    return jaxpr if jaxpr.simple and not collect else _simplified(jaxpr, collect)


@derived
def _simplified(jaxpr: Jaxpr, collect: bool) -> Jaxpr:
    work = _Simplifier(collect)
    for eqn in jaxpr.eqns:
        work.add(eqn)
    outvars = [work.resolve(a) for a in jaxpr.outvars]
    if any(eqn.primitive.narrow is not None for eqn in work.eqns):
        eqns, outvars = narrowed(work.eqns, outvars)
    else:
        eqns = prune(work.eqns, outvars)
    made = Jaxpr(jaxpr.invars, eqns, outvars, jaxpr.num_consts)
    made.simple = True
    return made


def narrowed(eqns: list[Eqn], outvars: list[Atom]) -> tuple[list[Eqn], list[Atom]]:
    """What `prune` leaves, with what nobody uses also gone from inside loops and branches."""
    needed: set[Atom] = set(outvars)
    aliases: dict[Atom, Atom] = {}
    kept: list[Eqn] = []
    for eqn in reversed(eqns):
        used = tuple(v in needed for v in eqn.outputs)
        if not any(used) and eqn.effect is Effect.NONE:
            continue
        parts, found = [eqn], {}
        if eqn.primitive.narrow is not None:
            parts, found = eqn.primitive.narrow(eqn, used)
        aliases.update(found)
        needed.update(found.values())
        for part in reversed(parts):
            kept.append(part)
            needed.update(part.inputs)
    kept.reverse()
    if not aliases:
        return kept, outvars
    for alias in reversed(list(aliases)):  # the last found stand first in the program
        aliases[alias] = aliases.get(aliases[alias], aliases[alias])
    resolved = [
        Eqn(e.primitive, [aliases.get(a, a) for a in e.inputs], e.outputs, e.params, e.source)
        for e in kept
    ]
    return resolved, [aliases.get(a, a) for a in outvars]


class _Simplifier:
    """The equations kept so far, what each variable stands for, and who defines it."""

    def __init__(self, collect: bool) -> None:
        self.collect = collect
        self.eqns: list[Eqn] = []
        self.definition: dict[Var, Eqn] = {}
        self._alias: dict[Var, Atom] = {}
        self._known: dict[Key, list[Var]] = {}

    def resolve(self, atom: Atom) -> Atom:
        return self._alias.get(atom, atom)  # type: ignore[arg-type]  # literals have no alias

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


COMMUTING = {"add", "mul", "scale", "max", "min", "and", "or", "xor", "eq", "ne", "hypot"}


def eqn_key(eqn: Eqn) -> Key | None:
    """Equal for equations that compute the same; None for those that may not be merged."""
    primitive, params = eqn.primitive, eqn.params
    if primitive.opaque or (primitive.effects is not None and eqn.effect is not Effect.NONE):
        return None
    inputs = [a.key() if type(a) is Literal else a for a in eqn.inputs]
    if primitive.name in COMMUTING and hash(inputs[0]) > hash(inputs[1]):
        inputs.reverse()
    weak = [v.aval.weak for v in eqn.outputs]
    if not params:
        return (primitive, *inputs, *weak)
    key = (primitive, *inputs, *weak, *sorted(params.items()))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def atom_key(atom: Atom) -> Any:
    return atom.key() if isinstance(atom, Literal) else atom


# -- rewriting rules: exact identities, by the primitive at the root ---------------------------

Rule = Callable[[_Simplifier, Eqn, list[Atom], dict[str, Any]], Atom | None]


def constant(work: _Simplifier, atom: Atom) -> Any:
    """The scalar that an atom is everywhere, or None."""
    if isinstance(atom, Literal):
        return atom.value
    eqn = work.definition.get(atom)
    if eqn is not None and eqn.primitive.name == "broadcast" and isinstance(eqn.inputs[0], Literal):
        return eqn.inputs[0].value
    return None


def _is(value: Any, number: float) -> bool:
    return value is not None and not isinstance(value, (bool, np.bool_)) and value == number


TELLING = frozenset({"neg", "broadcast", "mul"})
"""The primitives on which what becomes of a product depends, beside literals."""


def _is_plain(work: _Simplifier, inputs: list[Atom]) -> bool:
    """Is there nothing in the factors that a product could be simplified by?"""
    for atom in inputs:
        if type(atom) is Literal:
            return False
        eqn = work.definition.get(atom)  # type: ignore[arg-type]
        if eqn is not None and eqn.primitive.name in TELLING:
            return False
    return True


def _make(work: _Simplifier, origin: Eqn, name: str, *inputs: Atom) -> Atom:
    return work.apply(origin, ALL[name], list(inputs), {})


def _neg(work: _Simplifier, origin: Eqn, inputs: list[Atom], params: dict[str, Any]) -> Atom | None:
    inner = work.defined_by(inputs[0], "neg")
    return None if inner is None else inner.inputs[0]


def _add(work: _Simplifier, origin: Eqn, inputs: list[Atom], params: dict[str, Any]) -> Atom | None:
    x, y = inputs
    negated = work.defined_by(y, "neg")
    if negated is not None:
        return _make(work, origin, "sub", x, negated.inputs[0])
    negated = work.defined_by(x, "neg")
    if negated is not None:
        return _make(work, origin, "sub", y, negated.inputs[0])
    if work.collect:
        found = _added_in_place(work, origin, x, y) or _added_in_place(work, origin, y, x)
        if found is not None:
            return found
    return _like_terms(work, origin, x, y)


def _added_in_place(work: _Simplifier, origin: Eqn, total: Atom, part: Atom) -> Atom | None:
    """A total plus what is zero but in a few places: these are added to it, and nothing else read.

    So the cotangent of an array that a loop reads in places costs those places at each step.
    """
    places = _places(work, part)
    if not places or constant(work, total) is not None:
        return None
    for eqn, update in places:
        if eqn.primitive.name == "scatter_add":
            total = work.apply(origin, eqn.primitive, [total, *eqn.inputs[1:]], eqn.params)
            continue
        starts, aval = eqn.inputs[2:], update.aval.strengthen()
        sizes = {"sizes": aval.shape}
        take = Eqn(ALL["dynamic_slice"], [total, *starts], [Var(aval)], sizes, origin.source)
        more = Eqn(ALL["add"], [work.keep(take), update], [Var(aval)], {}, origin.source)
        total = work.apply(origin, eqn.primitive, [total, work.keep(more), *starts], {})
    return total


def _places(work: _Simplifier, atom: Atom) -> list[tuple[Eqn, Atom]] | None:
    """The equations that add to zeros in places, in order, and what each adds; None otherwise."""
    found: list[tuple[Eqn, Atom]] = []
    while not _is(constant(work, atom), 0):
        eqn = work.definition.get(atom) if isinstance(atom, Var) else None
        if eqn is None or eqn.primitive.name not in ("scatter_add", "dynamic_update_slice"):
            return None
        base, update = eqn.inputs[:2]
        if eqn.primitive.name == "dynamic_update_slice" and not _is(constant(work, base), 0):
            added = _added_to_slice(work, eqn)
            if added is None:
                return None
            update = added
        found.append((eqn, update))
        atom = base
    return found[::-1]


def _added_to_slice(work: _Simplifier, eqn: Eqn) -> Atom | None:
    """What an update adds to the part that it replaces; None where it is no such update."""
    base, update, *starts = eqn.inputs
    sums = work.defined_by(update, "add")
    for i in (0, 1) if sums is not None else ():
        part = work.defined_by(sums.inputs[i], "dynamic_slice")  # type: ignore[union-attr]
        if part is not None and part.inputs == [base, *starts]:
            return sums.inputs[1 - i]  # type: ignore[union-attr]
    return None


def _sub(work: _Simplifier, origin: Eqn, inputs: list[Atom], params: dict[str, Any]) -> Atom | None:
    x, y = inputs
    negated = work.defined_by(y, "neg")
    if negated is not None:
        return _make(work, origin, "add", x, negated.inputs[0])
    return None


def _like_terms(work: _Simplifier, origin: Eqn, x: Atom, y: Atom) -> Atom | None:
    """x + x is 2*x, and where factors may be collected c*x + x is (c+1)*x."""
    if not _inexact(x):
        return None
    if not work.collect:
        return _times(work, origin, 2, x) if x is y else None
    (cx, bx), (cy, by) = _factored(work, x), _factored(work, y)
    if atom_key(bx) != atom_key(by) or isinstance(bx, Literal):
        return None
    return _times(work, origin, (1 if cx is None else cx) + (1 if cy is None else cy), bx)


def _factored(work: _Simplifier, atom: Atom) -> tuple[Any, Atom]:
    """An atom as a constant times the rest; None and the atom itself where there is none."""
    eqn = work.defined_by(atom, "mul")
    if eqn is not None:
        for i in (0, 1):
            value = constant(work, eqn.inputs[i])
            if value is not None:
                return value, eqn.inputs[1 - i]
    return None, atom


def _times(work: _Simplifier, origin: Eqn, factor: Any, x: Atom) -> Atom:
    """factor * x, with the factor broadcast to x's shape."""
    aval = x.aval
    literal: Atom = Literal(aval.dtype.type(factor), None)
    if aval.shape:
        broadcast = ALL["broadcast"]
        params = {"shape": aval.shape, "axes": tuple(range(aval.ndim))}
        var = Var(aval.strengthen())
        literal = work._keep_or_merge(Eqn(broadcast, [literal], [var], params, origin.source))[0]
    return work.apply(origin, ALL["mul"], [literal, x], {})


def _mul(work: _Simplifier, origin: Eqn, inputs: list[Atom], params: dict[str, Any]) -> Atom | None:
    if _is_plain(work, inputs):
        return None
    for x, y in (inputs, inputs[::-1]):
        value = constant(work, x)
        if _is(value, 1):
            return y
        if _is(value, -1) and _inexact(y):
            return _make(work, origin, "neg", y)
    if not _inexact(inputs[0]):
        return None
    return _pull_out_signs(work, origin, inputs, "mul") or _collect(work, origin, inputs, "mul")


def _scale(
    work: _Simplifier, origin: Eqn, inputs: list[Atom], params: dict[str, Any]
) -> Atom | None:
    if _is_plain(work, inputs):
        return None
    for x, y in (inputs, inputs[::-1]):
        value = constant(work, x)
        if _is(value, 1):
            return y
        if value is not None and np.isfinite(value) and value != 0:
            return _make(work, origin, "mul", x, y)
    return _pull_out_signs(work, origin, inputs, "scale") or _collect(work, origin, inputs, "scale")


def _pull_out_signs(work: _Simplifier, origin: Eqn, inputs: list[Atom], name: str) -> Atom | None:
    """(-x) * y is -(x * y): products with one sign are found again."""
    for x, y in (inputs, inputs[::-1]):
        negated = work.defined_by(x, "neg")
        if negated is not None:
            return _make(work, origin, "neg", _make(work, origin, name, negated.inputs[0], y))
    return None


def _collect(work: _Simplifier, origin: Eqn, inputs: list[Atom], name: str) -> Atom | None:
    """c * (d * x) is (c*d) * x, and (c * x) * y is c * (x * y): factors move outward."""
    if not work.collect:
        return None
    for x, y in (inputs, inputs[::-1]):
        value = constant(work, x)
        factor, rest = _factored(work, y)
        if factor is None or not _usable(factor):
            continue
        if value is not None and _usable(value):
            return _times(work, origin, factor * value, rest)
        if value is None:
            product = _make(work, origin, name, x, rest)
            return _times(work, origin, factor, product)
    return None


def _usable(factor: Any) -> bool:
    """May this factor be moved? Finite, not zero, and far from overflow and underflow.

    In float16 nothing is far from them.
    """
    if np.result_type(factor) == np.float16:
        return False
    return bool(np.isfinite(factor)) and 1e-3 < abs(factor) < 1e6


def _inexact(atom: Atom) -> bool:
    return atom.aval.dtype.kind in "fc"


def _identity_params(key: str, same: Callable[[Atom, Any], bool]) -> Rule:
    def rule(
        work: _Simplifier, origin: Eqn, inputs: list[Atom], params: dict[str, Any]
    ) -> Atom | None:
        return inputs[0] if same(inputs[0], params[key]) else None

    return rule


def _transpose(
    work: _Simplifier, origin: Eqn, inputs: list[Atom], params: dict[str, Any]
) -> Atom | None:
    perm: tuple[int, ...] = params["perm"]
    if perm == tuple(range(len(perm))):
        return inputs[0]
    inner = work.defined_by(inputs[0], "transpose")
    if inner is None:
        return None
    composed = tuple(inner.params["perm"][p] for p in perm)
    return work.apply(origin, origin.primitive, [inner.inputs[0]], {"perm": composed})


def _reshape(
    work: _Simplifier, origin: Eqn, inputs: list[Atom], params: dict[str, Any]
) -> Atom | None:
    if inputs[0].aval.shape == params["shape"]:
        return inputs[0]
    inner = work.defined_by(inputs[0], "reshape")
    return None if inner is None else work.apply(origin, inner.primitive, inner.inputs, params)


def _convert(
    work: _Simplifier, origin: Eqn, inputs: list[Atom], params: dict[str, Any]
) -> Atom | None:
    (x,) = inputs
    return x if x.aval.dtype == params["dtype"] and x.aval.weak == params["weak"] else None


def _broadcast(
    work: _Simplifier, origin: Eqn, inputs: list[Atom], params: dict[str, Any]
) -> Atom | None:
    axes: tuple[int, ...] = params["axes"]
    if axes == ():
        return inputs[0]
    inner = work.defined_by(inputs[0], "broadcast")
    if inner is None:
        return None
    kept = [d for d in range(len(params["shape"])) if d not in axes]
    composed = tuple(sorted([*axes, *[kept[i] for i in inner.params["axes"]]]))
    return work.apply(
        origin, inner.primitive, inner.inputs, {"shape": params["shape"], "axes": composed}
    )


RULES: dict[str, Rule] = {
    "neg": _neg,
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "scale": _scale,
    "transpose": _transpose,
    "reshape": _reshape,
    "convert": _convert,
    "broadcast": _broadcast,
    "reduce_sum": _identity_params("axes", lambda x, axes: axes == ()),
}
