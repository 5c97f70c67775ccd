"""Single operations: sorting and the matrix product."""

from __future__ import annotations

from tests.benchmarks.case import case


@case("sort", "sort, 1e6 f64", lambda rng: (rng.normal(size=1_000_000),))
def sort(lib):
    return lib.jit(lambda x: lib.np.sort(x))


@sort.best("torch", "torch.compile")
def sort_torch(lib):
    return lib.jit(lambda x: lib.torch.sort(x).values)


@case(
    "sort_grad",
    "sum(sort(x) * w) and gradient, 1e6 f64",
    lambda rng: (rng.normal(size=1_000_000), rng.normal(size=1_000_000)),
)
def sort_grad(lib):
    return lib.jit(lib.value_and_grad(lambda x, w: lib.np.sum(lib.np.sort(x) * w)))


@sort_grad.best("torch", "torch.compile")
def sort_grad_torch(lib):
    return lib.jit(lib.value_and_grad(lambda x, w: (lib.torch.sort(x).values * w).sum()))


def square(rng):
    return rng.normal(size=(1024, 1024)), rng.normal(size=(1024, 1024))


@case("product", "matrix product 1024, f64", square, products=True)
def product(lib):
    return lib.jit(lambda x, y: x @ y)
