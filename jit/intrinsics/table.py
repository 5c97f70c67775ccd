"""The table of elementary functions, and the functions of a module that were asked for.

GENERATORS holds one generator for each name; a name without one is the C function of each lane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from jit.loop_ir.nodes import DType
from jit.operations import rounded
from jit.vectors import Target, Writer, mangled, register

Generator: TypeAlias = Callable[[Writer, str, int, tuple[str, ...]], str]

GENERATORS: dict[str, Generator] = {}
C_NAMES = {"lgamma": "lgamma"}


class Intrinsics:
    """Internal functions `ft.<name>.<type>` of one module, each written when first called."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.functions: list[str] = []
        self.declares: set[str] = set()
        self.externals: set[str] = set()
        self._written: set[str] = set()

    def call(self, w: Writer, name: str, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
        """name(args) on vectors of `lanes` values of a float type, in register form."""
        scalar = register(dtype, 1)
        function = f"ft.{name}.{mangled(scalar, lanes)}"
        if function not in self._written:
            self._written.add(function)
            self.write(function, name, scalar, lanes, len(args))
        kind = register(dtype, lanes)
        passed = ", ".join([f"{kind} {a}" for a in args])
        return rounded(w, dtype, lanes, w(f"call {kind} @{function}({passed})"))

    def write(self, function: str, name: str, scalar: str, lanes: int, arity: int) -> None:
        """Add the function to the module."""
        w = Writer(self.target, self.declares, self.externals)
        params = tuple([f"%a{k}" for k in range(arity)])
        generator = GENERATORS.get(name)
        if generator is None:
            c_name = C_NAMES.get(name, name) + ("f" if scalar == "float" else "")
            result = w.per_lane(scalar, lanes, c_name, *params)
        else:
            result = generator(w, scalar, lanes, params)
        kind = scalar if lanes == 1 else f"<{lanes} x {scalar}>"
        typed = ", ".join([f"{kind} {p}" for p in params])
        head = f"define internal {kind} @{function}({typed}) nounwind {{\nentry:"
        self.functions.append("\n".join([head, *w.lines, f"  ret {kind} {result}", "}"]))
