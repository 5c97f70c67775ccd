"""What the memo must not take for the same: each trap that it avoids, in order."""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import functrans as ft
from functrans import recording
from functrans.held import Hold
from functrans.memo import trie
from tests.memo_tools import FUNCTIONS, Counts, X, agree, check, steps_then

pytestmark = pytest.mark.usefixtures("empty_memo")


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


@pytest.mark.parametrize("jitted", [False, True])
def test_views_of_a_large_captured_array_are_held(jitted: bool) -> None:
    """With the array itself, before and after it, and held by runs that end in another order."""
    c = np.ones((1 << 13, 32))
    wide, tall = c[:, None], c.T
    views = (wide, c, tall, c[1:])

    def f(x: Any) -> Any:
        y = (x * wide).sum() + (x * c).sum() + (x * c[:, :1]).sum() + (x * tall).sum()
        assert not c.flags.writeable
        return y + ft.grad(lambda x: (x * x * views[3]).sum())(x)

    g = ft.grad(f)
    for _ in range(3):
        assert (ft.jit(g) if jitted else g)(2.0) == (3 * c.size + len(c)) + 2 * (c.size - 32)
        assert all(view.flags.writeable for view in views)
    first, second = Hold(wide), Hold(c)
    first.begin()
    second.begin()
    first.undo()
    assert not c.flags.writeable
    assert not wide.flags.writeable
    second.undo()
    assert all(view.flags.writeable for view in views)


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
