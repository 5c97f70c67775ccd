"""Taylor mode: jet, taylor, derivative and laplacian, against mpmath, nested grads and Hessians."""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest

import functrans as ft
import functrans.numpy as fnp
import functrans.scipy.special as sp
from functrans import lax
from functrans.ir import Jaxpr, jaxprs_in

Function = Callable[[Any], Any]

SCALAR: dict[str, tuple[Function, Function, float]] = {
    "tanh of sin": (lambda x: np.tanh(np.sin(x)), lambda x: mp.tanh(mp.sin(x)), 0.7),
    "exp": (np.exp, mp.exp, 0.3),
    "exp2": (np.exp2, lambda x: mp.mpf(2) ** x, 0.3),
    "expm1": (np.expm1, lambda x: mp.exp(x) - 1, 0.4),
    "log": (np.log, mp.log, 1.3),
    "log1p": (np.log1p, lambda x: mp.log(1 + x), 0.4),
    "sqrt": (np.sqrt, mp.sqrt, 1.3),
    "cbrt": (np.cbrt, mp.cbrt, 1.3),
    "real power": (lambda x: x**2.7, lambda x: x ** mp.mpf(2.7), 1.4),
    "power of itself": (lambda x: x**x, lambda x: x**x, 1.4),
    "whole power": (lambda x: x**7, lambda x: x**7, 0.8),
    "negative power": (lambda x: x**-3, lambda x: x**-3, 0.8),
    "quotient": (lambda x: np.sin(x) / (1 + x * x), lambda x: mp.sin(x) / (1 + x * x), 0.8),
    "product": (lambda x: np.sin(x) * np.cos(x), lambda x: mp.sin(x) * mp.cos(x), 0.8),
    "tan": (np.tan, mp.tan, 0.4),
    "atan": (np.arctan, mp.atan, 0.8),
    "asin": (np.arcsin, mp.asin, 0.4),
    "acos": (np.arccos, mp.acos, 0.4),
    "sinh": (np.sinh, mp.sinh, 0.4),
    "cosh": (np.cosh, mp.cosh, 0.4),
    "asinh": (np.arcsinh, mp.asinh, 0.4),
    "acosh": (np.arccosh, mp.acosh, 2.4),
    "atanh": (np.arctanh, mp.atanh, 0.4),
    "logistic": (sp.expit, lambda x: 1 / (1 + mp.exp(-x)), 0.4),
    "erf": (sp.erf, mp.erf, 0.4),
    "erfc": (sp.erfc, mp.erfc, 0.4),
    "erfinv": (sp.erfinv, mp.erfinv, 0.4),
    "lgamma": (sp.gammaln, mp.loggamma, 2.4),
    "digamma": (sp.digamma, mp.digamma, 2.4),
    "hypot": (lambda x: np.hypot(x, 2.0), lambda x: mp.sqrt(x * x + 4), 0.7),
    "atan2": (lambda x: np.arctan2(x, 2.0), lambda x: mp.atan(x / 2), 0.7),
    "logaddexp": (
        lambda x: np.logaddexp(x, x * x),
        lambda x: mp.log(mp.exp(x) + mp.exp(x * x)),
        0.7,
    ),
}


@pytest.mark.parametrize("name", SCALAR)
def test_coefficients_are_those_of_mpmath(name: str) -> None:
    f, reference, x = SCALAR[name]
    with mp.workdps(50):
        order = 6 if "gamma" in name else 10  # mpmath takes its time
        expected = mp.taylor(reference, mp.mpf(x), order)
        found = ft.taylor(f, x, order)
        for k, (c, e) in enumerate(zip(found, expected, strict=True)):
            assert abs(mp.mpf(float(c)) - e) <= 1e-12 * abs(e) + 1e-25, f"coefficient {k}"


def test_ten_derivatives_compiled() -> None:
    f, reference, x = SCALAR["tanh of sin"]
    y, terms = ft.jit(lambda x: ft.jet(f, (x,), ([1.0] + [0.0] * 9,)))(x)
    with mp.workdps(50):
        for k, d in enumerate([y, *terms]):
            expected = mp.diff(reference, mp.mpf(x), k)
            assert abs(mp.mpf(float(d)) - expected) <= 1e-12 * abs(expected)


