"""The process-wide thread pool of compiled programs: its size, its symbols, its restart after fork.

Invariant: how work is cut into pieces never depends on the number of threads, so results do not.
"""

import ctypes
import os
import sys
from typing import TYPE_CHECKING

from jit.processor import family
from jit.runtime.objects import library_symbols, link_object, once, runtime_object

if TYPE_CHECKING:
    from jit.runtime.threads_text import Platform

LOOPS = ("ft_parallel_for", "ft_parallel_hot", "ft_pool_size")
EXPORTS = (*LOOPS, "ft_pool_resize", "ft_pool_forget", "ft_init")
TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def num_threads() -> int:
    """How many threads compiled programs use, the calling one included."""
    return _size


def set_num_threads(count: int) -> None:
    """Use `count` threads (at least 1) from the next parallel loop on.

    A program that is running keeps the number it has. Without native threads on this platform the
    number stays 1.
    """
    global _size
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(
            f"set_num_threads: the number must be an integer >= 1, but it is {count!r}."
        )
    _size = count if has_threads() else 1
    if _loaded:
        _call("ft_pool_resize", _size, patience(_size))


def has_threads() -> bool:
    """Whether this platform offers the threads the pool is built on."""
    return os.name == "posix" or sys.platform == "win32"


@once
def symbols() -> dict[str, int]:
    """Addresses for the linker: ft_parallel_for, ft_parallel_hot and ft_pool_size."""
    return {name: _pool()[name] for name in LOOPS}


def this_platform() -> "Platform":
    """The pool's description of the running machine."""
    from jit.runtime.threads_text import Platform

    processor = family()
    if sys.platform == "win32":
        return Platform(processor, "address")
    if not has_threads():
        return Platform(processor, "none")
    if sys.platform == "linux":
        return Platform(processor, "condition" if processor == "other" else "futex")
    return Platform(processor, "condition", set_mask=3)


def load_pool(machine: "Platform", name: str) -> dict[str, int]:
    """Compile and link a pool of its own; the process uses one, tests may make more."""
    from jit.runtime.threads_text import imported_names, pool_text

    imports = library_symbols(imported_names(machine))
    code = runtime_object("pool", *machine, text=lambda: pool_text(machine))
    addresses = link_object(name, code, imports, EXPORTS)
    ctypes.CFUNCTYPE(None)(addresses["ft_init"])()
    return addresses


@once
def _pool() -> dict[str, int]:
    addresses = load_pool(this_platform(), "ft_threads")
    resize = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(addresses["ft_pool_resize"])
    resize(_size, patience(_size))
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _call("ft_pool_forget"))
    _loaded.append(True)
    return addresses


def _call(name: str, *arguments: int) -> None:
    kinds = [ctypes.c_int64] * len(arguments)
    ctypes.CFUNCTYPE(None, *kinds)(_pool()[name])(*arguments)


def patience(size: int) -> int:
    """How often an idle thread of that many looks for work before it sleeps.

    Threads without a processor of their own would only keep the others from working.
    """
    from jit.runtime.threads_text import SPINS

    return SPINS if size <= processors() else SPINS // 50


def processors() -> int:
    """How many processors this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _initial_size() -> int:
    given = os.environ.get("FUNCTRANS_NUM_THREADS", "").strip()
    if not has_threads():
        return 1
    if given:
        if not given.isdecimal() or int(given) < 1:
            raise ValueError(
                f"FUNCTRANS_NUM_THREADS: expected an integer >= 1, but it is {given!r}. "
                "Unset it to use every processor this process may run on."
            )
        return int(given)
    return processors()


_size = _initial_size()
_loaded: list[bool] = []
