"""Random Python functions for the memo: branches, loops that ask, closures, nested transforms.

A program is the text of a function of a vector, and of the names that it reads from outside, which
a test changes between calls.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

import functrans as ft
import functrans.numpy as fnp

UNARY = ["np.sin({a})", "fnp.tanh({a})", "({a} * {a})", "(-{a})", "np.abs({a} - 0.1)", "{a} ** 2"]
BINARY = [
    "({a} + {b})",
    "({a} * {b})",
    "({a} - {b})",
    "np.maximum({a}, {b})",
    "np.where({a} > {b}, {a}, {b})",
    "({a} / (np.abs({a}) + 1.5) * {b})",
]
OUTSIDE = ["captured", "rate", "count", "table[0]", "holder.weight", "np.float64(rate)", "0.75"] + [
    "holder.bias",
    "pool[count]",
]
INNER = [
    "ft.grad(lambda y: np.sum(np.sin(y) * {a} * y))({b})",
    "ft.grad(lambda y: (y * {a} * rate).sum())({b})",
    "ft.grad(lambda y: ft.grad(lambda z: z * z * z * {a}[0])(y[0]) * y[1])({b})",
    "ft.vmap(lambda p, q: p * q + rate)({a}, {b})",
    "ft.vmap(ft.grad(lambda p: np.sin(p) * p * holder.weight))({a})",
    "ft.jvp(lambda y: y * {a} + y * y, ({b},), (captured,))[1]",
    "ft.vjp(lambda y: y * y * {a}, {b})[1](captured)[0]",
    "ft.hessian(lambda y: np.sum(y * y * y * {a}))({b})[1]",
    "ft.jacfwd(lambda y: y * {a} * rate)({b})[0]",
    "ft.grad(lambda d: np.sum(d['u'] * d['s'] * {a}))({{'u': {b}, 's': rate}})['u']",
    "ft.value_and_grad(lambda y: ((y * {a}).sum(), y * 2.0), has_aux=True)({b})[0][1]",
]
SCALARS = ["np.sum({a})", "{a}[0]", "{a}[{k}]", "np.mean({a} * captured)", "np.max({a})"]


class Writer:
    """Writes one program; `depth` bounds how blocks nest.

    Only where `asks` do traced values decide what it does.
    """

    def __init__(self, seed: int, asks: bool = True) -> None:
        self.random = random.Random(seed)
        self.asks = asks
        self.lines: list[str] = []
        self.names = ["x"]
        self.fresh = 0

    def name(self) -> str:
        self.fresh += 1
        return f"v{self.fresh}"

    def pick(self) -> str:
        return self.random.choice(self.names[-4:])

    def operand(self) -> str:
        return self.pick() if self.random.random() < 0.6 else self.random.choice(OUTSIDE)

    def vector(self) -> str:
        """An expression whose value is a vector."""
        if self.random.random() < 0.4:
            return self.random.choice(UNARY).format(a=self.pick())
        return self.random.choice(BINARY).format(a=self.pick(), b=self.operand())

    def scalar(self) -> str:
        return self.random.choice(SCALARS).format(a=self.pick(), k=self.random.randrange(3))

    def program(self) -> str:
        """The text of `def f(x)`."""
        for _ in range(self.random.randrange(2, 4)):
            self.statement(1)
        result = f"np.sum({self.pick()} * {self.pick()}) + {self.scalar()}"
        body = "\n".join(f"    {line}" for line in [*self.lines, f"return {result}"])
        return f"def f(x):\n{body}\n"

    def statement(self, depth: int) -> None:
        kinds = ["assign"] * 4 + ["branch", "loop", "write", "switch", "no_grad"]
        kinds += ["inner", "late_write"]
        kind = self.random.choice(kinds) if depth else "assign"
        getattr(self, f"_{kind}")(depth)

    def _assign(self, _: int) -> None:
        text, name = self.vector(), self.name()
        self.lines.append(f"{name} = {text}")
        self.names.append(name)

    def block(self, depth: int) -> list[str]:
        """The lines of a block, after which its names are gone."""
        outer, known = self.lines, list(self.names)
        self.lines = []
        for _ in range(self.random.choice([1, 1, 2])):
            self.statement(depth - 1)
        self.lines.append(f"r = {self.vector()}")
        inner, self.lines, self.names = self.lines, outer, known
        return [f"    {line}" for line in inner]

    def _branch(self, depth: int) -> None:
        """Decided by a traced value."""
        if self.asks:
            test = f"{self.scalar()} > {self.random.choice(['0.0', '0.4', 'rate'])}"
            self._two_ways(test, depth)
        else:
            self._switch(depth)

    def _switch(self, depth: int) -> None:
        """Decided by what is outside."""
        self._two_ways(self.random.choice(["count % 2", "rate > 0.3", "holder.on"]), depth)

    def _two_ways(self, test: str, depth: int) -> None:
        name = self.name()
        self.lines += [f"if {test}:", *self.block(depth), "else:", *self.block(depth)]
        self.lines.append(f"{name} = r")
        self.names.append(name)

    def _loop(self, depth: int) -> None:
        name, known = self.name(), self.pick()
        self.lines += [f"{name}, turns = {known} * 1.0, 0"]
        asked = f"np.sum({name} * {name}) > 0.05 and " if self.asks else ""
        self.lines.append(f"while {asked}turns < 3 + count % 3:")
        self.lines.append(f"    {name} = {name} * 0.5 + {name} * {self.operand()} * 0.01")
        self.lines.append("    turns += 1")
        self.names.append(name)

    def _write(self, _: int) -> None:
        name, k = self.name(), self.random.randrange(3)
        self.lines += [f"{name} = {self.pick()} * 1.0", f"view = {name}[1:]"]
        self.lines.append(f"{name}[{k}] = {self.scalar()}")
        self.lines.append(self.random.choice([f"view *= {self.pick()}[:2]", f"{name} += rate"]))
        self.names.append(name)

    def _late_write(self, _: int) -> None:
        """Through a view that was made before what comes between, which may be an ask."""
        name, k = self.name(), self.random.randrange(3)
        self.lines += [f"{name} = {self.pick()} * 1.0", f"view = {name}[:2]"]
        self.lines.append(f"if {f'{self.scalar()} > 0.1' if self.asks else 'holder.on'}:")
        self.lines.append(f"    view *= {self.pick()}[1:]")
        self.lines += ["view[1] += rate", f"{name}[{k}] *= {self.operand_of_one()}"]
        self.names.append(name)

    def operand_of_one(self) -> str:
        return self.random.choice(["rate", "holder.weight", "captured[1]", self.scalar()])

    def _inner(self, _: int) -> None:
        """Another transform, over what the outer one traces."""
        name = self.name()
        text = self.random.choice(INNER).format(a=self.pick(), b=self.pick())
        self.lines.append(f"{name} = {text}")
        self.names.append(name)

    def _no_grad(self, _: int) -> None:
        name = self.name()
        self.lines += ["with ft.no_grad():", f"    {name} = {self.vector()}"]
        self.names.append(name)


class Holder:
    """An object whose attributes change."""

    def __init__(self) -> None:
        self.weight: float = 0.5
        self.bias = np.array([0.1, 0.3, -0.2])
        self.on = True


def compiled(text: str) -> tuple[Any, dict[str, Any]]:
    """The function of a program, and what it reads from outside."""
    outside: dict[str, Any] = {"np": np, "fnp": fnp, "ft": ft, "holder": Holder()}
    outside.update(captured=np.array([0.2, -0.4, 0.9]), rate=0.25, count=0, table=[0.5])
    outside["pool"] = [np.array([0.5, 1.0, -1.0]), 1.25]
    exec(text, outside)
    return outside["f"], outside


def changed(outside: dict[str, Any], turn: int) -> None:
    """Another state of what is outside: rebound, or changed in place."""
    if turn == 1:
        outside["captured"][1] = 1.5
        outside["rate"], outside["table"][0] = 0.5, -1.25
    if turn == 2:
        outside["count"], outside["holder"].weight = 1, 2
        outside["holder"].bias += 0.5
    if turn == 3:
        outside["captured"] = np.array([1.0, 0.5, -0.25])
        outside["holder"].on = False