# -- jet -----------------------------------------------------------------------------------------


def test_jet_along_a_bent_curve_of_several_arguments() -> None:
    """d^k/dt^k f(x(t), y(t)) for polynomials x and y."""

    def f(x: Any, y: dict[str, Any]) -> Any:
        return {"a": np.sin(x) @ y["w"], "b": (x * y["w"]).sum(), "n": 3}

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    series = ([*x[1:]], [{"w": v} for v in w[1:]])
    y, terms = ft.jet(f, (x[0], {"w": w[0]}), series)

    def along(t: float) -> Any:
        at = lambda c: sum(c[k] * t**k / math.factorial(k) for k in range(4))
        return f(at(x), {"w": at(w)})

    for key in ("a", "b"):
        g: Any = lambda t, key=key: along(t)[key]
        np.testing.assert_allclose(y[key], g(0.0), rtol=1e-14)
        for k in range(3):
            g = ft.grad(g)
            np.testing.assert_allclose(terms[key][k], g(0.0), rtol=1e-12)
    assert y["n"] == 3
    assert all(t.dtype.names == ("float0",) for t in terms["n"])


def test_jet_of_order_zero_and_without_movement() -> None:
    assert ft.jet(lambda x: x**2, (3.0,), ([],)) == (9.0, [])
    y, terms = ft.jet(lambda x: np.floor(x), (2.5,), ([1.0, 0.0],))
    assert y == 2.0
    assert terms == [0.0, 0.0]


def test_jet_of_integer_arguments() -> None:
    """They do not move; whatever stands for their derivatives is left out."""
    y, terms = ft.jet(lambda n, x: n * x**2, (3, 2.0), ([0, 0], [1.0, 0.0]))
    assert (y, terms) == (12.0, [12.0, 6.0])


def test_python_numbers_stay_python_numbers() -> None:
    y, terms = ft.jet(lambda x: x**3, (2.0,), ([1.0, 0.0],))
    assert type(y) is float
    assert [type(t) for t in terms] == [float, float]
    assert type(ft.derivative(lambda x: x**3, 2)(2.0)) is float


def test_single_precision_stays() -> None:
    x = np.float32(0.5)
    assert ft.taylor(np.sin, x, 4).dtype == np.float32
    assert ft.derivative(np.tanh, 3)(x).dtype == np.float32
    assert ft.laplacian(lambda x: np.sin(x).sum())(np.ones(3, np.float32)).dtype == np.float32


# -- taylor --------------------------------------------------------------------------------------


def test_taylor_in_a_direction_is_exact_for_polynomials() -> None:
    def f(p: dict[str, Any]) -> Any:
        return [p["a"] @ p["b"] * p["a"], p["b"].prod()]

    rng = np.random.default_rng(1)
    make = lambda: {"a": rng.normal(size=3), "b": rng.normal(size=3)}
    x, v, t = make(), make(), 0.3
    powers = t ** np.arange(4)
    coefficients = ft.taylor(f, x, 3, direction=v)
    for c, moved in zip(coefficients, f({k: x[k] + t * v[k] for k in x}), strict=True):
        np.testing.assert_allclose(np.tensordot(powers, c, 1), moved, rtol=1e-12)


