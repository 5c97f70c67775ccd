"""Elements that stand 2 to 5 apart are loaded and stored right, and what lies between is left."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from jit.emit import emit_program
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import DType
from jit.target import Target
from tests.jit.loop_programs import NUMPY, run, targets

TARGETS = targets()
MASKED = Target("x86_64-unknown-linux-gnu", "x86-64-v4", "+avx512f,+avx512bw", 64)
COUNTS = (1, 2, 5, 8, 9, 14, 17, 33)


@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.parametrize("step", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["f32", "f64", "u8"])
def test_spaced_moves(dtype: DType, step: int, target: str) -> None:
    """The buffers end at the last element that is moved."""
    rng = np.random.default_rng(step)
    b = Builder("spaced")
    inputs = [
        rng.integers(0, 2 if dtype == "bool" else 100, (n - 1) * step + 1).astype(NUMPY[dtype])
        for n in COUNTS
    ]
    for k, n in enumerate(COUNTS):
        x = b.input(f"x{k}", dtype, (n - 1) * step + 1)
        near, far = b.output(f"near{k}", dtype, n), b.output(f"far{k}", dtype, (n - 1) * step + 1)
        with b.kernel(f"spaced{k}"):
            with b.for_((n - 1) * step + 1, "vector") as loop:
                b.store(far, loop.i, b.load(x, 0))
            with b.for_(n, "vector") as loop:
                b.store(near, loop.i, b.load(x, b.mul(loop.i, step)))
                b.store(far, b.mul(loop.i, step), b.load(x, b.mul(loop.i, step)))
    found = run(b.finish(), inputs, TARGETS[target])
    for k, x in enumerate(inputs):
        between = np.full_like(x, x[0])
        between[::step] = x[::step]
        assert_array_equal(found[2 * k], x[::step])
        assert_array_equal(found[2 * k + 1], between)


@pytest.mark.parametrize("step", [-1, 2, 3, 4])
def test_long_bodies_move_whole_runs_too(step: int) -> None:
    """Written under a mask alone, each lane of a long body was gathered and scattered."""
    count = 61
    last = (count - 1) * abs(step)
    b = Builder("long")
    x, out = b.input("x", "f64", last + 1), b.output("out", "f64", count)
    with b.kernel("long"), b.for_(count, "vector") as loop:
        value = b.load(x, b.add(b.mul(loop.i, step), last if step < 0 else 0))
        for name in ("sin", "exp", "tanh"):
            value = b.op(name, value)
        b.store(out, loop.i, value)
    text = emit_program(b.finish(), MASKED, True).text
    rest = 1 if step < 0 else 0  # the last few lanes, where the order turns under a mask
    assert text.count("@llvm.masked.gather") <= 2 * rest  # called, and declared
    assert re.search(r"load <\d+ x double>, ptr [^<]* align 8", text)
