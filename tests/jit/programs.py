"""Random straight-line jaxprs for the engine's tests: every structural way of moving elements.

`random_program(seed)` is deterministic; its operands are small and finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from functrans.extend import PRIMITIVES, Atom, Eqn, Jaxpr, Literal, Var, aval_of

P = PRIMITIVES
F64 = np.dtype(np.float64)
I64 = np.dtype(np.int64)
MAX_SIZE = 400


class Programmer:
    """Grows a jaxpr by random equations over float64 variables."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.eqns: list[Eqn] = []
        self.invars: list[Var] = []
        self.values: list[Any] = []
        self.floats: list[Var] = []

    def input(self, value: Any) -> Var:
        var = Var(aval_of(value))
        self.invars.append(var)
        self.values.append(value)
        return var

    def new_float(self, shape: tuple[int, ...]) -> Var:
        var = self.input(np.asarray(self.rng.uniform(-1.5, 1.5, shape)))
        self.floats.append(var)
        return var

    def bind(self, name: str, *inputs: Atom, **params: Any) -> list[Var]:
        primitive = P[name]
        avals = primitive.abstract_eval(*[a.aval for a in inputs], **params)
        outs = [Var(a) for a in avals]
        self.eqns.append(Eqn(primitive, inputs, outs, params))
        self.floats += [v for v in outs if v.aval.dtype == F64]
        return outs

    def pick(self) -> Var:
        recent = self.floats[-6:] if self.rng.random() < 0.7 else self.floats
        return recent[int(self.rng.integers(len(recent)))]

    def partner(self, x: Var) -> Atom:
        """A variable of x's shape: one there is, a broadcast one, or a new input."""
        same = [v for v in self.floats if v.aval.shape == x.aval.shape]
        if self.rng.random() < 0.6:
            return same[int(self.rng.integers(len(same)))]
        shape = x.aval.shape
        fits = [v for v in self.floats if new_axes(v.aval.shape, shape) is not None]
        if fits:
            y = fits[int(self.rng.integers(len(fits)))]
            axes = new_axes(y.aval.shape, shape)
            return self.bind("broadcast", y, shape=shape, axes=axes)[0] if axes else y
        return self.new_float(shape)

    def step(self) -> None:
        kinds = [self.unary, self.binary, self.move, self.reduce, self.index, self.other]
        weights = [0.2, 0.27, 0.25, 0.13, 0.08, 0.07]
        kinds[int(self.rng.choice(len(kinds), p=weights))]()

    def unary(self) -> None:
        name = str(
            self.rng.choice(["neg", "sin", "tanh", "square", "abs", "exp", "floor", "logistic"])
        )
        x = self.pick()
        if name in ("exp", "square"):
            (x,) = self.bind("tanh", x)
        self.bind(name, x)

    def binary(self) -> None:
        x = self.pick()
        y = self.partner(x)
        name = str(self.rng.choice(["add", "sub", "mul", "max", "min", "select"]))
        if name == "select":
            (pred,) = self.bind("lt", x, y)
            self.bind("select", pred, y, x)
        elif name == "mul":
            self.bind("mul", self.bind("tanh", x)[0], y)
        else:
            self.bind(name, x, y)

    def move(self) -> None:
        x, rng = self.pick(), self.rng
        shape = x.aval.shape
        name = str(
            rng.choice(
                ["broadcast", "reshape", "transpose", "slice", "pad", "concatenate", "reverse"]
            )
        )
        if name == "broadcast" and x.aval.size * 3 <= MAX_SIZE:
            at = int(rng.integers(len(shape) + 1))
            self.bind("broadcast", x, shape=(*shape[:at], 3, *shape[at:]), axes=(at,))
        elif name == "reshape":
            self.bind("reshape", x, shape=random_shape(rng, x.aval.size))
        elif name == "transpose":
            self.bind("transpose", x, perm=tuple(int(p) for p in rng.permutation(len(shape))))
        elif name == "slice":
            start = tuple(int(rng.integers(0, max(n, 1))) for n in shape)
            stride = tuple(int(rng.integers(1, 3)) for _ in shape)
            self.bind("slice", x, start=start, limit=shape, stride=stride)
        elif name == "pad" and 4 * x.aval.size <= MAX_SIZE:
            low, high, gap = (tuple(int(rng.integers(0, 3)) for _ in shape) for _ in range(3))
            self.bind("pad", x, Literal(np.float64(0.5)), low=low, high=high, interior=gap)
        elif name == "concatenate" and shape and 2 * x.aval.size <= MAX_SIZE:
            self.bind("concatenate", x, self.partner(x), axis=int(rng.integers(len(shape))))
        elif name == "reverse" and shape:
            self.bind("reverse", x, axes=(int(rng.integers(len(shape))),))

    def reduce(self) -> None:
        x, rng = self.pick(), self.rng
        ndim = x.aval.ndim
        if not ndim:
            return
        count = int(rng.integers(1, ndim + 1))
        axes = tuple(sorted(int(a) for a in rng.choice(ndim, count, replace=False)))
        name = str(
            rng.choice(["reduce_sum", "reduce_max", "reduce_min", "cumsum", "cummax", "argmax"])
        )
        if name == "argmax":
            if x.aval.shape[axes[0]]:
                (found,) = self.bind("argmax", x, axis=axes[0])
                self.bind("convert", found, dtype=F64, weak=False)
        elif name.startswith("cum"):
            self.bind(name, x, axis=axes[0], reverse=bool(rng.integers(2)))
        elif name == "reduce_sum" or prod(x.aval.shape[a] for a in axes):
            self.bind(name, x, axes=axes)
        # Half of the time what was reduced comes back over its rows, as in a softmax.
        if (
            name.startswith("reduce")
            and rng.random() < 0.5
            and self.eqns[-1].primitive.name == name
        ):
            out = self.eqns[-1].outputs[0]
            (wide,) = self.bind("broadcast", out, shape=x.aval.shape, axes=axes)
            self.bind("sub", x, wide)

    def index(self) -> None:
        x, rng = self.pick(), self.rng
        shape = x.aval.shape
        if not shape or x.aval.size == 0:
            return
        axis = int(rng.integers(len(shape)))
        index = self.input(rng.integers(-shape[axis], shape[axis], int(rng.integers(1, 5))))
        name = str(rng.choice(["gather", "scatter_add", "scatter", "dynamic_slice", "update"]))
        if name == "gather":
            mode = str(rng.choice(["raise", "clip", "fill"]))
            if 4 * x.aval.size <= MAX_SIZE:
                self.bind("gather", x, index, axes=(axis,), mode=mode)
        elif name.startswith("scatter"):
            rest = tuple(n for a, n in enumerate(shape) if a != axis)
            updates = self.new_float((*index.aval.shape, *rest))
            self.bind(
                name, x, updates, index, axes=(axis,), mode=str(rng.choice(["raise", "drop"]))
            )
        else:
            starts = [self.input(np.asarray(rng.integers(-1, n + 1))) for n in shape]
            sizes = tuple(int(rng.integers(1, n + 1)) for n in shape)
            if name == "dynamic_slice":
                self.bind("dynamic_slice", x, *starts, sizes=sizes)
            else:
                self.bind("dynamic_update_slice", x, self.new_float(sizes), *starts)

    def other(self) -> None:
        x, rng = self.pick(), self.rng
        shape = x.aval.shape
        if not shape:
            return
        if rng.random() < 0.6:
            axis = int(rng.integers(len(shape)))
            y = self.new_float((shape[axis], int(rng.integers(1, 6))))
            if prod(shape) * y.aval.shape[1] <= 4 * MAX_SIZE:
                self.bind("dot_general", x, y, contract=((axis,), (0,)), batch=((), ()))
        else:
            self.bind("sort", x, axis=int(rng.integers(len(shape))), num_keys=1)


