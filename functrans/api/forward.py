"""Forward mode for users: jvp, linearize and linear_transpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from functrans import tree
from functrans.api.arguments import require_callable
from functrans.api.border import Function, Staged, as_typed, run, stage, zeros
from functrans.api.inspecting import shaped
from functrans.api.primals import Point, Primals, run_primal
from functrans.api.results import AuxOutput
from functrans.api.tangents import check_tangents
from functrans.api.tape import Tape
from functrans.bind import is_evaluating
from functrans.control.steps import in_steps
from functrans.errors import TransformTypeError, describe, name_of, where
from functrans.ir import Aval, Jaxpr, is_inexact
from functrans.transforms.affine import require_linear
from functrans.transforms.jvp import jvp_jaxpr
from functrans.transforms.linearize import linearize_jaxpr
from functrans.transforms.transpose import transpose_jaxpr


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """The value of f and its derivative in the direction `tangents`.

    jvp : (a -> b) -> (a, T a) -> (b, T b). `primals` and `tangents` are tuples with one entry
    for each argument, of the same structure, shapes and dtypes; the result and its tangent are
    those of f. With `has_aux` f returns `(result, aux)` and jvp `(result, tangent, aux)`.

    Raises TypeError where structures or dtypes differ, ValueError where shapes do.

    >>> jvp(lambda x: x**2, (3.0,), (1.0,))
    (9.0, 6.0)
    """
    return jvp_for("jvp", f, primals, tangents, has_aux)


def jvp_for(
    what: str, f: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool
) -> Any:
    """`jvp` as a part of the transform called `what`, of which messages speak."""
    require_callable(f, what)
    require_tuples(primals, tangents, f, what)
    if not primals:
        raise TransformTypeError(
            f"jvp: {name_of(f)} was given no primals ({where(f)}). Give a tuple with one entry for "
            "each of its arguments."
        )
    at = Primals(f, tuple(primals), "jvp")
    dots = check_tangents(tuple(tangents), at.tree, at.avals, f"{what} of {at.name}", "tangent")
    aux = AuxOutput(f, has_aux, "jvp")
    staged, tape = at.stage(aux.split)
    with staged:
        mask, inputs = at.inputs(staged)
        pushed, nonzero = jvp_jaxpr(in_steps(staged.jaxpr), mask)
        results = run(pushed, [*inputs, *_reaching(dots, at.flags, tape, staged.cells)])
    num_outs = len(nonzero)
    outs, moved = results[:num_outs], iter(results[num_outs:])
    out_avals = staged.jaxpr.out_avals
    out_dots = [
        as_typed(next(moved), a) if flag else zeros(a)
        for a, flag in zip(out_avals, nonzero, strict=True)
    ]
    num_results = num_outs - aux.count
    result = tree.unflatten(aux.tree, outs[:num_results])
    tangent = tree.unflatten(aux.tree, out_dots[:num_results])
    return (result, tangent, aux.join(outs[num_results:])) if has_aux else (result, tangent)


def _reaching(
    dots: list[Any], flags: Sequence[bool], tape: Tape | None, cells: list[int] | None
) -> list[Any]:
    """The tangents of the inputs of a staged program, from those of the arguments.

    `cells` are those of its inputs, where the function was run segment by segment before.
    """
    if cells is None:
        return [d for d, flag in zip(dots, flags, strict=True) if flag]
    assert tape is not None
    by_cell = tape.push(dots)
    return [by_cell[cell] for cell in cells if cell >= 0]


def require_tuples(
    primals: Any, others: Any, f: Function, what: str, word: str = "tangents"
) -> None:
    """Raise unless both are tuples or lists of one length; `word` names the others."""
    one = word.removesuffix("s") if word == "tangents" else word
    for named, value in (("primals", primals), (word, others)):
        if not isinstance(value, (tuple, list)):
            raise TransformTypeError(
                f"{what}: {named} must be a tuple with one entry for each argument of "
                f"{name_of(f)}, but got {describe(value)}. Write "
                f"({one if named == word else 'primal'},) for a single argument."
            )
    if len(primals) != len(others):
        raise TransformTypeError(
            f"{what}: {name_of(f)} got {len(primals)} primals but {len(others)} {word} "
            f"({where(f)}). Give one {one} for each primal."
        )


def linearize(f: Function, *primals: Any, has_aux: bool = False) -> Any:
    """The value of f and its derivative at `primals` as a linear function of tangents.

    linearize : (a -> b) -> a -> (b, T a -o T b). f is computed once; the linear function can be
    called many times.

    >>> y, derivative = linearize(lambda x: x**2, 3.0)
    >>> derivative(1.0), derivative(10.0)
    (6.0, 60.0)
    """
    at = Primals(f, primals, "linearize")
    aux = AuxOutput(f, has_aux, "linearize")
    outs, derivative = linearized(at, aux, *at.stage(aux.split))
    num_results = len(outs) - aux.count
    result = tree.unflatten(aux.tree, outs[:num_results])
    return (result, derivative, aux.join(outs[num_results:])) if has_aux else (result, derivative)


def linearized(
    at: Point, aux: AuxOutput, staged: Staged, tape: Tape | None
) -> tuple[list[Any], Derivative]:
    """The results of a function that was staged, those of its aux too, and its derivative."""
    with staged:
        mask, inputs = at.inputs(staged)
        linear = linearize_jaxpr(in_steps(staged.jaxpr), mask)
        outs, residuals = run_primal(linear, staged, inputs)
    num_results = len(outs) - aux.count
    return outs, Derivative(
        at.name,
        linear.tangent,
        linear.out_nonzero[:num_results],
        residuals,
        at.tree,
        at.avals,
        aux.tree,
        staged.jaxpr.out_avals[:num_results],
        tape,
        staged.cells,
    )


class Derivative:
    """The derivative of a function at a point, as a linear function of tangents.

    `tape` has what was run before the last segment, of whose inputs these are the `cells`, where
    the function asked for values.
    """

    def __init__(
        self,
        name: str,
        tangent: Jaxpr,
        nonzero: tuple[bool, ...],
        residuals: list[Any],
        in_tree: tree.PyTreeDef,
        in_avals: list[Aval],
        out_tree: tree.PyTreeDef,
        out_avals: list[Aval],
        tape: Tape | None,
        cells: list[int] | None,
    ) -> None:
        self._name, self._tangent, self._nonzero = name, tangent, nonzero
        self._residuals, self._tape, self._cells = residuals, tape, cells
        self._in_tree, self._in_avals = in_tree, in_avals
        self._out_tree, self._out_avals = out_tree, out_avals

    def __call__(self, *tangents: Any) -> Any:
        """The tangent of the result, for one tangent for each argument."""
        what = f"the derivative of {self._name}"
        dots = check_tangents(tangents, self._in_tree, self._in_avals, what, "tangent")
        flags = [is_inexact(a.dtype) for a in self._in_avals]
        given = _reaching(dots, flags, self._tape, self._cells)
        moved = iter(run(self._tangent, [*self._residuals, *given]))
        avals = zip(self._out_avals, self._nonzero, strict=True)
        return tree.unflatten(
            self._out_tree,
            [as_typed(next(moved), a) if flag else zeros(a) for a, flag in avals],
        )

    def __repr__(self) -> str:
        return f"<derivative of {self._name}>"


def linear_transpose(f: Function, *examples: Any) -> Callable[[Any], tuple[Any, ...]]:
    """The transpose of a function that is linear in all its arguments.

    linear_transpose : (a -o b) -> (T b -o T a). `examples` give the shapes and dtypes of the
    arguments (arrays, or ShapeDtypeStructs); their values do not matter. The result takes a
    cotangent of f's result and returns a tuple. Raises TypeError, naming the operation, when f
    is not linear.

    >>> linear_transpose(lambda x: 3.0 * x, 1.0)(2.0)
    (6.0,)
    """
    require_callable(f, "linear_transpose")
    flat, in_tree = tree.flatten(examples)
    avals = [shaped(x, "linear_transpose: an argument") for x in flat]
    out_tree: list[tree.PyTreeDef] = []

    def flat_f(*xs: Any) -> list[Any]:
        leaves, treedef = tree.flatten(f(*tree.unflatten(in_tree, xs)))
        out_tree.append(treedef)
        return leaves

    with stage(
        flat_f, flat, purpose="linear_transpose", avals=avals, known=False, user=f
    ) as staged:
        mask = (False,) * len(staged.captured) + (True,) * len(flat)
        captured = [x.copy() if hasattr(x, "copy") else x for x in staged.captured]
    jaxpr = staged.jaxpr
    at_zero = require_linear(jaxpr, mask, f"linear_transpose: {name_of(f)} ({where(f)})")
    if is_evaluating():
        at_zero(captured)

    def transposed(cotangent: Any) -> tuple[Any, ...]:
        what = f"the transpose of {name_of(f)}"
        bars = check_tangents(cotangent, out_tree[0], jaxpr.out_avals, what, "cotangent")
        backward, nonzero = transpose_jaxpr(jaxpr, mask, (True,) * len(bars))
        results = iter(run(backward, [*captured, *bars]))
        grads = [
            next(results) if flag else zeros(a) for a, flag in zip(avals, nonzero, strict=True)
        ]
        return tuple(tree.unflatten(in_tree, grads))

    return transposed
