"""Loops whose bodies are tiny run in registers, or in lanes, and do what the evaluator does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
from functrans import lax
from functrans.bind import eval_jaxpr
from functrans.errors import OutOfBoundsError
from jit.pipeline import Executable, compile_jaxpr
from jit.runtime import threads
from tests.agreement import TOLERANCE
from tests.jit.loop_programs import narrower, run, targets

RNG = np.random.default_rng(5)


def compiled(f: Callable[..., Any], *args: Any) -> tuple[Executable, list[Any]]:
    """f as native code, and its inputs: captured arrays, then the leaves of the arguments."""
    closed = ft.make_jaxpr(f)(*args)
    return compile_jaxpr(closed.jaxpr), [*closed.consts, *map(np.asarray, ft.tree.leaves(args))]


def forms(executable: Executable) -> list[str]:
    """The form of each loop and branch that the report tells of."""
    return [
        line.split(" as ")[1].split(":")[0] for line in executable.report.kernels if " as " in line
    ]


def check(f: Callable[..., Any], *args: Any, form: str | None = "registers") -> None:
    """Native code agrees with the evaluator, and every loop has the form."""
    executable, inputs = compiled(f, *args)
    wanted = eval_jaxpr(ft.make_jaxpr(f)(*args).jaxpr, inputs)
    for got, value in zip(executable(inputs), wanted, strict=True):
        assert got.dtype == np.asarray(value).dtype
        close(got, value)
    if form is not None:
        assert set(forms(executable)) == {form}, executable.report.kernels


def close(got: Any, wanted: Any) -> None:
    """Equal up to rounding."""
    tolerance = TOLERANCE.get(np.asarray(wanted).dtype.itemsize, 0.0)
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


def lorenz(s: Any) -> Any:
    x, y, z = s[..., 0], s[..., 1], s[..., 2]
    return fnp.stack([10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z], -1)


def rk4(s: Any, h: float = 0.01) -> Any:
    k1 = lorenz(s)
    k2 = lorenz(s + h / 2 * k1)
    k3 = lorenz(s + h / 2 * k2)
    k4 = lorenz(s + h * k3)
    return s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def trajectory(s: Any, length: int = 20) -> Any:
    return lax.scan(lambda c, _: (rk4(c), c), s, None, length=length)


def recurrence(x: Any, n: int = 30) -> Any:
    return lax.fori_loop(0, n, lambda i, c: 0.9 * c + 0.1 * fnp.sin(c) + 0.01 * i, x)


def newton(x: Any) -> Any:
    return lax.fori_loop(0, 12, lambda i, v: v - (v * v - 2.0) / (2.0 * v), x)


def branches(x: Any) -> Any:
    def body(c: Any, k: Any) -> Any:
        c = lax.cond(
            c > 0.5,
            lambda c: fnp.exp(-c) * fnp.tanh(k) + fnp.sin(c),
            lambda c: fnp.cos(c * k) + 0.25 * fnp.log1p(c * c),
            c,
        )
        return c, lax.switch(k.astype(int) % 3, [lambda c: c, lambda c: -c, lambda c: c * c], c)

    return lax.scan(body, x, np.arange(9.0))


def apart(x: Any) -> Any:
    """Branches that are none of each other's business read what is computed for them."""
    y, n = fnp.exp(0.1 * x), 3

    def walk(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda y: lax.fori_loop(0, n, lambda i, c: f(c) * y, y)

    return lax.cond(x > 0.5, walk(fnp.sin), walk(lambda c: fnp.cos(c) + 1.0), y), y


def shifted(x: Any) -> Any:
    """An unrolled loop reads memory, and registers, at another place in each of its steps."""

    def outer(c: Any, k: Any) -> Any:
        y = x[:3] * c
        step = lambda d, j: (d * 0.5 + x[(j + k) % 5] + y[(j * k) % 3], d)
        d, ds = lax.scan(step, c, np.arange(3))
        return 0.1 * d, ds

    return lax.scan(outer, 1.0, np.arange(4))


def mixed(x: Any) -> Any:
    """Single and double precision in one body."""

    def body(c: Any, k: Any) -> Any:
        return c * 0.5 + fnp.sin(k).astype(np.float64) * c, fnp.cos(c).astype(np.float32) * k

    return lax.scan(body, x, np.linspace(0.0, 1.0, 5, dtype=np.float32))


def nested(a: Any) -> Any:
    def outer(c: Any, x: Any) -> Any:
        d = lax.fori_loop(0, 5, lambda i, d: 0.5 * d + x[i % 3], c)
        e, ys = lax.scan(lambda e, z: (e + z, e * z), 0.0, x)
        return d + e, (ys, c)

    return lax.scan(outer, 0.0, a)


def spilled(a: Any) -> Any:
    """An inner loop too long to be unrolled, over an array that lies in registers."""

    def outer(c: Any, x: Any) -> Any:
        e, ys = lax.scan(lambda e, z: (fnp.sin(0.5 * e + z), fnp.exp(-e * z)), c, x * c)
        return e + 0.01 * ys[7] * ys.sum(), ys[::5]

    return lax.scan(outer, 0.5, a)


def halvings(x: Any) -> Any:
    return lax.while_loop(lambda c: c[0] > 1.0, lambda c: (c[0] * 0.5, c[1] + 1), (x, 0))


def tables(t: Any) -> Any:
    """Reads and writes at places that only the running loop knows."""

    def body(c: Any, i: Any) -> Any:
        j = (i * 7) % 16
        w = fnp.at(fnp.arange(4.0) * c)[i % 4].set(c)
        w = fnp.at(w)[fnp.array([0, 1, 0])].add(c)
        u = lax.dynamic_update_slice(w, w[:2] * 2.0, (i % 5,))
        return 0.5 * c + t[j] + w[(i + 1) % 4], (u, lax.dynamic_slice(u, (i,), (2,)))

    return lax.scan(body, 0.25, np.arange(20))


def looked_up(t: Any) -> Any:
    """Reads a table where only the carry knows."""

    def body(c: Any, _: Any) -> Any:
        j, s = c
        return ((5 * j + 3) % 16, 0.5 * s + t[j] * t[15 - j]), s

    return lax.scan(body, (1, 0 * t[0]), None, length=20)


def reductions(z: Any) -> Any:
    def body(c: Any, x: Any) -> Any:
        s = fnp.cumsum(c * x)
        m = fnp.outer(s, x) @ c
        return m / (1.0 + abs(m).max()), (fnp.argmax(fnp.sin(s)), s.min(), (s > 0).any())

    return lax.scan(body, z, np.linspace(-1.0, 1.0, 40).reshape(8, 5))


def kinds(n: Any) -> Any:
    """Integers, booleans, keys of random numbers, and what is only counted."""

    def body(c: Any, x: Any) -> Any:
        count, flag, small = c
        flag = fnp.logical_xor(flag, x % 3 == 0)
        return (count * 3 + x, flag, (small + x.astype(np.uint8)).astype(np.uint8)), flag

    return lax.scan(body, (n, True, np.uint8(250)), np.arange(11))


def orbit(z: Any) -> Any:
    return lax.scan(lambda z, _: (z * z + (0.3j - 0.1), abs(z)), z, None, length=9)


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "recurrence": (recurrence, (1.5,)),
    "lorenz": (trajectory, (np.array([1.0, 2.0, 3.0]),)),
    "branches": (branches, (0.3,)),
    "apart": (apart, (0.25,)),
    "shifted": (shifted, (RNG.random(5),)),
    "mixed": (mixed, (0.75,)),
    "nested": (nested, (np.arange(12.0).reshape(4, 3),)),
    "spilled": (spilled, (RNG.random((3, 40)),)),
    "complex spilled": (spilled, (RNG.random((3, 40)) * 0.5j,)),
    "halvings": (halvings, (1000.0,)),
    "tables": (tables, (RNG.random(16),)),
    "looked up": (looked_up, (RNG.random(16),)),
    "complex looked up": (looked_up, (RNG.random(16) + 1j,)),
    "reductions": (reductions, (np.arange(5.0),)),
    "kinds": (kinds, (3,)),
    "complex": (orbit, (0.1 + 0.2j,)),
    "float32": (lambda x: recurrence(x), (np.float32(0.5),)),
    "no step": (lambda x: (trajectory(x, 0), recurrence(x, 0)), (np.array([1.0, 2.0, 3.0]),)),
    "one step": (lambda x: (trajectory(x, 1), recurrence(x, 1)), (np.array([1.0, 2.0, 3.0]),)),
    "never": (halvings, (0.5,)),
    "nan": (recurrence, (np.nan,)),
    "backwards": (
        lambda x: lax.scan(lambda c, k: (c * 0.5 + k, c), x, np.arange(6.0), reverse=True),
        (2.0,),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_values(name: str) -> None:
    """The same values as the evaluator's, whatever is carried."""
    f, args = PROGRAMS[name]
    check(f, *args)


LANES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "newton": (newton, (np.linspace(1.0, 3.0, 1001),)),
    "rows": (trajectory, (RNG.random((37, 3)),)),
    "matrix": (lambda x: recurrence(x * 2.0), (RNG.random((9, 21)),)),
    "nine": (newton, (np.linspace(1.0, 3.0, 9),)),
    "shared": (
        lambda x: lax.scan(
            lambda c, k: ((c[0] * k + c[1], c[1] + 1.0), c[0]), (x, 0.0), np.arange(5.0)
        ),
        (RNG.random(50),),
    ),
    "float32": (newton, (np.linspace(1.0, 3.0, 77, dtype=np.float32),)),
    "complex": (orbit, (RNG.random(19) * 0.1j,)),
    "large": (newton, (np.linspace(1.0, 3.0, 40_000),)),
    "stopped": (lambda a: ft.vmap(cube_root)(a), (np.linspace(-3.0, 90.0, 29),)),
}


@pytest.mark.parametrize("kind", list(narrower()))
@pytest.mark.parametrize("name", ["lorenz", "spilled", "kinds", "newton", "rows", "stopped"])
def test_other_targets(name: str, kind: str) -> None:
    """The same with shorter vectors, and without masks."""
    f, args = (PROGRAMS | LANES)[name]
    executable, inputs = compiled(f, *args)
    for got, value in zip(
        run(executable.program, inputs, narrower()[kind]), executable(inputs), strict=True
    ):
        close(got.reshape(np.shape(value)), value)


def test_one_thread_or_more_make_the_same_bits() -> None:
    """Lanes are cut into chunks that do not depend on the number of threads."""
    f = ft.jit(ft.value_and_grad(lambda x, k: fnp.sum(newton(x * k)), (0, 1)))
    x = np.linspace(1.0, 3.0, 40_000)
    first = ft.tree.leaves(f(x, 1.5))
    before = threads.num_threads()
    try:
        threads.set_num_threads(1)
        second = ft.tree.leaves(f(x, 1.5))
    finally:
        threads.set_num_threads(before)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", LANES)
def test_lanes(name: str) -> None:
    """Elements that do not depend on each other run the loop side by side."""
    f, args = LANES[name]
    check(f, *args, form="lanes")


def test_what_is_wide_runs_on_vectors() -> None:
    """A body of long products is a program; one of few elements calls functions on vectors."""

    def rnn(w: Any, h: Any) -> Any:
        return lax.fori_loop(0, 7, lambda i, h: fnp.tanh(w @ h), h)

    check(rnn, RNG.random((6, 6)), RNG.random(6))
    check(ft.grad(lambda w, h: rnn(w, h).sum(), (0, 1)), RNG.random((6, 6)), RNG.random(6))
    check(rnn, RNG.random((40, 40)), RNG.random(40), form="program")


GRADIENTS = [
    "shifted",
    "mixed",
    "recurrence",
    "lorenz",
    "branches",
    "nested",
    "spilled",
    "tables",
    "backwards",
]


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str) -> None:
    """A backward pass in registers too."""
    f, args = PROGRAMS[name]

    def loss(*args: Any) -> Any:
        return sum(fnp.sum(x * x) for x in ft.tree.leaves(f(*args)))

    check(ft.grad(loss), *args)


