"""The memo of traces: what it recognises, what it must not, and each trap that it avoids."""

from __future__ import annotations

import gc
import math
import operator
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import recording, tiers
from functrans.api.tape import Program
from functrans.memo import trie
from functrans.recording import Trace
from functrans.surface import promotion
from functrans.transforms import jvp as jvp_file

X = np.array([0.3, 0.7, 1.1])


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    """An empty memo, and the switches as they were afterwards."""
    trie.clear()
    before = ft.config.memo, ft.config.memo_steps, ft.config.unjitted
    yield
    tiers.wait()
    ft.config.memo, ft.config.memo_steps, ft.config.unjitted = before


class Counts:
    """How often the parts of staging and of differentiating ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: dict[str, int] = {}
        self._count(monkeypatch, Trace, "_record", "abstract evaluation")
        self._count(monkeypatch, promotion, "loop_dtypes", "promotion")
        self._count(monkeypatch, jvp_file, "eval_jvp", "differentiation")
        self._count(monkeypatch, recording, "stage_walk", "rewriting")

    def _count(self, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, what: str) -> None:
        original = getattr(place, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            self.found[what] = self.found.get(what, 0) + 1
            return original(*args, **kwargs)

        monkeypatch.setattr(place, name, counting)

    def of(self, call: Callable[[], Any]) -> dict[str, int]:
        tiers.wait()  # what is compiled in the background is not of this call
        self.found.clear()
        call()
        return dict(self.found)


# -- the second call does nothing again --------------------------------------------------------

W, B = np.linspace(-1, 1, 9).reshape(3, 3), np.ones(3)
doubled = ft.custom_jvp(lambda x: x * 2)
doubled.defjvp(lambda primals, tangents: (doubled(primals[0]), 2 * tangents[0]))
tripled = ft.custom_vjp(lambda x: x * 3)
tripled.defvjp(lambda x: (tripled(x), x), lambda x, bar: (3 * bar,))
compiled = ft.jit(lambda y: np.sin(y) * y)


def frozen(x: Any) -> Any:
    with ft.no_grad():
        scale = x * x
    return (scale * x).sum()


def loop(x: Any) -> Any:
    while x[0] > 0.01:
        x = x * 0.5 - np.sin(x) * 0.001
    return (x * x).sum()


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "operators": lambda x: (x * 2.0 + 1 - x / 3 + 2**x - x**2).sum(),
    "ufuncs": lambda x: np.sum(np.maximum(np.sin(x), 0.5) * fnp.exp(-x)),
    "layer": lambda x: np.tanh(W @ x + B).sum() + np.dot(x, W).sum() + (B * x).sum(),
    "choice": lambda x: np.where(x > 0.5, x, 0.0).sum() + np.clip(x, 0.4, 2.0).sum(),
    "slices": lambda x: (x[1:] * x[:-1]).sum() + x[0] * x[-1],
    "fancy": lambda x: x[np.array([0, 2])].sum() + x[np.array([True, False, True])].sum(),
    "shapes": lambda x: np.mean(x.reshape(3, 1), axis=0, keepdims=True)[0, 0] + x.T.sum(),
    "joined": lambda x: np.stack([x, B]).sum() + np.concatenate([x, x * 2]).sum(),
    "several results": lambda x: sum(p.sum() for p in np.split(x, 3)),
    "contraction": lambda x: np.einsum("ij,j->i", W, x).sum(),
    "no_grad": frozen,
    "custom_jvp": lambda x: doubled(x).sum(),
    "custom_vjp": lambda x: tripled(x).sum(),
    "checkpoint": lambda x: ft.checkpoint(lambda y: np.sin(y) * y)(x).sum(),
    "jit": lambda x: compiled(x).sum(),
    "nested": lambda x: ft.grad(lambda y: (y * x * y).sum())(x).sum(),
    "nested vmap": lambda x: ft.vmap(lambda a: a * x[0])(x).sum(),
    "scan": lambda x: ft.lax.scan(lambda c, y: (c * y, c), x[0], x)[0],
    "fori": lambda x: ft.lax.fori_loop(0, 3, lambda i, c: c * x, x).sum(),
    "constant": lambda x: 3.0,
    "argument": lambda x: x[0],
}
TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "grad": lambda f: ft.grad(f)(X),
    "value_and_grad": lambda f: ft.value_and_grad(f)(X),
    "hessian": lambda f: ft.hessian(f)(X),
    "jvp": lambda f: ft.jvp(f, (X,), (B,)),
    "vjp": lambda f: ft.vjp(f, X)[1](1.0),
    "linearize": lambda f: ft.linearize(f, X)[1](B),
    "jacfwd": lambda f: ft.jacfwd(f)(X),
    "jacrev": lambda f: ft.jacrev(f)(X),
    "vmap": lambda f: ft.vmap(f)(np.stack([X, X + 1])),
    "vmap of grad": lambda f: ft.vmap(ft.grad(f))(np.stack([X, X + 1])),
    "hvp": lambda f: ft.hvp(f, (X,), (B,)),
    "value_and_grad with aux": lambda f: ft.value_and_grad(lambda x: (f(x), x * 2), has_aux=True)(
        X
    ),
    "grad by a dict": lambda f: ft.grad(lambda d: f(d["x"]) * d["s"])({"x": X, "s": 0.5}),
    "grad of grad": lambda f: ft.grad(lambda x: np.sum(ft.grad(f)(x) * x))(X),
    "jvp of grad": lambda f: ft.jvp(ft.grad(f), (X,), (B,)),
    "grad of jvp": lambda f: ft.grad(lambda x: ft.jvp(f, (x,), (B,))[1])(X),
    "jacfwd of jacrev": lambda f: ft.jacfwd(ft.jacrev(f))(X),
    "jacrev of jacfwd": lambda f: ft.jacrev(ft.jacfwd(f))(X),
    "vmap of hessian": lambda f: ft.vmap(ft.hessian(f))(np.stack([X, X + 1])),
    "vmap of vmap": lambda f: ft.vmap(ft.vmap(f))(np.stack([X, X + 1])[None]),
    "vmap of jvp": lambda f: ft.vmap(lambda x: ft.jvp(f, (x,), (B,)))(np.stack([X, X + 1])),
    "grad of vmap": lambda f: ft.grad(lambda x: ft.vmap(f)(x).sum())(np.stack([X, X + 1])),
    "vjp of grad": lambda f: ft.vjp(ft.grad(f), X)[1](B),
    "linearize of grad": lambda f: ft.linearize(ft.grad(f), X)[1](B),
    "third": lambda f: ft.grad(lambda x: ft.hvp(f, (x,), (B,))[0].sum())(X),
}


PAIRS = [
    *[(name, t) for name in FUNCTIONS for t in ("grad", "vmap of grad") if name != "constant"],
    *[(name, t) for name in ("layer", "nested", "slices") for t in TRANSFORMS],
    *[("constant", "grad"), ("custom_jvp", "jvp"), ("custom_vjp", "vjp"), ("scan", "hessian")],
]


@pytest.mark.parametrize(("name", "transform"), dict.fromkeys(PAIRS))
def test_the_second_call_traces_and_derives_nothing(
    name: str, transform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = lambda: TRANSFORMS[transform](FUNCTIONS[name])
    counts = Counts(monkeypatch)
    results: list[Any] = []
    assert counts.of(lambda: results.append(call()))
    assert counts.of(lambda: results.append(call())) == {}
    ft.config.memo = False
    for result in results:
        agree(result, call())


def agree(result: Any, expected: Any) -> None:
    assert ft.tree.structure(result) == ft.tree.structure(expected)
    for a, b in zip(ft.tree.leaves(result), ft.tree.leaves(expected), strict=True):
        assert type(a) is type(b), (a, b)
        assert np.asarray(a).dtype == np.asarray(b).dtype
        if isinstance(b, str):
            assert a == b
        else:
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


# -- functions that ask ------------------------------------------------------------------------


def steps_then(x: Any) -> Any:
    steps = 0
    while x > 0.01:
        x = x * 0.9 - 0.001 * np.sin(x)
        steps += 1
    return x * x + steps


def pulled(x: Any) -> Any:
    value, pullback = ft.vjp(steps_then, x)
    return value, pullback(1.0), pullback(2.0)


@pytest.mark.parametrize("gradient", [ft.grad(steps_then), pulled], ids=["grad", "vjp"])
def test_a_loop_of_any_length_is_one_program(
    gradient: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = Counts(monkeypatch)
    for x in (1.0, 2.0):
        gradient(x)
    size = len([*trie.roots()[0].below()])
    for x in (0.5, 3.0, 30.0):
        assert counts.of(lambda x=x: gradient(x)) == {}
        found = gradient(x)
        ft.config.memo = False
        agree(found, gradient(x))
        ft.config.memo = True
    assert len([*trie.roots()[0].below()]) == size


@pytest.mark.parametrize("most", [10_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_the_time_of_a_loop_is_linear(most: int) -> None:
    """A step of a long loop costs what one of a short loop does, in time of this thread."""

    def f(x: Any, steps: int) -> Any:
        y = x
        while y < steps:
            y = y + 1.0
        return y * x

    def seconds_a_step(steps: int, calls: int) -> float:
        gradient = ft.grad(f)
        assert gradient(0.5, steps) == 2 * 0.5 + np.ceil(steps - 0.5)
        best = math.inf
        for _ in range(calls):
            begin = time.thread_time()
            gradient(0.5, steps)
            best = min(best, time.thread_time() - begin)
        return best / steps

    seconds_a_step(100, 2)
    tiers.wait()
    assert seconds_a_step(most, 2) < 3.0 * seconds_a_step(1000, 3)


def test_a_loop_of_500_to_1500_steps_adds_nothing() -> None:
    """After the fifth call, whatever the number of steps: no program, no leaf, no memory."""

    def f(x: Any) -> Any:
        y, n = x, 0
        while y > 1e-3:
            y = y * 0.993 - 1e-6 * np.sin(x) * y
            n += 1
        steps.append(n)
        return y * x

    steps: list[int] = []
    ft.config.unjitted = "compiled"
    gradient = ft.grad(f)
    starts = [0.05, 1.0, 10.0, 0.2, 3.0, 0.04, 20.0, 0.5, 7.0, 0.1]
    for x in starts[:5]:
        gradient(x)
    before = ft.memo_info()
    for x in starts[5:]:
        gradient(x)
    after = ft.memo_info()
    assert len(set(steps)) == len(starts)
    assert min(steps) >= 500
    assert max(steps) <= 1500
    assert after[1:] == before[1:]
    assert after.hits > before.hits + 5 * 500
    assert after.leaves <= 4
    assert after.compiled == after.leaves
    assert after.steps < 30


def test_a_loop_is_linear_in_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step moves the trace on by the same number of operations."""
    lengths: list[int] = []
    original = Program.pulled

    def counting(self: Program, *given: Any) -> Any:
        lengths.append(len(self.forward.eqns) + self.span)
        return original(self, *given)

    monkeypatch.setattr(Program, "pulled", counting)
    for x in (1.0, 1e6):
        ft.grad(steps_then)(x)
        lengths.clear()
        ft.grad(steps_then)(x)
        assert len(set(lengths[1:-2])) == 1
    assert len(lengths) > 100


