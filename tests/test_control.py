"""Loops and branches against the same written out in Python, under every transform."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import functrans as ft
from functrans import lax
from functrans import numpy as fnp
from functrans.ir import check_jaxpr


@pytest.fixture(autouse=True)
def evaluated() -> Iterator[None]:
    """By the evaluator: the native engine has tests of its own, against this one."""
    before = ft.config.unjitted
    ft.config.unjitted = "interpreted"
    yield
    ft.config.unjitted = before


def same(actual: Any, expected: Any, rtol: float = 1e-9) -> None:
    """The same tree of numbers."""
    assert ft.tree.structure(actual) == ft.tree.structure(expected)
    for a, b in zip(ft.tree.leaves(actual), ft.tree.leaves(expected), strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-11)


RNG = np.random.default_rng(5)
W = RNG.normal(size=(3, 3)) * 0.4
A = RNG.normal(size=3)
XS = RNG.normal(size=(5, 3))
P = {"w": W, "a": A}


class Pair(NamedTuple):
    """A function with control flow, the same without, and arguments for both."""

    looped: Callable[..., Any]
    unrolled: Callable[..., Any]
    args: tuple[Any, ...]


def _scan(p: Any, x: Any) -> Any:
    def step(c: Any, x: Any) -> Any:
        c = np.tanh(p["w"] @ c + x) * p["a"]
        return c, c * x

    c, ys = lax.scan(step, p["a"], x)
    return np.sum(ys) + np.sum(c**2)


def _scan_unrolled(p: Any, x: Any) -> Any:
    c, total = p["a"], 0.0
    for k in range(len(x)):
        c = np.tanh(p["w"] @ c + x[k]) * p["a"]
        total = total + np.sum(c * x[k])
    return total + np.sum(c**2)


def _reversed(p: Any, x: Any) -> Any:
    def step(c: Any, x: Any) -> Any:
        return np.sin(p["w"] @ c) + x, {"y": c, "none": None}

    c, ys = lax.scan(step, p["a"], x, reverse=True)
    return np.sum(ys["y"] * np.arange(15.0).reshape(5, 3)) + np.sum(c)


def _reversed_unrolled(p: Any, x: Any) -> Any:
    c, rows = p["a"], []
    for k in reversed(range(len(x))):
        rows.append(c)
        c = np.sin(p["w"] @ c) + x[k]
    return np.sum(np.stack(rows[::-1]) * np.arange(15.0).reshape(5, 3)) + np.sum(c)


def _fori(p: Any, x: Any) -> Any:
    return np.sum(lax.fori_loop(0, 4, lambda i, c: c * p["a"] + np.sin(fnp.array(x)[i]) * i, x[0]))


def _fori_unrolled(p: Any, x: Any) -> Any:
    c = x[0]
    for i in range(4):
        c = c * p["a"] + np.sin(x[i]) * i
    return np.sum(c)


def _while(p: Any, x: Any) -> Any:
    def go_on(c: Any) -> Any:
        return (np.sum(c[1] ** 2) > 0.05) & (c[0] < 40)

    return np.sum(np.cos(lax.while_loop(go_on, lambda c: (c[0] + 1, _shrink(p, c[1])), (0, x))[1]))


def _shrink(p: Any, x: Any) -> Any:
    return 0.8 * np.tanh(x) + 0.01 * p["w"] @ x * p["a"]


def _while_unrolled(p: Any, x: Any) -> Any:
    n = 0
    while np.sum(x**2) > 0.05 and n < 40:
        n, x = n + 1, _shrink(p, x)
    return np.sum(np.cos(x))


def _branches(p: Any, x: Any) -> Any:
    """A cond in a scan in a while, with a switch beside it."""

    def step(c: Any, row: Any) -> Any:
        c = lax.cond(np.sum(c) > 0, lambda c: np.sin(c) * p["a"], lambda c: c - row, c)
        i = np.sum(row > 0)
        return c, lax.switch(i, [lambda: c[0], lambda: c[1] * 2, lambda: np.exp(c[2])])

    def outer(c: Any) -> Any:
        n, c, total = c
        c, ys = lax.scan(step, c, x)
        return n + 1, c, total + np.sum(ys)

    _, c, total = lax.while_loop(lambda c: c[0] < 2, outer, (0, p["a"], 0.0))
    return total + np.sum(c)


def _branches_unrolled(p: Any, x: Any) -> Any:
    c, total = p["a"], 0.0
    for _ in range(2):
        for k in range(len(x)):
            c = np.sin(c) * p["a"] if np.sum(c) > 0 else c - x[k]
            i = min(int(np.sum(x[k] > 0)), 2)
            total = total + [lambda c: c[0], lambda c: c[1] * 2, lambda c: np.exp(c[2])][i](c)
    return total + np.sum(c)


def _traced_bounds(p: Any, x: Any) -> Any:
    n = lax.cond(p["a"][0] > 10, lambda: 1, lambda: 3)
    return np.sum(lax.fori_loop(0, n, lambda i, c: np.sin(c) * p["a"] + i, x[0]))


def _traced_bounds_unrolled(p: Any, x: Any) -> Any:
    c = x[0]
    for i in range(3):
        c = np.sin(c) * p["a"] + i
    return np.sum(c)


def _checkpointed(p: Any, x: Any) -> Any:
    def step(c: Any, row: Any) -> Any:
        c = ft.checkpoint(lambda c: np.tanh(p["w"] @ c + row) * p["a"])(c)
        return c, c * row

    run = ft.checkpoint(lambda c: lax.scan(step, c, x, checkpoint=2))
    c, ys = run(p["a"])
    return np.sum(ys) + np.sum(c**2)


def _quiet(p: Any, x: Any) -> Any:
    """The scan of no_grad is a constant for whoever differentiates."""
    with ft.no_grad():
        fixed = lax.scan(lambda c, row: (c + row * p["a"], None), p["a"], x)[0]
    return np.sum(fixed * lax.scan(lambda c, row: (np.sin(c) + row, None), p["a"], x)[0])


def _quiet_unrolled(p: Any, x: Any) -> Any:
    fixed, c = p["a"], p["a"]
    for k in range(len(x)):
        fixed, c = fixed + x[k] * p["a"], np.sin(c) + x[k]
    return np.sum(ft.stop_gradient(fixed) * c)


PAIRS = {
    "scan": Pair(_scan, _scan_unrolled, (P, XS)),
    "reverse": Pair(_reversed, _reversed_unrolled, (P, XS)),
    "fori": Pair(_fori, _fori_unrolled, (P, XS)),
    "while": Pair(_while, _while_unrolled, (P, XS[0])),
    "branches": Pair(_branches, _branches_unrolled, (P, XS)),
    "traced bounds": Pair(_traced_bounds, _traced_bounds_unrolled, (P, XS)),
    "checkpoint": Pair(_checkpointed, _scan_unrolled, (P, XS)),
    "no_grad": Pair(_quiet, _quiet_unrolled, (P, XS)),
}


def _tangents(f: Any, *args: Any) -> Any:
    return ft.jvp(f, args, ft.tree.map(np.cos, args))


def _grad_of_grad(f: Any, *args: Any) -> Any:
    inner = ft.grad(f, argnums=(0, 1))
    return ft.grad(lambda *a: sum(np.sum(np.sin(g)) for g in ft.tree.leaves(inner(*a))))(*args)


TRANSFORMS: dict[str, Callable[..., Any]] = {
    "value": lambda f, *args: f(*args),
    "jvp": _tangents,
    "grad": lambda f, *args: ft.grad(f, argnums=(0, 1))(*args),
    "hessian": lambda f, *args: ft.hessian(f, argnums=1)(*args),
    "grad of grad": _grad_of_grad,
    "linearize": lambda f, *args: ft.linearize(f, *args)[1](*ft.tree.map(np.cos, args)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", PAIRS)
def test_loops_are_what_they_are_written_out(name: str, transform: str) -> None:
    pair, apply = PAIRS[name], TRANSFORMS[transform]
    same(apply(pair.looped, *pair.args), apply(pair.unrolled, *pair.args))


@pytest.mark.parametrize("name", PAIRS)
def test_members_of_vmap_are_on_their_own(name: str) -> None:
    """vmap of the value and of the gradient, and the gradient of vmap, in every argument."""
    pair = PAIRS[name]
    p, x = pair.args
    many = (
        {"w": p["w"] * np.array([1.0, 0.5, -1.0])[:, None, None], "a": p["a"]},
        np.stack([x, -x, x[::-1]]),
    )
    axes = ({"w": 0, "a": None}, 0)
    members = [({"w": many[0]["w"][i], "a": p["a"]}, many[1][i]) for i in range(3)]
    for of in (pair.looped, ft.grad(pair.looped, argnums=(0, 1))):
        plain = pair.unrolled if of is pair.looped else ft.grad(pair.unrolled, argnums=(0, 1))
        rows = [plain(*m) for m in members]
        same(ft.vmap(of, in_axes=axes)(*many), ft.tree.map(lambda *r: np.stack(r), *rows))
    total = ft.grad(lambda p, x: np.sum(ft.vmap(pair.looped, in_axes=axes)(p, x)))(*many)
    grads = [ft.grad(pair.unrolled)(*m) for m in members]
    same(total["w"], np.stack([g["w"] for g in grads]))
    same(total["a"], sum(g["a"] for g in grads))


@pytest.mark.parametrize("name", ["scan", "while", "branches", "traced bounds"])
def test_native_code_does_the_same(name: str) -> None:
    pair = PAIRS[name]
    same(ft.jit(ft.grad(pair.looped))(*pair.args), ft.grad(pair.unrolled)(*pair.args))


@pytest.mark.parametrize("name", PAIRS)
def test_programs_are_well_formed(name: str) -> None:
    looped, _, (p, x) = PAIRS[name]
    for f in (looped, ft.grad(looped), ft.hessian(looped, argnums=1)):
        check_jaxpr(ft.make_jaxpr(f)(p, x).jaxpr)
    mapped = ft.vmap(ft.grad(looped), (None, 0))
    check_jaxpr(ft.make_jaxpr(mapped)(p, np.stack([x, x])).jaxpr)


# -- numbers of steps ---------------------------------------------------------------------------


def test_loops_of_no_and_of_one_step() -> None:
    step = lambda c, x: (c * x, c)
    assert lax.scan(step, 2.0, np.zeros(0))[0] == 2.0
    assert lax.scan(step, 2.0, np.zeros((0,)))[1].shape == (0,)
    same(lax.scan(step, 2.0, np.array([3.0])), (6.0, np.array([2.0])))
    assert lax.fori_loop(5, 2, lambda i, c: c + 1, 7) == 7
    assert lax.while_loop(lambda x: x < 0, lambda x: x + 1, 7) == 7
    grad = ft.grad(lambda x: lax.while_loop(lambda x: x < 0, lambda x: x * x, x))
    assert grad(3.0) == 1.0
    same(ft.grad(lambda x: lax.scan(step, x, np.zeros(0))[0] * 2)(3.0), 2.0)
    same(
        ft.vmap(ft.grad(lambda x, n: lax.fori_loop(0, n, lambda i, c: c * x, 1.0)))(
            np.array([2.0, 2.0, 2.0]), np.array([0, 1, 3])
        ),
        np.array([0.0, 1.0, 12.0]),
    )


def test_no_lanes_at_all() -> None:
    f = lambda x: lax.while_loop(lambda x: x < 10, lambda x: x * 2, x)
    assert ft.vmap(f)(np.zeros(0)).shape == (0,)
    assert ft.vmap(ft.grad(f))(np.zeros(0)).shape == (0,)


START = (0, 0.0)


def test_a_lane_that_has_stopped_reads_nothing_more() -> None:
    """It would be out of bounds."""

    def total(n: Any) -> Any:
        table = fnp.array([1.0, 2.0, 4.0])
        return lax.while_loop(
            lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] + table[c[0]]), (0, 0.0)
        )

    same(ft.vmap(total)(np.array([3, 0, 1]))[1], np.array([7.0, 0.0, 1.0]))


def test_a_branch_that_is_not_taken_reads_nothing() -> None:
    """Nor does it for those members of vmap that take the other one."""

    def f(table: Any, i: Any) -> Any:
        table = fnp.array(table)
        return lax.cond(i < 3, lambda: table[i] ** 2, lambda: table[0])

    table, places = np.array([1.0, 2.0, 4.0]), np.array([0, 2, 5])
    same(ft.vmap(f, (None, 0))(table, places), np.array([1.0, 16.0, 1.0]))
    total = lambda table: np.sum(ft.vmap(f, (None, 0))(table, places))
    same(ft.grad(total)(table), np.array([3.0, 0.0, 8.0]))
    same(ft.jit(ft.grad(total))(table), np.array([3.0, 0.0, 8.0]))


def test_gradients_of_masked_lanes_are_numbers() -> None:
    """One lane divides by zero if it goes on too long."""

    def f(n: Any, x: Any) -> Any:
        def step(c: Any) -> Any:
            k, y = c
            return k - 1, y + 1 / (k * x)

        return lax.while_loop(lambda c: c[0] > 0, step, (n, x))[1]

    grads = ft.vmap(ft.grad(f, argnums=1))(np.array([3.0, 0.0, 1.0]), np.array([2.0, 0.0, 1.0]))
    same(grads, np.array([1 - (1 + 1 / 2 + 1 / 3) / 4, 1.0, 0.0]))


# -- types of carries ---------------------------------------------------------------------------


def test_carries_take_the_least_types_that_hold_them() -> None:
    weak = lax.fori_loop(0, 3, lambda i, c: c + 1, 0)
    assert type(weak) is int
    assert weak == 3
    assert type(lax.fori_loop(0, 3, lambda i, c: c + 0.5, 0)) is float
    single = lax.scan(lambda c, x: (c + x, c), 0.0, np.ones(3, np.float32))
    assert single[0].dtype == np.float32
    assert single[1].dtype == np.float32
    double = lax.scan(lambda c, x: (c + x, c), np.float32(0), np.ones(3))[0]
    assert double.dtype == np.float64
    flag = lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[0] > 5), (0, True))[1]
    assert flag is False or flag == np.False_
    big = lax.fori_loop(0, 3, lambda i, c: c * np.int8(2), np.int8(1))
    assert big.dtype == np.int8
    counter = lax.scan(lambda c, i: (c * np.float32(1), None), 1, None, length=2)[0]
    assert counter.dtype == np.float32


def test_carries_hold_anything_that_is_a_tree() -> None:
    key = ft.random.key(3)

    def step(c: Any, _: Any) -> Any:
        key, n, flag, nothing, x = c
        key, use = ft.random.split(key)
        return (key, n + 1, ~flag, nothing, x + ft.random.normal(use)), (n, flag, None)

    init = (key, np.int32(0), np.bool_(True), None, 0.0)
    (last, n, flag, nothing, x), (ns, flags, none) = lax.scan(step, init, None, length=4)
    total, k = 0.0, key
    for _ in range(4):
        k, use = ft.random.split(k)
        total += ft.random.normal(use)
    same((last, n, x), (k, np.int32(4), total))
    assert nothing is None
    assert none is None
    assert bool(flag)
    same(ns, np.arange(4))
    assert flags.tolist() == [True, False, True, False]
    grad = ft.grad(lambda x: lax.scan(step, (*init[:4], x), None, length=4)[0][4] ** 2)
    same(grad(0.0), 2 * total)


def test_branches_take_types_that_hold_both() -> None:
    out = lax.cond(np.bool_(False), lambda x: x, lambda x: x * 1.5, np.float32(2))
    assert out.dtype == np.float32
    out = lax.cond(True, lambda: np.int32(1), lambda: 2.5)
    assert out.dtype == np.float64
    assert type(lax.cond(True, lambda: 1, lambda: 2.5)) is float


def test_operands_as_jax_takes_them() -> None:
    assert lax.cond(True, lambda x, y: x - y, lambda x, y: x + y, 5, 3) == 2
    assert lax.cond(0, lambda x: x, lambda x: -x, operand=4) == -4
    assert lax.cond(True, lambda x: x is None, lambda x: False, operand=None)
    assert lax.switch(-3, [lambda x: x, lambda x: -x], operand=4) == 4
    assert lax.switch(np.uint8(1), [lambda x: x, lambda x: -x], 4) == -4


def test_results_alias_nothing() -> None:
    x = np.arange(3.0)
    same_x = lax.cond(True, lambda x: x, lambda x: -x, x)
    carry, ys = lax.scan(lambda c, y: (c, y), x, x[:, None])
    kept = lax.while_loop(lambda x: x[0] > 5, lambda x: x, x)
    for y in (same_x, carry, ys, kept, lax.associative_scan(np.add, x[:1])):
        assert not np.shares_memory(x, y)
        assert y.flags.owndata


# -- effects and named axes ---------------------------------------------------------------------


def test_effects_happen_at_each_step_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    def step(i: Any, c: Any) -> Any:
        ft.debug.print("i={i} c={c}", i=i, c=c, ordered=True)
        return c * 2

    ft.grad(lambda x: lax.fori_loop(0, 3, step, x))(1.0)
    assert capsys.readouterr().out == "i=0 c=1.0\ni=1 c=2.0\ni=2 c=4.0\n"


def test_effects_of_lanes_stop_with_the_lane() -> None:
    seen: list[tuple[int, int]] = []

    def count(n: Any) -> Any:
        def step(i: Any) -> Any:
            ft.debug.callback(lambda i, n: seen.append((int(n), int(i))), i, n)
            return i + 1

        return lax.while_loop(lambda i: i < n, step, 0)

    same(ft.vmap(count)(np.array([2, 0, 1])), np.array([2, 0, 1]))
    assert sorted(seen) == [(1, 0), (2, 0), (2, 1)]


def test_collectives_inside_loops() -> None:
    def f(x: Any) -> Any:
        return lax.fori_loop(0, 2, lambda i, c: c + lax.psum(c, "i"), x)

    x = np.array([1.0, 2.0])
    same(ft.vmap(f, axis_name="i")(x), np.array([13.0, 14.0]))


# -- programs -----------------------------------------------------------------------------------


def test_a_small_body_keeps_its_carry_alone() -> None:
    """What a step computes between is cheaper to compute again than to keep."""

    def step(s: Any, _: Any) -> Any:
        x, y = s
        a = x * y - x
        return (x + a * (y - a), y * a * x), None

    def f(x: Any) -> Any:
        return sum(lax.scan(step, (x, x), None, length=50)[0])

    jaxpr = ft.make_jaxpr(ft.grad(f))(1.0).jaxpr
    forward = next(e for e in jaxpr.eqns if e.primitive.name == "scan")
    assert [v.aval.shape for v in forward.outputs] == [(50,), (50,)] or [
        v.aval.shape for v in forward.outputs
    ] == [(), (), (50,), (50,)]


def test_what_costs_much_is_kept() -> None:
    """A product and a sine are not computed again."""
    f = lambda w, x: np.sum(lax.fori_loop(0, 7, lambda i, c: np.sin(w @ c), x))
    jaxpr = ft.make_jaxpr(ft.grad(f))(W, A).jaxpr
    backward = [e for e in jaxpr.eqns if e.primitive.name == "scan"][-1]
    names = [e.primitive.name for e in backward.params["jaxpr"].eqns]
    assert "sin" not in names
    assert "cos" not in names


def test_the_derivative_of_a_quotient_divides_once() -> None:
    """What it recomputes is made of the reciprocal; what the user's program tests is not."""

    def backward(step: Callable[..., Any]) -> list[str]:
        f = lambda x: lax.fori_loop(0, 7, step, x)
        for x in (0.75, -2.5):
            difference = (f(x + 1e-6) - f(x - 1e-6)) / 2e-6
            same(ft.grad(f)(x), difference, rtol=1e-6)
        jaxpr = ft.make_jaxpr(ft.grad(f))(1.5).jaxpr
        loop = [e for e in jaxpr.eqns if e.primitive.name == "scan"][-1]
        return [e.primitive.name for e in loop.params["jaxpr"].eqns]

    names = backward(lambda i, x: x / (2.0 + x * x) + x)
    assert "reciprocal" in names
    assert "div" not in names
    names = backward(lambda i, x: fnp.where(x / (2.0 + x * x) > 0.0, x / (2.0 + x * x), 0.5 * x))
    assert "div" in names


