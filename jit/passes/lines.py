"""The lines of a report that say of each kernel how its loops run and what it makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jit.fusion import Kernel, Plan, RootCall
from jit.lowering.inner import inner_programs
from jit.passes.schedule import Schedule, Step


def kernel_lines(plan: Plan, schedules: Sequence[Schedule | None]) -> Iterator[str]:
    """A line for each kernel; below a loop or a branch those of its bodies."""
    for number, (step, scheduled) in enumerate(zip(plan.steps, schedules, strict=True)):
        if isinstance(step, Kernel):
            yield kernel_line(number, step, scheduled)
        else:
            yield from root_lines(number, step)


def kernel_line(number: int, kernel: Kernel, scheduled: Schedule | None) -> str:
    assert scheduled is not None
    steps = [*scheduled.outer, *scheduled.inner]
    loops = [loop_text(step) for step in steps]
    made = [f"{kernel.roles[n]} {n.target.aval}" for n in kernel.nodes if n.target is not None]
    if len(made) > 10:
        made[8:] = [f"and {len(made) - 8} more"]
    makes = ", ".join(made)
    return f"{number}: {' x '.join(loops) or 'scalar'}: {makes or 'index check'}"


def loop_text(step: Step) -> str:
    """How one loop of a kernel runs."""
    if step.part == "unrolled":
        return f"unrolled {step.loop.extent}"
    return f"{step.kind} {step.loop.extent}{' in blocks' * (step.part == 'over')}"


def root_lines(number: int, step: RootCall) -> Iterator[str]:
    eqn = step.eqn
    form = eqn.params.get("form")
    if form is None:
        yield f"{number}: {eqn.primitive.name}"
        return
    yield f"{number}: {eqn.primitive.name} as {form.name}: {form.reason}"
    for k, inner in enumerate(inner_programs(eqn)):
        yield from (f"{number}.{k}.{line}" for line in inner.kernels)
