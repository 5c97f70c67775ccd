"""Long programs, written out step by step in Python: what compiling them costs."""

from __future__ import annotations

from tests.benchmarks.case import case

STEPS, BATCH, WIDTH = 100, 16, 64


def recurrent(rng):
    """The weights of one layer, and the inputs of each step."""
    weights = [(rng.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5).astype("f4") for _ in range(2)]
    bias = rng.normal(size=WIDTH).astype("f4")
    return [*weights, bias], rng.normal(size=(STEPS, BATCH, WIDTH)).astype("f4")


@case("rnn100", "RNN unrolled 100 steps f32", recurrent, products=True, tolerance=1e-3)
def rnn100(lib):
    np = lib.np

    def loss(params, xs):
        inward, onward, bias = params
        h = 0.0 * xs[0]
        for k in range(STEPS):
            h = np.tanh(xs[k] @ inward + h @ onward + bias)
        return np.sum(h * h)

    return lib.jit(lib.value_and_grad(loss))


@case("chain1000", "chain of 1000 operations f64", lambda rng: (rng.normal(size=1000),))
def chain1000(lib):
    np = lib.np

    def loss(x):
        y = x
        for k in range(200):
            y = np.sin(y) * 1.01 + 0.1 * (y - 0.001 * k)
        return np.sum(y)

    return lib.jit(lib.value_and_grad(loss))


@case(
    "path50",
    "path of 50 steps of 1000 pendulums f64, gradient",
    lambda rng: (rng.normal(size=1000),),
)
def path50(lib):
    np = lib.np

    def loss(angle):
        speed, path = 0.1 * angle, []
        for _ in range(50):
            speed = speed - 0.05 * np.sin(angle)
            angle = angle + 0.05 * speed
            path.append(angle)
        return np.sum(np.stack(path) ** 2)

    return lib.jit(lib.value_and_grad(loss))