def test_values_of_earlier_segments() -> None:
    """What was made before an ask, arrays and views of them included, is used after it."""

    def f(x: Any) -> Any:
        buffer, total, kept = np.zeros_like(x), 0.0, []
        for i in range(3):
            buffer[i] = x[i] * 2
            view = buffer[1:]
            if view[0] > 0.5:
                buffer[2] += x[0] * view[1]
            view[0] *= 2
            kept.append(x * i)
            total = total + buffer.sum()
        return total + sum(k.sum() for k in kept) * x[0]

    check(ft.grad(f), X)
    check(ft.grad(f), X * 2)
    check(ft.value_and_grad(f), X)


def test_asks_in_no_grad_and_with_aux() -> None:
    def f(x: Any) -> Any:
        with ft.no_grad():
            scale = x * 2
            if scale[0] > 0.1:
                scale = scale + x
        if scale[1] > 0.2:
            return (scale * x).sum(), {"scale": scale, "label": "big"}
        return x.sum(), {"scale": x, "label": "small"}

    for x in (X, X * 0.1, X, -X):
        check(ft.grad(f, has_aux=True), x)
        check(ft.value_and_grad(f, has_aux=True), x)


def test_asks_inside_nested_transforms() -> None:
    def inner(y: Any, x: Any) -> Any:
        return y * y * x if y > x * 0.5 else y * x * 3

    for a in (0.5, 0.8, 0.5):
        check(ft.grad(lambda x: ft.grad(inner)(x * 0.6, x) * x), a)
        check(ft.grad(ft.grad(steps_then)), a)
        check(ft.vjp, lambda x: steps_then(x), a, then=lambda pair: pair[1](1.0))
        check(ft.jvp, steps_then, (a,), (1.0,))


