"""Bind: an operation means what the current interpreter says; here is the one that evaluates."""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from functrans import tiers
from functrans.errors import FunctransError
from functrans.ir import (
    Atom,
    Jaxpr,
    Literal,
    MappedAxis,
    Primitive,
    Source,
    Var,
    aval_of,
    values_of,
    written_out,
)


class Interpreter(Protocol):
    """Gives meaning to bind. `parent` is the interpreter in force around it.

    `outermost` says that the memo takes what is bound or called next for one operation; `memoised`,
    that a trace inside of it may follow the memo. `axes` are the named axes in force, the innermost
    first: what is staged now may depend on them.
    """

    parent: Interpreter | None
    outermost: bool
    memoised: bool
    axes: tuple[MappedAxis, ...]

    def suspend(self) -> None:
        """Another interpreter is put in force."""
        ...

    def resume(self) -> None:
        """In force again."""
        ...

    def bind(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
        """The results of one operation under this interpreter."""
        ...

    def inline(self, jaxpr: Jaxpr, args: Sequence[Any]) -> list[Any] | None:
        """The results of a whole program; None where its operations must be bound one by one."""
        ...


class Evaluator:
    """The interpreter that computes: every operation is its `impl`, on NumPy arrays."""

    parent: Interpreter | None = None
    outermost = False
    memoised = True
    axes: tuple[MappedAxis, ...] = ()

    def suspend(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def bind(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
        """The types are checked, as they are where it is staged: `impl` does not look."""
        arrays = [np.asarray(a) for a in args]
        primitive.abstract_eval(*map(aval_of, arrays), **params)
        with np.errstate(all="ignore"):
            return [out[()] for out in primitive.impl(*arrays, **params)]

    def inline(self, jaxpr: Jaxpr, args: Sequence[Any]) -> list[Any] | None:
        return _evaluate(jaxpr, args)


TRACING = array("q", [0])
"""How many interpreters other than evaluators are in force, in all threads: native code reads it
in one instruction, and leaves calls to Python while it is not 0."""


class _Context(threading.local):
    interpreter: Interpreter = Evaluator()


in_force = _Context()
"""Of each thread."""


def current_interpreter() -> Interpreter:
    """The interpreter in force in this thread."""
    return in_force.interpreter


def ambient_axes() -> tuple[MappedAxis, ...]:
    """The named axes in force here, the innermost first."""
    return in_force.interpreter.axes


def is_evaluating() -> bool:
    """Does bind compute at once in this thread, with nothing being staged?"""
    return in_force.interpreter.parent is None


# An interrupt (Ctrl-C) arrives where a function is called or has returned, or where a loop goes
# back, and there alone another thread goes on. So what puts an interpreter in force and what counts
# it follow each other without a call, and what undoes both comes first in its `finally`.


@contextmanager
def interpreting(interpreter: Interpreter) -> Generator[None]:
    """Put `interpreter` in force in this thread for the length of the block."""
    outer = in_force.interpreter
    staging = interpreter.parent is not None
    outer.suspend()
    interpreter.resume()
    try:
        in_force.interpreter = interpreter
        if staging:
            TRACING[0] += 1
        yield
    finally:
        if in_force.interpreter is not outer and staging:
            TRACING[0] -= 1
        in_force.interpreter = outer
        interpreter.suspend()
        outer.resume()


def enter(trace: Interpreter) -> Interpreter:
    """Put a trace in force in this thread; the interpreter in force before.

    Who calls this puts that in force again, counts, and has it resume: in this order, and without a
    call before.
    """
    outer = in_force.interpreter
    if outer.parent is not None:
        outer.suspend()
    in_force.interpreter = trace
    TRACING[0] += 1
    return outer


_EVALUATOR = Evaluator()


def rest() -> tuple[Interpreter, int]:
    """Compute from now on, whatever is being staged around it in this thread.

    Returns what was in force, which who calls this puts in force again, and how many it counts for.
    """
    outer, depth = in_force.interpreter, 0
    around = outer
    while around.parent is not None:
        depth, around = depth + 1, around.parent
    outer.suspend()
    in_force.interpreter = _EVALUATOR
    TRACING[0] -= depth
    return outer, depth


def _count_anew() -> None:
    """In a child of fork only this thread is left, and its interpreters."""
    depth, interpreter = 0, in_force.interpreter
    while interpreter.parent is not None:
        depth, interpreter = depth + 1, interpreter.parent
    TRACING[0] = depth


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_anew)


def bind(primitive: Primitive, *args: Any, **params: Any) -> list[Any]:
    """Apply `primitive` under the current interpreter: arrays in, a list of arrays out."""
    return in_force.interpreter.bind(primitive, args, params)


def eval_jaxpr(jaxpr: Jaxpr, args: Sequence[Any]) -> list[Any]:
    """The outputs of `jaxpr` on `args` (captured arrays first), under the current interpreter."""
    interpreter = in_force.interpreter
    if isinstance(interpreter, Evaluator):
        return tiers.run(jaxpr, args, _evaluate)
    inlined = interpreter.inline(jaxpr, args)
    if inlined is not None:
        return inlined
    env: dict[Var, Any] = dict(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        inputs = values_of(eqn.inputs, env)
        with bound_at(eqn.source):
            outs = interpreter.bind(eqn.primitive, inputs, eqn.params)
        env.update(zip(eqn.outputs, outs, strict=True))
    return values_of(jaxpr.outvars, env)


def _evaluate(jaxpr: Jaxpr, args: Sequence[Any]) -> list[Any]:
    """Evaluate with NumPy, dropping each array after its last use."""
    jaxpr = written_out(jaxpr)
    env: dict[Atom, Any] = {**_literal_arrays(jaxpr)}
    env.update(zip(jaxpr.invars, map(np.asarray, args), strict=True))
    with np.errstate(all="ignore"):
        for eqn, dying in zip(jaxpr.eqns, last_uses(jaxpr), strict=True):
            try:
                outs = eqn.primitive.impl(*[env[a] for a in eqn.inputs], **eqn.params)
            except Exception as error:
                add_source(error, eqn.source)
                raise
            for var, out in zip(eqn.outputs, outs, strict=True):
                # What a program inside it gives natively may be a Python number.
                env[var] = np.asarray(out) if type(out) in _NUMBERS else out
            for var in dying:
                env.pop(var, None)
    return [env[a] for a in jaxpr.outvars]


_NUMBERS = frozenset({bool, int, float, complex})


def _literal_arrays(jaxpr: Jaxpr) -> dict[Literal, np.ndarray[Any, Any]]:
    """The literals of a jaxpr as arrays, which nothing may write."""
    found = jaxpr.cache.get("literals")
    if found is None:
        atoms = [a for eqn in jaxpr.eqns for a in eqn.inputs] + jaxpr.outvars
        found = {a: np.asarray(a.value, a.aval.dtype) for a in atoms if isinstance(a, Literal)}
        for array in found.values():
            array.flags.writeable = False
        jaxpr.cache["literals"] = found
    return found


def last_uses(jaxpr: Jaxpr) -> list[list[Var]]:
    """For each equation, the variables that nothing reads after it."""
    found = jaxpr.cache.get("last_uses")
    if found is None:
        seen: set[Var] = {a for a in jaxpr.outvars if isinstance(a, Var)}
        found = []
        for eqn in reversed(jaxpr.eqns):
            mentioned = dict.fromkeys([a for a in eqn.inputs if isinstance(a, Var)] + eqn.outputs)
            found.append([v for v in mentioned if v not in seen])
            seen.update(mentioned)
        found.reverse()
        jaxpr.cache["last_uses"] = found
    return found


class _SourceOverride(threading.local):
    source: Source | None = None


_override = _SourceOverride()


class Place:
    """See `bound_at`. A class, since walks enter one for each equation."""

    __slots__ = ("_outer", "_source")

    def __init__(self, source: Source | None) -> None:
        self._source = source
        self._outer: Source | None = None

    def __enter__(self) -> None:
        self._outer = _override.source
        _override.source = self._source or self._outer

    def __exit__(self, *exc_info: object) -> None:
        _override.source = self._outer


def bound_at(source: Source | None) -> Place:
    """Equations recorded in this block belong to the user's line `source`."""
    return Place(source)


def source_override() -> Source | None:
    """The line that a walk says it is working for, if one does."""
    return _override.source


def add_source(error: BaseException, source: Source | None) -> None:
    """Note the user's line on an error that arises when a staged program runs."""
    if source is not None and isinstance(error, FunctransError):
        error.happened_at(source)
    elif source is not None and not getattr(error, "__notes__", None):
        error.add_note(f"in the operation staged at {source}")
