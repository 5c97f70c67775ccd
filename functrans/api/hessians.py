"""Hessians for users: hessian, and its products with vectors, hvp and vhp.

A Hessian is the forward Jacobian of the reverse one, as one program. Of a function that asks for
values it is jacfwd of jacrev, which run segment by segment.
"""

from __future__ import annotations

import functools
from typing import Any

from functrans.api.arguments import Argnums
from functrans.api.border import Function
from functrans.api.forward import jvp_for
from functrans.api.gradients import grad
from functrans.api.jacobian_programs import second_jacobian
from functrans.api.jacobians import (
    by_one_program,
    jacfwd,
    jacrev,
    joined,
    results_of,
    tracing_by,
)
from functrans.api.results import AuxOutput
from functrans.api.reverse import vjp


def hessian(
    f: Function, argnums: Argnums = 0, has_aux: bool = False, holomorphic: bool = False
) -> Function:
    """The matrix of second derivatives, forward over reverse.

    What `jacfwd(jacrev(f))` gives: of (S -> T) the tree of T, with the tree of S at each leaf, and
    again at each leaf of that; a block has the shape `T.shape + S.shape + S.shape`. The options are
    those of `jacrev`. Raises TypeError where an argument or a result is not floating.

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
    trace = tracing_by(f, argnums, "hessian", holomorphic)

    @functools.wraps(f, updated=())
    def hessian_of(*args: Any, **kwargs: Any) -> Any:
        aux = AuxOutput(f, has_aux, "hessian")
        at, staged, _, pick = trace(args, kwargs, aux)
        if staged.cells is not None:
            staged.release()
            return whole(*args, **kwargs)
        results = results_of(staged, aux, f, "hessian", holomorphic)
        rows, rest = by_one_program(second_jacobian, at, staged, results)
        picked, count = [pick(row) for row in rows], len(at.leaves)
        blocks = [picked[i : i + count] for i in range(0, len(picked), count)]
        return joined(blocks, rest, aux, pick)

    return hessian_of


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