def fills(x: Any) -> Any:
    out = np.zeros_like(x)
    out[0] = x[0]
    for i in range(1, len(x)):
        out[i] = np.sin(x[i]) + out[i - 1]
    out += x
    out[np.array([0, 2])] *= 3.0
    return np.sum(out * out)


def stencils(x: Any) -> Any:
    u = x * 1.0
    for _ in range(3):
        u[1:-1] += 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])
        left = u[:2]
        left -= 0.5
    return np.sum(u * x)


def keeps_some_views(x: Any) -> Any:
    u, kept = x * 2.0, []
    for i in range(3):
        row = u[i:]
        if i == x.size % 2:
            kept.append(row)
        u[i] *= x[i]
    u[:] = u.T * 0.5
    return sum(k.sum() for k in kept) + u.sum()


def writes_between_asks(x: Any) -> Any:
    u, n = x * 1.0, 0
    middle = u[1:2]
    while u[0] < 9.0:
        u[0] += x[0]
        middle *= 1.1
        u[n % 2 :] += 0.01
        n += 1
    return np.sum(u * u)


def writes_to_numbers(x: Any) -> Any:
    total = np.zeros_like(np.sum(x))
    for i in range(3):
        total += x[i]
        total[...] = total * 2
    return total


@pytest.mark.parametrize(
    "f", [fills, stencils, keeps_some_views, writes_between_asks, writes_to_numbers]
)
def test_writes_are_known_when_they_come_again(f: Callable[..., Any]) -> None:
    """Writes to arrays, and through views of them, are steps as any other operation."""
    x = np.array([0.5, 1.5, -0.5])
    check(ft.grad(f), x)
    before = ft.memo_info()
    ft.grad(f)(x)
    after = ft.memo_info()
    assert (after.misses, after.leaves, after.steps) == (before.misses, before.leaves, before.steps)
    assert after.hits > before.hits
    for y in (x * 1.1, np.array([1.0, -1.0, 2.0, 0.1]), x):
        check(ft.grad(f), y)
    np.testing.assert_allclose(ft.grad(f)(x), by_differences(f, x), rtol=1e-7, atol=1e-8)


