"""Prints loop IR as text: deterministic, one statement a line, names numbered in program order."""

from __future__ import annotations

from jit.loop_ir.nodes import (
    Address,
    Block,
    Buffer,
    Callback,
    CallExtern,
    Carry,
    Const,
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
    Var,
    While,
)


def format_program(program: Program) -> str:
    """The program as text, then those that it runs; equal programs have equal texts."""
    waiting, names, lines = [program], {id(program): program.name}, list[str]()
    while waiting:
        printer = Printer(names)
        lines += printer.program(waiting.pop(0))
        waiting += printer.met
    return "\n".join(lines) + "\n"


def format_buffer(buffer: Buffer) -> str:
    """One line: where the buffer lives, its name, type and size."""
    unit = {"temp": " bytes"}.get(buffer.kind, "")
    place = "" if buffer.kind in ("local", "grown", "const") else f" at {buffer.place}{unit}"
    return f"{buffer.kind} {buffer.name}: {buffer.dtype}[{buffer.size}]{place}"


def format_const(value: Const) -> str:
    """A literal; the type is said where it is not plain from the digits."""
    if value.dtype == "bool":
        return "true" if value.value else "false"
    return repr(value.value) if value.dtype in ("i64", "f64") else f"{value.value}:{value.dtype}"


class Printer:
    """Names values as they are met: i for loop variables, c carries, r results, v the rest.

    `programs` names the inner programs, by identity; those named first by this printer are `met`.
    """

    def __init__(self, programs: dict[int, str]) -> None:
        self.programs = programs
        self.met: list[Program] = []
        self.names: dict[Value, str] = {}
        self.counts: dict[str, int] = {}
        self.lines: list[str] = []

    def program(self, program: Program) -> list[str]:
        """All lines."""
        arena = f" arena {program.arena_bytes} bytes" if program.arena_bytes else ""
        self.lines = [f"program {self.programs[id(program)]}{arena}"]
        self.lines += ["  " + format_buffer(buffer) for buffer in program.buffers]
        if len(self.programs) == 1:
            self.lines += [f"  error {k + 1}: {text}" for k, text in enumerate(program.errors)]
        for kernel in program.kernels:
            self.lines.append(f"kernel {kernel.name}")
            self.block(kernel.body, 1)
        return self.lines

    def bind(self, value: Value, letter: str) -> str:
        """Name a value where it is defined."""
        number = self.counts.get(letter, 0)
        self.counts[letter] = number + 1
        self.names[value] = name = f"{letter}{number}"
        return name

    def use(self, value: Value) -> str:
        """A value where it is read."""
        if isinstance(value, Const):
            return format_const(value)
        return self.names.get(value, "<undefined>")

    def say(self, depth: int, text: str) -> None:
        """One line."""
        self.lines.append("  " * depth + text)

    def pointer(self, pointer: Pointer) -> str:
        """&buffer[offset]."""
        return f"&{pointer.buffer.name}[{self.use(pointer.offset)}]"

    def block(self, block: Block, depth: int) -> None:
        """The statements of a block."""
        for stmt in block.stmts:
            self.stmt(stmt, depth)

    def stmt(self, stmt: Stmt, depth: int) -> None:
        """One statement and what is nested in it."""
        use = self.use
        match stmt:
            case Op():
                args = " ".join([use(a) for a in stmt.args])
                suffix = f":{stmt.dtype}" if stmt.name in ("cast", "bitcast") else ""
                self.say(depth, f"{self.bind(stmt, 'v')} = {stmt.name}{suffix} {args}")
            case Load():
                where = "" if stmt.where is None else f" where {use(stmt.where)}"
                other = "" if stmt.other is None else f" else {use(stmt.other)}"
                text = f"load {stmt.buffer.name}[{use(stmt.offset)}]{where}{other}"
                self.say(depth, f"{self.bind(stmt, 'v')} = {text}")
            case Store():
                where = "" if stmt.where is None else f" where {use(stmt.where)}"
                place = f"{stmt.buffer.name}[{use(stmt.offset)}]"
                self.say(depth, f"store {place} = {use(stmt.value)}{where}")
            case For():
                self.loop(stmt, depth)
            case While():
                self.while_loop(stmt, depth)
            case If():
                self.branch(stmt, depth)
            case CallExtern():
                args = ", ".join(
                    [self.pointer(a) if isinstance(a, Pointer) else use(a) for a in stmt.args]
                )
                out = "" if stmt.result is None else f"{self.bind(stmt.result, 'v')} = "
                self.say(depth, f"{out}call {stmt.symbol}({args})")
            case Callback():
                pointers = ", ".join([self.pointer(p) for p in stmt.pointers])
                self.say(depth, f"callback {use(stmt.index)}({pointers}) or fail {stmt.code}")
            case Address():
                place = f"address {stmt.buffer.name}[{use(stmt.offset)}]"
                self.say(depth, f"{self.bind(stmt, 'v')} = {place}")
            case Run():
                tables = [self.pointer(p) for p in (stmt.inputs, stmt.outputs, stmt.arena)]
                text = f"run {self.program_name(stmt.program)}({', '.join(tables)})"
                self.say(depth, f"{self.bind(stmt.result, 'v')} = {text}")
            case Grow():
                text = f"grow {stmt.buffer.name} to {use(stmt.count)}"
                self.say(depth, f"{text} or fail {stmt.code}")
            case Fail():
                self.say(depth, f"fail {stmt.code} when {use(stmt.cond)}")
            case Leave():
                self.say(depth, f"leave {use(stmt.status)}")

    def program_name(self, program: Program) -> str:
        """The name of an inner program, with a number where others have the same."""
        found = self.programs.get(id(program))
        if found is None:
            self.met.append(program)
            found = self.programs[id(program)] = f"{program.name}.{len(self.programs)}"
        return found

    def heads(self, carries: tuple[Carry, ...]) -> str:
        """The carries at the head of a loop."""
        parts: list[str] = []
        for carry in carries:
            init = self.use(carry.init)
            by = f" by {carry.combine}" if carry.combine else ""
            parts.append(f"{self.bind(carry.phi, 'c')} = {init}{by}")
        return f" carry {', '.join(parts)}" if parts else ""

    def ends(self, depth: int, word: str, values: list[Value], results: list[Var]) -> None:
        """The values that a block hands on, and their names after it."""
        if values:
            self.say(depth, f"{word} {', '.join([self.use(v) for v in values])}")
        if results:
            self.say(depth - 1, f"giving {', '.join([self.bind(v, 'r') for v in results])}")

    def loop(self, stmt: For, depth: int) -> None:
        """A for loop."""
        extent = self.use(stmt.extent)
        heads = self.heads(stmt.carries)
        grain = f" grain {stmt.grain}" if stmt.grain != 1 else ""
        var = self.bind(stmt.var, "i")
        self.say(depth, f"{stmt.kind} {var} < {extent}{grain}{heads}")
        self.block(stmt.body, depth + 1)
        self.ends(
            depth + 1, "yield", [c.next for c in stmt.carries], [c.result for c in stmt.carries]
        )

    def while_loop(self, stmt: While, depth: int) -> None:
        """A while loop."""
        self.say(depth, f"while{self.heads(stmt.carries)}")
        self.block(stmt.test_block, depth + 1)
        self.say(depth + 1, f"test {self.use(stmt.test)}")
        self.block(stmt.body, depth + 1)
        self.ends(
            depth + 1, "yield", [c.next for c in stmt.carries], [c.result for c in stmt.carries]
        )

    def branch(self, stmt: If, depth: int) -> None:
        """An if with its two blocks."""
        self.say(depth, f"if {self.use(stmt.cond)}")
        self.block(stmt.then, depth + 1)
        self.ends(depth + 1, "yield", [j.then for j in stmt.joins], [])
        if stmt.orelse.stmts or stmt.joins:
            self.say(depth, "else")
            self.block(stmt.orelse, depth + 1)
        self.ends(
            depth + 1, "yield", [j.orelse for j in stmt.joins], [j.result for j in stmt.joins]
        )
