"""Compiles the runtime's LLVM modules and links them, each once per process.

Invariant: the code of a module is a pure function of functrans, its text and the machine, so it is
kept on disk; addresses enter only in `link_object`.
"""

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

from jit import code_cache, native
from jit.native import Loadable

P = ParamSpec("P")
T = TypeVar("T")

# One module is compiled at a time. A fork waits for it, so that no child inherits a held lock.
_building = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_building.acquire,
        after_in_parent=_building.release,
        after_in_child=_building.release,
    )


def once(make: Callable[P, T]) -> Callable[P, T]:
    """Call `make` once per argument list in this process, whatever the threads."""
    made: dict[Any, T] = {}

    @wraps(make)
    def get(*args: P.args, **kwargs: P.kwargs) -> T:
        key = (args, tuple(kwargs.items()))
        if key not in made:
            with _building:
                if key not in made:
                    made[key] = make(*args, **kwargs)
        return made[key]

    return get


def in_background(make: Callable[[], object]) -> None:
    """Start making what will be asked for soon; who asks waits for it, and sees its errors."""

    def run() -> None:
        with suppress(Exception):
            make()

    # Not a daemon: the process must not end under LLVM's feet.
    threading.Thread(target=run, name="functrans-runtime").start()


@cache
def host_features() -> frozenset[str]:
    """The feature names LLVM reports for this processor."""
    return native.host_target().present


def build_object(text: str) -> Loadable:
    """Compile one module for this machine, without any optimisation pass."""
    return code_cache.code_of(("text", text), lambda: compile_module(text))


def runtime_object(name: str, *options: Any, text: Callable[[], str]) -> Loadable:
    """The same for a module whose text follows from its name and plain options.

    Where the code is on disk the text is not made.
    """
    return code_cache.code_of((name, options), lambda: compile_module(text()))


def compile_module(text: str) -> Loadable:
    """Machine code of a module."""
    from jit.codegen import RUNTIME, module_code

    with _building:
        return module_code(text, native.host_target(), RUNTIME)


def link_object(
    name: str, code: Loadable | bytes, imports: Mapping[str, int], exports: Iterable[str]
) -> dict[str, int]:
    """Load object code for the life of the process and give the addresses of its `exports`."""
    names = tuple(exports)
    code = native.loadable(code) if isinstance(code, bytes) else code
    try:
        loaded = native.load(code, native.finder(imports), imports, names)
    except KeyError as error:
        raise KeyError(f"{name}: {error.args[0]}") from None
    loaded.keep()
    return {symbol: loaded.addresses[symbol] for symbol in names}


def library_symbols(names: Iterable[str]) -> dict[str, int]:
    """Addresses of C library functions."""
    return {name: native.process_symbol(name) for name in names}
