"""What is sorted: elements in NumPy's order, and rows of parallel arrays, as LLVM text.

NaN comes last, -0 equals +0, complex numbers compare by (real, imaginary), those with a NaN last.
Invariant: `less` is a strict weak order, so that merging is stable and its result unique.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jit.runtime.writer import Function

NAMES = (
    *("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"),
    *("f16", "bf16", "f32", "f64", "c64", "c128"),
)
# Bits of infinity: what is above, sign aside, is NaN.
_INFINITY = {"f16": 0x7C00, "bf16": 0x7F80, "f32": 0x7F800000, "f64": 0x7FF0000000000000}


class Element(NamedTuple):
    """One sorted type: how it lies in memory and how two of them compare."""

    name: str

    @property
    def lanes(self) -> int:
        return 2 if self.name.startswith("c") else 1

    @property
    def bytes(self) -> int:
        """Size of one element."""
        return int(self.name.lstrip("iubfc")) // 8

    @property
    def scalar(self) -> str:
        """The LLVM type of a lane; half precision is handled by its bits."""
        if self.name in ("f32", "c64"):
            return "float"
        if self.name in ("f64", "c128"):
            return "double"
        return f"i{8 * self.bytes}"

    def less(self, f: Function, a: Sequence[str], b: Sequence[str]) -> str:
        """Whether a comes strictly before b."""
        ty = self.scalar
        match self.name[0]:
            case "i":
                return f.test("slt", a[0], b[0], ty)
            case "u":
                return f.test("ult", a[0], b[0], ty)
            case "c":
                return _complex_less(f, ty, a, b)
            case _ if self.bytes == 2:
                bits = [ordered_bits(f, self.name, x[0]) for x in (a, b)]
                return f.test("slt", bits[0], bits[1], ty)
            case _:
                return f.both(
                    f(f"fcmp ult {ty} {a[0]}, {b[0]}"), f(f"fcmp ord {ty} {a[0]}, {a[0]}")
                )

    def key(self) -> "Element":
        """The type that stands for this one when only the order matters."""
        return Element(f"i{8 * self.bytes}") if self.name in _INFINITY else self


def ordered_bits(f: Function, name: str, bits: str) -> str:
    """A signed integer in the order of the float with these bits: both zeros 0, NaN the largest."""
    width = 16 if name == "bf16" else int(name[1:])
    ty, largest = f"i{width}", 2 ** (width - 1) - 1
    magnitude = f(f"and {ty} {bits}, {largest}")
    minus = f(f"sub {ty} 0, {magnitude}")
    signed = f.select(f.test("slt", bits, "0", ty), minus, magnitude, ty)
    return f.select(f.test("ugt", magnitude, str(_INFINITY[name]), ty), str(largest), signed, ty)


def _complex_less(f: Function, ty: str, a: Sequence[str], b: Sequence[str]) -> str:
    """By which parts are NaN (none, imaginary, real, both), then by the parts that are not."""
    classes: list[str] = []
    for re, im in (a, b):
        re_nan, im_nan = (f(f"fcmp uno {ty} {part}, {part}") for part in (re, im))
        wide = [f(f"zext i1 {nan} to i8") for nan in (re_nan, im_nan)]
        classes.append(f(f"add i8 {f(f'shl i8 {wide[0]}, 1')}, {wide[1]}"))
    earlier = f.test("ult", classes[0], classes[1], "i8")
    same = f.test("eq", classes[0], classes[1], "i8")
    re_less, im_less = (f(f"fcmp olt {ty} {a[part]}, {b[part]}") for part in range(2))
    re_equal = f(f"fcmp ueq {ty} {a[0]}, {b[0]}")
    return f.either(earlier, f.both(same, f.either(re_less, f.both(re_equal, im_less))))


class Table(NamedTuple):
    """Parallel arrays sorted together: the key first, then indices that follow it."""

    columns: tuple[Element, ...]

    def arguments(self, prefix: str) -> str:
        return ", ".join(f"ptr %{prefix}{c}" for c in range(len(self.columns)))

    def pointers(self, prefix: str) -> list[str]:
        return [f"%{prefix}{c}" for c in range(len(self.columns))]

    def read(self, f: Function, bases: Sequence[str], index: str) -> list[list[str]]:
        """The row at `index`: for each column its lanes."""
        row: list[list[str]] = []
        for column, base in zip(self.columns, bases, strict=True):
            first = f.at(column.scalar, base, f.mul(index, str(column.lanes)))
            cells = [f.at(column.scalar, first, str(lane)) for lane in range(column.lanes)]
            row.append([f.load(column.scalar, cell) for cell in cells])
        return row

    def write(self, f: Function, bases: Sequence[str], index: str, row: list[list[str]]) -> None:
        for column, base, lanes in zip(self.columns, bases, row, strict=True):
            first = f.at(column.scalar, base, f.mul(index, str(column.lanes)))
            for lane, value in enumerate(lanes):
                f.store(column.scalar, value, f.at(column.scalar, first, str(lane)))

    def pick(
        self, f: Function, which: str, yes: list[list[str]], no: list[list[str]]
    ) -> list[list[str]]:
        """`yes` or `no`, without a branch."""
        return [
            [f.select(which, a, b, column.scalar) for a, b in zip(x, y, strict=True)]
            for column, x, y in zip(self.columns, yes, no, strict=True)
        ]

    def less(self, f: Function, a: list[list[str]], b: list[list[str]]) -> str:
        return self.columns[0].less(f, a[0], b[0])

    def copy(
        self, f: Function, to: Sequence[str], row: str, source: Sequence[str], first: str, n: str
    ) -> None:
        """Copy rows [first, first + n) to [row, row + n)."""
        for column, a, b in zip(self.columns, to, source, strict=True):
            unit = f"[{column.bytes} x i8]"
            f.do(
                f"call void @llvm.memcpy.p0.p0.i64(ptr {f.at(unit, a, row)}, "
                f"ptr {f.at(unit, b, first)}, i64 {f.mul(n, str(column.bytes))}, i1 false)"
            )
