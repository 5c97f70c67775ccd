"""What a rule over whole buffers is given: where operands and results lie, loops, a workspace."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from functrans.extend import Eqn, Var
from jit.loop_ir.nodes import Buffer, DType, LoopKind
from jit.lowering.index import ZERO, Index, Loop, of_loop
from jit.lowering.rules import is_complex, loop_dtype
from jit.lowering.writer import Writer


class RootContext:
    """What a rule over whole buffers is given.

    view       an operand that lies in memory, as a strided window of its buffer
    parallel   is so much work (in simple operations) worth several threads?
    grain      of so much work in so many equal steps, how many a thread takes at a time
    callback   the number of an equation's Python function
    workspace  where in the arena its own memory begins, in bytes
    """

    def __init__(
        self,
        writer: Writer,
        name: str,
        view: Callable[[Any], Any],
        parallel: Callable[[float], bool],
        grain: Callable[[float, int], int],
        callback: Callable[[Eqn], int],
        workspace: int = 0,
    ) -> None:
        self.walk = writer
        self.b = writer.b
        self.name = name
        self.view = view
        self.parallel = parallel
        self.grain = grain
        self.callback = callback
        self.workspace = workspace
        self._slots: dict[tuple[str, int], Buffer] = {}

    def buffer(self, var: Var) -> Buffer:
        """Where a stored variable lies."""
        return self.walk.buffers[var]

    def dense(self, atom: Any) -> Buffer:
        """A buffer that holds exactly the operand; a literal becomes a constant of the program.

        An operand without elements lies nowhere: any address will do.
        """
        if isinstance(atom, Var) and atom.aval.size:
            return self.buffer(atom)
        value = 0 if isinstance(atom, Var) else atom.value
        data = np.asarray(value, atom.aval.dtype).tobytes()
        count = 2 if is_complex(atom.aval.dtype) else 1
        name = f"{self.name}_literal{len(self.b.buffers)}"
        return self.b.constants(name, loop_dtype(atom.aval.dtype), data, count)

    def slot(self, dtype: DType, size: int, at: int) -> Buffer:
        """A buffer in the root's workspace, `at` bytes from its start."""
        key = (dtype, at)
        if key not in self._slots:
            name = f"{self.name}_{dtype}_{at}"
            self._slots[key] = self.b.temp(name, dtype, size, self.workspace + at)
        return self._slots[key]

    def space(self, at: int = 0) -> Any:
        """A pointer into the root's workspace."""
        return self.b.ref(self.slot("u8", 1, at))

    def shares_memory(self, atom: Any, out: Var) -> bool:
        """Does the operand already lie where the result goes?"""
        if not isinstance(atom, Var):
            return False
        here, there = self.walk.buffers.get(atom), self.walk.buffers[out]
        return here is there or (
            here is not None and here.kind == there.kind == "temp" and here.place == there.place
        )

    @contextmanager
    def nest(
        self,
        extents: Sequence[int],
        kinds: Sequence[LoopKind] | LoopKind = "serial",
        grain: int = 1,
    ) -> Generator[tuple[Index, ...]]:
        """Loops without carries; one kind stands for the innermost. Extents of 1 make none."""
        if isinstance(kinds, str):
            kinds = [*["serial"] * (len(extents) - 1), kinds] if extents else []  # type: ignore[list-item]
        with ExitStack() as stack:
            indices: list[Index] = []
            for extent, kind in zip(extents, kinds, strict=True):
                if extent == 1:
                    indices.append(ZERO)
                    continue
                loop = Loop(extent)
                stack.enter_context(self.walk.loop(loop, self.b.for_(extent, kind, grain=grain)))
                indices.append(of_loop(loop))
            yield tuple(indices)
