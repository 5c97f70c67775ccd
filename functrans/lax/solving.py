"""Solvers whose derivatives do not look into them: custom_linear_solve and custom_root."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from functrans import tree
from functrans.api.arguments import require_callable
from functrans.api.border import Function, Staged, finish, stage
from functrans.bind import bind, eval_jaxpr, is_evaluating
from functrans.control.bodies import cut, spread, with_zeros
from functrans.control.custom import Rule, custom_jvp_call_p
from functrans.control.solve import linear_solve_p
from functrans.errors import ShapeError, TransformTypeError, describe, name_of, where
from functrans.ir import Jaxpr, aval_of, is_inexact
from functrans.lax.staging import Leaves, sharing_consts, stage_abstract
from functrans.primitives.derive import full
from functrans.primitives.elementwise import neg
from functrans.surface.promotion import cast
from functrans.transforms.affine import require_linear
from functrans.transforms.jvp import eval_jvp
from functrans.transforms.transpose import transpose_jaxpr

Solve = Callable[[Function, Any], Any]


def _conforming(value: Any, like: Leaves, what: str, function: Function) -> list[Any]:
    """The leaves of a result that must have the structure, shapes and dtypes of `like`."""
    place = f"{name_of(function)} ({where(function)})"
    tree.check_structure(
        like.treedef, value, f"{what}: {place} must return the structure it was given, but differs"
    )
    found = Leaves.of(value, "the result")
    for x, aval, name in zip(found.values, like.avals, found.names, strict=True):
        if aval_of(x).shape != aval.shape:
            raise ShapeError(
                f"{what}: {place} must return the shapes it was given, but {name} is "
                f"{describe(x)} in the place of {describe(aval)}."
            )
    return [cast(x, a.dtype) for x, a in zip(found.values, like.avals, strict=True)]


def _with_aux(value: Any, has_aux: bool, what: str, function: Function) -> tuple[Any, Any]:
    if not has_aux:
        return value, None
    if isinstance(value, tuple) and len(value) == 2:
        return value
    raise TransformTypeError(
        f"{what}: with has_aux=True {name_of(function)} must return (solution, aux), but it "
        f"returned {describe(value)} ({where(function)})."
    )


def _finished(value: Any, given: Any) -> Any:
    """A result of eager code, which shares no memory with what was given."""
    leaves = Leaves.of(value, "the solution")
    return leaves.rebuild(finish(leaves.values, leaves.avals, tree.leaves(given)))


# -- linear systems -------------------------------------------------------------------------------


def custom_linear_solve(
    matvec: Function,
    b: Any,
    solve: Solve,
    transpose_solve: Solve | None = None,
    symmetric: bool = False,
    has_aux: bool = False,
) -> Any:
    """x with `matvec(x) = b`, as `solve(matvec, b)` finds it; derivatives solve further systems.

    `matvec` is linear, from pytrees like b to pytrees like b. Derivatives with respect to b and to
    what matvec captures are those of the exact solution, by any `solve`: it may iterate, and is
    never differentiated. Reverse mode needs `transpose_solve(vecmat, ct)`, or `symmetric=True`.
    With `has_aux` the solvers return `(x, aux)`, and so does this.

    >>> custom_linear_solve(lambda x: 2 * x, 6.0, lambda matvec, b: b / matvec(1.0))
    3.0
    """
    for function in (matvec, solve):
        require_callable(function, "custom_linear_solve")
    if is_evaluating():
        return _finished(solve(matvec, b), b)
    given = Leaves.of(b, "custom_linear_solve: b")
    strong = Leaves([cast(x, aval_of(x).dtype) for x in given.values], given.names, given.treedef)
    count = len(given.values)
    with ExitStack() as releasing:
        system = _System(matvec, strong, has_aux, releasing)
        staged = system.staged(solve, solve if symmetric else transpose_solve, symmetric)
        consts, (solving, product, *others) = sharing_consts(staged, count)
        outs = bind(
            linear_solve_p,
            *consts,
            *strong.values,
            solve=solving,
            matvec=product,
            transposed=tuple(others) or None,
            num_consts=len(consts),
        )
    x = given.rebuild(outs[:count])
    return (x, tree.unflatten(system.aux_tree, outs[count:])) if has_aux else x


class _System:
    """A linear system while its programs are staged: all are about leaves like those of b.

    What they capture is held until `releasing` lets go. `aux_tree` is the structure of what the
    solver returns besides, once that is staged.
    """

    aux_tree: tree.PyTreeDef

    def __init__(self, matvec: Function, b: Leaves, has_aux: bool, releasing: ExitStack) -> None:
        self.matvec, self.b, self.has_aux, self.releasing = matvec, b, has_aux, releasing

    def staged(self, solve: Solve, way_back: Solve | None, symmetric: bool) -> list[Staged]:
        """The solver and matvec; then, where there is a way back, both of the transposed system."""
        product = self._abstract(self._product, self.matvec)
        _require_linear(product, len(self.b.values))
        solver = self._solver(solve, product, True)
        first = self.releasing.enter_context(
            stage(solver, self.b.values, purpose="custom_linear_solve", user=solve)
        )
        if way_back is None:
            return [first, product]
        back = product.jaxpr if symmetric else _transposed(product.jaxpr, len(self.b.values))
        turned = product._replace(jaxpr=back)
        return [
            first,
            product,
            self._abstract(self._solver(way_back, turned, False), way_back),
            turned,
        ]

    def _abstract(self, f: Function, user: Function) -> Staged:
        return self.releasing.enter_context(
            stage_abstract(f, self.b.avals, "custom_linear_solve", self.b.names, user)
        )

    def _product(self, *xs: Any) -> list[Any]:
        return self._conforming(self.matvec(self.b.rebuild(xs)), self.matvec)

    def _conforming(self, value: Any, function: Function) -> list[Any]:
        return _conforming(value, self.b, "custom_linear_solve", function)

    def _solver(self, method: Solve, product: Staged, keeps_aux: bool) -> Function:
        """The method on leaves, with the product as it was staged."""

        def apply(v: Any) -> Any:
            leaves = self._conforming(v, method)
            return self.b.rebuild(eval_jaxpr(product.jaxpr, [*product.captured, *leaves]))

        def flat_solve(*xs: Any) -> list[Any]:
            found, aux = _with_aux(
                method(apply, self.b.rebuild(xs)), self.has_aux, "custom_linear_solve", method
            )
            aux_leaves, treedef = tree.flatten(aux if keeps_aux else None)
            if keeps_aux:
                self.aux_tree = treedef
            return [*self._conforming(found, method), *aux_leaves]

        return flat_solve


def _require_linear(product: Staged, count: int) -> None:
    mask = (*[False] * len(product.captured), *[True] * count)
    require_linear(product.jaxpr, mask, "custom_linear_solve: matvec")


def _transposed(matvec: Jaxpr, count: int) -> Jaxpr:
    """(consts, cotangents of b) -> cotangents of x, from (consts, x) -> b."""
    mask = tuple(i >= len(matvec.invars) - count for i in range(len(matvec.invars)))
    turned, nonzero = transpose_jaxpr(matvec, mask, (True,) * count)
    return with_zeros(turned, nonzero, tuple(matvec.in_avals[-count:] if count else ()))


# -- roots ----------------------------------------------------------------------------------------


def custom_root(
    f: Function,
    initial_guess: Any,
    solve: Solve,
    tangent_solve: Solve,
    has_aux: bool = False,
) -> Any:
    """x with `f(x) = 0`, as `solve(f, initial_guess)` finds it; its derivative is implicit.

    The derivatives with respect to what f captures are those of the exact root: with the Jacobian
    J of f at the root, `tangent_solve(v -> J v, b)` gives x with J x = b. `solve` is never
    differentiated, and the root does not depend on the guess. With `has_aux` solve returns
    `(x, aux)`, and so does this.

    >>> from functrans import grad
    >>> from functrans.lax import while_loop
    >>> def newton(f, x):
    ...     return while_loop(lambda x: abs(f(x)) > 1e-12, lambda x: x - f(x) / (2 * x), x)
    >>> def root(a):
    ...     return custom_root(lambda x: x**2 - a, 1.0, newton, lambda J, b: b / J(1.0))
    >>> round(grad(root)(4.0), 6)
    0.25
    """
    for function in (f, solve, tangent_solve):
        require_callable(function, "custom_root")
    if is_evaluating():
        return _finished(solve(f, initial_guess), initial_guess)
    guess = Leaves.of(initial_guess, "custom_root: initial_guess")
    strong = Leaves([cast(x, aval_of(x).dtype) for x in guess.values], guess.names, guess.treedef)
    count = len(strong.values)
    aux_tree: list[tree.PyTreeDef] = []

    def flat_solve(*xs: Any) -> list[Any]:
        found, aux = _with_aux(solve(f, strong.rebuild(xs)), has_aux, "custom_root", solve)
        aux_leaves, treedef = tree.flatten(aux)
        aux_tree[:] = [treedef]
        return [*_conforming(found, strong, "custom_root", solve), *aux_leaves]

    def flat_f(*xs: Any) -> list[Any]:
        return _conforming(f(strong.rebuild(xs)), strong, "custom_root", f)

    with (
        stage(flat_solve, strong.values, purpose="custom_root", user=solve) as solving,
        stage_abstract(flat_f, strong.avals, "custom_root", guess.names, f) as function,
    ):
        captured, (primal, residual) = sharing_consts([solving, function], count)
        rule = _RootRule(primal, residual, strong, tangent_solve)
        outs = rule.bind([*captured, *strong.values])
    x = guess.rebuild(outs[:count])
    return (x, tree.unflatten(aux_tree[0], outs[count:])) if has_aux else x


class _RootRule:
    """The derivative of a root: `primal` finds it, `residual` is the function that it is one of."""

    def __init__(self, primal: Jaxpr, residual: Jaxpr, guess: Leaves, tangent_solve: Solve) -> None:
        self.primal, self.residual = primal, residual
        self.guess, self.tangent_solve = guess, tangent_solve

    def bind(self, operands: Sequence[Any]) -> list[Any]:
        """The root as an equation that holds this rule, staged when a derivative asks for it."""
        rule = Rule(self.stage)
        return bind(custom_jvp_call_p, *operands, jaxpr=self.primal, rule=rule, num_consts=0)

    def stage(self) -> Jaxpr:
        """(operands, tangents of the inexact ones) -> (results, tangents of the inexact ones)."""
        avals = self.primal.in_avals
        dots = [a.strengthen() for a in avals if is_inexact(a.dtype)]
        staged = stage_abstract(self._push, [*avals, *dots], "custom_root", [], self.tangent_solve)
        if staged.captured:
            raise TransformTypeError(
                f"custom_root: {name_of(self.tangent_solve)} captures "
                f"{describe(staged.captured[0])} ({where(self.tangent_solve)}), which a derivative "
                "cannot see. Let f capture it, or compute it from what tangent_solve is given."
            )
        return staged.jaxpr

    def _push(self, *xs: Any) -> list[Any]:
        operands, given = cut(xs, len(self.primal.invars))
        moving = [is_inexact(a.dtype) for a in self.primal.in_avals]
        outs = self.bind(operands)
        num_captured = len(operands) - len(self.guess.values)
        x, aux = cut(outs, len(self.guess.values))
        at_root = [*operands[:num_captured], *x]
        dots = [*spread(given, moving)[:num_captured], *[None] * len(x)]
        _, moved = eval_jvp(self.residual, at_root, dots)
        side = [
            full(0, a) if m is None else neg(m)
            for m, a in zip(moved, self.residual.out_avals, strict=True)
        ]

        def jacobian(v: Any) -> Any:
            leaves = _conforming(v, self.guess, "custom_root", self.tangent_solve)
            _, found = eval_jvp(self.residual, at_root, [*[None] * num_captured, *leaves])
            pairs = zip(found, self.residual.out_avals, strict=True)
            return self.guess.rebuild([full(0, a) if m is None else m for m, a in pairs])

        solved = self.tangent_solve(jacobian, self.guess.rebuild(side))
        x_dots = _conforming(solved, self.guess, "custom_root", self.tangent_solve)
        aux_dots = [full(0, aval_of(y)) for y in aux if is_inexact(aval_of(y).dtype)]
        return [*outs, *x_dots, *aux_dots]
