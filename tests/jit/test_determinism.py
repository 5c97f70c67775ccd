"""Bits do not depend on the number of threads, nor on who else is running.

Small programs are cut into pieces as large ones are by lowering the engine's thresholds: every
loop that may run on threads then does.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans.errors import ConcretizationError
from functrans.extend import PRIMITIVES
from functrans.ir import Jaxpr
from jit.passes import loops as passes_loops
from jit.passes import schedule as passes_schedule
from jit.pipeline import compile_jaxpr
from jit.runtime import threads
from tests.fuzz.agree import Subject
from tests.fuzz.generate import generate
from tests.jit.programs import random_program
from tests.law_tools import cases, vjp_program
from tests.native_laws import together

COUNTS = (1, 2, 3, 5)
RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def restore_size() -> Iterator[None]:
    before = threads.num_threads()
    yield
    threads.set_num_threads(before)


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every loop that may run on threads does, in the smallest pieces."""
    monkeypatch.setattr(passes_schedule, "PARALLEL_NS", 0.0)
    monkeypatch.setattr(passes_loops, "PARALLEL_NS", 0.0)
    monkeypatch.setattr(passes_schedule, "CHUNK_NS", 0.0)


def bits(values: Any) -> list[bytes]:
    return [np.asarray(x).tobytes() for x in ft.tree.leaves(values)]


def same_for_all(call: Callable[[], Any], label: str, times: int = 1) -> None:
    """The bits of the results for each number of threads."""
    found: dict[int, list[bytes]] = {}
    for count in COUNTS:
        threads.set_num_threads(count)
        for _ in range(times):
            made = bits(call())
            assert found.setdefault(count, made) == made, (label, count)
    for count in COUNTS[1:]:
        assert found[count] == found[1], (label, count)


def check_program(jaxpr: Jaxpr, inputs: list[Any], label: str) -> None:
    run = compile_jaxpr(jaxpr)
    arrays = [np.asarray(x) for x in inputs]
    same_for_all(lambda: run(arrays), label)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("part", range(4))
def test_samples_of_every_primitive(part: int) -> None:
    """One case of each primitive, and its derivative where it has one."""
    names = sorted(PRIMITIVES)[part::4]
    programs: list[tuple[Jaxpr, list[Any]]] = []
    for name in names:
        for case in cases(name, False, few=1):
            programs.append((case.jaxpr, list(case.operands)))
        for case in cases(name, False, "fc", ("plain", "odd"), few=1):
            if case.active:
                cts = [np.ones(a.shape, a.dtype) for a in case.jaxpr.out_avals]
                cts = [c for c in cts if c.dtype.kind in "fc"]
                pull = vjp_program(case.jaxpr, case.mask(case.active))
                programs.append((pull, [*case.operands, *cts]))
    assert len(programs) > 2 * len(names)
    for few in (programs[k : k + 20] for k in range(0, len(programs), 20)):
        inputs = [x for _, operands in few for x in operands]
        check_program(together([jaxpr for jaxpr, _ in few]), inputs, str(names))


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("seed", range(12))
def test_random_programs(seed: int) -> None:
    jaxpr, values = random_program(seed, 30)
    check_program(jaxpr, values, f"program {seed}")


@pytest.mark.usefixtures("cut")
def test_fuzz_programs_and_their_gradients() -> None:
    checked = 0
    for number in range(16):
        subject = Subject(generate(number))
        for f in (subject.f, subject.gradient(subject.loss)):
            try:
                closed = ft.make_jaxpr(f)(*subject.args)
            except ConcretizationError:
                continue  # it asks for values: there is no one program of it
            with np.errstate(all="ignore"):
                check_program(closed.jaxpr, [*closed.consts, *subject.args], f"program {number}")
            checked += 1
    assert checked > 16


def layer_norm(x: Any, scale: Any) -> Any:
    centred = x - fnp.mean(x, axis=-1, keepdims=True)
    return fnp.sum(scale * centred / fnp.sqrt(fnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5))


def network(params: Any, x: Any) -> Any:
    for weight in params:
        x = fnp.tanh(x @ weight)
    return fnp.mean(x**2)


def attention(q: Any, k: Any, v: Any) -> Any:
    scores = fnp.einsum("bqd,bkd->bqk", q, k)
    weights = fnp.exp(scores - fnp.max(scores, axis=-1, keepdims=True))
    return fnp.sum(fnp.einsum("bqk,bkd->bqd", weights / fnp.sum(weights, -1, keepdims=True), v))


