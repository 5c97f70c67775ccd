"""Gradients for users: grad and value_and_grad."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np

from functrans.api.arguments import Argnums, plain_places, split_arguments
from functrans.api.border import Function, Staged, finish, run, stage, zeros
from functrans.api.gradient_programs import Gradient, value_and_grad_jaxpr
from functrans.api.quick import Call, Quick
from functrans.api.results import AuxOutput
from functrans.api.reverse import Before
from functrans.api.tangents import differentiable_leaf
from functrans.api.tape import Tape, add_bar
from functrans.errors import TransformTypeError, describe, name_of, where
from functrans.ir import Aval, Jaxpr, aval_of, is_inexact
from functrans.memo.trie import Leaf

Unused = Literal["zeros", "error"]


def grad(
    f: Function,
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    unused: Unused = "zeros",
    memory: int | None = None,
) -> Function:
    """The gradient of a scalar function, by reverse mode.

    grad : (a -> scalar) -> a -> T a. `argnums` says with respect to which arguments, by position
    or name; a tuple gives a tuple of gradients. Gradients have the structure, shapes and dtypes
    of their arguments. With `has_aux` f returns `(value, aux)` and grad `(gradient, aux)`. For
    complex arguments the gradient of a real function of z = x + iy is df/dx - i df/dy;
    `holomorphic=True` differentiates a complex function. `unused="error"` refuses arguments that
    f does not depend on, which otherwise get zeros.

    `memory` is how many bytes may be held at once beside arguments and results: scans (fori_loop
    with fixed bounds too) then keep fewer of their steps and take the others again. A budget that
    this cannot keep to is a MemoryError which says what is missing.

    Raises TypeError when f does not return a real scalar or an argument is not floating.

    >>> grad(lambda x: x**3)(2.0)
    12.0
    """
    both = _ValueAndGrad(f, argnums, has_aux, holomorphic, unused, memory, "grad").of

    @functools.wraps(f, updated=())
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, grads = both(args, kwargs)
        return (grads, value[1]) if has_aux else grads

    return gradient


def value_and_grad(
    f: Function,
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    unused: Unused = "zeros",
    memory: int | None = None,
) -> Function:
    """Like `grad`, but returns `(value, gradient)`; with `has_aux`, `((value, aux), gradient)`.

    >>> value_and_grad(lambda x: x**2 + 3*x + 1)(2.0)
    (11.0, 7.0)
    """
    both = _ValueAndGrad(f, argnums, has_aux, holomorphic, unused, memory, "value_and_grad").of

    @functools.wraps(f, updated=())
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        return both(args, kwargs)

    return value_and_gradient


class _ValueAndGrad:
    """`value_and_grad` of one function with its options; `what` is how the user called it.

    `quick` has the calls like earlier ones, where each argument has one place and no budget of
    memory is to be kept to; what leaves of the memo have ready for these is found by `name`.
    """

    __slots__ = (
        "argnums",
        "f",
        "has_aux",
        "holomorphic",
        "memory",
        "name",
        "quick",
        "unused",
        "what",
    )

    def __init__(
        self,
        f: Function,
        argnums: Argnums,
        has_aux: bool,
        holomorphic: bool,
        unused: Unused,
        memory: int | None,
        what: str,
    ) -> None:
        if unused not in get_args(Unused):
            raise TransformTypeError(
                f"{what}: unused must be 'zeros' or 'error', but got {describe(unused)}."
            )
        if not callable(f):
            raise TransformTypeError(
                f"{what} takes a function, but got {describe(f)}. Give it the function itself and "
                f"call the result: {what}(f)(x)."
            )
        self.f, self.argnums, self.has_aux, self.holomorphic = f, argnums, has_aux, holomorphic
        self.unused, self.memory, self.what = unused, memory, what
        self.name = what, holomorphic
        places = None if memory is not None else plain_places(argnums)
        self.quick = None if places is None else Quick(f, places, what, holomorphic)

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The value, with aux where there is one, and the gradient."""
        quick = self.quick
        if quick is not None:
            call = quick.known(args, kwargs)
            if call is not None:
                return self._known(quick, call, args, kwargs)
        return self._staged(args, kwargs)

    def _staged(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Those of a call like no earlier one."""
        f, what = self.f, self.what
        split = split_arguments(f, self.argnums, args, kwargs, what)
        leaves = [
            differentiable_leaf(x, n, what, self.holomorphic)
            for x, n in zip(split.leaves, split.names, strict=True)
        ]
        aux = AuxOutput(f, self.has_aux, what)
        tape = Tape([True] * len(leaves))
        build = value_and_grad_jaxpr
        if self.memory is not None:
            from functrans.api.budget import within_memory

            build = functools.partial(
                within_memory, memory=self.memory, what=f"{what} of {name_of(f)}"
            )
        with stage(
            lambda *xs: aux.split_scalar(split.call(f, xs)),
            leaves,
            user=f,
            purpose=what,
            active=[True] * len(leaves),
            names=split.names,
            tape=tape if self.memory is None else None,
        ) as staged:
            self._require_scalar(staged.jaxpr)
            results, grads = gradient_of(staged, tape, leaves, build)
        if self.quick is not None:
            self.quick.learn(args, kwargs, split.names)
        given = aux if self.has_aux else None
        return self._given_back(results, grads, leaves, split.names, given, split.pick)

    def _known(
        self, quick: Quick, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Those of a call like an earlier one, whose trace the memo may know."""
        signature, leaves, treedef = call
        aux = AuxOutput(self.f, True, self.what) if self.has_aux else None
        trace, found = quick.trace(call, args, kwargs, None if aux is None else aux.split_scalar)
        try:
            if type(found) is Leaf and trace.restarted:
                carrying, cells = trace.read
                end = self._end(found, carrying)
                outs = run(end.program, [*trace.ins, *found.constants])
                tape = trace.tape
                assert isinstance(tape, Tape)
                bars = tape.pull(end.bars(outs, cells))
                grads = finished(bars, signature.avals, leaves)
                signature.keep(trace)
                if len(bars) == len(leaves):
                    return outs[0], grads[0] if treedef is None else treedef.unflatten(grads)
                results = outs[:1]
            elif type(found) is Leaf:
                ready = found.ready.get(self.name)
                if ready is None:
                    ready = self._made_ready(found, leaves)
                outs = run(ready.program, [*trace.ins, *found.constants, *leaves])
                signature.keep(trace)
                if ready.is_whole:
                    value = outs.pop(0)
                    return value, outs[0] if treedef is None else treedef.unflatten(outs)
                results, grads = outs[:1], ready.spread(outs[1:])
            else:
                assert type(found) is Staged
                self._require_scalar(found.jaxpr)
                results, grads = gradient_of(found, trace.tape, leaves, value_and_grad_jaxpr)
        finally:
            if trace.holds:
                trace.release()
        pick = treedef.unflatten if treedef is not None else _first
        return self._given_back(results, grads, leaves, signature.names, aux, pick)

    def _made_ready(self, leaf: Leaf, leaves: list[Any]) -> ReadyGradient:
        """The gradient of a leaf, for all later calls."""
        self._require_scalar(leaf.jaxpr)
        ready = leaf.ready[self.name] = ReadyGradient(leaf, leaves)
        return ready

    def _end(self, leaf: Leaf, carrying: int) -> ReadyEnd:
        """The gradient of the last segment of a function that asked."""
        name = self.name, carrying
        end = leaf.ready.get(name)
        if end is None:
            self._require_scalar(leaf.jaxpr)
            end = leaf.ready[name] = ReadyEnd(leaf, carrying)
        return end

    def _require_scalar(self, jaxpr: Jaxpr) -> None:
        _require_scalar(jaxpr.out_avals[0], self.f, self.what, self.holomorphic)

    def _given_back(
        self,
        results: list[Any],
        grads: list[Any],
        leaves: list[Any],
        names: list[str],
        aux: AuxOutput | None,
        pick: Callable[[list[Any]], Any],
    ) -> tuple[Any, Any]:
        """What the user gets: zeros where a gradient is None, and aux beside the value."""
        if self.unused == "error":
            _require_used(grads, names, self.f, self.what)
        grads = [zeros(aval_of(x)) if g is None else g for x, g in zip(leaves, grads, strict=True)]
        value = (results[0], aux.join(results[1:])) if aux is not None else results[0]
        return value, pick(grads)


def _first(values: list[Any]) -> Any:
    return values[0]


class ReadyGradient:
    """The gradient of a leaf of the memo: its program, and which gradients are not zero.

    `is_whole`: are all of them given, of a function without aux?
    """

    __slots__ = ("is_whole", "nonzero", "program")

    def __init__(self, leaf: Leaf, leaves: list[Any]) -> None:
        active = (False,) * (leaf.inputs + len(leaf.constants)) + (True,) * len(leaves)
        self.program, self.nonzero = value_and_grad_jaxpr(leaf.jaxpr, active)
        self.is_whole = all(self.nonzero)

    def spread(self, grads: list[Any]) -> list[Any]:
        """A gradient for each leaf, None where it is zero."""
        given = iter(grads)
        return [next(given) if flag else None for flag in self.nonzero]


class ReadyEnd:
    """The gradient of the last segment of a function that was run segment by segment.

    `places` are the numbers, among the inputs that carry a derivative, of those whose cotangents
    its program gives.
    """

    __slots__ = ("places", "program")

    def __init__(self, leaf: Leaf, carrying: int) -> None:
        active = tuple([bool(carrying >> i & 1) for i in range(len(leaf.jaxpr.invars))])
        self.program, nonzero = value_and_grad_jaxpr(leaf.jaxpr, active)
        self.places = [i for i, flag in enumerate(nonzero) if flag]

    def bars(self, outs: list[Any], cells: list[int]) -> dict[int, Any]:
        """The cotangents by cell, of the outputs of the program."""
        bars: dict[int, Any] = {}
        for place, bar in zip(self.places, outs[1:], strict=True):
            add_bar(bars, cells[place], bar)
        return bars


def gradient_of(
    staged: Staged, tape: Any, leaves: list[Any], build: Callable[..., Gradient]
) -> tuple[list[Any], list[Any]]:
    """The outputs, and the gradient of the first one for each leaf, None where it is zero."""
    if staged.cells is not None:
        assert isinstance(tape, Tape)
        return _taped_gradient(staged, staged.cells, tape, leaves)
    return _gradient(staged, leaves, build)


def _gradient(
    staged: Staged, leaves: list[Any], build: Callable[..., Gradient]
) -> tuple[list[Any], list[Any]]:
    active = (False,) * len(staged.captured) + (True,) * len(leaves)
    program, nonzero = build(staged.jaxpr, active)
    results = run(program, [*staged.captured, *leaves])
    num_outs = len(staged.jaxpr.outvars)
    given = iter(results[num_outs:])
    return results[:num_outs], [next(given) if flag else None for flag in nonzero]


def _taped_gradient(
    staged: Staged, cells: list[int], tape: Tape, leaves: list[Any]
) -> tuple[list[Any], list[Any]]:
    """The same where all but the last segment was run already."""
    active = tuple([c >= 0 for c in cells])
    program, nonzero = value_and_grad_jaxpr(staged.jaxpr, active)
    results = run(program, staged.captured)
    num_outs = len(staged.jaxpr.outvars)
    bars = Before(tape, cells).pull(results[num_outs:], active, nonzero)
    return results[:num_outs], finished(bars, [aval_of(x) for x in leaves], leaves)


def finished(bars: dict[int, Any], avals: list[Aval], leaves: list[Any]) -> list[Any]:
    """The gradient for each leaf, None where it is zero, from the cotangents by cell."""
    grads: list[Any] = []
    for i, leaf in enumerate(leaves):
        bar = bars.get(i)
        if type(bar) is not type(leaf) or type(bar) not in _FINISHED:
            break
        grads.append(bar)
    else:
        return grads
    grads = [bars.get(i) for i in range(len(leaves))]
    there = [i for i, bar in enumerate(grads) if bar is not None]
    done = finish([grads[i] for i in there], [avals[i] for i in there], leaves)
    for i, bar in zip(there, done, strict=True):
        grads[i] = bar
    return grads


_FINISHED = frozenset({float, np.float64})
"""What users get as it is, where the argument is one too."""


def _require_used(grads: list[Any], names: list[str], f: Function, what: str) -> None:
    if any(g is None for g in grads):
        name = next(n for n, g in zip(names, grads, strict=True) if g is None)
        raise TransformTypeError(
            f"{what}: the result does not depend on {name} ({where(f)}), and unused='error' was "
            "asked for. Leave it out of argnums, or use unused='zeros'."
        )


def _require_scalar(aval: Aval, f: Function, what: str, holomorphic: bool) -> None:
    if aval.shape != ():
        raise TransformTypeError(
            f"{what}: the function must return a scalar, but it returned "
            f"{describe(aval)} ({where(f)}). Take a sum or mean, or use jacrev, or vjp with a "
            "cotangent."
        )
    if holomorphic and aval.dtype.kind != "c":
        raise TransformTypeError(
            f"{what}: holomorphic=True needs a complex result, but it is {describe(aval)} "
            f"({where(f)}). Drop holomorphic for functions with real results."
        )
    if not holomorphic and aval.dtype.kind == "c":
        raise TransformTypeError(
            f"{what}: the function must return a real scalar, but it returned "
            f"{describe(aval)} ({where(f)}). Take its real part or its absolute value, or "
            "give holomorphic=True."
        )
    if not is_inexact(aval.dtype):
        raise TransformTypeError(
            f"{what}: the function must return a floating scalar, but it returned "
            f"{describe(aval)} ({where(f)}), which has no derivative. Return it through "
            "has_aux=True, beside the value to differentiate."
        )
