"""Staging the functions that control flow is given, and the types that carries settle on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from functrans import tree
from functrans.api.border import Function, Staged, array_leaf, run, stage
from functrans.bind import bind, is_evaluating
from functrans.errors import TransformTypeError, describe, name_of, where
from functrans.ir import Aval, Eqn, Jaxpr, Primitive, Var, aval_of, inlined, intern
from functrans.recording import stage_walk
from functrans.surface.promotion import cast, placeholder
from functrans.tracing import Tracer
from functrans.transforms.simplify import simplify


def apply_program(walk: Callable[..., list[Any]], operands: Sequence[Any]) -> list[Any]:
    """`walk(*operands)`, which binds primitives; outside of every trace staged and run whole."""
    if not is_evaluating():
        return walk(*operands)
    program = stage_walk(walk, [aval_of(x) for x in operands], "scan")
    return run(simplify(intern(program)), operands)


def apply(primitive: Primitive, operands: Sequence[Any], **params: Any) -> list[Any]:
    """Bind a primitive; outside of every trace as a program, which tiers may compile."""
    if not is_evaluating():
        return bind(primitive, *operands, **params)
    invars = [Var(aval_of(x)) for x in operands]
    outvars = [Var(a) for a in primitive.abstract_eval(*[v.aval for v in invars], **params)]
    program = intern(Jaxpr(invars, [Eqn(primitive, invars, outvars, params)], outvars))
    return run(program, operands)


# -- types ---------------------------------------------------------------------------------------


def join(a: Aval, b: Aval) -> Aval | None:
    """The least aval that both convert to; None where shapes or dtypes have nothing in common."""
    if a == b:
        return a
    if a.shape != b.shape:
        return None
    if a.weak and b.weak:
        return Aval((), np.result_type(a.dtype, b.dtype), True)
    try:
        return Aval(a.shape, np.result_type(placeholder(a), placeholder(b)))
    except TypeError:
        return None


class Leaves(NamedTuple):
    """A pytree of arrays: its leaves, what messages call them, and its structure."""

    values: list[Any]
    names: list[str]
    treedef: tree.PyTreeDef

    @classmethod
    def of(cls, value: Any, what: str) -> Leaves:
        """The leaves of `value`, each an array or a number; `what` is what messages call it."""
        paths, treedef = tree.flatten_with_path(value)
        names = [f"{what}{tree.keystr(path)}" for path, _ in paths]
        values = [array_leaf(x, n) for (_, x), n in zip(paths, names, strict=True)]
        return cls(values, names, treedef)

    @property
    def avals(self) -> list[Aval]:
        return [aval_of(x) for x in self.values]

    def rebuild(self, values: Sequence[Any]) -> Any:
        return tree.unflatten(self.treedef, values)


class Settling:
    """Finds the types of a carry: the least that hold the initial values and what a step leaves.

    The body is traced with the types known so far until what it returns converts to them.
    """

    def __init__(self, what: str, function: Function, init: Leaves) -> None:
        self.what, self.function, self.init = what, function, init
        self.avals = init.avals
        self._wanted = self.avals

    def left(self, carry: Any) -> list[Any]:
        """The leaves of what a step leaves, in the types of the carry where they convert to them.

        Raises where its structure or a shape differs from the initial carry's.
        """
        values, treedef = tree.flatten(carry)
        if treedef != self.init.treedef:
            tree.check_structure(
                self.init.treedef,
                carry,
                f"{self.what}: {name_of(self.function)} ({where(self.function)}) must return a "
                "carry with the structure of the initial one, but it differs",
            )
        if any(type(x) is not Tracer for x in values):
            what = f"{self.what}: the carry that {name_of(self.function)} returns"
            values = Leaves.of(carry, what).values
        avals = [aval_of(x) for x in values]
        self._wanted = [
            self._joined(a, b, name)
            for a, b, name in zip(self.avals, avals, self.init.names, strict=True)
        ]
        if self._wanted != self.avals:
            return values
        return [cast(x, a.dtype, weak=a.weak) for x, a in zip(values, self.avals, strict=True)]

    def _joined(self, before: Aval, after: Aval, name: str) -> Aval:
        joined = join(before, after)
        if joined is None:
            raise TransformTypeError(
                f"{self.what}: {name} is {describe(before)}, but {name_of(self.function)} returns "
                f"{describe(after)} in its place ({where(self.function)}). A carry keeps its "
                "shape: start with an array of the shape that each step leaves."
            )
        return joined

    def stage(self, trace: Callable[[list[Aval]], Staged]) -> Staged:
        """`trace(avals of the carry)`, again for as long as types grow."""
        while True:
            staged = trace(self.avals)
            if self._wanted == self.avals:
                return staged
            staged.release()
            self.avals = self._wanted

    def start(self) -> list[Any]:
        """The initial values, in the types found."""
        pairs = zip(self.init.values, self.avals, strict=True)
        return [cast(x, a.dtype, weak=a.weak) for x, a in pairs]


def stage_abstract(
    function: Function,
    avals: Sequence[Aval],
    purpose: str,
    names: Sequence[str],
    user: Function,
) -> Staged:
    """`stage` on arguments without values."""
    stand_ins = [np.zeros((), a.dtype)[()] for a in avals]
    return stage(
        function, stand_ins, purpose=purpose, avals=avals, known=False, names=names, user=user
    )


# -- what functions capture -----------------------------------------------------------------------


def sharing_consts(staged: Sequence[Staged], num_operands: int) -> tuple[list[Any], list[Jaxpr]]:
    """What staged functions capture, each value once, and the programs as functions of all that."""
    places: dict[Any, int] = {}
    values: list[Any] = []
    for one in staged:
        for value in one.captured:
            if places.setdefault(_identity(value), len(values)) == len(values):
                values.append(value)
    programs: list[Jaxpr] = []
    for one in staged:
        consts = [Var(aval_of(x)) for x in values]
        operands = [Var(v.aval) for v in one.jaxpr.invars[len(one.captured) :]]
        assert len(operands) == num_operands
        own = [consts[places[_identity(x)]] for x in one.captured]
        eqns, outs = inlined(one.jaxpr, [*own, *operands], None)
        programs.append(intern(Jaxpr([*consts, *operands], eqns, outs)))
    return values, programs


def _identity(value: Any) -> Any:
    """What tells captured values apart: a tracer is captured as a snapshot, a new object."""
    return value.node.var if type(value) is Tracer else id(value)
