"""custom_jvp: a function whose derivative is given in forward mode, for both modes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from functrans import tree
from functrans.api.border import Function, Staged
from functrans.api.custom_rules import (
    Custom,
    CustomCall,
    checked_outputs,
    like_outputs,
    with_unused,
)
from functrans.bind import bind
from functrans.control.custom import Rule, custom_jvp_call_p
from functrans.errors import TransformTypeError, describe, name_of, where
from functrans.ir import aval_of, is_inexact
from functrans.primitives.derive import full


class custom_jvp(Custom):
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
        call = self._call(args)
        primal, leaves = call.primal, call.leaves
        num_args = len(leaves) + sum(is_inexact(aval_of(x).dtype) for x in leaves)
        with self._staging_rules() as nested:
            stage_rule = functools.partial(self._stage_rule, call)
            if nested:
                captured: list[Any] = []
                (rule,) = self._late_once(
                    lambda: (Rule(lambda: self._late(stage_rule, primal.captured, num_args)),),
                    call,
                )
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

    def _stage_rule(self, call: CustomCall, known: bool) -> Staged:
        """(primals, tangents of inexact arguments) -> (outs, tangents of inexact outputs)."""
        leaves = call.leaves
        avals = [aval_of(x) for x in leaves]
        moving = [i for i, a in enumerate(avals) if is_inexact(a.dtype)]

        def flat_rule(*xs: Any) -> list[Any]:
            primals, dots = list(xs[: len(leaves)]), iter(xs[len(leaves) :])
            tangents = [next(dots) if i in moving else None for i in range(len(leaves))]
            assert self._rule is not None
            given = tree.unflatten(call.treedef, primals), tree.unflatten(call.treedef, tangents)
            return self._checked(self._rule(*call.fixed, *given), call.primal)

        flags = [known] * len(leaves) + [False] * len(moving)
        stand_ins = [*leaves, *[leaves[i] for i in moving]]
        types = [*avals, *[avals[i].strengthen() for i in moving]]
        return self._stage(flat_rule, stand_ins, avals=types, known=flags, user=self._rule)

    def _checked(self, pair: Any, primal: Staged) -> list[Any]:
        """The leaves of what the rule returned: outputs, then tangents of those that have one."""
        name = name_of(self.f)
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise TransformTypeError(
                f"custom_jvp: the rule of {name} must return (result, tangent), but it returned "
                f"{describe(pair)} ({where(self._rule)}). Return both, as a tuple of two."
            )
        avals = primal.jaxpr.out_avals
        what = f"custom_jvp: the result that the rule of {name} returned"
        outs = checked_outputs(pair[0], primal, what, self._rule)
        dots = like_outputs(
            pair[1],
            primal.out_tree,
            avals,
            f"custom_jvp: the tangent that the rule of {name} returned",
            self._rule,
        )
        return [
            *outs,
            *[d for d, a in zip(dots, avals, strict=True) if is_inexact(a.dtype)],
        ]
