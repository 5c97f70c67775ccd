"""Writes one LLVM function as text, so that generators read like the loops they emit.

Invariant: every value name is fresh within its function, and exactly one block is open at a time.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager


class Function:
    """The text of one function under construction.

    `f("add i64 %a, 1")` appends an instruction and returns the name of its value; `f.do(...)`
    appends one without a value. Loops and conditions are context managers; `text()` closes it.
    """

    def __init__(self, signature: str, attributes: str = "nounwind") -> None:
        self._lines = [f"define {signature} {attributes} {{", "entry:"]
        self._count = 0
        self.block = "entry"

    def __call__(self, instruction: str) -> str:
        name = self._fresh("v")
        self._lines.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        """Append an instruction that has no value."""
        self._lines.append(f"  {instruction}")

    def text(self, result: str = "ret void") -> str:
        """Return from the function and give its whole text."""
        return "\n".join([*self._lines, f"  {result}", "}"])

    def label(self, hint: str = "b") -> str:
        """A fresh block name, without the leading percent sign."""
        return self._fresh(hint)[1:]

    def open(self, label: str) -> None:
        """Start the block `label`; the one before must have ended in a terminator."""
        self._lines.append(f"{label}:")
        self.block = label

    def jump(self, label: str) -> None:
        """Leave the current block for `label`."""
        self.do(f"br label %{label}")

    def split(self, condition: str, yes: str, no: str) -> None:
        """Leave the current block for `yes` or `no`."""
        self.do(f"br i1 {condition}, label %{yes}, label %{no}")

    # Integer arithmetic on i64, the only index type.

    def add(self, a: str, b: str) -> str:
        return self(f"add i64 {a}, {b}")

    def sub(self, a: str, b: str) -> str:
        return self(f"sub i64 {a}, {b}")

    def mul(self, a: str, b: str) -> str:
        return self(f"mul i64 {a}, {b}")

    def div(self, a: str, b: str) -> str:
        """Quotient of two non-negative numbers."""
        return self(f"udiv i64 {a}, {b}")

    def rem(self, a: str, b: str) -> str:
        """Remainder of two non-negative numbers."""
        return self(f"urem i64 {a}, {b}")

    def ceil_div(self, a: str, b: str) -> str:
        """a / b rounded up, for a >= 0 and b >= 1."""
        return self.div(self.add(a, self.sub(b, "1")), b)

    def round_up(self, a: str, unit: int) -> str:
        """The least multiple of `unit` that is at least a."""
        return self.mul(self.ceil_div(a, str(unit)), str(unit))

    def min(self, a: str, b: str) -> str:
        return self.select(self.test("slt", a, b), a, b)

    def max(self, a: str, b: str) -> str:
        return self.select(self.test("sgt", a, b), a, b)

    def test(self, relation: str, a: str, b: str, ty: str = "i64") -> str:
        return self(f"icmp {relation} {ty} {a}, {b}")

    def both(self, a: str, b: str) -> str:
        return self(f"and i1 {a}, {b}")

    def either(self, a: str, b: str) -> str:
        return self(f"or i1 {a}, {b}")

    def negate(self, a: str) -> str:
        return self(f"xor i1 {a}, true")

    def select(self, condition: str, a: str, b: str, ty: str = "i64") -> str:
        return self(f"select i1 {condition}, {ty} {a}, {ty} {b}")

    # Memory.

    def at(self, ty: str, pointer: str, index: str) -> str:
        """The address of element `index` of an array of `ty`."""
        return self(f"getelementptr {ty}, ptr {pointer}, i64 {index}")

    def load(self, ty: str, pointer: str, align: int | None = None) -> str:
        return self(f"load {ty}, ptr {pointer}" + (f", align {align}" if align else ""))

    def store(self, ty: str, value: str, pointer: str, align: int | None = None) -> None:
        self.do(f"store {ty} {value}, ptr {pointer}" + (f", align {align}" if align else ""))

    # Control flow.

    @contextmanager
    def loop(self, start: str, stop: str, step: str = "1") -> Generator[str]:
        """for index in range(start, stop, step), with a positive step; yields the index."""
        with self.fold(start, stop, step, []) as (index, _, _):
            yield index

    @contextmanager
    def fold(
        self, start: str, stop: str, step: str, carries: list[tuple[str, str]]
    ) -> Generator[tuple[str, list[str], Callable[..., None]]]:
        """A loop with carried values: yields (index, values, set_next).

        `carries` lists (type, initial value). The body calls `set_next(new values...)` once; after
        the loop the yielded names hold the final values.
        """
        head, body, done = self.label("head"), self.label("body"), self.label("done")
        index, values = self._fresh("i"), [self._fresh("c") for _ in carries]
        following: list[str] = []
        before = self.block
        self.jump(head)
        self.open(head)
        slot = len(self._lines)
        self.split(self.test("slt", index, stop), body, done)
        self.open(body)
        yield index, values, lambda *new: following.extend(new)
        after = self.add(index, step)
        phis = [f"  {index} = phi i64 [{start}, %{before}], [{after}, %{self.block}]"]
        for (ty, initial), name, new in zip(carries, values, following, strict=True):
            phis.append(f"  {name} = phi {ty} [{initial}, %{before}], [{new}, %{self.block}]")
        self._lines[slot:slot] = phis
        self.jump(head)
        self.open(done)

    @contextmanager
    def when(self, condition: str) -> Generator[None]:
        """Run the body only where the condition holds."""
        yes, end = self.label("then"), self.label("end")
        self.split(condition, yes, end)
        self.open(yes)
        yield
        self.jump(end)
        self.open(end)

    def choose(self, condition: str, yes: Callable[[], None], no: Callable[[], None]) -> None:
        """Run one of two bodies."""
        one, two, end = self.label("then"), self.label("else"), self.label("end")
        self.split(condition, one, two)
        for label, body in ((one, yes), (two, no)):
            self.open(label)
            body()
            self.jump(end)
        self.open(end)

    def _fresh(self, hint: str) -> str:
        self._count += 1
        return f"%{hint}{self._count}"
