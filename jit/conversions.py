"""Values in registers and in memory, narrow floats, and NumPy's casts, for any number of lanes.

A cast means what NumPy's astype gives on x86-64; nothing is undefined, whatever the value.
"""

from __future__ import annotations

from jit.loop_ir.nodes import FLOATS, ITEMSIZE, UNSIGNED, DType, integer_bounds
from jit.vectors import Writer, double_text, literal, register, splat, vector


def const(dtype: DType, value: int | float | bool, lanes: int) -> str:
    """A literal in every lane."""
    return splat(register(dtype, 1), literal(dtype, value), lanes)


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
