"""Recycled blocks: arrays like any other of NumPy's, whose memory comes back and stays bounded."""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from jit.dispatch import Dispatcher
from jit.runtime import blocks as recycled
from jit.runtime.arena import ArenaPool
from jit.runtime.block_arrays_text import HANDLER_NAME
from jit.runtime.blocks import Blocks, blocks, maker
from jit.runtime.blocks_text import SLOTS, SYSTEMS, blocks_text
from jit.runtime.objects import build_object, library_symbols, link_object

F8 = np.dtype(np.float64)
MB = 1 << 20


@pytest.fixture
def made() -> Iterator[Blocks]:
    """The module, with nothing idle before and after."""
    found = blocks()
    if found is None:
        pytest.skip("NumPy's layout is not known here, or blocks are switched off")
    found.trim()
    yield found
    found.limit(recycled.LIMIT)
    found.trim()


def new(made: Blocks, *shape: int) -> np.ndarray[Any, Any]:
    array = maker(made, shape, F8)()
    assert array is not None
    return array


def handler(array: np.ndarray[Any, Any]) -> str:
    return np._core.multiarray.get_handler_name(array)  # type: ignore[attr-defined]


def test_arrays_are_numpy_s_in_everything(made: Blocks) -> None:
    array, like = new(made, 300, 200), np.empty((300, 200))
    assert type(array) is np.ndarray
    assert handler(array) == HANDLER_NAME
    assert array.dtype is like.dtype
    assert array.flags.num == like.flags.num
    assert (array.shape, array.strides, array.base) == (like.shape, like.strides, None)
    assert array.ctypes.data % 64 == 0


def test_memory_goes_from_one_array_to_the_next(made: Blocks) -> None:
    first = new(made, 100_000)
    place = first.ctypes.data
    del first
    assert made.idle() > 0
    second = new(made, 99_000)
    assert second.ctypes.data == place
    assert made.idle() == 0


def test_views_keep_the_memory(made: Blocks) -> None:
    array = new(made, 1000, 100)
    array[...] = np.arange(100_000.0).reshape(1000, 100)
    view = np.asarray(array)[10:20].T
    del array
    assert made.idle() == 0
    other = new(made, 1000, 100)
    other[...] = -1
    assert view[0].tolist() == [1000.0 + 100 * k for k in range(10)]
    del view
    assert made.idle() > 0


@pytest.mark.parametrize("count", [10, 99_990, 100_010, 150_000, 1_000_000])
def test_resize_keeps_what_was_there(made: Blocks, count: int) -> None:
    array = new(made, 100_000)
    array[:] = np.arange(100_000.0)
    array.resize(count, refcheck=False)
    kept = min(count, 100_000)
    assert (array[:kept] == np.arange(float(kept))).all()
    assert not array[kept:].any()
    del array
    made.trim()
    assert made.mapped() == 0


def test_copies_pickles_and_casts_are_exact(made: Blocks) -> None:
    array = new(made, 400, 50)
    array[...] = np.random.default_rng(0).standard_normal((400, 50))
    expected = np.array(array, copy=True)
    same = [
        pickle.loads(pickle.dumps(array)),
        array.copy(),
        array.astype(np.longdouble).astype(np.float64),
        np.frombuffer(array.tobytes()).reshape(400, 50),
        np.asarray(memoryview(array)),  # type: ignore[arg-type]
    ]
    array[::-1].sort()
    array[...] = expected
    state: Any = expected.__reduce__()[2]
    array.__setstate__(state)
    for found in [*same[:4], array]:
        np.testing.assert_array_equal(found, expected)


def test_the_handler_serves_as_numpy_s_allocator(made: Blocks) -> None:
    """malloc, calloc and realloc of small, empty and large arrays under NumPy's own hand."""
    set_handler: Any = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(
        (recycled.numpy_functions() or [0])[-2]
    )
    own = recycled.word(new(made, 100), recycled.HANDLER)
    before = set_handler(ctypes.cast(own, ctypes.py_object).value)
    try:
        arrays = [np.zeros(n) for n in (0, 1, 1000, 300_000)] + [np.ones((3, 0))]
        assert [handler(a) for a in arrays] == [HANDLER_NAME] * 5
        assert not any(a.any() for a in arrays)
        arrays[2].resize(5000)
        assert not arrays[2].any()
    finally:
        set_handler(before)
    del arrays
    assert handler(np.empty(3)) != HANDLER_NAME
    made.trim()
    assert made.mapped() == 0