EXTREMES = [1.0, 0.0, -0.0, np.inf, -np.inf, np.nan, 1e300, 1e-300, 5e-324]


def with_zeros(x: Any, ks: Any) -> Any:
    """Some tangents are zero, some factors anything."""

    def body(c: Any, k: Any) -> Any:
        root = fnp.where(k > 0, fnp.sqrt(abs(k)), 0.0)
        return fnp.where(k > 1.5, c * k, fnp.exp(c) * root), c * root

    c, ys = lax.scan(body, x, ks)
    return c + ys.sum()


KS = np.array([0.5, 2.0, *EXTREMES, 2.0])


@pytest.mark.parametrize("start", EXTREMES)
def test_a_tangent_of_zero_stays_zero(start: float) -> None:
    """Whatever it is multiplied by: products are taken only where factors are ordinary numbers."""
    check(ft.grad(with_zeros, (0, 1)), start, KS)
    check(ft.grad(with_zeros, (0, 1)), start, KS[:2])


def test_a_tangent_of_zero_stays_zero_in_its_lane() -> None:
    """The lanes beside it have ordinary factors, or others of any kind."""
    starts = np.array([*EXTREMES, *np.linspace(-1.0, 1.0, 32), *EXTREMES])
    for ks in (KS, KS[:2]):
        check(ft.vmap(ft.grad(with_zeros), (0, None)), starts, ks, form="lanes")


