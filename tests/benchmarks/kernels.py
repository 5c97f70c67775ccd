"""Times every kernel of a case's program by itself, on arrays that are already there.

    python -m tests.benchmarks.kernels layer_norm sum_grad

prints the time of the whole program and of each kernel (the least and the median of some runs),
then the reasons of the compile report. Outputs and arena are reused: no fresh pages are met.
"""

from __future__ import annotations

import ctypes
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import functrans as ft
from jit import native, pipeline
from jit.emit import emit_program
from jit.loop_ir.nodes import Kernel, Program
from jit.runtime import symbols, threads
from tests.benchmarks.case import load_cases
from tests.benchmarks.libraries import Functrans

ALIGNMENT = 64


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """Zeros that begin at a cache line."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    space = np.zeros(count + ALIGNMENT, np.uint8)
    start = -space.ctypes.data % ALIGNMENT
    return space[start : start + count].view(dtype).reshape(shape)


def alone(program: Program, kernels: Sequence[Kernel]) -> native.NativeProgram:
    """The program with these kernels only."""
    part = Program(program.name, program.buffers, kernels, program.arena_bytes, program.errors)
    target = native.host_target()
    emitted = emit_program(part, target, threads.has_threads())
    code = native.loadable(native.emit_object(emitted.text, target))
    find = native.finder(symbols.addresses(emitted.externals))
    return native.NativeProgram(
        code, find, emitted.externals, tuple(program.errors), emitted.text, target
    )


def kernel_seconds(
    f: Callable[..., Any], *args: Any, rounds: int = 25
) -> tuple[pipeline.Executable, dict[str, tuple[float, float]]]:
    """The program of f, and (least, median) seconds of "whole" and of each kernel."""
    made = ft.make_jaxpr(f)(*args)
    executable = pipeline.compile_jaxpr(made.jaxpr)
    program, avals = executable.program, executable.jaxpr
    arrays = [aligned(a.shape, a.dtype) for a in (*avals.in_avals, *avals.out_avals)]
    values = [*made.consts, *ft.tree.leaves(args)]
    for array, value in zip(arrays, values, strict=False):
        array[...] = value
    addresses = [a.ctypes.data for a in arrays]
    count = len(values)
    inputs = (ctypes.c_void_p * max(count, 1))(*addresses[:count])
    outputs = (ctypes.c_void_p * max(len(arrays) - count, 1))(*addresses[count:])
    arena = aligned((program.arena_bytes + ALIGNMENT,), np.uint8)

    def seconds(kernels: Sequence[Kernel]) -> tuple[float, float]:
        run, found = alone(program, kernels), list[float]()
        for _ in range(rounds):
            start = time.perf_counter()
            run(ctypes.addressof(inputs), ctypes.addressof(outputs), arena.ctypes.data)
            found.append(time.perf_counter() - start)
        return min(found), statistics.median(found)

    times = {"whole": seconds(program.kernels)}
    times |= {kernel.name: seconds([kernel]) for kernel in program.kernels}
    return executable, times


class Uncompiled(Functrans):
    """functrans, whose cases come as the functions they compile."""

    def __init__(self) -> None:
        super().__init__()
        self.jit = lambda f: f


def main() -> None:
    library, cases = Uncompiled(), load_cases()
    for name in sys.argv[1:]:
        case = cases[name]
        executable, times = kernel_seconds(case.function(library), *case.arguments(library))
        print(f"{name}: {case.text}")
        for kernel, (least, median) in times.items():
            print(f"  {kernel:28}{1e6 * least:10.1f} us{1e6 * median:10.1f} us")
        print("\n".join(f"  {line}" for line in executable.compile_report().details))


if __name__ == "__main__":
    main()
