"""The thread pool runs every piece exactly once, whatever the size, the platform or a fork."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from jit.runtime import threads
from jit.runtime.objects import build_object, link_object
from jit.runtime.threads_text import PATIENT_MISSES, Platform, pool_text

Pieces = list[tuple[int, int]]
LOOP = ctypes.CFUNCTYPE(None, threads.TASK, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
needs_threads = pytest.mark.skipif(not threads.has_threads(), reason="no native threads here")


@pytest.fixture(autouse=True)
def restore_size() -> Iterator[None]:
    before = threads.num_threads()
    yield
    threads.set_num_threads(before)


def run(
    n: int,
    grain: int,
    body: Callable[[int, int], object] | None = None,
    loop: str = "ft_parallel_for",
) -> Pieces:
    """The pieces a parallel loop was called with, sorted."""
    pieces: Pieces = []

    @threads.TASK
    def task(_ctx: int | None, lo: int, hi: int) -> None:
        pieces.append((lo, hi))
        if body is not None:
            body(lo, hi)

    LOOP(threads.symbols()[loop])(task, None, n, grain)
    return sorted(pieces)


def expected(n: int, grain: int) -> Pieces:
    step = max(grain, 1)
    return [(lo, min(n, lo + step)) for lo in range(0, n, step)]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [-3, 0, 1, 2, 7, 100])
@pytest.mark.parametrize("grain", [-1, 0, 1, 3, 100, 1000])
def test_every_piece_runs_once(size: int, n: int, grain: int) -> None:
    threads.set_num_threads(size)
    assert run(n, grain) == expected(n, grain)
    assert run(n, grain, loop="ft_parallel_hot") == expected(n, grain)


@needs_threads
def test_small_loops_wake_sleeping_workers_only_now_and_then() -> None:
    """Each loop holds two pieces, and finds the workers asleep."""
    threads.set_num_threads(2)
    caller = threading.get_ident()
    helped: list[bool] = []

    def body(lo: int, hi: int) -> None:
        helped[-1] |= threading.get_ident() != caller
        time.sleep(0.002)

    for _ in range(3 * PATIENT_MISSES):
        time.sleep(0.01)
        helped.append(False)
        run(2, 1, body, "ft_parallel_hot")
    assert sum(helped) <= 6
    helped.append(False)
    both = threading.Barrier(2, timeout=30)
    run(2, 1, lambda lo, hi: both.wait())
    for _ in range(PATIENT_MISSES):
        run(2, 1, body, "ft_parallel_hot")
    assert helped[-1]


def test_threads_beyond_the_processors_do_not_spin_for_long() -> None:
    most = threads.processors()
    assert threads.patience(most) > 10 * threads.patience(most + 1) > 0


@needs_threads
def test_workers_take_part() -> None:
    threads.set_num_threads(2)
    both = threading.Barrier(2, timeout=30)
    assert run(2, 1, lambda lo, hi: both.wait()) == [(0, 1), (1, 2)]


def test_nested_loops_are_complete() -> None:
    threads.set_num_threads(2)
    inner: list[Pieces] = []
    run(5, 1, lambda lo, hi: inner.append(run(4, 1)))
    assert inner == [expected(4, 1)] * 5


def test_concurrent_callers_are_complete() -> None:
    threads.set_num_threads(3)
    results: list[bool] = []

    def caller() -> None:
        results.extend(run(9, 2) == expected(9, 2) for _ in range(200))

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for one in callers:
        one.start()
    for one in callers:
        one.join(60)
    assert results == [True] * 800


@needs_threads
def test_resizing_between_loops() -> None:
    for size in (1, 4, 2, 3, 1, 2) * 20:
        threads.set_num_threads(size)
        assert run(6, 1) == expected(6, 1)


@needs_threads
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_pool_restarts_in_a_forked_child() -> None:
    threads.set_num_threads(2)
    assert run(6, 1) == expected(6, 1)
    both = threading.Barrier(2, timeout=30)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if run(2, 1, lambda lo, hi: both.wait()) == expected(2, 1) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert run(6, 1) == expected(6, 1)


STRESS = """
declare void @ft_parallel_for(ptr, ptr, i64, i64)

