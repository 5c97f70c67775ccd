"""Checks that a program is well-formed loop IR; a fault is a LoopIRError that names the place."""

from __future__ import annotations

from typing import Never

from jit.loop_ir.nodes import (
    ARITHMETIC,
    BINARY_INTRINSICS,
    BITWISE,
    COMPARISONS,
    COUNTS,
    FLOAT_ONLY,
    FLOATS,
    INTEGERS,
    INTRINSICS,
    ITEMSIZE,
    LANEWISE,
    OPS,
    SHIFTS,
    Address,
    Block,
    Buffer,
    Callback,
    CallExtern,
    Carry,
    Const,
    DType,
    Fail,
    For,
    Grow,
    If,
    Leave,
    Load,
    Op,
    Pointer,
    Program,
    Run,
    Stmt,
    Store,
    Value,
    While,
    integer_bounds,
)

ARITY = {"fma": 3, "select": 3} | dict.fromkeys(
    ("neg", "abs", "not", "cast", "bitcast", "sqrt", "floor", "ceil", "trunc", "rint")
    + tuple(COUNTS)
    + tuple(INTRINSICS - BINARY_INTRINSICS)
    + tuple(LANEWISE),
    1,
)
INTEGER_ONLY = frozenset({"floordiv", "mod"}) | SHIFTS | COUNTS
FLOAT_NAMES = FLOAT_ONLY | INTRINSICS | {"fmin", "fmax"}
LOCAL_LIMIT = 1 << 16


class LoopIRError(Exception):
    """A program that the emitter must not be given: a bug in a lowering or a pass."""


def check_program(program: Program) -> None:
    """Raise LoopIRError when types, dominance, or what a context permits are not respected."""
    Checker(program).run()


