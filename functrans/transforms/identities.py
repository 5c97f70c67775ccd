"""Identities: what an operation is besides, exactly; the rules of rewriting, by primitive.

Values stay what they were, NaN and infinity included: 0*x is never 0 and x+0 never x. Constant
factors are collected where the program is one of derivatives, rounding aside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from functrans.ir import Atom, Elementwise, Eqn, Literal, Primitive, Var
from functrans.primitives import ALL
from functrans.transforms.rewriting import RULES, Rewriter, Rule, atom_key


def constant(work: Rewriter, atom: Atom) -> Any:
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


def _is_plain(work: Rewriter, inputs: list[Atom]) -> bool:
    """Is there nothing in the factors that a product could be simplified by?"""
    for atom in inputs:
        if type(atom) is Literal:
            return False
        eqn = work.definition.get(atom)  # type: ignore[arg-type]
        if eqn is not None and eqn.primitive.name in TELLING:
            return False
    return True


def _make(work: Rewriter, origin: Eqn, name: str, *inputs: Atom) -> Atom:
    return work.apply(origin, ALL[name], list(inputs), {})


def _neg(work: Rewriter, origin: Eqn, inputs: list[Atom], params: dict[str, Any]) -> Atom | None:
    inner = work.defined_by(inputs[0], "neg")
    return None if inner is None else inner.inputs[0]


def _add(work: Rewriter, origin: Eqn, inputs: list[Atom], params: dict[str, Any]) -> Atom | None:
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


def _added_in_place(work: Rewriter, origin: Eqn, total: Atom, part: Atom) -> Atom | None:
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


def _places(work: Rewriter, atom: Atom) -> list[tuple[Eqn, Atom]] | None:
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


def _added_to_slice(work: Rewriter, eqn: Eqn) -> Atom | None:
    """What an update adds to the part that it replaces; None where it is no such update."""
    base, update, *starts = eqn.inputs
    sums = work.defined_by(update, "add")
    for i in (0, 1) if sums is not None else ():
        part = work.defined_by(sums.inputs[i], "dynamic_slice")  # type: ignore[union-attr]
        if part is not None and part.inputs == [base, *starts]:
            return sums.inputs[1 - i]  # type: ignore[union-attr]
    return None


def _sub(work: Rewriter, origin: Eqn, inputs: list[Atom], params: dict[str, Any]) -> Atom | None:
    x, y = inputs
    negated = work.defined_by(y, "neg")
    if negated is not None:
        return _make(work, origin, "add", x, negated.inputs[0])
    return None


def _like_terms(work: Rewriter, origin: Eqn, x: Atom, y: Atom) -> Atom | None:
    """x + x is 2*x, and where factors may be collected c*x + x is (c+1)*x."""
    if not _inexact(x):
        return None
    if not work.collect:
        return _times(work, origin, 2, x) if x is y else None
    (cx, bx), (cy, by) = _factored(work, x), _factored(work, y)
    if atom_key(bx) != atom_key(by) or isinstance(bx, Literal):
        return None
    return _times(work, origin, (1 if cx is None else cx) + (1 if cy is None else cy), bx)


def _factored(work: Rewriter, atom: Atom) -> tuple[Any, Atom]:
    """An atom as a constant times the rest; None and the atom itself where there is none."""
    eqn = work.defined_by(atom, "mul")
    if eqn is not None:
        for i in (0, 1):
            value = constant(work, eqn.inputs[i])
            if value is not None:
                return value, eqn.inputs[1 - i]
    return None, atom


def _times(work: Rewriter, origin: Eqn, factor: Any, x: Atom) -> Atom:
    """factor * x, with the factor broadcast to x's shape."""
    aval = x.aval
    literal: Atom = Literal(aval.dtype.type(factor), None)
    if aval.shape:
        broadcast = ALL["broadcast"]
        params = {"shape": aval.shape, "axes": tuple(range(aval.ndim))}
        var = Var(aval.strengthen())
        literal = work.keep(Eqn(broadcast, [literal], [var], params, origin.source))
    return work.apply(origin, ALL["mul"], [literal, x], {})


def _mul(work: Rewriter, origin: Eqn, inputs: list[Atom], params: dict[str, Any]) -> Atom | None:
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


def _scale(work: Rewriter, origin: Eqn, inputs: list[Atom], params: dict[str, Any]) -> Atom | None:
    if _is_plain(work, inputs):
        return None
    for x, y in (inputs, inputs[::-1]):
        value = constant(work, x)
        if _is(value, 1):
            return y
        if value is not None and np.isfinite(value) and value != 0:
            return _make(work, origin, "mul", x, y)
    return _pull_out_signs(work, origin, inputs, "scale") or _collect(work, origin, inputs, "scale")


def _pull_out_signs(work: Rewriter, origin: Eqn, inputs: list[Atom], name: str) -> Atom | None:
    """(-x) * y is -(x * y): products with one sign are found again."""
    for x, y in (inputs, inputs[::-1]):
        negated = work.defined_by(x, "neg")
        if negated is not None:
            return _make(work, origin, "neg", _make(work, origin, name, negated.inputs[0], y))
    return None


