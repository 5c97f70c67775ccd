"""THE LIST: the stages from a jaxpr to an executable, each named, checked, printable and timed.

jaxpr    calls inlined, simplified
fuse     equations expanded and placed in kernels
loops    loop IR
llvm     LLVM text
object   machine code
load     linked, with an entry to call
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from functrans.extend import (
    EngineError,
    Eqn,
    FunctransError,
    Jaxpr,
    add_source,
    check_jaxpr,
    collecting_rarely,
    simplify,
)
from jit import native
from jit.codegen import module_code
from jit.dispatch import Dispatcher
from jit.emit import emit_program
from jit.fusion import Plan
from jit.loop_ir.nodes import Program
from jit.lowering.rules import runtime_calls
from jit.passes.blocked import in_blocks
from jit.passes.lines import kernel_lines
from jit.passes.loops import Written, write_program
from jit.passes.prepare import inline_calls
from jit.passes.rolled import rolled
from jit.passes.sharing import shared_plan
from jit.passes.whole import whole_graph
from jit.runtime import callbacks, symbols, threads

CHECKED = os.environ.get("FUNCTRANS_CHECK", "") not in ("", "0")
"""Is what the stages make checked? It is in tests; a fault would be one of functrans."""
TEXTS = ("jaxpr", "loops", "llvm", "asm")


@dataclass
class Report:
    """What compiling took and decided: seconds by stage, a line for each kernel and variable.

    `details` says of each kernel what it reads, writes and computes, and why what it makes is made
    there. `donated` says which results take the memory of arguments, and why that was last refused.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    kernels: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    arena_bytes: int = 0
    donated: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = sum(self.seconds.values())
        lines = [f"compiled in {1e3 * total:.1f} ms"]
        lines += [f"  {name:8s}{1e3 * s:8.1f} ms" for name, s in self.seconds.items()]
        lines += [f"arena: {self.arena_bytes} bytes", "kernels:"]
        lines += [f"  {line}" for line in self.kernels]
        lines += ["stored:"] + [f"  {line}" for line in self.stored]
        lines += ["reasons:"] * bool(self.details) + [f"  {line}" for line in self.details]
        lines += ["donated:"] * bool(self.donated) + [f"  {line}" for line in self.donated]
        return "\n".join(lines)


@dataclass(eq=False)
class Executable:
    """A compiled jaxpr. Call it with arrays for the jaxpr's inputs, captured ones first."""

    jaxpr: Jaxpr
    program: Program
    native: native.NativeProgram
    dispatch: Dispatcher
    report: Report

    @property
    def kernels(self) -> Sequence[str]:
        """A line for each kernel."""
        return self.report.kernels

    def __call__(self, args: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        """The results, arrays that own new memory. Raises what the program's checks find."""
        return self.dispatch(args)

    def as_text(self, stage: str = "jaxpr") -> str:
        """The program as "jaxpr", "loops", "llvm" or "asm"; ValueError for another stage."""
        match stage:
            case "jaxpr":
                return str(self.jaxpr)
            case "loops":
                from jit.loop_ir.pprint import format_program

                return format_program(self.program)
            case "llvm":
                return self.native.llvm_text
            case "asm":
                return self.native.asm_text()
            case _:
                raise ValueError(
                    f"as_text: the stage must be one of {', '.join(TEXTS)}, not {stage!r}"
                )

    def compile_report(self) -> Report:
        """What compiling took and decided, and what calls have donated until now."""
        from jit.passes.explain import explain

        details = explain(self.jaxpr)
        return replace(self.report, donated=self.dispatch.donations(), details=details)


class Timer:
    """Times named stages and turns their failures into EngineErrors that name the stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Time the block, which is one stage or a part of one."""
        begin = time.perf_counter()
        try:
            yield
        except (FunctransError, MemoryError):
            raise
        except Exception as error:
            raise EngineError(f"the native engine failed in stage {name!r}: {error}") from error
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


@collecting_rarely()
def compile_jaxpr(jaxpr: Jaxpr, donate: Sequence[int] = ()) -> Executable:
    """Compile a jaxpr for this machine.

    donate: positions of inputs whose memory results of the same type may take. Raises
    UnsupportedError for a primitive without a lowering, EngineError for a fault of a stage.
    """
    timer = Timer()
    numbers: list[int] = []

    def callback(eqn: Eqn) -> int:
        numbers.append(callback_number(eqn))
        return numbers[-1]

    with timer.stage("jaxpr"):
        prepared = simplify(inline_calls(jaxpr))
        if CHECKED:
            check_jaxpr(prepared)
        taken = match_donated(prepared, donate)
    with timer.stage("fuse"):
        errors: list[str] = []
        graph = whole_graph(prepared, callback, errors, taken)
        symbols.prepare(name for eqn in graph.eqns for name in runtime_calls(eqn))
        plan = shared_plan(graph)
    with timer.stage("loops"):
        written = write_program(plan, "program", taken, callback, errors)
        program, together = in_blocks(written.program)
        program, loops = rolled(program)
        if CHECKED:
            from jit.loop_ir.check import check_program

            check_program(program)
    target = native.host_target()
    with timer.stage("llvm"):
        emitted = emit_program(program, target, threads.has_threads())
        symbols.prepare(emitted.externals)
    with timer.stage("object"):
        code = module_code(emitted.text, target)
    with timer.stage("load"):
        loaded = native.NativeProgram(
            code,
            native.finder(symbols.addresses(emitted.externals)),
            emitted.externals,
            tuple(program.errors),
            emitted.text,
            target,
        )
    callbacks.forget_with(loaded, numbers)
    dispatcher = Dispatcher(
        loaded,
        prepared.in_avals,
        prepared.out_avals,
        program.arena_bytes,
        taken,
        written.in_place,
        loops=any("form" in eqn.params for eqn in graph.eqns),
    )
    report = report_of(timer, plan, written, program)
    report.kernels += together + loops
    return Executable(prepared, program, loaded, dispatcher, report)


def callback_number(eqn: Eqn) -> int:
    """Register the Python function of an equation with the types of its operands and results."""
    params, impl = eqn.params, eqn.primitive.impl
    given = tuple([(a.aval.shape, a.aval.dtype) for a in eqn.inputs])
    made = tuple([(v.aval.shape, v.aval.dtype) for v in eqn.outputs])

    def run(*arrays: Any) -> Any:
        try:
            return impl(*arrays, **params)
        except Exception as error:
            add_source(error, eqn.source)
            raise

    return callbacks.register(run, given, made)


def match_donated(jaxpr: Jaxpr, donate: Sequence[int]) -> list[int | None]:
    """For each result the donated input of its type that it takes, first come first served."""
    free = list(donate)
    found: list[int | None] = []
    for aval in jaxpr.out_avals:
        fits = [
            i for i in free if jaxpr.in_avals[i].strengthen() == aval.strengthen() and aval.shape
        ]
        found.append(fits[0] if fits else None)
        if fits:
            free.remove(fits[0])
    return found


def report_of(timer: Timer, plan: Plan, written: Written, program: Program) -> Report:
    """Which kernels there are, why variables are stored, and what memory the program needs."""
    kernels = list(kernel_lines(plan, written.schedules))
    stored = [f"{var.aval}: {why}" for var, why in plan.stored.items()]
    return Report(timer.seconds, kernels, stored, program.arena_bytes)