def test_idle_bytes_are_bounded(made: Blocks) -> None:
    made.limit(4 * MB)
    arrays = [new(made, 100_000) for _ in range(20)]
    arrays.append(new(made, 8 * MB))
    mapped = made.mapped()
    assert mapped > 80 * MB
    arrays.clear()
    assert made.idle() <= 4 * MB
    assert made.mapped() == made.idle()
    made.limit(0)
    assert made.mapped() == 0


def test_more_blocks_than_places(made: Blocks) -> None:
    arrays = [new(made, 1) for _ in range(SLOTS + 50)]
    arrays.clear()
    assert made.idle() == made.mapped() == SLOTS * (1 << 14)


def test_a_block_of_too_many_bytes_is_refused(made: Blocks) -> None:
    assert made.take(1 << 60) is None
    assert made.take(2**64 - 1) is None


def own_module(patience: int) -> Blocks:
    """Another instance, whose arrays nobody makes."""
    table = recycled.numpy_functions()
    assert table is not None
    imports = library_symbols((*recycled.IMPORTS, *recycled.PYTHON_IMPORTS, "_Py_NoneStruct"))
    imports |= {"Py_None": imports.pop("_Py_NoneStruct"), "PyArray_Type": id(np.ndarray)}
    imports["PyArray_NewFromDescr"] = table[recycled.NEW_FROM_DESCR]
    code = build_object(blocks_text(SYSTEMS[sys.platform], patience))
    return Blocks(link_object(f"blocks{patience}", code, imports, recycled.EXPORTS))


def test_idle_blocks_go_back_after_a_while(made: Blocks) -> None:
    one = own_module(0)
    one.limit(100 * MB)
    for _ in range(2):
        place = one.take(MB)
        assert place
        one.give(place)
        assert one.idle() > 0
        for _ in range(400):
            if one.mapped():
                time.sleep(0.05)
        assert one.mapped() == 0


def test_threads_get_blocks_of_their_own(made: Blocks) -> None:
    faults: list[int] = []

    def work(number: int) -> None:
        make = maker(made, (20_000 + 100 * number,), F8)
        for turn in range(200):
            arrays = [make() for _ in range(3)]
            for k, array in enumerate(arrays):
                assert array is not None
                array[:] = 1000 * number + 10 * turn + k
            for k, array in enumerate(arrays):
                if (array != 1000 * number + 10 * turn + k).any():  # type: ignore[union-attr]
                    faults.append(number)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert faults == []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_blocks_too(made: Blocks) -> None:
    kept = new(made, 100_000)
    kept[:] = 7
    del kept
    before = new(made, 50_000)
    before[:] = 3
    child = os.fork()
    if child == 0:
        code = 1
        try:
            first = new(made, 100_000)
            first[:] = 5
            del first
            fine = (before == 3).all() and made.idle() > 0
            made.trim()
            code = 0 if fine and made.idle() == 0 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert (before == 3).all()


EXIT = """
import threading
import numpy as np
import functrans as ft
from jit.runtime.blocks import blocks
made = blocks()
f = ft.jit(lambda x: (2 * x, x + 1))
class Holder: pass
holder = Holder()
holder.me, holder.kept = holder, f(np.ones(500_000))
f.cycle = [f, f(np.ones(400_000))]
def forever():
    while True:
        f(np.ones(300_000))
threading.Thread(target=forever, daemon=True).start()
name_of = np._core.multiarray.get_handler_name
print(f(np.ones(500_000))[0][3], made is None or name_of(holder.kept[0]))
"""


def test_the_interpreter_ends_while_arrays_live_and_threads_run() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXIT], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[0] == "2.0"
    assert done.stdout.split()[1] in ("True", HANDLER_NAME)


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_calls_leak_nothing(made: Blocks) -> None:
    f = ft.jit(lambda x: (fnp.sin(x), fnp.sort(x * x) - 1, (x @ x.T) @ x))
    x = np.random.default_rng(0).standard_normal((300, 300))
    for _ in range(5):
        f(x)
    held, before = made.mapped(), resident()
    for _ in range(200):
        f(x)
    assert made.mapped() <= held
    assert resident() - before < 8 * MB


