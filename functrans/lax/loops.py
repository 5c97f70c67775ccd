"""Loops: scan, fori_loop, while_loop and map, each one equation whatever the number of steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from functrans import tree
from functrans.api.arguments import require_callable
from functrans.api.border import Function, Staged
from functrans.control.blocks import checkpointed, scan_again, scan_unrolled
from functrans.control.hoisting import products_before
from functrans.control.scan import scan_p
from functrans.control.while_loop import while_p
from functrans.errors import ShapeError, TransformTypeError, describe, name_of, where
from functrans.ir import Aval, aval_of
from functrans.lax.branches import as_predicate
from functrans.lax.staging import Leaves, Settling, apply, apply_program, join, stage_abstract
from functrans.surface.promotion import BOOL, cast


def scan(
    f: Function,
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    checkpoint: Checkpoint = False,
) -> Any:
    """Run `carry, y = f(carry, x)` over the slices x of xs along their first axis.

    Returns `(carry, ys)`: the last carry, and what the steps gave for y, stacked. All of init, xs
    and y may be pytrees; xs may be None with a `length`, y may be None. `reverse` starts with the
    last slice (each y stands where its x does). `unroll` takes that many steps at a time.

    For reverse mode each step's carry is kept, and what would take long to compute again. With
    `checkpoint=True` only the carries are kept; with an int k only every k-th carry, and the steps
    between are taken again; "sqrt" takes as many steps as there are such carries.

    The carry has the least types that hold init and what f returns; its shapes must not change.

    >>> scan(lambda total, x: (total + x, total), 0.0, np.arange(4.))
    (np.float64(6.0), array([0., 0., 1., 3.]))
    """
    require_callable(f, "scan")
    carry, slices = Leaves.of(init, "init"), Leaves.of(xs, "xs")
    steps = _length(slices, length, f)
    settling = Settling("scan", f, carry)
    y_tree: list[tree.PyTreeDef] = []
    count = len(carry.values)

    def step(*values: Any) -> list[Any]:
        result = f(carry.rebuild(values[:count]), slices.rebuild(values[count:]))
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TransformTypeError(
                f"scan: {name_of(f)} must return (carry, y), but it returned {describe(result)} "
                f"({where(f)}). Return None for y where there is none."
            )
        left = settling.left(result[0])
        ys = Leaves.of(result[1], f"scan: the y that {name_of(f)} returns")
        y_tree[:] = [ys.treedef]
        return [*left, *[cast(y, aval_of(y).dtype) for y in ys.values]]

    outs = _scan(
        settling,
        step,
        slices=slices,
        length=steps,
        reverse=bool(reverse),
        block=_block("scan", unroll, steps, f),
        checkpoint=_segment(checkpoint, steps, f),
    )
    return carry.rebuild(outs[:count]), tree.unflatten(y_tree[0], outs[count:])


def _scan(
    settling: Settling,
    step: Callable[..., list[Any]],
    *,
    first: Sequence[Any] = (),
    slices: Leaves,
    length: int,
    reverse: bool = False,
    block: int,
    checkpoint: int,
) -> list[Any]:
    """The results of a scan whose `step` takes and leaves flat values.

    `first` are carries that come before those which settle, and keep their types. `block` steps
    are written out at a time, and every `checkpoint`-th carry is kept (0: all of them).
    """
    names = [
        *["the index"] * len(first),
        *settling.init.names,
        *[f"a slice of {name}" for name in slices.names],
    ]
    fixed = [aval_of(x) for x in first]
    x_avals = [Aval(a.shape[1:], a.dtype) for a in slices.avals]

    def trace(avals: list[Aval]) -> Staged:
        types = [*fixed, *avals, *x_avals]
        return stage_abstract(step, types, settling.what, names, settling.function)

    with settling.stage(trace) as staged:
        jaxpr, consts = products_before(staged.jaxpr, staged.captured)
        operands = [*consts, *first, *settling.start(), *slices.values]
        params = {
            "jaxpr": checkpointed(jaxpr) if checkpoint == 1 else jaxpr,
            "length": length,
            "reverse": reverse,
            "num_consts": len(consts),
            "num_carry": len(first) + len(settling.avals),
        }
        if checkpoint > 1:
            return apply_program(lambda *xs: scan_again(xs, [checkpoint], **params), operands)
        if block > 1:
            return apply_program(lambda *xs: scan_unrolled(xs, block, **params), operands)
        return apply(scan_p, operands, **params)


Checkpoint: TypeAlias = "bool | int | str"


def _block(what: str, unroll: int | bool, steps: int, f: Function) -> int:
    """How many steps to write out at a time."""
    if unroll is True:
        return max(steps, 1)
    if isinstance(unroll, (bool, int, np.integer)) and unroll >= 0:
        return max(int(unroll), 1)
    raise TransformTypeError(
        f"{what}: unroll must be a positive int or a bool, but it is {describe(unroll)} "
        f"({where(f)})."
    )


def _segment(checkpoint: Checkpoint, steps: int, f: Function) -> int:
    """Every which carry is kept; 0 for plain scans."""
    if isinstance(checkpoint, bool):
        return int(checkpoint)
    if checkpoint == "sqrt":
        return max(math.isqrt(steps), 1)
    if isinstance(checkpoint, (int, np.integer)) and checkpoint > 0:
        return int(checkpoint)
    raise TransformTypeError(
        f"scan: checkpoint must be a bool, a positive int or 'sqrt', but it is "
        f"{describe(checkpoint)} ({where(f)})."
    )


def _length(xs: Leaves, length: int | None, f: Function) -> int:
    """The length that all xs share, or the given one."""
    for aval, name in zip(xs.avals, xs.names, strict=True):
        if not aval.shape:
            raise ShapeError(
                f"scan: {name} is {describe(aval)}, which has no axis to run over ({where(f)}). "
                "Let the function capture what every step gets whole."
            )
        if length is None:
            length = aval.shape[0]
        elif aval.shape[0] != length:
            raise ShapeError(
                f"scan: {name} has {aval.shape[0]} slices where {length} are expected "
                f"({where(f)}). All of xs must have one first axis, of the given length."
            )
    if length is None:
        raise TransformTypeError(
            f"scan: xs has no leaves, so that the number of steps is not known ({where(f)}). Give "
            "length=."
        )
    return int(length)


def while_loop(cond_fun: Function, body_fun: Function, init_val: Any) -> Any:
    """Run `val = body_fun(val)` as long as `cond_fun(val)` holds; the last val.

    The number of steps may depend on the values. Both modes of differentiation work: reverse mode
    keeps the vals of all steps.

    >>> while_loop(lambda x: x < 100, lambda x: 2 * x, 3)
    192
    """
    require_callable(cond_fun, "while_loop")
    require_callable(body_fun, "while_loop")
    init = Leaves.of(init_val, "init_val")
    settling = Settling("while_loop", body_fun, init)
    outs = _while(
        settling,
        lambda *values: as_predicate(cond_fun(init.rebuild(values)), "while_loop", cond_fun),
        lambda *values: settling.left(body_fun(init.rebuild(values))),
        cond_fun,
    )
    return init.rebuild(outs)


def _while(
    settling: Settling,
    test: Callable[..., Any],
    step: Callable[..., list[Any]],
    user: Function,
    first: Sequence[Any] = (),
) -> list[Any]:
    """The results of a while whose `test` and `step` take flat values; `first` as in `_scan`."""
    fixed = [aval_of(x) for x in first]
    names = [*["the index", "upper"][: len(first)], *settling.init.names]
    what = settling.what

    def trace(avals: list[Aval]) -> Staged:
        return stage_abstract(step, [*fixed, *avals], what, names, settling.function)

    with (
        settling.stage(trace) as body,
        stage_abstract(
            lambda *xs: [test(*xs)], [*fixed, *settling.avals], what, names, user
        ) as cond,
    ):
        jaxpr, consts = products_before(body.jaxpr, body.captured)
        return apply(
            while_p,
            [*cond.captured, *consts, *first, *settling.start()],
            cond=cond.jaxpr,
            body=jaxpr,
            num_cond_consts=len(cond.captured),
            num_body_consts=len(consts),
            lanes=None,
            dims=None,
        )


def fori_loop(
    lower: Any, upper: Any, body_fun: Function, init_val: Any, *, unroll: int | bool | None = None
) -> Any:
    """Run `val = body_fun(i, val)` for i from lower up to, and without, upper; the last val.

    Bounds that are numbers make a scan; others, a while_loop.

    >>> fori_loop(1, 5, lambda i, total: total + i, 0)
    10
    """
    require_callable(body_fun, "fori_loop")
    low, high = _bound(lower, "lower"), _bound(upper, "upper")
    index = join(aval_of(low), aval_of(high))
    assert index is not None  # integer scalars
    first = cast(low, index.dtype, weak=index.weak)
    init = Leaves.of(init_val, "init_val")
    settling = Settling("fori_loop", body_fun, init)

    def step(i: Any, *values: Any) -> list[Any]:
        return [i + 1, *settling.left(body_fun(i, init.rebuild(values)))]

    if _is_number(low) and _is_number(high):
        steps = max(int(high) - int(low), 0)
        block = _block("fori_loop", 1 if unroll is None else unroll, steps, body_fun)
        empty = Leaves.of(None, "")
        outs = _scan(
            settling, step, first=[first], slices=empty, length=steps, block=block, checkpoint=0
        )
        return init.rebuild(outs[1:])
    last = cast(high, index.dtype, weak=index.weak)
    outs = _while(
        settling,
        lambda i, end, *values: cast(i < end, BOOL),
        lambda i, end, *values: [i + 1, end, *step(i, *values)[1:]],
        body_fun,
        first=[first, last],
    )
    return init.rebuild(outs[2:])


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, np.integer))


def _bound(value: Any, name: str) -> Any:
    (bound,) = Leaves.of(value, f"fori_loop: {name}").values or [None]
    if bound is None or aval_of(bound).shape != () or aval_of(bound).dtype.kind not in "iu":
        raise TransformTypeError(
            f"fori_loop: {name} must be an integer, but it is {describe(value)}. Convert it with "
            "int(x) or .astype(int)."
        )
    return bound[()] if isinstance(bound, np.ndarray) else bound
