"""A matrix in LAPACK's hands: where its parts lie in a workspace, how they come there and back.

LAPACK has matrices by columns, so they are turned on the way, as NumPy does it. A workspace begins
with a status; each slot behind it has what LAPACK reported, then its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

from functrans.extend import Eqn
from jit import openblas
from jit.factorisations import BY_FACTORS, LETTERS, SOLVED, dtype_of, name_of
from jit.loop_ir.nodes import ITEMSIZE, Buffer, DType, Pointer, Value
from jit.lowering.root import RootContext

ALIGNMENT = 64
STATUS = 0
"""Where the workspace says that some matrix failed."""
INFO = 0
"""Where a slot has what LAPACK reported last."""


class Sizes(NamedTuple):
    """The sizes of the matrices, and how many right sides there are."""

    m: int
    n: int
    k: int

    @property
    def least(self) -> int:
        return min(self.m, self.n)


class Part(NamedTuple):
    """A named piece of a slot: so many elements of matrices (x), real numbers (r), integers (i)."""

    name: str
    kind: str
    size: int


class Letter(NamedTuple):
    """An option of LAPACK."""

    text: str


def sizes_of(eqn: Eqn) -> Sizes:
    m, n = eqn.inputs[0].aval.shape[-2:]
    solved = name_of(eqn).removesuffix(BY_FACTORS) in SOLVED
    return Sizes(m, n, eqn.outputs[0].aval.shape[-1] if solved else 0)


def integers_of_lapack() -> DType:
    found = openblas.find()
    return "i64" if found is not None and found.wide else "i32"


class Layout:
    """Where the parts of a slot are: their first bytes and their types, by name."""

    def __init__(self, eqn: Eqn, parts: Sequence[Part]) -> None:
        self.width = 2 if dtype_of(eqn).kind == "c" else 1
        self.types: dict[str, tuple[DType, int]] = {
            "x": ("f64", self.width),
            "r": ("f64", 1),
            "i": (integers_of_lapack(), 1),
        }
        self.starts: dict[str, tuple[int, DType]] = {}
        at = ALIGNMENT
        for name, kind, size in parts:
            dtype, each = self.types[kind]
            self.starts[name] = at, dtype
            at += -(-size * each * ITEMSIZE[dtype] // ALIGNMENT) * ALIGNMENT
        self.bytes = at


class Task:
    """One matrix of a stack, in one slot of the workspace."""

    def __init__(self, ctx: RootContext, eqn: Eqn, layout: Layout, total: int) -> None:
        """`total`: the bytes of the whole workspace."""
        self.ctx, self.b, self.eqn, self.sizes = ctx, ctx.b, eqn, sizes_of(eqn)
        self.layout, self.total = layout, total
        self.letter = LETTERS[dtype_of(eqn).name]
        self.is_complex = self.layout.width == 2
        self.constants: dict[int | Letter, Buffer] = {}
        self.homes: dict[str, tuple[Buffer, Value]] = {}
        self.slot: Value = self.b.index(0)
        self.matrix: Value = self.b.index(0)

    def open(self, slot: Value, matrix: Value) -> None:
        self.slot, self.matrix = slot, matrix

    # Memory.

    def memory(self, dtype: DType) -> Buffer:
        """The whole workspace, as elements of a type."""
        return self.ctx.slot(dtype, self.total // ITEMSIZE[dtype], 0)

    def place(self, name: str) -> tuple[Buffer, Value]:
        """A part of the slot, or what stands for one: its buffer, and its first element there."""
        if name in self.homes:
            return self.homes[name]
        at, dtype = (INFO, "i64") if name == "info" else self.layout.starts[name]
        size = ITEMSIZE[dtype]
        start = self.b.mul(self.slot, self.layout.bytes // size)
        return self.memory(dtype), self.b.add(start, (ALIGNMENT + at) // size)

    def load(self, name: str, index: int | Value) -> Value:
        buffer, start = self.place(name)
        return self.b.load(buffer, self.b.add(start, index))

    def store(self, name: str, index: int | Value, value: Any) -> None:
        buffer, start = self.place(name)
        self.b.store(buffer, self.b.add(start, index), value)

    def operand(self, j: int, ndim: int = 2) -> tuple[Buffer, Value]:
        """Operand j, whose last `ndim` axes belong to one matrix: its buffer, its place there."""
        atom, shape = self.eqn.inputs[j], self.eqn.inputs[j].aval.shape
        members, size = prod(shape[:-ndim]), prod(shape[-ndim:])
        matrix = self.matrix
        if not self.eqn.params["mapped"][j]:
            matrix = self.b.rem(matrix, members)
        width = self.layout.width if ndim == 2 else 1
        return self.ctx.dense(atom), self.b.mul(matrix, size * width)

    def result(self, j: int, ndim: int) -> tuple[Buffer, Value]:
        """Result j, whose last `ndim` axes belong to one matrix."""
        out = self.eqn.outputs[j]
        size = prod(out.aval.shape[out.aval.ndim - ndim :])
        each = 2 if out.aval.dtype.kind == "c" else 1
        return self.ctx.buffer(out), self.b.mul(self.matrix, size * each)

    # Steps.

    def take(self, name: str, j: int, m: int, n: int) -> None:
        """Operand j, of m rows and n columns, by columns."""
        b, width = self.b, self.layout.width
        (source, first), (part, start) = self.operand(j), self.place(name)
        with b.nest((n, m), "vector") as (column, row):
            for c in range(width):
                here = b.add(b.mul(b.add(b.mul(row, n), column), width), c)
                there = b.add(b.mul(b.add(b.mul(column, m), row), width), c)
                number = b.load(source, b.add(first, here))
                b.store(part, b.add(start, there), b.cast(number, "f64"))

    def give(
        self,
        name: str,
        j: int,
        m: int,
        n: int,
        height: int | None = None,
        keep: Callable[[Value, Value], Value] | None = None,
    ) -> None:
        """Result j from a part that has it by columns of `height` elements.

        Where keep(row, column) does not hold, it is 0.
        """
        b, width, height = self.b, self.layout.width, height or m
        (target, first), (part, start) = self.result(j, 2), self.place(name)
        with b.nest((m, n), "vector") as (row, column):
            for c in range(width):
                here = b.add(b.mul(b.add(b.mul(column, height), row), width), c)
                there = b.add(b.mul(b.add(b.mul(row, n), column), width), c)
                value = b.cast(b.load(part, b.add(start, here)), target.dtype)
                kept = value if keep is None else b.select(keep(row, column), value, 0)
                b.store(target, b.add(first, there), kept)

    def give_vector(self, name: str, j: int, n: int) -> None:
        """Result j, of n numbers."""
        b, is_complex = self.b, self.eqn.outputs[j].aval.dtype.kind == "c"
        (target, first), (part, start) = self.result(j, 1), self.place(name)
        with b.for_(2 * n if is_complex else n, "vector") as i:
            number = b.load(part, b.add(start, i.i))
            b.store(target, b.add(first, i.i), b.cast(number, target.dtype))

    def give_number(self, j: int, value: Value) -> None:
        buffer, first = self.result(j, 0)
        self.b.store(buffer, first, self.b.cast(value, buffer.dtype))

    def unit(self, name: str, n: int) -> None:
        """The unit matrix."""
        b, width = self.b, self.layout.width
        part, start = self.place(name)
        with b.nest((n, n), "vector") as (column, row):
            one = b.cast(b.eq(row, column), part.dtype)
            place = b.add(start, b.mul(b.add(b.mul(column, n), row), width))
            b.store(part, place, one)
            if width == 2:
                b.store(part, b.add(place, 1), 0)

    def call(self, routine: str, *args: int | str | Letter, may_fail: bool = True) -> None:
        """A routine of LAPACK, on numbers, letters and parts of the slot."""
        b = self.b
        # An integer may have 32 bits there, so all 64 are zero before.
        self.store("info", 0, 0)
        info = b.ref(*self.place("info"))
        # Fortran wants the lengths of character arguments, behind all others.
        lengths = [1 for a in args if isinstance(a, Letter)]
        passed = [self.argument(a) for a in args]
        b.call(f"{openblas.LAPACK}{self.letter}{routine}", *passed, info, *lengths)
        if may_fail:
            branch = b.if_(b.ne(self.load("info", 0), 0))
            with branch.then():
                self.fail()
            with branch.orelse():
                pass

    def fail(self) -> None:
        """Say that this matrix has no result."""
        self.b.store(self.memory("i64"), STATUS, 1)

    def argument(self, given: int | str | Letter) -> Pointer:
        """The address of an argument: Fortran has no values."""
        if isinstance(given, str):
            return self.b.ref(*self.place(given))
        if given not in self.constants:
            name = f"{self.ctx.name}_argument{len(self.constants)}"
            dtype: DType = "u8" if isinstance(given, Letter) else "i64"
            data = given.text.encode() if isinstance(given, Letter) else given.to_bytes(8, "little")
            self.constants[given] = self.b.constants(name, dtype, data, 1)
        return self.b.ref(self.constants[given])
