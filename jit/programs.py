"""Programs: the executable of a jaxpr, from memory, from the cache on disk, or compiled now.

On a hit nothing of the compiler is imported, nor LLVM. Invariant: an entry that cannot be loaded
is removed and compiled anew, so that the cache changes no result and raises no error.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from functrans.extend import Jaxpr, engine_name, eval_jaxpr
from jit import code_cache, disk_cache
from jit.cache_key import program_key
from jit.dispatch import Dispatcher
from jit.native import NativeProgram, finder
from jit.runtime import symbols

if TYPE_CHECKING:
    from jit.pipeline import Executable, Report

_lock = threading.RLock()


def _renew_lock() -> None:
    """A child of fork must not wait for a thread that only its parent has."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def entry_of(made: Executable) -> tuple[Any, ...]:
    """What is kept of an executable, as plain values: what a Restored takes."""
    return (
        code_cache.packed(made.native.code),
        tuple(sorted(made.native.externals)),
        made.native.errors,
        made.program.arena_bytes,
        tuple(made.dispatch.taken),
        tuple(made.dispatch.in_place),
        made.dispatch.loops,
        tuple(made.report.kernels),
        tuple(made.report.stored),
    )


class Restored:
    """An executable from the cache. What it has no more of is compiled again when asked for."""

    def __init__(
        self,
        jaxpr: Jaxpr,
        donate: tuple[int, ...],
        code: tuple[Any, ...],
        externals: tuple[str, ...],
        errors: tuple[str, ...],
        arena_bytes: int,
        taken: tuple[int | None, ...],
        in_place: tuple[bool, ...],
        loops: bool,
        kernels: tuple[str, ...],
        stored: tuple[str, ...],
    ) -> None:
        start = time.perf_counter()
        self._jaxpr, self._donate = jaxpr, donate
        self._kernels, self._stored, self._arena_bytes = kernels, stored, arena_bytes
        find = finder(symbols.addresses(externals))
        native = NativeProgram(code_cache.unpacked(code), find, externals, errors)
        avals = jaxpr.in_avals, jaxpr.out_avals
        self.dispatch = Dispatcher(native, *avals, arena_bytes, taken, in_place, loops)
        self._seconds = time.perf_counter() - start

    @property
    def kernels(self) -> Sequence[str]:
        """A line for each kernel."""
        return self._kernels

    def __call__(self, args: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        return self.dispatch(args)

    def as_text(self, stage: str = "jaxpr") -> str:
        """The program as "jaxpr", "loops", "llvm" or "asm"."""
        return self._compiled.as_text(stage)

    def compile_report(self) -> Report:
        """What was decided when the program was compiled, and how long it took to load now."""
        from jit.passes.explain import explain
        from jit.pipeline import Report

        donated, details = self.dispatch.donations(), explain(self._jaxpr)
        kernels, stored = list(self._kernels), list(self._stored)
        seconds = {"cache": self._seconds}
        return Report(seconds, kernels, stored, self._arena_bytes, donated, details)

    @cached_property
    def _compiled(self) -> Executable:
        from jit.pipeline import compile_jaxpr

        return compile_jaxpr(self._jaxpr, self._donate)


AnyExecutable: TypeAlias = "Executable | Restored"


def executable_for(jaxpr: Jaxpr, donate: tuple[int, ...] = ()) -> AnyExecutable:
    """The executable of a jaxpr, made once and kept with it."""
    place = ("native", donate)
    found = jaxpr.cache.get(place)
    if found is None:
        with _lock:
            found = jaxpr.cache.get(place)
            if found is None:
                found = restored_or_compiled(jaxpr, donate)
                origin = weakref.ref(jaxpr)
                found.dispatch.turn = lambda places: turned_dispatcher(origin(), donate, places)
                jaxpr.cache[place] = found
    return found


def turned_dispatcher(
    jaxpr: Jaxpr | None, donate: tuple[int, ...], places: tuple[int, ...]
) -> Dispatcher | None:
    """What runs the same program on the transposes of these inputs; None where bits may differ."""
    from jit.layouts import may_turn, only_elements, sums_alike, turned

    if jaxpr is None:
        return None
    kernels = executable_for(jaxpr, donate).kernels
    products = may_turn(jaxpr, places)
    if not products and not only_elements(kernels):
        return None
    other = executable_for(turned(jaxpr, places), donate)
    same = sums_alike(kernels, other.kernels) if products else only_elements(other.kernels)
    return other.dispatch if same else None


def restored_or_compiled(jaxpr: Jaxpr, donate: tuple[int, ...]) -> AnyExecutable:
    """The executable from the cache on disk, or compiled and kept there."""
    key = program_key(jaxpr, donate) if disk_cache.is_on() else None
    found = None if key is None else restored(key, jaxpr, donate)
    if found is not None:
        return found
    from jit.leaving import make_room
    from jit.pipeline import compile_jaxpr

    made = compile_jaxpr(jaxpr, donate)
    if key is not None:
        code_cache.keep(key, entry_of(made))
    make_room(jaxpr.out_avals, made.program.arena_bytes)
    return made


def restored(key: bytes, jaxpr: Jaxpr, donate: tuple[int, ...]) -> Restored | None:
    """What the cache has under a key, loaded; None where it has nothing that can be."""
    plain = code_cache.fetch(key)
    if plain is None:
        return None
    try:
        return Restored(jaxpr, donate, *plain)
    except (KeyError, ValueError, TypeError, IndexError, OSError):
        # Whole, as its checksum says, but not for this process: a library lacks a symbol.
        disk_cache.remove(key)
        return None


class NativeEngine:
    """Compiles jaxprs and runs them; FUNCTRANS_ENGINE=numpy evaluates them instead."""

    name = "native"

    def execute(self, jaxpr: Jaxpr, args: Sequence[Any]) -> list[Any]:
        """The outputs of the jaxpr on NumPy arrays, freshly allocated."""
        if engine_name() == "numpy":
            return eval_jaxpr(jaxpr, args)
        return list(executable_for(jaxpr)(args))

    def __repr__(self) -> str:
        return self.name


ENGINE = NativeEngine()
