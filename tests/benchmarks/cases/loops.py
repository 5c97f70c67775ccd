"""Loops: long ones of little work each, and many side by side; forward and backward.

PyTorch and autograd have no compiled loop: they take part where a few steps in Python stand for it.
"""

from __future__ import annotations

import numpy

from tests.benchmarks.case import case

WITHOUT = ("torch", "torch.compile", "autograd")
STEPS, POINTS = 10_000, 10_000


def rk4(slope, combine, state, h=0.001):
    """One step of the classical method; combine(s, a, k) is s + a * k."""
    k1 = slope(state)
    k2 = slope(combine(state, h / 2, k1))
    k3 = slope(combine(state, h / 2, k2))
    k4 = slope(combine(state, h, k3))
    for weight, k in ((h / 6, k1), (h / 3, k2), (h / 3, k3), (h / 6, k4)):
        state = combine(state, weight, k)
    return state


def lorenz(state):
    """The slope of the Lorenz system."""
    x, y, z = state
    return 10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z


def lorenz_of_vector(lib):
    """The sum of the state after all steps, from a 3-vector."""

    def loss(state):
        slope = lambda s: lib.np.stack(lorenz((s[0], s[1], s[2])))
        step = lambda s, _: (rk4(slope, lambda s, a, k: s + a * k, s), None)
        return lib.np.sum(lib.lax.scan(step, state, None, length=STEPS)[0])

    return loss


def lorenz_of_scalars(lib):
    """The same from a tuple of three scalars."""

    def combine(state, a, slope):
        return tuple(s + a * k for s, k in zip(state, slope, strict=True))

    def loss(state):
        step = lambda s, _: (rk4(lorenz, combine, s), None)
        return sum(lib.lax.scan(step, state, None, length=STEPS)[0])

    return loss


def vector(rng):
    return (numpy.array([1.0, 2.0, 3.0]),)


def scalars(rng):
    return (tuple(numpy.array(v) for v in (1.0, 2.0, 3.0)),)


LORENZ = {"without": WITHOUT, "tolerance": 1e-4}


@case("lorenz3", "Lorenz RK4 1e4 steps, 3-vector: forward", vector, **LORENZ)
def lorenz3(lib):
    return lib.jit(lorenz_of_vector(lib))


@case("lorenz3_grad", "Lorenz RK4 1e4 steps, 3-vector: gradient", vector, **LORENZ)
def lorenz3_grad(lib):
    return lib.jit(lib.grad(lorenz_of_vector(lib)))


@case("lorenz_scalars", "Lorenz RK4 1e4 steps, scalars: forward", scalars, **LORENZ)
def lorenz_scalars(lib):
    return lib.jit(lorenz_of_scalars(lib))


@case("lorenz_scalars_grad", "Lorenz RK4 1e4 steps, scalars: gradient", scalars, **LORENZ)
def lorenz_scalars_grad(lib):
    return lib.jit(lib.grad(lorenz_of_scalars(lib)))


@case(
    "lorenz_while_grad",
    "Lorenz RK4 1e4 steps by while_loop: gradient (jax: by scan)",
    scalars,
    **LORENZ,
)
def lorenz_while_grad(lib):
    def combine(state, a, slope):
        return tuple(s + a * k for s, k in zip(state, slope, strict=True))

    def loss(state):
        step = lambda c: (c[0] + 1, rk4(lorenz, combine, c[1]))
        return sum(lib.lax.while_loop(lambda c: c[0] < STEPS, step, (0, state))[1])

    return lib.jit(lib.grad(loss))


@lorenz_while_grad.best("jax")
def lorenz_scan_grad(lib):
    return lib.jit(lib.grad(lorenz_of_scalars(lib)))


def sixty(rng):
    return (tuple(numpy.array(v) for v in rng.normal(size=60)),)


@case("leaves60", "60 scalars carried for 614 steps: gradient", sixty, without=WITHOUT)
def leaves60(lib):
    np = lib.np

    def step(c, _):
        n = len(c)
        return tuple(0.9 * c[i] + 0.1 * np.sin(c[i - 1]) * c[(i + 7) % n] for i in range(n)), None

    def loss(c):
        return sum(lib.lax.scan(step, c, None, length=614)[0])

    return lib.jit(lib.grad(loss))


def recurrence(lib):
    """Logistic growth, in small steps."""
    return lambda x, r: lib.lax.fori_loop(0, 100_000, lambda i, c: c + r * c * (1.0 - c), x)


def start(rng):
    return numpy.array(0.3), numpy.array(1e-5)


@case("recurrence", "scalar recurrence, 1e5 steps: forward", start, without=WITHOUT)
def recurrence_value(lib):
    return lib.jit(recurrence(lib))


@case("recurrence_grad", "scalar recurrence, 1e5 steps: gradient", start, without=WITHOUT)
def recurrence_grad(lib):
    return lib.jit(lib.grad(recurrence(lib)))


def points(rng):
    return (numpy.linspace(1.0, 100.0, POINTS),)


def newton(x, a):
    """A step to the cube root of a."""
    return x - (x * x * x - a) / (3.0 * x * x)


@case("newton_while", "Newton by while_loop, vmap over 1e4 points", points, without=WITHOUT)
def newton_while(lib):
    def root(a):
        step = lambda c: (newton(c[0], a), c[0])
        return lib.lax.while_loop(lambda c: abs(c[0] - c[1]) > 1e-12 * c[0], step, (a, 0.0 * a))[0]

    return lib.jit(lib.vmap(root))


@case("newton_grad", "20 Newton steps over 1e4 points: gradient", points, tolerance=1e-8)
def newton_grad(lib):
    def loss(a):
        return lib.np.sum(lib.lax.fori_loop(0, 20, lambda i, x: newton(x, a), a))

    return lib.jit(lib.grad(loss))


@newton_grad.best("torch.compile")
def newton_grad_step_by_step(lib):
    """One compiled step: of all steps at once the compiler writes every operand out in full, which
    takes minutes for four of them and grows with a power of their number."""
    step = lib.jit(newton)

    def gradient(a):
        leaf = a.detach().requires_grad_()
        x = leaf
        for _ in range(20):
            x = step(x, leaf)
        return lib.torch.autograd.grad(lib.np.sum(x), leaf)[0]

    return gradient


@newton_grad.best("torch", "autograd")
def newton_grad_unrolled(lib):
    def loss(a):
        x = a
        for _ in range(20):
            x = newton(x, a)
        return lib.np.sum(x)

    return lib.jit(lib.grad(loss))


@case(
    "power_method",
    "200 steps of A @ x, 64 x 64 f64, as scan",
    lambda rng: (rng.normal(size=(64, 64)) / 8, rng.normal(size=64)),
    without=WITHOUT,
)
def power_method(lib):
    def largest(a, x):
        def step(x, _):
            y = a @ x
            return y / lib.np.sqrt(lib.np.sum(y * y)), None

        return lib.lax.scan(step, x, None, length=200)[0]

    return lib.jit(largest)