def test_products_of_all_steps_are_one_product() -> None:
    """The cotangent of a large matrix is not added up step by step; the values are the same."""
    w, x, v = (RNG.normal(size=shape) * 0.2 for shape in ((24, 24), (6, 24), (24, 24)))

    def loss(w: Any, v: Any, x: Any, unroll: Any = 1) -> Any:
        def step(h: Any, row: Any) -> Any:
            h = np.tanh(w @ h + row @ v + w @ row)
            return h, np.tensordot(h, v, 1)

        h, ys = lax.scan(step, x[0], x, unroll=unroll)
        return np.sum(h) + np.sum(ys**2)

    gradient = ft.grad(loss, argnums=(0, 1, 2))
    written_out = ft.grad(lambda w, v, x: loss(w, v, x, True), argnums=(0, 1, 2))
    same(gradient(w, v, x), written_out(w, v, x))
    same(
        ft.vmap(gradient, (None, 0, 0))(w, np.stack([v, -v]), np.stack([x, x + 1]))[0][1],
        written_out(w, -v, x + 1)[0],
    )
    eqns = ft.make_jaxpr(gradient)(w, v, x).jaxpr.eqns
    assert [e.primitive.name for e in eqns].count("dot_general") >= 4
    backward = [e for e in eqns if e.primitive.name == "scan"][-1]
    carries = backward.inputs[backward.params["num_consts"] :][: backward.params["num_carry"]]
    assert all(a.aval.size < 24 * 24 for a in carries)


