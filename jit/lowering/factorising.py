"""Factorisations without Python: in registers where matrices are small, else by NumPy's LAPACK.

What LAPACK gives are NumPy's bits, but of triangular systems, which NumPy eliminates like others.
Invariant: LAPACK runs on one thread for each matrix; where it reports a failure, the program leaves
with NumPy's message.
"""

from __future__ import annotations

from math import prod

from functrans.extend import Eqn, Primitive
from jit import openblas
from jit.factorisations import BY_FACTORS, LETTERS, dtype_of, is_of_lapack, name_of
from jit.loop_ir.nodes import Value
from jit.lowering import small_matrices
from jit.lowering.lapack import ALIGNMENT, STATUS, Layout, Task, sizes_of
from jit.lowering.lapack_methods import METHODS, Method
from jit.lowering.root import RootContext
from jit.lowering.rules import lowers_root, only_lowered
from jit.names import FAILED

SLOTS = 8
"""Stacks are cut into so many parts, each with a space of its own."""


factored_p = Primitive(name="factored", abstract_eval=only_lowered, impl=only_lowered, cheap=False)
"""A matrix's factors, or what is found from them: see jit.passes.factored.

`factorisation` names it, `turned` says whether it is of the transpose; batch, mapped and results
are those of a callback.
"""


def calls_lapack(eqn: Eqn) -> bool:
    return eqn.primitive is factored_p or is_of_lapack(eqn)


def method_of(eqn: Eqn) -> Method:
    """How LAPACK computes what an equation calls back for."""
    return METHODS[dtype_of(eqn).kind == "c"][name_of(eqn)]


def calls_of(eqn: Eqn) -> tuple[str, ...]:
    """The runtime functions that the native form calls."""
    if not calls_lapack(eqn):
        return ()
    start = f"{openblas.LAPACK}{LETTERS[dtype_of(eqn).name]}"
    return (*openblas.GUARDS, *[f"{start}{name}" for name in method_of(eqn).routines])


def count_of(eqn: Eqn) -> int:
    """How many matrices the stacks have; `batch` stands in front of them."""
    return prod(eqn.params["batch"]) * prod(eqn.params["results"][0].shape[: lead_of(eqn)])


def lead_of(eqn: Eqn) -> int:
    """The leading axes of one member's operands, the same for all of them."""
    first = eqn.inputs[0].aval.ndim - 2
    return first - len(eqn.params["batch"]) if eqn.params["mapped"][0] else first


def slots_of(eqn: Eqn) -> int:
    return min(count_of(eqn), SLOTS)


def layout_of(eqn: Eqn) -> Layout:
    return Layout(eqn, method_of(eqn).parts(sizes_of(eqn)))


def workspace_of(eqn: Eqn) -> int:
    if not calls_lapack(eqn):
        return 0
    return ALIGNMENT + slots_of(eqn) * layout_of(eqn).bytes


def factorise(ctx: RootContext, eqn: Eqn) -> None:
    """The native form of an equation that has one."""
    b, name = ctx.b, name_of(eqn)
    with ctx.walk.kernel(ctx.name):
        failed = by_lapack(ctx, eqn) if calls_lapack(eqn) else in_registers(ctx, eqn)
        message = FAILED.get(name.removesuffix(BY_FACTORS))
        if message is not None:
            place = f" (in {eqn.source})" if eqn.source else ""
            b.fail(message + place, failed)


@lowers_root(factored_p, dense=True, workspace=workspace_of, calls=calls_of)
def lower_factored(ctx: RootContext, eqn: Eqn) -> None:
    factorise(ctx, eqn)


def in_registers(ctx: RootContext, eqn: Eqn) -> Value:
    """Factorise matrices of a few rows; answers whether one failed."""
    return small_matrices.write(ctx, eqn, name_of(eqn), count_of(eqn))


def by_lapack(ctx: RootContext, eqn: Eqn) -> Value:
    """Factorise by LAPACK's routines; answers whether one reported a failure."""
    b, method = ctx.b, method_of(eqn)
    count, slots, sizes = count_of(eqn), slots_of(eqn), sizes_of(eqn)
    height = -(-count // slots)
    work = count * (sizes.m + sizes.k) * sizes.n * sizes.least
    kind = "parallel" if slots > 1 and ctx.parallel(float(work)) else "serial"
    task = Task(ctx, eqn, layout_of(eqn), workspace_of(eqn))
    status = task.memory("i64")
    b.store(status, STATUS, 0)
    b.call(openblas.BEGIN)
    with b.for_(slots, kind) as slot:
        first = b.mul(slot.i, height)
        with b.for_(b.min(b.sub(count, first), height), hint="matrix") as matrix:
            task.open(slot.i, b.add(first, matrix.i))
            method.steps(task)
    b.call(openblas.END)
    return b.ne(b.load(status, STATUS), 0)
