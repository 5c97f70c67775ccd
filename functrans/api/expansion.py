"""Taylor mode for users: jet, taylor, derivative and laplacian."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from functrans import tree
from functrans.api.arguments import Argnums, Split, require_callable, split_arguments
from functrans.api.border import Function, array_leaf, as_typed, run, stage, zeros
from functrans.api.forward import require_tuples
from functrans.api.jacobian_programs import unit_vectors
from functrans.api.tangents import check_tangents, differentiable_leaf
from functrans.bind import eval_jaxpr
from functrans.control.steps import in_steps
from functrans.errors import RangeError, ShapeError, TransformTypeError, describe, name_of
from functrans.ir import Aval, Jaxpr, aval_of, is_inexact
from functrans.primitives.derive import broadcast_at, full
from functrans.primitives.elementwise import times
from functrans.primitives.structural import concatenate, convert
from functrans.recording import stage_walk
from functrans.transforms.cache import derived
from functrans.transforms.series import Curve
from functrans.transforms.simplify import simplify
from functrans.transforms.taylor import (
    Coefficients,
    Orders,
    orders_of,
    packed,
    packed_avals,
    taylor_jaxpr,
    unpacked,
)


def jet(f: Function, primals: Sequence[Any], series: Sequence[Sequence[Any]]) -> tuple[Any, Any]:
    """The value of f and its higher derivatives along a curve.

    `primals` is a tuple with one entry for each argument, `series` one with the list of that
    argument's derivatives along the curve, the first one first; all lists have the same length, the
    order. A derivative is like its argument, or the number 0, which costs nothing. Returns
    `(y, terms)`, where `terms` is like y, with the list of the derivatives of y in the place of
    each array. (Derivatives, not coefficients: the k-th is k! times the coefficient of t**k.) The
    cost grows with the square of the order.

    >>> jet(lambda x: x**3, (2.0,), ([1.0, 0, 0],))
    (8.0, [12.0, 12.0, 6.0])
    """
    require_callable(f, "jet")
    require_tuples(primals, series, f, "jet", "series")
    order = _order_of(series, f)
    split = split_arguments(f, range(len(primals)), tuple(primals), {}, "jet")
    named = zip(split.leaves, split.names, strict=True)
    leaves = iter([array_leaf(x, f"jet: {n}") for x, n in named])
    coefficients: list[Coefficients] = []
    for primal, terms in zip(primals, series, strict=True):
        in_tree = tree.structure((primal,))
        own = [next(leaves) for _ in range(in_tree.num_leaves)]
        columns = [_term(t, k, in_tree, own, f) for k, t in enumerate(terms, 1)]
        coefficients += [list(row) for row in zip(own, *columns, strict=True)]
    _require_factorial(order, split.leaves, "jet")
    pushed = _push(f, split, "jet", Curve(order), coefficients, _derivatives)
    results = [
        [c[0], *[zeros(a) if x is None else as_typed(x, a) for x in c[1:]]]
        for c, a in zip(pushed.results, pushed.avals, strict=True)
    ]
    y = tree.unflatten(pushed.tree, [c[0] for c in results])
    return y, tree.unflatten(pushed.tree, [c[1:] for c in results])


def _order_of(series: Sequence[Sequence[Any]], f: Function) -> int:
    for terms in series:
        if not isinstance(terms, (list, tuple)):
            raise TransformTypeError(
                f"jet: series must hold a list of derivatives for each argument of {name_of(f)}, "
                f"but got {describe(terms)}. Write [x1] for a first derivative alone."
            )
    orders = {len(terms) for terms in series}
    if len(orders) > 1:
        raise TransformTypeError(
            f"jet: the series of all arguments of {name_of(f)} must have the same length, but they "
            f"have {', '.join(map(str, sorted(orders)))}. Fill up with zeros."
        )
    return orders.pop() if orders else 0


def _term(
    term: Any, k: int, in_tree: tree.PyTreeDef, leaves: Sequence[Any], f: Function
) -> list[Any]:
    """The leaves of the k-th derivative of an argument, None where they are zero."""
    if type(term) in (int, float) and term == 0:
        return [None] * len(leaves)
    avals = [aval_of(x) for x in leaves]
    what = f"jet of {name_of(f)}, order {k}"
    dots = check_tangents((term,), in_tree, avals, what, "term")
    return [d if is_inexact(a.dtype) else None for d, a in zip(dots, avals, strict=True)]


def taylor(f: Function, x: Any, order: int, direction: Any = None) -> Any:
    """The coefficients c_0, ..., c_order of f(x + t direction) as a polynomial in t, lowest first.

    x is an array or a pytree of arrays, `direction` is like it; without one x must be a scalar,
    and t is added to it. At each leaf the result has the coefficients along a new first axis:
    c_k is the k-th derivative divided by k!. The cost grows with the square of the order.

    >>> taylor(np.exp, 0.0, 3)
    array([1.        , 1.        , 0.5       , 0.16666667])
    """
    order = _whole(order, "taylor", "the order")
    split, leaves = _arguments(f, 0, (x,), {}, "taylor")
    if direction is None:
        dots = _unit_direction(
            leaves, split, f, "taylor", "Say by direction=v in which direction it is to move."
        )
    else:
        avals, what = [aval_of(leaf) for leaf in leaves], f"taylor of {name_of(f)}"
        dots = check_tangents((direction,), tree.structure((x,)), avals, what, "direction")
    pushed = _push(f, split, "taylor", Curve(order), _lines(leaves, dots, order), _stacked)
    return tree.unflatten(pushed.tree, [c[0] for c in pushed.results])


def derivative(
    f: Function, n: int = 1, argnums: int | str = 0, holomorphic: bool = False
) -> Function:
    """The n-th derivative of f, a function of a number.

    f may return any pytree of arrays, and the argument that `argnums` names must be a scalar: for
    many points, vmap the result. One Taylor expansion gives it, at a cost that grows with n**2
    (with n**3 in real powers and gamma functions, whose derivatives are ever new functions; nested
    `grad`s grow exponentially). `holomorphic=True` is for complex arguments.

    >>> derivative(lambda x: x**5, 3)(2.0)
    240.0
    """
    require_callable(f, "derivative")
    n = _whole(n, "derivative", "n")

    @functools.wraps(f, updated=())
    def derivative_of(*args: Any, **kwargs: Any) -> Any:
        split, leaves = _arguments(f, argnums, args, kwargs, "derivative", holomorphic)
        if not holomorphic:
            remedy = "For a holomorphic function say holomorphic=True."
            _require_real(leaves, split, "derivative", remedy)
        remedy = "For many scalars vmap the derivative; for directions use taylor or jet."
        dots = _unit_direction(leaves, split, f, "derivative", remedy)
        _require_factorial(n, leaves, "derivative")
        pushed = _push(f, split, "derivative", Curve(n), _lines(leaves, dots, n), _highest)
        return pushed.highest(f, "derivative")

    return derivative_of


def laplacian(f: Function, argnums: Argnums = 0) -> Function:
    """The sum of the second derivatives of f with respect to each entry of its argument.

    f may return any pytree of arrays; the result is like that. Exact, by one pass through f that
    carries its value, its first derivatives, and the sum of its second derivatives, which is never
    more than one array at each step (the forward Laplacian): no Hessian is made.

    >>> laplacian(lambda x: (x**3).sum())(np.array([1., 2.]))
    np.float64(18.0)
    """
    require_callable(f, "laplacian")

    @functools.wraps(f, updated=())
    def laplacian_of(*args: Any, **kwargs: Any) -> Any:
        split, leaves = _arguments(f, argnums, args, kwargs, "laplacian")
        remedy = "Give its real and imaginary parts as two arguments."
        _require_real(leaves, split, "laplacian", remedy)
        directions = unit_vectors(tuple([(x.shape, x.dtype) for x in map(aval_of, leaves)]))
        curve = Curve(2, sum(aval_of(x).size for x in leaves))
        coefficients: list[Coefficients] = [
            [x, d, None] for x, d in zip(leaves, directions, strict=True)
        ]
        pushed = _push(f, split, "laplacian", curve, coefficients, _highest)
        return pushed.highest(f, "laplacian")

    return laplacian_of


# -- arguments -----------------------------------------------------------------------------------


def _arguments(
    f: Function,
    argnums: Argnums,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    what: str,
    holomorphic: bool = False,
) -> tuple[Split, list[Any]]:
    """The chosen arguments of a call, as floating leaves."""
    split = split_arguments(f, argnums, args, kwargs, what)
    pairs = zip(split.leaves, split.names, strict=True)
    return split, [differentiable_leaf(x, n, what, holomorphic) for x, n in pairs]


def _require_real(leaves: Sequence[Any], split: Split, what: str, remedy: str) -> None:
    for leaf, name in zip(leaves, split.names, strict=True):
        if aval_of(leaf).dtype.kind == "c":
            raise TransformTypeError(
                f"{what}: {name} is {describe(leaf)}, and this is about real arguments. {remedy}"
            )


def _whole(value: Any, what: str, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise TransformTypeError(
            f"{what}: {name} must be a whole number, 0 or more, but it is {describe(value)}."
        )
    return int(value)


def _require_factorial(order: int, leaves: Sequence[Any], what: str) -> None:
    """A derivative is a coefficient times a factorial, which must be a number of the dtype."""
    size = np.asarray(math.gamma(order + 1) if order <= 170 else math.inf)
    for leaf in leaves:
        dtype = aval_of(leaf).dtype
        with np.errstate(over="ignore"):
            too_large = is_inexact(dtype) and np.isinf(size.astype(dtype))
        if too_large:
            raise RangeError(
                f"{what}: a derivative of order {order} is a Taylor coefficient times {order}!, "
                f"which is more than {dtype.name} holds. Take the coefficients, by taylor."
            )


def _unit_direction(
    leaves: list[Any], split: Split, f: Function, what: str, remedy: str
) -> list[Any]:
    """1 for the one scalar there is."""
    if len(leaves) != 1 or aval_of(leaves[0]).shape != ():
        given = describe(leaves[0]) if len(leaves) == 1 else f"{len(leaves)} arrays"
        name = split.names[0] if len(leaves) == 1 else f"the argument of {name_of(f)}"
        raise ShapeError(f"{what}: {name} must be a scalar, but it is {given}. {remedy}")
    return [aval_of(leaves[0]).dtype.type(1)]


def _lines(leaves: Sequence[Any], dots: Sequence[Any], order: int) -> list[Coefficients]:
    """The coefficients of the straight lines x + t dot."""
    pairs = zip(leaves, dots, strict=True)
    return [[x, *[d, *[None] * order][:order]] for x, d in pairs]


# -- programs --------------------------------------------------------------------------------------


View = Callable[[Coefficients, Aval], Coefficients]
"""What is shown of the coefficients of a result with this aval: as many, None for the others."""


class _Pushed(NamedTuple):
    """The results of a call along a curve: for each leaf what the view made of its coefficients."""

    tree: tree.PyTreeDef
    avals: list[Aval]
    results: list[Coefficients]

    def highest(self, f: Function, what: str) -> Any:
        """The tree of the last entries, zeros where there is none."""
        for aval in self.avals:
            if not is_inexact(aval.dtype):
                raise TransformTypeError(
                    f"{what}: a result of {name_of(f)} is {describe(aval)}, and only "
                    "floating results have derivatives. Convert it with .astype(float), or do not "
                    "return it."
                )
        pairs = zip(self.results, self.avals, strict=True)
        leaves = [zeros(a) if c[-1] is None else as_typed(c[-1], a) for c, a in pairs]
        return tree.unflatten(self.tree, leaves)


def _push(
    f: Function,
    split: Split,
    what: str,
    curve: Curve,
    coefficients: list[Coefficients],
    view: View,
) -> _Pushed:
    """Stage f at the point, push the coefficients through it, run that."""
    leaves = [c[0] for c in coefficients]
    out_tree: list[tree.PyTreeDef] = []

    def flat_f(*xs: Any) -> list[Any]:
        out, treedef = tree.flatten(split.call(f, xs))
        out_tree.append(treedef)
        return out

    active = [is_inexact(aval_of(x).dtype) for x in leaves]
    with stage(flat_f, leaves, user=f, purpose=what, active=active, names=split.names) as staged:
        rest = (None,) * curve.order
        every = [*[[x, *rest] for x in staged.captured], *coefficients]
        program, orders = _program(staged.jaxpr, curve, orders_of(every), view)
        results = unpacked(run(program, packed(every)), orders, curve)
    return _Pushed(out_tree[0], staged.jaxpr.out_avals, results)


@derived
def _program(jaxpr: Jaxpr, curve: Curve, given: Orders, view: View) -> tuple[Jaxpr, Orders]:
    """The Taylor jaxpr, from packed coefficients to what the view shows of those of its results."""
    found: list[Orders] = []

    def walk(*args: Any) -> list[Any]:
        coefficients = unpacked(args, given, curve)
        if view is _derivatives:
            coefficients = [_scaled(c, lambda k: 1 / math.factorial(k)) for c in coefficients]
        program, orders = taylor_jaxpr(in_steps(jaxpr), curve, given)
        outs = unpacked(eval_jaxpr(program, packed(coefficients)), orders, curve)
        shown = [view(c, a) for c, a in zip(outs, jaxpr.out_avals, strict=True)]
        found.append(orders_of(shown))
        return packed(shown)

    staged = stage_walk(walk, packed_avals(jaxpr.in_avals, given, curve), "taylor")
    return simplify(staged), found[0]


def _scaled(coefficients: Coefficients, factor: Callable[[int], float]) -> Coefficients:
    """Coefficient k times factor(k)."""
    return [
        c if c is None or factor(k) == 1 else times(factor(k), c)
        for k, c in enumerate(coefficients)
    ]


def _derivatives(coefficients: Coefficients, aval: Aval) -> Coefficients:
    """All of them as derivatives."""
    return _scaled(coefficients, math.factorial)


def _highest(coefficients: Coefficients, aval: Aval) -> Coefficients:
    """The value and the highest derivative."""
    last = len(coefficients) - 1
    every = enumerate(_derivatives(coefficients, aval))
    return [c if k in (0, last) else None for k, c in every]


def _stacked(coefficients: Coefficients, aval: Aval) -> Coefficients:
    """All of them along a new first axis, in the place of the value."""
    rows = [full(0, aval) if c is None else c for c in coefficients]
    rows = [broadcast_at(convert(x, aval.dtype), 1, 0) for x in rows]
    return [concatenate(rows, 0), *[None for _ in rows[1:]]]
