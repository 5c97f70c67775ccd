"""Makes random programs: every step is run on real values as it is made, and kept off kinks.

A program depends on its number alone. Number k must use a few operations in turn, so that a
range of programs reaches all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tests.fuzz.operations import (
    ASKED_IN,
    ASKING,
    CHOSEN,
    LOOPING,
    OPERATIONS,
    TRANSFORMS,
    Operation,
)
from tests.fuzz.program import Input, Program, Step, data, without_unused

MARGIN = 0.03
LARGEST = 40.0
MOST = 60
STEPS = 7
IN_TURN = 5
ASKING_EVERY = 6
"""One program of so many asks for values."""
DEPTH = 3
LOOPS_FROM = 300
"""Programs from this number on hold loops and branches, nested like other transforms."""

TAKEN_AGAIN = ("while", "checkpoint")
"""Their derivatives take steps again, and so refuse io_callback inside of them."""
MAKERS = {"i": "to_int", "b": "greater_than"}
"""What turns floats of the stack into integers and booleans, so that those depend on the inputs."""

_SHAPES: list[tuple[int, ...]] = [(3,), (2, 3), (), (3, 1), (4,), (1, 3), (2, 1, 3), (1,), (2, 2)]


def generate(number: int) -> Program:
    """The program with this number: always the same one."""
    rng = np.random.default_rng(number)
    dtype = np.dtype(("f8", "f8", "f8", "f8", "f8", "f4", "c16")[number % 7])
    inputs = _inputs(rng, number, dtype)
    maker = Maker(rng, _real(dtype), [[i.value() for i in inputs]], len(inputs), DEPTH)
    for k in range(IN_TURN):
        maker.insist(CHOSEN[(number * IN_TURN + k) % len(CHOSEN)])
    if number % 2:
        maker.insist(TRANSFORMS[(number // 2) % len(TRANSFORMS)])
    maker.looping = number >= LOOPS_FROM
    if maker.looping:
        maker.insist(LOOPING[number % len(LOOPING)])
    maker.asking = not maker.looping and number % ASKING_EVERY == ASKING_EVERY - 1
    if maker.asking:
        maker.insist(TRANSFORMS[(number // ASKING_EVERY) % len(TRANSFORMS)])
        maker.insist(ASKING[(number // ASKING_EVERY) % len(ASKING)])
    while maker.made < STEPS:
        maker.insist(CHOSEN[int(rng.integers(0, len(CHOSEN)))])
    maker.require_float()
    program = Program(len(inputs), 0, tuple(maker.steps), maker.sinks(), tuple(inputs))
    return without_unused(program)


def _real(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64) if dtype.kind == "c" else dtype


def _inputs(rng: np.random.Generator, number: int, dtype: np.dtype[Any]) -> list[Input]:
    """Two or three floating inputs, and integers for some programs."""
    shapes = [_SHAPES[int(rng.integers(0, len(_SHAPES)))] for _ in range(2 + number % 2)]
    inputs = [Input(s, dtype.name, 100 * number + i) for i, s in enumerate(shapes)]
    if dtype.kind == "c":
        inputs[1] = replace(inputs[1], dtype="float64")
    if number % 3 == 0:
        inputs.append(Input((3,), "int64", 100 * number + 9, -4, 5))
    return inputs


class Maker:
    """Grows a program step by step; `worlds` holds the stack's values for each run of the body."""

    def __init__(
        self,
        rng: np.random.Generator,
        dtype: np.dtype[Any],
        worlds: list[list[Any]],
        num_inputs: int,
        depth: int,
    ) -> None:
        self.rng, self.dtype, self.worlds, self.depth = rng, dtype, worlds, depth
        self.steps: list[Step] = []
        self.offset = len(worlds[0])
        self.moving = {i for i in range(num_inputs) if worlds[0][i].dtype.kind in "fc"}
        self.traced = set(range(num_inputs))
        self.made = 0
        self.asking = False
        self.looping = False

    # -- what rules ask -------------------------------------------------------------------------

    def value(self, index: int) -> Any:
        return self.worlds[0][index]

    def pick(self, kinds: str = "f", test: Any = None) -> int | None:
        fits = self._fitting(kinds, test)
        if not self.traced.intersection(fits) and kinds[0] in MAKERS:
            self.insist(MAKERS[kinds[0]], counted=False)
            fits = self._fitting(kinds, test)
        if not fits:
            return self._new(kinds, test)
        weights = np.array([(1 + i) * (5.0 if i in self.traced else 1.0) for i in fits])
        return fits[int(self.rng.choice(len(fits), p=weights / weights.sum()))]

    def _fitting(self, kinds: str, test: Any) -> list[int]:
        return [i for i, v in enumerate(self.worlds[0]) if self._fits(v, kinds, test)]

    def _fits(self, value: Any, kinds: str, test: Any) -> bool:
        return value.dtype.kind in kinds and (test is None or bool(test(value)))

    def _new(self, kinds: str, test: Any) -> int | None:
        """A constant, when nothing on the stack will do."""
        dtype = {"f": self.dtype.name, "c": "complex128", "i": "int64", "b": "bool"}[kinds[0]]
        for shape in ((3,), (2, 3), (2, 2), ()):
            low, high = (-4, 5) if kinds[0] == "i" else (-1.5, 1.5)
            if self._fits(data(0, shape, dtype, low, high), kinds, test):
                return self.constant(shape, dtype, low, high)
        return None

    def like(self, index: int, low: float = -1.5, high: float = 1.5) -> int:
        x = self.value(index)
        same = [
            i
            for i, v in enumerate(self.worlds[0])
            if i != index and v.dtype == x.dtype and v.shape == x.shape
        ]
        if same and self.rng.random() < 0.8:
            return same[int(self.rng.integers(0, len(same)))]
        if x.dtype.kind in "iu":
            low, high = -4, 5
        return self.constant(x.shape, x.dtype, low, high)

    def constant(self, shape: Sequence[int], dtype: Any, low: float, high: float) -> int:
        seed = int(self.rng.integers(0, 10**6))
        name, shape = np.dtype(dtype).name, tuple(int(n) for n in shape)
        params = {"seed": seed, "shape": shape, "dtype": repr(name), "low": low, "high": high}
        value = data(seed, shape, name, low, high)
        return self._push(Step("const", (), tuple(params.items())), [value] * len(self.worlds))

    def _push(self, step: Step, values: list[Any]) -> int:
        self.steps.append(step)
        for world, value in zip(self.worlds, values, strict=True):
            world.append(value)
        index = len(self.worlds[0]) - 1
        if self.traced.intersection(step.args):
            self.traced.add(index)
        if self.moving.intersection(step.args) and values[0].dtype.kind in "fc":
            self.moving.add(index)
        return index

    # -- growing --------------------------------------------------------------------------------

    def insist(self, name: str, tries: int = 12, counted: bool = True) -> None:
        """Add a step of this operation if one of some tries is well defined."""
        for _ in range(tries):
            if self.attempt(OPERATIONS[name]):
                break
        self.made += counted

    def attempt(self, operation: Operation) -> bool:
        chosen = operation.choose(self)
        if chosen is None:
            return False
        operands, statics = chosen
        if not self._off_kinks(operation, operands):
            return False
        step = Step(operation.name, tuple(operands), tuple(statics.items()))
        if operation.body:
            with_body = self._with_body(step, operation.body)
            if with_body is None:
                return False
            step = with_body
        try:
            values = [run_step(step, [w[a] for a in step.args]) for w in self.worlds]
        except IndexError:  # an index that fits the first world need not fit the others
            return False
        if not all(map(acceptable, values)):
            return False
        self._push(step, values)
        return True

    def _off_kinks(self, operation: Operation, operands: Sequence[int]) -> bool:
        if operation.margin is None:
            return True
        for world in self.worlds:
            with np.errstate(all="ignore"):
                margin = np.asarray(operation.margin(*[world[i] for i in operands]))
            if margin.size and not margin.min() >= MARGIN:
                return False
        return True

    def _with_body(self, step: Step, kind: str) -> Step | None:
        """The step with a function to transform, made in the worlds in which it will be called."""
        if self.depth == 0:
            return None
        captured: list[int] = []
        if kind != "closed" and self.rng.random() < 0.7:
            captured = [int(self.rng.integers(0, len(self.worlds[0]))) for _ in range(2)]
            captured = list(dict.fromkeys(captured))
        points = step.args if step.op == "call_twice" else step.args[:1]
        worlds = [
            [x, *(w[c] for c in captured)]
            for w in self.worlds
            for p in points
            for x in members(w[p], kind)
        ]
        inner = Maker(self.rng, self.dtype, worlds, 1, self.depth - 1)
        inner.asking = self.asking and step.op in ASKED_IN
        inner.looping = self.looping
        if inner.asking:
            inner.insist(ASKING[int(self.rng.integers(0, len(ASKING)))], tries=3)
        for _ in range(int(self.rng.integers(1, 4))):
            inner.insist(CHOSEN[int(self.rng.integers(0, len(CHOSEN)))], tries=3)
        if inner.depth and self.rng.random() < 0.5:
            nested = LOOPING if self.looping and self.rng.random() < 0.5 else TRANSFORMS
            inner.insist(nested[int(self.rng.integers(0, len(nested)))], tries=3)
        result = inner.finish(kind)
        if result is None:
            return None
        body = without_unused(Program(1, len(captured), tuple(inner.steps), (result,)))
        if step.op in TAKEN_AGAIN and holds(body, "io_callback"):
            return None
        return replace(step, args=(*step.args, *captured), body=body, captured=len(captured))

    def finish(self, kind: str) -> int | None:
        """A real floating result that depends on the argument; a scalar where one is needed."""
        result = self._moving_float()
        if result is None:
            return None
        if kind != "scalar" or self.value(result).shape == ():
            return result
        name = "finish_total" if self.rng.random() < 0.5 else "finish_sum"
        step = Step(name, (result,))
        values = [run_step(step, [w[result]]) for w in self.worlds]
        return self._push(step, values) if all(map(acceptable, values)) else None

    def _moving_float(self) -> int | None:
        found = [i for i in self.moving if self.value(i).dtype.kind == "f" and i >= self.offset]
        if not found and self.value(0).dtype.kind == "f":
            step = Step("sin", (0,))
            return self._push(step, [run_step(step, [w[0]]) for w in self.worlds])
        return max(found) if found else None

    def require_float(self) -> None:
        """There must be something to differentiate."""
        if not any(i >= self.offset for i in self.moving):
            step = Step("sin", (0,))
            self._push(step, [run_step(step, [w[0]]) for w in self.worlds])

    def sinks(self) -> tuple[int, ...]:
        """The results of steps that no other step uses, so that nothing is idle."""
        used = {a for s in self.steps for a in s.args}
        ends = [
            self.offset + i
            for i, s in enumerate(self.steps)
            if s.op != "const" and self.offset + i not in used
        ]
        if not any(i in self.moving for i in ends):
            ends.append(max(self.moving))
        return tuple(ends)


def holds(program: Program, op: str) -> bool:
    """Is there a step of this operation in a program, or in a function that it transforms?"""
    return any(s.op == op or (s.body is not None and holds(s.body, op)) for s in program.steps)


def members(x: Any, kind: str) -> list[Any]:
    """The arguments that the body is called with: x itself, or its members under vmap."""
    if kind == "member":
        return list(x)
    if kind == "last member":
        return list(np.moveaxis(x, -1, 0))
    return [x]


def run_step(step: Step, values: Sequence[Any]) -> Any:
    """The result of one step on plain arrays; None where it cannot be computed."""
    count = len(values)
    alone = Program(count, 0, (replace(step, args=tuple(range(count))),), (count,))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return alone.function()(*values)


def acceptable(value: Any) -> bool:
    """Finite, neither large in size nor in values."""
    return bool(
        isinstance(value, np.ndarray | np.generic)
        and value.size <= MOST
        and value.dtype.kind in "fcib"
        and np.isfinite(value).all()
        and (np.abs(value.astype(complex)) <= LARGEST).all()
    )
