"""Branches: cond and switch, which run one of several functions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from functrans import tree
from functrans.api.arguments import require_callable
from functrans.api.border import Function, Staged, array_leaf, stage
from functrans.control.cond import cond_p
from functrans.errors import TransformTypeError, describe, name_of, where
from functrans.ir import Aval, Eqn, Jaxpr, Var, aval_of, intern
from functrans.lax.staging import Leaves, apply, join, sharing_consts
from functrans.primitives import elementwise as e
from functrans.primitives.structural import convert_p
from functrans.surface.promotion import BOOL, cast

_NOTHING: Any = object()
INDEX = np.dtype(np.int32)


def cond(
    pred: Any, true_fun: Function, false_fun: Function, *operands: Any, operand: Any = _NOTHING
) -> Any:
    """`true_fun(*operands)` where pred holds, else `false_fun(*operands)`.

    Both are traced, one runs. They must return the same structure and shapes; dtypes are promoted
    to those that hold both.

    >>> cond(2 > 1, lambda x: x + 1, lambda x: x - 1, 10)
    11
    """
    given = _operands(operands, operand, "cond")
    chosen = as_predicate(pred, "cond", None)
    index = cast(chosen, INDEX)
    return _one_of("cond", index, (true_fun, false_fun), given, last_first=True)


def switch(
    index: Any, branches: Sequence[Function], *operands: Any, operand: Any = _NOTHING
) -> Any:
    """`branches[index](*operands)`, with the index clamped to the range of the branches.

    >>> switch(5, [lambda x: x + 1, lambda x: -x], 10)
    -10
    """
    given = _operands(operands, operand, "switch")
    functions = tuple(branches)
    if not functions:
        raise TransformTypeError("switch: there must be at least one branch.")
    which = array_leaf(index, "switch: the index")
    aval = aval_of(which)
    if aval.shape != () or aval.dtype.kind not in "iu":
        raise TransformTypeError(
            f"switch: the index must be an integer scalar, but it is {describe(index)}. Use cond "
            "for a bool, and .astype(int) for a float."
        )
    if aval.weak or aval.dtype not in (INDEX, np.dtype(np.int64)):
        which = cast(which, np.dtype(np.int64))
    return _one_of("switch", which, functions, given)


def _operands(operands: tuple[Any, ...], operand: Any, what: str) -> tuple[Any, ...]:
    if operand is _NOTHING:
        return operands
    if operands:
        raise TransformTypeError(
            f"{what}: operands were given both by position and as operand=. Use one of the two."
        )
    return (operand,)


def as_predicate(value: Any, what: str, function: Function | None) -> Any:
    """A scalar as a boolean: numbers are true where they are not zero."""
    by = "" if function is None else f" that {name_of(function)} returns"
    place = "" if function is None else f" ({where(function)})"
    leaves = tree.leaves(value)
    if len(leaves) != 1 or leaves[0] is not value or aval_of(array_leaf(value, what)).shape != ():
        raise TransformTypeError(
            f"{what}: the predicate{by} must be a boolean scalar, but it is {describe(value)}"
            f"{place}. Reduce it with .all() or .any()."
        )
    leaf = array_leaf(value, what)
    aval = aval_of(leaf)
    if aval.dtype == BOOL:
        return cast(leaf, BOOL)
    return e.ne(cast(leaf, aval.dtype), aval.dtype.type(0))


def _one_of(
    what: str,
    index: Any,
    functions: tuple[Function, ...],
    given: tuple[Any, ...],
    *,
    last_first: bool = False,
) -> Any:
    """The function that `index` names, counted from the last one with `last_first`."""
    for function in functions:
        require_callable(function, what)
    operands = Leaves.of(given, f"{what}: operand ")

    with ExitStack() as releasing:
        staged = [
            releasing.enter_context(
                stage(
                    lambda *xs, f=f: f(*operands.rebuild(xs)),
                    operands.values,
                    purpose=what,
                    user=f,
                )
            )
            for f in functions
        ]
        for f, one in zip(functions[1:], staged[1:], strict=True):
            _require_same_tree(what, functions[0], staged[0], f, one)
        avals = _common_types(what, functions, staged)
        consts, branches = sharing_consts(staged, len(operands.values))
        programs = tuple(_converted(b, avals) for b in branches)
        outs = apply(
            cond_p,
            [index, *consts, *operands.values],
            branches=programs[::-1] if last_first else programs,
        )
    return tree.unflatten(staged[0].out_tree, outs)


def _require_same_tree(
    what: str, first: Function, one: Staged, other: Function, two: Staged
) -> None:
    if one.out_tree == two.out_tree:
        return
    shown = [tree.unflatten(s.out_tree, s.jaxpr.out_avals) for s in (one, two)]
    wanted = (
        f"{what}: the branches must return the same structure, but {name_of(first)} "
        f"({where(first)}) returns {describe(shown[0])} and {name_of(other)} ({where(other)}) "
        f"{describe(shown[1])}, which differs"
    )
    tree.check_structure(one.out_tree, shown[1], wanted)


def _common_types(
    what: str, functions: tuple[Function, ...], staged: Sequence[Staged]
) -> tuple[Aval, ...]:
    found = list(staged[0].jaxpr.out_avals)
    paths = tree.flatten_with_path(tree.unflatten(staged[0].out_tree, found))[0]
    for f, one in zip(functions[1:], staged[1:], strict=True):
        for i, aval in enumerate(one.jaxpr.out_avals):
            joined = join(found[i], aval)
            if joined is None:
                first = functions[0]
                raise TransformTypeError(
                    f"{what}: the branches must return the same shapes, but the result"
                    f"{tree.keystr(paths[i][0])} of {name_of(first)} ({where(first)}) is "
                    f"{describe(found[i])} and that of {name_of(f)} ({where(f)}) "
                    f"{describe(aval)}. Broadcast or reshape one of them."
                )
            found[i] = joined
    return tuple(found)


def _converted(jaxpr: Jaxpr, avals: tuple[Aval, ...]) -> Jaxpr:
    """The jaxpr with its results in these types; equal branches of equal calls are one object."""
    eqns, outvars = list(jaxpr.eqns), list(jaxpr.outvars)
    for i, (atom, aval) in enumerate(zip(jaxpr.outvars, avals, strict=True)):
        if atom.aval != aval:
            outvars[i] = Var(aval)
            params = {"dtype": aval.dtype, "weak": aval.weak}
            eqns.append(Eqn(convert_p, [atom], [outvars[i]], params))  # type: ignore[list-item]
    return intern(Jaxpr(jaxpr.invars, eqns, outvars))