def _sums_carried_back(loss: Callable[..., Any], *args: Any) -> int:
    """How many carries of the backward pass are as large as the first argument."""
    eqns = ft.make_jaxpr(ft.grad(loss))(*args).jaxpr.eqns
    backward = [e for e in eqns if e.primitive.name == "scan"][-1]
    carries = backward.inputs[backward.params["num_consts"] :][: backward.params["num_carry"]]
    return sum(a.aval.size >= args[0].size for a in carries)


@pytest.mark.parametrize("equation", ["bij,bj->bi", "bij,jk->bik"])
def test_products_with_other_axes_are_put_off_too(equation: str) -> None:
    """Axes of both factors, or contracted ones that do not come first."""
    w, x = RNG.normal(size=(3, 14, 14)) * 0.2, RNG.normal(size=(5, 3, 14))

    def loss(w: Any, x: Any, unroll: Any = 1) -> Any:
        def step(h: Any, row: Any) -> Any:
            by = h if equation == "bij,bj->bi" else h.T
            after = np.einsum(equation, w, by)
            return np.tanh(after if after.ndim == 2 else after.sum(2)) + row, None

        return np.sum(lax.scan(step, x[0], x, unroll=unroll)[0] ** 2)

    same(ft.grad(loss)(w, x), ft.grad(lambda w: loss(w, x, True))(w))
    assert _sums_carried_back(loss, w, x) == 0


