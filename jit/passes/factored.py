"""Systems, inverses and determinants of one matrix, or of its transpose, share its factors.

A system and its gradient are two systems, one of them with the transpose; a normal density has the
determinant beside. Only what LAPACK does is shared: matrices of a few rows are done in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from functrans.extend import Atom, Aval, Eqn, Var, primitives
from jit.factorisations import BY_FACTORS, is_of_lapack, name_of
from jit.lowering.factorising import factored_p
from jit.lowering.lapack import integers_of_lapack

pure_callback_p = primitives.callbacks.pure_callback_p
transpose_p = primitives.structural.transpose_p
SHARING = frozenset({"inverse", "solution", "sign_and_log", "determinant"})
WIDE = {"f": np.dtype(np.float64), "c": np.dtype(np.complex128)}
"""The dtypes that LAPACK computes in, by the kind of a dtype."""


class Member(NamedTuple):
    """An equation that may share, the matrices that it is of, and whether of their transposes."""

    eqn: Eqn
    root: Atom
    turned: bool

    @property
    def key(self) -> tuple[Atom, Any]:
        """Equal for those that share."""
        params = self.eqn.params
        return self.root, params["batch"] if params["mapped"][0] else ()


def factored_once(eqns: Sequence[Eqn]) -> list[Eqn]:
    """The same equations, where some share a matrix behind one that finds its factors."""
    makers = {out: eqn for eqn in eqns for out in eqn.outputs if eqn.primitive is transpose_p}
    members = {id(eqn): member_of(eqn, makers) for eqn in eqns if may_share(eqn)}
    counts: dict[Any, int] = {}
    for member in members.values():
        counts[member.key] = counts.get(member.key, 0) + 1
    factors: dict[Any, list[Var]] = {}
    found: list[Eqn] = []
    for eqn in eqns:
        member = members.get(id(eqn))
        if member is None or counts[member.key] < 2:
            found.append(eqn)
            continue
        if member.key not in factors:
            made = factors_of(member)
            factors[member.key] = list(made.outputs)
            found.append(made)
        found.append(by_factors(member, factors[member.key]))
    return found


def may_share(eqn: Eqn) -> bool:
    return eqn.primitive is pure_callback_p and is_of_lapack(eqn) and name_of(eqn) in SHARING


def member_of(eqn: Eqn, makers: dict[Var, Eqn]) -> Member:
    atom = eqn.inputs[0]
    turned = False
    while isinstance(atom, Var) and atom in makers and turns_matrices(makers[atom]):
        atom, turned = makers[atom].inputs[0], not turned
    return Member(eqn, atom, turned)


def turns_matrices(eqn: Eqn) -> bool:
    """Does a transposition exchange the last two axes and no others?"""
    ndim = eqn.outputs[0].aval.ndim
    rest = tuple(range(ndim - 2))
    return ndim >= 2 and tuple(eqn.params["perm"]) == (*rest, ndim - 1, ndim - 2)


def factors_of(member: Member) -> Eqn:
    """The factors of the matrices by columns, and their pivots with one number behind."""
    aval, (_, batch) = member.root.aval, member.key
    *lead, n, _ = aval.shape
    integers = np.dtype({"i32": np.int32, "i64": np.int64}[integers_of_lapack()])
    avals = [Aval(aval.shape, WIDE[aval.dtype.kind]), Aval((*lead, n + 1), integers)]
    members = [Aval(a.shape[len(batch) :], a.dtype) for a in avals]
    params = {
        "factorisation": "factors",
        "batch": batch,
        "mapped": (bool(batch),),
        "results": members,
    }
    return Eqn(factored_p, [member.root], [Var(a) for a in avals], params, member.eqn.source)


def by_factors(member: Member, factors: list[Var]) -> Eqn:
    """The equation from factors."""
    eqn, params = member.eqn, member.eqn.params
    first, *rest = params["mapped"]
    changed = {
        "factorisation": name_of(eqn) + BY_FACTORS,
        "turned": member.turned,
        "batch": params["batch"],
        "mapped": (first, first, *rest),
        "results": params["results"],
    }
    return Eqn(factored_p, [*factors, *eqn.inputs[1:]], eqn.outputs, changed, eqn.source)
