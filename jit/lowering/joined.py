"""A while, what is made of its results, and passes over its steps, as programs of one kernel.

The steps are noted on one stack. What lies between is a program of its own, which reads the results
of the while where they are and leaves what it makes in results of the equation.
"""

from __future__ import annotations

from typing import NamedTuple

from functrans.extend import Atom, Eqn, Jaxpr, Primitive, Var
from jit.lowering.inner import Inner, inner_programs
from jit.lowering.loops import (
    Space,
    Table,
    address_of,
    begin_at,
    calls_of,
    effect_of_programs,
    loop_workspace,
    program_sweep_p,
)
from jit.lowering.root import RootContext
from jit.lowering.rules import element_bytes, lowers_root, only_lowered
from jit.lowering.sweeps import SweepWriter, operands_of

program_joined_p = Primitive(
    name="joined", abstract_eval=only_lowered, impl=only_lowered, effects=effect_of_programs
)
"""Operands: those of the jaxpr. Results: those of its sweep, then those of `between.outvars`.

The last of its programs is `between`, if it has any results.
"""


class Parts(NamedTuple):
    """The equations of a joined one, told apart: the while, what lies between, the sweep.

    Inputs of `between` are operands of the whole and results of the while.
    """

    first: Eqn
    between: Jaxpr
    sweep: Eqn


def parts_of(jaxpr: Jaxpr) -> Parts:
    first, *inside, sweep = jaxpr.eqns
    made = [v for e in inside for v in e.outputs]
    own, read = set(made), {*jaxpr.outvars, *sweep.inputs}
    given = dict.fromkeys(
        a for e in inside for a in e.inputs if isinstance(a, Var) and a not in own
    )
    return Parts(first, Jaxpr(list(given), inside, [v for v in made if v in read]), sweep)


def names_of(eqn: Eqn) -> dict[Atom, Atom]:
    """For each variable inside that lies in memory, what it is outside."""
    jaxpr: Jaxpr = eqn.params["jaxpr"]
    first, between, sweep = parts_of(jaxpr)
    names: dict[Atom, Atom] = dict(zip(jaxpr.invars, eqn.inputs, strict=True))
    names.update(zip(first.outputs, eqn.outputs, strict=False))
    names.update(zip([*sweep.outputs, *between.outvars], eqn.outputs, strict=True))
    return names


def sweep_of(eqn: Eqn) -> Eqn:
    """The sweep, on what it is given outside."""
    sweep, names = parts_of(eqn.params["jaxpr"]).sweep, names_of(eqn)
    params = sweep.params | {name: eqn.params[name] for name in ("programs", "plans")}
    inputs = [names.get(a, a) for a in sweep.inputs]
    return Eqn(program_sweep_p, inputs, eqn.outputs[: len(sweep.outputs)], params, eqn.source)


@lowers_root(
    program_joined_p,
    dense=True,
    workspace=lambda eqn: loop_workspace(sweep_of(eqn)),
    calls=calls_of,
)
def lower_joined(ctx: RootContext, eqn: Eqn) -> None:
    """The while, what lies between, the passes."""
    sweep = sweep_of(eqn)
    made = set(eqn.outputs)
    pairs = list(
        zip([sweep.inputs[k] for k in operands_of(sweep).inits], sweep.outputs, strict=True)
    )
    with ctx.walk.kernel(ctx.name):
        for init, home in pairs:
            if init not in made:
                begin_at(ctx, init, home, None)
        writer = SweepWriter(ctx, sweep, Space(ctx, sweep), None)
        count = writer.take_steps()
        run_between(ctx, eqn, writer)
        for init, home in pairs:
            if init in made and home.aval.size:
                size = home.aval.size * element_bytes(home)
                ctx.b.call("memcpy", address_of(ctx, home), address_of(ctx, init), size)
        writer.run_passes(count)


def run_between(ctx: RootContext, eqn: Eqn, writer: SweepWriter) -> None:
    """What lies between, which leaves its results where they are wanted."""
    between, names = parts_of(eqn.params["jaxpr"]).between, names_of(eqn)
    if not between.outvars:
        return
    program: Inner = inner_programs(eqn)[-1]
    ins = Table(ctx, "between_ins", len(between.invars))
    outs = Table(ctx, "between_outs", len(between.outvars))
    ins.put_all([names[v] for v in between.invars])
    outs.put_all([names[v] for v in between.outvars])
    writer.run(program, ins, outs)