def test_no_more_is_noted_for_a_product_than_fits_in_memory() -> None:
    """24 numbers at each step are 64 MB after 350 000 steps."""

    def loss(steps: int) -> Callable[..., Any]:
        return lambda w, x: np.sum(lax.fori_loop(0, steps, lambda i, h: np.tanh(w @ h), x))

    w, x = np.eye(24), np.ones(24)
    assert _sums_carried_back(loss(300_000), w, x) == 0
    assert _sums_carried_back(loss(400_000), w, x) == 1


def test_cotangents_of_what_is_read_in_places_are_added_in_place() -> None:
    """No step of the backward pass makes an array as large as the one that is read."""
    table = np.linspace(0, 1, 50)

    def f(table: Any, n: Any) -> Any:
        table = fnp.array(table)
        step = lambda i, c: np.sin(c) + table[i] * lax.dynamic_slice(table, (2 * i,), (3,))[1]
        return lax.fori_loop(0, n, step, 0.0)

    expected = ft.grad(lambda t: _walked(t, 7))(table)
    same(ft.grad(lambda t: f(t, 7))(table), expected)
    same(ft.grad(f)(table, np.array(7)), expected)
    jaxpr = ft.make_jaxpr(ft.grad(lambda t: f(t, 7)))(table).jaxpr
    body = [e for e in jaxpr.eqns if e.primitive.name == "scan"][-1].params["jaxpr"]
    large = {e.primitive.name for e in body.eqns if any(v.aval.shape == (50,) for v in e.outputs)}
    assert large == {"scatter_add", "dynamic_update_slice"}


