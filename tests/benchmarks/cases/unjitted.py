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


@case("chain200", "un-jitted grad of 200 multiplies and adds on 3 numbers",
      lambda rng: (rng.normal(size=3),), small=True)  # fmt: skip
def chain200(lib):
    def f(x):
        for _ in range(100):
            x = x * 1.01 + 0.1
        return lib.np.sum(x)

    return lib.grad(f)


@case("tanh4", "fourth derivative of tanh by four nested un-jitted grads",
      lambda rng: (rng.normal(size=()),), small=True)  # fmt: skip
def tanh4(lib):
    f = lib.np.tanh
    for _ in range(4):
        f = lib.grad(f)
    return f


@case("hessian10", "un-jitted hessian of Rosenbrock, 10-d", lambda rng: (rng.normal(size=10),),
      small=True)  # fmt: skip
def hessian10(lib):
    def f(x):
        return lib.np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    return lib.hessian(f)


@case("vmap_grad", "un-jitted vmap of grad of 10 operations, 10 members",
      lambda rng: (rng.normal(size=10),), small=True, without=("autograd",))  # fmt: skip
def vmap_grad(lib):
    return lib.vmap(lib.grad(scalar_function(lib)))


@case("while1000", "un-jitted grad through a while loop of about 1000 steps that depend on values",
      lambda rng: (rng.uniform(2.0, 3.0, size=()),), without=("jax",))  # fmt: skip
def while1000(lib):
    def f(x):
        y = x
        while y > 1e-3:
            y = y * 0.993 - 1e-6 * lib.np.sin(x) * y
        return y * x

    return lib.grad(f)