def new_axes(small: Sequence[int], shape: Sequence[int]) -> tuple[int, ...] | None:
    """The axes to insert so that `small` becomes `shape`, taken greedily; None where it cannot."""
    left = list(small)
    axes = []
    for axis, n in enumerate(shape):
        if left and left[0] == n:
            left.pop(0)
        else:
            axes.append(axis)
    return None if left else tuple(axes)


def random_shape(rng: np.random.Generator, size: int) -> tuple[int, ...]:
    """A shape of this size, with up to four axes, some of length 1."""
    shape, left = [], size
    while left > 1 and len(shape) < 3:
        divisors = [d for d in range(1, left + 1) if left % d == 0]
        shape.append(int(rng.choice(divisors)))
        left //= shape[-1]
    return (*shape, left) if size else (0, 2)


def random_program(seed: int, length: int = 12) -> tuple[Jaxpr, list[Any]]:
    """A jaxpr whose results are some of its variables, and operands for it."""
    work = Programmer(seed)
    shapes = [(4, 6), (3, 4, 5), (17,), (1, 7), (), (2, 1, 3), (5, 0)]
    for k in work.rng.choice(len(shapes) - (seed % 10 != 0), 2):
        work.new_float(shapes[int(k)])
    while len(work.eqns) < length:
        work.step()
    made = [v for eqn in work.eqns for v in eqn.outputs]
    count = int(work.rng.integers(1, 4))
    outvars = [made[-1], *(made[int(k)] for k in work.rng.integers(len(made), size=count))]
    return Jaxpr(work.invars, work.eqns, outvars), work.values
