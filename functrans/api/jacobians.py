"""Jacobians and Hessians: linear maps applied to a basis, all members at once by vmap."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans import tree
from functrans.api.arguments import Argnums, Split, split_arguments
from functrans.api.border import Function, Staged, run
from functrans.api.forward import jvp_for, linearize
from functrans.api.gradient_programs import value_and_grad_jaxpr
from functrans.api.gradients import grad
from functrans.api.mapping import vmap
from functrans.api.quick import Call, Quick
from functrans.api.reverse import vjp
from functrans.api.tangents import differentiable_leaf
from functrans.bind import eval_jaxpr, is_evaluating
from functrans.config import config
from functrans.errors import TransformTypeError, argument_name, describe, name_of, where
from functrans.ir import Aval, Jaxpr, MappedAxis, aval_of, is_inexact
from functrans.primitives import structural
from functrans.recording import stage_walk
from functrans.transforms import batch_jaxpr, linearize_jaxpr, simplify
from functrans.transforms.cache import derived


def jacfwd(
    f: Function, argnums: Argnums = 0, has_aux: bool = False, holomorphic: bool = False
) -> Function:
    """The Jacobian of f, column by column in forward mode: best for few inputs.

    For f : S -> T the result has the tree of f's result, with the tree of the argument at each
    leaf, and shape `T.shape + S.shape`.

    >>> jacfwd(lambda x: x**2)(np.array([1., 2.]))
    array([[2., 0.],
           [0., 4.]])
    """

    @functools.wraps(f, updated=())
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        split, leaves = _prepare(f, argnums, args, kwargs, "jacfwd", holomorphic)
        result, derivative, *aux = linearize(_chosen(f, split), *leaves, has_aux=has_aux)
        _require_inexact(result, f, "jacfwd", holomorphic)
        columns = vmap(derivative, out_axes=-1)(*basis(leaves))

        def blocks(out: Any, y: Any) -> Any:
            ends = np.cumsum([aval_of(x).size for x in leaves])[:-1]
            pairs = zip(np.split(out, ends, axis=-1), leaves, strict=True)
            return split.pick([_block(p, aval_of(y).shape + aval_of(x).shape) for p, x in pairs])

        jacobian = tree.map(blocks, columns, result)
        return (jacobian, *aux) if has_aux else jacobian

    return jacobian_of


def jacrev(
    f: Function, argnums: Argnums = 0, has_aux: bool = False, holomorphic: bool = False
) -> Function:
    """The Jacobian of f, row by row in reverse mode: best for few outputs. As `jacfwd` otherwise.

    >>> jacrev(lambda x: x**2)(np.array([1., 2.]))
    array([[2., 0.],
           [0., 4.]])
    """

    @functools.wraps(f, updated=())
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        split, leaves = _prepare(f, argnums, args, kwargs, "jacrev", holomorphic)
        result, pullback, *aux = vjp(_chosen(f, split), *leaves, has_aux=has_aux)
        _require_inexact(result, f, "jacrev", holomorphic)
        outs, treedef = tree.flatten(result)
        rows = vmap(lambda *bars: pullback(tree.unflatten(treedef, bars)))(*basis(outs))
        ends = np.cumsum([aval_of(y).size for y in outs])[:-1]
        parts = [np.split(r, ends, axis=0) for r in rows]
        jacobians = []
        for i, y in enumerate(outs):
            pairs = zip(parts, leaves, strict=True)
            blocks = [_block(p[i], aval_of(y).shape + aval_of(x).shape) for p, x in pairs]
            jacobians.append(split.pick(blocks))
        jacobian = tree.unflatten(treedef, jacobians)
        return (jacobian, *aux) if has_aux else jacobian

    return jacobian_of


jacobian = jacrev


def hessian(
    f: Function, argnums: Argnums = 0, has_aux: bool = False, holomorphic: bool = False
) -> Function:
    """The matrix of second derivatives, forward over reverse.

    >>> hessian(lambda x: (x**3).sum())(np.array([1., 2.]))
    array([[ 6.,  0.],
           [ 0., 12.]])
    """
    whole = jacfwd(
        jacrev(f, argnums, has_aux=has_aux, holomorphic=holomorphic),
        argnums,
        has_aux=has_aux,
        holomorphic=holomorphic,
    )
    if has_aux or holomorphic or type(argnums) is not int or argnums < 0:
        return whole
    quick, place = Quick(f, argnums, "hessian"), argnums

    @functools.wraps(f, updated=())
    def hessian_of(*args: Any, **kwargs: Any) -> Any:
        if not config.memo or not is_evaluating() or not _takes_array(args, place):
            return whole(*args, **kwargs)
        call = quick.known(args, kwargs)
        if call is None:
            quick.learn(args, kwargs, [f"{argument_name(f, place)} of {name_of(f)}"])
            call = quick.known(args, kwargs)
        if call is None:
            return whole(*args, **kwargs)
        return _hessian_by_array(f, quick, call, args, kwargs)

    return hessian_of


def _takes_array(args: tuple[Any, ...], place: int) -> bool:
    """Is the argument a plain floating array?"""
    x = args[place] if place < len(args) else None
    return type(x) is np.ndarray and x.dtype.kind == "f" and x.dtype.isnative and x.itemsize <= 8


def _hessian_by_array(
    f: Function, quick: Quick, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The Hessian by one array: by one program where f returns a number."""
    (x,) = call[1]
    treedefs: list[tree.PyTreeDef] = []

    def flat(result: Any) -> list[Any]:
        outs, treedef = tree.flatten(result)
        treedefs.append(treedef)
        return outs

    trace, found = quick.trace(call, args, kwargs, flat, taped=False)
    try:
        assert type(found) is Staged
        jaxpr, captured = found.jaxpr, found.captured
        if tree.treedef_is_leaf(treedefs[0]):
            out = jaxpr.out_avals[0]
            program = hessian_jaxpr(jaxpr) if not out.shape and out.dtype.kind == "f" else None
            if program is not None:
                return run(program, [*captured, x, _unit_vectors(x.shape, x.dtype)])[0]

        @functools.wraps(f, updated=())
        def staged(x: Any) -> Any:
            return tree.unflatten(treedefs[0], eval_jaxpr(jaxpr, [*captured, x]))

        return jacfwd(jacrev(staged))(x)
    finally:
        trace.release()


