"""Models as researchers write them in plain NumPy: a loss of parameters and data, by name.

Each takes the namespace to write it in (numpy or functrans.numpy), its parameters and its data.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

RNG = np.random.default_rng(0)


class Model(NamedTuple):
    """A loss with parameters to differentiate with respect to, and data."""

    loss: Callable[..., Any]
    params: Any
    data: tuple[Any, ...]


MODELS: dict[str, Model] = {}


def model(params: Any, *data: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a model by its loss."""

    def declare(loss: Callable[..., Any]) -> Callable[..., Any]:
        MODELS[loss.__name__] = Model(loss, params, data)
        return loss

    return declare


INPUTS = RNG.normal(size=(30, 4))
TARGETS = INPUTS @ np.array([1.0, -2.0, 0.5, 0.0]) + 0.1 * RNG.standard_t(4, size=30)


@model({"w": RNG.normal(size=4), "log_s": np.array(-1.0), "log_nu": np.array(1.0)}, INPUTS, TARGETS)
def robust_bayesian_regression(xp: Any, p: Any, x: Any, y: Any) -> Any:
    """The log posterior with noise of Student's."""
    r, nu = (y - x @ p["w"]) / xp.exp(p["log_s"]), xp.exp(p["log_nu"])
    likelihood = -0.5 * (nu + 1) * xp.log1p(r**2 / nu) - p["log_s"] - 0.5 * xp.log(nu)
    prior = -0.5 * (p["w"] @ p["w"]) / 10 - 0.5 * p["log_s"] ** 2
    return -(likelihood.sum() + prior)


@model(
    [(RNG.normal(size=(1, 6)), np.zeros(6)), (RNG.normal(size=(6, 1)), np.zeros(1))],
    np.linspace(0, 1, 12),
)
def physics_informed_network(xp: Any, p: Any, t: Any) -> Any:
    """The residual of u'' + u = 0 by differences, with u(0) = 1."""

    def u(t: Any) -> Any:
        h = t[:, None]
        for w, b in p[:-1]:
            h = xp.tanh(h @ w + b)
        w, b = p[-1]
        return (h @ w + b)[:, 0]

    step = 1e-2
    residual = (u(t + step) - 2 * u(t) + u(t - step)) / step**2 + u(t)
    return xp.mean(residual**2) + (u(t[:1])[0] - 1.0) ** 2


@model(np.array([-0.5, -1.0, 0.3]), np.cumsum(RNG.normal(size=8)))
def kalman_filter(xp: Any, p: Any, observed: Any) -> Any:
    """The likelihood of a local trend model."""
    q, r, a = xp.exp(p[0]), xp.exp(p[1]), xp.tanh(p[2])
    one, zero = xp.ones_like(a), xp.zeros_like(a)
    step = xp.stack([xp.stack([one, a]), xp.stack([zero, a])])
    seen = np.array([1.0, 0.0])
    mean, cov, total = xp.zeros(2), xp.eye(2), 0.0
    for y in observed:
        mean, cov = step @ mean, step @ cov @ step.T + q * xp.eye(2)
        error, var = y - seen @ mean, seen @ cov @ seen + r
        gain = cov @ seen / var
        mean, cov = mean + gain * error, cov - xp.outer(gain, seen @ cov)
        total = total + 0.5 * (xp.log(2 * xp.pi * var) + error**2 / var)
    return total


@model(
    {"scale": np.zeros(2), "noise": np.array(-1.0)},
    RNG.uniform(size=(8, 2)),
    RNG.normal(size=8),
)
def gaussian_process(xp: Any, p: Any, x: Any, y: Any) -> Any:
    """The data term by conjugate gradients."""
    z = x / xp.exp(p["scale"])
    squares = ((z[:, None, :] - z[None, :, :]) ** 2).sum(-1)
    kernel = xp.exp(-0.5 * squares) + xp.exp(p["noise"]) * xp.eye(len(y))
    solution, r = xp.zeros_like(y), y
    d, rr = r, r @ r
    for _ in range(5):
        kd = kernel @ d
        alpha = rr / (d @ kd)
        solution, r = solution + alpha * d, r - alpha * kd
        new = r @ r
        d, rr = r + new / rr * d, new
    return 0.5 * y @ solution + 0.5 * xp.log(xp.diagonal(kernel)).sum()


