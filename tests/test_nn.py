"""Activations, losses, optimisers and segment sums, against their definitions and against JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special

import functrans as ft
import functrans.numpy as fnp
from functrans import nn, ops, optim
from functrans.scipy import special

rng = np.random.default_rng(3)
X = rng.standard_normal((4, 6)) * 3
Z = np.array([0.1772627, -1.8320016, 3.8816659])


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def unit(x: Any, alpha: float) -> Any:
    """elu."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


DEFINITIONS: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "softplus": lambda x: np.log1p(np.exp(x)),
    "log_sigmoid": lambda x: -np.log1p(np.exp(-x)),
    "soft_sign": lambda x: x / (1 + np.abs(x)),
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "gelu": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "elu": lambda x: unit(x, 1.0),
    "celu": lambda x: unit(x, 1.0),
    "selu": lambda x: 1.0507009873554805 * unit(x, 1.6732632423543772),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "sparse_plus": lambda x: np.where(x >= 1, x, np.where(x <= -1, 0, (x + 1) ** 2 / 4)),
    "glu": lambda x: x[..., :3] * sigmoid(x[..., 3:]),
    "softmax": lambda x: scipy.special.softmax(x, -1),
    "log_softmax": lambda x: scipy.special.log_softmax(x, -1),
    "standardize": lambda x: (x - x.mean(-1)[:, None]) / np.sqrt(x.var(-1)[:, None] + 1e-5),
    "identity": lambda x: x,
}


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_activations_agree_with_their_definitions(name: str, dtype: Any) -> None:
    got = getattr(nn, name)(X.astype(dtype))
    assert got.dtype == dtype
    np.testing.assert_allclose(
        got, DEFINITIONS[name](X), rtol=1e-12 if dtype == np.float64 else 2e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", DEFINITIONS)
def test_derivatives_of_activations_agree_with_differences(name: str) -> None:
    g = getattr(nn, name)
    weights = np.linspace(-1.0, 2.0, g(X).size).reshape(g(X).shape)
    f = lambda x: (weights * g(x) ** 2).sum()
    direction = rng.standard_normal(X.shape)
    step = 1e-6
    numerical = (f(X + step * direction) - f(X - step * direction)) / (2 * step)
    np.testing.assert_allclose((ft.grad(f)(X) * direction).sum(), numerical, rtol=1e-6)
    slope = lambda x: (ft.grad(f)(x) * direction).sum()
    curved = (slope(X + step * direction) - slope(X - step * direction)) / (2 * step)
    np.testing.assert_allclose((ft.hvp(f, X, direction) * direction).sum(), curved, rtol=1e-5)


def test_exact_gelu_and_log1mexp() -> None:
    np.testing.assert_allclose(nn.gelu(X, approximate=False), X * scipy.special.ndtr(X), atol=1e-12)
    x = np.abs(X)
    np.testing.assert_allclose(nn.log1mexp(x), np.log(-np.expm1(-x)), rtol=1e-12)


def test_kinks() -> None:
    assert ft.grad(nn.relu)(0.0) == 0
    assert ft.grad(nn.relu6)(6.0) == 0
    assert ft.grad(nn.hard_tanh)(1.0) == 1
    assert np.isnan(nn.relu(np.nan))


def test_softmax_of_masked_and_infinite_rows() -> None:
    mask = X > 0
    mask[:, 0] = True
    got = nn.softmax(X, where=mask)
    np.testing.assert_allclose(got.sum(-1), 1)
    assert not got[~mask].any()
    assert nn.softmax(np.array([1e4, 0.0])).tolist() == [1, 0]


def test_one_hot() -> None:
    index = np.array([[0, 2], [5, -1]])
    got = nn.one_hot(index, 4)
    assert got.dtype == np.float64
    assert got[0].tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
    assert not got[1].any()
    assert nn.one_hot(index, 4, axis=0, dtype=np.int32).shape == (4, 2, 2)
    with pytest.raises(TypeError, match="must hold integers"):
        nn.one_hot(X, 4)


def test_binary_cross_entropy_of_the_tutorial() -> None:
    loss = lambda z: fnp.mean(nn.binary_cross_entropy_with_logits(z, np.zeros(3)))
    assert abs(loss(Z) - 1.6120913) < 1e-7
    np.testing.assert_allclose(ft.grad(loss)(Z), sigmoid(Z) / 3)
    ends = nn.binary_cross_entropy_with_logits(np.array([1000.0, -1000.0]), np.array([0.0, 1.0]))
    assert ends.tolist() == [1000, 1000]
    assert ft.grad(nn.binary_cross_entropy_with_logits)(1000.0, 0.5) == 0.5


def test_attention() -> None:
    q, k, v = (rng.standard_normal((2, 5, 3, 4)) for _ in range(3))
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / 2
    causal = np.where(np.tri(5, dtype=bool), scores, -np.inf)
    for options, each in (
        ({}, scores),
        ({"is_causal": True}, causal),
        ({"mask": np.tri(5, dtype=bool)}, causal),
    ):
        weights = scipy.special.softmax(each, -1)
        wanted = np.einsum("bhqk,bkhd->bqhd", weights, v)
        np.testing.assert_allclose(nn.dot_product_attention(q, k, v, **options), wanted)


# -- scipy.special ----------------------------------------------------------------------------


AXES: list[dict[str, Any]] = [{}, {"axis": 1}, {"axis": 0, "keepdims": True}, {"b": np.abs(X)}]


@pytest.mark.parametrize("options", AXES)
def test_logsumexp(options: dict[str, Any]) -> None:
    wanted = scipy.special.logsumexp(X, **options)
    np.testing.assert_allclose(special.logsumexp(X, **options), wanted)
    signed: dict[str, Any] = {"b": X, "axis": 1, "return_sign": True}
    pairs = zip(special.logsumexp(X, **signed), scipy.special.logsumexp(X, **signed), strict=True)
    for mine, theirs in pairs:
        np.testing.assert_allclose(mine, theirs)


def test_logsumexp_of_minus_infinity_is_constant() -> None:
    x = np.full(3, -np.inf)
    assert special.logsumexp(x) == -np.inf
    assert ft.grad(special.logsumexp)(x).tolist() == [0, 0, 0]
    assert not ft.hessian(special.logsumexp)(x).any()
    assert ft.grad(special.logsumexp)(np.array([-np.inf, 1.0])).tolist() == [0, 1]


SPECIAL = ["erf", "erfc", "erfinv", "expit", "logit", "ndtr", "entr", "gammaln", "digamma"]


@pytest.mark.parametrize("name", SPECIAL)
def test_special_functions(name: str) -> None:
    x = {"erfinv": np.tanh(X) * 0.9, "logit": sigmoid(X), "entr": sigmoid(X)}.get(name, X)
    np.testing.assert_allclose(
        getattr(special, name)(x), getattr(scipy.special, name)(x), rtol=1e-10
    )


def test_polygamma_is_the_derivative_of_digamma() -> None:
    x = np.linspace(-3.7, 9.3, 41)
    for n in (0, 1, 2, 3):
        np.testing.assert_allclose(special.polygamma(n, x), mpmath_polygamma(n, x), rtol=1e-11)
    slope = ft.vmap(ft.grad(ft.grad(special.gammaln)))(x)
    np.testing.assert_allclose(slope, special.polygamma(1, x), rtol=1e-12)


def mpmath_polygamma(n: int, x: np.ndarray) -> np.ndarray:
    return np.array([float(mpmath.psi(n, float(v))) for v in x])


def test_xlogy_at_the_edges() -> None:
    x = np.array([0, 0, 0, 1, 2, -1.0, np.nan])
    y = np.array([0, 1, np.inf, 0, 3, 2, 0.0])
    np.testing.assert_allclose(special.xlogy(x, y), scipy.special.xlogy(x, y))
    np.testing.assert_allclose(special.xlog1py(x, y - 1), scipy.special.xlog1py(x, y - 1))
    assert ft.grad(special.xlogy, (0, 1))(0.0, 0.0) == (0, 0)
    assert ft.grad(special.xlogy, (0, 1))(0.0, 2.0) == (np.log(2), 0)


# -- optimisers -------------------------------------------------------------------------------

OPTIMISERS = [
    optim.sgd(0.05), optim.momentum(0.02), optim.momentum(0.02, nesterov=True), optim.adam(0.1),
    optim.adamw(0.1, weight_decay=0.0), optim.sgd(lambda step: 0.2 / (1 + 0.01 * step)),
]  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMISERS)
def test_optimisers_find_a_minimum_and_keep_types(optimizer: optim.Optimizer) -> None:
    loss = lambda p: ((p["a"] - 1) ** 2).sum() + (p["b"] + 2) ** 2
    params: Any = {"a": np.zeros(3, np.float32), "b": 1.0}
    state = optimizer.init(params)
    for _ in range(300):
        params, state = optimizer.update(params, ft.grad(loss)(params), state)
    assert loss(params) < 1e-2
    assert params["a"].dtype == np.float32
    assert type(params["b"]) is float
    assert state.step == 300