@pytest.mark.parametrize("name", ["newton", "rows", "matrix", "float32"])
def test_gradients_in_lanes(name: str) -> None:
    """A backward pass in lanes too."""
    f, args = LANES[name]

    def loss(*args: Any) -> Any:
        return sum(fnp.sum(x * x) for x in ft.tree.leaves(f(*args)))

    check(ft.grad(loss), *args, form="lanes")


def relaxed(x: Any, rate: Any, p: Any) -> Any:
    """A loop over many points that share numbers."""

    def body(i: Any, v: Any) -> Any:
        return v - rate * (p[0] * v * v - p[1]) + fnp.concatenate([p[2:], -p[:1]])[0] * fnp.sin(v)

    return lax.fori_loop(0, 6, body, x)


@pytest.mark.parametrize("count", [9, 1000])
def test_gradients_of_what_lanes_share(count: int) -> None:
    """Each lane adds up its own part; the parts are added up after the loop."""
    x, p = np.linspace(1.0, 2.0, count), np.array([0.5, 2.0, 0.1])

    def loss(x: Any, rate: Any, p: Any) -> Any:
        return fnp.sum(relaxed(x, rate, p) ** 2)

    check(ft.grad(loss, (0, 1, 2)), x, 0.1, p, form="lanes" if count > 64 else None)

    def rows(s: Any, rates: Any) -> Any:
        return fnp.sum(lax.scan(lambda c, h: (rk4(c, h) - h * c, None), s, rates)[0])

    check(ft.grad(rows, (0, 1)), RNG.random((count, 3)), np.full(4, 0.01), form=None)


