"""How each operation of the loop IR is written as LLVM instructions, for any number of lanes.

`OPERATIONS[name](w, dtype, lanes, args)` takes operands of `lanes` lanes in register form and
answers the result; dtype is that of the first operand. Meanings follow NumPy (see loop_ir.nodes):
nothing here traps or is undefined, whatever the operands hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from jit.loop_ir.nodes import FLOATS, ITEMSIZE, UNSIGNED, DType, integer_bounds
from jit.vectors import Writer, double_text, literal, mangled, register, splat, vector

Operation: TypeAlias = Callable[[Writer, DType, int, tuple[str, ...]], str]

OPERATIONS: dict[str, Operation] = {}


def const(dtype: DType, value: int | float | bool, lanes: int) -> str:
    """A literal in every lane."""
    return splat(register(dtype, 1), literal(dtype, value), lanes)


def operation(*names: str) -> Callable[[Operation], Operation]:
    """Register a writer under its names."""

    def keep(function: Operation) -> Operation:
        for name in names:
            OPERATIONS[name] = function
        return function

    return keep


# Narrow floats


def rounded(w: Writer, dtype: DType, lanes: int, value: str) -> str:
    """A float register rounded to the values of its type; f32 and f64 are so already."""
    if dtype == "f16":
        return from_half(w, lanes, to_half(w, lanes, value))
    if dtype == "bf16":
        return from_bfloat(w, lanes, to_bfloat(w, lanes, value))
    return value


def to_half(w: Writer, lanes: int, value: str) -> str:
    """float -> half, ties to even."""
    floats, halves = vector("float", lanes), vector("half", lanes)
    if w.target.half:
        return w(f"fptrunc {floats} {value} to {halves}")
    ints, shorts = vector("i32", lanes), vector("i16", lanes)

    def number(n: int) -> str:
        return splat("i32", str(n), lanes)

    bits = w(f"bitcast {floats} {value} to {ints}")
    sign = w(f"and {ints} {bits}, {number(-0x80000000)}")
    size = w(f"xor {ints} {bits}, {sign}")
    # Adding 0.5 rounds a value below 2**-14 at the last place of a subnormal half.
    tiny = w(f"bitcast {ints} {size} to {floats}")
    tiny = w(f"fadd {floats} {tiny}, {splat('float', double_text(0.5), lanes)}")
    tiny = w(f"bitcast {floats} {tiny} to {ints}")
    tiny = w(f"sub {ints} {tiny}, {number(0x3F000000)}")
    odd = w(f"lshr {ints} {size}, {number(13)}")
    odd = w(f"and {ints} {odd}, {number(1)}")
    normal = w(f"add {ints} {size}, {number(0xFFF - (112 << 23))}")
    normal = w(f"add {ints} {normal}, {odd}")
    normal = w(f"lshr {ints} {normal}, {number(13)}")
    is_tiny = w(f"icmp slt {ints} {size}, {number(113 << 23)}")
    found = w(f"select {vector('i1', lanes)} {is_tiny}, {ints} {tiny}, {ints} {normal}")
    is_big = w(f"icmp sge {ints} {size}, {number(0x477FF000)}")
    found = w(f"select {vector('i1', lanes)} {is_big}, {ints} {number(0x7C00)}, {ints} {found}")
    is_nan = w(f"icmp sgt {ints} {size}, {number(0x7F800000)}")
    found = w(f"select {vector('i1', lanes)} {is_nan}, {ints} {number(0x7E00)}, {ints} {found}")
    top = w(f"lshr {ints} {sign}, {number(16)}")
    found = w(f"or {ints} {found}, {top}")
    found = w(f"trunc {ints} {found} to {shorts}")
    return w(f"bitcast {shorts} {found} to {halves}")


def from_half(w: Writer, lanes: int, value: str) -> str:
    """half -> float, exact."""
    floats, halves = vector("float", lanes), vector("half", lanes)
    if w.target.half:
        return w(f"fpext {halves} {value} to {floats}")
    ints, shorts = vector("i32", lanes), vector("i16", lanes)

    def number(n: int) -> str:
        return splat("i32", str(n), lanes)

    bits = w(f"bitcast {halves} {value} to {shorts}")
    bits = w(f"zext {shorts} {bits} to {ints}")
    size = w(f"and {ints} {bits}, {number(0x7FFF)}")
    sign = w(f"xor {ints} {bits}, {size}")
    sign = w(f"shl {ints} {sign}, {number(16)}")
    wide = w(f"shl {ints} {size}, {number(13)}")
    wide = w(f"bitcast {ints} {wide} to {floats}")
    # Scaling by 2**112 corrects the exponent and normalises subnormals at once.
    wide = w(f"fmul {floats} {wide}, {splat('float', double_text(2.0**112), lanes)}")
    wide = w(f"bitcast {floats} {wide} to {ints}")
    special = w(f"icmp uge {ints} {size}, {number(0x7C00)}")
    full = w(f"or {ints} {wide}, {number(0x7F800000)}")
    wide = w(f"select {vector('i1', lanes)} {special}, {ints} {full}, {ints} {wide}")
    wide = w(f"or {ints} {wide}, {sign}")
    return w(f"bitcast {ints} {wide} to {floats}")


def to_bfloat(w: Writer, lanes: int, value: str) -> str:
    """float -> the bits of a bfloat16 as i16, ties to even."""
    floats, ints = vector("float", lanes), vector("i32", lanes)

    def number(n: int) -> str:
        return splat("i32", str(n), lanes)

    bits = w(f"bitcast {floats} {value} to {ints}")
    odd = w(f"lshr {ints} {bits}, {number(16)}")
    odd = w(f"and {ints} {odd}, {number(1)}")
    near = w(f"add {ints} {bits}, {number(0x7FFF)}")
    near = w(f"add {ints} {near}, {odd}")
    quiet = w(f"or {ints} {bits}, {number(0x400000)}")
    is_nan = w(f"fcmp uno {floats} {value}, {value}")
    near = w(f"select {vector('i1', lanes)} {is_nan}, {ints} {quiet}, {ints} {near}")
    near = w(f"lshr {ints} {near}, {number(16)}")
    return w(f"trunc {ints} {near} to {vector('i16', lanes)}")


def from_bfloat(w: Writer, lanes: int, value: str) -> str:
    """The bits of a bfloat16 as i16 -> float."""
    ints = vector("i32", lanes)
    wide = w(f"zext {vector('i16', lanes)} {value} to {ints}")
    wide = w(f"shl {ints} {wide}, {splat('i32', '16', lanes)}")
    return w(f"bitcast {ints} {wide} to {vector('float', lanes)}")


def to_memory(w: Writer, dtype: DType, lanes: int, value: str) -> str:
    """A register value in its memory type."""
    if dtype == "bool":
        return w(f"zext {vector('i1', lanes)} {value} to {vector('i8', lanes)}")
    if dtype == "f16":
        return to_half(w, lanes, value)
    return to_bfloat(w, lanes, value) if dtype == "bf16" else value


def from_memory(w: Writer, dtype: DType, lanes: int, value: str) -> str:
    """A value of the memory type in register form; any byte but 0 is true."""
    if dtype == "bool":
        return w(f"icmp ne {vector('i8', lanes)} {value}, {splat('i8', '0', lanes)}")
    if dtype == "f16":
        return from_half(w, lanes, value)
    return from_bfloat(w, lanes, value) if dtype == "bf16" else value


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
        return w(f"{'udiv' if unsigned else 'sdiv'} {kind} {a}, {b}")
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


def wide_quotient(w: Writer, dtype: DType, lanes: int, a: str, b: str) -> str:
    """a / b of vectors through doubles: exact up to 32 bits, and there is no vector division."""
    kind, unsigned = register(dtype, lanes), dtype in UNSIGNED
    if lanes == 1 or ITEMSIZE[dtype] == 8:
        return w(f"{'udiv' if unsigned else 'sdiv'} {kind} {a}, {b}")
    doubles, letter = vector("double", lanes), "u" if unsigned else "s"
    top = w(f"{letter}itofp {kind} {a} to {doubles}")
    bottom = w(f"{letter}itofp {kind} {b} to {doubles}")
    ratio = w(f"fdiv {doubles} {top}, {bottom}")
    return w(f"fpto{letter}i {doubles} {ratio} to {kind}")


@operation("rem")
def write_rem(w: Writer, dtype: DType, lanes: int, args: tuple[str, ...]) -> str:
    """C's fmod, or the remainder of the guarded quotient (0 when the divisor is 0)."""
    a, b = args
    kind = register(dtype, lanes)
    if dtype in FLOATS:
        return w.per_lane(register(dtype, 1), lanes, "fmod" if dtype == "f64" else "fmodf", a, b)
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