def test_one_step_of_adam() -> None:
    p, g = np.array([1.0, -2.0]), np.array([0.5, -3.0])
    optimizer = optim.adam(0.1)
    new, state = optimizer.update(p, g, optimizer.init(p))
    np.testing.assert_allclose(new, p - 0.1 * g / (np.abs(g) + 1e-8))
    np.testing.assert_allclose(state.mean, 0.1 * g)
    np.testing.assert_allclose(state.square, 0.001 * g**2)


def test_weight_decay_is_decoupled() -> None:
    p = np.array([1.0, -2.0])
    optimizer = optim.adamw(0.1, weight_decay=0.5)
    new, _ = optimizer.update(p, np.zeros(2), optimizer.init(p))
    np.testing.assert_allclose(new, p - 0.1 * 0.5 * p)


# -- segments ---------------------------------------------------------------------------------


def test_segments() -> None:
    ids = np.array([0, 2, 2, -1])
    wanted = np.stack([X[0], 0 * X[0], X[1] + X[2]])
    np.testing.assert_allclose(ops.segment_sum(X, ids, 3), wanted)
    np.testing.assert_allclose(ops.segment_sum(X[:3], ids[:3]), wanted)
    assert ops.segment_max(X, ids, 3)[1].tolist() == [-np.inf] * 6
    np.testing.assert_allclose(ops.segment_min(X, ids, 3)[2], np.minimum(X[1], X[2]))
    np.testing.assert_allclose(ops.segment_prod(X, ids, 3)[2], X[1] * X[2])
    gradient = ft.grad(lambda x: ops.segment_sum(x, ids, 3)[2].sum())(X)
    assert gradient.sum(1).tolist() == [0, 6, 6, 0]