@functools.lru_cache(maxsize=64)
def _unit_vectors(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    size = math.prod(shape)
    basis = np.eye(size, dtype=dtype).reshape(size, *shape)
    basis.flags.writeable = False
    return basis


@derived
def hessian_jaxpr(jaxpr: Jaxpr) -> Jaxpr | None:
    """(inputs, unit vectors) -> the second derivatives of the result by the last input.

    None where there are none.
    """
    active = (False,) * (len(jaxpr.invars) - 1) + (True,)
    gradient, nonzero = value_and_grad_jaxpr(jaxpr, active)
    if not nonzero[0]:
        return None
    linear = linearize_jaxpr(gradient, active)
    if not linear.out_nonzero[1]:
        return None
    aval = jaxpr.in_avals[-1]
    axis = MappedAxis(aval.size)
    dims = (*[None] * linear.num_residuals, 0)
    columns, _ = batch_jaxpr(linear.tangent, axis, dims, (True,) * sum(linear.out_nonzero))
    basis = Aval((aval.size, *aval.shape), aval.dtype)

    def walk(*inputs: Any) -> list[Any]:
        residuals = eval_jaxpr(linear.primal, inputs[:-1])[2:]
        moved = eval_jaxpr(columns, [*residuals, inputs[-1]])[-1]
        turned = structural.transpose(moved, (*range(1, aval.ndim + 1), 0))
        return [structural.reshape(turned, aval.shape * 2)]

    return simplify(stage_walk(walk, [*jaxpr.in_avals, basis], "hessian"))


def hvp(f: Function, primals: Any, tangents: Any, has_aux: bool = False) -> Any:
    """The Hessian of a scalar function times a vector, forward over reverse.

    `primals` is a tuple with one entry for each argument of f, or the one argument itself when
    it is not a tuple; `tangents` and the result are like it.

    >>> hvp(lambda x: (x**3).sum(), np.array([1., 2.]), np.array([1., 1.]))
    array([ 6., 12.])
    """
    single = not isinstance(primals, tuple)
    args, dots = ((primals,), (tangents,)) if single else (primals, tangents)
    gradient = grad(f, argnums=tuple(range(len(args))), has_aux=has_aux)
    result = jvp_for("hvp", gradient, args, dots, has_aux)
    moved = result[1][0] if single else result[1]
    return (moved, result[2]) if has_aux else moved


def vhp(f: Function, primals: Any, cotangents: Any, has_aux: bool = False) -> Any:
    """A vector times the Hessian of a scalar function, reverse over reverse. As `hvp` otherwise.

    >>> vhp(lambda x: (x**3).sum(), np.array([1., 2.]), np.array([1., 1.]))
    array([ 6., 12.])
    """
    single = not isinstance(primals, tuple)
    args, bars = ((primals,), (cotangents,)) if single else (primals, cotangents)
    gradient = grad(f, argnums=tuple(range(len(args))), has_aux=has_aux)
    _, pullback, *aux = vjp(gradient, *args, has_aux=has_aux)
    moved = pullback(bars)
    moved = moved[0] if single else moved
    return (moved, aux[0]) if has_aux else moved


# -- helpers ----------------------------------------------------------------------------------


def _prepare(
    f: Function,
    argnums: Argnums,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    what: str,
    holomorphic: bool,
) -> tuple[Split, list[Any]]:
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
        if aval_of(leaf).dtype.kind == "c" and not holomorphic and what == "jacfwd":
            raise TransformTypeError(
                f"{what}: {name} is {describe(leaf)}, and forward mode with complex arguments "
                "needs holomorphic=True. For a real function of complex arguments use jacrev."
            )
    return split, leaves


def _chosen(f: Function, split: Split) -> Function:
    """f as a function of the chosen leaves only."""

    @functools.wraps(f, updated=())
    def of_leaves(*xs: Any) -> Any:
        return split.call(f, xs)

    return of_leaves


def _block(part: Any, shape: tuple[int, ...]) -> Any:
    """One block of a Jacobian, an array of its own."""
    block = part.reshape(shape)
    if isinstance(block, np.ndarray):
        return block.copy() if shape else block[()]
    return block


def _require_inexact(result: Any, f: Function, what: str, holomorphic: bool) -> None:
    for path, leaf in tree.flatten_with_path(result)[0]:
        aval = aval_of(leaf)
        if not is_inexact(aval.dtype):
            raise TransformTypeError(
                f"{what}: the result{tree.keystr(path)} of {name_of(f)} is {describe(aval)} "
                f"({where(f)}), and only floating results have derivatives. "
                "Return it through has_aux=True."
            )
        if what == "jacrev" and aval.dtype.kind == "c" and not holomorphic:
            raise TransformTypeError(
                f"{what}: the result{tree.keystr(path)} of {name_of(f)} is {describe(aval)} "
                f"({where(f)}), and reverse mode with complex results needs holomorphic=True. For "
                "a function that is not holomorphic take jacrev of its real and imaginary parts."
            )


def basis(leaves: Sequence[Any]) -> list[Any]:
    """For each leaf, an array whose first axis runs over the unit vectors of all leaves."""
    avals = [aval_of(x) for x in leaves]
    total = sum(a.size for a in avals)
    basis, start = [], 0
    for aval in avals:
        block = np.eye(total, aval.size, -start, dtype=aval.dtype)
        basis.append(block.reshape((total, *aval.shape)))
        start += aval.size
    return basis
