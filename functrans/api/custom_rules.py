"""Functions with derivative rules of their own: custom_jvp, custom_vjp and custom_gradient."""

from __future__ import annotations

import functools
import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from functrans import tree
from functrans.api.border import Function, array_leaf, conform, stage
from functrans.bind import bind, eval_jaxpr, is_evaluating
from functrans.control.custom import Rule, custom_jvp_call_p, custom_vjp_call_p
from functrans.errors import ShapeError, TransformTypeError, describe, name_of, where
from functrans.ir import Aval, Jaxpr, Var, aval_of, is_inexact
from functrans.primitives.derive import full
from functrans.tracing import Tracer


class _InRules(threading.local):
    """The functions whose rules are being staged in this thread, the innermost last."""

    def __init__(self) -> None:
        self.functions: list[_Custom] = []


_in_rules = _InRules()


class _Custom(ABC):
    """What custom_jvp and custom_vjp share: the call's arguments, split and flattened."""

    _what: str

    def __init__(self, f: Function, nondiff_argnums: Sequence[int] = ()) -> None:
        if not callable(f):
            raise TransformTypeError(f"{self._what} takes a function, but got {describe(f)}")
        self.f = f
        self.nondiff_argnums = tuple(nondiff_argnums)
        functools.update_wrapper(self, f, updated=())

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args = _positional(self.f, args, kwargs, self._what)
        self._require_rule()
        if is_evaluating():
            return self.f(*args)
        return self._staged(args)

    @abstractmethod
    def _require_rule(self) -> None: ...

    @abstractmethod
    def _staged(self, args: tuple[Any, ...]) -> Any: ...

    @contextmanager
    def _staging_rules(self) -> Generator[bool]:
        """Marks that this function's rules are being staged; True when they already were."""
        nested = self in _in_rules.functions
        _in_rules.functions.append(self)
        try:
            yield nested
        finally:
            _in_rules.functions.pop()

    def _split(self, args: tuple[Any, ...]) -> tuple[list[Any], list[Any], tree.PyTreeDef]:
        """The nondiff arguments, the leaves of the others, and the others' tree."""
        chosen = {n % len(args) for n in self.nondiff_argnums}
        fixed = [a for i, a in enumerate(args) if i in chosen]
        others = tuple(a for i, a in enumerate(args) if i not in chosen)
        flat, treedef = tree.flatten(others)
        what = f"{self._what}: an argument of {name_of(self.f)}"
        return fixed, [array_leaf(x, what) for x in flat], treedef

    def _with_fixed(self, fixed: list[Any], others: Sequence[Any], count: int) -> list[Any]:
        chosen = {n % count for n in self.nondiff_argnums}
        given_fixed, given = iter(fixed), iter(others)
        return [next(given_fixed) if i in chosen else next(given) for i in range(count)]

    def _stage_primal(
        self, fixed: list[Any], leaves: list[Any], treedef: tree.PyTreeDef, count: int
    ) -> Any:
        def flat_f(*xs: Any) -> Any:
            return self.f(*self._with_fixed(fixed, tree.unflatten(treedef, xs), count))

        return self._stage(flat_f, leaves, known=True)

    def _stage(self, flat_f: Function, leaves: list[Any], **options: Any) -> Any:
        staged = stage(flat_f, leaves, purpose=self._what, **options)
        staged.release()
        for value in staged.captured:
            if type(value) is Tracer and value.active:
                raise TransformTypeError(
                    f"{self._what}: {name_of(self.f)} or its rule uses a {value.aval} that is "
                    f"being differentiated but is not among its arguments ({where(self.f)}), so "
                    "that its derivative would be lost. Pass it as an argument."
                )
        return staged

    def _late(self, stage_rule: Callable[..., Any], captured: Sequence[Any], count: int) -> Jaxpr:
        """A rule staged when a derivative needs it, when there are no values to ask for."""
        staged = stage_rule(known=False)
        if staged.captured:
            raise TransformTypeError(
                f"{self._what}: the rule of {name_of(self.f)} calls {name_of(self.f)} and captures "
                f"{describe(staged.captured[0])} ({where(self.f)}), so that its own derivative "
                "cannot be staged. Pass the captured array as an argument."
            )
        return with_unused(staged.jaxpr, captured, [], count)


