"""Native steps: the same results as the Python ones, for every kind of operand, and no leak."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans.errors import EngineWarning, LeakedTracerError
from functrans.memo import fast, trie
from functrans.tracing import Tracer
from jit.entry import asks as asks_file
from jit.entry import steps
from jit.entry.asks_text import asks_module
from jit.entry.declarations import NUMPY, PYTHON
from jit.entry.layout import layout
from jit.entry.steps_text import steps_module
from jit.entry.text import enter_module

pytestmark = pytest.mark.skipif(layout() is None, reason="the layout of objects is not proved")

X = np.array([0.5, 1.5, -0.25])
W = np.array([2.0, -1.0, 0.5])
SCALE = np.float64(1.5)


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    """Native steps, an empty memo, and programs that are evaluated."""
    trie.clear()
    before = ft.config.unjitted
    ft.config.unjitted = "interpreted"
    steps.install()
    yield
    steps.install()
    ft.config.unjitted = before


def arithmetic(x: Any) -> Any:
    y = x * x + x - 2.0 * x / (x + 3.5)
    y = -y + abs(y) ** 2 - (1 - y) // 7 + y % 2.5
    return (y * 3 - (+y) * True + 0.5).sum()


def ufuncs(x: Any) -> Any:
    y = np.sin(x) + np.multiply(x, x) + np.add(x, 1.0) + np.subtract(1.0, x)
    return np.sum(np.exp(-y) + np.add(x, y, dtype=np.float64) + np.maximum(y, W))


def choices(x: Any) -> Any:
    return np.sum(np.where(x > 0, x, 2 * x) * (x <= 1.0) + np.where(x != W, 1.0, x))


def pieces(x: Any) -> Any:
    y = x * 2.0
    return x[0] * y[1] + np.sum(x[1:] * y[:-1]) + np.sum(x[::-1] * y[..., None][:, 0]) + x[-1]


def outside(x: Any) -> Any:
    return np.sum(x * W + SCALE * x + x * np.float32(2) + (x @ W) + np.array([1, 2, 3]) * x)


def nested(x: Any) -> Any:
    inner = ft.grad(lambda y: np.sum(np.sin(y) * x * y))
    return np.sum(inner(x * 2.0) * x)


def writes(x: Any) -> Any:
    y = x * 1.0
    y[0] = y[1] * x[2]
    z = y[1:]
    z += x[:2] * 3
    return np.sum(y * y)


def pairs(x: Any) -> Any:
    whole, rest = divmod(x, 0.4)
    return np.sum(whole * rest + rest) + np.sum(2 @ np.ones((1,)) * x) if x.ndim == 0 else x.sum()


FUNCTIONS: list[Callable[[Any], Any]] = [
    arithmetic, ufuncs, choices, pieces, outside, nested, writes, pairs,
]  # fmt: skip


def asks(x: Any) -> Any:
    n = 0
    while x.sum() < 40:
        x = x * 1.25 + 0.5 if n % 3 else x + W * W
        n += 1
    return np.sum(x * n)


def asks_of_earlier(x: Any) -> Any:
    """Operands of earlier segments: the first, the second, both, twice the same, copies of it."""
    start, total, copy = x * 1.0, 0.0, (+x).copy()
    for n in range(4):
        y = np.sin(start) + start * copy - 2.0 * start
        if (y.sum() + n) > 0:
            y = y + np.multiply(start, start) + np.maximum(copy, y) + fnp.sin(copy)
        else:
            y = y - start * start + np.multiply(y, copy) + fnp.where(y > 0, start, copy)
        total = total + y[0] * start[1] + (-copy)[2] * start[n % 3] + start[1:].sum()
        if total.item() > 1e6:
            break
        start = start + y * (start - copy)
    return total


def asks_of_numbers(x: Any) -> Any:
    x, n, total = x.sum(), fnp.array(0), 0.0
    while n < 5:
        n, total = n + 1, total + np.sin(x) * n + x**2
        if total > 3.0 and n < 2:
            total = total - n
    return total * n


def twice(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return ft.grad(lambda x: ft.grad(f)(x).sum())


@pytest.mark.parametrize("f", [*FUNCTIONS, asks, asks_of_earlier, asks_of_numbers])
def test_as_in_python(f: Callable[[Any], Any]) -> None:
    """Results when the trace is new, known, and known in part; to the last bit."""
    for transform in (ft.grad, ft.value_and_grad, twice):
        found = [transform(f)(x) for x in (X, X, X * 1.5, X)]
        steps.remove()
        expected = [transform(f)(x) for x in (X, X, X * 1.5, X)]
        ft.config.memo = False
        alone = [transform(f)(x) for x in (X, X, X * 1.5, X)]
        ft.config.memo = True
        steps.install()
        for a, b, c in zip(*map(ft.tree.leaves, (found, expected, alone)), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(a, c, rtol=1e-12, atol=1e-14)


def python_steps(call: Callable[[], Any]) -> list[str]:
    """The fast paths in Python that a call goes through."""
    seen: list[str] = []

    def profile(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename == fast.__file__:
            seen.append(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return seen


def test_known_operations_do_not_pass_through_python() -> None:
    def f(x: Any) -> Any:
        y = x * x + 2.0 * x - 3 * x / 4.0 + x**2
        y = np.sin(y) + np.multiply(y, y) + x[1:][0] + y[0]
        return -y[2] if True else y

    for _ in range(3):
        ft.grad(f)(X)
    assert python_steps(lambda: ft.grad(f)(X)) == []
    steps.remove()
    assert len(python_steps(lambda: ft.grad(f)(X))) >= 15


def test_known_values_of_earlier_segments_do_not_pass_through_python() -> None:
    def f(x: Any) -> Any:
        y, start = x, x * 0.5
        while y > 0.1:
            y = y * 0.7 - 1e-6 * np.sin(x) * y + np.multiply(start, x) * 1e-9
        return y * x

    def counts() -> list[int]:
        return [len(python_steps(lambda x=x: ft.grad(f)(x))) for x in (2.5, 2e3)]

    for _ in range(3):
        counts()
    few, many = counts()
    assert few == many < 20  # where the loop begins and ends
    steps.remove()
    few, many = counts()
    assert many > few + 100


def test_a_value_of_an_earlier_segment_is_one_input_or_two() -> None:
    """Where two were expected and the same comes twice, and the reverse."""

    def f(x: Any, same: bool) -> Any:
        a, b = x * 2.0, x * 3.0
        if a > 0:
            a = a + 1.0
        if b > 0:
            b = b + 1.0
        return a * (a if same else b)

    for same in (False, True, True, False, False, True):
        value = ft.value_and_grad(f)(1.5, same)
        assert value == ((16.0, 16.0) if same else (22.0, 23.0))


def test_methods_of_tracers_are_native_and_named() -> None:
    for name in ("__mul__", "__radd__", "__neg__", "__getitem__", "__array_ufunc__", "__lt__"):
        method = getattr(Tracer, name)
        assert type(method).__name__ == "method_descriptor"
        assert method.__name__ == name
    times = Tracer.__dict__["__mul__"]
    assert "__mul__" in times.__doc__
    with pytest.raises(TypeError, match="doesn't apply to a 'float'"):
        times(1.0, 2.0)


def test_errors_are_those_of_python() -> None:
    leaked: list[Any] = []

    def leaks(x: Any) -> Any:
        leaked.append(x)
        return x.sum()

    for _ in range(3):
        ft.grad(leaks)(X)
        for use in (lambda x: x * 2.0, lambda x: -x, np.sin, lambda x: x[0]):
            with pytest.raises(LeakedTracerError):
                use(leaked[-1])

    def mixes(x: Any, with_what: Any) -> Any:
        return np.sum(x * 2.0 + with_what)

    for _ in range(2):
        ft.grad(mixes)(X, 1.0)
    for wrong, error in (("text", ft.FunctransError), (None, ft.FunctransError), ({}, TypeError)):
        with pytest.raises(error):
            ft.grad(mixes)(X, wrong)
    assert ft.grad(mixes)(X, 1.0).tolist() == [2.0] * 3


def test_ints_beyond_the_machine_are_not_taken_for_others() -> None:
    def f(x: Any, n: int) -> Any:
        return np.sum(x * n)

    for n in (3, 2**40, -(2**63), 3, 2**63 - 1):
        np.testing.assert_array_equal(ft.grad(f)(X, n), np.full(3, float(n)))
    for n in (2**63, -(2**70), 2**64 + 3):
        with pytest.raises(OverflowError):
            ft.grad(f)(X, n)
    assert ft.grad(f)(X, 3).tolist() == [3.0] * 3


def test_numbers_of_other_types_are_told_apart() -> None:
    def f(x: Any, n: Any) -> Any:
        return np.sum(x * n)

    values = [2.0, 2, np.float32(2), True, np.int8(2), 2j, np.float64(2), 2.0, np.array(2.0)]
    x = X.astype(np.float32)
    for value in values * 2:
        native = ft.value_and_grad(f)(x, value) if value != 2j else ft.jvp(f, (x, 2j), (x, 0j))
        steps.remove()
        python = ft.value_and_grad(f)(x, value) if value != 2j else ft.jvp(f, (x, 2j), (x, 0j))
        steps.install()
        for a, b in zip(ft.tree.leaves(native), ft.tree.leaves(python), strict=True):
            assert (np.asarray(a).dtype, np.shape(a)) == (np.asarray(b).dtype, np.shape(b))
            np.testing.assert_array_equal(a, b)


def tracers() -> int:
    """How many there are; tests of errors leave some."""
    return sum(type(o) is Tracer for o in gc.get_objects())


def test_nothing_is_kept() -> None:
    """References to operands, steps and tracers are as many after many calls as before."""
    scale, index = 1.25e-3, slice(1, None)

    def f(x: Any) -> Any:
        return np.sum(np.sin(x * scale)[index] + x[index] * W[1:] - scale)

    def counts() -> list[int]:
        gc.collect()
        return [sys.getrefcount(o) for o in (scale, index, W, Tracer, fast.NOTHING, None)]

    ft.grad(f)(X)
    ft.grad(f)(X)
    before, objects, alive = counts(), len(gc.get_objects()), tracers()
    for _ in range(500):
        ft.grad(f)(X)
    after = counts()
    assert all(abs(a - b) <= 5 for a, b in zip(after[:-1], before[:-1], strict=True))
    assert abs(after[-1] - before[-1]) <= 50
    assert len(gc.get_objects()) - objects < 50
    assert tracers() <= alive


def test_python_serves_where_it_is_asked_for() -> None:
    program = (
        "import functrans as ft, numpy as np\n"
        "from functrans.tracing import Tracer\n"
        "ft.config.unjitted = 'compiled'\n"
        "print(ft.grad(lambda x: np.sin(x) * x)(0.5), type(Tracer.__mul__).__name__)\n"
    )
    env = {"FUNCTRANS_DISPATCH": "python", "FUNCTRANS_CACHE": "off", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True
    )
    assert done.stdout.split()[1] == "function"
    assert float(done.stdout.split()[0]) == pytest.approx(np.sin(0.5) + 0.5 * np.cos(0.5))


def test_what_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations stay in Python then, and give the same."""

    def broken() -> dict[str, Any]:
        raise OSError("no room")

    steps.remove()
    monkeypatch.setattr(steps, "native_steps", broken)
    with pytest.warns(EngineWarning, match=r"cannot be native \(OSError: no room\)"):
        steps._install_or_tell()
    assert ft.grad(lambda x: np.sum(np.sin(x) * x))(X).shape == (3,)
    monkeypatch.undo()


def test_what_is_declared_is_called() -> None:
    """Modules declare what they mention, of what one table offers, and the table offers no more."""
    fields, ask_fields = steps.fields_of_steps(), asks_file.fields_of_asks()
    assert fields is not None
    assert ask_fields is not None
    modules = (
        enter_module("any"),
        steps_module("any", 1, fields),
        asks_module("any", ask_fields),
    )
    called = {name for text in modules for name in re.findall(r"call [\w ]+ @(Py\w+)\(", text)}
    declared = {name for text in modules for name in re.findall(r"^declare .*@(\w+)\(", text, re.M)}
    assert called <= declared
    assert declared == {*PYTHON, *NUMPY}
