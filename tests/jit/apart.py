"""Runs a program with the pieces of its parallel loops one at a time, to see where each writes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from functrans.ir import Jaxpr
from jit.dispatch import data_address
from jit.names import PARALLEL, PARALLEL_HOT
from jit.native import NativeProgram, finder
from jit.pipeline import compile_jaxpr
from jit.runtime import symbols, threads

LOOP = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class Apart:
    """A compiled program whose parallel loops are watched.

    Calling it gives the results. Afterwards `loops` is the number of loops that had several
    pieces, and `clashes` says which wrote to one byte from two of them.
    """

    def __init__(self, jaxpr: Jaxpr) -> None:
        made = compile_jaxpr(jaxpr)
        self.loops = 0
        self.clashes: list[str] = []
        self.out_avals = jaxpr.out_avals
        self.arena = np.random.default_rng(0).bytes(made.program.arena_bytes + 64)
        self._memory: list[Any] = []
        self._loop: Any = LOOP(self.run_pieces)
        here = ctypes.cast(self._loop, ctypes.c_void_p).value
        found = {**symbols.addresses(made.native.externals), PARALLEL: here, PARALLEL_HOT: here}
        self.native = NativeProgram(
            made.native.code, finder(found), made.native.externals, made.native.errors
        )

    def __call__(self, args: Sequence[Any]) -> list[Any]:
        arrays = [np.require(x, requirements=["C", "A"]) for x in args]
        outs = [np.empty(a.shape, a.dtype) for a in self.out_avals]
        room = np.frombuffer(bytearray(self.arena), np.uint8)
        arena = room[-data_address(room) % 64 :]
        self._memory = [arena, *(y.reshape(-1).view(np.uint8) for y in outs)]
        assert self.native(pointers(arrays), pointers(outs), data_address(arena)) == 0
        return outs

    def run_pieces(self, task: int, context: int, n: int, grain: int) -> None:
        """What ft_parallel_for does, with a look at all memory after each piece."""
        step = max(grain, 1)
        run = threads.TASK(task)
        owners = [np.full(m.size, -1) for m in self._memory]
        for piece, low in enumerate(range(0, n, step)):
            before = [m.copy() for m in self._memory]
            run(context, low, min(n, low + step))
            for m, old, owner in zip(self._memory, before, owners, strict=True):
                changed = m != old
                for other in np.unique(owner[changed & (owner >= 0)]):
                    self.clashes.append(f"pieces {other} and {piece} of a loop over {n}")
                owner[changed] = piece
        self.loops += n > step


def pointers(arrays: Sequence[Any]) -> int:
    """The address of an array of the arrays' addresses."""
    held = (ctypes.c_void_p * max(len(arrays), 1))(*[data_address(a) for a in arrays])
    _held[:] = [*_held[-1:], held]  # of one call: inputs and outputs
    return ctypes.addressof(held)


_held: list[Any] = []
