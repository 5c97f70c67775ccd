"""Workloads of physics, graphs and images: short vectors, tables, edges, borders and stencils."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.case import case

ONLY_COMPILED = ("torch", "torch.compile", "autograd")


def positions(rng):
    return rng.normal(size=(30_000, 3)).astype("f4"), rng.normal(size=(30_000, 3)).astype("f4")


@case("cross_grad", "cross products of 3e4 3-vectors and gradient, f32", positions,
      tolerance=1e-4, without=("autograd",))  # fmt: skip
def cross_grad(lib):
    def loss(x, y):
        return lib.np.sum(lib.np.cross(x, y) ** 2)

    return lib.jit(lib.value_and_grad(loss, argnums=(0, 1)))


@cross_grad.best("torch", "torch.compile")
def cross_grad_torch(lib):
    def loss(x, y):
        return (lib.torch.linalg.cross(x, y) ** 2).sum()

    return lib.jit(lib.value_and_grad(loss, argnums=(0, 1)))


def table(rng):
    return rng.normal(size=100), rng.random(50_000), np.sort(rng.random(100))


@case("interp", "interpolation of 5e4 points in a table of 100, gradient of the table", table,
      without=ONLY_COMPILED)  # fmt: skip
def interp(lib):
    def loss(values, x, knots):
        return lib.np.sum(lib.np.interp(x, knots, values) ** 2)

    return lib.jit(lib.value_and_grad(loss))


def edges(rng):
    return rng.normal(size=100_000).astype("f4"), rng.integers(0, 500, 100_000)


@case("segment_softmax", "softmax by segment, 1e5 f32 to 500", edges,
      tolerance=1e-4, without=ONLY_COMPILED)  # fmt: skip
def segment_softmax(lib):
    def softmax(x, where):
        top = lib.np.full(500, -np.inf, dtype="float32").at[where].max(x)
        weights = lib.np.exp(x - top[where])
        return weights / lib.np.zeros(500, dtype="float32").at[where].add(weights)[where]

    return lib.jit(softmax)


def image(rng):
    return rng.normal(size=(256, 256)).astype("f4"), rng.random(9).astype("f4")


@case("blur_grad", "separable blur of 256x256 with reflected borders, both gradients, f32", image,
      tolerance=1e-4, without=ONLY_COMPILED)  # fmt: skip
def blur_grad(lib):
    def loss(x, kernel):
        padded = lib.np.pad(x, 4, mode="reflect")
        down = sum(kernel[i] * padded[i : i + 256] for i in range(9))
        across = sum(kernel[i] * down[:, i : i + 256] for i in range(9))
        return lib.np.mean((across - x) ** 2)

    return lib.jit(lib.value_and_grad(loss, argnums=(0, 1)))


@case("heat_grad", "heat equation, 200 points, 200 steps: gradient of the start",
      lambda rng: (rng.normal(size=200), rng.normal(size=200)), without=ONLY_COMPILED)  # fmt: skip
def heat_grad(lib):
    def loss(start, wanted):
        def step(u, _):
            inner = u[1:-1] + 0.2 * (u[2:] - 2.0 * u[1:-1] + u[:-2])
            return lib.np.concatenate([u[:1], inner, u[-1:]]), None

        return lib.np.sum((lib.lax.scan(step, start, None, length=200)[0] - wanted) ** 2)

    return lib.jit(lib.value_and_grad(loss))
