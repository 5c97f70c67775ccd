"""Callbacks with results: a Python function reads and writes whole buffers where it stands.

Factorisations of matrices are computed without one where that is possible.
"""

from __future__ import annotations

from functrans.extend import Eqn, primitives
from jit.factorisations import is_native
from jit.lowering.factorising import calls_of, factorise, workspace_of
from jit.lowering.root import RootContext
from jit.lowering.rules import lowers_root

ft = primitives.callbacks


@lowers_root(ft.pure_callback_p, dense=True, workspace=workspace_of, calls=calls_of)
def lower_pure_callback(ctx: RootContext, eqn: Eqn) -> None:
    """Without Python where there is a way."""
    (factorise if is_native(eqn) else lower_callback)(ctx, eqn)


@lowers_root(ft.io_callback_p, dense=True)
def lower_callback(ctx: RootContext, eqn: Eqn) -> None:
    """Operands and results lie in memory; the function is known to the process by its number.

    Results without elements lie nowhere: no address is given for them.
    """
    b = ctx.b
    with ctx.walk.kernel(ctx.name):
        pointers = [b.ref(ctx.dense(x)) for x in eqn.inputs]
        pointers += [b.ref(ctx.buffer(out)) for out in eqn.outputs if out.aval.size]
        b.callback(ctx.callback(eqn), pointers, "a callback raised an exception")
