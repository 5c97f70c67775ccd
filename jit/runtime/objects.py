"""Compiles the runtime's LLVM modules and links them, each once per process.

Invariant: `build_object` is a pure function of the text and the machine, so its bytes may be kept
under `object_key`; addresses enter only in `link_object`.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

from jit import native

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
    present: Mapping[str, bool] = native.load_llvm().get_host_cpu_features()
    return frozenset(name for name, on in present.items() if on)


def object_key(text: str) -> str:
    """The name of a module's object code: its text, LLVM, and the machine it is made for."""
    made_of = (text, native.load_llvm().llvm_version_info, native.host_target())
    return hashlib.sha256(repr(made_of).encode()).hexdigest()


def build_object(text: str) -> bytes:
    """Compile one module for this machine, without any optimisation pass."""
    with _building:
        return native.machine_code(text, _code_generator())


def link_object(
    name: str, code: bytes, imports: Mapping[str, int], exports: Iterable[str]
) -> dict[str, int]:
    """Load object code for the life of the process and give the addresses of its `exports`."""
    names = tuple(exports)
    with native._lock:
        library = native.load_llvm().JITLibraryBuilder().add_object_img(code)
        for symbol, address in imports.items():
            library.import_symbol(symbol, address)
        for symbol in names:
            library.export_symbol(symbol)
        tracker = library.link(native.linker(), name)
    _loaded.append(tracker)
    return {symbol: int(tracker[symbol]) for symbol in names}


def library_symbols(names: Iterable[str]) -> dict[str, int]:
    """Addresses of C library functions."""
    return {name: native.process_symbol(name) for name in names}


_loaded: list[Any] = []


@cache
def _code_generator() -> Any:
    """A code generator beside that of programs, so that both may compile at the same time."""
    target = native.host_target()
    return (
        native.load_llvm()
        .Target.from_triple(target.triple)
        .create_target_machine(
            cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="default"
        )
    )