def _walked(table: Any, n: int) -> Any:
    c = 0.0
    for i in range(n):
        c = np.sin(c) + table[i] * table[2 * i + 1]
    return c


def test_what_every_step_would_compute_alike_is_computed_before() -> None:
    def f(w: Any, x: Any) -> Any:
        return np.sum(lax.fori_loop(0, 6, lambda i, c: np.tanh(np.cos(w).T @ c) + np.exp(w[0]), x))

    same(f(W, A), np.sum(_stepped(W, A)))
    same(
        ft.grad(f, argnums=(0, 1))(W, A), ft.grad(lambda w, x: np.sum(_stepped(w, x)), (0, 1))(W, A)
    )
    for g in (f, ft.grad(f)):
        for eqn in ft.make_jaxpr(g)(W, A).jaxpr.eqns:
            if eqn.primitive.name == "scan":
                inside = {e.primitive.name for e in eqn.params["jaxpr"].eqns}
                assert not inside & {"cos", "exp"}


def _stepped(w: Any, c: Any) -> Any:
    for _ in range(6):
        c = np.tanh(np.cos(w).T @ c) + np.exp(w[0])
    return c


def _products(jaxpr: Any) -> int:
    return sum(e.primitive.name == "dot_general" for e in jaxpr.eqns)


