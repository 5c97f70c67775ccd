"""Jaxprs: programs as data, one list of equations in static single assignment.

jaxpr   ::= { lambda const* ; var* . let eqn* in ( atom* ) }
eqn     ::= var* = primitive[ param* ] atom*
atom    ::= var | literal
param   ::= name = value | name = jaxpr
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from functrans.errors import Source
from functrans.ir.aval import Aval, aval_of
from functrans.ir.primitive import Effect, Primitive


class Var:
    """A variable: an identity with an aval. Names are given when a jaxpr is printed."""

    __slots__ = ("__weakref__", "aval")

    def __init__(self, aval: Aval) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return f"Var({self.aval})"


class Literal:
    """A scalar constant written into the program; its value is a NumPy or Python scalar."""

    __slots__ = ("_key", "aval", "value")

    def __init__(self, value: Any, aval: Aval | None = None) -> None:
        self.value = value
        self.aval = aval_of(value) if aval is None else aval
        self._key: tuple[Any, ...] | None = None

    def key(self) -> tuple[Any, ...]:
        """Equal for literals with the same bits and type (so -0.0 differs from 0.0)."""
        key = self._key
        if key is None:
            dtype = self.aval.dtype
            key = self._key = (dtype.str, self.aval.weak, dtype.type(self.value).tobytes())
        return key

    def __repr__(self) -> str:
        return f"Literal({self.value!r})"


Atom: TypeAlias = Var | Literal


def values_of(atoms: Sequence[Atom], env: Mapping[Var, Any]) -> list[Any]:
    """What a walk reads: the values of variables in its environment, and literals' own."""
    return [a.value if type(a) is Literal else env[a] for a in atoms]  # type: ignore[index]


class Eqn:
    """One application of a primitive: `outputs = primitive[params] inputs`."""

    __slots__ = ("inputs", "outputs", "params", "primitive", "source")

    def __init__(
        self,
        primitive: Primitive,
        inputs: Sequence[Atom],
        outputs: Sequence[Var],
        params: dict[str, Any],
        source: Source | None = None,
    ) -> None:
        self.primitive = primitive
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.params = params
        self.source = source

    @property
    def effect(self) -> Effect:
        return self.primitive.effect(self.params)


class Jaxpr:
    """A program: `invars` (the first `num_consts` of them stand for captured arrays) to outvars.

    Immutable once built. `cache` remembers what transforms derived from this jaxpr, so that
    each is built once. `simple` says that it was simplified, or is a copy of one that was.
    """

    __slots__ = (
        "__weakref__",
        "_effect",
        "cache",
        "eqns",
        "invars",
        "num_consts",
        "outvars",
        "simple",
    )

    def __init__(
        self,
        invars: Sequence[Var],
        eqns: Sequence[Eqn],
        outvars: Sequence[Atom],
        num_consts: int = 0,
    ) -> None:
        self.invars = list(invars)
        self.eqns = list(eqns)
        self.outvars = list(outvars)
        self.num_consts = num_consts
        self.cache: dict[Any, Any] = {}
        self.simple = False
        self._effect: Effect | None = None

    @property
    def in_avals(self) -> list[Aval]:
        return [v.aval for v in self.invars]

    @property
    def out_avals(self) -> list[Aval]:
        return [a.aval for a in self.outvars]

    @property
    def effect(self) -> Effect:
        """The strongest effect of any equation."""
        if self._effect is None:
            self._effect = Effect.strongest(eqn.effect for eqn in self.eqns)
        return self._effect


@dataclass(frozen=True, eq=False, slots=True)
class ClosedJaxpr:
    """A jaxpr with the values of its captured arrays, which come first among its inputs."""

    jaxpr: Jaxpr
    consts: list[Any]

    @property
    def in_avals(self) -> list[Aval]:
        return self.jaxpr.in_avals[len(self.consts) :]

    @property
    def out_avals(self) -> list[Aval]:
        return self.jaxpr.out_avals

    @property
    def eqns(self) -> list[Eqn]:
        return self.jaxpr.eqns

    def __str__(self) -> str:
        return str(self.jaxpr)

    def __repr__(self) -> str:
        return str(self)


def copied(eqns: Iterable[Eqn], env: dict[Atom, Atom], source: Source | None) -> list[Eqn]:
    """The equations anew, with new variables for their results; those without a line get `source`.

    `env` has the atoms that stand for what they read, and gets those for what they bind.
    """
    made: list[Eqn] = []
    for eqn in eqns:
        inputs = [env.get(a, a) for a in eqn.inputs]
        outputs = [Var(v.aval) for v in eqn.outputs]
        env.update(zip(eqn.outputs, outputs, strict=True))
        made.append(Eqn(eqn.primitive, inputs, outputs, eqn.params, eqn.source or source))
    return made


def inlined(
    jaxpr: Jaxpr, inputs: Sequence[Atom], source: Source | None
) -> tuple[list[Eqn], list[Atom]]:
    """The equations of a program on these inputs, with variables of their own, and its results."""
    env: dict[Atom, Atom] = dict(zip(jaxpr.invars, inputs, strict=True))
    eqns = copied(jaxpr.eqns, env, source)
    return eqns, [env.get(a, a) for a in jaxpr.outvars]


def jaxprs_in(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """The jaxprs that an equation's params hold, directly or in tuples."""
    for value in params.values():
        yield from _jaxprs_of(value)


def _jaxprs_of(value: Any) -> Iterator[Jaxpr]:
    if isinstance(value, Jaxpr):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _jaxprs_of(part)
