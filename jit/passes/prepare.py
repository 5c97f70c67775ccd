"""Prepares a jaxpr for fusion: inlines calls, expands composite equations, makes results distinct.

Afterwards every equation is one that a table of jit.lowering.rules knows, and every result is a
variable of its own, made by an equation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeAlias

from functrans.extend import (
    Atom,
    Aval,
    Effect,
    Eqn,
    Jaxpr,
    Literal,
    Primitive,
    Var,
    primitives,
    provided_among,
    prune,
    simplify,
)
from jit.lowering import families
from jit.lowering.copying import stays_p
from jit.lowering.elementwise import extremes
from jit.lowering.graph import Graph
from jit.lowering.rules import EXPANSIONS, REDUCTIONS, EquationBuilder, loop_dtype, needs_check
from jit.passes.turning import sum_products, turn_products
from jit.passes.updates import update_in_place

broadcast_p = primitives.structural.broadcast_p
reshape_p = primitives.structural.reshape_p
add_p = primitives.elementwise.add_p
copy_p = primitives.structural.stop_gradient_p
pure_callback_p = primitives.callbacks.pure_callback_p
Control: TypeAlias = Callable[[EquationBuilder, Eqn], list[Atom] | None]
"""Gives the results of equations that hold bodies, None for any other."""


# -- calls ------------------------------------------------------------------------------------


def inline_calls(jaxpr: Jaxpr) -> Jaxpr:
    """The same program with the equations of inner jaxprs in place of their calls."""
    if not any(eqn.primitive.stands_for for eqn in jaxpr.eqns):
        return jaxpr
    eqns: list[Eqn] = []
    env: dict[Var, Atom] = {}
    append_inlined(jaxpr, env, eqns)
    outvars = [renamed(a, env) for a in jaxpr.outvars]
    return Jaxpr(jaxpr.invars, eqns, outvars, jaxpr.num_consts)


def renamed(atom: Atom, env: dict[Var, Atom]) -> Atom:
    return env.get(atom, atom) if isinstance(atom, Var) else atom


def append_inlined(jaxpr: Jaxpr, env: dict[Var, Atom], eqns: list[Eqn]) -> None:
    """Append the equations of `jaxpr`, its variables renamed by `env`."""
    for eqn in jaxpr.eqns:
        inputs = [renamed(a, env) for a in eqn.inputs]
        if eqn.primitive.stands_for is not None:
            env.update(zip(eqn.outputs, append_call(eqn, inputs, eqns), strict=True))
            continue
        outputs = [Var(v.aval) for v in eqn.outputs]
        env.update(zip(eqn.outputs, outputs, strict=True))
        eqns.append(Eqn(eqn.primitive, inputs, outputs, eqn.params, eqn.source))


def append_call(eqn: Eqn, inputs: list[Atom], eqns: list[Eqn]) -> list[Atom]:
    """The equations of a call; of an opaque one, behind a barrier, so that they stay apart."""
    stands_for = eqn.primitive.stands_for
    assert stands_for is not None
    inner: Jaxpr = stands_for(**eqn.params)
    if eqn.primitive.opaque and inputs:
        from functrans.extend import barrier_p

        outputs = [Var(a.aval) for a in inputs]
        eqns.append(Eqn(barrier_p, inputs, outputs, {}, eqn.source))
        inputs = list(outputs)
    env: dict[Var, Atom] = dict(zip(inner.invars, inputs, strict=True))
    append_inlined(inner, env, eqns)
    return [renamed(a, env) for a in inner.outvars]


def flat(jaxpr: Jaxpr) -> Jaxpr:
    """A program with its calls inlined, simplified."""
    return simplify(inline_calls(jaxpr))


# -- expansion --------------------------------------------------------------------------------


class Expander:
    """Appends equations, rewriting those that have an expansion."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.eqns: list[Eqn] = []
        self.env: dict[Var, Atom] = {}
        self.source: Any = None
        self.makers: dict[Atom, Eqn] = {}

    def made_by(self, atom: Atom) -> Eqn | None:
        """The equation that makes an atom, None for inputs and literals."""
        return self.makers.get(atom)

    def bind(self, primitive: Primitive, *inputs: Atom, **params: Any) -> list[Atom]:
        families.load([primitive])
        avals = primitive.abstract_eval(*[a.aval for a in inputs], **params)
        outputs = [Var(aval) for aval in avals]
        return self.add(Eqn(primitive, inputs, outputs, params, self.source))

    def bind_as(self, primitive: Primitive, eqn: Eqn, **params: Any) -> list[Atom]:
        """The results of an equation under another primitive, with more params."""
        return self.keep(Eqn(primitive, eqn.inputs, eqn.outputs, eqn.params | params, eqn.source))

    def add(self, eqn: Eqn) -> list[Atom]:
        """The results of an equation whose inputs are already renamed."""
        self.source = eqn.source
        expansion = EXPANSIONS.get(eqn.primitive)
        found = self.control(self, eqn) if expansion is None else expansion(self, eqn)
        if found is None and eqn.primitive in REDUCTIONS:
            found = self.trivial_fold(eqn)
        return self.keep(eqn) if found is None else found

    def keep(self, eqn: Eqn) -> list[Atom]:
        """The results of an equation as it is."""
        self.eqns.append(eqn)
        for out in eqn.outputs:
            self.makers[out] = eqn
        return list(eqn.outputs)

    def trivial_fold(self, eqn: Eqn) -> list[Atom] | None:
        """A reduction over axes of length 1 only reshapes; one over no elements is its identity."""
        fold = REDUCTIONS[eqn.primitive](eqn)
        (out,) = eqn.outputs
        size = prod(fold.extents)
        if size == out.aval.size and len(eqn.inputs) == 1:
            return self.reshaped_sum(eqn, fold.monoid)
        if size or out.aval.size == 0:
            return None
        value = Literal(out.aval.dtype.type(identity(fold.monoid, out.aval)))
        axes = tuple(range(out.aval.ndim))
        return self.bind(broadcast_p, value, shape=out.aval.shape, axes=axes) if axes else [value]

    def reshaped_sum(self, eqn: Eqn, monoid: str) -> list[Atom]:
        """The operand without its axes of length 1; a sum starts from +0, which -0 becomes."""
        aval = eqn.outputs[0].aval
        (x,) = self.bind(reshape_p, eqn.inputs[0], shape=aval.shape)
        if monoid != "add" or aval.dtype.kind in "iu":
            return [x]
        zero: Atom = Literal(aval.dtype.type(0))
        if aval.shape:
            axes = tuple(range(aval.ndim))
            (zero,) = self.bind(broadcast_p, zero, shape=aval.shape, axes=axes)
        return self.bind(add_p, x, zero)