@model(
    {"e": RNG.normal(size=(5, 4)) / 2, "d": RNG.normal(size=(2, 5)), "b": np.zeros(5)},
    RNG.uniform(size=(6, 5)),
    RNG.normal(size=(6, 2)),
)
def variational_autoencoder(xp: Any, p: Any, x: Any, noise: Any) -> Any:
    mean, log_var = xp.split(x @ p["e"], 2, axis=1)
    logits = (mean + xp.exp(0.5 * log_var) * noise) @ p["d"] + p["b"]
    cross = xp.maximum(logits, 0) - logits * x + xp.log1p(xp.exp(-xp.abs(logits)))
    kl = -0.5 * xp.sum(1 + log_var - mean**2 - xp.exp(log_var), axis=-1)
    return xp.mean(cross.sum(axis=-1) + kl)


@model(RNG.normal(size=12) * 0.1, np.array([np.pi, 0.0]))
def predictive_control(xp: Any, torque: Any, start: Any) -> Any:
    """The cost of swinging a pendulum up."""
    angle, speed = start[0], start[1]
    cost = 0.0
    for u in torque:
        speed = speed + 0.05 * (9.8 * xp.sin(angle) + u)
        angle = angle + 0.05 * speed
        cost = cost + (1 - xp.cos(angle)) + 0.1 * speed**2 + 0.01 * u**2
    return cost + 10 * xp.hypot(xp.sin(angle), speed)


@model(RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3)) * 0.1, np.array([1.0, 2.0, 3.0, 4.0]))
def planets(xp: Any, x: Any, v: Any, mass: Any) -> Any:
    """The kinetic energy after some steps of leapfrog."""

    def pull(x: Any) -> Any:
        d = x[None] - x[:, None]
        return xp.einsum("ij,ijk,j->ik", ((d**2).sum(-1) + 0.1) ** -1.5, d, mass)

    for _ in range(3):
        v = v + 0.005 * pull(x)
        x = x + 0.01 * v
        v = v + 0.005 * pull(x)
    return 0.5 * xp.sum(mass[:, None] * v**2)


KNOTS = np.concatenate([[0] * 3, np.linspace(0, 1, 5), [1] * 3])
PLACES = np.linspace(0.01, 0.99, 20)


@model(RNG.normal(size=7), PLACES, np.sin(6 * PLACES))
def spline_fit(xp: Any, coefficients: Any, x: Any, y: Any) -> Any:
    """Cubic B-splines by the recursion of Cox and de Boor, with a penalty on roughness."""
    basis = [xp.where((x >= a) & (x < b), 1.0, 0.0) for a, b in pairwise(KNOTS)]
    for k in range(1, 4):
        basis = [
            (x - KNOTS[i]) / max(KNOTS[i + k] - KNOTS[i], 1e-30) * basis[i]
            + (KNOTS[i + k + 1] - x) / max(KNOTS[i + k + 1] - KNOTS[i + 1], 1e-30) * basis[i + 1]
            for i in range(len(basis) - 1)
        ]
    fit = xp.stack(basis, axis=-1) @ coefficients
    return xp.sum((fit - y) ** 2) + 1e-3 * xp.sum(xp.diff(coefficients, 2) ** 2)


@model(
    {"a": RNG.normal(size=(3, 3)), "b": RNG.normal(size=(3, 3)), "start": np.zeros(3)},
    RNG.integers(0, 3, size=8),
)
def hidden_markov_model(xp: Any, p: Any, seen: Any) -> Any:
    def total(x: Any, axis: int) -> Any:
        top = xp.max(x, axis=axis, keepdims=True)
        return xp.squeeze(top, axis) + xp.log(xp.sum(xp.exp(x - top), axis=axis))

    def normal(x: Any) -> Any:
        return x - xp.expand_dims(total(x, -1), -1)

    a, b = normal(p["a"]), normal(p["b"])
    forward = normal(p["start"]) + b[:, seen[0]]
    for s in seen[1:]:
        forward = total(forward[:, None] + a, 0) + b[:, s]
    return -total(forward, 0)


@model(np.array([1.3, 0.7, 2.1]), np.linspace(1.0, 2.0, 4))
def thin_films(xp: Any, thickness: Any, lengths: Any) -> Any:
    """The light that layers reflect, by transfer matrices of complex numbers."""
    reflected = 0.0
    for length in lengths:
        whole = xp.eye(2) + 0j
        for n, d in zip((1.5, 2.2, 1.8), thickness, strict=True):
            phase = 2 * np.pi * n * d / length
            c, s = xp.cos(phase) + 0j, 1j * xp.sin(phase)
            whole = whole @ xp.stack([xp.stack([c, s / n]), xp.stack([s * n, c])])
        above = whole[0, 0] + whole[0, 1] - whole[1, 0] - whole[1, 1]
        reflected = reflected + xp.abs(above / whole.sum()) ** 2
    return reflected


