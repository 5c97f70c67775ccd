"""The builder of loop IR: typed, constant-folding, sharing equal operations, hoisting as it goes.

An operation is put in the outermost loop body where its operands are known and is built once
there: no pass for common subexpressions or loop invariants follows. A lowering reads like the
loops it makes:

    b = Builder("rowsum")
    x = b.input("x", "f64", n * m)
    y = b.output("y", "f64", n)
    with b.kernel("rowsum"):
        with b.for_(n, "parallel") as row:
            with b.for_(m, "vector", [(b.const("f64", -0.0), "add")]) as loop:
                element = b.load(x, b.add(b.mul(row.i, m), loop.i))
                loop.yield_(b.add(loop.carries[0], element))
            b.store(y, row.i, loop.results[0])
    program = b.finish()

Python numbers are accepted where another operand tells their type.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from jit.loop_ir.fold import Ranges, bounds, simplify, simplify_sum
from jit.loop_ir.nodes import (
    COMPARISONS,
    FLOATS,
    OPS,
    Address,
    Block,
    Buffer,
    BufferKind,
    Callback,
    CallExtern,
    Const,
    DType,
    Fail,
    For,
    Grow,
    If,
    Kernel,
    Leave,
    Load,
    LoopKind,
    Op,
    Pointer,
    Program,
    Run,
    Store,
    Value,
    Var,
    While,
    wrap_integer,
)
from jit.loop_ir.scopes import Branch, Init, Loop, Scope, WhileLoop

Number: TypeAlias = int | float | bool
Operand: TypeAlias = Value | Number


def acts(block: Block) -> bool:
    """Does a block do more than compute values?"""
    for stmt in block.stmts:
        match stmt:
            case Op() | Load():
                continue
            case For():
                if acts(stmt.body):
                    return True
            case If():
                if acts(stmt.then) or acts(stmt.orelse):
                    return True
            case _:
                return True
    return False


class Builder:
    """Makes one Program. Every method that answers a Value appends to the innermost open block.

    `errors`: the table of errors of the program that will run this one.
    """

    def __init__(self, name: str, errors: list[str] | None = None) -> None:
        self.name = name
        self.buffers: list[Buffer] = []
        self.kernels: list[Kernel] = []
        self.errors: list[str] = [] if errors is None else errors
        self.scopes: list[Scope] = []
        self.ranges: Ranges = {}
        self._counts: dict[str, int] = {}

    # Buffers

    def buffer(
        self,
        name: str,
        dtype: DType,
        size: int,
        kind: BufferKind,
        place: int = 0,
        data: bytes = b"",
    ) -> Buffer:
        """Declare a buffer; see nodes.Buffer for `kind` and `place`."""
        made = Buffer(name, dtype, size, kind, place, data)
        self.buffers.append(made)
        return made

    def input(self, name: str, dtype: DType, size: int, *, writable: bool = False) -> Buffer:
        """The next position of the entry's inputs; `writable` for a donated one."""
        place = self._count("input")
        return self.buffer(name, dtype, size, "inout" if writable else "input", place)

    def output(self, name: str, dtype: DType, size: int) -> Buffer:
        """The next position of the entry's outputs."""
        return self.buffer(name, dtype, size, "output", self._count("output"))

    def temp(self, name: str, dtype: DType, size: int, offset: int) -> Buffer:
        """`offset` bytes into the arena; temps with disjoint lives may overlap."""
        return self.buffer(name, dtype, size, "temp", offset)

    def local(self, name: str, dtype: DType, size: int) -> Buffer:
        """Private to the kernel or parallel body that names it; at most some 64 kB."""
        return self.buffer(name, dtype, size, "local")

    def grown(self, name: str, dtype: DType) -> Buffer:
        """Private to the kernel or parallel body that names it, and as large as `grow` makes it."""
        return self.buffer(name, dtype, 0, "grown")

    def constants(self, name: str, dtype: DType, data: bytes, size: int) -> Buffer:
        """Literal data inside the code."""
        return self.buffer(name, dtype, size, "const", 0, data)

    def _count(self, key: str) -> int:
        count = self._counts.get(key, 0)
        self._counts[key] = count + 1
        return count

    # Program structure

    @contextmanager
    def kernel(self, name: str) -> Generator[None]:
        """Open the body of the next kernel. Values do not cross kernels: use a temp.

        One that does nothing, as an index check whose outcome is known, is left out.
        """
        if self.scopes:
            raise ValueError(f"kernel {name!r} is opened inside another kernel")
        block = Block()
        self.scopes.append(Scope(block, hoists=0, runs=False))
        try:
            yield
        finally:
            self.scopes.clear()
        if acts(block):
            self.kernels.append(Kernel(name, block))

    def finish(self, arena_bytes: int = 0) -> Program:
        """The program; the builder must not be used after."""
        return Program(self.name, self.buffers, self.kernels, arena_bytes, self.errors)

    def for_(
        self,
        extent: int | Value,
        kind: LoopKind = "serial",
        carries: Sequence[Init] = (),
        *,
        grain: int = 1,
        hint: str = "i",
    ) -> Loop:
        """`with b.for_(n, kind, [(init, combine), ...]) as loop`: loop.i, loop.carries.

        With carries the body ends in loop.yield_(next, ...), and loop.results holds their values
        after the loop. A carry given as a bare Value has no combine (serial loops only). Value
        `extent` is i64. `grain`: parallel chunks are whole multiples of so many iterations.
        """
        return Loop(self, self.index(extent), kind, carries, grain, hint)

    @contextmanager
    def nest(
        self, extents: Sequence[int | Value], kinds: Sequence[LoopKind] | LoopKind = "serial"
    ) -> Generator[tuple[Value, ...]]:
        """Loops without carries, outermost first; one kind stands for the innermost loop."""
        each: list[LoopKind] = ["serial"] * len(extents)
        if isinstance(kinds, str):
            each[-1:] = [kinds] if each else []
        else:
            each = list(kinds)
        loops: list[Loop] = []
        for extent, kind in zip(extents, each, strict=True):
            loops.append(self.for_(extent, kind))
            loops[-1].__enter__()
        yield tuple(loop.i for loop in loops)
        for loop in reversed(loops):
            loop.__exit__(None, None, None)

    def while_(self, inits: Sequence[Value]) -> WhileLoop:
        """`with b.while_(inits) as loop`: build the test, loop.test(cond), body, loop.yield_."""
        return WhileLoop(self, inits)

    def if_(self, cond: Value) -> Branch:
        """`br = b.if_(c)`, `with br.then(): ... br.yield_(x)`, `with br.orelse(): ...`, results."""
        return Branch(self, cond)

    def append(
        self, stmt: Store | For | While | If | CallExtern | Callback | Run | Grow | Fail | Leave
    ) -> None:
        """Put a statement at the end of the innermost open block."""
        self.scopes[-1].block.stmts.append(stmt)

    # Values

    def const(self, dtype: DType, value: Number) -> Const:
        """A literal of `dtype`; integers wrap around."""
        if dtype == "bool":
            return Const(dtype, bool(value))
        return Const(dtype, float(value) if dtype in FLOATS else wrap_integer(dtype, int(value)))

    def index(self, value: int | Value) -> Value:
        """An i64: a literal for a Python int."""
        if isinstance(value, Value):
            return value
        return Const("i64", value)

    def op(self, name: str, *operands: Operand) -> Value:
        """Any operation of nodes.OPS whose result type follows from its operands."""
        dtype: DType | None = next(
            (v.dtype for v in reversed(operands) if isinstance(v, Value)), None
        )
        if dtype is None:
            raise TypeError(f"{name}: a Python number cannot tell the type of the operation")
        args = tuple([v if isinstance(v, Value) else self.const(dtype, v) for v in operands])
        return self.build("bool" if name in COMPARISONS else dtype, name, args)

    def build(self, dtype: DType, name: str, args: tuple[Value, ...]) -> Value:
        """The operation with its result type given; shared, folded and hoisted."""
        if name not in OPS:
            raise ValueError(f"unknown operation {name!r}")
        if dtype not in FLOATS or name in ("select", "cast"):
            found = simplify(self.op, self.ranges, dtype, name, args)
            if found is not None:
                return found
        elif name == "add" and (zero := simplify_sum(*args)) is not None:
            return zero
        key = (name, dtype, *[literal_key(a) if type(a) is Const else a for a in args])
        scopes = self.scopes
        level = len(scopes) - 1
        lowest = max([a.level for a in args])
        while (over := scopes[level].hoists) and level - over >= lowest:
            level -= over
        for scope in scopes[lowest : level + 1]:
            known = scope.shared.get(key)
            if known is not None:
                return known
        made = Op(dtype, level, name, args)
        scopes[level].shared[key] = made
        scopes[level].block.stmts.append(made)
        return made

    def is_within(self, value: Value, n: int | None = None) -> bool:
        """Is an i64 known not to be negative, and to be less than n?"""
        found = bounds(value, self.ranges)
        return found is not None and found[0] >= 0 and (n is None or found[1] < n)

    def load(
        self,
        buffer: Buffer,
        offset: int | Value,
        where: Value | None = None,
        other: Operand = 0,
    ) -> Value:
        """buffer[offset]; with `where`, the memory is not touched in lanes that give `other`."""
        offset = self.index(offset)
        if isinstance(where, Const):
            if not where.value:
                return other if isinstance(other, Value) else self.const(buffer.dtype, other)
            where = None
        rest = None
        if where is not None:
            rest = other if isinstance(other, Value) else self.const(buffer.dtype, other)
        if buffer.kind not in ("input", "const"):
            return self._load_here(buffer, offset, where, rest)
        return self._load_shared(buffer, offset, where, rest)

    def _load_here(
        self, buffer: Buffer, offset: Value, where: Value | None, other: Value | None
    ) -> Value:
        made = Load(len(self.scopes) - 1, buffer, offset, where, other)
        self.scopes[-1].block.stmts.append(made)
        return made

    def _load_shared(
        self, buffer: Buffer, offset: Value, where: Value | None, other: Value | None
    ) -> Value:
        """A load of memory that nothing writes: shared and hoisted like an operation."""
        scopes = self.scopes
        level = len(scopes) - 1
        operands = [v for v in (offset, where, other) if v is not None]
        lowest = max([v.level for v in operands])
        while level > lowest and scopes[level].runs and scopes[level].hoists == 1:
            level -= 1
        key = (
            "load",
            buffer.name,
            *[literal_key(v) if isinstance(v, Const) else v for v in operands],
        )
        for scope in scopes[lowest : level + 1]:
            known = scope.shared.get(key)
            if known is not None:
                return known
        made = Load(level, buffer, offset, where, other)
        scopes[level].shared[key] = made
        scopes[level].block.stmts.append(made)
        return made

    def store(
        self, buffer: Buffer, offset: int | Value, value: Operand, where: Value | None = None
    ) -> None:
        """buffer[offset] = value, where `where` holds."""
        if not isinstance(value, Value):
            value = self.const(buffer.dtype, value)
        self.append(Store(buffer, self.index(offset), value, where))

    # Operations by name, for the reader's sake

    def add(self, a: Operand, b: Operand) -> Value:
        """a + b."""
        return self.op("add", a, b)

    def sub(self, a: Operand, b: Operand) -> Value:
        """a - b."""
        return self.op("sub", a, b)

    def mul(self, a: Operand, b: Operand) -> Value:
        """a * b."""
        return self.op("mul", a, b)

    def div(self, a: Operand, b: Operand) -> Value:
        """a / b (integers: towards zero, guarded)."""
        return self.op("div", a, b)

    def rem(self, a: Operand, b: Operand) -> Value:
        """The remainder of div."""
        return self.op("rem", a, b)

    def floordiv(self, a: Operand, b: Operand) -> Value:
        """NumPy's a // b, of integers or floats."""
        a, b = self._pair(a, b)
        return self._float_divmod(a, b)[0] if a.dtype in FLOATS else self.op("floordiv", a, b)

    def mod(self, a: Operand, b: Operand) -> Value:
        """NumPy's a % b, of integers or floats."""
        a, b = self._pair(a, b)
        return self._float_divmod(a, b)[1] if a.dtype in FLOATS else self.op("mod", a, b)

    def _pair(self, a: Operand, b: Operand) -> tuple[Value, Value]:
        dtype = a.dtype if isinstance(a, Value) else b.dtype if isinstance(b, Value) else "i64"
        return (
            a if isinstance(a, Value) else self.const(dtype, a),
            b if isinstance(b, Value) else self.const(dtype, b),
        )

    def _float_divmod(self, a: Value, b: Value) -> tuple[Value, Value]:
        """Floor quotient and remainder of floats with NumPy's meaning at 0, inf and NaN.

        The remainder of fmod gets the sign of b; the quotient is (a - mod) / b snapped to the
        nearest integer; a zero of either takes the sign that the exact value would have.
        """
        zero = self.const(a.dtype, 0.0)
        rem = self.rem(a, b)
        wrong = self.and_(self.ne(rem, zero), self.xor(self.lt(b, zero), self.lt(rem, zero)))
        mod = self.select(wrong, self.add(rem, b), rem)
        mod = self.select(self.eq(mod, zero), self.op("copysign", zero, b), mod)
        ratio = self.div(a, b)
        exact = self.div(self.sub(a, rem), b)
        exact = self.select(wrong, self.sub(exact, 1.0), exact)
        floor = self.op("floor", exact)
        snapped = self.select(self.gt(self.sub(exact, floor), 0.5), self.add(floor, 1.0), floor)
        whole = self.select(self.eq(exact, zero), self.op("copysign", zero, ratio), snapped)
        by_zero = self.eq(b, zero)
        return self.select(by_zero, ratio, whole), self.select(by_zero, rem, mod)

    def neg(self, a: Value) -> Value:
        """-a."""
        return self.op("neg", a)

    def abs(self, a: Value) -> Value:
        """|a|."""
        return self.op("abs", a)

    def min(self, a: Operand, b: Operand) -> Value:
        """numpy.minimum."""
        return self.op("min", a, b)

    def max(self, a: Operand, b: Operand) -> Value:
        """numpy.maximum."""
        return self.op("max", a, b)

    def fma(self, a: Operand, b: Operand, c: Operand) -> Value:
        """a * b + c, with one rounding where the machine has it at no cost."""
        return self.op("fma", a, b, c)

    def and_(self, a: Operand, b: Operand) -> Value:
        """a & b."""
        return self.op("and", a, b)

    def or_(self, a: Operand, b: Operand) -> Value:
        """a | b."""
        return self.op("or", a, b)

    def xor(self, a: Operand, b: Operand) -> Value:
        """a ^ b."""
        return self.op("xor", a, b)

    def not_(self, a: Value) -> Value:
        """~a of integers, logical not of bool."""
        return self.op("not", a)

    def eq(self, a: Operand, b: Operand) -> Value:
        """a == b."""
        return self.op("eq", a, b)

    def ne(self, a: Operand, b: Operand) -> Value:
        """a != b (true of NaN)."""
        return self.op("ne", a, b)

    def lt(self, a: Operand, b: Operand) -> Value:
        """a < b."""
        return self.op("lt", a, b)

    def le(self, a: Operand, b: Operand) -> Value:
        """a <= b."""
        return self.op("le", a, b)

    def gt(self, a: Operand, b: Operand) -> Value:
        """a > b."""
        return self.op("gt", a, b)

    def ge(self, a: Operand, b: Operand) -> Value:
        """a >= b."""
        return self.op("ge", a, b)

    def select(self, cond: Value, then: Operand, orelse: Operand) -> Value:
        """then where cond, else orelse; both are computed."""
        then, orelse = self._pair(then, orelse)
        return self.build(then.dtype, "select", (cond, then, orelse))

    def cast(self, value: Value, dtype: DType) -> Value:
        """NumPy's astype."""
        return self.build(dtype, "cast", (value,))

    def bitcast(self, value: Value, dtype: DType) -> Value:
        """The same bits as another type of the same size."""
        return self.build(dtype, "bitcast", (value,))

    # Effects

    def fail(self, message: str, cond: Value) -> None:
        """Leave the program with the error `message` when `cond` holds.

        Where that would have been left before for the same reason, there is nothing to do.
        """
        if isinstance(cond, Const) and not cond.value:
            return
        key = ("fail", cond)
        if any(key in scope.shared for scope in self.scopes):
            return
        self.scopes[-1].shared[key] = cond
        self.append(Fail(self.error(message), cond))

    def grow(self, buffer: Buffer, count: int | Value, message: str) -> None:
        """Make room for `count` elements in a grown buffer; `message` where there is no memory."""
        self.append(Grow(buffer, self.index(count), self.error(message)))

    def error(self, message: str) -> int:
        """The status code of `message` (> 0)."""
        if message not in self.errors:
            self.errors.append(message)
        return self.errors.index(message) + 1

    def ref(self, buffer: Buffer, offset: int | Value = 0) -> Pointer:
        """The address of buffer[offset], for call and callback."""
        return Pointer(buffer, self.index(offset))

    def call(
        self,
        symbol: str,
        *args: Pointer | Value | int | float,
        result: DType | None = None,
    ) -> Value | None:
        """Call a C function; Python ints are passed as i64, floats as f64."""
        passed = tuple([self._argument(a) for a in args])
        out = None if result is None else Var(result, len(self.scopes) - 1, symbol)
        self.append(CallExtern(symbol, passed, out))
        return out

    def _argument(self, value: Pointer | Value | int | float) -> Pointer | Value:
        if isinstance(value, Pointer | Value):
            return value
        return self.const("f64" if isinstance(value, float) else "i64", value)

    def callback(self, index: int | Value, pointers: Sequence[Pointer], message: str) -> None:
        """Run Python function `index` of the process on buffers; `message` when it fails."""
        self.append(Callback(self.index(index), tuple(pointers), self.error(message)))

    # Inner programs

    def address(self, buffer: Buffer, offset: int | Value = 0) -> Value:
        """The address of buffer[offset]."""
        made = Address(len(self.scopes) - 1, buffer, self.index(offset))
        self.scopes[-1].block.stmts.append(made)
        return made

    def run(self, program: Program, inputs: Buffer, outputs: Buffer, arena: Pointer) -> None:
        """Run an inner program on tables of addresses; its failure is this program's."""
        self.leave(self.status_of(program, inputs, outputs, arena))

    def status_of(self, program: Program, inputs: Buffer, outputs: Buffer, arena: Pointer) -> Value:
        """Run an inner program on tables of addresses, and go on whatever its status is."""
        status = Var("i32", len(self.scopes) - 1, "status")
        self.append(Run(program, self.ref(inputs), self.ref(outputs), arena, status))
        return status

    def leave(self, status: Value) -> None:
        """Leave the program with this status unless it is 0."""
        self.append(Leave(status))


def literal_key(value: Const) -> object:
    """Equal exactly for the same literal: 0.0 and -0.0 differ, NaN equals itself."""
    number = value.value
    return (value.dtype, number.hex() if isinstance(number, float) else number)