def by_differences(f: Callable[..., Any], x: Any, h: float = 1e-6) -> Any:
    """Central differences of plain NumPy, to seven digits."""
    steps = np.eye(x.size) * h
    return np.array([(f(x + e) - f(x - e)) / (2 * h) for e in steps])


def test_a_write_after_a_known_beginning() -> None:
    """What is written to, and views of it, are what they were when a trace leaves the memo."""

    def f(x: Any, branch: bool) -> Any:
        u = x * 2.0
        v = u[1:]
        u[0] = x[1]
        v *= x[2]
        w = v[:1]
        if branch:
            w += u[0]
            return np.sum(np.cos(u)) + v.sum()
        u[:] = np.sin(u)
        return np.sum(w) + np.sum(u)

    for branch in (True, False, True, False, False):
        check(ft.grad(f), X, branch)


def check(call: Callable[..., Any], *args: Any, then: Callable[[Any], Any] = lambda x: x) -> None:
    """The same three times with the memo as once without."""
    found = [then(call(*args)) for _ in range(3)]
    ft.config.memo = False
    expected = then(call(*args))
    ft.config.memo = True
    for result in found:
        agree(result, expected)


def test_what_the_memo_holds() -> None:
    assert ft.memo_info() == (0, 0, 0, 0, 0, 0)
    ft.config.unjitted = "compiled"
    for x in (1.0, 2.0, 3.0):
        ft.grad(lambda x: np.sin(x) * x * x)(x)
    info = ft.memo_info()
    assert (info.hits, info.misses, info.leaves, info.compiled) == (2, 1, 1, 1)
    assert info.steps == 4
    assert 0 < info.memory < 50_000
    ft.grad(steps_then)(1.0)
    later = ft.memo_info()
    assert later.hits > 30
    assert later.misses <= 6
    assert later.leaves <= 6


def test_switches() -> None:
    ft.config.memo = False
    ft.grad(FUNCTIONS["layer"])(X)
    assert ft.memo_info().steps == 0
    with pytest.raises(ft.FunctransError, match=r"config\.memo must be True or False"):
        ft.config.memo = 1  # type: ignore[assignment]
    with pytest.raises(ft.FunctransError, match=r"config\.memo_steps must be a positive int"):
        ft.config.memo_steps = 0
    assert "memo=False" in repr(ft.config)
    ft.config.memo, ft.config.background = True, False
    try:
        function = lambda x: np.sum(np.exp(np.sin(x) * np.cos(x) * 0.25) ** 2 / x)
        for _ in range(5000):
            ft.grad(function)(X)
            if ft.memo_info().compiled:
                break
        assert ft.memo_info().compiled == 1
        assert not tiers._working
    finally:
        ft.config.background = True


# -- the traps -----------------------------------------------------------------------------------


def grads(f: Callable[[Any], Any], *xs: Any) -> list[Any]:
    """The gradients for several arguments; f may look at what is left of the list it is in."""
    return [ft.grad(f)(x) for x in xs]


def test_true_one_and_one_point_zero_differ() -> None:
    """Trap 1: static arguments are told by type and value."""
    index: list[Any] = [1]
    assert ft.grad(lambda x: x[index[0]].sum())(X).tolist() == [0, 1, 0]
    index[0] = np.bool_(True)
    exponent: list[Any] = [2]
    power = ft.value_and_grad(lambda x: (x ** exponent[0]).sum())
    power(X)
    exponent[0] = 2.0
    agree(power(X)[1], 2 * X)
    exponent[0] = True
    agree(power(X)[1], np.ones(3))
    kept: list[Any] = [1]
    total = ft.grad(lambda x: np.sum(x, keepdims=kept[0]).sum())
    total(X)
    kept[0] = True
    agree(total(X), np.ones(3))


