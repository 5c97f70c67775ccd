"""What the functions of one module share while they are written, and where their values are."""

from __future__ import annotations

from typing import NamedTuple

from jit.intrinsics import Intrinsics
from jit.loop_ir.nodes import Program
from jit.names import ENTRY
from jit.vectors import Target


def symbol(name: str) -> str:
    """A name with only what LLVM allows unquoted."""
    return "".join([c if c.isalnum() and c.isascii() else "_" for c in name])


class Reg:
    """Where a value is while code for it is emitted.

    In scalar code `scalar` is its operand. In a vector loop, stride 0 is a uniform value and
    stride k a value that grows by k from lane to lane (`scalar` is lane 0); stride None is a
    vector. `inside` says that it was made inside the current vector loop; `vector` is then good
    within block `label`.
    """

    __slots__ = ("inside", "label", "scalar", "stride", "vector")

    def __init__(
        self, scalar: str, stride: int | None = 0, vector: str = "", inside: bool = False
    ) -> None:
        self.scalar = scalar
        self.stride = stride
        self.vector = vector
        self.inside = inside
        self.label = ""


class Told(NamedTuple):
    """What a function that several kernels share reads from its row: the slot of each buffer's
    place, by name, and of each offset, by the id of the node that reads it.
    """

    buffers: dict[str, int]
    offsets: dict[int, int]


class Module:
    """What the functions of a program, and of those that it runs, share.

    `large` names the buffers that near caches do not hold, `far` those that no cache holds,
    `streams` those among them that the kernel being written fills and nothing reads. `prefix`
    begins the names of the program being written; `waiting` are the inner programs that are called
    and not written yet, each with its prefix.
    """

    def __init__(self, target: Target, parallel: bool) -> None:
        self.target = target
        self.parallel = parallel
        self.declares: set[str] = set()
        self.externals: set[str] = set()
        self.functions: list[str] = []
        self.globals: list[str] = []
        self.intrinsics = Intrinsics(target)
        self.far: frozenset[str] = frozenset()
        self.large: frozenset[str] = frozenset()
        self.streams: frozenset[str] = frozenset()
        self.read: frozenset[str] = frozenset()
        self.prefix = ""
        self.waiting: list[tuple[str, Program]] = []
        self._prefixes: dict[int, str] = {}

    def entry_of(self, program: Program) -> str:
        """The entry of an inner program, which is written once however often it is called."""
        prefix = self._prefixes.get(id(program))
        if prefix is None:
            prefix = self._prefixes[id(program)] = f"p{len(self._prefixes)}."
            self.waiting.append((prefix, program))
        return prefix + ENTRY