def _positional(
    f: Function, args: tuple[Any, ...], kwargs: dict[str, Any], what: str
) -> tuple[Any, ...]:
    """The call's arguments in order, keywords and defaults resolved."""
    try:
        bound = inspect.signature(f).bind(*args, **kwargs)
    except ValueError:
        return args
    bound.apply_defaults()
    if bound.kwargs:
        raise TransformTypeError(
            f"{what}: {name_of(f)} has keyword-only arguments {sorted(bound.kwargs)} ({where(f)}), "
            "which rules cannot receive. Make them positional."
        )
    return bound.args


class custom_jvp(_Custom):
    """A function whose derivative is given: `@custom_jvp`, then `@f.defjvp`.

    The rule takes `(primals, tangents)`, two tuples like the arguments, and returns
    `(result, tangent)`; arguments at `nondiff_argnums` come first and are not differentiated.
    `f.defjvps(rule0, rule1, ...)` gives one rule for each argument instead:
    `rule(tangent, result, *arguments)`, or None for zero. It serves reverse mode too.

    >>> @custom_jvp
    ... def double(x):
    ...     return 2 * x
    >>> @double.defjvp
    ... def double_jvp(primals, tangents):
    ...     return 2 * primals[0], 2 * tangents[0]
    >>> double(3.0)
    6.0
    """

    _what = "custom_jvp"
    _rule: Function | None = None

    def defjvp(self, rule: Function, symbolic_zeros: bool = False) -> Function:
        """Set the rule; returns it, so that this is a decorator."""
        del symbolic_zeros
        self._rule = rule
        return rule

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """Set one rule for each argument: `rule(tangent, result, *arguments)` or None."""

        def rule(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
            result = self(*primals)
            total = tree.map(lambda y: full(0, aval_of(y)), result)
            for one, t in zip(rules, tangents, strict=True):
                if one is not None:
                    total = tree.map(lambda a, b: a + b, total, one(t, result, *primals))
            return result, total

        self._rule = rule

    def _require_rule(self) -> None:
        if self._rule is None:
            raise TransformTypeError(
                f"custom_jvp: {name_of(self.f)} has no rule ({where(self.f)}). Give one with "
                f"@{name_of(self.f)}.defjvp."
            )

    def _staged(self, args: tuple[Any, ...]) -> Any:
        fixed, leaves, treedef = self._split(args)
        primal = self._stage_primal(fixed, leaves, treedef, len(args))
        avals = [aval_of(x) for x in leaves]
        moving = [i for i, a in enumerate(avals) if is_inexact(a.dtype)]
        num_args = len(leaves) + len(moving)
        with self._staging_rules() as nested:
            stage_rule = functools.partial(
                self._stage_rule, fixed, leaves, treedef, avals, moving, primal
            )
            if nested:
                captured: list[Any] = []
                rule = Rule(lambda: self._late(stage_rule, primal.captured, num_args))
            else:
                staged = stage_rule(known=True)
                captured = staged.captured
                rule = Rule.staged(with_unused(staged.jaxpr, primal.captured, [], num_args))
        consts = [*primal.captured, *captured]
        outs = bind(
            custom_jvp_call_p,
            *consts,
            *leaves,
            jaxpr=with_unused(primal.jaxpr, [], captured, len(leaves)),
            rule=rule,
            num_consts=len(consts),
        )
        return tree.unflatten(primal.out_tree, outs)

    def _stage_rule(
        self,
        fixed: list[Any],
        leaves: list[Any],
        treedef: tree.PyTreeDef,
        avals: list[Aval],
        moving: list[int],
        primal: Any,
        known: bool,
    ) -> Any:
        """(primals, tangents of inexact arguments) -> (outs, tangents of inexact outputs)."""

        def flat_rule(*xs: Any) -> list[Any]:
            primals, dots = list(xs[: len(leaves)]), iter(xs[len(leaves) :])
            tangents = [next(dots) if i in moving else None for i in range(len(leaves))]
            assert self._rule is not None
            pair = self._rule(
                *fixed, tree.unflatten(treedef, primals), tree.unflatten(treedef, tangents)
            )
            return self._checked(pair, primal)

        flags = [known] * len(leaves) + [False] * len(moving)
        stand_ins = [*leaves, *[leaves[i] for i in moving]]
        types = [*avals, *[avals[i].strengthen() for i in moving]]
        return self._stage(flat_rule, stand_ins, avals=types, known=flags)

    def _checked(self, pair: Any, primal: Any) -> list[Any]:
        name = name_of(self.f)
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise TransformTypeError(
                f"custom_jvp: the rule of {name} must return (result, tangent), but it returned "
                f"{describe(pair)} ({where(self._rule)})"
            )
        outs, out_tree = tree.flatten(pair[0])
        if out_tree != primal.out_tree:
            raise TransformTypeError(
                f"custom_jvp: the rule of {name} returned a result {describe(pair[0])}, which is "
                f"not like that of {name} itself ({where(self._rule)})"
            )
        avals = primal.jaxpr.out_avals
        dots = _like_outputs(
            pair[1],
            out_tree,
            avals,
            f"custom_jvp: the tangent that the rule of {name} returned",
            self._rule,
        )
        return [
            *[conform(o, a) for o, a in zip(outs, avals, strict=True)],
            *[d for d, a in zip(dots, avals, strict=True) if is_inexact(a.dtype)],
        ]


def _like_outputs(
    value: Any, treedef: tree.PyTreeDef, avals: Sequence[Aval], what: str, rule: Function | None
) -> list[Any]:
    """The leaves of a tangent or cotangent from a user's rule; None stands for zero."""
    flat, _ = tree.flatten(value, is_leaf=lambda x: x is None)
    if len(flat) != len(avals):
        raise TransformTypeError(
            f"{what} is {describe(value)}, which has not the structure {treedef} ({where(rule)})"
        )
    return [_like(x, a, what, rule) for x, a in zip(flat, avals, strict=True)]


def _like(value: Any, aval: Aval, what: str, rule: Function | None) -> Any:
    if not is_inexact(aval.dtype):
        return None
    if value is None:
        return full(0, aval)
    leaf = array_leaf(value, what)
    if aval_of(leaf).shape != aval.shape:
        raise ShapeError(
            f"{what} has a leaf {aval_of(leaf)} where {aval} was expected ({where(rule)})"
        )
    return conform(leaf, aval)


def with_unused(jaxpr: Jaxpr, before: Sequence[Any], after: Sequence[Any], num_args: int) -> Jaxpr:
    """The jaxpr with unused inputs before and after its captured ones.

    So the function and its rules can share one list of operands: all captured values first.
    """
    own = len(jaxpr.invars) - num_args
    invars = [
        *[Var(aval_of(x)) for x in before],
        *jaxpr.invars[:own],
        *[Var(aval_of(x)) for x in after],
        *jaxpr.invars[own:],
    ]
    return Jaxpr(invars, jaxpr.eqns, jaxpr.outvars)


class custom_vjp(_Custom):
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
        fixed, leaves, treedef = self._split(args)
        primal = self._stage_primal(fixed, leaves, treedef, len(args))
        with self._staging_rules() as nested:
            if nested:
                rules = self._late_rules(fixed, leaves, treedef, len(args), primal)
            else:
                rules = self._rules(fixed, leaves, treedef, len(args), primal)
        captured, fwd, bwd = rules
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

    def _rules(
        self, fixed: list[Any], leaves: list[Any], treedef: tree.PyTreeDef, count: int, primal: Any
    ) -> tuple[list[Any], Rule, Rule]:
        """What the rules capture, and the rules, staged with values that they may ask for."""
        fwd, res_tree = self._stage_fwd(fixed, leaves, treedef, count, primal, known=True)
        # Bound here so that bwd may ask for residuals; what nobody asks for is pruned.
        num_outs = len(primal.jaxpr.outvars)
        residuals = eval_jaxpr(fwd.jaxpr, [*fwd.captured, *leaves])[num_outs:]
        avals = [aval_of(r) for r in residuals]
        bwd = self._stage_bwd(fixed, leaves, treedef, primal, residuals, avals, res_tree)
        jaxpr = with_unused(fwd.jaxpr, primal.captured, bwd.captured, len(leaves))
        start = len(primal.captured) + len(fwd.captured)
        passing = _passing_on(jaxpr, start, len(bwd.captured), num_outs)
        return [*fwd.captured, *bwd.captured], Rule.staged(passing), Rule.staged(bwd.jaxpr)

    def _late_rules(
        self, fixed: list[Any], leaves: list[Any], treedef: tree.PyTreeDef, count: int, primal: Any
    ) -> tuple[list[Any], Rule, Rule]:
        """The rules of a call inside these rules: staged when a derivative needs them."""
        res_tree: list[tree.PyTreeDef] = []

        def stage_fwd(known: bool) -> Any:
            staged, treedef_of_residuals = self._stage_fwd(
                fixed, leaves, treedef, count, primal, known=known
            )
            res_tree.append(treedef_of_residuals)
            return staged

        def stage_bwd(known: bool) -> Any:
            avals = fwd.jaxpr.out_avals[len(primal.jaxpr.outvars) :]
            stand_ins = [np.zeros((), a.dtype)[()] for a in avals]
            return self._stage_bwd(
                fixed, leaves, treedef, primal, stand_ins, avals, res_tree[0], known=known
            )

        fwd = Rule(lambda: self._late(stage_fwd, primal.captured, len(leaves)))
        bwd = Rule(lambda: self._late(stage_bwd, [], 0))
        return [], fwd, bwd

    def _stage_fwd(
        self,
        fixed: list[Any],
        leaves: list[Any],
        treedef: tree.PyTreeDef,
        count: int,
        primal: Any,
        *,
        known: bool,
    ) -> tuple[Any, tree.PyTreeDef]:
        """(arguments) -> (outs, residual leaves), and the tree of the residuals."""
        res_tree: list[tree.PyTreeDef] = []

        def flat_fwd(*xs: Any) -> list[Any]:
            assert self._fwd is not None
            pair = self._fwd(*self._with_fixed(fixed, tree.unflatten(treedef, xs), count))
            if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
                raise TransformTypeError(
                    f"custom_vjp: fwd of {name_of(self.f)} must return (result, residuals), but "
                    f"it returned {describe(pair)} ({where(self._fwd)})"
                )
            outs, out_tree = tree.flatten(pair[0])
            if out_tree != primal.out_tree:
                raise TransformTypeError(
                    f"custom_vjp: fwd of {name_of(self.f)} returned a result {describe(pair[0])}, "
                    f"which is not like that of {name_of(self.f)} itself ({where(self._fwd)})"
                )
            flat, residual_tree = tree.flatten(pair[1])
            res_tree.append(residual_tree)
            avals = primal.jaxpr.out_avals
            return [*[conform(o, a) for o, a in zip(outs, avals, strict=True)], *flat]

        types = [aval_of(x) for x in leaves]
        return self._stage(flat_fwd, leaves, avals=types, known=known), res_tree[0]

    def _stage_bwd(
        self,
        fixed: list[Any],
        leaves: list[Any],
        treedef: tree.PyTreeDef,
        primal: Any,
        residuals: list[Any],
        res_avals: list[Aval],
        res_tree: tree.PyTreeDef,
        *,
        known: bool = True,
    ) -> Any:
        """(residuals, cotangents of inexact outputs) -> cotangents of inexact arguments."""
        out_avals = primal.jaxpr.out_avals
        ct_avals = [a.strengthen() for a in out_avals if is_inexact(a.dtype)]
        count = len(residuals)

        def flat_bwd(*xs: Any) -> list[Any]:
            given = iter(xs[count:])
            bars = [next(given) if is_inexact(a.dtype) else None for a in out_avals]
            assert self._bwd is not None
            results = self._bwd(
                *fixed,
                tree.unflatten(res_tree, xs[:count]),
                tree.unflatten(primal.out_tree, bars),
            )
            return self._checked(results, leaves, treedef)

        flags = [known] * count + [False] * len(ct_avals)
        stand_ins = [*residuals, *[np.zeros((), a.dtype)[()] for a in ct_avals]]
        return self._stage(flat_bwd, stand_ins, avals=[*res_avals, *ct_avals], known=flags)

    def _checked(self, results: Any, leaves: list[Any], treedef: tree.PyTreeDef) -> list[Any]:
        """The cotangents of inexact leaves; None for an argument stands for zeros."""
        what = f"custom_vjp: what bwd of {name_of(self.f)} returned"
        avals = [aval_of(x) for x in leaves]
        arguments = tree.unflatten(treedef, range(len(avals)))
        if not isinstance(results, (tuple, list)) or len(results) != len(arguments):
            raise TransformTypeError(
                f"{what} must be a tuple with one cotangent for each of the {len(arguments)} "
                f"arguments, but it is {describe(results)} ({where(self._bwd)})"
            )
        bars: list[Any] = []
        for result, argument in zip(results, arguments, strict=True):
            places, part = tree.flatten(argument)
            types = [avals[i] for i in places]
            value = [None] * len(types) if result is None else result
            bars += _like_outputs(value, part, types, what, self._bwd)
        return [b for b, a in zip(bars, avals, strict=True) if is_inexact(a.dtype)]


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