def test_a_list_that_changes() -> None:
    """Trap 2: lists are read each time, not recognised by identity."""
    axes, indices = [0], [0, 1]
    f = ft.grad(lambda x: (x[indices] * np.expand_dims(x, axes).sum()).sum())
    first = f(X)
    indices[:] = [2, 2]
    axes[:] = [1]
    assert not np.allclose(f(X), first)
    agree(f(X), np.full(3, 2 * X[2]) + np.array([0, 0, 2 * X.sum()]))


def test_nan_and_signed_zero_are_inputs() -> None:
    """Trap 3."""
    number = [0.0]
    f = ft.value_and_grad(lambda x: np.copysign(x, number[0]) * 1.0 / (number[0] + 1.0))
    assert [f(2.0)[0] for number[0] in (0.0, -0.0, 0.0)] == [2.0, -2.0, 2.0]
    number[0] = math.nan
    for _ in range(2):
        assert math.isnan(f(2.0)[0])
    size = trie._size[0]
    f(2.0)
    assert trie._size[0] == size


def test_counters_are_inputs() -> None:
    """Trap 4: a number that changes at each call makes no program."""
    step = [0]

    def f(x: Any) -> Any:
        return (x * step[0] / (step[0] + 1.0)).sum() + np.maximum(x, step[0]).sum()

    gradient = ft.grad(f)
    sizes = []
    for step[0] in range(1, 6):
        agree(gradient(X), np.full(3, step[0] / (step[0] + 1.0)) + (step[0] < X))
        sizes.append(trie._size[0])
    assert len(set(sizes)) == 1


def test_numpy_scalars_are_strong() -> None:
    """Trap 5: np.float64 is a subclass of float, but not weak."""
    factor: list[Any] = [2.0]
    f = ft.value_and_grad(lambda x: (x * factor[0]).sum())
    x = X.astype(np.float32)
    for factor[0], dtype in ((2.0, "f4"), (np.float64(2.0), "f8"), (2.0, "f4"), (np.int8(2), "f4")):
        value, gradient = f(x)
        assert value.dtype == np.dtype(dtype)
        assert gradient.dtype == np.float32


def test_python_ints_are_checked_at_every_run() -> None:
    """Trap 6: an int that a dtype cannot hold raises, after others that it can hold too."""
    number: list[Any] = [3]
    counts = np.array([1, 200, 3], np.uint8)
    mapped = ft.vmap(lambda c, x: (c * number[0]) * x)
    mapped(counts, X)
    number[0] = 300
    with pytest.raises(OverflowError, match="300 out of bounds for uint8"):
        mapped(counts, X)
    compared = ft.vmap(lambda c: c < number[0])
    assert compared(counts).tolist() == [True, True, True]
    number[0] = 100
    assert compared(counts).tolist() == [True, False, True]
    number[0] = 2**70
    with pytest.raises(OverflowError, match="too large to convert to int64"):
        ft.grad(lambda x: x * number[0])(1.0)
    pushed = ft.jvp(lambda n, x: counts * n * x, (3, 1.0), (0, 1.0))
    agree(pushed[1], (counts * 3) * 1.0)
    with pytest.raises(OverflowError, match="out of bounds for uint8"):
        ft.jvp(lambda n, x: counts * n * x, (300, 1.0), (0, 1.0))


def test_a_captured_array_that_changes() -> None:
    """Traps 7, 8 and 9: it counts as it is when it meets a tracer, each time that it does."""
    c = np.ones(3)

    def f(x: Any) -> Any:
        y = x * c
        c[0] += 10.0
        return (y + x * c + x * np.full(3, c[0])).sum()

    for _ in range(3):
        before = c.copy()
        after = before + [10.0, 0, 0]
        agree(ft.grad(f)(X), before + after + after[0])
    value, pullback = ft.vjp(lambda x: (x * c).sum(), X)
    kept = c.copy()
    c[:] = 0
    agree(pullback(1.0)[0], kept)
    assert value == (X * kept).sum()


def test_a_large_captured_array_is_held() -> None:
    """Trap 7: it is not copied; a write before the run ends raises, at every call."""
    c = np.ones(1 << 18)

    def f(x: Any, write: bool) -> Any:
        y = (x * c).sum()
        if write:
            c[0] = 5.0
        return y

    for write in (False, True, False, True):
        if write:
            with pytest.raises(ValueError, match="read-only"):
                ft.grad(f)(2.0, write)
        else:
            assert ft.grad(f)(2.0, write) == c.size
        assert c.flags.writeable


def test_errors_that_depend_on_values() -> None:
    """Trap 10: raised by the transform, naming the line, by later calls too."""
    index = [1]
    taken = ft.grad(lambda x: np.take(x, np.array(index)).sum())
    taken(X)
    index[0] = 7
    for _ in range(2):
        with pytest.raises(IndexError, match=r"7 is out of bounds"):
            taken(X)


