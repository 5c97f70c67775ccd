"""What can be looked at of a jitted function: its trace, its program, its native code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from functrans.extend import Aval, ClosedJaxpr, is_evaluating, name_of
from jit.calls import Call
from jit.programs import AnyExecutable, executable_for
from jit.specialised import Specialised

if TYPE_CHECKING:
    from jit.pipeline import Report


class Caller(Protocol):
    """What is needed of the jitted function."""

    def leaves_like(
        self, was: Call, avals: Sequence[Aval], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[Any]:
        """The leaves of a call that has the signature of another one; else TransformTypeError."""
        ...


class Compiled:
    """A compiled signature: call it with arguments like those it was lowered for, no others."""

    def __init__(self, traced: Traced, executable: AnyExecutable) -> None:
        self.traced = traced
        self.executable = executable

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.traced.run(args, kwargs)

    def as_text(self, stage: str = "asm") -> str:
        return self.executable.as_text(stage)

    def compile_report(self) -> Report:
        return self.executable.compile_report()


class Lowered:
    """A traced signature that can be compiled and looked at."""

    def __init__(self, traced: Traced) -> None:
        self.traced = traced

    def compile(self) -> Compiled:
        """The native program; compiled once."""
        special = self.traced.specialised
        return Compiled(self.traced, executable_for(special.jaxpr, special.donate))

    def as_text(self, stage: str = "jaxpr") -> str:
        """The program as "jaxpr", "loops", "llvm" or "asm"."""
        return self.compile().as_text(stage)

    def compile_report(self) -> Report:
        """Times of the stages, kernels, and why values are stored."""
        return self.compile().compile_report()


class Traced:
    """A traced signature; `jaxpr` with the values it captured."""

    def __init__(
        self, jitted: Caller, specialised: Specialised, call: Call, avals: list[Aval]
    ) -> None:
        self.jitted = jitted
        self.specialised = specialised
        self.call = call
        self.avals = avals

    @property
    def jaxpr(self) -> ClosedJaxpr:
        return ClosedJaxpr(self.specialised.jaxpr, self.specialised.captured)

    def lower(self) -> Lowered:
        return Lowered(self)

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The results for other arguments; TypeError unless they have the traced signature."""
        leaves = self.jitted.leaves_like(self.call, self.avals, args, kwargs)
        if not is_evaluating():
            return self.specialised.bind(leaves, name_of(self.jitted))
        return self.specialised.run(leaves)
