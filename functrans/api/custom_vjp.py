"""custom_vjp and custom_gradient: a function whose reverse rule is given, for both modes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from functrans import tree
from functrans.api.border import Function, Staged
from functrans.api.custom_rules import (
    Custom,
    CustomCall,
    checked_outputs,
    like_outputs,
    with_unused,
)
from functrans.bind import bind, eval_jaxpr
from functrans.control.custom import Rule, custom_vjp_call_p
from functrans.errors import TransformTypeError, describe, name_of, where
from functrans.ir import Aval, Jaxpr, aval_of, is_inexact
from functrans.transforms.cache import derived


class custom_vjp(Custom):
    """A function whose reverse-mode rule is given: `@custom_vjp`, then `f.defvjp(fwd, bwd)`.

    `fwd(*arguments)` returns `(result, residuals)` and `bwd(residuals, cotangent)` a tuple with
    one cotangent for each argument (None for zero); arguments at `nondiff_argnums` come first in
    bwd and get none. Forward mode and higher orders work too: there the derivative is the
    transpose of bwd, which must be linear in its cotangent.

    >>> @custom_vjp
    ... def double(x):
    ...     return 2 * x
    >>> double.defvjp(lambda x: (double(x), None), lambda residuals, ct: (2 * ct,))
    >>> double(3.0)
    6.0
    """

    _what = "custom_vjp"
    _fwd: Function | None = None
    _bwd: Function | None = None

    def defvjp(self, fwd: Function, bwd: Function, symbolic_zeros: bool = False) -> None:
        """Set the two rules."""
        del symbolic_zeros
        self._fwd, self._bwd = fwd, bwd

    def _require_rule(self) -> None:
        if self._fwd is None or self._bwd is None:
            raise TransformTypeError(
                f"custom_vjp: {name_of(self.f)} has no rules ({where(self.f)}). Give them with "
                f"{name_of(self.f)}.defvjp(fwd, bwd)."
            )

    def _staged(self, args: tuple[Any, ...]) -> Any:
        call = self._call(args)
        primal, leaves = call.primal, call.leaves
        with self._staging_rules() as nested:
            if nested:
                captured: list[Any] = []
                fwd, bwd = self._late_once(lambda: self._late_rules(call), call)
            else:
                captured, fwd, bwd = self._rules(call)
        consts = [*primal.captured, *captured]
        outs = bind(
            custom_vjp_call_p,
            *consts,
            *leaves,
            jaxpr=with_unused(primal.jaxpr, [], captured, len(leaves)),
            fwd=fwd,
            bwd=bwd,
            num_consts=len(consts),
        )
        return tree.unflatten(primal.out_tree, outs)

    def _rules(self, call: CustomCall) -> tuple[list[Any], Rule, Rule]:
        """What the rules capture, and the rules, staged with values that they may ask for."""
        primal, leaves = call.primal, call.leaves
        fwd, res_tree = self._stage_fwd(call, known=True)
        # Bound here so that bwd may ask for residuals; what nobody asks for is pruned.
        num_outs = len(primal.jaxpr.outvars)
        residuals = eval_jaxpr(fwd.jaxpr, [*fwd.captured, *leaves])[num_outs:]
        avals = [aval_of(r) for r in residuals]
        bwd = self._stage_bwd(call, residuals, avals, res_tree)
        jaxpr = with_unused(fwd.jaxpr, primal.captured, bwd.captured, len(leaves))
        start = len(primal.captured) + len(fwd.captured)
        passing = _passing_on(jaxpr, start, len(bwd.captured), num_outs)
        return [*fwd.captured, *bwd.captured], Rule.staged(passing), Rule.staged(bwd.jaxpr)

    def _late_rules(self, call: CustomCall) -> tuple[Rule, Rule]:
        """The rules of a call inside these rules: staged when a derivative needs them."""
        primal = call.primal
        res_tree: list[tree.PyTreeDef] = []

        def stage_fwd(known: bool) -> Staged:
            staged, treedef_of_residuals = self._stage_fwd(call, known=known)
            res_tree.append(treedef_of_residuals)
            return staged

        def stage_bwd(known: bool) -> Staged:
            avals = fwd.jaxpr.out_avals[len(primal.jaxpr.outvars) :]
            stand_ins = [np.zeros((), a.dtype)[()] for a in avals]
            return self._stage_bwd(call, stand_ins, avals, res_tree[0], known=known)

        fwd = Rule(lambda: self._late(stage_fwd, primal.captured, len(call.leaves)))
        bwd = Rule(lambda: self._late(stage_bwd, [], 0))
        return fwd, bwd

    def _stage_fwd(self, call: CustomCall, *, known: bool) -> tuple[Staged, tree.PyTreeDef]:
        """(arguments) -> (outs, residual leaves), and the tree of the residuals."""
        res_tree: list[tree.PyTreeDef] = []

        def flat_fwd(*xs: Any) -> list[Any]:
            assert self._fwd is not None
            others = tree.unflatten(call.treedef, xs)
            pair = self._fwd(*self._with_fixed(call.fixed, others, call.arity))
            if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
                raise TransformTypeError(
                    f"custom_vjp: fwd of {name_of(self.f)} must return (result, residuals), but "
                    f"it returned {describe(pair)} ({where(self._fwd)}). Return both, as a tuple "
                    "of two; residuals may be None."
                )
            what = f"custom_vjp: the result that fwd of {name_of(self.f)} returned"
            outs = checked_outputs(pair[0], call.primal, what, self._fwd)
            flat, residual_tree = tree.flatten(pair[1])
            res_tree.append(residual_tree)
            return [*outs, *flat]

        types = [aval_of(x) for x in call.leaves]
        staged = self._stage(flat_fwd, call.leaves, avals=types, known=known, user=self._fwd)
        return staged, res_tree[0]

    def _stage_bwd(
        self,
        call: CustomCall,
        residuals: list[Any],
        res_avals: list[Aval],
        res_tree: tree.PyTreeDef,
        *,
        known: bool = True,
    ) -> Staged:
        """(residuals, cotangents of inexact outputs) -> cotangents of inexact arguments."""
        out_avals = call.primal.jaxpr.out_avals
        ct_avals = [a.strengthen() for a in out_avals if is_inexact(a.dtype)]
        count = len(residuals)

        def flat_bwd(*xs: Any) -> list[Any]:
            given = iter(xs[count:])
            bars = [next(given) if is_inexact(a.dtype) else None for a in out_avals]
            assert self._bwd is not None
            results = self._bwd(
                *call.fixed,
                tree.unflatten(res_tree, xs[:count]),
                tree.unflatten(call.primal.out_tree, bars),
            )
            return self._checked(results, call)

        flags = [known] * count + [False] * len(ct_avals)
        stand_ins = [*residuals, *[np.zeros((), a.dtype)[()] for a in ct_avals]]
        types = [*res_avals, *ct_avals]
        return self._stage(flat_bwd, stand_ins, avals=types, known=flags, user=self._bwd)

    def _checked(self, results: Any, call: CustomCall) -> list[Any]:
        """The cotangents of inexact leaves; None for an argument stands for zeros."""
        what = f"custom_vjp: what bwd of {name_of(self.f)} returned"
        avals = [aval_of(x) for x in call.leaves]
        arguments = tree.unflatten(call.treedef, range(len(avals)))
        if not isinstance(results, (tuple, list)) or len(results) != len(arguments):
            raise TransformTypeError(
                f"{what} must be a tuple with one cotangent for each argument, which are "
                f"{len(arguments)}, but it is {describe(results)} ({where(self._bwd)}). Write "
                "(ct,) for a single one, and None for zeros."
            )
        bars: list[Any] = []
        for result, argument in zip(results, arguments, strict=True):
            places, part = tree.flatten(argument)
            types = [avals[i] for i in places]
            value = tree.unflatten(part, [None] * len(types)) if result is None else result
            bars += like_outputs(value, part, types, what, self._bwd)
        return [b for b, a in zip(bars, avals, strict=True) if is_inexact(a.dtype)]


@derived
def _passing_on(fwd: Jaxpr, start: int, count: int, num_outs: int) -> Jaxpr:
    """fwd with what bwd captured among its residuals, first."""
    extra = fwd.invars[start : start + count]
    outs = [*fwd.outvars[:num_outs], *extra, *fwd.outvars[num_outs:]]
    return Jaxpr(fwd.invars, fwd.eqns, outs)


def custom_gradient(f: Function) -> Function:
    """A function that returns `(value, vjp)`, its own pullback: `vjp(ct)` gives the cotangents.

    >>> from functrans import grad
    >>> @custom_gradient
    ... def double(x):
    ...     return 2 * x, lambda ct: (2 * ct,)
    >>> grad(double)(3.0)
    2.0
    """

    @functools.wraps(f, updated=())
    def value(*args: Any) -> Any:
        return f(*args)[0]

    wrapped = custom_vjp(value)

    def bwd(residuals: tuple[Any, ...], cotangent: Any) -> tuple[Any, ...]:
        bars = f(*residuals)[1](cotangent)
        return bars if isinstance(bars, tuple) else (bars,)

    wrapped.defvjp(lambda *args: (value(*args), args), bwd)
    return wrapped
