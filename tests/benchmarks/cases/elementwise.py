"""Elementwise chains over a million numbers, forward and with gradients."""

from __future__ import annotations

from tests.benchmarks.case import case

SIZE = 1_000_000


def million(dtype, count=1):
    return lambda rng: tuple(rng.uniform(0.1, 3.0, SIZE).astype(dtype) for _ in range(count))


def chain(lib):
    np = lib.np
    return lib.jit(lambda x: np.exp(-0.5 * x * x) * np.sin(3.0 * x + 1.0) + 0.1 * x)


case("chain_f64", "exp(-x*x/2)*sin(3x+1)+x/10, 1e6 f64", million("f8"))(chain)
case("chain_f32", "the same, f32", million("f4"), tolerance=1e-5)(chain)


@case(
    "deep_chain",
    "value_and_grad of 20 tanh and 40 squares, 10007 f64",
    lambda rng: (rng.normal(size=10_007),),
)
def deep_chain(lib):
    np = lib.np

    def loss(x):
        for k in range(20):
            x = np.tanh(x * 1.01 + 0.3 * k)
            x = x * x * 0.3 - x
            x = x * x * 0.3 - x
        return np.sum(x * x)

    return lib.jit(lib.value_and_grad(loss))


@case("sum_grad", "value_and_grad of sum(sin(x)**2+cos(y)*x), 1e6 f64", million("f8", 2))
def sum_grad(lib):
    np = lib.np
    f = lambda x, y: np.sum(np.sin(x) ** 2 + np.cos(y) * x)
    return lib.jit(lib.value_and_grad(f, (0, 1)))


def options(dtype):
    """Spot, volatility and time to maturity of a million options."""
    bounds = [(50.0, 150.0), (0.1, 0.6), (0.2, 2.0)]
    return lambda rng: tuple(rng.uniform(a, b, SIZE).astype(dtype) for a, b in bounds)


def prices(lib, spot, volatility, maturity):
    """The Black-Scholes prices of calls struck at 100, at a rate of 0.02."""
    np, half = lib.np, 0.7071067811865476
    spread = volatility * np.sqrt(maturity)
    d1 = (np.log(spot / 100.0) + (0.02 + 0.5 * volatility * volatility) * maturity) / spread
    normal = lambda d: 0.5 * lib.erfc(-half * d)
    return spot * normal(d1) - 100.0 * np.exp(-0.02 * maturity) * normal(d1 - spread)


def black_scholes(lib):
    def total(*args):
        price = prices(lib, *args)
        return lib.np.sum(price), price

    greeks = lib.value_and_grad(total, (0, 1, 2), has_aux=True)

    def price_and_greeks(*args):
        (_, price), gradients = greeks(*args)
        return price, *gradients

    return lib.jit(price_and_greeks)


def black_scholes_autograd(lib):
    """One forward pass for all: the pullback of the prices at ones."""
    from autograd import make_vjp

    def price_and_greeks(*args):
        pullback, price = make_vjp(lambda xs: prices(lib, *xs))(args)
        return price, *pullback(lib.np.ones_like(price))

    return price_and_greeks


def black_scholes_torch(lib):
    """The prices come back detached from the graph."""
    both = black_scholes(lib)
    return lambda *args: tuple(x.detach() for x in both(*args))


for _name, _dtype, _tolerance in (("f64", "f8", 1e-8), ("f32", "f4", 1e-4)):
    _case = case(
        f"black_scholes_{_name}",
        f"Black-Scholes price and 3 greeks, 1e6 {_name}",
        options(_dtype),
        tolerance=_tolerance,
    )(black_scholes)
    _case.best("autograd")(black_scholes_autograd)
    _case.best("torch")(black_scholes_torch)


def fifty_million(rng):
    x = rng.random(50_000_000, dtype="f4")
    x += 0.1  # in place: a second array here would be the peak of the memory benchmark
    return (x,)


@case("chain_50m", "value_and_grad of sum of the chain, 5e7 f32", fifty_million, tolerance=1e-3)
def chain_50m(lib):
    np = lib.np
    f = lambda x: np.sum(np.exp(-0.5 * x * x) * np.sin(3.0 * x + 1.0) + 0.1 * x)
    return lib.jit(lib.value_and_grad(f))