define internal void @task(ptr %sums, i64 %lo, i64 %hi) {
entry:
  %slot = getelementptr i64, ptr %sums, i64 %lo
  %old = load i64, ptr %slot
  %new = add i64 %old, %hi
  store i64 %new, ptr %slot
  ret void
}

define void @stress(ptr %sums, i64 %n, i64 %rounds) {
entry:
  br label %next
next:
  %i = phi i64 [0, %entry], [%j, %next]
  call void @ft_parallel_for(ptr @task, ptr %sums, i64 %n, i64 1)
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %rounds
  br i1 %more, label %next, label %out
out:
  ret void
}
"""


def stress(name: str, pool: dict[str, int], n: int, rounds: int) -> list[int]:
    imports = {"ft_parallel_for": pool["ft_parallel_for"]}
    address = link_object(name, build_object(STRESS), imports, ["stress"])["stress"]
    sums = (ctypes.c_int64 * n)()
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    kind(address)(ctypes.addressof(sums), n, rounds)
    return list(sums)


@pytest.mark.parametrize("loop", ["ft_parallel_for", "ft_parallel_hot"])
def test_many_native_loops_lose_nothing(loop: str) -> None:
    threads.set_num_threads(3)
    n, rounds = 5, 20000
    pool = {"ft_parallel_for": threads.symbols()[loop]}
    assert stress(f"stress.{loop}", pool, n, rounds) == [rounds * (i + 1) for i in range(n)]


def test_the_portable_pools_lose_nothing() -> None:
    here = threads.this_platform()
    pools = [Platform("other", "none")]
    if threads.has_threads():
        pools += [Platform(here.processor, "condition", here.set_mask)]
        pools += [Platform("other", "condition", here.set_mask)]
    for index, kind in enumerate(pools):
        pool = threads.load_pool(kind, f"portable_pool_{index}")
        resize = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(pool["ft_pool_resize"])
        for size in (3, 2, 1) if kind.sleeping != "none" else (1,):
            resize(size, 100)
            got = stress(f"portable_stress_{index}_{size}", pool, 4, 3000)
            assert got == [3000 * (i + 1) for i in range(4)]


def test_the_arm_pool_is_valid_text() -> None:
    import llvmlite.binding as llvm

    llvm.parse_assembly(pool_text(Platform("aarch64", "futex"))).verify()


def start_with(threads_given: str) -> "subprocess.CompletedProcess[str]":
    program = "from jit.runtime import threads; print(threads.num_threads())"
    environment = {**os.environ, "FUNCTRANS_NUM_THREADS": threads_given}
    run_python = partial(subprocess.run, capture_output=True, text=True, timeout=60, check=False)
    return run_python([sys.executable, "-c", program], env=environment)


@needs_threads
def test_the_environment_sets_the_size() -> None:
    assert start_with("5").stdout.strip() == "5"


@pytest.mark.skipif(sys.platform != "linux", reason="affinity")
def test_affinity_sets_the_size() -> None:
    program = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from jit.runtime import threads; print(threads.num_threads())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "FUNCTRANS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5"])
def test_a_bad_environment_is_a_clear_error(given: str) -> None:
    assert f"expected an integer >= 1, but it is {given!r}" in start_with(given).stderr


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True])
def test_a_bad_size_is_a_clear_error(count: object) -> None:
    with pytest.raises(ValueError, match="integer >= 1"):
        threads.set_num_threads(count)  # pyright: ignore[reportArgumentType]


@needs_threads
def test_the_process_ends_while_workers_spin() -> None:
    program = (
        "import ctypes; from jit.runtime import threads as t; t.set_num_threads(4)\n"
        "loop = ctypes.CFUNCTYPE(None, t.TASK, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)\n"
        "loop(t.symbols()['ft_parallel_for'])(t.TASK(lambda c, lo, hi: None), None, 100, 1)"
    )
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", program], timeout=60, check=False, capture_output=True
        )
        assert (done.returncode, done.stderr) == (0, b"")
