"""Taylor mode: ten derivatives at a point, Laplacians of networks, and what trains on those."""

from __future__ import annotations

import itertools

import numpy as np

from tests.benchmarks.case import case

ONLY_JAX = ("torch", "torch.compile", "autograd")
ORDER = 10
HIDDEN = (64, 64)


def bent(lib):
    return lambda x: lib.np.tanh(lib.np.sin(x))


@case(
    "taylor10",
    "10 derivatives of tanh(sin x) at a point",
    lambda rng: (rng.normal(size=()),),
    small=True,
    without=ONLY_JAX,
)
def taylor10(lib):
    terms = [1.0] + [0.0] * (ORDER - 1)
    return lib.jit(lambda x: lib.jet(bent(lib), (x,), (terms,)))


def weights(rng, dimensions):
    shapes = itertools.pairwise((dimensions, *HIDDEN, 1))
    return [[rng.normal(size=s) / np.sqrt(s[0]), rng.normal(size=s[1])] for s in shapes]


def network(lib, x, layers):
    *hidden, (w, b) = layers
    for u, c in hidden:
        x = lib.np.tanh(x @ u + c)
    return (x @ w + b)[0]


@case(
    "laplacian",
    "Laplacian of a 3-layer network, 100-d",
    lambda rng: (rng.normal(size=100), weights(rng, 100)),
    products=True,
    small=True,
    without=ONLY_JAX,
)
def laplacian(lib):
    return lib.jit(lambda x, layers: lib.laplacian(lambda x: network(lib, x, layers))(x))


@case(
    "poisson",
    "gradient of the residual of Poisson's equation, 3-layer network, 256 points, 10-d",
    lambda rng: (weights(rng, 10), rng.normal(size=(256, 10))),
    products=True,
    without=ONLY_JAX,
)
def poisson(lib):
    def loss(layers, points):
        laplacian = lib.laplacian(lambda x: network(lib, x, layers))
        return lib.np.mean((lib.vmap(laplacian)(points) - 1.0) ** 2)

    return lib.jit(lib.grad(loss))