def identity(monoid: str, aval: Aval) -> Any:
    """The neutral element of a monoid."""
    low, high = extremes(loop_dtype(aval.dtype))
    return {"add": 0, "mul": 1, "max": low, "min": high, "and": True, "or": False}[monoid]


def expand(jaxpr: Jaxpr, control: Control) -> tuple[list[Eqn], list[Atom]]:
    """The equations with expansions written out, and the atoms of the results."""
    families.load({eqn.primitive for eqn in jaxpr.eqns})
    work = Expander(control)
    env = work.env
    for eqn in jaxpr.eqns:
        inputs = [renamed(a, env) for a in eqn.inputs]
        moved = Eqn(eqn.primitive, inputs, eqn.outputs, eqn.params, eqn.source)
        for out, atom in zip(eqn.outputs, work.add(moved), strict=True):
            if atom is not out:
                env[out] = atom
    return work.eqns, [renamed(a, env) for a in jaxpr.outvars]


def nothing_of_nothing(eqns: Sequence[Eqn]) -> list[Eqn]:
    """What has no elements depends on nothing: so nothing is computed for it.

    Equations with an effect, or that check an index, stay.
    """
    return [
        Eqn(broadcast_p, [zero_of(eqn.outputs[0])], eqn.outputs, filling(eqn), eqn.source)
        if len(eqn.outputs) == 1
        and eqn.inputs
        and eqn.outputs[0].aval.size == 0
        and eqn.effect is Effect.NONE
        and not needs_check(eqn)
        else eqn
        for eqn in eqns
    ]


def zero_of(var: Var) -> Literal:
    return Literal(var.aval.dtype.type(0))


def filling(eqn: Eqn) -> dict[str, Any]:
    shape = eqn.outputs[0].aval.shape
    return {"shape": shape, "axes": tuple(range(len(shape)))}


def distinct_results(
    eqns: list[Eqn],
    outvars: Sequence[Atom],
    avals: Sequence[Aval],
    sources: Sequence[Var | None],
) -> list[Var]:
    """One variable made by an equation for each result; inputs, literals and repeats are copied.

    An input that may stay where it is, as sources[j] says of result j, is copied only if it cannot.
    """
    made = {v for eqn in eqns for v in eqn.outputs}
    taken: set[Var] = set()
    found: list[Var] = []
    for atom, aval, source in zip(outvars, avals, sources, strict=True):
        if isinstance(atom, Literal) or atom not in made or atom in taken:
            copy = Var(aval)
            eqns.append(Eqn(stays_p if atom is source else copy_p, [atom], [copy], {}))
            atom = copy
        taken.add(atom)
        found.append(atom)
    return found


def with_steps_once(jaxpr: Jaxpr) -> Jaxpr:
    """The program with each while and the sweep that takes its steps again as one equation."""
    sweeps = provided_among("sweep")
    if not any(eqn.primitive in sweeps for eqn in jaxpr.eqns):
        return jaxpr
    from jit.passes.joining import joined

    return joined(jaxpr)


def with_factors_once(eqns: list[Eqn]) -> list[Eqn]:
    """The equations, where what LAPACK does of one matrix shares its factors."""
    if not any(eqn.primitive is pure_callback_p for eqn in eqns):
        return eqns
    from jit.passes.factored import factored_once

    return factored_once(eqns)


def to_graph(
    jaxpr: Jaxpr,
    control: Control = lambda eqs, eqn: None,
    taken: Sequence[int | None] = (),
) -> Graph:
    """The graph that fusion works on. taken[j]: the input whose memory result j may take."""
    eqns, outvars = expand(with_steps_once(jaxpr), control)
    eqns = prune(with_factors_once(nothing_of_nothing(eqns)), outvars)
    eqns = sum_products(turn_products(eqns, outvars), outvars)
    sources = [None if i is None else jaxpr.invars[i] for i in taken or [None] * len(outvars)]
    results = distinct_results(eqns, outvars, jaxpr.out_avals, sources)
    pairs = [(jaxpr.invars[i], results[j]) for j, i in enumerate(taken) if i is not None]
    eqns, kept = update_in_place(eqns, pairs)
    return Graph(jaxpr.invars, eqns, results, kept)
