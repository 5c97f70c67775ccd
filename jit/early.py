"""Early loading: the compiler is there when the first program comes, where one is to be expected.

Where compiled programs are kept on disk the first of them comes from there, and nothing is loaded
in advance.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import threading
from collections.abc import Callable
from contextlib import suppress

from jit import disk_cache

PROGRAM = "define double @f(double %x) {\n  %y = fmul double %x, %x\n  ret double %y\n}\n"


def start() -> None:
    """Import the compiler and LLVM, unless this user's programs are on disk."""
    if has_programs():
        return
    loading = beside(load_library)
    import jit.api
    import jit.pipeline  # noqa: F401
    from jit import native

    loading.join()
    native.load_llvm()
    # LLVM makes its tables when it compiles for the first time, without the GIL.
    beside(compile_something)


_started: list[threading.Thread] = []


def beside(job: Callable[[], None]) -> threading.Thread:
    """Start a job in a thread of its own, which a fork waits for."""
    thread = threading.Thread(target=job, name="functrans-early")
    thread.start()
    _started.append(thread)
    return thread


def wait() -> None:
    """Let what was started come to its end."""
    while _started:
        _started.pop().join()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=wait)


def has_programs() -> bool:
    """Is there anything in the cache on disk?"""
    if not disk_cache.is_on():
        return False
    folder, _ = disk_cache.settings()
    with suppress(OSError), os.scandir(folder) as entries:
        return any(True for _ in entries)
    return False


def load_library() -> None:
    """Map LLVM's library into the process, which llvmlite then finds there.

    A foreign call, since Python's own way of loading a library holds the GIL.
    """
    with suppress(OSError, AttributeError, ValueError):
        spec = importlib.util.find_spec("llvmlite")
        load = ctypes.CDLL(None).dlopen
        load.argtypes, load.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
        if spec is not None and spec.origin is not None:
            path = os.path.join(os.path.dirname(spec.origin), "binding", "libllvmlite.so")
            load(os.fsencode(path), os.RTLD_NOW)


def compile_something() -> None:
    """Compile a program of one function."""
    from jit import codegen, native

    codegen.compiled(PROGRAM, native.host_target(), codegen.MOST - 1)
