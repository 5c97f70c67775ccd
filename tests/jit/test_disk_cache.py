"""The cache on disk: entries come back as they were or not at all, whatever happens to files."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.lax as lax
import functrans.numpy as fnp
from functrans.ir import Eqn, Jaxpr, Literal, Var
from jit import cache_key, code_cache, disk_cache, openblas, processor, programs
from jit.lowering.rules import CHECKS
from jit.programs import Restored, executable_for
from jit.runtime.objects import build_object, link_object

KEY = bytes(range(20))
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own for each test, and sources that nobody edits meanwhile."""
    place = tmp_path / "cache"
    monkeypatch.setenv("FUNCTRANS_CACHE_DIR", str(place))
    monkeypatch.delenv("FUNCTRANS_CACHE", raising=False)
    monkeypatch.delenv("FUNCTRANS_CACHE_MB", raising=False)
    monkeypatch.setattr(cache_key, "sources", lambda: b"the same")
    cache_key.base.cache_clear()
    yield place
    cache_key.base.cache_clear()


def entries(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def program(factor: float = 2.0) -> Jaxpr:
    """A jaxpr that no other test has compiled."""
    return ft.make_jaxpr(lambda x: (fnp.exp(x) * factor, fnp.sum(x)))(np.arange(5.0)).jaxpr


def outcome(jaxpr: Jaxpr) -> tuple[Any, dict[str, int]]:
    """The executable of a fresh copy of a program, and what had to be compiled for it."""
    before = dict(code_cache.COUNTS)
    copy = Jaxpr(jaxpr.invars, jaxpr.eqns, jaxpr.outvars, jaxpr.num_consts)
    made = executable_for(copy)
    x = np.arange(5.0)
    outs = made([x])
    np.testing.assert_allclose(outs[0], np.exp(x) * 2.0, rtol=1e-15)
    assert outs[1] == 10.0
    return made, {k: v - before[k] for k, v in code_cache.COUNTS.items()}


# -- what comes back --------------------------------------------------------------------------


def test_a_program_comes_back_without_being_compiled(folder: Path) -> None:
    made, counts = outcome(program())
    assert not isinstance(made, Restored)
    assert counts == {"hits": 0, "compiled": 1}
    again, counts = outcome(program())
    assert isinstance(again, Restored)
    assert counts == {"hits": 1, "compiled": 0}
    assert again.compile_report().kernels == made.compile_report().kernels
    assert "cache" in str(again.compile_report())
    assert again.as_text("loops") == made.as_text("loops")
    assert again.as_text("llvm") == made.as_text("llvm")


def looping(factor: float) -> Callable[[Any], Any]:
    """A derivative of a loop in a loop, with a number in the inner body."""

    def f(x: Any) -> Any:
        def step(c: Any) -> Any:
            return fnp.sin(c[0] * factor), c[1] + 1

        def run(x: Any, n: Any) -> Any:
            return lax.while_loop(lambda c: c[1] < n, step, (x, 0))[0], fnp.sum(x)

        return fnp.sum(lax.scan(run, x, np.arange(3))[1])

    return ft.grad(f)


def test_loops_come_back_and_are_told_apart(folder: Path) -> None:
    x = np.linspace(0.0, 1.0, 200)
    jaxprs = [ft.make_jaxpr(looping(factor))(x).jaxpr for factor in (2.0, 2.0, 3.0)]
    made, again, other = (
        executable_for(Jaxpr(j.invars, j.eqns, j.outvars, j.num_consts)) for j in jaxprs
    )
    assert [isinstance(e, Restored) for e in (made, again, other)] == [False, True, False]
    args = [np.arange(3), x]
    np.testing.assert_array_equal(again(args)[0], made(args)[0])
    assert not np.array_equal(other(args)[0], made(args)[0])
    assert again.compile_report().kernels == made.compile_report().kernels
    assert again.as_text("loops") == made.as_text("loops")


@pytest.mark.parametrize("value", ["0", "off", "No", " FALSE "])
def test_the_cache_can_be_switched_off(
    folder: Path, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNCTRANS_CACHE", value)
    outcome(program())
    made, _ = outcome(program())
    assert not isinstance(made, Restored)
    assert not folder.exists()


def test_statuses_donation_and_errors_survive(folder: Path) -> None:
    x = np.arange(4.0)
    take = ft.make_jaxpr(lambda x, i: fnp.take(x, i))(x, 1).jaxpr
    step = ft.make_jaxpr(lambda x: x * 2.0 + 1.0)(x).jaxpr
    for kind in ("Executable", "Restored"):
        copy = Jaxpr(take.invars, take.eqns, take.outvars)
        made = executable_for(copy)
        assert type(made).__name__ == kind
        assert made([x, np.int64(3)])[0] == 3.0
        with pytest.raises(ft.errors.OutOfBoundsError, match=r"take|gather.*test_disk_cache"):
            made([x, np.int64(9)])
        donating = executable_for(Jaxpr(step.invars, step.eqns, step.outvars), (0,))
        given = x.copy()
        (out,) = donating([given])
        assert out is given
        assert out.tolist() == [1.0, 3.0, 5.0, 7.0]


def test_programs_that_call_python_are_not_kept(folder: Path) -> None:
    seen: list[Any] = []

    def f(x: Any) -> Any:
        ft.debug.callback(seen.append, x)
        return x + 1

    jaxpr = ft.make_jaxpr(f)(1.0).jaxpr
    assert cache_key.program_key(jaxpr, ()) is None
    for _ in range(2):
        executable_for(Jaxpr(jaxpr.invars, jaxpr.eqns, jaxpr.outvars))([1.0])
    assert len(seen) == 2


# -- keys -------------------------------------------------------------------------------------


def keys_of(*functions: Callable[..., Any], args: Any = ()) -> list[bytes | None]:
    args = args or (np.ones(3),)
    return [cache_key.program_key(ft.make_jaxpr(f)(*args).jaxpr, ()) for f in functions]


def test_equal_programs_have_equal_keys() -> None:
    one, two = keys_of(
        lambda x: fnp.sin(x) * 2.0,
        lambda y: (
            2.0 * y,
            fnp.sin(y) * 2.0,
        )[1],
    )
    (three,) = keys_of(lambda x: fnp.sin(x) * 2.0)
    assert one == three
    assert one is not None
    assert two is not None


def test_whatever_decides_the_code_changes_the_key() -> None:
    x = np.ones(3)
    functions: list[Callable[..., Any]] = [
        lambda x: x * 2.0,
        lambda x: x * -2.0,
        lambda x: x * 0.0,
        lambda x: x * -0.0,
        lambda x: x * np.float64(2.0),
        lambda x: x + 2.0,
        lambda x: (x * 2.0, x * 2.0),
        lambda x: fnp.sum(x, axis=0),
        lambda x: fnp.cumsum(x),
        lambda x: fnp.flip(fnp.cumsum(fnp.flip(x))),
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.int32),
        lambda x: ft.checkpoint(fnp.sin)(x),
        lambda x: fnp.sin(x),
    ]
    keys = keys_of(*functions)
    keys += [
        cache_key.program_key(ft.make_jaxpr(functions[0])(v).jaxpr, ())
        for v in (np.ones(4), np.ones((3, 1)), np.ones(3, np.float32), 1.0, np.float64(1.0), 1)
    ]
    keys += [cache_key.program_key(ft.make_jaxpr(functions[0])(x).jaxpr, (0,))]
    assert None not in keys
    # 2.0 and np.float64(2.0) meet an array of float64 alike.
    assert len(set(keys)) == len(keys) - 1


def test_the_line_counts_only_where_a_message_names_it() -> None:
    def lines(text: str) -> list[bytes | None]:
        functions = [eval("\n" * n + text, {"fnp": fnp}) for n in (0, 3)]
        return keys_of(*functions, args=(np.ones(3), np.array([0, 1])))

    plain = lines("lambda x, i: fnp.sin(x) + i.sum()")
    assert plain[0] == plain[1]
    taken = lines("lambda x, i: fnp.take(x, i)")
    assert taken[0] != taken[1]
    assert {p.name for p in CHECKS} == {p.name for p in cache_key.CHECKED}


@pytest.mark.skipif(openblas.find() is None, reason="NumPy has no OpenBLAS here")
def test_factorisations_have_keys_where_no_python_is_called() -> None:
    """They name the user's line where one has no result."""
    inverse = "lambda a: fnp.linalg.inv(a)"
    one, other = (eval("\n" * n + inverse, {"fnp": fnp}) for n in (0, 3))
    for n in (2, 6):
        first, same, moved = keys_of(one, one, other, args=(np.eye(n),))
        assert None not in (first, moved)
        assert first == same != moved
    assert keys_of(lambda a: fnp.linalg.det(a), args=(np.eye(6) * 1j,)) == [None]
    assert keys_of(one, args=(np.ones((0, 6, 6)),)) == [None]


def test_params_are_told_apart_by_type_too() -> None:
    (x,) = ft.make_jaxpr(fnp.sin)(np.ones(2)).jaxpr.invars
    contents = cache_key.Contents(Jaxpr([x], [], [x]))
    values: list[Any] = [1, True, 1.0, 1 + 0j, "1", b"1", None, (), (1,), (True,), ((1,),)]
    values += [np.dtype("f4"), np.dtype("f8"), np.dtype("M8[s]"), np.dtype("M8[ms]")]
    values += [np.float32(1), np.float64(1), np.int64(1), np.bool_(True), -0.0, 0.0]
    digests = [cache_key.digest_of(contents.value(v)) for v in values]
    assert len(set(digests)) == len(values)
    with pytest.raises(cache_key.Unkeyed):
        contents.value(lambda: 0)


def test_a_primitive_of_a_user_has_no_key() -> None:
    sin = ft.make_jaxpr(fnp.sin)(np.ones(2)).jaxpr.eqns[0].primitive
    own = ft.extend.Primitive(name="sin", abstract_eval=sin.abstract_eval, impl=sin.impl)
    x, y = (Var(ft.extend.Aval((2,), np.dtype(float))) for _ in "xy")
    assert cache_key.program_key(Jaxpr([x], [Eqn(own, [x], [y], {})], [y]), ()) is None
    assert cache_key.program_key(Jaxpr([x], [Eqn(sin, [x], [y], {})], [y]), ()) is not None


def test_literals_are_told_apart_by_their_bits() -> None:
    def key(value: Any) -> bytes | None:
        return cache_key.program_key(Jaxpr([], [], [Literal(value)]), ())

    values = [0.0, -0.0, 1.0, 1, True, np.float32(1), np.float64(1), np.float16(1), np.int8(1)]
    assert len({key(v) for v in values}) == len(values)
    assert key(float("nan")) == key(float("nan"))


def test_another_processor_has_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache_key.program_key(program(), ())
    real = processor.processor()
    monkeypatch.setattr(cache_key, "processor", lambda: (*real[:-1], 12345))
    cache_key.base.cache_clear()
    assert cache_key.program_key(program(), ()) != before


@pytest.mark.parametrize(
    "change",
    [
        ("sources", lambda: b"edited"),
        ("llvm_files", lambda: [("libllvmlite.so", 1, 2, 3)]),
        ("np", type("numpy", (), {"__version__": "2.99"})),
    ],
)
def test_other_versions_have_other_keys(
    change: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache_key.base()
    monkeypatch.setattr(cache_key, *change)
    cache_key.base.cache_clear()
    assert cache_key.base() not in (before, None)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A little copy of functrans that may be edited, as if it had been imported much later."""
    monkeypatch.undo()
    monkeypatch.setenv("FUNCTRANS_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("functrans", "jit"):
        (tmp_path / name / "part").mkdir(parents=True)
        (tmp_path / name / "part" / "file.py").write_text("x = 1\n")
    monkeypatch.setattr(cache_key, "__file__", str(tmp_path / "jit" / "cache_key.py"))
    monkeypatch.setattr(cache_key, "IMPORTED", cache_key.IMPORTED + 1e6)
    return tmp_path


def test_edited_sources_have_other_keys(checkout: Path) -> None:
    file = checkout / "jit" / "part" / "file.py"
    first = cache_key.sources()
    assert first is not None
    assert cache_key.sources() == first
    times = file.stat()
    file.write_text("x = 2\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = cache_key.sources()
    assert second != first
    file.write_text("x = 1\n")
    assert cache_key.sources() == first
    (checkout / "functrans" / "new.py").write_text("")
    assert cache_key.sources() not in (first, second)


def test_sources_that_changed_since_the_import_have_no_key(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = (checkout / "jit" / "part" / "file.py").stat().st_ctime
    monkeypatch.setattr(cache_key, "IMPORTED", changed - 1.0)
    assert cache_key.sources() is None
    monkeypatch.setattr(cache_key, "IMPORTED", changed + cache_key.SETTLED + 1.0)
    assert cache_key.sources() is not None


@pytest.mark.skipif(processor.family() != "x86_64", reason="asks as x86-64 processors are asked")
def test_every_core_is_the_same_processor() -> None:
    answers: set[Any] = set()
    cores = os.sched_getaffinity(0)

    def ask() -> None:
        for core in cores:
            os.sched_setaffinity(0, {core})
            answers.add(processor.ask_processor())

    # The affinity of a thread of its own goes with it.
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert len(answers) == 1


# -- damaged and foreign files ----------------------------------------------------------------


def damaged(data: bytes) -> Iterator[bytes]:
    """Files that are not what was written."""
    yield b""
    yield data[:-1]
    yield data[: len(data) // 2]
    yield data[:10]
    yield data + b"\0"
    yield b"something else entirely"
    yield bytes(len(data))
    for place in range(0, len(data), max(len(data) // 40, 1)):
        yield data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]


def test_a_damaged_entry_is_removed_and_compiled_again(folder: Path) -> None:
    outcome(program())
    (file,) = entries(folder)
    data = file.read_bytes()
    for k, bad in enumerate(damaged(data)):
        file.write_bytes(bad)
        key = cache_key.program_key(program(), ())
        assert key is not None
        assert disk_cache.read(key) is None
        assert not file.exists()
        if k % 12 == 0:
            file.write_bytes(bad)
            made, counts = outcome(program())
            assert not isinstance(made, Restored)
            assert counts["compiled"] == 1
            assert isinstance(outcome(program())[0], Restored)


def test_an_entry_under_another_name_is_none(folder: Path) -> None:
    disk_cache.write(KEY, b"content")
    (file,) = entries(folder)
    other = bytes(20)
    path = Path(disk_cache.path_of(str(folder), other))
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, path)
    assert disk_cache.read(other) is None
    assert disk_cache.read(KEY) == b"content"


@pytest.mark.parametrize("content", [(), (1, 2), ((), (), (), 0, (), (), (), ()), "text", None])
def test_a_whole_entry_of_another_shape_is_compiled_again(folder: Path, content: Any) -> None:
    key = cache_key.program_key(program(), ())
    code_cache.keep(key, content)
    made, _ = outcome(program())
    assert not isinstance(made, Restored)
    assert isinstance(outcome(program())[0], Restored)


@pytest.mark.parametrize("content", [b"", b"(", b"not of marshal", code_cache.marshal.dumps(7, 2)])
def test_a_whole_entry_that_is_no_code_is_compiled_again(folder: Path, content: bytes) -> None:
    text = "define i32 @seven() nounwind {\n  ret i32 7\n}\n"
    for key in (
        cache_key.program_key(program(), ()),
        cache_key.key_of("module", ("text", text)),
    ):
        assert key is not None
        disk_cache.write(key, content)
    assert not isinstance(outcome(program())[0], Restored)
    address = link_object("seven", build_object(text), {}, ["seven"])["seven"]
    assert ctypes.CFUNCTYPE(ctypes.c_int)(address)() == 7


def test_an_entry_that_calls_what_is_not_here_is_compiled_again(folder: Path) -> None:
    made, _ = outcome(program())
    entry = list(programs.entry_of(made))
    code = list(entry[0])
    code[4] = (*code[4], (len(code[0]), "no_such_function_anywhere"))
    code[1], code[2] = code[1] + bytes(8), code[2] + 8
    entry[0] = tuple(code)
    code_cache.keep(cache_key.program_key(program(), ()), tuple(entry))
    assert not isinstance(outcome(program())[0], Restored)
    assert isinstance(outcome(program())[0], Restored)


def test_a_file_that_others_can_write_is_not_read(folder: Path) -> None:
    disk_cache.write(KEY, b"content")
    (file,) = entries(folder)
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    for mode in (0o620, 0o602):
        file.chmod(mode)
        assert disk_cache.read(KEY) is None
    file.chmod(0o600)
    assert disk_cache.read(KEY) == b"content"


def test_a_file_of_another_user_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk_cache.write(KEY, b"content")
    if os.geteuid() == 0:
        os.chown(entries(folder)[0], 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert disk_cache.read(KEY) is None


def test_a_link_or_a_folder_in_place_of_an_entry(folder: Path, tmp_path: Path) -> None:
    disk_cache.write(KEY, b"content")
    (file,) = entries(folder)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert disk_cache.read(KEY) is None
    file.unlink()
    file.mkdir()
    assert disk_cache.read(KEY) is None
    disk_cache.write(KEY, b"content")
    assert disk_cache.read(KEY) is None


# -- a system that refuses --------------------------------------------------------------------


@pytest.mark.parametrize("call", ["open", "write", "replace", "makedirs", "scandir"])
def test_whatever_the_system_refuses(
    folder: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise OSError(28, "No space left on device")

    cache_key.base()
    with monkeypatch.context() as patch:
        patch.setattr(disk_cache.os, call, refuse)
        made, _ = outcome(program())
        assert not isinstance(made, Restored)
    assert [p for p in entries(folder) if p.name.startswith(".")] == []
    assert isinstance(outcome(program())[0], Restored) == (call == "scandir")


def test_a_disk_that_fills_up_while_an_entry_is_written(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        disk_cache.write(KEY, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert entries(folder) == []
    assert disk_cache.read(KEY) is None


def test_an_interrupted_write_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(disk_cache.os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            disk_cache.write(KEY, b"content")
    assert entries(folder) == []


@pytest.mark.parametrize("place", ["/proc/functrans", "/dev/null/functrans"])
def test_a_folder_that_cannot_be(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNCTRANS_CACHE_DIR", place)
    assert not isinstance(outcome(program())[0], Restored)
    assert not isinstance(outcome(program())[0], Restored)


def test_a_folder_that_is_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries are read, none are written, and nothing fails."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        monkeypatch.setenv("FUNCTRANS_CACHE_DIR", place)
        root = os.geteuid() == 0
        if root:
            # Nothing is read-only for root.
            os.chown(place, 65534, 65534)
            os.seteuid(65534)
        try:
            disk_cache.write(KEY, b"content")
            (shard,) = folder.iterdir()
            for locked in (folder, shard):
                locked.chmod(0o500)
            assert disk_cache.read(KEY) == b"content"
            disk_cache.write(KEY, b"other")
            disk_cache.write(bytes(20), b"other")
            disk_cache.remove(KEY)
            assert disk_cache.read(KEY) == b"content"
            (file,) = entries(folder)
            file.chmod(0o600)
            file.write_bytes(b"damaged")
            assert disk_cache.read(KEY) is None
            for locked in (folder, shard):
                locked.chmod(0o700)
        finally:
            if root:
                os.seteuid(0)


def test_no_home_no_cache() -> None:
    assert disk_cache.default_folder("", "", "~") is None
    assert disk_cache.default_folder("relative", "", "/home/me") == "/home/me/.cache/functrans"
    assert disk_cache.default_folder("/var/cache", "", "/home/me") == "/var/cache/functrans"


def test_other_systems_keep_caches_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_cache.sys, "platform", "darwin")
    assert disk_cache.default_folder("", "", "/Users/me") == "/Users/me/Library/Caches/functrans"
    monkeypatch.setattr(disk_cache.sys, "platform", "win32")
    assert "functrans" in (disk_cache.default_folder("", "C:\\local", "") or "")
    assert disk_cache.default_folder("", "", "C:\\Users\\me") is None


@pytest.mark.parametrize("text", ["many", "-1", "nan", "inf"])
def test_a_size_that_is_no_number_is_an_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNCTRANS_CACHE_MB", text)
    with pytest.raises(ValueError, match="FUNCTRANS_CACHE_MB: expected a number of megabytes"):
        disk_cache.settings()


# -- size -------------------------------------------------------------------------------------


def test_the_least_recently_used_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNCTRANS_CACHE_MB", str(16 * 10_000 / (1 << 20)))
    keys = [bytes([0, k]) + bytes(18) for k in range(30)]
    for age, key in enumerate(keys):
        disk_cache.write(key, bytes(1000))
        path = disk_cache.path_of(str(folder), key)
        os.utime(path, (1e9 + age, 1e9 + age))
        # The first is used all the time: reading it makes it young.
        assert disk_cache.read(keys[0]) is not None
    kept = [key for key in keys if disk_cache.read(key) is not None]
    assert kept[0] == keys[0]
    assert kept[1:] == keys[-len(kept) + 1 :]
    assert 5 <= len(kept) < 10
    assert sum(p.stat().st_size for p in entries(folder)) <= 10_000


def test_an_entry_that_is_too_large_is_not_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNCTRANS_CACHE_MB", "1")
    disk_cache.write(KEY, bytes(40_000))
    assert entries(folder) == []
    monkeypatch.setenv("FUNCTRANS_CACHE_MB", "0")
    assert not disk_cache.is_on()


def test_leftovers_of_a_crash_go(folder: Path) -> None:
    disk_cache.write(KEY, b"content")
    shard = entries(folder)[0].parent
    for name, age in ((".1.2.3", 7200), (".4.5.6", 0)):
        (shard / name).write_bytes(b"half")
        now = disk_cache.time.time() - age
        os.utime(shard / name, (now, now))
    disk_cache.write(KEY[:1] + bytes(19), b"content")
    assert not (shard / ".1.2.3").exists()
    assert (shard / ".4.5.6").exists()


# -- many at once -----------------------------------------------------------------------------

SECOND = """
import json, sys
import numpy as np
import functrans as ft, functrans.numpy as fnp
from jit import cache_key
cache_key.sources = lambda: b"the same"
x = np.linspace(0.0, 1.0, 600).reshape(20, 30)
f = ft.jit(ft.grad(lambda x: fnp.sum(fnp.tanh(x @ x.T)) + fnp.sum(fnp.sort(x, axis=0)[3])))
out = f(x)
big = ft.jit(lambda x: fnp.exp(x) + 1.0)(np.ones(300_000))
from jit import code_cache
compilers = [m for m in ("jit.pipeline", "jit.emit", "jit.fusion", "jit.lowering")
             if m in sys.modules]
print(json.dumps([out.sum(), float(big.sum()), code_cache.COUNTS, compilers]))
"""


def process(folder: Path, code: str = SECOND) -> subprocess.Popen[str]:
    environment = dict(os.environ, FUNCTRANS_CACHE_DIR=str(folder), PYTHONPATH=str(ROOT))
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    )


def answer(running: subprocess.Popen[str]) -> list[Any]:
    out, _ = running.communicate(timeout=120)
    assert running.returncode == 0
    return json.loads(out)


def test_a_second_process_compiles_nothing(folder: Path) -> None:
    """Two processes write at once, a third finds all it needs, without the compiler."""
    first, other = [answer(p) for p in [process(folder) for _ in range(2)]]
    assert first[:2] == other[:2]
    # Whoever comes late finds what the other has compiled.
    assert first[2]["compiled"] + other[2]["compiled"] > 0
    third = answer(process(folder))
    assert third[:2] == first[:2]
    assert third[2]["compiled"] == 0
    assert third[2]["hits"] >= 2
    assert third[3] == []


def test_many_threads_and_children_of_fork(folder: Path) -> None:
    contents = [bytes([k]) * 2000 for k in range(4)]
    wrong: list[bytes] = []

    def work() -> None:
        for k in range(200):
            disk_cache.write(KEY, contents[k % 4])
            found = disk_cache.read(KEY)
            if found not in contents:
                wrong.append(found or b"nothing")

    children: list[int] = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            work()
            os._exit(len(wrong) > 0)
        children.append(child)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert wrong == []
    assert len(entries(folder)) == 1
