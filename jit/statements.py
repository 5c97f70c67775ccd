"""Writes the statements of one LLVM function; for loops are added by its subclass in loops.py.

A value is held as a Reg: in a vector loop that says whether it is uniform, linear in the lane, or
a vector, so that index arithmetic stays scalar and contiguous accesses are recognised. One class,
and so a long file, because every statement works on the state of the one function.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import replace

from jit.conversions import write_bitcast, write_cast
from jit.loop_facts import AFFINE
from jit.loop_ir.alike import Site
from jit.loop_ir.nodes import (
    FLOATS,
    ITEMSIZE,
    LANEWISE,
    UNSIGNED,
    Address,
    Block,
    Buffer,
    Callback,
    CallExtern,
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
    Run,
    Stmt,
    Store,
    Value,
    While,
)
from jit.memory import Place, load_scalar, load_vector, settle, store_scalar, store_vector
from jit.names import COLD
from jit.operations import OPERATIONS, write_select
from jit.registers import Module, Reg, Told, symbol
from jit.vectors import Writer, literal, memory, register, steps, vector

CALLBACK = "ft_callback"
RELEASE = "  ; what has grown is given back"
LEAST_GROWN = 4096
"""The bytes that a grown buffer begins with."""
# The context of a parallel body: inputs, outputs, arena, status, then what it shares.
CONTEXT = 4
STATUS = 3


class StatementEmitter:
    """One LLVM function: a kernel, or the outlined body of a parallel loop (with its parent)."""

    def __init__(
        self,
        module: Module,
        name: str,
        parent: StatementEmitter | None,
        told: Told | None = None,
    ) -> None:
        self.module = module
        self.name = name
        self.parent = parent
        self.told = told
        self.row = "%row"
        self.w = Writer(module.target, module.declares, module.externals)
        self.w.label = "start"
        self.preamble: list[str] = []
        self.env: dict[Value, Reg] = {}
        self.bases: dict[str, str] = {}
        self.numbers: dict[int, str] = {}
        self.shared: list[tuple[str, str]] = []
        self.fails = False
        self.bodies = 0
        self.hands_on = False
        self.repeats = False
        self.lanes = 1
        self.mask: str | None = None
        self.varying: Container[Value] = ()
        self.inline = False
        self.grown: list[str] = []
        self.hoisted: list[str] = []
        self.splats: dict[tuple[str, str], str] = {}

    @property
    def is_cold(self) -> bool:
        """Does it run once a call, and leave the work to others?"""
        return self.hands_on and not self.repeats

    def text(self, header: str) -> str:
        """The whole function."""
        attributes = COLD if self.is_cold else "nounwind"
        top = [f"{header} {attributes} {{", "entry:", *self.preamble, "  br label %start", "start:"]
        return "\n".join([*top, *self.released(), "}"])

    def released(self) -> list[str]:
        """The lines of the function; what has grown is given back before each return."""
        lines: list[str] = []
        for number, line in enumerate(self.w.lines):
            if line is not RELEASE:
                lines.append(line)
                continue
            for k, slot in enumerate(self.grown):
                lines.append(f"  %old{number}.{k} = load ptr, ptr {slot}, align 8")
                lines.append(f"  call void @free(ptr %old{number}.{k})")
        return lines

    def leaving(self) -> None:
        """What a function does before it returns."""
        settle(self.w)
        self.w.lines.append(RELEASE)

    # Values

    def reg(self, value: Value) -> Reg:
        """Where a value is; a value of the parent is captured."""
        found = self.env.get(value)
        if found is not None:
            return found
        if isinstance(value, Const):
            return Reg(literal(value.dtype, value.value))
        if self.parent is None:
            raise KeyError(f"{self.name}: a value is read that was not defined")
        return self.capture(value, self.parent)

    def capture(self, value: Value, parent: StatementEmitter) -> Reg:
        """A value of the parent, through the context."""
        found = Reg(self.share(register(value.dtype, 1), parent.scalar(value)))
        self.env[value] = found
        return found

    def share(self, kind: str, operand: str) -> str:
        """An operand of the parent, fetched from the context in the preamble."""
        slot = CONTEXT + len(self.shared)
        self.shared.append((kind, operand))
        self.preamble.append(f"  %x{slot}.at = getelementptr i64, ptr %ctx, i64 {slot}")
        self.preamble.append(f"  %x{slot} = load {kind}, ptr %x{slot}.at, align 8")
        return f"%x{slot}"

    def scalar(self, value: Value) -> str:
        """The operand of a value that is the same in all lanes."""
        found = self.reg(value)
        if found.stride != 0:
            raise ValueError(f"{self.name}: a value that differs between lanes is used as one")
        return found.scalar

    def wide(self, value: Value) -> str:
        """The operand of a value in the current number of lanes."""
        found = self.reg(value)
        return found.scalar if self.lanes == 1 else self.widened(found, value.dtype)

    def widened(self, found: Reg, dtype: DType) -> str:
        """A register in vector form."""
        if found.stride is None:
            return found.vector
        kind = register(dtype, 1)
        if found.stride == 0 and not found.scalar.startswith("%"):
            return f"splat ({kind} {found.scalar})"
        if found.vector and found.label == self.w.label:
            return found.vector
        if not found.inside and found.stride == 0:
            return self.hoisted_splat(kind, found.scalar)
        made = self.w.spread(kind, found.scalar, self.lanes)
        if found.stride:
            offsets = steps(self.lanes, found.stride)
            made = self.w(f"add {vector('i64', self.lanes)} {made}, {offsets}")
        found.vector, found.label = made, self.w.label
        return made

    def hoisted_splat(self, kind: str, operand: str) -> str:
        """A vector of a value from outside the vector loop, made before the loop."""
        key = (operand, kind)
        made = self.splats.get(key)
        if made is None:
            lines, self.w.lines = self.w.lines, self.hoisted
            made = self.splats[key] = self.w.spread(kind, operand, self.lanes)
            self.w.lines = lines
        return made

    def base(self, buffer: Buffer) -> str:
        """The address of a buffer, fetched once in the preamble."""
        found = self.bases.get(buffer.name)
        if found is None:
            found = self.bases[buffer.name] = self.fetch(buffer)
        return self.w(f"load ptr, ptr {found}, align 8") if buffer.kind == "grown" else found

    def fetch(self, buffer: Buffer) -> str:
        """Code in the preamble for the address of a buffer."""
        if buffer.kind == "const":
            return f"@{self.module.prefix}c.{symbol(buffer.name)}"
        slot = None if self.told is None else self.told.buffers.get(buffer.name)
        place = str(buffer.place) if slot is None else self.number(slot)
        name = f"%b{len(self.bases)}.{symbol(buffer.name)}"
        say = self.preamble.append
        match buffer.kind:
            case "temp":
                say(f"  {name} = getelementptr i8, ptr %arena, i64 {place}")
            case "local":
                size = max(buffer.size * ITEMSIZE[buffer.dtype], 1)
                say(f"  {name} = alloca [{size} x i8], align 64")
            case "grown":
                say(f"  {name} = alloca [2 x i64], align 16")
                say(f"  store [2 x i64] zeroinitializer, ptr {name}, align 16")
                self.grown.append(name)
                self.need("free")
            case _:
                array = "%outputs" if buffer.kind == "output" else "%inputs"
                say(f"  {name}.at = getelementptr ptr, ptr {array}, i64 {place}")
                say(f"  {name} = load ptr, ptr {name}.at, align 8")
        return name

    def number(self, slot: int) -> str:
        """A number of the row that a function shared by several kernels is given."""
        found = self.numbers.get(slot)
        if found is None:
            found = self.numbers[slot] = f"%n{slot}"
            self.preamble.append(f"  {found}.at = getelementptr i64, ptr {self.row}, i64 {slot}")
            self.preamble.append(f"  {found} = load i64, ptr {found}.at, align 8")
        return found

    def offset(self, site: Site, value: Value) -> Reg:
        """An operand that is a literal in one kernel and may be another in those that share it."""
        if type(value) is Const and self.told is not None:
            slot = self.told.offsets.get(id(site))
            if slot is not None:
                return Reg(self.number(slot))
        return self.reg(value)

    def place(self, site: Load | Store) -> Place:
        """The elements of an access."""
        buffer, found = site.buffer, self.offset(site, site.offset)
        base, name = self.base(buffer), buffer.name
        far, streams = name in self.module.far, name in self.module.streams
        return Place(buffer.dtype, base, found.scalar, found.stride, found.vector, far, streams)

    # Statements

    def block(self, block: Block) -> None:
        """All statements in order."""
        for stmt in block.stmts:
            if type(stmt) is Op:
                self.op(stmt)
            else:
                self.stmt(stmt)

    def stmt(self, stmt: Stmt) -> None:
        """One statement."""
        match stmt:
            case Op():
                self.op(stmt)
            case Load():
                self.load(stmt)
            case Store():
                self.store(stmt)
            case For():
                self.loop(stmt)
            case While():
                self.while_loop(stmt)
            case If():
                self.branch(stmt)
            case CallExtern():
                self.call(stmt)
            case Callback():
                self.callback(stmt)
            case Address():
                self.env[stmt] = Reg(self.w(f"ptrtoint ptr {self.element(stmt)} to i64"))
            case Run():
                self.run(stmt)
            case Fail():
                self.fail(stmt.code, self.any_lane(stmt.cond))
            case Grow():
                self.grow(stmt)
            case Leave():
                self.leave_with(self.scalar(stmt.status))

    def op(self, op: Op) -> None:
        """An operation: on scalars where nothing varies, on strides, or on vectors."""
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
        return self.module.intrinsics.call(self.w, name, dtype, lanes, args, self.inline)

    def both(self, where: Value | None) -> str | None:
        """The mask of the loop and a condition of the statement, in the current lanes."""
        if where is None:
            return self.mask
        own = self.wide(where)
        if self.mask is None:
            return own
        return self.w(f"and {vector('i1', self.lanes)} {self.mask}, {own}")

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

    def any_lane(self, cond: Value) -> str:
        """Whether a condition holds in any active lane, as i1."""
        if self.lanes == 1 or self.reg(cond).stride == 0:
            return self.scalar(cond)
        return self.w.any_lane(self.both(cond) or "", self.lanes)

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

    def need(self, symbol: str) -> None:
        """Import a C function. The declaration has no types: each call carries its own."""
        self.module.externals.add(symbol)
        self.module.declares.add(f"declare void @{symbol}()")

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

    # Control

    def loop(self, stmt: For) -> None:
        """A for loop; see loops.py."""
        raise NotImplementedError

    def in_lanes(self, value: Value) -> int:
        """In how many lanes a carry or a join is held: one where it is the same in all."""
        return self.lanes if self.lanes > 1 and value in self.varying else 1

    def held(self, value: Value, like: Value) -> str:
        """The operand of a value in as many lanes as a carry or a join is held."""
        return self.wide(value) if self.in_lanes(like) > 1 else self.scalar(value)

    def bind(self, value: Value, operand: str) -> None:
        """A carry or a join is this operand."""
        if self.in_lanes(value) > 1:
            self.env[value] = Reg("", None, operand, True)
        else:
            self.env[value] = Reg(operand, inside=self.lanes > 1)

    def branch(self, stmt: If) -> None:
        """An if with phis for its joins."""
        if self.lanes > 1 and stmt.cond in self.varying:
            self.masked_branch(stmt)
            return
        w = self.w
        then, orelse, after = w.fresh("then"), w.fresh("else"), w.fresh("after")
        w.branch(self.scalar(stmt.cond), then, orelse)
        ends: list[tuple[list[str], str]] = []
        sides = [(then, stmt.then, [j.then for j in stmt.joins])]
        sides.append((orelse, stmt.orelse, [j.orelse for j in stmt.joins]))
        for label, block, values in sides:
            w.open(label)
            self.block(block)
            pairs = zip(values, stmt.joins, strict=True)
            ends.append(([self.held(v, j.result) for v, j in pairs], w.label))
            w.jump(after)
        w.open(after)
        for k, join in enumerate(stmt.joins):
            kind = register(join.result.dtype, self.in_lanes(join.result))
            incoming = ", ".join([f"[ {values[k]}, %{label} ]" for values, label in ends])
            self.bind(join.result, w(f"phi {kind} {incoming}"))

    def masked_branch(self, stmt: If) -> None:
        """Lanes take different sides: each side runs for those that take it, if there are any."""
        w, flags, around = self.w, vector("i1", self.lanes), self.mask
        cond = self.wide(stmt.cond)
        against = w(f"xor {flags} {cond}, splat (i1 true)")
        sides = [(cond, stmt.then, [j.then for j in stmt.joins])]
        sides.append((against, stmt.orelse, [j.orelse for j in stmt.joins]))
        found: list[list[str]] = []
        for mask, block, values in sides:
            self.mask = mask if around is None else w(f"and {flags} {around}, {mask}")
            found.append(self.masked_side(block, values))
            self.mask = around
        for join, then, orelse in zip(stmt.joins, *found, strict=True):
            kind = register(join.result.dtype, self.lanes)
            self.bind(join.result, w(f"select {flags} {cond}, {kind} {then}, {kind} {orelse}"))

    def masked_side(self, block: Block, values: Sequence[Value]) -> list[str]:
        """One side of a branch in the lanes of the mask; skipped where there are none."""
        w, before = self.w, self.w.label
        run, after = w.fresh("some"), w.fresh("after")
        w.branch(w.any_lane(self.mask or "", self.lanes), run, after)
        w.open(run)
        self.block(block)
        found, latch = [self.wide(v) for v in values], w.label
        w.jump(after)
        w.open(after)
        kinds = [register(v.dtype, self.lanes) for v in values]
        return [
            w(f"phi {kind} [ zeroinitializer, %{before} ], [ {operand}, %{latch} ]")
            for kind, operand in zip(kinds, found, strict=True)
        ]

    def while_loop(self, stmt: While) -> None:
        """Test, body, test again; in a vector loop as long as any lane goes on."""
        w = self.w
        self.repeats = True
        head, body, after = w.fresh("test"), w.fresh("body"), w.fresh("done")
        inits = [self.held(c.init, c.phi) for c in stmt.carries]
        before, around = w.label, self.mask
        w.jump(head)
        w.open(head)
        lines, at = w.lines, len(w.lines)
        names = [f"%{head}.{k}" for k in range(len(inits))]
        lines.append("")
        for carry, name in zip(stmt.carries, names, strict=True):
            self.bind(carry.phi, name)
        self.block(stmt.test_block)
        if self.lanes > 1 and stmt.test in self.varying:
            self.mask = self.both(stmt.test)
            w.branch(w.any_lane(self.mask or "", self.lanes), body, after)
        else:
            w.branch(self.scalar(stmt.test), body, after)
        w.open(body)
        self.block(stmt.body)
        nexts = [self.held(c.next, c.phi) for c in stmt.carries]
        if self.mask is not around:
            nexts = self.kept(stmt, names, nexts)
        self.mask = around
        latch = w.label
        w.jump(head)
        phis = [
            f"  {name} = phi {register(c.init.dtype, self.in_lanes(c.phi))} [ {init}, %{before} ],"
            f" [ {value}, %{latch} ]"
            for name, c, init, value in zip(names, stmt.carries, inits, nexts, strict=True)
        ]
        lines[at] = "\n".join(phis)
        w.open(after)
        for carry, name in zip(stmt.carries, names, strict=True):
            self.bind(carry.result, name)

    def kept(self, stmt: While, names: Sequence[str], nexts: Sequence[str]) -> list[str]:
        """The next carries: lanes that have stopped keep theirs."""
        flags = vector("i1", self.lanes)
        found: list[str] = []
        for carry, old, new in zip(stmt.carries, names, nexts, strict=True):
            kind = register(carry.init.dtype, self.lanes)
            found.append(self.w(f"select {flags} {self.mask}, {kind} {new}, {kind} {old}"))
        return found

    def counted(
        self,
        start: str,
        stop: str,
        step: int,
        trips: int | None,
        carried: Sequence[tuple[str, str]],
        body: Callable[[str, Sequence[str]], Sequence[str]],
    ) -> list[str]:
        """A loop over i = start, start + step, ... below stop; answers the final carries.

        trips is the number of iterations, None when unknown (maybe 0). carried: (type, initial
        operand); body(i, values) writes one iteration and answers the next values.
        """
        inits = [init for _, init in carried]
        if trips == 0:
            return inits
        if trips == 1:
            return list(body(start, inits))
        w = self.w
        self.repeats = True
        head, after = w.fresh("loop"), w.fresh("after")
        before = w.label
        if trips is None:
            w.branch(w(f"icmp slt i64 {start}, {stop}"), head, after)
        else:
            w.jump(head)
        w.open(head)
        lines, at = w.lines, len(w.lines)
        lines.append("")
        names = [f"%{head}.{k}" for k in range(len(carried))]
        nexts = list(body(f"%{head}.i", names))
        latch = w.label
        further = w(f"add nsw i64 %{head}.i, {step}")
        w.branch(w(f"icmp slt i64 {further}, {stop}"), head, after)
        phis = [f"  %{head}.i = phi i64 [ {start}, %{before} ], [ {further}, %{latch} ]"]
        for name, (kind, init), value in zip(names, carried, nexts, strict=True):
            phis.append(f"  {name} = phi {kind} [ {init}, %{before} ], [ {value}, %{latch} ]")
        lines[at] = "\n".join(phis)
        w.open(after)
        if trips is not None:
            return nexts
        return [
            w(f"phi {kind} [ {init}, %{before} ], [ {value}, %{latch} ]")
            for (kind, init), value in zip(carried, nexts, strict=True)
        ]
