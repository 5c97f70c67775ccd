"""Writes a plan as loop IR: buffers, then one kernel or a few for each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from functrans.extend import Eqn, Var
from jit.fusion import Kernel, Plan, RootCall
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import Buffer, Program
from jit.lowering.graph import view_of
from jit.lowering.root import RootContext
from jit.lowering.rules import is_complex, loop_dtype
from jit.lowering.writer import Writer
from jit.passes.buffers import Storage, plan_storage
from jit.passes.nest import KernelWriter
from jit.passes.schedule import NS_PER_COST, PARALLEL_NS, Schedule, grain_of, schedule
from jit.passes.taking import taken_over


def declare(b: Builder, plan: Plan, storage: Storage, shared: dict[Var, Var]) -> dict[Var, Buffer]:
    """Buffers for inputs, outputs and what lies in the arena.

    `shared` maps variables to the inputs whose memory they are written to.
    """
    buffers: dict[Var, Buffer] = {}

    def width(var: Var) -> int:
        return var.aval.size * (2 if is_complex(var.aval.dtype) else 1)

    for k, var in enumerate(plan.graph.invars):
        dtype = loop_dtype(var.aval.dtype)
        writable = var in shared.values()
        buffers[var] = b.input(f"in{k}", dtype, width(var), writable=writable)
    for k, var in enumerate(plan.graph.outvars):
        made = b.output(f"out{k}", loop_dtype(var.aval.dtype), width(var))
        buffers[var] = made
    for k, (var, offset) in enumerate(storage.offsets.items()):
        buffers[var] = b.temp(f"t{k}", loop_dtype(var.aval.dtype), width(var), offset)
    buffers.update((var, buffers[lender]) for var, lender in storage.lent.items())
    buffers.update((var, buffers[source]) for var, source in shared.items())
    return buffers


def scratch_rows(
    writer: Writer, kernel: Kernel, plan: Schedule, storage: Storage, number: int
) -> None:
    """Local buffers for the variables that only later passes over the same row read."""
    domain = plan.domain
    for var in kernel.defs:
        if var in storage.scratch:
            size = domain.width * (2 if is_complex(var.aval.dtype) else 1)
            name = f"row{number}_{len(writer.rows)}"
            writer.buffers[var] = writer.b.local(name, loop_dtype(var.aval.dtype), size)
            writer.rows[var] = lambda flat: flat - domain.row * domain.width


class Written(NamedTuple):
    """The loop IR of a plan, how each kernel was scheduled, and which results lie in inputs."""

    program: Program
    schedules: list[Schedule | None]
    in_place: list[bool]


def write_program(
    plan: Plan,
    name: str,
    taken: Sequence[int | None],
    callback: Callable[[Eqn], int],
    errors: list[str] | None = None,
) -> Written:
    """Write all steps. taken[j]: the number of the input whose memory result j may take.

    errors: the table of the program that runs this one.
    """
    schedules = [
        schedule(plan.graph, plan.stored, s) if isinstance(s, Kernel) else None for s in plan.steps
    ]
    rows = {k for k, s in enumerate(schedules) if s is not None and s.lanes_are_rows}
    spaces = {k: s.workspace for k, s in enumerate(schedules) if s and s.workspace}
    shared = taken_over(plan, taken)
    lenders = {out for out, i in zip(plan.graph.outvars, taken, strict=True) if i is None}
    storage = plan_storage(plan, rows, spaces, lenders, shared.keys())
    b = Builder(name, errors)
    buffers = declare(b, plan, storage, shared)
    writer = Writer(b, plan.graph.producers, plan.stored.keys(), buffers)
    for number, (step, scheduled) in enumerate(zip(plan.steps, schedules, strict=True)):
        if isinstance(step, RootCall):
            write_root(writer, plan, step, storage.workspaces.get(number, 0), number, callback)
        else:
            assert scheduled is not None
            name, space = f"nest{number}", storage.workspaces.get(number, 0)
            if scheduled.tiles:
                from jit.passes.tiles import TileWriter

                TileWriter(writer, step, scheduled, name, space, storage.scratch).write()
                continue
            scratch_rows(writer, step, scheduled, storage, number)
            if scheduled.columns:
                from jit.passes.columns import ColumnWriter

                ColumnWriter(writer, step, scheduled, name, space).write()
            else:
                KernelWriter(writer, step, scheduled, name).write()
    in_place = [out in shared for out in plan.graph.outvars]
    return Written(b.finish(storage.arena_bytes), schedules, in_place)


def write_root(
    writer: Writer,
    plan: Plan,
    step: RootCall,
    workspace: int,
    number: int,
    callback: Callable[[Eqn], int],
) -> None:
    """The kernels of a root equation."""
    context = RootContext(
        writer,
        f"{step.eqn.primitive.name}{number}",
        lambda atom: view_of(plan.graph, plan.stored, atom),
        lambda cost: cost * NS_PER_COST > PARALLEL_NS,
        lambda cost, steps: grain_of(cost * NS_PER_COST, steps),
        callback,
        workspace,
    )
    step.rule.rule(context, step.eqn)
