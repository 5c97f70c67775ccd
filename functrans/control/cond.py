"""The cond primitive: one of several programs runs, which one an integer says.

    cond[branches] index operand*  ->  result*

`index` is an integer scalar, clamped to the range of the branches; all of these take the operands
and give results of the same types. Branches capture nothing: what they capture is an operand.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

from functrans.bind import bind, eval_jaxpr
from functrans.control.bodies import (
    Join,
    Mask,
    Visit,
    chosen,
    cut,
    either,
    others,
    reads,
    require_types,
    restricted,
    spread,
    with_zeros,
    without_inputs,
)
from functrans.control.keeping import keep
from functrans.control.scan import scan_p
from functrans.errors import ShapeError
from functrans.ir import (
    Atom,
    Aval,
    Effect,
    Eqn,
    Jaxpr,
    Linear,
    Literal,
    MappedAxis,
    Primitive,
    Var,
    aval_of,
    inlined,
    jaxprs_in,
)
from functrans.primitives import elementwise as e
from functrans.primitives.derive import full, move_axis, provide
from functrans.primitives.structural import broadcast, select
from functrans.recording import stage_walk
from functrans.transforms.batching import Dims, batch_jaxpr
from functrans.transforms.cache import derived
from functrans.transforms.jvp import jvp_jaxpr
from functrans.transforms.partial_eval import partial_eval_jaxpr
from functrans.transforms.series import Curve
from functrans.transforms.simplify import simplify
from functrans.transforms.taylor import Coefficients, orders_of, packed, taylor_jaxpr, unpacked
from functrans.transforms.transpose import transpose_jaxpr

Branches = tuple[Jaxpr, ...]

# -- meaning ------------------------------------------------------------------------------------


def cond_abstract_eval(index: Aval, *operands: Aval, branches: Branches) -> list[Aval]:
    if index.shape != () or index.dtype.kind not in "iu":
        raise ShapeError(f"cond: the index must be an integer scalar, not {index}")
    first = branches[0]
    for branch in branches:
        require_types("cond", "the operands are", operands, branch.in_avals)
        require_types("cond", "a branch gives", branch.out_avals, first.out_avals)
    return first.out_avals


def cond_impl(index: Any, *operands: Any, branches: Branches) -> list[Any]:
    return eval_jaxpr(branches[min(max(int(index), 0), len(branches) - 1)], operands)


def cond_effects(*, branches: Branches) -> Effect:
    return Effect.strongest(branch.effect for branch in branches)


# -- derivatives --------------------------------------------------------------------------------


def cond_jvp(
    primals: list[Any], tangents: list[Any], *, branches: Branches
) -> tuple[list[Any], list[Any]]:
    """The cond of the branches' jvps; a result moves where any branch moves it."""
    nonzero = tuple(t is not None for t in tangents[1:])
    pushed = [jvp_jaxpr(b, nonzero) for b in branches]
    wanted = reduce(either, [found for _, found in pushed])
    outs = branches[0].out_avals
    avals = (*outs, *chosen(outs, wanted))
    filled = tuple(
        with_zeros(j, ((True,) * len(outs) + tuple(chosen(found, wanted))), avals)
        for j, found in pushed
    )
    given = [t for t in tangents if t is not None]
    results = bind(cond_p, *primals, *given, branches=filled)
    return results[: len(outs)], spread(results[len(outs) :], wanted)


def cond_transpose(cts: list[Any], index: Any, *operands: Any, branches: Branches) -> list[Any]:
    """The cond of the transposed branches; an operand has a cotangent where any branch has."""
    linear = tuple(isinstance(o, Linear) for o in operands)
    turned = [transpose_jaxpr(b, linear, (True,) * len(cts)) for b in branches]
    wanted = reduce(either, [found for _, found in turned])
    avals = tuple(chosen([o.aval for o in chosen(operands, linear)], wanted))
    filled = tuple(with_zeros(j, tuple(chosen(found, wanted)), avals) for j, found in turned)
    results = bind(cond_p, index, *others(operands, linear), *cts, branches=filled)
    return [None, *spread(spread(results, wanted), linear)]


def cond_taylor(
    curve: Curve, coefficients: list[Coefficients], *, branches: Branches
) -> list[Coefficients]:
    """The cond of the branches' Taylor jaxprs; a result has what coefficients any branch gives."""
    (index, *_), *operands = coefficients
    given = orders_of(operands)
    wanted = reduce(either, [taylor_jaxpr(b, curve, given)[1] for b in branches])
    pushed = tuple(taylor_jaxpr(b, curve, given, wanted)[0] for b in branches)
    return unpacked(bind(cond_p, index, *packed(operands), branches=pushed), wanted, curve)


# -- partial evaluation -------------------------------------------------------------------------


class _Split(NamedTuple):
    """Branches in two: known operands to known results and `noted` values, which the branches that
    wait take behind the known operands that `read` marks and before the unknown ones."""

    known: Branches
    waiting: Branches
    read: Mask
    noted: tuple[Aval, ...]
    out_unknown: Mask