def test_products_of_what_is_captured_come_before_the_loop() -> None:
    """Out of all loops around them; then derivatives have them once, and not at each step."""

    def loop(w: Any, x: Any, around: bool) -> Any:
        step = lambda _, c: np.tanh((w @ w.T + np.eye(3)) @ c)
        inner = lambda c: lax.fori_loop(0, 2, step, c)
        go_on, more = lambda c: c[0] < 3, lambda c: (c[0] + 1, inner(c[1]))
        return np.sum(lax.while_loop(go_on, more, (0, x))[1] if around else inner(x))

    def written_out(w: Any, x: Any, around: bool) -> Any:
        for _ in range(6 if around else 2):
            x = np.tanh((w @ w.T + np.eye(3)) @ x)
        return np.sum(x)

    for around in (False, True):
        f, g = (lambda w, x, h=h, a=around: h(w, x, a) for h in (loop, written_out))
        same(f(W, A), g(W, A))
        same(ft.grad(f, (0, 1))(W, A), ft.grad(g, (0, 1))(W, A))
        same(ft.jvp(f, (W, A), (W, A)), ft.jvp(g, (W, A), (W, A)))
        jaxpr = ft.make_jaxpr(f)(W, A).jaxpr
        assert _products(jaxpr) == 1
        (held,) = [e for e in jaxpr.eqns if e.primitive.name in ("scan", "while")]
        body = held.params["body" if around else "jaxpr"]
        inner = [e.params["jaxpr"] for e in body.eqns if e.primitive.name == "scan"]
        assert _products((inner or [body])[0]) == 1


def test_what_stays_in_a_loop_although_it_is_captured() -> None:
    """Products that are larger than their factors, and what may fail, or act, if no step is."""
    outer = lambda x: lax.fori_loop(0, 3, lambda _, c: np.outer(x, x) @ c, x)
    assert _products(ft.make_jaxpr(outer)(np.ones(9)).jaxpr) == 0
    table = lambda x, i: lax.fori_loop(0, 0, lambda _, c: c + x[i] @ x, x[0])
    assert _products(ft.make_jaxpr(table)(np.eye(2), np.array(7)).jaxpr) == 0
    same(ft.jit(table)(np.eye(2), np.array(7)), np.array([1.0, 0.0]))
    once = lambda x, i: lax.fori_loop(0, 1, lambda _, c: c + x[i] @ x, x[0])
    with pytest.raises(IndexError):
        ft.jit(once)(np.eye(2), np.array(7))


def test_dead_and_unchanged_carries_are_dropped() -> None:
    def step(c: Any, x: Any) -> Any:
        used, dead, fixed = c
        return (used * fixed + x, np.sin(dead) * used, fixed), (used, dead)

    f = lambda x, k: lax.scan(step, (x, x, k), np.ones(4))[1][0]
    (eqn,) = [e for e in ft.make_jaxpr(f)(1.0, 2.0).jaxpr.eqns if e.primitive.name == "scan"]
    assert (eqn.params["num_consts"], eqn.params["num_carry"], len(eqn.outputs)) == (1, 1, 1) or (
        eqn.params["num_consts"],
        eqn.params["num_carry"],
        len(eqn.outputs),
    ) == (1, 1, 2)


