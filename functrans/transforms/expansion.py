"""Expansion: the series of any equation's results, derived from its jvp rule alone.

The jvp rule of a primitive y = f(x) states T(x; x_dot), a program itself, which says all there is
to say of higher orders too:

- T does not read the operands that move (f is linear in them, or picks and permutes: comparisons do
  not move):  y_k = T(x_0; x_k)
- f is bilinear:  y_k is the sum of f over the pairs of coefficients whose orders add up to k
  (and so for squares and quotients, whose records say that they are made of a product)
- else  y' = T(x; x'):  y_k = [T(x(t); x'(t))]_(k-1) / k

In the last case the equations of T have series in their turn, and an equation on operands that was
met before is the series that is there already. So exp finds itself in its derivative, sin finds cos
and cos finds sin: the classical recurrences of order^2 operations come about by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from functrans.bind import bind, bound_at, eval_jaxpr
from functrans.ir import (
    Aval,
    Effect,
    Elementwise,
    Eqn,
    Form,
    Jaxpr,
    Literal,
    Var,
    intern,
    is_inexact,
    prune,
    without_effects,
)
from functrans.primitives.derive import add_all, full_like
from functrans.primitives.elementwise import div, mul, reciprocal, square
from functrans.recording import stage_walk
from functrans.transforms.cache import derived
from functrans.transforms.jvp import Mask, jvp_jaxpr
from functrans.transforms.series import (
    Curve,
    Quotient,
    Row,
    Rows,
    Series,
    Value,
    given,
    scaled,
    square_row,
)
from functrans.transforms.simplify import simplify


class Expansion:
    """Expands equations into series, and finds again what it expanded before."""

    def __init__(self) -> None:
        self._known: dict[Hashable, list[Series]] = {}
        self._integrals: list[_Integral] = []
        self._depth = 0

    def settled(self, eqn: Eqn, operands: Sequence[Series], order: int) -> list[Series]:
        """The series of an equation of the program itself, each of whose effects takes place."""
        if eqn.effect is not Effect.NONE:
            self._known.pop(_key(eqn, operands), None)
        self._integrals.clear()
        return [series.settle(order) for series in self.equation(eqn, operands)]

    def prepare(self, k: int) -> None:
        """Make what row k of an equation of the program itself rests on, the deepest first.

        So Python's stack need not be as deep as the order.
        """
        for integral in reversed(self._integrals):
            integral.make(k)

    def equation(self, eqn: Eqn, operands: Sequence[Series]) -> list[Series]:
        """The series of an equation's results, found again where the same was expanded before."""
        return self._found(_key(eqn, operands), lambda: self._expanded(eqn, operands))

    def program(self, jaxpr: Jaxpr, inputs: Sequence[Series]) -> list[Series]:
        """The series of a program's results."""
        env: dict[Var, Series] = dict(zip(jaxpr.invars, inputs, strict=True))
        for eqn in jaxpr.eqns:
            with bound_at(eqn.source):
                outs = self.equation(eqn, [self.read(env, a) for a in eqn.inputs])
            env.update(zip(eqn.outputs, outs, strict=True))
        return [self.read(env, a) for a in jaxpr.outvars]

    def read(self, env: dict[Var, Series], atom: Var | Literal) -> Series:
        """The series of an atom; that of a literal has one coefficient."""
        if not isinstance(atom, Literal):
            return env[atom]
        (found,) = self._found((Literal, atom.key()), lambda: [given(atom.aval, [atom.value])])
        return found

    def slope(self, x: Series) -> Series:
        """x', whose coefficient k is (k + 1) x_(k+1)."""
        known = x.order
        moves = known is None or any(x[k] is not None for k in range(2, known + 1))
        rows = Rows(lambda k: [scaled(k + 1, x[k + 1])])
        (found,) = self._found(("slope", x), lambda: [Series(x.aval, rows, moves=moves)])
        return found

    def _found(self, key: Hashable, make: Callable[[], list[Series]]) -> list[Series]:
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = make()
        return found

    def _expanded(self, eqn: Eqn, operands: Sequence[Series]) -> list[Series]:
        moving = tuple(s.moves for s in operands)
        avals = [v.aval for v in eqn.outputs]
        rule = self._rule(eqn, operands, moving, lambda k: rows.at(k))
        rows = Rows(lambda k: _value(eqn, operands) if k == 0 or rule is None else rule(k))
        if eqn.effect is not Effect.NONE:
            rows.at(0)
        return [
            Series(a, rows, i, moves=rule is not None and is_inexact(a.dtype))
            for i, a in enumerate(avals)
        ]

    def _rule(
        self, eqn: Eqn, operands: Sequence[Series], moving: Mask, found: Callable[[int], Row]
    ) -> Callable[[int], Row] | None:
        """What makes the rows beyond the first, given those before; None where nothing moves."""
        if not any(moving) or not any(is_inexact(v.aval.dtype) for v in eqn.outputs):
            return None
        if eqn.primitive.taylor is not None:
            return lambda k: _row_by_record(eqn, operands, k)
        differential = Differential(eqn)
        along = differential.along(moving)
        if not any(along.nonzero):
            return None
        if along.affine:
            return lambda k: _affine_row(differential, operands, k)
        if eqn.primitive.is_bilinear:
            return lambda k: _product_row(differential, operands, k)
        match eqn.primitive.property:
            case Elementwise(form=Form.SQUARE):
                return lambda k: square_row(operands, k)
            case Elementwise(form=Form.QUOTIENT):
                return Quotient(operands, found).row
            case Elementwise(form=Form.POWER):
                (power,) = self.program(_power(eqn.inputs[0].aval, **eqn.params), operands)
                return lambda k: [power[k]]
            case _:
                return self._integral(differential, operands, moving, found)

    def _integral(
        self,
        differential: Differential,
        operands: Sequence[Series],
        moving: Mask,
        found: Callable[[int], Row],
    ) -> Callable[[int], Row]:
        made = _Integral(self, differential, operands, moving, found, self._depth)
        self._integrals.append(made)
        return made.row

    @contextmanager
    def one_deeper(self, depth: int) -> Generator[None]:
        """What is expanded in this block serves an integral at this depth."""
        outer, self._depth = self._depth, depth + 1
        try:
            yield
        finally:
            self._depth = outer


