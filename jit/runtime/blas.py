"""NumPy's own BLAS and LAPACK on one thread.

Invariant: between ft_blas_begin and ft_blas_end the library uses one thread, so its bits do not
depend on the machine's; the number it had before is restored by the last to leave.
"""

import ctypes
import os

from jit.openblas import CONTROL, GUARDS, LAPACK, find
from jit.runtime.objects import build_object, library_symbols, link_object, once


@once
def guard_symbols() -> dict[str, int] | None:
    """Addresses of ft_blas_begin and ft_blas_end, void() each, to be put around calls; or None."""
    blas = find()
    if blas is None:
        return None
    exports = (*GUARDS, "ft_blas_forget")
    code = build_object(_GUARD.replace("PAUSE", _pause()))
    waiting = library_symbols(("sched_yield",)) if os.name == "posix" else {}
    found = link_object("ft_blas", code, {**blas.symbols(CONTROL), **waiting}, exports)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=ctypes.CFUNCTYPE(None)(found["ft_blas_forget"]))
    return {name: found[name] for name in GUARDS}


def symbols(function: str) -> dict[str, int]:
    """The address of a guard or of a routine of LAPACK, by the name that programs give it.

    Raises KeyError where NumPy has no such library.
    """
    if function in GUARDS:
        found = guard_symbols()
        if found is None:
            raise KeyError(function)
        return found
    routine, blas = function.removeprefix(LAPACK), find()
    if blas is None:
        raise KeyError(function)
    return {function: blas.symbols((routine,))[routine]}


def _pause() -> str:
    return "call i32 @sched_yield()" if os.name == "posix" else "fence acquire"


# A count of those inside, and the number of threads to go back to, under one lock that is held for
# a few instructions and the library's own calls.
_GUARD = """
@inside = internal global i64 0, align 8
@before = internal global i32 1, align 4
@lock = internal global i32 0, align 4

define internal void @enter() nounwind {
entry:
  br label %try
try:
  %pair = cmpxchg ptr @lock, i32 0, i32 1 acquire monotonic, align 4
  %got = extractvalue { i32, i1 } %pair, 1
  br i1 %got, label %out, label %wait
wait:
  PAUSE
  br label %try
out:
  ret void
}

define void @ft_blas_begin() nounwind {
entry:
  call void @enter()
  %count = load i64, ptr @inside, align 8
  %more = add i64 %count, 1
  store i64 %more, ptr @inside, align 8
  %first = icmp eq i64 %count, 0
  br i1 %first, label %set, label %out
set:
  %threads = call i32 @openblas_get_num_threads()
  store i32 %threads, ptr @before, align 4
  call void @openblas_set_num_threads(i32 1)
  br label %out
out:
  store atomic i32 0, ptr @lock release, align 4
  ret void
}

; A thread that forked while inside comes here once more in the child, where nobody is counted.
define void @ft_blas_end() nounwind {
entry:
  call void @enter()
  %count = load i64, ptr @inside, align 8
  %counted = icmp sgt i64 %count, 0
  br i1 %counted, label %leave, label %out
leave:
  %less = sub i64 %count, 1
  store i64 %less, ptr @inside, align 8
  %last = icmp eq i64 %less, 0
  br i1 %last, label %set, label %out
set:
  %threads = load i32, ptr @before, align 4
  call void @openblas_set_num_threads(i32 %threads)
  br label %out
out:
  store atomic i32 0, ptr @lock release, align 4
  ret void
}

; After a fork nobody else is inside; a call that was under way in another thread is not finished.
define void @ft_blas_forget() nounwind {
entry:
  store i32 0, ptr @lock, align 4
  %count = load i64, ptr @inside, align 8
  %none = icmp eq i64 %count, 0
  br i1 %none, label %out, label %set
set:
  store i64 0, ptr @inside, align 8
  %threads = load i32, ptr @before, align 4
  call void @openblas_set_num_threads(i32 %threads)
  br label %out
out:
  ret void
}

declare i32 @openblas_get_num_threads()
declare void @openblas_set_num_threads(i32)
declare i32 @sched_yield()
"""
