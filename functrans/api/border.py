"""The border between users and traces: leaves in, a staged jaxpr, finished NumPy values out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from functrans import tiers, tree
from functrans.bind import bind, current_interpreter, eval_jaxpr, in_force
from functrans.capturing import supported
from functrans.config import config
from functrans.errors import DtypeError, TransformTypeError, describe, where
from functrans.ir import Aval, Jaxpr, MappedAxis, aval_of, intern
from functrans.ir.aval import float0
from functrans.primitives.structural import convert_p
from functrans.recording import Argument, Trace, root_of, tracing
from functrans.surface.promotion import is_unlike_arrays
from functrans.tracing import Tracer
from functrans.transforms.simplify import simplify

Function = Callable[..., Any]


def array_leaf(value: Any, what: str) -> Any:
    """A leaf as a tracer, a native ndarray, a NumPy scalar or a Python number.

    `what` names the leaf in the error raised for anything else.
    """
    if type(value) is Tracer or type(value) in (bool, int, float, complex):
        return value
    if is_unlike_arrays(value):
        raise DtypeError(
            f"{what} is a {type(value).__name__}, whose operations differ from those of arrays. "
            "Pass numpy.asarray(x), with a mask as an argument of its own."
        )
    if isinstance(value, (np.ndarray, np.generic)):
        native = _native(value)
        supported(aval_of(native), what)
        return native
    if hasattr(value, "__array__") and not isinstance(value, type):
        return array_leaf(np.asarray(value), what)
    raise TransformTypeError(
        f"{what} is {describe(value)}, but only arrays and numbers (or containers of them) can be "
        "traced. Let the function capture it, or leave it out of what is traced (argnums of "
        "derivatives, None in in_axes of vmap, static_argnums of jit)."
    )


def _native(value: Any) -> Any:
    """The value with native byte order and without subclass."""
    if isinstance(value, np.ndarray):
        value = value if type(value) is np.ndarray else np.asarray(value)
        return value if value.dtype.isnative else value.astype(value.dtype.newbyteorder("="))
    return value


def is_scalar(value: Any) -> bool:
    """Is this leaf immutable, as Python and NumPy scalars are?"""
    return value.scalar if type(value) is Tracer else not isinstance(value, np.ndarray)


class Staged(NamedTuple):
    """A traced call: the jaxpr with the values of its captured inputs, and its result's tree.

    `cells` are the numbers of the captured values among those of the tape, where the function was
    run segment by segment: then the arguments are among them.
    A context manager: large captured arrays are read-only until the block ends.
    """

    jaxpr: Jaxpr
    captured: list[Any]
    out_tree: tree.PyTreeDef
    release: Callable[[], None]
    cells: list[int] | None = None

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


def stage(
    function: Function,
    leaves: Sequence[Any],
    *,
    purpose: str,
    avals: Sequence[Aval] | None = None,
    active: Sequence[bool] | None = None,
    known: Sequence[bool] | bool = True,
    axis: MappedAxis | None = None,
    copies: bool = True,
    live: bool = False,
    names: Sequence[str] | None = None,
    user: Function | None = None,
    tape: Any = None,
) -> Staged:
    """Trace `function(*leaves) -> pytree` and simplify what was recorded.

    `avals` replaces the leaves' own avals (a mapped argument is traced as one member). `known`
    says which leaves may be asked for their values, `active` which are differentiated; `names`
    is what messages call them, and `user` the function that they speak of. `copies` and `live` are
    those of Trace. With a `tape` what is traced before an ask is run, and not traced again.
    """
    count = len(leaves)
    known_flags = [known] * count if isinstance(known, bool) else known
    types = [aval_of(x) for x in leaves] if avals is None else avals
    given = [
        Argument(
            types[i],
            leaves[i] if known_flags[i] else None,
            active is not None and active[i],
            is_scalar(leaves[i]) if avals is None else types[i].shape == (),
            names[i] if names else None,
        )
        for i in range(count)
    ]
    parent = current_interpreter()
    root = None
    if copies and not live and config.memo and parent.memoised:
        root = root_of(user or function, purpose, given, axis, parent)
    trace = Trace(purpose, axis=axis, copies=copies, live=live, root=root)
    if root is not None and parent.parent is None:
        trace.tape = tape
    try:
        with tracing(trace):
            arguments = [trace.argument(*argument) for argument in given]
            return ended(trace, arguments, function(*arguments), user or function)
    except BaseException:
        trace.release()
        raise


def ended(trace: Trace, arguments: Sequence[Tracer], out: Any, user: Function) -> Staged:
    """What was staged by a trace in force whose function has returned `out`."""
    out_leaves, out_tree = tree.flatten(out)
    checked = [_output_leaf(x, user, trace.purpose) for x in out_leaves]
    leaf = trace.end(out_tree, checked)
    if leaf is not None:
        jaxpr, captured = leaf.jaxpr, trace.ins + leaf.constants
    else:
        end = trace.ending(out_tree, checked)
        jaxpr, captured = trace.finish(arguments, checked)
        if jaxpr is not trace.whole:
            jaxpr = simplify(intern(jaxpr))
        if end is not None:
            leaf = end(jaxpr, captured)
            jaxpr = leaf.jaxpr
    cells = None
    if trace.restarted:
        cells = trace.free_cells if leaf is None else trace.cells(leaf)
    return Staged(jaxpr, captured, out_tree, trace.release, cells)


def _output_leaf(value: Any, function: Function, purpose: str) -> Any:
    try:
        return array_leaf(value, "the result")
    except (TransformTypeError, DtypeError):
        raise TransformTypeError(
            f"{purpose}: the function must return arrays, numbers or containers of them, but it "
            f"returned {describe(value)} ({where(function)}). Other things can be returned through "
            "has_aux=True, where the transform has it."
        ) from None


def run(jaxpr: Jaxpr, inputs: Sequence[Any]) -> list[Any]:
    """Evaluate under the interpreter in force; at the outermost level, finish the outputs."""
    if in_force.interpreter.parent is None:
        native = tiers.native_of(jaxpr)
        if native is not None:
            try:
                return tidied(native(list(inputs)), jaxpr)
            except (IndexError, ValueError, ArithmeticError):
                pass  # the evaluator raises the same error, and names the user's line
    outs = eval_jaxpr(jaxpr, inputs)
    if in_force.interpreter.parent is not None and makes_all(jaxpr):
        return outs
    return finish(outs, jaxpr.out_avals, inputs)


def makes_all(jaxpr: Jaxpr) -> bool:
    """Is each result of the program made by it, and another one than the rest?"""
    found = jaxpr.cache.get("makes_all")
    if found is None:
        made = {v for eqn in jaxpr.eqns for v in eqn.outputs}
        outs = jaxpr.outvars
        found = len(set(outs)) == len(outs) and made.issuperset(outs)
        jaxpr.cache["makes_all"] = found
    return found


def tidied(outputs: list[Any], jaxpr: Jaxpr) -> list[Any]:
    """The fresh outputs of a native program: those without axes may be 0-d arrays still."""
    places = jaxpr.cache.get("scalars")
    if places is None:
        avals = jaxpr.out_avals
        places = jaxpr.cache["scalars"] = [i for i, a in enumerate(avals) if not a.shape]
    for i in places:
        value = outputs[i]
        if type(value) is np.ndarray:
            outputs[i] = value.item() if jaxpr.outvars[i].aval.weak else value[()]
    return outputs


def finish(outputs: Sequence[Any], avals: Sequence[Aval], inputs: Sequence[Any]) -> list[Any]:
    """What users get: fresh C-contiguous arrays, NumPy scalars, Python scalars for weak results.

    No array aliases an input or another output. Tracers pass through.
    """
    taken = {id(x) for x in inputs}
    finished: list[Any] = []
    for value, aval in zip(outputs, avals, strict=True):
        if type(value) is not Tracer:
            value = _finish_array(value, aval, taken)
        elif id(value) in taken:
            value = value.snapshot()
        taken.add(id(value))
        finished.append(value)
    return finished


def _finish_array(value: Any, aval: Aval, taken: set[int]) -> Any:
    if aval.weak:
        return value.item() if isinstance(value, (np.ndarray, np.generic)) else value
    array = np.asarray(value)
    if array.ndim == 0:
        return array[()]
    if id(array) in taken or not (array.flags.owndata and array.flags.c_contiguous):
        array = array.copy(order="C")
    return array


def conform(value: Any, aval: Aval) -> Any:
    """The value in the dtype and weakness of an aval of its shape."""
    given = aval_of(value)
    if given == aval:
        return value
    return bind(convert_p, value, dtype=aval.dtype, weak=aval.weak)[0]


def as_typed(value: Any, aval: Aval) -> Any:
    """A result in the weakness of `aval`: what belongs to a Python scalar is one."""
    if not aval.weak or type(value) in (float, complex):
        return value
    return conform(value, aval) if type(value) is Tracer else value.item()


def unaliased(values: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """The values, out of reach of later writes to an input (residuals must be)."""
    for value in values:
        if not isinstance(value, _IMMUTABLE):
            break
    else:
        return list(values)
    arrays = [x for x in inputs if isinstance(x, np.ndarray)]
    return [_unaliased(v, arrays) for v in values]


_IMMUTABLE = (np.generic, float, int, complex)


def _unaliased(value: Any, arrays: list[Any]) -> Any:
    if type(value) is Tracer:
        return value.snapshot()
    if isinstance(value, np.ndarray) and any(np.may_share_memory(value, a) for a in arrays):
        return value.copy()
    return value


def zeros(aval: Aval) -> Any:
    """The zero tangent or cotangent of a value: float0 for integers and booleans."""
    if aval.dtype.kind not in "fc" and aval.dtype.name != "bfloat16":
        return np.zeros(aval.shape, float0)
    if aval.weak:
        return aval.dtype.type(0).item()
    out: Any = np.zeros(aval.shape, aval.dtype)
    return out if aval.shape else out[()]