def test_an_error_in_the_function() -> None:
    """Trap 11: what raised is not remembered, and the next call works."""
    other = [np.ones(3)]

    def f(x: Any) -> Any:
        try:
            return (x * other[0]).sum()
        except ft.errors.ShapeError:
            return (x * 2.0).sum()

    for size in (3, 4, 3, 4, 3):
        other[0] = np.ones(size)
        agree(ft.grad(f)(X), np.full(3, 1.0 if size == 3 else 2.0))
    with pytest.raises(ZeroDivisionError):
        ft.grad(lambda x: x * (1 / 0))(1.0)
    assert not recording.current_interpreter().outermost
    agree(ft.grad(f)(X), np.ones(3))


def test_a_leaked_tracer_raises() -> None:
    """Trap 12: also from a later call, where it would fit."""
    kept: list[Any] = []

    def f(x: Any) -> Any:
        y = x * 2.0
        if kept:
            y = y + kept[0]
        kept.append(x)
        return (y * x).sum()

    ft.grad(f)(X)
    for _ in range(2):
        with pytest.raises(ft.errors.LeakedTracerError):
            ft.grad(f)(X)
        with pytest.raises(ft.errors.LeakedTracerError):
            operator.mul(kept[0], 2.0)
        with pytest.raises(ft.errors.LeakedTracerError):
            float(kept[0][0])


def test_recursion() -> None:
    """Trap 13: a function that transforms itself shares the memo with the trace around it."""

    def f(x: Any, depth: int) -> Any:
        y = x * x * 2.0
        return y if depth == 0 else y + x * ft.grad(f)(x, depth - 1)

    for depth in (0, 1, 2, 3, 2, 1):
        check(ft.grad(f), 0.7, depth)


def test_tracers_of_another_thread_are_refused() -> None:
    """Trap 14: threads have their own traces, and share what they learn."""
    errors: list[BaseException] = []

    def f(x: Any) -> Any:
        def work() -> None:
            try:
                np.asarray(x + 1.0)
            except ft.errors.ThreadError as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return (x * 2.0).sum()

    for _ in range(2):
        agree(ft.grad(f)(X), np.full(3, 2.0))
    assert len(errors) == 2


def test_threads_that_call_at_once() -> None:
    """Trap 14: the same and different functions in eight threads give what one gives."""
    functions = [FUNCTIONS[n] for n in ("operators", "layer", "slices", "nested")]
    expected = [ft.grad(f)(X) for f in functions]
    trie.clear()
    errors: list[BaseException] = []

    def work(k: int) -> None:
        try:
            for i in range(12):
                j = (i + k) % len(functions)
                agree(ft.grad(functions[j])(X), expected[j])
                agree(ft.grad(steps_then)(1.0 + k), slopes[k])
        except BaseException as error:
            errors.append(error)

    slopes = [ft.grad(steps_then)(1.0 + k) for k in range(8)]
    trie.clear()
    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_generator_suspended_in_no_grad() -> None:
    """Trap 15: a block that is not left before the function returns is an error, at every call."""

    def generator(x: Any) -> Iterator[Any]:
        with ft.no_grad():
            yield x * 2.0

    kept: list[Any] = []

    def f(x: Any) -> Any:
        kept.append(generator(x))
        return next(kept[-1]).sum()

    for _ in range(2):
        with pytest.raises(ft.errors.TransformTypeError, match="no_grad"):
            ft.grad(f)(X)


def test_no_grad_is_an_operation() -> None:
    """Trap 16: the same operations inside and outside of the block differ."""
    inside = [True]

    def f(x: Any) -> Any:
        if inside[0]:
            with ft.no_grad():
                y = x * 2.0
        else:
            y = x * 2.0
        return (y * x).sum()

    for inside[0] in (True, False, True, False):
        agree(ft.grad(f)(X), X * 2 if inside[0] else X * 4)


def test_mapped_and_unmapped_arguments_have_roots_of_their_own() -> None:
    """Trap 17: what is mapped cannot be asked, what is not can, in any order of calls."""

    def f(x: Any, y: Any) -> Any:
        return x * 2.0 if y > 0 else x * 3.0

    xs = np.stack([X, X])
    for _ in range(2):
        agree(ft.vmap(f, in_axes=(0, None))(xs, 1.0), xs * 2)
        with pytest.raises(ft.errors.ConcretizationError):
            ft.vmap(f)(xs, np.ones(2))


def test_writes_in_place() -> None:
    """Trap 18: arrays made inside may be written, and views see it."""

    def f(x: Any) -> Any:
        y = x * 1.0
        row = y[1:]
        y[0] = x[2]
        row *= 2.0
        y += row.sum()
        return (y * x).sum()

    check(ft.grad(f), X)
    check(ft.vmap(ft.grad(f)), np.stack([X, X * 2]))


