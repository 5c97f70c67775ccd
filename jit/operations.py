"""How each operation of the loop IR is written as LLVM instructions, for any number of lanes.

`OPERATIONS[name](w, dtype, lanes, args)` takes operands of `lanes` lanes in register form and
answers the result; dtype is that of the first operand. Meanings follow NumPy (see loop_ir.nodes):
nothing here traps or is undefined, whatever the operands hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from jit.conversions import const, rounded
from jit.loop_ir.nodes import FLOATS, ITEMSIZE, UNSIGNED, DType
from jit.vectors import Writer, mangled, register, splat, vector

Operation: TypeAlias = Callable[[Writer, DType, int, tuple[str, ...]], str]

OPERATIONS: dict[str, Operation] = {}


def operation(*names: str) -> Callable[[Operation], Operation]:
    """Register a writer under its names."""

    def keep(function: Operation) -> Operation:
        for name in names:
            OPERATIONS[name] = function
        return function

    return keep


# Arithmetic

FLOAT_INSTRUCTION = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}


def binary(name: str) -> Operation:
    """add, sub, mul."""
    plain = FLOAT_INSTRUCTION[name]

    def write(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
        kind = register(dtype, lanes)
        if dtype not in FLOATS:
            return w(f"{name} {kind} {args[0]}, {args[1]}")
        return rounded(w, dtype, lanes, w(f"{plain} contract {kind} {args[0]}, {args[1]}"))

    return write


for _name in ("add", "sub", "mul"):
    OPERATIONS[_name] = binary(_name)


@operation("div")
def write_div(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
    """IEEE division, or the guarded integer quotient towards zero."""
    if dtype in FLOATS:
        kind = register(dtype, lanes)
        return rounded(w, dtype, lanes, w(f"fdiv contract {kind} {args[0]}, {args[1]}"))
    return guarded_quotient(w, dtype, lanes, args[0], args[1])


def guarded_quotient(w: Writer, dtype: DType, lanes: int, a: str, b: str) -> str:
    """a / b towards zero; 0 for b = 0 and the wrapped -a for b = -1."""
    kind, flags = register(dtype, lanes), vector("i1", lanes)
    unsigned = dtype in UNSIGNED
    if not b.startswith("%") and b not in (const(dtype, n, lanes) for n in (0, -1)):
        return divided_by_literal(w, dtype, lanes, a, b)
    one, zero = const(dtype, 1, lanes), const(dtype, 0, lanes)
    none = w(f"icmp eq {kind} {b}, {zero}")
    if unsigned:
        safe = w(f"select {flags} {none}, {kind} {one}, {kind} {b}")
        found = wide_quotient(w, dtype, lanes, a, safe)
        return w(f"select {flags} {none}, {kind} {zero}, {kind} {found}")
    minus = w(f"icmp eq {kind} {b}, {const(dtype, -1, lanes)}")
    special = w(f"or {flags} {none}, {minus}")
    safe = w(f"select {flags} {special}, {kind} {one}, {kind} {b}")
    found = wide_quotient(w, dtype, lanes, a, safe)
    negated = w(f"sub {kind} {zero}, {a}")
    found = w(f"select {flags} {minus}, {kind} {negated}, {kind} {found}")
    return w(f"select {flags} {none}, {kind} {zero}, {kind} {found}")


def divided_by_literal(w: Writer, dtype: DType, lanes: int, a: str, b: str) -> str:
    """a / b for a literal b other than 0 and -1: LLVM multiplies, but not vectors of 64 bits."""
    if lanes > 1 and ITEMSIZE[dtype] == 8 and not is_power_of_two(b):
        return wide_quotient(w, dtype, lanes, a, b)
    letter = "u" if dtype in UNSIGNED else "s"
    return w(f"{letter}div {register(dtype, lanes)} {a}, {b}")


def is_power_of_two(text: str) -> bool:
    """Whether an integer literal, of one lane or of all, is a power of two."""
    value = int(text.removesuffix(")").split()[-1])
    return value > 0 and value & (value - 1) == 0


def wide_quotient(w: Writer, dtype: DType, lanes: int, a: str, b: str) -> str:
    """a / b of vectors through doubles, as there is no vector division of integers.

    Exact up to 32 bits. 64-bit operands are tested: beyond 2**52 they are divided one by one.
    """
    kind, letter = register(dtype, lanes), "u" if dtype in UNSIGNED else "s"
    wide = ITEMSIZE[dtype] == 8
    if lanes == 1 or (wide and not w.target.wide_integers):
        return w(f"{letter}div {kind} {a}, {b}")
    if not wide:
        return double_quotient(w, dtype, lanes, a, b)
    offset = const(dtype, 0 if letter == "u" else 1 << 52, lanes)
    moved = [w(f"add {kind} {v}, {offset}") for v in (a, b)]
    either = w(f"or {kind} {moved[0]}, {moved[1]}")
    top = w(f"lshr {kind} {either}, {const(dtype, 53, lanes)}")
    large = w(f"icmp ne {kind} {top}, {const(dtype, 0, lanes)}")
    slow, fast, done = w.fresh("slow"), w.fresh("fast"), w.fresh("done")
    w.branch(w.any_lane(large, lanes), slow, fast)
    w.open(slow)
    one_by_one = w(f"{letter}div {kind} {a}, {b}")
    w.jump(done)
    w.open(fast)
    found = double_quotient(w, dtype, lanes, a, b)
    w.jump(done)
    w.open(done)
    return w(f"phi {kind} [ {one_by_one}, %{slow} ], [ {found}, %{fast} ]")


def double_quotient(w: Writer, dtype: DType, lanes: int, a: str, b: str) -> str:
    """a / b towards zero of integers below 2**53: rounding cannot reach the next integer."""
    kind, doubles = register(dtype, lanes), vector("double", lanes)
    letter = "u" if dtype in UNSIGNED else "s"
    top = w(f"{letter}itofp {kind} {a} to {doubles}")
    bottom = w(f"{letter}itofp {kind} {b} to {doubles}")
    ratio = w(f"fdiv {doubles} {top}, {bottom}")
    return w(f"fpto{letter}i {doubles} {ratio} to {kind}")


@operation("rem")
def write_rem(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
    """The remainder of the guarded integer quotient (0 when the divisor is 0)."""
    a, b = args
    kind = register(dtype, lanes)
    quotient = guarded_quotient(w, dtype, lanes, a, b)
    back = w(f"mul {kind} {quotient}, {b}")
    rest = w(f"sub {kind} {a}, {back}")
    if b.startswith("%"):
        none = w(f"icmp eq {kind} {b}, {const(dtype, 0, lanes)}")
        zero = const(dtype, 0, lanes)
        rest = w(f"select {vector('i1', lanes)} {none}, {kind} {zero}, {kind} {rest}")
    return const(dtype, 0, lanes) if b == const(dtype, 0, lanes) else rest


@operation("floordiv")
def write_floordiv(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
    """The integer quotient towards minus infinity."""
    quotient = guarded_quotient(w, dtype, lanes, args[0], args[1])
    if dtype in UNSIGNED:
        return quotient
    kind = register(dtype, lanes)
    wrong = wrong_sign(w, dtype, lanes, args, quotient)[0]
    less = w(f"sext {vector('i1', lanes)} {wrong} to {kind}")
    return w(f"add {kind} {quotient}, {less}")


@operation("mod")
def write_mod(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
    """The integer remainder with the sign of the divisor."""
    if dtype in UNSIGNED:
        return write_rem(w, dtype, lanes, args)
    kind, flags = register(dtype, lanes), vector("i1", lanes)
    quotient = guarded_quotient(w, dtype, lanes, args[0], args[1])
    wrong, rest = wrong_sign(w, dtype, lanes, args, quotient)
    moved = w(f"add {kind} {rest}, {args[1]}")
    found = w(f"select {flags} {wrong}, {kind} {moved}, {kind} {rest}")
    zero = const(dtype, 0, lanes)
    none = w(f"icmp eq {kind} {args[1]}, {zero}")
    return w(f"select {flags} {none}, {kind} {zero}, {kind} {found}")


def wrong_sign(
    w: Writer, dtype: DType, lanes: int, args: tuple[str, ...], quotient: str
) -> tuple[str, str]:
    """Whether the remainder is not 0 and has not the divisor's sign, and the remainder.

    Never so for a divisor 0, whose quotient is already the answer.
    """
    kind, flags = register(dtype, lanes), vector("i1", lanes)
    zero = const(dtype, 0, lanes)
    a, b = args
    back = w(f"mul {kind} {quotient}, {b}")
    rest = w(f"sub {kind} {a}, {back}")
    some = w(f"icmp ne {kind} {rest}, {zero}")
    mixed = w(f"xor {kind} {rest}, {b}")
    differ = w(f"icmp slt {kind} {mixed}, {zero}")
    wrong = w(f"and {flags} {some}, {differ}")
    divides = w(f"icmp ne {kind} {b}, {zero}")
    return w(f"and {flags} {wrong}, {divides}"), rest


@operation("neg")
def write_neg(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
    """-a."""
    kind = register(dtype, lanes)
    if dtype in FLOATS:
        return w(f"fneg {kind} {args[0]}")
    return w(f"sub {kind} {const(dtype, 0, lanes)}, {args[0]}")


@operation("abs")
def write_abs(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
    """|a|, wrapping at the least integer."""
    kind = register(dtype, lanes)
    if dtype in FLOATS:
        return w.unary("fabs", register(dtype, 1), lanes, args[0])
    if dtype in UNSIGNED:
        return args[0]
    zero = const(dtype, 0, lanes)
    negated = w(f"sub {kind} {zero}, {args[0]}")
    below = w(f"icmp slt {kind} {args[0]}, {zero}")
    return w(f"select {vector('i1', lanes)} {below}, {kind} {negated}, {kind} {args[0]}")


def extremum(relation: str) -> Operation:
    """min or max: the second operand on a tie, a NaN operand wins."""

    def write(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
        kind, flags = register(dtype, lanes), vector("i1", lanes)
        a, b = args
        if dtype not in FLOATS:
            prefix = "u" if dtype in UNSIGNED or dtype == "bool" else "s"
            wins = w(f"icmp {prefix}{relation} {kind} {a}, {b}")
            return w(f"select {flags} {wins}, {kind} {a}, {kind} {b}")
        wins = w(f"fcmp o{relation} {kind} {a}, {b}")
        found = w(f"select {flags} {wins}, {kind} {a}, {kind} {b}")
        is_nan = w(f"fcmp uno {kind} {a}, {a}")
        return w(f"select {flags} {is_nan}, {kind} {a}, {kind} {found}")

    return write


OPERATIONS["min"] = extremum("lt")
OPERATIONS["max"] = extremum("gt")


def nan_ignoring(relation: str) -> Operation:
    """fmin or fmax: the first operand on a tie, a NaN operand loses."""

    def write(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
        kind, flags = register(dtype, lanes), vector("i1", lanes)
        a, b = args
        wins = w(f"fcmp o{relation} {kind} {a}, {b}")
        alone = w(f"fcmp uno {kind} {b}, {b}")
        wins = w(f"or {flags} {wins}, {alone}")
        return w(f"select {flags} {wins}, {kind} {a}, {kind} {b}")

    return write


OPERATIONS["fmin"] = nan_ignoring("le")
OPERATIONS["fmax"] = nan_ignoring("ge")


@operation("fma")
def write_fma(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
    """a * b + c, fused where there is an instruction for it."""
    kind, scalar = register(dtype, lanes), register(dtype, 1)
    if w.target.fma:
        name = f"llvm.fma.{mangled(scalar, lanes)}"
        found = w.call(kind, name, (kind, args[0]), (kind, args[1]), (kind, args[2]))
    else:
        product = w(f"fmul {kind} {args[0]}, {args[1]}")
        found = w(f"fadd {kind} {product}, {args[2]}")
    return rounded(w, dtype, lanes, found)


def float_unary(name: str, exact: bool) -> Operation:
    """An LLVM intrinsic of one float; exact ones need no rounding to a narrow type."""

    def write(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
        found = w.unary(name, register(dtype, 1), lanes, args[0])
        return found if exact else rounded(w, dtype, lanes, found)

    return write


OPERATIONS["sqrt"] = float_unary("sqrt", exact=False)
for _name in ("floor", "ceil", "trunc", "rint"):
    OPERATIONS[_name] = float_unary(_name, exact=True)


@operation("copysign")
def write_copysign(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
    """|a| with the sign of b."""
    kind, scalar = register(dtype, lanes), register(dtype, 1)
    name = f"llvm.copysign.{mangled(scalar, lanes)}"
    return w.call(kind, name, (kind, args[0]), (kind, args[1]))


# Bits


def bitwise(name: str) -> Operation:
    """and, or, xor."""

    def write(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
        return w(f"{name} {register(dtype, lanes)} {args[0]}, {args[1]}")

    return write


for _name in ("and", "or", "xor"):
    OPERATIONS[_name] = bitwise(_name)


@operation("not")
def write_not(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
    """All bits flipped."""
    ones = splat(register(dtype, 1), "true" if dtype == "bool" else "-1", lanes)
    return w(f"xor {register(dtype, lanes)} {args[0]}, {ones}")


def shift(left: bool) -> Operation:
    """A shift whose count may be anything: outside 0 .. width-1 all bits go."""

    def write(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
        kind, flags = register(dtype, lanes), vector("i1", lanes)
        value, count = args
        bits = 8 * ITEMSIZE[dtype]
        arithmetic = not left and dtype not in UNSIGNED
        instruction = "shl" if left else "ashr" if arithmetic else "lshr"
        last = const(dtype, bits - 1, lanes)
        fits = w(f"icmp ule {kind} {count}, {last}")
        safe = w(f"select {flags} {fits}, {kind} {count}, {kind} {last}")
        found = w(f"{instruction} {kind} {value}, {safe}")
        if arithmetic:
            return found
        return w(f"select {flags} {fits}, {kind} {found}, {kind} {const(dtype, 0, lanes)}")

    return write


OPERATIONS["shl"] = shift(left=True)
OPERATIONS["shr"] = shift(left=False)


@operation("popcount")
def write_popcount(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
    """The number of bits that are set."""
    return w.unary("ctpop", register(dtype, 1), lanes, args[0])


def zeros(name: str) -> Operation:
    """Leading or trailing zeros; the width for 0."""

    def write(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
        kind = register(dtype, lanes)
        full = f"llvm.{name}.{mangled(register(dtype, 1), lanes)}"
        return w.call(kind, full, (kind, args[0]), ("i1", "false"))

    return write


OPERATIONS["clz"] = zeros("ctlz")
OPERATIONS["ctz"] = zeros("cttz")


# Comparisons and selection


def comparison(name: str) -> Operation:
    """A comparison of any type."""

    def write(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
        kind = register(dtype, lanes)
        if dtype in FLOATS:
            return w(f"fcmp {'une' if name == 'ne' else 'o' + name} {kind} {args[0]}, {args[1]}")
        unsigned = dtype in UNSIGNED or dtype == "bool"
        prefix = "" if name in ("eq", "ne") else "u" if unsigned else "s"
        return w(f"icmp {prefix}{name} {kind} {args[0]}, {args[1]}")

    return write


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    OPERATIONS[_name] = comparison(_name)


def write_select(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
    """then where cond else orelse, of type dtype."""
    kind, flags = register(dtype, lanes), vector("i1", lanes)
    return w(f"select {flags} {args[0]}, {kind} {args[1]}, {kind} {args[2]}")
