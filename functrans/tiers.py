"""Tiers: programs of un-jitted transforms that come again leave the evaluator for native code.

A program is evaluated with NumPy until the time this took would have paid for compiling it; then it
is compiled in a thread of its own, and nothing waits for that. One that takes longer than compiling
even once, as long loops do, is compiled at once. So whatever comes later, the cost is at most twice
the least possible. Results of the two tiers agree to rounding.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, TypeAlias

from functrans.config import config
from functrans.errors import EngineWarning, UnsupportedError, where
from functrans.ir import Effect, Jaxpr, jaxprs_in

Program: TypeAlias = Callable[[list[Any]], list[Any]]
Evaluate: TypeAlias = Callable[[Jaxpr, Sequence[Any]], list[Any]]

BASE_SECONDS, SECONDS_PER_EQUATION = 4e-3, 4e-4
"""What compiling costs, as far as it can be told before."""
FEWEST = 1
"""Programs of fewer equations are done before a call of native code is."""
VALUE_ERRORS = (IndexError, ValueError, ArithmeticError)
"""What native programs raise for values: evaluating raises the same, and names the user's line."""
SECONDS_PER_STEP = 2e-6
"""What evaluating an equation costs at least; one inside of a loop, at every step."""


class Tier:
    """Where a program stands. `native` runs it once it is there; `settled`: nothing will change.

    `heavy`: a single evaluation, loops and all, takes longer than compiling. `seconds` is the time
    that is left to evaluate in. `error` says why it could not be compiled, and `told` that the user
    knows.
    """

    __slots__ = ("error", "heavy", "native", "seconds", "settled", "told")

    def __init__(self, jaxpr: Jaxpr) -> None:
        count = size(jaxpr)
        self.native: Program | None = None
        self.seconds = BASE_SECONDS + SECONDS_PER_EQUATION * count
        self.heavy = steps(jaxpr) * SECONDS_PER_STEP > self.seconds
        self.settled = count < FEWEST or jaxpr.effect is not Effect.NONE
        self.error: Exception | None = None
        self.told = False


def size(jaxpr: Jaxpr) -> int:
    """How many equations there are to compile, those of loops and branches among them."""
    return sum(1 + sum(map(size, jaxprs_in(eqn.params))) for eqn in jaxpr.eqns)


def steps(jaxpr: Jaxpr) -> int:
    """How many equations an evaluation takes, as far as it can be told before."""
    return sum(
        1 + eqn.params.get("length", 1) * sum(map(steps, jaxprs_in(eqn.params)))
        for eqn in jaxpr.eqns
    )


_compiler: list[Callable[[Jaxpr], Program]] = []


def provide_compiler(compiler: Callable[[Jaxpr], Program]) -> None:
    """Say what makes native programs of jaxprs."""
    _compiler[:] = [compiler]


def run(jaxpr: Jaxpr, args: Sequence[Any], evaluate: Evaluate) -> list[Any]:
    """The outputs of a jaxpr on arrays, by the tier that it has reached."""
    mode = config.unjitted
    if mode == "interpreted":
        return evaluate(jaxpr, args)
    tier = jaxpr.cache.get("tier")
    if tier is None:
        tier = jaxpr.cache["tier"] = Tier(jaxpr)
    if tier.native is None and (tier.heavy or mode == "compiled") and not tier.settled:
        compile_now(jaxpr, tier)
    if tier.native is not None:
        try:
            return tier.native(list(args))
        except VALUE_ERRORS:
            return evaluate(jaxpr, args)
    if tier.settled:
        if tier.error is not None and not tier.told:
            tell(jaxpr, tier)
        return evaluate(jaxpr, args)
    begin = perf_counter()
    outs = evaluate(jaxpr, args)
    tier.seconds -= perf_counter() - begin
    if tier.seconds < 0.0 and not tier.settled:
        if config.background:
            tier.settled = True
            compile_later(jaxpr, tier)
        else:
            compile_now(jaxpr, tier)
    return outs


def native_of(jaxpr: Jaxpr) -> Program | None:
    """What runs a jaxpr natively, if that is there and wanted."""
    tier = jaxpr.cache.get("tier")
    return None if tier is None or config.unjitted == "interpreted" else tier.native


def compile_now(jaxpr: Jaxpr, tier: Tier) -> None:
    """Compile in this thread. A program that native code cannot express stays where it is."""
    tier.settled = True
    try:
        tier.native = _compiler[0](jaxpr)
    except UnsupportedError as error:
        _failed(jaxpr, tier, error)


def _failed(jaxpr: Jaxpr, tier: Tier, error: Exception) -> None:
    tier.error = error
    _failures.append(_failure(jaxpr, error))


def tell(jaxpr: Jaxpr, tier: Tier) -> None:
    """Warn, once, that a program stays with the evaluator.

    Not where native code lacks an operation: that is how it is, and `failures` lists it.
    """
    tier.told = True
    if not isinstance(tier.error, UnsupportedError):
        warnings.warn(
            f"{_failure(jaxpr, tier.error)}. It is evaluated with NumPy instead: slower, with the "
            "same results.",
            EngineWarning,
            stacklevel=2,
        )


def _failure(jaxpr: Jaxpr, error: Exception | None) -> str:
    source = next((eqn.source for eqn in jaxpr.eqns if eqn.source is not None), None)
    return (
        f"a program of {len(jaxpr.eqns)} operations (first in {where(source)}) could not be "
        f"compiled in the background: {type(error).__name__}: {error}"
    )


_failures: deque[str] = deque(maxlen=100)


def failures() -> list[str]:
    """The last programs that could not be compiled, with their errors."""
    return list(_failures)


# -- the thread that compiles -----------------------------------------------------------------

_waiting: deque[tuple[Jaxpr, Tier]] = deque()
_changing = threading.Lock()
_working: list[threading.Thread] = []


def compile_later(jaxpr: Jaxpr, tier: Tier) -> None:
    """Have the program compiled by a thread, which is started where there is none."""
    with _changing:
        _waiting.append((jaxpr, tier))
        if not _working:
            # Not a daemon: the process must not end in the middle of LLVM.
            _working.append(threading.Thread(target=_work, name="functrans-tiers"))
            _working[0].start()


def _work() -> None:
    while True:
        with _changing:
            if not _waiting:
                _working.clear()
                return
            jaxpr, tier = _waiting.popleft()
        try:
            compile_now(jaxpr, tier)
        except Exception as error:  # the evaluator goes on; the next run tells
            _failed(jaxpr, tier, error)


def wait() -> None:
    """Return once every program that was to be compiled is."""
    while _working:
        for thread in list(_working):
            thread.join()


def _after_fork() -> None:
    """A child of fork has no such thread; its programs go on being evaluated until asked anew."""
    global _changing
    _changing = threading.Lock()
    _working.clear()
    for _, tier in _waiting:
        tier.settled = False
    _waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