# Conversions


def write_cast(w: Writer, source: DType, dtype: DType, lanes: int, value: str) -> str:
    """NumPy's astype from `source` to `dtype`."""
    if source == dtype:
        return value
    if dtype == "bool":
        zero = const(source, 0, lanes)
        compare = "fcmp une" if source in FLOATS else "icmp ne"
        return w(f"{compare} {register(source, lanes)} {value}, {zero}")
    if source in FLOATS:
        if dtype in FLOATS:
            return float_to_float(w, source, dtype, lanes, value)
        return float_to_integer(w, source, dtype, lanes, value)
    if dtype in FLOATS:
        letter = "u" if source in UNSIGNED or source == "bool" else "s"
        kinds = register(source, lanes), register(dtype, lanes)
        return rounded(w, dtype, lanes, w(f"{letter}itofp {kinds[0]} {value} to {kinds[1]}"))
    return resize(w, source, dtype, lanes, value)


def resize(w: Writer, source: DType, dtype: DType, lanes: int, value: str) -> str:
    """An integer or bool as an integer of another width or sign."""
    before = 0 if source == "bool" else ITEMSIZE[source]
    after = ITEMSIZE[dtype]
    if before == after:
        return value
    name = "trunc" if before > after else "zext"
    if before < after and source not in UNSIGNED and source != "bool":
        name = "sext"
    return w(f"{name} {register(source, lanes)} {value} to {register(dtype, lanes)}")


