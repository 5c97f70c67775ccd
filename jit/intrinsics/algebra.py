"""Vectors of floats, integers and masks as Python values whose operators write LLVM text.

A generator of an elementary function reads as its formula and serves every width and precision.
Nothing here may be contracted or reassociated: error terms are computed on purpose, and products
are fused only where `fma` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from jit.vectors import Writer, double_text, mangled, narrow, splat, vector

T = TypeVar("T", "F", "I")


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
    """Integers as wide as the floats of `m`."""

    __slots__ = ("m", "text")

    def __init__(self, m: Maths, text: str) -> None:
        self.m = m
        self.text = text

    def _with(self, name: str, other: I | int) -> I:
        right = self.m.i(other)
        return I(self.m, self.m.w(f"{name} {self.m.ints} {self.text}, {right.text}"))

    def __add__(self, other: I | int) -> I:
        return self._with("add", other)

    def __sub__(self, other: I | int) -> I:
        return self._with("sub", other)

    def __and__(self, other: I | int) -> I:
        return self._with("and", other)

    def __or__(self, other: I | int) -> I:
        return self._with("or", other)

    def __xor__(self, other: I | int) -> I:
        return self._with("xor", other)

    def __lshift__(self, count: int) -> I:
        return self._with("shl", count)

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

    mantissa: stored bits of the significand. `each(name, ...)` is a C function of each lane.
    """

    def __init__(
        self, w: Writer, scalar: str, lanes: int, each: Callable[[str, str, int, int], str]
    ) -> None:
        self.w = w
        self.scalar = scalar
        self.lanes = lanes
        self.double = scalar == "double"
        self.mantissa = 52 if self.double else 23
        self.bias = 1023 if self.double else 127
        self.integer = "i64" if self.double else "i32"
        self.floats = vector(scalar, lanes)
        self.ints = vector(self.integer, lanes)
        self.masks = vector("i1", lanes)
        # Adding this leaves a number rounded to an integer in the low bits.
        self.magic = 1.5 * 2.0**self.mantissa
        self._each = each

    def pick(self, double: float, single: float) -> float:
        """One of two numbers, by precision."""
        return double if self.double else single

    def f(self, value: F | float) -> F:
        """A float in every lane."""
        if isinstance(value, F):
            return value
        rounded = narrow("f64" if self.double else "f32", value)
        return F(self, splat(self.scalar, double_text(rounded), self.lanes))

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

    def poly(self, x: F, coefficients: Sequence[float]) -> F:
        """c[0] + c[1] x + ...: even and odd powers side by side when there are many."""
        if len(coefficients) >= 8:
            square = x * x
            even = self.horner(square, coefficients[0::2])
            return self.fma(self.horner(square, coefficients[1::2]), x, even)
        return self.horner(x, coefficients)

    def horner(self, x: F, coefficients: Sequence[float]) -> F:
        """From the highest power down."""
        total = self.f(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            total = self.fma(total, x, c)
        return total

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
        return Maths(self.w, "double", self.lanes, self._each)

    def widen(self, x: F, to: Maths) -> F:
        """float -> double."""
        return F(to, self.w(f"fpext {self.floats} {x.text} to {to.floats}"))

    def narrow(self, x: F) -> F:
        """double -> the precision of self."""
        return F(self, self.w(f"fptrunc {x.m.floats} {x.text} to {self.floats}"))

    def each(self, name: str, *args: F) -> F:
        """The C function `name` (its double form's name) of each lane."""
        function = self._each(name, self.scalar, self.lanes, len(args))
        passed = ", ".join([f"{self.floats} {a.text}" for a in args])
        return F(self, self.w(f"call {self.floats} @{function}({passed})"))

    def unless(self, rare: B, usual: F, name: str, *args: F) -> F:
        """`usual`, but the C function `name` of args in the lanes where `rare` holds.

        One test of all lanes; the C function is not called where none is rare.
        """
        w = self.w
        slow, done = w.fresh("slow"), w.fresh("done")
        before = w.label
        w.branch(w.any_lane(rare.text, self.lanes), slow, done)
        w.open(slow)
        found = self.select(rare, self.each(name, *args), usual)
        after = w.label
        w.jump(done)
        w.open(done)
        incoming = f"[ {usual.text}, %{before} ], [ {found.text}, %{after} ]"
        return F(self, w(f"phi {self.floats} {incoming}"))
