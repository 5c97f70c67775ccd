"""Reverse mode for users: vjp, whose pullback takes cotangents of a result to the arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from functrans import tree
from functrans.api.border import Function, Staged, as_typed, finish, run, zeros
from functrans.api.gradient_programs import transposed_tangent
from functrans.api.primals import Point, Primals, run_primal
from functrans.api.results import AuxOutput
from functrans.api.tangents import check_tangents
from functrans.api.tape import Tape, add_bar
from functrans.control.steps import in_steps
from functrans.ir import Aval
from functrans.transforms.linearize import Linearized, linearize_jaxpr


def vjp(f: Function, *primals: Any, has_aux: bool = False) -> Any:
    """The value of f and its pullback, which takes a cotangent of the result to the arguments'.

    vjp : (a -> b) -> a -> (b, T b -o T a). The pullback returns a tuple with one entry for each
    of `primals`; it can be called any number of times, with the tree, shapes and dtypes of the
    result. With `has_aux` f returns `(result, aux)` and vjp `(result, pullback, aux)`.

    >>> y, pullback = vjp(lambda x: x + 1, np.array([1., 2., 3.]))
    >>> pullback(np.ones(3))
    (array([1., 1., 1.]),)
    """
    at = Primals(f, primals, "vjp")
    aux = AuxOutput(f, has_aux, "vjp")
    outs, pullback = pulled_back(at, aux, *at.stage(aux.split))
    num_results = len(outs) - aux.count
    result = tree.unflatten(aux.tree, outs[:num_results])
    return (result, pullback, aux.join(outs[num_results:])) if has_aux else (result, pullback)


def pulled_back(at: Point, aux: AuxOutput, staged: Staged, tape: Any) -> tuple[list[Any], Pullback]:
    """The results of a function that was staged, those of its aux too, and its pullback."""
    with staged:
        mask, inputs = at.inputs(staged)
        before = None if staged.cells is None else Before(tape, staged.cells)
        linear = linearize_jaxpr(in_steps(staged.jaxpr), mask)
        outs, residuals = run_primal(linear, staged, inputs)
    num_results = len(outs) - aux.count
    return outs, Pullback(
        at.name,
        linear,
        mask,
        residuals,
        aux.tree,
        staged.jaxpr.out_avals[:num_results],
        at.avals,
        at.flags,
        at.tree.unflatten,
        before,
    )


class Before(NamedTuple):
    """What was run for asks before the last segment, whose captured values have these cells."""

    tape: Tape
    cells: list[int]

    def pull(
        self, results: list[Any], mask: tuple[bool, ...], nonzero: Sequence[bool]
    ) -> dict[int, Any]:
        """The cotangents of the arguments by cell, from those of the last segment's inputs.

        `mask` marks the inputs that carry a derivative; `nonzero`, which of these have a cotangent.
        """
        found, wanted = iter(results), iter(nonzero)
        bars: dict[int, Any] = {}
        for cell, flag in zip(self.cells, mask, strict=True):
            if flag and next(wanted):
                add_bar(bars, cell, next(found))
        return self.tape.pull(bars)


class Pullback:
    """The linear map from a cotangent of a result to cotangents of the arguments.

    `before` is what was run already when the last segment of the function began, if it asked.
    """

    def __init__(
        self,
        name: str,
        linear: Linearized,
        mask: tuple[bool, ...],
        residuals: list[Any],
        out_tree: tree.PyTreeDef,
        out_avals: list[Aval],
        in_avals: list[Aval],
        active: list[bool],
        pick: Any,
        before: Before | None = None,
    ) -> None:
        self._before = before
        self._name, self._linear, self._mask, self._residuals = name, linear, mask, residuals
        self._out_tree, self._out_avals, self._in_avals = out_tree, out_avals, in_avals
        self._active, self._pick = active, pick

    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        """The cotangents of the arguments, one entry for each."""
        bars = check_tangents(
            cotangent, self._out_tree, self._out_avals, f"the pullback of {self._name}", "cotangent"
        )
        flags = self._linear.out_nonzero
        given = [b for b, flag in zip(bars, flags, strict=False) if flag]
        # Outputs after the result are aux: they get no cotangent.
        mask = tuple(i < len(bars) for i, flag in enumerate(flags) if flag)
        backward, nonzero = transposed_tangent(self._linear, self._mask, mask)
        pulled = run(backward, [*self._residuals, *given])
        if self._before is not None:
            by_cell = self._before.pull(pulled, self._mask, nonzero)
            return tuple(self._pick(self._of_arguments(by_cell, given)))
        results, found = iter(pulled), iter(nonzero)
        grads = [
            as_typed(next(results), a) if flag and next(found) else zeros(a)
            for a, flag in zip(self._in_avals, self._active, strict=True)
        ]
        return tuple(self._pick(grads))

    def _of_arguments(self, by_cell: dict[int, Any], given: list[Any]) -> list[Any]:
        """The cotangents of the arguments, which have the first cells."""
        places = [i for i in range(len(self._in_avals)) if i in by_cell]
        avals = [self._in_avals[i] for i in places]
        fresh = finish([by_cell[i] for i in places], avals, given)
        found = dict(zip(places, fresh, strict=True))
        return [
            as_typed(found[i], a) if i in found else zeros(a) for i, a in enumerate(self._in_avals)
        ]

    def __repr__(self) -> str:
        return f"<pullback of {self._name}>"
