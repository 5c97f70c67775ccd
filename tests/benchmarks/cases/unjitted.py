"""Gradients without jit: what a user pays who differentiates and does not compile."""

from __future__ import annotations

from tests.benchmarks.case import case


def scalar_function(lib):
    """Ten operations on a scalar."""
    np = lib.np

    def f(x):
        y = np.sin(x) * np.exp(-x)
        z = np.log(y * y + 1.0) + np.tanh(x)
        return np.sqrt(z * z + 2.0)

    return f


@case(
    "grad10",
    "un-jitted grad of 10 scalar operations",
    lambda rng: (rng.normal(size=()),),
    small=True,
)
def grad10(lib):
    return lib.grad(scalar_function(lib))


@case(
    "grad10_jit", "the same, value_and_grad in jit", lambda rng: (rng.normal(size=()),), small=True
)
def grad10_jit(lib):
    return lib.jit(lib.value_and_grad(scalar_function(lib)))


LAYERS = 66


def deep_network(rng):
    """Sixty-six layers of three operations, 16 wide."""
    weights = [rng.normal(size=(16, 16)) / 4 for _ in range(LAYERS)]
    return weights, [rng.normal(size=16) for _ in range(LAYERS)], rng.normal(size=16)


def deep_loss(lib):
    np = lib.np

    def loss(weights, biases, x):
        for weight, bias in zip(weights, biases, strict=True):
            x = np.tanh(x @ weight + bias)
        return np.sum(x * x)

    return loss


@case("network200", "un-jitted grad of a 200-operation network", deep_network, small=True)
def network200(lib):
    return lib.value_and_grad(deep_loss(lib), (0, 1))


@case("network200_jit", "the same, jitted", deep_network, small=True, without=("torch", "autograd"))
def network200_jit(lib):
    return lib.jit(lib.value_and_grad(deep_loss(lib), (0, 1)))
