"""NumPy's BLAS is found and called on one thread, and its thread count is given back."""

import ctypes
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jit import openblas
from jit.runtime import blas

FOUND = openblas.find()
needs_blas = pytest.mark.skipif(FOUND is None, reason="NumPy has no OpenBLAS here")


def thread_count() -> int:
    assert FOUND is not None
    address = FOUND.symbols(["openblas_get_num_threads"])["openblas_get_num_threads"]
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)()


@pytest.fixture
def four_threads() -> Any:
    """OpenBLAS on four threads, whatever it had before."""
    assert FOUND is not None
    name = "openblas_set_num_threads"
    set_count = ctypes.CFUNCTYPE(None, ctypes.c_int)(FOUND.symbols([name])[name])
    before = thread_count()
    set_count(4)
    yield
    set_count(before)


@contextmanager
def single_threaded() -> Generator[None]:
    """The library on one thread meanwhile, as programs have it."""
    guards = blas.guard_symbols()
    assert guards is not None
    begin, end = (ctypes.CFUNCTYPE(None)(guards[name]) for name in openblas.GUARDS)
    begin()
    try:
        yield
    finally:
        end()


@needs_blas
def test_a_product_through_the_found_library() -> None:
    assert FOUND is not None
    integer = ctypes.c_int64 if FOUND.wide else ctypes.c_int32
    flag, pointer, real = ctypes.c_int, ctypes.c_void_p, ctypes.c_double
    kind = ctypes.CFUNCTYPE(
        *(None, flag, flag, flag, integer, integer, integer, real, pointer, integer),
        *(pointer, integer, real, pointer, integer),
    )
    product = kind(FOUND.symbols(["cblas_dgemm"])["cblas_dgemm"])
    rng = np.random.default_rng(0)
    a, b, c = rng.random((5, 7)), rng.random((7, 3)), np.empty((5, 3))
    with single_threaded():
        row_major, as_is = 101, 111
        pa, pb, pc = (x.ctypes.data for x in (a, b, c))
        product(row_major, as_is, as_is, 5, 3, 7, 1.0, pa, 7, pb, 3, 0.0, pc, 3)
    np.testing.assert_allclose(c, a @ b, rtol=1e-14)


@needs_blas
def test_a_factorisation_through_the_found_library() -> None:
    assert FOUND is not None
    integer: Any = ctypes.c_int64 if FOUND.wide else ctypes.c_int32
    pointer = ctypes.c_void_p
    kind = ctypes.CFUNCTYPE(None, *(pointer,) * 5, ctypes.c_size_t)
    factor = kind(FOUND.symbols(["dpotrf"])["dpotrf"])
    half = np.random.default_rng(1).random((6, 6))
    matrix = half @ half.T + np.eye(6)
    work, n, info = matrix.copy(), integer(6), integer(-1)
    upper = ctypes.create_string_buffer(b"U")
    by = ctypes.byref
    factor(ctypes.addressof(upper), by(n), work.ctypes.data, by(n), by(info), 1)
    assert info.value == 0
    np.testing.assert_allclose(np.tril(work), np.linalg.cholesky(matrix), rtol=1e-12)


@needs_blas
def test_missing_symbols_are_left_out() -> None:
    assert FOUND is not None
    assert FOUND.symbols(["cblas_nothing", "dnothing"]) == {}


def test_nothing_is_found_in_other_files(tmp_path: Path) -> None:
    text = tmp_path / "libopenblas.so"
    text.write_text("not a library")
    assert openblas.first_usable([]) is None
    assert openblas.first_usable([text, tmp_path / "absent.so"]) is None


@needs_blas
@pytest.mark.usefixtures("four_threads")
def test_the_thread_count_is_restored() -> None:
    with single_threaded():
        assert thread_count() == 1
        with single_threaded():
            assert thread_count() == 1
        assert thread_count() == 1
    assert thread_count() == 4
    with pytest.raises(KeyError), single_threaded():
        raise KeyError
    assert thread_count() == 4


@needs_blas
@pytest.mark.usefixtures("four_threads")
def test_the_last_of_several_threads_restores_it() -> None:
    seen: list[int] = []

    def work() -> None:
        for _ in range(300):
            with single_threaded():
                seen.append(thread_count())

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert seen == [1] * 1200
    assert thread_count() == 4


@needs_blas
@pytest.mark.usefixtures("four_threads")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_meanwhile_leaves_the_child_with_all_threads() -> None:
    with single_threaded():
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if thread_count() == 4 else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert thread_count() == 1
    assert thread_count() == 4
