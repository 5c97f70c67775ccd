"""Primals: the positional arguments at which a function is transformed, and its trace on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from functrans import tree
from functrans.api.arguments import split_arguments
from functrans.api.border import Function, Staged, array_leaf, finish, stage, unaliased
from functrans.api.quick import Quick
from functrans.api.tape import Tape
from functrans.bind import eval_jaxpr
from functrans.errors import name_of
from functrans.ir import Aval, aval_of, is_inexact
from functrans.transforms.linearize import Linearized


class Point:
    """Where a function is transformed: leaves, their tree and avals, and which carry a derivative.

    `name` is the function's.
    """

    def __init__(
        self,
        name: str,
        leaves: list[Any],
        avals: list[Aval],
        flags: list[bool],
        treedef: tree.PyTreeDef,
    ) -> None:
        self.name, self.leaves, self.avals = name, leaves, avals
        self.flags, self.tree = flags, treedef

    def inputs(self, staged: Staged) -> tuple[tuple[bool, ...], list[Any]]:
        """Which inputs of the staged program carry a derivative, and their values."""
        if staged.cells is not None:  # the arguments went into what was run before
            return tuple([cell >= 0 for cell in staged.cells]), list(staged.captured)
        flags = (False,) * len(staged.captured) + tuple(self.flags)
        return flags, [*staged.captured, *self.leaves]


class Primals(Point):
    """All positional arguments of a call. `what` is the transform.

    Raises TypeError where one is no array or number.
    """

    def __init__(self, f: Function, args: tuple[Any, ...], what: str) -> None:
        self._f, self._args, self._what = f, args, what
        self._quick = Quick(f, tuple(range(len(args))), what)
        self._call = self._quick.known(args, {})
        if self._call is None:
            split = split_arguments(f, range(len(args)), args, {}, what)
            self._names = split.names
            named = zip(split.leaves, split.names, strict=True)
            leaves = [array_leaf(x, f"{what}: {name}") for x, name in named]
            avals = [aval_of(x) for x in leaves]
            flags = [is_inexact(a.dtype) for a in avals]
            super().__init__(name_of(f), leaves, avals, flags, tree.structure(args))
        else:
            signature, leaves, treedef = self._call
            assert treedef is not None
            super().__init__(signature.name, leaves, signature.avals, signature.flags, treedef)

    def stage(self, flat: Callable[[Any], list[Any]]) -> tuple[Staged, Any]:
        """Trace the function; `flat` takes its result apart. What comes before an ask is run, and
        the tape, which comes second, has it."""
        if self._call is not None:
            trace, staged = self._quick.trace(self._call, self._args, {}, flat)
            assert isinstance(staged, Staged)
            return staged, trace.tape
        tape = Tape(self.flags)
        staged = stage(
            lambda *xs: flat(self._f(*self.tree.unflatten(xs))),
            self.leaves,
            user=self._f,
            purpose=self._what,
            active=self.flags,
            names=self._names,
            tape=tape,
        )
        self._quick.learn(self._args, {}, self._names)
        return staged, tape


def run_primal(
    linear: Linearized, staged: Staged, inputs: list[Any]
) -> tuple[list[Any], list[Any]]:
    """The finished outputs of a linearized call, and its residuals, which alias nothing."""
    raw = eval_jaxpr(linear.primal, inputs)
    num_outs = len(staged.jaxpr.outvars)
    residuals = unaliased(raw[num_outs:], inputs)
    outs = finish(raw[:num_outs], staged.jaxpr.out_avals, [*inputs, *residuals])
    return outs, residuals
