"""The tables of lowerings: each primitive stands in exactly one of them.

scalar     one function on loop IR values, applied at every position
indexed    an element of the result from elements of the operands at other positions
reduction  an element of the result folds many elements
expansion  rewritten into equations of other primitives before fusion
root       reads and writes whole buffers
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from functrans.extend import Atom, Eqn, Primitive, Var
from jit.loop_ir.nodes import ITEMSIZE, DType, Value
from jit.lowering.index import Dynamic, Index, Point, Shape

if TYPE_CHECKING:
    from jit.lowering.root import RootContext


class Pair(NamedTuple):
    """A complex value: its real and its imaginary part."""

    re: Value
    im: Value


Element: TypeAlias = Value | Pair
"""One element of an array: a value, or a pair where the dtype is complex."""


def parts(element: Any) -> tuple[Value, ...]:
    """The values an element is made of: one, or two when complex."""
    return (element.re, element.im) if isinstance(element, Pair) else (element,)


def joined(values: Sequence[Value]) -> Any:
    """The element made of values; the inverse of `parts`."""
    return Pair(values[0], values[1]) if len(values) == 2 else values[0]


DTYPES: dict[str, DType] = {
    "bool": "bool",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "uint64": "u64",
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
    "float64": "f64",
    "complex64": "f32",
    "complex128": "f64",
}


_known: dict[np.dtype[Any], DType] = {}


def loop_dtype(dtype: np.dtype[Any]) -> DType:
    """The loop IR type of an array's elements; of a complex array, that of their parts."""
    found = _known.get(dtype)
    if found is None:
        found = _known[dtype] = DTYPES[dtype.name]
    return found


