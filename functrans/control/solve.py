"""The linear_solve primitive: x with A x = b, by any method, and derivatives that ask for no more.

    linear_solve[solve matvec transposed num_consts] const* b*  ->  x* aux*

    solve      : const* b*  ->  x* aux*        transposed : None, or the same two for A transposed
    matvec     : const* x*  ->  b*

Both directions of differentiation solve one more system with A or its transpose: nothing looks into
how `solve` goes about it. The derivative of `aux` is zero.
"""

from __future__ import annotations

from typing import Any

from functrans.bind import bind, eval_jaxpr
from functrans.control.bodies import cut, require_types, restricted
from functrans.errors import NonLinearError, TransformTypeError
from functrans.ir import Aval, Effect, Jaxpr, Linear, MappedAxis, Primitive, aval_of
from functrans.primitives.derive import add_all, full, provide
from functrans.primitives.elementwise import neg
from functrans.transforms.batching import batch_jaxpr, move_to
from functrans.transforms.jvp import eval_jvp

Transposed = tuple[Jaxpr, Jaxpr] | None


def linear_solve_abstract_eval(
    *avals: Aval, solve: Jaxpr, matvec: Jaxpr, transposed: Transposed, num_consts: int
) -> list[Aval]:
    consts, b = cut(avals, num_consts)
    require_types("linear_solve", "the operands are", avals, solve.in_avals)
    x = solve.out_avals[: len(b)]
    require_types("linear_solve", "matvec gets", [*consts, *x], matvec.in_avals)
    require_types("linear_solve", "matvec gives", matvec.out_avals, b)
    return solve.out_avals


def linear_solve_jvp(
    primals: list[Any],
    tangents: list[Any],
    *,
    solve: Jaxpr,
    matvec: Jaxpr,
    transposed: Transposed,
    num_consts: int,
) -> tuple[list[Any], list[Any]]:
    """A x' = b' - A' x."""
    params = {"matvec": matvec, "transposed": transposed, "num_consts": num_consts}
    outs = bind(linear_solve_p, *primals, solve=solve, **params)
    (consts, b), (const_dots, b_dots) = cut(primals, num_consts), cut(tangents, num_consts)
    x, aux = cut(outs, len(b))
    _, moved = eval_jvp(matvec, [*consts, *x], [*const_dots, *[None] * len(x)])
    sides = [
        add_all([b_dot, None if m is None else neg(m)])
        for b_dot, m in zip(b_dots, moved, strict=True)
    ]
    if all(s is None for s in sides):
        return outs, [None] * len(outs)
    given = [full(0, aval_of(p)) if s is None else s for s, p in zip(sides, b, strict=True)]
    plain = _without_aux(solve, len(b))
    return outs, [*bind(linear_solve_p, *consts, *given, solve=plain, **params), *[None] * len(aux)]


def _without_aux(solve: Jaxpr, count: int) -> Jaxpr:
    if len(solve.outvars) == count:
        return solve
    return restricted(solve, tuple(i < count for i in range(len(solve.outvars))))


def linear_solve_transpose(
    cts: list[Any],
    *operands: Any,
    solve: Jaxpr,
    matvec: Jaxpr,
    transposed: Transposed,
    num_consts: int,
) -> list[Any]:
    """The transpose of solving is solving with the transpose."""
    consts, b = cut(operands, num_consts)
    if any(isinstance(c, Linear) for c in consts):
        raise NonLinearError("linear_solve is not linear in its matrix")
    if transposed is None:
        raise TransformTypeError(
            "custom_linear_solve: reverse mode solves a system with the transposed matrix. Give "
            "transpose_solve, or symmetric=True where the matrix is its own transpose."
        )
    bars = bind(
        linear_solve_p,
        *consts,
        *cts[: len(b)],
        solve=transposed[0],
        matvec=transposed[1],
        transposed=(_without_aux(solve, len(b)), matvec),
        num_consts=num_consts,
    )
    found = [bar if isinstance(o, Linear) else None for bar, o in zip(bars, b, strict=True)]
    return [*[None] * num_consts, *found]


def linear_solve_batch(
    axis: MappedAxis,
    operands: list[Any],
    dims: list[int | None],
    *,
    solve: Jaxpr,
    matvec: Jaxpr,
    transposed: Transposed,
    num_consts: int,
) -> tuple[list[Any], list[int | None]]:
    """Every right-hand side and every solution is mapped, whatever differs between the members."""
    (consts, b), const_dims = cut(operands, num_consts), dims[:num_consts]

    def batched(jaxpr: Jaxpr) -> Jaxpr:
        every = (True,) * len(jaxpr.outvars)
        return batch_jaxpr(jaxpr, axis, (*const_dims, *[0] * len(b)), every)[0]

    moved = [move_to(x, axis, d, 0) for x, d in zip(b, dims[num_consts:], strict=True)]
    outs = bind(
        linear_solve_p,
        *consts,
        *moved,
        solve=batched(solve),
        matvec=batched(matvec),
        transposed=None if transposed is None else (batched(transposed[0]), batched(transposed[1])),
        num_consts=num_consts,
    )
    return outs, [0] * len(outs)


def _evaluated(*operands: Any, solve: Jaxpr, **params: Any) -> list[Any]:
    return eval_jaxpr(solve, operands)


def _effect(*, solve: Jaxpr, **params: Any) -> Effect:
    return solve.effect


linear_solve_p = provide(
    Primitive(
        name="linear_solve",
        abstract_eval=linear_solve_abstract_eval,
        impl=_evaluated,
        jvp=linear_solve_jvp,
        transpose=linear_solve_transpose,
        batch=linear_solve_batch,
        effects=_effect,
        stands_for=lambda *, solve, **params: solve,
        cheap=False,
    )
)
