"""Early loading: the compiler is there when the first program comes, where one is to be expected.

Where compiled programs are kept on disk the first of them comes from there, and only what loads it
is imported in advance.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from jit import disk_cache

PROGRAM = "define double @f(double %x) nounwind {\n  %y = fmul double %x, %x\n  ret double %y\n}\n"


def start() -> None:
    """Import the compiler and LLVM, unless this user's programs are on disk.

    LLVM makes tables of its own when it compiles for the first time, and where the disk knows no
    program it does not know the digest of our sources either: both are done in the background.
    Nothing is written.
    """
    if has_programs():
        from jit import api

        del api
        return
    loading = threading.Thread(target=load_library, name="functrans-early")
    loading.start()
    from jit import api, cache_key, native, pipeline
    from jit.entry import text
    from jit.intrinsics import exponential, logarithm
    from jit.runtime import gemm, gemm_loops, threads_text

    # imported now, used later
    del api, exponential, gemm, gemm_loops, logarithm, pipeline, text, threads_text
    loading.join()
    native.load_llvm()
    in_turn([compile_something, cache_key.read_ahead, compile_again])


_running: list[threading.Thread] = []
_wanted = threading.Event()


def in_turn(jobs: Sequence[Callable[[], object]]) -> None:
    """Do the jobs in a thread of their own; what fails there fails again where it is needed."""

    def run() -> None:
        for job in jobs:
            if _wanted.is_set():
                with suppress(Exception):
                    job()

    _wanted.set()
    # A daemon, so that a process that ends waits for the job at hand only.
    thread = threading.Thread(target=run, name="functrans-early", daemon=True)
    thread.start()
    _running.append(thread)


def finish() -> None:
    """Wait for the job at hand, and do no other."""
    _wanted.clear()
    while _running:
        _running.pop().join()


atexit.register(finish)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=finish)


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
    """Compile and link a module of one function by what every first program uses."""
    from jit import codegen, leaving, native

    del leaving  # imported now, used later
    native.loadable(codegen.compiled(PROGRAM, native.host_target(), codegen.PROGRAMS))


def compile_again() -> None:
    """The same by those that a larger one uses, until one is there."""
    from jit import codegen, native
    from jit.names import COLD

    cold = PROGRAM.replace("nounwind", COLD)
    for text, slot in (
        (PROGRAM, codegen.RUNTIME),
        (cold, codegen.QUICK),
        (PROGRAM, codegen.PROGRAMS + 1),
    ):
        if codegen.is_compiling():
            return
        codegen.compiled(text, native.host_target(), slot)
