"""Stepping: what whiles and sweeps are made of, what they mean, and how NumPy runs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from functrans.bind import eval_jaxpr
from functrans.control.bodies import cut, require_types
from functrans.errors import ShapeError
from functrans.ir import Aval, Effect, Jaxpr, MappedAxis
from functrans.transforms.batching import Dims, batch_jaxpr


class Pass(NamedTuple):
    """One pass over the steps: its program, which way it goes, and how many of its own inputs."""

    jaxpr: Jaxpr
    reverse: bool
    num_consts: int
    num_carry: int


@dataclass
class Parts:
    """The operands of a sweep, or anything there is one of for each, by what they are."""

    cond_consts: list[Any]
    body_consts: list[Any]
    carry: list[Any]
    passes: list[tuple[list[Any], list[Any]]]

    @property
    def flat(self) -> list[Any]:
        own = [x for pair in self.passes for group in pair for x in group]
        return [*self.cond_consts, *self.body_consts, *self.carry, *own]

    @property
    def carries(self) -> list[list[Any]]:
        """The while's carry and then each pass's: what there is a result for each of."""
        return [self.carry, *[carry for _, carry in self.passes]]


class Sweep(NamedTuple):
    """The params of a sweep; those of a while are the same, without passes."""

    cond: Jaxpr
    body: Jaxpr
    num_cond_consts: int
    num_body_consts: int
    num_carry: int
    passes: tuple[Pass, ...] = ()
    lanes: int | None = None
    dims: Dims | None = None

    @property
    def params(self) -> dict[str, Any]:
        return self._asdict()

    def cut(self, items: Sequence[Any]) -> Parts:
        """One item for each operand, by what the operand is."""
        own = [n for p in self.passes for n in (p.num_consts, p.num_carry)]
        groups = cut(items, self.num_cond_consts, self.num_body_consts, self.num_carry, *own)
        assert not groups[-1], "a sweep has an operand too many"
        passes = list(zip(groups[3:-1:2], groups[4:-1:2], strict=True))
        return Parts(groups[0], groups[1], groups[2], passes)

    def cut_results(self, items: Sequence[Any]) -> list[list[Any]]:
        """One item for each result: the while's carry, then each pass's."""
        return cut(items, self.num_carry, *[p.num_carry for p in self.passes])[:-1]

    @property
    def widths(self) -> list[int]:
        """How many values each step notes: the carry, s, then the e of each pass."""
        emitted = [len(p.jaxpr.outvars) - p.num_carry for p in self.passes]
        return [self.num_carry, len(self.body.outvars) - self.num_carry, *emitted]

    @property
    def jaxprs(self) -> list[Jaxpr]:
        return [self.cond, self.body, *[p.jaxpr for p in self.passes]]


# -- meaning ------------------------------------------------------------------------------------


def abstract_eval(*avals: Aval, **params: Any) -> list[Aval]:
    sweep = Sweep(**params)
    dims = sweep.dims or (None,) * len(avals)
    parts = sweep.cut([_lane_of(a, sweep.lanes, d) for a, d in zip(avals, dims, strict=True)])
    after, noted = cut(sweep.body.out_avals, sweep.num_carry)
    require_types("while", "cond gets", [*parts.cond_consts, *parts.carry], sweep.cond.in_avals)
    require_types("while", "body gets", [*parts.body_consts, *parts.carry], sweep.body.in_avals)
    require_types("while", "body leaves", after, parts.carry)
    if [(a.shape, a.dtype.kind) for a in sweep.cond.out_avals] != [((), "b")]:
        raise ShapeError(f"while: cond must give one boolean, not {sweep.cond.out_avals}")
    results, history = after, [*after, *noted]
    for each, (consts, carry) in zip(sweep.passes, parts.passes, strict=True):
        require_types("sweep", "a pass gets", [*consts, *carry, *history], each.jaxpr.in_avals)
        left, noted = cut(each.jaxpr.out_avals, each.num_carry)
        require_types("sweep", "a pass leaves", left, carry)
        results, history = [*results, *left], [*history, *noted]
    if sweep.lanes is None:
        return results
    return [Aval((sweep.lanes, *a.shape), a.dtype) for a in results]


def _lane_of(aval: Aval, lanes: int | None, dim: int | None) -> Aval:
    if dim is None:
        return aval
    if dim != 0 or not aval.shape or aval.shape[0] != lanes:
        raise ShapeError(f"while: {aval} has no first axis of {lanes} lanes")
    return Aval(aval.shape[1:], aval.dtype)


def impl(*operands: Any, **params: Any) -> list[Any]:
    """Loops in Python; lanes go in step through the batched programs."""
    sweep = Sweep(**params)
    if sweep.lanes is None:
        return run(sweep, sweep.cut(operands))
    assert sweep.dims is not None
    if effects(**params) is Effect.NONE:
        return _run_lanes(sweep, sweep.cut(operands), sweep.cut(sweep.dims), sweep.lanes)
    return _run_lane_by_lane(sweep, operands, sweep.dims, sweep.lanes)


def run(sweep: Sweep, parts: Parts) -> list[Any]:
    """One lane."""
    carry = parts.carry
    noting = bool(sweep.passes)
    history: list[list[Any]] = []
    while bool(eval_jaxpr(sweep.cond, [*parts.cond_consts, *carry])[0]):
        before = carry
        carry, noted = cut(eval_jaxpr(sweep.body, [*parts.body_consts, *carry]), sweep.num_carry)
        if noting:
            history.append([*before, *noted])
    results = carry
    for each, (consts, carry) in zip(sweep.passes, parts.passes, strict=True):
        for step in reversed(history) if each.reverse else history:
            outs = eval_jaxpr(each.jaxpr, [*consts, *carry, *step])
            carry, noted = cut(outs, each.num_carry)
            step += noted
        results = [*results, *carry]
    return results


def _run_lanes(sweep: Sweep, parts: Parts, dims: Parts, lanes: int) -> list[Any]:
    """All lanes at once. A lane that has stopped computes what one that has not does: never what
    its own condition kept it from, such as an index out of bounds."""
    lockstep = _Lockstep(lanes)
    carry = lockstep.whole(parts.carry, dims.carry)
    history: list[tuple[Any, list[Any]]] = []
    active = lockstep.test(sweep.cond, parts.cond_consts, dims.cond_consts, carry)
    while active.any():
        before = carry
        carry, noted = lockstep.step(
            sweep.body, active, (parts.body_consts, dims.body_consts), carry, []
        )
        if sweep.passes:
            history.append((active, [*before, *noted]))
        active = active & lockstep.test(sweep.cond, parts.cond_consts, dims.cond_consts, carry)
    results = carry
    own = zip(sweep.passes, parts.passes, dims.passes, strict=True)
    for each, (consts, carry), (const_dims, carry_dims) in own:
        carry = lockstep.whole(carry, carry_dims)
        for active, step in reversed(history) if each.reverse else history:
            carry, noted = lockstep.step(each.jaxpr, active, (consts, const_dims), carry, step)
            step += noted
        results = [*results, *carry]
    return results


class _Lockstep:
    """Programs of one lane, run for all lanes together."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes

    def whole(self, values: list[Any], dims: list[int | None]) -> list[Any]:
        """The values with an axis of lanes."""
        pairs = zip(values, dims, strict=True)
        return [
            np.broadcast_to(x, (self.lanes, *np.shape(x))) if d is None else x for x, d in pairs
        ]

    def test(self, cond: Jaxpr, consts: list[Any], dims: list[int | None], carry: list[Any]) -> Any:
        """For each lane, whether it goes on."""
        return np.asarray(self._all(cond, [*consts, *carry], [*dims, *[0] * len(carry)])[0])

    def step(
        self,
        jaxpr: Jaxpr,
        active: Any,
        consts: tuple[list[Any], list[int | None]],
        carry: list[Any],
        step: list[Any],
    ) -> tuple[list[Any], list[Any]]:
        """The carry, changed where a lane is active, and what else the program gives."""
        stand_in = np.where(active, np.arange(self.lanes), np.argmax(active))
        dims = [*consts[1], *[0] * (len(carry) + len(step))]
        pairs = zip([*consts[0], *carry, *step], dims, strict=True)
        given = [x if d is None else np.asarray(x)[stand_in] for x, d in pairs]
        after, noted = cut(self._all(jaxpr, given, dims), len(carry))
        kept = [
            np.where(active.reshape(-1, *[1] * (np.ndim(new) - 1)), new, old)
            for new, old in zip(after, carry, strict=True)
        ]
        return kept, noted

    def _all(self, jaxpr: Jaxpr, args: list[Any], dims: list[int | None]) -> list[Any]:
        every = (True,) * len(jaxpr.outvars)
        batched, _ = batch_jaxpr(jaxpr, MappedAxis(self.lanes), tuple(dims), every)
        return eval_jaxpr(batched, args)


def _run_lane_by_lane(sweep: Sweep, operands: Sequence[Any], dims: Dims, lanes: int) -> list[Any]:
    """One lane after the other, so that each has its own effects and no other."""
    results = [
        run(
            sweep,
            sweep.cut([x if d is None else x[k] for x, d in zip(operands, dims, strict=True)]),
        )
        for k in range(lanes)
    ]
    avals = sweep.body.out_avals[: sweep.num_carry]
    avals += [a for p in sweep.passes for a in p.jaxpr.out_avals[: p.num_carry]]
    columns: Iterator[Any] = zip(*results, strict=True) if lanes else iter([()] * len(avals))
    return [
        np.array(column, a.dtype).reshape(lanes, *a.shape)
        for column, a in zip(columns, avals, strict=True)
    ]


def effects(**params: Any) -> Effect:
    return Effect.strongest(jaxpr.effect for jaxpr in Sweep(**params).jaxprs)
