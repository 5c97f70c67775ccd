"""Products put off: a sum of products over the steps of a loop is one product over all steps.

The cotangent of a matrix that a loop multiplies by is a sum, over the steps, of products of thin
matrices. Added up step by step, the whole sum is read and written each time; put off to the end,
the factors are noted, and one long product contracts over the steps too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from functrans.control.bodies import cut
from functrans.ir import Atom, Aval, Eqn, Jaxpr, Var, aval_of, prune
from functrans.primitives.contraction import dot_general, dot_general_p
from functrans.primitives.derive import add_all
from functrans.primitives.elementwise import add_p
from functrans.primitives.structural import reshape, transpose, transpose_p

LEAST = 512
"""A sum of fewer elements may stay in registers or in the fastest cache."""
MOST_BYTES = 1 << 26
"""No more than this is noted for one sum."""

Axes = tuple[int, ...]


class Product(NamedTuple):
    """A product whose factors are rows of what a scan takes (`xs`) or notes (`ys`), by place."""

    factors: tuple[tuple[str, int], tuple[str, int]]
    contract: tuple[Axes, Axes]
    batch: tuple[Axes, Axes]
    perm: Axes | None


class PutOff(NamedTuple):
    """A body less the sums that are put off, with the factors noted as its last ys.

    `sums` has the products for each sum, or None where it stays.
    """

    jaxpr: Jaxpr
    sums: tuple[tuple[Product, ...] | None, ...]


def put_off(jaxpr: Jaxpr, num_consts: int, num_kept: int, num_sums: int, length: int) -> PutOff:
    """const* kept* sum* x* -> kept* sum* y*, whose sums are products added up, less these."""
    consts, kept, sums, xs = cut(jaxpr.invars, num_consts, num_kept, num_sums)
    kept_outs, sum_outs, ys = cut(jaxpr.outvars, num_kept, num_sums)
    work = _Finder(jaxpr, consts, xs, length)
    found = [work.products(a, b) for a, b in zip(sums, sum_outs, strict=True)]
    if not any(found):
        return PutOff(jaxpr, (None,) * num_sums)
    stays = [p is None for p in found]
    staying = lambda items: [x for x, flag in zip(items, stays, strict=True) if flag]
    outs = [*kept_outs, *staying(sum_outs), *ys, *work.noted]
    invars = [*consts, *kept, *staying(sums), *xs]
    made = Jaxpr(invars, prune(jaxpr.eqns, outs), outs)
    made.simple = jaxpr.simple
    return PutOff(made, tuple(found))


class _Finder:
    """Finds the sums of a body that are products, and the factors that must be noted for them."""

    def __init__(self, jaxpr: Jaxpr, consts: list[Var], xs: list[Var], length: int) -> None:
        self.consts, self.xs, self.length = consts, xs, length
        self.makers = {v: eqn for eqn in jaxpr.eqns for v in eqn.outputs}
        self.reads: dict[Atom, int] = {}
        for atom in [a for eqn in jaxpr.eqns for a in eqn.inputs] + jaxpr.outvars:
            self.reads[atom] = self.reads.get(atom, 0) + 1
        self.noted: list[Var] = []

    def products(self, before: Var, after: Atom) -> tuple[Product, ...] | None:
        """The products that a step adds to a sum; None where it is not that, or not worth it."""
        terms = self._terms(after)
        if before.aval.size < LEAST or terms.count(before) != 1 or self.reads[before] != 1:
            return None
        found = [self._product(t) for t in terms if t is not before]
        if not found or any(f is None for f in found):
            return None
        factors = {a for eqn, _ in found for a in eqn.inputs}  # type: ignore[misc]
        fresh = [a for a in factors if a not in self.xs]
        noted_bytes = self.length * sum(_nbytes(a.aval) for a in fresh)
        if sum(a.aval.size for a in factors) > before.aval.size or noted_bytes > MOST_BYTES:
            return None
        if any(not isinstance(a, Var) or a in self.consts for a in fresh):
            return None  # the same at every step
        return tuple(self._noted(*f) for f in found)  # type: ignore[misc]

    def _terms(self, atom: Atom) -> list[Atom]:
        eqn = self.makers.get(atom)  # type: ignore[arg-type]
        if eqn is None or eqn.primitive is not add_p or self.reads[atom] != 1:
            return [atom]
        return [t for a in eqn.inputs for t in self._terms(a)]

    def _product(self, atom: Atom) -> tuple[Eqn, Axes | None] | None:
        """The equation of a product, and how its result is permuted."""
        eqn, perm = self.makers.get(atom), None  # type: ignore[arg-type]
        if eqn is not None and eqn.primitive is transpose_p:
            eqn, perm = self.makers.get(eqn.inputs[0]), eqn.params["perm"]  # type: ignore[arg-type]
        return None if eqn is None or eqn.primitive is not dot_general_p else (eqn, perm)

    def _noted(self, eqn: Eqn, perm: Axes | None) -> Product:
        places = [self._place(a) for a in eqn.inputs]
        params = eqn.params
        return Product((places[0], places[1]), params["contract"], params["batch"], perm)

    def _place(self, atom: Any) -> tuple[str, int]:
        if atom in self.xs:
            return "xs", self.xs.index(atom)
        if atom not in self.noted:
            self.noted.append(atom)
        return "ys", self.noted.index(atom)


def _nbytes(aval: Aval) -> int:
    return aval.size * aval.dtype.itemsize


def done_at_once(products: Sequence[Product], xs: Sequence[Any], ys: Sequence[Any]) -> Any:
    """What a sum that was put off comes to."""
    rows = {"xs": xs, "ys": ys}
    parts = [_product(p, *[rows[which][i] for which, i in p.factors]) for p in products]
    return add_all(parts)


def _product(product: Product, x: Any, y: Any) -> Any:
    """The product over all steps, which lie along the first axis of both factors."""
    contract, batch = product.contract, product.batch
    if contract == ((0,), (0,)) and batch == ((), ()):
        out = dot_general(*map(_merged, (x, y)), contract=contract, batch=batch)
    else:
        out = dot_general(
            x,
            y,
            contract=((0, *_after(contract[0])), (0, *_after(contract[1]))),
            batch=(_after(batch[0]), _after(batch[1])),
        )
    return out if product.perm is None else transpose(out, product.perm)


def _after(axes: Axes) -> Axes:
    return tuple(a + 1 for a in axes)


def _merged(x: Any) -> Any:
    """The first two axes as one."""
    shape = aval_of(x).shape
    return reshape(x, (shape[0] * shape[1], *shape[2:]))
