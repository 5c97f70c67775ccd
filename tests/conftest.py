"""What every test gets: the lanes, the seeds, and no compiled code but its own."""

from __future__ import annotations

import gc
import os

# Tests change the compiler under way and count what it does: they find no code that was kept, and
# leave none. The tests of the cache switch it on, in folders of their own.
os.environ["FUNCTRANS_CACHE"] = "off"
os.environ.pop("FUNCTRANS_CACHE_DIR", None)
os.environ["FUNCTRANS_CHECK"] = "1"

from collections.abc import Iterator

import hypothesis
import numpy as np
import pytest

from functrans import config, tiers
from functrans.memo import trie
from jit import native
from jit.runtime import threads
from tests.emulation import refused

# A slow machine is no reason to fail, and only the full lane looks for what was never seen.
for _name in ("normal", "full"):
    hypothesis.settings.register_profile(
        _name,
        deadline=None,
        derandomize=_name == "normal",
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("functrans")
    group.addoption("--full", action="store_true", help="also run the slow tests (full lane)")
    group.addoption("--fuzz-seconds", type=float, default=0.0, help="how long fuzzers search on")
    group.addoption("--update-snapshots", action="store_true", help="write what tests pin")
    group.addoption(
        "--vectors", choices=["avx512", "avx2", "sse2"], help="compile for such vectors"
    )
    group.addoption("--threads", type=int, help="how many threads compiled programs use")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Compile for the processor and run on the threads that the options ask for."""
    hypothesis.settings.load_profile("full" if config.getoption("--full") else "normal")
    config.option.loadscopereorder = False  # of pytest-xdist: files keep the order given below
    vectors, count = config.getoption("--vectors"), config.getoption("--threads")
    if vectors:
        chosen = native.portable_target(vectors)
        native.host_target = lambda: chosen
        if chosen.vector_bytes > native.widest_vector(native.load_llvm().get_host_cpu_features()):
            if count != 1:
                raise pytest.UsageError("these vectors are emulated, on one thread: --threads 1")
            refused.install()
    if count:
        threads.set_num_threads(count)


LONG = ("test_widths", "test_fuzz", "test_laws", "test_mutants", "test_memo_programs", "test_steps")
"""Files that take a minute and more: they begin first, or one worker would end long after all."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long files first; the full lane's tests are left out of the normal one (deselected, not
    skipped)."""
    items.sort(key=lambda item: item.path.stem not in LONG)
    if config.getoption("--full"):
        return
    slow = [item for item in items if item.get_closest_marker("full")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("full")]


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator of random numbers with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def fuzz_seconds(pytestconfig: pytest.Config) -> float:
    """How long a fuzzer should search beyond its fixed programs; 0 in the normal lane."""
    return float(pytestconfig.getoption("--fuzz-seconds") or 0.0)


@pytest.fixture(scope="session")
def update_snapshots(pytestconfig: pytest.Config) -> bool:
    """Should a pinned text be written instead of compared?"""
    return bool(pytestconfig.getoption("--update-snapshots"))


@pytest.fixture
def young_heap() -> Iterator[None]:
    """What other tests left is not looked through whenever this one collects its garbage."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def empty_memo() -> Iterator[None]:
    """An empty memo, and the switches as they were afterwards, with nothing that still compiles."""
    trie.clear()
    before = config.memo, config.memo_steps, config.unjitted, config.background
    yield
    tiers.wait()
    config.memo, config.memo_steps, config.unjitted, config.background = before
