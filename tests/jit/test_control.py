"""Loops and branches in native code: the results of NumPy's evaluation, in place where they may be.

Bodies here are too large for registers, so that they are programs of their own; what tiny bodies
become is tested beside (test_register_loops.py).
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.lax as lax
import functrans.numpy as fnp
from functrans.extend import OutOfBoundsError, eval_jaxpr
from jit.runtime import threads

RNG = np.random.default_rng(7)
N = 70
W = RNG.normal(size=(N, N)) / N**0.5
X = RNG.normal(size=N)
XS = RNG.normal(size=(9, N))
LARGE = RNG.normal(size=2000)
V, H = RNG.normal(size=(N, N)) / N, RNG.normal(size=(6, N))

Function = Callable[..., Any]


def evaluated(f: Function, args: tuple[Any, ...]) -> list[Any]:
    """The results by NumPy's evaluation of the same program."""
    closed = ft.make_jaxpr(f)(*args)
    return eval_jaxpr(closed.jaxpr, [*closed.consts, *ft.tree.leaves(args)])


def agrees(f: Function, *args: Any) -> None:
    """Compiled is evaluated, types included, on results and on what args were."""
    before = [np.array(a) for a in ft.tree.leaves(args)]
    found = ft.tree.leaves(ft.jit(f)(*args))
    for a, b in zip(found, evaluated(f, args), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    for a, b in zip(ft.tree.leaves(args), before, strict=True):
        np.testing.assert_array_equal(a, b)


def report(f: Function, *args: Any) -> list[str]:
    return list(ft.jit(f).lower(*args).compile_report().kernels)


def rnn(w: Any, h: Any, xs: Any, reverse: bool = False) -> Any:
    def step(carry: Any, x: Any) -> Any:
        h, count, flag = carry
        h = fnp.tanh(w @ h + x)
        return (h, count + 1, ~flag), (fnp.sum(h), count, h * 2)

    return lax.scan(step, (h, 0, np.True_), xs, reverse=reverse)


def powers(w: Any, x: Any, limit: Any) -> Any:
    """Multiplies until the number of steps or the norm is reached."""
    return lax.while_loop(
        lambda c: (c[1] < limit) & (fnp.sum(c[0] ** 2) < 1e6),
        lambda c: (fnp.sin(w @ c[0]) * 1.5, c[1] + 1),
        (x, 0),
    )


def branches(i: Any, w: Any, x: Any) -> Any:
    return lax.switch(
        i,
        [
            lambda w, x: (w @ x, x),
            lambda w, x: (x, w @ (w @ x)),
            lambda w, x: (fnp.cumsum(x), fnp.zeros(N) + fnp.sum(w)),
        ],
        w,
        x,
    )


# -- forms --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 8])
def test_scan(length: int, reverse: bool) -> None:
    agrees(lambda w, h, xs: rnn(w, h, xs, reverse), W, X, XS[:length])


@pytest.mark.parametrize("limit", [-1, 0, 1, 2, 5, 40])
def test_while(limit: int) -> None:
    agrees(powers, W, X, limit)


@pytest.mark.parametrize("index", [-7, 0, 1, 2, 50])
def test_switch(index: int) -> None:
    agrees(branches, np.int32(index), W, X)


def test_bodies_are_programs_of_their_own() -> None:
    for f, args in ((rnn, (W, X, XS)), (powers, (W, X, 3)), (branches, (np.int32(1), W, X))):
        assert any(" as program: " in line for line in report(f, *args))


@pytest.mark.parametrize("lanes", [1, 2, 7, 20])
def test_lanes_stop_each_at_its_own_time(lanes: int) -> None:
    xs = RNG.normal(size=(lanes, N))
    agrees(ft.vmap(powers, (None, 0, 0)), W, xs, np.arange(lanes) % 6)
    agrees(ft.vmap(powers, (None, None, 0)), W, X, np.arange(lanes)[::-1] % 4)
    agrees(ft.vmap(powers, (0, 0, None)), RNG.normal(size=(lanes, N, N)) / 8, xs, 3)


def nested(w: Any, x: Any, xs: Any) -> Any:
    """A while in a cond in a scan in a scan, each with captured values."""

    def outer(x: Any, i: Any) -> Any:
        def inner(y: Any, row: Any) -> Any:
            y = lax.cond(
                fnp.sum(y) > 0,
                lambda y: lax.while_loop(
                    lambda z: fnp.sum(z * z) > 1.0, lambda z: 0.5 * (w @ z) + 0.001 * row, y
                ),
                lambda y: w @ y - row * i,
                y,
            )
            return y, fnp.max(y)

        y, tops = lax.scan(inner, x, xs)
        return fnp.tanh(y), tops

    return lax.scan(outer, x, fnp.arange(3.0))


def test_loops_and_branches_inside_each_other() -> None:
    agrees(nested, W, X, XS)


def test_types_of_carries() -> None:
    """Integers of all kinds, booleans, complex numbers, half precisions, an array of no elements"""

    def step(carry: Any, x: Any) -> Any:
        z, small, half, flag, key, empty = carry
        z = z @ (x * 1j) + z
        return (z, small + 3, half * np.float16(0.5), ~flag, key * np.uint32(3), empty), small

    init = (
        W[:4] + 0j,
        np.arange(100, dtype=np.int8),
        np.ones(70, np.float16),
        X > 0,
        np.arange(90, dtype=np.uint32),
        np.empty((0, 3)),
    )
    agrees(lambda init, xs: lax.scan(step, init, xs), init, RNG.normal(size=(5, N, N)))


def test_a_carry_may_take_the_place_of_another() -> None:
    """Each new carry is the old of a neighbour, so that none may be overwritten early."""

    def step(carry: Any, x: Any) -> Any:
        a, b, c = carry
        return (b, c, a @ x), b + 0 * a

    agrees(lambda xs: lax.scan(step, (X, X + 1, X * 2), xs), RNG.normal(size=(7, N, N)))


def test_captured_arrays_are_not_overwritten() -> None:
    """The same array is a constant of the body and its initial carry."""
    agrees(lambda w, x: lax.fori_loop(0, 5, lambda i, y: fnp.sin(w @ y) + x, x), W, X)


def test_gradients() -> None:
    def loss(w: Any, x: Any, xs: Any) -> Any:
        (h, *_), (sums, _, hs) = rnn(w, x, xs)
        return fnp.sum(h**2) + fnp.sum(sums) + fnp.mean(hs)

    agrees(ft.value_and_grad(loss, (0, 1, 2)), W, X, XS)
    agrees(ft.grad(lambda w, x, xs: fnp.sum(ft.grad(loss)(w, x, xs) ** 2)), W, X, XS)
    agrees(lambda w, x: ft.jvp(lambda w: powers(w, x, 4)[0], (w,), (w * w,)), W, X)


# -- sweeps: the derivative of a while ------------------------------------------------------------


def settle(w: Any, x: Any, limit: Any) -> Any:
    return lax.while_loop(
        lambda c: c[1] < limit, lambda c: (fnp.sin(w @ c[0]) + 0.1 * c[0], c[1] + 1), (x, 0)
    )[0]


def settled(w: Any, x: Any, limit: Any) -> Any:
    return fnp.sum(settle(w, x, limit) ** 2)


@pytest.mark.parametrize("limit", [-1, 0, 1, 2, 3, 30])
def test_gradients_of_whiles(limit: int) -> None:
    """Thirty steps are more than the stack has room for at first."""
    agrees(ft.value_and_grad(settled, (0, 1)), W, X, limit)


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_second_derivatives_of_whiles(limit: int) -> None:
    inner = ft.grad(settled)
    agrees(ft.grad(lambda w, x: fnp.sum(inner(w, x, limit) ** 2), (0, 1)), W, X)
    agrees(lambda w, x: ft.jvp(lambda w: inner(w, x, limit), (w,), (w * w,)), W, X)


def test_gradients_of_lanes() -> None:
    xs, limits = RNG.normal(size=(11, N)), np.arange(11) % 5
    agrees(ft.vmap(ft.grad(settled, (0, 1)), (None, 0, 0)), W, xs, limits)
    agrees(ft.grad(lambda w: fnp.sum(ft.vmap(settled, (None, 0, 0))(w, xs, limits))), W)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_sums_of_products_in_sweeps_are_made_at_once(steps: int, dtype: Any) -> None:
    """Of matrices and of vectors, transposed, beside other terms, for each lane."""

    def loss(w: Any, v: Any, h: Any, x: Any) -> Any:
        def step(c: Any) -> Any:
            h, x, i = c
            x = fnp.tanh(w @ x + v.T @ x + v[0] * x)
            return fnp.tanh(h @ w + x @ v), x, i + 1

        h, x, _ = lax.while_loop(lambda c: c[2] < steps, step, (h, x, 0))
        return fnp.sum(h * h) + fnp.sum(x)

    args = [a.astype(dtype) for a in (W, V, H, X)]
    gradient = ft.grad(loss, (0, 1, 2, 3))
    close = 1e-9 if dtype is np.float64 else 1e-4
    for a, b in zip(ft.jit(gradient)(*args), evaluated(gradient, tuple(args)), strict=True):
        np.testing.assert_allclose(a, b, rtol=close, atol=close)
    lanes = ft.vmap(gradient, (None, None, 0, 0))
    args[2:] = [np.stack([a, a / 2, -a]) for a in args[2:]]
    for a, b in zip(ft.jit(lanes)(*args), evaluated(lanes, tuple(args)), strict=True):
        np.testing.assert_allclose(a, b, rtol=close, atol=close)
    # The pass makes no matrix of weights; what it adds besides to one of them is a row.
    large = [line for line in report(gradient, W, V, H, X) if "70,70" in line and ".2." in line]
    assert len(large) <= 1


def test_a_gradient_of_a_while_in_a_scan() -> None:
    def step(x: Any, limit: Any) -> Any:
        return settle(W, x, limit), fnp.max(x)

    agrees(ft.grad(lambda x: fnp.sum(lax.scan(step, x, np.array([2, 0, 3]))[0])), X)


def test_a_failure_frees_the_stack() -> None:
    resource = pytest.importorskip("resource")

    def run(x: Any, small: Any) -> Any:
        def step(c: Any) -> Any:
            x, i = c
            return fnp.sin(x) + small[i], i + 1

        return fnp.sum(lax.while_loop(lambda c: c[1] < 90, step, (x, 0))[0])

    f, x, small = ft.jit(ft.grad(run)), np.zeros(20_000), np.ones(64)

    def fail() -> int:
        """The most memory that the process has had until now, in kB; a run fails with 10 MB."""
        with pytest.raises(OutOfBoundsError, match="axis 0 with size 64"):
            f(x, small)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = fail()
    assert max(fail() for _ in range(20)) - before < 60_000


OUT_OF_MEMORY = """
import resource
import numpy as np
import functrans as ft, functrans.lax as lax, functrans.numpy as fnp

def f(x, stop):
    body = lambda c: (fnp.sin(fnp.roll(c[0], 1)), c[1] + 1)
    return fnp.sum(lax.while_loop(lambda c: c[1] < stop, body, (x, 0))[0])

x = np.ones(1 << 17)
g = ft.jit(ft.grad(f))
expected = g(x, 3)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20),) * 2)
try:
    g(x, 4000)
except MemoryError as error:
    print("caught:", error)
assert np.array_equal(g(x, 3), expected)
print("goes on")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory, as Linux has them")
def test_too_many_steps_for_the_memory_are_an_error() -> None:
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True)
    assert done.stdout == (
        "caught: There is not enough memory to note the steps of a loop for its derivative.\n"
        "goes on\n"
    ), done.stderr


# -- what leaves the loop -------------------------------------------------------------------------


def batched(w: Any, v: Any, h: Any, xs: Any) -> Any:
    """A layer whose input does not depend on the step before."""
    return lax.scan(lambda h, x: (fnp.tanh(fnp.exp(0.1 * x) @ w + h @ v), h[0]), h, xs)


BATCHES = RNG.normal(size=(5, 6, N))


def outside(lines: list[str]) -> list[str]:
    """The lines of a report that are not about a loop's body, without their numbers."""
    return [line.partition(": ")[2] for line in lines if line.partition(":")[0].isdigit()]


def test_products_of_slices_are_made_at_once() -> None:
    agrees(batched, W, V, H, BATCHES)
    first, product, loop, *_ = outside(report(batched, W, V, H, BATCHES))
    assert first.endswith("full f64[5,6,70]")
    assert product == "dot_general"
    assert loop.startswith("scan as program")


@pytest.mark.parametrize("reverse", [False, True])
def test_sums_of_products_are_made_at_once(reverse: bool) -> None:
    """Each gradient of a matrix is a product over all steps; only one product stays inside."""

    def loss(w: Any, v: Any, h: Any, xs: Any) -> Any:
        step = lambda h, x: (fnp.tanh(x @ w + h @ v), None)
        return fnp.sum(lax.scan(step, h, xs, reverse=reverse)[0] ** 2)

    gradient = ft.grad(loss, (0, 1, 2, 3))
    agrees(gradient, W, V, H, BATCHES)
    lines = report(gradient, W, V, H, BATCHES)
    products = [line for line in lines if line.endswith(": dot_general")]
    inside = [line for line in products if line not in [f"{k}: dot_general" for k in range(20)]]
    assert len(inside) == 2  # h @ v, and its transpose
    assert len(products) - len(inside) == 4  # x @ w, and three gradients


def test_sums_of_many_kinds() -> None:
    """Products beside other terms, transposed and reshaped, of vectors, starting from a value."""

    def step(carry: Any, x: Any) -> Any:
        a, b, c, d, h = carry
        h = fnp.tanh(V @ h + x)
        a = x[:, None] * h[None] * 0.5 + (a + fnp.outer(h, x))
        b = fnp.outer(h, x).T + b
        c = c + fnp.outer(x, h).reshape(-1)
        return (a, b, c, d + fnp.sum(a), h), None

    init = (W, V, fnp.zeros(N * N), 1.0, H[0])
    agrees(lambda xs: lax.scan(step, init, xs), XS)
    agrees(lambda xs: lax.scan(step, init, xs, reverse=True), XS)


def test_what_depends_on_constants_is_made_once() -> None:
    def f(w: Any, x: Any) -> Any:
        return lax.fori_loop(0, 4, lambda i, x: fnp.sin(fnp.exp(w + w.T) @ x), x)

    agrees(f, W, X)
    first, loop, *_ = outside(report(f, W, X))
    assert first.endswith("full f64[70,70]")
    assert loop.startswith("scan as program")


def test_what_depends_on_constants_is_made_once_for_whiles() -> None:
    """In condition, body and derivative; but not what can fail, nor what each lane has."""

    def f(w: Any, x: Any, i: Any) -> Any:
        def step(c: Any) -> Any:
            return fnp.sin(fnp.exp(w + w.T) @ c[0] / N) + w[i], c[1] + 1

        goes_on = lambda c: c[1] * fnp.max(fnp.cos(w)) < 3.5
        return lax.while_loop(goes_on, step, (x, 0))[0]

    agrees(f, W, X, 5)
    lines = report(f, W, X, 5)
    assert any("full f64[70,70]" in line for line in outside(lines))
    assert not any("70,70" in line for line in lines if line not in lines[: len(outside(lines))])
    agrees(lambda w, x, i: lax.cond(False, lambda: f(w, x, i), lambda: x), W, X, 500)
    with pytest.raises(OutOfBoundsError):
        ft.jit(f)(W, X, 500)
    agrees(ft.grad(lambda w, x: fnp.sum(f(w, x, 5)), (0, 1)), W, X)
    ws = RNG.normal(size=(3, N, N)) / N
    agrees(ft.vmap(lambda w, x: f(w, x, 5), (0, None)), ws, X)
    agrees(ft.vmap(lambda w, x: f(w, x, 5), (None, 0)), W, XS)


def test_what_is_only_larger_is_not_kept() -> None:
    """Spreading a vector over a matrix is no work, and the matrix is not stored."""

    def f(v: Any, w: Any) -> Any:
        return lax.fori_loop(0, 4, lambda i, w: fnp.exp(v)[:, None] * fnp.sin(w @ w), w)

    agrees(f, X, W)
    first, *_ = outside(report(f, X, W))
    assert first.endswith("full f64[70]")


# -- in place -----------------------------------------------------------------------------------


def set_one(i: Any, x: Any) -> Any:
    return x.at[i].set(2.0 * i + x[i - 1])


def add_what_is_read(i: Any, x: Any) -> Any:
    return x.at[i].add(fnp.sum(lax.dynamic_slice(x, (i,), (3,)))).at[i + 1].mul(0.5)


def write_a_window(i: Any, x: Any) -> Any:
    return lax.dynamic_update_slice(x, x[3:6] * 0.5 + i, (i,))


def update_then_read(i: Any, x: Any) -> Any:
    """What is read of the old array comes after the update in the program."""
    y = x.at[i].set(1.0)
    return y.at[i + 2].set(x[i] + y[i])


def update_in_a_loop(i: Any, x: Any) -> Any:
    return lax.fori_loop(0, 3, lambda j, x: x.at[i + j].add(1.0), x)


def update_in_a_branch(i: Any, x: Any) -> Any:
    return lax.cond(i % 3 == 0, lambda x: x.at[i].set(7.0), lambda x: x, x)


def update_twice_apart(i: Any, x: Any) -> Any:
    """Two arrays are made of one: only one of them can be made in place."""
    a, b = x.at[i].set(1.0), x.at[i + 1].set(2.0)
    return fnp.where(a > b, a, b)


UPDATES = [
    set_one,
    add_what_is_read,
    write_a_window,
    update_then_read,
    update_in_a_loop,
    update_in_a_branch,
    update_twice_apart,
]


@pytest.mark.parametrize("update", UPDATES)
def test_updates(update: Function) -> None:
    agrees(lambda x: lax.fori_loop(0, 12, update, x), LARGE)
    agrees(
        lambda x: lax.while_loop(lambda c: c[0] < 9, lambda c: (c[0] + 1, update(*c)), (0, x)),
        LARGE,
    )


@pytest.mark.parametrize("update", UPDATES[:-1])
def test_the_cost_of_an_update_does_not_depend_on_the_array(update: Function) -> None:
    """Per step; what a loop costs besides is one copy. The larger array is 100 times as large."""
    f = ft.jit(lambda x: lax.fori_loop(0, 2000, update, x))
    times: list[float] = []
    for size in (3_000, 300_000):
        x = np.zeros(size)
        f(x)
        spent: list[float] = []
        for _ in range(5):
            begin = time.perf_counter()
            f(x)
            spent.append(time.perf_counter() - begin)
        times.append(min(spent))
    assert times[1] < 10 * times[0] + 2e-3


def test_a_donated_array_is_updated_where_it_lies() -> None:
    f = ft.jit(lambda x: lax.fori_loop(0, 12, set_one, x), donate_argnums=0)
    x = LARGE.copy()
    expected = evaluated(lambda x: lax.fori_loop(0, 12, set_one, x), (x,))[0]
    found = f(x)
    assert found is x
    np.testing.assert_array_equal(found, expected)


# -- errors and effects -------------------------------------------------------------------------


def test_an_error_in_a_body_names_the_line() -> None:
    def f(x: Any, i: Any) -> Any:
        return lax.fori_loop(0, 5, lambda k, x: x * x[i + k], x)

    np.testing.assert_allclose(ft.jit(f)(LARGE, 3), evaluated(f, (LARGE, 3))[0])
    with pytest.raises(
        OutOfBoundsError, match=r"out of bounds for axis 0 with size 2000.*test_control"
    ):
        ft.jit(f)(LARGE, 1997)


def test_an_error_in_a_branch_that_is_not_taken_is_none() -> None:
    def f(x: Any, i: Any) -> Any:
        return lax.cond(i < 2000, lambda x: x[i] + x, lambda x: x, x)

    np.testing.assert_array_equal(ft.jit(f)(LARGE, 5000), LARGE)
    np.testing.assert_array_equal(ft.jit(f)(LARGE, 1), LARGE[1] + LARGE)


def test_callbacks_are_called_at_each_step_in_order() -> None:
    seen: list[Any] = []

    def step(x: Any, k: Any) -> Any:
        ft.debug.callback(lambda k, s: seen.append((int(k), float(s))), k, fnp.sum(x))
        return W @ x, None

    ft.jit(lambda x: lax.scan(step, x, np.arange(4)))(X)
    assert [k for k, _ in seen] == [0, 1, 2, 3]
    np.testing.assert_allclose([s for _, s in seen][:2], [X.sum(), (W @ X).sum()])


def test_callbacks_keep_their_order_around_updates() -> None:
    """The second sees the update, and what it waits for is not moved before the first."""
    seen: list[float] = []

    def step(i: Any, x: Any) -> Any:
        ft.debug.callback(lambda v: seen.append(float(v)), x[0], ordered=True)
        y = x.at[0].set(x[0] + 1.0)
        ft.debug.callback(lambda v: seen.append(float(v)), y[0] * 10, ordered=True)
        ft.debug.callback(lambda v: seen.append(float(v)), x[0] * 100, ordered=True)
        return y

    ft.jit(lambda x: lax.fori_loop(0, 2, step, x))(np.zeros(500))
    assert seen == [0.0, 10.0, 0.0, 1.0, 20.0, 100.0]


def test_an_exception_in_a_callback_stops_the_loop() -> None:
    seen: list[int] = []

    def look(k: Any) -> None:
        seen.append(int(k))
        if k == 2:
            raise KeyError("two")

    def step(x: Any, k: Any) -> Any:
        ft.debug.callback(look, k)
        return W @ x, None

    with pytest.raises(KeyError, match="two"):
        ft.jit(lambda x: lax.scan(step, x, np.arange(9)))(X)
    assert seen == [0, 1, 2]


# -- the engine ---------------------------------------------------------------------------------


def wide(w: Any, xs: Any) -> Any:
    """Large enough for threads inside the body."""

    def step(h: Any, x: Any) -> Any:
        h = fnp.tanh(h @ w + x)
        return h, fnp.sum(fnp.exp(h))

    return lax.scan(step, xs[0], xs)


def side_by_side(w: Any, xs: Any, limits: Any) -> Any:
    """Lanes that are worth threads of their own."""
    return ft.vmap(powers, (None, 0, 0))(w, xs, limits)


@pytest.mark.parametrize("name", ["inside a body", "lanes", "sweeps in lanes"])
def test_results_do_not_depend_on_the_number_of_threads(name: str) -> None:
    w, xs = RNG.normal(size=(300, 300)) / 17, RNG.normal(size=(4, 400, 300))
    lanes, limits = RNG.normal(size=(40, N)), np.arange(40) % 7
    f, args = {
        "inside a body": (ft.value_and_grad(lambda w: fnp.sum(wide(w, xs)[1])), (w,)),
        "lanes": (side_by_side, (W, lanes, limits)),
        "sweeps in lanes": (ft.vmap(ft.grad(settled, (0, 1)), (None, 0, 0)), (W, lanes, limits)),
    }[name]
    compiled = ft.jit(f)
    assert "parallel" in compiled.lower(*args).as_text("loops")
    before, results = threads.num_threads(), []
    try:
        for count in (1, 2):
            threads.set_num_threads(count)
            results.append(ft.tree.leaves(compiled(*args)))
    finally:
        threads.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_threads_run_during_a_loop() -> None:
    f = ft.jit(lambda x: lax.fori_loop(0, 20_000_000, lambda i, x: 3.7 * x * (1 - x), x))
    f(0.1)
    f(0.2)
    ran: list[float] = []

    def run() -> None:
        begin = time.perf_counter()
        f(0.3)
        ran.append(time.perf_counter() - begin)

    worker = threading.Thread(target=run)
    before, longest = time.perf_counter(), 0.0
    worker.start()
    while worker.is_alive():
        now = time.perf_counter()
        before, longest = now, max(longest, now - before)
    assert longest < ran[0] / 2


def test_texts_of_every_stage_hold_the_bodies() -> None:
    lowered = ft.jit(rnn).lower(W, X, XS)
    assert "scan[" in lowered.as_text("jaxpr")
    assert "program step.1" in lowered.as_text("loops")
    assert "define internal i32 @p0.ft_entry" in lowered.as_text("llvm")
    assert "p0.ft_entry" in lowered.as_text("asm")