@pytest.mark.parametrize("name", ["segment_sum", "segment_prod", "segment_max", "segment_min"])
def test_promises_about_segments_change_nothing(name: str) -> None:
    """Also those that are broken."""
    function, ids = getattr(ops, name), np.array([0, 2, 2, 1])
    promised = ft.jit(lambda x, i: function(x, i, 3, indices_are_sorted=True, unique_indices=True))
    np.testing.assert_array_equal(promised(X, ids), function(X, ids, 3))


# -- initializers -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["glorot_uniform", "glorot_normal", "lecun_normal", "he_uniform"])
def test_initializers_have_the_variance_of_their_fans(name: str) -> None:
    key = ft.random.key(1)
    drawn = getattr(nn.initializers, name)()(key, (300, 200))
    fan = {"g": 250, "l": 300, "h": 150}[name[0]]
    assert abs(drawn.var() * fan - 1) < 0.05
    assert getattr(nn.initializers, name)()(key, (3, 2), np.float32).dtype == np.float32


def test_ufuncs_of_scipy_hold_on_traced_values() -> None:
    def f(x: Any) -> Any:
        s = scipy.special
        return np.sum(s.expit(x) * s.erf(x) + s.xlogy(x, x + 3) + s.psi(x + 3) + s.gammaln(x + 4))

    x = np.array([0.3, -0.7, 1.2])
    h = 1e-6
    steps = [(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(ft.grad(f)(x), steps, rtol=1e-7)
    np.testing.assert_allclose(ft.jit(f)(x), f(x), rtol=1e-13)