def test_tracers_are_not_hashable() -> None:
    """Trap 19."""
    for _ in range(2):
        with pytest.raises(TypeError, match="unhashable"):
            ft.grad(lambda x: {x: 1} and x)(1.0)


def test_a_value_asked_for_is_a_constant() -> None:
    """Trap 20: it carries no derivative; float(x) is refused where it would lose one."""

    def f(x: Any) -> Any:
        return x * (x * 2.0).item()

    for x in (1.0, 3.0, 1.0):
        agree(ft.grad(f)(x), 2 * x)
        with pytest.raises(ft.errors.ConcretizationError, match="silently lose"):
            ft.grad(lambda x: math.sin(x * 2.0) * x)(x)


def test_what_is_returned() -> None:
    """Trap 21: inputs are copied, constants have zero gradients, kinds of results tell ends."""
    results: list[Any] = [None]

    def f(x: Any) -> Any:
        return results[0](x)

    for result, gradient in (
        (lambda x: x, 1.0),
        (lambda x: 3.0, 0.0),
        (lambda x: np.float64(4.0), 0.0),
        (lambda x: x, 1.0),
    ):
        results[0] = result
        for _ in range(2):
            agree(ft.grad(f)(2.0), gradient)
    given = X.copy()
    for _ in range(3):
        value, _ = ft.vjp(lambda x: x, given)
        assert value is not given
        assert not np.shares_memory(value, given)
    for tree in ([1.0], (1.0, 2.0), {"a": 1.0}):
        shape = lambda x, tree=tree: ft.tree.map(lambda c: c * x, tree)
        assert ft.jvp(shape, (2.0,), (1.0,))[1] == tree


def test_unrolled_loops_of_any_length() -> None:
    """Trap 22: they share steps, and have ends of their own."""
    count = [0]

    def f(x: Any) -> Any:
        for _ in range(count[0]):
            x = x * 1.5
        return x

    for count[0] in (3, 5, 0, 4, 5):
        agree(ft.grad(f)(1.0), 1.5 ** count[0])