@model({k: RNG.normal(size=(6, 6)) / 2 for k in "qkvo"}, RNG.normal(size=(5, 6)))
def causal_attention(xp: Any, p: Any, x: Any) -> Any:
    def heads(a: Any) -> Any:
        return a.reshape(5, 2, 3).transpose(1, 0, 2)

    q, k, v = (heads(x @ p[name]) for name in "qkv")
    scores = q @ xp.swapaxes(k, -1, -2) / np.sqrt(3.0)
    scores = xp.where(np.tril(np.ones((5, 5), bool)), scores, -1e9)
    weights = xp.exp(scores - scores.max(-1, keepdims=True))
    mixed = weights / weights.sum(-1, keepdims=True) @ v
    out = mixed.transpose(1, 0, 2).reshape(5, 6) @ p["o"]
    centred = out - out.mean(-1, keepdims=True)
    return xp.sum((centred / xp.sqrt(out.var(-1, keepdims=True) + 1e-5)) ** 3)


@model(RNG.normal(size=4), INPUTS, np.sign(TARGETS))
def tail_risk(xp: Any, w: Any, x: Any, sign: Any) -> Any:
    """The mean of the five worst hinge losses."""
    losses = xp.sort(xp.maximum(0.0, 1 - sign * (x @ w)))[::-1]
    return xp.cumsum(losses)[4] / 5 + 0.1 * xp.linalg.norm(w)


IMAGE = RNG.uniform(size=(6, 7))


@model(IMAGE + 0.1 * RNG.normal(size=IMAGE.shape), IMAGE)
def denoising(xp: Any, x: Any, y: Any) -> Any:
    """Total variation and a Laplacian with edges repeated."""
    across, down = xp.roll(x, -1, 0) - x, xp.roll(x, -1, 1) - x
    p = xp.pad(x, 1, mode="edge")
    laplacian = p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * x
    variation = xp.sum(xp.sqrt(across**2 + down**2 + 1e-4))
    return 0.5 * xp.sum((x - y) ** 2) + 0.3 * variation + 0.01 * xp.sum(laplacian**2)


@model({"w": RNG.normal(size=(3, 3)), "u": RNG.normal(size=(3, 3))}, RNG.normal(size=(4, 3)))
def graph_network(xp: Any, p: Any, h: Any) -> Any:
    """Messages along edges, added up where they arrive."""
    source, target = np.array([0, 1, 2, 3, 0]), np.array([1, 2, 3, 0, 2])
    for _ in range(2):
        messages = xp.tanh(h[source] @ p["w"])
        received = xp.zeros_like(messages[:4])
        np.add.at(received, target, messages)
        h = xp.tanh(h @ p["u"] + received)
    return xp.prod(1 + 0.1 * h.mean(axis=0))


@model(RNG.normal(size=(5, 3)) * 2)
def molecule(xp: Any, x: Any) -> Any:
    """Pairs by Lennard-Jones, angles by a polynomial."""
    i, j = np.triu_indices(5, 1)
    d = x[i] - x[j]
    s6 = 1 / (xp.sum(d * d, axis=1) + 0.5) ** 3
    angles = xp.sum(xp.cross(d[:3], d[3:6]) ** 2)
    return xp.sum(4 * (s6**2 - s6)) + xp.polyval(np.array([0.1, -0.2, 0.3]), angles) * 1e-3


@model(RNG.normal(size=16))
def haar_wavelets(xp: Any, x: Any) -> Any:
    total = 0.0
    while x.shape[0] > 1:
        total = total + xp.sum(xp.abs(x[0::2] - x[1::2])) / np.sqrt(2.0)
        x = (x[0::2] + x[1::2]) / np.sqrt(2.0)
    return total + xp.sum(x**2)


@model(RNG.normal(size=3), RNG.normal(size=(12, 3)), RNG.exponential(size=12))
def survival(xp: Any, b: Any, x: Any, times: Any) -> Any:
    """Cox's partial likelihood; sums over those still at risk run from the last."""
    risk = (x @ b)[np.argsort(-times)]
    return -xp.sum(risk[::2] - np.logaddexp.accumulate(risk)[::2])
