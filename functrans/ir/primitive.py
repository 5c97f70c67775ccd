"""Primitives: one frozen record holds everything true of an operation, as data and rules."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

from functrans.ir.aval import Aval

Params: TypeAlias = dict[str, Any]


class Effect(enum.Enum):
    """What an equation does besides computing its results."""

    NONE = "none"
    UNORDERED = "unordered"
    ORDERED = "ordered"

    @staticmethod
    def strongest(effects: Iterable[Effect]) -> Effect:
        """What all of these do together."""
        found = set(effects)
        return next((e for e in (Effect.ORDERED, Effect.UNORDERED) if e in found), Effect.NONE)


class Linear:
    """Stands, in a transpose rule, for an operand that the operation is linear in."""

    __slots__ = ("aval",)

    def __init__(self, aval: Aval) -> None:
        self.aval = aval


class MappedAxis(NamedTuple):
    """The axis that a batching walk maps over: how many members, and its name if it has one."""

    size: int
    name: Any = None


class Form(enum.Enum):
    """What an elementwise function has to do with the product, up to 0 times infinity."""

    PRODUCT = "x y"
    SQUARE = "x x"
    QUOTIENT = "x / y, or 1 / y for one operand"
    POWER = "x to the power of the param `exponent`, a whole number"


class Elementwise(NamedTuple):
    """Property: the same scalar function at every position.

    `partials(out, *operands)` gives one derivative per operand: an array, 1, -1 or None (zero
    everywhere); no `partials` at all says that the derivative is zero, or written by hand
    (`by_hand`). `form` says that it is a product or made of one.
    """

    partials: Callable[..., Sequence[Any]] | None
    by_hand: bool = False
    form: Form | None = None


class LinearIn(NamedTuple):
    """Property: jointly linear in the operands at `operands` (None: in all of them)."""

    operands: tuple[int, ...] | None = None


class Bilinear:
    """Property: linear in each of its two operands separately."""


class Reduction(NamedTuple):
    """Property: folds `axes` with a monoid ("add", "mul", "max", "min", "and", "or")."""

    monoid: str


class Collective:
    """Property: talks to the other members of a mapped axis named by param `axis_name`."""


Property: TypeAlias = Elementwise | LinearIn | Bilinear | Reduction | Collective | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Primitive:
    """Everything true of one operation. Arrays positional, params keyword-only, lists out.

    abstract_eval : (*avals, **params) -> [aval]; raises TypeError/ValueError on bad operands
    impl          : (*ndarrays, **params) -> [ndarray]; NumPy only
    jvp           : (primals, tangents, **params) -> (outs, out_tangents); a tangent is None
                    where it is a symbolic zero, in and out
    transpose     : (cotangents, *operands, **params) -> [cotangent or None]; an operand that
                    the operation is linear in arrives as `Linear(aval)`
    batch         : (axis, operands, dims, **params) -> (outs, out_dims); `axis` is the
                    MappedAxis (size, name); a dim is an axis of the operand, or None where the
                    operand is the same for every member
    partial_eval  : see transforms/partial_eval.py; only primitives that hold a jaxpr have one
    follow        : (visit, join, values, **params) -> values of the results: what a property of the
                    operands comes to, where visit(jaxpr, values) tells it of a program and join of
                    two values is the one that holds either; only loops and branches have one
    narrow        : (eqn, used) -> (eqns, aliases): what is left of an equation whose results are
                    used where `used` says so, and what its results are where they are something
                    that there is already; only primitives that hold a jaxpr have one
    taylor        : see transforms/taylor.py; only primitives that hold a jaxpr have one: for all
                    others the Taylor rule follows from jvp
    effects       : (**params) -> Effect; what an equation of this primitive does
    stands_for    : (**params) -> jaxpr: an equation is no more than the equations of this one,
                    compiled in its place; what holds bodies that stay apart has none
    cheap         : computing it again costs less than keeping its result
    opaque        : simplification and fusion may not look through it or merge two of it
    """

    name: str
    abstract_eval: Callable[..., list[Aval]]
    impl: Callable[..., list[Any]]
    jvp: Callable[..., tuple[list[Any], list[Any]]] | None = None
    transpose: Callable[..., list[Any]] | None = None
    batch: Callable[..., tuple[list[Any], list[int | None]]] | None = None
    partial_eval: Callable[..., Any] | None = None
    follow: Callable[..., list[Any]] | None = None
    narrow: Callable[..., Any] | None = None
    taylor: Callable[..., list[list[Any]]] | None = None
    effects: Callable[..., Effect] | None = None
    property: Property = None
    stands_for: Callable[..., Any] | None = None
    cheap: bool = True
    opaque: bool = False

    @cached_property
    def varies(self) -> bool:
        """Can its derivative be other than zero (unlike that of floor, or of comparisons)?"""
        match self.property:
            case Elementwise(partials=None, by_hand=False):
                return False
            case _:
                return True

    @cached_property
    def is_bilinear(self) -> bool:
        """Is it linear in each of two operands?"""
        match self.property:
            case Bilinear() | Elementwise(form=Form.PRODUCT):
                return True
            case _:
                return False

    def effect(self, params: Params) -> Effect:
        return Effect.NONE if self.effects is None else self.effects(**params)

    def __repr__(self) -> str:
        return f"{self.name}_p"