def _key(eqn: Eqn, operands: Sequence[Series]) -> Hashable:
    return (eqn.primitive, *operands, *sorted(eqn.params.items()))


@lru_cache(1024)
def _power(aval: Aval, *, exponent: int) -> Jaxpr:
    """x to a whole power, by squares and products, of 1 / x where it is negative."""

    def power(x: Value, n: int) -> Value:
        if n == 1:
            return x
        return mul(x, power(x, n - 1)) if n % 2 else square(power(x, n // 2))

    def walk(x: Value) -> Row:
        return [power(x if exponent > 0 else reciprocal(x), abs(exponent))]

    return simplify(stage_walk(walk, [aval], "taylor"))


def _value(eqn: Eqn, operands: Sequence[Series]) -> Row:
    if eqn.primitive.is_bilinear and any(s[0] is None for s in operands):
        return [None]
    return [*bind(eqn.primitive, *[s.value for s in operands], **eqn.params)]


# -- the derivative that the jvp rule of an equation states --------------------------------------


class Along(NamedTuple):
    """T of one equation for one choice of operands that move: (operands, tangents) -> tangents.

    `nonzero` says which results have one. `affine`: T does not read the operands that move. What
    only has an effect is left out: it takes place once, with the value.
    """

    program: Jaxpr
    nonzero: Mask
    affine: bool

    def __call__(self, operands: Sequence[Value], tangents: Sequence[Value]) -> Row:
        found = iter(eval_jaxpr(self.program, [*operands, *tangents]))
        return [next(found) if flag else None for flag in self.nonzero]


class Differential:
    """T of an equation, whose literals stay literals."""

    def __init__(self, eqn: Eqn) -> None:
        self.places = [i for i, a in enumerate(eqn.inputs) if not isinstance(a, Literal)]
        self._single = single(eqn)

    def along(self, moving: Mask) -> Along:
        """T where the operands marked move."""
        return _along(self._single, tuple(moving[i] for i in self.places))

    def values(self, operands: Sequence[Series]) -> list[Value]:
        """What stands first among the arguments of T: order 0."""
        return [operands[i].value for i in self.places]


def single(eqn: Eqn) -> Jaxpr:
    """The program that is this one equation; its inputs are the operands that are no literals."""
    inputs = [a if isinstance(a, Literal) else Var(a.aval) for a in eqn.inputs]
    outs = [Var(v.aval) for v in eqn.outputs]
    again = Eqn(eqn.primitive, inputs, outs, eqn.params, eqn.source)
    return intern(Jaxpr([a for a in inputs if isinstance(a, Var)], [again], outs))


@derived
def _along(jaxpr: Jaxpr, moving: Mask) -> Along:
    pushed, nonzero = jvp_jaxpr(jaxpr, moving)
    outs = pushed.outvars[len(nonzero) :]
    part = Jaxpr(pushed.invars, prune(pushed.eqns, outs), outs)
    program = simplify(without_effects(part))
    primals = zip(program.invars, moving, strict=False)
    return Along(program, nonzero, _is_affine(program, {v for v, flag in primals if flag}))


def _is_affine(program: Jaxpr, moving: set[Var]) -> bool:
    """Does no result change when the values in `moving` change a little?"""
    for eqn in program.eqns:
        if eqn.primitive.varies and not moving.isdisjoint(eqn.inputs):  # type: ignore[arg-type]
            moving.update(v for v in eqn.outputs if is_inexact(v.aval.dtype))
    return moving.isdisjoint(program.outvars)  # type: ignore[arg-type]


# -- the rows --------------------------------------------------------------------------------------


def _affine_row(differential: Differential, operands: Sequence[Series], k: int) -> Row:
    """y_k = T(x_0; x_k)."""
    coefficients = [s[k] for s in operands]
    moving = tuple(c is not None for c in coefficients)
    along = differential.along(moving)
    if not any(moving):
        return [None] * len(along.nonzero)
    return along(differential.values(operands), [c for c in coefficients if c is not None])


def _product_row(differential: Differential, operands: Sequence[Series], k: int) -> Row:
    """y_k is the sum of f(x_i, z_j) over i + j = k, as T along x and, where i is 0, along z."""
    x, z = operands
    by_x, by_z = differential.along((True, False)), differential.along((False, True))
    terms: Row = []
    for i in range(1, k + 1):
        first, second = x[i], z[k - i]
        if first is not None and second is not None:
            terms += by_x([x.value, second], [first])
    last = z[k]
    if x[0] is not None and last is not None:
        terms += by_z([x.value, z.value], [last])
    return [add_all(terms)]


class _Integral:
    """y_k = [T(x(t); x'(t))]_(k-1) / k, where T is expanded when it is first asked for."""

    def __init__(
        self,
        expansion: Expansion,
        differential: Differential,
        operands: Sequence[Series],
        moving: Mask,
        found: Callable[[int], Row],
        depth: int,
    ) -> None:
        self._expansion, self._differential = expansion, differential
        self._operands, self._moving = operands, moving
        self._found, self._depth = found, depth
        self._slopes: list[Series | None] | None = None

    def make(self, k: int) -> None:
        """Make the row that row k of an integral at depth 0 rests on: one less at each depth."""
        if 0 < self._depth <= k:
            self._found(k - self._depth)

    def row(self, k: int) -> Row:
        """y_k, for k > 0."""
        if self._depth == 0:
            self._expansion.prepare(k)
        if self._slopes is None:
            self._slopes = self._expanded()
        return [None if s is None else _over(s[k - 1], k) for s in self._slopes]

    def _expanded(self) -> list[Series | None]:
        along = self._differential.along(self._moving)
        primals = [self._operands[i] for i in self._differential.places]
        pairs = zip(self._operands, self._moving, strict=True)
        tangents = [self._expansion.slope(s) for s, flag in pairs if flag]
        with self._expansion.one_deeper(self._depth):
            found = iter(self._expansion.program(along.program, [*primals, *tangents]))
        return [next(found) if flag else None for flag in along.nonzero]


def _over(x: Value | None, divisor: int) -> Value | None:
    return x if x is None or divisor == 1 else div(x, full_like(x, divisor))


def _row_by_record(eqn: Eqn, operands: Sequence[Series], k: int) -> Row:
    """The rule of the record, on what is known of its operands so far."""
    rule = eqn.primitive.taylor
    assert rule is not None
    known = [[s.value, *[s[i] for i in range(1, k + 1)]] for s in operands]
    return [coefficients[k] for coefficients in rule(Curve(k), known, **eqn.params)]