def cond_partial_eval(eqn: Eqn, unknown: tuple[bool, ...]) -> tuple[list[Eqn], list[Eqn]]:
    """With a known index, a cond of what is known and one of what waits, on the same branch."""
    index, *operands = eqn.inputs
    flags = unknown[1:]
    if unknown[0]:
        return [], [eqn]
    split = _split_branches(eqn.params["branches"][0], eqn.params["branches"], flags)
    noted = [Var(a) for a in split.noted]
    known_in, known_out = others(operands, flags), others(eqn.outputs, split.out_unknown)
    now = Eqn(
        cond_p, [index, *known_in], [*known_out, *noted], {"branches": split.known}, eqn.source
    )
    waiting_in = [index, *chosen(known_in, split.read), *noted, *chosen(operands, flags)]
    waiting_out = chosen(eqn.outputs, split.out_unknown)
    later = Eqn(cond_p, waiting_in, waiting_out, {"branches": split.waiting}, eqn.source)
    acts = bool(now.outputs) or now.effect is not Effect.NONE
    return [now] * acts, [later]


@derived
def _split_branches(first: Jaxpr, branches: Branches, unknown: Mask) -> _Split:
    out_unknown = reduce(either, [partial_eval_jaxpr(b, unknown).out_unknown for b in branches])
    splits = [partial_eval_jaxpr(b, unknown, out_unknown) for b in branches]
    kept = []
    for split in splits:
        known = split.known
        needed = split.waiting.invars[: split.num_residuals]
        free = dict.fromkeys(known.invars, 0)
        kept.append(keep(known.eqns, known.invars, needed, free))
    noting = [
        others(k.values, [v in s.known.invars for v in k.values])
        for k, s in zip(kept, splits, strict=True)
    ]
    slots, places = _shared_slots([[v.aval for v in vs] for vs in noting])
    read = reduce(
        either,
        [[v in k.values for v in s.known.invars] for k, s in zip(kept, splits, strict=True)],
    )
    known, waiting = [], []
    for split, k, values, own in zip(splits, kept, noting, places, strict=True):
        results, _ = cut(split.known.outvars, len(split.known.outvars) - split.num_residuals)
        _, unknowns = cut(split.waiting.invars, split.num_residuals)
        by_slot = dict(zip(own, values, strict=True))
        present = (*[True] * len(results), *[i in by_slot for i in range(len(slots))])
        outs = [*results, *[by_slot[i] for i in sorted(by_slot)]]
        avals = (*[a.aval for a in results], *slots)
        part = Jaxpr(split.known.invars, split.known.eqns, outs)
        known.append(simplify(with_zeros(part, present, avals)))
        noted = [by_slot.get(i) or Var(a) for i, a in enumerate(slots)]
        inputs = [*chosen(split.known.invars, read), *noted, *unknowns]
        body = Jaxpr(inputs, [*k.again, *split.waiting.eqns], split.waiting.outvars)
        waiting.append(simplify(body, collect=True))
    return _Split(tuple(known), tuple(waiting), tuple(read), tuple(slots), out_unknown)


def _shared_slots(wanted: Sequence[Sequence[Aval]]) -> tuple[list[Aval], list[list[int]]]:
    """Slots for the values that branches note: only one branch runs, so that they share."""
    slots: list[Aval] = []
    places: list[list[int]] = []
    for avals in wanted:
        own: list[int] = []
        for aval in avals:
            strong = aval.strengthen()
            free = (i for i, a in enumerate(slots) if a == strong and i not in own)
            place = next(free, len(slots))
            if place == len(slots):
                slots.append(strong)
            own.append(place)
        places.append(own)
    return slots, places


# -- batching -----------------------------------------------------------------------------------


def cond_batch(
    axis: MappedAxis, operands: list[Any], dims: list[int | None], *, branches: Branches
) -> tuple[list[Any], list[int | None]]:
    """With one index for all members, a cond of batched branches; else all, and a choice.

    Where branches have effects, or indices that may be out of bounds, each member runs its own
    branch alone, one after the other.
    """
    index, *given = operands
    if dims[0] is None:
        batched, out_dims = _batched(branches, axis, tuple(dims[1:]))
        return bind(cond_p, index, *given, branches=batched), list(out_dims)
    if cond_effects(branches=branches) is not Effect.NONE or any(map(_may_raise, branches)):
        outs = _one_by_one(axis, operands, dims, branches)
        return outs, [0] * len(outs)
    every = (True,) * len(branches[0].outvars)
    results = [eval_jaxpr(batch_jaxpr(b, axis, tuple(dims[1:]), every)[0], given) for b in branches]
    outs = [choose(index, list(cases)) for cases in zip(*results, strict=True)]
    return outs, [0] * len(outs)