def _collect(work: Rewriter, origin: Eqn, inputs: list[Atom], name: str) -> Atom | None:
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
        work: Rewriter, origin: Eqn, inputs: list[Atom], params: dict[str, Any]
    ) -> Atom | None:
        return inputs[0] if same(inputs[0], params[key]) else None

    return rule


def _transpose(
    work: Rewriter, origin: Eqn, inputs: list[Atom], params: dict[str, Any]
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
    work: Rewriter, origin: Eqn, inputs: list[Atom], params: dict[str, Any]
) -> Atom | None:
    if inputs[0].aval.shape == params["shape"]:
        return inputs[0]
    inner = work.defined_by(inputs[0], "reshape")
    return None if inner is None else work.apply(origin, inner.primitive, inner.inputs, params)


def _convert(
    work: Rewriter, origin: Eqn, inputs: list[Atom], params: dict[str, Any]
) -> Atom | None:
    (x,) = inputs
    if x.aval.dtype != params["dtype"]:
        return None
    if x.aval.weak == params["weak"]:
        return x
    if type(x) is not Literal:
        return None
    value = np.asarray(x.value, x.aval.dtype)[()]
    return Literal(value.item() if params["weak"] else value, origin.outputs[0].aval)


def _broadcast(
    work: Rewriter, origin: Eqn, inputs: list[Atom], params: dict[str, Any]
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


def _logic(deciding: bool) -> Rule:
    """and, or: `deciding` decides the result, the other truth value says nothing."""

    def rule(
        work: Rewriter, origin: Eqn, inputs: list[Atom], params: dict[str, Any]
    ) -> Atom | None:
        if inputs[0].aval.dtype.kind != "b":
            return None
        for atom, other in (inputs, inputs[::-1]):
            value = constant(work, atom)
            if value is not None:
                return atom if bool(value) == deciding else other
        return inputs[0] if inputs[0] == inputs[1] else None

    return rule


def _select(work: Rewriter, origin: Eqn, inputs: list[Atom], params: dict[str, Any]) -> Atom | None:
    where, yes, no = inputs
    value = constant(work, where)
    if value is None:
        return yes if yes == no else None
    return yes if value else no


RULES.update(
    {
        "neg": _neg,
        "add": _add,
        "sub": _sub,
        "mul": _mul,
        "scale": _scale,
        "transpose": _transpose,
        "reshape": _reshape,
        "convert": _convert,
        "broadcast": _broadcast,
        "and": _logic(deciding=False),
        "or": _logic(deciding=True),
        "select": _select,
        "reduce_sum": _identity_params("axes", lambda x, axes: axes == ()),
    }
)


# -- what a broadcast repeats ------------------------------------------------------------------


def _once(primitive: Primitive, rule: Rule | None) -> Rule:
    """The rule of a function of each element; where it says nothing, that of `_repeated`."""

    def of_elements(
        work: Rewriter, origin: Eqn, inputs: list[Atom], params: dict[str, Any]
    ) -> Atom | None:
        found = None if rule is None else rule(work, origin, inputs, params)
        return _repeated(primitive, work, origin, inputs, params) if found is None else found

    return of_elements


def _repeated(
    primitive: Primitive, work: Rewriter, origin: Eqn, inputs: list[Atom], params: dict[str, Any]
) -> Atom | None:
    """f(broadcast x, broadcast y) = broadcast f(x, y), along the axes that all have in common."""
    aval = origin.outputs[0].aval
    if not aval.shape or not inputs:
        return None
    common: frozenset[int] = frozenset(range(aval.ndim))
    sources: list[Eqn] = []
    for atom in inputs:
        source = work.defined_by(atom, "broadcast")
        common = frozenset() if source is None else common.intersection(source.params["axes"])
        if source is None or not common:
            return None
        sources.append(source)
    kept = [d for d in range(aval.ndim) if d not in common]
    shape = tuple(aval.shape[d] for d in kept)
    narrow = [_narrow(work, source, kept, shape) for source in sources]
    inner = Eqn(primitive, narrow, [Var(aval.with_shape(shape))], params, origin.source)
    single = work.apply(inner, primitive, narrow, params)
    repeat = {"shape": aval.shape, "axes": tuple(sorted(common))}
    return work.apply(origin, ALL["broadcast"], [single], repeat)


def _narrow(work: Rewriter, source: Eqn, kept: list[int], shape: tuple[int, ...]) -> Atom:
    """What a broadcast gives along the axes `kept`, all others being its own."""
    (x,) = source.inputs
    axes = tuple(i for i, d in enumerate(kept) if d in source.params["axes"])
    if not axes:
        return x
    out = Var(x.aval.with_shape(shape))
    params = {"shape": shape, "axes": axes}
    return work.keep(Eqn(source.primitive, [x], [out], params, source.source))


OF_ELEMENTS = frozenset({"select", "convert", "real", "imag", "conj", "complex"})
"""Functions of each element that have another property."""

for _name, _primitive in ALL.items():
    if isinstance(_primitive.property, Elementwise) or _name in OF_ELEMENTS:
        RULES[_name] = _once(_primitive, RULES.get(_name))