def is_complex(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "c"


def element_bytes(atom: Atom) -> int:
    """The bytes of an element in memory."""
    size = ITEMSIZE[loop_dtype(atom.aval.dtype)]
    return 2 * size if is_complex(atom.aval.dtype) else size


class Walk(Protocol):
    """What rules may ask of the walk that evaluates elements (writing them, or only looking)."""

    @property
    def b(self) -> Any:
        """The builder of loop IR values; while looking, something that answers to anything."""
        ...

    def value(self, atom: Atom, point: Point) -> Any:
        """The element of `atom` at `point`."""
        ...

    def multi(self, point: Point) -> tuple[Index, ...]:
        """The multi-index of a point."""
        ...

    def within(
        self, point: Point, shape: Shape, multi: Sequence[Index], where: Any = True
    ) -> Point:
        """A point of another array that is wanted where `point` is and `where` holds."""
        ...

    def unraveled(self, flat: Index, shape: Shape) -> tuple[Index, ...]:
        """The multi-index of a position in an array of `shape`."""
        ...

    def divide(self, index: Index, divisor: int) -> tuple[Index, Index]:
        """(index // divisor, index % divisor)."""
        ...

    def number(self, index: Index) -> Any:
        """An index as an i64 value."""
        ...

    def compare(self, name: str, index: Index, bound: int) -> Any:
        """index < bound and the like: True or False where ranges decide it, else a value."""
        ...

    def both(self, a: Any, b: Any) -> Any:
        """The conjunction of two conditions, each True, False or a value."""
        ...

    def choose(self, cond: Any, then: Callable[[], Any], orelse: Callable[[], Any]) -> Any:
        """then() where cond, else orelse(); only one is built when cond is True or False."""
        ...

    def dynamic(self, key: object, value: Any, bounds: tuple[int, int], at: Index) -> Index:
        """A run-time integer as an index; `at` says what it depends on."""
        ...

    def require(self, eqn: Eqn) -> None:
        """The check of this equation must have run before."""
        ...

    def literal(self, dtype: np.dtype[Any], value: Any) -> Any:
        """A constant element."""
        ...

    def iota_axis(self, atom: Atom) -> int | None:
        """The axis that `atom` counts along, where it is an iota."""
        ...


ScalarFunction: TypeAlias = Callable[..., Any]
IndexedRule: TypeAlias = Callable[[Walk, Eqn, Point], Any]


class ScalarRule(NamedTuple):
    """`real(b, *values, **params)`; `paired` is the same where some operand is complex.

    `cost` counts simple operations (an addition is 1).
    """

    real: ScalarFunction | None
    paired: ScalarFunction | None
    cost: float


class Fold(NamedTuple):
    """A reduction over some of the axes of a domain; the others, in order, are the result's axes.

    element(walk, indices) is what is folded at one position of the domain.
    """

    extents: Shape
    reduced: tuple[bool, ...]
    monoid: str
    element: Callable[[Walk, Sequence[Index]], Any]


ReductionRule: TypeAlias = Callable[[Eqn], Fold]
Expansion: TypeAlias = Callable[["EquationBuilder", Eqn], "list[Atom] | None"]
RootRule: TypeAlias = Callable[["RootContext", Eqn], None]


class EquationBuilder(Protocol):
    """Appends equations; what an expansion is written with."""

    def bind(self, primitive: Primitive, *inputs: Atom, **params: Any) -> list[Atom]:
        """The results of one more equation."""
        ...

    def bind_as(self, primitive: Primitive, eqn: Eqn, **params: Any) -> list[Atom]:
        """The results of an equation under another primitive, with more params."""
        ...

    def made_by(self, atom: Atom) -> Eqn | None:
        """The equation that makes an atom, None for inputs and literals."""
        ...


class Root(NamedTuple):
    """`memory(eqn)` lists the operands that must lie in memory: dense, or as strided views.

    The others are fused: the rule asks for their elements. `workspace` is how many arena bytes
    the rule wants. `calls` are runtime functions that it will call, as far as the equation tells:
    they are made while the program is. `overwrites` lists (operand, result) where the rule changes
    the operand into the result if both lie in one place, and copies it there first if not.
    `serial` lists the fused operands whose elements are asked for one by one, never on vectors.
    """

    rule: RootRule
    memory: Callable[[Eqn], Sequence[int]]
    dense: bool
    workspace: Callable[[Eqn], int]
    calls: Callable[[Eqn], Sequence[str]]
    overwrites: Callable[[Eqn], Sequence[tuple[int, int]]]
    serial: Callable[[Eqn], Sequence[int]]


SCALARS: dict[Primitive, ScalarRule] = {}
INDEXED: dict[Primitive, IndexedRule] = {}
REDUCTIONS: dict[Primitive, ReductionRule] = {}
EXPANSIONS: dict[Primitive, Expansion] = {}
ROOTS: dict[Primitive, Root] = {}
PRODUCTS: set[Primitive] = set()
"""The reductions that read an element of an operand for many elements of the result."""
CHECKS: dict[Primitive, Callable[[Eqn], bool]] = {}
"""Which equations of a primitive need an index check of their own."""


def lower_scalar(
    primitive: Primitive,
    real: ScalarFunction | None,
    paired: ScalarFunction | None = None,
    cost: float = 1.0,
) -> None:
    """Register the scalar function of an elementwise primitive."""
    SCALARS[primitive] = ScalarRule(real, paired, cost)


def lowers(primitive: Primitive) -> Callable[[IndexedRule], IndexedRule]:
    """Register an element-at-a-position rule."""

    def keep(rule: IndexedRule) -> IndexedRule:
        INDEXED[primitive] = rule
        return rule

    return keep


def folds(primitive: Primitive) -> Callable[[ReductionRule], ReductionRule]:
    """Register a reduction."""

    def keep(rule: ReductionRule) -> ReductionRule:
        REDUCTIONS[primitive] = rule
        return rule

    return keep


def expands(primitive: Primitive) -> Callable[[Expansion], Expansion]:
    """Register a rewriting into other primitives."""

    def keep(rule: Expansion) -> Expansion:
        EXPANSIONS[primitive] = rule
        return rule

    return keep


def lowers_root(
    primitive: Primitive,
    memory: Callable[[Eqn], Sequence[int]] = lambda eqn: range(len(eqn.inputs)),
    *,
    dense: bool = False,
    workspace: Callable[[Eqn], int] = lambda eqn: 0,
    calls: Callable[[Eqn], Sequence[str]] = lambda eqn: (),
    overwrites: Callable[[Eqn], Sequence[tuple[int, int]]] = lambda eqn: (),
    serial: Callable[[Eqn], Sequence[int]] = lambda eqn: (),
) -> Callable[[RootRule], RootRule]:
    """Register a rule over whole buffers; see Root."""

    def keep(rule: RootRule) -> RootRule:
        ROOTS[primitive] = Root(rule, memory, dense, workspace, calls, overwrites, serial)
        return rule

    return keep


def needs_check(eqn: Eqn) -> bool:
    """Does this equation raise for an index outside its axis?"""
    test = CHECKS.get(eqn.primitive)
    return test is not None and test(eqn)


def runtime_calls(eqn: Eqn) -> Sequence[str]:
    """The functions of the runtime that this equation is known to call."""
    root = ROOTS.get(eqn.primitive)
    return () if root is None else root.calls(eqn)


def only_lowered(*operands: Any, **params: Any) -> list[Any]:
    """What evaluates, or types, an equation that only compiled programs hold."""
    raise NotImplementedError("equations of compiled programs are lowered, not evaluated or typed")


def has_lowering(primitive: Primitive) -> bool:
    return any(primitive in t for t in (SCALARS, INDEXED, REDUCTIONS, EXPANSIONS, ROOTS))


__all__ = [
    "CHECKS",
    "EXPANSIONS",
    "INDEXED",
    "PRODUCTS",
    "REDUCTIONS",
    "ROOTS",
    "SCALARS",
    "Dynamic",
    "Element",
    "EquationBuilder",
    "Fold",
    "Pair",
    "Root",
    "ScalarRule",
    "Var",
    "Walk",
    "element_bytes",
    "expands",
    "folds",
    "has_lowering",
    "is_complex",
    "joined",
    "loop_dtype",
    "lower_scalar",
    "lowers",
    "lowers_root",
    "needs_check",
    "only_lowered",
    "parts",
    "runtime_calls",
]
