"""What the PyTorch autograd tutorials teach, in functional form: one test for each of their points.

The numbers were computed with PyTorch in float64. docs/coming_from_pytorch.md tells the same story
in the same order.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import functrans as ft
import functrans.numpy as fnp

Array = np.ndarray


def test_01_the_graph_can_be_printed_and_drawn() -> None:
    def f(x: Array, y: Array) -> Array:
        return fnp.sum(x * y)

    x, y = np.ones(3), np.ones(3)
    text = str(ft.make_jaxpr(f)(x, y))
    assert text == (
        "{ lambda ; a:f64[3] b:f64[3]. let\n"
        "    c:f64[3] = mul a b\n"
        "    d:f64[] = reduce_sum[axes=(0,)] c\n"
        "  in (d,) }"
    )
    drawing = str(ft.draw(f)(x, y))
    assert drawing.startswith("digraph")
    assert "mul" in drawing
    assert "reduce_sum" in drawing


def test_02_the_value_comes_with_a_gradient_function() -> None:
    y, pullback = ft.vjp(np.sin, 1.0)
    assert_allclose(y, np.sin(1.0))
    assert_allclose(pullback(1.0)[0], np.cos(1.0))
    y, pushforward = ft.linearize(np.sin, 1.0)
    assert_allclose(y, np.sin(1.0))
    assert_allclose(pushforward(2.0), 2 * np.cos(1.0))


def test_03_adding_one() -> None:
    def f(x: Array) -> Array:
        return x + 1

    x = np.array([1.0, 2.0, 3.0])
    y, pullback = ft.vjp(f, x)
    assert_array_equal(y, [2.0, 3.0, 4.0])
    assert_array_equal(pullback(np.ones(3))[0], [1.0, 1.0, 1.0])
    assert_array_equal(ft.jacrev(f)(x), np.eye(3))


def test_04_python_control_flow_follows_values_at_each_call() -> None:
    def f(x: Any) -> Any:
        while x < 10:
            x = x * 3
        return x if x < 20 else x * x

    assert ft.grad(f)(5.0) == 3.0
    assert ft.grad(f)(2.0) == 9.0
    assert ft.grad(f)(8.0) == 2 * 24.0 * 3.0
    assert ft.grad(f)(11.0) == 1.0


def test_05_no_hidden_state_accumulates() -> None:
    def f(p: dict[str, Array]) -> Array:
        return fnp.sum(p["w"] ** 2) * p["b"]

    params = {"w": np.array([1.0, 2.0]), "b": np.float64(3.0)}
    first, second = ft.grad(f)(params), ft.grad(f)(params)
    assert_array_equal(first["w"], second["w"])
    assert first["b"] == second["b"] == 5.0
    total = ft.tree.map(operator.add, first, second)
    assert_array_equal(total["w"], [12.0, 24.0])
    assert total["b"] == 10.0


LINEAR = {"weight": np.ones((2, 2)), "bias": np.ones(2)}
A, B = np.array([1.0, 2.0]), np.array([13.0, 32.0])


def linear(m: dict[str, Array], x: Array) -> Array:
    return x @ m["weight"].T + m["bias"]


def test_06_frozen_parameters_are_not_in_argnums_and_unused_inputs_get_zeros() -> None:
    assert_array_equal(linear(LINEAR, A), [4.0, 4.0])
    assert_array_equal(linear(LINEAR, B), [46.0, 46.0])

    def d_sum(m: dict[str, Array], a: Array, b: Array) -> Array:
        c, _ = linear(m, a), linear(m, b)
        return fnp.sum(2 * c)

    grad_a, grad_b = ft.grad(d_sum, argnums=(1, 2))(LINEAR, A, B)
    assert_array_equal(grad_a, [4.0, 4.0])
    assert_array_equal(grad_b, [0.0, 0.0])


def test_07_gradients_of_intermediates_come_from_vjp_of_the_rest() -> None:
    c = linear(LINEAR, A)
    d, of_d = ft.vjp(lambda c: 2 * c, c)
    total, of_total = ft.vjp(fnp.sum, d)
    assert total == 16.0
    (grad_d,) = of_total(1.0)
    (grad_c,) = of_d(grad_d)
    assert_array_equal(grad_d, [1.0, 1.0])
    assert_array_equal(grad_c, [2.0, 2.0])


def network(p: tuple[Array, Array], x: Any) -> Array:
    return fnp.tanh(x * p[0]) @ p[1]


@pytest.mark.parametrize("wrap", [lambda f: f, ft.jit], ids=["plain", "jit"])
def test_08_derivatives_by_the_input_inside_a_loss(wrap: Any) -> None:
    """The residual of u' = -u (a PDE network), and WGAN-GP's penalty (|grad| - 1)^2."""
    p = (np.array([0.3, -0.7, 1.1]), np.array([0.5, 0.2, -0.4]))
    x = 0.6

    def residual(p: Any) -> Any:
        return (ft.grad(network, argnums=1)(p, x) + network(p, x)) ** 2

    grads = wrap(ft.grad(residual))(p)
    t = np.tanh(x * p[0])
    s = 1 - t**2
    value = s * p[0] @ p[1] + t @ p[1]
    by_w = 2 * value * ((1 - 2 * t * x * p[0]) * s + x * s) * p[1]
    by_v = 2 * value * (s * p[0] + t)
    assert_allclose(grads[0], by_w, rtol=1e-12)
    assert_allclose(grads[1], by_v, rtol=1e-12)

    def penalty(w: Array, xs: Array) -> Array:
        def critic(x: Array) -> Array:
            return fnp.sum(fnp.tanh(w @ x))

        gradients = ft.vmap(ft.grad(critic))(xs)
        return fnp.mean((fnp.sqrt(fnp.sum(gradients**2, axis=1)) - 1) ** 2)

    w = np.array([[0.5, -0.2], [0.1, 0.8], [-0.6, 0.3]])
    xs = np.array([[1.0, 0.5], [-0.3, 0.9], [0.2, 0.1], [0.7, -1.0]])
    assert_allclose(
        wrap(ft.grad(penalty))(w, xs), numerical(lambda w: penalty(w, xs), w), atol=1e-8
    )


def numerical(f: Any, x: Array, step: float = 1e-6) -> Array:
    """Central differences of a scalar function of one array."""
    out = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[index] = step
        out[index] = (f(x + e) - f(x - e)) / (2 * step)
    return out


SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3,), ()),
    ((3,), (4,)),
    ((3,), (2, 4)),
    ((3, 2), (3, 4)),
    ((2, 3, 2), (4, 2)),
]


@pytest.mark.parametrize(("into", "out"), SHAPES)
def test_09_vector_jacobian_products_of_any_rank(
    into: tuple[int, ...], out: tuple[int, ...], rng: np.random.Generator
) -> None:
    weights = rng.normal(size=(*out, *into))
    x, v, w = rng.normal(size=into), rng.normal(size=out), rng.normal(size=out)

    def f(x: Array) -> Array:
        return fnp.sin(fnp.tensordot(weights, x, axes=x.ndim))

    outputs, pullback = ft.vjp(f, x)
    jacobian = np.cos(np.tensordot(weights, x, axes=x.ndim))[(...,) + (None,) * x.ndim] * weights
    assert outputs.shape == out
    assert_allclose(pullback(v)[0], np.tensordot(v, jacobian, axes=len(out)), rtol=1e-12)
    assert pullback(v)[0].shape == into
    assert_allclose(ft.jacrev(f)(x), jacobian, rtol=1e-12)
    both = pullback(2 * v + w)[0]
    assert_allclose(both, 2 * pullback(v)[0] + pullback(w)[0], rtol=1e-10, atol=1e-14)


def test_10_the_options_of_autograd_grad_have_equivalents() -> None:
    def f(x: Array, y: Array) -> Array:
        return x**2 * y

    x, y = np.array([2.0, 3.0]), np.array([5.0, 7.0])
    _, pullback = ft.vjp(f, x, y)
    # grad_outputs, and retain_graph: the pullback takes them and can be called again.
    assert_array_equal(pullback(np.array([1.0, 10.0]))[0], [20.0, 420.0])
    # is_grads_batched.
    rows = ft.vmap(pullback)(np.eye(2))[0]
    assert_array_equal(rows, np.diag([20.0, 42.0]))
    # create_graph: a gradient is a function like any other.
    assert_array_equal(ft.grad(lambda x: fnp.sum(ft.vjp(f, x, y)[1](np.ones(2))[0]))(x), 2 * y)
    # inputs and only_inputs: argnums.
    assert_array_equal(ft.grad(lambda x, y: fnp.sum(f(x, y)), argnums=1)(x, y), x**2)


def test_11_a_gradient_needs_a_scalar() -> None:
    def doubled(x: Array) -> Array:
        return 2 * x

    with pytest.raises(TypeError) as error:
        ft.grad(doubled)(np.ones(3))
    message = str(error.value)
    assert "doubled" in message
    assert "test_tutorials.py" in message
    assert "f64[3]" in message
    assert "jacrev" in message
    assert "vjp" in message or "sum" in message


@pytest.mark.parametrize(
    "wrong", [np.ones(2), np.ones((3, 1)), (np.ones(3),), {"a": np.ones(3)}, "v"], ids=repr
)
def test_12_a_cotangent_of_the_wrong_form_is_an_error(wrong: Any) -> None:
    _, pullback = ft.vjp(lambda x: 2 * x, np.ones(3))
    with pytest.raises((TypeError, ValueError), match=r"f64\[3\]|cotangent"):
        pullback(wrong)


def test_12_the_error_names_the_leaf() -> None:
    _, pullback = ft.vjp(lambda x: {"a": x, "b": [x, x.sum()]}, np.ones(3))
    with pytest.raises(ValueError, match=r"\['b'\]\[1\]"):
        pullback({"a": np.ones(3), "b": [np.ones(3), np.ones(2)]})


def test_13_unused_inputs() -> None:
    def f(x: Array, spare: Array) -> Array:
        return fnp.sum(x)

    gradients = ft.grad(f, argnums=(0, 1))(np.ones(2), np.ones((2, 2)))
    assert_array_equal(gradients[1], np.zeros((2, 2)))
    with pytest.raises((TypeError, ValueError), match="spare"):
        ft.grad(f, argnums=(0, 1), unused="error")(np.ones(2), np.ones((2, 2)))


def test_14_a_pullback_can_be_called_again() -> None:
    _, pullback = ft.vjp(lambda x: x**3, np.array([1.0, 2.0]))
    for _ in range(3):
        assert_array_equal(pullback(np.ones(2))[0], [3.0, 12.0])


def test_15_several_gradients_in_a_row() -> None:
    def y(x: Array) -> Array:
        return x**2

    def z(x: Array) -> Array:
        return y(x) ** 2

    x = np.array([2.0, 3.0])
    assert_array_equal(ft.vjp(y, x)[1](np.ones(2))[0], [4.0, 6.0])
    assert_array_equal(ft.vjp(z, x)[1](np.ones(2))[0], [32.0, 108.0])


def test_16_higher_orders_need_no_flag() -> None:
    x = np.array([2.0, 3.0])

    def cubes(x: Array) -> Array:
        return fnp.sum(x**3)

    def first(x: Array) -> Array:
        return fnp.sum(ft.grad(cubes)(x))

    def second(x: Array) -> Array:
        return fnp.sum(ft.grad(first)(x))

    assert_array_equal(ft.grad(cubes)(x), [12.0, 27.0])
    assert_array_equal(ft.grad(first)(x), [12.0, 18.0])
    assert_array_equal(ft.grad(second)(x), [6.0, 6.0])


def test_17_integers() -> None:
    gradient = ft.grad(lambda x: x * x)(3)
    assert gradient == 6.0
    assert isinstance(gradient, float)
    with pytest.raises(TypeError, match=r"argument 0 \(x\).*astype\(float\)"):
        ft.grad(lambda x: fnp.sum(x * x))(np.array([1, 2, 3]))


def test_18_binary_cross_entropy_with_logits() -> None:
    target = np.array([0.1772627, -1.8320016, 3.8816659])

    def loss(w: Array, b: Array, x: Array) -> Array:
        return fnp.mean(ft.nn.binary_cross_entropy_with_logits(x @ w + b, np.zeros(3)))

    x, w = np.ones(5), np.zeros((5, 3))
    value, (by_w, by_b) = ft.value_and_grad(loss, argnums=(0, 1))(w, target, x)
    sigmoid = 1 / (1 + np.exp(-target))
    assert_allclose(value, 1.6120913, atol=1e-7)
    assert_allclose(by_b, sigmoid / 3, rtol=1e-12)
    assert_allclose(by_b, [0.1814, 0.0460, 0.3266], atol=1e-4)
    assert_allclose(by_w, np.broadcast_to(by_b, (5, 3)), rtol=1e-12)


@pytest.mark.parametrize("z", [1000.0, -1000.0])
def test_18_it_is_stable_far_out(z: float) -> None:
    f = ft.nn.binary_cross_entropy_with_logits
    for label in (0.0, 1.0):
        value, slope = ft.value_and_grad(f)(z, label)
        assert_allclose(value, max(z, 0.0) - z * label)
        assert_allclose(slope, float(z > 0) - label)
        assert_allclose(ft.grad(ft.grad(f))(z, label), 0.0)


def test_19_no_grad_and_detach() -> None:
    def with_context(x: Any) -> Any:
        with ft.no_grad():
            frozen = x**3
        return frozen * x

    @ft.no_grad
    def cube(x: Any) -> Any:
        return x**3

    def with_decorator(x: Any) -> Any:
        return cube(x) * x

    def with_transform(x: Any) -> Any:
        return ft.no_grad(lambda y: y**3)(x) * x

    def with_stop(x: Any) -> Any:
        return ft.stop_gradient(x**3) * x

    for f in (with_context, with_decorator, with_transform, with_stop):
        assert ft.grad(f)(2.0) == 8.0
        assert ft.jvp(f, (2.0,), (1.0,)) == (16.0, 8.0)
        assert ft.grad(ft.grad(f))(2.0) == 0.0
        assert ft.jacfwd(ft.grad(f))(2.0) == 0.0
        assert ft.grad(ft.jit(f))(2.0) == 8.0


def equations(jaxpr: Any) -> int:
    return len(getattr(jaxpr, "jaxpr", jaxpr).eqns)


def test_20_a_frozen_layer_costs_nothing_in_the_backward_pass() -> None:
    def loss(p: list[Array], x: Array) -> Array:
        for w in p:
            x = fnp.tanh(w @ x)
        return fnp.sum(x)

    def last_only(last: Array, frozen: list[Array], x: Array) -> Array:
        return loss([*frozen, last], x)

    layers, x = [np.eye(3) * k for k in (1.0, 2.0, 3.0)], np.ones(3)
    full = equations(ft.make_jaxpr(ft.grad(loss))(layers, x))
    tuned = equations(ft.make_jaxpr(ft.grad(last_only))(layers[-1], layers[:-1], x))
    forward = equations(ft.make_jaxpr(loss)(layers, x))
    one_layer = equations(ft.make_jaxpr(ft.grad(loss))(layers[:1], x))
    one_forward = equations(ft.make_jaxpr(loss)(layers[:1], x))
    assert tuned - forward <= one_layer - one_forward
    assert tuned < full


def test_21_value_and_gradient_of_a_plain_float() -> None:
    assert ft.value_and_grad(lambda x: x**2 + 3 * x + 1)(2.0) == (11.0, 7.0)


def z_of(a: Any, b: Any) -> Any:
    return a**2 + 3 * b + a * b


def test_22_two_arguments() -> None:
    value, gradient = ft.value_and_grad(z_of, argnums=(0, 1))(2.0, 3.0)
    assert value == 19.0
    assert gradient == (7.0, 5.0)


def test_23_one_step_of_sgd() -> None:
    optimizer = ft.optim.sgd(0.01)
    params = (2.0, 3.0)
    grads = ft.grad(z_of, argnums=(0, 1))(*params)
    params, _ = optimizer.update(params, grads, optimizer.init(params))
    assert_allclose(params, (1.93, 2.95), rtol=1e-15)


LOSSES = [
    9.666666666666666,
    0.9475533163246371,
    0.11605188102990889,
    0.035663148933123334,
    0.026851880990879567,
    0.02491052983197212,
    0.023675133622394665,
    0.02255632955399975,
    0.021495678631843134,
    0.020485405097130427,
]


@pytest.mark.parametrize("wrap", [lambda f: f, ft.jit], ids=["plain", "jit"])
def test_24_linear_regression(wrap: Any) -> None:
    xs, ys = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [3.0], [4.0]])

    def loss(params: dict[str, Array]) -> Array:
        return fnp.mean((xs * params["w"] + params["b"] - ys) ** 2)

    optimizer = ft.optim.sgd(0.01)

    def step(params: Any, state: Any) -> Any:
        value, grads = ft.value_and_grad(loss)(params)
        return value, *optimizer.update(params, grads, state)

    params: Any = {"w": 0.0, "b": 0.0}
    state = optimizer.init(params)
    step = wrap(step)
    losses = []
    for _ in range(100):
        value, params, state = step(params, state)
        losses.append(value)
    assert_allclose(losses[::10], LOSSES, rtol=1e-11)
    assert_allclose(params["w"], 1.1622707269398473, rtol=1e-12)
    assert_allclose(params["b"], 0.6310948746341264, rtol=1e-12)


@pytest.mark.parametrize("wrap", [lambda f: f, ft.jit], ids=["eager", "jit"])
def test_24_as_one_scan(wrap: Any) -> None:
    """All epochs as one program, with the optimiser's state in the carry."""
    xs, ys = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [3.0], [4.0]])
    optimizer = ft.optim.sgd(0.01)

    def loss(params: dict[str, Array]) -> Array:
        return fnp.mean((xs * params["w"] + params["b"] - ys) ** 2)

    def epoch(carry: Any, _: None) -> Any:
        params, state = carry
        value, grads = ft.value_and_grad(loss)(params)
        return optimizer.update(params, grads, state), value

    def train(params: Any) -> Any:
        init = (params, optimizer.init(params))
        (params, _), losses = ft.lax.scan(epoch, init, None, length=100)
        return params, losses

    params, losses = wrap(train)({"w": 0.0, "b": 0.0})
    assert_allclose(losses[::10], LOSSES, rtol=1e-11)
    assert_allclose(params["w"], 1.1622707269398473, rtol=1e-12)
    assert_allclose(params["b"], 0.6310948746341264, rtol=1e-12)