def test_tracemalloc_sees_the_arrays(made: Blocks) -> None:
    tracemalloc.start()
    try:
        array = new(made, 300_000)
        assert tracemalloc.get_traced_memory()[0] >= array.nbytes
        del array
        assert tracemalloc.get_traced_memory()[0] < MB
    finally:
        tracemalloc.stop()


def test_results_are_the_same_without_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    f = ft.jit(lambda x: (fnp.exp(x), (x @ x) @ x))
    x = np.random.default_rng(1).standard_normal((200, 200))
    first = [a.tobytes() for a in f(x)]
    monkeypatch.setattr(recycled, "_ready", [])
    g = ft.jit(lambda x: (fnp.exp(x), (x @ x) @ x))
    second = g(x)
    assert [a.tobytes() for a in second] == first
    assert [handler(a) for a in second] == ["default_allocator"] * 2


def test_nothing_is_made_where_the_layout_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    make: Any = blocks.__wrapped__  # type: ignore[attr-defined]
    monkeypatch.setattr(recycled, "layout_is_known", lambda table: False)
    assert make() is None
    monkeypatch.setattr(recycled, "OBJECT_SIZE", 32)
    assert make() is None
    monkeypatch.setattr(recycled, "LIMIT", 0)
    assert make() is None


def test_arenas_are_blocks_where_they_are_large(made: Blocks) -> None:
    pool = ArenaPool(recycled.MINIMUM)
    first, second = pool.take(), pool.take()
    assert first.address != second.address
    assert first.address % 64 == second.address % 64 == 0
    pool.give(first)
    assert made.idle() >= recycled.MINIMUM
    pool.give(second)
    small = ArenaPool(1000)
    kept = small.take()
    small.give(kept)
    assert kept.owner is not None
    assert small.take() is kept


def program(f: Any, *args: Any) -> Dispatcher:
    return f.lower(*args).compile().executable.dispatch


def test_reasons_for_not_taking_memory_can_be_read() -> None:
    f = ft.jit(lambda p, g: p - 0.5 * g, donate_argnums=0)
    p, g = np.ones(8), np.ones(8)
    found = program(f, p, g)
    assert found.donations() == ["result 0 takes the memory of input 0, written in place"]
    readonly = np.ones(8)
    readonly.flags.writeable = False
    base = np.ones(20)
    cases = [
        (np.ones(16)[::2], g, "it is not an array in C order of the program's dtype"),
        (base[:8], g, "it does not own its data"),
        (readonly, g, "it is read-only"),
        (p, p, "it is given twice (also as input 1)"),
        (g, g[:], "it overlaps input 1"),
    ]
    for a, b, reason in cases:
        assert f(a, b) is not a
        assert found.donations()[0].endswith(f"last refused because {reason}")
    report = str(f.lower(p, g).compile_report())
    assert "result 0 takes the memory of input 0" in report


@pytest.mark.parametrize("dispatch", ["native", "python"])
def test_both_ways_of_calling_use_blocks(
    made: Blocks, dispatch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results are blocks, and arenas that hold what lies between."""
    monkeypatch.setenv("FUNCTRANS_DISPATCH", dispatch)
    f = ft.jit(lambda x: ((x @ x) @ x, fnp.sum(x)))
    x = np.random.default_rng(0).standard_normal((200, 200))
    first, total = f(x)
    for _ in range(400):
        first, total = f(x)
        if f.cache_info().native_hits or dispatch == "python":
            break
        time.sleep(0.01)
    assert handler(first) == HANDLER_NAME
    np.testing.assert_allclose(first, x @ x @ x)
    assert np.isclose(total, x.sum())
    assert made.idle() > 0
    before = made.mapped()
    for _ in range(10):
        assert (f(x)[0] == first).all()
    assert made.mapped() <= before


def test_python_s_memory_does_not_grow_with_calls(made: Blocks) -> None:
    """Neither on the way through Python nor on the native one, arenas and donation included."""
    f = ft.jit(lambda x, y: (fnp.sort(x + y, 1), (x @ y) @ x), donate_argnums=0)
    y = np.random.default_rng(0).standard_normal((150, 150))
    x = y.copy()
    for _ in range(20):
        x = f(x / 100, y)[0]
    tracemalloc.start()
    try:
        for _ in range(20):
            x = f(x / 100, y)[0]
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(300):
            x = f(x / 100, y)[0]
        assert tracemalloc.get_traced_memory()[0] - before < 1 << 16
    finally:
        tracemalloc.stop()
