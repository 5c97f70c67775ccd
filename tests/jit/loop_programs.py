"""Runs loop IR programs on NumPy arrays, for the tests of the emitter."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from jit.loop_ir.builder import Builder
from jit.loop_ir.check import check_program
from jit.loop_ir.nodes import DType, Program
from jit.native import NativeProgram, compile_program, host_target, portable_target
from jit.vectors import Target

NUMPY: dict[DType, str] = {
    "bool": "?",
    "i8": "i1",
    "i16": "i2",
    "i32": "i4",
    "i64": "i8",
    "u8": "u1",
    "u16": "u2",
    "u32": "u4",
    "u64": "u8",
    "f16": "f2",
    "f32": "f4",
    "f64": "f8",
}
DTYPES: dict[str, DType] = {np.dtype(text).str[1:]: dtype for dtype, text in NUMPY.items()}
DTYPES["b1"] = "bool"
# NumPy has no bfloat16: its bits are given.
NUMPY["bf16"] = "u2"
# A guard around every buffer shows writes outside; its bytes are a NaN and a large number alike.
GUARD = 64


def dtype_of(array: NDArray[np.generic]) -> DType:
    """The loop IR type of an array."""
    return DTYPES[array.dtype.str[1:]]


def narrower() -> dict[str, Target]:
    """Processors with shorter vectors than this one's, which runs their code."""
    found = {name: portable_target(name) for name in ("avx2", "sse2")}
    return {n: t for n, t in found.items() if t.vector_bytes < host_target().vector_bytes}


def targets() -> dict[str, Target]:
    """This machine, and the narrower ones."""
    return {"host": host_target(), **narrower()}


def guarded(nbytes: int) -> NDArray[np.uint8]:
    """Room for a buffer with guard bytes on both sides."""
    return np.full(nbytes + 2 * GUARD, 0x7F, np.uint8)


def execute(
    native: NativeProgram,
    inputs: Sequence[NDArray[np.generic]],
    outputs: Sequence[tuple[int, DType]],
    arena_bytes: int = 0,
) -> tuple[int, list[NDArray[np.generic]]]:
    """Status and outputs of a run; asserts that nothing around any buffer was written."""
    held = [guarded(a.nbytes) for a in inputs]
    for room, array in zip(held, inputs, strict=True):
        room[GUARD : GUARD + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    made = [guarded(n * np.dtype(NUMPY[d]).itemsize) for n, d in outputs]
    room = guarded(arena_bytes + 64)
    base = room.ctypes.data + GUARD
    arena = base + (-base) % 64
    ins = (ctypes.c_void_p * max(len(held), 1))(*[a.ctypes.data + GUARD for a in held])
    outs = (ctypes.c_void_p * max(len(made), 1))(*[a.ctypes.data + GUARD for a in made])
    status = native(ctypes.addressof(ins), ctypes.addressof(outs), arena)
    for array in [*held, *made, room]:
        around = np.concatenate([array[:GUARD], array[-GUARD:]])
        assert (around == 0x7F).all(), "wrote outside a buffer"
    for array, given in zip(held, inputs, strict=True):
        same = array[GUARD : GUARD + given.nbytes].tobytes() == given.tobytes()
        assert same, "wrote into an input"
    found = [
        a[GUARD : len(a) - GUARD].view(NUMPY[d]) for a, (_, d) in zip(made, outputs, strict=True)
    ]
    return status, found


def run(
    program: Program,
    inputs: Sequence[NDArray[np.generic]],
    target: Target | None = None,
    symbols: Mapping[str, int] | None = None,
) -> list[NDArray[np.generic]]:
    """Check, compile and run a program that must succeed; answers its outputs."""
    check_program(program)
    native = compile_program(program, target, symbols)
    outputs = [(b.size, b.dtype) for b in program.buffers if b.kind == "output"]
    status, found = execute(native, inputs, outputs, program.arena_bytes)
    assert status == 0
    return found


def elementwise(
    name: str,
    inputs: Sequence[NDArray[np.generic]],
    out: DType,
    build: Callable[..., object],
    target: Target | None = None,
) -> NDArray[np.generic]:
    """build(b, x, y, ...) in a vector loop over arrays of one length."""
    n = inputs[0].size
    b = Builder(name)
    buffers = [b.input(f"x{k}", dtype_of(a), n) for k, a in enumerate(inputs)]
    result = b.output("out", out, n)
    with b.kernel(name), b.for_(n, "vector") as loop:
        value = build(b, *[b.load(buffer, loop.i) for buffer in buffers])
        b.store(result, loop.i, value)  # type: ignore[arg-type]
    return run(b.finish(), inputs, target)[0]
