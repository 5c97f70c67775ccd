"""Jacobians for users: jacfwd and jacrev, each one program where the function is one.

A function that asks for values was run segment by segment when it returns: then its derivative is
applied to the unit vectors by vmap.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from functrans import tree
from functrans.api.arguments import Argnums, Split, plain_places, split_arguments
from functrans.api.border import Function, Staged, stage
from functrans.api.forward import linearized
from functrans.api.jacobian_programs import (
    Flags,
    Jacobian,
    forward_jacobian,
    reverse_jacobian,
    unit_vectors,
)
from functrans.api.mapping import vmap
from functrans.api.primals import Point
from functrans.api.quick import Quick
from functrans.api.results import AuxOutput
from functrans.api.reverse import pulled_back
from functrans.api.tangents import differentiable_leaf
from functrans.api.tape import Tape
from functrans.errors import TransformTypeError, describe, name_of, where
from functrans.ir import Aval, Jaxpr, aval_of, is_inexact
from functrans.memo.trie import Leaf
from functrans.recording import Trace
from functrans.treedef import LEAF


def jacfwd(
    f: Function, argnums: Argnums = 0, has_aux: bool = False, holomorphic: bool = False
) -> Function:
    """The Jacobian of f, column by column in forward mode: best for few inputs.

    jacfwd : (S -> T) -> S -> the tree of T, with the tree of S at each leaf. A block has the shape
    `T.shape + S.shape` and the dtype of T's leaf; it is an array of its own. `argnums` and
    `has_aux` are as in `grad`; `holomorphic=True` is for complex arguments.

    Raises TypeError where an argument or a result is not floating.

    >>> jacfwd(lambda x: x**2)(np.array([1., 2.]))
    array([[2., 0.],
           [0., 4.]])
    """
    trace = tracing_by(f, argnums, "jacfwd", holomorphic)

    @functools.wraps(f, updated=())
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        aux = AuxOutput(f, has_aux, "jacfwd")
        at, staged, tape, pick = trace(args, kwargs, aux)
        results = results_of(staged, aux, f, "jacfwd", holomorphic)
        if staged.cells is None:
            return joined(*by_one_program(forward_jacobian, at, staged, results), aux, pick)
        outs, derivative = linearized(at, aux, staged, tape)
        columns = tree.leaves(vmap(derivative, out_axes=-1)(*_units(at.avals)))
        ends = np.cumsum([x.size for x in at.avals])[:-1]
        blocks = [
            [_block(p, y.shape + x.shape) for p, x in zip(parts, at.avals, strict=True)]
            for y, parts in zip(results, [np.split(c, ends, axis=-1) for c in columns], strict=True)
        ]
        return joined(blocks, iter(outs[len(results) :]), aux, pick)

    return jacobian_of


def jacrev(
    f: Function, argnums: Argnums = 0, has_aux: bool = False, holomorphic: bool = False
) -> Function:
    """The Jacobian of f, row by row in reverse mode: best for few outputs.

    As `jacfwd`, but a block has the dtype of the argument's leaf, and `holomorphic=True` is for
    complex results.

    >>> jacrev(lambda x: x**2)(np.array([1., 2.]))
    array([[2., 0.],
           [0., 4.]])
    """
    trace = tracing_by(f, argnums, "jacrev", holomorphic)

    @functools.wraps(f, updated=())
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        aux = AuxOutput(f, has_aux, "jacrev")
        at, staged, tape, pick = trace(args, kwargs, aux)
        results = results_of(staged, aux, f, "jacrev", holomorphic)
        if staged.cells is None:
            return joined(*by_one_program(reverse_jacobian, at, staged, results), aux, pick)
        outs, pullback = pulled_back(at, aux, staged, tape)
        rows = vmap(lambda *bars: pullback(tree.unflatten(aux.tree, bars)))(*_units(results))
        ends = np.cumsum([y.size for y in results])[:-1]
        parts = [np.split(r, ends, axis=0) for r in rows]
        blocks = [
            [_block(p[i], y.shape + x.shape) for p, x in zip(parts, at.avals, strict=True)]
            for i, y in enumerate(results)
        ]
        return joined(blocks, iter(outs[len(results) :]), aux, pick)

    return jacobian_of


jacobian = jacrev


# -- helpers ----------------------------------------------------------------------------------

Pick: TypeAlias = Callable[[list[Any]], Any]
"""What arranges one value per leaf as the chosen arguments are."""


class Traced(NamedTuple):
    """A call of a function that was traced at the arguments it is differentiated by."""

    at: Point
    staged: Staged
    tape: Any
    pick: Pick


def tracing_by(
    f: Function, argnums: Argnums, what: str, holomorphic: bool
) -> Callable[[tuple[Any, ...], dict[str, Any], AuxOutput], Traced]:
    """What traces calls of f for a transform: (args, kwargs, what takes the result apart)."""
    places = plain_places(argnums)
    quick = None if places is None else Quick(f, places, what, holomorphic)

    def trace(args: tuple[Any, ...], kwargs: dict[str, Any], aux: AuxOutput) -> Traced:
        call = None if quick is None else quick.known(args, kwargs)
        if quick is not None and call is not None:
            signature, leaves, treedef = call
            run, found = quick.trace(call, args, kwargs, aux.split, alone=not aux.has_aux)
            tape = run.tape
            if isinstance(found, Staged):
                staged = found
            else:
                staged = _staged(run, found, aux)
                signature.keep(run)  # unless it holds large arrays, which `staged` releases
            at = Point(signature.name, leaves, signature.avals, signature.flags, _flat(len(leaves)))
            return Traced(at, staged, tape, _first if treedef is None else treedef.unflatten)
        split, leaves = prepared(f, argnums, args, kwargs, what, holomorphic)
        flags = [True] * len(leaves)
        tape = Tape(flags)
        staged = stage(
            lambda *xs: aux.split(split.call(f, xs)),
            leaves,
            user=f,
            purpose=what,
            active=flags,
            names=split.names,
            tape=tape,
        )
        if quick is not None:
            quick.learn(args, kwargs, split.names)
        avals = [aval_of(x) for x in leaves]
        at = Point(name_of(f), leaves, avals, flags, _flat(len(leaves)))
        return Traced(at, staged, tape, split.pick)

    return trace


def _staged(trace: Trace, leaf: Leaf, aux: AuxOutput) -> Staged:
    """What was traced where it was known to the memo, and the result is one leaf."""
    aux.tree = LEAF
    cells = None
    if trace.restarted:
        carrying, carried = trace.read
        found, count = iter(carried), leaf.inputs + len(leaf.constants)
        cells = [next(found) if carrying >> i & 1 else -1 for i in range(count)]
    release = trace.release if trace.holds else _nothing
    return Staged(leaf.jaxpr, trace.ins + leaf.constants, LEAF, release, cells)


def _nothing() -> None:
    """What releases large captured arrays where there are none."""


def _first(values: list[Any]) -> Any:
    return values[0]


@functools.cache
def _flat(count: int) -> tree.PyTreeDef:
    """The tree of the arguments of a function of so many leaves."""
    return tree.structure((0,) * count)


def results_of(
    staged: Staged, aux: AuxOutput, f: Function, what: str, holomorphic: bool
) -> list[Aval]:
    """The avals of what is differentiated. Raises where it has no derivative."""
    avals = staged.jaxpr.out_avals
    results = avals[: len(avals) - aux.count]
    if all(a.dtype.kind == "f" for a in results):
        return results
    try:
        _require_inexact(tree.unflatten(aux.tree, results), f, what, holomorphic)
    except BaseException:
        staged.release()
        raise
    return results


def by_one_program(
    build: Callable[[Jaxpr, Flags, int], Jacobian], at: Point, staged: Staged, results: list[Aval]
) -> tuple[list[list[Any]], Iterator[Any]]:
    """The blocks of the Jacobian of a function that is one program, and its other results."""
    with staged:
        mask, inputs = at.inputs(staged)
        return build(staged.jaxpr, mask, len(results)).run(inputs)


def joined(blocks: list[list[Any]], rest: Iterator[Any], aux: AuxOutput, pick: Pick) -> Any:
    """The Jacobian as the result is, each leaf as the arguments are; and the aux, if there is."""
    picked = [pick(row) for row in blocks]
    jacobian = picked[0] if aux.tree is LEAF else tree.unflatten(aux.tree, picked)
    return (jacobian, aux.join(list(rest))) if aux.has_aux else jacobian


def prepared(
    f: Function,
    argnums: Argnums,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    what: str,
    holomorphic: bool,
) -> tuple[Split, list[Any]]:
    """The arguments of a call, and the leaves to differentiate by. Raises where there are none."""
    if not callable(f):
        raise TransformTypeError(
            f"{what} takes a function, but got {describe(f)}. Give it the function itself and call "
            f"the result: {what}(f)(x)."
        )
    split = split_arguments(f, argnums, args, kwargs, what)
    leaves = [
        differentiable_leaf(x, n, what, holomorphic)
        for x, n in zip(split.leaves, split.names, strict=True)
    ]
    for leaf, name in zip(leaves, split.names, strict=True):
        if aval_of(leaf).dtype.kind == "c" and not holomorphic and what != "jacrev":
            otherwise = "use jacrev" if what == "jacfwd" else "differentiate by their parts"
            raise TransformTypeError(
                f"{what}: {name} is {describe(leaf)}, and forward mode with complex arguments "
                f"needs holomorphic=True. For a real function of complex arguments {otherwise}."
            )
    return split, leaves


def _units(avals: list[Aval]) -> list[Any]:
    return unit_vectors(tuple([(a.shape, a.dtype) for a in avals]))


def _block(part: Any, shape: tuple[int, ...]) -> Any:
    """One block of a Jacobian, an array of its own."""
    block = part.reshape(shape)
    if isinstance(block, np.ndarray):
        return block.copy() if shape else block[()]
    return block


def _require_inexact(result: Any, f: Function, what: str, holomorphic: bool) -> None:
    for path, leaf in tree.flatten_with_path(result)[0]:
        aval: Aval = leaf
        if not is_inexact(aval.dtype):
            raise TransformTypeError(
                f"{what}: the result{tree.keystr(path)} of {name_of(f)} is {describe(aval)} "
                f"({where(f)}), and only floating results have derivatives. "
                "Return it through has_aux=True."
            )
        if what != "jacfwd" and aval.dtype.kind == "c" and not holomorphic:
            raise TransformTypeError(
                f"{what}: the result{tree.keystr(path)} of {name_of(f)} is {describe(aval)} "
                f"({where(f)}), and reverse mode with complex results needs holomorphic=True. For "
                f"a function that is not holomorphic take {what} of its real and imaginary parts."
            )
