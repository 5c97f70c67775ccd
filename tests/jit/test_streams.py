"""Large buffers: memory is asked for ahead, and results pass the caches by, with the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from jit import emit
from jit.emit import emit_program
from jit.loop_ir.builder import Builder
from jit.native import compile_program, host_target, portable_target
from jit.pipeline import compile_jaxpr
from jit.runtime import threads
from tests.jit.programs import random_program

RNG = np.random.default_rng(3)
ON_X86 = host_target().triple.startswith("x86_64")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every buffer counts as large."""
    monkeypatch.setattr(emit, "FAR_BYTES", 0)
    monkeypatch.setattr(emit, "STREAM_BYTES", 0)


def outputs(f: Callable[..., Any], *args: Any) -> tuple[str, list[bytes]]:
    """The LLVM text of a program and the bits of its results."""
    closed = ft.make_jaxpr(f)(*args)
    made = compile_jaxpr(closed.jaxpr)
    return made.as_text("llvm"), [np.asarray(x).tobytes() for x in made([*closed.consts, *args])]


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "elementwise": (lambda x, y: (x * 2 + y, x - y), tuple(RNG.random((2, 301, 67)))),
    "halves": (lambda x: x.astype(np.float32) * 3, (RNG.random(1001),)),
    "bytes": (lambda x: (x + 1, x > 3), (RNG.integers(0, 100, 777).astype(np.int8),)),
    "rows": (
        lambda x: fnp.exp(x) / fnp.sum(fnp.exp(x), 1, keepdims=True),
        (RNG.random((50, 131)),),
    ),
    "joined": (lambda x: fnp.concatenate([x[3:], 2 * x, fnp.pad(x, 5)]), (RNG.random(499),)),
    "turned": (lambda x: (x.T + 1, x[::-1] * 2, x[:, ::3] + 0), (RNG.random((100, 90)),)),
    "read again": (lambda x: (fnp.sin(x), fnp.cumsum(fnp.sin(x)) * 2, x @ x), (RNG.random(900),)),
}


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_results_have_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    f, args = PROGRAMS[name]
    plain, expected = outputs(f, *args)
    monkeypatch.setattr(emit, "FAR_BYTES", 0)
    monkeypatch.setattr(emit, "STREAM_BYTES", 0)
    text, found = outputs(f, *args)
    assert found == expected
    assert "nontemporal" not in plain
    assert "prefetch" not in plain
    # Narrow vectors read a turned array in squares, whose rows are not asked for ahead.
    assert "prefetch" in text or name == "turned"
    assert ("nontemporal" in text) == ("sfence" in text)


@pytest.mark.usefixtures("tiny")
@pytest.mark.skipif(not ON_X86, reason="only x86-64 streams")
def test_what_is_read_again_does_not_stream() -> None:
    b = Builder("twice")
    x, out = b.input("x", "f64", 1000), b.output("out", "f64", 1000)
    with b.kernel("first"), b.for_(1000, "vector") as loop:
        b.store(out, loop.i, b.mul(b.load(x, loop.i), 2.0))
    with b.kernel("second"), b.for_(1000, "vector") as loop:
        b.store(out, loop.i, b.op("sqrt", b.load(out, loop.i)))
    first, _, second = emit_program(b.finish(), host_target(), False).text.partition("@k1")
    assert "nontemporal !0" in first
    assert "nontemporal !0" not in second


@pytest.mark.parametrize("seed", range(6))
def test_random_programs(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    jaxpr, values = random_program(seed, 25)
    expected = [x.tobytes() for x in compile_jaxpr(jaxpr)(values)]
    monkeypatch.setattr(emit, "FAR_BYTES", 0)
    monkeypatch.setattr(emit, "STREAM_BYTES", 0)
    assert [x.tobytes() for x in compile_jaxpr(jaxpr)(values)] == expected


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("target", ["host", "avx2", "sse2"])
@pytest.mark.parametrize("offset", [0, 8, 24])
def test_any_address_will_do(target: str, offset: int) -> None:
    """Where results do not lie on whole vectors they are stored as others are."""
    x = RNG.random(1000)
    program = compile_jaxpr(ft.make_jaxpr(lambda x: x * 2 + 1)(x).jaxpr).program
    processor = host_target() if target == "host" else portable_target(target)
    if ON_X86:
        assert "nontemporal" in emit_program(program, processor, False).text
    raw = np.zeros(8 * 1000 + 128, np.uint8)
    start = -raw.ctypes.data % 64 + offset
    out = raw[start : start + 8000].view(np.float64)
    ins, outs = np.array([x.ctypes.data]), np.array([out.ctypes.data])
    run = compile_program(program, processor, threads.symbols())
    assert run(ins.ctypes.data, outs.ctypes.data, 0) == 0
    np.testing.assert_array_equal(out, x * 2 + 1)
    assert not raw[:start].any()
    assert not raw[start + 8000 :].any()
