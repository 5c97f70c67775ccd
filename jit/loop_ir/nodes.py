"""The nodes of the loop IR: typed scalar SSA values inside structured loops over flat buffers.

The grammar, which check.py enforces and pprint.py prints:

    program ::= buffer* kernel*
    kernel  ::= block
    block   ::= stmt*
    stmt    ::= value := op(value*)                      pure and total: never traps
              | value := load buffer[offset] (where m else v)
              | store buffer[offset] = value (where m)
              | for var < extent (carries) block          serial, vector or parallel
              | while (carries) block test value block    each lane of a vector loop for itself
              | if value block else block                 each lane of a vector loop for itself
              | value := call symbol(value | pointer ...) not inside a vector loop
              | callback index(pointer ...)               not inside a vector loop
              | value := address buffer[offset]           not inside a vector loop
              | value := run program(pointer, pointer, pointer)   not inside a vector loop
              | grow buffer to value
              | fail code when value                      leaves the program with that status
              | leave value                               the same with a status that is not 0

A value is computed once and read only where its definition dominates. Offsets and extents are
i64. Buffers are dense and flat; a complex buffer is a real one of twice the length.

Values are compared by identity and are immutable once built. They are plain slotted classes and
not frozen ones because thousands of them are built on the way to a first call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

DType = Literal[
    "bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "bf16", "f32", "f64"
]
BufferKind = Literal["input", "inout", "output", "temp", "local", "grown", "const"]
LoopKind = Literal["serial", "vector", "parallel", "parallel_vector"]
Combine = Literal["add", "mul", "min", "max", "and", "or", "xor"]

ITEMSIZE: dict[DType, int] = {
    "bool": 1,
    "i8": 1,
    "i16": 2,
    "i32": 4,
    "i64": 8,
    "u8": 1,
    "u16": 2,
    "u32": 4,
    "u64": 8,
    "f16": 2,
    "bf16": 2,
    "f32": 4,
    "f64": 8,
}
LANE_BYTES = 128
"""The lanes of a vector loop hold no more bytes of any type."""
FLOATS: frozenset[DType] = frozenset({"f16", "bf16", "f32", "f64"})
SIGNED: frozenset[DType] = frozenset({"i8", "i16", "i32", "i64"})
UNSIGNED: frozenset[DType] = frozenset({"u8", "u16", "u32", "u64"})
INTEGERS: frozenset[DType] = SIGNED | UNSIGNED

# The closed set of operations, by the types they take. "x" marks any one type shared by all
# operands and the result unless said otherwise.
ARITHMETIC = frozenset(
    {
        "add",  # integers wrap around; bool is not an operand: use or, and, xor
        "sub",
        "mul",
        "div",  # floats: IEEE division; integers: towards zero, x/0 = 0, MIN/-1 = MIN
        "rem",  # floats: C fmod; integers: sign of the dividend, x%0 = 0, MIN%-1 = 0
        "floordiv",  # integers only: towards minus infinity, guarded in the same way
        "mod",  # integers only: sign of the divisor, guarded in the same way
        "neg",
        "abs",  # abs(MIN) = MIN
        "min",  # a NaN operand gives NaN, as numpy.minimum
        "max",
        "fmin",  # floats only: a NaN operand gives the other, as numpy.fmin
        "fmax",
    }
)
FLOAT_ONLY = frozenset({"fma", "sqrt", "floor", "ceil", "trunc", "rint", "copysign"})
BITWISE = frozenset({"and", "or", "xor", "not"})  # integers and bool
SHIFTS = frozenset({"shl", "shr"})  # integers; a count >= width (or < 0) shifts everything out
COUNTS = frozenset({"popcount", "clz", "ctz"})  # integers; clz(0) = ctz(0) = width
COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})  # result bool; ordered, ne unordered
# select(bool, x, x) -> x; cast(any) -> any as a C cast in NumPy; bitcast between equal sizes.
CONVERSIONS = frozenset({"select", "cast", "bitcast"})
# Products that complex functions are made of, and the norm in two parts: f(x, y).
COMPLEX_PARTS = frozenset(
    {
        *("exp_cos", "exp_sin", "cosh_cos", "cosh_sin", "sinh_cos", "sinh_sin"),
        *("tanh_re", "tanh_im", "norm", "norm_rest"),
    }
)
BINARY_INTRINSICS = COMPLEX_PARTS | {"pow", "atan2"}
# Elementary functions of floats, result of the same type (float16 and bfloat16 go through f32).
INTRINSICS = BINARY_INTRINSICS | frozenset(
    {
        "exp",
        "exp2",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "sin",
        "cos",
        "tan",
        "tanh",
        "sinh",
        "cosh",
        "asin",
        "acos",
        "atan",
        "asinh",
        "acosh",
        "atanh",
        "erf",
        "erfc",
        "erfinv",
        "cbrt",
        "logistic",
        "lgamma",
        "digamma",
    }
)
# Of an i64 in a vector loop, what is known only when it is emitted: lane(its variable), which lane
# of its vector an iteration is; lanes(its variable), how many there are; most(x), the greatest x of
# all lanes, the same in each. Elsewhere 0, 1 and x.
LANEWISE = frozenset({"lane", "lanes", "most"})
OPS = (
    ARITHMETIC
    | FLOAT_ONLY
    | BITWISE
    | SHIFTS
    | COUNTS
    | COMPARISONS
    | CONVERSIONS
    | INTRINSICS
    | LANEWISE
)


class Buffer(NamedTuple):
    """A dense one-dimensional run of `size` elements.

    kind says where it lives and `place` where there: input, inout (an input that the program may
    write) and output: position in the entry's pointer arrays (inputs and inouts share one array);
    temp: byte offset in the arena, a multiple of 64; local: on the stack of the kernel or of the
    parallel body that names it, uninitialised there and private to it, so small; grown: on the heap
    and as private, only as large as Grow statements made it (`size` says nothing); const: `data`
    holds its bytes. Inputs and consts are never written.
    """

    name: str
    dtype: DType
    size: int
    kind: BufferKind
    place: int = 0
    data: bytes = b""


class Value:
    """One scalar of type `dtype`; `level` is the nesting depth of the block that defines it."""

    __slots__ = ("dtype", "level")
    dtype: DType
    level: int


class Const(Value):
    """A literal: a Python int for integers, bool for bool, float for floats."""

    __slots__ = ("value",)

    def __init__(self, dtype: DType, value: int | float | bool) -> None:
        self.dtype = dtype
        self.level = 0
        self.value = value


class Var(Value):
    """A value bound by a statement: a loop variable, a carry inside a loop, a result after it."""

    __slots__ = ("hint",)

    def __init__(self, dtype: DType, level: int, hint: str) -> None:
        self.dtype = dtype
        self.level = level
        self.hint = hint


class Op(Value):
    """The result of the operation `name` (one of OPS) on `args`."""

    __slots__ = ("args", "name")

    def __init__(self, dtype: DType, level: int, name: str, args: tuple[Value, ...]) -> None:
        self.dtype = dtype
        self.level = level
        self.name = name
        self.args = args


class Load(Value):
    """Element `offset` of `buffer`; where `where` is false the memory is not touched: `other`."""

    __slots__ = ("buffer", "offset", "other", "where")

    def __init__(
        self,
        level: int,
        buffer: Buffer,
        offset: Value,
        where: Value | None = None,
        other: Value | None = None,
    ) -> None:
        self.dtype = buffer.dtype
        self.level = level
        self.buffer = buffer
        self.offset = offset
        self.where = where
        self.other = other


class Store:
    """buffer[offset] = value, only where `where` holds when it is given."""

    __slots__ = ("buffer", "offset", "value", "where")

    def __init__(
        self, buffer: Buffer, offset: Value, value: Value, where: Value | None = None
    ) -> None:
        self.buffer = buffer
        self.offset = offset
        self.value = value
        self.where = where


class Block:
    """Statements in order."""

    __slots__ = ("stmts",)

    def __init__(self, stmts: list[Stmt] | None = None) -> None:
        self.stmts: list[Stmt] = [] if stmts is None else stmts


class Carry:
    """A value handed from one iteration to the next.

    `phi` is it inside the loop, `next` what the iteration makes of it, `result` it after the
    loop (init when there was no iteration). `combine` is the monoid by which a vector or parallel
    loop may split it: next must then equal combine(phi, something that does not read phi).
    """

    __slots__ = ("combine", "init", "next", "phi", "result")

    def __init__(
        self, init: Value, phi: Var, next: Value, result: Var, combine: Combine | None = None
    ) -> None:
        self.init = init
        self.phi = phi
        self.next = next
        self.result = result
        self.combine: Combine | None = combine


class For:
    """body for var = 0 .. extent-1 (no iteration when extent <= 0).

    serial: in order. vector: iterations are independent but for carries, which have a combine;
    the body holds no calls, and its loops are serial and of uniform extent. parallel:
    independent in the same sense, any body; chunks of whole multiples of `grain` iterations run
    on several threads. parallel_vector: chunks of a vector loop. A carry's value does not depend
    on the number of threads. A parallel loop inside a parallel loop runs in order,
    with locals of its own like any other. `weight` is what the body of the loop weighed
    that this is a copy of (0: it is none): a total is then split in the same way, and has the same
    bits, though the copy may compute with more indices.
    """

    __slots__ = ("body", "carries", "extent", "grain", "kind", "var", "weight")

    def __init__(
        self,
        var: Var,
        extent: Value,
        body: Block,
        carries: tuple[Carry, ...] = (),
        kind: LoopKind = "serial",
        grain: int = 1,
        weight: int = 0,
    ) -> None:
        self.var = var
        self.extent = extent
        self.body = body
        self.carries = carries
        self.kind: LoopKind = kind
        self.grain = grain
        self.weight = weight


class While:
    """test_block computes `test` from the carries; while it holds, body makes their next values."""

    __slots__ = ("body", "carries", "test", "test_block")

    def __init__(
        self, carries: tuple[Carry, ...], test_block: Block, test: Value, body: Block
    ) -> None:
        self.carries = carries
        self.test_block = test_block
        self.test = test
        self.body = body


class Join:
    """A value that an `if` leaves behind: `then` or `orelse`, by the branch taken."""

    __slots__ = ("orelse", "result", "then")

    def __init__(self, result: Var, then: Value, orelse: Value) -> None:
        self.result = result
        self.then = then
        self.orelse = orelse


class If:
    """Exactly one of two blocks."""

    __slots__ = ("cond", "joins", "orelse", "then")

    def __init__(
        self, cond: Value, then: Block, orelse: Block, joins: tuple[Join, ...] = ()
    ) -> None:
        self.cond = cond
        self.then = then
        self.orelse = orelse
        self.joins = joins


class Pointer(NamedTuple):
    """The address of buffer[offset], as an argument of a call."""

    buffer: Buffer
    offset: Value


class CallExtern:
    """A C call of an imported symbol; values are passed by their dtype (bool as i8)."""

    __slots__ = ("args", "result", "symbol")

    def __init__(
        self, symbol: str, args: tuple[Value | Pointer, ...], result: Var | None = None
    ) -> None:
        self.symbol = symbol
        self.args = args
        self.result = result


class Callback:
    """i32 ft_callback(i64 index, ptr pointers): a Python function on buffers, under the GIL.

    `pointers` is an array of the addresses in order. A status other than 0 leaves the program
    with `code`.
    """

    __slots__ = ("code", "index", "pointers")

    def __init__(self, index: Value, pointers: tuple[Pointer, ...], code: int) -> None:
        self.index = index
        self.pointers = pointers
        self.code = code


class Address(Value):
    """The address of buffer[offset] as an i64: an entry of a table that a program is run on."""

    __slots__ = ("buffer", "offset")

    def __init__(self, level: int, buffer: Buffer, offset: Value) -> None:
        self.dtype = "i64"
        self.level = level
        self.buffer = buffer
        self.offset = offset


class Run:
    """Run an inner program on tables of addresses (i64) of its inputs and of its outputs.

    `arena` points to the inner program's arena_bytes, aligned as an arena is. `result` is its
    status (i32), a row of the table of errors that it shares with the program around it.
    """

    __slots__ = ("arena", "inputs", "outputs", "program", "result")

    def __init__(
        self, program: Program, inputs: Pointer, outputs: Pointer, arena: Pointer, result: Var
    ) -> None:
        self.program = program
        self.inputs = inputs
        self.outputs = outputs
        self.arena = arena
        self.result = result


class Grow:
    """Make room in a grown buffer for `count` elements; what it held stays, at another address.

    Leaves the program with `code` when there is no memory. The buffer is given back wherever its
    function returns.
    """

    __slots__ = ("buffer", "code", "count")

    def __init__(self, buffer: Buffer, count: Value, code: int) -> None:
        self.buffer = buffer
        self.count = count
        self.code = code


class Fail:
    """Leave the program with status `code` (> 0) when `cond` holds (in any lane)."""

    __slots__ = ("code", "cond")

    def __init__(self, code: int, cond: Value) -> None:
        self.code = code
        self.cond = cond


class Leave:
    """Leave the program with `status` (i32) unless that is 0."""

    __slots__ = ("status",)

    def __init__(self, status: Value) -> None:
        self.status = status


Stmt: TypeAlias = (
    Op
    | Load
    | Store
    | For
    | While
    | If
    | CallExtern
    | Callback
    | Address
    | Run
    | Grow
    | Fail
    | Leave
)


class Kernel:
    """One outlined function of the program, over its buffers."""

    __slots__ = ("body", "name")

    def __init__(self, name: str, body: Block) -> None:
        self.name = name
        self.body = body


class Program:
    """`i32 entry(void** inputs, void** outputs, void* arena)`: the kernels in order.

    The status is 0, or k > 0 for errors[k - 1], after which the outputs hold nothing of use.
    arena_bytes is what the temps need; the arena is 64-byte aligned. What its kernels Run are
    programs too, with the same table of errors.
    """

    __slots__ = ("arena_bytes", "buffers", "errors", "kernels", "name")

    def __init__(
        self,
        name: str,
        buffers: Sequence[Buffer],
        kernels: Sequence[Kernel],
        arena_bytes: int = 0,
        errors: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.buffers = buffers
        self.kernels = kernels
        self.arena_bytes = arena_bytes
        self.errors = errors


def integer_bounds(dtype: DType) -> tuple[int, int]:
    """The least and greatest value of an integer type."""
    bits = 8 * ITEMSIZE[dtype]
    return (0, (1 << bits) - 1) if dtype in UNSIGNED else (-(1 << bits - 1), (1 << bits - 1) - 1)


def wrap_integer(dtype: DType, value: int) -> int:
    """`value` modulo the width of `dtype`, in its range."""
    bits = 8 * ITEMSIZE[dtype]
    value &= (1 << bits) - 1
    return value - (1 << bits) if dtype in SIGNED and value >> (bits - 1) else value


def static_extent(stmt: For) -> int | None:
    """The number of iterations when it is known."""
    return max(int(stmt.extent.value), 0) if isinstance(stmt.extent, Const) else None


def inner_blocks(stmt: object) -> tuple[Block, ...]:
    """The blocks that a statement holds."""
    match stmt:
        case For():
            return (stmt.body,)
        case While():
            return (stmt.test_block, stmt.body)
        case If():
            return (stmt.then, stmt.orelse)
        case _:
            return ()


def operands(stmt: object) -> tuple[Value | None, ...]:
    """What an operation, a load or a store reads, in order; other statements have none."""
    if type(stmt) is Op:
        return stmt.args
    if type(stmt) is Load:
        return stmt.offset, stmt.where, stmt.other
    if type(stmt) is Store:
        return stmt.offset, stmt.value, stmt.where
    return ()


def reads(stmt: object) -> Iterator[Value]:
    """The values that a statement reads, and those inside it."""
    match stmt:
        case Op() | Load() | Store():
            yield from (value for value in operands(stmt) if value is not None)
        case For():
            yield stmt.extent
        case While():
            yield stmt.test
        case If():
            yield stmt.cond
            for join in stmt.joins:
                yield from (join.then, join.orelse)
        case CallExtern():
            yield from (a.offset if isinstance(a, Pointer) else a for a in stmt.args)
        case Callback():
            yield from (stmt.index, *[pointer.offset for pointer in stmt.pointers])
        case Address():
            yield stmt.offset
        case Run():
            yield from (stmt.inputs.offset, stmt.outputs.offset, stmt.arena.offset)
        case Grow():
            yield stmt.count
        case Fail():
            yield stmt.cond
        case Leave():
            yield stmt.status
        case _:
            raise TypeError(f"{type(stmt).__name__} is not a statement")
    if isinstance(stmt, For | While):
        for carry in stmt.carries:
            yield from (carry.init, carry.next)
    for block in inner_blocks(stmt):
        for inner in block.stmts:
            yield from reads(inner)


def may_write(block: Block) -> Iterator[str]:
    """The names of the buffers that a block stores to, or hands to others."""
    for stmt in block.stmts:
        match stmt:
            case Store() | Address():
                yield stmt.buffer.name
            case CallExtern():
                yield from (a.buffer.name for a in stmt.args if isinstance(a, Pointer))
            case Callback():
                yield from (pointer.buffer.name for pointer in stmt.pointers)
            case Run():
                yield from (p.buffer.name for p in (stmt.inputs, stmt.outputs, stmt.arena))
            case _:
                for inner in inner_blocks(stmt):
                    yield from may_write(inner)
