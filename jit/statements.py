"""Writes the statements of one LLVM function that hold no others: operations, accesses, calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from jit.conversions import write_bitcast, write_cast
from jit.frame import RELEASE, STATUS, Frame
from jit.loop_facts import AFFINE
from jit.loop_ir.nodes import (
    FLOATS,
    ITEMSIZE,
    LANEWISE,
    UNSIGNED,
    Address,
    Callback,
    CallExtern,
    Grow,
    Load,
    Op,
    Pointer,
    Run,
    Stmt,
    Store,
    Value,
)
from jit.memory import Place, load_scalar, load_vector, store_scalar, store_vector
from jit.operations import OPERATIONS, write_select
from jit.registers import Reg
from jit.vectors import memory, register, vector

CALLBACK = "ft_callback"
WAVES = frozenset({"sin", "cos"})
LEAST_GROWN = 4096
"""The bytes that a grown buffer begins with."""


def twins_in(stmts: Iterable[Stmt]) -> dict[Op, Op]:
    """The sines and cosines of one argument, each with the other."""
    first: dict[Value, Op] = {}
    twins: dict[Op, Op] = {}
    for stmt in stmts:
        if type(stmt) is Op and stmt.name in WAVES:
            other = first.setdefault(stmt.args[0], stmt)
            if other.name != stmt.name:
                twins[other], twins[stmt] = stmt, other
    return twins


class StatementEmitter(Frame):
    """One LLVM function whose statements are operations, accesses, failures and calls."""

    # Operations

    def op(self, op: Op) -> None:
        """An operation: on scalars where nothing varies, on strides, or on vectors."""
        twin = self.twins.get(op)
        if twin is not None and not self.module.intrinsics.once:
            self.sine_and_cosine(op, twin)
            return
        if self.told is not None and id(op) in self.told.offsets:
            regs = [self.offset(op, a) for a in op.args]
        else:
            regs = [self.reg(a) for a in op.args]
        if op.name in LANEWISE:
            self.env[op] = self.lanewise(op, regs[0])
            return
        if self.lanes == 1:
            self.env[op] = Reg(self.write(op, 1, tuple([r.scalar for r in regs])))
            return
        strides = [r.stride for r in regs]
        if not any(strides) and None not in strides:
            made = Reg(self.write(op, 1, tuple([r.scalar for r in regs])), inside=True)
        elif op.dtype == "i64" and op.name in AFFINE and None not in strides:
            made = self.affine(op, regs)
        else:
            made = self.vector_op(op, regs)
        self.env[op] = made

    def sine_and_cosine(self, op: Op, twin: Op) -> None:
        """Both waves of one argument, where the first of them stands."""
        if op in self.made:
            self.made.discard(op)
            return
        found = self.reg(op.args[0])
        alone = self.lanes == 1 or found.stride == 0
        arg = found.scalar if alone else self.widened(found, op.args[0].dtype)
        lanes = 1 if alone else self.lanes
        in_place = self.in_place != "none"
        both = self.module.intrinsics.sin_and_cos(self.w, op.dtype, lanes, arg, in_place)
        for each in (op, twin):
            text = both[each.name == "cos"]
            uniform = Reg(text, inside=self.lanes > 1)
            self.env[each] = uniform if alone else Reg("", None, text, True)
        self.made.add(twin)

    def lanewise(self, op: Op, found: Reg) -> Reg:
        """Which lane this is, how many there are, or the greatest value of all."""
        if op.name == "lane":
            return Reg("0", 0 if self.lanes == 1 else 1, "", True)
        if op.name == "lanes":
            return Reg(str(self.lanes))
        if found.stride == 0:
            return found
        kind = vector("i64", self.lanes)
        name = f"llvm.vector.reduce.smax.v{self.lanes}i64"
        return Reg(self.w.call("i64", name, (kind, self.widened(found, "i64"))), inside=True)

    def vector_op(self, op: Op, regs: Sequence[Reg]) -> Reg:
        """An operation on vectors."""
        args = [self.widened(r, a.dtype) for r, a in zip(regs, op.args, strict=True)]
        return Reg("", None, self.write(op, self.lanes, tuple(args)), True)

    def affine(self, op: Op, regs: Sequence[Reg]) -> Reg:
        """Index arithmetic: lane 0 and the stride are enough."""
        a, b = regs
        left, right = a.stride or 0, b.stride or 0
        if op.name == "mul":
            if (left and right) or (a if right else b).scalar.startswith("%"):
                return self.vector_op(op, regs)
            stride = int(a.scalar) * right if right else left * int(b.scalar)
        else:
            stride = left + right if op.name == "add" else left - right
        return Reg(self.index_op(op.name, a.scalar, b.scalar), stride, "", True)

    def index_op(self, name: str, a: str, b: str) -> str:
        """An i64 operation; literals are folded."""
        if b == "0" and name != "mul":
            return a
        if not (a.startswith("%") or b.startswith("%")):
            left, right = int(a), int(b)
            value = left + right if name == "add" else left - right if name == "sub" else 0
            return str(left * right if name == "mul" else value)
        return self.w(f"{name} i64 {a}, {b}")

    def write(self, op: Op, lanes: int, args: tuple[str, ...]) -> str:
        """The instructions of an operation."""
        name, dtype = op.name, op.args[0].dtype
        if name == "rem" and dtype in FLOATS:
            return self.module.intrinsics.call(self.w, "fmod", dtype, lanes, args)
        writer = OPERATIONS.get(name)
        if writer is not None:
            if lanes == 1 and dtype == "i64" and name in AFFINE:
                return self.index_op(name, args[0], args[1])
            return writer(self.w, dtype, lanes, args)
        if name == "select":
            return write_select(self.w, op.dtype, lanes, args)
        if name == "cast":
            return write_cast(self.w, dtype, op.dtype, lanes, args[0])
        if name == "bitcast":
            return write_bitcast(self.w, dtype, op.dtype, lanes, args[0])
        return self.module.intrinsics.call(self.w, name, dtype, lanes, args, self.in_place)

    # Accesses

    def both(self, where: Value | None) -> str | None:
        """The mask of the loop and a condition of the statement, in the current lanes."""
        if where is None:
            return self.mask
        own = self.wide(where)
        if self.mask is None:
            return own
        return self.w(f"and {vector('i1', self.lanes)} {self.mask}, {own}")

    def any_lane(self, cond: Value) -> str:
        """Whether a condition holds in any active lane, as i1."""
        if self.lanes == 1 or self.reg(cond).stride == 0:
            return self.scalar(cond)
        return self.w.any_lane(self.both(cond) or "", self.lanes)

    def load(self, stmt: Load) -> None:
        """A load: one element when neither offset nor condition varies."""
        buffer = stmt.buffer
        if buffer.size == 0 and buffer.kind != "grown" and stmt.other is not None:
            self.env[stmt] = self.reg(stmt.other)
            return
        place = self.place(stmt)
        where = stmt.where
        varies = where is not None and self.reg(where).stride != 0
        if self.lanes == 1 or (place.stride == 0 and not varies):
            cond = None if where is None else self.scalar(where)
            if stmt.other is None or self.reg(stmt.other).stride == 0:
                other = "" if stmt.other is None else self.scalar(stmt.other)
                value = load_scalar(self.w, place, cond, other)
                self.env[stmt] = Reg(value, inside=self.lanes > 1)
                return
        other = "" if stmt.other is None else self.wide(stmt.other)
        mask = self.both(where)
        place = self.reachable(self.moving(place), where)
        value = load_vector(self.w, place, self.lanes, mask, other)
        self.env[stmt] = Reg("", None, value, True)

    def moving(self, place: Place) -> Place:
        """The same place with a vector of offsets where it would be one element for all lanes."""
        if place.stride != 0:
            return place
        offsets = self.w.spread("i64", place.first, self.lanes)
        return Place(place.dtype, place.base, "", None, offsets)

    def reachable(self, place: Place, where: Value | None) -> Place:
        """The same place, or the buffer's start where the condition holds in no lane.

        A masked move of no lanes is harmless anywhere, but takes hundreds of cycles where it meets
        addresses that are not mapped.
        """
        if where is None or place.stride != 1 or self.lanes == 1:
            return place
        first = self.w(f"select i1 {self.any_lane(where)}, i64 {place.first}, i64 0")
        return replace(place, first=first)

    def store(self, stmt: Store) -> None:
        """A store; in a vector loop to one element only when the value is one as well."""
        place = self.place(stmt)
        if self.lanes == 1:
            cond = None if stmt.where is None else self.scalar(stmt.where)
            store_scalar(self.w, place, self.scalar(stmt.value), cond)
        elif place.stride == 0:
            cond = None if stmt.where is None else self.any_lane(stmt.where)
            store_scalar(self.w, place, self.scalar(stmt.value), cond)
        else:
            mask = self.both(stmt.where)
            place = self.reachable(place, stmt.where)
            store_vector(self.w, place, self.lanes, self.wide(stmt.value), mask)

    # Failures

    def fail(self, code: int, cond: str) -> None:
        """Leave with a status when `cond` holds."""
        w = self.w
        failed, on = w.fresh("fail"), w.fresh("on")
        w.branch(cond, failed, on)
        w.open(failed)
        self.leave(str(code))
        w.open(on)

    def leave_with(self, status: str) -> None:
        """Leave with a status that is known at run time, unless it is 0."""
        w = self.w
        failed, on = w.fresh("fail"), w.fresh("on")
        w.branch(w(f"icmp ne i32 {status}, 0"), failed, on)
        w.open(failed)
        self.leave(status)
        w.open(on)

    def leave(self, status: str) -> None:
        """Return with a status: the least one counts when several chunks fail."""
        self.fails = True
        self.w.lines.append(RELEASE)
        if self.parent is None:
            self.w.do(f"ret i32 {status}")
            return
        slot = self.w(f"getelementptr i64, ptr %ctx, i64 {STATUS}")
        self.w(f"atomicrmw umin ptr {slot}, i32 {status} monotonic")
        self.w.do("ret void")

    # Calls

    def element(self, site: Pointer | Address) -> str:
        """A pointer to an element."""
        base, offset = self.base(site.buffer), self.offset(site, site.offset).scalar
        if offset == "0":
            return base
        return self.w(f"getelementptr {memory(site.buffer.dtype, 1)}, ptr {base}, i64 {offset}")

    def argument(self, value: Value | Pointer) -> str:
        """An argument of a C call with its type and extension."""
        if isinstance(value, Pointer):
            return f"ptr {self.element(value)}"
        operand, dtype = self.scalar(value), value.dtype
        if dtype == "bool":
            return f"i8 zeroext {self.w(f'zext i1 {operand} to i8')}"
        kind = register(dtype, 1)
        if dtype in FLOATS or ITEMSIZE[dtype] >= 4:
            return f"{kind} {operand}"
        return f"{kind} {'zeroext' if dtype in UNSIGNED else 'signext'} {operand}"

    def call(self, stmt: CallExtern) -> None:
        """A C call. The declaration has no types: each call carries its own."""
        args = ", ".join([self.argument(a) for a in stmt.args])
        self.hands_on = True
        self.need(stmt.symbol)
        if stmt.result is None:
            self.w.do(f"call void @{stmt.symbol}({args})")
            return
        dtype = stmt.result.dtype
        kind = "i8" if dtype == "bool" else register(dtype, 1)
        found = self.w(f"call {kind} @{stmt.symbol}({args})")
        if dtype == "bool":
            found = self.w(f"icmp ne i8 {found}, 0")
        self.env[stmt.result] = Reg(found)

    def callback(self, stmt: Callback) -> None:
        """A Python function: an array of addresses on the stack, and the status that comes back."""
        count = len(stmt.pointers)
        array = f"%p{len(self.preamble)}"
        self.preamble.append(f"  {array} = alloca [{max(count, 1)} x ptr], align 8")
        for k, pointer in enumerate(stmt.pointers):
            slot = self.w(f"getelementptr ptr, ptr {array}, i64 {k}")
            self.w.do(f"store ptr {self.element(pointer)}, ptr {slot}, align 8")
        self.need(CALLBACK)
        index = self.scalar(stmt.index)
        status = self.w(f"call i32 @{CALLBACK}(i64 {index}, ptr {array})")
        self.fail(stmt.code, self.w(f"icmp ne i32 {status}, 0"))

    def run(self, stmt: Run) -> None:
        """A call of the entry of an inner program."""
        tables = [self.element(p) for p in (stmt.inputs, stmt.outputs, stmt.arena)]
        args = ", ".join([f"ptr {table}" for table in tables])
        entry = self.module.entry_of(stmt.program)
        self.env[stmt.result] = Reg(self.w(f"call i32 @{entry}({args})"))

    def grow(self, stmt: Grow) -> None:
        """Twice as much memory where it does not suffice."""
        w, size = self.w, ITEMSIZE[stmt.buffer.dtype]
        self.base(stmt.buffer)
        slot = self.bases[stmt.buffer.name]
        room = w(f"getelementptr i64, ptr {slot}, i64 1")
        has = w(f"load i64, ptr {room}, align 8")
        wants = w(f"mul i64 {self.scalar(stmt.count)}, {size}")
        more, on = w.fresh("more"), w.fresh("on")
        w.branch(w(f"icmp ult i64 {has}, {wants}"), more, on)
        w.open(more)
        self.need("realloc")
        for least in (w(f"shl i64 {has}, 1"), str(LEAST_GROWN)):
            fewer = w(f"icmp ult i64 {wants}, {least}")
            wants = w(f"select i1 {fewer}, i64 {least}, i64 {wants}")
        old = w(f"load ptr, ptr {slot}, align 8")
        new = w(f"call ptr @realloc(ptr {old}, i64 {wants})")
        self.fail(stmt.code, w(f"icmp eq ptr {new}, null"))
        w.do(f"store ptr {new}, ptr {slot}, align 8")
        w.do(f"store i64 {wants}, ptr {room}, align 8")
        w.jump(on)
        w.open(on)