def test_25_a_mean_of_squares() -> None:
    def out(a: Array) -> Array:
        b = a + 3
        c = b * b * 3
        return c.mean()

    value, gradient = ft.value_and_grad(out)(np.array([2.0, 3.0]))
    assert value == 91.5
    assert_array_equal(gradient, [15.0, 18.0])


def test_26_writing_into_an_array() -> None:
    def n(m: Array) -> Array:
        n = fnp.zeros((1, 2))
        n[0, 0] = m[0, 0] ** 2
        n[0, 1] = m[0, 1] ** 3
        return n

    m = np.array([[2.0, 3.0]])
    for f in (n, ft.jit(n)):
        value, pullback = ft.vjp(f, m)
        assert_array_equal(value, [[4.0, 27.0]])
        assert_array_equal(pullback(m)[0], [[8.0, 81.0]])
        assert_array_equal(pullback(np.ones((1, 2)))[0], [[4.0, 27.0]])


def test_27_a_jacobian_has_the_outputs_first() -> None:
    """The tutorial stores gradients as columns and prints the transpose, [[4, 2], [3, 6]]."""

    def k(m: Array) -> Array:
        k = fnp.zeros((1, 2))
        k[0, 0] = m[0, 0] ** 2 + 3 * m[0, 1]
        k[0, 1] = m[0, 1] ** 2 + 2 * m[0, 0]
        return k

    m = np.array([[2.0, 3.0]])
    assert_array_equal(ft.vjp(k, m)[1](np.ones((1, 2)))[0], [[6.0, 9.0]])
    jacobian = ft.jacrev(k)(m)
    assert jacobian.shape == (1, 2, 1, 2)
    assert_array_equal(jacobian.reshape(2, 2), [[4.0, 3.0], [2.0, 6.0]])


def test_28_a_jacobian_row_by_row() -> None:
    def f(x: Array) -> Array:
        return fnp.stack([x[0] * x[1], x[1] ** 2, fnp.sin(x[0])])

    x = np.array([2.0, 3.0])
    expected = np.array([[3.0, 2.0], [0.0, 6.0], [np.cos(2.0), 0.0]])
    _, pullback = ft.vjp(f, x)
    by_hand = np.stack([pullback(row)[0] for row in np.eye(3)])
    for jacobian in (by_hand, ft.vmap(pullback)(np.eye(3))[0], ft.jacrev(f)(x), ft.jacfwd(f)(x)):
        assert_allclose(jacobian, expected, rtol=1e-14)


def test_29_the_jacobian_of_a_matrix_product() -> None:
    x, y = np.array([[2.0, 1.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])

    def f(x: Array) -> Array:
        return x @ y

    assert_array_equal(f(x), [[5.0, 8.0]])
    assert_array_equal(ft.jacrev(f)(x).reshape(2, 2), y.T)
    columns = np.stack([ft.vjp(f, x)[1](row[None])[0][0] for row in np.eye(2)], axis=1)
    assert_array_equal(columns, y)
