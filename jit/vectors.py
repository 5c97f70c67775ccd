"""LLVM text of vector types, literals and instructions.

Everything here is written once for any number of lanes; one lane is a plain scalar. float16 and
bfloat16 live in registers as floats that hold only values of the narrow type: each operation
rounds its result, memory has the narrow format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache

from jit.loop_ir.nodes import FLOATS, ITEMSIZE, DType
from jit.target import Target

REGISTER: dict[DType, str] = {
    "bool": "i1",
    "f16": "float",
    "bf16": "float",
    "f32": "float",
    "f64": "double",
}
MEMORY: dict[DType, str] = {"bool": "i8", "f16": "half", "bf16": "i16"}
SUFFIX = {"float": "f32", "double": "f64", "half": "f16"}


@cache
def vector(scalar: str, lanes: int) -> str:
    """The type of `lanes` scalars."""
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


@cache
def register(dtype: DType, lanes: int) -> str:
    """The LLVM type of a value in registers."""
    return vector(REGISTER.get(dtype) or f"i{8 * ITEMSIZE[dtype]}", lanes)


@cache
def memory(dtype: DType, lanes: int) -> str:
    """The LLVM type of a value in memory."""
    return vector(MEMORY.get(dtype) or register(dtype, 1), lanes)


@cache
def mangled(scalar: str, lanes: int) -> str:
    """The name part of a type in the names of LLVM's intrinsics: v8f64, i32, ..."""
    name = SUFFIX.get(scalar, "p0" if scalar == "ptr" else scalar)
    return name if lanes == 1 else f"v{lanes}{name}"


def double_text(value: float) -> str:
    """An LLVM literal with exactly these bits."""
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def narrow(dtype: DType, value: float) -> float:
    """`value` rounded to a float type, infinite where it overflows."""
    if dtype == "f64" or value != value:
        return value
    try:
        if dtype == "bf16":
            return narrow_bfloat(value)
        code = "e" if dtype == "f16" else "f"
        return float(struct.unpack("<" + code, struct.pack("<" + code, value))[0])
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def narrow_bfloat(value: float) -> float:
    """Round to bfloat16, ties to even, through float32."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    if bits & 0x7F800000 != 0x7F800000:
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


def literal(dtype: DType, value: int | float | bool) -> str:
    """A scalar literal of a value in registers."""
    if dtype == "bool":
        return "true" if value else "false"
    if dtype in FLOATS:
        return double_text(narrow(dtype, float(value)))
    return str(int(value))


def splat(scalar: str, text: str, lanes: int) -> str:
    """A literal in every lane."""
    return text if lanes == 1 else f"splat ({scalar} {text})"


def steps(lanes: int, stride: int) -> str:
    """The literal <0, stride, 2 stride, ...> of i64."""
    return "<" + ", ".join([f"i64 {k * stride}" for k in range(lanes)]) + ">"


def indices(numbers: Sequence[int]) -> str:
    """A shuffle mask."""
    return f"<{len(numbers)} x i32> <" + ", ".join([f"i32 {n}" for n in numbers]) + ">"


def transposed(
    write: Callable[[str], str], scalar: str, rows: Sequence[str], lanes: int
) -> list[str]:
    """The transpose of a square, or of squares side by side: for each bit, rows that differ in it
    trade lanes. `write` appends an instruction and answers the name of its result.

    (Full interleaving takes as many shuffles, but LLVM takes twice the time to select them.)
    """
    kind, found, bit, count = vector(scalar, lanes), list(rows), 1, len(rows)
    while bit < count:
        low = indices([i if not i & bit else lanes + i - bit for i in range(lanes)])
        high = indices([i + bit if not i & bit else lanes + i for i in range(lanes)])
        pairs = [
            (found[i & ~bit], found[i | bit], high if i & bit else low) for i in range(len(rows))
        ]
        found = [write(f"shufflevector {kind} {a}, {kind} {b}, {picks}") for a, b, picks in pairs]
        bit *= 2
    return found


class Writer:
    """The text of one function under construction: `w("add i64 %a, 1")` answers a fresh name.

    `label` is the block being written. `declares` collects what the module must declare, and
    `externals` the C symbols among it; both may be shared between functions. `streams`: it stores
    past the caches.
    """

    def __init__(self, target: Target, declares: set[str], externals: set[str]) -> None:
        self.target = target
        self.lines: list[str] = []
        self.label = "entry"
        self.declares = declares
        self.externals = externals
        self.streams = False
        self._count = 0

    def __call__(self, text: str) -> str:
        """An instruction with a result."""
        self._count += 1
        name = f"%v{self._count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """An instruction without a result."""
        self.lines.append("  " + text)

    def fresh(self, hint: str) -> str:
        """A new label."""
        self._count += 1
        return f"{hint}{self._count}"

    def open(self, label: str) -> None:
        """Begin a block; the one before it must have been left."""
        self.lines.append(f"{label}:")
        self.label = label

    def jump(self, label: str) -> None:
        """Leave the block."""
        self.lines.append(f"  br label %{label}")

    def branch(self, cond: str, then: str, orelse: str) -> None:
        """Leave the block by a condition."""
        self.lines.append(f"  br i1 {cond}, label %{then}, label %{orelse}")

    def call(self, result: str, name: str, *args: tuple[str, str]) -> str:
        """Call an LLVM intrinsic, given as (type, operand) pairs; declared on the way."""
        types = ", ".join([t for t, _ in args])
        self.declares.add(f"declare {result} @{name}({types})")
        passed = ", ".join([f"{t} {v}" for t, v in args])
        return self(f"call {result} @{name}({passed})")

    def external(self, result: str, name: str, *args: tuple[str, str]) -> str:
        """Call a C function that the linker provides."""
        self.externals.add(name)
        return self.call(result, name, *args)

    def unary(self, name: str, scalar: str, lanes: int, operand: str) -> str:
        """llvm.<name> of one vector."""
        kind = vector(scalar, lanes)
        return self.call(kind, f"llvm.{name}.{mangled(scalar, lanes)}", (kind, operand))

    def lane(self, kind: str, operand: str, index: int) -> str:
        """One lane of a vector of type `kind`."""
        return self(f"extractelement {kind} {operand}, i64 {index}")

    def spread(self, scalar: str, operand: str, lanes: int) -> str:
        """A scalar in every lane; literals stay literals."""
        if lanes == 1:
            return operand
        if not operand.startswith("%"):
            return splat(scalar, operand, lanes)
        kind = vector(scalar, lanes)
        first = self(f"insertelement {kind} poison, {scalar} {operand}, i64 0")
        zeros = f"<{lanes} x i32> zeroinitializer"
        return self(f"shufflevector {kind} {first}, {kind} poison, {zeros}")

    def any_lane(self, mask: str, lanes: int) -> str:
        """Whether a mask holds anywhere, as i1."""
        if lanes == 1:
            return mask
        kind = vector("i1", lanes)
        return self.call("i1", f"llvm.vector.reduce.or.v{lanes}i1", (kind, mask))