def growth(x: Any, rate: Any) -> Any:
    """As many steps as it takes."""

    def body(c: Any) -> Any:
        value, z, count = c
        return value * rate + fnp.sin(value), z[::-1] * value * 0.1 + 1.0, count + 1

    value, z, _ = lax.while_loop(lambda c: c[0] < 100.0, body, (x, fnp.ones(3) * x, 0))
    return value * z.sum()


def test_gradients_of_while_loops() -> None:
    """The steps are noted in memory that grows; also none at all, and many."""
    check(ft.grad(growth, (0, 1)), 1.0, 1.25)
    check(ft.grad(growth, (0, 1)), 200.0, 1.25)
    check(ft.grad(ft.grad(growth, 1), 1), 1.0, 1.25)
    check(ft.grad(lambda x, rate: growth(x, rate) ** 2 + growth(x, rate * 1.1)), 1.0, 1.25)

    def count(x: Any) -> Any:
        body = lambda c: (c[0] + 1, 0.999 * c[1] + 0.001 * fnp.sin(c[1]))
        return lax.while_loop(lambda c: c[0] < 20_000, body, (0, x))[1]

    scanned = lambda x: lax.fori_loop(0, 20_000, lambda i, c: 0.999 * c + 0.001 * fnp.sin(c), x)
    np.testing.assert_allclose(ft.jit(ft.grad(count))(1.5), ft.jit(ft.grad(scanned))(1.5), 1e-10)


@pytest.mark.parametrize("count", [9, 33])
def test_gradients_of_while_loops_in_lanes(count: int) -> None:
    """Each lane goes back over its own steps, some over none."""
    xs, rates = np.linspace(1.0, 120.0, count), np.linspace(1.5, 1.9, count)
    both = ft.grad(growth, (0, 1))
    check(ft.vmap(both), xs, rates, form="lanes")
    check(ft.vmap(both, (0, None)), xs, 1.5, form="lanes")
    check(ft.vmap(ft.grad(ft.grad(growth))), xs, rates, form=None)
    executable, inputs = compiled(ft.vmap(both), xs, rates)
    for target in targets().values():
        found = run(executable.program, inputs, target)
        for got, value in zip(found, executable(inputs), strict=True):
            close(got, value)


def cube_root(a: Any) -> Any:
    """Newton's method until it stands; nothing to do for 0."""

    def body(c: Any) -> Any:
        x, _ = c
        d = (x * x * x - a) / (3.0 * x * x)
        return x - d, d

    return lax.while_loop(lambda c: abs(c[1]) > 1e-9 * abs(c[0]), body, (a, a))[0]