def test_what_is_narrowed_holds_nothing_that_is_not_read() -> None:
    """A carry that stays is a const where it is read, and gone where it is not."""

    def f(x: Any, k: Any, n: Any) -> Any:
        def step(c: Any) -> Any:
            used, fixed, aside, limit, dead = c
            return used * fixed + 1.0, fixed, aside, limit, np.sin(dead) * used

        goes_on = lambda c: c[0] + c[3] < n
        return lax.while_loop(goes_on, step, (x, k, k + 1.0, n - 20.0, k + 2.0))[:4]

    jaxpr = ft.make_jaxpr(f)(1.0, 2.0, 20.0).jaxpr
    (eqn,) = [e for e in jaxpr.eqns if e.primitive.name == "while"]
    assert (eqn.params["num_cond_consts"], eqn.params["num_body_consts"]) == (2, 1)
    assert (len(eqn.inputs), len(eqn.outputs)) == (4, 1)
    same(f(1.0, 2.0, 20.0), (31.0, 2.0, 3.0, 0.0))

    def g(x: Any, k: Any) -> Any:
        step = lambda c, row: ((c[0] * np.exp(c[1]) + row, c[1], c[2]), None)
        return lax.scan(step, (x, k, k + 1.0), np.ones(4))[0]

    jaxpr = ft.make_jaxpr(g)(1.0, 2.0).jaxpr
    (eqn,) = [e for e in jaxpr.eqns if e.primitive.name == "scan"]
    assert (eqn.params["num_consts"], eqn.params["num_carry"]) == (1, 1)
    assert "exp" not in [e.primitive.name for e in eqn.params["jaxpr"].eqns]

    step = lambda c, row: ((c[0] + row, c[1]), None)
    h = lambda x, k: lax.scan(step, (x, k), np.ones(4))[0]
    jaxpr = ft.make_jaxpr(h)(1.0, 2.0).jaxpr
    (eqn,) = [e for e in jaxpr.eqns if e.primitive.name == "scan"]
    assert (eqn.params["num_consts"], eqn.params["num_carry"]) == (0, 1)


def test_what_is_wider_than_what_it_is_made_of_stays_inside() -> None:
    """It would be kept through all steps."""
    f = lambda x, k: lax.fori_loop(0, 4, lambda i, c: c * fnp.astype(k, np.float64) + 1.0, x)
    jaxpr = ft.make_jaxpr(f)(A, A.astype(np.float32)).jaxpr
    (eqn,) = [e for e in jaxpr.eqns if e.primitive.name == "scan"]
    assert "convert" in [e.primitive.name for e in eqn.params["jaxpr"].eqns]


@pytest.mark.parametrize("index", [-3, 0, 2, 3, 7])
def test_a_branch_that_is_known_is_all_that_is_left(index: int) -> None:
    f = lambda x: lax.switch(index, [np.sin, np.cos, np.exp], x)
    (eqn,) = ft.make_jaxpr(f)(A).jaxpr.eqns
    which = ["sin", "cos", "exp"][min(max(index, 0), 2)]
    assert eqn.primitive.name == which
    same(f(A), getattr(np, which)(A))


def test_unrolled_scans_are_the_same() -> None:
    step = lambda c, x: (np.sin(c) + x, (c * x, None))
    for reverse in (False, True):
        for unroll in (1, 2, 3, 7, True):
            plain = lax.scan(step, XS[0], XS, reverse=reverse)
            same(lax.scan(step, XS[0], XS, reverse=reverse, unroll=unroll), plain)


@pytest.mark.parametrize("checkpoint", [True, 2, "sqrt", 5, 100])
def test_checkpointed_scans_are_the_same(checkpoint: Any) -> None:
    step = lambda c, x: (np.sin(c) * c + x, c * x)

    def f(c: Any, x: Any, **options: Any) -> Any:
        c, ys = lax.scan(step, c, x, **options)
        return np.sum(c) + np.sum(ys**2)

    kept = ft.grad(lambda c, x: f(c, x, checkpoint=checkpoint), argnums=(0, 1))
    same(kept(XS[0], XS), ft.grad(f, argnums=(0, 1))(XS[0], XS))


# -- folds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 8])
def test_associative_scans_and_reductions(size: int) -> None:
    x = RNG.normal(size=(size, 2))
    same(lax.associative_scan(np.add, x), np.cumsum(x, 0))
    same(lax.associative_scan(np.add, x, reverse=True), np.cumsum(x[::-1], 0)[::-1])
    same(lax.associative_scan(np.multiply, x.T, axis=-1), np.cumprod(x.T, 1))
    same(lax.reduce(x, 0.0, lambda a, b: a + b, (0,)), x.sum(0))
    same(lax.reduce(x, -np.inf, lambda a, b: np.maximum(a, b), (0, 1)), x.max(initial=-np.inf))
    same(lax.reduce(x, 0.0, np.add, (1,)), x.sum(1))


def test_a_linear_recurrence_as_an_associative_scan() -> None:
    """Not commutative: pairs (a, b) that stand for x -> a x + b."""
    a, b = RNG.normal(size=(2, 6))
    then = lambda f, g: (f[0] * g[0], g[0] * f[1] + g[1])
    folded = lambda a: np.sum(np.sin(lax.associative_scan(then, (a, b))[1]))
    step = lambda h, ab: (ab[0] * h + ab[1],) * 2
    stepped = lambda a: np.sum(np.sin(lax.scan(step, 0.0, (a, b))[1]))
    same(folded(a), stepped(a))
    same(ft.grad(folded)(a), ft.grad(stepped)(a))
    same(ft.hessian(folded)(a), ft.hessian(stepped)(a))


