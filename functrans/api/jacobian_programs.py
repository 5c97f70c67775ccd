"""Programs of Jacobians: a function with its Jacobian, forward or reverse, over all unit vectors.

The Jacobian of a Jacobian is one such program made of another: a Hessian is forward over reverse.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, islice
from typing import Any, NamedTuple, TypeVar

import numpy as np

from functrans.api.border import conform, run, zeros
from functrans.api.gradient_programs import transposed_tangent
from functrans.bind import eval_jaxpr
from functrans.control.steps import in_steps
from functrans.ir import Aval, Jaxpr, MappedAxis
from functrans.ir.aval import Shape
from functrans.primitives import structural
from functrans.primitives.derive import full
from functrans.recording import stage_walk
from functrans.transforms.batching import batch_jaxpr
from functrans.transforms.cache import derived
from functrans.transforms.linearize import Linearized, linearize_jaxpr
from functrans.transforms.simplify import simplify

T = TypeVar("T")
Flags = tuple[bool, ...]
Types = tuple[tuple[Shape, np.dtype[Any]], ...]


class Jacobian(NamedTuple):
    """A function with its Jacobian, of its first results with respect to some of its inputs.

    program : inputs and unit vectors -> the blocks that are not zero, then the other results.
    `units` are the types of the values whose unit vectors it takes, group by group. A block has the
    shape of the result followed by that of the input; there is a row of them for each result, with
    one for each input. `given` says which are not zero, `is_whole` that none is.
    """

    program: Jaxpr
    units: tuple[Types, ...]
    blocks: tuple[tuple[Aval, ...], ...]
    given: tuple[Flags, ...]
    is_whole: bool

    def run(self, inputs: Sequence[Any]) -> tuple[list[list[Any]], Iterator[Any]]:
        """All blocks, row by row, and the other results of the function."""
        found = iter(run(self.program, [*inputs, *chain(*map(unit_vectors, self.units))]))
        return self.rows(found), found

    def rows(self, found: Iterator[Any]) -> list[list[Any]]:
        """All blocks, row by row, from the results of the program."""
        if self.is_whole:
            return [list(islice(found, len(row))) for row in self.blocks]
        return [
            [next(found) if flag else zeros(aval) for aval, flag in zip(row, flags, strict=True)]
            for row, flags in zip(self.blocks, self.given, strict=True)
        ]


def _jacobian(
    program: Jaxpr,
    units: Sequence[Aval],
    blocks: Sequence[Sequence[Aval]],
    given: Sequence[Flags],
) -> Jacobian:
    rows = tuple([tuple(row) for row in blocks])
    groups = (tuple([(a.shape, a.dtype) for a in units]),) if units else ()
    return Jacobian(simplify(program), groups, rows, tuple(given), all(map(all, given)))


@derived
def forward_jacobian(jaxpr: Jaxpr, active: Flags, count: int) -> Jacobian:
    """By columns: the derivative at each unit vector of the inputs that are `active`.

    `count` is how many of the results are differentiated; the unit vectors are those of the inputs.
    """
    linear = linearize_jaxpr(in_steps(jaxpr), active)
    in_avals = _marked(jaxpr.in_avals, active)
    has_columns = linear.out_nonzero[:count]
    columns = _at_once(linear.tangent, linear.num_residuals, in_avals)
    width = len(jaxpr.invars)

    def walk(*inputs: Any) -> list[Any]:
        outs, residuals = _primal(linear, jaxpr, inputs[:width])
        moved = iter(eval_jaxpr(columns, [*residuals, *inputs[width:]]))
        blocks: list[Any] = []
        for aval in _marked(jaxpr.out_avals[:count], has_columns):
            parts = _parts(next(moved), in_avals)
            for part, by in zip(parts, in_avals, strict=True):
                last = structural.transpose(part, (*range(1, aval.ndim + 1), 0))
                blocks.append(structural.reshape(last, aval.shape + by.shape))
        return [*blocks, *outs[count:]]

    program = stage_walk(walk, [*jaxpr.in_avals, *_unit_avals(in_avals)], "jacfwd")
    blocks = [[Aval(y.shape + x.shape, y.dtype) for x in in_avals] for y in jaxpr.out_avals[:count]]
    return _jacobian(program, in_avals, blocks, [(flag,) * len(in_avals) for flag in has_columns])


@derived
def reverse_jacobian(jaxpr: Jaxpr, active: Flags, count: int) -> Jacobian:
    """By rows: the pullback of each unit vector of the first `count` results.

    The unit vectors are those of these results; where they are one number there are none to give.
    """
    linear = linearize_jaxpr(in_steps(jaxpr), active)
    in_avals, out_avals = _marked(jaxpr.in_avals, active), jaxpr.out_avals[:count]
    reached = linear.out_nonzero[:count]
    given = tuple([i < count for i, flag in enumerate(linear.out_nonzero) if flag])
    backward, nonzero = transposed_tangent(linear, active, given)
    alone = len(out_avals) == 1 and not out_avals[0].shape
    if not alone:
        backward = _at_once(backward, linear.num_residuals, out_avals)
    width = len(jaxpr.invars)

    def walk(*inputs: Any) -> list[Any]:
        outs, residuals = _primal(linear, jaxpr, inputs[:width])
        units = [full(1, out_avals[0])] if alone else inputs[width:]
        bars = eval_jaxpr(backward, [*residuals, *_marked(units, reached)])
        rows = [[bar] if alone else _parts(bar, out_avals) for bar in bars]
        blocks: list[Any] = []
        for i, aval in enumerate(out_avals):
            if not reached[i]:
                continue
            for row, by in zip(rows, _marked(in_avals, nonzero), strict=True):
                shape = aval.shape + by.shape
                blocks.append(conform(structural.reshape(row[i], shape), Aval(shape, by.dtype)))
        return [*blocks, *outs[count:]]

    units = [] if alone else out_avals
    program = stage_walk(walk, [*jaxpr.in_avals, *_unit_avals(units)], "jacrev")
    blocks = [[Aval(y.shape + x.shape, x.dtype) for x in in_avals] for y in out_avals]
    never = (False,) * len(in_avals)
    return _jacobian(program, units, blocks, [nonzero if flag else never for flag in reached])


@derived
def second_jacobian(jaxpr: Jaxpr, active: Flags, count: int) -> Jacobian:
    """Forward over reverse: a row for each block of the reverse Jacobian, result by result."""
    first = reverse_jacobian(jaxpr, active, count)
    others = len(first.program.invars) - len(active)
    wanted = sum(map(sum, first.given))
    second = forward_jacobian(first.program, (*active, *[False] * others), wanted)
    rows = iter(second.given)
    in_avals = _marked(jaxpr.in_avals, active)
    never = (False,) * len(in_avals)
    blocks: list[list[Aval]] = []
    given: list[Flags] = []
    for row, flags in zip(first.blocks, first.given, strict=True):
        for aval, flag in zip(row, flags, strict=True):
            blocks.append([Aval(aval.shape + x.shape, aval.dtype) for x in in_avals])
            given.append(next(rows) if flag else never)
    units = (*first.units, *second.units)
    whole = all(map(all, given))
    return Jacobian(second.program, units, tuple(map(tuple, blocks)), tuple(given), whole)


def unit_vectors(types: Types) -> list[np.ndarray[Any, Any]]:
    """For each value, an array whose first axis runs over the unit vectors of all of them.

    They are read-only; small ones are the same at each call.
    """
    total = sum([math.prod(shape) for shape, _ in types])
    return _kept(types) if total <= MOST_KEPT else _unit_vectors(types)


MOST_KEPT = 256
"""Unit vectors of so many elements are kept, half a megabyte of them at most."""


def _unit_vectors(types: Types) -> list[np.ndarray[Any, Any]]:
    sizes = [math.prod(shape) for shape, _ in types]
    total = sum(sizes)
    found: list[np.ndarray[Any, Any]] = []
    for (shape, dtype), size, start in zip(types, sizes, accumulate([0, *sizes]), strict=False):
        block = np.eye(total, size, -start, dtype=dtype).reshape(total, *shape)
        block.flags.writeable = False
        found.append(block)
    return found


_kept = functools.lru_cache(maxsize=64)(_unit_vectors)


# -- parts of the programs ----------------------------------------------------------------------


def _marked(values: Sequence[T], flags: Sequence[bool]) -> list[T]:
    return [x for x, flag in zip(values, flags, strict=True) if flag]


def _unit_avals(avals: Sequence[Aval]) -> list[Aval]:
    total = sum(a.size for a in avals)
    return [Aval((total, *a.shape), a.dtype) for a in avals]


def _primal(linear: Linearized, jaxpr: Jaxpr, inputs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The results of the function, and the residuals."""
    found = eval_jaxpr(linear.primal, inputs)
    return found[: len(jaxpr.outvars)], found[len(jaxpr.outvars) :]


def _at_once(jaxpr: Jaxpr, num_residuals: int, avals: Sequence[Aval]) -> Jaxpr:
    """A linear program, of residuals and values, over the unit vectors of values like `avals`."""
    axis = MappedAxis(sum(a.size for a in avals))
    mapped = len(jaxpr.invars) - num_residuals
    dims = (*[None] * num_residuals, *[0] * mapped)
    return batch_jaxpr(jaxpr, axis, dims, (True,) * len(jaxpr.outvars))[0]


def _parts(rows: Any, avals: Sequence[Aval]) -> list[Any]:
    """What belongs to each value, of rows for the unit vectors of all."""
    if len(avals) == 1:
        return [rows]
    ends = accumulate(a.size for a in avals)
    return [
        structural.slice_axis(rows, 0, end - a.size, end)
        for end, a in zip(ends, avals, strict=True)
    ]