LARGE: dict[str, tuple[Callable[..., Any], Callable[[], tuple[Any, ...]]]] = {
    "chain": (
        ft.value_and_grad(lambda x: fnp.sum(fnp.exp(-x * x) * fnp.sin(3 * x) + 0.1 * x)),
        lambda: (RNG.standard_normal(300_001),),
    ),
    "reductions": (
        lambda x: (fnp.sum(x), fnp.sum(x, 0), fnp.var(x, 1), fnp.max(x), fnp.argmin(x, 0)),
        lambda: (RNG.standard_normal((700, 501)).astype("f4"),),
    ),
    "accumulations": (
        lambda x: (fnp.cumsum(x, 0), fnp.cumsum(x, 1), fnp.sort(x, 1), fnp.argsort(x, 0)),
        lambda: (RNG.standard_normal((300, 401)),),
    ),
    "softmax": (
        ft.value_and_grad(lambda x: fnp.sum(ft.nn.log_softmax(x)[:, 3])),
        lambda: (RNG.standard_normal((1000, 300)).astype("f4"),),
    ),
    "layer_norm": (
        ft.grad(layer_norm, argnums=(0, 1)),
        lambda: (RNG.standard_normal((1000, 257)), RNG.standard_normal(257)),
    ),
    "network": (
        ft.value_and_grad(network),
        lambda: (
            [RNG.standard_normal((200, 150)), RNG.standard_normal((150, 33))],
            RNG.standard_normal((301, 200)),
        ),
    ),
    "attention": (
        ft.grad(attention, argnums=(0, 1, 2)),
        lambda: tuple(RNG.standard_normal((3, 130, 32)).astype("f4") for _ in range(3)),
    ),
    "embedding": (
        ft.grad(lambda table, rows: fnp.sum(fnp.tanh(table[rows]) ** 2)),
        lambda: (RNG.standard_normal((5000, 32)), RNG.integers(0, 50, 4000)),
    ),
    "transposed": (
        lambda x: (x.T * 2 + 1, x.T @ x, fnp.sum(x.T, axis=0)),
        lambda: (RNG.standard_normal((601, 403)),),
    ),
}


@pytest.mark.parametrize("name", sorted(LARGE))
def test_large_programs(name: str) -> None:
    f, make = LARGE[name]
    compiled, args = ft.jit(f), make()
    same_for_all(lambda: compiled(*args), name, times=3)


def test_a_callback_may_run_another_program() -> None:
    """The loop inside runs while another thread's may be under way; both give their bits."""
    inner = ft.jit(lambda x: fnp.sum(fnp.sin(x) * x))
    seen: list[bytes] = []

    def outer(x: Any) -> Any:
        y = fnp.exp(x) * 2
        ft.debug.callback(lambda v: seen.append(bits(inner(v))[0]), y)
        return fnp.sum(y * y)

    compiled, x = ft.jit(outer), RNG.standard_normal(200_000)
    same_for_all(lambda: compiled(x), "outer")
    assert len(set(seen)) == 1


def test_many_python_threads_at_once() -> None:
    """Who finds the pool taken computes alone: the same bits, and nobody waits for ever."""
    programs = {
        name: (ft.jit(f), make())
        for name, (f, make) in LARGE.items()
        if name in ("chain", "softmax", "network", "transposed")
    }
    threads.set_num_threads(3)
    expected = {name: bits(f(*args)) for name, (f, args) in programs.items()}
    wrong: list[str] = []

    def work(first: int) -> None:
        names = sorted(programs)
        for turn in range(12):
            name = names[(first + turn) % len(names)]
            f, args = programs[name]
            if bits(f(*args)) != expected[name]:
                wrong.append(name)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for worker in workers:
        worker.start()
    for turn in range(30):
        threads.set_num_threads(1 + turn % 4)
    for worker in workers:
        worker.join(120)
    assert not any(worker.is_alive() for worker in workers)
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_amid_parallel_calls() -> None:
    """Children compute while the parent's threads go on; all get the same bits."""
    f, make = LARGE["chain"]
    compiled, args = ft.jit(f), make()
    threads.set_num_threads(3)
    expected = bits(compiled(*args))
    stop = threading.Event()
    wrong: list[int] = []

    def work() -> None:
        while not stop.is_set():
            if bits(compiled(*args)) != expected:
                wrong.append(1)

    worker = threading.Thread(target=work)
    worker.start()
    codes: list[int] = []
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    fine = all(bits(compiled(*args)) == expected for _ in range(3))
                    code = 0 if fine else 2
                finally:
                    os._exit(code)
            codes.append(os.waitpid(child, 0)[1])
    finally:
        stop.set()
        worker.join(60)
    assert codes == [0] * 5
    assert wrong == []
