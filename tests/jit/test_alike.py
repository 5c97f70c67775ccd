"""Kernels that differ only in buffers and offsets are one function, and still compute their own."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from jit.emit import CALLS, emit_program
from jit.loop_ir.alike import families
from jit.loop_ir.builder import Builder
from jit.loop_ir.check import check_program
from jit.loop_ir.nodes import LoopKind, Program
from jit.native import compile_program, host_target
from jit.target import Target
from tests.jit.loop_programs import execute, run, targets
from tests.jit.test_emit import SCRAMBLED

N = 19
SERIAL_SYMBOLS: dict[str, int] = {}
TARGETS = targets()


@pytest.fixture(params=list(TARGETS))
def target(request: pytest.FixtureRequest) -> Target:
    """This machine, then AVX2 only, then SSE2 only."""
    return TARGETS[request.param]


def running_sums(steps: int, kind: LoopKind) -> Program:
    """y = sums of x[k N : (k + 1) N] and of 2 y's so far, in one kernel for each k."""
    b = Builder("running")
    x, y = b.input("x", "f64", steps * N), b.output("y", "f64", steps)
    temps = [b.temp(f"t{k}", "f64", N, k * 256) for k in range(steps)]
    for k in range(steps):
        with b.kernel(f"step{k}"):
            start = [(b.const("f64", 0.0), "add")]
            with b.for_(N, kind, start) as loop:  # type: ignore[arg-type]
                value = b.load(x, b.add(loop.i, k * N))
                if k:
                    value = b.add(value, b.mul(b.load(temps[k - 1], loop.i), 2.0))
                b.store(temps[k], loop.i, value)
                loop.yield_(b.add(loop.carries[0], value))
            b.store(y, k, loop.results[0])
    return b.finish(256 * steps)


def expected_sums(x: np.ndarray, steps: int) -> np.ndarray:
    rows, t = x.reshape(steps, N), np.zeros(N)
    found = np.empty(steps)
    for k in range(steps):
        t = rows[k] + t * 2.0 if k else rows[k]
        found[k] = t.sum()
    return found


@pytest.mark.parametrize("kind", ["serial", "vector", "parallel", "parallel_vector"])
@pytest.mark.parametrize("steps", [3, CALLS + 1])
@pytest.mark.parametrize("symbols", [SERIAL_SYMBOLS, SCRAMBLED], ids=["serial", "scrambled"])
def test_alike_kernels_compute_their_own_results(
    kind: LoopKind, steps: int, symbols: dict[str, int], target: Target
) -> None:
    x = np.random.default_rng(0).integers(-9, 9, steps * N).astype(float)
    (found,) = run(running_sums(steps, kind), [x], target, symbols)
    assert_array_equal(found, expected_sums(x, steps))


def test_alike_kernels_are_written_once() -> None:
    few, many = (
        emit_program(running_sums(steps, "vector"), host_target(), False).text for steps in (5, 500)
    )
    assert few.count("define internal i32") == many.count("define internal i32") == 2
    assert many.count("\n") < few.count("\n") + 20


def copies(values: list[tuple[int, float, str]]) -> Program:
    """out[offset] = x[0] op value, in one kernel each."""
    b = Builder("copies")
    x, out = b.input("x", "f64", 1), b.output("out", "f64", 8)
    for offset, value, op in values:
        with b.kernel("copy"):
            b.store(out, offset, b.op(op, b.load(x, 0), value))
    return b.finish()


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([(0, 0.0, "mul"), (3, 0.0, "mul")], 1),
        ([(0, 0.0, "mul"), (0, -0.0, "mul")], 2),
        ([(0, np.nan, "mul"), (1, np.nan, "mul")], 1),
        ([(0, 1.0, "mul"), (0, 2.0, "mul")], 2),
        ([(0, 1.0, "mul"), (0, 1.0, "add")], 2),
    ],
)
def test_what_makes_kernels_alike(values: list[tuple[int, float, str]], groups: int) -> None:
    assert len(families(copies(values).kernels)) == groups


def test_which_buffers_are_the_same_tells_kernels_apart() -> None:
    b = Builder("pairs")
    x, y, out = b.input("x", "f64", 1), b.input("y", "f64", 1), b.output("out", "f64", 3)
    for k, (left, right) in enumerate([(x, y), (y, x), (x, x)]):
        with b.kernel("pair"):
            b.store(out, k, b.sub(b.load(left, 0), b.load(right, 0)))
    program = b.finish()
    assert [group.members for group in families(program.kernels)] == [[0, 1], [2]]
    (found,) = run(program, [np.array([5.0]), np.array([3.0])])
    assert_array_equal(found, [2.0, -2.0, 0.0])


@pytest.mark.parametrize("steps", [4, CALLS + 4])
def test_a_shared_function_fails_for_its_own_step(steps: int) -> None:
    """Steps after the failure do not run; the status is the failing kernel's."""
    b = Builder("failing")
    x, out = b.input("x", "i64", steps), b.output("out", "i64", steps)
    for k in range(steps):
        with b.kernel("step"):
            value = b.load(x, k)
            b.fail("negative", b.lt(value, 0))
            b.store(out, k, value)
    program = b.finish()
    check_program(program)
    assert len(families(program.kernels)) == 1
    native = compile_program(program)
    x_given = np.arange(1, steps + 1)
    x_given[2] = -1
    status, (found,) = execute(native, [x_given], [(steps, "i64")])
    assert program.errors[status - 1] == "negative"
    assert_array_equal(found[:2], [1, 2])
    assert (found[2:] == 0x7F7F7F7F7F7F7F7F).all()