def collatz(n: Any) -> Any:
    step = lambda x: lax.cond(x % 2 == 0, lambda x: x // 2, lambda x: 3 * x + 1, x)
    return lax.while_loop(lambda c: c[0] > 1, lambda c: (step(c[0]), c[1] + 1), (n, 0))[1]


@pytest.mark.parametrize("count", [8, 9, 31, 1000])
def test_lanes_stop_one_by_one(count: int) -> None:
    """Finished lanes keep their values, and the loop ends when the last has."""
    check(ft.vmap(cube_root), np.linspace(-3.0, 90.0, count), form="lanes")
    check(ft.vmap(cube_root), np.append(np.linspace(1.0, 9.0, count - 1), np.nan), form="lanes")
    check(ft.vmap(collatz), np.arange(1, count + 1), form="lanes")
    check(ft.vmap(cube_root), np.zeros(count), form="lanes")


def test_second_derivatives() -> None:
    """Loops of loops' derivatives."""
    check(ft.grad(ft.grad(recurrence)), 1.5)
    check(ft.hessian(lambda s: trajectory(s, 4)[0].sum()), np.array([1.0, 2.0, 3.0]), form=None)


def test_an_index_out_of_bounds_is_an_error() -> None:
    """Also where the array lies in registers."""

    def f(x: Any) -> Any:
        return lax.scan(lambda c, i: (c + (x * c)[i], None), 0.5, np.arange(4))[0]

    with pytest.raises(OutOfBoundsError, match="out of bounds for axis 0 with size 3"):
        ft.jit(f)(np.arange(3.0))


# -- lanes that need their neighbours ---------------------------------------------------------


def test_lanes_that_reach_further_at_each_step_are_given_up_at_once() -> None:
    """A stencil: after k steps an element depends on its k-th neighbours."""

    def heat(u: Any) -> Any:
        def step(_: Any, u: Any) -> Any:
            return fnp.at(u)[1:-1].add(0.2 * (u[2:] - 2.0 * u[1:-1] + u[:-2]))

        return lax.fori_loop(0, 20, step, u)

    check(heat, RNG.normal(size=200), form="program")
    executable, _ = compiled(heat, np.zeros(200))
    assert "in 200 lanes each reaches further into the others at each step" in str(
        executable.report.kernels
    )


def test_lanes_may_reach_into_their_neighbours_a_few_times() -> None:
    """A chain of three carries, each of which reads the next beside its own place."""

    def chain(u: Any) -> Any:
        def step(_: Any, c: Any) -> Any:
            a, b, d = c
            return a + 0.1 * fnp.pad(b, (0, 1))[1:], b + 0.1 * fnp.pad(d, (0, 1))[1:], 0.9 * d

        return lax.fori_loop(0, 20, step, (u, u + 1.0, u + 2.0))[0]

    check(chain, RNG.normal(size=100), form="lanes")


def test_rows_that_reach_into_their_neighbours_are_not_asked_for_again_and_again() -> None:
    """Their places are no plain multiples of the lane, and grow by one at every step."""

    def tree(v: Any) -> Any:
        def step(_: Any, v: Any) -> Any:
            return fnp.concatenate([0.5 * (v[:, 1:] + v[:, :-1]), v[:, :1]], 1)

        return lax.fori_loop(0, 60, step, v)

    check(tree, RNG.normal(size=(12, 61)), form="program")
    (reason,) = [
        line for line in compiled(tree, np.zeros((12, 61)))[0].report.kernels if "lanes" in line
    ]
    assert "in 732 lanes each reaches further into the others at each step" in reason
    assert "in 12 lanes there are more elements in each (61) than lanes" in reason


def test_products_of_complex_matrices_run_on_vectors_where_real_ones_fit_in_registers() -> None:
    def power(a: Any, v: Any) -> Any:
        return lax.fori_loop(0, 5, lambda _, v: 0.1 * (a @ v), v)

    a, v = RNG.normal(size=(11, 11)), RNG.normal(size=11)
    check(power, a, v, form="registers")
    check(power, a + 1j, v + 1j, form="program")


@pytest.mark.parametrize(("n", "form"), [(5, "registers"), (8, "program")])
def test_products_of_many_terms_run_on_vectors(n: int, form: str) -> None:
    """However they are divided: here into two for each of two gates."""

    def unit(w: Any, u: Any, h: Any, xs: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            gate = fnp.exp(-abs(w[0] @ h + u[0] @ x))
            return gate * h + (1.0 - gate) * fnp.tanh(w[1] @ h + u[1] @ x), None

        return lax.scan(step, h, xs)[0]

    w, u = RNG.normal(size=(2, n, n)), RNG.normal(size=(2, n, n // 2))
    h, xs = RNG.normal(size=n), RNG.normal(size=(7, n // 2))
    check(unit, w, u, h, xs, form=form)
    many = lambda *args: fnp.sum(unit(*args) ** 2)
    check(ft.grad(many, (0, 1, 2)), w, u, h, xs, form=None)