def float_to_float(w: Writer, source: DType, dtype: DType, lanes: int, value: str) -> str:
    """Between float types, one rounding."""
    if dtype == "f64":
        return w(f"fpext {vector('float', lanes)} {value} to {vector('double', lanes)}")
    if source != "f64":
        return rounded(w, dtype, lanes, value)
    if dtype == "f16":
        value = to_odd(w, lanes, value)
    else:
        value = w(f"fptrunc {vector('double', lanes)} {value} to {vector('float', lanes)}")
    return rounded(w, dtype, lanes, value)


def to_odd(w: Writer, lanes: int, value: str) -> str:
    """double -> float towards zero, last bit set when inexact, so that rounding again is right."""
    doubles, floats = vector("double", lanes), vector("float", lanes)
    ints, flags = vector("i32", lanes), vector("i1", lanes)
    near = w(f"fptrunc {doubles} {value} to {floats}")
    back = w(f"fpext {floats} {near} to {doubles}")
    bits = w(f"bitcast {floats} {near} to {ints}")
    size, back_size = (w.unary("fabs", "double", lanes, v) for v in (value, back))
    above = w(f"fcmp ogt {doubles} {back_size}, {size}")
    down = w(f"sext {flags} {above} to {ints}")
    bits = w(f"add {ints} {bits}, {down}")
    inexact = w(f"fcmp one {doubles} {back_size}, {size}")
    sticky = w(f"zext {flags} {inexact} to {ints}")
    bits = w(f"or {ints} {bits}, {sticky}")
    return w(f"bitcast {ints} {bits} to {floats}")


def float_to_integer(w: Writer, source: DType, dtype: DType, lanes: int, value: str) -> str:
    """Towards zero. Out of range and NaN: as x86-64 compilers make NumPy behave.

    Up to 16 bits by way of i32, u32 by way of i64, whose least value stands for all that does
    not fit; u64 in two halves around 2**63.
    """
    if ITEMSIZE[dtype] <= 2:
        return resize(w, "i32", dtype, lanes, checked(w, source, "i32", lanes, value))
    if dtype == "u32":
        return resize(w, "i64", dtype, lanes, checked(w, source, "i64", lanes, value))
    if dtype != "u64":
        return checked(w, source, dtype, lanes, value)
    kind, flags, ints = register(source, lanes), vector("i1", lanes), vector("i64", lanes)
    half = const("f64" if source == "f64" else "f32", 2.0**63, lanes)
    low = checked(w, source, "i64", lanes, value)
    moved = w(f"fsub {kind} {value}, {half}")
    high = checked(w, source, "i64", lanes, moved)
    high = w(f"xor {ints} {high}, {const('i64', -(1 << 63), lanes)}")
    large = w(f"fcmp oge {kind} {value}, {half}")
    return w(f"select {flags} {large}, {ints} {high}, {ints} {low}")


def checked(w: Writer, source: DType, dtype: DType, lanes: int, value: str) -> str:
    """fptosi where the value fits, the least integer elsewhere."""
    kind, ints, flags = register(source, lanes), register(dtype, lanes), vector("i1", lanes)
    low, high = integer_bounds(dtype)
    scalar = "f64" if source == "f64" else "f32"
    zero = const(scalar, 0.0, lanes)
    # -2**31 and 2**31 are floats; between -2**31 - 1 and -2**31 a double still fits.
    least = float(low) - 1.0 if scalar == "f64" and dtype == "i32" else None
    above = (
        w(f"fcmp oge {kind} {value}, {const(scalar, float(low), lanes)}")
        if least is None
        else w(f"fcmp ogt {kind} {value}, {const(scalar, least, lanes)}")
    )
    below = w(f"fcmp olt {kind} {value}, {const(scalar, float(high + 1), lanes)}")
    fits = w(f"and {flags} {above}, {below}")
    safe = w(f"select {flags} {fits}, {kind} {value}, {kind} {zero}")
    found = w(f"fptosi {kind} {safe} to {ints}")
    return w(f"select {flags} {fits}, {ints} {found}, {ints} {const(dtype, low, lanes)}")


def write_bitcast(w: Writer, source: DType, dtype: DType, lanes: int, value: str) -> str:
    """The same bits as another type."""
    before, after = to_memory(w, source, lanes, value), register(dtype, lanes)
    here = vector({"f16": "half", "bf16": "i16"}.get(source) or register(source, 1), lanes)
    if dtype == "f16":
        halves = vector("half", lanes)
        value = before if here == halves else w(f"bitcast {here} {before} to {halves}")
        return from_half(w, lanes, value)
    if dtype == "bf16":
        shorts = vector("i16", lanes)
        value = before if here == shorts else w(f"bitcast {here} {before} to {shorts}")
        return from_bfloat(w, lanes, value)
    return before if here == after else w(f"bitcast {here} {before} to {after}")
