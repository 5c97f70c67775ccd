"""Vectors of floats, integers and masks as Python values whose operators write LLVM text.

A generator of an elementary function reads as its formula and serves every width and precision.
Nothing here may be contracted or reassociated: error terms are computed on purpose, and products
are fused only where `fma` says so. Longer than most files: the operations of one vector are one
class, what stands for an instruction elsewhere beside the instruction.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, TypeVar

from jit.vectors import Writer, double_text, indices, mangled, narrow, splat, vector

T = TypeVar("T", "F", "I")
PASSED = 8
"""Calls pass so many vectors in registers: more would go by a stack that may lie wrong for them."""
Careful: TypeAlias = "str | Callable[..., F | Sequence[F]]"
"""A slow way: a C function for each lane, or calls written with the Maths of a function of it."""


class Functions(Protocol):
    """The functions of the module that is written: each answers the name of one."""

    convention: str

    def each(self, name: str, scalar: str, lanes: int, arity: int) -> str:
        """The C function of one lane after the other."""
        ...

    def formula(self, name: str, scalar: str, lanes: int, arity: int) -> str:
        """An elementary function."""
        ...

    def beyond(self, careful: Careful, scalar: str, lanes: int, arity: int, results: int) -> str:
        """What replaces these results in some lanes; see `Maths.unless_each`."""
        ...


class B:
    """A mask."""

    __slots__ = ("m", "text")

    def __init__(self, m: Maths, text: str) -> None:
        self.m = m
        self.text = text

    def __and__(self, other: B) -> B:
        return B(self.m, self.m.w(f"and {self.m.masks} {self.text}, {other.text}"))

    def __or__(self, other: B) -> B:
        return B(self.m, self.m.w(f"or {self.m.masks} {self.text}, {other.text}"))

    def __xor__(self, other: B) -> B:
        return B(self.m, self.m.w(f"xor {self.m.masks} {self.text}, {other.text}"))

    def __invert__(self) -> B:
        ones = splat("i1", "true", self.m.lanes)
        return B(self.m, self.m.w(f"xor {self.m.masks} {self.text}, {ones}"))


class F:
    """Floats of the precision of `m`."""

    __slots__ = ("m", "text")

    def __init__(self, m: Maths, text: str) -> None:
        self.m = m
        self.text = text

    def _with(self, name: str, other: F | float) -> F:
        right = self.m.f(other)
        return F(self.m, self.m.w(f"{name} {self.m.floats} {self.text}, {right.text}"))

    def __add__(self, other: F | float) -> F:
        return self._with("fadd", other)

    def __sub__(self, other: F | float) -> F:
        return self._with("fsub", other)

    def __mul__(self, other: F | float) -> F:
        return self._with("fmul", other)

    def __truediv__(self, other: F | float) -> F:
        return self._with("fdiv", other)

    def __rsub__(self, other: float) -> F:
        return self.m.f(other) - self

    def __rtruediv__(self, other: float) -> F:
        return self.m.f(other) / self

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> F:
        return F(self.m, self.m.w(f"fneg {self.m.floats} {self.text}"))

    def _test(self, name: str, other: F | float) -> B:
        right = self.m.f(other)
        return B(self.m, self.m.w(f"fcmp {name} {self.m.floats} {self.text}, {right.text}"))

    def __lt__(self, other: F | float) -> B:
        return self._test("olt", other)

    def __le__(self, other: F | float) -> B:
        return self._test("ole", other)

    def __gt__(self, other: F | float) -> B:
        return self._test("ogt", other)

    def __ge__(self, other: F | float) -> B:
        return self._test("oge", other)

    def eq(self, other: F | float) -> B:
        """Equal; false of NaN."""
        return self._test("oeq", other)

    def ne(self, other: F | float) -> B:
        """Different; true of NaN."""
        return self._test("une", other)

    def is_nan(self) -> B:
        """NaN."""
        return self._test("uno", self)


class I:  # noqa: E742
    """Integers as wide as the floats of `m`.

    A number that was added is remembered: another one makes one sum of both, and one that a shift
    throws away is not added at all. No pass of LLVM does that here.
    """

    __slots__ = ("added", "m", "text", "whole")

    def __init__(self, m: Maths, text: str, whole: str = "", added: int = 0) -> None:
        self.m = m
        self.text = text
        self.whole = whole or text
        self.added = added

    def _with(self, name: str, other: I | int) -> I:
        right = self.m.i(other)
        return I(self.m, self.m.w(f"{name} {self.m.ints} {self.text}, {right.text}"))

    def _plus(self, number: int) -> I:
        added = self.added + number
        if not added:
            return I(self.m, self.whole)
        right = self.m.i(added)
        text = self.m.w(f"add {self.m.ints} {self.whole}, {right.text}")
        return I(self.m, text, self.whole, added)

    def __add__(self, other: I | int) -> I:
        return self._plus(other) if isinstance(other, int) else self._with("add", other)

    def __sub__(self, other: I | int) -> I:
        return self._plus(-other) if isinstance(other, int) else self._with("sub", other)

    def __and__(self, other: I | int) -> I:
        return self._with("and", other)

    def __or__(self, other: I | int) -> I:
        return self._with("or", other)

    def __xor__(self, other: I | int) -> I:
        return self._with("xor", other)

    def __lshift__(self, count: int) -> I:
        lost = not (self.added << count) % (1 << self.m.width)
        return (I(self.m, self.whole) if lost else self)._with("shl", count)

    def __rshift__(self, count: int) -> I:
        """Zeros come in."""
        return self._with("lshr", count)

    def arithmetic(self, count: int) -> I:
        """Shift right; the sign comes in."""
        return self._with("ashr", count)

    def eq(self, other: I | int) -> B:
        """Equal."""
        right = self.m.i(other)
        return B(self.m, self.m.w(f"icmp eq {self.m.ints} {self.text}, {right.text}"))

    def __lt__(self, other: I | int) -> B:
        right = self.m.i(other)
        return B(self.m, self.m.w(f"icmp slt {self.m.ints} {self.text}, {right.text}"))


class Maths:
    """One precision ("double" or "float") and number of lanes, written by `w`.

    mantissa: stored bits of the significand. `functions` are those of the module.
    """

    def __init__(self, w: Writer, scalar: str, lanes: int, functions: Functions) -> None:
        self.w = w
        self.scalar = scalar
        self.lanes = lanes
        self.double = scalar == "double"
        self.mantissa = 52 if self.double else 23
        self.bias = 1023 if self.double else 127
        self.width = 64 if self.double else 32
        self.integer = f"i{self.width}"
        self.floats = vector(scalar, lanes)
        self.ints = vector(self.integer, lanes)
        self.masks = vector("i1", lanes)
        # Adding this leaves a number rounded to an integer in the low bits.
        self.magic = 1.5 * 2.0**self.mantissa
        self._functions = functions

    def pick(self, double: float, single: float) -> float:
        """One of two numbers, by precision."""
        return double if self.double else single

    def f(self, value: F | float) -> F:
        """A float in every lane."""
        if isinstance(value, F):
            return value
        return F(self, splat(self.scalar, self.number(value), self.lanes))

    def i(self, value: I | int) -> I:
        """An integer in every lane."""
        return (
            value if isinstance(value, I) else I(self, splat(self.integer, str(value), self.lanes))
        )

    def call(self, name: str, *args: F) -> F:
        """llvm.<name>."""
        pairs = [(self.floats, a.text) for a in args]
        full = f"llvm.{name}.{mangled(self.scalar, self.lanes)}"
        return F(self, self.w.call(self.floats, full, *pairs))

    def fma(self, a: F, b: F | float, c: F | float) -> F:
        """a * b + c, with one rounding where the machine can."""
        if self.w.target.fma:
            return self.call("fma", a, self.f(b), self.f(c))
        return a * b + c

    def abs(self, x: F) -> F:
        """|x|."""
        return self.call("fabs", x)

    def sqrt(self, x: F) -> F:
        """Square root."""
        return self.call("sqrt", x)

    def copysign(self, x: F, sign: F) -> F:
        """|x| with the sign bit of `sign`."""
        return self.call("copysign", x, sign)

    def bits(self, x: F) -> I:
        """The bits of a float."""
        return I(self, self.w(f"bitcast {self.floats} {x.text} to {self.ints}"))

    def real(self, x: I) -> F:
        """The float with these bits."""
        return F(self, self.w(f"bitcast {self.ints} {x.text} to {self.floats}"))

    def select(self, mask: B, then: T | float, orelse: T | float) -> T:
        """Lane by lane; numbers are floats."""
        a = self.f(then) if isinstance(then, int | float) else then
        b = self.f(orelse) if isinstance(orelse, int | float) else orelse
        kind = self.floats if isinstance(a, F) else self.ints
        text = self.w(f"select {self.masks} {mask.text}, {kind} {a.text}, {kind} {b.text}")
        return type(a)(self, text)  # type: ignore[return-value]

    def least(self, x: F, bound: float) -> F:
        """min(x, bound); NaN stays."""
        return self.select(x > bound, self.f(bound), x)

    def most(self, x: F, bound: float) -> F:
        """max(x, bound); NaN stays."""
        return self.select(x < bound, self.f(bound), x)

    def round(self, x: F) -> tuple[F, I]:
        """The nearest integer, as float and as integer, of |x| < 2**(mantissa - 2)."""
        shifted = x + self.magic
        return shifted - self.magic, self.bits(shifted) - self.magic_bits

    @property
    def magic_bits(self) -> int:
        """The bits of `magic`."""
        return (self.bias + self.mantissa) << self.mantissa | 1 << (self.mantissa - 1)

    def power_of_two(self, n: I) -> F:
        """2.0**n for exponents of normal numbers."""
        return self.real((n + self.bias) << self.mantissa)

    def poly(self, x: F, coefficients: Sequence[float], square: F | None = None) -> F:
        """c[0] + c[1] x + ...: by pairs side by side when there are many or x * x is given."""
        if len(coefficients) < 8 and square is None:
            return self.horner(x, coefficients)
        square = x * x if square is None else square
        pairs = [self.horner(x, coefficients[k : k + 2]) for k in range(0, len(coefficients), 2)]
        return self.horner_of(square, pairs)

    def horner(self, x: F, coefficients: Sequence[float]) -> F:
        """From the highest power down."""
        total = self.f(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            total = self.fma(total, x, c)
        return total

    def horner_of(self, x: F, coefficients: Sequence[F]) -> F:
        """The same with coefficients that differ from lane to lane."""
        total = coefficients[-1]
        for c in reversed(coefficients[:-1]):
            total = self.fma(total, x, c)
        return total

    def in_pairs(self, x: F, coefficients: Sequence[F]) -> F:
        """The same by pairs, pairs of pairs and so on (Estrin 1960): a few products more, and half
        the wait where one value needs the one before it."""
        level = list(coefficients)
        while True:
            pairs = zip(level[::2], level[1::2], strict=False)
            level = [self.fma(b, x, a) for a, b in pairs] + level[len(level) & ~1 :]
            if len(level) == 1:
                return level[0]
            x = x * x

    # Exact pairs: a value and what rounding took from it

    def product(self, a: F, b: F) -> tuple[F, F]:
        """a * b and its rounding error."""
        high = a * b
        if self.w.target.fma:
            return high, self.fma(a, b, -high)
        a1, a2 = self.halves(a)
        b1, b2 = self.halves(b)
        return high, ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2

    def halves(self, x: F) -> tuple[F, F]:
        """x as a sum of two numbers of half its bits."""
        keep = (self.mantissa + 2) // 2
        high = self.real(self.bits(x) & (-1 << keep))
        return high, x - high

    def residual(self, a: F, b: F, c: F) -> F:
        """c - a * b where c is nearly a * b."""
        if self.w.target.fma:
            return self.fma(-a, b, c)
        high, low = self.product(a, b)
        return (c - high) - low

    def sum(self, a: F, b: F) -> tuple[F, F]:
        """a + b and its rounding error, whatever their sizes."""
        high = a + b
        virtual = high - a
        return high, (a - (high - virtual)) + (b - virtual)

    def ordered_sum(self, a: F, b: F) -> tuple[F, F]:
        """a + b and its rounding error where |a| >= |b|."""
        high = a + b
        return high, b - (high - a)

    # Other precision, and the way out

    def doubles(self) -> Maths:
        """The same lanes in double precision."""
        return Maths(self.w, "double", self.lanes, self._functions)

    def widen(self, x: F, to: Maths) -> F:
        """float -> double."""
        return F(to, self.w(f"fpext {self.floats} {x.text} to {to.floats}"))

    def narrow(self, x: F) -> F:
        """double -> the precision of self."""
        return F(self, self.w(f"fptrunc {x.m.floats} {x.text} to {self.floats}"))

    # Instructions of AVX-512, and what stands for them elsewhere

    @property
    def avx512(self) -> bool:
        """Vectors of one or two registers of 512 bits, on a machine that has them."""
        bits = self.lanes * (64 if self.double else 32)
        return bits in (512, 1024) and "avx512f" in self.w.target.present

    def masked512(self, name: str, args: Sequence[F], before: str = "", after: str = "") -> F:
        """llvm.x86.avx512.mask.<name>: args, `before`, the value of masked lanes, mask, `after`."""
        return self.by_registers(args, lambda m, parts: m._masked512(name, parts, before, after))

    def _masked512(self, name: str, args: Sequence[F], before: str, after: str) -> F:
        suffix = "pd" if self.double else "ps"
        operands = [(self.floats, a.text) for a in args]
        operands += [("i32", before)] if before else []
        operands += [(self.floats, "zeroinitializer"), (f"i{self.lanes}", "-1"), ("i32", after)]
        full = f"llvm.x86.avx512.mask.{name}.{suffix}.512"
        return F(self, self.w.call(self.floats, full, *operands))

    def by_registers(self, args: Sequence[T], write: Callable[[Maths, list[T]], F]) -> F:
        """`write` of vectors of 512 bits; twice, and joined, where there are two of them."""
        native = 8 if self.double else 16
        if self.lanes == native:
            return write(self, list(args))
        half = Maths(self.w, self.scalar, native, self._functions)
        both = [
            write(half, [half.part(a, range(k, k + native)) for a in args]) for k in (0, native)
        ]
        kind, mask = half.floats, indices(range(2 * native))
        return F(
            self, self.w(f"shufflevector {kind} {both[0].text}, {kind} {both[1].text}, {mask}")
        )

    def part(self, x: T, lanes: Sequence[int]) -> T:
        """Some lanes of a longer vector."""
        kind = x.m.floats if isinstance(x, F) else x.m.ints
        text = f"shufflevector {kind} {x.text}, {kind} poison, {indices(lanes)}"
        return type(x)(self, self.w(text))  # type: ignore[return-value]

    def rough_reciprocal(self, x: F) -> F:
        """1 / x to half of its bits at least, for factors of small corrections."""
        if not self.avx512:
            return 1.0 / x
        y = self.by_registers([x], Maths._rough)
        return self.fma(y, self.fma(-x, y, 1.0), y) if self.double else y

    def reciprocal(self, x: F) -> F:
        """1 / x of ordinary floats, within a unit of it: a division that waits for no divider."""
        y = self.rough_reciprocal(x)
        return self.fma(y, self.fma(-x, y, 1.0), y) if self.avx512 else y

    def _rough(self, parts: list[F]) -> F:
        suffix = "pd" if self.double else "ps"
        kind, mask = self.floats, f"i{self.lanes}"
        operands = [(kind, parts[0].text), (kind, "zeroinitializer"), (mask, "-1")]
        return F(self, self.w.call(kind, f"llvm.x86.avx512.rcp14.{suffix}.512", *operands))

    def divided(self, top: F, bottom: F) -> tuple[F, F]:
        """top / bottom, and 1 / bottom to 14 bits at least, for a correction of the quotient."""
        if not self.avx512:
            return top / bottom, 1.0 / bottom
        return top / bottom, self.by_registers([bottom], Maths._rough)

    def lookup(self, table: Sequence[float], index: I) -> F:
        """table[index % 16] of 16 numbers."""
        if self.avx512:
            return self.by_registers([index], lambda m, parts: m._permuted(table, parts[0]))
        if "avx2" in self.w.target.present and self.lanes == 8 and not self.double:
            return self._permuted_halves(table, index)
        name = self.table(table)
        low = index & 15
        kind = vector(self.integer, self.lanes)
        room = f"[16 x {self.scalar}]"
        if self.lanes == 1:
            place = self.w(f"getelementptr {room}, ptr @{name}, i64 0, {kind} {low.text}")
            return F(self, self.w(f"load {self.scalar}, ptr {place}"))
        total = "poison"
        for k in range(self.lanes):
            at = self.w.lane(kind, low.text, k)
            place = self.w(f"getelementptr {room}, ptr @{name}, i64 0, {self.integer} {at}")
            value = self.w(f"load {self.scalar}, ptr {place}")
            total = self.w(f"insertelement {self.floats} {total}, {self.scalar} {value}, i64 {k}")
        return F(self, total)

    def _permuted(self, table: Sequence[float], index: I) -> F:
        """Sixteen floats in one register, or doubles in two, permuted."""
        rows = [self.row(table[k : k + self.lanes]) for k in range(0, 16, self.lanes)]
        if not self.double:
            name = "llvm.x86.avx512.permvar.sf.512"
            return F(
                self,
                self.w.call(self.floats, name, (self.floats, rows[0]), (self.ints, index.text)),
            )
        name = "llvm.x86.avx512.vpermi2var.pd.512"
        operands = [(self.floats, rows[0]), (self.ints, index.text), (self.floats, rows[1])]
        return F(self, self.w.call(self.floats, name, *operands))

    def _permuted_halves(self, table: Sequence[float], index: I) -> F:
        """Sixteen floats in two registers of 256 bits, each permuted."""
        low, high = [
            self.w.call(
                self.floats,
                "llvm.x86.avx2.permps",
                (self.floats, self.row(table[k : k + 8])),
                (self.ints, index.text),
            )
            for k in (0, 8)
        ]
        upper = (index << self.width - 4) < 0
        return self.select(upper, F(self, high), F(self, low))

    def row(self, values: Sequence[float]) -> str:
        """A vector of these numbers."""
        return f"<{', '.join([f'{self.scalar} {self.number(v)}' for v in values])}>"

    def table(self, values: Sequence[float]) -> str:
        """The name of a constant of the module that holds these numbers."""
        texts = [self.number(v) for v in values]
        key = format(zlib.crc32(" ".join(texts).encode()), "x")
        name = f"ft.table.{key}.{len(texts)}.{self.scalar}"
        body = ", ".join([f"{self.scalar} {t}" for t in texts])
        kind = f"[{len(texts)} x {self.scalar}]"
        self.w.declares.add(f"@{name} = internal constant {kind} [{body}], align 64")
        return name

    def number(self, value: float) -> str:
        """The literal of one lane."""
        return double_text(narrow("f64" if self.double else "f32", value))

    def each(self, name: str, *args: F) -> F:
        """The C function `name` (its double form's name) of each lane."""
        return self._called(self._functions.each(name, self.scalar, self.lanes, len(args)), args)

    def formula(self, name: str, *args: F) -> F:
        """An elementary function as a call: for slow ways, which need not be fast to enter."""
        found = self._functions.formula(name, self.scalar, self.lanes, len(args))
        return self._called(found, args)

    def _called(self, function: str, args: Sequence[F], kind: str = "") -> F:
        passed = ", ".join([f"{self.floats} {a.text}" for a in args])
        made = f"{self._functions.convention}{kind or self.floats}"
        return F(self, self.w(f"call {made} @{function}({passed})"))

    def unless(self, rare: B, usual: F, careful: Careful, *args: F) -> F:
        """`usual`, but what `careful` makes of `args` in the lanes where `rare` holds."""
        return self.unless_each(rare, [usual], careful, *args)[0]

    def unless_each(self, rare: B, usual: Sequence[F], careful: Careful, *args: F) -> list[F]:
        """The same of several results.

        One test of all lanes; the careful code does not run where none is rare. It is a function
        that is given all that it takes to answer the results: were a register still in use after
        its call, the code around would save one for it on every way in and out. Where that is more
        than the registers of a call hold the careful code stands in line.
        """
        w = self.w
        slow, done = w.fresh("slow"), w.fresh("done")
        before = w.label
        w.branch(w.any_lane(rare.text, self.lanes), slow, done)
        w.open(slow)
        if (1 + len(usual) + len(args)) * self.registers > PASSED:
            found = self.chosen(rare, usual, careful, args)
        else:
            found = self._beyond(rare, usual, careful, args)
        after = w.label
        w.jump(done)
        w.open(done)
        return [
            F(self, w(f"phi {self.floats} [ {one.text}, %{before} ], [ {other.text}, %{after} ]"))
            for one, other in zip(usual, found, strict=True)
        ]

    @property
    def registers(self) -> int:
        """How many registers a vector takes."""
        size = self.lanes * (8 if self.double else 4)
        return -(-size // self.w.target.vector_bytes)

    def chosen(self, rare: B, usual: Sequence[F], careful: Careful, args: Sequence[F]) -> list[F]:
        """What `careful` makes of `args` where `rare` holds, else `usual`; in line."""
        found = self.each(careful, *args) if isinstance(careful, str) else careful(self, *args)
        better = [found] if isinstance(found, F) else found
        return [self.select(rare, new, old) for old, new in zip(usual, better, strict=True)]

    def _beyond(self, rare: B, usual: Sequence[F], careful: Careful, args: Sequence[F]) -> list[F]:
        """The same as a call."""
        count = len(usual)
        flags = self.select(rare, 1.0, self.f(0.0))
        name = self._functions.beyond(careful, self.scalar, self.lanes, len(args), count)
        kind = several(self.floats, count)
        found = self._called(name, [flags, *usual, *args], kind)
        if count == 1:
            return [found]
        return [F(self, self.w(f"extractvalue {kind} {found.text}, {k}")) for k in range(count)]


def several(kind: str, count: int) -> str:
    """The type of some results."""
    return kind if count == 1 else f"{{ {', '.join([kind] * count)} }}"
