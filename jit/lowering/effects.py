"""Callbacks: a Python function on the values of its operands, called where the program stands."""

from __future__ import annotations

from functrans.extend import Eqn, primitives
from jit.lowering.root import RootContext
from jit.lowering.rules import lowers_root

ft = primitives.effects


@lowers_root(ft.debug_callback_p, dense=True)
def lower_debug_callback(ctx: RootContext, eqn: Eqn) -> None:
    """The operands lie in memory; the function is known to the process by its number."""
    b = ctx.b
    with ctx.walk.kernel(ctx.name):
        pointers = [b.ref(ctx.dense(x)) for x in eqn.inputs]
        b.callback(ctx.callback(eqn), pointers, "a callback raised an exception")
