"""Recurrent networks and differential equations, their steps in a loop of the library."""

from __future__ import annotations

from tests.benchmarks.case import case
from tests.benchmarks.cases.unrolled import recurrent

STEPS, BATCH, WIDTH = 100, 32, 128


def scanned(lib, step, carry, xs, length=None):
    """The library's scan, where it has one."""
    return lib.lax.scan(step, carry, xs, length)


def sequence(rng):
    """The weights of an LSTM as torch has them, with one bias, and the inputs of each step."""
    scale = WIDTH**-0.5
    shapes = ((4 * WIDTH, WIDTH), (4 * WIDTH, WIDTH), (4 * WIDTH,))
    weights = [(rng.uniform(-scale, scale, size=s)).astype("f4") for s in shapes]
    return weights, rng.normal(size=(STEPS, BATCH, WIDTH)).astype("f4")


@case(
    "lstm",
    "LSTM 100 steps, batch 32, hidden 128 f32, gradient",
    sequence,
    products=True,
    tolerance=1e-3,
    without=("autograd", "torch.compile"),
)
def lstm(lib):
    np = lib.np

    def loss(params, xs):
        inward, onward, bias = params

        def step(carry, x):
            h, c = carry
            i, f, g, o = np.split(x @ inward.T + h @ onward.T + bias, 4, axis=1)
            c = lib.sigmoid(f) * c + lib.sigmoid(i) * np.tanh(g)
            h = lib.sigmoid(o) * np.tanh(c)
            return (h, c), h

        zero = np.zeros((BATCH, WIDTH), np.float32)
        return np.mean(scanned(lib, step, (zero, zero), xs)[1] ** 2)

    return lib.jit(lib.value_and_grad(loss))


@lstm.best("torch")
def lstm_torch(lib):
    """torch.nn.LSTM, whose second bias stays zero."""
    torch = lib.torch

    def value_and_gradient(params, xs):
        inward, onward, bias = (p.detach().requires_grad_() for p in params)
        zero = torch.zeros(1, BATCH, WIDTH)
        flat = [inward, onward, bias, torch.zeros(4 * WIDTH)]
        out, *_ = torch._VF.lstm(xs, (zero, zero), flat, True, 1, 0.0, True, False, False)
        value = (out**2).mean()
        return value, list(torch.autograd.grad(value, [inward, onward, bias]))

    return value_and_gradient


def dynamics(rng):
    """The weights of a network that gives the derivative of a state of two numbers."""
    shapes = ((2, 50), (50,), (50, 2), (2,))
    return [0.3 * rng.normal(size=s) for s in shapes], rng.normal(size=2)


@case(
    "neural_ode",
    "neural ODE, RK4, 1000 steps f64, gradient of the parameters",
    dynamics,
    tolerance=1e-6,
    without=("autograd", "torch", "torch.compile"),
)
def neural_ode(lib):
    np = lib.np

    def loss(params, y):
        w, b, v, d = params
        slope = lambda y: np.tanh(y @ w + b) @ v + d

        def step(y, _):
            k1 = slope(y)
            k2 = slope(y + 0.005 * k1)
            k3 = slope(y + 0.005 * k2)
            k4 = slope(y + 0.01 * k3)
            return y + 0.01 / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

        return np.sum(scanned(lib, step, y, None, 1000)[0] ** 2)

    return lib.jit(lib.value_and_grad(loss))


@case(
    "rnn_scan",
    "RNN of 100 steps as scan f32",
    recurrent,
    products=True,
    tolerance=1e-3,
    without=("autograd", "torch", "torch.compile"),
)
def rnn_scan(lib):
    np = lib.np

    def loss(params, xs):
        inward, onward, bias = params
        step = lambda h, x: (np.tanh(x @ inward + h @ onward + bias), None)
        h, _ = scanned(lib, step, 0.0 * xs[0], xs)
        return np.sum(h * h)

    return lib.jit(lib.value_and_grad(loss))


def gates(rng):
    """Weights of a small gated unit, inward and onward for each of two, and its inputs."""
    weights = [0.3 * rng.normal(size=(16, n)) for n in (8, 16, 8, 16)]
    return weights, rng.normal(size=(200, 8))


@case(
    "gru_small",
    "gated unit of 16 over 200 steps f64, gradient",
    gates,
    products=True,
    without=("autograd", "torch", "torch.compile"),
)
def gru_small(lib):
    np = lib.np

    def loss(weights, xs):
        a, b, c, d = weights

        def step(h, x):
            gate = lib.sigmoid(a @ x + b @ h)
            return (1 - gate) * h + gate * np.tanh(c @ x + d @ h), None

        h, _ = scanned(lib, step, 0.0 * b[0], xs)
        return np.sum(h * h)

    return lib.jit(lib.value_and_grad(loss))