def _may_raise(jaxpr: Jaxpr) -> bool:
    """Is there an index that must lie inside of its axis?"""
    return any(
        eqn.params.get("mode") == "raise" or any(map(_may_raise, jaxprs_in(eqn.params)))
        for eqn in jaxpr.eqns
    )


def _one_by_one(
    axis: MappedAxis, operands: list[Any], dims: list[int | None], branches: Branches
) -> list[Any]:
    """A scan over the members, whose step is the cond."""
    mapped = tuple(d is not None for d in dims)
    slices = [move_axis(x, d, 0) for x, d in zip(operands, dims, strict=True) if d is not None]
    consts = others(operands, mapped)

    def step(*args: Any) -> list[Any]:
        same, own = iter(args[: len(consts)]), iter(args[len(consts) :])
        return bind(cond_p, *[next(own if m else same) for m in mapped], branches=branches)

    avals = [*map(aval_of, consts), *[Aval(a.shape[1:], a.dtype) for a in map(aval_of, slices)]]
    return bind(
        scan_p,
        *consts,
        *slices,
        jaxpr=simplify(stage_walk(step, avals, "vmap")),
        length=axis.size,
        reverse=False,
        num_consts=len(consts),
        num_carry=0,
    )


def _batched(branches: Branches, axis: MappedAxis, dims: Dims) -> tuple[Branches, Dims]:
    mapped = [tuple(d is not None for d in batch_jaxpr(b, axis, dims)[1]) for b in branches]
    front = reduce(either, mapped)
    return (
        tuple(batch_jaxpr(b, axis, dims, front)[0] for b in branches),
        tuple(0 if m else None for m in front),
    )


def choose(index: Any, cases: list[Any]) -> Any:
    """For each member, the case that its index names, clamped; the members lie along axis 0."""
    out = cases[-1]
    aval = aval_of(out)
    for i in range(len(cases) - 2, -1, -1):
        bound = full(i, aval_of(index))
        below = e.le(index, bound)
        spread_out = broadcast(below, aval.shape, tuple(range(1, aval.ndim)))
        out = select(spread_out, cases[i], out)
    return out


def cond_follow(visit: Visit, join: Join, values: list[Any], *, branches: Branches) -> list[Any]:
    found = [visit(b, values[1:]) for b in branches]
    return [reduce(join, column) for column in zip(*found, strict=True)]


# -- what nobody uses ---------------------------------------------------------------------------


def cond_narrow(eqn: Eqn, used: Mask) -> tuple[list[Eqn], dict[Var, Atom]]:
    """The cond without dead results and operands; with a known index, the branch itself."""
    index, *operands = eqn.inputs
    branches: Branches = eqn.params["branches"]
    if isinstance(index, Literal):
        which = min(max(int(index.value), 0), len(branches) - 1)
        eqns, results = inlined(branches[which], operands, eqn.source)
        pairs = list(zip(eqn.outputs, results, used, strict=True))
        if all(r.aval == v.aval for v, r, u in pairs if u):
            return eqns, {v: r for v, r, u in pairs if u}
    found = _narrowed(branches[0], branches, used)
    same = {
        v: operands[i]
        for v, i in zip(eqn.outputs, found.passed, strict=True)
        if i is not None and operands[i].aval == v.aval
    }
    if found.branches == branches:
        return [eqn], same
    outputs = chosen(eqn.outputs, used)
    inputs = [index, *chosen(operands, found.read)]
    return [Eqn(cond_p, inputs, outputs, {"branches": found.branches}, eqn.source)], same


class _Narrowed(NamedTuple):
    """Branches without what nobody uses, which operands they read, and for each old result the
    operand that it is in every branch, if it is one."""

    branches: Branches
    read: Mask
    passed: tuple[int | None, ...]


@derived
def _narrowed(first: Jaxpr, branches: Branches, used: Mask) -> _Narrowed:
    whole = [simplify(b) for b in branches]
    parts = [simplify(restricted(b, used)) for b in whole]
    read = reduce(either, map(reads, parts))
    passed: list[int | None] = []
    for i, flag in enumerate(used):
        places = {_place(b.outvars[i], b.invars) for b in whole}
        passed.append(places.pop() if flag and len(places) == 1 else None)
    if all((*used, *read)):
        return _Narrowed(tuple(whole), read, tuple(passed))
    return _Narrowed(tuple(without_inputs(b, read) for b in parts), read, tuple(passed))


def _place(atom: Atom, among: list[Var]) -> int | None:
    return next((i for i, v in enumerate(among) if v is atom), None)


cond_p = provide(
    Primitive(
        name="cond",
        abstract_eval=cond_abstract_eval,
        impl=cond_impl,
        jvp=cond_jvp,
        transpose=cond_transpose,
        batch=cond_batch,
        partial_eval=cond_partial_eval,
        taylor=cond_taylor,
        follow=cond_follow,
        narrow=cond_narrow,
        effects=cond_effects,
        cheap=False,
    )
)
