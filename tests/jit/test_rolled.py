"""Steps that were written out are loops in native code, and no bit of a result depends on it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Literal, TypeAlias

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import functrans as ft
import functrans.numpy as fnp
from jit.loop_ir.builder import Builder
from jit.loop_ir.nodes import (
    Block,
    Buffer,
    DType,
    For,
    LoopKind,
    Program,
    Value,
    reads,
)
from jit.names import NO_MEMORY
from jit.passes.repeats import Each, Finder, Lag, Left
from jit.passes.rolled import MOST_NOTED, MOST_ON_STACK, rolled
from jit.target import Target
from tests.jit.loop_programs import NUMPY, run, targets

N = 21
TARGETS = targets()
Kind: TypeAlias = Literal["scalar"] | LoopKind
KINDS: tuple[Kind, ...] = ("scalar", "serial", "vector", "parallel_vector")
# No products: LLVM may contract them with sums, or not, by who else reads them. What stands in no
# loop calls the C library for sines.
UNARY, EXACT = ("sin", "neg", "abs", "tanh"), ("neg", "abs", "floor")
BINARY = ("add", "sub", "min", "max")


class Template:
    """What every step of one random repetition does, as the numbers of its operands.

    An operand is ("own", statement, lag), ("given", k), ("fixed", number), ("literal", number),
    which differs from step to step, or ("left", statement, way) of the repetition before.
    """

    def __init__(self, rng: np.random.Generator, before: int, unary: Sequence[str]) -> None:
        self.length = int(rng.integers(5, 14))
        self.rows: list[tuple[str, list[tuple[Any, ...]]]] = []
        for place in range(self.length):
            name = str(rng.choice(unary if rng.random() < 0.3 else BINARY))
            name = name if place else "div"
            count = 1 if name in unary else 2
            operands = [self.operand(rng, place, before, k + 1 == count) for k in range(count)]
            # The first and the last read the step before, so that there is a chain.
            if place in (0, self.length - 1):
                operands[0] = ("own", self.length - 1, 1)
            if not place:
                operands[1] = ("fixed", 1.75)
            self.rows.append((name, operands))

    def operand(
        self, rng: np.random.Generator, place: int, before: int, varies: bool
    ) -> tuple[Any, ...]:
        kind = int(rng.integers(0, 8))
        if varies and kind < 3:
            kind = 5  # what is the same in all steps moves out of a loop
        match kind:
            case 0:
                return ("given", int(rng.integers(0, 2)))
            case 1:
                return ("fixed", float(rng.normal()))
            case 2:
                return ("literal", float(rng.normal()))
            case 3 | 4 if before:
                return ("left", int(rng.integers(0, before)), int(rng.choice([-1, 1])))
            case 5 | 6:
                return ("own", int(rng.integers(0, self.length)), int(rng.integers(1, 4)))
            case _ if place:
                return ("own", int(rng.integers(max(0, place - 3), place)), 0)
            case _:
                return ("own", 0, 1)


def written_out(
    b: Builder, templates: Sequence[Template], steps: int, given: Sequence[Value]
) -> list[list[list[Value]]]:
    """All steps of all repetitions, one after the other: the values by repetition and step."""
    made: list[list[list[Value]]] = []
    for number, template in enumerate(templates):
        rows: list[list[Value]] = []
        made.append(rows)
        for k in range(steps):
            row: list[Value] = []
            rows.append(row)
            for name, operands in template.rows:
                values = [operand_of(b, o, made, number, k, given) for o in operands]
                row.append(b.op(name, *values))
    return made


def operand_of(
    b: Builder,
    operand: tuple[Any, ...],
    made: Sequence[Sequence[Sequence[Value]]],
    number: int,
    k: int,
    given: Sequence[Value],
) -> Value:
    kind, *rest = operand
    match kind:
        case "given":
            return given[rest[0]]
        case "fixed":
            return b.const(given[0].dtype, rest[0])
        case "literal":
            return b.const(given[0].dtype, rest[0] + 0.125 * k)
        case "left":
            rows = made[number - 1]
            return rows[k if rest[1] > 0 else len(rows) - 1 - k][rest[0]]
        case _:
            slot, lag = rest
            if k < lag:
                return given[(slot + lag + k) % len(given)]
            return made[number][k - lag][slot]


def random_program(seed: int, kind: Kind, dtype: DType) -> Program:
    """Repetitions in a kernel without a loop, or in one; some of their values are results."""
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(50, 90))
    templates: list[Template] = []
    for _ in range(int(rng.integers(1, 4))):
        before = templates[-1].length if templates else 0
        templates.append(Template(rng, before, EXACT if kind == "scalar" else UNARY))
    b = Builder("random")
    inputs = [b.input(f"x{k}", dtype, N) for k in range(4)]
    outputs = [b.output(f"y{k}", dtype, N) for k in range(4)]

    def body(i: Value) -> None:
        given = [b.load(x, i) for x in inputs]
        made = written_out(b, templates, steps, given)
        singles = [made[int(rng.integers(0, len(made)))] for _ in range(3)]
        values = [rows[int(rng.integers(0, steps))][-1] for rows in singles]
        for y, value in zip(outputs, [*values, made[-1][-1][-1]], strict=True):
            b.store(y, i, value)

    with b.kernel("all"):
        if kind == "scalar":
            body(b.index(3))
        else:
            with b.for_(N, kind) as loop:
                body(loop.i)
    return b.finish()


@pytest.fixture(params=list(TARGETS))
def target(request: pytest.FixtureRequest) -> Target:
    """This machine, then AVX2 only, then SSE2 only."""
    return TARGETS[request.param]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1, 2, 3, 5])
def test_a_loop_computes_the_bits_of_its_steps(seed: int, kind: Kind, target: Target) -> None:
    dtype: DType = "f32" if seed % 2 else "f64"
    program = random_program(seed, kind, dtype)
    made = rolled(program)
    assert made.lines
    assert size_of(made.program) < size_of(program) / 4
    check_same(program, seed, kind, target)


def check_same(program: Program, seed: int, kind: Kind, target: Target | None = None) -> None:
    """Rolled it gives the same bits, not all of them those of NaN."""
    rng = np.random.default_rng(seed)
    kinds = {"f32": "f4", "f64": "f8"}
    inputs = [
        rng.normal(size=N).astype(kinds[b.dtype]) for b in program.buffers if b.kind == "input"
    ]
    found, wanted = run(rolled(program).program, inputs, target), run(program, inputs, target)
    part = slice(3, 4) if kind == "scalar" else slice(None)
    for a, b in zip(found, wanted, strict=True):
        assert_array_equal(a[part], b[part])
    assert any(np.isfinite(a[part]).any() for a in found)


def size_of(program: Program) -> int:
    return sum(size_of_block(kernel.body) for kernel in program.kernels)


def size_of_block(block: Block) -> int:
    inner = [stmt.body for stmt in block.stmts if isinstance(stmt, For)]
    return len(block.stmts) + sum(map(size_of_block, inner))


def test_most_random_steps_are_found() -> None:
    found = [bool(rolled(random_program(seed, "vector", "f64")).lines) for seed in range(60)]
    assert sum(found) > 50


@pytest.mark.full
@pytest.mark.parametrize("seed", range(6, 124))
def test_loops_of_many_random_steps(seed: int) -> None:
    kind = KINDS[seed % 4]
    check_same(random_program(seed, kind, "f64"), seed, kind)


# -- what is found and what is not --------------------------------------------------------------


def block_of(build: Callable[[Builder, Value, Buffer], object]) -> tuple[Program, Block]:
    """A kernel of one element of x, with what `build` makes of it."""
    b = Builder("one")
    x, y = b.input("x", "f64", 96), b.output("y", "f64", 96)
    with b.kernel("one"):
        build(b, b.load(x, b.index(0)), y)
    program = b.finish()
    return program, program.kernels[0].body


def test_sines_and_cosines_of_the_same_steps_are_one_loop() -> None:
    def build(b: Builder, x: Value, y: Buffer) -> None:
        value, arguments = x, []
        for _ in range(80):
            arguments.append(value)
            value = b.mul(b.add(b.op("sin", value), 0.5), 1.25)
        cosines = [b.op("cos", argument) for argument in arguments]
        for k in range(80):
            b.store(y, b.index(k), cosines[k])
        b.store(y, b.index(80), value)

    program, block = block_of(build)
    first, second, third = Finder(block, ()).run()
    assert (first.steps, first.period, first.loop) == (80, 3, 0)
    assert (second.steps, second.period, second.loop) == (80, 1, 0)
    assert isinstance(second.sources[0][0], Lag)
    assert (third.steps, third.loop) == (80, 2)
    assert isinstance(third.sources[0][0], Each)
    assert isinstance(third.sources[0][1], Left)
    found, wanted = (run(p, [np.ones(96)])[0][:81] for p in (rolled(program).program, program))
    assert_allclose(found, wanted, rtol=1e-14)  # the C library's sine is another


def test_a_step_may_read_several_steps_back() -> None:
    def build(b: Builder, x: Value, y: Buffer) -> None:
        a, c, d = x, b.add(x, 1.0), b.add(x, 2.0)
        for _ in range(120):
            a, c, d = c, d, b.sub(b.op("sqrt", c), b.mul(b.add(a, d), 0.25))
        b.store(y, b.index(0), d)
        b.store(y, b.index(1), a)

    program, block = block_of(build)
    (found,) = Finder(block, ()).run()
    assert {s.steps for row in found.sources for s in row if isinstance(s, Lag)} == {0, 1, 2, 3}
    inputs = [np.full(96, 0.3)]
    assert_array_equal(run(rolled(program).program, inputs)[0][:2], run(program, inputs)[0][:2])


@pytest.mark.parametrize("numbers", [(0.0, 0.0), (-0.0, -0.0), (0.0, -0.0), (np.nan, np.nan)])
def test_signed_zeros_and_nan_are_literals_like_others(numbers: tuple[float, float]) -> None:
    def build(b: Builder, x: Value, y: Buffer) -> None:
        value = x
        for k in range(80):
            value = b.max(b.mul(b.const("f64", numbers[k % 2]), value), b.op("sin", value))
        b.store(y, b.index(0), value)

    program, block = block_of(build)
    (found,) = Finder(block, ()).run()
    differ = any(isinstance(s, Each) for row in found.sources for s in row)
    assert differ == (numbers == (0.0, -0.0) and np.signbit(numbers[0]) != np.signbit(numbers[1]))
    inputs = [np.full(96, 0.7)]
    assert_array_equal(run(rolled(program).program, inputs)[0][:1], run(program, inputs)[0][:1])


def test_conditions_are_noted_too() -> None:
    """A truth value of each step, read from the last to the first."""
    b = Builder("masks")
    x, y = b.input("x", "f64", N), b.output("y", "f64", N)
    with b.kernel("masks"), b.for_(N, "vector") as loop:
        value, masks = b.load(x, loop.i), []
        for _ in range(80):
            masks.append(b.gt(value, 0.1))
            value = b.select(masks[-1], b.sub(b.op("sin", value), 0.3), b.add(value, 0.25))
        total = value
        for mask in reversed(masks):
            total = b.select(mask, b.sub(total, 0.5), b.div(total, 1.5))
        b.store(y, loop.i, total)
    program = b.finish()
    assert "bool" in [buffer.dtype for buffer in rolled(program).program.buffers]
    check_same(program, 0, "vector")


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_literals_of_what_had_left_the_loop(dtype: DType) -> None:
    """Where a type has no table of literals, nothing becomes a loop; else each step has its own."""
    b = Builder("narrow")
    x, w = b.input("x", dtype, N), b.input("w", dtype, 80)
    y = b.output("y", dtype, N)
    with b.kernel("narrow"), b.for_(N, "vector") as loop:
        value = b.load(x, loop.i)
        for k in range(80):
            scale = b.add(b.load(w, b.index(k)), b.const(dtype, 0.125 * k))
            value = b.op("sin", b.sub(b.max(value, scale), b.const(dtype, 0.5)))
        b.store(y, loop.i, value)
    program = b.finish()
    assert bool(rolled(program).lines) == (dtype == "f16")
    inputs = [np.linspace(-1, 1, n).astype("f2").view(NUMPY[dtype]) for n in (N, 80)]
    assert_array_equal(run(rolled(program).program, inputs)[0], run(program, inputs)[0])


def test_what_little_would_be_saved_stays_as_it_is() -> None:
    def build(b: Builder, x: Value, y: Buffer) -> None:
        for _ in range(12):
            x = b.mul(b.op("sin", x), 1.5)
        b.store(y, b.index(0), x)

    program, _ = block_of(build)
    assert rolled(program).program is program


@pytest.mark.parametrize("kind", ["vector", "parallel_vector"])
def test_many_notes_are_on_the_heap(kind: LoopKind, target: Target) -> None:
    program = there_and_back(MOST_ON_STACK // 128 + 40, kind)
    made = rolled(program).program
    assert [b.kind for b in made.buffers].count("grown") == 1
    assert made.errors == [NO_MEMORY]
    inputs = [np.linspace(-1.0, 1.0, 16)]
    assert_array_equal(run(made, inputs, target)[0], run(program, inputs, target)[0])


def test_too_many_notes_stay_as_they_are() -> None:
    program = there_and_back(MOST_NOTED // 128 + 8, "vector")
    assert rolled(program).program is program


def there_and_back(steps: int, kind: LoopKind) -> Program:
    """Steps, and as many that read what they have made from the last to the first."""
    b = Builder("large")
    x, y = b.input("x", "f64", 16), b.output("y", "f64", 16)
    with b.kernel("large"), b.for_(16, kind) as loop:
        values = [b.load(x, loop.i)]
        for _ in range(steps):
            values.append(b.sub(b.op("sin", values[-1]), 0.5))
        total = values[-1]
        for value in reversed(values):
            total = b.sub(b.op("sqrt", b.abs(total)), value)
        b.store(y, loop.i, total)
    return b.finish()


def test_values_that_other_statements_hand_on_stay_as_they_are() -> None:
    """A failure or a loop reads a single step."""

    def build(b: Builder, x: Value, y: Buffer) -> None:
        values = [x]
        for _ in range(80):
            values.append(b.add(b.mul(b.op("sin", values[-1]), 1.5), 0.5))
        b.fail("too large", b.gt(values[40], 1e9))
        b.store(y, b.index(0), values[-1])

    program, _ = block_of(build)
    assert rolled(program).program is program


def test_kernels_that_are_alike_stay_alike() -> None:
    b = Builder("several")
    x, y = b.input("x", "f64", 60), b.output("y", "f64", 60)
    for k in range(3):
        with b.kernel(f"k{k}"), b.for_(20, "vector") as loop:
            values = [b.load(x, b.add(loop.i, 20 * k))]
            for step in range(60):
                values.append(b.add(b.op("sin", values[-1]), 0.5 * step))
            total = values[-1]
            for value in reversed(values):
                total = b.mul(b.add(total, b.op("cos", value)), 0.5)
            b.store(y, b.add(loop.i, 20 * k), total)
    program = b.finish()
    made = rolled(program)
    assert len(made.lines) == 6
    kinds = [buffer.kind for buffer in made.program.buffers]
    assert kinds.count("local") == 1
    assert kinds.count("const") == 1
    inputs = [np.linspace(-1, 1, 60)]
    assert_array_equal(run(made.program, inputs)[0], run(program, inputs)[0])


def test_looking_for_steps_takes_linear_time() -> None:
    """Also where everything looks alike and nothing repeats: counted in calls, not seconds."""

    def calls(count: int) -> int:
        rng = np.random.default_rng(0)
        b = Builder("alike")
        x, y = b.input("x", "f64", 8), b.output("y", "f64", 8)
        with b.kernel("alike"):
            values: list[Value] = [b.load(x, b.index(k)) for k in range(8)]
            for _ in range(count):
                i, j = rng.integers(0, len(values), 2)
                values.append(b.div(values[i], values[j]))
            b.store(y, b.index(0), values[-1])
        block = b.finish().kernels[0].body
        made = 0

        def note(frame: FrameType, event: str, arg: Any) -> None:
            nonlocal made
            made += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            Finder(block, ()).run()
        finally:
            sys.setprofile(before)
        return made

    assert calls(8000) < 8.5 * calls(1000)


def test_a_loop_reads_what_it_begins_with_and_what_is_read_inside() -> None:
    b = Builder("nested")
    x, y = b.input("x", "f64", 8), b.output("y", "f64", 8)
    with b.kernel("nested"):
        first, inside = b.load(x, b.index(0)), b.load(x, b.index(1))
        with b.for_(8, "serial", [first]) as loop:
            (carry,) = loop.carries
            after = b.add(carry, inside)
            loop.yield_(after)
        b.store(y, b.index(0), loop.results[0])
    (stmt,) = [s for s in b.finish().kernels[0].body.stmts if isinstance(s, For)]
    assert {first, inside, after} <= set(reads(stmt))


# -- Python loops ------------------------------------------------------------------------------


def decay(x: Any) -> Any:
    """Runge and Kutta, 40 steps."""

    def f(t: float, x: Any) -> Any:
        return -x + fnp.sin(3.0 * t) * fnp.cos(x)

    for k in range(40):
        t, h = 0.05 * k, 0.05
        k1 = f(t, x)
        k2 = f(t + h / 2, x + h / 2 * k1)
        k3 = f(t + h / 2, x + h / 2 * k2)
        k4 = f(t + h, x + h * k3)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


def pendulum(x: Any) -> Any:
    """Two states and the path of one of them."""
    angle, speed, path = x, 0.1 * x, []
    for _ in range(60):
        speed = speed - 0.05 * fnp.sin(angle)
        angle = angle + 0.05 * speed
        path.append(angle)
    return fnp.stack(path)


def observed(x: Any) -> Any:
    """A filter along measurements, which are elements of an array."""
    data, state, error = fnp.cos(fnp.arange(70) * 0.3), x, 0.0 * x
    for k in range(70):
        error = error + (state - data[k]) ** 2
        state = fnp.tanh(0.9 * state + 0.3 * data[k])
    return error


def momentum(x: Any) -> Any:
    """Descent with momentum on a function of each element, with a rate that falls."""
    slope = ft.grad(lambda z: fnp.sum(fnp.log(1 + z * z) + 0.1 * fnp.cos(z)))
    speed = 0.0 * x
    for k in range(50):
        speed = 0.9 * speed - 0.1 / (1 + 0.1 * k) * slope(x)
        x = x + speed
    return x


def check_loops(f: Callable[[Any], Any], x: Any) -> None:
    """Compiled it is as without jit, and has loops."""
    compiled = ft.jit(f)
    assert_allclose(np.asarray(compiled(x)), np.asarray(f(x)), rtol=1e-12, atol=1e-12)
    lines = compiled.lower(x).compile_report().kernels
    assert any("written out, are a loop" in line for line in lines)


@pytest.mark.parametrize("f", [decay, pendulum, observed, momentum])
@pytest.mark.parametrize("derivative", [False, True])
def test_python_loops_are_loops(f: Callable[[Any], Any], derivative: bool) -> None:
    g = ft.grad(lambda x: fnp.sum(f(x) ** 2)) if derivative else f
    check_loops(g, np.linspace(-1.5, 1.5, 133))


@pytest.mark.parametrize("n", [1, 33])
@pytest.mark.parametrize("f", [decay, momentum])
def test_long_programs_over_few_elements_are_loops(f: Callable[[Any], Any], n: int) -> None:
    """Elsewhere these are cut into stretches, for LLVM's sake."""
    check_loops(ft.grad(lambda x: fnp.sum(f(x) ** 2)), np.linspace(-1.5, 1.5, n))


def test_few_elements_without_order_are_not_taken_for_a_loop() -> None:
    """Their kernels stay short: every step has the same operations on other values before it."""
    picks = np.random.default_rng(0).integers(0, 6, (300, 2))

    def f(x: Any) -> Any:
        values = [x] * 6
        for i, j in picks:
            values.append(fnp.tanh(values[-1 - i]) * 0.9 + 0.1 * values[-1 - j])
        return sum(values[-6:])

    kernels = ft.jit(f).lower(0.5).compile_report().kernels
    assert not any("are a loop" in line for line in kernels)
    assert len(kernels) > 1
