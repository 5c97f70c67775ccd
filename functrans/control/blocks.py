"""Blocks: a scan as one over blocks of several steps, which are unrolled, or computed again.

A scan of n steps keeps n carries for its backward pass. In blocks of k steps that are computed
again there, it keeps n / k of them and k more while a block is gone through; in blocks of blocks,
less again, for one more computation at each level (Griewank 1992 goes on from here).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from functrans.bind import bind, eval_jaxpr
from functrans.control.bodies import cut, stacked
from functrans.control.checkpoint import checkpoint_p
from functrans.control.scan import scan_p
from functrans.ir import Aval, Jaxpr, aval_of
from functrans.primitives.derive import broadcast_at
from functrans.primitives.structural import concatenate, reshape, slice_axis
from functrans.recording import stage_walk
from functrans.transforms.cache import derived
from functrans.transforms.simplify import simplify


@derived
def checkpointed(jaxpr: Jaxpr) -> Jaxpr:
    """The program as one checkpoint: its backward pass computes it again."""
    walk = lambda *args: bind(checkpoint_p, *args, jaxpr=jaxpr, policy=None)
    return stage_walk(walk, jaxpr.in_avals, "scan")


def scan_unrolled(operands: Sequence[Any], size: int, **params: Any) -> list[Any]:
    """The scan with `size` steps written out at a time."""
    jaxpr, length, reverse = params["jaxpr"], params["length"], params["reverse"]
    num_consts, num_carry = params["num_consts"], params["num_carry"]
    if size >= length:
        return _written_out(jaxpr, operands, length, reverse, num_consts, num_carry)
    block = _unrolled_block(jaxpr, size, reverse, num_consts, num_carry)
    return _in_blocks(operands, block, size, lambda *xs, **p: bind(scan_p, *xs, **p), params)


def scan_again(operands: Sequence[Any], sizes: Sequence[int], **params: Any) -> list[Any]:
    """The scan in blocks that the backward pass computes again.

    `sizes` says how many steps a block of each level has, the outermost first.
    """
    sizes = [n for n in sizes if 1 <= n < params["length"]]
    if not sizes:
        return bind(scan_p, *operands, **params)
    block = _computed_again(params["jaxpr"], tuple(sizes), *_counts(params))
    rest = lambda *xs, **p: scan_again(xs, sizes[1:], **p)
    return _in_blocks(operands, block, sizes[0], rest, params)


def _counts(params: dict[str, Any]) -> tuple[bool, int, int]:
    return params["reverse"], params["num_consts"], params["num_carry"]


def _in_blocks(
    operands: Sequence[Any],
    block: Jaxpr,
    size: int,
    run_rest: Callable[..., list[Any]],
    params: dict[str, Any],
) -> list[Any]:
    """Whole blocks by a scan of `block`, and the steps that are left by `run_rest`."""
    length, reverse = params["length"], params["reverse"]
    num_consts, num_carry = params["num_consts"], params["num_carry"]
    consts, carry, xs = cut(operands, num_consts, num_carry)
    count = length // size
    whole = count * size
    ys: dict[bool, list[Any]] = {}

    def run_blocks(carry: list[Any]) -> list[Any]:
        rows = [slice_axis(x, 0, 0, whole) for x in xs]
        blocks = [reshape(x, (count, size, *aval_of(x).shape[1:])) for x in rows]
        outs = bind(scan_p, *consts, *carry, *blocks, **{**params, "jaxpr": block, "length": count})
        carry, found = cut(outs, num_carry)
        ys[True] = [reshape(y, (whole, *aval_of(y).shape[2:])) for y in found]
        return carry

    def run_left(carry: list[Any]) -> list[Any]:
        rows = [slice_axis(x, 0, whole, length) for x in xs]
        outs = run_rest(*consts, *carry, *rows, **{**params, "length": length - whole})
        carry, ys[False] = cut(outs, num_carry)
        return carry

    parts = [run_blocks, run_left] if whole < length else [run_blocks]
    for part in reversed(parts) if reverse else parts:
        carry = part(carry)
    if whole == length:
        return [*carry, *ys[True]]
    return [*carry, *[concatenate(pair, 0) for pair in zip(ys[True], ys[False], strict=True)]]


def _block_avals(jaxpr: Jaxpr, size: int, num_consts: int, num_carry: int) -> list[Aval]:
    """What a block of steps takes."""
    fixed, xs = cut(jaxpr.in_avals, num_consts + num_carry)
    return [*fixed, *[stacked(size, a) for a in xs]]


@derived
def _unrolled_block(
    jaxpr: Jaxpr, size: int, reverse: bool, num_consts: int, num_carry: int
) -> Jaxpr:
    def walk(*args: Any) -> list[Any]:
        return _written_out(jaxpr, args, size, reverse, num_consts, num_carry)

    return simplify(stage_walk(walk, _block_avals(jaxpr, size, num_consts, num_carry), "scan"))


def _written_out(
    jaxpr: Jaxpr,
    operands: Sequence[Any],
    length: int,
    reverse: bool,
    num_consts: int,
    num_carry: int,
) -> list[Any]:
    """Each step by equations of its own."""
    consts, carry, xs = cut(operands, num_consts, num_carry)
    rows: list[list[Any]] = []
    for k in reversed(range(length)) if reverse else range(length):
        slices = [reshape(slice_axis(x, 0, k, k + 1), aval_of(x).shape[1:]) for x in xs]
        carry, ys = cut(eval_jaxpr(jaxpr, [*consts, *carry, *slices]), num_carry)
        rows.append([broadcast_at(y, 1, 0) for y in ys])
    columns = zip(*(reversed(rows) if reverse else rows), strict=True)
    return [*carry, *[concatenate(column, 0) for column in columns]]


@derived
def _computed_again(
    jaxpr: Jaxpr, sizes: tuple[int, ...], reverse: bool, num_consts: int, num_carry: int
) -> Jaxpr:
    params = {
        "jaxpr": jaxpr,
        "length": sizes[0],
        "reverse": reverse,
        "num_consts": num_consts,
        "num_carry": num_carry,
    }
    avals = _block_avals(jaxpr, sizes[0], num_consts, num_carry)
    inner = stage_walk(lambda *xs: scan_again(xs, sizes[1:], **params), avals, "scan")
    return checkpointed(simplify(inner))