@pytest.mark.parametrize("transform", ["grad", "vjp", "jvp", "vmap of grad", "grad of grad"])
def test_long_unrolled_loops(transform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 22: where it can be run by segments it is; elsewhere it is known as a whole."""
    count = [0]

    def f(x: Any) -> Any:
        for _ in range(count[0]):
            x = x * 1.001 + 0.001 * np.sin(x)
        return x.sum()

    def slope(x: Any) -> Any:
        moved, y = np.ones_like(x), x
        for _ in range(count[0]):
            moved, y = moved * (1.001 + 0.001 * np.cos(y)), y * 1.001 + 0.001 * np.sin(y)
        return moved

    of_slope = {
        "grad": lambda: ft.grad(f)(X),
        "vjp": lambda: ft.vjp(f, X)[1](1.0)[0],
        "jvp": lambda: ft.jvp(f, (X,), (np.ones(3),))[1],
        "vmap of grad": lambda: ft.vmap(ft.grad(f))(X[None])[0],
        "grad of grad": lambda: ft.grad(lambda x: (ft.grad(f)(x) * x).sum())(X),
    }
    counts = Counts(monkeypatch)
    for count[0] in (trie.LONGEST // 4, 150, trie.LONGEST // 2):
        found = of_slope[transform]()
        if transform == "grad of grad":
            step = 1e-30j
            found = found - np.array(
                [(slope(X + step * e) * (X + step * e)).sum().imag / 1e-30 for e in np.eye(3)]
            )
            assert np.all(np.abs(found) < 1e-9)
        elif transform == "jvp":
            agree(found, slope(X).sum())
        else:
            agree(found, slope(X))
        assert counts.of(of_slope[transform]) == {}


def test_segments_of_long_loops_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 22: another length is another end, and nothing else."""
    count = [0]

    def f(x: Any) -> Any:
        for _ in range(count[0]):
            x = x * 1.0001 + 0.5
        return x.sum()

    for count[0] in (600, 700):
        ft.grad(f)(X)
    steps = trie._size[0]
    counts = Counts(monkeypatch)
    results: list[Any] = []
    for count[0] in range(600, 1600, trie.LONGEST // 2):
        ft.grad(f)(X)  # its end may be new
        assert counts.of(lambda: results.append(ft.grad(f)(X))) == {}
        agree(results.pop(), np.full(3, 1.0001 ** count[0]))
    assert trie._size[0] - steps < 4 * trie.LONGEST


def test_the_memo_is_bounded() -> None:
    """Trap 23: by steps in all, and by what may follow one step."""
    ft.config.memo_steps = 200
    functions = [eval(f"lambda x: (x * {k}.0).sum() + x[0] ** {k}") for k in range(60)]
    for f in functions:
        ft.grad(f)(X)
        assert trie._size[0] <= 200
    ft.config.memo_steps = 100_000
    exponent = [0.0]
    gradient = ft.grad(lambda x: (x ** exponent[0]).sum())
    for k in range(3 * trie.MOST_CHILDREN):
        exponent[0] = 2.5 + k / 64
        agree(gradient(X), exponent[0] * X ** (exponent[0] - 1))
    root = trie.roots()[-1]
    assert len([*root.below()]) <= 3 * trie.MOST_CHILDREN


def test_what_is_forgotten_is_let_go() -> None:
    """Trap 23: transformed functions that are at hand keep nothing of what the memo forgot."""
    ft.config.memo_steps = 200
    functions = [eval(f"lambda x: (x * {k}.0).sum() + x[0] ** {k}") for k in range(60)]
    gradients = [ft.grad(f) for f in functions]
    for k, gradient in enumerate(gradients):
        agree(gradient(X), k + np.array([k * X[0] ** (k - 1), 0.0, 0.0]))
    gc.collect()
    steps = [o for o in gc.get_objects() if isinstance(o, trie.Step) and o.parent is not None]
    assert len(steps) <= 200


def test_ends_count_as_their_equations_do() -> None:
    """Traps 22 and 23: loops of many lengths share steps, but each has a program of its own."""
    ft.config.memo_steps = 1000
    count = [0]

    def f(x: Any) -> Any:
        for _ in range(count[0]):
            x = x * 1.5
        return x

    held: list[int] = []
    for count[0] in range(100, 140):
        agree(ft.grad(f)(1.0), 1.5 ** count[0])
        leaves = [leaf for root in trie.roots() for step in root.below() for leaf in step.leaves()]
        held.append(sum(len(leaf.jaxpr.eqns) for leaf in leaves))
        assert held[-1] <= trie._size[0] <= 1000
    assert max(held) > 500
    assert ft.memo_info().memory < 2_000_000


def test_a_trace_begins_again_unless_something_refers_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a call leaked stays of that call: it is refused, and what comes later is right."""
    made, leaked, leaks = [0], list[Any](), [False]
    original = Trace.__init__

    def counting(self: Trace, *args: Any, **kwargs: Any) -> None:
        made[0] += 1
        original(self, *args, **kwargs)

    monkeypatch.setattr(Trace, "__init__", counting)

    def f(x: Any) -> Any:
        y = x * 2.0
        if leaks[0]:
            leaked.append(y)
        return y * x

    gradient = ft.grad(f)
    for x in (1.0, 2.0):
        agree(gradient(x), 4 * x)  # recorded, then known
    for leaks[0], count in ((False, 0), (True, 0), (True, 1), (False, 1), (False, 0)):
        made[0] = 0
        agree(gradient(3.0), 12.0)
        assert made[0] == count
    for y in leaked:
        with pytest.raises(ft.errors.LeakedTracerError):
            _ = y + 1.0


def test_alternating_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 24: both are known."""
    turn = [0]

    def f(x: Any) -> Any:
        turn[0] += 1
        y = x * 2.0 if turn[0] % 2 else x + 2.0
        return (y * x).sum()

    counts = Counts(monkeypatch)
    gradient = ft.grad(f)
    agree(gradient(X), 4 * X)
    agree(gradient(X), 2 * X + 2)
    assert counts.of(lambda: [gradient(X) for _ in range(6)]) == {}
    agree(gradient(X), 4 * X)
    agree(gradient(X), 2 * X + 2)


def test_nothing_is_kept_of_a_call() -> None:
    """Trap 25: a call that the memo knows leaves no garbage, and no tracer alive."""
    gradient = ft.grad(FUNCTIONS["layer"])
    for _ in range(3):
        gradient(X)
    gc.collect()
    gc.disable()
    try:
        before = sum(type(o).__name__ == "Tracer" for o in gc.get_objects())
        for _ in range(20):
            gradient(X)
        assert sum(type(o).__name__ == "Tracer" for o in gc.get_objects()) == before
    finally:
        gc.enable()


def test_programs_applied_to_other_values_are_not_taken_for_one_another() -> None:
    """Nested gradients whose operand, or factor from outside, differs from call to call."""
    factor: Any = 2.0
    squared = False

    def inner(x: Any) -> Any:
        return np.sin(x) * factor

    def outer(x: Any) -> Any:
        y = x * x
        return ft.grad(inner)(y if squared else x) * x

    gradient = ft.grad(outer)
    for _ in range(3):
        for factor in (2.0, 3.0, np.float64(4.0), 5, 6):
            for squared in (False, True):
                x = 0.3
                if squared:
                    expected = factor * (np.cos(x * x) - 2 * x * x * np.sin(x * x))
                else:
                    expected = factor * (np.cos(x) - x * np.sin(x))
                assert np.isclose(gradient(x), expected, rtol=1e-12)
