"""`.why()` names what differed between calls, the user's lines, and what needed Python."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import pytest

import functrans as ft
from jit.api import MOST_RECORDS
from jit.entry import base
from jit.entry.layout import layout
from jit.why import ProgramReason

HERE = "at test_why.py:"


served_natively = pytest.mark.skipif(
    layout() is None, reason="where nothing is native, all reports say so"
)


@pytest.fixture
def native() -> None:
    """The native entry is there: it is compiled in the background."""
    if layout() is None:
        pytest.skip("no native entry on this interpreter")
    ft.jit(lambda x: x + 1.0)(1.0)
    deadline = time.monotonic() + 60
    while not base.entry_ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def last(f: Any) -> ProgramReason:
    return f.why().programs[-1]


def differences(f: Any, first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[str, ...]:
    """What `why` says of a second call after a first one."""
    jitted = ft.jit(f)
    jitted(*first)
    jitted(*second)
    (before, after) = jitted.why().programs
    assert (before.like, after.like) == (None, 1)
    return after.differences


def test_what_a_second_program_was_made_for() -> None:
    def f(x: Any, n: Any = 1.0) -> Any:
        return ft.tree.map(lambda leaf: leaf * n, x)

    ones = np.ones(3)
    assert differences(f, (ones,), (np.ones(4),)) == ("x has shape (4,), not (3,)",)
    assert differences(f, (ones,), (np.ones(3, "f4"),)) == ("x has dtype float32, not float64",)
    assert differences(f, (ones,), (np.ones(2, "f4"),)) == ("x is f32[2], not f64[3]",)
    assert differences(f, (1.0,), (1,)) == ("x is a Python int, not a Python float",)
    assert differences(f, (1.0,), (np.float64(1.0),)) == (
        "x is a NumPy float64, not a Python float "
        "(the second is weak: it takes the dtype of what it meets)",
    )
    assert differences(f, (ones,), (ones, 2.0)) == ("n is given",)
    assert differences(f, (ones, 2.0), (ones,)) == ("n is not given",)
    assert differences(f, ({"w": ones},), ([ones],)) == ("x is [*], not {'w': *}",)
    assert differences(f, ({"w": ones},), ({"w": np.ones(5)},)) == (
        "x['w'] has shape (5,), not (3,)",
    )
    assert differences(f, ({"a": 1.0, "b": 1.0},), ({"b": 1.0, "a": 1.0},)) == (
        "x has the keys of a dict in another order",
    )


def test_static_values() -> None:
    class Options:
        pass

    f = ft.jit(lambda x, mode, o=None: x * len(str(mode)), static_argnames=("mode", "o"))
    f(1.0, "a")
    f(1.0, "b")
    assert last(f).differences == ("mode is 'b', not 'a'",)
    f(1.0, "b", Options())
    assert last(f).differences == ("o is given",)
    f(1.0, "b", Options())
    assert last(f).differences == ("o is another Options",)
    f(1.0, True)
    f(1.0, 1)
    assert last(f).differences == ("mode is 1, not True",)
    assert last(f).arguments == "x: a Python float, mode=1"


def test_the_earlier_program_that_is_most_like_it() -> None:
    f = ft.jit(lambda x, y: x + y)
    f(np.ones(3), np.ones(3))
    f(np.ones(4, "f4"), 1)
    f(np.ones(3), np.ones((5, 3)))
    assert last(f).like == 1
    f(np.ones(4, "f4"), 1.0)
    assert last(f).like == 2
    text = str(f.why())
    assert "4. x: f32[4], y: a Python float\n" in text
    assert "unlike 2: y is a Python float, not a Python int\n" in text


def test_the_line_of_the_call() -> None:
    f = ft.jit(lambda x: x * 2.0)

    def caller() -> None:
        f(1.0)

    caller()
    line = caller.__code__.co_firstlineno + 1
    assert f"traced for the call in caller {HERE}{line}" in str(f.why())


def test_calls_inside_other_transforms() -> None:
    f = ft.jit(lambda x: x * 2.0)
    f(np.ones(()))
    ft.vmap(f, axis_name="i")(np.ones(3))
    assert last(f).differences == (
        "x is a traced f64[], not f64[]",
        "it is called inside another transform",
    )
    ft.vmap(f, axis_name="j")(np.ones(3))
    assert last(f).differences == ("the named axes in force are other ones ('j' of size 3)",)


@served_natively
def test_what_cannot_be_kept() -> None:
    made: list[Any] = []

    def outer(y: Any) -> Any:
        made.append(ft.jit(lambda x: x * y))
        return made[-1](2.0) + made[-1](2.0)

    assert ft.grad(outer)(3.0) == 4.0
    (note,) = made[0].why().notes
    assert note.startswith("traced anew at each of the last 2 calls inside other transforms")
    assert HERE in note


def test_counts(native: None) -> None:
    f = ft.jit(lambda x: x * 2.0)
    for _ in range(5):
        f(np.ones(3))
    assert f.cache_info() == (1, 1, 0, 4)
    assert (last(f).native_calls, last(f).python_calls) == (4, 0)
    f(np.ones(6)[::2])
    assert f.cache_info() == (1, 1, 1, 4)
    assert "4 native, 1 through Python" in str(f.why())


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (np.ones((3, 2)).T, "x is in Fortran order"),
        (np.ones((2, 6))[:, ::2], "x is strided"),
        (np.ones((2, 3)).astype(">f8"), "x is byte-swapped"),
        (np.ones((2, 3)).view(np.recarray), "x is of the class recarray, not an ndarray itself"),
        (np.zeros(49, "u1")[1:].view("f8").reshape(2, 3), "x is not aligned"),
    ],
)
def test_why_a_call_went_through_python(native: None, argument: Any, words: str) -> None:
    f = ft.jit(lambda x: x * 2.0)
    f(np.ones((2, 3)))
    f(argument)
    detour = last(f).notes[-1]
    assert detour.startswith("last call through Python in test_why_a_call_went_through_python")
    assert detour.endswith(words)


def test_signatures_that_have_no_record(native: None) -> None:
    class Key:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Key)

        def __hash__(self) -> int:
            return 1

    f = ft.jit(lambda x, key: x * 2.0, static_argnums=1)
    f(1.0, Key())
    f(1.0, Key())
    assert last(f).notes == ("served through Python: a static argument whose equality is its own",)
    g = ft.jit(lambda x: x * 2.0)
    for n in range(MOST_RECORDS + 1):
        g(np.zeros(n))
    (note,) = g.why().notes
    assert note == "further signatures are served through Python: there are too many of them"


def test_switches_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    f = ft.jit(lambda x: x * 2.0)
    monkeypatch.setenv("FUNCTRANS_DISPATCH", "python")
    monkeypatch.setenv("FUNCTRANS_ENGINE", "numpy")
    f(1.0)
    assert f.why().notes == (
        "programs are evaluated with NumPy: FUNCTRANS_ENGINE is 'numpy'",
        "all calls go through Python: FUNCTRANS_DISPATCH is 'python'",
    )


def test_an_entry_that_could_not_be_made_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    if layout() is None:
        pytest.skip("no native entry on this interpreter")
    for name in ("_ready", "_asked", "_failed"):
        monkeypatch.setattr(base, name, [])

    def fails() -> int:
        raise MemoryError("no room for code")

    monkeypatch.setattr(base, "enter_address", fails)
    f = ft.jit(lambda x: x * 2.0)
    assert f(2.0) == 4.0
    deadline = time.monotonic() + 60
    while base.entry_problem() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert f(2.0) == 4.0
    assert f.why().notes == (
        "all calls go through Python: the native entry could not be made "
        "(MemoryError: no room for code)",
    )


def donated(*arguments: Any) -> tuple[str, ...]:
    """What `why` says of the donations of one call of x + z."""
    f: Any = partial(ft.jit, donate_argnums=(0, 1))(lambda x, y, z: (x + z, np.sum(y)))
    f(*arguments)
    return tuple(note.partition(" (in ")[0] for note in last(f).notes if "donated" in note)


def test_refused_donations() -> None:
    y, z = np.ones(3), np.ones(8)
    vain = "y was donated in vain: no result is left that has its type"
    copied = "x was donated, but copied: "
    assert donated(np.ones(8), y, z) == (vain,)
    assert donated(np.ones(16)[:8], y, z) == (vain, f"{copied}it does not own its data")
    assert donated(np.ones(16)[::2], y, z) == (vain, f"{copied}it is strided")
    assert donated(z, y, z) == (vain, f"{copied}it is given twice (also as z)")
    whole = np.ones(8)
    assert donated(whole, y, whole[:]) == (vain, f"{copied}it overlaps z")
    assert donated(np.ones(8), 1.0, z) == (vain,)
    reversed_is_copied_first = np.ones(8)
    assert donated(reversed_is_copied_first, y, reversed_is_copied_first[::-1]) == (vain,)
    fixed = np.ones(8)
    fixed.flags.writeable = False
    assert donated(fixed, y, z) == (vain, f"{copied}it is read-only")
    assert whole[0] == z[0] == fixed[0] == 1.0


def test_a_refusal_belongs_to_its_own_signature() -> None:
    f = ft.jit(lambda x, mode: x + 1.0, donate_argnums=0, static_argnums=1)
    f(np.ones(8), "a")
    f(np.ones(16)[:8], "b")
    first, second = f.why().programs
    assert first.notes == ()
    assert "does not own its data" in second.notes[0]


@served_natively
def test_clearing_forgets() -> None:
    f = ft.jit(lambda x: x * 2.0)
    f(1.0)
    f.clear_cache()
    assert f.why().programs == ()
    assert str(f.why()) == f"<lambda> {HERE}{f.__wrapped__.__code__.co_firstlineno}: 0 programs"
