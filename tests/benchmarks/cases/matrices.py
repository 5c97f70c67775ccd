"""Linear algebra: systems, factors and determinants, small ones by the thousand, with gradients."""

from __future__ import annotations

import numpy

from tests.benchmarks.case import case

WITHOUT = ("torch", "torch.compile", "autograd")


def positive(rng, *shape):
    """Well-conditioned symmetric matrices."""
    a = rng.normal(size=shape)
    return a @ a.swapaxes(-1, -2) + shape[-1] * numpy.eye(shape[-1])


@case(
    "systems_4",
    "1000 systems 4x4 f64",
    lambda rng: (positive(rng, 1000, 4, 4), rng.normal(size=(1000, 4, 1))),
    without=WITHOUT,
    small=True,
)
def systems_4(lib):
    return lib.jit(lib.np.linalg.solve)


def one_system(rng, n):
    return positive(rng, n, n), rng.normal(size=n)


def system_gradient(lib):
    loss = lambda a, b: lib.np.sum(lib.np.linalg.solve(a, b) ** 2)
    return lib.jit(lib.value_and_grad(loss, (0, 1)))


@case(
    "system_100",
    "a system of 100 and its gradient, f64",
    lambda rng: one_system(rng, 100),
    without=WITHOUT,
)
def system_100(lib):
    return system_gradient(lib)


@case(
    "system_400",
    "a system of 400 and its gradient, f64",
    lambda rng: one_system(rng, 400),
    without=WITHOUT,
)
def system_400(lib):
    return system_gradient(lib)


@case(
    "normal_100",
    "log density of a normal of 100, gradient by mean and covariance, f64",
    lambda rng: (positive(rng, 100, 100), rng.normal(size=100)),
    without=WITHOUT,
)
def normal_100(lib):
    np = lib.np

    def loss(covariance, x):
        factor = np.linalg.cholesky(covariance)
        z = np.linalg.solve(factor, x)
        return -0.5 * np.sum(z * z) - np.sum(np.log(np.diagonal(factor)))

    return lib.jit(lib.value_and_grad(loss, (0, 1)))


def tracking(rng):
    """A level of noise, how 4 numbers move, 2 that are seen of them, and 20 observations."""
    return (
        *(rng.uniform(0.5, 2.0), numpy.eye(4) + 0.1 * rng.normal(size=(4, 4))),
        *(rng.normal(size=(2, 4)), rng.normal(size=(20, 2))),
    )


@case("kalman", "Kalman filter of 20 steps and gradient, f64", tracking, without=WITHOUT)
def kalman(lib):
    np = lib.np

    def loss(level, move, see, observations):
        def step(carry, y):
            mean, spread, total = carry
            mean, spread = move @ mean, move @ spread @ move.T + level * 0.1 * np.eye(4)
            seen, rest = see @ spread @ see.T + 0.5 * np.eye(2), y - see @ mean
            gain = np.linalg.solve(seen, see @ spread).T
            size = np.linalg.slogdet(seen)[1]
            total = total - 0.5 * (rest @ np.linalg.solve(seen, rest) + size)
            return (mean + gain @ rest, spread - gain @ see @ spread, total), None

        start = np.zeros(4), np.eye(4), 0.0
        return lib.lax.scan(step, start, observations)[0][2]

    return lib.jit(lib.value_and_grad(loss, (0, 1)))


@case(
    "eigenvalues_100",
    "eigenvalues and vectors, 100x100 f64",
    lambda rng: (positive(rng, 100, 100),),
    without=WITHOUT,
)
def eigenvalues_100(lib):
    return lib.jit(lambda a: abs(lib.np.linalg.eigh(a)[1]))