class Checker:
    """One walk with the set of values that are defined at each point."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.where = program.name
        self.buffers = {buffer.name: buffer for buffer in program.buffers}
        self.defined: set[Value] = set()
        self.inner_programs: dict[int, Program] = {}

    def run(self) -> None:
        """Check buffers, then kernels in order."""
        if len(self.buffers) != len(self.program.buffers):
            self.fault("two buffers have the same name")
        for buffer in self.program.buffers:
            self.check_buffer(buffer)
        for kernel in self.program.kernels:
            self.where = f"{self.program.name}, kernel {kernel.name}"
            self.defined = set()
            self.block(kernel.body, "scalar")
        for inner in self.inner_programs.values():
            self.require(inner.errors is self.program.errors, f"{inner.name} has errors of its own")
            check_program(inner)

    def fault(self, text: str) -> Never:
        """Raise."""
        raise LoopIRError(f"{self.where}: {text}")

    def require(self, holds: bool, text: str) -> None:
        """Raise unless `holds`."""
        if not holds:
            self.fault(text)

    def check_buffer(self, buffer: Buffer) -> None:
        """Sizes, alignment in the arena, and literal data."""
        self.require(buffer.size >= 0 and buffer.place >= 0, f"buffer {buffer.name}: bad size")
        size = buffer.size * ITEMSIZE[buffer.dtype]
        if buffer.kind == "temp":
            self.require(buffer.place % 64 == 0, f"temp {buffer.name} is not 64-byte aligned")
            fits = buffer.place + size <= self.program.arena_bytes
            self.require(fits, f"temp {buffer.name} lies outside the arena")
        if buffer.kind == "local":
            self.require(size <= LOCAL_LIMIT, f"local {buffer.name} is too large for a stack")
        if buffer.kind == "const":
            self.require(len(buffer.data) == size, f"const {buffer.name}: wrong number of bytes")

    def block(self, block: Block, context: str) -> None:
        """Statements in order; values defined here end with the caller's scope."""
        for stmt in block.stmts:
            self.stmt(stmt, context)

    def inner(self, block: Block, context: str, *bound: Value) -> None:
        """A nested block with values bound in it."""
        self.defined.update(bound)
        self.block(block, context)

    def use(self, value: Value, dtype: DType | None = None) -> DType:
        """A read: the value must be defined, and have the type if one is asked for."""
        if not isinstance(value, Const):
            self.require(value in self.defined, f"a value of type {value.dtype} is not defined")
        else:
            self.check_const(value)
        if dtype is not None and value.dtype != dtype:
            self.fault(f"expected {dtype}, got {value.dtype}")
        return value.dtype

    def check_const(self, value: Const) -> None:
        """A literal in the range of its type."""
        number = value.value
        if value.dtype in FLOATS:
            self.require(isinstance(number, float), f"{number!r} is not a float")
        elif value.dtype == "bool":
            self.require(isinstance(number, bool), f"{number!r} is not a bool")
        else:
            low, high = integer_bounds(value.dtype)
            self.require(low <= number <= high, f"{number!r} is not a {value.dtype}")

    def access(self, buffer: Buffer, offset: Value, writes: bool) -> None:
        """A place in a declared buffer; literal offsets are inside it."""
        self.require(self.buffers.get(buffer.name) is buffer, f"{buffer.name} is not declared")
        self.use(offset, "i64")
        if writes and buffer.kind in ("input", "const"):
            self.fault(f"{buffer.kind} {buffer.name} is written")

    def touch(
        self, buffer: Buffer, offset: Value, where: Value | None, writes: bool = False
    ) -> None:
        """An element access."""
        self.access(buffer, offset, writes)
        if where is not None:
            self.use(where, "bool")
        elif isinstance(offset, Const) and buffer.size > 0:
            # A literal offset into an empty buffer stands in a loop that never runs.
            inside = 0 <= int(offset.value) < buffer.size
            self.require(inside, f"{buffer.name}[{offset.value}] is outside the buffer")

    def stmt(self, stmt: Stmt, context: str) -> None:
        """One statement; context is scalar or vector."""
        match stmt:
            case Op():
                self.op(stmt)
                self.defined.add(stmt)
            case Load():
                self.touch(stmt.buffer, stmt.offset, stmt.where)
                if stmt.where is not None:
                    self.require(stmt.other is not None, "a load with where needs its other value")
                if stmt.other is not None:
                    self.use(stmt.other, stmt.dtype)
                self.defined.add(stmt)
            case Store():
                self.touch(stmt.buffer, stmt.offset, stmt.where, writes=True)
                self.use(stmt.value, stmt.buffer.dtype)
            case For():
                self.loop(stmt, context)
            case Fail():
                self.code(stmt.code)
                self.use(stmt.cond, "bool")
            case While():
                self.while_loop(stmt, context)
            case If():
                self.branch(stmt, context)
            case Grow():
                self.code(stmt.code)
                self.use(stmt.count, "i64")
                self.require(stmt.buffer.kind == "grown", f"{stmt.buffer.name} does not grow")
            case CallExtern() | Callback() | Address() | Run() | Leave():
                name = type(stmt).__name__
                self.require(context == "scalar", f"{name} inside a vector loop")
                self.scalar_only(stmt)

    def scalar_only(self, stmt: CallExtern | Callback | Address | Run | Leave) -> None:
        """The statements that a vector loop cannot hold."""
        match stmt:
            case CallExtern():
                for argument in stmt.args:
                    if isinstance(argument, Pointer):
                        self.access(argument.buffer, argument.offset, writes=False)
                    else:
                        self.use(argument)
                if stmt.result is not None:
                    self.defined.add(stmt.result)
            case Callback():
                self.code(stmt.code)
                self.use(stmt.index, "i64")
                for pointer in stmt.pointers:
                    self.access(pointer.buffer, pointer.offset, writes=False)
            case Address():
                self.access(stmt.buffer, stmt.offset, writes=False)
                self.defined.add(stmt)
            case Run():
                self.run_program(stmt)
            case Leave():
                self.use(stmt.status, "i32")

    def run_program(self, stmt: Run) -> None:
        """The tables and the arena of an inner program, which is checked later."""
        self.inner_programs[id(stmt.program)] = stmt.program
        for pointer in (stmt.inputs, stmt.outputs, stmt.arena):
            self.access(pointer.buffer, pointer.offset, writes=False)
        for table in (stmt.inputs, stmt.outputs):
            self.require(table.buffer.dtype == "i64", "a table of addresses holds i64")
        self.defined.add(stmt.result)

    def code(self, code: int) -> None:
        """A status must be a row of the table of errors."""
        self.require(1 <= code <= len(self.program.errors), f"no error has the code {code}")

    def carries(self, carries: tuple[Carry, ...]) -> list[Value]:
        """Initial values; answers the values bound inside."""
        for carry in carries:
            self.use(carry.init)
            types = {carry.init.dtype, carry.phi.dtype, carry.next.dtype, carry.result.dtype}
            self.require(len(types) == 1, f"a carry has several types {sorted(types)}")
        return [carry.phi for carry in carries]

    def loop(self, stmt: For, context: str) -> None:
        """A for loop: what may carry, and what may nest."""
        self.use(stmt.extent, "i64")
        self.require(stmt.grain >= 1, "the grain of a loop is at least 1")
        if context == "vector":
            self.require(stmt.kind == "serial", f"a {stmt.kind} loop inside a vector loop")
        if stmt.kind != "serial":
            for carry in stmt.carries:
                self.require(carry.combine is not None, f"a {stmt.kind} carry needs its combine")
        bound = self.carries(stmt.carries)
        vector = context == "vector" or stmt.kind in ("vector", "parallel_vector")
        outside = set(self.defined)
        self.inner(stmt.body, "vector" if vector else "scalar", stmt.var, *bound)
        for carry in stmt.carries:
            self.use(carry.next)
        self.defined = outside | {carry.result for carry in stmt.carries}

    def while_loop(self, stmt: While, context: str) -> None:
        """A while loop."""
        bound = self.carries(stmt.carries)
        outside = set(self.defined)
        self.inner(stmt.test_block, context, *bound)
        self.use(stmt.test, "bool")
        self.block(stmt.body, context)
        for carry in stmt.carries:
            self.use(carry.next)
        self.defined = outside | {carry.result for carry in stmt.carries}

    def branch(self, stmt: If, context: str) -> None:
        """An if and its joins."""
        self.use(stmt.cond, "bool")
        outside = set(self.defined)
        self.inner(stmt.then, context)
        for join in stmt.joins:
            self.use(join.then, join.result.dtype)
        self.defined = set(outside)
        self.inner(stmt.orelse, context)
        for join in stmt.joins:
            self.use(join.orelse, join.result.dtype)
        self.defined = outside | {join.result for join in stmt.joins}

    def op(self, op: Op) -> None:
        """The types of an operation."""
        self.require(op.name in OPS, f"unknown operation {op.name!r}")
        arity = ARITY.get(op.name, 2)
        self.require(len(op.args) == arity, f"{op.name} takes {arity} operands")
        types: list[DType] = [self.use(a) for a in op.args]
        if op.name == "cast":
            return
        if op.name == "bitcast":
            self.require(ITEMSIZE[types[0]] == ITEMSIZE[op.dtype], "bitcast between sizes")
            self.require("bool" not in (types[0], op.dtype), "bitcast of bool")
            return
        if op.name == "select":
            self.require(types.pop(0) == "bool", "select needs a bool")
        self.require(len(set(types)) == 1, f"{op.name} of mixed types {types}")
        wanted: DType = "bool" if op.name in COMPARISONS else types[0]
        self.require(op.dtype == wanted, f"{op.name} of {types[0]} is not {op.dtype}")
        self.require(is_operand(op.name, types[0]), f"{op.name} does not take {types[0]}")


def is_operand(name: str, dtype: DType) -> bool:
    """Whether the operation is defined on the type."""
    if name in FLOAT_NAMES:
        return dtype in FLOATS
    if name in LANEWISE:
        return dtype == "i64"
    if name in INTEGER_ONLY:
        return dtype in INTEGERS
    if name in BITWISE:
        return dtype not in FLOATS
    return name not in ARITHMETIC or dtype != "bool"
