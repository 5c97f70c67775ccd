"""Second derivatives of the Rosenbrock function, and nested derivatives of tanh."""

from __future__ import annotations

from tests.benchmarks.case import case


def rosenbrock(lib):
    return lambda x: lib.np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


@case("hessian", "hessian of Rosenbrock, 100-d", lambda rng: (rng.normal(size=100),), small=True)
def hessian(lib):
    return lib.jit(lib.hessian(rosenbrock(lib)))


@case(
    "hvp",
    "hessian-vector product of Rosenbrock, 1e4-d",
    lambda rng: (rng.normal(size=10_000), rng.normal(size=10_000)),
    small=True,
)
def hvp(lib):
    return lib.jit(lib.hvp(rosenbrock(lib)))


def fourth(lib):
    f = lib.np.tanh
    for _ in range(4):
        f = lib.grad(f)
    return f


def point(rng):
    return (rng.normal(size=()),)


tanh4 = case("tanh4", "4th derivative of tanh, un-jitted", point, small=True)(fourth)


@tanh4.best("torch")
def tanh4_torch(lib):
    """The graph of each gradient is kept, so that it can be differentiated."""
    grad = lib.torch.autograd.grad

    def derivative(x):
        leaf = x.detach().requires_grad_()
        y = leaf.tanh()
        for order in range(4):
            y = grad(y, leaf, create_graph=order < 3)[0]
        return y

    return derivative


JITTED = {"small": True, "without": ("torch", "torch.compile", "autograd")}


@case("tanh4_jit", "the same, jitted", point, **JITTED)
def tanh4_jit(lib):
    return lib.jit(fourth(lib))
