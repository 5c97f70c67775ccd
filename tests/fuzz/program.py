"""Programs as data: inputs, steps over a stack of arrays, results; written as Python and run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tests.fuzz.operations import OPERATIONS

PRELUDE = """\
import numpy as np
import functrans as ft
from tests.fuzz.helpers import *
"""


@dataclass(frozen=True)
class Input:
    """An argument of a program: random values in [low, high], the same for the same seed."""

    shape: tuple[int, ...]
    dtype: str
    seed: int
    low: float = -1.5
    high: float = 1.5

    def value(self) -> Any:
        return data(self.seed, self.shape, self.dtype, self.low, self.high)

    def source(self) -> str:
        return f"data({self.seed}, {self.shape}, {self.dtype!r}, {self.low}, {self.high})"


def data(
    seed: int, shape: tuple[int, ...], dtype: str, low: float = -1.5, high: float = 1.5
) -> Any:
    """Random values of a dtype; integers in [low, high)."""
    rng, kind = np.random.default_rng(seed), np.dtype(dtype).kind
    if kind == "b":
        return rng.random(shape) < 0.5
    if kind in "iu":
        return rng.integers(int(low), int(high), shape).astype(dtype)
    x = rng.uniform(low, high, shape)
    if kind == "c":
        x = x + 1j * rng.uniform(low, high, shape)
    return np.asarray(x).astype(dtype)


@dataclass(frozen=True)
class Step:
    """One application of an operation to entries of the stack; `body` is the function it is given.

    The stack is the program's inputs, then the results of its steps. The last `captured` of
    `args` are what the body closes over, the others are operands.
    """

    op: str
    args: tuple[int, ...]
    params: tuple[tuple[str, Any], ...] = ()
    body: Program | None = None
    captured: int = 0

    @property
    def operands(self) -> tuple[int, ...]:
        return self.args[: len(self.args) - self.captured]


@dataclass(frozen=True)
class Program:
    """`inputs` and `captured` entries of an outer stack, then one entry for each step.

    A program with one result returns it, else a tuple of them.
    """

    num_inputs: int
    num_captured: int
    steps: tuple[Step, ...]
    results: tuple[int, ...]
    inputs: tuple[Input, ...] = field(default=())

    @property
    def offset(self) -> int:
        return self.num_inputs + self.num_captured

    @property
    def depth(self) -> int:
        """How deep transforms are nested in it."""
        return max((1 + s.body.depth for s in self.steps if s.body is not None), default=0)

    @property
    def asks(self) -> bool:
        """Does it ask for values of arrays, so that it has no meaning on abstract ones?"""
        return any(name.startswith("ask_") for name in self.operations())

    def operations(self) -> Iterator[str]:
        """The names of its operations, those of bodies included."""
        for step in self.steps:
            yield step.op
            if step.body is not None:
                yield from step.body.operations()

    def source(self, name: str = "f") -> str:
        """The program as a Python function."""
        names = [f"x{i}" for i in range(self.num_inputs)]
        return "\n".join(self._lines(name, names, [], 0))

    def _lines(self, name: str, own: list[str], outer: list[str], depth: int) -> list[str]:
        letter = "abcdefgh"[depth]
        stack = [*own, *outer]
        lines: list[str] = []
        for i, step in enumerate(self.steps):
            out = f"{letter}{i}"
            function = ""
            if step.body is not None:
                function = f"{letter}f{i}"
                inner = [f"{letter}{i}x{k}" for k in range(step.body.num_inputs)]
                held = [stack[a] for a in step.args[len(step.operands) :]]
                lines += step.body._lines(function, inner, held, depth + 1)
            operands = [stack[a] for a in step.operands]
            lines += step_lines(step, out, operands, function)
            stack.append(out)
        results = ", ".join(stack[r] for r in self.results)
        lines.append(f"return {results}")
        return [f"def {name}({', '.join(own)}):", *("    " + line for line in lines)]

    def script(self) -> str:
        """The program and a call of it, ready to be pasted and run."""
        args = ",\n    ".join(i.source() for i in self.inputs)
        return f"{PRELUDE}\n\n{self.source()}\n\nargs = [\n    {args},\n]\n"

    def function(self) -> Callable[..., Any]:
        return define(self.source())

    def arguments(self) -> list[Any]:
        return [i.value() for i in self.inputs]


def step_lines(step: Step, out: str, operands: Sequence[str], function: str = "") -> list[str]:
    """The lines that compute one step."""
    params = {k: _written(v) for k, v in step.params}
    template = OPERATIONS[step.op].template
    text = template.format(*operands, out=out, g=function, all=", ".join(operands), **params)
    lines = text.split("\n")
    return lines if "{out}" in template else [f"{out} = {lines[0]}"]


def _written(value: Any) -> str:
    """A static argument as Python code; strings are code already."""
    return value if isinstance(value, str) else repr(value)


_namespace: dict[str, Any] = {}


def namespace() -> dict[str, Any]:
    """What the prelude defines."""
    if not _namespace:
        exec(PRELUDE, _namespace)
    return _namespace


def define(source: str) -> Callable[..., Any]:
    """The function `f` that the source defines, with line numbers that errors can show."""
    scope = dict(namespace())
    exec(compile(source, "<fuzzed program>", "exec"), scope)
    return scope["f"]


# -- shrinking ------------------------------------------------------------------------------------


def shrink(program: Program, still_fails: Callable[[Program], bool], budget: int = 300) -> Program:
    """A smaller program that still fails: steps are dropped, bodies shrunk, results left out."""
    for _ in range(budget):
        for candidate in _smaller(program):
            budget -= 1
            if budget < 0:
                return program
            if still_fails(candidate):
                program = candidate
                break
        else:
            return program
    return program


def _smaller(program: Program) -> Iterator[Program]:
    if len(program.results) > 1:
        for r in program.results:
            yield replace(program, results=(r,))
    for r in range(program.offset + len(program.steps)):
        if r < max(program.results) and program.num_captured == 0:
            yield without_unused(replace(program, results=(r,)))
    cleaned = without_unused(program)
    if cleaned != program:
        yield cleaned
    for i in reversed(range(len(program.steps))):
        for other in range(program.offset + i):
            candidate = _bypass(program, i, other)
            if candidate is not None:
                yield candidate
    for i, step in enumerate(program.steps):
        if step.body is not None:
            for body in _smaller(step.body):
                smaller = replace(step, body=body)
                steps = (*program.steps[:i], smaller, *program.steps[i + 1 :])
                yield replace(program, steps=steps)


def _bypass(program: Program, i: int, other: int) -> Program | None:
    """The program without step i, whose users take stack entry `other` instead."""
    gone = program.offset + i

    def moved(a: int) -> int:
        a = other if a == gone else a
        return a - (a > gone)

    steps = [
        replace(s, args=tuple(map(moved, s.args))) for j, s in enumerate(program.steps) if j != i
    ]
    return replace(program, steps=tuple(steps), results=tuple(map(moved, program.results)))


def without_unused(program: Program) -> Program:
    """The program without the steps that no result needs."""
    needed = set(program.results)
    for i in reversed(range(len(program.steps))):
        if program.offset + i in needed:
            needed.update(program.steps[i].args)
    kept = [i for i in range(len(program.steps)) if program.offset + i in needed]
    place = {a: a for a in range(program.offset)}
    place.update({program.offset + i: program.offset + n for n, i in enumerate(kept)})
    steps = tuple(
        replace(program.steps[i], args=tuple(place[a] for a in program.steps[i].args)) for i in kept
    )
    return replace(program, steps=steps, results=tuple(place[r] for r in program.results))
