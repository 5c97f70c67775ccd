"""Frames: one LLVM function while it is written: its lines, and where the values it uses are.

A value is held as a Reg: in a vector loop that says whether it is uniform, linear in the lane, or
a vector, so that index arithmetic stays scalar and contiguous accesses are recognised.
"""

from __future__ import annotations

from collections.abc import Container

from jit.ahead import Fetch
from jit.intrinsics.table import InPlace
from jit.loop_ir.alike import Site
from jit.loop_ir.nodes import ITEMSIZE, Buffer, Const, DType, For, Load, Op, Store, Value
from jit.memory import Place, settle
from jit.names import COLD
from jit.registers import Module, Reg, Told, symbol
from jit.vectors import Writer, literal, register, steps, vector

RELEASE = "  ; what has grown is given back"
# The context of a parallel body: inputs, outputs, arena, status, then what it shares.
CONTEXT = 4
STATUS = 3
SHORT = 64
"""So many lines run in no time beside a loop, however they are compiled."""


class Frame:
    """One LLVM function: a kernel, or the outlined body of a parallel loop (with its parent).

    lanes     how many lanes the code being written has, under `mask` where not all of them run
    varying   the values that differ between lanes in the loop being written
    in_place  which elementary functions are written here, not called
    preamble  what runs first: addresses and numbers that are fetched once
    env       where values are; bases, numbers: what was fetched of buffers, and of the row
    twins     sine and cosine of one argument in the blocks being written, each with the other
    made      those that were written with their twin, and come later
    shared    what a body is given of its parent beside the arrays: types and operands
    fails     can it return a status other than 0?
    bodies    how many parallel loops it has handed on
    hands_on  does it leave work to others?
    repeats   has it a loop, other than of calls? `beside_loops`: has another kernel a loop?
    beside_calls  does it call functions of the runtime between its loops?
    grown     the buffers that it makes room for while it runs
    ahead     what a pass over a row asks memory for
    hoisted   lines before the vector loop being written, which make `splats`: vectors of one value
    """

    def __init__(
        self,
        module: Module,
        name: str,
        parent: Frame | None,
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
        self.twins: dict[Op, Op] = {}
        self.made: set[Op] = set()
        self.bases: dict[str, str] = {}
        self.numbers: dict[int, str] = {}
        self.shared: list[tuple[str, str]] = []
        self.fails = False
        self.bodies = 0
        self.hands_on = False
        self.repeats = False
        self.beside_loops = False
        self.beside_calls = False
        self.lanes = 1
        self.mask: str | None = None
        self.varying: Container[Value] = ()
        self.in_place: InPlace = "none"
        self.grown: list[str] = []
        self.hoisted: list[str] = []
        self.splats: dict[tuple[str, str], str] = {}
        self.ahead: dict[For, list[Fetch]] = {}

    @property
    def is_cold(self) -> bool:
        """Does it run once a call and take no time: handing on its work, or short beside loops?"""
        short = self.beside_loops and len(self.w.lines) <= SHORT
        return (self.hands_on or short) and not self.repeats

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

    def capture(self, value: Value, parent: Frame) -> Reg:
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

    # What is in memory

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
        module = self.module
        known = [name in names for names in (module.far, module.streams, module.read)]
        return Place(buffer.dtype, base, found.scalar, found.stride, found.vector, *known)

    def need(self, symbol: str) -> None:
        """Import a C function. The declaration has no types: each call carries its own."""
        self.module.externals.add(symbol)
        self.module.declares.add(f"declare void @{symbol}()")