def test_taylor_of_what_is_constant() -> None:
    np.testing.assert_array_equal(ft.taylor(lambda x: 2.0, 1.0, 3), [2.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(ft.taylor(lambda x: ft.stop_gradient(x) * x, 2.0, 2), [4, 2, 0])


# -- derivative ----------------------------------------------------------------------------------


def nested(f: Function, n: int) -> Function:
    for _ in range(n):
        f = ft.grad(f)
    return f


def test_derivative_composes() -> None:
    f, x = lambda x: np.tanh(x) * np.exp(x), 0.3
    third, fifth = nested(f, 3)(x), nested(f, 5)(x)
    d3 = ft.derivative(f, 3)
    for found in (
        d3(x),
        ft.jit(d3)(x),
        ft.derivative(ft.jit(f), 3)(x),
        ft.grad(ft.derivative(f, 2))(x),
    ):
        np.testing.assert_allclose(found, third, rtol=1e-12)
    for found in (
        ft.derivative(d3, 2)(x),
        ft.derivative(ft.derivative(ft.grad(f)), 3)(x),
        ft.jit(ft.grad(ft.jit(ft.grad(d3))))(x),
        ft.jacfwd(ft.jacrev(d3))(x),
    ):
        np.testing.assert_allclose(found, fifth, rtol=1e-11)
    xs = np.linspace(-1, 1, 5)
    np.testing.assert_allclose(ft.vmap(d3)(xs), [d3(x) for x in xs], rtol=1e-12)


def test_derivative_of_order_zero_is_the_function() -> None:
    assert ft.derivative(lambda x: x**2, 0)(3.0) == 9.0


def test_derivative_of_other_arguments_and_of_trees() -> None:
    def f(a: Any, x: Any, *, c: Any) -> Any:
        return {"y": a * x**3, "z": [c * np.ones(2) * x**2]}

    found = ft.derivative(f, 2, argnums="x")(np.arange(2.0), 2.0, c=5.0)
    np.testing.assert_allclose(found["y"], [0.0, 12.0])
    np.testing.assert_allclose(found["z"][0], [10.0, 10.0])


def test_holomorphic_derivative() -> None:
    z = 0.3 + 0.4j
    found = ft.derivative(lambda z: np.exp(1j * z) / z, 4, holomorphic=True)(z)
    with mp.workdps(40):
        expected = complex(mp.diff(lambda z: mp.exp(1j * z) / z, mp.mpc(z), 4))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "f", [lambda x: np.tanh(np.sin(x)), lambda x: np.sqrt(x) / (1 + x), np.log]
)
def test_the_cost_grows_with_the_square_of_the_order(f: Function) -> None:
    size = {n: len(ft.make_jaxpr(ft.derivative(f, n))(0.5).eqns) for n in (8, 16, 32)}
    assert size[16] < 4.5 * size[8]
    assert size[32] < 4.5 * size[16]


def test_a_whole_power_is_a_few_products() -> None:
    """As many as the exponent has digits."""
    powers = {n: ft.derivative(lambda x, n=n: lax.integer_pow(np.sin(x), n), 4) for n in (8, 64)}
    size = {n: len(ft.make_jaxpr(f)(0.5).eqns) for n, f in powers.items()}
    assert size[64] < 2.5 * size[8]


@pytest.mark.parametrize("f", [sp.gammaln, lambda x: x**2.5])
def test_the_order_is_not_bounded_by_the_stack(f: Function) -> None:
    """Every derivative of these is another function, so that series rest on series."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 180)
    try:
        ft.make_jaxpr(ft.derivative(f, 40))(2.5)
    finally:
        sys.setrecursionlimit(limit)


# -- laplacian -----------------------------------------------------------------------------------


def network(x: Any, params: list[Any]) -> Any:
    for w, b in params[:-1]:
        x = np.tanh(x @ w + b)
    return (x @ params[-1][0] + params[-1][1])[0]


def parameters(sizes: list[int]) -> list[Any]:
    rng = np.random.default_rng(2)
    pairs = itertools.pairwise(sizes)
    return [(rng.normal(size=(m, n)) / math.sqrt(m), rng.normal(size=n)) for m, n in pairs]


def by_hessian(f: Function, x: Any) -> Any:
    return np.trace(ft.hessian(f)(x), axis1=-2, axis2=-1)


def test_laplacian_of_a_network_composes() -> None:
    params = parameters([6, 8, 5, 1])
    f = functools.partial(network, params=params)
    x = np.random.default_rng(3).normal(size=6)
    lap, expected = ft.laplacian(f), by_hessian(f, x)
    for found in (
        lap(x),
        ft.jit(lap)(x),
        ft.laplacian(ft.jit(f))(x),
        ft.laplacian(ft.checkpoint(f))(x),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-11)
    np.testing.assert_allclose(
        ft.vmap(lap)(np.stack([x, -x])), [expected, by_hessian(f, -x)], rtol=1e-11
    )
    reference = ft.grad(lambda x: by_hessian(f, x))(x)
    for gradient in (
        ft.grad(lap)(x),
        ft.jacfwd(lap)(x),
        ft.jit(ft.grad(ft.laplacian(ft.jit(f))))(x),
    ):
        np.testing.assert_allclose(gradient, reference, rtol=1e-9)
    np.testing.assert_allclose(
        ft.laplacian(lap)(x), by_hessian(lambda x: by_hessian(f, x), x), rtol=1e-9
    )


def test_gradient_of_a_loss_on_the_laplacian_by_the_parameters() -> None:
    """A physics-informed network: the residual of Poisson's equation, differentiated by weights."""
    params, xs = parameters([3, 4, 1]), np.random.default_rng(4).normal(size=(5, 3))

    def loss(params: Any, laplacian: Any) -> Any:
        residual = ft.vmap(lambda x: laplacian(lambda x: network(x, params))(x))(xs)
        return np.mean((residual - 1.0) ** 2)

    found = ft.grad(loss)(params, ft.laplacian)
    expected = ft.grad(loss)(params, lambda f: functools.partial(by_hessian, f))
    for a, b in zip(ft.tree.leaves(found), ft.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_laplacian_of_trees_and_of_results_of_any_shape() -> None:
    def f(p: dict[str, Any], scale: float) -> Any:
        return (scale * p["a"] ** 3 * p["b"].sum(), p["b"] ** 2)

    found = ft.laplacian(f)({"a": np.array([1.0, 2.0]), "b": np.array([0.5, 1.5])}, 2.0)
    np.testing.assert_allclose(found[0], 2.0 * 6 * np.array([1.0, 2.0]) * 2.0)
    np.testing.assert_allclose(found[1], [2.0, 2.0])


def test_laplacian_through_custom_rules_products_and_orderings() -> None:
    @ft.custom_jvp
    def cube(x: Any) -> Any:
        return x**3

    cube.defjvps(lambda t, out, x: 3 * x**2 * t)

    @ft.custom_vjp
    def sine(x: Any) -> Any:
        return np.sin(x)

    sine.defvjp(lambda x: (np.sin(x), x), lambda x, ct: (np.cos(x) * ct,))
    w = np.random.default_rng(5).normal(size=(4, 4))

    def f(x: Any) -> Any:
        y = np.sort(cube(x) + sine(w @ x))
        return (np.outer(y, x) @ w).max() * np.cumprod(x)[-1] + np.linalg.norm(y[::2])

    x = np.random.default_rng(6).normal(size=4)
    np.testing.assert_allclose(ft.laplacian(f)(x), by_hessian(f, x), rtol=1e-10)


def test_laplacian_of_little() -> None:
    """No entries, one entry, no dependence, a result that is linear."""
    assert ft.laplacian(lambda x: x.sum())(np.zeros(0)) == 0.0
    assert ft.laplacian(lambda x: x**3)(2.0) == 12.0
    assert ft.laplacian(lambda x: 3.0)(np.ones(2)) == 0.0
    np.testing.assert_array_equal(ft.laplacian(lambda x: 2 * x)(np.ones(2)), [0.0, 0.0])
    both = ft.laplacian(lambda x, y: (x**2 * y**2).sum(), argnums=(0, 1))
    assert both(np.ones(2), np.ones(2)) == 8.0


def test_no_hessian_is_made() -> None:
    """Nothing in the program is larger than all first derivatives of the widest layer."""
    n, widest = 40, 8
    f = functools.partial(network, params=parameters([n, widest, 1]))
    g = lambda x: f(x * 2.0) + np.sum(np.sin(x) ** 2)
    program = ft.make_jaxpr(ft.laplacian(lambda x: f(x)))(np.ones(n)).jaxpr
    made = [v.aval.size for e in program.eqns for v in e.outputs]
    assert max(made) <= n * widest
    np.testing.assert_allclose(ft.laplacian(g)(np.ones(n)), by_hessian(g, np.ones(n)), rtol=1e-11)


# -- control flow ----------------------------------------------------------------------------------


def solver(x: Any) -> Any:
    """Steps of an integrator forwards, then backwards; one carry counts, one starts still."""

    def step(state: Any, t: Any) -> Any:
        y, v, n = state
        return (y + 0.1 * v * x, v - 0.1 * np.sin(y) * t, n + 1), y * v

    state, ys = lax.scan(step, (x, 1.0, 0), np.arange(5.0) / 5)
    (y, v, _), zs = lax.scan(step, state, ys, reverse=True)
    return y + v + zs.sum()


def root(x: Any) -> Any:
    """Newton's iteration, as often as it takes."""
    more = lambda s: np.abs(s[0] ** 2 - x) > 1e-13
    return lax.while_loop(more, lambda s: (0.5 * (s[0] + x / s[0]), s[1] + 1), (1.0 * x, 0))[0]


def branching(x: Any) -> Any:
    """A branch that depends on x only, one that does not depend on it, one on another value."""
    y = lax.cond(x > 0.5, lambda x: np.sin(x) * x, lambda x: 2.0, x)
    return lax.switch(1, [np.exp, np.cos], x) * lax.cond(y > 1.5, np.tanh, np.exp, y) + x * y


def counting(x: Any) -> Any:
    """A loop inside a branch inside a loop."""
    inner = lambda y: lax.fori_loop(0, 3, lambda i, z: z * np.cos(y) + i, y)
    body = lambda i, y: lax.cond(i % 2 == 0, inner, lambda y: y * x, y)
    return lax.fori_loop(0, 4, body, x)


CONTROL = [solver, root, branching, counting]


@pytest.mark.parametrize("x", [pytest.param(0.3, marks=pytest.mark.full), 0.8])
@pytest.mark.parametrize("f", CONTROL)
def test_control_flow(f: Function, x: float) -> None:
    exact = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
    expected = [nested(f, n)(x) for n in range(4)]
    exact([ft.derivative(f, n)(x) for n in range(4)], expected)
    exact(ft.jit(ft.derivative(f, 3))(x), expected[3])
    exact(ft.derivative(ft.grad(f), 2)(x), expected[3])
    exact(ft.derivative(ft.grad(ft.grad(f)))(x), expected[3])
    exact(ft.grad(ft.derivative(f, 2))(x), expected[3])
    exact(ft.derivative(ft.checkpoint(ft.jit(f)), 3)(x), expected[3])
    xs = np.array([x, x + 0.3])
    exact(ft.vmap(ft.derivative(f, 2))(xs), [nested(f, 2)(x) for x in xs])


@pytest.mark.parametrize("f", [root, *[pytest.param(f, marks=pytest.mark.full) for f in CONTROL]])
def test_laplacian_of_control_flow_on_lanes(f: Function) -> None:
    """By vmap, which makes lanes of a while, and of its gradient, which sweeps over its steps."""
    g = lambda xs: ft.vmap(f)(np.sin(xs)).sum() * ft.vmap(f)(xs).prod()
    xs = np.array([0.3, 0.8])
    np.testing.assert_allclose(ft.laplacian(g)(xs), by_hessian(g, xs), rtol=1e-10)
    hessian_of_gradient = ft.jacfwd(ft.jacfwd(ft.grad(g)))(xs)
    expected = np.trace(hessian_of_gradient, axis1=1, axis2=2)
    np.testing.assert_allclose(ft.laplacian(ft.grad(g))(xs), expected, rtol=1e-10)


def all_equations(jaxpr: Jaxpr) -> list[Any]:
    """The equations of a program and of the programs in it."""
    inner = [e for eqn in jaxpr.eqns for j in jaxprs_in(eqn.params) for e in all_equations(j)]
    return [*jaxpr.eqns, *inner]


def test_loops_and_calls_in_rules() -> None:
    """The derivative of x^3 by a loop over the tangent, that of exp by a call on the result."""

    @ft.custom_jvp
    def cube(x: Any) -> Any:
        return x**3

    @cube.defjvp
    def cube_jvp(primals: Any, tangents: Any) -> Any:
        (x,), (t,) = primals, tangents
        return cube(x), lax.fori_loop(0, 2, lambda i, y: y * x, 3.0 * t)

    @ft.custom_jvp
    def exponential(x: Any) -> Any:
        return np.exp(x)

    times = ft.jit(lambda a, b: a * b)
    exponential.defjvps(lambda t, out, x: times(out, t))
    for n in range(5):
        found = ft.derivative(lambda x: exponential(cube(x)), n)(0.7)
        np.testing.assert_allclose(found, nested(lambda x: np.exp(x**3), n)(0.7), rtol=1e-12)


@pytest.mark.parametrize(("f", "name"), [(solver, "scan"), (root, "while")])
def test_a_loop_stays_one_loop(f: Function, name: str) -> None:
    """Its body is expanded once, whatever the order."""

    def loops(order: int) -> int:
        program = ft.make_jaxpr(lambda x: ft.taylor(f, x, order))(0.8).jaxpr
        return sum(e.primitive.name == name for e in all_equations(program))

    assert loops(8) == loops(0) > 0


# -- edges and effects ---------------------------------------------------------------------------

EDGES: dict[str, tuple[Function, float]] = {
    "a branch not taken": (lambda x: np.where(x > 0, np.log(x), 0.0), 0.0),
    "abs": (np.abs, 0.0),
    "sign": (np.sign, 0.0),
    "relu": (ft.nn.relu, 0.0),
    "x ** 0.": (lambda x: x**0.0, 0.0),
    "x ** 3.": (lambda x: x**3.0, 0.0),
    "sqrt squared": (lambda x: np.sqrt(x) ** 2, 0.0),
    "a quotient not taken": (lambda x: np.where(x == 0, 1.0, np.sin(x) / x), 0.0),
    "maximum": (lambda x: np.maximum(x, 1.0), 1.0),
    "maximum of what is curved": (lambda x: np.maximum(x**2, x), 1.0),
    "clip": (lambda x: np.clip(x, 0.0, 1.0), 1.0),
    "max": (lambda x: np.max(fnp.stack([x, x**2, x**3])), 1.0),
    "norm": (lambda x: np.linalg.norm(x * np.ones(2)), 0.0),
    "std": (lambda x: np.std(x * np.ones(3)), 1.0),
    "xlogy": (lambda x: sp.xlogy(x, x), 0.0),
    "atan2": (lambda x: np.arctan2(x, x), 0.0),
    "sort": (lambda x: np.sort(fnp.stack([x**2, x, 2.0 * x]))[1], 1.0),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges_are_those_of_nested_grads(name: str) -> None:
    f, x = EDGES[name]
    with np.errstate(all="ignore"):
        found = [float(ft.derivative(f, n)(x)) for n in range(4)]
        expected = [float(f(x)), *[float(nested(f, n)(x)) for n in (1, 2, 3)]]
    np.testing.assert_array_equal(found, expected)


def test_effects_take_place_once(capfd: pytest.CaptureFixture[str]) -> None:
    """Those of the function itself; rules for derivatives take place where there is no function."""

    @ft.custom_jvp
    def loud(x: Any) -> Any:
        ft.debug.print("loud")
        return 2.0 * x

    @loud.defjvp
    def loud_jvp(primals: Any, tangents: Any) -> Any:
        ft.debug.print("rule")
        return loud(primals[0]), 2.0 * tangents[0]

    def f(x: Any) -> Any:
        def step(c: Any, _: Any) -> Any:
            ft.debug.print("step")
            return np.sin(c), None

        c, _ = lax.scan(step, loud(x), None, length=2)
        ft.debug.print("at {}", x)
        ft.debug.print("at {}", x)
        return c

    for g in (lambda x: ft.taylor(f, x, 3), ft.laplacian(f), ft.derivative(f, 4)):
        for call in (g, ft.jit(g)):
            call(np.float64(0.5))
            assert capfd.readouterr().out == "loud\nstep\nstep\nat 0.5\nat 0.5\n"


def test_no_grad_makes_constants() -> None:
    def f(x: Any) -> Any:
        with ft.no_grad():
            c = x**2
        return c * x

    np.testing.assert_array_equal(ft.taylor(f, 3.0, 2), [27.0, 9.0, 0.0])
