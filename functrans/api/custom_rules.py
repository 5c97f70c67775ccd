"""What custom_jvp and custom_vjp share: arguments sorted, rules staged, results checked."""

from __future__ import annotations

import functools
import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from functrans import tree
from functrans.api.arguments import places_of, positions
from functrans.api.border import Function, Staged, array_leaf, conform, stage
from functrans.bind import is_evaluating
from functrans.control.custom import Rule
from functrans.errors import ShapeError, TransformTypeError, describe, name_of, where
from functrans.ir import Aval, Jaxpr, Var, aval_of, is_inexact
from functrans.primitives.derive import full
from functrans.tracing import Tracer
from functrans.transforms.cache import derived


class _InRules(threading.local):
    """The functions whose rules are being staged in this thread, the innermost last."""

    def __init__(self) -> None:
        self.functions: list[Custom] = []


_in_rules = _InRules()


class CustomCall(NamedTuple):
    """A call of such a function, staged: `primal` is the function itself.

    fixed    the nondiff arguments; `leaves` and `treedef`: all others
    arity    how many arguments there are
    """

    fixed: list[Any]
    leaves: list[Any]
    treedef: tree.PyTreeDef
    arity: int
    primal: Staged


class Custom(ABC):
    """What custom_jvp and custom_vjp share: the call's arguments, split and flattened."""

    _what: str

    def __init__(self, f: Function, nondiff_argnums: Sequence[int] = ()) -> None:
        if not callable(f):
            raise TransformTypeError(
                f"{self._what} takes a function, but got {describe(f)}. Use it as a decorator."
            )
        self.f = f
        self._staged_late = 0
        self.nondiff_argnums = positions(nondiff_argnums, f"{self._what}: nondiff_argnums")
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

    def _call(self, args: tuple[Any, ...]) -> CustomCall:
        """The call with these arguments, and the function staged on them."""
        chosen = places_of(
            self.nondiff_argnums, len(args), self.f, f"{self._what}: nondiff_argnums"
        )
        fixed = [a for i, a in enumerate(args) if i in chosen]
        others = tuple(a for i, a in enumerate(args) if i not in chosen)
        flat, treedef = tree.flatten(others)
        what = f"{self._what}: an argument of {name_of(self.f)}"
        leaves, count = [array_leaf(x, what) for x in flat], len(args)

        def flat_f(*xs: Any) -> Any:
            return self.f(*self._with_fixed(fixed, tree.unflatten(treedef, xs), count))

        primal = self._stage(flat_f, leaves, known=True, user=self.f)
        return CustomCall(fixed, leaves, treedef, count, primal)

    def _with_fixed(self, fixed: list[Any], others: Sequence[Any], count: int) -> list[Any]:
        """All arguments in order, from the nondiff ones and the others."""
        chosen = {n % count for n in self.nondiff_argnums}
        given_fixed, given = iter(fixed), iter(others)
        return [next(given_fixed) if i in chosen else next(given) for i in range(count)]

    def _stage(self, flat_f: Function, leaves: list[Any], **options: Any) -> Staged:
        """A function of leaves staged. Raises where it captures what is being differentiated."""
        staged = stage(flat_f, leaves, purpose=self._what, **options)
        staged.release()
        for value in staged.captured:
            if type(value) is Tracer and value.active:
                raise TransformTypeError(
                    f"{self._what}: {name_of(self.f)} or its rule uses a traced "
                    f"{describe(value)} that is being differentiated but is not among its "
                    f"arguments ({where(self.f)}), so that its derivative would be lost. Pass it "
                    "as an argument."
                )
        return staged

    def _late_once(
        self, make: Callable[[], tuple[Rule, ...]], call: CustomCall
    ) -> tuple[Rule, ...]:
        """Rules that are staged when a derivative needs them: the same for calls alike, so that the
        memo knows such a call. Once one was staged, later calls get others, since what its function
        reads from outside may have changed."""
        if call.fixed:
            return make()
        types = tuple(map(aval_of, call.leaves))
        key = ("late rules", self, self._staged_late, call.treedef, types)
        cache = call.primal.jaxpr.cache
        found = cache.get(key)
        if found is None:
            found = cache[key] = make()
        return found

    def _late(
        self, stage_rule: Callable[..., Staged], captured: Sequence[Any], count: int
    ) -> Jaxpr:
        """A rule staged when a derivative needs it, when there are no values to ask for."""
        self._staged_late += 1
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


def like_outputs(
    value: Any, treedef: tree.PyTreeDef, avals: Sequence[Aval], what: str, rule: Function | None
) -> list[Any]:
    """The leaves of a tangent or cotangent from a user's rule; None stands for zero."""
    wanted = tree.unflatten(treedef, avals)
    flat, found = tree.flatten(value, is_leaf=_is_none)
    if found != tree.structure(wanted, is_leaf=_is_none):
        raise TransformTypeError(
            f"{what} must have the structure {describe(wanted)}, with None for zeros, but it is "
            f"{describe(value)} ({where(rule)})."
        )
    kept = [x for x, a in zip(flat, tree.leaves(wanted, is_leaf=_is_none), strict=True) if a]
    return [_like(x, a, what, rule) for x, a in zip(kept, avals, strict=True)]


def _is_none(value: Any) -> bool:
    return value is None


def checked_outputs(value: Any, primal: Staged, what: str, rule: Function | None) -> list[Any]:
    """The leaves of a rule's result, which must be like the function's own, in its dtypes."""
    outs, out_tree = tree.flatten(value)
    avals = primal.jaxpr.out_avals
    shapes = [aval_of(array_leaf(x, what)).shape for x in outs]
    if out_tree != primal.out_tree or shapes != [a.shape for a in avals]:
        wanted = tree.unflatten(primal.out_tree, avals)
        raise ShapeError(
            f"{what} must be like that of the function itself, {describe(wanted)}, but it is "
            f"{describe(value)} ({where(rule)})."
        )
    return [conform(o, a) for o, a in zip(outs, avals, strict=True)]


def _like(value: Any, aval: Aval, what: str, rule: Function | None) -> Any:
    if not is_inexact(aval.dtype):
        return None
    if value is None:
        return full(0, aval)
    leaf = array_leaf(value, what)
    if aval_of(leaf).shape != aval.shape:
        raise ShapeError(
            f"{what} must have the shape of the value it belongs to, {describe(aval)}, but it is "
            f"{describe(leaf)} ({where(rule)}). Sum over axes that were broadcast."
        )
    return conform(leaf, aval)


def with_unused(jaxpr: Jaxpr, before: Sequence[Any], after: Sequence[Any], num_args: int) -> Jaxpr:
    """The jaxpr with unused inputs before and after its captured ones.

    So the function and its rules can share one list of operands: all captured values first.
    """
    types = tuple(map(aval_of, before)), tuple(map(aval_of, after))
    return _with_inputs(jaxpr, *types, num_args)


@derived
def _with_inputs(
    jaxpr: Jaxpr, before: tuple[Aval, ...], after: tuple[Aval, ...], num_args: int
) -> Jaxpr:
    own = len(jaxpr.invars) - num_args
    invars = [*map(Var, before), *jaxpr.invars[:own], *map(Var, after), *jaxpr.invars[own:]]
    return Jaxpr(invars, jaxpr.eqns, jaxpr.outvars)