def test_reduce_of_several_operands() -> None:
    """The greatest of a row, and where it stands."""
    places = np.broadcast_to(np.arange(3), XS.shape)

    def greater(a: Any, b: Any) -> Any:
        return np.maximum(a[0], b[0]), np.where(a[0] >= b[0], a[1], b[1])

    most, where = lax.reduce((XS, places), (-np.inf, 0), greater, (1,))
    same((most, where), (XS.max(1), XS.argmax(1)))


def test_map_one_by_one_and_in_batches() -> None:
    f = lambda x: {"square": x**2, "sum": np.sum(x)}
    expected = {"square": XS**2, "sum": XS.sum(1)}
    for batch_size in (None, 1, 2, 5, 100):
        same(lax.map(f, XS, batch_size=batch_size), expected)
    same(ft.grad(lambda x: np.sum(lax.map(np.sin, x, batch_size=2)))(XS), np.cos(XS))


# -- solvers ------------------------------------------------------------------------------------


def _newton(f: Any, x: Any) -> Any:
    return lax.while_loop(lambda x: np.abs(f(x)) > 1e-13, lambda x: x - f(x) / (2 * x), x)


def _root(a: Any) -> Any:
    return lax.custom_root(lambda x: x**2 - a, 1.0, _newton, lambda jvp, b: b / jvp(1.0))


def test_derivatives_of_a_root_are_implicit() -> None:
    same(_root(4.0), 2.0)
    same(ft.grad(_root)(4.0), 0.25)
    same(ft.jvp(_root, (4.0,), (1.0,))[1], 0.25)
    same(ft.grad(ft.grad(_root))(4.0), -1 / 32)
    a = np.array([4.0, 9.0])
    same(ft.vmap(ft.grad(ft.grad(ft.grad(_root))))(a), 3 / 8 * a**-2.5)
    steps = ft.make_jaxpr(ft.grad(_root))(4.0)
    assert "sweep" not in str(steps)


def _conjugate_gradients(matvec: Any, b: Any) -> Any:
    def step(c: Any) -> Any:
        x, r, p = c
        ap = matvec(p)
        alpha = (r @ r) / (p @ ap)
        after = r - alpha * ap
        return x + alpha * p, after, after + (after @ after) / (r @ r) * p

    return lax.while_loop(lambda c: c[1] @ c[1] > 1e-26, step, (0 * b, b, b))[0]


def test_derivatives_of_a_linear_solve_are_solves() -> None:
    matrix = W @ W.T + np.eye(3)
    inverse = np.linalg.inv(matrix)
    solve = lambda m, b: lax.custom_linear_solve(
        lambda x: m @ x, b, _conjugate_gradients, symmetric=True
    )
    loss = lambda m, b: np.sum(np.sin(solve(m, b)))
    x = inverse @ A
    back = inverse.T @ np.cos(x)
    same(solve(matrix, A), x, 1e-8)
    same(ft.grad(loss, argnums=(0, 1))(matrix, A), (-np.outer(back, x), back), 1e-8)
    second = -inverse.T @ np.diag(np.sin(x)) @ inverse
    same(ft.hessian(loss, argnums=1)(matrix, A), second, 1e-7)
    same(ft.vmap(solve, (None, 0))(matrix, XS), XS @ inverse.T, 1e-8)
    general = lambda b: lax.custom_linear_solve(
        lambda x: W @ x + x,
        b,
        lambda matvec, b: np.linalg.inv(W + np.eye(3)) @ b,
        transpose_solve=lambda vecmat, b: np.linalg.inv(W + np.eye(3)).T @ b,
    )
    same(ft.jacrev(general)(A), np.linalg.inv(W + np.eye(3)))
    same(ft.jacfwd(general)(A), np.linalg.inv(W + np.eye(3)))


# -- memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [2_000_000, 600_000, 150_000])
def test_a_gradient_keeps_to_its_budget_of_memory(memory: int) -> None:
    """Of 400 carries of 4 kB; a little more is for NumPy's temporaries, and for Python."""
    w, x = RNG.normal(size=(20, 20)) * 0.1, np.ones((20, 25))

    def loss(w: Any, x: Any) -> Any:
        return np.sum(lax.fori_loop(0, 400, lambda i, c: np.tanh(w @ c) + 0.5 * c, x))

    gradient = ft.grad(loss, argnums=(0, 1), memory=memory)
    same(gradient(w, x), ft.grad(loss, argnums=(0, 1))(w, x))
    tracemalloc.start()
    gradient(w, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < memory + 40_000


def test_a_budget_changes_only_what_is_kept() -> None:
    f = lambda x: np.sum(lax.scan(lambda c, y: (np.sin(c) + y, c * y), x, XS)[1])
    for memory in (10_000, 700):
        same(ft.value_and_grad(f, memory=memory)(A), ft.value_and_grad(f)(A))
    jitted = ft.jit(lambda x: ft.grad(f, memory=700)(x))
    same(jitted(A), ft.grad(f)(A))
